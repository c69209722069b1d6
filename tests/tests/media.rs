//! Media on their way to a vault are hostile: damaged, swapped, replayed, renamed, too large, too late, or full.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::fs::{self, File};
use std::os::unix::fs::symlink;

use mintmark_tests::clock::DAY;
use mintmark_tests::shape::column;
use mintmark_tests::world::POLICY;
use mintmark_tests::{Run, World, files};
use serde_json::Value;

const GRANT: &str = "to-berlin_v1/dispatch-1-000001.cose";
const ENTITLEMENT: &str = "to-berlin_v1/dispatch-1-000002.cose";
const SECOND: &str = "to-berlin_v1/dispatch-1-000003.cose";
/// The enrolment grant is on record; an entitlement and a second one wait on the stick.
const POLICY_TWO: &str = "th200-second";

/// An enrolled vault, and on the stick two entitlements that it has not seen.
fn owed() -> World {
    let world = World::with_vault();
    world.mint("berlin", POLICY);
    world.mint(
        "berlin",
        &POLICY.replace("id = \"th200\"", &format!("id = \"{POLICY_TWO}\"")),
    );
    world.hq("media export $D/media").ok();
    for name in [GRANT, ENTITLEMENT, SECOND] {
        assert!(world.on_stick(name).exists(), "{name}");
    }
    world
}

fn outcome(item: &Value) -> (&str, &str) {
    (
        item["outcome"].as_str().unwrap(),
        item["code"].as_str().unwrap_or_default(),
    )
}

/// An import that must change nothing: neither what is in force, nor the log, nor what was received.
#[track_caller]
fn import_unchanged(world: &World, exit: i32) -> Run {
    let before = (
        world.status("berlin"),
        files::contents(&world.path("berlin/received")),
    );
    let run = world.site("media import $D/media").exits(exit);
    let after = (
        world.status("berlin"),
        files::contents(&world.path("berlin/received")),
    );
    assert_eq!(before, after, "{run}");
    run
}

/// After whatever was tried, the stick as HQ wrote it is imported, and the vault makes devices.
#[track_caller]
fn expect_healthy(world: &World) {
    world.hq("media export $D/media").ok();
    let run = world.site("media import $D/media").ok();
    assert_eq!(outcome(&run.item(ENTITLEMENT)), ("imported", ""));
    assert_eq!(outcome(&run.item(SECOND)), ("imported", ""));
    world.requests("one", [1]);
    world.issue("one").ok();
}

#[test]
fn a_damaged_dispatch_is_refused_wherever_the_damage_is_and_nothing_changes() {
    let world = owed();
    let (path, whole) = (
        world.on_stick(ENTITLEMENT),
        fs::read(world.on_stick(ENTITLEMENT)).unwrap(),
    );
    fs::remove_file(world.on_stick(SECOND)).unwrap();
    let bits = whole.len() * 8;
    for sample in 0..48 {
        fs::write(&path, &whole).unwrap();
        files::flip(&path, bits * sample / 48 + sample % 8);
        let run = import_unchanged(&world, 1);
        let item = run.item(ENTITLEMENT);
        assert_eq!(
            item["outcome"],
            "refused",
            "bit {} of {bits}: {run}",
            bits * sample / 48
        );
        assert_eq!(run.codes(), [item["code"].as_str().unwrap()]);
    }
    for length in [0, 1, whole.len() / 2, whole.len() - 1] {
        fs::write(&path, &whole[..length]).unwrap();
        let run = import_unchanged(&world, 1);
        assert_eq!(
            run.item(ENTITLEMENT)["outcome"],
            "refused",
            "{length} bytes: {run}"
        );
    }
    fs::write(&path, [&whole[..], &[0]].concat()).unwrap();
    assert_eq!(
        import_unchanged(&world, 1).item(ENTITLEMENT)["outcome"],
        "refused"
    );
    fs::write(&path, whole).unwrap();
    expect_healthy(&world);
}

/// Flips bits all over the manifest on the stick, one after another, and looks at what comes of it each time.
fn damage_manifest(world: &World, import: &mintmark_tests::Tool) {
    let path = world.on_stick("trust-000001.cose");
    let whole = fs::read(&path).unwrap();
    for sample in 0..24 {
        fs::write(&path, &whole).unwrap();
        files::flip(&path, whole.len() * 8 * sample / 24 + sample % 8);
        let run = import.run();
        let item = run.item("trust-000001.cose");
        // What the officers signed may be whole, and a signature broken: then it is the manifest that is known.
        let found = (run.exit, outcome(&item).0);
        assert!([(1, "refused"), (0, "already")].contains(&found), "{run}");
        assert_ne!(outcome(&item).1, "TRUST-FORK", "{run}");
    }
    fs::write(&path, whole).unwrap();
    import.ok();
}

