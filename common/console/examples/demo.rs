//! A tool of few words that uses the whole console. The tests run it to see what a person and a script see.
// Panicking on purpose is what some of the commands are for.
#![allow(clippy::panic)]

use clap::{Parser, Subcommand};
use mintmark_console::{
    Align, Console, Exit, Failure, GlobalOptions, HasGlobal, Style, Table, files, panics, run,
};
use std::path::PathBuf;
use std::time::Duration;

/// Show what the console can do
#[derive(Parser)]
#[command(name = "demo", version)]
struct CommandLine {
    #[command(flatten)]
    global: GlobalOptions,
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Fail with cause and hint
    Fail,
    /// Warn, note and go on
    Remark,
    /// Write a value as JSON
    Value,
    /// Write a line, having changed nothing
    Look,
    /// Write a value as JSON, having changed nothing
    LookAtValue,
    /// Write many lines
    Lines { count: u64 },
    /// Write a table with a styled cell
    Table,
    /// Count something slowly
    Progress,
    /// Panic with fixed text
    Panic,
    /// Panic with a value in the text
    PanicFormatted { value: String },
    /// Panic in another thread
    PanicThread,
    /// Panic where it is expected
    PanicExpected,
    /// Ask for a secret and tell its length
    Secret,
    /// Ask for confirmation
    Confirm {
        #[arg(long, value_name = "ID")]
        confirm: Option<String>,
    },
    /// Write a file
    Write {
        kind: String,
        path: PathBuf,
        text: String,
    },
    /// Tell the mask and limits that files are made under
    Limits,
}

impl HasGlobal for CommandLine {
    fn global(&self) -> &GlobalOptions {
        &self.global
    }
}

fn main() {
    run::<CommandLine>("demo", |parsed, console| parsed.command.execute(console))
}

impl Command {
    fn execute(self, console: &Console) -> Result<Exit, Failure> {
        match self {
            Self::Fail => {
                return Err(Failure::new(
                    Exit::Negative,
                    "QUOTA-EXHAUSTED",
                    "no unit of TH-200 is left",
                )
                .cause("5000 of 5000 spent")
                .hint("ask HQ for an amendment"));
            }
            Self::Remark => {
                console.warn("the credit ends tomorrow");
                console.note("export an audit bundle");
                console.line("done");
                return Ok(Exit::Negative);
            }
            Self::Look => {
                console.only_looks();
                console.line("seen");
            }
            Self::LookAtValue => {
                console.only_looks();
                console.json(&7).map_err(|error| Failure::output(&error))?;
            }
            Self::Value => {
                let value = serde_json::json!({ "schema": "mintmark/demo/1", "units": 7 });
                console
                    .json(&value)
                    .map_err(|error| Failure::output(&error))?;
            }
            Self::Lines { count } => (0..count).for_each(|line| console.line(line.to_string())),
            Self::Table => console.table(&accounts(console)),
            Self::Progress => {
                let progress = console.progress("counting", Some(10));
                for _ in 0..10 {
                    std::thread::sleep(Duration::from_millis(50));
                    progress.advance(1);
                }
                progress.finish();
                console.line("counted");
            }
            Self::Panic => panic!("the page is broken"),
            Self::PanicFormatted { value } => panic!("the PIN is {value}"),
            Self::PanicThread => {
                let joined = std::thread::spawn(|| panic!("a thread broke")).join();
                console.line(format!("went on: {}", joined.is_err()));
            }
            Self::PanicExpected => {
                let caught = panics::expected(|| panic!("a damaged index"));
                console.line(format!("{caught:?}"));
            }
            Self::Secret => match console.secret("PIN for vault") {
                Ok(secret) => console.line(format!("{} characters", secret.chars().count())),
                Err(error) => {
                    return Err(
                        Failure::new(Exit::Environment, "PIN-MISSING", "no PIN").cause(error)
                    );
                }
            },
            Self::Confirm { confirm } => {
                console.confirm_identifier("revoke site berlin", "berlin", confirm.as_deref())?;
                console.line("confirmed");
            }
            Self::Write { kind, path, text } => {
                let bytes = text.as_bytes();
                match kind.as_str() {
                    "new" => files::write_new(path, bytes)?,
                    "public" => files::write_public_new(path, bytes)?,
                    "replace" => files::write_replace(path, bytes)?,
                    _ => files::write_removable(path, bytes)?,
                }
                console.line("written");
            }
            Self::Limits => {
                let limits = std::fs::read_to_string("/proc/self/limits").unwrap_or_default();
                let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
                let wanted =
                    |line: &&str| line.starts_with("Max core") || line.starts_with("Umask");
                for line in limits.lines().chain(status.lines()).filter(wanted) {
                    console.line(line.split_whitespace().collect::<Vec<_>>().join(" "));
                }
                if mintmark_console::process::leaves_no_core() {
                    console.line("no core");
                }
            }
        }
        Ok(Exit::Done)
    }
}

fn accounts(console: &Console) -> Table {
    let mut table = Table::new([
        ("product", Align::Left),
        ("state", Align::Left),
        ("units", Align::Right),
        ("remark", Align::Left),
    ]);
    table.row([
        "TH-200",
        &console.styled(Style::Good, "open"),
        "50000",
        &"a remark much longer than any terminal is wide ".repeat(3),
    ]);
    table
}
