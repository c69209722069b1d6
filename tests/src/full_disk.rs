//! A folder on a small file system of its own, for as long as one script runs.

use std::path::Path;
use std::process::{Command, Stdio};

use crate::command::{Run, Tool};
use crate::strace::finished;

/// Puts a small file system over a folder, copies there what the folder held, and fills it.
const FULL: &str = r#"set -e
folder=$1; shift
mkdir "$folder.before"
cp -a "$folder/." "$folder.before/"
mount -t tmpfs -o size=2m,mode=700 tmpfs "$folder"
cp -a "$folder.before/." "$folder/"
rm -rf "$folder.before"
head -c 4m /dev/zero >"$folder/fill" 2>/dev/null || true
"#;

/// Runs a tool for which a folder has no room left; what it changes there is lost. None where nobody may mount anything.
pub fn without_room(tool: &Tool, folder: &Path) -> Option<Run> {
    scripted(tool, folder, r#"exec "$@""#)
}

/// Runs a script that finds the folder without room, as `$folder`, which has room again when `$folder/fill` is gone. The tool and
/// what it is given are `$@`. None where nobody may mount anything.
pub fn scripted(tool: &Tool, folder: &Path, script: &str) -> Option<Run> {
    let namespace = || {
        let mut unshare = Command::new("unshare");
        unshare.args(["--map-root-user", "--mount"]);
        unshare
    };
    let trial = "mount -t tmpfs tmpfs /mnt";
    let allowed = namespace()
        .args(["sh", "-c", trial])
        .stderr(Stdio::null())
        .status();
    if !allowed.is_ok_and(|status| status.success()) {
        return None;
    }
    let inner = tool.command();
    let mut outer = namespace();
    outer
        .args(["sh", "-c", &format!("{FULL}{script}"), "sh"])
        .arg(folder);
    outer.arg(inner.get_program()).args(inner.get_args());
    Some(finished(tool, &inner, &mut outer))
}
