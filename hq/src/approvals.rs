//! Drafts on their way through approval: where they are kept, what they say in words, and when they are done.

use mintmark_console::{Console, Failure, files};
use mintmark_keys::Signer;
use mintmark_pki::{CertificationRequest, Issuer, device_ca_tbs, vault_identity_tbs};
use mintmark_protocol::approval::{PROPOSAL_BYTES_MAX, Proposal};
use mintmark_protocol::clock_correction::ClockCorrection;
use mintmark_protocol::encryption::Opener;
use mintmark_protocol::enrolment::EnrolmentGrant;
use mintmark_protocol::entitlement::Entitlement;
use mintmark_protocol::envelope::{Kind, Verified};
use mintmark_protocol::identifier::{Fingerprint, OfficerId};
use mintmark_protocol::order::Order;
use mintmark_protocol::reanchor::Reanchor;
use mintmark_protocol::revocation::Revocation;
use mintmark_protocol::trust::{Role, TrustManifest};
use p256::PublicKey;
use p256::pkcs8::DecodePublicKey as _;
use rusqlite::{Connection, Transaction};
use std::path::{Path, PathBuf};

use crate::record::Record;
use crate::registry::drafts::{self, Draft, State};
use crate::registry::{self, entitlements, orders};
use crate::{clock, failure, keyring};

pub(crate) mod amendment;
pub(crate) mod collect;
pub(crate) mod device_ca;
pub(crate) mod readers;
#[cfg(test)]
mod tests;
pub(crate) mod words;

/// How long a draft may collect approvals and then travel, in days.
pub(crate) const APPROVE_DAYS: u64 = 30;

/// The content of a draft, read by somebody whom it is for.
pub(crate) enum Content {
    Trust(Box<TrustManifest>),
    Grant(Box<EnrolmentGrant>),
    Entitlement(Box<Entitlement>),
    Revocation(Box<Revocation>),
    ClockCorrection(Box<ClockCorrection>),
    Reanchor(Box<Reanchor>),
}

impl Content {
    /// Reads and checks a draft's content.
    pub(crate) fn read(proposal: &Proposal, opener: Option<Opener<'_>>) -> Result<Self, Failure> {
        let kind = proposal.context().kind;
        match kind {
            Kind::TrustManifest => {
                let manifest = TrustManifest::proposed(proposal).map_err(failure::protocol)?;
                Ok(Self::Trust(Box::new(manifest)))
            }
            Kind::EnrolmentGrant => {
                let grant = order::<EnrolmentGrant>(proposal, opener)?;
                expect_keys_asked_for(&grant)?;
                Ok(Self::Grant(grant))
            }
            Kind::Entitlement => Ok(Self::Entitlement(order(proposal, opener)?)),
            Kind::Revocation => Ok(Self::Revocation(order(proposal, opener)?)),
            Kind::ClockCorrection => Ok(Self::ClockCorrection(order(proposal, opener)?)),
            Kind::Reanchor => Ok(Self::Reanchor(order(proposal, opener)?)),
            _ => {
                let (expected, found) = ("a draft".to_owned(), kind.to_string());
                Err(failure::protocol(mintmark_protocol::Error::WrongType {
                    expected,
                    found,
                }))
            }
        }
    }

    /// Until when it may be approved, Unix seconds.
    pub(crate) fn approve_until(&self) -> u64 {
        match self {
            Self::Trust(manifest) => manifest
                .issued_at
                .saturating_add(APPROVE_DAYS * clock::DAY_SECONDS),
            Self::Grant(grant) => grant.approve_until,
            Self::Entitlement(entitlement) => entitlement.approve_until,
            Self::Revocation(revocation) => revocation.approve_until,
            Self::ClockCorrection(correction) => correction.approve_until,
            Self::Reanchor(reanchor) => reanchor.approve_until,
        }
    }

    /// Refuses a draft that was left lying.
    pub(crate) fn expect_open(&self, now: u64) -> Result<(), Failure> {
        let until = self.approve_until();
        if now < until {
            return Ok(());
        }
        let until = mintmark_console::time::rfc3339(until);
        Err(failure::refused(
            "DRAFT-EXPIRED",
            format!("this draft could be approved until {until}"),
            "have it drafted again",
        ))
    }
}