#[test]
fn a_damaged_trust_manifest_is_no_fork_to_a_vault() {
    let world = World::ready();
    let before = world.status("berlin");
    damage_manifest(&world, &world.site("media import $D/media"));
    assert_eq!(world.status("berlin"), before);
}

#[test]
fn a_damaged_trust_manifest_is_no_fork_to_an_officer() {
    let world = World::with_headquarters();
    damage_manifest(
        &world,
        &world.hq("--home $D/officers/alice media import $D/media"),
    );
}

#[test]
fn what_is_for_another_vault_is_refused_under_any_name() {
    let world = owed();
    world.enrol("paris");
    world.mint("paris", POLICY);
    world.hq("media export $D/media").ok();
    // Each vault passes over what is for the other.
    let run = world.site("--home $D/paris media import $D/media").ok();
    assert!(
        run.json()["items"]
            .as_array()
            .unwrap()
            .iter()
            .all(|item| { !item["file"].as_str().unwrap().contains("berlin") })
    );
    let paris = fs::read(world.on_stick("to-paris_v1/dispatch-1-000002.cose")).unwrap();
    fs::remove_file(world.on_stick(SECOND)).unwrap();
    fs::write(world.on_stick(ENTITLEMENT), paris).unwrap();
    let run = import_unchanged(&world, 1);
    assert_eq!(
        outcome(&run.item(ENTITLEMENT)),
        ("refused", "MESSAGE-ADDRESS")
    );
    // Its home may be called what it likes.
    fs::remove_file(world.on_stick(ENTITLEMENT)).unwrap();
    expect_healthy(&world);
}

#[test]
fn a_dispatch_is_what_it_says_inside_and_not_what_its_name_says() {
    let world = owed();
    // The one that was followed before, in the place of the next.
    fs::copy(world.on_stick(GRANT), world.on_stick(ENTITLEMENT)).unwrap();
    fs::remove_file(world.on_stick(SECOND)).unwrap();
    assert_eq!(
        outcome(&import_unchanged(&world, 0).item(ENTITLEMENT)),
        ("already", "")
    );
    // A draft, a manifest or a request is no dispatch.
    for (other, code) in [
        ("trust-000001.cose", "MESSAGE-SHAPE"),
        ("enrol-berlin_v1.cose", "MESSAGE-TYPE"),
    ] {
        fs::copy(world.on_stick(other), world.on_stick(ENTITLEMENT)).unwrap();
        let run = import_unchanged(&world, 1);
        assert_eq!(outcome(&run.item(ENTITLEMENT)), ("refused", code));
    }
    fs::remove_file(world.on_stick(ENTITLEMENT)).unwrap();
    expect_healthy(&world);
}

#[test]
fn a_dispatch_that_comes_before_its_predecessor_is_held_until_that_arrives() {
    let world = owed();
    let second = world.path("second");
    fs::rename(world.on_stick(ENTITLEMENT), &second).unwrap();
    let run = import_unchanged(&world, 3);
    assert_eq!(outcome(&run.item(SECOND)), ("held", "DISPATCH-GAP"));
    assert_eq!(run.codes(), ["DISPATCH-GAP"]);
    // The later one under the name of the earlier is still the later one.
    fs::rename(world.on_stick(SECOND), world.on_stick(ENTITLEMENT)).unwrap();
    assert_eq!(
        outcome(&import_unchanged(&world, 3).item(ENTITLEMENT)),
        ("held", "DISPATCH-GAP")
    );
    fs::rename(world.on_stick(ENTITLEMENT), world.on_stick(SECOND)).unwrap();
    fs::rename(&second, world.on_stick(ENTITLEMENT)).unwrap();
    expect_healthy(&world);
}

#[test]
fn two_histories_of_headquarters_stop_the_line() {
    let world = World::with_vault();
    files::copy(&world.path("hq"), &world.path("backup"));
    world.grant("berlin", POLICY);
    // HQ is put back to before that, and does not know that it sent anything.
    fs::remove_dir_all(world.path("hq")).unwrap();
    fs::rename(world.path("backup"), world.path("hq")).unwrap();
    for id in ["other", "third"] {
        world.mint(
            "berlin",
            &POLICY.replace("id = \"th200\"", &format!("id = \"{id}\"")),
        );
    }
    fs::create_dir(world.path("second-stick")).unwrap();
    world.hq("media export $D/second-stick").ok();
    fs::remove_dir_all(world.path("media")).unwrap();
    fs::rename(world.path("second-stick"), world.path("media")).unwrap();
    let run = import_unchanged(&world, 4);
    assert_eq!(
        outcome(&run.item(ENTITLEMENT)),
        ("refused", "DISPATCH-FORK")
    );
    assert_eq!(outcome(&run.item(SECOND)), ("refused", "DISPATCH-CHAIN"));
    fs::remove_file(world.on_stick(ENTITLEMENT)).unwrap();
    let run = import_unchanged(&world, 4);
    assert_eq!(outcome(&run.item(SECOND)), ("refused", "DISPATCH-CHAIN"));
    // What was in force before is in force.
    world.requests("one", [1]);
    world.issue("one").ok();
}

