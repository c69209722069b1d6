//! `hq recover`: a registry that is lost, older than the record, or broken is made again, and says the same as before.

use std::fs;
use std::path::Path;

use rusqlite::Connection;
use rusqlite::types::Value as Sql;
use serde_json::Value;

use super::support::{Hq, csr, run_in};

mod beside;
mod forgotten;
mod interrupted;
mod odd;

/// Every table of a registry, row by row, without what SQLite numbers by itself.
fn content(home: &Path) -> Vec<(String, Vec<String>)> {
    let sql = Connection::open(home.join("registry.sqlite")).unwrap();
    let names = |query: &str| -> Vec<String> {
        let mut statement = sql.prepare(query).unwrap();
        let rows = statement.query_map([], |row| row.get(0)).unwrap();
        rows.map(Result::unwrap).collect()
    };
    let tables = names("SELECT name FROM sqlite_master WHERE type = 'table' ORDER BY name");
    let mut found = Vec::new();
    for table in tables {
        let columns = names(&format!("SELECT name FROM pragma_table_info('{table}')"));
        let own = |column: &&String| {
            !matches!(
                (table.as_str(), column.as_str()),
                ("findings", "id")
                    | ("finding_serials", "finding")
                    | ("restores", "tail_parts" | "tail_key")
            )
        };
        let columns: Vec<&str> = columns.iter().filter(own).map(String::as_str).collect();
        let query = format!("SELECT {} FROM {table}", columns.join(", "));
        let mut statement = sql.prepare(&query).unwrap();
        let mut rows = statement.query([]).unwrap();
        let mut listed = Vec::new();
        while let Some(row) = rows.next().unwrap() {
            let values = (0..columns.len()).map(|at| {
                let value: Sql = row.get(at).unwrap();
                format!("{}={value:?}", columns[at])
            });
            listed.push(values.collect::<Vec<_>>().join(" "));
        }
        listed.sort();
        found.push((table, listed));
    }
    found
}

/// What is not the same.
fn differences(before: &[(String, Vec<String>)], after: &[(String, Vec<String>)]) -> String {
    let mut text = String::new();
    for ((table, before), (_, after)) in before.iter().zip(after) {
        for row in before.iter().filter(|row| !after.contains(row)) {
            text += &format!("- {table}: {}\n", row.chars().take(600).collect::<String>());
        }
        for row in after.iter().filter(|row| !before.contains(row)) {
            text += &format!("+ {table}: {}\n", row.chars().take(600).collect::<String>());
        }
    }
    text
}

/// Takes the registry away and has it made again: it is the same, row by row.
pub(crate) fn comes_back(hq: &Hq) -> Value {
    let home = hq.path("home");
    let before = content(&home);
    for name in [
        "registry.sqlite",
        "registry.sqlite-wal",
        "registry.sqlite-shm",
    ] {
        let _ = fs::remove_file(home.join(name));
    }
    let run = hq.run(&["recover"]);
    assert_eq!(run.exit, 0, "{}{}", run.stdout, run.stderr);
    let after = content(&home);
    let differences = differences(&before, &after);
    assert!(differences.is_empty(), "{differences}{}", run.stdout);
    run.json()
}

#[test]
fn a_registry_that_is_lost_is_made_again_row_by_row() {
    let hq = Hq::new();
    let mut vault = hq.vault("berlin");
    vault.issue("TH-200", &csr("A0", 0));
    let stick = vault.report(&hq.path("one"));
    assert_eq!(hq.import(&stick).0, 0);
    hq.export();
    comes_back(&hq);
}

const SQLITE: [&str; 3] = [
    "registry.sqlite",
    "registry.sqlite-wal",
    "registry.sqlite-shm",
];

/// What is said of everything, by commands that only look.
fn said(hq: &Hq) -> Vec<Value> {
    let commands = [
        &["reconcile"][..],
        &["trust", "show"],
        &["officer", "list"],
        &["approval", "list"],
        &["site", "list"],
        &["site", "show", "berlin"],
        &["entitlement", "list"],
        &["audit", "list"],
        &["ca", "list"],
        &["device", "show", "A0"],
    ];
    let run = |command: &&[&str]| {
        let run = hq.run(command);
        assert!([0, 1].contains(&run.exit), "{command:?}: {}", run.stderr);
        run.json()
    };
    commands.iter().map(run).collect()
}

