//! Opening files of a ledger: nothing but regular files is opened, so that a pipe that somebody put there makes nobody
//! wait, and a link leads nowhere else.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

use rustix::fs::OFlags;

/// Opens a regular file as `options` say. What stands there is looked at first, as opening a device may already do
/// something.
pub(crate) fn open_regular(options: &mut OpenOptions, path: &Path) -> io::Result<File> {
    match is_regular(path) {
        Ok(true) => {}
        Ok(false) => return Err(not_regular()),
        // It may be made by opening it.
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(error),
    }
    let flags = OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY;
    let file = options
        .custom_flags(flags.bits().cast_signed())
        .open(path)?;
    if file.metadata()?.is_file() {
        Ok(file)
    } else {
        Err(not_regular())
    }
}

/// Whether a regular file stands there, and no link to one.
pub(crate) fn is_regular(path: &Path) -> io::Result<bool> {
    Ok(fs::symlink_metadata(path)?.is_file())
}

fn not_regular() -> io::Error {
    io::Error::other("a link, a folder, a pipe or a device stands in the place of the file")
}
