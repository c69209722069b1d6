//! The disk of a vault's machine.

use std::sync::{Arc, Mutex, MutexGuard};

use mintmark_ledger::StorageError;
use mintmark_ledger::log::{Head, LogStore, MemoryLog, Position, Record, Records};

/// A log in memory that outlives the ledger over it, as a disk outlives a process.
#[derive(Clone)]
pub(super) struct Disk(Arc<Mutex<MemoryLog>>);

impl Disk {
    fn log(&self) -> MutexGuard<'_, MemoryLog> {
        self.0.lock().unwrap()
    }

    /// Another one, with the same on it.
    pub(super) fn copy(&self) -> Self {
        Self(Arc::new(Mutex::new(self.log().clone())))
    }

    /// A log of these records.
    pub(super) fn of(records: &[Vec<u8>]) -> Self {
        let mut log = MemoryLog::new();
        for record in records {
            let head = log.head();
            log.append(&head, std::slice::from_ref(record)).unwrap();
        }
        Self(Arc::new(Mutex::new(log)))
    }

    /// What is on it from a position on.
    pub(super) fn records(&self, from: Position) -> Result<Vec<Record>, StorageError> {
        self.log().scan(from)?.collect()
    }
}

impl LogStore for Disk {
    fn head(&self) -> Head {
        self.log().head()
    }

    fn append(
        &mut self,
        expected: &Head,
        records: &[Vec<u8>],
    ) -> Result<Vec<Position>, StorageError> {
        self.log().append(expected, records)
    }

    fn read(&self, at: Position) -> Result<Record, StorageError> {
        self.log().read(at)
    }

    fn scan(&self, from: Position) -> Result<Records<'_>, StorageError> {
        Ok(Box::new(self.records(from)?.into_iter().map(Ok)))
    }
}
