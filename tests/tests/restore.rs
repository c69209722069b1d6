//! A vault's home is put back from an older copy, and its token knows better. It is noticed, declared, and answered by
//! headquarters with what it holds; it ends with the vault issuing again, no unit twice, and a finding that names exactly
//! the serials of what was lost.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::PathBuf;

use mintmark_tests::world::POLICY;
use mintmark_tests::{Stores, World, files, judge, request, strace};
use serde_json::Value;

const DECLARE: &str = "recover --declare-restore --confirm berlin/v1";

/// Keeps a copy of the vault's home; its keys are elsewhere.
fn copy(world: &World) {
    files::copy(&world.path("berlin"), &world.path("berlin-copy"));
}

/// Puts it back.
fn put_back(world: &World) {
    let gone = world.path("berlin-gone");
    let _ = fs::remove_dir_all(&gone);
    fs::rename(world.path("berlin"), gone).unwrap();
    files::copy(&world.path("berlin-copy"), &world.path("berlin"));
}

fn wipe_stick(world: &World) {
    fs::remove_dir_all(world.path("media")).unwrap();
    fs::create_dir(world.path("media")).unwrap();
}

#[track_caller]
fn issue(world: &World, name: &str, numbers: std::ops::RangeInclusive<u32>) {
    world.requests(name, numbers);
    world.issue(name).ok();
}

/// The serials of the certificates of these devices.
fn serials(world: &World, numbers: std::ops::RangeInclusive<u32>) -> BTreeSet<String> {
    let serial = |number| {
        let pem = world.path("out").join(format!("TH200-{number:08}.pem"));
        let line = format!("x509 -noout -serial -in {}", pem.display());
        let serial = judge::openssl(world.folder(), &line);
        serial.trim().trim_start_matches("serial=").to_lowercase()
    };
    numbers.map(serial).collect()
}

fn codes(report: &Value) -> Vec<String> {
    let findings = report["findings"].as_array().unwrap().iter();
    let mut codes: Vec<_> = findings
        .map(|finding| finding["code"].as_str().unwrap().to_owned())
        .collect();
    codes.sort();
    // What is skipped has no certificate.
    codes.retain(|code| code != "UNRESOLVED");
    codes
}

fn of<'r>(report: &'r Value, code: &str) -> &'r Value {
    let mut findings = report["findings"].as_array().unwrap().iter();
    findings.find(|finding| finding["code"] == code).unwrap()
}

/// The serials that a restore's finding names.
fn in_doubt(report: &Value) -> BTreeSet<String> {
    let serials = of(report, "RESTORE-DECLARED")["serials"]
        .as_array()
        .unwrap();
    let named = serials.len();
    let serials: BTreeSet<_> = serials
        .iter()
        .map(|serial| serial.as_str().unwrap().to_owned())
        .collect();
    assert_eq!(serials.len(), named);
    serials
}

/// The home is noticed to be old, and the restore is declared and carried to headquarters.
#[track_caller]
fn declare(world: &World) {
    world.requests("refused", 900..=900);
    world.issue("refused").fails(4, "HOME-OLDER-THAN-ANCHOR");
    let before = files::contents(&world.path("berlin/log"));
    let rehearsed = world
        .site("recover --declare-restore --dry-run")
        .ok()
        .json();
    assert_eq!(rehearsed["outcome"], "declared");
    assert!(!world.path("berlin/restore.cose").exists());
    world
        .site("recover --declare-restore --confirm berlin/v2")
        .fails(3, "CONFIRMATION-MISMATCH");
    let declared = world.site(DECLARE).ok().json();
    assert_eq!(declared["outcome"], "declared");
    let again = world.site(DECLARE).ok().json();
    assert_eq!(again["outcome"], "already");
    assert_eq!(again["lineage"], declared["lineage"]);
    world.issue("refused").fails(4, "RESTORE-PENDING");
    let status = world.status("berlin");
    assert_eq!(status["restore_pending"], true, "{status}");
    let run = world.carry_home("berlin");
    let item = run.item("restore-berlin_v1.cose");
    assert_eq!(item["outcome"], "imported", "{run}");
    // Nothing was added to the log, and nothing else went out.
    assert_eq!(files::contents(&world.path("berlin/log")), before);
    assert_eq!(run.exit, 1, "{run}");
}

