//! `hq status`: what headquarters signs about all devices.

use std::path::{Path, PathBuf};

use clap::Subcommand;
use mintmark_console::time::rfc3339;
use mintmark_console::{Console, Exit, Failure, files};
use mintmark_protocol::dossier::DeviceState;
use mintmark_protocol::status::Status as Signed;
use serde_json::{Map, Value, json};

use super::{expect_absent, say};
use crate::home::Home;
use crate::keyring::{self, Keyring};
use crate::serials::Serials;
use crate::{clock, failure, restored, status, trust};

/// What headquarters signs about all devices.
#[derive(Debug, Subcommand)]
pub(super) enum Status {
    /// Write a signed, dated file by which anybody tells genuine devices from others (`hq device verify --status`).
    Export {
        /// The file to write.
        #[arg(long, value_name = "F")]
        output: PathBuf,
        /// Say what would be written and change nothing.
        #[arg(long)]
        dry_run: bool,
    },
}

impl Status {
    pub(super) fn run(self, home: Option<&Path>, console: &Console) -> Result<Exit, Failure> {
        let Self::Export { output, dry_run } = self;
        let home = Home::read_hq(home)?;
        home.expect_own()?;
        restored::expect_declared(&home)?;
        expect_absent(&output)?;
        let registry = home.registry()?;
        let manifest = trust::in_force(&home)?;
        let ring = Keyring::new(&home.config, console)?;
        let version = manifest.content().version;
        let made = status::of(
            &registry.sql,
            &Serials::new(&ring),
            (version, clock::now_unix()),
            console,
        )?;
        let signer = ring.report_signer(manifest.content())?;
        let bytes = made
            .seal(signer.public_key(), &keyring::sign(&*signer))
            .map_err(failure::protocol)?;
        if dry_run {
            console.note(format!("would write {} (--dry-run)", output.display()));
        } else {
            files::write_new(&output, &bytes)?;
        }
        let (count, counts) = counts(&made);
        let json = json!({
            "schema": "mintmark/status-export/1",
            "file": if dry_run { None } else { Some(output.display().to_string()) },
            "bytes": bytes.len(),
            "as_of": rfc3339(made.made_at),
            "trust_version": made.trust_version,
            "vaults": made.vaults.len(),
            "devices": count,
            "states": counts,
            "dry_run": dry_run,
        });
        say(
            console,
            &json,
            [
                format!("as of        {}", rfc3339(made.made_at)),
                format!("devices      {count} of {} vaults", made.vaults.len()),
                format!("file         {} ({} bytes)", output.display(), bytes.len()),
            ],
        )
    }
}

fn counts(status: &Signed) -> (u64, Map<String, Value>) {
    let mut counts = Map::new();
    let mut all = 0_u64;
    for (at, state) in DeviceState::ALL.into_iter().enumerate() {
        let sets = status.vaults.iter().filter_map(|of| of.states.get(at));
        let count: u64 = sets.map(|set| set.count()).sum();
        all = all.saturating_add(count);
        counts.insert(state.as_str().to_owned(), count.into());
    }
    (all, counts)
}
