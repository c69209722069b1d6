//! What is taken in again, and in which order: as it was noted when it was kept. Of an object of which nothing was noted, by the
//! time of its file.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::fs;
use std::path::Path;
use std::time::UNIX_EPOCH;

use mintmark_console::{Exit, Failure};
use mintmark_protocol::identifier::Fingerprint;

use super::{Lost, Then, unsent};
use crate::record::Record;
use crate::record::times::{Damaged, Entry, Meaning, Times, What, counts};

/// How deep the folders of the record are.
const DEPTH_MAX: usize = 4;

/// What is done again.
pub(super) struct Plan {
    pub(super) events: Vec<Entry>,
    /// How many of them are at the times of their files.
    pub(super) untimed: u64,
    pub(super) lost: Vec<Lost>,
}

/// A file of the record.
struct Kept {
    digest: Fingerprint,
    /// Since 1970: seconds, and the nanoseconds beyond them.
    modified: (u64, u32),
}

impl Plan {
    /// `signed` is the time that a draft, or a dispatch, says of itself.
    pub(super) fn of(
        record: &Record,
        signed: &dyn Fn(&str, &[u8]) -> Option<u64>,
    ) -> Result<Self, Failure> {
        let (entries, damaged) = Times::of(record.folder()).read()?;
        let mut files = BTreeMap::new();
        let mut lost = Vec::new();
        walk(record, record.folder(), DEPTH_MAX, (&mut files, &mut lost))?;
        let unreadable: BTreeSet<String> = lost.iter().map(|lost| lost.what.clone()).collect();
        // The last line that is of the very bytes that are there counts: what was written before was replaced. A draft that
        // was drafted again within its second was open again from then on.
        let mut last = BTreeMap::new();
        let mut missing = BTreeSet::new();
        for (at, entry) in entries.iter().enumerate() {
            if let What::Kept { path, digest } = &entry.what {
                match files.get(path) {
                    Some(kept) if kept.digest == *digest => {
                        last.insert(path.clone(), at);
                    }
                    Some(_) => {}
                    None => {
                        if missing.insert(path.clone()) && !unreadable.contains(path) {
                            lost.push(gone(path));
                        }
                    }
                }
            }
        }
        let here: BTreeSet<String> = files.keys().cloned().collect();
        let of_damaged = damaged.iter().filter_map(|line| match &line.meaning {
            Meaning::Kept(path) => Some(path.clone()),
            _ => None,
        });
        let noted: BTreeSet<String> = last.keys().cloned().chain(of_damaged).collect();
        // A home that noted nothing yet has sent what it has.
        let notes = !entries.is_empty();
        let unnoted = here.iter().filter(|_| notes);
        let unnoted = unnoted.filter(|path| !noted.contains(*path)).cloned();
        let unsent = unsent::among(record, &here, &entries, &unnoted.collect())?;
        let mut untimed: Vec<_> = files
            .into_iter()
            .filter(|(path, _)| !last.contains_key(path))
            .filter(|(path, _)| unsent.iter().all(|unsent| unsent.what != *path))
            .collect();
        lost.extend(unsent);
        date(record, &mut untimed, signed)?;
        untimed.sort_by(|(path, kept), (other, of)| {
            (kept.modified, rank(path), path).cmp(&(of.modified, rank(other), other))
        });
        let (count, mut untimed) = (untimed.len() as u64, VecDeque::from(untimed));
        let mut events = Vec::new();
        for (at, entry) in entries.into_iter().enumerate() {
            while let Some((path, kept)) =
                untimed.pop_front_if(|(_, kept)| kept.modified.0 < entry.time)
            {
                events.push(of_file(path, &kept));
            }
            if let What::Kept { path: next, .. } = &entry.what {
                // What went to a vault went in the order of its numbers, also within a second.
                while let Some(at) = untimed.iter().position(|(path, _)| precedes(path, next)) {
                    let before = untimed.remove(at);
                    events.extend(before.map(|(path, kept)| of_file(path, &kept)));
                }
            }
            let counts = match &entry.what {
                What::Kept { path, .. } if comes_again(path) => !missing.contains(path),
                What::Kept { path, .. } => last.get(path) == Some(&at),
                _ => true,
            };
            if counts {
                events.push(entry);
            }
        }
        events.extend(untimed.into_iter().map(|(path, kept)| of_file(path, &kept)));
        lost.extend(damaged.iter().filter_map(|line| of_line(line, &here)));
        Ok(Self {
            events,
            untimed: count,
            lost,
        })
    }
}

