//! A log that was looked at before anything of it is changed.

use std::cell::RefCell;
use std::fs::OpenOptions;
use std::io;
use std::path::Path;

use super::disk::{Disk, OperatingSystem};
use super::file::{FileLog, Opened, SEGMENT_BYTES_MAX, Writer, lock};
use super::frame::{FRAME_BYTES_MAX, HEADER_BYTES};
use super::lock::Locked;
use super::mark::{self, Mark};
use super::recovery::{Survey, find_known, survey};
use super::regular::open_regular;
use super::segment::{self, Frames, Segments, Stop, read_up_to};
use super::{Head, link_of, torn};
use crate::StorageError;
use crate::storage_error::{io_error, is_disk_full};

/// A log that is locked for writing and surveyed. Nothing of it is changed yet: who knows how long it once was says so
/// first, and then [`Unopened::open`] cuts off what a crash left incomplete.
pub struct Unopened {
    segments: Segments,
    handle: Locked,
    found: Survey,
    disk: Box<dyn Disk>,
}

impl std::fmt::Debug for Unopened {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Unopened")
            .field("folder", &self.segments.folder)
            .field("found", &self.found)
            .finish_non_exhaustive()
    }
}

/// Reads a log from `known` on, and holds it against the mark that its writer left.
///
/// # Errors
/// As [`FileLog::open_read_only`].
pub(super) fn look(
    folder: &Path,
    known: Option<&Head>,
) -> Result<(Segments, Survey), StorageError> {
    // First: beside a writer, the mark is never ahead of files that are listed after it was read.
    let marked = mark::read(folder);
    let segments = Segments::list(folder)?;
    let found = survey(&segments, known)?;
    if let Some(marked) = marked {
        found.expect(&marked)?;
        find_known(&segments, &marked, found.head.end)?;
    }
    Ok((segments, found))
}

impl Unopened {
    /// Locks and surveys the log in `folder`; `known` as for [`FileLog::open`].
    ///
    /// # Errors
    /// As [`FileLog::open`].
    pub fn survey(folder: &Path, known: Option<Head>) -> Result<Self, StorageError> {
        Self::survey_on(folder, known, Box::new(OperatingSystem))
    }

    pub(super) fn survey_on(
        folder: &Path,
        known: Option<Head>,
        disk: Box<dyn Disk>,
    ) -> Result<Self, StorageError> {
        let handle = lock(folder)?;
        let (segments, found) = look(folder, known.as_ref())?;
        Ok(Self {
            segments,
            handle,
            found,
            disk,
        })
    }

    /// The end of the last complete group.
    #[must_use]
    pub fn head(&self) -> Head {
        self.found.head
    }

    /// Makes sure that the log has not lost anything up to `known`, a head that it once had. Whether it has that very
    /// record is not looked at.
    ///
    /// # Errors
    /// [`StorageError::LogCorrupt`] if the bytes are there and cannot be read; [`StorageError::LogTruncated`] if they
    /// are gone.
    pub fn expect(&self, known: &Head) -> Result<(), StorageError> {
        self.found.expect(known)
    }

    /// Makes sure that the log has at least `size` records, and this link behind the last of them: what somebody knows
    /// who does not know where in the files they stand.
    ///
    /// # Errors
    /// [`StorageError::LogRolledBack`] if it has fewer; [`StorageError::LogForked`] if it has others;
    /// [`StorageError::LogCorrupt`] and [`StorageError::Io`] if it cannot be read.
    pub fn expect_link(&self, size: u64, expected: &[u8; 32]) -> Result<(), StorageError> {
        let head = self.found.head;
        if size > head.size {
            return Err(StorageError::LogRolledBack {
                known: size,
                found: head.size,
            });
        }
        let found = if size == head.size {
            Some(head.link)
        } else {
            match size.checked_sub(1) {
                None => Some([0; 32]),
                Some(last) => self.link_of(last)?,
            }
        };
        if found.as_ref() == Some(expected) {
            Ok(())
        } else {
            Err(StorageError::LogForked { size })
        }
    }

