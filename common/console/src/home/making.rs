//! A home in the making: it is filled beside its place, and put there when it is whole. A run that was killed leaves it behind,
//! however far it came; the next one for the same place clears it.
//!
//! The folder is `HOME.part`. Its file `lock` says for which place it is in the making, until it stands there, and is locked by who
//! fills it: what does not say so is another's, whatever its name, and is never touched.

use std::ffi::OsStr;
use std::fs::{self, DirBuilder, File, OpenOptions, TryLockError};
use std::io::{self, Read as _, Seek as _, Write as _};
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use crate::{Exit, Failure};

/// What the lock says until the home is in its place, before the name of that.
const IN_THE_MAKING: &[u8] = b"a home of mintmark in the making, which is not in its place yet: ";
/// The file that says so, and by which a home is locked.
const LOCK: &str = "lock";

/// What to do with a home that stands in its place, on a disk that fails.
const IN_PLACE: &str = "the home is there and complete, but its name may not outlast a power cut: go on with it once its disk is right";

/// Refuses a place for a new home where something is; an empty folder gives way.
///
/// # Errors
/// HOME-EXISTS.
pub fn expect_free(place: &Path) -> Result<(), Failure> {
    let what = match fs::symlink_metadata(place) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(failed("look at", place, error)),
        Ok(found) if !found.is_dir() => "it is no folder",
        Ok(_) => match fs::read_dir(place).map(|mut entries| entries.next().is_none()) {
            Ok(true) => return Ok(()),
            Ok(false) => "the folder is not empty",
            Err(error) => return Err(failed("look into", place, error)),
        },
    };
    let message = format!("{} is there already: {what}", place.display());
    Err(Failure::new(Exit::Environment, "HOME-EXISTS", message).hint(
        "a home is made once, and never over what is there: name another folder, or move what is there away, and keep it",
    ))
}

/// A folder that goes when it did not become a home.
#[derive(Debug)]
pub struct Making {
    folder: PathBuf,
    place: PathBuf,
    lock: File,
    settled: bool,
}

impl Making {
    /// Begins a home for a place where nothing is, whose parent folder must exist; instead of one that was never finished.
    ///
    /// # Errors
    /// HOME-EXISTS, HOME-BUSY, HOME-NAME, HOME-NOT-MADE.
    pub fn begin(place: &Path) -> Result<Self, Failure> {
        expect_free(place)?;
        let name = place.file_name().ok_or_else(|| {
            let message = format!("{} names no folder", place.display());
            Failure::new(Exit::Usage, "HOME-NAME", message).hint("name a folder that can be made")
        })?;
        // Beside it also if what was given ends with a slash.
        let mut part = name.to_owned();
        part.push(".part");
        let folder = place.with_file_name(part);
        let mark = mark(name);
        clear(&folder, &mark)?;
        let made = DirBuilder::new().mode(0o700).create(&folder);
        made.map_err(|error| failed("make", &folder, error))?;
        match lock(&folder, &mark) {
            Ok(lock) => Ok(Self {
                folder,
                place: place.to_owned(),
                lock,
                settled: false,
            }),
            Err(error) => {
                // Only if nobody else is at it.
                let _ = fs::remove_dir(&folder);
                Err(failed("make", &folder, error))
            }
        }
    }

    /// Where it is filled. Its file `lock` is there.
    #[must_use]
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// Puts it into its place; what is in it lasts already.
    ///
    /// # Errors
    /// HOME-EXISTS, HOME-NOT-MADE: with [`Exit::Unknown`] where nobody knows whether it will be there after a power cut.
    pub fn place(self) -> Result<(), Failure> {
        self.place_by(|folder| File::open(folder).and_then(|folder| folder.sync_all()))
    }

    fn place_by(mut self, sync: impl Fn(&Path) -> io::Result<()>) -> Result<(), Failure> {
        sync(&self.folder).map_err(|error| failed("sync", &self.folder, error))?;
        if let Err(error) = fs::rename(&self.folder, &self.place) {
            // Something came there meanwhile; an empty folder gives way.
            expect_free(&self.place)?;
            return Err(failed("rename", &self.folder, error));
        }
        self.settled = true;
        let parent = match self.place.parent() {
            Some(parent) if parent != Path::new("") => parent.to_owned(),
            _ => PathBuf::from("."),
        };
        if let Err(error) = sync(&parent) {
            return Err(self.take_back(failed("sync", &parent, error), || sync(&parent)));
        }
        // A home that says it is in the making would be cleared, should anybody give it the name of one.
        let lock = self.place.join(LOCK);
        let emptied = self.lock.set_len(0).and_then(|()| sync(&lock));
        emptied.map_err(|error| Failure {
            exit: Exit::Unknown,
            ..failed("sync", &lock, error).hint(IN_PLACE)
        })
    }

