//! Officers who come, go, and get other keys.

use std::fs;

use mintmark_tests::world::POLICY;
use mintmark_tests::{Run, Stores, World};

use super::*;

#[test]
fn what_a_removed_officer_approved_is_refused_reported_approved_again_and_accepted() {
    let world = three_officers();
    world.mint("berlin", POLICY);
    world.hq("media export $D/media").ok();

    world.hq("officer remove bob --confirm bob").ok();
    let published = world.next_trust("", &["alice", "carol"]);
    // The grant is in force already, as HQ has yet to hear.
    let both = ["APPROVE-AGAIN", "APPROVE-AGAIN"];
    assert_eq!(published.warning_codes(), both, "{published}");
    let carried = world.carry_out("berlin").exits(1);
    let item = carried.item("dispatch-1-000002.cose");
    assert_eq!(item["type"], "entitlement");
    assert_eq!(item["outcome"], "refused");
    let code = item["code"].as_str().unwrap().to_owned();
    assert_eq!(code, "SIGNER-UNKNOWN", "{carried}");
    assert_eq!(refused_by(&world), code);
    assert!(
        carried.stderr.contains("which has it approved again"),
        "{carried}"
    );
    let status = world.status("berlin");
    let next = status["next"].as_str().unwrap();
    assert!(
        next.contains("entitlement th200 was refused (SIGNER-UNKNOWN)"),
        "{next}"
    );
    // The chain went on: the same medium has nothing new.
    let again = world.site("media import $D/media").ok();
    assert_eq!(again.item("dispatch-1-000002.cose")["outcome"], "already");

    let home = world.carry_home("berlin").exits_done();
    assert_eq!(home.warning_codes(), ["APPROVE-AGAIN"], "{home}");
    let items = home.json()["items"].as_array().unwrap().clone();
    let bundle = items.iter().find(|item| item["type"] == "audit-bundle");
    let refused = &bundle.unwrap()["refused_by_vault"][0];
    assert_eq!(refused["type"], "entitlement");
    assert_eq!(refused["id"], "th200");
    assert_eq!(refused["code"], code.as_str());
    assert_eq!(refused["approve_again"], true);

    let drafts = world.hq("approval list").ok().json();
    let states: Vec<_> = drafts["drafts"].as_array().unwrap().iter().collect();
    let state = |kind: &str| {
        let draft = states.iter().find(|draft| draft["type"] == kind);
        draft.unwrap()["state"].clone()
    };
    assert_eq!(state("enrolment-grant"), "sealed");
    assert_eq!(state("entitlement"), "stale");
    // The draft is open again, with what is left of its approvals.
    world
        .hq("entitlement export th200")
        .fails(1, "THRESHOLD-NOT-MET");
    let approval = world.sign(DRAFT, "carol");
    world.hq(&format!("approval import {approval}")).ok();
    world.hq("entitlement export th200").ok();
    let carried = world.carry_out("berlin").exits_done();
    assert_eq!(
        carried.item("dispatch-1-000003.cose")["outcome"],
        "imported"
    );
    assert_eq!(world.status("berlin")["refused"], serde_json::json!([]));
    world.requests("line", 1..=3);
    world.issue("line").ok();
    world.carry_home("berlin").exits_done();
    let report = world.reconcile();
    assert_eq!(report["balanced"], true, "{report:#}");
    assert_eq!(report["accounts"][0]["good"], 3);
}

