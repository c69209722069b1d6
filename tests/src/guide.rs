//! Documents whose commands are run: what stands in a block that is marked `sh`, in its order.

use std::fmt::Write as _;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::Command;

use crate::{binaries, judge};

/// Ends a script at the first command that fails, and says where that stands.
const PRELUDE: &str = r#"set -eEu -o pipefail
trap 'echo "$AT: $BASH_COMMAND" >&2' ERR
cargo() { :; }
"#;

/// Runs every command of these documents, each of which begins where the one before it ended, as one script in an empty
/// environment, in a folder where the binaries are and what the documents show.
#[track_caller]
pub fn run(documents: &[&str]) {
    let repository = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let place = tempfile::tempdir().unwrap();
    for shown in ["policies", "fixtures"] {
        symlink(repository.join(shown), place.path().join(shown)).unwrap();
    }
    fs::create_dir(place.path().join("target")).unwrap();
    symlink(binaries::folder(), place.path().join("target/release")).unwrap();
    let mut commands = PRELUDE.to_owned();
    for document in documents {
        let text = fs::read_to_string(repository.join(document)).unwrap();
        commands += &script(document, &text);
    }
    judge::succeed(
        Command::new("bash")
            .args(["-c", &commands])
            .current_dir(place.path())
            .env_clear()
            .env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin")
            .env("HOME", place.path())
            .env("TMPDIR", place.path()),
    );
}

/// The blocks of a document as one script.
fn script(document: &str, text: &str) -> String {
    let mut script = String::new();
    let mut inside = false;
    for (number, line) in text.lines().enumerate() {
        // A block in a list stands as far in as its item.
        match line.trim_start() {
            "```sh" => {
                inside = true;
                writeln!(script, "AT={document}:{}", number + 2).unwrap();
            }
            "```" => inside = false,
            _ if inside => writeln!(script, "{line}").unwrap(),
            _ => {}
        }
    }
    assert!(!inside, "{document}");
    assert!(!script.is_empty(), "{document} has no commands");
    script
}
