//! The CRLs that come with bundles, honest ones and others, and the devices that are on them.

use mintmark_ledger::entry::{Body, CrlIssued, DeviceAction, Refused};
use serde_json::{Value, json};

use super::recovery::comes_back;
use super::support::{Hq, Vault, csr, key};

/// A headquarters, and a vault that has issued three of its five units, scrapped the first, and voided the second.
fn withdrawing() -> (Hq, Vault) {
    let hq = Hq::new();
    let mut vault = hq.vault("berlin");
    for unit in 0..3 {
        vault.issue("TH-200", &csr(&format!("A{unit}"), unit));
    }
    vault.order(DeviceAction::Scrap, "A0", "the casing is cracked");
    vault.order(DeviceAction::Void, "A1", "never assembled");
    (hq, vault)
}

/// Reports with this CRL, which headquarters finds nothing wrong with.
fn report_good(hq: &Hq, vault: &mut Vault, stick: &str, crl: &[u8]) {
    let stick = vault.report_changed(&hq.path(stick), &|bundle| bundle.crl = Some(crl.to_vec()));
    let imported = (0, "imported".to_owned(), None);
    assert_eq!(hq.import_one(&stick), imported, "{:?}", hq.reconcile().1);
}

/// Reports with this CRL; the one finding.
fn report_bad(hq: &Hq, vault: &mut Vault, crl: &[u8]) -> Value {
    let stick = vault.report_changed(&hq.path("bad"), &|bundle| bundle.crl = Some(crl.to_vec()));
    let imported = (1, "imported".to_owned(), Some("FINDINGS".to_owned()));
    assert_eq!(hq.import_one(&stick), imported);
    let (exit, report) = hq.reconcile();
    let findings = report["findings"].as_array().unwrap();
    assert_eq!((exit, findings.len()), (1, 1), "{findings:?}");
    findings[0].clone()
}

/// What `hq ca list` says of the device CA's CRL.
fn listed(hq: &Hq) -> Value {
    let listed = hq.run(&["ca", "list"]).json();
    let all = listed["certificates"].as_array().unwrap();
    let of_berlin = all
        .iter()
        .find(|row| row["name"] == "device-ca-berlin_v1")
        .unwrap();
    of_berlin.clone()
}

#[test]
fn the_crl_that_the_log_states_is_kept_and_the_next_one_takes_its_place() {
    let (hq, mut vault) = withdrawing();
    let stick = vault.report(&hq.path("without"));
    assert_eq!(hq.import_one(&stick).1, "imported");
    let row = listed(&hq);
    assert_eq!(row["crl"], Value::Null);
    let behind = row["crl_behind"].as_str().unwrap();
    assert!(behind.starts_with("2 of its certificates"), "{behind}");
    assert!(hq.run(&["ca", "list"]).stderr.contains("CRL-BEHIND"));

    let (crl, issued) = vault.crl(1, &vault.revoked(), None);
    vault.write(Body::Crl(issued));
    report_good(&hq, &mut vault, "one", &crl);
    let row = listed(&hq);
    assert_eq!(
        (&row["crl"]["number"], &row["crl"]["revoked"]),
        (&json!(1), &json!(2))
    );
    assert_eq!(
        (&row["crl_behind"], &row["crl"]["status"]),
        (&Value::Null, &json!("current"))
    );

    // What is taken back after a CRL was signed belongs on the next one.
    let (crl, issued) = vault.crl(2, &vault.revoked(), None);
    vault.write(Body::Crl(issued));
    vault.order(DeviceAction::Rework, "A2", "another board");
    vault.issue("TH-200", &csr("A2", 50));
    report_good(&hq, &mut vault, "two", &crl);
    let row = listed(&hq);
    assert_eq!(row["crl"]["number"], 2);
    assert!(row["crl_behind"].is_string(), "{row}");
    let (crl, issued) = vault.crl(3, &vault.revoked(), None);
    vault.write(Body::Crl(issued));
    report_good(&hq, &mut vault, "three", &crl);
    let row = listed(&hq);
    assert_eq!(
        (&row["crl"]["number"], &row["crl"]["revoked"]),
        (&json!(3), &json!(3))
    );
    assert_eq!(row["crl_behind"], Value::Null);
    assert_eq!(hq.reconcile().0, 0);
    comes_back(&hq);
}

#[test]
fn a_crl_without_a_scrapped_device_is_found_and_not_published() {
    let (hq, mut vault) = withdrawing();
    let (crl, issued) = vault.crl(1, &vault.revoked(), None);
    vault.write(Body::Crl(issued));
    report_good(&hq, &mut vault, "one", &crl);

    let all = vault.revoked();
    let left_out = hex::encode(&all[0].serial);
    let (crl, issued) = vault.crl(2, &all[1..], None);
    vault.write(Body::Crl(issued));
    let finding = report_bad(&hq, &mut vault, &crl);
    assert_eq!(
        (&finding["code"], &finding["severity"], &finding["serials"]),
        (
            &json!("SCRAP-UNREVOKED"),
            &json!("critical"),
            &json!([left_out])
        )
    );
    let text = finding["text"].as_str().unwrap();
    assert!(
        text.contains("1 left out") && text.contains(&left_out),
        "{text}"
    );
    // The one before, which names it, is what is published.
    let row = listed(&hq);
    assert_eq!(
        (&row["crl"]["number"], &row["crl"]["revoked"]),
        (&json!(1), &json!(2))
    );
    assert!(
        row["crl_behind"].as_str().unwrap().contains("CRL 2"),
        "{row}"
    );
    comes_back(&hq);
}

