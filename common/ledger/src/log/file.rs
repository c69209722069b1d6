//! The log in files.

use std::cell::RefCell;
use std::fs::{self, DirBuilder, File};
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use super::chain::Chain;
use super::disk::{Disk, OperatingSystem};
use super::frame::{FRAME_BYTES_MAX, Frame, HEADER_BYTES, Unreadable};
use super::group::{encode_group, stored_bytes};
use super::lock::Locked;
use super::mark::Mark;
use super::prune::Shorten;
use super::pruned::PrunedFile;
use super::segment::{self, Frames, Segment, Segments, Source, Stop, read_up_to};
use super::unopened::{Unopened, look};
use super::{Head, LogStore, Position, Record, Records, link, link_of};
use crate::StorageError;
use crate::storage_error::{io_error, is_disk_full};

/// How large a file of the log grows before the next one is begun, in bytes, unless
/// [`FileLog::with_segment_bytes_max`] says otherwise. A group is never divided: a file goes
/// beyond this when its first group does.
pub const SEGMENT_BYTES_MAX: u64 = 64 << 20;

/// A single read that is enough for most records.
const RECORD_READ_BYTES: usize = 1024;

/// What was found when a log was opened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Opened {
    /// The bytes of a last group that a crash left incomplete: cut off, or left where they are
    /// when the log was opened for reading only. No record in them was ever acknowledged.
    pub torn_bytes: u64,
    /// The file beside the log that keeps them, if they were cut off.
    pub torn_kept: Option<PathBuf>,
    /// The number of records that were read and checked.
    pub records_checked: u64,
}

/// A log in a folder of its own: `<offset of its first byte, 16 hexadecimal digits>.log` after
/// another, each a sequence of frames.
///
/// One `FileLog` at a time writes to a folder: a lock on the folder (`flock`) sees to it, and goes
/// with the process. Any number may read beside it.
pub struct FileLog {
    pub(super) segments: Segments,
    pub(super) head: Head,
    pub(super) segment_bytes_max: u64,
    /// What is needed for writing; `None` when opened for reading only.
    pub(super) writer: Option<Writer>,
    /// Why the outcome of an append is unknown, from then on.
    pub(super) poison: Option<String>,
    /// The file that was read from last. Reads go to recent records for the most part.
    pub(super) read_file: RefCell<Option<ReadFile>>,
}

/// A file of the log that is open for reading.
pub(super) struct ReadFile {
    base: u64,
    source: Source,
}

pub(super) struct Writer {
    pub(super) disk: Box<dyn Disk>,
    pub(super) folder: Locked,
    /// The last segment.
    pub(super) file: File,
    /// Where is marked how far the log came.
    pub(super) mark: Option<Mark>,
    /// The group as it is stored; kept for its allocation.
    pub(super) buffer: Vec<u8>,
}

impl std::fmt::Debug for FileLog {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("FileLog")
            .field("folder", &self.segments.folder)
            .field("head", &self.head)
            .field("writable", &self.writer.is_some())
            .field("poison", &self.poison)
            .finish_non_exhaustive()
    }
}

impl FileLog {
    /// Makes an empty log in `folder`, which is made too unless it is there.
    ///
    /// # Errors
    /// [`StorageError::LogExists`] when the folder holds a log; [`StorageError::LogLocked`];
    /// [`StorageError::Io`].
    pub fn create(folder: &Path) -> Result<Self, StorageError> {
        Self::create_on(folder, Box::new(OperatingSystem))
    }

    pub(super) fn create_on(folder: &Path, disk: Box<dyn Disk>) -> Result<Self, StorageError> {
        match DirBuilder::new().mode(0o700).create(folder) {
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            Err(error) => return Err(io_error("create", folder)(error)),
        }
        let handle = lock(folder)?;
        if has_segments(folder)? {
            return Err(StorageError::LogExists {
                path: folder.to_owned(),
            });
        }
        let path = segment::path(folder, 0);
        let file = disk.create(&path).map_err(io_error("create", &path))?;
        disk.sync_file(&file).map_err(io_error("sync", &path))?;
        disk.sync_folder(&handle)
            .map_err(io_error("sync", folder))?;
        if let Some(parent) = parent(folder) {
            File::open(parent)
                .and_then(|parent| disk.sync_folder(&parent))
                .map_err(io_error("sync", parent))?;
        }
        Ok(Self {
            segments: Segments {
                folder: folder.to_owned(),
                list: vec![Segment { base: 0, bytes: 0 }],
            },
            head: Head::default(),
            segment_bytes_max: SEGMENT_BYTES_MAX,
            writer: Some(Writer {
                disk,
                folder: handle,
                file,
                mark: Mark::open(folder),
                buffer: Vec::new(),
            }),
            poison: None,
            read_file: RefCell::new(None),
        })
    }

