//! The state machine of each vault, as it stood after the newest bundle.

use mintmark_console::Failure;
use mintmark_ledger::replay::Replay;
use mintmark_protocol::identifier::VaultName;
use rusqlite::{Connection, OptionalExtension as _, params};

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
            failure::home_corrupt(format!("registry, replay of {vault}: {error}"))
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
    Ok(())
}
