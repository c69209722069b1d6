//! What a command that was killed left behind: it takes the place of nothing, and whoever made it is told what to do.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use rusqlite::Connection;

use super::forgotten::{copy, edit, lose_registry, lost, names, record};
use super::odd::{only, orders};
use super::{SQLITE, comes_back, content, differences, reported};
use crate::orders::seal;
use crate::support::Hq;

/// Keeps the home as it is.
fn keep(hq: &Hq) -> PathBuf {
    let kept = hq.path("kept-home");
    let _ = fs::remove_dir_all(&kept);
    copy(&hq.path("home"), &kept);
    kept
}

/// Puts what a command that was killed before its transaction was over had not changed yet back.
fn uncommit(hq: &Hq, kept: &Path) {
    let home = hq.path("home");
    for name in SQLITE {
        let _ = fs::remove_file(home.join(name));
    }
    for name in ["registry.sqlite", "record/times", "record/reached"] {
        fs::copy(kept.join(name), home.join(name)).unwrap();
    }
}

/// Drafts the revocation of a device; where it is.
fn draft(hq: &Hq, reason: &str) -> PathBuf {
    let file = hq.path(&format!("{reason}.draft"));
    let revoke = ["device", "revoke", "A0", "--reason", reason];
    let run = hq.run(&[&revoke[..], &["--output", file.to_str().unwrap()]].concat());
    assert_eq!(run.exit, 0, "{}", run.stderr);
    file
}

#[test]
fn a_draft_whose_command_was_killed_before_it_was_made_takes_no_other_drafts_place() {
    let hq = reported();
    draft(&hq, "first");
    let before = orders(&hq);
    let kept = keep(&hq);
    std::thread::sleep(Duration::from_millis(1100));
    draft(&hq, "second");
    uncommit(&hq, &kept);
    // With the registry, and without.
    for is_lost in [false, true] {
        if is_lost {
            for name in SQLITE {
                fs::remove_file(hq.path("home").join(name)).ok();
            }
        }
        let run = hq.run(&["recover"]);
        assert_eq!(run.exit, 0, "{}{}", run.stdout, run.stderr);
        let named = lost(&run.json());
        let [(what, code, then)] = &named[..] else {
            panic!("{named:?}");
        };
        assert!(what.starts_with("drafts/draft-"), "{what}");
        assert_eq!((&**code, &**then), ("DRAFT-UNMADE", "nothing"));
        assert_eq!(orders(&hq), before);
    }
    // Somebody approved it: then it was made, whatever was noted.
    let file = hq.path("second.draft");
    fs::remove_file(&file).unwrap();
    std::thread::sleep(Duration::from_millis(1100));
    draft(&hq, "second");
    let approval = hq.sign("alice", &file);
    assert_eq!(
        hq.run(&["approval", "import", approval.to_str().unwrap()])
            .exit,
        0
    );
    let after = orders(&hq);
    let open = after.iter().find(|(_, state)| state == "open").unwrap();
    edit(&hq, |line| {
        let is_gone = line.contains(" kept drafts/") && line.contains(&open.0[..16]);
        (!is_gone).then(|| line.to_owned())
    });
    for name in SQLITE {
        fs::remove_file(hq.path("home").join(name)).ok();
    }
    let run = hq.run(&["recover"]);
    assert_eq!(run.exit, 0, "{}{}", run.stdout, run.stderr);
    assert_eq!(orders(&hq), after);
}

