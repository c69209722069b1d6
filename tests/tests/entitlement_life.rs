//! An entitlement from its first draft to its final count: amended, given credit, refused, drafted again, revoked.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::fs;

use mintmark_tests::World;
use mintmark_tests::clock::DAY;
use mintmark_tests::world::{OFFICERS, POLICY};
use serde_json::Value;

/// The policy with so many units.
fn policy(units: u32) -> String {
    POLICY.replace("units = 1000\n", &format!("units = {units}\n"))
}

/// A vault that may make so many units.
fn granted(units: u32) -> World {
    World::with_policy(&policy(units))
}

/// Drafts an amendment to so many units. Gives its id; the draft is `$D/officers/amended.draft`.
#[track_caller]
fn amend(world: &World, units: u32) -> String {
    world.write("policies/amended.toml", policy(units));
    let _ = fs::remove_file(world.path("officers/amended.draft"));
    for officer in OFFICERS {
        let _ = fs::remove_file(world.path(&format!("officers/amended.draft.{officer}")));
    }
    let amend =
        "entitlement amend --policy $D/policies/amended.toml --output $D/officers/amended.draft";
    world.hq(amend).ok().text("id")
}

/// The row of `hq entitlement show` of one version; of several drafts of it, the last.
fn row(world: &World, version: u64) -> Value {
    let shown = world.hq("entitlement show th200").ok().json();
    let rows = shown["entitlements"].as_array().unwrap();
    let of_version = |row: &&Value| row["version"] == version;
    rows.iter().rfind(of_version).unwrap().clone()
}

#[track_caller]
fn stands(world: &World, version: u64, state: &str, waits_for: &str) {
    let row = row(world, version);
    let waits = row["waits_for"].as_str().unwrap();
    assert!(row["state"] == state && waits.contains(waits_for), "{row}");
}

#[test]
fn an_amendment_states_all_units_and_takes_the_place_of_the_version_before() {
    let world = granted(2);
    stands(&world, 1, "sent", "next bundle");
    world.requests("first", 1..=3);
    world.issue("first").exits(1);
    world.carry_home("berlin").exits_done();
    stands(&world, 1, "received", "nothing");

    world.write("policies/less.toml", policy(1));
    world
        .hq("entitlement amend --policy $D/policies/less.toml")
        .fails(2, "ENTITLEMENT-BELOW-SPENT");
    let id = amend(&world, 3);
    world
        .hq(&format!("entitlement export {id}"))
        .fails(1, "THRESHOLD-NOT-MET");
    stands(&world, 2, "draft", "2 approvals");
    world.approve("$D/officers/amended.draft");
    stands(&world, 2, "approved", "hq entitlement export");
    world.hq(&format!("entitlement export {id}")).ok();
    stands(&world, 2, "sent", "next bundle");
    stands(&world, 1, "received", "version 2");
    world.carry_out("berlin").exits_done();
    world.issue("first").ok();
    world.carry_home("berlin").exits_done();
    stands(&world, 2, "received", "nothing");
    stands(&world, 1, "superseded", "version 2 took its place");
    let report = world.reconcile();
    assert_eq!(report["balanced"], true, "{report}");
    assert_eq!(report["accounts"][0]["authorised"], 3, "{report}");
    assert_eq!(report["accounts"][0]["good"], 3, "{report}");
}

