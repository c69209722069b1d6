//! A vault that cheats, with its own keys and its own `site media export`: HQ names what it did, record by record.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::fs;
use std::path::PathBuf;

use mintmark_ledger::entry::{Body, Entry, Refused};
use mintmark_tests::shape::expect;
use mintmark_tests::world::POLICY;
use mintmark_tests::{Liar, Run, World, files, judge};
use serde_json::Value;

/// A vault with four units, of which it has spent two.
fn issuing() -> World {
    let world = World::with_policy(&POLICY.replace("units = 1000", "units = 4"));
    world.requests("two", 1..=2);
    world.issue("two").ok();
    world
}

/// What HQ finds now: code and severity of each, in order; and the whole report.
fn findings(world: &World) -> (Vec<(String, String)>, Value) {
    let run = world.reconcile_run();
    let report = run.json();
    let list = report["findings"].as_array().unwrap();
    assert_eq!(run.exit, i32::from(!list.is_empty()), "{run}");
    for finding in list {
        expect(
            finding,
            "code: text, severity: text, site: text, vault: text, log_sequence: number?, serials: list, evidence: object",
        );
        assert_eq!(
            (finding["site"].as_str(), finding["vault"].as_str()),
            (Some("berlin"), Some("v1"))
        );
    }
    let text = |finding: &Value, field: &str| finding[field].as_str().unwrap().to_owned();
    let found = list
        .iter()
        .map(|finding| (text(finding, "code"), text(finding, "severity")))
        .collect();
    (found, report)
}

fn critical(code: &str) -> Vec<(String, String)> {
    vec![(code.to_owned(), "critical".to_owned())]
}

/// Writes a certificate, and has HQ and OpenSSL say what they think of it.
fn shown(world: &World, der: &[u8]) -> Run {
    let pem = mintmark_pki::to_pem("CERTIFICATE", der);
    let path = world.write("forged.pem", pem);
    world.hq("ca export --output $D/ca").ok();
    // Chain validation alone cannot know: the vault's own key signed it.
    judge::verify(
        &world.path("ca/root.pem"),
        &world.path("ca/device-ca-berlin_v1.pem"),
        &[path],
    );
    world.hq("device show $D/forged.pem").run()
}

#[test]
fn an_honest_vault_is_accused_of_nothing() {
    let world = issuing();
    world.requests("mixed", 1..=6);
    world.issue("mixed").exits(1).lines();
    world
        .site("issue --product GW-1 --csr $D/csr/two --output $D/out")
        .exits(1)
        .lines();
    world.carry_home("berlin").exits_done();
    let (found, report) = findings(&world);
    assert_eq!(
        (found, report["balanced"].as_bool()),
        (Vec::new(), Some(true)),
        "{report}"
    );
    // An interrupted vault, with units that are reserved and not signed for, is no cheat either.
    assert_eq!(report["accounts"][0]["unspent"], 0);
}

#[test]
fn a_unit_beyond_the_quota_is_over_issue_and_the_account_does_not_balance() {
    let world = issuing();
    let liar = Liar::of(&world, "berlin");
    let unit = liar.in_slot(&liar.next_unit("TH-200", "TH200-00000666"), 4);
    world.requests("rest", 3..=4);
    world.issue("rest").ok();
    let certificate = liar.spend(&unit);
    let run = world.carry_home("berlin").exits(1);
    let item = run.item("000001.cose");
    assert_eq!(
        (item["outcome"].as_str(), item["code"].as_str()),
        (Some("imported"), Some("FINDINGS")),
        "{run}"
    );
    let (found, report) = findings(&world);
    assert_eq!(found, critical("OVER-ISSUE"), "{report}");
    assert_eq!(report["balanced"], false);
    assert_eq!(
        (
            report["accounts"][0]["good"].as_u64(),
            report["accounts"][0]["authorised"].as_u64()
        ),
        (Some(5), Some(4))
    );
    let finding = &report["findings"][0];
    assert!(
        finding["serials"]
            .as_array()
            .unwrap()
            .contains(&Value::from(unit.serial())),
        "{finding}"
    );
    let show = shown(&world, &certificate).exits(1);
    assert_eq!(
        show.json()["findings"],
        serde_json::json!(["OVER-ISSUE"]),
        "{show}"
    );
    // The honest devices beside it are good.
    let show = world.hq("device show TH200-00000001").ok().json();
    assert_eq!(
        (
            show["status"].as_str(),
            show["findings"].as_array().map(Vec::len)
        ),
        (Some("good"), Some(0))
    );
    // A vault that cheated is acknowledged all the same: the line is stopped by people, who know why.
    world.carry_out("berlin").exits_done();
    // Importing the stick again finds nothing new.
    world.hq("media import $D/media").ok();
    assert_eq!(findings(&world).0, critical("OVER-ISSUE"));
}

#[test]
fn a_slot_that_is_spent_on_two_devices_is_found_out() {
    let world = issuing();
    let liar = Liar::of(&world, "berlin");
    let unit = liar.in_slot(&liar.next_unit("TH-200", "TH200-00000666"), 0);
    let certificate = liar.spend(&unit);
    world.carry_home("berlin").exits(1).json();
    let (found, report) = findings(&world);
    assert_eq!(found, critical("SLOT-REUSE"), "{report}");
    assert!(
        report["findings"][0]["serials"]
            .as_array()
            .unwrap()
            .contains(&Value::from(unit.serial()))
    );
    assert_eq!(
        shown(&world, &certificate).exits(1).json()["findings"],
        serde_json::json!(["SLOT-REUSE"])
    );
}

/// The position of the decision on a device.
fn decision_on(entries: &[Entry], device: &str) -> usize {
    let of_device = |entry: &Entry| matches!(&entry.body, Body::Reserved(reserved) if reserved.device_id.to_string() == device);
    entries.iter().position(of_device).unwrap()
}

