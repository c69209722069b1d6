//! Certificates on their way out: only what the log durably holds comes here.

mod on_the_way;

use std::collections::{BTreeMap, HashSet};
use std::ffi::{OsStr, OsString};
use std::hash::{BuildHasher as _, RandomState};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use mintmark_console::files::{self, Folder, Unplaced};
use mintmark_pki::{CERTIFICATE_FILE_BYTES_MAX, to_pem};
use mintmark_protocol::device_secret::{DEVICE_SECRET_BYTES_MAX, object_id};
use mintmark_protocol::envelope::{self, Kind};
use mintmark_protocol::identifier::{Fingerprint, KeyLabel};

use self::on_the_way::OnTheWay;
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
    hasher: RandomState,
    /// Names that were decided on and that nothing stands under yet.
    on_the_way: OnTheWay,
    /// The names that were in the folder when it was opened and that were written since; of others it need not be asked. What
    /// somebody else puts there meanwhile is not overwritten either: files get their names only where nothing has them.
    there: Mutex<HashSet<Digest>>,
}

/// A name, in short: two names that have the same one are taken for each other, which costs a look at the folder.
type Digest = u64;

/// Certificates whose names are decided on and whose files are written, but do not last yet. Dropped, they are gone.
pub(crate) struct Consignment<'a> {
    output: &'a Output,
    placed: Vec<Result<Placed>>,
    plan: Plan,
    /// The names under which something will stand.
    names: Vec<Digest>,
    /// The files that are to be new, in the order of the plan; none of them while they are so few that each is better
    /// synced by itself.
    begun: Vec<std::result::Result<Unplaced<'a>, files::Error>>,
}

impl Drop for Consignment<'_> {
    fn drop(&mut self) {
        self.begun.clear();
        self.output.on_the_way.remove(&self.names);
    }
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
    /// The certificates that it takes the place of.
    pub(crate) earlier: Vec<Superseded<'a>>,
}

/// A certificate that another one took the place of.
pub(crate) struct Superseded<'a> {
    /// Its issue number.
    pub(crate) issue: u16,
    /// The certificate, DER.
    pub(crate) der: &'a [u8],
    /// The certificate of the device CA that certified it, PEM.
    pub(crate) issuer_pem: &'a str,
    /// SHA-256 of its key's SubjectPublicKeyInfo.
    pub(crate) spki_sha256: Fingerprint,
}

/// Where a certificate went.
#[derive(Debug)]
pub(crate) struct Delivered {
    /// The certificate's file.
    pub(crate) path: PathBuf,
    /// Another certificate had the name that it should have had.
    pub(crate) renamed: bool,
    /// Where the certificate is now that had the name before, and that this one took the place of.
    pub(crate) aside: Option<PathBuf>,
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

/// The folder in which an output folder is to be made, and its name there; none where it is there.
fn new_in(path: &Path) -> Option<(&Path, &OsStr)> {
    let (parent, name) = (path.parent()?, path.file_name()?);
    let parent = match parent == Path::new("") {
        true => Path::new("."),
        false => parent,
    };
    (!path.exists()).then_some((parent, name))
}

fn unusable(path: &Path, cause: files::Error) -> Error {
    let message = format!("the output folder {} cannot be used", path.display());
    Error::environment("OUTPUT-FOLDER", message)
        .cause(cause)
        .hint("nothing was issued; name a folder that exists, or whose parent folder does")
}

impl Output {
    /// Whether there is a folder, or a place for one. Nothing is made.
    ///
    /// # Errors
    /// OUTPUT-FOLDER.
    pub(crate) fn expect_place(path: &Path) -> Result<()> {
        let folder = new_in(path).map_or(path, |(parent, _)| parent);
        Folder::open(folder).map_err(|error| unusable(path, error))?;
        Ok(())
    }

    /// Opens the folder, which is made if its parent is there, and tries whether it can be written to: that has to be
    /// known before a unit is spent.
    pub(crate) fn open(path: &Path) -> Result<Self> {
        let folder = match new_in(path) {
            // Certificates are public, whatever the mask says.
            Some((parent, name)) => {
                Folder::open(parent).and_then(|parent| parent.create_public_subfolder(name))
            }
            None => Folder::open(path),
        };
        let folder = folder.map_err(|error| unusable(path, error))?;
        // Named as the part of a file is, so that the one of a killed process goes with its other parts.
        let probe = format!(".mintmark-probe.{}-0.part", std::process::id());
        folder.write_new(&probe, b"")?;
        folder.remove(&probe)?;
        // What a killed process was writing here was never a certificate; it is written again where it is asked for.
        folder.remove_abandoned_parts()?;
        let (hasher, mut there) = (RandomState::new(), HashSet::new());
        folder.each_name(|name| {
            there.insert(hasher.hash_one(name));
        })?;
        Ok(Self {
            folder,
            path: path.to_owned(),
            hasher,
            on_the_way: OnTheWay::default(),
            there: Mutex::new(there),
        })
    }

