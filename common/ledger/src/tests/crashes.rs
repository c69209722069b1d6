//! What the engine leaves behind when it is stopped anywhere, and what it makes of that.

mod indexes;

use std::fs::{self, OpenOptions};
use std::io::Write as _;
use std::path::{Path, PathBuf};

use mintmark_pki::Certificate;
use mintmark_protocol::identifier::Fingerprint;

use super::engine::*;
use super::fixture::{
    NEW_YEAR, acknowledgement, acknowledgement_content, authorities, csr, entitlement,
    entitlement_content, genesis, grant, grant_content, product, sign,
};
use crate::entry::{Body, Entry, LogSequence, Verdict};
use crate::error::ErrorClass;
use crate::index::MemoryIndex;
use crate::ledger::{Fact, Floor, Ledger, Outcome, View};
use crate::log::{Fault, FaultyLog, Head, MemoryLog};
use crate::state::State;

/// One thing that a vault does, each ending in a commit or in nothing durable.
type Action = fn(&mut Ledger);

const ACTIONS: [Action; 7] = [
    |ledger| furnish(ledger),
    |ledger| {
        let reservation = reserve(ledger, "TH-200", &csr("A1", 1));
        ledger.commit().unwrap();
        drop(reservation);
    },
    |ledger| {
        for unfinished in ledger.unfinished() {
            let signature = sign(&authorities().device_ca_key, &unfinished.tbs);
            ledger
                .signed_unfinished(NEW_YEAR, unfinished.reservation, signature)
                .unwrap();
        }
        let _ = submit(ledger, "TH-900", &csr("A1", 9));
        ledger.commit().unwrap();
    },
    |ledger| {
        let reservations: Vec<_> = (2..6)
            .map(|unit| reserve(ledger, "TH-300", &csr(&format!("B{unit}"), unit)))
            .collect();
        ledger.commit().unwrap();
        for reservation in reservations.into_iter().take(2) {
            complete(ledger, reservation);
        }
        ledger.commit().unwrap();
    },
    |ledger| {
        let fingerprint = Fingerprint::of(b"bundle");
        let log_size = ledger.size();
        let sealed = Fact::BundleSealed {
            sequence: 1,
            fingerprint,
            log_size,
        };
        ledger.record(NEW_YEAR, sealed).unwrap();
        ledger.commit().unwrap();
        let acknowledgement = acknowledgement(1, fingerprint, log_size);
        let content = acknowledgement_content(&acknowledgement);
        assert!(matches!(
            import(ledger, Verdict::Authentic(content)),
            Outcome::Accepted
        ));
        ledger.commit().unwrap();
    },
    |ledger| {
        issue(ledger, "TH-200", &csr("A3", 30));
    },
    // Staged, and lost with the process.
    |ledger| {
        let _ = reserve(ledger, "TH-200", &csr("A4", 40));
    },
];

/// What a crash leaves: nothing closed in order. The state is that of the last commit.
fn crash(path: &Path, actions: usize) -> State {
    let mut ledger = Ledger::create(path, genesis(), NEW_YEAR).unwrap();
    let mut durable = ledger.state().clone();
    for action in &ACTIONS[..actions] {
        action(&mut ledger);
        if !ledger.has_staged() {
            durable = ledger.state().clone();
        }
    }
    durable
}

#[test]
fn a_crash_between_any_two_commits_loses_nothing_that_was_durable() {
    for actions in 0..=ACTIONS.len() {
        for lost in [
            &[][..],
            &["index"],
            &["state.snapshot"],
            &["index", "state.snapshot"],
        ] {
            let folder = tempfile::tempdir().unwrap();
            let path = folder.path().join("ledger");
            let durable = crash(&path, actions);
            for name in lost {
                let _ = fs::remove_file(path.join(name));
                let _ = fs::remove_dir_all(path.join(name));
            }
            assert_eq!(View::open(&path).unwrap().state(), &durable);
            let (mut ledger, opened) = open(&path).unwrap();
            assert_eq!(
                ledger.state(),
                &durable,
                "after {actions} actions, without {lost:?}"
            );
            assert_eq!(opened.index_rebuilt.is_some(), lost.contains(&"index"));
            assert_eq!(ledger.unfinished().len(), durable.reservations().len());
            // The same code that issues completes what the crash left open.
            if actions == 0 {
                continue;
            }
            let open_before: Vec<_> = ledger.unfinished();
            for action in &ACTIONS[2..3] {
                action(&mut ledger);
            }
            for unfinished in open_before {
                let certificate = ledger.certificate(unfinished.reservation).unwrap().unwrap();
                let certificate = Certificate::from_der(&certificate).unwrap();
                assert_eq!(certificate.tbs_der(), unfinished.tbs);
            }
            for (reservation, name, number) in ledger
                .entries(LogSequence(0))
                .unwrap()
                .filter_map(|entry| match entry.unwrap() {
                    (
                        sequence,
                        Entry {
                            body: Body::Reserved(reserved),
                            ..
                        },
                    ) => {
                        let name = reserved.device_id.as_str().to_owned();
                        let number = match name.as_str() {
                            "A3" => 30,
                            other => other[1..].parse().unwrap(),
                        };
                        Some((sequence, name, number))
                    }
                    _ => None,
                })
                .collect::<Vec<_>>()
            {
                let product = if name.starts_with('A') {
                    "TH-200"
                } else {
                    "TH-300"
                };
                let again = submit(&mut ledger, product, &csr(&name, number));
                assert!(
                    matches!(again, Outcome::Existing { reservation: r } if r == reservation),
                    "{again:?}"
                );
            }
            issue(&mut ledger, "TH-200", &csr("A99", 99));
            check(&ledger);
        }
    }
}

