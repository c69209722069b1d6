//! How a person names a device.

use std::path::Path;

use mintmark_console::{Failure, files};
use mintmark_ledger::serial::{SERIAL_BYTES, Serial};
use mintmark_pki::{CERTIFICATE_FILE_BYTES_MAX, Certificate};
use mintmark_protocol::identifier::{DeviceId, Fingerprint};
use p256::pkcs8::Document;
use p256::pkcs8::spki::SubjectPublicKeyInfoRef;

use crate::failure;

/// What a person asks about.
pub(super) enum Asked {
    Certificate(Box<Certificate>),
    /// The SHA-256 of a public key (SubjectPublicKeyInfo, DER).
    Key(Fingerprint),
    /// Hexadecimal that may be such a digest, or a device's id.
    KeyOrId(Fingerprint, DeviceId),
    Serial(Serial),
    Id(DeviceId),
}

/// A certificate or a public key if there is such a file, a serial number or a digest of a key if it looks like one, else a
/// device id.
pub(super) fn read(asked: &str) -> Result<Asked, Failure> {
    let path = Path::new(asked);
    if path.is_file() {
        let bytes = files::read_limited(path, CERTIFICATE_FILE_BYTES_MAX as u64)?;
        if let Some(digest) = public_key(&bytes) {
            return Ok(Asked::Key(digest));
        }
        let certificate = Certificate::from_pem_or_der(&bytes).map_err(failure::pki)?;
        return Ok(Asked::Certificate(Box::new(certificate)));
    }
    let digits: String = asked
        .chars()
        .filter(|character| !matches!(character, ':' | ' '))
        .collect();
    let digits = digits.to_ascii_lowercase();
    let mut serial = [0; SERIAL_BYTES];
    if hex::decode_to_slice(&digits, &mut serial).is_ok() {
        return Ok(Asked::Serial(serial));
    }
    let id = asked.parse::<DeviceId>();
    match (digits.parse(), id) {
        (Ok(digest), Ok(id)) => Ok(Asked::KeyOrId(digest, id)),
        (Ok(digest), Err(_)) => Ok(Asked::Key(digest)),
        (Err(_), Ok(id)) => Ok(Asked::Id(id)),
        (Err(_), Err(_)) => Err(failure::usage(
            "DEVICE-INVALID",
            format!(
                "`{asked}` is no file, no serial number, no digest of a public key and no device id"
            ),
            "give the serial number or the SHA-256 of the public key in hexadecimal, the device id, or the path of a \
             certificate or a public key",
        )),
    }
}

/// The digest of a public key, if that is what a file holds, be it PEM or DER.
fn public_key(bytes: &[u8]) -> Option<Fingerprint> {
    let pem = std::str::from_utf8(bytes).ok();
    let der = match pem.and_then(|pem| Document::from_pem(pem.trim()).ok()) {
        Some(("PUBLIC KEY", document)) => document.as_bytes().to_vec(),
        Some(_) => return None,
        None => bytes.to_vec(),
    };
    SubjectPublicKeyInfoRef::try_from(der.as_slice()).ok()?;
    Some(Fingerprint::of(&der))
}
