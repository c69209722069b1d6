//! `site rotate`: the next device CA is asked for.

use mintmark_console::{Console, Exit};
use mintmark_ledger::entry::Rotation;
use serde::Serialize;

use super::json;
use crate::failure::Result;
use crate::place::Place;
use crate::vault::keyring::device_ca_label;

/// What `site rotate` is told.
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// Say what would be asked for, and change nothing
    #[arg(long)]
    pub(crate) dry_run: bool,
}

#[derive(Serialize)]
struct Report {
    schema: &'static str,
    site: String,
    vault: String,
    generation: u16,
    /// The label of its key.
    key: String,
    /// None in a dry run of what was not asked for yet.
    enrolment_fingerprint: Option<String>,
    /// It was asked for before, and waits for its grant.
    already: bool,
    dry_run: bool,
}

/// Asks for the next device CA, or says what was asked for.
pub(crate) fn execute(arguments: &Arguments, place: &Place<'_>, console: &Console) -> Result<Exit> {
    let name = place.home()?.config().vault.clone();
    let mut vault = place.open(console)?;
    let (rotation, already) = if arguments.dry_run {
        vault.rehearse(|vault| match vault.state().rotation_pending() {
            Some(rotation) => Ok((Ok(rotation), true)),
            None => Ok((Err(vault.next_generation()?), false)),
        })?
    } else {
        let (rotation, already) = vault.with(|vault| {
            vault.settle()?;
            vault.rotate()
        })?;
        vault.close()?;
        (Ok(rotation), already)
    };
    let generation = match rotation {
        Ok(Rotation { generation, .. }) | Err(generation) => generation,
    };
    let report = Report {
        schema: "mintmark/rotate/1",
        site: name.site.to_string(),
        vault: name.vault.to_string(),
        generation,
        key: device_ca_label(generation),
        enrolment_fingerprint: rotation
            .ok()
            .map(|rotation| rotation.request_fingerprint.to_string()),
        already,
        dry_run: arguments.dry_run,
    };
    if console.is_json() {
        return json(console, &report);
    }
    show(&report, console);
    Ok(Exit::Done)
}

fn show(report: &Report, console: &Console) {
    let (generation, key) = (report.generation, &report.key);
    console.line(match (report.already, report.dry_run) {
        (true, _) => {
            format!("device CA {generation} was asked for before, and waits for its grant")
        }
        (false, true) => format!("would make the key {key} and ask for device CA {generation}"),
        (false, false) => format!("made the key {key} and the request for device CA {generation}"),
    });
    if let Some(fingerprint) = &report.enrolment_fingerprint {
        console.line(format!("enrolment_fingerprint  {fingerprint}"));
        console.note(
            "next: `site media export DIR`, carry the medium to headquarters, and read the enrolment fingerprint out to \
             the security officer over another channel; until the grant is imported, everything stays as it is",
        );
    }
    if report.dry_run {
        console.note("nothing was changed");
    }
}
