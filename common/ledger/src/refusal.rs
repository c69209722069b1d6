//! Why the ledger said no: the rule, with the numbers that it was decided on.

mod code;
mod dispatch;
mod meaning;
mod station;

use mintmark_pki::KeyAlgorithm;
use mintmark_protocol::entitlement::DeviceIdSource;
use mintmark_protocol::identifier::{DeviceId, EntitlementId, KeyLabel, Sku, StationId};

use crate::entry::LogSequence;

pub use dispatch::DispatchRefusal;
pub use meaning::meaning;
pub use station::StationRefusal;

/// A refusal by a rule of the ledger. The log holds its [`code`](Self::code) and no more; [`meaning`] explains a code.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Refusal {
    /// A rule for stations.
    #[error(transparent)]
    Station(#[from] StationRefusal),
    /// A rule for dispatches.
    #[error(transparent)]
    Dispatch(#[from] DispatchRefusal),
    /// No enrolment grant has been imported.
    #[error("this vault is not enrolled: headquarters has not granted it a device CA yet")]
    NotEnrolled,
    /// What was submitted is no certification request with proof of possession.
    #[error("the certification request was not accepted: {}", meaning(.code))]
    Unreadable {
        /// The code of [`mintmark_pki::Error`].
        code: String,
    },
    /// No entitlement names the product.
    #[error("no entitlement of this vault names the product {sku}")]
    ProductNotEntitled {
        /// The product asked for.
        sku: Sku,
    },
    /// The request does not say which device it is for.
    #[error("the certification request for {sku} has no {} in its subject, which is where the device id belongs",
        .source_attribute.as_str())]
    DeviceIdMissing {
        /// The product asked for.
        sku: Sku,
        /// Where the policy looks for the device id.
        source_attribute: DeviceIdSource,
    },
    /// The device id is not one that a certificate can hold.
    #[error("the {} of the certification request for {sku} is no device id: it must be 1 to 64 characters of PrintableString",
        .source_attribute.as_str())]
    DeviceIdInvalid {
        /// The product asked for.
        sku: Sku,
        /// Where the policy looks for the device id.
        source_attribute: DeviceIdSource,
    },
    /// The device has a certificate, for another key.
    #[error(
        "device {device_id} of {sku} already has a certificate for another key (log record {reservation})"
    )]
    DeviceKeyChanged {
        /// The product.
        sku: Sku,
        /// The device.
        device_id: DeviceId,
        /// What answered it before.
        reservation: LogSequence,
    },
    /// The device has no certificate of that product, and no unit reserved for one.
    #[error("device {device_id} of {sku} is not known here")]
    DeviceUnknown {
        /// The product.
        sku: Sku,
        /// The device.
        device_id: DeviceId,
    },
    /// The device was scrapped.
    #[error("device {device_id} of {sku} was scrapped at {}", time(*.since))]
    DeviceScrapped {
        /// The product.
        sku: Sku,
        /// The device.
        device_id: DeviceId,
        /// Since when, Unix seconds.
        since: u64,
    },
    /// The certificate that the device has was pruned here; headquarters has it.
    #[error(
        "device {device_id} of {sku} has its certificate, serial {serial}, of which this vault keeps no copy any more"
    )]
    CertificatePruned {
        /// The product.
        sku: Sku,
        /// The device.
        device_id: DeviceId,
        /// The serial, lower-case hex.
        serial: String,
    },
    /// The device's unit was voided.
    #[error("the unit of device {device_id} of {sku} was voided at {}", time(*.since))]
    DeviceVoided {
        /// The product.
        sku: Sku,
        /// The device.
        device_id: DeviceId,
        /// Since when, Unix seconds.
        since: u64,
    },
    /// Officers revoked the certificate that the device has.
    #[error("officers revoked the certificate of device {device_id} of {sku}, as the log knows since {}", time(*.since))]
    CertificateRevoked {
        /// The product.
        sku: Sku,
        /// The device.
        device_id: DeviceId,
        /// Since when, Unix seconds.
        since: u64,
    },
    /// The unit of an open reservation was scrapped or voided, so it is never completed.
    #[error("the unit of device {device_id} was scrapped or voided")]
    DeviceUnitEnded {
        /// The device.
        device_id: DeviceId,
    },
    /// The device has no certificate yet.
    #[error("device {device_id} of {sku} has no certificate yet: its unit is unresolved")]
    DeviceUnresolved {
        /// The product.
        sku: Sku,
        /// The device.
        device_id: DeviceId,
    },
    /// The device may have another certificate already, and did not ask for it yet.
    #[error(
        "device {device_id} of {sku} may have another certificate already, and has not asked for it yet"
    )]
    ReworkOpen {
        /// The product.
        sku: Sku,
        /// The device.
        device_id: DeviceId,
    },
    /// The device had as many certificates as its policy allows.
    #[error(
        "entitlement {entitlement} allows each device of {sku} {allowed} more certificates, and device {device_id} had {reworks}"
    )]
    ReworkExhausted {
        /// The entitlement.
        entitlement: EntitlementId,
        /// The product.
        sku: Sku,
        /// The device.
        device_id: DeviceId,
        /// How many it had, one that is open included.
        reworks: u64,
        /// How many it may have.
        allowed: u64,
    },
    /// The key belongs to another device.
    #[error(
        "this public key already belongs to device {device_id} of {sku} (log record {reservation})"
    )]
    KeyReused {
        /// The product that the key was used for.
        sku: Sku,
        /// The device that it belongs to.
        device_id: DeviceId,
        /// What that device was answered with.
        reservation: LogSequence,
    },
    /// Officers disabled the vault.
    #[error("headquarters disabled this vault at {}: it makes no new devices until it has another device CA", time(*.since))]
    VaultDisabled {
        /// When that reached the vault, Unix seconds.
        since: u64,
    },
    /// Officers revoked the device CA that would certify, and there is no later one.
    #[error("device CA {generation} of this vault was revoked at {}", time(*.since))]
    DeviceCaRevoked {
        /// Which device CA.
        generation: u16,
        /// When that reached the vault, Unix seconds.
        since: u64,
    },
    /// Officers revoked the entitlement.
    #[error("entitlement {entitlement} was revoked at {}, for good", time(*.since))]
    EntitlementRevoked {
        /// The entitlement.
        entitlement: EntitlementId,
        /// When that reached the vault, Unix seconds.
        since: u64,
    },
    /// The clock stands behind the log by more than [`crate::decide::CLOCK_BACK_SECONDS_MAX`].
    #[error("the clock says {}, and the log was last written at {}: the clock was set back",
        time(*.clock), time(*.mark))]
    ClockBack {
        /// The clock, Unix seconds.
        clock: u64,
        /// The newest time in the log, Unix seconds.
        mark: u64,
    },
    /// The clock is not believed: it differs from what the machine counts, or is further ahead than the policy bounds.
    #[error("the clock says {}, and should say {} {}", time(*.clock), time(*.expected),
        if *.latest { "at the latest: it is too far ahead of the log" } else { "or so: it was set, or stood still" })]
    ClockJumped {
        /// The clock, Unix seconds.
        clock: u64,
        /// What it should say, or the latest that it may say, Unix seconds.
        expected: u64,
        /// Whether it is the latest.
        latest: bool,
    },
    /// There is nothing to confirm.
    #[error("the clock is believed as it is")]
    ClockBelieved,
    /// The clock is too far from the log for a person to confirm it.
    #[error("the clock says {}, and a person can confirm a time from {} to {}",
        time(*.clock), time(*.earliest), time(*.latest))]
    ClockBeyondBound {
        /// The clock, Unix seconds.
        clock: u64,
        /// The earliest that can be confirmed, Unix seconds.
        earliest: u64,
        /// The latest, Unix seconds.
        latest: u64,
    },
    /// The entitlement is not valid yet.
    #[error("entitlement {entitlement} for {sku} is valid from {}", time(*.from))]
    WindowNotOpen {
        /// The entitlement.
        entitlement: EntitlementId,
        /// The product.
        sku: Sku,
        /// When it opens, Unix seconds.
        from: u64,
    },
    /// The entitlement is no longer valid.
    #[error("entitlement {entitlement} for {sku} was valid until {}", time(*.until))]
    WindowClosed {
        /// The entitlement.
        entitlement: EntitlementId,
        /// The product.
        sku: Sku,
        /// When it closed, Unix seconds.
        until: u64,
    },
    /// The station is not on the list.
    #[error("entitlement {entitlement} does not let station {station} ask for {sku}")]
    StationNotAllowed {
        /// The entitlement.
        entitlement: EntitlementId,
        /// The product.
        sku: Sku,
        /// The station that asked.
        station: StationId,
    },
    /// The device's key is of a kind that the policy does not allow.
    #[error("entitlement {entitlement} does not allow {found} keys for {sku}: it allows {allowed}")]
    KeyAlgorithmForbidden {
        /// The entitlement.
        entitlement: EntitlementId,
        /// The product.
        sku: Sku,
        /// What the key is.
        found: KeyAlgorithm,
        /// What it may be, as a list.
        allowed: String,
    },
    /// A secret goes with the device, and nothing can be encrypted to the device's key.
    #[error(
        "entitlement {entitlement} gives each device of {sku} a secret from key {label}, which cannot be encrypted to {} key",
        article(*.found)
    )]
    DeviceKeyNoAgreement {
        /// The entitlement.
        entitlement: EntitlementId,
        /// The product.
        sku: Sku,
        /// The first key from which the device gets a secret.
        label: KeyLabel,
        /// What the device's key is.
        found: KeyAlgorithm,
    },
    /// The device id does not match the policy's pattern.
    #[error(
        "device id {device_id} does not match the pattern {pattern} of entitlement {entitlement} for {sku}"
    )]
    DeviceIdForbidden {
        /// The entitlement.
        entitlement: EntitlementId,
        /// The product.
        sku: Sku,
        /// The device.
        device_id: DeviceId,
        /// The pattern.
        pattern: String,
    },
    /// The device id is not among those that the policy lists.
    #[error(
        "device id {device_id} is not one of the {listed} that entitlement {entitlement} lists for {sku}"
    )]
    DeviceIdNotListed {
        /// The entitlement.
        entitlement: EntitlementId,
        /// The product.
        sku: Sku,
        /// The device.
        device_id: DeviceId,
        /// How many device ids are listed; 2^64 - 1 for as many or more.
        listed: u64,
    },
    /// Outside of working hours.
    #[error("entitlement {entitlement} has no working hours for {sku} now{}",
        .next.map(|next| format!("; the next begin at {}", time(next))).unwrap_or_default())]
    OutOfHours {
        /// The entitlement.
        entitlement: EntitlementId,
        /// The product.
        sku: Sku,
        /// When the next working hours begin, Unix seconds; none: no more within the entitlement.
        next: Option<u64>,
    },
    /// A key from which the device gets a secret is no longer to be used.
    #[error("key {label} of entitlement {entitlement}, from which each device of {sku} gets a secret, was valid until {}",
        time(*.until))]
    KeyExpired {
        /// The entitlement.
        entitlement: EntitlementId,
        /// The product.
        sku: Sku,
        /// The key.
        label: KeyLabel,
        /// Until when it was, Unix seconds.
        until: u64,
    },
    /// A key from which the device gets a secret is not in the token.
    #[error(
        "key {label} of entitlement {entitlement}, from which each device of {sku} gets a secret, is not in the token"
    )]
    KeyNotReceived {
        /// The entitlement.
        entitlement: EntitlementId,
        /// The product.
        sku: Sku,
        /// The key.
        label: KeyLabel,
    },
    /// A key from which the device gets a secret was used as often as it may be.
    #[error(
        "key {label} of entitlement {entitlement}, from which each device of {sku} gets a secret, has no use left: {uses} of {uses_max} made"
    )]
    KeyUsesExhausted {
        /// The entitlement.
        entitlement: EntitlementId,
        /// The product.
        sku: Sku,
        /// The key.
        label: KeyLabel,
        /// Uses so far.
        uses: u64,
        /// How many there may be.
        uses_max: u64,
    },
    /// Another product has a device of this id with another key, and its secret is from the same key.
    #[error(
        "device {device_id} of {other} has another key, and a secret from key {label}: device {device_id} of {sku} would get the same secret"
    )]
    KeyDeviceTaken {
        /// The entitlement.
        entitlement: EntitlementId,
        /// The product.
        sku: Sku,
        /// The device.
        device_id: DeviceId,
        /// The key.
        label: KeyLabel,
        /// The product whose device has the secret.
        other: Box<Sku>,
    },
    /// Every unit is spent.
    #[error("entitlement {entitlement} has no unit of {sku} left: {spent} of {units} spent")]
    QuotaExhausted {
        /// The entitlement.
        entitlement: EntitlementId,
        /// The product.
        sku: Sku,
        /// Units spent.
        spent: u64,
        /// Units in all.
        units: u64,
        /// Reservations that have no certificate.
        unresolved: u64,
    },
    /// The day's units are spent.
    #[error(
        "entitlement {entitlement} allows {units_per_day} units of {sku} per UTC day, and they are spent"
    )]
    RateDay {
        /// The entitlement.
        entitlement: EntitlementId,
        /// The product.
        sku: Sku,
        /// Units per UTC day.
        units_per_day: u64,
        /// When the next day begins, Unix seconds.
        next: u64,
    },
    /// The hour's units are spent.
    #[error(
        "entitlement {entitlement} allows {units_per_hour} units of {sku} per UTC hour, and they are spent"
    )]
    RateHour {
        /// The entitlement.
        entitlement: EntitlementId,
        /// The product.
        sku: Sku,
        /// Units per UTC hour.
        units_per_hour: u64,
        /// When the next hour begins, Unix seconds.
        next: u64,
    },
    /// Too many units since HQ last acknowledged the log.
    #[error(
        "{units} units have been issued that headquarters has not acknowledged, and entitlement {entitlement} allows {units_max}"
    )]
    CreditUnitsExhausted {
        /// The entitlement.
        entitlement: EntitlementId,
        /// Units that HQ has not acknowledged.
        units: u64,
        /// How many there may be.
        units_max: u64,
    },
    /// Too long since HQ last acknowledged the log.
    #[error("a unit issued at {} has not been acknowledged by headquarters, and entitlement {entitlement} allows {days_max} days",
        time(*.oldest))]
    CreditDaysExhausted {
        /// The entitlement.
        entitlement: EntitlementId,
        /// When the oldest unit that HQ has not acknowledged was issued, Unix seconds.
        oldest: u64,
        /// How old it may be, in days.
        days_max: u64,
    },
    /// The terms give no certificate for this device.
    #[error("entitlement {entitlement} gives no certificate for this device of {sku}: {why}")]
    CertificateUnbuildable {
        /// The entitlement.
        entitlement: EntitlementId,
        /// The product.
        sku: Sku,
        /// What does not fit.
        why: String,
    },
}

