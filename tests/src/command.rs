//! Running a command of ours, and what came of it.

use std::fmt;
use std::io::Write as _;
use std::path::PathBuf;
use std::process::{Child, Command, Output, Stdio};

use serde_json::Value;

use crate::{binaries, clock, errors, stores};

/// A command line that is ready to run: no terminal, nothing on standard input, `--json` unless text is asked for.
#[derive(Debug)]
pub struct Tool {
    tool: &'static str,
    words: Vec<String>,
    environment: Vec<(String, String)>,
    folder: PathBuf,
    clock_seconds: i64,
    pace: u64,
    json: bool,
}

impl Tool {
    /// A command in a folder.
    pub fn new(tool: &'static str, words: Vec<String>, folder: PathBuf) -> Self {
        Self {
            tool,
            words,
            environment: Vec::new(),
            folder,
            clock_seconds: 0,
            pace: 1,
            json: true,
        }
    }

    /// Sets a variable of its environment.
    #[must_use]
    pub fn env(mut self, name: &str, value: impl Into<String>) -> Self {
        self.environment.push((name.to_owned(), value.into()));
        self
    }

    /// Without a variable of its environment.
    #[must_use]
    pub fn without(mut self, name: &str) -> Self {
        self.environment.retain(|(known, _)| known != name);
        self
    }

    /// Has its clock run that far ahead, or behind.
    #[must_use]
    pub fn clock(mut self, seconds: i64) -> Self {
        self.clock_seconds = seconds;
        self
    }

    /// Has all that it does seem to take so many times as long.
    #[must_use]
    pub fn pace(mut self, times: u64) -> Self {
        self.pace = times;
        self
    }

    /// Has it run on a machine whose clocks are wrong.
    #[must_use]
    pub fn machine(mut self, machine: &clock::Machine) -> Self {
        self.clock_seconds = 0;
        let variables = machine.environment();
        let variables = variables.map(|(name, value)| (name.to_owned(), value.to_owned()));
        self.environment.extend(variables);
        self
    }

    /// Without `--json`.
    #[must_use]
    #[track_caller]
    pub fn text(mut self) -> Self {
        self.json = false;
        self
    }

    /// One more argument, blanks and all.
    #[must_use]
    pub fn arg(mut self, word: impl Into<String>) -> Self {
        self.words.push(word.into());
        self
    }

    /// The process, not started yet.
    pub fn command(&self) -> Command {
        let mut command = Command::new(binaries::path(self.tool));
        command
            .args(&self.words)
            .current_dir(&self.folder)
            .stdin(Stdio::null());
        if self.json {
            command.arg("--json");
        }
        for name in [
            "HQ_HOME",
            "SITE_HOME",
            "SOFTHSM2_CONF",
            "NO_COLOR",
            "CLICOLOR_FORCE",
            "RUST_BACKTRACE",
        ] {
            command.env_remove(name);
        }
        for (name, value) in &self.environment {
            command.env(name, value);
        }
        if self.clock_seconds != 0 {
            clock::set(&mut command, self.clock_seconds);
        }
        if self.pace != 1 {
            clock::quicken(&mut command, self.pace);
        }
        command
    }

    /// Runs it at a terminal of its own, at which this is typed. What it says there is all in `stdout`.
    #[track_caller]
    pub fn at_terminal(&self, typed: &str) -> Run {
        let mut script = self.start_at_terminal();
        let mut keyboard = script.stdin.take().unwrap();
        keyboard.write_all(typed.as_bytes()).unwrap();
        // Nobody leaves the terminal before it is over.
        let run = self.ended(&script.wait_with_output().unwrap());
        drop(keyboard);
        run
    }

    /// Starts it at a terminal of its own, whose keyboard and screen are the process's standard input and output.
    pub fn start_at_terminal(&self) -> Child {
        let inner = self.command();
        let words = std::iter::once(inner.get_program()).chain(inner.get_args());
        let quoted = words.map(|word| format!("'{}'", word.to_str().unwrap()));
        let line = format!("exec {}", quoted.collect::<Vec<_>>().join(" "));
        let mut script = Command::new("script");
        script
            .args(["-q", "-e", "-c", &line, "/dev/null"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        in_place_of(&inner, &mut script);
        script.spawn().expect("script runs (package bsdutils)")
    }

    /// Runs it to its end.
    #[track_caller]
    pub fn run(&self) -> Run {
        // A terminal of the tests' own is none of the command's: what wants to ask somebody must fail.
        let mut command = Command::new("setsid");
        let inner = self.command();
        command
            .arg("--wait")
            .arg(inner.get_program())
            .args(inner.get_args());
        in_place_of(&inner, &mut command);
        command.stdin(Stdio::null());
        let output = command.output().expect("setsid runs");
        stores::reduce_rounds(&self.folder);
        self.ended(&output)
    }

    /// What came of it, however it was run.
    pub fn ended(&self, output: &Output) -> Run {
        let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).expect("what is said is UTF-8");
        let run = Run {
            line: format!("{} {}", self.tool, self.words.join(" ")),
            exit: output.status.code().unwrap_or(-1),
            stdout: text(&output.stdout),
            stderr: text(&output.stderr),
        };
        run.expect_documented();
        run
    }

    /// Runs it; it must succeed.
    #[track_caller]
    pub fn ok(&self) -> Run {
        self.run().exits(0)
    }

    /// Runs it; it must end with this exit code.
    #[track_caller]
    pub fn exits(&self, code: i32) -> Run {
        self.run().exits(code)
    }

    /// Runs it; it must end with this exit code, and say this code last of its errors, with a hint.
    #[track_caller]
    pub fn fails(&self, exit: i32, code: &str) -> Run {
        let run = self.run().exits(exit);
        let errors = run.errors();
        let error = errors
            .last()
            .unwrap_or_else(|| panic!("no error is shown\n{run}"));
        assert_eq!(error["code"], code, "{run}");
        assert_eq!(error["exit_code"], exit, "{run}");
        let text = |field: &str| error[field].as_str().unwrap_or_default().to_owned();
        assert!(!text("message").is_empty(), "no message\n{run}");
        assert!(!text("hint").is_empty(), "no hint\n{run}");
        run
    }
}

/// What came of a command.
#[derive(Clone, Debug)]
pub struct Run {
    /// The command line, as it could be typed.
    pub line: String,
    /// The exit code; -1 if a signal ended it.
    pub exit: i32,
    /// Standard output.
    pub stdout: String,
    /// Standard error.
    pub stderr: String,
}

impl Run {
    /// It must have ended with this exit code.
    #[must_use]
    #[track_caller]
    pub fn exits(self, code: i32) -> Self {
        assert_eq!(self.exit, code, "\n{self}");
        self
    }

