//! An index that is written seldom: what many groups of the log change is gathered, and written together.
//!
//! A reservation and its signature change the same key within moments of each other, and each change costs a tree far more
//! than it costs a map. The index is a view of the log, and may be behind it: what a killed process had gathered is made
//! again from the log when the index is opened the next time. Until it is written, it is read from here.

use std::cell::RefCell;
use std::collections::HashMap;

use super::{Batch, Entries, IndexStore};
use crate::StorageError;
use crate::log::Head;

/// What the index may be behind the log while it is open, in records: some milliseconds of work when it is opened the next
/// time, or when it is written, which holds up whoever waits for an answer then.
const RECORDS_MAX: u64 = 2048;

/// How many answers of the store are remembered at most.
const REMEMBERED_MAX: usize = 4096;

/// A store, and what is to be written to it.
pub struct GatheredIndex<S> {
    store: S,
    /// Changes up to `head` that the store lacks.
    gathered: Batch,
    /// `None` while nothing is gathered.
    head: Option<Head>,
    /// What the store said since the last write: who decides asks, and who writes down what was decided asks again.
    remembered: RefCell<HashMap<Vec<u8>, Option<Vec<u8>>>>,
}

impl<S: IndexStore> GatheredIndex<S> {
    /// Nothing is gathered yet.
    pub fn new(store: S) -> Self {
        Self {
            store,
            gathered: Batch::new(),
            head: None,
            remembered: RefCell::default(),
        }
    }

    /// Writes what is gathered. If that fails it is gone, and the index is behind by all of it.
    fn write_out(&mut self) -> Result<(), StorageError> {
        let gathered = std::mem::take(&mut self.gathered);
        match self.head.take() {
            Some(head) => self.store.write(gathered, head),
            None => Ok(()),
        }
    }
}

impl<S: IndexStore> IndexStore for GatheredIndex<S> {
    fn head(&self) -> Option<Head> {
        self.head.or_else(|| self.store.head())
    }

    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, StorageError> {
        if let Some(change) = self.gathered.changes.get(key) {
            return Ok(change.clone());
        }
        let mut remembered = self.remembered.borrow_mut();
        if let Some(value) = remembered.get(key) {
            return Ok(value.clone());
        }
        let value = self.store.get(key)?;
        if remembered.len() >= REMEMBERED_MAX {
            remembered.clear();
        }
        remembered.insert(key.to_vec(), value.clone());
        Ok(value)
    }

