//! A vault in a run: the real engine over a log in memory, with keys in software. What is around the engine (what is sealed
//! when, what is carried, what is followed in which order) goes by the same rules as in `site`.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard};

use mintmark_ledger::decide::Input;
use mintmark_ledger::entry::{
    Burned, CrlIssued, DeviceAction, DeviceOrder, Dispatch as Logged, Entry, Genesis, LogSequence,
    Steady, Trust, Verdict,
};
use mintmark_ledger::index::MemoryIndex;
use mintmark_ledger::ledger::{Fact, Ledger, Outcome, Tail};
use mintmark_ledger::log::{Head, LogStore, MemoryLog, Position, Record, Records};
use mintmark_ledger::state::{Reading, State};
use mintmark_ledger::{SerialCipher, StorageError, Submitted};
use mintmark_pki::CertificationRequest;
use mintmark_protocol::bundle::{Bundle, Checkpoint, DispatchSeen};
use mintmark_protocol::dispatch::Dispatch;
use mintmark_protocol::entitlement::AccountTag;
use mintmark_protocol::envelope::Verified;
use mintmark_protocol::identifier::{Fingerprint, Lineage, StationId, VaultName};
use mintmark_protocol::log_tail::LogTail;
use mintmark_protocol::media::MediaName;
use mintmark_protocol::restore::RestoreDeclaration;
use mintmark_protocol::trust::TrustManifest;

use super::SITES;
use super::headquarters::{BEGINNING, Files, Headquarters};
use super::random::Random;
use super::software::{self, Keys, lineage, pinned, public, vault_name};

/// A log in memory that outlives the ledger over it, as a disk outlives a process.
#[derive(Clone)]
pub(super) struct Disk(Arc<Mutex<MemoryLog>>);

impl Disk {
    fn log(&self) -> MutexGuard<'_, MemoryLog> {
        self.0.lock().unwrap()
    }

    /// Another one, with the same on it.
    fn copy(&self) -> Self {
        Self(Arc::new(Mutex::new(self.log().clone())))
    }

    /// A log of these records.
    fn of(records: &[Vec<u8>]) -> Self {
        let mut log = MemoryLog::new();
        for record in records {
            let head = log.head();
            log.append(&head, std::slice::from_ref(record)).unwrap();
        }
        Self(Arc::new(Mutex::new(log)))
    }

    /// What is on it from a position on.
    fn records(&self, from: Position) -> Result<Vec<Record>, StorageError> {
        self.log().scan(from)?.collect()
    }
}

impl LogStore for Disk {
    fn head(&self) -> Head {
        self.log().head()
    }

    fn append(
        &mut self,
        expected: &Head,
        records: &[Vec<u8>],
    ) -> Result<Vec<Position>, StorageError> {
        self.log().append(expected, records)
    }

    fn read(&self, at: Position) -> Result<Record, StorageError> {
        self.log().read(at)
    }

    fn scan(&self, from: Position) -> Result<Records<'_>, StorageError> {
        Ok(Box::new(self.records(from)?.into_iter().map(Ok)))
    }
}

/// A bundle with its segments, as they go onto sticks; the bundle is the last.
type Sealed = Vec<(MediaName, Vec<u8>)>;

/// What a vault keeps in its home, and what somebody who copies the home has.
#[derive(Clone)]
struct Home {
    disk: Disk,
    /// Sealed bundles with their segments, by lineage and sequence.
    outbox: BTreeMap<(Lineage, u64), Sealed>,
    /// Every manifest that it has verified, the first one first.
    manifests: Vec<Verified<TrustManifest>>,
    /// The newest CRL of its device CA.
    crl: Option<Vec<u8>>,
}

/// A copy of a home.
pub(super) struct Backup {
    home: Home,
    /// How many records it has.
    pub(super) size: u64,
    /// The newest bundle that it has sealed.
    pub(super) sealed: u64,
}

/// What a vault's token knows.
#[derive(Default)]
struct Token {
    counter: u64,
    /// Below which slot of each account something may have been released.
    bounds: BTreeMap<AccountTag, u64>,
}

