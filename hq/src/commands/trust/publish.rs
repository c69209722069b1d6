//! `hq trust publish`: a drafted manifest, approved, comes into force.

use std::path::Path;

use mintmark_console::{Confirmation, Console, Exit, Failure};
use mintmark_keys::KeyUri;
use mintmark_pki::Issuer;
use mintmark_protocol::approval::{PROPOSAL_BYTES_MAX, Proposal};
use mintmark_protocol::envelope::{Kind, Verified};
use mintmark_protocol::trust::{Role, TrustManifest};
use rusqlite::Connection;

use super::{say, unpublished};
use crate::approvals::{self, readers};
use crate::clock::{self, now_unix};
use crate::commands::media::stick::Stick;
use crate::config::{Config, FormerKey, absolute};
use crate::home::Home;
use crate::keyring::{self, Keyring};
use crate::record::Record;
use crate::registry::drafts::{self, State};
use crate::registry::{self, dispatches, trust_manifests, vaults};
use crate::{failure, outbox, roots, trust};

/// How `hq trust publish` goes about it.
pub(in crate::commands) struct Publishing {
    pub(in crate::commands) root_link: bool,
    /// Where the key of a root is that headquarters had forgotten.
    pub(in crate::commands) root_keys: Option<KeyUri>,
    pub(in crate::commands) confirmation: Confirmation,
    pub(in crate::commands) dry_run: bool,
}

/// Finishes the open draft, if there is one, and writes every manifest to a stick.
pub(in crate::commands) fn run(
    home: Option<&Path>,
    media: &Path,
    publishing: &Publishing,
    console: &Console,
) -> Result<Exit, Failure> {
    let dry_run = publishing.dry_run;
    let home = Home::change_hq(home)?;
    let mut registry = home.registry()?;
    let record = home.record();
    let stick = Stick::open(media)?;
    let before = trust::newest(&home)?;
    let open = drafts::all(&registry.sql)?
        .into_iter()
        .rfind(|draft| draft.kind == Kind::TrustManifest && draft.state == State::Open);
    if open.is_none() && publishing.root_keys.is_some() {
        return Err(failure::usage(
            "DRAFT-UNKNOWN",
            "--root-keys names the key of a root for a manifest that is about to be in force, and none is drafted",
            "leave it out to write the manifests that are in force; `hq trust draft` drafts the next one",
        ));
    }
    if let Some(draft) = open {
        let finished =
            approvals::finished(&registry.sql, &record, &draft, before.as_ref(), console)?;
        let bytes = finished.to_bytes().map_err(failure::protocol)?;
        let manifest = match &before {
            None => TrustManifest::pin(&bytes, &draft.fingerprint, None),
            Some(before) => before.successor(&bytes),
        }
        .map_err(failure::protocol)?;
        if dry_run {
            console.note("nothing was written (--dry-run)");
            return say(&manifest, None, console);
        }
        let content = manifest.content();
        let what = format!("put the trust manifest {} into force", content.version);
        let given = publishing.confirmation.identifier.as_deref();
        console.confirm_if_attended(&what, &draft.id, given)?;
        // The keys are those of the draft from here on.
        let mut config = home.config.clone();
        config.settle(&[draft.fingerprint]);
        if let Some(uri) = &publishing.root_keys {
            name_root(&home, &mut config, uri, content, console)?;
        }
        let ring = Keyring::new(&config, console)?;
        roots::install(&home, &ring, content, publishing.root_link, console)?;
        let now = now_unix();
        clock::at(now, || {
            record.replace(&record.trust(content.version), &bytes)
        })?;
        let transaction = registry.transaction()?;
        let doubtful = clock::at(now, || published(&transaction, &record, &manifest))?;
        registry::commit(transaction)?;
        settle(&home, config)?;
        for text in doubtful {
            console.warn_coded("APPROVE-AGAIN", text);
        }
    }
    let chain = trust::chain(&home)?;
    let newest = chain.last().ok_or_else(unpublished)?;
    if dry_run {
        return say(newest, None, console);
    }
    let file = stick.write_trust(&record, &chain)?;
    say(newest, Some(&file), console)
}

