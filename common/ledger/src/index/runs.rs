//! Where in the database an entry is, and what is kept in memory in order to know.
//!
//! The keys of public keys are random. In a tree that is in the order of its keys each certificate would touch a page of its
//! own, for reading and for writing, and all of it would come to be in memory. So the index is written in the order of time:
//! a *run* takes what comes until it has enough entries, and no run before the last is written again. Within a run an entry is
//! in one of [`BUCKETS`] buckets, by its key.
//!
//! A key may be in any run. Which ones to look at is told by filters in memory: each key sets [`ROWS_PER_KEY`] bits of its run's
//! filter, and a run in which one of them is not set does not have it. The filters of [`RUNS_PER_GROUP`] runs are kept bit
//! beside bit, so that one line of the processor's cache says of all of them whether a bit is set; a key that is new is
//! known to be so after some looks into memory for every 350,000 certificates, and costs the database nothing.
//!
//! Keys that are numbers of records come in the order of the log, so of these a run has the lowest and the highest,
//! and its filter is spared them. A record that is signed for much later makes a run's span wide, and that run is looked into for
//! what lies between.

use std::hash::{BuildHasher as _, RandomState};

/// How many buckets a run has: a power of two.
pub(super) const BUCKETS: u16 = 64;

/// A run that has so many entries takes no more. It takes what is written at once whole: a busy line writes a run at a time, and no
/// bucket twice.
pub(super) const ENTRIES_PER_RUN: u64 = 1024;

/// What keys begin with that are numbers of records: eight bytes, big-endian.
const NUMBERED: [u8; 2] = [b'p', b'r'];

/// A bit of every run of a group.
type Row = [u64; WORDS];
const WORDS: usize = 8;

/// The runs whose filters lie together.
const RUNS_PER_GROUP: u32 = WORDS as u32 * u64::BITS;

/// The bits of a run's filter: a power of two. With two keys of each of 683 certificates, which is what 2,048 records make, some
/// 0.002 % of others seem to be in it; 0.05 % where a run is half as large again.
const ROWS: usize = 1 << 15;

/// The bits that a key sets.
const ROWS_PER_KEY: usize = 10;

/// Where a key is in any run, and how runs show that they may have it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Place {
    pub(super) bucket: u16,
    sign: Sign,
}

/// How a run shows that it may have a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Sign {
    /// These bits of its filter are set.
    Rows([usize; ROWS_PER_KEY]),
    /// The number is between its lowest and its highest of this kind.
    Number { kind: usize, number: u64 },
}

/// The bucket of a key. What is written depends on it: it never changes within a [format](super::layout).
fn bucket(key: &[u8]) -> u16 {
    // FNV-1a, and the end of MurmurHash3 so that all bits depend on all.
    let hash = key.iter().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3)
    });
    (mixed(hash) % u64::from(BUCKETS)) as u16
}

/// The number of a record that a key is.
fn numbered(key: &[u8]) -> Option<Sign> {
    let (first, number) = key.split_first()?;
    let kind = NUMBERED.iter().position(|kind| kind == first)?;
    let number = u64::from_be_bytes(number.try_into().ok()?);
    Some(Sign::Number { kind, number })
}

/// The lowest and the highest number of a kind in a run.
#[derive(Clone, Copy, Debug)]
struct Span {
    lowest: u64,
    highest: u64,
}

impl Default for Span {
    /// Of no numbers.
    fn default() -> Self {
        Self {
            lowest: u64::MAX,
            highest: 0,
        }
    }
}

impl Span {
    fn add(&mut self, number: u64) {
        self.lowest = self.lowest.min(number);
        self.highest = self.highest.max(number);
    }

    fn has(&self, number: u64) -> bool {
        (self.lowest..=self.highest).contains(&number)
    }
}

fn mixed(mut hash: u64) -> u64 {
    hash = (hash ^ (hash >> 33)).wrapping_mul(0xff51_afd7_ed55_8ccd);
    hash = (hash ^ (hash >> 33)).wrapping_mul(0xc4ce_b9fe_1a85_ec53);
    hash ^ (hash >> 33)
}

/// What is known of the runs without looking into the database.
#[derive(Debug, Default)]
pub(super) struct Runs {
    /// What rows are chosen by, anew whenever an index is opened: whoever chooses keys cannot choose some that seem to be in
    /// many runs.
    hasher: RandomState,
    /// Of [`RUNS_PER_GROUP`] runs each, [`ROWS`] rows.
    filters: Vec<Box<[Row]>>,
    /// Of each run, the numbers that it has.
    spans: Vec<[Span; NUMBERED.len()]>,
    /// How many runs there are.
    count: u32,
    /// How many entries the last of them has.
    in_last: u64,
    /// How many entries all of them have.
    entries: u64,
}

