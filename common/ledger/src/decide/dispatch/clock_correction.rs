//! The rules for clock corrections. They are judged by the clock alone: the log's own time is what they are to correct.

use mintmark_protocol::clock_correction::ClockCorrection;
use mintmark_protocol::identifier::Fingerprint;

use crate::decide::CLOCK_BACK_SECONDS_MAX;
use crate::refusal::DispatchRefusal;
use crate::state::{Place, State};

pub(super) fn fits(
    state: &State,
    clock: u64,
    fingerprint: Fingerprint,
    correction: &ClockCorrection,
) -> Result<(), DispatchRefusal> {
    if state.vault() != Some(&correction.vault) {
        let found = correction.vault.to_string();
        return Err(DispatchRefusal::ClockCorrectionMismatch { found });
    }
    let number = correction.number;
    match state.clock_corrections.place(number, fingerprint) {
        // The same thing again, under a new epoch say, changes nothing.
        Place::Again => return Ok(()),
        Place::Taken => return Err(DispatchRefusal::ClockCorrectionNumberTaken { number }),
        Place::New => {}
    }
    if clock.saturating_add(CLOCK_BACK_SECONDS_MAX) < correction.time {
        return Err(DispatchRefusal::ClockCorrectionAhead {
            clock,
            corrected: correction.time,
        });
    }
    if clock >= correction.approve_until {
        return Err(DispatchRefusal::ClockCorrectionExpired {
            clock,
            until: correction.approve_until,
        });
    }
    Ok(())
}
