//! Revocation lists as OpenSSL and our own reader see them.

#![allow(clippy::unwrap_used, clippy::panic)]

mod fixture;

use fixture::{Authorities, Folder, NEW_YEAR, SERIAL, authorities, device, key, sign, th200};
use mintmark_pki::{Crl, CrlReason, Issuer, RevokedSerial, assemble_crl, crl_tbs, to_pem};
use p256::ecdsa::SigningKey;

const DAY: u64 = 86_400;

fn revoked(serial: &[u8], reason: Option<CrlReason>) -> RevokedSerial {
    RevokedSerial {
        serial: serial.to_vec(),
        revoked_at_unix: NEW_YEAR + DAY,
        reason,
    }
}

fn crl(issuer: &Issuer, key: &SigningKey, number: u64, entries: &[RevokedSerial]) -> Vec<u8> {
    let tbs = crl_tbs(
        issuer,
        number,
        NEW_YEAR + 2 * DAY,
        NEW_YEAR + 60 * DAY,
        entries,
    )
    .unwrap();
    assemble_crl(&tbs, &sign(key, &tbs)).unwrap()
}

fn files(folder: &Folder, authorities: &Authorities, entries: &[RevokedSerial]) {
    let Authorities {
        root,
        root_key,
        ca,
        ca_key,
    } = authorities;
    let crls = to_pem("X509 CRL", &crl(ca, ca_key, 7, entries))
        + &to_pem("X509 CRL", &crl(root, root_key, 1, &[]));
    folder.write("crls.pem", crls);
    folder.write("root.pem", to_pem("CERTIFICATE", root.certificate_der()));
    folder.write("ca.pem", to_pem("CERTIFICATE", ca.certificate_der()));
    folder.write(
        "device.pem",
        to_pem("CERTIFICATE", &device(authorities, &th200())),
    );
    folder.write("ca-crl.der", crl(ca, ca_key, 7, entries));
}

const VERIFY: &str = "verify -x509_strict -crl_check_all -attime 1801500000 -CAfile root.pem \
                      -untrusted ca.pem -CRLfile crls.pem device.pem";

#[test]
fn openssl_accepts_the_crl_of_a_sub_ca() {
    let folder = Folder::new();
    files(&folder, &authorities(), &[revoked(&[5], None)]);
    folder.openssl(VERIFY);
    folder.openssl("crl -inform DER -in ca-crl.der -CAfile ca.pem -noout");
    let text = folder.openssl("crl -inform DER -in ca-crl.der -noout -text");
    for line in [
        "Version 2 (0x1)",
        "Signature Algorithm: ecdsa-with-SHA256",
        "Issuer: O = Acme, OU = shenzhen, CN = shenzhen v1 Device CA",
        "Last Update: Jan  3 00:00:00 2027 GMT",
        "Next Update: Mar  2 00:00:00 2027 GMT",
        "X509v3 CRL Number: \n                7\n",
        "Serial Number: 05",
    ] {
        assert!(text.contains(line), "{line} in {text}");
    }
}

#[test]
fn openssl_sees_a_revoked_device_and_its_reason() {
    let folder = Folder::new();
    let entries = [revoked(&SERIAL, Some(CrlReason::KeyCompromise))];
    files(&folder, &authorities(), &entries);
    let said = folder.openssl_refuses(VERIFY);
    assert!(said.contains("certificate revoked"), "{said}");
    let text = folder.openssl("crl -inform DER -in ca-crl.der -noout -text");
    assert!(
        text.contains("4DF0E1D2C3B4A5968778695A4B3C2D1E0F"),
        "{text}"
    );
    assert!(text.contains("Key Compromise"), "{text}");
}

#[test]
fn openssl_sees_a_revoked_device_ca() {
    let folder = Folder::new();
    let authorities = authorities();
    let entry = revoked(
        authorities.ca.certificate().serial(),
        Some(CrlReason::CaCompromise),
    );
    files(&folder, &authorities, &[]);
    let crls = to_pem(
        "X509 CRL",
        &crl(&authorities.ca, &authorities.ca_key, 7, &[]),
    ) + &to_pem(
        "X509 CRL",
        &crl(&authorities.root, &authorities.root_key, 2, &[entry]),
    );
    folder.write("crls.pem", crls);
    let said = folder.openssl_refuses(VERIFY);
    assert!(said.contains("error 23 at 1 depth"), "{said}");
}

#[test]
fn the_order_of_revocations_does_not_matter() {
    let Authorities { ca, ca_key, .. } = authorities();
    let a = revoked(&[0x01], None);
    let b = revoked(&[0xff], Some(CrlReason::Superseded));
    let c = revoked(&[0x01, 0x00], Some(CrlReason::CessationOfOperation));
    let one = crl(&ca, &ca_key, 1, &[a.clone(), b.clone(), c.clone()]);
    let other = crl(&ca, &ca_key, 1, &[c.clone(), a.clone(), b.clone()]);
    assert_eq!(one, other);
    let read = Crl::from_der(&one, &ca).unwrap();
    assert_eq!(read.revoked(), [a.clone(), b.clone(), c.clone()]);
    assert_eq!(read.entry(&[0xff]), Some(&b));
    assert_eq!(read.entry(&[0x01, 0x00]), Some(&c));
    assert_eq!(read.entry(&[0x02]), None);
}

