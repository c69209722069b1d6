//! Where in the database an entry is, and what is kept in memory in order to know.
//!
//! The keys of public keys are random. In a tree that is in the order of its keys each certificate would touch a page of its
//! own, for reading and for writing, and all of it would come to be in memory. So the index is written in the order of time:
//! a *run* takes what comes until it has enough entries, and no run before the last is written again. Within a run an entry is
//! in one of [`BUCKETS`] buckets, by its key.
//!
//! A key may be in any run. Which ones to look at is told by filters in memory: each key sets [`ROWS_PER_KEY`] bits of its run's
//! filter, and a run in which one of them is not set does not have it. The filters of [`RUNS_PER_GROUP`] runs are kept bit
//! beside bit, so that half a line of the processor's cache says of all of them whether a bit is set; a key that is new is
//! known to be so after some looks into memory for every 780,000 entries, and costs the database nothing.

/// How many buckets a run has: a power of two.
pub(super) const BUCKETS: u16 = 256;

/// After how many entries a run takes no more.
pub(super) const ENTRIES_PER_RUN: u64 = 3072;

/// A bit of every run of a group.
type Row = [u64; 4];

/// The runs whose filters lie together.
const RUNS_PER_GROUP: u32 = 4 * u64::BITS;

/// The bits of a run's filter: a power of two. With [`ENTRIES_PER_RUN`] entries some 0.005 % of other keys seem to be in it.
const ROWS: usize = 1 << 16;

/// The bits that a key sets.
const ROWS_PER_KEY: usize = 10;

/// Where a key is in any run, and which bits it sets in its filter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Place {
    pub(super) bucket: u16,
    rows: [usize; ROWS_PER_KEY],
}

impl Place {
    /// What is written depends on it: it never changes within a [format](super::layout).
    pub(super) fn of(key: &[u8]) -> Self {
        // FNV-1a, and the end of MurmurHash3 so that all bits depend on all; then every row is another step (Kirsch and
        // Mitzenmacher, "Less hashing, same performance").
        let hash = key.iter().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
            (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3)
        });
        let hash = mixed(hash);
        let (first, step) = (mixed(hash ^ 1), mixed(hash ^ 2) | 1);
        Self {
            bucket: (hash % u64::from(BUCKETS)) as u16,
            rows: std::array::from_fn(|n| {
                let row = first.wrapping_add(step.wrapping_mul(n as u64));
                (row >> 40) as usize % ROWS
            }),
        }
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
    /// Of [`RUNS_PER_GROUP`] runs each, [`ROWS`] rows.
    filters: Vec<Box<[Row]>>,
    /// How many runs there are.
    count: u32,
    /// How many entries the last of them has.
    in_last: u64,
    /// How many entries all of them have.
    entries: u64,
}

impl Runs {
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

    /// Whether an entry may be in this run, given that all of the runs before it were noted: runs follow one another, and one
    /// begins when the one before it is full. What an index says of it is not believed for a number alone, as filters are
    /// made for all runs up to it.
    pub(super) fn may_have(&self, run: u32) -> bool {
        run == self.open() || run.checked_add(1) == Some(self.count)
    }

    /// Notes an entry that was not in this run before, which is the last or a new one.
    pub(super) fn add(&mut self, run: u32, place: &Place) {
        let (group, bit) = ((run / RUNS_PER_GROUP) as usize, run % RUNS_PER_GROUP);
        while self.filters.len() <= group {
            self.filters
                .push(vec![Row::default(); ROWS].into_boxed_slice());
        }
        let (number, bit) = ((bit / u64::BITS) as usize, bit % u64::BITS);
        for row in place.rows {
            let row = self.filters.get_mut(group).and_then(|of| of.get_mut(row));
            if let Some(runs) = row.and_then(|row| row.get_mut(number)) {
                *runs |= 1 << bit;
            }
        }
        if run >= self.count {
            self.count = run.saturating_add(1);
            self.in_last = 0;
        }
        self.in_last += 1;
        self.entries += 1;
    }

    /// The runs that may have an entry there, the newest first.
    pub(super) fn having(&self, place: Place) -> impl Iterator<Item = u32> {
        let groups = self.filters.iter().enumerate().rev();
        groups.flat_map(move |(group, filters)| {
            let rows = place.rows.iter().filter_map(|row| filters.get(*row));
            let mut runs = rows.fold([u64::MAX; 4], |[a, b, c, d], [e, f, g, h]| {
                [a & e, b & f, c & g, d & h]
            });
            std::iter::from_fn(move || {
                let mut numbers = runs.iter_mut().enumerate().rev();
                numbers.find_map(|(number, runs)| {
                    let bit = runs.checked_ilog2()?;
                    *runs ^= 1 << bit;
                    Some((group as u32 * 4 + number as u32) * u64::BITS + bit)
                })
            })
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
        let count = ENTRIES_PER_RUN * 262;
        for n in 0..count {
            runs.add(runs.open(), &Place::of(&key(n)));
        }
        assert_eq!(runs.entries(), count);
        assert_eq!(runs.open(), 262);
        assert_eq!(runs.filters.len(), 2);
        let mut looks = 0;
        for n in (0..count).step_by(97) {
            let found: Vec<u32> = runs.having(Place::of(&key(n))).collect();
            assert!(found.contains(&((n / ENTRIES_PER_RUN) as u32)));
            assert!(found.is_sorted_by(|one, next| one > next));
            looks += found.len() as u64 - 1;
        }
        for n in count..count + count / 97 {
            looks += runs.having(Place::of(&key(n))).count() as u64;
        }
        // Of 262 filters one in 18,000 is mistaken.
        assert!(looks < count / 97 * 2 / 50, "{looks}");
    }

    #[test]
    fn buckets_are_about_equal() {
        let mut counts = vec![0_u64; usize::from(BUCKETS)];
        for n in 0..ENTRIES_PER_RUN * 10 {
            counts[usize::from(Place::of(&key(n)).bucket)] += 1;
        }
        let mean = ENTRIES_PER_RUN * 10 / u64::from(BUCKETS);
        assert!(
            counts
                .iter()
                .all(|count| (mean / 2..mean * 2).contains(count))
        );
    }

    #[test]
    fn places_are_what_they_were() {
        // Of which the numbers that they are made of are even and odd.
        for (number, bucket, rows) in [
            (
                0,
                91,
                [
                    21876, 6204, 56069, 40398, 24727, 9056, 58921, 43250, 27579, 11907,
                ],
            ),
            (
                1,
                162,
                [
                    31095, 47930, 64766, 16065, 32900, 49735, 1034, 17869, 34704, 51540,
                ],
            ),
            (
                2,
                169,
                [
                    62964, 29387, 61347, 27771, 59730, 26154, 58114, 24538, 56497, 22921,
                ],
            ),
        ] {
            let place = Place::of(&key(number));
            assert_eq!((place.bucket, place.rows), (bucket, rows), "{number}");
        }
    }
}
