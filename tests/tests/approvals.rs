//! Nothing of weight happens without the officers that it needs, each once, each for what they may approve and for
//! exactly what they read.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

#[path = "approvals/by_stick.rs"]
mod by_stick;

use std::fs;

use mintmark_tests::clock::DAY;
use mintmark_tests::world::POLICY;
use mintmark_tests::{Stores, World, files};

/// An enrolled vault, and a drafted entitlement that nobody has approved: `$D/officers/berlin-th200.draft`.
fn drafted() -> (World, String) {
    let world = World::with_vault();
    let id = world.draft("berlin", POLICY);
    (world, id)
}

const DRAFT: &str = "$D/officers/berlin-th200.draft";

#[test]
fn below_the_threshold_nothing_is_granted_or_sealed() {
    let world = World::with_headquarters();
    let fingerprint = world.site_init("berlin").text("enrolment_fingerprint");
    world.site("media export $D/media").ok();
    let enrol = "site enrol --request $D/media/mintmark/enrol-berlin_v1.cose --output $D/officers/enrol.draft";
    let id = world
        .hq(&format!("{enrol} --fingerprint {fingerprint}"))
        .ok()
        .text("id");
    let grant = format!("site grant {id}");
    world.hq(&grant).fails(1, "THRESHOLD-NOT-MET");
    let approval = world.sign("$D/officers/enrol.draft", "alice");
    world.hq(&format!("approval import {approval}")).ok();
    world.hq(&grant).fails(1, "THRESHOLD-NOT-MET");
    // The same officer again is the same officer.
    world.hq(&format!("approval import {approval}")).ok();
    world
        .hq(&format!(
            "--home $D/officers/bob approval sign {approval} --officer bob --keys @bob --output $D/officers/enrol.bob"
        ))
        .fails(1, "DRAFT-UNSIGNED");
    fs::copy(
        world.path("officers/enrol.draft"),
        world.path("officers/again.draft"),
    )
    .unwrap();
    let again = world.sign("$D/officers/again.draft", "alice");
    world.hq(&format!("approval import {again}")).run();
    world.hq(&grant).fails(1, "THRESHOLD-NOT-MET");
    let approval = world.sign("$D/officers/enrol.draft", "bob");
    world.hq(&format!("approval import {approval}")).ok();
    world.hq(&grant).ok();
    world.carry_out("berlin").exits_done();

    let id = world.draft("berlin", POLICY);
    let export = format!("entitlement export {id}");
    world.hq(&export).fails(1, "THRESHOLD-NOT-MET");
    let approval = world.sign(DRAFT, "bob");
    world.hq(&format!("approval import {approval}")).ok();
    world.hq(&export).fails(1, "THRESHOLD-NOT-MET");
    world.carry_out("berlin").exits_done();
    assert_eq!(
        world.status("berlin")["accounts"].as_array().unwrap().len(),
        0
    );
    let approval = world.sign(DRAFT, "alice");
    world.hq(&format!("approval import {approval}")).ok();
    world.hq(&export).ok();
    world.carry_out("berlin").exits_done();
    assert_eq!(
        world.status("berlin")["accounts"].as_array().unwrap().len(),
        1
    );
}

#[test]
fn a_manifest_that_too_few_officers_approved_is_not_published() {
    let world = World::empty(Stores::Files);
    world.make_escrow_key();
    world
        .hq("init --name Acme --keys @hq --escrow-key $D/escrow.pem")
        .ok();
    world.hq("trust draft").fails(2, "OFFICERS-NONE");
    world
        .hq("trust publish --media $D/media")
        .fails(2, "TRUST-UNPUBLISHED");
    world.add_officer("alice", "");
    world.add_officer("bob", "");
    world
        .hq("trust draft --threshold mint=3")
        .fails(2, "TRUST-UNWORKABLE");
    let fingerprint = world
        .hq("trust draft --output $D/officers/trust.draft")
        .ok()
        .text("fingerprint");
    world
        .hq("trust publish --media $D/media")
        .fails(1, "THRESHOLD-NOT-MET");
    let sign = "approval sign $D/officers/trust.draft --officer alice --keys @alice";
    world
        .hq(&format!("{sign} --output $D/a"))
        .fails(2, "FINGERPRINT-REQUIRED");
    let wrong = fingerprint.replace(
        &fingerprint[..1],
        if fingerprint.starts_with('0') {
            "1"
        } else {
            "0"
        },
    );
    world
        .hq(&format!("{sign} --fingerprint {wrong} --output $D/a"))
        .fails(1, "FINGERPRINT-MISMATCH");
    assert!(!world.path("a").exists());
    world
        .hq(&format!("{sign} --fingerprint {fingerprint} --output $D/a"))
        .ok();
    world.hq("approval import $D/a").ok();
    world
        .hq("trust publish --media $D/media")
        .fails(1, "THRESHOLD-NOT-MET");
    assert!(!world.on_stick("trust-000001.cose").exists());
}

