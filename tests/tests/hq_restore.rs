//! Headquarters' home is put back from an older copy. What was received and sent since is forgotten; the vaults have it.
//! It is noticed, officers declare it, and it ends with every vault issuing and every unit accounted for.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::fs;

use mintmark_tests::world::{OFFICERS, POLICY};
use mintmark_tests::{Run, World, files};
use serde_json::Value;

const SECOND: &str = "second";

/// A policy of another product.
fn second() -> String {
    POLICY
        .replace("id = \"th200\"", "id = \"second\"")
        .replace("TH-200", "GW-1")
        .replace("TH200-", "GW1-")
        .replace("units = 1000", "units = 10")
}

fn issue_second(world: &World, name: &str, numbers: std::ops::RangeInclusive<u32>) {
    let folder = world.path("csr").join(name);
    fs::create_dir_all(&folder).unwrap();
    for number in numbers {
        let id = format!("GW1-{number:08}");
        mintmark_tests::judge::openssl(
            world.folder(),
            &format!(
                "req -new -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -keyout {id}.key -subj /serialNumber={id} -out csr/{name}/{id}.csr"
            ),
        );
    }
    world
        .site(&format!(
            "issue --product GW-1 --csr $D/csr/{name} --output $D/out"
        ))
        .ok();
}

/// Puts the copy of headquarters' home back.
fn put_back(world: &World) {
    fs::rename(world.path("hq"), world.path("hq-gone")).unwrap();
    files::copy(&world.path("hq-copy"), &world.path("hq"));
}

/// A stick that has nothing on it.
fn wipe_stick(world: &World) {
    fs::remove_dir_all(world.path("media")).unwrap();
    fs::create_dir(world.path("media")).unwrap();
}

/// Officers declare the restore.
#[track_caller]
fn declare(world: &World) {
    let draft = "$D/officers/epoch.draft";
    world.hq(&format!("trust epoch --output {draft}")).ok();
    world.approve(draft);
    world.hq("trust publish --media $D/media").ok();
}

fn codes(report: &Value) -> Vec<String> {
    let findings = report["findings"].as_array().unwrap().iter();
    let mut codes: Vec<_> = findings
        .map(|finding| finding["code"].as_str().unwrap().to_owned())
        .collect();
    codes.sort();
    codes.dedup();
    codes
}

fn of<'r>(report: &'r Value, code: &str) -> &'r Value {
    let mut findings = report["findings"].as_array().unwrap().iter();
    findings.find(|finding| finding["code"] == code).unwrap()
}

/// What headquarters forgets: an entitlement, three units of it, five of the first one, two reports and their receipts.
fn forgetting() -> World {
    let world = World::ready();
    world.requests("two", 1..=2);
    world.issue("two").ok();
    world.carry_home("berlin").exits_done();
    world.carry_out("berlin").exits_done();
    files::copy(&world.path("hq"), &world.path("hq-copy"));
    world.grant("berlin", &second());
    issue_second(&world, "gateways", 1..=3);
    world.carry_home("berlin").exits_done();
    world.carry_out("berlin").exits_done();
    world.requests("five", 3..=7);
    world.issue("five").ok();
    world.carry_home("berlin").exits_done();
    world.carry_out("berlin").exits_done();
    world.requests("one", 8..=8);
    world.issue("one").ok();
    put_back(&world);
    wipe_stick(&world);
    world
}

