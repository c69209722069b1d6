//! Questions to the person at the terminal. They go to the terminal itself, so redirected streams neither see them
//! nor answer them.

use crate::{Exit, Failure};
use std::fs::OpenOptions;
use std::io::{self, BufRead, BufReader, Read, Write};
use zeroize::Zeroizing;

const TERMINAL: &str = "/dev/tty";
/// More than any identifier; what is typed beyond it cannot match anyway.
const ANSWER_BYTES_MAX: u64 = 4_096;

/// Asks for a secret without echo.
pub(crate) fn secret(prompt: &str) -> io::Result<Zeroizing<String>> {
    // The terminal is tried first, as only its absence deserves the advice.
    OpenOptions::new()
        .read(true)
        .write(true)
        .open(TERMINAL)
        .map_err(|error| {
            io::Error::new(
                error.kind(),
                "there is no terminal to ask on: add pin-source=file:PATH to the key URI",
            )
        })?;
    rpassword::prompt_password(format!("{prompt}: ")).map(Zeroizing::new)
}

/// Asks for a line; the terminal echoes what is typed.
pub(crate) fn line(prompt: &str) -> io::Result<String> {
    let mut terminal = OpenOptions::new().read(true).write(true).open(TERMINAL)?;
    terminal.write_all(prompt.as_bytes())?;
    terminal.flush()?;
    let mut answer = Vec::new();
    BufReader::new(terminal.take(ANSWER_BYTES_MAX)).read_until(b'\n', &mut answer)?;
    Ok(String::from_utf8_lossy(&answer).trim().to_owned())
}

/// Accepts the answer that repeats the identifier exactly.
pub(crate) fn compare(what: &str, identifier: &str, answer: &str) -> Result<(), Failure> {
    if answer == identifier {
        return Ok(());
    }
    let cause = if answer.is_empty() {
        "nothing was typed"
    } else {
        "another identifier was given"
    };
    Err(Failure::new(
        Exit::Environment,
        "CONFIRMATION-MISMATCH",
        format!("cancelled: will not {what}"),
    )
    .cause(cause)
    .hint(format!(
        "nothing changed; to go on, repeat {identifier} exactly"
    )))
}

/// Nobody is there to ask.
pub(crate) fn confirmation_required(what: &str, identifier: &str) -> Failure {
    Failure::new(
        Exit::Usage,
        "CONFIRMATION-REQUIRED",
        format!("will not {what} without confirmation, and there is no terminal to ask on"),
    )
    .hint(format!(
        "nothing changed; to go on, add --confirm {identifier}"
    ))
}
