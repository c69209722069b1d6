//! Pruning: records that headquarters holds give way to what the vault still needs of them.
//!
//! A certification request, a to-be-signed certificate and a signature are the bulk of a log, and nothing is decided by them
//! once the certificate was released. They go; who the device is, which slot it spent and under which serial stays, and so
//! do the hashes of each record. So the log adds up to the same state and the same root, the index is made again from it,
//! and a device that asks again is known. A reservation without its signature stays whole, and so does all that is no unit.

use mintmark_protocol::identifier::Fingerprint;

use super::Ledger;
use super::index::decode;
use super::open::position_of;
use crate::entry::{
    Body, Entry, LogSequence, PRUNED_FILES_MAX, Pruned, PrunedRecords, Request, Reserved, Signed,
    Submission,
};
use crate::error::Error;
use crate::log::{LogStore, PrunedFile, Record};
use crate::serial::{serial_of, tbs_of};
use crate::state::{Reading, State};
use crate::storage_error::{StorageError, StorageErrorClass};
use crate::watch::{NOBODY, Watch, Watched, Work};

/// The code that stands in the place of a request that was pruned.
const PRUNED: &str = "PRUNED";

/// What may be pruned, or was.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Prunable {
    /// The first record.
    pub first: u64,
    /// The record after the last.
    pub end: u64,
    /// The time of the last, Unix seconds.
    pub newest: u64,
}

impl Ledger {
    /// What may be pruned at `now`: durable records that headquarters acknowledged, and of which it says that it holds
    /// them (those below `held`), older than the days that all entitlements of the vault agree on. None: nothing.
    ///
    /// # Errors
    /// [`Error::Storage`] and [`Error::RecordUnreadable`] if the log cannot be read.
    pub fn prunable(&self, now: impl Into<Reading>, held: u64) -> Result<Option<Prunable>, Error> {
        let Some(until) = self.state.prunable_until(self.state.time_at(now.into())) else {
            return Ok(None);
        };
        let limit = held
            .min(self.state.bundles().acknowledged_log_size)
            .min(self.size());
        let first = pruned_end(&self.log.pruned()?);
        if first >= limit {
            return Ok(None);
        }
        let start = position_of(&*self.index, &*self.log, LogSequence(first))?;
        let mut found: Option<Prunable> = None;
        for record in self.log.scan(start)? {
            let record = record?;
            let entry = decode(&record)?;
            if record.sequence >= limit || entry.time > until {
                break;
            }
            found = Some(Prunable {
                first,
                end: record.sequence.saturating_add(1),
                newest: entry.time,
            });
        }
        Ok(found)
    }

    /// Prunes that, but for a last group that is not wholly in it, and puts on record that it was. What is staged is
    /// committed. None: nothing was pruned.
    ///
    /// # Errors
    /// As [`Ledger::prunable`] and [`Ledger::commit`]. Whatever it fails with, each record is there in one of its two forms,
    /// and the next time goes on from there; of class [`StorageErrorClass::OutcomeUnknown`], once the ledger is opened again.
    pub fn prune(&mut self, now: impl Into<Reading>, held: u64) -> Result<Option<Prunable>, Error> {
        self.prune_watched(now, held, NOBODY)
    }

    /// As [`Ledger::prune`], for somebody who sees how far it is.
    ///
    /// # Errors
    /// As there.
    pub fn prune_watched(
        &mut self,
        now: impl Into<Reading>,
        held: u64,
        watch: Watch<'_>,
    ) -> Result<Option<Prunable>, Error> {
        let now = now.into();
        self.ready(now)?;
        self.commit()?;
        let Some(prunable) = self.prunable(now, held)? else {
            return Ok(None);
        };
        let mut newest = None;
        let records = prunable.end.saturating_sub(prunable.first);
        let mut watched = Watched::begin(watch, Work::Pruning, records);
        let state = &self.state;
        let files = self
            .log
            .prepare_prune(prunable.end, &mut |record: &Record| {
                let entry = Entry::from_cbor(&record.bytes).ok();
                newest = entry.as_ref().map(|entry| entry.time).or(newest);
                watched.advance();
                Ok(entry.and_then(|entry| shortened(state, LogSequence(record.sequence), entry)))
            })?;
        let (Some(last), Some(newest)) = (files.last(), newest) else {
            return Ok(None);
        };
        let end = last.end;
        let files: Vec<PrunedRecords> = files.iter().map(records_of).collect();
        for files in files.chunks(PRUNED_FILES_MAX) {
            let files = files.to_vec();
            let pruned = Pruned { newest, files };
            let time = self.state.time_at(now);
            let fits = self.state.prune_fits(&pruned, time);
            fits.map_err(|why| Error::Input { why })?;
            self.stage_body(now, Body::Pruned(pruned));
        }
        if let Err(error) = self.commit() {
            // What was put beside the log takes room that may be what is missing.
            let _ = self.log.prepare_prune(0, &mut |_| Ok(None));
            return Err(error);
        }
        // What is opened from here on need not be read from the files that go.
        self.keep_snapshot();
        let _ = self.index.flush();
        if let Err(error) = self.log.finish_prune() {
            // Nobody knows what the log holds: nothing is decided on it any more.
            self.poisoned |= error.class() == StorageErrorClass::OutcomeUnknown;
            return Err(error.into());
        }
        Ok(Some(Prunable {
            end,
            newest,
            ..prunable
        }))
    }
}

/// Makes sure that the files which took the place of records are those that the log says.
///
/// # Errors
/// [`StorageError::LogCorrupt`] if one is another, or the log knows of none.
pub(super) fn expect_pruned(log: &dyn LogStore, state: &State) -> Result<(), StorageError> {
    for file in log.pruned()? {
        if state.pruned_at(file.first) != Some(&records_of(&file)) {
            return Err(StorageError::LogCorrupt {
                sequence: Some(file.first),
                position: log.head().end,
                reason: "what is kept of pruned records is not what the log says was kept",
            });
        }
    }
    Ok(())
}

fn records_of(file: &PrunedFile) -> PrunedRecords {
    PrunedRecords {
        first: file.first,
        end: file.end,
        digest: Fingerprint::new(file.digest),
    }
}

/// The record after the last one that is pruned: a log is pruned from its beginning.
fn pruned_end(files: &[PrunedFile]) -> u64 {
    files.last().map_or(0, |file| file.end)
}

/// What is kept of a record; none: all of it.
fn shortened(state: &State, sequence: LogSequence, entry: Entry) -> Option<Vec<u8>> {
    let body = match entry.body {
        Body::Request(Request {
            product,
            station,
            submission: Submission::Csr { der },
        }) => Body::Request(Request {
            product,
            station,
            submission: Submission::Unreadable {
                sha256: Fingerprint::of(&der),
                code: PRUNED.to_owned(),
            },
        }),
        Body::Reserved(reserved) if !state.reservations().contains_key(&sequence) => {
            let tbs = tbs_of(&serial_of(&reserved.tbs)?);
            Body::Reserved(Reserved { tbs, ..reserved })
        }
        Body::Signed(signed) => Body::Signed(Signed {
            signature: [0; 64],
            ..signed
        }),
        _ => return None,
    };
    Some(Entry { body, ..entry }.to_cbor())
}
