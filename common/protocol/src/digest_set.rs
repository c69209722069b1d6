//! A set of digests, cut short, in as few bytes as a sorted set of them takes.
//!
//! What is kept of each digest are its first `bits`. Sorted, each is written as what it is above the one before: the
//! difference, less one, in a Rice code whose parameter follows from count and width. A digest that is in the set is always
//! found; one that is not is found with a probability of count / 2^bits. The sets that say that something is good keep 128
//! bits, so that nobody finds a certificate that is taken for one of them; only a set whose false answer is a doubt keeps fewer.
//!
//! ```cddl
//! digest-set = [
//!   uint,                              ; how many
//!   0..128,                            ; bits that are kept of each
//!   bstr,                              ; see docs/formats.md
//! ]
//! ```

use ciborium::Value;

use crate::Error;
use crate::identifier::Fingerprint;

/// The most bits that are kept of a digest.
pub const BITS_MAX: u32 = 128;
const WHAT: &str = "digest set";

/// A sorted set of digests, cut short and encoded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DigestSet {
    count: u64,
    bits: u32,
    bytes: Vec<u8>,
}

impl DigestSet {
    /// The set of these, each the first `bits` bits of a digest; see [`cut`]. `bits` is 128 at most.
    pub fn new(mut values: Vec<u128>, bits: u32) -> Self {
        let bits = bits.min(BITS_MAX);
        values.sort_unstable();
        values.dedup();
        let count = values.len() as u64;
        let parameter = parameter(count, bits);
        let mut writer = BitWriter::default();
        let mut next = 0_u128;
        for value in values {
            let above = value.saturating_sub(next);
            let (quotient, rest) = divide(above, parameter);
            for _ in 0..quotient {
                writer.push(true);
            }
            writer.push(false);
            writer.push_bits(rest, parameter);
            next = value.saturating_add(1);
        }
        Self {
            count,
            bits,
            bytes: writer.bytes,
        }
    }

    /// The set in which a false answer comes once in 2^`doubt_bits`, of digests whose first 128 bits these are.
    pub fn filter(mut values: Vec<u128>, doubt_bits: u32) -> Self {
        let bits = length(values.len() as u64).saturating_add(doubt_bits);
        let bits = bits.min(BITS_MAX);
        for value in &mut values {
            *value = shorten(*value, bits);
        }
        Self::new(values, bits)
    }

    /// How many there are.
    pub fn count(&self) -> u64 {
        self.count
    }

    /// How many bits are kept of each.
    pub fn bits(&self) -> u32 {
        self.bits
    }

    /// Whether this digest is one of them.
    pub fn contains(&self, digest: &Fingerprint) -> bool {
        let wanted = cut(digest, self.bits);
        // They are in order.
        self.values()
            .map_while(Result::ok)
            .take_while(|value| *value <= wanted)
            .any(|value| value == wanted)
    }

    pub(crate) fn to_value(&self) -> Value {
        Value::Array(vec![
            self.count.into(),
            self.bits.into(),
            Value::Bytes(self.bytes.clone()),
        ])
    }

    /// Reads a set: one that has another encoding than the one that [`DigestSet::new`] gives it is refused.
    pub(crate) fn from_value(value: Value) -> Result<Self, Error> {
        let parts = value.into_array().ok();
        let parts = parts.and_then(|parts| <[Value; 3]>::try_from(parts).ok());
        let Some([count, bits, Value::Bytes(bytes)]) = parts else {
            return Err(wrong("a count, a width and a byte string were expected"));
        };
        let count = count.as_integer().and_then(|n| u64::try_from(n).ok());
        let bits = bits.as_integer().and_then(|n| u32::try_from(n).ok());
        let (Some(count), Some(bits @ 0..=BITS_MAX)) = (count, bits) else {
            return Err(wrong("a count and a width were expected"));
        };
        let set = Self { count, bits, bytes };
        let mut values = set.values();
        let mut found = 0_u64;
        for value in &mut values {
            value.map_err(wrong)?;
            found = found.saturating_add(1);
        }
        if found != count || !values.reader.is_at_end() {
            return Err(wrong("there are more bytes than it says"));
        }
        Ok(set)
    }

