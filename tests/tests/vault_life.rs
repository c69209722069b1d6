//! A vault that cannot be relied on any more: disabled, inspected, given its next device CA, its former one revoked; or
//! replaced by another vault.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::fs;
use std::process::Command;

use mintmark_tests::World;
use mintmark_tests::world::{OFFICERS, POLICY};
use serde_json::Value;

/// Has both officers approve what `drafting` drafts, and HQ finish it.
#[track_caller]
fn order(world: &World, drafting: &str, name: &str) -> Value {
    let draft = format!("$D/officers/{name}.draft");
    let drafted = world.hq(&format!("{drafting} --output {draft}")).ok();
    world
        .hq(&format!("site grant {}", drafted.text("id")))
        .fails(1, "THRESHOLD-NOT-MET");
    world.approve(&draft);
    let grant = format!("site grant {}", drafted.text("id"));
    world.hq(&format!("{grant} --dry-run")).ok();
    world.hq(&grant).ok().json()
}

/// The step that `hq site next` names.
#[track_caller]
fn step(world: &World) -> String {
    let next = world.hq("site next berlin/v1").ok().json();
    next["vaults"][0]["step"].as_str().unwrap().to_owned()
}

#[track_caller]
fn state(world: &World, vault: &str) -> String {
    let shown = world.hq(&format!("site show berlin/{vault}")).ok().json();
    shown["vaults"][0]["state"].as_str().unwrap().to_owned()
}

/// Whether OpenSSL finds a certificate good, revocations of its whole chain looked up.
fn is_good(world: &World, certificate: &str) -> bool {
    let status = Command::new("openssl")
        .args(["verify", "-crl_check_all", "-CAfile"])
        .arg(world.path("ca/root.pem"))
        .arg("-CRLfile")
        .arg(world.path("ca/crl-root.pem"))
        .arg(world.path(&format!("ca/{certificate}")))
        .output()
        .unwrap();
    status.status.success()
}

#[track_caller]
fn rotate(world: &World, name: &str) -> (Value, String) {
    let asked = world.site("rotate").ok();
    world.site("media export $D/media").ok();
    let fingerprint = asked.text("enrolment_fingerprint");
    let request = "$D/media/mintmark/enrol-berlin_v1.cose";
    let drafting = format!("site rotate --request {request} --fingerprint {fingerprint}");
    (order(world, &drafting, name), fingerprint)
}