    /// The link of a record that the log has, looked for from the beginning of its file.
    fn link_of(&self, sequence: u64) -> Result<Option<[u8; 32]>, StorageError> {
        let start = self.segments.position_before(sequence)?;
        let mut frames = Frames::new(self.segments.clone(), start, self.found.head.end);
        loop {
            let position = frames.position();
            match frames.next() {
                Ok(Some((frame, found))) if frame.sequence == sequence => {
                    return Ok(Some(link_of(&frame.previous, &found.digest())));
                }
                Ok(Some(_)) => {}
                Ok(None) => return Ok(None),
                Err(Stop::Unreadable(unreadable)) => {
                    return Err(StorageError::LogCorrupt {
                        sequence: None,
                        position,
                        reason: unreadable.reason(),
                    });
                }
                Err(Stop::Failed(error)) => return Err(error),
            }
        }
    }

    /// Opens the log for reading and appending. What is cut off its end is kept beside it first.
    ///
    /// # Errors
    /// [`StorageError::DiskFull`] and [`StorageError::Io`] if it could not be kept: nothing is cut then.
    /// [`StorageError::OutcomeUnknown`] when what was found could not be made durable.
    pub fn open(self) -> Result<(FileLog, Opened), StorageError> {
        let Self {
            mut segments,
            handle,
            found,
            disk,
        } = self;
        let last = segments.last();
        let path = segment::path(&segments.folder, last.base);
        let file = open_regular(OpenOptions::new().read(true).write(true), &path)
            .map_err(io_error("open", &path))?;
        let length = found.head.end.0 - last.base;

        // What was found may be in the memory of the operating system alone: the process before
        // this one may have ended between a write and its sync, or its sync may have failed, after
        // which a second sync of the same pages succeeds without having stored them. Nothing may
        // be built on that, so the only group it can have happened to is written once more.
        let unknown = |error: io::Error| StorageError::OutcomeUnknown {
            reason: format!("{}: {error}", path.display()),
        };
        let mut torn_kept = None;
        if found.torn_bytes > 0 {
            // More than a group was never torn: what lies behind that is room that the file system had set aside.
            let bytes = found.torn_bytes.min(TORN_BYTES_MAX);
            let mut cut = vec![0; usize::try_from(bytes).unwrap_or(0)];
            let read =
                read_up_to(&file, &mut cut, length).map_err(segments.read_error(last.base))?;
            cut.truncate(read);
            let kept = torn::keep(&*disk, &segments.folder, &handle, found.head.end, &cut);
            torn_kept = Some(kept.map_err(|error| {
                if is_disk_full(&error) {
                    StorageError::DiskFull {
                        path: segments.folder.clone(),
                        bytes,
                    }
                } else {
                    io_error("keep what was torn in", &segments.folder)(error)
                }
            })?);
            disk.truncate(&file, length).map_err(unknown)?;
        }
        if let Some(begin) = found.last_group.filter(|begin| begin.0 >= last.base) {
            let length = usize::try_from(found.head.end.0 - begin.0).unwrap_or(usize::MAX);
            let mut group = vec![0; length];
            let filled = read_up_to(&file, &mut group, begin.0 - last.base)
                .map_err(segments.read_error(last.base))?;
            disk.write_at(&file, &group[..filled], begin.0 - last.base)
                .map_err(unknown)?;
        }
        disk.sync_file(&file).map_err(unknown)?;
        disk.sync_folder(&handle).map_err(unknown)?;

        if let Some(last) = segments.list.last_mut() {
            last.bytes = length;
        }
        let mark = Mark::open(&segments.folder);
        if let Some(mark) = &mark {
            // Without it less is noticed, and nothing is wrong.
            let _ = mark.set(&found.head);
        }
        let opened = Opened {
            torn_bytes: found.torn_bytes,
            torn_kept,
            records_checked: found.records_checked,
        };
        let log = FileLog {
            segments,
            head: found.head,
            segment_bytes_max: SEGMENT_BYTES_MAX,
            writer: Some(Writer {
                disk,
                folder: handle,
                file,
                mark,
                buffer: Vec::new(),
            }),
            poison: None,
            read_file: RefCell::new(None),
        };
        Ok((log, opened))
    }
}

/// The most that is kept of what is cut off: the largest group.
const TORN_BYTES_MAX: u64 = (super::GROUP_BYTES_MAX + FRAME_BYTES_MAX + HEADER_BYTES) as u64;
