//! `site media import DIR`.

use std::path::PathBuf;

use mintmark_console::files;
use mintmark_console::{Console, Exit};
use mintmark_protocol::dispatch::DISPATCH_BYTES_MAX;
use mintmark_protocol::envelope::Kind;
use mintmark_protocol::media::MediaName;
use mintmark_protocol::trust::TRUST_BYTES_MAX;

use super::{Item, show};
use crate::failure::{Error, Result};
use crate::medium::{Interest, Medium, MediumFile};
use crate::place::{Place, Session};
use crate::vault::key_set::Telling;
use crate::vault::{Arrival, EPOCH_OVER, Effort, HOME_ROLLED_BACK, Incoming, Vault, restore};

/// How many files are read before the vault is asked for, at most: what they bring it has in memory until it is told to keep
/// it. A dry run tries no more.
const FILES_AT_A_TIME_MAX: usize = 64;

/// After how many bytes of them it is asked for before that.
const BYTES_AT_A_TIME: usize = 16 << 20;

/// What `site media import` is told.
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// The folder at which the medium is mounted
    #[arg(value_name = "DIR")]
    pub(super) dir: PathBuf,
    /// Say what would come of each file, and change nothing
    #[arg(long)]
    pub(crate) dry_run: bool,
}

/// Imports trust manifests, then this vault's dispatches, each in their order.
pub(crate) fn execute(arguments: &Arguments, place: &Place<'_>, console: &Console) -> Result<Exit> {
    let home = place.home()?;
    let medium = Medium::open(&arguments.dir)?;
    let survey = medium.survey(Interest::Vault(&home.config().vault))?;
    survey.warn(console);
    let effort = if arguments.dry_run {
        Effort::Rehearse
    } else {
        Effort::Import
    };
    // Before the log is opened to add to it: a restore that was declared comes first.
    let answer = restore::resume(&home, &medium, &survey.files, effort, console)?;
    let answered = answer.items.into_iter();
    let mut items: Vec<Item> = answered
        .map(|(file, incoming)| item(&file, incoming))
        .collect();
    if !answer.done {
        let exit = show(&items, console)?;
        if effort == Effort::Rehearse {
            console.note("nothing was changed");
            return Ok(exit);
        }
        return home.expect_restored().map(|()| exit);
    }
    let opened = place.open_to_carry(console).and_then(|mut vault| {
        if effort == Effort::Import {
            vault.with(|vault| vault.settle())?;
        }
        Ok(vault)
    });
    let mut vault = match opened {
        Ok(vault) => vault,
        // What came back from headquarters is there, though nothing more can be imported.
        Err(error) if !items.is_empty() => return show(&items, console).and(Err(error)),
        Err(error) => return Err(error),
    };
    let files = in_order(&survey.files);
    let progress = console.progress("importing", Some(files.len() as u64));
    let mut files = files.into_iter().inspect(|_| progress.advance(1));
    let mut next = || read_some(&medium, &survey.files, &mut files);
    let stopped = match effort {
        Effort::Rehearse => {
            let read = next();
            let count = read.len();
            let tried = vault.rehearse(|vault| import_all(vault, read, effort, &mut items));
            if files.next().is_some() {
                console.warn(format!("the dry run stopped after the first {count} files"));
            }
            console.note("nothing was changed");
            tried.err()
        }
        // A ledger that failed is left as it is: opening it again finds out.
        Effort::Import => import_and_follow(&mut vault, next, &mut items)
            .and_then(|()| vault.close())
            .err(),
    };
    progress.finish();
    warn_of_over(&items, console);
    if items.is_empty() && stopped.is_none() {
        console.note("the medium holds nothing for this vault");
    }
    // What was imported before something stopped the rest is imported.
    let exit = show(&items, console)?;
    stopped.map_or(Ok(exit), Err)
}

/// What was read of a file, and of what has to be known with it.
struct Read<'f> {
    file: &'f MediumFile,
    bytes: std::result::Result<Vec<u8>, files::Error>,
    /// The manifest before a manifest.
    before: Option<Vec<u8>>,
}

/// Reads the next files, without the vault: a slow medium holds up nobody who wants something of it.
fn read_some<'f>(
    medium: &Medium,
    all: &'f [MediumFile],
    files: &mut impl Iterator<Item = &'f MediumFile>,
) -> Vec<Read<'f>> {
    let (mut read, mut bytes) = (Vec::new(), 0);
    while read.len() < FILES_AT_A_TIME_MAX && bytes < BYTES_AT_A_TIME {
        let Some(file) = files.next() else { break };
        let (_, bytes_max) = kind(file);
        // What cannot be read speaks for nothing; its own item says why.
        let before = before(all, file).and_then(|before| medium.read(before, bytes_max).ok());
        let of_file = medium.read(file, bytes_max);
        bytes += of_file.as_ref().map_or(0, Vec::len) + before.as_ref().map_or(0, Vec::len);
        read.push(Read {
            file,
            bytes: of_file,
            before,
        });
    }
    read
}

/// Imports what there is, some files at a time, and does what follows from it.
fn import_and_follow<'f>(
    vault: &mut Session<'_>,
    mut next: impl FnMut() -> Vec<Read<'f>>,
    items: &mut Vec<Item>,
) -> Result<()> {
    loop {
        let read = next();
        if read.is_empty() {
            break;
        }
        if !vault.with(|vault| import_all(vault, read, Effort::Import, items))? {
            break;
        }
    }
    vault.with(|vault| {
        // What an entitlement brought, or ended.
        vault.tend_keys(Telling::News)?;
        vault.prepare_serials();
        vault.burn_doubt()
    })
}

