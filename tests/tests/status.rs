//! `site status`: how much is left, how fast it may go, when it ends, and what to do next.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::fs;

use mintmark_tests::clock::DAY;
use mintmark_tests::shape::expect;
use mintmark_tests::strace::killed_at;
use mintmark_tests::world::POLICY;
use mintmark_tests::{Stores, World};
use serde_json::{Value, json};

const ACCOUNT: &str = "product: text, entitlement: text, authorised: number, good: number, scrapped: number, voided: number, \
                       unresolved: number, unspent: number";
const OUTLOOK: &str = "product: text, entitlement: text, rate_hour: object, rate_day: object, windows: object?, forecast: object?";

fn text(world: &World) -> String {
    world.site("status").text().ok().stdout
}

/// The words with every time and date of this run as its shape.
fn shape(text: &str) -> String {
    let shape: String = text
        .chars()
        .map(|c| if c.is_ascii_digit() { '0' } else { c })
        .collect();
    shape
}

fn day_now(offset: i64) -> i64 {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    (now.unwrap().as_secs() as i64 / DAY + offset) * DAY
}

/// Moves every clock to noon (UTC) of the day so many days ahead.
fn noon(world: &World, days: i64) {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    world.set_clock(day_now(days) + DAY / 2 - now.unwrap().as_secs() as i64);
}

fn make(world: &World, name: &str, numbers: std::ops::RangeInclusive<u32>) {
    world.requests(name, numbers);
    world.issue(name).ok();
}

/// The date of a moment, by the C library's calendar.
fn date(unix: i64) -> String {
    let date = std::process::Command::new("date")
        .args(["--utc", "--date", &format!("@{unix}"), "+%Y-%m-%d"])
        .output()
        .unwrap();
    String::from_utf8(date.stdout).unwrap().trim().to_owned()
}

#[test]
fn the_fields_of_the_status_are_all_there_and_have_their_types() {
    let world = World::with_policy(&POLICY.replace(
        "units = 1000",
        "units = 1000\nunits_per_hour = 5\nunits_per_day = 50\nworking_hours = { zone = \"UTC\", days = [\"mon\", \"tue\", \"wed\", \
         \"thu\", \"fri\", \"sat\", \"sun\"], from = \"00:00\", to = \"24:00\" }",
    ));
    noon(&world, 1);
    make(&world, "three", 1..=3);
    let status = world.status("berlin");
    expect(
        &status,
        "schema: text, site: text, vault: text, accounts: list, credit_units: number, credit_until: time?, credit: list, \
         hsm: object, media: object, next: text, next_steps: list",
    );
    expect(&status["accounts"][0], ACCOUNT);
    let account = &status["outlook"][0];
    expect(account, OUTLOOK);
    expect(
        &account["rate_hour"],
        "used: number?, limit: number?, next: time",
    );
    expect(
        &account["rate_day"],
        "used: number?, limit: number?, next: time",
    );
    expect(
        &account["windows"],
        "state: text, valid_from: time, valid_until: time, working_hours: object?",
    );
    expect(
        &account["windows"]["working_hours"],
        "now: flag, from: time?, until: time?",
    );
    expect(
        &account["forecast"],
        "units_per_day: number, ends: time?, left_over: number",
    );
    expect(
        &status["hsm"],
        "kind: text, state: text, name: text?, code: text?, problems: list",
    );
    expect(
        &status["media"],
        "bundles_waiting: number, bundle_needed: flag, enrolment_request: flag, rotation_request: flag, \
         units_unreported: number, dispatch_next: number",
    );
    assert_eq!(status["next"], status["next_steps"][0]);
    let rates =
        ["rate_hour", "rate_day"].map(|rate| (&account[rate]["used"], &account[rate]["limit"]));
    assert_eq!(rates, [(&json!(3), &json!(5)), (&json!(3), &json!(50))]);
    let next = format!("{}T13:00:00Z", date(day_now(1)));
    assert_eq!(account["rate_hour"]["next"], next);
    assert_eq!(
        account["rate_day"]["next"],
        format!("{}T00:00:00Z", date(day_now(2)))
    );
    assert_eq!(account["windows"]["working_hours"]["now"], true);
    assert_eq!(status["hsm"]["state"], "ok");
    assert_eq!(status["media"]["bundle_needed"], true);

    // The hour is full: the words say until when, and so does the next step.
    make(&world, "more", 4..=5);
    let words = text(&world);
    for line in [
        "  5 of 5 this hour, the next from ",
        "; 5 of 50 today (UTC)\n",
        "  working hours now, until ",
        "keys        folder ",
        "media       to carry to headquarters: what no bundle holds yet\n",
    ] {
        assert!(words.contains(line), "{line}\n{words}");
    }
    let next = format!(
        "next: wait until {next}, and issue with `site issue`; 5 units are not reported to headquarters yet"
    );
    assert!(words.contains(&next), "{words}");
}

