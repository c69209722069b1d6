//! What a vault's station CA signs: itself, a certificate for each station, and that of the service which stations
//! connect to.
//!
//! The station CA is nobody's subordinate: it says who may talk to one vault, and nothing about devices. So it is the
//! only anchor by which vault and stations know each other, and no root, however it is replaced, has a part in it.

use crate::algorithm::PublicKeyInfo;
use crate::authority::{Key, positive, self_signed, vault_subject};
use crate::element::{self, Elements, SEQUENCE};
use crate::encoding::Encoder;
use crate::error::{Error, Object};
use crate::issuer::{self, Issuer};
use crate::name::{self, AttributeType};
use crate::oid;
use crate::profile::{ExtendedKeyUsage, KeyUsage, ToBeSigned};
use crate::server_name::ServerName;

/// Most names that the service's certificate may state.
pub const SERVER_NAMES_MAX: usize = 64;

/// `extensions [3]` of a certificate (RFC 5280 section 4.1).
const EXTENSIONS: u8 = 0xa3;

/// From when until when a certificate is valid, both in seconds since 1970 and both included.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Validity {
    /// The start.
    pub not_before_unix: u64,
    /// The end, later than the start; [`NO_EXPIRY_UNIX`](crate::NO_EXPIRY_UNIX) for none.
    pub not_after_unix: u64,
}

/// The to-be-signed part of a vault's station CA, which it signs itself: subject and issuer
/// `O=<hq_name>, OU=<site>, CN=<site> <vault> Station CA` (shortened as for [`crate::device_ca_tbs`]), a CA with path
/// length 0, keyUsage keyCertSign and cRLSign, no expiry: stations know it by heart, and it ends with its key.
/// `serial` is as for [`crate::root_tbs`].
///
/// # Errors
/// `SERIAL-INVALID`, `CERTIFICATE-TIME-INVALID`, `SUBJECT-VALUE-INVALID`.
pub fn station_ca_tbs(
    hq_name: &str,
    site: &str,
    vault: &str,
    key: &p256::PublicKey,
    serial: &[u8],
    not_before_unix: u64,
) -> Result<Vec<u8>, Error> {
    let subject = vault_subject(hq_name, site, vault, "Station CA")?;
    self_signed(&subject, Some(0), key, serial, not_before_unix)
}

/// The to-be-signed part of a station's certificate: subject `CN=<station>`, no CA, keyUsage digitalSignature,
/// extKeyUsage clientAuth. `spki_der` is the key of a request that proved its possession
/// ([`crate::CertificationRequest::spki_der`]), of any kind that is accepted there: tokens differ in what they have.
/// `serial` is as for [`crate::root_tbs`].
///
/// # Errors
/// `SERIAL-INVALID`, `CERTIFICATE-TIME-INVALID`, `SUBJECT-VALUE-INVALID`; `CSR-MALFORMED` or `CSR-KEY-UNSUPPORTED` if
/// `spki_der` is no accepted key.
pub fn station_tbs(
    station_ca: &Issuer,
    station: &str,
    spki_der: &[u8],
    serial: &[u8],
    validity: Validity,
) -> Result<Vec<u8>, Error> {
    let object = Object::Request;
    element::scan(spki_der, 0).map_err(|fault| fault.of(object))?;
    let spki = Elements::new(spki_der, 0)
        .take(SEQUENCE, "the public key is missing")
        .map_err(|fault| fault.of(object))?;
    let key = PublicKeyInfo::read(&spki, object)?;
    ToBeSigned {
        serial: &positive(serial)?,
        issuer_der: station_ca.subject_der(),
        not_before_unix: validity.not_before_unix,
        not_after_unix: validity.not_after_unix,
        subject_der: &name::encode(&[(AttributeType::CommonName, station)])?,
        spki_der,
        ca: None,
        key_usage: KeyUsage::DigitalSignature,
        subject_key_identifier: &issuer::key_identifier(key.key),
        authority_key_identifier: Some(station_ca.ski()),
        extended_key_usage: &[ExtendedKeyUsage::ClientAuth],
    }
    .encode()
}

