//! The messages: what is read before anything is believed, and what is believed.

use std::collections::BTreeSet;
use std::str::FromStr as _;
use std::sync::LazyLock;

use mintmark_protocol::acknowledgement::Acknowledgement;
use mintmark_protocol::approval::Proposal;
use mintmark_protocol::audit_grant::{AuditGrant, trust_from_cbor, trust_to_cbor};
use mintmark_protocol::backup::Entry;
use mintmark_protocol::bundle::Bundle;
use mintmark_protocol::clock_correction::ClockCorrection;
use mintmark_protocol::device_ids::{DeviceIdRange, DeviceIds};
use mintmark_protocol::dispatch::Dispatch;
use mintmark_protocol::dossier::Dossier;
use mintmark_protocol::enrolment::{EnrolmentGrant, EnrolmentRequest};
use mintmark_protocol::entitlement::Entitlement;
use mintmark_protocol::envelope::{Kind, Party, Verified, claim};
use mintmark_protocol::fork::ForkProof;
use mintmark_protocol::fuzzing;
use mintmark_protocol::identifier::Fingerprint;
use mintmark_protocol::key_delivery::KeyFacts;
use mintmark_protocol::key_terms::KeyAlgorithm;
use mintmark_protocol::log_tail::LogTail;
use mintmark_protocol::officer::OfficerRequest;
use mintmark_protocol::order::Order;
use mintmark_protocol::reanchor::Reanchor;
use mintmark_protocol::receipt::Receipt;
use mintmark_protocol::report::Report;
use mintmark_protocol::restore::RestoreDeclaration;
use mintmark_protocol::revocation::Revocation;
use mintmark_protocol::status::Status;
use mintmark_protocol::trust::TrustManifest;
use mintmark_protocol::{Error, cbor as strict};

use crate::world::WORLD;

/// What an error is for people to read must not fail either.
fn read_out<T>(outcome: Result<T, Error>) -> Option<T> {
    outcome
        .map_err(|error| format!("{} {error} {}", error.code(), error.hint()))
        .ok()
}

/// What the strict reader lets through has one encoding: it is written again as the same bytes.
pub(crate) fn cbor(input: &[u8]) {
    let checked = strict::check_deterministic(input);
    if let Err((at, rule)) = checked {
        assert!(at <= input.len(), "it complains of what is not there");
        assert!(!rule.phrase().is_empty());
    }
    let decoded = strict::decode("fuzzed", input, input.len());
    assert_eq!(
        checked.is_ok(),
        decoded.is_ok(),
        "checked and decoded alike"
    );
    if let Some(value) = read_out(decoded) {
        assert_eq!(strict::encode(&value), input, "one value, one encoding");
    }
    assert!(
        input.is_empty() || strict::decode("fuzzed", input, input.len() - 1).is_err(),
        "what is larger than it may be is refused"
    );
}

/// The types of messages that have a content of their own; the first byte of an input says which.
pub(crate) const KINDS: [&str; 20] = [
    "trust-manifest",
    "officer-request",
    "enrolment-request",
    "enrolment-grant",
    "entitlement",
    "revocation",
    "clock-correction",
    "re-anchor",
    "acknowledgement",
    "dispatch",
    "audit-bundle",
    "device-secret",
    "restore-declaration",
    "log-tail",
    "dossier",
    "status",
    "report",
    "audit-grant",
    "backup",
    "transcript",
];

/// A content that is read is written again as the same bytes.
pub(crate) fn content(input: &[u8]) {
    let Some((which, bytes)) = input.split_first() else {
        return;
    };
    let name = KINDS[usize::from(*which) % KINDS.len()];
    let kind = Kind::from_str(name).unwrap();
    if let Some(Some(written)) = read_out(fuzzing::content(kind, bytes)) {
        assert_eq!(
            hex::encode(written),
            hex::encode(bytes),
            "one {kind}, one encoding"
        );
    }
}

