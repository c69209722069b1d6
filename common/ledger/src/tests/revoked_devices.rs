//! Certificates of devices that officers revoke.

use mintmark_protocol::revocation::{RevokedDevice, Target};

use super::fixture::*;
use super::withdrawals::{first_ca, order};
use crate::entry::{DeviceAction, LogSequence};
use crate::state::Withdrawal;

/// A vault that may rework each TH-200 once, with A0 and A1; and the reservation of each.
fn vault() -> (Chronicle, [LogSequence; 2]) {
    let mut terms = entitlement("both", vec![product(1, "TH-200", 6)]);
    terms.products[0].reissues_per_device = 1;
    let mut vault = Chronicle::entitled(&[terms]);
    let reservations = [0, 1].map(|unit| vault.issue("TH-200", &csr(&format!("A{unit}"), unit)));
    (vault, reservations)
}

fn device(slot: u64, reservation: LogSequence) -> RevokedDevice {
    RevokedDevice {
        account: tag(1),
        slot,
        issue: 0,
        reservation: reservation.number(),
        serial: [0x4d; 17],
        device_id: format!("A{slot}").parse().unwrap(),
    }
}

fn why(vault: &Chronicle, slot: u64) -> Option<Withdrawal> {
    let withdrawal = vault.state.withdrawal(tag(1), slot, 0);
    withdrawal.map(|withdrawn| withdrawn.why)
}

#[test]
fn a_revoked_certificate_is_on_the_crl_and_its_unit_stays_made() {
    let (mut vault, [_, reservation]) = vault();
    let target = Target::Devices(vec![device(1, reservation)]);
    assert_eq!(vault.revoke(target.clone()), Ok(()));
    assert_eq!(why(&vault, 1), Some(Withdrawal::Revoked));
    assert_eq!(why(&vault, 0), None);
    assert_eq!(vault.state.crl_entries(1).count(), 1);
    assert!(vault.state.crl_is_behind(1));
    assert_eq!(vault.state.account(tag(1)).unwrap().good, 2);
    // Again, under a number of its own, it changes nothing.
    let since = *vault.state.withdrawal(tag(1), 1, 0).unwrap();
    assert_eq!(vault.revoke(target), Ok(()));
    assert_eq!(vault.state.withdrawal(tag(1), 1, 0), Some(&since));
    assert_eq!(vault.findings(), []);
}

#[test]
fn a_revoked_device_that_asks_again_is_refused_until_it_is_reworked() {
    let (mut vault, [_, reservation]) = vault();
    let asks = |vault: &mut Chronicle, key| {
        let answer = vault.request("TH-200", &csr("A1", key));
        answer.code().unwrap_or(answer.kind()).to_owned()
    };
    assert_eq!(asks(&mut vault, 1), "existing");
    let target = Target::Devices(vec![device(1, reservation)]);
    assert_eq!(vault.revoke(target), Ok(()));
    assert_eq!(asks(&mut vault, 1), "CERTIFICATE-REVOKED");
    // Nor does it get another one for nothing, once its device CA is revoked too.
    let (mut other, [_, of_other]) = self::vault();
    let target = Target::Devices(vec![device(1, of_other)]);
    assert_eq!(other.revoke(target), Ok(()));
    assert_eq!(other.revoke(first_ca()), Ok(()));
    assert_eq!(asks(&mut other, 1), "CERTIFICATE-REVOKED");
    assert_eq!(other.findings(), []);

    let rework = order(&mut vault, DeviceAction::Rework, "TH-200", "A1");
    assert_eq!(rework, Ok(()));
    vault.issue("TH-200", &csr("A1", 1));
    assert_eq!(asks(&mut vault, 1), "existing");
    assert_eq!(vault.findings(), []);
}

#[test]
fn a_revoked_device_may_be_scrapped_and_counts_as_that() {
    let (mut vault, [_, reservation]) = vault();
    let target = Target::Devices(vec![device(1, reservation)]);
    assert_eq!(vault.revoke(target), Ok(()));
    let scrapped = order(&mut vault, DeviceAction::Scrap, "TH-200", "A1");
    assert_eq!(scrapped, Ok(()));
    assert_eq!(why(&vault, 1), Some(Withdrawal::Scrapped));
    let account = vault.state.account(tag(1)).unwrap();
    assert_eq!((account.good, account.scrapped), (1, 1));
    assert_eq!(vault.findings(), []);
}

#[test]
fn a_revoked_device_that_is_made_again_has_used_up_its_rework() {
    let (mut vault, [_, reservation]) = vault();
    let target = Target::Devices(vec![device(1, reservation)]);
    assert_eq!(vault.revoke(target), Ok(()));
    let rework = |vault: &mut Chronicle| order(vault, DeviceAction::Rework, "TH-200", "A1");
    assert_eq!(rework(&mut vault), Ok(()));
    vault.issue("TH-200", &csr("A1", 11));
    assert_eq!(vault.state.reworks_of(tag(1), 1), 1);
    assert_eq!(rework(&mut vault), Err("REWORK-EXHAUSTED".to_owned()));
    assert_eq!(vault.state.crl_entries(1).count(), 1);
    assert_eq!(vault.findings(), []);
}

#[test]
fn a_certificate_that_the_vault_never_made_cannot_be_revoked() {
    let (mut vault, [_, reservation]) = vault();
    let never = LogSequence(vault.state.size() + 10);
    for strange in [device(2, reservation), device(1, never)] {
        let both = vec![device(0, reservation), strange];
        let refused = vault.revoke(Target::Devices(both));
        assert_eq!(refused, Err("REVOCATION-UNKNOWN-TARGET".to_owned()));
    }
    assert_eq!(why(&vault, 0), None, "not even the one that it did make");
    assert_eq!(vault.findings(), []);
}
