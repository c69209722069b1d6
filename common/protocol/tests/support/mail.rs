//! What goes to and fro between headquarters and a vault.

use mintmark_protocol::Error;
use mintmark_protocol::acknowledgement::Acknowledgement;
use mintmark_protocol::bundle::{Bundle, Checkpoint, DispatchSeen};
use mintmark_protocol::dispatch::{BundleSeen, Dispatch};
use mintmark_protocol::envelope::{Kind, Verified};
use mintmark_protocol::identifier::Fingerprint;
use mintmark_protocol::log_tail::LogTail;
use mintmark_protocol::restore::RestoreDeclaration;
use mintmark_protocol::segment::{SegmentBuilder, SegmentFacts};

use super::*;

pub fn acknowledgement() -> Acknowledgement {
    Acknowledgement {
        salt: [8; 32],
        vault: vault(),
        hq_time: 1_800_050_000,
        lineage: lineage(),
        bundle_sequence: 3,
        bundle_fingerprint: Fingerprint::of(b"bundle"),
        log_size: 1234,
        log_root: Fingerprint::of(b"root"),
        findings: 0,
    }
}

pub fn acknowledgement_bytes() -> Vec<u8> {
    acknowledgement()
        .seal(&manifest(), &vault_agree().public, &|m| {
            dispatch_key().sign(m)
        })
        .unwrap()
}

pub fn restore_declaration() -> RestoreDeclaration {
    let tag = |number| mintmark_protocol::entitlement::AccountTag::new(number).unwrap();
    RestoreDeclaration {
        vault: vault(),
        parent: lineage(),
        size: 1200,
        root: Fingerprint::of(b"root at 1200"),
        lineage: mintmark_protocol::identifier::Lineage::new([0x77; 16]),
        declared_at: 1_800_070_000,
        anchor: 17,
        anchored_size: 1250,
        leases: vec![(tag(1), 410), (tag(3), 12)],
    }
}

pub fn restore_declaration_bytes() -> Vec<u8> {
    let key = vault_sign();
    restore_declaration()
        .seal(&key.public, &|m| key.sign(m))
        .unwrap()
}

pub fn open_restore_declaration(bytes: &[u8]) -> Result<Verified<RestoreDeclaration>, Error> {
    RestoreDeclaration::open(bytes, &vault(), &vault_sign().public)
}

/// A part of the tail that answers the declaration.
pub fn log_tail() -> LogTail {
    LogTail {
        salt: [6; 32],
        vault: vault(),
        declaration: Fingerprint::of(&restore_declaration().to_cbor()),
        part: 1,
        parts: 2,
        log_size: 1234,
        log_root: Fingerprint::of(b"root"),
        first: 1200,
        records: vec![vec![0xa1, 0x00, 0x01], b"record".to_vec()],
    }
}

pub fn log_tail_bytes() -> Vec<u8> {
    log_tail()
        .seal(&manifest(), &vault_agree().public, &|m| {
            dispatch_key().sign(m)
        })
        .unwrap()
}

pub fn open_log_tail(bytes: &[u8]) -> Result<Verified<LogTail>, Error> {
    vault_agree().open(|opener| LogTail::open(bytes, &pinned(), &vault(), opener))
}

pub fn open_acknowledgement(bytes: &[u8]) -> Result<Verified<Acknowledgement>, Error> {
    vault_agree().open(|opener| Acknowledgement::open(bytes, &pinned(), &vault(), opener))
}

/// A dispatch of this content; the second of its epoch.
pub fn dispatch(kind: Kind, id: &str, content: Vec<u8>) -> Dispatch {
    Dispatch {
        vault: vault(),
        epoch: 1,
        sequence: 2,
        previous: Some(Fingerprint::of(b"dispatch before")),
        bundle_seen: Some(BundleSeen {
            lineage: lineage(),
            sequence: 3,
            fingerprint: Fingerprint::of(b"bundle"),
        }),
        kind,
        id: id.to_owned(),
        version: 1,
        content,
        certificates: vec![vec![0x30, 0x00]],
        made_at: 1_800_060_000,
    }
}

/// A dispatch of the acknowledgement.
pub fn dispatch_bytes() -> Vec<u8> {
    let content = acknowledgement_bytes();
    dispatch(Kind::Acknowledgement, "ack-000003", content)
        .seal(&manifest(), &|m| dispatch_key().sign(m))
        .unwrap()
        .0
}

/// Records as a log would write them: of several lengths, none of them CBOR.
pub fn records(first: u64, count: u64) -> Vec<Vec<u8>> {
    (first..first + count)
        .map(|sequence| format!("record {sequence} {}", "x".repeat(sequence as usize % 50)))
        .map(String::into_bytes)
        .collect()
}

pub fn segment_bytes(first: u64, count: u64, id: &str) -> (Vec<u8>, SegmentFacts) {
    let mut builder = SegmentBuilder::new(first);
    for record in records(first, count) {
        builder.push(&record);
    }
    builder
        .seal(&vault(), id, &manifest().hq_recipients())
        .unwrap()
}

pub fn segment_id(number: usize) -> String {
    Bundle::segment_id(&lineage(), 2, number)
}

pub fn bundle(segments: Vec<SegmentFacts>) -> Bundle {
    let first = segments.first().map_or(1000, |segment| segment.first);
    let size = segments
        .last()
        .map_or(first, |segment| segment.first + segment.count);
    Bundle {
        vault: vault(),
        lineage: lineage(),
        sequence: 2,
        previous: Some(Fingerprint::of(b"bundle before")),
        dispatch_seen: Some(DispatchSeen {
            epoch: 1,
            sequence: 2,
            fingerprint: Fingerprint::of(b"dispatch"),
        }),
        checkpoint: Checkpoint {
            size,
            root: Fingerprint::of(b"root"),
            time: 1_800_070_000,
        },
        first,
        segments,
        trust_version: 1,
        sealed_at: 1_800_070_001,
        crl: Some(vec![0x30, 0x00]),
    }
}

/// A bundle of two segments, and those.
pub struct Sealed {
    pub bundle: Bundle,
    pub bytes: Vec<u8>,
    pub fingerprint: Fingerprint,
    pub segments: Vec<Vec<u8>>,
}

pub fn sealed_bundle() -> Sealed {
    let (one, one_facts) = segment_bytes(1000, 30, &segment_id(1));
    let (two, two_facts) = segment_bytes(1030, 5, &segment_id(2));
    let bundle = bundle(vec![one_facts, two_facts]);
    let (bytes, fingerprint) = bundle
        .seal(&vault_sign().public, &|m| vault_sign().sign(m))
        .unwrap();
    Sealed {
        bundle,
        bytes,
        fingerprint,
        segments: vec![one, two],
    }
}
