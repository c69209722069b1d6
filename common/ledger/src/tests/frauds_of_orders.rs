//! Each way of not following an order is one finding, and the honest records around it are none.

use mintmark_pki::CertificationRequest;
use mintmark_protocol::identifier::Fingerprint;
use mintmark_protocol::revocation::Target;

use super::fixture::*;
use crate::entry::{Body, KeyOutcome, LogSequence, Reserved, Trust, Verdict};
use crate::replay::Severity;

/// A vault with two entitlements, a key, and a few honest units.
fn vault() -> Chronicle {
    let mut keyed = entitlement("keyed", vec![product(1, "TH-200", 6)]);
    keyed.keys = vec![device_key("service", Some(3))];
    let plain = entitlement("plain", vec![product(2, "TH-300", 6)]);
    let mut vault = Chronicle::entitled(&[keyed, plain]);
    vault.write(key_receipt("keyed", "service", KeyOutcome::Unwrapped));
    vault.issue("TH-200", &csr("A0", 0));
    vault.issue("TH-300", &csr("B0", 100));
    vault
}

/// What the vault would reserve if the orders after this had not come.
fn honest(vault: &Chronicle, product: &str, csr: &CertificationRequest) -> Reserved {
    match vault.decision(product, csr) {
        Body::Reserved(reserved) => reserved,
        other => panic!("{other:?}"),
    }
}

/// Everything that an honest vault still does afterwards.
fn goes_on(vault: &mut Chronicle) {
    vault.now += HOUR;
    vault.write(Body::Start(start(vault.state.boot() + 1)));
    let _ = vault.request("TH-300", &csr("B7", 107));
    let _ = vault.request("TH-200", &csr("A0", 0));
    vault.report();
}

fn first_ca() -> Target {
    let certificate = authorities().device_ca.certificate_der();
    Target::DeviceCa(Fingerprint::of(certificate))
}

fn of(id: &str) -> Target {
    Target::Entitlement(id.parse().unwrap())
}

#[test]
fn a_unit_of_a_revoked_entitlement_is_a_breach() {
    let mut vault = vault();
    let csr = csr("B1", 101);
    let reserved = honest(&vault, "TH-300", &csr);
    assert_eq!(vault.revoke(of("plain")), Ok(()));
    let at = vault.forge("TH-300", &csr, reserved);
    goes_on(&mut vault);
    assert_eq!(vault.findings(), [(at, "POLICY-BREACH")]);
    let breach = &vault.divergences()[0];
    assert!(breach.expected.contains("ENTITLEMENT-REVOKED"), "{breach}");
    assert_eq!(breach.serials.len(), 1);
    // What was made is counted all the same.
    assert_eq!(vault.state.account(tag(2)).unwrap().good, 2);
}

#[test]
fn completing_what_was_reserved_before_the_revocation_is_found() {
    let mut vault = vault();
    let _ = vault.request("TH-300", &csr("B1", 101));
    let open = LogSequence(vault.state.size() - 1);
    let tbs = vault.state.reservations()[&open].tbs.clone();
    assert_eq!(vault.revoke(of("plain")), Ok(()));
    let at = vault.state.size();
    vault.sign(open, &tbs);
    goes_on(&mut vault);
    assert_eq!(vault.findings(), [(at, "SIGNED-AFTER-REVOCATION")]);
    let found = &vault.divergences()[0];
    assert!(
        found.expected.contains("entitlement plain was revoked"),
        "{found}"
    );
}

#[test]
fn a_device_certificate_after_the_vault_was_disabled_is_found() {
    let mut vault = vault();
    let csr = csr("B1", 101);
    let reserved = honest(&vault, "TH-300", &csr);
    assert_eq!(vault.revoke(Target::Vault), Ok(()));
    let at = vault.forge("TH-300", &csr, reserved);
    goes_on(&mut vault);
    assert_eq!(vault.findings(), [(at, "POLICY-BREACH")]);
}

#[test]
fn a_device_certificate_under_a_revoked_device_ca_is_found() {
    let mut vault = vault();
    let csr = csr("B1", 101);
    let reserved = honest(&vault, "TH-300", &csr);
    assert_eq!(vault.revoke(first_ca()), Ok(()));
    let at = vault.forge("TH-300", &csr, reserved);
    goes_on(&mut vault);
    assert_eq!(vault.findings(), [(at, "POLICY-BREACH")]);
}

#[test]
fn a_revocation_that_a_vault_says_it_refused_is_found() {
    let mut vault = vault();
    let next = vault.state.next_dispatch().sequence;
    let content = Verdict::Authentic(revocation_content(&revocation(1, Target::Vault)));
    vault.write(Body::Dispatch(dispatch(next, content)));
    let at = vault.state.size();
    vault.write(Body::DispatchRefused {
        code: "REVOCATION-NUMBER-TAKEN".to_owned(),
    });
    goes_on(&mut vault);
    assert_eq!(vault.findings(), [(at, "WRONGLY-REFUSED")]);
}

