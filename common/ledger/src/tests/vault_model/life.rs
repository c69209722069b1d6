//! How a vault works and fails: what it is asked, signs, commits, and loses when it stops.

use std::collections::{BTreeMap, BTreeSet};

use proptest::sample::Index;

use super::super::fixture::*;
use super::*;
use crate::decide::{Input, Submitted};
use crate::entry::LogSequence;
use crate::ledger::{Fact, Ledger, Outcome};
use crate::log::Fault;

impl Vault {
    pub(super) fn new(disk: Disk) -> Self {
        let mut ledger = disk.create();
        ledger.set_anchor(rules::ANCHOR);
        let mut vault = Self {
            disk,
            ledger: Some(ledger),
            live: Model::new(NEW_YEAR),
            durable: Model::new(NEW_YEAR),
            hand: BTreeMap::new(),
            now: NEW_YEAR,
            released: BTreeMap::new(),
            groups: vec![1],
            pruned: 0,
            held: Vec::new(),
            gone: BTreeSet::new(),
        };
        assert_eq!(vault.import(grant_content(&grant())), "accepted");
        assert_eq!(
            vault.import(entitlement_content(&terms(1, [8, 8]))),
            "accepted"
        );
        vault.live.version = 1;
        vault.live.authorised = [8, 8];
        vault.open_the_line();
        vault.commit(Fate::Done);
        vault
    }

    pub(super) fn ledger(&mut self) -> &mut Ledger {
        self.ledger.as_mut().unwrap()
    }

    /// An input or a fact comes: the start and the clock are put on record first.
    pub(super) fn ready(&mut self) {
        self.live.ready(self.now);
    }

    /// What the engine says to an input, which is two records.
    pub(super) fn submit(&mut self, input: Input<'_>) -> Outcome {
        let now = self.now;
        let outcome = self.ledger().submit(Some(&serials()), now, input).unwrap();
        self.live.entry(now);
        self.live.entry(now);
        outcome
    }

    /// A fact, which the engine takes; whether it did.
    pub(super) fn record(&mut self, fact: Fact) -> bool {
        let now = self.now;
        let recorded = self.ledger().record(now, fact).is_ok();
        if recorded {
            self.live.entry(now);
        }
        recorded
    }

    pub(super) fn request(&mut self, asked: Asked) {
        self.ready();
        let Asked {
            station,
            product,
            device,
            key,
        } = asked;
        let csr = request_of(device, key);
        let (sku, station) = (sku(PRODUCTS[product]), stations::id(station));
        let expected = self.live.answer(self.now, asked);
        let unsure = self.live.credit_is_unsure(self.now);
        let input = Input::Request {
            product: &sku,
            station: &station,
            submission: Submitted::Verified(&csr),
        };
        let outcome = self.submit(input);
        let told = match &outcome {
            Outcome::Reserved(reservation) if reservation.reserved().issue == 0 => "issued",
            Outcome::Reserved(_) => "reissued",
            Outcome::Existing { reservation } => {
                let newest = self.live.newest(product, device).unwrap();
                assert_eq!(reservation.number(), newest.reservation);
                "existing"
            }
            Outcome::Refused(refusal) => refusal.code(),
            other => panic!("{other:?}"),
        };
        // The age of the oldest unit is kept to within an hour, never too young.
        let early = unsure && expected == "issued" && told == "CREDIT-DAYS-EXHAUSTED";
        assert!(early || told == expected, "{told}, expected {expected}");
        if let Outcome::Reserved(reservation) = outcome {
            let reserved = reservation.reserved();
            let made = self.live.reserve(asked, reserved.tbs.clone());
            assert_eq!(made.reservation, reservation.sequence().number());
            assert_eq!((made.slot, made.issue), (reserved.slot, reserved.issue));
            assert_eq!(reserved.account, tag(product as u64 + 1));
            self.hand.insert(made.reservation, reservation);
        }
    }