impl Runs {
    /// Where an entry with this key is.
    pub(super) fn place(&self, key: &[u8]) -> Place {
        Place {
            bucket: bucket(key),
            sign: numbered(key).unwrap_or_else(|| Sign::Rows(self.rows(key))),
        }
    }

    fn rows(&self, key: &[u8]) -> [usize; ROWS_PER_KEY] {
        let hashes = (0_u8..).map(|n| self.hasher.hash_one((n, key)));
        let mut parts = hashes.flat_map(|hash| [hash, hash >> 16, hash >> 32, hash >> 48]);
        std::array::from_fn(|_| parts.next().unwrap_or_default() as usize % ROWS)
    }

    /// How many entries there are in all.
    pub(super) fn entries(&self) -> u64 {
        self.entries
    }

    /// What the filters take, in bytes.
    #[cfg(test)]
    pub(super) fn memory_bytes(&self) -> usize {
        self.filters
            .iter()
            .map(|filter| size_of_val(&**filter))
            .sum()
    }

    /// The run that takes what comes next.
    pub(super) fn open(&self) -> u32 {
        match self.count.checked_sub(1) {
            Some(last) if self.in_last < ENTRIES_PER_RUN => last,
            _ => self.count,
        }
    }

    /// Whether nothing is in this run yet.
    pub(super) fn is_new(&self, run: u32) -> bool {
        run >= self.count
    }

    /// Whether an entry may be in this run, given that all of the runs before it were noted: runs follow one another, and one
    /// begins when the one before it is full. What an index says of it is not believed for a number alone, as filters are
    /// made for all runs up to it.
    pub(super) fn may_have(&self, run: u32) -> bool {
        run == self.open() || run.checked_add(1) == Some(self.count)
    }

    /// Notes an entry that was not in this run before, which is the last or a new one.
    pub(super) fn add(&mut self, run: u32, place: &Place) {
        match place.sign {
            Sign::Rows(rows) => self.add_rows(run, &rows),
            Sign::Number { kind, number } => {
                if self.spans.len() <= run as usize {
                    self.spans.resize(run as usize + 1, Default::default());
                }
                let spans = self.spans.get_mut(run as usize);
                if let Some(span) = spans.and_then(|of| of.get_mut(kind)) {
                    span.add(number);
                }
            }
        }
        if self.is_new(run) {
            self.count = run.saturating_add(1);
            self.in_last = 0;
        }
        self.in_last += 1;
        self.entries += 1;
    }

    fn add_rows(&mut self, run: u32, rows: &[usize]) {
        let (group, bit) = ((run / RUNS_PER_GROUP) as usize, run % RUNS_PER_GROUP);
        while self.filters.len() <= group {
            self.filters
                .push(vec![Row::default(); ROWS].into_boxed_slice());
        }
        let (number, bit) = ((bit / u64::BITS) as usize, bit % u64::BITS);
        for row in rows {
            let row = self.filters.get_mut(group).and_then(|of| of.get_mut(*row));
            if let Some(runs) = row.and_then(|row| row.get_mut(number)) {
                *runs |= 1 << bit;
            }
        }
    }

    /// The runs that may have an entry there, the newest first.
    pub(super) fn having(&self, place: Place) -> impl Iterator<Item = u32> {
        let (rows, number) = match place.sign {
            Sign::Rows(rows) => (Some(rows), None),
            Sign::Number { kind, number } => (None, Some((kind, number))),
        };
        let by_rows = rows.map(|rows| self.having_rows(rows));
        let by_number = number.map(|(kind, number)| self.having_number(kind, number));
        by_rows
            .into_iter()
            .flatten()
            .chain(by_number.into_iter().flatten())
    }

    fn having_rows(&self, rows: [usize; ROWS_PER_KEY]) -> impl Iterator<Item = u32> {
        let groups = self.filters.iter().enumerate().rev();
        groups.flat_map(move |(group, filters)| {
            let rows = rows.iter().filter_map(|row| filters.get(*row));
            let mut runs = [u64::MAX; WORDS];
            for row in rows {
                for (runs, of_row) in runs.iter_mut().zip(row) {
                    *runs &= of_row;
                }
            }
            std::iter::from_fn(move || {
                let mut numbers = runs.iter_mut().enumerate().rev();
                numbers.find_map(|(number, runs)| {
                    let bit = runs.checked_ilog2()?;
                    *runs ^= 1 << bit;
                    Some((group * WORDS + number) as u32 * u64::BITS + bit)
                })
            })
        })
    }

