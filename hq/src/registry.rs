//! The fleet registry: one SQL schema, and nothing but this module speaks SQL.

use std::path::Path;

use mintmark_console::{Exit, Failure};
use rusqlite::config::DbConfig;
use rusqlite::{Connection, OpenFlags, Savepoint, Transaction};

use self::reached::Reached;
use crate::failure;
use crate::record::Record;

pub(crate) mod accounts;
pub(crate) mod bundles;
pub(crate) mod crls;
pub(crate) mod device_cas;
pub(crate) mod device_orders;
pub(crate) mod devices;
pub(crate) mod dispatches;
pub(crate) mod drafts;
pub(crate) mod entitlements;
pub(crate) mod findings;
pub(crate) mod log_trees;
mod migrations;
pub(crate) mod officers;
pub(crate) mod open_units;
pub(crate) mod orders;
pub(crate) mod postings;
pub(crate) mod reached;
pub(crate) mod replays;
pub(crate) mod restores;
pub(crate) mod trust_manifests;
pub(crate) mod vaults;
mod whole;

const SCHEMA: &str = include_str!("registry/schema.sql");
const SCHEMA_VERSION: i64 = 10;

/// The registry of one home.
pub(crate) struct Registry {
    pub(crate) sql: Connection,
}

impl Registry {
    /// Its file in the home.
    pub(crate) const FILE: &str = "registry.sqlite";

    /// Makes an empty registry in a new home.
    pub(crate) fn create(home: &Path) -> Result<(), Failure> {
        let sql = Connection::open(home.join(Self::FILE)).map_err(failure::sql)?;
        configure(&sql)?;
        sql.execute_batch(SCHEMA).map_err(failure::sql)?;
        sql.pragma_update(None, "user_version", SCHEMA_VERSION)
            .map_err(failure::sql)
    }

    /// Opens the registry of a home; one that is missing is not made anew.
    pub(crate) fn open(home: &Path) -> Result<Self, Failure> {
        let path = home.join(Self::FILE);
        if !path.exists() {
            return Err(failure::home_corrupt("registry.sqlite is missing").hint(failure::RECOVER));
        }
        whole::expect_whole(&path)?;
        let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let sql = Connection::open_with_flags(path, flags).map_err(failure::sql)?;
        let version: i64 = sql
            .pragma_query_value(None, "user_version", |row| row.get(0))
            .map_err(failure::sql)?;
        // An empty file is a registry to SQLite; to us it is one whose content is gone.
        if version <= 0 {
            let broken = failure::home_corrupt("registry.sqlite holds no registry");
            return Err(broken.hint(failure::RECOVER));
        }
        let carried_over = migrations::FIRST..SCHEMA_VERSION;
        if version != SCHEMA_VERSION && !carried_over.contains(&version) {
            let message =
                format!("the registry has schema {version}; this program knows {SCHEMA_VERSION}");
            let hint = if version > SCHEMA_VERSION {
                "update this program"
            } else {
                "it was made before the first release, and nothing carries it over: make the home anew"
            };
            return Err(Failure::new(Exit::Usage, "REGISTRY-SCHEMA", message).hint(hint));
        }
        configure(&sql)?;
        let mut registry = Self { sql };
        if version != SCHEMA_VERSION {
            let transaction = registry.transaction()?;
            migrations::carry_over(&transaction, version)?;
            transaction
                .pragma_update(None, "user_version", SCHEMA_VERSION)
                .map_err(failure::sql)?;
            commit(transaction)?;
        }
        Reached::expect(home, &registry.sql)?;
        Ok(registry)
    }

    /// Sets one of the few facts that stand alone.
    pub(crate) fn set(&self, name: &str, value: &str) -> Result<(), Failure> {
        self.sql
            .execute(
                "INSERT INTO meta (name, value) VALUES (?1, ?2)",
                [name, value],
            )
            .map_err(failure::sql)?;
        Ok(())
    }

    /// One of the few facts that stand alone, in hexadecimal.
    pub(crate) fn bytes(&self, name: &str) -> Result<Vec<u8>, Failure> {
        let value: String = self
            .sql
            .query_row("SELECT value FROM meta WHERE name = ?1", [name], |row| {
                row.get(0)
            })
            .map_err(failure::sql)?;
        hex::decode(value)
            .map_err(|_| failure::home_corrupt(format!("registry, {name}: no hexadecimal")))
    }

