//! The same facts make the same bytes, and no others.

use mintmark_pki::{Certificate, assemble, device_tbs, to_pem, verify_chain, verify_p256};

use super::fixture::{
    NEW_YEAR, SERIAL, authorities, device, facts, key, public, sign, spki, th200,
};
use super::*;

/// Headquarters computes these bytes again, years later and with another release. They must never change.
#[test]
fn the_same_facts_make_the_same_bytes_for_ever() {
    let authorities = authorities();
    let spki = spki(&key(3));
    let tbs = device_tbs(&th200(), &authorities.ca, &SERIAL, NEW_YEAR, &facts(&spki)).unwrap();
    for (what, bytes, golden) in [
        (
            "root",
            authorities.root.certificate().tbs_der(),
            GOLDEN_ROOT,
        ),
        (
            "device CA",
            authorities.ca.certificate().tbs_der(),
            GOLDEN_DEVICE_CA,
        ),
        ("device", tbs.as_slice(), GOLDEN_DEVICE),
    ] {
        assert_eq!(
            hex::encode(bytes),
            golden.replace([' ', '\n'], ""),
            "{what}"
        );
    }
}

const GOLDEN_ROOT: &str = "
    3082014aa00302010202147fffffffffffffffffffffffffffffffffffffff300a06082a8648ce3d040302302f310d30
    0b060355040a0c0441636d65311e301c06035504030c1541636d65204d696e746d61726b20526f6f742043413020170d
    3237303130313030303030305a180f39393939313233313233353935395a302f310d300b060355040a0c0441636d6531
    1e301c06035504030c1541636d65204d696e746d61726b20526f6f742043413059301306072a8648ce3d020106082a86
    48ce3d030107034200046ff03b949241ce1dadd43519e6960e0a85b41a69a05c328103aa2bce1594ca163c4f753a55bf
    01dc53f6c0b0c7eee78b40c6ff7d25a96e2282b989cef71c144aa3423040300f0603551d130101ff040530030101ff30
    0e0603551d0f0101ff040403020106301d0603551d0e04160414256b1be32745d1d1c9d49121cc87bc451c4f2dfa";

const GOLDEN_DEVICE_CA: &str = "
    3082017da003020102021040808080808080808080808080808080300a06082a8648ce3d040302302f310d300b060355
    040a0c0441636d65311e301c06035504030c1541636d65204d696e746d61726b20526f6f742043413020170d32373031
    30313030303030305a180f39393939313233313233353935395a3042310d300b060355040a0c0441636d653111300f06
    0355040b0c087368656e7a68656e311e301c06035504030c157368656e7a68656e207631204465766963652043413059
    301306072a8648ce3d020106082a8648ce3d03010703420004550f471003f3df97c3df506ac797f6721fb1a1fb7b8f6f
    83d224498a65c88e24136093d7012e509a73715cbd0b00a3cc0ff4b5c01b3ffa196ab1fb327036b8e6a3663064301206
    03551d130101ff040830060101ff020100300e0603551d0f0101ff040403020106301d0603551d0e04160414fe00ab0f
    341901f863a49160cf554588d6928282301f0603551d23041830168014256b1be32745d1d1c9d49121cc87bc451c4f2d
    fa";

const GOLDEN_DEVICE: &str = "
    30820187a00302010202114df0e1d2c3b4a5968778695a4b3c2d1e0f300a06082a8648ce3d0403023042310d300b0603
    55040a0c0441636d653111300f060355040b0c087368656e7a68656e311e301c06035504030c157368656e7a68656e20
    763120446576696365204341301e170d3237303130313030303030305a170d3436313232373030303030305a3039310d
    300b060355040a0c0441636d65310f300d060355040b0c0654482d323030311730150603550405130e54483230302d30
    303030303030313059301306072a8648ce3d020106082a8648ce3d03010703420004591ab771ebbcfd6d9cb9094d1065
    28add1a69d44c2c1f627f089ec58b9c61adf9f4e6abf0d045c0c693a3c68ad7c97ca72be64def4a26fecd263dd98a927
    80f0a3673065300e0603551d0f0101ff040403020780301d0603551d0e04160414d02c9e7062d4d70c142007e115a13c
    f40ebe70a4301f0603551d23041830168014fe00ab0f341901f863a49160cf554588d692828230130603551d25040c30
    0a06082b06010505070302";

#[test]
fn a_damaged_certificate_never_verifies_and_never_panics() {
    let authorities = authorities();
    let der = device(&authorities, &th200());
    for length in 0..der.len() {
        assert!(Certificate::from_der(&der[..length]).is_err());
    }
    for position in 0..der.len() {
        for bit in 0..8 {
            let mut flipped = der.clone();
            flipped[position] ^= 1 << bit;
            let verified = Certificate::from_der(&flipped).is_ok_and(|device| {
                verify_chain(&device, &authorities.ca, &authorities.root).is_ok()
            });
            assert!(!verified, "bit {bit} of byte {position}");
        }
    }
    let ca = authorities.ca.certificate_der();
    for position in 0..ca.len() {
        for bit in 0..8 {
            let mut flipped = ca.to_vec();
            flipped[position] ^= 1 << bit;
            let verified = Certificate::from_der(&flipped)
                .is_ok_and(|ca| ca.verify_issued_by(&authorities.root).is_ok());
            assert!(!verified, "bit {bit} of byte {position}");
        }
    }
    assert_eq!(
        Certificate::from_der(&[]).unwrap_err().code(),
        "CERTIFICATE-EMPTY"
    );
    let large = vec![0x30; 10_000_000];
    assert_eq!(
        Certificate::from_der(&large).unwrap_err().code(),
        "CERTIFICATE-TOO-LARGE"
    );
    assert_eq!(
        Certificate::from_pem_or_der(&large).unwrap_err().code(),
        "CERTIFICATE-TOO-LARGE"
    );
    let pem = to_pem("CERTIFICATE REQUEST", &fixture::csr(&key(3)));
    let error = Certificate::from_pem_or_der(pem.as_bytes()).unwrap_err();
    assert_eq!(error.code(), "CERTIFICATE-NOT-A-CERTIFICATE");
}

#[test]
fn a_to_be_signed_part_is_one_sequence() {
    let signature = sign(&key(1), b"");
    for bytes in [&[][..], &[0x05, 0x00], &[0x30, 0x00, 0x00], &[0x30, 0x01]] {
        let error = assemble(bytes, &signature).unwrap_err();
        assert_eq!(error.code(), "TO-BE-SIGNED-INVALID");
    }
}

#[test]
fn either_form_of_s_verifies_and_a_wrong_signature_does_not() {
    let message = b"message";
    let signature = sign(&key(1), message);
    assert!(verify_p256(&public(&key(1)), message, &signature));
    assert!(!verify_p256(&public(&key(1)), b"massage", &signature));
    assert!(!verify_p256(&public(&key(2)), message, &signature));
    // Half of all tokens' signatures have a high s; both forms are valid.
    let high =
        p256::ecdsa::Signature::from_scalars(*signature.r().as_ref(), *(-signature.s()).as_ref())
            .unwrap();
    assert_ne!(high, signature);
    assert!(verify_p256(&public(&key(1)), message, &high));
}
