//! `site recover`: whatever an interruption left is completed, and what follows from the log is made again if need be.

use std::path::Path;

use mintmark_console::{Console, Exit};
use serde::Serialize;

use super::json;
use crate::failure::Result;
use crate::home::Home;
use crate::vault::Vault;

/// What `site recover` is told.
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// Make the index again from the log, even if it seems to be in order
    #[arg(long)]
    rebuild: bool,
}

#[derive(Serialize)]
struct Report {
    schema: &'static str,
    index_rebuilt: Option<String>,
    torn_bytes: u64,
    completed: usize,
    unresolved: usize,
    log_size: u64,
}

/// Recovers.
pub(crate) fn execute(
    arguments: &Arguments,
    home: Option<&Path>,
    console: &Console,
) -> Result<Exit> {
    let home = Home::open(home)?;
    let mut vault = match arguments.rebuild {
        true => Vault::open_rebuilding(home, console)?,
        false => Vault::open(home, console)?,
    };
    let completion = vault.complete_unfinished()?;
    let report = Report {
        schema: "mintmark/recover/1",
        index_rebuilt: vault.opened().index_rebuilt.clone(),
        torn_bytes: vault.opened().torn_bytes,
        completed: completion.completed,
        unresolved: vault.state().reservations().len(),
        log_size: vault.state().size(),
    };
    vault.close()?;
    if console.is_json() {
        json(console, &report)?;
    } else {
        console.line(format!(
            "{} completed, {} unresolved, {} records in the log",
            report.completed, report.unresolved, report.log_size
        ));
    }
    completion.failed.map_or(Ok(Exit::Done), Err)
}
