//! Media: a folder that a stranger may have prepared. No link is followed, no name is believed, nothing is read beyond
//! its ceiling, and there are only so many entries that are looked at.

use std::cell::RefCell;
use std::ffi::{OsStr, OsString};
use std::path::Path;

use mintmark_console::Console;
use mintmark_console::files::{self, EntryKind, Folder};
use mintmark_protocol::identifier::VaultName;
use mintmark_protocol::media::{MEDIA_FOLDER, MediaName, TO_HQ_FOLDER};

use crate::failure::{Error, Result};

/// The most directory entries of one medium that are looked at.
pub(crate) const ENTRIES_MAX: usize = 100_000;
/// The code of a file whose place on a medium is taken by another one.
pub(crate) const MEDIA_CONFLICT: &str = "MEDIA-CONFLICT";
/// How many foreign files are named before the rest is only counted.
const FOREIGN_NAMED_MAX: usize = 20;

/// The folder `mintmark/` of a medium.
pub(crate) struct Medium {
    folder: Folder,
    /// The folder in it that was written to last, by its name.
    written: RefCell<Option<(String, Folder)>>,
}

/// A file of a medium whose name is one of ours.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct MediumFile {
    /// What its name says it is. It routes the file to its reader and proves nothing.
    pub(crate) name: MediaName,
    /// The folder in `mintmark/` that it stands in, if in one.
    folder: Option<OsString>,
    file: OsString,
}

impl MediumFile {
    /// Its path relative to `mintmark/`.
    pub(crate) fn path(&self) -> String {
        // The parser reads exactly what it writes.
        self.name.to_string()
    }
}

/// What stands on a medium.
#[derive(Debug, Default)]
pub(crate) struct Survey {
    /// The files with names of ours, sorted by folder and name.
    pub(crate) files: Vec<MediumFile>,
    links: Vec<String>,
    foreign: Vec<String>,
    foreign_count: usize,
}

/// Which folders in `mintmark/` are looked into.
#[derive(Clone, Copy)]
pub(crate) enum Interest<'a> {
    /// What HQ sends to one vault.
    Vault(&'a VaultName),
    /// Everything.
    All,
}

/// The name of the folder of what HQ sends to a vault.
fn folder_of(vault: &VaultName) -> String {
    format!("to-{}_{}", vault.site, vault.vault)
}

/// Opens the folder at which a medium is mounted.
fn mounted(dir: &Path) -> Result<Folder> {
    let shown = dir.display();
    Folder::open(dir).map_err(|error| match error.kind() {
        files::Kind::Missing => {
            Error::environment("MEDIA-MISSING", format!("there is no folder {shown}"))
                .hint("plug the medium in, mount it, and name the folder that it is mounted at")
        }
        files::Kind::NotRegular { .. } => Error::environment(
            "MEDIA-NOT-A-FOLDER",
            format!("{shown} is not a folder"),
        )
        .hint(
            "name the folder that the medium is mounted at, not a file on it or the device itself",
        ),
        _ => error.into(),
    })
}

/// Makes sure that a medium is mounted, before anything else is done.
pub(crate) fn require(dir: &Path) -> Result<()> {
    mounted(dir).map(drop)
}

fn is_link(error: files::Error) -> Error {
    if matches!(error.kind(), files::Kind::NotRegular { .. }) {
        let path = error.path.display();
        Error::environment(
            "MEDIA-LINK",
            format!("{path} is a link or no folder; it is not followed"),
        )
        .hint("do not use this medium; whoever prepared it may want to lead you elsewhere")
    } else {
        error.into()
    }
}

impl Medium {
    /// Opens a medium to read from it.
    pub(crate) fn open(dir: &Path) -> Result<Self> {
        let mount = mounted(dir)?;
        match mount.subfolder(MEDIA_FOLDER) {
            Ok(folder) => Ok(Self::of(folder)),
            Err(error) if error.is_missing() => {
                let message = format!("there is no folder {MEDIA_FOLDER} in {}", dir.display());
                Err(Error::environment("MEDIA-EMPTY", message)
                    .hint("check that it is the right medium, and that HQ exported to it"))
            }
            Err(error) => Err(is_link(error)),
        }
    }

    /// Opens a medium to write to it; its folder is made where it is not there.
    pub(crate) fn create(dir: &Path) -> Result<Self> {
        let folder = mounted(dir)?
            .create_removable_subfolder(MEDIA_FOLDER)
            .map_err(is_link)?;
        Ok(Self::of(folder))
    }

    fn of(folder: Folder) -> Self {
        Self {
            folder,
            written: RefCell::new(None),
        }
    }

