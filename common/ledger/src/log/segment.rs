//! The files of a log, and reading frames from them.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use sha2::{Digest as _, Sha256};

use super::frame::{FRAME_BYTES_MAX, Frame, HEADER_BYTES, MAGIC, Unreadable, first_sequence};
use super::pruned::{self, Kept, Pruned};
use super::regular::open_regular;
use super::{Hashes, Position, link};
use crate::StorageError;
use crate::storage_error::io_error;

/// How much is read from a file at once.
const READ_BYTES: usize = 256 << 10;

/// One file of a log: the bytes of the log from `base` on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Segment {
    pub(super) base: u64,
    pub(super) bytes: u64,
}

impl Segment {
    /// The position behind its last byte.
    pub(super) fn end(&self) -> u64 {
        // `Segments::list` refuses files for which this would overflow.
        self.base.saturating_add(self.bytes)
    }
}

/// The file that holds the bytes of a log from `base` on.
pub(super) fn path(folder: &Path, base: u64) -> PathBuf {
    folder.join(format!("{base:016x}.log"))
}

/// The base offset in the name of a file, if it is the name of a segment.
pub(super) fn base_of(name: &str) -> Option<u64> {
    let digits = name.strip_suffix(".log")?;
    let base = u64::from_str_radix(digits, 16).ok()?;
    // Only the name we would give: one offset, one name.
    (format!("{base:016x}") == digits).then_some(base)
}

/// The files of a log in order, without a gap.
#[derive(Debug, Clone)]
pub(super) struct Segments {
    pub(super) folder: PathBuf,
    pub(super) list: Vec<Segment>,
}

impl Segments {
    /// Finds the files of the log in `folder`.
    ///
    /// # Errors
    /// [`StorageError::LogMissing`] when there is no folder, no file, or one is missing or short;
    /// [`StorageError::LogCorrupt`] when files overlap, or one is no regular file.
    pub(super) fn list(folder: &Path) -> Result<Self, StorageError> {
        let mut bases = Vec::new();
        let entries = match fs::read_dir(folder) {
            Ok(entries) => entries,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                return Err(StorageError::LogMissing {
                    path: folder.to_owned(),
                    position: Position::START,
                });
            }
            Err(error) => return Err(io_error("read", folder)(error)),
        };
        for entry in entries {
            let name = entry.map_err(io_error("read", folder))?.file_name();
            bases.extend(name.to_str().and_then(base_of));
            bases.extend(name.to_str().and_then(pruned::base_of));
        }
        bases.sort_unstable();
        bases.dedup();

