//! Symmetric keys and transport keys in SoftHSM and in folders, with OpenSSL and OpenSC as judges.
// Clippy takes only the test functions of such a file for tests, not what they share.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod softhsm;
#[path = "secret/wrapping.rs"]
mod wrapping;

use std::fs;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;

use cryptoki::mechanism::Mechanism;
use cryptoki::object::{Attribute, AttributeType, KeyType, ObjectClass};
use mintmark_keys::{
    Class, Error, KeyKind, KeyStore, LockedSecret, OaepHash, Purpose, SecretAlgorithm,
    TransportKey, counter_kdf, create, oaep_wrap, open,
};
use softhsm::{PIN, SoftHsm, never, overlay, run, softhsm_module};

const BOTH: [SecretAlgorithm; 2] = [SecretAlgorithm::HmacSha256, SecretAlgorithm::Aes256];
const KEY: [u8; 32] = *b"0123456789abcdefghijklmnopqrstuv";
const TRANSPORT: &str = "vault-transport";

/// Asserts the code and the class of an error.
#[track_caller]
fn refused<T: std::fmt::Debug>(result: Result<T, Error>, code: &str, class: Class) -> Error {
    let error = result.unwrap_err();
    assert_eq!((error.code(), error.class()), (code, class), "{error}");
    assert!(error.hint().is_some(), "{error} has no hint");
    error
}

/// KBKDF as OpenSSL computes it.
fn openssl_kdf(algorithm: SecretAlgorithm, key: &[u8], label: &str, context: &[u8]) -> Vec<u8> {
    let mac: &[&str] = match algorithm {
        SecretAlgorithm::HmacSha256 => &["-kdfopt", "mac:HMAC", "-kdfopt", "digest:SHA256"],
        SecretAlgorithm::Aes256 => &["-kdfopt", "mac:CMAC", "-kdfopt", "cipher:AES-256-CBC"],
    };
    let mut command = Command::new("openssl");
    command.args(["kdf", "-keylen", "32", "-binary"]);
    command.args(["-kdfopt", "mode:COUNTER"]).args(mac);
    for (name, value) in [
        ("hexkey", key),
        ("hexsalt", label.as_bytes()),
        ("hexinfo", context),
    ] {
        if !value.is_empty() {
            command.args(["-kdfopt", &format!("{name}:{}", hex::encode(value))]);
        }
    }
    run(command.arg("KBKDF")).stdout
}

fn token(hsm: &SoftHsm) -> Arc<dyn KeyStore> {
    hsm.token("vault");
    open(&hsm.uri("token=vault"), &never).unwrap()
}

fn folder(hsm: &SoftHsm) -> Arc<dyn KeyStore> {
    let (folder, pin) = (hsm.folder.join("keys"), hsm.pin_file());
    let uri = format!(
        "file:{}?pin-source=file:{}",
        folder.display(),
        pin.display()
    );
    create(&uri.parse().unwrap(), &never).unwrap()
}

fn objects(hsm: &SoftHsm) -> usize {
    hsm.session("vault").find_objects(&[]).unwrap().len()
}

fn wrap(transport: &TransportKey, key: &[u8; 32]) -> Vec<u8> {
    oaep_wrap(&transport.n, &transport.e, transport.oaep, key).unwrap()
}

/// The template of a proper key, as another program would state it.
fn secret_template(label: &str, changed: &[Attribute]) -> Vec<Attribute> {
    overlay(
        vec![
            Attribute::Class(ObjectClass::SECRET_KEY),
            Attribute::KeyType(KeyType::GENERIC_SECRET),
            Attribute::Token(true),
            Attribute::Private(true),
            Attribute::Sensitive(true),
            Attribute::Extractable(false),
            Attribute::Sign(true),
            Attribute::Verify(false),
            Attribute::Encrypt(false),
            Attribute::Decrypt(false),
            Attribute::Wrap(false),
            Attribute::Unwrap(false),
            Attribute::Derive(false),
            Attribute::Label(label.into()),
            Attribute::Value(KEY.into()),
        ],
        changed,
    )
}

