//! A home in the making: it is filled beside its place, and put there when it is whole. A run that was killed leaves it behind;
//! the next one for the same place clears it.
//!
//! The folder is `HOME.part`. Its file `lock` says that it is in the making until it is whole, and is locked by who fills it: what
//! does not say so is another's, whatever its name, and is never touched.

use std::fs::{self, DirBuilder, File, OpenOptions, TryLockError};
use std::io::{self, Read as _, Seek as _, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use mintmark_console::{Exit, Failure, files};

use super::{Home, busy, io as failed};
use crate::config::Config;
use crate::failure;

/// What the lock says until the home is whole.
const IN_THE_MAKING: &[u8] = b"a home of mintmark in the making, which is not whole\n";

/// A folder that goes when it did not become a home.
pub(crate) struct Making {
    folder: PathBuf,
    place: PathBuf,
    lock: File,
    placed: bool,
}

impl Making {
    /// Begins a home for a place where nothing is, instead of one that was never finished.
    pub(crate) fn begin(place: &Path) -> Result<Self, Failure> {
        Home::expect_free(place)?;
        let name = place.file_name().ok_or_else(|| {
            let message = format!("{} names no folder", place.display());
            failure::usage("HOME-INVALID", message, "name a folder that can be made")
        })?;
        // Beside it also if what was given ends with a slash.
        let mut part = name.to_owned();
        part.push(".part");
        let folder = place.with_file_name(part);
        clear(&folder)?;
        if let Some(parent) = place.parent() {
            super::make_folder(parent)?;
        }
        let made = DirBuilder::new().mode(0o700).create(&folder);
        made.map_err(|error| failed(&folder, error))?;
        match lock(&folder) {
            Ok(lock) => Ok(Self {
                folder,
                place: place.to_owned(),
                lock,
                placed: false,
            }),
            Err(error) => {
                let _ = fs::remove_dir_all(&folder);
                Err(failed(&folder, error))
            }
        }
    }

    /// Where it is filled.
    pub(crate) fn folder(&self) -> &Path {
        &self.folder
    }

    /// Writes down what it is.
    pub(crate) fn configure(&self, config: &Config) -> Result<(), Failure> {
        super::make_folder(&self.folder.join("record"))?;
        files::write_new(Config::file(&self.folder), &config.to_bytes()?)?;
        Ok(())
    }

    /// Puts it into its place.
    pub(crate) fn place(self) -> Result<(), Failure> {
        self.place_by(|folder| File::open(folder).and_then(|folder| folder.sync_all()))
    }

    fn place_by(mut self, sync: impl Fn(&Path) -> io::Result<()>) -> Result<(), Failure> {
        let (folder, place) = (&self.folder, &self.place);
        let whole = self.lock.set_len(0).and_then(|()| self.lock.sync_all());
        whole
            .and_then(|()| sync(folder))
            // An empty folder that is there gives way.
            .and_then(|()| fs::rename(folder, place))
            .map_err(|error| failed(place, error))?;
        let parent = place.parent().unwrap_or(Path::new("/"));
        let Err(error) = sync(parent) else {
            self.placed = true;
            return Ok(());
        };
        // A name that may not last is taken away again: of a home that is there nobody is told that it could not be made.
        let error = failed(parent, error);
        if fs::rename(place, folder).is_ok() {
            return Err(error);
        }
        self.placed = true;
        Err(Failure { exit: Exit::Unknown, ..error }.hint(
            "the home is there and complete, but its name may not outlast a power cut: go on with it once its disk is right",
        ))
    }
}

impl Drop for Making {
    fn drop(&mut self) {
        if !self.placed {
            // What is left of the attempt is of no use; the reason why it failed is what counts.
            let _ = fs::remove_dir_all(&self.folder);
        }
    }
}

/// The lock of a new home, locked, before anything else is in it.
fn lock(folder: &Path) -> io::Result<File> {
    let mut options = OpenOptions::new();
    let options = options.read(true).write(true).create_new(true).mode(0o600);
    let mut lock = options.open(folder.join("lock"))?;
    lock.try_lock()?;
    lock.write_all(IN_THE_MAKING)?;
    lock.sync_all()?;
    Ok(lock)
}

/// Removes a home that was never finished, if that is what is there.
fn clear(folder: &Path) -> Result<(), Failure> {
    match fs::symlink_metadata(folder) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(failed(folder, error)),
        Ok(_) => {}
    }
    match left(folder) {
        Ok(Left::Unfinished(_lock)) => {
            fs::remove_dir_all(folder).map_err(|error| failed(folder, error))
        }
        // Nothing that anybody could miss.
        Ok(Left::Empty) => fs::remove_dir(folder).map_err(|error| failed(folder, error)),
        Ok(Left::InTheMaking) => Err(busy(folder)),
        Ok(Left::Another) => {
            let message = format!(
                "{} is there already, where the home would be made, and is no home that was left unfinished",
                folder.display()
            );
            Err(Failure::new(Exit::Environment, "HOME-EXISTS", message).hint(
                "nothing of it was touched: look at what it is and move it away, or choose another folder for the home",
            ))
        }
        Err(error) => Err(failed(folder, error)),
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

fn left(folder: &Path) -> io::Result<Left> {
    if !fs::symlink_metadata(folder)?.is_dir() {
        return Ok(Left::Another);
    }
    if fs::read_dir(folder)?.next().is_none() {
        return Ok(Left::Empty);
    }
    let path = folder.join("lock");
    if !fs::symlink_metadata(&path).is_ok_and(|found| found.is_file()) {
        return Ok(Left::Another);
    }
    let mut lock = OpenOptions::new().read(true).write(true).open(&path)?;
    let mut said = Vec::new();
    let bytes_max = IN_THE_MAKING.len() as u64 + 1;
    (&lock).take(bytes_max).read_to_end(&mut said)?;
    if said != IN_THE_MAKING {
        return Ok(Left::Another);
    }
    match lock.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => return Ok(Left::InTheMaking),
        Err(TryLockError::Error(error)) => return Err(error),
    }
    // It may have become whole just now.
    lock.rewind()?;
    said.clear();
    (&lock).take(bytes_max).read_to_end(&mut said)?;
    Ok(match said == IN_THE_MAKING {
        true => Left::Unfinished(lock),
        false => Left::Another,
    })
}

#[cfg(test)]
mod tests {
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
        Making::begin(&whole).unwrap().place().unwrap();
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
        let fails = |of: &Path| match of == temporary.path() {
            true => Err(io::Error::other("the disk")),
            false => Ok(()),
        };
        let failure = Making::begin(&place).unwrap().place_by(fails).unwrap_err();
        assert_eq!(failure.exit, Exit::Environment);
        assert_eq!(fs::read_dir(temporary.path()).unwrap().count(), 0);
        // What stands in its former place now keeps it from going back.
        let taken = |of: &Path| {
            if of == temporary.path() {
                fs::create_dir(temporary.path().join("home.part")).unwrap();
                fs::write(temporary.path().join("home.part/other"), b"").unwrap();
            }
            fails(of)
        };
        let failure = Making::begin(&place).unwrap().place_by(taken).unwrap_err();
        assert_eq!(failure.exit, Exit::Unknown);
        assert!(place.join("lock").exists());
        assert!(temporary.path().join("home.part/other").exists());
    }
}
