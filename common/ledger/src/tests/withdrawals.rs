//! Units that were taken back, devices that were made again, and the CRLs that say so; and each way of cheating with them,
//! which is one finding.

use mintmark_pki::CertificationRequest;
use mintmark_protocol::entitlement::Entitlement;
use mintmark_protocol::identifier::Fingerprint;
use mintmark_protocol::revocation::Target;

use super::fixture::*;
use crate::decide::{Input, decide};
use crate::entry::{
    Body, CrlIssued, DeviceAction, DeviceChanged, DeviceOrder, KeyOutcome, LogSequence, Refused,
    Reserved,
};
use crate::refusal::Refusal;
use crate::replay::Severity;
use crate::state::{ANSWERS_LOGGED_MAX, State, Withdrawal};

pub(super) fn device_order(action: DeviceAction, product: &str, device: &str) -> DeviceOrder {
    DeviceOrder {
        action,
        product: sku(product),
        device_id: device.parse().unwrap(),
        reason: "it fell off the bench".to_owned(),
        station: mintmark_protocol::identifier::StationId::console(),
    }
}

fn decided(vault: &Chronicle, order: &DeviceOrder) -> crate::decide::Decision {
    let input = Input::Device(order);
    decide(&vault.state, &vault.devices, None, vault.now, input).unwrap()
}

/// Has the vault decide on a device order. The code, if it is refused.
pub(super) fn order(
    vault: &mut Chronicle,
    action: DeviceAction,
    product: &str,
    device: &str,
) -> Result<(), String> {
    let order = device_order(action, product, device);
    let body = decided(vault, &order).to_body();
    vault.write(Body::Device(order));
    vault.write(body.clone());
    match body {
        Body::DeviceChanged(_) => Ok(()),
        other => Err(other.code().unwrap().to_owned()),
    }
}

fn scrap(vault: &mut Chronicle, device: &str) -> Result<(), String> {
    order(vault, DeviceAction::Scrap, "TH-200", device)
}

fn void(vault: &mut Chronicle, device: &str) -> Result<(), String> {
    order(vault, DeviceAction::Void, "TH-200", device)
}

fn rework(vault: &mut Chronicle, device: &str) -> Result<(), String> {
    order(vault, DeviceAction::Rework, "TH-200", device)
}

fn refused(code: &str) -> Result<(), String> {
    Err(code.to_owned())
}

fn terms(reissues: u32) -> Entitlement {
    let mut terms = entitlement(
        "both",
        vec![product(1, "TH-200", 6), product(2, "TH-300", 6)],
    );
    terms.products[0].reissues_per_device = reissues;
    terms
}

/// A vault that may rework each TH-200 once, with three honest ones: A0, A1 and A2, each of the key of its number.
fn vault() -> Chronicle {
    let mut vault = Chronicle::entitled(&[terms(1)]);
    for unit in 0..3 {
        vault.issue("TH-200", &csr(&format!("A{unit}"), unit));
    }
    vault
}

/// Good, scrapped, voided, unresolved, unspent; and that they add up.
fn counts(vault: &Chronicle) -> [u64; 5] {
    let account = vault.state.account(tag(1)).unwrap();
    let counts = [
        account.good,
        account.scrapped,
        account.voided,
        account.unresolved,
        account.unspent(),
    ];
    assert_eq!(counts.iter().sum::<u64>(), account.authorised);
    counts
}

fn code(body: &Body) -> &str {
    body.code().unwrap_or(body.kind())
}

fn reserved(body: Body) -> Reserved {
    match body {
        Body::Reserved(reserved) => reserved,
        other => panic!("{other:?}"),
    }
}

/// What the CRL of a device CA names: slot, issue and why.
fn on_crl(state: &State, generation: u16) -> Vec<(u64, u16, Withdrawal)> {
    let entries = state.crl_entries(generation);
    entries
        .map(|((_, slot, issue), withdrawn)| (*slot, *issue, withdrawn.why))
        .collect()
}

fn crl(vault: &Chronicle, number: u64) -> CrlIssued {
    CrlIssued {
        generation: 1,
        number,
        sha256: Fingerprint::of(b"a CRL"),
        this_update: vault.now,
        next_update: vault.state.crl_next_update(vault.now),
    }
}

