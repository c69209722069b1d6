//! Two copies of one vault's home make two histories. Headquarters notices, keeps both, and hands out a file by which
//! anybody can see it who knows the fingerprint of one trust manifest and has nothing else.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::fs;

use mintmark_protocol::fork::ForkProof;
use mintmark_tests::shape::expect;
use mintmark_tests::{Run, World, files};
use serde_json::Value;

const CLONE: &str = "--home $D/clone";

/// A vault that has reported two units, and a copy of its home.
fn cloned() -> World {
    let world = World::ready();
    world.requests("two", 1..=2);
    world.issue("two").ok();
    world.carry_home("berlin").exits_done();
    world.carry_out("berlin").exits_done();
    // With its key files: a token that both use tells them apart before HQ does.
    world.clone_vault("clone");
    fs::create_dir(world.path("second")).unwrap();
    world
}

fn clone_issues(world: &World, name: &str, numbers: std::ops::RangeInclusive<u32>) {
    world.requests(name, numbers);
    world
        .site(&format!(
            "{CLONE} issue --product TH-200 --csr $D/csr/{name} --output $D/out"
        ))
        .ok();
}

fn original_issues(world: &World, name: &str, numbers: std::ops::RangeInclusive<u32>) {
    world.requests(name, numbers);
    world.issue(name).ok();
}

/// A world in which both copies have gone on, and HQ has what both say.
fn forked() -> World {
    let world = cloned();
    original_issues(&world, "a", 3..=3);
    clone_issues(&world, "b", 4..=4);
    world.carry_home("berlin").exits_done();
    world.site(&format!("{CLONE} media export $D/second")).ok();
    let run = world.hq("media import $D/second").exits(4);
    assert_eq!(run.item("000002.cose")["code"], "BUNDLE-FORK", "{run}");
    world
}

/// On a machine that has the file and no home: what `hq audit verify` says by this fingerprint.
#[track_caller]
fn elsewhere(world: &World, proof: &[u8], fingerprint: &str) -> Run {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("fork.proof");
    fs::write(&file, proof).unwrap();
    let line = format!(
        "audit verify {} --fingerprint {fingerprint}",
        file.display()
    );
    world
        .hq(&line)
        .env("HQ_HOME", folder.path().join("none").to_str().unwrap())
        .run()
}

fn export(world: &World, options: &str) -> (Value, Vec<u8>) {
    let run = world
        .hq(&format!("audit fork {options} --export $D/fork.proof"))
        .ok();
    (run.json(), fs::read(world.path("fork.proof")).unwrap())
}

#[test]
fn two_copies_of_a_home_make_a_fork_that_a_third_party_can_verify() {
    let world = forked();
    let report = world.reconcile();
    let finding = &report["findings"][0];
    assert_eq!(finding["code"], "FORK", "{report}");
    let listed = world.hq("audit fork").ok().json();
    let forks = listed["forks"].as_array().unwrap();
    assert_eq!(forks.len(), 1, "{listed}");
    expect(
        &forks[0],
        "site: text, vault: text, lineage: text, contradiction: text, bundles: list, text: text",
    );
    assert_eq!(forks[0]["contradiction"], "sequence");
    let shown = world.hq("audit show berlin 2").ok().json();
    let found = &shown["findings"];
    assert!(
        found
            .as_array()
            .unwrap()
            .iter()
            .any(|found| found["code"] == "FORK"),
        "{shown}"
    );

    let (said, proof) = export(&world, "--site berlin");
    let fingerprint = said["trust_fingerprint"].as_str().unwrap().to_owned();
    assert_eq!(fingerprint, world.trust_fingerprint());
    let run = elsewhere(&world, &proof, &fingerprint).exits_done();
    let verdict = run.json();
    assert_eq!(
        (verdict["verdict"].as_str(), verdict["vault"].as_str()),
        (Some("proven"), Some("v1")),
        "{run}"
    );
    assert_eq!(verdict["bundles"], forks[0]["bundles"]);
    // With the manifest itself, too, and with a home that has it.
    let trust = "--trust $D/media/mintmark/trust-000001.cose";
    world
        .hq(&format!(
            "audit verify $D/fork.proof {trust} --fingerprint {fingerprint}"
        ))
        .ok();
    world
        .hq("--home $D/officers/alice audit verify $D/fork.proof")
        .ok();
    // Another headquarters has not said so.
    let other = "00".repeat(32);
    let run = elsewhere(&world, &proof, &other).exits(1);
    assert_eq!(run.codes(), ["FINGERPRINT-MISMATCH"], "{run}");
}

