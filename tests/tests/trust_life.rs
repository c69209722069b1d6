//! A trust manifest and its successors: officers and keys come and go, and nothing that was under way is lost, and
//! nothing counts any more that should not.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::fs;
use std::path::Path;
use std::process::Command;

use mintmark_tests::clock::DAY;
use mintmark_tests::world::POLICY;
use mintmark_tests::{Run, Stores, World, files, judge};
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
fn another_dispatch_key_sends_again_what_was_not_seen_and_ends_the_epoch_before() {
    let world = World::ready();
    world.requests("line", 1..=2);
    world.issue("line").ok();
    world.carry_home("berlin").exits_done();
    // An acknowledgement and an entitlement that nobody has seen.
    world.hq("media export $D/media").ok();
    world.mint("berlin", &other_policy());
    world.hq("media export $D/media").ok();
    let folder = world.on_stick("to-berlin_v1");
    files::copy(&folder, &world.path("old-stick/mintmark/to-berlin_v1"));
    assert!(folder.join("dispatch-1-000004.cose").exists());

    world.next_trust("--dispatch-keys @dispatch2", &["alice", "bob"]);
    let carried = world.carry_out("berlin").exits_done();
    // What is over was taken off the stick.
    assert!(!folder.join("dispatch-1-000004.cose").exists());
    let entitlement = carried.item("dispatch-2-000001.cose");
    assert_eq!(entitlement["type"], "entitlement", "{carried}");
    assert_eq!(entitlement["outcome"], "imported");
    assert_eq!(
        carried.item("dispatch-2-000002.cose")["type"],
        "acknowledgement"
    );
    let status = world.status("berlin");
    assert_eq!(status["dispatch"]["epoch"], 2);
    assert_eq!(status["bundle"]["acknowledged"], 1);
    assert_eq!(status["accounts"].as_array().unwrap().len(), 2);

    // A stick from before comes late: nothing of it counts, and nothing breaks.
    let late = world.site("media import $D/old-stick").ok();
    let item = late.item("dispatch-1-000004.cose");
    let over = "DISPATCH-EPOCH-OVER";
    assert_eq!(
        (&item["outcome"], &item["code"]),
        (&"already".into(), &over.into()),
        "{late}"
    );
    assert!(late.warning_codes().contains(&over.to_owned()), "{late}");
    assert_eq!(world.status("berlin")["log_size"], status["log_size"]);

    world.requests("more", 3..=4);
    world.issue("more").ok();
    world.carry_home("berlin").exits_done();
    world.carry_out("berlin").exits_done();
    assert_eq!(world.reconcile()["balanced"], true);
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

/// OpenSSL's verdict on a chain: `trusted` at its end, `between` on the way to `certificate`.
fn verify(folder: &Path, trusted: &str, between: &[&str], certificate: &Path) -> bool {
    let mut command = Command::new("openssl");
    command.current_dir(folder).args([
        "verify",
        "-x509_strict",
        "-check_ss_sig",
        "-CAfile",
        trusted,
    ]);
    for file in between {
        command.args(["-untrusted", file]);
    }
    command.arg(certificate).output().unwrap().status.success()
}

#[test]
fn a_new_root_certifies_new_vaults_and_those_before_stay_as_they_are() {
    let world = World::ready();
    world.requests("line", 1..=2);
    world.issue("line").ok();
    // A vault whose grant is under way while the root changes.
    world.site_init("paris");
    world.site("--home $D/paris media export $D/media").ok();
    let fingerprint = world.status("paris")["enrolment_fingerprint"].clone();
    let enrol = format!(
        "site enrol --request $D/media/mintmark/enrol-paris_v1.cose --fingerprint {} --output $D/officers/paris.draft",
        fingerprint.as_str().unwrap()
    );
    let id = world.hq(&enrol).ok().text("id");
    world.approve("$D/officers/paris.draft");
    world.hq(&format!("site grant {id}")).ok();
    // And one whose grant was drafted before, and is finished after.
    world.site_init("madrid");
    world.site("--home $D/madrid media export $D/media").ok();
    let fingerprint = world.status("madrid")["enrolment_fingerprint"].clone();
    let enrol = format!(
        "site enrol --request $D/media/mintmark/enrol-madrid_v1.cose --fingerprint {}",
        fingerprint.as_str().unwrap()
    );
    let draft = "$D/officers/madrid.draft";
    let id = world
        .hq(&format!("{enrol} --output {draft}"))
        .ok()
        .text("id");
    world.approve(draft);

    world.next_trust("--root-keys @root2", &["alice", "bob"]);
    world
        .hq(&format!("site grant {id}"))
        .fails(1, "GRANT-ROOT-FORMER");
    world.carry_out("paris").exits_done();
    world.carry_out("berlin").exits_done();
    world.enrol("hamburg");
    let policy = other_policy();
    world.grant("hamburg", &policy);
    world.grant("paris", &policy);
    for (site, number) in [("hamburg", 11), ("paris", 12)] {
        world.requests(site, [number]);
        world
            .site(&format!(
                "--home $D/{site} issue --product TH-200 --csr $D/csr/{site} --output $D/out"
            ))
            .ok();
    }
    world.requests("more", 3..=4);
    world.issue("more").ok();

    world.hq("ca export --output $D/ca").ok();
    let ca = world.path("ca");
    let device = |number: u32| world.path(&format!("out/TH200-{number:08}.pem"));
    for number in [1, 3] {
        let between = ["device-ca-berlin_v1.pem"];
        assert!(verify(&ca, "root-1.pem", &between, &device(number)));
        assert!(!verify(&ca, "root.pem", &between, &device(number)));
    }
    assert!(verify(
        &ca,
        "root-1.pem",
        &["device-ca-paris_v1.pem"],
        &device(12)
    ));
    let between = ["device-ca-hamburg_v1.pem"];
    assert!(verify(&ca, "root.pem", &between, &device(11)));
    assert!(!verify(&ca, "root-1.pem", &between, &device(11)));
    let linked = ["root-link.pem", "device-ca-hamburg_v1.pem"];
    assert!(verify(&ca, "root-1.pem", &linked, &device(11)));
    // Each chain ends with the root that it has.
    for (site, root) in [("berlin", "root-1.pem"), ("hamburg", "root.pem")] {
        let chain = fs::read_to_string(ca.join(format!("chain-{site}_v1.pem"))).unwrap();
        assert!(chain.ends_with(&fs::read_to_string(ca.join(root)).unwrap()));
    }
    for (crl, root) in [
        ("crl-root.pem", "root.pem"),
        ("crl-root-1.pem", "root-1.pem"),
    ] {
        judge::openssl(&ca, &format!("crl -in {crl} -CAfile {root} -noout"));
    }

    for site in ["berlin", "hamburg", "paris"] {
        world.carry_home(site).exits_done();
    }
    assert_eq!(world.reconcile()["balanced"], true);
    for number in [1, 11, 12] {
        let shown = world
            .hq("device show")
            .arg(device(number).to_str().unwrap());
        assert_eq!(shown.ok().json()["chain"], "valid");
    }

    // A third one: every firmware that knows any of the roots can follow.
    world.next_trust("--root-keys @root3", &["alice", "bob"]);
    world.enrol("oslo");
    world.hq("ca export --output $D/ca3").ok();
    let ca = world.path("ca3");
    let oslo = ca.join("device-ca-oslo_v1.pem");
    assert!(verify(&ca, "root.pem", &[], &oslo));
    assert!(verify(&ca, "root-2.pem", &["root-link.pem"], &oslo));
    assert!(verify(
        &ca,
        "root-1.pem",
        &["root-link.pem", "root-link-2.pem"],
        &oslo
    ));
    assert!(!verify(&ca, "root-1.pem", &["root-link.pem"], &oslo));
}

#[test]
fn a_root_that_is_lost_is_replaced_without_a_link() {
    let world = World::with_headquarters();
    let draft = world.draft_trust("--root-keys @root2");
    world.approve(&draft);
    let config = fs::read_to_string(world.path("hq/config.toml")).unwrap();
    let lost = config
        .lines()
        .find_map(|line| line.strip_prefix("root = \"file:"));
    let lost = lost.unwrap().split('?').next().unwrap();
    fs::rename(lost, world.path("lost")).unwrap();
    world.hq("trust publish --media $D/media").exits(3);
    world
        .hq("trust publish --media $D/media --no-root-link")
        .ok();
    world.hq("ca export --output $D/ca").ok();
    assert!(world.path("ca/root-1.pem").exists());
    assert!(!world.path("ca/root-link.pem").exists());
    world
        .hq("--home $D/officers/alice media import $D/media")
        .ok();
    world
        .hq("--home $D/officers/bob media import $D/media")
        .ok();
    world.enrol("berlin");
}

#[test]
fn other_keys_of_hq_read_new_bundles_and_those_before_are_still_read() {
    let world = World::ready();
    world.requests("line", 1..=2);
    world.issue("line").ok();
    world.site("media export $D/media").ok();
    judge::openssl(
        world.folder(),
        "genpkey -quiet -algorithm EC -pkeyopt ec_paramgen_curve:P-256 -out escrow2.key",
    );
    judge::openssl(
        world.folder(),
        "pkey -in escrow2.key -pubout -out escrow2.pem",
    );
    let before = world.hq("trust show").ok().json();
    world.next_trust(
        "--audit-keys @audit2 --escrow-key $D/escrow2.pem",
        &["alice", "bob"],
    );
    let after = world.hq("trust show").ok().json();
    for key in [0, 1] {
        assert_ne!(
            before["encryption_keys"][key],
            after["encryption_keys"][key]
        );
    }
    assert_eq!(before["dispatch_epoch"], after["dispatch_epoch"]);
    // The bundle was sealed for the key before.
    let home = world.hq("media import $D/media").ok();
    let outcome = |item: &Value| item["outcome"] == "imported";
    assert!(
        home.json()["items"].as_array().unwrap().iter().any(outcome),
        "{home}"
    );
    world.carry_out("berlin").exits_done();
    world.requests("more", 3..=5);
    world.issue("more").ok();
    world.carry_home("berlin").exits_done();
    let report = world.reconcile();
    assert_eq!(report["balanced"], true, "{report:#}");
    assert_eq!(report["accounts"][0]["good"], 5);
    // HQ reads what it holds back, by whichever key.
    let ours = world.hq("audit log --site berlin").ok().lines();
    let theirs = world.log("berlin");
    assert!(ours.len() > 10);
    for (ours, theirs) in ours.iter().zip(&theirs) {
        assert_eq!(ours["sequence"], theirs["sequence"]);
        assert_eq!(ours["kind"], theirs["kind"]);
    }
    // A draft from before can be read and sent.
    world
        .hq("approval show $D/officers/berlin-th200.draft")
        .ok();
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

#[test]
fn keys_of_a_draft_do_not_count_before_it_is_published_nor_get_lost_with_its_configuration() {
    let world = World::ready();
    let config = world.path("hq/config.toml");
    let draft = world.draft_trust("--dispatch-keys @dispatch2 --audit-keys @audit2");
    let drafted = fs::read(&config).unwrap();
    // Meanwhile everything goes on under the keys in force.
    world.requests("line", 1..=2);
    world.issue("line").ok();
    world.carry_home("berlin").exits_done();
    world.mint("berlin", &other_policy());
    world.carry_out("berlin").exits_done();
    assert_eq!(world.status("berlin")["dispatch"]["epoch"], 1);
    world.approve(&draft);
    world.hq("trust publish --media $D/media").ok();
    // The machine stopped before the configuration was written.
    fs::write(&config, drafted).unwrap();
    world.carry_out("berlin").exits_done();
    assert_eq!(world.status("berlin")["dispatch"]["epoch"], 2);
    world.requests("more", 3..=4);
    world.issue("more").ok();
    world.carry_home("berlin").exits_done();
    assert_eq!(world.reconcile()["balanced"], true);
    // A dispatch key that the manifest does not name signs nothing.
    let text = fs::read_to_string(&config).unwrap();
    let other = text.replace("/dispatch2", "/hq");
    assert_ne!(text, other);
    fs::write(&config, other).unwrap();
    world.hq("media export $D/media").fails(4, "KEY-NOT-LISTED");
}

#[test]
fn a_lost_audit_key_starves_nobody() {
    let world = World::ready();
    world.requests("line", 1..=2);
    world.issue("line").ok();
    world.site("media export $D/media").ok();
    fs::remove_file(world.path("keys/hq/audit.pem")).unwrap();
    world.hq("media import $D/media").fails(3, "KEY-MISSING");
    // The escrow key is taken out of its safe.
    world.keys("safe");
    fs::create_dir_all(world.path("keys/safe")).unwrap();
    judge::openssl(
        world.folder(),
        "pkcs8 -topk8 -in escrow.key -out keys/safe/audit.pem -passout file:pins/safe.pin -v2 aes-256-cbc -iter 600000",
    );
    let key = fs::read_to_string(world.path("keys/safe/audit.pem")).unwrap();
    world.write("keys/safe/audit.pem", format!("Purpose: agree\n{key}"));
    let mut command = Command::new("chmod");
    let chmod = command.current_dir(world.folder());
    judge::succeed(chmod.args(["go=", "keys/safe", "keys/safe/audit.pem"]));
    world
        .hq("trust escrow --keys @audit2-of-another")
        .fails(3, "KEY-FOLDER-MISSING");
    world.hq("trust escrow --keys @safe").ok();
    let home = world.hq("media import $D/media").ok();
    assert!(home.to_string().contains("AUDIT-KEY-MISSING"), "{home}");
    let imported = |item: &Value| item["outcome"] == "imported";
    assert!(
        home.json()["items"]
            .as_array()
            .unwrap()
            .iter()
            .any(imported),
        "{home}"
    );
    world.next_trust("--audit-keys @audit2", &["alice", "bob"]);
    world.carry_out("berlin").exits_done();
    world.requests("more", 3..=4);
    world.issue("more").ok();
    world.carry_home("berlin").exits_done();
    assert_eq!(world.reconcile()["balanced"], true);
}

#[test]
fn keys_in_tokens_are_replaced_as_those_in_files_are() {
    let world = World::ready_in(Stores::Tokens);
    world.requests("line", 1..=2);
    world.issue("line").ok();
    world.site("media export $D/media").ok();
    let keys = "--root-keys @root2 --dispatch-keys @dispatch2 --audit-keys @audit2";
    // A rehearsal makes no key.
    let rehearsed = world.hq(&format!("trust draft --dry-run {keys}")).ok();
    assert_eq!(rehearsed.json()["dry_run"], true);
    world.next_trust(keys, &["alice", "bob"]);
    world.hq("media import $D/media").ok();
    world.carry_out("berlin").exits_done();
    world.requests("more", 3..=4);
    world.issue("more").ok();
    world.carry_home("berlin").exits_done();
    assert_eq!(world.reconcile()["balanced"], true);
    world.enrol("paris");
    world.hq("ca export --output $D/ca").ok();
    let ca = world.path("ca");
    let paris = ca.join("device-ca-paris_v1.pem");
    assert!(verify(&ca, "root.pem", &[], &paris));
    assert!(verify(&ca, "root-1.pem", &["root-link.pem"], &paris));
}
