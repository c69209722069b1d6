//! What strangers, accidents and copies do to a home and to media.

use std::fs;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::process::Command;

use mintmark_protocol::media::MediaName;
use serde_json::json;

use crate::outcome;
use crate::support::hq::put;
use crate::support::{Hq, Vault, copy};

#[test]
fn what_a_stranger_puts_on_a_stick_is_passed_over_or_refused_and_changes_nothing() {
    let (vault, mut hq) = (Vault::new(), Hq::new(1));
    vault.enrol(&mut hq, 1);
    let before = vault.status();
    let ours = vault.stick().join("mintmark/to-berlin_v1");
    let secret = vault.path("secret");
    fs::write(&secret, "secret").unwrap();
    symlink(&secret, ours.join("dispatch-1-000003.cose")).unwrap();
    fs::write(ours.join("dispatch-1-000004.cose"), vec![0; 9 << 20]).unwrap();
    fs::write(ours.join("dispatch-1-000005.cose"), "").unwrap();
    fs::write(ours.join("dispatch-1-000006.cose.part"), "").unwrap();
    fs::write(ours.join("autorun.inf"), "\u{1b}[2J").unwrap();
    fs::create_dir(vault.stick().join("mintmark/to-paris_v1")).unwrap();
    fs::create_dir(vault.stick().join("mintmark/System Volume Information")).unwrap();
    let import = vault.import().expect(1);
    let outcomes = import.outcomes();
    assert_eq!(
        outcomes[outcomes.len() - 2..],
        [
            outcome("refused", Some("MESSAGE-OVERSIZE")),
            outcome("refused", Some("MESSAGE-ENCODING"))
        ]
    );
    assert!(
        import.err.contains(
            r#""code":"MEDIA-LINK","message":"mintmark/to-berlin_v1/dispatch-1-000003.cose"#
        ),
        "{import:?}"
    );
    assert!(
        import
            .err
            .contains(r#""code":"MEDIA-FOREIGN","message":"mintmark/to-berlin_v1/autorun.inf"#),
        "{import:?}"
    );
    assert!(!import.err.contains("paris"), "{import:?}");
    assert_eq!(vault.status(), before);

    let inspected = vault
        .run(&["media", "inspect", vault.stick().to_str().unwrap()])
        .expect(0)
        .json();
    let claimed = inspected["items"].as_array().unwrap();
    assert!(
        claimed
            .iter()
            .any(|item| item["type"] == "dispatch" && item["sender"] == "hq")
    );
    assert!(
        claimed
            .iter()
            .any(|item| item["code"] == "MESSAGE-ENCODING")
    );
    let elsewhere = vault.path("nowhere");
    let missing = vault
        .run(&["media", "import", elsewhere.to_str().unwrap()])
        .expect(3);
    assert_eq!(missing.errors(), ["MEDIA-MISSING"]);
    fs::create_dir(&elsewhere).unwrap();
    let empty = vault
        .run(&["media", "import", elsewhere.to_str().unwrap()])
        .expect(3);
    assert_eq!(empty.errors(), ["MEDIA-EMPTY"]);
}

#[test]
fn another_vaults_bundle_under_our_name_is_left_as_it_is() {
    let (vault, mut hq) = (Vault::new(), Hq::new(1));
    vault.enrol(&mut hq, 1);
    let items = vault.export().expect(0).json()["items"].clone();
    let bundle = MediaName::parse(items[1]["file"].as_str().unwrap()).unwrap();
    let path = put(&vault.stick(), &bundle, b"something else");
    let conflict = vault.export().expect(3);
    assert_eq!(
        conflict.outcomes()[1],
        outcome("refused", Some("MEDIA-CONFLICT"))
    );
    assert_eq!(fs::read(path).unwrap(), b"something else");
    // On another medium it is the very same bytes again.
    fs::create_dir(vault.path("other")).unwrap();
    vault
        .run(&["media", "export", vault.path("other").to_str().unwrap()])
        .expect(0);
    hq.receive(&vault.path("other"), &bundle);
}

#[test]
fn one_process_at_a_time_changes_a_home_and_looking_needs_no_turn() {
    let (vault, mut hq) = (Vault::new(), Hq::new(1));
    vault.enrol(&mut hq, 1);
    vault.request("a.csr", "A1", 11);
    let lock = fs::File::open(vault.home().join("lock")).unwrap();
    lock.lock().unwrap();
    for busy in [
        vault.issue(),
        vault.import(),
        vault.export(),
        vault.run(&["recover"]),
    ] {
        assert_eq!(busy.expect(3).errors(), ["HOME-BUSY"]);
    }
    vault.status();
    vault.run(&["audit", "log"]).expect(0);
    vault.run(&["entitlement", "list"]).expect(0);
    drop(lock);
    vault.issue().expect(0);
}

#[test]
fn a_log_that_was_put_back_stops_the_line() {
    let (vault, mut hq) = (Vault::new(), Hq::new(1));
    vault.enrol(&mut hq, 2);
    vault.request("a.csr", "A1", 11);
    copy(&vault.home().join("log"), &vault.path("log-before"));
    vault.issue().expect(0);
    fs::remove_dir_all(vault.home().join("log")).unwrap();
    copy(&vault.path("log-before"), &vault.home().join("log"));
    for run in [
        vault.issue(),
        vault.run(&["status"]),
        vault.run(&["recover", "--rebuild"]),
    ] {
        assert_eq!(run.expect(4).errors(), ["LOG-TRUNCATED"]);
    }
}

#[test]
fn one_changed_byte_of_the_log_is_found() {
    let (vault, mut hq) = (Vault::new(), Hq::new(1));
    vault.enrol(&mut hq, 2);
    vault.export().expect(0);
    let file = vault.home().join("log/0000000000000000.log");
    let bytes = fs::read(&file).unwrap();
    for at in [bytes.len() / 4, bytes.len() / 2, bytes.len() - 1] {
        let mut changed = bytes.clone();
        changed[at] ^= 1;
        fs::write(&file, &changed).unwrap();
        let verify = vault.run(&["audit", "verify"]);
        assert_eq!(verify.code, Some(4), "byte {at}: {verify:?}");
    }
    fs::write(&file, &bytes).unwrap();
    vault.run(&["audit", "verify"]).expect(0);
}

#[test]
fn what_is_missing_from_a_home_or_changed_in_it_is_fatal() {
    let (vault, mut hq) = (Vault::new(), Hq::new(1));
    vault.enrol(&mut hq, 1);
    vault.export().expect(0);
    for name in ["enrol.cose", "trust/trust-000001.cose"] {
        let path = vault.home().join(name);
        let bytes = fs::read(&path).unwrap();
        fs::remove_file(&path).unwrap();
        assert_eq!(vault.run(&["status"]).expect(4).errors(), ["HOME-CORRUPT"]);
        let mut changed = bytes.clone();
        *changed.last_mut().unwrap() ^= 1;
        fs::write(&path, changed).unwrap();
        assert_eq!(vault.run(&["status"]).expect(4).errors(), ["HOME-CORRUPT"]);
        fs::write(&path, bytes).unwrap();
        vault.run(&["status"]).expect(0);
    }
    let outbox = vault.home().join("outbox");
    for entry in fs::read_dir(&outbox).unwrap() {
        let path = entry.unwrap().path();
        let bytes = fs::read(&path).unwrap();
        let mut changed = bytes.clone();
        *changed.last_mut().unwrap() ^= 1;
        fs::write(&path, changed).unwrap();
        assert_eq!(vault.export().expect(4).errors(), ["HOME-CORRUPT"]);
        assert_eq!(
            vault.run(&["audit", "verify"]).expect(4).errors(),
            ["HOME-CORRUPT"]
        );
        fs::write(&path, bytes).unwrap();
    }
    vault.export().expect(0);
    fs::set_permissions(vault.home(), fs::Permissions::from_mode(0o750)).unwrap();
    assert_eq!(vault.run(&["status"]).expect(3).errors(), ["HOME-EXPOSED"]);
}

#[test]
fn the_index_can_be_lost_or_broken_and_is_made_again() {
    let (vault, mut hq) = (Vault::new(), Hq::new(1));
    vault.enrol(&mut hq, 2);
    vault.request("a.csr", "A1", 11);
    vault.issue().expect(0);
    let certificates = vault.certificates();
    fs::write(vault.home().join("index/sled/db"), "not a database").unwrap();
    let recovered = vault.run(&["recover"]).expect(0).json();
    assert!(recovered["index_rebuilt"].is_string(), "{recovered}");
    let planned = || vault.run(&["recover", "--dry-run"]).expect(0).json();
    assert!(planned()["index_rebuilt"].is_null());
    fs::remove_dir_all(vault.home().join("index")).unwrap();
    fs::remove_file(vault.home().join("state.snapshot")).unwrap();
    assert!(planned()["index_rebuilt"].is_string());
    assert!(!vault.home().join("index").exists());
    let again = vault.issue().expect(0);
    assert_eq!(again.lines()[0]["outcome"], json!("existing"));
    assert_eq!(vault.certificates(), certificates);
}

#[test]
fn two_requests_of_one_file_name_give_two_certificates() {
    let (vault, mut hq) = (Vault::new(), Hq::new(1));
    vault.enrol(&mut hq, 2);
    vault.request("a.csr", "A1", 11);
    vault.request("a.der", "A2", 12);
    let rows = vault.issue().expect(0).lines();
    let path = |row: usize| rows[row]["certificate"].as_str().unwrap().to_owned();
    assert!(path(0).ends_with("out/a.pem"));
    assert!(path(1).ends_with(&format!(
        "out/a-{}.pem",
        rows[1]["serial"].as_str().unwrap()
    )));
    assert_eq!(
        vault.issue().expect(0).lines()[1]["certificate"],
        json!(path(1))
    );
    assert_eq!(vault.certificates().len(), 2);
}

#[test]
fn a_home_that_is_not_named_or_not_there_says_what_to_do() {
    let site = env!("CARGO_BIN_EXE_site");
    let unset = Command::new(site)
        .args(["status"])
        .env_remove("SITE_HOME")
        .output()
        .unwrap();
    assert_eq!(unset.status.code(), Some(2));
    let text = String::from_utf8(unset.stderr).unwrap();
    assert!(
        text.contains("error[HOME-UNSET]") && text.contains("hint: add --home DIR"),
        "{text}"
    );
    let absent = Command::new(site)
        .args(["--home", "/nonexistent/home", "status"])
        .output()
        .unwrap();
    assert_eq!(absent.status.code(), Some(3));
    let text = String::from_utf8(absent.stderr).unwrap();
    assert!(
        text.contains("error[HOME-MISSING]") && text.contains("run `site init`"),
        "{text}"
    );
    let manual = tempfile::tempdir().unwrap();
    let pages = Command::new(site)
        .arg("manual")
        .arg(manual.path())
        .output()
        .unwrap();
    assert!(pages.status.success() && manual.path().join("site-media-import.1").is_file());
    let script = Command::new(site)
        .args(["completion", "bash"])
        .output()
        .unwrap();
    assert!(
        String::from_utf8(script.stdout)
            .unwrap()
            .contains("entitlement")
    );
}

#[test]
fn certificates_that_cannot_be_written_are_counted_and_asked_for_again_without_cost() {
    let (vault, mut hq) = (Vault::new(), Hq::new(1));
    vault.enrol(&mut hq, 2);
    vault.request("a.csr", "A1", 11);
    vault.request("b.csr", "A2", 12);
    let rows = vault.issue().expect(0).lines();
    // Both names that the certificate could have are somebody else's.
    let other = vault.path("elsewhere");
    fs::create_dir(&other).unwrap();
    let serial = rows[0]["serial"].as_str().unwrap();
    for name in ["a.pem".to_owned(), format!("a-{serial}.pem")] {
        fs::write(other.join(name), "something else").unwrap();
    }
    let mut arguments = vault.issue_arguments();
    let at = arguments.iter().position(|a| a == "--output").unwrap();
    arguments[at + 1] = other.to_str().unwrap().to_owned();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let run = vault.run(&arguments).expect(5);
    assert_eq!(run.errors(), ["CERTIFICATES-UNWRITTEN"]);
    assert!(
        run.err
            .contains("1 of 2 certificates is issued and could not be written"),
        "{run:?}"
    );
    let rows = run.lines();
    assert_eq!(
        (
            &rows[0]["outcome"],
            &rows[0]["code"],
            &rows[0]["certificate"]
        ),
        (
            &"existing".into(),
            &"OUTPUT-TAKEN".into(),
            &serde_json::Value::Null
        )
    );
    assert!(rows[1]["certificate"].is_string());
    assert_eq!(vault.status()["accounts"][0]["good"], 2);
    fs::remove_file(other.join("a.pem")).unwrap();
    vault.run(&arguments).expect(0);
}

#[test]
fn a_device_id_is_reported_only_from_where_the_policy_looks_for_it() {
    let (vault, mut hq) = (Vault::new(), Hq::new(1));
    vault.enrol(&mut hq, 1);
    vault.request("a.csr", "Ä1", 11);
    fs::write(vault.path("csr/b.csr"), "junk").unwrap();
    let rows = vault.issue().expect(1).lines();
    assert_eq!(rows[0]["code"], "DEVICE-ID-INVALID");
    for row in rows {
        assert!(row["device_id"].is_null(), "{row}");
    }
}

#[test]
fn doctor_looks_on_in_a_home_that_is_open_to_others() {
    let (vault, mut hq) = (Vault::new(), Hq::new(1));
    vault.enrol(&mut hq, 1);
    fs::set_permissions(vault.home(), fs::Permissions::from_mode(0o750)).unwrap();
    let report = vault.run(&["doctor"]).expect(3).json();
    let outcome = |check: &str| {
        let checks = report["checks"].as_array().unwrap();
        let found = checks.iter().find(|found| found["check"] == check).unwrap();
        (found["outcome"].clone(), found["code"].clone())
    };
    assert_eq!(outcome("home"), ("bad".into(), "HOME-EXPOSED".into()));
    assert_eq!(outcome("log"), ("ok".into(), serde_json::Value::Null));
    assert_eq!(outcome("key store"), ("ok".into(), serde_json::Value::Null));
}

#[test]
fn what_only_looks_says_that_nothing_was_changed_when_its_output_is_lost() {
    let (vault, mut hq) = (Vault::new(), Hq::new(1));
    vault.enrol(&mut hq, 1);
    vault.request("a.csr", "A1", 11);
    let issue = vault.issue_arguments();
    let issue: Vec<&str> = issue.iter().map(String::as_str).collect();
    let dry_run = [&issue[..], &["--dry-run"]].concat();
    for (arguments, code) in [(&["status"][..], 3), (&dry_run, 3), (&issue, 5)] {
        let full = fs::File::options().write(true).open("/dev/full").unwrap();
        let output = vault.command(arguments).stdout(full).output().unwrap();
        assert_eq!(output.status.code(), Some(code), "{arguments:?}");
        assert!(String::from_utf8_lossy(&output.stderr).contains("OUTPUT-FAILED"));
    }
}