/// Headquarters answers; the vault goes on, and everything is accounted for.
#[track_caller]
fn ends_well(world: &World, good: u64, lost: std::ops::RangeInclusive<u32>) {
    let expected = serials(world, lost.clone());
    let unresolved = expected.len() as u64;
    let parent = world.status("berlin")["lineage"].clone();
    world.carry_out("berlin").exits_done();
    assert!(world.path("berlin/restored-1.cose").exists());
    let status = world.status("berlin");
    assert_eq!(status["parent"], parent, "{status}");
    assert_ne!(status["lineage"], parent);
    assert_eq!(status["restore_pending"], false);
    // Once more, it is known.
    world.site("media import $D/media").ok();
    issue(world, "after", 800..=801);
    let all: Vec<_> = [serials(world, lost), serials(world, 800..=801)]
        .into_iter()
        .flatten()
        .collect();
    let distinct: BTreeSet<_> = all.iter().collect();
    assert_eq!(distinct.len(), all.len(), "a serial twice");
    let home = world.carry_home("berlin");
    assert_eq!(home.exit, 0, "{home}");
    let report = world.reconcile();
    assert_eq!(report["balanced"], true, "{report}");
    assert_eq!(codes(&report), ["RESTORE-DECLARED"], "{report}");
    assert_eq!(in_doubt(&report), expected, "{report}");
    let account = &report["accounts"][0];
    assert_eq!(account["good"], good + 2, "{report}");
    assert_eq!(account["unresolved"], unresolved, "{report}");
    world.carry_out("berlin").exits_done();
    assert_eq!(world.status("berlin")["bundle"]["acknowledged"], 1);
    issue(world, "later", 802..=802);
    world.carry_home("berlin").exits_done();
    assert_eq!(codes(&world.reconcile()), ["RESTORE-DECLARED"]);
}

/// Two units, reported and acknowledged.
fn reported(world: &World) {
    issue(world, "two", 1..=2);
    world.carry_home("berlin").exits_done();
    world.carry_out("berlin").exits_done();
}

#[test]
fn a_home_from_before_its_last_report_gets_the_rest_of_its_log_back() {
    let world = World::ready();
    reported(&world);
    copy(&world);
    issue(&world, "reported", 3..=5);
    world.carry_home("berlin").exits_done();
    world.carry_out("berlin").exits_done();
    issue(&world, "lost", 6..=9);
    put_back(&world);
    wipe_stick(&world);
    declare(&world);
    assert_eq!(in_doubt(&world.reconcile()), serials(&world, 6..=9));
    ends_well(&world, 5, 6..=9);
    // What headquarters sent back is known here again.
    let device = world.site("device show TH200-00000004").ok().json();
    assert_eq!(device["status"], "good", "{device}");
}

#[test]
fn a_crl_after_a_restore_is_newer_than_those_of_the_history_that_was_lost() {
    let world = World::ready();
    reported(&world);
    copy(&world);
    issue(&world, "lost", 3..=4);
    let scrap = |number: u32| {
        let device = format!("TH200-{number:08}");
        let line = format!("device scrap {device} --reason burnt --confirm {device}");
        world.site(&line).ok();
    };
    let crl = |name: &str| {
        let said = world.site(&format!("crl issue --output $D/{name}"));
        said.ok().json()["number"].as_u64().unwrap()
    };
    scrap(3);
    assert_eq!(crl("crl.pem"), 1);
    scrap(1);
    assert_eq!(crl("crl.pem"), 2);
    put_back(&world);
    wipe_stick(&world);
    declare(&world);
    ends_well(&world, 2, 3..=4);
    // Where the last CRL of the lost history stands: none of those is followed by one that seems older.
    scrap(2);
    let planned = world.site("crl issue --output $D/crl.pem --dry-run").ok();
    let number = crl("crl.pem");
    assert!(number > 1_700_000_000, "{number}: Unix seconds");
    assert!(planned.json()["number"].as_u64().unwrap() <= number);
    let line = format!(
        "crl -noout -crlnumber -in {}",
        world.path("crl.pem").display()
    );
    let shown = judge::openssl(world.folder(), &line);
    assert_eq!(shown.trim(), format!("crlNumber=0x{number:X}"));
    let next = crl("crl.pem");
    assert!(next > number);
    world.carry_home("berlin").exits_done();
    assert_eq!(codes(&world.reconcile()), ["RESTORE-DECLARED"]);
    // What was scrapped in the lost history was forgotten with it, and can be said again.
    scrap(1);
    assert!(crl("crl.pem") > next);
}

