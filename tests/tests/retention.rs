//! A vault lets go of what headquarters holds: what its log adds up to stays, and headquarters notices nothing.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::fs;
use std::path::PathBuf;

use mintmark_tests::clock::DAY;
use mintmark_tests::service::let_in;
use mintmark_tests::strike::{Change, Fate};
use mintmark_tests::sweep::{Sample, Scene, VAULT, expect_balanced, failing, killed, number};
use mintmark_tests::world::POLICY;
use mintmark_tests::{Service, Tool, World, files, request};
use serde_json::{Value, json};

const CONFIRMED: &str = "log prune --confirm berlin/v1";

/// A vault that may prune after a day what headquarters acknowledged, and has so many devices.
fn retaining(devices: u32) -> World {
    let policy = POLICY
        .replace("valid_for_days", "retention_days = 1\nvalid_for_days")
        .replace("units = 1000\n", "units = 1000\nreissues_per_device = 1\n");
    let world = World::with_policy(&policy);
    world.requests("first", 1..=devices);
    world.issue("first").ok();
    world
}

/// Everything that there is is reported and acknowledged.
#[track_caller]
fn report(world: &World) {
    world.carry_home("berlin").exits_done();
    world.carry_out("berlin").exits_done();
}

#[track_caller]
fn prune(world: &World) -> Value {
    world.site(CONFIRMED).ok().json()
}

fn pruned_files(world: &World) -> Vec<PathBuf> {
    let files = fs::read_dir(world.path("berlin/log")).unwrap();
    let files = files.map(|file| file.unwrap().path());
    files
        .filter(|path| path.extension().is_some_and(|name| name == "pruned"))
        .collect()
}

/// What follows from the log is gone.
fn forget_derived(world: &World) {
    let _ = fs::remove_file(world.path("berlin/state.snapshot"));
    let _ = fs::remove_dir_all(world.path("berlin/index"));
}

#[track_caller]
fn expect_nothing_found(world: &World) -> Value {
    world.carry_home("berlin").exits_done();
    let report = world.reconcile();
    assert_eq!(report["balanced"], true, "{report}");
    assert_eq!(report["findings"], json!([]), "{report}");
    report["accounts"][0].clone()
}

#[test]
fn a_vault_prunes_what_headquarters_holds_and_goes_on_as_before() {
    let world = retaining(6);
    assert_eq!(number(&prune(&world), "records"), 0, "nothing is reported");
    report(&world);
    assert_eq!(number(&prune(&world), "records"), 0, "it is of today");
    world.set_clock(2 * DAY);

    world.site("log prune").fails(2, "CONFIRMATION-REQUIRED");
    let wrong = world.site("log prune --confirm berlin");
    wrong.fails(3, "CONFIRMATION-MISMATCH");
    let before = world.status("berlin");
    let plan = world.site("log prune --dry-run").ok().json();
    assert_eq!(world.status("berlin"), before, "nothing was changed");
    assert_eq!(plan["dry_run"], true);
    let done = prune(&world);
    assert_eq!(done["schema"], "mintmark/log/1");
    assert_eq!((&done["end"], &done["held"]), (&plan["end"], &plan["held"]));
    assert!(number(&done, "log_bytes") < number(&done, "log_bytes_before"));
    assert_eq!(pruned_files(&world).len(), 1);
    assert_eq!(number(&prune(&world), "records"), 0, "it was done");
    assert_eq!(world.status("berlin")["log_pruned"], done["end"]);

    // What it knows, it knows still; the certificates are at headquarters.
    let shown = world.site("device show TH200-00000003").ok().json();
    assert_eq!(
        (&shown["status"], &shown["slot"]),
        (&json!("good"), &json!(2))
    );
    assert_eq!(shown["certificate"], Value::Null);
    for stored in [true, false] {
        if !stored {
            forget_derived(&world);
        }
        let again = world.issue("first").exits(1).lines();
        let codes = again.iter().map(|row| row["code"].as_str().unwrap());
        assert_eq!(codes.collect::<Vec<_>>(), ["CERTIFICATE-PRUNED"; 6]);
        world.site("audit verify").ok();
    }
    world.requests("second", 7..=9);
    world.issue("second").ok();
    let serial = shown["serial"].as_str().unwrap();
    let held = world.hq(&format!("device show {serial}")).ok().json();
    assert_eq!(held["device_id"], "TH200-00000003");

    // Another certificate for a device whose own was pruned.
    let rework = "device rework TH200-00000003 --reason another-board";
    world.site(rework).ok();
    request::write(&world.path("csr").join("other"), "TH200-00000003");
    let elsewhere = "issue --product TH-200 --csr $D/csr/other --output $D/other";
    let row = world.site(elsewhere).ok().lines().remove(0);
    assert_eq!(row["outcome"], "issued", "{row}");
    expect_balanced(&world, "after it was pruned");

    let account = expect_nothing_found(&world);
    assert_eq!(number(&account, "good"), 9);
    let rows = world.hq("audit log --site berlin").ok().lines();
    assert_eq!(rows.iter().filter(|row| row["kind"] == "pruned").count(), 1);
    world.carry_out("berlin").exits_done();

    // And once more, a day later.
    world.set_clock(4 * DAY);
    let more = prune(&world);
    assert_eq!(more["first"], done["end"]);
    assert!(pruned_files(&world).len() > 1);
    forget_derived(&world);
    world.site("audit verify").ok();
    world.requests("third", 10..=10);
    world.issue("third").ok();
    assert_eq!(number(&expect_nothing_found(&world), "good"), 10);
}

