//! HQ's side: the log that a vault returned is decided again, record by record, and each decision must be the same.
//!
//! After a divergence the replay goes on from what the vault wrote, so that one fraud is one finding and the honest
//! records after it are none. What the state machine takes as facts, its caller checks: that a certification request
//! proves possession is checked here unless it comes in already verified, that the device CA signed is HQ's to check with
//! the key of that CA (see [`Effect::Signed`]).

mod divergence;
mod judge;
mod snapshot;
mod times;

use mintmark_pki::CertificationRequest;

pub use self::divergence::{Divergence, Severity};
pub use self::snapshot::ReplaySnapshotError;
use self::times::Times;
use crate::apply::{Effect, apply, apply_unreadable};
use crate::decide::{DecideError, Input, Lookup, Moment, RULES_VERSION, Submitted, decide_at};
use crate::entry::{Body, Entry, LogSequence, Request, Submission};
use crate::serial::SerialCipher;
use crate::state::{Reading, State};

/// A decision that the next record must hold.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Expected {
    entry: Entry,
    /// Why, if it is a refusal.
    why: Option<String>,
}

/// What must come next.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Expecting {
    /// An input.
    Input,
    /// This decision.
    Decision(Box<Expected>),
    /// Some decision: the input's facts are false, so that none is right.
    AnyDecision,
    /// An input, or a decision on a record that could not be read.
    Anything,
}

/// The replay of one vault's log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Replay {
    state: State,
    expecting: Expecting,
    times: Times,
}

/// What became of one record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Replayed {
    /// Its position.
    pub sequence: LogSequence,
    /// What it says; none if it cannot be read.
    pub entry: Option<Entry>,
    /// What it did beyond the state: what HQ's index keeps.
    pub effect: Option<Effect>,
    /// Where it departs from the rules.
    pub divergences: Vec<Divergence>,
}

impl Replay {
    /// A replay from the beginning of a log.
    pub fn new() -> Self {
        Self {
            state: State::new(),
            expecting: Expecting::Input,
            times: Times::default(),
        }
    }

    /// The state after the records so far.
    pub fn state(&self) -> &State {
        &self.state
    }

    /// Replays the next record. `lookup` must know the devices and keys of all records before it; `serials` may be absent
    /// until the vault is enrolled; `verified`, if it is the record's own certification request, spares verifying it here.
    ///
    /// # Errors
    /// [`DecideError`] if the look-up failed or the serial key is missing; nothing is changed then.
    pub fn feed(
        &mut self,
        lookup: &dyn Lookup,
        serials: Option<&SerialCipher>,
        raw: &[u8],
        verified: Option<&CertificationRequest>,
    ) -> Result<Replayed, DecideError> {
        let entry = Entry::from_cbor(raw);
        self.feed_read(lookup, serials, (raw, entry), verified)
    }

    /// The same of a record that was read already, by [`Entry::from_cbor`] of these very bytes: another thread may have done
    /// that.
    ///
    /// # Errors
    /// As [`Replay::feed`].
    pub fn feed_read(
        &mut self,
        lookup: &dyn Lookup,
        serials: Option<&SerialCipher>,
        (raw, entry): (&[u8], Result<Entry, mintmark_protocol::Error>),
        verified: Option<&CertificationRequest>,
    ) -> Result<Replayed, DecideError> {
        let sequence = LogSequence(self.state.size());
        let entry = match entry {
            Ok(entry) => entry,
            Err(error) => return Ok(self.unreadable(sequence, raw, &error)),
        };
        let mut divergences = Vec::new();
        let mut found = |code, severity, expected: String, found: String| {
            divergences.push(Divergence {
                sequence,
                code,
                severity,
                expected,
                found,
                serials: vec![],
            });
        };
        let next = if entry.body.is_decision() {
            self.decision(sequence, &entry, serials, &mut divergences);
            Expecting::Input
        } else {
            if let Expecting::Decision(_) | Expecting::AnyDecision = self.expecting {
                found(
                    "DECISION-MISSING",
                    Severity::Critical,
                    "the decision on the record before".to_owned(),
                    entry.body.kind().to_owned(),
                );
            }
            let moment = self.moment(&entry, &mut found);
            judge::input(&self.state, &self.times, &entry, &mut found);
            self.expect(lookup, serials, moment, &entry, verified, &mut found)?
        };
        self.expecting = next;
        self.times.note(sequence, entry.time);
        let effect = apply(&mut self.state, raw, &entry);
        Ok(Replayed {
            sequence,
            entry: Some(entry),
            effect,
            divergences,
        })
    }

