//! How entries are written.

use ciborium::Value;
use mintmark_protocol::cbor::Map;
use mintmark_protocol::entitlement::AccountTag;
use mintmark_protocol::identifier::{Fingerprint, StationId};

use super::{
    Body, Content, Entry, KeyOutcome, LogSequence, Reserved, StationApproval, StationChange,
    Steady, Submission, Verdict,
};

pub(super) const KIND: i64 = 0;
pub(super) const TIME: i64 = 1;
pub(super) const CLOCK_BEHIND: i64 = 2;

pub(super) const GENESIS: u64 = 1;
pub(super) const START: u64 = 2;
pub(super) const TRUST: u64 = 3;
pub(super) const DISPATCH: u64 = 4;
pub(super) const REQUEST: u64 = 5;
pub(super) const SIGNED: u64 = 6;
pub(super) const BUNDLE_SEALED: u64 = 7;
pub(super) const ROTATION: u64 = 8;
pub(super) const KEY: u64 = 9;
pub(super) const DEVICE: u64 = 10;
pub(super) const CRL: u64 = 11;
pub(super) const CLOCK: u64 = 12;
pub(super) const CLOCK_CONFIRM: u64 = 13;
pub(super) const BURNED: u64 = 14;
pub(super) const RESTORED: u64 = 15;
pub(super) const DISPATCH_ACCEPTED: u64 = 16;
pub(super) const DISPATCH_REFUSED: u64 = 17;
pub(super) const RESERVED: u64 = 18;
pub(super) const EXISTING: u64 = 19;
pub(super) const REFUSED: u64 = 20;
pub(super) const DEVICE_CHANGED: u64 = 21;
pub(super) const CLOCK_CONFIRMED: u64 = 22;
pub(super) const STATION_CA: u64 = 23;
pub(super) const STATION: u64 = 24;
pub(super) const STATION_CHANGED: u64 = 25;
pub(super) const PRUNED: u64 = 26;

pub(super) const STEADY_BOOT: i64 = 7;
pub(super) const STEADY_SECONDS: i64 = 8;

pub(super) const CONTENT_REJECTED: u64 = 0;
pub(super) const CONTENT_GRANT: u64 = 1;
pub(super) const CONTENT_ENTITLEMENT: u64 = 2;
pub(super) const CONTENT_ACKNOWLEDGEMENT: u64 = 3;
pub(super) const CONTENT_REVOCATION: u64 = 4;
pub(super) const CONTENT_CLOCK_CORRECTION: u64 = 5;
pub(super) const CONTENT_REANCHOR: u64 = 6;

fn digest(fingerprint: &Fingerprint) -> Vec<u8> {
    fingerprint.as_bytes().to_vec()
}

fn sequence(sequence: LogSequence) -> u64 {
    sequence.number()
}

