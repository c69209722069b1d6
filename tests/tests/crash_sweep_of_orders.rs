//! The rarer commands of a vault, killed or with a failing disk at any of the system calls by which they change something:
//! what was said is so, what failed changed nothing or says that nobody knows, and the same command again goes on right.
//!
//! Here one call of each of a few kinds is tried. All of them, which takes long:
//! `cargo nextest run -p mintmark-tests --test crash_sweep_of_orders --run-ignored all`
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use mintmark_tests::clock::Machine;
use mintmark_tests::strike::{Change, Changes, Fate};
use mintmark_tests::sweep::{Sample, Scene, VAULT, expect_balanced, failing, killed, number};
use mintmark_tests::world::POLICY;
use mintmark_tests::{Run, Tool, World, files, judge, strace};
use serde_json::Value;

/// Devices that have their certificates before.
const DEVICES: u32 = 3;

/// What a command may change that is carried to headquarters afterwards.
const WITH_HEADQUARTERS: [&str; 6] = ["berlin", "keys/berlin", "out", "media", "other", "hq"];

type Fates = fn(&Change) -> Vec<Fate>;

/// A command, what it comes to, and what the same command says once it has come to that.
struct Order<'a> {
    world: &'a World,
    places: &'a [&'a str],
    line: &'a str,
    is_done: &'a dyn Fn(&World) -> bool,
    again: i32,
    /// What must hold in the end of each run.
    afterwards: &'a dyn Fn(&World, &str),
}

impl Order<'_> {
    fn sweep(&self, sample: Sample, fates: Fates) {
        let command = |world: &World| world.site(self.line);
        let scene = Scene {
            world: self.world,
            places: self.places,
            command: &command,
        };
        scene.sweep(sample, fates, |world, run, at| self.check(world, run, at));
        command(self.world).ok();
        (self.afterwards)(self.world, "in the end");
    }

    fn check(&self, world: &World, run: &Run, at: &str) {
        let done = (self.is_done)(world);
        match run.exit {
            -1 => {}
            0 => assert!(done, "{at}: it was said, and is not so: {run}"),
            3 => assert!(
                !done || imported_something(run),
                "{at}: it is so, and was said not to be: {run}"
            ),
            5 => {
                let recovered = world.site("recover").run();
                let waiting = ["HOME-OLDER-THAN-ANCHOR", "RESTORE-PENDING"];
                let codes = recovered.codes();
                let pending =
                    recovered.exit == 4 && codes.iter().all(|code| waiting.contains(&&**code));
                assert!(recovered.exit == 0 || pending, "{at}: {run}\n{recovered}");
            }
            _ => panic!("{at}: {run}"),
        }
        let done = (self.is_done)(world);
        let again = world.site(self.line).run();
        let expected = if done { self.again } else { 0 };
        assert_eq!(again.exit, expected, "{at}: {run}\n{again}");
        assert!((self.is_done)(world), "{at}: {run}\n{again}");
        (self.afterwards)(world, at);
    }
}

/// Whether an import says of something that it was imported, though what came after it was not.
fn imported_something(run: &Run) -> bool {
    let said: Value = serde_json::from_str(&run.stdout).unwrap_or_default();
    let items = said["items"].as_array().into_iter().flatten();
    let mut outcomes = items.map(|item| &item["outcome"]);
    outcomes.any(|outcome| outcome == "imported")
}

/// A vault that has issued.
fn issued() -> World {
    let world = World::ready();
    world.requests("mass", 0..DEVICES);
    world.issue("mass").ok();
    world
}

fn account(world: &World, field: &str) -> u64 {
    number(&world.status("berlin")["accounts"][0], field)
}

/// The vault issues, and HQ finds nothing wrong.
fn expect_at_work(world: &World, at: &str) {
    let account = expect_balanced(world, at);
    world.requests("next", [900]);
    let next = world.issue("next").run();
    assert_eq!(next.exit, 0, "{at}: {next}");
    assert_eq!(
        number(&account, "good") + 1,
        number(&expect_balanced(world, at), "good"),
        "{at}"
    );
    let verified = world.site("audit verify").run();
    assert_eq!(verified.exit, 0, "{at}: {verified}");
}

fn expect_reported(world: &World, at: &str) {
    expect_at_work(world, at);
    world.carry_home("berlin").exits_done();
    let report = world.reconcile();
    assert_eq!(report["balanced"], true, "{at}: {report}");
    assert_eq!(
        report["findings"],
        Value::Array(Vec::new()),
        "{at}: {report}"
    );
}

