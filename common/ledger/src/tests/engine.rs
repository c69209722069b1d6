//! The engine over real files: durability, crashes, and what follows from the log.

use std::fs::{self, OpenOptions};
use std::io::Write as _;
use std::path::{Path, PathBuf};

use mintmark_pki::{Certificate, CertificationRequest};
use mintmark_protocol::identifier::{Fingerprint, StationId};

use super::fixture::*;
use crate::decide::{Input, Reservation, Submitted};
use crate::entry::{Body, Entry, LogSequence, Verdict};
use crate::error::{Error, ErrorClass};
use crate::index::{Batch, Entries, IndexStore, MemoryIndex};
use crate::ledger::{Fact, Ledger, Opened, Outcome, View};
use crate::log::{Fault, FaultyLog, Head, MemoryLog};
use crate::refusal::Refusal;
use crate::state::{ANSWERS_LOGGED_MAX, State};
use crate::storage_error::StorageError;

/// Opens a ledger. A child process that another test is just starting may hold a closed file's lock for a moment.
fn open(folder: &Path) -> Result<(Ledger, Opened), Error> {
    for _ in 0..200 {
        match Ledger::open(folder, "site 0.1.0") {
            Err(Error::Storage(StorageError::LogLocked { .. } | StorageError::IndexLocked { .. })) => {
                std::thread::sleep(std::time::Duration::from_millis(10));
            }
            other => return other,
        }
    }
    Ledger::open(folder, "site 0.1.0")
}

fn submit(ledger: &mut Ledger, product: &str, csr: &CertificationRequest) -> Outcome {
    try_submit(ledger, product, csr).unwrap()
}

fn try_submit(
    ledger: &mut Ledger,
    product: &str,
    csr: &CertificationRequest,
) -> Result<Outcome, Error> {
    let (product, station) = (sku(product), StationId::console());
    let submission = Submitted::Verified(csr);
    let input = Input::Request { product: &product, station: &station, submission };
    ledger.submit(Some(&serials()), NEW_YEAR, input)
}

fn reserve(ledger: &mut Ledger, product: &str, csr: &CertificationRequest) -> Reservation {
    match submit(ledger, product, csr) {
        Outcome::Reserved(reservation) => reservation,
        other => panic!("{other:?}"),
    }
}

fn complete(ledger: &mut Ledger, reservation: Reservation) -> LogSequence {
    let sequence = reservation.sequence();
    let signature = sign(&authorities().device_ca_key, reservation.tbs());
    ledger.signed(NEW_YEAR, reservation, signature).unwrap();
    sequence
}

/// A whole unit.
fn issue(ledger: &mut Ledger, product: &str, csr: &CertificationRequest) -> LogSequence {
    let reservation = reserve(ledger, product, csr);
    ledger.commit().unwrap();
    let sequence = complete(ledger, reservation);
    ledger.commit().unwrap();
    sequence
}

fn import(ledger: &mut Ledger, content: Verdict) -> Outcome {
    let dispatch = dispatch(ledger.state().dispatches().sequence + 1, content);
    ledger.submit(None, NEW_YEAR, Input::Dispatch(&dispatch)).unwrap()
}

/// A vault that is enrolled and may make 50 of each of two products.
fn furnish(ledger: &mut Ledger) {
    let grant = Verdict::Authentic(grant_content(&grant()));
    assert!(matches!(import(ledger, grant), Outcome::Accepted));
    let both = entitlement("both", vec![product(1, "TH-200", 50), product(2, "TH-300", 50)]);
    let both = Verdict::Authentic(entitlement_content(&both));
    assert!(matches!(import(ledger, both), Outcome::Accepted));
    ledger.commit().unwrap();
}

fn vault() -> (tempfile::TempDir, PathBuf, Ledger) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("ledger");
    let mut ledger = Ledger::create(&path, genesis(), NEW_YEAR).unwrap();
    furnish(&mut ledger);
    (folder, path, ledger)
}

fn records(ledger: &Ledger) -> Vec<Vec<u8>> {
    ledger.reader(LogSequence(0)).unwrap().map(|record| record.unwrap().bytes).collect()
}

/// What HQ finds in the log: nothing, and the very same state.
fn check(ledger: &Ledger) {
    assert!(!ledger.has_staged());
    let (replay, divergences) = replay(&records(ledger));
    assert_eq!(divergences, []);
    assert_eq!(replay.state(), ledger.state());
}

