//! The rules for requests, in the order in which they are asked.
//!
//! One request has one device id. Where a product's accounts look for it in different places, it is looked for where the
//! account says that would be spent by date: the first whose window is open, else the first that has not ended, else the
//! last that ended. An account that looks elsewhere is asked about the id that it would see, uniqueness included.

mod rules;

use mintmark_pki::{CertificationRequest, DeviceFacts, Issuer, device_tbs};
use mintmark_protocol::entitlement::{AccountTag, DeviceIdSource, ProductTerms};
use mintmark_protocol::identifier::{DeviceId, Fingerprint, KeyLabel, Sku, StationId};

use self::rules::rule;
use super::{
    DecideError, Decision, DeviceRecord, FIRST_ISSUE, Lookup, Moment, Submitted, reservation,
};
use crate::entry::Reserved;
use crate::refusal::Refusal;
use crate::serial::SerialCipher;
use crate::state::terms::AccountTerms;
use crate::state::{Account, State, Station};

/// Everything that the rules look at and that no account changes.
struct Case<'a> {
    state: &'a State,
    index: &'a dyn Lookup,
    moment: Moment,
    product: &'a Sku,
    station: &'a StationId,
    /// What the station may do; none of the operator at the vault's own console.
    standing: Option<&'a Station>,
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
    let standing = match super::station::speaks(state, moment, station, product) {
        Ok(standing) => standing,
        Err(refusal) => return Ok(Decision::Refuse(refusal)),
    };
    let spki_sha256 = Fingerprint::new(csr.spki_sha256());
    let case = Case {
        state,
        index,
        moment,
        product,
        station,
        standing,
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
    /// The device has a certificate, and was allowed another one, be it with this key or another.
    Rework(DeviceRecord),
    /// The request cannot be of a device.
    Refused(Refusal),
}

/// Whether anything new is certified at all: officers have not stopped it, and the clock is right.
pub(super) fn running(state: &State, moment: Moment) -> Result<(), Refusal> {
    if let Some(refusal) = state.stopped() {
        return Err(refusal);
    }
    let (clock, mark) = (moment.clock, state.mark());
    if let Some(stopped) = state.clock_stopped() {
        let expected = stopped.expected;
        return Err(Refusal::ClockJumped {
            clock,
            expected,
            latest: clock > expected && expected == state.clock_latest(),
        });
    }
    if state.clock_is_behind(clock) {
        return Err(Refusal::ClockBack { clock, mark });
    }
    Ok(())
}

/// Whether officers have not ended the entitlement.
pub(super) fn not_revoked(state: &State, terms: &AccountTerms) -> Result<(), Refusal> {
    match state.revoked_at(&terms.entitlement.id) {
        None => Ok(()),
        Some(revoked) => Err(Refusal::EntitlementRevoked {
            entitlement: terms.entitlement.id.clone(),
            since: revoked.time,
        }),
    }
}

