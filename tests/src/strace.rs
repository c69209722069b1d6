//! Faults of the machine, made by strace: a process that is killed at a system call, or told that it failed.

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};

use crate::command::{Run, Tool, in_place_of};

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

/// Runs a tool whose threads open every eleventh of their files late: whatever it does at a token of files takes its time.
pub fn dawdling(tool: &Tool) -> Run {
    let inject = "inject=openat:delay_enter=40000:when=11+11";
    run(tool, &["-e", "trace=openat", "-e", inject])
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

/// Runs a command of which each thread stands still for so many seconds at its first call of one system call on this very path.
/// The tracer goes no sooner than that.
pub fn standing_still(tool: &Tool, call: &str, path: &Path, seconds: u32) -> Run {
    let inner = tool.command();
    let mut output = halting(&inner, call, path, seconds).output().unwrap();
    // strace remarks that a thread is gone which it still holds.
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    let said = said.split_inclusive('\n');
    let said = said.filter(|line| !line.starts_with("strace: dispatch_event: "));
    output.stderr = said.collect::<String>().into_bytes();
    let run = tool.ended(&output);
    assert!(!run.stderr.contains("strace: "), "{run}");
    run
}

/// The same command, of which each thread stands still for so many seconds at its first call of one system call on this very
/// path, or until its tracer is gone.
pub(crate) fn halting(inner: &Command, call: &str, path: &Path, seconds: u32) -> Command {
    let mut strace = Command::new("strace");
    strace
        .args(["-D", "-f", "--seccomp-bpf", "-qq", "-o", "/dev/null", "-P"])
        .arg(path)
        .args(["-e", &format!("trace={call}")])
        .args([
            "-e",
            &format!("inject={call}:delay_enter={seconds}s:when=1"),
        ])
        .arg(inner.get_program())
        .args(inner.get_args());
    in_place_of(inner, &mut strace);
    strace.stdin(Stdio::null());
    strace
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
pub(crate) fn finished(tool: &Tool, inner: &Command, outer: &mut Command) -> Run {
    in_place_of(inner, outer);
    outer.stdin(Stdio::null());
    let run = tool.ended(&outer.output().expect("strace runs"));
    assert!(!run.stderr.contains("strace: "), "{run}");
    run
}
