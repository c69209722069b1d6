//! The right edge of a log's Merkle tree at the end of each bundle, so that what comes after it can be proven without reading
//! what is before.

use mintmark_console::Failure;
use mintmark_ledger::merkle::Frontier;
use mintmark_protocol::identifier::{Fingerprint, VaultName};
use rusqlite::{Connection, OptionalExtension as _, params};

use super::bundles::Held;
use crate::failure;

/// Keeps the tree of a vault's log as it is now.
pub(crate) fn keep(sql: &Connection, vault: &VaultName, tree: &Frontier) -> Result<(), Failure> {
    sql.execute(
        "INSERT INTO log_trees (site, vault, log_size, tree) VALUES (?1, ?2, ?3, ?4)
         ON CONFLICT (site, vault, log_size) DO UPDATE SET tree = excluded.tree",
        params![
            vault.site.as_str(),
            vault.vault.as_str(),
            tree.size(),
            tree.to_bytes()
        ],
    )
    .map_err(failure::sql)?;
    Ok(())
}

/// The tree at the end of a bundle: one with the root that the vault signed. None if there is no other.
pub(crate) fn at(sql: &Connection, held: &Held) -> Result<Option<Frontier>, Failure> {
    let bytes: Option<Vec<u8>> = sql
        .query_row(
            "SELECT tree FROM log_trees WHERE site = ?1 AND vault = ?2 AND log_size = ?3",
            params![
                held.vault.site.as_str(),
                held.vault.vault.as_str(),
                held.log_size
            ],
            |row| row.get(0),
        )
        .optional()
        .map_err(failure::sql)?;
    let tree = bytes.and_then(|bytes| Frontier::from_bytes(&bytes));
    Ok(tree.filter(|tree| {
        (tree.size(), Fingerprint::new(tree.root())) == (held.log_size, held.log_root)
    }))
}
