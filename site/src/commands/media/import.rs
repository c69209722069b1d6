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
use crate::place::Place;
use crate::vault::key_set::Telling;
use crate::vault::{Arrival, EPOCH_OVER, Effort, HOME_ROLLED_BACK, Incoming, Vault, restore};

/// The most files of a dry run: the ledger keeps what they bring in memory until then.
const REHEARSAL_FILES_MAX: usize = 64;

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
    let mut vault = place.open_to_carry(console)?;
    if effort == Effort::Import {
        vault.with(|vault| vault.settle())?;
    }
    let work = |vault: &mut Vault<'_>| {
        import_all(vault, &medium, &survey.files, effort, &mut items, console)
    };
    let stopped = match effort {
        Effort::Rehearse => {
            let tried = vault.rehearse(work);
            console.note("nothing was changed");
            tried.err()
        }
        // A ledger that failed is left as it is: opening it again finds out.
        Effort::Import => vault.with(work).and_then(|()| vault.close()).err(),
    };
    warn_of_over(&items, console);
    if items.is_empty() && stopped.is_none() {
        console.note("the medium holds nothing for this vault");
    }
    // What was imported before something stopped the rest is imported.
    let exit = show(&items, console)?;
    stopped.map_or(Ok(exit), Err)
}

/// Imports one file after the other, until something keeps the others from being imported.
fn import_all(
    vault: &mut Vault<'_>,
    medium: &Medium,
    files: &[MediumFile],
    effort: Effort,
    items: &mut Vec<Item>,
    console: &Console,
) -> Result<()> {
    for (at, file) in in_order(files).into_iter().enumerate() {
        if effort == Effort::Rehearse && at >= REHEARSAL_FILES_MAX {
            console.warn(format!(
                "the dry run stopped after the first {REHEARSAL_FILES_MAX} files"
            ));
            break;
        }
        match import(vault, medium, (file, before(files, file)), effort) {
            // Nothing more is built on a home that is not the newest copy.
            Ok(item) if item.code.as_deref() == Some(HOME_ROLLED_BACK) => {
                items.push(item);
                break;
            }
            Ok(item) => items.push(item),
            Err(error) => return Err(error.about(&file.path())),
        }
    }
    if effort == Effort::Import {
        // What an entitlement brought, or ended.
        vault.tend_keys(Telling::News)?;
        vault.prepare_serials();
        vault.burn_doubt()?;
    }
    Ok(())
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

fn import(
    vault: &mut Vault<'_>,
    medium: &Medium,
    (file, before): (&MediumFile, Option<&MediumFile>),
    effort: Effort,
) -> Result<Item> {
    let (kind, bytes_max) = match file.name {
        MediaName::Trust { .. } => (Kind::TrustManifest, TRUST_BYTES_MAX),
        _ => (Kind::Dispatch, DISPATCH_BYTES_MAX),
    };
    let incoming = match medium.read(file, bytes_max) {
        Ok(bytes) if kind == Kind::TrustManifest => {
            // What cannot be read speaks for nothing; its own item says why.
            let before = before.and_then(|before| medium.read(before, bytes_max).ok());
            vault.import_trust(&bytes, before.as_deref(), effort)?
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
    Ok(item(file, incoming))
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
