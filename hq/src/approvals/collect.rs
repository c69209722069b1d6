//! Approvals that come in: each is verified as it stands, once, and kept whole.

use std::path::{Path, PathBuf};

use mintmark_console::Failure;
use mintmark_console::files::{EntryKind, Folder};
use mintmark_protocol::Error;
use mintmark_protocol::approval::{PROPOSAL_BYTES_MAX, Proposal};
use mintmark_protocol::envelope::{Kind, Verified};
use mintmark_protocol::identifier::{Fingerprint, OfficerId};
use mintmark_protocol::media::{MEDIA_FOLDER, MediaName};
use mintmark_protocol::trust::TrustManifest;
use rusqlite::Connection;

use crate::clock::{self, now_unix};
use crate::import::records::untrusted;
use crate::record::Record;
use crate::registry::drafts::{self, Draft, State};
use crate::registry::{self, Registry};
use crate::{approvals, failure, trust};

/// An approval that counts, or would have counted while its draft was open.
pub(crate) struct Collected {
    pub(crate) id: String,
    /// Who gave it; none for a draft that is no longer open, where nobody judges what was not there before.
    pub(crate) officer: Option<OfficerId>,
    /// Whether it was not there before, and is now.
    pub(crate) new: bool,
    /// Of what is not new: where its draft stands.
    pub(crate) state: State,
}

impl Collected {
    fn already(draft: Draft, officer: Option<OfficerId>) -> Self {
        Self {
            id: draft.id,
            officer,
            new: false,
            state: draft.state,
        }
    }

    /// Why it changes nothing, where that is not because HQ holds it.
    pub(crate) fn note(&self) -> Option<&'static str> {
        match self.state {
            State::Superseded => Some("for a superseded draft"),
            State::Sealed if self.officer.is_none() => Some("for a sealed draft"),
            State::Open | State::Sealed => None,
        }
    }

    /// Refuses what came too late: for the person who gave this one approval, and nothing else, to be taken in.
    pub(crate) fn expect_in_time(&self) -> Result<(), Failure> {
        match (self.state, &self.officer) {
            (State::Open, _) | (_, Some(_)) => Ok(()),
            (State::Sealed, None) => Err(failure::refused(
                "DRAFT-SEALED",
                format!("`{}` was finished without this approval", self.id),
                "nothing needs to be done",
            )),
            (State::Superseded, None) => Err(failure::refused(
                "DRAFT-SUPERSEDED",
                format!("`{}` has been drafted anew since", self.id),
                "have the officer approve the draft that `hq approval list` shows",
            )),
        }
    }
}

/// Whose approval this is, if it is one that was taken in before: its very signature is among those that are kept. Who
/// gave it may have left since.
fn holder(
    registry: &Registry,
    record: &Record,
    draft: &Draft,
    approval: &Proposal,
) -> Result<Option<OfficerId>, Failure> {
    let fingerprint = draft.fingerprint.to_string();
    for officer in drafts::approvers(&registry.sql, &draft.fingerprint)? {
        let kept = record.read(&record.approval(&draft.id, &fingerprint, &officer))?;
        let kept = Proposal::read(&kept, PROPOSAL_BYTES_MAX).map_err(failure::home_corrupt)?;
        let mut both = approval.clone();
        both.collect(&kept).map_err(failure::home_corrupt)?;
        let bytes = |proposal: &Proposal| proposal.to_bytes().map_err(failure::protocol);
        if bytes(&both)? == bytes(&kept)? {
            return Ok(Some(officer));
        }
    }
    Ok(None)
}

/// Refuses an approval that no officer gave: of those whom HQ lists, ever listed, or is asked to list by what is approved.
fn expect_signed(sql: &Connection, record: &Record, approval: &Proposal) -> Result<(), Failure> {
    let kind = approval.context().kind;
    let role = approvals::role(kind)?;
    let mut judges: Vec<TrustManifest> = trust::published(record, sql)?
        .into_iter()
        .map(Verified::into_content)
        .collect();
    if kind == Kind::TrustManifest {
        judges.push(TrustManifest::proposed(approval).map_err(untrusted)?);
    }
    let mut refusal = None;
    for judge in &judges {
        match approval.approvers(judge, role) {
            // Whether that officer may approve it is another question.
            Ok(_) | Err(Error::SignerRole { .. }) => return Ok(()),
            // Of a key that somebody lists, this is what is wrong.
            Err(error @ Error::SignatureInvalid { .. }) => {
                return Err(failure::protocol(error));
            }
            Err(error) => refusal = Some(error),
        }
    }
    refusal.map_or(Ok(()), |error| Err(failure::protocol(error)))
}

