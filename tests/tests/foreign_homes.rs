//! A home is its owner's. Root looks at anybody's, and makes nothing there that its owner could not use.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::fs;
use std::io::{BufRead as _, BufReader};
use std::os::unix::fs::MetadataExt as _;
use std::process::{Command, Stdio};

use mintmark_tests::{Run, Tool, World, binaries, files, judge};

/// Somebody who is neither root nor the one who runs the tests.
const OTHER: u32 = 61_234;
const STRANGER: u32 = 61_235;

/// As somebody else; none where this user cannot become another one.
fn may_become_another() -> bool {
    if fs::metadata("/proc/self").unwrap().uid() != 0 {
        eprintln!("not run: only root can become another user");
        return false;
    }
    let tried = wrapped(&Command::new(binaries::path("site")), OTHER)
        .arg("--version")
        .output()
        .unwrap();
    if !tried.status.success() {
        eprintln!("not run: another user cannot reach the binaries");
    }
    tried.status.success()
}

fn wrapped(inner: &Command, user: u32) -> Command {
    let user = user.to_string();
    let mut outer = Command::new("setpriv");
    outer
        .args(["--reuid", &user, "--regid", &user, "--clear-groups"])
        .arg(inner.get_program())
        .args(inner.get_args())
        .stdin(Stdio::null());
    if let Some(folder) = inner.get_current_dir() {
        outer.current_dir(folder);
    }
    for (name, value) in inner.get_envs() {
        match value {
            Some(value) => outer.env(name, value),
            None => outer.env_remove(name),
        };
    }
    outer
}

/// Runs a command as somebody else.
fn run_as(user: u32, tool: &Tool) -> Run {
    tool.ended(&wrapped(&tool.command(), user).output().unwrap())
}

/// Gives everything of a world to somebody.
fn give(world: &World, user: u32) {
    let of = format!("{user}:{user}");
    judge::succeed(Command::new("chown").args(["-R", &of]).arg(world.folder()));
}

/// Everything in a home is its owner's.
#[track_caller]
fn expect_of(world: &World, home: &str, user: u32, after: &Run) {
    for path in files::below(&world.path(home)) {
        let found = fs::symlink_metadata(&path).unwrap();
        assert_eq!(found.uid(), user, "{}: {after}", path.display());
    }
}

#[test]
fn a_home_of_another_user_is_refused_and_root_only_looks() {
    if !may_become_another() {
        return;
    }
    let world = World::ready();
    world.requests("one", 1..=1);
    give(&world, OTHER);
    // What opens a registry leaves files beside it.
    for tool in [
        world.site("status"),
        world.site("audit verify"),
        world.site("recover --dry-run"),
        world.hq("site list"),
        world.hq("reconcile"),
        world.hq("--home $D/officers/alice trust show"),
    ] {
        let looked = tool.run();
        assert_eq!(looked.exit, 0, "{looked}");
        for home in ["hq", "berlin", "officers/alice"] {
            expect_of(&world, home, OTHER, &looked);
        }
    }
    for tool in [
        world.issue("one"),
        world.site("recover"),
        world.site("media export $D/media"),
        world.hq("media export $D/media"),
        world.hq("trust draft --output $D/draft"),
    ] {
        let refused = tool.fails(3, "HOME-FOREIGN");
        let hint = refused.errors()[0]["hint"].as_str().unwrap().to_owned();
        assert!(hint.contains(&format!("sudo -u '#{OTHER}' ")), "{refused}");
        for home in ["hq", "berlin"] {
            expect_of(&world, home, OTHER, &refused);
        }
    }
    // A home is refused for itself, wherever it stands.
    judge::succeed(Command::new("chmod").arg("o+x").arg(world.folder()));
    for (tool, name) in [
        (world.site("status"), "site"),
        (world.hq("site list"), "hq"),
    ] {
        let refused = run_as(STRANGER, &tool);
        assert_eq!(refused.codes(), ["HOME-FOREIGN"], "{refused}");
        assert_eq!(refused.exit, 3, "{refused}");
        let told = format!("`sudo -u '#{OTHER}' {name} ...`");
        assert!(refused.to_string().contains(&told), "{refused}");
    }
    // Its owner goes on.
    for tool in [
        world.issue("one"),
        world.site("media export $D/media"),
        world.hq("media import $D/media"),
    ] {
        let run = run_as(OTHER, &tool);
        assert_eq!(run.exit, 0, "{run}");
    }
    // One that was made with sudo by mistake says so.
    judge::succeed(
        Command::new("chown")
            .args(["-R", "0:0"])
            .arg(world.path("berlin")),
    );
    judge::succeed(Command::new("chmod").arg("o+x").arg(world.folder()));
    let refused = run_as(OTHER, &world.site("status"));
    assert_eq!(refused.codes(), ["HOME-FOREIGN"], "{refused}");
    assert!(refused.to_string().contains("sudo chown -R"), "{refused}");
}

#[test]
fn a_service_of_another_user_does_what_root_asks() {
    if !may_become_another() {
        return;
    }
    let world = World::ready();
    world.requests("one", 1..=1);
    give(&world, OTHER);
    let serve = world.site("serve --listen 127.0.0.1:0");
    let mut service = wrapped(&serve.command(), OTHER)
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let mut ready = String::new();
    BufReader::new(service.stdout.take().unwrap())
        .read_line(&mut ready)
        .unwrap();
    assert!(ready.contains("mintmark/serve/1"), "{ready}");
    let issued = world.issue("one").ok();
    assert_eq!(issued.lines()[0]["outcome"], "issued", "{issued}");
    expect_of(&world, "berlin", OTHER, &issued);
    expect_of(&world, "out", OTHER, &issued);
    judge::succeed(Command::new("kill").args(["-TERM", &service.id().to_string()]));
    assert!(service.wait().unwrap().success());
}