#[test]
fn a_unit_is_reserved_signed_and_released_and_everything_survives_a_restart() {
    let (_folder, path, mut ledger) = vault();
    let csr = csr("A1", 1);
    let reservation = reserve(&mut ledger, "TH-200", &csr);
    let sequence = reservation.sequence();
    assert_eq!(ledger.certificate(sequence).unwrap(), None);
    ledger.commit().unwrap();
    assert_eq!(ledger.unfinished()[0].reservation, sequence);
    assert_eq!(ledger.unfinished()[0].tbs, reservation.tbs());
    complete(&mut ledger, reservation);
    assert_eq!(ledger.certificate(sequence).unwrap(), None, "released before it is durable");
    ledger.commit().unwrap();
    assert_eq!(ledger.unfinished(), []);
    let certificate = ledger.certificate(sequence).unwrap().unwrap();
    let parsed = Certificate::from_der(&certificate).unwrap();
    parsed.verify_issued_by(&authorities().device_ca).unwrap();
    check(&ledger);
    let state = ledger.state().clone();
    ledger.close().unwrap();

    let view = View::open(&path).unwrap();
    assert_eq!(*view.state(), state);
    let (mut ledger, opened) = open(&path).unwrap();
    assert_eq!(opened, Opened::default());
    assert_eq!(*ledger.state(), state);
    let again = submit(&mut ledger, "TH-200", &csr);
    assert!(matches!(again, Outcome::Existing { reservation } if reservation == sequence));
    assert_eq!(ledger.certificate(sequence).unwrap().unwrap(), certificate);
    ledger.commit().unwrap();
    assert_eq!(ledger.state().boot(), 2);
    check(&ledger);
}

#[test]
fn a_reservation_that_is_not_durable_takes_no_signature() {
    let (_folder, _path, mut ledger) = vault();
    let reservation = reserve(&mut ledger, "TH-200", &csr("A1", 1));
    let sequence = reservation.sequence();
    let signature = sign(&authorities().device_ca_key, reservation.tbs());
    let error = ledger.signed(NEW_YEAR, reservation, signature).unwrap_err();
    assert_eq!((error.code(), error.class()), ("RESERVATION-NOT-DURABLE", ErrorClass::Caller));
    ledger.commit().unwrap();
    ledger.signed_unfinished(NEW_YEAR, sequence, signature).unwrap();
    let error = ledger.signed_unfinished(NEW_YEAR, sequence, signature).unwrap_err();
    assert_eq!(error.code(), "RESERVATION-UNKNOWN");
    ledger.commit().unwrap();
    check(&ledger);
}

#[test]
fn what_is_decided_and_not_durable_is_seen_by_the_next_decision() {
    let (_folder, _path, mut ledger) = vault();
    let reservation = reserve(&mut ledger, "TH-200", &csr("A1", 1));
    let again = submit(&mut ledger, "TH-200", &csr("A1", 1));
    let sequence = reservation.sequence();
    assert!(matches!(again, Outcome::Existing { reservation } if reservation == sequence));
    for (name, number) in [("A2", 1), ("A1", 2)] {
        let outcome = submit(&mut ledger, "TH-200", &csr(name, number));
        assert!(matches!(
            outcome,
            Outcome::Refused(Refusal::KeyReused { .. } | Refusal::DeviceKeyChanged { .. })
        ));
    }
    ledger.commit().unwrap();
    complete(&mut ledger, reservation);
    ledger.commit().unwrap();
    check(&ledger);
}

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
            ledger.signed_unfinished(NEW_YEAR, unfinished.reservation, signature).unwrap();
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
        let sealed = Fact::BundleSealed { sequence: 1, fingerprint, log_size };
        ledger.record(NEW_YEAR, sealed).unwrap();
        ledger.commit().unwrap();
        let acknowledgement = acknowledgement(1, fingerprint, log_size);
        let content = acknowledgement_content(&acknowledgement);
        assert!(matches!(import(ledger, Verdict::Authentic(content)), Outcome::Accepted));
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
        for lost in [&[][..], &["index"], &["state.snapshot"], &["index", "state.snapshot"]] {
            let folder = tempfile::tempdir().unwrap();
            let path = folder.path().join("ledger");
            let durable = crash(&path, actions);
            for name in lost {
                let _ = fs::remove_file(path.join(name));
                let _ = fs::remove_dir_all(path.join(name));
            }
            assert_eq!(View::open(&path).unwrap().state(), &durable);
            let (mut ledger, opened) = open(&path).unwrap();
            assert_eq!(ledger.state(), &durable, "after {actions} actions, without {lost:?}");
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
                    (sequence, Entry { body: Body::Reserved(reserved), .. }) => {
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
                let product = if name.starts_with('A') { "TH-200" } else { "TH-300" };
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
    let mut file = OpenOptions::new().append(true).open(segment(&path)).unwrap();
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
        for name in ["index", "state.snapshot"].into_iter().filter(|name| *name != keep) {
            let _ = fs::remove_file(path.join(name));
            let _ = fs::remove_dir_all(path.join(name));
        }
        let error = open(&path).err().unwrap();
        assert_eq!((error.code(), error.class()), ("LOG-TRUNCATED", ErrorClass::Integrity), "{keep}");
    }
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
                assert_eq!((error.code(), error.class()), ("DISK-FULL", ErrorClass::Environment));
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
                    ledger.signed_unfinished(NEW_YEAR, sequence, signature).unwrap();
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
        let error = ledger.commit().unwrap_err();
        assert_eq!(error.class(), ErrorClass::OutcomeUnknown);
        let errors = [
            ledger.commit().unwrap_err(),
            try_submit(&mut ledger, "TH-200", &csr("A1", 1)).unwrap_err(),
            ledger.signed(NEW_YEAR, reservation, [1; 64]).unwrap_err(),
        ];
        for error in errors {
            assert_eq!((error.code(), error.class()), ("OUTCOME-UNKNOWN", ErrorClass::OutcomeUnknown));
        }
    }
}

