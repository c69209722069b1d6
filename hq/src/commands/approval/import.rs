//! `hq approval import`.

use std::path::Path;

use mintmark_console::{Console, Exit, Failure, files};
use mintmark_protocol::approval::PROPOSAL_BYTES_MAX;

use crate::approvals::collect;
use crate::commands::say;
use crate::home::Home;
use crate::trust;

pub(super) fn import(
    home: Option<&Path>,
    path: &Path,
    dry_run: bool,
    console: &Console,
) -> Result<Exit, Failure> {
    let home = Home::change_hq(home)?;
    let mut registry = home.registry()?;
    let manifest = trust::newest(&home)?;
    let record = home.record();
    let mut exit = Exit::Done;
    let mut items = Vec::new();
    let mut first_failure = None;
    for file in collect::files_of(path)? {
        let name = file
            .file_name()
            .map(|name| name.to_string_lossy().into_owned())
            .unwrap_or_default();
        let taken = files::read_limited(&file, PROPOSAL_BYTES_MAX as u64)
            .map_err(Failure::from)
            .and_then(|bytes| {
                collect::take(&mut registry, &record, manifest.as_ref(), &bytes, dry_run)
            })
            .and_then(|collected| {
                // Among others it is only passed over.
                if !path.is_dir() {
                    collected.expect_in_time()?;
                }
                Ok(collected)
            });
        let mut note = None;
        let (outcome, code, id, officer) = match taken {
            Ok(collected) => {
                note = collected.note();
                let outcome = if collected.new { "imported" } else { "already" };
                let officer = collected.officer.map(|officer| officer.to_string());
                (outcome, None, Some(collected.id), officer)
            }
            // Not the file's fault: nothing more can be believed of this home.
            Err(failure) if failure.exit == Exit::Integrity => return Err(failure),
            Err(failure) => {
                exit = exit.worst(failure.exit);
                let code = failure.code.to_string();
                if path.is_dir() {
                    let message = format!("{name}: {}", failure.message);
                    console.report(&Failure {
                        message,
                        ..failure.clone()
                    });
                }
                first_failure.get_or_insert(failure);
                ("refused", Some(code), None, None)
            }
        };
        items.push(serde_json::json!({
            "file": name, "type": "approval", "id": id, "officer": officer, "outcome": outcome, "code": code,
            "note": note,
        }));
    }
    if let Some(failure) = first_failure
        && !path.is_dir()
    {
        return Err(failure);
    }
    if dry_run {
        console.note("nothing was changed (--dry-run)");
    }
    if items.is_empty() {
        console.warn(format!("there is no approval in {}", path.display()));
    }
    let lines: Vec<String> = items
        .iter()
        .map(|item| {
            let text = |field: &str| item[field].as_str().unwrap_or("-").to_owned();
            let note = item["note"].as_str();
            format!(
                "{:<9} {} {} {}{}",
                text("outcome"),
                text("id"),
                text("officer"),
                text("file"),
                note.map(|note| format!(", {note}")).unwrap_or_default()
            )
        })
        .collect();
    let json = serde_json::json!({ "schema": "mintmark/approval/1", "items": items });
    say(console, &json, lines)?;
    Ok(exit)
}
