//! Data objects of a token (PKCS #11 version 2.40 section 4.5): private, not to be modified, found by label.
//!
//! Objects of the same label that are public, or that another application made, are as if they were not there. Without a
//! login a token shows no private object and does not say so; [`key::search`] sees to that.

use cryptoki::error::{Error as CryptokiError, RvError};
use cryptoki::object::{Attribute, AttributeInfo, AttributeType, ObjectClass, ObjectHandle};
use cryptoki::session::Session;
use zeroize::{Zeroize as _, Zeroizing};

use super::fault::Fault;
use super::key;
use crate::data::{demand_count, demand_size};
use crate::error::Error;

/// CKA_APPLICATION of every data object made here.
const APPLICATION: &[u8] = b"mintmark";

const MAKE: &str = "make a data object";
const REMOVE: &str = "remove a data object";

/// What a data object is found by.
fn sought(label: &str) -> Vec<Attribute> {
    vec![
        Attribute::Class(ObjectClass::DATA),
        Attribute::Token(true),
        Attribute::Private(true),
        Attribute::Application(APPLICATION.into()),
        Attribute::Label(label.into()),
    ]
}

/// The values of the label's objects. They may be secrets: no copy of one is left in memory but what is given.
pub(super) fn read(session: &Session, store: &str, label: &str) -> Result<Vec<Vec<u8>>, Fault> {
    let handles = key::search(session, &sought(label), "find a data object")?;
    demand_count(store, label, handles.len())?;
    let mut values = Vec::with_capacity(handles.len());
    for handle in handles {
        let bytes = size(session, handle)?;
        demand_size(store, label, bytes)?;
        values.push(value(session, handle, bytes)?);
    }
    let values = values.iter_mut();
    Ok(values.map(|value| std::mem::take(&mut **value)).collect())
}

/// Makes an object, unless there is one of this value. `expect_room` may know that there is no room for another one.
pub(super) fn add(
    session: &Session,
    store: &str,
    (label, value): (&str, &[u8]),
    expect_room: impl Fn() -> Result<(), Error>,
) -> Result<(), Fault> {
    demand_size(store, label, value.len())?;
    let present = read(session, store, label)?;
    let present: Vec<_> = present.into_iter().map(Zeroizing::new).collect();
    if present.iter().any(|is| **is == value) {
        return Ok(());
    }
    demand_count(store, label, present.len() + 1)?;
    expect_room()?;
    let mut template = sought(label);
    template.push(Attribute::Modifiable(false));
    template.push(Attribute::Value(value.into()));
    let made = session.create_object(&template);
    for attribute in &mut template {
        if let Attribute::Value(copy) = attribute {
            copy.zeroize();
        }
    }
    made.map_err(|error| refusal(store, MAKE, error))?;
    // Not by its handle: what counts is that it is found.
    if with_value(session, label, value)?.is_empty() {
        return Err(Error::DataNotKept {
            store: store.into(),
            label: label.into(),
        }
        .into());
    }
    Ok(())
}

/// Removes the objects of this value.
pub(super) fn remove(
    session: &Session,
    store: &str,
    label: &str,
    value: &[u8],
) -> Result<(), Fault> {
    let mut failed = None;
    for handle in with_value(session, label, value)? {
        if let Err(error) = session.destroy_object(handle) {
            failed.get_or_insert(refusal(store, REMOVE, error));
        }
    }
    // Not by what was said: a token that lost its power keeps less of an object than it made, and fails after it is gone.
    match failed {
        Some(fault) if !with_value(session, label, value)?.is_empty() => Err(fault),
        _ => Ok(()),
    }
}

/// The label's objects of this value. Not every token searches by CKA_VALUE, so the values are compared here.
fn with_value(session: &Session, label: &str, wanted: &[u8]) -> Result<Vec<ObjectHandle>, Fault> {
    let mut found = Vec::new();
    for handle in key::search(session, &sought(label), "find a data object")? {
        let bytes = size(session, handle)?;
        if bytes == wanted.len() && **value(session, handle, bytes)? == *wanted {
            found.push(handle);
        }
    }
    Ok(found)
}

/// Bytes of the value. An object without one, as a token may keep of a creation that was cut, counts as empty.
fn size(session: &Session, handle: ObjectHandle) -> Result<usize, Fault> {
    let read = session
        .get_attribute_info(handle, &[AttributeType::Value])
        .map_err(Fault::while_("read a data object"))?;
    Ok(match read.first() {
        Some(AttributeInfo::Available(bytes)) => *bytes,
        _ => 0,
    })
}

fn value(
    session: &Session,
    handle: ObjectHandle,
    bytes: usize,
) -> Result<Zeroizing<Vec<u8>>, Fault> {
    if bytes == 0 {
        return Ok(Zeroizing::default());
    }
    let read = session
        .get_attributes(handle, &[AttributeType::Value])
        .map_err(Fault::while_("read a data object"))?;
    Ok(read
        .into_iter()
        .find_map(|attribute| match attribute {
            Attribute::Value(value) => Some(Zeroizing::new(value)),
            _ => None,
        })
        .unwrap_or_default())
}

/// What the token's refusal to change anything means.
fn refusal(store: &str, action: &'static str, error: CryptokiError) -> Fault {
    let fault = Fault::while_(action)(error);
    let store = store.into();
    match fault.rv() {
        // A write-protected token has read-only sessions alone.
        Some(RvError::TokenWriteProtected | RvError::SessionReadOnly) => {
            Error::TokenWriteProtected { store, action }.into()
        }
        Some(RvError::DeviceMemory) => Error::TokenFull { store, action }.into(),
        _ => fault,
    }
}
