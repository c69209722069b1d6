//! A file of the log that was pruned: what of its records is kept, and for each what it counts in the chain and the tree.
//!
//! It takes the place of a file of whole records. Positions, sequence numbers, groups, links and leaf hashes are those of
//! the records as they were written, so that nothing outside of it sees where the log was pruned, and nothing has to be
//! counted again. A record is kept whole, or as something shorter with the two hashes that stand for it.
//!
//! ```text
//! FOLDER/<offset>.pruned = header, SHA-256 of the header (32), blocks; numbers big-endian
//! header = "MMPRUN1\0", base (8), end (8), first record (8), records (8), blocks (8), then for each block:
//!          position (8), first record (8), link before it (32), offset in the file (8), its bytes (4), bytes when
//!          decompressed (4), SHA-256 of its bytes (32)
//! block  = zstd of: for each record: bytes of its frame as it was (4), first of its group (8), records in its group (4),
//!          then 0 (1), length (4), the record
//!          or   1 (1), length (4), what is kept of it, SHA-256 of the record (32), its leaf hash (32)
//! ```
//!
//! The digest of the header stands for all of the file: the log itself says it of each ([`crate::entry::Pruned`]).

use std::fs::{self, File, OpenOptions};
use std::io;
use std::path::{Path, PathBuf};

use sha2::{Digest as _, Sha256};

use super::disk::Disk;
use super::frame::{Frame, HEADER_BYTES, Unreadable};
use super::regular::open_regular;
use super::segment::{Stop, read_up_to};
use super::{Hashes, Position, RECORD_BYTES_MAX, Record, link_of};
use crate::StorageError;
use crate::merkle::leaf_hash;
use crate::storage_error::{io_error, is_disk_full};

const MAGIC: &[u8; 8] = b"MMPRUN1\0";
const FACTS_BYTES: usize = 48;
const BLOCK_FACTS_BYTES: usize = 96;
const DIGEST_BYTES: usize = 32;

/// How much is compressed at once, about.
const BLOCK_BYTES: usize = 64 << 10;
/// The most that a block has when decompressed: the last record may go beyond [`BLOCK_BYTES`].
const BLOCK_BYTES_MAX: usize = BLOCK_BYTES + RECORD_BYTES_MAX + 256;
const BLOCKS_MAX: u64 = 1 << 20;
const COMPRESSION_LEVEL: i32 = 6;

/// A file that took the place of whole records, as the log says it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PrunedFile {
    /// Its first record.
    pub first: u64,
    /// The record after its last.
    pub end: u64,
    /// The digest of its header.
    pub digest: [u8; 32],
}

/// The file that keeps what was pruned of the bytes from `base` on.
pub(super) fn path(folder: &Path, base: u64) -> PathBuf {
    folder.join(format!("{base:016x}.pruned"))
}

/// The base offset in the name of a file, if it is the name of a pruned one.
pub(super) fn base_of(name: &str) -> Option<u64> {
    let digits = name.strip_suffix(".pruned")?;
    let base = u64::from_str_radix(digits, 16).ok()?;
    (format!("{base:016x}") == digits).then_some(base)
}

/// Where a block is, and what it begins with.
#[derive(Clone, Copy, Debug)]
struct Block {
    position: u64,
    first: u64,
    previous: [u8; 32],
    offset: u64,
    bytes: u32,
    plain: u32,
    digest: [u8; 32],
}

/// One record of a pruned file.
#[derive(Debug)]
pub(super) struct Kept {
    pub(super) position: u64,
    pub(super) end: u64,
    pub(super) frame: Frame,
    /// The record, or what is kept of it.
    pub(super) bytes: Vec<u8>,
    /// Of a record that is not there whole.
    pub(super) hashes: Option<Hashes>,
}

impl Kept {
    /// SHA-256 of the record as it was written.
    pub(super) fn digest(&self) -> [u8; 32] {
        match &self.hashes {
            Some(hashes) => hashes.record,
            None => Sha256::digest(&self.bytes).into(),
        }
    }
}

/// A pruned file that is open for reading. Its header was held against its digest.
#[derive(Debug)]
pub(super) struct Pruned {
    path: PathBuf,
    file: File,
    pub(super) base: u64,
    pub(super) end: u64,
    pub(super) facts: PrunedFile,
    blocks: Vec<Block>,
}

