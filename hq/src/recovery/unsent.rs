//! What was kept and never came to anything: whoever was killed before the registry had it has sealed, or drafted, nothing. What is
//! sealed in the place of such a dispatch is another, and such a draft takes no other draft's place.

use std::collections::BTreeSet;

use mintmark_console::Failure;
use mintmark_protocol::dispatch::DISPATCH_BYTES_MAX;
use mintmark_protocol::envelope::claim;
use mintmark_protocol::identifier::Fingerprint;

use super::{Lost, Then};
use crate::record::Record;
use crate::record::times::{Entry, What};
use crate::registry::reached::Reached;
use crate::registry::reached::contents::{self, Thing};

/// A draft that nobody made, as far as anything says.
pub(super) const UNMADE: &str = "DRAFT-UNMADE";

/// A dispatch of which nothing was noted.
struct Unnoted {
    path: String,
    fingerprint: Fingerprint,
}

/// Of what nothing was noted of: what never left, and what was never drafted. Where neither a registry nor a mark is left, all of it
/// counts.
pub(super) fn among(
    record: &Record,
    all: &BTreeSet<String>,
    entries: &[Entry],
    unnoted: &BTreeSet<String>,
) -> Result<Vec<Lost>, Failure> {
    let home = record.folder().parent().unwrap_or(record.folder());
    if unnoted.is_empty() {
        return Ok(Vec::new());
    }
    let there = contents::there(home);
    if there.is_empty() && !Reached::is_marked(home) {
        return Ok(Vec::new());
    }
    let mut lost = dispatches(record, &there, all, unnoted)?;
    lost.extend(drafts(record, &there, (all, entries), unnoted)?);
    Ok(lost)
}

/// Which drafts nobody made, as far as anything says: no registry has them, nobody approved them, and no manifest is one of them.
fn drafts(
    record: &Record,
    there: &BTreeSet<Thing>,
    (all, entries): (&BTreeSet<String>, &[Entry]),
    unnoted: &BTreeSet<String>,
) -> Result<Vec<Lost>, Failure> {
    let noted = entries.iter().filter_map(|entry| match &entry.what {
        What::Kept { path, .. } => Some(path),
        _ => None,
    });
    let known: BTreeSet<&String> = all.iter().chain(noted).collect();
    let mut manifests = BTreeSet::new();
    for path in all.iter().filter(|path| path.starts_with("trust/")) {
        let bytes = record.read(&record.folder().join(path))?;
        manifests.extend(claim(&bytes, bytes.len()).map(|claim| claim.fingerprint));
    }
    let mut lost = Vec::new();
    for path in unnoted {
        let name = path.strip_prefix("drafts/draft-");
        let Some(name) = name.and_then(|name| name.strip_suffix(".cose")) else {
            continue;
        };
        let approval = format!("approvals/approval-{name}_");
        let bytes = record.read(&record.folder().join(path))?;
        // What is no draft is refused when it is taken in.
        let Ok(claim) = claim(&bytes, bytes.len()) else {
            continue;
        };
        let untold = What::Untold {
            draft: claim.fingerprint,
        };
        let is_made = there.iter().any(|thing| thing.what == *path)
            || known.iter().any(|known| known.starts_with(&approval))
            || manifests.contains(&claim.fingerprint)
            || entries.iter().any(|entry| entry.what == untold);
        if !is_made {
            lost.push(Lost {
                what: path.clone(),
                code: UNMADE.to_owned(),
                why: "it was kept and never noted, and nobody approved it: whoever drafted it did not come to an end, and it takes no \
                      other draft's place"
                    .to_owned(),
                then: Then::Nothing,
            });
        }
    }
    Ok(lost)
}

/// Which dispatches never left: no registry has them, and neither a later dispatch nor anything that their vault sent names them.
fn dispatches(
    record: &Record,
    there: &BTreeSet<Thing>,
    all: &BTreeSet<String>,
    unnoted: &BTreeSet<String>,
) -> Result<Vec<Lost>, Failure> {
    let mut open = Vec::new();
    for path in unnoted.iter().filter(|path| path.starts_with("sent/")) {
        let bytes = record.read(&record.folder().join(path))?;
        // What is no dispatch is refused when it is taken in.
        if let Ok(claim) = claim(&bytes, DISPATCH_BYTES_MAX) {
            let (path, fingerprint) = (path.clone(), claim.fingerprint);
            let text = fingerprint.to_string();
            if !there
                .iter()
                .any(|thing| thing.what == path && thing.which == text)
            {
                open.push(Unnoted { path, fingerprint });
            }
        }
    }
    // One that is named counts, and what it names counts too.
    loop {
        let waiting: BTreeSet<&str> = open.iter().map(|one| one.path.as_str()).collect();
        let mut named = BTreeSet::new();
        for one in &open {
            let vault = one.path.split('/').nth(1).unwrap_or_default();
            let messages = all.iter().filter(|path| {
                path.split('/').nth(1) == Some(vault) && !waiting.contains(path.as_str())
            });
            for path in messages {
                let bytes = record.read(&record.folder().join(path))?;
                let digest = one.fingerprint.as_bytes();
                if bytes.windows(digest.len()).any(|part| part == digest) {
                    named.insert(one.path.clone());
                    break;
                }
            }
        }
        if named.is_empty() {
            break;
        }
        open.retain(|one| !named.contains(&one.path));
    }
    Ok(open.into_iter().map(|one| unsent(one.path)).collect())
}

fn unsent(path: String) -> Lost {
    Lost {
        what: path,
        code: "DISPATCH-UNSENT".to_owned(),
        why: "it was kept and never noted, and nothing names it: it did not leave, and what it brings is sealed again".to_owned(),
        then: Then::Nothing,
    }
}
