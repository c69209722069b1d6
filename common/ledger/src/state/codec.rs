//! The state as bytes, so that a log need not be read from its beginning each unix-time. Whoever keeps them vouches for them:
//! a vault checks them against the log, HQ keeps them beside what it verified.
//!
//! ```cddl
//! state = { 0: 2, 1: uint, 2: bstr, 3: unix-time, 4: entry / null, 5: bstr / null, 6: uint, 7: uint,
//!           8: [uint, bstr, uint] / null, 9: enrolment / null, 10: dispatches, 11: bundles, 12: [* entitlement],
//!           13: [* account], 14: [* reservation], 15: uint, 16: [* units], 17: uint, 18: uint, 19: uint / null,
//!           20: entry / [sku, identifier] / null, 21: orders, 22: orders, 23: orders, 24: revoked / null, 25: [uint, digest] / null,
//!           26: [* received], 27: [* uses], 28: [* { 1: label, 2: sku }],
//!           29: [* [tag: uint, slot: uint, issue: uint, why: 0..2, reservation: uint, at: uint, unix-time]],
//!           30: [* [tag: uint, slot: uint, at: uint, reservation: uint, issue: uint]],
//!           31: [* [at: uint, entry]], 32: clock, 33: anchor,
//!           34: { 1: [* lineage: bstr], 2: [* [tag: uint, slot: uint]] }, 35: stations,
//!           ? 36: [+ [first: uint, end: uint, digest]], ? 37: uint }
//! ; 36: the files of the log that were pruned; 37: the newest record that reserved something
//! ; 34: the lineages before, and below which slots what was lost may have spent
//! ; 29: issues taken back (scrapped, voided, superseded), 30: reworks open, 31: newest CRLs
//! stations = { ? 1: bstr, 2: [* { 1: entry, 2: [at: uint, since: unix-time, day: uint, units: uint], ? 3: unix-time, ? 4: tstr }] }
//! ; certificate of the station CA; each station: how it was let in; new units of its newest day; since when and why it is out
//! anchor = { 1: uint, 2: uint, 3: bool, 4: [* [tag: uint, first: uint, end: uint]] / null }
//! ; highest counter of the token's anchor, the record that states it; whether it is missing; what is to be burned for that
//! clock = { 1: [clock: unix-time, boot: bstr, seconds: uint] / null, 2: [at: uint, clock: unix-time, expected: unix-time] / null, 3: uint, 4: bool }
//! ; 21 to 23: revocations, clock corrections, re-anchors; 24: disabled; 25: rotation asked for
//! enrolment = { 1: digest, 2: bstr, 3: [+ device-ca], 4: COSE_Key, 5: uint }
//! device-ca = { 1: uint, 2: bstr, 3: uint, 4: revoked / null, 5: digest }   ; generation, certificate, first record, grant
//! revoked = { 1: uint, 2: unix-time, 3: uint, 4: tstr }          ; record, time, number, reason
//! orders = [* [uint, digest]]
//! dispatches = { 1: uint / null, 2: uint, 3: digest / null, 4: [* [uint, uint, digest]] }
//! bundles = { 1: uint, 2: digest / null, 3: uint, 4: [* [uint, uint, digest]], 5: uint, 6: uint }
//! entitlement = { 1: uint, 2: digest, 3: bstr, 4: uint, 5: revoked / null, 6: orders }
//! ; version, fingerprint, terms, accepted at; every version accepted
//! account = { 1: uint, 2: identifier, 3: sku, 4: [11 uint], 5: [* [day: uint, units: uint]] }
//! reservation = { 1: uint, 2: uint, 3: uint, 4: uint, 5: tstr, 6: digest, 7: bstr, 8: [* label], 9: bool }
//! units = [first: uint, unix-time, bits: bstr]    ; of each record from the first, 64 a number (big-endian), the lowest bit first: whether HQ is to learn of a unit by it
//! received = { 1: label, 2: bstr .size 32, 3: tstr, 4: tstr / null, 5: uint }  ; label, check value, how, code, record
//! uses = { 1: identifier, 2: label, 3: uint }
//! ```

mod orders;
mod restores;
mod stations;
mod taken;

use std::collections::BTreeMap;
use std::sync::Arc;

