//! The manifests that were published.

use mintmark_console::Failure;
use mintmark_protocol::identifier::Fingerprint;
use rusqlite::{Connection, params};

use super::parsed;
use crate::failure;

/// Notes a published manifest.
pub(crate) fn publish(
    sql: &Connection,
    version: u64,
    fingerprint: &Fingerprint,
    expires_at: u64,
    now: u64,
) -> Result<(), Failure> {
    sql.execute(
        "INSERT INTO trust_manifests (version, fingerprint, expires_at, published_at) VALUES (?1, ?2, ?3, ?4)",
        params![version, fingerprint.to_string(), expires_at, now],
    )
    .map_err(failure::sql)?;
    Ok(())
}

/// When each manifest was published, from the first on: version and Unix seconds.
pub(crate) fn times(sql: &Connection) -> Result<Vec<(u64, u64)>, Failure> {
    let mut statement = sql
        .prepare("SELECT version, published_at FROM trust_manifests ORDER BY version")
        .map_err(failure::sql)?;
    let rows = statement
        .query_map([], |row| Ok((row.get(0)?, row.get(1)?)))
        .map_err(failure::sql)?;
    rows.map(|row| row.map_err(failure::sql)).collect()
}

/// Every published manifest, from the first on: version and fingerprint.
pub(crate) fn all(sql: &Connection) -> Result<Vec<(u64, Fingerprint)>, Failure> {
    let mut statement = sql
        .prepare("SELECT version, fingerprint FROM trust_manifests ORDER BY version")
        .map_err(failure::sql)?;
    let rows = statement
        .query_map([], |row| {
            Ok((row.get::<_, u64>(0)?, row.get::<_, String>(1)?))
        })
        .map_err(failure::sql)?;
    rows.map(|row| {
        let (version, text) = row.map_err(failure::sql)?;
        Ok((version, parsed("fingerprint", &text)?))
    })
    .collect()
}
