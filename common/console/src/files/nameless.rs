//! A file that is written whole before it has any name: a process that is killed leaves nothing of it behind.

use super::Folder;
use rustix::fs::{AtFlags, CWD, Mode, OFlags, fchmod, fstat, linkat, openat};
use rustix::io::{Errno, fcntl_dupfd_cloexec};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use std::ffi::OsStr;
use std::fs::File;
use std::io::{self, Write as _};
use std::os::fd::{AsRawFd as _, OwnedFd, RawFd};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};

/// Such files stay open until they have their names; no more than so many at once.
const OPEN_MAX: u64 = 4096;

/// Descriptors below this one are for others: a token's module that waits with select(2) cannot deal with any above.
const SELECTABLE: RawFd = 1024;

/// Where the process may have fewer than this above, so many of those below are taken, and no more than half.
const OPEN_BELOW_MAX: u64 = 512;

/// The bits of a file's mode that say who may do what with it.
const PERMISSIONS: u32 = 0o7777;

/// How many are open.
static OPEN: AtomicU64 = AtomicU64::new(0);

/// What is known of how a folder takes such files.
#[derive(Debug, Default)]
pub(super) struct Taken {
    /// Its file system has none.
    never: AtomicBool,
    /// With which mode one was last begun, and above that, which one it got: a umask or a default ACL may narrow it.
    made: AtomicU32,
}

impl Taken {
    /// Gives a file the mode that it was to be made with, if it was not.
    fn settle(&self, file: &File, mode: u32) -> io::Result<()> {
        let (last, mut got) = {
            let made = self.made.load(Ordering::Relaxed);
            (made & PERMISSIONS, made >> 16)
        };
        if last != mode {
            // The kind of the file is in the number too.
            got = fstat(file)?.st_mode & PERMISSIONS;
            self.made.store(got << 16 | mode, Ordering::Relaxed);
        }
        if got != mode {
            fchmod(file, Mode::from_raw_mode(mode))?;
        }
        Ok(())
    }
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
        let room = Room::of_process();
        if OPEN.fetch_add(1, Ordering::Relaxed) >= room.open_max {
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
            file: File::from(room.put(descriptor)),
        };
        taken.settle(&nameless.file, mode)?;
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

/// Which descriptors such files may take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Room {
    open_max: u64,
    /// Whether they go above those that select(2) can deal with.
    above: bool,
}

impl Room {
    /// For this process, whose limit (RLIMIT_NOFILE) is raised as far as this needs and its administrator allows.
    fn of_process() -> Self {
        static ROOM: OnceLock<Room> = OnceLock::new();
        *ROOM.get_or_init(|| {
            let limit = getrlimit(Resource::Nofile);
            let wanted = SELECTABLE as u64 + OPEN_MAX;
            let allowed = limit.maximum.map_or(wanted, |maximum| maximum.min(wanted));
            if limit.current.is_some_and(|current| current < allowed) {
                let raised = Rlimit {
                    current: Some(allowed),
                    ..limit
                };
                // Where that is refused, what there is has to do.
                let _ = setrlimit(Resource::Nofile, raised);
            }
            Self::within(getrlimit(Resource::Nofile).current)
        })
    }

    /// Of so many descriptors; none in the place of a number stands for any.
    fn within(limit: Option<u64>) -> Self {
        let above = limit.map_or(OPEN_MAX, |limit| limit.saturating_sub(SELECTABLE as u64));
        match above {
            0..OPEN_BELOW_MAX => Self {
                open_max: limit.map_or(OPEN_BELOW_MAX, |limit| OPEN_BELOW_MAX.min(limit / 2)),
                above: false,
            },
            _ => Self {
                open_max: OPEN_MAX.min(above),
                above: true,
            },
        }
    }

    /// The descriptor of the same file that it is to have.
    fn put(self, descriptor: OwnedFd) -> OwnedFd {
        if !self.above || descriptor.as_raw_fd() >= SELECTABLE {
            return descriptor;
        }
        // Should none be free there, it stays where it is.
        fcntl_dupfd_cloexec(&descriptor, SELECTABLE).unwrap_or(descriptor)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_has_the_mode_that_it_was_to_have_whatever_the_one_before_it_had() {
        let temporary = tempfile::tempdir().unwrap();
        let folder = Folder::open(temporary.path()).unwrap();
        // No mask takes from its owner what the first one gives; that of the second most do.
        for mode in [0o600, 0o666, 0o666, 0o600, 0o600] {
            let Some(nameless) = Nameless::begin(&folder, mode).unwrap() else {
                return;
            };
            let made = fstat(nameless.file()).unwrap().st_mode & PERMISSIONS;
            assert_eq!(made, mode);
        }
    }

    #[test]
    fn descriptors_that_select_can_deal_with_are_left_to_others_where_there_are_more() {
        let below = |open_max| Room {
            open_max,
            above: false,
        };
        let above = |open_max| Room {
            open_max,
            above: true,
        };
        assert_eq!(Room::within(Some(256)), below(128));
        assert_eq!(Room::within(Some(1024)), below(512));
        assert_eq!(Room::within(Some(1500)), below(512));
        assert_eq!(Room::within(Some(2048)), above(1024));
        assert_eq!(Room::within(Some(1 << 20)), above(OPEN_MAX));
        assert_eq!(Room::within(None), above(OPEN_MAX));

        let null = || OwnedFd::from(File::open("/dev/null").unwrap());
        assert!(below(512).put(null()).as_raw_fd() < SELECTABLE);
        if Room::of_process().above {
            let put = above(OPEN_MAX).put(null());
            assert!(put.as_raw_fd() >= SELECTABLE);
            let put_again = above(OPEN_MAX).put(put.try_clone().unwrap());
            assert!(put_again.as_raw_fd() >= SELECTABLE);
        }
    }
}
