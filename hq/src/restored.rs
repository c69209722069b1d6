//! That a home was put back from a backup, and until when nothing goes out of it.
//!
//! What was sent since the backup is forgotten: another dispatch of a number that a vault has seen would be a fork there. So
//! `hq restore` notes the newest dispatch epoch that the home knows, also from drafts, and whatever headquarters sends, or signs of
//! what was revoked, waits for one that officers opened after it.

use std::path::Path;

use mintmark_console::{Failure, files};
use mintmark_protocol::identifier::Fingerprint;
use mintmark_protocol::trust::TrustManifest;
use serde::{Deserialize, Serialize};

use crate::home::Home;
use crate::{failure, own_restore, trust};

/// The note's file in the home.
pub(crate) const FILE: &str = "restored.toml";
const BYTES_MAX: u64 = 4096;

#[derive(Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
struct Note {
    schema: u32,
    /// The newest dispatch epoch that this home is known to have had before the restore was declared.
    epoch: u64,
    /// The fingerprint of the backup; of a registry that was made again, `recovery`.
    backup: String,
}

fn read(home: &Path) -> Result<Option<Note>, Failure> {
    let bytes = match files::read_limited(home.join(FILE), BYTES_MAX) {
        Err(error) if error.is_missing() => return Ok(None),
        read => read?,
    };
    let wrong = |why: String| failure::home_corrupt(format!("{FILE}: {why}"));
    let text = String::from_utf8(bytes).map_err(|error| wrong(error.to_string()))?;
    let note: Note = toml::from_str(&text).map_err(|error| wrong(error.to_string()))?;
    match note.schema {
        1 => Ok(Some(note)),
        other => Err(wrong(format!(
            "it has schema {other}; this program knows 1"
        ))),
    }
}

fn write(home: &Path, note: &Note) -> Result<(), Failure> {
    let text = toml::to_string(note).map_err(failure::home_corrupt)?;
    Ok(files::write_replace(home.join(FILE), text.as_bytes())?)
}

/// Notes that a home was put back, which knows this epoch.
pub(crate) fn note(home: &Path, epoch: u64, backup: &Fingerprint) -> Result<(), Failure> {
    let note = Note {
        schema: 1,
        epoch,
        backup: backup.to_string(),
    };
    write(home, &note)
}

/// Stands in the place of a backup's fingerprint where `hq recover` could not have everything back.
const RECOVERY: &str = "recovery";

/// Notes that a registry was made again without all that headquarters sent or received, and knows this epoch.
pub(crate) fn note_recovery(home: &Path, epoch: u64) -> Result<(), Failure> {
    let before = read(home)?;
    let epoch = before.as_ref().map_or(0, |note| note.epoch).max(epoch);
    let backup = before.map_or_else(|| RECOVERY.to_owned(), |note| note.backup);
    write(
        home,
        &Note {
            schema: 1,
            epoch,
            backup,
        },
    )
}

/// Everything was had back after all: what was noted because of a recovery, and of nothing else, is over.
pub(crate) fn end_recovery(home: &Path) -> Result<(), Failure> {
    match read(home)? {
        Some(note) if note.backup == RECOVERY => {
            let file = home.join(FILE);
            std::fs::remove_file(&file).map_err(|error| {
                failure::home_corrupt(format!("{} cannot be removed", file.display())).cause(error)
            })
        }
        _ => Ok(()),
    }
}

/// The newest epoch that was not opened because of a restore; 0 if there was none.
pub(crate) fn epoch(home: &Path) -> Result<u64, Failure> {
    Ok(read(home)?.map_or(0, |note| note.epoch))
}

/// A manifest that was forgotten came back: an epoch that it opened was not opened because of this restore.
pub(crate) fn know(home: &Path, manifest: &TrustManifest) -> Result<(), Failure> {
    match read(home)? {
        Some(note) if note.epoch < manifest.dispatch_epoch => {
            let epoch = manifest.dispatch_epoch;
            write(home, &Note { epoch, ..note })
        }
        _ => Ok(()),
    }
}

/// Refuses to send or sign anything out of a home that was put back before officers have declared that.
pub(crate) fn expect_declared(home: &Home) -> Result<(), Failure> {
    let Some(note) = read(home.folder())? else {
        return Ok(());
    };
    let manifests = trust::chain(home)?;
    if manifests.is_empty() || own_restore::declared(&manifests) > Some(note.epoch) {
        return Ok(());
    }
    let what = match note.backup.as_str() {
        RECOVERY => "the record of headquarters lacks something that it sent or received",
        _ => "headquarters was put back from a backup",
    };
    Err(failure::usage(
        "RESTORE-UNDECLARED",
        format!(
            "{what}, and officers have not declared that: what it sent and revoked since is forgotten, another dispatch of \
             one of those numbers would be a fork at its vault, and what was revoked would count as good again"
        ),
        "import the newest stick that went out, then `hq trust epoch`, its approvals, and `hq trust publish --media DIR`",
    ))
}
