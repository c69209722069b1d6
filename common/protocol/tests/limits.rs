//! The last value that each limit lets through, and the first that it does not.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod support;

use ciborium::Value;
use mintmark_protocol::Error;
use mintmark_protocol::approval::{PROPOSAL_BYTES_MAX, Proposal, SIGNATURES_MAX};
use mintmark_protocol::audit_grant::{
    AuditGrant, LISTED_MAX, SerialKey, trust_from_cbor, trust_to_cbor,
};
use mintmark_protocol::backup::{Backup, Entry};
use mintmark_protocol::bundle::{Bundle, CRL_BYTES_MAX};
use mintmark_protocol::dossier::Dossier;
use mintmark_protocol::encryption::RECIPIENTS_MAX;
use mintmark_protocol::enrolment::{EnrolmentGrant, EnrolmentRequest, Purpose};
use mintmark_protocol::entitlement::{
    CLOCK_GAP_DAYS_MAX, DeviceIdSource, Entitlement, INTERVALS_MAX, Interval, RETENTION_DAYS_MAX,
    UNITS_MAX,
};
use mintmark_protocol::receipt::{InclusionProof, Receipt};
use mintmark_protocol::report::{REPORT_CONTENT_BYTES_MAX, Report};
use mintmark_protocol::segment::{SEGMENT_RECORD_BYTES_MAX, SegmentBuilder};
use mintmark_protocol::transcript::{ENTRIES_MAX, TRANSCRIPT_BYTES_MAX, Transcript};
use mintmark_protocol::trust::{HQ_NAME_BYTES_MAX, TrustManifest, UNIX_TIME_MAX, VERSION_MAX};
use support::*;

fn code<T>(result: Result<T, Error>) -> Result<(), &'static str> {
    result.map(drop).map_err(|error| error.code())
}

const SHAPE: Result<(), &str> = Err("MESSAGE-SHAPE");

fn judged(change: impl FnOnce(&mut TrustManifest)) -> Result<(), &'static str> {
    let mut manifest = manifest_second();
    change(&mut manifest);
    code(manifest.check())
}

#[test]
fn a_trust_manifest_has_versions_times_and_names_up_to_their_ends() {
    assert_eq!(judged(|m| m.version = VERSION_MAX), Ok(()));
    assert_eq!(judged(|m| m.version = VERSION_MAX + 1), SHAPE);
    assert_eq!(judged(|m| m.expires_at = UNIX_TIME_MAX), Ok(()));
    assert_eq!(judged(|m| m.expires_at = UNIX_TIME_MAX + 1), SHAPE);
    assert_eq!(
        judged(|m| (m.issued_at, m.expires_at) = (UNIX_TIME_MAX + 1, UNIX_TIME_MAX + 2)),
        SHAPE
    );
    assert_eq!(judged(|m| m.expires_at = m.issued_at + 1), Ok(()));
    assert_eq!(judged(|m| m.expires_at = m.issued_at), SHAPE);
    let name = |bytes| "x".repeat(bytes);
    assert_eq!(judged(|m| m.hq_name = name(HQ_NAME_BYTES_MAX)), Ok(()));
    assert_eq!(judged(|m| m.hq_name = name(HQ_NAME_BYTES_MAX + 1)), SHAPE);
    assert_eq!(judged(|m| m.hq_name = String::new()), SHAPE);
}

#[test]
fn a_trust_manifest_knows_its_officers_and_its_keys_and_no_others() {
    let manifest = manifest();
    for officer in &manifest.officers {
        assert_eq!(manifest.officer(&officer.id), Some(officer));
        assert!(manifest.lists(&officer.agreement_key));
        assert!(officer.signing_keys.iter().all(|key| manifest.lists(key)));
    }
    assert_eq!(manifest.officer(&"nobody".parse().unwrap()), None);
    assert!(manifest.lists(&manifest.dispatch_key) && manifest.lists(&manifest.report_key));
    assert!(
        manifest
            .encryption_keys
            .iter()
            .all(|key| manifest.lists(&key.key))
    );
    assert!(!manifest.lists(&stranger().public));
}