#[test]
fn a_vault_whose_entitlement_does_not_say_so_prunes_nothing() {
    let world = World::ready();
    world.set_clock(30 * DAY);
    let refused = world.site(CONFIRMED).fails(1, "RETENTION-UNSET");
    assert!(refused.stderr.contains("th200"), "{refused}");
    assert_eq!(pruned_files(&world), [] as [PathBuf; 0]);
}

#[test]
fn what_is_kept_of_pruned_records_is_believed_as_the_log_has_it_alone() {
    let world = retaining(3);
    report(&world);
    world.set_clock(2 * DAY);
    prune(&world);
    let path = pruned_files(&world).remove(0);
    let kept = fs::read(&path).unwrap();
    let mut damaged = kept.clone();
    let last = damaged.len() - 1;
    damaged[last] ^= 1;
    fs::write(&path, &damaged).unwrap();
    world.site("audit verify").fails(4, "LOG-CORRUPT");
    forget_derived(&world);
    world.requests("second", 4..=4);
    world.issue("second").fails(4, "LOG-CORRUPT");
    fs::remove_file(&path).unwrap();
    world.issue("second").fails(4, "LOG-MISSING");
    fs::write(&path, &kept).unwrap();
    world.issue("second").ok();
    world.site("audit verify").ok();
    assert_eq!(number(&expect_nothing_found(&world), "good"), 4);
}

#[test]
fn what_a_restored_headquarters_has_forgotten_is_not_pruned() {
    let world = retaining(2);
    report(&world);
    files::copy(&world.path("hq"), &world.path("hq-copy"));
    world.requests("second", 3..=5);
    world.issue("second").ok();
    report(&world);
    restore_headquarters(&world);
    world.carry_out("berlin").exits_done();
    world.set_clock(2 * DAY);

    let first = prune(&world);
    let again = world.issue("second").ok().lines();
    assert!(again.iter().all(|row| row["outcome"] == "existing"));
    assert_eq!(world.issue("first").exits(1).lines().len(), 2);
    world.carry_home("berlin");
    let account = world.reconcile()["accounts"][0].clone();
    assert_eq!(number(&account, "good"), 5);
    world.carry_out("berlin").exits_done();
    let rest = prune(&world);
    assert!(rest["end"].as_u64() > first["end"].as_u64(), "{rest}");
    world.issue("second").exits(1);
    world.site("audit verify").ok();
}

