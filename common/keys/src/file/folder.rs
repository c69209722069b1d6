//! The folder itself: its mode, its files, and how a new file comes into it.

use std::fs::{DirBuilder, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use rustix::fs::OFlags;

use crate::error::Error;
use crate::random;

/// What key files end with.
pub(super) const EXTENSION: &str = "pem";

/// Largest key file. One of P-256 has about 600 bytes.
const FILE_BYTES_MAX: u64 = 16 * 1024;

/// For `map_err`: what was tried on which file.
pub(super) fn failed(action: &'static str, path: &Path) -> impl Fn(io::Error) -> Error {
    move |cause| Error::Io {
        action,
        path: path.into(),
        cause,
    }
}

/// Demands a folder that only its owner can enter.
pub(super) fn check(folder: &Path) -> Result<(), Error> {
    let metadata = match folder.metadata() {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            return Err(Error::FolderMissing {
                path: folder.into(),
            });
        }
        other => other.map_err(failed("open", folder))?,
    };
    if !metadata.is_dir() {
        return Err(failed("open", folder)(io::ErrorKind::NotADirectory.into()));
    }
    let mode = metadata.permissions().mode() & 0o7777;
    if mode & 0o077 != 0 {
        Err(Error::FolderExposed {
            path: folder.into(),
            mode,
        })
    } else {
        Ok(())
    }
}

/// Makes the folder, and the folders above it that are missing, for the owner alone. One that is there stays as it is.
pub(super) fn make(folder: &Path) -> Result<(), Error> {
    DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(folder)
        .map_err(failed("make", folder))?;
    let parent = match folder.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    sync(parent)?;
    check(folder)
}

/// The stems of the key files, sorted. Anything else in the folder is let be.
pub(super) fn stems(folder: &Path) -> Result<Vec<String>, Error> {
    let mut stems = Vec::new();
    for entry in folder.read_dir().map_err(failed("list", folder))? {
        let path = PathBuf::from(entry.map_err(failed("list", folder))?.file_name());
        if path
            .extension()
            .is_some_and(|extension| extension == EXTENSION)
            && let Some(stem) = path.file_stem()
        {
            stems.push(stem.to_string_lossy().into_owned());
        }
    }
    stems.sort_unstable();
    Ok(stems)
}

/// Reads a key file; `None` if there is none. Links are not followed.
pub(super) fn read(path: &Path) -> Result<Option<String>, Error> {
    let invalid = |reason: &str| Error::KeyFileInvalid {
        path: path.into(),
        reason: reason.into(),
    };
    let Some(bytes) = read_bytes(path, FILE_BYTES_MAX)? else {
        return Ok(None);
    };
    if bytes.len() as u64 > FILE_BYTES_MAX {
        return Err(invalid("it is too large"));
    }
    String::from_utf8(bytes)
        .map(Some)
        .map_err(|_| invalid("it is not text"))
}

/// Reads a regular file, and of a file larger than `bytes_max` one byte more than that; `None` if there is none. Links
/// are not followed.
pub(super) fn read_bytes(path: &Path, bytes_max: u64) -> Result<Option<Vec<u8>>, Error> {
    let flags = (OFlags::NOFOLLOW | OFlags::NONBLOCK).bits() as i32;
    let file = match OpenOptions::new().read(true).custom_flags(flags).open(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        other => other.map_err(failed("read", path))?,
    };
    if !file.metadata().map_err(failed("read", path))?.is_file() {
        return Err(Error::KeyFileInvalid {
            path: path.into(),
            reason: "it is not a regular file".into(),
        });
    }
    let mut bytes = Vec::new();
    file.take(bytes_max + 1)
        .read_to_end(&mut bytes)
        .map_err(failed("read", path))?;
    Ok(Some(bytes))
}

/// That a file is open to others than its owner, if it is. The folder's mode keeps them out all the same.
pub(super) fn exposed(folder: &Path, name: &str) -> Option<String> {
    let mode = folder.join(name).metadata().ok()?.permissions().mode() & 0o7777;
    (mode & 0o077 != 0).then(|| format!("{name} is open to other users (mode {mode:04o})"))
}

/// Writes a file that must not exist: whole or not at all, mode 0600, durable when this returns. `Ok(false)` if it
/// exists.
pub(super) fn write_new(folder: &Path, name: &str, content: &[u8]) -> Result<bool, Error> {
    let path = folder.join(name);
    let mut nonce = [0_u8; 8];
    random::fill(&mut nonce)?;
    let part = folder.join(format!(".{name}.{}.part", hex::encode(nonce)));
    let linked = write_part(&part, content).and_then(|()| match std::fs::hard_link(&part, &path) {
        // A link, unlike a rename, refuses to replace what is there.
        Ok(()) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(false),
        Err(cause) => Err(failed("write", &path)(cause)),
    });
    // What is left of a failed attempt is an encrypted key that nobody looks for; removing it is a courtesy.
    let removed = std::fs::remove_file(&part);
    let linked = linked?;
    removed.map_err(failed("remove", &part))?;
    sync(folder)?;
    Ok(linked)
}

/// Removes a file, for good when this returns. What it held may stay on the disk, encrypted, until it is overwritten.
pub(super) fn remove(folder: &Path, path: &Path) -> Result<(), Error> {
    std::fs::remove_file(path).map_err(failed("remove", path))?;
    sync(folder)
}

fn write_part(part: &Path, content: &[u8]) -> Result<(), Error> {
    let mut file = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(part)
        .map_err(failed("write", part))?;
    file.write_all(content)
        .and_then(|()| file.sync_all())
        .map_err(failed("write", part))
}

/// Makes what was made in the folder and removed from it durable.
pub(super) fn sync(folder: &Path) -> Result<(), Error> {
    File::open(folder)
        .and_then(|folder| folder.sync_all())
        .map_err(failed("sync", folder))
}
