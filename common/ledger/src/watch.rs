//! How far work over a whole log has come, for whoever waits for it.

/// Work over many records.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Work {
    /// The state is made of them.
    Replaying,
    /// The index is made of them.
    Indexing,
    /// They give way to what is kept of them.
    Pruning,
}

/// Is told of the work at hand: of how many records it is done, and how many it ends at.
pub type Watch<'a> = &'a dyn Fn(Work, u64, u64);

/// Nobody waits.
pub(crate) const NOBODY: Watch<'static> = &|_, _, _| ();

/// So many records are done between two looks.
const RECORDS_BETWEEN: u64 = 1_024;

/// Work that begins.
pub(crate) struct Watched<'a> {
    watch: Watch<'a>,
    work: Work,
    done: u64,
    total: u64,
}

impl<'a> Watched<'a> {
    pub(crate) fn begin(watch: Watch<'a>, work: Work, total: u64) -> Self {
        Self {
            watch,
            work,
            done: 0,
            total,
        }
    }

    /// One record more is done.
    pub(crate) fn advance(&mut self) {
        self.done = self.done.saturating_add(1);
        if self.done.is_multiple_of(RECORDS_BETWEEN) || self.done == self.total {
            (self.watch)(self.work, self.done, self.total);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;

    use super::*;

    #[test]
    fn whoever_watches_is_told_now_and_then_and_at_the_end() {
        let told = RefCell::new(Vec::new());
        let watch = |work, done, total| told.borrow_mut().push((work, done, total));
        let total = 2 * RECORDS_BETWEEN + 5;
        let mut watched = Watched::begin(&watch, Work::Indexing, total);
        for _ in 0..total {
            watched.advance();
        }
        let looks = [RECORDS_BETWEEN, 2 * RECORDS_BETWEEN, total];
        let looks = looks.map(|done| (Work::Indexing, done, total));
        assert_eq!(*told.borrow(), looks);
    }
}
