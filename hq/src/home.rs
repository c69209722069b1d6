//! The home folder of HQ, of an officer, or of an auditor. Only `hq init` and `hq trust pin` make one.

use std::fs::{self, DirBuilder, File, TryLockError};
use std::io::ErrorKind;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};

use mintmark_console::home::{Making, Purpose, expect_free, expect_own};
use mintmark_console::{Exit, Failure, files};
use mintmark_protocol::identifier::Fingerprint;

use crate::config::{Config, Role};
use crate::failure;
use crate::record::{Missed, Record};
use crate::registry::reached::Reached;
use crate::registry::{Registry, trust_manifests};

/// Where a registry is made again, in its home.
const RECOVERING: &str = "registry.part";

/// An existing home.
pub(crate) struct Home {
    path: PathBuf,
    pub(crate) config: Config,
    /// Held while something may change.
    lock: Option<File>,
    /// Where its registry is being made again.
    recovering: Option<PathBuf>,
    /// What its record then lacks.
    missed: Missed,
}

impl Drop for Home {
    /// Whoever may have changed something leaves behind how far the registry is. What stands there may be less than is so, and
    /// is never more.
    fn drop(&mut self) {
        if self.lock.is_some() && self.recovering.is_none() && self.config.role == Role::Hq {
            // Without it, an older copy of the registry is noticed by the mark before.
            let _ = Reached::mark(&self.path);
        }
    }
}

impl Home {
    /// The folder that the command line or the environment names.
    pub(crate) fn path(given: Option<&Path>) -> Result<PathBuf, Failure> {
        match given {
            Some(path) => std::path::absolute(path).map_err(|error| {
                failure::usage(
                    "HOME-INVALID",
                    "--home is no path",
                    "give the path of a folder",
                )
                .cause(error)
            }),
            None => Err(failure::usage(
                "HOME-UNSET",
                "no home folder is named",
                "give --home DIR or set HQ_HOME",
            )),
        }
    }

    /// Opens a home for reading.
    pub(crate) fn read(given: Option<&Path>) -> Result<Self, Failure> {
        Self::open(given, Purpose::Look)
    }

    /// Opens the home of headquarters to make its registry again, in a folder of its own, which is emptied first. What the
    /// registry says is not asked: the manifests that `published` finds in the record are those in force.
    pub(crate) fn recover(
        given: Option<&Path>,
        published: impl FnOnce(&Record) -> Result<Vec<Fingerprint>, Failure>,
    ) -> Result<Self, Failure> {
        let mut home = Self::found(given, Purpose::Change)?;
        home.expect_own()?;
        home = home.of_hq()?;
        home.lock = Some(lock(&home.path)?);
        let folder = home.path.join(RECOVERING);
        remove_folder(&folder)?;
        make_folder(&folder)?;
        home.recovering = Some(folder);
        let published = published(&home.record())?;
        home.config.settle(&published);
        Ok(home)
    }

    fn open(given: Option<&Path>, purpose: Purpose) -> Result<Self, Failure> {
        let mut home = Self::found(given, purpose)?;
        if !home.config.changes.is_empty() {
            let published = trust_manifests::all(&Registry::open(&home.path)?.sql)?;
            let published: Vec<_> = published.into_iter().map(|(_, of)| of).collect();
            home.config.settle(&published);
        }
        Ok(home)
    }

    /// The home at a path, as its configuration has it.
    fn found(given: Option<&Path>, purpose: Purpose) -> Result<Self, Failure> {
        let path = Self::path(given)?;
        let metadata = match fs::metadata(&path) {
            Ok(metadata) if metadata.is_dir() => metadata,
            Err(error) if error.kind() == ErrorKind::PermissionDenied => {
                let message = format!("the home {} cannot be looked at", path.display());
                return Err(Failure::new(Exit::Environment, "HOME-UNREADABLE", message)
                    .cause(error)
                    .hint("run it as the user that owns the home"));
            }
            _ => {
                let message = format!("there is no home at {}", path.display());
                return Err(Failure::new(Exit::Environment, "HOME-MISSING", message).hint(
                    "run `hq init` to make headquarters, or `hq trust pin` to make an officer's home",
                ));
            }
        };
        expect_own("hq", &path, &metadata, purpose)?;
        if !Config::file(&path).exists() {
            let message = format!("{} is not a home: it has no config.toml", path.display());
            return Err(
                Failure::new(Exit::Environment, "HOME-MISSING", message).hint(
                    "check --home and HQ_HOME; a new home is made by `hq init` or `hq trust pin`",
                ),
            );
        }
        let config = Config::read(&path)?;
        Ok(Self {
            path,
            config,
            lock: None,
            recovering: None,
            missed: Missed::default(),
        })
    }

