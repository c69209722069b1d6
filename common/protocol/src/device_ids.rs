//! A list of device identifiers: single ones, and ranges that count in their last digits.
//!
//! ```cddl
//! device-ids = [1*8192 device-id-range]
//! device-id-range = [device-id]        ; one
//!                 / [device-id,        ; from the first
//!                    device-id]        ; to the last, which is above it and the same but for its trailing digits, as many; of
//!                                      ; more than 38 only the last 38 differ
//! device-id = tstr .regexp "[A-Za-z0-9 '()+,./:=?-]{1,64}"
//! ```
//!
//! The *trailing digits* of an identifier are all the digits that it ends in, leading zeros included. Identifiers are
//! ordered by what stands before them, then by how many they are, then by the digits; so every range is a stretch of that
//! order, and whether a list holds an identifier is one binary search.

use std::cmp::Ordering;
use std::fmt;
use std::str::FromStr;

use ciborium::Value;

use crate::identifier::DeviceId;

/// The most ranges, single identifiers included, of one list.
pub const DEVICE_ID_RANGES_MAX: usize = 8192;
/// The most identifiers of one range as people write it. Ranges that touch become one that may hold more.
pub const RANGE_DEVICES_MAX: u128 = 10_000_000;
/// The most trailing digits that count; what stands before them is the same throughout a range.
const DIGITS_MAX: usize = 38;
const DEVICES_BEYOND_COUNT: u128 = u128::MAX;

/// One identifier, or all from a first to a last one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeviceIdRange {
    first: DeviceId,
    last: DeviceId,
}

/// Why a text is no range, or ranges are no list.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct DeviceIdsError(String);

/// A list of device identifiers, at least one: sorted, none overlapping, and what touches is one range.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeviceIds(Vec<DeviceIdRange>);

/// An identifier in two: what stands before its trailing digits, and those.
fn split(text: &str) -> (&str, &str) {
    let head = text.trim_end_matches(|c: char| c.is_ascii_digit());
    text.split_at(head.len())
}

/// The order in which lists stand.
fn order(one: &str, other: &str) -> Ordering {
    let ((head, digits), (head_of_other, digits_of_other)) = (split(one), split(other));
    head.cmp(head_of_other)
        .then(digits.len().cmp(&digits_of_other.len()))
        .then_with(|| digits.cmp(digits_of_other))
}

/// The digits at the end that count, as a number; 0 where there are none.
fn number(text: &str) -> u128 {
    let digits = split(text).1;
    let counted = digits.get(digits.len().saturating_sub(DIGITS_MAX)..);
    counted
        .and_then(|digits| digits.parse().ok())
        .unwrap_or_default()
}

impl DeviceIdRange {
    /// The identifiers from `first` to `last`, both included.
    ///
    /// # Errors
    /// If they differ in more than their trailing digits, or in how many those are, or count down.
    pub fn new(first: DeviceId, last: DeviceId) -> Result<Self, DeviceIdsError> {
        let wrong = |why: &str| Err(DeviceIdsError(format!("{first}..{last}: {why}")));
        let (from, to) = (split(first.as_str()), split(last.as_str()));
        if from.0 != to.0 {
            return wrong("both ends must be the same but for the digits that they end in");
        }
        if from.1.len() != to.1.len() {
            return wrong(
                "both ends must have equally many digits at the end, leading zeros included",
            );
        }
        let fixed = from.1.len().saturating_sub(DIGITS_MAX);
        if from.1.get(..fixed) != to.1.get(..fixed) {
            return wrong("only the last 38 digits may differ");
        }
        if from.1 > to.1 {
            return wrong("the first is above the last");
        }
        Ok(Self { first, last })
    }

    /// The first identifier.
    pub fn first(&self) -> &DeviceId {
        &self.first
    }

    /// The last one, which may be the first.
    pub fn last(&self) -> &DeviceId {
        &self.last
    }

    /// How many identifiers there are.
    pub fn devices(&self) -> u128 {
        let between = number(self.last.as_str()).saturating_sub(number(self.first.as_str()));
        between.saturating_add(1)
    }