/// The clock of a vault's machine, and what that counts since it booted.
pub(super) struct Clock {
    /// How far it is ahead, in seconds.
    pub(super) ahead: i64,
    /// It stands still, and so does the count: somebody has seen to that.
    pub(super) frozen_at: Option<u64>,
    boot: u64,
    booted_at: u64,
}

/// What became of a request.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Answer {
    /// There is a certificate for it.
    Issued,
    /// There was one.
    Existing,
    /// It was refused, by this rule.
    Refused(String),
    /// The vault went down over it.
    Crashed,
    /// The vault does nothing before headquarters answers.
    Waiting,
}

/// How far a request gets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Until {
    Done,
    /// The power is cut before the reservation is durable.
    Decided,
    /// The power is cut before it is signed for.
    Reserved,
    /// The power is cut before the signature is durable.
    Signed,
}

/// A vault.
pub(super) struct Vault {
    pub(super) site: &'static str,
    pub(super) name: VaultName,
    keys: Keys,
    genesis: Genesis,
    /// What it asked to be let in with.
    request: Vec<u8>,
    home: Home,
    ledger: Option<Ledger>,
    token: Token,
    pub(super) clock: Clock,
    serials: Option<SerialCipher>,
    /// The restore that waits for its answer.
    declared: Option<(RestoreDeclaration, Vec<u8>)>,
    /// How many restores were declared.
    pub(super) restores: u64,
    /// Fingerprints of bundles that it has sealed, and does not know any more since a restore.
    pub(super) lost: BTreeSet<Fingerprint>,
    /// Its state when it had units and nothing was against spending them: what a patched program decides by.
    pub(super) unspent: Option<State>,
    /// Whether it keeps to the rules.
    pub(super) honest: bool,
}

impl Vault {
    /// A vault that has asked to be let in.
    pub(super) fn new(site: &'static str, hq: &Headquarters) -> Self {
        let manifest = pinned(hq.manifest());
        let at = SITES.iter().position(|known| *known == site);
        let keys = Keys::of(site);
        let (_, enrolment_fingerprint) = keys.request(site, &manifest);
        let genesis = Genesis {
            vault: vault_name(site),
            lineage: lineage(site),
            trust_version: 1,
            trust_fingerprint: manifest.fingerprint(),
            enrolment_fingerprint,
            software: "site 0.1.0".to_owned(),
        };
        let mut vault = Self {
            site,
            name: vault_name(site),
            keys,
            genesis,
            request: hq.enrolment(at.unwrap()).to_vec(),
            home: Home {
                disk: Disk::of(&[]),
                outbox: BTreeMap::new(),
                manifests: vec![manifest],
                crl: None,
            },
            ledger: None,
            token: Token::default(),
            clock: Clock {
                ahead: 0,
                frozen_at: None,
                boot: 1,
                booted_at: BEGINNING,
            },
            serials: None,
            declared: None,
            restores: 0,
            lost: BTreeSet::new(),
            unspent: None,
            honest: true,
        };
        vault.open();
        vault
    }

    /// Opens the ledger over what is on the disk.
    fn open(&mut self) {
        self.ledger = None;
        let (log, index) = (self.home.disk.clone(), MemoryIndex::new());
        let (log, index) = (Box::new(log), Box::new(index));
        let mut ledger = Ledger::over(log, index, self.genesis.clone(), BEGINNING).unwrap();
        ledger.set_anchor(self.token.counter);
        self.ledger = Some(ledger);
    }

    fn ledger(&mut self) -> &mut Ledger {
        self.ledger.as_mut().unwrap()
    }

    /// The state, as the ledger has it.
    pub(super) fn state(&self) -> &State {
        self.ledger.as_ref().unwrap().state()
    }

    /// What its clocks say.
    fn reading(&self, now: u64) -> Reading {
        let now = self.clock.frozen_at.unwrap_or(now);
        let mut boot = [0; 16];
        boot[..8].copy_from_slice(&self.clock.boot.to_be_bytes());
        Reading {
            clock: now.saturating_add_signed(self.clock.ahead),
            steady: Some(Steady {
                boot,
                seconds: now.saturating_sub(self.clock.booted_at),
            }),
        }
    }

