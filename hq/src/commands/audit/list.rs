//! `hq audit list`: the bundles that headquarters holds.

use std::path::Path;

use mintmark_console::time::rfc3339;
use mintmark_console::{Align, Console, Exit, Failure, Table};
use mintmark_protocol::identifier::SiteId;
use serde_json::json;

use super::bundle_json;
use crate::commands::say;
use crate::home::Home;
use crate::registry::bundles;

pub(super) fn run(
    home: Option<&Path>,
    site: Option<&SiteId>,
    console: &Console,
) -> Result<Exit, Failure> {
    let registry = Home::read_hq(home)?.registry()?;
    let mut held = bundles::all(&registry.sql)?;
    held.retain(|bundle| site.is_none_or(|site| bundle.vault.site == *site));
    if console.is_json() {
        let bundles: Vec<_> = held.iter().map(bundle_json).collect();
        let json = json!({ "schema": "mintmark/audit/1", "bundles": bundles });
        return say(console, &json, []);
    }
    if held.is_empty() {
        console.line("no bundle has been imported");
        return Ok(Exit::Done);
    }
    // The fingerprints would double the width: JSON has them, and `hq audit show`.
    let mut table = Table::new([
        ("SITE", Align::Left),
        ("VAULT", Align::Left),
        ("SEQUENCE", Align::Right),
        ("RECORDS", Align::Right),
        ("LOG SIZE", Align::Right),
        ("UP TO", Align::Left),
        ("IMPORTED", Align::Left),
        ("ACKNOWLEDGED", Align::Left),
    ]);
    for bundle in held {
        table.row([
            bundle.vault.site.to_string(),
            bundle.vault.vault.to_string(),
            bundle.sequence.to_string(),
            bundle.log_size.saturating_sub(bundle.first).to_string(),
            bundle.log_size.to_string(),
            rfc3339(bundle.checkpoint_time),
            rfc3339(bundle.imported_at),
            if bundle.acknowledged { "yes" } else { "no" }.to_owned(),
        ]);
    }
    console.table(&table);
    Ok(Exit::Done)
}
