//! Which device identifiers a pattern matches: an example of them, and how many there may be. It is for the people who
//! review a policy; no decision is made of it.

use std::collections::BTreeSet;

use mintmark_protocol::identifier::{DEVICE_ID_BYTES_MAX, DeviceId};
use regex_automata::nfa::thompson::{NFA, State};
use regex_automata::util::primitives::StateID;

/// What can be said about all the device identifiers that match a pattern.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Language {
    /// A shortest one of them, of digits and letters where it may be; none if the pattern matches no device identifier at all.
    pub example: Option<DeviceId>,
    /// No more than this many match. Exact where each of them matches in one way only, as with `TH200-[0-9]{8}`;
    /// `u128::MAX` stands for that many or more.
    pub size_max: u128,
}

impl Language {
    /// The language of an automaton whose only look-around is the end of the text.
    pub(super) fn of(nfa: &NFA) -> Self {
        Paths::of(nfa).language()
    }
}

/// The bytes from `start` to `end` lead on to the place `next`.
struct Step {
    start: u8,
    end: u8,
    /// How many of those bytes a device identifier may hold.
    bytes: u128,
    next: usize,
}

/// What can follow in one state of the automaton, its empty moves made.
#[derive(Default)]
struct Place {
    /// Whether the identifier may end here.
    ends: bool,
    steps: Vec<Step>,
}

/// The automaton without its empty moves, over the alphabet of device identifiers.
pub(super) struct Paths {
    /// One for each state of the automaton.
    places: Vec<Place>,
    start: usize,
    /// The bytes that a device identifier may hold: digits and letters first, as an example looks best.
    alphabet: Vec<u8>,
}

impl Paths {
    pub(super) fn of(nfa: &NFA) -> Self {
        let is_allowed = |byte: &u8| char::from(*byte).to_string().parse::<DeviceId>().is_ok();
        let mut alphabet: Vec<u8> = (0..=u8::MAX).filter(is_allowed).collect();
        alphabet.sort_by_key(|byte| (!byte.is_ascii_alphanumeric(), *byte));
        Self {
            places: (0..nfa.states().len())
                .map(|state| place(nfa, state, &alphabet))
                .collect(),
            start: nfa.start_anchored().as_usize(),
            alphabet,
        }
    }

    /// Where every text begins.
    pub(super) fn start(&self) -> usize {
        self.start
    }

    /// Where one more byte leads to.
    pub(super) fn step(&self, places: &BTreeSet<usize>, byte: u8) -> BTreeSet<usize> {
        let places = places.iter().filter_map(|place| self.places.get(*place));
        let steps = places.flat_map(|place| &place.steps);
        steps
            .filter(|step| (step.start..=step.end).contains(&byte))
            .map(|step| step.next)
            .collect()
    }

    /// Whether a text may end in one of these places.
    pub(super) fn ends(&self, places: &BTreeSet<usize>) -> bool {
        let mut places = places.iter().filter_map(|place| self.places.get(*place));
        places.any(|place| place.ends)
    }

    /// For each length of rest, for each place: in how many ways a rest of that length leads from there to the end.
    fn ways(&self) -> Vec<Vec<u128>> {
        let ends = self.places.iter().map(|place| u128::from(place.ends));
        let mut ways: Vec<Vec<u128>> = vec![ends.collect()];
        for length in 1..=DEVICE_ID_BYTES_MAX {
            let Some(shorter) = ways.get(length - 1) else {
                break;
            };
            let lead = |step: &Step| {
                let rest = shorter.get(step.next).copied().unwrap_or_default();
                rest.saturating_mul(step.bytes)
            };
            let from = |place: &Place| place.steps.iter().map(lead).fold(0, u128::saturating_add);
            ways.push(self.places.iter().map(from).collect());
        }
        ways
    }

