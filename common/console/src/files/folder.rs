//! A folder held open, in which names are resolved without following links.

use super::nameless::{Nameless, Taken};
use super::part::{Content, Part, is_gone, part_of};
use super::{Error, Kind, Operation};
use rustix::fs::{
    AtFlags, CWD, Dir, FileType, Mode, OFlags, fstat, fsync, mkdirat, openat, statat, syncfs,
    unlinkat,
};
use rustix::io::Errno;
use std::borrow::Cow;
use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::Read;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

/// A folder held open.
///
/// Everything below it is reached by single names, none of which may be a link, so whoever prepared a medium cannot
/// lead a reader or writer out of it. The folder stays the same one even if its path comes to mean another.
#[derive(Debug)]
pub struct Folder {
    descriptor: OwnedFd,
    path: PathBuf,
    nameless: Taken,
}

/// A file of a folder that is written, has no name yet and does not last yet; see [`Folder::begin_public_new`].
#[must_use]
pub struct Unplaced<'a> {
    name: Cow<'a, OsStr>,
    written: Written<'a>,
}

/// How a file is written that is to get its name.
enum Written<'a> {
    /// Under no name.
    Nameless(Nameless),
    /// Beside its name.
    Part(Part<'a>),
}

/// What a folder holds under one name.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Entry {
    /// The name, as foreign as the folder.
    pub name: OsString,
    /// What it was when the folder was listed; opening looks again.
    pub kind: EntryKind,
}

/// What a name stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum EntryKind {
    /// A regular file.
    File,
    /// A folder.
    Folder,
    /// A link, pipe, device or socket, none of which is ever opened.
    Other,
}

const FOLDER_MODE_PRIVATE: u32 = 0o700;
pub(super) const FOLDER_MODE_PUBLIC: u32 = 0o755;
pub(super) const FILE_MODE_PRIVATE: u32 = 0o600;
pub(super) const FILE_MODE_PUBLIC: u32 = 0o644;

impl Folder {
    /// Opens the folder that the operator named; links on the way to it are the operator's own.
    ///
    /// # Errors
    /// As the operating system refuses.
    pub fn open(path: impl AsRef<Path>) -> Result<Self, Error> {
        let path = path.as_ref();
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let descriptor = openat(CWD, path, flags, Mode::empty())
            .map_err(|error| Error::new(Operation::List, path, error))?;
        Ok(Self::over(descriptor, path.to_owned()))
    }

    /// Opens a folder in this one.
    ///
    /// # Errors
    /// [`Kind::NotRegular`] if the name is a link or no folder, else as the operating system refuses.
    pub fn subfolder(&self, name: impl AsRef<OsStr>) -> Result<Self, Error> {
        let (name, path) = self.named(Operation::List, name.as_ref())?;
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC | OFlags::NOFOLLOW;
        let descriptor = openat(&self.descriptor, name, flags, Mode::empty())
            .map_err(|error| Error::new(Operation::List, &path, error))?;
        Ok(Self::over(descriptor, path))
    }

    fn over(descriptor: OwnedFd, path: PathBuf) -> Self {
        Self {
            descriptor,
            path,
            nameless: Taken::default(),
        }
    }

    /// Opens a folder in this one, making it first if there is none; its owner alone may enter (mode 0700).
    ///
    /// # Errors
    /// As [`Folder::subfolder`].
    pub fn create_subfolder(&self, name: impl AsRef<OsStr>) -> Result<Self, Error> {
        self.create(name.as_ref(), FOLDER_MODE_PRIVATE)
    }

    /// The same for a folder that everybody may enter (mode 0755), as on a medium.
    ///
    /// # Errors
    /// As [`Folder::subfolder`].
    pub fn create_public_subfolder(&self, name: impl AsRef<OsStr>) -> Result<Self, Error> {
        self.create(name.as_ref(), FOLDER_MODE_PUBLIC)
    }

