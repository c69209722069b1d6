//! What headquarters notes of what it keeps: neither before it lasts, nor after it has left.

use std::fs;
use std::path::Path;

use mintmark_protocol::approval::{PROPOSAL_BYTES_MAX, Proposal};

use super::recovery::comes_back;
use super::support::{Hq, csr};

/// The lines of what was kept whose path begins so.
fn lines(hq: &Hq, path: &str) -> Vec<String> {
    let times = fs::read_to_string(hq.path("home/record/times")).unwrap();
    let begins = format!(" kept {path}");
    let found = times.lines().filter(|line| line.contains(&begins));
    found.map(str::to_owned).collect()
}

fn files(folder: &Path) -> Vec<(String, Vec<u8>)> {
    let entries = fs::read_dir(folder).unwrap().map(Result::unwrap);
    let mut found: Vec<_> = entries
        .map(|entry| {
            let name = entry.file_name().into_string().unwrap();
            (name, fs::read(entry.path()).unwrap())
        })
        .collect();
    found.sort();
    found
}

#[test]
fn what_came_too_early_and_is_accused_later_is_noted_both_times() {
    let hq = Hq::new();
    let mut vault = hq.vault("berlin");
    vault.issue("TH-200", &csr("A0", 0));
    let stick = vault.report(&hq.path("one"));
    assert_eq!(hq.import_one(&stick).0, 0);
    // Two histories: in one of them its second bundle is another.
    vault.issue("TH-200", &csr("A1", 1));
    vault.write_bundle(&hq.path("other"), &|_| {}, 1 << 20);
    vault.issue("TH-200", &csr("A2", 2));
    vault.report(&hq.path("two"));
    vault.issue("TH-200", &csr("A3", 3));
    let third = vault.report(&hq.path("three"));
    let outcome = |stick: &Path| {
        let (_, outcome, code) = hq.import_one(stick);
        (outcome, code.unwrap_or_default())
    };
    let expected = |outcome: &str, code: &str| (outcome.to_owned(), code.to_owned());
    assert_eq!(outcome(&third), expected("held", "BUNDLE-GAP"));
    assert_eq!(lines(&hq, "evidence/").len(), 1);
    assert_eq!(outcome(&hq.path("other")), expected("imported", ""));
    assert_eq!(outcome(&third), expected("refused", "BUNDLE-CHAIN"));
    assert_eq!(lines(&hq, "evidence/").len(), 2);
    comes_back(&hq);
}

#[test]
fn what_a_stick_carries_is_noted_though_whoever_sealed_it_was_killed_before_that() {
    let hq = Hq::new();
    let times = hq.path("home/record/times");
    let whole = lines(&hq, "sent/");
    assert!(whole.len() > 1, "{whole:?}");
    let text = fs::read_to_string(&times).unwrap();
    let kept: String = text
        .split_inclusive('\n')
        .filter(|line| !line.contains(" kept sent/"))
        .collect();
    fs::write(&times, kept).unwrap();
    hq.export();
    let paths = |lines: &[String]| -> Vec<String> {
        let words = lines.iter().map(|line| line.split(' ').skip(2).take(2));
        let mut paths: Vec<_> = words
            .map(|words| words.collect::<Vec<_>>().join(" "))
            .collect();
        paths.sort();
        paths
    };
    assert_eq!(paths(&lines(&hq, "sent/")), paths(&whole));
    // And not once more.
    hq.export();
    assert_eq!(lines(&hq, "sent/").len(), whole.len());
}