    /// The identifier at a place, counted from 0; none beyond the last.
    pub fn device(&self, place: u128) -> Option<DeviceId> {
        if place >= self.devices() {
            return None;
        }
        let text = self.first.as_str();
        let digits = split(text).1.len().min(DIGITS_MAX);
        if digits == 0 {
            return Some(self.first.clone());
        }
        let head = text.get(..text.len() - digits)?;
        let number = number(text).checked_add(place)?;
        format!("{head}{number:0digits$}").parse().ok()
    }

    /// The identifiers from one place to another, which is not included; none if there are none.
    fn part(&self, from: u128, until: u128) -> Option<Self> {
        Some(Self {
            first: self.device(from).filter(|_| from < until)?,
            last: self.device(until.checked_sub(1)?)?,
        })
    }

    fn holds(&self, device_id: &str) -> bool {
        order(self.first.as_str(), device_id).is_le()
            && order(device_id, self.last.as_str()).is_le()
    }

    /// Whether `next`, which comes later in the order, begins right behind this one.
    fn touches(&self, next: &Self) -> bool {
        let (here, there) = (split(self.last.as_str()), split(next.first.as_str()));
        let fixed = here.1.len().saturating_sub(DIGITS_MAX);
        here.0 == there.0
            && !here.1.is_empty()
            && here.1.len() == there.1.len()
            && here.1.get(..fixed) == there.1.get(..fixed)
            && number(self.last.as_str()).checked_add(1) == Some(number(next.first.as_str()))
    }
}

impl FromStr for DeviceIdRange {
    type Err = DeviceIdsError;

    /// `TH200-00000001`, or `TH200-00000100..TH200-00000199`. What holds two dots in a row is a range, even though an
    /// identifier might hold them.
    fn from_str(text: &str) -> Result<Self, DeviceIdsError> {
        let device_id = |text: &str| {
            text.parse::<DeviceId>()
                .map_err(|error| DeviceIdsError(error.to_string()))
        };
        let range = match text.split_once("..") {
            None => {
                let only = device_id(text)?;
                Self {
                    first: only.clone(),
                    last: only,
                }
            }
            Some((first, last)) => Self::new(device_id(first)?, device_id(last)?)?,
        };
        let devices = range.devices();
        if devices > RANGE_DEVICES_MAX {
            return Err(DeviceIdsError(format!(
                "{range} holds {devices} device identifiers, and a range has at most {RANGE_DEVICES_MAX}"
            )));
        }
        Ok(range)
    }
}

impl fmt::Display for DeviceIdRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.first == self.last {
            write!(f, "{}", self.first)
        } else {
            write!(f, "{}..{}", self.first, self.last)
        }
    }
}

impl DeviceIds {
    /// A list of these ranges, in whatever order.
    ///
    /// # Errors
    /// If there is none, if two of them overlap, or if too many are left once those that touch became one.
    pub fn new(mut ranges: Vec<DeviceIdRange>) -> Result<Self, DeviceIdsError> {
        ranges.sort_by(|one, other| order(one.first.as_str(), other.first.as_str()));
        let mut list: Vec<DeviceIdRange> = Vec::new();
        for range in ranges {
            match list.last_mut() {
                Some(before) if order(range.first.as_str(), before.last.as_str()).is_le() => {
                    return Err(DeviceIdsError(format!("{} is listed twice", range.first)));
                }
                Some(before) if before.touches(&range) => before.last = range.last,
                _ => list.push(range),
            }
        }
        if list.is_empty() {
            return Err(DeviceIdsError("no device identifier is listed".to_owned()));
        }
        if list.len() > DEVICE_ID_RANGES_MAX {
            return Err(DeviceIdsError(format!(
                "{} single identifiers and ranges are listed, and at most {DEVICE_ID_RANGES_MAX} fit",
                list.len()
            )));
        }
        Ok(Self(list))
    }

    /// The ranges, in order.
    pub fn ranges(&self) -> &[DeviceIdRange] {
        &self.0
    }

