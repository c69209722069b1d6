//! Each rule for disabled vaults, revoked device CAs, rotations, and the re-issues that they force.

use mintmark_protocol::enrolment::{EnrolmentGrant, Purpose};
use mintmark_protocol::identifier::{Fingerprint, Lineage};
use mintmark_protocol::revocation::Target;

use super::fixture::*;
use crate::entry::{Body, Content, LogSequence, Reserved, Rotation, Verdict};
use crate::serial::serial_of;

fn code(body: &Body) -> &str {
    body.code().unwrap_or(body.kind())
}

fn entitled() -> Chronicle {
    let mut five = entitlement("five", vec![product(1, "TH-200", 5)]);
    five.products[0].units_per_hour = Some(3);
    Chronicle::entitled(&[five])
}

fn first_ca() -> Target {
    let certificate = authorities().device_ca.certificate_der();
    Target::DeviceCa(Fingerprint::of(certificate))
}

fn reserved(body: Body) -> Reserved {
    match body {
        Body::Reserved(reserved) => reserved,
        other => panic!("{other:?}"),
    }
}

#[track_caller]
fn told(found: (String, String, String), code: &str, message: &str, hint: &str) {
    assert_eq!(
        found,
        (code.to_owned(), message.to_owned(), hint.to_owned())
    );
}

#[test]
fn a_disabled_vault_makes_no_new_devices_until_a_rotation_is_granted() {
    let mut vault = entitled();
    let issued = vault.issue("TH-200", &csr("A1", 1));
    let _ = vault.request("TH-200", &csr("A2", 2));
    let open = LogSequence(vault.state.size() - 1);
    assert_eq!(vault.revoke(Target::Vault), Ok(()));
    assert_eq!(vault.state.disabled_at().unwrap().time, NEW_YEAR);
    told(
        vault.why("TH-200", &csr("A3", 3)),
        "VAULT-DISABLED",
        "headquarters disabled this vault at 2027-01-01T00:00:00Z: it makes no new devices until it has another device CA",
        "run `site rotate` and carry its request to headquarters; the grant that comes back ends this",
    );
    let again = vault.request("TH-200", &csr("A1", 1));
    assert_eq!(
        again,
        Body::Existing {
            reservation: issued
        }
    );
    // A reservation that is not signed is of a device that was not made.
    assert_eq!(vault.state.withheld(open).unwrap().code(), "VAULT-DISABLED");
    assert_eq!(
        code(&vault.request("TH-200", &csr("A2", 2))),
        "VAULT-DISABLED"
    );
    // Entitlements and acknowledgements are taken all the same.
    vault.report();
    let more = entitlement("more", vec![product(2, "TH-300", 5)]);
    assert_eq!(vault.entitle(&more), Ok(()));
    vault.rotate();
    assert_eq!(vault.state.disabled_at(), None);
    assert_eq!(vault.state.withheld(open), None);
    let tbs = vault.state.reservations()[&open].tbs.clone();
    vault.sign(open, &tbs);
    vault.issue("TH-200", &csr("A3", 3));
    assert_eq!(vault.findings(), []);
}

