//! `hq audit verify` of a grant: the record, judged on the auditor's own machine.

use std::path::Path;

use mintmark_console::time::rfc3339;
use mintmark_console::{Console, Exit, Failure};
use mintmark_keys::UnparsedKeyUri;
use mintmark_protocol::identifier::Fingerprint;
use rusqlite::Connection;
use serde_json::{Value, json};

use crate::audit_grant::{self, Received};
use crate::commands::say;
use crate::config::absolute;
use crate::failure;
use crate::home::Home;
use crate::registry::vaults::Vault;
use crate::registry::{bundles, devices, findings, vaults};
use crate::report::{Query, Report};

pub(super) fn run(
    home: Option<&Path>,
    file: &Path,
    fingerprint: Option<Fingerprint>,
    keys: Option<&UnparsedKeyUri>,
    console: &Console,
) -> Result<Exit, Failure> {
    let missing = |what: &str| {
        failure::usage(
            "USAGE",
            format!(
                "{} is what an auditor was granted, and {what} is not given",
                file.display()
            ),
            "hq audit verify FILE --fingerprint TRUST --keys URI --home DIR, on the auditor's machine",
        )
    };
    let fingerprint = fingerprint.ok_or_else(|| missing("--fingerprint"))?;
    let keys = keys.ok_or_else(|| missing("--keys"))?;
    let uri = absolute(&keys.parse().map_err(failure::keys)?)?;
    let path = Home::path(home)?;
    let received = audit_grant::receive(file, &fingerprint, &uri, &path, console)?;
    let home = Home::read_hq(Some(&path))?;
    let registry = home.registry()?;
    let sql = &registry.sql;
    let vaults = vaults::all(sql)?;
    let heads: Result<Vec<Head>, Failure> =
        vaults.iter().map(|vault| Head::of(sql, vault)).collect();
    let heads = heads?;
    let query = Query {
        period: received.period,
        ..Query::default()
    };
    let report = Report::new(sql, &home.config.name, query)?;
    let same = received.differences.is_empty();
    let json = json!({
        "schema": "mintmark/audit-verify/1",
        "file": file.display().to_string(),
        "fingerprint": received.fingerprint.to_string(),
        "made_at": rfc3339(received.made_at),
        "home": path.display().to_string(),
        "hq_name": home.config.name,
        "from": received.period.since.map(|day| day.to_string()),
        "to": received.period.as_of.map(|day| day.to_string()),
        "vaults": heads.iter().map(Head::json).collect::<Vec<_>>(),
        "records": sum(&heads, |head| head.records),
        "certificates": sum(&heads, |head| head.certificates),
        "acknowledgements": received.acknowledgements,
        "balanced": report.balanced(),
        "findings": report.findings.iter().map(crate::findings::Finding::to_json).collect::<Vec<_>>(),
        "same_as_headquarters": same,
        "findings_compared": received.findings_compared,
        "findings_not_compared": received.findings_left_out,
        "differences": received.differences,
    });
    say(console, &json, lines(&received, &heads, &report, &path))?;
    Ok(match same && report.is_clean() {
        true => Exit::Done,
        false => Exit::Negative,
    })
}

fn sum(heads: &[Head], count: impl Fn(&Head) -> u64) -> u64 {
    heads.iter().map(count).fold(0, u64::saturating_add)
}

fn lines(received: &Received, heads: &[Head], report: &Report, path: &Path) -> Vec<String> {
    let mut lines = vec![
        format!(
            "grant        {}, of {}",
            received.fingerprint,
            rfc3339(received.made_at)
        ),
        format!("of           {}; {}", report.hq_name, received.period),
        format!(
            "verified     {} records and {} certificates of {} vaults",
            sum(heads, |head| head.records),
            sum(heads, |head| head.certificates),
            heads.len()
        ),
    ];
    lines.extend(heads.iter().map(Head::line));
    lines.push(format!(
        "acknowledged {} times by headquarters, each compared with the log",
        received.acknowledgements
    ));
    lines.push(format!("books        {}", report.summary()));
    for finding in report.findings.iter().take(20) {
        lines.push(format!(
            "  {:<9}  {}: {}",
            finding.severity, finding.code, finding.text
        ));
    }
    if received.differences.is_empty() {
        let what = match received.findings_compared {
            true => "the same figures and findings as at headquarters",
            false => {
                "the same figures as at headquarters, and the same findings of the records that are here"
            }
        };
        lines.push(format!("comparison   {what}"));
    } else {
        lines.push("comparison   NOT what headquarters says:".to_owned());
        lines.extend(received.differences.iter().map(|one| format!("  {one}")));
    }
    if !received.findings_compared {
        lines.push(format!(
            "not compared {} findings of headquarters, which are of what came after the period or of the day; what was revoked and \
             written off by now",
            received.findings_left_out
        ));
    }
    lines.push(format!(
        "next: hq --home {} reconcile; device show; audit log",
        path.display()
    ));
    lines
}

/// What is here of one vault.
struct Head {
    vault: Vault,
    bundles: usize,
    records: u64,
    certificates: u64,
    findings: usize,
    newest: Option<bundles::Held>,
    acknowledged: Option<bundles::Held>,
}

impl Head {
    fn of(sql: &Connection, vault: &Vault) -> Result<Self, Failure> {
        let name = &vault.name;
        let held = bundles::of_vault(sql, name)?;
        let newest = held.last().cloned();
        let mut findings = findings::all(sql, Some(&name.site))?;
        findings.retain(|finding| finding.vault == *name);
        Ok(Self {
            vault: vault.clone(),
            bundles: held.len(),
            records: newest.as_ref().map_or(0, |newest| newest.log_size),
            certificates: devices::certificates(sql, name)?,
            findings: findings.len(),
            acknowledged: held.into_iter().rfind(|held| held.acknowledged),
            newest,
        })
    }

    fn json(&self) -> Value {
        let head = |held: &bundles::Held| {
            json!({
                "lineage": held.lineage.to_string(),
                "sequence": held.sequence,
                "log_size": held.log_size,
                "log_root": held.log_root.to_string(),
            })
        };
        json!({
            "site": self.vault.name.site.as_str(),
            "vault": self.vault.name.vault.as_str(),
            "bundles": self.bundles,
            "records": self.records,
            "certificates": self.certificates,
            "findings": self.findings,
            "head": self.newest.as_ref().map(head),
            "acknowledged": self.acknowledged.as_ref().map(head),
        })
    }

    fn line(&self) -> String {
        let name = &self.vault.name;
        match &self.newest {
            None => format!("  {name}  nothing was reported yet"),
            Some(newest) => format!(
                "  {name}  {} bundles, {} records, {} certificates; root {}",
                self.bundles, self.records, self.certificates, newest.log_root
            ),
        }
    }
}
