//! The binaries under test, built once for each run of the tests.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use crate::{judge, once};

/// Where the built `hq` and `site` are: beside this test's own binary, built with its profile. The variable
/// MINTMARK_BINARIES names another folder, for binaries that are installed.
pub fn folder() -> &'static Path {
    static FOLDER: OnceLock<PathBuf> = OnceLock::new();
    FOLDER.get_or_init(|| match std::env::var_os("MINTMARK_BINARIES") {
        Some(folder) => folder.into(),
        None => {
            once::made("built", |_| build());
            once::profile_folder()
        }
    })
}

/// One of the two.
pub fn path(tool: &str) -> PathBuf {
    folder().join(tool)
}

fn build() {
    let folder = once::profile_folder();
    let profile = match folder.file_name().unwrap().to_str().unwrap() {
        "debug" => "dev",
        other => other,
    };
    judge::succeed(
        Command::new(env!("CARGO"))
            .args([
                "build",
                "--quiet",
                "--locked",
                "-p",
                "mintmark-hq",
                "-p",
                "mintmark-site",
            ])
            .args(["--profile", profile])
            .arg("--manifest-path")
            .arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("../Cargo.toml"))
            .arg("--target-dir")
            .arg(folder.parent().unwrap()),
    );
}