#[test]
fn a_proof_with_one_changed_bit_is_refused_even_if_its_digest_is_made_anew() {
    let world = forked();
    let (said, proof) = export(&world, "");
    let fingerprint = said["trust_fingerprint"].as_str().unwrap().to_owned();
    for turn in 0..48 {
        let mut changed = proof.clone();
        let bit = turn * (changed.len() * 8 - 1) / 47;
        changed[bit / 8] ^= 1 << (bit % 8);
        let run = elsewhere(&world, &changed, &fingerprint);
        assert!([1, 2].contains(&run.exit), "bit {bit}: {run}");
    }
    let whole = ForkProof::from_cbor(&proof).unwrap();
    let refused = |what: &str, changed: &ForkProof| {
        let run = elsewhere(&world, &changed.to_cbor(), &fingerprint);
        assert_eq!(run.exit, 1, "{what}: {run}");
    };
    for turn in 0..8 {
        let flip = |bytes: &mut Vec<u8>| {
            let bit = turn * (bytes.len() * 8 - 1) / 7;
            bytes[bit / 8] ^= 1 << (bit % 8);
        };
        let mut changed = whole.clone();
        flip(&mut changed.bundles[0]);
        refused("first bundle", &changed);
        let mut changed = whole.clone();
        flip(&mut changed.bundles[1]);
        refused("second bundle", &changed);
        let mut changed = whole.clone();
        flip(&mut changed.identity_certificate);
        refused("identity", &changed);
        let mut changed = whole.clone();
        flip(&mut changed.trust[0]);
        refused("trust", &changed);
    }
}

#[test]
fn two_bundles_of_one_history_prove_nothing() {
    let world = forked();
    let (said, proof) = export(&world, "");
    let fingerprint = said["trust_fingerprint"].as_str().unwrap().to_owned();
    let whole = ForkProof::from_cbor(&proof).unwrap();
    let mut same = whole.clone();
    same.bundles[1] = same.bundles[0].clone();
    let unproven = |proof: &ForkProof| {
        let run = elsewhere(&world, &proof.to_cbor(), &fingerprint).exits(1);
        assert_eq!(run.codes(), ["FORK-UNPROVEN"], "{run}");
    };
    unproven(&same);
    let mut bundles = files::below(&world.on_stick("to-hq"));
    bundles.retain(|path| {
        path.extension()
            .is_some_and(|extension| extension == "cose")
    });
    let mut honest = whole;
    honest.bundles = [
        fs::read(&bundles[0]).unwrap(),
        fs::read(&bundles[1]).unwrap(),
    ];
    unproven(&honest);
}

#[test]
fn a_smaller_log_that_is_not_how_the_larger_one_began_is_a_fork_whatever_its_sequence() {
    let world = cloned();
    original_issues(&world, "a", 3..=30);
    world.carry_home("berlin").exits_done();
    for (at, name) in [(31, "second"), (33, "third"), (35, "fourth")] {
        clone_issues(&world, name, at..=at);
        fs::create_dir_all(world.path(name)).unwrap();
        world.site(&format!("{CLONE} media export $D/{name}")).ok();
        // Of the copy's bundles, only the newest comes to headquarters.
        let last = match name {
            "second" => "-000002.",
            "third" => "-000003.",
            _ => "-000004.",
        };
        for path in files::below(&world.path(name)) {
            if !path.to_str().unwrap().contains(last) {
                fs::remove_file(path).unwrap();
            }
        }
    }
    // Two places ahead of what headquarters holds, and smaller than that.
    let run = world.hq("media import $D/fourth").exits(4);
    assert_eq!(run.item("000004.cose")["code"], "BUNDLE-FORK", "{run}");
    let (said, proof) = export(&world, "");
    assert_eq!(said["contradiction"], "prefix", "{said}");
    let fingerprint = said["trust_fingerprint"].as_str().unwrap().to_owned();
    elsewhere(&world, &proof, &fingerprint).exits_done();
    let mut without = ForkProof::from_cbor(&proof).unwrap();
    without.consistency[0] = without.consistency[1];
    let run = elsewhere(&world, &without.to_cbor(), &fingerprint).exits(1);
    assert_eq!(run.codes(), ["FORK-UNPROVEN"], "{run}");
    // The next one by its number, after another one than headquarters holds.
    let run = world.hq("media import $D/third").exits(4);
    assert_eq!(run.item("000003.cose")["code"], "BUNDLE-CHAIN", "{run}");
    world
        .hq("audit fork --export $D/any.proof")
        .fails(2, "FORK-AMBIGUOUS");
    let listed = world.hq("audit fork").ok().json();
    let forks = listed["forks"].as_array().unwrap();
    assert_eq!(forks.len(), 2, "{listed}");
    let chain = forks
        .iter()
        .find(|fork| fork["contradiction"] == "chain")
        .unwrap();
    let bundle = chain["bundles"][1]["fingerprint"].as_str().unwrap();
    fs::remove_file(world.path("fork.proof")).unwrap();
    let (said, proof) = export(&world, &format!("--bundle {bundle}"));
    assert_eq!(said["contradiction"], "chain", "{said}");
    elsewhere(&world, &proof, &fingerprint).exits_done();
}
