//! Where it is measured: a world with headquarters and as many vaults as are asked for, each with a token of its own.

use std::cell::Cell;
use std::fs;
use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use crate::ceiling::Pace;
use mintmark_tests::world::OFFICERS;
use mintmark_tests::{Stores, World, stores};

/// Limits that are never reached, and a lease of the token's anchor for a line of this speed: each costs a write into the
/// token, and 256 units are some milliseconds here.
pub(crate) const POLICY: &str = r#"schema = 1
id = "th200"
valid_for_days = 90
anchor_lease_max = 4096
[credit]
max_unreported_units = 9000000
max_unreported_days = 90
[[product]]
sku = "TH-200"
units = 9000000
device_id_pattern = "TH200-[0-9]{8}"
key_algorithms = ["P-256"]
[product.certificate]
subject = "O=Acme, OU=TH-200, serialNumber={device_id}"
validity_days = 7300
extended_key_usage = ["clientAuth"]
"#;

/// Headquarters, and the vaults so far.
pub(crate) struct Scene {
    world: World,
    outgoing: Cell<u32>,
}

/// One run of `site issue`.
pub(crate) struct Run {
    /// From the start of the process to its end.
    pub(crate) whole: Duration,
    /// When each certificate was said to be there, since the start of the process.
    pub(crate) at: Vec<Duration>,
    /// Processor time of the process when each thousandth was, in seconds.
    pub(crate) processor_seconds: Vec<f64>,
    /// The most memory that it had at once, in bytes.
    pub(crate) memory_bytes: u64,
}

/// How many certificates there are to a sample of processor time.
pub(crate) const SAMPLE: usize = 1_000;

impl Scene {
    /// With the key ceremony behind it.
    pub(crate) fn new() -> Self {
        let world = World::empty(Stores::Tokens);
        world.ceremony(&OFFICERS, "");
        Self {
            world,
            outgoing: Cell::new(0),
        }
    }

    /// A new vault that may issue.
    pub(crate) fn vault(&self, name: &str) {
        self.world.enrol(name);
        self.world.grant(name, POLICY);
    }

    /// Headquarters and the vaults.
    pub(crate) fn world(&self) -> &World {
        &self.world
    }