pub(super) fn first_ca() -> Target {
    Target::DeviceCa(Fingerprint::of(authorities().device_ca.certificate_der()))
}

#[test]
fn a_scrapped_device_stays_spent_is_on_the_crl_and_gets_nothing_more() {
    let mut vault = vault();
    assert_eq!(scrap(&mut vault, "A1"), Ok(()));
    assert_eq!(counts(&vault), [2, 1, 0, 0, 3]);
    assert_eq!(on_crl(&vault.state, 1), [(1, 0, Withdrawal::Scrapped)]);
    for key in [1, 77] {
        let answer = vault.request("TH-200", &csr("A1", key));
        assert_eq!(code(&answer), "DEVICE-SCRAPPED", "{key}");
    }
    for action in DeviceAction::ALL {
        let again = order(&mut vault, action, "TH-200", "A1");
        assert_eq!(again, refused("DEVICE-SCRAPPED"));
    }
    assert_eq!(counts(&vault), [2, 1, 0, 0, 3]);
    // Its key is good for no other device, and the next device spends another unit.
    assert_eq!(code(&vault.request("TH-200", &csr("A9", 1))), "KEY-REUSED");
    let next = reserved(vault.request("TH-200", &csr("A3", 3)));
    assert_eq!((next.slot, next.issue), (3, 0));
    assert_eq!(vault.findings(), []);
}

#[test]
fn a_unit_that_came_to_nothing_is_voided_with_or_without_its_certificate() {
    let mut vault = vault();
    let _ = vault.request("TH-200", &csr("A3", 3));
    let open = LogSequence(vault.state.size() - 1);
    assert_eq!(counts(&vault), [3, 0, 0, 1, 2]);
    // Nothing but voiding fits a unit without a certificate.
    assert_eq!(scrap(&mut vault, "A3"), refused("DEVICE-UNRESOLVED"));
    assert_eq!(rework(&mut vault, "A3"), refused("DEVICE-UNRESOLVED"));
    assert_eq!(void(&mut vault, "A3"), Ok(()));
    assert_eq!(void(&mut vault, "A0"), Ok(()));
    assert_eq!(counts(&vault), [2, 0, 2, 0, 2]);
    assert_eq!(vault.state.unsettled().count(), 0);
    // Its certificate is pinned, so its serial is known to all who look at the CRL, should somebody sign it.
    let voided = [(0, 0, Withdrawal::Voided), (3, 0, Withdrawal::Voided)];
    assert_eq!(on_crl(&vault.state, 1), voided);
    let withheld = vault.state.withheld(open).unwrap();
    assert_eq!(withheld.code(), "DEVICE-UNIT-ENDED");
    assert_eq!(
        code(&vault.request("TH-200", &csr("A3", 3))),
        "DEVICE-VOIDED"
    );
    assert_eq!(void(&mut vault, "A3"), refused("DEVICE-VOIDED"));
    assert_eq!(vault.findings(), []);
}

