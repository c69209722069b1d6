//! Audit bundles that HQ holds.

use std::collections::BTreeSet;

use mintmark_console::Failure;
use mintmark_protocol::bundle::Bundle;
use mintmark_protocol::identifier::{Fingerprint, Lineage, SiteId, VaultName};
use rusqlite::{Connection, OptionalExtension as _, Row, params};

use super::parsed;
use super::reached::Counted;
use crate::failure;

/// A bundle that HQ holds whole.
#[derive(Clone, Debug)]
pub(crate) struct Held {
    pub(crate) vault: VaultName,
    pub(crate) lineage: Lineage,
    pub(crate) sequence: u64,
    pub(crate) fingerprint: Fingerprint,
    /// The sequence of the first record that it brought.
    pub(crate) first: u64,
    pub(crate) log_size: u64,
    pub(crate) log_root: Fingerprint,
    /// How many segments it has.
    pub(crate) segments: u64,
    /// The time of the last record, Unix seconds.
    pub(crate) checkpoint_time: u64,
    /// Unix seconds, by the vault's clock.
    pub(crate) sealed_at: u64,
    pub(crate) imported_at: u64,
    /// The newest dispatch that the vault had seen: epoch and sequence.
    pub(crate) dispatch_seen: Option<(u64, u64)>,
    pub(crate) acknowledged: bool,
}

const COLUMNS: &str = "site, vault, lineage, sequence, fingerprint, first_record, log_size, log_root, segments, \
                       checkpoint_time, sealed_at, imported_at, dispatch_epoch, dispatch_sequence, acknowledged";

/// Notes a bundle whose record is kept and whose replay is done.
pub(crate) fn add(sql: &Connection, held: &Held) -> Result<(), Failure> {
    // SQL's numbers end where a hostile clock need not.
    let time = |unix: u64| i64::try_from(unix).unwrap_or(i64::MAX);
    sql.execute(
        "INSERT INTO bundles (site, vault, lineage, sequence, fingerprint, first_record, log_size, log_root, segments,
             checkpoint_time, sealed_at, imported_at, dispatch_epoch, dispatch_sequence, acknowledged)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15)",
        params![
            held.vault.site.as_str(),
            held.vault.vault.as_str(),
            held.lineage.to_string(),
            held.sequence,
            held.fingerprint.to_string(),
            held.first,
            held.log_size,
            held.log_root.to_string(),
            held.segments,
            time(held.checkpoint_time),
            time(held.sealed_at),
            held.imported_at,
            held.dispatch_seen.map(|seen| seen.0),
            held.dispatch_seen.map(|seen| seen.1),
            held.acknowledged,
        ],
    )
    .map_err(failure::sql)?;
    Ok(())
}

/// Notes that a bundle was refused and is kept as evidence. The first one of a place stays the first.
pub(crate) fn refuse(
    sql: &Connection,
    bundle: &Bundle,
    fingerprint: &Fingerprint,
) -> Result<(), Failure> {
    let number = |number: u64| i64::try_from(number).unwrap_or(i64::MAX);
    let added = sql.execute(
        "INSERT OR IGNORE INTO refused_bundles (site, vault, lineage, sequence, fingerprint, log_size, log_root)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)",
        params![
            bundle.vault.site.as_str(),
            bundle.vault.vault.as_str(),
            bundle.lineage.to_string(),
            number(bundle.sequence),
            fingerprint.to_string(),
            number(bundle.checkpoint.size),
            bundle.checkpoint.root.to_string(),
        ],
    );
    match added.map_err(failure::sql)? {
        0 => Ok(()),
        _ => Counted::Refusals.count(sql),
    }
}

/// The fingerprints of the bundles that were refused and are kept.
pub(crate) fn all_refused(sql: &Connection) -> Result<BTreeSet<String>, Failure> {
    let mut statement = sql
        .prepare("SELECT fingerprint FROM refused_bundles")
        .map_err(failure::sql)?;
    let found = statement
        .query_map([], |row| row.get(0))
        .map_err(failure::sql)?;
    found.collect::<Result<_, _>>().map_err(failure::sql)
}

/// Takes back that a bundle was refused: what spoke against it has been explained since.
pub(crate) fn unrefuse(sql: &Connection, fingerprint: &Fingerprint) -> Result<(), Failure> {
    sql.execute(
        "DELETE FROM refused_bundles WHERE fingerprint = ?1",
        [fingerprint.to_string()],
    )
    .map_err(failure::sql)?;
    Ok(())
}

/// A checkpoint that a vault signed.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Signed {
    pub(crate) sequence: u64,
    pub(crate) fingerprint: Fingerprint,
    pub(crate) log_root: Fingerprint,
    /// Whether HQ holds its bundle; otherwise that was refused and is kept as evidence.
    pub(crate) held: bool,
}

