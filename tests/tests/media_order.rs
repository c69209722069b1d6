//! Sticks that cross, come late, come twice, or come full of something else: what is new is taken in, once, and nothing
//! else changes anything.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::ffi::OsStr;
use std::fs::{self, File};
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::Command;

use mintmark_tests::shape::column;
use mintmark_tests::world::POLICY;
use mintmark_tests::{Run, Tool, World, files, judge};
use serde_json::Value;

/// Everything that an import could change at a vault: what is in force, its log, and what it keeps.
fn site_state(world: &World) -> (Value, Vec<Value>, Vec<String>) {
    let status = world.status("berlin");
    assert!(status["log_size"].is_u64() && status["log_root"].is_string());
    let kept =
        ["received", "outbox", "trust"].map(|folder| names(&world.path("berlin").join(folder)));
    (status, world.log("berlin"), kept.concat())
}

/// The same at headquarters.
fn hq_state(world: &World) -> (Value, Value, Vec<String>) {
    let mut report = world.reconcile();
    // When it was asked.
    report.as_object_mut().unwrap().remove("as_of");
    let audit = world.hq("audit list").ok().json();
    (report, audit, names(&world.path("hq/record")))
}

fn names(folder: &Path) -> Vec<String> {
    if !folder.exists() {
        return Vec::new();
    }
    files::contents(folder)
        .iter()
        .map(|(name, bytes)| {
            format!(
                "{name} {}",
                mintmark_protocol::identifier::Fingerprint::of(bytes)
            )
        })
        .collect()
}

fn outcomes(run: &Run) -> Vec<String> {
    let json = run.json();
    column(json["items"].as_array().unwrap(), "outcome")
        .into_iter()
        .map(str::to_owned)
        .collect()
}

/// An import that must change nothing.
#[track_caller]
fn import_unchanged(world: &World) -> Run {
    let before = site_state(world);
    let run = world.site("media import $D/media").ok();
    assert_eq!(site_state(world), before, "{run}");
    run
}

/// An import of a stick that brings nothing new: everything on it is known, and nothing changes.
#[track_caller]
fn expect_known<T: PartialEq + std::fmt::Debug>(
    world: &World,
    import: &Tool,
    state: fn(&World) -> T,
    items: usize,
) {
    let before = state(world);
    for _ in 0..2 {
        let run = import.ok();
        assert_eq!(outcomes(&run), vec!["already"; items], "{run}");
        assert_eq!(state(world), before, "{run}");
    }
}

fn mint(world: &World, id: &str) {
    world.mint(
        "berlin",
        &POLICY.replace("id = \"th200\"", &format!("id = \"{id}\"")),
    );
}

fn new_stick(world: &World, name: &str) {
    fs::create_dir(world.path(name)).unwrap();
}

/// HQ has written stick A with another entitlement. Before that arrives, the vault writes stick B with what it issued.
fn crossing() -> World {
    let world = World::ready();
    for stick in ["a", "b", "c", "d"] {
        new_stick(&world, stick);
    }
    mint(&world, "second");
    world.hq("media export $D/a").ok();
    world.requests("some", 1..=3);
    world.issue("some").ok();
    world.site("media export $D/b").ok();
    world
}

/// After two sticks crossed, each end knows what the other did, and a third round of sticks has nothing odd to tell.
#[track_caller]
fn expect_both_arrived(world: &World) {
    let accounts = world.status("berlin")["accounts"].as_array().unwrap().len();
    assert_eq!(accounts, 2, "the entitlement arrived");
    expect_known(world, &world.site("media import $D/a"), site_state, 4);
    expect_known(world, &world.hq("media import $D/b"), hq_state, 1);
    // HQ acknowledges what it has, and the vault reports what it followed.
    world.hq("media export $D/c").ok();
    world.site("media import $D/c").ok();
    world.issue("some").ok();
    world.requests("more", 4..=5);
    world.issue("more").ok();
    world.site("media export $D/d").ok();
    world.hq("media import $D/d").ok();
    let report = world.hq("reconcile").ok().json();
    assert_eq!(
        report["findings"].as_array().map(Vec::len),
        Some(0),
        "{report}"
    );
    let good: u64 = report["accounts"]
        .as_array()
        .unwrap()
        .iter()
        .map(|account| account["good"].as_u64().unwrap())
        .sum();
    assert_eq!(good, 5);
    // All of them once more, in any order: they are stale, each for the end that it is for.
    for stick in ["c", "a"] {
        let items = if stick == "a" {
            4
        } else {
            outcomes(&world.site("media import $D/c").ok()).len()
        };
        let line = format!("media import $D/{stick}");
        expect_known(world, &world.site(&line), site_state, items);
    }
    for stick in ["d", "b"] {
        let line = format!("media import $D/{stick}");
        let items = outcomes(&world.hq(&line).ok()).len();
        expect_known(world, &world.hq(&line), hq_state, items);
    }
}

