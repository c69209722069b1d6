//! An index in memory, for tests.

use std::collections::BTreeMap;

use super::{Batch, Entries, IndexStore};
use crate::StorageError;
use crate::log::Head;

/// An index that is gone when it is dropped.
#[derive(Debug, Clone, Default)]
pub struct MemoryIndex {
    entries: BTreeMap<Vec<u8>, Vec<u8>>,
    head: Option<Head>,
}

impl MemoryIndex {
    /// An empty index.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }
}

impl IndexStore for MemoryIndex {
    fn head(&self) -> Option<Head> {
        self.head
    }

    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, StorageError> {
        Ok(self.entries.get(key).cloned())
    }

    fn scan_prefix(&self, prefix: &[u8]) -> Result<Entries<'_>, StorageError> {
        let prefix = prefix.to_vec();
        Ok(Box::new(
            self.entries
                .range(prefix.clone()..)
                .take_while(move |(key, _)| key.starts_with(&prefix))
                .map(|(key, value)| Ok((key.clone(), value.clone()))),
        ))
    }

    fn write(&mut self, batch: Batch, head: Head) -> Result<(), StorageError> {
        for (key, change) in batch.changes {
            match change {
                Some(value) => self.entries.insert(key, value),
                None => self.entries.remove(&key),
            };
        }
        self.head = Some(head);
        Ok(())
    }

    fn flush(&mut self) -> Result<(), StorageError> {
        Ok(())
    }
}
