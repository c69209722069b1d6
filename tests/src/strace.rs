//! Faults of the machine, made by strace: a process that is killed at a system call, or told that it failed.

use std::fs;
use std::path::Path;
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

/// The system calls that touch what is on a medium, the closing of files aside.
const ON_MEDIA: &str = "openat,mkdirat,fchmod,read,pread64,write,fsync,syncfs,fadvise64,getdents64,newfstatat,fstat,\
                        renameat,renameat2,linkat,unlinkat";
/// How many files one command may write: each takes the next number for its part.
const PARTS_MAX: u32 = 8;

/// A stick as the kernel sees it while one command works on it.
#[derive(Clone, Copy, Debug)]
pub struct Stick<'a> {
    /// Where it is mounted.
    pub mount: &'a Path,
    /// The folders and files below that may be touched, by their paths.
    pub paths: &'a [String],
}

/// One system call on a stick.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Call {
    /// Its name.
    pub name: String,
    /// All of it, with what it returned.
    pub line: String,
}

impl Stick<'_> {
    /// Runs a command and lists its calls on the stick.
    pub fn calls(self, tool: &Tool) -> (Run, Vec<Call>) {
        self.injecting(tool, &[])
    }

    /// Pulls the stick out before the n-th call, counted from 0, of those that [`Stick::calls`] lists: that one fails and
    /// every later one, whatever it is.
    pub fn pulled_at(self, tool: &Tool, calls: &[Call], nth: usize) -> Run {
        let before = |name: &str| calls[..nth].iter().filter(|call| call.name == name).count();
        let inject = ON_MEDIA
            .split(',')
            .map(|name| format!("{name}:error=EIO:when={}+", before(name) + 1));
        let (run, done) = self.injecting(tool, &inject.collect::<Vec<_>>());
        let injected = done
            .iter()
            .position(|call| call.line.ends_with("(INJECTED)"));
        assert_eq!(injected, Some(nth), "{:?}\n{run}", calls[nth]);
        run
    }

    /// Has the n-th call alone end so: `error=ENOSPC`, say.
    pub fn tampered_at(self, tool: &Tool, calls: &[Call], nth: usize, how: &str) -> Run {
        let name = &calls[nth].name;
        let before = calls[..nth].iter().filter(|call| call.name == *name);
        let inject = format!("{name}:{how}:when={}", before.count() + 1);
        let (run, done) = self.injecting(tool, &[inject]);
        let injected = done
            .get(nth)
            .is_some_and(|call| call.line.contains("(INJECTED"));
        assert!(injected, "{:?}\n{run}", calls[nth]);
        run
    }

    /// strace selects calls by path, and the name of a part has the number of its process in it. That is the shell's: the
    /// tracer steps aside (`-D`), and the shell becomes the tool.
    fn injecting(self, tool: &Tool, inject: &[String]) -> (Run, Vec<Call>) {
        let log = tool.command().get_current_dir().unwrap().join("strace.log");
        let script = "log=$1 names=$2 paths=$3 parts=$4; shift 4; \
             set -- -- \"$@\"; \
             for path in $paths; do \
                 set -- -P \"$path\" \"$@\"; \
                 n=0; while [ $n -lt $parts ]; do set -- -P \"$path.$$-$n.part\" \"$@\"; n=$((n + 1)); done; \
             done; \
             exec strace -D -f --seccomp-bpf -qq -o \"$log\" -e trace=\"$names\" $inject \"$@\"";
        let mut options = String::new();
        for inject in inject {
            options.push_str(&format!(" -e inject={inject}"));
        }
        let mount = self.mount.to_str().unwrap();
        let mut paths = mount.to_owned();
        for path in self.paths {
            paths.push_str(&format!(" {mount}/{path}"));
        }
        let inner = tool.command();
        let mut shell = Command::new("sh");
        shell
            .args(["-c", script, "sh"])
            .arg(&log)
            .args([ON_MEDIA, &paths, &PARTS_MAX.to_string()])
            .arg(inner.get_program())
            .args(inner.get_args())
            .env("inject", options);
        let run = finished(tool, &inner, &mut shell);
        let lines = fs::read_to_string(&log).unwrap();
        fs::remove_file(&log).unwrap();
        let call = |line: &str| {
            let (_, line) = line.split_once(' ').unwrap();
            let (name, _) = line.trim_start().split_once('(').unwrap();
            let (name, line) = (name.to_owned(), line.trim_start().to_owned());
            Call { name, line }
        };
        (run, lines.lines().map(call).collect())
    }
}

