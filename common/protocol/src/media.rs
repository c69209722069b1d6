//! The names of files on media. A name routes a file to its reader and proves nothing: what counts is inside.
//!
//! Under `mintmark/`: `trust-000001.cose`, `enrol-<site>_<vault>.cose`, `draft-<id>.cose`,
//! `approval-<id>_<officer>.cose`, `to-<site>_<vault>/dispatch-<epoch>-000001.cose`,
//! `restore-<site>_<vault>.cose`, `to-<site>_<vault>/tail-000001.cose`,
//! `to-hq/<site>_<vault>_<lineage>-000001.cose` and, beside that, `...-000001.seg0001`.

use std::fmt;
use std::str::FromStr as _;

use crate::identifier::{Lineage, ObjectId, OfficerId, SiteId, VaultId, VaultName};

/// The folder on media that everything stands in.
pub const MEDIA_FOLDER: &str = "mintmark";
/// The folder, inside that, of what goes to HQ.
pub const TO_HQ_FOLDER: &str = "to-hq";
/// What the name of a file that is still being written ends in.
pub const PART_SUFFIX: &str = ".part";

/// The place of one file, relative to [`MEDIA_FOLDER`].
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum MediaName {
    /// A trust manifest.
    Trust {
        /// Its version.
        version: u64,
    },
    /// An enrolment request.
    Enrolment {
        /// Whose.
        vault: VaultName,
    },
    /// A declared restore.
    Restore {
        /// Whose.
        vault: VaultName,
    },
    /// A draft that awaits approvals.
    Draft {
        /// The object's id.
        id: ObjectId,
    },
    /// One officer's approval.
    Approval {
        /// The object's id.
        id: ObjectId,
        /// Whose.
        officer: OfficerId,
    },
    /// A part of the tail of a log that HQ sends back.
    Tail {
        /// For whom.
        vault: VaultName,
        /// Which part, from 1.
        part: u64,
    },
    /// A dispatch.
    Dispatch {
        /// For whom.
        vault: VaultName,
        /// Its epoch.
        epoch: u64,
        /// Its sequence.
        sequence: u64,
    },
    /// An audit bundle.
    Bundle {
        /// Whose.
        vault: VaultName,
        /// Its lineage.
        lineage: Lineage,
        /// Its sequence.
        sequence: u64,
    },
    /// A segment of an audit bundle.
    Segment {
        /// Whose.
        vault: VaultName,
        /// The bundle's lineage.
        lineage: Lineage,
        /// The bundle's sequence.
        sequence: u64,
        /// Its number, from 1.
        number: usize,
    },
}

impl fmt::Display for MediaName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Trust { version } => write!(f, "trust-{version:06}.cose"),
            Self::Enrolment { vault } => write!(f, "enrol-{}_{}.cose", vault.site, vault.vault),
            Self::Restore { vault } => write!(f, "restore-{}_{}.cose", vault.site, vault.vault),
            Self::Tail { vault, part } => {
                let VaultName { site, vault } = vault;
                write!(f, "to-{site}_{vault}/tail-{part:06}.cose")
            }
            Self::Draft { id } => write!(f, "draft-{id}.cose"),
            Self::Approval { id, officer } => write!(f, "approval-{id}_{officer}.cose"),
            Self::Dispatch {
                vault,
                epoch,
                sequence,
            } => {
                let VaultName { site, vault } = vault;
                write!(f, "to-{site}_{vault}/dispatch-{epoch}-{sequence:06}.cose")
            }
            Self::Bundle {
                vault,
                lineage,
                sequence,
            } => {
                let VaultName { site, vault } = vault;
                write!(
                    f,
                    "{TO_HQ_FOLDER}/{site}_{vault}_{lineage}-{sequence:06}.cose"
                )
            }
            Self::Segment {
                vault,
                lineage,
                sequence,
                number,
            } => {
                let VaultName { site, vault } = vault;
                write!(
                    f,
                    "{TO_HQ_FOLDER}/{site}_{vault}_{lineage}-{sequence:06}.seg{number:04}"
                )
            }
        }
    }
}

