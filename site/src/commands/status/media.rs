//! What went to and fro on media, and what waits to be carried.

use mintmark_ledger::state::State;
use serde::Serialize;

/// What came from headquarters.
#[derive(Serialize)]
pub(super) struct Dispatches {
    epoch: Option<u64>,
    sequence: u64,
}

impl Dispatches {
    pub(super) fn of(state: &State) -> Self {
        let dispatches = state.dispatches();
        Self {
            epoch: dispatches.epoch,
            sequence: dispatches.sequence,
        }
    }

    pub(super) fn words(&self) -> String {
        let epoch = self.epoch.map_or("-".to_owned(), |epoch| epoch.to_string());
        format!("{} in epoch {epoch}", self.sequence)
    }
}

/// What goes to headquarters.
#[derive(Serialize)]
pub(super) struct Bundles {
    sequence: u64,
    acknowledged: u64,
}

impl Bundles {
    pub(super) fn of(state: &State) -> Self {
        let bundles = state.bundles();
        Self {
            sequence: bundles.sequence,
            acknowledged: bundles.acknowledged,
        }
    }

    pub(super) fn words(&self) -> String {
        format!(
            "{} sealed, {} acknowledged",
            self.sequence, self.acknowledged
        )
    }
}

/// What waits to be carried.
#[derive(Serialize)]
pub(super) struct Waiting {
    /// Sealed bundles that headquarters has not acknowledged: every export carries them.
    bundles_waiting: u64,
    /// Something was logged that no bundle holds yet: the next export seals one.
    bundle_needed: bool,
    /// Every export carries the enrolment request until the grant is here.
    enrolment_request: bool,
    /// The same of the request for the next device CA.
    rotation_request: bool,
    /// Units that headquarters has not acknowledged.
    units_unreported: u64,
    /// The dispatch that comes next from headquarters; what comes before its turn stays on its medium.
    dispatch_next: u64,
}

impl Waiting {
    pub(super) fn of(state: &State, now: u64) -> Self {
        let bundles = state.bundles();
        Self {
            bundles_waiting: bundles.sequence.saturating_sub(bundles.acknowledged),
            bundle_needed: state.is_enrolled() && state.needs_bundle(now),
            enrolment_request: !state.is_enrolled(),
            rotation_request: state.rotation_pending().is_some(),
            units_unreported: state.units_unreported(),
            dispatch_next: state.next_dispatch().sequence,
        }
    }

    pub(super) fn words(&self) -> String {
        let mut parts = Vec::new();
        if self.enrolment_request {
            parts.push("the enrolment request".to_owned());
        }
        if self.rotation_request {
            parts.push("the request for a device CA".to_owned());
        }
        match self.bundles_waiting {
            0 => {}
            1 => parts.push("1 bundle".to_owned()),
            many => parts.push(format!("{many} bundles")),
        }
        if self.bundle_needed {
            parts.push("what no bundle holds yet".to_owned());
        }
        if parts.is_empty() {
            "nothing to carry to headquarters".to_owned()
        } else {
            format!("to carry to headquarters: {}", parts.join(", "))
        }
    }
}