fn scrap(sample: Sample, fates: Fates) {
    let world = issued();
    Order {
        world: &world,
        places: &WITH_HEADQUARTERS,
        line: "device scrap TH200-00000001 --reason broken --confirm TH200-00000001",
        is_done: &|world| account(world, "scrapped") == 1,
        again: 1,
        afterwards: &|world, at| {
            let shown = world.site("device show TH200-00000001").run();
            assert_eq!(shown.json()["status"], "scrapped", "{at}: {shown}");
            expect_reported(world, at);
        },
    }
    .sweep(sample, fates);
}

/// What only reads fails as well, and after a scrap is on record it says so.
#[test]
fn a_scrap_whose_log_cannot_be_read_from_some_moment_on_never_says_that_nothing_was_changed() {
    let world = issued();
    files::copy(&world.path("berlin"), &world.path("before"));
    files::copy(&world.path("keys/berlin"), &world.path("keys-before"));
    let log = world.path("berlin/log/0000000000000000.log");
    let scrap = "device scrap TH200-00000001 --reason broken --confirm TH200-00000001";
    let mut ends = BTreeSet::new();
    for nth in 1.. {
        for (place, before) in [("berlin", "before"), ("keys/berlin", "keys-before")] {
            fs::remove_dir_all(world.path(place)).unwrap();
            files::copy(&world.path(before), &world.path(place));
        }
        let path = log.to_str().unwrap();
        let run = strace::failing(&world.site(scrap), "pread64", path, "EIO", nth);
        let scrapped = account(&world, "scrapped") == 1;
        assert_eq!(scrapped, [0, 5].contains(&run.exit), "read {nth}: {run}");
        ends.insert(run.exit);
        if run.exit == 0 {
            break;
        }
    }
    assert_eq!(ends, BTreeSet::from([0, 3, 5]));
}

/// The CRL that is out, if it is: a whole one.
fn crl_number(world: &World) -> Option<u64> {
    if !world.path("out/vault.crl").exists() {
        return None;
    }
    let said = judge::openssl(world.folder(), "crl -in out/vault.crl -noout -crlnumber");
    let number = said.trim().trim_start_matches("crlNumber=0x");
    Some(u64::from_str_radix(number, 16).unwrap())
}

fn crl(sample: Sample, fates: Fates) {
    let world = issued();
    world
        .site("device scrap TH200-00000001 --reason broken --confirm TH200-00000001")
        .ok();
    let line = "crl issue --output $D/out/vault.crl";
    let before = world.site(line).ok().json()["number"].as_u64().unwrap();
    Order {
        world: &world,
        places: &WITH_HEADQUARTERS,
        line,
        // What was there before is there, or the next one.
        is_done: &|world| crl_number(world).unwrap() > before,
        again: 0,
        afterwards: &|world, at| {
            let number = crl_number(world).unwrap();
            let next = world.site("crl issue --output $D/out/next.crl").ok().json();
            assert_eq!(next["number"], number + 1, "{at}");
            assert_eq!(next["revoked"], 1, "{at}");
            expect_reported(world, at);
        },
    }
    .sweep(sample, fates);
}

/// A vault whose clock was confirmed when it was wrong, and is right again.
fn confirmation(sample: Sample, fates: Fates) {
    let world = issued();
    let ahead = Machine::new().jumped(20 * 3600);
    world.requests("ahead", [800]);
    let refused = world.issue("ahead").machine(&ahead).run();
    assert_eq!(refused.exit, 1, "{refused}");
    let line = "clock confirm --confirm berlin/v1";
    world.site(line).machine(&ahead).ok();
    world.issue("ahead").machine(&ahead).ok();
    assert_eq!(world.issue("ahead").run().exit, 0);
    world.requests("stopped", [801]);
    let stopped = world.issue("stopped").run();
    assert_eq!(stopped.exit, 1, "{stopped}");
    Order {
        world: &world,
        places: &WITH_HEADQUARTERS,
        line,
        is_done: &|world| world.status("berlin")["clock_stopped"].is_null(),
        again: 1,
        afterwards: &expect_reported,
    }
    .sweep(sample, fates);
}

/// A home from before its last report, as in `restore.rs`.
fn put_back() -> World {
    let world = issued();
    world.carry_home("berlin").exits_done();
    world.carry_out("berlin").exits_done();
    files::copy(&world.path("berlin"), &world.path("older"));
    world.requests("lost", 700..702);
    world.issue("lost").ok();
    world.carry_home("berlin").exits_done();
    world.requests("doubt", 710..712);
    world.issue("doubt").ok();
    fs::remove_dir_all(world.path("berlin")).unwrap();
    files::copy(&world.path("older"), &world.path("berlin"));
    fs::remove_dir_all(world.path("media")).unwrap();
    fs::create_dir(world.path("media")).unwrap();
    world
}

const DECLARE: &str = "recover --declare-restore --confirm berlin/v1";

