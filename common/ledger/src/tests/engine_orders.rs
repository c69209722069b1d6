//! The engine over real files, where officers end, change and add what it works with.

use mintmark_protocol::identifier::Fingerprint;
use mintmark_protocol::revocation::Target;

use super::engine::{check, complete, furnish, import, issue, open, reserve, submit, vault};
use super::fixture::*;
use crate::entry::{KeyOutcome, KeyReceipt, LogSequence, Rotation, Verdict};
use crate::error::ErrorClass;
use crate::index::MemoryIndex;
use crate::ledger::{Fact, Ledger, Outcome, View};
use crate::log::{Fault, FaultyLog, MemoryLog};

fn order(ledger: &mut Ledger, target: Target) {
    let number = ledger.state().revocations() + 1;
    let content = revocation_content(&revocation(number, target));
    let outcome = import(ledger, Verdict::Authentic(content));
    assert!(matches!(outcome, Outcome::Accepted), "{outcome:?}");
    ledger.commit().unwrap();
}

fn rotate(ledger: &mut Ledger) {
    ledger.record(NEW_YEAR, Fact::Rotation(rotation())).unwrap();
    let granted = Verdict::Authentic(rotation_content(&rotation_grant()));
    assert!(matches!(import(ledger, granted), Outcome::Accepted));
    ledger.commit().unwrap();
}

fn first_ca() -> Target {
    let certificate = authorities().device_ca.certificate_der();
    Target::DeviceCa(Fingerprint::of(certificate))
}

fn both() -> Target {
    Target::Entitlement("both".parse().unwrap())
}

#[test]
fn what_officers_ended_is_not_completed_any_more() {
    let (_folder, path, mut ledger) = vault();
    let reservation = reserve(&mut ledger, "TH-200", &csr("A1", 1));
    let sequence = reservation.sequence();
    ledger.commit().unwrap();
    assert_eq!(ledger.unfinished().len(), 1);
    order(&mut ledger, both());
    assert_eq!(ledger.unfinished(), []);
    let signature = sign(&authorities().device_ca_key, reservation.tbs());
    let error = ledger.signed(NEW_YEAR, reservation, signature).unwrap_err();
    assert_eq!(
        (error.code(), error.class()),
        ("RESERVATION-WITHHELD", ErrorClass::Caller)
    );
    assert_eq!(
        error.to_string(),
        format!(
            "reservation {sequence} must not be completed: entitlement both was revoked at 2027-01-01T00:00:00Z, for good"
        )
    );
    let unfinished = ledger.signed_unfinished(NEW_YEAR, sequence, signature);
    assert_eq!(unfinished.unwrap_err().code(), "RESERVATION-WITHHELD");
    ledger.commit().unwrap();
    check(&ledger);
    drop(ledger);
    let (ledger, _) = open(&path).unwrap();
    assert_eq!(ledger.unfinished(), []);
    assert_eq!(ledger.state().account(tag(1)).unwrap().unresolved, 1);
}

#[test]
fn a_signature_is_that_of_the_issue_it_was_made_for_whoever_looks() {
    let (_folder, path, mut ledger) = vault();
    let first = reserve(&mut ledger, "TH-200", &csr("A1", 1)).sequence();
    ledger.commit().unwrap();
    rotate(&mut ledger);
    order(&mut ledger, first_ca());
    // The first issue was never signed; the next one is.
    let next = reserve(&mut ledger, "TH-200", &csr("A1", 1));
    ledger.commit().unwrap();
    let signature = sign(&authorities().next_device_ca_key, next.tbs());
    let signed = ledger.signed(NEW_YEAR, next, signature).unwrap();
    ledger.commit().unwrap();
    let device = "A1".parse().unwrap();
    let by_index = ledger.device(None, &device).unwrap();
    ledger.close().unwrap();
    let by_log = View::open(&path).unwrap().device(None, &device).unwrap();
    assert_eq!(by_log, by_index);
    let issues: Vec<_> = by_log.iter().map(|d| (d.issue, d.signed)).collect();
    assert_eq!(issues, [(0, None), (1, Some(signed))]);
    assert_eq!(by_log[0].reservation, first);
}

