//! Deterministic CBOR (RFC 8949 section 4.2.1) with integer map keys: the strict reader that runs before any library,
//! and the small map reader and writer that the message modules are built on.
//!
//! The reader is iterative over a fixed-depth stack, so no input can exhaust the call stack, and it accepts exactly one
//! encoding of each value: what passes it re-encodes to the same bytes.

mod writer;

use ciborium::Value;

use crate::Error;
use crate::identifier::Fingerprint;

/// How deep arrays, maps and tags may nest in anything that we read.
pub const DEPTH_MAX: usize = 16;

/// Room for most of what is encoded.
const ENCODED_BYTES_EXPECTED: usize = 512;

/// The tags that a whole message begins with: COSE_Sign1, COSE_Encrypt, COSE_Sign (RFC 9052 section 2).
const TAGS: [u64; 3] = [18, 96, 98];

/// The rule of deterministic encoding that some bytes broke.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Rule {
    /// The bytes end inside a value.
    Truncated,
    /// Bytes follow the value.
    TrailingBytes,
    /// An integer or a length is not in its shortest form (RFC 8949 section 4.2.1).
    NotShortest,
    /// An indefinite length (RFC 8949 section 4.2.1).
    IndefiniteLength,
    /// A map's keys are not in bytewise order (RFC 8949 section 4.2.1).
    MapOrder,
    /// A map has one key twice (RFC 8949 section 5.6).
    DuplicateKey,
    /// Deeper than [`DEPTH_MAX`].
    TooDeep,
    /// Text that is not UTF-8.
    NotUtf8,
    /// A float, or a simple value other than false, true and null: no message has any.
    ForbiddenSimple,
    /// A tag other than that of a whole COSE message. Bignums would be a second encoding of integers.
    ForbiddenTag,
    /// A reserved additional-information value (RFC 8949 section 3).
    Reserved,
}

impl Rule {
    /// What the rule says, as a phrase for an error message.
    pub fn phrase(self) -> &'static str {
        match self {
            Self::Truncated => "the bytes end in the middle of a value",
            Self::TrailingBytes => "bytes follow the end of the message",
            Self::NotShortest => "an integer is not in its shortest form",
            Self::IndefiniteLength => "a length is indefinite",
            Self::MapOrder => "map keys are out of order",
            Self::DuplicateKey => "a map has the same key twice",
            Self::TooDeep => "values are nested too deeply",
            Self::NotUtf8 => "a text is not UTF-8",
            Self::ForbiddenSimple => "a float or an unassigned simple value",
            Self::ForbiddenTag => "a tag where the format has none",
            Self::Reserved => "a reserved CBOR head",
        }
    }
}

/// One open container while scanning.
struct Open {
    /// Values still to come.
    left: u64,
    is_map: bool,
    /// In a map: whether the next value is a key.
    key_next: bool,
    /// In a map: where the key before began and ended.
    key_before: Option<(usize, usize)>,
    /// In a map: where the current key began.
    key_start: usize,
}