#[test]
fn two_sticks_that_cross_are_taken_in_with_the_vault_first() {
    let world = crossing();
    let run = world.site("media import $D/a").ok();
    assert_eq!(outcomes(&run).last().unwrap(), "imported", "{run}");
    let run = world.hq("media import $D/b").ok();
    assert_eq!(outcomes(&run), ["imported"], "{run}");
    expect_both_arrived(&world);
}

#[test]
fn two_sticks_that_cross_are_taken_in_with_headquarters_first() {
    let world = crossing();
    let run = world.hq("media import $D/b").ok();
    assert_eq!(outcomes(&run), ["imported"], "{run}");
    let run = world.site("media import $D/a").ok();
    assert_eq!(outcomes(&run).last().unwrap(), "imported", "{run}");
    expect_both_arrived(&world);
}

#[test]
fn a_stale_stick_changes_nothing_after_a_newer_one() {
    let world = World::ready();
    for stick in ["old-out", "new-out", "old-home", "new-home"] {
        new_stick(&world, stick);
    }
    mint(&world, "second");
    world.hq("media export $D/old-out").ok();
    mint(&world, "third");
    world.hq("media export $D/new-out").ok();
    let run = world.site("media import $D/new-out").ok();
    assert_eq!(run.item("dispatch-1-000004.cose")["outcome"], "imported");
    expect_known(
        &world,
        &world.site("media import $D/old-out"),
        site_state,
        4,
    );
    expect_known(
        &world,
        &world.site("media import $D/new-out"),
        site_state,
        5,
    );

    world.requests("some", 1..=2);
    world.issue("some").ok();
    world.site("media export $D/old-home").ok();
    world.requests("more", 3..=4);
    world.issue("more").ok();
    world.site("media export $D/new-home").ok();
    let run = world.hq("media import $D/new-home").ok();
    assert_eq!(outcomes(&run), ["imported", "imported"], "{run}");
    expect_known(&world, &world.hq("media import $D/old-home"), hq_state, 1);
    expect_known(&world, &world.hq("media import $D/new-home"), hq_state, 2);
    // What both hold is written to both again as the same bytes, and so is nothing twice.
    let before = files::contents(&world.path("old-home"));
    world.site("media export $D/old-home").ok();
    let after = files::contents(&world.path("old-home"));
    assert!(
        before
            .iter()
            .all(|(name, bytes)| after.get(name) == Some(bytes))
    );
    assert_eq!(after, files::contents(&world.path("new-home")));
}

/// How many pieces of junk a stick carries.
const JUNK: usize = 10_000;

/// Fills the folder of a stick and the folders in it with what does not belong there. `ours` is a name with `{}` for a
/// number, under which the reader would look for something.
fn litter(world: &World, inner: &str, ours: &str) -> usize {
    let mount = world.path("media");
    let folders = [mount.join("mintmark"), mount.join("mintmark").join(inner)];
    let mut foreign = 0;
    for number in 0..JUNK / 2 {
        // Beside the folder nobody looks.
        File::create(mount.join(format!("IMG_{number}.JPG"))).unwrap();
        let folder = &folders[number % 2];
        let put = |name: &[u8]| folder.join(OsStr::from_bytes(name));
        let bytes = |text: String| text.into_bytes();
        match number % 10 {
            0 => drop(File::create(put(&bytes(format!("\x1b[2Jtwo\nlines {number}")))).unwrap()),
            1 => drop(File::create(put(&bytes(format!("TRUST-{number:06}.COSE")))).unwrap()),
            2 => symlink(
                "/etc/passwd",
                put(&bytes(format!("trust-9{number:05}.cose"))),
            )
            .unwrap(),
            3 => fs::create_dir(put(&bytes(format!("trust-8{number:05}.cose")))).unwrap(),
            4 => drop(
                File::create(put(
                    &[&b"\xff\xfe"[..], number.to_string().as_bytes()].concat()
                ))
                .unwrap(),
            ),
            5 => drop(
                File::create(put(&bytes(format!("trust-7{number:05}.cose.1-2.part")))).unwrap(),
            ),
            6 => drop(File::create(put(&bytes(format!("._trust-{number:06}.cose")))).unwrap()),
            7 => drop(File::create(put(&bytes(format!("dispatch-1-{number}.cose ")))).unwrap()),
            8 => drop(File::create(put(&bytes(format!("{number}{}", "x".repeat(240))))).unwrap()),
            _ => fs::write(put(&bytes(format!("{number}.tmp"))), "junk").unwrap(),
        }
        foreign += usize::from(number % 10 != 5);
    }
    // Whoever opens a pipe waits for ever.
    judge::succeed(Command::new("mkfifo").arg(folders[1].join(ours.replace("{}", "900001"))));
    // And some that have our names and are nothing.
    for number in 800_000..800_030 {
        fs::write(
            folders[1].join(ours.replace("{}", &number.to_string())),
            "junk",
        )
        .unwrap();
    }
    foreign + 1
}

