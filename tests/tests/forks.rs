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
    // Without either it is said what would do.
    let run = world
        .hq("audit verify $D/fork.proof")
        .without("HQ_HOME")
        .fails(2, "HOME-UNSET");
    assert!(run.stderr.contains("--fingerprint HEX"), "{run}");
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
        flip(&mut changed.statements[0]);
        refused("first bundle", &changed);
        let mut changed = whole.clone();
        flip(&mut changed.statements[1]);
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
    same.statements[1] = same.statements[0].clone();
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
    honest.statements = [
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

/// Puts a home back from a copy that was made before two more units, and declares the restore. Gives the stick that says so.
fn declares(world: &World, home: &str, stick: &str, numbers: std::ops::RangeInclusive<u32>) {
    let copy = world.path(&format!("{home}-copy"));
    files::copy(&world.path(home), &copy);
    world.requests(stick, numbers);
    world
        .site(&format!(
            "--home $D/{home} issue --product TH-200 --csr $D/csr/{stick} --output $D/out"
        ))
        .ok();
    fs::remove_dir_all(world.path(home)).unwrap();
    files::copy(&copy, &world.path(home));
    let declare = "recover --declare-restore --confirm berlin/v1";
    world.site(&format!("--home $D/{home} {declare}")).ok();
    fs::create_dir_all(world.path(stick)).unwrap();
    world
        .site(&format!("--home $D/{home} media export $D/{stick}"))
        .ok();
}

#[track_caller]
fn proven(world: &World, said: &Value, proof: &[u8], contradiction: &str) {
    assert_eq!(said["contradiction"], contradiction, "{said}");
    let fingerprint = said["trust_fingerprint"].as_str().unwrap();
    let verdict = elsewhere(world, proof, fingerprint).exits_done().json();
    assert_eq!(verdict["verdict"], "proven", "{verdict}");
    assert_eq!(verdict["contradiction"], contradiction, "{verdict}");
    for part in ["bundles", "declarations", "opening"] {
        assert_eq!(verdict[part], said[part], "{part}");
    }
}

/// A vault whose home was put back, and whose lost history has turned up at headquarters.
fn history_turned_up() -> World {
    let world = World::ready();
    original_issues(&world, "two", 1..=2);
    world.carry_home("berlin").exits_done();
    world.carry_out("berlin").exits_done();
    world.clone_vault("clone");
    fs::create_dir(world.path("lost")).unwrap();
    // What the copy goes on with is what the vault itself loses.
    clone_issues(&world, "lost", 3..=4);
    world.site(&format!("{CLONE} media export $D/lost")).ok();
    declares(&world, "berlin", "declared", 5..=6);
    let run = world.hq("media import $D/declared").run();
    let item = run.item("restore-berlin_v1.cose");
    assert_eq!(item["outcome"], "imported", "{run}");
    let run = world.hq("media import $D/lost").exits(4);
    assert!(run.to_string().contains("BUNDLE-FORK"), "{run}");
    world
}

#[test]
fn lost_history_that_turns_up_is_proven_as_soon_as_the_vault_has_reported_from_where_its_log_went_on()
 {
    let world = history_turned_up();
    // One history is signed, and the other one only announced.
    let listed = world.hq("audit fork").ok().json();
    let forks = listed["forks"].as_array().unwrap();
    assert_eq!(forks.len(), 1, "{listed}");
    assert_eq!(forks[0]["code"], "FORK-ONE-SIDED", "{listed}");
    let kept = forks[0]["evidence"].as_array().unwrap();
    assert_eq!(kept.len(), 2, "{listed}");
    for path in kept {
        assert!(fs::metadata(path.as_str().unwrap()).unwrap().is_file());
    }
    let run = world.hq("audit fork --export $D/fork.proof").exits(1);
    assert_eq!(run.codes(), ["FORK-ONE-SIDED"], "{run}");
    for part in ["has signed no report", kept[0].as_str().unwrap()] {
        assert!(run.to_string().contains(part), "{part}: {run}");
    }
    assert!(!world.path("fork.proof").exists());

    world.hq("media export $D/media").ok();
    world.site("media import $D/media").ok();
    original_issues(&world, "after", 7..=7);
    world.carry_home("berlin");
    let (said, proof) = export(&world, "");
    proven(&world, &said, &proof, "restore");
    assert_eq!(said["bundles"].as_array().unwrap().len(), 1, "{said}");
    assert_eq!(said["declarations"].as_array().unwrap().len(), 1, "{said}");
    assert_eq!(said["opening"]["sequence"], 1, "{said}");
    // It takes all three.
    let fingerprint = said["trust_fingerprint"].as_str().unwrap().to_owned();
    let whole = ForkProof::from_cbor(&proof).unwrap();
    let unproven = |proof: &ForkProof| {
        let run = elsewhere(&world, &proof.to_cbor(), &fingerprint).exits(1);
        assert_eq!(run.codes(), ["FORK-UNPROVEN"], "{run}");
    };
    let mut changed = whole.clone();
    changed.opening = None;
    unproven(&changed);
    changed.opening = Some(whole.statements[1].clone());
    unproven(&changed);
    let mut changed = whole.clone();
    changed.statements[1] = changed.opening.clone().unwrap();
    unproven(&changed);
    for turn in 1..4 {
        let mut changed = whole.clone();
        let bytes = changed.opening.as_mut().unwrap();
        let at = bytes.len() * turn / 4;
        bytes[at] ^= 1;
        let run = elsewhere(&world, &changed.to_cbor(), &fingerprint);
        assert_eq!(run.exit, 1, "{at}: {run}");
    }
}

#[test]
fn a_declaration_of_another_log_than_headquarters_holds_is_proven_by_a_bundle() {
    let world = cloned();
    clone_issues(&world, "b", 4..=4);
    declares(&world, "clone", "declared", 5..=6);
    original_issues(&world, "a", 10..=40);
    world.carry_home("berlin").exits_done();
    let run = world.hq("media import $D/declared").exits(4);
    let item = run.item("restore-berlin_v1.cose");
    assert_eq!(item["code"], "RESTORE-FORK", "{run}");
    let (said, proof) = export(&world, "");
    proven(&world, &said, &proof, "prefix");
    assert_eq!(said["declarations"].as_array().unwrap().len(), 1, "{said}");
    assert_eq!(said["bundles"].as_array().unwrap().len(), 1, "{said}");
}

#[test]
fn two_declarations_about_one_history_are_a_proof_where_one_says_that_it_had_ended() {
    let world = cloned();
    declares(&world, "berlin", "declared", 3..=4);
    world.hq("media import $D/declared").run();
    world.hq("media export $D/media").ok();
    world.site("media import $D/media").ok();
    original_issues(&world, "after", 7..=7);
    world.carry_home("berlin");
    // The copy has made more of the history that had ended than headquarters has of the one that goes on.
    clone_issues(&world, "b", 10..=60);
    declares(&world, "clone", "again", 61..=62);
    let run = world.hq("media import $D/again").exits(4);
    let item = run.item("restore-berlin_v1.cose");
    assert_eq!(item["code"], "RESTORE-FORK", "{run}");
    let (said, proof) = export(&world, "");
    proven(&world, &said, &proof, "restore");
    assert_eq!(said["declarations"].as_array().unwrap().len(), 2, "{said}");
}
