//! The rules for revocations. One is never too late: were it, a vault whose clock is set forward could evade it.

use mintmark_protocol::identifier::Fingerprint;
use mintmark_protocol::revocation::{Revocation, RevokedDevice, Target};

use crate::entry::LogSequence;
use crate::refusal::DispatchRefusal;
use crate::state::{Place, State};

pub(super) fn fits(
    state: &State,
    fingerprint: Fingerprint,
    revocation: &Revocation,
) -> Result<(), DispatchRefusal> {
    if state.vault() != Some(&revocation.vault) {
        let found = revocation.vault.to_string();
        return Err(DispatchRefusal::RevocationMismatch { found });
    }
    let number = revocation.number;
    match state.revocations.place(number, fingerprint) {
        // The same thing again, under a new epoch say, changes nothing.
        Place::Again => return Ok(()),
        Place::Taken => return Err(DispatchRefusal::RevocationNumberTaken { number }),
        Place::New => {}
    }
    match &revocation.target {
        Target::Entitlement(id) if !state.entitlements().contains_key(id) => {
            Err(DispatchRefusal::RevocationUnknownEntitlement {
                entitlement: id.clone(),
            })
        }
        Target::DeviceCa(fingerprint)
            if state
                .device_cas()
                .iter()
                .all(|ca| ca.fingerprint() != *fingerprint) =>
        {
            Err(DispatchRefusal::RevocationUnknownDeviceCa {
                fingerprint: *fingerprint,
            })
        }
        Target::Devices(devices) => {
            let unknown = |device: &&RevokedDevice| {
                let account = state.account(device.account);
                let spent = account.is_some_and(|account| device.slot < account.next_slot);
                let reservation = LogSequence(device.reservation);
                !spent
                    || reservation.number() >= state.size()
                    || state.device_ca_of(reservation).is_none()
            };
            match devices.iter().find(unknown) {
                Some(device) => Err(DispatchRefusal::RevocationUnknownDevice {
                    device_id: device.device_id.clone(),
                }),
                None => Ok(()),
            }
        }
        Target::Entitlement(_) | Target::Vault | Target::DeviceCa(_) => Ok(()),
    }
}