/// It was said how much junk there is, and not at length; the good files are taken in.
#[track_caller]
fn expect_counted(run: &Run, foreign: usize) {
    let warnings = run.warnings();
    assert!(warnings.len() <= 50, "{} warnings", warnings.len());
    let lines = run.stderr.lines().count();
    assert!(lines <= 100 && run.stderr.len() < 64_000, "{lines} lines");
    let counted = warnings.iter().find_map(|warning| {
        let (count, _) = warning.split_once(" more entries")?;
        count.parse::<usize>().ok()
    });
    let named = warnings
        .iter()
        .filter(|warning| !warning.contains(" more "))
        .count();
    assert_eq!(counted.unwrap() + named, foreign, "{run}");
}

/// The names of junk are shown, and do nothing to a terminal.
#[track_caller]
fn expect_tame(run: &Run) {
    assert!(run.stderr.contains("[2Jtwo"), "{run}");
    assert!(
        !run.stdout.contains('\x1b') && !run.stderr.contains('\x1b'),
        "{run}"
    );
    assert!(
        run.stderr.lines().all(|line| !line.starts_with("lines")),
        "{run}"
    );
}

/// Runs an import with little memory.
fn within_memory(tool: Tool) -> Run {
    let mut shell = Command::new("sh");
    let inner = tool.command();
    // Address space, in KiB: many times what an import takes.
    shell.args(["-c", "ulimit -v 1048576 && exec \"$@\"", "sh"]);
    shell.arg(inner.get_program()).args(inner.get_args());
    shell.current_dir(inner.get_current_dir().unwrap());
    for (name, value) in inner.get_envs() {
        match value {
            Some(value) => shell.env(name, value),
            None => shell.env_remove(name),
        };
    }
    tool.ended(&shell.output().unwrap())
}

/// Of litter: what has our names is refused, and explained up to what a person reads; what is foreign is counted.
#[track_caller]
fn expect_explained(run: &Run, foreign: usize) {
    let refused = outcomes(run)
        .iter()
        .filter(|outcome| *outcome == "refused")
        .count();
    assert_eq!(refused, 30);
    assert_eq!(run.codes().len(), 20);
    assert!(
        run.warnings()
            .iter()
            .any(|warning| warning.starts_with("10 more files")),
        "{run}"
    );
    expect_counted(run, foreign);
}

#[test]
fn ten_thousand_pieces_of_junk_keep_no_dispatch_from_its_vault() {
    let world = World::with_vault();
    world.mint("berlin", POLICY);
    world.hq("media export $D/media").ok();
    let foreign = litter(&world, "to-berlin_v1", "dispatch-1-{}.cose");
    let run = within_memory(world.site("media import $D/media")).exits(1);
    assert_eq!(run.item("dispatch-1-000002.cose")["outcome"], "imported");
    expect_explained(&run, foreign);
    expect_tame(&world.site("media inspect $D/media").text().ok());
    // It can still be written.
    world.requests("some", 1..=2);
    world.issue("some").ok();
    world.site("media export $D/media").ok();
    world.hq("media import $D/media").ok();
}

