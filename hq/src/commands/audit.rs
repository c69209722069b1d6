//! `hq audit`: what vaults reported.

use std::path::{Path, PathBuf};

use clap::Subcommand;
use mintmark_console::time::rfc3339;
use mintmark_console::{Console, Exit, Failure};
use mintmark_keys::UnparsedKeyUri;
use mintmark_protocol::identifier::{Fingerprint, SiteId, VaultId};
use rusqlite::Connection;
use serde_json::{Value, json};

use crate::audit_grant::is_grant;
use crate::failure;
use crate::registry::bundles::Held;
use crate::registry::vaults::{self, Vault};

mod fork;
mod grant;
mod granted;
mod key;
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
    /// Make an auditor's key, on the auditor's machine, and write its public half for headquarters. Needs no home.
    Key {
        /// Where the key is to be: `pkcs11:token=...` or `file:DIR`.
        #[arg(long, value_name = "URI")]
        keys: UnparsedKeyUri,
        /// The file for its public half (PEM).
        #[arg(long, value_name = "F")]
        output: PathBuf,
        /// Say whether a key would be made, make none and write nothing.
        #[arg(long)]
        dry_run: bool,
    },
    /// Hand an auditor everything that headquarters holds of some vaults, as it was received and sent, in one file that opens
    /// with the auditor's key alone. `hq audit verify` makes a home of it on the auditor's machine.
    Grant(grant::Grant),
    /// Verify a bundle: its signature, its segments, its records, its checkpoint. Or the proof of a fork, for which no
    /// home is needed but the fingerprint of one trust manifest. Neither changes anything. Or what an auditor was granted:
    /// that is replayed from its first record, and --home becomes a home of the auditor's, to be looked at with `hq reconcile`,
    /// `hq device show`, `hq audit log`.
    Verify {
        /// The bundle, its segments beside it; or what `hq audit fork --export`, or `hq audit grant`, wrote.
        file: PathBuf,
        /// For a proof, without a home: the trust manifest that is believed.
        #[arg(long, value_name = "FILE", requires = "fingerprint")]
        trust: Option<PathBuf>,
        /// For a proof, without a home: the fingerprint of that manifest, or of one in the proof. For a grant: of a trust
        /// manifest of headquarters, as a person there read it out.
        #[arg(long, value_name = "HEX")]
        fingerprint: Option<Fingerprint>,
        /// For a grant: where the auditor's key is.
        #[arg(long, value_name = "URI")]
        keys: Option<UnparsedKeyUri>,
    },
    /// List the forks that headquarters knows of: bundles of one vault that cannot both be true. Write the proof of one
    /// for a third party.
    Fork {
        /// The site, or SITE/VAULT; all if none is given.
        #[arg(long, value_name = "S")]
        site: Option<String>,
        /// Which, where there are several: the fingerprint of either bundle, or of a declared restore.
        #[arg(long, value_name = "HEX")]
        bundle: Option<Fingerprint>,
        /// Write its proof to this file.
        #[arg(long, value_name = "FILE")]
        export: Option<PathBuf>,
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
    /// Whether it changes nothing, whatever becomes of its output.
    pub(super) fn only_looks(&self) -> bool {
        match self {
            Self::Key { dry_run, .. } => *dry_run,
            Self::Grant(grant) => grant.dry_run,
            Self::Verify { file, .. } => !is_grant(file),
            Self::List { .. } | Self::Show { .. } | Self::Fork { .. } | Self::Log { .. } => true,
        }
    }

    pub(super) fn run(self, home: Option<&Path>, console: &Console) -> Result<Exit, Failure> {
        match self {
            Self::Key {
                keys,
                output,
                dry_run,
            } => key::run(&keys, &output, dry_run, console),
            Self::Grant(grant) => grant.run(home, console),
            Self::List { site } => list::run(home, site.as_ref(), console),
            Self::Show { vault, sequence } => show::run(home, &vault, sequence, console),
            Self::Verify {
                file,
                trust,
                fingerprint,
                keys,
            } => {
                if is_grant(&file) {
                    return granted::run(home, &file, fingerprint, keys.as_ref(), console);
                }
                if fork::is_proof(&file) {
                    return fork::verify(home, &file, (trust.as_deref(), fingerprint), console);
                }
                if fingerprint.is_some() {
                    return Err(failure::usage(
                        "FORK-NOT-A-PROOF",
                        format!("{} is no proof of a fork, and no grant", file.display()),
                        "give a file that `hq audit fork --export` or `hq audit grant` wrote; a bundle is verified with the home of \
                         headquarters, and no fingerprint",
                    ));
                }
                verify::run(home, &file, console)
            }
            Self::Fork {
                site,
                bundle,
                export,
            } => {
                let which = (site.as_deref(), bundle);
                fork::run(home, which, export.as_deref(), console)
            }
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
