//! `hq audit`: what vaults reported.

use std::path::{Path, PathBuf};

use clap::Subcommand;
use mintmark_console::time::rfc3339;
use mintmark_console::{Console, Exit, Failure};
use mintmark_protocol::identifier::{SiteId, VaultId};
use rusqlite::Connection;
use serde_json::{Value, json};

use crate::failure;
use crate::registry::bundles::Held;
use crate::registry::vaults::{self, Vault};

mod list;
mod log;
mod show;
mod verify;

/// What vaults reported.
#[derive(Debug, Subcommand)]
pub(super) enum Audit {
    /// List the bundles that headquarters holds.
    List {
        /// One site; all if none is given.
        #[arg(long, value_name = "S")]
        site: Option<SiteId>,
    },
    /// Show one bundle, and what was found in it.
    Show {
        /// The site, or SITE/VAULT.
        vault: String,
        /// The bundle; the newest if none is given.
        sequence: Option<u64>,
    },
    /// Verify a bundle: its signature, its segments, its records, its checkpoint. Changes nothing.
    Verify {
        /// The bundle; its segments stand beside it.
        file: PathBuf,
    },
    /// Print a vault's log, a line for each thing that happened; as JSON Lines with --json.
    Log {
        /// The site.
        #[arg(long, value_name = "S")]
        site: SiteId,
        /// The vault at that site; not needed if it has only one.
        #[arg(long, value_name = "V")]
        vault: Option<VaultId>,
        /// The first record to print.
        #[arg(long, value_name = "N", default_value_t = 0)]
        from: u64,
    },
}

impl Audit {
    pub(super) fn run(self, home: Option<&Path>, console: &Console) -> Result<Exit, Failure> {
        match self {
            Self::List { site } => list::run(home, site.as_ref(), console),
            Self::Show { vault, sequence } => show::run(home, &vault, sequence, console),
            Self::Verify { file } => verify::run(home, &file, console),
            Self::Log { site, vault, from } => {
                let named = match vault {
                    Some(vault) => format!("{site}/{vault}"),
                    None => site.to_string(),
                };
                log::run(home, &named, from, console)
            }
        }
    }
}

/// The vault that a person means by `SITE` or `SITE/VAULT`.
fn vault_named(sql: &Connection, named: &str) -> Result<Vault, Failure> {
    let mut vaults = vaults::all(sql)?;
    vaults.retain(|vault| vault.name.site.as_str() == named || vault.name.to_string() == named);
    let mut vaults = vaults.into_iter();
    match (vaults.next(), vaults.next()) {
        (Some(vault), None) => Ok(vault),
        (None, _) => Err(failure::usage(
            "SITE-UNKNOWN",
            format!("there is no site or vault `{named}`"),
            "`hq site list` shows which there are",
        )),
        (Some(first), Some(second)) => Err(failure::usage(
            "VAULT-AMBIGUOUS",
            format!(
                "`{named}` has more than one vault: {}, {} ...",
                first.name, second.name
            ),
            "name the vault too",
        )),
    }
}

fn bundle_json(held: &Held) -> Value {
    json!({
        "site": held.vault.site.as_str(),
        "vault": held.vault.vault.as_str(),
        "lineage": held.lineage.to_string(),
        "sequence": held.sequence,
        "fingerprint": held.fingerprint.to_string(),
        "first_record": held.first,
        "records": held.log_size.saturating_sub(held.first),
        "log_size": held.log_size,
        "log_root": held.log_root.to_string(),
        "segments": held.segments,
        "checkpoint_time": rfc3339(held.checkpoint_time),
        "sealed_at": rfc3339(held.sealed_at),
        "imported_at": rfc3339(held.imported_at),
        "dispatch_epoch": held.dispatch_seen.map(|seen| seen.0),
        "dispatch_sequence": held.dispatch_seen.map(|seen| seen.1),
        "acknowledged": held.acknowledged,
    })
}