/// Unix seconds, for people.
pub(crate) fn time(unix: u64) -> String {
    i64::try_from(unix)
        .ok()
        .and_then(|unix| chrono::DateTime::from_timestamp(unix, 0))
        .map_or_else(
            || unix.to_string(),
            |at| at.format("%Y-%m-%dT%H:%M:%SZ").to_string(),
        )
}

/// A kind of key with its article.
fn article(algorithm: KeyAlgorithm) -> String {
    let name = algorithm.to_string();
    let article = if name.starts_with(['E', 'R']) {
        "an"
    } else {
        "a"
    };
    format!("{article} {name}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_exhausted_quota_says_what_is_spent_and_what_to_do() {
        let refusal = |unresolved| Refusal::QuotaExhausted {
            entitlement: "th200-2027q1".parse().unwrap(),
            sku: "TH-200".parse().unwrap(),
            spent: 5000,
            units: 5000,
            unresolved,
        };
        assert_eq!(refusal(2).code(), "QUOTA-EXHAUSTED");
        assert_eq!(
            refusal(2).to_string(),
            "entitlement th200-2027q1 has no unit of TH-200 left: 5000 of 5000 spent"
        );
        assert_eq!(
            refusal(2).hint(),
            "2 reservations are unresolved; ask HQ for an amendment or run `site status`"
        );
        assert!(refusal(1).hint().starts_with("1 reservation is unresolved"));
    }

    #[test]
    fn a_time_that_no_calendar_has_is_still_shown() {
        assert_eq!(time(0), "1970-01-01T00:00:00Z");
        assert_eq!(time(u64::MAX), u64::MAX.to_string());
    }
}
