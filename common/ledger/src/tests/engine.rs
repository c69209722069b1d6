//! The engine over real files: from a request to a certificate that may be released, and what is read from the log.

use std::path::{Path, PathBuf};

use mintmark_pki::{Certificate, CertificationRequest};
use mintmark_protocol::identifier::{Fingerprint, StationId};

use super::fixture::*;
use crate::decide::{Input, Reservation, Submitted};
use crate::entry::{Body, LogSequence, Verdict};
use crate::error::{Error, ErrorClass};
use crate::index::{Batch, Entries, IndexStore, MemoryIndex};
use crate::ledger::{Fact, Ledger, Opened, Outcome, View};
use crate::log::{Head, MemoryLog};
use crate::refusal::Refusal;
use crate::state::ANSWERS_LOGGED_MAX;
use crate::storage_error::StorageError;

pub(super) fn open(folder: &Path) -> Result<(Ledger, Opened), Error> {
    Ledger::open(folder, "site 0.1.0")
}

pub(super) fn submit(ledger: &mut Ledger, product: &str, csr: &CertificationRequest) -> Outcome {
    try_submit(ledger, product, csr).unwrap()
}

pub(super) fn try_submit(
    ledger: &mut Ledger,
    product: &str,
    csr: &CertificationRequest,
) -> Result<Outcome, Error> {
    let (product, station) = (sku(product), StationId::console());
    let submission = Submitted::Verified(csr);
    let input = Input::Request {
        product: &product,
        station: &station,
        submission,
    };
    ledger.submit(Some(&serials()), NEW_YEAR, input)
}

pub(super) fn reserve(
    ledger: &mut Ledger,
    product: &str,
    csr: &CertificationRequest,
) -> Reservation {
    match submit(ledger, product, csr) {
        Outcome::Reserved(reservation) => reservation,
        other => panic!("{other:?}"),
    }
}

pub(super) fn complete(ledger: &mut Ledger, reservation: Reservation) -> LogSequence {
    let sequence = reservation.sequence();
    let signature = sign(&authorities().device_ca_key, reservation.tbs());
    ledger.signed(NEW_YEAR, reservation, signature).unwrap();
    sequence
}

/// A whole unit.
pub(super) fn issue(ledger: &mut Ledger, product: &str, csr: &CertificationRequest) -> LogSequence {
    let reservation = reserve(ledger, product, csr);
    ledger.commit().unwrap();
    let sequence = complete(ledger, reservation);
    ledger.commit().unwrap();
    sequence
}

pub(super) fn import(ledger: &mut Ledger, content: Verdict) -> Outcome {
    let dispatch = dispatch(ledger.state().dispatches().sequence + 1, content);
    ledger
        .submit(None, NEW_YEAR, Input::Dispatch(&dispatch))
        .unwrap()
}

/// A vault that is enrolled and may make 50 of each of two products.
pub(super) fn furnish(ledger: &mut Ledger) {
    let grant = Verdict::Authentic(grant_content(&grant()));
    assert!(matches!(import(ledger, grant), Outcome::Accepted));
    let both = entitlement(
        "both",
        vec![product(1, "TH-200", 50), product(2, "TH-300", 50)],
    );
    let both = Verdict::Authentic(entitlement_content(&both));
    assert!(matches!(import(ledger, both), Outcome::Accepted));
    ledger.commit().unwrap();
}

pub(super) fn vault() -> (tempfile::TempDir, PathBuf, Ledger) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("ledger");
    let mut ledger = Ledger::create(&path, genesis(), NEW_YEAR).unwrap();
    furnish(&mut ledger);
    (folder, path, ledger)
}

pub(super) fn records(ledger: &Ledger) -> Vec<Vec<u8>> {
    ledger
        .reader(LogSequence(0))
        .unwrap()
        .map(|record| record.unwrap().bytes)
        .collect()
}

