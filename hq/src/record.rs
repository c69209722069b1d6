//! The record: every signed object as it was received or sent, whole. What is written here is never changed.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::rc::Rc;

use mintmark_console::{Failure, files};
use mintmark_protocol::identifier::{Fingerprint, Lineage, OfficerId, VaultName};

use self::times::{Entry, Times, What};
use crate::{clock, failure, home};

pub(crate) mod times;

/// What keeping an object means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Manner {
    /// It is written, and when it was is noted: headquarters.
    Noted,
    /// It is written.
    Unnoted,
    /// It is there already: a registry is made again from what is.
    Frozen,
}

/// What a record to which nothing is added was asked to keep beside what registries are made from, and does not have.
pub(crate) type Missed = Rc<RefCell<BTreeMap<PathBuf, Vec<u8>>>>;

/// Where the objects of a home are kept; what is to be noted of them once what the registry says of them lasts; and what is missed.
pub(crate) struct Record(PathBuf, Manner, RefCell<Vec<Entry>>, Missed);

impl Record {
    /// That of headquarters.
    pub(crate) fn new(home: &Path) -> Self {
        Self::of(home, Manner::Noted, Missed::default())
    }

    /// That of an officer or auditor, who keeps nothing that a registry would have to be made from again.
    pub(crate) fn unnoted(home: &Path) -> Self {
        Self::of(home, Manner::Unnoted, Missed::default())
    }

    /// That of headquarters, to which nothing is added.
    pub(crate) fn frozen(home: &Path, missed: &Missed) -> Self {
        Self::of(home, Manner::Frozen, Missed::clone(missed))
    }

    fn of(home: &Path, manner: Manner, missed: Missed) -> Self {
        Self(home.join("record"), manner, RefCell::default(), missed)
    }

    /// The folder.
    pub(crate) fn folder(&self) -> &Path {
        &self.0
    }

    /// Notes what no object says.
    pub(crate) fn note(&self, what: What) -> Result<(), Failure> {
        match self.1 {
            Manner::Noted => Times::of(&self.0).append(&what),
            Manner::Unnoted | Manner::Frozen => Ok(()),
        }
    }

    /// Notes when an object was kept, if a registry is made from it.
    fn note_kept(&self, path: &Path, bytes: &[u8]) -> Result<(), Failure> {
        self.kept(path, bytes)
            .map_or(Ok(()), |what| self.note(what))
    }

    /// What is noted of an object, if a registry is made from it.
    fn kept(&self, path: &Path, bytes: &[u8]) -> Option<What> {
        let within = path.strip_prefix(&self.0).ok().and_then(Path::to_str);
        let within = within.filter(|within| times::counts(within))?;
        Some(What::Kept {
            path: within.to_owned(),
            digest: Fingerprint::of(bytes),
        })
    }

    /// Notes what was kept for a transaction, now that it is committed: of one that was not, the file alone says nothing.
    pub(crate) fn note_committed(&self) -> Result<(), Failure> {
        let entries = self.2.take();
        match self.1 {
            Manner::Noted if !entries.is_empty() => Times::of(&self.0).append_all(&entries),
            _ => Ok(()),
        }
    }

    /// Notes of what is about to leave whatever the registry holds of it and nothing was noted of: who was killed between the
    /// two. What is not noted never left.
    pub(crate) fn expect_noted(&self, objects: &[(PathBuf, Vec<u8>)]) -> Result<(), Failure> {
        if self.1 != Manner::Noted || objects.is_empty() {
            return Ok(());
        }
        let times = Times::of(&self.0);
        let noted: BTreeSet<_> = times
            .read()?
            .0
            .into_iter()
            .map(|entry| entry.what)
            .collect();
        let missing = objects
            .iter()
            .filter_map(|(path, bytes)| self.kept(path, bytes));
        let time = clock::now_unix();
        let missing: Vec<_> = missing
            .filter(|what| !noted.contains(what))
            .map(|what| Entry { time, what })
            .collect();
        times.append_all(&missing)
    }

