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
//! FOLDER/<offset>.pruned           what is kept of records that were pruned, in the place of such a file
//! FOLDER/head                      the head that was durable when it was written, unsynced
//! FOLDER/torn-<offset>-<n>.bin     what was cut off, kept
//! ```

mod chain;
mod disk;
#[cfg(any(test, feature = "testing"))]
mod faulty;
mod file;
mod frame;
#[cfg(feature = "fuzzing")]
pub mod fuzzing;
mod group;
pub(crate) mod lock;
mod mark;
#[cfg(any(test, feature = "testing"))]
mod memory;
mod prune;
mod pruned;
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
use crate::merkle::leaf_hash;

#[cfg(any(test, feature = "testing"))]
pub use faulty::{Fault, FaultyLog};
pub use file::{FileLog, Opened, SEGMENT_BYTES_MAX};
pub use mark::MARK;
#[cfg(any(test, feature = "testing"))]
pub use memory::MemoryLog;
pub use prune::Shorten;
pub use pruned::PrunedFile;
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
    /// What was appended; of a record that was pruned, what is kept of it.
    pub bytes: Vec<u8>,
    /// Of a record that was pruned: what stands for it in the chain and in the tree.
    pub pruned: Option<Hashes>,
}

/// The hashes of a record that is not there whole any more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Hashes {
    /// SHA-256 of the record: what its link is made of.
    pub record: [u8; 32],
    /// Its leaf hash in the Merkle tree.
    pub leaf: [u8; 32],
}

impl Record {
    /// Its leaf hash in the Merkle tree, whether it is there whole or not.
    #[must_use]
    pub fn leaf(&self) -> [u8; 32] {
        self.pruned
            .map_or_else(|| leaf_hash(&self.bytes), |hashes| hashes.leaf)
    }

    /// What was appended; none of a record that was pruned.
    #[must_use]
    pub fn whole(&self) -> Option<&[u8]> {
        self.pruned.is_none().then_some(&self.bytes)
    }

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
    link_of(previous, &Sha256::digest(record).into())
}

/// The link of a record of which the SHA-256 is known.
fn link_of(previous: &[u8; 32], digest: &[u8; 32]) -> [u8; 32] {
    let mut hash = Sha256::new();
    hash.update(previous);
    hash.update(digest);
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

    /// Puts beside the records below `below` what is to be kept of them, durably; what the log holds is not changed. Whole
    /// groups only: one that `below` lies in stays as it is. A store that keeps no files keeps everything, and names none.
    ///
    /// # Errors
    /// [`StorageError::DiskFull`] and others; the log is as it was.
    fn prepare_prune(
        &mut self,
        below: u64,
        shorten: Shorten<'_>,
    ) -> Result<Vec<PrunedFile>, StorageError> {
        let _ = (below, shorten);
        Ok(Vec::new())
    }

    /// Lets what [`Self::prepare_prune`] put beside the records take their place. They are gone when it returns.
    ///
    /// # Errors
    /// [`StorageError::Io`]: some of them may be gone, and each is there in one of the two forms;
    /// [`StorageError::OutcomeUnknown`] when it cannot be told in which, and from then on for every call.
    fn finish_prune(&mut self) -> Result<(), StorageError> {
        Ok(())
    }

    /// The files that took the place of records, in order.
    ///
    /// # Errors
    /// [`StorageError::LogCorrupt`] if one is damaged; [`StorageError::Io`].
    fn pruned(&self) -> Result<Vec<PrunedFile>, StorageError> {
        Ok(Vec::new())
    }
}
