//! `site request`: a station with a key in its token asks a vault's service for what its folder holds.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::collections::BTreeMap;
use std::fs;
use std::process::Stdio;
use std::thread::sleep;
use std::time::Duration;

use mintmark_tests::clock::{DAY, Machine};
use mintmark_tests::shape::column;
use mintmark_tests::world::POLICY;
use mintmark_tests::{Service, Stores, Tool, World, files, judge};
use serde_json::json;

/// Lets in a station with a key of its own, in a token or a key folder as the world has them: `$D/NAME.papers`.
fn station(world: &World, name: &str, options: &str) {
    let asked = world
        .site(&format!(
            "station request --name {name} --keys @{name} --output $D/{name}.csr"
        ))
        .ok();
    let fingerprint = asked.text("fingerprint");
    world
        .site(&format!(
            "station approve --request $D/{name}.csr --fingerprint {fingerprint} --output $D/{name}.papers {options}"
        ))
        .ok();
}

/// `site request` of a station for the requests in `$D/csr/FOLDER`, into `$D/made`.
fn ask(world: &World, service: &Service, name: &str, folder: &str, options: &str) -> Tool {
    let url = service.url("");
    world.site(&format!(
        "request --vault {url} --keys @{name} --product TH-200 --csr $D/csr/{folder} --output $D/made {options}"
    ))
}

fn made(world: &World) -> BTreeMap<String, Vec<u8>> {
    files::contents(&world.path("made"))
}

fn asks_and_gets(kind: Stores) {
    let world = World::ready_in(kind);
    station(&world, "line-1", "");
    world.requests("first", 0..40);
    let service = Service::start(&world, "");

    // The station knows the vault, and the vault the station, by what an operator carried.
    ask(&world, &service, "line-1", "first", "").fails(3, "STATION-PAPERS-MISSING");
    let papers = "--station $D/line-1.papers";
    let rows = ask(&world, &service, "line-1", "first", papers)
        .ok()
        .lines();
    assert_eq!(rows.len(), 40);
    assert!(
        column(&rows, "outcome")
            .iter()
            .all(|outcome| *outcome == "issued")
    );
    world.hq("ca export --output $D/ca").ok();
    let certificates: Vec<_> = rows
        .iter()
        .map(|row| row["certificate"].as_str().unwrap().to_owned())
        .collect();
    judge::verify(
        &world.path("ca/root.pem"),
        &world.path("ca/device-ca-berlin_v1.pem"),
        &certificates,
    );
    // A certificate with its chain: what `site issue` writes beside it, too.
    let before = made(&world);
    assert_eq!(before.len(), 80);
    let here = world.issue("first").ok().lines();
    assert!(
        column(&here, "outcome")
            .iter()
            .all(|outcome| *outcome == "existing")
    );
    assert_eq!(files::contents(&world.path("out")), before);

    // Asking twice is free, and the token knows by now who it is.
    let rows = ask(&world, &service, "line-1", "first", "").ok().lines();
    assert!(
        column(&rows, "outcome")
            .iter()
            .all(|outcome| *outcome == "existing")
    );
    assert_eq!(made(&world), before);

    // What the rules refuse is told for each, as at the vault.
    mintmark_tests::request::write(&world.path("csr/odd"), "XX-1");
    fs::write(world.path("csr/odd/none.csr"), "nothing").unwrap();
    let refused = ask(&world, &service, "line-1", "odd", "").exits(1);
    let mut codes: Vec<String> = refused
        .lines()
        .iter()
        .map(|row| row["code"].as_str().unwrap().to_owned())
        .collect();
    codes.sort();
    assert_eq!(codes, ["CSR-NOT-A-REQUEST", "DEVICE-ID-FORBIDDEN"]);

    world
        .site("station revoke line-1 --confirm line-1 --reason stolen")
        .ok();
    ask(&world, &service, "line-1", "first", "").fails(1, "STATION-REVOKED");
    assert_eq!(service.stop(), 0);

    // Who asked is in the log, and headquarters finds everything in order.
    let log = world.log("berlin");
    let asked: Vec<_> = log.iter().filter(|row| row["kind"] == "request").collect();
    let first = asked.iter().filter(|row| row["outcome"] == "issued");
    assert!(first.clone().all(|row| row["station"] == "line-1"));
    assert_eq!(first.count(), 40);
    world.carry_home("berlin").exits_done();
    let report = world.reconcile();
    assert_eq!(report["findings"], json!([]));
    assert_eq!(report["accounts"][0]["good"], 40);
}

#[test]
fn a_station_with_a_token_gets_what_it_asks_for() {
    asks_and_gets(Stores::Tokens);
}

#[test]
fn a_station_with_key_files_gets_what_it_asks_for() {
    asks_and_gets(Stores::Files);
}

