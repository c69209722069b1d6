//! An entitlement that Python made, with the keys of officers and of the dispatch: a vault follows it as one of ours.

use std::path::PathBuf;
use std::process::Command;
use std::time::{SystemTime, UNIX_EPOCH};

use mintmark_tests::shape::column;
use mintmark_tests::world::OFFICERS;
use mintmark_tests::{World, judge};
use serde_json::{Value, json};

use super::{found, workspace};

/// A folder of a world, and the PIN file of the key store of that name.
fn key_and_pin(world: &World, store: &str, label: &str) -> String {
    let key = world.path(&format!("keys/{store}/{label}.pem"));
    let pin = world.path(&format!("pins/{store}.pin"));
    format!("{}:{}", key.display(), pin.display())
}

/// Has Python make an entitlement for the vault of a world; the approvers are officers. Gives the dispatch's file.
fn made_by_python(world: &World, approvers: &[&str]) -> PathBuf {
    let now = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap()
        .as_secs();
    let terms = json!({
        "id": "from-python",
        "version": 1,
        "drafted": now,
        "approve_until": now + 86_400,
        "valid_from": now - 60,
        "valid_until": now + 30 * 86_400,
        "credit": {"units": 100, "days": 14},
        "anchor_lease_max": 256,
        "products": [{
            "account": 7,
            "sku": "TH-200",
            "units": 2,
            "units_per_hour": 2,
            "device_id_pattern": "TH200-[0-9]{8}",
            "key_algorithms": ["P-256"],
            "reissues_per_device": 0,
            "device_id_source": "serialNumber",
            "device_ids": [["TH200-00000001", "TH200-00000003"]],
            "subject": "O=Acme, OU=TH-200, serialNumber={device_id}",
            "validity_days": 7300,
            "extended_key_usage": ["clientAuth"],
        }],
    });
    let terms = world.write("terms.json", terms.to_string());
    let mut python = Command::new(workspace().join("target/interop/bin/python"));
    python
        .arg("-B")
        .arg(workspace().join("tests/interop/make_entitlement.py"))
        .arg("--trust")
        .arg(world.on_stick("trust-000001.cose"))
        .arg("--enrolment")
        .arg(world.on_stick("enrol-berlin_v1.cose"))
        .arg("--previous")
        .arg(world.on_stick("to-berlin_v1/dispatch-1-000001.cose"))
        .arg("--terms")
        .arg(terms)
        .arg("--dispatch-key")
        .arg(key_and_pin(world, "hq", "dispatch"))
        .arg("--media")
        .arg(world.path("media"));
    for officer in approvers {
        python
            .arg("--approver")
            .arg(key_and_pin(world, officer, "officer-sign"));
    }
    let made: Value = serde_json::from_slice(&judge::succeed(&mut python).stdout).unwrap();
    made["file"].as_str().unwrap().into()
}

#[test]
fn a_vault_follows_an_entitlement_that_python_made_and_headquarters_finds_that_it_never_sent_it() {
    let world = World::with_vault();
    let file = made_by_python(&world, &OFFICERS);
    let trust = world.on_stick("trust-000001.cose");
    let seen = found(&[
        "dispatch",
        file.to_str().unwrap(),
        "--trust",
        trust.to_str().unwrap(),
    ]);
    assert_eq!(seen["content"]["approved_by"], json!(["alice", "bob"]));
    let run = world.site("media import $D/media").ok();
    assert_eq!(
        run.item("dispatch-1-000002.cose")["outcome"],
        "imported",
        "{run}"
    );
    world.requests("three", 1..=3);
    let rows = world.issue("three").exits(1).lines();
    assert_eq!(column(&rows, "outcome"), ["issued", "issued", "refused"]);
    assert_eq!(column(&rows, "code"), ["", "", "QUOTA-EXHAUSTED"]);
    // The officers' keys and the dispatch key together can do what headquarters can; what they cannot do is hide it.
    let run = world.carry_home("berlin").exits(4);
    let item = run.item("000001.cose");
    assert_eq!(
        (item["outcome"].as_str(), item["code"].as_str()),
        (Some("refused"), Some("DISPATCH-UNKNOWN")),
        "{run}"
    );
    let report = world.reconcile();
    assert_eq!(
        report["findings"][0]["code"], "DISPATCH-UNKNOWN",
        "{report}"
    );
}

#[test]
fn a_vault_refuses_what_python_made_with_too_few_officers() {
    let world = World::with_vault();
    made_by_python(&world, &OFFICERS[..1]);
    let run = world.site("media import $D/media").exits(1);
    let item = run.item("dispatch-1-000002.cose");
    assert_eq!(
        (item["outcome"].as_str(), item["code"].as_str()),
        (Some("refused"), Some("THRESHOLD-NOT-MET")),
        "{run}"
    );
    assert_eq!(world.status("berlin")["accounts"], json!([]));
}