    /// The one JSON object on standard output.
    #[track_caller]
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.stdout)
            .unwrap_or_else(|error| panic!("no JSON: {error}\n{self}"))
    }

    /// The JSON Lines on standard output.
    #[track_caller]
    pub fn lines(&self) -> Vec<Value> {
        let parse = |line: &str| {
            serde_json::from_str(line)
                .unwrap_or_else(|error| panic!("no JSON line: {error}\n{self}"))
        };
        self.stdout.lines().map(parse).collect()
    }

    /// A text field of the JSON object.
    #[track_caller]
    pub fn text(&self, field: &str) -> String {
        let json = self.json();
        let text = json[field].as_str();
        text.unwrap_or_else(|| panic!("no text field `{field}`\n{self}"))
            .to_owned()
    }

    /// Whatever error is shown, it says what to do, and docs/errors.md knows it with this exit code.
    fn expect_documented(&self) {
        for error in self.errors() {
            let code = error["code"].as_str().unwrap_or_default();
            let exits = errors::documented().get(code);
            let exits = exits.unwrap_or_else(|| panic!("docs/errors.md has no {code}\n{self}"));
            let exit = error["exit_code"].as_i64().unwrap_or_default();
            let known = exits.iter().any(|known| i64::from(*known) == exit);
            assert!(
                known,
                "docs/errors.md has {code} without exit code {exit}\n{self}"
            );
            assert!(
                error["hint"].as_str().is_some_and(|hint| !hint.is_empty()),
                "no hint\n{self}"
            );
        }
        for warning in self.remarks("warning") {
            let code = warning["code"].as_str();
            let known = code.is_none_or(|code| errors::documented().contains_key(code));
            assert!(known, "docs/errors.md has no {warning}\n{self}");
        }
    }

    /// Every error on standard error, in order.
    pub fn errors(&self) -> Vec<Value> {
        self.remarks("error")
    }

    /// Every warning on standard error, in order.
    pub fn warnings(&self) -> Vec<String> {
        let message = |remark: Value| remark["message"].as_str().unwrap().to_owned();
        self.remarks("warning").into_iter().map(message).collect()
    }

    /// The codes of the warnings that have one, in order.
    pub fn warning_codes(&self) -> Vec<String> {
        let code = |remark: Value| remark["code"].as_str().map(str::to_owned);
        self.remarks("warning")
            .into_iter()
            .filter_map(code)
            .collect()
    }

    /// The codes of the errors, in order.
    pub fn codes(&self) -> Vec<String> {
        let code = |error: Value| error["code"].as_str().unwrap().to_owned();
        self.errors().into_iter().map(code).collect()
    }

    fn remarks(&self, kind: &str) -> Vec<Value> {
        let lines = self.stderr.lines();
        let objects = lines.filter_map(|line| serde_json::from_str::<Value>(line).ok());
        objects
            .filter_map(|object| object.get(kind).cloned())
            .collect()
    }

    /// The item of `media import` or `media export` for a file whose path ends so.
    #[track_caller]
    pub fn item(&self, end: &str) -> Value {
        let json = self.json();
        let items = json["items"]
            .as_array()
            .unwrap_or_else(|| panic!("no items\n{self}"));
        let found = items
            .iter()
            .find(|item| item["file"].as_str().unwrap().ends_with(end));
        found
            .unwrap_or_else(|| panic!("no item for a file {end}\n{self}"))
            .clone()
    }
}

impl fmt::Display for Run {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            line,
            exit,
            stdout,
            stderr,
        } = self;
        write!(
            f,
            "$ {line}\n-- exit code {exit}\n-- standard output\n{stdout}\n-- standard error\n{stderr}"
        )
    }
}

/// Gives a command the folder and the environment of what it wraps.
pub(crate) fn in_place_of(inner: &Command, outer: &mut Command) {
    outer.current_dir(inner.get_current_dir().unwrap());
    for (name, value) in inner.get_envs() {
        match value {
            Some(value) => outer.env(name, value),
            None => outer.env_remove(name),
        };
    }
}
