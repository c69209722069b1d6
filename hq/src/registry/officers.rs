//! Officers as they were added, before a manifest lists them.

use std::collections::BTreeSet;

use mintmark_console::Failure;
use mintmark_protocol::identifier::{Fingerprint, OfficerId};
use mintmark_protocol::officer::OfficerRequest;
use mintmark_protocol::trust::{Officer, Role};
use p256::PublicKey;
use rusqlite::{Connection, Row, params};

use super::reached::Counted;
use super::{key, parsed};
use crate::failure;

/// An officer, and where their request is from.
pub(crate) struct AddedOfficer {
    pub(crate) officer: Officer,
    pub(crate) key_store: String,
    pub(crate) request_fingerprint: String,
    pub(crate) added_at: u64,
    pub(crate) removed_at: Option<u64>,
}

impl AddedOfficer {
    /// By an officer's request, and with these roles. The new keys take the place of those that were listed `before`, or, where
    /// `adds_key` says so, the signing key stands beside them.
    pub(crate) fn new(
        (request, fingerprint): (OfficerRequest, &Fingerprint),
        roles: BTreeSet<Role>,
        before: Option<&Officer>,
        adds_key: bool,
        now: u64,
    ) -> Self {
        let mut officer = Officer {
            id: request.id,
            signing_keys: vec![request.signing_key],
            agreement_key: request.agreement_key,
            roles,
        };
        if let Some(before) = before.filter(|_| adds_key) {
            officer.agreement_key = before.agreement_key;
            officer.signing_keys.clone_from(&before.signing_keys);
            if !officer.signing_keys.contains(&request.signing_key) {
                officer.signing_keys.push(request.signing_key);
            }
        }
        Self {
            officer,
            key_store: request.key_store,
            request_fingerprint: fingerprint.to_string(),
            added_at: now,
            removed_at: None,
        }
    }
}

/// Adds an officer, or lists other keys and roles of one who was added before.
pub(crate) fn add(sql: &Connection, added: &AddedOfficer) -> Result<(), Failure> {
    let officer = &added.officer;
    let roles: Vec<&str> = officer.roles.iter().map(|role| role.as_str()).collect();
    sql.execute(
        "INSERT INTO officers (id, agreement_key, roles, key_store, request_fingerprint, added_at)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6)
         ON CONFLICT (id) DO UPDATE SET agreement_key = excluded.agreement_key, roles = excluded.roles,
             key_store = excluded.key_store, request_fingerprint = excluded.request_fingerprint,
             added_at = excluded.added_at, removed_at = NULL",
        params![
            officer.id.as_str(),
            officer.agreement_key.to_sec1_bytes(),
            roles.join(" "),
            added.key_store,
            added.request_fingerprint,
            added.added_at,
        ],
    )
    .map_err(failure::sql)?;
    sql.execute(
        "DELETE FROM officer_signing_keys WHERE officer = ?1",
        [officer.id.as_str()],
    )
    .map_err(failure::sql)?;
    for (position, key) in (1_u64..).zip(&officer.signing_keys) {
        sql.execute(
            "INSERT INTO officer_signing_keys (signing_key, officer, position) VALUES (?1, ?2, ?3)",
            params![key.to_sec1_bytes(), officer.id.as_str(), position],
        )
        .map_err(failure::sql)?;
    }
    Counted::OfficerChanges.count(sql)
}

/// Takes an officer off the list for the next manifest.
pub(crate) fn remove(sql: &Connection, id: &OfficerId, now: u64) -> Result<(), Failure> {
    sql.execute(
        "UPDATE officers SET removed_at = ?2 WHERE id = ?1",
        params![id.as_str(), now],
    )
    .map_err(failure::sql)?;
    Counted::OfficerChanges.count(sql)
}

/// Everybody who was ever added, by name.
pub(crate) fn all(sql: &Connection) -> Result<Vec<AddedOfficer>, Failure> {
    let mut statement = sql
        .prepare(
            "SELECT id, agreement_key, roles, key_store, request_fingerprint, added_at, removed_at
             FROM officers ORDER BY id",
        )
        .map_err(failure::sql)?;
    let mut rows = statement.query([]).map_err(failure::sql)?;
    let mut officers = Vec::new();
    while let Some(row) = rows.next().map_err(failure::sql)? {
        officers.push(officer(sql, row)?);
    }
    Ok(officers)
}

fn officer(sql: &Connection, row: &Row<'_>) -> Result<AddedOfficer, Failure> {
    let text = |column: usize| row.get::<_, String>(column).map_err(failure::sql);
    let bytes = |column: usize| row.get::<_, Vec<u8>>(column).map_err(failure::sql);
    let roles: BTreeSet<Role> = text(2)?
        .split_whitespace()
        .map(|role| parsed("roles", role))
        .collect::<Result<_, _>>()?;
    let id = text(0)?;
    Ok(AddedOfficer {
        officer: Officer {
            signing_keys: signing_keys(sql, &id)?,
            id: parsed("officer", &id)?,
            agreement_key: key("agreement_key", &bytes(1)?)?,
            roles,
        },
        key_store: text(3)?,
        request_fingerprint: text(4)?,
        added_at: row.get(5).map_err(failure::sql)?,
        removed_at: row.get(6).map_err(failure::sql)?,
    })
}

/// The keys that an officer signs with, in the order in which they were added.
fn signing_keys(sql: &Connection, officer: &str) -> Result<Vec<PublicKey>, Failure> {
    let mut statement = sql
        .prepare(
            "SELECT signing_key FROM officer_signing_keys WHERE officer = ?1 ORDER BY position",
        )
        .map_err(failure::sql)?;
    let rows = statement
        .query_map([officer], |row| row.get::<_, Vec<u8>>(0))
        .map_err(failure::sql)?;
    rows.map(|bytes| key("signing_key", &bytes.map_err(failure::sql)?))
        .collect()
}
