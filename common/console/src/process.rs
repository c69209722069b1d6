//! What a process that holds secrets leaves behind for others: nothing.

use std::fs;

use rustix::fs::Mode;
use rustix::process::{
    DumpableBehavior, Resource, Rlimit, dumpable_behavior, getrlimit, set_dumpable_behavior,
    setrlimit, umask,
};

/// Files that the process makes are its owner's alone (umask 077). It leaves no core file, and other processes of the
/// same user can neither read its memory nor trace it.
///
/// The limit on core files (RLIMIT_CORE) does not hold where the kernel hands cores to a program, as it does with
/// systemd-coredump; that the process is not dumpable (PR_SET_DUMPABLE, prctl(2)) holds there, too. Where the system
/// refuses either, what the administrator set stands; [`leaves_no_core`] tells.
///
/// A process that is traced from its start stays dumpable: its tracer sees all of it in any case, and could not follow it
/// otherwise.
pub(crate) fn harden() {
    umask(Mode::RWXG | Mode::RWXO);
    let none = Rlimit {
        current: Some(0),
        maximum: Some(0),
    };
    let _ = setrlimit(Resource::Core, none);
    if !is_traced() {
        let _ = set_dumpable_behavior(DumpableBehavior::NotDumpable);
    }
}

/// Whether this process leaves no core, whoever takes cores on this machine.
#[must_use]
pub fn leaves_no_core() -> bool {
    getrlimit(Resource::Core).current == Some(0)
        && matches!(dumpable_behavior(), Ok(DumpableBehavior::NotDumpable))
}

/// Whether somebody traces this process.
fn is_traced() -> bool {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let mut lines = status.lines();
    lines
        .find_map(|line| line.strip_prefix("TracerPid:"))
        .is_some_and(|tracer| tracer.trim() != "0")
}
