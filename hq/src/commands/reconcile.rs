//! `hq reconcile`: what was granted, held against what was made.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use clap::{Args, ValueEnum};
use mintmark_console::time::rfc3339;
use mintmark_console::{Align, Console, Exit, Failure, Table, files, printable};
use mintmark_protocol::identifier::{SiteId, VaultName};
use rusqlite::Connection;
use serde_json::{Value, json};

use crate::certified_again::CertifiedAgain;
use crate::failure;
use crate::findings::{Finding, Severity};
use crate::home::Home;
use crate::registry::accounts::{self, Account};
use crate::registry::{bundles, findings, vaults};

mod leftover;

/// Hold what was granted against what was made, and say what does not fit.
#[derive(Debug, Args)]
pub(super) struct Reconcile {
    /// One site; all if none is given.
    #[arg(long, value_name = "S")]
    site: Option<SiteId>,
    /// How to show it: as a table unless --json is given.
    #[arg(long, value_enum)]
    format: Option<Format>,
    /// A file to write it to, in place of standard output.
    #[arg(long, value_name = "F")]
    output: Option<PathBuf>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Format {
    /// For people.
    Table,
    /// The same as --json.
    Json,
    /// One row for each account, then one for each finding.
    Csv,
}

/// What there is to say.
struct Report {
    accounts: Vec<Account>,
    /// The accounts, by vault and tag, of entitlements that their vaults know to be revoked.
    revoked: BTreeSet<(VaultName, u64)>,
    findings: Vec<Finding>,
    /// The time of the newest checkpoint, Unix seconds.
    as_of: Option<u64>,
}

impl Reconcile {
    pub(super) fn run(self, home: Option<&Path>, console: &Console) -> Result<Exit, Failure> {
        let format = self.format(console)?;
        let home = Home::read_hq(home)?;
        let registry = home.registry()?;
        let report = Report::new(&registry.sql, self.site.as_ref())?;
        let said = match (&self.output, format) {
            (None, Format::Json) => console.json(&report.to_json()),
            (None, Format::Table) => {
                report.show(console);
                Ok(())
            }
            (None, Format::Csv) => console.write_data(report.to_csv().as_bytes()),
            (Some(output), format) => {
                let text = match format {
                    Format::Json => format!("{:#}\n", report.to_json()),
                    Format::Table => report.to_text(),
                    Format::Csv => report.to_csv(),
                };
                files::write_replace(output, text.as_bytes())?;
                if console.is_json() {
                    console.json(&json!({
                        "schema": "mintmark/reconcile/1",
                        "file": output.display().to_string(),
                        "balanced": report.balanced(),
                        "findings": report.findings.len(),
                    }))
                } else {
                    console.note(format!("{}: {}", output.display(), report.summary()));
                    Ok(())
                }
            }
        };
        said.map_err(|error| Failure::output(&error))?;
        Ok(report.exit())
    }
}

impl Reconcile {
    /// How to show it. A reader of JSON is not given anything else.
    fn format(&self, console: &Console) -> Result<Format, Failure> {
        match self.format {
            Some(Format::Table | Format::Csv) if console.is_json() => Err(failure::usage(
                "USAGE",
                "--json and --format ask for two different formats",
                "leave out one of them",
            )),
            None if console.is_json() => Ok(Format::Json),
            format => Ok(format.unwrap_or(Format::Table)),
        }
    }
}

impl Report {
    fn new(sql: &Connection, site: Option<&SiteId>) -> Result<Self, Failure> {
        if let Some(site) = site
            && !vaults::all(sql)?
                .iter()
                .any(|vault| vault.name.site == *site)
        {
            return Err(failure::usage(
                "SITE-UNKNOWN",
                format!("there is no site `{site}`"),
                "`hq site list` shows which there are",
            ));
        }
        let accounts = accounts::all(sql, site)?;
        let mut findings = findings::all(sql, site)?;
        CertifiedAgain::new(sql).explain(&mut findings)?;
        findings.extend(leftover::unresolved(sql, &accounts)?);
        Ok(Self {
            revoked: leftover::revoked(sql, &accounts)?,
            accounts,
            findings,
            as_of: bundles::as_of(sql, site)?,
        })
    }

    fn balanced(&self) -> bool {
        self.accounts.iter().all(Account::balances)
    }

    fn exit(&self) -> Exit {
        if self.balanced() && !self.findings.iter().any(Finding::counts) {
            Exit::Done
        } else {
            Exit::Negative
        }
    }