    pub(crate) fn trust(&self, version: u64) -> PathBuf {
        self.0
            .join("trust")
            .join(format!("trust-{version:06}.cose"))
    }

    /// Which manifest an officer's or auditor's home imported last.
    pub(crate) fn newest_trust(&self) -> Result<u64, Failure> {
        let path = self.newest_trust_file();
        let text = String::from_utf8(self.read(&path)?).map_err(failure::home_corrupt)?;
        text.trim_end().parse().map_err(|error| {
            failure::home_corrupt(format!("{} names no version: {error}", path.display()))
        })
    }

    /// Notes which manifest that is, once it is kept.
    pub(crate) fn set_newest_trust(&self, version: u64) -> Result<(), Failure> {
        self.replace(&self.newest_trust_file(), format!("{version}\n").as_bytes())
    }

    fn newest_trust_file(&self) -> PathBuf {
        self.0.join("trust").join("newest")
    }

    pub(crate) fn officer_request(&self, id: &OfficerId, fingerprint: &str) -> PathBuf {
        self.0
            .join("officers")
            .join(format!("{id}-{}.cose", short(fingerprint)))
    }

    /// A draft by its id; a draft that replaces another of one id has another fingerprint.
    pub(crate) fn draft(&self, id: &str, fingerprint: &str) -> PathBuf {
        self.0
            .join("drafts")
            .join(format!("draft-{id}-{}.cose", short(fingerprint)))
    }

    /// Every draft that is kept under this id.
    pub(crate) fn drafts_of(&self, id: &str) -> Vec<PathBuf> {
        let prefix = format!("draft-{id}-");
        let Ok(entries) = std::fs::read_dir(self.0.join("drafts")) else {
            return Vec::new();
        };
        let mut found: Vec<PathBuf> = entries
            .flatten()
            .filter(|entry| entry.file_name().to_string_lossy().starts_with(&prefix))
            .map(|entry| entry.path())
            .collect();
        found.sort();
        found
    }

    pub(crate) fn approval(&self, id: &str, fingerprint: &str, officer: &OfficerId) -> PathBuf {
        let name = format!("approval-{id}-{}_{officer}.cose", short(fingerprint));
        self.0.join("approvals").join(name)
    }

    pub(crate) fn enrolment(&self, vault: &VaultName, fingerprint: &str) -> PathBuf {
        let VaultName { site, vault } = vault;
        self.0
            .join("enrolments")
            .join(format!("enrol-{site}_{vault}-{}.cose", short(fingerprint)))
    }

    pub(crate) fn dispatch(&self, vault: &VaultName, epoch: u64, sequence: u64) -> PathBuf {
        let VaultName { site, vault } = vault;
        let folder = self.0.join("sent").join(format!("{site}_{vault}"));
        folder.join(format!("dispatch-{epoch}-{sequence:06}.cose"))
    }

    pub(crate) fn bundle(&self, vault: &VaultName, lineage: &Lineage, sequence: u64) -> PathBuf {
        self.received(vault)
            .join(format!("{lineage}-{sequence:06}.cose"))
    }

    pub(crate) fn segment(
        &self,
        vault: &VaultName,
        lineage: &Lineage,
        sequence: u64,
        number: usize,
    ) -> PathBuf {
        self.received(vault)
            .join(format!("{lineage}-{sequence:06}.seg{number:04}"))
    }

    /// A restore that a vault declared.
    pub(crate) fn restore(&self, vault: &VaultName, declaration: &Fingerprint) -> PathBuf {
        let declaration = declaration.to_string();
        self.received(vault)
            .join(format!("restore-{}.cose", short(&declaration)))
    }

    /// A part of the tail that goes back to a vault, whose log goes on in this lineage.
    pub(crate) fn tail(&self, vault: &VaultName, lineage: &Lineage, part: u64) -> PathBuf {
        let VaultName { site, vault } = vault;
        let folder = self.0.join("sent").join(format!("{site}_{vault}"));
        folder.join(format!("tail-{lineage}-{part:06}.cose"))
    }

