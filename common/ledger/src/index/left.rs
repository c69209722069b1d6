//! How an index was left by who had it open last: what its lock file says of it.

use std::fs::{self, File};
use std::io::{self, Read as _};
use std::os::unix::fs::FileExt;
use std::path::Path;

use rustix::fs::{AtFlags, CWD, StatxFlags, statx};

use super::sled::database_file;

/// Why an index that was open is not believed, unless the process that had it open is all that ended.
const MACHINE_WENT_DOWN: &str =
    "the machine went down while the index was open, or it is a copy of one that was open";

/// Why an index is not believed that is not as it was closed.
pub(super) const NOT_AS_CLOSED: &str = "it is not as it was when it was closed";

/// Writes into the lock file how the index is left, durably.
pub(super) fn mark(lock: &File, left: &str) -> io::Result<()> {
    lock.set_len(0)?;
    lock.write_all_at(left.as_bytes(), 0)?;
    lock.sync_data()
}

/// How the lock file begins when the index was closed and everything in it is durable: the length of the database's file
/// and the number of records that it was written up to follow.
pub(super) const CLOSED: &str = "closed ";

/// What the lock file says when the index failed, or could not be closed.
pub(super) const FAILED: &str = "broken";

/// Why such an index is not believed.
const HAD_FAILED: &str = "it had failed, or could not be closed";

/// How an index was left, by what its lock file says of who had it open last.
pub(super) enum Left {
    /// Everything in it is durable, as far as this many records.
    Closed { records: u64 },
    /// The process was killed. The operating system keeps every write of it.
    Killed,
    /// Nobody knows what of it was kept, for this reason.
    Unknown(&'static str),
}

pub(super) fn left(mut lock: &File, folder: &Path) -> Left {
    let mut text = String::new();
    if lock.by_ref().take(256).read_to_string(&mut text).is_err() {
        return Left::Unknown(NOT_AS_CLOSED);
    }
    if let Some(closed) = text.strip_prefix(CLOSED) {
        let parsed = closed
            .split_once(' ')
            .and_then(|(bytes, records)| Some((bytes.parse().ok()?, records.parse().ok()?)));
        return match parsed {
            Some((bytes, records)) if database_bytes(folder) == Some(bytes) => {
                Left::Closed { records }
            }
            _ => Left::Unknown(NOT_AS_CLOSED),
        };
    }
    if text == FAILED {
        return Left::Unknown(HAD_FAILED);
    }
    if incarnation(folder).is_some_and(|incarnation| incarnation == text) {
        Left::Killed
    } else {
        Left::Unknown(MACHINE_WENT_DOWN)
    }
}

/// The length of the database's file.
pub(super) fn database_bytes(folder: &Path) -> Option<u64> {
    Some(fs::symlink_metadata(database_file(folder)).ok()?.len())
}

/// Writes into the lock file that the index is open.
pub(super) fn mark_open(lock: &File, folder: &Path) -> io::Result<()> {
    mark(lock, &incarnation(folder).unwrap_or_default())
}

/// What tells this database's file, in this mount of its file system, in this running of the machine, from every other:
/// only there does the operating system still hold what a killed process wrote. A copy of the home, an image put back under
/// a machine that went on, or a disk that was taken away and came back, is something else, and so may be what is in it.
fn incarnation(folder: &Path) -> Option<String> {
    let boot = fs::read_to_string("/proc/sys/kernel/random/boot_id").ok()?;
    // Of the number of the mount there is one that is never used again, since Linux 6.8 (STATX_MNT_ID_UNIQUE).
    let unique = StatxFlags::from_bits_retain(0x4000);
    let wanted = StatxFlags::INO | StatxFlags::BTIME | StatxFlags::MNT_ID | unique;
    let flags = AtFlags::SYMLINK_NOFOLLOW;
    let found = statx(CWD, database_file(folder), flags, wanted).ok()?;
    Some(format!(
        "open {} {}:{} {} {}.{} {}",
        boot.trim(),
        found.stx_dev_major,
        found.stx_dev_minor,
        found.stx_ino,
        found.stx_btime.tv_sec,
        found.stx_btime.tv_nsec,
        found.stx_mnt_id,
    ))
}
