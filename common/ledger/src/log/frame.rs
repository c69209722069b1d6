//! How one record is stored.
//!
//! ```text
//! offset  bytes
//!      0      4  magic, "MML1": the format and its version
//!      4      4  length of the record, big-endian
//!      8      4  CRC-32C over the position of the frame (8 bytes, big-endian) and then the whole
//!                frame but for these four bytes
//!     12      8  sequence number of the record, big-endian
//!     20      8  sequence number of the first record of its group, big-endian
//!     28      4  number of records in its group, big-endian
//!     32     32  link of the record before it
//!     64         the record
//! ```
//!
//! The position is in the checksum so that a frame counts only where it was written: bytes that
//! look like a frame, inside a record or in a file under a wrong name, are not one.

use super::{Position, RECORD_BYTES_MAX};

/// How every frame begins.
pub(super) const MAGIC: [u8; 4] = *b"MML1";

/// The bytes of a frame in front of its record.
pub(super) const HEADER_BYTES: usize = 64;

/// The largest frame.
pub(super) const FRAME_BYTES_MAX: usize = HEADER_BYTES + RECORD_BYTES_MAX;

/// The sequence number in a header that is not verified; none if it is too short to hold one.
pub(super) fn first_sequence(header: &[u8]) -> Option<u64> {
    let number = header.get(12..20)?.try_into().ok()?;
    Some(u64::from_be_bytes(number))
}

/// Why no frame can be read at a position.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Unreadable {
    /// The bytes end before the frame does.
    Short,
    /// It does not begin like a frame.
    Magic,
    /// It says it is longer than a frame can be.
    Length,
    /// The checksum does not match.
    Checksum,
    /// The checksum matches, but the sequence number is not in the group: never written by us.
    Group,
    /// What was kept of pruned records is not what the file says.
    Pruned,
}

impl Unreadable {
    /// The reason in words, for an error message.
    pub(super) fn reason(self) -> &'static str {
        match self {
            Self::Short => "the file ends inside a record",
            Self::Magic => "no record begins here",
            Self::Length => "the length of the record is impossible",
            Self::Checksum => "the checksum does not match",
            Self::Group => "the record is not in its own group",
            Self::Pruned => "what was kept of pruned records is damaged",
        }
    }
}

/// The header of a frame whose checksum matched.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Frame {
    pub(super) sequence: u64,
    pub(super) group_first: u64,
    pub(super) group_count: u32,
    pub(super) previous: [u8; 32],
}

impl Frame {
    /// Whether this is the last record of its group.
    pub(super) fn ends_group(&self) -> bool {
        // `decode` made sure that the sequence number is within the group, so nothing wraps.
        self.sequence.wrapping_sub(self.group_first) == u64::from(self.group_count).wrapping_sub(1)
    }

    /// Appends the frame of `record` at `position` to `out`. The caller has checked the length of
    /// the record.
    pub(super) fn encode(&self, position: Position, record: &[u8], out: &mut Vec<u8>) {
        let length = u32::try_from(record.len()).unwrap_or(u32::MAX);
        let mut header = [0; HEADER_BYTES];
        header[0..4].copy_from_slice(&MAGIC);
        header[4..8].copy_from_slice(&length.to_be_bytes());
        header[12..20].copy_from_slice(&self.sequence.to_be_bytes());
        header[20..28].copy_from_slice(&self.group_first.to_be_bytes());
        header[28..32].copy_from_slice(&self.group_count.to_be_bytes());
        header[32..64].copy_from_slice(&self.previous);
        let checksum = checksum(position, &header, record);
        header[8..12].copy_from_slice(&checksum.to_be_bytes());
        out.extend_from_slice(&header);
        out.extend_from_slice(record);
    }

    /// The length of the whole frame that begins with `bytes`, as far as its header can be
    /// believed before the checksum.
    pub(super) fn stored_bytes(bytes: &[u8]) -> Result<usize, Unreadable> {
        if bytes.get(..4).ok_or(Unreadable::Short)? != MAGIC {
            return Err(Unreadable::Magic);
        }
        if bytes.len() < HEADER_BYTES {
            return Err(Unreadable::Short);
        }
        let length = u32::from_be_bytes(array(bytes, 4)) as usize;
        if length > RECORD_BYTES_MAX {
            return Err(Unreadable::Length);
        }
        Ok(HEADER_BYTES + length)
    }

