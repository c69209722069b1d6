//! Certificates on their way out: only what the log durably holds comes here.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};

use mintmark_console::files::{self, Folder};
use mintmark_pki::{CERTIFICATE_FILE_BYTES_MAX, to_pem};
use mintmark_protocol::device_secret::DEVICE_SECRET_BYTES_MAX;
use mintmark_protocol::envelope::{self, Kind};
use mintmark_protocol::identifier::KeyLabel;

use crate::failure::{Error, Result};
use crate::vault::SealedSecret;

/// The largest file that is compared with what would be written, in bytes.
const EXISTING_BYTES_MAX: u64 = 2 * CERTIFICATE_FILE_BYTES_MAX as u64;

/// As many files are synced one by one; more share one sync of the whole file system.
const FILES_SYNCED_ALONE_MAX: usize = 8;

/// The folder that certificates are written to, as `<stem>.pem` and `<stem>.chain.pem`, and the secrets that go with them,
/// as `<stem>.<key>.secret.cose`.
pub(crate) struct Output {
    folder: Folder,
    path: PathBuf,
}

/// One certificate to write.
pub(crate) struct Parcel<'a> {
    /// The name of the file that asked for it.
    pub(crate) file: &'a OsStr,
    /// Its serial number, as people write it.
    pub(crate) serial: String,
    /// The certificate, DER.
    pub(crate) der: &'a [u8],
    /// The device CA's certificate, PEM.
    pub(crate) issuer_pem: &'a str,
    /// The secrets that go with it.
    pub(crate) secrets: Vec<SealedSecret>,
}

/// Where a certificate went.
#[derive(Debug)]
pub(crate) struct Delivered {
    /// The certificate's file.
    pub(crate) path: PathBuf,
    /// Another certificate had the name that it should have had.
    pub(crate) renamed: bool,
    /// Where the secrets went that go with it.
    pub(crate) secrets: Vec<DeliveredSecret>,
}

/// Where a secret went, or why it did not.
#[derive(Debug)]
pub(crate) struct DeliveredSecret {
    /// The key that it comes from.
    pub(crate) label: KeyLabel,
    /// Its file.
    pub(crate) path: Result<PathBuf>,
}

impl Output {
    /// Opens the folder, which is made if its parent is there, and tries whether it can be written to: that has to be
    /// known before a unit is spent.
    pub(crate) fn open(path: &Path) -> Result<Self> {
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
        // Named as the part of a file is, so that the one of a killed process goes with its other parts.
        let probe = format!(".mintmark-probe.{}-0.part", std::process::id());
        folder.write_new(&probe, b"")?;
        folder.remove(&probe)?;
        // What a killed process was writing here was never a certificate; it is written again where it is asked for.
        folder.remove_abandoned_parts()?;
        Ok(Self {
            folder,
            path: path.to_owned(),
        })
    }

