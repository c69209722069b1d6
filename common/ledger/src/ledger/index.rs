//! How the engine uses its index: where reservations and their signatures stand, and what of a device or a key is known.
//!
//! Beside the keys that [`crate::index`] documents there is one more: `r` and the sequence number of a `Reserved` record
//! (8 bytes, big-endian); its value is the position of that record and, once there is one, position and sequence number
//! of the `Signed` record (8 bytes each).

use std::collections::HashMap;

use mintmark_protocol::entitlement::AccountTag;
use mintmark_protocol::identifier::{DeviceId, Fingerprint, Sku};

use super::Ledger;
use crate::decide::{DeviceRecord, Lookup, LookupError};
use crate::entry::{Body, Entry, LogSequence, Reserved};
use crate::error::Error;
use crate::index::{Batch, IndexStore};
use crate::log::{LogStore, Position, Record};
use crate::state::State;
use crate::storage_error::StorageError;

/// Devices and keys that are decided and not in the index yet. Looked up by key alone, so that order is of no matter.
#[derive(Default)]
pub(super) struct Overlay {
    devices: HashMap<(Sku, DeviceId), DeviceRecord>,
    keys: HashMap<Fingerprint, DeviceRecord>,
}

impl Overlay {
    pub(super) fn add(&mut self, record: DeviceRecord) {
        self.keys.insert(record.spki_sha256, record.clone());
        self.devices
            .insert((record.sku.clone(), record.device_id.clone()), record);
    }

    pub(super) fn clear(&mut self) {
        self.devices.clear();
        self.keys.clear();
    }
}

/// Where reservations stand that this process wrote to the index and saw no signature of; of others the index knows. Most
/// signatures come moments later, when the index would have to look on disk for what it wrote last.
#[derive(Default)]
pub(super) struct Underway(HashMap<LogSequence, Position>);

impl Underway {
    fn begin(&mut self, reservation: LogSequence, at: Position) {
        self.0.insert(reservation, at);
    }

    /// Where a reservation stands whose first signature this is; none where the index knows.
    fn end(&mut self, reservation: LogSequence) -> Option<Position> {
        self.0.remove(&reservation)
    }

    /// Lets go of reservations that nobody will sign for.
    pub(super) fn keep_open(&mut self, state: &State) {
        self.0
            .retain(|reservation, _| state.reservations().contains_key(reservation));
    }
}

/// Where a reservation and its signature stand.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Places {
    pub(super) reserved: Position,
    pub(super) signed: Option<(Position, LogSequence)>,
}

fn places_key(reservation: LogSequence) -> Vec<u8> {
    let mut key = vec![b'r'];
    key.extend_from_slice(&reservation.number().to_be_bytes());
    key
}

impl Places {
    fn to_bytes(self) -> Vec<u8> {
        let mut bytes = self.reserved.to_u64().to_be_bytes().to_vec();
        if let Some((position, sequence)) = self.signed {
            bytes.extend_from_slice(&position.to_u64().to_be_bytes());
            bytes.extend_from_slice(&sequence.number().to_be_bytes());
        }
        bytes
    }

    fn from_bytes(bytes: &[u8]) -> Result<Self, StorageError> {
        let (numbers, rest) = bytes.as_chunks::<8>();
        let number = |bytes: &[u8; 8]| u64::from_be_bytes(*bytes);
        let position = |bytes| Position::from_u64(number(bytes));
        match (numbers, rest) {
            ([reserved], []) => Ok(Self {
                reserved: position(reserved),
                signed: None,
            }),
            ([reserved, signed, sequence], []) => Ok(Self {
                reserved: position(reserved),
                signed: Some((position(signed), LogSequence(number(sequence)))),
            }),
            _ => Err(broken(
                "the places of a reservation have an impossible length",
            )),
        }
    }