/// A headquarters with a unit of berlin, imported and acknowledged.
fn reported() -> Hq {
    let hq = Hq::new();
    let mut vault = hq.vault("berlin");
    vault.issue("TH-200", &csr("A0", 0));
    let stick = vault.report(&hq.path("one"));
    assert_eq!(hq.import(&stick).0, 0);
    hq.export();
    hq
}

#[test]
fn a_registry_that_is_broken_or_old_is_noticed_and_the_way_out_is_named() {
    let hq = Hq::new();
    let home = hq.path("home");
    let file = home.join("registry.sqlite");
    let old = fs::read(&file).unwrap();
    let mut vault = hq.vault("berlin");
    vault.issue("TH-200", &csr("A0", 0));
    let stick = vault.report(&hq.path("one"));
    assert_eq!(hq.import(&stick).0, 0);
    hq.export();
    let (before, said_before) = (content(&home), said(&hq));
    let whole = fs::read(&file).unwrap();
    let mut torn = whole.clone();
    torn[0] ^= 1;
    let cases = [
        (None, "HOME-CORRUPT"),
        (Some(Vec::new()), "HOME-CORRUPT"),
        (Some(torn), "REGISTRY-CORRUPT"),
        (Some(whole[..50].to_vec()), "REGISTRY-CORRUPT"),
        (
            Some(whole[..whole.len() - 4096].to_vec()),
            "REGISTRY-CORRUPT",
        ),
        (Some(old), "REGISTRY-STALE"),
    ];
    for (bytes, code) in cases {
        for name in SQLITE {
            let _ = fs::remove_file(home.join(name));
        }
        if let Some(bytes) = &bytes {
            fs::write(&file, bytes).unwrap();
        }
        for command in [
            &["site", "list"][..],
            &["media", "export", stick.to_str().unwrap()],
        ] {
            let run = hq.run(command);
            assert_eq!((run.exit, run.error_code().as_str()), (4, code));
            assert!(run.stderr.contains("hq recover"), "{}", run.stderr);
        }
        // To look first puts nothing into place.
        let looked = hq.run(&["recover", "--dry-run"]);
        assert_eq!(looked.exit, 0, "{}", looked.stderr);
        assert_eq!(fs::read(&file).ok(), bytes);
        let run = hq.run(&["recover"]);
        assert_eq!(run.exit, 0, "{}", run.stderr);
        let run = run.json();
        assert_eq!(run["rows"], looked.json()["rows"]);
        assert_eq!(run["not_recovered"], Value::Array(Vec::new()));
        // What was there is beside it.
        let kept = run["replaced"].as_str().map(Path::new);
        let kept = kept.map(|kept| fs::read(kept.join("registry.sqlite")).unwrap());
        assert_eq!(kept, bytes);
        assert_eq!(differences(&before, &content(&home)), "");
        assert_eq!(said(&hq), said_before);
    }
}

#[test]
fn an_older_registry_is_noticed_though_it_lacks_no_more_than_what_comes_and_goes() {
    let hq = Hq::new();
    hq.add_officer("bob");
    // Two copies of one vault, of which one is refused.
    let (mut vault, mut forger) = (hq.vault("berlin"), hq.vault("berlin"));
    vault.issue("TH-200", &csr("A0", 0));
    assert_eq!(hq.import(&vault.report(&hq.path("one"))).0, 0);
    forger.issue("TH-200", &csr("A9", 9));
    let forged = forger.report(&hq.path("forged"));
    let home = hq.path("home");
    let bytes = |name: &str| fs::read(home.join(name)).unwrap();
    let remove = || {
        hq.run(&["officer", "remove", "bob", "--confirm", "bob"])
            .exit
    };
    let refuse = || hq.import(&forged).0;
    // What was granted is open again, as it has too few approvals from then on.
    let reopen = || {
        hq.publish_trust(2, &["alice"], &["enrol=2"]);
        0
    };
    let steps: [(&dyn Fn() -> i32, i32); 3] = [(&reopen, 0), (&remove, 0), (&refuse, 4)];
    for (step, exit) in steps {
        let before = bytes("registry.sqlite");
        assert_eq!(step(), exit);
        let whole = content(&home);
        for name in SQLITE {
            let _ = fs::remove_file(home.join(name));
        }
        fs::write(home.join("registry.sqlite"), before).unwrap();
        let run = hq.run(&["site", "list"]);
        assert_eq!((run.exit, run.error_code().as_str()), (4, "REGISTRY-STALE"));
        let run = hq.run(&["recover"]);
        assert_eq!(run.exit, 0, "{}{}", run.stdout, run.stderr);
        assert_eq!(differences(&whole, &content(&home)), "");
    }
}

