//! Why a message was not believed.

use crate::cbor::Rule;

/// What a private-key operation, done by the caller for us, failed with.
pub type KeyFailure = Box<dyn std::error::Error + Send + Sync>;

/// The article that a noun has: an entitlement id, a SKU.
fn article(noun: &str) -> &'static str {
    if noun.starts_with(['a', 'e', 'i', 'o', 'u']) {
        "an"
    } else {
        "a"
    }
}

/// Why a message could not be read, verified or made. Every variant has a stable code.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// Text that is no identifier of its kind.
    #[error("`{found}` is not {} {what}: it must match {alphabet}", article(what))]
    Identifier {
        /// The kind of identifier.
        what: &'static str,
        /// What it may be made of.
        alphabet: &'static str,
        /// The text, made harmless.
        found: String,
    },
    /// Bytes of the wrong length for their type.
    #[error("{what} must be {bytes_expected} bytes long, not {bytes_found}")]
    Length {
        /// The type.
        what: &'static str,
        /// How many bytes it has.
        bytes_expected: usize,
        /// How many there were.
        bytes_found: usize,
    },
    /// Text that is not the hexadecimal form of its type.
    #[error("{what} must be {digits_expected} hexadecimal digits")]
    Hex {
        /// The type.
        what: &'static str,
        /// How many digits it has.
        digits_expected: usize,
    },
    /// Bytes that are not deterministic CBOR.
    #[error("{what} is not a well-formed message: {} (at byte {offset})", rule.phrase())]
    Encoding {
        /// What was being read.
        what: &'static str,
        /// Where.
        offset: usize,
        /// The rule that was broken.
        rule: Rule,
    },
    /// Well-formed CBOR of another shape than the specification's.
    #[error("{what} does not have the form that formats.cddl gives it: {why}")]
    Shape {
        /// What was being read.
        what: &'static str,
        /// How it differs.
        why: String,
    },
    /// More bytes than the ceiling for their kind.
    #[error("{what} is larger than {bytes_max} bytes")]
    Oversize {
        /// What was being read.
        what: &'static str,
        /// The ceiling.
        bytes_max: usize,
    },
    /// A format version that this program does not know.
    #[error(
        "{what} has format version {found}; this program reads version {}",
        crate::FORMAT_VERSION
    )]
    FormatVersion {
        /// What was being read.
        what: &'static str,
        /// The version it states.
        found: u64,
    },
    /// A COSE header that this program does not process, or one in the wrong place.
    #[error("{what} has a COSE header that is not allowed: {why}")]
    Header {
        /// What was being read.
        what: &'static str,
        /// Which header, and what is wrong with it.
        why: String,
    },
    /// An algorithm that is not the one the format fixes.
    #[error("{what} uses a COSE algorithm that is not allowed here")]
    Algorithm {
        /// What was being read.
        what: &'static str,
    },
    /// An authentic or unauthentic message of another type than asked for.
    #[error("this is a message of type `{found}`, not `{expected}`")]
    WrongType {
        /// The type that was expected.
        expected: String,
        /// The type that it states.
        found: String,
    },
    /// Sender or recipient are not the ones expected.
    #[error("{what} names `{found}` as its {role}, not `{expected}`")]
    WrongParty {
        /// What was being read.
        what: &'static str,
        /// `sender` or `recipient`.
        role: &'static str,
        /// Who was expected.
        expected: String,
        /// Who it names.
        found: String,
    },
    /// Two places of one message name different ids, types or parties.
    #[error("the parts of {what} do not belong together: {why}")]
    PartsDiffer {
        /// What was being read.
        what: &'static str,
        /// Which parts.
        why: &'static str,
    },
    /// A signature that does not verify.
    #[error("a signature on {what} is invalid")]
    SignatureInvalid {
        /// What was being verified.
        what: &'static str,
    },
    /// What should be a draft does not bear headquarters' signature.
    #[error("this is not a draft as headquarters wrote it: its dispatch key has not signed it")]
    DraftUnsigned,
    /// A signature by a key that may not sign this.
    #[error("{what} is signed by a key that may not sign it ({key})")]
    SignerUnknown {
        /// What was being verified.
        what: &'static str,
        /// The key id that it names.
        key: String,
    },
    /// One officer twice in one object.
    #[error("officer `{officer}` has signed {what} twice; an officer counts once")]
    SignerDuplicate {
        /// What was being verified.
        what: &'static str,
        /// Who.
        officer: String,
    },
    /// An officer who does not hold the role that this needs.
    #[error("officer `{officer}` signed {what} without holding the role `{role}`")]
    SignerRole {
        /// What was being verified.
        what: &'static str,
        /// Who.
        officer: String,
        /// The role it needs.
        role: &'static str,
    },
    /// Fewer officers than the trust manifest demands.
    #[error("{what} has {approved} of the {threshold} officer approvals that role `{role}` needs")]
    Threshold {
        /// What was being verified.
        what: &'static str,
        /// The role.
        role: &'static str,
        /// How many officers it needs.
        threshold: u64,
        /// How many signed.
        approved: u64,
    },
    /// None of the recipients is the key that we hold.
    #[error("{what} is not encrypted to this key")]
    NotRecipient {
        /// What was being opened.
        what: &'static str,
    },
    /// The ciphertext or a wrapped key does not authenticate.
    #[error("{what} cannot be decrypted: its ciphertext is not what was encrypted for this key")]
    Decryption {
        /// What was being opened.
        what: &'static str,
    },
    /// The plaintext is not the one that the signers committed to.
    #[error("the decrypted content of {what} is not what its signers committed to")]
    Commitment {
        /// What was being opened.
        what: &'static str,
    },
    /// A fingerprint that a person compared is another.
    #[error("{what} has fingerprint {found}, not {expected}")]
    FingerprintMismatch {
        /// What was being opened.
        what: &'static str,
        /// The fingerprint that was given.
        expected: String,
        /// The fingerprint that it has.
        found: String,
    },
    /// A trust manifest that does not follow the one before.
    #[error("trust manifest {version} does not follow the one that is pinned: {why}")]
    TrustSuccession {
        /// Its version.
        version: u64,
        /// What does not fit.
        why: &'static str,
    },
    /// A trust manifest that bears a signature which only the one before it could explain.
    #[error(
        "the trust manifest is signed by a key that it does not list ({key}), and the one that it follows is not beside it ({file})"
    )]
    TrustBeforeMissing {
        /// The name of the file in which the one before travels.
        file: String,
        /// The key id that it names.
        key: String,
    },
    /// What is beside a trust manifest as the one before it is not that one, or not whole.
    #[error("{file}, beside it, is not the trust manifest that it follows, or damaged: {error}")]
    TrustBefore {
        /// Its name.
        file: String,
        /// What is wrong with it.
        error: Box<Error>,
    },
    /// A time outside the message's own validity.
    #[error("{what} expired at {expired_unix} (Unix seconds)")]
    Expired {
        /// What was being verified.
        what: &'static str,
        /// When, in Unix seconds.
        expired_unix: u64,
    },
    /// A point that is not on P-256, or a private-key operation that failed.
    #[error("a key in {what} is not a P-256 public key")]
    Key {
        /// What was being read.
        what: &'static str,
    },
    /// The caller's key operation failed: not the message's fault.
    #[error("the key operation failed: {0}")]
    KeyOperation(#[source] KeyFailure),
    /// The system gave no randomness.
    #[error("the system's random number generator failed")]
    Random,
}

