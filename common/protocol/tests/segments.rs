//! Segments and the bundle that commits to them: each test breaks one rule and names the code that refuses it.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod support;

use ciborium::Value;
use mintmark_protocol::bundle::Bundle;
use mintmark_protocol::identifier::{Fingerprint, VaultName};
use mintmark_protocol::segment::{SEGMENT_RECORD_BYTES_MAX, Segment, SegmentBuilder, SegmentFacts};
use support::forge::{Parts, with};
use support::*;

fn open(
    file: &[u8],
    facts: &SegmentFacts,
    vault: &VaultName,
    id: &str,
) -> Result<u64, &'static str> {
    let opened = audit_key().open(|opener| Segment::open(file, facts, vault, id, opener));
    opened
        .map(|segment| segment.records().count() as u64)
        .map_err(|error| error.code())
}

/// A segment whose plaintext is changed and whose digests in the bundle are those of the lie: only the vault itself
/// could make it.
fn own_lie(change: impl FnOnce(&[u8]) -> Vec<u8>) -> Result<u64, &'static str> {
    let id = segment_id(1);
    let (file, facts) = segment_bytes(1000, 30, &id);
    let plaintext = change(&forge::decrypt(&file, &audit_key()));
    let header = Parts::of(&file).protected;
    let file = forge::encrypt(header, &plaintext, &manifest().hq_recipients()).write();
    let facts = SegmentFacts {
        file_digest: Fingerprint::of(&file),
        file_bytes: file.len() as u64,
        commitment: Fingerprint::of(&plaintext),
        ..facts
    };
    open(&file, &facts, &vault(), &id)
}

/// As [`own_lie`], with other records.
fn own_records(records: &[u8]) -> Result<u64, &'static str> {
    let compressed = zstd::bulk::compress(records, 19).unwrap();
    own_lie(|plaintext| with(plaintext, 4, Value::Bytes(compressed)))
}

#[test]
fn what_is_sealed_without_the_crate_is_accepted() {
    assert_eq!(own_lie(<[u8]>::to_vec), Ok(30));
}

#[test]
fn a_segment_in_the_place_of_another_is_refused() {
    let sealed = sealed_bundle();
    let [one, two] = [0, 1].map(|at| (&sealed.segments[at], &sealed.bundle.segments[at]));
    assert_eq!(open(one.0, one.1, &vault(), &segment_id(1)), Ok(30));
    assert_eq!(open(two.0, two.1, &vault(), &segment_id(2)), Ok(5));
    assert_eq!(
        open(one.0, two.1, &vault(), &segment_id(2)),
        Err("COMMITMENT-MISMATCH")
    );
}

#[test]
fn a_segment_of_another_bundle_is_refused_though_its_digest_is_named() {
    let id = Bundle::segment_id(&lineage(), 3, 1);
    let (file, facts) = segment_bytes(1000, 30, &id);
    assert_eq!(
        open(&file, &facts, &vault(), &segment_id(1)),
        Err("MESSAGE-PARTS")
    );
    let other = vault_named("munich", "v1");
    assert_eq!(open(&file, &facts, &other, &id), Err("MESSAGE-PARTS"));
    assert_eq!(open(&file, &facts, &vault(), &id), Ok(30));
}

#[test]
fn a_segment_that_decrypts_to_something_else_than_committed_is_refused() {
    let (file, facts) = segment_bytes(1000, 30, &segment_id(1));
    let facts = SegmentFacts {
        commitment: Fingerprint::of(b"another"),
        ..facts
    };
    assert_eq!(
        open(&file, &facts, &vault(), &segment_id(1)),
        Err("COMMITMENT-MISMATCH")
    );
}

#[test]
fn a_segment_that_is_not_for_us_is_refused() {
    let (file, facts) = segment_bytes(1000, 30, &segment_id(1));
    let opened = vault_agree().open(|o| Segment::open(&file, &facts, &vault(), &segment_id(1), o));
    assert_eq!(opened.err().unwrap().code(), "NOT-RECIPIENT");
}

#[test]
fn a_segment_with_other_records_than_the_bundle_says_is_refused() {
    assert_eq!(
        own_lie(|plaintext| with(plaintext, 2, 1001)),
        Err("MESSAGE-PARTS")
    );
    assert_eq!(
        own_lie(|plaintext| with(plaintext, 3, 31)),
        Err("MESSAGE-PARTS")
    );
    let twenty_nine: Vec<u8> = records(1000, 29)
        .iter()
        .flat_map(|record| framed(record))
        .collect();
    assert_eq!(own_records(&twenty_nine), Err("MESSAGE-SHAPE"));
}

