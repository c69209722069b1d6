//! The rules for a person's word that the clock is right: within bounds, so that no wrong clock can be confirmed far away
//! from the log's own time. Beyond them, officers correct it.

use super::{Decision, Moment};
use crate::refusal::Refusal;
use crate::state::State;
use crate::state::clock::CLOCK_CONFIRM_BACK_SECONDS_MAX;

pub(super) fn decide(state: &State, moment: Moment) -> Decision {
    let (clock, mark) = (moment.clock, state.mark());
    let stopped = state.clock_stopped().is_some();
    let behind = clock.saturating_add(state.clock_behind_max()) < mark;
    if !stopped && !behind {
        return Decision::Refuse(Refusal::ClockBelieved);
    }
    let latest = state.clock_latest();
    let earliest = mark.saturating_sub(CLOCK_CONFIRM_BACK_SECONDS_MAX);
    if clock < earliest || clock > latest {
        return Decision::Refuse(Refusal::ClockBeyondBound {
            clock,
            earliest,
            latest,
        });
    }
    Decision::ConfirmClock
}
