//! Units that were taken back from their devices: scrapped and voided ones, and certificates that a rework superseded. What
//! is here stands on the CRL of the device CA that certified it, and none of it is ever spent again.

use std::collections::BTreeMap;

use mintmark_protocol::entitlement::AccountTag;

use super::{OpenReservation, SECONDS_PER_DAY, State};
use crate::decide::DeviceRecord;
use crate::entry::{CrlIssued, DeviceAction, DeviceChanged, LogSequence};
use crate::refusal::Refusal;

/// The fewest days for which a CRL is good.
const CRL_DAYS_MIN: u64 = 30;
/// The most.
const CRL_DAYS_MAX: u64 = 7300;

/// Why a certificate is no longer good.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Withdrawal {
    /// The device was scrapped.
    Scrapped,
    /// The unit never became a device.
    Voided,
    /// A rework gave the device another one.
    Superseded,
    /// Officers revoked it.
    Revoked,
}

impl Withdrawal {
    const ALL: [Self; 4] = [
        Self::Scrapped,
        Self::Voided,
        Self::Superseded,
        Self::Revoked,
    ];

    /// Its name in reports.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Scrapped => "scrapped",
            Self::Voided => "voided",
            Self::Superseded => "superseded",
            Self::Revoked => "revoked",
        }
    }

    /// Whether its unit is over with it. A revoked certificate stays that of a device that was made.
    fn ends_unit(self) -> bool {
        matches!(self, Self::Scrapped | Self::Voided)
    }

    pub(crate) fn number(self) -> u64 {
        match self {
            Self::Scrapped => 0,
            Self::Voided => 1,
            Self::Superseded => 2,
            Self::Revoked => 3,
        }
    }

    pub(crate) fn from_number(number: u64) -> Option<Self> {
        let mut all = Self::ALL.into_iter();
        all.find(|withdrawal| withdrawal.number() == number)
    }

    /// The one of this name, as [`Withdrawal::as_str`] gives it.
    pub fn from_name(name: &str) -> Option<Self> {
        let mut all = Self::ALL.into_iter();
        all.find(|withdrawal| withdrawal.as_str() == name)
    }
}

/// One issue of a unit that is no longer good.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Withdrawn {
    /// Why.
    pub why: Withdrawal,
    /// The reservation of that issue.
    pub reservation: LogSequence,
    /// The record since which it is so.
    pub at: LogSequence,
    /// The time of that record, Unix seconds.
    pub time: u64,
}

/// One issue of a unit: account, slot, issue number.
pub type Issue = (AccountTag, u64, u16);

/// What was taken back, and what may be made again.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct TakenBack {
    pub(crate) issues: BTreeMap<Issue, Withdrawn>,
    /// Units whose device may have another certificate.
    pub(crate) reworks: BTreeMap<(AccountTag, u64), Rework>,
}

/// A unit whose device may have another certificate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Rework {
    /// The record that said so.
    pub(crate) at: LogSequence,
    /// The reservation of the issue that the next one supersedes.
    pub(crate) reservation: LogSequence,
    /// That issue.
    pub(crate) issue: u16,
}

impl TakenBack {
    pub(crate) fn of_unit(
        &self,
        account: AccountTag,
        slot: u64,
    ) -> impl DoubleEndedIterator<Item = (u16, &Withdrawn)> {
        let issues = (account, slot, 0)..=(account, slot, u16::MAX);
        self.issues
            .range(issues)
            .map(|((_, _, issue), withdrawn)| (*issue, withdrawn))
    }

    /// Since when a unit is scrapped or voided.
    pub(crate) fn ended(&self, account: AccountTag, slot: u64) -> Option<&Withdrawn> {
        let mut ended = self.of_unit(account, slot).map(|(_, withdrawn)| withdrawn);
        ended.find(|withdrawn| withdrawn.why.ends_unit())
    }

    /// How many reworks the unit had, one that is open included.
    pub(crate) fn reworks_of(&self, account: AccountTag, slot: u64) -> u64 {
        let superseded = self.of_unit(account, slot);
        let superseded = superseded.filter(|(_, w)| w.why == Withdrawal::Superseded);
        let open = u64::from(self.reworks.contains_key(&(account, slot)));
        (superseded.count() as u64).saturating_add(open)
    }
}

impl State {
    /// Every issue that is no longer good, in order.
    pub fn withdrawn(&self) -> impl Iterator<Item = (&Issue, &Withdrawn)> {
        self.taken_back.issues.iter()
    }