#[test]
fn a_rework_gives_the_same_unit_another_certificate_and_ends_the_one_before_when_it_is_reserved() {
    let mut vault = vault();
    let other_key = csr("A1", 11);
    assert_eq!(
        code(&vault.request("TH-200", &other_key)),
        "DEVICE-KEY-CHANGED"
    );
    assert_eq!(rework(&mut vault, "A1"), Ok(()));
    assert_eq!(rework(&mut vault, "A1"), refused("REWORK-OPEN"));
    assert_eq!(on_crl(&vault.state, 1), []);
    // A key of another device, or one that another device gave up, is no key of this one.
    assert_eq!(code(&vault.request("TH-200", &csr("A1", 0))), "KEY-REUSED");
    let again = reserved(vault.request("TH-200", &other_key));
    assert_eq!((again.slot, again.issue), (1, 1));
    assert_eq!(on_crl(&vault.state, 1), [(1, 0, Withdrawal::Superseded)]);
    let reservation = LogSequence(vault.state.size() - 1);
    vault.sign(reservation, &again.tbs);
    assert_eq!(counts(&vault), [3, 0, 0, 0, 3]);
    assert_eq!(vault.state.units(), 3);
    assert_eq!(
        vault.request("TH-200", &other_key),
        Body::Existing { reservation }
    );
    // The key before is given up, for this device and for every other.
    assert_eq!(
        code(&vault.request("TH-200", &csr("A1", 1))),
        "DEVICE-KEY-CHANGED"
    );
    assert_eq!(code(&vault.request("TH-200", &csr("A9", 1))), "KEY-REUSED");
    assert_eq!(rework(&mut vault, "A1"), refused("REWORK-EXHAUSTED"));
    // An amendment may allow more; the key that was given up does not come back by that.
    let mut more = terms(2);
    more.version = 2;
    assert_eq!(vault.entitle(&more), Ok(()));
    assert_eq!(rework(&mut vault, "A1"), Ok(()));
    assert_eq!(code(&vault.request("TH-200", &csr("A1", 1))), "KEY-REUSED");
    let third = vault.issue("TH-200", &other_key);
    assert_eq!(vault.state.reworks_of(tag(1), 1), 2);
    assert_eq!(
        vault.request("TH-200", &other_key),
        Body::Existing { reservation: third }
    );
    // Only the newest one is ended by scrapping: the ones before were, each when its successor came.
    assert_eq!(scrap(&mut vault, "A1"), Ok(()));
    assert_eq!(
        on_crl(&vault.state, 1),
        [
            (1, 0, Withdrawal::Superseded),
            (1, 1, Withdrawal::Superseded),
            (1, 2, Withdrawal::Scrapped)
        ]
    );
    assert_eq!(counts(&vault), [2, 1, 0, 0, 3]);
    assert_eq!(vault.findings(), []);
}

#[test]
fn a_device_that_is_scrapped_while_its_rework_is_open_or_unsigned_is_counted_once() {
    let mut vault = vault();
    assert_eq!(rework(&mut vault, "A0"), Ok(()));
    assert_eq!(scrap(&mut vault, "A0"), Ok(()));
    assert_eq!(vault.state.rework_open(tag(1), 0), None);
    assert_eq!(rework(&mut vault, "A1"), Ok(()));
    let _ = vault.request("TH-200", &csr("A1", 11));
    let open = LogSequence(vault.state.size() - 1);
    assert_eq!(counts(&vault), [2, 1, 0, 0, 3]);
    assert_eq!(scrap(&mut vault, "A1"), Ok(()));
    assert_eq!(counts(&vault), [1, 2, 0, 0, 3]);
    let withheld = vault.state.withheld(open).unwrap();
    assert_eq!(withheld.code(), "DEVICE-UNIT-ENDED");
    assert_eq!(
        on_crl(&vault.state, 1),
        [
            (0, 0, Withdrawal::Scrapped),
            (1, 0, Withdrawal::Superseded),
            (1, 1, Withdrawal::Scrapped)
        ]
    );
    assert_eq!(vault.findings(), []);
}

#[test]
fn a_rework_whose_certificate_was_never_signed_gives_way_to_the_next() {
    let mut vault = Chronicle::entitled(&[terms(2)]);
    vault.issue("TH-200", &csr("A0", 0));
    assert_eq!(rework(&mut vault, "A0"), Ok(()));
    let lost = reserved(vault.request("TH-200", &csr("A0", 10)));
    assert_eq!(rework(&mut vault, "A0"), Ok(()));
    vault.issue("TH-200", &csr("A0", 20));
    assert_eq!(counts(&vault), [1, 0, 0, 0, 5]);
    assert!(vault.state.reservations().is_empty());
    assert_eq!(
        on_crl(&vault.state, 1),
        [
            (0, 0, Withdrawal::Superseded),
            (0, lost.issue, Withdrawal::Superseded)
        ]
    );
    assert_eq!(vault.findings(), []);
}

#[test]
fn a_device_that_is_not_known_and_a_product_without_reworks_are_refused() {
    let mut vault = vault();
    vault.issue("TH-300", &csr("B0", 100));
    assert_eq!(scrap(&mut vault, "B0"), refused("DEVICE-UNKNOWN"));
    let of = |action| device_order(action, "TH-300", "B0");
    let decision = decided(&vault, &of(DeviceAction::Rework));
    assert!(
        matches!(
            decision.refusal(),
            Some(Refusal::ReworkExhausted { allowed: 0, .. })
        ),
        "{decision:?}"
    );
    let scrapped = order(&mut vault, DeviceAction::Scrap, "TH-300", "B0");
    assert_eq!(scrapped, Ok(()));
    assert_eq!(counts(&vault), [3, 0, 0, 0, 3]);
    assert_eq!(vault.findings(), []);
}

