//! What the fuzz targets call of the index: the values of its database, apart from the database.

use super::bucket::Bucket;
use super::layout::{decode_head, encode_head};

/// Reads a bucket of entries and writes it again; none if it is none.
pub fn bucket(bytes: &[u8]) -> Option<Vec<u8>> {
    Some(Bucket::from_bytes(bytes)?.to_bytes())
}

/// Reads the head that the index remembers and writes it again; none if it is none.
pub fn head(bytes: &[u8]) -> Option<Vec<u8>> {
    decode_head(bytes).map(|(head, entries)| encode_head(&head, entries))
}
