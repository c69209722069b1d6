//! An auditor's own eyes: what headquarters hands out opens with one key, is judged on the auditor's machine from the first
//! record on, and comes to the same figures and findings; and nothing of what is altered is believed.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

#[path = "audit_grant/cut.rs"]
mod cut;
#[path = "audit_grant/killed.rs"]
mod killed;
#[path = "audit_grant/lies.rs"]
mod lies;

use std::fs;
use std::ops::Range;

use mintmark_tests::stores::Stores;
use mintmark_tests::world::POLICY;
use mintmark_tests::{Liar, Run, Tool, World, files};
use serde_json::Value;

/// An auditor makes a key on a machine of their own.
fn auditor(world: &World) {
    world
        .hq("audit key --keys @auditor --output $D/auditor.pem")
        .without("HQ_HOME")
        .ok();
}

/// Headquarters writes a grant to `$D/NAME.grant`.
fn grant(world: &World, name: &str, options: &str) -> Run {
    world
        .hq(&format!(
            "audit grant --auditor $D/auditor.pem --output $D/{name}.grant {options}"
        ))
        .ok()
}

/// The auditor makes a home `$D/NAME` of `$D/NAME.grant`.
fn verify(world: &World, name: &str) -> Tool {
    let fingerprint = world.trust_fingerprint();
    world
        .hq(&format!(
            "--home $D/{name} audit verify $D/{name}.grant --fingerprint {fingerprint} --keys @auditor"
        ))
        .without("HQ_HOME")
}

/// What the books say at headquarters and in an auditor's home, which must be the same to the last word.
#[track_caller]
fn same_books(world: &World, name: &str, options: &str) -> Value {
    let there = world.hq(&format!("reconcile {options}")).run();
    let here = world
        .hq(&format!("--home $D/{name} reconcile {options}"))
        .run();
    assert_eq!(there.exit, here.exit, "{there}{here}");
    assert_eq!(there.json(), here.json());
    for format in ["table", "csv", "xlsx", "html"] {
        let file = |home: &str| {
            let of = format!("--home $D/{home} reconcile {options} --format {format}");
            let run = world.hq(&format!("{of} --output $D/{home}.{format}")).run();
            assert_eq!(run.exit, there.exit, "{run}");
            fs::read(world.path(&format!("{home}.{format}"))).unwrap()
        };
        if format == "xlsx" {
            // A workbook names the second in which it was made.
            assert!(file(name).starts_with(b"PK"));
        } else {
            assert_eq!(file("hq"), file(name), "{format}");
        }
    }
    here.json()
}

#[test]
fn an_auditor_comes_to_the_figures_of_headquarters_with_nothing_but_a_file_and_a_fingerprint() {
    let world = World::ready();
    world.requests("first", 1..=3);
    world.issue("first").ok();
    world.carry_home("berlin").exits_done();
    world.carry_out("berlin").exits_done();
    world
        .site("device scrap TH200-00000001 --confirm TH200-00000001 --reason cracked")
        .ok();
    world.carry_home("berlin").exits_done();
    auditor(&world);
    let granted = grant(&world, "seen", "--site berlin").json();
    assert_eq!(granted["vaults"], serde_json::json!(["berlin/v1"]));
    assert_eq!(granted["bundles"], 2);
    let verified = verify(&world, "seen").ok().json();
    assert_eq!(verified["same_as_headquarters"], true, "{verified:#}");
    assert_eq!(verified["certificates"], 3);
    assert_eq!(verified["differences"], serde_json::json!([]));
    assert_eq!(verified["fingerprint"], granted["fingerprint"]);
    let newest = world.hq("audit show berlin").ok().json();
    let vault = &verified["vaults"][0];
    assert_eq!(vault["head"]["log_root"], newest["log_root"], "{newest:#}");
    assert_eq!(vault["head"]["sequence"], 2, "{verified:#}");
    assert_eq!(vault["acknowledged"]["sequence"], 1);
    assert_eq!(verified["acknowledgements"], 1);
    let report = same_books(&world, "seen", "");
    assert_eq!(report["accounts"][0]["scrapped"], 1);
    same_books(&world, "seen", "--site berlin");
    for line in [
        "device show TH200-00000001",
        "device show $D/out/TH200-00000002.pem",
        "audit log --site berlin",
        "audit list",
        "audit show berlin",
        "audit fork",
        "entitlement list",
        "entitlement show th200",
        "trust show",
    ] {
        let there = world.hq(line).run();
        let here = world.hq(&format!("--home $D/seen {line}")).run();
        assert_eq!(there.exit, here.exit, "{there}{here}");
        // Nothing but where the files of each are.
        let homes = ["hq", "seen"].map(|home| world.path(home).display().to_string());
        assert_eq!(there.stdout.replace(&homes[0], &homes[1]), here.stdout);
    }
}