#[test]
fn what_is_too_large_is_refused_and_not_read() {
    let world = owed();
    fs::remove_file(world.on_stick(SECOND)).unwrap();
    for name in [ENTITLEMENT, "trust-000001.cose"] {
        let kept = fs::read(world.on_stick(name)).unwrap();
        // Larger than the machine's memory, and taking no room.
        File::create(world.on_stick(name))
            .unwrap()
            .set_len(1 << 40)
            .unwrap();
        let before = world.status("berlin");
        let run = world.site("media import $D/media").exits(1);
        assert_eq!(outcome(&run.item(name)), ("refused", "MESSAGE-OVERSIZE"));
        if name == ENTITLEMENT {
            assert_eq!(world.status("berlin"), before);
        }
        fs::write(world.on_stick(name), kept).unwrap();
        if name == ENTITLEMENT {
            fs::rename(world.on_stick(name), world.path("kept")).unwrap();
        }
    }
    fs::rename(world.path("kept"), world.on_stick(ENTITLEMENT)).unwrap();
    expect_healthy(&world);
}

#[test]
fn an_entitlement_that_lay_about_for_too_long_is_refused_and_the_chain_goes_on() {
    let world = owed();
    // Officers approved it for thirty days.
    world.set_clock(31 * DAY);
    let run = world.site("media import $D/media").exits(1);
    assert_eq!(
        outcome(&run.item(ENTITLEMENT)),
        ("refused", "ENTITLEMENT-EXPIRED")
    );
    assert_eq!(
        outcome(&run.item(SECOND)),
        ("refused", "ENTITLEMENT-EXPIRED")
    );
    let log = world.log("berlin");
    let refused = log
        .iter()
        .filter(|row| row["kind"] == "dispatch" && row["outcome"] == "refused");
    assert_eq!(column(refused, "code"), ["ENTITLEMENT-EXPIRED"; 2]);
    let status = world.status("berlin");
    assert_eq!(
        (
            status["accounts"].as_array().unwrap().len(),
            status["dispatch"]["sequence"].as_u64()
        ),
        (0, Some(3))
    );
    // HQ drafts another, and that one arrives.
    world.mint("berlin", &POLICY.replace("id = \"th200\"", "id = \"anew\""));
    let run = world.carry_out("berlin").exits_done();
    assert_eq!(
        outcome(&run.item("dispatch-1-000004.cose")),
        ("imported", "")
    );
}

#[test]
fn an_expired_trust_manifest_holds_everything_until_its_successor_arrives() {
    let world = World::empty(mintmark_tests::Stores::Files);
    world.ceremony(&["alice", "bob"], "--valid-days 10");
    world.enrol("berlin");
    world.mint("berlin", POLICY);
    world.hq("media export $D/media").ok();
    world.set_clock(11 * DAY);
    let run = import_unchanged(&world, 3);
    assert_eq!(outcome(&run.item(ENTITLEMENT)), ("held", "TRUST-EXPIRED"));
    // HQ cannot go on under it either.
    world.write(
        "policies/late.toml",
        POLICY.replace("id = \"th200\"", "id = \"late\""),
    );
    world
        .hq("entitlement draft --site berlin --policy $D/policies/late.toml")
        .fails(1, "TRUST-EXPIRED");
    // The expired one still vouches for its successor.
    publish_next(&world);
    world.hq("media export $D/media").ok();
    let run = world.site("media import $D/media").ok();
    assert_eq!(outcome(&run.item("trust-000002.cose")), ("imported", ""));
    assert_eq!(outcome(&run.item(ENTITLEMENT)), ("imported", ""));
    assert_eq!(world.status("berlin")["trust_version"], 2);
    let at_officer = world
        .hq("--home $D/officers/alice media import $D/media")
        .ok();
    assert_eq!(
        outcome(&at_officer.item("trust-000002.cose")),
        ("imported", "")
    );
}

