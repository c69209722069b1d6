//! Registries that an older version made, carried over.

use mintmark_console::Failure;
use rusqlite::Connection;

use super::{crls, findings, replays};
use crate::failure;

/// The oldest schema that is carried over.
pub(super) const FIRST: i64 = 7;

/// What schema 8 has beyond 7, as it stands at the end of `schema.sql`'s tables.
const TO_8: &str = include_str!("schema_8.sql");

/// The same of schema 9 beyond 8.
const TO_9: &str = include_str!("schema_9.sql");

/// The same of schema 10 beyond 9.
const TO_10: &str = include_str!("schema_10.sql");

/// Brings a registry of this version to the newest, within the caller's transaction.
pub(super) fn carry_over(sql: &Connection, version: i64) -> Result<(), Failure> {
    // Another process may have done it since this one looked.
    let now: i64 = sql
        .pragma_query_value(None, "user_version", |row| row.get(0))
        .map_err(failure::sql)?;
    if now != version {
        return Ok(());
    }
    if version < 8 {
        sql.execute_batch(TO_8).map_err(failure::sql)?;
        findings::index_serials(sql)?;
    }
    if version < 9 {
        sql.execute_batch(TO_9).map_err(failure::sql)?;
        replays::index_all(sql)?;
    }
    sql.execute_batch(TO_10).map_err(failure::sql)?;
    crls::keep_stated(sql)
}

#[cfg(test)]
mod tests {
    use mintmark_protocol::identifier::{Lineage, VaultName};
    use serde_json::json;

    use super::super::{Registry, SCHEMA};
    use super::*;
    use crate::findings::{Finding, Severity};

    #[test]
    fn a_registry_of_the_oldest_version_is_carried_over_with_its_findings() {
        let home = tempfile::tempdir().unwrap();
        Registry::create(home.path()).unwrap();
        let finding = |serials: &[&str], more: bool| Finding {
            vault: VaultName {
                site: "berlin".parse().unwrap(),
                vault: "v1".parse().unwrap(),
            },
            lineage: Lineage::new([7; 16]),
            log_sequence: Some(serials.len() as u64),
            code: "SLOT-REUSE".to_owned(),
            severity: Severity::Critical,
            serials: serials.iter().map(|serial| (*serial).to_owned()).collect(),
            evidence: if more {
                json!({ "more_from": 1, "more_to": 2 })
            } else {
                json!({})
            },
            text: String::new(),
        };
        let (one, other) = (finding(&["0a", "0b"], false), finding(&["0b"], true));
        {
            let registry = Registry::open(home.path()).unwrap();
            for finding in [&one, &other] {
                assert!(findings::add(&registry.sql, finding, 1).unwrap());
            }
            let before = "DROP TABLE finding_serials; DROP TABLE log_trees; DROP TABLE withdrawals;
                          DROP TABLE device_cas_in_force; DROP TABLE crls_held; PRAGMA user_version = 7";
            registry.sql.execute_batch(before).unwrap();
        }
        for _ in 0..2 {
            let registry = Registry::open(home.path()).unwrap();
            let named = |serial| findings::naming(&registry.sql, serial).unwrap();
            assert_eq!(named("0a"), std::slice::from_ref(&one));
            assert_eq!(named("0b"), [one.clone(), other.clone()]);
            assert_eq!(named("0"), []);
            let more = findings::having_more(&registry.sql, &one.vault).unwrap();
            assert_eq!(more, std::slice::from_ref(&other));
            findings::close(&registry.sql, &one.vault, "NONE").unwrap();
        }
        let registry = Registry::open(home.path()).unwrap();
        findings::close(&registry.sql, &one.vault, "SLOT-REUSE").unwrap();
        let left: u64 = registry
            .sql
            .query_row("SELECT COUNT(*) FROM finding_serials", [], |row| row.get(0))
            .unwrap();
        assert_eq!(left, 0);
        assert!([TO_8, TO_9, TO_10].iter().all(|of| SCHEMA.contains(of)));
    }
}
