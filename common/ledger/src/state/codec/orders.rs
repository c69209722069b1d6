//! The part of a state that officers' orders, rotations and keys make.

use ciborium::Value;
use mintmark_protocol::Error;
use mintmark_protocol::cbor::{Fields, Map};
use mintmark_protocol::identifier::{Fingerprint, KeyLabel};

use super::super::{DeviceCa, Keys, Orders, Received, Revoked};
use super::{COUNT_MAX, WHAT, array, bytes};
use crate::entry::{KeyOutcome, LogSequence, Rotation};

pub(super) fn orders(orders: &Orders) -> Value {
    let pairs = orders.0.iter();
    array(pairs.map(|(number, fingerprint)| {
        array([Value::from(*number), Value::from(bytes(*fingerprint))])
    }))
}

pub(super) fn read_orders(fields: &mut Fields, key: i64) -> Result<Orders, Error> {
    let mut orders = Orders::default();
    for value in fields.array(key, COUNT_MAX)? {
        let (number, fingerprint) =
            numbered(value).ok_or_else(|| fields.wrong(key, "not a numbered order"))?;
        orders.0.insert(number, fingerprint);
    }
    Ok(orders)
}

fn numbered(value: Value) -> Option<(u64, Fingerprint)> {
    let [number, digest] = <[Value; 2]>::try_from(value.into_array().ok()?).ok()?;
    let digest = Fingerprint::try_from(digest.as_bytes()?.as_slice()).ok()?;
    Some((u64::try_from(number.as_integer()?).ok()?, digest))
}

pub(super) fn revoked(revoked: &Revoked) -> Map {
    Map::new()
        .with(1, revoked.at.number())
        .with(2, revoked.time)
        .with(3, revoked.number)
        .with(4, revoked.reason.as_str())
        .with(5, revoked.drafted_at)
}

pub(super) fn read_revoked(fields: &mut Fields, key: i64) -> Result<Option<Revoked>, Error> {
    let Some(value) = fields.nullable(key)? else {
        return Ok(None);
    };
    let mut fields = Fields::new(WHAT, value)?;
    let revoked = Revoked {
        at: LogSequence(fields.uint(1)?),
        time: fields.uint(2)?,
        number: fields.uint(3)?,
        reason: fields.text(4)?,
        drafted_at: fields.uint(5)?,
    };
    fields.finish()?;
    Ok(Some(revoked))
}

pub(super) fn rotation(rotation: &Rotation) -> Value {
    array([
        Value::from(rotation.generation),
        Value::from(bytes(rotation.request_fingerprint)),
    ])
}

pub(super) fn read_rotation(fields: &mut Fields, key: i64) -> Result<Option<Rotation>, Error> {
    let Some(value) = fields.nullable(key)? else {
        return Ok(None);
    };
    let read = numbered(value).and_then(|(generation, request_fingerprint)| {
        Some(Rotation {
            generation: u16::try_from(generation).ok()?,
            request_fingerprint,
        })
    });
    read.map(Some)
        .ok_or_else(|| fields.wrong(key, "not a rotation"))
}

pub(super) fn device_ca(ca: &DeviceCa) -> Map {
    Map::new()
        .with(1, ca.generation)
        .with(2, ca.certificate.clone())
        .with(3, ca.first_record.number())
        .with_nullable(4, ca.revoked.as_ref().map(revoked))
        .with(5, bytes(ca.grant))
}

pub(super) fn read_device_ca(value: Value) -> Result<DeviceCa, Error> {
    let mut fields = Fields::new(WHAT, value)?;
    let ca = DeviceCa {
        generation: u16::try_from(fields.uint(1)?).map_err(|_| fields.wrong(1, "too large"))?,
        certificate: fields.bytes(2)?,
        first_record: LogSequence(fields.uint(3)?),
        revoked: read_revoked(&mut fields, 4)?,
        grant: fields.octets(5)?,
    };
    fields.finish()?;
    Ok(ca)
}

pub(super) fn labels(labels: &[KeyLabel]) -> Value {
    array(labels.iter().map(|label| Value::from(label.as_str())))
}

pub(super) fn received(keys: &Keys) -> impl Iterator<Item = Map> {
    keys.received.iter().map(|(label, received)| {
        let code = match &received.outcome {
            KeyOutcome::Refused { code } => Some(code.as_str()),
            KeyOutcome::Unwrapped | KeyOutcome::Imported => None,
        };
        Map::new()
            .with(1, label.as_str())
            .with(2, received.check_value.to_vec())
            .with(3, received.outcome.as_str())
            .with_nullable(4, code)
            .with(5, received.at.number())
    })
}

pub(super) fn uses(keys: &Keys) -> impl Iterator<Item = Map> {
    keys.uses.iter().map(|((entitlement, label), uses)| {
        Map::new()
            .with(1, entitlement.as_str())
            .with(2, label.as_str())
            .with(3, *uses)
    })
}

pub(super) fn products(keys: &Keys) -> impl Iterator<Item = Map> {
    let products = keys.products.iter();
    products.map(|(label, sku)| Map::new().with(1, label.as_str()).with(2, sku.as_str()))
}

/// Reads the keys that `received` is of field `key`, and `uses` and `products` of the two after it.
pub(super) fn read_keys(fields: &mut Fields, key: i64) -> Result<Keys, Error> {
    let mut keys = Keys::default();
    for value in fields.array(key, COUNT_MAX)? {
        let mut fields = Fields::new(WHAT, value)?;
        let code = fields
            .nullable(4)?
            .map(|code| code.into_text().map_err(|_| fields.wrong(4, "not a code")))
            .transpose()?;
        let outcome = match (fields.text(3)?.as_str(), code) {
            ("unwrapped", None) => KeyOutcome::Unwrapped,
            ("imported", None) => KeyOutcome::Imported,
            ("refused", Some(code)) => KeyOutcome::Refused { code },
            _ => return Err(fields.wrong(3, "not what became of a key")),
        };
        let received = Received {
            check_value: fields.octets(2)?,
            outcome,
            at: LogSequence(fields.uint(5)?),
        };
        keys.received.insert(fields.parse(1)?, received);
        fields.finish()?;
    }
    for value in fields.array(key.saturating_add(1), COUNT_MAX)? {
        let mut fields = Fields::new(WHAT, value)?;
        let counted = (fields.parse(1)?, fields.parse(2)?);
        keys.uses.insert(counted, fields.uint(3)?);
        fields.finish()?;
    }
    for value in fields.array(key.saturating_add(2), COUNT_MAX)? {
        let mut fields = Fields::new(WHAT, value)?;
        keys.products.insert((fields.parse(1)?, fields.parse(2)?));
        fields.finish()?;
    }
    Ok(keys)
}
