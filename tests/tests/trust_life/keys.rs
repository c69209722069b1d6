//! Other keys of headquarters.

use std::fs;
use std::process::Command;

use mintmark_tests::{Stores, World, files, judge};
use serde_json::Value;

use super::root::verify;
use super::*;

#[test]
fn other_keys_of_hq_read_new_bundles_and_those_before_are_still_read() {
    let world = World::ready();
    world.requests("line", 1..=2);
    world.issue("line").ok();
    world.site("media export $D/media").ok();
    judge::openssl(
        world.folder(),
        "genpkey -quiet -algorithm EC -pkeyopt ec_paramgen_curve:P-256 -out escrow2.key",
    );
    judge::openssl(
        world.folder(),
        "pkey -in escrow2.key -pubout -out escrow2.pem",
    );
    let before = world.hq("trust show").ok().json();
    world.next_trust(
        "--audit-keys @audit2 --escrow-key $D/escrow2.pem",
        &["alice", "bob"],
    );
    let after = world.hq("trust show").ok().json();
    for key in [0, 1] {
        assert_ne!(
            before["encryption_keys"][key],
            after["encryption_keys"][key]
        );
    }
    assert_eq!(before["dispatch_epoch"], after["dispatch_epoch"]);
    // The bundle was sealed for the key before.
    let home = world.hq("media import $D/media").ok();
    let outcome = |item: &Value| item["outcome"] == "imported";
    assert!(
        home.json()["items"].as_array().unwrap().iter().any(outcome),
        "{home}"
    );
    world.carry_out("berlin").exits_done();
    world.requests("more", 3..=5);
    world.issue("more").ok();
    world.carry_home("berlin").exits_done();
    let report = world.reconcile();
    assert_eq!(report["balanced"], true, "{report:#}");
    assert_eq!(report["accounts"][0]["good"], 5);
    // HQ reads what it holds back, by whichever key.
    let ours = world.hq("audit log --site berlin").ok().lines();
    let theirs = world.log("berlin");
    assert!(ours.len() > 10);
    for (ours, theirs) in ours.iter().zip(&theirs) {
        assert_eq!(ours["sequence"], theirs["sequence"]);
        assert_eq!(ours["kind"], theirs["kind"]);
    }
    // A draft from before can be read and sent.
    world
        .hq("approval show $D/officers/berlin-th200.draft")
        .ok();
}

#[test]
fn keys_of_a_draft_do_not_count_before_it_is_published_nor_get_lost_with_its_configuration() {
    let world = World::ready();
    let config = world.path("hq/config.toml");
    let draft = world.draft_trust("--dispatch-keys @dispatch2 --audit-keys @audit2");
    let drafted = fs::read(&config).unwrap();
    // Meanwhile everything goes on under the keys in force.
    world.requests("line", 1..=2);
    world.issue("line").ok();
    world.carry_home("berlin").exits_done();
    world.mint("berlin", &other_policy());
    world.carry_out("berlin").exits_done();
    assert_eq!(world.status("berlin")["dispatch"]["epoch"], 1);
    world.approve(&draft);
    world.hq("trust publish --media $D/media").ok();
    // The machine stopped before the configuration was written.
    fs::write(&config, drafted).unwrap();
    world.carry_out("berlin").exits_done();
    assert_eq!(world.status("berlin")["dispatch"]["epoch"], 2);
    world.requests("more", 3..=4);
    world.issue("more").ok();
    world.carry_home("berlin").exits_done();
    assert_eq!(world.reconcile()["balanced"], true);
    // A dispatch key that the manifest does not name signs nothing.
    let text = fs::read_to_string(&config).unwrap();
    let other = text.replace("/dispatch2", "/hq");
    assert_ne!(text, other);
    fs::write(&config, other).unwrap();
    world.hq("media export $D/media").fails(4, "KEY-NOT-LISTED");
}