#[test]
fn disable_inspect_rotate_revoke() {
    let world = World::ready();
    world.requests("before", 1..=2);
    world.issue("before").ok();
    world.carry_home("berlin").exits_done();
    assert_eq!(
        (step(&world), state(&world, "v1")),
        ("disable".into(), "granted".into())
    );

    let sent = order(&world, "site disable berlin --reason theft", "disable");
    assert_eq!(sent["number"], 1);
    assert_eq!(state(&world, "v1"), "disabling");
    world.carry_out("berlin").exits_done();
    world.requests("during", 3..=3);
    let refused = world.issue("during").exits(1);
    assert_eq!(refused.lines()[0]["code"], "VAULT-DISABLED");
    world.carry_home("berlin").exits_done();
    assert_eq!(
        (step(&world), state(&world, "v1")),
        ("inspect".into(), "disabled".into())
    );

    let (granted, _) = rotate(&world, "rotate");
    assert_eq!(
        (&granted["state"], &granted["device_ca"]),
        (&"rotated".into(), &2.into())
    );
    assert_eq!(state(&world, "v1"), "rotating");
    world.carry_out("berlin").exits_done();
    world.issue("during").ok();
    world.carry_home("berlin").exits_done();
    assert_eq!(
        (step(&world), state(&world, "v1")),
        ("revoke".into(), "granted".into())
    );
    world.hq("ca export --output $D/ca").ok();
    let certificates = ["device-ca-berlin_v1.pem", "device-ca-berlin_v1-g1.pem"];
    assert!(certificates.iter().all(|name| is_good(&world, name)));

    let order = order(
        &world,
        "site revoke berlin/v1 --device-ca 1 --reason theft",
        "revoke",
    );
    assert_eq!(order["crl_number"], 2);
    world.hq("ca export --output $D/ca").ok();
    assert!(is_good(&world, "device-ca-berlin_v1.pem"));
    assert!(!is_good(&world, "device-ca-berlin_v1-g1.pem"));
    world
        .hq("site revoke berlin/v1 --device-ca 1 --reason again")
        .fails(2, "DEVICE-CA-REVOKED");
    world.carry_out("berlin").exits_done();
    let certificate = fs::read_dir(world.path("out")).unwrap();
    let certificate = certificate
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .find(|name| name.contains("00000001") && !name.contains("chain"))
        .unwrap();
    fs::copy(
        world.path(&format!("out/{certificate}")),
        world.path("former.pem"),
    )
    .unwrap();
    let shown = world.hq("device show $D/former.pem").exits(1).json();
    assert_eq!(shown["status"], "revoked", "{shown}");
    // Devices under the former one come again: they cost no unit, and the new certificates have the names of the old.
    let (stem, _) = certificate.split_once('.').unwrap();
    let out = |name: &str| fs::read(world.path(&format!("out/{stem}{name}"))).ok();
    let former = [".pem", ".chain.pem"].map(out);
    for outcome in ["issued", "existing"] {
        let again = world.issue("before").ok();
        for row in again.lines() {
            assert_eq!(row["outcome"], outcome, "{again:?}");
        }
        assert_ne!(out(".pem"), former[0]);
        assert_eq!([".issue-0.pem", ".issue-0.chain.pem"].map(out), former);
        // As if the second one had found the first one killed before the new name was given.
        fs::write(
            world.path(&format!("out/{stem}.pem")),
            former[0].as_ref().unwrap(),
        )
        .unwrap();
    }
    world.carry_home("berlin").exits_done();
    let report = world.reconcile_run().exits_done().json();
    let account = &report["accounts"][0];
    assert_eq!(
        (&report["balanced"], &account["good"]),
        (&true.into(), &3.into()),
        "{report}"
    );
    assert_eq!(step(&world), "disable");
    let shown = world.hq("device show TH200-00000001").ok().json();
    assert_eq!(shown["status"], "good", "{shown}");
    world.hq("device show $D/former.pem").exits(1);
}

#[test]
fn the_next_step_says_what_waits_for_approvals_and_that_a_rotation_is_asked_for() {
    let world = World::with_vault();
    let next = || {
        let next = world.hq("site next berlin/v1").ok().json()["vaults"][0].clone();
        let why = next["why"].as_str().unwrap().to_owned();
        (next["step"].as_str().unwrap().to_owned(), why, next)
    };
    let draft = "$D/officers/disable.draft";
    let disable = format!("site disable berlin --reason theft --output {draft}");
    let drafted = world.hq(&disable).ok();
    let (name, why, _) = next();
    assert_eq!(name, "disable");
    assert!(why.ends_with("with 0 of 2 approvals"), "{why}");
    let approval = world.sign(draft, OFFICERS[0]);
    world.hq(&format!("approval import {approval}")).ok();
    let (_, why, row) = next();
    assert!(why.ends_with("with 1 of 2 approvals"), "{why}");
    assert_eq!(row["approvals"]["counted"], 1, "{row}");
    assert_eq!(row["commands"].as_array().unwrap().len(), 2, "{row}");
    let approval = world.sign(draft, OFFICERS[1]);
    world.hq(&format!("approval import {approval}")).ok();
    let (_, why, row) = next();
    assert!(why.ends_with("with 2 of 2 approvals"), "{why}");
    let grant = format!("site grant {}", drafted.text("id"));
    assert_eq!(row["commands"], serde_json::json!([format!("hq {grant}")]));
    world.hq(&grant).ok();
    world.carry_out("berlin").exits_done();
    world.carry_home("berlin").exits_done();
    assert_eq!(next().0, "inspect");

    let asked = world.site("rotate").ok();
    world.carry_home("berlin").exits_done();
    let (name, why, _) = next();
    assert_eq!(name, "rotate");
    assert!(why.contains("asks for its device CA 2"), "{why}");
    let fingerprint = asked.text("enrolment_fingerprint");
    let request = "$D/media/mintmark/enrol-berlin_v1.cose";
    let rotate = format!("site rotate --request {request} --fingerprint {fingerprint}");
    world.hq(&rotate).ok();
    let (name, why, _) = next();
    assert_eq!(name, "rotate");
    assert!(why.ends_with("with 0 of 2 approvals"), "{why}");
}