#[test]
fn a_revocation_whose_grant_was_killed_after_the_roots_crl_is_finished_by_the_same_command() {
    let hq = Hq::new();
    let kept = hq.path("before");
    let file = hq.path("order.cose");
    let revoke = [
        "site",
        "revoke",
        "berlin",
        "--device-ca",
        "1",
        "--reason",
        "stolen",
    ];
    let run = hq.run(&[&revoke[..], &["--output", file.to_str().unwrap()]].concat());
    assert_eq!(run.exit, 0, "{}", run.stderr);
    let id = run.json()["id"].as_str().unwrap().to_owned();
    let approval = hq.sign("alice", &file);
    assert_eq!(
        hq.run(&["approval", "import", approval.to_str().unwrap()])
            .exit,
        0
    );
    copy(&hq.path("home"), &kept);
    let sent = || {
        fs::read_dir(record(&hq).join("sent/berlin_v1"))
            .unwrap()
            .count()
    };
    let count = sent();
    let grant = ["site", "grant", &id];
    assert_eq!(hq.run(&grant).exit, 0);
    assert_eq!(sent(), count + 1);
    uncommit(&hq, &kept);
    let what = "ca/crl-root.der, serial ";
    // Killed before the dispatch was written, or after.
    for is_written in [true, false] {
        if !is_written {
            let newest = fs::read_dir(record(&hq).join("sent/berlin_v1")).unwrap();
            let newest = newest.map(|entry| entry.unwrap().path()).max().unwrap();
            fs::remove_file(newest).unwrap();
        }
        for is_lost in [false, true] {
            if is_lost {
                for name in SQLITE {
                    fs::remove_file(hq.path("home").join(name)).ok();
                }
            }
            let run = hq.run(&["recover"]);
            assert_eq!(
                (run.exit, run.error_code().as_str()),
                (1, "RECOVERY-INCOMPLETE")
            );
            assert!(run.stderr.contains("hq site grant"), "{}", run.stderr);
            assert_eq!(run.json()["counts_as_restored"], false);
            let named = lost(&run.json());
            let of_crl = named.iter().find(|(of, ..)| of.starts_with(what)).unwrap();
            assert_eq!(
                (&*of_crl.1, &*of_crl.2),
                ("REVOCATION-UNSEALED", "grant-again")
            );
            let why = &run.json()["not_recovered"];
            assert!(why.to_string().contains(&format!("`{id}`")), "{why}");
        }
    }
    assert_eq!(hq.run(&grant).exit, 0);
    let run = hq.run(&["recover"]);
    assert_eq!((run.exit, lost(&run.json())), (0, vec![]));
    hq.export();
}

#[test]
fn a_revocation_that_may_have_been_sealed_is_missed_though_its_order_is_there() {
    let hq = Hq::new();
    seal(
        &hq,
        &["site", "revoke", "berlin", "--device-ca", "1"],
        &["alice"],
    );
    let sent = fs::read_dir(record(&hq).join("sent/berlin_v1")).unwrap();
    let newest = sent.map(|entry| entry.unwrap().path()).max().unwrap();
    let name = newest.file_name().unwrap().to_str().unwrap().to_owned();
    fs::remove_file(&newest).unwrap();
    edit(&hq, |line| {
        (!line.contains(&format!("berlin_v1/{name}"))).then(|| line.to_owned())
    });
    // The mark knows of the dispatch; and without it, nobody knows.
    for is_marked in [true, false] {
        for name in SQLITE {
            fs::remove_file(hq.path("home").join(name)).ok();
        }
        if !is_marked {
            lose_registry(&hq);
        }
        let run = hq.run(&["recover"]);
        assert_eq!(run.exit, 1, "{}", run.stderr);
        assert_eq!(run.json()["counts_as_restored"], true);
        let named = lost(&run.json());
        assert!(
            names(&named, "ca/crl-root.der, serial ", "REVOCATION-FORGOTTEN"),
            "{named:?}"
        );
    }
}

#[test]
fn what_a_registry_had_beside_its_file_is_in_the_one_that_is_kept() {
    let hq = reported();
    let (home, aside) = (hq.path("home"), hq.path("aside"));
    fs::create_dir(&aside).unwrap();
    // As a command that was killed leaves it: what it wrote last is not in the registry's own file yet.
    let sql = Connection::open(home.join("registry.sqlite")).unwrap();
    sql.pragma_update(None, "wal_autocheckpoint", 0).unwrap();
    sql.execute(
        "INSERT INTO meta (name, value) VALUES ('newest', 'here')",
        [],
    )
    .unwrap();
    for name in SQLITE {
        fs::copy(home.join(name), aside.join(name)).unwrap();
    }
    drop(sql);
    for name in SQLITE {
        let _ = fs::remove_file(home.join(name));
        fs::copy(aside.join(name), home.join(name)).unwrap();
    }
    let run = hq.run(&["recover"]);
    assert_eq!(run.exit, 0, "{}", run.stderr);
    let replaced = PathBuf::from(run.json()["replaced"].as_str().unwrap());
    let alone = hq.path("alone.sqlite");
    fs::copy(replaced.join("registry.sqlite"), &alone).unwrap();
    let sql = Connection::open(alone).unwrap();
    let newest = "SELECT value FROM meta WHERE name = 'newest'";
    let newest: String = sql.query_row(newest, [], |row| row.get(0)).unwrap();
    assert_eq!(newest, "here");
}

