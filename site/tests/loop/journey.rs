//! What an operator does, from an empty folder to an acknowledged report.

use std::fs;

use mintmark_protocol::media::MediaName;
use serde_json::json;

use crate::outcome;
use crate::support::hq::put;
use crate::support::{Hq, Vault};

#[test]
fn a_vault_is_enrolled_issues_reports_and_is_acknowledged() {
    let (vault, mut hq) = (Vault::new(), Hq::new(1));
    let init = vault.init(&hq).expect(0).json();
    assert_eq!(init["schema"], "mintmark/init/1");
    assert_eq!(
        (&init["site"], &init["vault"]),
        (&json!("berlin"), &json!("v1"))
    );
    let fingerprint = init["enrolment_fingerprint"].as_str().unwrap().to_owned();
    assert_eq!(vault.status()["enrolment_fingerprint"], json!(fingerprint));
    assert_eq!(vault.status()["enrolled"], json!(false));

    // Before the grant: the request, again and again, and nothing else.
    for expected in ["exported", "already"] {
        let export = vault.export().expect(0);
        assert_eq!(export.outcomes(), [outcome(expected, None)]);
        assert_eq!(export.json()["items"][0]["file"], "enrol-berlin_v1.cose");
    }

    hq.carry_trust(&vault.stick());
    let (name, grant) = hq.grant(&vault.stick(), &vault.name, &fingerprint);
    put(&vault.stick(), &name, &grant);
    let terms = hq.terms("th200", 1, 3);
    let (name, entitlement) = hq.mint(&terms, 2);
    put(&vault.stick(), &name, &entitlement);
    let import = vault.import().expect(0);
    let expected = [("already", None), ("imported", None), ("imported", None)];
    assert_eq!(import.outcomes(), expected.map(|(o, c)| outcome(o, c)));
    let types: Vec<_> = import.json()["items"]
        .as_array()
        .unwrap()
        .iter()
        .map(|i| i["type"].clone())
        .collect();
    assert_eq!(types, ["trust-manifest", "enrolment-grant", "entitlement"]);
    let before = vault.status();
    let again = vault.import().expect(0);
    assert_eq!(again.outcomes(), [(); 3].map(|()| outcome("already", None)));
    assert_eq!(vault.status(), before, "importing twice changed something");
    assert_eq!(before["accounts"][0]["authorised"], 3);

    // Four ask, three units are there, and one file is no request.
    for (number, device) in [(11, "A1"), (12, "A2"), (13, "A3"), (14, "A4")] {
        vault.request(&format!("{device}.csr"), device, number);
    }
    fs::write(vault.path("csr/junk.csr"), "junk").unwrap();
    let issue = vault.issue().expect(1);
    let rows = issue.lines();
    let outcomes: Vec<_> = rows
        .iter()
        .map(|row| row["outcome"].as_str().unwrap())
        .collect();
    assert_eq!(
        outcomes,
        ["issued", "issued", "issued", "refused", "refused"]
    );
    assert_eq!(
        (&rows[3]["code"], &rows[4]["code"]),
        (&json!("QUOTA-EXHAUSTED"), &json!("CSR-NOT-A-REQUEST"))
    );
    let slots: Vec<_> = rows[..3]
        .iter()
        .map(|row| row["slot"].as_u64().unwrap())
        .collect();
    assert_eq!(slots, [0, 1, 2]);
    assert_eq!(rows[0]["device_id"], "A1");
    assert_eq!(rows[0]["entitlement"], "th200");
    let certificates = vault.certificates();
    assert_eq!(certificates.len(), 3);

    // Asking again is free, and gives the same.
    let again = vault.issue().expect(1);
    let outcomes: Vec<_> = again
        .lines()
        .iter()
        .map(|row| row["outcome"].clone())
        .collect();
    assert_eq!(
        outcomes,
        ["existing", "existing", "existing", "refused", "refused"]
    );
    assert_eq!(again.lines()[0]["serial"], rows[0]["serial"]);
    assert_eq!(vault.certificates(), certificates);
    let account = vault.status()["accounts"][0].clone();
    assert_eq!(
        (&account["good"], &account["unspent"]),
        (&json!(3), &json!(0))
    );

    let device = vault.run(&["device", "show", "A2"]).expect(0).json();
    assert_eq!(
        (&device["serial"], &device["status"]),
        (&rows[1]["serial"], &json!("good"))
    );
    assert_eq!(device["certificate"].as_str().unwrap(), certificates[1].1);
    let by_serial = vault
        .run(&["device", "show", rows[1]["serial"].as_str().unwrap()])
        .expect(0)
        .json();
    assert_eq!(by_serial["device_id"], "A2");
    vault.run(&["device", "show", "A9"]).expect(1);

    // The report: HQ reads the very records of the log.
    let export = vault.export().expect(0);
    let types: Vec<_> = export.json()["items"]
        .as_array()
        .unwrap()
        .iter()
        .map(|i| i["type"].clone())
        .collect();
    assert_eq!(types, ["audit-segment", "audit-bundle"]);
    let file = export.json()["items"][1]["file"]
        .as_str()
        .unwrap()
        .to_owned();
    let name = MediaName::parse(&file).unwrap();
    let (bundle, records) = hq.receive(&vault.stick(), &name);
    assert_eq!(bundle.content().checkpoint.size, records.len() as u64);
    let again = vault.export().expect(0);
    assert_eq!(
        again.outcomes(),
        [(); 2].map(|()| outcome("already", None)),
        "nothing new was sealed"
    );

    let (name, acknowledgement) = hq.acknowledge(&bundle);
    put(&vault.stick(), &name, &acknowledgement);
    vault.import().expect(0);
    let status = vault.status();
    assert_eq!(status["bundle"], json!({"sequence": 1, "acknowledged": 1}));
    // Every unit is spent, so there is none to make on credit.
    assert_eq!(status["credit_units"], 0);
    assert_eq!(status["credit"], json!([]));
    let next = status["next"].as_str().unwrap();
    assert!(next.starts_with("every unit is spent"), "{next}");
    assert_eq!(status["credit_until"], json!(null));
    let idle = vault.export().expect(0);
    assert_eq!(
        idle.outcomes(),
        [],
        "an acknowledgement is no reason for a bundle"
    );

    assert_eq!(
        vault.run(&["audit", "verify"]).expect(0).json()["verified"],
        json!(true)
    );
    let list = vault.run(&["audit", "list"]).expect(0).json();
    assert_eq!(list["bundles"][0]["acknowledged"], json!(true));
    vault.run(&["audit", "show", "1"]).expect(0);
    let log = vault.run(&["audit", "log"]).expect(0).lines();
    let refused: Vec<_> = log
        .iter()
        .filter(|row| row["code"] == "QUOTA-EXHAUSTED")
        .map(|row| {
            (
                row["kind"].clone(),
                row["outcome"].clone(),
                row["device_id"].clone(),
            )
        })
        .collect();
    assert_eq!(
        refused,
        [(); 2].map(|()| (json!("request"), json!("refused"), json!("A4")))
    );
    let issued = log
        .iter()
        .filter(|row| row["kind"] == "request" && row["outcome"] == "issued");
    assert_eq!(issued.count(), 3);

    vault.run(&["entitlement", "list"]).expect(0);
    let show = vault
        .run(&["entitlement", "show", "th200"])
        .expect(0)
        .json();
    assert_eq!(
        (&show["state"], &show["version"]),
        (&json!("spent"), &json!(1))
    );
    let doctor = vault.run(&["doctor"]).expect(0).json();
    let checks = doctor["checks"].as_array().unwrap();
    assert!(
        checks.iter().all(|check| check["outcome"] != "bad"),
        "{doctor}"
    );
    assert_eq!(
        vault.run(&["recover", "--rebuild"]).expect(0).json()["unresolved"],
        0
    );
    vault.issue().expect(1);
    assert_eq!(vault.certificates(), certificates);
}