#[test]
fn devices_are_scrapped_whatever_stops_issuing_and_reworked_only_while_nothing_does() {
    let mut vault = vault();
    let now = vault.now;
    vault.now = now - 301;
    assert_eq!(rework(&mut vault, "A0"), refused("CLOCK-BACK"));
    assert_eq!(scrap(&mut vault, "A0"), Ok(()));
    vault.now = now;
    let target = Target::Entitlement("both".parse().unwrap());
    assert_eq!(vault.revoke(target), Ok(()));
    assert_eq!(rework(&mut vault, "A1"), refused("ENTITLEMENT-REVOKED"));
    assert_eq!(void(&mut vault, "A1"), Ok(()));
    assert_eq!(vault.revoke(Target::Vault), Ok(()));
    assert_eq!(rework(&mut vault, "A2"), refused("VAULT-DISABLED"));
    assert_eq!(scrap(&mut vault, "A2"), Ok(()));
    assert_eq!(counts(&vault), [0, 2, 1, 0, 3]);
    assert_eq!(vault.findings(), []);
}

#[test]
fn a_re_issue_that_a_device_ca_forces_is_not_for_what_was_taken_back() {
    let mut vault = vault();
    assert_eq!(scrap(&mut vault, "A0"), Ok(()));
    assert_eq!(void(&mut vault, "A1"), Ok(()));
    vault.rotate();
    assert_eq!(vault.revoke(first_ca()), Ok(()));
    for (device, key, expected) in [
        ("A0", 0, "DEVICE-SCRAPPED"),
        ("A1", 1, "DEVICE-VOIDED"),
        ("A2", 2, "reserved"),
    ] {
        let answer = vault.request("TH-200", &csr(device, key));
        assert_eq!(code(&answer), expected, "{device}");
    }
    // What the revoked one certified stands on its list; what the next one did would stand on that one's.
    let reservation = LogSequence(vault.state.size() - 1);
    let tbs = vault.state.reservations()[&reservation].tbs.clone();
    vault.sign(reservation, &tbs);
    assert_eq!(scrap(&mut vault, "A2"), Ok(()));
    assert_eq!(on_crl(&vault.state, 2), [(2, 1, Withdrawal::Scrapped)]);
    assert_eq!(on_crl(&vault.state, 1).len(), 2);
    assert_eq!(counts(&vault), [0, 2, 1, 0, 3]);
    assert_eq!(vault.findings(), []);
}

#[test]
fn a_rework_gets_its_secrets_again_and_each_counts() {
    let mut keyed = terms(1);
    keyed.keys = vec![device_key("service", Some(3))];
    let mut vault = Chronicle::entitled(&[keyed]);
    vault.write(key_receipt("both", "service", KeyOutcome::Unwrapped));
    vault.issue("TH-200", &csr("A0", 0));
    assert_eq!(rework(&mut vault, "A0"), Ok(()));
    let again = reserved(vault.request("TH-200", &csr("A0", 10)));
    assert_eq!(again.keys, ["service".parse().unwrap()]);
    let uses = |vault: &Chronicle| vault.state.keys().next().unwrap().uses;
    assert_eq!(uses(&vault), 2);
    vault.issue("TH-200", &csr("A1", 1));
    assert_eq!(rework(&mut vault, "A1"), Ok(()));
    let exhausted = vault.request("TH-200", &csr("A1", 11));
    assert_eq!(code(&exhausted), "KEY-USES-EXHAUSTED");
    assert_eq!(vault.findings(), []);
}

#[test]
fn a_rework_is_asked_what_the_first_certificate_was_asked_and_nothing_that_counts_units() {
    let mut narrow = terms(1);
    narrow.products[0].units = 1;
    narrow.products[0].units_per_hour = Some(1);
    let mut vault = Chronicle::entitled(&[narrow]);
    vault.issue("TH-200", &csr("A0", 0));
    assert_eq!(rework(&mut vault, "A0"), Ok(()));
    let mut late = vault.clone();
    late.now = NEW_YEAR + 90 * DAY;
    // The CRL and the bundle are a question of their own; the window is that of the product.
    let answer = late.decision("TH-200", &csr("A0", 10));
    assert_eq!(code(&answer), "WINDOW-CLOSED");
    let again = reserved(vault.request("TH-200", &csr("A0", 10)));
    assert_eq!((again.slot, again.issue), (0, 1));
    assert_eq!(vault.findings(), []);
}

