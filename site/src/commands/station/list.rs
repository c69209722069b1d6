//! `site station list`: who may ask this vault over the network.

use std::path::Path;

use mintmark_console::time::rfc3339;
use mintmark_console::{Align, Console, Exit, Style, Table};
use mintmark_ledger::state::{State, Station};
use serde::Serialize;

use super::super::{json, now};
use crate::failure::Result;
use crate::home::Home;
use crate::vault::reading;

/// What `site station list` is told.
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {}

#[derive(Serialize)]
struct Report {
    schema: &'static str,
    stations: Vec<Row>,
}

#[derive(Serialize)]
struct Row {
    station: String,
    /// `approved`, `expired` or `revoked`.
    state: &'static str,
    since: String,
    until: String,
    /// None: whatever entitlements allow.
    products: Option<Vec<String>>,
    units_per_day: Option<u64>,
    /// Of the UTC day that it is.
    units_today: u64,
    working_hours: bool,
    certificate_sha256: String,
    revoked_at: Option<String>,
    reason: Option<String>,
}

const SECONDS_PER_DAY: u64 = 86_400;

impl Row {
    fn new(station: &Station, time: u64) -> Self {
        let terms = &station.approval.terms;
        let revoked = station.revoked.as_ref();
        let products = terms.products.as_ref();
        Self {
            station: station.id.to_string(),
            state: match revoked {
                Some(_) => "revoked",
                None if time >= terms.until => "expired",
                None => "approved",
            },
            since: rfc3339(station.since),
            until: rfc3339(terms.until),
            products: products.map(|products| products.iter().map(ToString::to_string).collect()),
            units_per_day: terms.units_per_day,
            units_today: station.day.units_in(time / SECONDS_PER_DAY),
            working_hours: terms.working_hours.is_some(),
            certificate_sha256: station.certificate_sha256.to_string(),
            revoked_at: revoked.map(|revoked| rfc3339(revoked.time)),
            reason: revoked.map(|revoked| revoked.reason.clone()),
        }
    }
}

/// Shows them.
pub(super) fn execute(_: &Arguments, home: Option<&Path>, console: &Console) -> Result<Exit> {
    let home = Home::open(home)?;
    let view = reading::view(&home, console)?;
    let report = Report {
        schema: "mintmark/stations/1",
        stations: rows(view.state()),
    };
    if console.is_json() {
        return json(console, &report);
    }
    if report.stations.is_empty() {
        console.line("no station was let in");
        console
            .note("next: `site station request` on the station, then `site station approve` here");
        return Ok(Exit::Done);
    }
    let mut table = Table::new([
        ("station", Align::Left),
        ("state", Align::Left),
        ("until", Align::Left),
        ("products", Align::Left),
        ("units today", Align::Right),
    ]);
    for row in &report.stations {
        let style = match row.state {
            "approved" => Style::Good,
            "expired" => Style::Warn,
            _ => Style::Bad,
        };
        let products = row.products.as_ref();
        let products = products.map_or("any".to_owned(), |products| products.join(", "));
        let of = row.units_per_day.map(|most| format!(" of {most}"));
        table.row([
            row.station.clone(),
            console.styled(style, row.state),
            row.until.clone(),
            products,
            format!("{}{}", row.units_today, of.unwrap_or_default()),
        ]);
    }
    console.table(&table);
    Ok(Exit::Done)
}

fn rows(state: &State) -> Vec<Row> {
    let time = state.time_at(now());
    let stations = state.stations();
    stations.map(|station| Row::new(station, time)).collect()
}
