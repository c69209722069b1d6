//! The symmetric keys that entitlements bring: which are in the token, and how often each was used.

use std::collections::{BTreeMap, BTreeSet};

use mintmark_protocol::identifier::{EntitlementId, KeyLabel, Sku};
use mintmark_protocol::key_terms::KeyTerms;

use super::{Granted, State};
use crate::entry::{KeyOutcome, KeyReceipt, LogSequence};

/// A key that came into the token, or did not. Entitlements that name one label share the key, and the check value tells
/// which key it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Received {
    pub(crate) check_value: [u8; 32],
    pub(crate) outcome: KeyOutcome,
    /// The record that says so.
    pub(crate) at: LogSequence,
}

/// Keys by label, and their uses by entitlement and label.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Keys {
    pub(crate) received: BTreeMap<KeyLabel, Received>,
    pub(crate) uses: BTreeMap<(EntitlementId, KeyLabel), u64>,
    /// The products whose devices have secrets from the key of a label, whichever entitlement they were made under.
    pub(crate) products: BTreeSet<(KeyLabel, Sku)>,
}

impl Keys {
    /// Notes what became of a key with these terms. That a key could not be taken once more says nothing of the one that
    /// is there.
    pub(crate) fn receive(&mut self, terms: &KeyTerms, receipt: &KeyReceipt, at: LogSequence) {
        let refused = matches!(receipt.outcome, KeyOutcome::Refused { .. });
        if refused && self.holds(terms) {
            return;
        }
        let received = Received {
            check_value: terms.check_value,
            outcome: receipt.outcome.clone(),
            at,
        };
        self.received.insert(receipt.label.clone(), received);
    }

    /// What became of the key with these terms; none if nothing was tried yet.
    fn outcome(&self, terms: &KeyTerms) -> Option<&Received> {
        let received = self.received.get(&terms.label)?;
        (received.check_value == terms.check_value).then_some(received)
    }

    /// Whether the token holds the key with these terms.
    pub(crate) fn holds(&self, terms: &KeyTerms) -> bool {
        self.outcome(terms)
            .is_some_and(|received| !matches!(received.outcome, KeyOutcome::Refused { .. }))
    }

    pub(crate) fn uses(&self, entitlement: &EntitlementId, label: &KeyLabel) -> u64 {
        let key = (entitlement.clone(), label.clone());
        self.uses.get(&key).copied().unwrap_or(0)
    }

    /// The products whose devices have secrets from the key of this label.
    pub(crate) fn products(&self, label: &KeyLabel) -> impl Iterator<Item = &Sku> {
        let products = self.products.iter();
        products
            .filter(move |(of, _)| of == label)
            .map(|(_, sku)| sku)
    }

    pub(crate) fn count(&mut self, entitlement: &EntitlementId, label: &KeyLabel) {
        self.count_many(entitlement, label, 1);
    }

    pub(crate) fn count_many(&mut self, entitlement: &EntitlementId, label: &KeyLabel, count: u64) {
        let uses = self
            .uses
            .entry((entitlement.clone(), label.clone()))
            .or_default();
        *uses = uses.saturating_add(count);
    }
}

/// One key of one entitlement.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KeyState<'a> {
    /// The entitlement that brings it.
    pub entitlement: &'a EntitlementId,
    /// Its terms: label, algorithm, use, limits, and the delivery to the vault.
    pub terms: &'a KeyTerms,
    /// How often it was used under this entitlement.
    pub uses: u64,
    /// What became of it; none if the token was not given it yet.
    pub outcome: Option<&'a KeyOutcome>,
    /// The record that says so.
    pub at: Option<LogSequence>,
    /// Whether its entitlement is revoked.
    pub revoked: bool,
    /// From when on it is of no use here, Unix seconds: the end of its own time or of its entitlement's.
    pub until: u64,
}

impl KeyState<'_> {
    /// Whether the token holds it.
    pub fn is_received(&self) -> bool {
        matches!(
            self.outcome,
            Some(KeyOutcome::Unwrapped | KeyOutcome::Imported)
        )
    }

    /// Whether it may still be used at `time`, Unix seconds: its entitlement is not revoked, and its time is not over.
    pub fn is_in_force(&self, time: u64) -> bool {
        !self.revoked && time < self.until
    }
}

impl State {
    /// Every key of every entitlement, by entitlement and in its order.
    pub fn keys(&self) -> impl Iterator<Item = KeyState<'_>> {
        self.entitlements.values().flat_map(|granted| {
            granted
                .terms
                .keys
                .iter()
                .map(|terms| self.key(granted, terms))
        })
    }

    /// The labels of all keys that ever came into the token, also of those that no entitlement names any more.
    pub fn key_labels_received(&self) -> impl Iterator<Item = &KeyLabel> {
        let received = self.keys.received.iter();
        let taken = received.filter(|(_, it)| !matches!(it.outcome, KeyOutcome::Refused { .. }));
        taken.map(|(label, _)| label)
    }

    /// The keys that are in force at the newest time of the log and not in the token: each comes with its delivery, and
    /// says whether it may pass through memory. One that the token refused is still missing.
    pub fn keys_missing(&self) -> impl Iterator<Item = KeyState<'_>> {
        self.keys()
            .filter(|key| key.is_in_force(self.mark) && !key.is_received())
    }

    fn key<'a>(&'a self, granted: &'a Granted, terms: &'a KeyTerms) -> KeyState<'a> {
        let entitlement = &granted.terms;
        let received = self.keys.outcome(terms);
        KeyState {
            entitlement: &entitlement.id,
            terms,
            uses: self.keys.uses(&entitlement.id, &terms.label),
            outcome: received.map(|received| &received.outcome),
            at: received.map(|received| received.at),
            revoked: granted.revoked.is_some(),
            until: entitlement
                .window
                .until
                .min(terms.until.unwrap_or(u64::MAX)),
        }
    }
}
