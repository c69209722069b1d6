//! The rules for revocations. One is never too late: were it, a vault whose clock is set forward could evade it.

use mintmark_protocol::identifier::Fingerprint;
use mintmark_protocol::revocation::{Revocation, Target};

use crate::refusal::Refusal;
use crate::state::{Place, State};

pub(super) fn fits(
    state: &State,
    fingerprint: Fingerprint,
    revocation: &Revocation,
) -> Result<(), Refusal> {
    if state.vault() != Some(&revocation.vault) {
        let found = revocation.vault.to_string();
        return Err(Refusal::RevocationMismatch { found });
    }
    let number = revocation.number;
    match state.revocations.place(number, fingerprint) {
        // The same thing again, under a new epoch say, changes nothing.
        Place::Again => return Ok(()),
        Place::Taken => return Err(Refusal::RevocationNumberTaken { number }),
        Place::New => {}
    }
    match &revocation.target {
        Target::Entitlement(id) if !state.entitlements().contains_key(id) => {
            Err(Refusal::RevocationUnknownEntitlement {
                entitlement: id.clone(),
            })
        }
        Target::DeviceCa(fingerprint)
            if state
                .device_cas()
                .iter()
                .all(|ca| ca.fingerprint() != *fingerprint) =>
        {
            Err(Refusal::RevocationUnknownDeviceCa {
                fingerprint: *fingerprint,
            })
        }
        Target::Entitlement(_) | Target::Vault | Target::DeviceCa(_) => Ok(()),
    }
}