#[track_caller]
fn ends_well(world: &World) -> Run {
    // What it does not know it does not give out: an account tag, a version.
    world.write(
        "policies/th200.toml",
        POLICY.replace("units = 1000", "units = 2000"),
    );
    world
        .hq("entitlement amend --policy $D/policies/th200.toml")
        .fails(2, "RESTORE-UNREPORTED");
    let carried = world.carry_out("berlin").exits_done();
    let home = world.carry_home("berlin");
    let report = world.reconcile();
    assert_eq!(report["balanced"], true, "{report}");
    let good: Vec<_> = report["accounts"]
        .as_array()
        .unwrap()
        .iter()
        .map(|account| {
            (
                account["entitlement"].as_str().unwrap(),
                account["good"].as_u64().unwrap(),
            )
        })
        .collect();
    assert_eq!(good, [("th200", 8), (SECOND, 3)], "{report}");
    assert_eq!(
        codes(&report),
        ["DISPATCH-FORGOTTEN", "ENTITLEMENT-FORGOTTEN"],
        "{report}"
    );
    assert_eq!(
        of(&report, "ENTITLEMENT-FORGOTTEN")["evidence"]["entitlement"],
        SECOND
    );
    drop(carried);
    home
}

#[test]
fn a_restore_that_nobody_declared_is_noticed_and_a_declared_one_ends_balanced() {
    let world = forgetting();
    // The vault carries what is not acknowledged: two reports further on, and it names a dispatch that nobody here knows.
    let run = world.carry_home("berlin").exits(4);
    let items = run.json()["items"].clone();
    assert_eq!(items[0]["code"], "DISPATCH-UNKNOWN", "{run}");
    assert!(run.to_string().contains("hq trust epoch"), "{run}");
    assert_eq!(codes(&world.reconcile()), ["DISPATCH-UNKNOWN"]);

    // Nothing is sealed over a number that the vault is known to have.
    let draft = "$D/officers/clock.draft";
    let line = format!("site clock berlin/v1 --reason battery --output {draft}");
    let id = world.hq(&line).ok().text("id");
    world.approve(draft);
    let refused = world
        .hq(&format!("site grant {id}"))
        .fails(1, "DISPATCH-CONTESTED");
    assert!(refused.stderr.contains("hq trust epoch"), "{refused}");

    declare(&world);
    let home = ends_well(&world);
    assert_eq!(home.exit, 1, "{home}");

    // Officers approve again what was forgotten, with more units, and the vault makes them.
    world.write(
        "policies/second.toml",
        second().replace("units = 10", "units = 20"),
    );
    let draft = "$D/officers/again.draft";
    let id = world
        .hq(&format!(
            "entitlement amend --policy $D/policies/second.toml --output {draft}"
        ))
        .ok()
        .text("id");
    world.approve(draft);
    world.hq(&format!("entitlement export {id}")).ok();
    world.carry_out("berlin").exits_done();
    issue_second(&world, "more", 4..=14);
    // An account of a new entitlement has a tag that none has had.
    world.grant(
        "berlin",
        &second()
            .replace("id = \"second\"", "id = \"third\"")
            .replace("GW-1", "GW-2"),
    );
    world.carry_home("berlin").exits_done();
    world.carry_out("berlin").exits_done();
    let report = world.reconcile();
    assert_eq!(report["balanced"], true, "{report}");
    let accounts = report["accounts"].as_array().unwrap();
    let of_second = accounts
        .iter()
        .find(|account| account["entitlement"] == SECOND);
    assert_eq!(of_second.unwrap()["good"], 14, "{report}");
    assert_eq!(of_second.unwrap()["authorised"], 20, "{report}");
    assert_eq!(
        codes(&report),
        ["DISPATCH-FORGOTTEN", "ENTITLEMENT-FORGOTTEN"]
    );
    let status = world.status("berlin");
    assert_eq!(status["dispatch"]["epoch"], 2, "{status}");
}