#[test]
fn nobody_is_told_to_issue_what_has_no_working_hours_left() {
    let until = format!("valid_until = {}T18:00:00Z", date(day_now(4)));
    let world = World::with_policy(
        &POLICY
            .replace(
                "units = 1000",
                "units = 1000\nworking_hours = { zone = \"UTC\", days = [\"mon\", \"tue\", \"wed\", \"thu\", \"fri\", \"sat\", \
                 \"sun\"], from = \"00:00\", to = \"01:00\" }",
            )
            .replace("valid_for_days = 90", &until),
    );
    noon(&world, 3);
    let next = text(&world);
    assert!(next.contains("\nnext: wait until "), "{next}");
    noon(&world, 4);
    let words = text(&world);
    for line in ["no more working hours", "next: no working hours are left: "] {
        assert!(words.contains(line), "{line}\n{words}");
    }
}

#[test]
fn the_forecast_goes_by_the_days_on_which_something_was_made() {
    let world = World::with_policy(&POLICY.replace("units = 1000", "units = 20"));
    assert_eq!(
        world.status("berlin")["outlook"][0]["forecast"],
        Value::Null
    );
    // Four, nothing for two days, and two: three a day, and today's do not count yet.
    noon(&world, 1);
    make(&world, "a", 1..=4);
    noon(&world, 4);
    make(&world, "b", 5..=6);
    noon(&world, 5);
    make(&world, "c", 7..=7);
    let forecast = world.status("berlin")["outlook"][0]["forecast"].clone();
    // 13 are left: two today, three on each of the next days, and the last two of them on the fourth.
    let ends = format!("{}T00:00:00Z", date(day_now(9)));
    assert_eq!(
        forecast,
        json!({ "units_per_day": 3, "ends": ends, "left_over": 0 })
    );
    let words = text(&world);
    let line = format!("  at 3 a day the units end on {}\n", date(day_now(9)));
    assert!(words.contains(&line), "{words}");
}

#[test]
fn a_forecast_beyond_the_window_says_what_is_left() {
    let policy = POLICY
        .replace("units = 1000", "units = 1000\nunits_per_day = 4")
        .replace("valid_for_days = 90", "valid_for_days = 10");
    let world = World::with_policy(&policy);
    noon(&world, 1);
    make(&world, "a", 1..=4);
    noon(&world, 2);
    let status = world.status("berlin");
    let forecast = &status["outlook"][0]["forecast"];
    assert_eq!(
        (&forecast["units_per_day"], &forecast["ends"]),
        (&json!(4), &Value::Null)
    );
    // From the second day to the tenth, 996 less four a day.
    let left = forecast["left_over"].as_u64().unwrap();
    assert!(
        (956..=964).contains(&left) && left.is_multiple_of(4),
        "{forecast}"
    );
    let words = text(&world);
    let line = format!("  at 4 a day {left} units are left when the window ends\n");
    assert!(words.contains(&line), "{words}");
}

#[test]
fn what_to_do_next_is_a_list_with_the_most_pressing_first() {
    let world = World::with_headquarters();
    world.site_init("berlin");
    let status = world.status("berlin");
    assert_eq!(status["media"]["enrolment_request"], true);
    let steps = status["next_steps"].as_array().unwrap();
    assert!(
        steps[0]
            .as_str()
            .unwrap()
            .starts_with("not enrolled: run `site media export DIR`")
    );
    assert!(text(&world).contains("media       to carry to headquarters: the enrolment request\n"));

    let world = World::ready();
    make(&world, "two", 1..=2);
    world.carry_home("berlin").exits_done();
    let status = world.status("berlin");
    assert_eq!(
        (
            &status["media"]["bundles_waiting"],
            &status["media"]["bundle_needed"]
        ),
        (&json!(1), &json!(false))
    );
    assert!(text(&world).contains("media       to carry to headquarters: 1 bundle\n"));
    world.carry_out("berlin").exits_done();
    assert!(text(&world).contains("media       nothing to carry to headquarters\n"));
    assert_eq!(
        world.status("berlin")["next_steps"],
        json!(["issue with `site issue`"])
    );
    // Two days before the credit ends, that comes before the next unit.
    make(&world, "three", 3..=3);
    world.set_clock(12 * DAY);
    let status = world.status("berlin");
    let steps: Vec<_> = status["next_steps"]
        .as_array()
        .unwrap()
        .iter()
        .map(|step| step.as_str().unwrap())
        .collect();
    assert!(
        steps[0].starts_with("the credit ends soon: run `site media export DIR`"),
        "{steps:?}"
    );
    assert!(
        steps[1].starts_with("issue with `site issue`; 1 unit is not reported"),
        "{steps:?}"
    );
}

