//! Bundles on their way home: once each, whole or not at all, in their order; and the credit that their receipt gives.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::fs;
use std::path::PathBuf;

use mintmark_tests::shape::column;
use mintmark_tests::world::POLICY;
use mintmark_tests::{Run, World, files};
use serde_json::Value;

/// A vault that has made ten devices, and its bundle on the stick.
fn reported() -> World {
    let world = World::ready();
    world.requests("some", 1..=10);
    world.issue("some").ok();
    world.site("media export $D/media").ok();
    world
}

/// The files on the stick that are for HQ, and whose names end so.
fn to_hq(world: &World, end: &str) -> Vec<PathBuf> {
    let mut found = files::below(&world.on_stick("to-hq"));
    found.retain(|path| path.to_str().unwrap().ends_with(end));
    found
}

/// What HQ knows that a bundle could change.
fn known(world: &World) -> (Value, Run, Vec<String>) {
    let report = world.reconcile();
    let bundles = world.hq("audit list").ok();
    let records = files::contents(&world.path("hq/record"));
    (report, bundles, records.into_keys().collect())
}

#[track_caller]
fn import_unchanged(world: &World, exit: i32) -> Run {
    let before = known(world);
    let run = world.hq("media import $D/media").exits(exit);
    let after = known(world);
    assert_eq!(
        (before.0, before.1.stdout, before.2),
        (after.0, after.1.stdout, after.2),
        "{run}"
    );
    run
}

fn outcome(item: &Value) -> (&str, &str) {
    (
        item["outcome"].as_str().unwrap(),
        item["code"].as_str().unwrap_or_default(),
    )
}

#[track_caller]
fn expect_healthy(world: &World, good: u64) {
    let run = world.hq("media import $D/media").ok();
    assert_eq!(outcome(&run.item("000001.cose")), ("imported", ""));
    let report = world.hq("reconcile").ok().json();
    assert_eq!(
        (
            report["accounts"][0]["good"].as_u64(),
            report["balanced"].as_bool()
        ),
        (Some(good), Some(true))
    );
}

#[test]
fn a_bundle_counts_once_however_often_it_arrives() {
    let world = reported();
    expect_healthy(&world, 10);
    for _ in 0..2 {
        let run = import_unchanged(&world, 0);
        assert_eq!(outcome(&run.item("000001.cose")), ("already", ""));
    }
}

#[test]
fn a_damaged_or_cut_bundle_is_refused_or_held_and_nothing_changes() {
    let world = reported();
    let bundle = to_hq(&world, ".cose").remove(0);
    let segment = to_hq(&world, ".seg0001").remove(0);
    for (path, of_segment) in [(bundle, false), (segment, true)] {
        let whole = fs::read(&path).unwrap();
        for sample in 0..12 {
            files::flip(&path, whole.len() * 8 * sample / 12 + sample % 8);
            let run = import_unchanged(&world, 1);
            let item = run.item("000001.cose");
            let (outcome, code) = outcome(&item);
            assert_eq!(outcome, "refused", "{run}");
            assert!(!of_segment || code == "SEGMENT-DIGEST", "{run}");
            fs::write(&path, &whole).unwrap();
        }
        for length in [0, 1, whole.len() / 2, whole.len() - 1] {
            fs::write(&path, &whole[..length]).unwrap();
            let run = world.hq("media import $D/media").run();
            let item = run.item("000001.cose");
            let (outcome, _) = outcome(&item);
            // A cut segment may still come whole; a cut bundle is none.
            let expected = if of_segment {
                [(3, "held"), (1, "refused")]
            } else {
                [(1, "refused"); 2]
            };
            assert!(
                expected.contains(&(run.exit, outcome)),
                "{length} bytes: {run}"
            );
            assert_eq!(
                world.hq("audit list").ok().json()["bundles"]
                    .as_array()
                    .unwrap()
                    .len(),
                0
            );
        }
        fs::write(&path, whole).unwrap();
    }
    expect_healthy(&world, 10);
}

#[test]
fn a_bundle_without_its_segment_is_held_until_that_arrives() {
    let world = reported();
    let segment = to_hq(&world, ".seg0001").remove(0);
    let away = world.path("away");
    fs::rename(&segment, &away).unwrap();
    let run = import_unchanged(&world, 3);
    assert_eq!(
        outcome(&run.item("000001.cose")),
        ("held", "SEGMENT-MISSING")
    );
    fs::rename(away, segment).unwrap();
    expect_healthy(&world, 10);
}

