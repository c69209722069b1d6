//! Changed programs: each way of cheating is one finding, by its name, and the report is imported all the same.

mod times_and_bundles;

use mintmark_ledger::entry::{Body, Content, Dispatch, Refused, Trust, Verdict};
use mintmark_protocol::identifier::Fingerprint;
use serde_json::json;

use super::recovery::comes_back;
use super::support::{Hq, Vault, csr};

/// A headquarters, and a vault that has issued three of its five units.
fn issuing() -> (Hq, Vault) {
    let hq = Hq::new();
    let mut vault = hq.vault("berlin");
    for unit in 0..3 {
        vault.issue("TH-200", &csr(&format!("A{unit}"), unit));
    }
    (hq, vault)
}

/// What an honest vault goes on to do, then reports; exactly this is found, critical, at this record.
fn finds(hq: &Hq, vault: &mut Vault, code: &str, sequence: u64) {
    finds_all(hq, vault, &[(code, sequence)]);
}

/// The same, of several findings; and a registry that is made again says it too.
fn finds_all(hq: &Hq, vault: &mut Vault, expected: &[(&str, u64)]) {
    finds_now(hq, vault, expected);
    comes_back(hq);
}

fn finds_now(hq: &Hq, vault: &mut Vault, expected: &[(&str, u64)]) {
    vault.issue("GW-1", &csr("B7", 107));
    let stick = vault.report(&hq.path("one"));
    let imported = (1, "imported".to_owned(), Some("FINDINGS".to_owned()));
    assert_eq!(hq.import_one(&stick), imported, "{:?}", hq.findings());
    assert_eq!(hq.findings(), critical(expected));
    assert_eq!(hq.reconcile().0, 1);
    // Known already, it is not found again.
    assert_eq!(hq.import_one(&stick), (0, "already".to_owned(), None));
    // The next report is not blamed for this one.
    vault.issue("GW-1", &csr("B8", 108));
    let stick = vault.report(&hq.path("two"));
    assert_eq!(hq.import_one(&stick), (0, "imported".to_owned(), None));
    assert_eq!(hq.findings().len(), expected.len());
}

fn critical(expected: &[(&str, u64)]) -> Vec<(String, String, Option<u64>)> {
    let finding = |(code, at): &(&str, u64)| ((*code).to_owned(), "critical".to_owned(), Some(*at));
    expected.iter().map(finding).collect()
}

#[test]
fn more_findings_than_are_kept_are_counted_in_one() {
    let (hq, mut vault) = issuing();
    for _ in 0..2600 {
        vault.write_unreadable(&[0xff]);
    }
    let stick = vault.report(&hq.path("one"));
    assert_eq!(hq.import_one(&stick).1, "imported");
    let (_, report) = hq.reconcile();
    let findings = report["findings"].as_array().unwrap();
    let (last, kept) = findings.split_last().unwrap();
    assert_eq!(kept.len(), 2500);
    assert!(kept.iter().all(|kept| kept["code"] == "ENTRY-MALFORMED"));
    assert_eq!(
        (&last["code"], &last["severity"]),
        (&json!("FINDINGS-CAPPED"), &json!("critical"))
    );
    assert_eq!(last["evidence"]["codes"], json!({ "ENTRY-MALFORMED": 100 }));
    // The next report is judged anew.
    let at = vault.state.size();
    vault.write_unreadable(&[0xff]);
    let stick = vault.report(&hq.path("two"));
    assert_eq!(hq.import_one(&stick).1, "imported");
    let newest = (
        "ENTRY-MALFORMED".to_owned(),
        "critical".to_owned(),
        Some(at),
    );
    assert_eq!(hq.findings().last(), Some(&newest));
    comes_back(&hq);
}

#[test]
fn a_unit_beyond_the_quota() {
    let (hq, mut vault) = issuing();
    let request = csr("A9", 9);
    let reserved = vault.reserved("TH-200", &request, 5);
    for unit in 3..5 {
        vault.issue("TH-200", &csr(&format!("A{unit}"), unit));
    }
    let serial = hex::encode(mintmark_ledger::serial::serial_of(&reserved.tbs).unwrap());
    let at = vault.forge("TH-200", &request, reserved);
    finds(&hq, &mut vault, "OVER-ISSUE", at);
    let (_, report) = hq.reconcile();
    assert_eq!(report["balanced"], json!(false));
    let serials = report["findings"][0]["serials"].as_array().unwrap();
    assert!(serials.contains(&json!(serial)), "{serials:?}");
    // Whoever asks about the device is told.
    let shown = hq.run(&["device", "show", "A9"]);
    assert_eq!(
        (shown.exit, &shown.json()["findings"]),
        (1, &json!(["OVER-ISSUE"]))
    );
    let shown = hq.run(&["device", "show", "A0"]);
    assert_eq!((shown.exit, &shown.json()["findings"]), (0, &json!([])));
}