/// Envelopes, unverified: what is read is written again as the same bytes, and nothing is believed of it.
pub(crate) fn envelope(input: &[u8]) {
    let nobody = &WORLD.nobody;
    let claimed = read_out(claim(input, input.len()));
    if let Some(claimed) = &claimed {
        let context = &claimed.context;
        for party in [&context.sender, &context.recipient] {
            assert_eq!(Party::from_str(&party.to_string()).as_ref(), Ok(party));
        }
        assert_eq!(Kind::from_str(context.kind.as_str()), Ok(context.kind));
    }
    if let Some(proposal) = read_out(Proposal::read(input, input.len())) {
        assert_eq!(
            proposal.to_bytes().unwrap(),
            input,
            "one proposal, one encoding"
        );
        assert_eq!(
            Some(proposal.fingerprint()),
            claimed.map(|it| it.fingerprint)
        );
        let _ = read_out(TrustManifest::proposed(&proposal));
        assert!(
            proposal.expect_drafted_by([nobody]).is_err(),
            "nobody drafted it"
        );
    }
    if let Some(receipt) = read_out(Receipt::read(input)) {
        let root = Fingerprint::of(input);
        assert!(receipt.verify(&root, nobody).is_err(), "nobody signed it");
    }
    if let Some(proof) = read_out(ForkProof::from_cbor(input)) {
        assert_eq!(proof.to_cbor(), input, "one proof, one encoding");
        let _ = read_out(proof.sender());
        let _ = read_out(proof.statements(&WORLD.vault, nobody));
        let _ = read_out(proof.manifests(&WORLD.trust[0].fingerprint()));
    }
    if let Some(manifests) = read_out(trust_from_cbor(input)) {
        assert_eq!(trust_to_cbor(&manifests), input, "one list, one encoding");
    }
    if let Some(entry) = read_out(Entry::from_cbor(input)) {
        assert_eq!(entry.to_cbor(), input, "one head, one encoding");
    }
}

/// What was signed and encrypted in the fixtures, by whoever has the keys: payloads, and plaintexts. Some attacks are by one
/// who has.
static MADE: LazyLock<(BTreeSet<Fingerprint>, BTreeSet<Vec<u8>>)> = LazyLock::new(|| {
    let (mut signed, mut encrypted) = (WORLD.signed.clone(), WORLD.contents.clone());
    for attack in crate::seeds::attacks() {
        signed.extend(openings(&attack));
        encrypted.extend(decryptions(&attack));
    }
    (signed, encrypted)
});

/// Whatever opens was signed, and whatever decrypts was encrypted: nothing does that is none of the fixtures'.
pub(crate) fn opened(input: &[u8]) {
    let (signed, encrypted) = &*MADE;
    for plaintext in decryptions(input) {
        assert!(encrypted.contains(&plaintext), "nobody encrypted this");
    }
    for opened in openings(input) {
        let claimed = claim(input, input.len()).map(|claimed| claimed.fingerprint);
        assert_eq!(claimed.ok(), Some(opened), "what opens is what was claimed");
        assert!(signed.contains(&opened), "nobody signed {opened}");
    }
}

/// The payloads of a message that its reader believes.
fn openings(input: &[u8]) -> Vec<Fingerprint> {
    let world = &*WORLD;
    let Some(claimed) = read_out(claim(input, input.len())) else {
        return Vec::new();
    };
    let (vault, vault_sign) = (&world.vault, &world.key("vault-sign").public);
    let nobody = &world.nobody;
    let fingerprint = claimed.fingerprint;
    let mut found: Vec<Fingerprint> = Vec::new();
    for trust in &world.trust {
        let report_key = &trust.content().report_key;
        let mut note = |opened: Option<Fingerprint>| found.extend(opened);
        match claimed.context.kind {
            Kind::TrustManifest => {
                note(of(trust.successor(input)));
                // Pinned is what a person compared; that fixtures only are taken follows from that.
                let pinned = trust.fingerprint();
                note(of(TrustManifest::pin(input, &pinned, None)));
            }
            Kind::OfficerRequest => {
                // Its own key signs it, so another one could be made: what is compared is its fingerprint.
                if let Some(verified) = read_out(OfficerRequest::open(input, &fingerprint)) {
                    assert_eq!(verified.fingerprint(), fingerprint);
                }
            }
            Kind::EnrolmentRequest => {
                if let Some(verified) = read_out(EnrolmentRequest::open(input, &fingerprint)) {
                    assert_eq!(verified.fingerprint(), fingerprint);
                }
            }
            Kind::EnrolmentGrant => note(order::<EnrolmentGrant>(input)),
            Kind::Entitlement => note(order::<Entitlement>(input)),
            Kind::Revocation => note(order::<Revocation>(input)),
            Kind::ClockCorrection => note(order::<ClockCorrection>(input)),
            Kind::Reanchor => note(order::<Reanchor>(input)),
            Kind::Acknowledgement => note(
                world
                    .key("vault-agree")
                    .open(|opener| of(Acknowledgement::open(input, trust, vault, opener))),
            ),
            Kind::LogTail => note(
                world
                    .key("vault-agree")
                    .open(|opener| of(LogTail::open(input, trust, vault, opener))),
            ),
            Kind::Dispatch => note(of(Dispatch::open(input, trust, vault))),
            Kind::AuditBundle => {
                note(of(Bundle::open(input, vault, vault_sign)));
                assert!(Bundle::open(input, vault, nobody).is_err());
            }
            Kind::RestoreDeclaration => {
                note(of(RestoreDeclaration::open(input, vault, vault_sign)));
                assert!(RestoreDeclaration::open(input, vault, nobody).is_err());
            }
            Kind::Dossier => {
                note(of(Dossier::open(input, report_key)));
                assert!(Dossier::open(input, nobody).is_err());
            }
            Kind::Status => {
                note(of(Status::open(input, report_key)));
                assert!(Status::open(input, nobody).is_err());
            }
            Kind::Report => {
                note(of(Report::open(input, report_key)));
                assert!(Report::open(input, nobody).is_err());
            }
            Kind::AuditGrant => note(
                world
                    .key("auditor")
                    .open(|opener| of(AuditGrant::open(input, report_key, opener))),
            ),
            _ => {}
        }
    }
    found
}

