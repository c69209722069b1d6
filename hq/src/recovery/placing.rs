//! A registry that was made again, put into its place; the one that was there stays beside it.

use std::ffi::OsString;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::time::Duration;

use mintmark_console::{Exit, Failure};
use rusqlite::{Connection, OpenFlags};

use crate::clock;
use crate::home::{self, Home};
use crate::registry::Registry;
use crate::registry::reached::Reached;

/// How long a command that reads the registry is waited for.
const BUSY: Duration = Duration::from_secs(10);
/// What SQLite has beside a registry.
const BESIDE: [&str; 2] = ["-wal", "-shm"];

/// Has all of the registry that is there stand in its own file: what is beside it is taken away before the new one has its place, and
/// the old one stays whole until then. One that does not open is kept as it is, with what is beside it.
pub(super) fn settle(home: &Path) -> Result<(), Failure> {
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let opened = Connection::open_with_flags(home.join(Registry::FILE), flags);
    let Ok(sql) = opened else {
        return Ok(());
    };
    match sql.busy_timeout(BUSY) {
        Ok(()) => match (Registry { sql }).settle() {
            Err(failure) if failure.code == "REGISTRY-BUSY" => Err(failure),
            _ => Ok(()),
        },
        Err(_) => Ok(()),
    }
}

/// Returns the folder that the registry which was there is in now; none if there was none.
pub(super) fn place(home: &Home) -> Result<Option<PathBuf>, Failure> {
    let (folder, path) = (home.registry_folder(), home.folder());
    let (part, file) = (folder.join(Registry::FILE), path.join(Registry::FILE));
    File::open(&part)
        .and_then(|part| part.sync_all())
        .map_err(|error| io(&part, error))?;
    let kept = keep(path)?;
    // Its pages are not of the new one. They are all in its own file too, but where that does not open.
    for beside in BESIDE.map(|suffix| with(&file, suffix)) {
        match fs::remove_file(&beside) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                return Err(io(&beside, error));
            }
            _ => {}
        }
    }
    fs::rename(&part, &file).map_err(|error| io(&file, error))?;
    File::open(path)
        .and_then(|folder| folder.sync_all())
        .map_err(|error| io(path, error))?;
    Reached::mark_anew(path)?;
    home::remove_folder(folder)?;
    Ok(kept)
}

/// Links, or copies, what is there into a folder of its own.
fn keep(home: &Path) -> Result<Option<PathBuf>, Failure> {
    let file = home.join(Registry::FILE);
    let there: Vec<PathBuf> = std::iter::once(file.clone())
        .chain(BESIDE.map(|suffix| with(&file, suffix)))
        .filter(|path| path.symlink_metadata().is_ok())
        .collect();
    if there.is_empty() {
        return Ok(None);
    }
    let now = clock::now_unix();
    let names = (0..).map(|again| match again {
        0 => format!("registry-replaced-{now}"),
        again => format!("registry-replaced-{now}-{again}"),
    });
    let mut free = names.map(|name| home.join(name));
    let Some(folder) = free.find(|path| path.symlink_metadata().is_err()) else {
        return Ok(None);
    };
    home::make_folder(&folder)?;
    for path in there {
        let Some(name) = path.file_name() else {
            continue;
        };
        let to = folder.join(name);
        fs::hard_link(&path, &to)
            .or_else(|_| fs::copy(&path, &to).map(drop))
            .map_err(|error| io(&to, error))?;
    }
    File::open(&folder)
        .and_then(|folder| folder.sync_all())
        .map_err(|error| io(&folder, error))?;
    Ok(Some(folder))
}

fn with(path: &Path, suffix: &str) -> PathBuf {
    let mut name = OsString::from(path);
    name.push(suffix);
    name.into()
}

fn io(path: &Path, error: std::io::Error) -> Failure {
    let message = format!("{} could not be put into place", path.display());
    Failure::new(Exit::Environment, "FILE-IO", message)
        .cause(error)
        .hint("check the path, its permissions and the disk, then run `hq recover` again")
}