/// The to-be-signed part of the certificate of a vault's service: no CA, keyUsage digitalSignature, extKeyUsage
/// serverAuth, and `names`, in this order, as its subjectAltName: clients look nowhere else (RFC 9525 section 6.3).
/// The subject is for people: its common name is the first of the names that fits (64 characters, RFC 5280 appendix
/// A.1). `serial` is as for [`crate::root_tbs`].
///
/// # Errors
/// `SERVER-NAME-INVALID` if there are no names, more than [`SERVER_NAMES_MAX`], or one twice, or if none of them fits
/// the subject; `SERIAL-INVALID`, `CERTIFICATE-TIME-INVALID`.
pub fn station_server_tbs(
    station_ca: &Issuer,
    names: &[ServerName],
    key: &p256::PublicKey,
    serial: &[u8],
    validity: Validity,
) -> Result<Vec<u8>, Error> {
    let common_name = common_name(names)?;
    let key = Key::new(key);
    let tbs = ToBeSigned {
        serial: &positive(serial)?,
        issuer_der: station_ca.subject_der(),
        not_before_unix: validity.not_before_unix,
        not_after_unix: validity.not_after_unix,
        subject_der: &name::encode(&[(AttributeType::CommonName, &common_name)])?,
        spki_der: &key.spki,
        ca: None,
        key_usage: KeyUsage::DigitalSignature,
        subject_key_identifier: &key.identifier,
        authority_key_identifier: Some(station_ca.ski()),
        extended_key_usage: &[ExtendedKeyUsage::ServerAuth],
    }
    .encode()?;
    with_extension(&tbs, oid::SUBJECT_ALTERNATIVE_NAME, |value| {
        value.nested(SEQUENCE, |general_names| {
            for name in names {
                name.encode(general_names);
            }
        });
    })
}

/// Checks the names of one certificate, and finds the one for its subject.
fn common_name(names: &[ServerName]) -> Result<String, Error> {
    let Some(first) = names.first() else {
        return Err(Error::ServerName {
            found: String::new(),
            reason: "a server's certificate states at least one name",
        });
    };
    if let Some(beyond) = names.get(SERVER_NAMES_MAX) {
        return Err(beyond.invalid("it is one more than the 64 that a certificate may state"));
    }
    for (index, name) in names.iter().enumerate() {
        if names.iter().take(index).any(|before| before == name) {
            return Err(name.invalid("it is named twice"));
        }
    }
    names
        .iter()
        .map(ToString::to_string)
        .find(|name| name.chars().count() <= AttributeType::CommonName.characters_max())
        .ok_or_else(|| first.invalid("one name at least must have no more than 64 characters"))
}

/// A to-be-signed part with one more extension, not critical, after those that it has.
fn with_extension(
    tbs: &[u8],
    id: &[u8],
    write: impl FnOnce(&mut Encoder),
) -> Result<Vec<u8>, Error> {
    let mut fields = Elements::new(tbs, 0)
        .take(SEQUENCE, "")
        .map_err(|_| Error::ToBeSigned)?
        .inside();
    let mut before = Encoder::with_capacity(tbs.len());
    let extensions = loop {
        let field = fields.any("").map_err(|_| Error::ToBeSigned)?;
        if field.tag == EXTENSIONS {
            break field
                .inside()
                .take(SEQUENCE, "")
                .map_err(|_| Error::ToBeSigned)?;
        }
        before.raw(field.bytes);
    };
    let before = before.finish();
    let mut encoder = Encoder::with_capacity(tbs.len() + 256);
    encoder.nested(SEQUENCE, |tbs| {
        tbs.raw(&before);
        tbs.nested(EXTENSIONS, |explicit| {
            explicit.nested(SEQUENCE, |all| {
                all.raw(extensions.content());
                all.extension(id, false, write);
            });
        });
    });
    Ok(encoder.finish())
}
