//! `hq recover`, killed or with a failing disk at any of the system calls by which it changes something: the registry that was there
//! is never gone before the new one stands, nothing goes out that must not, and the same command again recovers.
//!
//! Here one call of each of a few kinds is tried. All of them, which takes long:
//! `cargo nextest run -p mintmark-tests --test crash_sweep_of_recovery --run-ignored all`
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::fs;
use std::path::PathBuf;

use mintmark_tests::strike::{Change, Fate};
use mintmark_tests::sweep::{Sample, Scene, failing, killed};
use mintmark_tests::{Run, Tool, World, files};
use serde_json::Value;

/// What the command may change.
const HEADQUARTERS: [&str; 2] = ["hq", "media"];

const REGISTRY: &str = "hq/registry.sqlite";

type Fates = fn(&Change) -> Vec<Fate>;

fn recover(world: &World) -> Tool {
    world.hq("recover")
}

/// What headquarters says of everything, but for the present time.
fn said(world: &World) -> [Value; 3] {
    let report = world.reconcile();
    let vaults = world.hq("site list").ok().json();
    [
        report["accounts"].clone(),
        report["findings"].clone(),
        vaults,
    ]
}

/// A headquarters that has sent and received something.
fn reported() -> World {
    let world = World::ready();
    world.requests("mass", 0..2);
    world.issue("mass").ok();
    world.carry_home("berlin").exits_done();
    world.hq("media export $D/media").ok();
    world
}

/// The registries that an earlier one was kept in.
fn replaced(world: &World) -> Vec<PathBuf> {
    let entries = fs::read_dir(world.path("hq")).unwrap();
    let paths = entries.map(|entry| entry.unwrap().path());
    let kept = paths.filter(|path| {
        let name = path.file_name().unwrap().to_str().unwrap();
        name.starts_with("registry-replaced-")
    });
    kept.map(|folder| folder.join("registry.sqlite")).collect()
}

/// The registry that was there is in its place, or the new one is and the other is beside it. Returns whether it is the new one.
fn expect_none_lost(world: &World, old: &[u8], at: &str) -> bool {
    let is_new = fs::read(world.path(REGISTRY)).unwrap() != old;
    if is_new {
        let kept = replaced(world).into_iter();
        let mut kept = kept.filter_map(|path| fs::read(path).ok());
        assert!(
            kept.any(|kept| kept == old),
            "{at}: the registry that was there is gone"
        );
    }
    is_new
}

/// How a command that was struck may end.
fn expect_end(run: &Run, whole: i32, at: &str) {
    assert!([-1, whole, 3, 5].contains(&run.exit), "{at}: {run}");
}

/// The registry is there, and what the record has beside it is lost: it is made again, and that is put back.
fn of_a_whole_record(sample: Sample, fates: Fates) {
    let world = reported();
    let before = said(&world);
    let requests = files::contents(&world.path("hq/record/enrolments"));
    assert!(!requests.is_empty());
    fs::remove_dir_all(world.path("hq/record/enrolments")).unwrap();
    let old = fs::read(world.path(REGISTRY)).unwrap();
    let scene = Scene {
        world: &world,
        places: &HEADQUARTERS,
        command: &recover,
    };
    scene.sweep(sample, fates, |world, run, at| {
        expect_end(run, 0, at);
        expect_none_lost(world, &old, at);
        // Whichever it is, it is one to go by.
        assert_eq!(said(world), before, "{at}: {run}");
        let again = recover(world).run();
        assert_eq!(again.exit, 0, "{at}: {run}\n{again}");
        assert_eq!(again.json()["counts_as_restored"], false, "{at}: {again}");
        assert_eq!(said(world), before, "{at}: {run}");
        assert_eq!(
            files::contents(&world.path("hq/record/enrolments")),
            requests,
            "{at}"
        );
        assert!(!world.path("hq/registry.part").exists(), "{at}");
        world.hq("media export $D/media").ok();
    });
}

