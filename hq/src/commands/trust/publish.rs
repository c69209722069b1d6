//! `hq trust publish`: a drafted manifest, approved, comes into force.

use std::path::Path;

use mintmark_console::{Confirmation, Console, Exit, Failure};
use mintmark_protocol::approval::{PROPOSAL_BYTES_MAX, Proposal};
use mintmark_protocol::envelope::{Kind, Verified};
use mintmark_protocol::trust::{Role, TrustManifest};
use rusqlite::Connection;

use super::{say, unpublished};
use crate::approvals::{self, readers};
use crate::clock::now_unix;
use crate::commands::media::stick::Stick;
use crate::config::Config;
use crate::home::Home;
use crate::keyring::Keyring;
use crate::record::Record;
use crate::registry::drafts::{self, State};
use crate::registry::{self, dispatches, trust_manifests, vaults};
use crate::{failure, outbox, roots, trust};

/// How `hq trust publish` goes about it.
pub(in crate::commands) struct Publishing {
    pub(in crate::commands) root_link: bool,
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
        let ring = Keyring::new(&config, console)?;
        roots::install(&home, &ring, content, publishing.root_link, console)?;
        record.replace(&record.trust(content.version), &bytes)?;
        let transaction = registry.transaction()?;
        let (fingerprint, now) = (manifest.fingerprint(), now_unix());
        trust_manifests::publish(
            &transaction,
            content.version,
            &fingerprint,
            content.expires_at,
            now,
        )?;
        drafts::set_state(&transaction, &draft.fingerprint, State::Sealed)?;
        let doubtful = approve_again(&transaction, &record, &manifest)?;
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
