//! Stations in the naive vault, and what somebody at the vault and the stations themselves do.

use std::ops::Range;

use mintmark_protocol::entitlement::Interval;
use mintmark_protocol::identifier::StationId;
use proptest::prelude::*;

use super::super::fixture::*;
use super::super::stations::{certified, station_ca};
use super::rules::{Model, PRODUCTS};
use super::{Step, Vault};
use crate::decide::Input;
use crate::entry::{StationChange, StationOrder, StationTerms};
use crate::ledger::{Fact, Outcome};

/// Who may ask for certificates: the vault's own console, and stations.
pub(super) const STATIONS: [&str; 3] = ["console", "line-1", "line-2"];
/// The vault's own console.
pub(super) const CONSOLE: usize = 0;
/// The stations that officers let ask for each product.
pub(super) const ALLOWED: [Option<&[usize]>; 2] = [None, Some(&[CONSOLE, 1])];

const STATIONS_SECONDS: u64 = 40 * DAY;

/// What a station may do.
#[derive(Clone, Debug)]
pub(super) struct Terms {
    /// One product alone.
    product: Option<usize>,
    units_per_day: Option<u64>,
    /// For how long from now on.
    seconds: u64,
    /// When it works, in seconds from now on.
    hours: Option<Range<u64>>,
}

impl Terms {
    /// All that officers allow, for a long time.
    fn wide() -> Self {
        Self {
            product: None,
            units_per_day: None,
            seconds: STATIONS_SECONDS,
            hours: None,
        }
    }
}

/// A station that was let in.
#[derive(Clone, Debug)]
pub(super) struct Station {
    key: u8,
    product: Option<usize>,
    units_per_day: Option<u64>,
    until: u64,
    hours: Option<Range<u64>>,
    revoked: bool,
}

pub(super) fn step() -> impl Strategy<Value = Step> {
    let hours = (0..2 * DAY, 1..DAY).prop_map(|(from, length)| from..from + length);
    let terms = (
        prop::option::weighted(0.3, 0..PRODUCTS.len()),
        prop::option::weighted(0.6, 0..3_u64),
        prop_oneof![8 => 1..10 * DAY, 8 => Just(STATIONS_SECONDS), 1 => Just(0)],
        prop::option::weighted(0.3, hours),
    );
    let terms = terms.prop_map(|(product, units_per_day, seconds, hours)| Terms {
        product,
        units_per_day,
        seconds,
        hours,
    });
    prop_oneof![
        // Another key for the same station is what a rotation is.
        3 => (station(), 0..4_u8, terms)
            .prop_map(|(station, key, terms)| Step::LetIn { station, key, terms }),
        1 => station().prop_map(|station| Step::ShutOut { station }),
    ]
}

fn station() -> impl Strategy<Value = usize> {
    prop_oneof![1 => Just(CONSOLE), 10 => Just(1), 10 => Just(2)]
}

/// Who asks.
pub(super) fn asking() -> impl Strategy<Value = usize> {
    prop_oneof![3 => Just(CONSOLE), 3 => Just(1), 1 => Just(2)]
}

pub(super) fn id(station: usize) -> StationId {
    STATIONS[station].parse().unwrap()
}