#[test]
fn a_clock_correction_that_the_rules_refuse_counts_and_is_found() {
    let mut vault = vault();
    vault.now += DAY;
    let next = vault.state.next_dispatch().sequence;
    let mut expired = clock_correction(1, NEW_YEAR);
    expired.approve_until = NEW_YEAR;
    let content = Verdict::Authentic(clock_content(&expired));
    vault.write(Body::Dispatch(dispatch(next, content)));
    let at = vault.state.size();
    vault.write(Body::DispatchAccepted);
    vault.now = NEW_YEAR;
    goes_on(&mut vault);
    assert_eq!(vault.findings(), [(at, "DECISION-DIVERGES")]);
    let found = &vault.divergences()[0];
    assert!(
        found.expected.contains("CLOCK-CORRECTION-EXPIRED"),
        "{found}"
    );
}

#[test]
fn a_secret_beyond_the_uses_of_its_key_is_found() {
    let mut vault = vault();
    vault.issue("TH-200", &csr("A1", 1));
    let csr_of = |unit: u64| csr(&format!("A{unit}"), unit);
    let mut over = honest(&vault, "TH-200", &csr_of(3));
    vault.issue("TH-200", &csr_of(2));
    // Its place is the next one; the rest is as it would have been.
    over.slot += 1;
    let serial = serials().serial(tag(1), over.slot, 0);
    let mut honest_vault = vault.clone();
    let mut amended = entitlement("keyed", vec![product(1, "TH-200", 6)]);
    amended.version = 2;
    amended.keys = vec![device_key("service", None)];
    assert_eq!(honest_vault.entitle(&amended), Ok(()));
    over = honest(&honest_vault, "TH-200", &csr_of(3));
    assert_eq!(crate::serial::serial_of(&over.tbs), Some(serial));
    let at = vault.forge("TH-200", &csr_of(3), over);
    goes_on(&mut vault);
    assert_eq!(vault.findings(), [(at, "KEY-USES-EXCEEDED")]);
    let found = &vault.divergences()[0];
    assert!(found.expected.contains("KEY-USES-EXHAUSTED"), "{found}");
    let key = vault.state.keys().next().unwrap();
    assert_eq!((key.uses, key.terms.uses_max), (4, Some(3)));
}

#[test]
fn a_secret_that_the_terms_do_not_give_or_that_is_left_out_is_found() {
    for keys in [
        vec![],
        vec!["service".parse().unwrap(), "other".parse().unwrap()],
    ] {
        let mut vault = vault();
        let csr = csr("A1", 1);
        let mut reserved = honest(&vault, "TH-200", &csr);
        reserved.keys = keys;
        let at = vault.forge("TH-200", &csr, reserved);
        goes_on(&mut vault);
        assert_eq!(vault.findings(), [(at, "KEY-USE-MISMATCH")]);
    }
}

#[test]
fn a_re_issue_under_a_device_ca_that_is_not_revoked_is_a_duplicate() {
    let mut vault = vault();
    let csr = csr("B0", 100);
    // What it would be if the device CA were revoked.
    let mut revoked = vault.clone();
    revoked.rotate();
    assert_eq!(revoked.revoke(first_ca()), Ok(()));
    let reserved = honest(&revoked, "TH-300", &csr);
    assert_eq!((reserved.slot, reserved.issue), (0, 1));
    vault.rotate();
    let at = vault.forge("TH-300", &csr, reserved);
    goes_on(&mut vault);
    assert_eq!(vault.findings(), [(at, "DEVICE-DUPLICATE")]);
    // It spent nothing: one unit, as before.
    assert_eq!(vault.state.account(tag(2)).unwrap().spent(), 2);
}

#[test]
fn a_re_issue_to_a_device_that_never_had_a_certificate_is_a_slot_reuse() {
    let mut vault = vault();
    vault.rotate();
    assert_eq!(vault.revoke(first_ca()), Ok(()));
    let csr = csr("B1", 101);
    let mut reserved = honest(&vault, "TH-300", &csr);
    (reserved.slot, reserved.issue) = (0, 1);
    let at = vault.forge("TH-300", &csr, reserved);
    goes_on(&mut vault);
    assert_eq!(vault.findings(), [(at, "SLOT-REUSE")]);
}

#[test]
fn a_re_issue_of_a_slot_that_was_never_spent_is_found() {
    let mut vault = vault();
    let csr = csr("B1", 101);
    let mut reserved = honest(&vault, "TH-300", &csr);
    reserved.issue = 1;
    let at = vault.forge("TH-300", &csr, reserved);
    assert_eq!(vault.findings(), [(at, "SLOT-MISMATCH")]);
}

