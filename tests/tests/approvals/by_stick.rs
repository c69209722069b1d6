//! Officers who share nothing but a stick: drafts and approvals travel on it, whoever has left since.

use std::fs;

use mintmark_tests::world::POLICY;
use mintmark_tests::{Stores, World};
use serde_json::Value;

/// Has both officers read a draft on the stick, each in their own home, and leave their approvals there; HQ takes them
/// in. Gives what each of them read.
fn by_stick(world: &World, id: &str) -> String {
    world.hq("media export $D/media").ok();
    let mut read = String::new();
    for officer in ["alice", "bob"] {
        let sign =
            format!("--home $D/officers/{officer} approval sign $D/media/mintmark/draft-{id}.cose");
        let by = format!("--officer {officer} --keys @{officer}");
        let to = format!("--output $D/media/mintmark/approval-{id}_{officer}.cose");
        let signed = world.hq(&format!("{sign} {by} {to}")).ok();
        read = signed.json()["words"].to_string();
        let imported = world.hq("media import $D/media").run();
        let item = imported.item(&format!("approval-{id}_{officer}.cose"));
        assert_eq!(item["outcome"], "imported", "{imported:?}");
    }
    read
}

#[test]
fn officers_share_nothing_but_a_stick_whatever_they_approve() {
    let world = World::with_vault();
    let drafted = |line: &str| world.hq(line).ok().text("id");
    let says = |read: &str, words: &[&str]| {
        for word in words {
            assert!(read.contains(word), "{word}: {read}");
        }
    };
    let id = world.draft("berlin", POLICY);
    let read = by_stick(&world, &id);
    says(
        &read,
        &["th200 (version 1)", "berlin/v1", "TH-200: 1000 units"],
    );
    world.hq(&format!("entitlement export {id}")).ok();
    world.carry_out("berlin").exits_done();
    world.requests("one", 1..=1);
    world.issue("one").ok();
    world.carry_home("berlin").exits_done();

    world.write(
        "policies/more.toml",
        POLICY.replace("units = 1000\n", "units = 1500\n"),
    );
    let id = drafted("entitlement amend --policy $D/policies/more.toml");
    let read = by_stick(&world, &id);
    says(
        &read,
        &[
            "th200 (version 2)",
            "1,500 instead of 1,000",
            "bears the approvals",
        ],
    );
    world.hq(&format!("entitlement export {id}")).ok();

    let id = drafted("site clock berlin/v1 --reason battery");
    says(
        &by_stick(&world, &id),
        &["newest time", "berlin/v1", "Reason: battery"],
    );
    world.hq(&format!("site grant {id}")).ok();

    let id = drafted("site reanchor berlin/v1 --reason token");
    says(
        &by_stick(&world, &id),
        &["anchor", "bundle 1", "Reason: token"],
    );
    world.hq(&format!("site grant {id}")).ok();

    let fingerprint = world.site("rotate").ok().text("enrolment_fingerprint");
    world.site("media export $D/media").ok();
    let request = "$D/media/mintmark/enrol-berlin_v1.cose";
    let id = drafted(&format!(
        "site rotate --request {request} --fingerprint {fingerprint}"
    ));
    says(
        &by_stick(&world, &id),
        &["device CA of generation 2", &fingerprint],
    );
    world.hq(&format!("site grant {id}")).ok();

    let id = drafted("entitlement revoke th200 --reason sold");
    says(
        &by_stick(&world, &id),
        &["Revoke entitlement th200", "for good"],
    );
    world.hq(&format!("entitlement export {id}")).ok();

    let revoke = "site revoke berlin/v1 --device-ca 1 --reason theft";
    let revoke = format!("{revoke} --output $D/officers/revoke.draft");
    let drafted_revocation = world.hq(&revoke).ok();
    let id = drafted_revocation.text("id");
    let shown = world.hq("approval show $D/officers/revoke.draft").ok();
    for run in [drafted_revocation, shown] {
        says(
            &run.json()["words"].to_string(),
            &[
                "device CA 1 of berlin/v1, the one in force until device CA 2",
                "it has certified 1 device.",
            ],
        );
    }
    says(
        &by_stick(&world, &id),
        &["REVOKE A DEVICE CA", "Reason: theft", "ask HQ"],
    );
    world.hq(&format!("site grant {id}")).ok();

    let id = drafted("trust draft --valid-days 99");
    says(
        &by_stick(&world, &id),
        &["Trust manifest 2", "Against trust manifest 1"],
    );
    world.hq("trust publish --media $D/media").ok();

    // All of it reaches the vault, and is followed.
    world.carry_out("berlin").exits_done();
    world.carry_home("berlin").exits_done();
    let shown = world.hq("site show berlin").ok().json();
    let vault = &shown["vaults"][0];
    let orders = vault["orders"].as_array().unwrap();
    assert_eq!(orders.len(), 4);
    assert!(
        orders.iter().all(|order| order["state"] == "followed"),
        "{vault}"
    );
    assert_eq!(vault["device_cas"][0]["state"], "revoked", "{vault}");
    assert_eq!(vault["device_cas"][1]["state"], "granted", "{vault}");
    let report = world.reconcile_run().exits_done().json();
    assert_eq!(report["accounts"][0]["authorised"], 1500, "{report}");
}

