//! The index: a view of the log, never the record.
//!
//! It says where in the log the records of a device, of a public key, or around a sequence number
//! are. What it says is a place to look: the record there counts. It is written after the log, so
//! it can be behind and never ahead, and it can be made again from the log at any time. The head
//! that it was written up to is stored with every batch.
//!
//! | key | value |
//! |---|---|
//! | `d`, SKU, 0x00, device identifier | positions of the records about this device |
//! | `k`, first 8 bytes of the SHA-256 of the SubjectPublicKeyInfo | positions of the records about such a key |
//! | `p`, sequence number (8 bytes, big-endian), a multiple of [`SEQUENCES_PER_POSITION`] | position of that record |
//!
//! Positions are 8 bytes each, big-endian, in the order they were added. Keys of public keys are
//! cut to 8 bytes because random keys are dear in size and time; a stranger among the positions is
//! told apart by its record.
//!
//! A ledger in files writes its index seldom: [`GatheredIndex`] holds back what many groups of the
//! log change, and is read in the place of what it holds back.

mod bucket;
mod caught;
mod forgotten;
#[cfg(feature = "fuzzing")]
pub mod fuzzing;
mod gathered;
mod layout;
mod left;
#[cfg(any(test, feature = "testing"))]
mod memory;
mod runs;
mod sled;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;

use crate::StorageError;
use crate::log::{Head, Position};

pub use self::caught::panics_are_caught;
pub use self::gathered::GatheredIndex;
#[cfg(any(test, feature = "testing"))]
pub use self::memory::MemoryIndex;
pub use self::sled::SledIndex;
#[cfg(test)]
pub(crate) use self::sled::lose;

/// One record in this many has its position in the index; those between are found by scanning
/// the log from it.
pub const SEQUENCES_PER_POSITION: u64 = 256;

/// Keys and their values, in the order of the keys.
pub type Entries<'a> = Box<dyn Iterator<Item = Result<(Vec<u8>, Vec<u8>), StorageError>> + 'a>;

/// An ordered map that remembers which head of the log it was written up to.
pub trait IndexStore: Send {
    /// The head of the log as of the last [`Self::write`]; `None` when there was none.
    fn head(&self) -> Option<Head>;

    /// The value of a key.
    ///
    /// # Errors
    /// [`StorageError::IndexBroken`] when the index cannot be read and must be rebuilt.
    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, StorageError>;

    /// All entries whose key begins with `prefix`, in the order of the keys. After an error the
    /// iterator ends.
    ///
    /// # Errors
    /// As [`Self::get`].
    fn scan_prefix(&self, prefix: &[u8]) -> Result<Entries<'_>, StorageError>;

    /// Makes the changes of a batch and moves the head, all or nothing. Not durable until
    /// [`Self::flush`]: what is lost is made again from the log.
    ///
    /// `head` must be durable in the log already.
    ///
    /// # Errors
    /// [`StorageError::DiskFull`]; [`StorageError::IndexBroken`].
    fn write(&mut self, batch: Batch, head: Head) -> Result<(), StorageError>;

    /// Makes everything written durable.
    ///
    /// # Errors
    /// As [`Self::write`].
    fn flush(&mut self) -> Result<(), StorageError>;

    /// Takes note that the index was found to contradict the log: it is not used any more, and made again when it is
    /// opened the next time.
    fn distrust(&self) {}

    /// Says so where the index has come to a standstill, which only another process gets out of.
    fn silence(&self) -> Option<StorageError> {
        None
    }

    /// The positions of the records about a device, in the order they were added.
    ///
    /// # Errors
    /// As [`Self::get`].
    fn device(&self, sku: &str, device_id: &str) -> Result<Vec<Position>, StorageError> {
        positions(self.get(&device_key(sku, device_id))?)
    }

    /// The positions of the records about a public key with this SHA-256 of its
    /// SubjectPublicKeyInfo, and perhaps about others: the caller checks each record.
    ///
    /// # Errors
    /// As [`Self::get`].
    fn public_key(&self, spki_sha256: &[u8; 32]) -> Result<Vec<Position>, StorageError> {
        positions(self.get(&public_key_key(spki_sha256))?)
    }

    /// The last record at or before this one whose position the index holds, as its sequence
    /// number and position: the place to scan from. The beginning of the log, at the latest.
    ///
    /// # Errors
    /// As [`Self::get`].
    fn position_at_or_before(&self, sequence: u64) -> Result<(u64, Position), StorageError> {
        let mut at = sequence - sequence % SEQUENCES_PER_POSITION;
        // The record itself may be beyond the head, then a few steps back are not.
        if let Some(head) = self.head() {
            let last = head.size.saturating_sub(1);
            at = at.min(last - last % SEQUENCES_PER_POSITION);
        }
        if at == 0 {
            return Ok((0, Position::START));
        }
        let found = positions(self.get(&sequence_key(at))?)?;
        Ok(match found.first() {
            Some(position) => (at, *position),
            None => (0, Position::START),
        })
    }
}

