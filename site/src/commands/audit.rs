//! `site audit list | show | verify | log`.

mod list;
mod log;
mod show;
mod verify;

use std::path::Path;

use mintmark_console::{Console, Exit};
use mintmark_ledger::entry::{Body, BundleSealed, LogSequence};
use mintmark_ledger::ledger::View;

use crate::failure::Result;

/// The verbs.
#[derive(Debug, clap::Subcommand)]
pub(crate) enum Command {
    /// List the bundles that were sealed
    List,
    /// Show one bundle
    Show {
        /// Its number
        #[arg(value_name = "N")]
        sequence: u64,
    },
    /// Read the whole log again, and hold it against every bundle and the state
    Verify,
    /// Show the log
    Log {
        /// The first record to show
        #[arg(long, value_name = "N", default_value_t = 0)]
        from: u64,
    },
}

/// Runs a verb.
pub(crate) fn execute(command: &Command, home: Option<&Path>, console: &Console) -> Result<Exit> {
    match command {
        Command::List => list::execute(home, console),
        Command::Show { sequence } => show::execute(*sequence, home, console),
        Command::Verify => verify::execute(home, console),
        Command::Log { from } => log::execute(*from, home, console),
    }
}

/// Every bundle that the log says was sealed, in order.
fn sealed(view: &View) -> Result<Vec<(u64, BundleSealed)>> {
    let mut sealed = Vec::new();
    for entry in view.entries(LogSequence(0))? {
        let (_, entry) = entry?;
        if let Body::BundleSealed(bundle) = entry.body {
            sealed.push((entry.time, bundle));
        }
    }
    Ok(sealed)
}
