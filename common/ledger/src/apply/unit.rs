//! How units are spent: reserved, signed for, or burned.

use std::collections::btree_map::Entry as Slot;

use mintmark_protocol::identifier::Sku;

use super::Effect;
use crate::decide::DeviceRecord;
use crate::entry::{Burned, LogSequence, Reserved, Signed};
use crate::policy::{day_window, hour_window};
use crate::state::{Account, OpenReservation, State};

/// Skips slots that may have been spent. Each counts as one that has no certificate, and as a use of each key that its
/// device would have got a secret from.
pub(super) fn burn(state: &mut State, sequence: LogSequence, burned: &Burned) {
    state.note_burned(sequence, burned);
    for slots in &burned.slots {
        let Some(account) = state.accounts.get_mut(&slots.account) else {
            continue;
        };
        let end = slots.end.max(account.next_slot);
        let count = end - account.next_slot;
        account.next_slot = end;
        account.unresolved = account.unresolved.saturating_add(count);
        account.burned = account.burned.saturating_add(count);
        let granted = state.entitlements.get(&account.entitlement);
        let keys = granted.map_or(&[][..], |granted| &granted.terms.keys);
        for key in keys.iter().filter(|key| key.derives_for(&account.sku)) {
            state
                .keys
                .count_many(&account.entitlement, &key.label, count);
        }
    }
}

pub(super) fn reserve(
    state: &mut State,
    sequence: LogSequence,
    time: u64,
    reserved: &Reserved,
    product: Option<Sku>,
) -> Option<Effect> {
    let first = reserved.issue == 0;
    state.newest_reservation = Some(sequence);
    if first {
        state.units = state.units.saturating_add(1);
        state.units_since_bundle = state.units_since_bundle.saturating_add(1);
        state.unreported.add(sequence.number(), time);
    }
    for label in &reserved.keys {
        state.keys.count(&reserved.entitlement, label);
    }
    if !first {
        state.supersede((reserved.account, reserved.slot), (sequence, time));
    }
    let open = OpenReservation {
        account: reserved.account,
        slot: reserved.slot,
        issue: reserved.issue,
        device_id: reserved.device_id.clone(),
        spki_sha256: reserved.spki_sha256,
        tbs: reserved.tbs.clone(),
        keys: reserved.keys.clone(),
        // A re-issue takes the place of an issue that was never signed, and then counts as that one did.
        unresolved: first || take_place(state, reserved),
    };
    let unit = (reserved.account, reserved.slot, sequence);
    state.open_units.insert(unit);
    state.reservations.insert(sequence, open);
    let account = match state.accounts.entry(reserved.account) {
        Slot::Occupied(account) => account.into_mut(),
        // A unit of an account that nobody granted still is a unit of something.
        Slot::Vacant(place) => {
            let entitlement = reserved.entitlement.clone();
            place.insert(Account::new(reserved.account, entitlement, product?, 0))
        }
    };
    for label in &reserved.keys {
        let product = (label.clone(), account.sku.clone());
        state.keys.products.insert(product);
    }
    account.next_slot = account.next_slot.max(reserved.slot.saturating_add(1));
    if first {
        account.unresolved = account.unresolved.saturating_add(1);
        account.hour.add(hour_window(time));
        account.count_day(day_window(time));
    }
    Some(Effect::Reserved(DeviceRecord {
        reservation: sequence,
        sku: account.sku.clone(),
        device_id: reserved.device_id.clone(),
        spki_sha256: reserved.spki_sha256,
        account: reserved.account,
        slot: reserved.slot,
        issue: reserved.issue,
        signed: None,
    }))
}

/// Removes the open reservation of the unit, and says whether the unit had no certificate yet.
fn take_place(state: &mut State, reserved: &Reserved) -> bool {
    let (account, slot) = (reserved.account, reserved.slot);
    let of_unit = (account, slot, LogSequence(0))..=(account, slot, LogSequence(u64::MAX));
    let Some(unit) = state.open_units.range(of_unit).next_back().copied() else {
        return false;
    };
    state.open_units.remove(&unit);
    let before = state.reservations.remove(&unit.2);
    before.is_some_and(|before| before.unresolved)
}

pub(super) fn sign(state: &mut State, signed: &Signed) -> Option<Effect> {
    let reserved = state.reservations.remove(&signed.reservation)?;
    let unit = (reserved.account, reserved.slot, signed.reservation);
    state.open_units.remove(&unit);
    if reserved.unresolved
        && let Some(account) = state.accounts.get_mut(&reserved.account)
    {
        account.unresolved = account.unresolved.saturating_sub(1);
        account.good = account.good.saturating_add(1);
    }
    Some(Effect::Signed {
        reservation: signed.reservation,
        reserved,
        signature: signed.signature,
    })
}
