//! Every file of every corpus is tried, and so are changes of it: the same ones each time, some seconds of them in all.
//! What libFuzzer does for hours is in `docs/fuzzing.md`.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod change;

#[cfg(feature = "tools")]
use std::collections::BTreeSet;
use std::fs;
use std::sync::{Mutex, PoisonError};

use mintmark_fuzz_targets::{TARGETS, Target, seeds};
use peak_alloc::PeakAlloc;

use change::Changes;

#[global_allocator]
static ALLOCATOR: PeakAlloc = PeakAlloc;

/// One at a time asks for memory, so that it is known who did.
static ALONE: Mutex<()> = Mutex::new(());

/// How many changed inputs a target is tried with.
const CHANGES: usize = 1500;

fn corpus(target: &Target) -> Vec<(String, Vec<u8>)> {
    let entries = fs::read_dir(target.corpus()).expect("the corpus of each target is kept");
    let mut files: Vec<_> = entries
        .map(|entry| {
            let path = entry.unwrap().path();
            let name = path.file_name().unwrap().to_string_lossy().into_owned();
            (name, fs::read(path).unwrap())
        })
        .collect();
    files.sort();
    files
}

/// Tries one input, and looks how much memory that took.
fn attempt(target: &Target, input: &[u8], what: &str) {
    ALLOCATOR.reset_peak_usage();
    let before = ALLOCATOR.current_usage();
    let outcome = std::panic::catch_unwind(|| target.run(input));
    let taken = ALLOCATOR.peak_usage().saturating_sub(before);
    if outcome.is_err() || taken > target.memory_bytes_max {
        let path = std::env::temp_dir().join(format!("{}-found", target.name));
        fs::write(&path, input).unwrap();
        panic!(
            "{}, {what}: {taken} bytes of memory were asked for; the input is {}",
            target.name,
            path.display()
        );
    }
}

fn bounded(name: &str) {
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    let target = TARGETS.iter().find(|target| target.name == name).unwrap();
    // What is read once and kept is nobody's input.
    target.run(&[]);
    let corpus = corpus(target);
    assert!(!corpus.is_empty(), "{name} has a corpus");
    for (file, input) in &corpus {
        target.run(input);
        attempt(target, input, file);
    }
    let inputs: Vec<&[u8]> = corpus.iter().map(|(_, input)| input.as_slice()).collect();
    let mut changes = Changes::new(name);
    for number in 0..CHANGES {
        let (file, input) = &corpus[number % corpus.len()];
        let changed = changes.of(input, &inputs, target.bytes_max);
        attempt(target, &changed, &format!("change {number}, of {file}"));
    }
}

macro_rules! targets {
    ($($name:ident),* $(,)?) => {
        #[cfg(feature = "tools")]
        pub(crate) const TRIED: &[&str] = &[$(stringify!($name)),*];
        $(
            #[test]
            fn $name() {
                super::bounded(stringify!($name));
            }
        )*
    };
}

mod libraries {
    targets!(
        cbor,
        message_content,
        message_envelope,
        message_opened,
        segment,
        device_ids,
        media_name,
        csr,
        certificate,
        crl,
        est,
        policy,
        log_record,
        replay,
        snapshot,
        index_value,
        log_folder,
        log_pruned,
        key_uri,
        key_file,
        pin_file,
        backup_file,
        backup_stream,
        recovery_words,
        recovery_key,
    );
}

#[cfg(feature = "tools")]
mod tools {
    targets!(
        media_folder,
        audit_grant_file,
        anchor,
        site_config,
        hq_config,
        station_body,
        station_lines,
        command,
    );
}

#[cfg(feature = "tools")]
#[test]
fn every_target_is_tried_and_has_a_binary_for_libfuzzer() {
    let names: BTreeSet<&str> = TARGETS.iter().map(|target| target.name).collect();
    let tried = libraries::TRIED.iter().chain(tools::TRIED).copied();
    assert_eq!(tried.collect::<BTreeSet<_>>(), names);
    let fuzz = std::path::Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .unwrap();
    let package = fs::read_to_string(fuzz.join("Cargo.toml")).unwrap();
    for name in names {
        let source = fs::read_to_string(fuzz.join(format!("fuzz_targets/{name}.rs"))).unwrap();
        assert!(source.contains(&format!("run(\"{name}\"")), "{name}");
        assert!(
            package.contains(&format!("fuzz_targets/{name}.rs")),
            "{name}"
        );
    }
}

/// `cargo test -p mintmark-fuzz-targets write_the_seeds -- --ignored`: after a format has changed.
#[test]
#[ignore = "it writes into the corpora"]
fn write_the_seeds() {
    seeds::write();
}