/// Headquarters goes back to `$D/hq-copy`, and says so; the sticks are gone.
fn restore_headquarters(world: &World) {
    fs::remove_dir_all(world.path("hq")).unwrap();
    files::copy(&world.path("hq-copy"), &world.path("hq"));
    fs::remove_dir_all(world.path("media")).unwrap();
    fs::create_dir(world.path("media")).unwrap();
    let draft = "$D/officers/epoch.draft";
    world.hq(&format!("trust epoch --output {draft}")).ok();
    world.approve(draft);
    world.hq("trust publish --media $D/media").ok();
}

#[test]
fn a_vault_that_is_asked_again_for_what_it_pruned_needs_the_bundles_that_brought_it() {
    let world = retaining(2);
    files::copy(&world.path("hq"), &world.path("hq-copy"));
    report(&world);
    world.set_clock(2 * DAY);
    assert!(number(&prune(&world), "records") > 0);
    files::copy(&world.path("berlin/outbox"), &world.path("outbox-copy"));
    restore_headquarters(&world);
    world.carry_out("berlin").exits_done();
    for file in files::below(&world.path("berlin/outbox")) {
        fs::remove_file(file).unwrap();
    }
    let refused = world.site("media export $D/media").fails(4, "LOG-PRUNED");
    assert!(refused.stderr.contains("outbox"), "{refused}");
    // With them, headquarters gets what it forgot.
    fs::remove_dir_all(world.path("berlin/outbox")).unwrap();
    files::copy(&world.path("outbox-copy"), &world.path("berlin/outbox"));
    world.carry_home("berlin");
    let account = world.reconcile()["accounts"][0].clone();
    assert_eq!(number(&account, "good"), 2);
}

#[test]
fn a_service_prunes_beside_its_work() {
    let world = retaining(2);
    let_in(&world, "line-1", "");
    report(&world);
    world.set_clock(2 * DAY);
    let service = Service::start(&world, "");
    let done = prune(&world);
    assert!(number(&done, "records") > 0, "{done}");
    world.requests("second", 3..=3);
    world.issue("second").ok();
    let verified = world.site("audit verify").ok().json();
    assert_eq!(verified["verified"], true);
    assert_eq!(service.stop(), 0);
    assert_eq!(number(&expect_nothing_found(&world), "good"), 3);
}

fn command(world: &World) -> Tool {
    world.site(CONFIRMED)
}

fn sweep(sample: Sample, fates: fn(&Change) -> Vec<Fate>) {
    let world = retaining(3);
    report(&world);
    world.requests("second", 4..=4);
    world.issue("second").ok();
    world.set_clock(2 * DAY);
    let scene = Scene {
        world: &world,
        places: &VAULT,
        command: &command,
    };
    scene.sweep(sample, fates, |world, run, at| {
        assert!([-1, 0, 3, 5].contains(&run.exit), "{at}: {run}");
        expect_balanced(world, at);
        let again = world.site(CONFIRMED).run();
        assert_eq!(again.exit, 0, "{at}: {again}");
        forget_derived(world);
        let verified = world.site("audit verify").run();
        assert_eq!(verified.exit, 0, "{at}: {verified}");
        let rows = world.issue("first").run().lines();
        let codes: Vec<_> = rows.iter().map(|row| row["code"].as_str()).collect();
        assert_eq!(codes, [Some("CERTIFICATE-PRUNED"); 3], "{at}");
        expect_balanced(world, at);
    });
    prune(&world);
    assert_eq!(number(&expect_nothing_found(&world), "good"), 4);
}

#[test]
fn a_prune_that_is_killed_anywhere_leaves_the_log_whole_or_pruned() {
    sweep(Sample::Kinds { one_in: 5, from: 0 }, killed);
}

#[test]
fn a_prune_whose_disk_fails_says_so_and_can_be_done_again() {
    sweep(
        Sample::Kinds {
            one_in: 12,
            from: 4,
        },
        failing,
    );
}

#[test]
#[ignore = "every system call, in every way: minutes"]
fn a_prune_whose_disk_fails_at_any_system_call_says_so_and_can_be_done_again() {
    sweep(Sample::All, failing);
}

#[test]
#[ignore = "every system call: minutes"]
fn a_prune_that_is_killed_at_any_system_call_leaves_the_log_whole_or_pruned() {
    sweep(Sample::All, killed);
}
