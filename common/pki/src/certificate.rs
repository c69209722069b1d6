//! X.509 certificates as received (RFC 5280 section 4), and whether one issued another.

use std::ops::Range;

use p256::ecdsa::Signature;

use crate::algorithm::{PublicKeyInfo, SignatureAlgorithm};
use crate::element::{
    self, BIT_STRING, BOOLEAN, Element, Elements, Fault, INTEGER, OBJECT_IDENTIFIER, OCTET_STRING,
    SEQUENCE,
};
use crate::error::{Error, Object};
use crate::issuer::{self, Issuer};
use crate::{name, oid, pem, time};

/// Largest file that is read as a certificate.
pub const CERTIFICATE_FILE_BYTES_MAX: usize = 64 * 1024;
/// Largest certificate, as DER.
pub const CERTIFICATE_DER_BYTES_MAX: usize = 16 * 1024;
/// Most octets of a serial number, its sign included (RFC 5280 section 4.1.2.2).
pub const SERIAL_BYTES_MAX: usize = 20;

/// Bits of KeyUsage (RFC 5280 section 4.2.1.3), the first one highest, as in its first octet.
pub(crate) const SIGNS_DATA: u8 = 0x80;
pub(crate) const SIGNS_CERTIFICATES: u8 = 0x04;
pub(crate) const SIGNS_CRLS: u8 = 0x02;

/// A certificate that was parsed strictly. Parsing proves nothing about who made it: that is what
/// [`Certificate::verify_issued_by`] and [`verify_chain`] are for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Certificate {
    der: Vec<u8>,
    tbs: Range<usize>,
    serial: Range<usize>,
    issuer: Range<usize>,
    subject: Range<usize>,
    spki: Range<usize>,
    signature_algorithm: Range<usize>,
    signature: Range<usize>,
    not_before_unix: u64,
    not_after_unix: u64,
    extensions: Extensions,
}

/// What the extensions say that are understood here.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Extensions {
    is_ca: bool,
    path_length: Option<u8>,
    key_usage: Option<u8>,
    subject_key_identifier: Option<Range<usize>>,
    authority_key_identifier: Option<Range<usize>>,
    unknown_critical: Option<String>,
}

impl Certificate {
    /// Parses a certificate of version 3 with a positive serial number.
    ///
    /// # Errors
    /// `CERTIFICATE-EMPTY`, `CERTIFICATE-TOO-LARGE`, `CERTIFICATE-TOO-DEEP`, `CERTIFICATE-MALFORMED`.
    pub fn from_der(der: &[u8]) -> Result<Self, Error> {
        let object = Object::Certificate;
        if der.is_empty() {
            return Err(Error::Empty { object });
        }
        if der.len() > CERTIFICATE_DER_BYTES_MAX {
            return Err(Error::TooLarge {
                object,
                bytes: der.len(),
                bytes_max: CERTIFICATE_DER_BYTES_MAX,
            });
        }
        element::scan(der, 0)
            .and_then(|()| Self::read(der))
            .map_err(|fault| fault.of(object))
    }

    /// Reads a file, PEM or DER as its content says. PEM must hold exactly one block, CERTIFICATE.
    ///
    /// # Errors
    /// `CERTIFICATE-NOT-A-CERTIFICATE`, `CERTIFICATE-SEVERAL-BLOCKS`, and those of [`Self::from_der`].
    pub fn from_pem_or_der(bytes: &[u8]) -> Result<Self, Error> {
        let object = Object::Certificate;
        if bytes.len() > CERTIFICATE_FILE_BYTES_MAX {
            return Err(Error::TooLarge {
                object,
                bytes: bytes.len(),
                bytes_max: CERTIFICATE_FILE_BYTES_MAX,
            });
        }
        let der = pem::der(bytes, object, &["CERTIFICATE"], CERTIFICATE_DER_BYTES_MAX)?;
        Self::from_der(&der)
    }

