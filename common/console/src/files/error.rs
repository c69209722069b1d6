//! Why a file could not be read or written, in words that a factory operator can act on.

use crate::{Exit, Failure};
use rustix::io::Errno;
use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

/// What was being done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Operation {
    /// Reading a file.
    Read,
    /// Writing a file to a disk of this machine.
    Write,
    /// Writing a file to a removable medium.
    WriteMedia,
    /// Making a folder.
    CreateFolder,
    /// Listing a folder.
    List,
    /// Removing a file.
    Remove,
}

/// What went wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Kind {
    /// There is no such file or folder.
    Missing,
    /// The name is taken.
    Exists,
    /// The file, or the number of entries of a folder, is over the limit.
    TooLarge {
        /// The limit, in bytes or entries.
        max: u64,
    },
    /// The name stands for something else than was expected: a link, a folder, a pipe, a device.
    NotRegular {
        /// What stands there.
        found: &'static str,
    },
    /// The user may not.
    Denied,
    /// No space is left, or the quota is used up.
    DiskFull,
    /// The file system holds no file of this size; FAT32 none of 4 GiB.
    FileSystemLimit,
    /// The file system of this machine is mounted read-only.
    FileReadOnly,
    /// The medium is read-only, perhaps by its switch.
    MediaReadOnly,
    /// The medium returned other bytes than were written.
    ReadBackMismatch,
    /// The name is empty, or is a path and not a name.
    NameInvalid,
    /// Anything else that the operating system says.
    Io,
}

/// A file operation that failed.
#[derive(Debug, thiserror::Error)]
pub struct Error {
    /// What was being done.
    pub operation: Operation,
    /// The file or folder it was done to.
    pub path: PathBuf,
    kind: Kind,
    /// What the operating system said, where it was asked.
    #[source]
    pub source: Option<io::Error>,
}

impl Error {
    pub(crate) fn new(operation: Operation, path: &Path, source: impl Into<io::Error>) -> Self {
        let source = source.into();
        let kind = Kind::from_io(operation, &source);
        Self {
            operation,
            path: path.to_owned(),
            kind,
            source: Some(source),
        }
    }

    pub(crate) fn of(operation: Operation, path: &Path, kind: Kind) -> Self {
        Self {
            operation,
            path: path.to_owned(),
            kind,
            source: None,
        }
    }

    /// The same, when it happened on the way to something else.
    pub(crate) fn during(self, operation: Operation, path: &Path) -> Self {
        match self.source {
            Some(source) => Self::new(operation, path, source),
            None => Self::of(operation, path, self.kind),
        }
    }

    /// What went wrong.
    #[must_use]
    pub fn kind(&self) -> Kind {
        self.kind
    }

    /// Whether the name was taken.
    #[must_use]
    pub fn is_exists(&self) -> bool {
        self.kind == Kind::Exists
    }

    /// Whether there is no such file or folder.
    #[must_use]
    pub fn is_missing(&self) -> bool {
        self.kind == Kind::Missing
    }

