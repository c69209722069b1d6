//! Copies of a vault's home, and the way back from one.

use std::collections::{BTreeMap, BTreeSet};

use mintmark_ledger::entry::Burned;
use mintmark_ledger::ledger::{Fact, Tail};
use mintmark_ledger::log::Position;
use mintmark_protocol::entitlement::AccountTag;
use mintmark_protocol::identifier::Lineage;
use mintmark_protocol::log_tail::LogTail;
use mintmark_protocol::media::MediaName;
use mintmark_protocol::restore::RestoreDeclaration;

use super::super::random::Random;
use super::super::software::{lineage, public};
use super::disk::Disk;
use super::{Backup, Home, Sealed, Vault};

impl Vault {
    /// A copy of its home.
    pub(in crate::simulation) fn backup(&mut self) -> Backup {
        self.commit();
        let sealed = self.state().bundles().sequence;
        Backup {
            home: Home {
                disk: self.home.disk.copy(),
                ..self.home.clone()
            },
            size: self.state().size(),
            sealed,
            restored: self.restored,
        }
    }

    /// Whether a copy is of the history that goes on. Those of one that was given up prove, put back, that there were two.
    pub(in crate::simulation) fn goes_on_from(&self, backup: &Backup) -> bool {
        let records = |disk: &Disk| disk.records(Position::START).unwrap().into_iter();
        let (ours, copied) = (records(&self.home.disk), records(&backup.home.disk));
        let ours = ours.take(backup.size as usize).map(|record| record.bytes);
        backup.restored == self.restored || copied.map(|record| record.bytes).eq(ours)
    }

    /// Puts a copy of the home back.
    pub(in crate::simulation) fn put_back(&mut self, backup: &Backup) {
        self.ledger = None;
        let fingerprint = |sealed: &Sealed| {
            let (_, bytes) = sealed.last().unwrap();
            self.sealed(bytes).unwrap().fingerprint()
        };
        let known: BTreeSet<_> = backup.home.outbox.values().map(fingerprint).collect();
        let gone: Vec<_> = self.home.outbox.values().map(fingerprint).collect();
        self.lost.extend(gone);
        self.lost.retain(|fingerprint| !known.contains(fingerprint));
        self.home = Home {
            disk: backup.home.disk.copy(),
            ..backup.home.clone()
        };
        self.open();
    }

    /// The operator puts an older copy of the home back, since the newest is gone, and declares it.
    pub(in crate::simulation) fn restore(
        &mut self,
        now: u64,
        backup: &Backup,
        random: &mut Random,
    ) {
        self.put_back(backup);
        let leased: BTreeMap<AccountTag, u64> = self
            .token
            .bounds
            .iter()
            .map(|(tag, bound)| (*tag, bound + random.below(3)))
            .collect();
        self.restores += 1;
        let state = self.state();
        let spent = |tag| state.account(tag).map_or(0, |account| account.next_slot);
        let leases = leased.into_iter().filter(|(tag, end)| *end > spent(*tag));
        let mut name = *lineage(self.site).as_bytes();
        name[0] = !name[0];
        name[1] = self.restores as u8;
        let declaration = RestoreDeclaration {
            vault: self.name.clone(),
            parent: state.lineage().unwrap(),
            size: state.size(),
            root: state.root(),
            lineage: Lineage::new(name),
            declared_at: self.reading(now).clock,
            anchor: self.token.counter,
            anchored_size: state.size(),
            leases: leases.collect(),
        };
        let sign = |message: &[u8]| self.keys.signs(message);
        let bytes = declaration.seal(&public(&self.keys.sign), &sign).unwrap();
        self.declared = Some((declaration, bytes));
    }

    /// Takes in what headquarters sends back, if all of it is there, and goes on in the new lineage.
    pub(super) fn resume(
        &mut self,
        now: u64,
        named: &BTreeMap<MediaName, &Vec<u8>>,
        said: &mut Vec<String>,
    ) {
        for (name, bytes) in named {
            if let MediaName::Trust { version } = name {
                self.keep(*version, bytes);
            }
        }
        let (declaration, bytes) = self.declared.as_ref().unwrap();
        let fingerprint =
            RestoreDeclaration::open(bytes, &self.name, &public(&self.keys.sign)).unwrap();
        let fingerprint = fingerprint.fingerprint();
        let newest = self.home.manifests.last().unwrap();
        let mut parts = Vec::new();
        for (name, bytes) in named {
            let MediaName::Tail { vault, .. } = name else {
                continue;
            };
            if *vault != self.name {
                continue;
            }
            let opened = self
                .keys
                .with_opener(|opener| LogTail::open(bytes, newest, vault, opener));
            match opened {
                Ok(tail) if tail.content().declaration == fingerprint => {
                    parts.push(tail.into_content());
                }
                Ok(_) => return said.push("a tail of another restore held".to_owned()),
                Err(error) => return said.push(format!("a tail refused: {}", error.code())),
            }
        }
        let Some(first) = parts.first() else { return };
        if parts.len() as u64 != first.parts {
            return said.push("a tail held".to_owned());
        }
        let (held, root) = (first.log_size, first.log_root);
        let tail = Tail {
            first: declaration.size.min(held),
            records: parts.into_iter().flat_map(|part| part.records).collect(),
            root,
        };
        let count = tail.records.len();
        let (lineage, leases) = (declaration.lineage, declaration.leases.clone());
        self.ledger().adopt_tail(&tail).unwrap();
        self.token.counter = self.token.counter.max(self.state().anchor()) + 1;
        let counter = self.token.counter;
        self.ledger().set_anchor(counter);
        let reading = self.reading(now);
        let restored = Fact::Restored {
            lineage,
            held,
            leases,
        };
        self.ledger().record(reading, restored).unwrap();
        self.declared = None;
        self.restored += 1;
        self.burn(now);
        said.push(format!("a tail of {count} records imported"));
    }

    /// Skips what is in doubt since a restore.
    pub(super) fn burn(&mut self, now: u64) {
        let slots = self.state().in_doubt();
        if !slots.is_empty() {
            let anchor = self.state().anchor().max(self.token.counter);
            let reading = self.reading(now);
            let burned = Fact::Burned(Burned { anchor, slots });
            self.ledger().record(reading, burned).unwrap();
        }
        self.commit();
    }
}
