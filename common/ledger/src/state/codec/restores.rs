//! How what is known of declared restores is kept in a snapshot.

use ciborium::Value;
use mintmark_protocol::Error;
use mintmark_protocol::cbor::{Fields, Map};
use mintmark_protocol::entitlement::AccountTag;
use mintmark_protocol::identifier::Lineage;

use super::{COUNT_MAX, Numbers, numbers};
use crate::state::Restores;

pub(super) fn restores(restores: &Restores) -> Map {
    let parents = restores.parents.iter();
    let leases = restores.leases.iter();
    Map::new()
        .with_array(
            1,
            parents.map(|parent| Value::from(parent.as_bytes().to_vec())),
        )
        .with_array(
            2,
            leases.map(|(account, end)| numbers([account.number(), *end])),
        )
}

pub(super) fn read(mut fields: Fields) -> Result<Restores, Error> {
    let mut restores = Restores::default();
    for value in fields.array(1, COUNT_MAX)? {
        let parent = value.as_bytes().map(Vec::as_slice).map(Lineage::try_from);
        let parent = parent.and_then(Result::ok);
        restores
            .parents
            .push(parent.ok_or_else(|| fields.wrong(1, "not a lineage"))?);
    }
    for value in fields.array(2, COUNT_MAX)? {
        let lease =
            Numbers::read(value).and_then(|Numbers([tag, end])| Some((AccountTag::new(tag)?, end)));
        let (account, end) = lease.ok_or_else(|| fields.wrong(2, "not a slot of an account"))?;
        restores.leases.insert(account, end);
    }
    fields.finish()?;
    Ok(restores)
}