    pub(super) fn sign(&mut self, which: Index) {
        if self.live.issues.is_empty() {
            return;
        }
        let at = which.index(self.live.issues.len());
        let issue = self.live.issues[at].clone();
        let expected = if issue.signed || issue.replaced {
            "RESERVATION-UNKNOWN"
        } else if issue.reservation >= self.durable.size {
            "RESERVATION-NOT-DURABLE"
        } else if self.live.withheld(&issue).is_some() {
            "RESERVATION-WITHHELD"
        } else {
            "signed"
        };
        self.ready();
        let signature = sign(&authorities().device_ca_key, &issue.tbs);
        let held = self.hand.remove(&issue.reservation);
        let (now, held) = (self.now, held.filter(|_| !issue.replaced));
        let signed = match held {
            Some(reservation) => self.ledger().signed(now, reservation, signature),
            None => {
                let reservation = LogSequence(issue.reservation);
                self.ledger().signed_unfinished(now, reservation, signature)
            }
        };
        let told = signed
            .as_ref()
            .map_or_else(|error| error.code(), |_| "signed");
        assert_eq!(told, expected);
        if signed.is_ok() {
            self.live.entry(now);
            self.live.sign(at);
        }
    }

    pub(super) fn recover(&mut self) {
        for at in 0..self.live.issues.len() {
            let issue = &self.live.issues[at];
            let open = !issue.signed && !issue.replaced && issue.reservation < self.durable.size;
            if open && self.live.withheld(issue).is_none() {
                let (reservation, tbs) = (LogSequence(issue.reservation), issue.tbs.clone());
                self.ready();
                let signature = sign(&authorities().device_ca_key, &tbs);
                let now = self.now;
                let signed = self.ledger().signed_unfinished(now, reservation, signature);
                signed.unwrap();
                self.hand.remove(&reservation.number());
                self.live.entry(now);
                self.live.sign(at);
            }
        }
    }

    pub(super) fn commit(&mut self, fate: Fate) {
        // What there is nothing of cannot fail.
        let staged = self.ledger().has_staged();
        assert_eq!(staged, self.live.size > self.durable.size);
        match (fate, self.disk.is_memory()) {
            (Fate::DiskFull, true) if staged => self.full_disk(),
            (Fate::Before | Fate::After, true) if staged => {
                let (fault, stored) = match fate {
                    Fate::After => (Fault::After, true),
                    _ => (Fault::Before, false),
                };
                self.disk.fail_append(fault);
                let error = self.ledger().commit().unwrap_err();
                assert_eq!(error.code(), "OUTCOME-UNKNOWN");
                let error = self.ledger().commit().unwrap_err();
                assert_eq!(error.code(), "OUTCOME-UNKNOWN");
                if stored {
                    self.settle();
                }
                self.crash(IndexLeft::Kept);
            }
            (Fate::Before, false) => self.crash(IndexLeft::Kept),
            (Fate::After, false) => self.power_cut(u16::MAX),
            (Fate::IndexFails, true) if staged => {
                self.disk.fail_index();
                self.ledger().commit().unwrap();
                self.settle();
            }
            _ => {
                self.ledger().commit().unwrap();
                self.settle();
            }
        }
        self.release();
    }

    /// What was staged is durable.
    pub(super) fn settle(&mut self) {
        if self.live.size > self.durable.size {
            self.groups.push(self.live.size);
        }
        self.durable = self.live.clone();
    }

    pub(super) fn full_disk(&mut self) {
        self.disk.fail_append(Fault::DiskFull);
        let error = self.ledger().commit().unwrap_err();
        assert_eq!(error.code(), "DISK-FULL");
        self.live = self.durable.clone();
        let lost = self.hand.split_off(&self.durable.size);
        let now = self.now;
        for reservation in lost.into_values() {
            let error = self.ledger().signed(now, reservation, [1; 64]);
            assert_eq!(error.unwrap_err().code(), "RESERVATION-UNKNOWN");
        }
    }

    /// The group that is staged reaches the disk in part.
    pub(super) fn power_cut(&mut self, share: u16) {
        if self.disk.is_memory() {
            return self.crash(IndexLeft::Kept);
        }
        let mut ledger = self.ledger.take().unwrap();
        let whole = self.disk.cut_power(share, || {
            ledger.commit().unwrap();
            drop(ledger);
        });
        if whole {
            self.settle();
        }
        self.start();
    }

    pub(super) fn crash(&mut self, left: IndexLeft) {
        let ledger = self.ledger.take();
        self.disk.crash(left, || drop(ledger));
        self.start();
    }

    pub(super) fn stop(&mut self) {
        self.ledger.take().unwrap().close().unwrap();
        self.settle();
        self.start();
    }

    /// The next process begins with what is durable.
    pub(super) fn start(&mut self) {
        self.hand.clear();
        self.durable.started = false;
        self.live = self.durable.clone();
        let mut ledger = self.disk.open();
        ledger.set_anchor(rules::ANCHOR);
        self.ledger = Some(ledger);
        self.release();
        self.expect_log();
    }
}
