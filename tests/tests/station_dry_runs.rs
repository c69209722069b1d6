//! What an operator does with stations can be tried: it is said what would be done, and nothing is.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::collections::BTreeMap;
use std::fs;

use mintmark_tests::shape::column;
use mintmark_tests::{Run, Service, Stores, Tool, World, files};
use serde_json::{Value, json};

/// Everything in a world but what follows from a log, who had a home open last, and what SoftHSM writes into a token at every
/// login.
fn everything(world: &World) -> BTreeMap<String, Vec<u8>> {
    let mut all = files::contents(world.folder());
    all.retain(|name, _| {
        let derived = name.starts_with("berlin/index/") || name == "berlin/state.snapshot";
        let opener = name == "berlin/lock";
        let login = name.starts_with("tokens/")
            && (name.ends_with("/token.object") || name.ends_with("/token.object.kept"));
        !derived && !opener && !login
    });
    all
}

/// Runs it, and finds the same files with the same bytes afterwards.
#[track_caller]
fn tried(world: &World, tool: &Tool) -> Run {
    let before = everything(world);
    let run = tool.run();
    let after = everything(world);
    let changed = |name: &&String| before.get(*name) != after.get(*name);
    let changed: Vec<&String> = before.keys().chain(after.keys()).filter(changed).collect();
    assert!(changed.is_empty(), "{changed:?}\n{run}");
    run
}

/// What is said to a person ends with that.
#[track_caller]
fn says_so(tool: Tool) {
    let run = tool.text().ok();
    assert!(run.stderr.contains("nothing was changed"), "{run}");
}

fn is_tried_and_done(stores: Stores) {
    let world = World::ready_in(stores);

    // On the station.
    let request = "station request --name line-1 --keys @line-1 --output $D/line-1.csr";
    world.keys("line-1");
    for already in [false, true] {
        let dry = world.site(request).arg("--dry-run");
        let said = tried(&world, &dry).exits(0).json();
        assert_eq!(said["already"], already, "{said}");
        assert_eq!(
            (&said["dry_run"], &said["fingerprint"]),
            (&json!(true), &Value::Null)
        );
        says_so(dry);
        let made = world.site(request).ok().json();
        assert_eq!(
            (&made["already"], &made["dry_run"]),
            (&json!(already), &json!(false))
        );
    }

    // At the vault, before it has a station CA and afterwards.
    let fingerprint = world.site(request).ok().text("fingerprint");
    let approve = |name: &str, fingerprint: &str| {
        world.site(&format!(
            "station approve --request $D/{name}.csr --fingerprint {fingerprint} --output $D/{name}.papers --valid-days 30"
        ))
    };
    let dry = || approve("line-1", &fingerprint).arg("--dry-run");
    let first = tried(&world, &dry()).exits(0).json();
    assert_eq!(first["station"], "line-1");
    assert_eq!(first["certificate_sha256"], Value::Null);
    assert_eq!(first["station_ca_sha256"], Value::Null);
    says_so(dry());
    let wrong = approve("line-1", &"0".repeat(64)).arg("--dry-run");
    assert_eq!(
        tried(&world, &wrong).exits(1).codes(),
        ["FINGERPRINT-MISMATCH"]
    );
    let nowhere = format!(
        "station approve --request $D/line-1.csr --fingerprint {fingerprint} --output $D/none/x"
    );
    for nowhere in [world.site(&nowhere).arg("--dry-run"), world.site(&nowhere)] {
        assert_eq!(tried(&world, &nowhere).exits(3).codes(), ["OUTPUT-FOLDER"]);
    }
    let done = approve("line-1", &fingerprint).ok().json();
    assert_eq!(done["dry_run"], false);
    let again = tried(&world, &dry()).exits(0).json();
    assert_eq!(again["station_ca_sha256"], done["station_ca_sha256"]);
    // What the rules refuse is refused now.
    let other = "station request --name line-9 --keys @line-1 --output $D/line-9.csr";
    let fingerprint = world.site(other).ok().text("fingerprint");
    let taken = approve("line-9", &fingerprint).arg("--dry-run");
    assert_eq!(
        tried(&world, &taken).exits(1).codes(),
        ["STATION-KEY-TAKEN"]
    );

    // The service's next key.
    let rotate = || world.site("station rotate-tls");
    rotate().arg("--dry-run").fails(2, "SERVE-NEVER-STARTED");
    // A service that has the vault tries with it, and goes on as before.
    let service = Service::start(&world, "");
    let log = world.log("berlin");
    let fingerprint = world.site(request).ok().text("fingerprint");
    approve("line-1", &fingerprint).arg("--dry-run").ok();
    rotate().arg("--dry-run").ok();
    assert_eq!(world.log("berlin"), log);
    assert_eq!(service.stop(), 0);
    let planned = tried(&world, &rotate().arg("--dry-run")).exits(0).json();
    assert_eq!(planned["certificate_sha256"], Value::Null);
    assert_eq!(planned["station_ca_sha256"], done["station_ca_sha256"]);
    says_so(rotate().arg("--dry-run"));
    let rotated = rotate().ok().json();
    assert_eq!(planned["key"], "serve-tls-2");
    assert_eq!(
        (&rotated["key"], &rotated["names"]),
        (&planned["key"], &planned["names"])
    );
}