fn segment(path: &Path) -> PathBuf {
    let mut files: Vec<_> = fs::read_dir(path.join("log"))
        .unwrap()
        .map(|file| file.unwrap().path())
        .filter(|file| file.extension().is_some_and(|extension| extension == "log"))
        .collect();
    files.sort();
    files.pop().unwrap()
}

#[test]
fn a_group_that_was_being_written_is_cut_off_and_nothing_else() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("ledger");
    let durable = crash(&path, 4);
    let mut file = OpenOptions::new()
        .append(true)
        .open(segment(&path))
        .unwrap();
    file.write_all(&[0; 100]).unwrap();
    drop(file);
    assert_eq!(View::open(&path).unwrap().state(), &durable);
    let (ledger, opened) = open(&path).unwrap();
    assert_eq!(opened.torn_bytes, 100);
    assert_eq!(ledger.state(), &durable);
    check(&ledger);
}

#[test]
fn records_taken_away_are_noticed_by_whatever_still_knows_them() {
    for keep in ["index", "state.snapshot"] {
        let (_folder, path, mut ledger) = vault();
        let before = fs::metadata(segment(&path)).unwrap().len();
        issue(&mut ledger, "TH-200", &csr("A1", 1));
        ledger.close().unwrap();
        let file = OpenOptions::new().write(true).open(segment(&path)).unwrap();
        file.set_len(before).unwrap();
        drop(file);
        for name in ["index", "state.snapshot"]
            .into_iter()
            .filter(|name| *name != keep)
        {
            let _ = fs::remove_file(path.join(name));
            let _ = fs::remove_dir_all(path.join(name));
        }
        let error = open(&path).err().unwrap();
        assert_eq!(
            (error.code(), error.class()),
            ("LOG-TRUNCATED", ErrorClass::Integrity),
            "{keep}"
        );
    }
}

#[test]
fn a_damaged_last_record_that_a_clean_stop_knew_is_refused_and_not_cut_off() {
    let (_dir, path, mut ledger) = vault();
    let reservation = reserve(&mut ledger, "TH-200", &csr("A1", 1));
    ledger.commit().unwrap();
    complete(&mut ledger, reservation);
    ledger.commit().unwrap();
    ledger.close().unwrap();
    let segment = segment(&path);
    let mut bytes = fs::read(&segment).unwrap();
    *bytes.last_mut().unwrap() ^= 1;
    fs::write(&segment, &bytes).unwrap();
    let error = open(&path).err().unwrap();
    assert_eq!(
        (error.code(), error.class()),
        ("LOG-CORRUPT", ErrorClass::Integrity)
    );
    assert_eq!(View::open(&path).err().unwrap().code(), "LOG-CORRUPT");
    assert_eq!(fs::read(&segment).unwrap(), bytes);
}

#[test]
fn an_index_or_a_snapshot_of_another_vault_is_not_believed() {
    let (_folder_a, path_a, mut a) = vault();
    let (_folder_b, path_b, mut b) = vault();
    let reservation = issue(&mut a, "TH-200", &csr("A1", 1));
    issue(&mut a, "TH-200", &csr("A2", 2));
    // As many records of the same sizes, of another device.
    issue(&mut b, "TH-200", &csr("A7", 7));
    let state = a.state().clone();
    a.close().unwrap();
    b.close().unwrap();
    for name in ["index", "state.snapshot"] {
        let (from, to) = (path_b.join(name), path_a.join(name));
        let _ = fs::remove_dir_all(&to);
        if from.is_dir() {
            fs::create_dir(&to).unwrap();
            copy_folder(&from, &to);
        } else {
            fs::copy(&from, &to).unwrap();
        }
    }
    let (mut a, opened) = open(&path_a).unwrap();
    assert!(opened.index_rebuilt.unwrap().contains("another log"));
    assert_eq!(*a.state(), state);
    let again = submit(&mut a, "TH-200", &csr("A1", 1));
    assert!(matches!(again, Outcome::Existing { reservation: r } if r == reservation));
    let _ = reserve(&mut a, "TH-200", &csr("A7", 7));
    a.commit().unwrap();
    check(&a);
}