    /// Reads the frame that begins with `bytes`, stored at `position`; the record is
    /// `bytes[HEADER_BYTES..stored_bytes]`.
    pub(super) fn decode(bytes: &[u8], position: Position) -> Result<(Self, usize), Unreadable> {
        let stored = Self::stored_bytes(bytes)?;
        let bytes = bytes.get(..stored).ok_or(Unreadable::Short)?;
        let (header, record) = bytes.split_at(HEADER_BYTES);
        let header: [u8; HEADER_BYTES] = array(header, 0);
        if checksum(position, &header, record) != u32::from_be_bytes(array(&header, 8)) {
            return Err(Unreadable::Checksum);
        }
        let frame = Self {
            sequence: u64::from_be_bytes(array(&header, 12)),
            group_first: u64::from_be_bytes(array(&header, 20)),
            group_count: u32::from_be_bytes(array(&header, 28)),
            previous: array(&header, 32),
        };
        let group_end = frame.group_first.checked_add(u64::from(frame.group_count));
        if frame.sequence < frame.group_first || group_end.is_none_or(|end| frame.sequence >= end) {
            return Err(Unreadable::Group);
        }
        Ok((frame, stored))
    }
}

/// What `bytes`, stored at `position` and not a frame, are but for one bit that was changed; `None` if they are not.
///
/// A write that was torn lacks whole sectors. Bytes that are a frame but for one bit were once written whole.
pub(super) fn one_bit_off(bytes: &[u8], position: Position) -> Option<Vec<u8>> {
    let mut header: [u8; HEADER_BYTES] = array(bytes.get(..HEADER_BYTES)?, 0);
    // The magic and the length decide what the checksum is computed over, so each of their bits is tried.
    for bit in 0..64 {
        header[bit / 8] ^= 1 << (bit % 8);
        if let Ok(stored) = Frame::stored_bytes(&header)
            && let Some(frame) = bytes.get(..stored)
        {
            let mut frame = frame.to_vec();
            frame[..HEADER_BYTES].copy_from_slice(&header);
            if Frame::decode(&frame, position).is_ok() {
                return Some(frame);
            }
        }
        header[bit / 8] ^= 1 << (bit % 8);
    }
    let stored = Frame::stored_bytes(bytes).ok()?;
    let mut frame = bytes.get(..stored)?.to_vec();
    let computed = checksum(position, &header, &frame[HEADER_BYTES..]);
    let difference = computed ^ u32::from_be_bytes(array(&header, 8));
    if difference.count_ones() == 1 {
        let repaired = computed.to_be_bytes();
        frame[8..12].copy_from_slice(&repaired);
        return Some(frame);
    }
    // A changed bit changes the checksum by what its distance from the end makes of it, whatever the other bits are.
    let mut effect = CRC_32C;
    for at in (12..stored).rev() {
        for bit in (0..8).rev() {
            if effect == difference {
                frame[at] ^= 1 << bit;
                return Frame::decode(&frame, position).is_ok().then_some(frame);
            }
            effect = (effect >> 1) ^ if effect & 1 == 1 { CRC_32C } else { 0 };
        }
    }
    None
}

/// What a disk writes whole or not at all, in bytes.
const SECTOR_BYTES: usize = 512;

/// Whether `stored`, at this offset of its file, differs from `whole` first in a sector of which nothing arrived: what lies
/// in it is zeros, and a frame may reach into it with a byte or two that have no more than one bit set.
pub(super) fn lacks_a_sector(stored: &[u8], whole: &[u8], offset: u64) -> bool {
    let mut bytes = stored.iter().zip(whole);
    let Some(at) = bytes.position(|(is, was)| is != was) else {
        return false;
    };
    let within = offset.saturating_add(at as u64) % SECTOR_BYTES as u64;
    let within = usize::try_from(within).unwrap_or(0);
    let before = within.min(at);
    let behind = SECTOR_BYTES - within;
    let end = (at + behind).min(whole.len());
    let sector = stored.get(at - before..end).unwrap_or_default();
    sector.iter().all(|byte| *byte == 0)
}

/// The polynomial of CRC-32C, reflected (RFC 3720 section 12.1).
const CRC_32C: u32 = 0x82f6_3b78;

/// The checksum of a frame; the four bytes of `header` that hold it are left out.
fn checksum(position: Position, header: &[u8; HEADER_BYTES], record: &[u8]) -> u32 {
    let sum = crc32c::crc32c(&position.to_u64().to_be_bytes());
    let sum = crc32c::crc32c_append(sum, &header[..8]);
    let sum = crc32c::crc32c_append(sum, &header[12..]);
    crc32c::crc32c_append(sum, record)
}

