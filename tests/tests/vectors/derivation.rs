//! The worked examples, and that the document shows them.

use std::fs;
use std::path::PathBuf;

use aes_gcm::KeyInit as _;
use mintmark_ledger::serial::{SerialCipher, serial_of};
use mintmark_protocol::device_secret::{DERIVATION_LABEL, derivation_context};
use mintmark_protocol::entitlement::AccountTag;
use mintmark_protocol::key_terms::KeyAlgorithm;
use serde_json::{Value, json};

use super::opening::keyset_key;
use super::stage::{forge, vectors};
use super::*;

/// One recipient's way to the plaintext of the entitlement, step by step.
pub(super) fn worked_example() -> Value {
    let vector = Vector::read("entitlement");
    let key = key_file("vault-agree");
    let encrypted = forge::Parts::of(&forge::Parts::of(&vector.bytes).payload());
    let id = forge::key_id(&key.public);
    let recipients = encrypted.last.as_array().unwrap();
    let ours = recipients.iter().find(|recipient| {
        let unprotected = forge::write(&recipient.as_array().unwrap()[1]);
        forge::entry(&unprotected, 4).into_bytes().unwrap() == id
    });
    let ours = ours.unwrap().as_array().unwrap();
    let ephemeral = forge::entry(&forge::write(&ours[1]), -1);
    let peer = mintmark_protocol::key::from_cose_key("test", ephemeral.clone()).unwrap();
    let nobody = || ciborium::Value::Array(vec![ciborium::Value::Null; 3]);
    let public = ciborium::Value::Array(vec![256.into(), forge::bytes(forge::recipient_header())]);
    let context = ciborium::Value::Array(vec![(-5).into(), nobody(), nobody(), public]);
    let context = forge::write(&context);
    let shared = key.agree(&peer).unwrap();
    let mut wrapping = [0; 32];
    hkdf::Hkdf::<sha2::Sha256>::new(None, &*shared)
        .expand(&context, &mut wrapping)
        .unwrap();
    let mut content_key = [0; 32];
    aes_kw::KwAes256::new((&wrapping).into())
        .unwrap_key(ours[2].as_bytes().unwrap(), &mut content_key)
        .unwrap();
    let signer = &forge::Parts::of(&vector.bytes).last.as_array().unwrap()[0].clone();
    let outer = forge::Parts::of(&vector.bytes);
    let header = signer.as_array().unwrap()[0].as_bytes().unwrap().clone();
    let signed = forge::write(&ciborium::Value::Array(vec![
        "Signature".into(),
        forge::bytes(outer.protected.clone()),
        forge::bytes(header.clone()),
        forge::bytes([]),
        outer.content.clone(),
    ]));
    let iv = forge::entry(&forge::write(&encrypted.unprotected), 5)
        .into_bytes()
        .unwrap();
    json!({
        "message": "entitlement.cose",
        "fingerprint": hex::encode(forge::sha256(&outer.payload())),
        "first_signature": {
            "header": hex::encode(&header),
            "signed_bytes": signed.len(),
            "signed_sha256": hex::encode(forge::sha256(&signed)),
            "signature": hex::encode(signer.as_array().unwrap()[2].as_bytes().unwrap()),
        },
        "recipient": "vault-agree",
        "key_id": hex::encode(&id),
        "ephemeral_key": hex::encode(forge::write(&ephemeral)),
        "shared_secret": hex::encode(*shared),
        "kdf_context": hex::encode(&context),
        "wrapping_key": hex::encode(wrapping),
        "wrapped_key": hex::encode(ours[2].as_bytes().unwrap()),
        "content_key": hex::encode(content_key),
        "iv": hex::encode(iv),
        "additional_data": hex::encode(forge::additional_data(&encrypted.protected)),
        "ciphertext_bytes": encrypted.payload().len(),
        "plaintext_bytes": vector.content().len(),
        "plaintext_sha256": hex::encode(forge::sha256(&vector.content())),
    })
}

#[test]
fn the_worked_example_is_worked_out_again_to_the_same_numbers() {
    let held: Value =
        serde_json::from_slice(&fs::read(vectors().join("worked-example.json")).unwrap()).unwrap();
    assert_eq!(held, worked_example());
    assert_eq!(
        held["plaintext_sha256"],
        Vector::read("entitlement").said["plaintext_sha256"]
    );
}

/// Where docs/formats.md shows the worked example.
pub(super) const SHOWN: &str = "```text worked-example\n";

