//! Another PKCS#11 token than SoftHSM: kryoptic, in Rust over SQLite and OpenSSL.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::fs;

use mintmark_tests::world::POLICY;
use mintmark_tests::{Run, Stores, World, stores};
use serde_json::Value;

/// The checks of a doctor, which must have ended so.
#[track_caller]
fn checks(run: &Run, exit: i32) -> Vec<Value> {
    assert_eq!(run.exit, exit, "{run}");
    run.json()["checks"].as_array().unwrap().clone()
}

/// One of them.
#[track_caller]
fn check(checks: &[Value], name: &str) -> Value {
    let mut found = checks.iter().filter(|check| check["check"] == name);
    let check = found.next();
    assert!(found.next().is_none(), "{name} stands twice: {checks:#?}");
    check
        .unwrap_or_else(|| panic!("no {name}: {checks:#?}"))
        .clone()
}

/// All that is wrong, but for what a disk is like on which tests run.
fn wrong(checks: &[Value]) -> Vec<&Value> {
    let of_the_disk = |check: &Value| {
        let code = check["code"].as_str().unwrap_or_default();
        code.starts_with("DISK-") || code == "MEMORY-UNLOCKED"
    };
    let wrong = checks.iter().filter(|check| check["outcome"] != "ok");
    wrong.filter(|check| !of_the_disk(check)).collect()
}

#[test]
fn the_whole_loop_runs_and_the_doctors_find_nothing_wrong() {
    let policy = format!(
        "{POLICY}[[key]]\nlabel = \"service\"\nalgorithm = \"HMAC-SHA-256\"\nuse = \"derive-device-secret\"\nuses_max = 10\n"
    );
    let world = World::with_policy_in(Stores::Kryoptic, &policy);
    world.requests("some", 1..=5);
    let issued = world.issue("some").ok().lines();
    assert!(
        issued.iter().all(|line| line["outcome"] == "issued"),
        "{issued:#?}"
    );
    let hq = checks(&world.hq("doctor").run(), 0);
    assert!(wrong(&hq).is_empty(), "{hq:#?}");
    let site = checks(&world.site("doctor --media $D/media").run(), 0);
    assert!(wrong(&site).is_empty(), "{site:#?}");
    assert!(
        check(&site, "key store")["message"]
            .as_str()
            .unwrap()
            .contains("Kryoptic")
    );
    // The key came into the token by its own transport key, and it was performed, not only listed.
    let unwrap = check(&site, "unwrap")["message"]
        .as_str()
        .unwrap()
        .to_owned();
    assert!(unwrap.contains("RSA-OAEP and SHA-256"), "{unwrap}");
    check(&site, "key-service");
    world.carry_home("berlin").exits_done();
    let report = world.reconcile();
    assert_eq!(report["balanced"], true, "{report:#}");
    world.carry_out("berlin").exits_done();
}

#[test]
fn a_pin_in_danger_is_told_and_its_last_try_is_not_spent() {
    let world = World::empty(Stores::Kryoptic);
    let uri = world.keys("vault");
    let pin = stores::pin_file(world.folder(), "vault");
    let right = fs::read_to_string(&pin).unwrap();
    let doctor = |exit| checks(&world.site(&format!("doctor --keys {uri}")).run(), exit);
    assert!(wrong(&doctor(0)).is_empty());

    fs::write(&pin, "not the PIN").unwrap();
    let mut last = None;
    for _ in 0..20 {
        let found = doctor(3);
        let code = check(&found, "pin")["code"].clone();
        if code == "PIN-LAST-TRY" {
            last = Some(found);
            break;
        }
        assert!(code == Value::Null || code == "PIN-TRIES-LOW", "{found:#?}");
        assert_eq!(check(&found, "key store")["code"], "PIN-INCORRECT");
    }
    // However often it is asked, the last try is left to people.
    let last = last.expect("kryoptic counts tries");
    assert!(
        check(&last, "pin")["hint"]
            .as_str()
            .unwrap()
            .contains("make sure of the PIN")
    );
    assert!(
        last.iter().all(|check| check["check"] != "key store"),
        "{last:#?}"
    );
    for _ in 0..3 {
        assert_eq!(check(&doctor(3), "pin")["code"], "PIN-LAST-TRY");
    }
    fs::write(&pin, right).unwrap();
    world
        .hq(&format!(
            "officer request --name x --keys {uri} --output $D/x.request"
        ))
        .ok();
    assert!(wrong(&doctor(0)).is_empty());
}
