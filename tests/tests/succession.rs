//! A vault that another one took the place of, and what both report from then on.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::fs;

use mintmark_tests::World;
use mintmark_tests::world::POLICY;
use serde_json::{Value, json};

/// Has both officers approve what `drafting` drafts, and HQ finish it.
#[track_caller]
fn order(world: &World, drafting: &str, name: &str) -> Value {
    let draft = format!("$D/officers/{name}.draft");
    let drafted = world.hq(&format!("{drafting} --output {draft}")).ok();
    world.approve(&draft);
    let grant = format!("site grant {}", drafted.text("id"));
    world.hq(&grant).ok().json()
}

/// `berlin/v2`, whose home is `$D/second`, takes the place of `berlin/v1`.
#[track_caller]
fn succeed(world: &World) {
    let trust = "$D/media/mintmark/trust-000001.cose";
    let fingerprint = world.trust_fingerprint();
    let init =
        format!("--home $D/second init --site-id berlin --vault v2 --keys @second --trust {trust}");
    let asked = world
        .site(&format!("{init} --fingerprint {fingerprint}"))
        .ok();
    world.site("--home $D/second media export $D/media").ok();
    let fingerprint = asked.text("enrolment_fingerprint");
    let request = "$D/media/mintmark/enrol-berlin_v2.cose";
    let succeed =
        format!("site succeed --request {request} --fingerprint {fingerprint} --replaces v1");
    order(world, &succeed, "succeed");
}

/// The findings of a code: severity, how many records, how many serials.
fn findings(report: &Value, code: &str) -> Vec<(String, Option<u64>, usize)> {
    let findings = report["findings"].as_array().unwrap().iter();
    findings
        .filter(|finding| finding["code"] == code)
        .map(|finding| {
            let count = finding["evidence"]["count"].as_u64();
            let serials = finding["serials"].as_array().unwrap().len();
            (
                finding["severity"].as_str().unwrap().to_owned(),
                count,
                serials,
            )
        })
        .collect()
}

#[test]
fn what_a_replaced_vault_makes_is_found_and_no_longer_in_doubt() {
    let world = World::with_policy(&POLICY.replace("units = 1000\n", "units = 10\n"));
    world.requests("first", 1..=3);
    world.issue("first").ok();
    world.carry_home("berlin").exits_done();
    world.requests("late", 4..=5);
    world.issue("late").ok();
    world.set_clock(60);
    succeed(&world);

    // It made these before, and its report was late: nothing is wrong, and it is said.
    world.carry_home("berlin").exits_done();
    let report = world.reconcile_run().exits_done().json();
    let code = "REPLACED-VAULT-ISSUED";
    let late = ("note".to_owned(), Some(2), 2);
    assert_eq!(
        findings(&report, code),
        std::slice::from_ref(&late),
        "{report}"
    );
    let account = &report["accounts"][0];
    assert_eq!(
        (&account["written_off"], &account["used_after_all"]),
        (&json!(5), &json!(2))
    );

    // It made this although another one has its place.
    world.set_clock(120);
    world.requests("after", 6..=6);
    world.issue("after").ok();
    let imported = world.carry_home("berlin").exits(1);
    assert!(
        imported.warning_codes().contains(&"FINDINGS".to_owned()),
        "{imported:?}"
    );
    let report = world.reconcile_run().exits(1).json();
    let after = ("major".to_owned(), Some(1), 1);
    // The gravest first.
    assert_eq!(findings(&report, code), [after, late], "{report}");
    let account = &report["accounts"][0];
    assert_eq!(
        (&account["written_off"], &account["used_after_all"]),
        (&json!(4), &json!(3))
    );
    assert_eq!(report["balanced"], true);
    let shown = world.hq("site show berlin/v1").ok().json();
    let off = &shown["vaults"][0]["written_off"][0];
    assert_eq!(
        (&off["units"], &off["used_after_all"]),
        (&json!(4), &json!(3))
    );

    // People see two serials of seven, last in the row.
    let table = world.hq("reconcile").text().exits(1).stdout;
    assert!(table.contains("may be granted again"), "{table}");
    assert!(
        table.contains("3 more were written off and turned out to be used"),
        "{table}"
    );
    let row = table
        .lines()
        .find(|line| line.contains("SLOTS-WRITTEN-OFF"))
        .unwrap();
    assert!(row.trim_end().ends_with("+5 more"), "{row}");
    let csv = world.hq("reconcile --format csv").text().exits(1).stdout;
    let row = csv
        .lines()
        .find(|line| line.contains("SLOTS-WRITTEN-OFF"))
        .unwrap();
    let serials = row.split(',').nth(14).unwrap();
    assert_eq!(serials.split(' ').count(), 7, "{row}");
}

