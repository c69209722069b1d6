//! `hq restore`: headquarters' home from a backup. What was sent since is forgotten by it, and nothing goes out before officers
//! have said so.

use std::path::Path;

use mintmark_backup::command::RestoreArguments;
use mintmark_backup::{Opened, Placing};
use mintmark_console::{Console, Exit, Failure};

use super::backup::expect_hq;
use crate::config::{Config, Role};
use crate::home::Home;
use crate::record::Record;
use crate::registry::Registry;
use crate::{approvals, failure, restored, trust};

const NEXT: [&str; 3] = [
    "import the newest stick that went out (`hq media import DIR`), for trust manifests that are forgotten here",
    "have officers declare the restore: `hq trust epoch`, their approvals, `hq trust publish --media DIR`",
    "then `hq media export`; docs/recovery.md has every step",
];

pub(super) fn run(
    arguments: &RestoreArguments,
    home: Option<&Path>,
    console: &Console,
) -> Result<Exit, Failure> {
    let path = Home::path(home)?;
    arguments.run(&path, expect_hq, finish, &NEXT, console)
}

/// What was in the backup is a home of headquarters, by whose report key it was signed.
fn finish(placing: &Placing, opened: &Opened) -> Result<(), Failure> {
    let config = Config::parse(placing.config())?;
    if config.role != Role::Hq {
        return Err(failure::home_corrupt("config.toml is not of headquarters"));
    }
    placing.folder("record")?;
    let registry = Registry::open(placing.path())?;
    let record = Record::new(placing.path());
    let manifests = trust::published(&record, &registry.sql)?;
    if let Some(newest) = manifests.last()
        && newest.content().report_key != opened.backup().signer
    {
        return Err(failure::home_corrupt(
            "the backup was signed by another key than the report key of its trust manifest",
        ));
    }
    let published = manifests
        .last()
        .map_or(0, |newest| newest.content().dispatch_epoch);
    // What was drafted before may be published yet, and was not drafted because of this.
    let epoch = published.max(approvals::drafted_epoch(&registry.sql, &record)?);
    restored::note(placing.path(), epoch, &opened.fingerprint())
}
