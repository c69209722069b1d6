//! Clocks that are wrong: what stops the line, what is said of it, and every way by which it goes on. libfaketime and a
//! library of the tests' own stand in for hands on the clock, for dead batteries and for machines that were off.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use mintmark_tests::clock::{DAY, Machine};
use mintmark_tests::world::{OFFICERS, POLICY};
use mintmark_tests::{Tool, World};
use serde_json::Value;

/// A vault that has issued one device, and has three more requests.
fn issuing() -> World {
    let world = World::ready();
    world.requests("first", [1]);
    world.issue("first").ok();
    for number in 2..=6 {
        world.requests(&format!("{number}"), [number]);
    }
    world
}

fn unspent(world: &World) -> u64 {
    world.status("berlin")["accounts"][0]["unspent"]
        .as_u64()
        .unwrap()
}

/// The code by which the one request is refused, or `issued`.
#[track_caller]
fn code(tool: Tool) -> String {
    let run = tool.run();
    let row = run.lines()[0].clone();
    match row["code"].as_str() {
        Some(code) => {
            assert_eq!(run.exit, 1, "{run}");
            let message = row["message"].as_str().unwrap();
            assert!(message.starts_with("the clock says "), "{row}");
            let hint = format!("{code}: set the clock right");
            assert!(run.stderr.contains(&hint), "{run}");
            code.to_owned()
        }
        None => {
            assert_eq!(run.exit, 0, "{run}");
            row["outcome"].as_str().unwrap().to_owned()
        }
    }
}

fn status(world: &World, machine: &Machine) -> Value {
    world.site("status").machine(machine).ok().json()
}

fn confirm(world: &World, machine: &Machine, options: &str) -> Tool {
    world
        .site(&format!("clock confirm {options}"))
        .machine(machine)
}

/// What headquarters makes of the log: nothing is wrong with it. Gives the kinds of its records.
#[track_caller]
fn reported(world: &World) -> Vec<String> {
    world.carry_home("berlin").exits_done();
    let shown = world.hq("audit log --site berlin").ok().lines();
    world.carry_out("berlin").exits_done();
    let report = world.reconcile_run().exits_done().json();
    assert_eq!(report["balanced"], true, "{report}");
    let kind = |row: &Value| row["kind"].as_str().unwrap().to_owned();
    shown.iter().map(kind).collect()
}

/// Officers correct the time of the log, to that of headquarters.
fn correct(world: &World) {
    let draft = "$D/officers/clock.draft";
    let line = format!("site clock berlin/v1 --reason battery --output {draft}");
    let id = world.hq(&line).ok().text("id");
    world.approve(draft);
    world.hq(&format!("site grant {id}")).ok();
}

#[test]
fn what_headquarters_sent_waits_for_the_right_time_where_trust_is_over_by_the_clock() {
    let world = issuing();
    world.carry_home("berlin").exits_done();
    world.hq("media export $D/media").ok();
    let ahead = Machine::new().jumped(3650 * DAY);
    let import = "media import $D/media";
    let run = world.site(import).machine(&ahead).fails(3, "TRUST-EXPIRED");
    for part in [
        "and this machine's clock says 20",
        "if it is the clock that is wrong, set it right",
    ] {
        assert!(run.stderr.contains(part), "{part} in {run}");
    }
    world.site(import).ok();
    world.issue("2").ok();
    assert!(!reported(&world).is_empty());
}

#[test]
fn a_clock_moved_by_libfaketime_stops_the_line_until_it_is_right_again() {
    if Machine::faketime("+1d").is_none() {
        eprintln!("skipped: libfaketime is not there; install the Debian package faketime");
        return;
    }
    let world = issuing();
    let before = unspent(&world);
    for (number, moved) in ["-1d", "+1d", "@2036-06-01 12:00:00", "2026-01-01 00:00:00"]
        .into_iter()
        .enumerate()
    {
        let machine = Machine::faketime(moved).unwrap();
        let request = format!("{}", number + 2);
        assert_eq!(
            code(world.issue(&request).machine(&machine)),
            "CLOCK-JUMPED",
            "{moved}"
        );
        let shown = status(&world, &machine);
        assert_eq!(
            shown["clock_stopped"]["code"], "CLOCK-JUMPED",
            "{moved}: {shown}"
        );
        assert!(shown["clock_stopped"]["record"].is_u64(), "{shown}");
        let next = shown["next"].as_str().unwrap();
        let told = world.site("status").machine(&machine).text().ok().stdout;
        assert!(told.contains("not believed (CLOCK-JUMPED)"), "{told}");
        for part in ["nothing is issued", "should say", "set the clock right"] {
            assert!(next.contains(part), "{part} in {next}");
        }
        let doctor = world.site("doctor").machine(&machine).run();
        assert!(doctor.stdout.contains("CLOCK-JUMPED"), "{doctor}");
        assert_eq!(
            unspent(&world),
            before - number as u64,
            "{moved}: something was spent"
        );
        assert_eq!(world.status("berlin")["clock_stopped"], Value::Null);
        assert_eq!(code(world.issue(&request)), "issued", "after {moved}");
    }
    let kinds = reported(&world);
    assert_eq!(
        kinds.iter().filter(|kind| *kind == "clock").count(),
        8,
        "{kinds:?}"
    );
}