#[test]
fn what_a_replaced_vault_reports_late_may_exist_twice_once_its_successor_makes_the_product() {
    let world = World::with_policy(&POLICY.replace("units = 1000\n", "units = 10\n"));
    world.requests("late", 1..=2);
    world.issue("late").ok();
    world.set_clock(60);
    succeed(&world);
    world.write(
        "policies/again.toml",
        POLICY
            .replace("units = 1000\n", "units = 10\n")
            .replace("\"th200\"", "\"again\""),
    );
    let drafting = "entitlement draft --site berlin --vault v2 --policy $D/policies/again.toml";
    let draft = "$D/officers/again.draft";
    world.hq(&format!("{drafting} --output {draft}")).ok();
    world.approve(draft);
    world.hq("entitlement export again").ok();

    let _ = world.carry_home("berlin").exits(1);
    let report = world.reconcile_run().exits(1).json();
    let late = ("minor".to_owned(), Some(2), 2);
    assert_eq!(
        findings(&report, "REPLACED-VAULT-ISSUED"),
        [late],
        "{report}"
    );
}

#[test]
fn a_successor_certifies_again_what_a_revoked_device_ca_had_certified_and_nothing_else() {
    let world = World::ready();
    world.requests("former", 1..=1);
    world.issue("former").ok();
    let asked = world.site("rotate").ok();
    world.site("media export $D/media").ok();
    let fingerprint = asked.text("enrolment_fingerprint");
    let request = "$D/media/mintmark/enrol-berlin_v1.cose";
    let rotate = format!("site rotate --request {request} --fingerprint {fingerprint}");
    order(&world, &rotate, "rotate");
    world.carry_out("berlin").exits_done();
    world.requests("newest", 2..=2);
    world.issue("newest").ok();
    world.carry_home("berlin").exits_done();
    succeed(&world);
    order(
        &world,
        "site revoke berlin/v1 --device-ca 1 --reason stolen",
        "revoke",
    );

    world.write(
        "policies/again.toml",
        POLICY.replace("\"th200\"", "\"again\""),
    );
    let draft = "entitlement draft --site berlin --vault v2 --policy $D/policies/again.toml";
    let drafted = world
        .hq(&format!("{draft} --output $D/officers/again.draft"))
        .ok();
    world.approve("$D/officers/again.draft");
    let export = format!("entitlement export {}", drafted.text("id"));
    world.hq(&export).ok();
    world.hq("media export $D/media").ok();
    world.site("--home $D/second media import $D/media").ok();
    fs::create_dir(world.path("out/second")).unwrap();
    let certify = |name: &str| {
        let issue = format!("--home $D/second issue --product TH-200 --csr $D/csr/{name}");
        world.site(&format!("{issue} --output $D/out/second")).ok();
        world.site("--home $D/second media export $D/media").ok();
        world.hq("media import $D/media").run()
    };
    certify("former").exits_done();
    let report = world.reconcile_run().exits_done().json();
    assert!(findings(&report, "DUPLICATE-KEY").is_empty(), "{report}");
    let _ = certify("newest").exits(1);
    let report = world.reconcile_run().exits(1).json();
    let found = findings(&report, "DUPLICATE-KEY");
    assert_eq!(found, [("critical".to_owned(), None, 2)], "{report}");
    let show = world.hq("device show TH200-00000002");
    let _ = show.exits(1);

    // Once the other one is revoked too, that is what it was.
    order(
        &world,
        "site revoke berlin/v1 --reason stolen",
        "revoke-newest",
    );
    let report = world.reconcile_run().exits_done().json();
    let found = findings(&report, "DUPLICATE-KEY");
    assert!(!found.is_empty(), "{report}");
    assert!(
        found.iter().all(|(severity, ..)| severity == "note"),
        "{report}"
    );
    assert_eq!(show.ok().json()["status"], "good");
}

#[test]
fn one_device_of_a_replaced_vault_is_revoked_though_nobody_is_left_to_tell() {
    let world = World::ready();
    world.requests("made", 1..=2);
    world.issue("made").ok();
    world.carry_home("berlin").exits_done();
    succeed(&world);
    let revoke = "device revoke TH200-00000001 --reason stolen";
    let sent = order(&world, revoke, "device");
    assert_eq!(
        (&sent["state"], &sent["dispatch_sequence"]),
        (&json!("sent"), &Value::Null),
        "{sent}"
    );
    let shown = world.hq("device show TH200-00000001").exits(1).json();
    assert_eq!(shown["status"], "revoked", "{shown}");
    let exported = world.hq("status export --output $D/status").ok().json();
    assert_eq!(
        (&exported["states"]["revoked"], &exported["states"]["good"]),
        (&json!(1), &json!(1))
    );
    // What ends at the vault itself still needs one that serves.
    world
        .hq("site disable berlin/v1 --reason stolen --output $D/officers/disable.draft")
        .fails(2, "VAULT-SUCCEEDED");
}
