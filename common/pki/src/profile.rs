//! What is to be signed: the one profile of device certificates, as a policy fills it in.
//!
//! Everything here is a pure function of its arguments. The vault signs what [`device_tbs`] returns, and headquarters
//! calls it again, with what the log says, and demands the same bytes.

use std::fmt;
use std::str::FromStr;

use const_oid::ObjectIdentifier;
use p256::ecdsa::Signature;

use crate::algorithm::{KeyAlgorithm, PublicKeyInfo};
use crate::certificate::SERIAL_BYTES_MAX;
use crate::element::{
    self, BIT_STRING, Elements, INTEGER, OBJECT_IDENTIFIER, OCTET_STRING, SEQUENCE,
};
use crate::encoding::Encoder;
use crate::error::{Error, Object};
use crate::issuer::{self, Issuer};
use crate::oid;
use crate::template::SubjectTemplate;
use crate::time::{NO_EXPIRY_UNIX, Time};

const SECONDS_PER_DAY: u64 = 86_400;

/// The end of a device certificate's validity.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NotAfter {
    /// This many days of 86,400 seconds after its start; at least one.
    Days(u32),
    /// 99991231235959Z: no expiry (RFC 5280 section 4.1.2.5, IEEE 802.1AR section 8.7).
    NoExpiry,
}

impl NotAfter {
    fn unix(self, not_before_unix: u64) -> Result<u64, Error> {
        match self {
            Self::NoExpiry => Ok(NO_EXPIRY_UNIX),
            Self::Days(0) => Err(Error::Time {
                reason: "a validity of no days",
            }),
            Self::Days(days) => not_before_unix
                .checked_add(u64::from(days) * SECONDS_PER_DAY)
                .ok_or(Error::Time {
                    reason: "it is later than the year 9999",
                }),
        }
    }
}

/// A purpose in the extKeyUsage extension (RFC 5280 section 4.2.1.12). Parsed from `clientAuth`, `serverAuth`,
/// `codeSigning`, `emailProtection`, `timeStamping`, `OCSPSigning`, or a dotted object identifier.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ExtendedKeyUsage {
    /// TLS client authentication.
    ClientAuth,
    /// TLS server authentication.
    ServerAuth,
    /// Signing of code.
    CodeSigning,
    /// E-mail protection.
    EmailProtection,
    /// Time stamping (RFC 3161).
    TimeStamping,
    /// Signing of OCSP responses (RFC 6960).
    OcspSigning,
    /// Any other purpose. Parsing never yields one of those above in this form.
    Other(ObjectIdentifier),
}

/// id-kp (1.3.6.1.5.5.7.3) and the last arcs and names of the purposes known here.
const ID_KP: [u8; 7] = [0x2b, 0x06, 0x01, 0x05, 0x05, 0x07, 0x03];
const PURPOSES: [(ExtendedKeyUsage, u8, &str); 6] = [
    (ExtendedKeyUsage::ServerAuth, 1, "serverAuth"),
    (ExtendedKeyUsage::ClientAuth, 2, "clientAuth"),
    (ExtendedKeyUsage::CodeSigning, 3, "codeSigning"),
    (ExtendedKeyUsage::EmailProtection, 4, "emailProtection"),
    (ExtendedKeyUsage::TimeStamping, 8, "timeStamping"),
    (ExtendedKeyUsage::OcspSigning, 9, "OCSPSigning"),
];

impl ExtendedKeyUsage {
    fn encode(self, encoder: &mut Encoder) {
        let known = PURPOSES.iter().find(|(usage, ..)| *usage == self);
        encoder.nested(OBJECT_IDENTIFIER, |id| match (self, known) {
            (Self::Other(identifier), _) => id.raw(identifier.as_bytes()),
            (_, Some((_, arc, _))) => {
                id.raw(&ID_KP);
                id.raw(&[*arc]);
            }
            // Every other variant is in the table, which a test holds.
            (_, None) => {}
        });
    }
}

impl fmt::Display for ExtendedKeyUsage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self, PURPOSES.iter().find(|(usage, ..)| usage == self)) {
            (Self::Other(identifier), _) => identifier.fmt(f),
            (_, Some((_, _, name))) => f.write_str(name),
            (_, None) => Ok(()),
        }
    }
}

