//! What the fuzz targets call of the log: its checksums, made to fit what was changed. Whoever writes such a file on
//! purpose sees to that, and what is behind the checksums would hardly ever be reached otherwise.

use sha2::{Digest as _, Sha256};

use super::frame::{Frame, HEADER_BYTES, first_sequence};
use super::{Position, link, mark, pruned};

/// Reads the mark of how far a log was durable and writes it again; none if it is none.
pub fn mark(bytes: &[u8]) -> Option<Vec<u8>> {
    mark::decode(bytes).map(|head| mark::encode(&head))
}

/// Makes the checksum of a mark fit.
pub fn mend_mark(bytes: &mut [u8]) {
    if let Some((body, checksum)) = bytes.split_last_chunk_mut::<4>() {
        *checksum = crc32c::crc32c(body).to_be_bytes();
    }
}

/// Makes the checksums of the frames fit that follow one another from the beginning of a file of the log, and with
/// `chained` their links, too: the first keeps the link that it has.
pub fn mend_segment(bytes: &mut [u8], base: u64, chained: bool) {
    let (mut at, mut previous) = (0, None);
    while let Some(rest) = bytes.get_mut(at..)
        && let Ok(stored) = Frame::stored_bytes(rest)
        && let Some(frame) = rest.get_mut(..stored)
    {
        let (header, record) = frame.split_at_mut(HEADER_BYTES);
        let number = |from: usize| -> [u8; 8] {
            let bytes = header.get(from..from + 8);
            bytes
                .and_then(|bytes| bytes.try_into().ok())
                .unwrap_or_default()
        };
        let (first, count) = (u64::from_be_bytes(number(20)), number(24));
        let own: Option<[u8; 32]> = header.last_chunk().copied();
        let mended = Frame {
            sequence: first_sequence(header).unwrap_or_default(),
            group_first: first,
            group_count: (u64::from_be_bytes(count) & u64::from(u32::MAX)) as u32,
            previous: previous.filter(|_| chained).or(own).unwrap_or_default(),
        };
        let mut written = Vec::new();
        let position = Position(base.wrapping_add(at as u64));
        mended.encode(position, record, &mut written);
        previous = Some(link(&mended.previous, record));
        frame.copy_from_slice(&written);
        at += stored;
    }
}

/// Makes the digests in a file of pruned records fit: those of its blocks, and that of its header.
pub fn mend_pruned(bytes: &mut [u8]) {
    for at in pruned::blocks(bytes) {
        let Some(facts) = bytes.get(at.clone()) else {
            return;
        };
        let number = |from: usize, count: usize| {
            let octets = facts.get(from..from + count).unwrap_or_default();
            octets
                .iter()
                .fold(0_usize, |n, octet| n << 8 | usize::from(*octet))
        };
        let (offset, length) = (number(48, 8), number(56, 4));
        let end = offset.saturating_add(length);
        let digest = bytes.get(offset..end).map(Sha256::digest);
        if let (Some(digest), Some(place)) = (digest, bytes.get_mut(at.start + 64..at.end)) {
            place.copy_from_slice(&digest);
        }
    }
    let header = pruned::blocks(bytes).last().map(|last| last.end);
    if let Some((header, rest)) = header.and_then(|end| bytes.split_at_mut_checked(end))
        && let Some(digest) = rest.first_chunk_mut::<32>()
    {
        *digest = Sha256::digest(header).into();
    }
}
