//! A writer of DER (X.690 section 10). What is to be signed is written here and nowhere else, so that headquarters,
//! years later, writes the very same bytes.

use crate::element::{BOOLEAN, INTEGER, OBJECT_IDENTIFIER, OCTET_STRING, SEQUENCE};

/// DER under construction.
#[derive(Default)]
pub(crate) struct Encoder {
    out: Vec<u8>,
}

impl Encoder {
    pub(crate) fn with_capacity(bytes: usize) -> Self {
        Self {
            out: Vec::with_capacity(bytes),
        }
    }

    pub(crate) fn finish(self) -> Vec<u8> {
        self.out
    }

    /// Bytes that are already DER.
    pub(crate) fn raw(&mut self, der: &[u8]) {
        self.out.extend_from_slice(der);
    }

    /// A primitive element.
    pub(crate) fn primitive(&mut self, tag: u8, content: &[u8]) {
        let (octets, first) = length(content.len());
        self.out.push(tag);
        self.out.push(first);
        self.raw(octets.as_slice());
        self.raw(content);
    }

    /// An element whose content `write` writes.
    pub(crate) fn nested(&mut self, tag: u8, write: impl FnOnce(&mut Self)) {
        // Most lengths are one octet, so that nothing has to move.
        self.out.extend_from_slice(&[tag, 0]);
        let start = self.out.len();
        write(self);
        let (octets, first) = length(self.out.len() - start);
        if let Some(place) = self.out.get_mut(start - 1) {
            *place = first;
        }
        if !octets.as_slice().is_empty() {
            self.out.splice(start..start, octets);
        }
    }

    /// An INTEGER of a non-negative number, given as big-endian octets without leading zeros.
    pub(crate) fn unsigned(&mut self, magnitude: &[u8]) {
        self.nested(INTEGER, |inner| {
            if magnitude.first().is_none_or(|first| *first >= 0x80) {
                inner.raw(&[0]);
            }
            inner.raw(magnitude);
        });
    }

    /// One extension (RFC 5280 section 4.1) whose value `write` writes.
    pub(crate) fn extension(&mut self, id: &[u8], critical: bool, write: impl FnOnce(&mut Self)) {
        self.nested(SEQUENCE, |extension| {
            extension.primitive(OBJECT_IDENTIFIER, id);
            if critical {
                extension.primitive(BOOLEAN, &[0xff]);
            }
            extension.nested(OCTET_STRING, write);
        });
    }
}

/// A length (X.690 section 10.1): its first octet, and those that follow it.
fn length(bytes: usize) -> (std::array::IntoIter<u8, { size_of::<usize>() }>, u8) {
    let mut octets = bytes.to_be_bytes().into_iter();
    match u8::try_from(bytes) {
        Ok(short) if short < 0x80 => {
            octets.by_ref().for_each(drop);
            (octets, short)
        }
        _ => {
            while octets.as_slice().first() == Some(&0) {
                octets.next();
            }
            let count = u8::try_from(octets.len()).unwrap_or_default();
            (octets, 0x80 | count)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::element::{self, OCTET_STRING};

    #[test]
    fn lengths_are_in_their_shortest_form() {
        for (length, header) in [
            (0_usize, &[0x04, 0x00][..]),
            (127, &[0x04, 0x7f]),
            (128, &[0x04, 0x81, 0x80]),
            (255, &[0x04, 0x81, 0xff]),
            (256, &[0x04, 0x82, 0x01, 0x00]),
            (65536, &[0x04, 0x83, 0x01, 0x00, 0x00]),
        ] {
            let content = vec![0xab; length];
            let mut encoder = Encoder::default();
            encoder.primitive(OCTET_STRING, &content);
            let der = encoder.finish();
            assert_eq!(&der[..header.len()], header);
            assert_eq!(der.len(), header.len() + length);
            assert_eq!(element::scan(&der, 0), Ok(()));
            let mut encoder = Encoder::default();
            encoder.nested(OCTET_STRING, |inner| inner.raw(&content));
            assert_eq!(encoder.finish(), der);
        }
    }

    #[test]
    fn integers_stay_positive() {
        for (magnitude, der) in [
            (&[][..], &[0x02, 0x01, 0x00][..]),
            (&[0x7f], &[0x02, 0x01, 0x7f]),
            (&[0x80], &[0x02, 0x02, 0x00, 0x80]),
        ] {
            let mut encoder = Encoder::default();
            encoder.unsigned(magnitude);
            assert_eq!(encoder.finish(), der);
        }
    }
}
