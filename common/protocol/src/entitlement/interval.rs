//! Stretches of time.

use ciborium::Value;

/// A stretch of time in Unix seconds: from inclusive, until exclusive.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Interval {
    /// Its first second.
    pub from: u64,
    /// The first second after it.
    pub until: u64,
}

impl Interval {
    /// Reads an array of pairs, at most so many: in order, none empty, none overlapping.
    pub fn read_all(value: Value, count_max: usize) -> Option<Vec<Self>> {
        let pairs = value.into_array().ok()?;
        if pairs.len() > count_max {
            return None;
        }
        let mut intervals: Vec<Self> = Vec::with_capacity(pairs.len());
        for pair in pairs {
            let [from, until] = <[Value; 2]>::try_from(pair.into_array().ok()?).ok()?;
            let time = |value: Value| u64::try_from(value.as_integer()?).ok();
            let (from, until) = (time(from)?, time(until)?);
            if from >= until || intervals.last().is_some_and(|before| from < before.until) {
                return None;
            }
            intervals.push(Self { from, until });
        }
        Some(intervals)
    }

    /// Whether a time lies inside.
    pub fn contains(&self, unix: u64) -> bool {
        (self.from..self.until).contains(&unix)
    }
}
