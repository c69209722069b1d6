//! Trust manifests that headquarters published and has forgotten, taken back from a stick. Its own officers signed them, so
//! they count as they did; another one of their version would be a fork at every vault that has them.

use mintmark_console::{Console, Exit, Failure};
use mintmark_protocol::envelope::{Kind, Verified, claim};
use mintmark_protocol::media::MediaName;
use mintmark_protocol::trust::{Officer, TRUST_BYTES_MAX, TrustManifest};
use rusqlite::Connection;

use super::Item;
use super::import::{expect_officers, refusal};
use super::stick::{Found, Stick};
use crate::clock::{self, now_unix};
use crate::home::Home;
use crate::import::records;
use crate::record::times::What;
use crate::registry::drafts::{self, State};
use crate::registry::officers::{self, AddedOfficer};
use crate::registry::{self, Registry, findings, trust_manifests};
use crate::{restored, root_crl, roots, trust};

/// Takes back what is newer than headquarters' own. Of what is not, only another one that its officers signed is spoken of.
pub(super) fn take_back(
    home: &Home,
    registry: &mut Registry,
    stick: &Stick,
    found: &[Found],
    dry_run: bool,
    console: &Console,
) -> Result<Vec<Item>, Failure> {
    let mut chain = trust::chain(home)?;
    let mut items = Vec::new();
    if chain.is_empty() {
        return Ok(items);
    }
    let mut named: Vec<_> = found
        .iter()
        .filter_map(|found| match found.name {
            MediaName::Trust { version } => Some((version, &found.path)),
            _ => None,
        })
        .collect();
    named.sort();
    for (version, path) in named {
        // Whatever cannot be read says nothing, and nothing was expected of it.
        let Ok(bytes) = stick.read(path, TRUST_BYTES_MAX) else {
            continue;
        };
        let Ok(claim) = claim(&bytes, TRUST_BYTES_MAX) else {
            continue;
        };
        let outcome = match judge(&chain, version, &bytes, claim.fingerprint) {
            None => continue,
            Some(Err(failure)) => (refusal(&failure), Some(failure)),
            Some(Ok(manifest)) => {
                if !dry_run {
                    keep(home, registry, &manifest, &bytes, console)?;
                }
                chain.push(manifest);
                ("imported", None)
            }
        };
        let (outcome, failure) = outcome;
        items.push(Item {
            file: path.clone(),
            kind: Kind::TrustManifest.to_string(),
            id: format!("trust-{version:06}"),
            outcome,
            failure,
            findings: None,
            refused_there: Vec::new(),
            note: None,
        });
    }
    Ok(items)
}

/// None if there is nothing to say of it.
fn judge(
    chain: &[Verified<TrustManifest>],
    version: u64,
    bytes: &[u8],
    fingerprint: mintmark_protocol::identifier::Fingerprint,
) -> Option<Result<Verified<TrustManifest>, Failure>> {
    let newest = chain.last()?;
    let known = newest.content().version;
    if version > known.saturating_add(1) {
        let message = format!(
            "trust manifest {version} comes after version {}, which is not here",
            known.saturating_add(1)
        );
        let failure = Failure::new(Exit::Environment, "TRUST-MISSING", message)
            .hint("import a stick that has every version; `hq media export` writes them all");
        return Some(Err(failure));
    }
    if version > known {
        return Some(newest.successor(bytes).map_err(records::untrusted));
    }
    let of = |version: u64| {
        let mut chain = chain.iter();
        chain.find(|manifest| manifest.content().version == version)
    };
    let ours = of(version)?;
    let before = version.checked_sub(1).and_then(of);
    if ours.fingerprint() == fingerprint || expect_officers(ours, before, bytes).is_err() {
        return None;
    }
    let message = format!("there are two trust manifests of version {version}");
    Some(Err(Failure::new(Exit::Integrity, "TRUST-FORK", message).hint(
        "headquarters was restored and has published another manifest since: put its newest copy back, or ask every vault \
         which of the two it follows (`site status`)",
    )))
}

fn keep(
    home: &Home,
    registry: &mut Registry,
    manifest: &Verified<TrustManifest>,
    bytes: &[u8],
    console: &Console,
) -> Result<(), Failure> {
    let (record, content, now) = (home.record(), manifest.content(), now_unix());
    let version = content.version;
    clock::at(now, || record.note(What::TakenBack { version }))?;
    clock::at(now, || record.replace(&record.trust(version), bytes))?;
    let transaction = registry.transaction()?;
    let changed = clock::at(now, || taken_back(&transaction, manifest))?;
    // Once it is in force, its epoch must not be taken for the declaration of this restore.
    restored::know(home.folder(), content)?;
    registry::commit(transaction)?;
    console.note(format!(
        "trust manifest {} is headquarters' own, which had forgotten it; it is in force again",
        content.version
    ));
    for root in roots::all(home)?.iter().skip(1) {
        if !root_crl::is_here(home, root) {
            let forgotten = root_crl::forgotten(root);
            let then = forgotten.hint.unwrap_or_default();
            let text = format!("{}: {then}", forgotten.message);
            console.warn_coded(root_crl::ROOT_FORGOTTEN, text);
        }
    }
    if changed {
        console.warn(format!(
            "officers have changed with trust manifest {}: compare `hq officer list` with `hq trust show` before the next \
             `hq trust draft`",
            content.version
        ));
    }
    Ok(())
}

/// Notes that a manifest is in force again. Returns whether its officers are others than those that were listed.
pub(crate) fn taken_back(
    sql: &Connection,
    manifest: &Verified<TrustManifest>,
) -> Result<bool, Failure> {
    let (fingerprint, content, now) = (manifest.fingerprint(), manifest.content(), now_unix());
    trust_manifests::publish(sql, content.version, &fingerprint, content.expires_at, now)?;
    for draft in drafts::all(sql)? {
        if draft.kind != Kind::TrustManifest || draft.state != State::Open {
            continue;
        }
        let state = if draft.fingerprint == fingerprint {
            State::Sealed
        } else {
            State::Superseded
        };
        drafts::set_state(sql, &draft.fingerprint, state)?;
    }
    findings::withdraw(sql, &["TRUST-UNKNOWN"], &fingerprint)?;
    list_officers(sql, content, now)
}

/// Lists the officers of a manifest as added, those that are not. Returns whether the list and the manifest differed.
pub(crate) fn list_officers(
    sql: &Connection,
    manifest: &TrustManifest,
    now: u64,
) -> Result<bool, Failure> {
    let known = officers::all(sql)?;
    let listed = |officer: &Officer| {
        let mut known = known.iter().filter(|known| known.removed_at.is_none());
        known.any(|known| known.officer == *officer)
    };
    let mut changed = known
        .iter()
        .any(|known| known.removed_at.is_none() && manifest.officer(&known.officer.id).is_none());
    for officer in &manifest.officers {
        if listed(officer) {
            continue;
        }
        changed = true;
        let same = known.iter().find(|known| known.officer.id == officer.id);
        let added = AddedOfficer {
            officer: officer.clone(),
            key_store: same.map_or_else(|| "{}".to_owned(), |same| same.key_store.clone()),
            request_fingerprint: same
                .map(|same| same.request_fingerprint.clone())
                .unwrap_or_default(),
            added_at: now,
            removed_at: None,
        };
        officers::add(sql, &added)?;
    }
    Ok(changed)
}
