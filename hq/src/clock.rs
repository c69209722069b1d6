//! The one place where HQ looks at the clock.

use std::cell::Cell;
use std::time::{SystemTime, UNIX_EPOCH};

thread_local! {
    /// When what this thread takes in was taken in at headquarters.
    static THEN: Cell<Option<u64>> = const { Cell::new(None) };
}

/// Puts the clock of before back, whatever ends the work.
struct Back(Option<u64>);

impl Drop for Back {
    fn drop(&mut self) {
        THEN.set(self.0);
    }
}

/// Does what headquarters did at that time, Unix seconds, as if it were that time: an auditor's home, and a registry that is
/// made again, become the same.
pub(crate) fn at<T>(time: u64, work: impl FnOnce() -> T) -> T {
    let _back = Back(THEN.replace(Some(time)));
    work()
}

/// Does one thing at one time: everything that is noted of it bears the same, however long it takes.
pub(crate) fn once<T>(work: impl FnOnce() -> T) -> T {
    at(now_unix(), work)
}

/// Seconds since 1970; 0 if the clock stands before that.
pub(crate) fn now_unix() -> u64 {
    if let Some(then) = THEN.get() {
        return then;
    }
    #[cfg(test)]
    if let Some(now) = virtual_time::now() {
        return now;
    }
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |since| since.as_secs())
}

/// Seconds of a day.
pub(crate) const DAY_SECONDS: u64 = 86_400;

/// A clock that a test sets, for its own thread.
#[cfg(test)]
pub(crate) mod virtual_time {
    use std::cell::Cell;

    thread_local! {
        static NOW: Cell<Option<u64>> = const { Cell::new(None) };
    }

    pub(super) fn now() -> Option<u64> {
        NOW.get()
    }

    /// Sets the clock of this thread, Unix seconds.
    pub(crate) fn set(now: u64) {
        NOW.set(Some(now));
    }
}