#[test]
fn a_station_waits_for_a_vault_that_comes_back_and_not_for_ever() {
    let world = World::ready();
    station(&world, "line-1", "");
    world.requests("many", 0..200);
    let mut service = Service::start(&world, "");
    let papers = "--station $D/line-1.papers";
    let url = service.url("");
    let port = service.address();
    let asking = ask(&world, &service, "line-1", "many", papers);
    let child = asking
        .command()
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let so_far = || match world.path("made").exists() {
        true => made(&world).len(),
        false => 0,
    };
    // In the middle of it, the vault's process dies, and another one takes its place.
    while so_far() < 20 {
        sleep(Duration::from_millis(20));
    }
    service.signal("KILL");
    service.wait();
    let again = Service::start_at(&world, &port, "");
    assert_eq!(again.url(""), url);
    let output = child.wait_with_output().unwrap();
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    let made = made(&world);
    assert_eq!(made.len(), 400);
    assert_eq!(again.stop(), 0);

    // Nobody is there any more.
    let gone = world
        .site(&format!(
            "request --vault {url} --keys @line-1 --product TH-200 --csr $D/csr/many --output $D/made --patience-seconds 1"
        ))
        .fails(3, "VAULT-UNREACHABLE");
    assert_eq!(gone.lines(), [] as [serde_json::Value; 0]);

    // To the unit: what was asked for is there once, and what the killed process had leased is burned.
    let status = world.status("berlin");
    assert_eq!(status["accounts"][0]["good"], 200);
    world.carry_home("berlin").exits_done();
    let report = world.reconcile();
    assert_eq!(report["balanced"], true);
    assert_eq!(report["accounts"][0]["good"], 200);
}

#[test]
fn a_station_talks_to_its_own_vault_alone() {
    let (here, elsewhere) = (World::ready(), World::empty(Stores::Files));
    elsewhere.ceremony(&["alice", "bob"], "");
    elsewhere.enrol("berlin");
    elsewhere.grant("berlin", POLICY);
    station(&here, "line-1", "");
    station(&elsewhere, "line-1", "");
    here.requests("first", [1]);
    let service = Service::start(&elsewhere, "");
    let papers = "--station $D/line-1.papers --patience-seconds 1";
    ask(&here, &service, "line-1", "first", papers).fails(1, "VAULT-UNTRUSTED");
    // Nor does another station's paper help.
    station(&here, "line-2", "");
    ask(&here, &service, "line-2", "first", papers).fails(1, "STATION-PAPERS-INVALID");
    let other = Service::start(&here, "");
    let url = other.url("");
    for wrong in [
        url.replace("https", "http"),
        format!("{url}/api"),
        "vault".to_owned(),
    ] {
        here.site(&format!(
            "request --vault {wrong} --keys @line-1 --product TH-200 --csr $D/csr/first --output $D/made"
        ))
        .fails(2, "VAULT-URL-INVALID");
    }
}

#[test]
fn a_clock_that_the_vault_does_not_believe_keeps_no_station_out() {
    let world = World::ready();
    world.requests("before", [1]);
    world.issue("before").ok();
    station(&world, "line-1", "");
    world.requests("first", [2]);
    let papers = "--station $D/line-1.papers";
    for days in [-2, 3650] {
        let machine = Machine::new().jumped(days * DAY);
        let environment: Vec<_> = machine.environment().collect();
        let service = Service::start_with(&world, "", &environment);
        let run = ask(&world, &service, "line-1", "first", papers).exits(1);
        assert_eq!(
            column(&run.lines(), "code"),
            ["CLOCK-JUMPED"],
            "{days}: {run}"
        );
    }
    let service = Service::start(&world, "");
    let run = ask(&world, &service, "line-1", "first", papers).ok();
    assert_eq!(column(&run.lines(), "outcome"), ["issued"], "{run}");
}

#[test]
fn a_certificate_of_a_wrong_time_is_told_as_that_and_made_anew_once_the_time_is_right() {
    let world = World::ready();
    world.requests("before", [1]);
    world.issue("before").ok();
    station(&world, "line-1", "");
    world.requests("first", [2]);
    let papers = "--station $D/line-1.papers";
    let ahead = Machine::new().jumped(20 * DAY);
    let confirm = "clock confirm --confirm berlin/v1";
    world.site(confirm).machine(&ahead).ok();
    let environment: Vec<_> = ahead.environment().collect();
    Service::start_with(&world, "", &environment).stop();

    let service = Service::start(&world, "");
    let run = ask(&world, &service, "line-1", "first", papers).fails(1, "VAULT-CERTIFICATE-TIME");
    assert!(run.stderr.contains("compare this machine's clock"), "{run}");
    let draft = "$D/officers/clock.draft";
    let line = format!("site clock berlin/v1 --reason battery --output {draft}");
    world.carry_home("berlin");
    let id = world.hq(&line).ok().text("id");
    world.approve(draft);
    world.hq(&format!("site grant {id}")).ok();
    world.carry_out("berlin").exits_done();
    let mut tries = 0;
    let run = loop {
        let run = ask(&world, &service, "line-1", "first", papers).run();
        tries += 1;
        if run.exit == 0 || tries > 60 {
            break run;
        }
        sleep(Duration::from_millis(500));
    };
    assert_eq!(column(&run.lines(), "outcome"), ["issued"], "{run}");
}