#[test]
fn a_crl_reads_back_as_it_was_made() {
    let Authorities { ca, ca_key, .. } = authorities();
    for number in [0, 1, 127, 128, 255, 256, u64::MAX] {
        let der = crl(&ca, &ca_key, number, &[]);
        let read = Crl::from_pem_or_der(to_pem("X509 CRL", &der).as_bytes(), &ca).unwrap();
        assert_eq!(read.number(), number);
        assert_eq!(read.der(), der);
        assert_eq!(read.this_update_unix(), NEW_YEAR + 2 * DAY);
        assert_eq!(read.next_update_unix(), NEW_YEAR + 60 * DAY);
        assert!(read.revoked().is_empty());
        let tbs = crl_tbs(&ca, number, NEW_YEAR + 2 * DAY, NEW_YEAR + 60 * DAY, &[]).unwrap();
        assert_eq!(read.tbs_der(), tbs);
    }
    for reason in 0..=255 {
        if let Some(reason) = CrlReason::from_number(reason) {
            let entry = revoked(&[1], Some(reason));
            let der = crl(&ca, &ca_key, 1, std::slice::from_ref(&entry));
            assert_eq!(Crl::from_der(&der, &ca).unwrap().revoked(), [entry]);
            assert_eq!(reason.to_string().parse(), Ok(reason));
        }
    }
    assert_eq!(CrlReason::from_number(0), None);
    assert_eq!(CrlReason::from_number(8), None);
}

#[test]
fn many_revocations_fit() {
    let Authorities { ca, ca_key, .. } = authorities();
    let entries: Vec<RevokedSerial> = (1..=50_000_u32)
        .map(|serial| {
            let mut octets = vec![0x4d];
            octets.extend(serial.to_be_bytes());
            revoked(&octets, Some(CrlReason::CessationOfOperation))
        })
        .collect();
    let der = crl(&ca, &ca_key, 9, &entries);
    assert_eq!(Crl::from_der(&der, &ca).unwrap().revoked(), entries);
    let folder = Folder::new();
    folder.write("crl.der", &der);
    let text = folder.openssl("crl -inform DER -in crl.der -noout -text");
    assert_eq!(text.matches("Serial Number:").count(), 50_000);
}

#[test]
fn what_a_crl_cannot_say_is_refused() {
    let Authorities { ca, .. } = authorities();
    let refusal = |this, next, entries: &[RevokedSerial]| {
        crl_tbs(&ca, 1, this, next, entries).unwrap_err().code()
    };
    let twice = [
        revoked(&[5], None),
        revoked(&[6], None),
        revoked(&[5], None),
    ];
    assert_eq!(refusal(1, 2, &twice), "CRL-REVOKED-TWICE");
    assert_eq!(refusal(2, 2, &[]), "CERTIFICATE-TIME-INVALID");
    assert_eq!(refusal(2, u64::MAX, &[]), "CERTIFICATE-TIME-INVALID");
    for serial in [&[][..], &[0, 1], &[1; 21]] {
        assert_eq!(refusal(1, 2, &[revoked(serial, None)]), "SERIAL-INVALID");
    }
    let mut late = revoked(&[1], None);
    late.revoked_at_unix = u64::MAX;
    assert_eq!(refusal(1, 2, &[late]), "CERTIFICATE-TIME-INVALID");
}

#[test]
fn a_crl_by_anyone_else_is_refused() {
    let Authorities {
        root,
        root_key,
        ca,
        ca_key,
    } = authorities();
    let der = crl(&ca, &ca_key, 1, &[]);
    assert!(Crl::from_der(&der, &ca).is_ok());
    let refusal = |der: &[u8], issuer: &Issuer| match Crl::from_der(der, issuer) {
        Ok(_) => "accepted",
        Err(error) => error.code(),
    };
    assert_eq!(refusal(&der, &root), "CRL-MALFORMED");
    assert_eq!(
        refusal(&crl(&ca, &key(9), 1, &[]), &ca),
        "CRL-SIGNATURE-INVALID"
    );
    assert_eq!(
        refusal(&crl(&ca, &root_key, 1, &[]), &ca),
        "CRL-SIGNATURE-INVALID"
    );
    assert_eq!(refusal(&[], &ca), "CRL-EMPTY");
    let certificate = to_pem("CERTIFICATE", ca.certificate_der());
    let error = Crl::from_pem_or_der(certificate.as_bytes(), &ca).unwrap_err();
    assert_eq!(error.code(), "CRL-NOT-A-CRL");
}

#[test]
fn a_damaged_crl_never_verifies_and_never_panics() {
    let Authorities { ca, ca_key, .. } = authorities();
    let der = crl(
        &ca,
        &ca_key,
        1,
        &[revoked(&SERIAL, Some(CrlReason::KeyCompromise))],
    );
    for length in 0..der.len() {
        assert!(Crl::from_der(&der[..length], &ca).is_err());
    }
    for position in 0..der.len() {
        for bit in 0..8 {
            let mut flipped = der.clone();
            flipped[position] ^= 1 << bit;
            assert!(
                Crl::from_der(&flipped, &ca).is_err(),
                "bit {bit} of byte {position}"
            );
        }
    }
}
