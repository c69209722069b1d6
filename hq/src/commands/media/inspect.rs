//! `hq media inspect`: what is on a stick, by its own word.

use std::path::Path;

use mintmark_console::{Align, Console, Exit, Failure, Table};
use mintmark_protocol::dispatch::DISPATCH_BYTES_MAX;
use mintmark_protocol::envelope::{Claim, claim};
use mintmark_protocol::media::MediaName;
use serde_json::json;

use super::stick::Stick;
use crate::failure;

pub(super) fn run(dir: &Path, console: &Console) -> Result<Exit, Failure> {
    let stick = Stick::open(dir)?;
    let mut table = Table::new(
        ["FILE", "TYPE", "FROM", "FOR", "ID", "FINGERPRINT"].map(|header| (header, Align::Left)),
    );
    let mut items = Vec::new();
    for found in stick.files(console)? {
        if matches!(found.name, MediaName::Segment { .. }) {
            items.push(json!({ "file": found.path, "type": "audit-segment" }));
            table.row([found.path, "audit-segment".to_owned()]);
            continue;
        }
        let claimed = stick
            .read(&found.path, DISPATCH_BYTES_MAX)
            .and_then(|bytes| claim(&bytes, DISPATCH_BYTES_MAX).map_err(failure::protocol));
        match claimed {
            Ok(Claim {
                context,
                fingerprint,
            }) => {
                let kind = match found.name {
                    MediaName::Approval { .. } => "approval".to_owned(),
                    MediaName::Draft { .. } => "draft".to_owned(),
                    _ => context.kind.to_string(),
                };
                let cells = [
                    kind,
                    context.sender.to_string(),
                    context.recipient.to_string(),
                    context.id,
                    fingerprint.to_string(),
                ];
                items.push(json!({
                    "file": found.path, "type": cells[0], "sender": cells[1], "recipient": cells[2],
                    "id": cells[3], "fingerprint": cells[4], "code": null,
                }));
                table.row(std::iter::once(found.path).chain(cells));
            }
            Err(failure) => {
                items.push(json!({ "file": found.path, "code": failure.code }));
                table.row([found.path, format!("unreadable: {}", failure.code)]);
            }
        }
    }
    if console.is_json() {
        return super::super::say(
            console,
            &json!({ "schema": "mintmark/media/1", "items": items }),
            [],
        );
    }
    console.table(&table);
    console.note("this is what the files say of themselves; nothing was verified");
    Ok(Exit::Done)
}
