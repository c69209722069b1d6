//! `site media import | export | inspect DIR`.

mod export;
mod import;
mod inspect;

use std::path::PathBuf;

use mintmark_console::{Align, Console, Exit, Table};
use serde::Serialize;

use super::json;
use crate::failure::{Error, Result};
use crate::place::Place;

/// How many files that did not go well are explained before the rest is only counted.
const EXPLAINED_MAX: usize = 20;

/// The verbs.
#[derive(Debug, clap::Subcommand)]
pub(crate) enum Command {
    /// Take in what headquarters sent: trust manifests, the enrolment grant, entitlements, acknowledgements
    Import(import::Arguments),
    /// Write what goes to headquarters: the enrolment request, or the log
    Export(export::Arguments),
    /// Show what stands on a medium, without changing or believing anything
    Inspect {
        /// The folder at which the medium is mounted
        #[arg(value_name = "DIR")]
        dir: PathBuf,
    },
}

impl Command {
    /// Whether it works on the vault itself.
    pub(crate) fn needs_vault(&self) -> bool {
        !matches!(self, Self::Inspect { .. })
    }

    /// The paths that it names.
    pub(crate) fn paths(&mut self) -> Vec<&mut PathBuf> {
        match self {
            Self::Import(arguments) => vec![&mut arguments.dir],
            Self::Export(arguments) => vec![&mut arguments.dir],
            Self::Inspect { dir } => vec![dir],
        }
    }

    /// Whether it changes nothing.
    pub(crate) fn only_looks(&self) -> bool {
        match self {
            Self::Import(arguments) => arguments.dry_run,
            Self::Export(arguments) => arguments.dry_run,
            Self::Inspect { .. } => true,
        }
    }
}

/// Runs a verb.
pub(crate) fn execute(command: &Command, place: &Place<'_>, console: &Console) -> Result<Exit> {
    match command {
        Command::Import(arguments) => import::execute(arguments, place, console),
        Command::Export(arguments) => export::execute(arguments, place, console),
        Command::Inspect { dir } => inspect::execute(dir, console),
    }
}

/// One file, and what came of it.
#[derive(Debug, Serialize)]
struct Item {
    file: String,
    r#type: String,
    /// None where it could not be told.
    id: Option<String>,
    outcome: &'static str,
    code: Option<String>,
    message: Option<String>,
    hint: Option<String>,
    #[serde(skip)]
    error: Option<Error>,
}

impl Item {
    fn new(
        file: String,
        r#type: String,
        id: String,
        outcome: &'static str,
        error: Option<Error>,
    ) -> Self {
        let failure = error.as_ref().map(Error::failure);
        Self {
            r#type,
            id: Some(id).filter(|id| !id.is_empty()),
            outcome,
            code: failure.map(|failure| failure.code.to_string()),
            message: failure.map(|failure| failure.message.clone()),
            hint: failure.and_then(|failure| failure.hint.clone()),
            // On its own it has to say which file it is about.
            error: error.map(|error| error.about(&file)),
            file,
        }
    }
}

#[derive(Serialize)]
struct Report<'a> {
    schema: &'static str,
    items: &'a [Item],
}

/// Shows all items, explains those that did not go well, and gives the worst exit.
fn show(items: &[Item], console: &Console) -> Result<Exit> {
    if console.is_json() {
        json(
            console,
            &Report {
                schema: "mintmark/media/1",
                items,
            },
        )?;
    } else if !items.is_empty() {
        let columns = ["file", "type", "id", "outcome", "code"].map(|name| (name, Align::Left));
        let mut table = Table::new(columns);
        for item in items {
            table.row([
                item.file.as_str(),
                &item.r#type,
                item.id.as_deref().unwrap_or_default(),
                item.outcome,
                item.code.as_deref().unwrap_or_default(),
            ]);
        }
        console.table(&table);
    }
    let mut exit = Exit::Done;
    let mut unexplained = 0;
    for (at, error) in items
        .iter()
        .filter_map(|item| item.error.as_ref())
        .enumerate()
    {
        if at < EXPLAINED_MAX {
            console.report(error.failure());
        } else {
            unexplained += 1;
        }
        exit = exit.worst(error.exit());
    }
    if unexplained > 0 {
        console.warn(format!(
            "{unexplained} more files did not go well; `--json` says why of each"
        ));
    }
    Ok(exit)
}