#[test]
fn a_rotation_puts_a_second_device_ca_beside_the_first() {
    let mut vault = entitled();
    let before = vault.issue("TH-200", &csr("A1", 1));
    vault.write(Body::Rotation(rotation()));
    assert_eq!(vault.state.rotation_pending(), Some(rotation()));
    let granted = Verdict::Authentic(rotation_content(&rotation_grant()));
    assert_eq!(vault.import(granted), Ok(()));
    assert_eq!(vault.state.rotation_pending(), None);
    let cas = vault.state.device_cas();
    assert_eq!(
        cas.iter().map(|ca| ca.generation).collect::<Vec<_>>(),
        [1, 2]
    );
    assert_eq!(
        cas[1].certificate,
        authorities().next_device_ca.certificate_der()
    );
    let enrolment = vault.state.enrolment().unwrap();
    assert_eq!(enrolment.device_ca_certificate(), cas[1].certificate);
    let after = vault.issue("TH-200", &csr("A2", 2));
    assert_eq!(vault.state.device_ca_of(before).unwrap().generation, 1);
    assert_eq!(vault.state.device_ca_of(after).unwrap().generation, 2);
    // The certificate from before stays good, and is what the device is given.
    assert_eq!(
        vault.request("TH-200", &csr("A1", 1)),
        Body::Existing {
            reservation: before
        }
    );
    // The same grant again, under a new epoch say, changes nothing.
    let enrolment = vault.state.enrolment().cloned();
    for grant in [rotation_content(&rotation_grant()), grant_content(&grant())] {
        assert_eq!(vault.import(Verdict::Authentic(grant)), Ok(()));
        assert_eq!(vault.state.enrolment().cloned(), enrolment);
    }
    assert_eq!(vault.findings(), []);
}

