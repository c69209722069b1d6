//! How a record changes the state. Total: whatever a record says, the state afterwards is what its writer went on from, so
//! that one fraud is one finding and the honest records after it are none.

use std::collections::btree_map::Entry as Slot;
use std::sync::Arc;

use mintmark_protocol::acknowledgement::Acknowledgement;
use mintmark_protocol::clock_correction::ClockCorrection;
use mintmark_protocol::enrolment::{EnrolmentGrant, Purpose};
use mintmark_protocol::entitlement::Entitlement;
use mintmark_protocol::identifier::{Fingerprint, Sku};
use mintmark_protocol::order::Order as _;
use mintmark_protocol::reanchor::Reanchor;
use mintmark_protocol::revocation::{Revocation, Target};

use crate::decide::DeviceRecord;
use crate::entry::{
    Body, BundleSealed, Burned, Content, Dispatch, Entry, Genesis, KeyReceipt, LogSequence,
    Reserved, Restored, Signed, Trust, Verdict,
};
use crate::merkle;
use crate::policy::{day_window, hour_window};
use crate::state::{
    Account, BundleChain, DeviceCa, Enrolment, Granted, OpenReservation, Pending, Revoked,
    SealedBundle, State,
};

/// The code of the one refusal that leaves the chain of dispatches where it was.
pub(crate) const OUT_OF_ORDER: &str = "DISPATCH-OUT-OF-ORDER";

/// What a record did, beyond the state: what an index keeps.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Effect {
    /// A unit was spent on a device.
    Reserved(DeviceRecord),
    /// A reservation got its certificate.
    Signed {
        /// Which.
        reservation: LogSequence,
        /// What was reserved, its to-be-signed certificate included.
        reserved: OpenReservation,
        /// The signature, r || s.
        signature: [u8; 64],
    },
}

/// Applies the next record: `raw` as it stands in the log, and what it says.
pub fn apply(state: &mut State, raw: &[u8], entry: &Entry) -> Option<Effect> {
    apply_leaf(state, merkle::leaf_hash(raw), entry)
}

/// As [`apply`], by the record's leaf hash: all that is there of one that was pruned, besides what was kept of what it says.
pub fn apply_leaf(state: &mut State, leaf: merkle::Hash, entry: &Entry) -> Option<Effect> {
    let sequence = append(state, leaf);
    state.mark = state.mark.max(entry.time);
    if entry.clock_behind_seconds == 0 {
        state.clock.behind = 0;
    }
    state.clock.unsaid = false;
    let pending = state.pending.take();
    if !entry.body.is_decision() {
        // An input whose decision never came: it stays without effect, but it was seen.
        if let Some(Pending::Dispatch(dispatch)) = pending {
            follow(state, &dispatch);
        }
        return input(state, sequence, entry);
    }
    let noteworthy = match &pending {
        Some(Pending::Dispatch(dispatch)) => !is_transport(dispatch),
        _ => true,
    };
    if noteworthy {
        state.noteworthy = Some(sequence.number());
    }
    match (&entry.body, pending) {
        (Body::DispatchAccepted, Some(Pending::Dispatch(dispatch))) => {
            follow(state, &dispatch);
            take_effect(state, sequence, entry, &dispatch);
            None
        }
        (Body::DispatchRefused { code }, Some(Pending::Dispatch(dispatch))) => {
            if code != OUT_OF_ORDER {
                follow(state, &dispatch);
            }
            None
        }
        (Body::Reserved(reserved), pending) => {
            let product = match pending {
                Some(Pending::Request { product, station }) => {
                    if reserved.issue == 0 {
                        state.count_station(&station, entry.time);
                    }
                    Some(product)
                }
                _ => None,
            };
            reserve(state, sequence, entry.time, reserved, product)
        }
        (Body::DeviceChanged(changed), Some(Pending::Device(order))) => {
            state.change_device(changed, order.action, (sequence, entry.time));
            None
        }
        (Body::ClockConfirmed, Some(Pending::ClockConfirm { steady })) => {
            state.confirm_clock(entry.clock(), steady);
            None
        }
        (Body::StationChanged, Some(Pending::Station(order))) => {
            state.change_station(&order, (sequence, entry.time));
            None
        }
        (Body::Existing { .. } | Body::Refused(_), _) => {
            state.answers_logged = state.answers_logged.saturating_add(1);
            None
        }
        _ => None,
    }
}

