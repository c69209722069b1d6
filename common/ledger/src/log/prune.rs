//! Pruning a log: its records give way to what is kept of them.
//!
//! The order of things, so that a process that is killed anywhere leaves each record in one of its two forms, and each file
//! what it says it is: what is to be kept is written beside the files and made durable; the owner of the log puts on record
//! that it was, and what; only then the files go. A file that is there whole counts, whatever lies beside it. A group that
//! is to stay, in a file whose beginning goes, is copied to a file of its own first.

use std::fs;
use std::io;
use std::path::Path;

use super::disk::Disk;
use super::file::{FileLog, Writer};
use super::pruned::{self, PrunedFile, Pruning, part_of, write_part};
use super::segment::{self, Frames, Segment, Segments, Source, Stop};
use super::{Position, Record, link_of};
use crate::StorageError;
use crate::storage_error::{io_error, is_disk_full};

/// What is to be kept of a record; none: all of it.
pub type Shorten<'a> = &'a mut dyn FnMut(&Record) -> Result<Option<Vec<u8>>, StorageError>;

/// How much of a file is copied at once.
const COPY_BYTES: usize = 1 << 20;

impl FileLog {
    /// See [`super::LogStore::prepare_prune`].
    pub(super) fn prepare(
        &mut self,
        below: u64,
        shorten: Shorten<'_>,
    ) -> Result<Vec<PrunedFile>, StorageError> {
        self.discard_leftovers()?;
        let cut = self.group_at(below)?;
        // What is written to from here on is a file of its own, so that all others can go.
        if self.segments.last().bytes > 0 && cut.0 > self.segments.last().base {
            self.begin_segment()?;
        }
        let mut made = Vec::new();
        for segment in self.segments.list.clone() {
            if segment.base >= cut.0 {
                break;
            }
            if !matches!(self.segments.source(segment.base)?, Source::Whole(_)) {
                continue;
            }
            let end = segment.end().min(cut.0);
            let prepared = self.prepare_segment(segment, Position(end), shorten);
            let file = match prepared {
                Ok(file) => file,
                Err(error) => {
                    // The log is as it was; what lies beside it takes room that may be what is missing.
                    let _ = self.discard_leftovers();
                    return Err(error);
                }
            };
            made.extend(file);
        }
        if let Some(Writer { disk, folder, .. }) = &self.writer {
            disk.sync_folder(folder)
                .map_err(io_error("sync", &self.segments.folder))?;
        }
        Ok(made)
    }

    /// Writes what is kept of one file up to `end`, and copies what comes after.
    fn prepare_segment(
        &self,
        segment: Segment,
        end: Position,
        shorten: Shorten<'_>,
    ) -> Result<Option<PrunedFile>, StorageError> {
        let disk = &*self.writer()?.disk;
        let folder = &self.segments.folder;
        let mut pruning = Pruning::default();
        let mut frames = Frames::new(self.segments.clone(), Position(segment.base), end);
        loop {
            let position = frames.position();
            let (frame, record) = match frames.next() {
                Ok(None) => break,
                Ok(Some((frame, found))) => {
                    let record = Record {
                        sequence: frame.sequence,
                        position,
                        end: Position::START,
                        link: link_of(&frame.previous, &found.digest()),
                        bytes: found.bytes.to_vec(),
                        pruned: found.hashes,
                    };
                    (frame, record)
                }
                Err(Stop::Failed(error)) => return Err(error),
                Err(Stop::Unreadable(unreadable)) => {
                    return Err(StorageError::LogCorrupt {
                        sequence: None,
                        position,
                        reason: unreadable.reason(),
                    });
                }
            };
            let record = Record {
                end: frames.position(),
                ..record
            };
            let kept = shorten(&record)?;
            let pushed = pruning.push(&frame, &record, kept.as_deref());
            pushed.map_err(io_error("compress", folder))?;
        }
        let file = pruning.write(disk, folder)?;
        if end.0 < segment.end() {
            let rest = Segment {
                base: end.0,
                bytes: segment.end() - end.0,
            };
            self.copy_rest(disk, segment, rest)?;
            self.put(disk, &segment::path(folder, rest.base))?;
        }
        self.put(disk, &pruned::path(folder, segment.base))?;
        Ok(file)
    }

    /// Copies the end of a file to a part of its own, durably.
    fn copy_rest(&self, disk: &dyn Disk, of: Segment, rest: Segment) -> Result<(), StorageError> {
        let part = part_of(&segment::path(&self.segments.folder, rest.base));
        let file = self.segments.open(of.base)?;
        write_part(disk, &part, |copy| {
            let mut buffer = vec![0; COPY_BYTES];
            let mut at = 0;
            while at < rest.bytes {
                let left = usize::try_from(rest.bytes - at).unwrap_or(usize::MAX);
                let wanted = left.min(COPY_BYTES);
                let part = buffer.get_mut(..wanted).unwrap_or_default();
                let read = segment::read_up_to(&file, part, rest.base - of.base + at)?;
                if read < wanted {
                    return Err(io::ErrorKind::UnexpectedEof.into());
                }
                disk.write_at(copy, part, at)?;
                at += read as u64;
            }
            Ok(())
        })
    }

