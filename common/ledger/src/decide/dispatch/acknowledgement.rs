//! The rules for acknowledgements.

use mintmark_protocol::acknowledgement::Acknowledgement;

use crate::refusal::DispatchRefusal;
use crate::state::State;

pub(super) fn fits(
    state: &State,
    acknowledgement: &Acknowledgement,
) -> Result<(), DispatchRefusal> {
    if state.vault() != Some(&acknowledgement.vault) {
        return Err(DispatchRefusal::AckMismatch { what: "vault" });
    }
    if state.parents().contains(&acknowledgement.lineage) {
        // Made before the restore, of what HQ sent back since.
        return Ok(());
    }
    if state.lineage() != Some(acknowledgement.lineage) {
        return Err(DispatchRefusal::AckMismatch { what: "lineage" });
    }
    let sequence = acknowledgement.bundle_sequence;
    if sequence < state.bundles().acknowledged {
        // Overtaken by a newer one: nothing is left of it to check or to do.
        return Ok(());
    }
    let sealed = state.bundles().sealed.get(&sequence);
    let fits = sealed.is_some_and(|bundle| {
        bundle.fingerprint == acknowledgement.bundle_fingerprint
            && bundle.log_size == acknowledgement.log_size
    });
    if fits {
        Ok(())
    } else {
        Err(DispatchRefusal::AckUnknownBundle { sequence })
    }
}