/// Takes in one approval; on a dry run, only says whether it counts.
pub(crate) fn take(
    registry: &mut Registry,
    record: &Record,
    manifest: Option<&Verified<TrustManifest>>,
    bytes: &[u8],
    dry_run: bool,
) -> Result<Collected, Failure> {
    let approval = Proposal::read(bytes, PROPOSAL_BYTES_MAX).map_err(untrusted)?;
    let fingerprint = approval.fingerprint();
    let Some(draft) = drafts::by_fingerprint(&registry.sql, &fingerprint)? else {
        // What is damaged is refused as that.
        expect_signed(&registry.sql, record, &approval)?;
        return Err(not_drafted(&fingerprint));
    };
    let text = fingerprint.to_string();
    let mut collected = approvals::collected(&registry.sql, record, &draft)?;
    let before = collected.clone();
    // The same body to the byte, or it is not an approval of this draft.
    collected.collect(&approval).map_err(failure::protocol)?;
    if approval.signature_count() == 0 {
        return Err(failure::refused(
            "APPROVAL-EMPTY",
            format!(
                "this is the draft `{}` itself: nobody has signed it",
                draft.id
            ),
            "give the file that `hq approval sign` wrote",
        ));
    }
    // Only what is open is judged, and that by the officers of today. What was taken in before, or comes too late to
    // change anything, is not worth less because its officer has left since.
    let holder = holder(registry, record, &draft, &approval)?;
    if holder.is_none() && draft.state != State::Open {
        expect_signed(&registry.sql, record, &approval)?;
    }
    if holder.is_some() || draft.state != State::Open {
        return Ok(Collected::already(draft, holder));
    }
    let judges = approvals::judges(&approval, manifest)?;
    let role = approvals::role(draft.kind)?;
    let mut officer = None;
    let mut refusal = None;
    for judge in &judges {
        match approval.approvers(judge, role) {
            Ok(officers) => officer = officer.or(officers.into_iter().next()),
            Err(error) => refusal = Some(error),
        }
    }
    let Some(officer) = officer else {
        return Err(match refusal {
            Some(error) => failure::protocol(error),
            None => failure::home_corrupt("an approval has no judge"),
        });
    };
    if approval.signature_count() != 1 {
        return Err(not_of_one());
    }
    let counted = approvals::tally(&before, &judges)?;
    let was_there = drafts::approvers(&registry.sql, &fingerprint)?.contains(&officer);
    // An officer who came back with another key approves anew; one whose keys the manifest itself replaces, by the one
    // before with the old key, and by the new one with the new key.
    let with_this = approvals::tally(&collected, &judges)?;
    let adds = counted
        .iter()
        .zip(&with_this)
        .any(|((_, before), (_, after))| after.len() > before.len());
    if was_there && !adds {
        return Ok(Collected::already(draft, Some(officer)));
    }
    let now = now_unix();
    expect_not_over(&draft, now)?;
    if dry_run {
        return Ok(Collected {
            id: draft.id,
            officer: Some(officer),
            new: true,
            state: State::Open,
        });
    }
    let path = record.approval(&draft.id, &text, &officer);
    // What the officer signed with a key that counts elsewhere is kept beside it.
    let mut kept = bytes.to_vec();
    if was_there && counted.iter().any(|(_, known)| known.contains(&officer)) {
        let stored = Proposal::read(&record.read(&path)?, PROPOSAL_BYTES_MAX);
        let mut both = stored.map_err(failure::home_corrupt)?;
        both.collect(&approval).map_err(failure::protocol)?;
        kept = both.to_bytes().map_err(failure::protocol)?;
    }
    clock::at(now, || record.replace(&path, &kept))?;
    let transaction = registry.transaction()?;
    drafts::approve(&transaction, &fingerprint, &officer, now)?;
    registry::commit(transaction)?;
    Ok(Collected {
        id: draft.id,
        officer: Some(officer),
        new: true,
        state: State::Open,
    })
}

