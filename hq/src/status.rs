//! The status of all devices: what HQ signs for those who have no registry to look in.

use mintmark_console::{Console, Failure};
use mintmark_protocol::bundle::Checkpoint;
use mintmark_protocol::digest_set::{BITS_MAX, DigestSet, cut};
use mintmark_protocol::dossier::DeviceState;
use mintmark_protocol::identifier::Fingerprint;
use mintmark_protocol::revocation::Target;
use mintmark_protocol::status::{DeviceCaStatus, SERIAL_DOUBT_BITS, Status, VaultStatus};
use rusqlite::Connection;

use crate::device_states::DeviceStates;
use crate::registry::vaults::{self, Vault};
use crate::registry::{bundles, device_cas, devices, orders};
use crate::serials::Serials;

/// Everything that the registry knows of every vault's devices.
pub(crate) fn of(
    sql: &Connection,
    serials: &Serials<'_>,
    (trust_version, made_at): (u64, u64),
    console: &Console,
) -> Result<Status, Failure> {
    let mut of_vaults = Vec::new();
    for vault in vaults::all(sql)?.iter().filter(|vault| vault.granted) {
        of_vaults.push(of_vault(sql, serials, vault, console)?);
    }
    Ok(Status {
        made_at,
        trust_version,
        vaults: of_vaults,
    })
}

fn of_vault(
    sql: &Connection,
    serials: &Serials<'_>,
    vault: &Vault,
    console: &Console,
) -> Result<VaultStatus, Failure> {
    let name = &vault.name;
    let states = DeviceStates::of(sql, name, serials.of(vault)?)?;
    let mut by_state: [Vec<u128>; DeviceState::ALL.len()] = Default::default();
    let mut numbers = Vec::new();
    let what = format!("looking at devices of {name}");
    let progress = console.progress(&what, Some(devices::count(sql, name)?));
    devices::each(sql, name, |unit| {
        progress.advance(1);
        // What was reserved and not signed is no certificate.
        if unit.issued_at.is_none() {
            return;
        }
        let state = states.state(&unit);
        let at = DeviceState::ALL.iter().position(|each| *each == state);
        if let Some(list) = at.and_then(|at| by_state.get_mut(at)) {
            list.push(cut(&unit.tbs_digest, BITS_MAX));
        }
        let serial = Fingerprint::of(&states.serial(&unit));
        numbers.push(cut(&serial, BITS_MAX));
    })?;
    progress.finish();
    let mut of_device_cas = Vec::new();
    for device_ca in device_cas::granted(sql, name)? {
        if let (Some(fingerprint), Some(certificate)) =
            (device_ca.fingerprint(), device_ca.certificate)
        {
            let target = Target::DeviceCa(fingerprint);
            of_device_cas.push(DeviceCaStatus {
                certificate,
                revoked: orders::is_revoked(sql, name, &target)?,
            });
        }
    }
    let newest = bundles::newest_of(sql, name)?;
    Ok(VaultStatus {
        vault: name.clone(),
        device_cas: of_device_cas,
        checkpoint: newest.map(|held| Checkpoint {
            size: held.log_size,
            root: held.log_root,
            time: held.checkpoint_time,
        }),
        states: by_state.map(|values| DigestSet::new(values, BITS_MAX)),
        serials: DigestSet::filter(numbers, SERIAL_DOUBT_BITS),
    })
}