fn framed(record: &[u8]) -> Vec<u8> {
    [&(record.len() as u32).to_be_bytes()[..], record].concat()
}

#[test]
fn a_record_that_is_cut_short_is_refused() {
    let mut all: Vec<u8> = records(1000, 30)
        .iter()
        .flat_map(|record| framed(record))
        .collect();
    assert_eq!(own_records(&all), Ok(30));
    all.pop();
    assert_eq!(own_records(&all), Err("MESSAGE-SHAPE"));
    all.extend([0x78, 0x00, 0x00]);
    assert_eq!(own_records(&all), Err("MESSAGE-SHAPE"));
    let endless = [&u32::MAX.to_be_bytes()[..], b"x"].concat();
    assert_eq!(own_records(&endless), Err("MESSAGE-SHAPE"));
}

#[test]
fn a_segment_of_another_format_version_or_shape_is_refused() {
    assert_eq!(
        own_lie(|plaintext| with(plaintext, 1, 2)),
        Err("MESSAGE-VERSION")
    );
    assert_eq!(
        own_lie(|plaintext| with(plaintext, 5, 1)),
        Err("MESSAGE-SHAPE")
    );
    assert_eq!(
        own_lie(|plaintext| forge::without(plaintext, 0)),
        Err("MESSAGE-SHAPE")
    );
    assert_eq!(own_lie(|_| Vec::new()), Err("MESSAGE-ENCODING"));
}

#[test]
fn a_decompression_bomb_is_refused() {
    let bomb = vec![0; SEGMENT_RECORD_BYTES_MAX + 1];
    assert!(zstd::bulk::compress(&bomb, 19).unwrap().len() < 2000);
    assert_eq!(own_records(&bomb), Err("MESSAGE-SHAPE"));
    // One that does not say how large it is.
    let streamed = zstd::stream::encode_all(bomb.as_slice(), 19).unwrap();
    let result = own_lie(|plaintext| with(plaintext, 4, Value::Bytes(streamed)));
    assert_eq!(result, Err("MESSAGE-SHAPE"));
}

#[test]
fn what_is_not_one_zstd_frame_is_refused() {
    let frame = |records: &[Vec<u8>]| {
        let framed: Vec<u8> = records.iter().flat_map(|record| framed(record)).collect();
        zstd::bulk::compress(&framed, 3).unwrap()
    };
    let all = records(1000, 30);
    let whole = frame(&all);
    let compressed = |bytes: Vec<u8>| own_lie(|plaintext| with(plaintext, 4, Value::Bytes(bytes)));
    assert_eq!(compressed(whole.clone()), Ok(30));
    assert_eq!(
        compressed([frame(&all[..10]), frame(&all[10..])].concat()),
        Err("MESSAGE-SHAPE")
    );
    let skippable = [0x50, 0x2a, 0x4d, 0x18, 1, 0, 0, 0, 0];
    assert_eq!(
        compressed([whole.clone(), skippable.into()].concat()),
        Err("MESSAGE-SHAPE")
    );
    assert_eq!(
        compressed([whole.clone(), vec![0]].concat()),
        Err("MESSAGE-SHAPE")
    );
    assert_eq!(
        compressed(whole[..whole.len() - 1].to_vec()),
        Err("MESSAGE-SHAPE")
    );
    assert_eq!(compressed(Vec::new()), Err("MESSAGE-SHAPE"));
}

#[test]
fn a_segment_that_is_full_says_so_and_opens() {
    let record = vec![0xa5; 1 << 20];
    let mut builder = SegmentBuilder::new(0);
    let mut count = 0;
    while builder.has_room(record.len()) {
        builder.push(&record);
        count += 1;
    }
    assert_eq!(count, 7, "8 MiB less the lengths");
    let (file, facts) = builder
        .seal(&vault(), "x", &manifest().hq_recipients())
        .unwrap();
    assert_eq!(open(&file, &facts, &vault(), "x"), Ok(7));
}