    /// Why and since when an issue of a unit is no longer good; none while nothing was said of it.
    pub fn withdrawal(&self, account: AccountTag, slot: u64, issue: u16) -> Option<&Withdrawn> {
        self.taken_back.issues.get(&(account, slot, issue))
    }

    /// Since when a unit is scrapped or voided; none while it is not.
    pub fn unit_ended(&self, account: AccountTag, slot: u64) -> Option<&Withdrawn> {
        self.taken_back.ended(account, slot)
    }

    /// What is reserved and not signed for, that of units which were scrapped or voided aside: nothing comes of those.
    pub fn unsettled(&self) -> impl Iterator<Item = (&LogSequence, &OpenReservation)> {
        self.reservations
            .iter()
            .filter(|(_, open)| self.unit_ended(open.account, open.slot).is_none())
    }

    /// The record that allowed the unit's device another certificate, which it has not got yet.
    pub fn rework_open(&self, account: AccountTag, slot: u64) -> Option<LogSequence> {
        let rework = self.taken_back.reworks.get(&(account, slot))?;
        Some(rework.at)
    }

    /// How many reworks of the unit there were, one that is open included.
    pub fn reworks_of(&self, account: AccountTag, slot: u64) -> u64 {
        self.taken_back.reworks_of(account, slot)
    }

    /// The issues that the CRL of one of the vault's device CAs names, in order.
    pub fn crl_entries(&self, generation: u16) -> impl Iterator<Item = (&Issue, &Withdrawn)> {
        self.withdrawn().filter(move |(_, withdrawn)| {
            let ca = self.device_ca_of(withdrawn.reservation);
            ca.is_some_and(|ca| ca.generation == generation)
        })
    }

    /// Whether something belongs on the CRL of a device CA that its newest one does not say.
    pub fn crl_is_behind(&self, generation: u16) -> bool {
        let said = self.crls.get(&generation).map(|(at, _)| *at);
        self.crl_entries(generation)
            .any(|(_, withdrawn)| said.is_none_or(|said| withdrawn.at > said))
    }

    /// Whether a device CA has to sign another CRL at `time`, Unix seconds: something belongs on it that the newest one
    /// does not say, or more than half of the newest one's life is over. A device CA that officers revoked signs none any
    /// more: the root's CRL ends everything that it certified.
    pub fn crl_is_due(&self, generation: u16, time: u64) -> bool {
        let mut device_cas = self.device_cas().iter();
        let ca = device_cas.find(|ca| ca.generation == generation);
        let ageing = self.crl(generation).is_some_and(|(_, crl)| {
            let life = crl.next_update.saturating_sub(crl.this_update);
            time >= crl.this_update.saturating_add(life / 2)
        });
        ca.is_some_and(|ca| ca.revoked.is_none()) && (ageing || self.crl_is_behind(generation))
    }

    /// The device CAs that have to sign another CRL at `time`, Unix seconds, the first of them first.
    pub fn crls_due(&self, time: u64) -> impl Iterator<Item = u16> {
        let generations = self.device_cas().iter().map(|ca| ca.generation);
        generations.filter(move |generation| self.crl_is_due(*generation, time))
    }

    /// When a CRL that is signed at `time` ends, Unix seconds: after twice the longest time for which a vault may issue
    /// without an acknowledgement, so that the next one reaches HQ while this one is good; after 30 days at least, and
    /// 7300 at most.
    pub fn crl_next_update(&self, time: u64) -> u64 {
        let live = self
            .entitlements
            .values()
            .filter(|granted| granted.revoked.is_none() && granted.terms.window.until > time);
        let days = live.map(|granted| granted.terms.credit.unreported_days_max);
        let days = days.max().unwrap_or(0).saturating_mul(2);
        let days = days.clamp(CRL_DAYS_MIN, CRL_DAYS_MAX);
        time.saturating_add(days.saturating_mul(SECONDS_PER_DAY))
    }

    /// The number of the next CRL of a device CA, signed at `this_update`, Unix seconds: one more than that of the last.
    /// Since a restore it is at least that time, so that none is given again that a history which was lost may have
    /// given, and whoever holds one of those takes this one for newer (RFC 5280 section 5.2.3).
    pub fn next_crl_number(&self, generation: u16, this_update: u64) -> u64 {
        let last = self.crl(generation).map_or(0, |(_, last)| last.number);
        let forgotten = self.parent().map_or(0, |_| this_update);
        last.saturating_add(1).max(forgotten)
    }