    fn read(der: &[u8]) -> Result<Self, Fault> {
        let mut outside = Elements::new(der, 0);
        let mut certificate = outside
            .take(SEQUENCE, "a certificate is a sequence")?
            .inside();
        let tbs = certificate.take(SEQUENCE, "the to-be-signed part is missing")?;
        let signature_algorithm =
            certificate.take(SEQUENCE, "the signature algorithm is missing")?;
        let signature = certificate.take(BIT_STRING, "the signature is missing")?;
        certificate.end("something follows the signature")?;
        let (signature_octets, signature_position) = signature.whole_octets()?;

        let mut fields = tbs.inside();
        let version = fields.take(0xa0, "the certificate is not of version 3")?;
        if version.content() != [INTEGER, 1, 2] {
            return Err(version.fault("the certificate is not of version 3"));
        }
        let serial = serial_range(&fields.take(INTEGER, "the serial number is missing")?)?;
        let inner_algorithm = fields.take(SEQUENCE, "the signature algorithm is missing")?;
        if inner_algorithm.bytes != signature_algorithm.bytes {
            return Err(inner_algorithm.fault("the two signature algorithms differ"));
        }
        let issuer = fields.take(SEQUENCE, "the issuer is missing")?;
        name::attributes(&issuer)?;
        let mut validity = fields.take(SEQUENCE, "the validity is missing")?.inside();
        let not_before_unix = time::unix(&validity.any("notBefore is missing")?)?;
        let not_after_unix = time::unix(&validity.any("notAfter is missing")?)?;
        validity.end("something follows notAfter")?;
        let subject = fields.take(SEQUENCE, "the subject is missing")?;
        name::attributes(&subject)?;
        let spki = fields.take(SEQUENCE, "the public key is missing")?;
        let extensions = match fields.take_optional(0xa3)? {
            Some(extensions) => Extensions::read(&extensions)?,
            None => Extensions::default(),
        };
        fields.end("something follows the public key that is no extension")?;
        Ok(Self {
            der: der.to_vec(),
            tbs: tbs.range(),
            serial,
            issuer: issuer.range(),
            subject: subject.range(),
            spki: spki.range(),
            signature_algorithm: signature_algorithm.range(),
            signature: signature_position..signature_position + signature_octets.len(),
            not_before_unix,
            not_after_unix,
            extensions,
        })
    }

    fn at(&self, range: &Range<usize>) -> &[u8] {
        self.der.get(range.clone()).unwrap_or_default()
    }

    /// The certificate as received.
    pub fn der(&self) -> &[u8] {
        &self.der
    }

    /// The to-be-signed part as received.
    pub fn tbs_der(&self) -> &[u8] {
        self.at(&self.tbs)
    }

    /// The serial number, big-endian, without a leading zero.
    pub fn serial(&self) -> &[u8] {
        self.at(&self.serial)
    }

    /// The subject for people, in the form of [`crate::SubjectTemplate`].
    pub fn subject(&self) -> String {
        display(self.subject_der())
    }

    /// The issuer's name for people.
    pub fn issuer(&self) -> String {
        display(self.issuer_der())
    }

    /// The subject as received.
    pub fn subject_der(&self) -> &[u8] {
        self.at(&self.subject)
    }

    /// The issuer's name as received.
    pub fn issuer_der(&self) -> &[u8] {
        self.at(&self.issuer)
    }

    /// The subject's serialNumber attribute, if it has exactly one and that is text. Where the policy's template put
    /// it there, it is the device's identifier.
    pub fn subject_serial_number(&self) -> Option<&str> {
        let subject = Elements::new(self.subject_der(), 0).any("").ok()?;
        let attributes = name::attributes(&subject).ok()?;
        name::text(&name::single(&attributes, oid::SERIAL_NUMBER, "").ok()??)
    }

    /// The SubjectPublicKeyInfo as received.
    pub fn spki_der(&self) -> &[u8] {
        self.at(&self.spki)
    }

    /// SHA-256 of [`Self::spki_der`].
    pub fn spki_sha256(&self) -> [u8; 32] {
        issuer::sha256(self.spki_der())
    }

    /// Start of validity, in seconds since 1970.
    pub fn not_before_unix(&self) -> u64 {
        self.not_before_unix
    }

    /// End of validity, in seconds since 1970; [`crate::NO_EXPIRY_UNIX`] if there is none.
    pub fn not_after_unix(&self) -> u64 {
        self.not_after_unix
    }

    /// Whether it says to be a CA's.
    pub fn is_ca(&self) -> bool {
        self.extensions.is_ca
    }

    /// How many CAs may follow it in a chain; `None` is any number. Without meaning if it is no CA's.
    pub fn path_length(&self) -> Option<u8> {
        self.extensions.path_length
    }

    /// The subject key identifier.
    pub fn subject_key_identifier(&self) -> Option<&[u8]> {
        let range = self.extensions.subject_key_identifier.as_ref()?;
        Some(self.at(range))
    }

    /// The key identifier of its issuer.
    pub fn authority_key_identifier(&self) -> Option<&[u8]> {
        let range = self.extensions.authority_key_identifier.as_ref()?;
        Some(self.at(range))
    }

    /// The signature as r and s.
    ///
    /// # Errors
    /// `CERTIFICATE-SIGNATURE-ALGORITHM` if it was not made with ecdsa-with-SHA256; `CERTIFICATE-MALFORMED` if it is
    /// not two numbers within the order of P-256.
    pub fn signature(&self) -> Result<Signature, Error> {
        self.check_signature_algorithm()?;
        Signature::from_der(self.signature_der()).map_err(|_| Error::Malformed {
            object: Object::Certificate,
            position: self.signature.start,
            reason: "the signature is not one of P-256",
        })
    }