/// An RSA pair that another program might have made.
fn plant_transport(hsm: &SoftHsm, label: &str, bits: u64, changed: &[Attribute]) {
    let public = [
        Attribute::ModulusBits(bits.into()),
        Attribute::PublicExponent(vec![1, 0, 1]),
        Attribute::Token(true),
        Attribute::Label(label.into()),
    ];
    let private = overlay(
        vec![
            Attribute::Token(true),
            Attribute::Private(true),
            Attribute::Sensitive(true),
            Attribute::Extractable(false),
            Attribute::Unwrap(true),
            Attribute::Decrypt(false),
            Attribute::Sign(false),
            Attribute::SignRecover(false),
            Attribute::Derive(false),
            Attribute::Label(label.into()),
        ],
        changed,
    );
    hsm.session("vault")
        .generate_key_pair(&Mechanism::RsaPkcsKeyPairGen, &public, &private)
        .unwrap();
}

with_softhsm! {
    fn a_wrapped_key_is_unwrapped_in_the_token_and_derives_there(hsm) {
        let store = token(hsm);
        assert_eq!(store.transport(TRANSPORT).unwrap(), None);
        let transport = store.generate_transport(TRANSPORT).unwrap().unwrap();
        assert_eq!((transport.n.len(), transport.e.as_slice()), (384, &[1, 0, 1][..]));
        // SoftHSM 2.6 has OAEP with SHA-1 alone, which was found out by trying.
        assert_eq!(transport.oaep, OaepHash::Sha1);
        assert_eq!(store.transport(TRANSPORT).unwrap(), Some(transport.clone()));
        for algorithm in BOTH {
            let label = format!("key-{algorithm}");
            let wrapped = wrap(&transport, &KEY);
            assert!(!store.find_secret(&label, algorithm).unwrap());
            store.unwrap_secret(&label, algorithm, TRANSPORT, transport.oaep, &wrapped).unwrap();
            assert!(store.find_secret(&label, algorithm).unwrap());
            let secret = store.secret(&label, algorithm).unwrap();
            assert_eq!(secret.algorithm(), algorithm);
            for context in [&b""[..], b"context", &[7; 1000]] {
                let derived = secret.derive("mintmark key check", context).unwrap();
                assert_eq!(derived.to_vec(), openssl_kdf(algorithm, &KEY, "mintmark key check", context));
            }
        }
    }

    fn a_key_that_openssl_wrapped_to_the_token_is_unwrapped(hsm) {
        let store = token(hsm);
        let transport = store.generate_transport(TRANSPORT).unwrap().unwrap();
        let (der, key) = (hsm.folder.join("transport.der"), hsm.folder.join("key"));
        hsm.pkcs11_tool("vault", &["--read-object", "--type", "pubkey", "--label", TRANSPORT, "--output-file", der.to_str().unwrap()]);
        fs::write(&key, KEY).unwrap();
        let wrapped = run(Command::new("openssl").args(["pkeyutl", "-encrypt", "-pubin", "-keyform", "DER", "-pkeyopt", "rsa_padding_mode:oaep", "-pkeyopt", "rsa_oaep_md:sha1", "-inkey"]).arg(&der).arg("-in").arg(&key)).stdout;
        store.unwrap_secret("key-a", SecretAlgorithm::HmacSha256, TRANSPORT, transport.oaep, &wrapped).unwrap();
        let derived = store.secret("key-a", SecretAlgorithm::HmacSha256).unwrap().derive("x", b"").unwrap();
        assert_eq!(derived, counter_kdf(SecretAlgorithm::HmacSha256, &KEY, "x", b"").unwrap());
        // And the token's public key is the one that was given out.
        let modulus = run(Command::new("openssl").args(["rsa", "-pubin", "-inform", "DER", "-noout", "-modulus", "-in"]).arg(&der)).stdout;
        assert_eq!(String::from_utf8(modulus).unwrap().trim().to_lowercase(), format!("modulus={}", hex::encode(&transport.n)));
    }

    fn keys_of_a_token_are_listed_sensitive_and_their_values_are_not_read(hsm) {
        let store = token(hsm);
        let transport = store.generate_transport(TRANSPORT).unwrap().unwrap();
        store.unwrap_secret("key-hmac", SecretAlgorithm::HmacSha256, TRANSPORT, transport.oaep, &wrap(&transport, &KEY)).unwrap();
        store.unwrap_secret("key-aes", SecretAlgorithm::Aes256, TRANSPORT, transport.oaep, &wrap(&transport, &KEY)).unwrap();
        store.import_secret("key-hmac-imported", SecretAlgorithm::HmacSha256, &KEY).unwrap();
        store.import_secret("key-aes-imported", SecretAlgorithm::Aes256, &KEY).unwrap();
        let listing = hsm.pkcs11_tool("vault", &["--list-objects", "--type", "privkey"]);
        let lines: Vec<_> = listing.lines().map(str::trim).collect();
        assert!(lines.contains(&"Usage:      unwrap"), "{listing}");
        assert!(lines.contains(&"Access:     sensitive, always sensitive, never extractable, local"), "{listing}");
        let listing = hsm.pkcs11_tool("vault", &["--list-objects", "--type", "secrkey"]);
        let access: Vec<_> = listing.lines().filter_map(|line| line.trim().strip_prefix("Access:")).map(str::trim).collect();
        // pkcs11-tool says "extractable" of a key that is.
        assert_eq!(access, ["sensitive"; 4], "{listing}");
        let session = hsm.session("vault");
        let secrets = session.find_objects(&[Attribute::Class(ObjectClass::SECRET_KEY)]).unwrap();
        assert_eq!(secrets.len(), 4);
        for secret in secrets {
            let read = session.get_attributes(secret, &[AttributeType::Value, AttributeType::Sensitive, AttributeType::Extractable, AttributeType::Sign, AttributeType::KeyType]).unwrap();
            assert_eq!(read[..3], [Attribute::Sensitive(true), Attribute::Extractable(false), Attribute::Sign(true)]);
            session.update_attributes(secret, &[Attribute::Extractable(true)]).unwrap_err();
            session.update_attributes(secret, &[Attribute::Sensitive(false)]).unwrap_err();
            // Other software may encrypt with a key that an entitlement holds ready for it.
            let encrypts = session.encrypt(&Mechanism::AesEcb, secret, &[0; 16]).is_ok();
            assert_eq!(encrypts, read[3] == Attribute::KeyType(KeyType::AES), "{read:?}");
        }
        let refused = Command::new("pkcs11-tool").arg("--module").arg(softhsm_module())
            .args(["--token-label", "vault", "--login", "--pin", PIN, "--read-object", "--type", "secrkey", "--label", "key-hmac"]).output().unwrap();
        assert!(!refused.status.success());
        assert!(!refused.stdout.windows(32).any(|window| window == KEY));
    }

    fn token_and_folder_and_openssl_derive_the_same(hsm) {
        let stores = [token(hsm), folder(hsm)];
        for algorithm in BOTH {
            let label = algorithm.as_str();
            let locked = LockedSecret::copied(&KEY);
            for store in &stores {
                store.import_secret(label, algorithm, &locked).unwrap();
                let secret = store.secret(label, algorithm).unwrap();
                for (label, context) in [("mintmark device secret", &b"context"[..]), ("x", b""), ("x", &[0; 3]), ("", b"y")] {
                    assert_eq!(secret.derive(label, context).unwrap().to_vec(), openssl_kdf(algorithm, &KEY, label, context));
                }
                refused_without_hint(secret.derive("a\0b", b""));
                assert!(!format!("{secret:?}").contains("0123"), "{secret:?}");
            }
        }
    }

    fn the_published_vectors_are_what_every_store_derives(hsm) {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fixtures/vectors/kdf.json");
        let file: serde_json::Value = serde_json::from_str(&fs::read_to_string(path).unwrap()).unwrap();
        let (token, folder) = (token(hsm), folder(hsm));
        let mut count = [0; 2];
        for (index, vector) in file["vectors"].as_array().unwrap().iter().enumerate() {
            let text = |name: &str| vector[name].as_str().unwrap();
            let bytes = |name: &str| hex::decode(text(name)).unwrap();
            let place = BOTH.iter().position(|algorithm| algorithm.as_str() == text("algorithm")).unwrap();
            count[place] += 1;
            let (algorithm, key) = (BOTH[place], bytes("key").try_into().unwrap());
            let (label, context, output) = (text("label"), bytes("context"), bytes("output"));
            assert_eq!(counter_kdf(algorithm, &key, label, &context).unwrap().to_vec(), output, "{index}");
            assert_eq!(openssl_kdf(algorithm, &key, label, &context), output, "{index}");
            for store in [&token, &folder] {
                let name = format!("key-{index}");
                store.import_secret(&name, algorithm, &key).unwrap();
                assert_eq!(store.secret(&name, algorithm).unwrap().derive(label, &context).unwrap().to_vec(), output, "{index}");
            }
        }
        assert_eq!(count, [4, 4]);
    }

    fn what_does_not_unwrap_is_refused_and_leaves_nothing_behind(hsm) {
        let store = token(hsm);
        let transport = store.generate_transport(TRANSPORT).unwrap().unwrap();
        let other = store.generate_transport("other-transport").unwrap().unwrap();
        let before = objects(hsm);
        let proper = wrap(&transport, &KEY);
        let mut damaged = proper.clone();
        damaged[100] ^= 1;
        let sha256 = oaep_wrap(&transport.n, &transport.e, OaepHash::Sha256, &KEY).unwrap();
        for algorithm in BOTH {
            for (what, oaep, wrapped) in [
                ("damaged", OaepHash::Sha1, damaged.clone()),
                ("cut", OaepHash::Sha1, proper[..383].to_vec()),
                ("long", OaepHash::Sha1, [&proper[..], &[0]].concat()),
                ("empty", OaepHash::Sha1, vec![]),
                ("zero", OaepHash::Sha1, vec![0; 384]),
                ("for another key", OaepHash::Sha1, wrap(&other, &KEY)),
                ("with another hash", OaepHash::Sha1, sha256.clone()),
                ("in a way that the token does not know", OaepHash::Sha256, sha256.clone()),
            ] {
                let error = refused(store.unwrap_secret("key-a", algorithm, TRANSPORT, oaep, &wrapped), "WRAPPED-KEY-INVALID", Class::Environment);
                assert!(error.to_string().contains("CKR_"), "{what}: {error}");
                assert_eq!(objects(hsm), before, "{what}");
            }
        }
        refused(store.unwrap_secret("key-a", SecretAlgorithm::Aes256, "no-transport", OaepHash::Sha1, &proper), "KEY-MISSING", Class::Environment);
        store.unwrap_secret("key-a", SecretAlgorithm::Aes256, TRANSPORT, OaepHash::Sha1, &proper).unwrap();
    }

    fn a_wrong_key_derives_something_else_and_is_destroyed(hsm) {
        let store = token(hsm);
        let transport = store.generate_transport(TRANSPORT).unwrap().unwrap();
        let before = objects(hsm);
        let (der, short) = (hsm.folder.join("transport.der"), hsm.folder.join("short"));
        hsm.pkcs11_tool("vault", &["--read-object", "--type", "pubkey", "--label", TRANSPORT, "--output-file", der.to_str().unwrap()]);
        fs::write(&short, &KEY[..16]).unwrap();
        let short = run(Command::new("openssl").args(["pkeyutl", "-encrypt", "-pubin", "-keyform", "DER", "-pkeyopt", "rsa_padding_mode:oaep", "-inkey"]).arg(&der).arg("-in").arg(&short)).stdout;
        for algorithm in BOTH {
            let expected = counter_kdf(algorithm, &KEY, "mintmark key check", b"").unwrap();
            // Another key, and the right one cut short, of which SoftHSM does not say the length. As an HMAC key it is
            // too short to be tried.
            for wrapped in [wrap(&transport, &[9; 32]), short.clone()] {
                let unwrapped = store.unwrap_secret("key-a", algorithm, TRANSPORT, transport.oaep, &wrapped);
                if algorithm == SecretAlgorithm::HmacSha256 && wrapped == short {
                    refused(unwrapped, "WRAPPED-KEY-INVALID", Class::Environment);
                    assert_eq!(objects(hsm), before);
                    continue;
                }
                unwrapped.unwrap();
                let secret = store.secret("key-a", algorithm).unwrap();
                assert_ne!(secret.derive("mintmark key check", b"").unwrap(), expected);
                store.destroy_secret("key-a", algorithm).unwrap();
                assert_eq!(objects(hsm), before);
                refused(store.secret("key-a", algorithm), "KEY-MISSING", Class::Environment);
                refused(secret.derive("mintmark key check", b""), "KEY-MISSING", Class::Environment);
            }
        }
    }

    fn a_taken_label_is_never_taken_again(hsm) {
        let (token, folder) = (token(hsm), folder(hsm));
        let transport = token.generate_transport(TRANSPORT).unwrap().unwrap();
        let wrapped = wrap(&transport, &KEY);
        let unwrap = |store: &Arc<dyn KeyStore>, label: &str| store.unwrap_secret(label, SecretAlgorithm::Aes256, TRANSPORT, OaepHash::Sha1, &wrapped);
        for store in [&token, &folder] {
            store.generate("vault-sign", Purpose::Sign).unwrap();
            store.import_secret("key-a", SecretAlgorithm::HmacSha256, &KEY).unwrap();
            for label in ["vault-sign", "key-a"] {
                for algorithm in BOTH {
                    refused(store.import_secret(label, algorithm, &[1; 32]), "KEY-EXISTS", Class::Environment);
                }
                refused(unwrap(store, label), "KEY-EXISTS", Class::Environment);
            }
            refused(store.generate("key-a", Purpose::Sign), "KEY-EXISTS", Class::Environment);
            let derived = store.secret("key-a", SecretAlgorithm::HmacSha256).unwrap().derive("x", b"").unwrap();
            assert_eq!(derived, counter_kdf(SecretAlgorithm::HmacSha256, &KEY, "x", b"").unwrap());
        }
        for label in ["vault-sign", "key-a", TRANSPORT] {
            refused(token.generate_transport(label), "KEY-EXISTS", Class::Environment);
        }
        refused(token.generate(TRANSPORT, Purpose::Sign), "KEY-EXISTS", Class::Environment);
        assert_eq!(token.transport(TRANSPORT).unwrap(), Some(transport));
    }

    fn a_key_of_another_algorithm_or_kind_is_refused_and_not_destroyed(hsm) {
        for store in [token(hsm), folder(hsm)] {
            store.generate("vault-sign", Purpose::Sign).unwrap();
            for (ours, theirs) in [(BOTH[0], BOTH[1]), (BOTH[1], BOTH[0])] {
                let label = ours.as_str();
                store.import_secret(label, ours, &KEY).unwrap();
                refused(store.find_secret(label, theirs), "KEY-ATTRIBUTES", Class::Integrity);
                refused(store.secret(label, theirs), "KEY-ATTRIBUTES", Class::Integrity);
                refused(store.destroy_secret(label, theirs), "KEY-ATTRIBUTES", Class::Integrity);
                assert!(store.find_secret(label, ours).unwrap());
                assert!(store.signer(label).is_err());
                assert!(store.secret("vault-sign", ours).is_err());
                assert!(store.destroy_secret("vault-sign", ours).is_err());
            }
            store.signer("vault-sign").unwrap().sign(b"").unwrap();
        }
    }

    fn a_missing_key_is_an_error_to_use_and_none_to_find(hsm) {
        for store in [token(hsm), folder(hsm)] {
            for algorithm in BOTH {
                assert!(!store.find_secret("key-a", algorithm).unwrap());
                refused(store.secret("key-a", algorithm), "KEY-MISSING", Class::Environment);
                refused(store.destroy_secret("key-a", algorithm), "KEY-MISSING", Class::Environment);
                refused(store.secret("../key", algorithm), "LABEL-INVALID", Class::Usage);
                refused(store.import_secret("../key", algorithm, &KEY), "LABEL-INVALID", Class::Usage);
                refused(store.unwrap_secret("key-a", algorithm, TRANSPORT, OaepHash::Sha1, &[0; 384]), "KEY-MISSING", Class::Environment);
            }
            assert_eq!(store.transport(TRANSPORT).unwrap(), None);
            refused(store.generate_transport("../key"), "LABEL-INVALID", Class::Usage);
        }
    }

    fn a_symmetric_key_with_one_wrong_attribute_is_refused_by_its_name_and_can_be_destroyed(hsm) {
        let store = token(hsm);
        let session = hsm.session("vault");
        session.create_object(&secret_template("proper", &[])).unwrap();
        assert!(store.find_secret("proper", SecretAlgorithm::HmacSha256).unwrap());
        session.create_object(&secret_template("typed", &[Attribute::KeyType(KeyType::SHA256_HMAC)])).unwrap();
        store.secret("typed", SecretAlgorithm::HmacSha256).unwrap().derive("x", b"").unwrap();
        for (name, wrong) in [
            ("CKA_PRIVATE", Attribute::Private(false)),
            ("CKA_SENSITIVE", Attribute::Sensitive(false)),
            ("CKA_EXTRACTABLE", Attribute::Extractable(true)),
            ("CKA_SIGN", Attribute::Sign(false)),
            ("CKA_VERIFY", Attribute::Verify(true)),
            ("CKA_ENCRYPT", Attribute::Encrypt(true)),
            ("CKA_DECRYPT", Attribute::Decrypt(true)),
            ("CKA_WRAP", Attribute::Wrap(true)),
            ("CKA_UNWRAP", Attribute::Unwrap(true)),
            ("CKA_DERIVE", Attribute::Derive(true)),
            ("CKA_VALUE_LEN", Attribute::Value(KEY[..16].into())),
        ] {
            session.create_object(&secret_template("planted", &[wrong])).unwrap();
            for error in [
                refused(store.find_secret("planted", SecretAlgorithm::HmacSha256), "KEY-ATTRIBUTES", Class::Integrity),
                refused(store.secret("planted", SecretAlgorithm::HmacSha256), "KEY-ATTRIBUTES", Class::Integrity),
            ] {
                assert!(error.to_string().contains(name), "{name}: {error}");
            }
            let described = store.labels().unwrap();
            let planted = described.iter().find(|key| key.label == "planted").unwrap();
            assert!(planted.problem.as_ref().unwrap().contains(name), "{planted:?}");
            store.destroy_secret("planted", SecretAlgorithm::HmacSha256).unwrap();
        }
        for _ in 0..2 {
            session.create_object(&secret_template("twice", &[])).unwrap();
        }
        refused(store.find_secret("twice", SecretAlgorithm::HmacSha256), "KEY-AMBIGUOUS", Class::Integrity);
        refused(store.destroy_secret("twice", SecretAlgorithm::HmacSha256), "KEY-AMBIGUOUS", Class::Integrity);
    }

    fn a_transport_key_with_one_wrong_attribute_is_refused_by_its_name(hsm) {
        let store = token(hsm);
        plant_transport(hsm, "proper", 3072, &[]);
        let proper = store.transport("proper").unwrap().unwrap();
        for (name, bits, wrong) in [
            ("CKA_MODULUS", 2048, vec![]),
            ("CKA_PRIVATE", 3072, vec![Attribute::Private(false)]),
            ("CKA_SENSITIVE", 3072, vec![Attribute::Sensitive(false)]),
            ("CKA_EXTRACTABLE", 3072, vec![Attribute::Extractable(true)]),
            ("CKA_UNWRAP", 3072, vec![Attribute::Unwrap(false)]),
            ("CKA_DECRYPT", 3072, vec![Attribute::Decrypt(true)]),
            ("CKA_SIGN", 3072, vec![Attribute::Sign(true)]),
        ] {
            let label = format!("wrong-{name}");
            plant_transport(hsm, &label, bits, &wrong);
            let error = refused(store.transport(&label), "KEY-ATTRIBUTES", Class::Integrity);
            assert!(error.to_string().contains(name), "{name}: {error}");
            if bits == 3072 {
                refused(store.unwrap_secret("key-a", SecretAlgorithm::Aes256, &label, proper.oaep, &wrap(&proper, &KEY)), "KEY-ATTRIBUTES", Class::Integrity);
            }
        }
        store.generate("vault-sign", Purpose::Sign).unwrap();
        let error = refused(store.transport("vault-sign"), "KEY-ATTRIBUTES", Class::Integrity);
        assert!(error.to_string().contains("CKA_KEY_TYPE"), "{error}");
    }

    fn every_kind_of_key_is_described(hsm) {
        let (token, folder) = (token(hsm), folder(hsm));
        token.generate_transport("d-transport").unwrap().unwrap();
        for store in [&token, &folder] {
            store.generate("a-sign", Purpose::Sign).unwrap();
            store.import_secret("b-hmac", SecretAlgorithm::HmacSha256, &KEY).unwrap();
            store.import_secret("c-aes", SecretAlgorithm::Aes256, &KEY).unwrap();
            let described = store.labels().unwrap();
            let kinds: Vec<_> = described.iter().map(|key| (key.label.as_str(), key.kind, key.purpose, key.problem.as_deref())).collect();
            assert_eq!(kinds[..3], [
                ("a-sign", KeyKind::Pair, Some(Purpose::Sign), None),
                ("b-hmac", KeyKind::Secret(Some(SecretAlgorithm::HmacSha256)), None, None),
                ("c-aes", KeyKind::Secret(Some(SecretAlgorithm::Aes256)), None, None),
            ]);
            if kinds.len() > 3 {
                assert_eq!(kinds[3..], [("d-transport", KeyKind::Transport, None, None)]);
            }
        }
        assert_eq!((token.labels().unwrap().len(), folder.labels().unwrap().len()), (4, 3));
    }

    fn a_key_goes_on_deriving_after_a_lost_login_and_a_replaced_one_does_not(hsm) {
        let store = token(hsm);
        store.import_secret("key-a", SecretAlgorithm::Aes256, &KEY).unwrap();
        let secret = store.secret("key-a", SecretAlgorithm::Aes256).unwrap();
        let before = secret.derive("x", b"").unwrap();
        hsm.session("vault").logout().unwrap();
        assert_eq!(secret.derive("x", b"").unwrap(), before);
        hsm.session("vault").logout().unwrap();
        assert!(store.find_secret("key-a", SecretAlgorithm::Aes256).unwrap());
        let session = hsm.session("vault");
        let planted = session.find_objects(&[Attribute::Label("key-a".into())]).unwrap();
        session.destroy_object(planted[0]).unwrap();
        session.create_object(&secret_template("key-a", &[Attribute::KeyType(KeyType::AES), Attribute::Value(vec![9; 32])])).unwrap();
        refused(secret.derive("x", b""), "KEY-CHANGED", Class::Integrity);
    }

    fn threads_derive_at_once(hsm) {
        for store in [token(hsm), folder(hsm)] {
            for algorithm in BOTH {
                store.import_secret(algorithm.as_str(), algorithm, &KEY).unwrap();
                let secret = store.secret(algorithm.as_str(), algorithm).unwrap();
                std::thread::scope(|scope| {
                    for thread in 0..8_u8 {
                        let secret = &secret;
                        scope.spawn(move || for round in 0..20 {
                            let context = [thread, round];
                            assert_eq!(secret.derive("x", &context).unwrap(), counter_kdf(algorithm, &KEY, "x", &context).unwrap());
                        });
                    }
                });
            }
        }
    }

    fn a_uri_with_object_gives_that_symmetric_key_alone(hsm) {
        let store = token(hsm);
        store.import_secret("key-a", SecretAlgorithm::Aes256, &KEY).unwrap();
        store.import_secret("key-b", SecretAlgorithm::Aes256, &KEY).unwrap();
        let one = open(&hsm.uri("token=vault;object=key-a"), &never).unwrap();
        one.secret("key-a", SecretAlgorithm::Aes256).unwrap().derive("x", b"").unwrap();
        refused(one.secret("key-b", SecretAlgorithm::Aes256), "KEY-MISSING", Class::Environment);
        refused(one.find_secret("key-b", SecretAlgorithm::Aes256), "KEY-MISSING", Class::Environment);
        refused(one.destroy_secret("key-b", SecretAlgorithm::Aes256), "KEY-MISSING", Class::Environment);
        refused(one.import_secret("key-c", SecretAlgorithm::Aes256, &KEY), "KEY-MISSING", Class::Environment);
        refused(one.transport(TRANSPORT), "KEY-MISSING", Class::Environment);
        refused(one.generate_transport(TRANSPORT), "KEY-MISSING", Class::Environment);
        refused(one.unwrap_secret("key-a", SecretAlgorithm::Aes256, TRANSPORT, OaepHash::Sha1, &[]), "KEY-MISSING", Class::Environment);
        assert_eq!(one.labels().unwrap().len(), 1);
    }

    fn a_self_test_tells_what_softhsm_can(hsm) {
        let probes = token(hsm).self_test().unwrap();
        let found = |name: &str| probes.iter().find(|probe| probe.name == name).unwrap().outcome.clone().unwrap();
        assert_eq!(found("unwrap"), "unwrapped a key with RSA-OAEP and SHA-1, and it is the right one; AES key wrap works too");
        for name in ["hmac", "cmac"] {
            assert_eq!(found(name), "derived what this program derives from the same key");
        }
    }

    fn openssl_decrypts_the_file_of_a_symmetric_key(hsm) {
        let store = folder(hsm);
        assert_eq!(store.generate_transport(TRANSPORT).unwrap(), None);
        for (algorithm, identifier) in [(SecretAlgorithm::HmacSha256, "hmacWithSHA256"), (SecretAlgorithm::Aes256, "2.16.840.1.101.3.4.1")] {
            store.import_secret(algorithm.as_str(), algorithm, &KEY).unwrap();
            let path = hsm.folder.join("keys").join(format!("{algorithm}.pem"));
            let text = fs::read_to_string(&path).unwrap();
            assert!(text.contains("\nPurpose: derive\n-----BEGIN ENCRYPTED PRIVATE KEY-----\n"), "{text}");
            let parsed = String::from_utf8(run(Command::new("openssl").args(["asn1parse", "-in"]).arg(&path)).stdout).unwrap();
            let octets: Vec<_> = parsed.lines().filter_map(|line| line.split_once("[HEX DUMP]:")).map(|(_, hex)| hex.to_owned()).collect();
            let [salt, iv, encrypted] = octets.try_into().unwrap();
            let key = run(Command::new("openssl").args(["kdf", "-keylen", "32", "-binary", "-kdfopt", "digest:SHA256", "-kdfopt", "iter:600000"])
                .args(["-kdfopt", &format!("pass:{PIN}"), "-kdfopt", &format!("hexsalt:{salt}"), "PBKDF2"])).stdout;
            let (sealed, plain) = (hsm.folder.join("sealed"), hsm.folder.join("plain"));
            fs::write(&sealed, hex::decode(encrypted).unwrap()).unwrap();
            run(Command::new("openssl").args(["enc", "-d", "-aes-256-cbc", "-K", &hex::encode(key), "-iv", &iv, "-in"]).arg(&sealed).arg("-out").arg(&plain));
            let parsed = String::from_utf8(run(Command::new("openssl").args(["asn1parse", "-inform", "DER", "-in"]).arg(&plain)).stdout).unwrap();
            assert!(parsed.contains(identifier), "{parsed}");
            assert!(fs::read(&plain).unwrap().ends_with(&KEY), "{parsed}");
            assert!(parsed.lines().last().unwrap().contains("l=  32 prim: OCTET STRING"), "{parsed}");
        }
    }

    fn a_symmetric_key_file_opens_again_and_passes_for_no_other(hsm) {
        let store = folder(hsm);
        store.import_secret("key-a", SecretAlgorithm::Aes256, &KEY).unwrap();
        let path = |label: &str| hsm.folder.join("keys").join(format!("{label}.pem"));
        let uri = |pin: &Path| format!("file:{}?pin-source=file:{}", hsm.folder.join("keys").display(), pin.display()).parse().unwrap();
        let again = open(&uri(&hsm.pin_file()), &never).unwrap();
        let derived = again.secret("key-a", SecretAlgorithm::Aes256).unwrap().derive("x", b"").unwrap();
        assert_eq!(derived, counter_kdf(SecretAlgorithm::Aes256, &KEY, "x", b"").unwrap());
        refused(open(&uri(&hsm.pin_file_of("other")), &never), "PIN-INCORRECT", Class::Environment);
        // Under another name, and for another purpose.
        let text = fs::read_to_string(path("key-a")).unwrap();
        fs::write(path("key-b"), &text).unwrap();
        refused(again.secret("key-b", SecretAlgorithm::Aes256), "KEY-ATTRIBUTES", Class::Integrity);
        for purpose in ["sign", "agree"] {
            fs::write(path(purpose), text.replace("key-a", purpose).replace("derive", purpose)).unwrap();
        }
        refused(again.signer("sign"), "KEY-FILE-INVALID", Class::Integrity);
        refused(again.agreement("agree"), "KEY-FILE-INVALID", Class::Integrity);
        again.generate("pair", Purpose::Sign).unwrap();
        let pair = fs::read_to_string(path("pair")).unwrap();
        fs::write(path("posing"), pair.replace("pair", "posing").replace("Purpose: sign", "Purpose: derive")).unwrap();
        refused(again.secret("posing", SecretAlgorithm::Aes256), "KEY-FILE-INVALID", Class::Integrity);
        // Destroyed is gone.
        again.destroy_secret("key-a", SecretAlgorithm::Aes256).unwrap();
        assert!(!path("key-a").exists());
        refused(again.secret("key-a", SecretAlgorithm::Aes256), "KEY-MISSING", Class::Environment);
        again.import_secret("key-a", SecretAlgorithm::HmacSha256, &KEY).unwrap();
    }
}

/// A label of the program's own that is wrong is the program's defect: nobody else can do anything about it.
#[track_caller]
fn refused_without_hint<T: std::fmt::Debug>(result: Result<T, Error>) {
    let error = result.unwrap_err();
    assert_eq!(
        (error.code(), error.class()),
        ("KEYS-INTERNAL", Class::Internal),
        "{error}"
    );
}
