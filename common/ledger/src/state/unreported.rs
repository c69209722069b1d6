//! The units that HQ has not acknowledged yet: how many, and how old the oldest is.
//!
//! An acknowledgement names a size of the log; what lies below it is reported. So for each unit its place in the log must
//! be known until then: a bit for each record, whatever lies between the units.

use std::collections::VecDeque;

use ciborium::Value;

use super::codec;

/// Units of one span are counted as old as its first; a span never takes more than this many seconds.
const SPAN_SECONDS_MAX: u64 = 3600;

/// The most records of one span.
const SPAN_RECORDS_MAX: u64 = 1 << 16;

/// How many records one word stands for.
const WORD_RECORDS: u64 = u64::BITS as u64;

/// Units that follow each other in the log.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Span {
    /// The record that the lowest bit of the first word stands for.
    first: u64,
    /// Time of the first unit, Unix seconds.
    time: u64,
    /// A bit for each record, the lowest first: set if it reserved a unit. The last word is never 0.
    words: Vec<u64>,
}

impl Span {
    /// With nothing but the unit reserved by the record `sequence`.
    fn new(sequence: u64, time: u64) -> Self {
        Self {
            first: sequence,
            time,
            words: vec![1],
        }
    }

    /// Adds the unit reserved by the record `sequence`, unless it is too far from the first.
    fn add(&mut self, sequence: u64, time: u64) -> bool {
        let at = sequence.saturating_sub(self.first);
        if at >= SPAN_RECORDS_MAX || time.saturating_sub(self.time) > SPAN_SECONDS_MAX {
            return false;
        }
        let word = (at / WORD_RECORDS) as usize;
        if word >= self.words.len() {
            self.words.resize(word + 1, 0);
        }
        self.words[word] |= 1 << (at % WORD_RECORDS);
        true
    }

    /// Drops the units below `log_size`. How many they were.
    fn acknowledge(&mut self, log_size: u64) -> u64 {
        let below = log_size.saturating_sub(self.first);
        let whole = (below / WORD_RECORDS).min(self.words.len() as u64);
        let mut reported = self.words.drain(..whole as usize).map(units).sum();
        self.first = self.first.saturating_add(whole * WORD_RECORDS);
        if let Some(word) = self.words.first_mut() {
            let part = *word & ((1 << (below % WORD_RECORDS)) - 1);
            *word ^= part;
            reported += units(part);
        }
        reported
    }

    fn is_empty(&self) -> bool {
        self.words.iter().all(|word| *word == 0)
    }

    /// `[first, unix-time, words]`.
    fn to_value(&self) -> Value {
        let words = self.words.iter().flat_map(|word| word.to_be_bytes());
        let words = Value::Bytes(words.collect());
        codec::array([Value::from(self.first), Value::from(self.time), words])
    }

    fn from_value(value: Value) -> Option<Self> {
        let [first, time, words] = <[Value; 3]>::try_from(value.into_array().ok()?).ok()?;
        let number = |value: Value| u64::try_from(value.as_integer()?).ok();
        let (words, []) = words.as_bytes()?.as_chunks() else {
            return None;
        };
        let words: Vec<u64> = words.iter().copied().map(u64::from_be_bytes).collect();
        let whole = words.last().is_some_and(|word| *word != 0)
            && words.len() as u64 <= SPAN_RECORDS_MAX / WORD_RECORDS;
        whole.then_some(Self {
            first: number(first)?,
            time: number(time)?,
            words,
        })
    }
}

/// How many units a word holds.
fn units(word: u64) -> u64 {
    u64::from(word.count_ones())
}

/// Units by their place in the log, in order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Unreported {
    spans: VecDeque<Span>,
    count: u64,
}

impl Unreported {
    /// How many there are.
    pub(crate) fn count(&self) -> u64 {
        self.count
    }

    /// When the oldest was issued, Unix seconds; up to [`SPAN_SECONDS_MAX`] earlier once a part of its span is reported.
    pub(crate) fn oldest(&self) -> Option<u64> {
        self.spans.front().map(|span| span.time)
    }

    /// Adds the unit reserved by the record `sequence`, which lies above all before it.
    pub(crate) fn add(&mut self, sequence: u64, time: u64) {
        self.count = self.count.saturating_add(1);
        let taken = self
            .spans
            .back_mut()
            .is_some_and(|span| span.add(sequence, time));
        if !taken {
            self.spans.push_back(Span::new(sequence, time));
        }
    }

