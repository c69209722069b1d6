//! Somebody who waits: they see how far it has come, and may go before it is over.

use mintmark_console::{Console, Progress};

use crate::Error;

/// Who waits for work of several parts.
pub struct Watch<'a> {
    console: &'a Console,
    has_gone: &'a dyn Fn() -> bool,
}

/// One part of the work.
pub struct Watched<'a> {
    progress: Progress,
    has_gone: &'a dyn Fn() -> bool,
}

impl<'a> Watch<'a> {
    /// Whoever sits at this console, until `has_gone`.
    pub fn new(console: &'a Console, has_gone: &'a dyn Fn() -> bool) -> Self {
        Self { console, has_gone }
    }

    /// As [`Watch::new`], for what a signal may end at any moment.
    pub fn to_the_end(console: &'a Console) -> Self {
        Self::new(console, &|| false)
    }

    /// Begins a part, which ends at so many bytes.
    pub fn begin(&self, what: &str, bytes: u64) -> Watched<'a> {
        Watched {
            progress: self.console.progress(what, Some(bytes)),
            has_gone: self.has_gone,
        }
    }
}

impl Watched<'_> {
    /// So many bytes more are done.
    ///
    /// # Errors
    /// [`Error::Interrupted`] once nobody waits any more.
    pub fn advance(&self, bytes: u64) -> Result<(), Error> {
        self.progress.advance(bytes);
        match (self.has_gone)() {
            true => Err(Error::Interrupted),
            false => Ok(()),
        }
    }
}
