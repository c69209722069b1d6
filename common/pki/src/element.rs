//! A strict, depth-limited reader of DER (X.690 section 10), which runs before anything else looks at foreign bytes.
//!
//! It knows no structure of its own: it yields elements one after another, each with its position, so that errors can
//! say where. Only [`scan`] looks inside; what it lets through can be walked without recursion limits of its own.

use crate::error::{Error, Object};

/// How deep elements may nest. A request with every extension in use needs about ten.
pub(crate) const DEPTH_MAX: usize = 16;

pub(crate) const BOOLEAN: u8 = 0x01;
pub(crate) const INTEGER: u8 = 0x02;
pub(crate) const BIT_STRING: u8 = 0x03;
pub(crate) const OCTET_STRING: u8 = 0x04;
pub(crate) const NULL: u8 = 0x05;
pub(crate) const OBJECT_IDENTIFIER: u8 = 0x06;
pub(crate) const ENUMERATED: u8 = 0x0a;
pub(crate) const UTF8_STRING: u8 = 0x0c;
pub(crate) const PRINTABLE_STRING: u8 = 0x13;
pub(crate) const TELETEX_STRING: u8 = 0x14;
pub(crate) const IA5_STRING: u8 = 0x16;
pub(crate) const UTC_TIME: u8 = 0x17;
pub(crate) const GENERALIZED_TIME: u8 = 0x18;
pub(crate) const UNIVERSAL_STRING: u8 = 0x1c;
pub(crate) const BMP_STRING: u8 = 0x1e;
pub(crate) const SEQUENCE: u8 = 0x30;
pub(crate) const SET: u8 = 0x31;

/// What is wrong with some DER, and where.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Fault {
    /// Offset in bytes from the start of the whole object.
    pub(crate) position: usize,
    /// `None` when it nests too deep.
    pub(crate) reason: Option<&'static str>,
}

impl Fault {
    pub(crate) fn new(position: usize, reason: &'static str) -> Self {
        Self {
            position,
            reason: Some(reason),
        }
    }

    /// The public error, once it is known what was being read.
    pub(crate) fn of(self, object: Object) -> Error {
        match self.reason {
            Some(reason) => Error::Malformed {
                object,
                position: self.position,
                reason,
            },
            None => Error::TooDeep {
                object,
                position: self.position,
                depth_max: DEPTH_MAX,
            },
        }
    }
}

/// One DER element: tag, length, content.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Element<'a> {
    pub(crate) tag: u8,
    /// Offset of the tag from the start of the whole object.
    pub(crate) position: usize,
    header_bytes: usize,
    /// Tag, length and content as received.
    pub(crate) bytes: &'a [u8],
}

impl<'a> Element<'a> {
    /// The content alone.
    pub(crate) fn content(&self) -> &'a [u8] {
        self.bytes.get(self.header_bytes..).unwrap_or_default()
    }

    /// Where the content starts.
    pub(crate) fn content_position(&self) -> usize {
        self.position + self.header_bytes
    }

    /// Where the whole element lies in the object.
    pub(crate) fn range(&self) -> std::ops::Range<usize> {
        self.position..self.position + self.bytes.len()
    }

    /// Where the content lies in the object.
    pub(crate) fn content_range(&self) -> std::ops::Range<usize> {
        self.content_position()..self.position + self.bytes.len()
    }

    /// A reader over the elements inside.
    pub(crate) fn inside(&self) -> Elements<'a> {
        Elements::new(self.content(), self.content_position())
    }

    /// The content of a BIT STRING of whole octets.
    pub(crate) fn whole_octets(&self) -> Result<(&'a [u8], usize), Fault> {
        match self.content().split_first() {
            Some((0, octets)) => Ok((octets, self.content_position() + 1)),
            _ => Err(Fault::new(
                self.content_position(),
                "the bit string is not of whole octets",
            )),
        }
    }

    pub(crate) fn fault(&self, reason: &'static str) -> Fault {
        Fault::new(self.position, reason)
    }
}

/// The elements of a sequence or set, one after another.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Elements<'a> {
    input: &'a [u8],
    base: usize,
    at: usize,
}

impl<'a> Elements<'a> {
    /// A reader of `input`, whose first byte lies `base` bytes into the whole object.
    pub(crate) fn new(input: &'a [u8], base: usize) -> Self {
        Self { input, base, at: 0 }
    }

    fn position(&self) -> usize {
        self.base + self.at
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.at >= self.input.len()
    }

    /// The tag of the next element, if there is one.
    pub(crate) fn tag(&self) -> Option<u8> {
        self.input.get(self.at).copied()
    }