#[test]
fn an_officer_sees_what_an_amendment_changes_from_what_came_beside_it() {
    let world = granted(2);
    let id = amend(&world, 5);
    world.hq("media export $D/media").ok();
    let draft = format!("$D/media/mintmark/draft-{id}.cose");
    // alice has approved the version before.
    let words = |home: &str, draft: &str| {
        let show = format!("--home $D/officers/{home} approval show {draft}");
        let shown = world
            .hq(&format!("{show} --officer alice --keys @alice"))
            .ok();
        shown.json()["words"].to_string()
    };
    let seen = words("alice", &draft);
    assert!(seen.contains("TH-200: units 5 instead of 2"), "{seen}");
    assert!(seen.contains("bears the approvals that it needs"), "{seen}");

    let at_hq = world.hq("approval show $D/officers/amended.draft").ok();
    let seen = at_hq.json()["words"].to_string();
    assert!(seen.contains("bears the approvals that it needs"), "{seen}");

    // Wherever the draft was written, the version before is beside it.
    let seen = words("alice", "$D/officers/amended.draft");
    assert!(seen.contains("bears the approvals that it needs"), "{seen}");

    // Without the file beside it, she has what she approved herself, and it says what that is worth.
    let stick = fs::read(world.on_stick(&format!("draft-{id}.cose"))).unwrap();
    world.write("alone/amended.cose", stick);
    let seen = words("alice", "$D/alone/amended.cose");
    assert!(seen.contains("units 5 instead of 2"), "{seen}");
    assert!(seen.contains("here without its approvals"), "{seen}");

    let fingerprint = world.trust_fingerprint();
    world
        .hq(&format!(
            "--home $D/officers/fresh trust pin --trust $D/media/mintmark/trust-000001.cose --fingerprint {fingerprint}"
        ))
        .ok();
    let seen = words("fresh", "$D/alone/amended.cose");
    assert!(seen.contains("WAS NOT FOUND"), "{seen}");
    assert!(!seen.contains("instead of"), "{seen}");

    // The very version that it names, from the day when nobody had approved it: not worth an alarm.
    let v1 = world
        .hq("approval show $D/officers/berlin-th200.draft")
        .ok();
    let name = format!("draft-{}.cose", v1.text("id"));
    let unsigned = fs::read(world.path("officers/berlin-th200.draft")).unwrap();
    world.write(&format!("alone/{name}"), &unsigned);
    let seen = words("fresh", "$D/alone/amended.cose");
    assert!(seen.contains("units 5 instead of 2"), "{seen}");
    assert!(seen.contains("here without its approvals"), "{seen}");

    // Where that was written on its own day, the approvals come to it; anything else is left alone.
    world.write("policies/amended.toml", policy(6));
    let amend = "entitlement amend --policy $D/policies/amended.toml --output $D/alone";
    world.hq(&format!("{amend}/again.cose")).ok();
    assert_ne!(
        fs::read(world.path(&format!("alone/{name}"))).unwrap(),
        unsigned
    );
    let seen = words("fresh", "$D/alone/again.cose");
    assert!(seen.contains("bears the approvals that it needs"), "{seen}");
    world.write(&format!("alone/{name}"), "notes");
    let warned = world.hq(&format!("{amend}/third.cose")).ok();
    let left = |text: &String| text.contains("left as it is");
    assert!(warned.warnings().iter().any(left), "{warned}");
    assert_eq!(
        fs::read(world.path(&format!("alone/{name}"))).unwrap(),
        b"notes"
    );
}

#[test]
fn one_draft_of_an_entitlement_is_open_at_a_time() {
    let world = granted(2);
    let first = amend(&world, 3);
    world.sign("$D/officers/amended.draft", "alice");
    let approval = fs::read(world.path("officers/amended.draft.alice")).unwrap();
    world.write("stale", approval);
    let second = amend(&world, 4);
    assert_eq!(first, second);
    world
        .hq("approval import $D/stale")
        .fails(1, "DRAFT-SUPERSEDED");
    let open = world.hq("approval list").ok().json();
    let open = open["drafts"].as_array().unwrap().iter();
    let states: Vec<_> = open
        .filter(|draft| draft["id"] == second.as_str())
        .map(|draft| draft["state"].as_str().unwrap().to_owned())
        .collect();
    assert_eq!(states, ["superseded", "open"]);
}

#[test]
fn what_the_vault_refused_is_drafted_again_as_the_same_version() {
    let world = granted(2);
    let id = amend(&world, 4);
    world.approve("$D/officers/amended.draft");
    world.hq(&format!("entitlement export {id}")).ok();
    // It stays on the stick for longer than it may be imported.
    world.set_clock(40 * DAY);
    world.carry_out("berlin");
    let home = world.carry_home("berlin");
    assert!(
        home.warning_codes()
            .contains(&"REFUSED-BY-VAULT".to_owned()),
        "{home:?}"
    );
    stands(&world, 2, "refused", "hq entitlement amend");
    assert_eq!(row(&world, 2)["code"], "ENTITLEMENT-EXPIRED");
    // It is not what was granted.
    let report = world.reconcile();
    assert_eq!(report["accounts"][0]["authorised"], 2, "{report}");
    let again = amend(&world, 4);
    assert_eq!(id, again);
    world.approve("$D/officers/amended.draft");
    world.hq(&format!("entitlement export {again}")).ok();
    world.carry_out("berlin").exits_done();
    world.carry_home("berlin");
    stands(&world, 2, "received", "nothing");
    assert_eq!(world.reconcile()["accounts"][0]["authorised"], 4);
}

#[test]
fn credit_is_an_amendment_that_changes_nothing_else() {
    let world = granted(20);
    let drafted = world
        .hq("entitlement credit th200 --units 7 --output $D/officers/credit.draft")
        .ok();
    let words = drafted.json()["words"].to_string();
    assert!(words.contains("7 units instead of 20,000"), "{words}");
    assert!(!words.contains("TH-200: units"), "{words}");
    world.approve("$D/officers/credit.draft");
    world
        .hq(&format!("entitlement export {}", drafted.text("id")))
        .ok();
    world.carry_out("berlin").exits_done();
    world.requests("many", 1..=9);
    let run = world.issue("many").exits(1);
    let issued = |row: &&Value| row["outcome"] == "issued";
    assert_eq!(run.lines().iter().filter(issued).count(), 7);
}

