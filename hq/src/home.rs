//! The home folder of HQ, of an officer, or of an auditor. Only `hq init` and `hq trust pin` make one.

use std::fs::{self, DirBuilder, File, TryLockError};
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};

use mintmark_console::{Exit, Failure};

pub(crate) use self::making::Making;
use crate::config::{Config, Role};
use crate::failure;
use crate::record::Record;
use crate::registry::{Registry, trust_manifests};

mod making;

/// An existing home.
pub(crate) struct Home {
    path: PathBuf,
    pub(crate) config: Config,
    /// Held while something may change.
    _lock: Option<File>,
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
        let path = Self::path(given)?;
        let metadata = match fs::metadata(&path) {
            Ok(metadata) if metadata.is_dir() => metadata,
            _ => {
                let message = format!("there is no home at {}", path.display());
                return Err(Failure::new(Exit::Environment, "HOME-MISSING", message).hint(
                    "run `hq init` to make headquarters, or `hq trust pin` to make an officer's home",
                ));
            }
        };
        if metadata.mode() & 0o077 != 0 {
            let message = format!("others than its owner can use the home {}", path.display());
            return Err(Failure::new(Exit::Environment, "HOME-EXPOSED", message)
                .hint(format!("run `chmod 700 {}`", path.display())));
        }
        if !Config::file(&path).exists() {
            let message = format!("{} is not a home: it has no config.toml", path.display());
            return Err(
                Failure::new(Exit::Environment, "HOME-MISSING", message).hint(
                    "check --home and HQ_HOME; a new home is made by `hq init` or `hq trust pin`",
                ),
            );
        }
        let mut config = Config::read(&path)?;
        if !config.changes.is_empty() {
            let published = trust_manifests::all(&Registry::open(&path)?.sql)?;
            let published: Vec<_> = published.into_iter().map(|(_, of)| of).collect();
            config.settle(&published);
        }
        Ok(Self {
            path,
            config,
            _lock: None,
        })
    }

    /// Opens a home to change something in it; one command at a time.
    pub(crate) fn change(given: Option<&Path>) -> Result<Self, Failure> {
        let mut home = Self::read(given)?;
        home.expect_own()?;
        home._lock = Some(lock(&home.path)?);
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
        Record::new(&self.path)
    }

    /// The registry.
    pub(crate) fn registry(&self) -> Result<Registry, Failure> {
        Registry::open(&self.path)
    }

    /// Refuses a place for a new home where something is.
    pub(crate) fn expect_free(path: &Path) -> Result<(), Failure> {
        let free = match fs::read_dir(path) {
            Ok(mut entries) => entries.next().is_none(),
            Err(_) => fs::symlink_metadata(path).is_err(),
        };
        if free {
            return Ok(());
        }
        let message = format!("{} is there already and is not empty", path.display());
        Err(Failure::new(Exit::Environment, "HOME-EXISTS", message)
            .hint("a home is made once; choose another folder"))
    }

    /// Makes a home: filled under another name, then put into place, so that a failure leaves nothing behind.
    pub(crate) fn create(
        path: &Path,
        config: &Config,
        fill: impl FnOnce(&Path) -> Result<(), Failure>,
    ) -> Result<(), Failure> {
        let making = Making::begin(path)?;
        fill(making.folder())?;
        making.configure(config)?;
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

fn io(path: &Path, error: std::io::Error) -> Failure {
    let message = format!("{} could not be made or used", path.display());
    Failure::new(Exit::Environment, "FILE-IO", message)
        .cause(error)
        .hint("check the path, its permissions and the disk")
}
