//! Keys that entitlements bring, and the secrets that devices get from them.

use std::fs;

use mintmark_ledger::entry::{Body, Entry};
use mintmark_pki::{Certificate, Issuer};
use mintmark_protocol::device_secret::{
    DERIVATION_LABEL, DeviceOpener, DeviceSecret, derivation_context,
};
use mintmark_protocol::entitlement::{AccountTag, Entitlement};
use mintmark_protocol::key::AgreementKey;
use mintmark_protocol::key_terms::KeyAlgorithm;
use mintmark_protocol::media::MediaName;
use mintmark_protocol::revocation::Target;
use p256::PublicKey;
use p256::pkcs8::DecodePublicKey as _;
use serde_json::{Value, json};
use zeroize::Zeroizing;

use crate::support::hq::{Key, Way, derived};
use crate::support::{Hq, Vault};

const KEY: [u8; 32] = [0x5e; 32];
pub(crate) const HMAC: KeyAlgorithm = KeyAlgorithm::HmacSha256;

/// An entitlement with the key `service`.
pub(crate) fn with_key(way: Way) -> impl FnOnce(&Hq, &mut Entitlement) {
    move |hq, terms| terms.keys = vec![hq.key("service", &KEY, HMAC, way)]
}

/// Opens a device's message as its firmware would, knowing nothing but the root.
pub(crate) fn opened(hq: &Hq, file: &str, device: u8) -> DeviceSecret {
    let bytes = fs::read(file).unwrap();
    let certificate = DeviceSecret::certificate(&bytes).unwrap();
    let certificate = Certificate::from_der(&certificate).unwrap();
    let root = Issuer::from_certificate_der(hq.root()).unwrap();
    certificate.verify_issued_by(&root).unwrap();
    let vault_sign = PublicKey::from_public_key_der(certificate.spki_der()).unwrap();
    let key = Key::new(device);
    let public_key = AgreementKey::P256(key.public());
    let agree = |peer: &AgreementKey| match peer {
        AgreementKey::P256(peer) => Ok(Zeroizing::new(key.agree(peer)?.to_vec())),
        AgreementKey::P384(_) => Err("another curve".into()),
    };
    let opener = DeviceOpener {
        public_key: &public_key,
        agree: &agree,
    };
    DeviceSecret::open(&bytes, &vault_sign, opener).unwrap()
}

pub(crate) fn expected(id: &str, algorithm: KeyAlgorithm) -> [u8; 32] {
    let context = derivation_context(&"service".parse().unwrap(), &id.parse().unwrap());
    derived(&KEY, algorithm, DERIVATION_LABEL, &context)
}

fn key_row(vault: &Vault) -> Value {
    vault.status()["keys"][0].clone()
}

/// What the log says of keys: (outcome, code), from the vault's own report.
fn receipts(vault: &Vault, hq: &Hq) -> Vec<(String, Option<String>)> {
    let export = vault.export().expect(0).json();
    let items = export["items"].as_array().unwrap();
    let bundles = items.iter().filter(|item| item["type"] == "audit-bundle");
    let records = bundles.flat_map(|item| {
        let name = MediaName::parse(item["file"].as_str().unwrap()).unwrap();
        hq.receive(&vault.stick(), &name).1
    });
    let bodies = records.map(|record| Entry::from_cbor(&record).unwrap().body);
    bodies
        .filter_map(|body| {
            let code = body.code().map(str::to_owned);
            match body {
                Body::Key(receipt) => Some((receipt.outcome.as_str().to_owned(), code)),
                _ => None,
            }
        })
        .collect()
}

