//! PKCS#10 certification requests (RFC 2986): strict parsing and proof of possession.

use std::ops::Range;

use crate::algorithm::{KeyAlgorithm, PublicKeyInfo, SignatureAlgorithm};
use crate::element::{
    self, BIT_STRING, BMP_STRING, Element, Elements, Fault, GENERALIZED_TIME, IA5_STRING, INTEGER,
    OBJECT_IDENTIFIER, OCTET_STRING, PRINTABLE_STRING, SEQUENCE, SET, TELETEX_STRING,
    UNIVERSAL_STRING, UTC_TIME, UTF8_STRING,
};
use crate::encoding::Encoder;
use crate::error::{Error, Object};
use crate::name::{self, AttributeType};
use crate::{issuer, oid, pem};

/// Largest file that is read as a request, PEM and the text before it included.
pub const CSR_FILE_BYTES_MAX: usize = 64 * 1024;
/// Largest request, as DER. One with an RSA-4096 key and every extension in use has about two thousand bytes.
pub const CSR_DER_BYTES_MAX: usize = 16 * 1024;

/// The tag of `attributes [0]`.
const ATTRIBUTES: u8 = 0xa0;

/// A certification request whose syntax and whose proof of possession have been verified: there is no other way to
/// make one. What it asks for beyond its key and its subject (extensions, a CA's rights) is never looked at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CertificationRequest {
    der: Vec<u8>,
    spki: Range<usize>,
    key_algorithm: KeyAlgorithm,
    subject_serial_number: Option<String>,
    common_name: Option<String>,
}

impl CertificationRequest {
    /// Reads a file, PEM or DER as its content says. PEM must hold exactly one block, CERTIFICATE REQUEST or NEW
    /// CERTIFICATE REQUEST; text may stand before it.
    ///
    /// # Errors
    /// `CSR-EMPTY`, `CSR-TOO-LARGE`, `CSR-NOT-A-REQUEST`, `CSR-SEVERAL-BLOCKS`, and those of [`Self::from_der`].
    pub fn from_file_bytes(bytes: &[u8]) -> Result<Self, Error> {
        if bytes.len() > CSR_FILE_BYTES_MAX {
            return Err(Error::TooLarge {
                object: Object::Request,
                bytes: bytes.len(),
                bytes_max: CSR_FILE_BYTES_MAX,
            });
        }
        let labels = ["CERTIFICATE REQUEST", "NEW CERTIFICATE REQUEST"];
        let der = pem::der(bytes, Object::Request, &labels, CSR_DER_BYTES_MAX)?;
        Self::from_der(&der)
    }

    /// Parses a request and verifies its signature over the bytes received.
    ///
    /// # Errors
    /// `CSR-EMPTY`, `CSR-TOO-LARGE`, `CSR-TOO-DEEP` and `CSR-MALFORMED` for what is not the DER of a request;
    /// `CSR-NOT-A-REQUEST` for what is recognisably something else; `CSR-KEY-UNSUPPORTED` and
    /// `CSR-SIGNATURE-ALGORITHM` for what is not accepted; `CSR-PROOF-INVALID` if the signature does not verify.
    pub fn from_der(der: &[u8]) -> Result<Self, Error> {
        let object = Object::Request;
        if der.is_empty() {
            return Err(Error::Empty { object });
        }
        if der.len() > CSR_DER_BYTES_MAX {
            return Err(Error::TooLarge {
                object,
                bytes: der.len(),
                bytes_max: CSR_DER_BYTES_MAX,
            });
        }
        element::scan(der, 0).map_err(|fault| fault.of(object))?;
        let fields = Fields::read(der).map_err(|fault| match recognise(der) {
            Some(found) => Error::Unexpected {
                object,
                found: found.to_owned(),
            },
            None => fault.of(object),
        })?;

        let key = PublicKeyInfo::read(&fields.spki, object)?;
        let algorithm = SignatureAlgorithm::read(&fields.signature_algorithm, object)?;
        let malformed = |fault: Fault| fault.of(object);
        let (signature, _) = fields.signature.whole_octets().map_err(malformed)?;
        key.verify(algorithm, fields.info.bytes, signature, object)?;

        let attributes = name::attributes(&fields.subject).map_err(malformed)?;
        let serial_number = name::single(
            &attributes,
            oid::SERIAL_NUMBER,
            "the subject has two serial numbers",
        )
        .and_then(|value| value.map(serial_number).transpose())
        .map_err(malformed)?;
        let common_name = name::single(
            &attributes,
            oid::COMMON_NAME,
            "the subject has two common names",
        )
        .map_err(malformed)?;
        Ok(Self {
            subject_serial_number: serial_number,
            common_name: common_name
                .and_then(|value| name::text(&value))
                .map(str::to_owned),
            spki: fields.spki.range(),
            key_algorithm: key.algorithm,
            der: der.to_vec(),
        })
    }