    /// What proves something against a vault, by its file's name.
    pub(crate) fn evidence(&self, vault: &VaultName, file: &str) -> PathBuf {
        let VaultName { site, vault } = vault;
        let folder = self.0.join("evidence").join(format!("{site}_{vault}"));
        folder.join(file)
    }

    fn received(&self, vault: &VaultName) -> PathBuf {
        let VaultName { site, vault } = vault;
        self.0.join("received").join(format!("{site}_{vault}"))
    }

    /// What opens the record in an auditor's home.
    pub(crate) fn audit_grant(&self) -> PathBuf {
        self.0.join("audit-grant.cose")
    }

    /// Every message that proves something against a vault, by its fingerprint; segments are beside theirs.
    pub(crate) fn evidence_of(&self, vault: &VaultName) -> Vec<Fingerprint> {
        let folder = self.evidence(vault, "");
        let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
        let names = entries.map(|entry| entry.file_name().to_string_lossy().into_owned());
        let mut found: Vec<_> = names
            .filter_map(|name| name.strip_suffix(".cose")?.parse().ok())
            .collect();
        found.sort_unstable();
        found
    }

    /// The CRL of the first root.
    pub(crate) fn root_crl(&self) -> PathBuf {
        self.root_crl_of(1)
    }

    /// The CRL of a root, by the root's number from 1.
    pub(crate) fn root_crl_of(&self, number: u64) -> PathBuf {
        let name = match number {
            1 => "crl-root.der".to_owned(),
            _ => format!("crl-root-{number}.der"),
        };
        self.0.join("ca").join(name)
    }

    /// The newest CRL of a device CA, by its generation, that came with a bundle and says what the log says.
    pub(crate) fn device_ca_crl(&self, vault: &VaultName, generation: u16) -> PathBuf {
        let VaultName { site, vault } = vault;
        let name = format!("crl-{site}_{vault}-g{generation}.der");
        self.0.join("ca").join(name)
    }

    /// The certificate by the root before that leads to the root of this number, from 2.
    pub(crate) fn root_link(&self, number: u64) -> PathBuf {
        self.0.join("ca").join(format!("root-link-{number}.der"))
    }

    /// Keeps an object. The same bytes again change nothing; other bytes in its place are a contradiction.
    pub(crate) fn keep(&self, path: &Path, bytes: &[u8]) -> Result<(), Failure> {
        match self.put(path, bytes)? {
            true => self.note_kept(path, bytes),
            false => Ok(()),
        }
    }

    /// Keeps what proves something against a vault, by the fingerprint of it; the same may prove another thing each time that it
    /// comes, so that each time is noted.
    pub(crate) fn keep_evidence(
        &self,
        vault: &VaultName,
        fingerprint: &Fingerprint,
        bytes: &[u8],
    ) -> Result<(), Failure> {
        let path = self.evidence(vault, &format!("{fingerprint}.cose"));
        self.put(&path, bytes)?;
        self.note_kept(&path, bytes)
    }

    /// Writes an object where none is. Returns whether it was not there.
    fn put(&self, path: &Path, bytes: &[u8]) -> Result<bool, Failure> {
        if self.1 == Manner::Frozen {
            self.miss(path, bytes);
            return Ok(false);
        }
        if let Some(folder) = path.parent() {
            home::make_folder(folder)?;
        }
        match files::write_new(path, bytes) {
            Err(error) if error.is_exists() => {
                if self.read(path)? == bytes {
                    Ok(false)
                } else {
                    Err(failure::home_corrupt(format!(
                        "{} holds another object",
                        path.display()
                    )))
                }
            }
            other => Ok(other.map(|()| true)?),
        }
    }

    /// Writes an object that the registry does not have yet, in the place of one that it never had: it is noted with
    /// [`Record::note_committed`].
    pub(crate) fn replace_uncommitted(&self, path: &Path, bytes: &[u8]) -> Result<(), Failure> {
        self.write(path, bytes)?;
        let time = clock::now_unix();
        let entry = self.kept(path, bytes).map(|what| Entry { time, what });
        self.2.borrow_mut().extend(entry);
        Ok(())
    }

