//! A vault that is only looked at: no lock, no token, no PIN, also while another process changes it.

use std::cell::RefCell;
use std::path::Path;

use mintmark_console::{Console, Progress};
use mintmark_ledger::ledger::{Opened, View};
use mintmark_ledger::state::State;
use mintmark_ledger::watch::Work;

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
        let reading = Self::over(Home::open(home)?, console)?;
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
    pub(crate) fn over(home: Home, console: &Console) -> Result<Self> {
        let view = view(&home, console)?;
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

/// How far work over the records of a log is, a line for one kind of work after the other.
pub(crate) struct Shown<'c> {
    console: &'c Console,
    line: RefCell<Option<(Work, Progress)>>,
}

impl<'c> Shown<'c> {
    pub(crate) fn new(console: &'c Console) -> Self {
        Self {
            console,
            line: RefCell::new(None),
        }
    }

    /// See [`mintmark_ledger::watch::Watch`].
    pub(crate) fn tell(&self, work: Work, done: u64, of: u64) {
        let mut line = self.line.borrow_mut();
        if line.as_ref().is_none_or(|(shown, _)| *shown != work) {
            let what = match work {
                Work::Replaying => "replaying the log",
                Work::Indexing => "making the index",
                Work::Pruning => "pruning the log",
            };
            // The one before ends first.
            drop(line.take());
            *line = Some((work, self.console.progress(what, Some(of))));
        }
        if let Some((_, progress)) = &*line {
            progress.reach(done);
        }
    }
}

/// Opens the log of a home to read.
///
/// # Errors
/// As [`View::open`].
pub(crate) fn view(home: &Home, console: &Console) -> Result<View> {
    let shown = Shown::new(console);
    let watch = |work, done, of| shown.tell(work, done, of);
    Ok(View::open_watched(home.path(), &watch)?)
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