fn declaration(sample: Sample, fates: Fates) {
    let world = put_back();
    Order {
        world: &world,
        places: &WITH_HEADQUARTERS,
        line: DECLARE,
        is_done: &|world| world.status("berlin")["restore_pending"] == true,
        again: 0,
        afterwards: &|world, at| {
            let imported = world.carry_home("berlin");
            assert_eq!(imported.exit, 1, "{at}: {imported}");
            world.carry_out("berlin").exits_done();
            expect_restored(world, at);
        },
    }
    .sweep(sample, fates);
}

/// What headquarters held is there again, what is in doubt is skipped, and the vault issues.
fn expect_restored(world: &World, at: &str) {
    let status = world.status("berlin");
    let account = &status["accounts"][0];
    assert_eq!(status["restore_pending"], false, "{at}: {status}");
    let expected = (u64::from(DEVICES) + 2, 2);
    assert_eq!(
        (number(account, "good"), number(account, "unresolved")),
        expected,
        "{at}: {status}"
    );
    world.requests("next", [900]);
    let next = world.issue("next").run();
    assert_eq!(next.exit, 0, "{at}: {next}");
    let slot = number(&next.lines()[0], "slot");
    assert_eq!(slot, u64::from(DEVICES) + 4, "{at}: {next}");
    let carried = world.carry_home("berlin");
    assert_eq!(carried.exit, 0, "{at}: {carried}");
    let report = world.reconcile();
    assert_eq!(report["balanced"], true, "{at}: {report}");
    let findings = report["findings"].as_array().unwrap();
    let mut codes: Vec<_> = findings.iter().map(|finding| &finding["code"]).collect();
    codes.retain(|code| *code != "UNRESOLVED");
    assert_eq!(codes, ["RESTORE-DECLARED"], "{at}: {report}");
}

/// A vault to which headquarters has sent back what it holds.
fn answered() -> World {
    let world = put_back();
    world.site(DECLARE).ok();
    let imported = world.carry_home("berlin");
    assert_eq!(imported.exit, 1, "{imported}");
    world.hq("media export $D/media").ok();
    world
}

/// The import of what headquarters sends back.
fn restoring(world: &World) -> Order<'_> {
    Order {
        world,
        places: &WITH_HEADQUARTERS,
        line: "media import $D/media",
        is_done: &|world| world.status("berlin")["restore_pending"] == false,
        again: 0,
        afterwards: &expect_restored,
    }
}

fn restoration(sample: Sample, fates: Fates) {
    restoring(&answered()).sweep(sample, fates);
}

/// What comes after it, be it the name of a file or the next opening of the vault, may fail: that it was done is said.
#[test]
fn a_restore_that_is_done_is_never_said_to_be_undone() {
    let world = answered();
    let order = restoring(&world);
    let import = |world: &World| world.site(order.line);
    let scene = Scene {
        world: &world,
        places: order.places,
        command: &import,
    };
    scene.save();
    let changes = Changes {
        below: world.folder(),
    };
    let (run, calls) = changes.of(&import(&world));
    assert_eq!(run.exit, 0, "{run}");
    let of = |name: &'static str, target: &str| {
        let path = world.path(target);
        let is_it = move |call: &&Change| call.name == name && Path::new(&call.target) == path;
        calls.iter().filter(is_it)
    };
    let names = of("fsync", "berlin").map(|call| (call, Fate::Fails("EIO")));
    let opening = of("openat", "berlin/state.snapshot.part").map(|call| (call, Fate::Full));
    let mut ended = Vec::new();
    for (call, fate) in names.skip(2).chain(opening.skip(1).take(1)) {
        scene.restore();
        let (run, struck) = changes.with(&import(&world), call, fate);
        let at = format!("{fate:?} at {call:?}");
        assert!(struck, "{at}: {run}");
        order.check(&world, &run, &at);
        ended.push(run.exit);
    }
    assert!(ended.contains(&5), "{ended:?}");
}

macro_rules! sweeps {
    ($($killed:ident, $all_killed:ident, $failing:ident, $all_failing:ident: $sweep:expr, $one_in:expr, $from:expr;)*) => {$(
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
        fn $failing() {
            $sweep(Sample::Kinds { one_in: 2 * $one_in, from: $from + $one_in }, failing);
        }

        #[test]
        #[ignore = "every single call, in every way: takes minutes"]
        fn $all_failing() {
            $sweep(Sample::All, failing);
        }
    )*};
}