    /// How many identifiers it holds; 2^128 - 1 for as many or more.
    pub fn devices(&self) -> u128 {
        let devices = self.0.iter().map(DeviceIdRange::devices);
        devices
            .reduce(u128::saturating_add)
            .unwrap_or(DEVICES_BEYOND_COUNT)
    }

    /// What it holds and `other` does not; none if that is nothing.
    pub fn without(&self, other: &Self) -> Option<Self> {
        let mut left: Vec<DeviceIdRange> = Vec::new();
        let mut others = other.0.iter().peekable();
        for range in &self.0 {
            // What is left of this range, from this place on.
            let mut from = 0;
            while let Some(gone) = others.peek() {
                if order(gone.last.as_str(), range.first.as_str()).is_lt() {
                    others.next();
                    continue;
                }
                if order(range.last.as_str(), gone.first.as_str()).is_lt() {
                    break;
                }
                // They overlap, so they count in the same digits.
                let base = number(range.first.as_str());
                let start = number(gone.first.as_str()).saturating_sub(base);
                left.extend(range.part(from, start));
                from = number(gone.last.as_str())
                    .saturating_sub(base)
                    .saturating_add(1);
                if order(range.last.as_str(), gone.last.as_str()).is_le() {
                    break;
                }
                others.next();
            }
            left.extend(range.part(from, range.devices()));
        }
        Self::new(left).ok()
    }

    /// Whether it holds this one.
    pub fn contains(&self, device_id: &DeviceId) -> bool {
        let device_id = device_id.as_str();
        let behind = |range: &DeviceIdRange| order(range.first.as_str(), device_id).is_le();
        let at = self.0.partition_point(behind);
        let range = at.checked_sub(1).and_then(|at| self.0.get(at));
        range.is_some_and(|range| range.holds(device_id))
    }

    pub(crate) fn to_value(&self) -> Value {
        let range = |range: &DeviceIdRange| {
            let mut ends = vec![Value::from(range.first.as_str())];
            if range.first != range.last {
                ends.push(Value::from(range.last.as_str()));
            }
            Value::Array(ends)
        };
        Value::Array(self.0.iter().map(range).collect())
    }

    /// Reads a list, which must stand as [`DeviceIds::new`] would put it.
    pub(crate) fn from_value(value: Value) -> Result<Self, DeviceIdsError> {
        let wrong = || DeviceIdsError("ranges of device identifiers were expected".to_owned());
        let found = value.into_array().map_err(|_| wrong())?;
        if found.len() > DEVICE_ID_RANGES_MAX {
            return Err(wrong());
        }
        let mut ranges = Vec::with_capacity(found.len());
        for range in found {
            let ends = range.into_array().map_err(|_| wrong())?;
            let ends: Vec<DeviceId> = ends
                .into_iter()
                .map(|end| end.into_text().ok()?.parse().ok())
                .collect::<Option<_>>()
                .ok_or_else(wrong)?;
            ranges.push(match <[DeviceId; 2]>::try_from(ends) {
                Ok([first, last]) if first != last => DeviceIdRange::new(first, last)?,
                Ok(_) => return Err(wrong()),
                Err(ends) => match <[DeviceId; 1]>::try_from(ends) {
                    Ok([only]) => DeviceIdRange {
                        first: only.clone(),
                        last: only,
                    },
                    Err(_) => return Err(wrong()),
                },
            });
        }
        let list = Self::new(ranges.clone())?;
        if list.0 != ranges {
            return Err(DeviceIdsError(
                "device identifiers must be sorted, and those that follow each other be one range"
                    .to_owned(),
            ));
        }
        Ok(list)
    }
}

/// `TH200-00000001, TH200-00000100..TH200-00000199`.
impl fmt::Display for DeviceIds {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, range) in self.0.iter().enumerate() {
            let comma = if at == 0 { "" } else { ", " };
            write!(f, "{comma}{range}")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    fn list(entries: &[&str]) -> Result<DeviceIds, DeviceIdsError> {
        let ranges = entries.iter().map(|entry| entry.parse());
        DeviceIds::new(ranges.collect::<Result<_, _>>()?)
    }

