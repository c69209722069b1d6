//! The lock of a home: one process changes it at a time.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{Read as _, Seek as _, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

use rustix::fs::OFlags;

use super::LOCK;
use crate::failure::{Error, Result};

/// A note of a process about itself is never longer, in bytes.
const NOTE_BYTES_MAX: u64 = 64;

/// The right to change a home. The operating system takes it back when the process ends, however it ends.
#[derive(Debug)]
pub(crate) struct HomeLock {
    _file: File,
}

impl HomeLock {
    /// Whether some process has the lock of the home at `home`; nothing is changed by asking.
    pub(crate) fn is_taken(home: &Path) -> bool {
        let asked = open_to_ask(home).map(|file| file.try_lock_shared());
        matches!(asked, Ok(Err(TryLockError::WouldBlock)))
    }

    /// Takes the lock of the home at `home`, without waiting.
    pub(crate) fn take(home: &Path) -> Result<Self> {
        let path = home.join(LOCK);
        let failed = |error: std::io::Error| {
            let message = format!("the lock {} cannot be taken", path.display());
            Error::environment("HOME-LOCK", message).cause(error).hint(
                "nothing was changed: mount the disk that holds the home for writing, or correct the permissions; \
                 `site status` works without",
            )
        };
        let regular = std::fs::symlink_metadata(&path).map(|found| found.is_file());
        if regular.is_ok_and(|regular| !regular) {
            return Err(super::corrupt(home, LOCK, "no regular file"));
        }
        let flags = OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY;
        let open = OpenOptions::new()
            .read(true)
            .write(true)
            .custom_flags(flags.bits().cast_signed())
            .open(&path);
        let mut file = match open {
            Ok(file) => file,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                return Err(super::corrupt(home, LOCK, "missing"));
            }
            Err(error) => return Err(failed(error)),
        };
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Err(busy(home, &mut file)),
            Err(TryLockError::Error(error)) => return Err(failed(error)),
        }
        // For the message of whoever comes next; the lock holds without it, even on a full disk.
        let _ = file
            .set_len(0)
            .and_then(|()| file.rewind())
            .and_then(|()| write!(file, "process {}", std::process::id()));
        Ok(Self { _file: file })
    }
}

fn open_to_ask(home: &Path) -> std::io::Result<File> {
    let flags = OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY;
    OpenOptions::new()
        .read(true)
        .custom_flags(flags.bits().cast_signed())
        .open(home.join(LOCK))
}

fn busy(home: &Path, file: &mut File) -> Error {
    let mut note = String::new();
    let read = file.take(NOTE_BYTES_MAX).read_to_string(&mut note);
    let holder = match read {
        Ok(_) if note.starts_with("process ") => note.trim().to_owned(),
        _ => "another process".to_owned(),
    };
    let message = format!("the home {} is being changed by {holder}", home.display());
    Error::environment("HOME-BUSY", message).hint("wait until it has finished, then run it again")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_home_is_held_by_one_and_the_next_learns_by_whom() {
        let home = tempfile::tempdir().unwrap();
        std::fs::write(home.path().join(LOCK), "").unwrap();
        assert!(!HomeLock::is_taken(home.path()));
        let first = HomeLock::take(home.path()).unwrap();
        assert!(HomeLock::is_taken(home.path()));
        let refused = HomeLock::take(home.path()).unwrap_err();
        assert_eq!(refused.code(), "HOME-BUSY");
        let holder = format!("process {}", std::process::id());
        assert!(refused.failure().message.contains(&holder), "{refused:?}");
        drop(first);
        HomeLock::take(home.path()).unwrap();
    }
}