#[test]
fn a_key_ends_in_the_store_and_each_device_gets_a_secret_that_it_alone_opens() {
    for (vault, way, received, algorithm) in [
        (Vault::with_softhsm(), Way::Token, "unwrapped", HMAC),
        (
            Vault::with_softhsm(),
            Way::Memory,
            "imported",
            KeyAlgorithm::Aes256,
        ),
        (Vault::new(), Way::Memory, "imported", HMAC),
    ] {
        let mut hq = Hq::new(1);
        vault.enrol_with(&mut hq, 3, |hq, terms| {
            terms.keys = vec![hq.key("service", &KEY, algorithm, way)];
        });
        let row = key_row(&vault);
        assert_eq!(
            (&row["state"], &row["received"]),
            (&json!("held"), &json!(received))
        );
        vault.request("one.csr", "A1", 21);
        vault.request("two.csr", "A2", 22);
        let mut before = Vec::new();
        for outcome in ["issued", "existing"] {
            let rows = vault.issue().expect(0).lines();
            assert_eq!(rows.len(), 2);
            for (row, (id, device)) in rows.iter().zip([("A1", 21), ("A2", 22)]) {
                assert_eq!(row["outcome"], outcome);
                let [secret] = row["secrets"].as_array().unwrap().as_slice() else {
                    panic!("{row}");
                };
                assert_eq!(secret["key"], "service");
                let file = secret["file"].as_str().unwrap();
                assert!(file.ends_with(".service.secret.cose"), "{file}");
                let opened = opened(&hq, file, device);
                assert_eq!(*opened.secret, expected(id, algorithm));
                assert_eq!(opened.device_id.as_str(), id);
                assert_eq!(opened.entitlement.as_str(), "th200");
                before.push(fs::read(file).unwrap());
            }
        }
        let once: std::collections::BTreeSet<_> = before.iter().collect();
        assert_eq!(once.len(), 4, "each message is encrypted anew");
        assert_eq!(
            key_row(&vault)["uses"],
            json!(2),
            "asking again counts nothing"
        );
        let left: Vec<_> = fs::read_dir(vault.path("out")).unwrap().collect();
        assert_eq!(left.len(), 6, "two certificates, two chains, two secrets");
        assert_eq!(receipts(&vault, &hq), [(received.to_owned(), None)]);
        vault.run(&["audit", "verify"]).expect(0);
        vault.run(&["doctor"]).expect(0);
    }
}

#[test]
fn a_key_that_is_wrong_or_must_not_come_this_way_is_refused_once_and_an_amendment_brings_it() {
    let token = Vault::with_softhsm;
    let file = Vault::new;
    type Spoil = fn(&Hq, &mut Entitlement);
    let wrong_value: Spoil = |_, terms| terms.keys[0].check_value[0] ^= 1;
    let forbidden: Spoil = |hq, terms| {
        terms.keys = vec![hq.key("service", &KEY, HMAC, Way::MemoryForbidden)];
    };
    let another_token: Spoil = |hq, terms| {
        let wrapped = &mut terms.keys[0].delivery;
        let last = wrapped.len() - 1;
        wrapped[last] ^= 1;
        let _ = hq;
    };
    let other_label: Spoil = |hq, terms| {
        terms.keys[0].delivery = hq.key("other", &KEY, HMAC, Way::Memory).delivery;
    };
    for (vault, way, spoil, code) in [
        (token(), Way::Token, wrong_value, "KEY-CHECK-VALUE"),
        (file(), Way::Memory, wrong_value, "KEY-CHECK-VALUE"),
        (token(), Way::Token, another_token, "KEY-UNWRAP"),
        (file(), Way::Memory, forbidden, "KEY-MEMORY-FORBIDDEN"),
        (file(), Way::Memory, other_label, "KEY-DELIVERY"),
    ] {
        let mut hq = Hq::new(1);
        vault.enrol_with(&mut hq, 3, |hq, terms| {
            with_key(way)(hq, terms);
            spoil(hq, terms);
        });
        let row = key_row(&vault);
        assert_eq!(
            (&row["state"], &row["code"]),
            (&json!("refused"), &json!(code))
        );
        assert_eq!(vault.status()["keys_missing"], json!(1));
        // Every command tries again, and only `recover` says again why it cannot.
        assert!(!vault.export().expect(0).err.contains(code));
        assert!(vault.run(&["recover"]).expect(0).err.contains(code));
        let shown = vault.run(&["entitlement", "show", "th200"]).expect(0);
        assert!(
            shown.json()["waits_for"].to_string().contains(code),
            "{shown:?}"
        );
        vault.request("one.csr", "A1", 21);
        for _ in 0..2 {
            let refused = vault.issue().expect(1).lines();
            assert_eq!(refused[0]["code"], "KEY-NOT-RECEIVED");
        }
        assert_eq!(
            receipts(&vault, &hq),
            [("refused".to_owned(), Some(code.to_owned()))],
            "what was refused is logged once, however often it is tried"
        );
        assert!(!vault.keys().join("key-service.pem").exists());

        // The check value says which key it is: with another one, the label belongs to another key, and the entitlement
        // has to end first.
        let mut next = hq.terms("th200", 2, 3);
        if code == "KEY-CHECK-VALUE" {
            let end = hq.revoke(Target::Entitlement("th200".parse().unwrap()));
            vault.bring(end).expect(0);
            next = hq.terms("th201", 1, 3);
            next.products[0].account = AccountTag::new(8).unwrap();
        }
        with_key(way)(&hq, &mut next);
        vault.bring(hq.mint(&next, 2)).expect(0);
        let keys = vault.status()["keys"].clone();
        let newest = keys.as_array().unwrap().last().unwrap();
        assert_eq!(newest["state"], "held", "{code}");
        let issued = vault.issue().expect(0).lines();
        let file = issued[0]["secrets"][0]["file"].as_str().unwrap();
        assert_eq!(*opened(&hq, file, 21).secret, expected("A1", HMAC));
    }
}