#[test]
fn a_key_is_one_of_the_curve_and_the_type_that_were_agreed() {
    let manifest = manifest();
    let read = |kty: i64, curve: i64| {
        let mut key = forge::cose_key(&manifest.dispatch_key).into_map().unwrap();
        for (label, value) in &mut key {
            match label.as_integer().map(i128::from) {
                Some(1) => *value = kty.into(),
                Some(-1) => *value = curve.into(),
                _ => {}
            }
        }
        let bytes = forge::with(&manifest.to_cbor(), 10, Value::Map(key));
        code(TrustManifest::from_cbor(&bytes))
    };
    assert_eq!(read(2, 1), Ok(()));
    for (kty, curve) in [(1, 1), (2, 2), (3, 3)] {
        assert_eq!(read(kty, curve), Err("MESSAGE-KEY"), "{kty} {curve}");
    }
}

#[test]
fn an_entitlement_has_days_units_and_hours_up_to_their_ends() {
    let read = |change: &dyn Fn(&mut Entitlement)| {
        let mut changed = entitlement();
        change(&mut changed);
        let read = Entitlement::from_cbor(&changed.to_cbor());
        if let Ok(read) = &read {
            assert_eq!(*read, changed);
        }
        code(read)
    };
    for (days_max, set) in [
        (
            CLOCK_GAP_DAYS_MAX,
            (|e: &mut Entitlement, days| e.clock_gap_days_max = Some(days)) as fn(&mut _, u64),
        ),
        (RETENTION_DAYS_MAX, |e, days| e.retention_days = Some(days)),
    ] {
        for days in [1, days_max] {
            assert_eq!(read(&|e| set(e, days)), Ok(()), "{days}");
        }
        for days in [0, days_max + 1] {
            assert_eq!(read(&|e| set(e, days)), SHAPE, "{days}");
        }
    }
    assert_eq!(read(&|e| e.products[0].units = UNITS_MAX), Ok(()));
    assert_eq!(read(&|e| e.products[0].units = UNITS_MAX + 1), SHAPE);
    let source = DeviceIdSource::CommonName;
    assert_eq!(read(&|e| e.products[0].device_id_source = source), Ok(()));
}

#[test]
fn hours_are_in_order_do_not_overlap_and_are_no_more_than_can_be_read() {
    let hours = |count: u64| -> Value {
        let hour = |n: u64| Value::Array(vec![(2 * n).into(), (2 * n + 1).into()]);
        Value::Array((0..count).map(hour).collect())
    };
    let count_max = INTERVALS_MAX as u64;
    let read = |value| Interval::read_all(value, INTERVALS_MAX);
    assert_eq!(read(hours(count_max)).unwrap().len(), INTERVALS_MAX);
    assert_eq!(read(hours(count_max + 1)), None);
    let hour = Interval {
        from: 10,
        until: 20,
    };
    let within = [(9, false), (10, true), (19, true), (20, false)];
    for (time, inside) in within {
        assert_eq!(hour.contains(time), inside, "{time}");
    }
}

#[test]
fn a_backup_names_its_software_and_paths_that_stay_within_the_home() {
    let read = |bytes: usize| {
        let software = "x".repeat(bytes);
        code(Backup::from_cbor(
            &Backup {
                software,
                ..backup()
            }
            .to_cbor(),
        ))
    };
    assert_eq!([read(1), read(64)], [Ok(()), Ok(())]);
    assert_eq!([read(0), read(65)], [SHAPE, SHAPE]);
    let entry = |path: &str| Entry {
        path: path.to_owned(),
        bytes: 7,
    };
    let inside = entry("log/00000000000000000000.log");
    assert_eq!(Entry::from_cbor(&inside.to_cbor()).unwrap(), inside);
    for outside in ["", "/etc", "../x", "log/../../x", "log//x", "log/"] {
        let read = Entry::from_cbor(&entry(outside).to_cbor());
        assert_eq!(code(read), SHAPE, "{outside}");
    }
}

