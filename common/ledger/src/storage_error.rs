//! What can go wrong between the state machine and the disk.

use std::io;
use std::path::{Path, PathBuf};

use crate::log::Position;

/// Who has to act on a [`StorageError`]; the binaries derive their exit code from it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum StorageErrorClass {
    /// The machine failed us (disk full, permissions, a lock): nothing was changed. Exit code 3.
    Environment,
    /// The stored bytes are not what was written. Nothing was changed. Exit code 4.
    Integrity,
    /// A write or a sync failed, and whether its records survive is unknown until the log is
    /// opened again. The process must end. Exit code 5.
    OutcomeUnknown,
    /// We called the store in a way that it does not allow: a bug of ours. Nothing was changed.
    Caller,
}

/// A failure of the log or of the index.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StorageError {
    /// An operation of the operating system failed before anything was changed.
    #[error("cannot {action} {}: {source}", path.display())]
    Io {
        /// What was tried, as a verb: `open`, `read`, `create`.
        action: &'static str,
        /// The file or folder it was tried on.
        path: PathBuf,
        /// What the operating system said.
        source: io::Error,
    },
    /// No room for the group; what had been written of it was taken back and nothing changed.
    #[error("no space left on the disk for {} ({bytes} bytes wanted)", path.display())]
    DiskFull {
        /// The file that was written to.
        path: PathBuf,
        /// The size of the write that found no room.
        bytes: u64,
    },
    /// Another process has the log open for writing.
    #[error("the log in {} is in use by another process", path.display())]
    LogLocked {
        /// The folder of the log.
        path: PathBuf,
    },
    /// `create` was asked for a log where one already is.
    #[error("there already is a log in {}", path.display())]
    LogExists {
        /// The folder of the log.
        path: PathBuf,
    },
    /// The head is not the one the caller decided upon: somebody appended in between.
    #[error("the head of the log moved: expected {expected} records, found {found}")]
    HeadMoved {
        /// The number of records in the head that the caller expected.
        expected: u64,
        /// The number of records in the log.
        found: u64,
    },
    /// An append to a log that was opened for reading.
    #[error("the log was opened for reading only")]
    LogReadOnly,
    /// A record above [`crate::log::RECORD_BYTES_MAX`].
    #[error("a record of {bytes} bytes is above the limit of {bytes_max}")]
    RecordTooLarge {
        /// The size of the record.
        bytes: u64,
        /// The limit.
        bytes_max: u64,
    },
    /// A group that is empty, or above [`crate::log::GROUP_BYTES_MAX`] or
    /// [`crate::log::GROUP_RECORDS_MAX`].
    #[error(
        "a group of {records} records and {bytes} bytes is empty or above the limit of \
         {records_max} records and {bytes_max} bytes"
    )]
    GroupOutOfBounds {
        /// The number of records in the group.
        records: u64,
        /// The size of the group as stored.
        bytes: u64,
        /// The limit on the number of records.
        records_max: u64,
        /// The limit on the size.
        bytes_max: u64,
    },
    /// Stored bytes cannot be what was written.
    #[error("the log is corrupt at offset {position}{}: {reason}",
        .sequence.map(|s| format!(", record {s}")).unwrap_or_default())]
    LogCorrupt {
        /// The sequence number of the record expected there, where it is known.
        sequence: Option<u64>,
        /// Where in the log.
        position: Position,
        /// What does not hold.
        reason: &'static str,
    },
    /// The log ends before a head that was known to be in it.
    #[error(
        "the log is shorter than it was: {known} records were known up to offset {known_end}, \
         and it ends at offset {end}"
    )]
    LogTruncated {
        /// The number of records in the head that was known.
        known: u64,
        /// The offset at which the known head ends.
        known_end: Position,
        /// The offset at which the readable log ends.
        end: Position,
    },
    /// The log has fewer records than somebody else knows it had.
    #[error(
        "the log has {found} records, and is known to have had {known}: it is an older copy, or was cut short"
    )]
    LogRolledBack {
        /// The number of records that are known.
        known: u64,
        /// The number of records in the log.
        found: u64,
    },
    /// The log is another one than somebody else knows.
    #[error("the first {size} records of the log are others than those that are known")]
    LogForked {
        /// The number of records that are known.
        size: u64,
    },
    /// The folder of the log, or the file that should hold the bytes from `position` on, is not
    /// there or was cut short.
    #[error("the log in {} has no bytes at offset {position}: a file is missing or short", path.display())]
    LogMissing {
        /// The folder of the log, or the file that should be there.
        path: PathBuf,
        /// The first offset that is missing.
        position: Position,
    },
    /// A position at or beyond the end of the log, where no record can be.
    #[error("there is no record at offset {position}: the log ends at offset {end}")]
    NoRecord {
        /// The position asked for.
        position: Position,
        /// The end of the log.
        end: Position,
    },
    /// A write or a sync failed and could not be taken back. The records of the group may or may
    /// not be found when the log is opened again; until then nothing can be said about it.
    #[error("whether the last records were stored is unknown: {reason}")]
    OutcomeUnknown {
        /// The failure after which the store refuses everything.
        reason: String,
    },
    /// There is no index in the folder.
    #[error("there is no index in {}", path.display())]
    IndexMissing {
        /// The folder of the index.
        path: PathBuf,
    },
    /// Another process has the index open.
    #[error("the index in {} is in use by another process", path.display())]
    IndexLocked {
        /// The folder of the index.
        path: PathBuf,
    },
    /// The index's database does not get done what it was to write. Nothing is lost: once this process is gone, it is rebuilt
    /// from the log.
    #[error("the index in {} has not answered for {seconds} seconds", path.display())]
    IndexSilent {
        /// The folder of the index.
        path: PathBuf,
        /// How long it was waited for, in seconds.
        seconds: u64,
    },
    /// The index cannot be read. Nothing is lost: it is rebuilt from the log.
    #[error("the index{} cannot be used: {reason}",
        .path.as_ref().map(|p| format!(" in {}", p.display())).unwrap_or_default())]
    IndexBroken {
        /// The folder of the index, where it is known.
        path: Option<PathBuf>,
        /// What the database said, or what does not hold.
        reason: String,
    },
}