sweeps! {
    a_scrap_that_was_killed_is_said_again, a_scrap_killed_at_every_call,
        a_scrap_on_a_failing_disk_is_said_again, a_scrap_with_every_call_failing: scrap, 13, 1;
    a_crl_that_was_killed_is_issued_again, a_crl_killed_at_every_call,
        a_crl_on_a_failing_disk_is_issued_again, a_crl_with_every_call_failing: crl, 13, 4;
    a_confirmed_clock_that_was_killed_is_confirmed_again, a_confirmed_clock_killed_at_every_call,
        a_confirmed_clock_on_a_failing_disk_is_confirmed_again, a_confirmed_clock_with_every_call_failing:
        confirmation, 13, 7;
    a_declared_restore_that_was_killed_is_declared_again, a_declared_restore_killed_at_every_call,
        a_declared_restore_on_a_failing_disk_is_declared_again, a_declared_restore_with_every_call_failing:
        declaration, 3, 1;
    a_restore_that_was_killed_is_imported_again, a_restore_killed_at_every_call,
        a_restore_on_a_failing_disk_is_imported_again, a_restore_with_every_call_failing: restoration, 17, 2;
}

/// A vault that is made on a failing disk has no home, or a whole one.
#[test]
fn a_vault_made_on_a_failing_disk_has_no_home_or_a_whole_one() {
    init(Sample::Kinds {
        one_in: 17,
        from: 5,
    });
}

#[test]
#[ignore = "every single call, in every way: takes minutes"]
fn a_vault_made_with_every_call_failing() {
    init(Sample::All);
}

/// The last thing that can fail: the home has its name already, and nobody knows whether that lasts. Taken away again it is
/// deleted once that lasts; else its contents stay, as its name may come back.
#[test]
fn a_home_whose_name_may_not_last_is_taken_away_again_and_deleted_once_that_lasts() {
    let world = World::with_headquarters();
    let init = init_of(&world);
    let scene = Scene {
        world: &world,
        places: &VAULT,
        command: &init,
    };
    scene.save();
    let changes = Changes {
        below: world.folder(),
    };
    let (run, calls) = changes.of(&init(&world));
    assert_eq!(run.exit, 0, "{run}");
    let of_name =
        |call: &&Change| call.name == "fsync" && Path::new(&call.target) == world.folder();
    let call = calls.iter().rfind(of_name).unwrap();
    for (fate, exit) in [(Fate::Fails("EIO"), 3), (Fate::FailsOn("EIO"), 5)] {
        scene.restore();
        let (run, struck) = changes.with(&init(&world), call, fate);
        assert!(struck, "{calls:?}");
        assert_eq!(
            (run.exit, run.codes()),
            (exit, vec!["HOME-NOT-MADE".to_owned()]),
            "{run}"
        );
        let left = fs::read_dir(world.folder()).unwrap().flatten();
        let homes: Vec<_> = left
            .map(|entry| entry.path())
            .filter(|path| {
                path.file_name()
                    .unwrap()
                    .as_encoded_bytes()
                    .starts_with(b"berlin")
            })
            .collect();
        assert_eq!(homes.len(), usize::from(exit == 5), "{homes:?}");
        for part in homes {
            assert_ne!(part, world.path("berlin"));
            assert!(part.join("config.toml").is_file() && part.join("log").is_dir());
            fs::remove_dir_all(part).unwrap();
        }
    }
    init(&world).ok();
}

/// The command that makes a vault.
fn init_of(world: &World) -> impl Fn(&World) -> Tool + use<> {
    let uri = world.keys("berlin");
    let shown = world.trust_fingerprint();
    move |world: &World| -> Tool {
        let line =
            "init --site-id berlin --trust $D/media/mintmark/trust-000001.cose --fingerprint";
        world.site(&format!("{line} {shown} --keys {uri}"))
    }
}

fn init(sample: Sample) {
    let world = World::with_headquarters();
    let init = init_of(&world);
    let scene = Scene {
        world: &world,
        places: &VAULT,
        command: &init,
    };
    scene.sweep(sample, failing, |world, run, at| {
        let there = world.path("berlin").exists();
        match run.exit {
            0 => assert!(there, "{at}: {run}"),
            3 => assert!(!there, "{at}: {run}"),
            5 => {}
            _ => panic!("{at}: {run}"),
        }
        if !there {
            let again = init(world).run();
            assert_eq!(again.exit, 0, "{at}: {run}\n{again}");
        }
        let status = world.site("status").run();
        assert_eq!(status.exit, 0, "{at}: {run}\n{status}");
        assert_eq!(status.json()["enrolled"], false, "{at}: {status}");
        let exported = world.site("media export $D/media").run();
        assert_eq!(exported.exit, 0, "{at}: {run}\n{exported}");
    });
    init(&world).ok();
    world.let_in("berlin", &["alice", "bob"]);
    world.grant("berlin", POLICY);
    expect_reported(&world, "in the end");
}
