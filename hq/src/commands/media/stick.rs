//! A stick: where things are on it, read and written without believing it.

use std::cell::RefCell;
use std::path::{Path, PathBuf};

use mintmark_console::files::{self, Entry, EntryKind, Folder};
use mintmark_console::{Console, Exit, Failure};
use mintmark_protocol::envelope::Verified;
use mintmark_protocol::media::{MEDIA_FOLDER, MediaName, PART_SUFFIX};
use mintmark_protocol::trust::TrustManifest;

use crate::failure;
use crate::record::Record;

/// The most directory entries of one stick that are looked at.
const ENTRIES_MAX: usize = 100_000;
/// How many foreign files are named before the rest is only counted.
const FOREIGN_NAMED_MAX: usize = 20;

/// The folder that a stick is mounted at.
pub(crate) struct Stick {
    root: PathBuf,
    mount: Folder,
    /// The folder that was written to last, by its name in `mintmark/`; that itself is "".
    written: RefCell<Option<(String, Folder)>>,
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
                written: RefCell::new(None),
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
        let mut survey = Survey::default();
        let mut entries_left = ENTRIES_MAX;
        for entry in entries(&top, &mut entries_left)? {
            let name = entry.name.to_string_lossy().into_owned();
            match entry.kind {
                EntryKind::Folder if name.starts_with("to-") => {
                    let inner = top.subfolder(&entry.name)?;
                    for entry in entries(&inner, &mut entries_left)? {
                        let path = format!("{name}/{}", entry.name.to_string_lossy());
                        survey.sort_in(path, &entry);
                    }
                }
                _ => survey.sort_in(name, &entry),
            }
        }
        survey.warn(console);
        let mut found = survey.found;
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
        folder
            .read_limited(name, bytes_max as u64)
            .map_err(|error| match error.kind() {
                files::Kind::TooLarge { .. } => {
                    let what = "the file";
                    failure::protocol(mintmark_protocol::Error::Oversize { what, bytes_max })
                }
                _ => error.into(),
            })
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

    /// Writes a file of ours, in place of what may stand there, unless the stick itself holds the same bytes.
    pub(crate) fn write(&self, name: &MediaName, bytes: &[u8]) -> Result<Written, Failure> {
        let path = name.to_string();
        let (inner, file) = path.split_once('/').unwrap_or(("", &path));
        let mut written = self.written.borrow_mut();
        let folder = match written.take() {
            Some((name, folder)) if name == inner => folder,
            _ => {
                let top = self.mount.create_removable_subfolder(MEDIA_FOLDER)?;
                match inner {
                    "" => top,
                    inner => top.create_removable_subfolder(inner)?,
                }
            }
        };
        let (_, folder) = written.insert((inner.to_owned(), folder));
        let outcome = match folder.holds_removable(file, bytes) {
            Ok(true) => return Ok(Written::Already),
            Err(error) if error.is_missing() => Written::New,
            Ok(false) | Err(_) => Written::Anew,
        };
        folder.write_removable(file, bytes)?;
        Ok(outcome)
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

/// What came of writing a file to a stick.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Written {
    /// It stands there now.
    New,
    /// It stands there now, in place of something else.
    Anew,
    /// It stood there already.
    Already,
}

/// What stands on a stick.
#[derive(Default)]
struct Survey {
    found: Vec<Found>,
    /// The first of the others, with what is wrong with them.
    foreign: Vec<(&'static str, String)>,
    foreign_count: usize,
}

impl Survey {
    fn sort_in(&mut self, path: String, entry: &Entry) {
        if path.ends_with(PART_SUFFIX) {
            return;
        }
        let (code, what) = match (entry.kind, MediaName::parse(&path)) {
            (EntryKind::File, Some(name)) => {
                self.found.push(Found { name, path });
                return;
            }
            (EntryKind::Other, _) => ("MEDIA-LINK", "a link, pipe or device, not followed"),
            _ => ("MEDIA-FOREIGN", "not one of ours, passed over"),
        };
        self.foreign_count += 1;
        if self.foreign.len() < FOREIGN_NAMED_MAX {
            self.foreign.push((code, format!("{path}: {what}")));
        }
    }

    fn warn(&self, console: &Console) {
        for (code, text) in &self.foreign {
            console.warn_coded(code, text);
        }
        let unnamed = self.foreign_count.saturating_sub(self.foreign.len());
        if unnamed > 0 {
            console.warn_coded(
                "MEDIA-FOREIGN",
                format!("{unnamed} more entries of the stick were passed over"),
            );
        }
    }
}

fn entries(folder: &Folder, entries_left: &mut usize) -> Result<Vec<Entry>, Failure> {
    let entries = folder
        .entries(*entries_left)
        .map_err(|error| match error.kind() {
            files::Kind::TooLarge { .. } => {
                let message = format!("the stick has more than {ENTRIES_MAX} files");
                Failure::new(Exit::Environment, "MEDIA-CROWDED", message)
                    .hint("use a stick that holds nothing but what HQ and the vaults export")
            }
            _ => error.into(),
        })?;
    *entries_left = entries_left.saturating_sub(entries.len());
    Ok(entries)
}
