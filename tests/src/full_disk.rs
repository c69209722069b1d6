//! A folder on a file system of its own, for as long as one script runs.

use std::path::Path;
use std::process::{Command, Stdio};

use crate::command::{Run, Tool};
use crate::strace::finished;

/// Puts a file system over a folder, and there what the folder held.
const MOVED: &str = r#"set -e
kind=$1 folder=$2; shift 2
mkdir "$folder.before"
cp -a "$folder/." "$folder.before/"
mount -t "$kind" -o size=2m,mode=700 "$kind" "$folder"
cp -a "$folder.before/." "$folder/"
rm -rf "$folder.before"
"#;

/// Fills it.
const FULL: &str = r#"head -c 4m /dev/zero >"$folder/fill" 2>/dev/null || true
"#;

/// Runs a tool for which a folder has no room left; what it changes there is lost. None where nobody may mount anything.
pub fn without_room(tool: &Tool, folder: &Path) -> Option<Run> {
    scripted(tool, folder, r#"exec "$@""#)
}

/// Runs a script that finds the folder without room, as `$folder`, which has room again when `$folder/fill` is gone. The tool and
/// what it is given are `$@`. None where nobody may mount anything.
pub fn scripted(tool: &Tool, folder: &Path, script: &str) -> Option<Run> {
    moved(tool, "tmpfs", folder, &format!("{FULL}{script}"))
}

/// Runs a tool for which a folder is in memory, on a file system that counts neither blocks nor files; what it changes there is
/// lost. None where nobody may mount anything.
pub fn uncounted(tool: &Tool, folder: &Path) -> Option<Run> {
    moved(tool, "ramfs", folder, r#"exec "$@""#)
}

fn moved(tool: &Tool, kind: &str, folder: &Path, script: &str) -> Option<Run> {
    let namespace = || {
        let mut unshare = Command::new("unshare");
        unshare.args(["--map-root-user", "--mount"]);
        unshare
    };
    let trial = format!("mount -t {kind} {kind} /mnt");
    let allowed = namespace()
        .args(["sh", "-c", &trial])
        .stderr(Stdio::null())
        .status();
    if !allowed.is_ok_and(|status| status.success()) {
        return None;
    }
    let inner = tool.command();
    let mut outer = namespace();
    outer
        .args(["sh", "-c", &format!("{MOVED}{script}"), "sh", kind])
        .arg(folder);
    outer.arg(inner.get_program()).args(inner.get_args());
    Some(finished(tool, &inner, &mut outer))
}
