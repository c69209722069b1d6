//! The types of messages, and the content type that each has in its header.

use std::fmt;
use std::str::FromStr;

/// The content type of a payload that is itself a COSE_Encrypt (RFC 9052 section 2).
const ENCRYPTED: &str = "application/cose; cose-type=\"cose-encrypt\"";

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
    /// Every type.
    pub const ALL: [Self; 22] = [
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
    pub(super) fn signed_content_type(self) -> String {
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
