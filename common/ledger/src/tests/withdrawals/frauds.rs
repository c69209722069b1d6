//! Frauds with what was taken back, made again or voided.

use mintmark_protocol::revocation::Target;

use super::super::fixture::*;
use super::{counts, device_order, reserved, rework, scrap, vault, void};
use crate::entry::{Body, DeviceAction, DeviceChanged, LogSequence, Refused};
use crate::replay::Severity;

/// Everything that an honest vault still does afterwards.
fn goes_on(vault: &mut Chronicle) {
    vault.now += HOUR;
    vault.write(Body::Start(start(vault.state.boot() + 1)));
    vault.issue("TH-200", &csr("A7", 7));
    vault.issue("TH-300", &csr("B7", 107));
    assert_eq!(scrap(vault, "A7"), Ok(()));
    vault.report();
}

#[track_caller]
fn finds(vault: &mut Chronicle, at: u64, code: &'static str, because: &str) {
    goes_on(vault);
    let found = vault.divergences();
    assert_eq!(found.len(), 1, "{found:#?}");
    let found = &found[0];
    assert_eq!((found.sequence.number(), found.code), (at, code), "{found}");
    assert_eq!(found.severity, Severity::Critical);
    assert!(found.expected.contains(because), "{found}");
}

#[test]
fn the_unit_of_a_scrapped_device_that_is_spent_again_on_another_one_is_a_slot_reuse() {
    for issue in [0, 1] {
        let mut vault = vault();
        assert_eq!(scrap(&mut vault, "A0"), Ok(()));
        let csr = csr("A3", 3);
        let mut again = reserved(vault.decision("TH-200", &csr));
        (again.slot, again.issue) = (0, issue);
        let at = vault.forge("TH-200", &csr, again);
        finds(&mut vault, at, "SLOT-REUSE", "");
    }
}

#[test]
fn a_certificate_for_a_device_that_was_scrapped_is_a_breach() {
    for key in [0, 10] {
        let mut vault = vault();
        // What it would have been if it had been reworked instead.
        let mut reworked = vault.clone();
        assert_eq!(rework(&mut reworked, "A0"), Ok(()));
        let csr = csr("A0", key);
        let again = reserved(reworked.decision("TH-200", &csr));
        assert_eq!(scrap(&mut vault, "A0"), Ok(()));
        let at = vault.forge("TH-200", &csr, again);
        finds(&mut vault, at, "DEVICE-RETURNED", "DEVICE-SCRAPPED");
        // It is counted as what it is: scrapped, and on the CRL.
        assert_eq!(counts(&vault), [2, 2, 0, 0, 2]);
    }
}

#[test]
fn a_certificate_without_the_rework_that_it_needs_is_a_duplicate() {
    let mut vault = vault();
    let mut reworked = vault.clone();
    assert_eq!(rework(&mut reworked, "A0"), Ok(()));
    let csr = csr("A0", 10);
    let again = reserved(reworked.decision("TH-200", &csr));
    let at = vault.forge("TH-200", &csr, again);
    finds(&mut vault, at, "DEVICE-DUPLICATE", "DEVICE-KEY-CHANGED");
}

#[test]
fn a_rework_beyond_what_the_policy_allows_is_a_breach() {
    let mut vault = vault();
    assert_eq!(rework(&mut vault, "A0"), Ok(()));
    let newest = vault.issue("TH-200", &csr("A0", 10));
    vault.write(Body::Device(device_order(
        DeviceAction::Rework,
        "TH-200",
        "A0",
    )));
    let at = vault.state.size();
    vault.write(Body::DeviceChanged(DeviceChanged {
        reservation: newest,
        account: tag(1),
        slot: 0,
        issue: 1,
    }));
    // What comes of it follows from it: one fraud is one finding.
    vault.issue("TH-200", &csr("A0", 20));
    finds(&mut vault, at, "POLICY-BREACH", "REWORK-EXHAUSTED");
}

#[test]
fn a_rework_that_a_rule_forbids_is_a_breach_that_names_the_rule() {
    let mut vault = vault();
    assert_eq!(rework(&mut vault, "A0"), Ok(()));
    let csr = csr("A0", 10);
    let again = reserved(vault.decision("TH-200", &csr));
    assert_eq!(vault.revoke(Target::Vault), Ok(()));
    let at = vault.forge("TH-200", &csr, again);
    let found = vault.divergences();
    assert_eq!(
        (found[0].sequence.number(), found[0].code),
        (at, "POLICY-BREACH"),
        "{found:#?}"
    );
}

#[test]
fn a_voided_reservation_that_is_signed_is_found() {
    let mut vault = vault();
    let _ = vault.request("TH-200", &csr("A3", 3));
    let open = LogSequence(vault.state.size() - 1);
    let tbs = vault.state.reservations()[&open].tbs.clone();
    assert_eq!(void(&mut vault, "A3"), Ok(()));
    let at = vault.state.size();
    vault.sign(open, &tbs);
    assert_eq!(counts(&vault), [3, 0, 1, 0, 2]);
    finds(
        &mut vault,
        at,
        "SIGNED-AFTER-REVOCATION",
        "was scrapped or voided",
    );
}

#[test]
fn a_scrap_that_the_log_drops_or_says_of_another_device_is_found() {
    let scrap_a0 = || Body::Device(device_order(DeviceAction::Scrap, "TH-200", "A0"));
    let mut dropped = vault();
    dropped.write(scrap_a0());
    let at = dropped.state.size();
    finds(&mut dropped, at, "DECISION-MISSING", "");

    let mut denied = vault();
    denied.write(scrap_a0());
    let at = denied.state.size();
    denied.write(Body::Refused(Refused {
        code: "DEVICE-UNKNOWN".to_owned(),
        entitlement: None,
    }));
    finds(&mut denied, at, "WRONGLY-REFUSED", "the device of record");

    let mut swapped = vault();
    let other = swapped.devices.clone();
    let other = crate::decide::Lookup::device(&other, &sku("TH-200"), &"A1".parse().unwrap());
    let other = other.unwrap().unwrap();
    swapped.write(scrap_a0());
    let at = swapped.state.size();
    swapped.write(Body::DeviceChanged(DeviceChanged {
        reservation: other.reservation,
        account: other.account,
        slot: other.slot,
        issue: other.issue,
    }));
    finds(
        &mut swapped,
        at,
        "DECISION-DIVERGES",
        "the device of record",
    );
}

#[test]
fn an_order_that_nobody_gave_is_found() {
    let mut vault = vault();
    let at = vault.state.size();
    vault.write(Body::DeviceChanged(DeviceChanged {
        reservation: LogSequence(at - 2),
        account: tag(1),
        slot: 2,
        issue: 0,
    }));
    finds(&mut vault, at, "DECISION-MISSING", "an input");
    // Without its order it changes nothing.
    assert_eq!(vault.state.account(tag(1)).unwrap().scrapped, 1);
}