fn order<T: Order>(proposal: &Proposal, opener: Option<Opener<'_>>) -> Result<Box<T>, Failure> {
    let opener = opener.ok_or_else(|| {
        failure::protocol(mintmark_protocol::Error::NotRecipient {
            what: proposal.context().kind.as_str(),
        })
    })?;
    let order = T::proposed(proposal, opener).map_err(failure::protocol)?;
    Ok(Box::new(order))
}

/// Refuses a grant whose certificates are for other keys than the vault asked with. The request is the vault's own,
/// signed; the certificates are what whoever drafted wrote.
pub(crate) fn expect_keys_asked_for(grant: &EnrolmentGrant) -> Result<(), Failure> {
    let request = grant.asked().map_err(failure::protocol)?;
    let csr = CertificationRequest::from_der(&request.device_ca_csr).map_err(failure::pki)?;
    let device_ca = PublicKey::from_public_key_der(csr.spki_der()).ok();
    let pairs = [
        ("identity", &grant.identity_tbs, Some(request.signing_key)),
        ("device CA", &grant.device_ca_tbs, device_ca),
    ];
    for (what, tbs, asked) in pairs {
        let certified = words::unsigned(tbs).ok().as_ref().and_then(words::key_of);
        if certified.is_none() || certified != asked {
            return Err(failure::refused(
                "GRANT-MISMATCH",
                format!(
                    "the {what} certificate in this draft is not for the key that the vault {} asked with",
                    grant.vault
                ),
                "do not approve it; keep the draft and tell your security officer",
            ));
        }
    }
    Ok(())
}

/// Refuses a grant whose certificates are not, to the byte, what the root signs for the vault that asked, by one of these
/// manifests: an identity that is a CA, or names another site, is nothing that it asked for. Serial number and time of
/// issue are the draft's own.
pub(crate) fn expect_certificates<'a>(
    grant: &EnrolmentGrant,
    manifests: impl Iterator<Item = &'a TrustManifest> + Clone,
) -> Result<(), Failure> {
    let request = grant.asked().map_err(failure::protocol)?;
    let csr = CertificationRequest::from_der(&request.device_ca_csr).map_err(failure::pki)?;
    let device_ca = PublicKey::from_public_key_der(csr.spki_der()).ok();
    let (site, vault) = (request.vault.site.as_str(), request.vault.vault.as_str());
    let parts = [
        (
            "identity",
            &grant.identity_tbs,
            Some(request.signing_key),
            vault_identity_tbs as Certified,
        ),
        (
            "device CA",
            &grant.device_ca_tbs,
            device_ca,
            device_ca_tbs as Certified,
        ),
    ];
    for (what, tbs, key, certified) in parts {
        let drafted = words::unsigned(tbs).ok().zip(key);
        let as_asked = drafted.is_some_and(|(drafted, key)| {
            let (serial, from) = (drafted.serial(), drafted.not_before_unix());
            manifests.clone().any(|manifest| {
                let root = Issuer::from_certificate_der(&manifest.root_certificate);
                let made = root.and_then(|root| {
                    certified(&root, &manifest.hq_name, site, vault, &key, serial, from)
                });
                made.is_ok_and(|made| made == *tbs)
            })
        });
        if !as_asked {
            return Err(failure::refused(
                "GRANT-MISMATCH",
                format!(
                    "the {what} certificate in this draft is not the one that the root signs for the vault {}",
                    request.vault
                ),
                "if there is a newer trust manifest, import it and try again; else do not approve the draft, keep it and \
                 tell your security officer",
            ));
        }
    }
    Ok(())
}

/// How a certificate of a vault is made: root, headquarters' name, site, vault, key, serial number, time of issue.
type Certified =
    fn(&Issuer, &str, &str, &str, &PublicKey, &[u8], u64) -> Result<Vec<u8>, mintmark_pki::Error>;

