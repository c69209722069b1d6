//! The home: the one folder in which a vault lives.
//!
//! ```text
//! config.toml                        whose home, and where the keys are
//! serve.toml                         under which names and with which key the service was started last
//! serve-tls.pem                      the service's certificate, and the station CA's
//! lock                               held by the one process that changes something
//! enrol.cose                         the enrolment request, as sealed
//! enrol-2.cose                       the request for the second device CA, as sealed; and so on
//! crl-1.der                          the newest CRL of the first device CA; and so on
//! trust/trust-000001.cose            every trust manifest, as received
//! received/dispatch-1-000001.cose    every dispatch, as received
//! outbox/                            every bundle and its segments, as sealed
//! restore.cose                       the restore that was declared, until headquarters has answered it
//! restored-1.cose                    the first one that was answered; and so on
//! log/  index/  state.snapshot        the record, and what follows from it
//! rolled-back.cose                   there if HQ has seen more than this home holds: the dispatch that proves it
//! ```

mod aside;
mod creation;
mod lock;

use std::fs::Metadata;
use std::path::{Path, PathBuf};

use mintmark_console::files::Folder;
use mintmark_console::home::{Purpose, expect_own};

pub(crate) use aside::Aside;
pub(crate) use creation::fill;
pub(crate) use lock::HomeLock;

use crate::config::{CONFIG_BYTES_MAX, Config};
use crate::failure::{Error, Result};

/// The configuration.
pub(crate) const CONFIG: &str = "config.toml";
/// The file whose lock the owner process holds.
pub(crate) const LOCK: &str = "lock";
/// The record.
pub(crate) const LOG: &str = "log";
/// A view of the record.
const INDEX: &str = "index";
/// What the record added up to some time ago.
const SNAPSHOT: &str = "state.snapshot";
/// The dispatch that proves this home not to be the newest copy.
pub(crate) const ROLLED_BACK: &str = "rolled-back.cose";
/// A restore that was declared and that headquarters has not answered.
pub(crate) const RESTORE: &str = "restore.cose";
/// The enrolment request, as sealed.
pub(crate) const ENROLMENT: &str = "enrol.cose";
/// Trust manifests, as received.
pub(crate) const TRUST: &str = "trust";
/// Dispatches, as received.
pub(crate) const RECEIVED: &str = "received";
/// Bundles and segments, as sealed.
pub(crate) const OUTBOX: &str = "outbox";

/// What something that stands directly in a home is, to whoever copies it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Part {
    /// The configuration, without which there is no home.
    Config,
    /// A file that nothing else has.
    File,
    /// A folder of such.
    Folder,
    /// What is made again from the log.
    Derived,
    /// What belongs to the processes at work there now.
    Passing,
    /// Nothing of ours.
    Foreign,
}

/// What a name in a home stands for.
pub(crate) fn part_of(name: &str) -> Part {
    let numbered = |before: &str, after: &str| {
        let number = name
            .strip_prefix(before)
            .and_then(|rest| rest.strip_suffix(after));
        number
            .is_some_and(|number| !number.is_empty() && number.bytes().all(|b| b.is_ascii_digit()))
    };
    match name {
        CONFIG => Part::Config,
        TRUST | RECEIVED | OUTBOX | LOG => Part::Folder,
        INDEX | SNAPSHOT => Part::Derived,
        LOCK | "control.sock" => Part::Passing,
        ENROLMENT | RESTORE | ROLLED_BACK | "serve.toml" | "serve-tls.pem" => Part::File,
        _ if numbered("enrol-", ".cose")
            || numbered("restored-", ".cose")
            || numbered("crl-", ".der") =>
        {
            Part::File
        }
        _ if name
            .strip_suffix(".old")
            .is_some_and(|of| part_of(of) == Part::Derived) =>
        {
            Part::Derived
        }
        _ => Part::Foreign,
    }
}

/// Where the home is: `--home`, else SITE_HOME.
pub(crate) fn locate(option: Option<&Path>) -> Result<PathBuf> {
    let from_environment = || std::env::var_os("SITE_HOME").filter(|home| !home.is_empty());
    let path = option
        .map(Path::to_owned)
        .or_else(|| from_environment().map(PathBuf::from))
        .ok_or_else(|| {
            Error::usage("HOME-UNSET", "the vault's home is not named")
                .hint("add --home DIR, or set SITE_HOME")
        })?;
    std::path::absolute(&path).map_err(|error| {
        Error::environment("HOME-UNREADABLE", "the current folder cannot be told").cause(error)
    })
}

fn missing(home: &Path) -> Error {
    let message = format!("there is no vault in {}", home.display());
    Error::environment("HOME-MISSING", message)
        .hint("run `site init`, or correct --home or SITE_HOME")
}

/// The folder of a home, and why it is not this user's alone, if it is not.
fn find(option: Option<&Path>) -> Result<(PathBuf, Option<Error>)> {
    let path = locate(option)?;
    let exposed = expect_own("site", &path, &look_at(&path)?, Purpose::Look).err();
    Ok((path, exposed.map(Error::from)))
}