    /// Looks at what is there.
    pub(crate) fn survey(&self, interest: Interest<'_>) -> Result<Survey> {
        let mut survey = Survey::default();
        let mut entries_left = ENTRIES_MAX;
        let mut folders = Vec::new();
        for entry in entries(&self.folder, &mut entries_left)? {
            match entry.kind {
                EntryKind::Folder => folders.push(entry.name),
                kind => survey.add(None, entry.name, kind),
            }
        }
        for name in folders {
            if !is_ours(&name) {
                survey.add_foreign(name.to_string_lossy().into_owned());
            } else if interest.includes(&name) {
                let folder = self.folder.subfolder(&name).map_err(is_link)?;
                for entry in entries(&folder, &mut entries_left)? {
                    survey.add(Some(&name), entry.name, entry.kind);
                }
            }
        }
        Ok(survey)
    }

    /// Reads a file of at most `bytes_max` bytes.
    pub(crate) fn read(
        &self,
        file: &MediumFile,
        bytes_max: usize,
    ) -> std::result::Result<Vec<u8>, files::Error> {
        let bytes_max = bytes_max as u64;
        match &file.folder {
            None => self.folder.read_limited(&file.file, bytes_max),
            Some(folder) => self
                .folder
                .subfolder(folder)?
                .read_limited(&file.file, bytes_max),
        }
    }

    /// Writes a file, synced and read back, unless the same bytes stand there already. What is one of `before` is
    /// replaced.
    ///
    /// # Errors
    /// MEDIA-CONFLICT if something else stands there, which is left as it is.
    pub(crate) fn write(
        &self,
        name: &MediaName,
        bytes: &[u8],
        before: &[Vec<u8>],
    ) -> Result<Written> {
        let path = name.to_string();
        let mut written = self.written.borrow_mut();
        let (folder, file) = match path.split_once('/') {
            None => (&self.folder, path.as_str()),
            Some((inner, file)) => {
                let folder = match written.take() {
                    Some((name, folder)) if name == inner => folder,
                    _ => {
                        let made = self.folder.create_removable_subfolder(inner);
                        made.map_err(is_link)?
                    }
                };
                (&written.insert((inner.to_owned(), folder)).1, file)
            }
        };
        match folder.holds_removable(file, bytes) {
            Ok(true) => Ok(Written::Already),
            Err(error) if error.is_missing() => {
                folder.write_removable(file, bytes)?;
                Ok(Written::New)
            }
            Err(error) if !matches!(error.kind(), files::Kind::NotRegular { .. }) => {
                Err(error.into())
            }
            Ok(false) if is_one_of(folder, file, before) => {
                folder.write_removable(file, bytes)?;
                Ok(Written::New)
            }
            Ok(false) | Err(_) => {
                let message =
                    format!("{path} on the medium is something else; it was left as it is");
                Err(Error::environment(MEDIA_CONFLICT, message).hint(
                    "use an empty medium, and tell headquarters: two vaults may share a name",
                ))
            }
        }
    }
}

/// Whether a file holds one of these.
fn is_one_of(folder: &Folder, file: &str, these: &[Vec<u8>]) -> bool {
    let bytes_max = these.iter().map(Vec::len).max().unwrap_or_default() as u64;
    let there = folder.read_limited(file, bytes_max);
    there.is_ok_and(|there| these.contains(&there))
}

/// What came of writing a file to a medium.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Written {
    /// It stands there now.
    New,
    /// It stood there already.
    Already,
}

impl Interest<'_> {
    fn includes(self, folder: &OsStr) -> bool {
        match self {
            Self::All => true,
            Self::Vault(vault) => folder == OsStr::new(&folder_of(vault)),
        }
    }
}

/// Whether a folder in `mintmark/` has a name that something of ours can have.
fn is_ours(folder: &OsStr) -> bool {
    folder.to_str().is_some_and(|name| {
        // Only a dispatch stands in such a folder, so that its parser knows which names there are.
        name == TO_HQ_FOLDER
            || MediaName::parse(&format!("{name}/dispatch-1-000001.cose")).is_some()
    })
}

fn entries(folder: &Folder, entries_left: &mut usize) -> Result<Vec<files::Entry>> {
    let entries = folder
        .entries(*entries_left)
        .map_err(|error| match error.kind() {
            files::Kind::TooLarge { .. } => {
                let message = format!("the medium has more than {ENTRIES_MAX} files");
                Error::environment("MEDIA-CROWDED", message)
                    .hint("use a medium that holds nothing but what HQ and the vaults export")
            }
            _ => error.into(),
        })?;
    *entries_left = entries_left.saturating_sub(entries.len());
    Ok(entries)
}

impl Survey {
    fn add(&mut self, folder: Option<&OsStr>, file: OsString, kind: EntryKind) {
        let mut path = folder
            .map(|folder| format!("{}/", folder.to_string_lossy()))
            .unwrap_or_default();
        path.push_str(&file.to_string_lossy());
        match kind {
            EntryKind::Other => self.links.push(path),
            EntryKind::Folder => self.add_foreign(path),
            EntryKind::File => match MediaName::parse(&path) {
                // A name that is not UTF-8 has become another one on the way here.
                Some(name) if file.to_str().is_some() => {
                    let folder = folder.map(OsStr::to_owned);
                    self.files.push(MediumFile { name, folder, file });
                }
                _ => self.add_foreign(path),
            },
        }
    }

