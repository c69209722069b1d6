//! A vault that is killed, or whose disk fails, at any of the system calls by which it changes something on disk: the same
//! command again, or `site recover`, goes on right.
//!
//! Here every call of a sample is tried. All of them, which takes long:
//! `cargo nextest run -p mintmark-tests --test crash_sweep --run-ignored all`
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::collections::BTreeSet;
use std::fs;

use mintmark_tests::strike::{Change, Changes, Fate};
use mintmark_tests::sweep::{
    Sample, Scene, VAULT, delivered, expect_balanced, failing, killed, number,
};
use mintmark_tests::world::POLICY;
use mintmark_tests::{Stores, Tool, World, files};

/// Devices in the folder that is issued for.
const DEVICES: u32 = 3;

/// The same command again gives every device its certificate, the same that may be out already, and no slot twice.
fn expect_issued(world: &World, at: &str) {
    expect_balanced(world, at);
    let before = delivered(world);
    let run = world.issue("mass").run();
    assert_eq!(run.exit, 0, "{at}: {run}");
    let rows = run.lines();
    let slots: BTreeSet<u64> = rows.iter().map(|row| number(row, "slot")).collect();
    assert_eq!(
        (rows.len(), slots.len()),
        (DEVICES as usize, DEVICES as usize),
        "{at}: {run}"
    );
    let now = delivered(world);
    assert_eq!(now.len(), DEVICES as usize, "{at}");
    for (name, bytes) in before {
        assert!(now[&name] == bytes, "{at}: {name} was changed");
    }
    let account = expect_balanced(world, at);
    assert_eq!(
        (number(&account, "good"), number(&account, "unresolved")),
        (u64::from(DEVICES), 0),
        "{at}: {account}"
    );
    let verified = world.site("audit verify").run();
    assert_eq!(verified.exit, 0, "{at}: {verified}");
}

/// HQ finds nothing wrong with what the vault is in the end.
fn expect_reported(world: &World, good: u64) {
    world.carry_home("berlin").exits_done();
    let report = world.reconcile();
    assert_eq!(report["balanced"], true, "{report}");
    assert_eq!(report["findings"].as_array().unwrap().len(), 0, "{report}");
    assert_eq!(number(&report["accounts"][0], "good"), good);
}

/// A vault that may issue, with requests of [`DEVICES`].
fn ready(stores: Stores) -> World {
    let world = World::ready_in(stores);
    world.requests("mass", 0..DEVICES);
    world
}

fn issue(world: &World) -> Tool {
    world.issue("mass")
}

fn recover(world: &World) -> Tool {
    world.site("recover")
}

fn import(world: &World) -> Tool {
    world.site("media import $D/media")
}

fn export(world: &World) -> Tool {
    world.site("media export $D/media")
}

fn sweep_issue(stores: Stores, sample: Sample) {
    let world = ready(stores);
    let scene = Scene {
        world: &world,
        places: &VAULT,
        command: &issue,
    };
    scene.sweep(sample, killed, |world, _, at| expect_issued(world, at));
    expect_issued(&world, "in the end");
    expect_reported(&world, u64::from(DEVICES));
}

fn sweep_recover(stores: Stores, sample: Sample) {
    let world = ready(stores);
    leave_open(&world);
    let open = number(&world.status("berlin")["accounts"][0], "unresolved");
    assert_eq!(open, u64::from(DEVICES));
    let scene = Scene {
        world: &world,
        places: &VAULT,
        command: &recover,
    };
    scene.sweep(sample, killed, |world, _, at| {
        expect_balanced(world, at);
        let again = world.site("recover").run();
        assert_eq!(again.exit, 0, "{at}: {again}");
        let account = expect_balanced(world, at);
        assert_eq!(
            (number(&account, "good"), number(&account, "unresolved")),
            (open, 0),
            "{at}"
        );
        expect_issued(world, at);
    });
    expect_issued(&world, "in the end");
    expect_reported(&world, u64::from(DEVICES));
}

/// Kills `site issue` where its units are reserved and none is signed for.
fn leave_open(world: &World) {
    let changes = Changes {
        below: world.folder(),
    };
    let scene = Scene {
        world,
        places: &VAULT,
        command: &issue,
    };
    scene.save();
    let (_, listed) = changes.of(&issue(world));
    let log = |change: &&Change| change.name == "pwrite64" && change.target.ends_with(".log");
    for write in listed.iter().filter(log) {
        scene.restore();
        changes.with(&issue(world), write, Fate::Killed);
        if number(&world.status("berlin")["accounts"][0], "unresolved") == u64::from(DEVICES) {
            return;
        }
    }
    panic!("no moment leaves every unit open: {listed:?}");
}