/// The role that approves a draft of this type.
pub(crate) fn role(kind: Kind) -> Result<Role, Failure> {
    Role::for_kind(kind).ok_or_else(|| {
        failure::refused(
            "MESSAGE-TYPE",
            format!("a message of type `{kind}` is not something that officers approve"),
            "give a draft",
        )
    })
}

/// Signs a draft with the dispatch key, writes it where the caller wants it, and keeps it: it is noted once the caller's
/// transaction is over. Returns the file that it is in.
pub(crate) fn keep_draft(
    record: &Record,
    (proposal, draft): (&Proposal, &Draft),
    dispatch: &dyn Signer,
    output: Option<&Path>,
) -> Result<PathBuf, Failure> {
    let signed = proposal
        .draft(dispatch.public_key(), &keyring::sign(dispatch))
        .map_err(failure::protocol)?;
    let bytes = signed.to_bytes().map_err(failure::protocol)?;
    let path = record.draft(&draft.id, &draft.fingerprint.to_string());
    // First: it is what may fail, and a file in the record would be that of a draft which nobody made.
    if let Some(output) = output {
        files::write_public_new(output, &bytes)?;
    }
    // Its fingerprint is that of its content; the signature may be another one each time.
    clock::at(draft.drafted_at, || {
        record.replace_uncommitted(&path, &bytes)
    })?;
    Ok(output.map_or(path, Path::to_owned))
}

/// Ends the transaction of a draft, then says which drafts gave way to it.
pub(crate) fn commit_draft(
    transaction: Transaction<'_>,
    record: &Record,
    gone: &[Draft],
    console: &Console,
) -> Result<(), Failure> {
    registry::commit_kept(transaction, record)?;
    for gone in gone {
        console.note(format!(
            "the draft {} with fingerprint {} is superseded",
            gone.id, gone.fingerprint
        ));
    }
    Ok(())
}

/// One draft at a time for one thing: those that came before `next` give way.
pub(crate) fn supersede_open(sql: &Connection, next: &Draft) -> Result<Vec<Draft>, Failure> {
    let mut superseded = Vec::new();
    for draft in drafts::all(sql)? {
        let same = draft.fingerprint == next.fingerprint;
        if draft.id == next.id && draft.state == State::Open && !same {
            drafts::set_state(sql, &draft.fingerprint, State::Superseded)?;
            superseded.push(draft);
        }
    }
    Ok(superseded)
}

/// A draft with every approval that was collected for it.
pub(crate) fn collected(
    sql: &Connection,
    record: &Record,
    draft: &Draft,
) -> Result<Proposal, Failure> {
    let fingerprint = draft.fingerprint.to_string();
    let bytes = record.read(&record.draft(&draft.id, &fingerprint))?;
    let mut proposal = Proposal::read(&bytes, PROPOSAL_BYTES_MAX)
        .map_err(failure::home_corrupt)?
        .without_signatures();
    if proposal.fingerprint() != draft.fingerprint {
        return Err(failure::home_corrupt(format!(
            "draft {} is another one",
            draft.id
        )));
    }
    for officer in drafts::approvers(sql, &draft.fingerprint)? {
        let bytes = record.read(&record.approval(&draft.id, &fingerprint, &officer))?;
        let approval = Proposal::read(&bytes, PROPOSAL_BYTES_MAX).map_err(failure::home_corrupt)?;
        proposal.collect(&approval).map_err(failure::home_corrupt)?;
    }
    Ok(proposal)
}

/// A draft with the approvals of those who could give one by some manifest, and enough of them.
pub(crate) fn approved_once(
    sql: &Connection,
    record: &Record,
    manifests: &[Verified<TrustManifest>],
    fingerprint: &Fingerprint,
) -> Result<Proposal, Failure> {
    let missing = || failure::home_corrupt(format!("no officers approved {fingerprint}"));
    let draft = drafts::by_fingerprint(sql, fingerprint)?.ok_or_else(missing)?;
    let role = role(draft.kind)?;
    for manifest in manifests.iter().rev().map(Verified::content) {
        let mut proposal = collected(sql, record, &draft)?;
        proposal.retain_holders(std::slice::from_ref(manifest), role);
        if proposal.approved(manifest, role).is_ok() {
            return Ok(proposal);
        }
    }
    Err(missing())
}

