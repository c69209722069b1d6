//! Certificates on their way out: only what the log durably holds comes here.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};

use mintmark_console::files::{self, Folder};
use mintmark_pki::{CERTIFICATE_FILE_BYTES_MAX, Issuer, to_pem};
use rayon::iter::{IntoParallelIterator as _, ParallelIterator as _};

use crate::failure::{Error, Result};

/// The largest file that is compared with what would be written, in bytes.
const EXISTING_BYTES_MAX: u64 = 2 * CERTIFICATE_FILE_BYTES_MAX as u64;

/// The folder that certificates are written to, as `<stem>.pem` and `<stem>.chain.pem`.
pub(crate) struct Output {
    folder: Folder,
    issuer_pem: String,
}

/// One certificate to write.
pub(crate) struct Parcel<'a> {
    /// The name of the file that asked for it.
    pub(crate) file: &'a OsStr,
    /// Its serial number, as people write it.
    pub(crate) serial: String,
    /// The certificate, DER.
    pub(crate) der: &'a [u8],
}

/// Where a certificate went.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Delivered {
    /// The certificate's file.
    pub(crate) path: PathBuf,
    /// Another certificate had the name that it should have had.
    pub(crate) renamed: bool,
}

impl Output {
    /// Opens the folder, which is made if its parent is there, and tries whether it can be written to: that has to be
    /// known before a unit is spent.
    pub(crate) fn open(path: &Path, issuer: &Issuer) -> Result<Self> {
        match std::fs::create_dir(path) {
            Err(error) if error.kind() != std::io::ErrorKind::AlreadyExists => {
                let message = format!("the output folder {} cannot be made", path.display());
                return Err(Error::environment("OUTPUT-FOLDER", message)
                    .cause(error)
                    .hint("nothing was issued; name a folder whose parent folder exists"));
            }
            _ => {}
        }
        let folder = Folder::open(path)?;
        let probe = format!(".mintmark-{}.part", std::process::id());
        folder.write_new(&probe, b"")?;
        folder.remove(&probe)?;
        Ok(Self {
            folder,
            issuer_pem: to_pem("CERTIFICATE", issuer.certificate_der()),
        })
    }

    /// Writes certificates; what came of each stands in its place.
    pub(crate) fn deliver(&self, parcels: &[Parcel<'_>]) -> Vec<Result<Delivered>> {
        // Those that want one name go one after another, in their order.
        let mut by_stem: BTreeMap<OsString, Vec<usize>> = BTreeMap::new();
        for (at, parcel) in parcels.iter().enumerate() {
            by_stem.entry(stem(parcel.file)).or_default().push(at);
        }
        let mut delivered: Vec<(usize, Result<Delivered>)> = by_stem
            .into_par_iter()
            .flat_map_iter(|(stem, places)| {
                places
                    .into_iter()
                    .map(move |at| (at, self.place(&stem, parcels.get(at))))
            })
            .collect();
        delivered.sort_by_key(|(at, _)| *at);
        delivered
            .into_iter()
            .map(|(_, delivered)| delivered)
            .collect()
    }

    fn place(&self, stem: &OsStr, parcel: Option<&Parcel<'_>>) -> Result<Delivered> {
        let parcel = parcel.ok_or_else(|| Error::unknown("INTERNAL", "a certificate was lost"))?;
        let certificate = to_pem("CERTIFICATE", parcel.der);
        let chain = format!("{certificate}{}", self.issuer_pem);
        let mut unique = stem.to_owned();
        unique.push(format!("-{}", parcel.serial));
        for (renamed, stem) in [(false, stem), (true, &unique)] {
            let (leaf_name, chain_name) =
                (with_suffix(stem, ".pem"), with_suffix(stem, ".chain.pem"));
            if self.is_free(&leaf_name, &certificate)? && self.is_free(&chain_name, &chain)? {
                self.write(&leaf_name, &certificate)?;
                self.write(&chain_name, &chain)?;
                return Ok(Delivered {
                    path: self.folder.path().join(leaf_name),
                    renamed,
                });
            }
        }
        let path = self.folder.path().join(with_suffix(&unique, ".pem"));
        Err(Error::environment(
            "OUTPUT-TAKEN",
            format!("{} is something else", path.display()),
        )
        .hint("move it away, then run the same command again: no unit is spent twice"))
    }

    /// Whether a name is not taken, or taken by what would be written.
    fn is_free(&self, name: &OsStr, text: &str) -> Result<bool> {
        match self.folder.read_limited(name, EXISTING_BYTES_MAX) {
            Ok(there) => Ok(there == text.as_bytes()),
            Err(error) if error.is_missing() => Ok(true),
            Err(error) => match error.kind() {
                files::Kind::TooLarge { .. } | files::Kind::NotRegular { .. } => Ok(false),
                _ => Err(error.into()),
            },
        }
    }

    fn write(&self, name: &OsStr, text: &str) -> Result<()> {
        match self.folder.write_public_new(name, text.as_bytes()) {
            Err(error) if error.is_exists() => Ok(()),
            written => Ok(written?),
        }
    }
}

/// The name of a file without its last extension.
fn stem(file: &OsStr) -> OsString {
    Path::new(file).file_stem().unwrap_or(file).to_owned()
}

fn with_suffix(stem: &OsStr, suffix: &str) -> OsString {
    let mut name = stem.to_owned();
    name.push(suffix);
    name
}
