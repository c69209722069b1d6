//! A group of records as it is stored.

use super::frame::{Frame, HEADER_BYTES};
use super::{GROUP_BYTES_MAX, GROUP_RECORDS_MAX, Head, Position, RECORD_BYTES_MAX, link};
use crate::StorageError;

/// The size of a group as stored, within the limits.
pub(super) fn stored_bytes(records: &[Vec<u8>]) -> Result<u64, StorageError> {
    if let Some(record) = records.iter().find(|r| r.len() > RECORD_BYTES_MAX) {
        return Err(StorageError::RecordTooLarge {
            bytes: record.len() as u64,
            bytes_max: RECORD_BYTES_MAX as u64,
        });
    }
    let bytes: u64 = records
        .iter()
        .map(|r| (HEADER_BYTES + r.len()) as u64)
        .sum();
    if records.is_empty() || records.len() > GROUP_RECORDS_MAX || bytes > GROUP_BYTES_MAX as u64 {
        return Err(StorageError::GroupOutOfBounds {
            records: records.len() as u64,
            bytes,
            records_max: GROUP_RECORDS_MAX as u64,
            bytes_max: GROUP_BYTES_MAX as u64,
        });
    }
    Ok(bytes)
}

/// Writes the frames of a group that follows `head` into `out`; returns the head behind it and
/// where its records begin.
pub(super) fn encode_group(
    head: &Head,
    records: &[Vec<u8>],
    out: &mut Vec<u8>,
) -> (Head, Vec<Position>) {
    out.clear();
    let mut next = *head;
    let mut positions = Vec::with_capacity(records.len());
    // `stored_bytes` keeps the number of records far below this.
    let group_count = u32::try_from(records.len()).unwrap_or(u32::MAX);
    for record in records {
        let frame = Frame {
            sequence: next.size,
            group_first: head.size,
            group_count,
            previous: next.link,
        };
        frame.encode(next.end, record, out);
        positions.push(next.end);
        next = Head {
            size: next.size.saturating_add(1),
            link: link(&next.link, record),
            end: Position(head.end.0.saturating_add(out.len() as u64)),
        };
    }
    (next, positions)
}
