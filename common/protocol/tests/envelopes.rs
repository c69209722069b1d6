//! What an envelope may look like: each test breaks one rule, signs the result anew with the right keys, and names the
//! code that refuses it.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

#[path = "envelopes/encoding.rs"]
mod encoding;
mod support;

use std::fmt::Debug;

use ciborium::Value;
use mintmark_protocol::Error;
use mintmark_protocol::acknowledgement::{ACKNOWLEDGEMENT_BYTES_MAX, Acknowledgement};
use mintmark_protocol::approval::{PROPOSAL_BYTES_MAX, Proposal};
use mintmark_protocol::bundle::{BUNDLE_BYTES_MAX, Bundle};
use mintmark_protocol::dispatch::{DISPATCH_BYTES_MAX, Dispatch};
use mintmark_protocol::enrolment::{EnrolmentGrant, EnrolmentRequest, REQUEST_BYTES_MAX};
use mintmark_protocol::entitlement::Entitlement;
use mintmark_protocol::envelope::claim;
use mintmark_protocol::identifier::Fingerprint;
use mintmark_protocol::officer::{OFFICER_REQUEST_BYTES_MAX, OfficerRequest};
use mintmark_protocol::order::Order as _;
use mintmark_protocol::trust::{TRUST_BYTES_MAX, TrustManifest};
use support::forge::{CONTEXT, Parts, map, with, with_context, without};
use support::*;

#[track_caller]
fn assert_code<T: Debug>(result: Result<T, Error>, code: &str) {
    let error = result.expect_err("accepted, not refused");
    assert_eq!(error.code(), code, "{error}");
}

fn open_dispatch(bytes: &[u8]) -> Result<Dispatch, Error> {
    Dispatch::open(bytes, &pinned(), &vault()).map(|dispatch| dispatch.into_content())
}

/// The dispatch with another protected header, signed anew.
fn dispatch_under(header: impl FnOnce(&[u8]) -> Vec<u8>) -> Vec<u8> {
    let parts = Parts::of(&dispatch_bytes());
    let header = header(&parts.protected);
    parts.with_protected(header).signed(&[dispatch_key()])
}

/// The dispatch with another payload, signed anew.
fn dispatch_of(payload: impl FnOnce(&[u8]) -> Vec<u8>) -> Vec<u8> {
    let parts = Parts::of(&dispatch_bytes());
    let payload = payload(&parts.payload());
    parts.with_payload(payload).signed(&[dispatch_key()])
}

/// The entitlement with another protected header, signed anew.
fn entitlement_under(header: impl FnOnce(&[u8]) -> Vec<u8>) -> Vec<u8> {
    let parts = Parts::of(&entitlement_bytes());
    let header = header(&parts.protected);
    parts
        .with_protected(header)
        .signed(&[signing(ALICE), signing(BOB)])
}

#[test]
fn what_is_forged_without_a_lie_is_accepted() {
    open_dispatch(&dispatch_under(<[u8]>::to_vec)).unwrap();
    open_dispatch(&dispatch_of(<[u8]>::to_vec)).unwrap();
    open_entitlement(&entitlement_under(<[u8]>::to_vec)).unwrap();
}

// Addresses.

#[test]
fn a_message_for_another_vault_or_site_is_refused() {
    for other in [vault_named("berlin", "v2"), vault_named("munich", "v1")] {
        assert_code(
            Dispatch::open(&dispatch_bytes(), &pinned(), &other),
            "MESSAGE-ADDRESS",
        );
        vault_agree().open(|opener| {
            let opened = Entitlement::open(&entitlement_bytes(), &pinned(), &other, opener);
            assert_code(opened, "MESSAGE-ADDRESS");
            let opened = EnrolmentGrant::open(&grant_bytes(), &pinned(), &other, opener);
            assert_code(opened, "MESSAGE-ADDRESS");
            let opened = Acknowledgement::open(&acknowledgement_bytes(), &pinned(), &other, opener);
            assert_code(opened, "MESSAGE-ADDRESS");
        });
        let opened = Bundle::open(&sealed_bundle().bytes, &other, &vault_sign().public);
        assert_code(opened, "MESSAGE-ADDRESS");
    }
}

#[test]
fn a_message_from_somebody_else_is_refused() {
    for sender in ["all", "vault:berlin/v1", "officer:alice"] {
        let bytes = dispatch_under(|header| with_context(header, 3, sender));
        assert_code(open_dispatch(&bytes), "MESSAGE-ADDRESS");
        let bytes = entitlement_under(|header| with_context(header, 3, sender));
        assert_code(open_entitlement(&bytes), "MESSAGE-ADDRESS");
    }
}