    /// Opens a home to change something in it; one command at a time.
    pub(crate) fn change(given: Option<&Path>) -> Result<Self, Failure> {
        let mut home = Self::open(given, Purpose::Change)?;
        home.expect_own()?;
        home.lock = Some(lock(&home.path)?);
        Ok(home)
    }

    /// As [`Home::read`], and it is headquarters itself, or what an auditor was granted to see of it.
    pub(crate) fn read_hq(given: Option<&Path>) -> Result<Self, Failure> {
        Self::read(given)?.of_hq()
    }

    /// As [`Home::change`], and it is headquarters itself.
    pub(crate) fn change_hq(given: Option<&Path>) -> Result<Self, Failure> {
        Self::change(given)?.of_hq()
    }

    fn of_hq(self) -> Result<Self, Failure> {
        match self.config.role {
            Role::Hq | Role::Auditor => Ok(self),
            Role::Member => Err(failure::usage(
                "HOME-NOT-HQ",
                format!("{} is an officer's or auditor's home", self.path.display()),
                "run this with the home that `hq init` made",
            )),
        }
    }

    /// Refuses what only headquarters does, and an officer: an auditor looks, and no more.
    pub(crate) fn expect_own(&self) -> Result<(), Failure> {
        match self.config.role {
            Role::Hq | Role::Member => Ok(()),
            Role::Auditor => Err(failure::home_of_auditor()),
        }
    }

    /// The folder itself.
    pub(crate) fn folder(&self) -> &Path {
        &self.path
    }

    /// The signed objects as received and as sent.
    pub(crate) fn record(&self) -> Record {
        match (&self.recovering, self.config.role) {
            (Some(_), _) => Record::frozen(&self.path, &self.missed),
            (None, Role::Hq) => Record::new(&self.path),
            (None, Role::Member | Role::Auditor) => Record::unnoted(&self.path),
        }
    }

    /// The registry.
    pub(crate) fn registry(&self) -> Result<Registry, Failure> {
        Registry::open(self.registry_folder())
    }

    /// The folder that the registry is in.
    pub(crate) fn registry_folder(&self) -> &Path {
        self.recovering.as_deref().unwrap_or(&self.path)
    }

    /// Begins a home for a place where nothing is.
    pub(crate) fn begin(path: &Path) -> Result<Making, Failure> {
        expect_free(path)?;
        if let Some(parent) = path.parent() {
            make_folder(parent)?;
        }
        Making::begin(path)
    }

    /// Writes down, in the folder of one, what home it is.
    pub(crate) fn configure(folder: &Path, config: &Config) -> Result<(), Failure> {
        make_folder(&folder.join("record"))?;
        files::write_new(Config::file(folder), &config.to_bytes()?)?;
        Ok(())
    }

    /// Makes a home: filled under another name, then put into place, so that a failure leaves nothing behind.
    pub(crate) fn create(
        path: &Path,
        config: &Config,
        fill: impl FnOnce(&Path) -> Result<(), Failure>,
    ) -> Result<(), Failure> {
        let making = Self::begin(path)?;
        fill(making.folder())?;
        Self::configure(making.folder(), config)?;
        making.place()
    }
}

fn lock(home: &Path) -> Result<File, Failure> {
    let path = home.join("lock");
    let file = File::options()
        .read(true)
        .write(true)
        .open(&path)
        .map_err(|error| io(&path, error))?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(busy(home)),
        Err(TryLockError::Error(error)) => Err(io(&path, error)),
    }
}

fn busy(home: &Path) -> Failure {
    let message = format!("another command is changing the home {}", home.display());
    Failure::new(Exit::Environment, "HOME-BUSY", message)
        .hint("wait until it is done, then run this again")
}

/// Makes a folder that only its owner can use.
pub(crate) fn make_folder(path: &Path) -> Result<(), Failure> {
    DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(path)
        .map_err(|error| io(path, error))
}

/// Removes a folder that this program made, if it is there.
pub(crate) fn remove_folder(path: &Path) -> Result<(), Failure> {
    match fs::remove_dir_all(path) {
        Err(error) if error.kind() != ErrorKind::NotFound => Err(io(path, error)),
        _ => Ok(()),
    }
}

fn io(path: &Path, error: std::io::Error) -> Failure {
    let message = format!("{} could not be made or used", path.display());
    Failure::new(Exit::Environment, "FILE-IO", message)
        .cause(error)
        .hint("check the path, its permissions and the disk")
}