#[test]
fn a_revoked_entitlement_is_over_and_its_final_count_comes_home() {
    let world = granted(5);
    world.requests("two", 1..=2);
    world.issue("two").ok();
    let drafted = world
        .hq("entitlement revoke th200 --reason sold --output $D/officers/revoke.draft")
        .ok();
    let words = drafted.json()["words"].to_string();
    assert!(words.contains("Revoke entitlement th200"), "{words}");
    stands(&world, 1, "received", "approvals of its revocation");
    let export = format!("entitlement export {}", drafted.text("id"));
    world.hq(&export).fails(1, "THRESHOLD-NOT-MET");
    world.approve("$D/officers/revoke.draft");
    world.hq(&export).ok();
    stands(&world, 1, "revoking", "next bundle");
    world.carry_out("berlin").exits_done();
    world.requests("three", 3..=3);
    let run = world.issue("three").exits(1);
    assert_eq!(run.lines()[0]["code"], "ENTITLEMENT-REVOKED");
    world.carry_home("berlin").exits_done();
    stands(&world, 1, "revoked", "2 of 5 TH-200");
    // For good: no other version, and no second revocation.
    world.write("policies/amended.toml", policy(9));
    world
        .hq("entitlement amend --policy $D/policies/amended.toml")
        .fails(2, "ENTITLEMENT-REVOKED");
    world
        .hq("entitlement revoke th200 --reason again")
        .fails(2, "ENTITLEMENT-REVOKED");
    let report = world.reconcile_run().exits_done().json();
    assert_eq!(report["balanced"], true, "{report}");
}

#[test]
fn orders_of_one_vault_go_out_as_they_are_approved_whatever_their_numbers() {
    let world = granted(5);
    let first = world
        .hq("entitlement revoke th200 --reason one --output $D/officers/one.draft")
        .ok();
    let second = world
        .hq("site disable berlin/v1 --reason two --output $D/officers/two.draft")
        .ok();
    assert_ne!(first.text("id"), second.text("id"));
    world.approve("$D/officers/two.draft");
    world.hq(&format!("site grant {}", second.text("id"))).ok();
    world.approve("$D/officers/one.draft");
    world.hq("entitlement export th200").ok();
    let orders = |world: &World| {
        let shown = world.hq("site show berlin/v1").ok().json();
        let orders = shown["vaults"][0]["orders"].as_array().unwrap().clone();
        let states = orders
            .iter()
            .map(|order| order["state"].as_str().unwrap().to_owned());
        states.collect::<Vec<_>>()
    };
    assert_eq!(orders(&world), ["sent", "sent"]);
    world.carry_out("berlin").exits_done();
    world.carry_home("berlin").exits_done();
    assert_eq!(orders(&world), ["followed", "followed"]);
    world
        .hq("entitlement revoke other --reason none")
        .fails(2, "ENTITLEMENT-UNKNOWN");
}

#[test]
fn a_dossier_states_the_version_of_the_entitlement_that_was_in_force_for_its_device() {
    let world = granted(2);
    let one = |number: u32| {
        let name = format!("unit-{number}");
        world.requests(&name, [number]);
        world.issue(&name).ok();
    };
    let amended = |units: u32| {
        let id = amend(&world, units);
        world.approve("$D/officers/amended.draft");
        world.hq(&format!("entitlement export {id}")).ok();
        world.carry_out("berlin").exits_done();
    };
    // In a bundle before the amendment, in the bundle that brings it, before it and behind it, and in one after that.
    one(1);
    world.carry_home("berlin").exits_done();
    one(2);
    amended(5);
    one(3);
    world.carry_home("berlin").exits_done();
    one(4);
    world.carry_home("berlin").exits_done();
    // Sent, and not seen by the vault yet.
    let id = amend(&world, 6);
    world.approve("$D/officers/amended.draft");
    world.hq(&format!("entitlement export {id}")).ok();
    let trust = "--trust $D/media/mintmark/trust-000001.cose --fingerprint";
    let trust = format!("{trust} {}", world.trust_fingerprint());
    for (number, version) in [(1, 1), (2, 1), (3, 2), (4, 2)] {
        let device = format!("TH200-{number:08}");
        world
            .hq(&format!(
                "device dossier {device} --output $D/{device}.dossier"
            ))
            .ok();
        let run = world
            .hq(&format!("device verify $D/{device}.dossier {trust}"))
            .run();
        let dossier = &run.json()["dossier"];
        assert_eq!(dossier["entitlement_version"], version, "{device}: {run}");
    }
}
