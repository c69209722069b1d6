//! What a vault writes into its own log is no word against the devices of another.

use mintmark_ledger::entry::Body;
use mintmark_ledger::serial::{Serial, serial_of};
use serde_json::json;

use super::beyond_measure::said;
use super::recovery::comes_back;
use super::support::{Hq, Vault, csr};

/// A headquarters that knows of two devices of berlin's, A0 and A1, with the keys 0 and 1.
fn honest() -> (Hq, Vault) {
    let hq = Hq::new();
    let mut vault = hq.vault("berlin");
    for unit in 0..2 {
        vault.issue("TH-200", &csr(&format!("A{unit}"), unit));
    }
    assert_eq!(hq.import_one(&vault.report(&hq.path("berlin"))).0, 0);
    (hq, vault)
}

/// Has a vault certify a device with a key of which it has no proof of possession.
fn made_up(vault: &mut Vault, device: &str, key: u64) {
    let request = csr(device, key);
    let reserved = vault.reserved("TH-200", &request, 0);
    let mut der = request.der().to_vec();
    // The last byte is within the signature.
    *der.last_mut().unwrap() ^= 1;
    vault.write_request("TH-200", &der);
    let (at, tbs) = (vault.state.size(), reserved.tbs.clone());
    vault.write(Body::Reserved(reserved));
    vault.sign(at, &tbs);
}

#[test]
fn a_request_that_was_made_up_with_anothers_key_leaves_that_device_good() {
    let (hq, _) = honest();
    let mut lyon = hq.vault("lyon");
    made_up(&mut lyon, "L0", 1);
    assert_eq!(hq.import_one(&lyon.report(&hq.path("lyon"))).0, 1);
    let codes: Vec<String> = hq.findings().into_iter().map(|(code, ..)| code).collect();
    assert!(codes.contains(&"DUPLICATE-KEY".to_owned()), "{codes:?}");
    assert_eq!(said(&hq, "A1"), (0, json!([]), json!("good")));
    assert_eq!(said(&hq, "L0").0, 1);
    comes_back(&hq);
}

#[test]
fn a_device_is_good_whose_key_another_vault_made_up_a_request_with_before() {
    let (hq, mut berlin) = honest();
    let mut lyon = hq.vault("lyon");
    made_up(&mut lyon, "L0", 7);
    assert_eq!(hq.import_one(&lyon.report(&hq.path("lyon"))).0, 1);
    berlin.issue("TH-200", &csr("A7", 7));
    assert_eq!(hq.import_one(&berlin.report(&hq.path("two"))).0, 1);
    assert_eq!(said(&hq, "A7"), (0, json!([]), json!("good")));
    assert_eq!(said(&hq, "L0").0, 1);
    comes_back(&hq);
}

/// Has a vault certify a device of its own with the serial of another vault's.
fn with_serial_of(vault: &mut Vault, spent: &Serial) {
    let request = csr("L0", 50);
    let mut reserved = vault.reserved("TH-200", &request, 0);
    let own = serial_of(&reserved.tbs).unwrap();
    let mut windows = reserved.tbs.windows(own.len());
    let place = windows.position(|window| window == own).unwrap();
    reserved.tbs[place..place + own.len()].copy_from_slice(spent);
    vault.forge("TH-200", &request, reserved);
}

/// Has a vault spend on the device L0, of whose key it has no proof of possession, the slot whose serial at this vault is
/// that of A1, which it was never granted.
fn with_slot_of_a1(vault: &mut Vault, berlin: &Vault, key: u64) {
    let spent = serial_of(&berlin.reserved("TH-200", &csr("A9", 9), 1).tbs).unwrap();
    let request = csr("L0", key);
    let mut reserved = vault.reserved("TH-200", &request, 0);
    (reserved.account, reserved.slot, reserved.issue) = vault.opened(&spent);
    let mut der = request.der().to_vec();
    *der.last_mut().unwrap() ^= 1;
    vault.write_request("TH-200", &der);
    vault.write(Body::Reserved(reserved));
}

#[test]
fn a_unit_that_was_never_granted_accuses_no_other_vaults_device_by_its_serial() {
    let (hq, berlin) = honest();
    let mut lyon = hq.vault("lyon");
    with_slot_of_a1(&mut lyon, &berlin, 0);
    assert_eq!(hq.import_one(&lyon.report(&hq.path("lyon"))).0, 1);
    for device in ["A0", "A1"] {
        assert_eq!(said(&hq, device), (0, json!([]), json!("good")), "{device}");
    }
    comes_back(&hq);
}

#[test]
fn a_unit_that_was_never_granted_accuses_none_when_another_vault_has_its_key_later() {
    let (hq, mut berlin) = honest();
    let mut lyon = hq.vault("lyon");
    with_slot_of_a1(&mut lyon, &berlin, 7);
    assert_eq!(hq.import_one(&lyon.report(&hq.path("lyon"))).0, 1);
    berlin.issue("TH-200", &csr("A7", 7));
    assert_eq!(hq.import_one(&berlin.report(&hq.path("two"))).0, 1);
    for device in ["A0", "A1", "A7"] {
        assert_eq!(said(&hq, device), (0, json!([]), json!("good")), "{device}");
    }
    comes_back(&hq);
}

#[test]
fn anothers_serial_in_a_certificate_says_nothing_of_the_device_that_has_it() {
    let (hq, berlin) = honest();
    let spent = serial_of(&berlin.reserved("TH-200", &csr("A9", 9), 1).tbs).unwrap();
    let mut lyon = hq.vault("lyon");
    with_serial_of(&mut lyon, &spent);
    assert_eq!(hq.import_one(&lyon.report(&hq.path("lyon"))).0, 1);
    assert_eq!(said(&hq, "A1"), (0, json!([]), json!("good")));
    comes_back(&hq);
}

#[test]
fn anothers_serial_in_a_finding_beyond_those_kept_says_nothing_of_the_device_that_has_it() {
    let (hq, berlin) = honest();
    let spent = serial_of(&berlin.reserved("TH-200", &csr("A9", 9), 1).tbs).unwrap();
    let mut lyon = hq.vault("lyon");
    for _ in 0..2501 {
        lyon.write_unreadable(&[0xff]);
    }
    with_serial_of(&mut lyon, &spent);
    assert_eq!(hq.import_one(&lyon.report(&hq.path("lyon"))).0, 1);
    let (_, report) = hq.reconcile();
    let capped = report["findings"].as_array().unwrap().last().unwrap();
    assert_eq!(capped["code"], "FINDINGS-CAPPED");
    assert!(
        capped["evidence"]["codes"]["SERIAL-MISMATCH"].is_u64(),
        "{capped}"
    );
    assert_eq!(said(&hq, "A1"), (0, json!([]), json!("good")));
    assert_eq!(said(&hq, "L0").0, 1);
    comes_back(&hq);
}

#[test]
fn one_key_in_devices_of_two_vaults_is_said_of_both() {
    let (hq, _) = honest();
    let mut lyon = hq.vault("lyon");
    lyon.issue("TH-200", &csr("L0", 1));
    assert_eq!(hq.import_one(&lyon.report(&hq.path("lyon"))).0, 1);
    for device in ["A1", "L0"] {
        let accused = (1, json!(["DUPLICATE-KEY"]), json!("duplicate"));
        assert_eq!(said(&hq, device), accused, "{device}");
    }
    assert_eq!(said(&hq, "A0"), (0, json!([]), json!("good")));
    comes_back(&hq);
}
