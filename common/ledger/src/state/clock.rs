//! Whether the vault's clock is believed. The clock can be set; what the machine counts since it booted cannot. So within a
//! boot the two are compared, and across boots the clock may not be further ahead of the log than the policy bounds. What
//! was found is logged as a fact, and what follows from it is decided from the log alone.

use super::State;
use crate::decide::CLOCK_BACK_SECONDS_MAX;
use crate::entry::{ClockFound, LogSequence, Steady};

/// By how much the clock and what the machine counts since it booted may differ, in seconds: clocks that are disciplined
/// step by seconds.
pub const CLOCK_STEP_SECONDS_MAX: u64 = 300;
/// How far ahead of the log the clock may be after the machine was off, in days, where no entitlement says so.
pub const CLOCK_GAP_DAYS_DEFAULT: u64 = 30;
/// How far behind the log a person may confirm the clock to be, in seconds.
pub const CLOCK_CONFIRM_BACK_SECONDS_MAX: u64 = SECONDS_PER_DAY;

const SECONDS_PER_DAY: u64 = 86_400;

/// What the clocks of a vault say at one moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reading {
    /// The clock that can be set, Unix seconds.
    pub clock: u64,
    /// What the machine counts; none where it does not say.
    pub steady: Option<Steady>,
}

impl From<u64> for Reading {
    fn from(clock: u64) -> Self {
        Self {
            clock,
            steady: None,
        }
    }
}

/// A moment at which the clock was believed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Reference {
    pub(crate) clock: u64,
    pub(crate) steady: Steady,
}

/// The clock is not believed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ClockStopped {
    /// The record that says so.
    pub at: LogSequence,
    /// What the clock said then, Unix seconds.
    pub clock: u64,
    /// What it should have said, or the latest that it might have said, Unix seconds.
    pub expected: u64,
}

/// What is known of the clock.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Clock {
    /// The first moment of a boot at which the clock was believed. It stays that one until a person confirms another, so
    /// that many small steps count as one large one.
    pub(crate) reference: Option<Reference>,
    pub(crate) stopped: Option<ClockStopped>,
    /// How far behind the log a person confirmed it to be, in seconds; 0 once it has caught up.
    pub(crate) behind: u64,
    /// The newest record is a start from whose clocks something follows, which the next record must say.
    pub(crate) unsaid: bool,
}

impl State {
    /// What the clock should say, or the latest that it may say, if a reading is not to be believed; none of one that is.
    /// Until the vault is enrolled, nothing can be issued, and any clock will do.
    pub fn clock_off(&self, reading: Reading) -> Option<u64> {
        if !self.is_enrolled() {
            return None;
        }
        let clock = reading.clock;
        if let Some(expected) = self.expected_in_boot(reading) {
            return (clock.abs_diff(expected) > CLOCK_STEP_SECONDS_MAX).then_some(expected);
        }
        let latest = self.clock_latest();
        (clock > latest).then_some(latest)
    }

    /// What the clock should say by what the machine counted since the clock was believed in the same boot.
    fn expected_in_boot(&self, reading: Reading) -> Option<u64> {
        let (reference, steady) = (self.clock.reference?, reading.steady?);
        let same = reference.steady.boot == steady.boot;
        let passed = steady.seconds.saturating_sub(reference.steady.seconds);
        same.then(|| reference.clock.saturating_add(passed))
    }

    /// Whether the clock stands behind the log, further than is tolerated or was confirmed.
    pub fn clock_is_behind(&self, clock: u64) -> bool {
        clock.saturating_add(self.clock_behind_max()) < self.mark
    }

    /// What a vault has to put on record of a reading: that the clock is not believed from here on (`false`), or is again,
    /// and what it should have said, or the latest that it might have; none where nothing changes.
    pub(crate) fn clock_due(&self, reading: Reading) -> Option<(bool, u64)> {
        match (self.clock_off(reading), self.clock.stopped) {
            (Some(expected), None) => Some((false, expected)),
            // What is behind the log is not right yet.
            (None, Some(stopped)) if !self.clock_is_behind(reading.clock) => {
                Some((true, stopped.expected))
            }
            _ => None,
        }
    }

