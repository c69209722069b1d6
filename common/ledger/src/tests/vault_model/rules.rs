//! The naive vault: plain lists, and every rule written out once more.

use std::collections::{BTreeMap, BTreeSet};

use mintmark_protocol::identifier::Fingerprint;

use super::stations::Station;
use crate::entry::DeviceAction;

pub(super) const PRODUCTS: [&str; 2] = ["TH-200", "TH-300"];
pub(super) const UNITS_PER_HOUR: u64 = 2;
pub(super) const UNITS_PER_DAY: u64 = 3;
pub(super) const CREDIT_UNITS: u64 = 7;
pub(super) const CREDIT_DAYS: u64 = 14;
pub(super) const LEASE: u64 = 3;
/// After how many days headquarters' records may go.
pub(super) const RETENTION_DAYS: u64 = 2;
/// How often a device of each product may be reworked.
pub(super) const REWORKS: [u64; 2] = [2, 0];
/// The counter of the token's anchor.
pub(super) const ANCHOR: u64 = 1;

const HOUR: u64 = 3600;
const DAY: u64 = 24 * HOUR;
/// How far behind the log the clock may stand.
const BACK: u64 = 300;
/// How far ahead of it.
const AHEAD: u64 = 30 * DAY;

/// A spent unit.
#[derive(Clone, Debug)]
pub(super) struct Unit {
    product: usize,
    /// Who asked for it.
    station: usize,
    slot: u64,
    time: u64,
    /// The record that spent it.
    reservation: u64,
    signed: bool,
    ended: Option<DeviceAction>,
    /// Reworks that were allowed, and whether the last of them is open.
    reworks: u64,
    rework_open: bool,
}

/// A certificate of a unit, or what is reserved for one.
#[derive(Clone, Debug)]
pub(super) struct Issue {
    pub(super) unit: usize,
    pub(super) slot: u64,
    pub(super) issue: u16,
    pub(super) key: u8,
    pub(super) reservation: u64,
    pub(super) tbs: Vec<u8>,
    pub(super) signed: bool,
    /// The record that says so.
    pub(super) signed_at: u64,
    /// It was not signed for when the next issue took its place, and never is.
    pub(super) replaced: bool,
}

/// Who asks for a certificate of what.
#[derive(Clone, Copy, Debug)]
pub(super) struct Asked {
    pub(super) station: usize,
    pub(super) product: usize,
    pub(super) device: u8,
    pub(super) key: u8,
}

#[derive(Clone, Copy, Debug)]
pub(super) struct Bundle {
    pub(super) fingerprint: Fingerprint,
    pub(super) log_size: u64,
}

/// Everything that a vault knows.
#[derive(Clone, Debug, Default)]
pub(super) struct Model {
    /// Records in the log.
    pub(super) size: u64,
    /// The time of each of them.
    pub(super) times: Vec<u64>,
    /// The process put its start on record.
    pub(super) started: bool,
    /// The newest time in the log.
    pub(super) mark: u64,
    /// The clock is not believed.
    pub(super) stopped: bool,
    /// How far behind a person confirmed the clock to be.
    pub(super) behind: u64,
    pub(super) version: u64,
    pub(super) authorised: [u64; 2],
    pub(super) next_slot: [u64; 2],
    pub(super) burned: [u64; 2],
    units: Vec<Unit>,
    pub(super) issues: Vec<Issue>,
    /// By product and device, the newest issue.
    devices: BTreeMap<(usize, u8), usize>,
    keys: BTreeSet<u8>,
    /// The stations that were ever let in.
    pub(super) stations: BTreeMap<usize, Station>,
    /// Reservations whose certificates are no longer good.
    pub(super) withdrawn: BTreeSet<u64>,
    pub(super) on_crl: usize,
    pub(super) crls: u64,
    pub(super) bundles: Vec<Bundle>,
    pub(super) acknowledged_size: u64,
    pub(super) dispatches: u64,
    pub(super) revocations: u64,
    pub(super) revoked: bool,
    pub(super) disabled: bool,
}

impl Model {
    /// A vault that was initialised.
    pub(super) fn new(now: u64) -> Self {
        Self {
            size: 1,
            times: vec![now],
            mark: now,
            ..Self::default()
        }
    }

    fn is_ahead(&self, now: u64) -> bool {
        now > self.mark + AHEAD
    }

    fn is_behind(&self, now: u64) -> bool {
        now + BACK + self.behind < self.mark
    }

    /// The time that rules go by.
    pub(super) fn time(&self, now: u64) -> u64 {
        if self.stopped || self.is_ahead(now) {
            self.mark
        } else {
            now.max(self.mark)
        }
    }

