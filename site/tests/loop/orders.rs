//! What officers end or correct at a vault.

use mintmark_protocol::media::MediaName;
use mintmark_protocol::revocation::Target;
use serde_json::{Value, json};

use crate::keys::with_key;
use crate::support::hq::Way;
use crate::support::{Hq, Vault, now};

const YEAR: i64 = 365 * 86_400;

fn entitlement(vault: &Vault) -> Value {
    vault.run(&["entitlement", "list"]).expect(0).json()["entitlements"][0].clone()
}

/// Exports, and gives the newest bundle's name.
fn exported(vault: &Vault) -> MediaName {
    let export = vault.export().expect(0).json();
    let items = export["items"].as_array().unwrap();
    MediaName::parse(items.last().unwrap()["file"].as_str().unwrap()).unwrap()
}

#[test]
fn a_revoked_entitlement_spends_nothing_more_and_its_final_count_is_acknowledged() {
    let (vault, mut hq) = (Vault::new(), Hq::new(1));
    vault.enrol(&mut hq, 3);
    vault.request("one.csr", "A1", 21);
    vault.issue().expect(0);
    let end = hq.revoke(Target::Entitlement("th200".parse().unwrap()));
    vault.bring(end).expect(0);
    vault.request("two.csr", "A2", 22);
    let rows = vault.issue().expect(1).lines();
    assert_eq!(
        (&rows[0]["outcome"], &rows[1]["code"]),
        (&json!("existing"), &json!("ENTITLEMENT-REVOKED"))
    );
    let row = entitlement(&vault);
    assert_eq!(
        (&row["state"], &row["reported"]),
        (&json!("revoked"), &json!("unsealed"))
    );
    assert_eq!(
        (&row["products"][0]["spent"], &row["products"][0]["units"]),
        (&json!(1), &json!(3))
    );
    assert_eq!(row["revoked"]["reason"], "the line was sold");
    assert!(
        row["waits_for"][0]
            .as_str()
            .unwrap()
            .contains("final count"),
        "{row}"
    );

    let name = exported(&vault);
    assert_eq!(entitlement(&vault)["reported"], "sealed");
    let (bundle, _) = hq.receive(&vault.stick(), &name);
    vault.bring(hq.acknowledge(&bundle)).expect(0);
    let row = entitlement(&vault);
    assert_eq!(
        (&row["reported"], &row["waits_for"]),
        (&json!("acknowledged"), &json!([]))
    );

    // No later version brings it back.
    let later = hq.terms("th200", 2, 9);
    let run = vault.bring(hq.mint(&later, 2)).expect(1);
    assert_eq!(run.errors(), ["ENTITLEMENT-REVOKED"]);
    let list = vault.run(&["entitlement", "list"]).expect(0).json();
    assert_eq!(
        (&list["refused"][0]["version"], &list["refused"][0]["code"]),
        (&json!(2), &json!("ENTITLEMENT-REVOKED"))
    );
}

#[test]
fn an_amendment_takes_the_place_of_the_version_before_it() {
    let (vault, mut hq) = (Vault::new(), Hq::new(1));
    vault.enrol(&mut hq, 3);
    let second = hq.terms("th200", 2, 5);
    vault.bring(hq.mint(&second, 2)).expect(0);
    let list = vault.run(&["entitlement", "list"]).expect(0).json();
    assert_eq!(list["entitlements"][0]["version"], json!(2));
    let superseded = &list["superseded"][0];
    assert_eq!(
        (&superseded["id"], &superseded["version"]),
        (&json!("th200"), &json!(1))
    );
    let show = vault
        .run(&["entitlement", "show", "th200"])
        .expect(0)
        .json();
    let states: Vec<_> = show["versions"]
        .as_array()
        .unwrap()
        .iter()
        .map(|v| v["state"].clone())
        .collect();
    assert_eq!(states, ["superseded", "accepted"]);
}

#[test]
fn a_clock_that_ran_ahead_is_corrected_by_officers_though_the_manifest_seemed_expired() {
    let (vault, mut hq) = (Vault::new(), Hq::new(1));
    vault.enrol_with(&mut hq, 3, with_key(Way::Memory));
    let key = vault.keys().join("key-service.pem");
    vault.request("one.csr", "A1", 21);
    let arguments = vault.issue_arguments();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let ahead = vault.run_at(10 * YEAR, &arguments).expect(1);
    assert_eq!(ahead.lines()[0]["code"], "WINDOW-CLOSED");
    assert_eq!(vault.issue().expect(1).lines()[0]["code"], "CLOCK-BACK");
    assert!(key.exists(), "a wrong clock has ended a key");
    let next = || vault.status()["next"].as_str().unwrap().to_owned();
    let doctor = vault.run(&["doctor"]).expect(3).json();
    let checks = doctor["checks"].as_array().unwrap();
    let clock = checks.iter().find(|check| check["check"] == "clock");
    for told in [next(), clock.unwrap().to_string()] {
        for part in ["nothing is issued", "CLOCK-BACK", "`hq site clock`"] {
            assert!(told.contains(part), "{part} in {told}");
        }
    }
    // What was sent before the correction does not stand in its way.
    let name = exported(&vault);
    let (bundle, _) = hq.receive(&vault.stick(), &name);
    vault.bring(hq.acknowledge(&bundle)).expect(0);
    let early = hq.correct_clock(now() + 7200);
    let refused = vault.bring(early).expect(1);
    assert_eq!(refused.errors(), ["CLOCK-CORRECTION-AHEAD"]);
    let mut hq = hq;
    hq.forget_clock_correction();
    vault.bring(hq.correct_clock(now())).expect(0);
    assert!(!next().contains("CLOCK-BACK"), "{}", next());
    assert_eq!(vault.issue().expect(0).lines()[0]["outcome"], "issued");
    vault.run(&["audit", "verify"]).expect(0);
    // Where the clock stays where it is, the key ends with its entitlement.
    vault.request("two.csr", "A2", 22);
    for _ in 0..2 {
        let late = vault.run_at(2 * 3600, &arguments).expect(1);
        assert_eq!(late.lines()[1]["code"], "WINDOW-CLOSED");
    }
    assert!(!key.exists(), "a key outlived its entitlement");
}
