//! Deterministic CBOR (RFC 8949 section 4.2.1) with integer map keys: the strict reader that runs before any library,
//! and the small map reader and writer that the message modules are built on.
//!
//! The reader is iterative over a fixed-depth stack, so no input can exhaust the call stack, and it accepts exactly one
//! encoding of each value: what passes it re-encodes to the same bytes.

mod deterministic;
mod fields;
mod map;
mod writer;

use ciborium::Value;

pub use self::deterministic::{DEPTH_MAX, Rule, check_deterministic};
pub use self::fields::Fields;
pub use self::map::Map;
use crate::Error;

/// The most bytes of the head of a value.
pub const HEAD_BYTES_MAX: usize = 9;

/// The head of a byte string of this length, as an item of a sequence (RFC 8742) that is too long to be held in memory.
pub fn bytes_head(length: u64) -> Vec<u8> {
    let mut out = Vec::with_capacity(HEAD_BYTES_MAX);
    writer::head(writer::BYTES, length, &mut out);
    out
}

/// Reads the head of such an item: how long the byte string is, and how long its head. `None` if no byte string begins there
/// in the one way in which it may.
pub fn read_bytes_head(bytes: &[u8]) -> Option<(u64, usize)> {
    let (major, length, head_bytes) = deterministic::head(bytes, 0).ok()?;
    (major == writer::BYTES).then_some((length, head_bytes))
}

/// Decodes exactly one deterministically encoded value of at most `bytes_max` bytes.
///
/// # Errors
/// [`Error::Oversize`], or [`Error::Encoding`] with the rule that was broken.
pub fn decode(what: &'static str, bytes: &[u8], bytes_max: usize) -> Result<Value, Error> {
    if bytes.len() > bytes_max {
        return Err(Error::Oversize { what, bytes_max });
    }
    check_deterministic(bytes).map_err(|(offset, rule)| Error::Encoding { what, offset, rule })?;
    ciborium::from_reader(bytes).map_err(|_| Error::Shape {
        what,
        why: "not a CBOR value that this version reads".to_owned(),
    })
}

/// Encodes a value built by [`Map`] (or of scalars and arrays of such), deterministically.
pub fn encode(value: &Value) -> Vec<u8> {
    let mut out = Vec::new();
    writer::value(value, &mut out);
    debug_assert_eq!(check_deterministic(&out), Ok(()));
    out
}

#[cfg(test)]
mod tests;
