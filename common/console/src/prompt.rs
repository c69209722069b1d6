//! Questions to the person at the terminal. They go to the terminal itself, so redirected streams neither see them
//! nor answer them.

use crate::{Exit, Failure};
use rustix::termios::{
    LocalModes, OptionalActions, SpecialCodeIndex, Termios, tcgetattr, tcsetattr,
};
use std::fs::{File, OpenOptions};
use std::io::{self, BufRead, BufReader, Read, Write};
use zeroize::Zeroizing;

const TERMINAL: &str = "/dev/tty";
/// More than any identifier; what is typed beyond it cannot match anyway.
const ANSWER_BYTES_MAX: u64 = 4_096;

/// A terminal in canonical mode returns no longer line (termios(3)).
const LINE_BYTES_MAX: usize = 4_096;
/// What Ctrl-C types where it raises no signal.
const INTERRUPT: u8 = 0x03;

/// Asks for a secret without echo.
///
/// The echo is off before the question appears, so that nothing typed in answer to it can show.
pub(crate) fn secret(prompt: &str) -> io::Result<Zeroizing<String>> {
    let terminal = OpenOptions::new()
        .read(true)
        .write(true)
        .open(TERMINAL)
        .map_err(|error| {
            io::Error::new(
                error.kind(),
                "there is no terminal to ask on: add pin-source=file:PATH to the key URI",
            )
        })?;
    // One allocation that never moves, so that no copy of the secret stays behind.
    let mut line = Zeroizing::new(vec![0; LINE_BYTES_MAX]);
    let length = {
        let _silence = Silence::over(&terminal)?;
        (&terminal).write_all(format!("{prompt}: ").as_bytes())?;
        read_line(&terminal, &mut line)
    }?;
    // The line feed that was typed did not show.
    (&terminal).write_all(b"\n")?;
    let typed = line.get(..length).unwrap_or_default();
    let typed = typed.strip_suffix(b"\n").unwrap_or(typed);
    if typed.is_empty() || typed.contains(&INTERRUPT) {
        return Err(cancelled());
    }
    let typed = std::str::from_utf8(typed)
        .map_err(|_| io::Error::new(io::ErrorKind::InvalidData, "what was typed is not UTF-8"))?;
    Ok(Zeroizing::new(typed.to_owned()))
}

fn read_line(mut terminal: &File, line: &mut [u8]) -> io::Result<usize> {
    loop {
        match terminal.read(line) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            read => return read,
        }
    }
}

fn cancelled() -> io::Error {
    io::Error::other("cancelled at the prompt")
}

/// A terminal that does not echo; dropped, it is as it was before.
struct Silence<'a> {
    terminal: &'a File,
    before: Termios,
}

impl<'a> Silence<'a> {
    fn over(terminal: &'a File) -> io::Result<Self> {
        let before = tcgetattr(terminal)?;
        let mut silent = before.clone();
        silent
            .local_modes
            .remove(LocalModes::ECHO | LocalModes::ECHONL);
        // A signal would end the process before the echo is back, so Ctrl-C ends the line instead.
        silent.local_modes.remove(LocalModes::ISIG);
        silent.special_codes[SpecialCodeIndex::VEOL] = INTERRUPT;
        // What was typed before the question, in plain sight, is no answer to it.
        tcsetattr(terminal, OptionalActions::Flush, &silent)?;
        Ok(Self { terminal, before })
    }
}

impl Drop for Silence<'_> {
    fn drop(&mut self) {
        let _ = tcsetattr(self.terminal, OptionalActions::Now, &self.before);
    }
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

/// Shows a secret at the terminal until Enter is pressed, and then takes it away: from the screen, and from what can be scrolled
/// back to, where the terminal keeps that. It comes in pieces, so that nobody makes a copy of it to join them.
pub(crate) fn show_secret(text: &[&str], question: &str) -> io::Result<()> {
    let terminal = OpenOptions::new().read(true).write(true).open(TERMINAL)?;
    // Before anything is shown: a signal would end the process with the secret on the screen.
    let _silence = Silence::over(&terminal)?;
    let _shown = Shown(&terminal);
    for piece in text.iter().chain(&["\n", question]) {
        (&terminal).write_all(piece.as_bytes())?;
    }
    let mut answer = Zeroizing::new(vec![0; LINE_BYTES_MAX]);
    let length = read_line(&terminal, &mut answer)?;
    match answer.get(..length).unwrap_or_default() {
        [] => Err(cancelled()),
        typed if typed.contains(&INTERRUPT) => Err(cancelled()),
        _ => Ok(()),
    }
}

/// A secret on the screen; dropped, it is taken away, however that comes.
struct Shown<'a>(&'a File);

impl Drop for Shown<'_> {
    fn drop(&mut self) {
        // Erase the display and what scrolled off it, and go home (ECMA-48 ED 2, xterm's ED 3, CUP).
        let _ = self.0.write_all(b"\x1b[2J\x1b[3J\x1b[H");
    }
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
