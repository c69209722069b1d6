//! Parts of a home that are made again, kept until that is done.

use std::fs;
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};

use crate::failure::{Error, Result};

/// What stands in the home under another name, `<name>.old`. Dropped before it is discarded, it is put back.
#[derive(Debug)]
pub(crate) struct Aside {
    /// Where each part was, and where it is now.
    parts: Vec<(PathBuf, PathBuf)>,
}

impl Aside {
    /// Sets aside the parts of `home` that are there. What an interruption left under the other name is removed.
    pub(super) fn of(home: &Path, names: &[&str]) -> Result<Self> {
        let mut aside = Self { parts: Vec::new() };
        for name in names {
            let (path, kept) = (home.join(name), home.join(format!("{name}.old")));
            remove(&kept).map_err(|error| failed("remove", &kept, error))?;
            match fs::rename(&path, &kept) {
                Ok(()) => aside.parts.push((path, kept)),
                Err(error) if error.kind() == ErrorKind::NotFound => {}
                Err(error) => return Err(failed("set aside", &path, error)),
            }
        }
        Ok(aside)
    }

    /// What was set aside was made again and is needed no more.
    pub(crate) fn discard(mut self) -> Result<()> {
        for (_, kept) in std::mem::take(&mut self.parts) {
            remove(&kept).map_err(|error| failed("remove", &kept, error))?;
        }
        Ok(())
    }
}

impl Drop for Aside {
    fn drop(&mut self) {
        for (path, kept) in self.parts.drain(..) {
            // What cannot be put back stays beside it: it follows from the log, which is as it was.
            let _ = remove(&path).and_then(|()| fs::rename(&kept, &path));
        }
    }
}

/// Removes a file or a folder, if there is one; of a link only the link.
fn remove(path: &Path) -> io::Result<()> {
    let removed = match fs::symlink_metadata(path) {
        Ok(found) if found.is_dir() => fs::remove_dir_all(path),
        Ok(_) => fs::remove_file(path),
        Err(error) => Err(error),
    };
    match removed {
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
        removed => removed,
    }
}

fn failed(action: &str, path: &Path, error: io::Error) -> Error {
    let message = format!("cannot {action} {}", path.display());
    Error::environment("HOME-UNREADABLE", message).cause(error)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_set_aside_is_put_back_unless_it_is_discarded() {
        let home = tempfile::tempdir().unwrap();
        let (index, snapshot) = (home.path().join("index"), home.path().join("snapshot"));
        fs::create_dir(&index).unwrap();
        fs::write(index.join("lock"), "old").unwrap();
        fs::write(&snapshot, "old").unwrap();
        let names = ["index", "snapshot", "absent"];
        let aside = Aside::of(home.path(), &names).unwrap();
        assert!(!index.exists() && !snapshot.exists());
        fs::create_dir(&index).unwrap();
        fs::write(&snapshot, "half").unwrap();
        drop(aside);
        assert_eq!(fs::read(index.join("lock")).unwrap(), b"old");
        assert_eq!(fs::read(&snapshot).unwrap(), b"old");
        let aside = Aside::of(home.path(), &names).unwrap();
        fs::write(&snapshot, "new").unwrap();
        aside.discard().unwrap();
        assert_eq!(fs::read(&snapshot).unwrap(), b"new");
        assert_eq!(fs::read_dir(home.path()).unwrap().count(), 1);
    }
}
