//! What sled can do to who calls it: it panics, and it keeps somebody waiting for ever.

use std::cell::Cell;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread;
use std::time::Duration;

use crate::StorageError;
use crate::storage_error::is_disk_full;

/// How long sled is waited for before it is asked again; each time twice as long.
const FLUSH_WAIT: Duration = Duration::from_millis(100);

/// How long at most.
const FLUSH_WAIT_MAX: Duration = Duration::from_secs(10);

/// How long sled may take for what it writes. It takes milliseconds, or seconds where a disk is slow.
pub(super) const ANSWER_WAIT: Duration = Duration::from_secs(30);

thread_local! {
    static CATCHING: Cell<bool> = const { Cell::new(false) };
}

/// Whether this thread is inside sled, where a panic is caught and becomes
/// [`StorageError::IndexBroken`]. A panic hook can keep silent then: nobody has to read about it.
#[must_use]
pub fn panics_are_caught() -> bool {
    CATCHING.get()
}

/// Has sled write what it holds, and finds out if it cannot. Of a write that fails in one of its own threads, sled does not
/// tell whoever waits for it, who would wait for ever; but it does so when somebody else asks for the same.
pub(super) fn flush(db: &sled::Db) -> sled::Result<usize> {
    let (over, waiting) = mpsc::channel::<()>();
    thread::scope(|scope| {
        let ask_again = move || {
            let mut wait = FLUSH_WAIT;
            while waiting.recv_timeout(wait) == Err(RecvTimeoutError::Timeout) {
                // It may only be slow: whoever asks waits, too.
                let asked = || drop(guarded(|| db.flush()));
                let _ = thread::Builder::new().spawn_scoped(scope, asked);
                wait = (wait * 2).min(FLUSH_WAIT_MAX);
            }
        };
        // Where no thread can be made, it is waited for without.
        let _ = thread::Builder::new().spawn_scoped(scope, ask_again);
        let flushed = db.flush();
        drop(over);
        flushed
    })
}

/// Runs what has sled write, and gives it up when there is no answer in time: where sled gives back the end of its file, threads
/// of its own can come to wait for each other. Whoever runs it waits with them, until the process ends.
pub(super) fn answered<T: Send + 'static>(
    wait: Duration,
    operation: impl FnOnce() -> sled::Result<T> + Send + 'static,
) -> Result<T, Failure> {
    let (over, waiting) = mpsc::channel();
    let run = move || {
        // Nobody hears it who has given up.
        let _ = over.send(guarded(operation));
    };
    thread::Builder::new()
        .name("index".to_owned())
        .spawn(run)
        .map_err(|error| Failure::Broken(format!("no thread can be made for it: {error}")))?;
    waiting
        .recv_timeout(wait)
        .unwrap_or(Err(Failure::Silent { wait }))
}

/// What is said where sled names a place, or none, and a backtrace.
const DAMAGED: &str = "its database read something damaged";

/// What sled can do to us.
#[derive(Clone)]
pub(super) enum Failure {
    Locked,
    Full,
    Silent { wait: Duration },
    Broken(String),
}

impl Failure {
    pub(super) fn into_error(self, folder: &Path) -> StorageError {
        let path = folder.to_owned();
        match self {
            Self::Locked => StorageError::IndexLocked { path },
            Self::Full => StorageError::DiskFull { path, bytes: 0 },
            Self::Silent { wait } => StorageError::IndexSilent {
                path,
                seconds: wait.as_secs(),
            },
            Self::Broken(reason) => StorageError::IndexBroken {
                path: Some(path),
                reason,
            },
        }
    }
}

/// Runs what calls sled, and makes a failure of its panics and of its errors.
pub(super) fn guarded<T>(operation: impl FnOnce() -> sled::Result<T>) -> Result<T, Failure> {
    let before = CATCHING.replace(true);
    // Nothing of what a panic leaves half done is used again: the index counts as broken.
    let result = catch_unwind(AssertUnwindSafe(operation));
    CATCHING.set(before);
    match result {
        Ok(Ok(value)) => Ok(value),
        Ok(Err(sled::Error::Io(error))) if is_disk_full(&error) => Err(Failure::Full),
        // sled gives no other sign of this one than its words.
        Ok(Err(sled::Error::Io(error))) if error.to_string().contains("could not acquire lock") => {
            Err(Failure::Locked)
        }
        Ok(Err(sled::Error::Corruption { .. })) => Err(Failure::Broken(DAMAGED.to_owned())),
        Ok(Err(error)) => Err(Failure::Broken(error.to_string())),
        Err(panic) => {
            let text = panic
                .downcast_ref::<String>()
                .map(String::as_str)
                .or_else(|| panic.downcast_ref::<&str>().copied())
                .unwrap_or("no reason given");
            // The first line says it; sled prints whole structures behind it.
            let line = text.lines().next().unwrap_or_default();
            if line.contains("Corruption {") || line.contains("backtrace") {
                return Err(Failure::Broken(DAMAGED.to_owned()));
            }
            let line: String = line.chars().take(200).collect();
            Err(Failure::Broken(format!("the database gave up: {line}")))
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io;

    use super::*;

    #[test]
    fn a_failure_is_known_by_what_sled_says_of_it() {
        let failed = |error: io::Error| -> &'static str {
            match guarded::<()>(|| Err(sled::Error::Io(error))) {
                Ok(()) => "none",
                Err(failure) => failure.into_error(Path::new("index")).code(),
            }
        };
        for full in [
            io::ErrorKind::StorageFull,
            io::ErrorKind::QuotaExceeded,
            io::ErrorKind::FileTooLarge,
        ] {
            assert_eq!(failed(full.into()), "DISK-FULL");
        }
        let locked = io::Error::other("could not acquire lock on \"db\"");
        assert_eq!(failed(locked), "INDEX-LOCKED");
        assert_eq!(failed(io::Error::other("no")), "INDEX-BROKEN");
        let words = |failure: Result<(), Failure>| match failure {
            Err(Failure::Broken(words)) => words,
            _ => "none".to_owned(),
        };
        let damaged = || sled::Error::Corruption { at: None, bt: () };
        assert_eq!(words(guarded(|| Err(damaged()))), DAMAGED);
        assert_eq!(words(guarded(|| panic!("{:?}", damaged()))), DAMAGED);
        assert_eq!(words(guarded(|| panic!("{}", damaged()))), DAMAGED);
    }

    #[test]
    fn a_panic_is_caught_within_and_nowhere_else() {
        assert!(!panics_are_caught());
        let within = guarded(|| Ok(panics_are_caught()));
        assert!(matches!(within, Ok(true)));
        assert!(!panics_are_caught());
    }
}