/// Checks that `bytes` are exactly one deterministically encoded CBOR value.
///
/// # Errors
/// The offset at which a rule is broken, and the rule.
pub fn check_deterministic(bytes: &[u8]) -> Result<(), (usize, Rule)> {
    let mut at = 0;
    let mut stack: Vec<Open> = Vec::with_capacity(DEPTH_MAX);
    loop {
        let start = at;
        let (major, value, head_bytes) = head(bytes, at)?;
        at += head_bytes;
        let children: Option<(u64, bool)> = match major {
            0 | 1 => None,
            2 | 3 => {
                let length = usize::try_from(value).map_err(|_| (start, Rule::Truncated))?;
                let end = at.checked_add(length).filter(|end| *end <= bytes.len());
                let end = end.ok_or((start, Rule::Truncated))?;
                if major == 3 && std::str::from_utf8(&bytes[at..end]).is_err() {
                    return Err((start, Rule::NotUtf8));
                }
                at = end;
                None
            }
            4 => Some((value, false)),
            5 => Some((value.checked_mul(2).ok_or((start, Rule::Truncated))?, true)),
            6 if stack.is_empty() && TAGS.contains(&value) => Some((1, false)),
            6 => return Err((start, Rule::ForbiddenTag)),
            _ => match bytes[start] {
                0xf4..=0xf6 => None,
                _ => return Err((start, Rule::ForbiddenSimple)),
            },
        };
        if let Some((left, is_map)) = children
            && left > 0
        {
            if stack.len() >= DEPTH_MAX {
                return Err((start, Rule::TooDeep));
            }
            stack.push(Open {
                left,
                is_map,
                key_next: is_map,
                key_before: None,
                key_start: at,
            });
            continue;
        }
        // A value is complete; close every container that it completes.
        loop {
            let Some(open) = stack.last_mut() else {
                return if at == bytes.len() {
                    Ok(())
                } else {
                    Err((at, Rule::TrailingBytes))
                };
            };
            open.left -= 1;
            if open.is_map {
                if open.key_next {
                    let key = &bytes[open.key_start..at];
                    if let Some((from, to)) = open.key_before {
                        match bytes[from..to].cmp(key) {
                            std::cmp::Ordering::Less => {}
                            std::cmp::Ordering::Equal => {
                                return Err((open.key_start, Rule::DuplicateKey));
                            }
                            std::cmp::Ordering::Greater => {
                                return Err((open.key_start, Rule::MapOrder));
                            }
                        }
                    }
                    open.key_before = Some((open.key_start, at));
                    open.key_next = false;
                } else {
                    open.key_next = true;
                    open.key_start = at;
                }
            }
            if open.left > 0 {
                break;
            }
            stack.pop();
        }
    }
}

/// Reads the head of a value: major type, argument, length of the head in bytes.
fn head(bytes: &[u8], at: usize) -> Result<(u8, u64, usize), (usize, Rule)> {
    let first = *bytes.get(at).ok_or((at, Rule::Truncated))?;
    let major = first >> 5;
    let info = first & 0x1f;
    let extra = match info {
        0..=23 => return Ok((major, u64::from(info), 1)),
        24 => 1,
        25 => 2,
        26 => 4,
        27 => 8,
        31 => return Err((at, Rule::IndefiniteLength)),
        _ => return Err((at, Rule::Reserved)),
    };
    let argument = bytes
        .get(at + 1..at + 1 + extra)
        .ok_or((at, Rule::Truncated))?;
    let value = argument
        .iter()
        .fold(0u64, |value, byte| (value << 8) | u64::from(*byte));
    if major == 7 {
        // Floats and two-byte simple values; the caller refuses them by their first byte.
        return Ok((major, value, 1 + extra));
    }
    let shortest = match extra {
        1 => value >= 24,
        2 => value > 0xff,
        4 => value > 0xffff,
        _ => value > 0xffff_ffff,
    };
    if !shortest {
        return Err((at, Rule::NotShortest));
    }
    Ok((major, value, 1 + extra))
}

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
    let (major, length, head_bytes) = head(bytes, 0).ok()?;
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

/// Builds a map with integer keys; absent options leave no trace.
#[derive(Default)]
pub struct Map(Vec<(i64, Value)>);

impl Map {
    /// An empty map.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds `key: value`.
    #[must_use]
    pub fn with(mut self, key: i64, value: impl Into<Value>) -> Self {
        self.0.push((key, value.into()));
        self
    }

    /// Adds `key: value` if there is one.
    #[must_use]
    pub fn with_some(self, key: i64, value: Option<impl Into<Value>>) -> Self {
        match value {
            Some(value) => self.with(key, value),
            None => self,
        }
    }

    /// Adds `key: value`, or `key: null`.
    #[must_use]
    pub fn with_nullable(self, key: i64, value: Option<impl Into<Value>>) -> Self {
        match value {
            Some(value) => self.with(key, value),
            None => self.with(key, Value::Null),
        }
    }

    /// Adds `key: [each]`.
    #[must_use]
    pub fn with_array<T: Into<Value>>(self, key: i64, values: impl IntoIterator<Item = T>) -> Self {
        let values = values.into_iter().map(Into::into).collect();
        self.with(key, Value::Array(values))
    }

