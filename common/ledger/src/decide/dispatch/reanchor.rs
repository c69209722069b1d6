//! The rules for re-anchors: the log must lead through the head that officers vouch for. The fingerprint of a bundle
//! settles the Merkle root that the bundle states.

use mintmark_protocol::identifier::Fingerprint;
use mintmark_protocol::reanchor::Reanchor;

use crate::refusal::DispatchRefusal;
use crate::state::{Place, State};

pub(super) fn fits(
    state: &State,
    time: u64,
    fingerprint: Fingerprint,
    reanchor: &Reanchor,
) -> Result<(), DispatchRefusal> {
    if state.vault() != Some(&reanchor.vault) {
        return Err(DispatchRefusal::ReanchorMismatch { what: "vault" });
    }
    if state.lineage() != Some(reanchor.lineage) {
        return Err(DispatchRefusal::ReanchorMismatch { what: "lineage" });
    }
    let number = reanchor.number;
    match state.reanchors.place(number, fingerprint) {
        // The same thing again, under a new epoch say, changes nothing.
        Place::Again => return Ok(()),
        Place::Taken => return Err(DispatchRefusal::ReanchorNumberTaken { number }),
        Place::New => {}
    }
    if reanchor.approve_until <= time {
        return Err(DispatchRefusal::ReanchorExpired {
            until: reanchor.approve_until,
        });
    }
    let sequence = reanchor.bundle_sequence;
    let sealed = state.bundles().sealed.get(&sequence);
    let fits = sealed.is_some_and(|bundle| {
        bundle.fingerprint == reanchor.bundle_fingerprint && bundle.log_size == reanchor.log_size
    });
    if fits {
        Ok(())
    } else {
        Err(DispatchRefusal::ReanchorUnknownBundle { sequence })
    }
}