    /// The time of the next entry, and the time to judge by: the clock, or the newest time of the log if that is later, or
    /// if the clock is not believed. Unix seconds.
    pub fn time_at(&self, reading: Reading) -> u64 {
        if self.clock.stopped.is_some() || self.clock_off(reading).is_some() {
            return self.mark;
        }
        reading.clock.max(self.mark)
    }

    /// The latest that the clock may say after the machine was off, or that a person may confirm, Unix seconds.
    pub fn clock_latest(&self) -> u64 {
        let in_force = self
            .entitlements
            .values()
            .filter(|granted| granted.revoked.is_none() && granted.terms.window.until > self.mark);
        let days = in_force
            .map(|granted| granted.terms.clock_gap_days_max)
            .map(|days| days.unwrap_or(CLOCK_GAP_DAYS_DEFAULT))
            .min();
        let days = days.unwrap_or(CLOCK_GAP_DAYS_DEFAULT);
        self.mark
            .saturating_add(days.saturating_mul(SECONDS_PER_DAY))
    }

    /// The earliest that a person may confirm, Unix seconds.
    pub fn clock_earliest(&self) -> u64 {
        self.mark.saturating_sub(CLOCK_CONFIRM_BACK_SECONDS_MAX)
    }

    /// Since when the clock is not believed; none while it is.
    pub fn clock_stopped(&self) -> Option<&ClockStopped> {
        self.clock.stopped.as_ref()
    }

    /// How far behind the log a person confirmed the clock to be, in seconds; 0 once it has caught up.
    pub fn clock_behind(&self) -> u64 {
        self.clock.behind
    }

    /// How far behind the log the clock may stand, in seconds.
    pub(crate) fn clock_behind_max(&self) -> u64 {
        CLOCK_BACK_SECONDS_MAX.saturating_add(self.clock.behind)
    }

    /// A start states both clocks; if they fit what is known, later readings are measured from here.
    pub(crate) fn note_start(&mut self, clock: u64, steady: Option<Steady>) {
        let reading = Reading { clock, steady };
        if !self.is_enrolled() {
            // Only the clock by which the vault is let in counts.
            self.restart_clock();
        }
        self.clock.unsaid = self.clock_due(reading).is_some();
        let believed = self.clock.stopped.is_none() && self.clock_off(reading).is_none();
        // A clock that was reset is set right within the boot, and must not be held to what it said before.
        if believed && !(self.is_enrolled() && self.clock_is_behind(clock)) {
            self.refer_to(clock, steady);
        }
    }

    pub(crate) fn note_clock(&mut self, at: LogSequence, clock: u64, found: &ClockFound) {
        if found.believed {
            self.clock.stopped = None;
            self.refer_to(clock, found.steady);
        } else {
            let expected = found.expected;
            self.clock.stopped = Some(ClockStopped {
                at,
                clock,
                expected,
            });
        }
    }

    /// Headquarters let the vault in: what its clock said before counts no more, since nothing was issued by it. That the
    /// grant was drafted before now is sure, but for a day by which the clocks may differ.
    pub(crate) fn begin_time(&mut self, clock: u64, drafted_at: u64) {
        self.mark = clock.max(drafted_at.saturating_sub(SECONDS_PER_DAY));
        if self.clock_is_behind(clock) {
            self.restart_clock();
        }
    }

    /// A person said that the clock is right.
    pub(crate) fn confirm_clock(&mut self, clock: u64, steady: Option<Steady>) {
        self.restart_clock();
        self.clock.behind = self.mark.saturating_sub(clock);
        self.mark = self.mark.max(clock);
        self.refer_to(clock, steady);
    }

    /// Somebody said what time it is: nothing from before tells anything of the clock.
    pub(crate) fn restart_clock(&mut self) {
        self.clock = Clock::default();
    }

    fn refer_to(&mut self, clock: u64, steady: Option<Steady>) {
        let Some(steady) = steady else {
            return;
        };
        let known = self.clock.reference.map(|known| known.steady.boot);
        if known != Some(steady.boot) {
            self.clock.reference = Some(Reference { clock, steady });
        }
    }
}
