//! The record: every signed object as it was received or sent, whole. What is written here is never changed.

use std::path::{Path, PathBuf};

use mintmark_console::{Failure, files};
use mintmark_protocol::identifier::{Fingerprint, Lineage, OfficerId, VaultName};

use crate::{failure, home};

/// Where the objects of a home are kept.
pub(crate) struct Record(PathBuf);

impl Record {
    pub(crate) fn new(home: &Path) -> Self {
        Self(home.join("record"))
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
        if let Some(folder) = path.parent() {
            home::make_folder(folder)?;
        }
        match files::write_new(path, bytes) {
            Err(error) if error.is_exists() => {
                if self.read(path)? == bytes {
                    Ok(())
                } else {
                    Err(failure::home_corrupt(format!(
                        "{} holds another object",
                        path.display()
                    )))
                }
            }
            other => Ok(other?),
        }
    }

    /// Writes an object in the place of one that never left this machine, or that it is the next version of.
    pub(crate) fn replace(&self, path: &Path, bytes: &[u8]) -> Result<(), Failure> {
        if let Some(folder) = path.parent() {
            home::make_folder(folder)?;
        }
        Ok(files::write_replace(path, bytes)?)
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
