//! The rules for a person's word that the clock is right: within bounds, so that no wrong clock can be confirmed far away
//! from the log's own time. Beyond them, officers correct it.

use super::{Decision, Moment};
use crate::refusal::Refusal;
use crate::state::{Reading, State};

pub(super) fn decide(state: &State, moment: Moment) -> Decision {
    let clock = moment.clock;
    let stopped = state.clock_stopped().is_some();
    if !stopped && !state.clock_is_behind(clock) {
        return Decision::Refuse(Refusal::ClockBelieved);
    }
    match within_bounds(state, clock) {
        Ok(()) => Decision::ConfirmClock,
        Err(refusal) => Decision::Refuse(refusal),
    }
}

impl State {
    /// Whether a person may confirm the clock as it is now.
    ///
    /// # Errors
    /// Why not: the refusal that a confirmation would meet.
    pub fn clock_confirmable(&self, reading: Reading) -> Result<(), Refusal> {
        let stopped = match self.clock_due(reading) {
            Some((believed, _)) => !believed,
            None => self.clock_stopped().is_some(),
        };
        if !stopped && !self.clock_is_behind(reading.clock) {
            return Err(Refusal::ClockBelieved);
        }
        within_bounds(self, reading.clock)
    }
}

fn within_bounds(state: &State, clock: u64) -> Result<(), Refusal> {
    let latest = state.clock_latest();
    let earliest = state.clock_earliest();
    if clock < earliest || clock > latest {
        return Err(Refusal::ClockBeyondBound {
            clock,
            earliest,
            latest,
        });
    }
    Ok(())
}