/// The registry is an older copy: it is refused until the new one stands.
fn of_an_old_registry(sample: Sample, fates: Fates) {
    let world = World::ready();
    let old = fs::read(world.path(REGISTRY)).unwrap();
    world.requests("mass", 0..2);
    world.issue("mass").ok();
    world.carry_home("berlin").exits_done();
    world.hq("media export $D/media").ok();
    let before = said(&world);
    for beside in ["-wal", "-shm"] {
        let _ = fs::remove_file(world.path(&format!("{REGISTRY}{beside}")));
    }
    fs::write(world.path(REGISTRY), &old).unwrap();
    let scene = Scene {
        world: &world,
        places: &HEADQUARTERS,
        command: &recover,
    };
    scene.sweep(sample, fates, |world, run, at| {
        expect_end(run, 0, at);
        if expect_none_lost(world, &old, at) {
            assert_eq!(said(world), before, "{at}: {run}");
        } else {
            let refused = world.hq("media export $D/media").run();
            assert_eq!(
                refused.codes(),
                ["REGISTRY-STALE"],
                "{at}: {run}\n{refused}"
            );
        }
        let again = recover(world).run();
        assert_eq!(again.exit, 0, "{at}: {run}\n{again}");
        assert_eq!(said(world), before, "{at}: {run}");
        world.hq("media export $D/media").ok();
    });
}

/// A dispatch is lost that the registry knows of: nothing goes out of a registry without it, at no moment.
fn of_a_record_that_lacks_something(sample: Sample, fates: Fates) {
    let world = reported();
    let sent = fs::read_dir(world.path("hq/record/sent/berlin_v1")).unwrap();
    let sent = sent.map(|entry| entry.unwrap().path());
    let newest = sent.max().unwrap();
    let name = newest.file_name().unwrap().to_str().unwrap().to_owned();
    fs::remove_file(&newest).unwrap();
    let times = fs::read_to_string(world.path("hq/record/times")).unwrap();
    let lines = times.lines().filter(|line| !line.contains(&name));
    let times: String = lines.map(|line| format!("{line}\n")).collect();
    fs::write(world.path("hq/record/times"), times).unwrap();
    let old = fs::read(world.path(REGISTRY)).unwrap();
    let scene = Scene {
        world: &world,
        places: &HEADQUARTERS,
        command: &recover,
    };
    scene.sweep_ending(1, sample, fates, |world, run, at| {
        expect_end(run, 1, at);
        let is_new = expect_none_lost(world, &old, at);
        let export = world.hq("media export $D/media").run();
        assert_ne!(export.exit, 0, "{at}: {run}\n{export}");
        if is_new {
            // The mark of how far the old one was is taken back last.
            let codes = export.codes();
            let refused = ["RESTORE-UNDECLARED", "REGISTRY-STALE"];
            assert!(
                codes.iter().all(|code| refused.contains(&&**code)),
                "{at}: {export}"
            );
        }
        let again = recover(world).run();
        assert_eq!(again.exit, 1, "{at}: {run}\n{again}");
        let again = again.json();
        assert_eq!(again["counts_as_restored"], true, "{at}: {again}");
        let named = again["not_recovered"].to_string();
        assert!(named.contains(&name), "{at}: {named}");
        let export = world.hq("media export $D/media").run();
        assert_eq!(export.codes(), ["RESTORE-UNDECLARED"], "{at}: {export}");
    });
}

macro_rules! sweeps {
    ($($killed:ident, $all_killed:ident, $all_failing:ident: $sweep:expr, $one_in:expr, $from:expr;)*) => {$(
        #[test]
        fn $killed() {
            $sweep(Sample::Kinds { one_in: $one_in, from: $from }, killed);
        }

        #[test]
        #[ignore = "every single call: takes minutes"]
        fn $all_killed() {
            $sweep(Sample::All, killed);
        }

        #[test]
        #[ignore = "a call of every kind, in every way: takes minutes"]
        fn $all_failing() {
            $sweep(Sample::Kinds { one_in: 1, from: 0 }, failing);
        }
    )*};
}

sweeps! {
    a_recovery_that_was_killed_is_run_again, a_recovery_killed_at_every_call,
        a_recovery_on_a_failing_disk_is_run_again: of_a_whole_record, 3, 0;
    a_recovery_of_an_old_registry_that_was_killed_is_run_again, a_recovery_of_an_old_registry_killed_at_every_call,
        a_recovery_of_an_old_registry_on_a_failing_disk_is_run_again: of_an_old_registry, 3, 1;
    a_recovery_that_lacks_something_and_was_killed_lets_nothing_out,
        a_recovery_that_lacks_something_killed_at_every_call_lets_nothing_out,
        a_recovery_that_lacks_something_on_a_failing_disk_lets_nothing_out:
        of_a_record_that_lacks_something, 3, 2;
}
