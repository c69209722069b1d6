//! How a record changes the state. Total: whatever a record says, the state afterwards is what its writer went on from, so
//! that one fraud is one finding and the honest records after it are none.

use std::collections::btree_map::Entry as Slot;
use std::sync::Arc;

use mintmark_protocol::acknowledgement::Acknowledgement;
use mintmark_protocol::enrolment::EnrolmentGrant;
use mintmark_protocol::entitlement::Entitlement;
use mintmark_protocol::identifier::{Fingerprint, Sku};

use crate::decide::DeviceRecord;
use crate::entry::{
    Body, BundleSealed, Content, Dispatch, Entry, Genesis, LogSequence, Reserved, Signed, Trust,
    Verdict,
};
use crate::merkle;
use crate::policy::{day_window, hour_window};
use crate::state::{Account, Enrolment, Granted, OpenReservation, Pending, SealedBundle, State};

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
    let sequence = append(state, raw);
    state.mark = state.mark.max(entry.time);
    let pending = state.pending.take();
    if !entry.body.is_decision() {
        // An input whose decision never came: it stays without effect, but it was seen.
        if let Some(Pending::Dispatch(dispatch)) = pending {
            follow(state, &dispatch);
        }
        return input(state, sequence, &entry.body);
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
            take_effect(state, sequence, &dispatch);
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
                Some(Pending::Request { product }) => Some(product),
                _ => None,
            };
            reserve(state, sequence, entry.time, reserved, product)
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
    let sequence = append(state, raw);
    state.noteworthy = Some(sequence.number());
    if let Some(Pending::Dispatch(dispatch)) = state.pending.take() {
        follow(state, &dispatch);
    }
}

fn append(state: &mut State, raw: &[u8]) -> LogSequence {
    let sequence = LogSequence(state.size);
    state.size = state.size.saturating_add(1);
    state.frontier.append(merkle::leaf_hash(raw));
    sequence
}

fn input(state: &mut State, sequence: LogSequence, body: &Body) -> Option<Effect> {
    let transport = match body {
        Body::Start(_) | Body::BundleSealed(_) => true,
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
        }
        Body::Trust(trust) => state.trust = Some(trust.clone()),
        Body::Dispatch(dispatch) => {
            state.pending = Some(Pending::Dispatch(Box::new(dispatch.clone())));
        }
        Body::Request(request) => {
            state.pending = Some(Pending::Request {
                product: request.product.clone(),
            });
        }
        Body::Signed(signed) => return sign(state, signed),
        Body::BundleSealed(sealed) => seal(state, sealed),
        // Decisions are applied elsewhere.
        Body::DispatchAccepted
        | Body::DispatchRefused { .. }
        | Body::Reserved(_)
        | Body::Existing { .. }
        | Body::Refused(_) => {}
    }
    None
}

fn begin(state: &mut State, genesis: &Genesis) {
    // A second one changes nothing: a history has one beginning.
    if state.genesis.is_none() {
        state.lineage = Some(genesis.lineage);
        state.trust = Some(Trust {
            version: genesis.trust_version,
            fingerprint: genesis.trust_fingerprint,
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

fn take_effect(state: &mut State, sequence: LogSequence, dispatch: &Dispatch) {
    // Content that does not parse is never accepted by an honest vault, and has no effect in any case.
    match &dispatch.content {
        Verdict::Authentic(Content::Grant {
            fingerprint,
            plaintext,
            identity_certificate,
            device_ca_certificate,
        }) => {
            if let Ok(grant) = EnrolmentGrant::from_cbor(plaintext) {
                state.enrolment = Some(Arc::new(Enrolment {
                    fingerprint: *fingerprint,
                    identity_certificate: identity_certificate.clone(),
                    device_ca_certificate: device_ca_certificate.clone(),
                    serial_master: grant.serial_master,
                    dispatch_epoch: grant.dispatch_epoch,
                }));
                state.recompile();
            }
        }
        Verdict::Authentic(Content::Entitlement {
            fingerprint,
            plaintext,
        }) => {
            if let Ok(entitlement) = Entitlement::from_cbor(plaintext) {
                grant(state, sequence, *fingerprint, entitlement);
            }
        }
        Verdict::Authentic(Content::Acknowledgement { plaintext, .. }) => {
            if let Ok(acknowledgement) = Acknowledgement::from_cbor(plaintext) {
                acknowledge(state, &acknowledgement);
            }
        }
        Verdict::Rejected { .. } => {}
    }
}

fn grant(
    state: &mut State,
    sequence: LogSequence,
    fingerprint: Fingerprint,
    entitlement: Entitlement,
) {
    if let Some(known) = state.entitlements.get(&entitlement.id)
        && known.version == entitlement.version
        && known.fingerprint == fingerprint
    {
        return;
    }
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
    };
    state.entitlements.insert(granted.terms.id.clone(), granted);
    state.recompile();
}

fn acknowledge(state: &mut State, acknowledgement: &Acknowledgement) {
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
    state.units = state.units.saturating_add(1);
    state.units_since_bundle = state.units_since_bundle.saturating_add(1);
    state.unreported.add(sequence.number(), time);
    state.reservations.insert(
        sequence,
        OpenReservation {
            account: reserved.account,
            slot: reserved.slot,
            issue: reserved.issue,
            device_id: reserved.device_id.clone(),
            spki_sha256: reserved.spki_sha256,
            tbs: reserved.tbs.clone(),
        },
    );
    let account = match state.accounts.entry(reserved.account) {
        Slot::Occupied(account) => account.into_mut(),
        // A unit of an account that nobody granted still is a unit of something.
        Slot::Vacant(place) => {
            let entitlement = reserved.entitlement.clone();
            place.insert(Account::new(reserved.account, entitlement, product?, 0))
        }
    };
    account.next_slot = account.next_slot.max(reserved.slot.saturating_add(1));
    account.unresolved = account.unresolved.saturating_add(1);
    account.hour.add(hour_window(time));
    account.day.add(day_window(time));
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

fn sign(state: &mut State, signed: &Signed) -> Option<Effect> {
    let reserved = state.reservations.remove(&signed.reservation)?;
    if let Some(account) = state.accounts.get_mut(&reserved.account) {
        account.unresolved = account.unresolved.saturating_sub(1);
        account.good = account.good.saturating_add(1);
    }
    Some(Effect::Signed {
        reservation: signed.reservation,
        reserved,
        signature: signed.signature,
    })
}
