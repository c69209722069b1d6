//! What stands under one key of the database: some entries of the index, packed.
//!
//! Most keys begin as the one before them does, and most values are positions and sequence numbers, which are far below
//! 2^64. So an entry is, in numbers of seven bits to a byte, the lowest first (LEB128):
//!
//! ```text
//! how many bytes the key shares with the one before it
//! how many bytes it has beyond, and these
//! 0                            a key that was removed
//! 2 + 2 * n, and n numbers     a value of n times 8 bytes, each 8 big-endian
//! 1 + 2 * n, and n bytes       any other value
//! ```
//!
//! The keys ascend and each shares all that it can, so that entries are written in one way: whatever else stands there was
//! not written here.

use std::collections::BTreeMap;

use mintmark_protocol::identifier::{DEVICE_ID_BYTES_MAX, SKU_BYTES_MAX};

/// The longest key, in bytes. What few bytes stand for grows with it, since each entry may share a whole key.
const KEY_BYTES_MAX: usize = 256;
// The longest one is that of a device: `d`, SKU, 0x00, device identifier.
const _: () = assert!(2 + SKU_BYTES_MAX + DEVICE_ID_BYTES_MAX <= KEY_BYTES_MAX);

/// Some entries; none in the place of a value says that the key was removed.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Bucket(pub(super) BTreeMap<Vec<u8>, Option<Vec<u8>>>);

impl Bucket {
    /// As it stands in the database.
    pub(super) fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = Vec::new();
        let mut before: &[u8] = &[];
        for (key, value) in &self.0 {
            let shared = before
                .iter()
                .zip(key)
                .take_while(|(one, other)| one == other);
            let shared = shared.count();
            put_number(&mut bytes, shared as u64);
            put_number(&mut bytes, (key.len() - shared) as u64);
            bytes.extend_from_slice(key.get(shared..).unwrap_or_default());
            before = key;
            match value
                .as_deref()
                .map(|value| (value, value.as_chunks::<8>()))
            {
                None => put_number(&mut bytes, 0),
                Some((_, (words, []))) => {
                    put_number(&mut bytes, 2 + 2 * words.len() as u64);
                    for word in words {
                        put_number(&mut bytes, u64::from_be_bytes(*word));
                    }
                }
                Some((value, _)) => {
                    put_number(&mut bytes, 1 + 2 * value.len() as u64);
                    bytes.extend_from_slice(value);
                }
            }
        }
        bytes
    }

    /// None if it is not what [`Self::to_bytes`] gives.
    pub(super) fn from_bytes(mut bytes: &[u8]) -> Option<Self> {
        let mut entries = BTreeMap::new();
        let mut key = Vec::new();
        while !bytes.is_empty() {
            let shared = usize::try_from(number(&mut bytes)?).ok()?;
            let count = number(&mut bytes)?;
            let beyond = take(&mut bytes, count)?;
            // A key is above the one before it, and shares no byte too few with it; an empty one can only be the first.
            let above = beyond.first() > key.get(shared) || entries.is_empty();
            if shared > key.len() || !above || shared + beyond.len() > KEY_BYTES_MAX {
                return None;
            }
            key.truncate(shared);
            key.extend_from_slice(beyond);
            let value = match number(&mut bytes)? {
                0 => None,
                raw if raw % 2 == 1 => {
                    let raw = take(&mut bytes, raw / 2)?;
                    // What is made of words is written as words.
                    if raw.len().is_multiple_of(8) {
                        return None;
                    }
                    Some(raw.to_vec())
                }
                words => {
                    let words = words / 2 - 1;
                    // Each takes a byte at least.
                    if words > bytes.len() as u64 {
                        return None;
                    }
                    let mut value = Vec::new();
                    for _ in 0..words {
                        value.extend_from_slice(&number(&mut bytes)?.to_be_bytes());
                    }
                    Some(value)
                }
            };
            entries.insert(key.clone(), value);
        }
        Some(Self(entries))
    }
}

fn take<'a>(bytes: &mut &'a [u8], count: u64) -> Option<&'a [u8]> {
    let (taken, rest) = bytes.split_at_checked(usize::try_from(count).ok()?)?;
    *bytes = rest;
    Some(taken)
}

fn put_number(bytes: &mut Vec<u8>, mut number: u64) {
    while number >= 0x80 {
        bytes.push(number as u8 | 0x80);
        number >>= 7;
    }
    bytes.push(number as u8);
}