    fn unreadable(
        &mut self,
        sequence: LogSequence,
        raw: &[u8],
        error: &mintmark_protocol::Error,
    ) -> Replayed {
        apply_unreadable(&mut self.state, raw);
        // Where a decision was due, this was one; otherwise a decision on it may follow.
        self.expecting = match self.expecting {
            Expecting::Input | Expecting::Anything => Expecting::Anything,
            Expecting::Decision(_) | Expecting::AnyDecision => Expecting::Input,
        };
        let divergence = Divergence {
            sequence,
            code: "ENTRY-MALFORMED",
            severity: Severity::Critical,
            expected: "a log entry".to_owned(),
            found: error.to_string(),
            serials: Vec::new(),
        };
        Replayed {
            sequence,
            entry: None,
            effect: None,
            divergences: vec![divergence],
        }
    }

    /// When the vault decided. Times that run backwards are a finding; what was decided at such a time is judged as of
    /// then, so that it is the only one.
    fn moment(
        &self,
        entry: &Entry,
        found: &mut dyn FnMut(&'static str, Severity, String, String),
    ) -> Moment {
        let mark = self.state.mark();
        let held = self.state.clock_stopped().is_some()
            || match &entry.body {
                // Whatever it says, it raises nothing.
                Body::Clock(_) => true,
                Body::Start(start) => {
                    let (clock, steady) = (entry.clock(), start.steady);
                    self.state.clock_off(Reading { clock, steady }).is_some()
                }
                _ => false,
            };
        let honest = match entry.clock_behind_seconds {
            _ if held => entry.time == mark,
            0 => entry.time >= mark,
            1.. => entry.time == mark,
            _ => false,
        };
        if honest {
            return Moment {
                time: entry.time,
                clock: entry.clock(),
            };
        }
        found(
            "TIME-BACK",
            Severity::Critical,
            format!("{} or later", crate::refusal::time(mark)),
            format!(
                "{}, with the clock {} seconds behind",
                crate::refusal::time(entry.time),
                entry.clock_behind_seconds
            ),
        );
        Moment {
            time: entry.time,
            clock: mark,
        }
    }

    /// Decides on an input, for the next record to be compared with.
    fn expect(
        &self,
        lookup: &dyn Lookup,
        serials: Option<&SerialCipher>,
        moment: Moment,
        entry: &Entry,
        verified: Option<&CertificationRequest>,
        found: &mut dyn FnMut(&'static str, Severity, String, String),
    ) -> Result<Expecting, DecideError> {
        let decide = |input| {
            let decision = decide_at(&self.state, lookup, serials, moment, input)?;
            Ok(Expecting::Decision(Box::new(Expected {
                why: decision.refusal().map(ToString::to_string),
                entry: Entry {
                    time: entry.time,
                    clock_behind_seconds: entry.clock_behind_seconds,
                    body: decision.to_body(),
                },
            })))
        };
        match &entry.body {
            Body::Dispatch(dispatch) => decide(Input::Dispatch(dispatch)),
            Body::Request(Request {
                product,
                station,
                submission,
            }) => {
                let parsed;
                let submission = match submission {
                    Submission::Unreadable { sha256, code } => Submitted::Unreadable {
                        sha256: *sha256,
                        code,
                    },
                    Submission::Csr { der } => match verified.filter(|csr| csr.der() == der) {
                        Some(csr) => Submitted::Verified(csr),
                        None => match CertificationRequest::from_der(der) {
                            Ok(csr) => {
                                parsed = csr;
                                Submitted::Verified(&parsed)
                            }
                            Err(error) => {
                                found(
                                    "FACT-FALSE",
                                    Severity::Critical,
                                    "a certification request with proof of possession".to_owned(),
                                    format!("{}: {error}", error.code()),
                                );
                                return Ok(Expecting::AnyDecision);
                            }
                        },
                    },
                };
                decide(Input::Request {
                    product,
                    station,
                    submission,
                })
            }
            Body::Device(order) => decide(Input::Device(order)),
            Body::ClockConfirm { .. } => decide(Input::ClockConfirm),
            Body::Station(order) => decide(Input::Station(order)),
            _ => Ok(Expecting::Input),
        }
    }

    /// Compares a decision with the one that the rules demand.
    fn decision(
        &self,
        sequence: LogSequence,
        entry: &Entry,
        serials: Option<&SerialCipher>,
        divergences: &mut Vec<Divergence>,
    ) {
        let verdict = match &self.expecting {
            Expecting::Decision(expected) => judge::decision(&self.state, serials, expected, entry),
            Expecting::Input => Some(judge::unasked(&self.state, &entry.body)),
            Expecting::AnyDecision | Expecting::Anything => judge::slot(&self.state, &entry.body),
        };
        if let Some((code, severity, expected)) = verdict {
            divergences.push(Divergence {
                sequence,
                code,
                severity,
                expected,
                found: judge::describe(&entry.body),
                serials: judge::serials(serials, &entry.body),
            });
        }
    }
}

impl Default for Replay {
    fn default() -> Self {
        Self::new()
    }
}

/// Whether logs of these rules can be replayed by this program.
pub(crate) fn knows_rules(version: u32) -> bool {
    version == RULES_VERSION
}
