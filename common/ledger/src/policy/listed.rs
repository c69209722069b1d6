//! How many identifiers of a list match a pattern: counted, not tried one by one, since a list may hold millions. It is
//! for the people who review a policy; no decision is made of it.

use std::collections::{BTreeSet, HashMap};

use mintmark_protocol::device_ids::{DeviceIdRange, DeviceIds};
use mintmark_protocol::identifier::DeviceId;
use regex_automata::nfa::thompson::NFA;

use super::language::Paths;

/// The most sets of states that are counted from: a pattern that needs more is too entangled to be counted.
const SETS_MAX: usize = 20_000;

/// How a list and a pattern go together.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Matched {
    /// How many identifiers of the list match.
    pub(super) devices: u128,
    /// The first of them that does not.
    pub(super) first_other: Option<DeviceId>,
}

/// States of the automaton that a text may lead to.
type Places = BTreeSet<usize>;

pub(super) struct Counting {
    paths: Paths,
    /// In how many ways so many digits lead from these places to an end.
    known: HashMap<(Places, usize), u128>,
}

impl Counting {
    pub(super) fn new(nfa: &NFA) -> Self {
        Self {
            paths: Paths::of(nfa),
            known: HashMap::new(),
        }
    }

    /// Counts a list; none if the pattern is too entangled for it.
    pub(super) fn matched(&mut self, listed: &DeviceIds) -> Option<Matched> {
        let mut matched = Matched {
            devices: 0,
            first_other: None,
        };
        for range in listed.ranges() {
            let devices = self.devices(range, range.devices())?;
            matched.devices = matched.devices.saturating_add(devices);
            if devices < range.devices() && matched.first_other.is_none() {
                matched.first_other = self.first_other(range)?;
            }
        }
        Some(matched)
    }

    /// The first identifier of a range that does not match, if there is one.
    fn first_other(&mut self, range: &DeviceIdRange) -> Option<Option<DeviceId>> {
        // The shortest beginning of the range that does not match as a whole ends in it.
        let (mut matching, mut other) = (0, range.devices());
        while other - matching > 1 {
            let middle = matching + (other - matching) / 2;
            if self.devices(range, middle)? == middle {
                matching = middle;
            } else {
                other = middle;
            }
        }
        Some(range.device(other.saturating_sub(1)))
    }

    /// How many of the first so many identifiers of a range match.
    fn devices(&mut self, range: &DeviceIdRange, count: u128) -> Option<u128> {
        let first = range.first().as_str();
        let Some(last) = count.checked_sub(1).and_then(|at| range.device(at)) else {
            return Some(0);
        };
        let last = last.as_str();
        let fixed = first
            .bytes()
            .zip(last.bytes())
            .take_while(|(one, other)| one == other)
            .count();
        let (head, from) = first.as_bytes().split_at_checked(fixed)?;
        let (_, to) = last.as_bytes().split_at_checked(fixed)?;
        let start = Places::from([self.paths.start()]);
        let start = head
            .iter()
            .fold(start, |places, byte| self.paths.step(&places, *byte));
        let (below, _) = self.up_to(&start, from)?;
        let (up_to, at_last) = self.up_to(&start, to)?;
        Some(
            up_to
                .saturating_sub(below)
                .saturating_add(u128::from(at_last)),
        )
    }

    /// How many texts of as many digits below this one match, and whether it does itself.
    fn up_to(&mut self, start: &Places, digits: &[u8]) -> Option<(u128, bool)> {
        let (mut places, mut below) = (start.clone(), 0_u128);
        for (at, digit) in digits.iter().enumerate() {
            for smaller in b'0'..*digit {
                let next = self.paths.step(&places, smaller);
                below = below.saturating_add(self.any(next, digits.len() - at - 1)?);
            }
            places = self.paths.step(&places, *digit);
        }
        Some((below, self.paths.ends(&places)))
    }

    /// In how many ways that many digits, whichever, lead from these places to an end.
    fn any(&mut self, places: Places, digits: usize) -> Option<u128> {
        if places.is_empty() {
            return Some(0);
        }
        if digits == 0 {
            return Some(u128::from(self.paths.ends(&places)));
        }
        let key = (places, digits);
        if let Some(known) = self.known.get(&key) {
            return Some(*known);
        }
        if self.known.len() >= SETS_MAX {
            return None;
        }
        let mut ways = 0_u128;
        for digit in b'0'..=b'9' {
            let next = self.paths.step(&key.0, digit);
            ways = ways.saturating_add(self.any(next, digits - 1)?);
        }
        self.known.insert(key, ways);
        Some(ways)
    }
}

#[cfg(test)]
mod tests {
    use super::super::DeviceIdPattern;
    use super::*;

    fn matched(pattern: &str, entries: &[&str]) -> Option<(u128, Option<String>)> {
        let pattern: DeviceIdPattern = pattern.parse().unwrap();
        let ranges = entries.iter().map(|entry| entry.parse().unwrap()).collect();
        let listed = DeviceIds::new(ranges).unwrap();
        let matched = pattern.matched(&listed)?;
        Some((
            matched.devices,
            matched.first_other.map(|other| other.to_string()),
        ))
    }

    #[test]
    fn a_list_is_counted_as_if_each_identifier_were_tried() {
        let entries = [
            "A-000..A-299",
            "A-7",
            "B-15..B-42",
            "C",
            "9",
            "D-0099..D-0101",
        ];
        for pattern in [
            "A-[0-9]{3}",
            "[AB]-[0-9]{1,3}",
            ".*",
            "A-.[13579]*",
            "(A-[01][0-9]*|B-4.|C)",
            "[0-9]*",
            "D-0(0|1)+",
            "A-(0|1|01|10)*",
            "x",
        ] {
            let compiled: DeviceIdPattern = pattern.parse().unwrap();
            let ranges: Vec<DeviceIdRange> =
                entries.iter().map(|entry| entry.parse().unwrap()).collect();
            let listed = DeviceIds::new(ranges).unwrap();
            let all = listed
                .ranges()
                .iter()
                .flat_map(|range| (0..range.devices()).filter_map(|at| range.device(at)));
            let (mut devices, mut first_other) = (0, None);
            for device_id in all {
                if compiled.matches(device_id.as_str()) {
                    devices += 1;
                } else if first_other.is_none() {
                    first_other = Some(device_id.to_string());
                }
            }
            assert_eq!(
                matched(pattern, &entries),
                Some((devices, first_other)),
                "{pattern}"
            );
        }
    }

    #[test]
    fn millions_are_counted_at_once_and_what_is_too_entangled_is_not() {
        let ten = ["T00000000..T09999999"];
        assert_eq!(matched("T[0-9]{8}", &ten), Some((10_000_000, None)));
        let none = (5_000_000, Some("T00000001".to_owned()));
        assert_eq!(matched("T[0-9]{7}[02468]", &ten), Some(none));
        let long = format!("T{}..T{}9999999", "0".repeat(38), "0".repeat(31));
        assert_eq!(
            matched("T[0-9]*1[0-9]{20}", &[&long]),
            Some((0, Some(format!("T{}", "0".repeat(38)))))
        );
    }
}