fn number(bytes: &mut &[u8]) -> Option<u64> {
    let mut number = 0_u64;
    for shift in (0..64).step_by(7) {
        let (byte, rest) = bytes.split_first()?;
        *bytes = rest;
        let seven = u64::from(byte & 0x7f);
        number |= seven << shift;
        if (number >> shift) & 0x7f != seven {
            return None;
        }
        if byte & 0x80 == 0 {
            // The highest seven bits are not written where they are none.
            return (seven > 0 || shift == 0).then_some(number);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn entry() -> impl Strategy<Value = (Vec<u8>, Option<Vec<u8>>)> {
        let words = proptest::collection::vec(any::<u64>(), 0..4)
            .prop_map(|words| words.iter().flat_map(|word| word.to_be_bytes()).collect());
        let value = prop_oneof![
            Just(None),
            words.prop_map(Some),
            proptest::collection::vec(any::<u8>(), 0..40).prop_map(Some),
        ];
        (proptest::collection::vec(0..3_u8, 0..6), value)
    }

    proptest! {
        #[test]
        fn what_is_packed_is_unpacked(entries in proptest::collection::btree_map(
            entry().prop_map(|(key, _)| key), entry().prop_map(|(_, value)| value), 0..20))
        {
            let bucket = Bucket(entries);
            prop_assert_eq!(Bucket::from_bytes(&bucket.to_bytes()), Some(bucket));
        }

        #[test]
        fn whatever_stands_there_is_read_or_not(bytes in proptest::collection::vec(any::<u8>(), 0..60)) {
            if let Some(bucket) = Bucket::from_bytes(&bytes) {
                prop_assert_eq!(bucket.to_bytes(), bytes);
            }
        }
    }

    /// An entry as it is written: what is shared, what is beyond, and a value as it stands.
    fn written(entries: &[(u8, &[u8], &[u8])]) -> Vec<u8> {
        let entry = |(shared, beyond, value): &(u8, &[u8], &[u8])| {
            [&[*shared, beyond.len() as u8], *beyond, *value].concat()
        };
        entries.iter().flat_map(entry).collect()
    }

    #[test]
    fn what_its_writer_never_writes_is_refused() {
        let one: &[u8] = &[4, 1];
        let fit = written(&[(0, b"ab", one), (1, b"c", one), (2, b"d", &[0])]);
        assert_eq!(Bucket::from_bytes(&fit).unwrap().to_bytes(), fit);
        assert!(Bucket::from_bytes(&written(&[(0, b"", one), (0, b"a", one)])).is_some());
        let eight = [17, 0, 0, 0, 0, 0, 0, 0, 1];
        for (what, bytes) in [
            (
                "a key below the one before",
                written(&[(0, b"b", one), (0, b"a", one)]),
            ),
            (
                "a key below, behind what is shared",
                written(&[(0, b"ab", one), (1, b"a", one)]),
            ),
            ("the same key", written(&[(0, b"a", one), (1, b"", one)])),
            (
                "the same key, nothing shared",
                written(&[(0, b"a", one), (0, b"a", one)]),
            ),
            (
                "the empty key twice",
                written(&[(0, b"", one), (0, b"", one)]),
            ),
            (
                "a key that the next one begins with",
                written(&[(0, b"ab", one), (1, b"", one)]),
            ),
            (
                "less shared than could be",
                written(&[(0, b"ab", one), (0, b"ac", one)]),
            ),
            (
                "more shared than there is",
                written(&[(0, b"a", one), (2, b"c", one)]),
            ),
            (
                "more shared than there is, at first",
                written(&[(1, b"a", one)]),
            ),
            ("a word as bytes", written(&[(0, b"a", &eight)])),
            ("no bytes, as bytes", written(&[(0, b"a", &[1])])),
            (
                "a number with a zero above it",
                written(&[(0, b"a", &[4, 0x81, 0])]),
            ),
        ] {
            assert_eq!(Bucket::from_bytes(&bytes), None, "{what}");
        }
    }

    #[test]
    fn few_bytes_stand_for_few() {
        let bucket = |count: usize| {
            let long = vec![b'a'; count];
            let mut bytes = Vec::new();
            for number in [0, count as u64] {
                put_number(&mut bytes, number);
            }
            bytes.extend_from_slice(&long);
            bytes.push(0);
            // Each shares all of the one before it, and is one longer.
            put_number(&mut bytes, count as u64);
            bytes.extend_from_slice(&[1, b'a', 0]);
            Bucket::from_bytes(&bytes)
        };
        assert_eq!(bucket(KEY_BYTES_MAX - 1).unwrap().0.len(), 2);
        assert_eq!(bucket(KEY_BYTES_MAX), None);
    }

    #[test]
    fn a_device_takes_few_bytes_beside_another_of_its_product() {
        let key = |n: u8| format!("dTH-200\0TH200-0000000{n}").into_bytes();
        let position = |n: u64| Some((n * 3_000_000).to_be_bytes().to_vec());
        let bucket = Bucket((0..8).map(|n| (key(n), position(n.into()))).collect());
        assert!(bucket.to_bytes().len() < 90);
    }

    #[test]
    fn a_number_beyond_64_bits_is_none() {
        let mut bytes: &[u8] = &[0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x02];
        assert_eq!(number(&mut bytes), None);
        let mut bytes: &[u8] = &[0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01];
        assert_eq!(number(&mut bytes), Some(u64::MAX));
    }
}
