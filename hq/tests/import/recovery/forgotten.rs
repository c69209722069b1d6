//! What did not come back is not forgotten in silence: it is named, and nothing goes out before officers have declared it.

use std::fs;
use std::path::{Path, PathBuf};

use mintmark_protocol::identifier::Fingerprint;
use serde_json::Value;

use super::{SQLITE, reported};
use crate::orders::seal;
use crate::support::{Hq, csr};

pub(super) fn record(hq: &Hq) -> PathBuf {
    hq.path("home/record")
}

/// Takes every file of the record whose path has this in it away, with the lines that speak of it.
fn forget(hq: &Hq, part: &str) {
    fn walk(folder: &Path, root: &Path, part: &str) {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            let within = path.strip_prefix(root).unwrap().to_str().unwrap();
            if path.is_dir() {
                walk(&path, root, part);
            } else if within.contains(part) {
                fs::remove_file(&path).unwrap();
            }
        }
    }
    let record = record(hq);
    walk(&record, &record, part);
    edit(hq, |line| (!line.contains(part)).then(|| line.to_owned()));
}

/// Changes `record/times` line by line.
pub(super) fn edit(hq: &Hq, change: impl Fn(&str) -> Option<String>) {
    let times = record(hq).join("times");
    let text = fs::read_to_string(&times).unwrap();
    let lines = text.lines().filter_map(change);
    let lines: Vec<_> = lines.map(|line| line + "\n").collect();
    fs::write(times, lines.concat()).unwrap();
}

/// Takes the registry away, and the mark of how far it was.
pub(super) fn lose_registry(hq: &Hq) {
    for name in SQLITE {
        let _ = fs::remove_file(hq.path("home").join(name));
    }
    let _ = fs::remove_file(record(hq).join("reached"));
}

/// Copies a folder.
pub(super) fn copy(from: &Path, to: &Path) {
    fs::create_dir(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let path = entry.unwrap().path();
        let to = to.join(path.file_name().unwrap());
        if path.is_dir() {
            copy(&path, &to);
        } else {
            fs::copy(&path, to).unwrap();
        }
    }
}

/// What was not had back: each thing, its code, and what follows from it.
pub(super) fn lost(json: &Value) -> Vec<(String, String, String)> {
    let lost = json["not_recovered"].as_array().unwrap().iter();
    lost.map(|lost| {
        let text = |name: &str| lost[name].as_str().unwrap().to_owned();
        (text("what"), text("code"), text("then"))
    })
    .collect()
}

/// Recovers, and headquarters counts as restored: nothing goes out, also when it is done again.
pub(super) fn forgetful(hq: &Hq) -> Vec<(String, String, String)> {
    let mut named = Vec::new();
    for again in 0..2 {
        let run = hq.run(&["recover"]);
        let code = run.error_code();
        assert_eq!(
            (run.exit, code.as_str()),
            (1, "RECOVERY-INCOMPLETE"),
            "{}",
            run.stdout
        );
        assert_eq!(run.json()["counts_as_restored"], true);
        if again == 0 {
            named = lost(&run.json());
        }
        let stick = hq.path("stick");
        let run = hq.run(&["media", "export", stick.to_str().unwrap()]);
        let code = run.error_code();
        assert_eq!((run.exit, code.as_str()), (2, "RESTORE-UNDECLARED"));
    }
    named
}

pub(super) fn names(lost: &[(String, String, String)], what: &str, code: &str) -> bool {
    lost.iter()
        .any(|(of, is, then)| of.contains(what) && is == code && then == "declare")
}

#[test]
fn a_dispatch_that_only_the_registry_or_its_mark_knew_is_not_numbered_again() {
    for registry_is_there in [true, false] {
        let hq = reported();
        let whole = hq.path("whole");
        copy(&record(&hq), &whole);
        let sent = fs::read_dir(record(&hq).join("sent/berlin_v1")).unwrap();
        let newest = sent.map(|entry| entry.unwrap().path()).max().unwrap();
        let newest = newest.file_name().unwrap().to_str().unwrap().to_owned();
        forget(&hq, &format!("sent/berlin_v1/{newest}"));
        if !registry_is_there {
            for name in SQLITE {
                let _ = fs::remove_file(hq.path("home").join(name));
            }
        }
        let named = forgetful(&hq);
        let what = if registry_is_there {
            newest.as_str()
        } else {
            "reached/dispatches"
        };
        assert!(names(&named, what, "NOT-RECOVERED"), "{named:?}");
        // Put back, it is all there.
        let dispatch = format!("sent/berlin_v1/{newest}");
        fs::copy(whole.join(&dispatch), record(&hq).join(&dispatch)).unwrap();
        fs::copy(whole.join("times"), record(&hq).join("times")).unwrap();
        let run = hq.run(&["recover"]);
        assert_eq!(run.exit, 0, "{}{}", run.stdout, run.stderr);
        assert!(!record(&hq).join("forgotten").exists());
        hq.export();
    }
}

#[test]
fn a_record_without_its_trust_manifest_takes_no_registrys_place() {
    let hq = reported();
    let registry = hq.path("home/registry.sqlite");
    let (before, aside) = (fs::read(&registry).unwrap(), hq.path("aside"));
    for only in [None, Some("trust")] {
        let gone = only.map_or_else(|| record(&hq), |only| record(&hq).join(only));
        fs::rename(&gone, &aside).unwrap();
        fs::create_dir(&gone).unwrap();
        let run = hq.run(&["recover"]);
        let code = run.error_code();
        assert_eq!(
            (run.exit, code.as_str()),
            (4, "TRUST-UNRECOVERED"),
            "{}",
            run.stdout
        );
        assert_eq!(fs::read(&registry).unwrap(), before);
        assert!(!hq.path("home/restored.toml").exists());
        let _ = fs::remove_dir_all(&gone);
        fs::rename(&aside, &gone).unwrap();
    }
    assert_eq!(hq.run(&["recover"]).exit, 0);
}

