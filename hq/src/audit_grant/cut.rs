//! What of the record is before the end of a period. What is before its beginning is always there: a log is replayed from its
//! first record, or not at all.

use std::collections::{BTreeMap, BTreeSet};

use mintmark_protocol::identifier::VaultName;

use super::timeline::{Event, What};
use crate::clock::DAY_SECONDS;
use crate::report::period::Day;

/// When a day is over, Unix seconds.
pub(super) fn end(day: u64) -> u64 {
    day.saturating_add(1).saturating_mul(DAY_SECONDS)
}

/// Leaves out the bundles of each vault from the first one on that begins after the last day, whatever came in after that of
/// the vault, and whatever was sent after that day and is not in what is left.
pub(super) fn events(events: Vec<Event>, to: Option<Day>) -> Vec<Event> {
    let Some(to) = to else {
        return events;
    };
    let end = end(to.0);
    let mut begins: BTreeMap<VaultName, u64> = BTreeMap::new();
    let mut over: BTreeSet<VaultName> = BTreeSet::new();
    let mut seen: BTreeMap<VaultName, (u64, u64)> = BTreeMap::new();
    let mut left = Vec::new();
    for event in events {
        match &event.what {
            What::Bundle(held) => {
                let begin = begins.get(&held.vault).copied().unwrap_or_default();
                if begin >= end {
                    over.insert(held.vault.clone());
                }
                if over.contains(&held.vault) {
                    continue;
                }
                begins.insert(held.vault.clone(), held.checkpoint_time);
                if let Some(place) = held.dispatch_seen {
                    let newest = seen.entry(held.vault.clone()).or_default();
                    *newest = place.max(*newest);
                }
            }
            // Where the next bundle begins after the last day, it is left out, and what it tells of the restore with it.
            What::Restore(restore) if begins.get(&restore.vault) >= Some(&end) => continue,
            What::Evidence { vault, .. } if over.contains(vault) => continue,
            What::Restore(_)
            | What::Evidence { .. }
            | What::Dispatch { .. }
            | What::Order { .. }
            | What::Trust(_) => {}
        }
        left.push(event);
    }
    left.retain(|event| match &event.what {
        What::Dispatch { vault, sent, .. } => {
            event.time < end || seen.get(vault) >= Some(&(sent.epoch, sent.sequence))
        }
        What::Order { .. } => event.time < end,
        _ => true,
    });
    left
}