pub(super) fn entry(entry: &Entry) -> Vec<u8> {
    let behind = Some(entry.clock_behind_seconds).filter(|seconds| *seconds != 0);
    let start = |kind: u64| {
        Map::new()
            .with(KIND, kind)
            .with(TIME, entry.time)
            .with_some(CLOCK_BEHIND, behind)
    };
    let map = match &entry.body {
        Body::Genesis(genesis) => start(GENESIS)
            .with(3, genesis.vault.site.as_str())
            .with(4, genesis.vault.vault.as_str())
            .with(5, genesis.lineage.as_bytes().to_vec())
            .with(6, genesis.trust_version)
            .with(7, digest(&genesis.trust_fingerprint))
            .with(8, digest(&genesis.enrolment_fingerprint))
            .with(9, genesis.software.as_str()),
        Body::Start(body) => {
            let map = start(START)
                .with(3, body.lineage.as_bytes().to_vec())
                .with(4, body.boot)
                .with(5, body.rules_version)
                .with(6, body.software.as_str());
            steady(map, body.steady).with_some(9, body.anchor)
        }
        Body::Trust(trust) => start(TRUST)
            .with(3, trust.version)
            .with(4, digest(&trust.fingerprint))
            .with(5, trust.dispatch_epoch),
        Body::Dispatch(dispatch) => start(DISPATCH)
            .with(3, dispatch.epoch)
            .with(4, dispatch.sequence)
            .with(5, digest(&dispatch.fingerprint))
            .with(6, dispatch.kind.as_str())
            .with(7, dispatch.id.as_str())
            .with(8, dispatch.version)
            .with(9, verdict(&dispatch.content)),
        Body::Request(request) => start(REQUEST)
            .with(3, request.product.as_str())
            .with(4, request.station.as_str())
            .with(5, submission(&request.submission)),
        Body::Signed(signed) => start(SIGNED)
            .with(3, sequence(signed.reservation))
            .with(4, signed.signature.to_vec()),
        Body::BundleSealed(sealed) => start(BUNDLE_SEALED)
            .with(3, sealed.sequence)
            .with(4, digest(&sealed.fingerprint))
            .with(5, sealed.log_size)
            .with(6, sealed.requests_unlogged),
        Body::Rotation(rotation) => start(ROTATION)
            .with(3, rotation.generation)
            .with(4, digest(&rotation.request_fingerprint)),
        Body::Key(receipt) => start(KEY)
            .with(3, receipt.entitlement.as_str())
            .with(4, receipt.label.as_str())
            .with(5, receipt.outcome.as_str())
            .with_some(
                6,
                match &receipt.outcome {
                    KeyOutcome::Refused { code } => Some(code.as_str()),
                    KeyOutcome::Unwrapped | KeyOutcome::Imported => None,
                },
            ),
        Body::DispatchAccepted => start(DISPATCH_ACCEPTED),
        Body::DispatchRefused { code } => start(DISPATCH_REFUSED).with(3, code.as_str()),
        Body::Reserved(reserved) => start(RESERVED)
            .with(3, reserved.entitlement.as_str())
            .with(4, reserved.account.number())
            .with(5, reserved.slot)
            .with(6, reserved.issue)
            .with(7, reserved.device_id.as_str())
            .with(8, digest(&reserved.spki_sha256))
            .with(9, reserved.tbs.clone())
            .with_some(10, keys(reserved)),
        Body::Existing { reservation } => start(EXISTING).with(3, sequence(*reservation)),
        Body::Refused(refused) => start(REFUSED)
            .with(3, refused.code.as_str())
            .with_some(4, refused.entitlement.as_ref().map(|id| id.as_str())),
        Body::Device(order) => start(DEVICE)
            .with(3, order.action.as_str())
            .with(4, order.product.as_str())
            .with(5, order.device_id.as_str())
            .with(6, order.reason.as_str())
            .with_some(
                7,
                Some(order.station.as_str()).filter(|_| order.station != StationId::console()),
            ),
        Body::Crl(crl) => start(CRL)
            .with(3, crl.generation)
            .with(4, crl.number)
            .with(5, digest(&crl.sha256))
            .with(6, crl.this_update)
            .with(7, crl.next_update),
        Body::Clock(found) => steady(
            start(CLOCK).with(3, found.believed).with(4, found.expected),
            found.steady,
        ),
        Body::ClockConfirm { steady: said } => steady(start(CLOCK_CONFIRM), *said),
        Body::Burned(burned) => {
            let slots = burned.slots.iter().map(|slots| {
                let numbers = [slots.account.number(), slots.first, slots.end];
                Value::Array(numbers.map(Value::from).to_vec())
            });
            start(BURNED)
                .with(3, burned.anchor)
                .with(4, Value::Array(slots.collect()))
        }
        Body::Restored(restored) => start(RESTORED)
            .with(3, restored.parent.as_bytes().to_vec())
            .with(4, restored.size)
            .with(5, digest(&restored.root))
            .with(6, restored.lineage.as_bytes().to_vec())
            .with(7, restored.held)
            .with_array(8, leases(&restored.leases)),
        Body::Pruned(pruned) => {
            let files = pruned.files.iter().map(|file| {
                let digest = Value::from(digest(&file.digest));
                Value::Array(vec![Value::from(file.first), Value::from(file.end), digest])
            });
            start(PRUNED).with(3, pruned.newest).with_array(4, files)
        }
        Body::DeviceChanged(changed) => start(DEVICE_CHANGED)
            .with(3, sequence(changed.reservation))
            .with(4, changed.account.number())
            .with(5, changed.slot)
            .with(6, changed.issue),
        Body::ClockConfirmed => start(CLOCK_CONFIRMED),
        Body::StationCa { certificate } => start(STATION_CA).with(3, certificate.clone()),
        Body::Station(order) => {
            let map = start(STATION)
                .with(3, order.station.as_str())
                .with(4, order.change.as_str());
            match &order.change {
                StationChange::Approve(approval) => approved(map, approval),
                StationChange::Revoke { reason } => map.with(5, reason.as_str()),
            }
        }
        Body::StationChanged => start(STATION_CHANGED),
    };
    map.encode()
}

