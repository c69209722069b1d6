//! Pruning in the model: exactly what headquarters holds and is old enough goes, whole groups of it; and the log adds up to
//! what it did.

use crate::entry::LogSequence;
use crate::ledger::Prunable;

use super::rules::RETENTION_DAYS;
use super::{DAY, Fate, Vault};

impl Vault {
    /// Everything so far is reported, acknowledged, and old enough.
    pub(super) fn retire(&mut self) {
        self.commit(Fate::Done);
        self.seal();
        self.commit(Fate::Done);
        self.acknowledge_at(self.live.bundles.len() - 1);
        self.commit(Fate::Done);
        self.now += (RETENTION_DAYS + 1) * DAY;
    }

    /// What may go, by the rules' words: from the first record that did not, those that headquarters acknowledged, up to the
    /// first that is too young, and no part of a group.
    fn prunable(&self) -> Option<Prunable> {
        let (first, held) = (self.pruned, self.live.acknowledged_size);
        let until = self.live.time(self.now).checked_sub(RETENTION_DAYS * DAY)?;
        let times = self.live.times.iter().zip(0..held.min(self.durable.size));
        let old = times.skip(first as usize);
        let old = old.take_while(|(time, _)| **time <= until).count() as u64;
        let mut groups = self.groups.iter().rev();
        let end = *groups.find(|end| **end <= first + old)?;
        (end > first).then(|| Prunable {
            first,
            end,
            newest: self.live.times[end as usize - 1],
        })
    }

    pub(super) fn prune(&mut self) {
        self.commit(Fate::Done);
        self.ready();
        let now = self.now;
        if self.disk.is_memory() {
            assert_eq!(self.ledger().prune(now, u64::MAX).unwrap(), None);
            return self.settle();
        }
        // What the engine puts on record before it begins.
        self.settle();
        let expected = self.prunable();
        let ledger = self.ledger.as_ref().unwrap();
        let whole: Vec<Vec<u8>> = ledger
            .reader(LogSequence(self.held.len() as u64))
            .unwrap()
            .filter_map(|record| Some(record.unwrap().whole()?.to_vec()))
            .collect();
        let pruned = self.ledger().prune(now, u64::MAX).unwrap();
        assert_eq!(pruned, expected);
        let Some(pruned) = pruned else { return };
        let gone = (pruned.end as usize - self.held.len()).min(whole.len());
        self.held.extend_from_slice(&whole[..gone]);
        assert_eq!(self.held.len() as u64, pruned.end);
        let records = pruned.first..pruned.end;
        for issue in &self.live.issues {
            // What is not signed for yet stays whole; once it is, the signature goes like any other.
            let over = issue.signed || issue.replaced;
            let reserved = over && records.contains(&issue.reservation);
            if reserved || issue.signed && records.contains(&issue.signed_at) {
                self.gone.insert(issue.reservation);
            }
        }
        self.pruned = pruned.end;
        self.live.entry(now);
        self.settle();
        self.release();
        self.expect_log();
    }

    /// Every record as headquarters holds it: those that were pruned as they were before, the others as they are.
    pub(super) fn whole_records(&self) -> Vec<Vec<u8>> {
        let ledger = self.ledger.as_ref().unwrap();
        let rest = ledger.reader(LogSequence(self.held.len() as u64)).unwrap();
        let rest = rest.map(|record| record.unwrap().whole().unwrap().to_vec());
        self.held.iter().cloned().chain(rest).collect()
    }
}
