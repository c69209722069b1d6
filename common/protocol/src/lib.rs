//! The messages between headquarters and vaults: their CBOR shapes, their COSE envelopes, and what must hold
//! before any of them is believed.
//!
//! Bytes from a stick are sealed to us until one of the `open` functions has returned a
//! `Verified` value; nothing else in this crate hands out content, and a `Verified` value can be
//! made nowhere else. Received bytes are verified as received: nothing is re-encoded on the way.
//!
//! `formats.cddl` beside this crate is the specification; each message has one module that owns its shape.
//! This crate holds no files, no clock and no keys: times, private-key operations and bytes are arguments.

pub mod acknowledgement;
pub mod approval;
pub mod audit_grant;
pub mod backup;
pub mod bundle;
pub mod cbor;
pub mod clock_correction;
pub mod device_ids;
pub mod device_secret;
pub mod digest_set;
pub mod dispatch;
mod dispatched;
pub mod dossier;
pub mod encryption;
pub mod enrolment;
pub mod entitlement;
pub mod envelope;
mod error;
pub mod fork;
#[cfg(feature = "fuzzing")]
pub mod fuzzing;
pub mod identifier;
pub mod key;
pub mod key_delivery;
pub mod key_terms;
pub mod log_tail;
pub mod media;
pub mod officer;
pub mod order;
pub mod reanchor;
pub mod receipt;
pub mod recognised;
pub mod report;
pub mod restore;
pub mod revocation;
pub mod segment;
pub mod status;
pub mod succession;
pub mod transcript;
pub mod transport;
pub mod trust;

pub use error::{Error, KeyFailure};

/// The version of every message format that this crate writes and reads.
pub const FORMAT_VERSION: u64 = 1;
