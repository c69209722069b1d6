//! How the database is laid out.
//!
//! | key in the database | value |
//! |---|---|
//! | 0 | the format; the head: size, link, end; how many entries there are |
//! | 1, run (4 bytes, big-endian), bucket (2 bytes) | [entries](super::bucket) |

use crate::log::{Head, Position};

/// Where the head is stored.
pub(super) const HEAD_KEY: &[u8] = &[0];

/// What the key of a bucket begins with.
pub(super) const BUCKET: u8 = 1;

/// The layout of the keys and values, stored with the head.
const FORMAT: u8 = 5;

/// The key of a bucket.
pub(super) fn bucket_key(run: u32, bucket: u16) -> [u8; 7] {
    let [a, b, c, d] = run.to_be_bytes();
    let [e, f] = bucket.to_be_bytes();
    [BUCKET, a, b, c, d, e, f]
}

/// The run and the bucket of a key; none if it is another one's.
pub(super) fn parse_bucket_key(key: &[u8]) -> Option<(u32, u16)> {
    match *key {
        [BUCKET, a, b, c, d, e, f] => {
            Some((u32::from_be_bytes([a, b, c, d]), u16::from_be_bytes([e, f])))
        }
        _ => None,
    }
}

/// The head, and how many entries there are.
pub(super) fn encode_head(head: &Head, entries: u64) -> Vec<u8> {
    let mut bytes = vec![FORMAT];
    bytes.extend_from_slice(&head.size.to_be_bytes());
    bytes.extend_from_slice(&head.link);
    bytes.extend_from_slice(&head.end.to_u64().to_be_bytes());
    bytes.extend_from_slice(&entries.to_be_bytes());
    bytes
}

/// None if another version wrote it.
pub(super) fn decode_head(bytes: &[u8]) -> Option<(Head, u64)> {
    let (format, bytes) = bytes.split_first()?;
    let (size, bytes) = bytes.split_first_chunk()?;
    let (link, bytes) = bytes.split_first_chunk()?;
    let (end, bytes) = bytes.split_first_chunk()?;
    let entries: &[u8; 8] = bytes.try_into().ok()?;
    let head = Head {
        size: u64::from_be_bytes(*size),
        link: *link,
        end: Position::from_u64(u64::from_be_bytes(*end)),
    };
    (*format == FORMAT).then_some((head, u64::from_be_bytes(*entries)))
}
