//! What officers order of a vault, from the draft to the dispatch: one path for every type of it.

use std::path::{Path, PathBuf};

use mintmark_console::{Console, Failure};
use mintmark_keys::Signer;
use mintmark_protocol::approval::Proposal;
use mintmark_protocol::envelope::{Kind, Verified};
use mintmark_protocol::identifier::{OfficerId, VaultName};
use mintmark_protocol::order::Order;
use mintmark_protocol::trust::TrustManifest;
use rusqlite::Connection;

use crate::drafting::{self, Subject};
use crate::outbox::{self, Content};
use crate::record::Record;
use crate::registry::dispatches::Sent;
use crate::registry::drafts::{self, Draft, State};
use crate::registry::vaults::{self, Vault};
use crate::{approvals, clock, failure};

/// A vault that was let in, whether another one took its place or not: what it certified can be ended.
pub(crate) fn let_in(sql: &Connection, name: &VaultName) -> Result<Vault, Failure> {
    let vault = vaults::find(sql, name)?.ok_or_else(|| {
        failure::usage(
            "SITE-UNKNOWN",
            format!("there is no vault {name}"),
            "`hq site list` shows which there are; a vault is enrolled with `hq site enrol`",
        )
    })?;
    if !vault.granted {
        return Err(failure::usage(
            "VAULT-NOT-GRANTED",
            format!("the vault {name} has asked to be enrolled and was not let in yet"),
            "have its enrolment approved, then run `hq site grant`",
        ));
    }
    Ok(vault)
}

/// A vault that was let in, and whose place no other one took: one that gets orders.
pub(crate) fn serving(sql: &Connection, name: &VaultName) -> Result<Vault, Failure> {
    let vault = let_in(sql, name)?;
    if let Some(successor) = &vault.successor {
        return Err(failure::usage(
            "VAULT-SUCCEEDED",
            format!(
                "the vault {}/{successor} took the place of {name}, which gets nothing more",
                name.site
            ),
            format!(
                "name {0}/{successor}, or where a command takes them apart: --site {0} --vault {successor}",
                name.site
            ),
        ));
    }
    Ok(vault)
}

/// A new draft, which takes the place of open ones of its id.
pub(crate) struct Drafted {
    pub(crate) draft: Draft,
    pub(crate) proposal: Proposal,
}

impl Drafted {
    /// Encrypts an order to its vault, to HQ and to the officers of its role. Nothing is kept yet.
    pub(crate) fn new<T: Order>(
        order: &T,
        manifest: &TrustManifest,
        vault: &Vault,
        (version, drafted_at): (u64, u64),
    ) -> Result<Self, Failure> {
        let proposal = order
            .propose(manifest, &vault.agreement_key)
            .map_err(failure::protocol)?;
        let draft = Draft {
            id: order.object_id(),
            fingerprint: proposal.fingerprint(),
            kind: T::KIND,
            vault: Some(order.vault().clone()),
            version,
            drafted_at,
            approve_until: order.approve_until(),
            state: State::Open,
        };
        Ok(Self { draft, proposal })
    }

    /// Keeps it, and notes what it is of: [`approvals::commit_draft`] ends that. Returns the file that it is in, and the drafts
    /// that give way to it.
    pub(crate) fn keep(
        &self,
        sql: &Connection,
        record: &Record,
        dispatch: &dyn Signer,
        subject: &Subject<'_>,
        output: Option<&Path>,
    ) -> Result<(PathBuf, Vec<Draft>), Failure> {
        let gone = drafting::note(sql, &self.draft, subject)?;
        let draft = (&self.proposal, &self.draft);
        let file = approvals::keep_draft(record, draft, dispatch, output)?;
        Ok((file, gone))
    }
}

/// Whether a draft can still be finished; false if it was. One that another has taken the place of is refused.
pub(crate) fn is_open(draft: &Draft) -> Result<bool, Failure> {
    match draft.state {
        State::Open => Ok(true),
        State::Sealed => Ok(false),
        State::Superseded => Err(failure::refused(
            "DRAFT-SUPERSEDED",
            format!("`{}` has been drafted anew since", draft.id),
            "finish the draft that `hq approval list` shows as open",
        )),
    }
}

/// What enough of today's officers have approved, and in time.
pub(crate) struct Ready {
    pub(crate) proposal: Proposal,
    pub(crate) approvers: Vec<OfficerId>,
}

/// Judges a draft: in the words of HQ, then as the vault itself will.
pub(crate) fn ready(
    sql: &Connection,
    record: &Record,
    manifest: &Verified<TrustManifest>,
    draft: &Draft,
    console: &Console,
) -> Result<Ready, Failure> {
    // First, as more approvals would not help.
    if draft.approve_until <= clock::now_unix() {
        let until = mintmark_console::time::rfc3339(draft.approve_until);
        return Err(failure::refused(
            "DRAFT-EXPIRED",
            format!("`{}` could be approved until {until}", draft.id),
            "have it drafted again",
        ));
    }
    let (vault, epoch) = (vault_of(draft)?, manifest.content().dispatch_epoch);
    if let Some(contested) = outbox::contested(sql, vault, epoch)? {
        // What ends something is in force at headquarters at once.
        if draft.kind != Kind::Revocation {
            return Err(contested);
        }
        let message = contested.message;
        console.warn_coded(
            "DISPATCH-CONTESTED",
            format!("{message}. The revocation is kept, and goes out in a later epoch"),
        );
    }
    let proposal = approvals::finished(sql, record, draft, Some(manifest), console)?;
    let approvers = proposal
        .approved(manifest.content(), approvals::role(draft.kind)?)
        .map_err(failure::protocol)?
        .into_iter()
        .collect();
    Ok(Ready {
        proposal,
        approvers,
    })
}

/// Seals what was approved into the vault's next dispatch.
pub(crate) fn seal(
    sql: &Connection,
    record: &Record,
    (manifest, signer): (&Verified<TrustManifest>, &dyn Signer),
    draft: &Draft,
    ready: &Ready,
    (id, version): (String, u64),
    certificates: Vec<Vec<u8>>,
) -> Result<Sent, Failure> {
    let vault = vault_of(draft)?;
    let content = Content {
        kind: draft.kind,
        id,
        version,
        bytes: ready.proposal.to_bytes().map_err(failure::protocol)?,
        certificates,
    };
    let sent = outbox::seal(sql, record, manifest, signer, vault, content)?;
    drafts::set_state(sql, &draft.fingerprint, State::Sealed)?;
    Ok(sent)
}

/// The vault that a draft is for.
pub(crate) fn vault_of(draft: &Draft) -> Result<&VaultName, Failure> {
    let missing = || failure::home_corrupt(format!("the draft {} names no vault", draft.id));
    draft.vault.as_ref().ok_or_else(missing)
}