    /// The request as received.
    pub fn der(&self) -> &[u8] {
        &self.der
    }

    /// The SubjectPublicKeyInfo as received, which is its only DER encoding.
    pub fn spki_der(&self) -> &[u8] {
        self.der.get(self.spki.clone()).unwrap_or_default()
    }

    /// What kind of key it is.
    pub fn key_algorithm(&self) -> KeyAlgorithm {
        self.key_algorithm
    }

    /// SHA-256 of [`Self::spki_der`].
    pub fn spki_sha256(&self) -> [u8; 32] {
        issuer::sha256(self.spki_der())
    }

    /// The subject's serialNumber attribute (2.5.4.5), where it has one. It is a claim: possession of the key is
    /// proved, the name is not.
    pub fn subject_serial_number(&self) -> Option<&str> {
        self.subject_serial_number.as_deref()
    }

    /// The subject's common name, where it has one that is ASCII or UTF-8. It is a claim, too.
    pub fn common_name(&self) -> Option<&str> {
        self.common_name.as_deref()
    }

    /// The octets of its challengePassword attribute (RFC 2985 section 5.4.1), without tag and length, if it has one.
    /// EST carries in it what links the request to the TLS connection that it came through (RFC 7030 section 3.5).
    ///
    /// # Errors
    /// `CSR-MALFORMED` if the attribute occurs twice, has several values, or one that is no string: then nobody can say
    /// which one is meant. Such a request is read all the same, because nothing but this looks at its attributes.
    pub fn challenge_password(&self) -> Result<Option<&[u8]>, Error> {
        Fields::read(&self.der)
            .and_then(|fields| fields.challenge_password())
            .map_err(|fault| fault.of(Object::Request))
    }
}

/// The text of a serialNumber attribute. RFC 5280 appendix A.1 makes it a PrintableString; tools also write UTF8String.
fn serial_number(value: Element<'_>) -> Result<String, Fault> {
    match name::text(&value) {
        Some("") => Err(value.fault("the subject's serial number is empty")),
        Some(text) => Ok(text.to_owned()),
        None => Err(value.fault("the subject's serial number is not text")),
    }
}

/// The parts of a request (RFC 2986 section 4), located and not yet judged.
struct Fields<'a> {
    info: Element<'a>,
    subject: Element<'a>,
    spki: Element<'a>,
    attributes: Element<'a>,
    signature_algorithm: Element<'a>,
    signature: Element<'a>,
}

impl<'a> Fields<'a> {
    fn read(der: &'a [u8]) -> Result<Self, Fault> {
        let mut outside = Elements::new(der, 0);
        let mut request = outside.take(SEQUENCE, "a request is a sequence")?.inside();
        let info = request.take(SEQUENCE, "the request's information is missing")?;
        let signature_algorithm = request.take(SEQUENCE, "the signature algorithm is missing")?;
        let signature = request.take(BIT_STRING, "the signature is missing")?;
        request.end("something follows the signature")?;

        let mut fields = info.inside();
        let version = fields.take(INTEGER, "the version is missing")?;
        if version.content() != [0] {
            return Err(version.fault("the version is not 1 (which is written as 0)"));
        }
        let subject = fields.take(SEQUENCE, "the subject is missing")?;
        let spki = fields.take(SEQUENCE, "the public key is missing")?;
        let attributes = fields.take(ATTRIBUTES, "the attributes [0] are missing")?;
        fields.end("something follows the attributes")?;

        // What the attributes ask for is ignored; that they are attributes is not.
        let mut each = attributes.inside();
        while !each.is_empty() {
            let mut attribute = each
                .take(SEQUENCE, "an attribute must be a sequence")?
                .inside();
            attribute.take(OBJECT_IDENTIFIER, "the attribute's type is missing")?;
            let values = attribute.take(SET, "the attribute's values are missing")?;
            if values.content().is_empty() {
                return Err(values.fault("the attribute has no value"));
            }
            attribute.end("something follows the attribute's values")?;
        }
        Ok(Self {
            info,
            subject,
            spki,
            attributes,
            signature_algorithm,
            signature,
        })
    }

