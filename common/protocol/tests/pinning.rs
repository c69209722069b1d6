//! What a manifest is pinned by: its fingerprint, its own officers, and the manifest before it where that is at hand.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod support;

use mintmark_protocol::Error;
use mintmark_protocol::approval::Proposal;
use mintmark_protocol::identifier::{Fingerprint, OfficerId};
use mintmark_protocol::media::MediaName;
use mintmark_protocol::trust::TrustManifest;
use support::forge::Parts;
use support::*;

/// Version 2, signed by alice, too, who left with it: of the threshold before it, she is one half.
fn by_a_leaver() -> Vec<u8> {
    let keys = [signing(ALICE), signing(BOB), signing(ERIN)];
    approved(&manifest_second().propose().unwrap(), &keys)
}

/// Version 3, signed by bob, who left with it.
fn third() -> TrustManifest {
    let second = manifest_second();
    TrustManifest {
        version: 3,
        previous: Some(second.propose().unwrap().fingerprint()),
        officers: second
            .officers
            .iter()
            .filter(|officer| officer.id.as_str() != "bob")
            .cloned()
            .collect(),
        ..second
    }
}

fn third_bytes() -> Vec<u8> {
    let keys = [signing(BOB), signing(CAROL), signing(ERIN)];
    approved(&third().propose().unwrap(), &keys)
}

fn pin_with(bytes: &[u8], before: Option<&[u8]>) -> Result<Vec<OfficerId>, &'static str> {
    let fingerprint = fingerprint(bytes);
    TrustManifest::pin(bytes, &fingerprint, before)
        .map(|pinned| pinned.officers().to_vec())
        .map_err(|error| error.code())
}

fn fingerprint(bytes: &[u8]) -> Fingerprint {
    Proposal::read(bytes, usize::MAX).unwrap().fingerprint()
}

/// What pinning by these files beside it ends in: how many bytes are kept, or the refusal.
fn beside(bytes: &[u8], files: &[(u64, &[u8])]) -> Result<Option<usize>, Error> {
    let read = |name: &MediaName| -> Result<_, Error> {
        let found = files
            .iter()
            .find(|(version, _)| *name == MediaName::Trust { version: *version });
        Ok(found.map(|(_, bytes)| bytes.to_vec()))
    };
    let (_, before) = TrustManifest::pin_beside(bytes, &fingerprint(bytes), read)?;
    Ok(before.map(|before| before.len()))
}

fn code<T>(result: Result<T, Error>) -> Result<T, &'static str> {
    result.map_err(|error| error.code())
}

fn flipped(bytes: &[u8], bit: usize) -> Vec<u8> {
    let mut bytes = bytes.to_vec();
    bytes[bit / 8] ^= 1 << (bit % 8);
    bytes
}

/// The first manifest of another headquarters, which is one in itself.
fn of_others() -> Vec<u8> {
    let mut others = manifest();
    others.hq_name = "Another headquarters".to_owned();
    approved(&others.propose().unwrap(), &[signing(ALICE), signing(BOB)])
}

#[test]
fn who_left_with_a_manifest_counts_for_the_one_before_and_only_by_that() {
    let approvers = pin_with(&by_a_leaver(), Some(&trust_bytes())).unwrap();
    let names: Vec<_> = approvers.iter().map(OfficerId::as_str).collect();
    assert_eq!(names, ["alice", "bob", "erin"]);
    assert_eq!(pin_with(&by_a_leaver(), None), Err("SIGNER-UNKNOWN"));
    assert_eq!(
        pin_with(&by_a_leaver(), Some(&of_others())),
        Err("SIGNER-UNKNOWN")
    );
    // Nor the one after, nor itself, nor what is none.
    assert_eq!(
        pin_with(&by_a_leaver(), Some(&third_bytes())),
        Err("SIGNER-UNKNOWN")
    );
    assert_eq!(
        pin_with(&by_a_leaver(), Some(&by_a_leaver())),
        Err("SIGNER-UNKNOWN")
    );
    assert_eq!(
        pin_with(&by_a_leaver(), Some(b"none")),
        Err("SIGNER-UNKNOWN")
    );
    let error = TrustManifest::pin(&by_a_leaver(), &fingerprint(&by_a_leaver()), None).unwrap_err();
    assert!(error.to_string().contains("trust-000001.cose"), "{error}");
}

#[test]
fn a_fingerprint_is_asked_for_whatever_is_before() {
    let wrong = Fingerprint::of(b"another");
    for before in [None, Some(trust_bytes())] {
        let error = TrustManifest::pin(&by_a_leaver(), &wrong, before.as_deref()).unwrap_err();
        assert_eq!(error.code(), "FINGERPRINT-MISMATCH");
        let error = TrustManifest::pin_kept(&by_a_leaver(), &wrong, before.as_deref()).unwrap_err();
        assert_eq!(error.code(), "FINGERPRINT-MISMATCH");
    }
}

#[test]
fn the_manifest_before_adds_nobody_to_those_whom_the_pinned_one_needs() {
    // Both are of version 1, and version 2 knows bob alone.
    let keys = [signing(ALICE), signing(BOB)];
    let bytes = approved(&manifest_second().propose().unwrap(), &keys);
    assert_eq!(
        pin_with(&bytes, Some(&trust_bytes())),
        Err("THRESHOLD-NOT-MET")
    );
}