#[test]
fn a_re_issue_of_the_same_device_twice_is_a_duplicate() {
    let mut vault = vault();
    vault.rotate();
    assert_eq!(vault.revoke(first_ca()), Ok(()));
    let csr = csr("B0", 100);
    let first = honest(&vault, "TH-300", &csr);
    vault.issue("TH-300", &csr);
    let at = vault.forge("TH-300", &csr, first);
    goes_on(&mut vault);
    assert_eq!(vault.findings(), [(at, "DEVICE-DUPLICATE")]);
}

#[test]
fn a_manifest_out_of_its_order_is_found_and_the_log_is_judged_from_there() {
    let trust = |version: u64, dispatch_epoch| {
        Body::Trust(Trust {
            version,
            fingerprint: Fingerprint::of(&version.to_be_bytes()),
            dispatch_epoch,
        })
    };
    let mut honest = vault();
    honest.write(trust(2, 1));
    honest.write(trust(3, 2));
    assert_eq!(honest.findings(), []);
    // Back to one that is over, the same again, one left out, and the next one with an epoch that is over.
    for wrong in [trust(2, 2), trust(3, 2), trust(5, 2), trust(4, 1)] {
        let mut vault = honest.clone();
        let at = vault.state.size();
        let version = match &wrong {
            Body::Trust(trust) => trust.version,
            other => panic!("{other:?}"),
        };
        vault.write(wrong);
        vault.write(trust(version + 1, 2));
        let found = vault.divergences();
        assert_eq!(found.len(), 1, "{found:#?}");
        assert_eq!(
            (found[0].sequence.number(), found[0].code, found[0].severity),
            (at, "TRUST-ORDER", Severity::Critical)
        );
    }
}

#[test]
fn a_re_issue_that_was_due_and_says_something_else_is_called_by_what_differs() {
    type Change = fn(&mut Reserved);
    let differs: [(&str, Change); 5] = [
        ("CERTIFICATE-DIFFERS", |r| {
            let last = r.tbs.len() - 1;
            r.tbs[last] ^= 1;
        }),
        ("DECISION-DIVERGES", |r| r.device_id = "B7".parse().unwrap()),
        ("DECISION-DIVERGES", |r| {
            r.entitlement = "keyed".parse().unwrap();
        }),
        ("DECISION-DIVERGES", |r| {
            r.spki_sha256 = Fingerprint::of(b"another key");
        }),
        ("KEY-USE-MISMATCH", |r| {
            r.keys = vec!["service".parse().unwrap()];
        }),
    ];
    for (code, change) in differs {
        let mut vault = vault();
        vault.rotate();
        assert_eq!(vault.revoke(first_ca()), Ok(()));
        let csr = csr("B0", 100);
        let mut reserved = honest(&vault, "TH-300", &csr);
        assert_eq!((reserved.slot, reserved.issue), (0, 1));
        change(&mut reserved);
        let at = vault.forge("TH-300", &csr, reserved);
        goes_on(&mut vault);
        assert_eq!(vault.findings(), [(at, code)]);
    }
}

/// A vault whose units of TH-300 are spent, a request for one more, and what it would reserve had it another slot.
fn spent_up() -> (Chronicle, CertificationRequest, Reserved) {
    let mut vault = vault();
    let one_more = csr("B9", 109);
    let reserved = honest(&vault, "TH-300", &one_more);
    for unit in 1..6 {
        vault.issue("TH-300", &csr(&format!("B{unit}"), 100 + unit));
    }
    assert_eq!(
        vault.decision("TH-300", &one_more).code(),
        Some("QUOTA-EXHAUSTED")
    );
    (vault, one_more, reserved)
}

#[test]
fn a_re_issue_in_the_place_of_a_refusal_is_a_slot_reuse() {
    let (mut vault, csr, mut reserved) = spent_up();
    (reserved.slot, reserved.issue) = (0, 1);
    let at = vault.forge("TH-300", &csr, reserved);
    goes_on(&mut vault);
    assert_eq!(vault.findings(), [(at, "SLOT-REUSE")]);
    let found = vault.divergences().remove(0);
    assert_eq!(
        found.found,
        "slot 0 (issue 1) of account 2 reserved for device B9 from entitlement plain"
    );
}

#[test]
fn a_unit_beyond_the_quota_is_an_over_issue_under_whatever_account_it_is_written() {
    let (mut vault, csr, mut reserved) = spent_up();
    reserved.account = tag(77);
    let at = vault.forge("TH-300", &csr, reserved);
    goes_on(&mut vault);
    assert_eq!(vault.findings(), [(at, "OVER-ISSUE")]);
}