impl StorageError {
    /// The stable code of this error, as in the table of errors.
    #[must_use]
    pub fn code(&self) -> &'static str {
        match self {
            Self::Io { .. } => "STORAGE-IO",
            Self::DiskFull { .. } => "DISK-FULL",
            Self::LogLocked { .. } => "LOG-LOCKED",
            Self::LogExists { .. } => "LOG-EXISTS",
            Self::HeadMoved { .. } => "HEAD-MOVED",
            Self::LogReadOnly => "LOG-READ-ONLY",
            Self::RecordTooLarge { .. } => "RECORD-TOO-LARGE",
            Self::GroupOutOfBounds { .. } => "GROUP-OUT-OF-BOUNDS",
            Self::LogCorrupt { .. } => "LOG-CORRUPT",
            Self::LogTruncated { .. } => "LOG-TRUNCATED",
            Self::LogRolledBack { .. } => "LOG-ROLLED-BACK",
            Self::LogForked { .. } => "LOG-FORKED",
            Self::LogMissing { .. } => "LOG-MISSING",
            Self::NoRecord { .. } => "LOG-NO-RECORD",
            Self::OutcomeUnknown { .. } => "OUTCOME-UNKNOWN",
            Self::IndexMissing { .. } => "INDEX-MISSING",
            Self::IndexLocked { .. } => "INDEX-LOCKED",
            Self::IndexSilent { .. } => "INDEX-SILENT",
            Self::IndexBroken { .. } => "INDEX-BROKEN",
        }
    }

    /// Who has to act.
    #[must_use]
    pub fn class(&self) -> StorageErrorClass {
        match self {
            Self::Io { .. }
            | Self::DiskFull { .. }
            | Self::LogLocked { .. }
            | Self::LogExists { .. }
            | Self::IndexMissing { .. }
            | Self::IndexLocked { .. }
            | Self::IndexSilent { .. }
            | Self::IndexBroken { .. } => StorageErrorClass::Environment,
            Self::LogCorrupt { .. }
            | Self::LogTruncated { .. }
            | Self::LogRolledBack { .. }
            | Self::LogForked { .. }
            | Self::LogMissing { .. }
            | Self::NoRecord { .. } => StorageErrorClass::Integrity,
            Self::OutcomeUnknown { .. } => StorageErrorClass::OutcomeUnknown,
            Self::HeadMoved { .. }
            | Self::LogReadOnly
            | Self::RecordTooLarge { .. }
            | Self::GroupOutOfBounds { .. } => StorageErrorClass::Caller,
        }
    }

    /// What to do next, where there is something to do.
    #[must_use]
    pub fn hint(&self) -> Option<&'static str> {
        match self {
            Self::Io { .. } => {
                Some("Check that the disk is mounted and that its files belong to this user.")
            }
            Self::DiskFull { .. } => {
                Some("Free some space on this disk and try again; nothing was changed.")
            }
            Self::LogLocked { .. } | Self::IndexLocked { .. } => {
                Some("Stop the other process, or ask it to do this.")
            }
            Self::LogExists { .. } => {
                Some("Choose another folder: an existing log is never overwritten.")
            }
            Self::LogCorrupt { .. }
            | Self::LogTruncated { .. }
            | Self::LogRolledBack { .. }
            | Self::LogForked { .. }
            | Self::LogMissing { .. } => Some(
                "Nothing was changed. Keep a copy of the folder as it is, and tell headquarters \
                 before restoring anything.",
            ),
            Self::OutcomeUnknown { .. } => Some(
                "Check the disk, then run `site recover`: what was stored is found out on opening.",
            ),
            Self::NoRecord { .. } | Self::IndexMissing { .. } | Self::IndexBroken { .. } => {
                Some("Rebuild the index from the log.")
            }
            Self::IndexSilent { .. } => {
                Some("Check the disk, and start again: the index is made again from the log.")
            }
            Self::HeadMoved { .. }
            | Self::LogReadOnly
            | Self::RecordTooLarge { .. }
            | Self::GroupOutOfBounds { .. } => None,
        }
    }
}

/// Whether there was no room: on the disk, or of what whoever writes may take of it.
pub(crate) fn is_disk_full(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded | io::ErrorKind::FileTooLarge
    )
}

/// Makes a [`StorageError::Io`] of what the operating system said.
pub(crate) fn io_error(
    action: &'static str,
    path: &Path,
) -> impl FnOnce(io::Error) -> StorageError + use<> {
    let path = path.to_owned();
    move |source| StorageError::Io {
        action,
        path,
        source,
    }
}
