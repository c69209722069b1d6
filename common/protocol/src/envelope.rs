//! The COSE envelope that every message shares: its context header, its signatures, and [`Verified`].
//!
//! ```cddl
//! context-header = {
//!   ? 1: -7 / 3,                       ; ES256 in a COSE_Sign1, A256GCM in a COSE_Encrypt; absent in a COSE_Sign
//!   3: tstr,                           ; content type
//!   ? 4: key-id,                       ; who signed, in a COSE_Sign1
//!   ? 33: der,                         ; the signer's certificate (RFC 9360), in a device secret
//!   -65537: context,
//! }
//! context = {
//!   1: 1,                              ; format version
//!   2: message-type,
//!   3: party,                          ; sender
//!   4: party,                          ; recipient
//!   5: object-id,                      ; equal to the id that the content implies; the rules for each message say how
//!   ? 6: digest,                       ; commitment; see section 4
//! }
//! message-type = "trust-manifest" / "officer-request" / "enrolment-request" / "enrolment-grant" / "entitlement"
//!   / "revocation" / "clock-correction" / "re-anchor" / "acknowledgement" / "dispatch" / "audit-bundle" / "audit-segment"
//!   / "key-delivery" / "device-secret" / "restore-declaration" / "log-tail" / "dossier" / "status" / "report"
//!   / "audit-grant" / "backup" / "transcript"
//! party = "hq" / "all" / "device" / "auditor" / vault-party / officer-party
//! ```
//!
//! Unprotected headers are empty (COSE_Sign, COSE_Sign1) or hold exactly what RFC 9053 puts there (COSE_Encrypt): what
//! nobody signed can carry nothing.

use std::fmt;
use std::str::FromStr;

use ciborium::Value;
use coset::{
    CborSerializable as _, CoseSign1, Header, ProtectedHeader, TaggedCborSerializable as _,
};
use p256::PublicKey;
use p256::ecdsa::Signature;

use crate::cbor::{self, Fields, Map};
use crate::identifier::{Fingerprint, KeyId, OfficerId, SiteId, VaultId, VaultName};
use crate::key::thumbprint;
use crate::{Error, KeyFailure};

/// The private-use header label of the context (RFC 9052 section 11.1: below -65536).
pub const CONTEXT_LABEL: i64 = -65537;
/// ES256 (RFC 9053 section 2.1).
pub(crate) const ES256: i64 = -7;
/// The header label of a certificate chain (RFC 9360 section 2).
const X5CHAIN: i64 = 33;
/// The header label of a type (RFC 9596 section 2).
pub(crate) const TYPE_LABEL: i64 = 16;
/// The header labels of the format: algorithm, content type, key id, IV, type, certificate chain, ephemeral key, context.
const LABELS: [i64; 8] = [1, 3, 4, 5, TYPE_LABEL, X5CHAIN, -1, CONTEXT_LABEL];
/// The largest protected header, in bytes.
const HEADER_BYTES_MAX: usize = 4096;
/// The content type of a payload that is itself a COSE_Encrypt (RFC 9052 section 2).
const ENCRYPTED: &str = "application/cose; cose-type=\"cose-encrypt\"";

/// Signs bytes with a P-256 key that the caller holds: ES256 over the message, as `r || s`.
pub type Sign<'a> = &'a dyn Fn(&[u8]) -> Result<Signature, KeyFailure>;

/// The type of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    /// Who may sign what.
    TrustManifest,
    /// An officer's keys, on their way to HQ.
    OfficerRequest,
    /// A new vault's keys and facts.
    EnrolmentRequest,
    /// Officers let a vault in.
    EnrolmentGrant,
    /// Officers say what a vault may make.
    Entitlement,
    /// Officers end an entitlement, a vault's making of devices, or a device CA.
    Revocation,
    /// Officers set the newest time of a vault's log.
    ClockCorrection,
    /// Officers state the head of a vault's log.
    Reanchor,
    /// HQ says what it holds.
    Acknowledgement,
    /// The wrapper of whatever HQ sends to a vault.
    Dispatch,
    /// What a vault reports.
    AuditBundle,
    /// One part of what a vault reports.
    AuditSegment,
    /// A symmetric key for a vault's token, inside an entitlement.
    KeyDelivery,
    /// A secret for one device, encrypted to the device's own key.
    DeviceSecret,
    /// A vault says that its home folder was put back from an older copy.
    RestoreDeclaration,
    /// HQ sends back what a restored vault has lost of its log.
    LogTail,
    /// Everything about one device.
    Dossier,
    /// Which certificates HQ accounts for.
    Status,
    /// What HQ showed of its books.
    Report,
    /// What HQ gives to an auditor.
    AuditGrant,
    /// What was sealed of a home.
    Backup,
    /// What was done in a ceremony.
    Transcript,
}

