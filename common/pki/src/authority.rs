//! What the root signs: itself, each vault's device CA, and each vault's identity.
//!
//! None of them expires by itself. A root and a device CA stand in devices that outlive every plan; they end by
//! revocation.

use crate::issuer::{self, Issuer};
use crate::name::{self, AttributeType};
use crate::profile::{KeyUsage, ToBeSigned};
use crate::time::NO_EXPIRY_UNIX;
use crate::{Error, certificate};

/// Fewest random octets that a serial number is made of which is random: that of a CA or a station.
pub const CA_SERIAL_BYTES_MIN: usize = 16;

/// The to-be-signed part of a root certificate: subject and issuer `O=<name>, CN=<name> Mintmark Root CA`, a CA
/// without path length limit, keyUsage keyCertSign and cRLSign, no expiry. `serial` is 16 to 20 random octets, of
/// which the first two bits are set to 01, so that the number is positive and of one length.
///
/// # Errors
/// `SERIAL-INVALID`, `CERTIFICATE-TIME-INVALID`; `SUBJECT-VALUE-INVALID` if `name` has more than 47 characters, which
/// is what leaves room in a common name of 64 (RFC 5280 appendix A.1).
pub fn root_tbs(
    name: &str,
    key: &p256::PublicKey,
    serial: &[u8],
    not_before_unix: u64,
) -> Result<Vec<u8>, Error> {
    root(
        name,
        &format!("{name} Mintmark Root CA"),
        key,
        serial,
        not_before_unix,
    )
}

/// As [`root_tbs`], for the root that is the `number`th of a headquarters, from 2: its common name is that of the first
/// and the number, so that no two roots have one name. Where that is too long, the common name is
/// `Mintmark Root CA <number>`, and the organization tells headquarters apart.
///
/// # Errors
/// As [`root_tbs`].
pub fn next_root_tbs(
    name: &str,
    number: u64,
    key: &p256::PublicKey,
    serial: &[u8],
    not_before_unix: u64,
) -> Result<Vec<u8>, Error> {
    let long = format!("{name} Mintmark Root CA {number}");
    let short = format!("Mintmark Root CA {number}");
    let common_name = if long.chars().count() <= AttributeType::CommonName.characters_max() {
        &long
    } else {
        &short
    };
    root(name, common_name, key, serial, not_before_unix)
}

fn root(
    name: &str,
    common_name: &str,
    key: &p256::PublicKey,
    serial: &[u8],
    not_before_unix: u64,
) -> Result<Vec<u8>, Error> {
    let subject = name::encode(&[
        (AttributeType::Organization, name),
        (AttributeType::CommonName, common_name),
    ])?;
    self_signed(&subject, None, key, serial, not_before_unix)
}

/// The to-be-signed part of a CA that signs itself: no expiry, and as many CAs below it as `path_length` says; none: any
/// number.
pub(crate) fn self_signed(
    subject: &[u8],
    path_length: Option<u8>,
    key: &p256::PublicKey,
    serial: &[u8],
    not_before_unix: u64,
) -> Result<Vec<u8>, Error> {
    let key = Key::new(key);
    ToBeSigned {
        serial: &positive(serial)?,
        issuer_der: subject,
        not_before_unix,
        not_after_unix: NO_EXPIRY_UNIX,
        subject_der: subject,
        spki_der: &key.spki,
        ca: Some(path_length),
        key_usage: KeyUsage::CertificatesAndCrls,
        subject_key_identifier: &key.identifier,
        authority_key_identifier: None,
        extended_key_usage: &[],
    }
    .encode()
}

/// The to-be-signed part of the certificate that links a root to the one before it: subject and key of `next`, issued by
/// `before`, a CA without path length limit, no expiry. Whoever knows `before` alone can follow it to whatever `next`
/// issued: it has the subject key identifier of `next`, which is what that names as its authority. `serial` is as for
/// [`root_tbs`].
///
/// # Errors
/// `SERIAL-INVALID`, `CERTIFICATE-TIME-INVALID`.
pub fn root_link_tbs(
    before: &Issuer,
    next: &Issuer,
    serial: &[u8],
    not_before_unix: u64,
) -> Result<Vec<u8>, Error> {
    let key = Key::new(next.public_key());
    ToBeSigned {
        serial: &positive(serial)?,
        issuer_der: before.subject_der(),
        not_before_unix,
        not_after_unix: NO_EXPIRY_UNIX,
        subject_der: next.subject_der(),
        spki_der: &key.spki,
        ca: Some(None),
        key_usage: KeyUsage::CertificatesAndCrls,
        subject_key_identifier: next.ski(),
        authority_key_identifier: Some(before.ski()),
        extended_key_usage: &[],
    }
    .encode()
}

