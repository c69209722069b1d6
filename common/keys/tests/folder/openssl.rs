//! OpenSSL opens, verifies, agrees and makes keys like ours.

use std::fs;

use mintmark_keys::{Class, Purpose, verify};
use p256::pkcs8::{EncodePublicKey, LineEnding};

use super::{Place, openssl, refused, text};

#[test]
fn openssl_opens_a_key_file_and_finds_the_same_key() {
    let place = Place::new();
    let store = place.create();
    for (label, purpose) in [("root", Purpose::Sign), ("officer-agree", Purpose::Agree)] {
        let public = store.generate(label, purpose).unwrap();
        let pin = format!("file:{}", place.pin_file().display());
        let shown = openssl(
            &["pkey", "-pubout", "-passin", &pin],
            &[("-in", &place.file(label))],
        );
        assert_eq!(
            text(&shown),
            public.to_public_key_pem(LineEnding::LF).unwrap()
        );
        // It was not opened just because it was not encrypted.
        let wrong = openssl(
            &["pkey", "-noout", "-passin", "pass:wrong"],
            &[("-in", &place.file(label))],
        );
        assert!(!wrong.status.success());
        let structure = text(&openssl(&["asn1parse"], &[("-in", &place.file(label))]));
        for expected in [
            "PBES2",
            "PBKDF2",
            "hmacWithSHA256",
            "aes-256-cbc",
            ":0927C0",
        ] {
            assert!(
                structure.contains(expected),
                "{expected} is not in\n{structure}"
            );
        }
    }
}

#[test]
fn a_signature_verifies_with_openssl() {
    let place = Place::new();
    let store = place.create();
    store.generate("root", Purpose::Sign).unwrap();
    let signer = place.open().signer("root").unwrap();
    let signature = signer.sign(b"message").unwrap();
    assert_eq!(signature.normalize_s(), signature);
    assert!(verify(signer.public_key(), b"message", &signature));
    assert!(!verify(signer.public_key(), b"massage", &signature));
    let at = |name: &str| place.0.path().join(name);
    fs::write(
        at("public"),
        signer
            .public_key()
            .to_public_key_pem(LineEnding::LF)
            .unwrap(),
    )
    .unwrap();
    fs::write(at("signature"), signature.to_der().as_bytes()).unwrap();
    fs::write(at("message"), "message").unwrap();
    let paths = [
        ("-verify", at("public")),
        ("-signature", at("signature")),
        ("-sha256", at("message")),
    ];
    let paths = paths
        .each_ref()
        .map(|(option, path)| (*option, path.as_path()));
    text(&openssl(&["dgst"], &paths));
}

#[test]
fn two_keys_agree_on_the_secret_that_openssl_derives() {
    let place = Place::new();
    let store = place.create();
    store.generate("a", Purpose::Agree).unwrap();
    store.generate("b", Purpose::Agree).unwrap();
    let (a, b) = (store.agreement("a").unwrap(), store.agreement("b").unwrap());
    let secret = a.agree(b.public_key()).unwrap();
    assert_eq!(secret, b.agree(a.public_key()).unwrap());
    let peer = place.0.path().join("peer");
    fs::write(
        &peer,
        b.public_key().to_public_key_pem(LineEnding::LF).unwrap(),
    )
    .unwrap();
    let pin = format!("file:{}", place.pin_file().display());
    let derived = openssl(
        &["pkeyutl", "-derive", "-passin", &pin],
        &[("-inkey", &place.file("a")), ("-peerkey", &peer)],
    );
    assert_eq!(derived.stdout, secret.as_slice());
}

#[test]
fn a_key_that_openssl_encrypted_is_read_once_its_purpose_is_written_down() {
    let place = Place::new();
    let store = place.create();
    let plain = place.0.path().join("plain");
    text(&openssl(
        &["ecparam", "-name", "prime256v1", "-genkey", "-noout"],
        &[("-out", &plain)],
    ));
    let pin = format!("file:{}", place.pin_file().display());
    let encrypted = text(&openssl(
        &["pkcs8", "-topk8", "-v2", "aes-128-cbc", "-passout", &pin],
        &[("-in", &plain)],
    ));
    fs::write(place.file("root"), &encrypted).unwrap();
    let error = refused(store.signer("root"), "KEY-ATTRIBUTES", Class::Integrity);
    assert!(error.to_string().contains("Purpose"), "{error}");
    fs::write(place.file("root"), format!("Purpose: sign\n{encrypted}")).unwrap();
    let public = store
        .find("root", Purpose::Sign)
        .unwrap()
        .unwrap()
        .to_public_key_pem(LineEnding::LF)
        .unwrap();
    assert_eq!(
        public,
        text(&openssl(&["pkey", "-pubout"], &[("-in", &plain)]))
    );
}