#[test]
fn a_draft_whose_file_cannot_be_written_changes_nothing_and_is_not_said_to() {
    let hq = Hq::new();
    let at = |name: &str| hq.path(name).to_str().unwrap().to_owned();
    let policy = fs::read_to_string(hq.path("policy.toml")).unwrap();
    for units in ["6", "7"] {
        let name = format!("policy-{units}.toml");
        let policy = policy.replace("id = \"demo-1\"", "id = \"demo-2\"");
        fs::write(hq.path(&name), format!("{policy}\n# {units}\n")).unwrap();
    }
    let entitlement = |output: &str| {
        let draft = ["entitlement", "draft", "--site", "berlin"];
        let policy = ["--policy", &at("policy-6.toml"), "--output", &at(output)];
        hq.run(&[&draft[..], &policy].concat())
    };
    let trust = |output: &str| {
        let draft = ["trust", "draft", "--threshold", "trust=1"];
        hq.run(&[&draft[..], &["--output", &at(output)]].concat())
    };
    let drafted = entitlement("first.cose");
    assert_eq!(drafted.exit, 0, "{}", drafted.stderr);
    assert_eq!(trust("first-trust.cose").exit, 0);
    let said = |name: &str| hq.run(&[name, "list"]).json();
    let state = || {
        let record = hq.path("home/record");
        let times = fs::read(record.join("times")).unwrap();
        (files(&record.join("drafts")), times, said("approval"))
    };
    let before = state();
    fs::write(hq.path("taken"), b"another's").unwrap();
    // Drafts are told apart by the second in which they are made.
    std::thread::sleep(std::time::Duration::from_millis(1100));
    for run in [entitlement("taken"), trust("taken")] {
        assert_eq!((run.exit, run.error_code().as_str()), (3, "FILE-EXISTS"));
        assert!(!run.stderr.contains("superseded"), "{}", run.stderr);
        assert_eq!(state(), before);
    }
    let run = trust("second-trust.cose");
    assert!(run.stderr.contains("superseded"), "{}", run.stderr);
    assert_eq!(lines(&hq, "drafts/").len(), {
        let times = String::from_utf8(before.1).unwrap();
        let drafts = times.lines().filter(|line| line.contains(" kept drafts/"));
        drafts.count() + 1
    });
    comes_back(&hq);
}

#[test]
fn an_approval_in_the_record_is_that_of_the_officer_whose_file_it_is() {
    let hq = Hq::new();
    hq.add_officer("bob");
    hq.publish_trust(2, &["alice"], &["mint=1"]);
    let draft = hq.path("next.cose");
    let run = ["trust", "draft", "--threshold", "trust=1"];
    let run = hq.run(&[&run[..], &["--output", draft.to_str().unwrap()]].concat());
    assert_eq!(run.exit, 0, "{}", run.stderr);
    let id = run.json()["id"].as_str().unwrap().to_owned();
    let (alice, bob) = (hq.sign("alice", &draft), hq.sign("bob", &draft));
    let run = hq.run(&["approval", "import", alice.to_str().unwrap()]);
    assert_eq!(run.exit, 0, "{}", run.stderr);
    let read = |path: &Path| Proposal::read(&fs::read(path).unwrap(), PROPOSAL_BYTES_MAX).unwrap();
    let mut both = read(&alice);
    both.collect(&read(&bob)).unwrap();
    let folder = hq.path("home/record/approvals");
    let kept = files(&folder);
    let begins = format!("approval-{id}-");
    let (name, _) = kept
        .iter()
        .find(|(name, _)| name.starts_with(&begins))
        .unwrap();
    fs::write(folder.join(name), both.to_bytes().unwrap()).unwrap();
    hq.run(&["recover"]);
    let list = hq.run(&["approval", "list"]).json();
    let drafts = list["drafts"].as_array().unwrap();
    let listed = drafts.iter().find(|draft| draft["id"] == *id).unwrap();
    assert_eq!(listed["approvers"], serde_json::json!(["alice"]));
}

#[test]
fn a_place_for_the_key_of_a_root_is_refused_where_no_manifest_is_drafted() {
    let hq = Hq::new();
    let (stick, keys) = (hq.path("stick"), hq.officer_keys());
    let publish = ["trust", "publish", "--media", stick.to_str().unwrap()];
    let run = hq.run(&[&publish[..], &["--root-keys", &keys]].concat());
    assert_eq!((run.exit, run.error_code().as_str()), (2, "DRAFT-UNKNOWN"));
    assert_eq!(hq.run(&publish).exit, 0);
}