#[test]
fn an_officer_approves_only_what_their_role_allows() {
    let world = World::empty(Stores::Files);
    world.make_escrow_key();
    world
        .hq("init --name Acme --keys @hq --escrow-key $D/escrow.pem")
        .ok();
    world.add_officer("alice", "");
    world.add_officer("bob", "");
    world.add_officer("carol", "--role trust --role revoke");
    let fingerprint = world
        .hq("trust draft --output $D/officers/trust.draft")
        .ok()
        .text("fingerprint");
    for name in ["alice", "bob", "carol"] {
        world
            .hq(&format!(
                "approval sign $D/officers/trust.draft --officer {name} --keys @{name} --fingerprint {fingerprint} \
                 --output $D/officers/trust.{name}"
            ))
            .ok();
        world
            .hq(&format!("approval import $D/officers/trust.{name}"))
            .ok();
    }
    world.hq("trust publish --media $D/media").ok();
    for name in ["alice", "bob", "carol"] {
        world
            .hq(&format!(
                "--home $D/officers/{name} trust pin --trust $D/media/mintmark/trust-000001.cose --fingerprint {fingerprint}"
            ))
            .ok();
    }
    world.enrol("berlin");
    world.draft("berlin", POLICY);
    let sign = |officer: &str, keys: &str| {
        world.hq(&format!(
            "--home $D/officers/carol approval sign {DRAFT} --officer {officer} --keys @{keys} --output $D/x"
        ))
    };
    let refused = sign("carol", "carol").fails(1, "SIGNER-ROLE");
    // Her home's manifest may be from before she had it.
    let hint = refused.errors()[0]["hint"].to_string();
    assert!(hint.contains("media import STICK"), "{refused}");
    // Nor with somebody else's name, nor as somebody who is not listed.
    sign("alice", "carol").fails(1, "OFFICER-KEY-MISMATCH");
    sign("mallory", "carol").fails(2, "OFFICER-UNKNOWN");
    assert!(!world.path("x").exists());
}

#[test]
fn one_person_cannot_be_two_officers() {
    let world = World::with_headquarters();
    let request = "officer request --name carol --keys @alice --output $D/officers/carol.request";
    let fingerprint = world.hq(request).ok().text("fingerprint");
    let add = "officer add --request $D/officers/carol.request";
    world
        .hq(&format!("{add} --fingerprint {fingerprint}"))
        .fails(1, "OFFICER-KEY-TAKEN");
}

#[test]
fn a_draft_that_was_changed_is_another_draft() {
    let (world, _) = drafted();
    let draft = world.path("officers/berlin-th200.draft");
    let whole = fs::read(&draft).unwrap();
    // Whatever bit is changed: it is unreadable, or its commitment or its tag does not hold, or nobody drafted it.
    for sample in 0..16 {
        files::flip(&draft, whole.len() * 8 * sample / 16 + sample % 8);
        let run = world
            .hq(&format!(
                "--home $D/officers/alice approval sign {DRAFT} --officer alice --keys @alice --output $D/changed-{sample}"
            ))
            .run();
        if run.exit == 0 {
            let import = world
                .hq(&format!("approval import $D/changed-{sample}"))
                .run();
            assert_eq!(import.codes(), ["DRAFT-UNKNOWN"], "{import}");
        } else {
            assert_eq!(run.exit, 1, "{run}");
            assert!(!world.path(&format!("changed-{sample}")).exists());
        }
        fs::write(&draft, &whole).unwrap();
    }
    // An approval whose signature was changed is none.
    let approval = world.sign(DRAFT, "alice");
    let path = world.path("officers/berlin-th200.draft.alice");
    let signed = fs::read(&path).unwrap();
    for bit in [
        signed.len() * 8 - 1,
        signed.len() * 8 - 300,
        signed.len() * 4,
    ] {
        fs::write(&path, &signed).unwrap();
        files::flip(&path, bit);
        let run = world.hq(&format!("approval import {approval}")).run();
        assert!([1, 2].contains(&run.exit), "bit {bit}: {run}");
    }
    fs::write(&path, &signed).unwrap();
    world.hq(&format!("approval import {approval}")).ok();
    // The draft itself is no approval.
    world
        .hq(&format!("approval import {DRAFT}"))
        .fails(1, "APPROVAL-EMPTY");
}

