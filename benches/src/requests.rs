//! Certification requests in masses: keys of aws-lc-rs, which makes one in a few microseconds.

use std::fs;
use std::path::Path;
use std::thread;

use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{ECDSA_P256_SHA256_ASN1_SIGNING, EcdsaKeyPair, KeyPair as _};
use mintmark_tests::request::element;

/// SubjectPublicKeyInfo of a key on P-256, up to its point (RFC 5480 section 2).
const SPKI: [u8; 26] = [
    0x30, 0x59, 0x30, 0x13, 0x06, 0x07, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x01, 0x06, 0x08, 0x2a,
    0x86, 0x48, 0xce, 0x3d, 0x03, 0x01, 0x07, 0x03, 0x42, 0x00,
];

/// The device of this number.
pub(crate) fn device_id(number: u32) -> String {
    format!("TH200-{number:08}")
}

/// A request (PKCS#10, DER) for this device, with a key of its own.
pub(crate) fn der(number: u32) -> Vec<u8> {
    let key = EcdsaKeyPair::generate(&ECDSA_P256_SHA256_ASN1_SIGNING).unwrap();
    let device = device_id(number);
    let oid = element(0x06, &[&[0x55, 0x04, 0x05]]);
    let attribute = element(0x30, &[&oid, &element(0x13, &[device.as_bytes()])]);
    let subject = element(0x30, &[&element(0x31, &[&attribute])]);
    let info = element(
        0x30,
        &[
            &[0x02, 1, 0],
            &subject,
            &SPKI,
            key.public_key().as_ref(),
            &[0xa0, 0],
        ],
    );
    let signature = key.sign(&SystemRandom::new(), &info).unwrap();
    let oid = [0x06, 8, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x04, 0x03, 0x02];
    let algorithm = element(0x30, &[&oid]);
    let bits = element(0x03, &[&[0], signature.as_ref()]);
    element(0x30, &[&info, &algorithm, &bits])
}

/// Writes requests for the devices from `first` on, on every processor.
pub(crate) fn write(folder: &Path, first: u32, count: u32) {
    fs::create_dir_all(folder).unwrap();
    let threads = threads();
    thread::scope(|scope| {
        for thread in 0..threads {
            scope.spawn(move || {
                for number in (first..first + count).skip(thread).step_by(threads) {
                    fs::write(
                        folder.join(format!("{}.csr", device_id(number))),
                        der(number),
                    )
                    .unwrap();
                }
            });
        }
    });
}

/// How many processors there are.
pub(crate) fn threads() -> usize {
    thread::available_parallelism().map_or(1, usize::from)
}
