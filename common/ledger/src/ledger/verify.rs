//! Reading a log again where opening it takes something as known.

use super::index::decode;
use super::open::position_of;
use super::{Ledger, View};
use crate::apply::apply_leaf;
use crate::entry::LogSequence;
use crate::error::Error;
use crate::log::{Head, LogStore, Position};
use crate::state::State;
use crate::storage_error::StorageError;

impl View {
    /// Reads the whole log: each record's frame, number and link, and that it adds up to the state, the Merkle root
    /// included. Nothing that was kept is believed. Calls `read` after each record.
    ///
    /// # Errors
    /// [`StorageError::LogCorrupt`] if the log is not what was written; [`Error::RecordUnreadable`]; others of
    /// [`StorageError`] if it cannot be read.
    pub fn verify(&self, mut read: impl FnMut()) -> Result<(), Error> {
        let log = self.log();
        let (mut state, mut end) = (State::new(), Head::default());
        for record in log.scan(Position::START)? {
            let record = record?;
            apply_leaf(&mut state, record.leaf(), &decode(&record)?);
            end = record.head();
            read();
        }
        if end != log.head() {
            return Err(corrupt(log, "the log does not end as it is known to").into());
        }
        if state != *self.state() {
            let reason = "the state that was kept is not what the log adds up to";
            return Err(corrupt(log, reason).into());
        }
        Ok(())
    }
}

impl Ledger {
    /// Reads the durable records from `from` on: each one's frame, number and link, up to the end that is known.
    ///
    /// # Errors
    /// [`StorageError::LogCorrupt`] if one is not what was written; others of [`StorageError`] if they cannot be read.
    pub fn verify_from(&self, from: LogSequence) -> Result<(), Error> {
        let head = self.log.head();
        if from.number() >= head.size {
            return Ok(());
        }
        let start = position_of(&*self.index, &*self.log, from)?;
        let (mut next, mut end) = (from.number(), Head::default());
        for record in self.log.scan(start)? {
            let record = record?;
            if record.sequence != next {
                let reason = "the record has another sequence number";
                return Err(corrupt(&*self.log, reason).into());
            }
            next += 1;
            end = record.head();
        }
        if end == head {
            Ok(())
        } else {
            Err(corrupt(&*self.log, "the log does not end as it is known to").into())
        }
    }
}

fn corrupt(log: &dyn LogStore, reason: &'static str) -> StorageError {
    StorageError::LogCorrupt {
        sequence: None,
        position: log.head().end,
        reason,
    }
}
