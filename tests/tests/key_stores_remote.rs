//! A vault whose token is reached through a socket, and goes away while the vault works.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::fs;
use std::process::Stdio;
use std::thread;
use std::time::Duration;

use mintmark_tests::{Stores, TokenServer, World, through_server, world::POLICY};
use serde_json::json;

/// A vault that may issue, with its token at hand.
fn vault() -> World {
    let world = World::empty(Stores::Tokens);
    world.ceremony(&["alice", "bob"], "");
    world.enrol("berlin");
    world.grant("berlin", POLICY);
    world
}

/// From now on the vault's token is reached through its server.
fn reach_through_server(world: &World) {
    let at_hand = world.keys("berlin");
    let config = world.path("berlin/config.toml");
    let text = fs::read_to_string(&config).unwrap();
    assert!(text.contains(&at_hand), "{text}");
    let remote = through_server(world.folder(), &at_hand);
    fs::write(&config, text.replace(&at_hand, &remote)).unwrap();
}

#[test]
fn a_token_that_goes_away_amid_issuing_costs_no_more_than_what_was_leased() {
    let world = vault();
    reach_through_server(&world);
    world.requests("few", 901..=903);
    world.issue("few").fails(3, "TOKEN-MISSING");
    let mut server = Some(TokenServer::start(world.folder(), "berlin"));
    assert_eq!(world.issue("few").ok().lines().len(), 3);

    let certificates = || fs::read_dir(world.path("out")).map_or(0, Iterator::count);
    let mut interrupted = 0;
    for (round, first) in [(1, 1), (2, 201)] {
        let name = format!("many-{round}");
        world.requests(&name, first..first + 150);
        let before = certificates();
        let mut command = world.issue(&name).command();
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut issue = command.spawn().unwrap();
        while certificates() == before && issue.try_wait().unwrap().is_none() {
            thread::sleep(Duration::from_millis(1));
        }
        server.take().unwrap().kill();
        let run = world.issue(&name).ended(&issue.wait_with_output().unwrap());
        // 5: units are reserved without a certificate, or the anchor is behind; 3: nothing of it; 0: it was quicker.
        if run.exit != 0 {
            interrupted += 1;
            assert!(matches!(run.exit, 3 | 5), "{run}");
            assert_eq!(run.codes().last().unwrap(), "TOKEN-GONE", "{run}");
        }
        server = Some(TokenServer::start(world.folder(), "berlin"));
        assert_eq!(world.issue(&name).ok().lines().len(), 150);
    }
    assert!(interrupted > 0, "every run was quicker than the kill");
    let status = world.status("berlin");
    let account = &status["accounts"][0];
    // A process that cannot reach the token any more cannot give its lease back: that, and no more, is burned.
    let burned = status["outlook"][0]["burned"].as_u64().unwrap();
    assert_eq!(account["good"], json!(303), "{account}");
    assert_eq!(account["unresolved"], json!(burned), "{account}");
    assert!(burned <= 256 * interrupted, "{account}");
    assert_eq!(account["unspent"], json!(1000 - 303 - burned), "{account}");
    world.carry_home("berlin").exits_done();
    drop(server);
    let report = world.reconcile();
    assert_eq!(report["balanced"], true, "{report}");
}
