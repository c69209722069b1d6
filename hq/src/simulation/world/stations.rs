//! What becomes of the stations of a vault.

use mintmark_ledger::entry::StationTerms;
use mintmark_protocol::entitlement::Interval;
use mintmark_protocol::identifier::StationId;

use super::super::SITES;
use super::super::vault::Answer;
use super::{DAY, HOUR, PRODUCT, World};

/// The stations that a vault may let in.
const STATIONS: [&str; 3] = ["line-1", "line-2", "line-3"];

impl World {
    /// Who asks: the vault's own console, or a station that may be let in, shut out, or neither.
    pub(super) fn some_station(&mut self) -> StationId {
        match self.random.pick(&STATIONS).copied() {
            Some(station) if self.random.chance(50) => station.parse().unwrap(),
            _ => StationId::console(),
        }
    }

    /// Somebody at the vault lets a station in, lets it in again with another key or to do something else, or shuts it out.
    pub(super) fn change_station(&mut self, vault: usize) {
        let Some(name) = self.random.pick(&STATIONS).copied() else {
            return;
        };
        let (site, station) = (SITES[vault], name.parse().unwrap());
        if self.random.chance(25) {
            let answer = self.vaults[vault].shut_out(self.now, &station);
            self.note(format_args!("{site} shuts {name} out: {answer:?}"));
            return;
        }
        let (key, terms) = (self.random.below(6), self.station_terms(vault));
        let what = format!("{terms:?}");
        let answer = self.vaults[vault].let_in(self.now, &station, key, terms);
        self.note(format_args!(
            "{site} lets {name} in with key {key}, {what}: {answer:?}"
        ));
        if answer == Answer::Issued {
            self.count("stations let in");
        }
    }

    fn station_terms(&mut self, vault: usize) -> StationTerms {
        let time = self.vaults[vault].state().mark().max(self.now);
        let (some, only, works) = (
            self.random.chance(60),
            self.random.chance(20),
            self.random.chance(20),
        );
        let from = time + self.random.below(20) * HOUR;
        StationTerms {
            products: only.then(|| vec![PRODUCT.parse().unwrap()]),
            units_per_day: some.then(|| self.random.between(1, 4)),
            until: time + self.random.between(1, 40) * DAY,
            working_hours: works.then(|| {
                vec![Interval {
                    from,
                    until: from + DAY,
                }]
            }),
        }
    }
}
