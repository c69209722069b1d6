//! What can be wrong with a request, a certificate, a CRL or a profile.

use std::fmt;

/// The kind of object that was being read when an [`Error`] arose.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Object {
    /// A PKCS#10 certification request (RFC 2986).
    Request,
    /// An X.509 certificate (RFC 5280 section 4).
    Certificate,
    /// An X.509 certificate revocation list (RFC 5280 section 5).
    Crl,
    /// The certificates with which an EST server answers (RFC 5272 section 4.1, RFC 7030 sections 4.1.3 and 4.2.3).
    CertsOnly,
    /// The attributes that an EST server asks for (RFC 7030 section 4.5.2).
    CsrAttributes,
}

impl fmt::Display for Object {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Request => "certification request",
            Self::Certificate => "certificate",
            Self::Crl => "certificate revocation list",
            Self::CertsOnly => "certs-only message",
            Self::CsrAttributes => "list of CSR attributes",
        })
    }
}

/// Every way in which this crate says no. Nothing here is about policy: a request that parses and proves possession of
/// its key may still be refused by the ledger.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The file has no content.
    #[error("the {object} is empty")]
    Empty {
        /// What was expected.
        object: Object,
    },
    /// The file or its decoded content is larger than anything of its kind.
    #[error("the {object} has {bytes} bytes, and at most {bytes_max} are read")]
    TooLarge {
        /// What was expected.
        object: Object,
        /// How large it is, in bytes.
        bytes: usize,
        /// The ceiling, in bytes.
        bytes_max: usize,
    },
    /// The content is something else.
    #[error("this is not a {object}: {found}")]
    Unexpected {
        /// What was expected.
        object: Object,
        /// What it is instead, as far as it can be told.
        found: String,
    },
    /// A PEM file with more than one block: which one is meant cannot be known.
    #[error("one {object} was expected, and the file has {count} PEM blocks: {labels}")]
    SeveralBlocks {
        /// What was expected.
        object: Object,
        /// How many blocks there are.
        count: usize,
        /// The labels of the first of them.
        labels: String,
    },
    /// The body of an HTTP message is not the base64 of anything.
    #[error("the body is not a {object} in base64 (at byte {position}): {reason}")]
    Base64 {
        /// What was expected.
        object: Object,
        /// Offset into the body, in bytes.
        position: usize,
        /// What is wrong there.
        reason: &'static str,
    },
    /// The content is not the DER (or PEM) of such an object.
    #[error("the {object} is malformed at byte {position}: {reason}")]
    Malformed {
        /// What was expected.
        object: Object,
        /// Offset in bytes: into the DER, or into the file while its PEM is read.
        position: usize,
        /// What is wrong there.
        reason: &'static str,
    },
    /// DER elements inside each other, deeper than any real object.
    #[error(
        "the {object} nests its elements more than {depth_max} deep (at byte {position} of the DER)"
    )]
    TooDeep {
        /// What was expected.
        object: Object,
        /// Offset of the first element that is too deep, in bytes.
        position: usize,
        /// The ceiling.
        depth_max: usize,
    },
    /// A public key of a kind, size or encoding that is not accepted.
    #[error("the key of the {object} is not supported: {found}")]
    KeyUnsupported {
        /// Whose key it is.
        object: Object,
        /// What was found.
        found: String,
    },
    /// A signature algorithm that is not accepted, or not with this key.
    #[error("the signature algorithm of the {object} is not accepted: {found}")]
    SignatureAlgorithm {
        /// Whose signature it is.
        object: Object,
        /// What was found.
        found: String,
    },
    /// The signature on a request, certificate or CRL does not verify. On a request that means that whoever made it
    /// has not proved to hold the private key.
    #[error("the signature of the {object} does not verify with the key of {by}")]
    SignatureInvalid {
        /// Whose signature it is.
        object: Object,
        /// Whose key should have verified it.
        by: &'static str,
    },
    /// A key algorithm's name is not known.
    #[error(
        "`{found}` is not a key algorithm; there are P-256, P-384, Ed25519, RSA-2048, RSA-3072, RSA-4096, RSA"
    )]
    KeyAlgorithmUnknown {
        /// The name as written.
        found: String,
    },
    /// The device's public key is not of the algorithm it is said to be.
    #[error("the device's key is {found}, and {stated} was stated")]
    KeyAlgorithmMismatch {
        /// What was stated.
        stated: crate::KeyAlgorithm,
        /// What the key is.
        found: crate::KeyAlgorithm,
    },
    /// A subject template that does not parse.
    #[error("the subject template is invalid at byte {position}: {reason}")]
    SubjectTemplate {
        /// Offset into the template, in bytes.
        position: usize,
        /// What is wrong there.
        reason: String,
    },
    /// A value that its attribute cannot hold.
    #[error("the subject's {attribute} {reason}")]
    SubjectValue {
        /// The attribute's name, such as `serialNumber`.
        attribute: &'static str,
        /// What is wrong with the value.
        reason: String,
    },
    /// An extended key usage that is neither a known name nor an object identifier.
    #[error("`{found}` is not an extended key usage: neither a known name nor a dotted OID")]
    ExtendedKeyUsageUnknown {
        /// As written.
        found: String,
    },
    /// One extended key usage named twice.
    #[error("the profile names the extended key usage {usage} twice")]
    ExtendedKeyUsageRepeated {
        /// The usage.
        usage: String,
    },
    /// A revocation reason that RFC 5280 does not know, or that a full CRL must not state.
    #[error("`{found}` is not a revocation reason")]
    CrlReasonUnknown {
        /// As written.
        found: String,
    },
    /// A name that no server has, or names that cannot stand in one certificate.
    #[error("`{found}` is not the name of a server: {reason}")]
    ServerName {
        /// The name as written.
        found: String,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// A serial number outside of RFC 5280 section 4.1.2.2.
    #[error("the serial number is invalid: {reason}")]
    Serial {
        /// What is wrong with it.
        reason: &'static str,
    },
    /// A time that a certificate or CRL cannot state, or times in the wrong order.
    #[error("the time is invalid: {reason}")]
    Time {
        /// What is wrong with it.
        reason: &'static str,
    },
    /// The same serial number twice in one CRL.
    #[error("the serial number {serial} is revoked twice")]
    RevokedTwice {
        /// The serial number in hexadecimal.
        serial: String,
    },
    /// A certificate that cannot issue others here.
    #[error("the certificate of {subject} cannot be an issuer: {reason}")]
    Issuer {
        /// Its subject.
        subject: String,
        /// What it lacks.
        reason: &'static str,
    },
    /// A certificate that the next one of its chain did not issue, or that may not stand where it stands.
    #[error("the chain of {subject} is broken: {reason}")]
    Chain {
        /// The subject of the certificate at fault.
        subject: String,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// A to-be-signed part that is not one whole DER sequence, or another breach of this crate's contract by its
    /// caller.
    #[error("what is to be signed is not one DER sequence")]
    ToBeSigned,
}

impl Error {
    /// A stable code for scripts and manuals.
    pub fn code(&self) -> &'static str {
        use Object::{Certificate, CertsOnly, Crl, CsrAttributes, Request};
        match self {
            Self::Empty { object: Request } => "CSR-EMPTY",
            Self::Empty {
                object: Certificate,
            } => "CERTIFICATE-EMPTY",
            Self::Empty { object: Crl } => "CRL-EMPTY",
            Self::Empty {
                object: CertsOnly | CsrAttributes,
            } => "EST-ANSWER-EMPTY",
            Self::TooLarge {
                object: Request, ..
            } => "CSR-TOO-LARGE",
            Self::TooLarge {
                object: Certificate,
                ..
            } => "CERTIFICATE-TOO-LARGE",
            Self::TooLarge { object: Crl, .. } => "CRL-TOO-LARGE",
            Self::TooLarge {
                object: CertsOnly | CsrAttributes,
                ..
            } => "EST-ANSWER-TOO-LARGE",
            Self::Unexpected {
                object: Request, ..
            } => "CSR-NOT-A-REQUEST",
            Self::Unexpected {
                object: Certificate,
                ..
            } => "CERTIFICATE-NOT-A-CERTIFICATE",
            Self::Unexpected { object: Crl, .. } => "CRL-NOT-A-CRL",
            Self::Unexpected {
                object: CertsOnly | CsrAttributes,
                ..
            } => "EST-ANSWER-UNEXPECTED",
            Self::SeveralBlocks {
                object: Request, ..
            } => "CSR-SEVERAL-BLOCKS",
            Self::SeveralBlocks {
                object: Certificate,
                ..
            } => "CERTIFICATE-SEVERAL-BLOCKS",
            Self::SeveralBlocks { object: Crl, .. } => "CRL-SEVERAL-BLOCKS",
            Self::SeveralBlocks {
                object: CertsOnly | CsrAttributes,
                ..
            } => "EST-ANSWER-UNEXPECTED",
            Self::Base64 { .. } => "EST-BODY-NOT-BASE64",
            Self::Malformed {
                object: Request, ..
            } => "CSR-MALFORMED",
            Self::Malformed {
                object: Certificate,
                ..
            } => "CERTIFICATE-MALFORMED",
            Self::Malformed { object: Crl, .. } => "CRL-MALFORMED",
            Self::Malformed {
                object: CertsOnly | CsrAttributes,
                ..
            } => "EST-ANSWER-MALFORMED",
            Self::TooDeep {
                object: Request, ..
            } => "CSR-TOO-DEEP",
            Self::TooDeep {
                object: Certificate,
                ..
            } => "CERTIFICATE-TOO-DEEP",
            Self::TooDeep { object: Crl, .. } => "CRL-TOO-DEEP",
            Self::TooDeep {
                object: CertsOnly | CsrAttributes,
                ..
            } => "EST-ANSWER-TOO-DEEP",
            Self::KeyUnsupported {
                object: Request, ..
            } => "CSR-KEY-UNSUPPORTED",
            Self::KeyUnsupported { .. } => "CERTIFICATE-KEY-UNSUPPORTED",
            Self::SignatureAlgorithm {
                object: Request, ..
            } => "CSR-SIGNATURE-ALGORITHM",
            Self::SignatureAlgorithm {
                object: Certificate,
                ..
            } => "CERTIFICATE-SIGNATURE-ALGORITHM",
            Self::SignatureAlgorithm { object: Crl, .. } => "CRL-SIGNATURE-ALGORITHM",
            Self::SignatureAlgorithm {
                object: CertsOnly | CsrAttributes,
                ..
            } => "EST-ANSWER-UNEXPECTED",
            Self::SignatureInvalid {
                object: Request, ..
            } => "CSR-PROOF-INVALID",
            Self::SignatureInvalid {
                object: Certificate,
                ..
            } => "CERTIFICATE-SIGNATURE-INVALID",
            Self::SignatureInvalid { object: Crl, .. } => "CRL-SIGNATURE-INVALID",
            Self::SignatureInvalid {
                object: CertsOnly | CsrAttributes,
                ..
            } => "EST-ANSWER-UNEXPECTED",
            Self::KeyAlgorithmUnknown { .. } => "KEY-ALGORITHM-UNKNOWN",
            Self::KeyAlgorithmMismatch { .. } => "KEY-ALGORITHM-MISMATCH",
            Self::SubjectTemplate { .. } => "SUBJECT-TEMPLATE-INVALID",
            Self::SubjectValue { .. } => "SUBJECT-VALUE-INVALID",
            Self::ExtendedKeyUsageUnknown { .. } => "EXTENDED-KEY-USAGE-UNKNOWN",
            Self::ExtendedKeyUsageRepeated { .. } => "EXTENDED-KEY-USAGE-REPEATED",
            Self::CrlReasonUnknown { .. } => "REVOCATION-REASON-UNKNOWN",
            Self::ServerName { .. } => "SERVER-NAME-INVALID",
            Self::Serial { .. } => "SERIAL-INVALID",
            Self::Time { .. } => "CERTIFICATE-TIME-INVALID",
            Self::RevokedTwice { .. } => "CRL-REVOKED-TWICE",
            Self::Issuer { .. } => "ISSUER-UNSUITABLE",
            Self::Chain { .. } => "CHAIN-INVALID",
            Self::ToBeSigned => "TO-BE-SIGNED-INVALID",
        }
    }

    /// What to do next, where something can be done.
    pub fn hint(&self) -> Option<&'static str> {
        use Object::{CertsOnly, CsrAttributes, Request};
        Some(match self {
            Self::Base64 { .. } => {
                "send DER in base64 (RFC 8951 section 3), as `openssl base64` writes it: neither DER itself, nor PEM with its BEGIN and END lines"
            }
            Self::Empty {
                object: CertsOnly | CsrAttributes,
            }
            | Self::TooLarge {
                object: CertsOnly | CsrAttributes,
                ..
            }
            | Self::Unexpected {
                object: CertsOnly | CsrAttributes,
                ..
            }
            | Self::Malformed {
                object: CertsOnly | CsrAttributes,
                ..
            }
            | Self::TooDeep {
                object: CertsOnly | CsrAttributes,
                ..
            } => {
                "check that the address is that of an EST service, and what stands between it and here"
            }
            Self::Empty { object: Request } => {
                "make the request again, for instance with `openssl req -new`"
            }
            Self::Empty { .. } => "copy the file again from where it was made",
            Self::TooLarge { .. } => {
                "check that the right file was given; nothing of this kind is that large"
            }
            Self::Unexpected {
                object: Request, ..
            } => {
                "give the PEM block BEGIN CERTIFICATE REQUEST or the DER of a PKCS#10 request, not a certificate or a key"
            }
            Self::Unexpected { .. } => "check that the right file was given",
            Self::SeveralBlocks { .. } => {
                "put each PEM block into a file of its own; a private key never leaves its device"
            }
            Self::Malformed {
                object: Request, ..
            }
            | Self::TooDeep {
                object: Request, ..
            } => {
                "the tool that wrote the request has a fault, or the file was damaged; `openssl req -verify -noout -in FILE` gives a second opinion"
            }
            Self::Malformed { .. } | Self::TooDeep { .. } => {
                "the file was damaged or changed; fetch it again from where it was made"
            }
            Self::KeyUnsupported {
                object: Request, ..
            } => {
                "make the device key P-256 (named curve, uncompressed point), P-384, Ed25519 or RSA of 2048 to 8192 bits"
            }
            Self::KeyUnsupported { .. } => "certificates that issue others here have P-256 keys",
            Self::SignatureAlgorithm {
                object: Request,
                found,
            } if found == crate::oid::RSASSA_PSS => {
                "RSASSA-PSS is not taken: sign the request with PKCS #1 v1.5 padding and SHA-2, which is what `openssl req -new -sha256` does of itself"
            }
            Self::SignatureAlgorithm {
                object: Request, ..
            } => {
                "sign the request with the SHA-2 algorithm of its own key, for instance `openssl req -new -sha256`"
            }
            Self::SignatureAlgorithm { .. } => {
                "Mintmark signs with ecdsa-with-SHA256 alone; check where this comes from"
            }
            Self::SignatureInvalid {
                object: Request, ..
            } => {
                "the request was changed after it was signed, or signed with another key than it names; make it again"
            }
            Self::SignatureInvalid { .. } => {
                "it was changed, or another key signed it; do not use it"
            }
            Self::KeyAlgorithmUnknown { .. } => "write the name as it is listed",
            Self::KeyAlgorithmMismatch { .. } => "state the algorithm of the key in the request",
            Self::SubjectTemplate { .. } => {
                "write it like \"O=Acme, OU=TH-200, serialNumber={device_id}\"; placeholders are {device_id}, {sku}, {site}"
            }
            Self::SubjectValue { .. } => {
                "change the subject template or the identifier that goes into it"
            }
            Self::ExtendedKeyUsageUnknown { .. } => {
                "use clientAuth, serverAuth, codeSigning, emailProtection, or an OID such as 1.3.6.1.4.1.311.10.3.12"
            }
            Self::ExtendedKeyUsageRepeated { .. } => "name each usage once",
            Self::CrlReasonUnknown { .. } => {
                "use keyCompromise, cACompromise, affiliationChanged, superseded, cessationOfOperation, certificateHold, privilegeWithdrawn or aACompromise, or none"
            }
            Self::ServerName { .. } => {
                "give each name by which stations reach the vault, once: a DNS name such as vault-1.factory.example, or an IP address"
            }
            Self::Serial { .. } => return None,
            Self::Time { .. } => {
                "certificates state times from 1970 to 9999; use no_expiry for a device that never expires"
            }
            Self::RevokedTwice { .. } => "revoke each serial number once",
            Self::Issuer { .. } => {
                "give the CA certificate that Mintmark made in its ceremony or enrolment"
            }
            Self::Chain { .. } => {
                "check that the certificates belong together: device, its vault's device CA, and that CA's root"
            }
            Self::ToBeSigned => return None,
        })
    }
}