    /// The path by which the folder was opened.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The entries, sorted by name, without those whose names end in `.part`.
    ///
    /// # Errors
    /// [`Kind::TooLarge`] if there are more than `entries_max`, else as the operating system refuses.
    pub fn entries(&self, entries_max: usize) -> Result<Vec<Entry>, Error> {
        let mut entries = Vec::new();
        for (name, listed) in self.names(entries_max)? {
            if !is_part(&name) {
                let kind = match listed {
                    FileType::Unknown => match self.kind_of(&name) {
                        // Somebody removed it meanwhile.
                        Err(Errno::NOENT) => continue,
                        kind => kind.map_err(|error| self.error(Operation::List, &name, error))?,
                    },
                    listed => listed,
                };
                let kind = match kind {
                    FileType::RegularFile => EntryKind::File,
                    FileType::Directory => EntryKind::Folder,
                    _ => EntryKind::Other,
                };
                entries.push(Entry { name, kind });
            }
        }
        entries.sort();
        Ok(entries)
    }

    /// Calls `each` with every name in the folder, in no order.
    ///
    /// # Errors
    /// As the operating system refuses.
    pub fn each_name(&self, mut each: impl FnMut(&OsStr)) -> Result<(), Error> {
        let failed = |error: Errno| Error::new(Operation::List, &self.path, error);
        for entry in Dir::read_from(&self.descriptor).map_err(failed)? {
            each(OsStr::from_bytes(
                entry.map_err(failed)?.file_name().to_bytes(),
            ));
        }
        Ok(())
    }

    /// See [`read_limited`](super::read_limited).
    ///
    /// # Errors
    /// As there.
    pub fn read_limited(&self, name: impl AsRef<OsStr>, bytes_max: u64) -> Result<Vec<u8>, Error> {
        let name = name.as_ref();
        self.expect_name(Operation::Read, name)?;
        let (mut file, size) = self.open_regular(name, bytes_max)?;
        let too_large = || {
            let path = self.path.join(name);
            Error::of(Operation::Read, &path, Kind::TooLarge { max: bytes_max })
        };
        let size = usize::try_from(size).map_err(|_| too_large())?;
        let failed = |error| Error::new(Operation::Read, &self.path.join(name), error);
        // The file may have grown since; one byte too many is enough to know. Mostly it has not, and this is all of it.
        let mut bytes = vec![0; size.saturating_add(1)];
        let count = file.read(&mut bytes).map_err(failed)?;
        bytes.truncate(count);
        if count != size {
            let left = bytes_max.saturating_add(1).saturating_sub(count as u64);
            file.take(left).read_to_end(&mut bytes).map_err(failed)?;
        }
        if u64::try_from(bytes.len()).is_ok_and(|length| length <= bytes_max) {
            Ok(bytes)
        } else {
            Err(too_large())
        }
    }

    /// Opens a file of at most `bytes_max` bytes for reading piece by piece, and says how long it is.
    ///
    /// The file may grow while it is read; the caller must stop at its own limit.
    ///
    /// # Errors
    /// As [`read_limited`](super::read_limited).
    pub fn open_limited(
        &self,
        name: impl AsRef<OsStr>,
        bytes_max: u64,
    ) -> Result<(File, u64), Error> {
        let (name, _) = self.named(Operation::Read, name.as_ref())?;
        self.open_regular(name, bytes_max)
    }

    /// See [`write_new`](super::write_new).
    ///
    /// # Errors
    /// As there.
    pub fn write_new(&self, name: impl AsRef<OsStr>, bytes: &[u8]) -> Result<(), Error> {
        self.write(
            Operation::Write,
            name.as_ref(),
            &Content::Bytes(bytes),
            FILE_MODE_PRIVATE,
            Part::place,
        )
    }

    /// See [`write_public_new`](super::write_public_new).
    ///
    /// # Errors
    /// As there.
    pub fn write_public_new(&self, name: impl AsRef<OsStr>, bytes: &[u8]) -> Result<(), Error> {
        self.write(
            Operation::Write,
            name.as_ref(),
            &Content::Bytes(bytes),
            FILE_MODE_PUBLIC,
            Part::place,
        )
    }

