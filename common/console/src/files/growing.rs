//! A new file that is too large to be written in one piece.

use std::ffi::OsString;
use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, unlinkat};
use rustix::io::Errno;

use super::folder::FILE_MODE_PRIVATE;
use super::nameless::Nameless;
use super::part::{self, Part};
use super::{Error, Folder, Kind, Operation, split};

/// A file that its owner alone may read (mode 0600), written piece by piece: it gets its name when it is whole, if nothing has it.
/// Dropped before that, it is gone.
///
/// A process that is killed leaves nothing of it where the file system has files without names; else
/// `NAME.<process>-<number>.part`, which goes when a file of that name is next begun.
#[derive(Debug)]
pub struct Growing {
    folder: Folder,
    name: OsString,
    path: PathBuf,
    written: Written,
}

#[derive(Debug)]
enum Written {
    Nameless(Nameless),
    /// Beside its name, under this one.
    Part(File, OsString),
    /// It has its name.
    Placed,
}

impl Growing {
    /// Begins a file.
    ///
    /// # Errors
    /// [`Kind::Exists`] if the name is taken; else as the operating system refuses.
    pub fn begin(path: &Path) -> Result<Self, Error> {
        let operation = Operation::Write;
        let (folder, name) = split(path, operation)?;
        match folder.kind_of(&name) {
            Err(Errno::NOENT) => {}
            Ok(_) => return Err(Error::of(operation, path, Kind::Exists)),
            Err(error) => return Err(Error::new(operation, path, error)),
        }
        folder.remove_parts_of(&name, part::is_gone);
        let failed = |error: io::Error| Error::new(operation, path, error);
        let written = match Nameless::begin(&folder, FILE_MODE_PRIVATE).map_err(failed)? {
            Some(nameless) => Written::Nameless(nameless),
            None => {
                let made = part::create(&folder, &name);
                let (descriptor, part) = made.map_err(|error| failed(error.into()))?;
                Written::Part(File::from(descriptor), part)
            }
        };
        Ok(Self {
            folder,
            name,
            path: path.to_owned(),
            written,
        })
    }

    /// The file, to write to and to read from; none once it has its name.
    #[must_use]
    pub fn file(&self) -> Option<&File> {
        match &self.written {
            Written::Nameless(nameless) => Some(nameless.file()),
            Written::Part(file, _) => Some(file),
            Written::Placed => None,
        }
    }

    /// Gives the file its name, unless something has it by now. What is in it was synced before; that the name lasts, a sync
    /// of the folder sees to.
    ///
    /// # Errors
    /// [`Kind::Exists`] if the name is taken; else as the operating system refuses.
    pub fn place(mut self) -> Result<(), Error> {
        match std::mem::replace(&mut self.written, Written::Placed) {
            Written::Nameless(nameless) => nameless
                .place(&self.folder, &self.name)
                .map_err(|error| Error::new(Operation::Write, &self.path, error)),
            Written::Part(_, part) => Part::over(&self.folder, &self.name, part).place(&self.path),
            Written::Placed => Ok(()),
        }
    }
}

impl Drop for Growing {
    fn drop(&mut self) {
        if let Written::Part(_, part) = &self.written {
            // What cannot be removed is ignored by every reader.
            let _ = unlinkat(self.folder.descriptor(), part, AtFlags::empty());
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::io::{Read as _, Seek as _, SeekFrom, Write as _};

    use super::*;

    fn names(folder: &Path) -> Vec<String> {
        let entries = fs::read_dir(folder).unwrap();
        let names = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
        let mut names: Vec<_> = names.collect();
        names.sort();
        names
    }

    #[test]
    fn a_file_gets_its_name_when_it_is_whole_and_leaves_nothing_before() {
        let temporary = tempfile::tempdir().unwrap();
        let path = temporary.path().join("large");
        let growing = Growing::begin(&path).unwrap();
        growing.file().unwrap().write_all(b"half").unwrap();
        assert!(!path.exists());
        drop(growing);
        assert!(names(temporary.path()).is_empty());

        let growing = Growing::begin(&path).unwrap();
        let mut file = growing.file().unwrap();
        file.write_all(b"who").unwrap();
        file.write_all(b"le").unwrap();
        file.seek(SeekFrom::Start(0)).unwrap();
        let mut read = String::new();
        file.read_to_string(&mut read).unwrap();
        growing.place().unwrap();
        assert_eq!(
            (read.as_str(), fs::read(&path).unwrap()),
            ("whole", b"whole".to_vec())
        );
        assert_eq!(names(temporary.path()), ["large"]);
        assert!(Growing::begin(&path).unwrap_err().is_exists());
        // What came to have the name meanwhile keeps it.
        let other = temporary.path().join("other");
        let growing = Growing::begin(&other).unwrap();
        fs::write(&other, b"kept").unwrap();
        assert!(growing.place().unwrap_err().is_exists());
        assert_eq!(fs::read(&other).unwrap(), b"kept");
        assert_eq!(names(temporary.path()), ["large", "other"]);
    }

    #[test]
    fn what_a_killed_writer_left_beside_it_goes_and_what_is_being_written_stays() {
        let temporary = tempfile::tempdir().unwrap();
        // No process has so high a number.
        let own = format!("large.{}-7.part", std::process::id());
        for name in ["large.4194999-0.part", "larger.4194999-0.part", &own] {
            fs::write(temporary.path().join(name), b"half").unwrap();
        }
        let _growing = Growing::begin(&temporary.path().join("large")).unwrap();
        let left = names(temporary.path());
        assert!(
            !left.contains(&"large.4194999-0.part".to_owned()),
            "{left:?}"
        );
        for name in ["larger.4194999-0.part", &own] {
            assert!(left.contains(&name.to_owned()), "{left:?}");
        }
    }
}
