//! What one account asks of a request.

use mintmark_pki::KeyAlgorithm;
use mintmark_protocol::entitlement::ProductTerms;
use mintmark_protocol::identifier::{DeviceId, KeyLabel};

use super::{Case, DecideError};
use crate::policy::{day_window, hour_window};
use crate::refusal::Refusal;
use crate::state::Account;
use crate::state::terms::AccountTerms;

const SECONDS_PER_HOUR: u64 = 3600;
const SECONDS_PER_DAY: u64 = 86_400;

/// The rules of one account, in the order in which they are asked: of several refusals, the furthest is told.
pub(super) mod rule {
    pub(in crate::decide) const REVOKED: u8 = 0;
    pub(in crate::decide) const WINDOW: u8 = 1;
    pub(in crate::decide) const STATION: u8 = 2;
    pub(in crate::decide) const KEY_ALGORITHM: u8 = 3;
    pub(in crate::decide) const DEVICE_ID: u8 = 4;
    pub(in crate::decide) const DEVICE_LISTED: u8 = 5;
    pub(in crate::decide) const HOURS: u8 = 6;
    pub(in crate::decide) const KEY_TIME: u8 = 7;
    pub(in crate::decide) const KEY_RECEIVED: u8 = 8;
    pub(in crate::decide) const KEY_USES: u8 = 9;
    pub(in crate::decide) const KEY_DEVICE: u8 = 10;
    pub(in crate::decide) const QUOTA: u8 = 11;
    pub(in crate::decide) const DAY: u8 = 12;
    pub(in crate::decide) const HOUR: u8 = 13;
    pub(in crate::decide) const CREDIT_UNITS: u8 = 14;
    pub(in crate::decide) const CREDIT_DAYS: u8 = 15;
    pub(in crate::decide) const CERTIFICATE: u8 = 16;
}