#[test]
fn an_answer_of_several_parts_is_taken_in_whole() {
    let world = World::ready();
    reported(&world);
    copy(&world);
    // Requests that are as large as they may be: the records of these are more than one part has room for.
    let folder = world.path("csr/large");
    fs::create_dir_all(&folder).unwrap();
    let note = request::element(0x13, &[&[b'x'; 15_000]]);
    let oid = [
        0x06, 9, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x09, 0x02,
    ];
    let attribute = request::element(0x30, &[&oid, &request::element(0x31, &[&note])]);
    for number in 100..500 {
        let id = format!("TH200-{number:08}");
        let key = request::key();
        let der = request::der_with(&id, &key, &attribute);
        fs::write(folder.join(format!("{id}.csr")), der).unwrap();
    }
    let rows = world.issue("large").ok().lines();
    assert_eq!(rows.len(), 400);
    world.carry_home("berlin").exits_done();
    issue(&world, "lost", 6..=7);
    put_back(&world);
    wipe_stick(&world);
    declare(&world);
    world.hq("media export $D/media").ok();
    let parts = |number: u32| world.on_stick(&format!("to-berlin_v1/tail-{number:06}.cose"));
    assert!(parts(2).exists() && !parts(4).exists());
    // Not without one of them.
    let second = fs::read(parts(2)).unwrap();
    fs::remove_file(parts(2)).unwrap();
    let run = world.site("media import $D/media").run();
    assert_eq!(
        run.item("tail-000001.cose")["code"],
        "TAIL-INCOMPLETE",
        "{run}"
    );
    fs::write(parts(2), second).unwrap();
    ends_well(&world, 402, 6..=7);
    for number in [100, 350, 499] {
        let device = world
            .site(&format!("device show TH200-{number:08}"))
            .ok()
            .json();
        assert_eq!(device["status"], "good", "{device}");
    }
}

#[test]
fn a_home_that_is_newer_than_its_last_report_goes_on_from_there() {
    let world = World::ready();
    reported(&world);
    issue(&world, "kept", 3..=4);
    copy(&world);
    issue(&world, "lost", 5..=7);
    put_back(&world);
    wipe_stick(&world);
    declare(&world);
    // What the vault has beyond that, headquarters cannot know yet.
    assert_eq!(in_doubt(&world.reconcile()), serials(&world, 3..=7));
    ends_well(&world, 4, 5..=7);
}

#[test]
fn a_home_as_old_as_its_last_report_goes_on_from_there() {
    let world = World::ready();
    reported(&world);
    issue(&world, "more", 3..=3);
    copy(&world);
    world.carry_home("berlin").exits_done();
    issue(&world, "lost", 4..=5);
    put_back(&world);
    wipe_stick(&world);
    declare(&world);
    ends_well(&world, 3, 4..=5);
}

