//! Entitlements as they were drafted and sent, and their accounts.

use std::collections::BTreeMap;

use mintmark_console::Failure;
use mintmark_protocol::entitlement::{AccountTag, Entitlement};
use mintmark_protocol::identifier::{EntitlementId, Fingerprint, OfficerId, VaultName};
use mintmark_protocol::revocation::Target;
use rusqlite::{Connection, OptionalExtension as _, Row, params};

use super::{orders, parsed};
use crate::failure;

/// One version of an entitlement, as drafted.
#[derive(Clone, Debug)]
pub(crate) struct Listed {
    pub(crate) terms: Entitlement,
    pub(crate) draft: Fingerprint,
    pub(crate) state: String,
    pub(crate) approvers: Vec<OfficerId>,
}

const COLUMNS: &str = "plaintext, draft, state, approvers";

/// Notes a draft.
pub(crate) fn add(
    sql: &Connection,
    terms: &Entitlement,
    draft: &Fingerprint,
) -> Result<(), Failure> {
    sql.execute(
        "INSERT INTO entitlements (site, vault, id, version, draft, valid_from, valid_until, credit_units,
             credit_days, state, plaintext)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, 'draft', ?10)
         ON CONFLICT DO UPDATE SET state = excluded.state",
        params![
            terms.vault.site.as_str(),
            terms.vault.vault.as_str(),
            terms.id.as_str(),
            terms.version,
            draft.to_string(),
            terms.window.from,
            terms.window.until,
            terms.credit.unreported_units_max,
            terms.credit.unreported_days_max,
            terms.to_cbor(),
        ],
    )
    .map_err(failure::sql)?;
    for product in &terms.products {
        sql.execute(
            "INSERT INTO accounts (site, vault, tag, entitlement, sku, authorised) VALUES (?1, ?2, ?3, ?4, ?5, ?6)
             ON CONFLICT (site, vault, entitlement, sku) DO UPDATE SET authorised = excluded.authorised
             WHERE sent = 0",
            params![
                terms.vault.site.as_str(),
                terms.vault.vault.as_str(),
                product.account.number(),
                terms.id.as_str(),
                product.sku.as_str(),
                product.units,
            ],
        )
        .map_err(failure::sql)?;
    }
    Ok(())
}

/// Frees the account tags of an entitlement from others that headquarters gave them to, not knowing that its vault has
/// them; and frees its products from other tags.
pub(crate) fn release_tags(sql: &Connection, terms: &Entitlement) -> Result<(), Failure> {
    // What was sent with such a tag, not knowing better, the vault refuses.
    let holds = |other: &Entitlement| {
        let mut products = other.products.iter();
        products.any(|product| {
            terms
                .products
                .iter()
                .any(|of| of.account == product.account)
        })
    };
    for listed in all(sql)? {
        let other = &listed.terms;
        if listed.state == "sent"
            && other.vault == terms.vault
            && other.id != terms.id
            && holds(other)
        {
            refuse(sql, &listed.draft)?;
        }
    }
    for product in &terms.products {
        sql.execute(
            "DELETE FROM accounts WHERE site = ?1 AND vault = ?2
             AND ((tag = ?3 AND NOT (entitlement = ?4 AND sku = ?5)) OR (tag <> ?3 AND entitlement = ?4 AND sku = ?5))",
            params![
                terms.vault.site.as_str(),
                terms.vault.vault.as_str(),
                product.account.number(),
                terms.id.as_str(),
                product.sku.as_str(),
            ],
        )
        .map_err(failure::sql)?;
    }
    Ok(())
}

