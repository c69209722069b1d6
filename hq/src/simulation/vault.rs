//! A vault in a run: the real engine over a log in memory, with keys in software. What is around the engine (what is sealed
//! when, what is carried, what is followed in which order) goes by the same rules as in `site`.

mod copies;
mod disk;
mod media;
mod stations;

use std::collections::{BTreeMap, BTreeSet};

use mintmark_ledger::decide::Input;
use mintmark_ledger::entry::{DeviceAction, DeviceOrder, Dispatch, Entry, Genesis, Steady};
use mintmark_ledger::index::MemoryIndex;
use mintmark_ledger::ledger::{Fact, Ledger, Outcome};
use mintmark_ledger::log::{LogStore as _, Position, Record};
use mintmark_ledger::state::{Reading, State};
use mintmark_ledger::{SerialCipher, Submitted};
use mintmark_pki::CertificationRequest;
use mintmark_protocol::bundle::Bundle;
use mintmark_protocol::entitlement::AccountTag;
use mintmark_protocol::envelope::Verified;
use mintmark_protocol::identifier::{Fingerprint, Lineage, StationId, VaultName};
use mintmark_protocol::media::MediaName;
use mintmark_protocol::restore::RestoreDeclaration;
use mintmark_protocol::trust::TrustManifest;

use self::disk::Disk;
use super::headquarters::{BEGINNING, Headquarters};
use super::software::{Keys, lineage, pinned, public, vault_name};

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
    /// How many restores were over when it was made.
    restored: u64,
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

/// What a patched program does besides writing what it likes.
#[derive(Default)]
pub(super) struct Tampering {
    /// Records that go home as other ones, by their places in the log.
    pub(super) reported: BTreeMap<u64, Vec<u8>>,
    /// How the next bundle departs from what is so.
    pub(super) bundle: Option<fn(&mut Bundle)>,
    /// How the next dispatch that this changes goes on record.
    pub(super) dispatch: Option<fn(&mut Dispatch) -> bool>,
    /// The record of that one.
    pub(super) tampered_at: Option<u64>,
    /// The next CRL leaves a revocation out.
    pub(super) crl_leaves_out: bool,
    /// The serial that one left out.
    pub(super) crl_left_out: Option<Vec<u8>>,
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
    /// How many of them are over.
    restored: u64,
    /// Fingerprints of bundles that it has sealed, and does not know any more since a restore.
    pub(super) lost: BTreeSet<Fingerprint>,
    /// Its state when it had units and nothing was against spending them: what a patched program decides by.
    pub(super) unspent: Option<State>,
    /// Whether it keeps to the rules.
    pub(super) honest: bool,
    pub(super) tampering: Tampering,
}

impl Vault {
    /// A vault that has asked to be let in.
    pub(super) fn new(site: &'static str, hq: &Headquarters) -> Self {
        let manifest = pinned(hq.manifest());
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
            request: hq.enrolment(site).to_vec(),
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
            restored: 0,
            lost: BTreeSet::new(),
            unspent: None,
            honest: true,
            tampering: Tampering::default(),
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
    pub(super) fn reading(&self, now: u64) -> Reading {
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

    /// Somebody at the vault asks for a device certificate.
    pub(super) fn request(
        &mut self,
        now: u64,
        product: &str,
        csr: &CertificationRequest,
        until: Until,
    ) -> Answer {
        self.request_at(&StationId::console(), now, product, csr, until)
    }

    /// The same at a station.
    pub(super) fn request_at(
        &mut self,
        station: &StationId,
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
            station,
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
