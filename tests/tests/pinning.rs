//! The first manifest that a home or a vault ever sees is one that an officer signed who left with it: it is judged by
//! the manifest before it, which lies beside it on every stick, and which is kept with it.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::fs;
use std::path::PathBuf;

use mintmark_tests::world::POLICY;
use mintmark_tests::{Run, Stores, Tool, World};

const DRAFT: &str = "$D/officers/berlin-th200.draft";
const REMAINING: [&str; 2] = ["alice", "carol"];

/// A headquarters whose second manifest bears the signature of bob, who left with it.
fn left_by_bob() -> World {
    let world = World::empty(Stores::Files);
    world.ceremony(&["alice", "bob", "carol"], "");
    world.hq("officer remove bob --confirm bob").ok();
    world.next_trust("", &["alice", "bob", "carol"]);
    world
}

fn trust_file(version: u64) -> String {
    format!("trust-{version:06}.cose")
}

fn outcomes(run: &Run, versions: u64) -> Vec<String> {
    let outcome = |version| run.item(&trust_file(version))["outcome"].clone();
    (1..=versions)
        .map(|version| outcome(version).as_str().unwrap().to_owned())
        .collect()
}

/// A home and a vault that pin a version as it lies in a folder, and where they would be.
fn pinning(world: &World, folder: &str, version: u64) -> [(Tool, PathBuf); 2] {
    let shown = world.hq(&format!(
        "approval show $D/media/mintmark/{}",
        trust_file(version)
    ));
    let fingerprint = shown.ok().text("fingerprint");
    let trust = format!(
        "--trust $D/{folder}/{} --fingerprint {fingerprint}",
        trust_file(version)
    );
    [
        (
            world.hq(&format!("--home $D/dora trust pin {trust}")),
            world.path("dora"),
        ),
        (
            world.site(&format!(
                "--home $D/paris init --site-id paris --keys @paris {trust}"
            )),
            world.path("paris"),
        ),
    ]
}

/// Both refuse, the message names this file, and nothing is made.
#[track_caller]
fn refused(world: &World, (folder, version): (&str, u64), code: &str, file: &str) {
    for (tool, home) in pinning(world, folder, version) {
        let run = tool.fails(1, code);
        let error = &run.errors()[0];
        assert!(error["message"].as_str().unwrap().contains(file), "{run}");
        let hint = error["hint"].as_str().unwrap();
        assert!(hint.contains("on every stick of headquarters"), "{run}");
        assert!(!home.exists(), "{run}");
    }
}

#[test]
fn an_officer_and_a_vault_begin_with_it_and_go_on() {
    let world = left_by_bob();
    fs::remove_dir_all(world.path("officers/carol")).unwrap();
    world.pin_version("carol", 2);
    let carol = "--home $D/officers/carol";
    let shown = world.hq(&format!("{carol} trust show")).ok().json();
    assert_eq!(shown["version"], 2);
    assert_eq!(
        shown["approvers"],
        serde_json::json!(["alice", "bob", "carol"])
    );
    let import = format!("{carol} media import $D/media");
    assert_eq!(outcomes(&world.hq(&import).ok(), 2), ["already", "already"]);

    world.site_init("berlin");
    world.let_in("berlin", &REMAINING);
    let known = world.carry_out("berlin").exits_done();
    assert_eq!(outcomes(&known, 2), ["already", "already"]);
    let status = world.status("berlin");
    assert_eq!(
        (&status["trust_version"], &status["enrolled"]),
        (&2.into(), &true.into())
    );

    // Carol signs the third in the home that began with the second.
    world.next_trust("", &REMAINING);
    let known = world.hq(&import).ok();
    assert_eq!(outcomes(&known, 3), ["already"; 3]);
    let carried = world.carry_out("berlin").exits_done();
    assert_eq!(outcomes(&carried, 3), ["already", "already", "imported"]);
    let known = world.carry_out("berlin").exits_done();
    assert_eq!(outcomes(&known, 3), ["already"; 3]);
    assert_eq!(world.status("berlin")["trust_version"], 3);

    let id = world.draft("berlin", POLICY);
    for officer in REMAINING {
        let approval = world.sign(DRAFT, officer);
        world.hq(&format!("approval import {approval}")).ok();
    }
    world.hq(&format!("entitlement export {id}")).ok();
    world.carry_out("berlin").exits_done();
    world.requests("line", 1..=2);
    world.issue("line").ok();
    world.carry_home("berlin").exits_done();
    assert_eq!(world.reconcile()["balanced"], true);
    assert_eq!(world.hq("trust show").ok().json()["version"], 3);
}

