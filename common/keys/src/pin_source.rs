//! Where a PIN is that nobody types.

use std::env;
use std::ffi::OsString;
use std::io;
use std::path::{self, PathBuf};

/// What systemd tells a service of: the folder of the credentials that it was given (systemd.exec(5)).
const CREDENTIALS: &str = "CREDENTIALS_DIRECTORY";

/// Longest name of a credential, as systemd has it: that of a file.
const NAME_BYTES_MAX: usize = 255;

/// What `pin-source` names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PinSource {
    /// `file:PATH`: this file.
    File(PathBuf),
    /// `credential:NAME`: the service's credential of this name. Where there are none, as for whoever runs the same command
    /// at a terminal, a person is asked.
    Credential(String),
}

impl PinSource {
    /// The file to read; none where a person is to be asked.
    #[must_use]
    pub fn file(&self) -> Option<PathBuf> {
        self.file_among(env::var_os(CREDENTIALS))
    }

    fn file_among(&self, credentials: Option<OsString>) -> Option<PathBuf> {
        match self {
            Self::File(path) => Some(path.clone()),
            Self::Credential(name) => {
                let folder = PathBuf::from(credentials?);
                folder.is_absolute().then(|| folder.join(name))
            }
        }
    }

    /// A credential by its name; none if that is not one: it becomes the name of a file.
    pub(crate) fn credential(name: &[u8]) -> Option<Self> {
        let plain = |byte: &u8| byte.is_ascii_alphanumeric() || b"-._".contains(byte);
        let fits = (1..=NAME_BYTES_MAX).contains(&name.len())
            && name.iter().all(plain)
            && !matches!(name, b"." | b"..");
        let name = String::from_utf8(name.to_vec()).ok()?;
        fits.then_some(Self::Credential(name))
    }

    /// The same, from any folder.
    pub(crate) fn absolute(&self) -> io::Result<Self> {
        Ok(match self {
            Self::File(path) => Self::File(path::absolute(path)?),
            Self::Credential(_) => self.clone(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_credential_is_a_file_where_there_are_credentials_and_a_question_elsewhere() {
        let source = PinSource::credential(b"vault-pin").unwrap();
        let among = |folder: &str| source.file_among(Some(folder.into()));
        assert_eq!(
            among("/run/credentials/x.service"),
            Some("/run/credentials/x.service/vault-pin".into())
        );
        // systemd gives no other, and one of the working directory could be anybody's.
        assert_eq!(among("here"), None);
        assert_eq!(source.file_among(None), None);
    }

    #[test]
    fn the_name_of_a_credential_leads_nowhere_else() {
        for name in [
            &b""[..],
            b".",
            b"..",
            b"a/b",
            b"../pin",
            b"a b",
            b"\xff",
            &[b'a'; 256],
        ] {
            assert_eq!(PinSource::credential(name), None, "{name:?}");
        }
    }
}
