//! What a vault carries and what is carried to it: which bundles are sealed when, what goes out again, and what is followed in
//! which order.

use std::collections::BTreeMap;

use mintmark_ledger::decide::Input;
use mintmark_ledger::entry::{CrlIssued, Dispatch as Logged, LogSequence, Trust, Verdict};
use mintmark_ledger::ledger::{Fact, Outcome};
use mintmark_ledger::merkle::{leaf_hash, root_of};
use mintmark_ledger::state::Reading;
use mintmark_protocol::bundle::{Bundle, Checkpoint, DispatchSeen};
use mintmark_protocol::dispatch::Dispatch;
use mintmark_protocol::envelope::Verified;
use mintmark_protocol::identifier::{Fingerprint, Lineage};
use mintmark_protocol::media::MediaName;
use mintmark_protocol::trust::TrustManifest;

use super::super::headquarters::Files;
use super::super::software;
use super::Vault;

/// Records of one segment: few, so that bundles have several.
const SEGMENT_RECORDS: usize = 24;

impl Vault {
    /// What goes to headquarters: what it has not said that it has.
    pub(in crate::simulation) fn export(&mut self, now: u64) -> Files {
        let mut files = Files::new();
        if let Some((_, bytes)) = &self.declared {
            let vault = self.name.clone();
            files.insert(MediaName::Restore { vault }.to_string(), bytes.clone());
            return files;
        }
        if !self.state().is_enrolled() {
            let vault = self.name.clone();
            let request = self.request.clone();
            files.insert(MediaName::Enrolment { vault }.to_string(), request);
            return files;
        }
        self.complete(now);
        self.seal_if_needed(now);
        let lineage = self.state().lineage().unwrap();
        let chain = self.state().bundles();
        for sequence in chain
            .sealed
            .range(chain.acknowledged + 1..)
            .map(|(at, _)| *at)
        {
            for (name, bytes) in &self.home.outbox[&(lineage, sequence)] {
                files.insert(name.to_string(), bytes.clone());
            }
        }
        files
    }

    /// Seals a bundle if there is something to report, the CRL that is due signed first.
    pub(super) fn seal_if_needed(&mut self, now: u64) {
        self.commit();
        let reading = self.reading(now);
        let time = match self.state().clock_stopped().is_some()
            || self.state().clock_off(reading).is_some()
        {
            true => self.state().mark(),
            false => self.state().time_at(reading),
        };
        if self.state().crl_is_due(1, time) {
            self.sign_crl(reading, time);
        }
        if self.state().has_news() {
            self.seal(now);
        }
    }

    pub(super) fn sign_crl(&mut self, reading: Reading, time: u64) {
        self.serials();
        let state = self.state();
        let stated = CrlIssued {
            generation: 1,
            number: state.next_crl_number(1, time),
            sha256: Fingerprint::new([0; 32]),
            this_update: time,
            next_update: state.crl_next_update(time),
        };
        let mut revoked = software::revoked(state, self.serials.as_ref().unwrap(), 1);
        if std::mem::take(&mut self.tampering.crl_leaves_out) {
            let left_out = revoked.pop();
            self.tampering.crl_left_out = left_out.map(|left_out| left_out.serial);
        }
        let state = self.state();
        let certificate = &state.device_cas()[0].certificate;
        let (der, issued) = self.keys.crl(stated, certificate, &revoked, None);
        self.ledger().record(reading, Fact::Crl(issued)).unwrap();
        self.commit();
        self.home.crl = Some(der);
    }

    /// The manifest that is in force by its log.
    pub(super) fn manifest(&self) -> &Verified<TrustManifest> {
        let version = self.state().trust().unwrap().version;
        let held = &self.home.manifests;
        // One that its log makes up, it does not have.
        held.get(version as usize - 1)
            .unwrap_or(&held[held.len() - 1])
    }

    /// The newest dispatch that it has seen.
    pub(super) fn seen(&self) -> Option<DispatchSeen> {
        let chain = self.state().dispatches();
        let (epoch, fingerprint) = chain.epoch.zip(chain.fingerprint)?;
        Some(DispatchSeen {
            epoch,
            sequence: chain.sequence,
            fingerprint,
        })
    }

    pub(super) fn seal(&mut self, now: u64) {
        let reading = self.reading(now);
        let state = self.state();
        let chain = state.bundles();
        let (first, sequence) = (chain.log_size, chain.sequence + 1);
        let stated = state.crl(1).map(|(_, issued)| issued.sha256);
        let crl = self.home.crl.clone();
        let ledger = self.ledger.as_ref().unwrap();
        let all = ledger.reader(LogSequence(0)).unwrap().zip(0..);
        let all = all.map(|(record, at)| match self.tampering.reported.get(&at) {
            Some(other) => other.clone(),
            None => record.unwrap().bytes,
        });
        let all: Vec<Vec<u8>> = all.collect();
        let bundle = Bundle {
            vault: self.name.clone(),
            lineage: state.lineage().unwrap(),
            sequence,
            previous: chain.fingerprint,
            dispatch_seen: self.seen(),
            checkpoint: Checkpoint {
                size: state.size(),
                root: Fingerprint::new(root_of(all.iter().map(|record| leaf_hash(record)))),
                time: state.mark(),
            },
            first,
            segments: Vec::new(),
            trust_version: state.trust().unwrap().version,
            sealed_at: state.time_at(reading),
            crl: crl.filter(|der| stated == Some(Fingerprint::of(der))),
        };
        let (lineage, log_size) = (bundle.lineage, bundle.checkpoint.size);
        assert!(!self.tampering.reported.is_empty() || bundle.checkpoint.root == state.root());
        let new = &all[first as usize..];
        let change = self.tampering.bundle.take().unwrap_or(|_| {});
        let (files, fingerprint) =
            self.keys
                .seal(bundle, self.manifest(), (new, SEGMENT_RECORDS), &change);
        self.home.outbox.insert((lineage, sequence), files);
        let fact = Fact::BundleSealed {
            sequence,
            fingerprint,
            log_size,
        };
        self.ledger().record(reading, fact).unwrap();
        self.commit();
    }

