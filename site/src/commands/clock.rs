//! `site clock confirm`: a person says that the clock is right as it is, within bounds.

use clap::Subcommand;
use mintmark_console::time::rfc3339;
use mintmark_console::{Console, Exit};
use serde::Serialize;

use super::{json, now};
use crate::clock::Disbelief;
use crate::failure::{Error, Result};
use crate::place::Place;
use crate::vault::reading::Reading;

/// What `site clock` does.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Confirm that the clock is right as it is, so that issuing goes on
    Confirm(Arguments),
}

impl Command {
    /// Whether it changes nothing.
    pub(crate) fn only_looks(&self) -> bool {
        let Self::Confirm(arguments) = self;
        arguments.dry_run
    }
}

/// What `site clock confirm` is told.
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// Confirm without a prompt, by the vault's name: the time of the log goes on from here, and only officers set it back
    #[arg(long, value_name = "SITE/VAULT")]
    confirm: Option<String>,
    /// Say whether the clock can be confirmed, and change nothing
    #[arg(long)]
    dry_run: bool,
}

#[derive(Serialize)]
struct Report {
    schema: &'static str,
    site: String,
    vault: String,
    /// `confirmed` or `refused`.
    outcome: &'static str,
    /// Why it is refused.
    code: Option<String>,
    /// What the clock says.
    clock: String,
    /// What it should have said, or the latest that it might have; none where it was believed.
    expected: Option<String>,
    /// The newest time of the log, which it goes on from.
    mark: String,
    dry_run: bool,
}

/// Confirms it.
pub(crate) fn execute(command: &Command, place: &Place<'_>, console: &Console) -> Result<Exit> {
    let Command::Confirm(arguments) = command;
    let reading = Reading::open(place.path(), console)?;
    let (state, clocks) = (reading.state(), now());
    let name = reading.facts().name.clone();
    let clock = rfc3339(clocks.clock);
    let expected = Disbelief::of(state, clocks).map(|disbelief| disbelief.expected);
    let (mark, confirmable) = (state.mark(), state.clock_confirmable(clocks));
    drop(reading);
    let (refused, mark) = if arguments.dry_run {
        (confirmable.err(), mark)
    } else {
        if confirmable.is_ok() {
            let what = format!(
                "confirm that it is {clock}: the time of the log goes on from there, and only officers can set it back"
            );
            console.confirm_identifier(&what, &name.to_string(), arguments.confirm.as_deref())?;
        }
        let mut vault = place.open(console)?;
        let confirmed = vault.with(|vault| {
            let refused = vault.confirm_clock()?;
            Ok((refused, vault.state().mark()))
        })?;
        vault.close()?;
        confirmed
    };
    let refused = refused.map(Error::from);
    let report = Report {
        schema: "mintmark/clock/1",
        site: name.site.to_string(),
        vault: name.vault.to_string(),
        outcome: match refused {
            None => "confirmed",
            Some(_) => "refused",
        },
        code: refused.as_ref().map(|error| error.code().to_owned()),
        clock,
        expected: expected.map(rfc3339),
        mark: rfc3339(mark),
        dry_run: arguments.dry_run,
    };
    if console.is_json() {
        json(console, &report)?;
    } else if refused.is_none() {
        console.line(match arguments.dry_run {
            false => format!("confirmed: it is {}; issuing goes on", report.clock),
            true => format!("could be confirmed: {}", report.clock),
        });
    }
    match refused {
        None => Ok(Exit::Done),
        Some(error) => Err(error),
    }
}