    /// The next element, whatever it is.
    pub(crate) fn any(&mut self, missing: &'static str) -> Result<Element<'a>, Fault> {
        if self.is_empty() {
            return Err(Fault::new(self.position(), missing));
        }
        let rest = self.input.get(self.at..).unwrap_or_default();
        let (header_bytes, content_bytes) = header(rest, self.position())?;
        let whole = header_bytes + content_bytes;
        let bytes = rest
            .get(..whole)
            .ok_or_else(|| Fault::new(self.position(), "the element is cut short"))?;
        let element = Element {
            tag: rest.first().copied().unwrap_or_default(),
            position: self.position(),
            header_bytes,
            bytes,
        };
        self.at += whole;
        Ok(element)
    }

    /// The next element, which must have this tag.
    pub(crate) fn take(&mut self, tag: u8, missing: &'static str) -> Result<Element<'a>, Fault> {
        if self.tag() == Some(tag) {
            self.any(missing)
        } else {
            Err(Fault::new(self.position(), missing))
        }
    }

    /// The next element, if it has this tag.
    pub(crate) fn take_optional(&mut self, tag: u8) -> Result<Option<Element<'a>>, Fault> {
        if self.tag() == Some(tag) {
            self.any("").map(Some)
        } else {
            Ok(None)
        }
    }

    /// Demands that nothing is left.
    pub(crate) fn end(&self, reason: &'static str) -> Result<(), Fault> {
        if self.is_empty() {
            Ok(())
        } else {
            Err(Fault::new(self.position(), reason))
        }
    }
}

/// Reads tag and length; gives the header's size and the content's. Refuses what BER allows and DER does not.
fn header(input: &[u8], position: usize) -> Result<(usize, usize), Fault> {
    let cut = || Fault::new(position, "the element is cut short");
    let tag = *input.first().ok_or_else(cut)?;
    if tag & 0x1f == 0x1f {
        return Err(Fault::new(
            position,
            "tag numbers above 30 are not used here",
        ));
    }
    let first = *input.get(1).ok_or_else(cut)?;
    if first < 0x80 {
        return Ok((2, usize::from(first)));
    }
    let count = usize::from(first & 0x7f);
    if count == 0 {
        return Err(Fault::new(position, "an indefinite length is not DER"));
    }
    if count > 4 {
        return Err(Fault::new(position, "the length is beyond any object here"));
    }
    let octets = input.get(2..2 + count).ok_or_else(cut)?;
    if octets.first() == Some(&0) || (count == 1 && octets.first() < Some(&0x80)) {
        return Err(Fault::new(
            position,
            "the length is not in its shortest form",
        ));
    }
    let length = octets
        .iter()
        .fold(0_u64, |length, octet| length << 8 | u64::from(*octet));
    let length = usize::try_from(length)
        .map_err(|_| Fault::new(position, "the length is beyond any object here"))?;
    Ok((2 + count, length))
}

/// Checks that `input` is exactly one element, DER through and through, nested no deeper than [`DEPTH_MAX`]. It keeps
/// its place in a small array, not on the call stack, so depth cannot hurt it.
pub(crate) fn scan(input: &[u8], base: usize) -> Result<(), Fault> {
    let mut open = [Elements::new(&[], 0); DEPTH_MAX];
    let mut outside = Elements::new(input, base);
    let mut depth = 0_usize;
    let top = outside.any("nothing is there")?;
    outside.end("bytes follow the object")?;
    let mut next = Some(top);
    loop {
        if let Some(element) = next {
            check(&element)?;
            if element.tag & 0x20 != 0 && !element.content().is_empty() {
                let place = open.get_mut(depth).ok_or(Fault {
                    position: element.position,
                    reason: None,
                })?;
                *place = element.inside();
                depth += 1;
            }
        }
        // Go on in the innermost element that still has something.
        let Some(innermost) = depth.checked_sub(1) else {
            return Ok(());
        };
        let Some(elements) = open.get_mut(innermost) else {
            return Ok(());
        };
        if elements.is_empty() {
            depth = innermost;
            next = None;
        } else {
            next = Some(elements.any("nothing is there")?);
        }
    }
}

/// DER's rules for the content of one element of a universal type (X.690 sections 8, 10 and 11).
fn check(element: &Element<'_>) -> Result<(), Fault> {
    let content = element.content();
    let sound = match element.tag {
        SEQUENCE | SET => true,
        BOOLEAN => matches!(content, [0x00 | 0xff]),
        INTEGER | ENUMERATED => match content {
            [] => false,
            [0x00, second, ..] => *second >= 0x80,
            [0xff, second, ..] => *second < 0x80,
            _ => true,
        },
        BIT_STRING => match content {
            [0] => true,
            [unused @ 0..=7, .., last] => last & !(0xff_u8 << unused) == 0,
            _ => false,
        },
        NULL => content.is_empty(),
        OBJECT_IDENTIFIER => object_identifier_is_sound(content),
        // Universal types are constructed when and only when they are SEQUENCE or SET.
        0x00 | 0x10 | 0x11 => false,
        tag if tag & 0xc0 == 0 => tag & 0x20 == 0,
        _ => true,
    };
    if sound {
        Ok(())
    } else {
        Err(element.fault(match element.tag {
            BOOLEAN => "the boolean is neither 00 nor FF",
            INTEGER | ENUMERATED => "the integer is not in its shortest form",
            BIT_STRING => "the bit string's unused bits are not in order",
            NULL => "the null has content",
            OBJECT_IDENTIFIER => "the object identifier is malformed",
            _ => "an element of this tag is not DER",
        }))
    }
}

/// Every arc is in its shortest form and the last one ends.
fn object_identifier_is_sound(content: &[u8]) -> bool {
    let mut starts = true;
    for octet in content {
        if starts && *octet == 0x80 {
            return false;
        }
        starts = octet & 0x80 == 0;
    }
    starts && !content.is_empty()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refusal(input: &[u8]) -> Option<Fault> {
        scan(input, 0).err()
    }

    #[test]
    fn der_is_let_through() {
        for input in [
            &[0x30, 0x00][..],
            &[0x30, 0x03, 0x02, 0x01, 0x00],
            &[0x02, 0x02, 0x00, 0x80],
            &[0x03, 0x02, 0x07, 0x80],
            &[0x03, 0x01, 0x00],
            &[0xa0, 0x02, 0x05, 0x00],
            &[0x06, 0x03, 0x55, 0x1d, 0x0f],
        ] {
            assert_eq!(refusal(input), None, "{input:02x?}");
        }
    }

    #[test]
    fn what_ber_allows_and_der_does_not_is_refused() {
        for (input, why) in [
            (&[][..], "empty"),
            (&[0x30], "no length"),
            (&[0x30, 0x80, 0x00, 0x00], "indefinite length"),
            (&[0x30, 0x81, 0x00], "long form of a short length"),
            (&[0x30, 0x82, 0x00, 0x80], "length with a leading zero"),
            (&[0x30, 0x85, 1, 0, 0, 0, 0], "length of five octets"),
            (&[0x30, 0x02, 0x05], "cut short"),
            (&[0x30, 0x02, 0x05, 0x01], "inner length passes the outer"),
            (&[0x30, 0x00, 0x00], "trailing byte"),
            (&[0x01, 0x01, 0x01], "boolean of 01"),
            (&[0x02, 0x00], "integer without content"),
            (&[0x02, 0x02, 0x00, 0x7f], "padded integer"),
            (&[0x02, 0x02, 0xff, 0x80], "padded negative integer"),
            (&[0x03, 0x00], "bit string without its count"),
            (&[0x03, 0x02, 0x08, 0x00], "eight unused bits"),
            (&[0x03, 0x02, 0x01, 0x01], "an unused bit is set"),
            (&[0x03, 0x01, 0x01], "unused bits of nothing"),
            (&[0x05, 0x01, 0x00], "null with content"),
            (&[0x06, 0x00], "object identifier without content"),
            (&[0x06, 0x02, 0x80, 0x01], "padded arc"),
            (&[0x06, 0x01, 0x81], "arc without end"),
            (&[0x24, 0x03, 0x04, 0x01, 0x00], "constructed octet string"),
            (&[0x10, 0x00], "primitive sequence"),
            (&[0x1f, 0x81, 0x00, 0x00], "high tag number"),
            (&[0x00, 0x00], "end of contents"),
        ] {
            assert!(refusal(input).is_some(), "{why}");
        }
    }

    #[test]
    fn sixteen_levels_are_read_and_seventeen_are_not() {
        let mut der = vec![0x05, 0x00];
        for _ in 0..DEPTH_MAX {
            let length = u8::try_from(der.len()).unwrap();
            der.splice(0..0, [0x30, length]);
        }
        assert_eq!(refusal(&der), None);
        let length = u8::try_from(der.len()).unwrap();
        der.splice(0..0, [0x30, length]);
        assert_eq!(
            refusal(&der),
            Some(Fault {
                position: 32,
                reason: None
            })
        );
    }
}