impl Kind {
    const ALL: [Self; 22] = [
        Self::TrustManifest,
        Self::OfficerRequest,
        Self::EnrolmentRequest,
        Self::EnrolmentGrant,
        Self::Entitlement,
        Self::Revocation,
        Self::ClockCorrection,
        Self::Reanchor,
        Self::Acknowledgement,
        Self::Dispatch,
        Self::AuditBundle,
        Self::AuditSegment,
        Self::KeyDelivery,
        Self::DeviceSecret,
        Self::RestoreDeclaration,
        Self::LogTail,
        Self::Dossier,
        Self::Status,
        Self::Report,
        Self::AuditGrant,
        Self::Backup,
        Self::Transcript,
    ];

    /// Its name in headers, logs and `--json`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::TrustManifest => "trust-manifest",
            Self::OfficerRequest => "officer-request",
            Self::EnrolmentRequest => "enrolment-request",
            Self::EnrolmentGrant => "enrolment-grant",
            Self::Entitlement => "entitlement",
            Self::Revocation => "revocation",
            Self::ClockCorrection => "clock-correction",
            Self::Reanchor => "re-anchor",
            Self::Acknowledgement => "acknowledgement",
            Self::Dispatch => "dispatch",
            Self::AuditBundle => "audit-bundle",
            Self::AuditSegment => "audit-segment",
            Self::KeyDelivery => "key-delivery",
            Self::DeviceSecret => "device-secret",
            Self::RestoreDeclaration => "restore-declaration",
            Self::LogTail => "log-tail",
            Self::Dossier => "dossier",
            Self::Status => "status",
            Self::Report => "report",
            Self::AuditGrant => "audit-grant",
            Self::Backup => "backup",
            Self::Transcript => "transcript",
        }
    }

    /// Whether what is signed is a COSE_Encrypt.
    pub fn is_encrypted(self) -> bool {
        matches!(
            self,
            Self::EnrolmentGrant
                | Self::Entitlement
                | Self::Revocation
                | Self::ClockCorrection
                | Self::Reanchor
                | Self::Acknowledgement
                | Self::DeviceSecret
                | Self::LogTail
                | Self::AuditGrant
        )
    }

    pub(crate) fn content_type(self) -> String {
        format!("application/vnd.mintmark.{}+cbor", self.as_str())
    }

    /// The content type of the signed payload.
    fn signed_content_type(self) -> String {
        if self.is_encrypted() {
            ENCRYPTED.to_owned()
        } else {
            self.content_type()
        }
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for Kind {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        Self::ALL
            .into_iter()
            .find(|kind| kind.as_str() == text)
            .ok_or_else(|| format!("unknown message type `{}`", text.escape_default()))
    }
}

/// Who a message is from, or for.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Party {
    /// Headquarters.
    Hq,
    /// Whoever pins the trust of this HQ.
    All,
    /// One vault.
    Vault(VaultName),
    /// One officer.
    Officer(OfficerId),
    /// The device whose key the message is encrypted to.
    Device,
    /// The auditor whose key the message is encrypted to.
    Auditor,
}

impl fmt::Display for Party {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Hq => f.write_str("hq"),
            Self::All => f.write_str("all"),
            Self::Vault(name) => write!(f, "vault:{name}"),
            Self::Officer(id) => write!(f, "officer:{id}"),
            Self::Device => f.write_str("device"),
            Self::Auditor => f.write_str("auditor"),
        }
    }
}

