//! What would happen, without it happening.

use std::fs;
use std::path::Path;

use serde_json::json;

use super::support::{Hq, run_in};

/// Every file below a folder, with its bytes.
fn everything(folder: &Path, found: &mut Vec<(std::path::PathBuf, Vec<u8>)>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        // A registry that was read has other bookkeeping beside it, and the same content.
        let name = path.to_string_lossy().into_owned();
        if path.is_dir() {
            everything(&path, found);
        } else if !name.ends_with("-wal") && !name.ends_with("-shm") {
            let bytes = fs::read(&path).unwrap();
            found.push((path, bytes));
        }
    }
    found.sort();
}

fn snapshot(hq: &Hq) -> Vec<(std::path::PathBuf, Vec<u8>)> {
    let mut found = Vec::new();
    everything(&hq.path("home"), &mut found);
    found
}

#[test]
fn an_officer_is_not_made_and_not_added() {
    let hq = Hq::new();
    let at = |name: &str| hq.path(name).to_str().unwrap().to_owned();
    fs::write(at("pin"), "a long passphrase\n").unwrap();
    fs::set_permissions(
        at("pin"),
        std::os::unix::fs::PermissionsExt::from_mode(0o600),
    )
    .unwrap();
    let uri = format!("file:{}?pin-source=file:{}", at("bob"), at("pin"));
    let request = [
        "officer",
        "request",
        "--name",
        "bob",
        "--keys",
        &uri,
        "--output",
        &at("bob.cose"),
    ];
    let run = hq.run(&[&request[..], &["--dry-run"]].concat());
    assert_eq!((run.exit, &run.json()["dry_run"]), (0, &json!(true)));
    assert!(!hq.path("bob").exists() && !hq.path("bob.cose").exists());

    let made = hq.run(&request).json();
    let taken = hq.run(&[&request[..], &["--dry-run"]].concat());
    assert_eq!(
        (taken.exit, taken.error_code().as_str()),
        (3, "FILE-EXISTS")
    );
    let fingerprint = made["fingerprint"].as_str().unwrap();
    let add = ["officer", "add", "--request", &at("bob.cose")];
    let add = [&add[..], &["--fingerprint", fingerprint]].concat();
    let before = snapshot(&hq);
    let run = hq.run(&[&add[..], &["--dry-run"]].concat());
    assert_eq!((run.exit, &run.json()["in_force"]), (0, &json!(false)));
    assert_eq!(snapshot(&hq), before);
    assert_eq!(hq.run(&["officer", "show", "bob"]).exit, 2);

    assert_eq!(hq.run(&add).json()["in_force"], false);
    let shown = |name: &str| hq.run(&["officer", "show", name]).json()["in_force"].clone();
    assert_eq!((shown("alice"), shown("bob")), (json!(true), json!(false)));
}

#[test]
fn a_threshold_that_nobody_can_meet_is_refused_in_plain_words() {
    let hq = Hq::new();
    let run = hq.run_plain(&["trust", "draft", "--threshold", "mint=5"]);
    assert_eq!(run.exit, 2);
    assert!(run.stderr.contains("TRUST-UNWORKABLE"), "{}", run.stderr);
    assert!(!run.stderr.contains("cddl"), "{}", run.stderr);
    let why = "role `mint` needs 5 officers and 1 hold it";
    assert!(run.stderr.contains(why), "{}", run.stderr);
}

#[test]
fn a_manifest_is_not_pinned() {
    let hq = Hq::new();
    let member = hq.path("member");
    let trust = hq.path("stick/mintmark/trust-000001.cose");
    let shown = hq.run(&["trust", "show"]).json();
    let pin = [
        "trust",
        "pin",
        "--trust",
        trust.to_str().unwrap(),
        "--fingerprint",
    ];
    let right = [
        &pin[..],
        &[shown["fingerprint"].as_str().unwrap(), "--dry-run"],
    ]
    .concat();
    assert_eq!(run_in(&member, &right).exit, 0);
    let wrong = "0".repeat(64);
    let wrong = [&pin[..], &[&wrong, "--dry-run"]].concat();
    assert_eq!(run_in(&member, &wrong).exit, 1);
    assert!(!member.exists());
    let taken = run_in(&hq.path("home"), &right);
    assert_eq!(
        (taken.exit, taken.error_code().as_str()),
        (3, "HOME-EXISTS")
    );
}

#[test]
fn an_approval_is_not_signed_and_not_collected() {
    let hq = Hq::new();
    let draft = hq.path("draft.cose");
    let draft = draft.to_str().unwrap();
    let drafted = hq.run(&["trust", "draft", "--output", draft]);
    assert_eq!(drafted.exit, 0, "{}", drafted.stderr);
    let output = hq.path("approval.cose");
    let output = output.to_str().unwrap();
    let keys = hq.officer_keys();
    let sign = [
        "approval",
        "sign",
        draft,
        "--officer",
        "alice",
        "--keys",
        &keys,
    ];
    let sign = [&sign[..], &["--output", output]].concat();
    let run = hq.run(&[&sign[..], &["--dry-run"]].concat());
    assert_eq!(run.exit, 0, "{}", run.stderr);
    assert_eq!(
        (&run.json()["dry_run"], &run.json()["file"]),
        (&json!(true), &json!(null))
    );
    assert!(!Path::new(output).exists());
    assert_eq!(hq.run(&sign).exit, 0);

    let before = snapshot(&hq);
    let run = hq.run(&["approval", "import", output, "--dry-run"]);
    assert_eq!(run.exit, 0, "{}", run.stderr);
    assert_eq!(run.json()["items"][0]["outcome"], "imported");
    assert_eq!(snapshot(&hq), before);
    let run = hq.run(&["approval", "import", output]);
    assert_eq!(run.json()["items"][0]["outcome"], "imported");
}
