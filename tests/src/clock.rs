//! A clock that is wrong: a library in front of the C library's, which adds what it is told to the time of day.

use std::fs;
use std::path::PathBuf;
use std::process::Command;
use std::sync::OnceLock;

use crate::{judge, once};

/// Seconds of a day.
pub const DAY: i64 = 86_400;

const SOURCE: &str = include_str!("../clock/clock.c");

/// Has a process live that many seconds ahead, or behind.
pub fn set(command: &mut Command, seconds: i64) {
    command
        .env("LD_PRELOAD", library())
        .env("MINTMARK_CLOCK_SECONDS", seconds.to_string());
}

fn library() -> &'static PathBuf {
    static LIBRARY: OnceLock<PathBuf> = OnceLock::new();
    LIBRARY.get_or_init(|| {
        let folder = once::made("clock", |folder| {
            let source = folder.join("clock.c");
            fs::write(&source, SOURCE).unwrap();
            let mut compiler = Command::new("cc");
            compiler.args(["-shared", "-fPIC", "-O1", "-Wall", "-Werror", "-o"]);
            judge::succeed(
                compiler
                    .arg(folder.join("clock.so"))
                    .arg(source)
                    .arg("-ldl"),
            );
        });
        folder.join("clock.so")
    })
}
