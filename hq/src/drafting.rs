//! What a draft changes in the registry, whoever notes it: the command that drafts it, or one that makes the registry again.

use mintmark_console::Failure;
use mintmark_protocol::entitlement::Entitlement;
use mintmark_protocol::identifier::Fingerprint;
use rusqlite::Connection;

use crate::registry::device_cas::{self, DeviceCa};
use crate::registry::drafts::{self, Draft, State};
use crate::registry::entitlements;
use crate::registry::orders::{self, Listed};
use crate::registry::vaults::{self, Vault};
use crate::{approvals, clock};

/// What a draft is of.
pub(crate) enum Subject<'a> {
    /// The next trust manifest.
    Trust,
    /// A vault that asks to be let in.
    Vault(&'a Vault),
    /// The next device CA of a vault.
    DeviceCa(&'a DeviceCa),
    /// A version of an entitlement.
    Entitlement(&'a Entitlement),
    /// A numbered order.
    Order(&'a Listed),
}

/// Notes a draft, and what it is of. Returns the drafts that gave way to it.
pub(crate) fn note(
    sql: &Connection,
    draft: &Draft,
    subject: &Subject<'_>,
) -> Result<Vec<Draft>, Failure> {
    let mut gone = Vec::new();
    match subject {
        // One draft at a time of an entitlement, whatever its version.
        Subject::Entitlement(terms) => {
            for listed in entitlements::versions(sql, &terms.vault, &terms.id)? {
                gone.extend(give_way(sql, &listed.draft, draft)?);
            }
        }
        Subject::DeviceCa(next) => {
            let vault = crate::orders::vault_of(draft)?;
            let known = device_cas::of_vault(sql, vault)?.into_iter();
            for before in known.filter(|known| known.generation == next.generation) {
                gone.extend(give_way(sql, &before.draft, draft)?);
            }
        }
        Subject::Trust | Subject::Vault(_) | Subject::Order(_) => {}
    }
    gone.extend(approvals::supersede_open(sql, draft)?);
    for gone in &gone {
        entitlements::supersede(sql, &gone.fingerprint)?;
        let state = orders::State::Superseded;
        orders::set_state(sql, &gone.fingerprint, state, clock::now_unix())?;
    }
    // What was drafted before to the byte, within one second, is the same draft, and is open again.
    match drafts::by_fingerprint(sql, &draft.fingerprint)? {
        Some(same) if same.state != State::Sealed => {
            drafts::set_state(sql, &draft.fingerprint, State::Open)?;
        }
        _ => drafts::add(sql, draft)?,
    }
    match subject {
        Subject::Trust => {}
        Subject::Vault(asking) => vaults::request(sql, asking)?,
        Subject::DeviceCa(next) => {
            device_cas::request(sql, crate::orders::vault_of(draft)?, next)?;
        }
        Subject::Entitlement(terms) => entitlements::add(sql, terms, &draft.fingerprint)?,
        Subject::Order(listed) => orders::add(sql, listed)?,
    }
    Ok(gone)
}

/// Has an open draft give way to one of another id that is about the same.
fn give_way(
    sql: &Connection,
    before: &Fingerprint,
    next: &Draft,
) -> Result<Option<Draft>, Failure> {
    let draft = drafts::by_fingerprint(sql, before)?;
    let draft = draft.filter(|draft| draft.state == State::Open && draft.id != next.id);
    if let Some(draft) = &draft {
        drafts::set_state(sql, &draft.fingerprint, State::Superseded)?;
    }
    Ok(draft)
}
