//! Policies, the records of a log, its replay, and what a vault keeps beside it.

use std::sync::LazyLock;

use mintmark_ledger::decide::{DeviceRecord, Lookup, LookupError};
use mintmark_ledger::entry::Entry;
use mintmark_ledger::policy::{Draft, Policy};
use mintmark_ledger::replay::Replay;
use mintmark_ledger::serial::SerialCipher;
use mintmark_ledger::state::State;
use mintmark_ledger::{fuzzing, index, log};
use mintmark_protocol::entitlement::{AccountTag, Entitlement};
use mintmark_protocol::identifier::{DeviceId, Fingerprint, Sku};

use crate::world::WORLD;

/// When policies are drafted here: March 2027.
const NOW: u64 = 1_804_000_000;

/// A policy that is read can be explained, and becomes an entitlement that a vault reads, or says why not.
pub(crate) fn policy(input: &[u8]) {
    let Ok(text) = std::str::from_utf8(input) else {
        return;
    };
    let policy = match Policy::parse(text) {
        Ok(policy) => policy,
        Err(error) => {
            let _ = (error.code(), error.to_string(), error.hint());
            return;
        }
    };
    assert_eq!(policy.digest(), Fingerprint::of(input));
    let _ = (
        policy.explain(NOW),
        policy.summary(NOW),
        policy.warnings(NOW),
    );
    let compiles = policy.check_compiles(NOW);
    let draft = Draft {
        vault: &WORLD.vault,
        version: 1,
        drafted_at: NOW,
        approve_until: NOW + 86_400,
        salt: [7; 32],
        accounts: &|sku| {
            let place = policy
                .products()
                .iter()
                .position(|product| product.sku == *sku);
            AccountTag::new(place.unwrap_or_default() as u64 + 1).unwrap()
        },
        keys: &|_, _| Some(([0; 32], vec![0; 64])),
    };
    match policy.compile(&draft) {
        Ok(entitlement) => {
            let read = Entitlement::from_cbor(&entitlement.to_cbor());
            assert_eq!(
                read.as_ref().ok(),
                Some(&entitlement),
                "what is drafted is read"
            );
            for product in policy.products() {
                let Some(ids) = &product.device_ids else {
                    continue;
                };
                assert!(ids.devices() > 0, "a list is not empty");
            }
        }
        Err(error) => {
            let _ = (error.code(), error.to_string(), error.hint());
            drop(compiles);
        }
    }
}

/// A record that is read is written again as the same bytes.
pub(crate) fn record(input: &[u8]) {
    match Entry::from_cbor(input) {
        Ok(entry) => {
            assert_eq!(
                hex::encode(entry.to_cbor()),
                hex::encode(input),
                "one record, one encoding"
            );
            let _ = (entry.body.kind(), entry.body.code(), entry.clock());
        }
        Err(error) => {
            let _ = (error.code(), error.to_string(), error.hint());
        }
    }
}

pub(crate) struct Nobody;

impl Lookup for Nobody {
    fn device(&self, _: &Sku, _: &DeviceId) -> Result<Option<DeviceRecord>, LookupError> {
        Ok(None)
    }

    fn key(&self, _: &Fingerprint) -> Result<Option<DeviceRecord>, LookupError> {
        Ok(None)
    }
}

pub(crate) fn serials() -> &'static SerialCipher {
    &SERIALS
}

static SERIALS: LazyLock<SerialCipher> = LazyLock::new(|| {
    let shared = WORLD
        .key("vault-agree")
        .agree(&WORLD.key("serial-master").public);
    SerialCipher::derive(&shared, &WORLD.vault)
});

/// The replay of the fixtures' log after each of its records, beginning with none.
static REPLAYS: LazyLock<Vec<Replay>> = LazyLock::new(|| {
    let mut replay = Replay::new();
    let mut all = vec![replay.clone()];
    for record in &WORLD.records {
        replay.feed(&Nobody, Some(&SERIALS), record, None).unwrap();
        all.push(replay.clone());
    }
    all
});

/// Records that a vault that lies goes on with, after as many of the fixtures' as the first byte says; each with its length
/// before it (2 bytes). They are replayed to the end, whatever they are, and the state that comes of them can be kept.
pub(crate) fn replay(input: &[u8]) {
    let Some((prefix, mut rest)) = input.split_first() else {
        return;
    };
    let mut replay = REPLAYS[usize::from(*prefix) % REPLAYS.len()].clone();
    let mut size = replay.state().size();
    while let Some((length, after)) = rest.split_first_chunk::<2>() {
        let length = usize::from(u16::from_be_bytes(*length)).min(after.len());
        let (record, after) = after.split_at(length);
        rest = after;
        let replayed = replay.feed(&Nobody, Some(&SERIALS), record, None).unwrap();
        assert_eq!(replayed.sequence.number(), size);
        size += 1;
        assert_eq!(replay.state().size(), size, "each record counts as one");
        for divergence in &replayed.divergences {
            assert!(!divergence.code.is_empty());
        }
    }
    let kept = replay.state().to_snapshot();
    let read = State::from_snapshot(&kept).expect("a state that was kept is read");
    assert_eq!(read.to_snapshot(), kept);
    assert_eq!(read.root(), replay.state().root());
}

/// The state as a vault keeps it: what is read and written again is the same from then on. If the first byte is odd, the checksum
/// of what follows is made to fit.
pub(crate) fn snapshot(input: &[u8]) {
    let Some((mended, bytes)) = input.split_first() else {
        return;
    };
    let mut file = bytes.to_vec();
    if mended % 2 == 1 {
        fuzzing::mend_snapshot(&mut file);
    }
    if let Some(written) = fuzzing::snapshot(&file) {
        assert_eq!(fuzzing::snapshot(&written), Some(written));
    }
    if let Ok(state) = State::from_snapshot(bytes) {
        let written = state.to_snapshot();
        let read = State::from_snapshot(&written).expect("a state that was kept is read");
        assert_eq!(read.to_snapshot(), written);
    }
}

/// What stands in the index and beside the log: values of a database, a head, a mark.
pub(crate) fn index_value(input: &[u8]) {
    let Some((kind, bytes)) = input.split_first() else {
        return;
    };
    match kind % 4 {
        0 => {
            if let Some(written) = index::fuzzing::bucket(bytes) {
                assert_eq!(written, bytes, "entries are written in one way");
            }
        }
        1 => {
            if let Some(written) = index::fuzzing::head(bytes) {
                assert_eq!(written, bytes);
            }
        }
        mended => {
            let mut mark = bytes.to_vec();
            if mended == 3 {
                log::fuzzing::mend_mark(&mut mark);
            }
            if let Some(written) = log::fuzzing::mark(&mark) {
                assert_eq!(written, mark);
            }
        }
    }
}
