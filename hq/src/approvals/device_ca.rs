//! Which device CA a revocation is of, and what hangs on it; which product each device is that one is of. HQ knows that;
//! a revocation names a device CA by its digest alone, and a device by its id and its place in the log.

use mintmark_console::{Failure, printable};
use mintmark_ledger::entry::LogSequence;
use mintmark_protocol::identifier::{Fingerprint, VaultName};
use mintmark_protocol::revocation::{Revocation, RevokedDevice, Target};
use rusqlite::Connection;

use super::Content;
use crate::registry::{device_cas, devices, replays, vaults};

/// The device CA that a draft revokes, if it does.
fn revoked(content: &Content) -> Option<(&Revocation, Fingerprint)> {
    match content {
        Content::Revocation(revocation) => match revocation.target {
            Target::DeviceCa(fingerprint) => Some((revocation, fingerprint)),
            Target::Entitlement(_) | Target::Vault | Target::Devices(_) => None,
        },
        _ => None,
    }
}

/// For officers, whose machines know no vault.
pub(crate) fn unknown_here(content: &Content) -> Option<String> {
    revoked(content)?;
    Some(
        "This machine cannot tell which device CA of the vault that is, nor what it certified: ask HQ (`hq site show`, \
         `hq approval show`)."
            .to_owned(),
    )
}

/// What HQ knows of it, in words; nothing for any other draft.
pub(crate) fn known_at_hq(sql: &Connection, content: &Content) -> Result<Vec<String>, Failure> {
    if let Content::Revocation(revocation) = content
        && let Target::Devices(devices) = &revocation.target
    {
        let vault = &revocation.vault;
        let mut lines = Vec::new();
        for device in devices {
            lines.push(product(sql, vault, device)?);
        }
        let known = vaults::find(sql, vault)?;
        if known.is_some_and(|known| known.successor.is_some()) {
            lines.push(format!(
                "{vault} WAS REPLACED and signs no CRL any more: HQ's status of devices says it."
            ));
        }
        return Ok(lines);
    }
    let Some((revocation, fingerprint)) = revoked(content) else {
        return Ok(Vec::new());
    };
    let vault = &revocation.vault;
    let granted = device_cas::granted(sql, vault)?;
    let named = granted
        .iter()
        .find(|device_ca| device_ca.fingerprint() == Some(fingerprint));
    let (Some(named), Some(newest)) = (named, granted.last()) else {
        return Ok(vec![format!("HQ KNOWS NO SUCH DEVICE CA of {vault}.")]);
    };
    let replay = replays::load(sql, vault)?;
    let reported = replay.state().device_cas();
    let in_force = reported.last().map_or(0, |device_ca| device_ca.generation);
    let (generation, newest) = (named.generation, newest.generation);
    let standing = if in_force == generation && newest > generation {
        format!("the one in force until device CA {newest}, which is granted, reaches the vault")
    } else if in_force == generation {
        "THE ONE IN FORCE".to_owned()
    } else if generation > in_force {
        "granted, and not reported by the vault yet".to_owned()
    } else {
        format!("no longer in force: device CA {in_force} is")
    };
    let mut lines = vec![format!(
        "It is device CA {generation} of {vault}, {standing}."
    )];
    let at = reported
        .iter()
        .position(|device_ca| device_ca.generation == generation);
    let certified = match at {
        Some(at) => {
            let until = reported.get(at + 1).map(|next| next.first_record);
            devices::certified(sql, vault, (reported[at].first_record, until))?
        }
        None => 0,
    };
    let devices = if certified == 1 { "device" } else { "devices" };
    lines.push(format!(
        "By the bundles that HQ holds, it has certified {certified} {devices}."
    ));
    Ok(lines)
}

/// Which product a device is: two of them may have one id.
fn product(sql: &Connection, vault: &VaultName, device: &RevokedDevice) -> Result<String, Failure> {
    let unit = devices::by_reservation(sql, vault, LogSequence(device.reservation))?;
    let unit = unit.filter(|unit| {
        let record = &unit.record;
        (record.account, record.slot, record.issue) == device.place()
            && record.device_id == device.device_id
    });
    let id = printable(device.device_id.as_str());
    Ok(match unit {
        Some(unit) => format!("{id} is a {} that {vault} made.", unit.record.sku),
        None => format!("HQ KNOWS NO SUCH DEVICE {id} of {vault}."),
    })
}
