//! `site device show`.

mod show;

use std::path::Path;

use mintmark_console::{Console, Exit};

use crate::failure::Result;

/// The verbs.
#[derive(Debug, clap::Subcommand)]
pub(crate) enum Command {
    /// Show every unit that was spent on a device
    Show {
        /// The device's identifier, or the serial number of its certificate
        #[arg(value_name = "ID")]
        id: String,
    },
}

/// Runs a verb.
pub(crate) fn execute(command: &Command, home: Option<&Path>, console: &Console) -> Result<Exit> {
    match command {
        Command::Show { id } => show::execute(id, home, console),
    }
}
