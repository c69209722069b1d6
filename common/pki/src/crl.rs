//! Certificate revocation lists (RFC 5280 section 5), always complete, always of version 2.

use std::fmt;
use std::ops::Range;
use std::str::FromStr;

use p256::ecdsa::Signature;

use crate::algorithm::SignatureAlgorithm;
use crate::certificate::{Extension, SIGNS_CRLS, serial_range};
use crate::element::{self, BIT_STRING, ENUMERATED, Element, Elements, Fault, INTEGER, SEQUENCE};
use crate::encoding::Encoder;
use crate::error::{Error, Object};
use crate::issuer::{self, Issuer};
use crate::profile::{authority_key_identifier, check_serial};
use crate::time::{self, Time};
use crate::{oid, pem};

/// Largest CRL that is read, in bytes of DER; room for more than a million entries.
pub const CRL_DER_BYTES_MAX: usize = 64 * 1024 * 1024;
/// Largest file that is read as a CRL.
pub const CRL_FILE_BYTES_MAX: usize = 96 * 1024 * 1024;

/// Why a certificate was revoked (RFC 5280 section 5.3.1). There is no "unspecified", which is said by saying nothing,
/// and no "removeFromCRL", which belongs to delta CRLs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum CrlReason {
    /// The device's private key is known to others, or may be.
    KeyCompromise,
    /// The key of a CA is known to others, or may be.
    CaCompromise,
    /// The subject's name or other facts have changed.
    AffiliationChanged,
    /// Another certificate has taken its place.
    Superseded,
    /// It is no longer needed; a scrapped device, for instance.
    CessationOfOperation,
    /// It is suspended.
    CertificateHold,
    /// A privilege in it was withdrawn.
    PrivilegeWithdrawn,
    /// The key of an attribute authority is known to others, or may be.
    AaCompromise,
}

impl CrlReason {
    const ALL: [(Self, u8, &'static str); 8] = [
        (Self::KeyCompromise, 1, "keyCompromise"),
        (Self::CaCompromise, 2, "cACompromise"),
        (Self::AffiliationChanged, 3, "affiliationChanged"),
        (Self::Superseded, 4, "superseded"),
        (Self::CessationOfOperation, 5, "cessationOfOperation"),
        (Self::CertificateHold, 6, "certificateHold"),
        (Self::PrivilegeWithdrawn, 9, "privilegeWithdrawn"),
        (Self::AaCompromise, 10, "aACompromise"),
    ];

    /// The CRLReason's number.
    pub fn number(self) -> u8 {
        Self::ALL
            .iter()
            .find(|(reason, ..)| *reason == self)
            .map_or(0, |(_, number, _)| *number)
    }

    /// The reason of this number, if it is one of these.
    pub fn from_number(number: u8) -> Option<Self> {
        Self::ALL
            .iter()
            .find(|(_, other, _)| *other == number)
            .map(|(reason, ..)| *reason)
    }
}

impl fmt::Display for CrlReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = Self::ALL.iter().find(|(reason, ..)| reason == self);
        f.pad(name.map_or("", |(_, _, name)| name))
    }
}

impl FromStr for CrlReason {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        Self::ALL
            .iter()
            .find(|(_, _, name)| *name == text)
            .map(|(reason, ..)| *reason)
            .ok_or_else(|| Error::CrlReasonUnknown {
                found: text.chars().take(64).collect(),
            })
    }
}

/// One revoked certificate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RevokedSerial {
    /// Its serial number, big-endian, without a leading zero.
    pub serial: Vec<u8>,
    /// When it was revoked, in seconds since 1970.
    pub revoked_at_unix: u64,
    /// Why, if that is said.
    pub reason: Option<CrlReason>,
}