/// The newest dispatch epoch that any draft of a trust manifest opens, whatever became of it; 0 if there is none.
pub(crate) fn drafted_epoch(sql: &Connection, record: &Record) -> Result<u64, Failure> {
    let mut epoch = 0;
    for draft in drafts::all(sql)? {
        if draft.kind == Kind::TrustManifest {
            let proposal = collected(sql, record, &draft)?;
            let manifest = TrustManifest::proposed(&proposal).map_err(failure::home_corrupt)?;
            epoch = epoch.max(manifest.dispatch_epoch);
        }
    }
    Ok(epoch)
}

/// The manifests under which a draft's approvals are judged. A new manifest is judged by the one before and by itself.
pub(crate) fn judges(
    proposal: &Proposal,
    current: Option<&Verified<TrustManifest>>,
) -> Result<Vec<TrustManifest>, Failure> {
    let mut judges: Vec<TrustManifest> = current.map(|m| m.content().clone()).into_iter().collect();
    if proposal.context().kind == Kind::TrustManifest {
        judges.push(TrustManifest::proposed(proposal).map_err(failure::protocol)?);
    }
    if judges.is_empty() {
        return Err(failure::usage(
            "TRUST-UNPUBLISHED",
            "no trust manifest has been published yet",
            "the first thing to be approved is the trust manifest itself",
        ));
    }
    Ok(judges)
}

/// Who has validly approved, so far, in the eyes of each judge.
pub(crate) fn tally(
    proposal: &Proposal,
    judges: &[TrustManifest],
) -> Result<Vec<(u64, Vec<OfficerId>)>, Failure> {
    let role = role(proposal.context().kind)?;
    judges
        .iter()
        .map(|manifest| {
            let officers = proposal
                .known_approvers(manifest, role)
                .map_err(failure::protocol)?;
            Ok((manifest.threshold(role), officers.into_iter().collect()))
        })
        .collect()
}

/// Those whose approvals were collected and no longer count: they have left, or hold the role or the key no more.
pub(crate) fn former(
    sql: &Connection,
    draft: &Draft,
    tally: &[(u64, Vec<OfficerId>)],
) -> Result<Vec<OfficerId>, Failure> {
    let mut approvers = drafts::approvers(sql, &draft.fingerprint)?;
    approvers.retain(|officer| !tally.iter().any(|(_, counted)| counted.contains(officer)));
    Ok(approvers)
}

/// A draft with the approvals of those who may give one today, and enough of them.
pub(crate) fn finished(
    sql: &Connection,
    record: &Record,
    draft: &Draft,
    current: Option<&Verified<TrustManifest>>,
    console: &Console,
) -> Result<Proposal, Failure> {
    let mut proposal = collected(sql, record, draft)?;
    let judges = judges(&proposal, current)?;
    proposal.retain_holders(&judges, role(draft.kind)?);
    for officer in former(sql, draft, &tally(&proposal, &judges)?)? {
        console.note(format!(
            "the approval of `{}` by {officer} no longer counts and is left out",
            draft.id
        ));
    }
    expect_threshold(&proposal, draft, &judges).map_err(|failure| {
        let manifest = current.map(Verified::content);
        let again = manifest.map(|manifest| readers::draft_again(sql, draft, &proposal, manifest));
        match again {
            Some(Ok(Some(again))) => failure.hint(format!(
                "too few officers of today can read this draft: draft it again: {again}"
            )),
            _ => failure,
        }
    })?;
    Ok(proposal)
}

/// Refuses to go on below the threshold.
fn expect_threshold(
    proposal: &Proposal,
    draft: &Draft,
    judges: &[TrustManifest],
) -> Result<(), Failure> {
    for (threshold, officers) in tally(proposal, judges)? {
        if (officers.len() as u64) < threshold {
            let role = role(draft.kind)?;
            return Err(failure::refused(
                "THRESHOLD-NOT-MET",
                format!(
                    "`{}` has {} of the {threshold} approvals that role `{role}` needs",
                    draft.id,
                    officers.len()
                ),
                "collect the missing ones with `hq approval sign` and `hq approval import`",
            ));
        }
    }
    Ok(())
}