#[test]
fn what_a_disabled_vault_left_open_is_completed_once_it_has_another_device_ca() {
    let (_folder, _path, mut ledger) = vault();
    let reservation = reserve(&mut ledger, "TH-200", &csr("A1", 1));
    ledger.commit().unwrap();
    order(&mut ledger, Target::Vault);
    assert_eq!(ledger.unfinished(), []);
    rotate(&mut ledger);
    assert_eq!(ledger.unfinished().len(), 1);
    let sequence = complete(&mut ledger, reservation);
    ledger.commit().unwrap();
    assert!(ledger.certificate(sequence).unwrap().is_some());
    check(&ledger);
}

#[test]
fn the_newest_issue_of_a_device_is_the_one_that_is_found_and_its_history_has_all() {
    let (_folder, path, mut ledger) = vault();
    let request = csr("A1", 1);
    let first = issue(&mut ledger, "TH-200", &request);
    rotate(&mut ledger);
    order(&mut ledger, first_ca());
    // Staged, committed, signed, opened again, and over an index that is made anew: the same answer.
    let reservation = reserve(&mut ledger, "TH-200", &request);
    let second = reservation.sequence();
    assert_eq!(reservation.reserved().issue, 1);
    let existing = |ledger: &mut Ledger| match submit(ledger, "TH-200", &request) {
        Outcome::Existing { reservation } => reservation,
        other => panic!("{other:?}"),
    };
    assert_eq!(existing(&mut ledger), second);
    ledger.commit().unwrap();
    assert_eq!(existing(&mut ledger), second);
    let signature = sign(&authorities().next_device_ca_key, reservation.tbs());
    ledger.signed(NEW_YEAR, reservation, signature).unwrap();
    ledger.commit().unwrap();
    let certificate = ledger.certificate(second).unwrap().unwrap();
    let certificate = mintmark_pki::Certificate::from_der(&certificate).unwrap();
    certificate
        .verify_issued_by(&authorities().next_device_ca)
        .unwrap();
    check(&ledger);
    ledger.close().unwrap();
    std::fs::remove_dir_all(path.join("index")).unwrap();
    let (mut ledger, opened) = open(&path).unwrap();
    assert!(opened.index_rebuilt.is_some());
    assert_eq!(existing(&mut ledger), second);
    let device = "A1".parse().unwrap();
    let issues = |history: Vec<crate::ledger::DeviceHistory>| -> Vec<(LogSequence, u16, bool)> {
        history
            .iter()
            .map(|one| (one.reservation, one.issue, one.certificate.is_some()))
            .collect()
    };
    let expected = [(first, 0, true), (second, 1, true)];
    assert_eq!(issues(ledger.device(None, &device).unwrap()), expected);
    ledger.commit().unwrap();
    assert_eq!(ledger.state().units(), 1);
    check(&ledger);
    drop(ledger);
    let view = View::open(&path).unwrap();
    assert_eq!(issues(view.device(None, &device).unwrap()), expected);
}

#[test]
fn a_rotation_is_recorded_only_to_the_next_device_ca() {
    let folder = tempfile::tempdir().unwrap();
    let mut new = Ledger::create(&folder.path().join("new"), genesis(), NEW_YEAR).unwrap();
    let error = new.record(NEW_YEAR, Fact::Rotation(rotation()));
    assert_eq!(
        error.unwrap_err().to_string(),
        "the ledger cannot record this: the vault has no device CA yet"
    );
    let (_folder, _path, mut ledger) = vault();
    let wrong = Rotation {
        generation: 3,
        ..rotation()
    };
    let error = ledger.record(NEW_YEAR, Fact::Rotation(wrong)).unwrap_err();
    assert_eq!(error.code(), "LEDGER-INPUT");
    assert_eq!(
        error.to_string(),
        "the ledger cannot record this: device CA 3 is not the next one, which is 2"
    );
    ledger.record(NEW_YEAR, Fact::Rotation(rotation())).unwrap();
    ledger.commit().unwrap();
    assert_eq!(ledger.state().rotation_pending(), Some(rotation()));
    check(&ledger);
}

