//! `formats.cddl` is the specification: what we write matches it, and the documentation of the modules quotes it.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod support;

use std::collections::BTreeMap;
use std::fs;

use cddl::ast::{CDDL, Rule};
use cddl::validator::Validator as _;
use cddl::validator::cbor::{self, CBORValidator};
use cddl::validator::cbor_value::decode_cbor;
use mintmark_protocol::Error;
use mintmark_protocol::acknowledgement::Acknowledgement;
use mintmark_protocol::backup::Backup;
use mintmark_protocol::bundle::{Bundle, CRL_BYTES_MAX};
use mintmark_protocol::clock_correction::ClockCorrection;
use mintmark_protocol::dispatch::Dispatch;
use mintmark_protocol::enrolment::{EnrolmentGrant, EnrolmentRequest};
use mintmark_protocol::entitlement::{AccountTag, Entitlement};
use mintmark_protocol::envelope::Kind;
use mintmark_protocol::fork::ForkProof;
use mintmark_protocol::identifier::Fingerprint;
use mintmark_protocol::key_delivery::{Delivery, KeyFacts};
use mintmark_protocol::key_terms::KeyAlgorithm;
use mintmark_protocol::log_tail::LogTail;
use mintmark_protocol::officer::OfficerRequest;
use mintmark_protocol::order::Order as _;
use mintmark_protocol::reanchor::Reanchor;
use mintmark_protocol::receipt::Receipt;
use mintmark_protocol::report::REPORT_CONTENT_BYTES_MAX;
use mintmark_protocol::revocation::{Revocation, RevokedDevice, Target};
use mintmark_protocol::segment::{SEGMENT_RECORD_BYTES_MAX, Segment, SegmentFacts};
use mintmark_protocol::trust::TrustManifest;
use support::*;

fn specification() -> String {
    fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/formats.cddl")).unwrap()
}

/// A line without its comment; a semicolon inside a text is none.
fn without_comment(line: &str) -> &str {
    let mut inside_text = false;
    for (at, byte) in line.bytes().enumerate() {
        match byte {
            b'"' => inside_text = !inside_text,
            b';' if !inside_text => return &line[..at],
            _ => {}
        }
    }
    line
}

/// The rules of some CDDL by name, without comments, whitespace made one space.
fn rules<'a>(lines: impl Iterator<Item = &'a str>) -> BTreeMap<String, String> {
    let mut rules: BTreeMap<String, String> = BTreeMap::new();
    let mut current = String::new();
    for line in lines.map(without_comment) {
        let name = line.split(" = ").next().unwrap_or_default();
        let starts_rule = line.contains(" = ")
            && name.starts_with(|c: char| c.is_ascii_alphabetic())
            && !name.contains(' ');
        if starts_rule {
            current = name.to_owned();
            let before = rules.insert(current.clone(), String::new());
            assert_eq!(before, None, "rule `{current}` is defined twice");
        }
        for word in line.split_whitespace() {
            let rule = rules.get_mut(&current).expect("a rule starts first");
            *rule += word;
            *rule += " ";
        }
    }
    rules
}

/// The rules in the module documentation of every source file.
fn documented() -> BTreeMap<String, String> {
    let mut found = BTreeMap::new();
    for entry in fs::read_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/src")).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_none_or(|extension| extension != "rs") {
            continue;
        }
        let source = fs::read_to_string(&path).unwrap();
        for block in source.split("//! ```cddl\n").skip(1) {
            let block = block.split("//! ```\n").next().unwrap();
            let lines = block.lines().map(|line| line.trim_start_matches("//!"));
            let lines = lines.map(|line| line.strip_prefix(' ').unwrap_or(line));
            for (name, rule) in rules(lines) {
                let before = found.insert(name.clone(), rule);
                assert_eq!(before, None, "`{name}` is documented twice");
            }
        }
    }
    found
}

#[test]
fn the_documentation_of_the_modules_quotes_the_specification_rule_for_rule() {
    let specified = rules(specification().lines());
    let documented = documented();
    for content in Kind::ALL.map(Kind::as_str) {
        assert!(
            documented.contains_key(content),
            "`{content}` is documented nowhere"
        );
    }
    for (name, rule) in &documented {
        assert_eq!(Some(rule), specified.get(name), "`{name}` has drifted");
    }
}

