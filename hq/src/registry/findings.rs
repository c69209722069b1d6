//! What was found, each once.

use mintmark_console::Failure;
use mintmark_protocol::identifier::{Fingerprint, SiteId, VaultName};
use rusqlite::{Connection, Row, params};

use super::devices::Unit;
use super::parsed;
use crate::failure;
use crate::findings::{Finding, kinds};

const COLUMNS: &str = "site, vault, lineage, log_sequence, code, severity, text, serials, evidence";
/// Stands for no record, since a null would be another one each time.
const NO_RECORD: i64 = -1;

/// Adds a finding, unless it is there. Returns whether it is new.
pub(crate) fn add(sql: &Connection, finding: &Finding, now: u64) -> Result<bool, Failure> {
    debug_assert!(
        kinds::is_known(&finding.code, finding.severity),
        "docs/findings.md has no {} that is {}",
        finding.code,
        finding.severity
    );
    let sequence = finding.log_sequence.map_or(NO_RECORD, |sequence| {
        i64::try_from(sequence).unwrap_or(i64::MAX)
    });
    let mut statement = sql
        .prepare_cached(
            "INSERT INTO findings (site, vault, lineage, log_sequence, code, severity, text, serials, evidence,
                 found_at)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10)
             ON CONFLICT (site, vault, lineage, log_sequence, code, evidence) DO NOTHING",
        )
        .map_err(failure::sql)?;
    let added = statement
        .execute(params![
            finding.vault.site.as_str(),
            finding.vault.vault.as_str(),
            finding.lineage.to_string(),
            sequence,
            finding.code,
            finding.severity.as_str(),
            finding.text,
            finding.serials.join(" "),
            finding.evidence.to_string(),
            now,
        ])
        .map_err(failure::sql)?;
    if added > 0 {
        index(sql, sql.last_insert_rowid(), finding)?;
    }
    Ok(added > 0)
}

/// Stands in the index of serials for those that a finding concerns and does not name.
const MORE: &str = "*";

/// Notes which serials a finding is to be found by.
fn index(sql: &Connection, id: i64, finding: &Finding) -> Result<(), Failure> {
    let mut statement = sql
        .prepare_cached(
            "INSERT INTO finding_serials (serial, finding) VALUES (?1, ?2) ON CONFLICT (serial, finding) DO NOTHING",
        )
        .map_err(failure::sql)?;
    let more = finding.evidence.get("more_from").map(|_| MORE);
    for serial in finding.serials.iter().map(String::as_str).chain(more) {
        statement
            .execute(params![serial, id])
            .map_err(failure::sql)?;
    }
    Ok(())
}

/// Notes which serials every finding is to be found by.
pub(super) fn index_serials(sql: &Connection) -> Result<(), Failure> {
    let query = format!("SELECT {COLUMNS}, id FROM findings");
    let mut statement = sql.prepare(&query).map_err(failure::sql)?;
    let mut rows = statement.query([]).map_err(failure::sql)?;
    while let Some(row) = rows.next().map_err(failure::sql)? {
        index(sql, row.get(9).map_err(failure::sql)?, &read(row)?)?;
    }
    Ok(())
}

/// Takes back findings of these codes that name a fingerprint: what they said has been explained since. Returns how many.
pub(crate) fn withdraw(
    sql: &Connection,
    codes: &[&str],
    fingerprint: &Fingerprint,
) -> Result<u64, Failure> {
    let mut count = 0;
    for code in codes {
        let gone = sql.execute(
            "DELETE FROM findings WHERE code = ?1 AND evidence LIKE '%' || ?2 || '%'",
            [*code, fingerprint.to_string().as_str()],
        );
        count += gone.map_err(failure::sql)? as u64;
    }
    Ok(count)
}

/// Takes back every finding of a vault that has this code, as it is over.
pub(crate) fn close(sql: &Connection, vault: &VaultName, code: &str) -> Result<(), Failure> {
    sql.execute(
        "DELETE FROM findings WHERE site = ?1 AND vault = ?2 AND code = ?3",
        [vault.site.as_str(), vault.vault.as_str(), code],
    )
    .map_err(failure::sql)?;
    Ok(())
}

/// Every finding of a site, or of all, by vault and record.
pub(crate) fn all(sql: &Connection, site: Option<&SiteId>) -> Result<Vec<Finding>, Failure> {
    let query = format!(
        "SELECT {COLUMNS} FROM findings WHERE ?1 IS NULL OR site = ?1
         ORDER BY site, vault, log_sequence, id"
    );
    select(sql, &query, [site.map(SiteId::as_str)])
}

