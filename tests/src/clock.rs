//! Clocks that are wrong: a library in front of the C library's, which tells another time of day, and how long the machine
//! has been running.

use std::fs;
use std::path::PathBuf;
use std::process::Command;
use std::sync::OnceLock;
use std::thread;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use crate::{judge, once};

/// Seconds of a day.
pub const DAY: i64 = 86_400;

const SOURCE: &str = include_str!("../clock/clock.c");

/// Has a process live that many seconds ahead, or behind: so much time has passed, by every clock.
pub fn set(command: &mut Command, seconds: i64) {
    command
        .env("LD_PRELOAD", library())
        .env("MINTMARK_CLOCK_SECONDS", seconds.to_string());
}

/// Has a process think that all takes so many times as long as it does: what it measures by runs so much faster, and so do its
/// waits. The time of day stays what it is.
pub fn quicken(command: &mut Command, times: u64) {
    command
        .env("LD_PRELOAD", library())
        .env("MINTMARK_CLOCK_PACE", times.to_string());
}

/// What is wrong with the clocks of a machine.
#[derive(Clone, Debug, Default)]
pub struct Machine {
    environment: Vec<(&'static str, String)>,
}

impl Machine {
    /// One with which nothing is wrong.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// One whose time of day libfaketime tells, as its manual has it; none where it is not installed.
    pub fn faketime(time: &str) -> Option<Self> {
        let library = fs::read_dir("/usr/lib").ok()?.find_map(|entry| {
            let path = entry.ok()?.path().join("faketime/libfaketime.so.1");
            path.exists().then_some(path)
        })?;
        let environment = vec![
            ("LD_PRELOAD", library.display().to_string()),
            ("FAKETIME", time.to_owned()),
            ("TZ", "UTC".to_owned()),
        ];
        Some(Self { environment })
    }

    /// So many seconds have passed.
    #[must_use]
    pub fn passed(self, seconds: i64) -> Self {
        self.with("MINTMARK_CLOCK_SECONDS", seconds)
    }

    /// The clock was set by so many seconds.
    #[must_use]
    pub fn jumped(self, seconds: i64) -> Self {
        self.with("MINTMARK_CLOCK_JUMP", seconds)
    }

    /// The clock stands still, at this Unix time.
    #[must_use]
    pub fn frozen(self, unix: i64) -> Self {
        self.with("MINTMARK_CLOCK_FROZEN", unix)
    }

    /// The machine was booted again, for the so-maniest time.
    #[must_use]
    pub fn booted(self, number: i64) -> Self {
        self.with("MINTMARK_BOOT", number)
    }

    /// The machine does not say how long it has been running.
    #[must_use]
    pub fn blind(self) -> Self {
        self.with("MINTMARK_NO_BOOT", 1)
    }

    /// The environment of a process on that machine.
    pub fn environment(&self) -> impl Iterator<Item = (&'static str, &str)> {
        let pairs = self.environment.iter();
        pairs.map(|(name, value)| (*name, value.as_str()))
    }

    fn with(mut self, name: &'static str, value: i64) -> Self {
        if self.environment.is_empty() {
            let library = library().display().to_string();
            self.environment.push(("LD_PRELOAD", library));
        }
        self.environment.push((name, value.to_string()));
        self
    }
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

/// Waits until the clock shows another second. Times of ours are in seconds, and what is made within one is told apart by
/// none of them.
pub fn next_second() {
    let second = || {
        SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .unwrap()
            .as_secs()
    };
    let before = second();
    while second() == before {
        thread::sleep(Duration::from_millis(5));
    }
}
