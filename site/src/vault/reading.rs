//! A vault that is only looked at: no lock, no token, no PIN, also while another process changes it.

use std::path::Path;

use mintmark_console::Console;
use mintmark_ledger::ledger::{Opened, View};
use mintmark_ledger::state::State;

use super::Facts;
use crate::failure::Result;
use crate::home::Home;

/// A home and its log, as they are now.
pub(crate) struct Reading {
    home: Home,
    view: View,
    facts: Facts,
}

impl Reading {
    /// Opens the home that `--home` or SITE_HOME names, and says if it is not the newest copy.
    pub(crate) fn open(home: Option<&Path>, console: &Console) -> Result<Self> {
        let reading = Self::over(Home::open(home)?)?;
        if let Err(error) = reading.home.expect_newest() {
            let failure = error.failure();
            console.warn_coded(&failure.code, &failure.message);
            if let Some(hint) = &failure.hint {
                console.note(hint);
            }
        }
        Ok(reading)
    }

    /// Looks at a home that was opened.
    pub(crate) fn over(home: Home) -> Result<Self> {
        let view = View::open(home.path())?;
        // Read after the log: a trust manifest is kept before the log names it.
        let facts = Facts::read(&home, view.state())?;
        Ok(Self { home, view, facts })
    }

    /// The home.
    pub(crate) fn home(&self) -> &Home {
        &self.home
    }

    /// The log.
    pub(crate) fn view(&self) -> &View {
        &self.view
    }

    /// What the log adds up to.
    pub(crate) fn state(&self) -> &State {
        self.view.state()
    }

    /// What stands beside the log and agrees with it.
    pub(crate) fn facts(&self) -> &Facts {
        &self.facts
    }
}

/// Reads the whole log again.
///
/// # Errors
/// LOG-CORRUPT and its like if the log is not what was written.
pub(crate) fn verify(view: &View, console: &Console) -> Result<()> {
    let progress = console.progress("verifying the log", Some(view.size()));
    view.verify(|| progress.advance(1))?;
    progress.finish();
    Ok(())
}

/// Says what opening a log to write had to put right.
pub(crate) fn report_opening(opened: &Opened, console: &Console) {
    if opened.torn_bytes > 0 {
        let kept = opened.torn_kept.as_ref();
        let kept = kept.map_or(String::new(), |path| {
            format!("; they are kept in {}", path.display())
        });
        console.note(format!(
            "{} bytes of a write that was interrupted were cut off the log, and nothing that depended on them was released{kept}",
            opened.torn_bytes
        ));
    }
    if let Some(reason) = &opened.index_rebuilt {
        console.note(format!("the index was made again from the log: {reason}"));
    }
}