#[test]
fn a_dispatch_of_which_no_line_speaks_is_of_the_time_that_headquarters_signed() {
    let hq = Hq::new();
    hq.add_officer("bob");
    // A file's time has whole seconds in it.
    std::thread::sleep(Duration::from_millis(1100));
    // The grant of berlin, which nobody has seen yet, has too few approvals from here on: it is open again.
    hq.publish_trust(2, &["alice"], &["enrol=2"]);
    let home = hq.path("home");
    let before = content(&home);
    let states = |kind: &str| -> Vec<String> {
        let sql = Connection::open(home.join("registry.sqlite")).unwrap();
        let query = "SELECT state FROM drafts WHERE kind = ?1";
        let mut statement = sql.prepare(query).unwrap();
        let rows = statement.query_map([kind], |row| row.get(0)).unwrap();
        rows.map(Result::unwrap).collect()
    };
    assert_eq!(states("enrolment-grant"), ["open", "open"]);
    let first = only(&record(&hq).join("sent/berlin_v1"), "-000001.cose");
    let file = fs::File::options().write(true).open(first).unwrap();
    for seconds in [3600, 0] {
        let time = SystemTime::now() + Duration::from_secs(seconds);
        file.set_modified(time).unwrap();
        edit(&hq, |line| {
            let is_gone = line.contains(" kept sent/berlin_v1/") && line.contains("-000001.cose ");
            (!is_gone).then(|| line.to_owned())
        });
        let run = hq.run(&["recover"]);
        assert_eq!((run.exit, lost(&run.json())), (0, vec![]), "{}", run.stderr);
        assert_eq!(differences(&before, &content(&home)), "");
    }
    comes_back(&hq);
}

#[test]
fn of_two_drafts_the_newer_one_stays_open_though_the_other_one_waited_for_its_manifest() {
    let hq = reported();
    let (keys, file, stick) = (
        hq.keys_of("dispatch-2"),
        hq.path("trust-2.cose"),
        hq.path("stick"),
    );
    let trust = [
        "trust",
        "draft",
        "--dispatch-keys",
        &keys,
        "--threshold",
        "trust=1",
    ];
    let run = hq.run(&[&trust[..], &["--output", file.to_str().unwrap()]].concat());
    assert_eq!(run.exit, 0, "{}", run.stderr);
    let approval = hq.sign("alice", &file);
    assert_eq!(
        hq.run(&["approval", "import", approval.to_str().unwrap()])
            .exit,
        0
    );
    let run = hq.run(&["trust", "publish", "--media", stick.to_str().unwrap()]);
    assert_eq!(run.exit, 0, "{}", run.stderr);
    // Both are signed by the key of the second manifest, of which no line speaks, and whose file is of between them.
    let policy = hq.path("policy-2.toml");
    let text = fs::read_to_string(hq.path("policy.toml")).unwrap();
    fs::write(&policy, text.replace("id = \"demo-1\"", "id = \"demo-2\"")).unwrap();
    let entitle = |name: &str| {
        let file = hq.path(name);
        let draft = ["entitlement", "draft", "--site", "berlin", "--policy"];
        let rest = [policy.to_str().unwrap(), "--output", file.to_str().unwrap()];
        let run = hq.run(&[&draft[..], &rest].concat());
        assert_eq!(run.exit, 0, "{}", run.stderr);
    };
    draft(&hq, "first");
    entitle("demo-2-first");
    let between = SystemTime::now() + Duration::from_secs(1);
    std::thread::sleep(Duration::from_millis(3100));
    draft(&hq, "second");
    entitle("demo-2-second");
    let drafted = || {
        let mut tables = content(&hq.path("home"));
        tables.retain(|(name, _)| ["drafts", "orders", "entitlements"].contains(&&**name));
        tables
    };
    let before = drafted();
    let manifest = record(&hq).join("trust/trust-000002.cose");
    let manifest = fs::File::options().write(true).open(manifest).unwrap();
    manifest.set_modified(between).unwrap();
    edit(&hq, |line| {
        (!line.contains(" kept trust/trust-000002")).then(|| line.to_owned())
    });
    let run = hq.run(&["recover"]);
    assert_eq!((run.exit, lost(&run.json())), (0, vec![]), "{}", run.stderr);
    assert_eq!(differences(&before, &drafted()), "");
}
