//! What is encrypted to one and meant for another: each test changes one thing, and whoever signs it does so again.

use ciborium::Value;
use mintmark_protocol::key_delivery::{Delivery, KeyFacts};

use super::support::forge::{self, Parts, with_context};
use super::support::*;
use super::{assert_code, vault_recipient};

#[test]
fn a_content_that_is_for_others_than_its_header_says_is_refused() {
    // Whatever HQ itself signs: one thing at a time differs from the header.
    let told = |plaintext: Vec<u8>| {
        let signed = Parts::of(&acknowledgement_bytes());
        let digest = Value::Bytes(forge::sha256(&plaintext));
        let header = with_context(&signed.protected, 6, digest);
        let inner = Parts::of(&signed.payload()).protected;
        let encrypted = forge::encrypt(inner, &plaintext, &[vault_agree().public]);
        let signed = signed.with_protected(header);
        let bytes = signed
            .with_payload(encrypted.write())
            .signed(&[dispatch_key()]);
        open_acknowledgement(&bytes)
    };
    let same = acknowledgement();
    assert_eq!(*told(same.to_cbor()).unwrap().content(), same);
    let mut of_another_bundle = acknowledgement();
    of_another_bundle.bundle_sequence += 1;
    assert_code(told(of_another_bundle.to_cbor()), "MESSAGE-PARTS");
    let mut of_another_vault = acknowledgement();
    of_another_vault.vault = vault_named("berlin", "v2");
    assert_code(told(of_another_vault.to_cbor()), "MESSAGE-PARTS");

    let granted = |plaintext: Vec<u8>| {
        let signed = Parts::of(&audit_grant_bytes());
        let digest = Value::Bytes(forge::sha256(&plaintext));
        let header = with_context(&signed.protected, 6, digest);
        let inner = Parts::of(&signed.payload()).protected;
        let encrypted = forge::encrypt(inner, &plaintext, &[auditor_key().public]);
        let signed = signed.with_protected(header);
        let bytes = signed
            .with_payload(encrypted.write())
            .signed(&[report_key()]);
        open_audit_grant(&bytes)
    };
    granted(audit_grant().to_cbor().to_vec()).unwrap();
    let mut of_another_time = audit_grant();
    of_another_time.made_at += 1;
    assert_code(granted(of_another_time.to_cbor().to_vec()), "MESSAGE-PARTS");
    let mut of_another_auditor = audit_grant();
    of_another_auditor.auditor = stranger().public;
    assert_code(
        granted(of_another_auditor.to_cbor().to_vec()),
        "MESSAGE-PARTS",
    );
}

#[test]
fn a_transported_key_has_one_plain_recipient() {
    let key = &entitlement().keys[1];
    let facts = KeyFacts {
        vault: vault(),
        label: key.label.clone(),
        algorithm: key.algorithm,
    };
    let read = |change: &dyn Fn(&mut Vec<Value>)| {
        let mut delivery = Parts::of(&key.delivery);
        change(vault_recipient(&mut delivery));
        let read = Delivery::read(&delivery.write(), &facts);
        read.map(|read| matches!(read, Delivery::Transported { .. }))
    };
    assert!(read(&|_| ()).unwrap(), "the second key is transported");
    let protected = |recipient: &mut Vec<Value>| {
        recipient[0] = Value::Bytes(forge::recipient_header());
    };
    assert_code(read(&protected), "MESSAGE-HEADER");
    let within = |recipient: &mut Vec<Value>| {
        let inner = forge::recipient(&vault_agree().public);
        recipient.push(Value::Array(vec![inner]));
    };
    assert_code(read(&within), "MESSAGE-HEADER");
}