    fn add_foreign(&mut self, path: String) {
        self.foreign_count += 1;
        if self.foreign.len() < FOREIGN_NAMED_MAX {
            self.foreign.push(path);
        }
    }

    /// Warns of what was passed over.
    pub(crate) fn warn(&self, console: &Console) {
        for path in self.links.iter().take(FOREIGN_NAMED_MAX) {
            let text =
                format!("{MEDIA_FOLDER}/{path} is a link, pipe or device; it was not followed");
            console.warn_coded("MEDIA-LINK", text);
        }
        for path in &self.foreign {
            let text = format!("{MEDIA_FOLDER}/{path} is no file of Mintmark's");
            console.warn_coded("MEDIA-FOREIGN", text);
        }
        let unnamed = self.links.len().saturating_sub(FOREIGN_NAMED_MAX) + self.foreign_count
            - self.foreign.len();
        if unnamed > 0 {
            console.warn(format!(
                "{unnamed} more entries of the medium were passed over"
            ));
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::symlink;

    use super::*;

    fn vault() -> VaultName {
        VaultName {
            site: "berlin".parse().unwrap(),
            vault: "v1".parse().unwrap(),
        }
    }

    fn trust() -> MediaName {
        MediaName::Trust { version: 1 }
    }

    #[test]
    fn links_are_not_followed_and_foreign_files_are_not_read() {
        let dir = tempfile::tempdir().unwrap();
        let ours = dir.path().join("mintmark/to-berlin_v1");
        fs::create_dir_all(&ours).unwrap();
        fs::create_dir(dir.path().join("mintmark/to-paris_v1")).unwrap();
        fs::write(
            dir.path()
                .join("mintmark/to-paris_v1/dispatch-1-000001.cose"),
            "",
        )
        .unwrap();
        fs::write(dir.path().join("mintmark/trust-000001.cose"), "trust").unwrap();
        fs::write(dir.path().join("mintmark/trust-000002.cose.part"), "").unwrap();
        fs::write(dir.path().join("mintmark/readme.txt"), "").unwrap();
        fs::write(ours.join("dispatch-1-000001.cose"), "").unwrap();
        symlink("/etc/passwd", ours.join("dispatch-1-000002.cose")).unwrap();
        let medium = Medium::open(dir.path()).unwrap();
        let survey = medium.survey(Interest::Vault(&vault())).unwrap();
        let names: Vec<String> = survey.files.iter().map(MediumFile::path).collect();
        assert_eq!(
            names,
            ["trust-000001.cose", "to-berlin_v1/dispatch-1-000001.cose"]
        );
        assert_eq!(survey.links, ["to-berlin_v1/dispatch-1-000002.cose"]);
        assert_eq!(survey.foreign, ["readme.txt"]);
        let everything = medium.survey(Interest::All).unwrap();
        assert_eq!(everything.files.len(), 3);
        assert_eq!(medium.read(&survey.files[0], 5).unwrap(), b"trust");
        assert!(medium.read(&survey.files[0], 4).is_err());
    }

    #[test]
    fn a_medium_that_is_not_there_and_one_that_is_empty_are_told_apart() {
        let dir = tempfile::tempdir().unwrap();
        let code = |path: &Path| Medium::open(path).err().unwrap().code().to_owned();
        assert_eq!(code(&dir.path().join("absent")), "MEDIA-MISSING");
        assert_eq!(code(dir.path()), "MEDIA-EMPTY");
        let file = dir.path().join("dispatch.cose");
        fs::write(&file, "").unwrap();
        assert_eq!(code(&file), "MEDIA-NOT-A-FOLDER");
        symlink("/etc", dir.path().join("mintmark")).unwrap();
        assert_eq!(code(dir.path()), "MEDIA-LINK");
        assert_eq!(
            Medium::create(dir.path()).err().unwrap().code(),
            "MEDIA-LINK"
        );
    }

    #[test]
    fn what_stands_on_a_medium_is_never_overwritten() {
        let dir = tempfile::tempdir().unwrap();
        let medium = Medium::create(dir.path()).unwrap();
        assert_eq!(medium.write(&trust(), b"one", &[]).unwrap(), Written::New);
        assert_eq!(
            medium.write(&trust(), b"one", &[]).unwrap(),
            Written::Already
        );
        for other in [&b"two"[..], b"o", b"longer"] {
            assert_eq!(
                medium.write(&trust(), other, &[]).unwrap_err().code(),
                "MEDIA-CONFLICT"
            );
        }
        let path = dir.path().join("mintmark/trust-000001.cose");
        assert_eq!(fs::read(path).unwrap(), b"one");
    }
}