    /// Writes certificates and secrets; what came of each stands in its place.
    pub(crate) fn deliver(&self, parcels: Vec<Parcel<'_>>) -> Vec<Result<Delivered>> {
        let mut plan = Plan::default();
        let placed: Vec<Result<Placed>> = parcels
            .into_iter()
            .map(|parcel| self.place(&mut plan, parcel))
            .collect();
        let mut failed = self.write(&plan);
        placed
            .into_iter()
            .map(|placed| {
                let Placed {
                    names,
                    renamed,
                    secrets,
                } = placed?;
                let [certificate, _] = &names;
                let path = self.shown(certificate);
                if let Some(error) = names.iter().find_map(|name| failed.remove(name)) {
                    return Err(error.into());
                }
                let secrets = secrets.into_iter().map(|(label, name)| DeliveredSecret {
                    label,
                    path: name.and_then(|name| match failed.remove(&name) {
                        Some(error) => Err(error.into()),
                        None => Ok(self.shown(&name)),
                    }),
                });
                Ok(Delivered {
                    path,
                    renamed,
                    secrets: secrets.collect(),
                })
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
    fn place(&self, plan: &mut Plan, parcel: Parcel<'_>) -> Result<Placed> {
        let certificate = to_pem("CERTIFICATE", parcel.der);
        let chain = format!("{certificate}{}", parcel.issuer_pem);
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
                plan.missing
                    .insert(leaf_name.clone(), certificate.into_bytes());
            }
            if !chain_stands {
                plan.missing.insert(chain_name.clone(), chain.into_bytes());
            }
            let secrets = parcel.secrets.into_iter().map(|secret| {
                let name = with_suffix(stem, &format!(".{}.secret.cose", secret.label));
                let placed = secret
                    .message
                    .and_then(|message| self.place_secret(plan, name, message));
                (secret.label, placed)
            });
            return Ok(Placed {
                secrets: secrets.collect(),
                names,
                renamed,
            });
        }
        Err(self.taken(&with_suffix(&unique, ".pem")))
    }

    /// Decides on the name of one secret. Each message that brings it is another one, encrypted anew: an earlier one of
    /// the same secret is replaced, and nothing else is.
    fn place_secret(&self, plan: &mut Plan, name: OsString, message: Vec<u8>) -> Result<OsString> {
        let identity = |bytes: &[u8]| {
            let context = envelope::claim(bytes, DEVICE_SECRET_BYTES_MAX)
                .ok()?
                .context;
            (context.kind == Kind::DeviceSecret).then_some((context.sender, context.id))
        };
        let is_earlier =
            |there: &[u8]| identity(there).is_some_and(|is| identity(&message) == Some(is));
        if let Some(planned) = plan.missing.get(&name).or(plan.replaced.get(&name)) {
            return match is_earlier(planned) {
                true => Ok(name),
                false => Err(self.taken(&name)),
            };
        }
        let there = self
            .folder
            .read_limited(&name, DEVICE_SECRET_BYTES_MAX as u64);
        match there {
            Ok(there) if is_earlier(&there) => plan.replaced.insert(name.clone(), message),
            Ok(_) => return Err(self.taken(&name)),
            Err(error) if error.is_missing() => plan.missing.insert(name.clone(), message),
            Err(error) => match error.kind() {
                files::Kind::TooLarge { .. } | files::Kind::NotRegular { .. } => {
                    return Err(self.taken(&name));
                }
                _ => return Err(error.into()),
            },
        };
        Ok(name)
    }

    fn taken(&self, name: &OsStr) -> Error {
        let path = self.shown(name);
        let message = format!("{} is something else", path.display());
        Error::environment("OUTPUT-TAKEN", message)
            .hint("move it away, then run the same command again: no unit is spent twice")
    }

    /// Whether this text stands under a name, or will; none if something else does.
    fn stands(&self, plan: &Plan, name: &OsStr, text: &str) -> Result<Option<bool>> {
        if let Some(planned) = plan.missing.get(name) {
            return Ok((planned == text.as_bytes()).then_some(true));
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

    /// Writes what is planned, and gives what could not be written.
    fn write(&self, plan: &Plan) -> BTreeMap<OsString, files::Error> {
        let missing = &plan.missing;
        let written: Vec<_> = if missing.len() > FILES_SYNCED_ALONE_MAX {
            let files: Vec<(&OsString, &Vec<u8>)> = missing.iter().collect();
            self.folder.write_public_new_all(&files)
        } else {
            let write =
                |(name, bytes): (&OsString, &Vec<u8>)| self.folder.write_public_new(name, bytes);
            missing.iter().map(write).collect()
        };
        let replace =
            |(name, bytes): (&OsString, &Vec<u8>)| self.folder.write_public_replace(name, bytes);
        let replaced = plan.replaced.iter().map(replace);
        let names = missing.keys().chain(plan.replaced.keys());
        let failed = names
            .zip(written.into_iter().chain(replaced))
            .filter_map(|(name, written)| Some((name.clone(), written.err()?)));
        failed.collect()
    }
}

/// The names that a certificate, its chain and its secrets get.
struct Placed {
    names: [OsString; 2],
    renamed: bool,
    secrets: Vec<(KeyLabel, Result<OsString>)>,
}

/// What has to be written, by name.
#[derive(Default)]
struct Plan {
    missing: BTreeMap<OsString, Vec<u8>>,
    /// What stands there and gives way.
    replaced: BTreeMap<OsString, Vec<u8>>,
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
            issuer_pem: "ISSUER\n",
            secrets: Vec::new(),
        }
    }

    fn output(path: &Path) -> Output {
        Output {
            folder: Folder::open(path).unwrap(),
            path: path.to_owned(),
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
            let delivered = output.deliver(vec![
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
        let parcels = vec![
            parcel("a.csr", "01", b"one"),
            parcel("b.csr", "02", b"two"),
            parcel("c.csr", "03", b"three"),
            parcel("d.csr", "04", b"four"),
        ];
        let delivered = output(folder.path()).deliver(parcels);
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
        let delivered = output(folder.path()).deliver(parcels);
        for (delivered, name) in delivered.iter().zip(&names) {
            let text = std::fs::read_to_string(&delivered.as_ref().unwrap().path).unwrap();
            assert_eq!(text, to_pem("CERTIFICATE", name.as_bytes()));
        }
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 200);
    }
}