fn of<T>(outcome: Result<Verified<T>, Error>) -> Option<Fingerprint> {
    read_out(outcome).map(|verified| verified.fingerprint())
}

fn order<T: Order>(input: &[u8]) -> Option<Fingerprint> {
    let world = &*WORLD;
    world.trust.iter().find_map(|trust| {
        let key = world.key("vault-agree");
        key.open(|opener| of(T::open(input, trust, &world.vault, opener)))
    })
}

/// What decrypts of a message that is only encrypted, whoever it is from.
fn decryptions(input: &[u8]) -> Vec<Vec<u8>> {
    let world = &*WORLD;
    let facts = KeyFacts {
        vault: world.vault.clone(),
        label: "service".parse().unwrap(),
        algorithm: KeyAlgorithm::HmacSha256,
    };
    let mut found = Vec::new();
    for key in ["audit", "vault-agree"] {
        let key = world.key(key);
        found.extend(read_out(
            key.open(|opener| fuzzing::encrypted(input, opener)),
        ));
        let _ = read_out(key.open(|opener| fuzzing::delivery(input, &facts, opener)));
    }
    found
}

/// The plaintext of a segment: its records are as many as were said, follow one another, and are no more than the bound.
pub(crate) fn segment(input: &[u8]) {
    let Some(([first, count], plaintext)) = input.split_first_chunk::<2>() else {
        return;
    };
    let (first, count) = (u64::from(*first), u64::from(*count));
    let Some(records) = read_out(fuzzing::segment(plaintext, (first, count))) else {
        return;
    };
    assert_eq!(records.len() as u64, count);
    let numbers = records.iter().map(|(number, _)| *number);
    assert!(numbers.eq(first..first + count), "they follow one another");
    let bytes: usize = records.iter().map(|(_, record)| record.len()).sum();
    assert!(bytes <= mintmark_protocol::segment::SEGMENT_RECORD_BYTES_MAX);
}

/// Lists of device identifiers, one range a line: a list holds what its ranges hold, and is written as it is read.
pub(crate) fn device_ids(input: &[u8]) {
    let Ok(text) = std::str::from_utf8(input) else {
        return;
    };
    let ranges: Vec<DeviceIdRange> = text.lines().filter_map(|line| line.parse().ok()).collect();
    for range in &ranges {
        assert_eq!(range.to_string().parse().as_ref(), Ok(range));
        assert!(range.devices() > 0);
        assert_eq!(range.device(0).as_ref(), Some(range.first()));
        assert_eq!(
            range.device(range.devices() - 1).as_ref(),
            Some(range.last())
        );
        assert_eq!(range.device(range.devices()), None);
    }
    let Ok(all) = DeviceIds::new(ranges.clone()) else {
        return;
    };
    let devices: u128 = all.ranges().iter().map(DeviceIdRange::devices).sum();
    assert_eq!(all.devices(), devices);
    for range in &ranges {
        assert!(all.contains(range.first()) && all.contains(range.last()));
        let one = DeviceIds::new(vec![range.clone()]).unwrap();
        let left = all.without(&one).map_or(0, |left| left.devices());
        assert_eq!(
            left,
            devices - range.devices(),
            "what is taken away is gone, and nothing else"
        );
    }
}