#[test]
fn a_lost_audit_key_starves_nobody() {
    let world = World::ready();
    world.requests("line", 1..=2);
    world.issue("line").ok();
    world.site("media export $D/media").ok();
    fs::remove_file(world.path("keys/hq/audit.pem")).unwrap();
    world.hq("media import $D/media").fails(3, "KEY-MISSING");
    // The escrow key is taken out of its safe.
    world.keys("safe");
    fs::create_dir_all(world.path("keys/safe")).unwrap();
    judge::openssl(
        world.folder(),
        "pkcs8 -topk8 -in escrow.key -out keys/safe/audit.pem -passout file:pins/safe.pin -v2 aes-256-cbc -iter 600000",
    );
    let key = fs::read_to_string(world.path("keys/safe/audit.pem")).unwrap();
    world.write("keys/safe/audit.pem", format!("Purpose: agree\n{key}"));
    let mut command = Command::new("chmod");
    let chmod = command.current_dir(world.folder());
    judge::succeed(chmod.args(["go=", "keys/safe", "keys/safe/audit.pem"]));
    world
        .hq("trust escrow --keys @audit2-of-another")
        .fails(3, "KEY-FOLDER-MISSING");
    world.hq("trust escrow --keys @safe").ok();
    let home = world.hq("media import $D/media").ok();
    assert!(home.to_string().contains("AUDIT-KEY-MISSING"), "{home}");
    let imported = |item: &Value| item["outcome"] == "imported";
    assert!(
        home.json()["items"]
            .as_array()
            .unwrap()
            .iter()
            .any(imported),
        "{home}"
    );
    world.next_trust("--audit-keys @audit2", &["alice", "bob"]);
    world.carry_out("berlin").exits_done();
    world.requests("more", 3..=4);
    world.issue("more").ok();
    world.carry_home("berlin").exits_done();
    assert_eq!(world.reconcile()["balanced"], true);
}

#[test]
fn keys_in_tokens_are_replaced_as_those_in_files_are() {
    let world = World::ready_in(Stores::Tokens);
    world.requests("line", 1..=2);
    world.issue("line").ok();
    world.site("media export $D/media").ok();
    let keys = "--root-keys @root2 --dispatch-keys @dispatch2 --audit-keys @audit2";
    // A rehearsal makes no key.
    let rehearsed = world.hq(&format!("trust draft --dry-run {keys}")).ok();
    assert_eq!(rehearsed.json()["dry_run"], true);
    world.next_trust(keys, &["alice", "bob"]);
    world.hq("media import $D/media").ok();
    world.carry_out("berlin").exits_done();
    world.requests("more", 3..=4);
    world.issue("more").ok();
    world.carry_home("berlin").exits_done();
    assert_eq!(world.reconcile()["balanced"], true);
    world.enrol("paris");
    world.hq("ca export --output $D/ca").ok();
    let ca = world.path("ca");
    let paris = ca.join("device-ca-paris_v1.pem");
    assert!(verify(&ca, "root.pem", &[], &paris));
    assert!(verify(&ca, "root-1.pem", &["root-link.pem"], &paris));
}

#[test]
fn another_dispatch_key_sends_again_what_was_not_seen_and_ends_the_epoch_before() {
    let world = World::ready();
    world.requests("line", 1..=2);
    world.issue("line").ok();
    world.carry_home("berlin").exits_done();
    // An acknowledgement and an entitlement that nobody has seen.
    world.hq("media export $D/media").ok();
    world.mint("berlin", &other_policy());
    world.hq("media export $D/media").ok();
    let folder = world.on_stick("to-berlin_v1");
    files::copy(&folder, &world.path("old-stick/mintmark/to-berlin_v1"));
    assert!(folder.join("dispatch-1-000004.cose").exists());

    world.next_trust("--dispatch-keys @dispatch2", &["alice", "bob"]);
    let carried = world.carry_out("berlin").exits_done();
    // What is over was taken off the stick.
    assert!(!folder.join("dispatch-1-000004.cose").exists());
    let entitlement = carried.item("dispatch-2-000001.cose");
    assert_eq!(entitlement["type"], "entitlement", "{carried}");
    assert_eq!(entitlement["outcome"], "imported");
    assert_eq!(
        carried.item("dispatch-2-000002.cose")["type"],
        "acknowledgement"
    );
    let status = world.status("berlin");
    assert_eq!(status["dispatch"]["epoch"], 2);
    assert_eq!(status["bundle"]["acknowledged"], 1);
    assert_eq!(status["accounts"].as_array().unwrap().len(), 2);

    // A stick from before comes late: nothing of it counts, and nothing breaks.
    let late = world.site("media import $D/old-stick").ok();
    let item = late.item("dispatch-1-000004.cose");
    let over = "DISPATCH-EPOCH-OVER";
    assert_eq!(
        (&item["outcome"], &item["code"]),
        (&"already".into(), &over.into()),
        "{late}"
    );
    assert!(late.warning_codes().contains(&over.to_owned()), "{late}");
    assert_eq!(world.status("berlin")["log_size"], status["log_size"]);

    world.requests("more", 3..=4);
    world.issue("more").ok();
    world.carry_home("berlin").exits_done();
    world.carry_out("berlin").exits_done();
    assert_eq!(world.reconcile()["balanced"], true);
}