#[test]
fn what_is_owed_to_a_vault_that_knows_more_waits_until_the_restore_is_declared() {
    let world = World::ready();
    let issue_and_report = |name: &str, numbers: std::ops::RangeInclusive<u32>| {
        world.requests(name, numbers);
        world.issue(name).ok();
        world.carry_home("berlin")
    };
    issue_and_report("two", 1..=2).exits_done();
    // The receipt of this report is owed.
    files::copy(&world.path("hq"), &world.path("hq-copy"));
    world.carry_out("berlin").exits_done();
    issue_and_report("three", 3..=5).exits_done();
    world.carry_out("berlin").exits_done();
    put_back(&world);
    wipe_stick(&world);
    let run = issue_and_report("one", 6..=6).exits(4);
    assert_eq!(run.json()["items"][0]["code"], "DISPATCH-UNKNOWN", "{run}");
    let exported = world.hq("media export $D/media").ok();
    assert_eq!(
        exported.warning_codes(),
        ["DISPATCH-CONTESTED"],
        "{exported}"
    );
    assert!(!exported.stdout.contains("acknowledgement"), "{exported}");

    declare(&world);
    world.carry_out("berlin").exits_done();
    // Receipts alone were forgotten.
    world.carry_home("berlin").exits_done();
    let report = world.reconcile();
    assert_eq!(report["balanced"], true, "{report}");
    assert_eq!(codes(&report), ["DISPATCH-FORGOTTEN"], "{report}");
    world.carry_out("berlin").exits_done();
    world.requests("last", 7..=7);
    world.issue("last").ok();
}

#[test]
fn what_was_sealed_before_anybody_knew_is_left_out_and_forks_nothing() {
    let world = forgetting();
    // Nobody knows yet that it is an older copy: an order takes the number of what the vault has.
    let draft = "$D/officers/clock.draft";
    let line = format!("site clock berlin/v1 --reason battery --output {draft}");
    let id = world.hq(&line).ok().text("id");
    world.approve(draft);
    world.hq(&format!("site grant {id}")).ok();
    // It is on this stick already.
    let exported = world.hq("media export $D/media").ok();
    assert!(exported.stdout.contains("to-berlin_v1"), "{exported}");
    let run = world.carry_home("berlin").exits(4);
    assert_eq!(run.json()["items"][0]["code"], "DISPATCH-UNKNOWN", "{run}");
    let exported = world.hq("media export $D/media").ok();
    assert_eq!(
        exported.warning_codes(),
        ["DISPATCH-CONTESTED"],
        "{exported}"
    );
    assert!(!exported.stdout.contains("to-berlin_v1"), "{exported}");
    let import = world.site("media import $D/media").run();
    assert!(!import.to_string().contains("DISPATCH-FORK"), "{import}");

    declare(&world);
    let import = world.carry_out("berlin");
    assert!(!import.to_string().contains("DISPATCH-FORK"), "{import}");
    world.carry_home("berlin");
    let report = world.reconcile();
    assert_eq!(report["balanced"], true, "{report}");
    world.carry_out("berlin").exits_done();
    world.requests("last", 9..=9);
    world.issue("last").ok();
}

/// A report that headquarters forgets at once: its home is put back, and does not understand the report when it comes again.
#[track_caller]
fn forgotten_report(world: &World) {
    world.requests("two", 1..=2);
    world.issue("two").ok();
    world.carry_home("berlin").exits_done();
    files::copy(&world.path("hq"), &world.path("hq-copy"));
    world.carry_out("berlin").exits_done();
    files::copy(&world.path("berlin"), &world.path("berlin-copy"));
    world.requests("one", 3..=3);
    world.issue("one").ok();
    world.carry_home("berlin").exits_done();
    files::copy(&world.path("media"), &world.path("reported"));
    put_back(world);
    world
        .hq("media import $D/reported")
        .fails(4, "DISPATCH-UNKNOWN");
}

/// The vault's home is put back too, and it says so.
#[track_caller]
fn restore_vault(world: &World) {
    fs::remove_dir_all(world.path("berlin")).unwrap();
    files::copy(&world.path("berlin-copy"), &world.path("berlin"));
    wipe_stick(world);
    world
        .site("recover --declare-restore --confirm berlin/v1")
        .ok();
    let run = world.carry_home("berlin").exits(1);
    let declaration = run.item("restore-berlin_v1.cose");
    assert_eq!(declaration["code"], "DISPATCH-CONTESTED", "{run}");
    let exported = world.hq("media export $D/media").ok();
    assert!(!exported.stdout.contains("tail-"), "{exported}");
}

