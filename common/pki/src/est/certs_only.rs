//! Certs-only messages: certificates in a CMS SignedData that nobody signed.

use super::check_size;
use crate::element::{self, Element, Elements, Fault, INTEGER, OBJECT_IDENTIFIER, SEQUENCE, SET};
use crate::encoding::Encoder;
use crate::error::{Error, Object};
use crate::{Certificate, oid};

/// Largest certs-only message that is written or read, as DER. A device certificate, its CA and every root of a
/// lifetime need less than a tenth.
pub const CERTS_ONLY_DER_BYTES_MAX: usize = 256 * 1024;

/// `[0]`, constructed: the content of a ContentInfo, and the certificates of a SignedData.
const CONTENT: u8 = 0xa0;
const CERTIFICATES: u8 = 0xa0;
const CRLS: u8 = 0xa1;

/// A certs-only message (RFC 5272 section 4.1): a CMS SignedData (RFC 5652 section 5.1) of version 1 without content
/// and without signers. The certificates are those given, each once, in the order of DER (X.690 section 11.6), since
/// they are a set. Its media type is `application/pkcs7-mime; smime-type=certs-only`.
///
/// # Errors
/// `EST-ANSWER-EMPTY` if no certificate is given; `CERTIFICATE-MALFORMED` if one is not one DER sequence;
/// `EST-ANSWER-TOO-LARGE` beyond [`CERTS_ONLY_DER_BYTES_MAX`].
pub fn certs_only(certificates_der: &[&[u8]]) -> Result<Vec<u8>, Error> {
    let object = Object::CertsOnly;
    if certificates_der.is_empty() {
        return Err(Error::Empty { object });
    }
    for der in certificates_der {
        let mut outside = Elements::new(der, 0);
        outside
            .take(SEQUENCE, "a certificate is a sequence")
            .and_then(|_| outside.end("bytes follow the object"))
            .map_err(|fault| fault.of(Object::Certificate))?;
    }
    // No certificate is the start of another, so the order of the octets is all of DER's.
    let mut sorted = certificates_der.to_vec();
    sorted.sort_unstable();
    sorted.dedup();
    let bytes = sorted.iter().map(|der| der.len()).sum::<usize>();
    let mut encoder = Encoder::with_capacity(bytes + 64);
    encoder.nested(SEQUENCE, |info| {
        info.primitive(OBJECT_IDENTIFIER, oid::SIGNED_DATA);
        info.nested(CONTENT, |content| {
            content.nested(SEQUENCE, |signed_data| {
                signed_data.unsigned(&[1]);
                signed_data.nested(SET, |_digest_algorithms| {});
                signed_data.nested(SEQUENCE, |encapsulated| {
                    encapsulated.primitive(OBJECT_IDENTIFIER, oid::DATA);
                });
                signed_data.nested(CERTIFICATES, |certificates| {
                    for der in &sorted {
                        certificates.raw(der);
                    }
                });
                signed_data.nested(SET, |_signer_infos| {});
            });
        });
    });
    let der = encoder.finish();
    if der.len() > CERTS_ONLY_DER_BYTES_MAX {
        return Err(Error::TooLarge {
            object,
            bytes: der.len(),
            bytes_max: CERTS_ONLY_DER_BYTES_MAX,
        });
    }
    Ok(der)
}

/// The certificates in a certs-only message, in the order in which they stand there. Nothing vouches for them: whoever
/// asked knows from whom, and verifies them. CRLs in it are passed over.
///
/// # Errors
/// `EST-ANSWER-EMPTY` if there is nothing, or no certificate in it; `EST-ANSWER-TOO-LARGE`, `EST-ANSWER-TOO-DEEP`,
/// `EST-ANSWER-MALFORMED`; `EST-ANSWER-UNEXPECTED` if it is another CMS message; those of [`Certificate::from_der`],
/// with positions within that certificate.
pub fn certificates(der: &[u8]) -> Result<Vec<Certificate>, Error> {
    let object = Object::CertsOnly;
    check_size(der, object, CERTS_ONLY_DER_BYTES_MAX)?;
    let malformed = |fault: Fault| fault.of(object);
    element::scan(der, 0).map_err(malformed)?;
    let unexpected = |found: &str| Error::Unexpected {
        object,
        found: found.to_owned(),
    };

    let mut info = Elements::new(der, 0)
        .take(SEQUENCE, "a CMS message is a sequence")
        .map_err(malformed)?
        .inside();
    let content_type = info
        .take(OBJECT_IDENTIFIER, "the content's type is missing")
        .map_err(malformed)?;
    if content_type.content() != oid::SIGNED_DATA {
        return Err(unexpected("its content is not SignedData"));
    }
    let content = info
        .take(CONTENT, "the content is missing")
        .map_err(malformed)?;
    info.end("something follows the content")
        .map_err(malformed)?;
    let mut content = content.inside();
    let signed_data = content
        .take(SEQUENCE, "the SignedData is missing")
        .map_err(malformed)?;
    content
        .end("something follows the SignedData")
        .map_err(malformed)?;
    let parts = SignedData::read(&signed_data).map_err(malformed)?;
    if parts.has_content {
        return Err(unexpected("it has content"));
    }
    if parts.has_signers {
        return Err(unexpected("somebody signed it"));
    }
    let mut certificates = Vec::new();
    if let Some(set) = parts.certificates {
        let mut each = set.inside();
        while !each.is_empty() {
            let one = each
                .take(SEQUENCE, "this is no X.509 certificate")
                .map_err(malformed)?;
            certificates.push(Certificate::from_der(one.bytes)?);
        }
    }
    if certificates.is_empty() {
        return Err(Error::Empty { object });
    }
    Ok(certificates)
}

/// A SignedData (RFC 5652 section 5.1), as far as it matters here.
struct SignedData<'a> {
    has_content: bool,
    certificates: Option<Element<'a>>,
    has_signers: bool,
}

impl<'a> SignedData<'a> {
    fn read(signed_data: &Element<'a>) -> Result<Self, Fault> {
        let mut fields = signed_data.inside();
        fields.take(INTEGER, "the version is missing")?;
        fields.take(SET, "the digest algorithms are missing")?;
        let mut encapsulated = fields
            .take(SEQUENCE, "the encapsulated content is missing")?
            .inside();
        encapsulated.take(OBJECT_IDENTIFIER, "the content's type is missing")?;
        let has_content = encapsulated.take_optional(CONTENT)?.is_some();
        encapsulated.end("something follows the encapsulated content")?;
        let certificates = fields.take_optional(CERTIFICATES)?;
        fields.take_optional(CRLS)?;
        let signers = fields.take(SET, "the signers are missing")?;
        fields.end("something follows the signers")?;
        Ok(Self {
            has_content,
            certificates,
            has_signers: !signers.content().is_empty(),
        })
    }
}
