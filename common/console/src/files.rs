//! Files that are whole or not there, whatever stops the machine.
//!
//! Everything is written beside its final name as `NAME.<process>-<number>.part`, synced, moved into place and made
//! lasting by a sync of the folder. Readers ignore names that end in `.part`. Where many files are written together, they
//! have no name at all until then, if the file system allows that.
//!
//! The functions here take a path and trust the folders in it, as the operator named them. For media that someone
//! else has written, walk from the mount point with [`Folder`], which follows no link.

mod error;
mod folder;
mod growing;
mod medium;
mod nameless;
mod part;

pub use error::{Error, Kind, Operation};
pub use folder::{Entry, EntryKind, Folder, Unplaced};
pub use growing::Growing;

use std::ffi::{OsStr, OsString};
use std::path::Path;

/// Writes a new file that its owner alone may read (mode 0600).
///
/// # Errors
/// [`Kind::Exists`] if the name is taken, by a link too; what stands there is not touched. Else as the operating
/// system refuses. After any error the name holds what it held before, or, if only the last sync of the folder failed,
/// the whole new file.
pub fn write_new(path: impl AsRef<Path>, bytes: &[u8]) -> Result<(), Error> {
    let (folder, name) = split(path.as_ref(), Operation::Write)?;
    folder.write_new(&name, bytes)
}

/// Writes a new file that everybody may read (mode 0644), such as a certificate.
///
/// # Errors
/// As [`write_new`].
pub fn write_public_new(path: impl AsRef<Path>, bytes: &[u8]) -> Result<(), Error> {
    let (folder, name) = split(path.as_ref(), Operation::Write)?;
    folder.write_public_new(&name, bytes)
}

/// Writes a file that its owner alone may read (mode 0600), in place of what may stand there.
///
/// # Errors
/// As the operating system refuses. After any error the name holds what it held before, or, if only the last sync of
/// the folder failed, the whole new file.
pub fn write_replace(path: impl AsRef<Path>, bytes: &[u8]) -> Result<(), Error> {
    let (folder, name) = split(path.as_ref(), Operation::Write)?;
    folder.write_replace(&name, bytes)
}

/// Writes a file that everybody may read (mode 0644), in place of what may stand there.
///
/// # Errors
/// As [`write_replace`].
pub fn write_public_replace(path: impl AsRef<Path>, bytes: &[u8]) -> Result<(), Error> {
    let (folder, name) = split(path.as_ref(), Operation::Write)?;
    folder.write_public_replace(&name, bytes)
}

/// Writes a file to a removable medium and reads it back from there before it gets its name.
///
/// What may stand there is replaced. The mode is 0644 where the medium knows modes at all: the machine at the other
/// end numbers its users in its own way, and what travels is sealed.
///
/// # Errors
/// [`Kind::ReadBackMismatch`] if the medium returns other bytes than were written, else as the operating system
/// refuses. After any error the name holds what it held before, or, if only the last sync of the folder failed, the
/// whole new file.
pub fn write_removable(path: impl AsRef<Path>, bytes: &[u8]) -> Result<(), Error> {
    let (folder, name) = split(path.as_ref(), Operation::WriteMedia)?;
    folder.write_removable(&name, bytes)
}

/// Reads a whole file of at most `bytes_max` bytes.
///
/// # Errors
/// [`Kind::NotRegular`] for a link, folder, pipe or device, [`Kind::TooLarge`] for a file over the limit, of which
/// nothing is read; else as the operating system refuses.
pub fn read_limited(path: impl AsRef<Path>, bytes_max: u64) -> Result<Vec<u8>, Error> {
    let (folder, name) = split(path.as_ref(), Operation::Read)?;
    folder.read_limited(&name, bytes_max)
}

/// Refuses a path in a folder that is not there or cannot be opened, before anything is made that is to be written to it.
///
/// # Errors
/// [`Kind::NameInvalid`] for a path without a name; else as the operating system refuses.
pub fn expect_folder(path: impl AsRef<Path>) -> Result<(), Error> {
    split(path.as_ref(), Operation::Write).map(drop)
}

/// The opened folder and the name in it that `path` means.
fn split(path: &Path, operation: Operation) -> Result<(Folder, OsString), Error> {
    let name = path
        .file_name()
        .ok_or_else(|| Error::of(operation, path, Kind::NameInvalid))?;
    let parent = match path.parent() {
        Some(parent) if parent.as_os_str() != OsStr::new("") => parent,
        _ => Path::new("."),
    };
    let folder = Folder::open(parent).map_err(|error| error.during(operation, path))?;
    Ok((folder, name.to_owned()))
}

#[cfg(test)]
#[path = "files/files_tests.rs"]
mod tests;

#[cfg(test)]
#[path = "files/medium_tests.rs"]
mod medium_tests;
