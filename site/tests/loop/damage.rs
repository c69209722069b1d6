//! A home whose files are damaged, or are no files: what notices it, and what is left as it was.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde_json::json;

use crate::support::{Hq, Run, Vault};

/// The vault's log.
fn log(vault: &Vault) -> PathBuf {
    vault.home().join("log/0000000000000000.log")
}

/// Changes one bit of the log at a place, and gives the log as it was.
fn flip(vault: &Vault, at: usize) -> Vec<u8> {
    let bytes = fs::read(log(vault)).unwrap();
    let mut changed = bytes.clone();
    changed[at] ^= 4;
    fs::write(log(vault), changed).unwrap();
    bytes
}

/// Every file below a folder, and what it holds.
fn below(folder: &Path) -> Vec<(PathBuf, Vec<u8>)> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(below(&path));
        } else {
            let bytes = fs::read(&path).unwrap();
            found.push((path, bytes));
        }
    }
    found.sort();
    found
}

/// Runs the binary, which must not wait for anybody.
fn promptly(vault: &Vault, arguments: &[&str]) -> Run {
    let site = vault.command(arguments);
    let mut timeout = Command::new("timeout");
    timeout
        .arg("60")
        .arg(site.get_program())
        .args(site.get_args());
    for (name, value) in site.get_envs() {
        timeout.env(name, value.unwrap());
    }
    Run::of(timeout.stdin(Stdio::null()).output().unwrap())
}

fn make_pipe(path: &Path) {
    assert!(Command::new("mkfifo").arg(path).status().unwrap().success());
}

#[test]
fn nothing_is_built_on_a_log_that_cannot_be_reported_and_recovery_does_not_call_it_well() {
    let (vault, mut hq) = (Vault::new(), Hq::new(1));
    vault.enrol(&mut hq, 3);
    vault.request("a.csr", "A1", 11);
    vault.issue().expect(0);
    // Well below what the snapshot was made at.
    let bytes = flip(&vault, 3000);
    let derived = || {
        let files = below(&vault.home().join("index"));
        let snapshot = fs::read(vault.home().join("state.snapshot")).unwrap();
        (files, snapshot)
    };
    let before = derived();
    vault.status();
    for run in [
        vault.run(&["recover", "--rebuild"]),
        vault.run(&["recover"]),
        vault.run(&["recover", "--dry-run"]),
    ] {
        assert_eq!(run.expect(4).errors(), ["LOG-CORRUPT"]);
    }
    assert!(derived() == before, "recovery left everything as it was");
    for run in [vault.issue(), vault.import(), vault.export()] {
        assert_eq!(run.expect(4).errors(), ["LOG-CORRUPT"]);
    }
    let doctor = vault.run(&["doctor"]).expect(4).json();
    let found = |check: &serde_json::Value| (check["check"].clone(), check["code"].clone());
    let checks = doctor["checks"].as_array().unwrap();
    assert!(
        checks
            .iter()
            .any(|check| found(check) == (json!("log"), json!("LOG-CORRUPT"))),
        "{doctor}"
    );

    fs::write(log(&vault), bytes).unwrap();
    let rebuilt = vault.run(&["recover", "--rebuild"]).expect(0).json();
    assert!(rebuilt["index_rebuilt"].is_string(), "{rebuilt}");
    assert!(!vault.home().join("index.old").exists());
    assert!(!vault.home().join("state.snapshot.old").exists());
    vault.issue().expect(0);
    vault.export().expect(0);
}

#[test]
fn a_pipe_or_a_link_in_place_of_a_file_of_the_home_is_neither_waited_for_nor_followed() {
    let (vault, mut hq) = (Vault::new(), Hq::new(1));
    vault.enrol(&mut hq, 3);
    vault.request("a.csr", "A1", 11);
    vault.issue().expect(0);
    let issue = vault.issue_arguments();
    let issue: Vec<&str> = issue.iter().map(String::as_str).collect();
    let segment = format!("log/{}", log(&vault).file_name().unwrap().display());
    for (name, exit, code, is_read) in [
        ("state.snapshot", 3, "STORAGE-IO", true),
        ("index/lock", 3, "STORAGE-IO", false),
        (&segment, 4, "LOG-CORRUPT", true),
        ("lock", 4, "HOME-CORRUPT", false),
    ] {
        let (path, kept) = (vault.home().join(name), vault.path("kept"));
        fs::rename(&path, &kept).unwrap();
        let bytes = fs::read(&kept).unwrap();
        for make in [&|| make_pipe(&path), &|| {
            symlink(&kept, &path).unwrap() as _
        }] as [&dyn Fn(); 2]
        {
            make();
            let run = promptly(&vault, &issue).expect(exit);
            assert_eq!(run.errors(), [code], "{name}");
            let status = promptly(&vault, &["status"]);
            assert_eq!(status.code, Some(if is_read { exit } else { 0 }), "{name}");
            assert_eq!(fs::read(&kept).unwrap(), bytes, "{name}");
            fs::remove_file(&path).unwrap();
        }
        fs::rename(&kept, &path).unwrap();
        vault.issue().expect(0);
    }
}

#[test]
fn a_pipe_or_a_device_is_no_request_and_gives_no_row() {
    let (vault, mut hq) = (Vault::new(), Hq::new(1));
    vault.enrol(&mut hq, 1);
    let pipe = vault.path("pipe.csr");
    make_pipe(&pipe);
    let output = vault.path("out");
    for csr in [pipe.to_str().unwrap(), "/dev/null"] {
        let arguments = ["issue", "--product", "TH-200", "--csr", csr, "--output"];
        let arguments = [&arguments[..], &[output.to_str().unwrap()]].concat();
        let run = promptly(&vault, &arguments).expect(3);
        assert_eq!(run.errors(), ["CSR-NOT-A-FILE"]);
        assert_eq!(run.out, "");
    }
    assert_eq!(vault.status()["accounts"][0]["unspent"], json!(1));
}
