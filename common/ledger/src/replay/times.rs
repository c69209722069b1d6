//! When the records of a log were written, to the day: what a vault says it pruned is held against it.

use std::collections::VecDeque;

use ciborium::Value;

use crate::entry::{LogSequence, Pruned};
use crate::state::State;

/// No record is as much younger than the mark before it.
const MARK_SECONDS: u64 = 86_400;
/// The most marks that are kept, enough for eleven years; the oldest go first, and of what they were for nothing is said.
const MARKS_MAX: usize = 4096;

/// Marks in the order of the log. No record is older than the newest mark up to it, even where a correction took the clock
/// back.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Times(VecDeque<(u64, u64)>);

impl Times {
    /// Adds the next record that can be read.
    pub(super) fn note(&mut self, sequence: LogSequence, time: u64) {
        let marked = self.0.back().is_some_and(|(_, mark)| {
            time.checked_sub(*mark)
                .is_some_and(|since| since < MARK_SECONDS)
        });
        if !marked {
            if self.0.len() == MARKS_MAX {
                self.0.pop_front();
            }
            self.0.push_back((sequence.number(), time));
        }
    }

    /// Whether the last record that was pruned may have gone at `time`, whatever the vault says how old it is.
    pub(super) fn prune_fits(
        &self,
        state: &State,
        pruned: &Pruned,
        time: u64,
    ) -> Result<(), String> {
        let below = self.0.partition_point(|(first, _)| *first < pruned.end());
        let mark = below.checked_sub(1).and_then(|at| self.0.get(at));
        match (mark, state.prunable_until(time)) {
            (Some((_, written)), Some(until)) if *written > until => Err(format!(
                "record {} is pruned, which was written at {written} or later: {until} is the newest time that may be",
                pruned.end().saturating_sub(1)
            )),
            _ => Ok(()),
        }
    }

    /// The marks as they are kept; none of a log that has none.
    pub(super) fn to_value(&self) -> Option<Value> {
        let marks = self.0.iter();
        let numbers = marks.flat_map(|(sequence, time)| [Value::from(*sequence), (*time).into()]);
        (!self.0.is_empty()).then(|| Value::Array(numbers.collect()))
    }

    /// What [`Times::to_value`] made; none of anything else.
    pub(super) fn from_value(value: Value) -> Option<Self> {
        let numbers = value.into_array().ok()?.into_iter();
        let numbers: Vec<u64> = numbers
            .map(|number| number.into_integer().ok()?.try_into().ok())
            .collect::<Option<_>>()?;
        let (marks, rest) = numbers.as_chunks();
        let ordered = marks.is_sorted_by(|[before, _], [after, _]| before < after);
        (rest.is_empty() && ordered && marks.len() <= MARKS_MAX)
            .then(|| Self(marks.iter().map(|[first, time]| (*first, *time)).collect()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_record_is_older_than_the_newest_mark_up_to_it_or_a_day_younger() {
        let day = MARK_SECONDS;
        // A clock that ran far ahead, and was corrected.
        let written = [1, 5, day, day + 1, 900 * day, 900 * day + 9, 3 * day, day];
        let mut times = Times::default();
        for (sequence, time) in (0..).zip(written) {
            times.note(LogSequence(sequence), time);
        }
        assert!(times.0.len() < written.len());
        for (sequence, time) in (0..).zip(written) {
            let (_, mark) = times
                .0
                .iter()
                .rfind(|(first, _)| *first <= sequence)
                .unwrap();
            assert!((*mark..*mark + day).contains(&time), "{sequence}");
        }
        let kept = times.to_value().unwrap();
        assert_eq!(Times::from_value(kept), Some(times));
    }

    #[test]
    fn marks_that_are_out_of_order_too_many_or_half_are_none() {
        let read = |numbers: Vec<u64>| {
            let numbers = numbers.into_iter().map(Value::from);
            Times::from_value(Value::Array(numbers.collect()))
        };
        assert!(read(vec![1, 50, 2, 40]).is_some());
        assert_eq!(read(vec![1, 50, 1, 60]), None);
        assert_eq!(read(vec![2, 50, 1, 60]), None);
        assert_eq!(read(vec![1, 50, 2]), None);
        let marks = |count: usize| (0..count as u64).flat_map(|n| [n, n]).collect();
        assert!(read(marks(MARKS_MAX)).is_some());
        assert_eq!(read(marks(MARKS_MAX + 1)), None);
    }

    #[test]
    fn the_oldest_marks_go_first() {
        let mut times = Times::default();
        let count = MARKS_MAX as u64 + 3;
        for sequence in 0..count {
            times.note(LogSequence(sequence), sequence * MARK_SECONDS);
        }
        assert_eq!(times.0.len(), MARKS_MAX);
        assert_eq!(times.0.front(), Some(&(3, 3 * MARK_SECONDS)));
    }
}
