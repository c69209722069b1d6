//! A vault's home of which files were cut short, changed, put back or exchanged: the line stops and nothing is changed, or
//! what follows from the log is made again and the vault goes on.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::fs;
use std::path::{Path, PathBuf};

use mintmark_tests::strike::{Change, Changes, Fate};
use mintmark_tests::{World, files};

const DEVICES: u32 = 3;

/// A vault that made some units.
fn ready() -> World {
    let world = World::ready();
    world.requests("mass", 0..DEVICES);
    world.issue("mass").ok();
    world
}

/// A vault whose process was killed right behind its last acknowledgement, before it kept anything for the next time.
fn killed() -> World {
    let world = World::ready();
    world.requests("mass", 0..DEVICES);
    let changes = Changes {
        below: world.folder(),
    };
    // The token goes back with the home: it knows the home.
    let places = ["berlin", "keys", "tokens"].map(|name| (world.path(name), name));
    let places = places.into_iter().filter(|(place, _)| place.exists());
    let places: Vec<_> = places.collect();
    let before = world.path("before");
    for (place, name) in &places {
        files::copy(place, &before.join(name));
    }
    let (_, listed) = changes.of(&world.issue("mass"));
    let snapshot = |change: &&Change| {
        change.name == "openat" && change.target.ends_with("state.snapshot.part")
    };
    let last = listed.iter().rfind(snapshot).unwrap();
    for (place, name) in &places {
        put(&before.join(name), place);
    }
    fs::remove_dir_all(world.path("out")).unwrap();
    fs::create_dir(world.path("out")).unwrap();
    let (run, struck) = changes.with(&world.issue("mass"), last, Fate::Killed);
    assert!(struck, "{run}");
    let account = &world.status("berlin")["accounts"][0];
    assert_eq!(account["good"], u64::from(DEVICES), "{account}");
    world
}

fn put(from: &Path, to: &Path) {
    if to.is_dir() {
        fs::remove_dir_all(to).unwrap();
    }
    files::copy(from, to);
}

fn log(world: &World) -> PathBuf {
    world.path("berlin/log/0000000000000000.log")
}

/// Where each record begins, and the end.
fn boundaries(log: &[u8]) -> Vec<usize> {
    let mut at = 0;
    let mut found = vec![0];
    while at < log.len() {
        let length = u32::from_be_bytes(log[at + 4..at + 8].try_into().unwrap());
        at += 64 + length as usize;
        found.push(at);
    }
    found
}

/// Every command that would build on the log stops, and leaves it as it is.
fn expect_stopped(world: &World, code: &str, what: &str) {
    let before = fs::read(log(world)).unwrap();
    let lines = [world.issue("mass"), world.site("recover")];
    for tool in lines {
        let run = tool.fails(4, code);
        assert!(fs::read(log(world)).unwrap() == before, "{what}: {run}");
    }
}

#[test]
fn a_log_that_was_cut_short_stops_the_line_and_is_left_as_it_is() {
    for (how, world) in [("clean", ready()), ("killed", killed())] {
        let whole = fs::read(log(&world)).unwrap();
        let boundaries = boundaries(&whole);
        let from = boundaries.len() - 6;
        for at in &boundaries[from..boundaries.len() - 1] {
            for cut in [*at, at + 90] {
                fs::write(log(&world), &whole[..cut]).unwrap();
                expect_stopped(&world, "LOG-TRUNCATED", &format!("{how}, {cut}"));
            }
        }
        fs::write(log(&world), &whole).unwrap();
        assert_eq!(world.issue("mass").ok().lines().len(), DEVICES as usize);
        world.site("audit verify").ok();
    }
}