fn sweep_import(stores: Stores, sample: Sample) {
    let world = ready(stores);
    world.issue("mass").ok();
    world.carry_home("berlin").exits_done();
    let more = POLICY.replace("\"th200\"", "\"th201\"");
    world.mint("berlin", &more);
    world.hq("media export $D/media").ok();
    let scene = Scene {
        world: &world,
        places: &VAULT,
        command: &import,
    };
    scene.sweep(sample, killed, |world, _, at| {
        expect_balanced(world, at);
        let run = world.site("media import $D/media").run();
        assert_eq!(run.exit, 0, "{at}: {run}");
        let status = world.status("berlin");
        let accounts = status["accounts"].as_array().unwrap();
        assert_eq!(accounts.len(), 2, "{at}: {status}");
        assert!(
            accounts.iter().all(|account| account["authorised"] == 1000),
            "{at}: {status}"
        );
        expect_issued(world, at);
    });
    world.site("media import $D/media").ok();
    expect_reported(&world, u64::from(DEVICES));
}

fn sweep_export(stores: Stores, sample: Sample) {
    let world = ready(stores);
    world.issue("mass").ok();
    let scene = Scene {
        world: &world,
        places: &VAULT,
        command: &export,
    };
    scene.sweep(sample, killed, |world, _, at| {
        expect_balanced(world, at);
        let run = world.site("media export $D/media").run();
        assert_eq!(run.exit, 0, "{at}: {run}");
        // The very same bundle on another medium.
        fs::create_dir_all(world.path("other")).unwrap();
        let other = world.site("media export $D/other").run();
        assert_eq!(other.exit, 0, "{at}: {other}");
        let bundles = |place: &str| {
            let mut found = files::contents(&world.path(place));
            found.retain(|name, _| name.contains("to-hq/") && !name.ends_with(".part"));
            found
        };
        let (here, there) = (bundles("media"), bundles("other"));
        let differing = there
            .iter()
            .filter(|(name, bytes)| here.get(*name) != Some(*bytes));
        assert_eq!(differing.count(), 0, "{at}");
        assert!(!there.is_empty(), "{at}");
        expect_issued(world, at);
    });
    world.site("media export $D/media").ok();
    expect_reported(&world, u64::from(DEVICES));
}

fn sweep_init(stores: Stores, sample: Sample) {
    let world = World::empty(stores);
    world.ceremony(&["alice", "bob"], "");
    let uri = world.keys("berlin");
    let shown = world.hq("trust show").ok().text("fingerprint");
    let init = move |world: &World| {
        let line =
            "init --site-id berlin --trust $D/media/mintmark/trust-000001.cose --fingerprint";
        world.site(&format!("{line} {shown} --keys {uri}"))
    };
    let scene = Scene {
        world: &world,
        places: &VAULT,
        command: &init,
    };
    scene.sweep(sample, killed, |world, _, at| {
        if !world.path("berlin").exists() {
            let run = init(world).run();
            // SoftHSM made half of a key: nobody but its own tool removes that, or another token is taken.
            if at.contains("/tokens/") && run.codes() == ["KEY-EXISTS"] {
                assert_eq!(run.exit, 3, "{at}: {run}");
                return;
            }
            assert_eq!(run.exit, 0, "{at}: {run}");
        }
        let status = world.site("status").run();
        assert_eq!(status.exit, 0, "{at}: {status}");
        assert_eq!(status.json()["enrolled"], false, "{at}: {status}");
        let run = world.site("media export $D/media").run();
        assert_eq!(run.exit, 0, "{at}: {run}");
    });
    init(&world).ok();
    world.let_in("berlin", &["alice", "bob"]);
    world.grant("berlin", POLICY);
    world.requests("mass", 0..DEVICES);
    expect_issued(&world, "in the end");
    expect_reported(&world, u64::from(DEVICES));
}

/// Failing calls: never a wrong success, exit 3 only where nothing was changed, and afterwards it goes on right.
fn sweep_faults(stores: Stores, sample: Sample) {
    let world = ready(stores);
    let before = world.status("berlin")["accounts"][0].clone();
    let scene = Scene {
        world: &world,
        places: &VAULT,
        command: &issue,
    };
    scene.sweep(sample, failing, |world, run, at| {
        let account = expect_balanced(world, at);
        match run.exit {
            0 => assert_eq!(delivered(world).len(), DEVICES as usize, "{at}: {run}"),
            3 => {
                if account != before {
                    // Certificates that are on record and could not be written down are given again.
                    assert_eq!(number(&account, "unresolved"), 0, "{at}: {run}");
                    println!("exit 3 with units recorded: {:?} at {at}", run.codes());
                }
            }
            5 => {
                let found = world.site("recover").run();
                assert_eq!(found.exit, 0, "{at}: {run}\n{found}");
                assert_eq!(expect_balanced(world, at)["unresolved"], 0, "{at}");
            }
            _ => panic!("{at}: {run}"),
        }
        expect_issued(world, at);
    });
    expect_issued(&world, "in the end");
    expect_reported(&world, u64::from(DEVICES));
}

