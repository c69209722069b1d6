//! The rules for requests, in the order in which they are asked.
//!
//! One request has one device id. Where a product's accounts look for it in different places, it is looked for where the
//! account says that would be spent by date: the first whose window is open, else the first that has not ended, else the
//! last that ended. An account that looks elsewhere is asked about the id that it would see, uniqueness included.

use mintmark_pki::{CertificationRequest, DeviceFacts, Issuer, KeyAlgorithm, device_tbs};
use mintmark_protocol::entitlement::{AccountTag, DeviceIdSource, ProductTerms};
use mintmark_protocol::identifier::{DeviceId, Fingerprint, KeyLabel, Sku, StationId};

use super::{
    CLOCK_BACK_SECONDS_MAX, DecideError, Decision, DeviceRecord, FIRST_ISSUE, Lookup, Moment,
    Submitted, reservation,
};
use crate::entry::Reserved;
use crate::policy::{day_window, hour_window};
use crate::refusal::Refusal;
use crate::serial::SerialCipher;
use crate::state::terms::AccountTerms;
use crate::state::{Account, State};

const SECONDS_PER_HOUR: u64 = 3600;
const SECONDS_PER_DAY: u64 = 86_400;

/// The rules of one account, in the order in which they are asked: of several refusals, the furthest is told.
mod rule {
    pub(super) const REVOKED: u8 = 0;
    pub(super) const WINDOW: u8 = 1;
    pub(super) const STATION: u8 = 2;
    pub(super) const KEY_ALGORITHM: u8 = 3;
    pub(super) const DEVICE_ID: u8 = 4;
    pub(super) const HOURS: u8 = 5;
    pub(super) const KEY_TIME: u8 = 6;
    pub(super) const KEY_RECEIVED: u8 = 7;
    pub(super) const KEY_USES: u8 = 8;
    pub(super) const QUOTA: u8 = 9;
    pub(super) const DAY: u8 = 10;
    pub(super) const HOUR: u8 = 11;
    pub(super) const CREDIT_UNITS: u8 = 12;
    pub(super) const CREDIT_DAYS: u8 = 13;
    pub(super) const CERTIFICATE: u8 = 14;
}

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
    /// The device asked before, with this key.
    Again(DeviceRecord),
    /// The request cannot be of a device.
    Refused(Refusal),
}

