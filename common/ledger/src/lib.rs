//! The state machine of a vault, its log and its index.

pub mod policy;

pub mod index;
pub mod log;
pub mod merkle;
pub mod storage_error;

pub use storage_error::StorageError;
