//! Every unit that a log reserved, and for which device.

use std::collections::HashSet;

use mintmark_console::Failure;
use mintmark_ledger::decide::DeviceRecord;
use mintmark_ledger::entry::LogSequence;
use mintmark_protocol::entitlement::AccountTag;
use mintmark_protocol::identifier::{DeviceId, Fingerprint, Sku, VaultName};
use rusqlite::{Connection, Row, params};

use super::parsed;
use crate::failure;

/// A unit, and when it was spent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Unit {
    pub(crate) vault: VaultName,
    pub(crate) record: DeviceRecord,
    /// SHA-256 of what was reserved to be signed for it: TBSCertificate, DER.
    pub(crate) tbs_digest: Fingerprint,
    /// Unix seconds.
    pub(crate) reserved_at: u64,
    /// When its certificate was signed, Unix seconds; none while it is unresolved.
    pub(crate) issued_at: Option<u64>,
}

const COLUMNS: &str = "site, vault, reservation, sku, device_id, key_digest, account, slot, issue, reserved_at, \
                       signed, issued_at, tbs_digest";

/// A time as the registry holds it: SQL's numbers end where a hostile clock need not.
fn time(unix: u64) -> i64 {
    i64::try_from(unix).unwrap_or(i64::MAX)
}

/// The part of a key's digest that is indexed.
fn prefix(digest: &Fingerprint) -> i64 {
    digest
        .as_bytes()
        .first_chunk()
        .map_or(0, |prefix| i64::from_be_bytes(*prefix))
}

/// Adds a unit.
pub(crate) fn add(sql: &Connection, unit: &Unit) -> Result<(), Failure> {
    let Unit { vault, record, .. } = unit;
    let mut statement = sql
        .prepare_cached(
            "INSERT INTO devices (site, vault, reservation, sku, device_id, key_prefix, key_digest, account, slot,
                 issue, reserved_at, signed, issued_at, tbs_digest)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14)",
        )
        .map_err(failure::sql)?;
    statement
        .execute(params![
            vault.site.as_str(),
            vault.vault.as_str(),
            record.reservation.number(),
            record.sku.as_str(),
            record.device_id.as_str(),
            prefix(&record.spki_sha256),
            record.spki_sha256.as_bytes(),
            record.account.number(),
            record.slot.cast_signed(),
            record.issue,
            time(unit.reserved_at),
            record.signed.map(LogSequence::number),
            unit.issued_at.map(time),
            unit.tbs_digest.as_bytes(),
        ])
        .map_err(failure::sql)?;
    Ok(())
}

/// Notes the signature of a unit that was added before.
pub(crate) fn sign(
    sql: &Connection,
    vault: &VaultName,
    reservation: LogSequence,
    signed: LogSequence,
    issued_at: u64,
) -> Result<(), Failure> {
    let mut statement = sql
        .prepare_cached(
            "UPDATE devices SET signed = ?4, issued_at = ?5 WHERE site = ?1 AND vault = ?2 AND reservation = ?3",
        )
        .map_err(failure::sql)?;
    statement
        .execute(params![
            vault.site.as_str(),
            vault.vault.as_str(),
            reservation.number(),
            signed.number(),
            time(issued_at),
        ])
        .map_err(failure::sql)?;
    Ok(())
}

/// Every unit of this device id, at any vault and of any product, oldest first within each vault.
pub(crate) fn by_id(sql: &Connection, device_id: &DeviceId) -> Result<Vec<Unit>, Failure> {
    let query = format!(
        "SELECT {COLUMNS} FROM devices WHERE device_id = ?1 ORDER BY site, vault, reservation"
    );
    select(sql, &query, [device_id.as_str()])
}

/// Every unit of this public key, at any vault, oldest first within each vault.
pub(crate) fn by_key(sql: &Connection, digest: &Fingerprint) -> Result<Vec<Unit>, Failure> {
    let mut units = select(sql, &of_key(), [prefix(digest)])?;
    units.retain(|unit| unit.record.spki_sha256 == *digest);
    units.sort_by(|one, other| {
        let place = |unit: &Unit| (unit.vault.clone(), unit.record.reservation);
        place(one).cmp(&place(other))
    });
    Ok(units)
}

/// How many units of a vault have a certificate.
pub(crate) fn certificates(sql: &Connection, vault: &VaultName) -> Result<u64, Failure> {
    sql.query_row(
        "SELECT COUNT(signed) FROM devices WHERE site = ?1 AND vault = ?2",
        [vault.site.as_str(), vault.vault.as_str()],
        |row| row.get(0),
    )
    .map_err(failure::sql)
}