/// Drafts, approves and publishes the next trust manifest; its draft is `$D/officers/next.draft`.
fn publish_next(world: &World) {
    world.hq("trust draft --output $D/officers/next.draft").ok();
    world.approve("$D/officers/next.draft");
    world.hq("trust publish --media $D/media").ok();
    for officer in ["alice", "bob"] {
        fs::remove_file(world.path(&format!("officers/next.draft.{officer}"))).unwrap();
    }
    fs::remove_file(world.path("officers/next.draft")).unwrap();
}

#[test]
fn a_manifest_without_the_one_before_it_is_held() {
    let world = World::ready();
    publish_next(&world);
    for officer in ["alice", "bob"] {
        world
            .hq(&format!(
                "--home $D/officers/{officer} media import $D/media"
            ))
            .ok();
    }
    publish_next(&world);
    let second = world.path("second");
    fs::rename(world.on_stick("trust-000002.cose"), &second).unwrap();
    let run = import_unchanged(&world, 3);
    assert_eq!(
        outcome(&run.item("trust-000003.cose")),
        ("held", "TRUST-MISSING")
    );
    fs::rename(second, world.on_stick("trust-000002.cose")).unwrap();
    let run = world.site("media import $D/media").ok();
    assert_eq!(outcome(&run.item("trust-000003.cose")), ("imported", ""));
    assert_eq!(world.status("berlin")["trust_version"], 3);
}

#[test]
fn a_stick_that_is_not_there_is_told_from_one_that_is_empty() {
    let world = World::ready();
    fs::create_dir(world.path("empty")).unwrap();
    world.write("a-file", "");
    fs::create_dir(world.path("linked")).unwrap();
    symlink("/etc", world.path("linked/mintmark")).unwrap();
    let before = (
        world.status("berlin"),
        files::contents(&world.path("hq/record")),
    );
    for (dir, code) in [
        ("absent", "MEDIA-MISSING"),
        ("a-file", ""),
        ("empty", "MEDIA-EMPTY"),
        ("linked", ""),
    ] {
        for tool in [World::site, World::hq] {
            for verb in ["import", "inspect"] {
                let run = tool(&world, &format!("media {verb} $D/{dir}")).exits(3);
                let codes = run.codes();
                assert!(
                    codes.len() == 1 && (code.is_empty() || codes[0] == code),
                    "{run}"
                );
                assert!(run.errors()[0]["hint"].is_string(), "{run}");
            }
        }
    }
    for dir in ["absent", "a-file", "linked"] {
        for tool in [World::site, World::hq] {
            let run = tool(&world, &format!("media export $D/{dir}")).exits(3);
            assert_eq!(run.codes().len(), 1, "{run}");
        }
    }
    assert!(
        !world.path("absent").exists(),
        "an export makes no mount point"
    );
    assert_eq!(
        (
            world.status("berlin"),
            files::contents(&world.path("hq/record"))
        ),
        before
    );
}

#[test]
fn inspecting_a_stick_says_what_is_on_it_and_changes_nothing() {
    let world = owed();
    world.write(
        "media/mintmark/to-berlin_v1/dispatch-1-000004.cose",
        "garbage",
    );
    let before = (
        files::contents(&world.path("media")),
        world.status("berlin"),
    );
    for tool in [World::site, World::hq] {
        let run = tool(&world, "media inspect $D/media").ok();
        assert_eq!(run.json()["schema"], "mintmark/media/1");
        assert_eq!(
            run.item("trust-000001.cose")["type"],
            "trust-manifest",
            "{run}"
        );
        assert_eq!(
            run.item(ENTITLEMENT)["fingerprint"].as_str().unwrap().len(),
            64
        );
        assert!(run.item("dispatch-1-000004.cose")["code"].is_string());
    }
    assert_eq!(
        (
            files::contents(&world.path("media")),
            world.status("berlin")
        ),
        before
    );
}

#[test]
fn a_rehearsed_import_or_export_changes_nothing() {
    let world = owed();
    let sticks = files::contents(&world.path("media"));
    let status = world.status("berlin");
    let run = world.site("media import $D/media --dry-run").ok();
    assert_eq!(outcome(&run.item(ENTITLEMENT)), ("imported", ""));
    assert_eq!(world.status("berlin"), status);
    assert_eq!(files::contents(&world.path("berlin/received")).len(), 1);
    expect_healthy(&world);
    world.site("media export $D/media --dry-run").ok();
    assert_eq!(files::contents(&world.path("media")), sticks);
    world
        .hq("media export $D/empty --dry-run")
        .fails(3, "MEDIA-MISSING");
    fs::create_dir(world.path("empty")).unwrap();
    world.hq("media export $D/empty --dry-run").ok();
    assert_eq!(files::below(&world.path("empty")).len(), 0);
}
