//! A home that is put back: whole, or not at all. What makes a folder a home, its configuration, comes last.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use mintmark_console::{Progress, files};
use mintmark_protocol::backup::Entry;
use mintmark_protocol::encryption::random;
use rustix::fs::syncfs;

use crate::Error;
use crate::file::sync_name;
use crate::opening::{ContentKey, Opened, Sink};

/// The file without which no folder is a home.
const CONFIG: &str = "config.toml";
/// The largest configuration, in bytes.
const CONFIG_BYTES_MAX: u64 = 1 << 20;

/// Refuses a place for a home where something is.
///
/// # Errors
/// [`Error::HomeExists`].
pub fn refuse_existing(home: &Path) -> Result<(), Error> {
    let free = match fs::read_dir(home) {
        Ok(mut entries) => entries.next().is_none(),
        Err(_) => fs::symlink_metadata(home).is_err(),
    };
    if free {
        return Ok(());
    }
    Err(Error::HomeExists {
        path: home.to_owned(),
    })
}

/// A home under another name, `<home>.part-<random>`, until it is complete. Dropped before that, it is removed; killed before
/// that, it has no configuration, and is none.
pub struct Placing {
    home: PathBuf,
    part: PathBuf,
    config: Vec<u8>,
    settled: bool,
}

impl Placing {
    /// Begins a home that will be at `home`, whose parent folder must exist.
    ///
    /// # Errors
    /// [`Error::HomeExists`]; what the file system refuses.
    pub fn begin(home: &Path) -> Result<Self, Error> {
        refuse_existing(home)?;
        let random: [u8; 8] = random()?;
        // Beside it, also of a path that ends in a slash.
        let mut part = home
            .file_name()
            .ok_or_else(|| {
                let nameless = io::Error::new(io::ErrorKind::InvalidInput, "it names no folder");
                Error::io(home)(nameless)
            })?
            .to_owned();
        part.push(format!(".part-{}", hex::encode(random)));
        let part = home.with_file_name(part);
        DirBuilder::new()
            .mode(0o700)
            .create(&part)
            .map_err(Error::io(&part))?;
        Ok(Self {
            home: home.to_owned(),
            part,
            config: Vec::new(),
            settled: false,
        })
    }

    /// Where it is being made.
    pub fn path(&self) -> &Path {
        &self.part
    }

    /// The configuration that was in the backup.
    pub fn config(&self) -> &[u8] {
        &self.config
    }

    /// Writes every file of a backup, but the configuration.
    ///
    /// # Errors
    /// [`Error::Damaged`]; what the file system refuses.
    pub fn fill(
        &mut self,
        from: &mut Opened,
        key: &ContentKey,
        progress: &Progress,
    ) -> Result<(), Error> {
        let mut files = Files {
            folder: self.part.clone(),
            file: None,
            config: None,
        };
        from.read(key, &mut files, progress)?;
        self.config = files.config.unwrap_or_default();
        Ok(())
    }

    /// Adds a folder, unless it is there.
    ///
    /// # Errors
    /// What the file system refuses.
    pub fn folder(&self, name: &str) -> Result<(), Error> {
        make_folders(&self.part.join(name))
    }

    /// Adds a file that no backup has.
    ///
    /// # Errors
    /// What the file system refuses.
    pub fn file(&self, name: &str, bytes: &[u8]) -> Result<(), Error> {
        let path = self.part.join(name);
        let written = create(&path)?.write_all(bytes);
        written.map_err(Error::io(&path))
    }

    /// Makes everything last, writes the configuration, and gives the home its name.
    ///
    /// # Errors
    /// [`Error::HomeExists`]; what the file system refuses.
    pub fn settle(mut self) -> Result<(), Error> {
        let folder = File::open(&self.part).map_err(Error::io(&self.part))?;
        // Many files, one sync.
        syncfs(&folder).map_err(|error| Error::io(&self.part)(error.into()))?;
        files::write_new(self.part.join(CONFIG), &self.config)?;
        refuse_existing(&self.home)?;
        fs::rename(&self.part, &self.home).map_err(Error::io(&self.home))?;
        self.settled = true;
        sync_name(&self.home)
    }
}

impl Drop for Placing {
    fn drop(&mut self) {
        if !self.settled {
            // What cannot be removed has a name that nobody takes for a home.
            let _ = fs::remove_dir_all(&self.part);
        }
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
