//! `hq device`: what the logs say of one device.

use std::path::Path;

use clap::Subcommand;
use mintmark_console::{Console, Exit, Failure};

mod asked;
mod show;
mod tracing;

/// Devices: what the logs say of one.
#[derive(Debug, Subcommand)]
pub(super) enum Device {
    /// Trace a device to its unit, its entitlement and the officers who approved that.
    Show {
        /// A certificate's serial number, a device id, the SHA-256 of a public key, or the file of a certificate or a public
        /// key.
        #[arg(value_name = "SERIAL|DEVICE-ID|KEY|CERT.pem")]
        device: String,
    },
}

impl Device {
    pub(super) fn run(self, home: Option<&Path>, console: &Console) -> Result<Exit, Failure> {
        let Self::Show { device } = self;
        show::run(home, &device, console)
    }
}