    /// Gives a part its name.
    fn put(&self, disk: &dyn Disk, path: &Path) -> Result<(), StorageError> {
        let renamed = disk.rename(&part_of(path), path);
        renamed.map_err(|error| {
            if is_disk_full(&error) {
                StorageError::DiskFull {
                    path: path.to_owned(),
                    bytes: 0,
                }
            } else {
                io_error("rename", path)(error)
            }
        })
    }

    /// See [`super::LogStore::finish_prune`].
    pub(super) fn finish(&mut self) -> Result<(), StorageError> {
        self.writer()?;
        let removed = self.remove_pruned();
        self.read_file.replace(None);
        // Whatever failed, some files may be gone, and what was copied of them counts now.
        if let Err(error) = self.relist() {
            let reason = format!("the files that a prune left: {error}");
            return Err(self.poison(reason));
        }
        removed
    }

    /// Removes the files of whole records beside which lies what is kept of them, durably.
    fn remove_pruned(&self) -> Result<(), StorageError> {
        let writer = self.writer()?;
        let folder = &self.segments.folder;
        for segment in &self.segments.list {
            let path = segment::path(folder, segment.base);
            let prepared = pruned::path(folder, segment.base);
            if segment.base != self.segments.last().base && prepared.exists() && path.exists() {
                let removed = writer.disk.remove(&path);
                removed.map_err(io_error("remove", &path))?;
            }
        }
        let synced = writer.disk.sync_folder(&writer.folder);
        synced.map_err(io_error("sync", folder))
    }

    /// Removes what a prune that came to no end left beside files that are whole.
    fn discard_leftovers(&mut self) -> Result<(), StorageError> {
        self.writer()?;
        // What counts is what the files say now.
        self.relist()?;
        let writer = self.writer()?;
        let folder = &self.segments.folder;
        let mut leftovers = Vec::new();
        for entry in fs::read_dir(folder).map_err(io_error("read", folder))? {
            let entry = entry.map_err(io_error("read", folder))?;
            let name = entry.file_name();
            let name = name.to_str().unwrap_or_default();
            let is_part = |name: &str| {
                name.strip_suffix(".part").is_some_and(|name| {
                    segment::base_of(name).is_some() || pruned::base_of(name).is_some()
                })
            };
            let counts = |base| self.segments.list.iter().any(|s| s.base == base);
            let is_within_whole = |base| {
                let holding = self.segments.holding(Position(base));
                holding.is_some_and(|(_, s)| segment::path(folder, s.base).is_file())
            };
            let is_copy =
                segment::base_of(name).is_some_and(|base| !counts(base) && is_within_whole(base));
            let is_beside = pruned::base_of(name)
                .is_some_and(|base| segment::path(folder, base).exists() || !counts(base));
            if is_part(name) || is_copy || is_beside {
                leftovers.push(entry.path());
            }
        }
        for path in &leftovers {
            let removed = writer.disk.remove(path);
            removed.map_err(io_error("remove", path))?;
        }
        if !leftovers.is_empty() {
            let synced = writer.disk.sync_folder(&writer.folder);
            synced.map_err(io_error("sync", folder))?;
        }
        Ok(())
    }

    /// Where the group begins that holds the record `below`; the end of the log where that is the next.
    fn group_at(&self, below: u64) -> Result<Position, StorageError> {
        if below >= self.head.size {
            return Ok(self.head.end);
        }
        let start = self.segments.position_before(below)?;
        let mut frames = Frames::new(self.segments.clone(), start, self.head.end);
        let mut group = start;
        loop {
            let position = frames.position();
            match frames.next() {
                Ok(Some((frame, _))) => {
                    if frame.sequence == frame.group_first {
                        group = position;
                    }
                    if frame.sequence >= below {
                        return Ok(group);
                    }
                }
                Ok(None) => return Ok(group),
                Err(Stop::Failed(error)) => return Err(error),
                Err(Stop::Unreadable(unreadable)) => {
                    return Err(StorageError::LogCorrupt {
                        sequence: None,
                        position,
                        reason: unreadable.reason(),
                    });
                }
            }
        }
    }

    /// Looks at the files again, as they are after a prune.
    fn relist(&mut self) -> Result<(), StorageError> {
        let mut segments = Segments::list(&self.segments.folder)?;
        // What is behind the head was never part of it.
        if let Some(last) = segments.list.last_mut() {
            last.bytes = self.head.end.0.saturating_sub(last.base);
        }
        self.segments = segments;
        Ok(())
    }

    fn writer(&self) -> Result<&Writer, StorageError> {
        self.writer.as_ref().ok_or(StorageError::LogReadOnly)
    }

    /// See [`super::LogStore::pruned`].
    pub(super) fn pruned_files(&self) -> Result<Vec<PrunedFile>, StorageError> {
        let mut files = Vec::new();
        for segment in &self.segments.list {
            if let Source::Pruned(pruned) = self.segments.source(segment.base)? {
                files.push(pruned.facts);
            }
        }
        Ok(files)
    }
}
