//! The one place through which a tool speaks.

use crate::failure::OUTPUT_FAILED;
use crate::printable::{printable, printable_json, printable_line, printable_styled};
use crate::{ColorChoice, Exit, Failure, GlobalOptions, Progress, Style, Table, prompt};
use indicatif::{MultiProgress, ProgressDrawTarget};
use serde::Serialize;
use std::io::{self, IsTerminal, Write};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use zeroize::Zeroizing;

/// Standard output and standard error as the user wants them, made once in `main`.
///
/// Whatever is shown goes through [`printable`](crate::printable()) first. A reader that closes standard output early
/// (`| head`) silently ends the output and nothing else: the command goes on to its end.
pub struct Console {
    tool: &'static str,
    json: bool,
    output: Mutex<Output>,
    diagnostics: Mutex<Box<dyn Write + Send>>,
    output_terminal: bool,
    /// Somebody sits there, types, and sees what is asked.
    attended: bool,
    output_colored: bool,
    diagnostics_colored: bool,
    bars: MultiProgress,
    only_looks: AtomicBool,
    /// What was written to standard output and warned of, where it is to be remembered.
    remembered: Mutex<Option<Vec<u8>>>,
    asker: Option<Asker>,
}

/// How much of what is said is remembered, in bytes.
const REMEMBERED_BYTES_MAX: usize = 128 * 1024;

/// Asks somebody a question, and gives the line that was typed.
type Asker = Box<dyn Fn(&str) -> io::Result<String> + Send + Sync>;

struct Output {
    writer: Box<dyn Write + Send>,
    /// The reader has gone, or writing failed; nothing more is written.
    closed: bool,
    /// A failure that no caller has seen yet.
    error: Option<io::Error>,
}

/// What there is to know about the two streams before anything is written.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Terminals {
    pub(crate) input: bool,
    pub(crate) output: bool,
    pub(crate) diagnostics: bool,
    /// The environment asks for no colour: `NO_COLOR` holds something, or the terminal is a dumb one.
    pub(crate) plain: bool,
}

impl Terminals {
    pub(crate) fn of_process() -> Self {
        let no_color = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
        let dumb = std::env::var_os("TERM").is_some_and(|value| value == "dumb");
        Self {
            input: io::stdin().is_terminal(),
            output: io::stdout().is_terminal(),
            diagnostics: io::stderr().is_terminal(),
            plain: no_color || dumb,
        }
    }

    pub(crate) fn colored(self, terminal: bool, choice: ColorChoice) -> bool {
        match choice {
            ColorChoice::Always => true,
            ColorChoice::Never => false,
            ColorChoice::Auto => terminal && !self.plain,
        }
    }
}

impl Console {
    /// The console of the process. `tool` is the name that stands before every error.
    #[must_use]
    pub fn new(tool: &'static str, options: &GlobalOptions) -> Self {
        let terminals = Terminals::of_process();
        Self::over(
            tool,
            options,
            terminals,
            Box::new(io::stdout()),
            Box::new(io::stderr()),
        )
    }

    /// A console that speaks into these two streams, neither of them a terminal: for whoever runs commands in a process
    /// that has something else to say.
    #[must_use]
    pub fn into_streams(
        tool: &'static str,
        options: &GlobalOptions,
        output: Box<dyn Write + Send>,
        diagnostics: Box<dyn Write + Send>,
    ) -> Self {
        Self::over(tool, options, Terminals::default(), output, diagnostics)
    }

    pub(crate) fn over(
        tool: &'static str,
        options: &GlobalOptions,
        terminals: Terminals,
        output: Box<dyn Write + Send>,
        diagnostics: Box<dyn Write + Send>,
    ) -> Self {
        let colored = |terminal| !options.json && terminals.colored(terminal, options.color);
        let bars = if terminals.diagnostics && !options.json {
            ProgressDrawTarget::stderr()
        } else {
            ProgressDrawTarget::hidden()
        };
        Self {
            tool,
            json: options.json,
            output: Mutex::new(Output {
                writer: output,
                closed: false,
                error: None,
            }),
            diagnostics: Mutex::new(diagnostics),
            output_terminal: terminals.output,
            attended: terminals.input && terminals.diagnostics,
            output_colored: colored(terminals.output),
            diagnostics_colored: colored(terminals.diagnostics),
            bars: MultiProgress::with_draw_target(bars),
            only_looks: AtomicBool::new(false),
            remembered: Mutex::new(None),
            asker: None,
        }
    }

