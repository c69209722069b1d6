//! What was drafted for approval, and who has approved it.

use mintmark_console::Failure;
use mintmark_protocol::envelope::Kind;
use mintmark_protocol::identifier::{Fingerprint, OfficerId, VaultName};
use rusqlite::{Connection, OptionalExtension as _, Row, params};

use super::parsed;
use crate::failure;

/// A draft. Its id is what people call it; its fingerprint is what it is.
#[derive(Clone, Debug)]
pub(crate) struct Draft {
    pub(crate) id: String,
    pub(crate) fingerprint: Fingerprint,
    pub(crate) kind: Kind,
    pub(crate) vault: Option<VaultName>,
    pub(crate) version: u64,
    pub(crate) drafted_at: u64,
    pub(crate) approve_until: u64,
    pub(crate) state: State,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum State {
    /// Collecting approvals.
    Open,
    /// Approved, finished and on its way.
    Sealed,
    /// Another draft has taken its place.
    Superseded,
}

impl State {
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Open => "open",
            Self::Sealed => "sealed",
            Self::Superseded => "superseded",
        }
    }
}

const COLUMNS: &str =
    "id, fingerprint, kind, site, vault, version, drafted_at, approve_until, state";

/// Adds an open draft.
pub(crate) fn add(sql: &Connection, draft: &Draft) -> Result<(), Failure> {
    sql.execute(
        "INSERT INTO drafts (id, fingerprint, kind, site, vault, version, drafted_at, approve_until, state)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9)",
        params![
            draft.id,
            draft.fingerprint.to_string(),
            draft.kind.as_str(),
            draft.vault.as_ref().map(|vault| vault.site.as_str()),
            draft.vault.as_ref().map(|vault| vault.vault.as_str()),
            draft.version,
            draft.drafted_at,
            draft.approve_until,
            draft.state.as_str(),
        ],
    )
    .map_err(failure::sql)?;
    Ok(())
}

/// Moves a draft on.
pub(crate) fn set_state(
    sql: &Connection,
    fingerprint: &Fingerprint,
    state: State,
) -> Result<(), Failure> {
    sql.execute(
        "UPDATE drafts SET state = ?2 WHERE fingerprint = ?1",
        params![fingerprint.to_string(), state.as_str()],
    )
    .map_err(failure::sql)?;
    Ok(())
}

/// The draft with this fingerprint.
pub(crate) fn by_fingerprint(
    sql: &Connection,
    fingerprint: &Fingerprint,
) -> Result<Option<Draft>, Failure> {
    one(sql, "WHERE fingerprint = ?1", &fingerprint.to_string())
}

fn one(sql: &Connection, condition: &str, value: &str) -> Result<Option<Draft>, Failure> {
    let query = format!("SELECT {COLUMNS} FROM drafts {condition}");
    sql.query_row(&query, [value], |row| Ok(read(row)))
        .optional()
        .map_err(failure::sql)?
        .transpose()
}

/// Every draft, the newest last.
pub(crate) fn all(sql: &Connection) -> Result<Vec<Draft>, Failure> {
    let query = format!("SELECT {COLUMNS} FROM drafts ORDER BY drafted_at, rowid");
    let mut statement = sql.prepare(&query).map_err(failure::sql)?;
    let mut rows = statement.query([]).map_err(failure::sql)?;
    let mut drafts = Vec::new();
    while let Some(row) = rows.next().map_err(failure::sql)? {
        drafts.push(read(row)?);
    }
    Ok(drafts)
}

fn read(row: &Row<'_>) -> Result<Draft, Failure> {
    let text = |column: usize| row.get::<_, String>(column).map_err(failure::sql);
    let optional = |column: usize| row.get::<_, Option<String>>(column).map_err(failure::sql);
    let vault = match (optional(3)?, optional(4)?) {
        (Some(site), Some(vault)) => Some(VaultName {
            site: parsed("site", &site)?,
            vault: parsed("vault", &vault)?,
        }),
        _ => None,
    };
    let state = match text(8)?.as_str() {
        "open" => State::Open,
        "sealed" => State::Sealed,
        _ => State::Superseded,
    };
    Ok(Draft {
        id: text(0)?,
        fingerprint: parsed("fingerprint", &text(1)?)?,
        kind: parsed("kind", &text(2)?)?,
        vault,
        version: row.get(5).map_err(failure::sql)?,
        drafted_at: row.get(6).map_err(failure::sql)?,
        approve_until: row.get(7).map_err(failure::sql)?,
        state,
    })
}

/// Notes an officer's approval. Returns whether it is new.
pub(crate) fn approve(
    sql: &Connection,
    fingerprint: &Fingerprint,
    officer: &OfficerId,
    now: u64,
) -> Result<bool, Failure> {
    let added = sql
        .execute(
            "INSERT INTO approvals (draft, officer, imported_at) VALUES (?1, ?2, ?3)
             ON CONFLICT (draft, officer) DO NOTHING",
            params![fingerprint.to_string(), officer.as_str(), now],
        )
        .map_err(failure::sql)?;
    Ok(added > 0)
}

/// Who has approved a draft, by name.
pub(crate) fn approvers(
    sql: &Connection,
    fingerprint: &Fingerprint,
) -> Result<Vec<OfficerId>, Failure> {
    let mut statement = sql
        .prepare("SELECT officer FROM approvals WHERE draft = ?1 ORDER BY officer")
        .map_err(failure::sql)?;
    let rows = statement
        .query_map([fingerprint.to_string()], |row| row.get::<_, String>(0))
        .map_err(failure::sql)?;
    rows.map(|row| parsed("officer", &row.map_err(failure::sql)?))
        .collect()
}