/// Notes that a draft was approved and sent: from now on it is what was granted.
pub(crate) fn send(
    sql: &Connection,
    terms: &Entitlement,
    draft: &Fingerprint,
    approvers: &[OfficerId],
) -> Result<(), Failure> {
    let approvers: Vec<&str> = approvers.iter().map(OfficerId::as_str).collect();
    sql.execute(
        "UPDATE entitlements SET state = 'sent', approvers = ?2 WHERE draft = ?1",
        params![draft.to_string(), approvers.join(" ")],
    )
    .map_err(failure::sql)?;
    // What an amendment no longer names, it takes back.
    sql.execute(
        "UPDATE accounts SET authorised = 0 WHERE site = ?1 AND vault = ?2 AND entitlement = ?3",
        [
            terms.vault.site.as_str(),
            terms.vault.vault.as_str(),
            terms.id.as_str(),
        ],
    )
    .map_err(failure::sql)?;
    for product in &terms.products {
        sql.execute(
            "UPDATE accounts SET authorised = ?4, sent = 1 WHERE site = ?1 AND vault = ?2 AND tag = ?3",
            params![
                terms.vault.site.as_str(),
                terms.vault.vault.as_str(),
                product.account.number(),
                product.units
            ],
        )
        .map_err(failure::sql)?;
    }
    Ok(())
}

/// Notes that what was sent is not in force: the vault refused it. It is a draft again, and what was sent before is what
/// is granted.
pub(crate) fn take_back(sql: &Connection, draft: &Fingerprint) -> Result<(), Failure> {
    become_so(
        sql,
        draft,
        "UPDATE entitlements SET state = 'draft' WHERE draft = ?1 AND state = 'sent'",
    )
}

/// Takes that back: it is in force all the same.
pub(crate) fn put_back(sql: &Connection, draft: &Fingerprint) -> Result<(), Failure> {
    become_so(
        sql,
        draft,
        "UPDATE entitlements SET state = 'sent' WHERE draft = ?1 AND state = 'draft'",
    )
}

/// Notes that the vault did not accept what it was sent: what it was sent before is what is granted.
pub(crate) fn refuse(sql: &Connection, draft: &Fingerprint) -> Result<(), Failure> {
    become_so(
        sql,
        draft,
        "UPDATE entitlements SET state = 'refused', approvers = NULL WHERE draft = ?1 AND state = 'sent'",
    )
}

/// Changes the state of what was drafted, and what is granted with it.
fn become_so(sql: &Connection, draft: &Fingerprint, update: &'static str) -> Result<(), Failure> {
    let changed = sql.execute(update, [draft.to_string()]);
    if changed.map_err(failure::sql)? > 0 {
        grant_newest(sql, draft)?;
    }
    Ok(())
}

/// Has the accounts of the entitlement that a draft is of say what its newest version grants that was sent and not
/// refused; where there is none such, they are none.
fn grant_newest(sql: &Connection, draft: &Fingerprint) -> Result<(), Failure> {
    let Some(listed) = by_draft(sql, draft)? else {
        return Ok(());
    };
    let (vault, id) = (&listed.terms.vault, &listed.terms.id);
    sql.execute(
        "UPDATE accounts SET sent = 0 WHERE site = ?1 AND vault = ?2 AND entitlement = ?3",
        [vault.site.as_str(), vault.vault.as_str(), id.as_str()],
    )
    .map_err(failure::sql)?;
    match newest_sent(sql, vault, id)? {
        Some(newest) => send(sql, &newest.terms, &newest.draft, &newest.approvers),
        None => Ok(()),
    }
}

/// Every version of one entitlement of a vault, in order; of one version, the newest draft last.
pub(crate) fn versions(
    sql: &Connection,
    vault: &VaultName,
    id: &EntitlementId,
) -> Result<Vec<Listed>, Failure> {
    let mut found = all(sql)?;
    found.retain(|listed| listed.terms.vault == *vault && listed.terms.id == *id);
    found.sort_by_key(|listed| (listed.terms.version, listed.terms.drafted_at));
    Ok(found)
}

/// The newest version of an entitlement that its vault was sent and has not refused.
pub(crate) fn newest_sent(
    sql: &Connection,
    vault: &VaultName,
    id: &EntitlementId,
) -> Result<Option<Listed>, Failure> {
    let mut versions = versions(sql, vault, id)?;
    versions.retain(|listed| listed.state == "sent");
    Ok(versions.pop())
}