    fn having_number(&self, kind: usize, number: u64) -> impl Iterator<Item = u32> {
        let spans = self.spans.iter().enumerate().rev();
        spans.filter_map(move |(run, spans)| {
            let span = spans.get(kind)?;
            span.has(number).then_some(run as u32)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(n: u64) -> Vec<u8> {
        format!("dTH-200\0TH200-{n:08}").into_bytes()
    }

    #[test]
    fn a_key_is_looked_for_where_it_is_and_hardly_anywhere_else() {
        let mut runs = Runs::default();
        // Two keys of each of 683 certificates.
        const KEYS_PER_RUN: u64 = 1366;
        let count = KEYS_PER_RUN * 520;
        for n in 0..count {
            let place = runs.place(&key(n));
            runs.add((n / KEYS_PER_RUN) as u32, &place);
        }
        assert_eq!(runs.entries(), count);
        assert_eq!(runs.open(), 520);
        assert_eq!(runs.filters.len(), 2);
        let mut looks = 0;
        for n in (0..count).step_by(97) {
            let found: Vec<u32> = runs.having(runs.place(&key(n))).collect();
            assert!(found.contains(&((n / KEYS_PER_RUN) as u32)));
            assert!(found.is_sorted_by(|one, next| one > next));
            looks += found.len() as u64 - 1;
        }
        for n in count..count + count / 97 {
            looks += runs.having(runs.place(&key(n))).count() as u64;
        }
        // Of 520 filters one in 50,000 is mistaken.
        assert!(looks < count / 97 * 2 / 50, "{looks}");
    }

    #[test]
    fn numbers_of_records_are_looked_for_between_the_lowest_and_the_highest_and_take_no_filter() {
        let numbered = |kind: u8, number: u64| {
            let mut key = vec![kind];
            key.extend_from_slice(&number.to_be_bytes());
            key
        };
        let mut runs = Runs::default();
        for (run, kind, numbers) in [
            (0, b'r', [5, 7]),
            (1, b'p', [256, 512]),
            (2, b'r', [6, 9]),
            (2, b'p', [768, 768]),
        ] {
            for number in numbers {
                let place = runs.place(&numbered(kind, number));
                runs.add(run, &place);
            }
        }
        assert_eq!(runs.memory_bytes(), 0);
        let having = |kind, number| -> Vec<u32> {
            runs.having(runs.place(&numbered(kind, number))).collect()
        };
        assert_eq!(having(b'r', 5), [0]);
        assert_eq!(having(b'r', 6), [2, 0]);
        assert_eq!(having(b'r', 9), [2]);
        assert!(having(b'r', 4).is_empty());
        assert!(having(b'r', 10).is_empty());
        assert!(having(b'r', 512).is_empty());
        assert_eq!(having(b'p', 300), [1]);
        assert_eq!(having(b'p', 768), [2]);
        // Of no number in particular: a public key's is eight bytes too, and one of another length is none.
        for key in [numbered(b'k', 6), b"r6".to_vec(), b"p".to_vec(), Vec::new()] {
            assert_eq!(runs.having(runs.place(&key)).count(), 0);
            assert!(matches!(runs.place(&key).sign, Sign::Rows(_)));
        }
    }

    #[test]
    fn buckets_are_about_equal() {
        let mut counts = vec![0_u64; usize::from(BUCKETS)];
        for n in 0..ENTRIES_PER_RUN * 10 {
            counts[usize::from(bucket(&key(n)))] += 1;
        }
        let mean = ENTRIES_PER_RUN * 10 / u64::from(BUCKETS);
        assert!(
            counts
                .iter()
                .all(|count| (mean / 2..mean * 2).contains(count))
        );
    }

    #[test]
    fn buckets_are_what_they_were() {
        assert_eq!([0, 1, 2].map(|n| bucket(&key(n))), [27, 34, 41]);
    }

    #[test]
    fn rows_are_others_in_every_index_and_each_of_a_key_is_another() {
        let (one, other) = (Runs::default(), Runs::default());
        let mut alike = 0;
        for n in 0..10_000 {
            let rows = one.rows(&key(n));
            assert_eq!(rows, one.rows(&key(n)));
            assert_ne!(rows, other.rows(&key(n)));
            let distinct: std::collections::BTreeSet<usize> = rows.into_iter().collect();
            assert!(distinct.iter().all(|row| *row < ROWS));
            alike += ROWS_PER_KEY - distinct.len();
        }
        // By chance one of 45 pairs in 32,768: 14 of 10,000 keys.
        assert!(alike < 60, "{alike}");
    }
}