    /// The same, with questions put to whoever `ask` reaches in place of this process's own terminal; secrets are not asked
    /// for there.
    #[must_use]
    pub fn asking(
        mut self,
        ask: impl Fn(&str) -> io::Result<String> + Send + Sync + 'static,
    ) -> Self {
        self.asker = Some(Box::new(ask));
        self
    }

    /// Asks for a line at the terminal, which echoes what is typed.
    ///
    /// # Errors
    /// When there is no terminal.
    pub fn ask_line(&self, question: &str) -> io::Result<String> {
        let question = printable(question);
        match &self.asker {
            Some(ask) => ask(&question),
            None => self.bars.suspend(|| prompt::line(&question)),
        }
    }

    /// The tool's name, `hq` or `site`.
    #[must_use]
    pub fn tool(&self) -> &'static str {
        self.tool
    }

    /// Whether everything that it says may be coloured.
    #[must_use]
    pub fn is_colored(&self) -> bool {
        self.output_colored && self.diagnostics_colored
    }

    /// Whether JSON is wanted in place of text.
    #[must_use]
    pub fn is_json(&self) -> bool {
        self.json
    }

    /// Says that the command changes nothing: should its result not reach the reader, the outcome is known all the same,
    /// and [`run`](crate::run()) ends with [`Exit::Environment`](crate::Exit) in place of
    /// [`Exit::Unknown`](crate::Exit).
    pub fn only_looks(&self) {
        self.only_looks.store(true, Ordering::Relaxed);
    }

    /// From here on what is written to standard output is remembered, and what is warned of, as far as there is room for it.
    pub fn remember(&self) {
        lock(&self.remembered).get_or_insert_default();
    }

    /// What was written and warned of since; nothing of it is a secret, for those are shown at the terminal alone.
    #[must_use]
    pub fn remembered(&self) -> String {
        let remembered = lock(&self.remembered);
        let bytes = remembered.as_deref().unwrap_or_default();
        String::from_utf8_lossy(bytes).into_owned()
    }

    /// A failure with what is known of the command: see [`Console::only_looks`].
    pub fn judge(&self, failure: Failure) -> Failure {
        if failure.code == OUTPUT_FAILED && self.only_looks.load(Ordering::Relaxed) {
            let exit = Exit::Environment;
            return Failure { exit, ..failure }.hint(
                "nothing was changed: make room or correct where the output goes, and run it again",
            );
        }
        failure
    }

    /// Shows why the command failed, on standard error.
    pub fn report(&self, failure: &Failure) {
        self.diagnose(&failure_text(
            self.tool,
            failure,
            self.json,
            self.diagnostics_colored,
        ));
    }

    /// Shows what needs attention although the command goes on, on standard error.
    pub fn warn(&self, text: impl AsRef<str>) {
        self.remark("warning", Style::Warn, None, text.as_ref());
    }

    /// As [`Console::warn`], with a stable code, upper-case words joined by hyphens, that scripts can look for.
    pub fn warn_coded(&self, code: &str, text: impl AsRef<str>) {
        self.remark("warning", Style::Warn, Some(code), text.as_ref());
    }

    /// Shows what is good to know, on standard error.
    pub fn note(&self, text: impl AsRef<str>) {
        self.remark("note", Style::Bold, None, text.as_ref());
    }

    /// Writes one JSON value: indented on a terminal, else on one line.
    ///
    /// # Errors
    /// When the value cannot be serialised or standard output cannot be written. A closed pipe is no error.
    pub fn json(&self, value: &impl Serialize) -> io::Result<()> {
        let json = if self.output_terminal {
            serde_json::to_string_pretty(value)?
        } else {
            serde_json::to_string(value)?
        };
        self.write(&printable_json(json))
    }

    /// Writes one JSON value on one line, as JSON Lines wants it.
    ///
    /// # Errors
    /// When the value cannot be serialised or standard output cannot be written. A closed pipe is no error.
    pub fn json_line(&self, value: &impl Serialize) -> io::Result<()> {
        self.write(&printable_json(serde_json::to_string(value)?))
    }

    /// Writes many values as JSON Lines, as [`Console::json_line`] does, with one call of the operating system.
    ///
    /// # Errors
    /// As there.
    pub fn json_lines<T: Serialize>(&self, values: impl IntoIterator<Item = T>) -> io::Result<()> {
        let mut text = String::new();
        for value in values {
            text.push_str(&printable_json(serde_json::to_string(&value)?));
            text.push('\n');
        }
        self.write_bytes(text.as_bytes())
    }

    /// Writes a line of text to standard output.
    ///
    /// Should that fail, [`run`](crate::run()) reports it when the command ends.
    pub fn line(&self, text: impl AsRef<str>) {
        let text = printable_styled(text.as_ref(), self.output_colored);
        self.write_and_remember(&text);
    }

    /// Writes bytes to standard output as they are, such as those of a file that a program reads. What of them could
    /// steer a terminal is for the caller to leave out.
    ///
    /// # Errors
    /// When standard output cannot be written. A closed pipe is no error.
    pub fn write_data(&self, bytes: &[u8]) -> io::Result<()> {
        self.write_bytes(bytes)
    }

    /// Writes a table to standard output. A terminal too narrow for it gets a block for each row instead, one line for
    /// each cell; no cell is ever cut.
    ///
    /// Should that fail, [`run`](crate::run()) reports it when the command ends.
    pub fn table(&self, table: &Table) {
        let text = table.render(self.width(), self.output_colored);
        self.write_and_remember(text.trim_end_matches('\n'));
    }

    /// Writes a table to standard output as a block for each row, one line for each cell: for one thing with many sides.
    ///
    /// Should that fail, [`run`](crate::run()) reports it when the command ends.
    pub fn blocks(&self, table: &Table) {
        let text = table.render_blocks(self.width(), self.output_colored);
        self.write_and_remember(text.trim_end_matches('\n'));
    }

    /// `text` emphasised for standard output, or as it is where colour is not wanted.
    #[must_use]
    pub fn styled(&self, style: Style, text: impl AsRef<str>) -> String {
        style.paint(&printable(text.as_ref()), self.output_colored)
    }

    /// Shows how far some long work has come, on standard error if that is a terminal, else nowhere.
    ///
    /// `total` is the count that the work ends at, where it is known.
    #[must_use]
    pub fn progress(&self, what: &str, total: Option<u64>) -> Progress {
        Progress::new(&self.bars, &printable_line(what), total)
    }

    /// Asks for a secret on the terminal, without echo. Neither a pipe nor the environment can answer.
    ///
    /// # Errors
    /// When there is no terminal (the message then names `pin-source`), or the person gave up.
    pub fn secret(&self, prompt: &str) -> io::Result<Zeroizing<String>> {
        if self.asker.is_some() {
            return Err(io::Error::other(
                "secrets are asked for at the process's own terminal alone",
            ));
        }
        self.bars
            .suspend(|| prompt::secret(&printable_line(prompt)))
    }

    /// Shows a secret, whose pieces are written one after the other, at the terminal itself, whatever standard output is, until
    /// Enter is pressed; then it is erased.
    ///
    /// # Errors
    /// When there is no terminal, or Ctrl-C is typed.
    pub fn show_secret(&self, text: &[&str], question: &str) -> io::Result<()> {
        if self.asker.is_some() {
            return Err(io::Error::other(
                "secrets are shown at the process's own terminal alone",
            ));
        }
        self.bars.suspend(|| prompt::show_secret(text, question))
    }

    /// Has the person type `identifier` before something is done that cannot be undone.
    ///
    /// `what` says what will be done, such as `revoke site berlin`. `given` is the value of `--confirm`.
    ///
    /// # Errors
    /// `CONFIRMATION-MISMATCH` if something else was typed or given, `CONFIRMATION-REQUIRED` if there is neither a
    /// terminal nor a given value.
    pub fn confirm_identifier(
        &self,
        what: &str,
        identifier: &str,
        given: Option<&str>,
    ) -> Result<(), Failure> {
        let (what, shown) = (printable_line(what), printable_line(identifier));
        let answer = match given {
            Some(given) => given.to_owned(),
            None => self
                .ask_line(&format!("This will {what}.\nType {shown} to go on: "))
                .map_err(|_| prompt::confirmation_required(&what, &shown))?,
        };
        prompt::compare(&what, identifier, &answer)
    }

    /// As [`Console::confirm_identifier`], for what scripts do too, and officers have decided on before: only a person at a
    /// terminal is asked. Where there is none, the command goes on, unless something else was given than is asked for.
    ///
    /// # Errors
    /// As [`Console::confirm_identifier`].
    pub fn confirm_if_attended(
        &self,
        what: &str,
        identifier: &str,
        given: Option<&str>,
    ) -> Result<(), Failure> {
        if given.is_none() && !self.attended {
            return Ok(());
        }
        self.confirm_identifier(what, identifier, given)
    }

    /// A failure to write standard output that nobody has been told of.
    pub(crate) fn take_output_error(&self) -> Option<io::Error> {
        lock(&self.output).error.take()
    }

    fn remark(&self, kind: &str, style: Style, code: Option<&str>, text: &str) {
        let text = if self.json {
            let object = match code {
                Some(code) => serde_json::json!({ kind: { "code": code, "message": text } }),
                None => serde_json::json!({ kind: { "message": text } }),
            };
            printable_json(object.to_string())
        } else {
            let label = match code {
                Some(code) => format!("{kind}[{}]:", printable_line(code)),
                None => format!("{kind}:"),
            };
            let label = style.paint(&label, self.diagnostics_colored);
            format!("{}: {label} {}", self.tool, printable_line(text))
        };
        self.keep(format!("{text}\n").as_bytes());
        self.diagnose(&text);
    }

    fn diagnose(&self, text: &str) {
        let write = || {
            let mut stream = lock(&self.diagnostics);
            // When standard error itself is gone there is nobody left to tell.
            let _ = stream
                .write_all(format!("{text}\n").as_bytes())
                .and_then(|()| stream.flush());
        };
        self.bars.suspend(write);
    }

    fn write(&self, text: &str) -> io::Result<()> {
        self.write_bytes(format!("{text}\n").as_bytes())
    }

    /// Remembers, where that is wanted.
    fn keep(&self, bytes: &[u8]) {
        if let Some(remembered) = &mut *lock(&self.remembered) {
            let room = REMEMBERED_BYTES_MAX.saturating_sub(remembered.len());
            remembered.extend_from_slice(bytes.get(..room.min(bytes.len())).unwrap_or_default());
        }
    }

    fn write_bytes(&self, bytes: &[u8]) -> io::Result<()> {
        self.keep(bytes);
        let write = || lock(&self.output).write(bytes);
        // A bar shares the screen with standard output only where both are the terminal.
        if self.output_terminal {
            self.bars.suspend(write)
        } else {
            write()
        }
    }

    fn write_and_remember(&self, text: &str) {
        if let Err(error) = self.write(text) {
            lock(&self.output).error.get_or_insert(error);
        }
    }

    fn width(&self) -> Option<usize> {
        /// Columns of a terminal that does not say how many it has.
        const WIDTH_DEFAULT: usize = 80;
        self.output_terminal
            .then(|| match rustix::termios::tcgetwinsize(io::stdout()) {
                Ok(size) if size.ws_col > 0 => usize::from(size.ws_col),
                _ => WIDTH_DEFAULT,
            })
    }
}