#[test]
fn a_party_that_is_none_is_refused() {
    for party in [
        "",
        "HQ",
        "vault:berlin",
        "vault:Berlin/v1",
        "vault:berlin/v1/x",
        "officer:",
    ] {
        let bytes = dispatch_under(|header| with_context(header, 3, party));
        assert!(open_dispatch(&bytes).is_err(), "{party}");
    }
}

#[test]
fn a_content_for_another_vault_than_its_header_says_is_refused() {
    let mut other = dispatch(
        mintmark_protocol::envelope::Kind::Acknowledgement,
        "ack-000003",
        vec![],
    );
    other.vault = vault_named("berlin", "v2");
    let (other, _) = other
        .seal(&manifest(), &|m| dispatch_key().sign(m))
        .unwrap();
    let payload = Parts::of(&other).payload();
    assert_code(open_dispatch(&dispatch_of(|_| payload)), "MESSAGE-PARTS");
}

#[test]
fn a_content_with_another_id_than_its_header_says_is_refused() {
    let bytes = dispatch_under(|header| with_context(header, 5, "dispatch-1-000003"));
    assert_code(open_dispatch(&bytes), "MESSAGE-PARTS");
    for id in ["", "dispatch 1", "../x", &"x".repeat(65)] {
        let bytes = dispatch_under(|header| with_context(header, 5, id));
        assert_code(open_dispatch(&bytes), "MESSAGE-SHAPE");
    }
}

// Types.

#[test]
fn a_message_of_another_type_is_refused() {
    vault_agree().open(|opener| {
        let opened = EnrolmentGrant::open(&entitlement_bytes(), &pinned(), &vault(), opener);
        assert_code(opened, "MESSAGE-TYPE");
        let opened = Entitlement::open(&grant_bytes(), &pinned(), &vault(), opener);
        assert_code(opened, "MESSAGE-TYPE");
    });
    assert_code(open_dispatch(&acknowledgement_bytes()), "MESSAGE-TYPE");
    assert_code(open_acknowledgement(&dispatch_bytes()), "MESSAGE-TYPE");
    let (_, fingerprint) = enrolment_request_bytes();
    let parts = Parts::of(&enrolment_request_bytes().0);
    let header = with(
        &parts.protected,
        3,
        "application/vnd.mintmark.audit-bundle+cbor",
    );
    let header = with_context(&header, 2, "audit-bundle");
    let bytes = parts.with_protected(header).signed(&[vault_sign()]);
    assert_code(EnrolmentRequest::open(&bytes, &fingerprint), "MESSAGE-TYPE");
}

#[test]
fn a_content_type_that_is_not_the_types_is_refused() {
    for content_type in [
        "application/cbor",
        "application/vnd.mintmark.dispatch",
        "text/plain",
    ] {
        let bytes = dispatch_under(|header| with(header, 3, content_type));
        assert_code(open_dispatch(&bytes), "MESSAGE-TYPE");
    }
    let bytes = dispatch_under(|header| with(header, 3, 60));
    assert_code(open_dispatch(&bytes), "MESSAGE-HEADER");
    let bytes = entitlement_under(|h| with(h, 3, "application/vnd.mintmark.entitlement+cbor"));
    assert_code(open_entitlement(&bytes), "MESSAGE-TYPE");
}

#[test]
fn another_format_version_is_named_as_such() {
    let bytes = dispatch_under(|header| with_context(header, 1, 2));
    assert_code(open_dispatch(&bytes), "MESSAGE-VERSION");
    assert_code(
        open_dispatch(&dispatch_of(|payload| with(payload, 1, 2))),
        "MESSAGE-VERSION",
    );
    assert_code(
        open_dispatch(&dispatch_of(|payload| with(payload, 1, -1))),
        "MESSAGE-SHAPE",
    );
}