/// Changes to an index that are made together.
///
/// Until it is written it can also be read through, so that what was just decided is seen.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Batch {
    changes: BTreeMap<Vec<u8>, Option<Vec<u8>>>,
}

impl Batch {
    /// No changes.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Whether there are no changes.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.changes.is_empty()
    }

    /// The number of keys that change.
    #[must_use]
    pub fn len(&self) -> usize {
        self.changes.len()
    }

    /// Sets a key. Keys that begin with a zero byte belong to the store.
    pub fn put(&mut self, key: Vec<u8>, value: Vec<u8>) {
        self.changes.insert(key, Some(value));
    }

    /// Removes a key.
    pub fn remove(&mut self, key: Vec<u8>) {
        self.changes.insert(key, None);
    }

    /// The value that a key has once this batch is written to `store`.
    ///
    /// # Errors
    /// As [`IndexStore::get`].
    pub fn read(
        &self,
        store: &dyn IndexStore,
        key: &[u8],
    ) -> Result<Option<Vec<u8>>, StorageError> {
        match self.changes.get(key) {
            Some(change) => Ok(change.clone()),
            None => store.get(key),
        }
    }

    /// [`IndexStore::device`] as it is once this batch is written to `store`.
    ///
    /// # Errors
    /// As [`IndexStore::get`].
    pub fn device(
        &self,
        store: &dyn IndexStore,
        sku: &str,
        device_id: &str,
    ) -> Result<Vec<Position>, StorageError> {
        positions(self.read(store, &device_key(sku, device_id))?)
    }

    /// [`IndexStore::public_key`] as it is once this batch is written to `store`.
    ///
    /// # Errors
    /// As [`IndexStore::get`].
    pub fn public_key(
        &self,
        store: &dyn IndexStore,
        spki_sha256: &[u8; 32],
    ) -> Result<Vec<Position>, StorageError> {
        positions(self.read(store, &public_key_key(spki_sha256))?)
    }

    /// Adds a record about a device.
    ///
    /// # Errors
    /// As [`IndexStore::get`].
    pub fn add_device(
        &mut self,
        store: &dyn IndexStore,
        sku: &str,
        device_id: &str,
        at: Position,
    ) -> Result<(), StorageError> {
        self.add(store, device_key(sku, device_id), at)
    }

    /// Adds a record about a public key.
    ///
    /// # Errors
    /// As [`IndexStore::get`].
    pub fn add_public_key(
        &mut self,
        store: &dyn IndexStore,
        spki_sha256: &[u8; 32],
        at: Position,
    ) -> Result<(), StorageError> {
        self.add(store, public_key_key(spki_sha256), at)
    }

    /// Notes where a record is, if it is one of those that are noted. To be called for every
    /// record of the log.
    pub fn add_sequence(&mut self, sequence: u64, at: Position) {
        if sequence.is_multiple_of(SEQUENCES_PER_POSITION) {
            self.put(sequence_key(sequence), at.to_u64().to_be_bytes().to_vec());
        }
    }

    /// Adds a position to the list under `key`; one that is last in it already is not added again,
    /// so that records can be indexed a second time.
    fn add(
        &mut self,
        store: &dyn IndexStore,
        key: Vec<u8>,
        at: Position,
    ) -> Result<(), StorageError> {
        let mut list = self.read(store, &key)?.unwrap_or_default();
        let at = at.to_u64().to_be_bytes();
        if !list.ends_with(&at) {
            list.extend_from_slice(&at);
            self.put(key, list);
        }
        Ok(())
    }
}

/// The key of a device.
fn device_key(sku: &str, device_id: &str) -> Vec<u8> {
    let mut key = Vec::with_capacity(2 + sku.len() + device_id.len());
    key.push(b'd');
    key.extend_from_slice(sku.as_bytes());
    key.push(0);
    key.extend_from_slice(device_id.as_bytes());
    key
}

/// The key of a public key.
fn public_key_key(spki_sha256: &[u8; 32]) -> Vec<u8> {
    let mut key = vec![b'k'];
    key.extend_from_slice(&spki_sha256[..8]);
    key
}

/// The key of the position of a record.
fn sequence_key(sequence: u64) -> Vec<u8> {
    let mut key = vec![b'p'];
    key.extend_from_slice(&sequence.to_be_bytes());
    key
}

/// Reads a list of positions.
fn positions(value: Option<Vec<u8>>) -> Result<Vec<Position>, StorageError> {
    let value = value.unwrap_or_default();
    let (list, rest) = value.as_chunks();
    if !rest.is_empty() {
        return Err(StorageError::IndexBroken {
            path: None,
            reason: "a list of positions has an impossible length".to_owned(),
        });
    }
    Ok(list
        .iter()
        .map(|at| Position::from_u64(u64::from_be_bytes(*at)))
        .collect())
}
