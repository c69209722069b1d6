//! The log: append-only, hash-linked, durable before anything that depends on it is released.
//!
//! A log is a chain of records, opaque bytes to this module. Record `n` carries the link of record
//! `n - 1`, so that the link of the last one stands for all of them:
//!
//! ```text
//! link(n) = SHA-256(link(n - 1) || SHA-256(record n))        link(-1) = 32 zero bytes
//! ```
//!
//! Records are appended in groups. A group is all there or not there at all: opening a log cuts
//! off a last group that a crash left incomplete, and nothing else.
//!
//! ```text
//! FOLDER/<offset>.log              the records
//! FOLDER/head                      the head that was durable when it was written, unsynced
//! FOLDER/torn-<offset>-<n>.bin     what was cut off, kept
//! ```

mod chain;
mod disk;
#[cfg(any(test, feature = "testing"))]
mod faulty;
mod file;
mod frame;
mod group;
pub(crate) mod lock;
mod mark;
#[cfg(any(test, feature = "testing"))]
mod memory;
mod recovery;
pub(crate) mod regular;
mod segment;
#[cfg(test)]
mod tests;
mod torn;
mod unopened;

use std::fmt;

use sha2::{Digest, Sha256};

use crate::StorageError;

#[cfg(any(test, feature = "testing"))]
pub use faulty::{Fault, FaultyLog};
pub use file::{FileLog, Opened, SEGMENT_BYTES_MAX};
#[cfg(any(test, feature = "testing"))]
pub use memory::MemoryLog;
pub use unopened::Unopened;

/// The largest record, in bytes.
pub const RECORD_BYTES_MAX: usize = 1 << 20;

/// The largest number of records in one group.
pub const GROUP_RECORDS_MAX: usize = 1 << 16;

/// The largest group as stored, in bytes.
pub const GROUP_BYTES_MAX: usize = 32 << 20;

/// Where a record begins: the offset in bytes from the beginning of the whole log.
///
/// Only a log makes positions; to everybody else they are opaque, ordered as the records are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Position(u64);

impl Position {
    /// The beginning of every log.
    pub const START: Self = Self(0);

    /// The position stored as this number by [`Self::to_u64`].
    #[must_use]
    pub fn from_u64(offset: u64) -> Self {
        Self(offset)
    }

    /// The number to store for this position.
    #[must_use]
    pub fn to_u64(self) -> u64 {
        self.0
    }
}

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// The end of a log: all that has to be known in order to append to it, or to notice that it is
/// not what it was.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Head {
    /// The number of records; the next record gets this sequence number.
    pub size: u64,
    /// The link of the last record; 32 zero bytes when there is none.
    pub link: [u8; 32],
    /// Where the next record begins.
    pub end: Position,
}

/// One record, as read from a log that checked it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    /// The number of records before it.
    pub sequence: u64,
    /// Where it begins.
    pub position: Position,
    /// Where it ends.
    pub end: Position,
    /// Its own link.
    pub link: [u8; 32],
    /// What was appended.
    pub bytes: Vec<u8>,
}

impl Record {
    /// The head of a log that ends with this record.
    #[must_use]
    pub fn head(&self) -> Head {
        Head {
            size: self.sequence.saturating_add(1),
            link: self.link,
            end: self.end,
        }
    }
}

/// The link of a record, given the link of the one before it (see the module's documentation).
#[must_use]
pub fn link(previous: &[u8; 32], record: &[u8]) -> [u8; 32] {
    let mut hash = Sha256::new();
    hash.update(previous);
    hash.update(Sha256::digest(record));
    hash.finalize().into()
}

/// The records of a log in order.
pub type Records<'a> = Box<dyn Iterator<Item = Result<Record, StorageError>> + 'a>;

/// An append-only log of opaque records.
pub trait LogStore: Send {
    /// The end of the log as of the last append that succeeded.
    fn head(&self) -> Head;

    /// Appends one group of records, all or none, and returns where each begins. The records are
    /// durable when it returns.
    ///
    /// # Errors
    /// [`StorageError::HeadMoved`] when `expected` is not the head;
    /// [`StorageError::RecordTooLarge`] and [`StorageError::GroupOutOfBounds`];
    /// [`StorageError::DiskFull`] and [`StorageError::Io`] when nothing was changed;
    /// [`StorageError::OutcomeUnknown`] when a write or a sync failed, and from then on for every
    /// call: only opening the log again tells what it holds.
    fn append(
        &mut self,
        expected: &Head,
        records: &[Vec<u8>],
    ) -> Result<Vec<Position>, StorageError>;

    /// Reads the record that begins at `at`, and checks its checksum.
    ///
    /// # Errors
    /// [`StorageError::NoRecord`] beyond the end; [`StorageError::LogCorrupt`] when no readable
    /// record begins there; [`StorageError::OutcomeUnknown`] after a failed append.
    fn read(&self, at: Position) -> Result<Record, StorageError>;

    /// Reads all records from the one that begins at `from` up to the head, in order, and checks
    /// checksums, sequence and links. After an error the iterator ends.
    ///
    /// # Errors
    /// As [`Self::read`]; a `from` that is the end of the log is an empty iterator.
    fn scan(&self, from: Position) -> Result<Records<'_>, StorageError>;
}