    /// Writes certificates and secrets; what came of each stands in its place.
    #[cfg(test)]
    pub(crate) fn deliver(&self, parcels: Vec<Parcel<'_>>) -> Vec<Result<Delivered>> {
        let mut landed = self.land(vec![self.consign(parcels)]);
        landed.pop().unwrap_or_default()
    }

    /// Whether [`Output::consign`] waits for a consignment that has not landed.
    pub(crate) fn is_awaited(&self) -> bool {
        self.on_the_way.is_awaited()
    }

    /// Decides on the names of certificates and secrets, and writes what is new beside them. One thread at a time does
    /// this, so that names are given in the order of the parcels.
    pub(crate) fn consign(&self, parcels: Vec<Parcel<'_>>) -> Consignment<'_> {
        let mut plan = Plan::default();
        let placed = parcels
            .into_iter()
            .map(|parcel| self.place(&mut plan, parcel))
            .collect();
        let names: Vec<Digest> = plan.names().map(|name| self.digest(name)).collect();
        self.on_the_way.extend(&names);
        let mut there = self.there.lock().unwrap_or_else(PoisonError::into_inner);
        there.extend(&names);
        drop(there);
        let mut begun = Vec::new();
        if plan.missing.len() > FILES_SYNCED_ALONE_MAX {
            let files = plan.missing.iter();
            let begin = |(name, bytes): (&OsString, &Vec<u8>)| {
                self.folder.begin_public_new(name.clone(), bytes)
            };
            begun = files.map(begin).collect();
        }
        Consignment {
            output: self,
            placed,
            plan,
            names,
            begun,
        }
    }

    /// Makes consignments of this folder last and gives their files their names; what came of each parcel stands in its
    /// place.
    pub(crate) fn land(
        &self,
        mut consignments: Vec<Consignment<'_>>,
    ) -> Vec<Vec<Result<Delivered>>> {
        let begun: Vec<_> = consignments
            .iter_mut()
            .flat_map(|consignment| std::mem::take(&mut consignment.begun))
            .collect();
        let mut placed = self.folder.place_all(begun).into_iter();
        consignments
            .into_iter()
            .map(|mut consignment| {
                let missing = &consignment.plan.missing;
                let written: Vec<_> = match missing.len() > FILES_SYNCED_ALONE_MAX {
                    true => placed.by_ref().take(missing.len()).collect(),
                    false => {
                        let write = |(name, bytes): (&OsString, &Vec<u8>)| {
                            self.folder.write_public_new(name, bytes)
                        };
                        missing.iter().map(write).collect()
                    }
                };
                let names = missing.keys().zip(written);
                let failed =
                    names.filter_map(|(name, written)| Some((name.clone(), written.err()?)));
                let failed = self.replace(&consignment.plan, failed.collect());
                let placed = std::mem::take(&mut consignment.placed);
                self.delivered(placed, failed)
            })
            .collect()
    }

    /// What came of each, where these files could not be written.
    fn delivered(
        &self,
        placed: Vec<Result<Placed>>,
        mut failed: BTreeMap<OsString, files::Error>,
    ) -> Vec<Result<Delivered>> {
        placed
            .into_iter()
            .map(|placed| {
                let Placed {
                    names,
                    asides,
                    renamed,
                    secrets,
                } = placed?;
                let [certificate, _] = &names;
                let path = self.shown(certificate);
                let mut written = asides.iter().flatten().chain(&names);
                if let Some(error) = written.find_map(|name| failed.remove(name)) {
                    return Err(error.into());
                }
                let [aside, _] = asides;
                let aside = aside.map(|name| self.shown(&name));
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
                    aside,
                    secrets: secrets.collect(),
                })
            })
            .collect()
    }

    fn digest(&self, name: &OsStr) -> Digest {
        self.hasher.hash_one(name)
    }

