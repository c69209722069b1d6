//! What an EST server asks a request to have.

use mintmark_pki::KeyAlgorithm;
use mintmark_pki::est::{CSR_ATTRIBUTES_DER_BYTES_MAX, CsrAttributes};

use super::fixture::{Folder, tlv};
use super::{octets, refusal};

fn asks(keys: &[KeyAlgorithm]) -> CsrAttributes {
    CsrAttributes {
        subject_serial_number: true,
        challenge_password: false,
        keys: Some(keys.to_vec()),
    }
}

#[test]
fn openssl_sees_what_is_asked() {
    let folder = Folder::new();
    for (asked, lines) in [
        (
            asks(&[KeyAlgorithm::P256]),
            &[
                "d=1  hl=2 l=   3 prim: OBJECT            :serialNumber",
                "d=2  hl=2 l=   7 prim: OBJECT            :id-ecPublicKey",
                "d=2  hl=2 l=  10 cons: SET",
                "d=3  hl=2 l=   8 prim: OBJECT            :prime256v1",
            ][..],
        ),
        (
            asks(&[KeyAlgorithm::Rsa3072]),
            &[
                "d=2  hl=2 l=   9 prim: OBJECT            :rsaEncryption",
                "d=3  hl=2 l=   2 prim: INTEGER           :0C00",
            ],
        ),
        (
            asks(&[KeyAlgorithm::Ed25519]),
            &[
                "d=2  hl=2 l=   3 prim: OBJECT            :ED25519",
                "d=2  hl=2 l=   0 cons: SET",
            ],
        ),
        (
            CsrAttributes {
                challenge_password: true,
                ..CsrAttributes::default()
            },
            &["d=1  hl=2 l=   9 prim: OBJECT            :challengePassword"],
        ),
    ] {
        folder.write("attributes.der", asked.to_der());
        let parsed = folder.openssl("asn1parse -inform DER -in attributes.der");
        for line in lines {
            assert!(parsed.contains(line), "{line} in {parsed}");
        }
    }
}

#[test]
fn what_is_asked_reads_back_as_it_was_written() {
    let (p256, p384) = (KeyAlgorithm::P256, KeyAlgorithm::P384);
    for (keys, read) in [
        (vec![p256], vec![p256]),
        (vec![p384], vec![p384]),
        // In the order of DER, which is no order of preference.
        (vec![p256, p384], vec![p384, p256]),
        (vec![p256, p256], vec![p256]),
        (vec![KeyAlgorithm::Ed25519], vec![KeyAlgorithm::Ed25519]),
        (vec![KeyAlgorithm::Rsa], vec![KeyAlgorithm::Rsa]),
        (
            vec![KeyAlgorithm::Rsa4096, KeyAlgorithm::Rsa2048],
            vec![KeyAlgorithm::Rsa2048, KeyAlgorithm::Rsa4096],
        ),
        (
            vec![KeyAlgorithm::Rsa2048, KeyAlgorithm::Rsa],
            vec![KeyAlgorithm::Rsa],
        ),
        (
            vec![KeyAlgorithm::RsaOfBits(2560)],
            vec![KeyAlgorithm::RsaOfBits(2560)],
        ),
        (
            vec![KeyAlgorithm::RsaOfBits(8192)],
            vec![KeyAlgorithm::RsaOfBits(8192)],
        ),
        // One type of key can be said: that of the first.
        (vec![p256, KeyAlgorithm::Rsa, p384], vec![p384, p256]),
        (
            vec![KeyAlgorithm::Ed25519, p256],
            vec![KeyAlgorithm::Ed25519],
        ),
        (
            vec![KeyAlgorithm::Rsa3072, p256],
            vec![KeyAlgorithm::Rsa3072],
        ),
    ] {
        for (subject_serial_number, challenge_password) in
            [(false, false), (false, true), (true, false), (true, true)]
        {
            let asked = CsrAttributes {
                subject_serial_number,
                challenge_password,
                keys: Some(keys.clone()),
            };
            let expected = CsrAttributes {
                keys: Some(read.clone()),
                ..asked
            };
            assert_eq!(
                CsrAttributes::from_der(&asked.to_der()),
                Ok(expected),
                "{keys:?}"
            );
        }
    }
    let nothing = CsrAttributes::default();
    assert_eq!(nothing.to_der(), [0x30, 0x00]);
    assert_eq!(CsrAttributes::from_der(&[0x30, 0x00]), Ok(nothing));
}

fn id(content: &[u8]) -> Vec<u8> {
    tlv(0x06, &[content])
}

const CHALLENGE_PASSWORD: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 9, 7];
const EC_PUBLIC_KEY: &[u8] = &[0x2a, 0x86, 0x48, 0xce, 0x3d, 2, 1];
const RSA_ENCRYPTION: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 1, 1];
const ECDSA_WITH_SHA384: &[u8] = &[0x2a, 0x86, 0x48, 0xce, 0x3d, 4, 3, 3];
const P384: &[u8] = &[0x2b, 0x81, 0x04, 0x00, 0x22];
const P521: &[u8] = &[0x2b, 0x81, 0x04, 0x00, 0x23];
const SERIAL_NUMBER: &[u8] = &[0x55, 4, 5];
const MAC_ADDRESS: &[u8] = &[0x2b, 6, 1, 1, 1, 1, 0x16];
const EXTENSION_REQUEST: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 9, 14];
const TEMPLATE: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 9, 16, 2, 61];