#[test]
fn a_store_that_is_gone_is_told_and_everything_else_too() {
    let world = World::ready();
    make(&world, "one", 1..=1);
    fs::rename(keys_folder(&world), world.path("taken")).unwrap();
    let status = world.status("berlin");
    assert_eq!(status["hsm"]["state"], "unreachable");
    assert_eq!(status["accounts"][0]["good"], 1);
    assert!(
        status["next"]
            .as_str()
            .unwrap()
            .starts_with("see to the key store: folder: "),
        "{status}"
    );
    assert!(!status["hsm"]["code"].as_str().unwrap().is_empty());
}

fn keys_folder(world: &World) -> std::path::PathBuf {
    let uri = world.keys("berlin");
    let path = uri.strip_prefix("file:").unwrap();
    path.split('?').next().unwrap().into()
}

#[test]
fn a_token_is_looked_at_without_its_pin() {
    let world = World::with_vault_in(Stores::Tokens);
    let status = world.status("berlin");
    assert_eq!(
        (&status["hsm"]["kind"], &status["hsm"]["state"]),
        (&json!("token"), &json!("ok")),
        "{status}"
    );
    assert!(text(&world).contains("keys        token "));
}

#[test]
fn the_words_fit_a_terminal_of_eighty_columns_but_for_what_is_one_sentence() {
    let world = World::ready();
    make(&world, "two", 1..=2);
    for line in text(&world).lines() {
        let sentence = ["next: ", "then: ", "log ", "device CA ", "clock "];
        if sentence.iter().any(|start| line.starts_with(start)) {
            continue;
        }
        assert!(
            line.chars().count() <= 80,
            "{} columns: {line}",
            line.chars().count()
        );
    }
    assert!(shape(&text(&world)).contains("  valid until 0000-00-00T00:00:00Z\n"));
}

/// Stops `site issue` as a power cut would, earlier and later, until units are burned.
fn burn(world: &World) -> u64 {
    // More than one group of requests at once: with the second, slots are leased beyond those that are spent.
    const TWO_GROUPS: u32 = 600;
    for turn in 0..20 {
        world.requests("mass", turn * TWO_GROUPS..(turn + 1) * TWO_GROUPS);
        let issue = world.issue("mass");
        killed_at(&issue, "rename,renameat,renameat2,linkat", 10 + 60 * turn);
        world.site("recover").ok();
        issue.ok();
        fs::remove_dir_all(world.path("csr/mass")).unwrap();
        let status = world.status("berlin");
        let burned = status["outlook"][0]["burned"].as_u64();
        if let Some(burned) = burned.filter(|burned| *burned > 0) {
            return burned;
        }
    }
    panic!("no lease was ever burned");
}

#[test]
fn units_that_a_power_cut_burned_are_no_discrepancy_and_an_amendment_gives_as_many_back() {
    let policy = |units: u64| POLICY.replace("units = 1000", &format!("units = {units}"));
    let world = World::with_policy(&policy(100_000));
    let burned = burn(&world);
    let account = world.status("berlin")["accounts"][0].clone();
    assert_eq!(account["unresolved"], burned);
    world.carry_home("berlin").exits_done();
    let run = world.reconcile_run().exits_done();
    let report = run.json();
    assert_eq!(report["balanced"], true, "{report}");
    // What the vault says of its account, headquarters says, too, and more.
    for (name, said) in account.as_object().unwrap() {
        assert_eq!(report["accounts"][0][name], *said, "{name}: {report}");
    }
    let findings = report["findings"].as_array().unwrap();
    assert_eq!(findings.len(), 1, "{report}");
    let finding = &findings[0];
    assert_eq!(
        (&finding["code"], &finding["severity"]),
        (&json!("UNRESOLVED"), &json!("note"))
    );
    assert_eq!(
        (
            &finding["evidence"]["burned"],
            &finding["evidence"]["unresolved"]
        ),
        (&json!(burned), &json!(burned))
    );
    let text = finding["text"].as_str().unwrap();
    for part in [
        &format!("{burned} units of TH-200 from th200 were leased"),
        "power cut",
        &format!("amend the entitlement to {} units", 100_000 + burned),
    ] {
        assert!(text.contains(part), "{part}: {text}");
    }

    // What the note says is what gives them back.
    world.write("policies/th200.toml", policy(100_000 + burned));
    let draft = "$D/officers/again.draft";
    let line = format!("entitlement amend --policy $D/policies/th200.toml --output {draft}");
    let id = world.hq(&line).ok().text("id");
    world.approve(draft);
    world.hq(&format!("entitlement export {id}")).ok();
    world.carry_out("berlin").exits_done();
    let after = world.status("berlin")["accounts"][0].clone();
    let good = account["good"].as_u64().unwrap();
    assert_eq!(after["unspent"], 100_000 - good, "{after}");
    world.carry_home("berlin").exits_done();
    let report = world.reconcile_run().exits_done().json();
    for (name, said) in after.as_object().unwrap() {
        assert_eq!(report["accounts"][0][name], *said, "{name}: {report}");
    }
}
