//! What is seen once everything was taken in: what nothing was noted of, and what those who sign say was there and is not.

use std::collections::BTreeMap;

use mintmark_console::Failure;
use mintmark_pki::Certificate;
use mintmark_protocol::envelope::Verified;
use mintmark_protocol::identifier::OfficerId;
use mintmark_protocol::revocation::Target;

use super::beside::Again;
use super::{Applying, Lost, Then};
use crate::commands::media::manifests;
use crate::registry::{device_cas, drafts, officers, orders, restores, trust_manifests, vaults};
use crate::{applied, failure, own_restore, root_crl};

/// A device CA is on a root's CRL, and no order that came back put it there.
pub(in crate::recovery) const FORGOTTEN: &str = "REVOCATION-FORGOTTEN";

/// The same, and the order that was to do it is open.
pub(in crate::recovery) const UNSEALED: &str = "REVOCATION-UNSEALED";

/// A vault says that it follows a manifest which is not here.
pub(in crate::recovery) const FOLLOWED: &str = "TRUST-FORGOTTEN";

impl Applying<'_> {
    /// What nothing was noted of is taken from the manifests; and what cannot be had from anywhere is named.
    pub(in crate::recovery) fn finish(mut self) -> Result<(Vec<Lost>, Again), Failure> {
        self.deferred()?;
        self.missing()?;
        self.complete_facts()?;
        self.revoked()?;
        self.officers()?;
        self.links()?;
        let again = self.again()?;
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
        Ok((self.lost, again))
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
            let (what, code, why, then) = match found {
                Ok(serial) => {
                    let what = format!("{what}, serial {serial}");
                    match self.unsealed(&serial)? {
                        Some(id) => (
                            what,
                            UNSEALED.to_owned(),
                            format!(
                                "its device CA is on the CRL, and `{id}`, which revokes it, was not sealed: whoever ran `hq site grant` \
                                 was stopped before that"
                            ),
                            Then::Grant,
                        ),
                        None => (
                            what,
                            FORGOTTEN.to_owned(),
                            "its device CA is revoked, and the order that did it did not come back"
                                .to_owned(),
                            Then::Declare,
                        ),
                    }
                }
                Err(failure) => (
                    what,
                    failure.code.to_string(),
                    failure.message,
                    Then::Declare,
                ),
            };
            self.lost.push(Lost {
                what,
                code,
                why,
                then,
            });
        }
        // Once officers have declared a restore, the CRLs of before are known to be behind: `hq ca export` warns of that.
        if own_restore::declaration(&self.manifests).is_some() {
            return Ok(());
        }
        for (number, serial) in root_crl::unnamed_serials(self.home, &self.registry.sql)? {
            let what = self.record.root_crl_of(number);
            let what = what.strip_prefix(self.record.folder()).unwrap_or(&what);
            self.lost.push(Lost {
                what: format!("{}, serial {serial}", what.display()),
                code: "ROOT-CRL-BEHIND".to_owned(),
                why: "an order that was sealed revokes its device CA, and it is not on this CRL: a newer one was signed before that"
                    .to_owned(),
                then: Then::Declare,
            });
        }
        Ok(())
    }

    /// The open order that revokes the device CA with this serial, in hexadecimal: the CRL is signed before that is sealed.
    fn unsealed(&self, serial: &str) -> Result<Option<String>, Failure> {
        let sql = &self.registry.sql;
        for vault in vaults::all(sql)? {
            let mut of_serial = None;
            for device_ca in device_cas::granted(sql, &vault.name)? {
                let Some(der) = &device_ca.certificate else {
                    continue;
                };
                let certificate = Certificate::from_der(der).map_err(failure::home_corrupt)?;
                if hex::encode(certificate.serial()) == serial {
                    of_serial = device_ca.fingerprint().map(Target::DeviceCa);
                }
            }
            for order in orders::of_vault(sql, &vault.name)? {
                let target = order.revocation()?.map(|revocation| revocation.target);
                if of_serial.is_none() || target != of_serial || order.sent_at.is_some() {
                    continue;
                }
                let draft = drafts::by_fingerprint(sql, &order.draft)?;
                let open = draft.filter(|draft| draft.state == drafts::State::Open);
                if let Some(draft) = open {
                    return Ok(Some(draft.id));
                }
            }
        }
        Ok(None)
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
                code: FOLLOWED.to_owned(),
                why: format!(
                    "{bundle} says that its vault follows it, and headquarters does not have it"
                ),
                then: Then::Declare,
            });
        }
        Ok(())
    }
}