/// It has what headquarters sent back, issues again, and the accounts come to this.
#[track_caller]
fn works_again(world: &World, good: u64) {
    world.carry_out("berlin").exits_done();
    world.requests("last", 9..=9);
    world.issue("last").ok();
    world.carry_home("berlin").exits_done();
    let report = world.reconcile();
    assert_eq!(report["balanced"], true, "{report}");
    let account = &report["accounts"][0];
    assert_eq!(account["good"], good, "{report}");
    assert_eq!(account["unresolved"], 0, "{report}");
    for code in ["FORK", "DISPATCH-UNKNOWN"] {
        assert!(!codes(&report).contains(&code.to_owned()), "{report}");
    }
}

#[test]
fn a_vaults_restore_is_answered_after_headquarters_own_is_declared() {
    let world = World::ready();
    forgotten_report(&world);
    restore_vault(&world);
    declare(&world);
    world.hq("media import $D/reported").ok();
    let _ = world.carry_home("berlin").exits(1);
    works_again(&world, 4);
}

#[test]
fn a_dispatch_that_is_explained_is_unknown_no_longer_though_its_report_never_comes_again() {
    let world = World::ready();
    forgotten_report(&world);
    // What the vault has lost is what came after the report.
    fs::remove_dir_all(world.path("berlin-copy")).unwrap();
    files::copy(&world.path("berlin"), &world.path("berlin-copy"));
    restore_vault(&world);
    declare(&world);
    let _ = world.carry_home("berlin").exits(1);
    works_again(&world, 4);
    let _ = world.hq("media import $D/reported").run();
    let report = world.reconcile();
    assert!(
        !codes(&report).contains(&"DISPATCH-UNKNOWN".to_owned()),
        "{report}"
    );
}

#[test]
fn an_epoch_that_headquarters_has_forgotten_stops_what_is_sealed_in_the_one_before() {
    let world = World::ready();
    world.requests("two", 1..=2);
    world.issue("two").ok();
    world.carry_home("berlin").exits_done();
    world.carry_out("berlin").exits_done();
    files::copy(&world.path("hq"), &world.path("hq-copy"));
    declare(&world);
    world.carry_out("berlin").exits_done();
    put_back(&world);
    wipe_stick(&world);
    let run = world.carry_home("berlin").exits(4);
    assert_eq!(run.json()["items"][0]["code"], "DISPATCH-UNKNOWN", "{run}");
    let draft = "$D/officers/clock.draft";
    let line = format!("site clock berlin/v1 --reason battery --output {draft}");
    let id = world.hq(&line).ok().text("id");
    world.approve(draft);
    let run = world
        .hq(&format!("site grant {id}"))
        .fails(1, "DISPATCH-CONTESTED");
    assert!(
        run.stderr.contains("take back the trust manifests"),
        "{run}"
    );
}

#[test]
fn a_restore_to_before_the_first_report_brings_every_report_again() {
    let world = World::ready();
    files::copy(&world.path("hq"), &world.path("hq-copy"));
    for (name, at) in [("a", 1), ("b", 2)] {
        world.requests(name, at..=at);
        world.issue(name).ok();
        world.carry_home("berlin").exits_done();
        world.carry_out("berlin").exits_done();
    }
    put_back(&world);
    wipe_stick(&world);
    declare(&world);
    world.carry_out("berlin").exits_done();
    let home = world.carry_home("berlin");
    let report = world.reconcile();
    assert_eq!(report["balanced"], true, "{home} {report}");
    assert_eq!(report["accounts"][0]["good"], 2, "{report}");
    // Receipts were forgotten, which is no more than a note.
    assert_eq!(codes(&report), ["DISPATCH-FORGOTTEN"]);
    assert_eq!(of(&report, "DISPATCH-FORGOTTEN")["severity"], "note");
    world.carry_out("berlin").exits_done();
    world.requests("c", 3..=3);
    world.issue("c").ok();
}

