//! The rules for requests, in the order in which they are asked.
//!
//! One request has one device id. Where a product's accounts look for it in different places, it is looked for where the
//! account says that would be spent by date: the first whose window is open, else the first that has not ended, else the
//! last that ended. An account that looks elsewhere is asked about the id that it would see, uniqueness included.

use mintmark_pki::{CertificationRequest, DeviceFacts, Issuer, device_tbs};
use mintmark_protocol::entitlement::{DeviceIdSource, ProductTerms};
use mintmark_protocol::identifier::{DeviceId, Fingerprint, Sku, StationId};

use super::{
    CLOCK_BACK_SECONDS_MAX, DecideError, Decision, FIRST_ISSUE, Lookup, Moment, Submitted,
    reservation,
};
use crate::policy::{day_window, hour_window};
use crate::refusal::Refusal;
use crate::serial::SerialCipher;
use crate::state::terms::AccountTerms;
use crate::state::{Account, State};

const SECONDS_PER_HOUR: u64 = 3600;
const SECONDS_PER_DAY: u64 = 86_400;

/// Everything that the rules look at and that no account changes.
struct Case<'a> {
    state: &'a State,
    index: &'a dyn Lookup,
    moment: Moment,
    product: &'a Sku,
    station: &'a StationId,
    csr: &'a CertificationRequest,
    spki_sha256: Fingerprint,
}

pub(super) fn decide(
    state: &State,
    index: &dyn Lookup,
    serials: Option<&SerialCipher>,
    moment: Moment,
    product: &Sku,
    station: &StationId,
    submission: Submitted<'_>,
) -> Result<Decision, DecideError> {
    let (true, Some(issuer)) = (state.is_enrolled(), state.compiled.issuer.as_deref()) else {
        return Ok(Decision::Refuse(Refusal::NotEnrolled));
    };
    let serials = serials.ok_or(DecideError::SerialKeyMissing)?;
    let csr = match submission {
        Submitted::Verified(csr) => csr,
        Submitted::Unreadable { code, .. } => {
            return Ok(Decision::Refuse(Refusal::Unreadable {
                code: code.to_owned(),
            }));
        }
    };
    let spki_sha256 = Fingerprint::new(csr.spki_sha256());
    let case = Case {
        state,
        index,
        moment,
        product,
        station,
        csr,
        spki_sha256,
    };
    case.decide(issuer, serials)
}

/// What the index says about the device and its key.
enum Known {
    /// Neither device nor key has a certificate.
    New(DeviceId),
    /// The question is answered.
    Answer(Decision),
}