/// What a vault was sent and has not refused, and is not over: the newest version of each.
pub(crate) fn in_force(
    sql: &Connection,
    vault: &VaultName,
    now: u64,
) -> Result<Vec<Listed>, Failure> {
    let mut newest = BTreeMap::new();
    for listed in all(sql)? {
        if listed.terms.vault == *vault && listed.state == "sent" {
            // They come in the order of their versions.
            newest.insert(listed.terms.id.clone(), listed);
        }
    }
    let mut found = Vec::new();
    for listed in newest.into_values() {
        let target = Target::Entitlement(listed.terms.id.clone());
        if now < listed.terms.window.until && !orders::is_ordered(sql, vault, &target)? {
            found.push(listed);
        }
    }
    Ok(found)
}

/// Notes that another draft has taken the place of this one.
pub(crate) fn supersede(sql: &Connection, draft: &Fingerprint) -> Result<(), Failure> {
    sql.execute(
        "UPDATE entitlements SET state = 'superseded' WHERE draft = ?1",
        [draft.to_string()],
    )
    .map_err(failure::sql)?;
    Ok(())
}

/// The one that a draft is of.
pub(crate) fn by_draft(sql: &Connection, draft: &Fingerprint) -> Result<Option<Listed>, Failure> {
    let query = format!("SELECT {COLUMNS} FROM entitlements WHERE draft = ?1");
    sql.query_row(&query, [draft.to_string()], |row| Ok(read(row)))
        .optional()
        .map_err(failure::sql)?
        .transpose()
}

/// Every version of every entitlement, by vault, id and version.
pub(crate) fn all(sql: &Connection) -> Result<Vec<Listed>, Failure> {
    let query =
        format!("SELECT {COLUMNS} FROM entitlements ORDER BY site, vault, id, version, rowid");
    let mut statement = sql.prepare(&query).map_err(failure::sql)?;
    let mut rows = statement.query([]).map_err(failure::sql)?;
    let mut listed = Vec::new();
    while let Some(row) = rows.next().map_err(failure::sql)? {
        listed.push(read(row)?);
    }
    Ok(listed)
}

fn read(row: &Row<'_>) -> Result<Listed, Failure> {
    let plaintext: Vec<u8> = row.get(0).map_err(failure::sql)?;
    let draft: String = row.get(1).map_err(failure::sql)?;
    let approvers: Option<String> = row.get(3).map_err(failure::sql)?;
    Ok(Listed {
        terms: Entitlement::from_cbor(&plaintext).map_err(failure::home_corrupt)?,
        draft: parsed("draft", &draft)?,
        state: row.get(2).map_err(failure::sql)?,
        approvers: approvers
            .unwrap_or_default()
            .split_whitespace()
            .map(|officer| parsed("approvers", officer))
            .collect::<Result<_, _>>()?,
    })
}

/// The tag of a product's account: the one it has through all versions of its entitlement, or the vault's next.
pub(crate) fn account_tag(
    sql: &Connection,
    vault: &VaultName,
    entitlement: &str,
    sku: &str,
    offset: u64,
) -> Result<AccountTag, Failure> {
    let names = [vault.site.as_str(), vault.vault.as_str()];
    let known: Option<u64> = sql
        .query_row(
            "SELECT tag FROM accounts WHERE site = ?1 AND vault = ?2 AND entitlement = ?3 AND sku = ?4",
            [names[0], names[1], entitlement, sku],
            |row| row.get(0),
        )
        .optional()
        .map_err(failure::sql)?;
    let number = match known {
        Some(tag) => tag,
        None => {
            let last: Option<u64> = sql
                .query_row(
                    "SELECT MAX(tag) FROM accounts WHERE site = ?1 AND vault = ?2",
                    names,
                    |row| row.get(0),
                )
                .map_err(failure::sql)?;
            last.unwrap_or(0) + 1 + offset
        }
    };
    AccountTag::new(number)
        .ok_or_else(|| failure::home_corrupt("a vault has run out of account tags"))
}
