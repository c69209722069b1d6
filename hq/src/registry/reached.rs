//! How far a registry is, and how far it was known to be: an older copy of it that was put in its place is noticed when it is
//! opened, and not when headquarters has sent another thing in the place of one that it forgot.

use std::path::Path;

use mintmark_console::{Exit, Failure, files};
use rusqlite::{Connection, OpenFlags};

use super::Registry;
use crate::failure;

pub(crate) mod contents;

/// The mark in the record.
const FILE: &str = "record/reached";
const BYTES_MAX: u64 = 4096;

/// What only ever grows, table by table.
const GROWING: [(&str, &str); 12] = [
    ("dispatches", "SELECT MAX(rowid) FROM dispatches"),
    ("bundles", "SELECT MAX(rowid) FROM bundles"),
    ("restores", "SELECT MAX(number) FROM restores"),
    (
        "trust manifests",
        "SELECT MAX(version) FROM trust_manifests",
    ),
    ("drafts", "SELECT COUNT(*) FROM drafts"),
    ("approvals", "SELECT COUNT(*) FROM approvals"),
    ("officers", "SELECT COUNT(*) FROM officers"),
    // Where a vault was replaced, an order for it is sent and nothing is dispatched.
    (
        "sent orders",
        "SELECT COUNT(*) FROM orders WHERE sent_at IS NOT NULL",
    ),
    (
        "granted vaults",
        "SELECT COUNT(*) FROM vaults WHERE granted_at IS NOT NULL",
    ),
    // What comes and goes again is counted each time.
    (
        "changes of officers",
        "SELECT MAX(CAST(value AS INTEGER)) FROM meta WHERE name = 'officer_changes'",
    ),
    (
        "orders that no vault was told of",
        "SELECT MAX(CAST(value AS INTEGER)) FROM meta WHERE name = 'untold_orders'",
    ),
    (
        "refusals",
        "SELECT MAX(CAST(value AS INTEGER)) FROM meta WHERE name = 'refusals'",
    ),
];

/// How many of them the marks of before the last three were counted have.
const FIRST: usize = 9;

/// What a registry counts in `meta`, as nothing else in it only ever grows with it.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Counted {
    /// An officer was listed, or taken off the list.
    OfficerChanges,
    /// An order was sealed that its vault is not told of.
    UntoldOrders,
    /// A bundle was refused.
    Refusals,
}

impl Counted {
    /// Counts one more.
    pub(crate) fn count(self, sql: &Connection) -> Result<(), Failure> {
        let name = match self {
            Self::OfficerChanges => "officer_changes",
            Self::UntoldOrders => "untold_orders",
            Self::Refusals => "refusals",
        };
        let one_more = "INSERT INTO meta (name, value) VALUES (?1, '1')
             ON CONFLICT (name) DO UPDATE SET value = CAST(CAST(value AS INTEGER) + 1 AS TEXT)";
        sql.execute(one_more, [name]).map_err(failure::sql)?;
        Ok(())
    }
}

/// How much there is of each.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Reached([u64; GROWING.len()]);

impl Reached {
    fn of(sql: &Connection) -> Result<Self, Failure> {
        let mut reached = [0; GROWING.len()];
        for ((_, query), count) in GROWING.iter().zip(&mut reached) {
            let found: Option<u64> = sql
                .query_row(query, [], |row| row.get(0))
                .map_err(failure::sql)?;
            *count = found.unwrap_or(0);
        }
        Ok(Self(reached))
    }

    fn text(&self) -> String {
        let counts: Vec<_> = self.0.iter().map(u64::to_string).collect();
        format!("{}\n", counts.join(" "))
    }

    /// The mark of a home; none where there is none, or none that can be read.
    fn marked(home: &Path) -> Option<Self> {
        let text = files::read_limited(home.join(FILE), BYTES_MAX).ok()?;
        let text = String::from_utf8(text).ok()?;
        let mut counts: Vec<u64> = text
            .split_whitespace()
            .map(|count| count.parse().ok())
            .collect::<Option<_>>()?;
        if counts.len() == FIRST {
            counts.resize(GROWING.len(), 0);
        }
        counts.try_into().ok().map(Self)
    }

    /// Marks how far the registry of a home is.
    pub(crate) fn mark(home: &Path) -> Result<(), Failure> {
        let reached = Self::read(home)?;
        let before = Self::marked(home);
        // What is behind the mark is not a registry to go by.
        if before.as_ref() == Some(&reached)
            || before.is_some_and(|before| before.is_beyond(&reached))
        {
            return Ok(());
        }
        Self::write(home, &reached)
    }

    /// Marks it anew, whatever stood there: the registry was made again.
    pub(crate) fn mark_anew(home: &Path) -> Result<(), Failure> {
        Self::write(home, &Self::read(home)?)
    }