    /// A path in the folder of the scene.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.world.path(name)
    }

    /// The URI of a vault's token.
    pub(crate) fn keys(&self, vault: &str) -> String {
        self.world.keys(vault)
    }

    /// A command that finds the tokens.
    pub(crate) fn command(&self, program: impl AsRef<std::ffi::OsStr>) -> Command {
        let mut command = Command::new(program);
        command
            .env("SOFTHSM2_CONF", stores::configuration(self.world.folder()))
            .stdin(Stdio::null());
        command
    }

    /// What the ceiling is now.
    pub(crate) fn ceiling(&self, vault: &str) -> Pace {
        let mut command = self.command(std::env::current_exe().unwrap());
        command.args(["ceiling", "--keys", &self.keys(vault)]);
        let output = command.output().unwrap();
        assert!(
            output.status.success(),
            "{}",
            String::from_utf8_lossy(&output.stderr)
        );
        serde_json::from_slice(&output.stdout).unwrap()
    }

    /// `site issue` of a file or folder of requests into a new folder.
    pub(crate) fn issue(&self, binaries: &Path, vault: &str, requests: &Path) -> Run {
        let mut command = self.command(binaries.join("site"));
        command.args(["issue", "--json", "--product", "TH-200"]);
        self.run(command, vault, requests)
    }

    /// The same over a log in memory. The vault is of no more use afterwards.
    pub(crate) fn issue_in_memory(&self, vault: &str, requests: &Path) -> Run {
        let mut command = self.command(std::env::current_exe().unwrap());
        command.arg("in-memory");
        self.run(command, vault, requests)
    }

    fn run(&self, mut command: Command, vault: &str, requests: &Path) -> Run {
        let output = self.outgoing();
        self.settle();
        command.arg("--home").arg(self.path(vault));
        command
            .arg("--csr")
            .arg(requests)
            .arg("--output")
            .arg(&output);
        let run = timed(command);
        let written = fs::read_dir(&output).unwrap().count();
        assert_eq!(
            written,
            run.at.len() * 2,
            "a certificate and a chain for each"
        );
        run
    }

    /// Has a vault issue for so many devices from `first` on, without a file for any of them.
    pub(crate) fn fill(&self, vault: &str, first: u32, count: u32) {
        let mut command = self.command(std::env::current_exe().unwrap());
        command.args(["fill", "--first", &first.to_string()]);
        command.args(["--count", &count.to_string(), "--home"]);
        let output = command.arg(self.path(vault)).output().unwrap();
        assert!(
            output.status.success(),
            "{}",
            String::from_utf8_lossy(&output.stderr)
        );
    }

    /// How long each request of a folder takes by itself in a vault that is open.
    pub(crate) fn one_by_one(&self, vault: &str, requests: &Path) -> Vec<Duration> {
        let mut command = self.command(std::env::current_exe().unwrap());
        command
            .arg("one-by-one")
            .arg("--home")
            .arg(self.path(vault));
        command
            .arg("--csr")
            .arg(requests)
            .arg("--output")
            .arg(self.outgoing());
        let output = command.output().unwrap();
        assert!(
            output.status.success(),
            "{}",
            String::from_utf8_lossy(&output.stderr)
        );
        let last = output
            .stdout
            .split(|byte| *byte == b'\n')
            .rfind(|line| !line.is_empty());
        serde_json::from_slice(last.unwrap()).unwrap()
    }

    /// A folder that is not there yet. Nothing is removed before the end: a file system that was just given files back is
    /// slow to make new ones (ext4 keeps from using an inode again for minutes, and looks at each).
    fn outgoing(&self) -> PathBuf {
        let number = self.outgoing.get();
        self.outgoing.set(number + 1);
        self.path(&format!("issued-{number}"))
    }

    /// Waits until the disk has nothing left to do.
    fn settle(&self) {
        assert!(Command::new("sync").status().unwrap().success());
    }
}

/// Runs `site issue --json` and looks at the clock for each of its rows.
pub(crate) fn timed(mut command: Command) -> Run {
    let begin = Instant::now();
    let mut child = command.stdout(Stdio::piped()).spawn().unwrap();
    let process = PathBuf::from(format!("/proc/{}", child.id()));
    let mut rows = BufReader::new(child.stdout.take().unwrap());
    let (mut at, mut processor_seconds, mut memory_bytes) = (Vec::new(), Vec::new(), 0);
    let mut row = String::new();
    while rows.read_line(&mut row).unwrap() > 0 {
        assert!(row.contains(r#""outcome":"issued""#), "{row}");
        at.push(begin.elapsed());
        if at.len() % SAMPLE == 1 {
            processor_seconds.extend(self::processor_seconds(&process));
            memory_bytes = memory_bytes.max(memory(&process));
        }
        row.clear();
    }
    let status = child.wait().unwrap();
    assert!(status.success(), "site issue ends well");
    Run {
        whole: begin.elapsed(),
        at,
        processor_seconds,
        memory_bytes,
    }
}

/// The processor time that a process has had, in seconds.
pub(crate) fn processor_seconds(process: &Path) -> Option<f64> {
    // proc(5): after the name in parentheses, fields 14 and 15 are utime and stime, in hundredths of a second.
    let stat = fs::read_to_string(process.join("stat")).ok()?;
    let (_, fields) = stat.rsplit_once(')')?;
    let fields: Vec<&str> = fields.split_whitespace().collect();
    let ticks = |at: usize| fields.get(at)?.parse::<f64>().ok();
    Some((ticks(11)? + ticks(12)?) / 100.0)
}

/// The most memory that a process had so far, in bytes.
pub(crate) fn memory(process: &Path) -> u64 {
    let status = fs::read_to_string(process.join("status")).unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let kibibytes = line.and_then(|line| line.trim().strip_suffix(" kB")?.parse::<u64>().ok());
    kibibytes.unwrap_or(0) * 1024
}
