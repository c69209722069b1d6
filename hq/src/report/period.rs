//! The days that a report is of. Logs, limits and reports count in UTC days.

use std::fmt;
use std::ops::RangeInclusive;
use std::str::FromStr;

use chrono::{Datelike as _, NaiveDate};
use mintmark_console::time::rfc3339;

use crate::clock::DAY_SECONDS;

/// A UTC day, in days since 1970.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Day(pub(crate) u64);

impl Day {
    /// The day of a moment, Unix seconds.
    pub(crate) fn of(unix: u64) -> Self {
        Self(unix / DAY_SECONDS)
    }
}

impl fmt::Display for Day {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let moment = rfc3339(self.0.saturating_mul(DAY_SECONDS));
        f.pad(moment.split('T').next().unwrap_or(&moment))
    }
}

impl FromStr for Day {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let day = NaiveDate::parse_from_str(text, "%Y-%m-%d")
            .ok()
            .filter(|day| (1970..=9999).contains(&day.year()));
        let since = NaiveDate::default();
        day.and_then(|day| u64::try_from(day.signed_duration_since(since).num_days()).ok())
            .map(Self)
            .ok_or_else(|| format!("`{text}` is no day: write it as 2027-01-31 (a whole day, UTC)"))
    }
}

/// The days of a report, both included.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Period {
    /// The first; none for everything from the beginning.
    pub(crate) since: Option<Day>,
    /// The last; none for everything that was reported.
    pub(crate) as_of: Option<Day>,
}

impl Period {
    /// Whether it is everything.
    pub(crate) fn is_whole(&self) -> bool {
        *self == Self::default()
    }

    /// Its days.
    pub(crate) fn days(&self) -> RangeInclusive<u64> {
        self.since.map_or(0, |day| day.0)..=self.as_of.map_or(u64::MAX, |day| day.0)
    }

    /// Whether a day is before it.
    pub(crate) fn is_before(&self, day: u64) -> bool {
        day < *self.days().start()
    }

    /// Whether a day is after it.
    pub(crate) fn is_after(&self, day: u64) -> bool {
        day > *self.days().end()
    }
}

impl fmt::Display for Period {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.since, self.as_of) {
            (None, None) => f.write_str("everything that was reported"),
            (Some(since), None) => write!(f, "from {since}"),
            (None, Some(as_of)) => write!(f, "until {as_of}"),
            (Some(since), Some(as_of)) => write!(f, "from {since} until {as_of}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_day_is_read_as_it_is_written() {
        for (text, days) in [
            ("1970-01-01", 0),
            ("2000-02-29", 11_016),
            ("2027-01-31", 20_849),
            ("9999-12-31", 2_932_896),
        ] {
            assert_eq!(text.parse::<Day>(), Ok(Day(days)));
            assert_eq!(Day(days).to_string(), text);
        }
        for text in [
            "",
            "2027-02-30",
            "1969-12-31",
            "2027-01-01T00:00:00Z",
            "10000-01-01",
        ] {
            assert!(text.parse::<Day>().is_err(), "{text}");
        }
    }

    #[test]
    fn both_ends_of_a_period_belong_to_it() {
        let period = Period {
            since: Some(Day(3)),
            as_of: Some(Day(5)),
        };
        assert!(period.is_before(2) && !period.is_before(3));
        assert!(!period.is_after(5) && period.is_after(6));
        assert!(!Period::default().is_after(u64::MAX));
    }
}
