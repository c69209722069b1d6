//! Revocations, clock corrections and re-anchors, as they were drafted and sent.

use std::collections::HashSet;

use mintmark_console::Failure;
use mintmark_protocol::entitlement::AccountTag;
use mintmark_protocol::envelope::Kind;
use mintmark_protocol::identifier::{Fingerprint, VaultName};
use mintmark_protocol::order::Order as _;
use mintmark_protocol::revocation::{Revocation, RevokedDevice, Target};
use rusqlite::{Connection, Row, params};

use super::drafts::{self, State as DraftState};
use super::reached::Counted;
use super::{dispatches, parsed};
use crate::failure;

/// One numbered order, as drafted.
#[derive(Clone, Debug)]
pub(crate) struct Listed {
    pub(crate) draft: Fingerprint,
    pub(crate) vault: VaultName,
    pub(crate) kind: Kind,
    /// From 1, for the vault and the kind.
    pub(crate) number: u64,
    pub(crate) state: State,
    /// When it was sealed the first time, Unix seconds, whatever became of it since; none if it never was.
    pub(crate) sent_at: Option<u64>,
    pub(crate) plaintext: Vec<u8>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum State {
    /// Collecting approvals, or left lying.
    Draft,
    /// On its way, or followed.
    Sent,
    /// Another draft took its place.
    Superseded,
    /// Its vault did not accept it.
    Refused,
}

impl State {
    fn as_str(self) -> &'static str {
        match self {
            Self::Draft => "draft",
            Self::Sent => "sent",
            Self::Superseded => "superseded",
            Self::Refused => "refused",
        }
    }
}

impl Listed {
    /// It as a revocation, if it is one.
    pub(crate) fn revocation(&self) -> Result<Option<Revocation>, Failure> {
        if self.kind != Kind::Revocation {
            return Ok(None);
        }
        let revocation = Revocation::from_cbor(&self.plaintext).map_err(failure::home_corrupt)?;
        Ok(Some(revocation))
    }
}

/// Notes a draft; one that gave way to another may take its place again.
pub(crate) fn add(sql: &Connection, order: &Listed) -> Result<(), Failure> {
    sql.execute(
        "INSERT INTO orders (draft, site, vault, kind, number, state, plaintext)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)
         ON CONFLICT DO UPDATE SET state = excluded.state",
        params![
            order.draft.to_string(),
            order.vault.site.as_str(),
            order.vault.vault.as_str(),
            order.kind.as_str(),
            order.number,
            order.state.as_str(),
            order.plaintext,
        ],
    )
    .map_err(failure::sql)?;
    Ok(())
}

/// Moves an order on. Of one that was sent once, the time of that stays.
pub(crate) fn set_state(
    sql: &Connection,
    draft: &Fingerprint,
    state: State,
    now: u64,
) -> Result<(), Failure> {
    let sent_at = (state == State::Sent).then_some(now);
    sql.execute(
        "UPDATE orders SET state = ?2, sent_at = COALESCE(sent_at, ?3) WHERE draft = ?1",
        params![draft.to_string(), state.as_str(), sent_at],
    )
    .map_err(failure::sql)?;
    Ok(())
}

/// Notes that the draft of an order is finished, of which its vault is told nothing.
pub(crate) fn seal_untold(sql: &Connection, draft: &Fingerprint) -> Result<(), Failure> {
    drafts::set_state(sql, draft, DraftState::Sealed)?;
    Counted::UntoldOrders.count(sql)
}

/// The one that a draft is of.
pub(crate) fn by_draft(sql: &Connection, draft: &Fingerprint) -> Result<Option<Listed>, Failure> {
    Ok(select(sql, "WHERE draft = ?1", &[&draft.to_string()])?.pop())
}

/// Those of one vault, by number.
pub(crate) fn of_vault(sql: &Connection, vault: &VaultName) -> Result<Vec<Listed>, Failure> {
    let names = [vault.site.as_str(), vault.vault.as_str()];
    select(sql, "WHERE site = ?1 AND vault = ?2", &names)
}

/// A revocation that officers approved and headquarters sealed.
pub(crate) struct Sealed {
    pub(crate) revocation: Revocation,
    /// When it was sealed the first time, Unix seconds.
    pub(crate) at: u64,
    /// Whether it is on its way or followed: its vault did not refuse it.
    pub(crate) stands: bool,
}

/// Every revocation for a vault that was ever sealed. What officers revoked stays revoked at headquarters, whatever the
/// vault says of the order.
pub(crate) fn revocations(sql: &Connection, vault: &VaultName) -> Result<Vec<Sealed>, Failure> {
    let mut found = Vec::new();
    for order in of_vault(sql, vault)? {
        if let (Some(at), Some(revocation)) = (order.sent_at, order.revocation()?) {
            found.push(Sealed {
                revocation,
                at,
                stands: order.state == State::Sent,
            });
        }
    }
    Ok(found)
}