#[test]
fn a_bundle_brings_a_revocation_list_up_to_its_ceiling() {
    let sealed = |crl: usize| {
        let crl = Some(vec![0; crl]);
        let bundle = Bundle {
            crl,
            ..sealed_bundle().bundle
        };
        code(bundle.seal(&vault_sign().public, &|m| vault_sign().sign(m)))
    };
    assert_eq!(sealed(CRL_BYTES_MAX), Ok(()));
    assert_eq!(sealed(CRL_BYTES_MAX + 1), SHAPE);
}

#[test]
fn a_dossier_gives_a_reason_of_no_more_than_can_be_read() {
    let read = |bytes: usize| {
        let mut dossier = dossier();
        dossier.state.reason = Some("x".repeat(bytes));
        code(Dossier::from_cbor(&dossier.to_cbor()))
    };
    assert_eq!([read(1), read(800)], [Ok(()), Ok(())]);
    assert_eq!([read(0), read(801)], [SHAPE, SHAPE]);
}

#[test]
fn a_report_is_sealed_up_to_its_ceiling() {
    let report = |bytes: usize| Report {
        content: vec![b'x'; bytes],
        ..report()
    };
    let seal = |report: &Report| {
        let key = report_key();
        code(report.seal(&key.public, &|m| key.sign(m)))
    };
    let largest = report(REPORT_CONTENT_BYTES_MAX);
    assert_eq!(seal(&largest), Ok(()));
    assert_eq!(code(Report::from_cbor(&largest.to_cbor())), Ok(()));
    let larger = report(REPORT_CONTENT_BYTES_MAX + 1);
    assert_eq!(seal(&larger), Err("MESSAGE-OVERSIZE"));
    assert_eq!(code(Report::from_cbor(&larger.to_cbor())), SHAPE);
    assert_eq!(code(Report::from_cbor(&report(0).to_cbor())), SHAPE);
}

#[test]
fn a_transcript_has_entries_up_to_their_ceilings() {
    let seal = |entries: usize, text: usize| {
        let mut transcript = transcript();
        let mut entry = transcript.entries[0].clone();
        entry.text = "x".repeat(text);
        transcript.entries = vec![entry; entries];
        let key = report_key();
        let sealed = transcript.seal(&key.public, &|m| key.sign(m));
        if let Ok(bytes) = &sealed {
            assert_eq!(*open_transcript(bytes).unwrap().content(), transcript);
        }
        code(sealed)
    };
    assert_eq!(seal(ENTRIES_MAX, 10), Ok(()));
    assert_eq!(seal(ENTRIES_MAX + 1, 10), Err("MESSAGE-OVERSIZE"));
    // 130 of 64 KiB are more than 8 MiB.
    assert_eq!(seal(130, 65_536), Err("MESSAGE-OVERSIZE"));
    assert_eq!(seal(1, 65_536), Ok(()));
    // With 4 KiB for what is around it, it fills a message to the octet.
    let mut full = transcript();
    let mut entry = full.entries[0].clone();
    entry.text = "x".repeat(65_000);
    full.entries = vec![entry; 128];
    let mut left = TRANSCRIPT_BYTES_MAX - 4096 - full.to_cbor().len();
    for entry in &mut full.entries {
        let more = left.min(500);
        entry.text.push_str(&"x".repeat(more));
        left -= more;
    }
    assert_eq!(full.to_cbor().len() + 4096, TRANSCRIPT_BYTES_MAX);
    let sealed = |transcript: &Transcript| {
        let key = report_key();
        code(transcript.seal(&key.public, &|m| key.sign(m)))
    };
    assert_eq!(sealed(&full), Ok(()));
    full.entries[0].text.push('x');
    assert_eq!(sealed(&full), Err("MESSAGE-OVERSIZE"));
    let too_long = |command: usize, text: usize| {
        let mut transcript = transcript();
        transcript.entries[0].command = "x".repeat(command);
        transcript.entries[0].text = "x".repeat(text);
        code(Transcript::from_cbor(&transcript.to_cbor()))
    };
    assert_eq!(too_long(8192, 65_536), Ok(()));
    assert_eq!(
        [too_long(8193, 1), too_long(1, 65_537), too_long(0, 1)],
        [SHAPE; 3]
    );
}

