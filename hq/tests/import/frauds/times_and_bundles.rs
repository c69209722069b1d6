//! Frauds with the time, and with what a report says of its log and of the reports before.

use mintmark_ledger::entry::{Body, BundleSealed};
use mintmark_protocol::identifier::Fingerprint;
use serde_json::json;

use super::super::recovery::comes_back;
use super::super::support::{Change, Hq, Vault, csr};
use super::{critical, finds, issuing};

#[test]
fn a_sealed_bundle_that_never_arrived() {
    let (hq, mut vault) = issuing();
    let first = vault.report(&hq.path("zero"));
    assert_eq!(hq.import_one(&first).0, 0);
    // The record of that bundle names another one.
    let at = vault.state.size() - 1;
    vault.edit(at, |body| {
        if let Body::BundleSealed(BundleSealed { fingerprint, .. }) = body {
            *fingerprint = Fingerprint::of(b"another");
        }
    });
    finds(&hq, &mut vault, "BUNDLE-SEALED-MISMATCH", at);
}

#[test]
fn a_clock_at_the_end_of_time_is_found_and_breaks_nothing() {
    let (hq, mut vault) = issuing();
    vault.jump(u64::MAX);
    let at = vault.state.size();
    assert_eq!(
        vault.ask("TH-200", &csr("A9", 9)).code(),
        Some("WINDOW-CLOSED")
    );
    let stick = vault.report(&hq.path("one"));
    assert_eq!(hq.import_one(&stick).0, 1);
    let ahead = ("TIME-AHEAD".to_owned(), "major".to_owned(), Some(at));
    assert_eq!(hq.findings(), [ahead]);
    let (exit, report) = hq.reconcile();
    assert_eq!(exit, 1);
    // The request, its decision, and the time of sealing.
    assert_eq!(report["findings"][0]["evidence"]["count"], 3);
    // HQ's own clock bounds what is said of the time.
    assert!(report["as_of"].as_str().unwrap() < "9999");
    assert_eq!(hq.run(&["audit", "list"]).exit, 0);
    comes_back(&hq);
}

#[test]
fn a_time_before_what_the_vault_had_seen() {
    let hq = Hq::new();
    let mut vault = Vault::slow("berlin", &hq.path("stick/mintmark"), 3 * 86_400);
    let at = vault.state.size();
    vault.import(&hq.path("stick/mintmark"));
    let stick = vault.report(&hq.path("one"));
    assert_eq!(hq.import_one(&stick).0, 1);
    let before = (
        "TIME-BEFORE-DISPATCH".to_owned(),
        "major".to_owned(),
        Some(at),
    );
    assert_eq!(hq.findings(), [before]);
    comes_back(&hq);
}

#[test]
fn a_clock_less_than_a_day_behind_is_no_finding() {
    let hq = Hq::new();
    let mut vault = Vault::slow("berlin", &hq.path("stick/mintmark"), 80_000);
    vault.import(&hq.path("stick/mintmark"));
    let stick = vault.report(&hq.path("one"));
    assert_eq!(hq.import_one(&stick), (0, "imported".to_owned(), None));
    comes_back(&hq);
}

#[test]
fn a_bundle_that_the_log_does_not_know_of() {
    let (hq, mut vault) = issuing();
    let stick = vault.report(&hq.path("zero"));
    assert_eq!(hq.import_one(&stick).0, 0);
    // The record of that bundle is a remark of another kind.
    vault.unwrite();
    vault.issue("GW-1", &csr("B7", 107));
    let stick = vault.report(&hq.path("one"));
    assert_eq!(hq.import_one(&stick).0, 1);
    let found: Vec<_> = hq.findings().into_iter().map(|found| found.0).collect();
    assert_eq!(found, ["BUNDLE-SEALED-MISSING"]);
    comes_back(&hq);
}

#[test]
fn what_a_bundle_says_of_its_manifest_and_its_revocations() {
    let (hq, mut vault) = issuing();
    let change: Change<'_> = &|bundle| {
        bundle.trust_version = 7;
        bundle.crl = Some(b"no list".to_vec());
    };
    let stick = vault.report_changed(&hq.path("one"), change);
    assert_eq!(hq.import_one(&stick).0, 1);
    let found: Vec<_> = hq.findings().into_iter().map(|found| found.0).collect();
    assert_eq!(found, ["TRUST-VERSION-MISMATCH", "CRL-INVALID"]);
    // It is said that a vault speaks of a manifest which never was, and nobody has to declare anything for that.
    let recovered = comes_back(&hq);
    assert_eq!(recovered["counts_as_restored"], false);
    let named = recovered["not_recovered"].as_array().unwrap();
    assert_eq!(
        (named.len(), &named[0]["code"]),
        (1, &json!("TRUST-FORGOTTEN"))
    );
    let why = named[0]["why"].as_str().unwrap();
    assert!(
        why.starts_with("bundle 1 of berlin/v1 says") && why.contains("word alone"),
        "{why}"
    );
    // Where nothing is left that says how far headquarters was, there is no telling; whose word it is, is said all the same.
    std::fs::remove_file(hq.path("home/record/reached")).unwrap();
    let run = hq.run(&["recover"]);
    let named = &run.json()["not_recovered"][0];
    assert_eq!((run.exit, &named["then"]), (1, &json!("declare")));
    assert!(
        named["why"]
            .as_str()
            .unwrap()
            .starts_with("bundle 1 of berlin/v1 says")
    );
}

#[test]
fn a_log_that_ends_before_its_decision() {
    let (hq, mut vault) = issuing();
    let at = vault.state.size();
    vault.write_request("TH-200", csr("A9", 9).der());
    let stick = vault.report(&hq.path("one"));
    assert_eq!(hq.import_one(&stick).0, 1);
    let missing = [("DECISION-MISSING", at)];
    assert_eq!(hq.findings(), critical(&missing));
    comes_back(&hq);
}
