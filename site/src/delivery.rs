//! Certificates on their way out: only what the log durably holds comes here.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};

use mintmark_console::files::{self, Folder};
use mintmark_pki::{CERTIFICATE_FILE_BYTES_MAX, Issuer, to_pem};

use crate::failure::{Error, Result};

/// The largest file that is compared with what would be written, in bytes.
const EXISTING_BYTES_MAX: u64 = 2 * CERTIFICATE_FILE_BYTES_MAX as u64;

/// As many files are synced one by one; more share one sync of the whole file system.
const FILES_SYNCED_ALONE_MAX: usize = 8;

/// The folder that certificates are written to, as `<stem>.pem` and `<stem>.chain.pem`.
pub(crate) struct Output {
    folder: Folder,
    path: PathBuf,
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
        let folder = match (path.parent(), path.file_name()) {
            (Some(parent), Some(name)) if !path.exists() => {
                let here = Path::new(".");
                let parent = if parent == Path::new("") {
                    here
                } else {
                    parent
                };
                // Certificates are public, whatever the mask says.
                Folder::open(parent).and_then(|parent| parent.create_public_subfolder(name))
            }
            _ => Folder::open(path),
        };
        let folder = folder.map_err(|error| {
            let message = format!("the output folder {} cannot be used", path.display());
            Error::environment("OUTPUT-FOLDER", message)
                .cause(error)
                .hint("nothing was issued; name a folder that exists, or whose parent folder does")
        })?;
        let probe = format!(".mintmark-{}.part", std::process::id());
        folder.write_new(&probe, b"")?;
        folder.remove(&probe)?;
        // What a killed process was writing here was never a certificate; it is written again where it is asked for.
        folder.remove_abandoned_parts()?;
        Ok(Self {
            folder,
            path: path.to_owned(),
            issuer_pem: to_pem("CERTIFICATE", issuer.certificate_der()),
        })
    }

    /// Writes certificates; what came of each stands in its place.
    pub(crate) fn deliver(&self, parcels: &[Parcel<'_>]) -> Vec<Result<Delivered>> {
        let mut plan = Plan::default();
        let placed: Vec<Result<Placed>> = parcels
            .iter()
            .map(|parcel| self.place(&mut plan, parcel))
            .collect();
        let mut failed = self.write(&plan.missing);
        placed
            .into_iter()
            .map(|placed| {
                let Placed { names, renamed } = placed?;
                match names.iter().find_map(|name| failed.remove(name)) {
                    Some(error) => Err(error.into()),
                    None => {
                        let [certificate, _] = names;
                        Ok(Delivered {
                            path: self.shown(&certificate),
                            renamed,
                        })
                    }
                }
            })
            .collect()
    }

    /// The path of a file as people write it: `certs/a.pem`, never `./certs/a.pem`.
    fn shown(&self, name: &OsStr) -> PathBuf {
        let here = Path::new(".");
        self.path
            .strip_prefix(here)
            .unwrap_or(&self.path)
            .join(name)
    }

    /// Decides on the names of one certificate: the ones that it should have, unless something else has them.
    fn place(&self, plan: &mut Plan, parcel: &Parcel<'_>) -> Result<Placed> {
        let certificate = to_pem("CERTIFICATE", parcel.der);
        let chain = format!("{certificate}{}", self.issuer_pem);
        let stem = stem(parcel.file);
        let mut unique = stem.clone();
        unique.push(format!("-{}", parcel.serial));
        for (renamed, stem) in [(false, &stem), (true, &unique)] {
            let names = [".pem", ".chain.pem"].map(|suffix| with_suffix(stem, suffix));
            let [leaf_name, chain_name] = &names;
            let leaf_stands = self.stands(plan, leaf_name, &certificate)?;
            let chain_stands = self.stands(plan, chain_name, &chain)?;
            let (Some(leaf_stands), Some(chain_stands)) = (leaf_stands, chain_stands) else {
                continue;
            };
            if !leaf_stands {
                plan.missing.insert(leaf_name.clone(), certificate);
            }
            if !chain_stands {
                plan.missing.insert(chain_name.clone(), chain);
            }
            return Ok(Placed { names, renamed });
        }
        let path = self.shown(&with_suffix(&unique, ".pem"));
        Err(Error::environment(
            "OUTPUT-TAKEN",
            format!("{} is something else", path.display()),
        )
        .hint("move it away, then run the same command again: no unit is spent twice"))
    }

    /// Whether this text stands under a name, or will; none if something else does.
    fn stands(&self, plan: &Plan, name: &OsStr, text: &str) -> Result<Option<bool>> {
        if let Some(planned) = plan.missing.get(name) {
            return Ok((planned == text).then_some(true));
        }
        match self.folder.read_limited(name, EXISTING_BYTES_MAX) {
            Ok(there) => Ok((there == text.as_bytes()).then_some(true)),
            Err(error) if error.is_missing() => Ok(Some(false)),
            Err(error) => match error.kind() {
                files::Kind::TooLarge { .. } | files::Kind::NotRegular { .. } => Ok(None),
                _ => Err(error.into()),
            },
        }
    }

    /// Writes what is missing, and gives what could not be written.
    fn write(&self, missing: &BTreeMap<OsString, String>) -> BTreeMap<OsString, files::Error> {
        let written: Vec<_> = if missing.len() > FILES_SYNCED_ALONE_MAX {
            let files: Vec<(&OsString, &String)> = missing.iter().collect();
            self.folder.write_public_new_all(&files)
        } else {
            let write = |(name, text): (&OsString, &String)| {
                self.folder.write_public_new(name, text.as_bytes())
            };
            missing.iter().map(write).collect()
        };
        let failed = missing
            .keys()
            .zip(written)
            .filter_map(|(name, written)| Some((name.clone(), written.err()?)));
        failed.collect()
    }
}

