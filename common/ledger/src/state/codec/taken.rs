//! How what was taken back, the CRLs, the clock and what is known of the anchor are kept in a snapshot.

use std::collections::BTreeMap;

use ciborium::Value;
use mintmark_protocol::Error;
use mintmark_protocol::cbor::{Fields, Map};
use mintmark_protocol::entitlement::AccountTag;

use super::{COUNT_MAX, Numbers, array, numbers, record};
use crate::entry::{Body, BurnedSlots, CrlIssued, Entry, LogSequence, Steady};
use crate::state::clock::{Clock, ClockStopped, Reference};
use crate::state::withdrawn::Rework;
use crate::state::{AnchorStated, TakenBack, Withdrawal, Withdrawn};

pub(super) fn issues(taken_back: &TakenBack) -> impl Iterator<Item = Value> {
    let issues = taken_back.issues.iter();
    issues.map(|((account, slot, issue), withdrawn)| {
        numbers([
            account.number(),
            *slot,
            u64::from(*issue),
            withdrawn.why.number(),
            withdrawn.reservation.number(),
            withdrawn.at.number(),
            withdrawn.time,
        ])
    })
}

pub(super) fn reworks(taken_back: &TakenBack) -> impl Iterator<Item = Value> {
    let reworks = taken_back.reworks.iter();
    reworks.map(|((account, slot), rework)| {
        numbers([
            account.number(),
            *slot,
            rework.at.number(),
            rework.reservation.number(),
            u64::from(rework.issue),
        ])
    })
}

fn issue_of(value: Value) -> Option<((AccountTag, u64, u16), Withdrawn)> {
    let Numbers([tag, slot, issue, why, reservation, at, time]) = Numbers::read(value)?;
    let issue = (AccountTag::new(tag)?, slot, u16::try_from(issue).ok()?);
    let withdrawn = Withdrawn {
        why: Withdrawal::from_number(why)?,
        reservation: LogSequence(reservation),
        at: LogSequence(at),
        time,
    };
    Some((issue, withdrawn))
}

fn rework_of(value: Value) -> Option<((AccountTag, u64), Rework)> {
    let Numbers([tag, slot, at, reservation, issue]) = Numbers::read(value)?;
    let rework = Rework {
        at: LogSequence(at),
        reservation: LogSequence(reservation),
        issue: u16::try_from(issue).ok()?,
    };
    Some(((AccountTag::new(tag)?, slot), rework))
}

/// Reads the issues that field `key` holds, and the reworks of the one after it.
pub(super) fn read_taken_back(fields: &mut Fields, key: i64) -> Result<TakenBack, Error> {
    let mut taken_back = TakenBack::default();
    for value in fields.array(key, COUNT_MAX)? {
        let issue = issue_of(value).ok_or_else(|| fields.wrong(key, "not an issue"))?;
        taken_back.issues.insert(issue.0, issue.1);
    }
    let key = key.saturating_add(1);
    for value in fields.array(key, COUNT_MAX)? {
        let rework = rework_of(value).ok_or_else(|| fields.wrong(key, "not a rework"))?;
        taken_back.reworks.insert(rework.0, rework.1);
    }
    Ok(taken_back)
}

pub(super) fn crls(crls: &BTreeMap<u16, (LogSequence, CrlIssued)>) -> impl Iterator<Item = Value> {
    crls.values().map(|(at, crl)| {
        let crl = Value::from(record(Body::Crl(*crl)));
        array([Value::from(at.number()), crl])
    })
}

fn crl_of(value: Value) -> Option<(LogSequence, CrlIssued)> {
    let [at, crl] = <[Value; 2]>::try_from(value.into_array().ok()?).ok()?;
    let at = u64::try_from(at.as_integer()?).ok()?;
    match Entry::from_cbor(crl.as_bytes()?).ok()?.body {
        Body::Crl(crl) => Some((LogSequence(at), crl)),
        _ => None,
    }
}

