//! Certification requests: in masses made here, odd ones made by OpenSSL.

use std::fs;
use std::path::Path;

use p256::ecdsa::signature::Signer as _;
use p256::ecdsa::{DerSignature, SigningKey};
use p256::elliptic_curve::Generate as _;
use p256::pkcs8::EncodePublicKey as _;

/// A new device key.
pub fn key() -> SigningKey {
    SigningKey::from(p256::SecretKey::generate())
}

/// A request (PKCS#10, DER) with the subject `serialNumber=DEVICE`, signed by its own key.
pub fn der(device_id: &str, key: &SigningKey) -> Vec<u8> {
    der_with(device_id, key, &[])
}

/// The same with these attributes, DER one after another.
pub fn der_with(device_id: &str, key: &SigningKey, attributes: &[u8]) -> Vec<u8> {
    // RFC 2986 section 4.1: version, subject, key, attributes.
    let serial_number = element(0x06, &[&[0x55, 0x04, 0x05]]);
    let attribute = element(
        0x30,
        &[&serial_number, &element(0x13, &[device_id.as_bytes()])],
    );
    let subject = element(0x30, &[&element(0x31, &[&attribute])]);
    let public = p256::PublicKey::from(key.verifying_key())
        .to_public_key_der()
        .unwrap();
    let info = element(
        0x30,
        &[
            &[0x02, 1, 0],
            &subject,
            public.as_bytes(),
            &element(0xa0, &[attributes]),
        ],
    );
    let signature: DerSignature = key.sign(&info);
    // ecdsa-with-SHA256, RFC 5758 section 3.2.
    let oid = [0x06, 8, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x04, 0x03, 0x02];
    let algorithm = element(0x30, &[&oid]);
    let bits = element(0x03, &[&[0], signature.as_bytes()]);
    element(0x30, &[&info, &algorithm, &bits])
}

/// Writes requests for many devices, each with an attribute of so many random bytes that nothing compresses.
pub fn write_many_of(folder: &Path, numbers: impl IntoIterator<Item = u32>, bytes: usize) {
    fs::create_dir_all(folder).unwrap();
    for number in numbers {
        let noise: Vec<u8> = (0..bytes.div_ceil(32))
            .flat_map(|_| p256::SecretKey::generate().to_bytes())
            .collect();
        // challengePassword, RFC 2985 section 5.4.1.
        let oid = [
            0x06, 9, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x09, 0x07,
        ];
        let attribute = element(0x30, &[&oid, &element(0x31, &[&element(0x04, &[&noise])])]);
        let device_id = format!("TH200-{number:08}");
        let der = der_with(&device_id, &key(), &attribute);
        fs::write(folder.join(format!("{device_id}.csr")), der).unwrap();
    }
}

/// One element of DER: tag, length, and the parts of its value.
pub fn element(tag: u8, parts: &[&[u8]]) -> Vec<u8> {
    let value = parts.concat();
    let mut bytes = vec![tag];
    match value.len() {
        short @ 0..=0x7f => bytes.push(short as u8),
        long => {
            let length: Vec<u8> = long
                .to_be_bytes()
                .into_iter()
                .skip_while(|byte| *byte == 0)
                .collect();
            bytes.push(0x80 | length.len() as u8);
            bytes.extend(length);
        }
    }
    bytes.extend(value);
    bytes
}

/// Writes a request with a new key into a folder, as `DEVICE.csr`.
pub fn write(folder: &Path, device_id: &str) -> SigningKey {
    let key = key();
    write_with(folder, &format!("{device_id}.csr"), device_id, &key);
    key
}

/// Writes a request with this key and this file name.
pub fn write_with(folder: &Path, name: &str, device_id: &str, key: &SigningKey) {
    fs::create_dir_all(folder).unwrap();
    fs::write(folder.join(name), der(device_id, key)).unwrap();
}

/// Writes requests for many devices: `TH200-00000001` and so on.
pub fn write_many(folder: &Path, numbers: impl IntoIterator<Item = u32>) {
    for number in numbers {
        write(folder, &format!("TH200-{number:08}"));
    }
}
