//! The units that HQ has not acknowledged yet: how many, and how old the oldest is.
//!
//! An acknowledgement names a size of the log; what lies below it is reported. So for each unit its place in the log must
//! be known until then. Units come in regular runs (every second record within a group, every third one by one), so
//! runs of equal stride keep them in a few numbers.

use std::collections::VecDeque;

use super::codec::{self, Numbers};

/// Units of one run are counted as old as its first; a run never spans more than this many seconds.
const RUN_SECONDS_MAX: u64 = 3600;

/// Units at `first`, `first + stride`, and so on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Run {
    first: u64,
    /// 0 while there is but one.
    stride: u64,
    /// At least 1.
    count: u64,
    /// Time of the first, Unix seconds.
    time: u64,
}

impl Run {
    fn last(&self) -> u64 {
        self.first
            .saturating_add(self.stride.saturating_mul(self.count.saturating_sub(1)))
    }
}

/// Units by their place in the log, in order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Unreported {
    runs: VecDeque<Run>,
    count: u64,
}

impl Unreported {
    /// How many there are.
    pub(crate) fn count(&self) -> u64 {
        self.count
    }

    /// When the oldest was issued, Unix seconds; up to [`RUN_SECONDS_MAX`] earlier once a part of its run is reported.
    pub(crate) fn oldest(&self) -> Option<u64> {
        self.runs.front().map(|run| run.time)
    }

    /// Adds the unit reserved by the record `sequence`, which lies above all before it.
    pub(crate) fn add(&mut self, sequence: u64, time: u64) {
        self.count = self.count.saturating_add(1);
        if let Some(run) = self.runs.back_mut()
            && time.saturating_sub(run.time) <= RUN_SECONDS_MAX
        {
            let step = sequence.saturating_sub(run.last());
            if run.count == 1 {
                run.stride = step;
            }
            if run.stride == step {
                run.count += 1;
                return;
            }
        }
        self.runs.push_back(Run {
            first: sequence,
            stride: 0,
            count: 1,
            time,
        });
    }

    /// Time goes on at `time`, perhaps an earlier one: no unit was issued later than that.
    pub(crate) fn go_on_at(&mut self, time: u64) {
        for run in &mut self.runs {
            run.time = run.time.min(time);
        }
    }

    /// Drops the units below `log_size`, which HQ holds.
    pub(crate) fn acknowledge(&mut self, log_size: u64) {
        while let Some(run) = self.runs.front_mut() {
            if run.first >= log_size {
                return;
            }
            if run.last() < log_size {
                self.count = self.count.saturating_sub(run.count);
                self.runs.pop_front();
                continue;
            }
            // At least the first is reported and the last is not, so the stride is not 0.
            let reported = (log_size - run.first).div_ceil(run.stride.max(1));
            let reported = reported.min(run.count.saturating_sub(1));
            self.count = self.count.saturating_sub(reported);
            run.first = run
                .first
                .saturating_add(run.stride.saturating_mul(reported));
            run.count -= reported;
            return;
        }
    }

    pub(super) fn to_value(&self) -> ciborium::Value {
        codec::array(
            self.runs
                .iter()
                .map(|run| codec::numbers([run.first, run.stride, run.count, run.time])),
        )
    }

    pub(super) fn from_value(values: Vec<ciborium::Value>) -> Option<Self> {
        let mut unreported = Self::default();
        for value in values {
            let Numbers([first, stride, count, time]) = Numbers::read(value)?;
            if count == 0 {
                return None;
            }
            unreported.count = unreported.count.saturating_add(count);
            unreported.runs.push_back(Run {
                first,
                stride,
                count,
                time,
            });
        }
        Some(unreported)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn regular_units_take_one_run() {
        let mut units = Unreported::default();
        for unit in 0..10_000 {
            units.add(5 + 3 * unit, 1000);
        }
        assert_eq!((units.count(), units.runs.len()), (10_000, 1));
    }

    #[test]
    fn units_of_an_hour_are_as_old_as_its_first_and_later_ones_are_not() {
        for (later, oldest) in [(RUN_SECONDS_MAX, 1000), (RUN_SECONDS_MAX + 1, 4601)] {
            let mut units = Unreported::default();
            units.add(5, 1000);
            units.add(8, 1000 + later);
            units.acknowledge(6);
            assert_eq!((units.count(), units.oldest()), (1, Some(oldest)));
        }
    }

    proptest! {
        #[test]
        fn runs_count_what_a_plain_list_counts(
            steps in prop::collection::vec((1_u64..5, 0_u64..2000), 1..200),
            cuts in prop::collection::vec(0_u64..900, 1..5),
        ) {
            let mut units = Unreported::default();
            let mut list = Vec::new();
            let (mut sequence, mut time) = (0, 0);
            for (step, seconds) in steps {
                sequence += step;
                time += seconds;
                units.add(sequence, time);
                list.push((sequence, time));
            }
            let mut cuts = cuts;
            cuts.sort_unstable();
            for cut in cuts {
                units.acknowledge(cut);
                list.retain(|(sequence, _)| *sequence >= cut);
                prop_assert_eq!(units.count(), list.len() as u64);
                let exact = list.first().map(|(_, time)| *time);
                prop_assert_eq!(units.oldest().is_some(), exact.is_some());
                if let (Some(oldest), Some(exact)) = (units.oldest(), exact) {
                    prop_assert!(oldest <= exact && exact - oldest <= RUN_SECONDS_MAX);
                }
                let again = Unreported::from_value(units.to_value().into_array().unwrap());
                prop_assert_eq!(again.as_ref(), Some(&units));
            }
        }
    }
}
