//! `hq site`: sites and their vaults.

use std::path::{Path, PathBuf};

use clap::Subcommand;
use mintmark_console::{Confirmation, Console, Exit, Failure};
use mintmark_protocol::identifier::{Fingerprint, SiteId, VaultId, VaultName};
use rusqlite::Connection;

use super::entitlement::{Drafting, GraveDrafting};
use crate::failure;
use crate::registry::vaults;

mod enrol;
mod grant;
mod list;
mod next;
pub(super) mod orders;

/// Sites and their vaults.
#[derive(Debug, Subcommand)]
pub(super) enum Site {
    /// Draft a vault's enrolment from its request, for officers to approve.
    Enrol {
        #[command(flatten)]
        asked: Asked,
        #[command(flatten)]
        drafting: Drafting,
    },
    /// Draft a vault's next device CA, from the request that `site rotate` made.
    Rotate {
        #[command(flatten)]
        asked: Asked,
        #[command(flatten)]
        drafting: Drafting,
    },
    /// Draft the enrolment of a new vault in place of one whose keys are lost; what that one has not reported is
    /// written off.
    Succeed {
        #[command(flatten)]
        asked: Asked,
        /// The vault of the same site that is lost.
        #[arg(long, value_name = "VAULT")]
        replaces: VaultId,
        #[command(flatten)]
        drafting: GraveDrafting,
    },
    /// Draft that a vault makes no new devices until its device CA is changed. What it made stays good.
    Disable {
        /// The vault, as SITE/VAULT; SITE if it has one.
        site: String,
        /// Why, for people: 1 to 200 characters.
        #[arg(long, value_name = "T")]
        reason: String,
        #[command(flatten)]
        drafting: GraveDrafting,
    },
    /// Draft that a device CA, and every device that it certified, is no longer good: also in the root's CRL.
    Revoke {
        /// The vault, as SITE/VAULT; SITE if it has one.
        site: String,
        /// Which of its device CAs, by generation; without it, the newest.
        #[arg(long, value_name = "N")]
        device_ca: Option<u16>,
        /// Why, for people: 1 to 200 characters.
        #[arg(long, value_name = "T")]
        reason: String,
        #[command(flatten)]
        drafting: GraveDrafting,
    },
    /// Draft that a vault whose anchor is lost goes on from what HQ holds of its log.
    Reanchor {
        /// The vault, as SITE/VAULT; SITE if it has one.
        site: String,
        /// Why, for people: 1 to 200 characters.
        #[arg(long, value_name = "T")]
        reason: String,
        #[command(flatten)]
        drafting: GraveDrafting,
    },
    /// Draft the newest time of a vault's log, after a wrong clock has moved it; it may go back.
    Clock {
        /// The vault, as SITE/VAULT; SITE if it has one.
        site: String,
        /// The time, as in 2027-01-31T12:00:00Z; without it, now.
        #[arg(long, value_name = "RFC3339", value_parser = orders::moment)]
        time: Option<u64>,
        /// Why, for people: 1 to 200 characters.
        #[arg(long, value_name = "T")]
        reason: String,
        #[command(flatten)]
        drafting: GraveDrafting,
    },
    /// Once officers have approved a draft of these, do what it says and send it: for a vault's certificates and for
    /// the root's CRL, the root signs exactly what they approved.
    Grant {
        /// The draft's id, or the vault as SITE/VAULT.
        id: String,
        #[command(flatten)]
        confirmation: Confirmation,
        /// Say what would happen and change nothing.
        #[arg(long)]
        dry_run: bool,
    },
    /// Say which step is next for a vault: disable, inspect, rotate, revoke.
    Next {
        /// The site, or SITE/VAULT.
        site: String,
    },
    /// List every vault.
    List,
    /// Show the vaults of one site.
    Show {
        /// The site, or SITE/VAULT.
        site: String,
    },
}

/// What a vault asked for.
#[derive(Debug, clap::Args)]
pub(super) struct Asked {
    /// The request.
    #[arg(long, value_name = "FILE")]
    pub(super) request: PathBuf,
    /// The fingerprint that the operator reads out.
    #[arg(long, value_name = "HEX")]
    fingerprint: Fingerprint,
}

impl Site {
    pub(super) fn run(self, home: Option<&Path>, console: &Console) -> Result<Exit, Failure> {
        match self {
            Self::Enrol { asked, drafting } => enrol::enrol(home, &asked, &drafting, console),
            Self::Rotate { asked, drafting } => enrol::rotate(home, &asked, &drafting, console),
            Self::Succeed {
                asked,
                replaces,
                drafting,
            } => enrol::succeed(home, &asked, &replaces, &drafting, console),
            Self::Disable {
                site,
                reason,
                drafting,
            } => orders::disable(home, &site, &reason, &drafting, console),
            Self::Revoke {
                site,
                device_ca,
                reason,
                drafting,
            } => orders::revoke_ca(home, (&site, device_ca), &reason, &drafting, console),
            Self::Reanchor {
                site,
                reason,
                drafting,
            } => orders::reanchor(home, &site, &reason, &drafting, console),
            Self::Clock {
                site,
                time,
                reason,
                drafting,
            } => orders::clock(home, (&site, time), &reason, &drafting, console),
            Self::Grant {
                id,
                confirmation,
                dry_run,
            } => grant::run(home, &id, &confirmation, dry_run, console),
            Self::Next { site } => next::run(home, &site, console),
            Self::List => list::run(home, None, console),
            Self::Show { site } => list::run(home, Some(&site), console),
        }
    }
}

/// Which vault a person means.
pub(super) fn vault_name(site: SiteId, vault: VaultId) -> VaultName {
    VaultName { site, vault }
}

/// The vault that SITE/VAULT names, or SITE if one vault of it was let in and still serves.
fn resolve(sql: &Connection, named: &str) -> Result<VaultName, Failure> {
    let all = vaults::all(sql)?;
    if let Some(vault) = all.iter().find(|vault| vault.name.to_string() == named) {
        return Ok(vault.name.clone());
    }
    let mut of_site = all
        .iter()
        .filter(|vault| vault.name.site.as_str() == named && vault.successor.is_none());
    match (of_site.next(), of_site.next()) {
        (Some(vault), None) => Ok(vault.name.clone()),
        (Some(one), Some(other)) => Err(failure::usage(
            "SITE-AMBIGUOUS",
            format!("`{named}` has the vaults {} and {}", one.name, other.name),
            "name one of them, as SITE/VAULT",
        )),
        (None, _) => Err(failure::usage(
            "SITE-UNKNOWN",
            format!("there is no site or vault `{named}`"),
            "`hq site list` shows which there are",
        )),
    }
}