#[test]
fn a_grant_to_an_auditor_lists_keys_up_to_their_ceiling_and_manifests_that_are_some() {
    let seal = |hq_keys: usize, serial_keys: usize| {
        let grant = AuditGrant {
            hq_keys: vec![audit_key().public; hq_keys],
            serial_keys: (0..serial_keys)
                .map(|number| SerialKey {
                    vault: vault_named("berlin", &format!("v{number}")),
                    key: zeroize::Zeroizing::new([0x55; 32]),
                })
                .collect(),
            ..audit_grant()
        };
        let key = report_key();
        code(grant.seal(&key.public, &|m| key.sign(m)))
    };
    assert_eq!(seal(LISTED_MAX, LISTED_MAX), Ok(()));
    assert_eq!(seal(LISTED_MAX + 1, 1), Err("MESSAGE-OVERSIZE"));
    assert_eq!(seal(1, LISTED_MAX + 1), Err("MESSAGE-OVERSIZE"));

    // Secrets of 65 bytes each, and nothing behind the last of them.
    let whole = forge::entry(&audit_grant().to_cbor(), 7)
        .into_bytes()
        .unwrap();
    for bytes in [whole.len() - 1, whole.len() - 32, 1] {
        let cut = forge::bytes(&whole[..bytes]);
        let cut = forge::with(&audit_grant().to_cbor(), 7, cut);
        assert_eq!(code(AuditGrant::from_cbor(&cut)), SHAPE, "{bytes}");
    }

    let manifests = vec![trust_bytes(), trust_second_bytes()];
    assert_eq!(
        trust_from_cbor(&trust_to_cbor(&manifests)).unwrap(),
        manifests
    );
    assert_eq!(code(trust_from_cbor(&trust_to_cbor(&[]))), SHAPE);
}

#[test]
fn a_segment_holds_records_until_the_next_one_has_no_room() {
    let mut segment = SegmentBuilder::new(7);
    assert!(segment.is_empty());
    // The length of a record takes four bytes.
    assert!(
        segment.has_room(2 * SEGMENT_RECORD_BYTES_MAX),
        "an empty one has room for any"
    );
    segment.push(&[1; 1000]);
    assert!(!segment.is_empty());
    let room = SEGMENT_RECORD_BYTES_MAX - 1004 - 4;
    assert!(segment.has_room(room));
    assert!(!segment.has_room(room + 1));
}

#[test]
fn a_receipt_has_one_tag_and_a_path_that_a_log_could_have() {
    let receipt = |index: u64, steps: usize| {
        let proof = InclusionProof {
            size: 8,
            index,
            path: vec![[1; 32]; steps],
        };
        let root = mintmark_protocol::identifier::Fingerprint::of(b"root");
        let key = report_key();
        Receipt::issue(
            "vault:berlin/v1",
            &proof,
            &root,
            (&key.public, &|m| key.sign(m)),
        )
        .unwrap()
    };
    assert_eq!(code(Receipt::read(&receipt(7, 64))), Ok(()));
    assert_eq!(code(Receipt::read(&receipt(8, 3))), SHAPE);
    assert_eq!(code(Receipt::read(&receipt(7, 65))), SHAPE);
    // COSE_Sign and COSE_Encrypt in the place of COSE_Sign1.
    for tag in [0x62, 0x60] {
        let other = [&[0xd8, tag], &receipt(7, 3)[1..]].concat();
        assert_eq!(code(Receipt::read(&other)), SHAPE);
    }
}

