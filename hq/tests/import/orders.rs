//! What officers ended at a vault, as its log tells it.

use mintmark_ledger::entry::{Body, Content};
use mintmark_protocol::order::Order as _;
use mintmark_protocol::revocation::Revocation;
use serde_json::Value;

use crate::support::{Hq, Vault, csr};

/// Has the revocation of `berlin/v1`'s entitlement drafted, approved and exported.
fn revoke(hq: &Hq) {
    let draft = hq.path("revoke.cose");
    let output = draft.to_str().unwrap();
    let revoke = ["entitlement", "revoke", "demo-1", "--site", "berlin"];
    let rest = ["--reason", "the line was sold", "--output", output];
    let run = hq.run(&[&revoke[..], &rest].concat());
    assert_eq!(run.exit, 0, "{}", run.stderr);
    let id = run.json()["id"].as_str().unwrap().to_owned();
    let approval = hq.sign("alice", &draft);
    let run = hq.run(&["approval", "import", approval.to_str().unwrap()]);
    assert_eq!(run.exit, 0, "{}", run.stderr);
    let run = hq.run(&["entitlement", "export", &id]);
    assert_eq!(run.exit, 0, "{}", run.stderr);
    hq.export();
}

fn issuing() -> (Hq, Vault) {
    let hq = Hq::new();
    let mut vault = hq.vault("berlin");
    vault.issue("TH-200", &csr("TH200-1", 1));
    revoke(&hq);
    (hq, vault)
}

fn row(hq: &Hq) -> Value {
    let shown = hq.run(&["entitlement", "show", "demo-1"]).json();
    let rows = shown["entitlements"].as_array().unwrap();
    let berlin = rows.iter().find(|row| row["site"] == "berlin");
    berlin.unwrap().clone()
}

#[test]
fn a_revocation_that_was_followed_brings_the_final_count() {
    let (hq, mut vault) = issuing();
    assert_eq!(row(&hq)["state"], "revoking");
    vault.import(&hq.path("stick/mintmark"));
    let refused = vault.decision("TH-200", &csr("TH200-2", 2));
    assert_eq!(refused.code(), Some("ENTITLEMENT-REVOKED"));
    let stick = vault.report(&hq.path("report"));
    assert_eq!(hq.import_one(&stick).0, 0);
    let row = row(&hq);
    assert_eq!(row["state"], "revoked", "{row}");
    let waits_for = row["waits_for"].as_str().unwrap();
    assert!(waits_for.contains("1 of 5 TH-200, 0 of 10 GW-1"), "{row}");
    let (exit, report) = hq.reconcile();
    assert_eq!((exit, &report["balanced"]), (0, &Value::from(true)));
    // The equation holds, and what is left in it is left for good.
    for account in report["accounts"].as_array().unwrap() {
        let revoked = (account["site"] == "berlin").then(|| Value::from(true));
        assert_eq!(account.get("revoked"), revoked.as_ref(), "{account}");
    }
    let table = hq.run_plain(&["reconcile"]).stdout;
    let words = "berlin/v1: 4 unspent units of TH-200 in demo-1 cannot be spent";
    assert!(table.contains(words), "{table}");
    assert!(!table.contains("lyon/v1: "), "{table}");
}

#[test]
fn a_revocation_that_a_vault_says_was_never_authentic_is_judged_again() {
    let (hq, mut vault) = issuing();
    vault.refuse_next(&hq.path("stick/mintmark"), "SIGNATURE-INVALID");
    let stick = vault.report(&hq.path("report"));
    assert_eq!(hq.import_one(&stick).0, 1);
    let found = hq.findings();
    let codes: Vec<_> = found.iter().map(|(code, ..)| code.as_str()).collect();
    assert!(codes.contains(&"FACT-FALSE"), "{codes:?}");
}

#[test]
fn another_revocation_than_officers_approved_is_found_out() {
    let (hq, mut vault) = issuing();
    let at = vault.import_changed(&hq.path("stick/mintmark"), &|content| {
        if let Content::Revocation { plaintext, .. } = content {
            let mut revocation = Revocation::from_cbor(plaintext).unwrap();
            revocation.reason = "nobody said so".to_owned();
            *plaintext = revocation.to_cbor();
            return true;
        }
        false
    });
    let stick = vault.report(&hq.path("report"));
    assert_eq!(hq.import_one(&stick).0, 1);
    let expected = ("DISPATCH-CONTENT".to_owned(), "critical".to_owned(), at);
    assert!(hq.findings().contains(&expected), "{:?}", hq.findings());
}

#[test]
fn whoever_makes_devices_of_what_is_revoked_is_found_out() {
    let (hq, mut vault) = issuing();
    // It decides before the revocation, and writes that down after it.
    let Body::Reserved(reserved) = vault.decision("TH-200", &csr("TH200-2", 2)) else {
        panic!("not reserved");
    };
    vault.import(&hq.path("stick/mintmark"));
    vault.forge("TH-200", &csr("TH200-2", 2), reserved);
    let stick = vault.report(&hq.path("report"));
    assert_eq!(hq.import_one(&stick).0, 1);
    let grave = |(_, severity, _): &(String, String, Option<u64>)| severity == "critical";
    assert!(hq.findings().iter().any(grave), "{:?}", hq.findings());
}