#[test]
fn a_bundle_before_its_predecessor_is_held_and_both_are_imported_in_their_order() {
    let world = reported();
    let first = to_hq(&world, "000001.cose").remove(0);
    let away = world.path("away");
    fs::rename(&first, &away).unwrap();
    world.requests("more", 11..=15);
    world.issue("more").ok();
    // The vault does not know yet that the first one arrived: it brings both again.
    world.site("media export $D/media").ok();
    fs::remove_file(&first).unwrap();
    let run = world.hq("media import $D/media").exits(3);
    assert_eq!(outcome(&run.item("000002.cose")), ("held", "BUNDLE-GAP"));
    // What is missing is found, and nothing of what came counts, until it is there.
    let report = world.hq("reconcile").exits(1).json();
    let gap = &report["findings"][0];
    assert_eq!(
        (&gap["code"], &gap["evidence"]["last_missing"]),
        (&Value::from("BUNDLE-GAP"), &Value::from(1))
    );
    assert_eq!(report["accounts"][0]["good"], 0);
    fs::rename(away, first).unwrap();
    let run = world.hq("media import $D/media").ok();
    assert_eq!(outcome(&run.item("000001.cose")), ("imported", ""));
    assert_eq!(outcome(&run.item("000002.cose")), ("imported", ""));
    assert_eq!(world.hq("reconcile").ok().json()["accounts"][0]["good"], 15);
}

#[test]
fn what_is_not_reported_is_not_counted_and_the_report_says_as_of_when() {
    let world = reported();
    let report = world.reconcile();
    assert!(report["as_of"].is_null(), "{report}");
    assert_eq!(
        (
            report["accounts"][0]["good"].as_u64(),
            report["accounts"][0]["unspent"].as_u64()
        ),
        (Some(0), Some(1000))
    );
    expect_healthy(&world, 10);
    let as_of = world.reconcile()["as_of"].clone();
    world.requests("more", 11..=12);
    world.issue("more").ok();
    let report = world.reconcile();
    assert_eq!(
        (&report["as_of"], report["accounts"][0]["good"].as_u64()),
        (&as_of, Some(10))
    );
}

#[test]
fn a_vault_that_does_not_report_stops_and_goes_on_when_its_report_is_acknowledged() {
    let world = World::with_policy(
        &POLICY.replace("max_unreported_units = 20000", "max_unreported_units = 5"),
    );
    let status = world.status("berlin");
    assert_eq!(status["credit_units"], 5);
    assert_eq!(
        status["credit"],
        serde_json::json!([{"entitlement": "th200", "units": 5, "until": null}])
    );
    world.requests("eight", 1..=8);
    let rows = world.issue("eight").exits(1).lines();
    let stopped = "CREDIT-UNITS-EXHAUSTED";
    assert_eq!(
        column(&rows, "code"),
        ["", "", "", "", "", stopped, stopped, stopped]
    );
    let status = world.status("berlin");
    assert_eq!(status["credit_units"], 0);
    let next = status["next"].as_str().unwrap();
    assert!(next.starts_with("the credit is used up"), "{next}");
    let text = world.issue("eight/TH200-00000008.csr").text().exits(1);
    assert!(
        text.stderr.contains("note: CREDIT-UNITS-EXHAUSTED: "),
        "{text}"
    );
    // Exporting alone gives nothing back, nor does HQ's import, nor does carrying the old stick again.
    world.carry_home("berlin").exits_done();
    assert_eq!(
        column(&world.issue("eight").exits(1).lines(), "code")[5..],
        [stopped; 3]
    );
    world.site("media import $D/media").ok();
    assert_eq!(world.status("berlin")["credit_units"], 0);
    // What was given before is given again all the same.
    assert_eq!(
        column(&world.issue("eight").exits(1).lines(), "outcome")[..5],
        ["existing"; 5]
    );
    let run = world.carry_out("berlin").exits_done();
    let items = run.json();
    assert!(
        column(items["items"].as_array().unwrap(), "type").contains(&"acknowledgement"),
        "{run}"
    );
    assert_eq!(world.status("berlin")["credit_units"], 5);
    let rows = world.issue("eight").ok().lines();
    assert_eq!(column(&rows, "outcome")[5..], ["issued"; 3]);
    assert_eq!(world.status("berlin")["credit_units"], 2);
    // The receipt of the first report again is no second receipt.
    world.site("media import $D/media").ok();
    assert_eq!(world.status("berlin")["credit_units"], 2);
    let report = world.hq("reconcile").ok().json();
    assert_eq!(report["balanced"], true);
}

