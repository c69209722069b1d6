//! Each rule for the keys that entitlements bring.

use mintmark_pki::CertificationRequest;
use mintmark_protocol::entitlement::{DeviceIdSource, Entitlement};
use mintmark_protocol::identifier::Fingerprint;
use mintmark_protocol::key_terms::{KeyAlgorithm, KeyTerms, KeyUse};
use mintmark_protocol::revocation::Target;

use super::fixture::*;
use crate::entry::{Body, KeyOutcome, LogSequence};

fn code(body: &Body) -> &str {
    body.code().unwrap_or(body.kind())
}

fn with_keys(id: &str, account: u64, keys: Vec<KeyTerms>) -> Entitlement {
    let mut entitlement = entitlement(id, vec![product(account, "TH-200", 5)]);
    entitlement.keys = keys;
    entitlement
}

/// A vault with one entitlement of a key that the token has.
fn keyed(uses_max: Option<u64>) -> Chronicle {
    let keys = vec![device_key("service", uses_max)];
    let mut vault = Chronicle::entitled(&[with_keys("five", 1, keys)]);
    vault.write(key_receipt("five", "service", KeyOutcome::Unwrapped));
    vault
}

fn labels(body: &Body) -> Vec<&str> {
    match body {
        Body::Reserved(reserved) => reserved.keys.iter().map(|key| key.as_str()).collect(),
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
fn each_device_gets_a_secret_from_each_key_of_its_product_and_uses_are_counted() {
    let held = KeyTerms {
        usage: KeyUse::Hold,
        algorithm: KeyAlgorithm::Aes256,
        ..device_key("held", None)
    };
    let other = KeyTerms {
        products: Some(vec![sku("TH-300")]),
        ..device_key("other", None)
    };
    let keys = vec![device_key("b", Some(2)), held, other, device_key("a", None)];
    let mut both = with_keys("both", 1, keys);
    both.products.push(product(2, "TH-300", 5));
    let mut vault = Chronicle::entitled(&[both]);
    for label in ["b", "other", "a"] {
        vault.write(key_receipt("both", label, KeyOutcome::Unwrapped));
    }
    // A key that is only held is no one's business here, received or not.
    assert_eq!(labels(&vault.request("TH-200", &csr("A1", 1))), ["b", "a"]);
    assert_eq!(
        labels(&vault.request("TH-300", &csr("A2", 2))),
        ["b", "other", "a"]
    );
    let uses: Vec<_> = vault
        .state
        .keys()
        .map(|key| (key.terms.label.to_string(), key.uses))
        .collect();
    let expected = [("b", 2), ("held", 0), ("other", 1), ("a", 2)];
    assert_eq!(uses, expected.map(|(label, uses)| (label.to_owned(), uses)));
    // Asking again uses nothing.
    assert_eq!(code(&vault.request("TH-200", &csr("A1", 1))), "existing");
    told(
        vault.why("TH-200", &csr("A3", 3)),
        "KEY-USES-EXHAUSTED",
        "key b of entitlement both, from which each device of TH-200 gets a secret, has no use left: 2 of 2 made",
        "ask HQ for an amendment with more uses of the key",
    );
    assert_eq!(vault.findings(), []);
}

#[test]
fn no_device_is_made_before_its_key_is_in_the_token() {
    let keys = vec![device_key("service", None)];
    let mut vault = Chronicle::entitled(&[with_keys("five", 1, keys)]);
    let refused = (
        "KEY-NOT-RECEIVED",
        "key service of entitlement five, from which each device of TH-200 gets a secret, is not in the token",
        "run `site status`: it says why the token has not taken the key",
    );
    let missing = |vault: &Chronicle| {
        let missing: Vec<_> = vault.state.keys_missing().collect();
        assert_eq!(missing.len(), 1);
        assert_eq!(missing[0].terms.delivery, b"encrypted");
        assert!(!missing[0].terms.memory_import);
        missing[0].outcome.cloned()
    };
    assert_eq!(missing(&vault), None);
    told(
        vault.why("TH-200", &csr("A1", 1)),
        refused.0,
        refused.1,
        refused.2,
    );
    let why = KeyOutcome::Refused {
        code: "KEY-CHECK-VALUE".to_owned(),
    };
    vault.write(key_receipt("five", "service", why.clone()));
    assert_eq!(missing(&vault), Some(why.clone()));
    told(
        vault.why("TH-200", &csr("A1", 1)),
        refused.0,
        refused.1,
        refused.2,
    );
    vault.write(key_receipt("five", "service", KeyOutcome::Unwrapped));
    assert_eq!(vault.state.keys_missing().count(), 0);
    vault.issue("TH-200", &csr("A1", 1));
    // That it could not be taken once more says nothing of the one that is there.
    vault.write(key_receipt("five", "service", why));
    vault.issue("TH-200", &csr("A2", 2));
    let key = vault.state.keys().next().unwrap();
    assert!(key.is_received() && key.is_in_force(NEW_YEAR));
    assert_eq!(key.outcome, Some(&KeyOutcome::Unwrapped));
    assert_eq!(vault.findings(), []);
}

#[test]
fn a_key_is_used_until_its_own_end() {
    let keys = vec![KeyTerms {
        until: Some(NEW_YEAR + DAY),
        ..device_key("service", None)
    }];
    let mut vault = Chronicle::entitled(&[with_keys("five", 1, keys)]);
    vault.write(key_receipt("five", "service", KeyOutcome::Unwrapped));
    vault.now = NEW_YEAR + DAY - 1;
    vault.issue("TH-200", &csr("A1", 1));
    vault.now += 1;
    told(
        vault.why("TH-200", &csr("A2", 2)),
        "KEY-EXPIRED",
        "key service of entitlement five, from which each device of TH-200 gets a secret, was valid until \
         2027-01-02T00:00:00Z",
        "ask HQ for an amendment with a later end of the key",
    );
    let _ = vault.request("TH-200", &csr("A2", 2));
    assert_eq!(vault.findings(), []);
}

#[test]
fn a_secret_goes_only_to_a_key_that_it_can_be_encrypted_to() {
    let pem = include_bytes!("../../../../fixtures/csr/accepted/ed25519.csr");
    let request = CertificationRequest::from_file_bytes(pem).unwrap();
    let mut entitlement = with_keys("five", 1, vec![device_key("service", None)]);
    entitlement.products[0].key_algorithms = vec!["Ed25519".to_owned()];
    entitlement.products[0].device_id_source = DeviceIdSource::SerialNumber;
    let mut vault = Chronicle::entitled(&[entitlement.clone()]);
    vault.write(key_receipt("five", "service", KeyOutcome::Unwrapped));
    told(
        vault.why("TH-200", &request),
        "DEVICE-KEY-NO-AGREEMENT",
        "entitlement five gives each device of TH-200 a secret from key service, which cannot be encrypted to an \
         Ed25519 key",
        "let the device make a P-256 or P-384 key",
    );
    let _ = vault.request("TH-200", &request);
    assert_eq!(vault.findings(), []);
    // Without a secret there is nothing to encrypt.
    entitlement.keys.clear();
    let vault = Chronicle::entitled(&[entitlement]);
    assert_eq!(code(&vault.decision("TH-200", &request)), "reserved");
}

#[test]
fn an_amendment_grants_no_fewer_uses_than_were_made() {
    let mut vault = keyed(Some(3));
    vault.issue("TH-200", &csr("A1", 1));
    vault.issue("TH-200", &csr("A2", 2));
    let amended = |version, uses_max| {
        let mut amended = with_keys("five", 1, vec![device_key("service", uses_max)]);
        amended.version = version;
        amended
    };
    told(
        vault.why_not(entitlement_content(&amended(2, Some(1)))),
        "ENTITLEMENT-BELOW-SPENT",
        "version 2 of entitlement five sets uses_max of key service to 1, and its uses so far are 2",
        "have an amendment drafted with at least the units spent and the uses made",
    );
    assert!(vault.entitle(&amended(2, Some(1))).is_err());
    assert_eq!(vault.entitle(&amended(2, Some(2))), Ok(()));
    assert_eq!(
        code(&vault.request("TH-200", &csr("A3", 3))),
        "KEY-USES-EXHAUSTED"
    );
    assert_eq!(vault.entitle(&amended(3, None)), Ok(()));
    vault.issue("TH-200", &csr("A3", 3));
    assert_eq!(vault.findings(), []);
}

#[test]
fn a_label_stays_with_its_key_while_an_entitlement_in_force_names_it() {
    let mut vault = keyed(None);
    let other = |change: fn(&mut KeyTerms)| {
        let mut key = device_key("service", None);
        change(&mut key);
        with_keys("six", 2, vec![key])
    };
    let hint = "tell headquarters; another key needs another label";
    for (change, what) in [
        (
            (|key: &mut KeyTerms| key.algorithm = KeyAlgorithm::Aes256) as fn(&mut KeyTerms),
            "algorithm",
        ),
        (|key| key.check_value = [1; 32], "check value"),
    ] {
        told(
            vault.why_not(entitlement_content(&other(change))),
            "ENTITLEMENT-KEY-CHANGED",
            &format!(
                "entitlement six brings another key service than five did: its {what} differs"
            ),
            hint,
        );
        assert!(vault.entitle(&other(change)).is_err());
        let mut own = other(change);
        (own.id, own.version) = ("five".parse().unwrap(), 2);
        own.products[0].account = tag(1);
        assert_eq!(
            vault.why_not(entitlement_content(&own)).0,
            "ENTITLEMENT-KEY-CHANGED"
        );
    }
    // The same key is shared, and need not be received again; its uses count for each entitlement.
    assert_eq!(vault.entitle(&other(|_| {})), Ok(()));
    assert_eq!(vault.state.keys_missing().count(), 0);
    let target = |id: &str| Target::Entitlement(id.parse().unwrap());
    assert_eq!(vault.revoke(target("five")), Ok(()));
    assert_eq!(vault.revoke(target("six")), Ok(()));
    // No entitlement in force names the label: it may go to another key, which the token does not have.
    let mut seven = other(|key| key.check_value = [1; 32]);
    (seven.id, seven.products[0].account) = ("seven".parse().unwrap(), tag(3));
    assert_eq!(vault.entitle(&seven), Ok(()));
    assert_eq!(
        code(&vault.request("TH-200", &csr("A1", 1))),
        "KEY-NOT-RECEIVED"
    );
    let missing: Vec<_> = vault.state.keys_missing().collect();
    assert_eq!(missing.len(), 1);
    assert_eq!(missing[0].entitlement.as_str(), "seven");
    assert_eq!(vault.findings(), []);
}

#[test]
fn a_re_issue_uses_no_key() {
    let mut vault = keyed(Some(1));
    vault.issue("TH-200", &csr("A1", 1));
    vault.rotate();
    let first = Fingerprint::of(authorities().device_ca.certificate_der());
    assert_eq!(vault.revoke(Target::DeviceCa(first)), Ok(()));
    let reissued = vault.request("TH-200", &csr("A1", 1));
    assert_eq!(labels(&reissued), [] as [&str; 0]);
    assert_eq!(vault.state.keys().next().unwrap().uses, 1);
    assert_eq!(
        code(&vault.request("TH-200", &csr("A2", 2))),
        "KEY-USES-EXHAUSTED"
    );
    assert_eq!(vault.findings(), []);
}

#[test]
fn a_key_that_no_entitlement_brought_or_that_may_not_pass_through_memory_is_found() {
    let mut vault = keyed(None);
    let at = vault.state.size();
    vault.write(key_receipt("five", "other", KeyOutcome::Unwrapped));
    vault.write(key_receipt("six", "service", KeyOutcome::Unwrapped));
    vault.write(key_receipt("five", "service", KeyOutcome::Imported));
    assert_eq!(
        vault.findings(),
        [
            (at, "KEY-UNKNOWN"),
            (at + 1, "KEY-UNKNOWN"),
            (at + 2, "POLICY-BREACH")
        ]
    );
    // Where it may, it is honest.
    let keys = vec![KeyTerms {
        memory_import: true,
        ..device_key("service", None)
    }];
    let mut vault = Chronicle::entitled(&[with_keys("five", 1, keys)]);
    vault.write(key_receipt("five", "service", KeyOutcome::Imported));
    vault.issue("TH-200", &csr("A1", 1));
    assert_eq!(vault.findings(), []);
}

#[test]
fn the_reservation_names_the_keys_until_it_is_signed() {
    let mut vault = keyed(None);
    let _ = vault.request("TH-200", &csr("A1", 1));
    let reservation = LogSequence(vault.state.size() - 1);
    let open = &vault.state.reservations()[&reservation];
    assert_eq!(open.keys, ["service".parse().unwrap()]);
}

#[test]
fn one_device_id_of_two_products_never_gets_one_secret_twice() {
    let mut both = with_keys("both", 1, vec![device_key("service", None)]);
    both.products.push(product(2, "TH-300", 5));
    let mut vault = Chronicle::entitled(&[both]);
    vault.write(key_receipt("both", "service", KeyOutcome::Unwrapped));
    vault.issue("TH-200", &csr("A1", 1));
    told(
        vault.why("TH-300", &csr("A1", 2)),
        "KEY-DEVICE-TAKEN",
        "device A1 of TH-200 has another key, and a secret from key service: device A1 of TH-300 would get the \
         same secret",
        "have HQ give the products keys of their own labels, or give their devices ids that differ",
    );
    let refused = vault.request("TH-300", &csr("A1", 2));
    assert_eq!(code(&refused), "KEY-DEVICE-TAKEN");
    let Body::Refused(refused) = refused else {
        panic!("{refused:?}");
    };
    assert_eq!(refused.entitlement.unwrap().as_str(), "both");
    vault.issue("TH-300", &csr("A2", 2));
    assert_eq!(vault.findings(), []);
}

#[test]
fn one_device_id_gets_one_secret_whichever_entitlement_shares_the_key() {
    let service = || vec![device_key("service", None)];
    let mut other = with_keys("other", 2, service());
    other.products[0].sku = sku("TH-300");
    let third = with_keys("third", 3, service());
    let mut vault = Chronicle::entitled(&[with_keys("five", 1, service()), other, third]);
    vault.write(key_receipt("five", "service", KeyOutcome::Unwrapped));
    vault.issue("TH-200", &csr("A1", 1));
    assert_eq!(
        code(&vault.request("TH-300", &csr("A1", 2))),
        "KEY-DEVICE-TAKEN"
    );
    // Once the first is over, the next one of the same product knows the device all the same.
    assert_eq!(
        vault.revoke(Target::Entitlement("five".parse().unwrap())),
        Ok(())
    );
    assert_eq!(
        code(&vault.request("TH-300", &csr("A1", 2))),
        "KEY-DEVICE-TAKEN"
    );
    assert_eq!(
        code(&vault.request("TH-200", &csr("A1", 2))),
        "DEVICE-KEY-CHANGED"
    );
    assert_eq!(vault.findings(), []);
}

#[test]
fn products_with_keys_of_their_own_may_have_devices_of_one_id() {
    let of = |label: &str, product: &str| KeyTerms {
        products: Some(vec![sku(product)]),
        ..device_key(label, None)
    };
    let keys = vec![of("a", "TH-200"), of("b", "TH-300")];
    let mut three = with_keys("three", 1, keys.clone());
    three.products.push(product(2, "TH-300", 5));
    three.products.push(product(3, "TH-400", 5));
    let mut vault = Chronicle::entitled(&[three.clone()]);
    for label in ["a", "b"] {
        vault.write(key_receipt("three", label, KeyOutcome::Unwrapped));
    }
    vault.issue("TH-400", &csr("A1", 3));
    vault.issue("TH-200", &csr("A1", 1));
    vault.issue("TH-300", &csr("A1", 2));
    vault.issue("TH-200", &csr("A2", 4));
    // An amendment that exchanges the keys leaves the secrets where they are.
    three.version = 2;
    three.keys[0].products = Some(vec![sku("TH-300")]);
    three.keys[1].products = Some(vec![sku("TH-200")]);
    assert_eq!(vault.entitle(&three), Ok(()));
    assert_eq!(
        code(&vault.request("TH-300", &csr("A2", 5))),
        "KEY-DEVICE-TAKEN"
    );
    three.version = 3;
    three.keys.clear();
    assert_eq!(vault.entitle(&three), Ok(()));
    vault.issue("TH-300", &csr("A2", 5));
    assert_eq!(vault.findings(), []);
}
