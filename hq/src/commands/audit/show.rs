//! `hq audit show`: one bundle, and what was found in it.

use std::path::Path;

use mintmark_console::time::rfc3339;
use mintmark_console::{Console, Exit, Failure};
use serde_json::json;

use super::{bundle_json, vault_named};
use crate::commands::say;
use crate::failure;
use crate::findings::Finding;
use crate::home::Home;
use crate::registry::{bundles, findings};

pub(super) fn run(
    home: Option<&Path>,
    named: &str,
    sequence: Option<u64>,
    console: &Console,
) -> Result<Exit, Failure> {
    let home = Home::read_hq(home)?;
    let registry = home.registry()?;
    let vault = vault_named(&registry.sql, named)?;
    let held = match sequence {
        Some(sequence) => bundles::find(&registry.sql, &vault.name, &vault.lineage, sequence)?,
        None => bundles::newest_of(&registry.sql, &vault.name)?,
    };
    let held = held.ok_or_else(|| {
        let what = match sequence {
            Some(sequence) => format!("headquarters holds no bundle {sequence} of {}", vault.name),
            None => format!("headquarters holds no bundle of {}", vault.name),
        };
        failure::usage(
            "BUNDLE-UNKNOWN",
            what,
            "`hq audit list` shows which there are",
        )
    })?;
    let mut found = findings::of_records(&registry.sql, &vault.name, held.first, held.log_size)?;
    found.extend(findings::naming_bundle(
        &registry.sql,
        &vault.name,
        &held.fingerprint,
    )?);
    let path = home
        .record()
        .bundle(&held.vault, &held.lineage, held.sequence);
    let mut json = bundle_json(&held);
    json["schema"] = "mintmark/audit/1".into();
    json["file"] = json!(path.display().to_string());
    json["findings"] = found.iter().map(Finding::to_json).collect();
    let mut lines = vec![
        format!("vault         {}", held.vault),
        format!("lineage       {}", held.lineage),
        format!("bundle        {}", held.sequence),
        format!("fingerprint   {}", held.fingerprint),
        format!(
            "records       {} to {}, in {} segments",
            held.first,
            held.log_size.saturating_sub(1),
            held.segments
        ),
        format!("log size      {}", held.log_size),
        format!("log root      {}", held.log_root),
        format!("up to         {}", rfc3339(held.checkpoint_time)),
        format!("sealed        {}", rfc3339(held.sealed_at)),
        format!("imported      {}", rfc3339(held.imported_at)),
        format!(
            "acknowledged  {}",
            if held.acknowledged { "yes" } else { "no" }
        ),
        format!("file          {}", path.display()),
    ];
    lines.extend(found.iter().map(|finding| {
        format!(
            "finding       {} {}: {}",
            finding.severity, finding.code, finding.text
        )
    }));
    say(console, &json, lines)
}