/// The findings of a vault that have this code.
pub(crate) fn of_code(
    sql: &Connection,
    vault: &VaultName,
    code: &str,
) -> Result<Vec<Finding>, Failure> {
    let query = format!(
        "SELECT {COLUMNS} FROM findings WHERE site = ?1 AND vault = ?2 AND code = ?3 ORDER BY id"
    );
    let names = [vault.site.as_str(), vault.vault.as_str(), code];
    select(sql, &query, names)
}

/// When each finding of a vault was made, Unix seconds, with its evidence, in that order.
pub(crate) fn times(sql: &Connection, vault: &VaultName) -> Result<Vec<(String, u64)>, Failure> {
    let mut statement = sql
        .prepare(
            "SELECT evidence, found_at FROM findings WHERE site = ?1 AND vault = ?2 ORDER BY id",
        )
        .map_err(failure::sql)?;
    let rows = statement
        .query_map([vault.site.as_str(), vault.vault.as_str()], |row| {
            Ok((row.get(0)?, row.get(1)?))
        })
        .map_err(failure::sql)?;
    rows.map(|row| row.map_err(failure::sql)).collect()
}

/// The findings of a vault about records from `first` up to, not including, `end`.
pub(crate) fn of_records(
    sql: &Connection,
    vault: &VaultName,
    first: u64,
    end: u64,
) -> Result<Vec<Finding>, Failure> {
    let query = format!(
        "SELECT {COLUMNS} FROM findings
         WHERE site = ?1 AND vault = ?2 AND log_sequence >= ?3 AND log_sequence < ?4 ORDER BY log_sequence, id"
    );
    let names = (vault.site.as_str(), vault.vault.as_str());
    select(sql, &query, params![names.0, names.1, first, end])
}

/// The findings of a vault about no single record that name a bundle, as one of two that contradict each other say.
pub(crate) fn naming_bundle(
    sql: &Connection,
    vault: &VaultName,
    bundle: &Fingerprint,
) -> Result<Vec<Finding>, Failure> {
    let bundle = bundle.to_string();
    let names = |finding: &Finding| {
        let evidence = finding.evidence.as_object();
        evidence.is_some_and(|evidence| evidence.values().any(|value| *value == *bundle))
    };
    let mut found = all(sql, Some(&vault.site))?;
    found.retain(|finding| {
        finding.vault == *vault && finding.log_sequence.is_none() && names(finding)
    });
    Ok(found)
}

/// The findings that concern a unit: those that name the serial of its certificate, hexadecimal, and those that concern more
/// than they name.
pub(crate) fn about(sql: &Connection, unit: &Unit, serial: &str) -> Result<Vec<Finding>, Failure> {
    let mut found = naming(sql, serial)?;
    let mut more = having_more(sql, &unit.vault)?;
    more.retain(|finding| finding.has_more(unit) && !found.contains(finding));
    found.append(&mut more);
    Ok(found)
}

/// The findings of a vault that concern more certificates than they name.
pub(crate) fn having_more(sql: &Connection, vault: &VaultName) -> Result<Vec<Finding>, Failure> {
    let mut more = naming(sql, MORE)?;
    more.retain(|finding| finding.vault == *vault);
    Ok(more)
}

/// The findings that name a serial.
pub(super) fn naming(sql: &Connection, serial: &str) -> Result<Vec<Finding>, Failure> {
    let query = format!(
        "SELECT {COLUMNS} FROM findings WHERE id IN (SELECT finding FROM finding_serials WHERE serial = ?1) ORDER BY id"
    );
    select(sql, &query, [serial])
}

fn select(
    sql: &Connection,
    query: &str,
    parameters: impl rusqlite::Params,
) -> Result<Vec<Finding>, Failure> {
    let mut statement = sql.prepare(query).map_err(failure::sql)?;
    let mut rows = statement.query(parameters).map_err(failure::sql)?;
    let mut findings = Vec::new();
    while let Some(row) = rows.next().map_err(failure::sql)? {
        findings.push(read(row)?);
    }
    Ok(findings)
}

fn read(row: &Row<'_>) -> Result<Finding, Failure> {
    let text = |column: usize| row.get::<_, String>(column).map_err(failure::sql);
    let sequence: i64 = row.get(3).map_err(failure::sql)?;
    Ok(Finding {
        vault: VaultName {
            site: parsed("site", &text(0)?)?,
            vault: parsed("vault", &text(1)?)?,
        },
        lineage: parsed("lineage", &text(2)?)?,
        log_sequence: u64::try_from(sequence).ok(),
        code: text(4)?,
        severity: parsed("severity", &text(5)?)?,
        text: text(6)?,
        serials: text(7)?.split_whitespace().map(str::to_owned).collect(),
        evidence: parsed("evidence", &text(8)?)?,
    })
}