#[test]
fn a_bundle_that_a_dispatch_acknowledges_is_missed_though_nothing_else_speaks_of_it() {
    let hq = reported();
    forget(&hq, "received/berlin_v1");
    lose_registry(&hq);
    let named = forgetful(&hq);
    assert!(
        names(&named, "sent/berlin_v1/", "BUNDLE-FORGOTTEN"),
        "{named:?}"
    );
}

#[test]
fn a_trust_manifest_that_a_vault_follows_is_missed_though_nothing_else_speaks_of_it() {
    let hq = Hq::new();
    let mut vault = hq.vault("berlin");
    hq.publish_trust(2, &["alice"], &[]);
    hq.export();
    vault.follow(&hq.path("stick/mintmark"), 2);
    vault.issue("TH-200", &csr("A0", 0));
    let stick = vault.report(&hq.path("one"));
    assert_eq!(hq.import(&stick).0, 0);
    forget(&hq, "trust-000002");
    lose_registry(&hq);
    let named = forgetful(&hq);
    assert!(
        names(&named, "trust/trust-000002.cose", "TRUST-FORGOTTEN"),
        "{named:?}"
    );
}

#[test]
fn what_was_revoked_is_missed_and_stays_on_the_roots_crl() {
    let hq = Hq::new();
    let serials = |hq: &Hq| {
        let listed = hq.run(&["ca", "list"]).json();
        let all = listed["certificates"].as_array().unwrap().clone();
        all.iter().filter(|row| row["crl"]["revoked"] == 1).count()
    };
    seal(
        &hq,
        &["site", "revoke", "berlin", "--device-ca", "1"],
        &["alice"],
    );
    assert_eq!(serials(&hq), 1);
    let sent = fs::read_dir(record(&hq).join("sent/berlin_v1")).unwrap();
    let newest = sent.map(|entry| entry.unwrap().path()).max().unwrap();
    forget(&hq, newest.file_name().unwrap().to_str().unwrap());
    lose_registry(&hq);
    let named = forgetful(&hq);
    assert!(
        names(&named, "ca/crl-root.der, serial ", "REVOCATION-FORGOTTEN"),
        "{named:?}"
    );
}

#[test]
fn a_decision_that_no_object_bears_out_is_missed_when_its_line_is_damaged() {
    let check = |line: &str| {
        let digest = Fingerprint::of(line.as_bytes()).to_string();
        digest.chars().take(16).collect::<String>()
    };
    let hq = reported();
    hq.add_officer("bob");
    assert_eq!(
        hq.run(&["officer", "remove", "bob", "--confirm", "bob"])
            .exit,
        0
    );
    let times = record(&hq).join("times");
    let whole = fs::read_to_string(&times).unwrap();
    assert_eq!(hq.run(&["recover"]).exit, 0);
    // One letter of it is another.
    let number = 1 + whole
        .lines()
        .position(|line| line.contains(" removed bob "))
        .unwrap();
    fs::write(&times, whole.replace(" removed bob ", " removed cob ")).unwrap();
    let named = forgetful(&hq);
    assert!(
        names(&named, &format!("times, line {number}"), "TIMES-DAMAGED"),
        "{named:?}"
    );
    // An order that its vault was not told of, and of which nothing is left.
    let line = format!("1 untold {}", Fingerprint::of(b"gone"));
    fs::write(&times, format!("{whole}{line} {}\n", check(&line))).unwrap();
    let named = forgetful(&hq);
    assert!(names(&named, "untold/", "HOME-CORRUPT"), "{named:?}");
    // What was cut off while it was written says nothing, and nothing was done that depends on it.
    for cut in ["", "\n"] {
        fs::write(&times, format!("{whole}1 removed al{cut}")).unwrap();
        let run = hq.run(&["recover"]);
        assert_eq!(run.exit, 0, "{}", run.stdout);
    }
}

#[test]
fn what_officers_have_declared_is_not_demanded_of_them_again() {
    let hq = reported();
    forget(&hq, "received/berlin_v1");
    forgetful(&hq);
    let file = hq.path("epoch.cose");
    let run = hq.run(&["trust", "epoch", "--output", file.to_str().unwrap()]);
    assert_eq!(run.exit, 0, "{}", run.stderr);
    let approval = hq.sign("alice", &file);
    let run = hq.run(&["approval", "import", approval.to_str().unwrap()]);
    assert_eq!(run.exit, 0, "{}", run.stderr);
    let stick = hq.path("stick");
    let run = hq.run(&["trust", "publish", "--media", stick.to_str().unwrap()]);
    assert_eq!(run.exit, 0, "{}", run.stderr);
    hq.export();
    for _ in 0..2 {
        let run = hq.run(&["recover"]);
        assert_eq!(run.exit, 0, "{}{}", run.stdout, run.stderr);
        assert_eq!(run.json()["counts_as_restored"], false);
        assert!(!lost(&run.json()).is_empty());
        hq.export();
    }
    // What is missing besides is.
    forget(&hq, "received/");
    let sent = fs::read_dir(record(&hq).join("sent/lyon_v1")).unwrap();
    let newest = sent.map(|entry| entry.unwrap().path()).max().unwrap();
    fs::remove_file(newest).unwrap();
    let named = forgetful(&hq);
    assert!(
        names(&named, "sent/lyon_v1/", "RECORD-MISSING"),
        "{named:?}"
    );
}
