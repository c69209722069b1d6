//! Why a backup could not be made, read or put back.

use std::io;
use std::path::{Path, PathBuf};

use mintmark_console::{Exit, Failure, files};

/// Why a backup could not be made, read or put back. Every variant has a stable code.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// What should be the public half of a recovery key is none.
    #[error("{what} is no recovery key: {why}")]
    RecoveryKey {
        /// Where it came from.
        what: String,
        /// What is wrong with it.
        why: &'static str,
    },
    /// What was typed are not the words of a recovery key.
    #[error("these are not the words of a recovery key: {why}")]
    Words {
        /// Which of them, by their place.
        why: String,
    },
    /// A file with words that others may read.
    #[error("others than its owner may read the words in {}", path.display())]
    WordsExposed {
        /// The file.
        path: PathBuf,
    },
    /// There are no words, and nobody to ask.
    #[error("the words of the recovery key could not be asked for")]
    WordsMissing(#[source] io::Error),
    /// The words of another recovery key.
    #[error(
        "these are the words of the recovery key {given}, and the backup is sealed to {sealed}"
    )]
    RecoveryKeyOther {
        /// Whose words they are.
        given: String,
        /// What the backup is sealed to.
        sealed: String,
    },
    /// It is not, or no more, what was sealed.
    #[error("{} is no whole backup: {why}", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What does not fit.
        why: &'static str,
    },
    /// It was signed by another key than was named.
    #[error("the backup was signed by the key {found}, and not by {expected}")]
    Signer {
        /// The key id that was given.
        expected: String,
        /// The key id of its signer.
        found: String,
    },
    /// It is another backup than was named.
    #[error("the backup has the fingerprint {found}, and not {expected}")]
    Fingerprint {
        /// What was given.
        expected: String,
        /// What it has.
        found: String,
    },
    /// It is of another kind of home than this program has.
    #[error("this is a backup of {found}")]
    OfAnother {
        /// Whose home it is.
        found: String,
    },
    /// A file of the home changed, or went, while the home was read.
    #[error("{path} changed or was taken away while the home was read")]
    HomeChanged {
        /// Its path in the home.
        path: String,
    },
    /// What stands in a home has a name that no backup has room for.
    #[error("{path} is no name that a file of a home has")]
    Name {
        /// The path.
        path: String,
    },
    /// Something stands where a new file is to be.
    #[error("{} is there already", path.display())]
    Exists {
        /// The file.
        path: PathBuf,
    },
    /// What was written is not what is there.
    #[error("{} does not hold what was written to it", path.display())]
    ReadBack {
        /// The file.
        path: PathBuf,
    },
    /// A file could not be read or written.
    #[error("{} could not be written or read", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// What was made is there and whole, and its folder could not be made to last.
    #[error("{} is there and whole, but its name may not outlast a power cut", path.display())]
    NameMayNotLast {
        /// What was made.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// Whoever waited for it has gone, or asked for it to stop.
    #[error("stopped before it was whole; what was begun was removed")]
    Interrupted,
    /// A message was not believed, or could not be made.
    #[error(transparent)]
    Message(#[from] mintmark_protocol::Error),
    /// A file could not be read or written.
    #[error(transparent)]
    File(#[from] files::Error),
    /// Compression or encryption failed, which it never should.
    #[error("the backup could not be written: {0}")]
    Internal(&'static str),
}

impl Error {
    /// A file that could not be read or written.
    pub(crate) fn io(path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_owned();
        move |source| Self::Io { path, source }
    }

    /// The stable code that people, logs and tests know this by.
    pub fn code(&self) -> &'static str {
        match self {
            Self::RecoveryKey { .. } => "RECOVERY-KEY-INVALID",
            Self::Words { .. } => "RECOVERY-WORDS-INVALID",
            Self::WordsExposed { .. } => "RECOVERY-WORDS-EXPOSED",
            Self::WordsMissing(_) => "RECOVERY-WORDS-MISSING",
            Self::RecoveryKeyOther { .. } => "RECOVERY-KEY-OTHER",
            Self::Damaged { .. } => "BACKUP-DAMAGED",
            Self::Signer { .. } => "BACKUP-SIGNER",
            Self::Fingerprint { .. } => "FINGERPRINT-MISMATCH",
            Self::OfAnother { .. } => "BACKUP-OF-ANOTHER",
            Self::HomeChanged { .. } => "BACKUP-HOME-CHANGED",
            Self::Name { .. } => "BACKUP-NAME",
            Self::Exists { .. } => "FILE-EXISTS",
            Self::ReadBack { .. } => "BACKUP-READ-BACK",
            Self::Io { .. } | Self::NameMayNotLast { .. } => "FILE-IO",
            Self::Interrupted => "INTERRUPTED",
            Self::Message(error) => error.code(),
            Self::File(_) => "FILE-IO",
            Self::Internal(_) => "INTERNAL",
        }
    }

    fn exit(&self) -> Exit {
        match self {
            Self::RecoveryKey { .. }
            | Self::Words { .. }
            | Self::WordsMissing(_)
            | Self::OfAnother { .. } => Exit::Usage,
            Self::RecoveryKeyOther { .. }
            | Self::Damaged { .. }
            | Self::Signer { .. }
            | Self::Fingerprint { .. } => Exit::Negative,
            Self::Message(error) => match error {
                mintmark_protocol::Error::KeyOperation(_) | mintmark_protocol::Error::Random => {
                    Exit::Environment
                }
                _ => Exit::Negative,
            },
            Self::NameMayNotLast { .. } | Self::Internal(_) => Exit::Unknown,
            _ => Exit::Environment,
        }
    }

    /// What to do next.
    pub fn hint(&self) -> String {
        match self {
            Self::RecoveryKey { .. } => {
                "give the file that `backup key --output FILE` wrote, as it was written"
            }
            Self::Words { .. } => {
                "read the paper again, line by line: four words, then two check characters; nothing was changed"
            }
            Self::WordsExposed { .. } => {
                "find out who has read them; then `chmod 600` the file, or better type the words at the terminal"
            }
            Self::WordsMissing(_) => {
                "run this at a terminal, or give --words FILE, which only its owner may read; words are taken neither \
                 from arguments nor from the environment"
            }
            Self::RecoveryKeyOther { .. } => {
                "find the paper whose heading names the recovery key that the backup is sealed to"
            }
            Self::Damaged { .. } => {
                "copy it again from where it was kept, or take another backup; nothing was made of it"
            }
            Self::Signer { .. } | Self::Fingerprint { .. } => {
                "compare again with what was written down when the backup was made; if it differs, this is another \
                 backup or a forged one, and nothing was made of it"
            }
            Self::OfAnother { .. } => {
                "a backup of headquarters is for `hq restore`, one of a vault for `site restore`"
            }
            Self::HomeChanged { .. } => "run it again while nothing else works on the home",
            Self::Name { .. } => "move it out of the home: nothing that belongs there has such a name",
            Self::Exists { .. } => "choose another name, or move it away",
            Self::ReadBack { .. } => "take another medium; what was written was removed",
            Self::NameMayNotLast { .. } => {
                "put the disk right and look that it is still there: go on with it then; `backup inspect` shows what a backup \
                 says of itself"
            }
            Self::Interrupted => "nothing was changed: run the same command again",
            Self::Io { .. } | Self::File(_) => "check the path, its permissions and the disk, and that there is room",
            Self::Message(error) => return error.hint().to_owned(),
            Self::Internal(_) => "report this with the command that you ran",
        }
        .to_owned()
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        if let Error::File(error) = error {
            return error.into();
        }
        let source = std::error::Error::source(&error).map(ToString::to_string);
        let failure = Self::new(error.exit(), error.code(), error.to_string()).hint(error.hint());
        match source {
            Some(cause) => failure.cause(cause),
            None => failure,
        }
    }
}