#[test]
fn an_entitlement_that_was_lost_with_its_units_is_not_spent_again() {
    let world = World::ready();
    reported(&world);
    copy(&world);
    let second = POLICY
        .replace("id = \"th200\"", "id = \"second\"")
        .replace("TH-200", "TH-300");
    world.grant("berlin", &second);
    world.requests("gateways", 100..=102);
    let line = "issue --product TH-300 --csr $D/csr/gateways --output $D/out";
    world.site(line).ok();
    let expected = serials(&world, 100..=102);
    put_back(&world);
    wipe_stick(&world);
    declare(&world);
    assert_eq!(in_doubt(&world.reconcile()), expected);
    world.carry_out("berlin").exits_done();
    world.requests("other", 103..=103);
    world.site(&line.replace("gateways", "other")).ok();
    assert!(expected.is_disjoint(&serials(&world, 103..=103)));
    world.carry_home("berlin").exits_done();
    let report = world.reconcile();
    assert_eq!(report["balanced"], true, "{report}");
    assert_eq!(codes(&report), ["RESTORE-DECLARED"]);
    assert_eq!(report["accounts"][1]["unresolved"], 3, "{report}");
    assert_eq!(report["accounts"][1]["good"], 1, "{report}");
}

#[test]
fn a_token_keeps_what_a_home_forgot() {
    let world = World::ready_in(Stores::Tokens);
    reported(&world);
    copy(&world);
    issue(&world, "reported", 3..=4);
    world.carry_home("berlin").exits_done();
    issue(&world, "lost", 5..=6);
    put_back(&world);
    wipe_stick(&world);
    declare(&world);
    ends_well(&world, 4, 5..=6);
}

/// A vault that waits for the answer, which stands on the stick.
fn waiting() -> World {
    let world = World::ready();
    reported(&world);
    copy(&world);
    issue(&world, "reported", 3..=4);
    world.carry_home("berlin").exits_done();
    issue(&world, "lost", 5..=6);
    put_back(&world);
    wipe_stick(&world);
    declare(&world);
    world.hq("media export $D/media").ok();
    world
}

#[test]
fn the_history_that_was_lost_is_evidence_when_it_turns_up() {
    let world = World::ready();
    reported(&world);
    copy(&world);
    issue(&world, "lost", 3..=4);
    wipe_stick(&world);
    world.site("media export $D/media").ok();
    files::copy(&world.path("media"), &world.path("media-lost"));
    put_back(&world);
    wipe_stick(&world);
    declare(&world);
    world
        .hq("media import $D/media-lost")
        .fails(4, "BUNDLE-FORK");
    ends_well_with_fork(&world);
    let again = world.hq("media import $D/media-lost").run();
    assert_eq!(again.exit, 4, "{again}");
}

fn ends_well_with_fork(world: &World) {
    world.carry_out("berlin").exits_done();
    issue(world, "after", 800..=800);
    world.carry_home("berlin").exits_done();
    let report = world.reconcile();
    assert_eq!(codes(&report), ["FORK", "RESTORE-DECLARED"], "{report}");
}

#[test]
fn a_declaration_that_comes_twice_changes_nothing() {
    let world = waiting();
    let before = codes(&world.reconcile());
    world.site("media export $D/media").ok();
    let again = world.hq("media import $D/media").ok();
    assert_eq!(again.item("restore-berlin_v1.cose")["outcome"], "already");
    assert_eq!(codes(&world.reconcile()), before);
    // The same tail goes out, to the byte.
    let part = world.on_stick("to-berlin_v1/tail-000001.cose");
    let bytes = fs::read(&part).unwrap();
    world.hq("media export $D/media").ok();
    assert_eq!(fs::read(part).unwrap(), bytes);
}

#[test]
fn a_second_restore_of_the_same_home_ends_well_too() {
    let world = waiting();
    world.site("media import $D/media").ok();
    issue(&world, "again", 20..=21);
    put_back(&world);
    wipe_stick(&world);
    let declared = world.site(DECLARE).ok().json();
    assert_eq!(declared["outcome"], "declared");
    let declared = world.carry_home("berlin");
    assert_eq!(declared.exit, 1, "{declared}");
    world.carry_out("berlin").exits_done();
    issue(&world, "after", 800..=800);
    let home = world.carry_home("berlin");
    let report = world.reconcile();
    assert_eq!(report["balanced"], true, "{report}");
    assert_eq!(home.exit, 0, "{home}");
    assert_eq!(
        codes(&report),
        ["RESTORE-DECLARED", "RESTORE-DECLARED"],
        "{report}"
    );
    let all: Vec<_> = [
        serials(&world, 1..=6),
        serials(&world, 20..=21),
        serials(&world, 800..=800),
    ]
    .into_iter()
    .flatten()
    .collect();
    let distinct: BTreeSet<_> = all.iter().collect();
    assert_eq!(distinct.len(), all.len(), "a serial twice");
}