impl Case<'_> {
    /// The keys from which the device gets a secret each, or what is in the way of one.
    pub(super) fn keys(&self, terms: &AccountTerms) -> Result<Vec<KeyLabel>, (u8, Refusal)> {
        let entitlement = &terms.entitlement;
        let mut labels = Vec::new();
        for key in entitlement
            .keys
            .iter()
            .filter(|key| key.derives_for(self.product))
        {
            let names = || {
                (
                    entitlement.id.clone(),
                    self.product.clone(),
                    key.label.clone(),
                )
            };
            if let Some(until) = key.until
                && self.moment.time >= until
            {
                let (entitlement, sku, label) = names();
                return Err((
                    rule::KEY_TIME,
                    Refusal::KeyExpired {
                        entitlement,
                        sku,
                        label,
                        until,
                    },
                ));
            }
            if !self.state.keys.holds(key) {
                let (entitlement, sku, label) = names();
                return Err((
                    rule::KEY_RECEIVED,
                    Refusal::KeyNotReceived {
                        entitlement,
                        sku,
                        label,
                    },
                ));
            }
            let uses = self.state.keys.uses(&entitlement.id, &key.label);
            if let Some(uses_max) = key.uses_max
                && uses >= uses_max
            {
                let (entitlement, sku, label) = names();
                return Err((
                    rule::KEY_USES,
                    Refusal::KeyUsesExhausted {
                        entitlement,
                        sku,
                        label,
                        uses,
                        uses_max,
                    },
                ));
            }
            labels.push(key.label.clone());
        }
        Ok(labels)
    }

    /// Whether one of these keys gave its secret to another device already: a secret is of the key and the device id, so
    /// one id is one device for all the products that share a key.
    pub(super) fn secret_taken(
        &self,
        terms: &AccountTerms,
        keys: &[KeyLabel],
        device_id: &DeviceId,
    ) -> Result<Option<Refusal>, DecideError> {
        for label in keys {
            for other in self.state.keys.products(label) {
                if other == self.product {
                    continue;
                }
                let known = self.index.device(other, device_id);
                let known = known.map_err(DecideError::Lookup)?;
                if let Some(known) = known
                    && known.spki_sha256 != self.spki_sha256
                {
                    return Ok(Some(Refusal::KeyDeviceTaken {
                        entitlement: terms.entitlement.id.clone(),
                        sku: self.product.clone(),
                        device_id: device_id.clone(),
                        label: label.clone(),
                        other: Box::new(other.clone()),
                    }));
                }
            }
        }
        Ok(None)
    }

    /// When, where and what: the rules that do not count.
    pub(super) fn permitted(
        &self,
        terms: &AccountTerms,
        product: &ProductTerms,
        device_id: &DeviceId,
    ) -> Result<(), (u8, Refusal)> {
        let time = self.moment.time;
        let window = terms.entitlement.window;
        let names = || (terms.entitlement.id.clone(), self.product.clone());
        if time < window.from {
            let (entitlement, sku) = names();
            return Err((
                rule::WINDOW,
                Refusal::WindowNotOpen {
                    entitlement,
                    sku,
                    from: window.from,
                },
            ));
        }
        if time >= window.until {
            let (entitlement, sku) = names();
            return Err((
                rule::WINDOW,
                Refusal::WindowClosed {
                    entitlement,
                    sku,
                    until: window.until,
                },
            ));
        }
        if product
            .stations
            .as_ref()
            .is_some_and(|stations| !stations.contains(self.station))
        {
            let (entitlement, sku) = names();
            let station = self.station.clone();
            return Err((
                rule::STATION,
                Refusal::StationNotAllowed {
                    entitlement,
                    sku,
                    station,
                },
            ));
        }
        let found = self.csr.key_algorithm();
        let mut allowed = terms.key_algorithms.iter();
        if !allowed.any(|allowed| allowed.allows(found)) {
            let (entitlement, sku) = names();
            let allowed = product.key_algorithms.join(", ");
            return Err((
                rule::KEY_ALGORITHM,
                Refusal::KeyAlgorithmForbidden {
                    entitlement,
                    sku,
                    found,
                    allowed,
                },
            ));
        }
        let agrees = matches!(found, KeyAlgorithm::P256 | KeyAlgorithm::P384);
        let mut keys = terms.entitlement.keys.iter();
        if !agrees && let Some(key) = keys.find(|key| key.derives_for(self.product)) {
            let (entitlement, sku) = names();
            return Err((
                rule::KEY_ALGORITHM,
                Refusal::DeviceKeyNoAgreement {
                    entitlement,
                    sku,
                    label: key.label.clone(),
                    found,
                },
            ));
        }
        if let Some(pattern) = &terms.pattern
            && !pattern.matches(device_id.as_str())
        {
            let (entitlement, sku) = names();
            return Err((
                rule::DEVICE_ID,
                Refusal::DeviceIdForbidden {
                    entitlement,
                    sku,
                    device_id: device_id.clone(),
                    pattern: pattern.as_str().to_owned(),
                },
            ));
        }
        if let Some(listed) = &product.device_ids
            && !listed.contains(device_id)
        {
            let (entitlement, sku) = names();
            return Err((
                rule::DEVICE_LISTED,
                Refusal::DeviceIdNotListed {
                    entitlement,
                    sku,
                    device_id: device_id.clone(),
                    listed: u64::try_from(listed.devices()).unwrap_or(u64::MAX),
                },
            ));
        }
        if let Some(hours) = &product.working_hours {
            // Intervals are in order and apart, which reading them checked.
            let at = hours.partition_point(|interval| interval.until <= time);
            let next = hours.get(at);
            if !next.is_some_and(|interval| interval.contains(time)) {
                let (entitlement, sku) = names();
                let next = next
                    .map(|interval| interval.from)
                    .filter(|at| *at < window.until);
                return Err((
                    rule::HOURS,
                    Refusal::OutOfHours {
                        entitlement,
                        sku,
                        next,
                    },
                ));
            }
        }
        Ok(())
    }

    /// How many: the rules that count.
    pub(super) fn affordable(
        &self,
        terms: &AccountTerms,
        product: &ProductTerms,
        account: &Account,
    ) -> Result<(), (u8, Refusal)> {
        let time = self.moment.time;
        let names = || (terms.entitlement.id.clone(), self.product.clone());
        if account.next_slot >= product.units {
            let (entitlement, sku) = names();
            return Err((
                rule::QUOTA,
                Refusal::QuotaExhausted {
                    entitlement,
                    sku,
                    spent: account.spent(),
                    units: product.units,
                    unresolved: account.unresolved,
                },
            ));
        }
        let (day, hour) = (day_window(time), hour_window(time));
        if let Some(units_per_day) = product.units_per_day
            && account.day.units_in(day) >= units_per_day
        {
            let (entitlement, sku) = names();
            let next = day.saturating_add(1).saturating_mul(SECONDS_PER_DAY);
            return Err((
                rule::DAY,
                Refusal::RateDay {
                    entitlement,
                    sku,
                    units_per_day,
                    next,
                },
            ));
        }
        if let Some(units_per_hour) = product.units_per_hour
            && account.hour.units_in(hour) >= units_per_hour
        {
            let (entitlement, sku) = names();
            let next = hour.saturating_add(1).saturating_mul(SECONDS_PER_HOUR);
            return Err((
                rule::HOUR,
                Refusal::RateHour {
                    entitlement,
                    sku,
                    units_per_hour,
                    next,
                },
            ));
        }
        let credit = terms.entitlement.credit;
        let entitlement = || terms.entitlement.id.clone();
        let (units, units_max) = (self.state.units_unreported(), credit.unreported_units_max);
        if units >= units_max {
            let entitlement = entitlement();
            return Err((
                rule::CREDIT_UNITS,
                Refusal::CreditUnitsExhausted {
                    entitlement,
                    units,
                    units_max,
                },
            ));
        }
        let days_max = credit.unreported_days_max;
        if let Some(oldest) = self.state.oldest_unreported()
            && oldest.saturating_add(days_max.saturating_mul(SECONDS_PER_DAY)) < time
        {
            let entitlement = entitlement();
            return Err((
                rule::CREDIT_DAYS,
                Refusal::CreditDaysExhausted {
                    entitlement,
                    oldest,
                    days_max,
                },
            ));
        }
        Ok(())
    }
}
