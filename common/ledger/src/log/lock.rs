//! The lock that keeps a second process away.

use std::fs::{File, TryLockError};
use std::io;
use std::ops::Deref;

/// A file or folder that is locked (`flock`) for as long as this value lives. The lock goes with
/// the process, however it ends.
#[derive(Debug)]
pub(crate) struct Locked(File);

impl Locked {
    /// Takes the lock; `None` when it is taken.
    pub(crate) fn take(file: File) -> io::Result<Option<Self>> {
        match file.try_lock() {
            Ok(()) => Ok(Some(Self(file))),
            Err(TryLockError::WouldBlock) => Ok(None),
            Err(TryLockError::Error(error)) => Err(error),
        }
    }
}

impl Deref for Locked {
    type Target = File;

    fn deref(&self) -> &File {
        &self.0
    }
}

impl Drop for Locked {
    fn drop(&mut self) {
        // Closing the file is not enough: a process that is just being started shares it for a
        // moment, and the lock with it.
        let _ = self.0.unlock();
    }
}
