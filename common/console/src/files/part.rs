//! A file on its way to its name.

use super::{Error, Folder, Operation};
use rustix::fs::{
    Advice, AtFlags, Mode, OFlags, RenameFlags, fadvise, fchmod, fsync, linkat, openat, renameat,
    renameat_with, unlinkat,
};
use rustix::io::Errno;
use std::borrow::Cow;
use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::OwnedFd;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};

/// What a file is to hold. It can be read any number of times, always from its start.
pub(super) enum Content<'a> {
    Bytes(&'a [u8]),
    File(&'a File),
}

/// A file that is written and synced but has no lasting name yet; dropped without one, it is removed.
#[must_use]
pub(super) struct Part<'a> {
    folder: &'a Folder,
    operation: Operation,
    name: Cow<'a, OsStr>,
    part_name: OsString,
    settled: bool,
}

/// How many names of interrupted writers are stepped over.
const NAMES_TRIED_MAX: u64 = 1_000;
const CHUNK_BYTES: usize = 64 * 1_024;

impl<'a> Part<'a> {
    /// Writes and syncs a file beside `name`.
    pub(super) fn write(
        folder: &'a Folder,
        operation: Operation,
        name: Cow<'a, OsStr>,
        content: &Content<'_>,
        mode: u32,
    ) -> io::Result<Self> {
        let (part, file) = Self::begin(folder, operation, name, content, mode)?;
        fsync(&file)?;
        Ok(part)
    }

    /// Writes a file beside `name`; the caller syncs it, together with others, before it gets its name.
    pub(super) fn write_unsynced(
        folder: &'a Folder,
        operation: Operation,
        name: Cow<'a, OsStr>,
        content: &Content<'_>,
        mode: u32,
    ) -> io::Result<Self> {
        Self::begin(folder, operation, name, content, mode).map(|(part, _)| part)
    }

    /// A file that stands beside `name` already, written and synced.
    pub(super) fn over(folder: &'a Folder, name: &'a OsStr, part_name: OsString) -> Self {
        Self {
            folder,
            operation: Operation::Write,
            name: Cow::Borrowed(name),
            part_name,
            settled: false,
        }
    }

    fn begin(
        folder: &'a Folder,
        operation: Operation,
        name: Cow<'a, OsStr>,
        content: &Content<'_>,
        mode: u32,
    ) -> io::Result<(Self, File)> {
        let (descriptor, part_name) = create(folder, &name)?;
        let part = Self {
            folder,
            operation,
            name,
            part_name,
            settled: false,
        };
        // Set apart from the creation, whose mode the umask narrows.
        match fchmod(&descriptor, Mode::from_raw_mode(mode)) {
            // Media without modes refuse to change them.
            Err(_) if operation == Operation::WriteMedia => {}
            changed => changed?,
        }
        let mut file = File::from(descriptor);
        content.copy_to(&mut file)?;
        Ok((part, file))
    }

    /// Gives the file its name unless something has it.
    pub(super) fn place(mut self, path: &Path) -> Result<(), Error> {
        let placed = match self.rename_new() {
            // The kernel or the file system does not know the flag.
            Err(Errno::INVAL | Errno::NOSYS | Errno::NOTSUP) => self.link_new(),
            placed => placed,
        };
        placed.map_err(|error| Error::new(self.operation, path, error))
    }

    /// Gives the file its name, in place of what may have it.
    pub(super) fn replace(mut self, path: &Path) -> Result<(), Error> {
        self.rename()
            .map_err(|error| Error::new(self.operation, path, error))
    }

    /// Whether the medium itself, not the page cache, holds what was written.
    pub(super) fn holds(&self, expected: &Content<'_>) -> io::Result<bool> {
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let descriptor = openat(
            self.folder.descriptor(),
            &self.part_name,
            flags,
            Mode::empty(),
        )?;
        let file = File::from(descriptor);
        // The pages were just synced, so all of them can go.
        drop_cache(&file)?;
        expected.equals(&Content::File(&file))
    }

    fn rename(&mut self) -> Result<(), Errno> {
        let folder = self.folder.descriptor();
        renameat(folder, &self.part_name, folder, &*self.name)?;
        self.settled = true;
        Ok(())
    }

    fn rename_new(&mut self) -> Result<(), Errno> {
        let folder = self.folder.descriptor();
        renameat_with(
            folder,
            &self.part_name,
            folder,
            &*self.name,
            RenameFlags::NOREPLACE,
        )?;
        self.settled = true;
        Ok(())
    }

