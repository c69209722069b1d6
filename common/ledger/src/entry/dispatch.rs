//! What came from headquarters.

use mintmark_protocol::identifier::Fingerprint;

/// An authentic dispatch in its place of the chain, and what verification of its content found: a fact.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Dispatch {
    /// The dispatch epoch.
    pub epoch: u64,
    /// Its place within the epoch, counted from 1.
    pub sequence: u64,
    /// Fingerprint of the dispatch.
    pub fingerprint: Fingerprint,
    /// The kind of its content, as the message names it.
    pub kind: String,
    /// The id of its content.
    pub id: String,
    /// The version of its content.
    pub version: u64,
    /// What came of verifying the content.
    pub content: Verdict,
}

/// What came of verifying a dispatch's content.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Its signatures, threshold, addressee and commitment hold.
    Authentic(Content),
    /// They do not, or this version cannot read it.
    Rejected {
        /// The rule that it breaks.
        code: String,
    },
}

/// The content of a dispatch, as officers approved it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Content {
    /// HQ lets the vault in.
    Grant {
        /// Fingerprint of the signed object.
        fingerprint: Fingerprint,
        /// [`mintmark_protocol::enrolment::EnrolmentGrant`], encoded.
        plaintext: Vec<u8>,
        /// The vault's identity certificate, DER; that the root signed it is a fact.
        identity_certificate: Vec<u8>,
        /// The vault's device CA certificate, DER; that the root signed it is a fact.
        device_ca_certificate: Vec<u8>,
    },
    /// What the vault may make.
    Entitlement {
        /// Fingerprint of the signed object.
        fingerprint: Fingerprint,
        /// [`mintmark_protocol::entitlement::Entitlement`], encoded.
        plaintext: Vec<u8>,
    },
    /// HQ holds a bundle.
    Acknowledgement {
        /// Fingerprint of the signed object.
        fingerprint: Fingerprint,
        /// [`mintmark_protocol::acknowledgement::Acknowledgement`], encoded.
        plaintext: Vec<u8>,
    },
    /// Something is over.
    Revocation {
        /// Fingerprint of the signed object.
        fingerprint: Fingerprint,
        /// [`mintmark_protocol::revocation::Revocation`], encoded.
        plaintext: Vec<u8>,
    },
    /// The log goes on at another time.
    ClockCorrection {
        /// Fingerprint of the signed object.
        fingerprint: Fingerprint,
        /// [`mintmark_protocol::clock_correction::ClockCorrection`], encoded.
        plaintext: Vec<u8>,
    },
    /// Officers vouch for a head of the log.
    Reanchor {
        /// Fingerprint of the signed object.
        fingerprint: Fingerprint,
        /// [`mintmark_protocol::reanchor::Reanchor`], encoded.
        plaintext: Vec<u8>,
    },
}

impl Content {
    /// Fingerprint of the signed object.
    pub fn fingerprint(&self) -> Fingerprint {
        match self {
            Self::Grant { fingerprint, .. }
            | Self::Entitlement { fingerprint, .. }
            | Self::Acknowledgement { fingerprint, .. }
            | Self::Revocation { fingerprint, .. }
            | Self::ClockCorrection { fingerprint, .. }
            | Self::Reanchor { fingerprint, .. } => *fingerprint,
        }
    }

    /// What was signed, decrypted.
    pub fn plaintext(&self) -> &[u8] {
        match self {
            Self::Grant { plaintext, .. }
            | Self::Entitlement { plaintext, .. }
            | Self::Acknowledgement { plaintext, .. }
            | Self::Revocation { plaintext, .. }
            | Self::ClockCorrection { plaintext, .. }
            | Self::Reanchor { plaintext, .. } => plaintext,
        }
    }
}