/// Which rule of an account is in the way, and how it refuses.
type InTheWay = (u8, Refusal);

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
            Known::Rework(record) => {
                let decided = self.rework(&record, issuer, serials)?;
                return Ok(decided.unwrap_or_else(Decision::Refuse));
            }
            Known::Refused(refusal) => return Ok(Decision::Refuse(refusal)),
        };
        let asked = running(self.state, self.moment)
            .and_then(|()| super::station::works(self.standing, self.moment))
            .and_then(|()| super::station::may_spend(self.standing, self.moment));
        if let Err(refusal) = asked {
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
                    Known::Again(_) | Known::Rework(_) | Known::Refused(_) => continue,
                }
            };
            match self.spend(terms, product, account, device_id, issuer, serials)? {
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

    /// Answers a device that has a certificate, or a unit reserved for one.
    fn again(&self, known: &DeviceRecord, issuer: &Issuer, serials: &SerialCipher) -> Decision {
        let state = self.state;
        if let Some(refusal) = state
            .device_ended(known)
            .or_else(|| state.device_revoked(known))
        {
            return Decision::Refuse(refusal);
        }
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
        running(self.state, self.moment)?;
        let terms = self.terms_of(known)?;
        not_revoked(self.state, terms)?;
        self.issue_again(known, terms, Vec::new(), issuer, serials)
    }

    /// Another certificate for a device that somebody at the vault allowed one, whatever its key. It is made on the line like
    /// the first one, so what says when, where and for which keys is asked again; it has a secret from each key again.
    fn rework(
        &self,
        known: &DeviceRecord,
        issuer: &Issuer,
        serials: &SerialCipher,
    ) -> Result<Result<Decision, Refusal>, DecideError> {
        let asked = running(self.state, self.moment).and_then(|()| {
            super::station::works(self.standing, self.moment)?;
            let terms = self.terms_of(known)?;
            not_revoked(self.state, terms)?;
            let product = terms.product().ok_or_else(|| self.not_entitled())?;
            self.permitted(terms, product, &known.device_id)
                .and_then(|()| self.keys(terms))
                .map_err(|(_, refusal)| refusal)
                .map(|keys| (terms, keys))
        });
        let (terms, keys) = match asked {
            Ok(asked) => asked,
            Err(refusal) => return Ok(Err(refusal)),
        };
        if let Some(refusal) = self.secret_taken(terms, &keys, &known.device_id)? {
            return Ok(Err(refusal));
        }
        Ok(self.issue_again(known, terms, keys, issuer, serials))
    }

    fn not_entitled(&self) -> Refusal {
        Refusal::ProductNotEntitled {
            sku: self.product.clone(),
        }
    }

    fn terms_of(&self, known: &DeviceRecord) -> Result<&AccountTerms, Refusal> {
        let terms = self.state.compiled.terms(known.account);
        terms
            .map(|terms| &**terms)
            .ok_or_else(|| self.not_entitled())
    }

    /// The next issue of a unit that is spent.
    fn issue_again(
        &self,
        known: &DeviceRecord,
        terms: &AccountTerms,
        keys: Vec<KeyLabel>,
        issuer: &Issuer,
        serials: &SerialCipher,
    ) -> Result<Decision, Refusal> {
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
            keys,
        };
        self.reserve(terms, unit, issuer, serials)
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
            let rework = self.state.rework_open(known.account, known.slot).is_some();
            if known.spki_sha256 == self.spki_sha256 {
                return Ok(if rework {
                    Known::Rework(known)
                } else {
                    Known::Again(known)
                });
            }
            if let Some(refusal) = self.state.device_ended(&known) {
                return refuse(refusal);
            }
            if rework {
                return Ok(match self.key_of_another()? {
                    Some(refusal) => Known::Refused(refusal),
                    None => Known::Rework(known),
                });
            }
            return refuse(Refusal::DeviceKeyChanged {
                sku,
                device_id,
                reservation: known.reservation,
            });
        }
        Ok(match self.key_of_another()? {
            Some(refusal) => Known::Refused(refusal),
            None => Known::New(device_id),
        })
    }

    /// Whether the key was certified before: for another device, or for this one and then given up.
    fn key_of_another(&self) -> Result<Option<Refusal>, DecideError> {
        let known = self.index.key(&self.spki_sha256);
        let known = known.map_err(DecideError::Lookup)?;
        Ok(known.map(|known| Refusal::KeyReused {
            sku: known.sku,
            device_id: known.device_id,
            reservation: known.reservation,
        }))
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
    ) -> Result<Result<Decision, InTheWay>, DecideError> {
        let keys = not_revoked(self.state, terms)
            .map_err(|refusal| (rule::REVOKED, refusal))
            .and_then(|()| self.permitted(terms, product, device_id))
            .and_then(|()| self.keys(terms));
        let keys = match keys {
            Ok(keys) => keys,
            Err(in_the_way) => return Ok(Err(in_the_way)),
        };
        if let Some(refusal) = self.secret_taken(terms, &keys, device_id)? {
            return Ok(Err((rule::KEY_DEVICE, refusal)));
        }
        if let Err(in_the_way) = self.affordable(terms, product, account) {
            return Ok(Err(in_the_way));
        }
        let unit = Unit {
            account: account.tag,
            slot: account.next_slot,
            issue: FIRST_ISSUE,
            device_id,
            keys,
        };
        Ok(self
            .reserve(terms, unit, issuer, serials)
            .map_err(|refusal| (rule::CERTIFICATE, refusal)))
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
}
