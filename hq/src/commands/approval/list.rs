//! `hq approval list`.

use std::path::Path;

use mintmark_console::time::rfc3339;
use mintmark_console::{Align, Console, Exit, Failure, Table};
use mintmark_protocol::identifier::OfficerId;

use crate::approvals::{self, readers};
use crate::clock::now_unix;
use crate::commands::say;
use crate::home::Home;
use crate::registry::drafts::{self, State};
use crate::trust;

pub(super) fn list(home: Option<&Path>, console: &Console) -> Result<Exit, Failure> {
    let home = Home::read_hq(home)?;
    let registry = home.registry()?;
    let manifest = trust::newest(&home)?;
    let record = home.record();
    let now = now_unix();
    let mut table = Table::new(
        ["ID", "TYPE", "FOR", "STATE", "APPROVED BY", "NEEDS"].map(|header| (header, Align::Left)),
    );
    let mut rows = Vec::new();
    let mut stale = false;
    for draft in drafts::all(&registry.sql)? {
        let mut approvers = drafts::approvers(&registry.sql, &draft.fingerprint)?;
        let mut former = Vec::new();
        let mut again = None;
        let proposal = approvals::collected(&registry.sql, &record, &draft)?;
        let needed = match approvals::judges(&proposal, manifest.as_ref()) {
            Ok(judges) => {
                let tally = approvals::tally(&proposal, &judges)?;
                // What is finished was judged by those of its day.
                if draft.state == State::Open {
                    former = approvals::former(&registry.sql, &draft, &tally)?;
                    approvers.retain(|officer| !former.contains(officer));
                    if let Some(manifest) = &manifest {
                        let manifest = manifest.content();
                        again = readers::draft_again(&registry.sql, &draft, &proposal, manifest)?;
                    }
                }
                tally
                    .iter()
                    .map(|(threshold, officers)| threshold.saturating_sub(officers.len() as u64))
                    .max()
                    .unwrap_or(0)
            }
            Err(_) => 0,
        };
        let state = match draft.state {
            State::Open if draft.approve_until <= now => "expired",
            State::Open if needed == 0 => "approved",
            State::Open if !former.is_empty() => "stale",
            state => state.as_str(),
        };
        stale |= state == "stale";
        let vault = draft.vault.as_ref().map(ToString::to_string);
        let names = |officers: &[OfficerId]| -> Vec<String> {
            officers.iter().map(ToString::to_string).collect()
        };
        let (approvers, former) = (names(&approvers), names(&former));
        rows.push(serde_json::json!({
            "id": draft.id,
            "type": draft.kind.as_str(),
            "vault": vault,
            "version": draft.version,
            "fingerprint": draft.fingerprint.to_string(),
            "state": state,
            "approvers": approvers,
            "no_longer_counting": former,
            "missing": needed,
            "draft_again": again,
            "drafted_at": rfc3339(draft.drafted_at),
            "approve_until": rfc3339(draft.approve_until),
        }));
        let missing = match (state, again) {
            ("expired", _) => String::new(),
            (_, Some(again)) => format!("to be drafted again: {again}"),
            _ if draft.state == State::Open => format!("{needed} more"),
            _ => String::new(),
        };
        table.row([
            draft.id,
            draft.kind.to_string(),
            vault.unwrap_or_else(|| "all".to_owned()),
            state.to_owned(),
            approvers.join(","),
            missing,
        ]);
    }
    if console.is_json() {
        let json = serde_json::json!({ "schema": "mintmark/approval/1", "drafts": rows });
        return say(console, &json, []);
    }
    console.table(&table);
    if stale {
        console.note(
            "stale: an approval is by somebody who may no longer give it; others have to approve, of those who could \
             read the draft when it was made",
        );
    }
    Ok(Exit::Done)
}