#[test]
fn what_a_vault_forged_an_auditor_finds_by_themselves() {
    let world = World::with_policy(&POLICY.replace("units = 1000", "units = 4"));
    world.requests("two", 1..=2);
    world.issue("two").ok();
    let liar = Liar::of(&world, "berlin");
    let unit = liar.in_slot(&liar.next_unit("TH-200", "TH200-00000666"), 4);
    liar.spend(&unit);
    world.carry_home("berlin").exits(1).json();
    auditor(&world);
    grant(&world, "liar", "");
    let run = verify(&world, "liar").exits(1);
    let said = run.json();
    assert_eq!(said["same_as_headquarters"], true, "{run}");
    assert_eq!(said["findings"][0]["code"], "OVER-ISSUE", "{run}");
    let report = same_books(&world, "liar", "");
    let serials = report["findings"][0]["serials"].as_array().unwrap();
    assert!(serials.contains(&Value::from(unit.serial())), "{report}");
}

#[test]
fn a_fork_and_a_gap_are_found_by_what_was_kept_of_them() {
    let world = World::ready();
    world.requests("one", 1..=1);
    world.issue("one").ok();
    world.clone_vault("twin");
    world.carry_home("berlin").exits_done();
    let bundles: Vec<_> = files::below(&world.path("media"))
        .into_iter()
        .filter(|path| path.to_str().unwrap().contains("to-hq"))
        .collect();
    for bundle in bundles {
        fs::remove_file(bundle).unwrap();
    }
    world.site("--home $D/twin media export $D/media").ok();
    world.hq("media import $D/media").exits(4);
    auditor(&world);
    grant(&world, "forked", "");
    let said = verify(&world, "forked").exits(1).json();
    assert_eq!(said["same_as_headquarters"], true, "{said:#}");
    assert_eq!(said["findings"][0]["code"], "FORK");
    let forks = |home: &str| world.hq(&format!("--home $D/{home} audit fork")).run();
    let (there, here) = (forks("hq"), forks("forked"));
    assert_eq!(there.stdout, here.stdout);
    // It can be shown to others from here, too.
    world
        .hq("--home $D/forked audit fork --export $D/fork.proof")
        .exits(there.exit);
    let fingerprint = world.trust_fingerprint();
    world
        .hq(&format!(
            "audit verify $D/fork.proof --fingerprint {fingerprint}"
        ))
        .without("HQ_HOME")
        .run();
}

/// Nothing is made of a file that is refused: neither the home nor anything beside it.
#[track_caller]
fn expect_nothing(world: &World, name: &str) {
    let left: Vec<_> = fs::read_dir(world.folder())
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .filter(|file| file.starts_with(name) && *file != format!("{name}.grant"))
        .collect();
    assert!(left.is_empty(), "{left:?}");
}

/// Where each item of a CBOR sequence of strings stands (RFC 8742), head and all.
fn items(bytes: &[u8]) -> Vec<Range<usize>> {
    let (mut found, mut at) = (Vec::new(), 0);
    while at < bytes.len() {
        let count = match bytes[at] & 0x1f {
            0..=23 => 0,
            more => 1 << (more - 24),
        };
        let octets = bytes[at + 1..=at + count].iter();
        let length = match count {
            0 => usize::from(bytes[at] & 0x1f),
            _ => octets.fold(0, |n, b| n << 8 | usize::from(*b)),
        };
        let end = at + 1 + count + length;
        found.push(at..end);
        at = end;
    }
    found
}