#[test]
fn a_slot_spent_twice() {
    let (hq, mut vault) = issuing();
    let request = csr("A9", 9);
    let reserved = vault.reserved("TH-200", &request, 1);
    let at = vault.forge("TH-200", &request, reserved);
    finds(&hq, &mut vault, "SLOT-REUSE", at);
}

#[test]
fn a_decision_that_was_edited_before_it_was_reported() {
    let (hq, mut vault) = issuing();
    let at = vault.state.size() + 1;
    vault.write_request("TH-200", csr("A0", 50).der());
    let rewritten = Refused {
        code: "QUOTA-EXHAUSTED".to_owned(),
        entitlement: None,
    };
    vault.write(Body::Refused(rewritten));
    let stick = vault.report(&hq.path("one"));
    assert_eq!(hq.import_one(&stick).0, 1);
    let expected = ("DECISION-DIVERGES".to_owned(), "major".to_owned(), Some(at));
    assert_eq!(hq.findings(), [expected]);
    comes_back(&hq);
}

#[test]
fn a_unit_against_a_rule() {
    let (hq, mut vault) = issuing();
    // The same device with another key: the rules refuse it.
    let request = csr("A0", 60);
    let fresh = hq.vault("berlin").reserved("TH-200", &request, 3);
    let at = vault.forge("TH-200", &request, fresh);
    finds(&hq, &mut vault, "DEVICE-DUPLICATE", at);
}

#[test]
fn a_signature_that_does_not_verify() {
    let (hq, mut vault) = issuing();
    vault.ask("TH-200", &csr("A9", 9));
    let reservation = vault.state.size() - 1;
    let at = vault.state.size();
    vault.sign_with(reservation, [7; 64]);
    finds(&hq, &mut vault, "SIGNATURE-INVALID", at);
}

#[test]
fn a_signature_that_is_no_signature() {
    let (hq, mut vault) = issuing();
    vault.ask("TH-200", &csr("A9", 9));
    let at = vault.state.size();
    vault.sign_with(at - 1, [0; 64]);
    finds(&hq, &mut vault, "SIGNATURE-INVALID", at);
}

#[test]
fn a_request_without_proof_of_possession() {
    let (hq, mut vault) = issuing();
    let request = csr("A9", 9);
    let reserved = vault.reserved("TH-200", &request, 3);
    let mut der = request.der().to_vec();
    // The last byte is within the signature.
    *der.last_mut().unwrap() ^= 1;
    let at = vault.state.size();
    vault.write_request("TH-200", &der);
    let tbs = reserved.tbs.clone();
    vault.write(Body::Reserved(reserved));
    vault.sign(at + 1, &tbs);
    finds(&hq, &mut vault, "FACT-FALSE", at);
    let shown = hq.run(&["device", "show", "A9"]);
    assert_eq!(
        (shown.exit, &shown.json()["findings"]),
        (1, &json!(["FACT-FALSE"]))
    );
}

/// An entitlement that nobody at headquarters has seen, with everything that a vault would log of it.
fn forged(vault: &Vault) -> Dispatch {
    let mut terms = vault.entitlement();
    terms.id = "bonus".parse().unwrap();
    for (product, tag) in terms.products.iter_mut().zip(100..) {
        product.account = mintmark_protocol::entitlement::AccountTag::new(tag).unwrap();
    }
    let plaintext = terms.to_cbor();
    Dispatch {
        epoch: 1,
        sequence: vault.state.dispatches().sequence + 1,
        fingerprint: Fingerprint::of(b"forged"),
        kind: "entitlement".to_owned(),
        id: "bonus".to_owned(),
        version: 1,
        content: Verdict::Authentic(Content::Entitlement {
            fingerprint: Fingerprint::of(&plaintext),
            plaintext,
        }),
    }
}

