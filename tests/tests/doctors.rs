//! `hq doctor` and `site doctor` look at everything around a home that can be wrong, and change nothing.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use mintmark_tests::{Run, Stores, World, stores};
use serde_json::Value;

fn mode(path: &Path, mode: u32) {
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
}

/// What it found under a name, which has to be there once.
#[track_caller]
fn check(run: &Run, name: &str) -> Value {
    let json = run.json();
    let checks = json["checks"].as_array().unwrap().iter();
    let found: Vec<_> = checks.filter(|check| check["check"] == name).collect();
    assert_eq!(found.len(), 1, "{name}\n{run}");
    found[0].clone()
}

/// The outcome and the code of what must be wrong, and how the command must end. Each says what to do.
#[track_caller]
fn expect(run: &Run, exit: i32, name: &str, outcome: &str, code: &str) {
    let check = check(run, name);
    assert_eq!(run.exit, exit, "{run}");
    assert_eq!(
        (&check["outcome"], &check["code"]),
        (&outcome.into(), &code.into()),
        "{run}"
    );
    for field in ["message", "hint"] {
        assert!(
            !check[field].as_str().unwrap_or_default().is_empty(),
            "{check:#}"
        );
    }
}

#[test]
fn headquarters_is_tried_as_a_whole_and_nothing_lasting_is_made() {
    let world = World::ready_in(Stores::Tokens);
    let objects = || -> Vec<_> {
        let list = |name| stores::pkcs11_tool(world.folder(), name, &["--list-objects"]).stdout;
        ["hq", "root"].map(list).into()
    };
    let before = objects();
    let run = world.hq("doctor --media $D/media").ok();
    for name in [
        "process",
        "media",
        "home",
        "rights",
        "free space",
        "disk sync",
        "registry",
        "trust",
        "clock",
        "module",
        "token",
        "pin",
        "session limit",
        "key store",
        "login",
        "random",
        "sessions",
        "sign",
        "agree",
        "unwrap",
        "hmac",
        "cmac",
        "data",
        "labels",
        "root: token",
        "own key root",
        "own key dispatch",
        "own key report",
        "own key audit",
        "own key serial-master",
        "own key keyset-master",
    ] {
        assert_ne!(check(&run, name)["outcome"], "bad", "{run}");
    }
    assert_eq!(objects(), before);
    assert!(!world.path("media/mintmark-doctor.part").exists());
    // Read by a person: 80 columns, but for a word that has more by itself.
    for tool in [world.hq("doctor"), world.site("doctor")] {
        let text = tool.text().ok().stdout;
        for line in text.lines().filter(|line| line.chars().count() > 80) {
            assert!(
                line.split_whitespace().count() == 1
                    || line.split_whitespace().any(|word| word.len() > 40),
                "{line}"
            );
        }
        assert!(
            text.lines().last().unwrap().contains(" checks: 0 bad"),
            "{text}"
        );
    }
    // A root that is kept elsewhere is no fault.
    let (tokens, kept) = (world.path("softhsm2.conf"), world.path("kept.conf"));
    fs::rename(&tokens, &kept).unwrap();
    fs::create_dir(world.path("none")).unwrap();
    fs::write(
        &tokens,
        format!("directories.tokendir = {}\n", world.path("none").display()),
    )
    .unwrap();
    expect(
        &world.hq("doctor").run(),
        3,
        "token",
        "bad",
        "TOKEN-MISSING",
    );
    expect(
        &world.hq("doctor").run(),
        3,
        "root: token",
        "warning",
        "TOKEN-MISSING",
    );
    fs::rename(kept, tokens).unwrap();
}