    fn link_new(&mut self) -> Result<(), Errno> {
        let folder = self.folder.descriptor();
        match linkat(
            folder,
            &self.part_name,
            folder,
            &*self.name,
            AtFlags::empty(),
        ) {
            // No links either, as on FAT.
            Err(Errno::PERM | Errno::NOTSUP | Errno::NOSYS | Errno::INVAL) => self.claim_new(),
            // The other name goes when this is dropped.
            linked => linked,
        }
    }

    /// Claims the name with an empty file, which the rename then replaces.
    ///
    /// A crash between the two leaves the empty file behind. That is the lesser evil: it fails to parse, whereas a
    /// check before a plain rename could silently overwrite what came between.
    fn claim_new(&mut self) -> Result<(), Errno> {
        create_new(self.folder, &self.name)?;
        self.rename().inspect_err(|_| {
            let _ = unlinkat(self.folder.descriptor(), &*self.name, AtFlags::empty());
        })
    }
}

impl Drop for Part<'_> {
    fn drop(&mut self) {
        if !self.settled {
            // What cannot be removed is ignored by every reader.
            let _ = unlinkat(self.folder.descriptor(), &self.part_name, AtFlags::empty());
        }
    }
}

impl Content<'_> {
    fn copy_to(&self, file: &mut File) -> io::Result<()> {
        match self {
            Self::Bytes(bytes) => file.write_all(bytes),
            Self::File(source) => io::copy(
                &mut FromStart {
                    file: source,
                    offset: 0,
                },
                file,
            )
            .map(drop),
        }
    }

    pub(super) fn equals(&self, other: &Content<'_>) -> io::Result<bool> {
        let (mut left, mut right) = (self.reader(), other.reader());
        let chunk = || Vec::with_capacity(CHUNK_BYTES);
        let (mut left_chunk, mut right_chunk) = (chunk(), chunk());
        loop {
            fill(&mut left, &mut left_chunk)?;
            fill(&mut right, &mut right_chunk)?;
            if left_chunk != right_chunk {
                return Ok(false);
            }
            if left_chunk.is_empty() {
                return Ok(true);
            }
        }
    }

    fn reader(&self) -> Box<dyn Read + '_> {
        match self {
            Self::Bytes(bytes) => Box::new(*bytes),
            Self::File(file) => Box::new(FromStart { file, offset: 0 }),
        }
    }
}

/// Reads a file from its start without moving the position that it shares with others.
struct FromStart<'a> {
    file: &'a File,
    offset: u64,
}

impl Read for FromStart<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.file.read_at(buffer, self.offset)?;
        self.offset += u64::try_from(count).map_err(io::Error::other)?;
        Ok(count)
    }
}

/// Has the next reading of a synced file come from where it is stored. A file system in memory may not care.
pub(super) fn drop_cache(file: &File) -> io::Result<()> {
    Ok(fadvise(file, 0, None, Advice::DontNeed)?)
}

fn fill(reader: &mut dyn Read, chunk: &mut Vec<u8>) -> io::Result<()> {
    chunk.clear();
    let chunk_bytes = u64::try_from(CHUNK_BYTES).map_err(io::Error::other)?;
    reader.take(chunk_bytes).read_to_end(chunk).map(drop)
}

pub(super) fn create(folder: &Folder, name: &OsStr) -> Result<(OwnedFd, OsString), Errno> {
    static NUMBER: AtomicU64 = AtomicU64::new(0);
    for _ in 0..NAMES_TRIED_MAX {
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let mut part_name = name.to_owned();
        part_name.push(format!(".{}-{number}.part", std::process::id()));
        match create_new(folder, &part_name) {
            Ok(descriptor) => return Ok((descriptor, part_name)),
            // Left by an interrupted process that had the same number.
            Err(Errno::EXIST) => {}
            Err(error) => return Err(error),
        }
    }
    Err(Errno::EXIST)
}

fn create_new(folder: &Folder, name: &OsStr) -> Result<OwnedFd, Errno> {
    let flags = OFlags::RDWR | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    openat(folder.descriptor(), name, flags, Mode::RUSR | Mode::WUSR)
}

/// Whether the writer of a part is no more, as far as this machine knows.
pub(super) fn is_gone(process: u32) -> bool {
    process != std::process::id() && !Path::new("/proc").join(process.to_string()).exists()
}

/// The file that a part is to become, and the process that is writing it: `<name>.<process>-<number>.part`.
pub(super) fn part_of(part: &OsStr) -> Option<(&str, u32)> {
    let (name, writer) = part.to_str()?.strip_suffix(".part")?.rsplit_once('.')?;
    let (process, number) = writer.split_once('-')?;
    number.parse::<u64>().ok()?;
    Some((name, process.parse().ok()?))
}
