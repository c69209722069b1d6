//! The chains of dispatches and of trust manifests: in order, each once, one history.

use std::fs;

use mintmark_protocol::media::MediaName;
use serde_json::json;

use crate::outcome;
use crate::support::hq::put;
use crate::support::{Hq, Vault, now};

#[test]
fn dispatches_are_followed_in_order_and_each_once() {
    let (vault, mut hq) = (Vault::new(), Hq::new(1));
    vault.enrol(&mut hq, 1);
    let terms = hq.terms("th200", 2, 2);
    let (third, third_bytes) = hq.mint(&terms, 2);
    let terms = hq.terms("th200", 3, 3);
    let (fourth, fourth_bytes) = hq.mint(&terms, 2);

    let path = put(&vault.stick(), &fourth, &fourth_bytes);
    let before = vault.status();
    let gap = vault.import().expect(3);
    assert_eq!(
        gap.outcomes().pop().unwrap(),
        outcome("held", Some("DISPATCH-GAP"))
    );
    assert_eq!(vault.status(), before);

    // One byte of the signature: not authentic, so not followed and not logged.
    let mut tampered = third_bytes.clone();
    *tampered.last_mut().unwrap() ^= 1;
    fs::remove_file(path).unwrap();
    put(&vault.stick(), &third, &tampered);
    let refused = vault.import().expect(1);
    assert_eq!(
        refused.outcomes().pop().unwrap(),
        outcome("refused", Some("SIGNATURE-INVALID"))
    );
    assert_eq!(vault.status(), before);

    put(&vault.stick(), &third, &third_bytes);
    put(&vault.stick(), &fourth, &fourth_bytes);
    vault.import().expect(0);
    assert_eq!(vault.status()["accounts"][0]["authorised"], 3);
    assert_eq!(
        vault.status()["dispatch"],
        json!({"epoch": 1, "sequence": 4})
    );
}

#[test]
fn two_histories_of_headquarters_stop_the_line() {
    let (vault, mut hq) = (Vault::new(), Hq::new(1));
    vault.enrol(&mut hq, 1);
    let before = vault.status();
    // HQ forgets its second dispatch and makes another one.
    hq.sequence = 1;
    let terms = hq.terms("other", 1, 100);
    let (second, bytes) = hq.mint(&terms, 2);
    put(&vault.stick(), &second, &bytes);
    let fork = vault.import().expect(4);
    assert_eq!(
        fork.outcomes().pop().unwrap(),
        outcome("refused", Some("DISPATCH-FORK"))
    );
    // The third one follows that other second one.
    let (third, bytes) = hq.mint(&terms, 2);
    fs::remove_dir_all(vault.stick().join("mintmark")).unwrap();
    put(&vault.stick(), &third, &bytes);
    let chain = vault.import().expect(4);
    assert_eq!(
        chain.outcomes().pop().unwrap(),
        outcome("refused", Some("DISPATCH-CHAIN"))
    );
    assert_eq!(vault.status(), before);
}

#[test]
fn content_that_too_few_officers_signed_is_logged_as_refused_and_the_chain_goes_on() {
    let (vault, mut hq) = (Vault::new(), Hq::new(1));
    vault.enrol(&mut hq, 1);
    let terms = hq.terms("th200", 2, 1000);
    let (third, bytes) = hq.mint(&terms, 1);
    put(&vault.stick(), &third, &bytes);
    let refused = vault.import().expect(1);
    assert_eq!(
        refused.outcomes().pop().unwrap(),
        outcome("refused", Some("THRESHOLD-NOT-MET"))
    );
    assert_eq!(vault.status()["accounts"][0]["authorised"], 1);
    assert_eq!(vault.status()["dispatch"]["sequence"], 3);
    let log = vault.run(&["audit", "log"]).expect(0).lines();
    let row = log
        .iter()
        .find(|row| row["code"] == "THRESHOLD-NOT-MET")
        .unwrap();
    assert_eq!(
        (&row["kind"], &row["outcome"]),
        (&json!("dispatch"), &json!("refused"))
    );
    // The same stick again: it is known by now.
    assert_eq!(
        vault.import().expect(0).outcomes().pop().unwrap(),
        outcome("already", None)
    );
}

#[test]
fn a_manifest_is_followed_by_the_next_and_by_no_other() {
    let (vault, mut hq) = (Vault::new(), Hq::new(1));
    vault.enrol(&mut hq, 1);
    let first = hq.manifests[0].2;
    let second = hq.manifest(2, Some(first), now() + 7200);
    hq.publish(second);
    let third = hq.manifest(3, Some(hq.manifests[1].2), now() + 9000);
    hq.publish(third);
    put(
        &vault.stick(),
        &MediaName::Trust { version: 3 },
        &hq.manifests[2].1,
    );
    let missing = vault.import().expect(3);
    assert!(
        missing
            .outcomes()
            .contains(&outcome("held", Some("TRUST-MISSING")))
    );
    hq.carry_trust(&vault.stick());
    vault.import().expect(0);
    assert_eq!(vault.status()["trust_version"], 3);

    let (other, _) = hq.approved_manifest(&hq.manifest(3, Some(hq.manifests[1].2), now() + 9999));
    put(&vault.stick(), &MediaName::Trust { version: 3 }, &other);
    assert!(
        vault
            .import()
            .expect(4)
            .outcomes()
            .contains(&outcome("refused", Some("TRUST-FORK")))
    );
    let mut unsigned = other;
    *unsigned.last_mut().unwrap() ^= 1;
    put(&vault.stick(), &MediaName::Trust { version: 3 }, &unsigned);
    let refused = vault.import().expect(1);
    assert!(
        refused
            .outcomes()
            .contains(&outcome("refused", Some("SIGNATURE-INVALID")))
    );
    // Another headquarters' medium, or anybody's: it does not stop this line.
    put(
        &vault.stick(),
        &MediaName::Trust { version: 3 },
        &Hq::new(2).manifests[0].1,
    );
    assert!(
        vault
            .import()
            .expect(1)
            .outcomes()
            .contains(&outcome("refused", Some("SIGNER-UNKNOWN")))
    );
    assert_eq!(vault.status()["trust_version"], 3);
}