/// Has an officer of today leave an approval of a draft on the stick.
fn leave_on_stick(world: &World, id: &str, officer: &str) {
    let sign =
        format!("--home $D/officers/{officer} approval sign $D/media/mintmark/draft-{id}.cose");
    let by = format!("--officer {officer} --keys @{officer}");
    let to = format!("--output $D/media/mintmark/approval-{id}_{officer}.cose");
    world.hq(&format!("{sign} {by} {to}")).ok();
}

#[test]
fn approvals_left_on_a_stick_by_an_officer_who_left_since_trouble_nobody() {
    let world = World::empty(Stores::Files);
    world.ceremony(&["alice", "bob", "carol"], "");
    world.enrol("berlin");
    let other = POLICY.replace("id = \"th200\"", "id = \"th200-b\"");
    let sent = world.draft("berlin", POLICY);
    let redrafted = world.draft("berlin", &other);
    world.hq("media export $D/media").ok();
    for id in [&sent, &redrafted] {
        leave_on_stick(&world, id, "alice");
        leave_on_stick(&world, id, "bob");
    }
    let bobs = format!("approval-{redrafted}_bob.cose");
    fs::rename(world.on_stick(&bobs), world.path("late")).unwrap();
    world.hq("media import $D/media").ok();
    world.hq(&format!("entitlement export {sent}")).ok();
    // One approval of the other draft is held while it is open; both are of a superseded one from here on.
    world.hq("officer remove bob --confirm bob").ok();
    world.next_trust("", &["alice", "carol"]);
    let open = world.hq("media import $D/media").ok();
    let outcome = |run: &mintmark_tests::Run, id: &str, officer: &str| {
        let item = run.item(&format!("approval-{id}_{officer}.cose"));
        (item["outcome"].clone(), item["note"].clone())
    };
    for officer in ["alice", "bob"] {
        assert_eq!(
            outcome(&open, &sent, officer),
            ("already".into(), Value::Null)
        );
    }
    assert_eq!(outcome(&open, &redrafted, "alice").0, "already");
    // What is open is judged by today's officers.
    fs::copy(world.path("late"), world.on_stick(&bobs)).unwrap();
    let judged = world.hq("media import $D/media").exits(1);
    assert_eq!(judged.item(&bobs)["code"], "SIGNER-UNKNOWN", "{judged}");

    fs::remove_file(world.path("officers/berlin-th200-b.draft")).unwrap();
    assert_eq!(world.draft("berlin", &other), redrafted);
    let superseded = world.hq("media import $D/media").ok();
    for officer in ["alice", "bob"] {
        let already = ("already".into(), "for a superseded draft".into());
        assert_eq!(outcome(&superseded, &redrafted, officer), already);
        assert_eq!(outcome(&superseded, &sent, officer).0, "already");
    }
    world.hq("approval import $D/media").ok();
    let listed = world.hq("approval list").ok().json();
    let drafts = listed["drafts"].as_array().unwrap();
    let open = drafts
        .iter()
        .find(|draft| draft["state"] == "open")
        .unwrap();
    assert_eq!(open["approvers"], Value::Array(Vec::new()), "{open}");
    // Of the draft that took its place, an approval has another name, and HQ takes it.
    world.hq("media export $D/media").ok();
    let sign = format!("approval sign $D/media/mintmark/draft-{redrafted}.cose");
    let sign = |name: &str| {
        let by = "--officer alice --keys @alice --output $D/media/mintmark";
        world.hq(&format!("--home $D/officers/alice {sign} {by}/{name}"))
    };
    let taken = sign(&format!("approval-{redrafted}_alice.cose")).fails(3, "FILE-EXISTS");
    let other = format!("approval-{redrafted}_alice-2.cose");
    let hint = taken.errors()[0]["hint"].to_string();
    assert!(hint.contains(&other), "{taken}");
    sign(&other).ok();
    let imported = world.hq("media import $D/media").ok();
    assert_eq!(imported.item(&other)["outcome"], "imported");
    // Whoever gives nothing but that one is told.
    world
        .hq("approval import $D/late")
        .fails(1, "DRAFT-SUPERSEDED");
}