impl Model {
    /// Why a station may not ask for a product at all.
    pub(super) fn silent(&self, now: u64, station: usize, product: usize) -> Option<&'static str> {
        if station == CONSOLE {
            return None;
        }
        let Some(known) = self.stations.get(&station) else {
            return Some("STATION-UNKNOWN");
        };
        if known.revoked {
            Some("STATION-REVOKED")
        } else if known.until <= self.time(now) {
            Some("STATION-EXPIRED")
        } else if known.product.is_some_and(|only| only != product) {
            Some("STATION-PRODUCT-NOT-ALLOWED")
        } else {
            None
        }
    }

    /// Whether it does not work now.
    pub(super) fn off(&self, now: u64, station: usize) -> Option<&'static str> {
        let hours = self.stations.get(&station)?.hours.as_ref()?;
        (!hours.contains(&self.time(now))).then_some("STATION-OUT-OF-HOURS")
    }

    /// Whether it had its units of the day.
    pub(super) fn sated(&self, now: u64, station: usize) -> Option<&'static str> {
        let most = self.stations.get(&station)?.units_per_day?;
        let today = self.time(now) / DAY;
        let had = self.units_of(station).filter(|time| time / DAY == today);
        (had.count() as u64 >= most).then_some("STATION-RATE-DAY")
    }

    /// Whether officers let it ask for others alone.
    pub(super) fn strange(station: usize, product: usize) -> Option<&'static str> {
        let allowed = ALLOWED[product].is_none_or(|stations| stations.contains(&station));
        (!allowed).then_some("STATION-NOT-ALLOWED")
    }

    /// What is decided when a station is to be let in; what it does is done.
    fn let_in(&mut self, now: u64, station: usize, made: Station) -> &'static str {
        if station == CONSOLE {
            return "STATION-NAME-RESERVED";
        }
        if made.until <= self.time(now) {
            return "STATION-END-PAST";
        }
        let mut others = self.stations.iter().filter(|(other, _)| **other != station);
        if others.any(|(_, other)| !other.revoked && other.key == made.key) {
            return "STATION-KEY-TAKEN";
        }
        self.stations.insert(station, made);
        "accepted"
    }

    /// What is decided when a station is to be shut out; what it does is done.
    fn shut_out(&mut self, station: usize) -> &'static str {
        match self.stations.get_mut(&station) {
            None => "STATION-UNKNOWN",
            Some(known) if known.revoked => "STATION-REVOKED",
            Some(known) => {
                known.revoked = true;
                "accepted"
            }
        }
    }
}

impl Vault {
    /// The station CA comes on record, and one station is let in.
    pub(super) fn open_the_line(&mut self) {
        self.ready();
        let (_, issuer) = station_ca();
        let certificate = issuer.certificate_der().to_vec();
        assert!(self.record(Fact::StationCa { certificate }));
        self.let_in(1, 0, &Terms::wide());
    }

    pub(super) fn let_in(&mut self, station: usize, key: u8, terms: &Terms) {
        self.ready();
        let time = self.live.time(self.now);
        let made = Station {
            key,
            product: terms.product,
            units_per_day: terms.units_per_day,
            until: time + terms.seconds,
            hours: terms
                .hours
                .as_ref()
                .map(|of| time + of.start..time + of.end),
            revoked: false,
        };
        let written = StationTerms {
            products: made.product.map(|only| vec![sku(PRODUCTS[only])]),
            units_per_day: made.units_per_day,
            until: made.until,
            working_hours: made.hours.as_ref().map(|hours| {
                let (from, until) = (hours.start, hours.end);
                vec![Interval { from, until }]
            }),
        };
        let (ca_key, _) = station_ca();
        let number = 7_100 + u64::from(key);
        let mut order = certified(STATIONS[station], number, &ca_key, made.until);
        if let StationChange::Approve(approval) = &mut order.change {
            approval.terms = written;
        }
        let expected = self.live.let_in(self.now, station, made);
        assert_eq!(self.order_station(&order), expected);
    }

    pub(super) fn shut_out(&mut self, station: usize) {
        self.ready();
        let expected = self.live.shut_out(station);
        let reason = "it was stolen".to_owned();
        let order = StationOrder {
            station: id(station),
            change: StationChange::Revoke { reason },
        };
        assert_eq!(self.order_station(&order), expected);
    }

    fn order_station(&mut self, order: &StationOrder) -> String {
        match self.submit(Input::Station(order)) {
            Outcome::Accepted => "accepted".to_owned(),
            Outcome::Refused(refusal) => refusal.code().to_owned(),
            other => panic!("{other:?}"),
        }
    }

    /// The stations are those of the model, with as many units today.
    pub(super) fn expect_stations(&self) {
        let state = self.ledger.as_ref().unwrap().state();
        assert_eq!(state.stations().count(), self.live.stations.len());
        for (station, known) in &self.live.stations {
            let told = state.station(&id(*station)).unwrap();
            assert_eq!(told.revoked.is_some(), known.revoked);
            assert_eq!(told.approval.terms.until, known.until);
            let today = self.live.mark / DAY;
            let had = self.live.units_of(*station);
            let had = had.filter(|time| time / DAY == today).count();
            assert_eq!(told.day.units_in(today), had as u64);
        }
    }
}