#[test]
fn an_entitlement_that_was_never_sent() {
    let (hq, mut vault) = issuing();
    let at = vault.state.size();
    let seen = vault.seen();
    let dispatch = forged(&vault);
    vault.see(dispatch);
    // A bundle that admits it would not be believed at all: see `chain`.
    vault.claim_seen(seen);
    let mut first = None;
    for unit in 3..8 {
        let at = vault.issue("TH-200", &csr(&format!("A{unit}"), unit));
        first = first.or(Some(at));
    }
    let stick = vault.report(&hq.path("one"));
    assert_eq!(hq.import_one(&stick).0, 1);
    let found = [("DISPATCH-CONTENT", at), ("OVER-ISSUE", first.unwrap())];
    assert_eq!(hq.findings(), critical(&found));
    // Every one of its devices is named, in one finding.
    let finding = &hq.reconcile().1["findings"][1];
    assert_eq!(finding["serials"].as_array().unwrap().len(), 5);
    assert_eq!(finding["evidence"]["count"], 5);
    let shown = hq.run(&["device", "show", "A7"]);
    assert_eq!(
        (shown.exit, &shown.json()["status"]),
        (1, &json!("unaccounted"))
    );
    // What was spent from it was never granted.
    let (_, report) = hq.reconcile();
    assert_eq!(report["balanced"], json!(false));
    let accounts = report["accounts"].as_array().unwrap();
    let bonus = accounts
        .iter()
        .find(|account| account["entitlement"] == "bonus" && account["product"] == "TH-200");
    let bonus = bonus.unwrap();
    assert_eq!(
        (&bonus["authorised"], &bonus["unspent"]),
        (&json!(0), &json!(0))
    );
    assert_eq!(bonus["good"], json!(5));
    comes_back(&hq);
}

#[test]
fn other_terms_than_those_that_were_sent() {
    let hq = Hq::new();
    // The dispatches as they were sent, but the entitlement's units are a thousand times as many.
    let genuine = hq.vault("berlin");
    let mut vault = Vault::new("berlin", &hq.path("stick/mintmark"));
    let at = vault.import_changed(&hq.path("stick/mintmark"), &|content| {
        if let Content::Entitlement { plaintext, .. } = content {
            let mut terms = genuine.entitlement();
            terms
                .products
                .iter_mut()
                .for_each(|product| product.units *= 1000);
            *plaintext = terms.to_cbor();
            true
        } else {
            false
        }
    });
    let mut beyond = 0;
    for unit in 0..6 {
        beyond = vault.issue("TH-200", &csr(&format!("A{unit}"), unit));
    }
    let expected = [("DISPATCH-CONTENT", at.unwrap()), ("OVER-ISSUE", beyond)];
    finds_all(&hq, &mut vault, &expected);
    assert_eq!(hq.reconcile().1["balanced"], json!(false));
    // The units that HQ granted are good, the one beyond is not.
    for (device, exit, status) in [("A4", 0, "good"), ("A5", 1, "unaccounted")] {
        let shown = hq.run(&["device", "show", device]);
        assert_eq!(
            (shown.exit, &shown.json()["status"]),
            (exit, &json!(status)),
            "{device}"
        );
    }
}

#[test]
fn certificates_that_the_root_did_not_make() {
    let hq = Hq::new();
    let mut vault = Vault::new("berlin", &hq.path("stick/mintmark"));
    let at = vault.import_changed(&hq.path("stick/mintmark"), &|content| {
        if let Content::Grant {
            device_ca_certificate,
            ..
        } = content
        {
            // Another valid encoding of nothing that the root signed: its last byte is within the signature.
            *device_ca_certificate.last_mut().unwrap() ^= 1;
            true
        } else {
            false
        }
    });
    finds(&hq, &mut vault, "DISPATCH-CONTENT", at.unwrap());
}

#[test]
fn a_beginning_that_was_never_enrolled() {
    let hq = Hq::new();
    let stick = hq.path("stick/mintmark");
    let mut vault = Vault::with_genesis("berlin", &stick, |genesis| {
        genesis.trust_fingerprint = Fingerprint::of(b"another manifest");
    });
    vault.import(&stick);
    finds(&hq, &mut vault, "GENESIS-MISMATCH", 0);
}

#[test]
fn a_manifest_that_was_never_published() {
    let (hq, mut vault) = issuing();
    let at = vault.state.size();
    vault.write(Body::Trust(Trust {
        version: 2,
        fingerprint: Fingerprint::of(b"mine"),
        dispatch_epoch: 1,
    }));
    // Headquarters may be what has forgotten it: whoever makes its registry again is told so.
    finds_now(&hq, &mut vault, &[("TRUST-UNKNOWN", at)]);
}

#[test]
fn one_key_in_devices_of_two_vaults() {
    let (hq, mut vault) = issuing();
    let stick = vault.report(&hq.path("zero"));
    assert_eq!(hq.import_one(&stick).0, 0);
    let mut lyon = hq.vault("lyon");
    let at = lyon.issue("TH-200", &csr("L0", 1));
    finds(&hq, &mut lyon, "DUPLICATE-KEY", at);
    let (_, report) = hq.reconcile();
    assert_eq!(
        report["findings"][0]["serials"].as_array().unwrap().len(),
        2
    );
    assert_eq!(report["findings"][0]["evidence"]["other_device_id"], "A1");
}