#[test]
fn a_draft_that_todays_officers_cannot_read_is_to_be_drafted_again() {
    let world = World::with_vault();
    world.requests("line", 1..=1);
    world.mint("berlin", POLICY);
    // Carol takes bob's place; what was drafted before is not for her.
    world.add_officer("carol", "");
    world.hq("officer remove bob --confirm bob").ok();
    let draft = world.draft_trust("");
    let shown = world.hq(&format!("approval show {draft}")).ok();
    let fingerprint = shown.text("fingerprint");
    for officer in ["alice", "bob"] {
        let approval = world.sign(&draft, officer);
        world.hq(&format!("approval import {approval}")).ok();
    }
    let sign = format!(
        "approval sign {draft} --officer carol --keys @carol --fingerprint {fingerprint} --output $D/carol-trust"
    );
    world.hq(&sign).ok();
    world.hq("approval import $D/carol-trust").ok();
    let published = world.hq("trust publish --media $D/media").ok();
    let again = "draft it again: `hq entitlement draft`";
    let said = |run: &Run| run.warnings().iter().any(|text| text.contains(again));
    assert!(said(&published), "{published}");
    world.pin_version("carol", 1);
    for officer in ["alice", "carol"] {
        let import = format!("--home $D/officers/{officer} media import $D/media");
        world.hq(&import).ok();
    }

    let carried = world.carry_out("berlin").exits(1);
    assert_eq!(
        carried.item("dispatch-1-000002.cose")["code"],
        "SIGNER-UNKNOWN"
    );
    let home = world.carry_home("berlin").exits_done();
    assert_eq!(home.warning_codes(), ["APPROVE-AGAIN"], "{home}");
    assert!(said(&home), "{home}");
    let listed = world.hq("approval list").ok().json();
    let drafts = listed["drafts"].as_array().unwrap();
    let stale = drafts.iter().find(|draft| draft["state"] == "stale");
    assert_eq!(stale.unwrap()["draft_again"], "`hq entitlement draft`");
    let text = world.hq("approval list").text().ok().stdout;
    assert!(text.contains("to be drafted again"), "{text}");
    let shown = world.hq("entitlement show th200").ok().json();
    let waits = shown["entitlements"][0]["waits_for"].to_string();
    assert!(waits.contains(again), "{waits}");
    let hint = |run: &Run| run.errors()[0]["hint"].to_string();
    let export = world
        .hq("entitlement export th200")
        .fails(1, "THRESHOLD-NOT-MET");
    assert!(hint(&export).contains(again), "{export}");
    let by = "--officer carol --keys @carol";
    for line in [
        format!("--home $D/officers/carol approval sign {DRAFT} {by} --output $D/x"),
        format!("--home $D/officers/carol approval show {DRAFT} {by}"),
    ] {
        let unread = world.hq(&line).fails(1, "NOT-RECIPIENT");
        let hint = hint(&unread);
        assert!(hint.contains("have HQ draft it again"), "{unread}");
        assert!(hint.contains("--agreement-keys"), "{unread}");
    }

    fs::remove_file(world.path("officers/berlin-th200.draft")).unwrap();
    let id = world.draft("berlin", POLICY);
    for officer in ["alice", "carol"] {
        fs::remove_file(world.path(&format!("officers/berlin-th200.draft.{officer}"))).ok();
        let approval = world.sign(DRAFT, officer);
        world.hq(&format!("approval import {approval}")).ok();
    }
    world.hq(&format!("entitlement export {id}")).ok();
    world.carry_out("berlin").exits_done();
    world.issue("line").ok();
}

#[test]
fn a_grant_by_a_removed_officer_is_approved_again_before_the_vault_ever_reported() {
    let world = World::empty(Stores::Files);
    world.ceremony(&CAROL, "");
    let fingerprint = world.site_init("berlin").text("enrolment_fingerprint");
    world.site("media export $D/media").ok();
    let enrol = "site enrol --request $D/media/mintmark/enrol-berlin_v1.cose --output $D/officers/enrol.draft";
    let id = world
        .hq(&format!("{enrol} --fingerprint {fingerprint}"))
        .ok()
        .text("id");
    world.approve("$D/officers/enrol.draft");
    world.hq(&format!("site grant {id}")).ok();
    world.hq("officer remove bob --confirm bob").ok();
    world.next_trust("", &["alice", "carol"]);
    let refused = world.carry_out("berlin").exits(1);
    assert_eq!(
        refused.item("dispatch-1-000001.cose")["code"],
        "SIGNER-UNKNOWN"
    );
    let grant = format!("site grant {id}");
    world.hq(&grant).fails(1, "THRESHOLD-NOT-MET");
    let approval = world.sign("$D/officers/enrol.draft", "carol");
    world.hq(&format!("approval import {approval}")).ok();
    world.hq(&grant).ok();
    world.carry_out("berlin").exits_done();
    assert_eq!(world.status("berlin")["enrolled"], true);
}

