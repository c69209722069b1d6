//! `site audit list`.

use std::path::Path;

use mintmark_console::time::rfc3339;
use mintmark_console::{Align, Console, Exit, Table};
use serde::Serialize;

use super::super::json;
use super::sealed;
use crate::failure::Result;
use crate::vault::reading::Reading;

#[derive(Serialize)]
struct Report {
    schema: &'static str,
    bundles: Vec<Row>,
}

#[derive(Serialize)]
struct Row {
    sequence: u64,
    fingerprint: String,
    log_size: u64,
    sealed_at: String,
    acknowledged: bool,
}

/// Lists the bundles.
pub(super) fn execute(home: Option<&Path>, console: &Console) -> Result<Exit> {
    let reading = Reading::open(home, console)?;
    let acknowledged = reading.state().bundles().acknowledged;
    let bundles: Vec<Row> = sealed(reading.view())?
        .into_iter()
        .map(|(time, bundle)| Row {
            sequence: bundle.sequence,
            fingerprint: bundle.fingerprint.to_string(),
            log_size: bundle.log_size,
            sealed_at: rfc3339(time),
            acknowledged: bundle.sequence <= acknowledged,
        })
        .collect();
    if console.is_json() {
        return json(
            console,
            &Report {
                schema: "mintmark/bundle/1",
                bundles,
            },
        );
    }
    let mut table = Table::new([
        ("bundle", Align::Right),
        ("sealed at", Align::Left),
        ("records", Align::Right),
        ("acknowledged", Align::Left),
        ("fingerprint", Align::Left),
    ]);
    for row in bundles {
        table.row([
            row.sequence.to_string(),
            row.sealed_at,
            row.log_size.to_string(),
            if row.acknowledged { "yes" } else { "no" }.to_owned(),
            row.fingerprint,
        ]);
    }
    console.table(&table);
    Ok(Exit::Done)
}