    /// The places of a reservation; none if there is no such reservation.
    pub(super) fn find(
        index: &dyn IndexStore,
        reservation: LogSequence,
    ) -> Result<Option<Self>, StorageError> {
        index
            .get(&places_key(reservation))?
            .map(|bytes| Self::from_bytes(&bytes))
            .transpose()
    }
}

pub(super) fn broken(reason: &str) -> StorageError {
    StorageError::IndexBroken {
        path: None,
        reason: reason.to_owned(),
    }
}

/// Adds a durable record to a batch. `state` may be later than the record: accounts keep their products for ever.
pub(super) fn add(
    batch: &mut Batch,
    index: &dyn IndexStore,
    underway: &mut Underway,
    state: &State,
    sequence: LogSequence,
    position: Position,
    entry: &Entry,
) -> Result<(), Error> {
    batch.add_sequence(sequence.number(), position);
    match &entry.body {
        Body::Reserved(reserved) => {
            let Some(sku) = sku_of(state, reserved.account) else {
                return Ok(());
            };
            batch.add_device(index, sku.as_str(), reserved.device_id.as_str(), position)?;
            batch.add_public_key(index, reserved.spki_sha256.as_bytes(), position)?;
            let places = Places {
                reserved: position,
                signed: None,
            };
            batch.put(places_key(sequence), places.to_bytes());
            underway.begin(sequence, position);
        }
        Body::Signed(signed) => {
            let key = places_key(signed.reservation);
            let places = match underway.end(signed.reservation) {
                Some(reserved) => Some(Places {
                    reserved,
                    signed: None,
                }),
                None => batch
                    .read(index, &key)?
                    .map(|bytes| Places::from_bytes(&bytes))
                    .transpose()?,
            };
            if let Some(mut places) = places
                && places.signed.is_none()
            {
                places.signed = Some((position, sequence));
                batch.put(key, places.to_bytes());
            }
        }
        _ => {}
    }
    Ok(())
}

/// Makes sure that the index knows a durable record, which it was written up to.
///
/// # Errors
/// [`StorageError::IndexBroken`] if it does not.
pub(super) fn expect(
    index: &dyn IndexStore,
    state: &State,
    sequence: LogSequence,
    position: Position,
    entry: &Entry,
) -> Result<(), Error> {
    let known = match &entry.body {
        Body::Reserved(reserved) => match sku_of(state, reserved.account) {
            Some(sku) => {
                let device = index.device(sku.as_str(), reserved.device_id.as_str())?;
                let key = index.public_key(reserved.spki_sha256.as_bytes())?;
                let places = Places::find(index, sequence)?;
                device.contains(&position)
                    && key.contains(&position)
                    && places.is_some_and(|places| places.reserved == position)
            }
            None => true,
        },
        Body::Signed(signed) => {
            // Only the first signature of a reservation counts, and a reservation of no account has no places.
            let places = Places::find(index, signed.reservation)?;
            places.is_none_or(|places| places.signed.is_some_and(|(_, first)| first <= sequence))
        }
        _ => true,
    };
    if known {
        Ok(())
    } else {
        Err(broken("it does not know a record of the log").into())
    }
}

fn sku_of(state: &State, account: AccountTag) -> Option<&Sku> {
    state.account(account).map(|account| &account.sku)
}

/// A record that should be a reservation, as an entry.
pub(super) fn reserved(record: &Record) -> Result<(Entry, Reserved), Error> {
    let entry = decode(record)?;
    match &entry.body {
        Body::Reserved(reserved) => {
            let reserved = reserved.clone();
            Ok((entry, reserved))
        }
        _ => Err(broken("a position that should be a reservation's is another record's").into()),
    }
}

/// A record of the vault's own log as an entry.
pub(super) fn decode(record: &Record) -> Result<Entry, Error> {
    Entry::from_cbor(&record.bytes).map_err(|error| Error::RecordUnreadable {
        sequence: LogSequence(record.sequence),
        why: error.to_string(),
    })
}

