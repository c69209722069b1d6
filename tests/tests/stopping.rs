//! A line that is told to stop finishes what it has begun, gives its lease back, says how far it came, and goes on where it
//! was when it is run again.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::collections::BTreeSet;
use std::io::{BufRead as _, BufReader, Read as _};
use std::os::unix::process::ExitStatusExt as _;
use std::process::{Child, Command, ExitStatus, Stdio};

use mintmark_tests::world::POLICY;
use mintmark_tests::{Stores, Tool, World, judge};
use serde_json::Value;

/// So many that the line is still at work when its first certificates are out.
const DEVICES: u32 = 4000;

fn number(value: &Value, field: &str) -> u64 {
    let number = value[field].as_u64();
    number.unwrap_or_else(|| panic!("{field} in {value}"))
}

fn vault(stores: Stores) -> World {
    let policy = POLICY.replace("units = 1000", "units = 10000");
    let world = World::with_policy_in(stores, &policy);
    world.requests("mass", 0..DEVICES);
    world
}

/// A line that has just reported its first certificates.
struct Running {
    child: Child,
    said: BufReader<std::process::ChildStdout>,
    rows: Vec<Value>,
}

/// What a line said, and how it ended.
struct Ended {
    status: ExitStatus,
    rows: Vec<Value>,
    stderr: String,
}

impl Running {
    fn start(mut command: Command) -> Self {
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let mut said = BufReader::new(child.stdout.take().unwrap());
        let mut first = String::new();
        said.read_line(&mut first).unwrap();
        let rows = vec![serde_json::from_str(&first).unwrap()];
        Self { child, said, rows }
    }

    fn signal(&self, signal: &str) {
        let process = self.child.id().to_string();
        judge::succeed(Command::new("kill").args(["-s", signal, &process]));
    }

    /// Reads on to its end.
    fn ended(mut self) -> Ended {
        for line in self.said.lines() {
            // What was being written when it was killed is no row.
            self.rows
                .extend(serde_json::from_str::<Value>(&line.unwrap()));
        }
        let mut stderr = String::new();
        let mut errors = self.child.stderr.take().unwrap();
        errors.read_to_string(&mut stderr).unwrap();
        Ended {
            status: self.child.wait().unwrap(),
            rows: self.rows,
            stderr,
        }
    }
}

impl Ended {
    fn errors(&self) -> Vec<Value> {
        let lines = self.stderr.lines();
        let objects = lines.filter_map(|line| serde_json::from_str::<Value>(line).ok());
        objects
            .filter_map(|object| object.get("error").cloned())
            .collect()
    }
}

/// The account, with what was burned of it.
fn account(world: &World) -> (u64, u64, u64) {
    let status = world.status("berlin");
    let account = &status["accounts"][0];
    (
        number(account, "good"),
        number(account, "unresolved"),
        number(&status["outlook"][0], "burned"),
    )
}

/// The same command again gives the rest, no slot is skipped, and headquarters finds nothing.
fn expect_rest(world: &World, answered: &[Value]) {
    let run = world.issue("mass").ok();
    let rows = run.lines();
    let existing = rows.iter().filter(|row| row["outcome"] == "existing");
    assert_eq!(existing.count(), answered.len());
    let slots: BTreeSet<u64> = rows.iter().map(|row| number(row, "slot")).collect();
    assert_eq!(slots, (0..u64::from(DEVICES)).collect());
    assert_eq!(account(world), (u64::from(DEVICES), 0, 0));
    world.carry_home("berlin").exits_done();
    let report = world.reconcile_run().exits_done().json();
    assert_eq!(report["balanced"], true, "{report}");
    assert_eq!(report["findings"], Value::Array(Vec::new()), "{report}");
}

fn told_to_stop(stores: Stores, signal: &str) {
    let world = vault(stores);
    let line = Running::start(world.issue("mass").command());
    line.signal(signal);
    let ended = line.ended();
    assert_eq!(ended.status.code(), Some(3), "{}", ended.stderr);
    let errors = ended.errors();
    let [error] = errors.as_slice() else {
        panic!("{}", ended.stderr)
    };
    assert_eq!(error["code"], "INTERRUPTED");
    assert!(error["hint"].as_str().unwrap().contains("same command"));
    let answered = ended.rows.len();
    let told = format!("SIG{signal} before every request was answered: {answered} of {DEVICES}");
    let message = error["message"].as_str().unwrap();
    assert!(message.contains(&told), "{message}");
    assert!(answered < DEVICES as usize, "the line was not interrupted");
    assert!(ended.rows.iter().all(|row| row["outcome"] == "issued"));
    // Not even the start after it has anything to put right.
    assert_eq!(account(&world), (answered as u64, 0, 0));
    let recovered = world.site("recover").ok();
    assert_eq!(recovered.json()["completed"], 0, "{recovered}");
    assert_eq!(recovered.json()["index_rebuilt"], Value::Null);
    assert!(recovered.warning_codes().is_empty(), "{recovered}");
    expect_rest(&world, &ended.rows);
}

#[test]
fn a_line_with_key_files_that_gets_sigterm_burns_nothing_and_goes_on_when_it_is_run_again() {
    told_to_stop(Stores::Files, "TERM");
}

#[test]
fn a_line_with_a_token_that_gets_ctrl_c_burns_nothing_and_goes_on_when_it_is_run_again() {
    told_to_stop(Stores::Tokens, "INT");
}

#[test]
fn the_second_signal_ends_the_line_at_once_and_nothing_is_lost() {
    let world = vault(Stores::Files);
    let line = Running::start(world.issue("mass").command());
    // Both wait for it when it goes on, and come at one instant.
    line.signal("STOP");
    line.signal("HUP");
    line.signal("TERM");
    line.signal("CONT");
    let ended = line.ended();
    assert!(
        matches!(ended.status.signal(), Some(1 | 15)),
        "{:?}",
        ended.status
    );
    world.site("recover").ok();
    let (good, unresolved, burned) = account(&world);
    assert!(good >= ended.rows.len() as u64);
    assert_eq!(unresolved, burned);
    let rows = world.issue("mass").ok().lines();
    let devices: BTreeSet<_> = rows.iter().map(|row| row["serial"].to_string()).collect();
    assert_eq!(devices.len(), DEVICES as usize);
    assert_eq!(account(&world).0, u64::from(DEVICES));
    world.site("audit verify").ok();
}

/// A command as a shell starts it that was told to ignore these signals, as `nohup` does.
fn ignoring(tool: &Tool, signals: &str) -> Command {
    let inner = tool.command();
    let mut shell = Command::new("sh");
    shell
        .args(["-c", &format!("trap '' {signals}; exec \"$@\""), "sh"])
        .arg(inner.get_program())
        .args(inner.get_args())
        .current_dir(inner.get_current_dir().unwrap())
        .stdin(Stdio::null());
    for (name, value) in inner.get_envs() {
        match value {
            Some(value) => shell.env(name, value),
            None => shell.env_remove(name),
        };
    }
    shell
}

#[test]
fn a_signal_that_was_ignored_from_the_beginning_stays_ignored() {
    let world = vault(Stores::Files);
    let line = Running::start(ignoring(&world.issue("mass"), "HUP INT"));
    line.signal("HUP");
    line.signal("INT");
    let ended = line.ended();
    assert_eq!(ended.status.code(), Some(0), "{}", ended.stderr);
    assert_eq!(ended.rows.len(), DEVICES as usize);
}
