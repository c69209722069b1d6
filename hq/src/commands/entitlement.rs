//! `hq entitlement`: what a vault may make.

use std::path::{Path, PathBuf};

use clap::Subcommand;
use mintmark_console::{Confirmation, Console, Exit, Failure};
use mintmark_protocol::identifier::{EntitlementId, SiteId, VaultId, VaultName};
use rusqlite::Connection;

use super::site::vault_name;
use crate::failure;
use crate::registry::entitlements;

mod draft;
mod export;
mod list;
mod revoke;

/// Entitlements: what a vault may make.
#[derive(Debug, Subcommand)]
pub(super) enum Entitlement {
    /// Draft an entitlement from a policy, for officers to approve.
    Draft {
        /// The site.
        #[arg(long)]
        site: SiteId,
        /// The vault at that site.
        #[arg(long, default_value = "v1")]
        vault: VaultId,
        /// The policy.
        #[arg(long, value_name = "F")]
        policy: PathBuf,
        #[command(flatten)]
        drafting: Drafting,
    },
    /// Draft the next version of an entitlement from its policy: the new terms as a whole, not what is added.
    Amend {
        #[command(flatten)]
        place: Place,
        /// The policy; its id names the entitlement.
        #[arg(long, value_name = "F")]
        policy: PathBuf,
        #[command(flatten)]
        drafting: Drafting,
    },
    /// Draft the next version of an entitlement, with another credit and nothing else.
    Credit {
        /// The entitlement's id.
        id: EntitlementId,
        #[command(flatten)]
        place: Place,
        /// How many units may be unreported.
        #[arg(long, value_name = "N")]
        units: u64,
        /// How many days a unit may be unreported; without it, as many as now.
        #[arg(long, value_name = "D")]
        days: Option<u64>,
        #[command(flatten)]
        drafting: Drafting,
    },
    /// Draft the end of an entitlement, for good. What was made stays good.
    Revoke {
        /// The entitlement's id.
        id: EntitlementId,
        #[command(flatten)]
        place: Place,
        /// Why, for people: 1 to 200 characters.
        #[arg(long, value_name = "T")]
        reason: String,
        #[command(flatten)]
        drafting: GraveDrafting,
    },
    /// Once officers have approved a draft of these, seal it for its vault.
    Export {
        /// The draft's id, or the entitlement's.
        id: String,
        #[command(flatten)]
        confirmation: Confirmation,
        /// Say what would happen and change nothing.
        #[arg(long)]
        dry_run: bool,
    },
    /// List every entitlement.
    List,
    /// Show one entitlement.
    Show {
        /// The entitlement's id, or the draft's.
        id: String,
    },
}

/// Which vault's entitlement, where its id names several.
#[derive(Debug, clap::Args)]
pub(super) struct Place {
    /// The site, if several have an entitlement of this id.
    #[arg(long)]
    site: Option<SiteId>,
    /// The vault at that site, if several have it.
    #[arg(long)]
    vault: Option<VaultId>,
}

/// What every draft takes.
#[derive(Debug, clap::Args)]
pub(super) struct Drafting {
    /// A file to write the draft to; it goes out with the next `hq media export` in any case.
    #[arg(long, value_name = "F")]
    pub(super) output: Option<PathBuf>,
    /// Say what would be drafted and change nothing.
    #[arg(long)]
    pub(super) dry_run: bool,
}

/// What a draft takes of what cannot be taken back once it is sent.
#[derive(Debug, clap::Args)]
pub(super) struct GraveDrafting {
    #[command(flatten)]
    pub(super) drafting: Drafting,
    #[command(flatten)]
    pub(super) confirmation: Confirmation,
}

impl Entitlement {
    pub(super) fn run(self, home: Option<&Path>, console: &Console) -> Result<Exit, Failure> {
        match self {
            Self::Draft {
                site,
                vault,
                policy,
                drafting,
            } => draft::draft(home, &vault_name(site, vault), &policy, &drafting, console),
            Self::Amend {
                place,
                policy,
                drafting,
            } => draft::amend(home, &place, &policy, &drafting, console),
            Self::Credit {
                id,
                place,
                units,
                days,
                drafting,
            } => draft::credit(home, (&id, &place), (units, days), &drafting, console),
            Self::Revoke {
                id,
                place,
                reason,
                drafting,
            } => revoke::run(home, (&id, &place), &reason, &drafting, console),
            Self::Export {
                id,
                confirmation,
                dry_run,
            } => export::run(home, &id, &confirmation, dry_run, console),
            Self::List => list::run(home, None, console),
            Self::Show { id } => list::run(home, Some(&id), console),
        }
    }
}

impl Place {
    /// The one vault that was sent, or refused, an entitlement of this id.
    fn resolve(&self, sql: &Connection, id: &EntitlementId) -> Result<VaultName, Failure> {
        let mut vaults: Vec<VaultName> = entitlements::all(sql)?
            .into_iter()
            .filter(|listed| {
                let vault = &listed.terms.vault;
                listed.terms.id == *id
                    && matches!(listed.state.as_str(), "sent" | "refused")
                    && self.site.as_ref().is_none_or(|site| *site == vault.site)
                    && self.vault.as_ref().is_none_or(|id| *id == vault.vault)
            })
            .map(|listed| listed.terms.vault)
            .collect();
        vaults.sort();
        vaults.dedup();
        match vaults.as_slice() {
            [vault] => Ok(vault.clone()),
            [] => Err(failure::usage(
                "ENTITLEMENT-UNKNOWN",
                format!("no vault has been sent an entitlement `{id}`"),
                "`hq entitlement list` shows which there are; the first version is made with `hq entitlement draft`, \
                 and sent with `hq entitlement export`",
            )),
            [one, other, ..] => Err(failure::usage(
                "ENTITLEMENT-AMBIGUOUS",
                format!("{one} and {other} have an entitlement `{id}`"),
                "name the one with --site and --vault",
            )),
        }
    }
}
