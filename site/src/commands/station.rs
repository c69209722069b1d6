//! `site station`: the stations that may ask this vault over the network.

mod approve;
mod hours;
mod list;
mod request;
mod revoke;

use mintmark_console::{Console, Exit};

use crate::failure::Result;
use crate::place::Place;

/// The verbs.
#[derive(Debug, clap::Subcommand)]
pub(crate) enum Command {
    /// On the station: make its key on its own token, and the request that the vault's operator approves
    Request(request::Arguments),
    /// Let a station in, once its request's fingerprint has been compared
    Approve(approve::Arguments),
    /// Show the stations, and what each may do
    List(list::Arguments),
    /// Shut a station out, from its next request on
    Revoke(revoke::Arguments),
}

impl Command {
    /// Whether it changes nothing, whatever becomes of its output.
    pub(crate) fn only_looks(&self) -> bool {
        match self {
            Self::List(_) => true,
            Self::Request(_) | Self::Approve(_) | Self::Revoke(_) => false,
        }
    }
}

/// Runs the verb.
pub(crate) fn execute(command: &Command, place: &Place<'_>, console: &Console) -> Result<Exit> {
    match command {
        Command::Request(arguments) => request::execute(arguments, console),
        Command::Approve(arguments) => approve::execute(arguments, place, console),
        Command::List(arguments) => list::execute(arguments, place.path(), console),
        Command::Revoke(arguments) => revoke::execute(arguments, place, console),
    }
}