#[test]
fn a_key_is_recorded_only_as_its_entitlement_has_it() {
    let (_folder, _path, mut ledger) = vault();
    let mut keyed = entitlement("keyed", vec![product(3, "TH-400", 5)]);
    keyed.keys = vec![device_key("service", Some(1))];
    let content = Verdict::Authentic(entitlement_content(&keyed));
    assert!(matches!(import(&mut ledger, content), Outcome::Accepted));
    let receipt = |label: &str, outcome| {
        Fact::Key(KeyReceipt {
            entitlement: "keyed".parse().unwrap(),
            label: label.parse().unwrap(),
            outcome,
        })
    };
    let refused = |code: &str| KeyOutcome::Refused {
        code: code.to_owned(),
    };
    for (fact, why) in [
        (
            receipt("other", KeyOutcome::Unwrapped),
            "entitlement keyed brings no key other",
        ),
        (
            receipt("service", KeyOutcome::Imported),
            "key service of keyed may not pass through memory",
        ),
        (
            receipt("service", refused("no code")),
            "`no code` is not a code",
        ),
    ] {
        let error = ledger.record(NEW_YEAR, fact).unwrap_err();
        assert_eq!(
            error.to_string(),
            format!("the ledger cannot record this: {why}")
        );
    }
    for outcome in [refused("HSM-FULL"), KeyOutcome::Unwrapped] {
        ledger
            .record(NEW_YEAR, receipt("service", outcome))
            .unwrap();
    }
    let reservation = reserve(&mut ledger, "TH-400", &csr("A1", 1));
    ledger.commit().unwrap();
    let label = ["service".parse().unwrap()];
    assert_eq!(ledger.unfinished()[0].keys, label);
    complete(&mut ledger, reservation);
    ledger.commit().unwrap();
    let history = ledger.device(None, &"A1".parse().unwrap()).unwrap();
    assert_eq!(history[0].keys, label);
    match submit(&mut ledger, "TH-400", &csr("A2", 2)) {
        Outcome::Refused(refusal) => assert_eq!(refusal.code(), "KEY-USES-EXHAUSTED"),
        other => panic!("{other:?}"),
    }
    ledger.commit().unwrap();
    check(&ledger);
}

#[test]
fn a_full_disk_takes_back_orders_and_re_issues_and_they_are_made_again() {
    // The genesis is append 0, furnishing 1; then a unit, a rotation, a revocation, a re-issue and its signature.
    for fail in 2..8 {
        let mut log = FaultyLog::new(MemoryLog::new());
        log.fail_append(fail, Fault::DiskFull);
        let index = Box::new(MemoryIndex::new());
        let mut ledger = Ledger::over(Box::new(log), index, genesis(), NEW_YEAR).unwrap();
        furnish(&mut ledger);
        let request = csr("A1", 1);
        let mut failures = 0;
        let mut durably = |ledger: &mut Ledger, stage: &dyn Fn(&mut Ledger)| {
            loop {
                let before = ledger.state().clone();
                stage(ledger);
                match ledger.commit() {
                    Ok(()) => break,
                    Err(error) => assert_eq!(error.code(), "DISK-FULL"),
                }
                assert_eq!(*ledger.state(), before);
                failures += 1;
            }
        };
        let ask = |ledger: &mut Ledger| drop(reserve(ledger, "TH-200", &request));
        let sign_open = |ledger: &mut Ledger| {
            for open in ledger.unfinished() {
                let ca = ledger.state().device_ca_of(open.reservation).unwrap();
                let key = match ca.generation {
                    1 => &authorities().device_ca_key,
                    _ => &authorities().next_device_ca_key,
                };
                let signature = sign(key, &open.tbs);
                ledger
                    .signed_unfinished(NEW_YEAR, open.reservation, signature)
                    .unwrap();
            }
        };
        durably(&mut ledger, &ask);
        durably(&mut ledger, &sign_open);
        durably(&mut ledger, &|ledger| {
            ledger.record(NEW_YEAR, Fact::Rotation(rotation())).unwrap();
            let granted = Verdict::Authentic(rotation_content(&rotation_grant()));
            assert!(matches!(import(ledger, granted), Outcome::Accepted));
        });
        durably(&mut ledger, &|ledger| {
            let content = revocation_content(&revocation(1, first_ca()));
            let outcome = import(ledger, Verdict::Authentic(content));
            assert!(matches!(outcome, Outcome::Accepted));
        });
        durably(&mut ledger, &ask);
        durably(&mut ledger, &sign_open);
        assert_eq!(failures, 1, "append {fail}");
        let history = ledger.device(None, &"A1".parse().unwrap()).unwrap();
        let issues: Vec<_> = history.iter().map(|one| one.issue).collect();
        assert_eq!(issues, [0, 1]);
        assert_eq!(ledger.state().account(tag(1)).unwrap().good, 1);
        check(&ledger);
    }
}
