//! What of a home goes into a backup, as it is at one moment.
//!
//! Whoever takes it has the vault, so that nothing is half written. The one file that is written over, the log's mark, is read
//! then. Files that grow or are replaced are opened then, and read no further than they are long now; the others never change.
//! So what is sealed afterwards, while the vault is at work again, is the home of that moment.

use std::fs::File;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

use mintmark_backup::{Item, Subject};
use mintmark_console::Console;
use mintmark_console::files::{EntryKind, Folder};
use mintmark_ledger::log::MARK;
use mintmark_ledger::state::State;
use mintmark_protocol::backup::BackupLog;
use mintmark_protocol::envelope::Party;
use p256::PublicKey;
use rustix::fs::OFlags;

use super::Vault;
use super::reading::Reading;
use crate::commands::{SOFTWARE, now};
use crate::failure::{Error, Result};
use crate::home::{CONFIG, Home, LOG, OUTBOX, Part, RECEIVED, TRUST, part_of};

/// More than a home ever has in one folder.
const ENTRIES_MAX: usize = 16 << 20;
/// More than the mark of a log ever has.
const MARK_BYTES_MAX: u64 = 4096;

/// A home, ready to be sealed.
pub(crate) struct Snapshot {
    /// Whose it is.
    pub(crate) subject: Subject,
    /// Its files.
    pub(crate) items: Vec<Item>,
}

impl Snapshot {
    /// Of a home that nobody changes meanwhile: its lock is held.
    pub(crate) fn of_reading(reading: &Reading, console: &Console) -> Result<Self> {
        let facts = reading.facts();
        let of = Party::Vault(facts.name.clone());
        let signer = facts.identity.sign;
        Self::over(reading.home(), of, signer, reading.state(), console)
    }

    fn over(
        home: &Home,
        of: Party,
        signer: PublicKey,
        state: &State,
        console: &Console,
    ) -> Result<Self> {
        Ok(Self {
            items: items(home.path(), console)?,
            subject: Subject {
                home: of,
                made_at: now().clock,
                software: SOFTWARE.to_owned(),
                signer,
                log: log(state),
            },
        })
    }
}

fn log(state: &State) -> Option<BackupLog> {
    Some(BackupLog {
        lineage: state.lineage()?,
        size: state.size(),
        root: state.root(),
    })
}

impl Vault<'_> {
    /// Its home as it is now.
    ///
    /// # Errors
    /// What the file system refuses.
    pub(crate) fn snapshot(&self) -> Result<Snapshot> {
        let of = Party::Vault(self.name.clone());
        let signer = self.identity.sign;
        Snapshot::over(&self.home, of, signer, self.state(), &self.console)
    }
}

fn items(home: &Path, console: &Console) -> Result<Vec<Item>> {
    let folder = Folder::open(home)?;
    let mut items = Vec::new();
    for entry in folder.entries(ENTRIES_MAX)? {
        let name = entry.name.to_string_lossy().into_owned();
        match (part_of(&name), entry.kind) {
            (Part::Config | Part::Derived | Part::Passing, _) => {}
            (Part::File, EntryKind::File) => items.push(opened(home, &name)?),
            (Part::Folder, EntryKind::Folder) => {
                inside(&folder.subfolder(&name)?, &name, &mut items, console)?;
            }
            _ => skipped(&name, console),
        }
    }
    items.push(opened(home, CONFIG)?);
    Ok(items)
}

fn inside(folder: &Folder, within: &str, items: &mut Vec<Item>, console: &Console) -> Result<()> {
    debug_assert!([LOG, OUTBOX, RECEIVED, TRUST].contains(&within));
    for entry in folder.entries(ENTRIES_MAX)? {
        let name = entry.name.to_string_lossy().into_owned();
        let inner = format!("{within}/{name}");
        match entry.kind {
            EntryKind::File if within == LOG && name == MARK => {
                items.push(Item::bytes(
                    inner,
                    folder.read_limited(&name, MARK_BYTES_MAX)?,
                ));
            }
            EntryKind::File if within == LOG => {
                let home = folder.path().parent().unwrap_or(folder.path());
                items.push(opened(home, &inner)?);
            }
            EntryKind::File => items.push(Item::file(inner, folder.path().join(&name))),
            _ => skipped(&inner, console),
        }
    }
    Ok(())
}

/// A file as it is now, whatever becomes of its name.
fn opened(home: &Path, name: &str) -> Result<Item> {
    let path = home.join(name);
    let failed = |error| {
        let message = format!("{} could not be read", path.display());
        Error::environment("HOME-UNREADABLE", message).cause(error)
    };
    let flags = OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY;
    let file: File = std::fs::OpenOptions::new()
        .read(true)
        .custom_flags(flags.bits().cast_signed())
        .open(&path)
        .map_err(failed)?;
    let length = file.metadata().map_err(failed)?.len();
    Ok(Item::beginning(name, file, length))
}

fn skipped(path: &str, console: &Console) {
    let text = format!("{path} is not part of a home and is not in the backup");
    console.warn_coded("BACKUP-SKIPPED", text);
}
