//! Stations: each makes its key on its own token, and a vault's operator lets it in, or shuts it out. All of it is in the
//! log, and headquarters goes over it.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::fs;
use std::process::Command;

use mintmark_tests::shape::column;
use mintmark_tests::{Run, Stores, World, judge, stores};
use serde_json::Value;

const DAY: i64 = 86_400;

/// `site station request` of a station, to `$D/NAME.csr`; what it says.
fn asks(world: &World, station: &str) -> Run {
    world
        .site(&format!(
            "station request --name {station} --keys @{station} --output $D/{station}.csr"
        ))
        .ok()
}

/// `site station approve` of what stands in `$D/NAME.csr`, to `$D/NAME.pem`.
fn approve(world: &World, station: &str, fingerprint: &str, options: &str) -> mintmark_tests::Tool {
    world.site(&format!(
        "station approve --request $D/{station}.csr --fingerprint {fingerprint} --output $D/{station}.pem {options}"
    ))
}

/// The fingerprint of a request, as OpenSSL would tell it.
fn fingerprint_of(world: &World, station: &str) -> String {
    judge::openssl(
        world.folder(),
        &format!("req -in {station}.csr -outform DER -out {station}.der"),
    );
    let said = judge::openssl(world.folder(), &format!("dgst -sha256 -r {station}.der"));
    said.split(' ').next().unwrap().to_owned()
}

fn stations(world: &World) -> Vec<Value> {
    let said = world.site("station list").ok().json();
    said["stations"].as_array().unwrap().clone()
}

/// The certificates of a PEM file, one file each: `$D/NAME-0.pem` and so on.
fn split(world: &World, name: &str) -> usize {
    let pem = fs::read_to_string(world.path(&format!("{name}.pem"))).unwrap();
    let parts: Vec<&str> = pem.split_inclusive("-----END CERTIFICATE-----\n").collect();
    for (at, part) in parts.iter().enumerate() {
        world.write(&format!("{name}-{at}.pem"), part);
    }
    parts.len()
}

fn let_in_and_out(kind: Stores) {
    let world = World::with_vault_in(kind);
    assert_eq!(stations(&world), [] as [Value; 0]);

    let asked = asks(&world, "line-1");
    assert_eq!(asked.json()["already"], false);
    let again = asks(&world, "line-1");
    assert_eq!(again.json()["already"], true);
    let fingerprint = again.text("fingerprint");
    assert_eq!(fingerprint, fingerprint_of(&world, "line-1"));

    approve(&world, "line-1", &"0".repeat(64), "").fails(1, "FINGERPRINT-MISMATCH");
    let options = "--product TH-200 --units-per-day 100 --valid-days 30 --hours-zone Europe/Berlin --hours-from 06:00 \
                   --hours-to 22:00 --hours-days mon,tue,wed,thu,fri";
    let approved = approve(&world, "line-1", &fingerprint, options).ok();
    assert_eq!(approved.json()["station"], "line-1");

    // OpenSSL takes it for what it is, under a CA that is nobody's subordinate.
    assert_eq!(split(&world, "line-1"), 2);
    judge::openssl(
        world.folder(),
        "verify -x509_strict -purpose sslclient -CAfile line-1-1.pem line-1-0.pem",
    );
    let subject = judge::openssl(
        world.folder(),
        "x509 -in line-1-0.pem -noout -subject -ext extendedKeyUsage",
    );
    assert!(
        subject.contains("line-1") && subject.contains("TLS Web Client"),
        "{subject}"
    );
    let station_ca = fs::read(world.path("line-1-1.pem")).unwrap();

    asks(&world, "line-2");
    let fingerprint = fingerprint_of(&world, "line-2");
    approve(&world, "line-2", &fingerprint, "").ok();
    split(&world, "line-2");
    assert_eq!(
        fs::read(world.path("line-2-1.pem")).unwrap(),
        station_ca,
        "one CA for all of them"
    );

    let list = stations(&world);
    assert_eq!(column(&list, "station"), ["line-1", "line-2"]);
    assert_eq!(column(&list, "state"), ["approved", "approved"]);
    assert_eq!(list[0]["products"], serde_json::json!(["TH-200"]));
    assert_eq!(list[0]["units_per_day"], 100);
    assert_eq!(list[0]["working_hours"], true);
    assert_eq!(list[1]["products"], Value::Null);

    world
        .site("station revoke line-2 --confirm line-1 --reason stolen")
        .fails(3, "CONFIRMATION-MISMATCH");
    // What would be decided, of one that is let in and of one that is not; and nothing is.
    world
        .site("station revoke line-2 --dry-run --reason stolen")
        .ok();
    world
        .site("station revoke line-9 --dry-run --reason stolen")
        .fails(1, "STATION-UNKNOWN");
    assert_eq!(column(&stations(&world), "state"), ["approved", "approved"]);
    world
        .site("station revoke line-2 --confirm line-2 --reason stolen")
        .ok();
    world
        .site("station revoke line-2 --confirm line-2 --reason stolen")
        .fails(1, "STATION-REVOKED");
    world
        .site("station revoke line-9 --confirm line-9 --reason stolen")
        .fails(1, "STATION-UNKNOWN");
    let list = stations(&world);
    assert_eq!(column(&list, "state"), ["approved", "revoked"]);
    assert_eq!(list[1]["reason"], "stolen");
    let later = world.site("station list").clock(31 * DAY).ok().json();
    assert_eq!(later["stations"][0]["state"], "expired");

    // Both ends tell the same story of it, and headquarters finds nothing wrong with it.
    let told = |log: Vec<Value>| -> Vec<(String, String, String)> {
        let of = |row: &Value, field: &str| row[field].as_str().unwrap_or_default().to_owned();
        let rows = log
            .iter()
            .filter(|row| of(row, "kind").starts_with("station"));
        rows.map(|row| (of(row, "kind"), of(row, "station"), of(row, "outcome")))
            .collect()
    };
    let here = told(world.log("berlin"));
    let expected = [
        ("station-ca", "", ""),
        ("station-approve", "line-1", "accepted"),
        ("station-approve", "line-2", "accepted"),
        ("station-revoke", "line-2", "accepted"),
        ("station-revoke", "line-2", "refused"),
        ("station-revoke", "line-9", "refused"),
    ];
    let expected = expected
        .map(|(kind, station, outcome)| (kind.to_owned(), station.to_owned(), outcome.to_owned()));
    assert_eq!(here, expected);
    world.carry_home("berlin").exits_done();
    let there = world.hq("audit log --site berlin").ok().lines();
    assert_eq!(told(there), expected);
    let report = world.reconcile();
    assert_eq!(report["findings"], serde_json::json!([]));
    assert_eq!(report["balanced"], true);
}

