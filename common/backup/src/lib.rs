//! Sealed backups of a home folder: the recovery key, whose private half is words on paper; the file; and what is made of it
//! again.
//!
//! A backup is one file that is written from its beginning to its end, in constant memory. What it holds is encrypted with a
//! key of its own, in chunks; that key is sealed to the recovery key by ECIES on X25519 (the ecies crate); and what stands at the
//! end is signed by the key of the home that it is of. So a file that was not finished is none, and neither is one that
//! somebody else made, who needs no more for it than the public half of the recovery key.
//!
//! Key stores are never in a backup, be they tokens or folders of key files, and no file that holds a PIN: which files of a
//! home are in it is said by whoever calls [`seal`], name by name. So what a backup and its paper together give away is the
//! record, and no key that signs or opens anything.
#![forbid(unsafe_code)]

pub mod command;
mod error;
mod file;
#[cfg(feature = "fuzzing")]
pub mod fuzzing;
mod opening;
mod placing;
mod recovery;
mod sealing;
mod watch;
mod words;

pub use error::Error;
pub use opening::{ContentKey, Opened, Signed};
pub use placing::Placing;
pub use recovery::{RecoveryKey, RecoveryPublicKey};
pub use sealing::{Item, Sealed, Subject, seal};
pub use watch::{Watch, Watched};
pub use words::{Sheet, WORDS, parse};