impl Pruned {
    /// Opens the file that begins at `base`; none if there is none.
    pub(super) fn open(folder: &Path, base: u64) -> Result<Option<Self>, StorageError> {
        let path = path(folder, base);
        let file = match open_regular(OpenOptions::new().read(true), &path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(io_error("open", &path)(error)),
        };
        let corrupt = || StorageError::LogCorrupt {
            sequence: None,
            position: Position(base),
            reason: "the pruned file that begins here is damaged",
        };
        let read = |bytes: &mut [u8], offset| -> Result<(), StorageError> {
            let filled = read_up_to(&file, bytes, offset).map_err(io_error("read", &path))?;
            if filled == bytes.len() {
                Ok(())
            } else {
                Err(corrupt())
            }
        };
        let mut header = vec![0; FACTS_BYTES];
        read(&mut header, 0)?;
        let numbers = Numbers(header.strip_prefix(MAGIC).ok_or_else(corrupt)?).all();
        let [stated, end, first, records, count] = numbers.ok_or_else(corrupt)?;
        if stated != base || end <= base || records == 0 || !(1..=BLOCKS_MAX).contains(&count) {
            return Err(corrupt());
        }
        let length = usize::try_from(count).map_err(|_| corrupt())? * BLOCK_FACTS_BYTES;
        // The number is not believed before the file is seen to have so much.
        let stands = file.metadata().map_err(io_error("read", &path))?.len();
        if stands < (FACTS_BYTES + length) as u64 {
            return Err(corrupt());
        }
        header.resize(FACTS_BYTES + length, 0);
        let (_, table) = header.split_at_mut(FACTS_BYTES);
        read(table, FACTS_BYTES as u64)?;
        let mut digest = [0; DIGEST_BYTES];
        read(&mut digest, header.len() as u64)?;
        if digest != <[u8; DIGEST_BYTES]>::from(Sha256::digest(&header)) {
            return Err(corrupt());
        }
        let blocks: Option<Vec<Block>> = header
            .split_off(FACTS_BYTES)
            .chunks_exact(BLOCK_FACTS_BYTES)
            .map(Block::from_bytes)
            .collect();
        let facts = PrunedFile {
            first,
            end: first.checked_add(records).ok_or_else(corrupt)?,
            digest,
        };
        Ok(Some(Self {
            path,
            file,
            base,
            end,
            facts,
            blocks: blocks.ok_or_else(corrupt)?,
        }))
    }

    /// The records of the block that holds a position, in order.
    pub(super) fn block_at(&self, position: u64) -> Result<Vec<Kept>, Stop> {
        let unreadable = || Stop::Unreadable(Unreadable::Pruned);
        let at = self.blocks.partition_point(|b| b.position <= position);
        let at = at.checked_sub(1).ok_or_else(unreadable)?;
        let block = self.blocks.get(at).ok_or_else(unreadable)?;
        let end = self.blocks.get(at + 1).map_or(self.end, |b| b.position);
        let (bytes, plain) = (block.bytes as usize, block.plain as usize);
        if plain > BLOCK_BYTES_MAX || bytes > 2 * BLOCK_BYTES_MAX {
            return Err(unreadable());
        }
        let mut stored = vec![0; bytes];
        let filled = read_up_to(&self.file, &mut stored, block.offset);
        let filled = filled.map_err(|error| Stop::Failed(io_error("read", &self.path)(error)))?;
        if filled < bytes || <[u8; 32]>::from(Sha256::digest(&stored)) != block.digest {
            return Err(unreadable());
        }
        let plain = zstd::bulk::decompress(&stored, plain).map_err(|_| unreadable())?;
        block.records(&plain, end).ok_or_else(unreadable)
    }

    /// The record that begins at a position; none if none does.
    pub(super) fn record_at(&self, position: u64) -> Result<Option<Kept>, Stop> {
        let block = self.block_at(position)?;
        Ok(block.into_iter().find(|kept| kept.position == position))
    }

    /// The record that ends at a position; none if none does.
    pub(super) fn record_ending(&self, end: u64) -> Result<Option<Kept>, Stop> {
        let block = self.block_at(end.saturating_sub(1))?;
        Ok(block.into_iter().find(|kept| kept.end == end))
    }
}

