//! `site doctor` looks at what the token knows of the log, and says what the next command that writes would find.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::collections::BTreeMap;
use std::fs;

use mintmark_tests::strike::{Changes, Fate};
use mintmark_tests::world::POLICY;
use mintmark_tests::{Run, Stores, World, files, stores};
use serde_json::Value;

/// What doctor says of the anchor; it changes nothing.
#[track_caller]
fn anchor(world: &World) -> (Run, Value) {
    let state = || -> Vec<BTreeMap<_, _>> {
        let places = ["berlin", "keys"].map(|place| world.path(place));
        let places = places.iter().filter(|place| place.exists());
        places.map(|place| files::contents(place)).collect()
    };
    let before = state();
    let run = world.site("doctor").run();
    assert!(state() == before, "{run}");
    let checks = run.json()["checks"].as_array().unwrap().clone();
    let mut found = checks
        .into_iter()
        .filter(|check| check["check"] == "anchor");
    let check = found.next().unwrap_or_else(|| panic!("{run}"));
    assert!(found.next().is_none());
    (run, check)
}

#[track_caller]
fn expect_good(world: &World, words: &str) {
    let (run, check) = anchor(world);
    assert_eq!((run.exit, &check["outcome"]), (0, &"ok".into()), "{run}");
    assert!(check["message"].as_str().unwrap().contains(words), "{run}");
}

#[track_caller]
fn expect_bad(world: &World, code: &str, advice: &str) {
    let (run, check) = anchor(world);
    assert_eq!((run.exit, &check["outcome"]), (4, &"bad".into()), "{run}");
    assert_eq!(check["code"], code, "{run}");
    assert!(check["hint"].as_str().unwrap().contains(advice), "{run}");
}

fn issue(world: &World, name: &str, numbers: impl IntoIterator<Item = u32>) {
    world.requests(name, numbers);
    world.issue(name).ok();
}

fn looked_at(kind: Stores) {
    let world = World::ready_in(kind);
    issue(&world, "first", [1]);
    let records = world.status("berlin")["log_size"].as_u64().unwrap();
    expect_good(
        &world,
        &format!("names all {records} records, and leases nothing"),
    );

    // A copy from before the newest records, and one that went on otherwise.
    files::copy(&world.path("berlin"), &world.path("older"));
    issue(&world, "second", [2]);
    fs::rename(world.path("berlin"), world.path("newest")).unwrap();
    files::copy(&world.path("older"), &world.path("berlin"));
    expect_bad(&world, "HOME-OLDER-THAN-ANCHOR", "--declare-restore");
    world.requests("third", [3]);
    world.issue("third").fails(4, "HOME-OLDER-THAN-ANCHOR");

    world
        .site("recover --declare-restore --confirm berlin/v1")
        .ok();
    expect_bad(&world, "RESTORE-PENDING", "site media export");
    fs::remove_dir_all(world.path("berlin")).unwrap();
    fs::rename(world.path("newest"), world.path("berlin")).unwrap();
    expect_good(&world, "leases nothing");
    assert_eq!(world.issue("third").ok().lines().len(), 1);
}

#[test]
fn a_home_is_held_against_its_key_files() {
    looked_at(Stores::Files);
}

#[test]
fn a_home_is_held_against_its_token() {
    looked_at(Stores::Tokens);
}

#[test]
fn an_anchor_that_is_gone_is_missed_until_officers_vouch_for_the_log() {
    let world = World::ready();
    issue(&world, "first", [1]);
    world.carry_home("berlin").exits_done();
    for path in files::below(&world.path("keys/berlin")) {
        if path.extension().is_some_and(|end| end == "data") {
            fs::remove_file(path).unwrap();
        }
    }
    expect_bad(&world, "ANCHOR-MISSING", "hq site reanchor");
    let draft = "$D/officers/reanchor.draft";
    let line = format!("site reanchor berlin/v1 --reason lost --output {draft}");
    let drafted = world.hq(&line).ok();
    world.approve(draft);
    world.hq(&format!("site grant {}", drafted.text("id"))).ok();
    world.carry_out("berlin").exits_done();
    expect_good(&world, "leases nothing");
}

#[test]
fn a_token_of_another_vault_is_told_apart() {
    let world = World::ready();
    world.site_init("paris");
    let data = |name: &str| files::below(&world.path(&format!("keys/{name}")));
    let is_data = |path: &std::path::Path| path.extension().is_some_and(|end| end == "data");
    for path in data("berlin").iter().filter(|path| is_data(path)) {
        fs::remove_file(path).unwrap();
    }
    for path in data("paris").iter().filter(|path| is_data(path)) {
        let to = world.path("keys/berlin").join(path.file_name().unwrap());
        fs::copy(path, to).unwrap();
    }
    expect_bad(&world, "ANCHOR-OF-ANOTHER", "put the token back");
}

