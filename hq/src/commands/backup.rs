//! `hq backup`: headquarters' home in one file, sealed to a recovery key on paper.

use std::fs;
use std::path::Path;

use mintmark_backup::command::{BackupArguments, Plan};
use mintmark_backup::{Item, Subject};
use mintmark_console::{Console, Exit, Failure};
use mintmark_protocol::envelope::Party;

use crate::clock::now_unix;
use crate::home::Home;
use crate::keyring::{self, Keyring, REPORT};
use crate::registry::Registry;
use crate::{failure, restored};

/// What a home holds beside its record, and a backup has: everything but the configuration, which comes last.
const FILES: [&str; 2] = [Registry::FILE, restored::FILE];
const CONFIG: &str = "config.toml";
const RECORD: &str = "record";
/// What belongs to the present processes of a home alone.
const PASSING: [&str; 1] = ["lock"];
/// How deep the record's folders are.
const DEPTH_MAX: usize = 8;

pub(super) fn run(
    arguments: &BackupArguments,
    home: Option<&Path>,
    console: &Console,
) -> Result<Exit, Failure> {
    if let Some(verb) = &arguments.verb {
        return verb.run(console);
    }
    let plan = Plan::of(arguments)?;
    // Nobody changes anything before it is over; whoever only looks is not kept waiting.
    let home = Home::change_hq(home)?;
    home.registry()?.settle()?;
    let items = items(home.folder(), console)?;
    if arguments.dry_run {
        return plan.rehearse(&Party::Hq, &items, console);
    }
    let signer = Keyring::new(&home.config, console)?.signer(REPORT)?;
    let subject = Subject {
        home: Party::Hq,
        made_at: now_unix(),
        software: concat!("hq ", env!("CARGO_PKG_VERSION")).to_owned(),
        signer: *signer.public_key(),
        log: None,
    };
    plan.seal(subject, items, &keyring::sign(&*signer), None, console)
        .map_err(with_keys)
}

/// A key store that failed while it signed says so in its own words.
fn with_keys(failure: Failure) -> Failure {
    match failure.code.as_ref() {
        "KEY-OPERATION" => failure.hint("run `hq doctor` to check the token"),
        _ => failure,
    }
}

/// The files of a home that a backup has. Whatever else stands there is named and left out: it may be anything, keys included.
fn items(home: &Path, console: &Console) -> Result<Vec<Item>, Failure> {
    let mut items = Vec::new();
    for name in names(home)? {
        let path = home.join(&name);
        if FILES.contains(&name.as_str()) {
            items.push(Item::file(name, path));
        } else if name == RECORD {
            walk(&path, RECORD, DEPTH_MAX, &mut items, console)?;
        } else if name != CONFIG && !is_passing(&name) {
            skipped(&name, console);
        }
    }
    items.push(Item::file(CONFIG, home.join(CONFIG)));
    Ok(items)
}

fn is_passing(name: &str) -> bool {
    let journal = name.strip_prefix(Registry::FILE);
    PASSING.contains(&name) || matches!(journal, Some("-wal" | "-shm")) || name.ends_with(".part")
}

fn skipped(path: &str, console: &Console) {
    let text = format!("{path} is not part of a home and is not in the backup");
    console.warn_coded("BACKUP-SKIPPED", text);
}

fn walk(
    folder: &Path,
    within: &str,
    depth: usize,
    items: &mut Vec<Item>,
    console: &Console,
) -> Result<(), Failure> {
    for name in names(folder)? {
        let (path, inner) = (folder.join(&name), format!("{within}/{name}"));
        let kind = fs::symlink_metadata(&path).map_err(|error| unreadable(&path, &error))?;
        if kind.is_dir() && depth > 0 {
            walk(&path, &inner, depth - 1, items, console)?;
        } else if kind.is_file() && !name.ends_with(".part") {
            items.push(Item::file(inner, path));
        } else if !kind.is_file() {
            skipped(&inner, console);
        }
    }
    Ok(())
}

/// The names in a folder, sorted.
fn names(folder: &Path) -> Result<Vec<String>, Failure> {
    let failed = |error| unreadable(folder, &error);
    let mut names = Vec::new();
    for entry in fs::read_dir(folder).map_err(failed)? {
        let name = entry.map_err(failed)?.file_name();
        names.push(name.to_string_lossy().into_owned());
    }
    names.sort();
    Ok(names)
}

fn unreadable(path: &Path, error: &std::io::Error) -> Failure {
    let message = format!("{} could not be read", path.display());
    Failure::new(Exit::Environment, "FILE-IO", message)
        .cause(error)
        .hint("check the path, its permissions and the disk")
}

/// A home is of headquarters, or it is none for `hq`.
pub(super) fn expect_hq(of: &Party) -> Result<(), Failure> {
    match of {
        Party::Hq => Ok(()),
        other => Err(failure::backup_of_another(other)),
    }
}
