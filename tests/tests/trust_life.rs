//! A trust manifest and its successors: officers and keys come and go, and nothing that was under way is lost, and
//! nothing counts any more that should not.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

#[path = "trust_life/keys.rs"]
mod keys;
#[path = "trust_life/officers.rs"]
mod officers;
#[path = "trust_life/root.rs"]
mod root;

use std::fs;

use mintmark_tests::clock::DAY;
use mintmark_tests::world::POLICY;
use mintmark_tests::{Run, Stores, World, judge};
use serde_json::Value;

const CAROL: [&str; 3] = ["alice", "bob", "carol"];

const DRAFT: &str = "$D/officers/berlin-th200.draft";

/// A headquarters with three officers, of whom every role needs two, and a vault `berlin/v1` that it let in.
fn three_officers() -> World {
    let world = World::empty(Stores::Files);
    world.ceremony(&CAROL, "");
    world.enrol("berlin");
    world
}

fn other_policy() -> String {
    POLICY.replace("id = \"th200\"", "id = \"th200-b\"")
}

/// The rule by which the vault refused a dispatch last.
fn refused_by(world: &World) -> String {
    let rows = world.log("berlin");
    let refused = |row: &&Value| row["kind"] == "dispatch" && row["outcome"] == "refused";
    let row = rows.iter().rfind(refused);
    row.unwrap()["code"].as_str().unwrap().to_owned()
}

#[test]
fn a_new_epoch_repeats_what_the_vault_had_and_changes_nothing_there() {
    let world = World::ready();
    let more = POLICY.replace("units = 1000", "units = 2000");
    world.write("policies/more.toml", more);
    let draft = "$D/officers/amended.draft";
    let amend = format!("entitlement amend --policy $D/policies/more.toml --output {draft}");
    let id = world.hq(&amend).ok().text("id");
    world.approve(draft);
    world.hq(&format!("entitlement export {id}")).ok();
    world.carry_out("berlin").exits_done();
    let before = world.status("berlin");
    assert_eq!(before["accounts"][0]["authorised"], 2000);
    // HQ has not heard from the vault at all: it sends the grant and both versions of the entitlement anew.
    let draft = "$D/officers/epoch.draft";
    world.hq(&format!("trust epoch --output {draft}")).ok();
    world.approve(draft);
    world.hq("trust publish --media $D/media").ok();
    let shown = world.hq("trust show").ok().json();
    assert_eq!(shown["dispatch_epoch"], 2);
    assert_eq!(shown["thresholds"]["mint"], 2);
    let carried = world.carry_out("berlin").exits_done();
    assert_eq!(
        carried.item("dispatch-2-000001.cose")["type"],
        "enrolment-grant"
    );
    for dispatch in ["dispatch-2-000002.cose", "dispatch-2-000003.cose"] {
        assert_eq!(carried.item(dispatch)["type"], "entitlement");
        assert_eq!(carried.item(dispatch)["outcome"], "imported");
    }
    let after = world.status("berlin");
    assert_eq!(after["accounts"], before["accounts"]);
    assert_eq!(after["dispatch"]["epoch"], 2);
    world.requests("line", 1..=2);
    world.issue("line").ok();
    let home = world.carry_home("berlin").exits_done();
    assert_eq!(home.warning_codes(), [""; 0], "{home}");
    assert_eq!(world.reconcile()["balanced"], true);
}