#[test]
fn uses_are_counted_and_end_and_a_key_that_is_over_is_destroyed() {
    let (vault, mut hq) = (Vault::new(), Hq::new(1));
    vault.enrol_with(&mut hq, 3, |hq, terms| {
        with_key(Way::Memory)(hq, terms);
        terms.keys[0].uses_max = Some(1);
    });
    let file = vault.keys().join("key-service.pem");
    assert!(
        file.exists(),
        "{:?}",
        fs::read_dir(vault.keys()).unwrap().collect::<Vec<_>>()
    );
    vault.request("one.csr", "A1", 21);
    vault.issue().expect(0);
    vault.request("two.csr", "A2", 22);
    let rows = vault.issue().expect(1).lines();
    assert_eq!(
        (&rows[0]["outcome"], &rows[1]["code"]),
        (&json!("existing"), &json!("KEY-USES-EXHAUSTED"))
    );
    assert_eq!(vault.status()["accounts"][0]["unspent"], json!(2));

    // A key that was lost from the store is taken in again: the log says that it belongs there.
    fs::remove_file(&file).unwrap();
    let rows = vault.issue().expect(1).lines();
    assert_eq!(rows[0]["secrets"][0]["code"], json!(null));
    assert!(file.exists());

    let end = hq.revoke(Target::Entitlement("th200".parse().unwrap()));
    vault.bring(end).expect(0);
    assert!(!file.exists(), "a revoked entitlement's key is still there");
    assert_eq!(key_row(&vault)["state"], "over");
    let run = vault.issue().expect(1);
    let rows = run.lines();
    let over = json!([{"key": "service", "file": null, "code": "ENTITLEMENT-REVOKED"}]);
    assert_eq!(
        (&rows[0]["outcome"], &rows[0]["secrets"]),
        (&json!("existing"), &over)
    );
    let told = "no secret is made again from key service";
    assert_eq!(run.err.matches(told).count(), 1, "{run:?}");
    // Such a secret is no failure by itself.
    fs::remove_file(vault.path("csr/two.csr")).unwrap();
    vault.issue().expect(0);
    vault.request("two.csr", "A2", 22);
    let rows = vault.issue().expect(1).lines();
    assert_eq!(rows[1]["code"], "ENTITLEMENT-REVOKED");
}

#[test]
fn a_secret_that_cannot_be_made_is_reported_and_the_certificate_is_delivered_all_the_same() {
    let (vault, mut hq) = (Vault::new(), Hq::new(1));
    vault.enrol_with(&mut hq, 3, with_key(Way::Memory));
    let file = vault.keys().join("key-service.pem");
    let key = fs::read(&file).unwrap();
    fs::write(&file, "damaged").unwrap();
    vault.request("one.csr", "A1", 21);
    let run = vault.issue().expect(5);
    assert_eq!(run.errors(), ["SECRETS-MISSING"]);
    let row = &run.lines()[0];
    assert_eq!(row["outcome"], "issued");
    assert_eq!(
        row["secrets"],
        json!([{"key": "service", "file": null, "code": "KEY-ATTRIBUTES"}])
    );
    assert_eq!(vault.certificates().len(), 1);
    assert_eq!(key_row(&vault)["uses"], json!(1));
    fs::write(&file, key).unwrap();
    let row = &vault.issue().expect(0).lines()[0];
    assert_eq!(row["outcome"], "existing");
    let secret = opened(&hq, row["secrets"][0]["file"].as_str().unwrap(), 21);
    assert_eq!(*secret.secret, expected("A1", HMAC));
    assert_eq!(key_row(&vault)["uses"], json!(1));

    // Something else in its place is left alone.
    let place = vault.path("out/one.service.secret.cose");
    fs::write(&place, "the operator's own").unwrap();
    let run = vault.issue().expect(5);
    assert_eq!(run.lines()[0]["secrets"][0]["code"], "OUTPUT-TAKEN");
    assert_eq!(fs::read(&place).unwrap(), b"the operator's own");
}

