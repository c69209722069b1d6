//! Why what a dispatch brings has no effect.

use mintmark_protocol::entitlement::AccountTag;
use mintmark_protocol::identifier::{DeviceId, EntitlementId, Fingerprint, KeyLabel, Sku};

use super::{meaning, time};

/// A refusal by a rule for dispatches and what they bring.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum DispatchRefusal {
    /// The dispatch is not the next of its chain.
    #[error(
        "dispatch {found_epoch}-{found_sequence} is not the next one: {expected_sequence} of epoch {expected_epoch} is"
    )]
    DispatchOutOfOrder {
        /// The epoch that is open.
        expected_epoch: u64,
        /// The sequence number that comes next.
        expected_sequence: u64,
        /// The epoch that it states.
        found_epoch: u64,
        /// The sequence number that it states.
        found_sequence: u64,
    },
    /// The content of the dispatch did not verify.
    #[error("the content of the dispatch was not accepted: {}", meaning(.code))]
    ContentRejected {
        /// What verification found.
        code: String,
    },
    /// The content of the dispatch verified, and is not of the form that it should have.
    #[error("the content of the dispatch is malformed: {why}")]
    ContentMalformed {
        /// What is wrong.
        why: String,
    },
    /// The vault is enrolled already, by another grant.
    #[error("this vault is enrolled already")]
    GrantRepeated,
    /// The grant is for somebody or something else.
    #[error("the enrolment grant does not fit this vault: its {what} differs")]
    GrantMismatch {
        /// What differs.
        what: &'static str,
    },
    /// The vault was disabled after this rotation was drafted.
    #[error(
        "the rotation was drafted at {}, and the order that disables this vault at {}: it does not end what came after it",
        time(*.drafted_at),
        time(*.disabled_at)
    )]
    GrantBeforeDisable {
        /// When the rotation was drafted, Unix seconds.
        drafted_at: u64,
        /// When the disablement in force was drafted, Unix seconds.
        disabled_at: u64,
    },
    /// The grant was imported too late.
    #[error("the enrolment grant had to be imported before {}", time(*.until))]
    GrantExpired {
        /// Until when, Unix seconds.
        until: u64,
    },
    /// The entitlement is for another vault.
    #[error("entitlement {entitlement} is for vault {found}")]
    EntitlementMismatch {
        /// The entitlement.
        entitlement: EntitlementId,
        /// For whom it is.
        found: String,
    },
    /// The entitlement was imported too late.
    #[error("entitlement {entitlement} had to be imported before {}", time(*.until))]
    EntitlementExpired {
        /// The entitlement.
        entitlement: EntitlementId,
        /// Until when, Unix seconds.
        until: u64,
    },
    /// The entitlement's own window is over.
    #[error("entitlement {entitlement} was valid until {}", time(*.until))]
    EntitlementWindowOver {
        /// The entitlement.
        entitlement: EntitlementId,
        /// Until when, Unix seconds.
        until: u64,
    },
    /// The entitlement does not follow the version that is in force.
    #[error("entitlement {entitlement} has version {found}, and version {expected} comes next")]
    EntitlementVersion {
        /// The entitlement.
        entitlement: EntitlementId,
        /// The version that would be accepted.
        expected: u64,
        /// The version that it states.
        found: u64,
    },
    /// The amendment was drafted over another version than the one in force.
    #[error(
        "version {version} of entitlement {entitlement} replaces another version {found} than the one that is in force here"
    )]
    EntitlementAmendsAnother {
        /// The entitlement.
        entitlement: EntitlementId,
        /// The version that it states.
        version: u64,
        /// The version in force.
        found: u64,
    },
    /// The amendment grants less than what is spent.
    #[error(
        "version {version} of entitlement {entitlement} grants {units} units of {sku}, and {spent} are spent"
    )]
    EntitlementBelowSpent {
        /// The entitlement.
        entitlement: EntitlementId,
        /// The version.
        version: u64,
        /// The product.
        sku: Sku,
        /// Units that it grants; 0 if it no longer names the product.
        units: u64,
        /// Units that are spent.
        spent: u64,
    },
    /// The amendment grants fewer uses of a key than were made.
    #[error(
        "version {version} of entitlement {entitlement} sets uses_max of key {label} to {uses_max}, and its uses so far are {uses}"
    )]
    EntitlementKeyBelowUses {
        /// The entitlement.
        entitlement: EntitlementId,
        /// The version.
        version: u64,
        /// The key.
        label: KeyLabel,
        /// Uses that it grants.
        uses_max: u64,
        /// Uses so far.
        uses: u64,
    },
    /// The label belongs to another key.
    #[error(
        "entitlement {entitlement} brings another key {label} than {owner} did: its {what} differs"
    )]
    EntitlementKeyChanged {
        /// The entitlement.
        entitlement: EntitlementId,
        /// The label.
        label: KeyLabel,
        /// The entitlement in force that names it.
        owner: EntitlementId,
        /// What differs: `algorithm` or `check value`.
        what: &'static str,
    },
    /// The account tag belongs to another account.
    #[error(
        "entitlement {entitlement} gives {sku} the account tag {account}, which belongs to {owner_sku} of {owner}"
    )]
    EntitlementTagReused {
        /// The entitlement.
        entitlement: EntitlementId,
        /// The product.
        sku: Sku,
        /// The tag.
        account: AccountTag,
        /// Whose tag it is.
        owner: EntitlementId,
        /// Whose tag it is.
        owner_sku: Sku,
    },
    /// An amendment gives an account another tag.
    #[error(
        "entitlement {entitlement} gives {sku} the account tag {found}, and its account has the tag {expected}"
    )]
    EntitlementTagChanged {
        /// The entitlement.
        entitlement: EntitlementId,
        /// The product.
        sku: Sku,
        /// The account's tag.
        expected: AccountTag,
        /// The tag in the amendment.
        found: AccountTag,
    },
    /// The terms cannot be enforced.
    #[error("entitlement {entitlement} has terms for {sku} that cannot be enforced: {why}")]
    EntitlementTerms {
        /// The entitlement.
        entitlement: EntitlementId,
        /// The product.
        sku: Sku,
        /// Which, and why.
        why: String,
    },
    /// The revocation is for another vault.
    #[error("the revocation is for vault {found}")]
    RevocationMismatch {
        /// For whom it is.
        found: String,
    },
    /// Another revocation had its number.
    #[error("the revocation has number {number}, which another revocation had before")]
    RevocationNumberTaken {
        /// The number.
        number: u64,
    },
    /// The revocation ends an entitlement that this vault never had.
    #[error("the revocation is of entitlement {entitlement}, which this vault never had")]
    RevocationUnknownEntitlement {
        /// The entitlement.
        entitlement: EntitlementId,
    },
    /// The revocation ends a device CA that this vault never had.
    #[error("the revocation is of a device CA that this vault never had: {fingerprint}")]
    RevocationUnknownDeviceCa {
        /// SHA-256 of its certificate.
        fingerprint: Fingerprint,
    },
    /// The revocation ends a certificate of a device that this vault never made.
    #[error("the revocation is of a certificate of {device_id} that this vault never made")]
    RevocationUnknownDevice {
        /// The device.
        device_id: DeviceId,
    },
    /// The clock correction is for another vault.
    #[error("the clock correction is for vault {found}")]
    ClockCorrectionMismatch {
        /// For whom it is.
        found: String,
    },
    /// Another clock correction had its number.
    #[error("the clock correction has number {number}, which another clock correction had before")]
    ClockCorrectionNumberTaken {
        /// The number.
        number: u64,
    },
    /// The clock stands before the corrected time.
    #[error("the clock says {}, and the clock correction is to {}", time(*.clock), time(*.corrected))]
    ClockCorrectionAhead {
        /// The clock, Unix seconds.
        clock: u64,
        /// The corrected time, Unix seconds.
        corrected: u64,
    },
    /// The clock correction was imported too late, by the vault's clock.
    #[error("the clock says {}, and the clock correction had to be imported before {}", time(*.clock), time(*.until))]
    ClockCorrectionExpired {
        /// The clock, Unix seconds.
        clock: u64,
        /// Until when, Unix seconds.
        until: u64,
    },
    /// The re-anchor is for another vault or history.
    #[error("the re-anchor is for another {what}")]
    ReanchorMismatch {
        /// What differs.
        what: &'static str,
    },
    /// Another re-anchor had its number.
    #[error("the re-anchor has number {number}, which another re-anchor had before")]
    ReanchorNumberTaken {
        /// The number.
        number: u64,
    },
    /// The re-anchor was imported too late.
    #[error("the re-anchor had to be imported before {}", time(*.until))]
    ReanchorExpired {
        /// Until when, Unix seconds.
        until: u64,
    },
    /// The log does not lead through the head that the re-anchor names.
    #[error("the re-anchor names bundle {sequence}, which is not one that this log sealed")]
    ReanchorUnknownBundle {
        /// The bundle.
        sequence: u64,
    },
    /// The acknowledgement is for another vault or history.
    #[error("the acknowledgement is for another {what}")]
    AckMismatch {
        /// What differs.
        what: &'static str,
    },
    /// The acknowledgement names a bundle that this vault did not seal.
    #[error("the acknowledgement names bundle {sequence}, which is not one that this vault sealed")]
    AckUnknownBundle {
        /// The bundle.
        sequence: u64,
    },
}