    /// The map as a value, its keys in deterministic order.
    pub fn value(self) -> Value {
        let entries = self.sorted().into_iter();
        Value::Map(
            entries
                .map(|(key, value)| (Value::from(key), value))
                .collect(),
        )
    }

    /// The map, encoded.
    pub fn encode(self) -> Vec<u8> {
        let entries = self.sorted();
        let mut out = Vec::with_capacity(ENCODED_BYTES_EXPECTED);
        writer::map_head(entries.len(), &mut out);
        for (key, value) in &entries {
            writer::integer(i128::from(*key), &mut out);
            writer::value(value, &mut out);
        }
        debug_assert_eq!(check_deterministic(&out), Ok(()));
        out
    }

    fn sorted(mut self) -> Vec<(i64, Value)> {
        // Bytewise order of encoded integers: non-negative ascending, then negative descending.
        self.0
            .sort_by_key(|(key, _)| (*key < 0, key.unsigned_abs()));
        self.0
    }
}

impl From<Map> for Value {
    fn from(map: Map) -> Self {
        map.value()
    }
}

/// Reads a map with integer keys, field by field; a field that nobody took is an error.
pub struct Fields {
    what: &'static str,
    fields: Vec<(i64, Option<Value>)>,
}

impl Fields {
    /// Decodes `bytes` strictly as a map.
    ///
    /// # Errors
    /// As [`decode`], and [`Error::Shape`] if it is no map with integer keys.
    pub fn decode(what: &'static str, bytes: &[u8], bytes_max: usize) -> Result<Self, Error> {
        Self::new(what, decode(what, bytes, bytes_max)?)
    }

    /// Reads an already decoded value as a map.
    ///
    /// # Errors
    /// [`Error::Shape`] if it is no map with integer keys.
    pub fn new(what: &'static str, value: Value) -> Result<Self, Error> {
        let Value::Map(entries) = value else {
            return Err(Error::Shape {
                what,
                why: "a map was expected".to_owned(),
            });
        };
        let mut fields = Vec::with_capacity(entries.len());
        for (key, value) in entries {
            let key = key.as_integer().and_then(|key| i64::try_from(key).ok());
            let key = key.ok_or_else(|| Error::Shape {
                what,
                why: "a map key is not a small integer".to_owned(),
            })?;
            fields.push((key, Some(value)));
        }
        Ok(Self { what, fields })
    }

    /// An error about the field `key`.
    pub fn wrong(&self, key: i64, why: &str) -> Error {
        Error::Shape {
            what: self.what,
            why: format!("field {key}: {why}"),
        }
    }

    /// Takes an optional field; null counts as a value.
    pub fn optional(&mut self, key: i64) -> Option<Value> {
        self.fields
            .iter_mut()
            .find(|(found, _)| *found == key)
            .and_then(|(_, value)| value.take())
    }

    /// Takes a field that must be there.
    ///
    /// # Errors
    /// [`Error::Shape`] if it is missing.
    pub fn required(&mut self, key: i64) -> Result<Value, Error> {
        self.optional(key).ok_or_else(|| self.wrong(key, "missing"))
    }

    /// Takes a field that must be there but may be null.
    ///
    /// # Errors
    /// [`Error::Shape`] if it is missing.
    pub fn nullable(&mut self, key: i64) -> Result<Option<Value>, Error> {
        Ok(Some(self.required(key)?).filter(|value| !value.is_null()))
    }

    /// Takes an unsigned integer.
    ///
    /// # Errors
    /// [`Error::Shape`] if it is missing or of another type.
    pub fn uint(&mut self, key: i64) -> Result<u64, Error> {
        let value = self.required(key)?;
        self.as_uint(key, &value)
    }

    /// Takes an optional unsigned integer.
    ///
    /// # Errors
    /// [`Error::Shape`] if it is of another type.
    pub fn optional_uint(&mut self, key: i64) -> Result<Option<u64>, Error> {
        self.optional(key)
            .map(|value| self.as_uint(key, &value))
            .transpose()
    }