    fn refusal(entries: &[&str]) -> String {
        list(entries).unwrap_err().to_string()
    }

    fn holds(list: &DeviceIds, device_id: &str) -> bool {
        list.contains(&device_id.parse().unwrap())
    }

    #[test]
    fn a_list_is_put_in_order_and_what_touches_becomes_one() {
        let made = list(&[
            "TH-03",
            "TH-10..TH-19",
            "TH-01",
            "TH-02",
            "TH-20..TH-29",
            "A",
        ])
        .unwrap();
        assert_eq!(made.to_string(), "A, TH-01..TH-03, TH-10..TH-29");
        assert_eq!(made.devices(), 24);
        let read = DeviceIds::from_value(made.to_value()).unwrap();
        assert_eq!(read, made);
    }

    #[test]
    fn a_range_holds_what_it_counts_and_nothing_that_merely_sorts_between() {
        let made = list(&["TH-100..TH-199"]).unwrap();
        for inside in ["TH-100", "TH-150", "TH-199"] {
            assert!(holds(&made, inside), "{inside}");
        }
        for outside in [
            "TH-099", "TH-200", "TH-15A", "TH-1500", "TH-15", "TH-0150", "TH-", "150", "th-150",
            "TH-1-5",
        ] {
            assert!(!holds(&made, outside), "{outside}");
        }
    }

    #[test]
    fn a_number_of_other_length_does_not_touch() {
        assert_eq!(list(&["A9", "A10"]).unwrap().to_string(), "A9, A10");
        assert_eq!(list(&["A09", "A10"]).unwrap().to_string(), "A09..A10");
        assert_eq!(list(&["A-99", "B-00"]).unwrap().to_string(), "A-99, B-00");
        let long = "7".repeat(25) + &"9".repeat(38);
        let next = "7".repeat(24) + "8" + &"0".repeat(38);
        assert_eq!(list(&[&long, &next]).unwrap().ranges().len(), 2);
    }

    #[test]
    fn what_is_no_range_is_refused_in_words() {
        for (entries, expected) in [
            (&["A-1..B-2"][..], "the same but for the digits"),
            (&["A-1..A-10"], "equally many digits"),
            (&["A-2..A-1"], "the first is above the last"),
            (&["A..A"], "listed twice"),
            (&["A-00000001..A-10000001"], "10000001 device identifiers"),
            (&["A-1..A-5", "A-5"], "A-5 is listed twice"),
            (&["A-1", "A-1"], "A-1 is listed twice"),
            (&["A-1..A-9", "A-2..A-3"], "A-2 is listed twice"),
            (&[], "no device identifier is listed"),
            (&["A_1"], "device"),
            (&["A-1.."], "device"),
        ] {
            if entries == ["A..A"] {
                // One without digits is a range of itself.
                assert_eq!(list(entries).unwrap().devices(), 1);
                continue;
            }
            let found = refusal(entries);
            assert!(found.contains(expected), "{entries:?}: {found}");
        }
        assert!(list(&["A-00000001..A-10000000"]).is_ok());
        let many: Vec<String> = (0..=DEVICE_ID_RANGES_MAX)
            .map(|n| format!("A{:06}", 2 * n))
            .collect();
        let many: Vec<&str> = many.iter().map(String::as_str).collect();
        assert!(refusal(&many).contains("at most 8192 fit"));
        assert!(list(&many[1..]).is_ok());
    }

