//! `site entitlement list`.

use std::path::Path;

use mintmark_console::{Align, Console, Exit, Table};
use serde::Serialize;

use super::super::{json, now};
use super::Summary;
use super::history::{self, Version};
use crate::failure::Result;
use crate::vault::reading::Reading;

#[derive(Serialize)]
struct Report {
    schema: &'static str,
    entitlements: Vec<Summary>,
    /// Versions that others took the place of.
    superseded: Vec<Version>,
    /// Versions that have no effect.
    refused: Vec<Version>,
}

/// Lists what is in force, what was, and what was refused.
pub(super) fn execute(home: Option<&Path>, console: &Console) -> Result<Exit> {
    let reading = Reading::open(home, console)?;
    let state = reading.state();
    let now = state.time_at(now());
    let granted = state.entitlements().values();
    let entitlements: Vec<Summary> = granted
        .map(|granted| Summary::new(granted, state, now))
        .collect();
    let mut superseded = history::read(reading.view())?;
    superseded.retain(|version| version.state != "accepted");
    let (refused, superseded): (Vec<_>, Vec<_>) = superseded
        .into_iter()
        .partition(|version| version.state == "refused");
    if console.is_json() {
        return json(
            console,
            &Report {
                schema: "mintmark/entitlement/1",
                entitlements,
                superseded,
                refused,
            },
        );
    }
    if entitlements.is_empty() && refused.is_empty() {
        console.note("headquarters has granted nothing yet; see `site status`");
        return Ok(Exit::Done);
    }
    let mut table = Table::new([
        ("entitlement", Align::Left),
        ("version", Align::Right),
        ("state", Align::Left),
        ("from", Align::Left),
        ("until", Align::Left),
        ("product", Align::Left),
        ("units", Align::Right),
        ("spent", Align::Right),
    ]);
    for entitlement in &entitlements {
        for product in &entitlement.products {
            table.row([
                entitlement.id.clone(),
                entitlement.version.to_string(),
                entitlement.state.to_owned(),
                entitlement.valid_from.clone(),
                entitlement.valid_until.clone(),
                product.product.clone(),
                product.units.to_string(),
                product.spent.to_string(),
            ]);
        }
    }
    if !entitlements.is_empty() {
        console.table(&table);
    }
    let earlier: Vec<&Version> = superseded.iter().chain(&refused).collect();
    if !earlier.is_empty() {
        console.line("");
        console.table(&versions(&earlier));
    }
    for entitlement in &entitlements {
        for waits in &entitlement.waits_for {
            console.note(format!("{} waits for {waits}", entitlement.id));
        }
    }
    Ok(Exit::Done)
}

/// Versions that are not in force.
pub(super) fn versions(versions: &[&Version]) -> Table {
    let columns = ["entitlement", "version", "state", "code", "at"];
    let mut table = Table::new(columns.map(|name| (name, Align::Left)));
    for version in versions {
        table.row([
            version.id.clone(),
            version.version.to_string(),
            version.state.to_owned(),
            version.code.clone().unwrap_or_default(),
            version.time.clone(),
        ]);
    }
    table
}
