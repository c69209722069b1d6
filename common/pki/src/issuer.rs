//! A CA certificate that issues others, with everything that is the same for all of them worked out once.

use aws_lc_rs::signature::{ECDSA_P256_SHA256_ASN1, ParsedPublicKey};
use p256::ecdsa::Signature;
use sha2::{Digest, Sha256};

use crate::certificate::{Certificate, SIGNS_CERTIFICATES};
use crate::element::{BIT_STRING, Elements, OBJECT_IDENTIFIER, SEQUENCE};
use crate::encoding::Encoder;
use crate::error::{Error, Object};
use crate::{KeyAlgorithm, oid};

/// A CA certificate with a P-256 key: a Mintmark root or a vault's device CA. Holding one means that the certificate
/// may sign certificates as far as it says itself (and, if it names itself as issuer, that its own signature
/// verifies). Whether it is the right one is for whoever holds the root to know.
#[derive(Clone, Debug)]
pub struct Issuer {
    certificate: Certificate,
    public_key: p256::PublicKey,
    verifier: ParsedPublicKey,
    ski: Vec<u8>,
}

impl Issuer {
    /// Reads a CA certificate.
    ///
    /// # Errors
    /// Those of [`Certificate::from_der`]; `ISSUER-UNSUITABLE` if it is no CA, may not sign certificates, or has no
    /// subject key identifier; `CERTIFICATE-KEY-UNSUPPORTED` if its key is not P-256;
    /// `CERTIFICATE-SIGNATURE-INVALID` if it is self-issued and not self-signed.
    pub fn from_certificate_der(der: &[u8]) -> Result<Self, Error> {
        Self::try_from(Certificate::from_der(der)?)
    }

    /// Its certificate.
    pub fn certificate(&self) -> &Certificate {
        &self.certificate
    }

    /// Its certificate as received.
    pub fn certificate_der(&self) -> &[u8] {
        self.certificate.der()
    }

    /// Its public key.
    pub fn public_key(&self) -> &p256::PublicKey {
        &self.public_key
    }

    /// Its subject, for people.
    pub fn subject(&self) -> String {
        self.certificate.subject()
    }

    /// Its subject as DER: the issuer's name in what it issues.
    pub fn subject_der(&self) -> &[u8] {
        self.certificate.subject_der()
    }

    /// Its subject key identifier: the authority key identifier of what it issues.
    pub fn ski(&self) -> &[u8] {
        &self.ski
    }

    /// Verifies a DER-encoded ecdsa-with-SHA256 signature over the bytes received.
    pub(crate) fn verify(
        &self,
        message: &[u8],
        signature_der: &[u8],
        object: Object,
    ) -> Result<(), Error> {
        self.verifier
            .verify_sig(message, signature_der)
            .map_err(|_| Error::SignatureInvalid {
                object,
                by: "its issuer",
            })
    }

    /// A root may leave its authority key identifier out (RFC 5280 section 4.2.1.1).
    fn verify_self_signature(&self) -> Result<(), Error> {
        if self.certificate.authority_key_identifier().is_none() {
            self.certificate.verify_signature_of(self)
        } else {
            self.certificate.verify_issued_by(self)
        }
    }

    /// Whether it names itself as its issuer, as a root does.
    pub fn is_self_issued(&self) -> bool {
        self.certificate.issuer_der() == self.certificate.subject_der()
    }
}

impl TryFrom<Certificate> for Issuer {
    type Error = Error;

    fn try_from(certificate: Certificate) -> Result<Self, Error> {
        let unsuitable = |reason| Error::Issuer {
            subject: certificate.subject(),
            reason,
        };
        if !certificate.is_ca() {
            return Err(unsuitable("it is not a CA certificate"));
        }
        if !certificate.key_usage_allows(SIGNS_CERTIFICATES) {
            return Err(unsuitable(
                "its key usage does not allow signing certificates",
            ));
        }
        if let Some(extension) = certificate.unknown_critical_extension() {
            return Err(Error::Issuer {
                subject: format!("{} (extension {extension})", certificate.subject()),
                reason: "it has a critical extension that is not known here",
            });
        }
        let ski = certificate
            .subject_key_identifier()
            .ok_or_else(|| unsuitable("it has no subject key identifier"))?
            .to_vec();
        let object = Object::Certificate;
        let key = certificate.public_key_info()?;
        if key.algorithm != KeyAlgorithm::P256 {
            return Err(Error::KeyUnsupported {
                object,
                found: key.algorithm.to_string(),
            });
        }
        let invalid = || Error::KeyUnsupported {
            object,
            found: "65 bytes that are no valid P-256 key".to_owned(),
        };
        let public_key = p256::PublicKey::from_sec1_bytes(key.key).map_err(|_| invalid())?;
        let verifier =
            ParsedPublicKey::new(&ECDSA_P256_SHA256_ASN1, key.key).map_err(|_| invalid())?;
        let issuer = Self {
            public_key,
            verifier,
            ski,
            certificate,
        };
        if issuer.is_self_issued() {
            issuer.verify_self_signature()?;
        }
        Ok(issuer)
    }
}

/// SHA-256.
pub(crate) fn sha256(bytes: &[u8]) -> [u8; 32] {
    Sha256::digest(bytes).into()
}

/// RFC 7093 section 2 method 1: the leftmost 160 bits of SHA-256 over the key's bits.
pub(crate) fn key_identifier(key_bits: &[u8]) -> [u8; 20] {
    let mut identifier = [0; 20];
    for (to, from) in identifier.iter_mut().zip(sha256(key_bits)) {
        *to = from;
    }
    identifier
}

/// The SubjectPublicKeyInfo of a P-256 key: named curve, uncompressed point.
pub(crate) fn spki_der(key: &p256::PublicKey) -> Vec<u8> {
    let mut encoder = Encoder::with_capacity(91);
    encoder.nested(SEQUENCE, |info| {
        info.nested(SEQUENCE, |algorithm| {
            algorithm.primitive(OBJECT_IDENTIFIER, oid::EC_PUBLIC_KEY);
            algorithm.primitive(OBJECT_IDENTIFIER, oid::PRIME256V1);
        });
        info.nested(BIT_STRING, |bits| {
            bits.raw(&[0]);
            bits.raw(&key.to_sec1_bytes());
        });
    });
    encoder.finish()
}

/// The AlgorithmIdentifier of everything Mintmark signs (RFC 5758 section 3.2).
pub(crate) fn ecdsa_with_sha256(encoder: &mut Encoder) {
    encoder.nested(SEQUENCE, |algorithm| {
        algorithm.primitive(OBJECT_IDENTIFIER, oid::ECDSA_WITH_SHA256);
    });
}

/// Puts a to-be-signed part, the algorithm and the signature into one sequence: a certificate, a request or a CRL.
pub(crate) fn signed(to_be_signed: &[u8], signature: &Signature) -> Result<Vec<u8>, Error> {
    let mut outside = Elements::new(to_be_signed, 0);
    outside
        .take(SEQUENCE, "")
        .and_then(|_| outside.end(""))
        .map_err(|_| Error::ToBeSigned)?;
    let mut encoder = Encoder::with_capacity(to_be_signed.len() + 96);
    encoder.nested(SEQUENCE, |whole| {
        whole.raw(to_be_signed);
        ecdsa_with_sha256(whole);
        whole.nested(BIT_STRING, |bits| {
            bits.raw(&[0]);
            bits.raw(signature.to_der().as_bytes());
        });
    });
    Ok(encoder.finish())
}