#[test]
fn another_tag_or_none_is_refused() {
    let message = dispatch_bytes();
    assert_eq!(message[0], 0xd2);
    let untagged = &message[1..];
    assert_code(open_dispatch(untagged), "MESSAGE-SHAPE");
    for tag in [&[0xd8, 0x62][..], &[0xd8, 0x60]] {
        assert_code(open_dispatch(&[tag, untagged].concat()), "MESSAGE-SHAPE");
    }
    for tag in [
        &[0xd1][..],
        &[0xd9, 0xd9, 0xf7],
        &[0xd2, 0xd2],
        &[0xd9, 0xd9, 0xf7, 0xd2],
    ] {
        assert_code(open_dispatch(&[tag, untagged].concat()), "MESSAGE-ENCODING");
    }
    let as_one = Parts {
        tag: forge::SIGN1,
        ..Parts::of(&entitlement_bytes())
    };
    assert_code(open_entitlement(&as_one.write()), "MESSAGE-SHAPE");
}

#[test]
fn another_number_of_parts_is_refused() {
    let parts = |parts: Vec<Value>| forge::write(&Value::Tag(18, Box::new(Value::Array(parts))));
    let own = Parts::of(&dispatch_bytes());
    let mut five = vec![
        Value::Bytes(own.protected.clone()),
        own.unprotected.clone(),
        own.content.clone(),
        own.last.clone(),
    ];
    five.push(Value::Null);
    assert_code(open_dispatch(&parts(five.clone())), "MESSAGE-SHAPE");
    assert_code(open_dispatch(&parts(five[..3].to_vec())), "MESSAGE-SHAPE");
    assert_code(open_dispatch(&parts(Vec::new())), "MESSAGE-SHAPE");
    assert_code(
        open_dispatch(&forge::write(&Value::Tag(18, Box::new(map([]))))),
        "MESSAGE-SHAPE",
    );
}

#[test]
fn a_detached_payload_is_refused() {
    let mut parts = Parts::of(&dispatch_bytes());
    parts.content = Value::Null;
    assert_code(
        open_dispatch(&parts.signed(&[dispatch_key()])),
        "MESSAGE-SHAPE",
    );
    let mut parts = Parts::of(&entitlement_bytes());
    parts.content = Value::Null;
    let bytes = parts.signed(&[signing(ALICE), signing(BOB)]);
    assert_code(open_entitlement(&bytes), "MESSAGE-SHAPE");
}

// Headers.

#[test]
fn an_unknown_label_in_a_protected_header_is_refused() {
    for label in [2, 6, 8, 9, 12, 15, 33, 1000, -2, -65536, -65538] {
        let bytes = dispatch_under(|header| with(header, label, 1));
        assert_code(open_dispatch(&bytes), "MESSAGE-HEADER");
        let bytes = entitlement_under(|header| with(header, label, 1));
        assert_code(open_entitlement(&bytes), "MESSAGE-HEADER");
    }
    let text = |header: &[u8]| {
        let mut entries = forge::read(header).into_map().unwrap();
        entries.push(("x".into(), 1.into()));
        forge::write(&Value::Map(entries))
    };
    assert_code(open_dispatch(&dispatch_under(text)), "MESSAGE-HEADER");
}

#[test]
fn a_label_of_another_place_in_a_protected_header_is_refused() {
    // The IV and the ephemeral key have their places in a COSE_Encrypt, the algorithm in a signature.
    let iv = |header: &[u8]| with(header, 5, Value::Bytes(vec![0; 12]));
    assert_code(open_dispatch(&dispatch_under(iv)), "MESSAGE-HEADER");
    assert_code(open_entitlement(&entitlement_under(iv)), "MESSAGE-HEADER");
    let algorithm = |header: &[u8]| with(header, 1, -7);
    assert_code(
        open_entitlement(&entitlement_under(algorithm)),
        "MESSAGE-HEADER",
    );
    let key = |header: &[u8]| with(header, 4, Value::Bytes(vec![0; 32]));
    assert_code(open_entitlement(&entitlement_under(key)), "MESSAGE-HEADER");
}

#[test]
fn a_critical_header_is_refused_even_one_that_is_processed() {
    for critical in [
        vec![Value::from(CONTEXT)],
        vec![1.into()],
        vec![99.into()],
        vec![],
    ] {
        let bytes = dispatch_under(|header| with(header, 2, Value::Array(critical.clone())));
        assert_code(open_dispatch(&bytes), "MESSAGE-HEADER");
        let bytes = entitlement_under(|header| with(header, 2, Value::Array(critical)));
        assert_code(open_entitlement(&bytes), "MESSAGE-HEADER");
    }
}

