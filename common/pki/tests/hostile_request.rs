//! Requests that no honest tool writes.

#![allow(clippy::unwrap_used, clippy::panic)]

mod fixture;

use fixture::{Folder, csr, key, public, sign, tlv};
use mintmark_pki::{CSR_DER_BYTES_MAX, CSR_FILE_BYTES_MAX, CertificationRequest, Error};

fn refusal(der: &[u8]) -> &'static str {
    match CertificationRequest::from_der(der) {
        Ok(_) => "accepted",
        Err(error) => error.code(),
    }
}

fn refusal_of_file(bytes: &[u8]) -> &'static str {
    match CertificationRequest::from_file_bytes(bytes) {
        Ok(_) => "accepted",
        Err(error) => error.code(),
    }
}

const VERSION: &[u8] = &[0x02, 0x01, 0x00];
const ATTRIBUTES: &[u8] = &[0xa0, 0x00];
const EC_PUBLIC_KEY: &[u8] = &[0x06, 0x07, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x01];
const PRIME256V1: &[u8] = &[0x06, 0x08, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x03, 0x01, 0x07];
const ECDSA_WITH_SHA256: &[u8] = &[
    0x30, 0x0a, 0x06, 0x08, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x04, 0x03, 0x02,
];

fn attribute(id: u8, tag: u8, value: &str) -> Vec<u8> {
    let id = tlv(0x06, &[&[0x55, 0x04, id]]);
    tlv(0x31, &[&tlv(0x30, &[&id, &tlv(tag, &[value.as_bytes()])])])
}

fn name(attributes: &[Vec<u8>]) -> Vec<u8> {
    let attributes: Vec<&[u8]> = attributes.iter().map(Vec::as_slice).collect();
    tlv(0x30, &attributes)
}

fn spki(algorithm: &[&[u8]], bits: &[u8]) -> Vec<u8> {
    tlv(0x30, &[&tlv(0x30, algorithm), &tlv(0x03, &[bits])])
}

fn p256_spki() -> Vec<u8> {
    let point = public(&key(3)).to_sec1_bytes();
    spki(&[EC_PUBLIC_KEY, PRIME256V1], &[&[0][..], &point].concat())
}

/// A request with these parts, signed rightly over whatever they are.
fn request(parts: &[&[u8]]) -> Vec<u8> {
    signed(&tlv(0x30, parts), ECDSA_WITH_SHA256, 0)
}

fn signed(info: &[u8], algorithm: &[u8], unused_bits: u8) -> Vec<u8> {
    let signature = sign(&key(3), info).to_der();
    let bits = tlv(0x03, &[&[unused_bits], signature.as_bytes()]);
    tlv(0x30, &[info, algorithm, &bits])
}

#[test]
fn the_builder_of_these_tests_builds_what_is_accepted() {
    let subject = name(&[attribute(3, 0x0c, "x"), attribute(5, 0x13, "y")]);
    let der = request(&[VERSION, &subject, &p256_spki(), ATTRIBUTES]);
    let request = CertificationRequest::from_der(&der).unwrap();
    assert_eq!(request.common_name(), Some("x"));
    assert_eq!(request.subject_serial_number(), Some("y"));
}

#[test]
fn nothing_is_empty() {
    assert_eq!(refusal(&[]), "CSR-EMPTY");
    assert_eq!(refusal_of_file(&[]), "CSR-EMPTY");
    assert_eq!(refusal_of_file(b" \r\n\n"), "CSR-EMPTY");
}

#[test]
fn ten_megabytes_are_refused_before_they_are_read() {
    let zeros = vec![0x30; 10_000_000];
    assert_eq!(refusal(&zeros), "CSR-TOO-LARGE");
    assert_eq!(refusal_of_file(&zeros), "CSR-TOO-LARGE");
    assert_eq!(refusal(&vec![0x30; CSR_DER_BYTES_MAX + 1]), "CSR-TOO-LARGE");
    let pem = mintmark_pki::to_pem("CERTIFICATE REQUEST", &vec![0x30; CSR_DER_BYTES_MAX + 64]);
    assert!(pem.len() < CSR_FILE_BYTES_MAX);
    assert_eq!(refusal_of_file(pem.as_bytes()), "CSR-TOO-LARGE");
}