thread_local! {
    /// The specification, which takes its reader most of a second.
    static SPECIFICATION: CDDL<'static> =
        cddl::cddl_from_str(specification().leak(), true).unwrap();
}

fn matches(rule: &str, bytes: &[u8]) -> Result<(), String> {
    let mut specification = SPECIFICATION.with(CDDL::clone);
    let rules = &mut specification.rules;
    let at = rules.iter().position(|other| other.name() == rule);
    // The rule that comes first is the one that counts.
    let rule = rules.remove(at.unwrap());
    assert!(matches!(rule, Rule::Type { .. }), "{rule}");
    rules.insert(0, rule);
    let value = decode_cbor(bytes).map_err(|error| error.to_string())?;
    let matched: cbor::Result<std::io::Error> =
        CBORValidator::new(&specification, value, None).validate();
    matched.map_err(|error| error.to_string())
}

fn messages() -> Vec<(&'static str, Vec<u8>)> {
    let sealed = sealed_bundle();
    vec![
        ("trust-manifest-message", trust_bytes()),
        ("trust-manifest-message", trust_second_bytes()),
        ("officer-request-message", officer_request_bytes()),
        ("enrolment-request-message", enrolment_request_bytes().0),
        ("enrolment-grant-message", grant_bytes()),
        ("entitlement-message", entitlement_bytes()),
        ("revocation-message", revocation_bytes()),
        ("clock-correction-message", clock_correction_bytes()),
        ("re-anchor-message", reanchor_bytes()),
        ("device-secret-message", device_secret_bytes()),
        ("acknowledgement-message", acknowledgement_bytes()),
        ("restore-declaration-message", restore_declaration_bytes()),
        ("log-tail-message", log_tail_bytes()),
        ("dossier-message", dossier_bytes()),
        ("status-message", status_bytes()),
        ("report-message", report_bytes()),
        ("audit-grant-message", audit_grant_bytes()),
        ("backup-message", backup_bytes()),
        ("backup-message", hq_backup_bytes()),
        ("transcript-message", transcript_bytes()),
        ("dispatch-message", dispatch_bytes()),
        ("audit-bundle-message", sealed.bytes),
        ("audit-segment-message", sealed.segments[0].clone()),
        ("draft", drafted(&entitlement_proposal())),
        ("draft", drafted(&manifest().propose().unwrap())),
        (
            "approval",
            approved(&entitlement_proposal(), &[signing(ALICE)]),
        ),
    ]
}

#[test]
fn every_message_matches_its_rule_and_the_rule_for_all_files_and_not_the_next_one() {
    let messages = messages();
    let next = messages.iter().cycle().skip(1);
    for ((rule, bytes), (other, _)) in messages.iter().zip(next) {
        matches(rule, bytes).unwrap_or_else(|error| panic!("{rule}: {error}"));
        matches("mintmark-file", bytes).unwrap_or_else(|error| panic!("file, {rule}: {error}"));
        assert!(
            other == rule || matches(other, bytes).is_err(),
            "{rule} matches {other}"
        );
    }
}