/// Every system call that changes what is on a disk, or makes it durable.
const CHANGING: &str = "openat,creat,mkdir,mkdirat,write,pwrite64,writev,pwritev,pwritev2,truncate,ftruncate,fallocate,\
                        rename,renameat,renameat2,link,linkat,symlink,symlinkat,unlink,unlinkat,rmdir,fsync,fdatasync,\
                        syncfs,sync_file_range,chmod,fchmod,fchmodat,copy_file_range,sendfile,utimensat";

/// One system call of a command that changes what is on a disk.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Change {
    /// Its name.
    pub name: String,
    /// What it changes, by its path.
    pub target: String,
    /// Which of its thread's calls of this name it is, counted from 1.
    nth: usize,
    /// Which of its thread's calls of this name on this target.
    nth_on_target: usize,
    /// Which of the command's calls of this name on this target: so it is told from every other.
    occurrence: usize,
}

impl Change {
    /// What tells it from the other calls of a run, and is the same in the next run: the numbers of processes in names
    /// are left out.
    pub fn identity(&self) -> (String, String, usize) {
        let mut target = String::new();
        for part in self.target.split_inclusive('.') {
            let of_process = part.split_once('-').is_some_and(|(number, _)| {
                number.len() > 2 && number.bytes().all(|b| b.is_ascii_digit())
            });
            target.push_str(if of_process { "PROCESS." } else { part });
        }
        (self.name.clone(), target, self.occurrence)
    }

    /// The ways to strike it, one after the other until one does: by its number among its thread's calls, and by that on
    /// its target; and where several threads share a target, by any.
    pub fn ways(&self) -> Vec<Way> {
        let mut ways = vec![Way::ByName(self.nth), Way::ByTarget(self.nth_on_target)];
        if self.occurrence > 1 {
            let others = (1..=self.occurrence.min(4)).filter(|nth| *nth != self.nth_on_target);
            ways.extend(others.map(Way::ByTarget));
        }
        ways
    }
}

/// What is to become of a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    /// The process is killed before it.
    Killed,
    /// It fails so, and no other: `EIO`, say.
    Fails(&'static str),
    /// It and every later call of its name fail so.
    FailsOn(&'static str),
}

/// How a call is found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    /// The n-th of a thread of its name.
    ByName(usize),
    /// The n-th of a thread of its name on its target.
    ByTarget(usize),
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
        let (run, lines) = self.traced(tool, &[]);
        (run, self.read(&lines))
    }

    /// Runs a command and has this fate come over one of its calls, found in this way.
    /// Gives the call that it came over, if it came to that.
    pub fn with(self, tool: &Tool, change: &Change, way: Way, fate: Fate) -> (Run, Option<Change>) {
        let name = &change.name;
        let (nth, mut options) = match way {
            Way::ByTarget(nth) => (nth, vec!["-P".to_owned(), change.target.clone()]),
            Way::ByName(nth) => (nth, Vec::new()),
        };
        let inject = match fate {
            Fate::Killed => format!("inject={name}:signal=KILL:when={nth}"),
            Fate::Fails(error) => format!("inject={name}:error={error}:when={nth}"),
            Fate::FailsOn(error) => format!("inject={name}:error={error}:when={nth}+"),
        };
        options.extend(["-e".to_owned(), inject]);
        let (run, lines) = self.traced(tool, &options);
        let struck = match fate {
            // The last call of the thread that was killed in it; the others end without a call of this name.
            Fate::Killed if run.exit == -1 => self.read(&lines).into_iter().rfind(|c| {
                let number = match way {
                    Way::ByTarget(_) => c.nth_on_target,
                    Way::ByName(_) => c.nth,
                };
                c.name == *name && number == nth
            }),
            Fate::Killed => None,
            Fate::Fails(_) | Fate::FailsOn(_) => {
                let upto = lines.iter().position(|line| line.contains("(INJECTED"));
                upto.and_then(|upto| self.read(&lines[..=upto]).pop())
            }
        };
        (run, struck)
    }

    fn traced(self, tool: &Tool, options: &[String]) -> (Run, Vec<String>) {
        let inner = tool.command();
        let log = tempfile::NamedTempFile::new().unwrap();
        let mut strace = Command::new("strace");
        strace
            .args(["-f", "-qq", "-y", "-s", "0", "-o"])
            .arg(log.path());
        strace
            .arg("-e")
            .arg(format!("trace={CHANGING}"))
            .args(options);
        strace.arg(inner.get_program()).args(inner.get_args());
        strace.env("RAYON_NUM_THREADS", "1");
        let run = finished(tool, &inner, &mut strace);
        let text = fs::read_to_string(log.path()).unwrap();
        (run, text.lines().map(str::to_owned).collect())
    }

    fn read(self, lines: &[String]) -> Vec<Change> {
        let mut counts: std::collections::BTreeMap<Vec<String>, usize> = Default::default();
        let mut count = |key: &[&str]| {
            let key = key.iter().map(|part| (*part).to_owned()).collect();
            let count = counts.entry(key).or_default();
            *count += 1;
            *count
        };
        let mut found = Vec::new();
        for line in lines {
            let Some((thread, call)) = line.split_once(' ') else {
                continue;
            };
            let Some((name, arguments)) = call.trim_start().split_once('(') else {
                continue;
            };
            if name.is_empty() || !name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_') {
                continue;
            }
            let nth = count(&["thread", thread, name]);
            let Some(target) = target(name, arguments) else {
                continue;
            };
            let nth_on_target = count(&["thread", thread, name, &target]);
            if name == "openat" && !arguments.contains("O_CREAT") && !arguments.contains("O_TRUNC")
            {
                continue;
            }
            if !Path::new(&target).starts_with(self.below) {
                continue;
            }
            let occurrence = count(&["all", name, &target]);
            let name = name.to_owned();
            found.push(Change {
                name,
                target,
                nth,
                nth_on_target,
                occurrence,
            });
        }
        found
    }
}

