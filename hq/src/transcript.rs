//! The transcript of a ceremony while it goes on: a file that every command with `--transcript FILE` appends to, line by line of
//! JSON, and that `hq ceremony end` seals. Until then it is as good as the machine that it stands on, which all who are there watch.

use std::fs::{File, OpenOptions};
use std::io::{ErrorKind, Read as _, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use mintmark_console::{Console, Exit, Failure};
use mintmark_protocol::identifier::Fingerprint;
use mintmark_protocol::transcript::{
    COMMAND_BYTES_MAX, ENTRIES_MAX, Entry, NAME_BYTES_MAX, PRESENT_MAX, PURPOSE_BYTES_MAX,
    TEXT_BYTES_MAX, TRANSCRIPT_BYTES_MAX, Transcript,
};
use rustix::fs::{FallocateFlags, fallocate, fstatvfs};
use rustix::io::Errno;
use serde::{Deserialize, Serialize};

use crate::clock::now_unix;
use crate::failure;

/// What a note is called among the commands.
const NOTE: &str = "note";
/// The longest file that is added to, in bytes: what is sealed of it fits, and so does what is said of lines that were cut.
const GOING_BYTES_MAX: u64 = (TRANSCRIPT_BYTES_MAX - (1 << 20)) as u64;
/// The longest line that a command adds, in bytes: JSON writes an octet in at most six.
const LINE_BYTES_MAX: u64 = (6 * (COMMAND_BYTES_MAX + TEXT_BYTES_MAX) + 256) as u64;

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
        sealed_at: u64,
    },
}

/// A transcript that nobody else reads or adds to for as long as this value lives.
pub(crate) struct Held {
    path: PathBuf,
    file: File,
    bytes: u64,
    /// Whether its last line has its end.
    whole: bool,
    purpose: String,
    present: Vec<String>,
    entries: Vec<Entry>,
    /// With which fingerprint it was sealed, and when.
    sealed: Option<(String, u64)>,
}

fn io(path: &Path, error: impl std::fmt::Display) -> Failure {
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
    let line = Line::Begin {
        schema: 1,
        purpose: purpose.to_owned(),
        present: present.to_vec(),
    };
    let text = text_of(path, &line)?;
    let mut options = OpenOptions::new();
    let file = options.append(true).create_new(true).mode(0o600).open(path);
    let mut file = file.map_err(|error| io(path, error))?;
    let written = file
        .write_all(text.as_bytes())
        .and_then(|()| file.sync_all());
    written.map_err(|error| {
        // It is this command's own, and nothing is in it.
        let _ = std::fs::remove_file(path);
        io(path, error)
    })
}

fn text_of(path: &Path, line: &Line) -> Result<String, Failure> {
    let mut text = serde_json::to_string(line).map_err(|error| broken(path, error))?;
    text.push('\n');
    Ok(text)
}

/// Sees before a command is run that it can be added when it has ended.
pub(crate) fn expect_room(path: &Path) -> Result<(), Failure> {
    let held = Held::open(path)?;
    held.expect_going(LINE_BYTES_MAX)?;
    let full = |error: &dyn std::fmt::Display| {
        io(path, error).hint("make room; the command was not run, for it could not be added")
    };
    match fallocate(
        &held.file,
        FallocateFlags::KEEP_SIZE,
        held.bytes,
        LINE_BYTES_MAX,
    ) {
        // Where the file system sets nothing aside, what is free now has to do.
        Err(Errno::OPNOTSUPP | Errno::NOSYS) => {
            let system = fstatvfs(&held.file).map_err(|error| io(path, error))?;
            let free = system.f_bavail.saturating_mul(system.f_frsize);
            if free < LINE_BYTES_MAX {
                return Err(full(&Errno::NOSPC));
            }
            Ok(())
        }
        done => done.map_err(|error| full(&error)),
    }
}

/// Adds what somebody says.
pub(crate) fn note(path: &Path, text: &str) -> Result<(), Failure> {
    Held::open(path)?.add(NOTE, 0, text)
}

/// Adds a command that has ended, and gives how the process ends: the command was done, whether or not it could be added.
pub(crate) fn ended(
    path: &Path,
    done: Result<Exit, Failure>,
    console: &Console,
) -> Result<Exit, Failure> {
    let words: Vec<_> = std::env::args_os().skip(1).collect();
    let words = words.iter().map(|word| word.to_string_lossy());
    let command = std::iter::once("hq".into()).chain(words);
    let command: Vec<_> = command.collect();
    let mut text = console.remembered();
    let exit = match &done {
        Ok(exit) => *exit,
        Err(failure) => {
            text.push_str(&format!("error[{}]: {}", failure.code, failure.message));
            failure.exit
        }
    };
    let added = Held::open(path)
        .and_then(|held| held.add(&command.join(" "), exit.code(), text.trim_end()));
    let Err(failure) = added else {
        return done;
    };
    if let Err(own) = done {
        console.report(&console.judge(own));
    }
    let message = format!(
        "the command was run and ended with exit code {}, but it could not be added to the transcript {}",
        exit.code(),
        path.display()
    );
    let exit = exit.worst(Exit::Unknown);
    Err(Failure::new(exit, "TRANSCRIPT-NOT-ADDED", message)
        .cause(failure)
        .hint("look at what the command did before it is run again; make room, and say it with `hq ceremony note`"))
}