impl MediaName {
    /// Reads a path relative to [`MEDIA_FOLDER`], `/` between folder and name; none if it is no name of ours.
    pub fn parse(path: &str) -> Option<Self> {
        let parsed = match path.split_once('/') {
            None => Self::parse_top(path),
            Some((TO_HQ_FOLDER, name)) => Self::parse_to_hq(name),
            Some((folder, name)) => {
                let vault = vault_name(folder.strip_prefix("to-")?)?;
                let name = name.strip_suffix(".cose")?;
                if let Some(part) = name.strip_prefix("tail-") {
                    let part = part.parse().ok()?;
                    return Some(Self::Tail { vault, part })
                        .filter(|tail| tail.to_string() == path);
                }
                let numbers = name.strip_prefix("dispatch-")?;
                let (epoch, sequence) = numbers.split_once('-')?;
                Some(Self::Dispatch {
                    vault,
                    epoch: epoch.parse().ok()?,
                    sequence: sequence.parse().ok()?,
                })
            }
        }?;
        // One name for each thing: what we would not write, we do not read.
        (parsed.to_string() == path).then_some(parsed)
    }

    fn parse_top(name: &str) -> Option<Self> {
        let stem = name.strip_suffix(".cose")?;
        if let Some(version) = stem.strip_prefix("trust-") {
            return Some(Self::Trust {
                version: version.parse().ok()?,
            });
        }
        if let Some(vault) = stem.strip_prefix("enrol-") {
            return Some(Self::Enrolment {
                vault: vault_name(vault)?,
            });
        }
        if let Some(vault) = stem.strip_prefix("restore-") {
            return Some(Self::Restore {
                vault: vault_name(vault)?,
            });
        }
        if let Some(id) = stem.strip_prefix("draft-") {
            return Some(Self::Draft {
                id: ObjectId::from_str(id).ok()?,
            });
        }
        let (id, officer) = stem.strip_prefix("approval-")?.split_once('_')?;
        let (id, officer) = (
            ObjectId::from_str(id).ok()?,
            OfficerId::from_str(officer).ok()?,
        );
        Some(Self::Approval { id, officer })
    }

    fn parse_to_hq(name: &str) -> Option<Self> {
        let (stem, suffix) = name.rsplit_once('.')?;
        let (vault, history) = stem.rsplit_once('_')?;
        let (lineage, sequence) = history.split_once('-')?;
        let vault = vault_name(vault)?;
        let lineage = Lineage::from_str(lineage).ok()?;
        let sequence = sequence.parse().ok()?;
        if suffix == "cose" {
            return Some(Self::Bundle {
                vault,
                lineage,
                sequence,
            });
        }
        let number = suffix.strip_prefix("seg")?.parse().ok()?;
        Some(Self::Segment {
            vault,
            lineage,
            sequence,
            number,
        })
    }
}

fn vault_name(text: &str) -> Option<VaultName> {
    let (site, vault) = text.split_once('_')?;
    Some(VaultName {
        site: SiteId::from_str(site).ok()?,
        vault: VaultId::from_str(vault).ok()?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_name_reads_back_and_nothing_else_does() {
        let lineage = Lineage::new([0xab; 16]);
        let names = [
            "trust-000001.cose".to_owned(),
            "enrol-berlin_v1.cose".to_owned(),
            "draft-th200-2027q1-v1.cose".to_owned(),
            "approval-th200-2027q1-v1_alice.cose".to_owned(),
            "to-berlin_v1/dispatch-1-000012.cose".to_owned(),
            "to-berlin_v1/tail-000001.cose".to_owned(),
            "restore-berlin_v1.cose".to_owned(),
            format!("to-hq/berlin_v1_{lineage}-000001.cose"),
            format!("to-hq/berlin_v1_{lineage}-000001.seg0001"),
        ];
        for name in &names {
            assert_eq!(MediaName::parse(name).unwrap().to_string(), *name);
        }
        for foreign in [
            "trust-1.cose",
            "trust-000001.cose.part",
            "../trust-000001.cose",
            "to-hq/../trust-000001.cose",
            "to-Berlin_v1/dispatch-1-000001.cose",
            "to-berlin_v1/dispatch-01-000001.cose",
            "readme.txt",
            "",
        ] {
            assert_eq!(MediaName::parse(foreign), None, "{foreign}");
        }
    }
}