    /// A name that may not last is taken away again: of a home that is there nobody is told that it could not be made. What is
    /// in it is deleted once that lasts, and else kept: after a power cut the name may be back, and must not stand for half a
    /// home.
    fn take_back(&mut self, failure: Failure, sync: impl FnOnce() -> io::Result<()>) -> Failure {
        let unknown = |failure| Failure {
            exit: Exit::Unknown,
            ..failure
        };
        if fs::rename(&self.place, &self.folder).is_err() {
            return unknown(failure).hint(IN_PLACE);
        }
        self.settled = sync().is_err();
        if !self.settled {
            return failure;
        }
        unknown(failure).hint(format!(
            "put the disk right first; if {} is there then, it is complete; if it is not, run the same again, which removes {}",
            self.place.display(),
            self.folder.display()
        ))
    }
}

impl Drop for Making {
    fn drop(&mut self) {
        if !self.settled {
            // What is left of the attempt is of no use; the reason why it failed is what counts.
            let _ = fs::remove_dir_all(&self.folder);
        }
    }
}

fn failed(action: &str, path: &Path, error: io::Error) -> Failure {
    let message = format!("cannot {action} {}", path.display());
    Failure::new(Exit::Environment, "HOME-NOT-MADE", message)
        .cause(error)
        .hint("check that its parent folder exists, belongs to this user and has space")
}

/// What the lock of a home says that is in the making for a place of this name.
fn mark(name: &OsStr) -> Vec<u8> {
    [IN_THE_MAKING, name.as_bytes(), b"\n"].concat()
}

/// The lock of a new home, locked, before anything else is in it.
fn lock(folder: &Path, mark: &[u8]) -> io::Result<File> {
    let mut options = OpenOptions::new();
    let options = options.read(true).write(true).create_new(true).mode(0o600);
    let path = folder.join(LOCK);
    let mut lock = options.open(&path)?;
    lock.try_lock()?;
    match lock.write_all(mark).and_then(|()| lock.sync_all()) {
        Ok(()) => Ok(lock),
        Err(error) => {
            let _ = fs::remove_file(path);
            Err(error)
        }
    }
}

/// Removes a home that was never finished, if that is what is there.
fn clear(folder: &Path, mark: &[u8]) -> Result<(), Failure> {
    match fs::symlink_metadata(folder) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(failed("look at", folder, error)),
        Ok(_) => {}
    }
    let shown = folder.display();
    match left(folder, mark) {
        Ok(Left::Unfinished(_lock)) => {
            fs::remove_dir_all(folder).map_err(|error| failed("remove", folder, error))
        }
        // Nothing that anybody could miss.
        Ok(Left::Empty) => fs::remove_dir(folder).map_err(|error| failed("remove", folder, error)),
        Ok(Left::InTheMaking) => {
            let message = format!("another command is making a home in {shown}");
            Err(Failure::new(Exit::Environment, "HOME-BUSY", message)
                .hint("wait until it is done, then run this again"))
        }
        Ok(Left::Another) => {
            let message = format!(
                "{shown} is there already, where the home would be made, and is no home that was left unfinished"
            );
            Err(Failure::new(Exit::Environment, "HOME-EXISTS", message).hint(
                "nothing of it was touched: look at what it is and move it away, or name another folder for the home",
            ))
        }
        Err(error) => Err(failed("look at", folder, error)),
    }
}

/// What is in the place where a home would be made.
enum Left {
    /// What a run left that is over; its lock is held from here on.
    Unfinished(File),
    /// Somebody is at it.
    InTheMaking,
    Empty,
    Another,
}