/// What is known of devices and keys: the index says where to look, the record there counts, and what is staged lies
/// over both.
pub(super) struct VaultLookup<'a> {
    pub(super) log: &'a dyn LogStore,
    pub(super) index: &'a dyn IndexStore,
    pub(super) state: &'a State,
    pub(super) overlay: &'a Overlay,
}

impl VaultLookup<'_> {
    /// Reads the reservation at a position.
    pub(super) fn read(&self, position: Position) -> Result<(DeviceRecord, Entry), Error> {
        let record = self.log.read(position)?;
        let reservation = LogSequence(record.sequence);
        let (entry, reserved) = reserved(&record)?;
        let sku = sku_of(self.state, reserved.account)
            .ok_or_else(|| broken("a reservation is of an account that does not exist"))?;
        let signed = Places::find(self.index, reservation)?.and_then(|places| places.signed);
        let record = DeviceRecord {
            reservation,
            sku: sku.clone(),
            device_id: reserved.device_id,
            spki_sha256: reserved.spki_sha256,
            account: reserved.account,
            slot: reserved.slot,
            issue: reserved.issue,
            signed: signed.map(|(_, sequence)| sequence),
        };
        Ok((record, entry))
    }

    /// Everything that was ever reserved for a device of a product, oldest first, as far as it is durable.
    pub(super) fn history(
        &self,
        sku: &Sku,
        device_id: &DeviceId,
    ) -> Result<Vec<(DeviceRecord, Entry)>, Error> {
        let found = self.history_by_index(sku, device_id);
        self.distrusted(found)
    }

    fn history_by_index(
        &self,
        sku: &Sku,
        device_id: &DeviceId,
    ) -> Result<Vec<(DeviceRecord, Entry)>, Error> {
        let positions = self.index.device(sku.as_str(), device_id.as_str())?;
        let mut history = Vec::with_capacity(positions.len());
        for position in positions {
            let (record, entry) = self.read(position)?;
            if record.sku != *sku || record.device_id != *device_id {
                return Err(broken("a device's position is another device's record").into());
            }
            history.push((record, entry));
        }
        Ok(history)
    }

    fn key_by_index(&self, spki_sha256: &Fingerprint) -> Result<Option<DeviceRecord>, Error> {
        let positions = self.index.public_key(spki_sha256.as_bytes())?;
        // The newest first. Keys share an entry when the first bytes of their digests do.
        for position in positions.into_iter().rev() {
            let (record, _) = self.read(position)?;
            if record.spki_sha256 == *spki_sha256 {
                // A device that the index lost would be given a second unit.
                let of_device = self
                    .index
                    .device(record.sku.as_str(), record.device_id.as_str())?;
                if !of_device.contains(&position) {
                    return Err(broken("it knows a key and not the device that has it").into());
                }
                return Ok(Some(record));
            }
        }
        Ok(None)
    }

    /// Passes on what a lookup found; an index that contradicts the log is made again when it is opened the next time.
    fn distrusted<T>(&self, found: Result<T, Error>) -> Result<T, Error> {
        if let Err(Error::Storage(StorageError::IndexBroken { .. })) = &found {
            self.index.distrust();
        }
        found
    }
}

impl Lookup for VaultLookup<'_> {
    fn device(&self, sku: &Sku, device_id: &DeviceId) -> Result<Option<DeviceRecord>, LookupError> {
        if let Some(record) = self.overlay.devices.get(&(sku.clone(), device_id.clone())) {
            return Ok(Some(record.clone()));
        }
        Ok(self
            .history(sku, device_id)?
            .pop()
            .map(|(record, _)| record))
    }

    fn key(&self, spki_sha256: &Fingerprint) -> Result<Option<DeviceRecord>, LookupError> {
        if let Some(record) = self.overlay.keys.get(spki_sha256) {
            return Ok(Some(record.clone()));
        }
        let found = self.key_by_index(spki_sha256);
        Ok(self.distrusted(found)?)
    }
}