/// The to-be-signed part of a CRL: version 2, ecdsa-with-SHA256, with the issuer's subject key identifier as authority
/// key identifier, and a CRL number. The entries are sorted by serial number, so that the same set of revocations
/// makes the same bytes in whatever order it is given.
///
/// # Errors
/// `ISSUER-UNSUITABLE` if the issuer may not sign CRLs; `CERTIFICATE-TIME-INVALID` if `next_update_unix` is not after
/// `this_update_unix`, or a time is after 9999; `SERIAL-INVALID`; `CRL-REVOKED-TWICE`.
pub fn crl_tbs(
    issuer: &Issuer,
    number: u64,
    this_update_unix: u64,
    next_update_unix: u64,
    revoked: &[RevokedSerial],
) -> Result<Vec<u8>, Error> {
    check_signs_crls(issuer)?;
    if next_update_unix <= this_update_unix {
        return Err(Error::Time {
            reason: "the CRL's next update is not after this one",
        });
    }
    let this_update = Time::from_unix(this_update_unix)?;
    let next_update = Time::from_unix(next_update_unix)?;
    let mut entries = revoked
        .iter()
        .map(|entry| {
            check_serial(&entry.serial)?;
            Ok((entry, Time::from_unix(entry.revoked_at_unix)?))
        })
        .collect::<Result<Vec<_>, Error>>()?;
    entries.sort_by(|(a, _), (b, _)| by_number(&a.serial, &b.serial));
    let twice = entries.windows(2).find_map(|pair| match pair {
        [(a, _), (b, _)] if a.serial == b.serial => Some(&a.serial),
        _ => None,
    });
    if let Some(serial) = twice {
        return Err(Error::RevokedTwice {
            serial: oid::hexadecimal(serial),
        });
    }

    let number = number.to_be_bytes();
    let zeros = number.iter().take_while(|octet| **octet == 0).count();
    let number = number.get(zeros..).unwrap_or_default();

    let mut encoder = Encoder::with_capacity(512 + 64 * entries.len());
    encoder.nested(SEQUENCE, |tbs| {
        tbs.unsigned(&[1]);
        issuer::ecdsa_with_sha256(tbs);
        tbs.raw(issuer.subject_der());
        this_update.encode(tbs);
        next_update.encode(tbs);
        // RFC 5280 section 5.1.2.6: absent, not empty, when nothing is revoked.
        if !entries.is_empty() {
            tbs.nested(SEQUENCE, |list| {
                for (entry, revoked_at) in &entries {
                    list.nested(SEQUENCE, |fields| {
                        fields.unsigned(&entry.serial);
                        revoked_at.encode(fields);
                        if let Some(reason) = entry.reason {
                            fields.nested(SEQUENCE, |extensions| {
                                extensions.extension(oid::REASON_CODE, false, |value| {
                                    value.primitive(ENUMERATED, &[reason.number()]);
                                });
                            });
                        }
                    });
                }
            });
        }
        tbs.nested(0xa0, |explicit| {
            explicit.nested(SEQUENCE, |extensions| {
                authority_key_identifier(extensions, issuer.ski());
                extensions.extension(oid::CRL_NUMBER, false, |value| value.unsigned(number));
            });
        });
    });
    Ok(encoder.finish())
}

/// The CRL made of a to-be-signed part and its ecdsa-with-SHA256 signature.
///
/// # Errors
/// `TO-BE-SIGNED-INVALID` if `tbs_der` is not one DER sequence.
pub fn assemble_crl(tbs_der: &[u8], signature: &Signature) -> Result<Vec<u8>, Error> {
    issuer::signed(tbs_der, signature)
}

fn check_signs_crls(issuer: &Issuer) -> Result<(), Error> {
    if issuer.certificate().key_usage_allows(SIGNS_CRLS) {
        Ok(())
    } else {
        Err(Error::Issuer {
            subject: issuer.subject(),
            reason: "its key usage does not allow signing CRLs",
        })
    }
}

/// The order of numbers without leading zeros.
fn by_number(a: &[u8], b: &[u8]) -> std::cmp::Ordering {
    a.len().cmp(&b.len()).then_with(|| a.cmp(b))
}

/// A CRL whose issuer's signature has been verified: there is no other way to make one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Crl {
    der: Vec<u8>,
    tbs: Range<usize>,
    number: u64,
    this_update_unix: u64,
    next_update_unix: u64,
    revoked: Vec<RevokedSerial>,
}

impl Crl {
    /// Parses a complete CRL of the form that [`crl_tbs`] writes, and verifies that `issuer` signed it: by name, by
    /// key identifier, and by its signature over the bytes received. It looks at no clock: whether the CRL is current
    /// is for the caller to see from [`Self::next_update_unix`].
    ///
    /// # Errors
    /// `CRL-EMPTY`, `CRL-TOO-LARGE`, `CRL-TOO-DEEP`, `CRL-MALFORMED`; `ISSUER-UNSUITABLE` if the issuer may not sign
    /// CRLs; `CRL-SIGNATURE-ALGORITHM`; `CRL-SIGNATURE-INVALID`.
    pub fn from_der(der: &[u8], issuer: &Issuer) -> Result<Self, Error> {
        let object = Object::Crl;
        let malformed = |fault: Fault| fault.of(object);
        if der.is_empty() {
            return Err(Error::Empty { object });
        }
        if der.len() > CRL_DER_BYTES_MAX {
            return Err(Error::TooLarge {
                object,
                bytes: der.len(),
                bytes_max: CRL_DER_BYTES_MAX,
            });
        }
        check_signs_crls(issuer)?;
        element::scan(der, 0).map_err(malformed)?;
        let envelope = Envelope::read(der, issuer).map_err(malformed)?;
        match SignatureAlgorithm::read(&envelope.signature_algorithm, object)? {
            SignatureAlgorithm::EcdsaSha256 => {}
            other => {
                return Err(Error::SignatureAlgorithm {
                    object,
                    found: other.name(),
                });
            }
        }
        issuer.verify(envelope.tbs.bytes, envelope.signature, object)?;
        // Only now is memory spent on its entries.
        envelope.open(der, issuer).map_err(malformed)
    }