impl DispatchRefusal {
    /// The stable code that the log holds.
    pub fn code(&self) -> &str {
        match self {
            Self::ContentRejected { code } => code,
            Self::DispatchOutOfOrder { .. } => "DISPATCH-OUT-OF-ORDER",
            Self::ContentMalformed { .. } => "CONTENT-MALFORMED",
            Self::GrantRepeated => "GRANT-REPEATED",
            Self::GrantMismatch { .. } => "GRANT-MISMATCH",
            Self::GrantBeforeDisable { .. } => "GRANT-BEFORE-DISABLE",
            Self::GrantExpired { .. } => "GRANT-EXPIRED",
            Self::EntitlementMismatch { .. } => "ENTITLEMENT-MISMATCH",
            Self::EntitlementExpired { .. } => "ENTITLEMENT-EXPIRED",
            Self::EntitlementWindowOver { .. } => "ENTITLEMENT-WINDOW-OVER",
            Self::EntitlementVersion { .. } => "ENTITLEMENT-VERSION",
            Self::EntitlementAmendsAnother { .. } => "ENTITLEMENT-AMENDS-ANOTHER",
            Self::EntitlementBelowSpent { .. } | Self::EntitlementKeyBelowUses { .. } => {
                "ENTITLEMENT-BELOW-SPENT"
            }
            Self::EntitlementKeyChanged { .. } => "ENTITLEMENT-KEY-CHANGED",
            Self::EntitlementTagReused { .. } => "ENTITLEMENT-TAG-REUSED",
            Self::EntitlementTagChanged { .. } => "ENTITLEMENT-TAG-CHANGED",
            Self::EntitlementTerms { .. } => "ENTITLEMENT-TERMS",
            Self::RevocationMismatch { .. } => "REVOCATION-MISMATCH",
            Self::RevocationNumberTaken { .. } => "REVOCATION-NUMBER-TAKEN",
            Self::RevocationUnknownEntitlement { .. }
            | Self::RevocationUnknownDeviceCa { .. }
            | Self::RevocationUnknownDevice { .. } => "REVOCATION-UNKNOWN-TARGET",
            Self::ClockCorrectionMismatch { .. } => "CLOCK-CORRECTION-MISMATCH",
            Self::ClockCorrectionNumberTaken { .. } => "CLOCK-CORRECTION-NUMBER-TAKEN",
            Self::ClockCorrectionAhead { .. } => "CLOCK-CORRECTION-AHEAD",
            Self::ClockCorrectionExpired { .. } => "CLOCK-CORRECTION-EXPIRED",
            Self::ReanchorMismatch { .. } => "REANCHOR-MISMATCH",
            Self::ReanchorNumberTaken { .. } => "REANCHOR-NUMBER-TAKEN",
            Self::ReanchorExpired { .. } => "REANCHOR-EXPIRED",
            Self::ReanchorUnknownBundle { .. } => "REANCHOR-UNKNOWN-BUNDLE",
            Self::AckMismatch { .. } => "ACK-MISMATCH",
            Self::AckUnknownBundle { .. } => "ACK-UNKNOWN-BUNDLE",
        }
    }
}