impl Block {
    fn to_bytes(self) -> Vec<u8> {
        let mut bytes = self.position.to_be_bytes().to_vec();
        bytes.extend_from_slice(&self.first.to_be_bytes());
        bytes.extend_from_slice(&self.previous);
        bytes.extend_from_slice(&self.offset.to_be_bytes());
        bytes.extend_from_slice(&self.bytes.to_be_bytes());
        bytes.extend_from_slice(&self.plain.to_be_bytes());
        bytes.extend_from_slice(&self.digest);
        bytes
    }

    fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let mut rest = Rest(bytes);
        let block = Self {
            position: rest.number()?,
            first: rest.number()?,
            previous: rest.octets()?,
            offset: rest.number()?,
            bytes: u32::from_be_bytes(rest.octets()?),
            plain: u32::from_be_bytes(rest.octets()?),
            digest: rest.octets()?,
        };
        rest.0.is_empty().then_some(block)
    }

    /// The records in the decompressed block, which end at `end`; none if it is anything else.
    fn records(&self, plain: &[u8], end: u64) -> Option<Vec<Kept>> {
        let (mut position, mut sequence) = (self.position, self.first);
        let mut previous = self.previous;
        let mut rest = Rest(plain);
        let mut records = Vec::new();
        while !rest.0.is_empty() {
            let stored = u64::from(u32::from_be_bytes(rest.octets()?));
            let frame = Frame {
                sequence,
                group_first: rest.number()?,
                group_count: u32::from_be_bytes(rest.octets()?),
                previous,
            };
            let [kind] = rest.octets()?;
            let length = u32::from_be_bytes(rest.octets()?) as usize;
            let bytes = rest.bytes(length)?.to_vec();
            let hashes = match kind {
                0 => None,
                1 => Some(Hashes {
                    record: rest.octets()?,
                    leaf: rest.octets()?,
                }),
                _ => return None,
            };
            let kept = Kept {
                position,
                end: position.checked_add(stored)?,
                frame,
                bytes,
                hashes,
            };
            previous = link_of(&previous, &kept.digest());
            (position, sequence) = (kept.end, sequence.checked_add(1)?);
            records.push(kept);
        }
        (position == end).then_some(records)
    }
}

/// Where the facts of each block stand in a file.
#[cfg(feature = "fuzzing")]
pub(super) fn blocks(file: &[u8]) -> Vec<std::ops::Range<usize>> {
    let count = file.get(FACTS_BYTES - 8..FACTS_BYTES);
    let count = count.and_then(|count| count.try_into().ok());
    let count = count.map_or(0, u64::from_be_bytes);
    let starts = (0..count).map(|n| FACTS_BYTES + n as usize * BLOCK_FACTS_BYTES);
    let facts = starts.map(|start| start..start + BLOCK_FACTS_BYTES);
    facts.take_while(|facts| facts.end <= file.len()).collect()
}

/// Bytes that are being read.
struct Rest<'a>(&'a [u8]);

impl<'a> Rest<'a> {
    fn octets<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (found, rest) = self.0.split_first_chunk()?;
        self.0 = rest;
        Some(*found)
    }

    fn number(&mut self) -> Option<u64> {
        self.octets().map(u64::from_be_bytes)
    }

    fn bytes(&mut self, length: usize) -> Option<&'a [u8]> {
        let (found, rest) = self.0.split_at_checked(length)?;
        self.0 = rest;
        Some(found)
    }
}

/// Numbers one after the other, and nothing else.
struct Numbers<'a>(&'a [u8]);

impl Numbers<'_> {
    fn all<const N: usize>(&self) -> Option<[u64; N]> {
        let (numbers, rest) = self.0.as_chunks::<8>();
        let numbers: Vec<u64> = numbers.iter().map(|n| u64::from_be_bytes(*n)).collect();
        rest.is_empty().then_some(())?;
        numbers.try_into().ok()
    }
}

/// A pruned file that is being made.
#[derive(Default)]
pub(super) struct Pruning {
    blocks: Vec<Block>,
    stored: Vec<u8>,
    plain: Vec<u8>,
    /// What the block that is being filled begins with.
    begun: Option<(u64, u64, [u8; 32])>,
    records: u64,
    end: u64,
}

