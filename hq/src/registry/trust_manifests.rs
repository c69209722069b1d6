//! The manifests that were published.

use mintmark_console::Failure;
use mintmark_protocol::identifier::Fingerprint;
use rusqlite::{Connection, OptionalExtension as _, params};

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

/// The fingerprint of the first manifest: the beginning of the chain.
pub(crate) fn first(sql: &Connection) -> Result<Option<Fingerprint>, Failure> {
    let text: Option<String> = sql
        .query_row(
            "SELECT fingerprint FROM trust_manifests WHERE version = 1",
            [],
            |row| row.get(0),
        )
        .optional()
        .map_err(failure::sql)?;
    text.map(|text| parsed("fingerprint", &text)).transpose()
}