impl FromStr for Party {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || format!("`{}` names no party", text.escape_default());
        match text {
            "hq" => return Ok(Self::Hq),
            "all" => return Ok(Self::All),
            "device" => return Ok(Self::Device),
            "auditor" => return Ok(Self::Auditor),
            _ => {}
        }
        if let Some(name) = text.strip_prefix("vault:") {
            let (site, vault) = name.split_once('/').ok_or_else(wrong)?;
            let site = SiteId::from_str(site).map_err(|_| wrong())?;
            let vault = VaultId::from_str(vault).map_err(|_| wrong())?;
            return Ok(Self::Vault(VaultName { site, vault }));
        }
        let id = text.strip_prefix("officer:").ok_or_else(wrong)?;
        OfficerId::from_str(id)
            .map(Self::Officer)
            .map_err(|_| wrong())
    }
}

/// What a message says of itself in its protected header.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Context {
    /// Its type.
    pub kind: Kind,
    /// Who made it.
    pub sender: Party,
    /// Whom it is for.
    pub recipient: Party,
    /// Its name among those of its type, `[a-z0-9-]{1,64}`.
    pub id: String,
    /// SHA-256 of the plaintext, in the signed header of an encrypted message.
    pub commitment: Option<Fingerprint>,
}

impl Context {
    fn to_map(&self) -> Map {
        Map::new()
            .with(1, crate::FORMAT_VERSION)
            .with(2, self.kind.as_str())
            .with(3, self.sender.to_string())
            .with(4, self.recipient.to_string())
            .with(5, self.id.as_str())
            .with_some(6, self.commitment.map(|digest| digest.as_bytes().to_vec()))
    }

    fn from_fields(what: &'static str, mut fields: Fields) -> Result<Self, Error> {
        fields.format_version(1)?;
        let kind = fields.parse(2)?;
        let (sender, recipient) = (fields.parse(3)?, fields.parse(4)?);
        let id: crate::identifier::ObjectId = fields.parse(5)?;
        let commitment = match fields.optional(6) {
            None => None,
            Some(value) => {
                let bytes = value
                    .into_bytes()
                    .map_err(|_| fields.wrong(6, "not a byte string"))?;
                Some(Fingerprint::try_from(bytes.as_slice())?)
            }
        };
        fields.finish().map_err(|error| match error {
            Error::Shape { why, .. } => Error::Header { what, why },
            other => other,
        })?;
        Ok(Self {
            kind,
            sender,
            recipient,
            id: id.as_str().to_owned(),
            commitment,
        })
    }

    /// Checks that this is a message of type `kind` from `sender` to `recipient`.
    ///
    /// # Errors
    /// [`Error::WrongType`] and [`Error::WrongParty`].
    pub fn expect(
        &self,
        what: &'static str,
        kind: Kind,
        sender: &Party,
        recipient: &Party,
    ) -> Result<(), Error> {
        if self.kind != kind {
            let (expected, found) = (kind.to_string(), self.kind.to_string());
            return Err(Error::WrongType { expected, found });
        }
        for (role, expected, found) in [
            ("sender", sender, &self.sender),
            ("recipient", recipient, &self.recipient),
        ] {
            if expected != found {
                let (expected, found) = (expected.to_string(), found.to_string());
                return Err(Error::WrongParty {
                    what,
                    role,
                    expected,
                    found,
                });
            }
        }
        Ok(())
    }

    /// Checks that an inner context is that of the outer one, which alone carries the commitment.
    pub(crate) fn expect_inner(&self, what: &'static str, inner: &Self) -> Result<(), Error> {
        let bare = Self {
            commitment: None,
            ..self.clone()
        };
        if *inner == bare {
            Ok(())
        } else {
            Err(Error::PartsDiffer {
                what,
                why: "the signed and the encrypted header differ",
            })
        }
    }
}

/// The protected header of a signed body or an encryption, as bytes.
pub(crate) fn encode_header(
    context: &Context,
    algorithm: Option<i64>,
    key: Option<&KeyId>,
    encryption: bool,
) -> Vec<u8> {
    header_map(context, algorithm, key, encryption).encode()
}

fn header_map(
    context: &Context,
    algorithm: Option<i64>,
    key: Option<&KeyId>,
    encryption: bool,
) -> Map {
    let content_type = if encryption {
        context.kind.content_type()
    } else {
        context.kind.signed_content_type()
    };
    Map::new()
        .with_some(1, algorithm)
        .with(3, content_type)
        .with_some(4, key.map(|key| key.as_bytes().to_vec()))
        .with(CONTEXT_LABEL, context.to_map())
}

