//! The few operations of the operating system that change a log, apart so that a test can make
//! each of them fail.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::Path;

/// What changes files.
pub(super) trait Disk: Send {
    /// Makes a new empty file, for this user only; fails if there is one.
    fn create(&self, path: &Path) -> io::Result<File>;

    /// Writes all of `bytes` at `offset`.
    fn write_at(&self, file: &File, bytes: &[u8], offset: u64) -> io::Result<()>;

    /// Makes the contents and the length of a file durable.
    fn sync_file(&self, file: &File) -> io::Result<()>;

    /// Makes the names in a folder durable.
    fn sync_folder(&self, folder: &File) -> io::Result<()>;

    /// Cuts a file to `bytes`.
    fn truncate(&self, file: &File, bytes: u64) -> io::Result<()>;

    /// Gives a file another name, in the place of whatever has it.
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;

    /// Removes a file.
    fn remove(&self, path: &Path) -> io::Result<()>;
}

/// The real thing.
pub(super) struct OperatingSystem;

impl Disk for OperatingSystem {
    fn create(&self, path: &Path) -> io::Result<File> {
        OpenOptions::new()
            .read(true)
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(path)
    }

    fn write_at(&self, file: &File, bytes: &[u8], offset: u64) -> io::Result<()> {
        file.write_all_at(bytes, offset)
    }

    fn sync_file(&self, file: &File) -> io::Result<()> {
        file.sync_data()
    }

    fn sync_folder(&self, folder: &File) -> io::Result<()> {
        folder.sync_all()
    }

    fn truncate(&self, file: &File, bytes: u64) -> io::Result<()> {
        file.set_len(bytes)
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        fs::rename(from, to)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        fs::remove_file(path)
    }
}
