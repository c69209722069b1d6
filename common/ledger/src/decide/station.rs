//! The rules for stations: who may be let in, and what one that was let in may ask for. What officers allow is asked
//! besides; a station never widens it.

use mintmark_protocol::identifier::{Fingerprint, Sku, StationId};

use super::{Decision, Moment};
use crate::entry::{StationApproval, StationChange, StationOrder};
use crate::policy::day_window;
use crate::refusal::{Refusal, StationRefusal};
use crate::state::{STATIONS_MAX, State, Station};

const SECONDS_PER_DAY: u64 = 86_400;

pub(super) fn decide(state: &State, moment: Moment, order: &StationOrder) -> Decision {
    let fits = match &order.change {
        StationChange::Approve(approval) => may_enter(state, moment, &order.station, approval),
        StationChange::Revoke { .. } => known(state, &order.station).map(|_| ()),
    };
    match fits {
        Ok(()) => Decision::ChangeStation,
        Err(refusal) => Decision::Refuse(refusal.into()),
    }
}

fn may_enter(
    state: &State,
    moment: Moment,
    id: &StationId,
    approval: &StationApproval,
) -> Result<(), StationRefusal> {
    if *id == StationId::console() {
        return Err(StationRefusal::NameReserved {
            station: id.clone(),
        });
    }
    let until = approval.terms.until;
    if until <= moment.time {
        return Err(StationRefusal::EndPast {
            station: id.clone(),
            until,
        });
    }
    let others = || {
        let live = state.stations().filter(|other| other.revoked.is_none());
        live.filter(|other| other.id != *id)
    };
    if others().count() >= STATIONS_MAX {
        return Err(StationRefusal::TooMany);
    }
    // One key is one station: what it did is told by its name.
    let spki = |request: &[u8]| {
        let request = mintmark_pki::CertificationRequest::from_der(request).ok()?;
        Some(Fingerprint::new(request.spki_sha256()))
    };
    let key = spki(&approval.request);
    if let Some(other) = others().find(|other| spki(&other.approval.request) == key) {
        return Err(StationRefusal::KeyTaken {
            station: id.clone(),
            other: other.id.clone(),
        });
    }
    Ok(())
}

/// The station, unless it is unknown or was shut out.
fn known<'s>(state: &'s State, id: &StationId) -> Result<&'s Station, StationRefusal> {
    let Some(station) = state.station(id) else {
        return Err(StationRefusal::Unknown {
            station: id.clone(),
        });
    };
    match &station.revoked {
        None => Ok(station),
        Some(revoked) => Err(StationRefusal::Revoked {
            station: id.clone(),
            since: revoked.time,
        }),
    }
}

/// The station that speaks, if it may ask for a product at all; none of the operator at the vault's own console.
pub(super) fn speaks<'s>(
    state: &'s State,
    moment: Moment,
    id: &StationId,
    product: &Sku,
) -> Result<Option<&'s Station>, Refusal> {
    if *id == StationId::console() {
        return Ok(None);
    }
    let station = known(state, id)?;
    let terms = &station.approval.terms;
    if moment.time >= terms.until {
        return Err(StationRefusal::Expired {
            station: id.clone(),
            until: terms.until,
        }
        .into());
    }
    let named = |products: &Vec<Sku>| products.contains(product);
    if !terms.products.as_ref().is_none_or(named) {
        return Err(StationRefusal::ProductNotAllowed {
            station: id.clone(),
            sku: product.clone(),
        }
        .into());
    }
    Ok(Some(station))
}

/// Whether a station works at this time.
pub(super) fn works(station: Option<&Station>, moment: Moment) -> Result<(), Refusal> {
    let Some(station) = station else {
        return Ok(());
    };
    let Some(hours) = &station.approval.terms.working_hours else {
        return Ok(());
    };
    // Intervals are in order and apart, which reading them checked.
    let next = hours.get(hours.partition_point(|interval| interval.until <= moment.time));
    if next.is_some_and(|interval| interval.contains(moment.time)) {
        return Ok(());
    }
    Err(StationRefusal::OutOfHours {
        station: station.id.clone(),
        next: next.map(|interval| interval.from),
    }
    .into())
}

/// Whether a station may have one more unit today.
pub(super) fn may_spend(station: Option<&Station>, moment: Moment) -> Result<(), Refusal> {
    let Some(station) = station else {
        return Ok(());
    };
    let day = day_window(moment.time);
    match station.approval.terms.units_per_day {
        Some(units_per_day) if station.day.units_in(day) >= units_per_day => {
            Err(StationRefusal::RateDay {
                station: station.id.clone(),
                units_per_day,
                next: day.saturating_add(1).saturating_mul(SECONDS_PER_DAY),
            }
            .into())
        }
        _ => Ok(()),
    }
}
