//! A vault's home of which files were cut short, changed, put back or exchanged: the line stops and nothing is changed, or
//! what follows from the log is made again and the vault goes on.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::fs;
use std::path::{Path, PathBuf};

use mintmark_tests::strace::standing_still;
use mintmark_tests::strike::{Change, Changes, Fate};
use mintmark_tests::{Run, World, files};

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

/// Only looking at it says the same.
fn expect_noticed(world: &World, codes: &[&str], what: &str) {
    for line in ["audit verify", "status"] {
        let run = world.site(line).run();
        assert_eq!(run.exit, 4, "{what}: {run}");
        let code = run.codes().pop().unwrap();
        assert!(codes.contains(&&*code), "{what}: {run}");
    }
}

/// Cuts the log short at every boundary between records and at places within each, or at some of them.
fn cut_short(every_record: bool) {
    for (how, world) in [("clean", ready()), ("killed", killed())] {
        let whole = fs::read(log(&world)).unwrap();
        let ends = boundaries(&whole);
        let from = if every_record { 0 } else { ends.len() - 6 };
        let mut cuts = 0;
        for pair in ends[from..].windows(2) {
            let (begin, end) = (pair[0], pair[1]);
            let within = [begin, begin + 1, begin + 63, (begin + end) / 2, end - 1];
            for cut in within.iter().step_by(if every_record { 1 } else { 3 }) {
                fs::write(log(&world), &whole[..*cut]).unwrap();
                expect_stopped(&world, "LOG-TRUNCATED", &format!("{how}, {cut}"));
                expect_noticed(&world, &["LOG-TRUNCATED"], &format!("{how}, {cut}"));
                cuts += 1;
            }
        }
        println!(
            "{how}: {} records, cut short at {cuts} places",
            ends.len() - 1
        );
        fs::write(log(&world), &whole).unwrap();
        assert_eq!(world.issue("mass").ok().lines().len(), DEVICES as usize);
        world.site("audit verify").ok();
    }
}

#[test]
fn a_log_that_was_cut_short_stops_the_line_and_is_left_as_it_is() {
    cut_short(false);
}

#[test]
#[ignore = "every record: takes minutes"]
fn a_log_that_was_cut_short_anywhere_stops_the_line_and_is_left_as_it_is() {
    cut_short(true);
}

/// Where nothing else in the home knows how long the log was, the token does.
fn cut_short_where_the_token_alone_knows(every_record: bool) {
    for (how, world) in [("clean", ready()), ("killed", killed())] {
        let _ = fs::remove_dir_all(world.path("berlin/index"));
        for file in ["state.snapshot", "log/head"] {
            let _ = fs::remove_file(world.path("berlin").join(file));
        }
        let before = world.path("forgotten");
        files::copy(&world.path("berlin"), &before);
        let whole = fs::read(log(&world)).unwrap();
        let ends = boundaries(&whole);
        let from = if every_record { 1 } else { ends.len() - 4 };
        for pair in ends[from..].windows(2) {
            for cut in [pair[0], (pair[0] + pair[1]) / 2] {
                put(&before, &world.path("berlin"));
                fs::write(log(&world), &whole[..cut]).unwrap();
                let run = world.issue("mass").fails(4, "HOME-OLDER-THAN-ANCHOR");
                assert!(
                    fs::read(log(&world)).unwrap() == whole[..cut],
                    "{how}, {cut}: {run}"
                );
            }
        }
        put(&before, &world.path("berlin"));
        assert_eq!(world.issue("mass").ok().lines().len(), DEVICES as usize);
        world.site("audit verify").ok();
    }
}

#[test]
fn a_log_that_was_cut_short_where_the_token_alone_knows_it_stops_the_line() {
    cut_short_where_the_token_alone_knows(false);
}

#[test]
#[ignore = "every record: takes minutes"]
fn a_log_that_was_cut_short_anywhere_where_the_token_alone_knows_it_stops_the_line() {
    cut_short_where_the_token_alone_knows(true);
}

/// Changes a bit of every record's frame and of what it holds, or of some.
fn bits_changed(every_record: bool) {
    for (how, world) in [("clean", ready()), ("killed", killed())] {
        let whole = fs::read(log(&world)).unwrap();
        let ends = boundaries(&whole);
        let last = ends[ends.len() - 2];
        let places: Vec<usize> = match every_record {
            true => {
                let of = |pair: &[usize]| {
                    let (begin, end) = (pair[0], pair[1]);
                    let rest = [begin + 64, (begin + 64 + end) / 2, end - 1];
                    // The mark, the length, what stands before, the checksum; then what it holds.
                    let frame = [0, 5, 10, 20, 40, 60, 63].map(|at| begin + at);
                    frame.into_iter().chain(rest)
                };
                ends.windows(2).flat_map(of).collect()
            }
            false => {
                let early = (100..last).step_by(last / 4);
                early
                    .chain([last, last + 5, last + 70, whole.len() - 1])
                    .collect()
            }
        };
        for at in &places {
            let mut changed = whole.clone();
            changed[*at] ^= 1 << (at % 8);
            fs::write(log(&world), changed).unwrap();
            expect_stopped(&world, "LOG-CORRUPT", &format!("{how}, {at}"));
        }
        println!(
            "{how}: {} records, {} bits changed",
            ends.len() - 1,
            places.len()
        );
        fs::write(log(&world), &whole).unwrap();
        assert_eq!(world.issue("mass").ok().lines().len(), DEVICES as usize);
    }
}