    fn scan_prefix(&self, prefix: &[u8]) -> Result<Entries<'_>, StorageError> {
        let mut entries = Batch::new();
        for entry in self.store.scan_prefix(prefix)? {
            let (key, value) = entry?;
            entries.put(key, value);
        }
        let changes = self.gathered.changes.range(prefix.to_vec()..);
        let changes = changes.take_while(|(key, _)| key.starts_with(prefix));
        let changes = changes.map(|(key, change)| (key.clone(), change.clone()));
        entries.changes.extend(changes);
        let entries = entries.changes.into_iter();
        Ok(Box::new(
            entries.filter_map(|(key, change)| Some(Ok((key, change?)))),
        ))
    }

    fn write(&mut self, batch: Batch, head: Head) -> Result<(), StorageError> {
        self.remembered.get_mut().clear();
        self.gathered.changes.extend(batch.changes);
        self.head = Some(head);
        // One that was never written looks like one that was lost.
        let written = self.store.head().map(|written| written.size);
        match written {
            Some(written) if head.size.saturating_sub(written) < RECORDS_MAX => Ok(()),
            _ => self.write_out(),
        }
    }

    fn flush(&mut self) -> Result<(), StorageError> {
        self.write_out()?;
        self.store.flush()
    }

    fn distrust(&self) {
        self.store.distrust();
    }

    fn silence(&self) -> Option<StorageError> {
        self.store.silence()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::index::MemoryIndex;
    use crate::log::Position;

    fn head(size: u64) -> Head {
        Head {
            size,
            end: Position::from_u64(size * 100),
            ..Head::default()
        }
    }

    fn batch(changes: &[(&str, Option<&str>)]) -> Batch {
        let mut batch = Batch::new();
        for (key, value) in changes {
            let key = key.as_bytes().to_vec();
            match value {
                Some(value) => batch.put(key, value.as_bytes().to_vec()),
                None => batch.remove(key),
            }
        }
        batch
    }

    fn entries(index: &impl IndexStore, prefix: &str) -> Vec<(String, String)> {
        let text = |bytes| String::from_utf8(bytes).unwrap();
        let entries = index.scan_prefix(prefix.as_bytes()).unwrap();
        entries
            .map(|entry| entry.map(|(key, value)| (text(key), text(value))).unwrap())
            .collect()
    }

    #[test]
    fn what_is_gathered_is_read_as_if_it_were_written() {
        let mut plain = MemoryIndex::new();
        let mut gathered = GatheredIndex::new(MemoryIndex::new());
        let writes = [
            (1, batch(&[("a1", Some("x")), ("b1", Some("y"))])),
            (2, batch(&[("a2", Some("z")), ("a1", None)])),
            (RECORDS_MAX + 2, batch(&[("a3", Some("far"))])),
            (
                RECORDS_MAX + 3,
                batch(&[("a2", None), ("b1", Some("again")), ("a1", Some("back"))]),
            ),
        ];
        for (size, changes) in writes {
            for key in ["a1", "a2", "a3", "b1", "c"] {
                // Asked before, it must not be answered from memory afterwards.
                let key = key.as_bytes();
                assert_eq!(gathered.get(key).unwrap(), plain.get(key).unwrap());
            }
            plain.write(changes.clone(), head(size)).unwrap();
            gathered.write(changes, head(size)).unwrap();
            assert_eq!(gathered.head(), plain.head());
            for key in ["a1", "a2", "a3", "b1", "c"] {
                let key = key.as_bytes();
                assert_eq!(gathered.get(key).unwrap(), plain.get(key).unwrap());
            }
            for prefix in ["", "a", "b", "c"] {
                assert_eq!(entries(&gathered, prefix), entries(&plain, prefix));
            }
        }
    }

    #[test]
    fn the_store_follows_after_so_many_records_and_at_each_flush() {
        let mut gathered = GatheredIndex::new(MemoryIndex::new());
        let at = |gathered: &GatheredIndex<MemoryIndex>| gathered.store.head().map(|at| at.size);
        for (size, written) in [
            (1, Some(1)),
            (2, Some(1)),
            (RECORDS_MAX, Some(1)),
            (RECORDS_MAX + 1, Some(RECORDS_MAX + 1)),
            (RECORDS_MAX + 2, Some(RECORDS_MAX + 1)),
        ] {
            let key = size.to_string();
            gathered
                .write(batch(&[(&key, Some("x"))]), head(size))
                .unwrap();
            assert_eq!(at(&gathered), written);
        }
        gathered.flush().unwrap();
        assert_eq!(at(&gathered), Some(RECORDS_MAX + 2));
        assert_eq!(entries(&gathered.store, "").len(), 5);
    }

    /// A store that takes nothing.
    struct Full;

    impl IndexStore for Full {
        fn head(&self) -> Option<Head> {
            Some(head(7))
        }

        fn get(&self, _: &[u8]) -> Result<Option<Vec<u8>>, StorageError> {
            Ok(None)
        }

        fn scan_prefix(&self, _: &[u8]) -> Result<Entries<'_>, StorageError> {
            Ok(Box::new(std::iter::empty()))
        }

        fn write(&mut self, _: Batch, _: Head) -> Result<(), StorageError> {
            Err(StorageError::DiskFull {
                path: "index".into(),
                bytes: 1,
            })
        }

        fn flush(&mut self) -> Result<(), StorageError> {
            Ok(())
        }
    }

    #[test]
    fn what_could_not_be_written_is_not_believed_to_be_there() {
        let mut gathered = GatheredIndex::new(Full);
        gathered.write(batch(&[("a", Some("x"))]), head(8)).unwrap();
        assert!(gathered.flush().is_err());
        assert_eq!(gathered.head(), Some(head(7)));
        assert_eq!(gathered.get(b"a").unwrap(), None);
    }
}
