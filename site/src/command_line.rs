//! The command line: `site NOUN VERB`.

use std::path::{Path, PathBuf};

use clap::{Parser, Subcommand};
use mintmark_backup::command::{BackupArguments, RestoreArguments};
use mintmark_console::{Console, Exit, Failure, GlobalOptions, HasGlobal, Neighbour, Shell};

use crate::commands::{
    audit, backup, clock, completion, crl, device, doctor, entitlement, init, issue, log, manual,
    media, mistaken, recover, request, restore, rotate, station, status,
};
use crate::place::Place;
use crate::serve::{self, control};

/// Makes device certificates within what headquarters has granted, without a network
///
/// A vault is enrolled once (`site init`, `site media export`, then `site media import` of what HQ returns). From then
/// on it issues (`site issue`), and carries its log to HQ and HQ's answers back (`site media export`, `site media
/// import`). `site status` says what is left and what to do next.
#[derive(Debug, Parser)]
#[command(
    name = "site",
    version,
    propagate_version = true,
    arg_required_else_help = true
)]
pub struct CommandLine {
    #[command(flatten)]
    global: GlobalOptions,
    /// The vault's home folder, or SITE_HOME
    #[arg(
        long,
        global = true,
        value_name = "DIR",
        help_heading = "Global options"
    )]
    home: Option<PathBuf>,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Make a vault: its home, its keys and its enrolment request
    Init(init::Arguments),
    /// Carry messages to and from headquarters
    #[command(subcommand)]
    Media(media::Command),
    /// Show what may be made, what was made, and what to do next
    Status(status::Arguments),
    /// Issue device certificates for certification requests
    Issue(issue::Arguments),
    /// On a station: ask a vault's service for certificates
    Request(request::Arguments),
    /// What was issued to a device; devices that were scrapped, units that came to nothing, reworks
    #[command(subcommand)]
    Device(device::Command),
    /// The list of certificates that are no longer good
    #[command(subcommand)]
    Crl(crl::Command),
    /// What headquarters has granted
    #[command(subcommand)]
    Entitlement(entitlement::Command),
    /// The stations that may ask this vault over the network
    #[command(subcommand)]
    Station(station::Command),
    /// Serve stations over the network: EST and JSON over TLS, metrics, and a page for the floor
    Serve(serve::Arguments),
    /// The log, and the bundles that report it
    #[command(subcommand)]
    Audit(audit::Command),
    /// The log's size
    #[command(subcommand)]
    Log(log::Command),
    /// Ask headquarters for the next device CA: makes its key and the request
    Rotate(rotate::Arguments),
    /// Complete what was interrupted, and rebuild the index if it is broken
    Recover(recover::Arguments),
    /// The clock that the log goes by
    #[command(subcommand)]
    Clock(clock::Command),
    /// Check the module, the token, the keys and the home
    Doctor(doctor::Arguments),
    /// Seal the home, but no key, into one file that opens with words on paper
    Backup(Box<BackupArguments>),
    /// Put the home back from a backup, where no home is
    Restore(Box<RestoreArguments>),
    /// Write a shell completion script
    Completion {
        /// For which shell
        #[arg(value_enum)]
        shell: Shell,
    },
    /// Write manual pages
    Manual {
        /// The folder that they are written to
        #[arg(value_name = "DIR")]
        dir: PathBuf,
    },
}

impl Command {
    /// Whether it changes nothing, whatever becomes of its output.
    fn only_looks(&self) -> bool {
        match self {
            Self::Status(_)
            | Self::Entitlement(_)
            | Self::Audit(_)
            | Self::Doctor(_)
            | Self::Completion { .. } => true,
            Self::Media(command) => command.only_looks(),
            Self::Device(command) => command.only_looks(),
            Self::Crl(command) => command.only_looks(),
            Self::Clock(command) => command.only_looks(),
            Self::Log(command) => command.only_looks(),
            Self::Station(command) => command.only_looks(),
            Self::Issue(arguments) => arguments.dry_run,
            Self::Recover(arguments) => arguments.dry_run,
            Self::Rotate(arguments) => arguments.dry_run,
            Self::Backup(arguments) => arguments.only_looks(),
            Self::Restore(arguments) => arguments.dry_run,
            Self::Request(arguments) => arguments.dry_run,
            Self::Serve(_) | Self::Init(_) | Self::Manual { .. } => false,
        }
    }
}

impl HasGlobal for CommandLine {
    fn global(&self) -> &GlobalOptions {
        &self.global
    }

    fn neighbour() -> Option<Neighbour> {
        Some(mistaken::NEIGHBOUR)
    }
}

/// Runs a command: by the service that holds the vault, where there is one and the command changes something.
///
/// # Errors
/// Why the command did not do what was asked, with its exit code.
pub fn execute(line: CommandLine, console: &Console) -> Result<Exit, Failure> {
    if line.command.only_looks() {
        console.only_looks();
    }
    let given = line.given();
    mistaken::explain(perform(line, console), &given, console)
}