impl FromStr for ExtendedKeyUsage {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        if let Some((usage, ..)) = PURPOSES.iter().find(|(_, _, name)| *name == text) {
            return Ok(*usage);
        }
        let identifier =
            ObjectIdentifier::new(text).map_err(|_| Error::ExtendedKeyUsageUnknown {
                found: text.chars().take(64).collect(),
            })?;
        let known = PURPOSES
            .iter()
            .find(|(_, arc, _)| identifier.as_bytes().strip_prefix(&ID_KP) == Some(&[*arc]));
        Ok(known.map_or(Self::Other(identifier), |(usage, ..)| *usage))
    }
}

/// What a policy decides about the certificates of one product.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeviceProfile {
    /// The subject.
    pub subject: SubjectTemplate,
    /// The end of validity.
    pub not_after: NotAfter,
    /// Purposes; with none, the certificate has no such extension and is not restricted.
    pub extended_key_usage: Vec<ExtendedKeyUsage>,
}

/// What differs from device to device.
#[derive(Clone, Copy, Debug)]
pub struct DeviceFacts<'a> {
    /// The device's identifier.
    pub device_id: &'a str,
    /// The product.
    pub sku: &'a str,
    /// The site.
    pub site: &'a str,
    /// The SubjectPublicKeyInfo, as [`crate::CertificationRequest::spki_der`] returns it.
    pub spki_der: &'a [u8],
    /// What kind of key that is.
    pub key_algorithm: KeyAlgorithm,
}

/// The to-be-signed part of a device certificate (RFC 5280 section 4.1): version 3, ecdsa-with-SHA256, and the
/// extensions keyUsage (critical, digitalSignature alone), subjectKeyIdentifier (RFC 7093 section 2 method 1),
/// authorityKeyIdentifier, and extKeyUsage if the profile names purposes. There is nothing else in it, and nothing of
/// what a request may have asked for.
///
/// `serial` is big-endian, positive, without a leading zero, and at most 20 octets long once encoded.
///
/// # Errors
/// `SERIAL-INVALID`; `CERTIFICATE-TIME-INVALID`; `SUBJECT-VALUE-INVALID`; `EXTENDED-KEY-USAGE-REPEATED`;
/// `CSR-MALFORMED` or `CSR-KEY-UNSUPPORTED` if `spki_der` is no accepted key; `KEY-ALGORITHM-MISMATCH` if it is
/// another kind than stated.
pub fn device_tbs(
    profile: &DeviceProfile,
    issuer: &Issuer,
    serial: &[u8],
    not_before_unix: u64,
    device: &DeviceFacts<'_>,
) -> Result<Vec<u8>, Error> {
    let object = Object::Request;
    element::scan(device.spki_der, 0).map_err(|fault| fault.of(object))?;
    let spki = Elements::new(device.spki_der, 0)
        .take(SEQUENCE, "the public key is missing")
        .map_err(|fault| fault.of(object))?;
    let key = PublicKeyInfo::read(&spki, object)?;
    if key.algorithm != device.key_algorithm {
        return Err(Error::KeyAlgorithmMismatch {
            stated: device.key_algorithm,
            found: key.algorithm,
        });
    }
    let usages = &profile.extended_key_usage;
    if let Some((_, usage)) = usages
        .iter()
        .enumerate()
        .find(|(index, usage)| usages.iter().take(*index).any(|before| before == *usage))
    {
        return Err(Error::ExtendedKeyUsageRepeated {
            usage: usage.to_string(),
        });
    }
    let subject = profile
        .subject
        .render_der(device.device_id, device.sku, device.site)?;
    ToBeSigned {
        serial,
        issuer_der: issuer.subject_der(),
        not_before_unix,
        not_after_unix: profile.not_after.unix(not_before_unix)?,
        subject_der: &subject,
        spki_der: device.spki_der,
        ca: None,
        key_usage: KeyUsage::DigitalSignature,
        subject_key_identifier: &issuer::key_identifier(key.key),
        authority_key_identifier: Some(issuer.ski()),
        extended_key_usage: usages,
    }
    .encode()
}

/// The certificate made of a to-be-signed part and its ecdsa-with-SHA256 signature. It does not verify the signature;
/// [`crate::verify_p256`] does.
///
/// # Errors
/// `TO-BE-SIGNED-INVALID` if `tbs_der` is not one DER sequence.
pub fn assemble(tbs_der: &[u8], signature: &Signature) -> Result<Vec<u8>, Error> {
    issuer::signed(tbs_der, signature)
}