    /// Time goes on at `time`, perhaps an earlier one: no unit was issued later than that.
    pub(crate) fn go_on_at(&mut self, time: u64) {
        for span in &mut self.spans {
            span.time = span.time.min(time);
        }
    }

    /// Drops the units below `log_size`, which HQ holds.
    pub(crate) fn acknowledge(&mut self, log_size: u64) {
        while let Some(span) = self.spans.front_mut() {
            self.count = self.count.saturating_sub(span.acknowledge(log_size));
            if !span.is_empty() {
                return;
            }
            self.spans.pop_front();
        }
    }

    pub(super) fn to_value(&self) -> Value {
        codec::array(self.spans.iter().map(Span::to_value))
    }

    pub(super) fn from_value(values: Vec<Value>) -> Option<Self> {
        let spans: Option<VecDeque<Span>> = values.into_iter().map(Span::from_value).collect();
        let spans = spans?;
        let count = spans
            .iter()
            .flat_map(|span| &span.words)
            .map(|word| units(*word));
        Some(Self {
            count: count.sum(),
            spans,
        })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_unit_takes_a_bit_for_each_record_since_the_one_before() {
        let mut units = Unreported::default();
        for unit in 0..10_000 {
            units.add(5 + 3 * unit + unit % 2, 1000);
        }
        let words: usize = units.spans.iter().map(|span| span.words.len()).sum();
        assert_eq!(
            (units.count(), units.spans.len(), words),
            (10_000, 1, 30_000_usize.div_ceil(64))
        );
    }

    #[test]
    fn a_span_takes_so_many_records_and_no_more() {
        for (later, spans) in [
            (SPAN_RECORDS_MAX - 1, 1),
            (SPAN_RECORDS_MAX, 2),
            (1 << 60, 2),
        ] {
            let mut units = Unreported::default();
            units.add(5, 1000);
            units.add(5 + later, 1000);
            assert_eq!((units.count(), units.spans.len()), (2, spans));
        }
    }

    #[test]
    fn what_is_no_span_is_not_read() {
        let span = |words: &[u8]| {
            codec::array([
                Value::from(5),
                Value::from(1000),
                Value::from(words.to_vec()),
            ])
        };
        let read = |value| Unreported::from_value(vec![value]).map(|units| units.count());
        let one = [0, 0, 0, 0, 0, 0, 0, 1];
        assert_eq!(read(span(&one)), Some(1));
        let longest = (SPAN_RECORDS_MAX / 8) as usize;
        assert_eq!(
            read(span(&one.repeat(longest / 8))),
            Some(SPAN_RECORDS_MAX / WORD_RECORDS)
        );
        assert_eq!(read(span(&one.repeat(longest / 8 + 1))), None);
        assert_eq!(read(span(&[])), None);
        assert_eq!(read(span(&one[1..])), None);
        assert_eq!(read(span(&[one, [0; 8]].concat())), None);
        assert_eq!(read(codec::numbers([5, 3, 1, 1000])), None);
    }

    #[test]
    fn units_of_an_hour_are_as_old_as_its_first_and_later_ones_are_not() {
        for (later, oldest) in [(SPAN_SECONDS_MAX, 1000), (SPAN_SECONDS_MAX + 1, 4601)] {
            let mut units = Unreported::default();
            units.add(5, 1000);
            units.add(8, 1000 + later);
            units.acknowledge(6);
            assert_eq!((units.count(), units.oldest()), (1, Some(oldest)));
        }
    }

    proptest! {
        #[test]
        fn spans_count_what_a_plain_list_counts(
            steps in prop::collection::vec((prop_oneof![9 => 1_u64..5, 1 => 1_u64..100_000], 0_u64..2000), 1..200),
            cuts in prop::collection::vec(any::<prop::sample::Index>(), 1..5),
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
            let mut cuts: Vec<u64> = cuts.iter().map(|cut| cut.index(sequence as usize + 3) as u64).collect();
            cuts.sort_unstable();
            for cut in cuts {
                units.acknowledge(cut);
                list.retain(|(sequence, _)| *sequence >= cut);
                prop_assert_eq!(units.count(), list.len() as u64);
                let exact = list.first().map(|(_, time)| *time);
                prop_assert_eq!(units.oldest().is_some(), exact.is_some());
                if let (Some(oldest), Some(exact)) = (units.oldest(), exact) {
                    prop_assert!(oldest <= exact && exact - oldest <= SPAN_SECONDS_MAX);
                }
                let again = Unreported::from_value(units.to_value().into_array().unwrap());
                prop_assert_eq!(again.as_ref(), Some(&units));
            }
        }
    }
}