/// Applies a record that cannot be read: it takes its place in the log and does nothing else.
pub fn apply_unreadable(state: &mut State, raw: &[u8]) {
    let sequence = append(state, merkle::leaf_hash(raw));
    state.noteworthy = Some(sequence.number());
    if let Some(Pending::Dispatch(dispatch)) = state.pending.take() {
        follow(state, &dispatch);
    }
}

fn append(state: &mut State, leaf: merkle::Hash) -> LogSequence {
    let sequence = LogSequence(state.size);
    state.size = state.size.saturating_add(1);
    state.frontier.append(leaf);
    sequence
}

fn input(state: &mut State, sequence: LogSequence, entry: &Entry) -> Option<Effect> {
    let body = &entry.body;
    let transport = match body {
        Body::Start(_) | Body::BundleSealed(_) | Body::Pruned(_) => true,
        Body::Dispatch(dispatch) => is_transport(dispatch),
        _ => false,
    };
    if !transport {
        state.noteworthy = Some(sequence.number());
    }
    match body {
        Body::Genesis(genesis) => begin(state, genesis),
        Body::Start(start) => {
            state.lineage = Some(start.lineage);
            state.boot = start.boot;
            state.rules_version = start.rules_version;
            state.note_anchor(sequence, start.anchor);
            state.note_start(entry.clock(), start.steady);
        }
        Body::Trust(trust) => state.trust = Some(trust.clone()),
        Body::Dispatch(dispatch) => {
            state.pending = Some(Pending::Dispatch(Box::new(dispatch.clone())));
        }
        Body::Request(request) => {
            state.pending = Some(Pending::Request {
                product: request.product.clone(),
                station: request.station.clone(),
            });
        }
        Body::Signed(signed) => return sign(state, signed),
        Body::BundleSealed(sealed) => seal(state, sealed),
        Body::Rotation(rotation) => state.rotation = Some(*rotation),
        Body::Key(receipt) => receive(state, sequence, receipt),
        Body::Device(order) => state.pending = Some(Pending::Device(Box::new(order.clone()))),
        Body::ClockConfirm { steady } => {
            state.pending = Some(Pending::ClockConfirm { steady: *steady });
        }
        Body::Station(order) => state.pending = Some(Pending::Station(Box::new(order.clone()))),
        Body::StationCa { certificate } => {
            state.stations.ca.get_or_insert_with(|| certificate.clone());
        }
        Body::Crl(crl) => {
            state.crls.insert(crl.generation, (sequence, *crl));
        }
        Body::Clock(found) => state.note_clock(sequence, entry.clock(), found),
        Body::Burned(burned) => burn(state, sequence, burned),
        Body::Restored(restored) => restore(state, restored),
        Body::Pruned(pruned) => state.note_pruned(pruned),
        // Decisions are applied elsewhere.
        Body::DispatchAccepted
        | Body::DispatchRefused { .. }
        | Body::Reserved(_)
        | Body::Existing { .. }
        | Body::Refused(_)
        | Body::DeviceChanged(_)
        | Body::ClockConfirmed
        | Body::StationChanged => {}
    }
    None
}