#[test]
fn a_vault_and_an_officer_that_missed_versions_walk_through_them_in_order() {
    let world = World::with_vault();
    world.mint("berlin", POLICY);
    for _ in 2..=4 {
        world.next_trust("", &["alice", "bob"]);
    }
    world.hq("media export $D/media").ok();
    let stick = |name: &str, versions: &[u32]| {
        for version in versions {
            let file = format!("trust-{version:06}.cose");
            let bytes = fs::read(world.on_stick(&file)).unwrap();
            world.write(&format!("{name}/mintmark/{file}"), bytes);
        }
    };
    world.pin_version("carol", 1);
    stick("only-4", &[4]);
    let held = world
        .hq("--home $D/officers/carol media import $D/only-4")
        .exits(3);
    assert_eq!(held.item("trust-000004.cose")["outcome"], "held");
    assert_eq!(held.item("trust-000004.cose")["code"], "TRUST-MISSING");
    let held = world.site("media import $D/only-4").exits(3);
    assert_eq!(held.item("trust-000004.cose")["outcome"], "held");
    assert_eq!(held.item("trust-000004.cose")["code"], "TRUST-MISSING");
    assert_eq!(world.status("berlin")["trust_version"], 1);
    let walked = world.site("media import $D/media").ok();
    for version in 2..=4 {
        let file = format!("trust-{version:06}.cose");
        assert_eq!(walked.item(&file)["outcome"], "imported");
    }
    assert_eq!(world.status("berlin")["trust_version"], 4);
    assert_eq!(
        world.status("berlin")["accounts"].as_array().unwrap().len(),
        1
    );
    let carol = "--home $D/officers/carol";
    world.hq(&format!("{carol} media import $D/media")).ok();
    let shown = world.hq(&format!("{carol} trust show")).ok().json();
    assert_eq!(shown["version"], 4);
}

#[test]
fn officers_read_every_key_that_a_manifest_changes_as_it_was_and_as_it_will_be() {
    let world = World::with_headquarters();
    world.add_officer("carol", "--role mint --role revoke");
    world.hq("officer remove bob --confirm bob").ok();
    judge::openssl(
        world.folder(),
        "genpkey -quiet -algorithm EC -pkeyopt ec_paramgen_curve:P-256 -out escrow2.key",
    );
    judge::openssl(
        world.folder(),
        "pkey -in escrow2.key -pubout -out escrow2.pem",
    );
    let keys = "--root-keys @root2 --dispatch-keys @dispatch2 --audit-keys @audit2 --escrow-key $D/escrow2.pem";
    let draft = world.draft_trust(keys);
    let words = |run: &Run| -> Vec<String> {
        let words = run.json()["words"].as_array().unwrap().clone();
        let words = words
            .iter()
            .map(|line| line.as_str().unwrap().trim().to_owned());
        words.collect()
    };
    let before = words(
        &world
            .hq("approval show $D/media/mintmark/trust-000001.cose")
            .ok(),
    );
    let now = words(
        &world
            .hq(&format!("--home $D/officers/alice approval show {draft}"))
            .ok(),
    );
    let changes = now
        .iter()
        .position(|line| line == "Against trust manifest 1:");
    let (now, changes) = now.split_at(changes.unwrap());
    // What stands in a manifest so many lines after this one.
    let after = |manifest: &[String], line: &str, lines: usize| {
        let at = manifest.iter().position(|found| found.starts_with(line));
        let text = &manifest[at.unwrap_or_else(|| panic!("{line}: {manifest:#?}")) + lines];
        text.split_whitespace().last().unwrap().to_owned()
    };
    for (what, line, lines) in [
        (
            "the ROOT CERTIFICATE is another, by its SHA-256:",
            "Root certificate",
            1,
        ),
        ("the dispatch key is another:", "dispatch", 0),
        (
            "the audit key is another:",
            "HQ reads with the key `audit`",
            1,
        ),
        (
            "the escrow key is another:",
            "HQ reads with the key `escrow`",
            1,
        ),
    ] {
        let at = changes.iter().position(|line| line == what);
        let at = at.unwrap_or_else(|| panic!("{what}: {changes:#?}"));
        let ids = [after(&before, line, lines), after(now, line, lines)];
        assert_ne!(ids[0], ids[1]);
        let [was, is] = ids;
        assert_eq!(changes[at + 1], format!("before    {was}"));
        assert_eq!(changes[at + 2], format!("now       {is}"));
    }
    for (what, line, manifest) in [
        ("officer carol is new: mint, revoke", "Officer carol", now),
        (
            "officer bob is no longer listed: mint, enrol, revoke, trust until now",
            "Officer bob",
            &before[..],
        ),
    ] {
        let at = changes.iter().position(|line| line == what);
        let at = at.unwrap_or_else(|| panic!("{what}: {changes:#?}"));
        for lines in 1..=2 {
            assert!(changes[at + lines].ends_with(&after(manifest, line, lines)));
        }
    }
    assert!(!changes.iter().any(|line| line.contains("report key")));
}