    fn to_json(&self) -> Value {
        let accounts: Vec<_> = self
            .accounts
            .iter()
            .map(|account| {
                let mut row = json!({
                    "site": account.vault.site.as_str(),
                    "vault": account.vault.vault.as_str(),
                    "product": account.sku.as_str(),
                    "entitlement": account.entitlement.as_str(),
                    "authorised": account.authorised,
                    "good": account.good,
                    "scrapped": account.scrapped,
                    "voided": account.voided,
                    "unresolved": account.unresolved,
                    "unspent": account.unspent(),
                });
                // Of a vault that was replaced; any other's accounts are as the vault itself states them.
                if account.was_written_off() {
                    row["written_off"] = account.written_off.into();
                    row["used_after_all"] = account.used_after_all.into();
                }
                if self.is_revoked(account) {
                    row["revoked"] = true.into();
                }
                row
            })
            .collect();
        json!({
            "schema": "mintmark/reconcile/1",
            "as_of": self.as_of.map(rfc3339),
            "balanced": self.balanced(),
            "accounts": accounts,
            "findings": self.findings.iter().map(Finding::to_json).collect::<Vec<_>>(),
        })
    }

    fn summary(&self) -> String {
        let count = |severity| {
            let of = |finding: &&Finding| finding.severity == severity;
            self.findings.iter().filter(of).count()
        };
        let mut counted: Vec<String> = [
            Severity::Critical,
            Severity::Major,
            Severity::Minor,
            Severity::Note,
        ]
        .into_iter()
        .filter(|severity| count(*severity) > 0)
        .map(|severity| format!("{} {severity}", count(severity)))
        .collect();
        if counted.is_empty() {
            counted.push("none".to_owned());
        }
        let as_of = match self.as_of {
            Some(as_of) => format!("as of {}", rfc3339(as_of)),
            None => "nothing was reported yet".to_owned(),
        };
        format!(
            "{} accounts, {}; findings: {}; {as_of}",
            self.accounts.len(),
            if self.balanced() {
                "balanced"
            } else {
                "NOT BALANCED"
            },
            counted.join(", "),
        )
    }

    fn account_table(&self) -> Table {
        let names = ["SITE", "VAULT", "PRODUCT", "ENTITLEMENT"].map(|name| (name, Align::Left));
        let counts = [
            "AUTHORISED",
            "GOOD",
            "SCRAPPED",
            "VOIDED",
            "UNRESOLVED",
            "UNSPENT",
        ]
        .map(|name| (name, Align::Right));
        let mut table = Table::new(names.into_iter().chain(counts));
        for account in &self.accounts {
            table.row(account_cells(account));
        }
        table
    }

    fn finding_table(&self) -> Table {
        let columns = ["SEVERITY", "CODE", "SITE", "VAULT"].map(|name| (name, Align::Left));
        let more = [
            ("RECORD", Align::Right),
            ("WHAT", Align::Left),
            ("SERIALS", Align::Left),
        ];
        let mut table = Table::new(columns.into_iter().chain(more));
        for finding in &self.findings {
            let sequence = finding.log_sequence.map(|at| at.to_string());
            table.row([
                finding.severity.to_string(),
                finding.code.clone(),
                finding.vault.site.to_string(),
                finding.vault.vault.to_string(),
                sequence.unwrap_or_default(),
                finding.text.clone(),
                serials_cell(&finding.serials),
            ]);
        }
        table
    }

    /// What may be granted again, since it was written off with a vault that was replaced.
    fn written_off(&self) -> Vec<String> {
        let accounts = self.accounts.iter();
        accounts
            .filter(|account| account.was_written_off())
            .map(|account| {
                let Account {
                    written_off, sku, ..
                } = account;
                let mut line = format!(
                    "{}: {written_off} units of {sku} in {} are written off with it, and may be granted again to its \
                     successor",
                    account.vault, account.entitlement
                );
                if account.used_after_all > 0 {
                    line += &format!(
                        "; {} more were written off and turned out to be used",
                        account.used_after_all
                    );
                }
                line
            })
            .collect()
    }

    fn is_revoked(&self, account: &Account) -> bool {
        self.revoked.contains(&(account.vault.clone(), account.tag))
    }

    /// What counts as unspent and can no longer be spent.
    fn unspendable(&self) -> Vec<String> {
        let accounts = self.accounts.iter();
        accounts
            .filter(|account| account.unspent() > 0 && self.is_revoked(account))
            .map(|account| {
                format!(
                    "{}: {} unspent units of {} in {} cannot be spent, as the entitlement is revoked",
                    account.vault,
                    account.unspent(),
                    account.sku,
                    account.entitlement
                )
            })
            .collect()
    }

    fn show(&self, console: &Console) {
        console.line(self.summary());
        for line in self.written_off().into_iter().chain(self.unspendable()) {
            console.line(line);
        }
        if !self.accounts.is_empty() {
            console.line("");
            console.table(&self.account_table());
        }
        if !self.findings.is_empty() {
            console.line("");
            console.table(&self.finding_table());
        }
    }

    fn to_text(&self) -> String {
        let mut text = self.summary() + "\n";
        for line in self.written_off().into_iter().chain(self.unspendable()) {
            text += &format!("{line}\n");
        }
        if !self.accounts.is_empty() {
            text += &format!("\n{}", self.account_table());
        }
        if !self.findings.is_empty() {
            text += &format!("\n{}", self.finding_table());
        }
        text
    }