#[test]
fn the_days_of_credit_run_out_too() {
    let world =
        World::with_policy(&POLICY.replace("max_unreported_days = 14", "max_unreported_days = 2"));
    world.requests("one", [1]);
    world.issue("one").ok();
    world.set_clock(3 * mintmark_tests::clock::DAY);
    world.requests("two", [2]);
    assert_eq!(
        world.issue("two").exits(1).lines()[0]["code"],
        "CREDIT-DAYS-EXHAUSTED"
    );
    world.carry_home("berlin").exits_done();
    world.carry_out("berlin").exits_done();
    world.issue("two").ok();
}

#[test]
fn a_vault_with_nothing_new_to_say_seals_nothing_and_headquarters_answers_nothing() {
    let world = reported();
    world.hq("media import $D/media").ok();
    world.carry_out("berlin").exits_done();
    let sealed = |world: &World| {
        world.status("berlin")["bundle"]["sequence"]
            .as_u64()
            .unwrap()
    };
    let dispatches = |world: &World| {
        world.status("berlin")["dispatch"]["sequence"]
            .as_u64()
            .unwrap()
    };
    // The two sides would otherwise acknowledge each other's acknowledgements for ever.
    for _ in 0..3 {
        world.carry_home("berlin").exits_done();
        world.carry_out("berlin").exits_done();
    }
    let (bundles, mail) = (sealed(&world), dispatches(&world));
    for _ in 0..3 {
        world.carry_home("berlin").exits_done();
        world.carry_out("berlin").exits_done();
    }
    assert_eq!((sealed(&world), dispatches(&world)), (bundles, mail));
}

#[test]
fn a_vault_that_was_never_let_in_has_nothing_to_report() {
    let ours = World::ready();
    let theirs = reported();
    // Another headquarters' vault, of the same name.
    fs::create_dir_all(ours.on_stick("to-hq")).unwrap();
    let stranger = World::empty(mintmark_tests::Stores::Files);
    stranger.ceremony(&["eve"], "");
    stranger.site_init("rome");
    stranger.let_in("rome", &["eve"]);
    stranger.site("--home $D/rome media export $D/media").ok();
    for path in files::below(&stranger.on_stick("to-hq")) {
        fs::copy(
            &path,
            ours.on_stick("to-hq").join(path.file_name().unwrap()),
        )
        .unwrap();
    }
    let run = import_unchanged(&ours, 1);
    assert_eq!(
        outcome(&run.item("000001.cose")),
        ("refused", "VAULT-UNKNOWN")
    );
    drop(theirs);
}

#[test]
fn one_vault_is_not_taken_for_another() {
    let world = reported();
    world.enrol("paris");
    world.mint("paris", POLICY);
    world.carry_out("paris").exits_done();
    world.site("--home $D/paris media export $D/media").ok();
    let berlin = to_hq(&world, ".cose")
        .into_iter()
        .find(|path| path.to_str().unwrap().contains("berlin_"))
        .unwrap();
    let paris = to_hq(&world, ".cose")
        .into_iter()
        .find(|path| path.to_str().unwrap().contains("paris_"))
        .unwrap();
    let (b, p) = (fs::read(&berlin).unwrap(), fs::read(&paris).unwrap());
    fs::write(&berlin, &p).unwrap();
    fs::write(&paris, &b).unwrap();
    let run = import_unchanged(&world, 1);
    let items = run.json();
    for item in items["items"]
        .as_array()
        .unwrap()
        .iter()
        .filter(|item| item["type"] == "audit-bundle")
    {
        assert_eq!(item["outcome"], "refused", "{run}");
    }
    fs::write(&berlin, b).unwrap();
    fs::write(&paris, p).unwrap();
    world.hq("media import $D/media").ok();
    assert_eq!(world.reconcile()["balanced"], true);
}