/// Whether officers revoked this, whether the vault followed or not.
pub(crate) fn is_revoked(
    sql: &Connection,
    vault: &VaultName,
    target: &Target,
) -> Result<bool, Failure> {
    let mut sealed = revocations(sql, vault)?.into_iter();
    Ok(sealed.any(|sealed| sealed.revocation.target == *target))
}

/// Whether a revocation of this is on its way to a vault or followed there. One that was refused may be drafted again.
pub(crate) fn is_ordered(
    sql: &Connection,
    vault: &VaultName,
    target: &Target,
) -> Result<bool, Failure> {
    let mut sealed = revocations(sql, vault)?.into_iter();
    Ok(sealed.any(|sealed| sealed.stands && sealed.revocation.target == *target))
}

/// The issues of devices that officers revoked, whether the vault followed or not: account, slot, issue number.
pub(crate) fn revoked_issues(
    sql: &Connection,
    vault: &VaultName,
) -> Result<HashSet<(AccountTag, u64, u16)>, Failure> {
    let mut issues = HashSet::new();
    for sealed in revocations(sql, vault)? {
        if let Target::Devices(devices) = sealed.revocation.target {
            issues.extend(devices.iter().map(RevokedDevice::place));
        }
    }
    Ok(issues)
}

/// When the newest order that disables a vault was drafted, Unix seconds, of those that are `sent` or, else, of all; none
/// if there is none.
pub(crate) fn disabled_at(
    sql: &Connection,
    vault: &VaultName,
    sent: bool,
) -> Result<Option<u64>, Failure> {
    let mut newest = None;
    for order in of_vault(sql, vault)? {
        if let Some(revocation) = order.revocation()?
            && revocation.target == Target::Vault
            && (!sent || order.state == State::Sent)
        {
            newest = newest.max(Some(revocation.drafted_at));
        }
    }
    Ok(newest)
}

/// The number that the next order of this kind has: that of an open draft of the `same`, in whose place it comes, or one
/// that none had before.
pub(crate) fn next_number(
    sql: &Connection,
    vault: &VaultName,
    kind: Kind,
    now: u64,
    same: impl Fn(&Listed) -> Result<bool, Failure>,
) -> Result<u64, Failure> {
    let mut last = 0;
    for order in of_vault(sql, vault)? {
        if order.kind != kind {
            continue;
        }
        let draft = drafts::by_fingerprint(sql, &order.draft)?;
        let open = order.state == State::Draft
            && draft
                .as_ref()
                .is_some_and(|draft| draft.state == DraftState::Open && now < draft.approve_until);
        let id = draft.map(|draft| draft.id).unwrap_or_default();
        let sent = dispatches::is_seen(sql, vault, kind, (&id, order.number))?;
        // What was sent once may arrive, whatever became of its draft.
        if open && sent.is_none() && same(&order)? {
            return Ok(order.number);
        }
        last = last.max(order.number);
    }
    Ok(last.saturating_add(1))
}

fn select(sql: &Connection, condition: &str, values: &[&str]) -> Result<Vec<Listed>, Failure> {
    let query = format!(
        "SELECT draft, site, vault, kind, number, state, sent_at, plaintext FROM orders {condition}
         ORDER BY site, vault, kind, number, draft"
    );
    let mut statement = sql.prepare(&query).map_err(failure::sql)?;
    let mut rows = statement
        .query(rusqlite::params_from_iter(values))
        .map_err(failure::sql)?;
    let mut found = Vec::new();
    while let Some(row) = rows.next().map_err(failure::sql)? {
        found.push(read(row)?);
    }
    Ok(found)
}

fn read(row: &Row<'_>) -> Result<Listed, Failure> {
    let text = |column: usize| row.get::<_, String>(column).map_err(failure::sql);
    Ok(Listed {
        draft: parsed("draft", &text(0)?)?,
        vault: VaultName {
            site: parsed("site", &text(1)?)?,
            vault: parsed("vault", &text(2)?)?,
        },
        kind: parsed("kind", &text(3)?)?,
        number: row.get(4).map_err(failure::sql)?,
        state: match text(5)?.as_str() {
            "sent" => State::Sent,
            "superseded" => State::Superseded,
            "refused" => State::Refused,
            _ => State::Draft,
        },
        sent_at: row.get(6).map_err(failure::sql)?,
        plaintext: row.get(7).map_err(failure::sql)?,
    })
}
