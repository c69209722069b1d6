//! Requests for device certificates, and what became of them.

use mintmark_protocol::entitlement::AccountTag;
use mintmark_protocol::identifier::{
    DeviceId, EntitlementId, Fingerprint, KeyLabel, Sku, StationId,
};

use super::LogSequence;

/// Somebody asks for a device certificate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request {
    /// For which product.
    pub product: Sku,
    /// Through which station; that it authenticated is a fact.
    pub station: StationId,
    /// With what.
    pub submission: Submission,
}

/// What was submitted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Submission {
    /// A certification request whose signature proves possession of the key: a fact that HQ checks again.
    Csr {
        /// PKCS#10, as received.
        der: Vec<u8>,
    },
    /// Something else. Bytes that do not authenticate are never logged.
    Unreadable {
        /// SHA-256 of what was received.
        sha256: Fingerprint,
        /// Why it is none: the code of [`mintmark_pki::Error`].
        code: String,
    },
}

/// A spent unit, with everything that its certificate will say; or, with an issue number above 0, another certificate for
/// a unit that was spent before.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reserved {
    /// The entitlement that it is spent from.
    pub entitlement: EntitlementId,
    /// The account within it.
    pub account: AccountTag,
    /// The slot, 0 to units - 1.
    pub slot: u64,
    /// 0, and one more with each re-issue.
    pub issue: u16,
    /// The device.
    pub device_id: DeviceId,
    /// SHA-256 of the device key's SubjectPublicKeyInfo (DER).
    pub spki_sha256: Fingerprint,
    /// The whole to-be-signed certificate, DER: the only thing that may be signed for this unit.
    pub tbs: Vec<u8>,
    /// The keys from which the device gets a secret each, in the order of the entitlement. A re-issue has none: the device
    /// has its secrets.
    pub keys: Vec<KeyLabel>,
}

/// A request that was refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refused {
    /// The rule.
    pub code: String,
    /// The entitlement that came closest to allowing it.
    pub entitlement: Option<EntitlementId>,
}

/// The HSM's answer for a reservation, verified by the vault: a fact.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Signed {
    /// Which reservation.
    pub reservation: LogSequence,
    /// The ECDSA P-256 signature over its to-be-signed certificate, r || s.
    pub signature: [u8; 64],
}