    /// The newest CRL that a device CA of the vault signed, and its record.
    pub fn crl(&self, generation: u16) -> Option<&(LogSequence, CrlIssued)> {
        self.crls.get(&generation)
    }

    /// Why a device gets nothing any more: its unit was scrapped or voided.
    pub(crate) fn device_ended(&self, known: &DeviceRecord) -> Option<Refusal> {
        let ended = self.taken_back.ended(known.account, known.slot)?;
        let (sku, device_id, since) = (known.sku.clone(), known.device_id.clone(), ended.time);
        Some(match ended.why {
            Withdrawal::Scrapped => Refusal::DeviceScrapped {
                sku,
                device_id,
                since,
            },
            Withdrawal::Voided | Withdrawal::Superseded | Withdrawal::Revoked => {
                Refusal::DeviceVoided {
                    sku,
                    device_id,
                    since,
                }
            }
        })
    }

    /// Why a device is not given the certificate that it has: officers revoked it. It may have another one, as a rework.
    pub(crate) fn device_revoked(&self, known: &DeviceRecord) -> Option<Refusal> {
        let withdrawn = self.withdrawal(known.account, known.slot, known.issue)?;
        (withdrawn.why == Withdrawal::Revoked).then(|| Refusal::CertificateRevoked {
            sku: known.sku.clone(),
            device_id: known.device_id.clone(),
            since: withdrawn.time,
        })
    }

    /// What somebody at the vault said of a device: its unit is taken back for good, or may have another certificate.
    pub(crate) fn change_device(
        &mut self,
        changed: &DeviceChanged,
        action: DeviceAction,
        (at, time): (LogSequence, u64),
    ) {
        let unit = (changed.account, changed.slot);
        if self.taken_back.ended(unit.0, unit.1).is_some() {
            return;
        }
        let why = match action {
            DeviceAction::Rework => {
                let rework = Rework {
                    at,
                    reservation: changed.reservation,
                    issue: changed.issue,
                };
                self.taken_back.reworks.insert(unit, rework);
                return;
            }
            DeviceAction::Scrap => Withdrawal::Scrapped,
            DeviceAction::Void => Withdrawal::Voided,
        };
        self.taken_back.reworks.remove(&unit);
        let withdrawn = Withdrawn {
            why,
            reservation: changed.reservation,
            at,
            time,
        };
        let issue = (changed.account, changed.slot, changed.issue);
        self.taken_back.issues.insert(issue, withdrawn);
        let of_unit = (unit.0, unit.1, LogSequence(0))..=(unit.0, unit.1, LogSequence(u64::MAX));
        let mut unresolved = false;
        for (_, _, reservation) in self.open_units.range(of_unit) {
            if let Some(open) = self.reservations.get_mut(reservation) {
                unresolved |= std::mem::take(&mut open.unresolved);
            }
        }
        let Some(account) = self.accounts.get_mut(&unit.0) else {
            return;
        };
        let from = if unresolved {
            &mut account.unresolved
        } else {
            &mut account.good
        };
        *from = from.saturating_sub(1);
        let to = match why {
            Withdrawal::Scrapped => &mut account.scrapped,
            Withdrawal::Voided | Withdrawal::Superseded | Withdrawal::Revoked => {
                &mut account.voided
            }
        };
        *to = to.saturating_add(1);
    }

    /// A unit got another certificate: if a rework allowed it, the one before is no longer good.
    pub(crate) fn supersede(&mut self, unit: (AccountTag, u64), (at, time): (LogSequence, u64)) {
        if let Some(rework) = self.taken_back.reworks.remove(&unit) {
            let withdrawn = Withdrawn {
                why: Withdrawal::Superseded,
                reservation: rework.reservation,
                at,
                time,
            };
            let issue = (unit.0, unit.1, rework.issue);
            let known = self.taken_back.issues.get(&issue);
            // One that officers revoked counts as a rework too from here on.
            if known.is_none_or(|known| known.why == Withdrawal::Revoked) {
                self.taken_back.issues.insert(issue, withdrawn);
            }
        }
    }

    /// Officers revoke a certificate. One that is no longer good already stays so since then.
    pub(crate) fn revoke_issue(
        &mut self,
        issue: Issue,
        reservation: LogSequence,
        (at, time): (LogSequence, u64),
    ) {
        let withdrawn = Withdrawn {
            why: Withdrawal::Revoked,
            reservation,
            at,
            time,
        };
        self.taken_back.issues.entry(issue).or_insert(withdrawn);
    }
}
