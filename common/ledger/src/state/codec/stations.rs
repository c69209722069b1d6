//! How what is known of stations is kept in a snapshot.

use ciborium::Value;
use mintmark_protocol::Error;
use mintmark_protocol::cbor::{Fields, Map};
use mintmark_protocol::identifier::Fingerprint;

use super::{COUNT_MAX, Numbers, WHAT, numbers, record};
use crate::entry::{Body, Entry, LogSequence, StationChange, StationOrder};
use crate::state::WindowCount;
use crate::state::stations::{Station, StationRevoked, Stations};

pub(super) fn stations(stations: &Stations) -> Map {
    Map::new()
        .with_some(1, stations.ca.clone())
        .with_array(2, stations.known.values().map(station))
}

fn station(station: &Station) -> Map {
    let order = StationOrder {
        station: station.id.clone(),
        change: StationChange::Approve(Box::new(station.approval.clone())),
    };
    let revoked = station.revoked.as_ref();
    Map::new()
        .with(1, record(Body::Station(order)))
        .with(
            2,
            numbers([
                station.approved_at.number(),
                station.since,
                station.day.window,
                station.day.units,
            ]),
        )
        .with_some(3, revoked.map(|revoked| revoked.time))
        .with_some(4, revoked.map(|revoked| revoked.reason.as_str()))
}

pub(super) fn read(mut fields: Fields) -> Result<Stations, Error> {
    let mut stations = Stations::default();
    if let Some(ca) = fields.optional(1) {
        let ca = ca.into_bytes();
        stations.ca = Some(ca.map_err(|_| fields.wrong(1, "a certificate was expected"))?);
    }
    for value in fields.array(2, COUNT_MAX)? {
        let station = read_station(value)?;
        stations.known.insert(station.id.clone(), station);
    }
    fields.finish()?;
    Ok(stations)
}

fn read_station(value: Value) -> Result<Station, Error> {
    let mut fields = Fields::new(WHAT, value)?;
    let Body::Station(StationOrder {
        station: id,
        change: StationChange::Approve(approval),
    }) = Entry::from_cbor(&fields.bytes(1)?)?.body
    else {
        return Err(fields.wrong(1, "a station was expected"));
    };
    let counts = Numbers::read(fields.required(2)?);
    let Numbers([approved_at, since, window, units]) =
        counts.ok_or_else(|| fields.wrong(2, "not four numbers"))?;
    let revoked = match fields.optional_uint(3)? {
        None => None,
        Some(time) => Some(StationRevoked {
            time,
            reason: fields.text(4)?,
        }),
    };
    fields.finish()?;
    Ok(Station {
        certificate_sha256: Fingerprint::of(&approval.certificate),
        id,
        approved_at: LogSequence(approved_at),
        since,
        approval: *approval,
        revoked,
        day: WindowCount { window, units },
    })
}