#[test]
fn a_clock_that_stands_still_stops_the_line() {
    let world = issuing();
    let at = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    let at = i64::try_from(at.unwrap().as_secs()).unwrap();
    let still = |passed| Machine::new().passed(passed).frozen(at);
    assert_eq!(code(world.issue("2").machine(&still(60))), "issued");
    assert_eq!(code(world.issue("3").machine(&still(3600))), "CLOCK-JUMPED");
    assert_eq!(code(world.issue("3")), "issued");
    reported(&world);
}

#[test]
fn a_person_confirms_a_clock_and_confirms_it_back_if_that_was_wrong() {
    let world = issuing();
    let ahead = Machine::new().jumped(20 * 3600);
    assert_eq!(code(world.issue("2").machine(&ahead)), "CLOCK-JUMPED");
    let dry = confirm(&world, &ahead, "--dry-run").exits(0).json();
    assert_eq!(
        (&dry["outcome"], &dry["dry_run"]),
        (&"confirmed".into(), &true.into())
    );
    assert_eq!(code(world.issue("2").machine(&ahead)), "CLOCK-JUMPED");
    confirm(&world, &ahead, "").fails(2, "CONFIRMATION-REQUIRED");
    confirm(&world, &ahead, "--confirm berlin").fails(3, "CONFIRMATION-MISMATCH");
    let done = confirm(&world, &ahead, "--confirm berlin/v1")
        .exits(0)
        .json();
    assert_eq!(done["schema"], "mintmark/clock/1");
    assert_eq!(done["outcome"], "confirmed");
    // A record behind it may be of the next second.
    assert!(done["clock"].as_str() <= done["mark"].as_str(), "{done}");
    assert!(done["expected"].as_str() < done["clock"].as_str(), "{done}");
    assert_eq!(code(world.issue("2").machine(&ahead)), "issued");
    confirm(&world, &ahead, "--confirm berlin/v1").fails(1, "CLOCK-BELIEVED");
    // It was wrong after all.
    let right = Machine::new();
    assert_eq!(code(world.issue("3").machine(&right)), "CLOCK-JUMPED");
    confirm(&world, &right, "--confirm berlin/v1").exits(0);
    assert_eq!(code(world.issue("3").machine(&right)), "issued");
    let behind = status(&world, &right)["clock_behind"].as_u64().unwrap();
    assert!((19 * 3600..=20 * 3600).contains(&behind), "{behind}");
    let kinds = reported(&world);
    assert_eq!(
        kinds.iter().filter(|kind| *kind == "clock-confirm").count(),
        3,
        "{kinds:?}"
    );
}

#[test]
fn a_machine_that_was_off_for_longer_than_the_bound_needs_officers() {
    let world = issuing();
    world.carry_home("berlin").exits_done();
    world.carry_out("berlin").exits_done();
    let month = 29 * DAY;
    let off = Machine::new().passed(month).booted(2);
    assert_eq!(code(world.issue("2").machine(&off)), "issued");
    world.set_clock(month);
    world.carry_home("berlin").exits_done();
    world.carry_out("berlin").exits_done();
    let off = Machine::new().passed(month + 40 * DAY).booted(3);
    assert_eq!(code(world.issue("3").machine(&off)), "CLOCK-JUMPED");
    let shown = status(&world, &off);
    let next = shown["next"].as_str().unwrap();
    for part in ["too far ahead", "at the latest", "`hq site clock`"] {
        assert!(next.contains(part), "{part} in {next}");
    }
    let refused = confirm(&world, &off, "--confirm berlin/v1");
    refused.fails(1, "CLOCK-BEYOND-BOUND");
    world.set_clock(month + 40 * DAY);
    correct(&world);
    world.hq("media export $D/media").ok();
    let import = world.site("media import $D/media").machine(&off);
    import.run().exits_done();
    assert_eq!(status(&world, &off)["clock_stopped"], Value::Null);
    assert_eq!(code(world.issue("3").machine(&off)), "issued");
    reported(&world);
    // A policy that is tried on this log has the time of it corrected, too.
    world.write("trial.toml", POLICY);
    let check = "policy check $D/trial.toml --against berlin";
    let tried = &world.hq(check).run().json()["against"];
    assert_eq!(
        (&tried["requests"], &tried["issued"]),
        (&4.into(), &3.into()),
        "{tried}"
    );
    let refused = tried["refused"].as_array().unwrap();
    assert_eq!(refused.len(), 1, "{tried}");
    assert_eq!(refused[0]["code"], "CLOCK-JUMPED");
}