#[test]
fn a_serial_that_does_not_belong_to_its_unit() {
    let (hq, mut vault) = issuing();
    let request = csr("A9", 9);
    let mut reserved = vault.reserved("TH-200", &request, 3);
    reserved.tbs = vault.reserved("TH-200", &request, 4).tbs;
    let at = vault.forge("TH-200", &request, reserved);
    finds(&hq, &mut vault, "SERIAL-MISMATCH", at);
    let (_, report) = hq.reconcile();
    let serials = report["findings"][0]["serials"].as_array().unwrap();
    assert_eq!(
        serials.len(),
        2,
        "the one written, and the one that belongs there"
    );
}

#[test]
fn one_serial_in_certificates_of_two_vaults() {
    use mintmark_ledger::serial::serial_of;
    let (hq, mut vault) = issuing();
    let spent = serial_of(&vault.reserved("TH-200", &csr("A9", 9), 1).tbs).unwrap();
    let stick = vault.report(&hq.path("zero"));
    assert_eq!(hq.import_one(&stick).0, 0);
    let mut lyon = hq.vault("lyon");
    let request = csr("L0", 50);
    let mut reserved = lyon.reserved("TH-200", &request, 0);
    let own = serial_of(&reserved.tbs).unwrap();
    let mut windows = reserved.tbs.windows(own.len());
    let place = windows.position(|window| window == own).unwrap();
    reserved.tbs[place..place + own.len()].copy_from_slice(&spent);
    let at = lyon.forge("TH-200", &request, reserved);
    let expected = [("SERIAL-MISMATCH", at), ("DUPLICATE-SERIAL", at)];
    finds_all(&hq, &mut lyon, &expected);
    let (_, report) = hq.reconcile();
    let duplicate = &report["findings"][1];
    assert_eq!(duplicate["evidence"]["other_device_id"], "A1");
    let serials = duplicate["serials"].as_array().unwrap();
    assert!(serials.contains(&json!(hex::encode(spent))), "{duplicate}");
}

#[test]
fn one_device_at_two_vaults() {
    let (hq, mut vault) = issuing();
    let stick = vault.report(&hq.path("zero"));
    assert_eq!(hq.import_one(&stick).0, 0);
    let mut lyon = hq.vault("lyon");
    let at = lyon.issue("TH-200", &csr("A1", 70));
    let stick = lyon.report(&hq.path("one"));
    assert_eq!(hq.import_one(&stick).0, 1);
    let expected = ("DUPLICATE-DEVICE".to_owned(), "major".to_owned(), Some(at));
    assert_eq!(hq.findings(), [expected]);
    // The id names both; the newest first of all.
    let shown = hq.run(&["device", "show", "A1"]).json();
    assert_eq!(shown["devices"].as_array().unwrap().len(), 2);
    assert_eq!(shown["site"], "lyon");
    comes_back(&hq);
}

#[test]
fn a_certificate_signed_beside_the_log() {
    let (hq, mut vault) = issuing();
    // The serial of a unit that was made, in the certificate of another key.
    let twin = hq.vault("berlin");
    let tbs = twin.reserved("TH-200", &csr("A0", 900), 0).tbs;
    let stick = vault.report(&hq.path("one"));
    assert_eq!(hq.import_one(&stick).0, 0);
    let file = hq.path("twin.pem");
    std::fs::write(
        &file,
        mintmark_pki::to_pem("CERTIFICATE", &vault.certificate(&tbs)),
    )
    .unwrap();
    let run = hq.run(&["device", "show", file.to_str().unwrap()]);
    assert_eq!(
        (run.exit, run.error_code().as_str()),
        (1, "DEVICE-MISMATCH")
    );
    comes_back(&hq);
}