impl Case<'_> {
    fn decide(&self, issuer: &Issuer, serials: &SerialCipher) -> Result<Decision, DecideError> {
        let accounts: Vec<(&AccountTerms, &ProductTerms, &Account)> = self
            .state
            .compiled
            .accounts_of(self.product)
            .iter()
            .filter_map(|tag| {
                let terms = self.state.compiled.terms(*tag)?;
                Some((&**terms, terms.product()?, self.state.account(*tag)?))
            })
            .collect();
        let Some(source) = self.state.device_id_source(self.product, self.moment.time) else {
            let sku = self.product.clone();
            return Ok(Decision::Refuse(Refusal::ProductNotEntitled { sku }));
        };
        let device_id = match self.identify(source)? {
            Known::New(device_id) => device_id,
            Known::Answer(answer) => return Ok(answer),
        };
        let (clock, mark) = (self.moment.clock, self.state.mark());
        if clock.saturating_add(CLOCK_BACK_SECONDS_MAX) < mark {
            return Ok(Decision::Refuse(Refusal::ClockBack { clock, mark }));
        }
        let mut furthest: Option<(u8, Refusal)> = None;
        for (terms, product, account) in accounts {
            let other;
            let device_id = if product.device_id_source == source {
                &device_id
            } else {
                match self.identify(product.device_id_source)? {
                    Known::New(device_id) => {
                        other = device_id;
                        &other
                    }
                    // Whatever it is, it is not this account that answers it.
                    Known::Answer(_) => continue,
                }
            };
            match self.spend(terms, product, account, device_id, issuer, serials) {
                Ok(decision) => return Ok(decision),
                Err((rule, refusal)) => {
                    if furthest.as_ref().is_none_or(|(before, _)| rule > *before) {
                        furthest = Some((rule, refusal));
                    }
                }
            }
        }
        Ok(Decision::Refuse(match furthest {
            Some((_, refusal)) => refusal,
            None => Refusal::ProductNotEntitled {
                sku: self.product.clone(),
            },
        }))
    }

    /// Finds the device id, and what is known of the device and its key.
    fn identify(&self, source: DeviceIdSource) -> Result<Known, DecideError> {
        let refuse = |refusal| Ok(Known::Answer(Decision::Refuse(refusal)));
        let sku = self.product.clone();
        let text = match source {
            DeviceIdSource::SerialNumber => self.csr.subject_serial_number(),
            DeviceIdSource::CommonName => self.csr.common_name(),
        };
        let Some(text) = text else {
            return refuse(Refusal::DeviceIdMissing {
                sku,
                source_attribute: source,
            });
        };
        let Ok(device_id) = text.parse::<DeviceId>() else {
            return refuse(Refusal::DeviceIdInvalid {
                sku,
                source_attribute: source,
            });
        };
        if let Some(known) = self
            .index
            .device(self.product, &device_id)
            .map_err(DecideError::Lookup)?
        {
            let reservation = known.reservation;
            if known.spki_sha256 == self.spki_sha256 {
                return Ok(Known::Answer(Decision::Existing { reservation }));
            }
            return refuse(Refusal::DeviceKeyChanged {
                sku,
                device_id,
                reservation,
            });
        }
        if let Some(known) = self
            .index
            .key(&self.spki_sha256)
            .map_err(DecideError::Lookup)?
        {
            return refuse(Refusal::KeyReused {
                sku: known.sku,
                device_id: known.device_id,
                reservation: known.reservation,
            });
        }
        Ok(Known::New(device_id))
    }

    /// Spends a unit of one account, or says which of its rules is in the way: the further down, the higher the number.
    fn spend(
        &self,
        terms: &AccountTerms,
        product: &ProductTerms,
        account: &Account,
        device_id: &DeviceId,
        issuer: &Issuer,
        serials: &SerialCipher,
    ) -> Result<Decision, (u8, Refusal)> {
        self.permitted(terms, product, device_id)?;
        self.affordable(terms, product, account)?;
        let slot = account.next_slot;
        let site = terms.entitlement.vault.site.as_str();
        let facts = DeviceFacts {
            device_id: device_id.as_str(),
            sku: self.product.as_str(),
            site,
            spki_der: self.csr.spki_der(),
            key_algorithm: self.csr.key_algorithm(),
        };
        let serial = serials.serial(account.tag, slot, FIRST_ISSUE);
        let tbs = device_tbs(&terms.profile, issuer, &serial, self.moment.time, &facts);
        let tbs = tbs.map_err(|error| {
            let (entitlement, sku) = (terms.entitlement.id.clone(), self.product.clone());
            (
                11,
                Refusal::CertificateUnbuildable {
                    entitlement,
                    sku,
                    why: error.to_string(),
                },
            )
        })?;
        Ok(Decision::Reserve(reservation(
            self.state,
            terms.entitlement.id.clone(),
            account.tag,
            slot,
            device_id.clone(),
            self.spki_sha256,
            tbs,
        )))
    }

    /// When, where and what: the rules that do not count.
    fn permitted(
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
                0,
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
                0,
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
                1,
                Refusal::StationNotAllowed {
                    entitlement,
                    sku,
                    station,
                },
            ));
        }
        let found = self.csr.key_algorithm();
        if !terms.key_algorithms.contains(&found) {
            let (entitlement, sku) = names();
            let allowed = product.key_algorithms.join(", ");
            return Err((
                2,
                Refusal::KeyAlgorithmForbidden {
                    entitlement,
                    sku,
                    found,
                    allowed,
                },
            ));
        }
        if let Some(pattern) = &terms.pattern
            && !pattern.matches(device_id.as_str())
        {
            let (entitlement, sku) = names();
            return Err((
                3,
                Refusal::DeviceIdForbidden {
                    entitlement,
                    sku,
                    device_id: device_id.clone(),
                    pattern: pattern.as_str().to_owned(),
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
                    4,
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
    fn affordable(
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
                5,
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
                6,
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
                7,
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
                8,
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
                9,
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
