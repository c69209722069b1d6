//! The rules for what somebody at the vault says of a device: that it was scrapped, that its unit came to nothing, that it
//! may have another certificate. Nothing of it spends a unit, or gives one back.

use super::{DecideError, Decision, DeviceRecord, Lookup, Moment};
use crate::entry::{DeviceAction, DeviceChanged, DeviceOrder};
use crate::refusal::Refusal;
use crate::state::State;

pub(super) fn decide(
    state: &State,
    index: &dyn Lookup,
    moment: Moment,
    order: &DeviceOrder,
) -> Result<Decision, DecideError> {
    if let Err(refusal) = super::station::speaks(state, moment, &order.station, &order.product) {
        return Ok(Decision::Refuse(refusal));
    }
    let known = index.device(&order.product, &order.device_id);
    let Some(known) = known.map_err(DecideError::Lookup)? else {
        return Ok(Decision::Refuse(Refusal::DeviceUnknown {
            sku: order.product.clone(),
            device_id: order.device_id.clone(),
        }));
    };
    Ok(match fits(state, moment, order.action, &known) {
        Ok(()) => Decision::ChangeDevice(DeviceChanged {
            reservation: known.reservation,
            account: known.account,
            slot: known.slot,
            issue: known.issue,
        }),
        Err(refusal) => Decision::Refuse(refusal),
    })
}

fn fits(
    state: &State,
    moment: Moment,
    action: DeviceAction,
    known: &DeviceRecord,
) -> Result<(), Refusal> {
    if let Some(refusal) = state.device_ended(known) {
        return Err(refusal);
    }
    let names = || (known.sku.clone(), known.device_id.clone());
    let open = state.reservations().get(&known.reservation);
    if action != DeviceAction::Void && open.is_some_and(|open| open.unresolved) {
        let (sku, device_id) = names();
        return Err(Refusal::DeviceUnresolved { sku, device_id });
    }
    if action == DeviceAction::Rework {
        return may_rework(state, moment, known);
    }
    Ok(())
}

/// Whether the device may have another certificate: its policy allows so many for each device.
fn may_rework(state: &State, moment: Moment, known: &DeviceRecord) -> Result<(), Refusal> {
    super::request::running(state, moment)?;
    let names = || (known.sku.clone(), known.device_id.clone());
    if state.rework_open(known.account, known.slot).is_some() {
        let (sku, device_id) = names();
        return Err(Refusal::ReworkOpen { sku, device_id });
    }
    let terms = state.compiled.terms(known.account);
    let Some((terms, product)) = terms.and_then(|terms| Some((terms, terms.product()?))) else {
        let sku = known.sku.clone();
        return Err(Refusal::ProductNotEntitled { sku });
    };
    super::request::not_revoked(state, terms)?;
    let reworks = state.reworks_of(known.account, known.slot);
    let allowed = u64::from(product.reissues_per_device);
    if reworks >= allowed {
        let (sku, device_id) = names();
        return Err(Refusal::ReworkExhausted {
            entitlement: terms.entitlement.id.clone(),
            sku,
            device_id,
            reworks,
            allowed,
        });
    }
    Ok(())
}