#[test]
fn records_that_do_not_compress_fit_their_file() {
    let mut builder = SegmentBuilder::new(0);
    // Bytes that no compressor helps: hashes in a chain.
    let mut digest = Fingerprint::of(b"start");
    while builder.has_room(1 << 16) {
        let mut record = Vec::with_capacity(1 << 16);
        while record.len() < 1 << 16 {
            digest = Fingerprint::of(digest.as_bytes());
            record.extend_from_slice(digest.as_bytes());
        }
        builder.push(&record);
    }
    let (file, facts) = builder
        .seal(&vault(), "x", &manifest().hq_recipients())
        .unwrap();
    assert!(file.len() > SEGMENT_RECORD_BYTES_MAX - (1 << 17));
    assert_eq!(open(&file, &facts, &vault(), "x"), Ok(127));
}

/// What opening a bundle with this change to its content ends in, signed anew by the vault.
fn bundle_with(change: impl FnOnce(&[u8]) -> Vec<u8>) -> Result<(), &'static str> {
    let parts = Parts::of(&sealed_bundle().bytes);
    let payload = change(&parts.payload());
    let bytes = parts.with_payload(payload).signed(&[vault_sign()]);
    let opened = Bundle::open(&bytes, &vault(), &vault_sign().public);
    opened.map(drop).map_err(|error| error.code())
}

fn with_segment(payload: &[u8], at: usize, key: i64, value: u64) -> Vec<u8> {
    let mut segments = forge::entry(payload, 10).into_array().unwrap();
    segments[at] = forge::read(&with(&forge::write(&segments[at]), key, value));
    with(payload, 10, Value::Array(segments))
}

#[test]
fn a_bundle_whose_segments_leave_a_gap_or_overlap_is_refused() {
    assert_eq!(bundle_with(<[u8]>::to_vec), Ok(()));
    assert_eq!(
        bundle_with(|payload| with(payload, 9, 999)),
        Err("MESSAGE-SHAPE")
    );
    assert_eq!(
        bundle_with(|payload| with_segment(payload, 1, 1, 1031)),
        Err("MESSAGE-SHAPE")
    );
    assert_eq!(
        bundle_with(|payload| with_segment(payload, 1, 1, 1029)),
        Err("MESSAGE-SHAPE")
    );
    assert_eq!(
        bundle_with(|payload| with_segment(payload, 1, 2, 4)),
        Err("MESSAGE-SHAPE")
    );
    assert_eq!(
        bundle_with(|payload| with_segment(payload, 1, 2, u64::MAX)),
        Err("MESSAGE-SHAPE")
    );
    assert_eq!(
        bundle_with(|payload| with_segment(payload, 1, 2, 0)),
        Err("MESSAGE-SHAPE")
    );
    assert_eq!(
        bundle_with(|payload| with(payload, 10, Value::Array(vec![]))),
        Err("MESSAGE-SHAPE")
    );
}

#[test]
fn a_bundle_that_is_not_what_its_header_calls_it_is_refused() {
    let parts = Parts::of(&sealed_bundle().bytes);
    let id = Bundle::object_id(&lineage(), 3);
    let header = forge::with_context(&parts.protected, 5, id);
    let bytes = parts.with_protected(header).signed(&[vault_sign()]);
    let error = Bundle::open(&bytes, &vault(), &vault_sign().public).unwrap_err();
    assert_eq!(error.code(), "MESSAGE-PARTS");
    assert_eq!(
        bundle_with(|payload| with(payload, 5, 3)),
        Err("MESSAGE-PARTS")
    );
    assert_eq!(
        bundle_with(|payload| with(payload, 3, "v2")),
        Err("MESSAGE-PARTS")
    );
    let other = Value::Bytes(vec![1; 16]);
    assert_eq!(
        bundle_with(|payload| with(payload, 4, other)),
        Err("MESSAGE-PARTS")
    );
}

#[test]
fn the_first_bundle_of_a_lineage_and_no_other_has_none_before_it() {
    assert_eq!(
        bundle_with(|payload| with(payload, 6, Value::Null)),
        Err("MESSAGE-SHAPE")
    );
    assert_eq!(
        bundle_with(|payload| with(payload, 5, 1)),
        Err("MESSAGE-SHAPE")
    );
}

#[test]
fn a_bundle_that_does_not_fit_is_not_sealed() {
    let mut broken = sealed_bundle().bundle;
    broken.checkpoint.size += 1;
    let error = broken
        .seal(&vault_sign().public, &|m| vault_sign().sign(m))
        .unwrap_err();
    assert_eq!(error.code(), "MESSAGE-SHAPE");
}