#[test]
fn a_crl_that_names_a_good_device_or_another_time_is_found() {
    for what in ["names", "time"] {
        let (hq, mut vault) = withdrawing();
        let mut entries = vault.revoked();
        let expected = match what {
            "names" => {
                let mut good = entries[0].clone();
                good.serial[3] ^= 1;
                entries.push(good);
                "1 named and never taken back"
            }
            _ => {
                entries[1].revoked_at_unix += 1;
                "1 of another time"
            }
        };
        let (crl, issued) = vault.crl(1, &entries, None);
        vault.write(Body::Crl(issued));
        let finding = report_bad(&hq, &mut vault, &crl);
        assert_eq!(finding["code"], "CRL-MISMATCH");
        assert_eq!(finding["serials"].as_array().unwrap().len(), 1);
        let text = finding["text"].as_str().unwrap();
        assert!(text.contains(expected), "{text}");
        comes_back(&hq);
    }
}

#[test]
fn a_crl_that_is_not_the_one_in_the_log_is_found() {
    type Change = fn(&mut CrlIssued);
    let changes: [Change; 3] = [
        |crl| crl.sha256 = mintmark_protocol::identifier::Fingerprint::of(b"another"),
        |crl| crl.next_update += 1,
        |crl| crl.this_update -= 1,
    ];
    for change in changes {
        let (hq, mut vault) = withdrawing();
        let (crl, mut issued) = vault.crl(1, &vault.revoked(), None);
        change(&mut issued);
        vault.write(Body::Crl(issued));
        let finding = report_bad(&hq, &mut vault, &crl);
        assert_eq!(finding["code"], "CRL-MISMATCH");
    }
    // Signed, and not in the log at all.
    let (hq, mut vault) = withdrawing();
    let (crl, _) = vault.crl(1, &vault.revoked(), None);
    let finding = report_bad(&hq, &mut vault, &crl);
    assert_eq!(finding["code"], "CRL-MISMATCH");
    assert!(
        finding["text"]
            .as_str()
            .unwrap()
            .contains("the log states none")
    );
    assert_eq!(listed(&hq)["crl"], Value::Null);
    comes_back(&hq);
}

#[test]
fn a_crl_by_another_key_is_none() {
    let (hq, mut vault) = withdrawing();
    let (crl, issued) = vault.crl(1, &vault.revoked(), Some(&key(900)));
    vault.write(Body::Crl(issued));
    let finding = report_bad(&hq, &mut vault, &crl);
    assert_eq!(finding["code"], "CRL-INVALID");
    assert!(
        finding["text"]
            .as_str()
            .unwrap()
            .contains("CRL-SIGNATURE-INVALID")
    );
    assert_eq!(listed(&hq)["crl"], Value::Null);
    comes_back(&hq);
}

#[test]
fn devices_that_are_no_longer_good_are_told_apart_with_when_and_why() {
    let (hq, mut vault) = withdrawing();
    let rework = vault.order(DeviceAction::Rework, "A2", "another board");
    let again = vault.issue("TH-200", &csr("A2", 50));
    let stick = vault.report(&hq.path("one"));
    assert_eq!(hq.import_one(&stick).1, "imported");
    assert!(rework < again);
    for (device, exit, status, reason) in [
        ("A0", 1, "scrapped", json!("the casing is cracked")),
        ("A1", 1, "voided", json!("never assembled")),
        ("A2", 0, "good", Value::Null),
    ] {
        let shown = hq.run(&["device", "show", device]);
        let json = shown.json();
        assert_eq!(
            (shown.exit, &json["status"]),
            (exit, &json!(status)),
            "{json}"
        );
        assert_eq!(json["reason"], reason);
        assert_eq!(json["ended_at"].is_null(), exit == 0);
    }
    let shown = hq.run(&["device", "show", "A2"]).json();
    let former = &shown["devices"][0];
    assert_eq!(
        (&former["status"], &former["reason"], &former["ended_by"]),
        (&json!("superseded"), &json!("another board"), &json!(again))
    );
    let by_serial = hq.run(&["device", "show", former["serial"].as_str().unwrap()]);
    assert_eq!(
        (by_serial.exit, &by_serial.json()["status"]),
        (1, &json!("superseded"))
    );
    let words = hq.run_plain(&["device", "show", "A0"]).stdout;
    assert!(words.contains("status       scrapped since "), "{words}");
    assert!(words.contains(": the casing is cracked"), "{words}");
    comes_back(&hq);
}

