//! Dispatches that were kept and never left: whoever was killed before the registry had them has sealed nothing, and what is sealed
//! in their place is another.

use std::collections::BTreeSet;

use mintmark_console::Failure;
use mintmark_protocol::dispatch::DISPATCH_BYTES_MAX;
use mintmark_protocol::envelope::claim;
use mintmark_protocol::identifier::Fingerprint;

use super::{Lost, Then};
use crate::record::Record;
use crate::registry::reached::{Reached, contents};

/// A dispatch of which nothing was noted.
struct Unnoted {
    path: String,
    fingerprint: Fingerprint,
}

/// Which of these dispatches, of which nothing was noted, never left: no registry has them, and neither a later dispatch nor
/// anything that their vault sent names them. Where neither a registry nor a mark is left, they count.
pub(super) fn among(
    record: &Record,
    all: &BTreeSet<String>,
    unnoted: &BTreeSet<String>,
) -> Result<Vec<Lost>, Failure> {
    let home = record.folder().parent().unwrap_or(record.folder());
    let there = contents::there(home);
    if unnoted.is_empty() || (there.is_empty() && !Reached::is_marked(home)) {
        return Ok(Vec::new());
    }
    let mut open = Vec::new();
    for path in unnoted {
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