#[test]
fn elements_nested_without_end_are_refused() {
    for tag in [0x30, 0x31, 0xa0, 0x24] {
        let mut der = Vec::new();
        loop {
            let outer = tlv(tag, &[&der]);
            if outer.len() > CSR_DER_BYTES_MAX {
                break;
            }
            der = outer;
        }
        let expected = if tag == 0x24 {
            "CSR-MALFORMED"
        } else {
            "CSR-TOO-DEEP"
        };
        assert_eq!(refusal(&der), expected);
        assert_ne!(refusal_of_file(&der), "accepted");
    }
    // Indefinite lengths, nested 100,000 times.
    assert_eq!(refusal(&[0x30, 0x80].repeat(100_000)), "CSR-TOO-LARGE");
    assert_eq!(refusal(&[0x30, 0x80].repeat(8_000)), "CSR-MALFORMED");
    // Nesting inside of an attribute, where nothing else of the request looks.
    let mut deep = tlv(0x05, &[]);
    for _ in 0..20 {
        deep = tlv(0x30, &[&deep]);
    }
    let attribute = tlv(0x30, &[&tlv(0x06, &[&[0x2a, 3]]), &tlv(0x31, &[&deep])]);
    let der = request(&[VERSION, &name(&[]), &p256_spki(), &tlv(0xa0, &[&attribute])]);
    assert_eq!(refusal(&der), "CSR-TOO-DEEP");
}

#[test]
fn garbage_is_refused() {
    // A linear congruential generator: the same garbage in every run.
    let mut state = 1_u32;
    let mut octet = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        state.to_be_bytes()[0]
    };
    for length in (1..400).chain([1_000, 16_000]) {
        for first in [None, Some(0x30)] {
            let mut garbage: Vec<u8> = (0..length).map(|_| octet()).collect();
            if let Some(first) = first {
                garbage[0] = first;
            }
            assert_ne!(refusal(&garbage), "accepted");
            assert_ne!(refusal_of_file(&garbage), "accepted");
        }
    }
}

#[test]
fn every_truncation_is_refused() {
    let der = csr(&key(3));
    for length in 0..der.len() {
        let code = refusal(&der[..length]);
        assert!(
            ["CSR-EMPTY", "CSR-MALFORMED"].contains(&code),
            "{length}: {code}"
        );
        assert_eq!(refusal_of_file(&der[..length]), code);
    }
    let pem = mintmark_pki::to_pem("CERTIFICATE REQUEST", &der);
    // The line feed at the end is the one thing that may be missing.
    for length in 0..pem.len() - 1 {
        assert_ne!(
            refusal_of_file(&pem.as_bytes()[..length]),
            "accepted",
            "{length}"
        );
    }
}

#[test]
fn every_flipped_bit_is_refused() {
    let folder = Folder::new();
    folder.openssl("genpkey -algorithm ED25519 -out ed.pem");
    folder.openssl("req -new -key ed.pem -subj /CN=x -outform DER -out ed.der");
    folder.openssl("genpkey -algorithm RSA -pkeyopt rsa_keygen_bits:2048 -out rsa.pem");
    folder.openssl("req -new -key rsa.pem -subj /CN=x -outform DER -out rsa.der");
    for der in [csr(&key(3)), folder.read("ed.der"), folder.read("rsa.der")] {
        assert_eq!(refusal(&der), "accepted");
        for position in 0..der.len() {
            for bit in 0..8 {
                let mut flipped = der.clone();
                flipped[position] ^= 1 << bit;
                assert_ne!(
                    refusal(&flipped),
                    "accepted",
                    "bit {bit} of byte {position}"
                );
            }
        }
    }
}

