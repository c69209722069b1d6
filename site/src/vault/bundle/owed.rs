//! Which bundles HQ does not hold: those that it has not acknowledged, and those that it acknowledged and has forgotten since
//! its own home was put back from an older copy.

use std::collections::VecDeque;

use mintmark_ledger::entry::{Body, LogSequence};
use mintmark_protocol::dispatch::{BundleSeen, DISPATCH_BYTES_MAX, Dispatch};
use mintmark_protocol::identifier::Fingerprint;

use super::Outbox;
use crate::failure::Result;
use crate::home::RECEIVED;
use crate::vault::Vault;

/// The code of bundles that HQ has forgotten and that are not in this home any more.
pub(super) const BUNDLES_GONE: &str = "BUNDLES-GONE";

/// What HQ does not hold.
pub(super) struct Owed {
    /// The bundles that are here, in their order: sequence and fingerprint.
    pub(super) carried: VecDeque<(u64, Fingerprint)>,
    /// What HQ has forgotten beside those, and is not here.
    lost: Option<Lost>,
    /// HQ may have forgotten how this history began: the declaration of the restore goes out with them.
    pub(super) restored: bool,
}

/// Bundles that HQ has forgotten, and that are not here any more: their records are, and go in a bundle of their own.
#[derive(Clone, Copy)]
pub(super) struct Lost {
    /// The newest of them; 0 if all of this lineage are here, and those before them are not.
    last: u64,
    /// How many records HQ holds.
    pub(super) held_size: u64,
}

impl Lost {
    /// What is to be said when the bundle is sealed that brings them.
    pub(super) fn words(self, next: u64) -> String {
        let what = match self.last {
            0 => "and has forgotten that this vault was, too".to_owned(),
            last => format!(
                "and has forgotten bundles, of which this home does not have bundle {last} any more"
            ),
        };
        format!(
            "headquarters was restored {what}: bundle {next} brings all records again that headquarters does not hold, from \
             record {} on",
            self.held_size
        )
    }
}

/// What HQ held when it made the newest dispatch that this vault has followed.
enum Held {
    /// What it has acknowledged, as far as is known.
    Acknowledged,
    /// A bundle, after its own restore; or none.
    AsTold(Option<BundleSeen>),
}