    /// The content of signatureValue as received: for ECDSA a DER sequence of r and s.
    pub fn signature_der(&self) -> &[u8] {
        self.at(&self.signature)
    }

    fn check_signature_algorithm(&self) -> Result<(), Error> {
        let object = Object::Certificate;
        let der = self.at(&self.signature_algorithm);
        let identifier = Elements::new(der, self.signature_algorithm.start)
            .any("the signature algorithm is missing")
            .map_err(|fault| fault.of(object))?;
        match SignatureAlgorithm::read(&identifier, object)? {
            SignatureAlgorithm::EcdsaSha256 => Ok(()),
            other => Err(Error::SignatureAlgorithm {
                object,
                found: other.name(),
            }),
        }
    }

    /// The key, checked to be of an accepted kind.
    pub(crate) fn public_key_info(&self) -> Result<PublicKeyInfo<'_>, Error> {
        let object = Object::Certificate;
        let spki = Elements::new(self.spki_der(), self.spki.start)
            .any("the public key is missing")
            .map_err(|fault| fault.of(object))?;
        PublicKeyInfo::read(&spki, object)
    }

    /// What kind of key it certifies.
    ///
    /// # Errors
    /// `CERTIFICATE-KEY-UNSUPPORTED` if it is none of [`crate::KeyAlgorithm`].
    pub fn key_algorithm(&self) -> Result<crate::KeyAlgorithm, Error> {
        self.public_key_info().map(|key| key.algorithm)
    }

    /// Whether it has a key usage that includes all these bits.
    pub(crate) fn key_usage_allows(&self, bits: u8) -> bool {
        self.extensions
            .key_usage
            .is_some_and(|usage| usage & bits == bits)
    }

    pub(crate) fn unknown_critical_extension(&self) -> Option<&str> {
        self.extensions.unknown_critical.as_deref()
    }

    fn broken(&self, reason: &'static str) -> Error {
        Error::Chain {
            subject: self.subject(),
            reason,
        }
    }

    /// Verifies that `issuer` issued this certificate: by name, by key identifier, and by its signature over the
    /// bytes received. It looks at no time and at no revocation.
    ///
    /// # Errors
    /// `CHAIN-INVALID` if name or key identifier are another's, or the certificate has a critical extension that is
    /// not known here; `CERTIFICATE-SIGNATURE-ALGORITHM`; `CERTIFICATE-SIGNATURE-INVALID`.
    pub fn verify_issued_by(&self, issuer: &Issuer) -> Result<(), Error> {
        if self.issuer_der() != issuer.subject_der() {
            return Err(self.broken("its issuer has another name"));
        }
        if self.authority_key_identifier() != Some(issuer.ski()) {
            return Err(self.broken("its issuer has another key"));
        }
        // RFC 5280 section 6.1.4 (o) and 6.1.5 (f).
        if self.unknown_critical_extension().is_some() {
            return Err(self.broken("it has a critical extension that is not known here"));
        }
        self.verify_signature_of(issuer)
    }

    /// Verifies the signature alone.
    pub(crate) fn verify_signature_of(&self, issuer: &Issuer) -> Result<(), Error> {
        self.check_signature_algorithm()?;
        issuer.verify(self.tbs_der(), self.signature_der(), Object::Certificate)
    }
}

/// The content of a serial number that is positive and not too long, without a leading zero.
pub(crate) fn serial_range(serial: &Element<'_>) -> Result<Range<usize>, Fault> {
    let range = serial.content_range();
    if range.len() > SERIAL_BYTES_MAX {
        return Err(serial.fault("the serial number is longer than 20 octets"));
    }
    match serial.content() {
        [0x00] | [0x80..=0xff, ..] | [] => Err(serial.fault("the serial number is not positive")),
        [0x00, ..] => Ok(range.start + 1..range.end),
        _ => Ok(range),
    }
}

fn display(name: &[u8]) -> String {
    Elements::new(name, 0)
        .any("")
        .and_then(|name| name::attributes(&name))
        .map(|attributes| name::display(&attributes))
        .unwrap_or_default()
}

