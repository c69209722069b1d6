//! A backup or a restore that is killed, or whose disk is full or fails, at any of the calls by which it changes something on disk. What has the
//! name of a backup is a whole one, and what has the name of a home is a whole one; the same command again goes on right.

use std::fs;
use std::path::Path;

use mintmark_tests::strike::{Change, Changes, Fate};
use mintmark_tests::sweep::{Sample, Scene, failing, killed};
use mintmark_tests::{Run, Tool, World, files};

use super::{hq_backup, issue, names, options, site_backup};

fn ready() -> World {
    let world = World::ready();
    world.make_recovery_key();
    issue(&world, "two", 1..=2);
    fs::create_dir_all(world.path("fresh")).unwrap();
    world
}

/// What has the name is whole; the command again makes it, unless it is there.
fn expect_sealed(world: &World, of: &str, run: &Run, at: &str) {
    let there = world.path("backups/one").exists();
    assert!(there || run.exit != 0, "{at}: {run}");
    if !there {
        let again = match of {
            "hq" => hq_backup(world, "one"),
            _ => site_backup(world, "one"),
        };
        again.ok();
    }
    let signer = world
        .hq("backup inspect $D/backups/one")
        .ok()
        .text("signer");
    world
        .hq(&format!(
            "backup verify $D/backups/one --signer {signer} --words $D/words"
        ))
        .ok();
}

#[test]
fn a_backup_that_was_stopped_is_none_and_is_made_again() {
    let world = ready();
    for of in ["hq", "site"] {
        let command = |world: &World| -> Tool {
            match of {
                "hq" => hq_backup(world, "one"),
                _ => site_backup(world, "one"),
            }
        };
        let scene = Scene {
            world: &world,
            places: &["backups"],
            command: &command,
        };
        let check = |world: &World, run: &Run, at: &str| expect_sealed(world, of, run, at);
        let sample = Sample::Kinds { one_in: 1, from: 0 };
        scene.sweep(sample, killed, check);
        scene.sweep(Sample::Kinds { one_in: 2, from: 0 }, failing, check);
    }
}

#[test]
fn a_restore_that_was_stopped_leaves_no_home_and_is_done_again() {
    let world = ready();
    let said = site_backup(&world, "one").ok();
    let put_back = options(&said, "one");
    let command = |world: &World| world.site(&format!("--home $D/fresh/berlin {put_back}"));
    let whole = world.status("berlin")["log_root"].clone();
    let scene = Scene {
        world: &world,
        places: &["fresh"],
        command: &command,
    };
    let check = |world: &World, run: &Run, at: &str| {
        // Half a home is none, under whatever name it is asked for.
        for entry in fs::read_dir(world.path("fresh")).unwrap() {
            let path = entry.unwrap().path();
            let home = path.display();
            let looked = world.site(&format!("--home {home} status")).run();
            match looked.exit {
                0 => assert_eq!(looked.json()["log_root"], whole, "{at}: {looked}"),
                _ => assert!(!path.join("config.toml").exists(), "{at}: {looked}"),
            }
        }
        if !world.path("fresh/berlin").exists() {
            assert_ne!(run.exit, 0, "{at}: {run}");
            command(world).ok();
        }
        let status = world.site("--home $D/fresh/berlin status").ok().json();
        assert_eq!(status["log_root"], whole, "{at}");
        // Whatever the one before had left.
        if run.exit != 0 {
            assert_eq!(names(&world.path("fresh")), ["berlin"], "{at}");
        }
    };
    let all = Sample::Kinds { one_in: 1, from: 0 };
    scene.sweep(all, killed, check);
    scene.sweep(Sample::Kinds { one_in: 3, from: 0 }, failing, check);
    assert!(files::contents(&world.path("fresh")).is_empty());
}

/// The last sync fails, of the folder that has the name already: what is there is whole, and nobody says that nothing was made.
#[test]
fn a_backup_that_is_there_with_a_name_that_may_not_last_is_said_to_be_there() {
    let world = ready();
    let tool = site_backup(&world, "one");
    let run = struck_at_its_name(&world, &tool, "backups", Fate::Fails("EIO"), || {
        fs::remove_file(world.path("backups/one")).unwrap();
    });
    assert_eq!(
        (run.exit, run.codes()),
        (5, vec!["FILE-IO".to_owned()]),
        "{run}"
    );
    expect_sealed(&world, "site", &run, "the last sync");
}

/// A home whose name may not last loses it again, and is kept whole where that may not last either.
#[test]
fn a_restored_home_whose_name_may_not_last_loses_it_again() {
    let world = ready();
    let said = site_backup(&world, "one").ok();
    let put_back = options(&said, "one");
    let tool = world.site(&format!("--home $D/fresh/berlin {put_back}"));
    let status = world.status("berlin")["log_root"].clone();
    for (fate, exit, left) in [
        (Fate::Fails("EIO"), 3, &[][..]),
        (Fate::FailsOn("EIO"), 5, &["berlin.part"]),
    ] {
        let run = struck_at_its_name(&world, &tool, "fresh", fate, || {
            fs::remove_dir_all(world.path("fresh/berlin")).unwrap();
        });
        let codes = run.codes();
        assert_eq!((run.exit, codes.len()), (exit, 1), "{run}");
        assert_eq!(codes[0], "HOME-NOT-MADE", "{run}");
        assert_eq!(names(&world.path("fresh")), left, "{run}");
        if exit == 5 {
            let kept = world.site("--home $D/fresh/berlin.part status").ok();
            assert_eq!(kept.json()["log_root"], status);
        }
        // The same again does not take it for somebody else's.
        tool.ok();
        assert_eq!(names(&world.path("fresh")), ["berlin"]);
        fs::remove_dir_all(world.path("fresh/berlin")).unwrap();
    }
}

/// Has the last sync of this folder fail, once what was made is removed that a first run made.
fn struck_at_its_name(
    world: &World,
    tool: &Tool,
    within: &str,
    fate: Fate,
    remove: impl Fn(),
) -> Run {
    let folder = world.path(within);
    let changes = Changes { below: &folder };
    let (run, calls) = changes.of(tool);
    assert_eq!(run.exit, 0, "{run}");
    remove();
    let of_name = |call: &&Change| call.name == "fsync" && Path::new(&call.target) == folder;
    let call = calls.iter().rfind(of_name).unwrap();
    let (run, struck) = changes.with(tool, call, fate);
    assert!(struck, "{calls:?}");
    run
}