#[test]
fn openssl_verifies_what_was_issued_against_the_chain_file() {
    let (vault, mut hq) = (Vault::new(), Hq::new(1));
    vault.enrol(&mut hq, 1);
    vault.request("device.csr", "A1", 11);
    vault.issue().expect(0);
    let root = mintmark_pki::to_pem("CERTIFICATE", &hq.newest().root_certificate);
    fs::write(vault.path("root.pem"), root).unwrap();
    let chain = vault.path("out/device.chain.pem");
    let verified = std::process::Command::new("openssl")
        .args(["verify", "-x509_strict", "-CAfile"])
        .arg(vault.path("root.pem"))
        .arg("-untrusted")
        .arg(&chain)
        .arg(vault.path("out/device.pem"))
        .output()
        .unwrap();
    assert!(verified.status.success(), "{verified:?}");
    assert_eq!(
        fs::read_to_string(chain)
            .unwrap()
            .matches("BEGIN CERTIFICATE")
            .count(),
        2
    );
}

#[test]
fn a_home_is_not_made_from_another_manifest_than_the_one_that_was_compared() {
    let (vault, hq) = (Vault::new(), Hq::new(1));
    fs::write(vault.path("trust.cose"), &hq.manifests[0].1).unwrap();
    let wrong = vault.init_with(&"00".repeat(32)).expect(1);
    assert_eq!(wrong.errors(), ["FINGERPRINT-MISMATCH"]);
    assert_eq!(vault.init_with("beef").expect(2).errors(), ["USAGE"]);
    let mut tampered = hq.manifests[0].1.clone();
    *tampered.last_mut().unwrap() ^= 1;
    fs::write(vault.path("trust.cose"), tampered).unwrap();
    let fingerprint = hq.manifests[0].2.to_string();
    assert_eq!(
        vault.init_with(&fingerprint).expect(1).errors(),
        ["SIGNATURE-INVALID"]
    );
    assert!(!vault.home().exists());
    vault.init(&hq).expect(0);
    assert_eq!(vault.init(&hq).expect(3).errors(), ["HOME-EXISTS"]);
}

