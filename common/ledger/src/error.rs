//! What the engine of a ledger can fail with. A refusal is not a failure: see [`crate::Refusal`].

use std::path::PathBuf;

use crate::decide::DecideError;
use crate::entry::LogSequence;
use crate::refusal::Refusal;
use crate::storage_error::StorageError;
pub use crate::storage_error::StorageErrorClass as ErrorClass;

/// Why the ledger could not do what it was asked.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The log or the index failed.
    #[error(transparent)]
    Storage(#[from] StorageError),
    /// No decision could be made.
    #[error(transparent)]
    Decide(#[from] DecideError),
    /// A record of the vault's own log is not an entry.
    #[error("record {sequence} of the log is not a log entry: {why}")]
    RecordUnreadable {
        /// Which record.
        sequence: LogSequence,
        /// What is wrong with it.
        why: String,
    },
    /// The log does not begin as a vault's log does.
    #[error("the log in {} does not begin with a genesis record", path.display())]
    GenesisMissing {
        /// The folder of the ledger.
        path: PathBuf,
    },
    /// The group before failed in a way that leaves open what is stored.
    #[error("an earlier write failed, and what it stored is unknown")]
    Poisoned,
    /// A signature for something that is not an open reservation.
    #[error("record {reservation} is not an open reservation, or not the one that was signed")]
    ReservationUnknown {
        /// What was named.
        reservation: LogSequence,
    },
    /// A signature for a reservation that was never committed.
    #[error("reservation {reservation} was signed before it was durable")]
    ReservationNotDurable {
        /// What was named.
        reservation: LogSequence,
    },
    /// A signature for a reservation that must not be completed any more.
    #[error("reservation {reservation} must not be completed: {refusal}")]
    ReservationWithheld {
        /// What was named.
        reservation: LogSequence,
        /// What officers ended.
        refusal: Box<Refusal>,
    },
    /// The caller handed in something that no entry can hold.
    #[error("the ledger cannot record this: {why}")]
    Input {
        /// What is wrong.
        why: String,
    },
    /// There is nothing staged that a bundle of this size could cover.
    #[error(
        "a bundle cannot cover {log_size} records: {size} are durable, and {covered} were covered before"
    )]
    BundleSize {
        /// What was claimed.
        log_size: u64,
        /// Records that are durable.
        size: u64,
        /// Records that the bundles before cover.
        covered: u64,
    },
    /// Records that HQ sent back are not those of this log.
    #[error("the log tail is not that of this log: {why}")]
    Tail {
        /// What is wrong.
        why: String,
    },
    /// The certificate of a reservation cannot be put together from its records.
    #[error("the certificate of reservation {reservation} cannot be put together: {why}")]
    Certificate {
        /// Which reservation.
        reservation: LogSequence,
        /// What is wrong.
        why: String,
    },
}

impl Error {
    /// The stable code that people, logs and tests know this by.
    pub fn code(&self) -> &'static str {
        match self {
            Self::Storage(error) => error.code(),
            Self::Decide(DecideError::Lookup(source)) => source
                .downcast_ref::<Self>()
                .map_or("LEDGER-LOOKUP", Self::code),
            Self::Decide(DecideError::SerialKeyMissing) => "SERIAL-KEY-MISSING",
            Self::RecordUnreadable { .. } => "LOG-RECORD-UNREADABLE",
            Self::GenesisMissing { .. } => "LOG-GENESIS-MISSING",
            Self::Poisoned => "OUTCOME-UNKNOWN",
            Self::ReservationUnknown { .. } => "RESERVATION-UNKNOWN",
            Self::ReservationNotDurable { .. } => "RESERVATION-NOT-DURABLE",
            Self::ReservationWithheld { .. } => "RESERVATION-WITHHELD",
            Self::Input { .. } => "LEDGER-INPUT",
            Self::BundleSize { .. } => "BUNDLE-SIZE",
            Self::Tail { .. } => "TAIL-MISMATCH",
            Self::Certificate { .. } => "CERTIFICATE-RECORDS",
        }
    }

    /// Who has to act; exit codes follow from it.
    pub fn class(&self) -> ErrorClass {
        match self {
            Self::Storage(error) => error.class(),
            Self::Decide(DecideError::Lookup(source)) => source
                .downcast_ref::<Self>()
                .map_or(ErrorClass::Environment, Self::class),
            Self::RecordUnreadable { .. }
            | Self::GenesisMissing { .. }
            | Self::Tail { .. }
            | Self::Certificate { .. } => ErrorClass::Integrity,
            Self::Poisoned => ErrorClass::OutcomeUnknown,
            Self::Decide(DecideError::SerialKeyMissing)
            | Self::ReservationUnknown { .. }
            | Self::ReservationNotDurable { .. }
            | Self::ReservationWithheld { .. }
            | Self::Input { .. }
            | Self::BundleSize { .. } => ErrorClass::Caller,
        }
    }

    /// What to do next, where there is something to do.
    pub fn hint(&self) -> Option<&'static str> {
        match self {
            Self::Storage(error) => error.hint(),
            Self::Decide(DecideError::Lookup(source)) => {
                source.downcast_ref::<Self>().and_then(Self::hint)
            }
            Self::RecordUnreadable { .. }
            | Self::GenesisMissing { .. }
            | Self::Certificate { .. } => Some(
                "Nothing was changed. Keep a copy of the folder as it is, and tell headquarters \
                 before restoring anything.",
            ),
            Self::Tail { .. } => Some(
                "Nothing was added. Have headquarters export again; if it stays so, this vault and headquarters hold two \
                 histories, and only another vault that takes its place helps.",
            ),
            Self::Poisoned => Some(
                "Check the disk, then run `site recover`: what was stored is found out on opening.",
            ),
            Self::Decide(DecideError::SerialKeyMissing)
            | Self::ReservationUnknown { .. }
            | Self::ReservationNotDurable { .. }
            | Self::ReservationWithheld { .. }
            | Self::Input { .. }
            | Self::BundleSize { .. } => None,
        }
    }
}