    fn language(&self) -> Language {
        let ways = self.ways();
        let lead = |length: usize, place: usize| {
            ways.get(length)
                .and_then(|ways| ways.get(place))
                .copied()
                .unwrap_or_default()
        };
        let lengths = 1..=DEVICE_ID_BYTES_MAX;
        let sizes = lengths.clone().map(|length| lead(length, self.start));
        let size_max = sizes.fold(0, u128::saturating_add);
        let shortest = lengths.clone().find(|length| lead(*length, self.start) > 0);
        let example = shortest.and_then(|length| {
            let mut at = self.start;
            let mut text = String::with_capacity(length);
            for rest in (0..length).rev() {
                let steps = &self.places.get(at)?.steps;
                let (byte, next) = self.alphabet.iter().find_map(|byte| {
                    let leads =
                        |s: &&Step| (s.start..=s.end).contains(byte) && lead(rest, s.next) > 0;
                    steps.iter().find(leads).map(|step| (*byte, step.next))
                })?;
                text.push(char::from(byte));
                at = next;
            }
            text.parse().ok()
        });
        Language { example, size_max }
    }
}

fn place(nfa: &NFA, state: usize, alphabet: &[u8]) -> Place {
    let mut place = Place::default();
    let mut seen = vec![false; nfa.states().len()];
    let mut open: Vec<StateID> = StateID::new(state).into_iter().collect();
    while let Some(id) = open.pop() {
        match seen.get_mut(id.as_usize()) {
            Some(seen) if !*seen => *seen = true,
            _ => continue,
        }
        let mut step = |start, end, next: StateID| {
            let bytes = alphabet
                .iter()
                .filter(|byte| (start..=end).contains(*byte))
                .count();
            if bytes > 0 {
                let next = next.as_usize();
                place.steps.push(Step {
                    start,
                    end,
                    bytes: bytes as u128,
                    next,
                });
            }
        };
        match nfa.state(id) {
            State::ByteRange { trans } => step(trans.start, trans.end, trans.next),
            State::Sparse(sparse) => {
                for trans in &sparse.transitions {
                    step(trans.start, trans.end, trans.next);
                }
            }
            State::Dense(dense) => {
                for (byte, next) in (0..=u8::MAX).zip(&dense.transitions) {
                    if *next != StateID::ZERO {
                        step(byte, byte, *next);
                    }
                }
            }
            // The only look-around left is the end of the text, and nothing but the match follows it.
            State::Look { next, .. } | State::Capture { next, .. } => open.push(*next),
            State::Union { alternates } => open.extend(alternates.iter()),
            State::BinaryUnion { alt1, alt2 } => open.extend([*alt1, *alt2]),
            State::Match { .. } => place.ends = true,
            State::Fail => {}
        }
    }
    place
}

#[cfg(test)]
mod tests {
    use super::super::DeviceIdPattern;
    use super::*;

    fn language(text: &str) -> Language {
        text.parse::<DeviceIdPattern>().unwrap().language()
    }

    #[test]
    fn the_language_of_a_pattern_is_counted() {
        let th200 = language("TH200-[0-9]{8}");
        assert_eq!(th200.size_max, 100_000_000);
        assert_eq!(th200.example.unwrap().as_str(), "TH200-00000000");
        assert_eq!(language("a?b|c{2,3}").size_max, 4);
        assert_eq!(language("[a-z0-9-]{2}").example.unwrap().as_str(), "00");
        assert_eq!(language("[(-]").example.unwrap().as_str(), "(");
        assert_eq!(language("x*").size_max, 64);
        assert_eq!(language("x*").example.unwrap().as_str(), "x");
        assert_eq!(
            language("[A-Za-z0-9-]{1,64}").size_max,
            (1..=64).fold(0_u128, |sum, n| {
                sum.saturating_add(63_u128.saturating_pow(n))
            })
        );
    }

    #[test]
    fn a_pattern_that_no_device_identifier_can_match_is_known() {
        for text in ["#[0-9]", "a{65}", r"[a&&b]", r"\xff", "()", "a_b"] {
            let language = language(text);
            assert_eq!(
                language,
                Language {
                    example: None,
                    size_max: 0
                },
                "{text}"
            );
        }
    }
}