#[test]
fn no_part_of_an_answer_that_was_changed_is_followed() {
    let world = waiting();
    let part = world.on_stick("to-berlin_v1/tail-000001.cose");
    let whole = fs::read(&part).unwrap();
    let before = files::contents(&world.path("berlin/log"));
    for at in (0..whole.len()).step_by(whole.len() / 12) {
        files::flip(&part, at * 8);
        let run = world.site("media import $D/media").run();
        assert_ne!(run.exit, 0, "byte {at}: {run}");
        assert_ne!(
            run.item("tail-000001.cose")["outcome"],
            "imported",
            "byte {at}: {run}"
        );
        assert_eq!(files::contents(&world.path("berlin/log")), before);
        fs::write(&part, &whole).unwrap();
    }
    fs::remove_file(&part).unwrap();
    world
        .site("media import $D/media")
        .fails(4, "RESTORE-PENDING");
    // A vault that never asked does not want it.
    fs::write(&part, &whole).unwrap();
    let other = world.path("berlin-gone");
    let run = world
        .site(&format!("--home {} media import $D/media", other.display()))
        .run();
    assert_eq!(
        run.item("tail-000001.cose")["code"],
        "TAIL-UNASKED",
        "{run}"
    );
    // Nor does one that asked something else.
    fs::remove_file(world.path("berlin/restore.cose")).unwrap();
    world.site(DECLARE).ok();
    let run = world.site("media import $D/media").run();
    assert_eq!(
        run.item("tail-000001.cose")["code"],
        "TAIL-OF-ANOTHER",
        "{run}"
    );
}

#[test]
fn no_changed_declaration_is_believed() {
    let world = World::ready();
    reported(&world);
    copy(&world);
    issue(&world, "lost", 3..=4);
    put_back(&world);
    wipe_stick(&world);
    world.site(DECLARE).ok();
    world.site("media export $D/media").ok();
    let file = world.on_stick("restore-berlin_v1.cose");
    let whole = fs::read(&file).unwrap();
    for at in (0..whole.len()).step_by(whole.len() / 12) {
        files::flip(&file, at * 8);
        let run = world.hq("media import $D/media").run();
        assert_eq!(
            run.item("restore-berlin_v1.cose")["outcome"],
            "refused",
            "byte {at}: {run}"
        );
        fs::write(&file, &whole).unwrap();
    }
    assert!(codes(&world.reconcile()).is_empty());
}

#[test]
fn an_answer_is_taken_in_after_a_kill_at_any_step() {
    let world = waiting();
    let state: BTreeMap<&str, PathBuf> = ["berlin", "keys"]
        .into_iter()
        .map(|name| (name, world.path(&format!("{name}-waiting"))))
        .collect();
    for (name, kept) in &state {
        files::copy(&world.path(name), kept);
    }
    let mut kills = 0;
    for call in strace::DURABLE {
        for nth in 1..60 {
            for (name, kept) in &state {
                fs::remove_dir_all(world.path(name)).unwrap();
                files::copy(kept, &world.path(name));
            }
            let import = world.site("media import $D/media");
            if !strace::killed_at(&import, call, nth) {
                break;
            }
            kills += 1;
            import.ok();
            assert!(world.path("berlin/restored-1.cose").exists());
            // That it goes on from there takes its time.
            if kills % 5 == 1 {
                let name = format!("after-{kills}");
                issue(&world, &name, 700 + kills..=700 + kills);
                let fresh = serials(&world, 700 + kills..=700 + kills);
                assert!(fresh.is_disjoint(&serials(&world, 1..=6)), "{call} {nth}");
            }
        }
    }
    assert!(kills > 10, "{kills}");
    world.carry_home("berlin");
    let report = world.reconcile();
    assert_eq!(report["balanced"], true, "{report}");
    assert_eq!(codes(&report), ["RESTORE-DECLARED"], "{report}");
}