#[test]
fn a_byte_too_many_is_refused_wherever_it_is() {
    let mut der = csr(&key(3));
    der.push(0);
    assert_eq!(refusal(&der), "CSR-MALFORMED");
    assert_eq!(refusal_of_file(&der), "CSR-MALFORMED");
    let null = tlv(0x05, &[]);
    let subject = name(&[]);
    let spki = p256_spki();
    for parts in [
        &[VERSION, &subject, &spki, ATTRIBUTES, &null][..],
        &[VERSION, &null, &subject, &spki, ATTRIBUTES],
        &[VERSION, &subject, &tlv(0x30, &[&spki, &null]), ATTRIBUTES],
    ] {
        assert_eq!(refusal(&request(parts)), "CSR-MALFORMED");
    }
    let info = tlv(0x30, &[VERSION, &subject, &spki, ATTRIBUTES]);
    let whole = tlv(
        0x30,
        &[&info, ECDSA_WITH_SHA256, &tlv(0x03, &[&[0]]), &null],
    );
    assert_eq!(refusal(&whole), "CSR-MALFORMED");
}

#[test]
fn the_signature_must_be_by_the_key_in_the_request() {
    let der = mintmark_pki::certification_request("x", &public(&key(3)), |info| {
        Ok::<_, Error>(sign(&key(4), info))
    })
    .unwrap();
    let error = CertificationRequest::from_der(&der).unwrap_err();
    assert_eq!(error.code(), "CSR-PROOF-INVALID");
    assert!(error.hint().is_some());
}

#[test]
fn structures_that_are_not_pkcs10_are_refused() {
    let subject = name(&[attribute(3, 0x0c, "x")]);
    let spki = p256_spki();
    let empty_attribute = tlv(0x30, &[&tlv(0x06, &[&[0x2a, 3]]), &tlv(0x31, &[])]);
    for (why, der) in [
        (
            "version 2",
            request(&[&[0x02, 0x01, 0x01], &subject, &spki, ATTRIBUTES]),
        ),
        ("no attributes", request(&[VERSION, &subject, &spki])),
        (
            "an attribute without value",
            request(&[VERSION, &subject, &spki, &tlv(0xa0, &[&empty_attribute])]),
        ),
        (
            "an empty RDN",
            request(&[VERSION, &name(&[tlv(0x31, &[])]), &spki, ATTRIBUTES]),
        ),
        (
            "unused bits in the signature",
            signed(
                &tlv(0x30, &[VERSION, &subject, &spki, ATTRIBUTES]),
                ECDSA_WITH_SHA256,
                1,
            ),
        ),
    ] {
        assert_eq!(refusal(&der), "CSR-MALFORMED", "{why}");
    }
}

#[test]
fn names_that_could_mean_two_devices_are_refused() {
    for (why, subject) in [
        (
            "two serial numbers",
            vec![attribute(5, 0x13, "a"), attribute(5, 0x13, "b")],
        ),
        (
            "two serial numbers that are the same",
            vec![attribute(5, 0x13, "a"), attribute(5, 0x13, "a")],
        ),
        (
            "two common names",
            vec![attribute(3, 0x0c, "a"), attribute(3, 0x0c, "b")],
        ),
        ("an empty serial number", vec![attribute(5, 0x13, "")]),
        (
            "a PrintableString that is not",
            vec![attribute(5, 0x13, "a_b")],
        ),
        (
            "a serial number as BMPString",
            vec![attribute(5, 0x1e, "ab")],
        ),
        (
            "an IA5String that is not",
            vec![attribute(5, 0x16, "\u{e9}")],
        ),
    ] {
        let der = request(&[VERSION, &name(&subject), &p256_spki(), ATTRIBUTES]);
        assert_eq!(refusal(&der), "CSR-MALFORMED", "{why}");
    }
    let id = tlv(0x06, &[&[0x55, 0x04, 5]]);
    let pair = |value: &[u8]| tlv(0x30, &[&id, &tlv(0x13, &[value])]);
    let both_in_one_rdn = tlv(0x30, &[&tlv(0x31, &[&pair(b"a"), &pair(b"b")])]);
    let der = request(&[VERSION, &both_in_one_rdn, &p256_spki(), ATTRIBUTES]);
    assert_eq!(
        refusal(&der),
        "CSR-MALFORMED",
        "two serial numbers in one RDN"
    );
    let not_utf8 = tlv(
        0x30,
        &[&tlv(0x31, &[&tlv(0x30, &[&id, &[0x0c, 0x01, 0xff]])])],
    );
    let der = request(&[VERSION, &not_utf8, &p256_spki(), ATTRIBUTES]);
    assert_eq!(refusal(&der), "CSR-MALFORMED", "a UTF8String that is not");
}