/// What HQ finds in the log: nothing, and the very same state.
pub(super) fn check(ledger: &Ledger) {
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
    assert_eq!(
        ledger.certificate(sequence).unwrap(),
        None,
        "released before it is durable"
    );
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
    assert_eq!(
        (error.code(), error.class()),
        ("RESERVATION-NOT-DURABLE", ErrorClass::Caller)
    );
    ledger.commit().unwrap();
    ledger
        .signed_unfinished(NEW_YEAR, sequence, signature)
        .unwrap();
    let error = ledger
        .signed_unfinished(NEW_YEAR, sequence, signature)
        .unwrap_err();
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

#[test]
fn what_was_only_tried_is_as_if_nobody_had_asked() {
    let mut ledger = over_failing_index(0..=0);
    issue(&mut ledger, "TH-200", &csr("A1", 1));
    let (before, root) = (ledger.size(), ledger.state().root());
    let tried = reserve(&mut ledger, "TH-200", &csr("A2", 2));
    let other_key = submit(&mut ledger, "TH-200", &csr("A1", 3));
    assert!(matches!(other_key, Outcome::Refused(_)));
    assert!(ledger.has_staged());
    ledger.forget_staged().unwrap();
    assert!(!ledger.has_staged());
    ledger.commit().unwrap();
    assert_eq!((ledger.size(), ledger.state().root()), (before, root));
    // The same unit is given again, to somebody else.
    let next = reserve(&mut ledger, "TH-200", &csr("A3", 3));
    assert_eq!(next.reserved().slot, tried.reserved().slot);
    ledger.commit().unwrap();
    assert!(ledger.signed(NEW_YEAR, tried, [0; 64]).is_err());
    complete(&mut ledger, next);
    ledger.commit().unwrap();
    check(&ledger);
}

/// An index of which some writes fail, counted from 1.
struct FailingIndex {
    inner: MemoryIndex,
    writes: u64,
    fail: std::ops::RangeInclusive<u64>,
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
        if self.fail.contains(&self.writes) {
            return Err(StorageError::DiskFull {
                path: "index".into(),
                bytes: 1,
            });
        }
        self.inner.write(batch, head)
    }

    fn flush(&mut self) -> Result<(), StorageError> {
        Ok(())
    }
}

fn over_failing_index(fail: std::ops::RangeInclusive<u64>) -> Ledger {
    let index = FailingIndex {
        inner: MemoryIndex::new(),
        writes: 0,
        fail,
    };
    let log = Box::new(MemoryLog::new());
    let mut ledger = Ledger::over(log, Box::new(index), genesis(), NEW_YEAR).unwrap();
    furnish(&mut ledger);
    ledger
}

#[test]
fn an_index_that_missed_a_group_is_caught_up_at_once() {
    // The fourth write, of the signature: the group is durable all the same, and what it released is found.
    let mut ledger = over_failing_index(4..=4);
    let sequence = issue(&mut ledger, "TH-200", &csr("A1", 1));
    assert!(ledger.certificate(sequence).unwrap().is_some());
    let device = "A1".parse().unwrap();
    assert_eq!(ledger.device(None, &device).unwrap().len(), 1);
    check(&ledger);
}

#[test]
fn an_index_that_cannot_be_caught_up_is_asked_nothing_before_the_next_input_has() {
    // The group of the signature, and what follows at once; then it can be written again.
    let mut ledger = over_failing_index(4..=5);
    let sequence = issue(&mut ledger, "TH-200", &csr("A1", 1));
    let device = "A1".parse().unwrap();
    for code in [
        ledger.certificate(sequence).unwrap_err().code(),
        ledger.device(None, &device).unwrap_err().code(),
    ] {
        assert_eq!(code, "INDEX-BROKEN");
    }
    let again = submit(&mut ledger, "TH-200", &csr("A1", 1));
    assert!(matches!(again, Outcome::Existing { reservation } if reservation == sequence));
    assert!(ledger.certificate(sequence).unwrap().is_some());
    assert_eq!(ledger.device(None, &device).unwrap().len(), 1);
    ledger.commit().unwrap();
    check(&ledger);
}