impl Output {
    /// Writes in one go, so that lines of several threads do not mix.
    fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        if self.closed {
            return Ok(());
        }
        let written = self
            .writer
            .write_all(bytes)
            .and_then(|()| self.writer.flush());
        self.closed = written.is_err();
        match written {
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
            other => other,
        }
    }
}

/// A failure in the form that belongs on standard error, without the last line feed.
pub(crate) fn failure_text(tool: &str, failure: &Failure, json: bool, colored: bool) -> String {
    if json {
        let object = serde_json::json!({ "error": {
            "code": failure.code,
            "message": failure.message,
            "cause": failure.cause,
            "hint": failure.hint,
            "exit_code": failure.exit.code(),
        }});
        return printable_json(object.to_string());
    }
    let code = printable_line(&failure.code);
    let label = Style::Bad.paint(&format!("error[{code}]:"), colored);
    let mut lines = vec![format!(
        "{tool}: {label} {}",
        printable_line(&failure.message)
    )];
    for (kind, text) in [("cause", &failure.cause), ("hint", &failure.hint)] {
        if let Some(text) = text {
            lines.push(format!("{tool}: {kind}: {}", printable_line(text)));
        }
    }
    lines.join("\n")
}

/// A thread that panicked while it wrote left at worst half a line behind; the others still have things to say.
fn lock<T: ?Sized>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
#[path = "console_tests.rs"]
mod tests;