/// The files of these bundles in the vault's outbox go to `$D/kept`.
fn take_away(world: &World, sequences: &[u64]) {
    fs::create_dir_all(world.path("kept/mintmark/to-hq")).unwrap();
    for sequence in sequences {
        let mark = format!("-{sequence:06}.");
        let mut count = 0;
        for path in files::below(&world.path("berlin/outbox")) {
            let name = path.file_name().unwrap().to_str().unwrap().to_owned();
            if name.contains(&mark) {
                fs::copy(&path, world.path("kept/mintmark/to-hq").join(&name)).unwrap();
                fs::remove_file(path).unwrap();
                count += 1;
            }
        }
        assert!(count >= 2, "bundle {sequence}");
    }
}

/// Headquarters is restored, and of what it forgot the vault does not have these bundles any more.
fn ends_well_without(gone: &[u64]) {
    let world = forgetting();
    take_away(&world, gone);
    declare(&world);
    world.carry_out("berlin").exits_done();
    let planned = world.site("media export $D/media --dry-run").ok();
    assert_eq!(
        planned.item("000004.cose")["outcome"],
        "planned",
        "{planned}"
    );
    let export = world.site("media export $D/media").ok();
    assert_eq!(export.warning_codes(), ["BUNDLES-GONE"], "{export}");
    assert_eq!(
        export.item("000004.cose")["outcome"],
        "exported",
        "{export}"
    );
    // Once more, it is the same one.
    let again = world.site("media export $D/media").ok();
    assert_eq!(again.item("000004.cose")["outcome"], "already", "{again}");
    assert!(again.warning_codes().is_empty(), "{again}");

    let verify = format!(
        "audit verify {}",
        files::below(&world.on_stick("to-hq"))
            .into_iter()
            .find(|path| path.to_str().unwrap().ends_with("-000004.cose"))
            .unwrap()
            .display()
    );
    assert_eq!(world.hq(&verify).ok().json()["position"], "next");
    let home = world.hq("media import $D/media").exits(1);
    assert_eq!(home.item("000004.cose")["outcome"], "imported", "{home}");
    let report = world.reconcile();
    assert_eq!(report["balanced"], true, "{report}");
    let good: Vec<_> = report["accounts"]
        .as_array()
        .unwrap()
        .iter()
        .map(|account| account["good"].as_u64().unwrap())
        .collect();
    assert_eq!(good, [8, 3], "{report}");
    assert_eq!(
        codes(&report),
        [
            "BUNDLES-FORGOTTEN",
            "DISPATCH-FORGOTTEN",
            "ENTITLEMENT-FORGOTTEN"
        ],
        "{report}"
    );
    let finding = of(&report, "BUNDLES-FORGOTTEN");
    assert_eq!(finding["severity"], "note", "{finding}");
    assert_eq!(
        finding["evidence"]["sequences"],
        serde_json::json!([2, 3]),
        "{finding}"
    );
    // What turns up of them is no fork, and nothing new.
    let kept = world.hq("media import $D/kept").ok();
    for sequence in gone {
        let item = kept.item(&format!("-{sequence:06}.cose"));
        assert_eq!(item["outcome"], "already", "{kept}");
    }
    assert_eq!(codes(&world.reconcile()), codes(&report));

    // It goes on as ever.
    world.carry_out("berlin").exits_done();
    assert_eq!(world.status("berlin")["bundle"]["acknowledged"], 4);
    world.requests("more", 9..=10);
    world.issue("more").ok();
    world.carry_home("berlin").exits_done();
    world.carry_out("berlin").exits_done();
    let report = world.reconcile();
    assert_eq!(report["balanced"], true, "{report}");
    assert_eq!(report["accounts"][0]["good"], 10, "{report}");
}

#[test]
fn a_bundle_that_nobody_has_any_more_is_named_and_its_records_come_in_another_one() {
    ends_well_without(&[2]);
}

#[test]
fn bundles_that_nobody_has_any_more_are_named_and_their_records_come_in_another_one() {
    ends_well_without(&[2, 3]);
}