#[test]
fn letting_stations_in_is_tried_with_tokens() {
    is_tried_and_done(Stores::Tokens);
}

#[test]
fn letting_stations_in_is_tried_with_key_files() {
    is_tried_and_done(Stores::Files);
}

#[test]
fn a_station_tries_whether_the_vault_takes_it_and_asks_for_nothing() {
    let world = World::ready_in(Stores::Tokens);
    let request = "station request --name line-1 --keys @line-1 --output $D/line-1.csr";
    let fingerprint = world.site(request).ok().text("fingerprint");
    world
        .site(&format!(
            "station approve --request $D/line-1.csr --fingerprint {fingerprint} --output $D/line-1.papers"
        ))
        .ok();
    world.requests("some", 1..=2);
    fs::write(world.path("csr/some/none.csr"), "nothing").unwrap();
    let service = Service::start(&world, "");
    let url = service.url("");
    let asking = |output: &str, options: &str| {
        world.site(&format!(
            "request --vault {url} --keys @line-1 --product TH-200 --csr $D/csr/some --output {output} --patience-seconds 0 {options}"
        ))
    };
    let papers = "--station $D/line-1.papers --dry-run";
    let before = world.log("berlin");
    let run = tried(&world, &asking("$D/made", papers)).exits(1);
    let rows = run.lines();
    assert_eq!(
        column(&rows, "outcome"),
        ["would-ask", "would-ask", "refused"]
    );
    assert_eq!(rows[0]["device_id"], "TH200-00000001");
    assert_eq!(rows[2]["code"], "CSR-NOT-A-REQUEST");
    let text = asking("$D/made", papers).text().exits(1);
    assert!(
        text.stdout.contains("2 would be asked for, 1 refused"),
        "{text}"
    );
    assert_eq!(world.log("berlin"), before);
    // The token does not keep what was only shown.
    asking("$D/made", "").fails(3, "STATION-PAPERS-MISSING");
    let nowhere = tried(&world, &asking("$D/none/made", papers));
    assert_eq!(nowhere.exits(3).codes(), ["OUTPUT-FOLDER"]);

    // Whoever would be turned away is told so, and so is whoever would meet nobody.
    world
        .site("station revoke line-1 --confirm line-1 --reason stolen")
        .ok();
    asking("$D/made", papers).fails(1, "STATION-REVOKED");
    assert_eq!(service.stop(), 0);
    asking("$D/made", papers).fails(3, "VAULT-UNREACHABLE");
}
