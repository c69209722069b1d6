//! `site device`.

mod order;
mod show;

use mintmark_console::{Console, Exit};
use mintmark_ledger::entry::DeviceAction;

use crate::failure::Result;
use crate::place::Place;

pub(crate) use self::show::status as device_status;

/// The verbs.
#[derive(Debug, clap::Subcommand)]
pub(crate) enum Command {
    /// Show every unit that was spent on a device, and what became of its certificates
    Show {
        /// The device's identifier, or the serial number of its certificate
        #[arg(value_name = "ID")]
        id: String,
    },
    /// Say that a device was scrapped: its certificate is revoked, and its unit stays spent
    Scrap(order::Arguments),
    /// Say that a unit never became a device: what it has is revoked or never completed, and it stays spent
    Void(order::Arguments),
    /// Allow a device one more certificate for the unit that it has, for whatever key; the one before is revoked then
    // It undoes nothing, so it does not ask; what was given for an answer counts all the same.
    #[command(mut_arg("confirm", |confirm| confirm.hide(true)))]
    Rework(order::Arguments),
}

impl Command {
    /// Whether it works on the vault itself.
    pub(crate) fn needs_vault(&self) -> bool {
        !matches!(self, Self::Show { .. })
    }

    /// Whether it changes nothing, whatever becomes of its output.
    pub(crate) fn only_looks(&self) -> bool {
        match self {
            Self::Show { .. } => true,
            Self::Scrap(arguments) | Self::Void(arguments) | Self::Rework(arguments) => {
                arguments.dry_run
            }
        }
    }
}

/// Runs a verb.
pub(crate) fn execute(command: &Command, place: &Place<'_>, console: &Console) -> Result<Exit> {
    let (action, arguments) = match command {
        Command::Show { id } => return show::execute(id, place.path(), console),
        Command::Scrap(arguments) => (DeviceAction::Scrap, arguments),
        Command::Void(arguments) => (DeviceAction::Void, arguments),
        Command::Rework(arguments) => (DeviceAction::Rework, arguments),
    };
    order::execute(action, arguments, place, console)
}