    /// Reads a file, PEM or DER as its content says. PEM must hold exactly one block, X509 CRL.
    ///
    /// # Errors
    /// `CRL-NOT-A-CRL`, `CRL-SEVERAL-BLOCKS`, and those of [`Self::from_der`].
    pub fn from_pem_or_der(bytes: &[u8], issuer: &Issuer) -> Result<Self, Error> {
        let object = Object::Crl;
        if bytes.len() > CRL_FILE_BYTES_MAX {
            return Err(Error::TooLarge {
                object,
                bytes: bytes.len(),
                bytes_max: CRL_FILE_BYTES_MAX,
            });
        }
        let der = pem::der(bytes, object, &["X509 CRL"], CRL_DER_BYTES_MAX)?;
        Self::from_der(&der, issuer)
    }

    /// The CRL as received.
    pub fn der(&self) -> &[u8] {
        &self.der
    }

    /// The to-be-signed part as received.
    pub fn tbs_der(&self) -> &[u8] {
        self.der.get(self.tbs.clone()).unwrap_or_default()
    }

    /// The CRL number, which only grows.
    pub fn number(&self) -> u64 {
        self.number
    }

    /// When it was issued, in seconds since 1970.
    pub fn this_update_unix(&self) -> u64 {
        self.this_update_unix
    }

    /// When the next one is due at the latest, in seconds since 1970.
    pub fn next_update_unix(&self) -> u64 {
        self.next_update_unix
    }

    /// The revoked certificates, in ascending order of their serial numbers.
    pub fn revoked(&self) -> &[RevokedSerial] {
        &self.revoked
    }

    /// The entry of this serial number (big-endian, without a leading zero).
    pub fn entry(&self, serial: &[u8]) -> Option<&RevokedSerial> {
        let index = self
            .revoked
            .binary_search_by(|entry| by_number(&entry.serial, serial))
            .ok()?;
        self.revoked.get(index)
    }
}

/// A CRL of which all is read that its signature needs.
struct Envelope<'a> {
    tbs: Element<'a>,
    /// What follows the issuer's name.
    rest: Elements<'a>,
    signature_algorithm: Element<'a>,
    signature: &'a [u8],
}

impl<'a> Envelope<'a> {
    fn read(der: &'a [u8], issuer: &Issuer) -> Result<Self, Fault> {
        let mut outside = Elements::new(der, 0);
        let mut crl = outside.take(SEQUENCE, "a CRL is a sequence")?.inside();
        let tbs = crl.take(SEQUENCE, "the to-be-signed part is missing")?;
        let signature_algorithm = crl.take(SEQUENCE, "the signature algorithm is missing")?;
        let signature = crl.take(BIT_STRING, "the signature is missing")?;
        crl.end("something follows the signature")?;

        let mut fields = tbs.inside();
        let version = fields.take(INTEGER, "the CRL is not of version 2")?;
        if version.content() != [1] {
            return Err(version.fault("the CRL is not of version 2"));
        }
        let inner_algorithm = fields.take(SEQUENCE, "the signature algorithm is missing")?;
        if inner_algorithm.bytes != signature_algorithm.bytes {
            return Err(inner_algorithm.fault("the two signature algorithms differ"));
        }
        let name = fields.take(SEQUENCE, "the issuer is missing")?;
        if name.bytes != issuer.subject_der() {
            return Err(name.fault("it is another issuer's"));
        }
        Ok(Self {
            tbs,
            rest: fields,
            signature_algorithm,
            signature: signature.whole_octets()?.0,
        })
    }

