//! How trust begins and how it is handed on: each test breaks one rule and names the code that refuses it.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod support;

use mintmark_protocol::identifier::Fingerprint;
use mintmark_protocol::trust::{Role, TrustManifest, UNIX_TIME_MAX, VERSION_MAX};
use support::forge::Parts;
use support::*;

/// What following version 1 with this manifest, approved by these keys, ends in.
fn succession(next: &TrustManifest, keys: &[Key]) -> Result<(), &'static str> {
    let bytes = approved(&next.propose().unwrap(), keys);
    pinned()
        .successor(&bytes)
        .map(drop)
        .map_err(|error| error.code())
}

/// What pinning version 1, changed and approved by alice and bob, ends in.
fn pinning(change: impl FnOnce(&mut TrustManifest)) -> Result<(), &'static str> {
    let mut changed = manifest();
    change(&mut changed);
    // The crate would not draft it, so its payload is put into a draft of the unchanged one.
    let parts = Parts::of(&trust_bytes()).with_payload(changed.to_cbor());
    let bytes = parts.signed(&[signing(ALICE), signing(BOB)]);
    let fingerprint = Fingerprint::of(&changed.to_cbor());
    TrustManifest::pin(&bytes, &fingerprint, None)
        .map(drop)
        .map_err(|error| error.code())
}

#[test]
fn a_pinned_manifest_is_still_one_that_enough_of_its_officers_signed() {
    let bytes = approved(&manifest().propose().unwrap(), &[signing(ALICE)]);
    let error = TrustManifest::pin(&bytes, &pinned().fingerprint(), None).unwrap_err();
    assert_eq!(error.code(), "THRESHOLD-NOT-MET");
    let by_dave = approved(
        &manifest().propose().unwrap(),
        &[signing(ALICE), signing(DAVE)],
    );
    let error = TrustManifest::pin(&by_dave, &pinned().fingerprint(), None).unwrap_err();
    assert_eq!(error.code(), "SIGNER-ROLE");
}

#[test]
fn a_manifest_that_could_not_work_is_refused() {
    assert_eq!(pinning(|_| {}), Ok(()));
    let refused = [
        pinning(|m| m.thresholds = [0, 2, 2, 2]),
        pinning(|m| m.thresholds = [4, 2, 2, 2]),
        pinning(|m| m.officers[1].id = m.officers[0].id.clone()),
        pinning(|m| m.officers[2].signing_keys = m.officers[0].signing_keys.clone()),
        pinning(|m| m.officers[2].signing_keys.clear()),
        pinning(|m| m.officers[2].agreement_key = m.officers[0].signing_keys[0]),
        pinning(|m| m.report_key = m.dispatch_key),
        pinning(|m| m.dispatch_key = m.officers[0].signing_keys[0]),
        pinning(|m| m.encryption_keys.truncate(1)),
        pinning(|m| m.encryption_keys[1].escrowed = false),
        pinning(|m| m.expires_at = m.issued_at),
        pinning(|m| m.previous = Some(Fingerprint::of(b"x"))),
        pinning(|m| m.version = 0),
        // What would overflow whoever counts on from it.
        pinning(|m| (m.issued_at, m.expires_at) = (u64::MAX - 1, u64::MAX)),
        pinning(|m| m.expires_at = UNIX_TIME_MAX + 1),
        pinning(|m| (m.version, m.previous) = (u64::MAX, Some(Fingerprint::of(b"x")))),
        pinning(|m| (m.version, m.previous) = (VERSION_MAX + 1, Some(Fingerprint::of(b"x")))),
        pinning(|m| m.hq_name = String::new()),
        pinning(|m| m.hq_name = "x".repeat(65)),
        pinning(|m| m.hq_name = "Acme\u{1b}[2J".to_owned()),
    ];
    for (at, result) in refused.into_iter().enumerate() {
        assert_eq!(result, Err("MESSAGE-SHAPE"), "case {at}");
    }
}

#[test]
fn what_the_header_calls_a_manifest_is_what_it_is() {
    let parts = Parts::of(&trust_bytes());
    let header = forge::with_context(&parts.protected, 5, "trust-000002");
    let bytes = parts
        .with_protected(header)
        .signed(&[signing(ALICE), signing(BOB)]);
    let error = TrustManifest::pin(&bytes, &pinned().fingerprint(), None).unwrap_err();
    assert_eq!(error.code(), "MESSAGE-PARTS");
}

#[test]
fn a_version_is_not_skipped_and_not_repeated() {
    let keys = [signing(BOB), signing(CAROL)];
    assert_eq!(succession(&manifest_second(), &keys), Ok(()));
    let mut third = manifest_second();
    third.version = 3;
    assert_eq!(succession(&third, &keys), Err("TRUST-SUCCESSION"));
    let error = pinned().successor(&trust_bytes()).unwrap_err();
    assert_eq!(error.code(), "TRUST-SUCCESSION");
}

