//! Why devices were scrapped, voided or made again, as somebody at their vault wrote it.

use mintmark_console::Failure;
use mintmark_ledger::entry::{DeviceAction, DeviceChanged, DeviceOrder, LogSequence};
use mintmark_ledger::state::{Withdrawal, Withdrawn};
use mintmark_protocol::identifier::VaultName;
use mintmark_protocol::revocation::Target;
use rusqlite::{Connection, OptionalExtension as _, params};

use super::orders;
use crate::failure;

/// Notes an order that the log carried out by this record.
pub(crate) fn add(
    sql: &Connection,
    vault: &VaultName,
    record: LogSequence,
    changed: &DeviceChanged,
    order: &DeviceOrder,
) -> Result<(), Failure> {
    let mut statement = sql
        .prepare_cached(
            "INSERT INTO device_orders (site, vault, record, reservation, action, reason)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
        )
        .map_err(failure::sql)?;
    statement
        .execute(params![
            vault.site.as_str(),
            vault.vault.as_str(),
            record.number(),
            changed.reservation.number().cast_signed(),
            order.action.as_str(),
            order.reason,
        ])
        .map_err(failure::sql)?;
    Ok(())
}

/// Why an issue is no longer good, as the newest order before says that ended it; none if the log gives none.
pub(crate) fn reason(
    sql: &Connection,
    vault: &VaultName,
    withdrawn: &Withdrawn,
) -> Result<Option<String>, Failure> {
    let action = match withdrawn.why {
        Withdrawal::Scrapped => DeviceAction::Scrap,
        Withdrawal::Voided => DeviceAction::Void,
        Withdrawal::Superseded => DeviceAction::Rework,
        Withdrawal::Revoked => return revoked(sql, vault, withdrawn),
    };
    sql.query_row(
        "SELECT reason FROM device_orders
         WHERE site = ?1 AND vault = ?2 AND reservation = ?3 AND action = ?4 AND record <= ?5
         ORDER BY record DESC LIMIT 1",
        params![
            vault.site.as_str(),
            vault.vault.as_str(),
            withdrawn.reservation.number().cast_signed(),
            action.as_str(),
            withdrawn.at.number(),
        ],
        |row| row.get(0),
    )
    .optional()
    .map_err(failure::sql)
}

/// Why officers revoked it.
fn revoked(
    sql: &Connection,
    vault: &VaultName,
    withdrawn: &Withdrawn,
) -> Result<Option<String>, Failure> {
    let reservation = withdrawn.reservation.number();
    let mut sealed = orders::revocations(sql, vault)?.into_iter();
    let found = sealed.find(|sealed| match &sealed.revocation.target {
        Target::Devices(devices) => devices
            .iter()
            .any(|device| device.reservation == reservation),
        _ => false,
    });
    Ok(found.map(|sealed| sealed.revocation.reason))
}
