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

mod context;
mod header;
mod kind;
mod signed;
mod strict;
mod verified;

use p256::ecdsa::Signature;

pub use self::context::{Context, Party};
pub(crate) use self::header::{
    as_received, decode_header, encode_header, expect_empty, header_bytes, protected, read_iv,
};
pub use self::kind::Kind;
pub(crate) use self::signed::{SignedOne, sign_one, sign_with_certificate, tagged, verify_es256};
pub(crate) use self::strict::{TAG_ENCRYPT, TAG_SIGN, TAG_SIGN1, check, expect_tag, not_cose};
pub use self::verified::Verified;
use crate::identifier::Fingerprint;
use crate::{Error, KeyFailure};
/// The private-use header label of the context (RFC 9052 section 11.1: below -65536).
pub const CONTEXT_LABEL: i64 = -65537;
/// ES256 (RFC 9053 section 2.1).
pub(crate) const ES256: i64 = -7;
/// The header label of a certificate chain (RFC 9360 section 2).
const X5CHAIN: i64 = 33;
/// The header label of a type (RFC 9596 section 2).
pub(crate) const TYPE_LABEL: i64 = 16;
/// The largest protected header, in bytes.
const HEADER_BYTES_MAX: usize = 4096;

/// Signs bytes with a P-256 key that the caller holds: ES256 over the message, as `r || s`.
pub type Sign<'a> = &'a dyn Fn(&[u8]) -> Result<Signature, KeyFailure>;

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
