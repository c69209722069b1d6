//! Sessions and the login of a token: others end them, and threads share them.

use std::sync::atomic::{AtomicBool, Ordering};

use mintmark_keys::{Class, Purpose, open, verify};
use p256::SecretKey;

use super::refused;
use super::softhsm::{never, spy_module};
use crate::with_softhsm;

with_softhsm! {
    fn work_goes_on_after_another_user_logged_the_process_out(hsm) {
        hsm.token("vault");
        let store = open(&hsm.uri("token=vault"), &never).unwrap();
        let public = store.generate("vault-sign", Purpose::Sign).unwrap();
        store.generate("vault-agree", Purpose::Agree).unwrap();
        let (signer, agreement) = (store.signer("vault-sign").unwrap(), store.agreement("vault-agree").unwrap());
        let log_out = || hsm.session("vault").logout().unwrap();
        let peer = SecretKey::from_slice(&[7; 32]).unwrap().public_key();
        let secret = agreement.agree(&peer).unwrap();
        log_out();
        signer.sign(b"message").unwrap();
        log_out();
        assert_eq!(agreement.agree(&peer).unwrap(), secret);
        log_out();
        assert_eq!(store.find("vault-sign", Purpose::Sign).unwrap(), Some(public));
        log_out();
        refused(store.generate("vault-sign", Purpose::Sign), "KEY-EXISTS", Class::Environment);
        log_out();
        assert_eq!(store.labels().unwrap().len(), 2);
        log_out();
        store.generate("device-ca", Purpose::Sign).unwrap();
        log_out();
        assert!(store.self_test().unwrap().iter().all(|probe| probe.outcome.is_ok()));
    }

    fn work_goes_on_after_the_module_was_ended_or_started_anew(hsm) {
        hsm.token("vault");
        let store = open(&hsm.uri("token=vault"), &never).unwrap();
        store.generate("vault-sign", Purpose::Sign).unwrap();
        let signer = store.signer("vault-sign").unwrap();
        hsm.module().finalize().unwrap();
        signer.sign(b"message").unwrap();
        hsm.module().finalize().unwrap();
        let _anew = hsm.module();
        signer.sign(b"message").unwrap();
    }

    fn many_threads_sign_with_few_sessions_and_one_login(hsm) {
        hsm.token("vault");
        let store = open(&hsm.uri_through(&spy_module(), "token=vault"), &never).unwrap();
        store.generate("vault-sign", Purpose::Sign).unwrap();
        store.generate("vault-agree", Purpose::Agree).unwrap();
        let (signer, agreement) = (store.signer("vault-sign").unwrap(), store.agreement("vault-agree").unwrap());
        let peer = SecretKey::from_slice(&[7; 32]).unwrap();
        let expected = peer.diffie_hellman(agreement.public_key()).raw_secret_bytes().to_vec();
        std::thread::scope(|scope| {
            for thread in 0..16 {
                let (signer, agreement, peer, expected) = (&signer, &agreement, peer.public_key(), &expected);
                scope.spawn(move || {
                    for count in 0..20 {
                        let message = format!("{thread} {count}");
                        let signature = signer.sign(message.as_bytes()).unwrap();
                        assert!(verify(signer.public_key(), message.as_bytes(), &signature));
                        assert_eq!(agreement.agree(&peer).unwrap().as_slice(), expected);
                    }
                });
            }
        });
        assert_eq!(hsm.calls("C_Login"), 1);
        let most = 2 * std::thread::available_parallelism().unwrap().get() + 1;
        assert!(hsm.calls("C_OpenSession") <= most, "{} sessions, {most} at most", hsm.calls("C_OpenSession"));
        // Each signature counts once, and looking a key up proves it once: in generate and in signer.
        assert_eq!(hsm.calls("C_SignInit"), 16 * 20 + 2);
    }

    fn threads_go_on_signing_through_a_loss_of_login(hsm) {
        hsm.token("vault");
        let store = open(&hsm.uri("token=vault"), &never).unwrap();
        store.generate("vault-sign", Purpose::Sign).unwrap();
        let signer = store.signer("vault-sign").unwrap();
        let lost = AtomicBool::new(false);
        std::thread::scope(|scope| {
            for thread in 0..8 {
                let (signer, lost) = (&signer, &lost);
                scope.spawn(move || {
                    // Some signatures before the loss, and some after it.
                    let mut after = 0;
                    while after < 20 {
                        after += usize::from(lost.load(Ordering::SeqCst));
                        signer.sign(format!("{thread} {after}").as_bytes()).unwrap();
                    }
                });
            }
            hsm.session("vault").logout().unwrap();
            lost.store(true, Ordering::SeqCst);
        });
    }
}