#[test]
fn a_dry_run_says_the_same_and_changes_nothing() {
    let (vault, mut hq) = (Vault::new(), Hq::new(1));
    let init = vault.init(&hq).expect(0).json();
    vault.export().expect(0);
    let fingerprint = init["enrolment_fingerprint"].as_str().unwrap();
    let (name, grant) = hq.grant(&vault.stick(), &vault.name, fingerprint);
    put(&vault.stick(), &name, &grant);
    let terms = hq.terms("th200", 1, 1);
    let (name, entitlement) = hq.mint(&terms, 2);
    put(&vault.stick(), &name, &entitlement);
    let before = vault.status();
    let stick = vault.stick();
    let import = ["media", "import", stick.to_str().unwrap(), "--dry-run"];
    let rehearsed = vault.run(&import).expect(0);
    assert_eq!(
        rehearsed.outcomes(),
        [(); 2].map(|()| outcome("imported", None))
    );
    assert_eq!(vault.status(), before);
    assert_eq!(
        fs::read_dir(vault.home().join("received")).unwrap().count(),
        0
    );
    vault.import().expect(0);

    vault.request("a.csr", "A1", 11);
    vault.request("b.csr", "A2", 12);
    let before = vault.status();
    let mut arguments = vault.issue_arguments();
    arguments.push("--dry-run".to_owned());
    let issue = vault
        .run(&arguments.iter().map(String::as_str).collect::<Vec<_>>())
        .expect(1);
    let outcomes: Vec<_> = issue
        .lines()
        .iter()
        .map(|row| row["outcome"].clone())
        .collect();
    assert_eq!(outcomes, ["issued", "refused"]);
    let export = vault
        .run(&["media", "export", stick.to_str().unwrap(), "--dry-run"])
        .expect(0);
    assert_eq!(export.outcomes(), [outcome("planned", None)]);
    assert_eq!(vault.status(), before);
    assert!(!vault.path("out").exists());
}