    /// The stable code.
    #[must_use]
    pub fn code(&self) -> &'static str {
        match self.kind {
            Kind::Missing => "FILE-MISSING",
            Kind::Exists => "FILE-EXISTS",
            Kind::TooLarge { .. } => "FILE-TOO-LARGE",
            Kind::NotRegular { .. } => "FILE-NOT-REGULAR",
            Kind::Denied => "FILE-DENIED",
            Kind::DiskFull => "DISK-FULL",
            Kind::FileSystemLimit => "FILE-SYSTEM-LIMIT",
            Kind::FileReadOnly => "FILE-READ-ONLY",
            Kind::MediaReadOnly => "MEDIA-READ-ONLY",
            Kind::ReadBackMismatch => "READ-BACK-MISMATCH",
            Kind::NameInvalid => "FILE-NAME-INVALID",
            Kind::Io => "FILE-IO",
        }
    }

    /// What to do next.
    #[must_use]
    pub fn hint(&self) -> String {
        let folder = self
            .path
            .parent()
            .filter(|parent| !parent.as_os_str().is_empty());
        let folder = folder.unwrap_or(Path::new(".")).display();
        let path = self.path.display();
        let media = self.operation == Operation::WriteMedia;
        match self.kind {
            Kind::Missing if self.operation == Operation::Read => {
                "check the spelling, and that the medium it is on is plugged in and mounted".into()
            }
            Kind::Missing => format!("check that the folder {folder} exists and its medium is mounted"),
            Kind::Exists => format!("choose another name, or move {path} away if it is no longer needed"),
            Kind::TooLarge { .. } => "check that it is the right one; no genuine one is this large".into(),
            Kind::NotRegular { found: "a folder" } => format!("name a file: one in {path}, for instance"),
            Kind::NotRegular { .. } => {
                "links and devices are never followed; name the real one, or copy it there".into()
            }
            Kind::Denied if self.operation == Operation::Read => {
                format!("run as the user that owns {path}, or have the permissions corrected")
            }
            Kind::Denied => {
                format!("run as the user that owns {folder}, or have the permissions corrected")
            }
            Kind::DiskFull if media => "free space on the medium, or use another one".into(),
            Kind::DiskFull => format!("free space on the disk that holds {folder}, then run it again"),
            Kind::FileSystemLimit => {
                "write it to a disk with another file system, such as ext4 or exFAT".into()
            }
            Kind::FileReadOnly => {
                format!("the disk that holds {folder} is mounted read-only: mount it for writing")
            }
            Kind::MediaReadOnly => {
                "open the write-protect switch of the medium, mount it for writing, or use another one".into()
            }
            Kind::ReadBackMismatch => {
                "do not use this medium any more; repeat the command with another one".into()
            }
            Kind::NameInvalid => "give the name of a file, such as dispatch.cose".into(),
            Kind::Io if media => {
                "check that the medium is still plugged in; if it is, use another one".into()
            }
            Kind::Io if matches!(self.operation, Operation::Read | Operation::List) => format!(
                "check the disk that holds {path}, for example with `dmesg`; if it is a medium, that it is still plugged in"
            ),
            Kind::Io => format!("check the disk that holds {folder}, for example with `dmesg`"),
        }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let path = self.path.display();
        match self.operation {
            Operation::Read => write!(f, "{path} cannot be read: "),
            Operation::Write => write!(f, "{path} cannot be written: "),
            Operation::WriteMedia => write!(f, "{path} cannot be written to the medium: "),
            Operation::CreateFolder => write!(f, "the folder {path} cannot be made: "),
            Operation::List => write!(f, "the folder {path} cannot be opened: "),
            Operation::Remove => write!(f, "{path} cannot be removed: "),
        }?;
        match self.kind {
            Kind::Missing if self.operation == Operation::Read => write!(f, "it does not exist"),
            Kind::Missing => write!(f, "there is no such folder"),
            Kind::Exists => write!(f, "it exists already and was left as it is"),
            Kind::TooLarge { max } if self.operation == Operation::List => {
                write!(f, "it has more than {max} entries")
            }
            Kind::TooLarge { max } => write!(f, "it is larger than {max} bytes"),
            Kind::NotRegular { found } => write!(f, "it is {found}"),
            Kind::Denied => write!(f, "permission denied"),
            Kind::DiskFull => write!(f, "no space is left"),
            Kind::FileSystemLimit => {
                write!(f, "it is larger than its file system allows (FAT32: 4 GiB)")
            }
            Kind::FileReadOnly => write!(f, "the disk is read-only"),
            Kind::MediaReadOnly => write!(f, "the medium is read-only"),
            Kind::ReadBackMismatch => {
                write!(f, "the medium returned other bytes than were written to it")
            }
            Kind::NameInvalid => write!(f, "it is not the name of a file"),
            Kind::Io => write!(f, "the operating system reports a fault"),
        }
    }
}

impl Kind {
    fn from_io(operation: Operation, error: &io::Error) -> Self {
        match Errno::from_io_error(error) {
            Some(Errno::NOENT) => Self::Missing,
            Some(Errno::EXIST | Errno::NOTEMPTY) => Self::Exists,
            Some(Errno::LOOP) => Self::NotRegular {
                found: "a symbolic link",
            },
            Some(Errno::ISDIR) => Self::NotRegular { found: "a folder" },
            Some(Errno::NOTDIR) => Self::NotRegular {
                found: "not a folder",
            },
            Some(Errno::ACCESS | Errno::PERM) => Self::Denied,
            Some(Errno::NOSPC | Errno::DQUOT) => Self::DiskFull,
            Some(Errno::FBIG) => Self::FileSystemLimit,
            Some(Errno::ROFS) if operation == Operation::WriteMedia => Self::MediaReadOnly,
            Some(Errno::ROFS) => Self::FileReadOnly,
            _ => Self::Io,
        }
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        let failure =
            Self::new(Exit::Environment, error.code(), error.to_string()).hint(error.hint());
        match &error.source {
            Some(source) if error.kind == Kind::Io => failure.cause(source),
            _ => failure,
        }
    }
}