fn look_at(path: &Path) -> Result<Metadata> {
    match std::fs::metadata(path) {
        Ok(metadata) if metadata.is_dir() => Ok(metadata),
        Ok(_) => Err(missing(path).cause("it is not a folder")),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Err(missing(path)),
        Err(error) => {
            let message = format!("the home {} cannot be looked at", path.display());
            Err(Error::environment("HOME-UNREADABLE", message)
                .cause(error)
                .hint("run it as the user that owns the home, and check its disk"))
        }
    }
}

/// A home that is there, belongs to this user alone, and has a configuration.
#[derive(Clone, Debug)]
pub(crate) struct Home {
    path: PathBuf,
    config: Config,
}

impl Home {
    /// Opens the home that `--home` or SITE_HOME names.
    pub(crate) fn open(option: Option<&Path>) -> Result<Self> {
        match find(option)? {
            (path, None) => Self::read(path),
            (_, Some(exposed)) => Err(exposed),
        }
    }

    /// As [`Home::open`], for `site doctor`, which looks on where others stop: that the home is not this user's alone
    /// stands beside it.
    pub(crate) fn inspect(option: Option<&Path>) -> Result<(Self, Option<Error>)> {
        let (path, exposed) = find(option)?;
        Ok((Self::read(path)?, exposed))
    }

    fn read(path: PathBuf) -> Result<Self> {
        let folder = Folder::open(&path)?;
        let config = match folder.read_limited(CONFIG, CONFIG_BYTES_MAX) {
            Ok(bytes) => Config::from_toml(&bytes)?,
            Err(error) if error.is_missing() => {
                let is_empty = folder.entries(1).is_ok_and(|entries| entries.is_empty());
                return Err(if is_empty {
                    missing(&path)
                } else {
                    corrupt(&path, CONFIG, "missing")
                });
            }
            Err(error) => return Err(error.into()),
        };
        Ok(Self { path, config })
    }

    /// Its path, absolute.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Its configuration.
    pub(crate) fn config(&self) -> &Config {
        &self.config
    }

    /// Whether some process holds it.
    pub(crate) fn is_locked(&self) -> bool {
        HomeLock::is_taken(&self.path)
    }

    /// Holds it against every other process that would change something, until the lock is dropped.
    ///
    /// # Errors
    /// HOME-FOREIGN where it is somebody else's, HOME-BUSY where another process holds it.
    pub(crate) fn lock(&self) -> Result<HomeLock> {
        expect_own("site", &self.path, &look_at(&self.path)?, Purpose::Change)?;
        HomeLock::take(&self.path)
    }

    /// One of its folders.
    pub(crate) fn folder(&self, name: &str) -> Result<Folder> {
        let home = Folder::open(&self.path)?;
        home.subfolder(name)
            .map_err(|error| self.judge(name, error))
    }

    /// One of the files that stand in it directly.
    pub(crate) fn file(&self, name: &str, bytes_max: usize) -> Result<Vec<u8>> {
        let home = Folder::open(&self.path)?;
        home.read_limited(name, bytes_max as u64)
            .map_err(|error| self.judge(name, error))
    }

    /// Sets aside what follows from the log and is made again from it: the index and the snapshot of the state.
    pub(crate) fn set_derived_aside(&self) -> Result<Aside> {
        Aside::of(&self.path, &[INDEX, SNAPSHOT])
    }

    /// What is gone from a home is no ordinary missing file.
    fn judge(&self, name: &str, error: mintmark_console::files::Error) -> Error {
        if error.is_missing() {
            self.corrupt(name, "missing")
        } else {
            error.into()
        }
    }

    /// Part of the home is not what it must be.
    pub(crate) fn corrupt(&self, name: &str, what: impl std::fmt::Display) -> Error {
        corrupt(&self.path, name, what)
    }
}

fn corrupt(home: &Path, name: &str, what: impl std::fmt::Display) -> Error {
    let shown = home.display();
    Error::integrity(
        "HOME-CORRUPT",
        format!("{name} in the home {shown} is {what}"),
    )
    .hint("keep a copy of the home as it is, and tell headquarters; do not run `site init` again")
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    fn code_of(home: &Path) -> String {
        Home::open(Some(home)).unwrap_err().code().to_owned()
    }

    fn set_mode(path: &Path, mode: u32) {
        fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
    }

    #[test]
    fn each_way_in_which_a_home_is_no_home_has_its_own_code() {
        let folder = tempfile::tempdir().unwrap();
        let home = folder.path().join("home");
        assert_eq!(code_of(&home), "HOME-MISSING");
        fs::create_dir(&home).unwrap();
        set_mode(&home, 0o700);
        assert_eq!(code_of(&home), "HOME-MISSING");
        fs::write(home.join(LOCK), "").unwrap();
        assert_eq!(code_of(&home), "HOME-CORRUPT");
        fs::write(home.join(CONFIG), "schema = 9\n").unwrap();
        assert_eq!(code_of(&home), "CONFIG-INVALID");
        for mode in [0o750, 0o701, 0o777] {
            set_mode(&home, mode);
            assert_eq!(code_of(&home), "HOME-EXPOSED", "{mode:o}");
        }
    }
}
