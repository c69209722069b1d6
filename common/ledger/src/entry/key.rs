//! What the vault did with the keys in its token.

use mintmark_protocol::identifier::{EntitlementId, Fingerprint, KeyLabel};

/// The vault made the key of its next device CA, and asks HQ to certify it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rotation {
    /// The generation of that device CA, from 2.
    pub generation: u16,
    /// Fingerprint of the enrolment request that the vault signed for it.
    pub request_fingerprint: Fingerprint,
}

/// What became of a key that an entitlement brought: a fact that HQ cannot see, only the vault's token can.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyReceipt {
    /// The entitlement that brought it.
    pub entitlement: EntitlementId,
    /// Its label.
    pub label: KeyLabel,
    /// What became of it.
    pub outcome: KeyOutcome,
}

/// How a key came into the token.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum KeyOutcome {
    /// The token unwrapped it: it was never in the clear outside.
    Unwrapped,
    /// It passed through the vault's memory.
    Imported,
    /// It is not in the token.
    Refused {
        /// Why.
        code: String,
    },
}

impl KeyOutcome {
    /// Its name in entries and reports.
    pub fn as_str(&self) -> &'static str {
        match self {
            Self::Unwrapped => "unwrapped",
            Self::Imported => "imported",
            Self::Refused { .. } => "refused",
        }
    }
}

/// A CRL that a device CA of the vault signed: a fact that HQ checks when the CRL reaches it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CrlIssued {
    /// The generation of the device CA.
    pub generation: u16,
    /// The CRL number (RFC 5280 section 5.2.3): counted from 1 for each device CA.
    pub number: u64,
    /// SHA-256 of the CRL, DER.
    pub sha256: Fingerprint,
    /// Its thisUpdate, Unix seconds.
    pub this_update: u64,
    /// Its nextUpdate, Unix seconds.
    pub next_update: u64,
}
