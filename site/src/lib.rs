//! The vault: it imports what headquarters sends, enforces it, issues device certificates and returns its log.
//!
//! Invariants:
//! - Effects are ordered in one place, [`vault::issue`](self): a unit is debited durably before anything is signed for
//!   it, a signature is recorded durably before a certificate leaves the home. Recovery runs the same code.
//! - What the vault knows is in its log. Everything else in the home is kept as it was received or sent, and is checked
//!   against the log before it is used.
//! - Media are hostile: no link is followed, nothing is read beyond its ceiling, no name is believed.
#![forbid(unsafe_code)]

#[cfg(feature = "bench")]
pub mod bench;
mod clock;
mod command_line;
mod commands;
mod config;
mod delivery;
mod failure;
#[cfg(feature = "fuzzing")]
pub mod fuzzing;
mod home;
mod medium;
mod place;
mod serve;
mod station;
mod submission;
mod vault;

pub use command_line::{CommandLine, execute};