#[test]
fn every_plaintext_matches_its_rule() {
    matches("enrolment-grant", &grant().to_cbor()).unwrap();
    matches("enrolment-grant", &rotation().to_cbor()).unwrap();
    matches("enrolment-grant", &succession().to_cbor()).unwrap();
    for target in [
        Target::Entitlement("th200-2027q1".parse().unwrap()),
        Target::Vault,
        Target::DeviceCa(pinned().fingerprint()),
        Target::Devices(vec![RevokedDevice {
            account: AccountTag::new(1).unwrap(),
            slot: 3,
            issue: 0,
            reservation: 17,
            serial: [0x4d; 17],
            device_id: "TH200-00000001".parse().unwrap(),
        }]),
    ] {
        matches("revocation", &revocation(target).to_cbor()).unwrap();
    }
    matches("clock-correction", &clock_correction().to_cbor()).unwrap();
    matches("re-anchor", &reanchor().to_cbor()).unwrap();
    for key in entitlement().keys {
        matches("key-delivery", &key.delivery).unwrap();
    }
    matches("entitlement", &entitlement().to_cbor()).unwrap();
    matches("acknowledgement", &acknowledgement().to_cbor()).unwrap();
    matches("restore-declaration", &restore_declaration().to_cbor()).unwrap();
    matches("log-tail", &log_tail().to_cbor()).unwrap();
    matches("dossier", &dossier().to_cbor()).unwrap();
    matches("status", &status().to_cbor()).unwrap();
    matches("report", &report().to_cbor()).unwrap();
    matches("audit-grant", &audit_grant().to_cbor()).unwrap();
    matches("backup", &backup().to_cbor()).unwrap();
    matches("backup", &hq_backup().to_cbor()).unwrap();
    let entry = mintmark_protocol::backup::Entry {
        path: "log/0000000000000000.log".to_owned(),
        bytes: 7,
    };
    matches("backup-entry", &entry.to_cbor()).unwrap();
    matches("transcript", &transcript().to_cbor()).unwrap();
    let trust = mintmark_protocol::audit_grant::trust_to_cbor(&[trust_bytes()]);
    matches("audit-grant-trust", &trust).unwrap();
    matches("receipt", &receipt_bytes()).unwrap();
    let (file, facts) = segment_bytes(7, 3, "x");
    let plaintext = forge::decrypt(&file, &audit_key());
    assert_eq!(Fingerprint::of(&plaintext), facts.commitment);
    matches("audit-segment", &plaintext).unwrap();
}

/// The most bytes of what the specification, from its list of them on, calls so.
fn most_bytes(what: &str) -> usize {
    let specification = specification();
    let lines = specification
        .lines()
        .skip_while(|line| !line.starts_with("; Most bytes:"));
    let words = lines.flat_map(|line| line.trim_start_matches(';').split_whitespace());
    let words: Vec<&str> = words.collect();
    let words = words.join(" ");
    let (_, said) = words.split_once(&format!("{what} ")).expect(what);
    let digits = said.split(|c: char| !c.is_ascii_digit()).next();
    digits.unwrap().parse().expect(what)
}

type Reader = fn(&[u8]) -> Result<(), Error>;

/// What reads each message, and what is within one, under the words by which the specification says how long it may be.
const READERS: &[(&str, Reader)] = &[
    ("trust manifest", |b| {
        TrustManifest::pin(b, &Fingerprint::of(b), None).map(drop)
    }),
    ("trust manifest", |b| TrustManifest::from_cbor(b).map(drop)),
    ("officer request", |b| {
        OfficerRequest::open(b, &Fingerprint::of(b)).map(drop)
    }),
    ("enrolment request", |b| {
        EnrolmentRequest::open(b, &Fingerprint::of(b)).map(drop)
    }),
    ("officers order of a vault", |b| {
        open_entitlement(b).map(drop)
    }),
    ("of which plaintext", |b| {
        EnrolmentGrant::from_cbor(b).map(drop)
    }),
    ("of which plaintext", |b| {
        Entitlement::from_cbor(b).map(drop)
    }),
    ("of which plaintext", |b| Revocation::from_cbor(b).map(drop)),
    ("or a revocation,", |b| {
        ClockCorrection::from_cbor(b).map(drop)
    }),
    ("or a revocation,", |b| Reanchor::from_cbor(b).map(drop)),
    ("key delivery", |b| {
        Delivery::read(b, &key_facts()).map(drop)
    }),
    ("acknowledgement", |b| open_acknowledgement(b).map(drop)),
    ("acknowledgement 16384, of which plaintext", |b| {
        Acknowledgement::from_cbor(b).map(drop)
    }),
    ("log tail", |b| open_log_tail(b).map(drop)),
    ("log tail 8454144, of which plaintext", |b| {
        LogTail::from_cbor(b).map(drop)
    }),
    ("dispatch", |b| {
        Dispatch::open(b, &pinned(), &vault()).map(drop)
    }),
    ("device secret", |b| open_device_secret(b).map(drop)),
    ("audit bundle", |b| {
        Bundle::open(b, &vault(), &vault_sign().public).map(drop)
    }),
    ("audit segment", open_segment),
    ("dossier", |b| open_dossier(b).map(drop)),
    ("status", |b| open_status(b).map(drop)),
    ("report", |b| open_report(b).map(drop)),
    ("audit grant", |b| open_audit_grant(b).map(drop)),
    ("backup", |b| Backup::open(b).map(drop)),
    ("transcript", |b| open_transcript(b).map(drop)),
    ("not `mintmark-file`. At most", |b| {
        ForkProof::from_cbor(b).map(drop)
    }),
    ("many records. At most", |b| {
        open_restore_declaration(b).map(drop)
    }),
    ("as the payload. At most", |b| Receipt::read(b).map(drop)),
];

