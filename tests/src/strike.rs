//! Every system call by which a command changes something on disk, and what becomes of the command if that one is its last,
//! or fails.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use crate::command::{Run, Tool};
use crate::strace::finished;
use crate::{judge, once};

const SOURCE: &str = include_str!("../strike/strike.c");

/// What a command ends with that does not end by itself.
pub const HANGS: i32 = 124;

/// One system call of a command that changes what is on a disk.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Change {
    /// Its name.
    pub name: String,
    /// What it changes, by its path.
    pub target: String,
    /// The same, as a pattern for the next run: what is random in it, or the number of a process, may be anything.
    pattern: String,
    /// Which of the command's calls of this name it is whose target fits the pattern, counted from 1.
    occurrence: usize,
}

impl Change {
    /// What tells it from the other calls of a run, and is the same in the next run.
    pub fn identity(&self) -> (String, String, usize) {
        (self.name.clone(), self.pattern.clone(), self.occurrence)
    }
}

/// What is to become of a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    /// The process is killed before it.
    Killed,
    /// It fails so, and no other: `EIO`, say. It fails late, when others wait for it already.
    Fails(&'static str),
    /// It and every later call of its name fail so.
    FailsOn(&'static str),
    /// The disk is full: it and every later call that wants room fail with ENOSPC.
    Full,
}

impl Fate {
    fn word(self) -> String {
        match self {
            Self::Killed => "kill".to_owned(),
            Self::Fails(error) => error.to_owned(),
            Self::FailsOn(error) => format!("{error}+"),
            Self::Full => "full".to_owned(),
        }
    }
}

/// A command as the kernel sees it, with one thread for its work so that every run is like the other.
#[derive(Clone, Copy, Debug)]
pub struct Changes<'a> {
    /// Changes elsewhere are none of ours.
    pub below: &'a Path,
}

impl Changes<'_> {
    /// Runs a command and lists what it changes, in order.
    pub fn of(self, tool: &Tool) -> (Run, Vec<Change>) {
        let (run, changes, _) = self.striking(tool, "none", "-", "-", 0);
        (run, changes)
    }

    /// Runs a command and has this fate come over one of its calls. Whether it came to that.
    pub fn with(self, tool: &Tool, change: &Change, fate: Fate) -> (Run, bool) {
        let Change {
            name,
            pattern,
            occurrence,
            ..
        } = change;
        let (run, _, struck) = self.striking(tool, &fate.word(), name, pattern, *occurrence);
        (run, struck)
    }

    fn striking(
        self,
        tool: &Tool,
        fate: &str,
        name: &str,
        pattern: &str,
        occurrence: usize,
    ) -> (Run, Vec<Change>, bool) {
        let inner = tool.command();
        let log = tempfile::NamedTempFile::new().unwrap();
        let mut strike = Command::new(striker());
        strike.arg(log.path()).arg(self.below);
        strike.args([fate, name, pattern, &occurrence.to_string(), "--"]);
        strike.arg(inner.get_program()).args(inner.get_args());
        strike.env("RAYON_NUM_THREADS", "1");
        let run = finished(tool, &inner, &mut strike);
        assert!(!run.stderr.contains("strike: "), "{run}");
        let text = fs::read_to_string(log.path()).unwrap();
        let struck = text.lines().any(|line| line.starts_with('!'));
        (run, listed(&text), struck)
    }
}

fn listed(text: &str) -> Vec<Change> {
    let mut counts: BTreeMap<(String, String), usize> = BTreeMap::new();
    let change = |line: &str| {
        let (name, target) = line.trim_start_matches('!').split_once(' ').unwrap();
        let (name, target) = (name.to_owned(), target.to_owned());
        let pattern = pattern(&target);
        let occurrence = counts.entry((name.clone(), pattern.clone())).or_default();
        *occurrence += 1;
        let occurrence = *occurrence;
        Change {
            name,
            target,
            pattern,
            occurrence,
        }
    };
    text.lines().map(change).collect()
}

/// `name.1234-5.part` has the number of its process in it; `name.0123456789abcdef.part` and `name.part-0123456789abcdef` are
/// random; `#1234` has no name, but its number on the disk.
fn pattern(target: &str) -> String {
    assert!(!target.contains(['*', '?', '[', '\\']), "{target}");
    let mut pattern = String::new();
    for part in target.split_inclusive(['.', '/']) {
        let (part, end) = match part.strip_suffix(['.', '/']) {
            Some(name) => (name, &part[name.len()..]),
            None => (part, ""),
        };
        let (before, last) = part.rsplit_once('-').unwrap_or(("", part));
        let of_process = before.len() > 2 && before.bytes().all(|byte| byte.is_ascii_digit());
        // The files of a log are named by a number of that length, at the beginning.
        let is_random = last.len() == 16
            && last.bytes().all(|byte| byte.is_ascii_hexdigit())
            && !pattern.ends_with("log/");
        let is_nameless = part.strip_prefix('#').is_some_and(|number| {
            !number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit())
        });
        pattern += &match (of_process, is_random, before) {
            _ if is_nameless => "#*".to_owned(),
            (true, _, _) => "[0-9]*".to_owned(),
            (_, true, "") => "?".repeat(16),
            (_, true, before) => format!("{before}-{}", "?".repeat(16)),
            _ => part.to_owned(),
        };
        pattern += end;
    }
    pattern
}

fn striker() -> &'static PathBuf {
    static STRIKER: OnceLock<PathBuf> = OnceLock::new();
    STRIKER.get_or_init(|| {
        let folder = once::made("strike", |folder| {
            let source = folder.join("strike.c");
            fs::write(&source, SOURCE).unwrap();
            let mut compiler = Command::new("cc");
            compiler.args(["-O1", "-Wall", "-Wextra", "-Werror", "-o"]);
            judge::succeed(compiler.arg(folder.join("strike")).arg(source));
        });
        folder.join("strike")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_differs_from_run_to_run_is_left_out_of_a_name() {
        let of = |target: &str| pattern(target);
        assert_eq!(of("/a/b.pem.1234-5.part"), "/a/b.pem.[0-9]*.part");
        assert_eq!(
            of("/a/.x.1.data.0123456789abcdef.part"),
            "/a/.x.1.data.????????????????.part"
        );
        assert_eq!(
            of("/a/b.part-0123456789abcdef/log"),
            "/a/b.part-????????????????/log"
        );
        assert_eq!(of("/a/#1234"), "/a/#*");
        for same in ["/log/0000000000000000.log", "/a/TH200-00000001.pem"] {
            assert_eq!(of(same), same);
        }
    }
}
