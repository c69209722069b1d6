//! `site station`: the stations that may ask this vault over the network.

mod approve;
mod hours;
mod list;
mod request;
mod revoke;
mod rotate_tls;

use std::path::PathBuf;

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
    /// Give the service that stations connect to another key, and a certificate for it
    RotateTls(rotate_tls::Arguments),
}

impl Command {
    /// Whether it works on the vault itself.
    pub(crate) fn needs_vault(&self) -> bool {
        !matches!(self, Self::Request(_) | Self::List(_))
    }

    /// The paths that it names.
    pub(crate) fn paths(&mut self) -> Vec<&mut PathBuf> {
        match self {
            Self::Approve(arguments) => vec![&mut arguments.request, &mut arguments.output],
            _ => Vec::new(),
        }
    }

    /// Whether it changes nothing, whatever becomes of its output.
    pub(crate) fn only_looks(&self) -> bool {
        match self {
            Self::List(_) => true,
            Self::Request(arguments) => arguments.dry_run,
            Self::Approve(arguments) => arguments.dry_run,
            Self::Revoke(arguments) => arguments.dry_run,
            Self::RotateTls(arguments) => arguments.dry_run,
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
        Command::RotateTls(arguments) => rotate_tls::execute(arguments, place, console),
    }
}
