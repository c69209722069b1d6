//! One value that changes and never goes back by itself: each version is a data object of its own, with a counter in it.
//!
//! The new object is made and read back before any older one is removed. So however a write is cut, by a signal, by the
//! loss of power or of the connection, the store holds at least one valid object once it held one, and the highest valid
//! counter never decreases.
//!
//! There are two objects at most while nobody else writes, and one after every write that ended well.
//!
//! Both hold against a loss of power as far as the store keeps for good what it said it made
//! ([`KeyStore::add_data`]).
//!
//! What this cannot do: a store that is put back to an older state as a whole has a valid, older value. And no token
//! offers to compare and set at once: of two programs that write at the same time, at least one is refused, but after its
//! object was made; both objects then have the same counter, and every later read and write is refused. That takes a store
//! that shows each program what the others made. For one that does not, [`KeyStore::lock_data`] keeps the others out
//! from the first look to the last.

use crate::error::Error;
use crate::store::KeyStore;

/// A value under one label of a store.
#[derive(Clone, Copy, Debug)]
pub struct Alternating<'a> {
    store: &'a dyn KeyStore,
    label: &'a str,
}

/// What the store holds: the valid object with the highest counter, and the others.
struct Held {
    current: Option<(u64, Vec<u8>)>,
    others: Vec<Vec<u8>>,
}

impl<'a> Alternating<'a> {
    /// Names the value. Nothing is read yet.
    pub fn new(store: &'a dyn KeyStore, label: &'a str) -> Self {
        Self { store, label }
    }

    /// The value with the highest counter. `valid` gives the counter of a value that is whole, and `None` for any other:
    /// such are leftovers of a write that was cut, and do not count. What a cut write left is settled first, so that a
    /// value that was read once is not lost with the power afterwards.
    ///
    /// # Errors
    /// `DATA-CHANGED` if two different valid values have the highest counter; those of [`KeyStore::data`] and
    /// [`KeyStore::add_data`].
    pub fn read(
        &self,
        valid: impl Fn(&[u8]) -> Option<u64>,
    ) -> Result<Option<(u64, Vec<u8>)>, Error> {
        let _alone = self.store.lock_data()?;
        let current = self.held(valid)?.current;
        if let Some((_, value)) = &current {
            self.store.add_data(self.label, value)?;
        }
        Ok(current)
    }

    /// Puts `new` in the place of `old`, which is the value that the caller read or wrote last, or `None` if there was
    /// none. Writing what is the value already is fine: it completes a write that was cut. After an error other than
    /// `DATA-CHANGED`, either value may be in force; the same write can be tried again, and [`Alternating::read`] tells.
    ///
    /// # Errors
    /// `DATA-CHANGED`, and nothing is written, if the store's value is another one than `old`, whatever its counter;
    /// the same if a rival's value of this counter or a higher one is found after the write. `KEYS-INTERNAL` if `new` is
    /// not valid, or if its counter is not above that of `old`. Those of the [`KeyStore`].
    pub fn write(
        &self,
        old: Option<&[u8]>,
        new: &[u8],
        valid: impl Fn(&[u8]) -> Option<u64>,
    ) -> Result<(), Error> {
        let counter = self.counter_of(new, &valid)?;
        let _alone = self.store.lock_data()?;
        let held = self.held(&valid)?;
        let current = held.current.as_ref().map(|(_, value)| value.as_slice());
        if current != Some(new) {
            if current != old {
                return Err(self.changed(held.current.map(|(is, _)| is), || {
                    let expected = match old.and_then(&valid) {
                        Some(counter) => format!("the version {counter} that was read"),
                        None => "none".into(),
                    };
                    format!("expected {expected} before version {counter}")
                }));
            }
            if let Some((is, _)) = held.current
                && counter <= is
            {
                return Err(Error::Internal {
                    action: "counting the versions of a value",
                    reason: format!("{counter} is to follow {is}"),
                });
            }
            // Before the new object is made: else a write that is cut at the same place each time fills the store. What
            // is kept has to be there for good before anything else goes.
            if let Some(current) = current.filter(|_| !held.others.is_empty()) {
                self.store.add_data(self.label, current)?;
            }
            self.remove(&held.others)?;
        }
        self.put(counter, new, &valid)
    }

    /// Puts `new` in the place of whatever is there, twins included: for when people have decided that the store's value
    /// no longer counts. The counter of `new` has to be above every valid one; the error states the highest.
    ///
    /// # Errors
    /// `DATA-CHANGED` if a counter is not below that of `new`; otherwise as [`Alternating::write`].
    pub fn replace(&self, new: &[u8], valid: impl Fn(&[u8]) -> Option<u64>) -> Result<(), Error> {
        let counter = self.counter_of(new, &valid)?;
        let _alone = self.store.lock_data()?;
        let mut rivals = self.store.data(self.label)?;
        rivals.retain(|value| value != new);
        if let Some(is) = rivals.iter().filter_map(|value| valid(value)).max()
            && is >= counter
        {
            return Err(self.changed(Some(is), || format!("version {counter} is not above it")));
        }
        rivals.retain(|value| valid(value).is_none());
        self.remove(&rivals)?;
        self.put(counter, new, &valid)
    }

    /// Makes the object, looks whether it is the only one of its height, and removes the others.
    fn put(
        &self,
        counter: u64,
        new: &[u8],
        valid: &impl Fn(&[u8]) -> Option<u64>,
    ) -> Result<(), Error> {
        self.store.add_data(self.label, new)?;
        let held = self.held(valid)?;
        match held.current {
            Some((_, value)) if value == new => {}
            // It was made and read back; who removed it is no program that keeps to these rules, or the store forgets.
            other => {
                let is = other.map(|(is, _)| is);
                return Err(self.changed(is, || {
                    format!("version {counter} was written and is not in force")
                }));
            }
        }
        self.remove(&held.others)
    }

    fn remove(&self, values: &[Vec<u8>]) -> Result<(), Error> {
        values
            .iter()
            .try_for_each(|value| self.store.remove_data(self.label, value))
    }

    fn counter_of(&self, new: &[u8], valid: &impl Fn(&[u8]) -> Option<u64>) -> Result<u64, Error> {
        valid(new).ok_or_else(|| Error::Internal {
            action: "writing a value",
            reason: "it is not valid".into(),
        })
    }

    /// Reads every object, and tells the one that counts.
    fn held(&self, valid: impl Fn(&[u8]) -> Option<u64>) -> Result<Held, Error> {
        let mut values = self.store.data(self.label)?;
        // A store may hold one value twice, after a connection was lost in the middle of the making.
        values.sort_unstable();
        values.dedup();
        let highest = values.iter().filter_map(|value| valid(value)).max();
        let Some(highest) = highest else {
            return Ok(Held {
                current: None,
                others: values,
            });
        };
        let (mut best, others): (Vec<_>, Vec<_>) = values
            .into_iter()
            .partition(|value| valid(value) == Some(highest));
        match (best.pop(), best.len()) {
            (Some(value), 0) => Ok(Held {
                current: Some((highest, value)),
                others,
            }),
            (_, more) => Err(self.changed(Some(highest), || {
                format!("{} different values are its version {highest}", more + 1)
            })),
        }
    }

    fn changed(&self, counter: Option<u64>, expected: impl FnOnce() -> String) -> Error {
        let found = match counter {
            Some(counter) => format!("the highest version is {counter}"),
            None => "there is no valid one".into(),
        };
        Error::DataChanged {
            store: self.store.facts().name(),
            label: self.label.into(),
            counter,
            reason: format!("{found}; {}", expected()),
        }
    }
}
