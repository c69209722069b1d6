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
    /// When it was drafted, Unix seconds by HQ's clock; of a vault that was disabled again, when the newest was.
    pub drafted_at: u64,
}

/// Orders of one kind: number to fingerprint of the signed object. A number names one order, whatever the order in which
/// they come: the chain of dispatches sees to it that none is left out.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Orders(pub(super) BTreeMap<u64, Fingerprint>);

/// What the number of an order says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Place {
    /// No order had it before.
    New,
    /// It is one that was followed before.
    Again,
    /// Another order had it before.
    Taken,
}

impl Orders {
    /// The number of the newest; 0: none.
    pub(crate) fn last(&self) -> u64 {
        self.0.last_key_value().map_or(0, |(number, _)| *number)
    }

    pub(crate) fn place(&self, number: u64, fingerprint: Fingerprint) -> Place {
        match self.0.get(&number) {
            None => Place::New,
            Some(known) if *known == fingerprint => Place::Again,
            Some(_) => Place::Taken,
        }
    }

    /// Notes an order that takes effect; false if it did so before.
    pub(crate) fn follow(&mut self, number: u64, fingerprint: Fingerprint) -> bool {
        self.0.insert(number, fingerprint) != Some(fingerprint)
    }
}