    fn values(&self) -> Values<'_> {
        Values {
            reader: BitReader::new(&self.bytes),
            left: self.count,
            parameter: parameter(self.count, self.bits),
            bits: self.bits,
            next: Some(0),
        }
    }
}

/// The first `bits` bits of a digest, 128 at most, as a number.
pub fn cut(digest: &Fingerprint, bits: u32) -> u128 {
    let first = digest.as_bytes().first_chunk().copied();
    shorten(u128::from_be_bytes(first.unwrap_or_default()), bits)
}

fn shorten(first: u128, bits: u32) -> u128 {
    first
        .checked_shr(BITS_MAX.saturating_sub(bits))
        .unwrap_or_default()
}

fn wrong(why: &'static str) -> Error {
    Error::Shape {
        what: WHAT,
        why: why.to_owned(),
    }
}

/// The number of bits of a number.
fn length(count: u64) -> u32 {
    u64::BITS.saturating_sub(count.leading_zeros())
}

/// How many bits of each difference are written as they are: the differences of `count` digests are of about as many.
fn parameter(count: u64, bits: u32) -> u32 {
    bits.saturating_sub(length(count))
}

fn divide(value: u128, parameter: u32) -> (u128, u128) {
    let quotient = value.checked_shr(parameter).unwrap_or_default();
    let whole = quotient.checked_shl(parameter).unwrap_or_default();
    (quotient, value.saturating_sub(whole))
}

/// Its values, in order; an error ends them.
struct Values<'a> {
    reader: BitReader<'a>,
    left: u64,
    parameter: u32,
    bits: u32,
    /// The least that the next one can be.
    next: Option<u128>,
}

impl Iterator for Values<'_> {
    type Item = Result<u128, &'static str>;

    fn next(&mut self) -> Option<Self::Item> {
        self.left = self.left.checked_sub(1)?;
        let value = self.read();
        if value.is_none() {
            self.left = 0;
        }
        Some(value.ok_or("there are fewer bytes than it says, or a value that is too large"))
    }
}

impl Values<'_> {
    fn read(&mut self) -> Option<u128> {
        let mut quotient = 0_u128;
        while self.reader.bit()? {
            quotient = quotient.checked_add(1)?;
        }
        if quotient.leading_zeros() < self.parameter {
            return None;
        }
        let whole = quotient.checked_shl(self.parameter).unwrap_or_default();
        let above = whole.checked_add(self.reader.bits(self.parameter)?)?;
        let value = self.next?.checked_add(above)?;
        // Of 128 bits, nothing lies above.
        if value.checked_shr(self.bits).unwrap_or_default() > 0 {
            return None;
        }
        self.next = value.checked_add(1);
        Some(value)
    }
}

#[derive(Default)]
struct BitWriter {
    bytes: Vec<u8>,
    /// Bits of the last byte that are taken; 0: all.
    used: u32,
}

impl BitWriter {
    fn push(&mut self, bit: bool) {
        if self.used == 0 {
            self.bytes.push(0);
        }
        if let (true, Some(last)) = (bit, self.bytes.last_mut()) {
            *last |= 0x80 >> self.used;
        }
        self.used = (self.used + 1) % 8;
    }

    /// The lowest `count` bits, the highest of them first.
    fn push_bits(&mut self, value: u128, count: u32) {
        for at in (0..count).rev() {
            self.push(value >> at & 1 == 1);
        }
    }
}

struct BitReader<'a> {
    bytes: &'a [u8],
    /// Bits of the first byte that are read.
    used: u32,
}

impl<'a> BitReader<'a> {
    fn new(bytes: &'a [u8]) -> Self {
        Self { bytes, used: 0 }
    }

    fn bit(&mut self) -> Option<bool> {
        Some(self.some_bits(1)? == 1)
    }