/// The worked example, as the document shows it.
pub(super) fn shown(example: &Value) -> String {
    let mut lines = String::new();
    let mut line = |name: &str, value: &Value| {
        let text = value
            .as_str()
            .map_or_else(|| value.to_string(), str::to_owned);
        lines.push_str(&format!("{name:<24} {text}\n"));
    };
    for name in [
        "fingerprint",
        "recipient",
        "key_id",
        "ephemeral_key",
        "shared_secret",
        "kdf_context",
        "wrapping_key",
    ] {
        line(name, &example[name]);
    }
    for name in [
        "wrapped_key",
        "content_key",
        "iv",
        "additional_data",
        "ciphertext_bytes",
        "plaintext_bytes",
    ] {
        line(name, &example[name]);
    }
    line("plaintext_sha256", &example["plaintext_sha256"]);
    for name in ["header", "signed_bytes", "signed_sha256", "signature"] {
        line(
            &format!("first_signature {name}"),
            &example["first_signature"][name],
        );
    }
    lines
}

pub(super) fn document() -> PathBuf {
    vectors().join("../../docs/formats.md")
}

/// The document around an example: what stands before it, the example, what stands after it.
pub(super) fn around(marker: &str) -> (String, String, String) {
    let text = fs::read_to_string(document()).unwrap();
    let (before, rest) = text.split_once(marker).unwrap();
    let end = rest.find("```").unwrap();
    (
        before.to_owned(),
        rest[..end].to_owned(),
        rest[end..].to_owned(),
    )
}

/// Where the document shows what is derived: a key's check value and a device's secret, a serial number, a root.
pub(super) const DERIVED: &str = "```text worked-derivations\n";

pub(super) fn derived() -> String {
    let algorithm = KeyAlgorithm::HmacSha256;
    let service = keyset_key("service");
    let check = stage::secret::derive(&service, algorithm, "mintmark key check", &[]);
    let (label, device) = ("service".parse().unwrap(), "GW1-00000001".parse().unwrap());
    let context = derivation_context(&label, &device);
    let secret = stage::secret::derive(&service, algorithm, DERIVATION_LABEL, &context);
    assert_eq!(
        Vector::read("device-secret").said["content"]["9"],
        format!("h'{}'", hex::encode(secret))
    );

    let shared = key_file("vault-agree")
        .agree(&key_file("serial-master").public)
        .unwrap();
    let info = b"mintmark serial key v1berlin\0v1";
    let mut serial_key = [0; 32];
    hkdf::Hkdf::<sha2::Sha256>::new(None, &*shared)
        .expand(info, &mut serial_key)
        .unwrap();
    let block = [&[0, 0, 0, 0, 0, 1][..], &[0; 10]].concat();
    let cipher = SerialCipher::new(&serial_key);
    let serial = cipher.serial(AccountTag::new(1).unwrap(), 0, 0);
    // It is the one in the first certificate that the log reserves.
    let (records, bundles) = records();
    let reserved = records
        .iter()
        .find(|record| forge::entry(record, 0) == 18.into())
        .unwrap();
    let tbs = forge::entry(reserved, 9).into_bytes().unwrap();
    assert_eq!(serial_of(&tbs), Some(serial));

    let checkpoint = bundles[0].content().checkpoint;
    let leaf = |record: &[u8]| hex::encode(forge::sha256(&[&[0], record].concat()));
    let shown = [
        ("key service", hex::encode(service)),
        ("its check value", hex::encode(check)),
        ("context, GW1-00000001", hex::encode(context)),
        ("secret, GW1-00000001", hex::encode(secret)),
        ("ECDH for serials", hex::encode(*shared)),
        ("info", hex::encode(info)),
        ("serial key", hex::encode(serial_key)),
        ("account 1, slot 0, issue 0", hex::encode(block)),
        ("serial number", hex::encode(serial)),
        ("leaf of record 0", leaf(&records[0])),
        ("leaf of record 1", leaf(&records[1])),
        ("records in bundle 1", checkpoint.size.to_string()),
        ("root in bundle 1", checkpoint.root.to_string()),
    ];
    let lines = shown.map(|(name, value)| format!("{name:<28} {value}\n"));
    lines.concat()
}

#[test]
fn the_document_shows_the_numbers_of_the_worked_examples() {
    assert_eq!(around(SHOWN).1, shown(&worked_example()));
    assert_eq!(around(DERIVED).1, derived());
}