#[test]
fn a_certificate_for_a_device_that_was_scrapped_or_voided_is_found_and_names_the_rule() {
    for (device, rule) in [("A0", "DEVICE-SCRAPPED"), ("A1", "DEVICE-VOIDED")] {
        let (hq, mut vault) = withdrawing();
        let fresh = hq.vault("berlin");
        let request = csr(device, 77);
        let at = vault.forge("TH-200", &request, fresh.reserved("TH-200", &request, 3));
        let stick = vault.report(&hq.path("one"));
        assert_eq!(hq.import_one(&stick).0, 1);
        let breach = (
            "DEVICE-RETURNED".to_owned(),
            "critical".to_owned(),
            Some(at),
        );
        assert_eq!(hq.findings(), [breach]);
        let (_, report) = hq.reconcile();
        let text = report["findings"][0]["text"].as_str().unwrap();
        assert!(text.contains(rule), "{text}");
        comes_back(&hq);
    }
}

#[test]
fn an_order_that_a_vault_refuses_to_carry_out_is_found() {
    let hq = Hq::new();
    let mut vault = hq.vault("berlin");
    vault.issue("TH-200", &csr("A0", 0));
    let at = vault.order(DeviceAction::Scrap, "A0", "the casing is cracked");
    vault.unwrite();
    vault.write(Body::Refused(Refused {
        code: "DEVICE-UNKNOWN".to_owned(),
        entitlement: None,
    }));
    let stick = vault.report(&hq.path("one"));
    assert_eq!(hq.import_one(&stick).0, 1);
    let found = (
        "WRONGLY-REFUSED".to_owned(),
        "critical".to_owned(),
        Some(at),
    );
    assert_eq!(hq.findings(), [found]);
    let shown = hq.run(&["device", "show", "A0"]).json();
    assert_eq!(
        (&shown["status"], &shown["reason"]),
        (&json!("good"), &Value::Null)
    );
    comes_back(&hq);
}

/// What `hq reconcile` finds so many days later; the finding about a CRL that should have come, if it is the only one.
fn overdue(hq: &Hq, days: i64) -> Option<Value> {
    let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_hq"));
    command.arg("--json").arg("--home").arg(hq.path("home"));
    mintmark_tests::clock::set(&mut command, days * mintmark_tests::clock::DAY);
    let output = command.arg("reconcile").output().unwrap();
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    let mut findings = report["findings"].as_array().unwrap().clone();
    findings.retain(|finding| finding["code"] != "SITE-SILENT");
    assert!(findings.len() <= 1, "{findings:?}");
    findings.pop()
}

#[test]
fn a_vault_that_scraps_and_brings_no_crl_is_found_and_one_that_brings_it_is_not() {
    // Of each, the log states a CRL, or none.
    for stated in [false, true] {
        let (hq, mut vault) = withdrawing();
        let (crl, issued) = vault.crl(1, &vault.revoked(), None);
        if stated {
            vault.write(Body::Crl(issued));
        }
        let report = |vault: &mut Vault, name: &str| {
            let stick = vault.report(&hq.path(name));
            assert_eq!(hq.import_one(&stick).1, "imported");
        };
        report(&mut vault, "one");
        vault.issue("TH-200", &csr("A3", 3));
        report(&mut vault, "two");
        // One bundle without it may be what an interruption left.
        assert_eq!(overdue(&hq, 20), None);
        vault.issue("TH-200", &csr("A4", 4));
        report(&mut vault, "three");
        // It may be on its way yet.
        assert_eq!(overdue(&hq, 10), None);
        let finding = overdue(&hq, 20).unwrap();
        assert_eq!(
            (&finding["code"], &finding["severity"], &finding["vault"]),
            (&json!("CRL-OVERDUE"), &json!("minor"), &json!("v1"))
        );
        let evidence = &finding["evidence"];
        assert_eq!(evidence["devices"], json!(["A0", "A1"]));
        assert_eq!(
            (
                &evidence["left_out"],
                &evidence["bundles"],
                &evidence["days_max"]
            ),
            (&json!(2), &json!(2), &json!(14))
        );
        // It comes after all.
        if !stated {
            vault.write(Body::Crl(issued));
        }
        report_good(&hq, &mut vault, "brought", &crl);
        assert_eq!(overdue(&hq, 20), None);
    }
    // An honest log of the same shape.
    let (hq, mut vault) = withdrawing();
    let (crl, issued) = vault.crl(1, &vault.revoked(), None);
    vault.write(Body::Crl(issued));
    report_good(&hq, &mut vault, "one", &crl);
    for (unit, name) in [(3, "two"), (4, "three")] {
        vault.issue("TH-200", &csr(&format!("A{unit}"), unit));
        report_good(&hq, &mut vault, name, &crl);
    }
    assert_eq!(overdue(&hq, 20), None);
    // Nor is it in a registry of the version before, which did not note what came.
    let sql = rusqlite::Connection::open(hq.path("home/registry.sqlite")).unwrap();
    let back = "DROP TABLE crls_held; PRAGMA user_version = 9";
    sql.execute_batch(back).unwrap();
    drop(sql);
    assert_eq!(overdue(&hq, 20), None);
    comes_back(&hq);
}