    /// All of it or nothing.
    pub(crate) fn transaction(&mut self) -> Result<Transaction<'_>, Failure> {
        self.sql.transaction().map_err(failure::sql)
    }

    /// The same, within a transaction that may be under way.
    pub(crate) fn savepoint(&mut self) -> Result<Savepoint<'_>, Failure> {
        self.sql.savepoint().map_err(failure::sql)
    }

    /// Has nothing synced: what is made is worth nothing before it is whole, and whoever puts it into place syncs it.
    pub(crate) fn unsynced(&self) -> Result<(), Failure> {
        self.sql
            .pragma_update(None, "synchronous", "OFF")
            .map_err(failure::sql)
    }

    /// How many rows one of its tables has.
    pub(crate) fn count(&self, table: &'static str) -> Result<u64, Failure> {
        let query = format!("SELECT COUNT(*) FROM {table}");
        self.sql
            .query_row(&query, [], |row| row.get(0))
            .map_err(failure::sql)
    }

    /// Begins what will not last: whatever is written before [`Registry::forget`] is as if it never was.
    pub(crate) fn rehearse(&self) -> Result<(), Failure> {
        self.sql.execute_batch("BEGIN").map_err(failure::sql)
    }

    /// Has everything stand in the registry's own file, and nothing beside it, for whoever copies that file while no command
    /// changes the home.
    pub(crate) fn settle(self) -> Result<(), Failure> {
        let checkpoint = "PRAGMA wal_checkpoint(TRUNCATE)";
        let busy: i64 = self
            .sql
            .query_row(checkpoint, [], |row| row.get(0))
            .map_err(failure::sql)?;
        if busy == 0 {
            return Ok(());
        }
        let message = "another command reads the registry and does not come to an end";
        Err(Failure::new(Exit::Environment, "REGISTRY-BUSY", message)
            .hint("wait until it is done, then run this again"))
    }

    /// Ends a rehearsal.
    pub(crate) fn forget(&self) -> Result<(), Failure> {
        self.sql.execute_batch("ROLLBACK").map_err(failure::sql)
    }
}

/// What a registry may keep in memory of itself, in KiB: a replay looks up random devices among all there are.
const CACHE_KIB: i64 = 128 * 1024;

fn configure(sql: &Connection) -> Result<(), Failure> {
    sql.busy_timeout(std::time::Duration::from_secs(10))
        .map_err(failure::sql)?;
    sql.pragma_update(None, "journal_mode", "WAL")
        .map_err(failure::sql)?;
    sql.pragma_update(None, "synchronous", "FULL")
        .map_err(failure::sql)?;
    sql.pragma_update(None, "cache_size", -CACHE_KIB)
        .map_err(failure::sql)?;
    // A plan that depends on what is looked up is made again for every device: that costs more than the look-up.
    sql.set_db_config(DbConfig::SQLITE_DBCONFIG_ENABLE_QPSG, true)
        .map_err(failure::sql)?;
    sql.pragma_update(None, "foreign_keys", true)
        .map_err(failure::sql)
}

/// Ends a transaction.
pub(crate) fn commit(transaction: Transaction<'_>) -> Result<(), Failure> {
    transaction.commit().map_err(failure::sql)
}

/// Ends a transaction, then has noted what was kept for it.
pub(crate) fn commit_kept(transaction: Transaction<'_>, record: &Record) -> Result<(), Failure> {
    commit(transaction)?;
    record.note_committed()
}

/// Parses what the registry holds; what does not parse was not written by us.
pub(crate) fn parsed<T: std::str::FromStr>(column: &str, text: &str) -> Result<T, Failure>
where
    T::Err: std::fmt::Display,
{
    text.parse().map_err(|error| {
        failure::home_corrupt(format!("registry, {column}: {error}")).hint(failure::RECOVER)
    })
}

/// A P-256 key as the registry holds it.
pub(crate) fn key(column: &str, bytes: &[u8]) -> Result<p256::PublicKey, Failure> {
    p256::PublicKey::from_sec1_bytes(bytes)
        .map_err(|_| failure::home_corrupt(format!("registry, {column}: no P-256 key")))
}
