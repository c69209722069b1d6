//! The attacks of `fixtures/attacks` for which headquarters must have a past: a real one, whose vault's keys the attacker
//! has.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::fs;
use std::path::PathBuf;

use mintmark_protocol::bundle::Bundle;
use mintmark_protocol::identifier::VaultName;
use mintmark_tests::clock::DAY;
use mintmark_tests::shape::column;
use mintmark_tests::{Run, World, files};
use p256::ecdsa::Signature;
use serde_json::Value;

/// A vault that has made three devices and reported them; headquarters holds the report.
fn reported() -> World {
    let world = World::ready();
    world.requests("some", 1..=3);
    world.issue("some").ok();
    world.carry_home("berlin").exits_done();
    world
}

fn newest_bundle(world: &World) -> PathBuf {
    let mut found = files::below(&world.on_stick("to-hq"));
    found.retain(|path| path.extension().is_some_and(|end| end == "cose"));
    found.pop().unwrap()
}

/// What an attack may not change at headquarters: what it holds, and what it counts.
fn held(world: &World) -> (Value, Value) {
    let bundles = world.hq("audit list").ok().json();
    (bundles, world.reconcile()["accounts"].clone())
}

#[track_caller]
fn import(world: &World, exit: i32, name: &str, expected: (&str, &str)) -> Run {
    let before = held(world);
    let run = world.hq("media import $D/media").exits(exit);
    let item = run.item(name);
    let found = (
        item["outcome"].as_str().unwrap(),
        item["code"].as_str().unwrap_or_default(),
    );
    assert_eq!(found, expected, "{run}");
    assert_eq!(held(world), before, "{run}");
    run
}

#[test]
fn a_rolled_back_vault_is_found_out_at_headquarters() {
    let world = World::ready();
    // The token goes back with it: else the vault itself would stop.
    for name in ["berlin", "keys/berlin"] {
        files::copy(&world.path(name), &world.path("before").join(name));
    }
    world.requests("some", 1..=3);
    world.issue("some").ok();
    world.carry_home("berlin").exits_done();
    // The home from before, on a stick of its own: it knows nothing of the report, and makes other devices.
    for name in ["berlin", "keys/berlin"] {
        fs::remove_dir_all(world.path(name)).unwrap();
        files::copy(&world.path("before").join(name), &world.path(name));
    }
    fs::remove_dir_all(world.on_stick("to-hq")).unwrap();
    world.requests("other", 4..=6);
    world.issue("other").run();
    world.site("media export $D/media").ok();
    import(&world, 4, "000001.cose", ("refused", "BUNDLE-FORK"));
    assert_eq!(world.reconcile()["findings"][0]["code"], "FORK");
}

#[test]
fn a_bundle_that_is_brought_again_changes_nothing() {
    let world = reported();
    for _ in 0..2 {
        import(&world, 0, "000001.cose", ("already", ""));
    }
}

/// A bundle that the vault's own key signs, made of its newest.
fn forged(world: &World, change: impl FnOnce(&mut Bundle)) -> Vec<u8> {
    let uri = world.keys("berlin").parse().unwrap();
    let keys = mintmark_keys::open(&uri, &|_| unreachable!("the PIN is in a file")).unwrap();
    let signer = keys.signer("vault-sign").unwrap();
    let vault = VaultName {
        site: "berlin".parse().unwrap(),
        vault: "v1".parse().unwrap(),
    };
    let bytes = fs::read(newest_bundle(world)).unwrap();
    let opened = Bundle::open(&bytes, &vault, signer.public_key()).unwrap();
    let (fingerprint, mut bundle) = (opened.fingerprint(), opened.into_content());
    bundle.previous = Some(fingerprint);
    bundle.sequence += 1;
    bundle.first = bundle.checkpoint.size;
    bundle.segments = Vec::new();
    change(&mut bundle);
    let sign = |message: &[u8]| signer.sign(message).map_err(Into::into);
    bundle.seal(signer.public_key(), &sign).unwrap().0
}

/// Puts that bundle alone onto the stick.
fn bring(world: &World, bytes: &[u8], sequence: u64) {
    let stem = newest_bundle(world);
    let name = stem.file_name().unwrap().to_str().unwrap().to_owned();
    let name = name.replace("-000001.cose", &format!("-{sequence:06}.cose"));
    fs::remove_dir_all(world.on_stick("to-hq")).unwrap();
    world.write(&format!("media/mintmark/to-hq/{name}"), bytes);
}