use ciborium::Value;
use mintmark_protocol::cbor::{Fields, Map};
use mintmark_protocol::entitlement::{AccountTag, Entitlement};
use mintmark_protocol::identifier::Fingerprint;
use mintmark_protocol::key_terms::KEYS_MAX;
use mintmark_protocol::{Error, key};

use super::account::{Account, DAYS_KEPT_MAX, WindowCount};
use super::unreported::Unreported;
use super::{
    BundleChain, DispatchChain, Enrolment, Granted, OpenReservation, Pending, SealedBundle, State,
};
use crate::entry::{Body, Entry, Genesis, LogSequence, PrunedRecords, Trust};
use crate::merkle::Frontier;

/// The largest state, in bytes.
pub(crate) const STATE_BYTES_MAX: usize = 1 << 30;
const COUNT_MAX: usize = 1 << 24;
const WHAT: &str = "ledger snapshot";
const FORMAT: u64 = 2;

/// Why bytes are no state.
#[derive(Debug, thiserror::Error)]
#[error("the snapshot of the ledger cannot be read: {0}")]
pub struct SnapshotError(#[from] Error);

/// An array of values.
pub(crate) fn array(values: impl IntoIterator<Item = Value>) -> Value {
    Value::Array(values.into_iter().collect())
}

/// An array of numbers.
pub(crate) fn numbers<const N: usize>(numbers: [u64; N]) -> Value {
    array(numbers.map(Value::from))
}

/// An array of exactly N numbers.
pub(crate) struct Numbers<const N: usize>(pub(crate) [u64; N]);

impl<const N: usize> Numbers<N> {
    pub(crate) fn read(value: Value) -> Option<Self> {
        let values = value.into_array().ok()?;
        let numbers: Option<Vec<u64>> = values
            .iter()
            .map(|value| u64::try_from(value.as_integer()?).ok())
            .collect();
        numbers?.try_into().ok().map(Self)
    }
}

fn bytes(fingerprint: Fingerprint) -> Vec<u8> {
    fingerprint.as_bytes().to_vec()
}

/// `[first, second, digest]`.
fn numbered_digest(first: u64, second: u64, digest: Fingerprint) -> Value {
    array([
        Value::from(first),
        Value::from(second),
        Value::from(bytes(digest)),
    ])
}

pub(crate) fn read_numbered_digest(value: Value) -> Option<(u64, u64, Fingerprint)> {
    let [first, second, digest] = <[Value; 3]>::try_from(value.into_array().ok()?).ok()?;
    let number = |value: Value| u64::try_from(value.as_integer()?).ok();
    let digest = Fingerprint::try_from(digest.as_bytes()?.as_slice()).ok()?;
    Some((number(first)?, number(second)?, digest))
}

impl State {
    /// The state as bytes, deterministically.
    pub fn to_snapshot(&self) -> Vec<u8> {
        let genesis = self
            .genesis
            .as_ref()
            .map(|genesis| record(Body::Genesis(genesis.clone())));
        let trust = self.trust.as_ref().map(|trust| {
            array([
                Value::from(trust.version),
                Value::from(bytes(trust.fingerprint)),
                Value::from(trust.dispatch_epoch),
            ])
        });
        let pending = self.pending.as_ref().map(|pending| match pending {
            Pending::Request { product, station } => {
                array([product.as_str(), station.as_str()].map(Value::from))
            }
            Pending::Dispatch(dispatch) => {
                Value::from(record(Body::Dispatch((**dispatch).clone())))
            }
            Pending::Device(order) => Value::from(record(Body::Device((**order).clone()))),
            Pending::ClockConfirm { steady } => {
                Value::from(record(Body::ClockConfirm { steady: *steady }))
            }
            Pending::Station(order) => Value::from(record(Body::Station((**order).clone()))),
        });
        Map::new()
            .with(0, FORMAT)
            .with(1, self.size)
            .with(2, self.frontier.to_bytes())
            .with(3, self.mark)
            .with_nullable(4, genesis)
            .with_nullable(5, self.lineage.map(|lineage| lineage.as_bytes().to_vec()))
            .with(6, self.boot)
            .with(7, self.rules_version)
            .with_nullable(8, trust)
            .with_nullable(9, self.enrolment.as_deref().map(enrolment))
            .with(10, dispatches(&self.dispatches))
            .with(11, bundles(&self.bundles))
            .with_array(12, self.entitlements.values().map(entitlement))
            .with_array(13, self.accounts.values().map(account))
            .with_array(14, self.reservations.iter().map(reservation))
            .with(15, self.units)
            .with(16, self.unreported.to_value())
            .with(17, self.answers_logged)
            .with(18, self.units_since_bundle)
            .with_nullable(19, self.noteworthy)
            .with_nullable(20, pending)
            .with(21, orders::orders(&self.revocations))
            .with(22, orders::orders(&self.clock_corrections))
            .with(23, orders::orders(&self.reanchors))
            .with_nullable(24, self.disabled.as_ref().map(orders::revoked))
            .with_nullable(25, self.rotation.as_ref().map(orders::rotation))
            .with_array(26, orders::received(&self.keys))
            .with_array(27, orders::uses(&self.keys))
            .with_array(28, orders::products(&self.keys))
            .with_array(29, taken::issues(&self.taken_back))
            .with_array(30, taken::reworks(&self.taken_back))
            .with_array(31, taken::crls(&self.crls))
            .with(32, taken::clock(&self.clock))
            .with(33, taken::anchor(&self.anchor))
            .with(34, restores::restores(&self.restores))
            .with(35, stations::stations(&self.stations))
            .with_some(36, pruned(&self.pruned))
            .with_some(37, self.newest_reservation.map(LogSequence::number))
            .encode()
    }

    /// Reads a state that [`State::to_snapshot`] wrote.
    ///
    /// # Errors
    /// The bytes are damaged, or of another version.
    pub fn from_snapshot(bytes: &[u8]) -> Result<Self, SnapshotError> {
        Ok(read(bytes)?)
    }
}

/// An entry's body as bytes; the time is of no meaning here.
fn record(body: Body) -> Vec<u8> {
    Entry {
        time: 0,
        clock_behind_seconds: 0,
        body,
    }
    .to_cbor()
}

fn enrolment(enrolment: &Enrolment) -> Map {
    Map::new()
        .with(1, bytes(enrolment.fingerprint))
        .with(2, enrolment.identity_certificate.clone())
        .with_array(3, enrolment.device_cas.iter().map(orders::device_ca))
        .with(4, key::cose_key(&enrolment.serial_master))
        .with(5, enrolment.dispatch_epoch)
}

fn dispatches(chain: &DispatchChain) -> Map {
    let seen = chain
        .seen
        .iter()
        .map(|((epoch, sequence), fingerprint)| numbered_digest(*epoch, *sequence, *fingerprint));
    Map::new()
        .with_nullable(1, chain.epoch)
        .with(2, chain.sequence)
        .with_nullable(3, chain.fingerprint.map(bytes))
        .with_array(4, seen)
}

/// The files that were pruned; left out where none was.
fn pruned(pruned: &BTreeMap<u64, PrunedRecords>) -> Option<Value> {
    let files = pruned.values();
    let files = files.map(|file| numbered_digest(file.first, file.end, file.digest));
    (!pruned.is_empty()).then(|| array(files))
}

fn read_pruned(fields: &mut Fields) -> Result<BTreeMap<u64, PrunedRecords>, Error> {
    let Some(files) = fields.optional(36) else {
        return Ok(BTreeMap::new());
    };
    let files: Option<_> = files.into_array().ok().and_then(|files| {
        let read = files.into_iter().map(|file| {
            let (first, end, digest) = read_numbered_digest(file)?;
            Some((first, PrunedRecords { first, end, digest }))
        });
        read.collect()
    });
    files.ok_or_else(|| fields.wrong(36, "not files that were pruned"))
}

fn bundles(chain: &BundleChain) -> Map {
    let sealed = chain
        .sealed
        .iter()
        .map(|(sequence, bundle)| numbered_digest(*sequence, bundle.log_size, bundle.fingerprint));
    Map::new()
        .with(1, chain.sequence)
        .with_nullable(2, chain.fingerprint.map(bytes))
        .with(3, chain.log_size)
        .with_array(4, sealed)
        .with(5, chain.acknowledged)
        .with(6, chain.acknowledged_log_size)
}

fn entitlement(granted: &Granted) -> Map {
    Map::new()
        .with(1, granted.version)
        .with(2, bytes(granted.fingerprint))
        .with(3, granted.terms.to_cbor())
        .with(4, granted.accepted_at.number())
        .with_nullable(5, granted.revoked.as_ref().map(orders::revoked))
        .with(6, orders::orders(&granted.versions))
}

fn account(account: &Account) -> Map {
    let counts = [
        account.authorised,
        account.next_slot,
        account.good,
        account.scrapped,
        account.voided,
        account.unresolved,
        account.hour.window,
        account.hour.units,
        account.day.window,
        account.day.units,
        account.burned,
    ];
    let days = account
        .days
        .iter()
        .map(|day| numbers([day.window, day.units]));
    Map::new()
        .with(1, account.tag.number())
        .with(2, account.entitlement.as_str())
        .with(3, account.sku.as_str())
        .with(4, numbers(counts))
        .with(5, array(days))
}

fn reservation((sequence, open): (&LogSequence, &OpenReservation)) -> Map {
    Map::new()
        .with(1, sequence.number())
        .with(2, open.account.number())
        .with(3, open.slot)
        .with(4, open.issue)
        .with(5, open.device_id.as_str())
        .with(6, bytes(open.spki_sha256))
        .with(7, open.tbs.clone())
        .with(8, orders::labels(&open.keys))
        .with(9, open.unresolved)
}

fn read(bytes: &[u8]) -> Result<State, Error> {
    let mut fields = Fields::decode(WHAT, bytes, STATE_BYTES_MAX)?;
    if fields.uint(0)? != FORMAT {
        return Err(fields.wrong(0, "another version of the format"));
    }
    let mut state = State::new();
    state.size = fields.uint(1)?;
    let frontier = Frontier::from_bytes(&fields.bytes(2)?);
    state.frontier = frontier.ok_or_else(|| fields.wrong(2, "not a Merkle frontier"))?;
    if state.frontier.size() != state.size {
        return Err(fields.wrong(2, "a Merkle frontier of another size"));
    }
    state.mark = fields.uint(3)?;
    state.genesis = fields
        .nullable(4)?
        .map(|value| read_genesis(&fields, value))
        .transpose()?;
    if let Some(lineage) = fields.nullable(5)? {
        let lineage = lineage
            .as_bytes()
            .and_then(|bytes| bytes.as_slice().try_into().ok());
        state.lineage = Some(lineage.ok_or_else(|| fields.wrong(5, "not a lineage"))?);
    }
    state.boot = fields.uint(6)?;
    state.rules_version = fields.uint32(7)?;
    state.trust = fields
        .nullable(8)?
        .map(|value| read_trust(&fields, value))
        .transpose()?;
    state.enrolment = fields
        .nullable(9)?
        .map(read_enrolment)
        .transpose()?
        .map(Arc::new);
    state.dispatches = read_dispatches(fields.map(10, WHAT)?)?;
    state.bundles = read_bundles(fields.map(11, WHAT)?)?;
    for value in fields.array(12, COUNT_MAX)? {
        let granted = read_entitlement(value)?;
        state.entitlements.insert(granted.terms.id.clone(), granted);
    }
    for value in fields.array(13, COUNT_MAX)? {
        let account = read_account(value)?;
        state.accounts.insert(account.tag, account);
    }
    for value in fields.array(14, COUNT_MAX)? {
        let (sequence, open) = read_reservation(value)?;
        state.open_units.insert((open.account, open.slot, sequence));
        state.reservations.insert(sequence, open);
    }
    state.units = fields.uint(15)?;
    let unreported = Unreported::from_value(fields.array(16, COUNT_MAX)?);
    state.unreported = unreported.ok_or_else(|| fields.wrong(16, "not units by their records"))?;
    state.answers_logged = fields.uint(17)?;
    state.units_since_bundle = fields.uint(18)?;
    if let Some(noteworthy) = fields.nullable(19)? {
        let number = noteworthy
            .as_integer()
            .and_then(|number| u64::try_from(number).ok());
        state.noteworthy = Some(number.ok_or_else(|| fields.wrong(19, "not a number"))?);
    }
    state.pending = fields
        .nullable(20)?
        .map(|value| read_pending(&fields, value))
        .transpose()?;
    state.revocations = orders::read_orders(&mut fields, 21)?;
    state.clock_corrections = orders::read_orders(&mut fields, 22)?;
    state.reanchors = orders::read_orders(&mut fields, 23)?;
    state.disabled = orders::read_revoked(&mut fields, 24)?;
    state.rotation = orders::read_rotation(&mut fields, 25)?;
    state.keys = orders::read_keys(&mut fields, 26)?;
    state.taken_back = taken::read_taken_back(&mut fields, 29)?;
    state.crls = taken::read_crls(&mut fields, 31)?;
    state.clock = taken::read_clock(fields.map(32, WHAT)?)?;
    state.anchor = taken::read_anchor(fields.map(33, WHAT)?)?;
    state.restores = restores::read(fields.map(34, WHAT)?)?;
    state.stations = stations::read(fields.map(35, WHAT)?)?;
    state.pruned = read_pruned(&mut fields)?;
    // Left out where nothing was reserved yet, and by programs before this was kept: HQ goes on with what they wrote, and
    // does not ask for it; a vault reads its log once more (see `snapshot`).
    if let Some(newest) = fields.optional(37) {
        let number = newest.as_integer().and_then(|n| u64::try_from(n).ok());
        let number = number.ok_or_else(|| fields.wrong(37, "not a number"))?;
        state.newest_reservation = Some(LogSequence(number));
    }
    fields.finish()?;
    state.recompile();
    Ok(state)
}

fn read_genesis(fields: &Fields, value: Value) -> Result<Genesis, Error> {
    let record = value
        .into_bytes()
        .map_err(|_| fields.wrong(4, "a record was expected"))?;
    match Entry::from_cbor(&record)?.body {
        Body::Genesis(genesis) => Ok(genesis),
        _ => Err(fields.wrong(4, "a genesis was expected")),
    }
}

fn read_trust(fields: &Fields, value: Value) -> Result<Trust, Error> {
    let (version, dispatch_epoch, fingerprint) = read_trusted(value)
        .ok_or_else(|| fields.wrong(8, "a version, a digest and an epoch were expected"))?;
    Ok(Trust {
        version,
        fingerprint,
        dispatch_epoch,
    })
}

fn read_trusted(value: Value) -> Option<(u64, u64, Fingerprint)> {
    let [version, digest, epoch] = <[Value; 3]>::try_from(value.into_array().ok()?).ok()?;
    let number = |value: Value| u64::try_from(value.as_integer()?).ok();
    let digest = Fingerprint::try_from(digest.as_bytes()?.as_slice()).ok()?;
    Some((number(version)?, number(epoch)?, digest))
}

fn read_pending(fields: &Fields, value: Value) -> Result<Pending, Error> {
    match value {
        Value::Array(names) => {
            let names: Option<Vec<String>> = names
                .into_iter()
                .map(|name| name.into_text().ok())
                .collect();
            let Some([product, station]) = names.as_deref() else {
                return Err(fields.wrong(20, "a product and a station were expected"));
            };
            Ok(Pending::Request {
                product: product.parse()?,
                station: station.parse()?,
            })
        }
        Value::Bytes(record) => match Entry::from_cbor(&record)?.body {
            Body::Dispatch(dispatch) => Ok(Pending::Dispatch(Box::new(dispatch))),
            Body::Device(order) => Ok(Pending::Device(Box::new(order))),
            Body::ClockConfirm { steady } => Ok(Pending::ClockConfirm { steady }),
            Body::Station(order) => Ok(Pending::Station(Box::new(order))),
            _ => Err(fields.wrong(20, "a dispatch was expected")),
        },
        _ => Err(fields.wrong(20, "an input was expected")),
    }
}

fn read_enrolment(value: Value) -> Result<Enrolment, Error> {
    let mut fields = Fields::new(WHAT, value)?;
    let enrolment = Enrolment {
        fingerprint: fields.octets(1)?,
        identity_certificate: fields.bytes(2)?,
        device_cas: fields
            .array(3, COUNT_MAX)?
            .into_iter()
            .map(orders::read_device_ca)
            .collect::<Result<_, _>>()?,
        serial_master: key::from_cose_key(WHAT, fields.required(4)?)?,
        dispatch_epoch: fields.uint(5)?,
    };
    fields.finish()?;
    Ok(enrolment)
}

fn read_dispatches(mut fields: Fields) -> Result<DispatchChain, Error> {
    let epoch = match fields.nullable(1)? {
        None => None,
        Some(value) => {
            let epoch = value
                .as_integer()
                .and_then(|epoch| u64::try_from(epoch).ok());
            Some(epoch.ok_or_else(|| fields.wrong(1, "not a number"))?)
        }
    };
    let mut chain = DispatchChain {
        epoch,
        sequence: fields.uint(2)?,
        fingerprint: fields.nullable_fingerprint(3)?,
        ..DispatchChain::default()
    };
    for value in fields.array(4, COUNT_MAX)? {
        let (epoch, sequence, fingerprint) =
            read_numbered_digest(value).ok_or_else(|| fields.wrong(4, "not a dispatch"))?;
        chain.seen.insert((epoch, sequence), fingerprint);
    }
    fields.finish()?;
    Ok(chain)
}

fn read_bundles(mut fields: Fields) -> Result<BundleChain, Error> {
    let mut chain = BundleChain {
        sequence: fields.uint(1)?,
        fingerprint: fields.nullable_fingerprint(2)?,
        log_size: fields.uint(3)?,
        acknowledged: fields.uint(5)?,
        acknowledged_log_size: fields.uint(6)?,
        ..BundleChain::default()
    };
    for value in fields.array(4, COUNT_MAX)? {
        let (sequence, log_size, fingerprint) =
            read_numbered_digest(value).ok_or_else(|| fields.wrong(4, "not a bundle"))?;
        chain.sealed.insert(
            sequence,
            SealedBundle {
                fingerprint,
                log_size,
            },
        );
    }
    fields.finish()?;
    Ok(chain)
}

fn read_entitlement(value: Value) -> Result<Granted, Error> {
    let mut fields = Fields::new(WHAT, value)?;
    let granted = Granted {
        version: fields.uint(1)?,
        fingerprint: fields.octets(2)?,
        terms: Arc::new(Entitlement::from_cbor(&fields.bytes(3)?)?),
        accepted_at: LogSequence(fields.uint(4)?),
        revoked: orders::read_revoked(&mut fields, 5)?,
        versions: orders::read_orders(&mut fields, 6)?,
    };
    fields.finish()?;
    Ok(granted)
}

fn tag(fields: &mut Fields, key: i64) -> Result<AccountTag, Error> {
    AccountTag::new(fields.uint(key)?).ok_or_else(|| fields.wrong(key, "not an account tag"))
}

fn read_account(value: Value) -> Result<Account, Error> {
    let mut fields = Fields::new(WHAT, value)?;
    let mut account = Account::new(tag(&mut fields, 1)?, fields.parse(2)?, fields.parse(3)?, 0);
    let counts = Numbers::read(fields.required(4)?);
    let Numbers(counts) = counts.ok_or_else(|| fields.wrong(4, "not eleven counts"))?;
    let [
        authorised,
        next_slot,
        good,
        scrapped,
        voided,
        unresolved,
        hour,
        in_hour,
        day,
        in_day,
        burned,
    ] = counts;
    account.burned = burned;
    for value in fields.array(5, DAYS_KEPT_MAX)? {
        let day = Numbers::read(value).ok_or_else(|| fields.wrong(5, "not the units of a day"))?;
        let Numbers([window, units]) = day;
        account.days.push(WindowCount { window, units });
    }
    account.authorised = authorised;
    account.next_slot = next_slot;
    account.good = good;
    account.scrapped = scrapped;
    account.voided = voided;
    account.unresolved = unresolved;
    account.hour = WindowCount {
        window: hour,
        units: in_hour,
    };
    account.day = WindowCount {
        window: day,
        units: in_day,
    };
    fields.finish()?;
    Ok(account)
}

fn read_reservation(value: Value) -> Result<(LogSequence, OpenReservation), Error> {
    let mut fields = Fields::new(WHAT, value)?;
    let sequence = LogSequence(fields.uint(1)?);
    let open = OpenReservation {
        account: tag(&mut fields, 2)?,
        slot: fields.uint(3)?,
        issue: u16::try_from(fields.uint(4)?).map_err(|_| fields.wrong(4, "too large"))?,
        device_id: fields.parse(5)?,
        spki_sha256: fields.octets(6)?,
        tbs: fields.bytes(7)?,
        keys: fields.texts(8, KEYS_MAX)?,
        unresolved: match fields.required(9)? {
            Value::Bool(unresolved) => unresolved,
            _ => return Err(fields.wrong(9, "true or false was expected")),
        },
    };
    fields.finish()?;
    Ok((sequence, open))
}
