//! Units that were taken back, devices that were made again, and the CRLs that say so; and each way of cheating with them,
//! which is one finding.

mod frauds;

use mintmark_protocol::entitlement::Entitlement;
use mintmark_protocol::identifier::Fingerprint;
use mintmark_protocol::revocation::Target;

use super::fixture::*;
use crate::decide::{Input, decide};
use crate::entry::{Body, CrlIssued, DeviceAction, DeviceOrder, KeyOutcome, LogSequence, Reserved};
use crate::refusal::Refusal;
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
    let unsettled: Vec<_> = vault.state.unsettled().map(|(at, _)| *at).collect();
    assert_eq!(unsettled, [open]);
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