impl Held {
    /// Takes it, and reads what there is of it.
    pub(crate) fn open(path: &Path) -> Result<Self, Failure> {
        let missing = |error: std::io::Error| match error.kind() {
            ErrorKind::NotFound => failure::usage(
                "TRANSCRIPT-MISSING",
                format!("there is no transcript {}", path.display()),
                "begin it with `hq ceremony begin`, or leave --transcript and HQ_TRANSCRIPT out",
            ),
            _ => io(path, error),
        };
        let file = OpenOptions::new().read(true).append(true).open(path);
        let file = file.map_err(missing)?;
        // Whatever else works with it is over in a moment, or seals it.
        file.lock().map_err(|error| io(path, error))?;
        let metadata = file.metadata().map_err(|error| io(path, error))?;
        if !metadata.is_file() || metadata.len() > TRANSCRIPT_BYTES_MAX as u64 {
            return Err(broken(path, "it is no file, or a longer one than any"));
        }
        let mut bytes = Vec::new();
        let mut limited = (&file).take(TRANSCRIPT_BYTES_MAX as u64);
        let read = limited.read_to_end(&mut bytes);
        read.map_err(|error| io(path, error))?;
        let whole = bytes.last() == Some(&b'\n');
        let mut lines = bytes
            .strip_suffix(b"\n")
            .unwrap_or(&bytes)
            .split(|octet| *octet == b'\n');
        let Some(Ok(Line::Begin {
            schema: 1,
            purpose,
            present,
        })) = lines.next().map(serde_json::from_slice)
        else {
            return Err(broken(path, "it does not begin as one does"));
        };
        let mut held = Self {
            path: path.to_owned(),
            file,
            bytes: bytes.len() as u64,
            whole,
            purpose,
            present,
            entries: Vec::new(),
            sealed: None,
        };
        for line in lines {
            held.take(line)?;
        }
        Ok(held)
    }

    /// Takes in one more line of the file.
    fn take(&mut self, line: &[u8]) -> Result<(), Failure> {
        if self.sealed.is_some() {
            return Err(broken(&self.path, "it goes on after it was sealed"));
        }
        // No part of a line is JSON without its last octet: what is none was cut, by a power failure say.
        let Ok(value) = serde_json::from_slice::<serde_json::Value>(line) else {
            self.entries.push(Entry {
                time: self.entries.last().map_or(0, |entry| entry.time),
                command: NOTE.to_owned(),
                exit: Exit::Unknown.code(),
                text: format!(
                    "an append was cut here: {} bytes, SHA-256 {}",
                    line.len(),
                    Fingerprint::of(line)
                ),
            });
            return Ok(());
        };
        match serde_json::from_value(value).map_err(|error| broken(&self.path, error))? {
            Line::Entry {
                time,
                command,
                exit,
                text,
            } => self.entries.push(Entry {
                time,
                command,
                exit,
                text,
            }),
            Line::Begin { .. } => return Err(broken(&self.path, "it begins twice")),
            Line::End {
                fingerprint,
                sealed_at,
            } => self.sealed = Some((fingerprint, sealed_at)),
        }
        Ok(())
    }

    /// Refuses where so many bytes more are too many, or where it is over.
    fn expect_going(&self, bytes: u64) -> Result<(), Failure> {
        if self.sealed.is_some() {
            return Err(broken(&self.path, "it was sealed"));
        }
        if self.entries.len() >= ENTRIES_MAX || self.bytes + bytes > GOING_BYTES_MAX {
            return Err(broken(&self.path, "it is full"));
        }
        Ok(())
    }

    fn add(self, command: &str, exit: u8, text: &str) -> Result<(), Failure> {
        let line = Line::Entry {
            time: now_unix(),
            command: cut(command, COMMAND_BYTES_MAX),
            exit,
            text: cut(text, TEXT_BYTES_MAX),
        };
        let text = text_of(&self.path, &line)?;
        self.expect_going(text.len() as u64 + 1)?;
        self.append(text)
    }

    /// Appends a line; what was cut before it gets its end. After an error the file is as it was, or the outcome is unknown.
    fn append(&self, mut text: String) -> Result<(), Failure> {
        if !self.whole {
            text.insert(0, '\n');
        }
        let unknown = |error| {
            let failure = io(&self.path, error);
            let exit = Exit::Unknown;
            Failure { exit, ..failure }
        };
        if let Err(error) = (&self.file).write_all(text.as_bytes()) {
            return Err(match self.file.set_len(self.bytes) {
                Ok(()) => io(&self.path, error),
                Err(_) => unknown(error),
            });
        }
        self.file.sync_all().map_err(unknown)
    }

    /// What is sealed of it: now, or what was sealed of it before.
    pub(crate) fn transcript(&self) -> Result<Transcript, Failure> {
        if self.entries.is_empty() {
            return Err(broken(&self.path, "nothing was done"));
        }
        Ok(Transcript {
            sealed_at: self
                .sealed
                .as_ref()
                .map_or_else(now_unix, |sealed| sealed.1),
            purpose: self.purpose.clone(),
            present: self.present.clone(),
            entries: self.entries.clone(),
        })
    }

    /// Says in the file itself that it is over, and what was sealed of it: never anything else from then on.
    pub(crate) fn end(&self, fingerprint: &str, sealed_at: u64) -> Result<(), Failure> {
        match &self.sealed {
            None => self.append(text_of(
                &self.path,
                &Line::End {
                    fingerprint: fingerprint.to_owned(),
                    sealed_at,
                },
            )?),
            Some((sealed, _)) if sealed == fingerprint => Ok(()),
            Some(_) => Err(broken(&self.path, "it was changed after it was sealed")),
        }
    }
}
