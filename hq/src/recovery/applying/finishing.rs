//! What is seen once everything was taken in: what nothing was noted of, and what those who sign say was there and is not.

use std::collections::BTreeMap;

use mintmark_console::Failure;
use mintmark_protocol::envelope::Verified;
use mintmark_protocol::identifier::OfficerId;

use super::{Applying, Lost, Then};
use crate::commands::media::manifests;
use crate::registry::{officers, restores, trust_manifests, vaults};
use crate::{applied, root_crl};

impl Applying<'_> {
    /// What nothing was noted of is taken from the manifests; and what cannot be had from anywhere is named.
    pub(in crate::recovery) fn finish(mut self) -> Result<Vec<Lost>, Failure> {
        self.deferred()?;
        self.missing()?;
        self.complete_facts()?;
        self.revoked()?;
        self.officers()?;
        for vault in vaults::all(&self.registry.sql)? {
            if let Some(restore) = restores::pending(&self.registry.sql, &vault.name)? {
                self.lost.push(Lost {
                    what: format!("sent/{}_{}", vault.name.site, vault.name.vault),
                    code: "TAIL-AGAIN".to_owned(),
                    why: format!(
                        "the tail of the log that answers restore {} of {} is made again by the next `hq media export`",
                        restore.declaration, vault.name
                    ),
                    then: Then::Nothing,
                });
            }
        }
        Ok(self.lost)
    }

    /// Officers of whom nothing was noted are listed as the newest manifest has them.
    fn officers(&mut self) -> Result<(), Failure> {
        let Some(newest) = self.manifests.last().map(Verified::content) else {
            return Ok(());
        };
        let known = officers::all(&self.registry.sql)?;
        let is_known = |id: &OfficerId| {
            self.spoken_of.contains(id) || known.iter().any(|known| known.officer.id == *id)
        };
        let mut unnoted = newest.clone();
        unnoted.officers.retain(|officer| !is_known(&officer.id));
        if unnoted.officers.is_empty() && !self.spoken_of.is_empty() {
            return Ok(());
        }
        let times = trust_manifests::times(&self.registry.sql)?;
        let time = times.last().map_or(0, |(_, time)| *time);
        manifests::list_officers(&self.registry.sql, &unnoted, time)?;
        let mut ids = unnoted.officers.iter().map(|officer| &officer.id);
        let whats: Vec<String> = match self.spoken_of.is_empty() {
            true => vec!["officers".to_owned()],
            false => ids.by_ref().map(|id| format!("officers/{id}")).collect(),
        };
        let version = newest.version;
        self.lost.extend(whats.into_iter().map(|what| Lost {
            what,
            code: "OFFICERS-UNNOTED".to_owned(),
            why: format!(
                "listed as trust manifest {version} has them: whoever was added, changed or removed since is not known"
            ),
            then: Then::Officers,
        }));
        Ok(())
    }

    /// What the CRLs of the roots name was revoked.
    fn revoked(&mut self) -> Result<(), Failure> {
        if self.manifests.is_empty() {
            return Ok(());
        }
        for (number, found) in root_crl::forgotten_serials(self.home, &self.registry.sql)? {
            let what = match number {
                1 => "ca/crl-root.der".to_owned(),
                _ => format!("ca/crl-root-{number}.der"),
            };
            let (what, code, why) = match found {
                Ok(serial) => (
                    format!("{what}, serial {serial}"),
                    "REVOCATION-FORGOTTEN".to_owned(),
                    "its device CA is revoked, and the order that did it did not come back"
                        .to_owned(),
                ),
                Err(failure) => (what, failure.code.to_string(), failure.message),
            };
            self.lost.push(Lost {
                what,
                code,
                why,
                then: Then::Declare,
            });
        }
        Ok(())
    }

    /// The first root, and the key in escrow.
    fn complete_facts(&mut self) -> Result<(), Failure> {
        let first = self.manifests.first().map(Verified::content);
        let escrow = first.and_then(|first| {
            let mut keys = first.encryption_keys.iter();
            keys.find(|key| key.escrowed)
        });
        let facts = [
            (
                "root_certificate",
                first.map(|first| hex::encode(&first.root_certificate)),
            ),
            (
                "escrow_key",
                escrow.map(|escrow| hex::encode(escrow.key.to_sec1_bytes())),
            ),
        ];
        for (name, value) in facts {
            if self.facts.iter().any(|known| known == name) {
                continue;
            }
            match value {
                Some(value) => self.registry.set(name, &value)?,
                None => self.lost.push(Lost {
                    what: name.to_owned(),
                    code: "FACT-UNNOTED".to_owned(),
                    why: "no trust manifest was published that has it".to_owned(),
                    then: Then::Again,
                }),
            }
        }
        Ok(())
    }

    /// What headquarters signed that it held, and what a vault follows, is missing if it did not come back.
    fn missing(&mut self) -> Result<(), Failure> {
        let applying = applied::Applying {
            record: &self.record,
            manifests: &self.manifests,
            ring: self.ring,
        };
        let sql = &self.registry.sql;
        let mut said = BTreeMap::new();
        for (path, bytes) in &self.untrue {
            // It may have come in since.
            if let Some(untrue) = applying.acknowledged_by_now(sql, bytes)? {
                said.insert(path.clone(), untrue);
            }
        }
        for (path, held) in self.said_held.values() {
            if let Some(missing) = held.missing(sql, None)? {
                said.entry(path.clone()).or_insert(missing);
            }
        }
        let newest = self.manifests.last();
        let newest = newest.map_or(0, |newest| newest.content().version);
        self.lost.extend(said.into_iter().map(|(path, why)| Lost {
            what: path,
            code: "BUNDLE-FORGOTTEN".to_owned(),
            why,
            then: Then::Declare,
        }));
        if let Some((version, bundle)) = self.followed.take().filter(|(of, _)| *of > newest) {
            self.lost.push(Lost {
                what: format!("trust/trust-{version:06}.cose"),
                code: "TRUST-FORGOTTEN".to_owned(),
                why: format!(
                    "{bundle} says that its vault follows it, and headquarters does not have it"
                ),
                then: Then::Declare,
            });
        }
        Ok(())
    }
}