#[test]
fn the_threshold_of_the_manifest_before_is_met_if_that_is_given() {
    // Both are of version 2, and version 1 knows bob alone.
    let keys = [signing(BOB), signing(ERIN)];
    let bytes = approved(&manifest_second().propose().unwrap(), &keys);
    assert!(pin_with(&bytes, None).is_ok());
    assert_eq!(
        pin_with(&bytes, Some(&trust_bytes())),
        Err("THRESHOLD-NOT-MET")
    );
    // One of another history says nothing here.
    assert!(pin_with(&bytes, Some(&of_others())).is_ok());
    assert_eq!(
        code(TrustManifest::pin_kept(
            &bytes,
            &fingerprint(&bytes),
            Some(&of_others())
        ))
        .map(drop),
        Err("FINGERPRINT-MISMATCH"),
        "and is not kept in its place"
    );
}

#[test]
fn who_left_without_the_role_counts_for_nothing() {
    let mut second = manifest_second();
    second
        .officers
        .retain(|officer| officer.id.as_str() != "dave");
    let keys = [signing(BOB), signing(CAROL), signing(DAVE)];
    let bytes = approved(&second.propose().unwrap(), &keys);
    assert_eq!(pin_with(&bytes, Some(&trust_bytes())), Err("SIGNER-ROLE"));
    let keys = [signing(BOB), signing(CAROL), signing(ALICE), stranger()];
    let bytes = approved(&manifest_second().propose().unwrap(), &keys);
    assert_eq!(
        pin_with(&bytes, Some(&trust_bytes())),
        Err("SIGNER-UNKNOWN"),
        "of neither"
    );
}

#[test]
fn the_signature_of_who_left_is_verified() {
    let mut parts = Parts::of(&by_a_leaver());
    let header = forge::signature_header(&signing(ALICE));
    let forged = parts.signature(&stranger(), &header);
    let at = parts
        .inner()
        .iter()
        .position(|signature| signature.as_array().unwrap()[0].as_bytes() == Some(&header));
    parts.inner()[at.unwrap()] = forged;
    assert_eq!(
        pin_with(&parts.write(), Some(&trust_bytes())),
        Err("SIGNATURE-INVALID")
    );
}

#[test]
fn of_each_manifest_no_bit_changes_unseen_beside_the_one_before() {
    let (first, second, third) = (trust_bytes(), by_a_leaver(), third_bytes());
    let whole = [(1, first.as_slice()), (2, second.as_slice())];
    assert_eq!(beside(&second, &whole).unwrap(), Some(first.len()));
    assert_eq!(beside(&third, &whole).unwrap(), Some(second.len()));
    // The last signature is at the end.
    let bits = |bytes: &[u8]| {
        let all = bytes.len() * 8;
        (0..all).step_by(61).chain((all - 8 * 72..all).step_by(5))
    };
    for bit in bits(&second) {
        let changed = flipped(&second, bit);
        let pinned = fingerprint(&second);
        let read = |_: &MediaName| -> Result<_, Error> { Ok(Some(first.clone())) };
        assert!(
            TrustManifest::pin_beside(&changed, &pinned, read).is_err(),
            "the pinned one, bit {bit}"
        );
        let files = [(1, first.as_slice()), (2, changed.as_slice())];
        let error = beside(&third, &files).unwrap_err();
        assert!(error.to_string().contains("trust-000002.cose"), "{error}");
    }
    for bit in bits(&first) {
        let changed = flipped(&first, bit);
        let error = beside(&second, &[(1, changed.as_slice())]).unwrap_err();
        assert!(error.to_string().contains("trust-000001.cose"), "{error}");
    }
}

#[test]
fn what_is_kept_has_its_own_one_before_beside_it_if_it_needs_that() {
    let (first, second, third) = (trust_bytes(), by_a_leaver(), third_bytes());
    let files = [(2, second.as_slice())];
    assert_eq!(code(beside(&third, &files)), Err("SIGNER-UNKNOWN"));
    let error = beside(&third, &files).unwrap_err();
    assert!(error.to_string().contains("trust-000001.cose"), "{error}");
    let others = of_others();
    let files = [(1, others.as_slice()), (2, second.as_slice())];
    assert_eq!(code(beside(&third, &files)), Err("SIGNER-UNKNOWN"));
    // Once it is kept, its content alone counts, to the octet.
    let third_print = fingerprint(&third);
    TrustManifest::pin_kept(&third, &third_print, Some(&second)).unwrap();
    let files = [(1, others.as_slice())];
    assert_eq!(code(beside(&second, &files)), Err("FINGERPRINT-MISMATCH"));
    assert_eq!(code(beside(&second, &[])), Err("SIGNER-UNKNOWN"));
    // The first follows none, and nothing is looked for.
    let none = |_: &MediaName| -> Result<Option<Vec<u8>>, Error> { panic!("nothing is before it") };
    let (_, before) = TrustManifest::pin_beside(&first, &fingerprint(&first), none).unwrap();
    assert_eq!(before, None);
    assert_eq!(
        code(TrustManifest::pin_kept(
            &first,
            &fingerprint(&first),
            Some(&others)
        ))
        .map(drop),
        Err("TRUST-SUCCESSION")
    );
}