/// `N` bytes of `bytes` from `at` on. The callers have checked the length; bytes that are not there
/// would read as zero.
fn array<const N: usize>(bytes: &[u8], at: usize) -> [u8; N] {
    let mut out = [0; N];
    if let Some(found) = bytes.get(at..at + N) {
        out.copy_from_slice(found);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample() -> (Frame, Vec<u8>) {
        let frame = Frame {
            sequence: 7,
            group_first: 6,
            group_count: 2,
            previous: [9; 32],
        };
        let mut bytes = Vec::new();
        frame.encode(Position(1000), b"record", &mut bytes);
        (frame, bytes)
    }

    #[test]
    fn a_frame_is_read_as_it_was_written() {
        let (frame, mut bytes) = sample();
        assert_eq!(bytes.len(), HEADER_BYTES + 6);
        assert!(frame.ends_group());
        bytes.extend_from_slice(b"what follows");
        assert_eq!(
            Frame::decode(&bytes, Position(1000)),
            Ok((frame, HEADER_BYTES + 6))
        );
        assert_eq!(&bytes[HEADER_BYTES..HEADER_BYTES + 6], b"record");
    }

    #[test]
    fn every_flipped_bit_of_a_frame_is_noticed() {
        let (_, bytes) = sample();
        for at in 0..bytes.len() {
            for bit in 0..8 {
                let mut flipped = bytes.clone();
                flipped[at] ^= 1 << bit;
                assert!(
                    Frame::decode(&flipped, Position(1000)).is_err(),
                    "bit {bit} of byte {at}"
                );
            }
        }
    }

    #[test]
    fn one_flipped_bit_is_told_from_a_frame_that_was_never_whole() {
        let (_, mut bytes) = sample();
        let whole = bytes.len();
        bytes.extend_from_slice(&[0x5a; 300]);
        for bit in 0..whole * 8 {
            let mut flipped = bytes.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            let found = one_bit_off(&flipped, Position(1000));
            assert_eq!(found.as_deref(), Some(&bytes[..whole]), "bit {bit}");
        }
        for length in 0..whole {
            assert_eq!(one_bit_off(&bytes[..length], Position(1000)), None);
            let mut zeros = bytes.clone();
            zeros[length..].fill(0);
            if zeros[..whole] != bytes[..whole]
                && (zeros[length - length % 8..whole] != bytes[length - length % 8..whole])
            {
                let repaired = one_bit_off(&zeros, Position(1000));
                // A tail that differs in one bit alone is one bit off, too.
                let differing: u32 = (0..whole)
                    .map(|at| (zeros[at] ^ bytes[at]).count_ones())
                    .sum();
                assert_eq!(repaired.is_some(), differing == 1, "{length}");
            }
        }
    }

    #[test]
    fn a_sector_that_never_arrived_is_told_from_a_bit_that_was_changed() {
        let whole = [7_u8; 600];
        let lacks = |changed: &dyn Fn(&mut [u8]), whole: &[u8], offset| {
            let mut stored = whole.to_vec();
            changed(&mut stored);
            lacks_a_sector(&stored, whole, offset)
        };
        assert!(!lacks(&|_| {}, &whole, 0));
        // It reaches into the next sector with its last byte, which has one bit.
        let mut reaching = whole;
        reaching[599] = 0x40;
        let lost = |stored: &mut [u8]| stored[599] = 0;
        assert!(lacks(&lost, &reaching, 1024 - 599));
        assert!(lacks(&lost, &reaching, 3 * 512 + 1024 - 599));
        // With the byte before it in the same sector, that one would not be there either.
        assert!(!lacks(&lost, &reaching, 1024 - 598));
        assert!(!lacks(&lost, &reaching, 512));
        // It begins with the last byte of a sector.
        let mut begun = whole;
        begun[0] = 1;
        assert!(lacks(&|stored| stored[0] = 0, &begun, 511));
        assert!(!lacks(&|stored| stored[0] = 0, &begun, 510));
        // A bit that was set, or one among others, is no sector.
        assert!(!lacks(&|stored| stored[599] = 0x41, &reaching, 1024 - 599));
        assert!(!lacks(&|stored| stored[300] = 3, &whole, 0));
        assert!(!lacks(&|stored| stored[599] = 3, &whole, 600));
    }

    #[test]
    fn a_frame_counts_only_where_it_was_written() {
        let (_, bytes) = sample();
        assert_eq!(
            Frame::decode(&bytes, Position(1001)),
            Err(Unreadable::Checksum)
        );
    }

    #[test]
    fn a_frame_cut_anywhere_is_short() {
        let (_, bytes) = sample();
        for length in 0..bytes.len() {
            assert_eq!(
                Frame::decode(&bytes[..length], Position(1000)),
                Err(Unreadable::Short)
            );
        }
    }

    #[test]
    fn a_frame_outside_its_own_group_is_refused() {
        for (sequence, group_first, group_count) in
            [(5, 6, 2), (8, 6, 2), (6, 6, 0), (u64::MAX, u64::MAX, 1)]
        {
            let frame = Frame {
                sequence,
                group_first,
                group_count,
                previous: [0; 32],
            };
            let mut bytes = Vec::new();
            frame.encode(Position::START, b"", &mut bytes);
            assert_eq!(
                Frame::decode(&bytes, Position::START),
                Err(Unreadable::Group)
            );
        }
    }
}