#[test]
fn a_grant_of_others_or_one_that_was_altered_anywhere_is_refused_and_leaves_nothing() {
    let world = World::ready();
    world.requests("one", 1..=1);
    world.issue("one").ok();
    world.carry_home("berlin").exits_done();
    auditor(&world);
    grant(&world, "whole", "");
    let whole = fs::read(world.path("whole.grant")).unwrap();
    let refused = |bytes: &[u8]| {
        world.write("bad.grant", bytes);
        let run = verify(&world, "bad").run();
        expect_nothing(&world, "bad");
        let error = run.errors().pop().unwrap_or_default();
        assert!(run.exit == 1 && error["code"].is_string(), "{run}");
        error["code"].as_str().unwrap().to_owned()
    };
    // One bit of each item: the trust manifests, the grant, and every part. What has no mark is something else.
    let items = items(&whole);
    assert!(items.len() > 8, "{items:?}");
    for item in &items[1..] {
        let mut altered = whole.clone();
        altered[(item.start + item.end) / 2] ^= 1 << (item.start % 8);
        refused(&altered);
    }
    // Two parts that have changed places.
    let (one, other) = (&items[items.len() - 2], &items[items.len() - 1]);
    let swapped = [
        &whole[..one.start],
        &whole[other.clone()],
        &whole[one.clone()],
    ];
    assert_eq!(refused(&swapped.concat()), "GRANT-DAMAGED");
    for end in [whole.len() - 1, items[4].start, items[2].start, 30] {
        refused(&whole[..end]);
    }
    assert_eq!(refused(&[&whole[..], &[0]].concat()), "GRANT-DAMAGED");

    let mut unmarked = whole.clone();
    unmarked[7] ^= 1;
    world.write("bad.grant", &unmarked);
    verify(&world, "bad").fails(2, "FORK-NOT-A-PROOF");
    world.write("bad.grant", &whole);
    let known = world.trust_fingerprint();
    let line = "--home $D/bad audit verify $D/bad.grant";
    let other = "00".repeat(32);
    world
        .hq(&format!("{line} --keys @auditor --fingerprint {other}"))
        .fails(1, "FINGERPRINT-MISMATCH");
    world
        .hq("audit key --keys @stranger --output $D/stranger.pem")
        .ok();
    world
        .hq(&format!("{line} --keys @stranger --fingerprint {known}"))
        .fails(1, "NOT-RECIPIENT");
    world
        .hq(&format!("{line} --fingerprint {known}"))
        .fails(2, "USAGE");
    world
        .hq(&format!("{line} --keys @auditor"))
        .fails(2, "USAGE");
    expect_nothing(&world, "bad");
    // What is there already stays.
    world
        .hq(&format!(
            "--home $D/hq audit verify $D/bad.grant --keys @auditor --fingerprint {known}"
        ))
        .fails(3, "HOME-EXISTS");
    world
        .hq("audit grant --auditor $D/auditor.pem --output $D/bad.grant")
        .fails(3, "FILE-EXISTS");
    world
        .hq("audit grant --auditor $D/bad.grant --output $D/other.grant")
        .fails(2, "AUDITOR-KEY-INVALID");
    world
        .hq("audit grant --auditor $D/auditor.pem --site lyon --output $D/other.grant")
        .fails(2, "SITE-UNKNOWN");
    expect_nothing(&world, "other");
}

/// An auditor's home `$D/seen`, of one device.
fn seen() -> World {
    let world = World::ready();
    world.requests("one", 1..=1);
    world.issue("one").ok();
    world.carry_home("berlin").exits_done();
    auditor(&world);
    grant(&world, "seen", "");
    verify(&world, "seen").ok();
    world
}