fn perform(line: CommandLine, console: &Console) -> Result<Exit, Failure> {
    let home: Option<PathBuf> = line.home.clone();
    if line.needs_vault()
        && let Some(exit) = control::forward(home.as_deref(), &line, console)?
    {
        return Ok(exit);
    }
    line.execute_at(&Place::Home(home.as_deref()), console)
}

impl CommandLine {
    /// Runs the command where its vault is.
    ///
    /// # Errors
    /// As [`execute`].
    pub(crate) fn execute_at(self, place: &Place<'_>, console: &Console) -> Result<Exit, Failure> {
        match self.command {
            Command::Init(arguments) => init::execute(&arguments, place.path(), console),
            Command::Media(command) => media::execute(&command, place, console),
            Command::Status(arguments) => status::execute(&arguments, place.path(), console),
            Command::Issue(arguments) => issue::execute(&arguments, place, console),
            Command::Request(arguments) => request::execute(&arguments, console),
            Command::Device(command) => device::execute(&command, place, console),
            Command::Crl(command) => crl::execute(&command, place, console),
            Command::Entitlement(command) => entitlement::execute(&command, place.path(), console),
            Command::Audit(command) => audit::execute(&command, place.path(), console),
            Command::Rotate(arguments) => rotate::execute(&arguments, place, console),
            Command::Recover(arguments) => recover::execute(&arguments, place, console),
            Command::Clock(command) => clock::execute(&command, place, console),
            Command::Log(command) => log::execute(&command, place, console),
            Command::Station(command) => station::execute(&command, place, console),
            Command::Serve(arguments) => {
                serve::execute(&arguments, place.path(), &self.global, console)
            }
            Command::Backup(arguments) => backup::execute(&arguments, place, console),
            Command::Restore(arguments) => restore::execute(&arguments, place.path(), console),
            Command::Doctor(arguments) => doctor::execute(&arguments, place.path(), console),
            Command::Completion { shell } => completion::execute(shell),
            Command::Manual { dir } => manual::execute(&dir, console),
        }
        .map_err(Failure::from)
    }

    /// The files that it was given in which one is easily taken for another.
    fn given(&self) -> Vec<mistaken::Given> {
        match &self.command {
            Command::Init(arguments) => vec![(arguments.trust.clone(), mistaken::is_trust)],
            Command::Issue(arguments) => vec![(arguments.csr.clone(), mistaken::is_request)],
            Command::Request(arguments) => vec![(arguments.csr.clone(), mistaken::is_request)],
            _ => Vec::new(),
        }
    }

    /// Whether it works on the vault itself, so that whoever holds the vault has to do it.
    pub(crate) fn needs_vault(&self) -> bool {
        match &self.command {
            Command::Media(command) => command.needs_vault(),
            Command::Device(command) => command.needs_vault(),
            Command::Station(command) => command.needs_vault(),
            Command::Issue(_) | Command::Crl(_) | Command::Rotate(_) | Command::Log(_) => true,
            Command::Backup(arguments) => arguments.verb.is_none(),
            Command::Recover(_) | Command::Clock(_) => !self.command.only_looks(),
            Command::Init(_)
            | Command::Status(_)
            | Command::Request(_)
            | Command::Entitlement(_)
            | Command::Serve(_)
            | Command::Audit(_)
            | Command::Doctor(_)
            | Command::Restore(_)
            | Command::Completion { .. }
            | Command::Manual { .. } => false,
        }
    }

    /// Whether a signal has it finish what is begun and go no further, wherever the vault is.
    pub(crate) fn heeds_signals(&self) -> bool {
        matches!(&self.command, Command::Issue(arguments) if !arguments.dry_run)
    }

    /// What it is, for whoever keeps a record.
    pub(crate) fn name(&self) -> &'static str {
        match &self.command {
            Command::Media(_) => "media",
            Command::Device(_) => "device",
            Command::Station(_) => "station",
            Command::Issue(_) => "issue",
            Command::Crl(_) => "crl",
            Command::Rotate(_) => "rotate",
            Command::Recover(_) => "recover",
            Command::Clock(_) => "clock",
            Command::Log(_) => "log",
            Command::Backup(_) => "backup",
            _ => "another",
        }
    }

    /// Paths that are not absolute are those of this folder.
    pub(crate) fn resolve(&mut self, folder: &Path) {
        let paths: Vec<&mut PathBuf> = match &mut self.command {
            Command::Media(command) => command.paths(),
            Command::Issue(arguments) => vec![&mut arguments.csr, &mut arguments.output],
            Command::Station(command) => command.paths(),
            Command::Crl(command) => command.paths(),
            Command::Backup(arguments) => arguments.paths(),
            _ => Vec::new(),
        };
        for path in paths {
            *path = folder.join(&path);
        }
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        CommandLine::command().debug_assert();
    }
}