/// Imports one file after the other, until something keeps the others from being imported: whether nothing does.
fn import_all(
    vault: &mut Vault<'_>,
    files: Vec<Read<'_>>,
    effort: Effort,
    items: &mut Vec<Item>,
) -> Result<bool> {
    for read in files {
        let path = read.file.path();
        match import(vault, read, effort) {
            // Nothing more is built on a home that is not the newest copy.
            Ok(item) if item.code.as_deref() == Some(HOME_ROLLED_BACK) => {
                items.push(item);
                return Ok(false);
            }
            Ok(item) => items.push(item),
            Err(error) => return Err(error.about(&path)),
        }
    }
    Ok(true)
}

/// Says once that there is something of an epoch that has ended.
fn warn_of_over(items: &[Item], console: &Console) {
    let is_over = |item: &&Item| item.code.as_deref() == Some(EPOCH_OVER);
    let mut over = items.iter().filter(is_over);
    let Some(first) = over.next() else {
        return;
    };
    let mut message = first.message.clone().unwrap_or_default();
    let more = over.count();
    if more > 0 {
        message.push_str(&format!(", as do {more} more"));
    }
    console.warn_coded(EPOCH_OVER, message);
    if let Some(hint) = &first.hint {
        console.note(hint);
    }
}

/// What concerns this vault: trust manifests by version, then dispatches by epoch and sequence. Everything else on a
/// medium is somebody else's business.
fn in_order(files: &[MediumFile]) -> Vec<&MediumFile> {
    let rank = |file: &MediumFile| match file.name {
        MediaName::Trust { version } => Some((0, version, 0)),
        MediaName::Dispatch {
            epoch, sequence, ..
        } => Some((1, epoch, sequence)),
        _ => None,
    };
    let mut ours: Vec<_> = files.iter().filter(|file| rank(file).is_some()).collect();
    ours.sort_by_key(|file| rank(file));
    ours
}

/// The manifest before a manifest, on the same medium.
fn before<'a>(files: &'a [MediumFile], file: &MediumFile) -> Option<&'a MediumFile> {
    let MediaName::Trust { version } = file.name else {
        return None;
    };
    let version = version.checked_sub(1)?;
    files
        .iter()
        .find(|before| before.name == MediaName::Trust { version })
}

/// What a file should be, and its ceiling in bytes.
fn kind(file: &MediumFile) -> (Kind, usize) {
    match file.name {
        MediaName::Trust { .. } => (Kind::TrustManifest, TRUST_BYTES_MAX),
        _ => (Kind::Dispatch, DISPATCH_BYTES_MAX),
    }
}

fn import(vault: &mut Vault<'_>, read: Read<'_>, effort: Effort) -> Result<Item> {
    let (kind, bytes_max) = kind(read.file);
    let incoming = match read.bytes {
        Ok(bytes) if kind == Kind::TrustManifest => {
            vault.import_trust(&bytes, read.before.as_deref(), effort)?
        }
        Ok(bytes) => vault.import_dispatch(&bytes, effort)?,
        Err(error) => {
            let arrival = match error.kind() {
                files::Kind::TooLarge { .. } => {
                    let what = kind.as_str();
                    Arrival::Refused(mintmark_protocol::Error::Oversize { what, bytes_max }.into())
                }
                _ => Arrival::Held(error.into()),
            };
            Incoming {
                kind: kind.to_string(),
                id: String::new(),
                arrival,
            }
        }
    };
    Ok(item(read.file, incoming))
}

fn item(file: &MediumFile, incoming: Incoming) -> Item {
    let Incoming { kind, id, arrival } = incoming;
    let (outcome, error): (_, Option<Error>) = match arrival {
        Arrival::Imported => ("imported", None),
        Arrival::Already => ("already", None),
        Arrival::Held(error) => ("held", Some(error)),
        Arrival::Refused(error) => ("refused", Some(error)),
        // Whoever carries an old medium has done nothing wrong, and there is nothing to be put right.
        Arrival::Over(error) => {
            let item = Item::new(file.path(), kind, id, "already", Some(error));
            return Item {
                error: None,
                ..item
            };
        }
    };
    Item::new(file.path(), kind, id, outcome, error)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn trust_comes_first_and_numbers_are_ordered_as_numbers() {
        let dir = tempfile::tempdir().unwrap();
        let ours = dir.path().join("mintmark/to-berlin_v1");
        std::fs::create_dir_all(&ours).unwrap();
        for name in [
            "to-berlin_v1/dispatch-10-000001.cose",
            "to-berlin_v1/dispatch-2-1000000.cose",
            "to-berlin_v1/dispatch-2-000002.cose",
            "trust-000002.cose",
            "trust-000001.cose",
            "enrol-berlin_v1.cose",
        ] {
            std::fs::write(dir.path().join("mintmark").join(name), "").unwrap();
        }
        let survey = Medium::open(dir.path())
            .unwrap()
            .survey(Interest::All)
            .unwrap();
        let order: Vec<String> = in_order(&survey.files)
            .into_iter()
            .map(MediumFile::path)
            .collect();
        assert_eq!(
            order,
            [
                "trust-000001.cose",
                "trust-000002.cose",
                "to-berlin_v1/dispatch-2-000002.cose",
                "to-berlin_v1/dispatch-2-1000000.cose",
                "to-berlin_v1/dispatch-10-000001.cose",
            ]
        );
    }
}
