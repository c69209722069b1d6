//! Headquarters signs what it drafts: an officer's program believes that signature alone, and nobody takes it for an approval.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod support;

use ciborium::Value;
use mintmark_protocol::Error;
use mintmark_protocol::approval::Proposal;
use support::forge::{Parts, signature_header, with};
use support::*;

const TYPE: &str = "application/mintmark-draft";

fn read(bytes: &[u8]) -> Result<Proposal, Error> {
    Proposal::read(bytes, bytes.len())
}

/// As an officer's program judges a draft.
fn judged(bytes: &[u8]) -> Result<(), Error> {
    read(bytes)?.expect_drafted_by([&dispatch_key().public])
}

#[track_caller]
fn assert_code<T>(result: Result<T, Error>, code: &str) {
    match result {
        Ok(_) => panic!("accepted, not refused with {code}"),
        Err(error) => assert_eq!(error.code(), code, "{error}"),
    }
}

fn draft_header(key: &Key) -> Vec<u8> {
    with(&signature_header(key), 16, TYPE)
}

/// The entitlement, signed in turn by each of these keys under each of these headers.
fn signed(signatures: &[(&Key, Vec<u8>)]) -> Vec<u8> {
    let mut parts = Parts::of(&entitlement_proposal().to_bytes().unwrap());
    let each = signatures
        .iter()
        .map(|(key, header)| parts.signature(key, header));
    parts.last = Value::Array(each.collect());
    parts.write()
}

#[test]
fn a_draft_is_believed_of_the_dispatch_key_and_of_no_other() {
    for proposal in [entitlement_proposal(), manifest().propose().unwrap()] {
        let bytes = drafted(&proposal);
        let draft = read(&bytes).unwrap();
        assert_eq!(draft.to_bytes().unwrap(), bytes);
        assert_eq!(draft.fingerprint(), proposal.fingerprint());
        assert_eq!(draft.signature_count(), 0, "it approves nothing");
        let (own, another) = (dispatch_key().public, stranger().public);
        draft.expect_drafted_by([&another, &own]).unwrap();
        assert_code(draft.expect_drafted_by([&another]), "SIGNER-UNKNOWN");
        assert_code(draft.expect_drafted_by([]), "SIGNER-UNKNOWN");
    }
}

#[test]
fn a_draft_signed_without_the_crate_is_believed() {
    let key = dispatch_key();
    judged(&signed(&[(&key, draft_header(&key))])).unwrap();
}

#[test]
fn what_headquarters_has_not_signed_is_no_draft() {
    let nobody = entitlement_proposal().to_bytes().unwrap();
    assert_code(judged(&nobody), "DRAFT-UNSIGNED");
    let alice = signing(ALICE);
    let approval = collected(&entitlement_proposal(), std::slice::from_ref(&alice));
    assert_code(judged(&approval.to_bytes().unwrap()), "DRAFT-UNSIGNED");
    assert_code(judged(&entitlement_bytes()), "DRAFT-UNSIGNED");
    // The right key, under the header of an officer.
    let key = dispatch_key();
    let bytes = signed(&[(&key, signature_header(&key))]);
    assert_code(judged(&bytes), "DRAFT-UNSIGNED");
    let bytes = signed(&[(&alice, draft_header(&alice))]);
    assert_code(judged(&bytes), "SIGNER-UNKNOWN");
}

#[test]
fn a_draft_in_headquarters_name_is_refused() {
    let bytes = signed(&[(&stranger(), draft_header(&dispatch_key()))]);
    assert_code(judged(&bytes), "SIGNATURE-INVALID");
}

/// The type is under the signature, so that none of one type is passed off as the other's.
#[test]
fn a_signature_cannot_be_moved_under_another_type() {
    let key = dispatch_key();
    for (made, shown) in [
        (signature_header(&key), draft_header(&key)),
        (draft_header(&key), signature_header(&key)),
    ] {
        let mut parts = Parts::of(&signed(&[(&key, made)]));
        parts.inner()[0].as_array_mut().unwrap()[0] = Value::Bytes(shown);
        let bytes = parts.write();
        assert!(judged(&bytes).is_err());
        // And as an approval, by a manifest that lists the key as an officer's.
        let mut listing = manifest();
        listing.officers[0].signing_keys = vec![key.public];
        listing.thresholds = [1; 4];
        let proposal = read(&bytes).unwrap();
        let role = mintmark_protocol::trust::Role::Mint;
        let approvers = proposal.approvers(&listing, role);
        assert!(approvers.unwrap_or_default().is_empty());
    }
}

#[test]
fn a_draft_bears_one_signature() {
    let (key, alice) = (dispatch_key(), signing(ALICE));
    let draft = || (&key, draft_header(&key));
    let approval = || (&alice, signature_header(&alice));
    for signatures in [
        [draft(), draft()],
        [draft(), (&alice, draft_header(&alice))],
        [draft(), approval()],
        [approval(), draft()],
    ] {
        assert_code(judged(&signed(&signatures)), "MESSAGE-SHAPE");
    }
}