#[test]
fn a_bundle_of_the_far_future_is_held() {
    let world = reported();
    let bytes = forged(&world, |bundle| bundle.sequence = 1 << 62);
    bring(&world, &bytes, 1 << 62);
    import(&world, 3, "427387904.cose", ("held", "BUNDLE-GAP"));
    // What is honest is still followed.
    fs::remove_dir_all(world.on_stick("to-hq")).unwrap();
    world.requests("more", 4..=5);
    world.issue("more").ok();
    world.carry_home("berlin").exits_done();
    assert_eq!(world.reconcile()["accounts"][0]["good"], 5);
}

#[test]
fn a_bundle_of_another_past_or_with_another_log_is_an_offence() {
    for (code, finding, change) in [
        (
            "BUNDLE-CHAIN",
            "BUNDLE-CHAIN",
            (|bundle: &mut Bundle| bundle.previous = Some(bundle.checkpoint.root))
                as fn(&mut Bundle),
        ),
        (
            // Two roots for one size.
            "BUNDLE-FORK",
            "FORK",
            |bundle: &mut Bundle| bundle.checkpoint.root = bundle.previous.unwrap(),
        ),
        (
            "DISPATCH-UNKNOWN",
            "DISPATCH-UNKNOWN",
            |bundle: &mut Bundle| bundle.dispatch_seen.as_mut().unwrap().sequence += 1,
        ),
    ] {
        let world = reported();
        let bytes = forged(&world, change);
        bring(&world, &bytes, 2);
        import(&world, 4, "000002.cose", ("refused", code));
        assert_eq!(world.reconcile()["findings"][0]["code"], finding);
    }
}

#[test]
fn a_vault_that_hears_nothing_stops() {
    let world = World::ready();
    world.requests("one", [1]);
    world.issue("one").ok();
    world.set_clock(15 * DAY);
    world.requests("two", [2]);
    let rows = world.issue("two").exits(1).lines();
    assert_eq!(column(&rows, "code"), ["CREDIT-DAYS-EXHAUSTED"]);
    // Nothing that the attacker lets through helps it, and what headquarters sends does.
    world.site("media import $D/media").ok();
    assert_eq!(
        column(&world.issue("two").exits(1).lines(), "code"),
        ["CREDIT-DAYS-EXHAUSTED"]
    );
    world.carry_home("berlin").exits_done();
    world.carry_out("berlin").exits_done();
    assert_eq!(
        column(&world.issue("two").ok().lines(), "outcome"),
        ["issued"]
    );
}

#[test]
fn a_bundle_under_the_other_signature_that_ecdsa_has_for_it_is_the_same_bundle() {
    let world = reported();
    let path = newest_bundle(&world);
    let mut bytes = fs::read(&path).unwrap();
    let at = bytes.len() - 64;
    let signature = Signature::from_slice(&bytes[at..]).unwrap();
    let (r, s) = signature.split_scalars();
    bytes[at..].copy_from_slice(&Signature::from_scalars(r, -s).unwrap().to_bytes());
    fs::write(&path, bytes).unwrap();
    import(&world, 0, "000001.cose", ("already", ""));
}

#[test]
fn a_bundle_with_one_bit_changed_is_refused_and_headquarters_stays_as_it_is() {
    let world = World::ready();
    world.requests("some", 1..=3);
    world.issue("some").ok();
    world.site("media export $D/media").ok();
    let path = newest_bundle(&world);
    let whole = fs::read(&path).unwrap();
    let before = held(&world);
    let names = || {
        files::contents(&world.path("hq/record"))
            .into_keys()
            .collect::<Vec<_>>()
    };
    let kept = names();
    let last = whole.len() - 70;
    let changed = (0..240)
        .step_by(7)
        .chain((240..last).step_by(97))
        .chain((last..whole.len()).step_by(9));
    for at in changed {
        let mut damaged = whole.clone();
        damaged[at] ^= 1 << (at % 8);
        fs::write(&path, damaged).unwrap();
        let run = world.hq("media import $D/media").run();
        assert!([1, 4].contains(&run.exit), "byte {at}: {run}");
        assert_eq!(
            run.item("000001.cose")["outcome"],
            "refused",
            "byte {at}: {run}"
        );
        assert_eq!(names(), kept, "byte {at}: {run}");
    }
    assert_eq!(held(&world), before);
    fs::write(&path, whole).unwrap();
    let run = world.hq("media import $D/media").ok();
    assert_eq!(run.item("000001.cose")["outcome"], "imported", "{run}");
    assert_eq!(world.reconcile()["accounts"][0]["good"], 3);
}