    /// Writes an object in the place of one that never left this machine, or that it is the next version of.
    pub(crate) fn replace(&self, path: &Path, bytes: &[u8]) -> Result<(), Failure> {
        self.write(path, bytes)?;
        self.note_kept(path, bytes)
    }

    fn write(&self, path: &Path, bytes: &[u8]) -> Result<(), Failure> {
        if self.1 == Manner::Frozen {
            self.miss(path, bytes);
            return Ok(());
        }
        if let Some(folder) = path.parent() {
            home::make_folder(folder)?;
        }
        Ok(files::write_replace(path, bytes)?)
    }

    /// What is missed.
    pub(crate) fn missed(&self) -> BTreeMap<PathBuf, Vec<u8>> {
        self.3.borrow().clone()
    }

    /// Takes back what was missed since.
    pub(crate) fn miss_again(&self, missed: BTreeMap<PathBuf, Vec<u8>>) {
        self.3.replace(missed);
    }

    /// Whether this is there is seen at the end, as another may take its place. Of what a registry is made from, nothing is made up.
    fn miss(&self, path: &Path, bytes: &[u8]) {
        let within = path.strip_prefix(&self.0).unwrap_or(path);
        if !within.starts_with("enrolments") && !within.starts_with("ca") {
            return;
        }
        let is_here = self.read(path).is_ok_and(|kept| kept == bytes);
        let mut missed = self.3.borrow_mut();
        match is_here {
            true => missed.remove(path),
            false => missed.insert(path.to_owned(), bytes.to_vec()),
        };
    }

    /// Reads an object of the record, which must be there: nothing is ever taken out of it.
    pub(crate) fn read(&self, path: &Path) -> Result<Vec<u8>, Failure> {
        use files::Kind;
        files::read_limited(path, RECORD_FILE_BYTES_MAX).map_err(|error| match error.kind() {
            Kind::Missing | Kind::NotRegular { .. } | Kind::TooLarge { .. } => {
                failure::home_corrupt(error)
            }
            _ => error.into(),
        })
    }
}

/// The largest object of the record, in bytes: above every message's own ceiling.
const RECORD_FILE_BYTES_MAX: u64 = 64 << 20;

fn short(fingerprint: &str) -> &str {
    fingerprint.get(..16).unwrap_or(fingerprint)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_kept_for_a_transaction_is_noted_when_that_is_over_or_when_it_leaves() {
        let folder = tempfile::tempdir().unwrap();
        let vault = VaultName {
            site: "berlin".parse().unwrap(),
            vault: "v1".parse().unwrap(),
        };
        let open = || Record::new(folder.path());
        let noted = || -> Vec<u64> {
            let (entries, _) = Times::of(open().folder()).read().unwrap();
            entries.into_iter().map(|entry| entry.time).collect()
        };
        let dispatch = |record: &Record, sequence: u64| {
            let path = record.dispatch(&vault, 1, sequence);
            let keep = || record.replace_uncommitted(&path, b"sealed");
            clock::at(sequence, keep).unwrap();
            (path, b"sealed".to_vec())
        };
        // Of a transaction that failed, the file alone is there.
        let failed = dispatch(&open(), 1);
        assert!(failed.0.exists());
        assert!(noted().is_empty());
        let record = open();
        let sealed = [dispatch(&record, 2), dispatch(&record, 3)];
        assert!(noted().is_empty());
        record.note_committed().unwrap();
        record.note_committed().unwrap();
        assert_eq!(noted(), [2, 3]);
        // Whoever was killed right after the transaction noted nothing; what leaves is noted all the same, once.
        let unnoted = dispatch(&open(), 4);
        let leaving = [&sealed[..], &[unnoted]].concat();
        for _ in 0..2 {
            clock::at(9, || open().expect_noted(&leaving)).unwrap();
            assert_eq!(noted(), [2, 3, 9]);
        }
    }
}