#[test]
fn stations_with_key_files_are_let_in_and_out() {
    let_in_and_out(Stores::Files);
}

#[test]
fn stations_with_tokens_are_let_in_and_out() {
    let_in_and_out(Stores::Tokens);
}

#[test]
fn a_station_may_bring_a_key_and_a_request_that_others_made() {
    let world = World::with_vault_in(Stores::Tokens);
    // OpenSC makes the key, and we find it good.
    world.keys("line-1");
    let pin = fs::read_to_string(stores::pin_file(world.folder(), "line-1")).unwrap();
    judge::succeed(
        Command::new("pkcs11-tool")
            .env("SOFTHSM2_CONF", stores::configuration(world.folder()))
            .arg("--module")
            .arg(stores::module())
            .args(["--token-label", "line-1", "--login", "--pin", &pin])
            .args([
                "--keypairgen",
                "--key-type",
                "EC:prime256v1",
                "--usage-sign",
            ])
            .args(["--label", "station", "--id", "01"]),
    );
    let asked = asks(&world, "line-1");
    assert_eq!(asked.json()["already"], true, "{asked}");
    approve(&world, "line-1", &asked.text("fingerprint"), "").ok();

    // A request of OpenSSL's, for a key of a kind that our own tools do not make.
    judge::openssl(
        world.folder(),
        "req -new -newkey ec -pkeyopt ec_paramgen_curve:P-384 -nodes -keyout line-2.key -subj /CN=line-2 -out line-2.csr",
    );
    let fingerprint = fingerprint_of(&world, "line-2");
    approve(&world, "line-2", &fingerprint, "").ok();
    // The same key under another name is another matter.
    judge::openssl(
        world.folder(),
        "req -new -key line-2.key -subj /CN=line-3 -out line-3.csr",
    );
    let fingerprint = fingerprint_of(&world, "line-3");
    approve(&world, "line-3", &fingerprint, "").fails(1, "STATION-KEY-TAKEN");
    world.carry_home("berlin").exits_done();
    assert_eq!(world.reconcile()["findings"], serde_json::json!([]));
}

#[test]
fn who_cannot_be_a_station_is_told_what_to_do() {
    let world = World::with_vault();
    let asked = asks(&world, "line-1");
    let fingerprint = asked.text("fingerprint");
    let refused = approve(
        &world,
        "line-1",
        &fingerprint,
        "--hours-zone Europe/Atlantis --hours-from 06:00 --hours-to 22:00",
    );
    let refused = refused.fails(2, "STATION-HOURS-INVALID");
    let message = refused.errors()[0]["message"].to_string();
    assert!(message.contains("Europe/Atlantis"), "{refused}");
    world
        .site("station request --name console --keys @console --output $D/console.csr")
        .fails(2, "STATION-NAME-RESERVED");
    assert_eq!(stations(&world), [] as [Value; 0]);
    // A vault that headquarters has not let in lets nobody in.
    let world = World::with_headquarters();
    world.site_init("berlin");
    let asked = asks(&world, "line-1");
    approve(&world, "line-1", &asked.text("fingerprint"), "").fails(1, "NOT-ENROLLED");
}
