//! What is measured while a vault is at work: counts that only grow, in buckets, that anybody may read at any time.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// The upper ends of the buckets of signing, in microseconds.
const SIGNING_MICROSECONDS: [u64; 12] = [
    50, 100, 250, 500, 1_000, 2_500, 5_000, 10_000, 50_000, 250_000, 1_000_000, 5_000_000,
];

/// The upper ends of the buckets of groups, in records.
const GROUP_RECORDS: [u64; 13] = [1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1_024, 2_048, 4_096];

/// What a vault measures.
#[derive(Debug)]
pub(crate) struct Meters {
    /// How long the token took for a signature and its check, in microseconds.
    pub(crate) signing: Histogram,
    /// How many signatures the token refused or failed to make.
    pub(crate) signing_failed: AtomicU64,
    /// How many records shared a sync of the log.
    pub(crate) groups: Histogram,
}

impl Default for Meters {
    fn default() -> Self {
        Self {
            signing: Histogram::new(&SIGNING_MICROSECONDS),
            signing_failed: AtomicU64::new(0),
            groups: Histogram::new(&GROUP_RECORDS),
        }
    }
}

impl Meters {
    /// A signature took so long.
    pub(super) fn signed(&self, took: Duration, well: bool) {
        let microseconds = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
        self.signing.count(microseconds);
        if !well {
            self.signing_failed.fetch_add(1, Ordering::Relaxed);
        }
    }
}

/// Values by size.
#[derive(Debug)]
pub(crate) struct Histogram {
    bounds: &'static [u64],
    /// One for each bound, and one for what is beyond the last.
    counts: Vec<AtomicU64>,
    sum: AtomicU64,
}

/// A histogram as it stood at some moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Counted {
    /// The upper end of each bucket, and how many values were at most that: each bucket counts those before it, too.
    pub(crate) buckets: Vec<(u64, u64)>,
    /// How many values there were.
    pub(crate) count: u64,
    /// What they add up to.
    pub(crate) sum: u64,
}

impl Histogram {
    fn new(bounds: &'static [u64]) -> Self {
        Self {
            bounds,
            counts: (0..=bounds.len()).map(|_| AtomicU64::new(0)).collect(),
            sum: AtomicU64::new(0),
        }
    }

    /// Counts a value.
    pub(super) fn count(&self, value: u64) {
        let bucket = self.bounds.partition_point(|bound| *bound < value);
        if let Some(count) = self.counts.get(bucket) {
            count.fetch_add(1, Ordering::Relaxed);
        }
        self.sum.fetch_add(value, Ordering::Relaxed);
    }

    /// How it stands.
    pub(crate) fn read(&self) -> Counted {
        let mut count = 0;
        let counts = self.counts.iter().map(|bucket| {
            count += bucket.load(Ordering::Relaxed);
            count
        });
        let counts: Vec<u64> = counts.collect();
        Counted {
            buckets: self.bounds.iter().copied().zip(counts).collect(),
            count,
            sum: self.sum.load(Ordering::Relaxed),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_counts_in_its_bucket_and_in_every_larger_one() {
        let histogram = Histogram::new(&[1, 2, 4]);
        for value in [0, 1, 2, 3, 4, 5, 1_000] {
            histogram.count(value);
        }
        let counted = histogram.read();
        assert_eq!(counted.buckets, [(1, 2), (2, 3), (4, 5)]);
        assert_eq!((counted.count, counted.sum), (7, 1_015));
    }
}
