//! `hq device dossier`: one small file that shows a third party where a device comes from.

use std::path::Path;

use mintmark_console::{Console, Exit, Failure, files};
use mintmark_protocol::identifier::OfficerId;
use serde_json::json;

use super::tracing::Tracing;
use crate::commands::{expect_absent, say};
use crate::device_states::DeviceStates;
use crate::dossier::Archive;
use crate::home::Home;
use crate::keyring::{self, Keyring};
use crate::serials::{self, Serials};
use crate::{failure, trust};

pub(super) fn run(
    home: Option<&Path>,
    asked: &str,
    output: &Path,
    dry_run: bool,
    console: &Console,
) -> Result<Exit, Failure> {
    let home = Home::read_hq(home)?;
    let registry = home.registry()?;
    let ring = Keyring::new(&home.config, console)?;
    expect_absent(output)?;
    let tracing = Tracing::new(&home, &registry, &ring)?;
    let unit = tracing.one(asked)?.unit;
    let vault = tracing.vaults.iter().find(|of| of.name == unit.vault);
    let vault =
        vault.ok_or_else(|| failure::home_corrupt(format!("{} is not enrolled", unit.vault)))?;
    let serials = Serials::new(&ring);
    let cipher = serials.of(vault)?;
    let serial = serials::of_unit(&cipher, &unit.record);
    let state = DeviceStates::of(&registry.sql, &vault.name, cipher)?.facts(&unit)?;
    let manifest = trust::in_force(&home)?;
    let signer = ring.report_signer(manifest.content())?;
    let archive = Archive {
        home: &home,
        registry: &registry,
        ring: &ring,
        signer: &*signer,
        console,
    };
    let dossier = archive.dossier(vault, &unit, state)?;
    let bytes = dossier
        .seal(signer.public_key(), &keyring::sign(&*signer))
        .map_err(failure::protocol)?;
    if dry_run {
        console.note(format!("would write {} (--dry-run)", output.display()));
    } else {
        files::write_new(output, &bytes)?;
    }
    let approvers = dossier.entitlement.approvers.iter();
    let json = json!({
        "schema": "mintmark/device-dossier/1",
        "file": if dry_run { None } else { Some(output.display().to_string()) },
        "bytes": bytes.len(),
        "serial": serial,
        "device_id": unit.record.device_id.as_str(),
        "product": unit.record.sku.as_str(),
        "status": dossier.state.state.as_str(),
        "entitlement": dossier.entitlement.id.as_str(),
        "approvers": approvers.map(OfficerId::as_str).collect::<Vec<_>>(),
        "site": vault.name.site.as_str(),
        "vault": vault.name.vault.as_str(),
        "log_size": dossier.checkpoint.size,
        "log_root": dossier.checkpoint.root.to_string(),
        "checkpoint_signed": dossier.bundle.is_some(),
        "dry_run": dry_run,
    });
    say(
        console,
        &json,
        [
            format!(
                "device       {} of {}",
                unit.record.device_id, unit.record.sku
            ),
            format!("serial       {serial}"),
            format!("status       {}", dossier.state.state),
            format!("file         {} ({} bytes)", output.display(), bytes.len()),
        ],
    )
}
