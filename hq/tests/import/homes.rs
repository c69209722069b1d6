//! A home that is not whole says so, and blames nobody else.

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};

use mintmark_ledger::entry::DeviceAction;
use serde_json::Value;

use super::support::{Hq, csr, run_in};

const CORRUPT: (i32, &str) = (4, "HOME-CORRUPT");

fn ends(hq: &Hq, arguments: &[&str]) -> (i32, String) {
    let run = hq.run(arguments);
    (run.exit, run.error_code())
}

fn corrupt(found: &(i32, String)) -> bool {
    (found.0, found.1.as_str()) == CORRUPT
}

#[test]
fn a_home_without_its_newest_manifest_does_not_go_back_to_the_one_before() {
    let hq = Hq::new();
    hq.add_officer("bob");
    hq.publish_trust(2, &["alice"], &[]);
    let stick = hq.path("stick");
    let member = hq.path("member");
    let first = stick.join("mintmark/trust-000001.cose");
    let of_member = |arguments: &[&str]| {
        let run = run_in(&member, arguments);
        (run.exit, run.error_code())
    };
    let fingerprint = hq.fingerprint_of(&first);
    let pin = [
        "trust",
        "pin",
        "--trust",
        first.to_str().unwrap(),
        "--fingerprint",
        &fingerprint,
    ];
    let fine = (0, String::new());
    assert_eq!(of_member(&pin), fine);
    assert_eq!(
        of_member(&["media", "import", stick.to_str().unwrap()]),
        fine
    );
    assert_eq!(run_in(&member, &["trust", "show"]).json()["version"], 2);

    for home in [&member, &hq.path("home")] {
        for version in [1, 2] {
            let file = home.join(format!("record/trust/trust-00000{version}.cose"));
            let aside = hq.path("aside");
            fs::rename(&file, &aside).unwrap();
            let run = run_in(home, &["trust", "show"]);
            assert!(
                corrupt(&(run.exit, run.error_code())),
                "{}: {}",
                file.display(),
                run.stderr
            );
            fs::rename(&aside, &file).unwrap();
            assert_eq!(run_in(home, &["trust", "show"]).exit, 0);
        }
    }
    fs::remove_file(member.join("record/trust/newest")).unwrap();
    assert!(corrupt(&of_member(&["trust", "show"])));
}

#[test]
fn damage_of_the_record_is_not_blamed_on_a_stick() {
    let hq = Hq::new();
    let mut vault = hq.vault("berlin");
    vault.issue("TH-200", &csr("A0", 0));
    let stick = vault.report(&hq.path("one"));
    assert_eq!(hq.import(&stick).0, 0);
    let log = ["audit", "log", "--site", "berlin"];
    assert_eq!(hq.run(&log).exit, 0);
    let received = hq.path("home/record/received/berlin_v1");
    let segment = fs::read_dir(received)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .find(|path| path.to_string_lossy().contains(".seg"))
        .unwrap();
    let whole = fs::read(&segment).unwrap();
    let mut changed = whole.clone();
    *changed.last_mut().unwrap() ^= 1;
    for damaged in [&changed[..], &whole[..whole.len() - 1], &[]] {
        fs::write(&segment, damaged).unwrap();
        assert!(corrupt(&ends(&hq, &log)));
    }
    fs::remove_file(&segment).unwrap();
    assert!(corrupt(&ends(&hq, &log)));
}

#[test]
fn a_lost_approval_is_the_homes_fault() {
    let hq = Hq::new();
    let draft = hq.path("trust-2.cose");
    let draft = draft.to_str().unwrap();
    assert_eq!(hq.run(&["trust", "draft", "--output", draft]).exit, 0);
    let approval = hq.sign("alice", Path::new(draft));
    let approval = approval.to_str().unwrap();
    assert_eq!(hq.run(&["approval", "import", approval]).exit, 0);
    for entry in fs::read_dir(hq.path("home/record/approvals")).unwrap() {
        fs::remove_file(entry.unwrap().path()).unwrap();
    }
    assert!(corrupt(&ends(&hq, &["approval", "list"])));
    assert!(corrupt(&ends(&hq, &["approval", "import", approval])));
}