/// How many units of a vault there are.
pub(crate) fn count(sql: &Connection, vault: &VaultName) -> Result<u64, Failure> {
    let query = "SELECT count(*) FROM devices WHERE site = ?1 AND vault = ?2";
    let names = [vault.site.as_str(), vault.vault.as_str()];
    sql.query_row(query, names, |row| row.get(0))
        .map_err(failure::sql)
}

/// Gives every unit of a vault, in no order.
pub(crate) fn each(
    sql: &Connection,
    vault: &VaultName,
    mut take: impl FnMut(Unit),
) -> Result<(), Failure> {
    let query = format!("SELECT {COLUMNS} FROM devices WHERE site = ?1 AND vault = ?2");
    let mut statement = sql.prepare_cached(&query).map_err(failure::sql)?;
    let mut rows = statement
        .query([vault.site.as_str(), vault.vault.as_str()])
        .map_err(failure::sql)?;
    while let Some(row) = rows.next().map_err(failure::sql)? {
        take(read(row)?);
    }
    Ok(())
}

/// The issues of a vault for which more than one unit was spent: account, slot, issue number.
pub(crate) fn spent_twice(
    sql: &Connection,
    vault: &VaultName,
) -> Result<HashSet<(AccountTag, u64, u16)>, Failure> {
    let mut statement = sql
        .prepare(
            "SELECT account, slot, issue FROM devices WHERE site = ?1 AND vault = ?2
             GROUP BY account, slot, issue HAVING COUNT(*) > 1",
        )
        .map_err(failure::sql)?;
    let mut rows = statement
        .query([vault.site.as_str(), vault.vault.as_str()])
        .map_err(failure::sql)?;
    let mut twice = HashSet::new();
    while let Some(row) = rows.next().map_err(failure::sql)? {
        let slot: i64 = row.get(1).map_err(failure::sql)?;
        let account = account(row.get(0).map_err(failure::sql)?)?;
        twice.insert((
            account,
            slot.cast_unsigned(),
            row.get(2).map_err(failure::sql)?,
        ));
    }
    Ok(twice)
}

fn account(tag: u64) -> Result<AccountTag, Failure> {
    AccountTag::new(tag).ok_or_else(|| failure::home_corrupt("registry, account: no account tag"))
}

/// The newest unit of a device of a product at a vault.
pub(crate) fn newest_of_device(
    sql: &Connection,
    vault: &VaultName,
    sku: &Sku,
    device_id: &DeviceId,
) -> Result<Option<Unit>, Failure> {
    newest(sql, &of_device(), [device_id.as_str()], |unit| {
        unit.vault == *vault && unit.record.sku == *sku
    })
}

/// A unit of this device of this product at another vault.
pub(crate) fn device_elsewhere(
    sql: &Connection,
    vault: &VaultName,
    sku: &Sku,
    device_id: &DeviceId,
) -> Result<Option<Unit>, Failure> {
    newest(sql, &of_device(), [device_id.as_str()], |unit| {
        unit.vault != *vault && unit.record.sku == *sku
    })
}

/// The newest unit of a key at a vault. Keys share a prefix by chance, or because somebody looked for one that does.
pub(crate) fn newest_of_key(
    sql: &Connection,
    vault: &VaultName,
    digest: &Fingerprint,
) -> Result<Option<Unit>, Failure> {
    newest(sql, &of_key(), [prefix(digest)], |unit| {
        unit.vault == *vault && unit.record.spki_sha256 == *digest
    })
}

/// A unit of a key at another vault.
pub(crate) fn key_elsewhere(
    sql: &Connection,
    vault: &VaultName,
    digest: &Fingerprint,
) -> Result<Option<Unit>, Failure> {
    newest(sql, &of_key(), [prefix(digest)], |unit| {
        unit.vault != *vault && unit.record.spki_sha256 == *digest
    })
}

// Vault and product are compared here and not in SQL: told of them too, SQLite walks through the vault's units, of which
// there are millions, in place of the device's, of which there is one.

fn of_device() -> String {
    format!("SELECT {COLUMNS} FROM devices WHERE device_id = ?1 ORDER BY reservation DESC")
}

fn of_key() -> String {
    format!("SELECT {COLUMNS} FROM devices WHERE key_prefix = ?1 ORDER BY reservation DESC")
}

/// The first row that is looked for; those after it are not read.
fn newest(
    sql: &Connection,
    query: &str,
    parameters: impl rusqlite::Params,
    is: impl Fn(&Unit) -> bool,
) -> Result<Option<Unit>, Failure> {
    let mut statement = sql.prepare_cached(query).map_err(failure::sql)?;
    let mut rows = statement.query(parameters).map_err(failure::sql)?;
    while let Some(row) = rows.next().map_err(failure::sql)? {
        let unit = read(row)?;
        if is(&unit) {
            return Ok(Some(unit));
        }
    }
    Ok(None)
}