/// Takes in what is kept of an officer's approval of a draft: by the key of one manifest, or by those of two. It was judged when it came.
pub(crate) fn take_kept(
    registry: &mut Registry,
    record: &Record,
    manifest: Option<&Verified<TrustManifest>>,
    bytes: &[u8],
) -> Result<(), Failure> {
    let kept = Proposal::read(bytes, PROPOSAL_BYTES_MAX).map_err(untrusted)?;
    if kept.signature_count() == 1 {
        return take(registry, record, manifest, bytes, false).map(drop);
    }
    let (fingerprint, now) = (kept.fingerprint(), now_unix());
    let draft = drafts::by_fingerprint(&registry.sql, &fingerprint)?;
    let draft = draft.ok_or_else(|| not_drafted(&fingerprint))?;
    // The same body to the byte, or it is not an approval of this draft.
    let mut collected = approvals::collected(&registry.sql, record, &draft)?;
    collected.collect(&kept).map_err(failure::protocol)?;
    if draft.state != State::Open {
        return Ok(());
    }
    expect_not_over(&draft, now)?;
    // Of the one officer whose file it is; who else signed what is in it has a file of their own.
    let (text, role) = (fingerprint.to_string(), approvals::role(draft.kind)?);
    let mut is_named = false;
    for judge in approvals::judges(&kept, manifest)? {
        for officer in kept.known_approvers(&judge, role).map_err(untrusted)? {
            let path = record.approval(&draft.id, &text, &officer);
            if record.read(&path).is_ok_and(|there| there == bytes) {
                drafts::approve(&registry.sql, &fingerprint, &officer, now)?;
                is_named = true;
            }
        }
    }
    if is_named { Ok(()) } else { Err(not_of_one()) }
}

fn not_drafted(fingerprint: &Fingerprint) -> Failure {
    failure::usage(
        "DRAFT-UNKNOWN",
        format!("this approves something that was not drafted here ({fingerprint})"),
        "the draft may have been changed after it was read; have the officer sign the one that HQ lists",
    )
}

fn not_of_one() -> Failure {
    failure::refused(
        "APPROVAL-COUNT",
        "an approval bears one officer's signature",
        "give the files that `hq approval sign` wrote, one by one",
    )
}

/// Refuses what comes when its draft can be approved no more.
fn expect_not_over(draft: &Draft, now: u64) -> Result<(), Failure> {
    if now < draft.approve_until {
        return Ok(());
    }
    let until = mintmark_console::time::rfc3339(draft.approve_until);
    Err(failure::refused(
        "DRAFT-EXPIRED",
        format!("`{}` could be approved until {until}", draft.id),
        "draft it again",
    ))
}

/// The approvals that a path means: the file itself, those in a folder, or those on a stick. On a stick names tell; in
/// any other folder whatever reads as a signed object is one.
pub(crate) fn files_of(path: &Path) -> Result<Vec<PathBuf>, Failure> {
    if !path.is_dir() {
        return Ok(vec![path.to_owned()]);
    }
    let inner = path.join(MEDIA_FOLDER);
    let on_stick = inner.is_dir();
    let folder = Folder::open(if on_stick { &inner } else { path })?;
    let mut found = Vec::new();
    for entry in folder.entries(ENTRIES_MAX)? {
        let name = entry.name.to_string_lossy();
        let named = matches!(MediaName::parse(&name), Some(MediaName::Approval { .. }));
        let is_approval = || {
            let bytes = folder
                .read_limited(&entry.name, PROPOSAL_BYTES_MAX as u64)
                .ok()?;
            let proposal = Proposal::read(&bytes, PROPOSAL_BYTES_MAX).ok()?;
            (proposal.signature_count() > 0).then_some(())
        };
        if entry.kind == EntryKind::File && (named || (!on_stick && is_approval().is_some())) {
            found.push(folder.path().join(&entry.name));
        }
    }
    found.sort();
    Ok(found)
}

/// The most entries of a folder that are looked at.
const ENTRIES_MAX: usize = 100_000;