#[test]
fn grants_of_every_purpose_and_requests_with_every_transport_key_arrive() {
    for grant in [grant(), rotation(), succession()] {
        assert_eq!(EnrolmentGrant::from_cbor(&grant.to_cbor()).unwrap(), grant);
        let generation = grant.purpose.device_ca_generation();
        match &grant.purpose {
            Purpose::Rotation { .. } => assert_eq!(generation, 2),
            _ => assert_eq!(generation, 1),
        }
        let succeeds = matches!(grant.purpose, Purpose::Succession(_));
        assert_eq!(grant.purpose.succession().is_some(), succeeds);
    }
    for generation in [0, 1] {
        let mut first = rotation();
        first.purpose = Purpose::Rotation { generation: 2 };
        let bytes = first.to_cbor();
        let bytes = forge::with(&bytes, rotation_field(&bytes), generation);
        assert_eq!(
            code(EnrolmentGrant::from_cbor(&bytes)),
            SHAPE,
            "{generation}"
        );
    }
    let asked = |modulus: Vec<u8>, exponent: Vec<u8>| {
        let mut request = enrolment_request();
        let key = request.transport_key.as_mut().unwrap();
        (key.modulus, key.exponent) = (modulus, exponent);
        let (bytes, fingerprint) = request.seal(&|m| vault_sign().sign(m)).unwrap();
        code(EnrolmentRequest::open(&bytes, &fingerprint))
    };
    let exponent = vec![1, 0, 1];
    assert_eq!(asked(vec![0xc3; 384], exponent.clone()), Ok(()));
    assert_eq!(asked(vec![0xc3; 512], vec![1; 8]), Ok(()));
    let zero_first = |mut bytes: Vec<u8>| {
        bytes[0] = 0;
        bytes
    };
    for (modulus, exponent) in [
        (vec![0xc3; 383], exponent.clone()),
        (vec![0xc3; 513], exponent.clone()),
        (vec![0xc3; 384], vec![]),
        (vec![0xc3; 384], vec![1; 9]),
        (zero_first(vec![0xc3; 384]), exponent.clone()),
        (vec![0xc3; 384], zero_first(exponent)),
    ] {
        assert_eq!(asked(modulus, exponent), Err("MESSAGE-KEY"));
    }
}

/// The field of a rotation's generation: the only one that a grant of another purpose lacks.
fn rotation_field(bytes: &[u8]) -> i64 {
    let keys = |bytes: &[u8]| -> Vec<i128> {
        let fields = forge::read(bytes).into_map().unwrap();
        fields
            .into_iter()
            .map(|(key, _)| key.into_integer().unwrap().into())
            .collect()
    };
    let plain = keys(&grant().to_cbor());
    let own = keys(bytes).into_iter().find(|key| !plain.contains(key));
    i64::try_from(own.unwrap()).unwrap()
}

#[test]
fn an_object_bears_so_many_signatures_and_what_is_encrypted_is_for_so_many() {
    let signed = forge::Parts::of(&entitlement_bytes());
    let borne = |count: usize| {
        let bytes = signed.clone().signed(&vec![signing(ALICE); count]);
        let read = Proposal::read(&bytes, PROPOSAL_BYTES_MAX);
        code(read.map(|proposal| assert_eq!(proposal.signature_count(), count)))
    };
    assert_eq!(borne(SIGNATURES_MAX), Ok(()));
    assert_eq!(borne(SIGNATURES_MAX + 1), SHAPE);
    let header = forge::Parts::of(&signed.payload()).protected;
    let meant_for = |count: usize| {
        let others = (150..).map(|number| Key::new(number).public);
        let vault = std::iter::once(vault_agree().public);
        let recipients: Vec<_> = vault.chain(others).take(count).collect();
        let encrypted = forge::encrypt(header.clone(), &entitlement().to_cbor(), &recipients);
        let bytes = signed.clone().with_payload(encrypted.write());
        let bytes = bytes.signed(&[signing(ALICE), signing(BOB)]);
        code(open_entitlement(&bytes))
    };
    assert_eq!(meant_for(RECIPIENTS_MAX), Ok(()));
    assert_eq!(meant_for(RECIPIENTS_MAX + 1), SHAPE);
}
