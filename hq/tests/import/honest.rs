//! Honest vaults: everything balances, nothing is found.

use serde_json::{Value, json};

use super::recovery::comes_back;
use super::support::{Hq, csr};

#[test]
fn an_honest_report_balances_and_shows_nothing() {
    let hq = Hq::new();
    let mut vault = hq.vault("berlin");
    for unit in 0..3 {
        vault.issue("TH-200", &csr(&format!("A{unit}"), unit));
    }
    assert!(matches!(
        vault.ask("TH-200", &csr("A0", 0)),
        mintmark_ledger::entry::Body::Existing { .. }
    ));
    let first = vault.report(&hq.path("one"));
    assert_eq!(hq.import_one(&first), (0, "imported".to_owned(), None));

    // Acknowledged, spent to the end, refused beyond it, and reported again.
    hq.export();
    vault.import(&hq.path("stick/mintmark"));
    assert_eq!(vault.state.units_unreported(), 0);
    for unit in 3..5 {
        vault.issue("TH-200", &csr(&format!("A{unit}"), unit));
    }
    assert_eq!(
        vault.ask("TH-200", &csr("A9", 9)).code(),
        Some("QUOTA-EXHAUSTED")
    );
    vault.issue("GW-1", &csr("B0", 100));
    let second = vault.report(&hq.path("two"));
    assert_eq!(hq.import_one(&second), (0, "imported".to_owned(), None));

    let (exit, report) = hq.reconcile();
    assert_eq!(
        (exit, &report["balanced"], &report["findings"]),
        (0, &json!(true), &json!([]))
    );
    let of_berlin: Vec<&Value> = report["accounts"]
        .as_array()
        .unwrap()
        .iter()
        .filter(|account| account["site"] == "berlin")
        .collect();
    let counts = |account: &Value| {
        [
            "authorised",
            "good",
            "scrapped",
            "voided",
            "unresolved",
            "unspent",
        ]
        .map(|name| account[name].as_u64().unwrap())
    };
    let counted: Vec<_> = of_berlin
        .iter()
        .map(|account| (account["product"].as_str().unwrap(), counts(account)))
        .collect();
    let expected = [
        ("GW-1", [10, 1, 0, 0, 0, 9]),
        ("TH-200", [5, 5, 0, 0, 0, 0]),
    ];
    let mut counted = counted;
    counted.sort_unstable();
    assert_eq!(counted, expected);
    assert!(report["as_of"].is_string());
    comes_back(&hq);
}

#[test]
fn importing_twice_changes_nothing() {
    let hq = Hq::new();
    let mut vault = hq.vault("berlin");
    vault.issue("TH-200", &csr("A0", 0));
    let stick = vault.report(&hq.path("one"));
    assert_eq!(hq.import_one(&stick).1, "imported");
    let before = hq.reconcile();
    assert_eq!(hq.import_one(&stick), (0, "already".to_owned(), None));
    assert_eq!(hq.reconcile(), before);
    comes_back(&hq);
}

#[test]
fn a_dry_run_follows_the_chain_and_changes_nothing() {
    let hq = Hq::new();
    let mut vault = hq.vault("berlin");
    vault.issue("TH-200", &csr("A0", 0));
    let stick = vault.report(&hq.path("one"));
    vault.issue("TH-200", &csr("A1", 1));
    vault.report(&stick);
    let before = hq.reconcile();
    let run = hq.run(&["media", "import", stick.to_str().unwrap(), "--dry-run"]);
    let json = run.json();
    let outcomes: Vec<_> = json["items"]
        .as_array()
        .unwrap()
        .iter()
        .map(|i| i["outcome"].as_str().unwrap())
        .collect();
    assert_eq!((run.exit, outcomes), (0, vec!["imported", "imported"]));
    assert_eq!(hq.reconcile(), before);
    let (exit, items) = hq.import(&stick);
    assert_eq!((exit, items.len()), (0, 2));
    comes_back(&hq);
}

#[test]
fn a_report_in_many_segments_is_the_same_report() {
    let hq = Hq::new();
    let mut vault = hq.vault("berlin");
    for unit in 0..10 {
        vault.issue("GW-1", &csr(&format!("B{unit}"), unit));
    }
    let stick = hq.path("one");
    vault.write_bundle(&stick, &|_| {}, 7);
    assert_eq!(hq.import_one(&stick), (0, "imported".to_owned(), None));
    assert_eq!(hq.reconcile().0, 0);
    let list = hq.run(&["audit", "list"]).json();
    assert_eq!(list["bundles"][0]["records"], vault.records.len() as u64);
    assert_eq!(
        list["bundles"][0]["log_root"],
        vault.state.root().to_string()
    );
    comes_back(&hq);
}

