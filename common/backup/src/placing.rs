//! A home that is put back: whole, or not at all. What makes a folder a home, its configuration, comes last.

use std::fs::{DirBuilder, File, OpenOptions};
use std::io::Write as _;
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use mintmark_console::home::Making;
use mintmark_console::{Failure, files};
use mintmark_protocol::backup::Entry;
use rustix::fs::syncfs;

use crate::opening::{ContentKey, Opened, Sink};
use crate::{Error, Watched};

/// The file without which no folder is a home.
const CONFIG: &str = "config.toml";
/// The largest configuration, in bytes.
const CONFIG_BYTES_MAX: u64 = 1 << 20;

/// A home in the making. It gets its configuration last.
pub struct Placing {
    making: Making,
    config: Vec<u8>,
}

impl Placing {
    /// Begins a home that will be at `home`, whose parent folder must exist.
    ///
    /// # Errors
    /// As [`Making::begin`].
    pub fn begin(home: &Path) -> Result<Self, Failure> {
        Ok(Self {
            making: Making::begin(home)?,
            config: Vec::new(),
        })
    }

    /// Where it is being made.
    pub fn path(&self) -> &Path {
        self.making.folder()
    }

    /// The configuration that was in the backup.
    pub fn config(&self) -> &[u8] {
        &self.config
    }

    /// Writes every file of a backup, but the configuration.
    ///
    /// # Errors
    /// [`Error::Damaged`]; [`Error::Interrupted`]; what the file system refuses.
    pub fn fill(
        &mut self,
        from: &mut Opened,
        key: &ContentKey,
        watched: &Watched<'_>,
    ) -> Result<(), Error> {
        let mut files = Files {
            folder: self.path().to_owned(),
            file: None,
            config: None,
        };
        from.read(key, &mut files, watched)?;
        self.config = files.config.unwrap_or_default();
        Ok(())
    }

    /// Adds a folder, unless it is there.
    ///
    /// # Errors
    /// What the file system refuses.
    pub fn folder(&self, name: &str) -> Result<(), Error> {
        make_folders(&self.path().join(name))
    }

    /// Makes everything last, writes the configuration, and gives the home its name.
    ///
    /// # Errors
    /// As [`Making::place`]; what the file system refuses.
    pub fn settle(self) -> Result<(), Failure> {
        let path = self.path();
        let folder = File::open(path).map_err(Error::io(path))?;
        // Many files, one sync.
        syncfs(&folder).map_err(|error| Error::io(path)(error.into()))?;
        files::write_new(path.join(CONFIG), &self.config)?;
        self.making.place()
    }
}

fn make_folders(path: &Path) -> Result<(), Error> {
    let made = DirBuilder::new().recursive(true).mode(0o700).create(path);
    made.map_err(Error::io(path))
}

fn create(path: &Path) -> Result<File, Error> {
    let mut options = OpenOptions::new();
    let options = options.write(true).create_new(true).mode(0o600);
    options.open(path).map_err(Error::io(path))
}

/// Where the files of a backup go.
struct Files {
    folder: PathBuf,
    file: Option<(File, PathBuf)>,
    config: Option<Vec<u8>>,
}

impl Sink for Files {
    fn file(&mut self, entry: &Entry) -> Result<(), Error> {
        self.file = None;
        if entry.path == CONFIG {
            if entry.bytes > CONFIG_BYTES_MAX || self.config.is_some() {
                let path = entry.path.clone();
                return Err(Error::Name { path });
            }
            self.config = Some(Vec::new());
            return Ok(());
        }
        let path = self.folder.join(&entry.path);
        if let Some(parent) = path.parent() {
            make_folders(parent)?;
        }
        self.file = Some((create(&path)?, path));
        Ok(())
    }

    fn data(&mut self, bytes: &[u8]) -> Result<(), Error> {
        match (&mut self.file, &mut self.config) {
            (Some((file, path)), _) => file.write_all(bytes).map_err(Error::io(path)),
            (None, Some(config)) => {
                config.extend_from_slice(bytes);
                Ok(())
            }
            (None, None) => Ok(()),
        }
    }
}