/// Skips slots that may have been spent. Each counts as one that has no certificate, and as a use of each key that its
/// device would have got a secret from.
fn burn(state: &mut State, sequence: LogSequence, burned: &Burned) {
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

/// The log goes on in another lineage, whose bundles are counted from 1.
fn restore(state: &mut State, restored: &Restored) {
    state.note_restored(restored);
    // What HQ sent back, it has: no acknowledgement is needed for that.
    let held = restored.held.min(restored.size);
    state.unreported.acknowledge(held);
    state.bundles = BundleChain {
        log_size: held,
        acknowledged_log_size: held.max(state.bundles.acknowledged_log_size),
        ..BundleChain::default()
    };
}

fn begin(state: &mut State, genesis: &Genesis) {
    // A second one changes nothing: a history has one beginning.
    if state.genesis.is_none() {
        state.lineage = Some(genesis.lineage);
        state.trust = Some(Trust {
            version: genesis.trust_version,
            fingerprint: genesis.trust_fingerprint,
            // The first dispatch says which epoch it is.
            dispatch_epoch: 0,
        });
        state.genesis = Some(genesis.clone());
    }
}

/// Whether a dispatch brings nothing but HQ's receipt, whatever came of it.
fn is_transport(dispatch: &Dispatch) -> bool {
    match &dispatch.content {
        Verdict::Authentic(content) => matches!(content, Content::Acknowledgement { .. }),
        Verdict::Rejected { .. } => dispatch.kind == "acknowledgement",
    }
}

fn follow(state: &mut State, dispatch: &Dispatch) {
    let chain = &mut state.dispatches;
    chain.epoch = Some(dispatch.epoch);
    chain.sequence = dispatch.sequence;
    chain.fingerprint = Some(dispatch.fingerprint);
    chain
        .seen
        .insert((dispatch.epoch, dispatch.sequence), dispatch.fingerprint);
}

fn take_effect(state: &mut State, sequence: LogSequence, entry: &Entry, dispatch: &Dispatch) {
    // Content that does not parse is never accepted by an honest vault, and has no effect in any case.
    let Verdict::Authentic(content) = &dispatch.content else {
        return;
    };
    match content {
        Content::Grant {
            fingerprint,
            plaintext,
            identity_certificate,
            device_ca_certificate,
        } => {
            if let Ok(grant) = EnrolmentGrant::from_cbor(plaintext)
                && !state.knows_grant(*fingerprint)
            {
                let certificates = (
                    identity_certificate.as_slice(),
                    device_ca_certificate.as_slice(),
                );
                enrol(
                    state,
                    (sequence, entry.clock()),
                    *fingerprint,
                    &grant,
                    certificates,
                );
            }
        }
        Content::Entitlement {
            fingerprint,
            plaintext,
        } => {
            if let Ok(entitlement) = Entitlement::from_cbor(plaintext) {
                grant(state, sequence, *fingerprint, entitlement);
            }
        }
        Content::Acknowledgement { plaintext, .. } => {
            if let Ok(acknowledgement) = Acknowledgement::from_cbor(plaintext) {
                acknowledge(state, &acknowledgement);
            }
        }
        Content::Revocation {
            fingerprint,
            plaintext,
        } => {
            if let Ok(revocation) = Revocation::from_cbor(plaintext)
                && state.revocations.follow(revocation.number, *fingerprint)
            {
                revoke(state, sequence, entry.time, &revocation);
            }
        }
        Content::ClockCorrection {
            fingerprint,
            plaintext,
        } => {
            if let Ok(correction) = ClockCorrection::from_cbor(plaintext)
                && state
                    .clock_corrections
                    .follow(correction.number, *fingerprint)
            {
                correct_clock(state, correction.time, entry.clock());
            }
        }
        Content::Reanchor {
            fingerprint,
            plaintext,
        } => {
            if let Ok(reanchor) = Reanchor::from_cbor(plaintext)
                && state.reanchors.follow(reanchor.number, *fingerprint)
            {
                state.note_reanchor();
            }
        }
    }
}

/// Lets the vault in, or gives it its next device CA.
fn enrol(
    state: &mut State,
    (sequence, clock): (LogSequence, u64),
    fingerprint: Fingerprint,
    grant: &EnrolmentGrant,
    (identity, device_ca): (&[u8], &[u8]),
) {
    // The same thing again, under a new epoch say, changes nothing.
    let known = state.enrolment.as_deref().map(|known| known.fingerprint);
    if known == Some(fingerprint) {
        return;
    }
    let ca = DeviceCa {
        generation: grant.purpose.device_ca_generation(),
        grant: fingerprint,
        certificate: device_ca.to_vec(),
        first_record: sequence,
        revoked: None,
    };
    let rotated = match (&grant.purpose, state.enrolment.as_deref()) {
        (Purpose::Rotation { .. }, Some(before)) => {
            let mut enrolment = before.clone();
            enrolment.fingerprint = fingerprint;
            enrolment.identity_certificate = identity.to_vec();
            enrolment.device_cas.push(ca);
            enrolment
        }
        _ => Enrolment {
            fingerprint,
            identity_certificate: identity.to_vec(),
            device_cas: vec![ca],
            serial_master: grant.serial_master,
            dispatch_epoch: grant.dispatch_epoch,
        },
    };
    if state.enrolment.is_none() {
        state.begin_time(clock, grant.drafted_at);
    }
    state.enrolment = Some(Arc::new(rotated));
    state.rotation = None;
    state.disabled = None;
    state.recompile();
}

fn revoke(state: &mut State, sequence: LogSequence, time: u64, revocation: &Revocation) {
    let revoked = Revoked {
        at: sequence,
        time,
        number: revocation.number,
        reason: revocation.reason.clone(),
        drafted_at: revocation.drafted_at,
    };
    // What is over already stays over since then.
    match &revocation.target {
        Target::Entitlement(id) => {
            if let Some(granted) = state.entitlements.get_mut(id) {
                granted.revoked.get_or_insert(revoked);
            }
        }
        Target::Vault => {
            // What was approved before the newest of them does not end it.
            let drafted_at = revoked.drafted_at;
            let disabled = state.disabled.get_or_insert(revoked);
            disabled.drafted_at = disabled.drafted_at.max(drafted_at);
        }
        Target::Devices(devices) => {
            for device in devices {
                let reservation = LogSequence(device.reservation);
                state.revoke_issue(device.place(), reservation, (sequence, time));
            }
        }
        Target::DeviceCa(fingerprint) => {
            if let Some(enrolment) = &mut state.enrolment {
                let cas = &mut Arc::make_mut(enrolment).device_cas;
                if let Some(ca) = cas.iter_mut().find(|ca| ca.fingerprint() == *fingerprint) {
                    ca.revoked.get_or_insert(revoked);
                }
            }
        }
    }
}

/// The log goes on at another time. If that is an earlier one, what was issued later is as old as now, and no rate is
/// given back: not that of the hour and day that are now by the clock either, which may be later than the corrected time.
fn correct_clock(state: &mut State, time: u64, clock: u64) {
    state.mark = time;
    state.restart_clock();
    // Officers left it open until when this may take effect, so that the clock is not too far ahead of their time.
    if clock > state.clock_latest() {
        state.mark = clock;
    }
    state.unreported.go_on_at(time);
    let now = time.max(clock);
    for account in state.accounts.values_mut() {
        account.hour.go_on_in(hour_window(now));
        account.day.go_on_in(day_window(now));
    }
}

fn receive(state: &mut State, sequence: LogSequence, receipt: &KeyReceipt) {
    let granted = state.entitlements.get(&receipt.entitlement);
    let terms = granted.and_then(|granted| {
        let mut keys = granted.terms.keys.iter();
        keys.find(|key| key.label == receipt.label)
    });
    if let Some(terms) = terms {
        state.keys.receive(terms, receipt, sequence);
    }
}

fn grant(
    state: &mut State,
    sequence: LogSequence,
    fingerprint: Fingerprint,
    entitlement: Entitlement,
) {
    let known = state.entitlements.get(&entitlement.id);
    if known.is_some_and(|known| known.has_had(entitlement.version, fingerprint)) {
        return;
    }
    let mut versions = known
        .map(|known| known.versions.clone())
        .unwrap_or_default();
    versions.follow(entitlement.version, fingerprint);
    let revoked = known.and_then(|known| known.revoked.clone());
    for account in state
        .accounts
        .values_mut()
        .filter(|a| a.entitlement == entitlement.id)
    {
        account.authorised = 0;
    }
    for product in &entitlement.products {
        let account = state.accounts.entry(product.account).or_insert_with(|| {
            Account::new(
                product.account,
                entitlement.id.clone(),
                product.sku.clone(),
                0,
            )
        });
        account.authorised = product.units;
    }
    let granted = Granted {
        version: entitlement.version,
        fingerprint,
        accepted_at: sequence,
        terms: Arc::new(entitlement),
        revoked,
        versions,
    };
    state.entitlements.insert(granted.terms.id.clone(), granted);
    state.recompile();
}

fn acknowledge(state: &mut State, acknowledgement: &Acknowledgement) {
    // Of a lineage before, nothing is left to be acknowledged.
    if state.lineage != Some(acknowledgement.lineage) {
        return;
    }
    let bundles = &mut state.bundles;
    let sequence = acknowledgement.bundle_sequence;
    if sequence <= bundles.acknowledged {
        return;
    }
    bundles.acknowledged = sequence;
    bundles.acknowledged_log_size = acknowledgement.log_size;
    bundles.sealed = bundles.sealed.split_off(&sequence);
    state.unreported.acknowledge(acknowledgement.log_size);
}

fn seal(state: &mut State, sealed: &BundleSealed) {
    let bundles = &mut state.bundles;
    bundles.sequence = sealed.sequence;
    bundles.fingerprint = Some(sealed.fingerprint);
    bundles.log_size = sealed.log_size;
    let bundle = SealedBundle {
        fingerprint: sealed.fingerprint,
        log_size: sealed.log_size,
    };
    bundles.sealed.insert(sealed.sequence, bundle);
    state.answers_logged = 0;
    state.units_since_bundle = 0;
}

fn reserve(
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

fn sign(state: &mut State, signed: &Signed) -> Option<Effect> {
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