#[test]
fn a_rotation_grant_answers_the_newest_request_and_changes_the_device_ca_alone() {
    let mut vault = entitled();
    let mut older = rotation();
    older.request_fingerprint = Fingerprint::of(b"an older request");
    let unasked = vault.why_not(rotation_content(&rotation_grant()));
    assert_eq!(
        unasked.1,
        "the enrolment grant does not fit this vault: its enrolment request differs"
    );
    vault.write(Body::Rotation(older));
    vault.write(Body::Rotation(rotation()));
    type Mismatch = (fn(&mut EnrolmentGrant), &'static str);
    let mismatches: [Mismatch; 9] = [
        (|g| g.vault.vault = "v2".parse().unwrap(), "vault"),
        (
            |g| g.request_fingerprint = Fingerprint::of(b"an older request"),
            "enrolment request",
        ),
        (|g| g.lineage = Lineage::new([9; 16]), "lineage"),
        (
            |g| g.purpose = Purpose::Rotation { generation: 3 },
            "generation",
        ),
        (
            |g| g.serial_master = key(9).verifying_key().into(),
            "serial key",
        ),
        (|g| g.identity_tbs[20] ^= 1, "identity certificate"),
        (|g| g.device_ca_tbs[20] ^= 1, "device CA certificate"),
        (
            |g| g.device_ca_tbs = grant().device_ca_tbs,
            "device CA certificate",
        ),
        (
            |g| g.identity_tbs = grant().device_ca_tbs,
            "identity certificate",
        ),
    ];
    for (change, what) in mismatches {
        let mut changed = rotation_grant();
        change(&mut changed);
        told(
            vault.why_not(rotation_content(&changed)),
            "GRANT-MISMATCH",
            &format!("the enrolment grant does not fit this vault: its {what} differs"),
            "tell headquarters; the grant must be drafted again",
        );
    }
    // Another key as the vault's identity.
    let mut content = rotation_content(&rotation_grant());
    if let Content::Grant {
        identity_certificate,
        device_ca_certificate,
        ..
    } = &mut content
    {
        *identity_certificate = device_ca_certificate.clone();
    }
    assert_eq!(
        vault.why_not(content).1,
        "the enrolment grant does not fit this vault: its identity key differs"
    );
    let mut late = rotation_grant();
    late.approve_until = vault.now;
    assert_eq!(vault.why_not(rotation_content(&late)).0, "GRANT-EXPIRED");
    // The first device CA again, as if it were a second one.
    let mut same = rotation_grant();
    same.device_ca_tbs = grant().device_ca_tbs;
    assert_eq!(
        vault.why_not(grant_content(&same)).1,
        "the enrolment grant does not fit this vault: its device CA key differs"
    );
    let granted = Verdict::Authentic(rotation_content(&rotation_grant()));
    assert_eq!(vault.import(granted), Ok(()));
    assert_eq!(vault.findings(), []);
}

#[test]
fn a_rotation_before_the_enrolment_is_refused() {
    let vault = Chronicle::new();
    told(
        vault.why_not(rotation_content(&rotation_grant())),
        "GRANT-MISMATCH",
        "the enrolment grant does not fit this vault: its generation differs",
        "tell headquarters; the grant must be drafted again",
    );
}

#[test]
fn a_vault_whose_device_ca_is_revoked_certifies_nothing_until_it_has_another() {
    let mut vault = entitled();
    vault.issue("TH-200", &csr("A1", 1));
    assert_eq!(vault.revoke(first_ca()), Ok(()));
    let message = "device CA 1 of this vault was revoked at 2027-01-01T00:00:00Z";
    let hint = "run `site rotate` and carry its request to headquarters";
    for (device, number) in [("A1", 1), ("A2", 2)] {
        told(
            vault.why("TH-200", &csr(device, number)),
            "DEVICE-CA-REVOKED",
            message,
            hint,
        );
        let _ = vault.request("TH-200", &csr(device, number));
    }
    vault.rotate();
    vault.issue("TH-200", &csr("A2", 2));
    assert_eq!(vault.findings(), []);
}

#[test]
fn a_device_whose_device_ca_was_revoked_gets_another_certificate_and_spends_nothing() {
    let mut vault = entitled();
    let before = vault.issue("TH-200", &csr("A1", 1));
    vault.issue("TH-200", &csr("A2", 2));
    vault.issue("TH-200", &csr("A3", 3));
    vault.rotate();
    assert_eq!(vault.revoke(first_ca()), Ok(()));
    // No unit is left of the hour, the entitlement is over, and a key has changed in between: it is none of their business.
    assert_eq!(code(&vault.request("TH-200", &csr("A4", 4))), "RATE-HOUR");
    vault.now = NEW_YEAR + 300 * DAY;
    let account = vault.state.account(tag(1)).unwrap().clone();
    let counted = (vault.state.units(), vault.state.units_unreported());
    let reissued = reserved(vault.request("TH-200", &csr("A1", 1)));
    assert_eq!((reissued.slot, reissued.issue), (0, 1));
    let serial = serial_of(&reissued.tbs).unwrap();
    assert_eq!(serials().open(&serial), Some((tag(1), 0, 1)));
    let reservation = LogSequence(vault.state.size() - 1);
    vault.sign(reservation, &reissued.tbs);
    assert_eq!(*vault.state.account(tag(1)).unwrap(), account);
    assert_eq!(
        (vault.state.units(), vault.state.units_unreported()),
        counted
    );
    assert_ne!(before, reservation);
    // From then on it is the new one that the device is given.
    assert_eq!(
        vault.request("TH-200", &csr("A1", 1)),
        Body::Existing { reservation }
    );
    // Another key is another device's all the same.
    assert_eq!(
        code(&vault.request("TH-200", &csr("A2", 9))),
        "DEVICE-KEY-CHANGED"
    );
    assert_eq!(vault.findings(), []);
}

#[test]
fn a_forced_re_issue_waits_for_what_stops_all_issuing() {
    let mut vault = entitled();
    vault.issue("TH-200", &csr("A1", 1));
    vault.rotate();
    assert_eq!(vault.revoke(first_ca()), Ok(()));
    let again = csr("A1", 1);
    assert_eq!(code(&vault.decision("TH-200", &again)), "reserved");
    let now = vault.now;
    vault.now = now - 301;
    assert_eq!(code(&vault.decision("TH-200", &again)), "CLOCK-BACK");
    vault.now = now;
    let mut revoked = vault.clone();
    let target = Target::Entitlement("five".parse().unwrap());
    assert_eq!(revoked.revoke(target), Ok(()));
    assert_eq!(
        code(&revoked.request("TH-200", &again)),
        "ENTITLEMENT-REVOKED"
    );
    assert_eq!(revoked.findings(), []);
    assert_eq!(vault.revoke(Target::Vault), Ok(()));
    assert_eq!(code(&vault.request("TH-200", &again)), "VAULT-DISABLED");
    assert_eq!(vault.findings(), []);
}

#[test]
fn a_unit_that_was_never_signed_under_a_revoked_device_ca_is_completed_by_its_re_issue() {
    let mut vault = entitled();
    let _ = vault.request("TH-200", &csr("A1", 1));
    let open = LogSequence(vault.state.size() - 1);
    vault.rotate();
    assert_eq!(vault.revoke(first_ca()), Ok(()));
    assert_eq!(
        vault.state.withheld(open).unwrap().code(),
        "DEVICE-CA-REVOKED"
    );
    let counts = |vault: &Chronicle| {
        let account = vault.state.account(tag(1)).unwrap();
        (account.unresolved, account.good, account.spent())
    };
    assert_eq!(counts(&vault), (1, 0, 1));
    let reissued = reserved(vault.request("TH-200", &csr("A1", 1)));
    let reservation = LogSequence(vault.state.size() - 1);
    assert_eq!(counts(&vault), (1, 0, 1));
    assert_eq!(
        vault.state.reservations().keys().collect::<Vec<_>>(),
        [&reservation]
    );
    vault.sign(reservation, &reissued.tbs);
    assert_eq!(counts(&vault), (0, 1, 1));
    assert_eq!(vault.state.reservations().len(), 0);
    assert_eq!(vault.findings(), []);
}

#[test]
fn a_rotation_request_is_of_the_next_generation() {
    let mut vault = entitled();
    assert_eq!(vault.state.next_generation(), 2);
    vault.rotate();
    assert_eq!(vault.state.next_generation(), 3);
    let at = vault.state.size();
    vault.write(Body::Rotation(Rotation {
        generation: 2,
        ..rotation()
    }));
    assert_eq!(vault.findings(), [(at, "ROTATION-MISMATCH")]);
    let mut vault = Chronicle::new();
    let at = vault.state.size();
    vault.write(Body::Rotation(rotation()));
    assert_eq!(vault.findings(), [(at, "ROTATION-MISMATCH")]);
}

#[test]
fn a_rotation_that_was_drafted_before_the_vault_was_disabled_does_not_end_that() {
    let mut vault = entitled();
    vault.write(Body::Rotation(rotation()));
    let disable = |number, drafted_at| {
        let mut order = revocation(number, Target::Vault);
        order.drafted_at = drafted_at;
        Verdict::Authentic(revocation_content(&order))
    };
    let mut granted = rotation_grant();
    granted.drafted_at = NEW_YEAR + HOUR;
    assert_eq!(vault.import(disable(1, NEW_YEAR)), Ok(()));
    // The vault is disabled since the first order, and the newest one counts all the same.
    assert_eq!(vault.import(disable(2, granted.drafted_at)), Ok(()));
    assert_eq!(vault.import(disable(3, NEW_YEAR + 1)), Ok(()));
    let disabled = vault.state.disabled_at().unwrap();
    assert_eq!(
        (disabled.number, disabled.drafted_at),
        (1, granted.drafted_at)
    );
    told(
        vault.why_not(rotation_content(&granted)),
        "GRANT-BEFORE-DISABLE",
        "the rotation was drafted at 2027-01-01T01:00:00Z, and the order that disables this vault at \
         2027-01-01T01:00:00Z: it does not end what came after it",
        "have the rotation drafted and approved again",
    );
    let refused = vault.import(Verdict::Authentic(rotation_content(&granted)));
    assert_eq!(refused, Err("GRANT-BEFORE-DISABLE".to_owned()));
    assert!(vault.state.disabled_at().is_some());
    granted.drafted_at += 1;
    let again = Verdict::Authentic(rotation_content(&granted));
    assert_eq!(vault.import(again), Ok(()));
    assert_eq!(vault.state.disabled_at(), None);
    vault.issue("TH-200", &csr("A1", 1));
    assert_eq!(vault.findings(), []);
}
