//! `hq media`: sticks and other media that go back and forth. They are hostile: no link is followed, sizes are capped,
//! and a name proves nothing.

use std::path::{Path, PathBuf};

use clap::Subcommand;
use mintmark_console::{Align, Console, Exit, Failure, Table};

mod export;
mod import;
mod inspect;
pub(super) mod stick;

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
    /// What a bundle that was imported shows: it counts, and what it shows does too.
    findings: u64,
}

impl Item {
    fn exit(&self) -> Exit {
        match &self.failure {
            Some(failure) => failure.exit,
            None if self.findings > 0 => Exit::Negative,
            None => Exit::Done,
        }
    }

    fn code(&self) -> Option<&str> {
        match &self.failure {
            Some(failure) => Some(failure.code.as_ref()),
            None => (self.findings > 0).then_some("FINDINGS"),
        }
    }
}

/// Says what became of every file; the worst outcome is the command's.
fn say_items(items: &[Item], console: &Console) -> Result<Exit, Failure> {
    let exit = items
        .iter()
        .fold(Exit::Done, |exit, item| exit.worst(item.exit()));
    if console.is_json() {
        let items: Vec<_> = items
            .iter()
            .map(|item| {
                let failure = item.failure.as_ref();
                serde_json::json!({
                    "file": item.file,
                    "type": item.kind,
                    "id": item.id,
                    "outcome": item.outcome,
                    "code": item.code(),
                    "findings": item.findings,
                    "message": failure.map(|failure| failure.message.as_str()),
                    "hint": failure.and_then(|failure| failure.hint.as_deref()),
                })
            })
            .collect();
        super::say(
            console,
            &serde_json::json!({ "schema": "mintmark/media/1", "items": items }),
            [],
        )?;
        return Ok(exit);
    }
    let mut table =
        Table::new(["OUTCOME", "TYPE", "ID", "FILE"].map(|header| (header, Align::Left)));
    for item in items {
        table.row([item.outcome, &item.kind, &item.id, &item.file].map(str::to_owned));
    }
    if items.is_empty() {
        console.line("nothing to do");
    } else {
        console.table(&table);
    }
    for item in items {
        if let Some(failure) = &item.failure {
            console.report(failure);
        }
    }
    Ok(exit)
}