/// The path that a call changes: of the file that it has open, or that it names last.
fn target(name: &str, arguments: &str) -> Option<String> {
    let by_descriptor = [
        "write",
        "pwrite",
        "ftruncate",
        "fallocate",
        "fsync",
        "fdatasync",
        "sync",
        "fchmod",
        "copy",
        "sendfile",
    ];
    let of_descriptor = |text: &str| {
        let (_, rest) = text.split_once('<')?;
        let (path, _) = rest.split_once('>')?;
        Some(path.to_owned())
    };
    if by_descriptor.iter().any(|prefix| name.starts_with(prefix)) && name != "fchmodat" {
        return of_descriptor(arguments);
    }
    // `openat(AT_FDCWD</folder>, "name", ...)`, `rename("/a", "/b")`.
    let path = arguments.split('"').nth(1)?;
    if path.starts_with('/') {
        return Some(path.to_owned());
    }
    let folder = of_descriptor(arguments)?;
    Some(format!("{folder}/{path}"))
}

/// Runs a command and gives each of these calls as strace writes it, with all bytes in hexadecimal.
pub fn recorded(tool: &Tool, calls: &str) -> (Run, Vec<String>) {
    let inner = tool.command();
    let log = tempfile::NamedTempFile::new().unwrap();
    let mut strace = Command::new("strace");
    strace
        .args(["-f", "-qq", "-y", "-xx", "-s", "100000000", "-o"])
        .arg(log.path());
    strace.arg("-e").arg(format!("trace={calls}"));
    strace.arg(inner.get_program()).args(inner.get_args());
    strace.env("RAYON_NUM_THREADS", "1");
    let run = finished(tool, &inner, &mut strace);
    let text = fs::read_to_string(log.path()).unwrap();
    (run, text.lines().map(str::to_owned).collect())
}

fn run(tool: &Tool, options: &[&str]) -> Run {
    let inner = tool.command();
    let mut strace = Command::new("strace");
    strace.args(["-f", "-qq", "-o", "/dev/null"]).args(options);
    strace.arg(inner.get_program()).args(inner.get_args());
    finished(tool, &inner, &mut strace)
}

/// Runs a tool, wrapped in something else, to its end.
fn finished(tool: &Tool, inner: &Command, outer: &mut Command) -> Run {
    outer
        .current_dir(inner.get_current_dir().unwrap())
        .stdin(Stdio::null());
    for (name, value) in inner.get_envs() {
        match value {
            Some(value) => outer.env(name, value),
            None => outer.env_remove(name),
        };
    }
    let run = tool.ended(&outer.output().expect("strace runs"));
    assert!(!run.stderr.contains("strace: "), "{run}");
    run
}