#[test]
fn another_dispatch_key_opens_an_epoch_and_no_epoch_comes_back() {
    let keys = [signing(BOB), signing(CAROL)];
    let refused = Err("TRUST-SUCCESSION");
    let mut next = manifest_second();
    next.dispatch_epoch = 2;
    assert_eq!(succession(&next, &keys), Ok(()));
    next.dispatch_key = Key::new(99).public;
    assert_eq!(succession(&next, &keys), Ok(()));
    next.dispatch_epoch = 1;
    assert_eq!(succession(&next, &keys), refused);
    let mut back = manifest_second();
    back.dispatch_epoch = 0;
    assert_eq!(succession(&back, &keys), refused);
}

#[test]
fn a_manifest_of_another_history_does_not_follow() {
    let mut other = manifest_second();
    other.previous = Some(Fingerprint::of(b"another first manifest"));
    let keys = [signing(BOB), signing(CAROL)];
    assert_eq!(succession(&other, &keys), Err("TRUST-SUCCESSION"));
}

#[test]
fn a_successor_signed_by_its_own_officers_only_is_refused() {
    // Both are listed in version 2; version 1 knows bob alone.
    let keys = [signing(BOB), signing(ERIN)];
    assert_eq!(
        succession(&manifest_second(), &keys),
        Err("THRESHOLD-NOT-MET")
    );
}

#[test]
fn a_successor_signed_by_the_officers_before_only_is_refused() {
    // Both are listed in version 1; version 2 knows bob alone.
    let keys = [signing(ALICE), signing(BOB)];
    assert_eq!(
        succession(&manifest_second(), &keys),
        Err("THRESHOLD-NOT-MET")
    );
}

#[test]
fn whoever_leaves_and_whoever_comes_sign_a_successor_together() {
    let keys = [signing(ALICE), signing(BOB), signing(ERIN)];
    assert_eq!(succession(&manifest_second(), &keys), Ok(()));
}

#[test]
fn a_successor_with_a_signature_that_neither_manifest_knows_is_refused() {
    let keys = [signing(BOB), signing(CAROL), stranger()];
    assert_eq!(succession(&manifest_second(), &keys), Err("SIGNER-UNKNOWN"));
}

#[test]
fn a_successor_signed_by_somebody_with_the_role_in_neither_is_refused() {
    let keys = [signing(BOB), signing(CAROL), signing(DAVE)];
    assert_eq!(succession(&manifest_second(), &keys), Err("SIGNER-ROLE"));
}

#[test]
fn an_officer_who_is_given_the_role_counts_for_the_new_manifest_alone() {
    let mut next = manifest_second();
    let dave = next
        .officers
        .iter_mut()
        .find(|o| o.id.as_str() == "dave")
        .unwrap();
    dave.roles = Role::ALL.into();
    assert_eq!(
        succession(&next, &[signing(BOB), signing(CAROL), signing(DAVE)]),
        Ok(())
    );
    assert_eq!(
        succession(&next, &[signing(ALICE), signing(BOB), signing(DAVE)]),
        Ok(())
    );
    assert_eq!(
        succession(&next, &[signing(BOB), signing(DAVE)]),
        Err("THRESHOLD-NOT-MET"),
        "version 1 knows bob alone"
    );
}

#[test]
fn a_successor_with_an_invalid_signature_is_refused() {
    let mut parts = Parts::of(&trust_second_bytes());
    let forged = parts.signature(&stranger(), &forge::signature_header(&signing(ERIN)));
    let at = parts.inner().iter().position(|signature| {
        signature.as_array().unwrap()[0].as_bytes()
            == Some(&forge::signature_header(&signing(ERIN)))
    });
    parts.inner()[at.unwrap()] = forged;
    let error = pinned().successor(&parts.write()).unwrap_err();
    assert_eq!(error.code(), "SIGNATURE-INVALID");
}

#[test]
fn roles_out_of_order_or_twice_are_refused() {
    let swap = |from: &str, to: &str| {
        let payload = manifest().to_cbor();
        let text = |role: &str| [&[0x60 + role.len() as u8], role.as_bytes()].concat();
        let (from, to) = (text(from), text(to));
        let at = payload
            .windows(from.len())
            .position(|found| found == from)
            .unwrap();
        let mut changed = payload.clone();
        changed.splice(at..at + from.len(), to);
        TrustManifest::from_cbor(&changed)
            .map(drop)
            .map_err(|error| error.code())
    };
    assert_eq!(swap("mint", "mint"), Ok(()));
    assert_eq!(swap("mint", "enrol"), Err("MESSAGE-SHAPE"));
    assert_eq!(swap("revoke", "mint"), Err("MESSAGE-SHAPE"));
    assert_eq!(swap("mint", "king"), Err("MESSAGE-SHAPE"));
}

#[test]
fn an_expired_manifest_says_so() {
    let pinned = pinned();
    let expires_at = pinned.content().expires_at;
    pinned.content().in_force(expires_at - 1).unwrap();
    let error = pinned.content().in_force(expires_at).unwrap_err();
    assert_eq!(error.code(), "MESSAGE-EXPIRED");
}
