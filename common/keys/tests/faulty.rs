//! Tokens that misbehave: a module in front of SoftHSM does what real tokens do and SoftHSM does not.
// Clippy takes only the test functions of such a file for tests, not what they share.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod softhsm;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;

use mintmark_keys::{
    Error, KeyStore, KeyUri, Pin, Purpose, RETURN_VALUES, SecretAlgorithm, StoreHealth,
    counter_kdf, health, oaep_wrap, open, verify,
};
use p256::SecretKey;
use softhsm::{PIN, SoftHsm, never, run};

/// SoftHSM behind the module that misbehaves to order.
struct Faulty<'hsm> {
    hsm: &'hsm SoftHsm,
    module: PathBuf,
}

impl<'hsm> Faulty<'hsm> {
    /// With one token, `vault`.
    fn new(hsm: &'hsm SoftHsm) -> Self {
        let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/faulty/module.c");
        let module = hsm.folder.join("faulty.so");
        run(Command::new("cc")
            .args(["-shared", "-fPIC", "-Wall", "-o"])
            .arg(&module)
            .arg(source)
            .arg("-ldl"));
        hsm.token("vault");
        Self { hsm, module }
    }

    fn uri(&self) -> KeyUri {
        self.hsm.uri_through(&self.module, "token=vault")
    }

    fn open(&self) -> Result<Arc<dyn KeyStore>, Error> {
        open(&self.uri(), &never)
    }

    /// Gives an order: see `faulty/module.c`.
    fn order(&self, name: &str, numbers: &str) {
        fs::write(self.hsm.folder.join(name), numbers).unwrap();
    }

    /// How often the module did what it counts.
    fn saw(&self, name: &str) -> u64 {
        let path = self.hsm.folder.join(format!("saw-{name}"));
        let Ok(text) = fs::read_to_string(path) else {
            return 0;
        };
        u64::from_str_radix(text.split(' ').next().unwrap(), 16).unwrap()
    }
}

