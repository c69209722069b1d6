//! What the fuzz targets call of the index: the values of its database, apart from the database.

use super::bucket::Bucket;
use super::sled::{decode_head, encode_head};

/// Reads a bucket of entries, writes it again, and reads that; none if it is none. Numbers can be written in more than
/// one way, so it is the second time that bytes stay what they are.
pub fn bucket(bytes: &[u8]) -> Option<[Vec<u8>; 2]> {
    let written = Bucket::from_bytes(bytes)?.to_bytes();
    let again = Bucket::from_bytes(&written)?.to_bytes();
    Some([written, again])
}

/// Reads the head that the index remembers and writes it again; none if it is none.
pub fn head(bytes: &[u8]) -> Option<Vec<u8>> {
    decode_head(bytes).map(|(head, entries)| encode_head(&head, entries))
}