#[test]
fn ten_thousand_pieces_of_junk_keep_no_bundle_from_headquarters() {
    let world = World::ready();
    world.requests("some", 1..=2);
    world.issue("some").ok();
    world.site("media export $D/media").ok();
    let bundle = files::below(&world.on_stick("to-hq"));
    let (stem, _) = bundle[0]
        .file_name()
        .unwrap()
        .to_str()
        .unwrap()
        .split_once("-0")
        .unwrap();
    let foreign = litter(&world, "to-hq", &format!("{stem}-{{}}.cose"));
    let run = within_memory(world.hq("media import $D/media")).exits(1);
    assert_eq!(run.item("-000001.cose")["outcome"], "imported");
    expect_explained(&run, foreign);
    expect_tame(&world.hq("media inspect $D/media").text().ok());
    world.carry_out("berlin").exits_done();
}

#[test]
fn a_stick_with_more_files_than_anybody_exports_is_turned_away_at_both_ends() {
    let world = World::ready();
    world.requests("some", 1..=2);
    world.issue("some").ok();
    world.carry_home("berlin").exits_done();
    // Links to one and the same are the quickest to make.
    let folder = world.on_stick("to-berlin_v1");
    let one = folder.join("0");
    fs::write(&one, "").unwrap();
    for number in 1..=50_100 {
        symlink("0", folder.join(number.to_string())).unwrap();
        symlink("0", world.on_stick("to-hq").join(number.to_string())).unwrap();
    }
    world.hq("media import $D/media").fails(3, "MEDIA-CROWDED");
    world
        .site("media inspect $D/media")
        .fails(3, "MEDIA-CROWDED");
    // The vault looks only into its own folder.
    world.site("media import $D/media").ok();
}

#[test]
fn an_old_stick_changes_nothing_however_often_it_comes() {
    let world = World::ready();
    files::copy(&world.path("media"), &world.path("old"));
    world.mint(
        "berlin",
        &POLICY.replace("id = \"th200\"", "id = \"newer\""),
    );
    world.carry_out("berlin").exits_done();
    let status = world.status("berlin");
    for _ in 0..2 {
        let run = world.site("media import $D/old").ok();
        let items = run.json();
        let outcomes = column(items["items"].as_array().unwrap(), "outcome");
        assert!(
            outcomes.len() >= 3 && outcomes.iter().all(|outcome| *outcome == "already"),
            "{run}"
        );
        assert_eq!(world.status("berlin"), status);
    }
}

#[test]
fn links_and_foreign_files_are_passed_over_with_a_word_and_change_nothing() {
    let world = World::ready();
    let stick = world.path("media/mintmark");
    symlink("/etc/passwd", stick.join("trust-000002.cose")).unwrap();
    symlink(world.on_stick("to-berlin_v1"), stick.join("to-hq")).unwrap();
    fs::write(stick.join("readme.txt"), "hello").unwrap();
    // Whoever opens a pipe waits for ever.
    judge::succeed(Command::new("mkfifo").arg(stick.join("trust-000004.cose")));
    fs::write(stick.join("trust-000009.cose.part"), "half").unwrap();
    fs::write(stick.join("to-berlin_v1/virus.exe"), "MZ").unwrap();
    fs::create_dir(stick.join("System Volume Information")).unwrap();
    fs::create_dir(stick.join("trust-000003.cose")).unwrap();
    fs::write(world.path("media/holiday.jpg"), "").unwrap();
    let run = import_unchanged(&world);
    let warned = run.warnings().join("\n");
    for name in [
        "trust-000002.cose",
        "to-hq",
        "readme.txt",
        "virus.exe",
        "System Volume Information",
        "trust-000003.cose",
        "trust-000004.cose",
    ] {
        assert!(warned.contains(name), "no word of {name}\n{run}");
    }
    assert!(
        !warned.contains(".part") && !warned.contains("holiday"),
        "{run}"
    );
    let items = run.json();
    let files = column(items["items"].as_array().unwrap(), "file");
    assert!(
        files
            .iter()
            .all(|file| file.starts_with("to-berlin_v1/dispatch-") || *file == "trust-000001.cose"),
        "{run}"
    );
    let at_hq = world.hq("media import $D/media").ok();
    let warned = at_hq.warnings().join("\n");
    for name in ["trust-000002.cose", "to-hq", "readme.txt"] {
        assert!(warned.contains(name), "no word of {name}\n{at_hq}");
    }
    // However many there are, a person is told what can be read.
    for number in 0..500 {
        fs::write(stick.join(format!("junk-{number}.bin")), "").unwrap();
    }
    let run = import_unchanged(&world);
    assert!(
        run.warnings().len() <= 60,
        "{} warnings",
        run.warnings().len()
    );
    assert!(world.hq("media import $D/media").ok().warnings().len() <= 60);
}