#[test]
fn a_dead_battery_stops_the_line_until_the_clock_is_set() {
    let world = issuing();
    let dead = Machine::new().frozen(1000).booted(2);
    assert_eq!(code(world.issue("2").machine(&dead)), "CLOCK-BACK");
    let next = status(&world, &dead)["next"].as_str().unwrap().to_owned();
    assert!(
        next.contains("CLOCK-BACK") && next.contains("1970"),
        "{next}"
    );
    let refused = confirm(&world, &dead, "--confirm berlin/v1");
    refused.fails(1, "CLOCK-BEYOND-BOUND");
    assert_eq!(
        code(world.issue("2").machine(&Machine::new().booted(2))),
        "issued"
    );
    reported(&world);
}

#[test]
fn a_machine_that_counts_nothing_says_so_and_is_held_to_the_bound() {
    let world = issuing();
    let blind = |jumped| Machine::new().jumped(jumped).blind();
    let shown = status(&world, &blind(0));
    assert_eq!(shown["clock_steady"], false);
    assert_eq!(world.status("berlin")["clock_steady"], true);
    let doctor = world.site("doctor").machine(&blind(0)).run();
    assert!(doctor.stdout.contains("BOOT-CLOCK-UNREADABLE"), "{doctor}");
    assert_eq!(code(world.issue("2").machine(&blind(20 * 3600))), "issued");
    assert_eq!(
        code(world.issue("3").machine(&blind(40 * DAY))),
        "CLOCK-JUMPED"
    );
    reported(&world);
}

#[test]
fn a_vault_that_was_made_by_a_wrong_clock_is_let_in_all_the_same() {
    let world = World::ready();
    let fingerprint = world.trust_fingerprint();
    let wrong = Machine::new().jumped(300 * DAY);
    world
        .site(&format!(
            "--home $D/rome init --site-id rome --keys @rome --trust $D/media/mintmark/trust-000001.cose \
             --fingerprint {fingerprint}"
        ))
        .machine(&wrong)
        .ok();
    world.let_in("rome", &OFFICERS);
    world.grant("rome", POLICY);
    world.requests("one", [1]);
    let issue = "--home $D/rome issue --product TH-200 --csr $D/csr/one --output $D/out";
    assert_eq!(code(world.site(issue)), "issued");
}

#[test]
fn a_clock_past_the_grant_keeps_nobody_out_once_it_is_right() {
    let world = World::with_headquarters();
    world.site_init("berlin");
    world.admit("berlin", &OFFICERS);
    world.mint("berlin", POLICY);
    world.hq("media export $D/media").ok();
    for days in [60, 400] {
        let wrong = Machine::new().jumped(days * DAY);
        let import = world.site("media import $D/media").machine(&wrong);
        let run = import.exits(3);
        let item = |number| run.item(&format!("to-berlin_v1/dispatch-1-00000{number}.cose"));
        let (grant, entitlement) = (item(1), item(2));
        assert_eq!(grant["outcome"], "held", "{run}");
        assert_eq!(grant["code"], "GRANT-OVERDUE", "{run}");
        assert_eq!(entitlement["code"], "DISPATCH-GAP", "{run}");
        assert!(run.stderr.contains("set the clock right"), "{run}");
        let status = world.status("berlin");
        assert_eq!(status["enrolled"], false, "{status}");
        assert_eq!(status["dispatch"]["sequence"], 0, "{status}");
    }
    world.site("media import $D/media").ok();
    world.requests("1", [1]);
    assert_eq!(code(world.issue("1")), "issued");
    reported(&world);
}
