//! `site log prune`.

use mintmark_console::time::rfc3339;
use mintmark_console::{Console, Exit};
use serde::Serialize;

use super::json;
use crate::failure::Result;
use crate::place::Place;
use crate::vault::prune::Pruned;

/// The verbs.
#[derive(Debug, clap::Subcommand)]
pub(crate) enum Command {
    /// Let go of requests and certificates in the log that headquarters holds, after the days that officers approved
    Prune(Arguments),
}

/// What `site log prune` is told.
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// Say what would go, and change nothing
    #[arg(long)]
    dry_run: bool,
    /// The vault's name, SITE/VAULT, where there is no terminal to type it on
    #[arg(long, value_name = "SITE/VAULT")]
    confirm: Option<String>,
}

impl Command {
    pub(crate) fn only_looks(&self) -> bool {
        let Self::Prune(arguments) = self;
        arguments.dry_run
    }
}

#[derive(Serialize)]
struct Report {
    schema: &'static str,
    site: String,
    vault: String,
    retention_days: u64,
    /// Records that headquarters holds, as far as this vault knows.
    held: u64,
    /// How many records gave way.
    records: u64,
    /// Which: from this one to the one before `end`; none where nothing did.
    first: Option<u64>,
    end: Option<u64>,
    /// The time of the newest of them.
    newest: Option<String>,
    log_bytes_before: u64,
    log_bytes: u64,
    dry_run: bool,
}

/// Runs a verb.
pub(crate) fn execute(command: &Command, place: &Place<'_>, console: &Console) -> Result<Exit> {
    let Command::Prune(arguments) = command;
    let name = place.home()?.config().vault.clone();
    if !arguments.dry_run {
        let what = format!(
            "let go, for good, of requests and certificates in the log of {name} that headquarters holds"
        );
        console.confirm_identifier(&what, &name.to_string(), arguments.confirm.as_deref())?;
    }
    let mut vault = place.open(console)?;
    let pruned = if arguments.dry_run {
        vault.rehearse(|vault| vault.prunable())?
    } else {
        let pruned = vault.with(|vault| vault.prune())?;
        vault.close()?;
        pruned
    };
    let Pruned { records, .. } = pruned;
    let report = Report {
        schema: "mintmark/log/1",
        site: name.site.to_string(),
        vault: name.vault.to_string(),
        retention_days: pruned.retention_days,
        held: pruned.held,
        records: records.map_or(0, |records| records.end.saturating_sub(records.first)),
        first: records.map(|records| records.first),
        end: records.map(|records| records.end),
        newest: records.map(|records| rfc3339(records.newest)),
        log_bytes_before: pruned.bytes_before,
        log_bytes: pruned.bytes,
        dry_run: arguments.dry_run,
    };
    if console.is_json() {
        return json(console, &report);
    }
    show(&report, console);
    Ok(Exit::Done)
}

fn show(report: &Report, console: &Console) {
    let Report {
        records,
        retention_days,
        held,
        ..
    } = report;
    match (&report.newest, report.dry_run) {
        (None, _) => console.line(format!(
            "nothing to prune: headquarters holds {held} records, and none that is whole is {retention_days} days old"
        )),
        (Some(newest), true) => console.line(format!(
            "would prune {records} records, the newest of {newest}"
        )),
        (Some(newest), false) => {
            console.line(format!("pruned {records} records, the newest of {newest}"));
            let (before, after) = (report.log_bytes_before, report.log_bytes);
            console.line(format!("the log takes {after} bytes instead of {before}"));
        }
    }
    if report.dry_run {
        console.note("nothing was changed");
    }
}
