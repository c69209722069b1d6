//! A folder of a medium: what is written is read back from where it is stored, past the page cache.

use super::folder::{FILE_MODE_PUBLIC, FOLDER_MODE_PUBLIC};
use super::part::{Content, drop_cache};
use super::{Error, Folder, Kind, Operation};
use rustix::fs::fsync;
use rustix::io::Errno;
use std::ffi::OsStr;
use std::fs::File;
use std::path::Path;

impl Folder {
    /// Opens a folder of a medium, making it first if there is none; everybody may enter (mode 0755). That it is there
    /// is lasting, also where an export that was interrupted had made it.
    ///
    /// # Errors
    /// As [`Folder::subfolder`].
    pub fn create_removable_subfolder(&self, name: impl AsRef<OsStr>) -> Result<Self, Error> {
        let operation = Operation::WriteMedia;
        let (folder, _) = self.create_unsynced(operation, name.as_ref(), FOLDER_MODE_PUBLIC)?;
        self.settle(folder.path())?;
        Ok(folder)
    }

    /// See [`write_removable`](super::write_removable).
    ///
    /// # Errors
    /// As there.
    pub fn write_removable(&self, name: impl AsRef<OsStr>, bytes: &[u8]) -> Result<(), Error> {
        self.write_checked(
            name.as_ref(),
            &Content::Bytes(bytes),
            &Content::Bytes(bytes),
        )
    }

    /// Copies an open file to this folder as [`write_removable`](super::write_removable) writes bytes, without
    /// holding the whole of it in memory.
    ///
    /// # Errors
    /// As there; also if `source` changes while it is copied.
    pub fn copy_removable(&self, source: &File, name: impl AsRef<OsStr>) -> Result<(), Error> {
        self.write_checked(
            name.as_ref(),
            &Content::File(source),
            &Content::File(source),
        )
    }

    /// Whether a medium itself, not the page cache, holds exactly these bytes under this name. If so, it does so for
    /// good: what an interrupted writer left unsynced is synced.
    ///
    /// # Errors
    /// [`Kind::Missing`] if the name stands for nothing, [`Kind::NotRegular`] if for a link, folder, pipe or device, else
    /// as the operating system refuses.
    pub fn holds_removable(&self, name: impl AsRef<OsStr>, bytes: &[u8]) -> Result<bool, Error> {
        let operation = Operation::WriteMedia;
        let (name, path) = self.named(operation, name.as_ref())?;
        let expected = Content::Bytes(bytes);
        let file = match self.open_regular(name, u64::try_from(bytes.len()).unwrap_or(u64::MAX)) {
            Ok((file, _)) => file,
            Err(error) if matches!(error.kind(), Kind::TooLarge { .. }) => return Ok(false),
            Err(error) => return Err(error.during(operation, &path)),
        };
        // Only pages that are written can be dropped.
        settled(fsync(&file)).map_err(|error| Error::new(operation, &path, error))?;
        let same = drop_cache(&file)
            .and_then(|()| expected.equals(&Content::File(&file)))
            .map_err(|error| Error::new(operation, &path, error))?;
        if same {
            self.settle(&path)?;
        }
        Ok(same)
    }

    /// Writes `content` and reads back what must then be `expected`.
    pub(super) fn write_checked(
        &self,
        name: &OsStr,
        content: &Content<'_>,
        expected: &Content<'_>,
    ) -> Result<(), Error> {
        let operation = Operation::WriteMedia;
        // A medium that was pulled out keeps what was half written, and would be full of that one day.
        self.remove_parts_of(name, |_| true);
        self.write(operation, name, content, FILE_MODE_PUBLIC, |part, path| {
            let same = part
                .holds(expected)
                .map_err(|error| Error::new(operation, path, error))?;
            if !same {
                return Err(Error::of(operation, path, Kind::ReadBackMismatch));
            }
            part.replace(path)
        })
    }

    /// As [`Folder::sync`], of a medium that may be read-only by now, and then has nothing to sync.
    fn settle(&self, path: &Path) -> Result<(), Error> {
        settled(self.sync()).map_err(|error| Error::new(Operation::WriteMedia, path, error))
    }
}

/// What came of a sync where a file system that cannot be written has nothing to sync.
fn settled(synced: Result<(), Errno>) -> Result<(), Errno> {
    match synced {
        Err(Errno::ROFS) => Ok(()),
        synced => synced,
    }
}