/// An index whose next write fails.
struct FailingIndex {
    inner: MemoryIndex,
    writes: u64,
}

impl IndexStore for FailingIndex {
    fn head(&self) -> Option<Head> {
        self.inner.head()
    }

    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, StorageError> {
        self.inner.get(key)
    }

    fn scan_prefix(&self, prefix: &[u8]) -> Result<Entries<'_>, StorageError> {
        self.inner.scan_prefix(prefix)
    }

    fn write(&mut self, batch: Batch, head: Head) -> Result<(), StorageError> {
        self.writes += 1;
        if self.writes == 3 {
            return Err(StorageError::DiskFull { path: "index".into(), bytes: 1 });
        }
        self.inner.write(batch, head)
    }

    fn flush(&mut self) -> Result<(), StorageError> {
        Ok(())
    }
}

#[test]
fn an_index_that_missed_a_group_is_caught_up_before_the_next_decision() {
    let index = FailingIndex { inner: MemoryIndex::new(), writes: 0 };
    let log = Box::new(MemoryLog::new());
    let mut ledger = Ledger::over(log, Box::new(index), genesis(), NEW_YEAR).unwrap();
    furnish(&mut ledger);
    // The third write: the group is durable all the same.
    let reservation = reserve(&mut ledger, "TH-200", &csr("A1", 1));
    ledger.commit().unwrap();
    let sequence = reservation.sequence();
    let again = submit(&mut ledger, "TH-200", &csr("A1", 1));
    assert!(matches!(again, Outcome::Existing { reservation } if reservation == sequence));
    complete(&mut ledger, reservation);
    ledger.commit().unwrap();
    assert!(ledger.certificate(sequence).unwrap().is_some());
    check(&ledger);
}

#[test]
fn answers_beyond_the_cap_are_given_and_counted_and_not_logged() {
    let (_folder, _path, mut ledger) = vault();
    ledger.state_mut().answers_logged = ANSWERS_LOGGED_MAX - 1;
    issue(&mut ledger, "TH-200", &csr("A1", 1));
    // One was left, and the unit has brought one more.
    for (size, unlogged) in [(2, 0), (4, 0), (4, 1), (4, 2)] {
        let before = ledger.size();
        let outcome = submit(&mut ledger, "TH-200", &csr("A1", 9));
        assert!(matches!(outcome, Outcome::Refused(Refusal::DeviceKeyChanged { .. })));
        let staged = ledger.state().size() - before;
        assert_eq!((staged, ledger.requests_unlogged()), (size, unlogged));
    }
    let again = submit(&mut ledger, "TH-200", &csr("A1", 1));
    assert!(matches!(again, Outcome::Existing { .. }));
    assert_eq!(ledger.requests_unlogged(), 3);
    ledger.commit().unwrap();
    // A unit is always logged.
    issue(&mut ledger, "TH-200", &csr("A2", 2));
    let log_size = ledger.size();
    let fingerprint = Fingerprint::of(b"bundle");
    let sealed = Fact::BundleSealed { sequence: 1, fingerprint, log_size };
    let at = ledger.record(NEW_YEAR, sealed).unwrap();
    ledger.commit().unwrap();
    let (_, entry) = ledger.entries(at).unwrap().next().unwrap().unwrap();
    assert!(matches!(entry.body, Body::BundleSealed(sealed) if sealed.requests_unlogged == 3));
    assert_eq!(ledger.requests_unlogged(), 0);
    assert!(ledger.state().may_log_answer());
}