/// The names that a certificate and its chain get.
struct Placed {
    names: [OsString; 2],
    renamed: bool,
}

/// What has to be written, by name.
#[derive(Default)]
struct Plan {
    missing: BTreeMap<OsString, String>,
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

#[cfg(test)]
mod tests {
    use super::*;

    fn parcel<'a>(file: &'a str, serial: &str, der: &'a [u8]) -> Parcel<'a> {
        Parcel {
            file: OsStr::new(file),
            serial: serial.to_owned(),
            der,
        }
    }

    fn output(path: &Path) -> Output {
        Output {
            folder: Folder::open(path).unwrap(),
            path: path.to_owned(),
            issuer_pem: "ISSUER\n".to_owned(),
        }
    }

    fn name(delivered: &Result<Delivered>) -> (String, bool) {
        let delivered = delivered.as_ref().unwrap();
        (
            delivered
                .path
                .file_name()
                .unwrap()
                .to_str()
                .unwrap()
                .to_owned(),
            delivered.renamed,
        )
    }

    #[test]
    fn two_certificates_of_one_name_both_arrive_and_the_same_one_arrives_once() {
        let folder = tempfile::tempdir().unwrap();
        let output = output(folder.path());
        for _ in 0..2 {
            let delivered = output.deliver(&[
                parcel("a.csr", "01", b"one"),
                parcel("a.der", "02", b"two"),
                parcel("a.pem", "01", b"one"),
            ]);
            let names: Vec<_> = delivered.iter().map(name).collect();
            assert_eq!(
                names,
                [("a.pem", false), ("a-02.pem", true), ("a.pem", false)]
                    .map(|(name, renamed)| (name.to_owned(), renamed))
            );
        }
        let count = std::fs::read_dir(folder.path()).unwrap().count();
        assert_eq!(count, 4, "two certificates, two chains");
    }

    #[test]
    fn what_stands_in_the_folder_is_never_overwritten_and_a_missing_chain_is_added() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("a.chain.pem"), "the operator's own").unwrap();
        std::fs::write(folder.path().join("b.pem"), to_pem("CERTIFICATE", b"two")).unwrap();
        std::fs::create_dir(folder.path().join("c.pem")).unwrap();
        std::os::unix::fs::symlink("/etc/passwd", folder.path().join("d.pem")).unwrap();
        let parcels = [
            parcel("a.csr", "01", b"one"),
            parcel("b.csr", "02", b"two"),
            parcel("c.csr", "03", b"three"),
            parcel("d.csr", "04", b"four"),
        ];
        let delivered = output(folder.path()).deliver(&parcels);
        let names: Vec<_> = delivered
            .iter()
            .map(|delivered| name(delivered).0)
            .collect();
        assert_eq!(names, ["a-01.pem", "b.pem", "c-03.pem", "d-04.pem"]);
        let chain = std::fs::read_to_string(folder.path().join("b.chain.pem")).unwrap();
        assert!(chain.ends_with("ISSUER\n"), "{chain}");
        let own = std::fs::read_to_string(folder.path().join("a.chain.pem")).unwrap();
        assert_eq!(own, "the operator's own");
    }

    #[test]
    fn paths_are_shown_as_people_write_them() {
        for (path, shown) in [
            ("certs", "certs/a.pem"),
            ("./certs", "certs/a.pem"),
            (".", "a.pem"),
            ("../certs", "../certs/a.pem"),
            ("/srv/certs", "/srv/certs/a.pem"),
        ] {
            let output = Output {
                folder: Folder::open("/").unwrap(),
                path: PathBuf::from(path),
                issuer_pem: String::new(),
            };
            assert_eq!(output.shown(OsStr::new("a.pem")), Path::new(shown));
        }
    }

    #[test]
    fn many_certificates_arrive_as_few_do() {
        let folder = tempfile::tempdir().unwrap();
        let names: Vec<String> = (0..100).map(|number| format!("{number}.csr")).collect();
        let parcels: Vec<_> = names
            .iter()
            .map(|name| parcel(name, "01", name.as_bytes()))
            .collect();
        let delivered = output(folder.path()).deliver(&parcels);
        for (delivered, parcel) in delivered.iter().zip(&parcels) {
            let text = std::fs::read_to_string(&delivered.as_ref().unwrap().path).unwrap();
            assert_eq!(text, to_pem("CERTIFICATE", parcel.der));
        }
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 200);
    }
}