/// What a key may be used for: one or the other.
#[derive(Clone, Copy)]
pub(crate) enum KeyUsage {
    DigitalSignature,
    CertificatesAndCrls,
}

/// The fields of a certificate that is to be signed.
pub(crate) struct ToBeSigned<'a> {
    pub(crate) serial: &'a [u8],
    pub(crate) issuer_der: &'a [u8],
    pub(crate) not_before_unix: u64,
    pub(crate) not_after_unix: u64,
    pub(crate) subject_der: &'a [u8],
    pub(crate) spki_der: &'a [u8],
    /// A CA, and how many CAs may follow it.
    pub(crate) ca: Option<Option<u8>>,
    pub(crate) key_usage: KeyUsage,
    pub(crate) subject_key_identifier: &'a [u8],
    pub(crate) authority_key_identifier: Option<&'a [u8]>,
    pub(crate) extended_key_usage: &'a [ExtendedKeyUsage],
}

impl ToBeSigned<'_> {
    pub(crate) fn encode(&self) -> Result<Vec<u8>, Error> {
        check_serial(self.serial)?;
        let not_before = Time::from_unix(self.not_before_unix)?;
        let not_after = Time::from_unix(self.not_after_unix)?;
        if self.not_after_unix <= self.not_before_unix {
            return Err(Error::Time {
                reason: "the validity ends before it starts",
            });
        }
        let mut encoder = Encoder::with_capacity(1024);
        encoder.nested(SEQUENCE, |tbs| {
            tbs.nested(0xa0, |version| version.unsigned(&[2]));
            tbs.unsigned(self.serial);
            issuer::ecdsa_with_sha256(tbs);
            tbs.raw(self.issuer_der);
            tbs.nested(SEQUENCE, |validity| {
                not_before.encode(validity);
                not_after.encode(validity);
            });
            tbs.raw(self.subject_der);
            tbs.raw(self.spki_der);
            tbs.nested(0xa3, |explicit| {
                explicit.nested(SEQUENCE, |extensions| self.extensions(extensions));
            });
        });
        Ok(encoder.finish())
    }

    fn extensions(&self, extensions: &mut Encoder) {
        if let Some(path_length) = self.ca {
            extensions.extension(oid::BASIC_CONSTRAINTS, true, |value| {
                value.nested(SEQUENCE, |constraints| {
                    constraints.primitive(element::BOOLEAN, &[0xff]);
                    if let Some(path_length) = path_length {
                        constraints.primitive(INTEGER, &[path_length]);
                    }
                });
            });
        }
        extensions.extension(oid::KEY_USAGE, true, |value| {
            value.primitive(
                BIT_STRING,
                match self.key_usage {
                    // The count of unused bits, then the bits, the first one highest.
                    KeyUsage::DigitalSignature => &[7, 0b1000_0000],
                    KeyUsage::CertificatesAndCrls => &[1, 0b0000_0110],
                },
            );
        });
        extensions.extension(oid::SUBJECT_KEY_IDENTIFIER, false, |value| {
            value.primitive(OCTET_STRING, self.subject_key_identifier);
        });
        if let Some(identifier) = self.authority_key_identifier {
            authority_key_identifier(extensions, identifier);
        }
        if !self.extended_key_usage.is_empty() {
            extensions.extension(oid::EXTENDED_KEY_USAGE, false, |value| {
                value.nested(SEQUENCE, |usages| {
                    for usage in self.extended_key_usage {
                        usage.encode(usages);
                    }
                });
            });
        }
    }
}

/// The authorityKeyIdentifier extension with a key identifier alone (RFC 5280 section 4.2.1.1).
pub(crate) fn authority_key_identifier(extensions: &mut Encoder, identifier: &[u8]) {
    extensions.extension(oid::AUTHORITY_KEY_IDENTIFIER, false, |value| {
        value.nested(SEQUENCE, |fields| fields.primitive(0x80, identifier));
    });
}

/// RFC 5280 section 4.1.2.2.
pub(crate) fn check_serial(serial: &[u8]) -> Result<(), Error> {
    let reason = match serial {
        [] => "it is empty",
        [0x00, ..] => "it starts with a zero",
        [0x80..=0xff, ..] if serial.len() >= SERIAL_BYTES_MAX => "it is longer than 20 octets",
        _ if serial.len() > SERIAL_BYTES_MAX => "it is longer than 20 octets",
        _ => return Ok(()),
    };
    Err(Error::Serial { reason })
}