/// The to-be-signed part of a vault's device CA: subject `O=<hq_name>, OU=<site>, CN=<site> <vault> Device CA`, a CA
/// with path length 0, keyUsage keyCertSign and cRLSign, no expiry. Where site and vault together are too long for a
/// common name, it is `<vault> Device CA`, and the OU tells the sites apart. `serial` is as for [`root_tbs`].
///
/// # Errors
/// `SERIAL-INVALID`, `CERTIFICATE-TIME-INVALID`, `SUBJECT-VALUE-INVALID`.
pub fn device_ca_tbs(
    root: &Issuer,
    hq_name: &str,
    site: &str,
    vault: &str,
    key: &p256::PublicKey,
    serial: &[u8],
    not_before_unix: u64,
) -> Result<Vec<u8>, Error> {
    let key = Key::new(key);
    ToBeSigned {
        serial: &positive(serial)?,
        issuer_der: root.subject_der(),
        not_before_unix,
        not_after_unix: NO_EXPIRY_UNIX,
        subject_der: &vault_subject(hq_name, site, vault, "Device CA")?,
        spki_der: &key.spki,
        ca: Some(Some(0)),
        key_usage: KeyUsage::CertificatesAndCrls,
        subject_key_identifier: &key.identifier,
        authority_key_identifier: Some(root.ski()),
        extended_key_usage: &[],
    }
    .encode()
}

/// The to-be-signed part of a vault's identity certificate, over the key with which it signs messages: subject
/// `O=<hq_name>, OU=<site>, CN=<site> <vault> Vault` (shortened as for [`device_ca_tbs`]), no CA, keyUsage
/// digitalSignature, no expiry. `serial` is as for [`root_tbs`].
///
/// # Errors
/// `SERIAL-INVALID`, `CERTIFICATE-TIME-INVALID`, `SUBJECT-VALUE-INVALID`.
pub fn vault_identity_tbs(
    root: &Issuer,
    hq_name: &str,
    site: &str,
    vault: &str,
    key: &p256::PublicKey,
    serial: &[u8],
    not_before_unix: u64,
) -> Result<Vec<u8>, Error> {
    let key = Key::new(key);
    ToBeSigned {
        serial: &positive(serial)?,
        issuer_der: root.subject_der(),
        not_before_unix,
        not_after_unix: NO_EXPIRY_UNIX,
        subject_der: &vault_subject(hq_name, site, vault, "Vault")?,
        spki_der: &key.spki,
        ca: None,
        key_usage: KeyUsage::DigitalSignature,
        subject_key_identifier: &key.identifier,
        authority_key_identifier: Some(root.ski()),
        extended_key_usage: &[],
    }
    .encode()
}

/// A P-256 key as certificates hold it.
pub(crate) struct Key {
    pub(crate) spki: Vec<u8>,
    pub(crate) identifier: [u8; 20],
}

impl Key {
    pub(crate) fn new(key: &p256::PublicKey) -> Self {
        Self {
            spki: issuer::spki_der(key),
            identifier: issuer::key_identifier(&key.to_sec1_bytes()),
        }
    }
}

/// Identifiers of sites and vaults have no spaces, so that no two vaults come to the same name.
pub(crate) fn vault_subject(
    hq_name: &str,
    site: &str,
    vault: &str,
    role: &str,
) -> Result<Vec<u8>, Error> {
    let long = format!("{site} {vault} {role}");
    let short = format!("{vault} {role}");
    let common_name = if long.chars().count() <= AttributeType::CommonName.characters_max() {
        &long
    } else {
        &short
    };
    name::encode(&[
        (AttributeType::Organization, hq_name),
        (AttributeType::OrganizationalUnit, site),
        (AttributeType::CommonName, common_name),
    ])
}

/// Makes random octets a serial number: positive, not zero, and as long as they are.
pub(crate) fn positive(random: &[u8]) -> Result<Vec<u8>, Error> {
    if random.len() < CA_SERIAL_BYTES_MIN {
        return Err(Error::Serial {
            reason: "it is made of fewer than 16 random octets",
        });
    }
    if random.len() > certificate::SERIAL_BYTES_MAX {
        return Err(Error::Serial {
            reason: "it is longer than 20 octets",
        });
    }
    let mut serial = random.to_vec();
    if let Some(first) = serial.first_mut() {
        *first = *first & 0x3f | 0x40;
    }
    Ok(serial)
}