/// Every unit in this place: more than one if a slot was spent twice.
pub(crate) fn by_slot(
    sql: &Connection,
    vault: &VaultName,
    account: AccountTag,
    slot: u64,
    issue: u16,
) -> Result<Vec<Unit>, Failure> {
    select(
        sql,
        &in_slot(),
        params![
            vault.site.as_str(),
            vault.vault.as_str(),
            account.number(),
            slot.cast_signed(),
            issue
        ],
    )
}

fn in_slot() -> String {
    format!(
        "SELECT {COLUMNS} FROM devices
         WHERE site = ?1 AND vault = ?2 AND account = ?3 AND slot = ?4 AND issue = ?5 ORDER BY reservation"
    )
}

/// How many devices were certified for reservations from one record on and before another.
pub(crate) fn certified(
    sql: &Connection,
    vault: &VaultName,
    (from, until): (LogSequence, Option<LogSequence>),
) -> Result<u64, Failure> {
    let until = until.map_or(i64::MAX, |until| {
        i64::try_from(until.number()).unwrap_or(i64::MAX)
    });
    sql.query_row(
        "SELECT COUNT(DISTINCT device_id) FROM devices
         WHERE site = ?1 AND vault = ?2 AND reservation >= ?3 AND reservation < ?4 AND signed IS NOT NULL",
        params![
            vault.site.as_str(),
            vault.vault.as_str(),
            from.number(),
            until
        ],
        |row| row.get(0),
    )
    .map_err(failure::sql)
}

/// The unit that a record reserved.
pub(crate) fn by_reservation(
    sql: &Connection,
    vault: &VaultName,
    reservation: LogSequence,
) -> Result<Option<Unit>, Failure> {
    let query = format!(
        "SELECT {COLUMNS} FROM devices WHERE site = ?1 AND vault = ?2 AND reservation = ?3"
    );
    let names = (vault.site.as_str(), vault.vault.as_str());
    let units = select(sql, &query, params![names.0, names.1, reservation.number()])?;
    Ok(units.into_iter().next())
}

fn select(
    sql: &Connection,
    query: &str,
    parameters: impl rusqlite::Params,
) -> Result<Vec<Unit>, Failure> {
    let mut statement = sql.prepare_cached(query).map_err(failure::sql)?;
    let mut rows = statement.query(parameters).map_err(failure::sql)?;
    let mut units = Vec::new();
    while let Some(row) = rows.next().map_err(failure::sql)? {
        units.push(read(row)?);
    }
    Ok(units)
}

fn read(row: &Row<'_>) -> Result<Unit, Failure> {
    let text = |column: usize| row.get::<_, String>(column).map_err(failure::sql);
    let number = |column: usize| row.get::<_, u64>(column).map_err(failure::sql);
    let optional = |column: usize| row.get::<_, Option<u64>>(column).map_err(failure::sql);
    let digest = |column: usize, name: &str| {
        let digest: Vec<u8> = row.get(column).map_err(failure::sql)?;
        Fingerprint::try_from(digest.as_slice())
            .map_err(|error| failure::home_corrupt(format!("registry, {name}: {error}")))
    };
    let slot: i64 = row.get(7).map_err(failure::sql)?;
    Ok(Unit {
        vault: VaultName {
            site: parsed("site", &text(0)?)?,
            vault: parsed("vault", &text(1)?)?,
        },
        record: DeviceRecord {
            reservation: LogSequence(number(2)?),
            sku: parsed("sku", &text(3)?)?,
            device_id: parsed("device_id", &text(4)?)?,
            spki_sha256: digest(5, "key_digest")?,
            account: account(number(6)?)?,
            slot: slot.cast_unsigned(),
            issue: row.get(8).map_err(failure::sql)?,
            signed: optional(10)?.map(LogSequence),
        },
        tbs_digest: digest(12, "tbs_digest")?,
        reserved_at: number(9)?,
        issued_at: optional(11)?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whatever_is_looked_up_has_an_index_and_is_in_order_there() {
        let sql = Connection::open_in_memory().unwrap();
        sql.execute_batch(super::super::SCHEMA).unwrap();
        for (query, index) in [
            (of_device(), "devices_by_id (device_id=?)"),
            (of_key(), "devices_by_key (key_prefix=?)"),
            (
                in_slot(),
                "devices_by_slot (site=? AND vault=? AND account=? AND slot=?",
            ),
        ] {
            let mut plan = sql.prepare(&format!("EXPLAIN QUERY PLAN {query}")).unwrap();
            let parameters = vec![0; plan.parameter_count()];
            let plan: Vec<String> = plan
                .query_map(rusqlite::params_from_iter(parameters), |row| row.get(3))
                .unwrap()
                .map(Result::unwrap)
                .collect();
            assert_eq!(plan.len(), 1, "{plan:?}");
            assert!(plan[0].contains(index), "{plan:?}");
        }
    }
}