/// What a protected header holds.
pub(crate) struct ReadHeader {
    pub(crate) context: Context,
    pub(crate) key: Option<KeyId>,
    /// The signer's certificate, DER: in a device secret alone, whose reader knows nothing but a root.
    pub(crate) certificate: Option<Vec<u8>>,
}

/// Reads a protected header: exactly the labels of its place, nothing critical, nothing unknown.
pub(crate) fn decode_header(
    what: &'static str,
    bytes: &[u8],
    algorithm: Option<i64>,
    has_key: bool,
    encryption: bool,
) -> Result<ReadHeader, Error> {
    let header = |error| match error {
        Error::Shape { why, .. } => Error::Header { what, why },
        other => other,
    };
    let mut fields = Fields::decode(what, bytes, HEADER_BYTES_MAX).map_err(header)?;
    if let Some(algorithm) = algorithm {
        let found = fields.required(1).map_err(header)?;
        if found.as_integer() != Some(algorithm.into()) {
            return Err(Error::Algorithm { what });
        }
    }
    let content_type = fields.text(3).map_err(header)?;
    let key = if has_key {
        Some(fields.octets(4).map_err(header)?)
    } else {
        None
    };
    let certificate = match fields.optional(X5CHAIN) {
        None => None,
        Some(value) => Some(value.into_bytes().map_err(|_| Error::Header {
            what,
            why: "a certificate chain is one certificate".to_owned(),
        })?),
    };
    let context = fields
        .map(CONTEXT_LABEL, "message context")
        .map_err(header)?;
    let context = Context::from_fields(what, context)?;
    fields.finish().map_err(header)?;
    let expected = if encryption {
        context.kind.content_type()
    } else {
        context.kind.signed_content_type()
    };
    if content_type != expected {
        return Err(Error::WrongType {
            expected,
            found: content_type,
        });
    }
    if context.commitment.is_some() != (context.kind.is_encrypted() && !encryption) {
        return Err(Error::Header {
            what,
            why: "commitment and encryption do not match".to_owned(),
        });
    }
    if certificate.is_some() != (context.kind == Kind::DeviceSecret && !encryption) {
        return Err(Error::Header {
            what,
            why: "a certificate goes with a device secret, and with nothing else".to_owned(),
        });
    }
    Ok(ReadHeader {
        context,
        key,
        certificate,
    })
}

/// A protected header from bytes that we made or have read strictly.
pub(crate) fn protected(bytes: Vec<u8>) -> ProtectedHeader {
    ProtectedHeader {
        original_data: Some(bytes),
        header: Header::default(),
    }
}

/// The bytes of a protected header as they were received.
pub(crate) fn as_received<'a>(
    what: &'static str,
    header: &'a ProtectedHeader,
) -> Result<&'a [u8], Error> {
    header
        .original_data
        .as_deref()
        .ok_or_else(|| Error::Header {
            what,
            why: "a protected header is missing".to_owned(),
        })
}

/// Refuses anything in an unprotected header that has no business there.
pub(crate) fn expect_empty(what: &'static str, header: &Header) -> Result<(), Error> {
    if *header == Header::default() {
        Ok(())
    } else {
        Err(Error::Header {
            what,
            why: "the unprotected header is not empty".to_owned(),
        })
    }
}

/// The first byte or two of a tagged COSE message: 0xd2 (tag 18), 0xd8 0x60 (96), 0xd8 0x62 (98).
pub(crate) fn expect_tag(what: &'static str, bytes: &[u8], tag: &[u8]) -> Result<(), Error> {
    if bytes.starts_with(tag) {
        Ok(())
    } else {
        Err(Error::Shape {
            what,
            why: "it is not the COSE structure that its type has".to_owned(),
        })
    }
}

/// The tag of COSE_Sign1, encoded.
pub(crate) const TAG_SIGN1: &[u8] = &[0xd2];
/// The tag of COSE_Encrypt, encoded.
pub(crate) const TAG_ENCRYPT: &[u8] = &[0xd8, 0x60];
/// The tag of COSE_Sign, encoded.
pub(crate) const TAG_SIGN: &[u8] = &[0xd8, 0x62];

/// Content whose every check has passed. Only the `open` functions of this crate make one.
#[derive(Clone, Debug)]
pub struct Verified<T> {
    content: T,
    fingerprint: Fingerprint,
    plaintext: Vec<u8>,
    officers: Vec<OfficerId>,
}

