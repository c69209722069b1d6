//! The state of a ledger kept in a file, so that opening need not read the log from its beginning.
//!
//! It is never believed by itself: it has a checksum against damage, and names the head of the log that it was made at,
//! which opening the log verifies. A lost or unfit one costs time and nothing else.
//!
//! ```text
//! "MMSNAP2\0" || SHA-256 of the rest || size (8) || end (8) || link (32) || state       numbers big-endian
//! ```

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use sha2::{Digest as _, Sha256};

use crate::log::regular::{is_regular, open_regular};
use crate::log::{Head, Position};
use crate::state::State;
use crate::storage_error::{StorageError, io_error};

const MAGIC: &[u8; 8] = b"MMSNAP2\0";
const DIGEST_BYTES: usize = 32;
const HEAD_BYTES: usize = 48;
const FILE_BYTES_MAX: u64 = 1 << 30;

/// A state, and the head of the log that it was made at.
pub(crate) struct Snapshot {
    pub(crate) state: State,
    pub(crate) head: Head,
}

impl Snapshot {
    /// Reads a snapshot; none if there is no fit one, whatever the reason.
    ///
    /// # Errors
    /// [`StorageError::Io`] if something else than a regular file stands there: nobody but a stranger puts it there.
    pub(crate) fn read(path: &Path) -> Result<Option<Self>, StorageError> {
        let mut bytes = Vec::new();
        let file = match open_regular(OpenOptions::new().read(true), path) {
            Ok(file) => file,
            Err(error) if is_regular(path).is_ok_and(|regular| !regular) => {
                return Err(io_error("open", path)(error));
            }
            Err(_) => return Ok(None),
        };
        let read = file.take(FILE_BYTES_MAX).read_to_end(&mut bytes);
        Ok(read.ok().and_then(|_| Self::from_bytes(&bytes)))
    }

    pub(crate) fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let (digest, body) = bytes.strip_prefix(MAGIC)?.split_at_checked(DIGEST_BYTES)?;
        if Sha256::digest(body).as_slice() != digest {
            return None;
        }
        let (head, state) = body.split_at_checked(HEAD_BYTES)?;
        let number = |at: usize| {
            head.get(at..at + 8)?
                .try_into()
                .ok()
                .map(u64::from_be_bytes)
        };
        let head = Head {
            size: number(0)?,
            end: Position::from_u64(number(8)?),
            link: head.get(16..)?.try_into().ok()?,
        };
        let state = State::from_snapshot(state).ok()?;
        (state.size() == head.size).then_some(Self { state, head })
    }

    pub(crate) fn to_bytes(state: &State, head: &Head) -> Vec<u8> {
        let mut body = head.size.to_be_bytes().to_vec();
        body.extend_from_slice(&head.end.to_u64().to_be_bytes());
        body.extend_from_slice(&head.link);
        body.extend_from_slice(&state.to_snapshot());
        [MAGIC.as_slice(), &Sha256::digest(&body), &body].concat()
    }

    /// Writes a snapshot in place of the one before, whole or not at all.
    ///
    /// # Errors
    /// [`StorageError::Io`]; the one before is still there then.
    pub(crate) fn write(path: &Path, state: &State, head: &Head) -> Result<(), StorageError> {
        let bytes = Self::to_bytes(state, head);
        let part = PathBuf::from(format!("{}.part", path.display()));
        let write = || -> io::Result<()> {
            // A part left by a crash is nobody's; whatever it is, it is not written through.
            match fs::remove_file(&part) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                _ => {}
            }
            let mut file = OpenOptions::new()
                .write(true)
                .create_new(true)
                .mode(0o600)
                .open(&part)?;
            file.write_all(&bytes)?;
            file.sync_all()?;
            fs::rename(&part, path)?;
            match path.parent() {
                Some(folder) => File::open(folder)?.sync_all(),
                None => Ok(()),
            }
        };
        write().map_err(|source| StorageError::Io {
            action: "write",
            path: path.to_owned(),
            source,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_snapshot_with_one_changed_byte_is_not_read() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("state.snapshot");
        Snapshot::write(&path, &State::new(), &Head::default()).unwrap();
        assert_eq!(Snapshot::read(&path).unwrap().unwrap().state, State::new());
        let bytes = fs::read(&path).unwrap();
        for at in 0..bytes.len() {
            let mut changed = bytes.clone();
            changed[at] ^= 1;
            assert!(Snapshot::from_bytes(&changed).is_none(), "byte {at}");
        }
        for length in 0..bytes.len() {
            assert!(
                Snapshot::from_bytes(&bytes[..length]).is_none(),
                "{length} bytes"
            );
        }
    }
}
