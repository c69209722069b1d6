//! Audit bundles that HQ holds.

use mintmark_console::Failure;
use mintmark_protocol::identifier::{Fingerprint, Lineage, VaultName};
use rusqlite::{Connection, OptionalExtension as _, params};

use super::parsed;
use crate::failure;

/// A bundle that HQ holds whole.
#[derive(Clone, Debug)]
pub(crate) struct Held {
    pub(crate) lineage: Lineage,
    pub(crate) sequence: u64,
    pub(crate) fingerprint: Fingerprint,
    pub(crate) log_size: u64,
    pub(crate) log_root: Fingerprint,
}

/// The newest bundle of a vault, if it has not been acknowledged.
pub(crate) fn unacknowledged(sql: &Connection, vault: &VaultName) -> Result<Option<Held>, Failure> {
    let row: Option<(String, u64, String, u64, String)> = sql
        .query_row(
            "SELECT lineage, sequence, fingerprint, log_size, log_root FROM bundles
             WHERE site = ?1 AND vault = ?2 AND acknowledged = 0
             ORDER BY log_size DESC, sequence DESC LIMIT 1",
            [vault.site.as_str(), vault.vault.as_str()],
            |row| {
                Ok((
                    row.get(0)?,
                    row.get(1)?,
                    row.get(2)?,
                    row.get(3)?,
                    row.get(4)?,
                ))
            },
        )
        .optional()
        .map_err(failure::sql)?;
    row.map(|(lineage, sequence, fingerprint, log_size, log_root)| {
        Ok(Held {
            lineage: parsed("lineage", &lineage)?,
            sequence,
            fingerprint: parsed("fingerprint", &fingerprint)?,
            log_size,
            log_root: parsed("log_root", &log_root)?,
        })
    })
    .transpose()
}

/// Notes that a bundle, and with it every one before, was acknowledged.
pub(crate) fn acknowledge(
    sql: &Connection,
    vault: &VaultName,
    bundle: &Held,
) -> Result<(), Failure> {
    sql.execute(
        "UPDATE bundles SET acknowledged = 1
         WHERE site = ?1 AND vault = ?2 AND lineage = ?3 AND sequence <= ?4",
        params![
            vault.site.as_str(),
            vault.vault.as_str(),
            bundle.lineage.to_string(),
            bundle.sequence
        ],
    )
    .map_err(failure::sql)?;
    Ok(())
}

/// How many findings are on record for a vault.
pub(crate) fn finding_count(sql: &Connection, vault: &VaultName) -> Result<u64, Failure> {
    sql.query_row(
        "SELECT COUNT(*) FROM findings WHERE site = ?1 AND vault = ?2",
        [vault.site.as_str(), vault.vault.as_str()],
        |row| row.get(0),
    )
    .map_err(failure::sql)
}
