//! The state machine of a vault, its log and its index.
//!
//! One pure state machine, run twice. [`decide`](decide::decide) answers an input from the [`state`] and what the index
//! finds; [`apply`](apply::apply) turns the state over with each record. A vault runs them forward and writes down what
//! they did; HQ runs them again over the returned log ([`replay`]) and demands the same decisions. There is no I/O, no clock
//! and no randomness in either, and no key but the [`serial`] cipher that is handed in.
//!
//! [`ledger`] is the engine of a vault: it decides, writes groups of records durably, and keeps the index in step.

pub mod policy;

pub mod index;
pub mod log;
pub mod merkle;
pub mod storage_error;

pub use storage_error::StorageError;

pub mod apply;
pub mod decide;
pub mod entry;
mod error;
#[cfg(feature = "fuzzing")]
pub mod fuzzing;
pub mod inclusion;
pub mod ledger;
pub mod refusal;
pub mod replay;
pub mod row;
pub mod serial;
mod snapshot;
pub mod state;
pub mod watch;

pub use apply::Effect;
pub use decide::{Decision, DeviceRecord, Input, Lookup, Reservation, Submitted};
pub use entry::{Body, Entry, LogSequence};
pub use error::{Error, ErrorClass};
pub use ledger::{Fact, Ledger, Outcome, Unfinished, View};
pub use refusal::Refusal;
pub use replay::{Divergence, Replay, Replayed};
pub use serial::SerialCipher;
pub use state::State;

#[cfg(test)]
mod tests;
