//! Units that are reserved and have no certificate, as of the newest bundle.

use mintmark_console::Failure;
use mintmark_ledger::serial::serial_of;
use mintmark_ledger::state::State;
use mintmark_protocol::identifier::{SiteId, VaultName};
use rusqlite::{Connection, params};

use super::parsed;
use crate::failure;

/// One of them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct OpenUnit {
    pub(crate) vault: VaultName,
    pub(crate) tag: u64,
    /// The record that reserved it.
    pub(crate) reservation: u64,
    pub(crate) device_id: String,
    /// The serial of the certificate that is to be signed, hexadecimal.
    pub(crate) serial: String,
    /// Whether what officers revoked keeps it from one.
    pub(crate) withheld: bool,
}

/// Adds those of a vault.
pub(super) fn add(sql: &Connection, vault: &VaultName, state: &State) -> Result<(), Failure> {
    let mut statement = sql
        .prepare_cached(
            "INSERT INTO open_units (site, vault, reservation, tag, device_id, serial, withheld)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)",
        )
        .map_err(failure::sql)?;
    for (reservation, open) in state.unsettled() {
        statement
            .execute(params![
                vault.site.as_str(),
                vault.vault.as_str(),
                reservation.number(),
                open.account.number(),
                open.device_id.as_str(),
                serial_of(&open.tbs).map(hex::encode).unwrap_or_default(),
                state.withheld(*reservation).is_some(),
            ])
            .map_err(failure::sql)?;
    }
    Ok(())
}

/// Those of a site, or of all, by vault and record.
pub(crate) fn all(sql: &Connection, site: Option<&SiteId>) -> Result<Vec<OpenUnit>, Failure> {
    let mut statement = sql
        .prepare(
            "SELECT site, vault, tag, reservation, device_id, serial, withheld FROM open_units
             WHERE ?1 IS NULL OR site = ?1 ORDER BY site, vault, reservation",
        )
        .map_err(failure::sql)?;
    let mut rows = statement
        .query([site.map(SiteId::as_str)])
        .map_err(failure::sql)?;
    let mut found = Vec::new();
    while let Some(row) = rows.next().map_err(failure::sql)? {
        let text = |column: usize| row.get::<_, String>(column).map_err(failure::sql);
        found.push(OpenUnit {
            vault: VaultName {
                site: parsed("site", &text(0)?)?,
                vault: parsed("vault", &text(1)?)?,
            },
            tag: row.get(2).map_err(failure::sql)?,
            reservation: row.get(3).map_err(failure::sql)?,
            device_id: text(4)?,
            serial: text(5)?,
            withheld: row.get(6).map_err(failure::sql)?,
        });
    }
    Ok(found)
}