pub(super) fn read_crls(
    fields: &mut Fields,
    key: i64,
) -> Result<BTreeMap<u16, (LogSequence, CrlIssued)>, Error> {
    let mut crls = BTreeMap::new();
    for value in fields.array(key, COUNT_MAX)? {
        let crl = crl_of(value).ok_or_else(|| fields.wrong(key, "not a CRL"))?;
        crls.insert(crl.1.generation, crl);
    }
    Ok(crls)
}

pub(super) fn clock(clock: &Clock) -> Map {
    let reference = clock.reference.map(|reference| {
        array([
            Value::from(reference.clock),
            Value::from(reference.steady.boot.to_vec()),
            Value::from(reference.steady.seconds),
        ])
    });
    let stopped = clock
        .stopped
        .map(|stopped| numbers([stopped.at.number(), stopped.clock, stopped.expected]));
    Map::new()
        .with_nullable(1, reference)
        .with_nullable(2, stopped)
        .with(3, clock.behind)
        .with(4, clock.unsaid)
}

fn reference_of(value: Value) -> Option<Reference> {
    let [clock, boot, seconds] = <[Value; 3]>::try_from(value.into_array().ok()?).ok()?;
    let number = |value: Value| u64::try_from(value.as_integer()?).ok();
    let steady = Steady {
        boot: boot.as_bytes()?.as_slice().try_into().ok()?,
        seconds: number(seconds)?,
    };
    let clock = number(clock)?;
    Some(Reference { clock, steady })
}

pub(super) fn read_clock(mut fields: Fields) -> Result<Clock, Error> {
    let reference = match fields.nullable(1)? {
        None => None,
        Some(value) => Some(reference_of(value).ok_or_else(|| fields.wrong(1, "not two clocks"))?),
    };
    let stopped = match fields.nullable(2)? {
        None => None,
        Some(value) => {
            let Numbers([at, clock, expected]) =
                Numbers::read(value).ok_or_else(|| fields.wrong(2, "not a stopped clock"))?;
            Some(ClockStopped {
                at: LogSequence(at),
                clock,
                expected,
            })
        }
    };
    let clock = Clock {
        reference,
        stopped,
        behind: fields.uint(3)?,
        unsaid: match fields.required(4)?.as_bool() {
            Some(unsaid) => unsaid,
            None => return Err(fields.wrong(4, "true or false was expected")),
        },
    };
    fields.finish()?;
    Ok(clock)
}

pub(super) fn anchor(anchor: &AnchorStated) -> Map {
    let due = anchor.due.as_ref().map(|due| {
        let slots = due.iter();
        array(slots.map(|slots| numbers([slots.account.number(), slots.first, slots.end])))
    });
    Map::new()
        .with(1, anchor.counter)
        .with(2, anchor.at.number())
        .with(3, anchor.missing)
        .with_nullable(4, due)
}

fn slots_of(value: Value) -> Option<BurnedSlots> {
    let Numbers([tag, first, end]) = Numbers::read(value)?;
    Some(BurnedSlots {
        account: AccountTag::new(tag)?,
        first,
        end,
    })
}

pub(super) fn read_anchor(mut fields: Fields) -> Result<AnchorStated, Error> {
    let (counter, at) = (fields.uint(1)?, LogSequence(fields.uint(2)?));
    let missing = fields.required(3)?.as_bool();
    let missing = missing.ok_or_else(|| fields.wrong(3, "not a yes or no"))?;
    let due = match fields.nullable(4)? {
        None => None,
        Some(value) => {
            let slots = value.into_array().ok();
            let slots = slots.filter(|slots| slots.len() <= COUNT_MAX);
            let slots: Option<Vec<BurnedSlots>> =
                slots.and_then(|slots| slots.into_iter().map(slots_of).collect());
            Some(slots.ok_or_else(|| fields.wrong(4, "not slots of accounts"))?)
        }
    };
    fields.finish()?;
    Ok(AnchorStated {
        counter,
        at,
        missing,
        due,
    })
}