#[test]
fn a_new_draft_takes_the_place_of_the_old_one_with_its_approvals() {
    let (world, _) = drafted();
    let old = world.sign(DRAFT, "alice");
    world.hq(&format!("approval import {old}")).ok();
    fs::rename(
        world.path("officers/berlin-th200.draft"),
        world.path("officers/old.draft"),
    )
    .unwrap();
    fs::rename(
        world.path("officers/berlin-th200.draft.alice"),
        world.path("officers/old.alice"),
    )
    .unwrap();
    let id = world.draft("berlin", &POLICY.replace("units = 1000", "units = 2000"));
    let late = world.sign("$D/officers/old.draft", "bob");
    world
        .hq(&format!("approval import {late}"))
        .fails(1, "DRAFT-SUPERSEDED");
    world
        .hq(&format!("entitlement export {id}"))
        .fails(1, "THRESHOLD-NOT-MET");
    world.approve(DRAFT);
    world.hq(&format!("entitlement export {id}")).ok();
    world.carry_out("berlin").exits_done();
    assert_eq!(world.status("berlin")["accounts"][0]["authorised"], 2000);
}

#[test]
fn a_draft_that_lay_about_for_too_long_is_approved_by_nobody() {
    let (world, id) = drafted();
    let early = world.sign(DRAFT, "alice");
    world.hq(&format!("approval import {early}")).ok();
    let unseen = world.sign(DRAFT, "bob");
    world.set_clock(31 * DAY);
    let sign =
        "approval sign $D/officers/berlin-th200.draft --officer bob --keys @bob --output $D/late";
    world
        .hq(&format!("--home $D/officers/bob {sign}"))
        .fails(1, "DRAFT-EXPIRED");
    world
        .hq(&format!("approval import {unseen}"))
        .fails(1, "DRAFT-EXPIRED");
    // More approvals would not help, and nobody is asked for them.
    world
        .hq(&format!("entitlement export {id}"))
        .fails(1, "DRAFT-EXPIRED");
    let listed = world.hq("approval list").text().ok().stdout;
    assert!(listed.contains("expired"), "{listed}");
    assert!(!listed.contains("more"), "{listed}");
    world.set_clock(0);
    world.hq(&format!("approval import {unseen}")).ok();
    world.set_clock(31 * DAY);
    // Approved in time, and sealed too late.
    world
        .hq(&format!("entitlement export {id}"))
        .fails(1, "DRAFT-EXPIRED");
}

#[test]
fn a_fingerprint_that_was_not_compared_well_is_noticed_wherever_one_is_asked_for() {
    let world = World::with_headquarters();
    let wrong = "0".repeat(64);
    world
        .hq(&format!("--home $D/pinned trust pin --trust $D/media/mintmark/trust-000001.cose --fingerprint {wrong}"))
        .fails(1, "FINGERPRINT-MISMATCH");
    assert!(!world.path("pinned").exists());

    world
        .hq("officer request --name carol --keys @carol --output $D/officers/carol.request")
        .ok();
    let officers = world.hq("officer list").ok().stdout;
    world
        .hq(&format!(
            "officer add --request $D/officers/carol.request --fingerprint {wrong}"
        ))
        .fails(1, "FINGERPRINT-MISMATCH");
    assert_eq!(world.hq("officer list").ok().stdout, officers);

    let init = "init --site-id berlin --keys @berlin --trust $D/media/mintmark/trust-000001.cose";
    world
        .site(&format!("{init} --fingerprint {wrong}"))
        .fails(1, "FINGERPRINT-MISMATCH");
    assert!(
        !world.path("berlin").exists() && !world.path("keys/berlin").exists(),
        "nothing is made for a wrong manifest"
    );

    world.site_init("berlin");
    world.site("media export $D/media").ok();
    let enrol = "site enrol --request $D/media/mintmark/enrol-berlin_v1.cose";
    world
        .hq(&format!("{enrol} --fingerprint {wrong}"))
        .fails(1, "FINGERPRINT-MISMATCH");
    for line in [
        format!("{enrol} --fingerprint xyz"),
        format!(
            "--home $D/pinned trust pin --trust $D/media/mintmark/trust-000001.cose --fingerprint {}",
            &wrong[1..]
        ),
        format!("officer add --request $D/officers/carol.request --fingerprint {wrong}0"),
    ] {
        world.hq(&line).fails(2, "USAGE");
    }
}

