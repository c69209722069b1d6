//! A registry that is lost, older than the record, or broken, made again from the record: every signed object is taken in again by
//! the code that took it in, in the order and at the times at which headquarters kept it. What a registry says that no object bears
//! out does not come back.

use std::path::{Path, PathBuf};

use mintmark_console::files::Folder;
use mintmark_console::{Console, Failure};

use self::applying::Applying;
use self::comparing::Comparing;
use self::plan::Plan;
use crate::home::Home;
use crate::keyring::Keyring;
use crate::record::Record;
use crate::registry::Registry;
use crate::{approvals, restored};

mod applying;
mod comparing;
mod placing;
mod plan;
mod unsent;

/// Something that could not be had back.
#[derive(Clone, Debug)]
pub(crate) struct Lost {
    /// What: a path within the record, or what it is about.
    pub(crate) what: String,
    pub(crate) code: String,
    pub(crate) why: String,
    /// What to do about it.
    pub(crate) then: Then,
}

/// What is to be done about something that is missing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Then {
    /// Headquarters has forgotten what it sent or received: it counts as restored.
    Declare,
    /// It is drafted, or approved, again.
    Again,
    /// It was approved, and is sealed by `hq site grant` as before.
    Grant,
    /// Officers are listed, or taken off the list, again.
    Officers,
    /// What proved something against a vault is gone: it is asked of whoever else has it.
    Evidence,
    /// Nothing follows from it.
    Nothing,
}

impl Then {
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Declare => "declare",
            Self::Again => "draft-again",
            Self::Grant => "grant-again",
            Self::Officers => "list-officers",
            Self::Evidence => "ask-for-evidence",
            Self::Nothing => "nothing",
        }
    }
}

/// What came of it.
pub(crate) struct Recovered {
    /// How much there is of each, by its table's name.
    pub(crate) rows: Vec<(&'static str, u64)>,
    /// Objects of which nothing says when they were kept, but their files.
    pub(crate) untimed: u64,
    pub(crate) lost: Vec<Lost>,
    /// Whether headquarters counts as restored from here on.
    pub(crate) is_forgetful: bool,
    /// Where the registry that was there is now.
    pub(crate) kept: Option<PathBuf>,
}

/// What is counted.
const COUNTED: [&str; 11] = [
    "trust_manifests",
    "officers",
    "drafts",
    "approvals",
    "vaults",
    "entitlements",
    "orders",
    "dispatches",
    "bundles",
    "restores",
    "findings",
];

/// Writes a file of the record again, where whoever was killed doing so may have left half of it.
fn put_back(record: &Record, path: &Path, bytes: &[u8]) -> Result<(), Failure> {
    if let Some(folder) = path.parent().filter(|folder| folder.is_dir()) {
        Folder::open(folder)?.remove_abandoned_parts()?;
    }
    record.replace(path, bytes)
}

/// Makes the registry of a home again. On a dry run it is made and taken away.
pub(crate) fn run(home: &Home, dry_run: bool, console: &Console) -> Result<Recovered, Failure> {
    let record = home.record();
    if !dry_run {
        placing::settle(home.folder())?;
    }
    let ring = Keyring::new(&home.config, console)?;
    let plan = {
        let audit = ring.audit()?;
        let manifests = applying::manifests(&record)?;
        Plan::of(&record, &|path, bytes| match path.starts_with("sent/") {
            true => applying::made_at(bytes, &manifests),
            false => applying::signed_at(bytes, audit.opener()),
        })?
    };
    let folder = home.registry_folder().to_owned();
    Registry::create(&folder)?;
    let mut registry = home.registry()?;
    registry.unsynced()?;
    let untimed = plan.untimed;
    let (lost, again, registry) = {
        let progress =
            console.progress("making the registry again", Some(plan.events.len() as u64));
        let mut applying = Applying::new(home, &mut registry, &ring, console, plan.lost)?;
        for event in &plan.events {
            applying.event(event)?;
            progress.advance(1);
        }
        let (lost, again) = applying.finish()?;
        progress.finish();
        (lost, again, registry)
    };
    let mut rows = Vec::new();
    for table in COUNTED {
        rows.push((table, registry.count(table)?));
    }
    let compared = Comparing::new(home, &registry, lost);
    // What was drafted before was not drafted because of this.
    let mut epoch = approvals::drafted_epoch(&registry.sql, &record)?;
    for manifest in crate::trust::published(&record, &registry.sql)? {
        epoch = epoch.max(manifest.content().dispatch_epoch);
    }
    registry.settle()?;
    if dry_run || compared.is_err() {
        crate::home::remove_folder(&folder)?;
    }
    let compared = compared?;
    let is_forgetful = compared.is_forgetful();
    let mut kept = None;
    if !dry_run {
        if is_forgetful {
            // First: nothing goes out of such a registry before officers have declared it.
            restored::note_recovery(home.folder(), epoch)?;
        }
        for (path, bytes) in again {
            put_back(&Record::new(home.folder()), &path, &bytes)?;
        }
        let is_missing = compared.note()?;
        kept = placing::place(home)?;
        if !is_missing {
            restored::end_recovery(home.folder())?;
        }
    }
    let lost = compared.lost;
    Ok(Recovered {
        rows,
        untimed,
        lost,
        is_forgetful,
        kept,
    })
}