#[test]
fn a_forgotten_bundle_that_comes_before_what_takes_its_place_does_no_harm() {
    let world = forgetting();
    take_away(&world, &[2, 3]);
    declare(&world);
    world.carry_out("berlin").exits_done();
    world.site("media export $D/media").ok();
    fs::rename(world.path("media"), world.path("late")).unwrap();
    fs::create_dir(world.path("media")).unwrap();
    // Somebody finds the stick with bundle 2.
    for path in files::below(&world.path("kept")) {
        if path.to_str().unwrap().contains("-000003.") {
            fs::remove_file(path).unwrap();
        }
    }
    world.hq("media import $D/kept").exits(1);
    let late = world.hq("media import $D/late").ok();
    assert_eq!(late.item("000004.cose")["outcome"], "imported", "{late}");
    let report = world.reconcile();
    assert_eq!(report["balanced"], true, "{report}");
    assert_eq!(
        of(&report, "BUNDLES-FORGOTTEN")["evidence"]["sequences"],
        serde_json::json!([3])
    );
    let good = |report: &Value| report["accounts"][0]["good"].as_u64().unwrap();
    assert_eq!(good(&report), 8, "{report}");
    world.carry_out("berlin").exits_done();
    world.requests("more", 9..=10);
    world.issue("more").ok();
    world.carry_home("berlin").exits_done();
    assert_eq!(good(&world.reconcile()), 10);
}

#[test]
fn a_vaults_own_restore_that_headquarters_has_forgotten_is_told_again_and_ends_balanced() {
    let world = World::ready();
    let make = |name: &str, numbers: std::ops::RangeInclusive<u32>| {
        world.requests(name, numbers);
        world.issue(name).ok();
    };
    make("two", 1..=2);
    world.carry_home("berlin").exits_done();
    world.carry_out("berlin").exits_done();
    files::copy(&world.path("berlin"), &world.path("berlin-copy"));
    files::copy(&world.path("hq"), &world.path("hq-copy"));
    make("reported", 3..=4);
    world.carry_home("berlin").exits_done();
    world.carry_out("berlin").exits_done();
    make("lost", 5..=6);
    // The vault's home is put back, and headquarters answers.
    fs::remove_dir_all(world.path("berlin")).unwrap();
    files::copy(&world.path("berlin-copy"), &world.path("berlin"));
    wipe_stick(&world);
    world
        .site("recover --declare-restore --confirm berlin/v1")
        .ok();
    let _ = world.carry_home("berlin").exits(1);
    world.carry_out("berlin").exits_done();
    make("after", 10..=11);
    world.carry_home("berlin").exits_done();
    world.carry_out("berlin").exits_done();
    make("unreported", 12..=12);
    let lineage = world.status("berlin")["lineage"].clone();

    // And now headquarters', to before all of that.
    put_back(&world);
    wipe_stick(&world);
    declare(&world);
    world.carry_out("berlin").exits_done();
    let export = world.site("media export $D/media").ok();
    assert_eq!(export.warning_codes(), ["BUNDLES-GONE"], "{export}");
    assert_eq!(
        export.item("restore-berlin_v1.cose")["outcome"],
        "exported",
        "{export}"
    );
    let home = world.hq("media import $D/media").exits(1);
    for item in home.json()["items"].as_array().unwrap() {
        if item["type"] != "trust-manifest" {
            assert_eq!(item["outcome"], "imported", "{home}");
        }
    }
    let expect = |good: u64| {
        let report = world.reconcile();
        assert_eq!(report["balanced"], true, "{report}");
        let account = &report["accounts"][0];
        assert_eq!(account["good"], good, "{report}");
        assert_eq!(account["unresolved"], 2, "{report}");
        assert_eq!(
            codes(&report),
            [
                "BUNDLES-FORGOTTEN",
                "DISPATCH-FORGOTTEN",
                "RESTORE-DECLARED",
                "UNRESOLVED"
            ],
            "{report}"
        );
        // Exactly what was lost is in doubt.
        let doubt = of(&report, "RESTORE-DECLARED");
        assert_eq!(doubt["evidence"]["units"], 2, "{doubt}");
        assert_eq!(doubt["lineage"], lineage, "{doubt}");
    };
    expect(7);
    world.carry_out("berlin").exits_done();
    make("on", 20..=21);
    world.carry_home("berlin").exits_done();
    world.carry_out("berlin").exits_done();
    expect(9);
    let status = world.status("berlin");
    assert_eq!(
        status["bundle"]["sequence"], status["bundle"]["acknowledged"],
        "{status}"
    );
    make("and_on", 22..=22);
}