#[test]
fn an_unresolved_unit_counts_as_spent_and_is_shown() {
    let hq = Hq::new();
    let mut vault = hq.vault("berlin");
    vault.issue("TH-200", &csr("A0", 0));
    vault.ask("TH-200", &csr("A1", 1));
    let reservation = vault.state.size() - 1;
    let stick = vault.report(&hq.path("one"));
    assert_eq!(hq.import_one(&stick), (0, "imported".to_owned(), None));
    let (exit, report) = hq.reconcile();
    assert_eq!((exit, &report["balanced"]), (1, &json!(true)));
    let codes = hq.findings();
    assert_eq!(
        codes,
        [(
            "UNRESOLVED".to_owned(),
            "minor".to_owned(),
            Some(reservation)
        )]
    );
    let shown = hq.run(&["device", "show", "A1"]).json();
    assert_eq!(shown["status"], "unresolved");

    // Signed later, it is a good unit like any other.
    let tbs = vault
        .state
        .reservations()
        .values()
        .next()
        .unwrap()
        .tbs
        .clone();
    vault.sign(reservation, &tbs);
    let stick = vault.report(&hq.path("two"));
    assert_eq!(hq.import_one(&stick), (0, "imported".to_owned(), None));
    assert_eq!(hq.reconcile().0, 0);
    assert_eq!(hq.run(&["device", "show", "A1"]).json()["status"], "good");
    comes_back(&hq);
}

#[test]
fn a_device_is_traced_by_id_by_serial_and_by_certificate() {
    let hq = Hq::new();
    let mut vault = hq.vault("berlin");
    let request = csr("A0", 0);
    let reserved = vault.reserved("TH-200", &request, 0);
    vault.issue("TH-200", &request);
    let stick = vault.report(&hq.path("one"));
    let file = hq.path("device.pem");
    let certificate = vault.certificate(&reserved.tbs);
    std::fs::write(&file, mintmark_pki::to_pem("CERTIFICATE", &certificate)).unwrap();
    let file = file.to_str().unwrap();

    // Before the report arrives, the chain alone says nothing of the quota.
    let run = hq.run(&["device", "show", file]);
    assert_eq!((run.exit, run.error_code().as_str()), (1, "DEVICE-UNKNOWN"));
    assert!(
        run.stderr.contains("chain valid, accounting unknown"),
        "{}",
        run.stderr
    );

    assert_eq!(hq.import_one(&stick), (0, "imported".to_owned(), None));
    assert_eq!(hq.findings(), []);
    let by_id = hq.run(&["device", "show", "A0"]);
    assert_eq!(by_id.exit, 0, "{}", by_id.stderr);
    let by_id = by_id.json();
    let serial = hex::encode(mintmark_ledger::serial::serial_of(&reserved.tbs).unwrap());
    assert_eq!(by_id["serial"], serial);
    assert_eq!(by_id["slot"], 0);
    assert_eq!(by_id["entitlement"], "demo-1");
    assert_eq!(by_id["approvers"], json!(["alice"]));
    assert_eq!(by_id["status"], "good");
    assert_eq!(by_id["findings"], json!([]));
    let by_serial = hq.run(&["device", "show", &serial]).json();
    assert_eq!(by_serial["device_id"], "A0");
    let by_certificate = hq.run(&["device", "show", file]).json();
    assert_eq!(by_certificate["serial"], serial);
    assert_eq!(by_certificate["chain"], "valid");

    let run = hq.run(&["device", "show", "Z99"]);
    assert_eq!((run.exit, run.error_code().as_str()), (1, "DEVICE-UNKNOWN"));
    comes_back(&hq);
}

#[test]
fn a_certificate_of_another_ca_was_not_issued_by_us() {
    let hq = Hq::new();
    let ca = hq.path("ca");
    assert_eq!(
        hq.run(&["ca", "export", "--output", ca.to_str().unwrap()])
            .exit,
        0
    );
    // The root itself is no device certificate.
    let run = hq.run(&["device", "show", ca.join("root.pem").to_str().unwrap()]);
    assert_eq!((run.exit, run.error_code().as_str()), (1, "DEVICE-UNKNOWN"));
    assert!(run.stderr.contains("not issued by us"), "{}", run.stderr);
    comes_back(&hq);
}