    #[test]
    fn what_is_not_in_its_one_form_is_not_read() {
        let value = |ranges: &[&[&str]]| {
            let range =
                |ends: &&[&str]| Value::Array(ends.iter().map(|end| Value::from(*end)).collect());
            DeviceIds::from_value(Value::Array(ranges.iter().map(range).collect()))
        };
        assert!(value(&[&["A1"], &["A3", "A5"]]).is_ok());
        for ranges in [
            &[&["A3", "A5"][..], &["A1"]][..],
            &[&["A1"], &["A2"]],
            &[&["A1", "A2"], &["A3"]],
            &[&["A1", "A3"], &["A3", "A5"]],
            &[&["A1", "A1"]],
            &[&["A2", "A1"]],
            &[&["A1", "B2"]],
            &[&["A1", "A2", "A3"]],
            &[&[]],
            &[],
            &[&["A_1"]],
        ] {
            assert!(value(ranges).is_err(), "{ranges:?}");
        }
        assert!(DeviceIds::from_value(Value::from("A1")).is_err());
        assert!(DeviceIds::from_value(Value::Array(vec![Value::from("A1")])).is_err());
    }

    #[test]
    fn a_list_is_read_up_to_its_ceiling() {
        let many = |count: usize| {
            let range = |n: usize| Value::Array(vec![Value::from(format!("A{:06}", 2 * n))]);
            DeviceIds::from_value(Value::Array((0..count).map(range).collect()))
        };
        let ranges = many(DEVICE_ID_RANGES_MAX).map(|list| list.ranges().len());
        assert_eq!(ranges.ok(), Some(DEVICE_ID_RANGES_MAX));
        assert!(many(DEVICE_ID_RANGES_MAX + 1).is_err());
    }

    #[test]
    fn a_range_names_its_devices() {
        let range: DeviceIdRange = "A-098..A-101".parse().unwrap();
        let all: Vec<String> = (0..5)
            .filter_map(|at| range.device(at))
            .map(|id| id.to_string())
            .collect();
        assert_eq!(all, ["A-098", "A-099", "A-100", "A-101"]);
        let one: DeviceIdRange = "GATE".parse().unwrap();
        assert_eq!(one.device(0).unwrap().as_str(), "GATE");
        assert_eq!(one.device(1), None);
    }

    proptest! {
        #[test]
        fn what_a_list_has_and_another_has_not_is_what_the_sets_say(
            one in proptest::collection::btree_set(0_u32..80, 1..40),
            other in proptest::collection::btree_set(0_u32..80, 1..40),
        ) {
            let name = |n: &u32| format!("{}{:02}", ["A", "B"][(n / 50) as usize], n % 50);
            let of = |set: &BTreeSet<u32>| {
                DeviceIds::new(set.iter().map(|n| name(n).parse().unwrap()).collect()).unwrap()
            };
            let expected: BTreeSet<u32> = one.difference(&other).copied().collect();
            let found = of(&one).without(&of(&other));
            prop_assert_eq!(found, (!expected.is_empty()).then(|| of(&expected)));
        }

        #[test]
        fn a_list_holds_what_a_set_of_its_devices_holds(
            ranges in proptest::collection::vec((0_u32..3, 0_u32..60, 0_u32..6), 1..12),
            asked in proptest::collection::vec((0_u32..3, 0_u32..70), 1..60),
        ) {
            let name = |head: u32, n: u32| {
                let head = ["A", "A-", "7X"][head as usize];
                format!("{head}{n:03}")
            };
            let entries: Vec<String> = ranges
                .iter()
                .map(|(head, from, more)| format!("{}..{}", name(*head, *from), name(*head, from + more)))
                .collect();
            let mut set = BTreeSet::new();
            let mut twice = false;
            for (head, from, more) in &ranges {
                for n in *from..=from + more {
                    twice |= !set.insert(name(*head, n));
                }
            }
            let entries: Vec<&str> = entries.iter().map(String::as_str).collect();
            match list(&entries) {
                Err(_) => prop_assert!(twice),
                Ok(list) => {
                    prop_assert!(!twice);
                    prop_assert_eq!(list.devices(), set.len() as u128);
                    for (head, n) in asked {
                        let asked = name(head, n);
                        prop_assert_eq!(holds(&list, &asked), set.contains(&asked));
                    }
                    prop_assert_eq!(&DeviceIds::from_value(list.to_value()).unwrap(), &list);
                }
            }
        }
    }
}
