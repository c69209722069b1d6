//! What wraps a key in software for a token that will unwrap it.

use std::fs;
use std::process::Command;

use mintmark_keys::{Class, OaepHash, oaep_wrap};

use super::KEY;
use super::softhsm::run;

#[test]
fn what_is_no_rsa_key_wraps_nothing() {
    let n = [&[0xff_u8; 383][..], &[1]].concat();
    for (what, n, e) in [
        ("empty", &[][..], &[1_u8, 0, 1][..]),
        ("no exponent", &n, &[]),
        ("exponent 1", &n, &[1]),
        ("even exponent", &n, &[2]),
        ("1024 bits", &n[256..], &[1, 0, 1]),
        ("even modulus", &[0xfe; 384], &[1, 0, 1]),
        ("leading zero", &[&[0], &n[..]].concat(), &[1, 0, 1]),
        ("huge", &[0xff; 4096], &[1, 0, 1]),
    ] {
        for oaep in [OaepHash::Sha1, OaepHash::Sha256] {
            let error = oaep_wrap(n, e, oaep, &KEY).expect_err(what);
            assert_eq!(
                (error.code(), error.class()),
                ("TRANSPORT-KEY-INVALID", Class::Integrity)
            );
        }
    }
}

#[test]
fn openssl_unwraps_what_is_wrapped_in_software() {
    let folder = tempfile::tempdir().unwrap();
    let (pem, sealed) = (folder.path().join("rsa.pem"), folder.path().join("sealed"));
    run(Command::new("openssl")
        .args(["genrsa", "-out"])
        .arg(&pem)
        .arg("3072"));
    let modulus = run(Command::new("openssl")
        .args(["rsa", "-noout", "-modulus", "-in"])
        .arg(&pem))
    .stdout;
    let modulus = String::from_utf8(modulus).unwrap();
    let n = hex::decode(modulus.trim().strip_prefix("Modulus=").unwrap()).unwrap();
    for (oaep, digest) in [(OaepHash::Sha1, "sha1"), (OaepHash::Sha256, "sha256")] {
        let wrapped = oaep_wrap(&n, &[1, 0, 1], oaep, &KEY).unwrap();
        assert_ne!(wrapped, oaep_wrap(&n, &[1, 0, 1], oaep, &KEY).unwrap());
        assert_eq!(wrapped.len(), 384);
        fs::write(&sealed, wrapped).unwrap();
        let opened = run(Command::new("openssl")
            .args([
                "pkeyutl",
                "-decrypt",
                "-pkeyopt",
                "rsa_padding_mode:oaep",
                "-pkeyopt",
                &format!("rsa_oaep_md:{digest}"),
                "-pkeyopt",
                &format!("rsa_mgf1_md:{digest}"),
                "-inkey",
            ])
            .arg(&pem)
            .arg("-in")
            .arg(&sealed))
        .stdout;
        assert_eq!(opened, KEY);
    }
}