#[test]
fn content_too_large_for_a_record_is_refused_at_its_place_in_the_chain() {
    let (_folder, _path, mut ledger) = vault();
    let fingerprint = Fingerprint::of(b"large");
    let content =
        crate::entry::Content::Entitlement { fingerprint, plaintext: vec![0; 200 << 10] };
    let outcome = import(&mut ledger, Verdict::Authentic(content));
    let Outcome::Refused(refusal) = outcome else { panic!("{outcome:?}") };
    assert_eq!(refusal.code(), "CONTENT-OVERSIZE");
    assert_eq!(ledger.state().dispatches().sequence, 3);
    ledger.commit().unwrap();
    check(&ledger);
}

#[test]
fn a_bundle_covers_durable_records_only_and_follows_the_one_before() {
    let (_folder, _path, mut ledger) = vault();
    let fingerprint = Fingerprint::of(b"bundle");
    let seal = |ledger: &mut Ledger, sequence, log_size| {
        let sealed = Fact::BundleSealed { sequence, fingerprint, log_size };
        ledger.record(NEW_YEAR, sealed).map_err(|error| error.code())
    };
    let size = ledger.size();
    let _ = reserve(&mut ledger, "TH-200", &csr("A1", 1));
    assert_eq!(seal(&mut ledger, 1, size + 1), Err("BUNDLE-SIZE"));
    assert_eq!(seal(&mut ledger, 2, size), Err("LEDGER-INPUT"));
    assert!(seal(&mut ledger, 1, size).is_ok());
    assert_eq!(seal(&mut ledger, 2, size - 1), Err("BUNDLE-SIZE"));
    ledger.commit().unwrap();
    check(&ledger);
}

#[test]
fn a_ledger_is_read_from_any_record_on() {
    let (_folder, path, mut ledger) = vault();
    for unit in 0..100 {
        let _ = reserve(&mut ledger, if unit < 50 { "TH-200" } else { "TH-300" }, &csr(&format!("A{unit}"), unit));
        let _ = submit(&mut ledger, "TH-200", &csr("A0", 999));
    }
    ledger.commit().unwrap();
    let view = View::open(&path).unwrap();
    assert_eq!(view.size(), ledger.size());
    let all = records(&ledger);
    assert!(all.len() > 400, "the index notes every 256th position");
    for from in [0, 1, 5, 255, 256, 257, 300, all.len() - 1, all.len(), all.len() + 5] {
        let expected = all.get(from..).unwrap_or_default();
        let sequence = LogSequence(from as u64);
        let read: Vec<_> = ledger.reader(sequence).unwrap().map(|r| r.unwrap().bytes).collect();
        assert_eq!(read, expected, "from {from}");
        let seen: Vec<_> = view.reader(sequence).unwrap().map(|r| r.unwrap().bytes).collect();
        assert_eq!(seen, expected, "from {from}");
        let first = ledger.entries(sequence).unwrap().next().map(|entry| entry.unwrap().0);
        assert_eq!(first, expected.first().map(|_| sequence));
    }
}

#[test]
fn a_device_is_found_with_and_without_an_index() {
    let (_folder, path, mut ledger) = vault();
    issue(&mut ledger, "TH-200", &csr("A1", 1));
    issue(&mut ledger, "TH-300", &csr("A1", 2));
    let _ = reserve(&mut ledger, "TH-300", &csr("A2", 3));
    ledger.commit().unwrap();
    let view = View::open(&path).unwrap();
    for (device_id, count, signed) in [("A1", 2, true), ("A2", 1, false), ("A3", 0, false)] {
        let device_id = device_id.parse().unwrap();
        let found = ledger.device(None, &device_id).unwrap();
        assert_eq!(found.len(), count);
        assert_eq!(view.device(None, &device_id).unwrap(), found);
        assert!(found.iter().all(|device| device.signed.is_some() == signed));
        assert!(found.iter().all(|device| device.certificate.is_some() == signed));
        assert!(found.iter().all(|device| device.serial.is_some()));
        let product = sku("TH-200");
        let of_product = ledger.device(Some(&product), &device_id).unwrap();
        assert_eq!(view.device(Some(&product), &device_id).unwrap(), of_product);
        assert!(of_product.iter().all(|device| device.sku == product));
    }
}

#[test]
fn one_process_at_a_time_writes_a_ledger_and_anyone_reads_it() {
    let (_folder, path, ledger) = vault();
    let error = Ledger::open(&path, "site 0.1.0").err().unwrap();
    assert_eq!(error.code(), "LOG-LOCKED");
    assert_eq!(Ledger::create(&path, genesis(), NEW_YEAR).err().unwrap().class(), ErrorClass::Environment);
    assert_eq!(View::open(&path).unwrap().state(), ledger.state());
}

#[test]
fn a_folder_without_a_ledger_is_an_error_and_stays_without_one() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("ledger");
    assert!(open(&path).is_err());
    assert!(View::open(&path).is_err());
    assert!(!path.join("log").exists() && !path.join("index").exists());
}