    /// One more record.
    pub(super) fn entry(&mut self, now: u64) {
        self.size += 1;
        self.mark = self.time(now);
        self.times.push(self.mark);
        if self.mark == now {
            self.behind = 0;
        }
    }

    /// Before anything else, a process says that it began, and whether its clock can be right.
    pub(super) fn ready(&mut self, now: u64) {
        if !self.started {
            self.entry(now);
            self.started = true;
        }
        let ahead = self.is_ahead(now);
        if !self.stopped && ahead {
            self.entry(now);
            self.stopped = true;
        } else if self.stopped && !ahead && !self.is_behind(now) {
            self.entry(now);
            self.stopped = false;
        }
    }

    /// Why nothing new is certified.
    fn not_running(&self, now: u64) -> Option<&'static str> {
        if self.disabled {
            Some("VAULT-DISABLED")
        } else if self.stopped {
            Some("CLOCK-JUMPED")
        } else if self.is_behind(now) {
            Some("CLOCK-BACK")
        } else {
            None
        }
    }

    fn revocation(&self) -> Option<&'static str> {
        self.revoked.then_some("ENTITLEMENT-REVOKED")
    }

    fn ended(&self, unit: usize) -> Option<&'static str> {
        match self.units[unit].ended? {
            DeviceAction::Scrap => Some("DEVICE-SCRAPPED"),
            _ => Some("DEVICE-VOIDED"),
        }
    }

    /// Why an open reservation is not to be signed.
    pub(super) fn withheld(&self, issue: &Issue) -> Option<&'static str> {
        let disabled = self.disabled.then_some("VAULT-DISABLED");
        self.ended(issue.unit).or(self.revocation()).or(disabled)
    }

    pub(super) fn newest(&self, product: usize, device: u8) -> Option<&Issue> {
        let at = self.devices.get(&(product, device))?;
        Some(&self.issues[*at])
    }

    /// The units that headquarters does not hold yet.
    pub(super) fn unreported(&self) -> impl Iterator<Item = &Unit> {
        let held = self.acknowledged_size;
        self.units
            .iter()
            .filter(move |unit| unit.reservation >= held)
    }

    /// When the last moment is at which the oldest unit that is not reported is not too old.
    fn credit_until(&self) -> Option<u64> {
        let oldest = self.unreported().map(|unit| unit.time).min()?;
        Some(oldest + CREDIT_DAYS * DAY)
    }

    /// The credit in days ends within the hour, or ended.
    pub(super) fn credit_is_unsure(&self, now: u64) -> bool {
        let time = self.time(now);
        self.credit_until().is_some_and(|until| until - HOUR < time)
    }

    /// When each unit was spent that a station had.
    pub(super) fn units_of(&self, station: usize) -> impl Iterator<Item = u64> {
        let units = self
            .units
            .iter()
            .filter(move |unit| unit.station == station);
        units.map(|unit| unit.time)
    }

    /// What a request is answered.
    pub(super) fn answer(&self, now: u64, asked: Asked) -> &'static str {
        let Asked {
            station,
            product,
            device,
            key,
        } = asked;
        if let Some(silent) = self.silent(now, station, product) {
            return silent;
        }
        let strange = Self::strange(station, product);
        let key_reused = self.keys.contains(&key).then_some("KEY-REUSED");
        if let Some(known) = self.newest(product, device) {
            if let Some(ended) = self.ended(known.unit) {
                return ended;
            }
            if self.units[known.unit].rework_open {
                let key_reused = key_reused.filter(|_| known.key != key);
                let stopped = key_reused.or(self.not_running(now));
                let stopped = stopped.or(self.off(now, station)).or(self.revocation());
                return stopped.or(strange).unwrap_or("reissued");
            }
            if known.key != key {
                return "DEVICE-KEY-CHANGED";
            }
            let withheld = self.withheld(known).filter(|_| !known.signed);
            return withheld.unwrap_or("existing");
        }
        let stopped = key_reused.or(self.not_running(now));
        let stopped = stopped
            .or(self.off(now, station))
            .or(self.sated(now, station));
        if let Some(stopped) = stopped.or(self.revocation()).or(strange) {
            return stopped;
        }
        let time = self.time(now);
        let of_product = || self.units.iter().filter(|unit| unit.product == product);
        let within = |length: u64| {
            let same = of_product().filter(|unit| unit.time / length == time / length);
            same.count() as u64
        };
        if self.next_slot[product] >= self.authorised[product] {
            "QUOTA-EXHAUSTED"
        } else if within(DAY) >= UNITS_PER_DAY {
            "RATE-DAY"
        } else if within(HOUR) >= UNITS_PER_HOUR {
            "RATE-HOUR"
        } else if self.unreported().count() as u64 >= CREDIT_UNITS {
            "CREDIT-UNITS-EXHAUSTED"
        } else if self.credit_until().is_some_and(|until| until < time) {
            "CREDIT-DAYS-EXHAUSTED"
        } else {
            "issued"
        }
    }

    /// The newest record is a reservation.
    pub(super) fn reserve(&mut self, asked: Asked, tbs: Vec<u8>) -> Issue {
        let Asked {
            station,
            product,
            device,
            key,
        } = asked;
        let reservation = self.size - 1;
        let (unit, issue) = match self.newest(product, device).cloned() {
            Some(before) => {
                self.withdrawn.insert(before.reservation);
                self.units[before.unit].rework_open = false;
                (before.unit, before.issue + 1)
            }
            None => {
                self.units.push(Unit {
                    product,
                    station,
                    slot: self.next_slot[product],
                    time: self.mark,
                    reservation,
                    signed: false,
                    ended: None,
                    reworks: 0,
                    rework_open: false,
                });
                self.next_slot[product] += 1;
                (self.units.len() - 1, 0)
            }
        };
        self.keys.insert(key);
        if let Some(before) = self.devices.get(&(product, device)) {
            let before = &mut self.issues[*before];
            before.replaced = !before.signed;
        }
        self.devices.insert((product, device), self.issues.len());
        let slot = self.units[unit].slot;
        let issue = Issue {
            unit,
            slot,
            issue,
            key,
            reservation,
            tbs,
            signed: false,
            signed_at: 0,
            replaced: false,
        };
        self.issues.push(issue.clone());
        issue
    }

    pub(super) fn sign(&mut self, at: usize) {
        let issue = &mut self.issues[at];
        issue.signed = true;
        issue.signed_at = self.size - 1;
        self.units[issue.unit].signed = true;
    }

    /// What is decided on a device order; what it does is done.
    pub(super) fn order(&mut self, now: u64, action: DeviceAction, asked: Asked) -> &'static str {
        let Asked {
            station,
            product,
            device,
            ..
        } = asked;
        if let Some(silent) = self.silent(now, station, product) {
            return silent;
        }
        let Some(known) = self.newest(product, device) else {
            return "DEVICE-UNKNOWN";
        };
        let (at, reservation) = (known.unit, known.reservation);
        if let Some(ended) = self.ended(at) {
            return ended;
        }
        let unit = &self.units[at];
        if action != DeviceAction::Void && !unit.signed {
            return "DEVICE-UNRESOLVED";
        }
        if action == DeviceAction::Rework {
            let open = unit.rework_open.then_some("REWORK-OPEN");
            let exhausted = (unit.reworks >= REWORKS[product]).then_some("REWORK-EXHAUSTED");
            let stopped = self.not_running(now).or(open).or(self.revocation());
            if let Some(stopped) = stopped.or(exhausted) {
                return stopped;
            }
            self.units[at].rework_open = true;
            self.units[at].reworks += 1;
        } else {
            self.withdrawn.insert(reservation);
            self.units[at].rework_open = false;
            self.units[at].ended = Some(action);
        }
        "device-changed"
    }

    /// What is decided when a person says that the clock is right.
    pub(super) fn confirmation(&self, now: u64) -> &'static str {
        if !self.stopped && !self.is_behind(now) {
            "CLOCK-BELIEVED"
        } else if now + DAY < self.mark || self.is_ahead(now) {
            "CLOCK-BEYOND-BOUND"
        } else {
            "accepted"
        }
    }

    pub(super) fn confirmed(&mut self, now: u64) {
        self.stopped = false;
        self.behind = self.mark.saturating_sub(now);
        self.mark = self.mark.max(now);
    }

    /// Good, scrapped, voided, unresolved and burned.
    pub(super) fn counts(&self, product: usize) -> [u64; 5] {
        let count = |of: &dyn Fn(&Unit) -> bool| {
            let units = self.units.iter().filter(|unit| unit.product == product);
            units.filter(|unit| of(unit)).count() as u64
        };
        let burned = self.burned[product];
        [
            count(&|unit| unit.ended.is_none() && unit.signed),
            count(&|unit| unit.ended == Some(DeviceAction::Scrap)),
            count(&|unit| unit.ended == Some(DeviceAction::Void)),
            count(&|unit| unit.ended.is_none() && !unit.signed) + burned,
            burned,
        ]
    }
}
