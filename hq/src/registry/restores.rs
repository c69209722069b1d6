//! Restores that vaults declared: each closes one lineage of a vault's log and opens another.

use mintmark_console::Failure;
use mintmark_protocol::entitlement::AccountTag;
use mintmark_protocol::identifier::{Fingerprint, Lineage, VaultName};
use rusqlite::{Connection, OptionalExtension as _, Row, params};

use super::{findings, parsed};
use crate::failure;

/// A restore that a vault declared.
#[derive(Clone, Debug)]
pub(crate) struct Restore {
    /// Which, in the order of their coming in; 0 before it is noted.
    pub(crate) number: i64,
    pub(crate) vault: VaultName,
    /// Fingerprint of the declaration.
    pub(crate) declaration: Fingerprint,
    /// The lineage that was in force before.
    pub(crate) parent: Lineage,
    pub(crate) lineage: Lineage,
    /// How many records the vault had.
    pub(crate) size: u64,
    /// How many records HQ held: the first bundle of the lineage begins after them.
    pub(crate) held: u64,
    pub(crate) held_root: Fingerprint,
    pub(crate) leases: Vec<(AccountTag, u64)>,
    /// By the vault's clock.
    pub(crate) declared_at: u64,
    pub(crate) imported_at: u64,
    /// How many parts of the tail were made, and by which dispatch key; none before.
    pub(crate) tail: Option<(u64, Vec<u8>)>,
}

const COLUMNS: &str = "number, site, vault, declaration, parent, lineage, size, held, held_root, leases, declared_at, \
                       imported_at, tail_parts, tail_key";

/// Notes a declaration.
pub(crate) fn add(sql: &Connection, restore: &Restore) -> Result<(), Failure> {
    let number = |number: u64| i64::try_from(number).unwrap_or(i64::MAX);
    let leases = restore.leases.iter();
    let leases: Vec<_> = leases.map(|(tag, end)| [tag.number(), *end]).collect();
    sql.execute(
        "INSERT INTO restores (site, vault, declaration, parent, lineage, size, held, held_root, leases, declared_at,
             imported_at)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11)",
        params![
            restore.vault.site.as_str(),
            restore.vault.vault.as_str(),
            restore.declaration.to_string(),
            restore.parent.to_string(),
            restore.lineage.to_string(),
            number(restore.size),
            number(restore.held),
            restore.held_root.to_string(),
            serde_json::json!(leases).to_string(),
            number(restore.declared_at),
            restore.imported_at,
        ],
    )
    .map_err(failure::sql)?;
    Ok(())
}

/// Notes that the tail was made.
pub(crate) fn set_tail(
    sql: &Connection,
    restore: &Restore,
    parts: u64,
    key: &[u8],
) -> Result<(), Failure> {
    sql.execute(
        "UPDATE restores SET tail_parts = ?2, tail_key = ?3 WHERE number = ?1",
        params![restore.number, parts, key],
    )
    .map_err(failure::sql)?;
    Ok(())
}

/// Notes how many records headquarters had held when it answered, which it has forgotten since.
pub(crate) fn set_held(sql: &Connection, restore: &Restore, held: u64) -> Result<(), Failure> {
    sql.execute(
        "UPDATE restores SET held = ?2 WHERE number = ?1",
        params![restore.number, i64::try_from(held).unwrap_or(i64::MAX)],
    )
    .map_err(failure::sql)?;
    Ok(())
}

/// Every restore of a vault, in the order of their coming in.
pub(crate) fn of_vault(sql: &Connection, vault: &VaultName) -> Result<Vec<Restore>, Failure> {
    let query =
        format!("SELECT {COLUMNS} FROM restores WHERE site = ?1 AND vault = ?2 ORDER BY number");
    let mut statement = sql.prepare(&query).map_err(failure::sql)?;
    let mut rows = statement
        .query([vault.site.as_str(), vault.vault.as_str()])
        .map_err(failure::sql)?;
    let mut restores = Vec::new();
    while let Some(row) = rows.next().map_err(failure::sql)? {
        restores.push(read(row)?);
    }
    Ok(restores)
}

/// The restore that opened a lineage; none of the one that a log began with.
pub(crate) fn opening(
    sql: &Connection,
    vault: &VaultName,
    lineage: &Lineage,
) -> Result<Option<Restore>, Failure> {
    let mut restores = of_vault(sql, vault)?.into_iter();
    Ok(restores.find(|restore| restore.lineage == *lineage))
}

/// The restore that closed a lineage; none of the one in force, and of what is none of the vault's.
pub(crate) fn closing(
    sql: &Connection,
    vault: &VaultName,
    lineage: &Lineage,
) -> Result<Option<Restore>, Failure> {
    let mut restores = of_vault(sql, vault)?.into_iter();
    Ok(restores.find(|restore| restore.parent == *lineage))
}

/// The newest restore of a vault, while no bundle of its lineage is here: the vault may be waiting for what HQ holds.
pub(crate) fn pending(sql: &Connection, vault: &VaultName) -> Result<Option<Restore>, Failure> {
    let Some(newest) = of_vault(sql, vault)?.pop() else {
        return Ok(None);
    };
    let reported = super::bundles::newest(sql, vault, &newest.lineage)?.is_some();
    Ok((!reported).then_some(newest))
}

/// Replaces the finding of a restore, by the fingerprint of its declaration.
pub(crate) fn withdraw_finding(
    sql: &Connection,
    code: &str,
    declaration: &Fingerprint,
) -> Result<(), Failure> {
    findings::withdraw(sql, &[code], declaration).map(drop)
}

fn read(row: &Row<'_>) -> Result<Restore, Failure> {
    let text = |column: usize| row.get::<_, String>(column).map_err(failure::sql);
    let number = |column: usize| row.get::<_, u64>(column).map_err(failure::sql);
    let corrupt = || failure::home_corrupt("registry, leases: no pairs of numbers");
    let leases: Vec<[u64; 2]> = serde_json::from_str(&text(9)?).map_err(|_| corrupt())?;
    let leases: Option<Vec<_>> = leases
        .into_iter()
        .map(|[tag, end]| Some((AccountTag::new(tag)?, end)))
        .collect();
    let parts: Option<u64> = row.get(12).map_err(failure::sql)?;
    let key: Option<Vec<u8>> = row.get(13).map_err(failure::sql)?;
    Ok(Restore {
        number: row.get(0).map_err(failure::sql)?,
        vault: VaultName {
            site: parsed("site", &text(1)?)?,
            vault: parsed("vault", &text(2)?)?,
        },
        declaration: parsed("declaration", &text(3)?)?,
        parent: parsed("parent", &text(4)?)?,
        lineage: parsed("lineage", &text(5)?)?,
        size: number(6)?,
        held: number(7)?,
        held_root: parsed("held_root", &text(8)?)?,
        leases: leases.ok_or_else(corrupt)?,
        declared_at: number(10)?,
        imported_at: number(11)?,
        tail: parts.zip(key),
    })
}

/// Whether any restore names this lineage, as what it closed or opened.
pub(crate) fn knows(
    sql: &Connection,
    vault: &VaultName,
    lineage: &Lineage,
) -> Result<bool, Failure> {
    sql.query_row(
        "SELECT 1 FROM restores WHERE site = ?1 AND vault = ?2 AND (lineage = ?3 OR parent = ?3) LIMIT 1",
        params![
            vault.site.as_str(),
            vault.vault.as_str(),
            lineage.to_string()
        ],
        |_| Ok(()),
    )
    .optional()
    .map(|found| found.is_some())
    .map_err(failure::sql)
}
