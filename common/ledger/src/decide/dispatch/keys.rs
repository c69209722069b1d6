//! The rules for the keys that entitlements bring.

use mintmark_protocol::entitlement::Entitlement;

use crate::refusal::DispatchRefusal;
use crate::state::State;

/// A label stays with its key while an entitlement in force names it, and no key's uses shrink below those made.
pub(super) fn fit(
    state: &State,
    time: u64,
    entitlement: &Entitlement,
) -> Result<(), DispatchRefusal> {
    for key in &entitlement.keys {
        for known in state
            .keys()
            .filter(|known| !known.revoked && known.terms.label == key.label && time < known.until)
        {
            let what = if known.terms.algorithm != key.algorithm {
                "algorithm"
            } else if known.terms.check_value != key.check_value {
                "check value"
            } else {
                continue;
            };
            return Err(DispatchRefusal::EntitlementKeyChanged {
                entitlement: entitlement.id.clone(),
                label: key.label.clone(),
                owner: known.entitlement.clone(),
                what,
            });
        }
        let uses = state.keys.uses(&entitlement.id, &key.label);
        if let Some(uses_max) = key.uses_max
            && uses_max < uses
        {
            return Err(DispatchRefusal::EntitlementKeyBelowUses {
                entitlement: entitlement.id.clone(),
                version: entitlement.version,
                label: key.label.clone(),
                uses_max,
                uses,
            });
        }
    }
    Ok(())
}