#[test]
fn a_bundle_can_be_verified_by_itself_and_nothing_changes() {
    let world = reported();
    let bundle = to_hq(&world, ".cose").remove(0);
    let verify = format!("audit verify {}", bundle.display());
    let before = known(&world);
    world.hq(&verify).ok();
    let after = known(&world);
    assert_eq!((before.0, before.1.stdout), (after.0, after.1.stdout));
    files::flip(&bundle, 8 * 300);
    assert_eq!(world.hq(&verify).run().exit, 1);
    files::flip(&bundle, 8 * 300);
    let segment = to_hq(&world, ".seg0001").remove(0);
    files::flip(&segment, 8 * 300);
    assert_ne!(world.hq(&verify).run().exit, 0);
}

#[test]
fn the_report_can_be_read_as_a_table_and_as_csv_and_written_to_a_file() {
    let world = reported();
    world.hq("media import $D/media").ok();
    let table = world.hq("reconcile").text().ok().stdout;
    assert!(table.contains("TH-200") && table.contains("990"), "{table}");
    let csv = world.hq("reconcile --format csv").text().ok().stdout;
    let mut lines = csv.lines();
    let header: Vec<&str> = lines.next().unwrap().split(',').collect();
    let row: Vec<&str> = lines.next().unwrap().split(',').collect();
    let cell = |name: &str| {
        row[header
            .iter()
            .position(|column| *column == name)
            .unwrap_or_else(|| panic!("{name} in {csv}"))]
    };
    assert_eq!(
        (
            cell("site"),
            cell("authorised"),
            cell("good"),
            cell("unspent")
        ),
        ("berlin", "1000", "10", "990")
    );
    world
        .hq("reconcile --format json --output $D/report.json")
        .text()
        .ok();
    let written: Value =
        serde_json::from_slice(&fs::read(world.path("report.json")).unwrap()).unwrap();
    assert_eq!(written, world.reconcile());
    let only = world.hq("reconcile --site berlin").ok().json();
    assert_eq!(only["accounts"].as_array().unwrap().len(), 1);
    assert_eq!(world.hq("reconcile --site nowhere").run().exit, 2);
}

#[test]
fn what_headquarters_refuses_or_holds_is_an_error_on_standard_error() {
    let world = reported();
    let segment = to_hq(&world, ".seg0001").remove(0);
    fs::rename(segment, world.path("away")).unwrap();
    let run = world
        .hq("media import $D/media")
        .fails(3, "SEGMENT-MISSING");
    assert_eq!(run.codes().len(), 1, "{run}");
}

#[test]
fn a_rehearsal_at_headquarters_changes_nothing() {
    let world = reported();
    let before = known(&world);
    let run = world.hq("media import $D/media --dry-run").ok();
    assert_eq!(outcome(&run.item("000001.cose")), ("imported", ""));
    let after = known(&world);
    assert_eq!(
        (before.0, before.1.stdout, before.2),
        (after.0, after.1.stdout, after.2)
    );
    expect_healthy(&world, 10);

    world.site_init("paris");
    world.site("--home $D/paris media export $D/media").ok();
    let fingerprint = world.status("paris")["enrolment_fingerprint"]
        .as_str()
        .unwrap()
        .to_owned();
    let second = POLICY.replace("id = \"th200\"", "id = \"second\"");
    world.write("policies/second.toml", &second);
    let state = |world: &World| {
        let lists = [
            "approval list",
            "site list",
            "entitlement list",
            "officer list",
            "trust show",
        ];
        let lists = lists.map(|line| world.hq(line).ok().stdout);
        (lists, files::contents(&world.path("hq/record")))
    };
    let before = state(&world);
    let enrol =
        format!("--request $D/media/mintmark/enrol-paris_v1.cose --fingerprint {fingerprint}");
    for line in [
        "trust draft --output $D/x",
        &format!("site enrol {enrol} --output $D/x"),
        "entitlement draft --site berlin --policy $D/policies/second.toml --output $D/x",
        "officer remove bob",
    ] {
        world.hq(&format!("{line} --dry-run")).ok();
        assert_eq!(state(&world), before, "{line}");
        assert!(!world.path("x").exists(), "{line}");
    }
    let draft = world.draft("berlin", &second);
    world.approve("$D/officers/berlin-second.draft");
    let before = state(&world);
    world
        .hq(&format!("entitlement export {draft} --dry-run"))
        .ok();
    assert_eq!(state(&world), before);
    world.hq(&format!("entitlement export {draft}")).ok();
}
