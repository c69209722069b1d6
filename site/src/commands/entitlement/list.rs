//! `site entitlement list`.

use std::path::Path;

use mintmark_console::{Align, Console, Exit, Table};
use serde::Serialize;

use super::super::{json, now};
use super::Summary;
use crate::failure::Result;
use crate::vault::reading::Reading;

#[derive(Serialize)]
struct Report {
    schema: &'static str,
    entitlements: Vec<Summary>,
}

/// Lists what is in force.
pub(super) fn execute(home: Option<&Path>, console: &Console) -> Result<Exit> {
    let reading = Reading::open(home, console)?;
    let state = reading.state();
    let now = now().max(state.mark());
    let granted = state.entitlements().values();
    let entitlements: Vec<Summary> = granted
        .map(|granted| Summary::new(granted, state, now))
        .collect();
    if console.is_json() {
        return json(
            console,
            &Report {
                schema: "mintmark/entitlement/1",
                entitlements,
            },
        );
    }
    if entitlements.is_empty() {
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
    console.table(&table);
    Ok(Exit::Done)
}
