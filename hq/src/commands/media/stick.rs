//! A stick: where things are on it, read and written without believing it.

use std::path::{Path, PathBuf};

use mintmark_console::files::{Entry, EntryKind, Folder};
use mintmark_console::{Console, Exit, Failure};
use mintmark_protocol::envelope::Verified;
use mintmark_protocol::media::{MEDIA_FOLDER, MediaName, PART_SUFFIX};
use mintmark_protocol::trust::TrustManifest;

use crate::record::Record;

/// The most entries of one folder that are looked at.
const ENTRIES_MAX: usize = 100_000;
/// How many foreign files are named before the rest is only counted.
const FOREIGN_NAMED_MAX: usize = 20;

/// The folder that a stick is mounted at.
pub(crate) struct Stick {
    root: PathBuf,
    mount: Folder,
}

/// One file of ours on a stick, by its name alone.
pub(crate) struct Found {
    pub(crate) name: MediaName,
    /// Its path below the folder `mintmark`.
    pub(crate) path: String,
}

impl Stick {
    /// The stick at this path; it must be there.
    pub(crate) fn open(dir: &Path) -> Result<Self, Failure> {
        // A mounted folder may be named through a link; what it leads to must be a folder.
        if dir.metadata().is_ok_and(|found| !found.is_dir()) {
            let message = format!("{} is a file, not a folder", dir.display());
            let failure = Failure::new(Exit::Environment, "MEDIA-NOT-A-FOLDER", message);
            return Err(failure.hint("give the folder that the stick is mounted at"));
        }
        match Folder::open(dir) {
            Ok(mount) => Ok(Self {
                root: dir.to_owned(),
                mount,
            }),
            Err(error) if error.is_missing() => {
                let message = format!("there is no folder {}", dir.display());
                Err(Failure::new(Exit::Environment, "MEDIA-MISSING", message)
                    .hint("plug the stick in, see that it is mounted, and give the folder it is mounted at"))
            }
            Err(error) => Err(error.into()),
        }
    }

    /// Every file on it whose name is one of ours, in order; whatever else is there is warned of.
    pub(crate) fn files(&self, console: &Console) -> Result<Vec<Found>, Failure> {
        let top = match self.mount.subfolder(MEDIA_FOLDER) {
            Ok(top) => top,
            Err(error) if error.is_missing() => {
                let message = format!("{} holds no folder `{MEDIA_FOLDER}`", self.root.display());
                return Err(
                    Failure::new(Exit::Environment, "MEDIA-EMPTY", message).hint(
                        "check that this is the right stick; give the folder that holds `mintmark`",
                    ),
                );
            }
            Err(error) => return Err(error.into()),
        };
        let mut found = Vec::new();
        let mut foreign = Vec::new();
        for entry in top.entries(ENTRIES_MAX)? {
            let name = entry.name.to_string_lossy().into_owned();
            match entry.kind {
                EntryKind::Folder if name == "to-hq" || name.starts_with("to-") => {
                    let inner = top.subfolder(&entry.name)?;
                    for entry in inner.entries(ENTRIES_MAX)? {
                        let path = format!("{name}/{}", entry.name.to_string_lossy());
                        sort_in(path, &entry, &mut found, &mut foreign);
                    }
                }
                _ => sort_in(name, &entry, &mut found, &mut foreign),
            }
        }
        for name in foreign.iter().take(FOREIGN_NAMED_MAX) {
            console.warn(format!("{name}: not one of ours, passed over"));
        }
        if foreign.len() > FOREIGN_NAMED_MAX {
            console.warn(format!(
                "{} more foreign files passed over",
                foreign.len() - FOREIGN_NAMED_MAX
            ));
        }
        found.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(found)
    }

    /// Reads a file of ours, at most `bytes_max` of it.
    pub(crate) fn read(&self, path: &str, bytes_max: usize) -> Result<Vec<u8>, Failure> {
        let mut folder = self.mount.subfolder(MEDIA_FOLDER)?;
        let mut name = path;
        if let Some((inner, file)) = path.split_once('/') {
            folder = folder.subfolder(inner)?;
            name = file;
        }
        Ok(folder.read_limited(name, bytes_max as u64)?)
    }

    /// The path of a file of ours, for a person to use.
    pub(crate) fn path_of(&self, path: &str) -> PathBuf {
        self.root.join(MEDIA_FOLDER).join(path)
    }

    /// As [`Stick::read`]; none if there is no such file.
    pub(crate) fn find(
        &self,
        name: &MediaName,
        bytes_max: usize,
    ) -> Result<Option<Vec<u8>>, Failure> {
        let path = name.to_string();
        let read = || {
            let mut folder = self.mount.subfolder(MEDIA_FOLDER)?;
            let mut file = path.as_str();
            if let Some((inner, name)) = path.split_once('/') {
                folder = folder.subfolder(inner)?;
                file = name;
            }
            folder.read_limited(file, bytes_max as u64)
        };
        match read() {
            Ok(bytes) => Ok(Some(bytes)),
            Err(error) if error.is_missing() => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    /// Writes a file of ours. Returns whether it was not there before, with the same bytes.
    pub(crate) fn write(&self, name: &MediaName, bytes: &[u8]) -> Result<bool, Failure> {
        let path = name.to_string();
        let mut folder = self.mount.create_public_subfolder(MEDIA_FOLDER)?;
        let mut file = path.as_str();
        if let Some((inner, name)) = path.split_once('/') {
            folder = folder.create_public_subfolder(inner)?;
            file = name;
        }
        if let Ok(present) = folder.read_limited(file, bytes.len() as u64)
            && present == bytes
        {
            return Ok(false);
        }
        folder.write_removable(file, bytes)?;
        Ok(true)
    }

    /// Takes a file of ours off it, if it is there with just these bytes.
    pub(crate) fn withdraw(&self, name: &MediaName, bytes: &[u8]) -> Result<(), Failure> {
        if self
            .find(name, bytes.len())
            .is_ok_and(|found| found.is_some_and(|found| found == bytes))
        {
            let path = name.to_string();
            let mut folder = self.mount.subfolder(MEDIA_FOLDER)?;
            let mut file = path.as_str();
            if let Some((inner, name)) = path.split_once('/') {
                folder = folder.subfolder(inner)?;
                file = name;
            }
            folder.remove(file)?;
        }
        Ok(())
    }

    /// Writes every manifest. Returns the place of the newest.
    pub(crate) fn write_trust(
        &self,
        record: &Record,
        chain: &[Verified<TrustManifest>],
    ) -> Result<PathBuf, Failure> {
        let mut newest = PathBuf::new();
        for manifest in chain {
            let version = manifest.content().version;
            let name = MediaName::Trust { version };
            self.write(&name, &record.read(&record.trust(version))?)?;
            newest = self.root.join(MEDIA_FOLDER).join(name.to_string());
        }
        Ok(newest)
    }
}

fn sort_in(path: String, entry: &Entry, found: &mut Vec<Found>, foreign: &mut Vec<String>) {
    if path.ends_with(PART_SUFFIX) {
        return;
    }
    match MediaName::parse(&path) {
        Some(name) if entry.kind == EntryKind::File => found.push(Found { name, path }),
        _ => foreign.push(path),
    }
}