    fn challenge_password(&self) -> Result<Option<&'a [u8]>, Fault> {
        let mut found = None;
        let mut each = self.attributes.inside();
        while !each.is_empty() {
            let attribute = each.take(SEQUENCE, "an attribute must be a sequence")?;
            let mut fields = attribute.inside();
            let id = fields.take(OBJECT_IDENTIFIER, "the attribute's type is missing")?;
            if id.content() != oid::CHALLENGE_PASSWORD {
                continue;
            }
            if found.is_some() {
                return Err(attribute.fault("a second challengePassword"));
            }
            let mut values = fields
                .take(SET, "the attribute's values are missing")?
                .inside();
            let value = values.any("the attribute has no value")?;
            values.end("a second value of challengePassword")?;
            // RFC 2985 section 5.4.1: a DirectoryString; tools also write IA5String.
            if !matches!(
                value.tag,
                UTF8_STRING
                    | PRINTABLE_STRING
                    | IA5_STRING
                    | TELETEX_STRING
                    | UNIVERSAL_STRING
                    | BMP_STRING
            ) {
                return Err(value.fault("the challengePassword is no string"));
            }
            found = Some(value.content());
        }
        Ok(found)
    }
}

/// What else people hand in as DER, told apart by the tags at its start.
fn recognise(der: &[u8]) -> Option<&'static str> {
    let mut outside = Elements::new(der, 0);
    let mut fields = outside.take(SEQUENCE, "").ok()?.inside();
    let first = fields.any("").ok()?;
    let second = fields.any("").ok()?;
    match (first.tag, second.tag) {
        (SEQUENCE, SEQUENCE) => match first.inside().tag() {
            Some(0xa0) => Some("it is a CERTIFICATE"),
            Some(INTEGER) if has_time(first.inside()) => Some("it is an X509 CRL"),
            _ => None,
        },
        (SEQUENCE, BIT_STRING) => Some("it is a PUBLIC KEY"),
        (INTEGER, SEQUENCE) if fields.tag() == Some(OCTET_STRING) => Some("it is a PRIVATE KEY"),
        (INTEGER, OCTET_STRING) => Some("it is an EC PRIVATE KEY"),
        (INTEGER, INTEGER) => Some("it is an RSA key without a request"),
        (OBJECT_IDENTIFIER, 0xa0) => Some("it is a PKCS7 or CMS message"),
        _ => None,
    }
}

/// A CRL states times beside its issuer; a request has none.
fn has_time(mut fields: Elements<'_>) -> bool {
    while let Ok(field) = fields.any("") {
        if matches!(field.tag, UTC_TIME | GENERALIZED_TIME) {
            return true;
        }
    }
    false
}

/// Builds a request of our own for a P-256 key: subject `CN=<subject_cn>`, no attributes, ecdsa-with-SHA256. `sign`
/// is given the bytes to be signed and returns the signature over their SHA-256.
///
/// # Errors
/// `SUBJECT-VALUE-INVALID` if the common name is empty or longer than 64 characters; and whatever `sign` returns.
pub fn certification_request<E: From<Error>>(
    subject_cn: &str,
    key: &p256::PublicKey,
    sign: impl FnOnce(&[u8]) -> Result<p256::ecdsa::Signature, E>,
) -> Result<Vec<u8>, E> {
    let subject = name::encode(&[(AttributeType::CommonName, subject_cn)])?;
    let mut info = Encoder::with_capacity(256);
    info.nested(SEQUENCE, |info| {
        info.unsigned(&[]);
        info.raw(&subject);
        info.raw(&issuer::spki_der(key));
        info.nested(ATTRIBUTES, |_| {});
    });
    let info = info.finish();
    let signature = sign(&info)?;
    Ok(issuer::signed(&info, &signature)?)
}
