//! Faults of the machine, made by strace: a process that is killed at a system call, or told that it failed.

use std::process::{Command, Stdio};

use crate::command::{Run, Tool};

/// Every system call after which something is durable or in its place.
pub const DURABLE: [&str; 3] = ["fdatasync", "fsync", "rename,renameat,renameat2"];

/// Kills the process at its n-th call of one system call, before the call is made. Whether it came so far.
pub fn killed_at(tool: &Tool, call: &str, nth: u32) -> bool {
    let run = run(
        tool,
        &[
            "-e",
            &format!("trace={call}"),
            "-e",
            &format!("inject={call}:signal=KILL:when={nth}"),
        ],
    );
    run.exit != 0
}

/// Has every call of some system calls on this very path fail, from the n-th on.
pub fn failing(tool: &Tool, calls: &str, path: &str, error: &str, nth: u32) -> Run {
    let inject = format!("inject={calls}:error={error}:when={nth}+");
    run(
        tool,
        &["-P", path, "-e", &format!("trace={calls}"), "-e", &inject],
    )
}

fn run(tool: &Tool, options: &[&str]) -> Run {
    let inner = tool.command();
    let mut strace = Command::new("strace");
    strace.args(["-f", "-qq", "-o", "/dev/null"]).args(options);
    strace.arg(inner.get_program()).args(inner.get_args());
    strace
        .current_dir(inner.get_current_dir().unwrap())
        .stdin(Stdio::null());
    for (name, value) in inner.get_envs() {
        match value {
            Some(value) => strace.env(name, value),
            None => strace.env_remove(name),
        };
    }
    let run = tool.ended(&strace.output().expect("strace runs"));
    assert!(!run.stderr.contains("strace: "), "{run}");
    run
}