/// The same for what travels, and for recovery.
fn sweep_faults_of(prepare: impl Fn(&World), command: &dyn Fn(&World) -> Tool, sample: Sample) {
    let world = ready(Stores::Files);
    prepare(&world);
    let scene = Scene {
        world: &world,
        places: &VAULT,
        command,
    };
    scene.sweep(sample, failing, |world, run, at| {
        assert!(matches!(run.exit, 0 | 3 | 5), "{at}: {run}");
        expect_balanced(world, at);
        if run.exit == 5 {
            let found = world.site("recover").run();
            assert_eq!(found.exit, 0, "{at}: {run}\n{found}");
        }
        let again = command(world).run();
        assert_eq!(again.exit, 0, "{at}: {run}\n{again}");
        expect_issued(world, at);
    });
    command(&world).ok();
    expect_issued(&world, "in the end");
    expect_reported(&world, u64::from(DEVICES));
}

/// The index writes in threads of its own: whoever waits for one of them is told.
#[test]
fn a_write_of_the_index_that_fails_late_keeps_nobody_waiting() {
    let world = ready(Stores::Files);
    let scene = Scene {
        world: &world,
        places: &VAULT,
        command: &issue,
    };
    scene.save();
    let changes = Changes {
        below: world.folder(),
    };
    let (run, calls) = changes.of(&issue(&world));
    assert_eq!(run.exit, 0, "{run}");
    let mut struck = 0;
    let of_index = |call: &&Change| call.target.ends_with("index/sled/db");
    for call in calls.iter().filter(of_index) {
        scene.restore();
        let (run, met) = changes.with(&issue(&world), call, Fate::Fails("EIO"));
        assert!(matches!(run.exit, 0 | 3 | 5), "{call:?}: {run}");
        struck += u32::from(met);
        world.site("recover").ok();
    }
    assert!(struck >= 4, "{struck}");
    expect_issued(&world, "in the end");
}

macro_rules! sweeps {
    ($($name:ident, $all:ident: $sweep:expr, $one_in:expr;)*) => {$(
        #[test]
        fn $name() {
            $sweep(Sample::Kinds { one_in: $one_in, from: $one_in / 2 });
        }

        #[test]
        #[ignore = "every single call: takes many minutes"]
        fn $all() {
            $sweep(Sample::All);
        }
    )*};
}

sweeps! {
    issuing_with_key_files_that_was_killed_goes_on_right, issuing_with_key_files_killed_at_every_call:
        |sample| sweep_issue(Stores::Files, sample), 11;
    issuing_with_a_token_that_was_killed_goes_on_right, issuing_with_a_token_killed_at_every_call:
        |sample| sweep_issue(Stores::Tokens, sample), 17;
    a_recovery_that_was_killed_is_done_by_the_next_one, a_recovery_killed_at_every_call:
        |sample| sweep_recover(Stores::Files, sample), 13;
    a_recovery_with_a_token_that_was_killed_is_done_by_the_next_one, a_recovery_with_a_token_killed_at_every_call:
        |sample| sweep_recover(Stores::Tokens, sample), 17;
    an_import_that_was_killed_is_done_by_the_next_one, an_import_killed_at_every_call:
        |sample| sweep_import(Stores::Files, sample), 13;
    an_export_that_was_killed_is_done_by_the_next_one, an_export_killed_at_every_call:
        |sample| sweep_export(Stores::Files, sample), 13;
    an_init_that_was_killed_leaves_no_home_or_a_whole_one, an_init_killed_at_every_call:
        |sample| sweep_init(Stores::Files, sample), 17;
    an_init_with_a_token_that_was_killed_leaves_no_home_or_a_whole_one, an_init_with_a_token_killed_at_every_call:
        |sample| sweep_init(Stores::Tokens, sample), 23;
    issuing_on_a_failing_disk_never_claims_more_than_is_durable, issuing_with_every_call_failing:
        |sample| sweep_faults(Stores::Files, sample), 23;
    a_recovery_on_a_failing_disk_is_done_by_the_next_one, a_recovery_with_every_call_failing:
        |sample| sweep_faults_of(leave_open, &recover, sample), 19;
    an_import_on_a_failing_disk_is_done_by_the_next_one, an_import_with_every_call_failing:
        |sample| sweep_faults_of(mint_more, &import, sample), 19;
    an_export_on_a_failing_disk_is_done_by_the_next_one, an_export_with_every_call_failing:
        |sample| sweep_faults_of(|world| drop(world.issue("mass").ok()), &export, sample), 19;
}

/// Something for the vault to import.
fn mint_more(world: &World) {
    world.mint("berlin", &POLICY.replace("\"th200\"", "\"th201\""));
    world.hq("media export $D/media").ok();
}