    fn open(self, der: &[u8], issuer: &Issuer) -> Result<Crl, Fault> {
        let mut fields = self.rest;
        let this_update_unix = time::unix(&fields.any("thisUpdate is missing")?)?;
        let next_update_unix = time::unix(&fields.any("nextUpdate is missing")?)?;
        let revoked = match fields.take_optional(SEQUENCE)? {
            Some(list) => revoked(list.inside())?,
            None => Vec::new(),
        };
        let extensions = fields.take(0xa0, "the CRL extensions are missing")?;
        fields.end("something follows the CRL extensions")?;
        Ok(Crl {
            der: der.to_vec(),
            tbs: self.tbs.range(),
            number: number(&extensions, issuer)?,
            this_update_unix,
            next_update_unix,
            revoked,
        })
    }
}

fn revoked(mut list: Elements<'_>) -> Result<Vec<RevokedSerial>, Fault> {
    let mut revoked: Vec<RevokedSerial> = Vec::new();
    while !list.is_empty() {
        let entry = list.take(SEQUENCE, "an entry must be a sequence")?;
        let mut fields = entry.inside();
        let serial = fields.take(INTEGER, "the serial number is missing")?;
        // Says whether the number is in order; where it lies is known already.
        let bytes = serial_range(&serial)?.len();
        let content = serial.content();
        let magnitude = content.get(content.len() - bytes..).unwrap_or_default();
        let revoked_at_unix = time::unix(&fields.any("the revocation's time is missing")?)?;
        let mut reason = None;
        if let Some(extensions) = fields.take_optional(SEQUENCE)? {
            let mut each = extensions.inside();
            while !each.is_empty() {
                let extension =
                    Extension::read(each.take(SEQUENCE, "an extension is a sequence")?)?;
                if extension.id == oid::REASON_CODE && reason.is_none() {
                    let value = extension.value(ENUMERATED)?;
                    let [number] = *value.content() else {
                        return Err(value.fault("the reason is not one of RFC 5280"));
                    };
                    reason = CrlReason::from_number(number);
                    if reason.is_none() {
                        return Err(value.fault("the reason is not one of RFC 5280"));
                    }
                } else {
                    return Err(Fault::new(
                        extension.position,
                        "an entry has an extension other than its reason",
                    ));
                }
            }
        }
        fields.end("something follows the entry's extensions")?;
        let ascends = revoked
            .last()
            .is_none_or(|before| by_number(&before.serial, magnitude).is_lt());
        if !ascends {
            return Err(serial.fault("the serial numbers are not in ascending order"));
        }
        revoked.push(RevokedSerial {
            serial: magnitude.to_vec(),
            revoked_at_unix,
            reason,
        });
    }
    Ok(revoked)
}

/// Reads the CRL extensions, which must be those that [`crl_tbs`] writes: an indirect or partial CRL says so in
/// others, and must not be taken for a complete one.
fn number(explicit: &Element<'_>, issuer: &Issuer) -> Result<u64, Fault> {
    let mut outside = explicit.inside();
    let mut each = outside
        .take(SEQUENCE, "the CRL extensions are missing")?
        .inside();
    outside.end("something follows the CRL extensions")?;
    let mut identifier = None;
    let mut number = None;
    while !each.is_empty() {
        let extension = Extension::read(each.take(SEQUENCE, "an extension is a sequence")?)?;
        match extension.id {
            oid::AUTHORITY_KEY_IDENTIFIER if identifier.is_none() => {
                let mut fields = extension.value(SEQUENCE)?.inside();
                let key = fields.take(0x80, "the issuer's key identifier is missing")?;
                if key.content() != issuer.ski() {
                    return Err(key.fault("it is of an issuer with another key"));
                }
                identifier = Some(key);
            }
            oid::CRL_NUMBER if number.is_none() => {
                let value = extension.value(INTEGER)?;
                let octets = match value.content() {
                    [0x80..=0xff, ..] => return Err(value.fault("the CRL number is negative")),
                    [0, rest @ ..] => rest,
                    whole => whole,
                };
                if octets.len() > 8 {
                    return Err(value.fault("the CRL number is beyond 64 bits"));
                }
                let found = octets
                    .iter()
                    .fold(0_u64, |number, octet| number << 8 | u64::from(*octet));
                number = Some(found);
            }
            _ => {
                return Err(Fault::new(
                    extension.position,
                    "the CRL has an extension that is not used here, or one twice",
                ));
            }
        }
    }
    match (identifier, number) {
        (Some(_), Some(number)) => Ok(number),
        _ => Err(explicit.fault("the CRL lacks its number or its issuer's key identifier")),
    }
}