    /// Writes new files that everybody may read (mode 0644), as [`write_public_new`](super::write_public_new) writes
    /// one, but with two syncs for all of them, of which the first is of the whole file system. What came of each
    /// stands in its place.
    ///
    /// # Errors
    /// As there, for each file by itself.
    pub fn write_public_new_all(
        &self,
        files: &[(impl AsRef<OsStr>, impl AsRef<[u8]>)],
    ) -> Vec<Result<(), Error>> {
        let begun = files
            .iter()
            .map(|(name, bytes)| self.begin_public_new(name.as_ref(), bytes.as_ref()));
        self.place_all(begun.collect())
    }

    /// Writes a new file that everybody may read (mode 0644), which has neither its name yet nor lasts: both are for
    /// [`Folder::place_all`]. Dropped before that, it is removed.
    ///
    /// # Errors
    /// As the operating system refuses.
    pub fn begin_public_new<'a>(
        &'a self,
        name: impl Into<Cow<'a, OsStr>>,
        bytes: &[u8],
    ) -> Result<Unplaced<'a>, Error> {
        let operation = Operation::Write;
        let name = name.into();
        self.expect_name(operation, &name)?;
        let written = match Nameless::write(self, bytes, FILE_MODE_PUBLIC) {
            Ok(Some(nameless)) => Ok(Written::Nameless(nameless)),
            Ok(None) => {
                let (name, content) = (name.clone(), Content::Bytes(bytes));
                Part::write_unsynced(self, operation, name, &content, FILE_MODE_PUBLIC)
                    .map(Written::Part)
            }
            Err(error) => Err(error),
        };
        match written {
            Ok(written) => Ok(Unplaced { name, written }),
            Err(error) => Err(Error::new(operation, &self.path.join(&*name), error)),
        }
    }

    /// Makes files of this folder last and gives them their names, with two syncs for all of them, of which the first is
    /// of the whole file system. What came of each stands in its place.
    ///
    /// # Errors
    /// As [`write_public_new`](super::write_public_new), for each file by itself.
    pub fn place_all(&self, files: Vec<Result<Unplaced<'_>, Error>>) -> Vec<Result<(), Error>> {
        let failed = |name: &OsStr, errno: Errno| self.error(Operation::Write, name, errno);
        let synced = match files.iter().any(Result::is_ok) {
            true => syncfs(&self.descriptor),
            false => Ok(()),
        };
        let placed: Vec<Result<Cow<'_, OsStr>, Error>> = files
            .into_iter()
            .map(|file| {
                let Unplaced { name, written } = file?;
                synced.map_err(|errno| failed(&name, errno))?;
                match written {
                    Written::Part(part) => part.place(&self.path.join(&*name))?,
                    Written::Nameless(nameless) => {
                        let placed = nameless.place(self, &name);
                        placed.map_err(|errno| failed(&name, errno))?;
                    }
                }
                Ok(name)
            })
            .collect();
        let synced = match placed.iter().any(Result::is_ok) {
            true => self.sync(),
            false => Ok(()),
        };
        placed
            .into_iter()
            .map(|placed| placed.and_then(|name| synced.map_err(|errno| failed(&name, errno))))
            .collect()
    }

    /// See [`write_replace`](super::write_replace).
    ///
    /// # Errors
    /// As there.
    pub fn write_replace(&self, name: impl AsRef<OsStr>, bytes: &[u8]) -> Result<(), Error> {
        self.write(
            Operation::Write,
            name.as_ref(),
            &Content::Bytes(bytes),
            FILE_MODE_PRIVATE,
            Part::replace,
        )
    }

    /// See [`write_public_replace`](super::write_public_replace).
    ///
    /// # Errors
    /// As there.
    pub fn write_public_replace(&self, name: impl AsRef<OsStr>, bytes: &[u8]) -> Result<(), Error> {
        self.write(
            Operation::Write,
            name.as_ref(),
            &Content::Bytes(bytes),
            FILE_MODE_PUBLIC,
            Part::replace,
        )
    }

    /// Removes a file; a link is removed itself.
    ///
    /// # Errors
    /// As the operating system refuses.
    pub fn remove(&self, name: impl AsRef<OsStr>) -> Result<(), Error> {
        let (name, path) = self.named(Operation::Remove, name.as_ref())?;
        unlinkat(&self.descriptor, name, AtFlags::empty())
            .and_then(|()| self.sync())
            .map_err(|error| Error::new(Operation::Remove, &path, error))
    }

    /// Removes what interrupted writers left, and says how many there were.
    ///
    /// Only for the one owner of a folder, as it would take the unfinished file of another writer too.
    ///
    /// # Errors
    /// As the operating system refuses.
    pub fn remove_parts(&self) -> Result<usize, Error> {
        let mut removed = 0;
        for (name, _) in self.names(usize::MAX)? {
            if is_part(&name) && self.kind_of(&name) == Ok(FileType::RegularFile) {
                unlinkat(&self.descriptor, &name, AtFlags::empty())
                    .map_err(|error| self.error(Operation::Remove, &name, error))?;
                removed += 1;
            }
        }
        Ok(removed)
    }

    /// Removes what writers left that were killed on this machine, and says how many files there were. Those of a writer
    /// that still runs stay.
    ///
    /// # Errors
    /// As the operating system refuses.
    pub fn remove_abandoned_parts(&self) -> Result<usize, Error> {
        let mut removed = 0;
        for (name, _) in self.names(usize::MAX)? {
            let abandoned = part_of(&name).is_some_and(|(_, process)| is_gone(process));
            if abandoned && self.kind_of(&name) == Ok(FileType::RegularFile) {
                unlinkat(&self.descriptor, &name, AtFlags::empty())
                    .map_err(|error| self.error(Operation::Remove, &name, error))?;
                removed += 1;
            }
        }
        Ok(removed)
    }

    /// Removes what interrupted writers of one file left, of those that are to go by the number of their process. What cannot
    /// be removed is ignored by every reader.
    pub(super) fn remove_parts_of(&self, name: &OsStr, goes: impl Fn(u32) -> bool) {
        let Ok(entries) = Dir::read_from(&self.descriptor) else {
            return;
        };
        let is_left = |entry: &OsString| {
            part_of(entry).is_some_and(|(of, process)| OsStr::new(of) == name && goes(process))
        };
        let parts: Vec<OsString> = entries
            .map_while(Result::ok)
            .map(|entry| OsString::from_vec(entry.file_name().to_bytes().to_vec()))
            .filter(is_left)
            .collect();
        for part in parts {
            if self.kind_of(&part) == Ok(FileType::RegularFile) {
                let _ = unlinkat(&self.descriptor, &part, AtFlags::empty());
            }
        }
    }

    pub(super) fn descriptor(&self) -> &OwnedFd {
        &self.descriptor
    }

    pub(super) fn nameless(&self) -> &Taken {
        &self.nameless
    }

    /// Makes lasting what was created, renamed or removed in the folder.
    pub(super) fn sync(&self) -> Result<(), Errno> {
        match fsync(&self.descriptor) {
            // Some file systems of media cannot sync a folder alone.
            Err(Errno::INVAL | Errno::NOTSUP) => syncfs(&self.descriptor),
            synced => synced,
        }
    }

    pub(super) fn write<'a>(
        &'a self,
        operation: Operation,
        name: &'a OsStr,
        content: &Content<'_>,
        mode: u32,
        settle: impl FnOnce(Part<'a>, &Path) -> Result<(), Error>,
    ) -> Result<(), Error> {
        let (name, path) = self.named(operation, name)?;
        let part = Part::write(self, operation, Cow::Borrowed(name), content, mode)
            .map_err(|error| Error::new(operation, &path, error))?;
        settle(part, &path)?;
        self.sync()
            .map_err(|error| Error::new(operation, &path, error))
    }

    fn create(&self, name: &OsStr, mode: u32) -> Result<Self, Error> {
        let operation = Operation::CreateFolder;
        let (folder, made) = self.create_unsynced(operation, name, mode)?;
        if made {
            self.sync()
                .map_err(|error| Error::new(operation, &folder.path, error))?;
        }
        Ok(folder)
    }

    /// Opens a folder in this one, and says whether it was made for that; the caller syncs this one then.
    pub(super) fn create_unsynced(
        &self,
        operation: Operation,
        name: &OsStr,
        mode: u32,
    ) -> Result<(Self, bool), Error> {
        let (name, path) = self.named(operation, name)?;
        match mkdirat(&self.descriptor, name, Mode::from_raw_mode(mode)) {
            Ok(()) => {
                let folder = self.subfolder(name)?;
                if mode != FOLDER_MODE_PRIVATE {
                    // Widened afterwards, as the umask narrows it; a medium without modes may refuse.
                    let _ = rustix::fs::fchmod(&folder.descriptor, Mode::from_raw_mode(mode));
                }
                Ok((folder, true))
            }
            Err(Errno::EXIST) => Ok((self.subfolder(name)?, false)),
            Err(error) => Err(Error::new(operation, &path, error)),
        }
    }

    pub(super) fn open_regular(&self, name: &OsStr, bytes_max: u64) -> Result<(File, u64), Error> {
        let failed = |error: Errno| self.error(Operation::Read, name, error);
        let refused = |kind| Error::of(Operation::Read, &self.path.join(name), kind);
        // Looked at before it is opened, as opening a device may already do something.
        regular(self.kind_of(name).map_err(failed)?).map_err(refused)?;
        let flags =
            OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
        let descriptor = openat(&self.descriptor, name, flags, Mode::empty()).map_err(failed)?;
        let status = fstat(&descriptor).map_err(failed)?;
        regular(FileType::from_raw_mode(status.st_mode)).map_err(refused)?;
        match u64::try_from(status.st_size) {
            Ok(size) if size <= bytes_max => Ok((File::from(descriptor), size)),
            _ => Err(refused(Kind::TooLarge { max: bytes_max })),
        }
    }

    pub(super) fn kind_of(&self, name: &OsStr) -> Result<FileType, Errno> {
        let status = statat(&self.descriptor, name, AtFlags::SYMLINK_NOFOLLOW)?;
        Ok(FileType::from_raw_mode(status.st_mode))
    }

    /// Every name, and what it stands for, as far as the file system says so in its list.
    fn names(&self, entries_max: usize) -> Result<Vec<(OsString, FileType)>, Error> {
        let failed = |error: Errno| Error::new(Operation::List, &self.path, error);
        let mut names = Vec::new();
        for entry in Dir::read_from(&self.descriptor).map_err(failed)? {
            let entry = entry.map_err(failed)?;
            let name = entry.file_name().to_bytes().to_vec();
            if name == b"." || name == b".." {
                continue;
            }
            if names.len() == entries_max {
                let max = u64::try_from(entries_max).unwrap_or(u64::MAX);
                return Err(Error::of(
                    Operation::List,
                    &self.path,
                    Kind::TooLarge { max },
                ));
            }
            names.push((OsString::from_vec(name), entry.file_type()));
        }
        Ok(names)
    }

    /// `name` if it is one, and the path it makes for messages.
    pub(super) fn named<'a>(
        &self,
        operation: Operation,
        name: &'a OsStr,
    ) -> Result<(&'a OsStr, PathBuf), Error> {
        self.expect_name(operation, name)?;
        Ok((name, self.path.join(name)))
    }

    /// Refuses what is no name.
    fn expect_name(&self, operation: Operation, name: &OsStr) -> Result<(), Error> {
        let bytes = name.as_bytes();
        if bytes.is_empty() || bytes == b"." || bytes == b".." || bytes.contains(&b'/') {
            let path = self.path.join(name);
            return Err(Error::of(operation, &path, Kind::NameInvalid));
        }
        Ok(())
    }

    fn error(&self, operation: Operation, name: &OsStr, error: Errno) -> Error {
        Error::new(operation, &self.path.join(name), error)
    }
}

fn regular(kind: FileType) -> Result<(), Kind> {
    let found = match kind {
        FileType::RegularFile => return Ok(()),
        FileType::Symlink => "a symbolic link",
        FileType::Directory => "a folder",
        FileType::Fifo => "a pipe",
        FileType::Socket => "a socket",
        FileType::CharacterDevice | FileType::BlockDevice => "a device",
        _ => "not a regular file",
    };
    Err(Kind::NotRegular { found })
}

fn is_part(name: &OsStr) -> bool {
    name.as_bytes().ends_with(b".part")
}