#[test]
fn a_changed_bit_of_the_log_stops_the_line_and_nothing_is_cut_off() {
    for (how, world) in [("clean", ready()), ("killed", killed())] {
        let whole = fs::read(log(&world)).unwrap();
        let ends = boundaries(&whole);
        let last = ends[ends.len() - 2];
        let early = (100..last).step_by(last / 5);
        for at in early.chain([last, last + 5, last + 20, last + 70, whole.len() - 1]) {
            let mut changed = whole.clone();
            changed[at] ^= 1 << (at % 8);
            fs::write(log(&world), changed).unwrap();
            expect_stopped(&world, "LOG-CORRUPT", &format!("{how}, {at}"));
        }
        fs::write(log(&world), &whole).unwrap();
        assert_eq!(world.issue("mass").ok().lines().len(), DEVICES as usize);
    }
}

#[test]
fn what_a_crash_tore_is_cut_off_and_kept_and_said() {
    let world = killed();
    let whole = fs::read(log(&world)).unwrap();
    let torn = [b"MML1".as_slice(), &[7; 300]].concat();
    fs::write(log(&world), [&whole[..], &torn].concat()).unwrap();
    let run = world.site("recover").ok();
    assert!(
        run.stderr
            .contains("304 bytes of a write that was interrupted"),
        "{run}"
    );
    let kept = world
        .path("berlin/log")
        .join(format!("torn-{:016x}-0.bin", whole.len()));
    assert!(run.stderr.contains(kept.to_str().unwrap()), "{run}");
    assert!(fs::read(kept).unwrap() == torn);
    assert_eq!(world.issue("mass").ok().lines().len(), DEVICES as usize);
    world.site("audit verify").ok();
}

#[test]
fn an_index_that_is_not_what_it_was_is_made_again_with_a_word_and_answers_right() {
    let world = ready();
    let index = world.path("berlin/index");
    let (fresh, stale) = (world.path("fresh"), world.path("stale"));
    files::copy(&index, &stale);
    world.requests("more", DEVICES..DEVICES + 2);
    world.issue("more").ok();
    files::copy(&index, &fresh);
    let database = fs::read(fresh.join("sled/db")).unwrap();
    let write = |name: &str, bytes: &[u8]| {
        let path = index.join(name);
        let _ = fs::remove_dir_all(&path);
        fs::write(path, bytes).unwrap();
    };
    let open = |world: &World| {
        let said = world.issue("mass").ok();
        let rows = said.lines();
        assert_eq!(rows.len(), DEVICES as usize);
        assert!(
            rows.iter().all(|row| row["outcome"] == "existing"),
            "{said}"
        );
        said.stderr
            .contains("the index was made again from the log")
    };
    let cases: [(&str, &dyn Fn()); 9] = [
        ("lost", &|| fs::remove_dir_all(&index).unwrap()),
        ("cut short", &|| {
            write("sled/db", &database[..database.len() / 2])
        }),
        ("empty", &|| write("sled/db", b"")),
        ("garbage", &|| write("sled/db", &vec![0xa5; database.len()])),
        ("a folder in its place", &|| {
            fs::remove_file(index.join("sled/db")).unwrap();
            fs::create_dir(index.join("sled/db")).unwrap();
        }),
        ("a file in the place of its folder", &|| write("sled", b"?")),
        ("left open elsewhere", &|| {
            write(
                "lock",
                b"open 00000000-0000-0000-0000-000000000000 0:0 0 0.0 0",
            )
        }),
        ("broken", &|| write("lock", b"broken")),
        ("of which the lock is older", &|| {
            fs::copy(stale.join("lock"), index.join("lock")).unwrap();
        }),
    ];
    for (what, damage) in cases {
        put(&fresh, &index);
        damage();
        assert!(open(&world), "{what}");
        assert!(!open(&world), "after {what}");
    }
    for at in (0..database.len()).step_by(database.len() / 6 + 1) {
        let mut changed = database.clone();
        changed[at] ^= 1 << (at % 8);
        put(&fresh, &index);
        write("sled/db", &changed);
        open(&world);
    }
    // An older one is brought up to the log.
    put(&stale, &index);
    assert!(!open(&world));
    let rows = world.issue("more").ok().lines();
    assert!(
        rows.iter().all(|row| row["outcome"] == "existing"),
        "{rows:?}"
    );
    world.site("audit verify").ok();
    world.carry_home("berlin").exits_done();
    assert_eq!(world.reconcile()["balanced"], true);
}