#[test]
fn a_rotation_is_by_the_vault_that_was_let_in_and_for_its_next_device_ca() {
    let world = World::ready();
    let (_, fingerprint) = rotate(&world, "rotate");
    // The request that was granted is asked with once more.
    let request = "$D/media/mintmark/enrol-berlin_v1.cose";
    let again = format!("site rotate --request {request} --fingerprint {fingerprint}");
    world.hq(&again).fails(1, "ROTATION-GENERATION");
    // A new vault's request is no rotation, and the other way round.
    let rotation = format!("site enrol --request {request} --fingerprint {fingerprint}");
    world.hq(&rotation).fails(2, "ENROLMENT-ROTATION");
}

#[test]
fn a_rotation_that_was_drafted_before_the_vault_was_disabled_is_not_sent_after_that() {
    let world = World::ready();
    let asked = world.site("rotate").ok();
    world.site("media export $D/media").ok();
    let fingerprint = asked.text("enrolment_fingerprint");
    let request = "$D/media/mintmark/enrol-berlin_v1.cose";
    let drafting = format!("site rotate --request {request} --fingerprint {fingerprint}");
    let draft = "$D/officers/early.draft";
    let drafted = world.hq(&format!("{drafting} --output {draft}")).ok();
    for officer in &OFFICERS[..2] {
        let approval = world.sign(draft, officer);
        world.hq(&format!("approval import {approval}")).ok();
    }
    order(&world, "site disable berlin --reason theft", "disable");
    let grant = format!("site grant {}", drafted.text("id"));
    world.hq(&grant).fails(1, "GRANT-BEFORE-DISABLE");
    let again = order(&world, &drafting, "again");
    assert_eq!(again["state"], "rotated");
    world.carry_out("berlin").exits_done();
    world.requests("after", 1..=1);
    world.issue("after").ok();
}

#[test]
fn a_clock_correction_and_a_re_anchor_go_the_same_way() {
    let world = World::ready();
    world
        .hq("site reanchor berlin/v1 --reason none")
        .fails(2, "REANCHOR-NO-BUNDLE");
    world.requests("one", 1..=1);
    world.issue("one").ok();
    world.carry_home("berlin").exits_done();
    let clock = order(&world, "site clock berlin/v1 --reason battery", "clock");
    assert_eq!(
        (&clock["type"], &clock["number"]),
        (&"clock-correction".into(), &1.into())
    );
    let reanchor = order(&world, "site reanchor berlin/v1 --reason token", "reanchor");
    assert_eq!(reanchor["number"], 1);
    world.carry_out("berlin").exits_done();
    world.carry_home("berlin").exits_done();
    let shown = world.hq("site show berlin/v1").ok().json();
    let orders = shown["vaults"][0]["orders"].as_array().unwrap().clone();
    assert!(
        orders.iter().all(|order| order["state"] == "followed"),
        "{orders:?}"
    );
    assert_eq!(orders.len(), 2);
    world.reconcile_run().exits_done();
    world
        .hq("site clock berlin/v1 --time yesterday --reason x")
        .exits(2);
    world
        .hq("site clock berlin/v1")
        .arg("--reason")
        .arg("two\nlines")
        .fails(2, "REASON-INVALID");
    world
        .hq("site clock berlin/v1")
        .arg("--reason")
        .arg("  ")
        .fails(2, "REASON-INVALID");
}

/// Drafts the succession of `berlin/v1` by a vault `berlin/v2`, whose home is `$D/second`.
#[track_caller]
fn ask_to_succeed(world: &World) -> String {
    let fingerprint = world.trust_fingerprint();
    let asked = world
        .site(&format!(
            "--home $D/second init --site-id berlin --vault v2 --keys @second \
             --trust $D/media/mintmark/trust-000001.cose --fingerprint {fingerprint}"
        ))
        .ok();
    world.site("--home $D/second media export $D/media").ok();
    let fingerprint = asked.text("enrolment_fingerprint");
    format!(
        "site succeed --request $D/media/mintmark/enrol-berlin_v2.cose --fingerprint {fingerprint} --replaces v1"
    )
}