#[test]
fn a_finished_object_with_the_signature_of_its_draft_is_refused() {
    let key = dispatch_key();
    let mut parts = Parts::of(&entitlement_bytes());
    let ours = parts.signature(&key, &draft_header(&key));
    for at in 0..=parts.inner().len() {
        let mut parts = parts.clone();
        parts.inner().insert(at, ours.clone());
        assert_code(open_entitlement(&parts.write()), "MESSAGE-SHAPE");
    }
    *parts.inner() = vec![ours];
    assert_code(open_entitlement(&parts.write()), "THRESHOLD-NOT-MET");
}

#[test]
fn the_header_of_a_drafts_signature_holds_what_it_must_and_nothing_else() {
    let key = dispatch_key();
    let header = draft_header(&key);
    for (changed, code) in [
        (
            with(&header, 16, "application/mintmark-drafts"),
            "MESSAGE-HEADER",
        ),
        (
            with(&header, 16, "Application/mintmark-draft"),
            "MESSAGE-HEADER",
        ),
        (with(&header, 16, ""), "MESSAGE-HEADER"),
        (with(&header, 16, 0), "MESSAGE-HEADER"),
        (
            with(&header, 16, Value::Bytes(TYPE.into())),
            "MESSAGE-HEADER",
        ),
        (with(&header, 3, TYPE), "MESSAGE-HEADER"),
        (with(&header, 99, 1), "MESSAGE-HEADER"),
        (with(&header, 1, -8), "MESSAGE-ALGORITHM"),
        (forge::without(&header, 4), "MESSAGE-HEADER"),
    ] {
        assert_code(judged(&signed(&[(&key, changed)])), code);
    }
    // Nor does the type stand where nobody signs it, or in the header of the whole.
    let mut parts = Parts::of(&signed(&[(&key, signature_header(&key))]));
    parts.inner()[0].as_array_mut().unwrap()[1] = forge::map([(16, TYPE.into())]);
    assert_code(judged(&parts.write()), "MESSAGE-HEADER");
    let mut parts = Parts::of(&entitlement_proposal().to_bytes().unwrap());
    parts.protected = with(&parts.protected, 16, TYPE);
    parts.last = Value::Array(vec![parts.signature(&key, &draft_header(&key))]);
    assert_code(judged(&parts.write()), "MESSAGE-HEADER");
    parts.protected = forge::without(&parts.protected, 16);
    parts.unprotected = forge::map([(16, TYPE.into())]);
    assert_code(judged(&parts.write()), "MESSAGE-HEADER");
}

/// An officer cannot read what is encrypted to others; the signature is over it all the same.
#[test]
fn a_key_wrapped_for_somebody_else_cannot_be_changed_unseen() {
    let mut parts = Parts::of(&drafted(&entitlement_proposal()));
    let mut inner = Parts::of(&parts.payload());
    for at in 0..inner.inner().len() {
        let mut inner = inner.clone();
        let Value::Bytes(wrapped) = &mut inner.inner()[at].as_array_mut().unwrap()[2] else {
            panic!("a recipient has a wrapped key");
        };
        wrapped[7] ^= 1;
        parts.content = forge::bytes(inner.write());
        assert_code(judged(&parts.write()), "SIGNATURE-INVALID");
    }
}

#[test]
fn approvals_leave_the_signature_of_the_draft_behind() {
    let proposal = entitlement_proposal();
    let draft = read(&drafted(&proposal)).unwrap();
    let alice = signing(ALICE);
    let approval = draft.approve(&alice.public, &|m| alice.sign(m)).unwrap();
    let alone = proposal.approve(&alice.public, &|m| alice.sign(m)).unwrap();
    assert_eq!(approval.to_bytes().unwrap(), alone.to_bytes().unwrap());
    let whole = collected(&draft, &[signing(ALICE), signing(BOB)]);
    let same = collected(&proposal, &[signing(ALICE), signing(BOB)]);
    assert_eq!(whole.to_bytes().unwrap(), same.to_bytes().unwrap());
    open_entitlement(&whole.to_bytes().unwrap()).unwrap();
    for bare in [draft, whole] {
        let bytes = bare.without_signatures().to_bytes().unwrap();
        assert_eq!(bytes, proposal.to_bytes().unwrap());
    }
}

#[test]
fn what_is_approved_is_drafted_without_its_approvals() {
    let whole = read(&entitlement_bytes()).unwrap();
    let draft = read(&drafted(&whole)).unwrap();
    assert_eq!(draft.signature_count(), 0);
    assert_eq!(draft.fingerprint(), whole.fingerprint());
}
