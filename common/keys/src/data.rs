//! The bounds of data objects, which every kind of store shares.

use crate::error::Error;

/// Most data objects of one label.
pub(crate) const OBJECTS_MAX: usize = 16;

/// Largest value of a data object.
pub(crate) const VALUE_BYTES_MAX: usize = 64 * 1024;

/// Refuses a value that is too large.
pub(crate) fn demand_size(store: &str, label: &str, bytes: usize) -> Result<(), Error> {
    if bytes <= VALUE_BYTES_MAX {
        return Ok(());
    }
    Err(Error::DataLimit {
        store: store.into(),
        label: label.into(),
        reason: format!("one has more than {VALUE_BYTES_MAX} bytes"),
    })
}

/// Refuses more objects than are read.
pub(crate) fn demand_count(store: &str, label: &str, count: usize) -> Result<(), Error> {
    if count <= OBJECTS_MAX {
        return Ok(());
    }
    Err(Error::DataLimit {
        store: store.into(),
        label: label.into(),
        reason: format!("there would be {count} of at most {OBJECTS_MAX}"),
    })
}