fn copy_folder(from: &Path, to: &Path) {
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            fs::create_dir_all(&target).unwrap();
            copy_folder(&entry.path(), &target);
        } else {
            fs::copy(entry.path(), target).unwrap();
        }
    }
}

#[test]
fn a_full_disk_changes_nothing_and_the_same_request_takes_the_same_slot_later() {
    // The genesis is append 0, furnishing is 1.
    for fail in 1..6 {
        let mut log = FaultyLog::new(MemoryLog::new());
        log.fail_append(fail, Fault::DiskFull);
        let index = Box::new(MemoryIndex::new());
        let mut ledger = Ledger::over(Box::new(log), index, genesis(), NEW_YEAR).unwrap();
        let mut failures = 0;
        let mut commit = |ledger: &mut Ledger, before: &State| match ledger.commit() {
            Ok(()) => true,
            Err(error) => {
                assert_eq!(
                    (error.code(), error.class()),
                    ("DISK-FULL", ErrorClass::Environment)
                );
                assert_eq!(ledger.state(), before);
                failures += 1;
                false
            }
        };
        loop {
            let before = ledger.state().clone();
            let verdict = Verdict::Authentic(grant_content(&grant()));
            assert!(matches!(import(&mut ledger, verdict), Outcome::Accepted));
            let both = entitlement("both", vec![product(1, "TH-200", 50)]);
            let verdict = Verdict::Authentic(entitlement_content(&both));
            assert!(matches!(import(&mut ledger, verdict), Outcome::Accepted));
            if commit(&mut ledger, &before) {
                break;
            }
        }
        for unit in 0..2 {
            let csr = csr(&format!("A{unit}"), unit);
            loop {
                let before = ledger.state().clone();
                let reservation = reserve(&mut ledger, "TH-200", &csr);
                assert_eq!(reservation.reserved().slot, unit);
                if !commit(&mut ledger, &before) {
                    // What was reserved is void.
                    let signature = [1; 64];
                    let error = ledger.signed(NEW_YEAR, reservation, signature).unwrap_err();
                    assert_eq!(error.code(), "RESERVATION-UNKNOWN");
                    continue;
                }
                let before = ledger.state().clone();
                let sequence = complete(&mut ledger, reservation);
                if !commit(&mut ledger, &before) {
                    let tbs = ledger.unfinished()[0].tbs.clone();
                    let signature = sign(&authorities().device_ca_key, &tbs);
                    ledger
                        .signed_unfinished(NEW_YEAR, sequence, signature)
                        .unwrap();
                    ledger.commit().unwrap();
                }
                assert!(ledger.certificate(sequence).unwrap().is_some());
                break;
            }
        }
        assert_eq!(failures, 1);
        check(&ledger);
    }
}

#[test]
fn after_a_write_of_unknown_outcome_nothing_more_is_done() {
    for fault in [Fault::Before, Fault::After] {
        let mut log = FaultyLog::new(MemoryLog::new());
        log.fail_append(2, fault);
        let index = Box::new(MemoryIndex::new());
        let mut ledger = Ledger::over(Box::new(log), index, genesis(), NEW_YEAR).unwrap();
        furnish(&mut ledger);
        let reservation = reserve(&mut ledger, "TH-200", &csr("A1", 1));
        assert!(ledger.is_usable());
        let error = ledger.commit().unwrap_err();
        assert_eq!(error.class(), ErrorClass::OutcomeUnknown);
        let errors = [
            ledger.commit().unwrap_err(),
            try_submit(&mut ledger, "TH-200", &csr("A1", 1)).unwrap_err(),
            ledger.signed(NEW_YEAR, reservation, [1; 64]).unwrap_err(),
        ];
        for error in errors {
            assert_eq!(
                (error.code(), error.class()),
                ("OUTCOME-UNKNOWN", ErrorClass::OutcomeUnknown)
            );
        }
        assert!(!ledger.is_usable());
    }
}

/// The file of a log of one file, and what it holds.
fn stored(path: &Path) -> (PathBuf, Vec<u8>) {
    let segment = segment(path);
    let bytes = fs::read(&segment).unwrap();
    (segment, bytes)
}

