//! Certification requests as files: what `site issue` is given.

use std::ffi::{OsStr, OsString};
use std::io::Read as _;
use std::path::{Path, PathBuf};

use mintmark_console::Console;
use mintmark_console::files::{self, EntryKind, Folder};
use mintmark_pki::{CSR_FILE_BYTES_MAX, CertificationRequest, Object};
use mintmark_protocol::identifier::Fingerprint;

use crate::failure::{Error, Result};

/// The most files of one folder.
const FILES_MAX: usize = 10_000_000;

/// What one file holds.
#[derive(Debug)]
pub(crate) enum Submission {
    /// A request whose proof of possession holds.
    Verified(Box<CertificationRequest>),
    /// Something else, which the log knows by its digest alone.
    Unreadable {
        /// SHA-256 of the file, or of its first 65,537 bytes if it is longer than any request.
        sha256: Fingerprint,
        /// Why it is none.
        error: mintmark_pki::Error,
    },
}

/// The files to answer, in the order of their names.
#[derive(Debug)]
pub(crate) struct Submissions {
    folder: Folder,
    names: Vec<OsString>,
}

impl Submissions {
    /// A file, or every regular file directly in a folder.
    pub(crate) fn find(path: &Path, console: &Console) -> Result<Self> {
        let metadata = std::fs::metadata(path).map_err(|error| {
            let message = format!("{} cannot be read", path.display());
            Error::environment("CSR-MISSING", message)
                .cause(error)
                .hint("check the spelling of --csr")
        })?;
        if metadata.is_dir() {
            return Self::in_folder(path, console);
        }
        // A pipe is never opened: there may be nobody at its other end.
        if !std::fs::symlink_metadata(path).is_ok_and(|found| found.is_file()) {
            let message = format!("{} is a link, a pipe or a device", path.display());
            return Err(Error::environment("CSR-NOT-A-FILE", message)
                .hint("name a file, or a folder of files; nothing was issued"));
        }
        let (parent, name) = (path.parent(), path.file_name());
        let parent = parent
            .filter(|parent| *parent != Path::new(""))
            .unwrap_or(Path::new("."));
        let names = name.map(OsStr::to_owned).into_iter().collect();
        Ok(Self {
            folder: Folder::open(parent)?,
            names,
        })
    }

    fn in_folder(path: &Path, console: &Console) -> Result<Self> {
        let folder = Folder::open(path)?;
        let mut names = Vec::new();
        for entry in folder.entries(FILES_MAX)? {
            let what = match entry.kind {
                EntryKind::File => {
                    names.push(entry.name);
                    continue;
                }
                EntryKind::Folder => "a folder",
                EntryKind::Other => "a link, pipe or device",
            };
            let shown = path.join(entry.name);
            console.warn(format!("{} is {what}; it was passed over", shown.display()));
        }
        if names.is_empty() {
            let path = path.display();
            console.note(format!(
                "there is no file in {path}: put certification requests there, PEM or DER, one a file"
            ));
        }
        let parts = unfinished(path);
        if parts > 0 {
            console.warn(match parts {
                1 => "1 unfinished file (*.part) was passed over".to_owned(),
                _ => format!("{parts} unfinished files (*.part) were passed over"),
            });
        }
        Ok(Self { folder, names })
    }

    /// The names of the files.
    pub(crate) fn names(&self) -> &[OsString] {
        &self.names
    }

    /// The path of a file.
    pub(crate) fn path(&self, name: &OsStr) -> PathBuf {
        match self.folder.path() {
            here if here == Path::new(".") => PathBuf::from(name),
            folder => folder.join(name),
        }
    }

    /// Reads one file, no more of it than a request can have, and verifies its proof of possession.
    pub(crate) fn read(&self, name: &OsStr) -> std::result::Result<Submission, files::Error> {
        match self.folder.read_limited(name, CSR_FILE_BYTES_MAX as u64) {
            Ok(bytes) => Ok(Submission::from_bytes(&bytes)),
            Err(error) if matches!(error.kind(), files::Kind::TooLarge { .. }) => {
                self.oversize(name)
            }
            Err(error) => Err(error),
        }
    }

    /// A file that is longer than any request: no more of it is read than shows that.
    fn oversize(&self, name: &OsStr) -> std::result::Result<Submission, files::Error> {
        let (file, size) = self.folder.open_limited(name, u64::MAX)?;
        let mut beginning = Vec::new();
        // Where it cannot be read on, what was read stands for it.
        let _ = file
            .take(CSR_FILE_BYTES_MAX as u64 + 1)
            .read_to_end(&mut beginning);
        Ok(Submission::Unreadable {
            sha256: Fingerprint::of(&beginning),
            error: mintmark_pki::Error::TooLarge {
                object: Object::Request,
                bytes: usize::try_from(size).unwrap_or(usize::MAX),
                bytes_max: CSR_FILE_BYTES_MAX,
            },
        })
    }
}

/// How many files of a folder are still being written.
fn unfinished(path: &Path) -> usize {
    let entries = std::fs::read_dir(path).into_iter().flatten().flatten();
    entries
        .filter(|entry| entry.file_name().as_encoded_bytes().ends_with(b".part"))
        .count()
}

impl Submission {
    /// How much of it the log would hold, in bytes.
    pub(crate) fn bytes(&self) -> usize {
        match self {
            Self::Verified(request) => request.der().len(),
            Self::Unreadable { .. } => 0,
        }
    }

    /// Reads a request, PEM or DER, and verifies its proof of possession.
    pub(crate) fn from_bytes(bytes: &[u8]) -> Self {
        match CertificationRequest::from_file_bytes(bytes) {
            Ok(request) => Self::Verified(Box::new(request)),
            Err(error) => Self::Unreadable {
                sha256: Fingerprint::of(bytes),
                error,
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use mintmark_console::GlobalOptions;

    use super::*;

    fn found(path: &Path) -> Submissions {
        Submissions::find(path, &Console::new("site", &GlobalOptions::default())).unwrap()
    }

    fn code(submission: Submission) -> &'static str {
        match submission {
            Submission::Verified(_) => "verified",
            Submission::Unreadable { error, .. } => error.code(),
        }
    }

    #[test]
    fn a_folder_gives_its_regular_files_in_order_and_nothing_else() {
        let folder = tempfile::tempdir().unwrap();
        for name in ["b.csr", "a.csr", "c.csr.part"] {
            std::fs::write(folder.path().join(name), "").unwrap();
        }
        std::fs::create_dir(folder.path().join("sub")).unwrap();
        symlink("a.csr", folder.path().join("link.csr")).unwrap();
        let submissions = found(folder.path());
        assert_eq!(submissions.names(), ["a.csr", "b.csr"]);
        assert_eq!(
            code(submissions.read(OsStr::new("a.csr")).unwrap()),
            "CSR-EMPTY"
        );
    }

    #[test]
    fn a_file_larger_than_any_request_is_known_by_its_beginning() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("big.csr");
        let big = vec![b'x'; 10_000_000];
        std::fs::write(&path, &big).unwrap();
        let read = found(&path).read(OsStr::new("big.csr")).unwrap();
        let Submission::Unreadable { sha256, error } = read else {
            panic!("it is no request")
        };
        assert_eq!(error.code(), "CSR-TOO-LARGE");
        assert!(error.to_string().contains("10000000"), "{error}");
        assert_eq!(sha256, Fingerprint::of(&big[..CSR_FILE_BYTES_MAX + 1]));
    }
}