#[test]
fn what_the_record_lacks_is_named_and_nothing_goes_out_before_that_is_declared() {
    let hq = reported();
    let home = hq.path("home");
    let only = |folder: &str, end: &str| {
        let found = fs::read_dir(home.join("record").join(folder)).unwrap();
        let mut found = found.map(|entry| entry.unwrap().path());
        found
            .find(|path| path.to_str().unwrap().ends_with(end))
            .unwrap()
    };
    let bundle = only("received/berlin_v1", ".cose");
    let whole = fs::read(&bundle).unwrap();
    let mut changed = whole.clone();
    *changed.last_mut().unwrap() ^= 1;
    let stick = hq.path("stick");
    let export = ["media", "export", stick.to_str().unwrap()];
    for (bytes, code) in [
        (None, "RECORD-MISSING"),
        (Some(changed), "SIGNATURE-INVALID"),
    ] {
        match &bytes {
            None => fs::remove_file(&bundle).unwrap(),
            Some(bytes) => fs::write(&bundle, bytes).unwrap(),
        }
        let run = hq.run(&["recover"]);
        assert_eq!(
            (run.exit, run.error_code().as_str()),
            (1, "RECOVERY-INCOMPLETE")
        );
        let json = run.json();
        let lost = &json["not_recovered"][0];
        assert_eq!(
            (lost["code"].as_str(), lost["then"].as_str()),
            (Some(code), Some("declare"))
        );
        let what = lost["what"].as_str().unwrap();
        assert!(bundle.ends_with(what), "{what}");
        assert_eq!(json["counts_as_restored"], true);
        let run = hq.run(&export);
        assert_eq!(
            (run.exit, run.error_code().as_str()),
            (2, "RESTORE-UNDECLARED")
        );
        let _ = fs::remove_file(&bundle);
    }
    fs::write(&bundle, &whole).unwrap();
    let run = hq.run(&["recover"]);
    assert_eq!(run.exit, 0, "{}", run.stderr);
    assert_eq!(hq.run(&export).exit, 0);
}

#[test]
fn a_home_of_before_there_were_times_comes_back_by_those_of_its_files() {
    let hq = reported();
    fs::remove_file(hq.path("home/record/times")).unwrap();
    let before = hq.run(&["reconcile"]).json();
    let run = hq.run(&["recover"]);
    assert_eq!(
        (run.exit, run.error_code().as_str()),
        (1, "RECOVERY-INCOMPLETE")
    );
    let json = run.json();
    assert!(json["untimed"].as_u64().unwrap() > 10, "{json}");
    let codes: Vec<_> = json["not_recovered"].as_array().unwrap().iter().collect();
    assert_eq!(codes.len(), 1, "{json}");
    assert_eq!(codes[0]["code"], "OFFICERS-UNNOTED");
    assert_eq!(
        hq.run(&["reconcile"]).json()["accounts"],
        before["accounts"]
    );
    hq.export();
}

#[test]
fn an_officers_home_has_no_registry_to_be_made_again() {
    let hq = Hq::new();
    let stick = hq.path("stick/mintmark/trust-000001.cose");
    let fingerprint = hq.fingerprint_of(&stick);
    let member = hq.path("member");
    let pin = ["trust", "pin", "--trust", stick.to_str().unwrap()];
    let pin = [&pin[..], &["--fingerprint", &fingerprint]].concat();
    assert_eq!(run_in(&member, &pin).exit, 0);
    let run = run_in(&member, &["recover"]);
    assert_eq!((run.exit, run.error_code().as_str()), (2, "HOME-NOT-HQ"));
    assert!(!member.join("record/times").exists());
}