#[test]
fn an_auditors_home_signs_drafts_and_exports_nothing() {
    let world = seen();
    let draft = world.draft("berlin", &POLICY.replace("\"th200\"", "\"more\""));
    assert!(!draft.is_empty());
    for line in [
        "reconcile --format json --output $D/sealed --sign",
        "status export --output $D/status",
        "device dossier TH200-00000001 --output $D/dossier",
        "device revoke TH200-00000001 --reason why",
        "ca export --output $D/ca",
        "media export $D/media",
        "media import $D/media",
        "trust draft",
        "trust epoch",
        "trust publish --media $D/media",
        "site disable berlin --reason why",
        "entitlement revoke th200 --site berlin --reason why",
        "entitlement draft --site berlin --policy $D/policies/more.toml",
        "approval sign $D/officers/berlin-more.draft --officer alice --keys @alice --output $D/approved",
        "audit grant --auditor $D/auditor.pem --output $D/again.grant",
    ] {
        world
            .hq(&format!("--home $D/seen {line}"))
            .fails(2, "HOME-AUDITOR");
    }
    for made in [
        "sealed",
        "status",
        "dossier",
        "ca",
        "approved",
        "again.grant",
    ] {
        assert!(!world.path(made).exists(), "{made}");
    }
}

/// Takes the file that holds the PIN out of a home's configuration.
fn forget_pin(world: &World, home: &str) {
    let path = world.path(home).join("config.toml");
    let text = fs::read_to_string(&path).unwrap();
    let kept: Vec<&str> = text.split('"').collect();
    let without = kept
        .into_iter()
        .map(|part| part.split("?pin-source").next().unwrap())
        .map(|part| part.split("&pin-source").next().unwrap());
    fs::write(&path, without.collect::<Vec<_>>().join("\"")).unwrap();
}

#[test]
fn who_only_looks_is_asked_for_no_pin_where_nothing_is_decrypted() {
    let world = seen();
    for home in ["hq", "seen"] {
        forget_pin(&world, home);
        for line in [
            "reconcile",
            "reconcile --format html --output $D/report.html",
            "audit list",
            "audit show berlin",
            "audit fork",
            "entitlement list",
            "entitlement show th200",
            "site list",
            "site show berlin",
            "trust show",
            "approval list",
        ] {
            world.hq(&format!("--home $D/{home} {line}")).ok();
        }
        // A log is encrypted, and whoever reads it needs the key.
        let run = world
            .hq(&format!("--home $D/{home} audit log --site berlin"))
            .exits(3);
        assert!(run.stderr.contains("pin-source"), "{run}");
    }
}

#[test]
fn it_is_said_beforehand_whether_an_auditors_key_would_be_made() {
    for stores in [Stores::Files, Stores::Tokens] {
        let world = World::empty(stores);
        let make = |file: &str| {
            let line = format!("audit key --keys @auditor --output $D/{file}.pem");
            world.hq(&line).without("HQ_HOME")
        };
        let tried = |key: &Value| {
            let said = make("tried").arg("--dry-run").ok().json();
            assert_eq!((&said["key_id"], &said["dry_run"]), (key, &true.into()));
            assert!(!world.path("tried.pem").exists());
        };
        // The folder of key files is made with the first key.
        world.keys("auditor");
        let folder = world.path("keys/auditor");
        let _ = fs::remove_dir(&folder);
        tried(&Value::Null);
        make("no/where").arg("--dry-run").fails(3, "FILE-MISSING");
        make("no/where").fails(3, "FILE-MISSING");
        tried(&Value::Null);
        assert!(!folder.exists());
        let made = make("made").ok().json();
        assert_eq!(made["dry_run"], false);
        tried(&made["key_id"]);
        let text = make("tried").arg("--dry-run").text().ok();
        assert!(text.stderr.contains("nothing was changed"), "{text}");
        make("made").arg("--dry-run").fails(3, "FILE-EXISTS");
    }
}

#[test]
fn an_auditors_key_may_be_in_a_token() {
    let world = World::ready_in(Stores::Tokens);
    world.requests("one", 1..=2);
    world.issue("one").ok();
    world.carry_home("berlin").exits_done();
    auditor(&world);
    grant(&world, "token", "--site berlin");
    let said = verify(&world, "token").ok().json();
    assert_eq!(said["same_as_headquarters"], true, "{said:#}");
    assert_eq!(said["certificates"], 2);
    same_books(&world, "token", "");
}

