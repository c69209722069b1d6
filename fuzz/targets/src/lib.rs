//! What is tried on every decoder of foreign bytes. Each [`Target`] takes any bytes and holds what its decoder makes of
//! them against a property: libFuzzer looks for bytes that break it, for hours (`fuzz/fuzz_targets`), and the tests try
//! every file of the corpus and some thousands of changes of them, for seconds (`tests/bounded.rs`).
//!
//! A target that is left by a panic has found something.

// Clippy takes no part of a library for a test, and this one is nothing else.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod backup;
mod files;
mod keys;
mod ledger;
mod log;
#[cfg(feature = "tools")]
mod media;
mod messages;
mod pki;
pub mod seeds;
#[cfg(feature = "tools")]
mod tools;
mod world;

use std::path::{Path, PathBuf};

/// A decoder, or some that belong together, and what must hold of them.
#[derive(Clone, Copy, Debug)]
pub struct Target {
    /// Its name: that of its binary, and of its folder in the corpus.
    pub name: &'static str,
    /// The longest input that is tried, in bytes.
    pub bytes_max: usize,
    /// The most memory that may be asked for while one input is tried, in bytes.
    pub memory_bytes_max: usize,
    run: fn(&[u8]),
}

impl Target {
    const fn new(name: &'static str, run: fn(&[u8])) -> Self {
        Self {
            name,
            bytes_max: 16 << 10,
            memory_bytes_max: 16 << 20,
            run,
        }
    }

    const fn bytes(self, bytes_max: usize) -> Self {
        Self { bytes_max, ..self }
    }

    const fn memory(self, memory_bytes_max: usize) -> Self {
        Self {
            memory_bytes_max,
            ..self
        }
    }

    /// Tries one input.
    ///
    /// # Panics
    /// If the property does not hold of it.
    pub fn run(&self, input: &[u8]) {
        (self.run)(input);
    }

    /// The folder of its corpus.
    pub fn corpus(&self) -> PathBuf {
        workspace().join("fuzz/corpus").join(self.name)
    }
}

/// Every target.
pub const TARGETS: &[Target] = &[
    Target::new("cbor", messages::cbor),
    Target::new("message_content", messages::content),
    Target::new("message_envelope", messages::envelope),
    Target::new("message_opened", messages::opened),
    // What is compressed is at most 8 MiB.
    Target::new("segment", messages::segment).memory(48 << 20),
    Target::new("device_ids", messages::device_ids).bytes(4 << 10),
    Target::new("media_name", files::media_name).bytes(512),
    #[cfg(feature = "tools")]
    Target::new("media_folder", media::folders).bytes(2 << 10),
    #[cfg(feature = "tools")]
    Target::new("audit_grant_file", media::audit_grant),
    Target::new("csr", pki::csr).bytes(8 << 10),
    Target::new("certificate", pki::certificate).bytes(8 << 10),
    Target::new("crl", pki::crl).bytes(8 << 10),
    Target::new("est", pki::est).bytes(8 << 10),
    Target::new("policy", ledger::policy)
        .bytes(8 << 10)
        .memory(64 << 20),
    Target::new("log_record", ledger::record),
    Target::new("replay", ledger::replay),
    Target::new("snapshot", ledger::snapshot),
    Target::new("index_value", ledger::index_value).bytes(4 << 10),
    Target::new("log_folder", log::folder).bytes(8 << 10),
    Target::new("log_pruned", log::pruned).bytes(8 << 10),
    #[cfg(feature = "tools")]
    Target::new("anchor", tools::anchor).bytes(4 << 10),
    #[cfg(feature = "tools")]
    Target::new("site_config", tools::site_config).bytes(4 << 10),
    #[cfg(feature = "tools")]
    Target::new("station_body", tools::station_body).bytes(8 << 10),
    #[cfg(feature = "tools")]
    Target::new("station_lines", tools::station_lines).bytes(4 << 10),
    #[cfg(feature = "tools")]
    Target::new("command", tools::command).bytes(4 << 10),
    #[cfg(feature = "tools")]
    Target::new("hq_config", tools::hq_config).bytes(4 << 10),
    Target::new("key_uri", keys::uri).bytes(2 << 10),
    Target::new("key_file", keys::file).bytes(4 << 10),
    Target::new("pin_file", keys::pin_file).bytes(2 << 10),
    Target::new("backup_file", backup::file).bytes(8 << 10),
    Target::new("backup_stream", backup::stream).bytes(4 << 10),
    Target::new("recovery_words", backup::words).bytes(4 << 10),
    Target::new("recovery_key", backup::public_half).bytes(512),
];

/// Tries one input on the target of this name.
///
/// # Panics
/// If the property does not hold of it, or if there is no such target.
pub fn run(name: &str, input: &[u8]) {
    let target = TARGETS.iter().find(|target| target.name == name);
    target.expect("it is one of the targets").run(input);
}

/// The folder of the workspace.
fn workspace() -> &'static Path {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    here.ancestors().nth(2).expect("it lies in the workspace")
}
