//! What of the log a vault may prune: what headquarters has acknowledged, after the days that officers approved.
//!
//! Pruning changes nothing that a log adds up to. It is on record so that what is kept of pruned records is bound to the
//! log, and so that headquarters sees that it was done, and when.

use super::{SECONDS_PER_DAY, State};
use crate::entry::{Pruned, PrunedRecords};

impl State {
    /// For how many days records stay whole at least: the longest that any entitlement of the vault says, those that are
    /// over included. None: for ever, because one of them says nothing of it, or there is none.
    pub fn retention_days(&self) -> Option<u64> {
        let mut days = self.entitlements.values().map(|e| e.terms.retention_days);
        let first = days.next()??;
        days.try_fold(first, |longest, days| Some(longest.max(days?)))
    }

    /// The newest time of records that may be pruned at `time`, Unix seconds; none if none may.
    pub fn prunable_until(&self, time: u64) -> Option<u64> {
        let days = self.retention_days()?;
        time.checked_sub(days.saturating_mul(SECONDS_PER_DAY))
    }

    /// The files of the log that were pruned, in order.
    pub fn pruned(&self) -> impl Iterator<Item = &PrunedRecords> {
        self.pruned.values()
    }

    /// The file that was pruned and begins with this record, as the log says.
    pub(crate) fn pruned_at(&self, first: u64) -> Option<&PrunedRecords> {
        self.pruned.get(&first)
    }

    /// Whether records may be pruned at `time`.
    pub(crate) fn prune_fits(&self, pruned: &Pruned, time: u64) -> Result<(), String> {
        let acknowledged = self.bundles.acknowledged_log_size;
        if pruned.end() > acknowledged {
            return Err(format!(
                "headquarters has acknowledged {acknowledged} records, and {} were pruned",
                pruned.end()
            ));
        }
        match self.prunable_until(time) {
            Some(until) if pruned.newest <= until => Ok(()),
            Some(until) => Err(format!(
                "records are pruned that are newer than {until}, which is the newest time that may be"
            )),
            None => Err("no entitlement lets records be pruned, or not all of them do".to_owned()),
        }
    }

    /// Takes in which files were pruned, whether they may have been or not; but none of records that the log does not have.
    /// What is noted never overlaps, so there is less of it than there are records: a prune that came to no end is done
    /// again, and then the files that it names now count, from the same records on or from others.
    pub(crate) fn note_pruned(&mut self, pruned: &Pruned) {
        let size = self.size;
        let is_of_log = |file: &&PrunedRecords| file.first < file.end && file.end <= size;
        for file in pruned.files.iter().filter(is_of_log) {
            while let Some((&first, noted)) = self.pruned.range(..file.end).next_back()
                && file.first < noted.end
            {
                self.pruned.remove(&first);
            }
            self.pruned.insert(file.first, *file);
        }
    }
}
