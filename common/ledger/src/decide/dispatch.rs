//! The rules for dispatches. That officers signed the content, and for whom, is a fact that comes with it; whether it
//! fits what the vault is and has, is decided here.

mod acknowledgement;
mod clock_correction;
mod entitlement;
mod grant;
mod keys;
mod reanchor;
mod revocation;

use mintmark_protocol::acknowledgement::Acknowledgement;
use mintmark_protocol::clock_correction::ClockCorrection;
use mintmark_protocol::enrolment::EnrolmentGrant;
use mintmark_protocol::entitlement::Entitlement;
use mintmark_protocol::order::Order as _;
use mintmark_protocol::reanchor::Reanchor;
use mintmark_protocol::revocation::Revocation;

use super::Moment;
use crate::entry::{Content, Dispatch, Verdict};
use crate::refusal::{DispatchRefusal, Refusal};
use crate::state::State;

/// Whether the dispatch's content takes effect.
pub(super) fn judge(state: &State, moment: Moment, dispatch: &Dispatch) -> Result<(), Refusal> {
    in_order(state, dispatch)?;
    let content = match &dispatch.content {
        Verdict::Rejected { code } => {
            return Err(DispatchRefusal::ContentRejected { code: code.clone() }.into());
        }
        Verdict::Authentic(content) => content,
    };
    let (plaintext, fingerprint) = (content.plaintext(), content.fingerprint());
    match content {
        Content::Grant {
            identity_certificate,
            device_ca_certificate,
            ..
        } => {
            let grant = EnrolmentGrant::from_cbor(plaintext).map_err(malformed)?;
            let certificates = (
                identity_certificate.as_slice(),
                device_ca_certificate.as_slice(),
            );
            if state.knows_grant(fingerprint) {
                // The same thing again, under a new epoch say, changes nothing.
                return Ok(());
            }
            // What the clock said before the vault is let in counts for nothing.
            let time = match state.is_enrolled() {
                true => moment.time,
                false => moment.clock,
            };
            Ok(grant::fits(
                state,
                time,
                dispatch.epoch,
                &grant,
                certificates,
            )?)
        }
        Content::Entitlement { .. } => {
            let entitlement = Entitlement::from_cbor(plaintext).map_err(malformed)?;
            entitlement::fits(state, moment.time, fingerprint, entitlement)
        }
        Content::Acknowledgement { .. } => {
            let acknowledgement = Acknowledgement::from_cbor(plaintext).map_err(malformed)?;
            Ok(acknowledgement::fits(state, &acknowledgement)?)
        }
        Content::Revocation { .. } => {
            let revocation = Revocation::from_cbor(plaintext).map_err(malformed)?;
            Ok(revocation::fits(state, fingerprint, &revocation)?)
        }
        Content::ClockCorrection { .. } => {
            let correction = ClockCorrection::from_cbor(plaintext).map_err(malformed)?;
            Ok(clock_correction::fits(
                state,
                moment.clock,
                fingerprint,
                &correction,
            )?)
        }
        Content::Reanchor { .. } => {
            let reanchor = Reanchor::from_cbor(plaintext).map_err(malformed)?;
            Ok(reanchor::fits(state, moment.time, fingerprint, &reanchor)?)
        }
    }
}

fn malformed(error: mintmark_protocol::Error) -> DispatchRefusal {
    DispatchRefusal::ContentMalformed {
        why: error.to_string(),
    }
}

/// Until when the grant that would let a vault in had to be imported, Unix seconds, if nothing else is wrong with it than
/// that the clock is past that.
///
/// Nothing is known of that clock yet: not even a time of the log's own is believed before the vault is let in. A refusal
/// would be for good, and the vault could never be let in once its clock is right; so a vault waits, and puts nothing on
/// record.
pub fn grant_outlived(state: &State, clock: u64, dispatch: &Dispatch) -> Option<u64> {
    if state.is_enrolled() {
        return None;
    }
    match judge(state, Moment::at(state, clock), dispatch) {
        Err(Refusal::Dispatch(DispatchRefusal::GrantExpired { until })) => Some(until),
        _ => None,
    }
}

/// The vault imports dispatches in order, so nothing that fails here gets here; it is asked again all the same.
fn in_order(state: &State, dispatch: &Dispatch) -> Result<(), DispatchRefusal> {
    let next = state.next_dispatch();
    let expected_epoch = next.epoch.unwrap_or(dispatch.epoch);
    if dispatch.epoch == expected_epoch && dispatch.sequence == next.sequence {
        return Ok(());
    }
    Err(DispatchRefusal::DispatchOutOfOrder {
        expected_epoch,
        expected_sequence: next.sequence,
        found_epoch: dispatch.epoch,
        found_sequence: dispatch.sequence,
    })
}