fn open_segment(bytes: &[u8]) -> Result<(), Error> {
    let facts = SegmentFacts {
        file_digest: Fingerprint::of(bytes),
        ..segment_bytes(7, 3, "x").1
    };
    audit_key().open(|opener| Segment::open(bytes, &facts, &vault(), "x", opener).map(drop))
}

fn key_facts() -> KeyFacts {
    KeyFacts {
        vault: vault(),
        label: "service".parse().unwrap(),
        algorithm: KeyAlgorithm::HmacSha256,
    }
}

#[test]
fn nothing_is_read_that_is_longer_than_the_specification_says() {
    for (what, read) in READERS {
        let bytes_max = most_bytes(what);
        let bytes = vec![0; bytes_max + 1];
        let code = |bytes| read(bytes).unwrap_err().code();
        assert_ne!(code(&bytes[..bytes_max]), "MESSAGE-OVERSIZE", "{what}");
        assert_eq!(code(&bytes), "MESSAGE-OVERSIZE", "{what}");
    }
    assert_eq!(most_bytes("of which CRL"), CRL_BYTES_MAX);
    assert_eq!(most_bytes("of which records"), SEGMENT_RECORD_BYTES_MAX);
    assert_eq!(most_bytes("of which key 4"), REPORT_CONTENT_BYTES_MAX);
}

#[test]
fn what_the_specification_does_not_list_matches_no_rule() {
    let mut extra = entitlement().to_cbor();
    assert_eq!(extra[0], 0xaf, "a map of 15");
    extra[0] = 0xb0;
    extra.extend_from_slice(&[0x0f, 0x00]);
    assert!(matches("entitlement", &extra).is_err());
    let mut bytes = trust_bytes();
    // d8 62 84 58 xx header, then the empty unprotected header
    let header_bytes = usize::from(bytes[4]);
    let at = 5 + header_bytes;
    assert_eq!(bytes[at], 0xa0);
    bytes.splice(at..=at, [0xa1, 0x04, 0x41, 0x00]);
    assert!(matches("trust-manifest-message", &bytes).is_err());
}

#[test]
fn a_proof_of_a_fork_matches_its_rule_and_is_no_message() {
    let bundle = sealed_bundle().bytes;
    let mut proof = ForkProof {
        trust: vec![trust_bytes(), trust_second_bytes()],
        identity_certificate: b"certificate".to_vec(),
        statements: [bundle.clone(), bundle.clone()],
        opening: None,
        consistency: vec![pinned().fingerprint()],
    };
    for opening in [None, Some(bundle)] {
        proof.opening = opening;
        let bytes = proof.to_cbor();
        matches("fork-proof", &bytes).unwrap();
        assert!(matches("mintmark-file", &bytes).is_err());
        assert_eq!(ForkProof::from_cbor(&bytes).unwrap(), proof);
        for at in 0..bytes.len() {
            let mut changed = bytes.clone();
            changed[at] ^= 1;
            assert!(ForkProof::from_cbor(&changed).is_err(), "octet {at}");
        }
    }
    // The fingerprint of either manifest leads to both.
    for known in [&trust_bytes(), &trust_second_bytes()] {
        let known = mintmark_protocol::envelope::claim(known, 1 << 20).unwrap();
        let manifests = proof.manifests(&known.fingerprint).unwrap();
        let versions: Vec<_> = manifests.iter().map(|m| m.content().version).collect();
        assert_eq!(versions, [1, 2]);
    }
}