impl Ledger {
    pub(super) fn lookup(&self) -> VaultLookup<'_> {
        VaultLookup {
            log: &*self.log,
            index: &*self.index,
            state: &self.state,
            overlay: &self.overlay,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::entry::Signed;
    use crate::index::MemoryIndex;
    use crate::log::Head;

    #[test]
    fn a_signature_is_known_where_the_first_one_of_its_reservation_is() {
        let reservation = LogSequence(5);
        let known = |places: Option<Option<(u64, u64)>>| {
            let mut batch = Batch::new();
            if let Some(signed) = places {
                let signed = signed.map(|(at, n)| (Position::from_u64(at), LogSequence(n)));
                let reserved = Position::from_u64(10);
                let places = Places { reserved, signed };
                batch.put(places_key(reservation), places.to_bytes());
            }
            let mut index = MemoryIndex::new();
            index.write(batch, Head::default()).unwrap();
            let signature = [0; 64];
            let body = Body::Signed(Signed {
                reservation,
                signature,
            });
            let entry = Entry {
                time: 1,
                clock_behind_seconds: 0,
                body,
            };
            let (sequence, position) = (LogSequence(8), Position::from_u64(30));
            expect(&index, &State::new(), sequence, position, &entry).is_ok()
        };
        assert!(known(Some(Some((30, 8)))));
        assert!(known(Some(Some((20, 7)))), "this one is the second");
        assert!(known(None), "of an account that nobody granted");
        assert!(!known(Some(None)), "it was missed");
        assert!(!known(Some(Some((40, 9)))), "a later one is not the first");
    }

    /// An index that is asked for nothing.
    struct Unasked(MemoryIndex);

    impl IndexStore for Unasked {
        fn head(&self) -> Option<Head> {
            self.0.head()
        }

        fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, StorageError> {
            panic!("asked for {key:?}")
        }

        fn scan_prefix(&self, prefix: &[u8]) -> Result<crate::index::Entries<'_>, StorageError> {
            self.0.scan_prefix(prefix)
        }

        fn write(&mut self, batch: Batch, head: Head) -> Result<(), StorageError> {
            self.0.write(batch, head)
        }

        fn flush(&mut self) -> Result<(), StorageError> {
            self.0.flush()
        }
    }

    #[test]
    fn the_index_is_not_asked_where_a_reservation_stands_that_was_just_written() {
        let signed = |reservation: u64| Entry {
            time: 1,
            clock_behind_seconds: 0,
            body: Body::Signed(Signed {
                reservation: LogSequence(reservation),
                signature: [0; 64],
            }),
        };
        let state = State::new();
        let mut underway = Underway::default();
        underway.begin(LogSequence(3), Position::from_u64(30));
        underway.begin(LogSequence(4), Position::from_u64(40));
        let mut batch = Batch::new();
        add(
            &mut batch,
            &Unasked(MemoryIndex::new()),
            &mut underway,
            &state,
            LogSequence(7),
            Position::from_u64(70),
            &signed(3),
        )
        .unwrap();
        let mut index = MemoryIndex::new();
        index.write(batch, Head::default()).unwrap();
        let first = Places {
            reserved: Position::from_u64(30),
            signed: Some((Position::from_u64(70), LogSequence(7))),
        };
        assert_eq!(Places::find(&index, LogSequence(3)).unwrap(), Some(first));

        // A second one changes nothing, and of that the index is asked.
        let mut batch = Batch::new();
        let (sequence, position) = (LogSequence(8), Position::from_u64(80));
        add(
            &mut batch,
            &index,
            &mut underway,
            &state,
            sequence,
            position,
            &signed(3),
        )
        .unwrap();
        assert!(batch.is_empty());

        // Nobody signs for what is not open any more.
        underway.keep_open(&state);
        assert!(underway.0.is_empty());
    }
}