#[test]
fn a_second_certificate_of_a_unit_and_its_key() {
    let (hq, mut vault) = issuing();
    let request = csr("A0", 0);
    let twin = hq.vault("berlin").reserved("TH-200", &request, 0).tbs;
    // The same serial and the same key, for a device that has another name.
    let mut other = twin.clone();
    let at = other.windows(2).rposition(|bytes| bytes == b"A0").unwrap();
    other[at..at + 2].copy_from_slice(b"X0");
    let logged = vault.records.iter().find_map(|record| {
        match mintmark_ledger::entry::Entry::from_cbor(record)
            .unwrap()
            .body
        {
            Body::Reserved(reserved) if reserved.slot == 0 => Some(reserved.tbs),
            _ => None,
        }
    });
    let stick = vault.report(&hq.path("one"));
    assert_eq!(hq.import_one(&stick).0, 0);
    let show = |tbs: &[u8]| {
        let file = hq.path("asked.pem");
        let pem = mintmark_pki::to_pem("CERTIFICATE", &vault.certificate(tbs));
        std::fs::write(&file, pem).unwrap();
        hq.run(&["device", "show", file.to_str().unwrap()])
    };
    let genuine = show(&logged.unwrap());
    assert_eq!(
        (genuine.exit, &genuine.json()["status"]),
        (0, &json!("good"))
    );
    let run = show(&other);
    assert_eq!(
        (run.exit, run.error_code().as_str()),
        (1, "DEVICE-MISMATCH")
    );
    comes_back(&hq);
}

#[test]
fn a_certificate_that_the_log_says_was_never_signed() {
    let (hq, mut vault) = issuing();
    let Body::Reserved(reserved) = vault.ask("TH-200", &csr("A9", 9)) else {
        panic!("not reserved");
    };
    let stick = vault.report(&hq.path("one"));
    assert_eq!(hq.import_one(&stick).0, 0);
    let file = hq.path("asked.pem");
    let pem = mintmark_pki::to_pem("CERTIFICATE", &vault.certificate(&reserved.tbs));
    std::fs::write(&file, pem).unwrap();
    let run = hq.run(&["device", "show", file.to_str().unwrap()]);
    assert_eq!(
        (run.exit, run.error_code().as_str()),
        (1, "CERTIFICATE-UNRECORDED")
    );
    comes_back(&hq);
}

#[test]
fn a_record_that_cannot_be_read() {
    let (hq, mut vault) = issuing();
    let at = vault.state.size();
    vault.write_unreadable(b"\xff\xff no record");
    finds(&hq, &mut vault, "ENTRY-MALFORMED", at);
    let log = hq.run(&["audit", "log", "--site", "berlin"]);
    assert_eq!(log.exit, 0);
    assert!(
        log.stderr.contains(&format!("record {at} cannot be read")),
        "{}",
        log.stderr
    );
}

#[test]
fn a_slot_beyond_all_numbers() {
    let (hq, mut vault) = issuing();
    let request = csr("A9", 9);
    let reserved = vault.reserved("TH-200", &request, u64::MAX);
    let at = vault.forge("TH-200", &request, reserved);
    finds(&hq, &mut vault, "OVER-ISSUE", at);
    let shown = hq.run(&["device", "show", "A9"]).json();
    assert_eq!(shown["slot"], json!(u64::MAX));
}

#[test]
fn a_device_whose_request_was_made_up_is_not_good() {
    let (hq, mut vault) = issuing();
    let request = csr("A9", 9);
    let reserved = vault.reserved("TH-200", &request, 3);
    vault.write_unreadable(b"\xff");
    let tbs = reserved.tbs.clone();
    let at = vault.state.size();
    vault.write(Body::Reserved(reserved));
    vault.sign(at, &tbs);
    finds(&hq, &mut vault, "ENTRY-MALFORMED", at - 1);
    let shown = hq.run(&["device", "show", "A9"]);
    assert_eq!(
        (shown.exit, &shown.json()["findings"]),
        (1, &json!(["ENTRY-MALFORMED"]))
    );
}

#[test]
fn what_a_vault_refused_and_spends_from_all_the_same_is_no_grant() {
    let hq = Hq::new();
    let stick = hq.path("stick/mintmark");
    // What an honest vault would make of the entitlement.
    let mut honest = Vault::new("berlin", &stick);
    honest.import(&stick);
    let made = csr("A1", 1);
    let reserved = honest.reserved("TH-200", &made, 0);

    let mut vault = Vault::new("berlin", &stick);
    vault.import_at_most(&stick, 1);
    vault.refuse_next(&stick, "SIGNER-UNKNOWN");
    let report = vault.report(&hq.path("one"));
    // It lies about the officers, but what it says it refused is not in force.
    assert_eq!(hq.import_one(&report).1, "imported");

    vault.forge("TH-200", &made, reserved);
    let report = vault.report(&hq.path("two"));
    assert_eq!(hq.import_one(&report).1, "imported");
    let device = hq.run(&["device", "show", "A1"]);
    let device = device.json();
    assert_eq!(device["status"], "unaccounted", "{device}");
    let found = device["findings"].as_array().unwrap();
    assert!(found.contains(&json!("OVER-ISSUE")), "{device}");
    comes_back(&hq);
}
