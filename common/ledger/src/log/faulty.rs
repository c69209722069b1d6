//! A log whose appends fail on demand, for tests.

use super::prune::Shorten;
use super::pruned::PrunedFile;
use super::{Head, LogStore, Position, Record, Records};
use crate::StorageError;

/// How an append fails.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// Nothing is stored, and the store says so: the disk is full.
    DiskFull,
    /// Nothing is stored, and the outcome is unknown.
    Before,
    /// The group is stored, and the outcome is unknown: a failure that persists.
    After,
}

/// A log that fails as told.
#[derive(Debug)]
pub struct FaultyLog<L> {
    inner: L,
    fault: Option<(u64, Fault)>,
    appends: u64,
    poisoned: bool,
}

impl<L: LogStore> FaultyLog<L> {
    /// A log that does not fail yet.
    pub fn new(inner: L) -> Self {
        Self {
            inner,
            fault: None,
            appends: 0,
            poisoned: false,
        }
    }

    /// Makes the `nth` append from now on fail; 0 is the next one.
    pub fn fail_append(&mut self, nth: u64, fault: Fault) {
        self.fault = Some((self.appends.saturating_add(nth), fault));
    }

    /// The log as the next process finds it.
    pub fn into_inner(self) -> L {
        self.inner
    }

    fn check_outcome_known(&self) -> Result<(), StorageError> {
        if self.poisoned {
            return Err(StorageError::OutcomeUnknown {
                reason: "a fault was asked for".to_owned(),
            });
        }
        Ok(())
    }
}

impl<L: LogStore> LogStore for FaultyLog<L> {
    fn head(&self) -> Head {
        self.inner.head()
    }

    fn append(
        &mut self,
        expected: &Head,
        records: &[Vec<u8>],
    ) -> Result<Vec<Position>, StorageError> {
        self.check_outcome_known()?;
        let append = self.appends;
        self.appends = self.appends.saturating_add(1);
        match self.fault {
            Some((at, fault)) if at == append => {
                if fault == Fault::DiskFull {
                    return Err(StorageError::DiskFull {
                        path: "faulty".into(),
                        bytes: records.iter().map(|r| r.len() as u64).sum(),
                    });
                }
                if fault == Fault::After {
                    self.inner.append(expected, records)?;
                }
                self.poisoned = true;
                self.check_outcome_known().map(|()| Vec::new())
            }
            _ => self.inner.append(expected, records),
        }
    }

    fn read(&self, at: Position) -> Result<Record, StorageError> {
        self.check_outcome_known()?;
        self.inner.read(at)
    }

    fn scan(&self, from: Position) -> Result<Records<'_>, StorageError> {
        self.check_outcome_known()?;
        self.inner.scan(from)
    }

    fn prepare_prune(
        &mut self,
        below: u64,
        shorten: Shorten<'_>,
    ) -> Result<Vec<PrunedFile>, StorageError> {
        self.check_outcome_known()?;
        self.inner.prepare_prune(below, shorten)
    }

    fn finish_prune(&mut self) -> Result<(), StorageError> {
        self.inner.finish_prune()
    }

    fn pruned(&self) -> Result<Vec<PrunedFile>, StorageError> {
        self.inner.pruned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::log::MemoryLog;

    fn append(log: &mut FaultyLog<MemoryLog>) -> Result<Vec<Position>, StorageError> {
        let head = log.head();
        log.append(&head, &[b"record".to_vec()])
    }

    #[test]
    fn a_fault_strikes_the_append_it_was_asked_for() {
        for (fault, code, kept) in [
            (Fault::DiskFull, "DISK-FULL", 1),
            (Fault::Before, "OUTCOME-UNKNOWN", 1),
            (Fault::After, "OUTCOME-UNKNOWN", 2),
        ] {
            let mut log = FaultyLog::new(MemoryLog::new());
            log.fail_append(1, fault);
            append(&mut log).unwrap();
            assert_eq!(append(&mut log).unwrap_err().code(), code);
            if fault == Fault::DiskFull {
                append(&mut log).unwrap();
                assert_eq!(log.into_inner().head().size, kept + 1);
            } else {
                assert_eq!(append(&mut log).unwrap_err().code(), code);
                assert_eq!(log.read(Position::START).unwrap_err().code(), code);
                assert_eq!(log.scan(Position::START).err().unwrap().code(), code);
                assert_eq!(log.into_inner().head().size, kept);
            }
        }
    }
}