#[test]
fn a_registry_without_content_or_of_the_future_is_not_used() {
    let hq = Hq::new();
    let file = hq.path("home/registry.sqlite");
    let version = |version: i64| {
        let sql = rusqlite::Connection::open(&file).unwrap();
        sql.pragma_update(None, "user_version", version).unwrap();
    };
    version(0);
    assert!(corrupt(&ends(&hq, &["trust", "show"])));
    version(99);
    let newer = ends(&hq, &["trust", "show"]);
    assert_eq!((newer.0, newer.1.as_str()), (2, "REGISTRY-SCHEMA"));
    for beside in ["-wal", "-shm"] {
        let _ = fs::remove_file(hq.path(&format!("home/registry.sqlite{beside}")));
    }
    fs::write(&file, b"").unwrap();
    assert!(corrupt(&ends(&hq, &["trust", "show"])));
}

#[test]
fn what_ended_a_device_is_carried_over_from_the_registry_before() {
    let hq = Hq::new();
    let mut vault = hq.vault("berlin");
    vault.issue("TH-200", &csr("A0", 0));
    vault.issue("TH-200", &csr("A1", 1));
    vault.order(DeviceAction::Scrap, "A0", "the casing is cracked");
    hq.import_one(&vault.report(&hq.path("one")));
    vault.order(DeviceAction::Rework, "A1", "another board");
    vault.issue("TH-200", &csr("A1", 2));
    hq.import_one(&vault.report(&hq.path("two")));
    let shown = |device: &str| hq.run(&["device", "show", device]).json()["devices"].take();
    let statuses = |device: &str| {
        let devices = shown(device);
        let devices = devices.as_array().unwrap().iter();
        let status = |device: &Value| device["status"].as_str().unwrap().to_owned();
        devices.map(status).collect::<Vec<_>>()
    };
    let before = (shown("A0"), shown("A1"));
    assert_eq!(statuses("A0"), ["scrapped"]);
    assert_eq!(statuses("A1"), ["superseded", "good"]);
    let sql = rusqlite::Connection::open(hq.path("home/registry.sqlite")).unwrap();
    let back = "DROP TABLE withdrawals; DROP TABLE device_cas_in_force; DROP TABLE crls_held;
                PRAGMA user_version = 8";
    sql.execute_batch(back).unwrap();
    drop(sql);
    assert_eq!((shown("A0"), shown("A1")), before);
}

#[test]
fn the_home_is_named_by_a_variable_that_is_not_empty() {
    let hq = Hq::new();
    let run = |home: &str| {
        let output = Command::new(env!("CARGO_BIN_EXE_hq"))
            .args(["--json", "trust", "show"])
            .env("HQ_HOME", home)
            .output()
            .unwrap();
        let stderr = String::from_utf8(output.stderr).unwrap();
        (output.status.code().unwrap(), stderr)
    };
    let (exit, stderr) = run("");
    assert!(
        exit == 2 && stderr.contains("HOME-UNSET"),
        "{exit}: {stderr}"
    );
    assert_eq!(run(hq.path("home").to_str().unwrap()).0, 0);
    assert!(hq.run_plain(&["--help"]).stdout.contains("HQ_HOME"));
}

#[test]
fn what_only_looks_has_changed_nothing_when_its_output_is_lost() {
    let hq = Hq::new();
    for arguments in [
        ["trust", "show"],
        ["approval", "list"],
        ["site", "list"],
        ["audit", "list"],
        ["officer", "list"],
    ] {
        let full = fs::File::options().write(true).open("/dev/full").unwrap();
        let output = Command::new(env!("CARGO_BIN_EXE_hq"))
            .arg("--home")
            .arg(hq.path("home"))
            .args(arguments)
            .stdout(Stdio::from(full))
            .output()
            .unwrap();
        let stderr = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(3), "{arguments:?}: {stderr}");
        assert!(stderr.contains("OUTPUT-FAILED"), "{arguments:?}: {stderr}");
    }
}