impl Vault<'_> {
    /// The bundles that go out with every export until HQ has them.
    pub(super) fn owed(&self, outbox: &Outbox) -> Result<Owed> {
        let chain = self.state().bundles();
        let unacknowledged = chain.sealed.range(chain.acknowledged.saturating_add(1)..);
        let mut owed = Owed {
            carried: unacknowledged
                .map(|(sequence, sealed)| (*sequence, sealed.fingerprint))
                .collect(),
            lost: None,
            restored: false,
        };
        let Held::AsTold(held) = self.held_at_headquarters()? else {
            return Ok(owed);
        };
        let in_force = held.filter(|held| Some(held.lineage) == self.state().lineage());
        let held_sequence = in_force.map_or(0, |held| held.sequence);
        let of_another = in_force.is_none() && self.state().parent().is_some();
        if of_another {
            // What was said before this history began was answered by how it began.
            if !self.was_told_since_restore()? {
                return Ok(owed);
            }
            owed.restored = true;
        } else if held_sequence >= chain.acknowledged {
            return Ok(owed);
        }
        let held_size = self.size_of(held.as_ref())?;
        owed.carried.clear();
        // Each names the one before, down to where HQ can go on from what it holds.
        let mut at = chain
            .fingerprint
            .map(|fingerprint| (chain.sequence, fingerprint));
        while let Some((sequence, fingerprint)) = at {
            if sequence <= held_sequence {
                return Ok(owed);
            }
            let found = outbox.bundle(&self.home, sequence, &fingerprint, &self.identity.sign);
            let bundle = match found {
                Ok((_, bundle)) if outbox.has(sequence, bundle.content())? => bundle,
                Err(_) if outbox.is_there(&outbox.bundle_name(sequence))? => {
                    return found.map(|_| owed);
                }
                Ok(_) | Err(_) => {
                    let last = sequence;
                    owed.lost = Some(Lost { last, held_size });
                    return Ok(owed);
                }
            };
            owed.carried.push_front((sequence, fingerprint));
            let bundle = bundle.content();
            if bundle.first <= held_size {
                return Ok(owed);
            }
            at = bundle
                .previous
                .map(|fingerprint| (sequence.saturating_sub(1), fingerprint));
        }
        // Those of this lineage do not reach back to where HQ is.
        owed.lost = Some(Lost { last: 0, held_size });
        Ok(owed)
    }

    /// What HQ has forgotten and no bundle brings that is here.
    pub(super) fn lost(&self) -> Result<Option<Lost>> {
        if !self.state().is_enrolled() {
            return Ok(None);
        }
        let outbox = Outbox::open(&self.home, self.lineage()?)?;
        Ok(self.owed(&outbox)?.lost)
    }

    /// How many records HQ holds, as far as this vault knows: what it acknowledged, unless it said since that it holds less.
    pub(in crate::vault) fn held_size(&self) -> Result<u64> {
        let chain = self.state().bundles();
        let acknowledged = chain.acknowledged_log_size;
        let Held::AsTold(held) = self.held_at_headquarters()? else {
            return Ok(acknowledged);
        };
        let in_force = held.filter(|held| Some(held.lineage) == self.state().lineage());
        if in_force.is_some_and(|held| held.sequence >= chain.acknowledged) {
            return Ok(acknowledged);
        }
        Ok(self.size_of(held.as_ref())?.min(acknowledged))
    }

    /// Whether any dispatch came after the record with which this history began.
    fn was_told_since_restore(&self) -> Result<bool> {
        let mut told = false;
        for entry in self.ledger.entries(LogSequence(0))? {
            match entry?.1.body {
                Body::Restored(_) => told = false,
                Body::Dispatch(_) => told = true,
                _ => {}
            }
        }
        Ok(told)
    }

    /// How many records HQ holds with this bundle, of whichever lineage it is: the log says so of each that was sealed.
    fn size_of(&self, held: Option<&BundleSeen>) -> Result<u64> {
        let Some(held) = held else {
            return Ok(0);
        };
        for entry in self.ledger.entries(LogSequence(0))? {
            let (_, entry) = entry?;
            if let Body::BundleSealed(sealed) = &entry.body
                && sealed.fingerprint == held.fingerprint
            {
                return Ok(sealed.log_size);
            }
            // It was the newest that HQ had of a history that was lost, and HQ sent back what it held of that.
            if let Body::Restored(restored) = &entry.body
                && restored.parent == held.lineage
            {
                return Ok(restored.held);
            }
        }
        Ok(0)
    }

    /// What HQ held when it made the newest dispatch that this vault has followed.
    fn held_at_headquarters(&self) -> Result<Held> {
        let chain = self.state().dispatches();
        let (Some(epoch), Some(fingerprint)) = (chain.epoch, chain.fingerprint) else {
            return Ok(Held::Acknowledged);
        };
        // HQ declares its restore by a new epoch: in that of the enrolment it has forgotten nothing.
        let enrolment = self.state().enrolment();
        if enrolment.is_none_or(|enrolment| epoch <= enrolment.dispatch_epoch) {
            return Ok(Held::Acknowledged);
        }
        let name = format!("dispatch-{epoch}-{:06}.cose", chain.sequence);
        let corrupt = |what: &str| self.home.corrupt(&format!("{RECEIVED}/{name}"), what);
        let received = self.home.folder(RECEIVED)?;
        let bytes = match received.read_limited(&name, DISPATCH_BYTES_MAX as u64) {
            // After a restore, what the lost history had received may not have come again.
            Err(error) if error.is_missing() && self.state().parent().is_some() => {
                return Ok(Held::Acknowledged);
            }
            Err(error) if error.is_missing() => return Err(corrupt("missing")),
            read => read?,
        };
        // It was verified when it came, by the manifest that was in force then.
        let mut manifests = self.trust.manifests().rev();
        let opened =
            manifests.find_map(|manifest| Dispatch::open(&bytes, manifest, &self.name).ok());
        let dispatch = opened
            .filter(|dispatch| dispatch.fingerprint() == fingerprint)
            .ok_or_else(|| corrupt("not the dispatch that the log names"))?;
        Ok(Held::AsTold(dispatch.content().bundle_seen))
    }
}
