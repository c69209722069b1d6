//! Records with something strange in them: the rest comes back, and each thing is named.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use serde_json::Value;

use super::forgotten::{edit, lost, record};
use super::{SQLITE, comes_back, reported};
use crate::support::{Hq, csr};

pub(super) fn only(folder: &Path, has: &str) -> PathBuf {
    let mut found = fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path());
    found
        .find(|path| path.file_name().unwrap().to_str().unwrap().contains(has))
        .unwrap()
}

/// Recovers, with something missing: its code and what follows from it, by what it is.
fn incomplete(hq: &Hq, what: &str) -> Vec<(String, String)> {
    let run = hq.run(&["recover"]);
    assert!([0, 1].contains(&run.exit), "{}{}", run.stdout, run.stderr);
    let found = lost(&run.json()).into_iter();
    found
        .filter(|(of, ..)| of.contains(what))
        .map(|(_, code, then)| (code, then))
        .collect()
}

fn pair(code: &str, then: &str) -> (String, String) {
    (code.to_owned(), then.to_owned())
}

#[test]
fn what_is_no_file_of_the_record_is_named_and_the_rest_comes_back() {
    let hq = reported();
    let drafts = record(&hq).join("drafts");
    std::os::unix::fs::symlink("/nowhere", drafts.join("x.cose")).unwrap();
    let large = fs::File::create(drafts.join("y.cose")).unwrap();
    large.set_len((64 << 20) + 1).unwrap();
    let run = hq.run(&["recover"]);
    let mut named = lost(&run.json());
    named.sort();
    let named: Vec<_> = named
        .iter()
        .map(|(what, code, _)| (what.as_str(), code.as_str()))
        .collect();
    let expected = [
        ("drafts/x.cose", "RECORD-UNREADABLE"),
        ("drafts/y.cose", "RECORD-UNREADABLE"),
    ];
    assert_eq!((run.exit, named.as_slice()), (1, &expected[..]));
    hq.export();
}

#[test]
fn evidence_that_is_missing_is_named_with_its_vault() {
    let hq = Hq::new();
    let mut vault = hq.vault("berlin");
    vault.issue("TH-200", &csr("A0", 0));
    vault.report(&hq.path("one"));
    vault.issue("TH-200", &csr("A1", 1));
    let second = vault.report(&hq.path("two"));
    let (_, outcome, _) = hq.import_one(&second);
    assert_eq!(outcome, "held");
    comes_back(&hq);
    let evidence = only(&record(&hq).join("evidence/berlin_v1"), ".cose");
    fs::remove_file(&evidence).unwrap();
    let named = incomplete(&hq, "evidence/berlin_v1/");
    assert_eq!(named, [pair("RECORD-MISSING", "ask-for-evidence")]);
}

#[test]
fn an_officer_of_whom_no_line_speaks_is_listed_as_in_the_manifest_and_named() {
    let hq = Hq::new();
    hq.add_officer("bob");
    hq.publish_trust(2, &["alice"], &[]);
    edit(&hq, |line| {
        (!line.contains(" listed bob ")).then(|| line.to_owned())
    });
    for name in SQLITE {
        let _ = fs::remove_file(hq.path("home").join(name));
    }
    assert_eq!(
        incomplete(&hq, "officers"),
        [pair("OFFICERS-UNNOTED", "list-officers")]
    );
    let listed: Value = hq.run(&["officer", "list"]).json();
    assert!(listed.to_string().contains("bob"), "{listed}");
}

#[test]
fn what_builds_on_what_comes_later_waits_for_it() {
    let hq = reported();
    fs::remove_file(record(&hq).join("times")).unwrap();
    // As by a copy: the draft of an entitlement is older than that of its vault's enrolment.
    let draft = only(&record(&hq).join("drafts"), "draft-demo-1");
    let file = fs::File::options().write(true).open(draft).unwrap();
    file.set_modified(SystemTime::UNIX_EPOCH + Duration::from_secs(1))
        .unwrap();
    let before = hq.run(&["reconcile"]).json();
    assert_eq!(
        incomplete(&hq, ""),
        [pair("OFFICERS-UNNOTED", "list-officers")]
    );
    assert_eq!(
        hq.run(&["reconcile"]).json()["accounts"],
        before["accounts"]
    );
}