    fn as_uint(&self, key: i64, value: &Value) -> Result<u64, Error> {
        value
            .as_integer()
            .and_then(|value| u64::try_from(value).ok())
            .ok_or_else(|| self.wrong(key, "an unsigned integer was expected"))
    }

    /// Takes an unsigned integer that fits a `u32`.
    ///
    /// # Errors
    /// [`Error::Shape`] if it is missing, of another type, or too large.
    pub fn uint32(&mut self, key: i64) -> Result<u32, Error> {
        let value = self.uint(key)?;
        u32::try_from(value).map_err(|_| self.wrong(key, "too large"))
    }

    /// Takes a text.
    ///
    /// # Errors
    /// [`Error::Shape`] if it is missing or of another type.
    pub fn text(&mut self, key: i64) -> Result<String, Error> {
        let value = self.required(key)?;
        value
            .into_text()
            .map_err(|_| self.wrong(key, "a text was expected"))
    }

    /// Takes a text and parses it as an identifier or other domain type.
    ///
    /// # Errors
    /// [`Error::Shape`] if it is missing or of another type, and what the parser says.
    pub fn parse<T: std::str::FromStr>(&mut self, key: i64) -> Result<T, Error>
    where
        T::Err: std::fmt::Display,
    {
        let text = self.text(key)?;
        text.parse()
            .map_err(|error: T::Err| self.wrong(key, &error.to_string()))
    }

    /// Takes a byte string.
    ///
    /// # Errors
    /// [`Error::Shape`] if it is missing or of another type.
    pub fn bytes(&mut self, key: i64) -> Result<Vec<u8>, Error> {
        let value = self.required(key)?;
        value
            .into_bytes()
            .map_err(|_| self.wrong(key, "a byte string was expected"))
    }

    /// Takes a byte string of a fixed length.
    ///
    /// # Errors
    /// [`Error::Shape`] if it is missing, of another type or length.
    pub fn octets<T: for<'a> TryFrom<&'a [u8]>>(&mut self, key: i64) -> Result<T, Error> {
        let bytes = self.bytes(key)?;
        T::try_from(&bytes).map_err(|_| self.wrong(key, "a byte string of the wrong length"))
    }

    /// Takes a fingerprint that may be null.
    ///
    /// # Errors
    /// [`Error::Shape`] if it is missing, of another type or length.
    pub fn nullable_fingerprint(&mut self, key: i64) -> Result<Option<Fingerprint>, Error> {
        let Some(value) = self.nullable(key)? else {
            return Ok(None);
        };
        let bytes = value
            .into_bytes()
            .map_err(|_| self.wrong(key, "not a byte string"))?;
        Fingerprint::try_from(bytes.as_slice()).map(Some)
    }

    /// Takes an array of at most `count_max` values.
    ///
    /// # Errors
    /// [`Error::Shape`] if it is missing, of another type, or longer.
    pub fn array(&mut self, key: i64, count_max: usize) -> Result<Vec<Value>, Error> {
        let value = self.required(key)?;
        let array = value
            .into_array()
            .map_err(|_| self.wrong(key, "an array was expected"))?;
        if array.len() > count_max {
            return Err(self.wrong(key, "too many values"));
        }
        Ok(array)
    }

    /// Takes an array of texts, each parsed.
    ///
    /// # Errors
    /// As [`Fields::array`] and [`Fields::parse`].
    pub fn texts<T: std::str::FromStr>(
        &mut self,
        key: i64,
        count_max: usize,
    ) -> Result<Vec<T>, Error>
    where
        T::Err: std::fmt::Display,
    {
        let mut parsed = Vec::new();
        for value in self.array(key, count_max)? {
            let text = value
                .into_text()
                .map_err(|_| self.wrong(key, "texts were expected"))?;
            parsed.push(
                text.parse()
                    .map_err(|e: T::Err| self.wrong(key, &e.to_string()))?,
            );
        }
        Ok(parsed)
    }

    /// Takes a nested map.
    ///
    /// # Errors
    /// [`Error::Shape`] if it is missing or no such map.
    pub fn map(&mut self, key: i64, what: &'static str) -> Result<Fields, Error> {
        Fields::new(what, self.required(key)?)
    }

