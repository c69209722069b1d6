//! The log that the vault writes, and the bundles that it seals.

use mintmark_ledger::apply::apply;
use mintmark_ledger::decide::{
    DeviceRecord, Input, Lookup, LookupError, RULES_VERSION, Submitted, decide,
};
use mintmark_ledger::entry::{
    Body, Content, Dispatch as LogDispatch, Entry, Genesis, LogSequence, Request, Signed, Start,
    Submission, Verdict,
};
use mintmark_ledger::serial::SerialCipher;
use mintmark_ledger::state::State;
use mintmark_pki::{CertificationRequest, assemble_crl, crl_tbs};
use mintmark_protocol::bundle::{Bundle, Checkpoint, DispatchSeen};
use mintmark_protocol::dispatch::Dispatch;
use mintmark_protocol::identifier::{DeviceId, Fingerprint, Sku, StationId};
use mintmark_protocol::segment::SegmentBuilder;

use super::super::keys::key;
use super::*;

/// A vault that has no index: what it is asked for is asked for the first time.
pub struct Nobody;

impl Lookup for Nobody {
    fn device(&self, _: &Sku, _: &DeviceId) -> Result<Option<DeviceRecord>, LookupError> {
        Ok(None)
    }

    fn key(&self, _: &Fingerprint) -> Result<Option<DeviceRecord>, LookupError> {
        Ok(None)
    }
}

/// The vault's log, as its rules write it.
#[derive(Clone)]
pub struct Log {
    pub state: State,
    pub records: Vec<Vec<u8>>,
    pub(super) now: u64,
}

impl Log {
    pub(super) fn new() -> Self {
        let mut log = Self {
            state: State::new(),
            records: Vec::new(),
            now: NEW_YEAR - 21 * DAY,
        };
        log.write(Body::Genesis(Genesis {
            vault: vault(),
            lineage: lineage(),
            trust_version: 1,
            trust_fingerprint: pinned().fingerprint(),
            enrolment_fingerprint: enrolment_request_bytes().1,
            software: "site 0.1.0".to_owned(),
        }));
        log.start();
        log
    }

    /// A log of these records.
    pub fn of(records: &[Vec<u8>]) -> Self {
        let mut state = State::new();
        for raw in records {
            let entry = Entry::from_cbor(raw).unwrap();
            assert_eq!(entry.to_cbor(), *raw);
            apply(&mut state, raw, &entry);
        }
        let now = state.mark();
        Self {
            state,
            records: records.to_vec(),
            now,
        }
    }

    pub(super) fn start(&mut self) {
        let boot = self.state.boot() + 1;
        self.write(Body::Start(Start {
            lineage: lineage(),
            boot,
            rules_version: RULES_VERSION,
            software: "site 0.1.0".to_owned(),
            steady: None,
            anchor: None,
        }));
    }

    pub(super) fn write(&mut self, body: Body) {
        let entry = Entry {
            time: self.now,
            clock_behind_seconds: 0,
            body,
        };
        let raw = entry.to_cbor();
        apply(&mut self.state, &raw, &entry);
        self.records.push(raw);
    }

    /// What the vault decides on a dispatch at this time: the code, if it refuses.
    pub fn judge(&self, now: u64, dispatch: &LogDispatch) -> Result<(), String> {
        let input = Input::Dispatch(dispatch);
        match decide(&self.state, &Nobody, None, now, input)
            .unwrap()
            .to_body()
        {
            Body::DispatchAccepted => Ok(()),
            Body::DispatchRefused { code } => Err(code),
            other => panic!("{other:?}"),
        }
    }

    pub(super) fn import(
        &mut self,
        dispatch: &Dispatch,
        fingerprint: Fingerprint,
        content: Content,
    ) {
        let dispatch = LogDispatch {
            epoch: dispatch.epoch,
            sequence: dispatch.sequence,
            fingerprint,
            kind: dispatch.kind.as_str().to_owned(),
            id: dispatch.id.clone(),
            version: dispatch.version,
            content: Verdict::Authentic(content),
        };
        assert_eq!(self.judge(self.now, &dispatch), Ok(()));
        self.write(Body::Dispatch(dispatch));
        self.write(Body::DispatchAccepted);
    }

    pub(super) fn issue(&mut self, sku: &str, device_id: &str, device_key: &str) {
        let der = mintmark_tests::request::der(device_id, &key(device_key).signing());
        let request = CertificationRequest::from_der(&der).unwrap();
        let product: Sku = sku.parse().unwrap();
        let input = Input::Request {
            product: &product,
            station: &StationId::console(),
            submission: Submitted::Verified(&request),
        };
        let decision = decide(&self.state, &Nobody, Some(&serials()), self.now, input).unwrap();
        let body = decision.to_body();
        self.write(Body::Request(Request {
            product: product.clone(),
            station: StationId::console(),
            submission: Submission::Csr { der },
        }));
        self.write(body.clone());
        if let Body::Reserved(reserved) = body {
            let signature = key("device-ca").sign(&reserved.tbs).unwrap();
            self.write(Body::Signed(Signed {
                reservation: LogSequence(self.state.size() - 1),
                signature: signature.to_bytes().into(),
            }));
        }
    }
}

pub fn serials() -> SerialCipher {
    let shared = key("vault-agree")
        .agree(&key("serial-master").public)
        .unwrap();
    SerialCipher::derive(&shared, &vault())
}

/// One sealed bundle and its segments.
#[derive(Clone)]
pub struct Sealed {
    pub bundle: Bundle,
    pub bytes: Vec<u8>,
    pub fingerprint: Fingerprint,
    pub segments: Vec<Vec<u8>>,
}

/// Seals the records from `first` on, a segment for each count.
pub fn seal(
    log: &Log,
    sequence: u64,
    previous: Option<Fingerprint>,
    first: u64,
    counts: &[u64],
    trust_version: u64,
) -> Sealed {
    let recipients = manifest().hq_recipients();
    let (mut segments, mut facts, mut next) = (Vec::new(), Vec::new(), first);
    for (number, count) in (1..).zip(counts) {
        let mut builder = SegmentBuilder::new(next);
        for record in &log.records[next as usize..(next + count) as usize] {
            builder.push(record);
        }
        let id = Bundle::segment_id(&lineage(), sequence, number);
        let (file, found) = builder.seal(&vault(), &id, &recipients).unwrap();
        segments.push(file);
        facts.push(found);
        next += count;
    }
    let chain = log.state.dispatches();
    let crl = crl_tbs(&device_ca(), sequence, log.now, log.now + 60 * DAY, &[]).unwrap();
    let signature = key("device-ca").sign(&crl).unwrap();
    let bundle = Bundle {
        vault: vault(),
        lineage: lineage(),
        sequence,
        previous,
        dispatch_seen: chain.fingerprint.map(|fingerprint| DispatchSeen {
            epoch: EPOCH,
            sequence: chain.sequence,
            fingerprint,
        }),
        checkpoint: Checkpoint {
            size: log.state.size(),
            root: log.state.root(),
            time: log.state.mark(),
        },
        first,
        segments: facts,
        trust_version,
        sealed_at: log.now,
        crl: Some(assemble_crl(&crl, &signature).unwrap()),
    };
    let (bytes, fingerprint) = bundle
        .seal(&key("vault-sign").public, &|m| key("vault-sign").sign(m))
        .unwrap();
    Sealed {
        bundle,
        bytes,
        fingerprint,
        segments,
    }
}