    /// Opens the log in `folder` for reading and appending.
    ///
    /// `known` is a head that the caller has reason to trust, for instance from a snapshot of its
    /// state: what lies before it is not read again. Without it every record is checked. A group
    /// that a crash left incomplete at the end is cut off, and reported; nothing else is changed.
    ///
    /// A record damaged in the very last group can be told from a group that was never complete by the mark that is
    /// set after each group, unless a power cut took the mark away too, and where a single bit was changed; what is cut
    /// off is kept beside the log. Who knows more of how long the log once was asks [`Unopened`] first.
    ///
    /// # Errors
    /// [`StorageError::LogMissing`] when there is no log, or a file of it is missing or short;
    /// [`StorageError::LogTruncated`] when the log ends before `known`;
    /// [`StorageError::LogCorrupt`] when it does not hold what was written;
    /// [`StorageError::LogLocked`]; [`StorageError::Io`];
    /// [`StorageError::OutcomeUnknown`] when what was found could not be made durable.
    pub fn open(folder: &Path, known: Option<Head>) -> Result<(Self, Opened), StorageError> {
        Self::open_on(folder, known, Box::new(OperatingSystem))
    }

    pub(super) fn open_on(
        folder: &Path,
        known: Option<Head>,
        disk: Box<dyn Disk>,
    ) -> Result<(Self, Opened), StorageError> {
        Unopened::survey_on(folder, known, disk)?.open()
    }

    /// Opens the log in `folder` for reading, as it is now; records appended later are not seen.
    /// Takes no lock and changes nothing. An incomplete group at the end, which may be one that is
    /// just being written, is left out.
    ///
    /// # Errors
    /// As [`Self::open`], without [`StorageError::LogLocked`] and
    /// [`StorageError::OutcomeUnknown`].
    pub fn open_read_only(
        folder: &Path,
        known: Option<Head>,
    ) -> Result<(Self, Opened), StorageError> {
        let (segments, found) = look(folder, known.as_ref())?;
        let opened = Opened {
            torn_bytes: found.torn_bytes,
            torn_kept: None,
            records_checked: found.records_checked,
        };
        let log = Self {
            segments,
            head: found.head,
            segment_bytes_max: SEGMENT_BYTES_MAX,
            writer: None,
            poison: None,
            read_file: RefCell::new(None),
        };
        Ok((log, opened))
    }

    /// A position from which a scan comes to the record of this sequence number without all that stands before it: the
    /// beginning of a file. What stands there is not verified; the scan does that.
    ///
    /// # Errors
    /// [`StorageError::Io`] if a file cannot be read.
    pub fn position_before(&self, sequence: u64) -> Result<Position, StorageError> {
        self.segments.position_before(sequence)
    }

    /// The same log with files of another size, in bytes; files already begun are not changed.
    #[must_use]
    pub fn with_segment_bytes_max(mut self, segment_bytes_max: u64) -> Self {
        self.segment_bytes_max = segment_bytes_max;
        self
    }

    fn check_outcome_known(&self) -> Result<(), StorageError> {
        match &self.poison {
            None => Ok(()),
            Some(reason) => Err(StorageError::OutcomeUnknown {
                reason: reason.clone(),
            }),
        }
    }

    /// From now on nothing is known about the end of the log.
    pub(super) fn poison(&mut self, reason: String) -> StorageError {
        self.poison = Some(reason.clone());
        StorageError::OutcomeUnknown { reason }
    }

    /// Begins the next file of the log, at its end.
    pub(super) fn begin_segment(&mut self) -> Result<(), StorageError> {
        let base = self.head.end.0;
        let path = segment::path(&self.segments.folder, base);
        let Some(writer) = &mut self.writer else {
            return Err(StorageError::LogReadOnly);
        };
        let file = writer
            .disk
            .create(&path)
            .map_err(|error| write_error(&path, 0, error))?;
        // The file is there, whether or not its name is durable: an empty file at the end of a log
        // is part of it.
        writer.file = file;
        self.segments.list.push(Segment { base, bytes: 0 });
        if let Err(error) = writer.disk.sync_folder(&writer.folder) {
            let reason = format!("{}: {error}", self.segments.folder.display());
            return Err(self.poison(reason));
        }
        Ok(())
    }