    /// Takes the format version, which must be ours.
    ///
    /// # Errors
    /// [`Error::FormatVersion`] if it is another.
    pub fn format_version(&mut self, key: i64) -> Result<(), Error> {
        match self.uint(key)? {
            crate::FORMAT_VERSION => Ok(()),
            found => Err(Error::FormatVersion {
                what: self.what,
                found,
            }),
        }
    }

    /// Ends the reading: whatever was not taken is unknown.
    ///
    /// # Errors
    /// [`Error::Shape`] naming an unknown field.
    pub fn finish(self) -> Result<(), Error> {
        match self.fields.iter().find(|(_, value)| value.is_some()) {
            Some((key, _)) => Err(self.wrong(*key, "unknown field")),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rule(hex_bytes: &str) -> Result<(), Rule> {
        check_deterministic(&hex::decode(hex_bytes).unwrap()).map_err(|(_, rule)| rule)
    }

    #[test]
    fn each_breach_of_deterministic_encoding_is_named() {
        assert_eq!(rule("a2010203f6"), Ok(()));
        assert_eq!(rule("80"), Ok(()));
        assert_eq!(rule("a0"), Ok(()));
        assert_eq!(rule(""), Err(Rule::Truncated));
        assert_eq!(rule("42ff"), Err(Rule::Truncated));
        assert_eq!(rule("5bffffffffffffffff"), Err(Rule::Truncated));
        assert_eq!(rule("bbffffffffffffffff"), Err(Rule::Truncated));
        assert_eq!(rule("0000"), Err(Rule::TrailingBytes));
        assert_eq!(rule("1817"), Err(Rule::NotShortest));
        assert_eq!(rule("190001"), Err(Rule::NotShortest));
        assert_eq!(rule("5800"), Err(Rule::NotShortest));
        assert_eq!(rule("9f00ff"), Err(Rule::IndefiniteLength));
        assert_eq!(rule("a202000100"), Err(Rule::MapOrder));
        assert_eq!(rule("a201000100"), Err(Rule::DuplicateKey));
        assert_eq!(rule("61ff"), Err(Rule::NotUtf8));
        assert_eq!(rule("f93c00"), Err(Rule::ForbiddenSimple));
        assert_eq!(rule("f7"), Err(Rule::ForbiddenSimple));
        assert_eq!(rule("1c"), Err(Rule::Reserved));
        assert_eq!(rule("d280"), Ok(()));
        assert_eq!(rule("c24105"), Err(Rule::ForbiddenTag));
        assert_eq!(rule("81c24105"), Err(Rule::ForbiddenTag));
        assert_eq!(rule("d2d280"), Err(Rule::ForbiddenTag));
    }

    #[test]
    fn a_hundred_thousand_nested_arrays_are_refused_and_not_followed() {
        let deep = vec![0x81; 100_000];
        assert_eq!(check_deterministic(&deep).unwrap_err().1, Rule::TooDeep);
        let tags = vec![0xc1; 100_000];
        let refused = check_deterministic(&tags).unwrap_err();
        assert_eq!(refused, (0, Rule::ForbiddenTag));
        let messages = vec![0xd2; 100_000];
        let refused = check_deterministic(&messages).unwrap_err();
        assert_eq!(refused, (1, Rule::ForbiddenTag));
    }

    #[test]
    fn a_map_writes_its_keys_in_deterministic_order() {
        let bytes = Map::new()
            .with(-2, 1)
            .with(3, 1)
            .with(-1, 1)
            .with(1000, 1)
            .with(0, 1)
            .encode();
        assert_eq!(check_deterministic(&bytes), Ok(()));
    }

    #[test]
    fn a_field_that_nobody_knows_is_an_error() {
        let mut fields =
            Fields::decode("test", &Map::new().with(1, 1).with(9, 1).encode(), 64).unwrap();
        assert_eq!(fields.uint(1).unwrap(), 1);
        assert!(fields.finish().unwrap_err().to_string().contains("field 9"));
    }
}
