//! The fixed world of the fixtures: one headquarters, its officers, the vault `berlin/v1` and what they sent each other in
//! a month. The keys are made from their names and the times are written down here; what is random about encryption is
//! what it was when the files were written.

#![allow(
    dead_code,
    unreachable_pub,
    reason = "each test crate uses its own part"
)]

pub mod describe;
pub mod evidence;
#[path = "../../../common/protocol/tests/support/forge.rs"]
pub mod forge;
pub mod granted;
pub mod home;
pub mod homes;
pub mod hostile;
pub mod keys;
pub mod restored;
pub mod salamander;
pub mod secret;
pub mod story;

use std::path::{Path, PathBuf};

pub use keys::Key;

/// The folder of the fixtures.
pub fn fixtures() -> PathBuf {
    let workspace = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    workspace.join("fixtures")
}

/// The folder of the vectors.
pub fn vectors() -> PathBuf {
    fixtures().join("vectors")
}