#[test]
fn a_lost_vault_is_succeeded_and_what_it_did_not_report_is_written_off_and_granted_again() {
    let world = World::with_policy(&POLICY.replace("units = 1000\n", "units = 10\n"));
    world.requests("first", 1..=3);
    world.issue("first").ok();
    world.carry_home("berlin").exits_done();
    // What it makes now is never reported in time.
    world.requests("late", 4..=5);
    world.issue("late").ok();

    let succeed = ask_to_succeed(&world);
    let granted = order(&world, &succeed, "succeed");
    assert_eq!(granted["written_off"][0]["first_slot"], 3, "{granted}");
    assert_eq!(granted["written_off"][0]["units"], 7, "{granted}");
    assert_eq!(state(&world, "v1"), "succeeded");
    let refused = world
        .hq("site disable berlin/v1 --reason late")
        .fails(2, "VAULT-SUCCEEDED");
    let hint = refused.errors()[0]["hint"].to_string();
    assert!(hint.contains("berlin/v2"), "{hint}");
    assert!(hint.contains("--site berlin --vault v2"), "{hint}");
    let report = world.reconcile_run().exits_done().json();
    let account = &report["accounts"][0];
    assert_eq!(
        (&report["balanced"], &account["good"]),
        (&true.into(), &3.into()),
        "{report}"
    );
    assert_eq!(
        (&account["unresolved"], &account["unspent"]),
        (&7.into(), &0.into()),
        "{report}"
    );
    let findings = report["findings"].as_array().unwrap();
    let off = findings
        .iter()
        .find(|finding| finding["code"] == "SLOTS-WRITTEN-OFF");
    let off = off.unwrap();
    assert_eq!(off["severity"], "note");
    assert_eq!(off["serials"].as_array().unwrap().len(), 7);

    // The old one turns up with a bundle: what it made is no longer in doubt.
    world.carry_home("berlin").exits_done();
    let report = world.reconcile();
    let account = &report["accounts"][0];
    assert_eq!(
        (&account["good"], &account["unresolved"]),
        (&5.into(), &5.into()),
        "{report}"
    );
    assert_eq!(
        (&report["balanced"], &account["written_off"]),
        (&true.into(), &5.into())
    );

    // The successor goes on with what is granted again.
    let again = POLICY
        .replace("units = 1000\n", "units = 5\n")
        .replace("id = \"th200\"", "id = \"th200-again\"");
    world.write("policies/again.toml", again);
    let draft = "entitlement draft --site berlin --vault v2 --policy $D/policies/again.toml";
    let drafted = world
        .hq(&format!("{draft} --output $D/officers/again.draft"))
        .ok();
    for officer in OFFICERS {
        let approval = world.sign("$D/officers/again.draft", officer);
        world.hq(&format!("approval import {approval}")).ok();
    }
    world
        .hq(&format!("entitlement export {}", drafted.text("id")))
        .ok();
    world.hq("media export $D/media").ok();
    world.site("--home $D/second media import $D/media").ok();
    world.requests("second", 6..=7);
    let issue = |csr: &str| {
        let issue = format!("--home $D/second issue --product TH-200 --csr $D/csr/{csr}");
        world.site(&format!("{issue} --output $D/out/second")).ok();
    };
    fs::create_dir(world.path("out/second")).unwrap();
    issue("second");

    // Nothing is sent to the lost vault any more; that its device CA is no longer good, everybody else learns.
    let revoked = order(&world, "site revoke berlin/v1 --reason stolen", "revoke");
    assert_eq!(revoked["dispatch_sequence"], Value::Null);
    world.hq("ca export --output $D/ca").ok();
    assert!(is_good(&world, "device-ca-berlin_v2.pem"));
    assert!(!is_good(&world, "device-ca-berlin_v1.pem"));
    issue("first");
    world.site("--home $D/second media export $D/media").ok();
    world.hq("media import $D/media").ok();
    let report = world.reconcile_run().exits_done().json();
    assert_eq!(report["accounts"][1]["good"], 5, "{report}");
}

#[test]
fn officers_approve_again_when_hq_learns_more_of_a_lost_vault() {
    let world = World::ready();
    let succeed = ask_to_succeed(&world);
    let drafted = world
        .hq(&format!("{succeed} --output $D/officers/succeed.draft"))
        .ok();
    world.approve("$D/officers/succeed.draft");
    world.requests("late", 1..=1);
    world.issue("late").ok();
    world.carry_home("berlin").exits_done();
    world
        .hq(&format!("site grant {}", drafted.text("id")))
        .fails(1, "SUCCESSION-STALE");
    assert_eq!(state(&world, "v1"), "granted");
}