#[test]
fn refused_orders_are_logged_within_the_cap_of_other_answers() {
    let mut vault = vault();
    let before = vault.state.answers_logged;
    assert_eq!(scrap(&mut vault, "A9"), refused("DEVICE-UNKNOWN"));
    assert_eq!(vault.state.answers_logged, before + 1);
    assert_eq!(scrap(&mut vault, "A0"), Ok(()));
    assert_eq!(vault.state.answers_logged, before + 1);
    let cap = ANSWERS_LOGGED_MAX + vault.state.units_since_bundle;
    vault.state.answers_logged = cap - 1;
    assert!(vault.state.may_log_answer());
    assert_eq!(scrap(&mut vault, "A9"), refused("DEVICE-UNKNOWN"));
    assert!(!vault.state.may_log_answer());
}

#[test]
fn a_crl_is_due_when_something_is_missing_on_it_and_when_half_its_life_is_over() {
    let mut vault = vault();
    let due = |vault: &Chronicle| vault.state.crls_due(vault.now).collect::<Vec<_>>();
    vault.report();
    assert_eq!(due(&vault), Vec::<u16>::new());
    assert!(!vault.state.needs_bundle(vault.now + 1000 * DAY));
    assert_eq!(scrap(&mut vault, "A0"), Ok(()));
    assert_eq!(due(&vault), [1]);
    vault.write(Body::Crl(crl(&vault, 1)));
    assert_eq!(due(&vault), Vec::<u16>::new());
    vault.report();
    assert!(!vault.state.has_news());
    // Fourteen days without an acknowledgement are allowed: a CRL is good for thirty.
    let (_, signed) = vault.state.crl(1).unwrap();
    assert_eq!(signed.next_update, vault.now + 30 * DAY);
    assert!(!vault.state.needs_bundle(vault.now + 15 * DAY - 1));
    assert!(vault.state.needs_bundle(vault.now + 15 * DAY));
    let mut patient = terms(1);
    patient.version = 2;
    patient.credit.unreported_days_max = 60;
    assert_eq!(vault.entitle(&patient), Ok(()));
    assert_eq!(
        vault.state.crl_next_update(vault.now),
        vault.now + 120 * DAY
    );
    // What the root's CRL ends as a whole needs none of its own.
    vault.rotate();
    assert_eq!(vault.revoke(first_ca()), Ok(()));
    vault.now += 15 * DAY;
    assert_eq!(due(&vault), Vec::<u16>::new());
    assert_eq!(vault.findings(), []);
}

#[test]
fn a_crl_that_cannot_be_the_next_one_is_found() {
    let mut honest = vault();
    honest.write(Body::Crl(crl(&honest, 1)));
    assert_eq!(honest.findings(), []);
    let next = crl(&honest, 2);
    let wrong = [
        crl(&honest, 1),
        crl(&honest, 3),
        CrlIssued {
            generation: 2,
            ..next
        },
        CrlIssued {
            next_update: next.this_update,
            ..next
        },
        CrlIssued {
            this_update: honest.now + 1,
            ..next
        },
    ];
    for wrong in wrong {
        let mut vault = honest.clone();
        let at = vault.state.size();
        vault.write(Body::Crl(wrong));
        assert_eq!(vault.findings(), [(at, "CRL-MISMATCH")], "{wrong:?}");
    }
}

// Frauds.

/// Reserves as told, and signs it: what a changed program of a vault would do. The reservation.
fn forge(vault: &mut Chronicle, csr: &CertificationRequest, reserved: Reserved) -> u64 {
    vault.write(request("TH-200", csr));
    let (reservation, tbs) = (LogSequence(vault.state.size()), reserved.tbs.clone());
    vault.write(Body::Reserved(reserved));
    vault.sign(reservation, &tbs);
    reservation.number()
}

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
        let at = forge(&mut vault, &csr, again);
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
        let at = forge(&mut vault, &csr, again);
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
    let at = forge(&mut vault, &csr, again);
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
    let at = forge(&mut vault, &csr, again);
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