#[test]
fn whoever_looks_is_told_thirty_days_before_the_manifest_expires() {
    let world = World::with_vault();
    world.mint("berlin", POLICY);
    world.hq("media export $D/media").ok();
    let quiet: [&str; 0] = [];
    world.set_clock(699 * DAY);
    assert_eq!(world.site("status").ok().warning_codes(), quiet);
    assert_eq!(world.hq("trust show").ok().warning_codes(), quiet);
    world.set_clock(701 * DAY);
    let status = world.site("status").ok();
    assert_eq!(status.warning_codes(), ["TRUST-EXPIRES"], "{status}");
    assert_eq!(status.json()["trust_expires_soon"], true);
    for line in [
        "trust show",
        "officer list",
        "entitlement list",
        "--home $D/officers/alice trust show",
    ] {
        let run = world.hq(line).ok();
        assert_eq!(run.warning_codes(), ["TRUST-EXPIRES"], "{run}");
    }
    world.set_clock(731 * DAY);
    assert_eq!(world.site("status").ok().warning_codes(), ["TRUST-EXPIRED"]);
    let held = world.site("media import $D/media").exits(3);
    let item = held.item("dispatch-1-000002.cose");
    assert_eq!(item["outcome"], "held");
    assert_eq!(item["code"], "TRUST-EXPIRED");
    world.write("policies/late.toml", other_policy());
    world
        .hq("entitlement draft --site berlin --vault v1 --policy $D/policies/late.toml")
        .fails(1, "TRUST-EXPIRED");
    // Nor does an officer approve by it.
    let late = world
        .hq(&format!("--home $D/officers/alice approval sign {DRAFT} --officer alice --keys @alice --output $D/late"))
        .fails(1, "TRUST-EXPIRED");
    let error = &late.errors()[0];
    let message = error["message"].as_str().unwrap();
    assert!(message.contains('T') && message.ends_with('Z'), "{late}");
    assert!(error["hint"].to_string().contains("media import"), "{late}");
    // An expired one still verifies its successor.
    world.next_trust("", &["alice", "bob"]);
    assert_eq!(world.hq("trust show").ok().warning_codes(), quiet);
    let carried = world.site("media import $D/media").run();
    assert_eq!(carried.item("trust-000002.cose")["outcome"], "imported");
    assert_eq!(world.status("berlin")["trust_version"], 2);
}

#[test]
fn a_vault_that_pinned_an_old_version_is_let_in_under_the_newest() {
    let world = World::with_headquarters();
    let fingerprint = world.trust_fingerprint();
    world.next_trust(
        "--dispatch-keys @dispatch2 --root-keys @root2",
        &["alice", "bob"],
    );
    world
        .site(&format!(
            "--home $D/berlin init --site-id berlin --keys @berlin --fingerprint {fingerprint} \
             --trust $D/media/mintmark/trust-000001.cose"
        ))
        .ok();
    world.let_in("berlin", &["alice", "bob"]);
    world.grant("berlin", POLICY);
    world.requests("line", 1..=2);
    world.issue("line").ok();
    world.carry_home("berlin").exits_done();
    assert_eq!(world.reconcile()["balanced"], true);
    let status = world.status("berlin");
    assert_eq!(status["trust_version"], 2);
    assert_eq!(status["dispatch"]["epoch"], 2);
}
