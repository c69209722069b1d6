//! Which CRLs of device CAs came home, and what was taken back at their vaults and is on none of them.

use mintmark_console::Failure;
use mintmark_ledger::entry::LogSequence;
use mintmark_protocol::identifier::{Fingerprint, VaultName};
use rusqlite::{Connection, params};

use super::{parsed, replays, vaults};
use crate::failure;

/// Devices of one that are named.
const DEVICES_MAX: u32 = 100;

/// Notes that HQ holds the newest CRL that a log states for a device CA, in this record.
pub(crate) fn keep(
    sql: &Connection,
    vault: &VaultName,
    device_ca: &Fingerprint,
    stated: LogSequence,
) -> Result<(), Failure> {
    sql.execute(
        "INSERT INTO crls_held (site, vault, device_ca, record) VALUES (?1, ?2, ?3, ?4)
         ON CONFLICT (site, vault, device_ca) DO UPDATE SET record = excluded.record",
        params![
            vault.site.as_str(),
            vault.vault.as_str(),
            device_ca.to_string(),
            stated.number().cast_signed(),
        ],
    )
    .map_err(failure::sql)?;
    Ok(())
}

/// Of a registry that did not note it: what the logs state came home, for all that is known.
pub(super) fn keep_stated(sql: &Connection) -> Result<(), Failure> {
    for vault in vaults::all(sql)? {
        let replay = replays::load(sql, &vault.name)?;
        for device_ca in replay.state().device_cas() {
            if let Some((stated, _)) = replay.state().crl(device_ca.generation) {
                keep(sql, &vault.name, &device_ca.fingerprint(), *stated)?;
            }
        }
    }
    Ok(())
}

/// What was taken back of a device CA's certificates, and is on no CRL of it that came home.
#[derive(Clone, Debug)]
pub(crate) struct LeftOut {
    /// SHA-256 of its certificate.
    pub(crate) device_ca: Fingerprint,
    /// The records from which on its certificates are, and where those of the next one begin.
    from: i64,
    until: i64,
    /// The record that took back the first that is left out.
    pub(crate) first_record: u64,
    /// How many are.
    pub(crate) count: u64,
}

/// By device CA, in the order of the log.
pub(crate) fn left_out(sql: &Connection, vault: &VaultName) -> Result<Vec<LeftOut>, Failure> {
    let mut statement = sql
        .prepare(
            "WITH issuers AS (
                 SELECT fingerprint, first_record AS began,
                     COALESCE(LEAD(first_record) OVER (ORDER BY first_record), 9223372036854775807) AS ended
                 FROM device_cas_in_force WHERE site = ?1 AND vault = ?2
             )
             SELECT i.fingerprint, i.began, i.ended, MIN(w.record), COUNT(*)
             FROM issuers i
             LEFT JOIN crls_held h ON h.site = ?1 AND h.vault = ?2 AND h.device_ca = i.fingerprint
             JOIN withdrawals w ON w.site = ?1 AND w.vault = ?2 AND w.record > COALESCE(h.record, -1)
                 AND w.reservation >= i.began AND w.reservation < i.ended
             GROUP BY i.fingerprint, i.began, i.ended ORDER BY i.began",
        )
        .map_err(failure::sql)?;
    let mut rows = statement
        .query([vault.site.as_str(), vault.vault.as_str()])
        .map_err(failure::sql)?;
    let mut found = Vec::new();
    while let Some(row) = rows.next().map_err(failure::sql)? {
        let fingerprint: String = row.get(0).map_err(failure::sql)?;
        found.push(LeftOut {
            device_ca: parsed("fingerprint", &fingerprint)?,
            from: row.get(1).map_err(failure::sql)?,
            until: row.get(2).map_err(failure::sql)?,
            first_record: row.get(3).map_err(failure::sql)?,
            count: row.get(4).map_err(failure::sql)?,
        });
    }
    Ok(found)
}

/// How many certificates of that device CA were taken back in all, each of which is an entry of its CRL.
pub(crate) fn entries(sql: &Connection, vault: &VaultName, of: &LeftOut) -> Result<u64, Failure> {
    sql.query_row(
        "SELECT COUNT(*) FROM withdrawals
         WHERE site = ?1 AND vault = ?2 AND reservation >= ?3 AND reservation < ?4",
        params![vault.site.as_str(), vault.vault.as_str(), of.from, of.until],
        |row| row.get(0),
    )
    .map_err(failure::sql)
}

/// The devices whose certificates are left out, the first of them.
pub(crate) fn devices(
    sql: &Connection,
    vault: &VaultName,
    of: &LeftOut,
) -> Result<Vec<String>, Failure> {
    let mut statement = sql
        .prepare(
            "SELECT d.device_id FROM withdrawals w
             JOIN devices d ON d.site = w.site AND d.vault = w.vault AND d.reservation = w.reservation
             WHERE w.site = ?1 AND w.vault = ?2 AND w.record >= ?3 AND w.reservation >= ?4 AND w.reservation < ?5
             ORDER BY w.record LIMIT ?6",
        )
        .map_err(failure::sql)?;
    let found = statement
        .query_map(
            params![
                vault.site.as_str(),
                vault.vault.as_str(),
                of.first_record.cast_signed(),
                of.from,
                of.until,
                DEVICES_MAX,
            ],
            |row| row.get(0),
        )
        .map_err(failure::sql)?;
    found.collect::<Result<_, _>>().map_err(failure::sql)
}
