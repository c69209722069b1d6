//! The transcript of a ceremony while it goes on: a file that every command with `--transcript FILE` appends to, line by line of
//! JSON, and that `hq ceremony end` seals. Until then it is as good as the machine that it stands on, which all who are there watch.

use std::fs::{File, OpenOptions};
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use mintmark_console::{Console, Exit, Failure};
use mintmark_protocol::transcript::{
    COMMAND_BYTES_MAX, ENTRIES_MAX, Entry, NAME_BYTES_MAX, PRESENT_MAX, PURPOSE_BYTES_MAX,
    TEXT_BYTES_MAX, TRANSCRIPT_BYTES_MAX, Transcript,
};
use serde::{Deserialize, Serialize};

use crate::clock::now_unix;
use crate::failure;

/// What a note is called among the commands.
const NOTE: &str = "note";

#[derive(Deserialize, Serialize)]
#[serde(tag = "kind", rename_all = "lowercase", deny_unknown_fields)]
enum Line {
    Begin {
        schema: u32,
        purpose: String,
        present: Vec<String>,
    },
    Entry {
        time: u64,
        command: String,
        exit: u8,
        text: String,
    },
    End {
        fingerprint: String,
    },
}

/// A transcript that goes on.
pub(crate) struct Going {
    path: PathBuf,
    purpose: String,
    present: Vec<String>,
    entries: Vec<Entry>,
}

fn io(path: &Path, error: std::io::Error) -> Failure {
    let message = format!(
        "the transcript {} could not be written or read",
        path.display()
    );
    Failure::new(Exit::Environment, "FILE-IO", message)
        .cause(error)
        .hint("check the path, its permissions and the disk")
}

fn broken(path: &Path, why: impl std::fmt::Display) -> Failure {
    failure::usage(
        "TRANSCRIPT-INVALID",
        format!("{} is not a transcript that goes on: {why}", path.display()),
        "name the file that `hq ceremony begin` made; one that was sealed is over, and another ceremony begins another file",
    )
}

/// Text of at most so many bytes, cut where a character ends, which it says.
fn cut(text: &str, bytes_max: usize) -> String {
    const MARK: &str = " [cut]";
    if text.len() <= bytes_max {
        return text.to_owned();
    }
    let mut end = bytes_max.saturating_sub(MARK.len());
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    format!("{}{MARK}", text.get(..end).unwrap_or_default())
}

/// Begins one, in a file that is not there.
pub(crate) fn begin(path: &Path, purpose: &str, present: &[String]) -> Result<(), Failure> {
    let fits = |text: &str, bytes_max: usize| {
        (1..=bytes_max).contains(&text.len()) && !text.chars().any(char::is_control)
    };
    if !fits(purpose, PURPOSE_BYTES_MAX)
        || !(1..=PRESENT_MAX).contains(&present.len())
        || !present.iter().all(|name| fits(name, NAME_BYTES_MAX))
    {
        return Err(failure::usage(
            "CEREMONY-INVALID",
            format!(
                "a ceremony has a purpose of at most {PURPOSE_BYTES_MAX} bytes, and 1 to {PRESENT_MAX} people with names of \
                 at most {NAME_BYTES_MAX} bytes"
            ),
            "name everybody who is there with --present",
        ));
    }
    crate::commands::expect_absent(path)?;
    let mut options = OpenOptions::new();
    let file = options.append(true).create_new(true).mode(0o600).open(path);
    let line = Line::Begin {
        schema: 1,
        purpose: purpose.to_owned(),
        present: present.to_vec(),
    };
    append(file.map_err(|error| io(path, error))?, path, &line)
}

fn append(mut file: File, path: &Path, line: &Line) -> Result<(), Failure> {
    let mut text = serde_json::to_string(line).map_err(|error| broken(path, error))?;
    text.push('\n');
    file.write_all(text.as_bytes())
        .and_then(|()| file.sync_all())
        .map_err(|error| io(path, error))
}

impl Going {
    /// Reads what there is of it.
    pub(crate) fn open(path: &Path) -> Result<Self, Failure> {
        let missing = |_| {
            failure::usage(
                "TRANSCRIPT-MISSING",
                format!("there is no transcript {}", path.display()),
                "begin it with `hq ceremony begin`, or leave --transcript and HQ_TRANSCRIPT out",
            )
        };
        let file = File::open(path).map_err(missing)?;
        let mut lines = BufReader::new(file.take(TRANSCRIPT_BYTES_MAX as u64)).lines();
        let mut next = || -> Result<Option<Line>, Failure> {
            let Some(line) = lines.next() else {
                return Ok(None);
            };
            let line = line.map_err(|error| io(path, error))?;
            let line = serde_json::from_str(&line).map_err(|error| broken(path, error))?;
            Ok(Some(line))
        };
        let Some(Line::Begin {
            schema: 1,
            purpose,
            present,
        }) = next()?
        else {
            return Err(broken(path, "it does not begin as one does"));
        };
        let mut going = Self {
            path: path.to_owned(),
            purpose,
            present,
            entries: Vec::new(),
        };
        while let Some(line) = next()? {
            match line {
                Line::Entry {
                    time,
                    command,
                    exit,
                    text,
                } => going.entries.push(Entry {
                    time,
                    command,
                    exit,
                    text,
                }),
                Line::Begin { .. } => return Err(broken(path, "it begins twice")),
                Line::End { .. } => return Err(broken(path, "it was sealed")),
            }
        }
        Ok(going)
    }

    fn add(&self, command: &str, exit: u8, text: &str) -> Result<(), Failure> {
        if self.entries.len() >= ENTRIES_MAX {
            return Err(broken(&self.path, "it is full"));
        }
        let line = Line::Entry {
            time: now_unix(),
            command: cut(command, COMMAND_BYTES_MAX),
            exit,
            text: cut(text, TEXT_BYTES_MAX),
        };
        let file = OpenOptions::new().append(true).open(&self.path);
        append(
            file.map_err(|error| io(&self.path, error))?,
            &self.path,
            &line,
        )
    }

    /// Adds what somebody says.
    pub(crate) fn note(&self, text: &str) -> Result<(), Failure> {
        self.add(NOTE, 0, text)
    }

    /// Adds a command that has ended: how, and what it said.
    pub(crate) fn ended(
        &self,
        done: &Result<Exit, Failure>,
        console: &Console,
    ) -> Result<(), Failure> {
        let words: Vec<_> = std::env::args_os().skip(1).collect();
        let words = words.iter().map(|word| word.to_string_lossy());
        let command = std::iter::once("hq".into()).chain(words);
        let command: Vec<_> = command.collect();
        let mut text = console.remembered();
        let exit = match done {
            Ok(exit) => *exit,
            Err(failure) => {
                text.push_str(&format!("error[{}]: {}", failure.code, failure.message));
                failure.exit
            }
        };
        self.add(&command.join(" "), exit.code(), text.trim_end())
    }

    /// What is sealed of it now.
    pub(crate) fn transcript(self) -> Result<Transcript, Failure> {
        if self.entries.is_empty() {
            return Err(broken(&self.path, "nothing was done"));
        }
        Ok(Transcript {
            sealed_at: now_unix(),
            purpose: self.purpose,
            present: self.present,
            entries: self.entries,
        })
    }
}

/// Says in the file itself that it is over.
pub(crate) fn end(path: &Path, fingerprint: &str) -> Result<(), Failure> {
    let line = Line::End {
        fingerprint: fingerprint.to_owned(),
    };
    let file = OpenOptions::new().append(true).open(path);
    append(file.map_err(|error| io(path, error))?, path, &line)
}