#[test]
fn a_missing_header_is_refused() {
    for label in [1, 3, 4, CONTEXT] {
        let bytes = dispatch_under(|header| without(header, label));
        assert_code(open_dispatch(&bytes), "MESSAGE-HEADER");
    }
    assert_code(
        open_dispatch(&dispatch_under(|_| vec![0xa0])),
        "MESSAGE-HEADER",
    );
    assert_code(
        open_dispatch(&dispatch_under(|_| Vec::new())),
        "MESSAGE-ENCODING",
    );
    for key in 1..=5 {
        let context = |header: &[u8]| {
            let context = forge::write(&forge::entry(header, CONTEXT));
            with(header, CONTEXT, forge::read(&without(&context, key)))
        };
        assert!(open_dispatch(&dispatch_under(context)).is_err(), "{key}");
    }
}

#[test]
fn an_unknown_entry_of_the_context_is_refused() {
    let bytes = dispatch_under(|header| with_context(header, 7, 1));
    assert_code(open_dispatch(&bytes), "MESSAGE-HEADER");
}

#[test]
fn a_commitment_stands_where_there_is_something_encrypted_and_nowhere_else() {
    let digest = Value::Bytes(vec![1; 32]);
    let bytes = dispatch_under(|header| with_context(header, 6, digest));
    assert_code(open_dispatch(&bytes), "MESSAGE-HEADER");
    let bytes = entitlement_under(|header| {
        let context = forge::write(&forge::entry(header, CONTEXT));
        with(header, CONTEXT, forge::read(&without(&context, 6)))
    });
    assert_code(open_entitlement(&bytes), "MESSAGE-HEADER");
}

#[test]
fn a_header_that_is_no_map_is_refused() {
    for header in [&[0x80][..], &[0x01], &[0xf6]] {
        let bytes = dispatch_under(|_| header.to_vec());
        assert!(open_dispatch(&bytes).is_err(), "{header:x?}");
    }
}

#[test]
fn a_protected_header_that_is_too_large_is_refused() {
    let bytes = dispatch_under(|header| with_context(header, 5, "x".repeat(5000)));
    assert_code(open_dispatch(&bytes), "MESSAGE-OVERSIZE");
}

#[test]
fn another_algorithm_is_refused() {
    let algorithms = [
        (-8).into(),
        (-35).into(),
        (-47).into(),
        1.into(),
        Value::from("ES256"),
    ];
    for algorithm in algorithms {
        let bytes = dispatch_under(|header| with(header, 1, algorithm.clone()));
        assert_code(open_dispatch(&bytes), "MESSAGE-ALGORITHM");
        let mut parts = Parts::of(&entitlement_bytes());
        let header = with(&forge::signature_header(&signing(ALICE)), 1, algorithm);
        let signature = parts.signature(&signing(ALICE), &header);
        parts.inner()[0] = signature;
        assert_code(open_entitlement(&parts.write()), "MESSAGE-ALGORITHM");
    }
}

#[test]
fn anything_in_an_unprotected_header_is_refused() {
    let signature = || {
        Value::Array(vec![
            Value::Bytes(vec![]),
            map([]),
            Value::Bytes(vec![0; 64]),
        ])
    };
    let contents = [
        (1, Value::from(-7)),
        (2, Value::Array(vec![1.into()])),
        (3, Value::from("text/plain")),
        (4, Value::Bytes(vec![1])),
        (4, Value::Bytes(vec![])),
        (5, Value::Bytes(vec![0; 12])),
        (6, Value::Bytes(vec![0; 12])),
        (7, signature()),
        (7, Value::Array(vec![signature()])),
        (9, Value::Bytes(vec![0; 64])),
        (11, signature()),
        (12, Value::Bytes(vec![0; 64])),
        (-1, Value::from(1)),
        (CONTEXT, Value::from(1)),
        (33, Value::Bytes(vec![0])),
    ];
    for (label, content) in contents {
        let header = map([(label, content)]);
        let refused = |result: Result<(), Error>| {
            let code = result.expect_err("accepted").code();
            assert!(
                matches!(code, "MESSAGE-HEADER" | "MESSAGE-SHAPE"),
                "{label}: {code}"
            );
        };
        let mut parts = Parts::of(&dispatch_bytes());
        parts.unprotected = header.clone();
        refused(open_dispatch(&parts.write()).map(drop));
        let mut parts = Parts::of(&entitlement_bytes());
        parts.unprotected = header.clone();
        refused(open_entitlement(&parts.write()).map(drop));
        let mut parts = Parts::of(&entitlement_bytes());
        parts.inner()[0].as_array_mut().unwrap()[1] = header;
        refused(open_entitlement(&parts.write()).map(drop));
    }
}

