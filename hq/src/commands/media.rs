//! `hq media`: sticks and other media that go back and forth. They are hostile: no link is followed, sizes are capped,
//! and a name proves nothing.

use std::path::{Path, PathBuf};

use clap::Subcommand;
use mintmark_console::{Align, Console, Exit, Failure, Table};

use crate::import::RefusedThere;

mod export;
mod import;
mod inspect;
pub(crate) mod manifests;
pub(crate) mod stick;

/// How many files that did not go well are explained before the rest is only counted.
const EXPLAINED_MAX: usize = 20;

/// Sticks and other media that go back and forth.
#[derive(Debug, Subcommand)]
pub(super) enum Media {
    /// Take in what vaults and officers sent: audit bundles, approvals, enrolment requests.
    Import {
        /// The stick, or any folder with a folder `mintmark` in it.
        dir: PathBuf,
        /// Verify everything and change nothing.
        #[arg(long)]
        dry_run: bool,
    },
    /// Write everything that is owed to vaults and officers.
    Export {
        /// The stick, or any folder.
        dir: PathBuf,
        /// Say what would be written and change nothing.
        #[arg(long)]
        dry_run: bool,
    },
    /// Say what is on a stick, believing none of it.
    Inspect {
        /// The stick, or any folder with a folder `mintmark` in it.
        dir: PathBuf,
    },
}

impl Media {
    pub(super) fn run(self, home: Option<&Path>, console: &Console) -> Result<Exit, Failure> {
        match self {
            Self::Import { dir, dry_run } => import::run(home, &dir, dry_run, console),
            Self::Export { dir, dry_run } => export::run(home, &dir, dry_run, console),
            Self::Inspect { dir } => inspect::run(&dir, console),
        }
    }
}

/// What became of one file.
struct Item {
    file: String,
    kind: String,
    id: String,
    outcome: &'static str,
    failure: Option<Failure>,
    /// Of a bundle: how many findings it brought. One that has any is imported all the same, and they count.
    findings: Option<u64>,
    /// Of a bundle: what was sent to the vault and is not in force there.
    refused_there: Vec<RefusedThere>,
    /// What more there is to say of an outcome that is none to worry about.
    note: Option<&'static str>,
}

impl Item {
    fn exit(&self) -> Exit {
        match &self.failure {
            Some(failure) => failure.exit,
            None if self.has_findings() => Exit::Negative,
            None => Exit::Done,
        }
    }

    fn code(&self) -> Option<&str> {
        match &self.failure {
            Some(failure) => Some(failure.code.as_ref()),
            None => self.has_findings().then_some("FINDINGS"),
        }
    }

    fn has_findings(&self) -> bool {
        self.findings.is_some_and(|findings| findings > 0)
    }
}

/// Says what became of every file; the worst outcome is the command's.
fn say_items(items: &[Item], console: &Console) -> Result<Exit, Failure> {
    let exit = items
        .iter()
        .fold(Exit::Done, |exit, item| exit.worst(item.exit()));
    if console.is_json() {
        let listed: Vec<_> = items
            .iter()
            .map(|item| {
                let failure = item.failure.as_ref();
                let mut json = serde_json::json!({
                    "file": item.file,
                    "type": item.kind,
                    "id": item.id,
                    "outcome": item.outcome,
                    "code": item.code(),
                    "message": failure.map(|failure| failure.message.as_str()),
                    "hint": failure.and_then(|failure| failure.hint.as_deref()),
                });
                if let Some(findings) = item.findings {
                    json["findings"] = findings.into();
                }
                if let Some(note) = item.note {
                    json["note"] = note.into();
                }
                if !item.refused_there.is_empty() {
                    let refused = item.refused_there.iter().map(|refused| {
                        serde_json::json!({
                            "type": refused.kind,
                            "id": refused.id,
                            "version": refused.version,
                            "code": refused.code,
                            "approve_again": refused.approve_again,
                            "draft_again": refused.draft_again,
                        })
                    });
                    json["refused_by_vault"] = refused.collect();
                }
                json
            })
            .collect();
        super::say(
            console,
            &serde_json::json!({ "schema": "mintmark/media/1", "items": listed }),
            [],
        )?;
        report(items, console);
        return Ok(exit);
    }
    let mut table =
        Table::new(["FILE", "TYPE", "ID", "OUTCOME", "CODE"].map(|header| (header, Align::Left)));
    for item in items {
        let code = item.code().unwrap_or_default();
        let outcome = match item.note {
            Some(note) => format!("{}, {note}", item.outcome),
            None => item.outcome.to_owned(),
        };
        // An id that stands in the name of its file is not said twice.
        let id = if item.file.contains(&item.id) {
            ""
        } else {
            &item.id
        };
        table.row([&*item.file, &item.kind, id, &outcome, code].map(str::to_owned));
    }
    if items.is_empty() {
        console.line("nothing to do");
    } else {
        console.table(&table);
    }
    report(items, console);
    Ok(exit)
}

/// Explains what did not go well, and with which file.
fn report(items: &[Item], console: &Console) {
    let mut unexplained: usize = 0;
    let failed = items
        .iter()
        .filter_map(|item| Some((item, item.failure.as_ref()?)));
    for (at, (item, failure)) in failed.enumerate() {
        if at < EXPLAINED_MAX {
            let mut failure = failure.clone();
            failure.message = format!("{}: {}", item.file, failure.message);
            console.report(&failure);
        } else {
            unexplained += 1;
        }
    }
    if unexplained > 0 {
        console.warn(format!(
            "{unexplained} more files did not go well; `--json` says why of each"
        ));
    }
}
