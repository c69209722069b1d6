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
        self.nested(tag, |inner| inner.raw(content));
    }

    /// An element whose content `write` writes.
    pub(crate) fn nested(&mut self, tag: u8, write: impl FnOnce(&mut Self)) {
        self.out.push(tag);
        let start = self.out.len();
        write(self);
        let length = self.out.len() - start;
        let octets = length.to_be_bytes();
        if length < 0x80 {
            // Below 0x80 the last octet is the whole length.
            self.out
                .splice(start..start, octets.into_iter().skip(octets.len() - 1));
        } else {
            let zeros = octets.iter().take_while(|octet| **octet == 0).count();
            let count = u8::try_from(octets.len() - zeros).unwrap_or_default();
            let header = std::iter::once(0x80 | count).chain(octets.into_iter().skip(zeros));
            self.out.splice(start..start, header);
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
            let mut encoder = Encoder::default();
            encoder.primitive(OCTET_STRING, &vec![0xab; length]);
            let der = encoder.finish();
            assert_eq!(&der[..header.len()], header);
            assert_eq!(der.len(), header.len() + length);
            assert_eq!(element::scan(&der, 0), Ok(()));
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