/// Names the place of the key of the newest root, which headquarters had forgotten; that of the root before is a former one now.
fn name_root(
    home: &Home,
    config: &mut Config,
    uri: &KeyUri,
    manifest: &TrustManifest,
    console: &Console,
) -> Result<(), Failure> {
    let Some(keys) = &mut config.keys else {
        return Ok(());
    };
    let wanted = Issuer::from_certificate_der(&manifest.root_certificate).map_err(failure::pki)?;
    let key = *wanted.public_key();
    let found = keyring::open(uri, console)?.signer(keyring::ROOT);
    if *found.map_err(failure::keys)?.public_key() != key {
        let message = "the key `root` in that store is not the one that the trust manifest names";
        return Err(
            Failure::new(Exit::Integrity, "KEY-NOT-LISTED", message).hint(
                "bring the token of the right root; `hq trust show` names its certificate's fingerprint",
            ),
        );
    }
    let place = absolute(uri)?.to_string();
    if keys.root == place {
        return Ok(());
    }
    let roots = roots::all(home)?;
    let before = roots.iter().rfind(|root| *root.issuer.public_key() != key);
    if let Some(before) = before {
        let former = FormerKey::new(&keys.root, before.issuer.public_key());
        keys.former_root.push(former);
    }
    keys.root = place;
    Ok(())
}

/// Notes that the manifest that was drafted is in force. Returns what people should know.
pub(crate) fn published(
    sql: &Connection,
    record: &Record,
    manifest: &Verified<TrustManifest>,
) -> Result<Vec<String>, Failure> {
    let (fingerprint, content, now) = (manifest.fingerprint(), manifest.content(), now_unix());
    trust_manifests::publish(sql, content.version, &fingerprint, content.expires_at, now)?;
    drafts::set_state(sql, &fingerprint, State::Sealed)?;
    approve_again(sql, record, manifest)
}

/// Writes the places of the keys as they are now. Should this not come to pass, they follow from what is published.
fn settle(home: &Home, mut config: Config) -> Result<(), Failure> {
    // Of drafts of this version that were given up.
    config.changes.clear();
    config.replace(home.folder())
}

/// What was sent and not seen to arrive may have been approved by those who are gone. The vault will refuse it, and
/// says so in a bundle; one that is not let in yet sends none, so the draft of its grant is open again at once. Returns
/// what people should know.
fn approve_again(
    sql: &Connection,
    record: &Record,
    manifest: &Verified<TrustManifest>,
) -> Result<Vec<String>, Failure> {
    let manifests = trust::published(record, sql)?;
    let mut said = Vec::new();
    for vault in vaults::all(sql)? {
        for sent in dispatches::unseen(sql, &vault.name)? {
            let dispatch = outbox::read_back(record, &manifests, &vault.name, &sent)?;
            let Some(role) = Role::for_kind(dispatch.kind) else {
                continue;
            };
            let proposal = Proposal::read(&dispatch.content, PROPOSAL_BYTES_MAX);
            let proposal = proposal.map_err(failure::home_corrupt)?;
            if proposal.approved(manifest.content(), role).is_ok() {
                continue;
            }
            let (kind, id, name) = (dispatch.kind, &dispatch.id, &vault.name);
            let draft = drafts::by_fingerprint(sql, &proposal.fingerprint())?;
            let again =
                draft.map(|draft| readers::draft_again(sql, &draft, &proposal, manifest.content()));
            let then = match again.transpose()?.flatten() {
                None => "have it approved again".to_owned(),
                Some(again) if kind == Kind::EnrolmentGrant => {
                    format!("too few officers of today can read its draft: draft it again: {again}")
                }
                Some(again) => format!(
                    "too few officers of today can read its draft: if the vault's next bundle says that it refused \
                     this, draft it again: {again}"
                ),
            };
            said.push(format!(
                "the {kind} `{id}` for {name} is on its way, approved by somebody who may no longer approve it: the \
                 vault will refuse it, unless it has it already; {then}"
            ));
            if kind == Kind::EnrolmentGrant {
                approvals::reopen(sql, &proposal.fingerprint(), now_unix())?;
            }
        }
    }
    Ok(said)
}
