//! What was sent to each vault, in order.

use mintmark_console::Failure;
use mintmark_protocol::dispatch::BundleSeen;
use mintmark_protocol::identifier::{Fingerprint, VaultName};
use rusqlite::{Connection, OptionalExtension as _, params};

use super::parsed;
use crate::failure;

/// The place of one dispatch.
#[derive(Clone, Debug)]
pub(crate) struct Sent {
    pub(crate) epoch: u64,
    pub(crate) sequence: u64,
    pub(crate) fingerprint: Fingerprint,
    pub(crate) kind: String,
    pub(crate) object: String,
    pub(crate) version: u64,
}

/// Notes a dispatch.
pub(crate) fn add(
    sql: &Connection,
    vault: &VaultName,
    sent: &Sent,
    now: u64,
) -> Result<(), Failure> {
    sql.execute(
        "INSERT INTO dispatches (site, vault, epoch, sequence, fingerprint, kind, object, version, made_at)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9)",
        params![
            vault.site.as_str(),
            vault.vault.as_str(),
            sent.epoch,
            sent.sequence,
            sent.fingerprint.to_string(),
            sent.kind,
            sent.object,
            sent.version,
            now
        ],
    )
    .map_err(failure::sql)?;
    Ok(())
}

/// Everything sent to one vault, in order.
pub(crate) fn all(sql: &Connection, vault: &VaultName) -> Result<Vec<Sent>, Failure> {
    let mut statement = sql
        .prepare(
            "SELECT epoch, sequence, fingerprint, kind, object, version FROM dispatches
             WHERE site = ?1 AND vault = ?2 ORDER BY epoch, sequence",
        )
        .map_err(failure::sql)?;
    let mut rows = statement
        .query([vault.site.as_str(), vault.vault.as_str()])
        .map_err(failure::sql)?;
    let mut sent = Vec::new();
    while let Some(row) = rows.next().map_err(failure::sql)? {
        let fingerprint: String = row.get(2).map_err(failure::sql)?;
        sent.push(Sent {
            epoch: row.get(0).map_err(failure::sql)?,
            sequence: row.get(1).map_err(failure::sql)?,
            fingerprint: parsed("fingerprint", &fingerprint)?,
            kind: row.get(3).map_err(failure::sql)?,
            object: row.get(4).map_err(failure::sql)?,
            version: row.get(5).map_err(failure::sql)?,
        });
    }
    Ok(sent)
}

/// The newest bundle that HQ holds of a vault.
pub(crate) fn bundle_seen(
    sql: &Connection,
    vault: &VaultName,
) -> Result<Option<BundleSeen>, Failure> {
    let row: Option<(String, u64, String)> = sql
        .query_row(
            "SELECT lineage, sequence, fingerprint FROM bundles WHERE site = ?1 AND vault = ?2
             ORDER BY imported_at DESC, sequence DESC LIMIT 1",
            [vault.site.as_str(), vault.vault.as_str()],
            |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)),
        )
        .optional()
        .map_err(failure::sql)?;
    row.map(|(lineage, sequence, fingerprint)| {
        Ok(BundleSeen {
            lineage: parsed("lineage", &lineage)?,
            sequence,
            fingerprint: parsed("fingerprint", &fingerprint)?,
        })
    })
    .transpose()
}

/// The last dispatch that a vault has said it has seen: epoch and sequence.
pub(crate) fn seen_by_vault(
    sql: &Connection,
    vault: &VaultName,
) -> Result<Option<(u64, u64)>, Failure> {
    sql.query_row(
        "SELECT dispatch_epoch, dispatch_sequence FROM bundles
         WHERE site = ?1 AND vault = ?2 AND dispatch_epoch IS NOT NULL
         ORDER BY dispatch_epoch DESC, dispatch_sequence DESC LIMIT 1",
        [vault.site.as_str(), vault.vault.as_str()],
        |row| Ok((row.get(0)?, row.get(1)?)),
    )
    .optional()
    .map_err(failure::sql)
}