fn left(folder: &Path, mark: &[u8]) -> io::Result<Left> {
    if !fs::symlink_metadata(folder)?.is_dir() {
        return Ok(Left::Another);
    }
    if fs::read_dir(folder)?.next().is_none() {
        return Ok(Left::Empty);
    }
    let path = folder.join(LOCK);
    if !fs::symlink_metadata(&path).is_ok_and(|found| found.is_file()) {
        return Ok(Left::Another);
    }
    let mut lock = OpenOptions::new().read(true).write(true).open(&path)?;
    if !says(folder, &mut lock, mark)? {
        return Ok(Left::Another);
    }
    match lock.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => return Ok(Left::InTheMaking),
        Err(TryLockError::Error(error)) => return Err(error),
    }
    // It may have come to its place just now.
    let there = fs::symlink_metadata(folder).is_ok_and(|found| found.is_dir());
    Ok(match there && says(folder, &mut lock, mark)? {
        true => Left::Unfinished(lock),
        false => Left::Another,
    })
}

/// Whether the lock says that the home is in the making. A run that was killed while it wrote that had put nothing beside it yet.
fn says(folder: &Path, lock: &mut File, mark: &[u8]) -> io::Result<bool> {
    let mut said = Vec::new();
    lock.rewind()?;
    (&*lock)
        .take(mark.len() as u64 + 1)
        .read_to_end(&mut said)?;
    Ok(said == mark || mark.starts_with(&said) && fs::read_dir(folder)?.nth(1).is_none())
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;

    /// What a killed run leaves for a home `NAME` in this folder.
    fn leave(place: &Path) -> PathBuf {
        let making = Making::begin(place).unwrap();
        let folder = making.folder().to_owned();
        fs::create_dir(folder.join("record")).unwrap();
        fs::write(folder.join("record/something"), b"half").unwrap();
        let copy = folder.with_extension("copy");
        fs::rename(&folder, &copy).unwrap();
        drop(making);
        fs::rename(&copy, &folder).unwrap();
        folder
    }

    #[test]
    fn what_a_killed_run_left_is_cleared_and_nothing_else_is() {
        let temporary = tempfile::tempdir().unwrap();
        let place = temporary.path().join("home");
        let folder = leave(&place);
        assert!(folder.join("record/something").exists());
        let making = Making::begin(&place).unwrap();
        assert_eq!(making.folder(), folder);
        assert!(!folder.join("record").exists());
        // While somebody is at it, it is theirs.
        let second = Making::begin(&place).map(drop).unwrap_err();
        assert_eq!(second.code, "HOME-BUSY");
        making.place().unwrap();
        assert!(place.join("lock").exists() && !folder.exists());

        // A home that somebody called so.
        let named = temporary.path().join("named");
        let whole = temporary.path().join("named.part");
        let making = Making::begin(&whole).unwrap();
        fs::write(making.folder().join("config.toml"), b"whole").unwrap();
        // A run that was killed behind the renaming.
        fs::rename(making.folder(), &whole).unwrap();
        drop(making);
        let refused = Making::begin(&named).map(drop).unwrap_err();
        assert_eq!(refused.code, "HOME-EXISTS");
        assert!(whole.join("lock").exists());
        // And what is no home at all.
        for (name, of) in [
            ("a", None),
            ("b", Some(&b""[..])),
            ("c", Some(&b"own notes"[..])),
        ] {
            let other = temporary.path().join(format!("{name}.part"));
            fs::create_dir(&other).unwrap();
            fs::write(other.join("kept"), b"kept").unwrap();
            if let Some(of) = of {
                fs::write(other.join("lock"), of).unwrap();
            }
            let refused = Making::begin(&temporary.path().join(name)).map(drop);
            assert_eq!(refused.unwrap_err().code, "HOME-EXISTS");
            assert!(other.join("kept").exists());
        }
        let linked = leave(&temporary.path().join("elsewhere"));
        std::os::unix::fs::symlink(&linked, temporary.path().join("d.part")).unwrap();
        let refused = Making::begin(&temporary.path().join("d")).map(drop);
        assert_eq!(refused.unwrap_err().code, "HOME-EXISTS");
        assert!(linked.join("record/something").exists());
        // Killed while it began: its lock is there, and does not say all yet.
        for said in [&b""[..], b"a home of"] {
            let begun = temporary.path().join("g.part");
            fs::create_dir(&begun).unwrap();
            fs::write(begun.join("lock"), said).unwrap();
            Making::begin(&temporary.path().join("g"))
                .map(drop)
                .unwrap();
            assert!(!begun.exists());
        }
        // A place that was given with a slash at its end is the same.
        let place = temporary.path().join("f/");
        Making::begin(&place).unwrap().place().unwrap();
        assert!(place.join("lock").exists());
        // An empty folder is nobody's.
        fs::create_dir(temporary.path().join("e.part")).unwrap();
        Making::begin(&temporary.path().join("e"))
            .map(drop)
            .unwrap();
        assert!(!temporary.path().join("e.part").exists());
    }

    #[test]
    fn a_name_that_may_not_last_is_taken_away_again_or_the_home_is_said_to_be_there() {
        let temporary = tempfile::tempdir().unwrap();
        let place = temporary.path().join("home");
        let parent = temporary.path();
        let failures = |of: &Path, left: &Cell<u32>| match of == parent && left.get() > 0 {
            true => {
                left.set(left.get() - 1);
                Err(io::Error::other("the disk"))
            }
            false => Ok(()),
        };
        let (once, always) = (Cell::new(1), Cell::new(9));
        let making = Making::begin(&place).unwrap();
        let failure = making.place_by(|of| failures(of, &once)).unwrap_err();
        assert_eq!(
            (failure.exit, &*failure.code),
            (Exit::Environment, "HOME-NOT-MADE")
        );
        assert_eq!(fs::read_dir(parent).unwrap().count(), 0);
        // What may be back after a power cut is kept whole.
        let making = Making::begin(&place).unwrap();
        fs::write(making.folder().join("config.toml"), b"whole").unwrap();
        let failure = making.place_by(|of| failures(of, &always)).unwrap_err();
        assert_eq!(
            (failure.exit, &*failure.code),
            (Exit::Unknown, "HOME-NOT-MADE")
        );
        assert!(parent.join("home.part/config.toml").exists() && !place.exists());
        // What stands in its former place keeps it from going back.
        let taken = |of: &Path| {
            if of == parent {
                fs::create_dir(parent.join("home.part")).unwrap();
                fs::write(parent.join("home.part/other"), b"").unwrap();
                return Err(io::Error::other("the disk"));
            }
            Ok(())
        };
        let failure = Making::begin(&place).unwrap().place_by(taken).unwrap_err();
        assert_eq!(failure.exit, Exit::Unknown);
        assert!(place.join("lock").exists() && parent.join("home.part/other").exists());
    }

    #[test]
    fn that_a_home_is_no_longer_in_the_making_lasts_or_is_said() {
        let temporary = tempfile::tempdir().unwrap();
        let place = temporary.path().join("home");
        let lock = place.join("lock");
        // Synced when it says nothing any more.
        let synced = Cell::new(None);
        let sync = |of: &Path| {
            if of == lock {
                synced.set(Some(fs::read(&lock)?.len()));
            }
            Ok(())
        };
        Making::begin(&place).unwrap().place_by(sync).unwrap();
        assert_eq!(synced.get(), Some(0));
        fs::remove_dir_all(&place).unwrap();
        let fails = |of: &Path| match of == lock {
            true => Err(io::Error::other("the disk")),
            false => Ok(()),
        };
        let failure = Making::begin(&place).unwrap().place_by(fails).unwrap_err();
        assert_eq!(failure.exit, Exit::Unknown);
        assert!(lock.exists());
    }

    #[test]
    fn what_came_to_its_place_meanwhile_is_not_written_over() {
        let temporary = tempfile::tempdir().unwrap();
        let place = temporary.path().join("home");
        fs::create_dir(&place).unwrap();
        Making::begin(&place).unwrap().place().unwrap();
        assert!(place.join("lock").exists());
        let (other, file) = (
            temporary.path().join("other"),
            temporary.path().join("file"),
        );
        for making in [
            Making::begin(&other).unwrap(),
            Making::begin(&file).unwrap(),
        ] {
            let _ = fs::create_dir(&other);
            fs::write(other.join("kept"), b"kept").unwrap();
            fs::write(&file, b"kept").unwrap();
            assert_eq!(making.place().unwrap_err().code, "HOME-EXISTS");
        }
        assert_eq!(
            fs::read(file).unwrap(),
            fs::read(other.join("kept")).unwrap()
        );
    }
}
