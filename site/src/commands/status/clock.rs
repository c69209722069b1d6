//! What is thought of this machine's clock.

use mintmark_console::time::rfc3339;
use mintmark_console::{Console, Style};
use mintmark_ledger::state::{Reading, State};
use serde::Serialize;

use crate::clock::Disbelief;

/// The clock beside the log's time.
#[derive(Serialize)]
pub(super) struct Clock {
    /// What this machine's clock says: nothing of the vault, so that two looks at the same vault say the same.
    #[serde(skip)]
    clock: String,
    /// Whether the machine counts since it booted, so that the clock is compared with that.
    clock_steady: bool,
    /// The clock is not believed, and nothing is issued.
    clock_stopped: Option<Stopped>,
    /// How far behind the log somebody confirmed the clock to be, in seconds; 0 once it has caught up.
    clock_behind: u64,
}

impl Clock {
    pub(super) fn new(state: &State, clocks: Reading, disbelief: Option<&Disbelief>) -> Self {
        Self {
            clock: rfc3339(clocks.clock),
            clock_steady: clocks.steady.is_some(),
            clock_stopped: disbelief.map(|disbelief| Stopped::new(state, clocks.clock, disbelief)),
            clock_behind: state.clock_behind(),
        }
    }

    pub(super) fn show(&self, console: &Console) {
        let clock = &self.clock;
        console.line(match &self.clock_stopped {
            Some(Stopped { code, .. }) => {
                let stopped = console.styled(Style::Bad, format!("not believed ({code})"));
                format!("clock       {clock}, {stopped}")
            }
            None if self.clock_behind > 0 => format!(
                "clock       {clock}, confirmed to be up to {} seconds behind the log, whose time stands until then",
                self.clock_behind
            ),
            None => format!("clock       {clock}"),
        });
        if !self.clock_steady {
            console.line(
                "            this machine does not say how long it has been running: the clock is only compared with the log",
            );
        }
    }
}

/// Why it is not believed.
#[derive(Serialize)]
struct Stopped {
    code: &'static str,
    /// The newest time of the log, at which its time stands still; none while the log does not say so yet.
    since: Option<String>,
    /// The record that says so.
    record: Option<u64>,
    clock: String,
    /// What it should say, or the latest that it may say; of a clock that stands behind the log, the log's newest time.
    expected: String,
    message: String,
    advice: &'static str,
}

impl Stopped {
    fn new(state: &State, clock: u64, disbelief: &Disbelief) -> Self {
        let logged = state.clock_stopped();
        Self {
            code: disbelief.code,
            since: logged.map(|_| rfc3339(state.mark())),
            record: logged.map(|stopped| stopped.at.number()),
            clock: rfc3339(clock),
            expected: rfc3339(disbelief.expected),
            message: disbelief.message.clone(),
            advice: disbelief.advice,
        }
    }
}