    /// Reads up to `buffer.len()` bytes of the whole segment that is open, from `position` on.
    fn read_bytes(
        &self,
        segment: Segment,
        position: Position,
        buffer: &mut [u8],
    ) -> Result<usize, StorageError> {
        let cached = self.read_file.borrow();
        let Some(ReadFile {
            source: Source::Whole(file),
            ..
        }) = &*cached
        else {
            return Ok(0);
        };
        let left = usize::try_from(segment.end() - position.0).unwrap_or(usize::MAX);
        let wanted = buffer.len().min(left);
        read_up_to(file, &mut buffer[..wanted], position.0 - segment.base)
            .map_err(self.segments.read_error(segment.base))
    }

    /// Has the file that holds a segment open.
    fn enter(&self, segment: Segment) -> Result<(), StorageError> {
        let mut cached = self.read_file.borrow_mut();
        if cached.as_ref().is_none_or(|read| read.base != segment.base) {
            // None while it cannot be opened.
            *cached = None;
            *cached = Some(ReadFile {
                base: segment.base,
                source: self.segments.source(segment.base)?,
            });
        }
        Ok(())
    }
}

impl LogStore for FileLog {
    fn head(&self) -> Head {
        self.head
    }

    fn append(
        &mut self,
        expected: &Head,
        records: &[Vec<u8>],
    ) -> Result<Vec<Position>, StorageError> {
        self.check_outcome_known()?;
        if self.writer.is_none() {
            return Err(StorageError::LogReadOnly);
        }
        if *expected != self.head {
            return Err(StorageError::HeadMoved {
                expected: expected.size,
                found: self.head.size,
            });
        }
        let bytes = stored_bytes(records)?;
        let last = self.segments.last();
        if last.bytes > 0 && last.bytes.saturating_add(bytes) > self.segment_bytes_max {
            self.begin_segment()?;
        }
        let last = self.segments.last();
        let Some(writer) = &mut self.writer else {
            return Err(StorageError::LogReadOnly);
        };

        let (head, positions) = encode_group(&self.head, records, &mut writer.buffer);
        let path = segment::path(&self.segments.folder, last.base);
        if let Err(error) = writer
            .disk
            .write_at(&writer.file, &writer.buffer, last.bytes)
        {
            // No half group may stay behind. With a full disk it can be taken back, and then
            // nothing happened; after anything else the disk is not to be trusted.
            let taken_back = is_disk_full(&error)
                && writer
                    .disk
                    .truncate(&writer.file, last.bytes)
                    .and_then(|()| writer.disk.sync_file(&writer.file))
                    .is_ok();
            return Err(if taken_back {
                write_error(&path, bytes, error)
            } else {
                self.poison(format!("writing {}: {error}", path.display()))
            });
        }
        if let Err(error) = writer.disk.sync_file(&writer.file) {
            return Err(self.poison(format!("syncing {}: {error}", path.display())));
        }

        if let Some(mark) = &writer.mark {
            // The group is durable whatever becomes of its mark: without it less is noticed, and nothing is wrong.
            let _ = mark.set(&head);
        }

        self.head = head;
        if let Some(last) = self.segments.list.last_mut() {
            last.bytes = last.bytes.saturating_add(bytes);
        }
        Ok(positions)
    }

    fn read(&self, at: Position) -> Result<Record, StorageError> {
        self.check_outcome_known()?;
        let segment = match self.segments.holding(at) {
            Some((_, segment)) if at < self.head.end => segment,
            _ => {
                return Err(StorageError::NoRecord {
                    position: at,
                    end: self.head.end,
                });
            }
        };
        let corrupt = |unreadable: Unreadable| StorageError::LogCorrupt {
            sequence: None,
            position: at,
            reason: unreadable.reason(),
        };
        self.enter(segment)?;
        if let Some(ReadFile {
            source: Source::Pruned(pruned),
            ..
        }) = &*self.read_file.borrow()
        {
            let kept = match pruned.record_at(at.0) {
                Ok(kept) => kept.ok_or_else(|| corrupt(Unreadable::Magic))?,
                Err(Stop::Unreadable(unreadable)) => return Err(corrupt(unreadable)),
                Err(Stop::Failed(error)) => return Err(error),
            };
            return Ok(Record {
                sequence: kept.frame.sequence,
                position: at,
                end: Position(kept.end),
                link: link_of(&kept.frame.previous, &kept.digest()),
                bytes: kept.bytes,
                pruned: kept.hashes,
            });
        }
        let mut buffer = vec![0; RECORD_READ_BYTES];
        let mut filled = self.read_bytes(segment, at, &mut buffer)?;
        let stored = Frame::stored_bytes(&buffer[..filled]).map_err(corrupt)?;
        if stored > filled {
            buffer.resize(stored.min(FRAME_BYTES_MAX), 0);
            filled = self.read_bytes(segment, at, &mut buffer)?;
        }
        let (frame, stored) = Frame::decode(&buffer[..filled], at).map_err(corrupt)?;
        buffer.truncate(stored);
        let bytes = buffer.split_off(HEADER_BYTES);
        Ok(Record {
            sequence: frame.sequence,
            position: at,
            end: Position(at.0.saturating_add(stored as u64)),
            link: link(&frame.previous, &bytes),
            bytes,
            pruned: None,
        })
    }