impl Pruning {
    /// Adds the next record: whole, or what is kept of it.
    pub(super) fn push(
        &mut self,
        frame: &Frame,
        record: &Record,
        kept: Option<&[u8]>,
    ) -> io::Result<()> {
        let position = record.position.0;
        self.begun
            .get_or_insert((position, frame.sequence, frame.previous));
        let stored = (HEADER_BYTES + record.bytes.len()) as u32;
        self.plain.extend_from_slice(&stored.to_be_bytes());
        self.plain
            .extend_from_slice(&frame.group_first.to_be_bytes());
        self.plain
            .extend_from_slice(&frame.group_count.to_be_bytes());
        let bytes = kept.unwrap_or(&record.bytes);
        self.plain.push(u8::from(kept.is_some()));
        self.plain
            .extend_from_slice(&(bytes.len() as u32).to_be_bytes());
        self.plain.extend_from_slice(bytes);
        if kept.is_some() {
            self.plain.extend_from_slice(&Sha256::digest(&record.bytes));
            self.plain.extend_from_slice(&leaf_hash(&record.bytes));
        }
        self.records += 1;
        self.end = record.end.0;
        if self.plain.len() >= BLOCK_BYTES {
            self.end_block()?;
        }
        Ok(())
    }

    fn end_block(&mut self) -> io::Result<()> {
        let Some((position, first, previous)) = self.begun.take() else {
            return Ok(());
        };
        let stored = zstd::bulk::compress(&self.plain, COMPRESSION_LEVEL)?;
        self.blocks.push(Block {
            position,
            first,
            previous,
            // Counted from the first block until the length of the header is known.
            offset: self.stored.len() as u64,
            bytes: stored.len() as u32,
            plain: self.plain.len() as u32,
            digest: Sha256::digest(&stored).into(),
        });
        self.stored.extend_from_slice(&stored);
        self.plain.clear();
        Ok(())
    }

    /// Writes the file under the name of a part, durably; none if there is no record in it.
    pub(super) fn write(
        mut self,
        disk: &dyn Disk,
        folder: &Path,
    ) -> Result<Option<PrunedFile>, StorageError> {
        let base = self.blocks.first().map(|block| block.position);
        let first = self.blocks.first().map(|block| block.first);
        let begun = self.begun;
        let (Some(base), Some(first)) = (
            base.or(begun.map(|(position, ..)| position)),
            first.or(begun.map(|(_, first, _)| first)),
        ) else {
            return Ok(None);
        };
        let part = part_of(&path(folder, base));
        self.end_block().map_err(io_error("write", &part))?;
        let mut header = MAGIC.to_vec();
        let count = self.blocks.len() as u64;
        for number in [base, self.end, first, self.records, count] {
            header.extend_from_slice(&number.to_be_bytes());
        }
        let before = FACTS_BYTES + self.blocks.len() * BLOCK_FACTS_BYTES + DIGEST_BYTES;
        for block in &self.blocks {
            let offset = block.offset.saturating_add(before as u64);
            header.extend_from_slice(&Block { offset, ..*block }.to_bytes());
        }
        let digest: [u8; 32] = Sha256::digest(&header).into();
        header.extend_from_slice(&digest);
        header.extend_from_slice(&self.stored);
        write_part(disk, &part, |file| disk.write_at(file, &header, 0))?;
        Ok(Some(PrunedFile {
            first,
            end: first.saturating_add(self.records),
            digest,
        }))
    }
}

/// The name under which a file is written before it counts.
pub(super) fn part_of(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".part");
    PathBuf::from(name)
}

/// Writes a file that does not count yet, durably.
pub(super) fn write_part(
    disk: &dyn Disk,
    part: &Path,
    write: impl FnOnce(&File) -> io::Result<()>,
) -> Result<(), StorageError> {
    let written = disk.create(part).and_then(|file| {
        write(&file)?;
        disk.sync_file(&file)
    });
    written.map_err(|error| {
        // Half of it helps nobody, and takes room on a full disk.
        let _ = fs::remove_file(part);
        if is_disk_full(&error) {
            StorageError::DiskFull {
                path: part.to_owned(),
                bytes: 0,
            }
        } else {
            io_error("write", part)(error)
        }
    })
}