impl<T> Verified<T> {
    pub(crate) fn new(
        content: T,
        fingerprint: Fingerprint,
        plaintext: Vec<u8>,
        officers: Vec<OfficerId>,
    ) -> Self {
        Self {
            content,
            fingerprint,
            plaintext,
            officers,
        }
    }

    /// The content.
    pub fn content(&self) -> &T {
        &self.content
    }

    /// The content, alone.
    pub fn into_content(self) -> T {
        self.content
    }

    /// SHA-256 of the signed payload.
    pub fn fingerprint(&self) -> Fingerprint {
        self.fingerprint
    }

    /// The bytes that the content was read from: the decrypted plaintext, or the bare payload.
    pub fn plaintext(&self) -> &[u8] {
        &self.plaintext
    }

    /// The officers whose approvals it bears, in order of their ids; empty where one key signs alone.
    pub fn officers(&self) -> &[OfficerId] {
        &self.officers
    }
}

/// What a message says of itself, believed by nobody yet: enough to know whom to ask about it.
#[derive(Clone, Debug)]
pub struct Claim {
    /// Its context header.
    pub context: Context,
    /// SHA-256 of its payload.
    pub fingerprint: Fingerprint,
}

/// Reads what a COSE_Sign or COSE_Sign1 message claims to be, after the strict reader, before any verification.
///
/// # Errors
/// As the strict reader and the header reader.
pub fn claim(bytes: &[u8], bytes_max: usize) -> Result<Claim, Error> {
    let what = "message";
    if bytes.starts_with(TAG_SIGN) {
        let proposal = crate::approval::Proposal::read(bytes, bytes_max)?;
        return Ok(Claim {
            context: proposal.context().clone(),
            fingerprint: proposal.fingerprint(),
        });
    }
    let message = SignedOne::read(what, bytes, bytes_max)?;
    Ok(Claim {
        fingerprint: message.fingerprint(),
        context: message.context,
    })
}

/// A COSE_Sign1 that was read strictly and not verified.
pub(crate) struct SignedOne {
    pub(crate) context: Context,
    pub(crate) certificate: Option<Vec<u8>>,
    key: KeyId,
    cose: CoseSign1,
    what: &'static str,
}

impl SignedOne {
    /// Reads a tagged COSE_Sign1.
    pub(crate) fn read(what: &'static str, bytes: &[u8], bytes_max: usize) -> Result<Self, Error> {
        check(what, bytes, bytes_max)?;
        expect_tag(what, bytes, TAG_SIGN1)?;
        let cose = CoseSign1::from_tagged_slice(bytes).map_err(|error| not_cose(what, &error))?;
        expect_empty(what, &cose.unprotected)?;
        let header = decode_header(
            what,
            as_received(what, &cose.protected)?,
            Some(ES256),
            true,
            false,
        )?;
        let key = header.key.ok_or(Error::Header {
            what,
            why: "no key id".to_owned(),
        })?;
        if cose.payload.is_none() {
            return Err(Error::Shape {
                what,
                why: "the payload is detached".to_owned(),
            });
        }
        Ok(Self {
            context: header.context,
            certificate: header.certificate,
            key,
            cose,
            what,
        })
    }

    pub(crate) fn payload(&self) -> &[u8] {
        self.cose.payload.as_deref().unwrap_or_default()
    }

    pub(crate) fn fingerprint(&self) -> Fingerprint {
        Fingerprint::of(self.payload())
    }

    /// Verifies it against the one key that may have signed it.
    pub(crate) fn verify(&self, key: &PublicKey) -> Result<(), Error> {
        if thumbprint(key) != self.key {
            return Err(Error::SignerUnknown {
                what: self.what,
                key: self.key.to_string(),
            });
        }
        verify_es256(
            self.what,
            key,
            &self.cose.tbs_data(&[]),
            &self.cose.signature,
        )
    }
}

/// The strict reader, before any library sees the bytes.
pub(crate) fn check(what: &'static str, bytes: &[u8], bytes_max: usize) -> Result<(), Error> {
    match cbor::decode(what, bytes, bytes_max)? {
        Value::Tag(_, message) => check_headers(what, &message),
        message => check_headers(what, &message),
    }
}