    fn read(home: &Path) -> Result<Self, Failure> {
        let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let path = home.join(Registry::FILE);
        let sql = Connection::open_with_flags(path, flags).map_err(failure::sql)?;
        sql.busy_timeout(std::time::Duration::from_secs(10))
            .map_err(failure::sql)?;
        Self::of(&sql)
    }

    /// It lasts when this returns: what a power cut took back of it would let an older registry pass.
    fn write(home: &Path, reached: &Self) -> Result<(), Failure> {
        Ok(files::write_replace(
            home.join(FILE),
            reached.text().as_bytes(),
        )?)
    }

    fn is_beyond(&self, other: &Self) -> bool {
        self.0.iter().zip(other.0).any(|(one, other)| *one > other)
    }

    /// Whether a home has a mark that can be read.
    pub(crate) fn is_marked(home: &Path) -> bool {
        Self::marked(home).is_some()
    }

    /// How much of something the mark of a home says there was, by its name.
    pub(crate) fn count_marked(home: &Path, name: &str) -> Option<u64> {
        let at = GROWING.iter().position(|(known, _)| *known == name)?;
        Self::marked(home)?.0.get(at).copied()
    }

    /// How much there is of each, by its name.
    pub(crate) fn counts(sql: &Connection) -> Result<Vec<(&'static str, u64)>, Failure> {
        let names = GROWING.iter().map(|(name, _)| *name);
        Ok(names.zip(Self::of(sql)?.0).collect())
    }

    /// What a registry lacks of what the mark of a home says that it had: of what, how much there is, and how much there was.
    pub(crate) fn lacking(
        home: &Path,
        sql: &Connection,
    ) -> Result<Vec<(&'static str, u64, u64)>, Failure> {
        let Some(marked) = Self::marked(home) else {
            return Ok(Vec::new());
        };
        let found = Self::of(sql)?;
        Ok(GROWING
            .iter()
            .zip(marked.0.iter().zip(found.0))
            .filter(|(_, (was, is))| **was > *is)
            .map(|((name, _), (was, is))| (*name, is, *was))
            .collect())
    }

    /// Refuses a registry that is known to have been further.
    pub(super) fn expect(home: &Path, sql: &Connection) -> Result<(), Failure> {
        let lacking = Self::lacking(home, sql)?;
        if lacking.is_empty() {
            return Ok(());
        }
        let missing: Vec<_> = lacking
            .iter()
            .map(|(name, is, was)| format!("{name}: {is} of {was}"))
            .collect();
        let message = format!(
            "registry.sqlite is an older copy than the record has had ({})",
            missing.join(", ")
        );
        Err(Failure::new(Exit::Integrity, "REGISTRY-STALE", message).hint(failure::RECOVER))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The file of a registry, with everything in it.
    fn settled(home: &Path) -> Vec<u8> {
        Registry::open(home).unwrap().settle().unwrap();
        std::fs::read(home.join(Registry::FILE)).unwrap()
    }

    #[test]
    fn an_older_registry_is_noticed_though_nothing_was_dispatched_since() {
        let folder = tempfile::tempdir().unwrap();
        let home = folder.path();
        std::fs::create_dir(home.join("record")).unwrap();
        Registry::create(home).unwrap();
        let run = |sql: &str| {
            let registry = Registry::open(home).unwrap();
            registry.sql.execute_batch(sql).unwrap();
            Reached::mark(home).unwrap();
        };
        run("INSERT INTO drafts VALUES ('d', 'i', 'revocation', 's', 'v', 1, 1, 2, 'open');
             INSERT INTO vaults (site, vault, state, request_fingerprint, draft, lineage, signing_key, agreement_key,
                 device_ca_key, key_store, requested_at)
             VALUES ('s', 'v', 'requested', 'r', 'd', 'l', x'01', x'02', x'03', 'k', 1);
             INSERT INTO orders VALUES ('d', 's', 'v', 'revocation', 1, 'draft', NULL, x'04');");
        let steps = [
            "UPDATE vaults SET state = 'granted', granted_at = 2",
            "UPDATE orders SET state = 'sent', sent_at = 3",
        ];
        for step in steps {
            let before = settled(home);
            run(step);
            let after = settled(home);
            let put = |bytes: &[u8]| {
                for name in ["registry.sqlite-wal", "registry.sqlite-shm"] {
                    let _ = std::fs::remove_file(home.join(name));
                }
                std::fs::write(home.join(Registry::FILE), bytes).unwrap();
            };
            put(&before);
            let refused = Registry::open(home).map(drop).unwrap_err();
            assert_eq!(refused.code, "REGISTRY-STALE", "{step}");
            put(&after);
            Registry::open(home).map(drop).unwrap();
        }
    }
}
