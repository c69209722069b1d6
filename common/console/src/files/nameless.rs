//! A file that is written whole before it has any name: a process that is killed leaves nothing of it behind.

use super::Folder;
use rustix::fs::{AtFlags, CWD, Mode, OFlags, fchmod, fstat, linkat, openat};
use rustix::io::Errno;
use rustix::process::{Resource, getrlimit};
use std::ffi::OsStr;
use std::fs::File;
use std::io::{self, Write as _};
use std::os::fd::AsRawFd as _;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

/// Such files stay open until they have their names. No more than so many at once, and no more than half of what the
/// process may have open: a token's module that waits with select(2) cannot deal with descriptors above 1,023.
const OPEN_MAX: u64 = 512;

/// The bits of a file's mode that say who may do what with it.
const PERMISSIONS: u32 = 0o7777;

/// How many are open.
static OPEN: AtomicU64 = AtomicU64::new(0);

/// What is known of how a folder takes such files.
#[derive(Debug, Default)]
pub(super) struct Taken {
    /// Its file system has none.
    never: AtomicBool,
    /// They get the mode that they are made with: no umask or default ACL narrows it.
    as_made: AtomicBool,
}

#[cfg(test)]
impl Taken {
    /// As where the file system has none.
    pub(super) fn refuse(&self) {
        self.never.store(true, Ordering::Relaxed);
    }
}

/// A file that is written and has no name yet. Dropped without one, it is gone.
#[derive(Debug)]
pub(super) struct Nameless {
    file: File,
}

impl Nameless {
    /// Writes a file of a folder; none where there can be none now, and the file has to begin under a name.
    pub(super) fn write(folder: &Folder, bytes: &[u8], mode: u32) -> io::Result<Option<Self>> {
        let Some(mut nameless) = Self::begin(folder, mode)? else {
            return Ok(None);
        };
        nameless.file.write_all(bytes)?;
        Ok(Some(nameless))
    }

    /// As [`Nameless::write`], of an empty file.
    pub(super) fn begin(folder: &Folder, mode: u32) -> io::Result<Option<Self>> {
        let taken = folder.nameless();
        if taken.never.load(Ordering::Relaxed) {
            return Ok(None);
        }
        if OPEN.fetch_add(1, Ordering::Relaxed) >= open_max() {
            OPEN.fetch_sub(1, Ordering::Relaxed);
            return Ok(None);
        }
        let flags = OFlags::RDWR | OFlags::TMPFILE | OFlags::CLOEXEC;
        let permissions = Mode::from_raw_mode(mode);
        let opened = openat(folder.descriptor(), c".", flags, permissions);
        let Ok(descriptor) = opened else {
            OPEN.fetch_sub(1, Ordering::Relaxed);
            // The kernel or the file system does not know the flag, or there are no more descriptors.
            taken.never.store(true, Ordering::Relaxed);
            return Ok(None);
        };
        let nameless = Self {
            file: File::from(descriptor),
        };
        if !taken.as_made.load(Ordering::Relaxed) {
            // The kind of the file is in the number too.
            let made = fstat(&nameless.file)?.st_mode & PERMISSIONS;
            if made == mode {
                taken.as_made.store(true, Ordering::Relaxed);
            } else {
                fchmod(&nameless.file, permissions)?;
            }
        }
        Ok(Some(nameless))
    }

    pub(super) fn file(&self) -> &File {
        &self.file
    }

    /// Gives the file its name unless something has it.
    pub(super) fn place(self, folder: &Folder, name: &OsStr) -> Result<(), Errno> {
        let folder = folder.descriptor();
        match linkat(&self.file, c"", folder, name, AtFlags::EMPTY_PATH) {
            // Before Linux 6.10 that is for a privileged process alone, and says so in this way.
            Err(Errno::NOENT) => {
                let path = format!("/proc/self/fd/{}", self.file.as_raw_fd());
                linkat(CWD, path, folder, name, AtFlags::SYMLINK_FOLLOW)
            }
            linked => linked,
        }
    }
}

impl Drop for Nameless {
    fn drop(&mut self) {
        OPEN.fetch_sub(1, Ordering::Relaxed);
    }
}

fn open_max() -> u64 {
    static MAX: OnceLock<u64> = OnceLock::new();
    *MAX.get_or_init(|| {
        let limit = getrlimit(Resource::Nofile).current;
        limit.map_or(OPEN_MAX, |limit| OPEN_MAX.min(limit / 2))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mode_is_set_again_only_where_the_file_was_not_made_with_it() {
        let temporary = tempfile::tempdir().unwrap();
        for (mode, open_to_all) in [(0o600, false), (0o666, true)] {
            let folder = Folder::open(temporary.path()).unwrap();
            let nameless = Nameless::begin(&folder, mode).unwrap();
            let Some(nameless) = nameless else {
                return;
            };
            let made = fstat(nameless.file()).unwrap().st_mode & PERMISSIONS;
            assert_eq!(made, mode);
            // No mask takes from its owner what the first one gives; that of the second most do.
            let as_made = folder.nameless().as_made.load(Ordering::Relaxed);
            assert!(as_made || open_to_all);
        }
    }
}