#[test]
fn a_changed_bit_of_the_log_stops_the_line_and_nothing_is_cut_off() {
    bits_changed(false);
}

#[test]
#[ignore = "every record: takes minutes"]
fn a_changed_bit_anywhere_in_the_log_stops_the_line_and_nothing_is_cut_off() {
    bits_changed(true);
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
fn an_index_that_comes_to_a_standstill_is_not_waited_for_and_is_made_again() {
    let world = ready();
    world.requests("more", DEVICES..DEVICES + 2);
    let database = world.path("berlin/index/sled/db");
    let outcomes = |run: &Run, outcome: &str| {
        let rows = run.lines();
        assert_eq!(rows.len(), 2, "{run}");
        assert!(rows.iter().all(|row| row["outcome"] == outcome), "{run}");
    };
    // It is written as the command ends, and nothing depends on it: the log has all of it.
    let run = standing_still(&world.issue("more"), "sync_file_range", &database, 50);
    outcomes(&run.exits(0), "issued");
    let run = world.issue("more").ok();
    outcomes(&run, "existing");
    let again = "the index was made again from the log";
    assert!(run.stderr.contains(again), "{run}");
}

#[test]
fn an_index_that_is_not_what_it_was_is_made_again_with_a_word_and_answers_right() {
    index_damaged(6);
}

#[test]
#[ignore = "many places: takes minutes"]
fn an_index_of_which_any_bit_was_changed_answers_right() {
    index_damaged(150);
}

/// Whatever is done to the index, and a changed bit at so many places of what it has written.
fn index_damaged(places: usize) {
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
    // Most of the file is room that was never written.
    let written = |at: &usize| database[*at] != 0;
    let written: Vec<usize> = (0..database.len()).filter(written).collect();
    let mut said = 0;
    for at in written.iter().step_by(written.len() / places + 1) {
        let mut changed = database.clone();
        changed[*at] ^= 1 << (at % 8);
        put(&fresh, &index);
        write("sled/db", &changed);
        said += u32::from(open(&world));
    }
    for length in (0..database.len()).step_by(database.len() / (places / 6 + 1) + 1) {
        put(&fresh, &index);
        write("sled/db", &database[..length]);
        said += u32::from(open(&world));
    }
    println!("{places} places of the index, made again with a word {said} times");
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

/// Damages every file of the home but the log and the index, one at a time: what is not as it was is not believed, and nothing
/// is changed because of it.
fn other_files_damaged(places: usize) {
    let world = ready();
    let home = world.path("berlin");
    let fresh = world.path("fresh");
    files::copy(&home, &fresh);
    // The token goes back with the home: it knows the home.
    let (keys, fresh_keys) = (world.path("keys/berlin"), world.path("fresh-keys"));
    files::copy(&keys, &fresh_keys);
    let names = files::contents(&home).into_iter().filter(|(name, _)| {
        let others = ["log/0", "index/sled/db"];
        name != "lock" && !others.iter().any(|other| name.starts_with(other))
    });
    let mut outcomes = std::collections::BTreeMap::new();
    for (name, bytes) in names {
        let step = (bytes.len() / places).max(1);
        let flips = (0..bytes.len()).step_by(step).map(|at| {
            let mut changed = bytes.clone();
            changed[at] ^= 1 << (at % 8);
            Some(changed)
        });
        let cuts = (0..bytes.len()).step_by(bytes.len() / 2 + 1);
        let cuts = cuts.map(|length| Some(bytes[..length].to_vec()));
        for damaged in flips.chain(cuts).chain([None]) {
            put(&fresh, &home);
            put(&fresh_keys, &keys);
            match &damaged {
                Some(bytes) => fs::write(home.join(&name), bytes).unwrap(),
                None => fs::remove_file(home.join(&name)).unwrap(),
            }
            let run = world.issue("mass").run();
            *outcomes.entry((name.clone(), run.exit)).or_insert(0) += 1;
            match run.exit {
                0 => {
                    let rows = run.lines();
                    let existing = rows.iter().filter(|row| row["outcome"] == "existing");
                    assert_eq!(existing.count(), DEVICES as usize, "{name}: {run}");
                    let account = &world.status("berlin")["accounts"][0];
                    assert_eq!(account["good"], u64::from(DEVICES), "{name}: {account}");
                }
                2..=4 => {
                    let same = fs::read(log(&world)).unwrap()
                        == fs::read(fresh.join("log/0000000000000000.log")).unwrap();
                    assert!(same, "{name}: {run}");
                }
                _ => panic!("{name}: {run}"),
            }
        }
    }
    println!("{outcomes:#?}");
    put(&fresh, &home);
    put(&fresh_keys, &keys);
    assert_eq!(world.issue("mass").ok().lines().len(), DEVICES as usize);
}

#[test]
fn a_file_of_the_home_that_was_damaged_is_not_believed() {
    other_files_damaged(1);
}

#[test]
#[ignore = "many places: takes minutes"]
fn a_file_of_the_home_that_was_damaged_anywhere_is_not_believed() {
    other_files_damaged(12);
}