    fn scan(&self, from: Position) -> Result<Records<'_>, StorageError> {
        self.check_outcome_known()?;
        if from > self.head.end {
            return Err(StorageError::NoRecord {
                position: from,
                end: self.head.end,
            });
        }
        let chain = if from == Position::START {
            Chain::start()
        } else {
            Chain::anywhere()
        };
        Ok(Box::new(Scan {
            frames: Some(Frames::new(self.segments.clone(), from, self.head.end)),
            chain,
        }))
    }

    fn prepare_prune(
        &mut self,
        below: u64,
        shorten: Shorten<'_>,
    ) -> Result<Vec<PrunedFile>, StorageError> {
        self.check_outcome_known()?;
        self.prepare(below, shorten)
    }

    fn finish_prune(&mut self) -> Result<(), StorageError> {
        self.check_outcome_known()?;
        self.finish()
    }

    fn pruned(&self) -> Result<Vec<PrunedFile>, StorageError> {
        self.check_outcome_known()?;
        self.pruned_files()
    }
}

/// The records of a log, in order.
struct Scan {
    /// `None` after an error.
    frames: Option<Frames>,
    chain: Chain,
}

impl Iterator for Scan {
    type Item = Result<Record, StorageError>;

    fn next(&mut self) -> Option<Self::Item> {
        let frames = self.frames.as_mut()?;
        let position = frames.position();
        let corrupt = |sequence, reason| StorageError::LogCorrupt {
            sequence,
            position,
            reason,
        };
        let error = match frames.next() {
            Ok(None) => return None,
            Ok(Some((frame, found))) => match self.chain.accept(&frame, &found.digest()) {
                Ok(link) => {
                    let (bytes, pruned) = (found.bytes.to_vec(), found.hashes);
                    return Some(Ok(Record {
                        sequence: frame.sequence,
                        position,
                        end: frames.position(),
                        link,
                        bytes,
                        pruned,
                    }));
                }
                Err(reason) => corrupt(Some(frame.sequence), reason),
            },
            Err(Stop::Unreadable(unreadable)) => {
                corrupt(self.chain.next_sequence(), unreadable.reason())
            }
            Err(Stop::Failed(error)) => error,
        };
        self.frames = None;
        Some(Err(error))
    }
}

/// Opens a folder and takes the lock of its one writer.
pub(super) fn lock(folder: &Path) -> Result<Locked, StorageError> {
    let handle = File::open(folder).map_err(|error| {
        if error.kind() == io::ErrorKind::NotFound {
            StorageError::LogMissing {
                path: folder.to_owned(),
                position: Position::START,
            }
        } else {
            io_error("open", folder)(error)
        }
    })?;
    Locked::take(handle)
        .map_err(io_error("lock", folder))?
        .ok_or_else(|| StorageError::LogLocked {
            path: folder.to_owned(),
        })
}

/// Whether a folder holds any file of a log.
fn has_segments(folder: &Path) -> Result<bool, StorageError> {
    for entry in fs::read_dir(folder).map_err(io_error("read", folder))? {
        let name = entry.map_err(io_error("read", folder))?.file_name();
        if name.to_str().and_then(segment::base_of).is_some() {
            return Ok(true);
        }
    }
    Ok(false)
}

/// The folder that holds `folder`; `None` for the root.
fn parent(folder: &Path) -> Option<&Path> {
    match folder.parent() {
        Some(parent) if parent.as_os_str().is_empty() => Some(Path::new(".")),
        other => other,
    }
}

/// The error of a write that left nothing behind.
fn write_error(path: &Path, bytes: u64, error: io::Error) -> StorageError {
    if is_disk_full(&error) {
        StorageError::DiskFull {
            path: path.to_owned(),
            bytes,
        }
    } else {
        io_error("create", path)(error)
    }
}