/// A checkpoint of the same log and size as that of a bundle, with another root: one that HQ holds, else one that it
/// refused.
pub(crate) fn other_root(sql: &Connection, bundle: &Bundle) -> Result<Option<Signed>, Failure> {
    let row: Option<(u64, String, String, bool)> = sql
        .query_row(
            "SELECT sequence, fingerprint, log_root, 1 AS held FROM bundles
             WHERE site = ?1 AND vault = ?2 AND lineage = ?3 AND log_size = ?4 AND log_root <> ?5
               AND sequence <> ?6
             UNION ALL
             SELECT sequence, fingerprint, log_root, 0 FROM refused_bundles
             WHERE site = ?1 AND vault = ?2 AND lineage = ?3 AND log_size = ?4 AND log_root <> ?5
               AND sequence <> ?6
             ORDER BY held DESC, sequence LIMIT 1",
            params![
                bundle.vault.site.as_str(),
                bundle.vault.vault.as_str(),
                bundle.lineage.to_string(),
                i64::try_from(bundle.checkpoint.size).unwrap_or(i64::MAX),
                bundle.checkpoint.root.to_string(),
                i64::try_from(bundle.sequence).unwrap_or(i64::MAX),
            ],
            |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?)),
        )
        .optional()
        .map_err(failure::sql)?;
    row.map(|(sequence, fingerprint, log_root, held)| {
        Ok(Signed {
            sequence,
            fingerprint: parsed("fingerprint", &fingerprint)?,
            log_root: parsed("log_root", &log_root)?,
            held,
        })
    })
    .transpose()
}

/// The bundle with this fingerprint, if HQ holds it.
pub(crate) fn by_fingerprint(
    sql: &Connection,
    fingerprint: &Fingerprint,
) -> Result<Option<Held>, Failure> {
    let query = format!("SELECT {COLUMNS} FROM bundles WHERE fingerprint = ?1");
    one(sql, &query, [fingerprint.to_string()])
}

/// The first bundle of this place that was refused and is kept as evidence.
pub(crate) fn refused(
    sql: &Connection,
    vault: &VaultName,
    lineage: &Lineage,
    sequence: u64,
) -> Result<Option<Fingerprint>, Failure> {
    let row: Option<String> = sql
        .query_row(
            "SELECT fingerprint FROM refused_bundles
             WHERE site = ?1 AND vault = ?2 AND lineage = ?3 AND sequence = ?4",
            params![
                vault.site.as_str(),
                vault.vault.as_str(),
                lineage.to_string(),
                i64::try_from(sequence).unwrap_or(i64::MAX),
            ],
            |row| row.get(0),
        )
        .optional()
        .map_err(failure::sql)?;
    row.map(|fingerprint| parsed("fingerprint", &fingerprint))
        .transpose()
}

/// The newest bundle of a vault in one history.
pub(crate) fn newest(
    sql: &Connection,
    vault: &VaultName,
    lineage: &Lineage,
) -> Result<Option<Held>, Failure> {
    let query = format!(
        "SELECT {COLUMNS} FROM bundles WHERE site = ?1 AND vault = ?2 AND lineage = ?3
         ORDER BY sequence DESC LIMIT 1"
    );
    let names = (vault.site.as_str(), vault.vault.as_str());
    one(sql, &query, params![names.0, names.1, lineage.to_string()])
}

/// The newest bundle of a vault, whichever lineage it is of: what HQ holds is one history.
pub(crate) fn newest_of(sql: &Connection, vault: &VaultName) -> Result<Option<Held>, Failure> {
    let query = format!(
        "SELECT {COLUMNS} FROM bundles WHERE site = ?1 AND vault = ?2
         ORDER BY log_size DESC, sequence DESC LIMIT 1"
    );
    one(sql, &query, [vault.site.as_str(), vault.vault.as_str()])
}

/// One bundle.
pub(crate) fn find(
    sql: &Connection,
    vault: &VaultName,
    lineage: &Lineage,
    sequence: u64,
) -> Result<Option<Held>, Failure> {
    let query = format!(
        "SELECT {COLUMNS} FROM bundles WHERE site = ?1 AND vault = ?2 AND lineage = ?3 AND sequence = ?4"
    );
    let names = (vault.site.as_str(), vault.vault.as_str());
    // No bundle has a sequence beyond SQL's numbers.
    let sequence = i64::try_from(sequence).unwrap_or(i64::MAX);
    one(
        sql,
        &query,
        params![names.0, names.1, lineage.to_string(), sequence],
    )
}

/// Every bundle, by vault and sequence.
pub(crate) fn all(sql: &Connection) -> Result<Vec<Held>, Failure> {
    let query = format!("SELECT {COLUMNS} FROM bundles ORDER BY site, vault, lineage, sequence");
    select(sql, &query, [])
}