    fn may_be_there(&self, name: Digest) -> bool {
        let there = self.there.lock().unwrap_or_else(PoisonError::into_inner);
        there.contains(&name)
    }

    /// The path of a file as people write it: `certs/a.pem`, never `./certs/a.pem`.
    fn shown(&self, name: &OsStr) -> PathBuf {
        let here = Path::new(".");
        self.path
            .strip_prefix(here)
            .unwrap_or(&self.path)
            .join(name)
    }

    /// Decides on the names of one certificate: the ones that it should have, unless something else has them. A
    /// certificate that this one takes the place of gives way: a copy of it is made under the number of its issue first.
    fn place(&self, plan: &mut Plan, parcel: Parcel<'_>) -> Result<Placed> {
        let texts = texts(parcel.der, parcel.issuer_pem);
        let earlier = parcel.earlier.iter();
        let earlier: Vec<(u16, [String; 2])> = earlier
            .map(|before| (before.issue, self::texts(before.der, before.issuer_pem)))
            .collect();
        let stem = stem(parcel.file);
        let mut unique = stem.clone();
        unique.push(format!("-{}", parcel.serial));
        for (renamed, stem) in [(false, &stem), (true, &unique)] {
            let names = SUFFIXES.map(|suffix| with_suffix(stem, suffix));
            let [leaf_name, chain_name] = &names;
            let [leaf_text, chain_text] = &texts;
            let before = |at: usize| {
                let texts = earlier.iter();
                texts.filter_map(move |(issue, texts)| Some((*issue, texts.get(at)?.as_str())))
            };
            let (Some(leaf), Some(chain)) = (
                self.step(plan, stem, (leaf_name, SUFFIXES[0]), leaf_text, before(0))?,
                self.step(plan, stem, (chain_name, SUFFIXES[1]), chain_text, before(1))?,
            ) else {
                continue;
            };
            let [leaf_text, chain_text] = texts;
            let asides = [
                plan.take(leaf, leaf_name, leaf_text),
                plan.take(chain, chain_name, chain_text),
            ];
            let secrets = parcel.secrets.into_iter().map(|secret| {
                let name = with_suffix(stem, &format!(".{}.secret.cose", secret.label));
                let placed = secret.message.and_then(|message| {
                    let keys = parcel.earlier.iter().map(|before| &before.spki_sha256);
                    let ids = keys.map(|key| object_id(&secret.label, key)).collect();
                    self.place_secret(plan, name, message, ids)
                });
                (secret.label, placed)
            });
            return Ok(Placed {
                secrets: secrets.collect(),
                names,
                asides,
                renamed,
            });
        }
        Err(self.taken(&with_suffix(&unique, ".pem")))
    }

    /// What has to be done so that a text stands under a name; none if something else does that has to stay.
    fn step<'a>(
        &self,
        plan: &Plan,
        stem: &OsStr,
        (name, suffix): (&OsString, &str),
        text: &str,
        mut earlier: impl Iterator<Item = (u16, &'a str)>,
    ) -> Result<Option<Step>> {
        let there = match self.stands(plan, name)? {
            Standing::Nothing => return Ok(Some(Step::Write)),
            Standing::Something => return Ok(None),
            Standing::Text(there) if there == text.as_bytes() => return Ok(Some(Step::Stands)),
            Standing::Text(there) => there,
        };
        let Some((issue, before)) = earlier.find(|(_, before)| there == before.as_bytes()) else {
            return Ok(None);
        };
        let aside = with_suffix(stem, &format!(".issue-{issue}{suffix}"));
        let copied = match self.stands(plan, &aside)? {
            Standing::Nothing => false,
            // A process was killed between the two, or the operator made a copy.
            Standing::Text(copy) if copy == before.as_bytes() => true,
            Standing::Text(_) | Standing::Something => return Ok(None),
        };
        Ok(Some(Step::Replace {
            copy: (aside, there),
            copied,
        }))
    }

