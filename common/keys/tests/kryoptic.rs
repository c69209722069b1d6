//! What another token than SoftHSM says in another way: kryoptic.
// Clippy takes only the test functions of such a file for tests, not what they share.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod softhsm;

use mintmark_keys::{Class, OaepHash, SecretAlgorithm, counter_kdf, oaep_wrap, open};
use softhsm::{kryoptic_module, never};

const KEY: [u8; 32] = *b"0123456789abcdefghijklmnopqrstuv";
const TRANSPORT: &str = "vault-transport";

with_softhsm! {
    fn what_does_not_unwrap_is_refused_although_the_token_says_that_it_failed_itself(hsm) {
        hsm.kryoptic_token("vault");
        let store = open(&hsm.uri_through(&kryoptic_module(), "token=vault"), &never).unwrap();
        let transport = store.generate_transport(TRANSPORT).unwrap().unwrap();
        let other = store.generate_transport("other-transport").unwrap().unwrap();
        let before = store.liveness();
        let wrap = |transport: &mintmark_keys::TransportKey, oaep| oaep_wrap(&transport.n, &transport.e, oaep, &KEY).unwrap();
        let proper = wrap(&transport, transport.oaep);
        let mut damaged = proper.clone();
        damaged[100] ^= 1;
        for algorithm in [SecretAlgorithm::HmacSha256, SecretAlgorithm::Aes256] {
            let unwrap = |wrapped: &[u8]| store.unwrap_secret("key-a", algorithm, TRANSPORT, transport.oaep, wrapped);
            for (what, wrapped) in [
                ("damaged", damaged.clone()),
                ("cut", proper[..383].to_vec()),
                ("zero", vec![0; 384]),
                ("for another key", wrap(&other, transport.oaep)),
                ("with another hash", wrap(&transport, OaepHash::Sha1)),
            ] {
                let error = unwrap(&wrapped).unwrap_err();
                assert_eq!((error.code(), error.class()), ("WRAPPED-KEY-INVALID", Class::Environment), "{what}: {error}");
                assert!(!error.is_transient() && error.to_string().contains("CKR_"), "{what}: {error}");
                assert!(!store.find_secret("key-a", algorithm).unwrap(), "{what}");
            }
            unwrap(&proper).unwrap();
            let derived = store.secret("key-a", algorithm).unwrap().derive("x", b"").unwrap();
            assert_eq!(derived, counter_kdf(algorithm, &KEY, "x", b"").unwrap());
            store.destroy_secret("key-a", algorithm).unwrap();
        }
        // Nobody took that for a lost connection.
        assert_eq!((store.liveness().connected, store.liveness().connections), (true, before.connections));
    }
}