fn attribute(kind: &[u8], values: &[&[u8]]) -> Vec<u8> {
    tlv(0x30, &[&id(kind), &tlv(0x31, values)])
}

fn list(items: &[Vec<u8>]) -> Vec<u8> {
    let items: Vec<&[u8]> = items.iter().map(Vec::as_slice).collect();
    tlv(0x30, &items)
}

#[test]
fn what_other_servers_ask_is_read() {
    let asks = |serial_number, challenge_password, keys: Option<&[KeyAlgorithm]>| CsrAttributes {
        subject_serial_number: serial_number,
        challenge_password,
        keys: keys.map(<[KeyAlgorithm]>::to_vec),
    };
    let only = |keys: &[KeyAlgorithm]| asks(false, false, Some(keys));
    for (der, expected) in [
        // As in RFC 7030 section 4.5.2.
        (
            list(&[
                id(CHALLENGE_PASSWORD),
                attribute(EC_PUBLIC_KEY, &[&id(P384)]),
                attribute(EXTENSION_REQUEST, &[&id(MAC_ADDRESS)]),
                id(ECDSA_WITH_SHA384),
            ]),
            asks(false, true, Some(&[KeyAlgorithm::P384])),
        ),
        // As in RFC 9908: a key of a curve, and a serial number.
        (
            list(&[
                id(CHALLENGE_PASSWORD),
                attribute(EC_PUBLIC_KEY, &[&id(P384)]),
                id(SERIAL_NUMBER),
                id(ECDSA_WITH_SHA384),
            ]),
            asks(true, true, Some(&[KeyAlgorithm::P384])),
        ),
        (
            list(&[attribute(RSA_ENCRYPTION, &[&[2, 2, 0x10, 0]])]),
            only(&[KeyAlgorithm::Rsa4096]),
        ),
        (
            list(&[id(EC_PUBLIC_KEY)]),
            only(&[KeyAlgorithm::P256, KeyAlgorithm::P384]),
        ),
        // What is asked is not known here, or is not accepted.
        (list(&[attribute(EC_PUBLIC_KEY, &[&id(P521)])]), only(&[])),
        (
            list(&[attribute(RSA_ENCRYPTION, &[&[2, 2, 4, 0]])]),
            only(&[]),
        ),
        (
            list(&[attribute(RSA_ENCRYPTION, &[&[2, 3, 0x01, 0, 0]])]),
            only(&[]),
        ),
        (
            list(&[attribute(TEMPLATE, &[&[0x30, 0]]), id(MAC_ADDRESS)]),
            asks(false, false, None),
        ),
    ] {
        assert_eq!(CsrAttributes::from_der(&der), Ok(expected), "{der:02x?}");
    }
}

#[test]
fn what_is_no_list_of_attributes_is_refused_and_never_panics() {
    let read = |der: &[u8]| refusal(CsrAttributes::from_der(der));
    assert_eq!(read(&[]), "EST-ANSWER-EMPTY");
    assert_eq!(
        read(&vec![0x30; CSR_ATTRIBUTES_DER_BYTES_MAX + 1]),
        "EST-ANSWER-TOO-LARGE"
    );
    for malformed in [
        &[0x31, 0x00][..],
        &[0x30, 0x00, 0x00],
        &list(&[vec![2, 1, 0]]),
        &list(&[tlv(0x30, &[])]),
        &list(&[tlv(0x30, &[&id(EC_PUBLIC_KEY)])]),
        &list(&[tlv(0x30, &[&id(EC_PUBLIC_KEY), &id(P384)])]),
        &list(&[tlv(0x30, &[&id(EC_PUBLIC_KEY), &[0x31, 0], &[5, 0]])]),
    ] {
        assert_eq!(read(malformed), "EST-ANSWER-MALFORMED", "{malformed:02x?}");
    }
    let der = CsrAttributes {
        challenge_password: true,
        ..asks(&[KeyAlgorithm::P256, KeyAlgorithm::P384])
    }
    .to_der();
    for length in 1..der.len() {
        assert_eq!(read(&der[..length]), "EST-ANSWER-MALFORMED");
    }
    for position in 0..der.len() {
        for bit in 0..8 {
            let mut flipped = der.clone();
            flipped[position] ^= 1 << bit;
            let _ = CsrAttributes::from_der(&flipped);
        }
    }
    let mut octet = octets();
    for length in 0..2_000 {
        let mut garbage: Vec<u8> = (0..length).map(|_| octet()).collect();
        let _ = CsrAttributes::from_der(&garbage);
        garbage = tlv(0x30, &[&garbage]);
        let _ = CsrAttributes::from_der(&garbage);
    }
}