/// The codes with which a vault refuses what too few of today's officers have approved.
pub(crate) const APPROVAL_LACKING: [&str; 3] =
    ["THRESHOLD-NOT-MET", "SIGNER-UNKNOWN", "SIGNER-ROLE"];

/// Has a finished draft collect approvals once more, if there is still time for that: what was made of it was, or will
/// be, refused for those that it has. Returns the draft if it is open now.
pub(crate) fn reopen(
    sql: &Connection,
    fingerprint: &Fingerprint,
    now: u64,
) -> Result<Option<Draft>, Failure> {
    let Some(draft) = drafts::by_fingerprint(sql, fingerprint)? else {
        return Ok(None);
    };
    if draft.state != State::Sealed || draft.approve_until <= now {
        return Ok(None);
    }
    drafts::set_state(sql, fingerprint, State::Open)?;
    if draft.kind == Kind::Entitlement {
        entitlements::take_back(sql, fingerprint)?;
    }
    orders::set_state(sql, fingerprint, orders::State::Draft, now)?;
    Ok(Some(draft))
}

/// Notes that what was made of a draft is in force after all.
pub(crate) fn close(sql: &Connection, fingerprint: &Fingerprint) -> Result<(), Failure> {
    let draft = drafts::by_fingerprint(sql, fingerprint)?;
    let Some(draft) = draft.filter(|draft| draft.state == State::Open) else {
        return Ok(());
    };
    drafts::set_state(sql, fingerprint, State::Sealed)?;
    if draft.kind == Kind::Entitlement {
        entitlements::put_back(sql, fingerprint)?;
    }
    orders::set_state(sql, fingerprint, orders::State::Sent, clock::now_unix())
}

/// Notes that a vault did not accept what was made of a draft, and that more approvals would change nothing: it is to be
/// drafted anew.
pub(crate) fn fail(sql: &Connection, fingerprint: &Fingerprint) -> Result<(), Failure> {
    // One that is open collects approvals again, and is as good as a new one.
    let draft = drafts::by_fingerprint(sql, fingerprint)?;
    if draft.is_none_or(|draft| draft.state != State::Sealed) {
        return Ok(());
    }
    entitlements::refuse(sql, fingerprint)?;
    orders::set_state(sql, fingerprint, orders::State::Refused, clock::now_unix())
}

/// Which draft of these types a person means: by its id or its fingerprint, or by what it is about, where that names
/// only one. What is open comes before what is finished, and that before what another draft took the place of.
pub(crate) fn find(
    sql: &Connection,
    kinds: &[Kind],
    named: &str,
    names: impl Fn(&Draft) -> Result<bool, Failure>,
) -> Result<Draft, Failure> {
    let mut exact = Vec::new();
    let mut about = Vec::new();
    for draft in drafts::all(sql)? {
        if !kinds.contains(&draft.kind) {
            continue;
        }
        if draft.id == named || draft.fingerprint.to_string() == named {
            exact.push(draft);
        } else if names(&draft)? {
            about.push(draft);
        }
    }
    let found = if exact.is_empty() { about } else { exact };
    for state in [State::Open, State::Sealed, State::Superseded] {
        let of_state: Vec<&Draft> = found.iter().filter(|draft| draft.state == state).collect();
        let Some(newest) = of_state.last().copied() else {
            continue;
        };
        let other = of_state.iter().find(|draft| match state {
            State::Open => draft.id != newest.id,
            State::Sealed | State::Superseded => draft.vault != newest.vault,
        });
        if let Some(other) = other {
            return Err(failure::usage(
                "DRAFT-AMBIGUOUS",
                format!("`{named}` names `{}` and `{}`", other.id, newest.id),
                "give the id that the draft was printed with; `hq approval list` shows it",
            ));
        }
        return Ok(newest.clone());
    }
    let kinds: Vec<&str> = kinds.iter().map(|kind| kind.as_str()).collect();
    Err(failure::usage(
        "DRAFT-UNKNOWN",
        format!("there is no draft `{named}` (of type {})", kinds.join(", ")),
        "`hq approval list` shows the drafts and their ids",
    ))
}
