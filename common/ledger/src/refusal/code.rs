//! The code of each refusal, which the log holds, and what to do about it.

use mintmark_protocol::identifier::EntitlementId;

use super::{Refusal, StationRefusal, meaning, time};

impl Refusal {
    /// The stable code that the log holds.
    pub fn code(&self) -> &str {
        match self {
            Self::Station(refusal) => refusal.code(),
            Self::Dispatch(refusal) => refusal.code(),
            Self::NotEnrolled => "NOT-ENROLLED",
            Self::Unreadable { code } => code,
            Self::ProductNotEntitled { .. } => "PRODUCT-NOT-ENTITLED",
            Self::DeviceIdMissing { .. } => "DEVICE-ID-MISSING",
            Self::DeviceIdInvalid { .. } => "DEVICE-ID-INVALID",
            Self::DeviceKeyChanged { .. } => "DEVICE-KEY-CHANGED",
            Self::KeyReused { .. } => "KEY-REUSED",
            Self::VaultDisabled { .. } => "VAULT-DISABLED",
            Self::DeviceCaRevoked { .. } => "DEVICE-CA-REVOKED",
            Self::EntitlementRevoked { .. } => "ENTITLEMENT-REVOKED",
            Self::ClockBack { .. } => "CLOCK-BACK",
            Self::ClockJumped { .. } => "CLOCK-JUMPED",
            Self::ClockBelieved => "CLOCK-BELIEVED",
            Self::ClockBeyondBound { .. } => "CLOCK-BEYOND-BOUND",
            Self::DeviceUnknown { .. } => "DEVICE-UNKNOWN",
            Self::DeviceScrapped { .. } => "DEVICE-SCRAPPED",
            Self::CertificatePruned { .. } => "CERTIFICATE-PRUNED",
            Self::DeviceVoided { .. } => "DEVICE-VOIDED",
            Self::CertificateRevoked { .. } => "CERTIFICATE-REVOKED",
            Self::DeviceUnitEnded { .. } => "DEVICE-UNIT-ENDED",
            Self::DeviceUnresolved { .. } => "DEVICE-UNRESOLVED",
            Self::ReworkOpen { .. } => "REWORK-OPEN",
            Self::ReworkExhausted { .. } => "REWORK-EXHAUSTED",
            Self::WindowNotOpen { .. } => "WINDOW-NOT-OPEN",
            Self::WindowClosed { .. } => "WINDOW-CLOSED",
            Self::StationNotAllowed { .. } => "STATION-NOT-ALLOWED",
            Self::KeyAlgorithmForbidden { .. } => "KEY-ALGORITHM-FORBIDDEN",
            Self::DeviceKeyNoAgreement { .. } => "DEVICE-KEY-NO-AGREEMENT",
            Self::DeviceIdForbidden { .. } => "DEVICE-ID-FORBIDDEN",
            Self::DeviceIdNotListed { .. } => "DEVICE-ID-NOT-LISTED",
            Self::OutOfHours { .. } => "OUT-OF-HOURS",
            Self::KeyExpired { .. } => "KEY-EXPIRED",
            Self::KeyNotReceived { .. } => "KEY-NOT-RECEIVED",
            Self::KeyDeviceTaken { .. } => "KEY-DEVICE-TAKEN",
            Self::KeyUsesExhausted { .. } => "KEY-USES-EXHAUSTED",
            Self::QuotaExhausted { .. } => "QUOTA-EXHAUSTED",
            Self::RateDay { .. } => "RATE-DAY",
            Self::RateHour { .. } => "RATE-HOUR",
            Self::CreditUnitsExhausted { .. } => "CREDIT-UNITS-EXHAUSTED",
            Self::CreditDaysExhausted { .. } => "CREDIT-DAYS-EXHAUSTED",
            Self::CertificateUnbuildable { .. } => "CERTIFICATE-UNBUILDABLE",
        }
    }

    /// The entitlement that came closest to allowing the request, which the log names beside the code.
    pub fn entitlement(&self) -> Option<&EntitlementId> {
        match self {
            Self::WindowNotOpen { entitlement, .. }
            | Self::WindowClosed { entitlement, .. }
            | Self::StationNotAllowed { entitlement, .. }
            | Self::KeyAlgorithmForbidden { entitlement, .. }
            | Self::DeviceIdForbidden { entitlement, .. }
            | Self::DeviceIdNotListed { entitlement, .. }
            | Self::OutOfHours { entitlement, .. }
            | Self::EntitlementRevoked { entitlement, .. }
            | Self::DeviceKeyNoAgreement { entitlement, .. }
            | Self::KeyExpired { entitlement, .. }
            | Self::KeyNotReceived { entitlement, .. }
            | Self::KeyDeviceTaken { entitlement, .. }
            | Self::KeyUsesExhausted { entitlement, .. }
            | Self::ReworkExhausted { entitlement, .. }
            | Self::QuotaExhausted { entitlement, .. }
            | Self::RateDay { entitlement, .. }
            | Self::RateHour { entitlement, .. }
            | Self::CreditUnitsExhausted { entitlement, .. }
            | Self::CreditDaysExhausted { entitlement, .. }
            | Self::CertificateUnbuildable { entitlement, .. } => Some(entitlement),
            _ => None,
        }
    }

    /// What to do next.
    pub fn hint(&self) -> String {
        let text = match self {
            Self::QuotaExhausted { unresolved: 0, .. } => {
                "ask HQ for an amendment or run `site status`"
            }
            Self::QuotaExhausted { unresolved, .. } => {
                let (count, verb) = match unresolved {
                    1 => ("1 reservation".to_owned(), "is"),
                    more => (format!("{more} reservations"), "are"),
                };
                return format!(
                    "{count} {verb} unresolved; ask HQ for an amendment or run `site status`"
                );
            }
            Self::RateDay { next, .. } | Self::RateHour { next, .. } => {
                return format!("wait until {}, or ask HQ for an amendment", time(*next));
            }
            Self::Station(
                StationRefusal::RateDay { next, .. }
                | StationRefusal::OutOfHours {
                    next: Some(next), ..
                },
            ) => {
                let next = time(*next);
                return format!("wait until {next}, or have the station approved for more");
            }
            Self::OutOfHours {
                next: Some(next), ..
            } => {
                return format!("wait until {}, or ask HQ for an amendment", time(*next));
            }
            Self::WindowNotOpen { from, .. } => return format!("wait until {}", time(*from)),
            other => return meaning::advice(other.code()).to_owned(),
        };
        text.to_owned()
    }
}