    /// Decides on the name of one secret. Each message that brings it is another one, encrypted anew: an earlier one of
    /// the same secret is replaced, be it for a key that the device gave up since, and nothing else is.
    fn place_secret(
        &self,
        plan: &mut Plan,
        name: OsString,
        message: Vec<u8>,
        earlier: Vec<String>,
    ) -> Result<OsString> {
        let identity = |bytes: &[u8]| {
            let context = envelope::claim(bytes, DEVICE_SECRET_BYTES_MAX)
                .ok()?
                .context;
            (context.kind == Kind::DeviceSecret).then_some((context.sender, context.id))
        };
        let is_earlier = |there: &[u8]| {
            identity(there).zip(identity(&message)).is_some_and(
                |((sender, id), (new_sender, new_id))| {
                    sender == new_sender && (id == new_id || earlier.contains(&id))
                },
            )
        };
        if let Some(planned) = plan.planned(&name) {
            return match is_earlier(planned) {
                true => Ok(name),
                false => Err(self.taken(&name)),
            };
        }
        self.on_the_way.wait_for(self.digest(&name));
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

    /// What stands under a name, or will.
    fn stands(&self, plan: &Plan, name: &OsString) -> Result<Standing> {
        if let Some(planned) = plan.planned(name) {
            return Ok(Standing::Text(planned.clone()));
        }
        let digest = self.digest(name);
        if !self.may_be_there(digest) {
            return Ok(Standing::Nothing);
        }
        self.on_the_way.wait_for(digest);
        match self.folder.read_limited(name, EXISTING_BYTES_MAX) {
            Ok(there) => Ok(Standing::Text(there)),
            Err(error) if error.is_missing() => Ok(Standing::Nothing),
            Err(error) => match error.kind() {
                files::Kind::TooLarge { .. } | files::Kind::NotRegular { .. } => {
                    Ok(Standing::Something)
                }
                _ => Err(error.into()),
            },
        }
    }

    /// Writes what takes the place of something, and gives what could not be written, this included.
    fn replace(
        &self,
        plan: &Plan,
        mut failed: BTreeMap<OsString, files::Error>,
    ) -> BTreeMap<OsString, files::Error> {
        for (name, bytes) in &plan.replaced {
            // What gives way is kept as a copy, or does not give way.
            let copy = plan.copies.get(name);
            if copy.is_some_and(|copy| failed.contains_key(copy)) {
                continue;
            }
            if let Err(error) = self.folder.write_public_replace(name, bytes) {
                failed.insert(name.clone(), error);
            }
        }
        failed
    }
}

/// What stands under a name.
enum Standing {
    Nothing,
    Text(Vec<u8>),
    /// What is no file of ours: a folder, a link, something large.
    Something,
}

/// What has to be done for one file.
enum Step {
    Stands,
    Write,
    Replace {
        copy: (OsString, Vec<u8>),
        /// The copy is there already.
        copied: bool,
    },
}

/// The names that a certificate, its chain and its secrets get.
struct Placed {
    names: [OsString; 2],
    /// The copies of what had those names.
    asides: [Option<OsString>; 2],
    renamed: bool,
    secrets: Vec<(KeyLabel, Result<OsString>)>,
}

/// What has to be written, by name.
#[derive(Default)]
struct Plan {
    missing: BTreeMap<OsString, Vec<u8>>,
    /// What takes the place of something that stands there and gives way.
    replaced: BTreeMap<OsString, Vec<u8>>,
    /// The names of copies that have to stand before what they are of gives way.
    copies: BTreeMap<OsString, OsString>,
}

impl Plan {
    /// What will stand under a name that this plan is about.
    fn planned(&self, name: &OsStr) -> Option<&Vec<u8>> {
        self.missing.get(name).or(self.replaced.get(name))
    }

    /// The names under which something will stand.
    fn names(&self) -> impl Iterator<Item = &OsString> {
        self.missing.keys().chain(self.replaced.keys())
    }

    /// Takes one step in, for a name and what is to stand there, and gives the name of the copy that it makes, if any.
    fn take(&mut self, step: Step, name: &OsString, text: String) -> Option<OsString> {
        let bytes = text.into_bytes();
        match step {
            Step::Stands => None,
            Step::Write => {
                self.missing.insert(name.clone(), bytes);
                None
            }
            Step::Replace { copy, copied } => {
                let (aside, before) = copy;
                if !copied {
                    self.missing.insert(aside.clone(), before);
                }
                self.copies.insert(name.clone(), aside.clone());
                self.replaced.insert(name.clone(), bytes);
                Some(aside)
            }
        }
    }
}

/// What a certificate's file and its chain's end with.
const SUFFIXES: [&str; 2] = [".pem", ".chain.pem"];

/// What stands in a certificate's file and in its chain's.
fn texts(der: &[u8], issuer_pem: &str) -> [String; 2] {
    let certificate = to_pem("CERTIFICATE", der);
    let chain = format!("{certificate}{issuer_pem}");
    [certificate, chain]
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
mod tests;