with_softhsm! {
    fn a_signature_that_does_not_verify_is_never_returned(hsm) {
        let faulty = Faulty::new(hsm);
        let store = faulty.open().unwrap();
        store.generate("vault-sign", Purpose::Sign).unwrap();
        let signer = store.signer("vault-sign").unwrap();
        faulty.order("sign-wrong", "1");
        let signature = signer.sign(b"message").unwrap();
        assert!(verify(signer.public_key(), b"message", &signature));
        assert_eq!(fs::read_to_string(hsm.folder.join("sign-wrong")).unwrap(), "0 0", "no signature was spoilt");
        faulty.order("sign-wrong", "2");
        assert_eq!(signer.sign(b"message").unwrap_err().code(), "SIGNATURE-INVALID");
        signer.sign(b"message").unwrap();
        // A key that cannot sign for its public key is not even found, and a self test says so.
        faulty.order("sign-wrong", "1");
        assert_eq!(store.find("vault-sign", Purpose::Sign).unwrap_err().code(), "KEY-ATTRIBUTES");
        faulty.order("sign-wrong", "1");
        let probes = store.self_test().unwrap();
        let failed: Vec<_> = probes.iter().filter(|probe| probe.outcome.is_err()).map(|probe| probe.name.as_str()).collect();
        assert_eq!(failed, ["sign"]);
    }

    fn a_key_that_proves_wrong_when_made_is_not_left_behind(hsm) {
        let faulty = Faulty::new(hsm);
        let store = faulty.open().unwrap();
        faulty.order("sign-wrong", "1");
        assert_eq!(store.generate("vault-sign", Purpose::Sign).unwrap_err().code(), "KEY-ATTRIBUTES");
        assert_eq!(hsm.session("vault").find_objects(&[]).unwrap().len(), 0);
        store.generate("vault-sign", Purpose::Sign).unwrap();
    }

    fn a_mac_that_is_wrong_once_is_made_again_and_never_returned(hsm) {
        let faulty = Faulty::new(hsm);
        let store = faulty.open().unwrap();
        for algorithm in [SecretAlgorithm::HmacSha256, SecretAlgorithm::Aes256] {
            store.import_secret(algorithm.as_str(), algorithm, &[7; 32]).unwrap();
            let secret = store.secret(algorithm.as_str(), algorithm).unwrap();
            let right = counter_kdf(algorithm, &[7; 32], "x", b"").unwrap();
            faulty.order("sign-wrong", "1");
            assert_eq!(secret.derive("x", b"").unwrap(), right);
            assert_eq!(fs::read_to_string(hsm.folder.join("sign-wrong")).unwrap(), "0 0", "no MAC was spoilt");
            assert_eq!(secret.derive("x", b"").unwrap(), right);
            // One that is wrong for good does not enter the token.
            let before = hsm.session("vault").find_objects(&[]).unwrap().len();
            faulty.order("sign-wrong", "ff");
            assert_eq!(store.import_secret("other", algorithm, &[8; 32]).unwrap_err().code(), "TOKEN-FAILED");
            faulty.order("sign-wrong", "0");
            assert_eq!(hsm.session("vault").find_objects(&[]).unwrap().len(), before);
        }
    }

    fn a_token_that_unwraps_wrongly_gets_no_transport_key(hsm) {
        let faulty = Faulty::new(hsm);
        let store = faulty.open().unwrap();
        let objects = || hsm.session("vault").find_objects(&[]).unwrap().len();
        // All of its MACs are wrong in the same way, so that it agrees with itself and not with this program.
        faulty.order("sign-wrong", "ff");
        assert_eq!(store.generate_transport("vault-transport").unwrap(), None);
        assert_eq!(objects(), 0);
        let probes = store.self_test().unwrap();
        let failed: Vec<_> = probes.iter().filter(|probe| probe.outcome.is_err()).map(|probe| probe.name.as_str()).collect();
        assert_eq!(failed, ["sign", "unwrap", "hmac", "cmac"]);
        faulty.order("sign-wrong", "0");
        store.generate_transport("vault-transport").unwrap().unwrap();
        faulty.order("sign-wrong", "ff");
        assert_eq!(store.transport("vault-transport").unwrap_err().code(), "KEY-ATTRIBUTES");
    }

    fn a_token_that_unwraps_nothing_gets_no_transport_key_and_says_so(hsm) {
        let faulty = Faulty::new(hsm);
        let store = faulty.open().unwrap();
        // CKR_MECHANISM_INVALID
        faulty.order("unwrap-fails", "70 ff");
        assert_eq!(store.generate_transport("vault-transport").unwrap(), None);
        assert_eq!(hsm.session("vault").find_objects(&[]).unwrap().len(), 0);
        let probes = store.self_test().unwrap();
        let unwrap = probes.iter().find(|probe| probe.name == "unwrap").unwrap();
        let said = unwrap.outcome.as_ref().unwrap();
        assert!(said.starts_with("not offered: RSA-OAEP: CKR_MECHANISM_INVALID"), "{said}");
        // A key that is there and is refused for the moment is no false key.
        faulty.order("unwrap-fails", "0 0");
        let transport = store.generate_transport("vault-transport").unwrap().unwrap();
        faulty.order("unwrap-fails", "6 ff");
        assert_eq!(store.transport("vault-transport").unwrap_err().code(), "TOKEN-FAILED");
        faulty.order("unwrap-fails", "0 0");
        assert_eq!(store.transport("vault-transport").unwrap(), Some(transport));
    }

    fn a_key_is_unwrapped_through_a_lost_connection(hsm) {
        let faulty = Faulty::new(hsm);
        let store = faulty.open().unwrap();
        let transport = store.generate_transport("vault-transport").unwrap().unwrap();
        let wrapped = oaep_wrap(&transport.n, &transport.e, transport.oaep, &[7; 32]).unwrap();
        let unwrap = |label| store.unwrap_secret(label, SecretAlgorithm::Aes256, "vault-transport", transport.oaep, &wrapped);
        // CKR_DEVICE_ERROR once, where the token does what it can do right afterwards: nobody connects anew. Then until a
        // connection was made again, then for good; CKR_GENERAL_ERROR is an answer.
        let logins = faulty.saw("login");
        faulty.order("unwrap-fails", "30 1");
        unwrap("key-a").unwrap();
        assert_eq!(faulty.saw("login"), logins);
        faulty.order("unwrap-fails", "30 2");
        unwrap("key-d").unwrap();
        assert_eq!(faulty.saw("login"), logins + 1);
        faulty.order("unwrap-fails", "30 4");
        assert_eq!(unwrap("key-b").unwrap_err().code(), "TOKEN-GONE");
        faulty.order("unwrap-fails", "5 1");
        assert_eq!(unwrap("key-b").unwrap_err().code(), "WRAPPED-KEY-INVALID");
        assert!(!store.find_secret("key-b", SecretAlgorithm::Aes256).unwrap());
        hsm.session("vault").logout().unwrap();
        unwrap("key-b").unwrap();
        hsm.session("vault").logout().unwrap();
        store.import_secret("key-c", SecretAlgorithm::Aes256, &[7; 32]).unwrap();
        hsm.session("vault").logout().unwrap();
        assert_eq!(store.transport("vault-transport").unwrap(), Some(transport.clone()));
        for label in ["key-a", "key-b", "key-c", "key-d"] {
            let derived = store.secret(label, SecretAlgorithm::Aes256).unwrap().derive("x", b"").unwrap();
            assert_eq!(derived, counter_kdf(SecretAlgorithm::Aes256, &[7; 32], "x", b"").unwrap());
        }
    }

    fn a_lost_connection_is_made_again_once(hsm) {
        let faulty = Faulty::new(hsm);
        let store = faulty.open().unwrap();
        store.generate("vault-sign", Purpose::Sign).unwrap();
        let signer = store.signer("vault-sign").unwrap();
        for (rv, name) in [
            ("30", "CKR_DEVICE_ERROR"),
            ("32", "CKR_DEVICE_REMOVED"),
            ("60", "CKR_KEY_HANDLE_INVALID"),
            ("82", "CKR_OBJECT_HANDLE_INVALID"),
            ("b0", "CKR_SESSION_CLOSED"),
            ("b3", "CKR_SESSION_HANDLE_INVALID"),
            ("e0", "CKR_TOKEN_NOT_PRESENT"),
            ("101", "CKR_USER_NOT_LOGGED_IN"),
        ] {
            let logins = faulty.saw("login");
            faulty.order("sign-fails", &format!("{rv} 1"));
            signer.sign(b"message").unwrap();
            assert_eq!(faulty.saw("login"), logins + 1, "{name}");
            faulty.order("sign-fails", &format!("{rv} 2"));
            let error = signer.sign(b"message").unwrap_err();
            assert_eq!(error.code(), "TOKEN-GONE");
            assert!(error.is_transient() && !store.liveness().connected);
            assert!(error.to_string().contains(&format!("{name} from C_Sign")), "{error}");
            // The failure leaves nothing broken.
            signer.sign(b"message").unwrap();
            assert!(store.liveness().connected);
        }
    }

    fn another_failure_is_an_error_at_once_and_its_session_is_given_up(hsm) {
        let faulty = Faulty::new(hsm);
        let store = faulty.open().unwrap();
        store.generate("vault-sign", Purpose::Sign).unwrap();
        let signer = store.signer("vault-sign").unwrap();
        let logins = faulty.saw("login");
        // The token's own session has a signature begun and not ended now: kept, it would refuse to begin another.
        faulty.order("sign-fails", "6 1");
        let error = signer.sign(b"message").unwrap_err();
        assert!(error.to_string().contains("CKR_FUNCTION_FAILED"), "{error}");
        assert!(!error.is_transient() && store.liveness().connected);
        signer.sign(b"message").unwrap();
        assert_eq!(faulty.saw("login"), logins);
    }

    fn every_failure_is_told_with_its_likely_cause_and_what_to_do(hsm) {
        let faulty = Faulty::new(hsm);
        let store = faulty.open().unwrap();
        store.generate("vault-sign", Purpose::Sign).unwrap();
        let signer = store.signer("vault-sign").unwrap();
        for (rv, name, code) in [
            ("5", "CKR_GENERAL_ERROR", "TOKEN-FAILED"),
            ("13", "CKR_ATTRIBUTE_VALUE_INVALID", "TOKEN-FAILED"),
            ("21", "CKR_DATA_LEN_RANGE", "TOKEN-FAILED"),
            ("31", "CKR_DEVICE_MEMORY", "TOKEN-FULL"),
            ("54", "CKR_FUNCTION_NOT_SUPPORTED", "TOKEN-FAILED"),
            ("68", "CKR_KEY_FUNCTION_NOT_PERMITTED", "TOKEN-FAILED"),
            ("70", "CKR_MECHANISM_INVALID", "MECHANISM-MISSING"),
            ("91", "CKR_OPERATION_NOT_INITIALIZED", "TOKEN-FAILED"),
            ("b1", "CKR_SESSION_COUNT", "TOKEN-SESSIONS"),
            ("b5", "CKR_SESSION_READ_ONLY", "TOKEN-WRITE-PROTECTED"),
            ("e2", "CKR_TOKEN_WRITE_PROTECTED", "TOKEN-WRITE-PROTECTED"),
            ("200", "CKR_FUNCTION_REJECTED", "TOKEN-FAILED"),
            ("80001234", "CKR_VENDOR_DEFINED", "TOKEN-FAILED"),
        ] {
            let value = RETURN_VALUES.iter().find(|value| value.name() == name).unwrap();
            assert_eq!(value.code, code, "{name}");
            faulty.order("sign-fails", &format!("{rv} 1"));
            let error = signer.sign(b"message").unwrap_err();
            assert_eq!(error.code(), code, "{name}: {error}");
            let hint = error.hint().unwrap();
            if code == "TOKEN-FAILED" {
                assert!(error.to_string().contains(value.cause), "{error}");
                assert_eq!(hint, value.remedy);
            }
        }
        faulty.order("login-fails", "a3");
        assert_eq!(faulty.open().unwrap_err().code(), "PIN-EXPIRED");
    }

    fn a_locked_pin_is_an_error_of_its_own_and_not_tried_where_the_token_says_so(hsm) {
        let faulty = Faulty::new(hsm);
        faulty.order("login-fails", "a4");
        assert_eq!(faulty.open().unwrap_err().code(), "PIN-LOCKED");
        assert_eq!(faulty.saw("login"), 1);
        faulty.order("flags", "40000");
        let uri: KeyUri = format!("pkcs11:token=vault?module-path={}", faulty.module.display()).parse().unwrap();
        assert_eq!(open(&uri, &never).unwrap_err().code(), "PIN-LOCKED");
        assert_eq!(faulty.saw("login"), 1);
    }

    fn the_last_try_is_announced_before_and_after_it(hsm) {
        let faulty = Faulty::new(hsm);
        faulty.order("flags", "20000");
        faulty.order("login-fails", "a0");
        let uri: KeyUri = format!("pkcs11:token=vault?module-path={}", faulty.module.display()).parse().unwrap();
        let asked = std::cell::RefCell::new(String::new());
        let prompt = |question: &str| {
            asked.replace(question.into());
            Ok(Pin::new(PIN.into()))
        };
        let error = open(&uri, &prompt).unwrap_err();
        assert_eq!(error.code(), "PIN-INCORRECT");
        assert!(asked.borrow().contains("one try left"), "{asked:?}");
        assert!(error.hint().unwrap().contains("one try is left"), "{:?}", error.hint());
        assert_eq!(faulty.saw("login"), 1);
    }

    fn a_token_without_a_pin_is_an_error_of_its_own(hsm) {
        let faulty = Faulty::new(hsm);
        faulty.order("login-fails", "102");
        assert_eq!(faulty.open().unwrap_err().code(), "PIN-NOT-INITIALISED");
    }

    fn any_other_refusal_of_the_login_names_its_cause(hsm) {
        let faulty = Faulty::new(hsm);
        faulty.order("login-fails", "80001234");
        let error = faulty.open().unwrap_err();
        assert_eq!(error.code(), "TOKEN-FAILED");
        assert!(error.to_string().contains("log in: vendor error 0x80001234 from C_Login"), "{error}");
    }

    fn a_token_of_few_sessions_serves_many_threads(hsm) {
        let faulty = Faulty::new(hsm);
        let sign = |store: &dyn KeyStore, label: &str| {
            let signer = store.signer(label).unwrap();
            std::thread::scope(|scope| {
                for thread in 0..8 {
                    let signer = &signer;
                    scope.spawn(move || {
                        for count in 0..10 {
                            signer.sign(format!("{thread} {count}").as_bytes()).unwrap();
                        }
                    });
                }
            });
        };
        // The token says how many: never more are asked for.
        for most in ["1", "2", "3"] {
            faulty.order("sessions-max", most);
            faulty.order("sessions", most);
            let store = faulty.open().unwrap();
            let label = format!("key-{most}");
            store.generate(&label, Purpose::Sign).unwrap();
            sign(&*store, &label);
            assert_eq!(faulty.saw("session-refused"), 0, "{most} sessions");
        }
        // It does not say: the refusal is taken for what it is.
        fs::remove_file(hsm.folder.join("sessions-max")).unwrap();
        for most in ["1", "2"] {
            faulty.order("sessions", most);
            let store = faulty.open().unwrap();
            sign(&*store, "key-1");
            sign(&*store, "key-2");
        }
        assert!(faulty.saw("session-refused") > 0);
    }

    fn a_token_that_takes_points_only_wrapped_agrees_too(hsm) {
        let faulty = Faulty::new(hsm);
        faulty.order("curve-wrapped", "1");
        let store = faulty.open().unwrap();
        let public = store.generate("vault-agree", Purpose::Agree).unwrap();
        let peer = SecretKey::from_slice(&[7; 32]).unwrap();
        let secret = store.agreement("vault-agree").unwrap().agree(&peer.public_key()).unwrap();
        assert_eq!(secret.as_slice(), peer.diffie_hellman(&public).raw_secret_bytes().as_slice());
        assert!(faulty.saw("wrapped") > 0);
    }

    fn data_that_a_token_takes_or_refuses_oddly_are_judged_by_what_is_there(hsm) {
        let faulty = Faulty::new(hsm);
        let store = faulty.open().unwrap();
        for (rv, code) in [("e2", "TOKEN-WRITE-PROTECTED"), ("b5", "TOKEN-WRITE-PROTECTED"), ("31", "TOKEN-FULL"), ("5", "TOKEN-FAILED")] {
            faulty.order("create-fails", &format!("{rv} 1"));
            let error = store.add_data("anchor", b"one").unwrap_err();
            assert_eq!(error.code(), code);
            assert!(error.hint().is_some());
            assert!(store.data("anchor").unwrap().is_empty());
        }
        faulty.order("create-forgets", "1");
        assert_eq!(store.add_data("anchor", b"one").unwrap_err().code(), "DATA-NOT-KEPT");
        assert!(store.data("anchor").unwrap().is_empty());
        // The object was made and the answer lost: the second try finds it and makes none.
        let made = faulty.saw("create");
        faulty.order("create-breaks", "1");
        store.add_data("anchor", b"one").unwrap();
        assert_eq!(faulty.saw("create"), made + 1);
        assert_eq!(store.data("anchor").unwrap(), [b"one"]);
        // A connection that breaks before anything is made: the second try makes it.
        faulty.order("create-fails", "30 1");
        store.add_data("anchor", b"two").unwrap();
        assert_eq!(store.data("anchor").unwrap().len(), 2);
    }

    fn the_flags_of_a_token_are_told_without_a_login(hsm) {
        let faulty = Faulty::new(hsm);
        let look = || match health(&faulty.uri()).unwrap() {
            StoreHealth::Token(token) => token,
            other => panic!("{other:?}"),
        };
        let plain = look();
        assert!(plain.initialised && plain.pin_initialised);
        assert!(StoreHealth::Token(plain.clone()).problems().is_empty(), "{plain:?}");
        for (flag, problem) in [
            ("2", "write-protected"),
            ("10000", "wrong PIN"),
            ("20000", "one try is left"),
            ("40000", "locked"),
            ("80000", "has to be changed"),
            ("1000000", "own test"),
        ] {
            faulty.order("flags", flag);
            let problems = StoreHealth::Token(look()).problems();
            assert_eq!(problems.len(), 1, "{problems:?}");
            assert!(problems[0].contains(problem), "{problems:?}");
        }
        faulty.order("flags", "0");
        faulty.order("sessions-max", "4");
        // SoftHSM does not count its sessions, so nothing is told of them.
        assert_eq!(look().sessions_free, None);
        faulty.order("sessions-told", "1");
        assert_eq!(look().sessions_free, Some(3));
        faulty.order("sessions-told", "4");
        assert_eq!(look().sessions_free, Some(0));
        assert_eq!(StoreHealth::Token(look()).problems().len(), 1);
        assert_eq!(faulty.saw("login"), 0);
    }

    fn an_examination_names_what_is_wrong_and_spends_no_try_of_a_pin_in_danger(hsm) {
        let faulty = Faulty::new(hsm);
        faulty.open().unwrap().generate("vault-sign", Purpose::Sign).unwrap();
        let logins = || faulty.saw("login");
        let objects = || hsm.session("vault").find_objects(&[]).unwrap().len();
        let count = objects();
        let examine = || mintmark_keys::examine(&faulty.uri(), &never);
        let outcome = |check: &str| {
            let found = examine();
            let finding = found.findings.iter().find(|finding| finding.check == check);
            let finding = finding.unwrap_or_else(|| panic!("no {check}: {found:?}"));
            let trouble = finding.outcome.as_ref().err();
            (trouble.map(|trouble| (trouble.code, trouble.works)), found.store.is_some())
        };
        let all = examine();
        assert!(all.store.is_some() && all.findings.iter().all(|finding| finding.outcome.is_ok()), "{all:?}");
        let checks: Vec<_> = all.findings.iter().map(|finding| finding.check.as_str()).collect();
        for check in ["module", "token", "pin", "session limit", "key store", "memory lock", "sign", "key vault-sign"] {
            assert!(checks.contains(&check), "{check}: {checks:?}");
        }
        drop(all);
        assert_eq!(objects(), count);
        for (flag, check, code, works, open) in [
            ("2", "token", "TOKEN-WRITE-PROTECTED", true, true),
            ("10000", "pin", "PIN-TRIES-LOW", true, true),
            ("80000", "pin", "PIN-EXPIRED", true, true),
            ("20000", "pin", "PIN-LAST-TRY", false, false),
            ("40000", "pin", "PIN-LOCKED", false, false),
            ("1000000", "token", "TOKEN-FAILED", false, false),
        ] {
            faulty.order("flags", flag);
            let before = if open { u64::MAX } else { logins() };
            assert_eq!(outcome(check), (Some((code, works)), open), "{flag}");
            assert!(logins() <= before, "{flag}: the PIN was tried");
        }
        faulty.order("flags", "0");
        faulty.order("sessions-max", "4");
        faulty.order("sessions-told", "4");
        assert_eq!(outcome("session limit").0, Some(("TOKEN-SESSIONS", false)));
        faulty.order("sessions-told", "0");
        // What fails is told with the return value, its cause and what to do.
        faulty.order("sign-fails", "68 ff");
        let found = examine();
        let sign = found.findings.iter().find(|finding| finding.check == "sign").unwrap();
        let trouble = sign.outcome.as_ref().unwrap_err();
        assert!(trouble.message.contains("CKR_KEY_FUNCTION_NOT_PERMITTED from C_Sign: the key's attributes"), "{trouble:?}");
        assert!(trouble.hint.as_ref().unwrap().contains("how the key was made"), "{trouble:?}");
    }
}
