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
    pub(crate) reference: Option<Reference>,
    pub(crate) stopped: Option<ClockStopped>,
    /// How far behind the log a person confirmed it to be, in seconds; 0 once it has caught up.
    pub(crate) behind: u64,
}

impl State {
    /// What the clock should say, or the latest that it may say, if a reading is not to be believed; none of one that is.
    pub fn clock_off(&self, reading: Reading) -> Option<u64> {
        let clock = reading.clock;
        if let (Some(reference), Some(steady)) = (self.clock.reference, reading.steady)
            && reference.steady.boot == steady.boot
        {
            let passed = steady.seconds.saturating_sub(reference.steady.seconds);
            let expected = reference.clock.saturating_add(passed);
            return (clock.abs_diff(expected) > CLOCK_STEP_SECONDS_MAX).then_some(expected);
        }
        // The first record has nothing before it to be compared with.
        let latest = self.clock_latest();
        (self.size > 1 && clock > latest).then_some(latest)
    }

    /// The latest that the clock may say after the machine was off, or that a person may confirm, Unix seconds.
    pub fn clock_latest(&self) -> u64 {
        let in_force = self
            .entitlements
            .values()
            .filter(|granted| granted.revoked.is_none() && granted.terms.window.until > self.mark);
        let days = in_force
            .filter_map(|granted| granted.terms.clock_gap_days_max)
            .min();
        let days = days.unwrap_or(CLOCK_GAP_DAYS_DEFAULT);
        self.mark
            .saturating_add(days.saturating_mul(SECONDS_PER_DAY))
    }

    /// Since when the clock is not believed; none while it is.
    pub fn clock_stopped(&self) -> Option<&ClockStopped> {
        self.clock.stopped.as_ref()
    }

    /// How far behind the log the clock may stand, in seconds.
    pub(crate) fn clock_behind_max(&self) -> u64 {
        CLOCK_BACK_SECONDS_MAX.saturating_add(self.clock.behind)
    }

    /// A start states both clocks; if they fit what is known, later readings are measured from here.
    pub(crate) fn note_start(&mut self, clock: u64, steady: Option<Steady>) {
        if self.clock.stopped.is_none() && self.clock_off(Reading { clock, steady }).is_none() {
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

    /// A person said that the clock is right.
    pub(crate) fn confirm_clock(&mut self, clock: u64, steady: Option<Steady>) {
        self.clock.stopped = None;
        self.clock.behind = self.mark.saturating_sub(clock);
        self.mark = self.mark.max(clock);
        self.clock.reference = None;
        self.refer_to(clock, steady);
    }

    /// Officers said what time it is: nothing from before tells anything of the clock.
    pub(crate) fn restart_clock(&mut self) {
        self.clock = Clock::default();
    }

    fn refer_to(&mut self, clock: u64, steady: Option<Steady>) {
        if let Some(steady) = steady {
            self.clock.reference = Some(Reference { clock, steady });
        }
    }
}
