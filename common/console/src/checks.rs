//! What `doctor` found: a list of things that were tried, each good, in need of attention, or bad.

use serde::Serialize;
use unicode_width::UnicodeWidthStr as _;

use crate::printable::printable_line;
use crate::{Console, Exit, Failure, Style};

/// Columns that the list fits in, whatever the terminal has.
const WIDTH_MAX: usize = 80;
/// The name of a check and its outcome stand before what was found.
const OUTCOME_WIDTH: usize = 7;

/// One thing that was tried.
#[derive(Clone, Debug, Serialize)]
pub struct Check {
    /// What was tried.
    pub check: String,
    /// `ok`, `warning` or `bad`.
    pub outcome: &'static str,
    /// The stable code of what is wrong.
    pub code: Option<String>,
    /// What was found: what happened and why, where something is wrong.
    pub message: String,
    /// What to do.
    pub hint: Option<String>,
    #[serde(skip)]
    exit: Exit,
}

impl Check {
    /// It is as it should be.
    pub fn good(check: impl Into<String>, message: impl Into<String>) -> Self {
        Self {
            check: check.into(),
            outcome: "ok",
            code: None,
            message: message.into(),
            hint: None,
            exit: Exit::Done,
        }
    }

    /// It is not; what is built on it would fail in this way.
    pub fn bad(check: impl Into<String>, failure: &Failure) -> Self {
        let cause = failure.cause.as_ref();
        let cause = cause.map(|cause| format!(": {cause}")).unwrap_or_default();
        Self {
            check: check.into(),
            outcome: "bad",
            code: Some(failure.code.to_string()),
            message: format!("{}{cause}", failure.message),
            hint: failure.hint.clone(),
            exit: failure.exit,
        }
    }

    /// It is not as it should be, and everything works all the same.
    #[must_use]
    pub fn warning(self) -> Self {
        Self {
            outcome: "warning",
            exit: Exit::Done,
            ..self
        }
    }

    /// How the command ends because of it.
    #[must_use]
    pub fn exit(&self) -> Exit {
        self.exit
    }

    fn lines(&self, width: usize, console: &Console) -> Vec<String> {
        let room = WIDTH_MAX - width - OUTCOME_WIDTH - 4;
        let code = self.code.as_ref().map(|code| format!("[{code}] "));
        let found = format!("{}{}", code.unwrap_or_default(), self.message);
        let hint = self.hint.as_ref().map(|hint| format!("to do: {hint}"));
        let mut texts = wrapped(&found, room);
        texts.extend(hint.iter().flat_map(|hint| wrapped(hint, room)));
        let style = match self.outcome {
            "ok" => Style::Good,
            "warning" => Style::Warn,
            _ => Style::Bad,
        };
        let mut lines = Vec::with_capacity(texts.len());
        for (number, text) in texts.iter().enumerate() {
            let (name, outcome) = match number {
                0 => (printable_line(&self.check), self.outcome),
                _ => (String::new(), ""),
            };
            let gap = " ".repeat(width.saturating_sub(name.width()));
            let blank = " ".repeat(OUTCOME_WIDTH.saturating_sub(outcome.width()));
            let outcome = match outcome {
                "" => String::new(),
                outcome => console.styled(style, outcome),
            };
            let line = format!("{name}{gap}  {outcome}{blank}  {text}");
            lines.push(line.trim_end().to_owned());
        }
        lines
    }
}

/// Text in lines of at most so many columns. A word that is longer, as a path can be, stands on a line by itself, whole.
fn wrapped(text: &str, room: usize) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    for word in printable_line(text)
        .split(' ')
        .filter(|word| !word.is_empty())
    {
        match lines.last_mut() {
            Some(line) if line.width() + 1 + word.width() <= room => {
                line.push(' ');
                line.push_str(word);
            }
            _ => lines.push(word.to_owned()),
        }
    }
    lines
}

#[derive(Serialize)]
struct Report<'a> {
    schema: &'static str,
    checks: &'a [Check],
}

impl Console {
    /// Shows what was found: as one JSON object of the schema `mintmark/doctor/1`, or as a list within 80 columns. Gives
    /// the worst of the ends.
    ///
    /// # Errors
    /// When standard output cannot be written.
    pub fn checks(&self, checks: &[Check]) -> Result<Exit, Failure> {
        let exit = checks
            .iter()
            .fold(Exit::Done, |exit, check| exit.worst(check.exit));
        if self.is_json() {
            let schema = "mintmark/doctor/1";
            self.json(&Report { schema, checks })
                .map_err(|error| Failure::output(&error))?;
            return Ok(exit);
        }
        let names = checks
            .iter()
            .map(|check| printable_line(&check.check).width());
        let width = names.max().unwrap_or_default().clamp(5, 24);
        let head = format!("{:width$}  {:OUTCOME_WIDTH$}  FOUND", "CHECK", "OUTCOME");
        self.line(self.styled(Style::Bold, head));
        for line in checks.iter().flat_map(|check| check.lines(width, self)) {
            self.line(line);
        }
        let count = |outcome| {
            checks
                .iter()
                .filter(|check| check.outcome == outcome)
                .count()
        };
        self.line(format!(
            "{} checks: {} bad, {} warnings",
            checks.len(),
            count("bad"),
            count("warning")
        ));
        Ok(exit)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_is_wrapped_at_words_and_no_word_is_cut() {
        let path = "x".repeat(40);
        let text = format!("the folder {path} is open to others");
        let lines = wrapped(&text, 20);
        assert_eq!(lines, ["the folder", &path, "is open to others"]);
    }

    #[test]
    fn a_check_that_failed_says_what_why_and_what_to_do() {
        let failure = Failure::new(Exit::Environment, "DISK-FULL", "no space")
            .cause("quota")
            .hint("free some");
        let check = Check::bad("disk", &failure);
        assert_eq!((check.outcome, check.exit()), ("bad", Exit::Environment));
        assert_eq!(check.message, "no space: quota");
        assert_eq!(check.hint.as_deref(), Some("free some"));
        let warning = check.warning();
        assert_eq!((warning.outcome, warning.exit()), ("warning", Exit::Done));
    }
}
