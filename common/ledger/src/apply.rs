//! How a record changes the state. Total: whatever a record says, the state afterwards is what its writer went on from, so
//! that one fraud is one finding and the honest records after it are none.

mod content;
mod unit;

use self::content::take_effect;
use self::unit::{burn, reserve, sign};
use crate::decide::DeviceRecord;
use crate::entry::{
    Body, BundleSealed, Content, Dispatch, Entry, Genesis, KeyReceipt, LogSequence, Restored,
    Trust, Verdict,
};
use crate::merkle;
use crate::state::{BundleChain, OpenReservation, Pending, SealedBundle, State};

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