#[test]
fn what_is_leased_and_not_spent_is_told_until_it_is_burned() {
    let world = World::with_policy(&POLICY.replace("units = 1000", "units = 100000"));
    let changes = Changes {
        below: world.folder(),
    };
    // A lease is for a line that is quick: now and then one is not.
    for round in 0..8 {
        let _ = fs::remove_dir_all(world.path("csr/mass"));
        world.requests("mass", round * 600..(round + 1) * 600);
        let tool = world.issue("mass");
        for (from, to) in [("berlin", "kept/berlin"), ("keys/berlin", "kept/keys")] {
            let _ = fs::remove_dir_all(world.path(to));
            files::copy(&world.path(from), &world.path(to));
        }
        let (_, calls) = changes.of(&tool);
        for (from, to) in [("kept/berlin", "berlin"), ("kept/keys", "keys/berlin")] {
            fs::remove_dir_all(world.path(to)).unwrap();
            files::copy(&world.path(from), &world.path(to));
        }
        let mut anchors = calls
            .iter()
            .filter(|call| call.name == "openat" && call.target.contains("mintmark-anchor"));
        let clean_stop = anchors.next_back().unwrap();
        let (run, struck) = changes.with(&tool, clean_stop, Fate::Killed);
        if !struck {
            continue;
        }
        let (doctor, check) = anchor(&world);
        if check["code"] != "LEASE-OPEN" {
            assert_eq!(check["outcome"], "ok", "{run}\n{doctor}");
            continue;
        }
        assert_eq!(doctor.exit, 0, "{doctor}");
        assert_eq!(check["outcome"], "warning", "{doctor}");
        assert!(check["hint"].as_str().unwrap().contains("site recover"));
        let recovered = world.site("recover").ok();
        assert_eq!(recovered.warning_codes(), ["LEASE-BURNED"], "{recovered}");
        expect_good(&world, "leases nothing");
        return;
    }
    panic!("no lease was ever open");
}

#[test]
fn a_store_without_a_home_has_no_anchor_to_look_at() {
    let world = World::empty(Stores::Files);
    let uri = stores::uri(world.folder(), Stores::Files, "new");
    let run = world.site(&format!("doctor --keys {uri}")).run();
    let json = run.json();
    let mut checks = json["checks"].as_array().unwrap().iter();
    assert!(checks.all(|check| check["check"] != "anchor"), "{run}");
}

#[test]
fn a_bundle_that_is_damaged_and_was_not_acknowledged_is_named_with_the_way_on() {
    let world = World::ready();
    issue(&world, "first", 1..=2);
    world.site("media export $D/media").ok();
    let outbox = |run: &Run| {
        let checks = run.json()["checks"].as_array().unwrap().clone();
        checks
            .into_iter()
            .find(|check| check["check"] == "outbox")
            .unwrap()
    };
    let check = outbox(&world.site("doctor").run());
    assert_eq!(check["outcome"], "ok", "{check}");
    assert!(
        check["message"]
            .as_str()
            .unwrap()
            .starts_with("1 bundle is"),
        "{check}"
    );
    let segments = files::below(&world.path("berlin/outbox"));
    let segment = segments
        .iter()
        .find(|path| path.to_str().unwrap().contains(".seg"))
        .unwrap();
    let mut bytes = fs::read(segment).unwrap();
    bytes[100] ^= 4;
    fs::write(segment, bytes).unwrap();
    fs::remove_dir_all(world.path("media/mintmark/to-hq")).unwrap();

    let run = world.site("doctor").exits(4);
    let check = outbox(&run);
    assert_eq!(check["code"], "HOME-CORRUPT", "{check}");
    let run = world.site("media export $D/media").fails(4, "HOME-CORRUPT");
    for advice in [
        "from a stick that it was written to",
        "`site recover --declare-restore`",
    ] {
        assert!(check["hint"].as_str().unwrap().contains(advice), "{check}");
        assert!(run.stderr.contains(advice), "{run}");
    }
    world
        .site("recover --declare-restore --confirm berlin/v1")
        .ok();
    let _ = world.carry_home("berlin").exits(1);
    world.carry_out("berlin").exits_done();
    issue(&world, "second", 3..=3);
    world.carry_home("berlin").exits_done();
    let report = world.reconcile();
    assert_eq!(report["balanced"], true, "{report}");
    assert_eq!(report["accounts"][0]["good"], 3, "{report}");
    let check = outbox(&world.site("doctor").run());
    assert_eq!(check["outcome"], "ok", "{check}");
}