/// Every bundle, in the order in which they were taken in.
pub(crate) fn in_order(sql: &Connection) -> Result<Vec<Held>, Failure> {
    let query = format!("SELECT {COLUMNS} FROM bundles ORDER BY rowid");
    select(sql, &query, [])
}

/// Every bundle of a vault, in the order of its log.
pub(crate) fn of_vault(sql: &Connection, vault: &VaultName) -> Result<Vec<Held>, Failure> {
    let query = format!(
        "SELECT {COLUMNS} FROM bundles WHERE site = ?1 AND vault = ?2 ORDER BY log_size, sequence"
    );
    select(sql, &query, [vault.site.as_str(), vault.vault.as_str()])
}

/// The time of the newest checkpoint of a site, or of all, Unix seconds. A vault's clock may run ahead; nobody's is believed
/// beyond the time at which the bundle came in.
pub(crate) fn as_of(sql: &Connection, site: Option<&SiteId>) -> Result<Option<u64>, Failure> {
    sql.query_row(
        "SELECT MAX(MIN(checkpoint_time, imported_at)) FROM bundles WHERE ?1 IS NULL OR site = ?1",
        [site.map(SiteId::as_str)],
        |row| row.get(0),
    )
    .map_err(failure::sql)
}

/// Whether any other vault has reported yet.
pub(crate) fn any_elsewhere(sql: &Connection, vault: &VaultName) -> Result<bool, Failure> {
    sql.query_row(
        "SELECT COUNT(*) > 0 FROM bundles WHERE NOT (site = ?1 AND vault = ?2)",
        [vault.site.as_str(), vault.vault.as_str()],
        |row| row.get(0),
    )
    .map_err(failure::sql)
}

/// The newest bundle of a vault, if it has not been acknowledged.
pub(crate) fn unacknowledged(sql: &Connection, vault: &VaultName) -> Result<Option<Held>, Failure> {
    let query = format!(
        "SELECT {COLUMNS} FROM bundles WHERE site = ?1 AND vault = ?2 AND acknowledged = 0
         ORDER BY log_size DESC, sequence DESC LIMIT 1"
    );
    one(sql, &query, [vault.site.as_str(), vault.vault.as_str()])
}

fn one(
    sql: &Connection,
    query: &str,
    parameters: impl rusqlite::Params,
) -> Result<Option<Held>, Failure> {
    Ok(select(sql, query, parameters)?.into_iter().next())
}

fn select(
    sql: &Connection,
    query: &str,
    parameters: impl rusqlite::Params,
) -> Result<Vec<Held>, Failure> {
    let mut statement = sql.prepare_cached(query).map_err(failure::sql)?;
    let mut rows = statement.query(parameters).map_err(failure::sql)?;
    let mut held = Vec::new();
    while let Some(row) = rows.next().map_err(failure::sql)? {
        held.push(read(row)?);
    }
    Ok(held)
}

fn read(row: &Row<'_>) -> Result<Held, Failure> {
    let text = |column: usize| row.get::<_, String>(column).map_err(failure::sql);
    let number = |column: usize| row.get::<_, u64>(column).map_err(failure::sql);
    let optional = |column: usize| row.get::<_, Option<u64>>(column).map_err(failure::sql);
    Ok(Held {
        vault: VaultName {
            site: parsed("site", &text(0)?)?,
            vault: parsed("vault", &text(1)?)?,
        },
        lineage: parsed("lineage", &text(2)?)?,
        sequence: number(3)?,
        fingerprint: parsed("fingerprint", &text(4)?)?,
        first: number(5)?,
        log_size: number(6)?,
        log_root: parsed("log_root", &text(7)?)?,
        segments: number(8)?,
        checkpoint_time: number(9)?,
        sealed_at: number(10)?,
        imported_at: number(11)?,
        dispatch_seen: optional(12)?.zip(optional(13)?),
        acknowledged: row.get(14).map_err(failure::sql)?,
    })
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

/// Notes that the newest bundle of a vault is to be acknowledged once more.
pub(crate) fn owe_acknowledgement(sql: &Connection, vault: &VaultName) -> Result<(), Failure> {
    let names = [vault.site.as_str(), vault.vault.as_str()];
    let query = format!(
        "SELECT {COLUMNS} FROM bundles WHERE site = ?1 AND vault = ?2
         ORDER BY log_size DESC, sequence DESC LIMIT 1"
    );
    if let Some(newest) = one(sql, &query, names)? {
        sql.execute(
            "UPDATE bundles SET acknowledged = 0 WHERE fingerprint = ?1",
            [newest.fingerprint.to_string()],
        )
        .map_err(failure::sql)?;
    }
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
