//! Accounts: one product of one entitlement, and what became of its units.

use mintmark_protocol::entitlement::AccountTag;
use mintmark_protocol::identifier::{EntitlementId, Sku};

/// How many units fell into one window of time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct WindowCount {
    /// The number of the window: whole hours or whole days since 1970.
    pub window: u64,
    /// Units in it; 2^64 - 1 after time was set back into it, when how many is not known any more.
    pub units: u64,
}

impl WindowCount {
    /// The units in the window of this number. Those of a later window count in it too: time that was set back gives no
    /// rate back.
    pub fn units_in(&self, window: u64) -> u64 {
        if self.window >= window { self.units } else { 0 }
    }

    pub(crate) fn add(&mut self, window: u64) {
        self.units = self.units_in(window).saturating_add(1);
        self.window = self.window.max(window);
    }

    /// Time goes on in the window of this number. If that is an earlier one, what fell into it before is forgotten, so
    /// nothing more may fall into it; the next one is as any other.
    pub(crate) fn go_on_in(&mut self, window: u64) {
        if self.window > window {
            *self = Self {
                window,
                units: u64::MAX,
            };
        }
    }
}

/// The most days whose units an account keeps apart: what its present rate is told by.
pub const DAYS_KEPT_MAX: usize = 15;

/// One account. `authorised = good + scrapped + voided + unresolved + unspent`, unless the log holds a fraud.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Account {
    /// Its tag, which it keeps through amendments.
    pub tag: AccountTag,
    /// Its entitlement.
    pub entitlement: EntitlementId,
    /// Its product.
    pub sku: Sku,
    /// Units in all, by the version in force; 0 if an amendment no longer names the product.
    pub authorised: u64,
    /// The slot that the next unit takes.
    pub next_slot: u64,
    /// Units with a certificate.
    pub good: u64,
    /// Units whose device was scrapped.
    pub scrapped: u64,
    /// Units that were voided before a device got them.
    pub voided: u64,
    /// Units that are spent and have no certificate: reserved ones, and those that were burned.
    pub unresolved: u64,
    /// Units that were leased and may have been spent when the vault did not stop cleanly; they count as unresolved.
    pub burned: u64,
    /// Units of the newest UTC hour with any.
    pub hour: WindowCount,
    /// Units of the newest UTC day with any.
    pub day: WindowCount,
    /// Units of the newest UTC days with any, at most [`DAYS_KEPT_MAX`] of them, in order.
    pub days: Vec<WindowCount>,
}

impl Account {
    pub(crate) fn new(
        tag: AccountTag,
        entitlement: EntitlementId,
        sku: Sku,
        authorised: u64,
    ) -> Self {
        Self {
            tag,
            entitlement,
            sku,
            authorised,
            next_slot: 0,
            good: 0,
            scrapped: 0,
            voided: 0,
            unresolved: 0,
            burned: 0,
            days: Vec::new(),
            hour: WindowCount::default(),
            day: WindowCount::default(),
        }
    }

    /// Counts a unit of the day of this number.
    pub(crate) fn count_day(&mut self, day: u64) {
        self.day.add(day);
        match self.days.last_mut() {
            Some(newest) if newest.window >= day => newest.units = newest.units.saturating_add(1),
            _ => self.days.push(WindowCount {
                window: day,
                units: 1,
            }),
        }
        if self.days.len() > DAYS_KEPT_MAX {
            self.days.remove(0);
        }
    }

    /// Units spent: good, scrapped, voided or unresolved.
    pub fn spent(&self) -> u64 {
        [self.scrapped, self.voided, self.unresolved]
            .into_iter()
            .fold(self.good, u64::saturating_add)
    }

    /// Units left.
    pub fn unspent(&self) -> u64 {
        self.authorised.saturating_sub(self.spent())
    }
}