fn approved(map: Map, approval: &StationApproval) -> Map {
    let terms = &approval.terms;
    let products = terms.products.as_ref().map(|products| {
        let products = products.iter().map(|product| Value::from(product.as_str()));
        Value::Array(products.collect())
    });
    let hours = terms.working_hours.as_ref().map(|hours| {
        let pair = |from: u64, until: u64| Value::Array([from, until].map(Value::from).to_vec());
        let hours = hours.iter().map(|hours| pair(hours.from, hours.until));
        Value::Array(hours.collect())
    });
    map.with(5, terms.until)
        .with(6, approval.request.clone())
        .with(7, approval.certificate.clone())
        .with_some(8, products)
        .with_some(9, terms.units_per_day)
        .with_some(10, hours)
}

fn steady(map: Map, steady: Option<Steady>) -> Map {
    map.with_some(STEADY_BOOT, steady.map(|steady| steady.boot.to_vec()))
        .with_some(STEADY_SECONDS, steady.map(|steady| steady.seconds))
}

fn verdict(verdict: &Verdict) -> Map {
    let content = match verdict {
        Verdict::Rejected { code } => {
            return Map::new().with(1, CONTENT_REJECTED).with(2, code.as_str());
        }
        Verdict::Authentic(content) => content,
    };
    let kind = match content {
        Content::Grant { .. } => CONTENT_GRANT,
        Content::Entitlement { .. } => CONTENT_ENTITLEMENT,
        Content::Acknowledgement { .. } => CONTENT_ACKNOWLEDGEMENT,
        Content::Revocation { .. } => CONTENT_REVOCATION,
        Content::ClockCorrection { .. } => CONTENT_CLOCK_CORRECTION,
        Content::Reanchor { .. } => CONTENT_REANCHOR,
    };
    let map = Map::new()
        .with(1, kind)
        .with(2, digest(&content.fingerprint()))
        .with(3, content.plaintext().to_vec());
    match content {
        Content::Grant {
            identity_certificate,
            device_ca_certificate,
            ..
        } => map
            .with(4, identity_certificate.clone())
            .with(5, device_ca_certificate.clone()),
        _ => map,
    }
}

/// The keys of a reservation; none is written by leaving the field out.
fn keys(reserved: &Reserved) -> Option<Value> {
    let labels = reserved.keys.iter().map(|key| Value::from(key.as_str()));
    (!reserved.keys.is_empty()).then(|| Value::Array(labels.collect()))
}

fn submission(submission: &Submission) -> Map {
    match submission {
        Submission::Csr { der } => Map::new().with(1, der.clone()),
        Submission::Unreadable { sha256, code } => {
            Map::new().with(2, digest(sha256)).with(3, code.as_str())
        }
    }
}

fn leases(leases: &[(AccountTag, u64)]) -> impl Iterator<Item = Value> {
    let pairs = leases.iter();
    pairs.map(|(account, end)| Value::Array([account.number(), *end].map(Value::from).to_vec()))
}