        // Lengths are looked up after all names: a file is not written to any more once its
        // successor has a name, so that a reader beside the writer sees no gap.
        let mut list: Vec<Segment> = Vec::with_capacity(bases.len());
        let (mut end, mut last_is_whole) = (0, false);
        for base in bases {
            let path = path(folder, base);
            if base > end {
                return Err(StorageError::LogMissing {
                    path: self::path(folder, end),
                    position: Position(end),
                });
            }
            let found = match fs::symlink_metadata(&path) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => None,
                found => Some(found.map_err(io_error("open", &path))?),
            };
            if base < end {
                // What a prune that came to no end copied of the file before, which is there whole.
                let is_copy = found.as_ref().is_some_and(|found| {
                    found.is_file() && base.checked_add(found.len()) == Some(end)
                });
                if is_copy && last_is_whole {
                    continue;
                }
                return Err(StorageError::LogCorrupt {
                    sequence: None,
                    position: Position(base),
                    reason: "two files hold the same part of the log",
                });
            }
            last_is_whole = found.is_some();
            let bytes = match found {
                Some(found) if !found.is_file() => {
                    return Err(StorageError::LogCorrupt {
                        sequence: None,
                        position: Position(base),
                        reason: "a link, a folder, a pipe or a device stands in the place of a file",
                    });
                }
                Some(found) => found.len(),
                None => match Pruned::open(folder, base)? {
                    Some(pruned) => pruned.end.saturating_sub(pruned.base),
                    None => {
                        return Err(StorageError::LogMissing {
                            path,
                            position: Position(base),
                        });
                    }
                },
            };
            end = base.checked_add(bytes).ok_or(StorageError::LogCorrupt {
                sequence: None,
                position: Position(base),
                reason: "the file is longer than a log can be",
            })?;
            list.push(Segment { base, bytes });
        }
        if list.is_empty() {
            return Err(StorageError::LogMissing {
                path: path(folder, 0),
                position: Position::START,
            });
        }
        Ok(Self {
            folder: folder.to_owned(),
            list,
        })
    }

    /// The last file, the one that is written to.
    pub(super) fn last(&self) -> Segment {
        self.list
            .last()
            .copied()
            .unwrap_or(Segment { base: 0, bytes: 0 })
    }

    /// The file that holds the byte at `position`, and its place in the list.
    pub(super) fn holding(&self, position: Position) -> Option<(usize, Segment)> {
        let index = self
            .list
            .partition_point(|s| s.base <= position.0)
            .checked_sub(1)?;
        let segment = *self.list.get(index)?;
        (position.0 < segment.end()).then_some((index, segment))
    }

    /// The beginning of the file that holds the record of this sequence number, by the first header of each. What stands
    /// there is not verified.
    pub(super) fn position_before(&self, sequence: u64) -> Result<Position, StorageError> {
        for segment in self.list.iter().rev() {
            let first = match self.source(segment.base)? {
                Source::Pruned(pruned) => Some(pruned.facts.first),
                Source::Whole(file) => {
                    let mut header = [0; HEADER_BYTES];
                    let read = read_up_to(&file, &mut header, 0);
                    let read = read.map_err(self.read_error(segment.base))?;
                    first_sequence(header.get(..read).unwrap_or_default())
                }
            };
            if first.is_some_and(|first| first <= sequence) {
                return Ok(Position(segment.base));
            }
        }
        Ok(Position::START)
    }

    /// Opens what holds the part of the log that begins at `base`: the file of whole records, if there is one.
    pub(super) fn source(&self, base: u64) -> Result<Source, StorageError> {
        match self.open(base) {
            Err(missing @ StorageError::LogMissing { .. }) => Pruned::open(&self.folder, base)?
                .map(|pruned| Source::Pruned(Box::new(pruned)))
                .ok_or(missing),
            file => Ok(Source::Whole(file?)),
        }
    }

    /// Opens the file of whole records that begins at `base` for reading.
    pub(super) fn open(&self, base: u64) -> Result<File, StorageError> {
        let path = path(&self.folder, base);
        open_regular(OpenOptions::new().read(true), &path).map_err(|error| {
            if error.kind() == io::ErrorKind::NotFound {
                StorageError::LogMissing {
                    path,
                    position: Position(base),
                }
            } else {
                io_error("open", &path)(error)
            }
        })
    }

    /// The error of a read that failed in the file that begins at `base`.
    pub(super) fn read_error(&self, base: u64) -> impl FnOnce(io::Error) -> StorageError {
        io_error("read", &path(&self.folder, base))
    }
}

/// What holds a part of a log.
#[derive(Debug)]
pub(super) enum Source {
    /// The records as they were written.
    Whole(File),
    /// What is kept of them.
    Pruned(Box<Pruned>),
}

/// A record that was found.
pub(super) struct Found<'a> {
    /// The record, or what is kept of it.
    pub(super) bytes: &'a [u8],
    /// Of a record that was pruned.
    pub(super) hashes: Option<Hashes>,
}

impl Found<'_> {
    /// SHA-256 of the record as it was written.
    pub(super) fn digest(&self) -> [u8; 32] {
        self.hashes
            .map_or_else(|| Sha256::digest(self.bytes).into(), |h| h.record)
    }
}

