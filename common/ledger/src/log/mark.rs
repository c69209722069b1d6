//! How long the log is known to have been, kept beside it.
//!
//! A last group that cannot be read was either never complete, or was acknowledged and then damaged. To tell one from the
//! other, the head is written into a file of its own after each group was made durable. The mark is not synced itself:
//! the operating system keeps it for a process that was killed, and a power cut may take the newest ones away, but never
//! makes it say more than was durable. So a log that ends before its mark has lost what it had.
//!
//! ```text
//! "MMHEAD1\0" || size (8) || end (8) || link (32) || CRC-32C of all before it (4)       numbers big-endian
//! ```

use std::fs::{File, OpenOptions};
use std::io::{self, Read as _};
use std::os::unix::fs::{FileExt as _, OpenOptionsExt as _};
use std::path::Path;

use super::regular::open_regular;
use super::{Head, Position};

/// The name of the file in which a log's writer marks how far it came; not that of a segment. Alone among the files of a log, it is
/// written over: whoever copies a log beside its writer reads it before anything else goes on.
pub const MARK: &str = "head";

const MAGIC: &[u8; 8] = b"MMHEAD1\0";

/// The length of the file: well within one sector, so that it is never written by halves.
const BYTES: usize = 60;

/// The file in which the writer of a log marks how far it came.
#[derive(Debug)]
pub(super) struct Mark(File);

impl Mark {
    /// Opens the mark of the log in `folder`, or makes it. `None` if that cannot be done: a log without one works, and
    /// less is noticed.
    pub(super) fn open(folder: &Path) -> Option<Self> {
        let mut options = OpenOptions::new();
        let options = options.write(true).create(true).truncate(false).mode(0o600);
        open_regular(options, &folder.join(MARK)).ok().map(Self)
    }

    /// Marks a head, which is durable in the log.
    ///
    /// # Errors
    /// What the operating system said. The log is none the worse.
    pub(super) fn set(&self, head: &Head) -> io::Result<()> {
        self.0.write_all_at(&encode(head), 0)
    }
}

/// The head that the log in `folder` is marked to have reached; `None` without a fit mark. To be read before the log is:
/// another process may be writing both.
pub(super) fn read(folder: &Path) -> Option<Head> {
    let file = open_regular(OpenOptions::new().read(true), &folder.join(MARK)).ok()?;
    let mut bytes = Vec::with_capacity(BYTES);
    file.take(BYTES as u64 + 1).read_to_end(&mut bytes).ok()?;
    decode(&bytes)
}

pub(super) fn encode(head: &Head) -> Vec<u8> {
    let mut bytes = MAGIC.to_vec();
    bytes.extend_from_slice(&head.size.to_be_bytes());
    bytes.extend_from_slice(&head.end.0.to_be_bytes());
    bytes.extend_from_slice(&head.link);
    bytes.extend_from_slice(&crc32c::crc32c(&bytes).to_be_bytes());
    bytes
}

pub(super) fn decode(bytes: &[u8]) -> Option<Head> {
    let (body, checksum) = bytes.split_last_chunk::<4>()?;
    if crc32c::crc32c(body) != u32::from_be_bytes(*checksum) {
        return None;
    }
    let (size, rest) = body.strip_prefix(MAGIC)?.split_first_chunk()?;
    let (end, link) = rest.split_first_chunk()?;
    Some(Head {
        size: u64::from_be_bytes(*size),
        end: Position(u64::from_be_bytes(*end)),
        link: link.try_into().ok()?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mark_says_what_was_marked_and_a_damaged_one_nothing() {
        let folder = tempfile::tempdir().unwrap();
        assert_eq!(read(folder.path()), None);
        let mark = Mark::open(folder.path()).unwrap();
        assert_eq!(read(folder.path()), None);
        let head = |size| Head {
            size,
            link: [9; 32],
            end: Position(size * 100),
        };
        for size in [1, 7, 6] {
            mark.set(&head(size)).unwrap();
            assert_eq!(read(folder.path()), Some(head(size)));
        }
        let bytes = encode(&head(6));
        assert_eq!(bytes.len(), BYTES);
        for at in 0..BYTES {
            let mut changed = bytes.clone();
            changed[at] ^= 4;
            assert_eq!(decode(&changed), None, "byte {at}");
            assert_eq!(decode(&bytes[..at]), None, "{at} bytes");
        }
        assert_eq!(decode(&[&bytes[..], &[0]].concat()), None);
    }
}