    /// The process starts again; the machine too, if `boots`. What was interrupted is completed.
    pub(super) fn restart(&mut self, now: u64, boots: bool) {
        if boots {
            self.clock.boot += 1;
            self.clock.booted_at = now;
        }
        self.open();
        if self.declared.is_none() {
            self.complete(now);
        }
    }

    /// Signs what is reserved and not signed for.
    fn complete(&mut self, now: u64) {
        let reading = self.reading(now);
        for open in self.ledger().unfinished() {
            let signature = self.keys.certifies(&open.tbs);
            let signed = self
                .ledger()
                .signed_unfinished(reading, open.reservation, signature);
            signed.unwrap();
        }
        self.commit();
    }

    /// What is staged becomes durable, and the token learns of it.
    fn commit(&mut self) {
        self.ledger().commit().unwrap();
        self.token.counter = self.token.counter.max(self.state().anchor());
        let accounts = self.ledger.as_ref().unwrap().state().accounts();
        for account in accounts {
            let bound = self.token.bounds.entry(account.tag).or_default();
            *bound = (*bound).max(account.next_slot);
        }
    }

    /// What makes serial numbers.
    pub(super) fn serials(&mut self) -> Option<&SerialCipher> {
        if self.serials.is_none() {
            let master = self.state().enrolment()?.serial_master;
            let shared = self.keys.agree(&master);
            self.serials = Some(SerialCipher::derive(&shared, &self.name));
        }
        self.serials.as_ref()
    }

    /// How many units of a product there are left, those left out that its token says may have been spent.
    pub(super) fn units_left(&self, entitlement: &str, product: &str) -> Option<u64> {
        let account = self.state().accounts().find(|account| {
            account.entitlement.as_str() == entitlement && account.sku.as_str() == product
        })?;
        let bound = self.token.bounds.get(&account.tag).copied();
        let spent = account.next_slot.max(bound.unwrap_or_default());
        Some(account.authorised.saturating_sub(spent))
    }

    /// Whether it waits for headquarters to answer a restore.
    pub(super) fn is_waiting(&self) -> bool {
        self.declared.is_some()
    }

    /// Somebody asks for a device certificate.
    pub(super) fn request(
        &mut self,
        now: u64,
        product: &str,
        csr: &CertificationRequest,
        until: Until,
    ) -> Answer {
        if self.declared.is_some() {
            return Answer::Waiting;
        }
        let reading = self.reading(now);
        self.serials();
        let product = product.parse().unwrap();
        let input = Input::Request {
            product: &product,
            station: &StationId::console(),
            submission: Submitted::Verified(csr),
        };
        let ledger = self.ledger.as_mut().unwrap();
        let outcome = ledger.submit(self.serials.as_ref(), reading, input);
        let outcome = outcome.unwrap();
        if until == Until::Decided {
            self.restart(now, true);
            return Answer::Crashed;
        }
        self.commit();
        let reservation = match outcome {
            Outcome::Reserved(reservation) => reservation,
            Outcome::Existing { .. } => return Answer::Existing,
            Outcome::Refused(refusal) => return Answer::Refused(refusal.code().to_owned()),
            other => panic!("{other:?}"),
        };
        if until == Until::Reserved {
            drop(reservation);
            self.restart(now, true);
            return Answer::Crashed;
        }
        let signature = self.keys.certifies(reservation.tbs());
        let signed = self.ledger().signed(reading, reservation, signature);
        signed.unwrap();
        if until == Until::Signed {
            self.restart(now, true);
            return Answer::Crashed;
        }
        self.commit();
        Answer::Issued
    }

    /// Somebody at the vault says something of a device. Why that is refused, if it is.
    pub(super) fn order(
        &mut self,
        now: u64,
        action: DeviceAction,
        product: &str,
        device_id: &str,
    ) -> Answer {
        if self.declared.is_some() {
            return Answer::Waiting;
        }
        let reading = self.reading(now);
        let order = DeviceOrder {
            action,
            product: product.parse().unwrap(),
            device_id: device_id.parse().unwrap(),
            reason: "it was dropped".to_owned(),
            station: StationId::console(),
        };
        let ledger = self.ledger.as_mut().unwrap();
        let outcome = ledger.submit(self.serials.as_ref(), reading, Input::Device(&order));
        let outcome = outcome.unwrap();
        self.commit();
        match outcome {
            Outcome::Refused(refusal) => Answer::Refused(refusal.code().to_owned()),
            _ => Answer::Issued,
        }
    }