#[test]
fn a_raised_threshold_holds_for_the_manifest_that_raises_it_and_for_those_after() {
    let world = three_officers();
    let draft = world.draft_trust("--threshold trust=3 --threshold mint=3");
    for officer in ["alice", "bob"] {
        let approval = world.sign(&draft, officer);
        world.hq(&format!("approval import {approval}")).ok();
    }
    // Enough for version 1, too few for version 2 itself.
    world
        .hq("trust publish --media $D/media")
        .fails(1, "THRESHOLD-NOT-MET");
    let approval = world.sign(&draft, "carol");
    world.hq(&format!("approval import {approval}")).ok();
    world.hq("trust publish --media $D/media").ok();
    for officer in CAROL {
        world
            .hq(&format!(
                "--home $D/officers/{officer} media import $D/media"
            ))
            .ok();
    }
    world.draft("berlin", POLICY);
    world.approve(DRAFT);
    world
        .hq("entitlement export th200")
        .fails(1, "THRESHOLD-NOT-MET");
    let approval = world.sign(DRAFT, "carol");
    world.hq(&format!("approval import {approval}")).ok();
    world.hq("entitlement export th200").ok();
    world.carry_out("berlin").exits_done();

    // Nobody lowers it by saying nothing, and to lower it takes as many as it says.
    world.next_trust("", &CAROL);
    assert_eq!(world.hq("trust show").ok().json()["thresholds"]["trust"], 3);
    let draft = world.draft_trust("--threshold trust=2");
    for officer in ["alice", "bob"] {
        let approval = world.sign(&draft, officer);
        world.hq(&format!("approval import {approval}")).ok();
    }
    world
        .hq("trust publish --media $D/media")
        .fails(1, "THRESHOLD-NOT-MET");
}

#[test]
fn an_officer_gets_other_keys_or_a_second_one_and_stays_one_officer() {
    let world = World::with_vault();
    let request = |name: &str, keys: &str| {
        let line = format!(
            "officer request --name {name} --keys @{keys} --output $D/officers/{keys}.request"
        );
        let fingerprint = world.hq(&line).ok().text("fingerprint");
        format!("officer add --request $D/officers/{keys}.request --fingerprint {fingerprint}")
    };
    let add = request("alice", "alice-new");
    world.hq(&add).fails(2, "OFFICER-EXISTS");
    world.hq(&format!("{add} --replace")).ok();
    let add = request("bob", "bob-second");
    world.hq(&format!("{add} --add-key")).ok();
    let stranger = request("carol", "carol");
    world
        .hq(&format!("{stranger} --replace"))
        .fails(2, "OFFICER-UNKNOWN");
    let listed = world.hq("officer list").ok().json();
    assert_eq!(listed["officers"][0]["changes"], true);
    assert_eq!(
        listed["officers"][1]["signing_key_ids"]
            .as_array()
            .unwrap()
            .len(),
        2
    );

    // The old keys approve by the manifest before; by the new one alice has only her new key.
    let draft = world.draft_trust("");
    for officer in ["alice", "bob"] {
        let approval = world.sign(&draft, officer);
        world.hq(&format!("approval import {approval}")).ok();
    }
    world
        .hq("trust publish --media $D/media")
        .fails(1, "THRESHOLD-NOT-MET");
    world
        .hq(&format!(
            "--home $D/officers/alice approval sign {draft} --officer alice --keys @alice-new --output $D/alice-new"
        ))
        .ok();
    world.hq("approval import $D/alice-new").ok();
    world.hq("trust publish --media $D/media").ok();
    for officer in ["alice", "bob"] {
        world
            .hq(&format!(
                "--home $D/officers/{officer} media import $D/media"
            ))
            .ok();
    }
    world.carry_out("berlin").exits_done();

    world.draft("berlin", POLICY);
    let sign = |officer: &str, keys: &str, output: &str| {
        world.hq(&format!(
            "--home $D/officers/{officer} approval sign {DRAFT} --officer {officer} --keys {keys} --output {output}"
        ))
    };
    sign("alice", "@alice", "$D/old").fails(1, "OFFICER-KEY-MISMATCH");
    sign("bob", "@bob", "$D/bob-1").ok();
    sign("bob", "@bob-second --agreement-keys @bob", "$D/bob-2").ok();
    world.hq("approval import $D/bob-1").ok();
    world.hq("approval import $D/bob-2").run();
    world
        .hq("entitlement export th200")
        .fails(1, "THRESHOLD-NOT-MET");
    sign("alice", "@alice-new", "$D/alice-1").ok();
    world.hq("approval import $D/alice-1").ok();
    world.hq("entitlement export th200").ok();
    world.carry_out("berlin").exits_done();
    assert_eq!(
        world.status("berlin")["accounts"].as_array().unwrap().len(),
        1
    );
}