/// Fills `buffer` from `offset` on and returns how much of it there was.
pub(super) fn read_up_to(file: &File, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
    let mut filled = 0;
    while filled < buffer.len() {
        let Some(at) = offset.checked_add(filled as u64) else {
            break;
        };
        match file.read_at(&mut buffer[filled..], at) {
            Ok(0) => break,
            Ok(count) => filled += count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(filled)
}

/// What ended a reading of frames.
#[derive(Debug)]
pub(super) enum Stop {
    /// No frame can be read at the position reached.
    Unreadable(Unreadable),
    /// The operating system failed.
    Failed(StorageError),
}

/// Reads frames one after the other, a part of a file at a time.
pub(super) struct Frames {
    segments: Segments,
    limit: u64,
    position: u64,
    file: Option<(File, Segment)>,
    pruned: Option<Reading>,
    buffer: Vec<u8>,
    /// The part of the buffer that was read and not yet handed out; it begins at `position`.
    start: usize,
    filled: usize,
}

/// A pruned file that is being read.
struct Reading {
    file: Box<Pruned>,
    /// The records of one of its blocks, from the next on.
    block: std::vec::IntoIter<Kept>,
    /// The one that was handed out last.
    kept: Option<Kept>,
}

impl Frames {
    /// Frames from `from` up to `limit`.
    pub(super) fn new(segments: Segments, from: Position, limit: Position) -> Self {
        Self {
            segments,
            limit: limit.0,
            position: from.0,
            file: None,
            pruned: None,
            buffer: Vec::new(),
            start: 0,
            filled: 0,
        }
    }

    /// Where the next frame begins.
    pub(super) fn position(&self) -> Position {
        Position(self.position)
    }

    /// The next frame and its record; `None` at the limit. After a stop the position is that of
    /// the frame which could not be read.
    pub(super) fn next(&mut self) -> Result<Option<(Frame, Found<'_>)>, Stop> {
        if self.position >= self.limit {
            return Ok(None);
        }
        self.enter()?;
        if self.pruned.is_some() {
            return self.next_kept();
        }
        self.fill(HEADER_BYTES)?;
        let stored =
            Frame::stored_bytes(&self.buffer[self.start..self.filled]).map_err(Stop::Unreadable)?;
        self.fill(stored)?;
        let (frame, stored) = Frame::decode(&self.buffer[self.start..self.filled], self.position())
            .map_err(Stop::Unreadable)?;
        let record = self.start + HEADER_BYTES..self.start + stored;
        self.start += stored;
        self.position += stored as u64;
        let bytes = &self.buffer[record];
        let hashes = None;
        Ok(Some((frame, Found { bytes, hashes })))
    }

    /// The next record of a pruned file.
    fn next_kept(&mut self) -> Result<Option<(Frame, Found<'_>)>, Stop> {
        let unreadable = || Stop::Unreadable(Unreadable::Pruned);
        let position = self.position;
        let reading = self.pruned.as_mut().ok_or_else(unreadable)?;
        let kept = match reading.block.next() {
            Some(kept) => kept,
            None => {
                let block = reading.file.block_at(position)?;
                reading.block = block.into_iter();
                let block = reading.block.by_ref();
                block
                    .find(|kept| kept.position >= position)
                    .ok_or_else(unreadable)?
            }
        };
        if kept.position != position {
            return Err(unreadable());
        }
        self.position = kept.end;
        let frame = kept.frame;
        let kept = reading.kept.insert(kept);
        let (bytes, hashes) = (kept.bytes.as_slice(), kept.hashes);
        Ok(Some((frame, Found { bytes, hashes })))
    }

    /// Has the file open that holds the position.
    fn enter(&mut self) -> Result<(), Stop> {
        let position = self.position;
        let within = |begin: u64, end: u64| (begin..end).contains(&position);
        let file = self.file.as_ref();
        let pruned = self.pruned.as_ref().map(|reading| &reading.file);
        if file.is_some_and(|(_, s)| within(s.base, s.end()))
            || pruned.is_some_and(|file| within(file.base, file.end))
        {
            return Ok(());
        }
        (self.file, self.pruned) = (None, None);
        (self.start, self.filled) = (0, 0);
        // Beside a writer that prunes, the files may be others than they were: once.
        for again in [false, true] {
            if again {
                self.segments = Segments::list(&self.segments.folder).map_err(Stop::Failed)?;
            }
            let Some((_, segment)) = self.segments.holding(self.position()) else {
                return Ok(());
            };
            match self.segments.source(segment.base) {
                Ok(Source::Whole(file)) => self.file = Some((file, segment)),
                Ok(Source::Pruned(file)) if within(file.base, file.end) => {
                    self.pruned = Some(Reading {
                        file,
                        block: Vec::new().into_iter(),
                        kept: None,
                    });
                }
                Ok(Source::Pruned(_)) if !again => continue,
                Err(StorageError::LogMissing { .. }) if !again => continue,
                Ok(Source::Pruned(_)) => return Err(Stop::Unreadable(Unreadable::Pruned)),
                Err(error) => return Err(Stop::Failed(error)),
            }
            return Ok(());
        }
        Ok(())
    }

    /// Makes sure that the buffer holds `wanted` bytes from the position on, or all that are left
    /// in the file.
    fn fill(&mut self, wanted: usize) -> Result<(), Stop> {
        if self.filled - self.start >= wanted {
            return Ok(());
        }
        let Some((file, segment)) = &self.file else {
            return Ok(());
        };
        let kept = self.start..self.filled;
        self.filled -= self.start;
        self.start = 0;
        if self.buffer.len() < wanted {
            let mut larger = vec![0; wanted.max(READ_BYTES)];
            larger[..kept.len()].copy_from_slice(&self.buffer[kept]);
            self.buffer = larger;
        } else {
            self.buffer.copy_within(kept, 0);
        }
        // Never beyond the limit: what lies behind it may be a group that is just being written.
        let from = self.position + self.filled as u64;
        let left = segment.end().min(self.limit).saturating_sub(from);
        let room = (self.buffer.len() - self.filled) as u64;
        let end = self.filled + usize::try_from(left.min(room)).unwrap_or(0);
        self.filled += read_up_to(
            file,
            &mut self.buffer[self.filled..end],
            from - segment.base,
        )
        .map_err(|error| Stop::Failed(self.segments.read_error(segment.base)(error)))?;
        Ok(())
    }
}

/// Finds the first readable frame in `file` that begins at or after `from` and before `limit`.
///
/// A damaged frame gives no length to go on by, so every place that begins like a frame is tried.
pub(super) fn find_frame(
    file: &File,
    base: u64,
    from: Position,
    limit: Position,
) -> io::Result<Option<(Position, Frame, usize)>> {
    let all = usize::try_from(limit.0.saturating_sub(from.0)).unwrap_or(usize::MAX);
    let mut window = vec![0; all.min(4 * FRAME_BYTES_MAX)];
    let mut at = from.0;
    while at < limit.0 {
        let left = usize::try_from(limit.0 - at).unwrap_or(usize::MAX);
        let wanted = window.len().min(left);
        let filled = read_up_to(file, &mut window[..wanted], at - base)?;
        let bytes = &window[..filled];
        let last = filled < wanted || wanted == left;
        // A frame that begins later than this may not be whole in the window; the next one has it.
        let tried = if last {
            filled
        } else {
            filled - FRAME_BYTES_MAX
        };
        let mut next = 0;
        while let Some(offset) = find_magic(&bytes[next..]).map(|o| o + next) {
            if offset >= tried {
                break;
            }
            let position = Position(at + offset as u64);
            if let Ok((frame, stored)) = Frame::decode(&bytes[offset..], position) {
                return Ok(Some((position, frame, stored)));
            }
            next = offset + 1;
        }
        if last {
            break;
        }
        at += tried as u64;
    }
    Ok(None)
}

/// The first place in `bytes` where a frame may begin.
fn find_magic(bytes: &[u8]) -> Option<usize> {
    let mut from = 0;
    loop {
        let offset = from + bytes[from..].iter().position(|byte| *byte == MAGIC[0])?;
        if bytes[offset..].starts_with(&MAGIC) {
            return Some(offset);
        }
        from = offset + 1;
    }
}

/// Finds the record that ends at `end` and has this sequence number and this link.
///
/// Frames are found forwards, so the bytes before `end` are searched for a frame that reaches
/// exactly there. A record may hold bytes that look like such a frame; the link tells them apart.
pub(super) fn find_ending(
    file: &File,
    base: u64,
    end: Position,
    sequence: u64,
    wanted_link: &[u8; 32],
) -> io::Result<Option<Frame>> {
    let back_max = (end.0 - base).min(FRAME_BYTES_MAX as u64);
    let mut back = back_max.min(4096);
    loop {
        let mut bytes = vec![0; usize::try_from(back).unwrap_or(0)];
        let filled = read_up_to(file, &mut bytes, end.0 - back - base)?;
        bytes.truncate(filled);
        let mut next = 0;
        while let Some(offset) = find_magic(&bytes[next..]).map(|o| o + next) {
            let candidate = &bytes[offset..];
            next = offset + 1;
            if Frame::stored_bytes(candidate) != Ok(candidate.len()) {
                continue;
            }
            let position = Position(end.0 - back + offset as u64);
            if let Ok((frame, _)) = Frame::decode(candidate, position)
                && frame.sequence == sequence
                && link(&frame.previous, &candidate[HEADER_BYTES..]) == *wanted_link
            {
                return Ok(Some(frame));
            }
        }
        if back == back_max {
            return Ok(None);
        }
        back = back_max.min(back * 16);
    }
}