#[test]
fn a_key_that_an_amendment_leaves_out_is_destroyed_and_one_that_brings_it_again_is_followed() {
    for vault in [Vault::new(), Vault::with_softhsm()] {
        let mut hq = Hq::new(1);
        vault.enrol_with(&mut hq, 1, with_key(Way::Memory));
        let is_there = || vault.run(&["doctor"]).expect(0).out.contains("key-service");
        assert!(is_there());
        let without = hq.terms("th200", 2, 1);
        vault.bring(hq.mint(&without, 2)).expect(0);
        assert_eq!(vault.status()["keys"], json!([]));
        let left = match vault.keys().exists() {
            true => vault.keys().join("key-service.pem").exists(),
            false => vault
                .pkcs11(&["--list-objects", "--type", "secrkey"])
                .contains("key-service"),
        };
        assert!(!left);
        let mut again = hq.terms("th200", 3, 1);
        with_key(Way::Memory)(&hq, &mut again);
        vault.bring(hq.mint(&again, 2)).expect(0);
        assert!(is_there());
    }
}

#[test]
fn two_entitlements_share_a_key_and_it_goes_with_the_last_of_them() {
    let (vault, mut hq) = (Vault::new(), Hq::new(1));
    vault.enrol_with(&mut hq, 1, with_key(Way::Memory));
    let mut second = hq.terms("th300", 1, 1);
    second.products[0].account = AccountTag::new(8).unwrap();
    with_key(Way::MemoryForbidden)(&hq, &mut second);
    vault.bring(hq.mint(&second, 2)).expect(0);
    let keys = vault.status()["keys"].clone();
    assert_eq!(
        (&keys[0]["state"], &keys[1]["state"]),
        (&json!("held"), &json!("held"))
    );
    let file = vault.keys().join("key-service.pem");
    for (id, is_left) in [("th200", true), ("th300", false)] {
        let end = hq.revoke(Target::Entitlement(id.parse().unwrap()));
        vault.bring(end).expect(0);
        assert_eq!(file.exists(), is_left, "after {id}");
    }
}

#[test]
fn what_an_interruption_left_in_the_store_is_taken_if_it_is_the_right_key_and_destroyed_if_not() {
    for (left, received) in [(KEY, "the right one"), ([0x77; 32], "another one")] {
        let (vault, mut hq) = (Vault::new(), Hq::new(1));
        vault.enrol(&mut hq, 1);
        let store =
            mintmark_keys::open(&vault.uri().parse().unwrap(), &|_| unreachable!()).unwrap();
        let algorithm = mintmark_keys::SecretAlgorithm::HmacSha256;
        store
            .import_secret("key-service", algorithm, &left)
            .unwrap();
        let file = vault.keys().join("key-service.pem");
        vault.reduce_rounds();
        let before = fs::read(&file).unwrap();
        let mut second = hq.terms("th200", 2, 1);
        with_key(Way::Memory)(&hq, &mut second);
        vault.bring(hq.mint(&second, 2)).expect(0);
        assert_eq!(key_row(&vault)["state"], "held", "{received}");
        let is_same = fs::read(&file).unwrap() == before;
        assert_eq!(is_same, left == KEY, "{received}");
        vault.request("one.csr", "A1", 21);
        let rows = vault.issue().expect(0).lines();
        let file = rows[0]["secrets"][0]["file"].as_str().unwrap();
        assert_eq!(*opened(&hq, file, 21).secret, expected("A1", HMAC));
    }
}
