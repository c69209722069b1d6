//! Every command of the README and of the guides, in the order in which a reader comes to them, in an empty environment.
//!
//! What stands in a block that is marked `sh` is run, as one script; a block that is not to be run is not marked so.
#![allow(clippy::unwrap_used, clippy::panic)]

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::Command;

use mintmark_tests::{binaries, guide, judge};

/// The documents, each of which begins where the one before it ended.
const DOCUMENTS: [&str; 5] = [
    "README.md",
    "docs/operator.md",
    "docs/auditor.md",
    "docs/officer.md",
    "docs/pkcs11.md",
];

#[test]
fn every_command_of_the_guides_works_as_it_stands() {
    let repository = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let place = tempfile::tempdir().unwrap();
    for shown in ["policies", "fixtures"] {
        symlink(repository.join(shown), place.path().join(shown)).unwrap();
    }
    fs::create_dir(place.path().join("target")).unwrap();
    symlink(binaries::folder(), place.path().join("target/release")).unwrap();
    let mut script = guide::PRELUDE.to_owned();
    for document in DOCUMENTS {
        script += &guide::script(
            document,
            &fs::read_to_string(repository.join(document)).unwrap(),
        );
    }
    judge::succeed(
        Command::new("bash")
            .args(["-c", &script])
            .current_dir(place.path())
            .env_clear()
            .env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin")
            .env("HOME", place.path())
            .env("TMPDIR", place.path()),
    );
}