/// What a certificate is made for.
struct Unit<'a> {
    account: AccountTag,
    slot: u64,
    issue: u16,
    device_id: &'a DeviceId,
    keys: Vec<KeyLabel>,
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
            Known::Again(record) => return Ok(self.again(&record, issuer, serials)),
            Known::Refused(refusal) => return Ok(Decision::Refuse(refusal)),
        };
        if let Err(refusal) = self.running() {
            return Ok(Decision::Refuse(refusal));
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
                    Known::Again(_) | Known::Refused(_) => continue,
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

    /// Whether anything new is certified at all: officers have not stopped it, and the clock is right.
    fn running(&self) -> Result<(), Refusal> {
        if let Some(refusal) = self.state.stopped() {
            return Err(refusal);
        }
        let (clock, mark) = (self.moment.clock, self.state.mark());
        if clock.saturating_add(CLOCK_BACK_SECONDS_MAX) < mark {
            return Err(Refusal::ClockBack { clock, mark });
        }
        Ok(())
    }

    /// Answers a device that has a certificate, or a unit reserved for one.
    fn again(&self, known: &DeviceRecord, issuer: &Issuer, serials: &SerialCipher) -> Decision {
        let reservation = known.reservation;
        let ca = self.state.device_ca_of(reservation);
        if ca.is_some_and(|ca| ca.revoked.is_some()) {
            return match self.reissue(known, issuer, serials) {
                Ok(decision) => decision,
                Err(refusal) => Decision::Refuse(refusal),
            };
        }
        match self.state.withheld(reservation) {
            Some(refusal) => Decision::Refuse(refusal),
            None => Decision::Existing { reservation },
        }
    }

    /// Another certificate for a device whose own is no longer good because its device CA was revoked. That the device may
    /// have one was decided when its unit was spent; nothing is spent now, so nothing that counts or dates units is asked.
    fn reissue(
        &self,
        known: &DeviceRecord,
        issuer: &Issuer,
        serials: &SerialCipher,
    ) -> Result<Decision, Refusal> {
        self.running()?;
        let terms = self.state.compiled.terms(known.account);
        let terms = terms.ok_or_else(|| Refusal::ProductNotEntitled {
            sku: self.product.clone(),
        })?;
        self.not_revoked(terms)?;
        let issue = known.issue.checked_add(1);
        let issue = issue.ok_or_else(|| Refusal::CertificateUnbuildable {
            entitlement: terms.entitlement.id.clone(),
            sku: self.product.clone(),
            why: "its issue number is the last there is".to_owned(),
        })?;
        let unit = Unit {
            account: known.account,
            slot: known.slot,
            issue,
            device_id: &known.device_id,
            keys: Vec::new(),
        };
        self.reserve(terms, unit, issuer, serials)
    }

    fn not_revoked(&self, terms: &AccountTerms) -> Result<(), Refusal> {
        match self.state.revoked_at(&terms.entitlement.id) {
            None => Ok(()),
            Some(revoked) => Err(Refusal::EntitlementRevoked {
                entitlement: terms.entitlement.id.clone(),
                since: revoked.time,
            }),
        }
    }

    /// Finds the device id, and what is known of the device and its key.
    fn identify(&self, source: DeviceIdSource) -> Result<Known, DecideError> {
        let refuse = |refusal| Ok(Known::Refused(refusal));
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
            if known.spki_sha256 == self.spki_sha256 {
                return Ok(Known::Again(known));
            }
            return refuse(Refusal::DeviceKeyChanged {
                sku,
                device_id,
                reservation: known.reservation,
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
        self.not_revoked(terms)
            .map_err(|refusal| (rule::REVOKED, refusal))?;
        self.permitted(terms, product, device_id)?;
        let keys = self.keys(terms)?;
        self.affordable(terms, product, account)?;
        let unit = Unit {
            account: account.tag,
            slot: account.next_slot,
            issue: FIRST_ISSUE,
            device_id,
            keys,
        };
        self.reserve(terms, unit, issuer, serials)
            .map_err(|refusal| (rule::CERTIFICATE, refusal))
    }

    /// Pins the certificate of a unit; every other rule has been passed.
    fn reserve(
        &self,
        terms: &AccountTerms,
        unit: Unit<'_>,
        issuer: &Issuer,
        serials: &SerialCipher,
    ) -> Result<Decision, Refusal> {
        let site = terms.entitlement.vault.site.as_str();
        let facts = DeviceFacts {
            device_id: unit.device_id.as_str(),
            sku: self.product.as_str(),
            site,
            spki_der: self.csr.spki_der(),
            key_algorithm: self.csr.key_algorithm(),
        };
        let serial = serials.serial(unit.account, unit.slot, unit.issue);
        let tbs = device_tbs(&terms.profile, issuer, &serial, self.moment.time, &facts);
        let tbs = tbs.map_err(|error| Refusal::CertificateUnbuildable {
            entitlement: terms.entitlement.id.clone(),
            sku: self.product.clone(),
            why: error.to_string(),
        })?;
        let reserved = Reserved {
            entitlement: terms.entitlement.id.clone(),
            account: unit.account,
            slot: unit.slot,
            issue: unit.issue,
            device_id: unit.device_id.clone(),
            spki_sha256: self.spki_sha256,
            tbs,
            keys: unit.keys,
        };
        Ok(Decision::Reserve(reservation(self.state, reserved)))
    }

    /// The keys from which the device gets a secret each, or what is in the way of one.
    fn keys(&self, terms: &AccountTerms) -> Result<Vec<KeyLabel>, (u8, Refusal)> {
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
        if !terms.key_algorithms.contains(&found) {
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