#[test]
fn without_a_declared_restore_no_bundle_takes_the_place_of_others() {
    let world = World::ready();
    for (name, at) in [("a", 1), ("b", 2), ("c", 3)] {
        world.requests(name, at..=at);
        world.issue(name).ok();
        world.carry_home("berlin").exits_done();
        world.carry_out("berlin").exits_done();
    }
    take_away(&world, &[2]);
    world.requests("d", 4..=4);
    world.issue("d").ok();
    let home = world.carry_home("berlin").exits_done();
    assert!(home.warning_codes().is_empty(), "{home}");
    assert_eq!(codes(&world.reconcile()), [""; 0]);
}

#[test]
fn a_forgotten_trust_manifest_is_taken_back_from_a_stick_before_the_restore_is_declared() {
    let world = World::ready();
    world.requests("two", 1..=2);
    world.issue("two").ok();
    world.carry_home("berlin").exits_done();
    world.carry_out("berlin").exits_done();
    files::copy(&world.path("hq"), &world.path("hq-copy"));
    world.add_officer("carol", "");
    world.next_trust("", &OFFICERS);
    world.carry_out("berlin").exits_done();
    put_back(&world);
    assert_eq!(world.hq("trust show").ok().json()["version"], 1);
    let before = world.trust_fingerprint();
    let run = world.hq("media import $D/media").ok();
    assert_eq!(
        run.item("trust-000002.cose")["outcome"],
        "imported",
        "{run}"
    );
    assert_ne!(world.trust_fingerprint(), before);
    let again = world.hq("media import $D/media").ok();
    let trust = |item: &Value| item["type"] == "trust-manifest";
    let items = again.json()["items"].clone();
    assert!(!items.as_array().unwrap().iter().any(trust), "{again}");
    let officers = world.hq("officer list").ok().json();
    assert!(officers.to_string().contains("carol"), "{officers}");
    declare(&world);
    assert_eq!(world.hq("trust show").ok().json()["version"], 3);
    world.carry_out("berlin").exits_done();
    world.carry_home("berlin").exits_done();
    let report = world.reconcile();
    assert_eq!(report["balanced"], true, "{report}");
    assert_eq!(codes(&report), [""; 0], "{report}");
    world.requests("more", 3..=3);
    world.issue("more").ok();
}

#[test]
fn without_its_manifest_headquarters_says_that_a_vault_follows_a_newer_one() {
    let world = World::ready();
    world.requests("two", 1..=2);
    world.issue("two").ok();
    world.carry_home("berlin").exits_done();
    world.carry_out("berlin").exits_done();
    files::copy(&world.path("hq"), &world.path("hq-copy"));
    world.next_trust("", &OFFICERS);
    world.carry_out("berlin").exits_done();
    put_back(&world);
    // The manifests stay behind.
    let manifest = world.on_stick("trust-000002.cose");
    let bytes = fs::read(&manifest).unwrap();
    wipe_stick(&world);
    let run = world.carry_home("berlin").exits(1);
    assert!(
        run.warning_codes()
            .iter()
            .any(|code| code == "TRUST-FORGOTTEN"),
        "{run}"
    );
    assert_eq!(codes(&world.reconcile()), ["TRUST-UNKNOWN"]);
    // It turns up, and nothing is held against the vault any more.
    fs::write(&manifest, bytes).unwrap();
    world.hq("media import $D/media").ok();
    assert_eq!(codes(&world.reconcile()), [""; 0]);
}