#[test]
fn a_dispatch_that_was_kept_and_never_left_is_left_out() {
    let hq = reported();
    let sent = record(&hq).join("sent/berlin_v1");
    let found = fs::read_dir(&sent).unwrap();
    let newest = found.map(|entry| entry.unwrap().path()).max().unwrap();
    // As if whoever sealed it had been killed before the registry had it: that of before is there.
    let name = newest.file_name().unwrap().to_str().unwrap().to_owned();
    let run = hq.run(&["recover"]);
    assert_eq!(run.exit, 0, "{}", run.stdout);
    edit(&hq, |line| {
        (!line.contains(&format!("berlin_v1/{name}"))).then(|| line.to_owned())
    });
    // The registry has it: it counts, line or no line.
    let run = hq.run(&["recover"]);
    assert_eq!(
        (run.exit, run.json()["rows"]["dispatches"].clone()),
        (0, Value::from(5))
    );
    let sql = rusqlite::Connection::open(hq.path("home/registry.sqlite")).unwrap();
    sql.execute(
        "DELETE FROM dispatches WHERE rowid = (SELECT MAX(rowid) FROM dispatches)",
        [],
    )
    .unwrap();
    drop(sql);
    fs::remove_file(record(&hq).join("reached")).unwrap();
    let named = incomplete(&hq, &name);
    assert_eq!(named, [pair("DISPATCH-UNSENT", "nothing")]);
    let run = hq.run(&["recover"]);
    assert_eq!(
        (run.exit, run.json()["rows"]["dispatches"].clone()),
        (0, Value::from(4))
    );
    hq.export();
    assert_eq!(hq.run(&["recover"]).exit, 0);
}

/// The drafts of orders, and where each stands.
pub(super) fn orders(hq: &Hq) -> Vec<(String, String)> {
    let sql = rusqlite::Connection::open(hq.path("home/registry.sqlite")).unwrap();
    let query =
        "SELECT fingerprint, state FROM drafts WHERE kind = 'revocation' ORDER BY fingerprint";
    let mut statement = sql.prepare(query).unwrap();
    let rows = statement.query_map([], |row| Ok((row.get(0)?, row.get(1)?)));
    rows.unwrap().map(Result::unwrap).collect()
}

#[test]
fn of_two_drafts_of_which_no_line_speaks_the_newer_one_is_open_whatever_their_files_say() {
    let hq = reported();
    let draft = |name: &str| {
        let file = hq.path(name);
        let revoke = ["device", "revoke", "A0", "--reason", name];
        let run = hq.run(&[&revoke[..], &["--output", file.to_str().unwrap()]].concat());
        assert_eq!(run.exit, 0, "{}", run.stderr);
        file
    };
    let first = draft("first");
    let approval = hq.sign("alice", &first);
    let run = hq.run(&["approval", "import", approval.to_str().unwrap()]);
    assert_eq!(run.exit, 0, "{}", run.stderr);
    // A draft bears the second in which it was made.
    std::thread::sleep(Duration::from_millis(1100));
    draft("second");
    let before = orders(&hq);
    let mut states: Vec<_> = before.iter().map(|(_, state)| state.as_str()).collect();
    states.sort_unstable();
    assert_eq!(states, ["open", "superseded"]);
    let (superseded, _) = before
        .iter()
        .find(|(_, state)| state == "superseded")
        .unwrap();
    let file = only(&record(&hq).join("drafts"), &superseded[..16]);
    let file = fs::File::options().write(true).open(file).unwrap();
    let later = SystemTime::now() + Duration::from_secs(3600);
    file.set_modified(later).unwrap();
    // Of neither there is a line, or of that which gave way alone there is none.
    let times = record(&hq).join("times");
    let whole = fs::read_to_string(&times).unwrap();
    for all in [true, false] {
        edit(&hq, |line| {
            let is_gone = all || line.contains(&superseded[..16]);
            (!is_gone).then(|| line.to_owned())
        });
        let run = hq.run(&["recover"]);
        assert!([0, 1].contains(&run.exit), "{}", run.stderr);
        assert_eq!(orders(&hq), before);
        fs::write(&times, &whole).unwrap();
    }
}
