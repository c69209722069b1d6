//! How what is staged becomes durable, and what an append that failed leaves.

use super::stage::Staged;
use super::{Ledger, index, open};
use crate::entry::{Body, Entry, LogSequence};
use crate::error::Error;
use crate::index::Batch;
use crate::snapshot::Snapshot;
use crate::storage_error::{StorageError, StorageErrorClass};
use crate::watch::NOBODY;

/// A snapshot of the state is written after this many records, and when the ledger is closed.
pub const RECORDS_PER_SNAPSHOT: u64 = 10_000;

impl Ledger {
    /// Makes everything that is staged durable, as one group, and brings the index up to it.
    ///
    /// # Errors
    /// [`StorageError::DiskFull`] and others of class [`StorageErrorClass::Environment`]: nothing of the group is
    /// stored, and the state is as it was before the group; the reservations in it are void. Of class
    /// [`StorageErrorClass::OutcomeUnknown`]: the process must end, and opening the ledger again finds out.
    pub fn commit(&mut self) -> Result<(), Error> {
        self.usable()?;
        if self.staged.is_empty() {
            return Ok(());
        }
        let staged = std::mem::take(&mut self.staged);
        self.staged_bytes = 0;
        let (mut raws, mut entries) = (Vec::new(), Vec::new());
        for Staged { raw, entry } in staged {
            raws.push(raw);
            entries.push(entry);
        }
        let before = self.log.head();
        let positions = match self.log.append(&before, &raws) {
            Ok(positions) => positions,
            Err(error) => return Err(self.undo(error, &entries)),
        };
        self.overlay.clear();
        let mut batch = Batch::new();
        let mut indexed = Ok(());
        for ((entry, position), at) in entries.iter().zip(positions).zip(before.size..) {
            indexed = index::add(
                &mut batch,
                &*self.index,
                &mut self.underway,
                &self.state,
                LogSequence(at),
                position,
                entry,
            );
            if indexed.is_err() {
                break;
            }
        }
        let written = indexed.and_then(|()| Ok(self.index.write(batch, self.log.head())?));
        // The group is durable whatever became of its index, which is caught up from the log at once or before it is used.
        self.index_behind |= written.is_err();
        if self.index_behind {
            self.index_behind = self.catch_up_index().is_err();
        }
        if self.log.head().size.saturating_sub(self.checkpoint.1.size) >= RECORDS_PER_SNAPSHOT {
            self.keep_snapshot();
        }
        Ok(())
    }

    /// Forgets everything that is staged, as if nobody had asked: what was only tried must not become durable with what
    /// comes after it.
    ///
    /// # Errors
    /// [`Error::Poisoned`] if what is durable cannot be read again.
    pub fn forget_staged(&mut self) -> Result<(), Error> {
        self.usable()?;
        if self.staged.is_empty() {
            return Ok(());
        }
        let staged = std::mem::take(&mut self.staged);
        self.staged_bytes = 0;
        let lost: Vec<Entry> = staged.into_iter().map(|staged| staged.entry).collect();
        self.roll_back(&lost)
    }

    /// Closes the ledger: what is staged is committed, and what follows from the log is kept for the next time.
    ///
    /// # Errors
    /// As [`Ledger::commit`]. That the index or the snapshot could not be kept is no error: both follow from the log.
    pub fn close(mut self) -> Result<(), Error> {
        self.commit()?;
        self.keep_snapshot();
        let _ = self.index.flush();
        Ok(())
    }

    /// An append failed: either the state goes back to what is durable, or nobody knows what that is.
    fn undo(&mut self, error: StorageError, lost: &[Entry]) -> Error {
        if error.class() == StorageErrorClass::OutcomeUnknown {
            self.overlay.clear();
            self.poisoned = true;
            return error.into();
        }
        match self.roll_back(lost) {
            Ok(()) => error.into(),
            Err(poisoned) => poisoned,
        }
    }

    /// Brings the state back to what is durable, without these entries, which are not.
    fn roll_back(&mut self, lost: &[Entry]) -> Result<(), Error> {
        self.overlay.clear();
        for entry in lost {
            if let Body::BundleSealed(sealed) = &entry.body {
                self.requests_unlogged = self
                    .requests_unlogged
                    .saturating_add(sealed.requests_unlogged);
            }
        }
        let (state, head) = &self.checkpoint;
        let mut state = state.clone();
        let head = *head;
        if open::apply_from(&*self.log, &mut state, &head, NOBODY).is_err() {
            self.poisoned = true;
            return Err(Error::Poisoned);
        }
        // The start that was staged may be gone with the rest.
        self.started = self.started && state.boot() == self.state.boot();
        self.state = state;
        let open = self.state.reservations();
        self.in_hand
            .retain(|reservation, _| open.contains_key(reservation));
        Ok(())
    }

    /// Keeps the state as a file and as the place to undo to. Nothing may be staged. A snapshot that cannot be written
    /// is missed by nobody: opening then reads more of the log.
    pub(super) fn keep_snapshot(&mut self) {
        let head = self.log.head();
        if self.state.size() == head.size && self.checkpoint.1 != head {
            self.checkpoint = (self.state.clone(), head);
            self.underway.keep_open(&self.state);
        }
        if let Some(path) = &self.snapshot
            && self.checkpoint.1 == head
        {
            let _ = Snapshot::write(path, &self.checkpoint.0, &head);
        }
    }
}
