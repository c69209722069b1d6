//! Times as certificates and CRLs state them (RFC 5280 section 4.1.2.5).

use std::time::Duration;

use der::DateTime;

use crate::Error;
use crate::element::{Element, Fault, GENERALIZED_TIME, UTC_TIME};
use crate::encoding::Encoder;

/// 9999-12-31T23:59:59Z: "no well-defined expiration date" (RFC 5280 section 4.1.2.5, IEEE 802.1AR section 8.7).
pub const NO_EXPIRY_UNIX: u64 = 253_402_300_799;

/// Whole seconds of UTC that a certificate can state, already in the form it must have there.
pub(crate) struct Time {
    tag: u8,
    text: String,
}

impl Time {
    /// UTCTime through 2049, GeneralizedTime from 2050.
    pub(crate) fn from_unix(unix: u64) -> Result<Self, Error> {
        let date =
            DateTime::from_unix_duration(Duration::from_secs(unix)).map_err(|_| Error::Time {
                reason: "it is later than the year 9999",
            })?;
        let rest = format!(
            "{:02}{:02}{:02}{:02}{:02}Z",
            date.month(),
            date.day(),
            date.hour(),
            date.minutes(),
            date.seconds()
        );
        Ok(if date.year() < 2050 {
            Self {
                tag: UTC_TIME,
                text: format!("{:02}{rest}", date.year() % 100),
            }
        } else {
            Self {
                tag: GENERALIZED_TIME,
                text: format!("{:04}{rest}", date.year()),
            }
        })
    }

    pub(crate) fn encode(&self, encoder: &mut Encoder) {
        encoder.primitive(self.tag, self.text.as_bytes());
    }
}

/// Reads a Time in the one form RFC 5280 allows. Times before 1970 are refused: nothing of Mintmark's is that old.
pub(crate) fn unix(element: &Element<'_>) -> Result<u64, Fault> {
    let fault = || element.fault("the time is not as RFC 5280 section 4.1.2.5 wants it");
    let text = element.content();
    let digits = text.strip_suffix(b"Z").ok_or_else(fault)?;
    let year_digits = match (element.tag, digits.len()) {
        (UTC_TIME, 12) => 2,
        (GENERALIZED_TIME, 14) => 4,
        _ => return Err(fault()),
    };
    if !digits.iter().all(u8::is_ascii_digit) {
        return Err(fault());
    }
    let number = |digits: &[u8]| {
        digits
            .iter()
            .fold(0_u16, |number, digit| number * 10 + u16::from(digit - b'0'))
    };
    let (year, rest) = digits.split_at(year_digits);
    let year = match (number(year), year_digits) {
        (year @ ..50, 2) => 2000 + year,
        (year, 2) => 1900 + year,
        (year, _) => year,
    };
    if year_digits == 4 && year < 2050 {
        return Err(element.fault("a time before 2050 must be a UTCTime"));
    }
    let mut fields = rest
        .chunks(2)
        .map(|pair| u8::try_from(number(pair)).unwrap_or(u8::MAX));
    let mut field = || fields.next().ok_or_else(fault);
    DateTime::new(year, field()?, field()?, field()?, field()?, field()?)
        .map(|date| date.unix_duration().as_secs())
        .map_err(|_| fault())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::element::Elements;

    fn read(tag: u8, text: &str) -> Option<u64> {
        let mut encoder = Encoder::default();
        encoder.primitive(tag, text.as_bytes());
        let der = encoder.finish();
        unix(&Elements::new(&der, 0).any("").unwrap()).ok()
    }

    #[test]
    fn the_form_changes_with_the_year_2050() {
        for (seconds, tag, text) in [
            (0, UTC_TIME, "700101000000Z"),
            (951_782_400, UTC_TIME, "000229000000Z"),
            (2_524_607_999, UTC_TIME, "491231235959Z"),
            (2_524_608_000, GENERALIZED_TIME, "20500101000000Z"),
            (NO_EXPIRY_UNIX, GENERALIZED_TIME, "99991231235959Z"),
        ] {
            let time = Time::from_unix(seconds).unwrap();
            assert_eq!((time.tag, time.text.as_str()), (tag, text));
            assert_eq!(read(tag, text), Some(seconds));
        }
        assert!(Time::from_unix(NO_EXPIRY_UNIX + 1).is_err());
        assert!(Time::from_unix(u64::MAX).is_err());
    }

    #[test]
    fn times_in_another_form_are_refused() {
        for (tag, text) in [
            (UTC_TIME, "4912312359Z"),
            (UTC_TIME, "491231235959"),
            (UTC_TIME, "491231235959+0000"),
            (UTC_TIME, "491331235959Z"),
            (UTC_TIME, "490230000000Z"),
            (UTC_TIME, "4912312359a9Z"),
            (UTC_TIME, "500101000000Z"),
            (GENERALIZED_TIME, "20491231235959Z"),
            (GENERALIZED_TIME, "20500101000000.5Z"),
            (UTC_TIME, ""),
        ] {
            assert_eq!(read(tag, text), None, "{text}");
        }
    }
}