#[test]
fn a_reservation_that_the_index_missed_is_known_to_the_next_decision() {
    let mut ledger = over_failing_index(3..=4);
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
        assert!(matches!(
            outcome,
            Outcome::Refused(Refusal::DeviceKeyChanged { .. })
        ));
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
    let sealed = Fact::BundleSealed {
        sequence: 1,
        fingerprint,
        log_size,
    };
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
    let content = crate::entry::Content::Entitlement {
        fingerprint,
        plaintext: vec![0; 200 << 10],
    };
    let outcome = import(&mut ledger, Verdict::Authentic(content));
    let Outcome::Refused(refusal) = outcome else {
        panic!("{outcome:?}")
    };
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
        let sealed = Fact::BundleSealed {
            sequence,
            fingerprint,
            log_size,
        };
        ledger
            .record(NEW_YEAR, sealed)
            .map_err(|error| error.code())
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
        let _ = reserve(
            &mut ledger,
            if unit < 50 { "TH-200" } else { "TH-300" },
            &csr(&format!("A{unit}"), unit),
        );
        let _ = submit(&mut ledger, "TH-200", &csr("A0", 999));
    }
    ledger.commit().unwrap();
    let view = View::open(&path).unwrap();
    assert_eq!(view.size(), ledger.size());
    let all = records(&ledger);
    assert!(all.len() > 400, "the index notes every 256th position");
    for from in [
        0,
        1,
        5,
        255,
        256,
        257,
        300,
        all.len() - 1,
        all.len(),
        all.len() + 5,
    ] {
        let expected = all.get(from..).unwrap_or_default();
        let sequence = LogSequence(from as u64);
        let read: Vec<_> = ledger
            .reader(sequence)
            .unwrap()
            .map(|r| r.unwrap().bytes)
            .collect();
        assert_eq!(read, expected, "from {from}");
        let seen: Vec<_> = view
            .reader(sequence)
            .unwrap()
            .map(|r| r.unwrap().bytes)
            .collect();
        assert_eq!(seen, expected, "from {from}");
        let first = ledger
            .entries(sequence)
            .unwrap()
            .next()
            .map(|entry| entry.unwrap().0);
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
        assert!(
            found
                .iter()
                .all(|device| device.certificate.is_some() == signed)
        );
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
    assert_eq!(
        Ledger::create(&path, genesis(), NEW_YEAR)
            .err()
            .unwrap()
            .class(),
        ErrorClass::Environment
    );
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

#[test]
fn units_that_are_about_to_be_signed_for_are_not_called_unresolved() {
    let (_folder, path, mut ledger) = vault();
    let unresolved = |ledger: &mut Ledger, number| {
        let csr = csr(&format!("N-{number}"), number);
        match submit(ledger, "TH-200", &csr) {
            Outcome::Refused(Refusal::QuotaExhausted { unresolved, .. }) => unresolved,
            other => panic!("{other:?}"),
        }
    };
    let reservations: Vec<_> = (0..50)
        .map(|number| reserve(&mut ledger, "TH-200", &csr(&format!("D-{number}"), number)))
        .collect();
    assert_eq!(unresolved(&mut ledger, 100), 0);
    ledger.commit().unwrap();
    let mut reservations = reservations.into_iter();
    for _ in 0..3 {
        complete(&mut ledger, reservations.next().unwrap());
    }
    assert_eq!(unresolved(&mut ledger, 101), 0);
    ledger.commit().unwrap();
    drop(ledger);
    // Whoever comes after has to resolve what this process left.
    let (mut ledger, _) = open(&path).unwrap();
    assert_eq!(unresolved(&mut ledger, 102), 47);
    // A unit of another product is none of this account.
    let _ = reserve(&mut ledger, "TH-300", &csr("D-0", 200));
    assert_eq!(unresolved(&mut ledger, 103), 47);
}