#[test]
fn of_a_period_an_auditor_sees_what_was_before_its_end() {
    let world = World::ready();
    world.requests("first", 1..=3);
    world.issue("first").ok();
    world.carry_home("berlin").exits_done();
    let today = world.reconcile()["days"][0]["day"]
        .as_str()
        .unwrap()
        .to_owned();
    world.set_clock(86_400);
    world.requests("second", 4..=5);
    world.issue("second").ok();
    world.carry_home("berlin").exits_done();
    world.set_clock(2 * 86_400);
    world.requests("third", 6..=6);
    world.issue("third").ok();
    world.carry_home("berlin").exits_done();
    auditor(&world);
    grant(&world, "period", &format!("--to {today} --from {today}"));
    let said = verify(&world, "period").ok().json();
    assert_eq!(said["same_as_headquarters"], true, "{said:#}");
    assert_eq!(said["findings_compared"], false);
    // The bundle of the second day began on the first.
    assert_eq!(said["vaults"][0]["bundles"], 2, "{said:#}");
    let books = |home: &str| {
        let line = format!("--home $D/{home} reconcile --as-of {today}");
        world.hq(&line).ok().json()["accounts"].clone()
    };
    assert_eq!(books("hq"), books("period"));
    world
        .hq(&format!(
            "audit grant --auditor $D/auditor.pem --output $D/x.grant --from {today} --to 2020-01-01"
        ))
        .fails(2, "USAGE");
    for still_to_come in ["--to 2999-01-01", "--from 2999-01-01"] {
        world
            .hq(&format!(
                "audit grant --auditor $D/auditor.pem --output $D/x.grant {still_to_come}"
            ))
            .fails(2, "USAGE");
    }
}

/// Has both officers approve what `drafting` drafts, and HQ finish it.
#[track_caller]
fn order(world: &World, drafting: &str, name: &str) {
    let draft = format!("$D/officers/{name}.draft");
    let drafted = world.hq(&format!("{drafting} --output {draft}")).ok();
    world.approve(&draft);
    world.hq(&format!("site grant {}", drafted.text("id"))).ok();
}

#[test]
fn what_was_written_off_with_a_vault_and_ended_after_it_is_so_for_an_auditor_too() {
    let world = World::with_policy(&POLICY.replace("units = 1000\n", "units = 10\n"));
    world.requests("first", 1..=3);
    world.issue("first").ok();
    world.carry_home("berlin").exits_done();
    world.requests("late", 4..=5);
    world.issue("late").ok();
    let fingerprint = world.trust_fingerprint();
    let init = "--home $D/second init --site-id berlin --vault v2 --keys @second";
    let asked = world
        .site(&format!(
            "{init} --trust $D/media/mintmark/trust-000001.cose --fingerprint {fingerprint}"
        ))
        .ok()
        .text("enrolment_fingerprint");
    world.site("--home $D/second media export $D/media").ok();
    let request = "$D/media/mintmark/enrol-berlin_v2.cose";
    order(
        &world,
        &format!("site succeed --request {request} --fingerprint {asked} --replaces v1"),
        "succeed",
    );
    world.carry_home("berlin").exits_done();
    // The lost vault is told nothing of this.
    order(
        &world,
        "device revoke TH200-00000002 --reason stolen",
        "stolen",
    );
    auditor(&world);
    grant(&world, "lost", "--site berlin");
    let said = verify(&world, "lost").ok().json();
    assert_eq!(said["same_as_headquarters"], true, "{said:#}");
    let report = same_books(&world, "lost", "--site berlin");
    assert_eq!(report["accounts"][0]["used_after_all"], 2, "{report}");
    let shown = |home: &str| {
        let line = format!("--home $D/{home} device show TH200-00000002");
        world.hq(&line).exits(1).json()
    };
    assert_eq!(shown("hq"), shown("lost"));
    assert_eq!(shown("lost")["status"], "revoked");
}
