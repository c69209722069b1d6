//! `hq device`: one device, for life.

use std::path::{Path, PathBuf};

use clap::Subcommand;
use mintmark_console::{Console, Exit, Failure};
use mintmark_protocol::identifier::Fingerprint;

use crate::commands::entitlement::GraveDrafting;

mod asked;
mod dossier;
mod revoke;
mod show;
mod sweep;
mod tracing;
mod verify;

/// Devices: what the logs say of one, and what others can be shown of it.
#[derive(Debug, Subcommand)]
pub(super) enum Device {
    /// Trace a device to its unit, its entitlement and the officers who approved that.
    Show {
        /// A certificate's serial number, a device id, the SHA-256 of a public key, or the file of a certificate or a public
        /// key.
        #[arg(value_name = "SERIAL|DEVICE-ID|KEY|CERT.pem")]
        device: String,
    },
    /// Write one small signed file that shows a third party where a device comes from.
    Dossier {
        /// As `hq device show` takes it.
        #[arg(value_name = "SERIAL|DEVICE-ID|KEY|CERT.pem")]
        device: String,
        /// The file to write.
        #[arg(long, value_name = "F")]
        output: PathBuf,
        /// Say what would be written and change nothing.
        #[arg(long)]
        dry_run: bool,
    },
    /// Judge a dossier or a certificate with nothing but a trust manifest: no home, no network, no key. Exit 0 means genuine and
    /// accounted for, and nothing else does.
    Verify {
        /// A dossier, or a certificate, its chain with it or beside it.
        #[arg(value_name = "DOSSIER|CERT.pem")]
        file: PathBuf,
        /// The trust manifest that is believed; those before it are read from the same folder.
        #[arg(long, value_name = "F")]
        trust: PathBuf,
        /// Its fingerprint, compared with a person.
        #[arg(long, value_name = "HEX")]
        fingerprint: Fingerprint,
        /// The newest status of headquarters; without it, nothing is known of accounting.
        #[arg(long, value_name = "FILE")]
        status: Option<PathBuf>,
        /// The certificate of the device CA, if neither the file nor the status holds it.
        #[arg(long, value_name = "FILE")]
        chain: Option<PathBuf>,
        /// How many days old the status may be to call a device genuine.
        #[arg(long, value_name = "DAYS", requires = "status")]
        max_age: Option<u64>,
    },
    /// Draft the end of certificates of devices, one or a list of them. Once officers have approved, `hq site grant ID` sends it.
    Revoke {
        /// As `hq device show` takes it.
        #[arg(
            value_name = "SERIAL|DEVICE-ID|KEY|CERT.pem",
            required_unless_present = "list"
        )]
        devices: Vec<String>,
        /// A file that names one on each line.
        #[arg(long, value_name = "FILE")]
        list: Option<PathBuf>,
        /// Why, for officers and the vault's log.
        #[arg(long, value_name = "TEXT")]
        reason: String,
        #[command(flatten)]
        drafting: GraveDrafting,
    },
    /// Hold certificates that were collected in the field against the logs: those that no log holds, duplicates, revoked ones.
    Sweep {
        /// The folder of certificates, PEM or DER.
        dir: PathBuf,
    },
}

impl Device {
    pub(super) fn run(self, home: Option<&Path>, console: &Console) -> Result<Exit, Failure> {
        match self {
            Self::Show { device } => show::run(home, &device, console),
            Self::Dossier {
                device,
                output,
                dry_run,
            } => dossier::run(home, &device, &output, dry_run, console),
            Self::Verify {
                file,
                trust,
                fingerprint,
                status,
                chain,
                max_age,
            } => {
                let evidence = verify::Evidence {
                    file,
                    trust,
                    fingerprint,
                    status,
                    chain,
                    age_days_max: max_age,
                };
                verify::run(&evidence, console)
            }
            Self::Revoke {
                devices,
                list,
                reason,
                drafting,
            } => {
                let named = (devices, list.as_deref());
                revoke::run(home, named, &reason, &drafting, console)
            }
            Self::Sweep { dir } => sweep::run(home, &dir, console),
        }
    }

    /// Whether it writes nothing but its output.
    pub(super) fn only_looks(&self) -> bool {
        !matches!(self, Self::Dossier { .. } | Self::Revoke { .. })
    }
}
