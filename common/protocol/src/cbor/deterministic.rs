//! The strict reader: one encoding of each value and no other (RFC 8949 section 4.2.1).
/// How deep arrays, maps and tags may nest in anything that we read.
pub const DEPTH_MAX: usize = 16;

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
pub(super) fn head(bytes: &[u8], at: usize) -> Result<(u8, u64, usize), (usize, Rule)> {
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
    let shortest = match extra {
        1 => value >= 24,
        2 => value > 0xff,
        4 => value > 0xffff,
        _ => value > 0xffff_ffff,
    };
    // What follows the head of a float or a simple value is no number; the caller refuses them by their first byte.
    if major != 7 && !shortest {
        return Err((at, Rule::NotShortest));
    }
    Ok((major, value, 1 + extra))
}