/// Turns an issued unit into a refusal, as if it had never been spent, and takes its signature out.
fn hide(entries: &mut Vec<Entry>, device: &str) {
    let at = decision_on(entries, device);
    let reserved_at = at as u64;
    entries[at].body = Body::Refused(Refused {
        code: "QUOTA-EXHAUSTED".to_owned(),
        entitlement: None,
    });
    let signed = entries.iter().position(
        |entry| matches!(&entry.body, Body::Signed(signed) if signed.reservation.number() == reserved_at),
    );
    entries.remove(signed.unwrap());
}

#[test]
fn a_unit_that_was_taken_out_of_the_log_before_it_was_reported_is_missed_in_the_decisions() {
    let world = issuing();
    let liar = Liar::of(&world, "berlin");
    let mut entries = liar.entries();
    // The last one: no other record refers to those after it.
    let at = decision_on(&entries, "TH200-00000002");
    hide(&mut entries, "TH200-00000002");
    liar.rewrite(&entries);
    world.carry_home("berlin").exits(1).json();
    let (found, report) = findings(&world);
    assert_eq!(found.len(), 1, "{report}");
    assert!(
        ["WRONGLY-REFUSED", "DECISION-DIVERGES"].contains(&&*found[0].0),
        "{report}"
    );
    assert_eq!(report["findings"][0]["log_sequence"], at as u64);
    // Its certificate exists: the chain is valid, and no account knows it.
    let show = world
        .hq("device show $D/out/TH200-00000002.pem")
        .fails(1, "DEVICE-UNKNOWN");
    let said = show.errors()[0].to_string();
    assert!(
        said.contains("chain valid") && said.contains("accounting unknown"),
        "{show}"
    );
}

#[test]
fn a_record_that_is_changed_after_it_was_reported_breaks_the_log() {
    let world = issuing();
    world.carry_home("berlin").exits_done();
    world.carry_out("berlin").exits_done();
    assert_eq!(findings(&world).0, []);
    let liar = Liar::of(&world, "berlin");
    let mut entries = liar.entries();
    let at = decision_on(&entries, "TH200-00000001");
    if let Body::Reserved(reserved) = &mut entries[at].body {
        reserved.device_id = "TH200-00009999".parse().unwrap();
    }
    liar.rewrite(&entries);
    // The vault's own program notices, if anybody asks it.
    world.site("audit verify").exits(4).errors();
    world.requests("more", [3]);
    world.issue("more").ok();
    let before = world.hq("audit list").ok().stdout;
    let run = world.carry_home("berlin").exits(4);
    let bundle = newest_bundle(&world);
    let item = run.item(bundle.file_name().unwrap().to_str().unwrap());
    assert_eq!(
        (item["outcome"].as_str(), item["code"].as_str()),
        (Some("refused"), Some("LOG-INCONSISTENT")),
        "{run}"
    );
    let (found, report) = findings(&world);
    assert_eq!(found, critical("RECORD-EDITED"), "{report}");
    assert_eq!(
        world.hq("audit list").ok().stdout,
        before,
        "nothing of it counts"
    );
    assert_eq!(report["accounts"][0]["good"], 2);
}

fn newest_bundle(world: &World) -> PathBuf {
    let mut bundles = files::below(&world.on_stick("to-hq"));
    bundles.retain(|path| {
        path.extension()
            .is_some_and(|extension| extension == "cose")
    });
    bundles.pop().unwrap()
}

#[test]
fn a_log_that_is_cut_short_is_noticed_by_the_vault_itself() {
    let world = issuing();
    let liar = Liar::of(&world, "berlin");
    let mut entries = liar.entries();
    let records = entries.len();
    entries.truncate(records - 3);
    let index = world.path("berlin/index");
    files::copy(&index, &world.path("index"));
    let snapshot = fs::read(world.path("berlin/state.snapshot")).unwrap();
    liar.rewrite(&entries);
    // Somebody who forgets what follows from the log is told so; whoever forgets nothing is found out by HQ.
    let _ = fs::remove_dir_all(&index);
    files::copy(&world.path("index"), &index);
    fs::write(world.path("berlin/state.snapshot"), snapshot).unwrap();
    let run = world.issue("two").exits(4);
    assert!(
        ["LOG-TRUNCATED", "LOG-CORRUPT"].contains(&&*run.codes()[0]),
        "{run}"
    );
}

#[test]
fn two_vaults_from_one_home_fork_and_the_fork_is_proof() {
    let world = issuing();
    // With its key files: one token would tell the two apart before anything is made.
    world.clone_vault("clone");
    world.requests("a", [3]);
    world.issue("a").ok();
    world.requests("b", [4]);
    let clone = "--home $D/clone";
    world
        .site(&format!(
            "{clone} issue --product TH-200 --csr $D/csr/b --output $D/out"
        ))
        .ok();
    world.carry_home("berlin").exits_done();
    fs::create_dir(world.path("second")).unwrap();
    world.site(&format!("{clone} media export $D/second")).ok();
    let before = world.hq("audit list").ok().stdout;
    let run = world.hq("media import $D/second").exits(4);
    assert_eq!(run.item("000001.cose")["code"], "BUNDLE-FORK", "{run}");
    assert_eq!(world.hq("audit list").ok().stdout, before);
    let (found, report) = findings(&world);
    assert_eq!(found, critical("FORK"), "{report}");
    // Both devices have one slot: whoever sees the two certificates sees the fraud.
    let serial = |name: &str| {
        judge::openssl(
            world.folder(),
            &format!("x509 -in out/{name}.pem -noout -serial"),
        )
    };
    assert_eq!(serial("TH200-00000003"), serial("TH200-00000004"));
}
