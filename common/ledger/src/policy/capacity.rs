//! How many units the rates of a product leave room for within some intervals.

use std::collections::BTreeMap;

use mintmark_protocol::entitlement::Interval;

use super::{day_window, hour_window};

/// What rates leave room for: the most units of each UTC day, as [`day_window`] counts them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Room(BTreeMap<u64, u64>);

impl Room {
    /// The most units in all.
    pub(super) fn units(&self) -> u64 {
        let days = self.0.values();
        days.fold(0, |sum, units| sum.saturating_add(*units))
    }

    /// The most units of any one day.
    pub(super) fn units_of_a_day(&self) -> u64 {
        self.0.values().copied().max().unwrap_or_default()
    }

    /// No day has room for more than this.
    pub(super) fn limited_to(mut self, units_of_a_day: u64) -> Self {
        for units in self.0.values_mut() {
            *units = units_of_a_day.min(*units);
        }
        self
    }

    /// Room for this too, day by day.
    pub(super) fn add(&mut self, more: Self) {
        for (day, units) in more.0 {
            let of_day = self.0.entry(day).or_default();
            *of_day = of_day.saturating_add(units);
        }
    }
}

/// The room within ordered intervals under rates that count in UTC hours and UTC days; none where no rate limits it.
pub(super) fn room(
    intervals: &[Interval],
    per_hour: Option<u64>,
    per_day: Option<u64>,
) -> Option<Room> {
    if per_hour.is_none() && per_day.is_none() {
        return None;
    }
    let mut days = BTreeMap::new();
    // The hour counted last: two intervals may lie within one hour.
    let mut hour_before = None;
    for interval in intervals {
        for hour in hour_window(interval.from)..=hour_window(interval.until.saturating_sub(1)) {
            if hour_before == Some(hour) {
                continue;
            }
            hour_before = Some(hour);
            let of_day = days.entry(day_window(hour * 3600)).or_insert(0_u64);
            // Without a rate per hour the day's units may all be made in its first hour.
            let more = of_day.saturating_add(per_hour.unwrap_or(u64::MAX));
            *of_day = more.min(per_day.unwrap_or(u64::MAX));
        }
    }
    Some(Room(days))
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: u64 = 3600;
    const DAY: u64 = 86_400;

    fn units(
        intervals: &[(u64, u64)],
        per_hour: Option<u64>,
        per_day: Option<u64>,
    ) -> Option<(u64, u64)> {
        let intervals: Vec<Interval> = intervals
            .iter()
            .map(|&(from, until)| Interval { from, until })
            .collect();
        room(&intervals, per_hour, per_day).map(|room| (room.units(), room.units_of_a_day()))
    }

    #[test]
    fn no_rate_is_no_limit() {
        assert_eq!(units(&[(0, DAY)], None, None), None);
    }

    #[test]
    fn the_tighter_of_two_rates_counts() {
        assert_eq!(units(&[(0, DAY)], Some(10), None), Some((240, 240)));
        assert_eq!(units(&[(0, DAY)], Some(10), Some(100)), Some((100, 100)));
        assert_eq!(units(&[(0, DAY)], Some(10), Some(1000)), Some((240, 240)));
        assert_eq!(units(&[(0, 3 * DAY)], None, Some(7)), Some((21, 7)));
    }

    #[test]
    fn hours_and_days_that_are_only_touched_count_whole() {
        assert_eq!(
            units(&[(HOUR - 1, HOUR + 1)], Some(10), None),
            Some((20, 20))
        );
        assert_eq!(units(&[(DAY - 1, DAY + 1)], None, Some(10)), Some((20, 10)));
        assert_eq!(units(&[(HOUR, 2 * HOUR)], Some(10), None), Some((10, 10)));
    }

    #[test]
    fn two_intervals_within_one_hour_share_it() {
        assert_eq!(
            units(&[(0, 60), (120, 180), (HOUR, HOUR + 1)], Some(10), None),
            Some((20, 20))
        );
    }

    #[test]
    fn rates_beyond_any_count_do_not_overflow() {
        assert_eq!(
            units(&[(0, 3 * DAY)], Some(u64::MAX), None),
            Some((u64::MAX, u64::MAX))
        );
    }
}