/// Drafts and dispatches of which nothing was noted are of the time that they say themselves, which no copy changes, and so is what
/// approves a draft: the newest draft is the one that is open, and what was sent before a manifest was judged by the one before.
fn date(
    record: &Record,
    untimed: &mut [(String, Kept)],
    signed: &dyn Fn(&str, &[u8]) -> Option<u64>,
) -> Result<(), Failure> {
    let mut times = BTreeMap::new();
    for (path, kept) in untimed.iter_mut() {
        let draft = path.strip_prefix("drafts/draft-");
        if draft.is_none() && !path.starts_with("sent/") {
            continue;
        }
        let Some(time) = signed(path.as_str(), &record.read(&record.folder().join(&path))?) else {
            continue;
        };
        kept.modified = (time, 0);
        if let Some(name) = draft {
            times.insert(name.trim_end_matches(".cose").to_owned(), time);
        }
    }
    for (path, kept) in untimed.iter_mut() {
        let name = path.strip_prefix("approvals/approval-");
        let name = name.and_then(|name| name.rsplit_once('_'));
        if let Some(time) = name.and_then(|(name, _)| times.get(name)) {
            kept.modified = (*time, 0);
        }
    }
    Ok(())
}

/// What is lost with a line that is damaged: of an object that is there, no more than when it was kept.
fn of_line(line: &Damaged, here: &BTreeSet<String>) -> Option<Lost> {
    let (why, then) = match &line.meaning {
        Meaning::Cut => return None,
        Meaning::Kept(path) if here.contains(path) => (
            format!(
                "it says when {path} was kept, and cannot be read: that is taken from the file"
            ),
            Then::Nothing,
        ),
        Meaning::Kept(_) | Meaning::Unknown => (
            "it cannot be read: what was sent, revoked or decided then may be missing".to_owned(),
            Then::Declare,
        ),
    };
    Some(Lost {
        what: format!("times, line {}", line.number),
        code: "TIMES-DAMAGED".to_owned(),
        why,
        then,
    })
}

/// Whether each line of an object counts, and not the last alone: a draft that is drafted again is open again, and the same message
/// may prove another thing each time that it comes.
fn comes_again(path: &str) -> bool {
    path.starts_with("drafts/") || path.starts_with("evidence/")
}

/// Whether a dispatch is of a lower number than another one to the same vault.
fn precedes(path: &str, next: &str) -> bool {
    let numbers = |path: &str| {
        let (folder, name) = path.strip_prefix("sent/")?.split_once("/dispatch-")?;
        let (epoch, sequence) = name.strip_suffix(".cose")?.split_once('-')?;
        let number = |text: &str| text.parse::<u64>().ok();
        Some((folder.to_owned(), number(epoch)?, number(sequence)?))
    };
    numbers(path)
        .zip(numbers(next))
        .is_some_and(|(one, next)| one.0 == next.0 && (one.1, one.2) < (next.1, next.2))
}

/// Of one moment, what others build on comes first.
fn rank(path: &str) -> usize {
    let order = ["trust/", "drafts/", "approvals/", "sent/", "received/"];
    let found = order.iter().position(|folder| path.starts_with(folder));
    found.unwrap_or(order.len())
}

fn of_file(path: String, kept: &Kept) -> Entry {
    Entry {
        time: kept.modified.0,
        what: What::Kept {
            path,
            digest: kept.digest,
        },
    }
}

/// An object that was kept and is not there.
fn gone(path: &str) -> Lost {
    Lost {
        what: path.to_owned(),
        code: "RECORD-MISSING".to_owned(),
        why: "it was kept, and is not in the record any more".to_owned(),
        then: then(path),
    }
}

/// What to do about an object that is missing, or is not believed.
pub(super) fn then(path: &str) -> Then {
    match path.split('/').next() {
        Some("drafts" | "approvals") => Then::Again,
        Some("evidence") => Then::Evidence,
        Some("officers") => Then::Officers,
        _ => Then::Declare,
    }
}

fn walk(
    record: &Record,
    folder: &Path,
    depth: usize,
    (files, lost): (&mut BTreeMap<String, Kept>, &mut Vec<Lost>),
) -> Result<(), Failure> {
    let failed = |error: std::io::Error| {
        let message = format!("{} could not be read", folder.display());
        Failure::new(Exit::Environment, "FILE-IO", message)
            .cause(error)
            .hint("check the path, its permissions and the disk")
    };
    for entry in fs::read_dir(folder).map_err(failed)? {
        let entry = entry.map_err(failed)?;
        let (path, metadata) = (entry.path(), entry.metadata().map_err(failed)?);
        if metadata.is_dir() && depth > 0 {
            walk(record, &path, depth - 1, (files, lost))?;
            continue;
        }
        let within = path.strip_prefix(record.folder()).ok();
        let Some(within) = within.and_then(Path::to_str).filter(|path| counts(path)) else {
            continue;
        };
        let bytes = match record.read(&path) {
            // Of what is no file of the record, nothing is made; everything else comes back.
            Err(failure) if failure.exit == Exit::Integrity => {
                lost.push(Lost {
                    what: within.to_owned(),
                    code: "RECORD-UNREADABLE".to_owned(),
                    why: failure.message,
                    then: then(within),
                });
                continue;
            }
            read => read?,
        };
        let modified = metadata.modified().map_err(failed)?;
        let modified = modified.duration_since(UNIX_EPOCH).unwrap_or_default();
        let kept = Kept {
            digest: Fingerprint::of(&bytes),
            modified: (modified.as_secs(), modified.subsec_nanos()),
        };
        files.insert(within.to_owned(), kept);
    }
    Ok(())
}
