//! `hq device revoke`: officers end certificates of devices, one or a list of them.

use std::path::Path;

use mintmark_console::{Console, Exit, Failure, files};
use mintmark_protocol::identifier::VaultName;
use mintmark_protocol::revocation::{DEVICES_MAX, RevokedDevice, Target};

use super::tracing::Tracing;
use crate::commands::entitlement::GraveDrafting;
use crate::commands::site;
use crate::home::Home;
use crate::keyring::Keyring;
use crate::serials::Serials;
use crate::{failure, orders};

/// The largest list, in bytes.
const LIST_BYTES_MAX: u64 = 1 << 20;

pub(super) fn run(
    home: Option<&Path>,
    (named, list): (Vec<String>, Option<&Path>),
    reason: &str,
    drafting: &GraveDrafting,
    console: &Console,
) -> Result<Exit, Failure> {
    let home = Home::change_hq(home)?;
    let registry = home.registry()?;
    let ring = Keyring::new(&home.config, console)?;
    let tracing = Tracing::new(&home, &registry, &ring)?;
    let serials = Serials::new(&ring);
    let mut named = named;
    if let Some(list) = list {
        named.extend(listed(list)?);
    }
    let mut of_vault: Option<VaultName> = None;
    let mut devices = Vec::new();
    for asked in &named {
        let newest = tracing.one(asked)?;
        if newest.ordered || newest.withdrawn.is_some() {
            return Err(failure::usage(
                "DEVICE-REVOKED",
                format!(
                    "the certificate of `{asked}` is {} already",
                    newest.status()
                ),
                "leave it out",
            ));
        }
        let unit = newest.unit;
        if of_vault.as_ref().is_some_and(|vault| *vault != unit.vault) {
            return Err(failure::usage(
                "DEVICES-OF-SEVERAL-VAULTS",
                format!("`{asked}` was made by {}, and others were not", unit.vault),
                "an order goes to one vault: give those of each by themselves",
            ));
        }
        let vault = tracing.vaults.iter().find(|of| of.name == unit.vault);
        let vault = vault
            .ok_or_else(|| failure::home_corrupt(format!("{} is not enrolled", unit.vault)))?;
        let record = unit.record;
        devices.push(RevokedDevice {
            account: record.account,
            slot: record.slot,
            issue: record.issue,
            reservation: record.reservation.number(),
            serial: serials
                .of(vault)?
                .serial(record.account, record.slot, record.issue),
            device_id: record.device_id,
        });
        of_vault = Some(unit.vault);
    }
    devices.sort_unstable();
    devices.dedup();
    let Some(name) = of_vault else {
        return Err(failure::usage(
            "DEVICE-INVALID",
            "no device is named",
            "name one, or give a file with --list",
        ));
    };
    if devices.len() > DEVICES_MAX {
        return Err(failure::usage(
            "DEVICES-TOO-MANY",
            format!(
                "{} devices, and one order names {DEVICES_MAX} at most",
                devices.len()
            ),
            "split the list",
        ));
    }
    let vault = orders::let_in(&registry.sql, &name)?;
    drop(tracing);
    drop(registry);
    let target = Target::Devices(devices);
    site::orders::revoke(&home, &vault, target, reason, drafting, console)
}

/// The lines of a file, each naming a device; empty ones and those that begin with # are for people.
fn listed(file: &Path) -> Result<Vec<String>, Failure> {
    let bytes = files::read_limited(file, LIST_BYTES_MAX)?;
    let text = String::from_utf8(bytes).map_err(|error| {
        failure::usage(
            "DEVICE-INVALID",
            format!("{} is no list of devices", file.display()),
            "give a text file with a serial number or a device id on each line",
        )
        .cause(error)
    })?;
    let lines = text.lines().map(str::trim);
    let lines = lines.filter(|line| !line.is_empty() && !line.starts_with('#'));
    Ok(lines.map(str::to_owned).collect())
}