impl Extensions {
    /// Reads `extensions [3]`. Those known here are parsed; a critical one that is not is remembered.
    fn read(explicit: &Element<'_>) -> Result<Self, Fault> {
        let mut found = Self::default();
        let mut seen: Vec<&[u8]> = Vec::new();
        let mut outside = explicit.inside();
        let mut each = outside
            .take(SEQUENCE, "the extensions are missing")?
            .inside();
        outside.end("something follows the extensions")?;
        while !each.is_empty() {
            let extension = Extension::read(each.take(SEQUENCE, "an extension is a sequence")?)?;
            if seen.contains(&extension.id) {
                return Err(Fault::new(extension.position, "an extension occurs twice"));
            }
            seen.push(extension.id);
            match extension.id {
                oid::BASIC_CONSTRAINTS => found.basic_constraints(&extension)?,
                oid::KEY_USAGE => found.key_usage(&extension)?,
                oid::SUBJECT_KEY_IDENTIFIER => {
                    let value = extension.value(OCTET_STRING)?;
                    found.subject_key_identifier = Some(value.content_range());
                }
                oid::AUTHORITY_KEY_IDENTIFIER => {
                    let mut fields = extension.value(SEQUENCE)?.inside();
                    found.authority_key_identifier = fields
                        .take_optional(0x80)?
                        .map(|identifier| identifier.content_range());
                }
                oid::EXTENDED_KEY_USAGE => {
                    extension.value(SEQUENCE)?;
                }
                other if extension.critical => found.unknown_critical = Some(oid::dotted(other)),
                _ => {}
            }
        }
        Ok(found)
    }

    /// RFC 5280 section 4.2.1.9.
    fn basic_constraints(&mut self, extension: &Extension<'_>) -> Result<(), Fault> {
        let mut fields = extension.value(SEQUENCE)?.inside();
        if let Some(flag) = fields.take_optional(BOOLEAN)? {
            if flag.content() != [0xff] {
                return Err(flag.fault("a default value is written out"));
            }
            self.is_ca = true;
        }
        if let Some(length) = fields.take_optional(INTEGER)? {
            self.path_length = match length.content() {
                [length @ 0..0x80] => Some(*length),
                _ => return Err(length.fault("the path length is out of range")),
            };
        }
        fields.end("something follows the path length")
    }

    /// RFC 5280 section 4.2.1.3. All bits but decipherOnly are in the first octet.
    fn key_usage(&mut self, extension: &Extension<'_>) -> Result<(), Fault> {
        let value = extension.value(BIT_STRING)?;
        self.key_usage = Some(value.content().get(1).copied().unwrap_or_default());
        Ok(())
    }
}

/// One extension of a certificate or CRL.
pub(crate) struct Extension<'a> {
    pub(crate) id: &'a [u8],
    pub(crate) critical: bool,
    pub(crate) position: usize,
    value: Element<'a>,
}

impl<'a> Extension<'a> {
    pub(crate) fn read(extension: Element<'a>) -> Result<Self, Fault> {
        let mut fields = extension.inside();
        let id = fields.take(OBJECT_IDENTIFIER, "the extension's identifier is missing")?;
        let critical = match fields.take_optional(BOOLEAN)? {
            Some(flag) if flag.content() == [0xff] => true,
            Some(flag) => return Err(flag.fault("a default value is written out")),
            None => false,
        };
        let value = fields.take(OCTET_STRING, "the extension's value is missing")?;
        fields.end("something follows the extension's value")?;
        Ok(Self {
            id: id.content(),
            critical,
            position: extension.position,
            value,
        })
    }

    /// The value inside the OCTET STRING: exactly one element with this tag, strict DER like the rest.
    pub(crate) fn value(&self, tag: u8) -> Result<Element<'a>, Fault> {
        element::scan(self.value.content(), self.value.content_position())?;
        self.value
            .inside()
            .take(tag, "the extension's value is of another type")
    }
}

/// Verifies the whole of a Mintmark chain: root, device CA, device. Names, key identifiers, signatures, CA flags, path
/// lengths and key usages; no time and no revocation, and nothing about quotas: a chain cannot know them.
///
/// # Errors
/// `CHAIN-INVALID`, `CERTIFICATE-SIGNATURE-ALGORITHM`, `CERTIFICATE-SIGNATURE-INVALID`.
pub fn verify_chain(device: &Certificate, device_ca: &Issuer, root: &Issuer) -> Result<(), Error> {
    let ca = device_ca.certificate();
    // An Issuer that is self-issued has verified its own signature.
    if !root.is_self_issued() {
        return Err(root.certificate().broken("it is not a root"));
    }
    if root.certificate().path_length() == Some(0) {
        return Err(root.certificate().broken("it allows no CA below it"));
    }
    if ca.path_length() != Some(0) {
        return Err(ca.broken("a device CA must allow no CA below it (path length 0)"));
    }
    ca.verify_issued_by(root)?;
    device.verify_issued_by(device_ca)?;
    if device.is_ca() || device.key_usage_allows(SIGNS_CERTIFICATES) {
        return Err(device.broken("a device must not be a CA"));
    }
    if !device.key_usage_allows(SIGNS_DATA) {
        return Err(device.broken("its key usage does not allow digital signatures"));
    }
    Ok(())
}