#[test]
fn a_common_name_in_a_dead_character_set_is_no_name() {
    for tag in [0x14, 0x1e] {
        let subject = name(&[attribute(3, tag, "ab"), attribute(5, 0x13, "y")]);
        let der = request(&[VERSION, &subject, &p256_spki(), ATTRIBUTES]);
        let request = CertificationRequest::from_der(&der).unwrap();
        assert_eq!(request.common_name(), None);
        assert_eq!(request.subject_serial_number(), Some("y"));
    }
}

#[test]
fn keys_in_another_encoding_are_refused() {
    let point = public(&key(3)).to_sec1_bytes();
    let bits = [&[0][..], &point].concat();
    let mut off_curve = bits.clone();
    off_curve[65] ^= 1;
    let mut hybrid = bits.clone();
    hybrid[1] = 0x06 | (point[64] & 1);
    let mut unused = bits.clone();
    unused[0] = 1;
    unused[65] &= 0xfe;
    let null: &[u8] = &[0x05, 0x00];
    let algorithm = &[EC_PUBLIC_KEY, PRIME256V1][..];
    for (why, spki, code) in [
        (
            "not on the curve",
            spki(algorithm, &off_curve),
            "CSR-KEY-UNSUPPORTED",
        ),
        (
            "hybrid form",
            spki(algorithm, &hybrid),
            "CSR-KEY-UNSUPPORTED",
        ),
        ("infinity", spki(algorithm, &[0, 0]), "CSR-KEY-UNSUPPORTED"),
        (
            "a point cut short",
            spki(algorithm, &bits[..65]),
            "CSR-KEY-UNSUPPORTED",
        ),
        (
            "no curve",
            spki(&[EC_PUBLIC_KEY], &bits),
            "CSR-KEY-UNSUPPORTED",
        ),
        (
            "implicit curve",
            spki(&[EC_PUBLIC_KEY, null], &bits),
            "CSR-KEY-UNSUPPORTED",
        ),
        ("unused bits", spki(algorithm, &unused), "CSR-MALFORMED"),
        (
            "parameters twice",
            spki(&[EC_PUBLIC_KEY, PRIME256V1, null], &bits),
            "CSR-MALFORMED",
        ),
        ("an empty key", spki(algorithm, &[0]), "CSR-KEY-UNSUPPORTED"),
    ] {
        let der = request(&[VERSION, &name(&[]), &spki, ATTRIBUTES]);
        assert_eq!(refusal(&der), code, "{why}");
    }
}

#[test]
fn signature_algorithms_take_no_other_parameters() {
    let info = tlv(0x30, &[VERSION, &name(&[]), &p256_spki(), ATTRIBUTES]);
    let id = &ECDSA_WITH_SHA256[2..];
    let with_null = tlv(0x30, &[id, &[0x05, 0x00]]);
    assert_eq!(
        refusal(&signed(&info, &with_null, 0)),
        "CSR-SIGNATURE-ALGORITHM"
    );
    let rsa = tlv(
        0x30,
        &[&[
            0x06, 9, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 1, 0x0b, 5, 0,
        ]],
    );
    let error = CertificationRequest::from_der(&signed(&info, &rsa, 0)).unwrap_err();
    assert_eq!(error.code(), "CSR-SIGNATURE-ALGORITHM");
    assert!(
        error
            .to_string()
            .contains("sha256WithRSAEncryption, by a key that is P-256"),
        "{error}"
    );
}

/// With a key of small order, R = key, S = 0 is a signature over every message in eight; no private key is needed.
#[test]
fn an_ed25519_key_with_which_anyone_can_sign_is_refused() {
    let algorithm: &[u8] = &[0x06, 0x03, 0x2b, 0x65, 0x70];
    let mut identity = [0; 32];
    identity[0] = 1;
    let spki = spki(&[algorithm], &[&[0][..], &identity].concat());
    let info = tlv(0x30, &[VERSION, &name(&[]), &spki, ATTRIBUTES]);
    let signature = [&[0][..], &identity, &[0; 32]].concat();
    let der = tlv(
        0x30,
        &[&info, &tlv(0x30, &[algorithm]), &tlv(0x03, &[&signature])],
    );
    // The forgery is real: OpenSSL takes it for a proof of possession.
    let folder = Folder::new();
    folder.write("request.der", &der);
    folder.openssl("req -inform DER -in request.der -verify -noout");
    let error = CertificationRequest::from_der(&der).unwrap_err();
    assert_eq!(error.code(), "CSR-KEY-UNSUPPORTED");
    assert!(error.to_string().contains("small order"), "{error}");
}

