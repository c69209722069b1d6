//! The state machine of each vault, as it stood after the newest bundle.

use mintmark_console::{Exit, Failure};
use mintmark_ledger::decide::DeviceRecord;
use mintmark_ledger::entry::LogSequence;
use mintmark_ledger::replay::Replay;
use mintmark_ledger::state::{State, Withdrawal, Withdrawn};
use mintmark_protocol::identifier::{Fingerprint, VaultName};
use rusqlite::{Connection, OptionalExtension as _, params};

use super::{parsed, vaults};
use crate::failure;

/// The replay to go on with: a fresh one if nothing of the vault has been imported.
pub(crate) fn load(sql: &Connection, vault: &VaultName) -> Result<Replay, Failure> {
    let snapshot: Option<Vec<u8>> = sql
        .query_row(
            "SELECT snapshot FROM replays WHERE site = ?1 AND vault = ?2",
            [vault.site.as_str(), vault.vault.as_str()],
            |row| row.get(0),
        )
        .optional()
        .map_err(failure::sql)?;
    match snapshot {
        None => Ok(Replay::new()),
        Some(bytes) => Replay::from_snapshot(&bytes).map_err(|error| {
            let message =
                format!("the registry's replay of {vault} cannot be gone on with: {error}");
            Failure::new(Exit::Integrity, "REGISTRY-CORRUPT", message).hint(failure::RECOVER)
        }),
    }
}

/// Keeps a replay in place of the one before.
pub(crate) fn keep(sql: &Connection, vault: &VaultName, replay: &Replay) -> Result<(), Failure> {
    sql.execute(
        "INSERT INTO replays (site, vault, snapshot) VALUES (?1, ?2, ?3)
         ON CONFLICT (site, vault) DO UPDATE SET snapshot = excluded.snapshot",
        params![
            vault.site.as_str(),
            vault.vault.as_str(),
            replay.to_snapshot()
        ],
    )
    .map_err(failure::sql)?;
    index(sql, vault, replay.state())
}

/// Keeps what is asked of one device apart from the rest.
fn index(sql: &Connection, vault: &VaultName, state: &State) -> Result<(), Failure> {
    let of = [vault.site.as_str(), vault.vault.as_str()];
    // A log goes on and never back: what a record before the newest one withdrew is there.
    let newest: Option<u64> = sql
        .query_row(
            "SELECT MAX(record) FROM withdrawals WHERE site = ?1 AND vault = ?2",
            of,
            |row| row.get(0),
        )
        .map_err(failure::sql)?;
    let mut statement = sql
        .prepare(
            "INSERT INTO withdrawals (site, vault, account, slot, issue, why, reservation, record, withdrawn_at)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9)
             ON CONFLICT (site, vault, account, slot, issue) DO UPDATE SET why = excluded.why,
                 reservation = excluded.reservation, record = excluded.record, withdrawn_at = excluded.withdrawn_at",
        )
        .map_err(failure::sql)?;
    for ((account, slot, issue), withdrawn) in state.withdrawn() {
        if newest.is_some_and(|newest| withdrawn.at.number() < newest) {
            continue;
        }
        statement
            .execute(params![
                of[0],
                of[1],
                account.number(),
                slot.cast_signed(),
                issue,
                withdrawn.why.as_str(),
                withdrawn.reservation.number().cast_signed(),
                withdrawn.at.number(),
                withdrawn.time.cast_signed(),
            ])
            .map_err(failure::sql)?;
    }
    for device_ca in state.device_cas() {
        sql.execute(
            "INSERT OR IGNORE INTO device_cas_in_force (site, vault, first_record, fingerprint) VALUES (?1, ?2, ?3, ?4)",
            params![
                of[0],
                of[1],
                device_ca.first_record.number(),
                device_ca.fingerprint().to_string(),
            ],
        )
        .map_err(failure::sql)?;
    }
    Ok(())
}

/// The same, of every replay that there is.
pub(super) fn index_all(sql: &Connection) -> Result<(), Failure> {
    for vault in vaults::all(sql)? {
        index(sql, &vault.name, load(sql, &vault.name)?.state())?;
    }
    Ok(())
}

/// Since when and why an issue is no longer good by what was done at its vault; none while it is. Of a slot that was spent
/// twice, it is said of one of the two.
pub(crate) fn withdrawal(
    sql: &Connection,
    vault: &VaultName,
    record: &DeviceRecord,
) -> Result<Option<Withdrawn>, Failure> {
    let found: Option<(String, u64, i64)> = sql
        .query_row(
            "SELECT why, record, withdrawn_at FROM withdrawals
             WHERE site = ?1 AND vault = ?2 AND account = ?3 AND slot = ?4 AND issue = ?5 AND reservation = ?6",
            params![
                vault.site.as_str(),
                vault.vault.as_str(),
                record.account.number(),
                record.slot.cast_signed(),
                record.issue,
                record.reservation.number().cast_signed(),
            ],
            |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)),
        )
        .optional()
        .map_err(failure::sql)?;
    let Some((why, at, time)) = found else {
        return Ok(None);
    };
    let why = Withdrawal::from_name(&why)
        .ok_or_else(|| failure::home_corrupt(format!("registry, why: `{why}` ends nothing")))?;
    Ok(Some(Withdrawn {
        why,
        reservation: record.reservation,
        at: LogSequence(at),
        time: time.cast_unsigned(),
    }))
}

/// The device CA that certifies what was reserved by this record, as the log has it.
pub(crate) fn device_ca_of(
    sql: &Connection,
    vault: &VaultName,
    reservation: LogSequence,
) -> Result<Option<Fingerprint>, Failure> {
    let found: Option<String> = sql
        .query_row(
            "SELECT fingerprint FROM device_cas_in_force
             WHERE site = ?1 AND vault = ?2 AND first_record <= ?3 ORDER BY first_record DESC LIMIT 1",
            params![
                vault.site.as_str(),
                vault.vault.as_str(),
                reservation.number().cast_signed()
            ],
            |row| row.get(0),
        )
        .optional()
        .map_err(failure::sql)?;
    found.map(|text| parsed("fingerprint", &text)).transpose()
}
