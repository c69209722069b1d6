//! That records were pruned.

use mintmark_protocol::identifier::Fingerprint;

/// The most files that one entry says were pruned.
pub const PRUNED_FILES_MAX: usize = 1024;

/// Records that headquarters holds gave way to what is kept of them. Nothing that the log adds up to changes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pruned {
    /// The time of the newest of them, Unix seconds.
    pub newest: u64,
    /// Which, in order, at least one; none overlap.
    pub files: Vec<PrunedRecords>,
}

impl Pruned {
    /// The record after the last of them.
    pub fn end(&self) -> u64 {
        self.files.last().map_or(0, |file| file.end)
    }
}

/// The records of one file that was pruned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PrunedRecords {
    /// The first.
    pub first: u64,
    /// The one after the last.
    pub end: u64,
    /// SHA-256 of the header of the file that keeps what is kept, which stands for all of it.
    pub digest: Fingerprint,
}