#[test]
fn an_rsa_key_must_be_two_positive_numbers() {
    let algorithm: &[u8] = &[0x06, 9, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 1, 1];
    let null: &[u8] = &[0x05, 0x00];
    let modulus = tlv(0x02, &[&[0], &[0xff; 256]]);
    let exponent: &[u8] = &[0x02, 3, 1, 0, 1];
    let rsa = |numbers: &[&[u8]]| [&[0][..], &tlv(0x30, numbers)].concat();
    let even = tlv(0x02, &[&[0], &[0xff; 255], &[0xfe]]);
    for (why, spki, code) in [
        (
            "no parameters",
            spki(&[algorithm], &rsa(&[&modulus, exponent])),
            "CSR-KEY-UNSUPPORTED",
        ),
        (
            "a negative modulus",
            spki(
                &[algorithm, null],
                &rsa(&[&tlv(0x02, &[&[0x80; 256]]), exponent]),
            ),
            "CSR-KEY-UNSUPPORTED",
        ),
        (
            "an even modulus",
            spki(&[algorithm, null], &rsa(&[&even, exponent])),
            "CSR-KEY-UNSUPPORTED",
        ),
        (
            "exponent 1",
            spki(&[algorithm, null], &rsa(&[&modulus, &[0x02, 1, 1]])),
            "CSR-KEY-UNSUPPORTED",
        ),
        (
            "an exponent of 9 octets",
            spki(
                &[algorithm, null],
                &rsa(&[&modulus, &tlv(0x02, &[&[0x11; 9]])]),
            ),
            "CSR-KEY-UNSUPPORTED",
        ),
        (
            "three numbers",
            spki(&[algorithm, null], &rsa(&[&modulus, exponent, exponent])),
            "CSR-MALFORMED",
        ),
        (
            "one number",
            spki(&[algorithm, null], &rsa(&[&modulus])),
            "CSR-MALFORMED",
        ),
        (
            "no DER",
            spki(&[algorithm, null], &[0, 1, 2, 3]),
            "CSR-MALFORMED",
        ),
    ] {
        let der = request(&[VERSION, &name(&[]), &spki, ATTRIBUTES]);
        assert_eq!(refusal(&der), code, "{why}");
    }
}

#[test]
fn a_challenge_password_that_is_not_one_string_is_nobodys_and_the_request_is_read_all_the_same() {
    let id = tlv(0x06, &[&[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 9, 7]]);
    let values = |values: &[&[u8]]| tlv(0x30, &[&id, &tlv(0x31, values)]);
    let (one, other) = (tlv(0x13, &[b"one"]), tlv(0x0c, &["zwö".as_bytes()]));
    let read = |attributes: &[&[u8]]| {
        let der = request(&[VERSION, &name(&[]), &p256_spki(), &tlv(0xa0, attributes)]);
        let request = CertificationRequest::from_der(&der).unwrap();
        let password = request.challenge_password();
        password.map(|password| password.map(<[u8]>::to_vec))
    };
    let foreign = tlv(0x30, &[&tlv(0x06, &[&[0x2a, 3]]), &tlv(0x31, &[&one])]);
    assert_eq!(read(&[&foreign]), Ok(None));
    assert_eq!(read(&[&foreign, &values(&[&one])]), Ok(Some(b"one".into())));
    assert_eq!(read(&[&values(&[&other])]), Ok(Some("zwö".into())));
    assert_eq!(read(&[&values(&[&tlv(0x1e, &[])])]), Ok(Some(vec![])));
    for ambiguous in [
        &[&values(&[&one, &other])[..]][..],
        &[&values(&[&one]), &values(&[&one])],
        &[&values(&[&[2, 1, 0]])],
        &[&values(&[&tlv(0x30, &[&one])])],
    ] {
        assert_eq!(read(ambiguous).unwrap_err().code(), "CSR-MALFORMED");
    }
}
