//! What SoftHSM leaves to its callers.
//!
//! It syncs none of its files, so that a loss of power soon after can take an object that it made, and one that it removed
//! before is gone as well: they are synced here.
//!
//! And it looks for what other programs did only if they did it last. A program that makes or destroys an object counts
//! that as the newest change (SoftHSM 2.6.1, `Generation::commit`), and no longer looks for what others changed between its
//! own last look and that. Two programs that do this in turn never see each other's objects. So whoever first looks and
//! then makes something of what it saw locks the token's folder for as long as that takes.

use std::env;
use std::fs::{self, File, TryLockError};
use std::io;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;

/// What names SoftHSM's token folder in its configuration.
const TOKEN_FOLDER: &str = "directories.tokendir";

/// The files of a key pair: each object has one, and one that is locked.
const PAIR_FILES: usize = 4;

/// More than an object takes.
const OBJECT_BYTES: usize = 8192;

/// How long another program may have the folder.
const LOCK_WAIT: Duration = Duration::from_secs(30);

/// How often it is tried.
const LOCK_LOOK: Duration = Duration::from_millis(2);

/// Whether the token of this manufacturer keeps its objects in files of this machine, as SoftHSM does.
pub(super) fn is_softhsm(manufacturer: &str) -> bool {
    manufacturer.starts_with("SoftHSM")
}

/// Makes what the token wrote durable. Its files are of its own format and names, so the whole file system they are on is
/// synced; where SoftHSM's configuration does not tell which one that is, every one of the machine.
pub(super) fn sync() -> io::Result<()> {
    match token_folder().map(File::open) {
        Some(Ok(folder)) => Ok(rustix::fs::syncfs(&folder)?),
        _ => {
            rustix::fs::sync();
            Ok(())
        }
    }
}

/// Whether the token's files have no room for another pair of objects, for whoever asks: SoftHSM says of that what it says of
/// anything, or nothing. What has no room is known by trying, as disks keep some for root, and users have quotas; where that
/// cannot be tried, by what the file system counts.
pub(super) fn is_full() -> bool {
    let Some(folder) = token_folder() else {
        return false;
    };
    match try_room(&folder) {
        Ok(()) => false,
        Err(Errno::NOSPC | Errno::DQUOT) => true,
        // One that counts no blocks, or no inodes, says that there are none at all.
        Err(_) => rustix::fs::statvfs(&folder).is_ok_and(|found| {
            (found.f_blocks > 0 && found.f_bavail == 0)
                || (found.f_files > 0 && found.f_favail == 0)
        }),
    }
}

/// Writes what a pair would take into files without names, which are gone at once: no loss of power leaves them behind. Fails
/// where the file system has no such files, too.
fn try_room(folder: &Path) -> Result<(), Errno> {
    let flags = OFlags::TMPFILE | OFlags::WRONLY | OFlags::CLOEXEC;
    let mut files = Vec::new();
    for _ in 0..PAIR_FILES {
        let file = rustix::fs::open(folder, flags, Mode::RUSR | Mode::WUSR)?;
        if rustix::io::write(&file, &[0; OBJECT_BYTES])? < OBJECT_BYTES {
            return Err(Errno::NOSPC);
        }
        files.push(file);
    }
    Ok(())
}

/// Locks the folder against other programs of this kind, until the file is closed. None where SoftHSM's configuration does
/// not tell which folder that is, or where its file system knows no locks.
pub(super) fn lock() -> io::Result<Option<File>> {
    let Some(Ok(folder)) = token_folder().map(File::open) else {
        return Ok(None);
    };
    lock_within(folder, LOCK_WAIT)
}

fn lock_within(folder: File, wait: Duration) -> io::Result<Option<File>> {
    let until = Instant::now() + wait;
    loop {
        match folder.try_lock() {
            Ok(()) => return Ok(Some(folder)),
            Err(TryLockError::Error(_)) => return Ok(None),
            Err(TryLockError::WouldBlock) if Instant::now() < until => thread::sleep(LOCK_LOOK),
            Err(TryLockError::WouldBlock) => {
                let reason = format!("it has had the token's folder for {} ms", wait.as_millis());
                return Err(io::Error::new(io::ErrorKind::TimedOut, reason));
            }
        }
    }
}

/// The folder as SoftHSM finds it: from the file in SOFTHSM2_CONF, or else the user's, or else the machine's.
pub(super) fn token_folder() -> Option<PathBuf> {
    let named = env::var_os("SOFTHSM2_CONF").map(PathBuf::from);
    let users = env::home_dir().map(|home| home.join(".config/softhsm2/softhsm2.conf"));
    let machines = ["/etc/softhsm2.conf", "/etc/softhsm/softhsm2.conf"];
    let candidates = match named {
        Some(named) => vec![named],
        None => users
            .into_iter()
            .chain(machines.map(PathBuf::from))
            .collect(),
    };
    let text = candidates
        .iter()
        .find_map(|path| fs::read_to_string(path).ok())?;
    folder_of(&text)
}

/// The folder that a configuration names.
fn folder_of(text: &str) -> Option<PathBuf> {
    let mut values = text.lines().filter_map(|line| {
        let (name, value) = line.split('#').next()?.split_once('=')?;
        (name.trim() == TOKEN_FOLDER).then(|| value.trim())
    });
    values
        .next_back()
        .filter(|value| !value.is_empty())
        .map(PathBuf::from)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_at_a_time_has_the_folder_and_nobody_waits_for_ever() {
        let place = tempfile::tempdir().unwrap();
        let open = || File::open(place.path()).unwrap();
        let first = lock_within(open(), Duration::ZERO).unwrap().unwrap();
        let wait = Duration::from_millis(20);
        let error = lock_within(open(), wait).unwrap_err();
        assert_eq!(error.to_string(), "it has had the token's folder for 20 ms");
        let waiting = thread::spawn({
            let folder = open();
            move || lock_within(folder, LOCK_WAIT)
        });
        drop(first);
        assert!(waiting.join().unwrap().unwrap().is_some());
    }

    #[test]
    fn the_token_folder_is_read_as_softhsm_writes_it() {
        let text = "# SoftHSM v2 configuration file\n\ndirectories.tokendir = /var/lib/softhsm/tokens/ # here\n\
                    objectstore.backend = file\nlog.level = INFO\n";
        assert_eq!(folder_of(text), Some("/var/lib/softhsm/tokens/".into()));
        for text in [
            "",
            "# directories.tokendir = /a",
            "directories.tokendir",
            "directories.tokendir =",
            "other = /a",
        ] {
            assert_eq!(folder_of(text), None, "{text:?}");
        }
    }
}
