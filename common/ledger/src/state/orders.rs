//! What officers ended or corrected at this vault, and how far their numbered orders were followed.

use std::collections::BTreeMap;

use mintmark_protocol::identifier::Fingerprint;

use crate::entry::LogSequence;

/// What officers ended, and when that reached the vault.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Revoked {
    /// The record by which it took effect.
    pub at: LogSequence,
    /// The time of that record, Unix seconds.
    pub time: u64,
    /// The number of the revocation, counted per vault from 1.
    pub number: u64,
    /// Why, as officers wrote it.
    pub reason: String,
}

/// Orders of one kind, which count from 1 at each vault: number to fingerprint of the signed object.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Orders(pub(super) BTreeMap<u64, Fingerprint>);

/// What the number of an order says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Place {
    /// It is the next.
    Next,
    /// It is one that was followed before.
    Again,
    /// It is neither.
    Else,
}

impl Orders {
    /// The number of the newest; 0: none.
    pub(crate) fn last(&self) -> u64 {
        self.0.last_key_value().map_or(0, |(number, _)| *number)
    }

    /// The number that comes next.
    pub(crate) fn next(&self) -> u64 {
        self.last().saturating_add(1)
    }

    pub(crate) fn place(&self, number: u64, fingerprint: Fingerprint) -> Place {
        if self.0.get(&number) == Some(&fingerprint) {
            Place::Again
        } else if number == self.next() {
            Place::Next
        } else {
            Place::Else
        }
    }

    /// Notes an order that takes effect; false if it did so before.
    pub(crate) fn follow(&mut self, number: u64, fingerprint: Fingerprint) -> bool {
        self.0.insert(number, fingerprint) != Some(fingerprint)
    }
}
