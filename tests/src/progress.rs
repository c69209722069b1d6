//! How far a command at a terminal says it is, on a machine on which everything seems to take long.

use std::time::{Duration, Instant};

use crate::command::{Run, Tool};
use crate::terminal::Terminal;

/// How long all that a command does seems to take to it.
const SEEMING: Duration = Duration::from_secs(60);

/// How far a command says it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Step {
    /// How much is done.
    pub done: u64,
    /// Of how much.
    pub of: u64,
    /// What that comes to, as it is shown.
    pub percent: u64,
    /// How much a second.
    pub per_second: Option<u64>,
    /// How long it will take, in words.
    pub left: Option<String>,
}

impl Step {
    /// Reads `WHAT: 12 of 1,000 (1 %), 3/s, 5 minutes left`; what is not known yet is left out there.
    fn read(line: &str, what: &str) -> Option<Self> {
        let number = |text: &str| text.replace(',', "").parse::<u64>().ok();
        let rest = line.trim_end().strip_prefix(what)?.strip_prefix(": ")?;
        let (counts, rest) = rest.split_once(" %)")?;
        let (counts, percent) = counts.split_once(" (")?;
        let (done, of) = counts.split_once(" of ")?;
        let mut step = Self {
            done: number(done)?,
            of: number(of)?,
            percent: number(percent)?,
            per_second: None,
            left: None,
        };
        for part in rest.split(", ").filter(|part| !part.is_empty()) {
            if let Some(rate) = part.strip_suffix("/s") {
                step.per_second = Some(number(rate)?);
            } else {
                step.left = Some(part.strip_suffix(" left")?.to_owned());
            }
        }
        Some(step)
    }

    /// Whether it says all that can be said.
    pub fn is_full(&self) -> bool {
        self.per_second.is_some() && self.left.is_some()
    }
}

/// Runs a command to its end with no terminal; gives how much faster a clock has to run for that to seem long.
#[track_caller]
pub fn in_pipe(tool: &Tool) -> (Run, u64) {
    let begin = Instant::now();
    let run = tool.run();
    let took = begin.elapsed().max(Duration::from_millis(1));
    let pace = SEEMING.as_millis() / took.as_millis();
    (run, u64::try_from(pace).unwrap().max(1))
}

/// Runs a command to its end at a terminal. Gives what it showed there, and every step of `what` among that.
#[track_caller]
pub fn at_terminal(tool: &Tool, what: &str) -> (Run, Vec<Step>) {
    let run = tool.at_terminal("");
    let steps = steps(&run.stdout, what);
    (run, steps)
}

/// As [`at_terminal`], of a command that goes on until Ctrl-C is typed, which it is once this is shown.
#[track_caller]
pub fn until_stopped(tool: &Tool, what: &str, ready: &str) -> (Run, Vec<Step>) {
    let mut terminal = Terminal::start(tool);
    let shown = terminal.until(ready);
    terminal.type_keys("\u{3}");
    (terminal.end(tool), steps(&shown, what))
}

/// Every step on a screen, in order: each is drawn over the one before.
fn steps(screen: &str, what: &str) -> Vec<Step> {
    let lines = screen.split(['\r', '\n', '\u{1b}']);
    // What an escape sequence leaves at the front: `[2K` and the like.
    let begin = |line: &str| line.find(what).map(|at| line[at..].to_owned());
    lines
        .filter_map(|line| Step::read(&begin(line)?, what))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_step_is_read_whole_or_not_at_all() {
        let whole = Step::read("issuing: 12 of 1,000 (1 %), 3/s, 5 minutes left", "issuing");
        let whole = whole.unwrap();
        assert_eq!((whole.done, whole.of, whole.percent), (12, 1000, 1));
        assert!(whole.is_full() && whole.left.as_deref() == Some("5 minutes"));
        let begun = Step::read("issuing: 0 of 7 (0 %)", "issuing").unwrap();
        assert!(!begun.is_full() && begun.of == 7);
        for cut in [
            "issuing: 12 of 1,000 (1",
            "issuing: 12 of 1,000 (1 %), 3/s, 5 minu",
            "done",
        ] {
            assert_eq!(Step::read(cut, "issuing"), None, "{cut}");
        }
        let drawn =
            "\r\x1b[2Kissuing: 0 of 7 (0 %)\r\x1b[2Kissuing: 3 of 7 (42 %), 3/s, 1 second left";
        assert_eq!(steps(drawn, "issuing").len(), 2);
    }
}