#[test]
fn openssl_verifies_a_device_with_what_ca_export_writes() {
    let hq = Hq::new();
    let mut vault = hq.vault("berlin");
    let request = csr("A0", 0);
    let reserved = vault.reserved("TH-200", &request, 0);
    vault.issue("TH-200", &request);
    let (ca, device) = (hq.path("ca"), hq.path("device.pem"));
    assert_eq!(
        hq.run(&["ca", "export", "--output", ca.to_str().unwrap()])
            .exit,
        0
    );
    // Again over what is there: the same files.
    assert_eq!(
        hq.run(&["ca", "export", "--output", ca.to_str().unwrap()])
            .exit,
        0
    );
    let certificate = vault.certificate(&reserved.tbs);
    std::fs::write(&device, mintmark_pki::to_pem("CERTIFICATE", &certificate)).unwrap();
    let openssl = |arguments: &[&str]| {
        let output = std::process::Command::new("openssl")
            .args(arguments)
            .output()
            .unwrap();
        let text = String::from_utf8_lossy(&output.stderr).into_owned();
        (output.status.success(), text)
    };
    let at = |name: &str| ca.join(name).to_str().unwrap().to_owned();
    let verified = openssl(&[
        "verify",
        "-CAfile",
        &at("root.pem"),
        "-untrusted",
        &at("device-ca-berlin_v1.pem"),
        device.to_str().unwrap(),
    ]);
    assert!(verified.0, "{}", verified.1);
    let chain = openssl(&[
        "verify",
        "-CAfile",
        &at("chain-berlin_v1.pem"),
        device.to_str().unwrap(),
    ]);
    assert!(chain.0, "{}", chain.1);
    let identity = openssl(&[
        "verify",
        "-CAfile",
        &at("root.pem"),
        &at("identity-berlin_v1.pem"),
    ]);
    assert!(identity.0, "{}", identity.1);
    let crl = openssl(&[
        "crl",
        "-in",
        &at("crl-root.pem"),
        "-CAfile",
        &at("root.pem"),
        "-noout",
    ]);
    assert!(crl.0 && crl.1.contains("verify OK"), "{}", crl.1);
    comes_back(&hq);
}

#[test]
fn the_audit_log_has_one_row_for_a_request_with_what_came_of_it() {
    let hq = Hq::new();
    let mut vault = hq.vault("berlin");
    for unit in 0..5 {
        vault.issue("TH-200", &csr(&format!("A{unit}"), unit));
    }
    vault.ask("TH-200", &csr("A9", 9));
    vault.ask("TH-200", &csr("A0", 0));
    let stick = vault.report(&hq.path("one"));
    assert_eq!(hq.import_one(&stick).0, 0);
    let run = hq.run(&["audit", "log", "--site", "berlin"]);
    assert_eq!(run.exit, 0, "{}", run.stderr);
    let rows: Vec<Value> = run
        .stdout
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    assert!(rows.iter().all(|row| row["schema"] == "mintmark/audit/1"));
    assert_eq!(rows[0]["kind"], "genesis");
    let outcomes: Vec<_> = rows
        .iter()
        .filter(|row| row["kind"] == "request")
        .map(|row| (row["outcome"].as_str().unwrap(), row["code"].as_str()))
        .collect();
    let issued = std::iter::repeat_n(("issued", None), 5);
    let rest = [("refused", Some("QUOTA-EXHAUSTED")), ("existing", None)];
    assert_eq!(outcomes, issued.chain(rest).collect::<Vec<_>>());
    // The repeated answer names the serial of the first one.
    let of_a0: Vec<_> = rows
        .iter()
        .filter(|row| row["device_id"] == "A0")
        .map(|row| &row["serial"])
        .collect();
    assert_eq!(of_a0.len(), 3);
    assert!(
        of_a0
            .iter()
            .all(|serial| *serial == of_a0[0] && serial.is_string())
    );

    let from = rows[4]["sequence"].as_u64().unwrap();
    let run = hq.run(&[
        "audit",
        "log",
        "--site",
        "berlin",
        "--from",
        &from.to_string(),
    ]);
    assert_eq!(run.stdout.lines().count(), rows.len() - 4);
    comes_back(&hq);
}

#[test]
fn a_vault_that_calls_what_hq_sent_unauthentic_is_accused_and_its_rule_noted() {
    let hq = Hq::new();
    let stick = hq.path("stick/mintmark");
    let mut vault = super::support::Vault::new("berlin", &stick);
    vault.import_at_most(&stick, 1);
    let at = vault.state.size() + 1;
    vault.refuse_next(&stick, "THRESHOLD-NOT-MET");
    let stick = vault.report(&hq.path("one"));
    assert_eq!(hq.import_one(&stick).0, 1);
    let accused = ("FACT-FALSE".to_owned(), "critical".to_owned(), Some(at - 1));
    let note = ("DISPATCH-REFUSED".to_owned(), "note".to_owned(), Some(at));
    assert_eq!(hq.findings(), [accused, note]);
    let (exit, report) = hq.reconcile();
    assert_eq!((exit, &report["balanced"]), (1, &json!(true)));
    assert_eq!(
        report["findings"][1]["evidence"]["rule"],
        "THRESHOLD-NOT-MET"
    );
    // What is not in force there authorises nothing.
    let granted = |site: &str| {
        let accounts = report["accounts"].as_array().unwrap().iter();
        accounts.filter(|account| account["site"] == site).count()
    };
    assert_eq!((granted("berlin"), granted("lyon")), (0, 2), "{report}");
    comes_back(&hq);
}