#[test]
fn a_vault_that_pinned_somebody_elses_manifest_is_not_let_in() {
    let ours = World::with_headquarters();
    let theirs = World::empty(Stores::Files);
    theirs.ceremony(&["eve"], "");
    let fingerprint = theirs.site_init("berlin").text("enrolment_fingerprint");
    theirs.site("media export $D/media").ok();
    fs::copy(
        theirs.on_stick("enrol-berlin_v1.cose"),
        ours.on_stick("enrol-berlin_v1.cose"),
    )
    .unwrap();
    let enrol = "site enrol --request $D/media/mintmark/enrol-berlin_v1.cose";
    ours.hq(&format!("{enrol} --fingerprint {fingerprint}"))
        .fails(1, "ENROLMENT-TRUST");
    // Nor does a vault of ours follow what another headquarters sends.
    ours.enrol("paris");
    let id = theirs
        .hq(&format!(
            "{enrol} --fingerprint {fingerprint} --output $D/officers/enrol.draft"
        ))
        .ok()
        .text("id");
    let approval = theirs.sign("$D/officers/enrol.draft", "eve");
    theirs.hq(&format!("approval import {approval}")).ok();
    theirs.hq(&format!("site grant {id}")).ok();
    theirs.hq("media export $D/media").ok();
    let status = ours.status("paris");
    files::copy(
        &theirs.path("media/mintmark/to-berlin_v1"),
        &ours.path("media/mintmark/to-paris_v1"),
    );
    fs::rename(
        ours.on_stick("to-paris_v1/dispatch-1-000001.cose"),
        ours.on_stick("to-paris_v1/dispatch-1-000002.cose"),
    )
    .unwrap();
    let run = ours.site("--home $D/paris media import $D/media").exits(1);
    assert_eq!(
        run.item("dispatch-1-000002.cose")["outcome"],
        "refused",
        "{run}"
    );
    assert_eq!(ours.status("paris"), status);
}

#[test]
fn an_officer_who_was_removed_no_longer_counts() {
    let world = World::with_vault();
    world.add_officer("carol", "");
    world
        .hq("officer remove bob")
        .fails(2, "CONFIRMATION-REQUIRED");
    world
        .hq("officer remove bob --confirm alice")
        .fails(3, "CONFIRMATION-MISMATCH");
    world.hq("officer remove bob --confirm bob").ok();
    let fingerprint = world
        .hq("trust draft --output $D/officers/next.draft")
        .ok()
        .text("fingerprint");
    world.approve("$D/officers/next.draft");
    // Carol is listed from now on; her approval of it counts by the new manifest and not by the old.
    world
        .hq(&format!(
            "approval sign $D/officers/next.draft --officer carol --keys @carol --fingerprint {fingerprint} \
             --output $D/officers/next.carol"
        ))
        .ok();
    world.hq("approval import $D/officers/next.carol").ok();
    world.hq("trust publish --media $D/media").ok();
    assert_eq!(world.hq("trust show").ok().json()["version"], 2);
    let id = world.draft("berlin", POLICY);
    let by_alice = {
        world
            .hq("--home $D/officers/alice media import $D/media")
            .ok();
        world.sign(DRAFT, "alice")
    };
    world.hq(&format!("approval import {by_alice}")).ok();
    // Bob's own home still pins the manifest that lists him.
    let by_bob = format!(
        "--home $D/officers/bob approval sign {DRAFT} --officer bob --keys @bob --output $D/officers/by-bob"
    );
    if world.hq(&by_bob).run().exit == 0 {
        assert_eq!(world.hq("approval import $D/officers/by-bob").run().exit, 1);
    }
    world
        .hq(&format!("entitlement export {id}"))
        .fails(1, "THRESHOLD-NOT-MET");
}