    /// A person says that the clock is right.
    pub(super) fn confirm_clock(&mut self, now: u64) -> Answer {
        if self.declared.is_some() {
            return Answer::Waiting;
        }
        let reading = self.reading(now);
        let outcome = self.ledger().submit(None, reading, Input::ClockConfirm);
        let outcome = outcome.unwrap();
        self.commit();
        match outcome {
            Outcome::Refused(refusal) => Answer::Refused(refusal.code().to_owned()),
            _ => Answer::Issued,
        }
    }

    /// What goes to headquarters: what it has not said that it has.
    pub(super) fn export(&mut self, now: u64) -> Files {
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
    fn seal_if_needed(&mut self, now: u64) {
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

    fn sign_crl(&mut self, reading: Reading, time: u64) {
        self.serials();
        let state = self.state();
        let last = state.crl(1).map_or(0, |(_, last)| last.number);
        let stated = CrlIssued {
            generation: 1,
            number: last + 1,
            sha256: Fingerprint::new([0; 32]),
            this_update: time,
            next_update: state.crl_next_update(time),
        };
        let revoked = software::revoked(state, self.serials.as_ref().unwrap(), 1);
        let certificate = &state.device_cas()[0].certificate;
        let (der, issued) = self.keys.crl(stated, certificate, &revoked, None);
        self.ledger().record(reading, Fact::Crl(issued)).unwrap();
        self.commit();
        self.home.crl = Some(der);
    }

    /// The manifest that is in force by its log.
    fn manifest(&self) -> &Verified<TrustManifest> {
        let version = self.state().trust().unwrap().version;
        &self.home.manifests[version as usize - 1]
    }

    /// The newest dispatch that it has seen.
    fn seen(&self) -> Option<DispatchSeen> {
        let chain = self.state().dispatches();
        let (epoch, fingerprint) = chain.epoch.zip(chain.fingerprint)?;
        Some(DispatchSeen {
            epoch,
            sequence: chain.sequence,
            fingerprint,
        })
    }

    fn seal(&mut self, now: u64) {
        let reading = self.reading(now);
        let state = self.state();
        let chain = state.bundles();
        let (first, sequence) = (chain.log_size, chain.sequence + 1);
        let stated = state.crl(1).map(|(_, issued)| issued.sha256);
        let crl = self.home.crl.clone();
        let bundle = Bundle {
            vault: self.name.clone(),
            lineage: state.lineage().unwrap(),
            sequence,
            previous: chain.fingerprint,
            dispatch_seen: self.seen(),
            checkpoint: Checkpoint {
                size: state.size(),
                root: state.root(),
                time: state.mark(),
            },
            first,
            segments: Vec::new(),
            trust_version: state.trust().unwrap().version,
            sealed_at: state.time_at(reading),
            crl: crl.filter(|der| stated == Some(Fingerprint::of(der))),
        };
        let (lineage, log_size) = (bundle.lineage, bundle.checkpoint.size);
        let ledger = self.ledger.as_ref().unwrap();
        let new = ledger.reader(LogSequence(first)).unwrap();
        let new: Vec<Vec<u8>> = new.map(|record| record.unwrap().bytes).collect();
        let unchanged = &|_: &mut Bundle| {};
        let (files, fingerprint) =
            self.keys
                .seal(bundle, self.manifest(), (&new, SEGMENT_RECORDS), unchanged);
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
    pub(super) fn import(&mut self, now: u64, files: &Files) -> Vec<String> {
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
    fn follow(&mut self, now: u64, version: u64, bytes: &[u8]) -> bool {
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
    fn keep(&mut self, version: u64, bytes: &[u8]) {
        let held = &mut self.home.manifests;
        if held.len() as u64 + 1 == version
            && let Ok(next) = held[held.len() - 1].successor(bytes)
        {
            held.push(next);
        }
    }

    /// Follows a dispatch if it is the next one. What became of it; nothing of one that it has.
    fn dispatch(&mut self, now: u64, bytes: &[u8]) -> Option<String> {
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
        let logged = Logged {
            epoch: content.epoch,
            sequence: content.sequence,
            fingerprint,
            kind: content.kind.to_string(),
            id: content.id.clone(),
            version: content.version,
            content: Verdict::Authentic(self.keys.open(content, self.manifest(), &self.name)),
        };
        let reading = self.reading(now);
        let outcome = self
            .ledger()
            .submit(None, reading, Input::Dispatch(&logged));
        let outcome = outcome.unwrap();
        self.commit();
        Some(match outcome {
            Outcome::Refused(refusal) => format!("{what} refused: {}", refusal.code()),
            _ => format!("{what} imported"),
        })
    }

    /// An honest vault whose home is the newest copy has sealed what headquarters has seen.
    fn expect_sealed(&self, what: &str, lineage: Lineage, sequence: u64, found: &Fingerprint) {
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

    /// A copy of its home.
    pub(super) fn backup(&mut self) -> Backup {
        self.commit();
        let sealed = self.state().bundles().sequence;
        Backup {
            home: Home {
                disk: self.home.disk.copy(),
                ..self.home.clone()
            },
            size: self.state().size(),
            sealed,
        }
    }

    /// Puts a copy of the home back.
    pub(super) fn put_back(&mut self, backup: &Backup) {
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
    pub(super) fn restore(&mut self, now: u64, backup: &Backup, random: &mut Random) {
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
        let mut name = [0xee; 16];
        name[0] = self.site.as_bytes()[0];
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
    fn resume(&mut self, now: u64, named: &BTreeMap<MediaName, &Vec<u8>>, said: &mut Vec<String>) {
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
        self.burn(now);
        said.push(format!("a tail of {count} records imported"));
    }

    /// Skips what is in doubt since a restore.
    fn burn(&mut self, now: u64) {
        let slots = self.state().in_doubt();
        if !slots.is_empty() {
            let anchor = self.state().anchor().max(self.token.counter);
            let reading = self.reading(now);
            let burned = Fact::Burned(Burned { anchor, slots });
            self.ledger().record(reading, burned).unwrap();
        }
        self.commit();
    }

    /// Every record, as somebody sees them who has the disk.
    pub(super) fn entries(&self) -> Vec<Entry> {
        let records = self.home.disk.records(Position::START).unwrap();
        let read = |record: &Record| Entry::from_cbor(&record.bytes).unwrap();
        records.iter().map(read).collect()
    }

    /// Writes the log anew, as somebody does who has the disk and makes all its hashes again.
    pub(super) fn rewrite(&mut self, entries: &[Entry]) {
        self.ledger = None;
        let records: Vec<_> = entries.iter().map(Entry::to_cbor).collect();
        self.home.disk = Disk::of(&records);
        self.open();
    }

    /// Writes records behind the last one, whatever they say.
    pub(super) fn write(&mut self, entries: &[Entry]) {
        self.commit();
        self.ledger = None;
        let records: Vec<_> = entries.iter().map(Entry::to_cbor).collect();
        let head = self.home.disk.head();
        self.home.disk.append(&head, &records).unwrap();
        self.open();
        self.commit();
    }

    /// Says, as its next record, that it sealed this bundle.
    pub(super) fn claim_sealed(&mut self, now: u64, fact: Fact) {
        let reading = self.reading(now);
        self.ledger().record(reading, fact).unwrap();
        self.commit();
    }

    /// A bundle of its own; none of what is none.
    pub(super) fn sealed(&self, bytes: &[u8]) -> Option<Verified<Bundle>> {
        Bundle::open(bytes, &self.name, &public(&self.keys.sign)).ok()
    }

    /// A signature of its device CA.
    pub(super) fn certifies(&self, tbs: &[u8]) -> [u8; 64] {
        self.keys.certifies(tbs)
    }
}

/// Records of one segment: few, so that bundles have several.
const SEGMENT_RECORDS: usize = 24;