#[test]
fn what_is_wrong_around_headquarters_is_named_with_what_to_do() {
    let world = World::ready();
    let doctor = || world.hq("doctor").run();
    // The home, a file in it, the file of a PIN, and the folder of keys.
    mode(&world.path("hq"), 0o750);
    expect(&doctor(), 3, "home", "bad", "HOME-EXPOSED");
    world.hq("site list").fails(3, "HOME-EXPOSED");
    mode(&world.path("hq"), 0o700);
    mode(&world.path("hq/registry.sqlite"), 0o644);
    expect(&doctor(), 0, "rights", "warning", "HOME-FILE-EXPOSED");
    mode(&world.path("hq/registry.sqlite"), 0o600);
    let pin = stores::pin_file(world.folder(), "hq");
    mode(&pin, 0o644);
    // As long as others do not pass a folder above it, they do not reach it.
    mode(world.folder(), 0o700);
    mode(pin.parent().unwrap(), 0o755);
    world.hq("status export --output $D/status-hidden").ok();
    mode(world.folder(), 0o711);
    expect(&doctor(), 3, "key store", "bad", "PIN-SOURCE-EXPOSED");
    let refused = world
        .hq("status export --output $D/status")
        .fails(3, "PIN-SOURCE-EXPOSED");
    assert!(
        refused
            .stderr
            .contains(&format!("chmod 600 {}", pin.display())),
        "{refused}"
    );
    mode(&pin, 0o600);
    mode(world.folder(), 0o700);
    mode(&world.path("keys/hq"), 0o755);
    expect(&doctor(), 3, "key store", "bad", "KEY-FOLDER-EXPOSED");
    mode(&world.path("keys/hq"), 0o700);
    // Another key in the place of one.
    let (hq, kept) = (world.path("keys/hq/report.pem"), world.path("kept.pem"));
    fs::rename(&hq, &kept).unwrap();
    expect(&doctor(), 3, "own key report", "bad", "KEY-MISSING");
    let other = fs::read_to_string(world.path("keys/hq/dispatch.pem")).unwrap();
    fs::write(&hq, other.replace("Label: dispatch", "Label: report")).unwrap();
    expect(&doctor(), 4, "own key report", "bad", "KEY-NOT-LISTED");
    fs::rename(kept, hq).unwrap();
    // A clock that stands before what was published, and a registry with a page that is none.
    let ago = world.hq("doctor").clock(-100 * 86_400).run();
    expect(&ago, 3, "clock", "bad", "CLOCK-IMPOSSIBLE");
    world.hq("doctor").ok();
    let registry = world.path("hq/registry.sqlite");
    let whole = fs::read(&registry).unwrap();
    let mut torn = whole.clone();
    let half = torn.len() / 2;
    torn[half..half + 8192].fill(0x5a);
    fs::write(&registry, torn).unwrap();
    let run = doctor();
    assert_eq!(run.exit, 4, "{run}");
    assert_eq!(check(&run, "registry")["outcome"], "bad", "{run}");
    fs::write(&registry, whole).unwrap();
    // A medium that is not there, or not to be written.
    let run = world.hq("doctor --media $D/absent").run();
    expect(&run, 3, "media", "bad", "FILE-MISSING");
}

#[test]
fn a_store_is_tried_without_a_home_by_either_tool() {
    let world = World::with_headquarters();
    let officer = world.hq("--home $D/none doctor --keys @alice").ok();
    for key in ["key officer-sign", "key officer-agree"] {
        assert_eq!(check(&officer, key)["outcome"], "ok", "{officer}");
    }
    assert!(!world.path("none").exists());
    // A label that no token can have, and one that is only cut.
    let module = stores::module().display().to_string();
    let long = "x".repeat(33);
    let uri = format!("pkcs11:token={long}?module-path={module}");
    for tool in [world.hq("doctor --keys"), world.site("doctor --keys")] {
        let run = tool.arg(&uri).fails(2, "URI-INVALID");
        assert!(run.stderr.contains("a token keeps 32 of it"), "{run}");
    }
    let nowhere = "pkcs11:token=vault?module-path=/nonexistent.so";
    let run = world.site("doctor --keys").arg(nowhere).run();
    expect(&run, 3, "module", "bad", "MODULE-MISSING");
}