#[test]
fn without_the_one_before_beside_it_nothing_is_made() {
    let world = left_by_bob();
    let on_stick = |version| fs::read(world.on_stick(&trust_file(version))).unwrap();
    world.write("alone/trust-000002.cose", on_stick(2));
    refused(&world, ("alone", 2), "SIGNER-UNKNOWN", "trust-000001.cose");
    // What is before is looked at one step further: what would be kept needs it.
    world.next_trust("", &REMAINING);
    world.write("two/trust-000002.cose", on_stick(2));
    world.write("two/trust-000003.cose", on_stick(3));
    refused(&world, ("two", 3), "SIGNER-UNKNOWN", "trust-000001.cose");
    // The third needs nobody who left.
    world.write("three/trust-000003.cose", on_stick(3));
    for (tool, home) in pinning(&world, "three", 3) {
        tool.ok();
        assert!(home.exists());
    }
}

#[test]
fn with_anything_else_beside_it_nothing_is_made() {
    let world = left_by_bob();
    world.next_trust("", &REMAINING);
    let others = World::with_headquarters();
    let other = fs::read(others.on_stick("trust-000001.cose")).unwrap();
    let first = fs::read(world.on_stick("trust-000001.cose")).unwrap();
    let second = fs::read(world.on_stick("trust-000002.cose")).unwrap();
    let third = fs::read(world.on_stick("trust-000003.cose")).unwrap();
    let beside = |name: &str, second: &[u8], first: &[u8]| {
        world.write(&format!("{name}/trust-000001.cose"), first);
        world.write(&format!("{name}/trust-000002.cose"), second);
        world.write(&format!("{name}/trust-000003.cose"), &third);
    };
    let mut damaged = first.clone();
    *damaged.last_mut().unwrap() ^= 1;
    let name = "trust-000001.cose";
    for (at, (bytes, code)) in [
        (b"none".as_slice(), "MESSAGE-ENCODING"),
        (&other, "FINGERPRINT-MISMATCH"),
        (&second, "FINGERPRINT-MISMATCH"),
        (&damaged, "SIGNATURE-INVALID"),
    ]
    .into_iter()
    .enumerate()
    {
        let folder = format!("folder-{at}");
        beside(&folder, &second, bytes);
        refused(&world, (&folder, 2), code, name);
    }
    // The third needs nobody who left, and does not take what is not the second either.
    beside("third", &other, &first);
    refused(
        &world,
        ("third", 3),
        "FINGERPRINT-MISMATCH",
        "trust-000002.cose",
    );
    // As headquarters wrote them, all is well.
    for (tool, home) in pinning(&world, "media/mintmark", 3) {
        tool.ok();
        assert!(home.exists());
    }
}

#[test]
fn what_was_kept_is_missed_named_and_put_back() {
    let world = left_by_bob();
    for (tool, _) in pinning(&world, "media/mintmark", 2) {
        tool.ok();
    }
    let first = world.on_stick("trust-000001.cose");
    let whole = fs::read(&first).unwrap();
    let other = World::with_headquarters();
    let other = fs::read(other.on_stick("trust-000001.cose")).unwrap();
    let mut damaged = whole.clone();
    let middle = damaged.len() / 2;
    damaged[middle] ^= 1;
    let (dora, paris) = ("--home $D/dora", "--home $D/paris");
    let home = [
        world.hq(&format!("{dora} trust show")),
        world.hq(&format!("{dora} media import $D/media")),
    ];
    let vault = [
        world.site(&format!("{paris} status")),
        world.site(&format!("{paris} media import $D/media")),
    ];
    for (kept, tools) in [
        (world.path("dora/record/trust/trust-000001.cose"), home),
        (world.path("paris/trust/trust-000001.cose"), vault),
    ] {
        for bytes in [None, Some(&other), Some(&damaged)] {
            match bytes {
                None => fs::remove_file(&kept).unwrap(),
                Some(bytes) => fs::write(&kept, bytes).unwrap(),
            }
            for tool in &tools {
                let run = tool.fails(4, "HOME-CORRUPT");
                let error = &run.errors()[0];
                for said in ["message", "hint"] {
                    let said = error[said].as_str().unwrap();
                    assert!(said.contains("trust-000001.cose"), "{run}");
                }
                let hint = error["hint"].as_str().unwrap();
                assert!(hint.contains("from a stick of headquarters"), "{run}");
            }
        }
        fs::copy(&first, &kept).unwrap();
        for tool in &tools {
            tool.ok();
        }
    }
    // Headquarters never missed anything.
    assert_eq!(world.hq("trust show").ok().json()["version"], 2);
}