/// A header whose counter-signature has a protected header whose counter-signature ..., so many deep.
fn counter_signatures(label: u8, depth: usize) -> Vec<u8> {
    let mut header = vec![0xa0];
    for _ in 0..depth {
        let mut outer = vec![0xa1, label, 0x83];
        outer.extend(forge::write(&Value::Bytes(header)));
        outer.extend([0xa0, 0x40]);
        header = outer;
    }
    header
}

#[test]
fn ten_thousand_counter_signatures_inside_one_another_are_refused_and_not_followed() {
    for label in [7, 11] {
        let deep = forge::read(&counter_signatures(label, 10_000));
        let mut parts = Parts::of(&dispatch_bytes());
        parts.unprotected = deep.clone();
        assert_code(open_dispatch(&parts.write()), "MESSAGE-HEADER");
        let mut parts = Parts::of(&entitlement_bytes());
        parts.unprotected = deep.clone();
        assert_code(open_entitlement(&parts.write()), "MESSAGE-HEADER");
        let mut parts = Parts::of(&entitlement_bytes());
        parts.inner()[1].as_array_mut().unwrap()[1] = deep;
        assert_code(open_entitlement(&parts.write()), "MESSAGE-HEADER");
        // In a protected header there is room for a few hundred.
        for (depth, code) in [(10_000, "MESSAGE-OVERSIZE"), (400, "MESSAGE-HEADER")] {
            let header = counter_signatures(label, depth);
            let bytes = Parts::of(&dispatch_bytes())
                .with_protected(header.clone())
                .write();
            assert_code(open_dispatch(&bytes), code);
            let bytes = Parts::of(&entitlement_bytes())
                .with_protected(header.clone())
                .write();
            assert_code(open_entitlement(&bytes), code);
            let mut parts = Parts::of(&entitlement_bytes());
            parts.inner()[0].as_array_mut().unwrap()[0] = Value::Bytes(header);
            assert_code(open_entitlement(&parts.write()), code);
        }
    }
}

#[test]
fn the_first_of_a_chain_and_no_other_has_none_before_it() {
    let bytes = dispatch_of(|payload| with(payload, 6, Value::Null));
    assert_code(open_dispatch(&bytes), "MESSAGE-SHAPE");
    let bytes = dispatch_of(|payload| with(payload, 5, 1));
    assert_code(open_dispatch(&bytes), "MESSAGE-SHAPE");
    let bytes = dispatch_of(|payload| with(payload, 5, 0));
    assert_code(open_dispatch(&bytes), "MESSAGE-SHAPE");
}

#[test]
fn what_is_larger_than_its_kind_may_be_is_refused() {
    let bytes = vec![0; DISPATCH_BYTES_MAX.max(BUNDLE_BYTES_MAX) + 1];
    let digest = Fingerprint::of(b"");
    assert_code(open_dispatch(&bytes), "MESSAGE-OVERSIZE");
    let most = |count: usize| &bytes[..=count];
    assert_code(
        TrustManifest::pin(most(TRUST_BYTES_MAX), &digest, None),
        "MESSAGE-OVERSIZE",
    );
    assert_code(
        pinned().successor(most(TRUST_BYTES_MAX)),
        "MESSAGE-OVERSIZE",
    );
    assert_code(
        OfficerRequest::open(most(OFFICER_REQUEST_BYTES_MAX), &digest),
        "MESSAGE-OVERSIZE",
    );
    assert_code(
        EnrolmentRequest::open(most(REQUEST_BYTES_MAX), &digest),
        "MESSAGE-OVERSIZE",
    );
    assert_code(
        open_entitlement(most(PROPOSAL_BYTES_MAX)),
        "MESSAGE-OVERSIZE",
    );
    assert_code(
        open_acknowledgement(most(4 * ACKNOWLEDGEMENT_BYTES_MAX)),
        "MESSAGE-OVERSIZE",
    );
    let bundle = Bundle::open(most(BUNDLE_BYTES_MAX), &vault(), &vault_sign().public);
    assert_code(bundle, "MESSAGE-OVERSIZE");
    assert_code(claim(most(100), 100), "MESSAGE-OVERSIZE");
    assert_eq!(
        Proposal::read(most(100), 100).err().unwrap().code(),
        "MESSAGE-OVERSIZE"
    );
}