impl Error {
    /// The stable code that people, logs and tests know this by.
    pub fn code(&self) -> &'static str {
        match self {
            Self::Identifier { .. } => "IDENTIFIER-INVALID",
            Self::Length { .. } | Self::Shape { .. } => "MESSAGE-SHAPE",
            Self::Hex { .. } => "FINGERPRINT-INVALID",
            Self::Encoding { .. } => "MESSAGE-ENCODING",
            Self::Oversize { .. } => "MESSAGE-OVERSIZE",
            Self::FormatVersion { .. } => "MESSAGE-VERSION",
            Self::Header { .. } => "MESSAGE-HEADER",
            Self::Algorithm { .. } => "MESSAGE-ALGORITHM",
            Self::WrongType { .. } => "MESSAGE-TYPE",
            Self::WrongParty { .. } => "MESSAGE-ADDRESS",
            Self::PartsDiffer { .. } => "MESSAGE-PARTS",
            Self::SignatureInvalid { .. } => "SIGNATURE-INVALID",
            Self::DraftUnsigned => "DRAFT-UNSIGNED",
            Self::SignerUnknown { .. } | Self::TrustBeforeMissing { .. } => "SIGNER-UNKNOWN",
            Self::SignerDuplicate { .. } => "SIGNER-DUPLICATE",
            Self::SignerRole { .. } => "SIGNER-ROLE",
            Self::Threshold { .. } => "THRESHOLD-NOT-MET",
            Self::NotRecipient { .. } => "NOT-RECIPIENT",
            Self::Decryption { .. } => "DECRYPTION-FAILED",
            Self::Commitment { .. } => "COMMITMENT-MISMATCH",
            Self::FingerprintMismatch { .. } => "FINGERPRINT-MISMATCH",
            Self::TrustSuccession { .. } => "TRUST-SUCCESSION",
            Self::TrustBefore { error, .. } => error.code(),
            Self::Expired { .. } => "MESSAGE-EXPIRED",
            Self::Key { .. } => "MESSAGE-KEY",
            Self::KeyOperation(_) => "KEY-OPERATION",
            Self::Random => "RANDOM",
        }
    }

    /// What to do next.
    pub fn hint(&self) -> &'static str {
        match self {
            Self::Identifier { .. } => "choose a name within that alphabet",
            Self::Hex { .. } => "copy the fingerprint whole, as it was read out or printed",
            Self::Length { .. }
            | Self::Shape { .. }
            | Self::Encoding { .. }
            | Self::Oversize { .. }
            | Self::Header { .. }
            | Self::Algorithm { .. }
            | Self::Decryption { .. } => {
                "the file is damaged or was not made by Mintmark; have it exported again"
            }
            Self::FormatVersion { .. } => "update this program, then import the file again",
            Self::WrongType { .. } => "give the file that this command asks for",
            Self::WrongParty { .. } | Self::NotRecipient { .. } => {
                "the file is meant for somebody else; check which stick and which home this is"
            }
            Self::PartsDiffer { .. } | Self::Commitment { .. } => {
                "somebody put this together from parts; keep the file as evidence and tell your security officer"
            }
            Self::SignatureInvalid { .. }
            | Self::SignerUnknown { .. }
            | Self::SignerDuplicate { .. }
            | Self::SignerRole { .. } => {
                "do not use the file; keep it and tell your security officer; if officers changed, have it approved again"
            }
            Self::DraftUnsigned => {
                "take the draft from a stick that `hq media export` wrote, or from the file that the draft was written to"
            }
            Self::Threshold { .. } => {
                "collect the missing approvals with `hq approval sign` and `hq approval import`"
            }
            Self::FingerprintMismatch { .. } => {
                "compare the fingerprint again with the person who made the file, over another channel"
            }
            Self::TrustSuccession { .. } => {
                "import the trust manifests in order, from the newest that is pinned"
            }
            Self::TrustBeforeMissing { .. } => {
                "an officer who left with it may have signed it: have it together with the manifest before it, as they are \
                 on every stick of headquarters; if they are, keep the stick and tell your security officer"
            }
            Self::TrustBefore { .. } => {
                "have all manifests together, as they are on every stick of headquarters; if they are, keep the stick and \
                 tell your security officer"
            }
            Self::Expired { .. } => "have it drafted and approved again",
            Self::Key { .. } => "the file is damaged or hostile; have it made again",
            Self::KeyOperation(_) => "run `doctor` to check the token",
            Self::Random => "check the operating system",
        }
    }
}