    /// Takes in a stick: manifests, then dispatches, each in their order. What became of each file.
    pub(in crate::simulation) fn import(&mut self, now: u64, files: &Files) -> Vec<String> {
        let named: BTreeMap<MediaName, &Vec<u8>> = files
            .iter()
            .filter_map(|(path, bytes)| Some((MediaName::parse(path)?, bytes)))
            .collect();
        let mut said = Vec::new();
        if self.declared.is_some() {
            self.resume(now, &named, &mut said);
            if self.declared.is_some() {
                return said;
            }
        }
        self.complete(now);
        for (name, bytes) in &named {
            if let MediaName::Trust { version } = name
                && self.follow(now, *version, bytes)
            {
                said.push(format!("trust {version} imported"));
            }
        }
        for (name, bytes) in &named {
            let MediaName::Dispatch { vault, .. } = name else {
                continue;
            };
            if *vault == self.name {
                said.extend(self.dispatch(now, bytes));
            }
        }
        self.burn(now);
        let state = self.state();
        let idle = state.clock_stopped().is_none() && state.units_unreported() == 0;
        if idle && state.accounts().any(|account| account.unspent() > 0) {
            self.unspent = Some(state.clone());
        }
        said
    }

    /// Follows the next manifest. Whether it was that one.
    pub(super) fn follow(&mut self, now: u64, version: u64, bytes: &[u8]) -> bool {
        if version != self.state().trust().unwrap().version + 1 {
            return false;
        }
        self.keep(version, bytes);
        let Some(next) = self.home.manifests.get(version as usize - 1) else {
            return false;
        };
        let fact = Trust {
            version,
            fingerprint: next.fingerprint(),
            dispatch_epoch: next.content().dispatch_epoch,
        };
        let reading = self.reading(now);
        self.ledger().record(reading, Fact::Trust(fact)).unwrap();
        self.commit();
        true
    }

    /// Keeps the manifest that follows those which it holds.
    pub(super) fn keep(&mut self, version: u64, bytes: &[u8]) {
        let held = &mut self.home.manifests;
        if held.len() as u64 + 1 == version
            && let Ok(next) = held[held.len() - 1].successor(bytes)
        {
            held.push(next);
        }
    }

    /// Follows a dispatch if it is the next one. What became of it; nothing of one that it has.
    pub(super) fn dispatch(&mut self, now: u64, bytes: &[u8]) -> Option<String> {
        let dispatch = match Dispatch::open(bytes, self.manifest(), &self.name) {
            Ok(dispatch) => dispatch,
            Err(error) => return Some(format!("a dispatch refused: {}", error.code())),
        };
        let (content, fingerprint) = (dispatch.content(), dispatch.fingerprint());
        let place = (content.epoch, content.sequence);
        let what = format!(
            "dispatch {} ({} {})",
            place.1, content.kind, content.version
        );
        if let Some(known) = self.state().dispatches().seen.get(&place) {
            assert!(!self.honest || *known == fingerprint, "{what} forked");
            return None;
        }
        let next = self.state().next_dispatch();
        if let Some(seen) = &content.bundle_seen
            && self.honest
        {
            self.expect_sealed(&what, seen.lineage, seen.sequence, &seen.fingerprint);
        }
        if content.sequence != next.sequence {
            return Some(format!("{what} held"));
        }
        if content.previous != next.previous {
            assert!(!self.honest, "{what} follows another one than was seen");
            return Some(format!("{what} refused: DISPATCH-CHAIN"));
        }
        let opened = self.keys.open(content, self.manifest(), &self.name);
        let mut logged = Logged {
            epoch: content.epoch,
            sequence: content.sequence,
            fingerprint,
            kind: content.kind.to_string(),
            id: content.id.clone(),
            version: content.version,
            content: Verdict::Authentic(opened),
        };
        let change = self.tampering.dispatch;
        let tampered = change.is_some_and(|change| change(&mut logged));
        let reading = self.reading(now);
        let outcome = self
            .ledger()
            .submit(None, reading, Input::Dispatch(&logged));
        let outcome = outcome.unwrap();
        self.commit();
        if tampered {
            self.tampering.dispatch = None;
            // The decision is the newest record, and this the one before.
            self.tampering.tampered_at = Some(self.state().size() - 2);
        }
        Some(match outcome {
            Outcome::Refused(refusal) => format!("{what} refused: {}", refusal.code()),
            _ => format!("{what} imported"),
        })
    }

    /// An honest vault whose home is the newest copy has sealed what headquarters has seen.
    pub(super) fn expect_sealed(
        &self,
        what: &str,
        lineage: Lineage,
        sequence: u64,
        found: &Fingerprint,
    ) {
        let state = self.state();
        if state.parents().contains(&lineage) {
            return;
        }
        let chain = state.bundles();
        let same = chain
            .sealed
            .get(&sequence)
            .is_none_or(|sealed| sealed.fingerprint == *found);
        assert!(
            state.lineage() == Some(lineage) && sequence <= chain.sequence && same,
            "{what} of {}: headquarters has seen bundle {sequence}, and it is not this vault's",
            self.site
        );
    }
}