/// Refuses every header label that is not of the format, at every level of a COSE structure. Counter-signatures hold
/// protected headers that hold counter-signatures: byte strings in byte strings, which the strict reader does not look
/// into and which coset follows without limit.
fn check_headers(what: &'static str, structure: &Value) -> Result<(), Error> {
    let Value::Array(parts) = structure else {
        return Ok(()); // coset refuses it
    };
    if let Some(Value::Bytes(protected)) = parts.first()
        && !protected.is_empty()
    {
        check_labels(what, &cbor::decode(what, protected, HEADER_BYTES_MAX)?)?;
    }
    if let Some(unprotected) = parts.get(1) {
        check_labels(what, unprotected)?;
    }
    // Signatures and recipients; recipients of recipients. The strict reader has bounded the depth.
    for inner in parts.iter().skip(3).filter_map(Value::as_array).flatten() {
        check_headers(what, inner)?;
    }
    Ok(())
}

fn check_labels(what: &'static str, header: &Value) -> Result<(), Error> {
    for (label, _) in header.as_map().into_iter().flatten() {
        let known = label
            .as_integer()
            .is_some_and(|label| LABELS.iter().any(|known| label == (*known).into()));
        if !known {
            return Err(Error::Header {
                what,
                why: "a header parameter that the format does not have".to_owned(),
            });
        }
    }
    Ok(())
}

pub(crate) fn not_cose(what: &'static str, error: &coset::CoseError) -> Error {
    Error::Shape {
        what,
        why: format!("not the COSE structure expected: {error}"),
    }
}

/// Verifies an ES256 signature over `message` (RFC 9053 section 2.1).
pub(crate) fn verify_es256(
    what: &'static str,
    key: &PublicKey,
    message: &[u8],
    signature: &[u8],
) -> Result<(), Error> {
    use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED, UnparsedPublicKey};
    let point = key.to_sec1_bytes();
    UnparsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, &point)
        .verify(message, signature)
        .map_err(|_| Error::SignatureInvalid { what })
}

/// Makes a tagged COSE_Sign1.
pub(crate) fn sign_one(
    context: &Context,
    payload: Vec<u8>,
    key: &PublicKey,
    sign: Sign<'_>,
) -> Result<Vec<u8>, Error> {
    sign_with_certificate(context, payload, key, None, sign)
}

/// Makes a tagged COSE_Sign1 that carries its signer's certificate (DER).
pub(crate) fn sign_with_certificate(
    context: &Context,
    payload: Vec<u8>,
    key: &PublicKey,
    certificate: Option<&[u8]>,
    sign: Sign<'_>,
) -> Result<Vec<u8>, Error> {
    let header = header_map(context, Some(ES256), Some(&thumbprint(key)), false)
        .with_some(X5CHAIN, certificate.map(<[u8]>::to_vec))
        .encode();
    let mut cose = CoseSign1 {
        protected: protected(header),
        payload: Some(payload),
        ..CoseSign1::default()
    };
    let signature = sign(&cose.tbs_data(&[])).map_err(Error::KeyOperation)?;
    cose.signature = signature.to_bytes().to_vec();
    tagged("message", cose.to_tagged_vec())
}

/// What a coset writer returned; it fails only where a value has no encoding, which ours all have.
pub(crate) fn tagged(
    what: &'static str,
    written: Result<Vec<u8>, coset::CoseError>,
) -> Result<Vec<u8>, Error> {
    written.map_err(|error| not_cose(what, &error))
}

/// A header that holds an IV, for the unprotected bucket of a COSE_Encrypt.
pub(crate) fn read_iv(what: &'static str, header: &Header) -> Result<[u8; 12], Error> {
    let iv: [u8; 12] = header.iv.as_slice().try_into().map_err(|_| Error::Header {
        what,
        why: "the IV is not 12 bytes long".to_owned(),
    })?;
    let only_iv = Header {
        iv: header.iv.clone(),
        ..Header::default()
    };
    if *header != only_iv {
        let why = "the unprotected header holds more than an IV".to_owned();
        return Err(Error::Header { what, why });
    }
    Ok(iv)
}

/// A header as CBOR, for comparison with what we would write.
pub(crate) fn header_bytes(header: &Header) -> Vec<u8> {
    header.clone().to_vec().unwrap_or_default()
}
