//! What is decided or stated, and not durable yet.

use super::Ledger;
use crate::apply::{Effect, apply};
use crate::decide::RULES_VERSION;
use crate::entry::{Body, ClockFound, Entry, LogSequence, Start};
use crate::error::Error;
use crate::log::{GROUP_BYTES_MAX, GROUP_RECORDS_MAX};
use crate::state::Reading;

/// Groups are kept below these, with room for a decision that must share its input's group.
pub(super) const STAGED_RECORDS_MAX: usize = GROUP_RECORDS_MAX / 2;

pub(super) const STAGED_BYTES_MAX: usize = GROUP_BYTES_MAX / 2;

/// A staged record.
pub(super) struct Staged {
    pub(super) raw: Vec<u8>,
    pub(super) entry: Entry,
}

impl Ledger {
    /// Before anything is staged: the ledger is usable, there is room, and the start of this process is on record.
    pub(super) fn ready(&mut self, now: Reading) -> Result<(), Error> {
        self.usable()?;
        if self.index_behind {
            self.catch_up_index()?;
            self.index_behind = false;
        }
        if self.staged.len() >= STAGED_RECORDS_MAX || self.staged_bytes >= STAGED_BYTES_MAX {
            self.commit()?;
        }
        if !self.started {
            let lineage = self.state.lineage().ok_or_else(|| Error::Input {
                why: "the log has no genesis record".to_owned(),
            })?;
            self.started = true;
            let start = Start {
                lineage,
                boot: self.state.boot().saturating_add(1),
                rules_version: RULES_VERSION,
                software: self.software.clone(),
                steady: now.steady,
                anchor: self.anchor,
            };
            self.stage_body(now, Body::Start(start));
        }
        self.watch_clock(now);
        Ok(())
    }

    /// Puts on record that the clock is not believed from here on, or is again.
    fn watch_clock(&mut self, now: Reading) {
        let Some((believed, expected)) = self.state.clock_due(now) else {
            return;
        };
        let found = ClockFound {
            believed,
            expected,
            steady: now.steady,
        };
        self.stage_body(now, Body::Clock(found));
    }

    pub(super) fn entry(&self, now: Reading, body: Body) -> Entry {
        let time = self.state.time_at(now);
        let behind = i128::from(time) - i128::from(now.clock);
        Entry {
            time,
            clock_behind_seconds: i64::try_from(behind).unwrap_or(i64::MIN),
            body,
        }
    }

    pub(super) fn stage_body(&mut self, now: Reading, body: Body) -> LogSequence {
        let entry = self.entry(now, body);
        let raw = entry.to_cbor();
        self.stage(entry, raw)
    }

    pub(super) fn stage(&mut self, entry: Entry, raw: Vec<u8>) -> LogSequence {
        debug_assert_eq!(Entry::from_cbor(&raw).ok().as_ref(), Some(&entry));
        let sequence = LogSequence(self.state.size());
        if let Some(Effect::Reserved(record)) = apply(&mut self.state, &raw, &entry) {
            self.overlay.add(record);
        }
        self.staged_bytes = self.staged_bytes.saturating_add(raw.len());
        self.staged.push(Staged { raw, entry });
        sequence
    }
}