    /// One row for each account, then one for each finding; the first column says which (RFC 4180).
    fn to_csv(&self) -> String {
        const HEADER: &str = "row,site,vault,product,entitlement,authorised,good,scrapped,voided,unresolved,unspent,\
                              code,severity,log_sequence,serials,text\r\n";
        let mut csv = HEADER.to_owned();
        for account in &self.accounts {
            let cells = std::iter::once("account".to_owned()).chain(account_cells(account));
            push_row(&mut csv, cells.chain(std::iter::repeat_n(String::new(), 5)));
        }
        for finding in &self.findings {
            let names = [
                "finding".to_owned(),
                finding.vault.site.to_string(),
                finding.vault.vault.to_string(),
            ];
            let sequence = finding.log_sequence.map(|at| at.to_string());
            let rest = [
                finding.code.clone(),
                finding.severity.to_string(),
                sequence.unwrap_or_default(),
                finding.serials.join(" "),
                finding.text.clone(),
            ];
            let nothing = std::iter::repeat_n(String::new(), 8);
            push_row(&mut csv, names.into_iter().chain(nothing).chain(rest));
        }
        csv
    }
}

/// The first serials, and how many more there are: JSON and CSV name them all.
fn serials_cell(serials: &[String]) -> String {
    const SHOWN: usize = 2;
    let shown: Vec<&str> = serials.iter().take(SHOWN).map(String::as_str).collect();
    match serials.len().saturating_sub(SHOWN) {
        0 => shown.join(" "),
        more => format!("{} +{more} more", shown.join(" ")),
    }
}

fn account_cells(account: &Account) -> [String; 10] {
    [
        account.vault.site.to_string(),
        account.vault.vault.to_string(),
        account.sku.to_string(),
        account.entitlement.to_string(),
        account.authorised.to_string(),
        account.good.to_string(),
        account.scrapped.to_string(),
        account.voided.to_string(),
        account.unresolved.to_string(),
        account.unspent().to_string(),
    ]
}

fn push_row(csv: &mut String, cells: impl Iterator<Item = String>) {
    let cells: Vec<String> = cells.map(cell).collect();
    csv.push_str(&cells.join(","));
    csv.push_str("\r\n");
}

/// A cell, quoted where it has to be. What a spreadsheet would take for a formula or a terminal for a command is made
/// plain text: parts of it come from a factory.
fn cell(text: String) -> String {
    let text = printable(&text).into_owned();
    let text = if text.starts_with(['=', '+', '-', '@', '\t', '\r']) {
        format!("'{text}")
    } else {
        text
    };
    if text.contains([',', '"', '\n', '\r']) {
        format!("\"{}\"", text.replace('"', "\"\""))
    } else {
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn account(authorised: u64, good: u64) -> Account {
        Account {
            vault: mintmark_protocol::identifier::VaultName {
                site: "berlin".parse().unwrap(),
                vault: "v1".parse().unwrap(),
            },
            tag: 1,
            entitlement: "e".parse().unwrap(),
            sku: "TH-200".parse().unwrap(),
            authorised,
            good,
            scrapped: 0,
            voided: 0,
            unresolved: 0,
            written_off: 0,
            used_after_all: 0,
        }
    }

    #[test]
    fn an_account_that_spent_more_than_was_granted_does_not_balance() {
        assert!(account(5, 5).balances());
        assert!(account(5, 0).balances());
        assert!(!account(5, 6).balances());
        assert_eq!(account(5, 6).unspent(), 0);
        assert!(!account(5, u64::MAX).balances());
    }

    #[test]
    fn a_csv_cell_can_neither_break_its_row_nor_be_a_formula() {
        for (text, expected) in [
            ("plain", "plain"),
            ("a,b", "\"a,b\""),
            ("say \"x\"", "\"say \"\"x\"\"\""),
            ("=1+1", "'=1+1"),
            ("@x,y", "\"'@x,y\""),
            ("\u{1b}[2J", "\\u{1b}[2J"),
        ] {
            assert_eq!(cell(text.to_owned()), expected);
        }
    }

    #[test]
    fn every_csv_row_has_as_many_cells_as_the_header() {
        let finding = Finding::of_record(
            &account(1, 0).vault,
            mintmark_protocol::identifier::Lineage::new([1; 16]),
            3,
            "OVER-ISSUE",
            ("a", "b"),
        );
        let report = Report {
            revoked: BTreeSet::new(),
            accounts: vec![account(5, 1)],
            findings: vec![finding],
            as_of: None,
        };
        let counts: Vec<usize> = report
            .to_csv()
            .lines()
            .map(|line| line.split(',').count())
            .collect();
        assert_eq!(counts, [16, 16, 16]);
    }
}