/// A vault that made three units, as it is left by a clean stop, and as by a process that was killed.
fn stopped() -> [(&'static str, tempfile::TempDir, PathBuf, State); 2] {
    let (folder, path, mut ledger) = vault();
    for unit in 1..4 {
        issue(&mut ledger, "TH-200", &csr(&format!("A{unit}"), unit));
    }
    let durable = ledger.state().clone();
    let killed = tempfile::tempdir().unwrap();
    let copy = killed.path().join("ledger");
    fs::create_dir(&copy).unwrap();
    copy_folder(&path, &copy);
    let _ = fs::remove_file(copy.join("state.snapshot"));
    ledger.close().unwrap();
    [
        ("clean", folder, path, durable.clone()),
        ("killed", killed, copy, durable),
    ]
}

/// What opening makes of it: the code of its refusal, of a log that it left as it was, or of what reading all of it says.
fn refusal(path: &Path) -> Option<&'static str> {
    let before = stored(path);
    match open(path) {
        Err(error) => {
            assert_eq!(error.class(), ErrorClass::Integrity, "{error}");
            assert!(error.hint().is_some(), "{error}");
            assert!(stored(path) == before, "{error}");
            Some(error.code())
        }
        Ok((ledger, _)) => {
            let verified = ledger.verify_from(LogSequence(0));
            verified.err().map(|error| error.code())
        }
    }
}

#[test]
fn a_log_cut_off_anywhere_is_refused_and_not_changed() {
    for (how, _folder, path, durable) in stopped() {
        let (segment, whole) = stored(&path);
        for length in (0..whole.len()).rev().step_by(23).chain([0]) {
            fs::write(&segment, &whole[..length]).unwrap();
            let code = refusal(&path);
            assert_eq!(code, Some("LOG-TRUNCATED"), "{how}, {length} bytes");
        }
        fs::write(&segment, &whole).unwrap();
        let (ledger, opened) = open(&path).unwrap();
        assert_eq!((ledger.state(), opened.torn_bytes), (&durable, 0), "{how}");
    }
}

#[test]
fn a_flipped_bit_anywhere_in_the_log_is_found_and_nothing_is_cut_off() {
    for (how, _folder, path, durable) in stopped() {
        let (segment, whole) = stored(&path);
        let step = if how == "clean" { 61 } else { 7 };
        for at in (0..whole.len()).step_by(step) {
            let mut damaged = whole.clone();
            damaged[at] ^= 1 << (at % 8);
            fs::write(&segment, &damaged).unwrap();
            assert_eq!(refusal(&path), Some("LOG-CORRUPT"), "{how}, byte {at}");
            assert_eq!(fs::read(&segment).unwrap().len(), whole.len());
        }
        fs::write(&segment, &whole).unwrap();
        assert_eq!(open(&path).unwrap().0.state(), &durable, "{how}");
    }
}

#[test]
fn what_everything_in_the_folder_has_forgotten_the_key_store_still_knows() {
    let [_, (_, _folder, path, durable)] = stopped();
    let (_, before) = stored(&path);
    let floor = |size, link| Some(Floor { size, link });
    let older: Vec<Head> = {
        let (ledger, _) = open(&path).unwrap();
        let records = ledger.reader(LogSequence(0)).unwrap();
        records.map(|record| record.unwrap().head()).collect()
    };
    let head = *older.last().unwrap();
    for known in &older {
        let (ledger, _) =
            Ledger::open_knowing(&path, "site", floor(known.size, known.link)).unwrap();
        assert_eq!(ledger.state(), &durable);
        drop(ledger);
        let forked = Ledger::open_knowing(&path, "site", floor(known.size, [1; 32]))
            .err()
            .unwrap();
        assert_eq!(
            (forked.code(), forked.class()),
            ("LOG-FORKED", ErrorClass::Integrity)
        );
    }
    // A whole group is taken away, and with it all that follows from it and all that was kept beside it.
    let (segment, _) = stored(&path);
    fs::write(
        &segment,
        &before[..older[older.len() - 2].end.to_u64() as usize],
    )
    .unwrap();
    for name in ["index", "log/head", "state.snapshot"] {
        let _ = fs::remove_file(path.join(name));
        let _ = fs::remove_dir_all(path.join(name));
    }
    let rolled = Ledger::open_knowing(&path, "site", floor(head.size, head.link))
        .err()
        .unwrap();
    assert_eq!(
        (rolled.code(), rolled.class()),
        ("LOG-ROLLED-BACK", ErrorClass::Integrity)
    );
    assert!(!path.join("index").exists() && !path.join("log/head").exists());
    open(&path).unwrap();
}