    /// At most what is left of the first byte.
    fn some_bits(&mut self, count: u32) -> Option<u8> {
        let (first, rest) = self.bytes.split_first()?;
        let left = 8_u32.checked_sub(self.used + count)?;
        let mask = u8::try_from((1_u32 << count) - 1).unwrap_or(u8::MAX);
        let bits = (first >> left) & mask;
        self.used += count;
        if self.used == 8 {
            (self.bytes, self.used) = (rest, 0);
        }
        Some(bits)
    }

    fn bits(&mut self, count: u32) -> Option<u128> {
        let (mut value, mut left) = (0_u128, count);
        while left > 0 {
            let now = left.min(8 - self.used);
            value = value << now | u128::from(self.some_bits(now)?);
            left -= now;
        }
        Some(value)
    }

    /// Whether nothing is left but the zeros that fill the last byte.
    fn is_at_end(&self) -> bool {
        match self.bytes {
            [] => true,
            [last] => self.used > 0 && last.checked_shl(self.used).unwrap_or_default() == 0,
            _ => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn digest(number: u64) -> Fingerprint {
        Fingerprint::of(&number.to_be_bytes())
    }

    fn set(count: u64, bits: u32) -> DigestSet {
        let values = (0..count).map(|number| cut(&digest(number), bits));
        DigestSet::new(values.collect(), bits)
    }

    #[test]
    fn what_is_in_a_set_is_found_and_nothing_else_is_in_128_bits() {
        for count in [0, 1, 2, 3, 100, 5000] {
            let set = set(count, 128);
            assert_eq!(set.count(), count);
            let read = DigestSet::from_value(set.to_value()).unwrap();
            assert_eq!(read, set);
            for number in (0..count).step_by(97) {
                assert!(read.contains(&digest(number)), "{number} of {count}");
            }
            for number in count..count + 50 {
                assert!(!read.contains(&digest(number)), "{number} of {count}");
            }
        }
    }

    #[test]
    fn a_set_takes_little_more_than_what_it_has_to() {
        // 128 - log2(5000) is 115.7 bits, and a Rice code takes 1.5 more or a little above.
        let bytes = set(5000, 128).bytes.len();
        assert!(bytes * 8 < 5000 * 118, "{bytes}");
    }

    #[test]
    fn a_filter_answers_falsely_as_often_as_it_says() {
        let digests: Vec<_> = (0..4000).map(digest).collect();
        let values = digests.iter().map(|digest| cut(digest, 128)).collect();
        let filter = DigestSet::filter(values, 8);
        assert!(
            digests
                .iter()
                .step_by(41)
                .all(|digest| filter.contains(digest))
        );
        let false_answers = (10_000..14_000)
            .filter(|number| filter.contains(&digest(*number)))
            .count();
        // One in 256 and a little less, of 4,000: 15.
        assert!((4..40).contains(&false_answers), "{false_answers}");
    }

    #[test]
    fn a_set_has_one_encoding() {
        let set = set(100, 40);
        let refused = |count: u64, bits: u32, bytes: Vec<u8>| {
            let value = Value::Array(vec![count.into(), bits.into(), Value::Bytes(bytes)]);
            DigestSet::from_value(value).is_err()
        };
        assert!(!refused(100, 40, set.bytes.clone()));
        assert!(refused(99, 40, set.bytes.clone()));
        assert!(refused(101, 40, set.bytes.clone()));
        assert!(refused(100, 129, set.bytes.clone()));
        let mut longer = set.bytes.clone();
        longer.push(0);
        assert!(refused(100, 40, longer));
        let mut shorter = set.bytes.clone();
        shorter.pop();
        assert!(refused(100, 40, shorter));
        assert!(refused(1, 8, vec![0xff]));
        assert!(refused(u64::MAX, 128, vec![0; 64]));
        // A value above 8 bits: eight ones of a quotient, each worth 128.
        assert!(refused(1, 8, vec![0xff, 0]));
        assert!(refused(0, 8, vec![0]));
    }
}
