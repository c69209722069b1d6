//! The whole engine against a naive model of a vault, over random histories that stop between any two effects: what was
//! durable is there again, what was not is as if it had never been, and nothing is spent or certified twice.

mod disk;
mod pruning;
mod rules;
mod stations;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Mutex, OnceLock};

use mintmark_pki::CertificationRequest;
use mintmark_protocol::entitlement::Entitlement;
use mintmark_protocol::identifier::Fingerprint;
use mintmark_protocol::revocation::Target;
use proptest::prelude::*;
use proptest::sample::Index;

use self::disk::{Disk, IndexLeft};
use self::rules::{Asked, Bundle, LEASE, Model, PRODUCTS, REWORKS, UNITS_PER_DAY, UNITS_PER_HOUR};
use super::fixture::*;
use super::withdrawals::device_order;
use crate::decide::{Input, Reservation, Submitted};
use crate::entry::{
    Body, Burned, BurnedSlots, Content, CrlIssued, DeviceAction, LogSequence, Verdict,
};
use crate::ledger::{Fact, Ledger, Outcome};
use crate::log::Fault;
use crate::replay::Replay;
use crate::serial::serial_of;

/// What happens next.
#[derive(Clone, Debug)]
enum Step {
    /// A device asks for a certificate, at some station.
    Request(Asked),
    /// A reservation is signed for: one that is open, or one that is not any more.
    Sign { which: Index },
    /// What is staged becomes durable, unless something fails.
    Commit(Fate),
    /// The process is gone, with everything that it staged.
    Crash(IndexLeft),
    /// The power goes while a group is written, of which this share in 65,536ths reaches the disk.
    PowerCut { share: u16 },
    /// A clean stop, and the next start.
    Stop,
    /// What a process before left open is signed for.
    Recover,
    /// A bundle of everything durable is sealed.
    Seal,
    /// Headquarters acknowledges a bundle, perhaps an old one or one that it cannot know.
    Acknowledge { which: Index },
    /// What headquarters holds, and is old enough, is pruned; perhaps all of the log was reported and acknowledged for that, and
    /// days went by.
    Prune { after_all: bool },
    /// An amendment of one product's units.
    Amend { product: usize, units: u64 },
    /// The entitlement in force is brought once more.
    Again,
    /// The entitlement is revoked.
    Revoke,
    /// The vault is disabled.
    Disable,
    /// A device is scrapped, voided or allowed another certificate, by some station.
    Order { action: DeviceAction, asked: Asked },
    /// A station is let in, perhaps again: with another key, or to do something else.
    LetIn {
        station: usize,
        key: u8,
        terms: stations::Terms,
    },
    /// A station is shut out.
    ShutOut { station: usize },
    /// The device CA signs a CRL.
    Crl,
    /// The clock goes on.
    Wait { seconds: u64 },
    /// The clock is set back.
    SetBack { seconds: u64 },
    /// The clock is set so far ahead that it is not believed.
    SetAhead { days: u64 },
    /// The clock is set to the time that the log says.
    SetRight,
    /// A person says that the clock is right.
    Confirm,
    /// Slots are skipped.
    Burn { product: usize, slots: u64 },
}

/// What becomes of a commit.
#[derive(Clone, Copy, Debug)]
enum Fate {
    Done,
    /// It fails, and says so.
    DiskFull,
    /// The power goes before anything is stored.
    Before,
    /// The power goes once the group is stored, before the index knows.
    After,
    /// The group is stored, and the index cannot be written.
    IndexFails,
}

fn step() -> impl Strategy<Value = Step> {
    let device = || (stations::asking(), 0..2_usize, 0..4_u8);
    let asked = |(station, product, device): (usize, usize, u8), key| Asked {
        station,
        product,
        device,
        key,
    };
    prop_oneof![
        // A device that keeps its own key, as most do.
        50 => device().prop_map(move |of| Step::Request(asked(of, of.2 + 50 * of.1 as u8))),
        24 => (device(), 0..12_u8).prop_map(move |(of, key)| Step::Request(asked(of, 200 + key))),
        16 => stations::step(),
        36 => any::<Index>().prop_map(|which| Step::Sign { which }),
        40 => prop_oneof![
            12 => Just(Fate::Done),
            2 => Just(Fate::DiskFull),
            1 => Just(Fate::Before),
            2 => Just(Fate::After),
            1 => Just(Fate::IndexFails),
        ].prop_map(Step::Commit),
        8 => prop_oneof![
            Just(IndexLeft::Kept),
            Just(IndexLeft::Lost),
            Just(IndexLeft::Stale),
        ].prop_map(Step::Crash),
        4 => any::<u16>().prop_map(|share| Step::PowerCut { share }),
        3 => Just(Step::Stop),
        8 => Just(Step::Recover),
        8 => Just(Step::Seal),
        8 => any::<Index>().prop_map(|which| Step::Acknowledge { which }),
        9 => prop::bool::weighted(0.7).prop_map(|after_all| Step::Prune { after_all }),
        8 => (0..2_usize, 0..12_u64).prop_map(|(product, units)| Step::Amend { product, units }),
        2 => Just(Step::Again),
        1 => any::<bool>().prop_map(|vault| if vault { Step::Disable } else { Step::Revoke }),
        24 => (0..DeviceAction::ALL.len(), device()).prop_map(move |(action, of)| {
            Step::Order { action: DeviceAction::ALL[action], asked: asked(of, 0) }
        }),
        4 => Just(Step::Crl),
        8 => (0..4000_u64).prop_map(|seconds| Step::Wait { seconds }),
        // The next day, up to the longest time without an acknowledgement.
        6 => (1..9_u64).prop_map(|days| Step::Wait { seconds: days * DAY }),
        4 => (0..2 * DAY).prop_map(|seconds| Step::SetBack { seconds }),
        4 => (0..600_u64).prop_map(|seconds| Step::SetBack { seconds }),
        2 => (20..45_u64).prop_map(|days| Step::SetAhead { days }),
        6 => Just(Step::SetRight),
        5 => Just(Step::Confirm),
        3 => (0..2_usize, 1..LEASE + 2).prop_map(|(product, slots)| Step::Burn { product, slots }),
    ]
}

fn terms(version: u64, units: [u64; 2]) -> Entitlement {
    let mut products = Vec::new();
    for (at, name) in PRODUCTS.into_iter().enumerate() {
        let mut product = product(at as u64 + 1, name, units[at]);
        product.units_per_hour = Some(UNITS_PER_HOUR);
        product.units_per_day = Some(UNITS_PER_DAY);
        product.reissues_per_device = REWORKS[at] as u32;
        let allowed = stations::ALLOWED[at].map(|of| of.iter().copied().map(stations::id));
        product.stations = allowed.map(Iterator::collect);
        products.push(product);
    }
    let mut entitlement = entitlement("both", products);
    entitlement.version = version;
    entitlement.approve_until = NEW_YEAR + 36_500 * DAY;
    entitlement.window.until = NEW_YEAR + 36_500 * DAY;
    entitlement.credit.unreported_units_max = rules::CREDIT_UNITS;
    entitlement.credit.unreported_days_max = rules::CREDIT_DAYS;
    entitlement.anchor_lease_max = LEASE;
    entitlement.retention_days = Some(rules::RETENTION_DAYS);
    entitlement
}

/// Requests, each made once: a key's proof of possession costs more than all the rest of a step.
fn request_of(device: u8, key: u8) -> CertificationRequest {
    static MADE: OnceLock<Mutex<BTreeMap<(u8, u8), CertificationRequest>>> = OnceLock::new();
    let mut made = MADE.get_or_init(Mutex::default).lock().unwrap();
    let request = made.entry((device, key));
    let request = request.or_insert_with(|| csr(&format!("D{device}"), u64::from(key)));
    request.clone()
}

/// A vault, what the model says of it now, and what it says of it if the power went now.
struct Vault {
    disk: Disk,
    ledger: Option<Ledger>,
    live: Model,
    durable: Model,
    /// Reservations that this process holds.
    hand: BTreeMap<u64, Reservation>,
    now: u64,
    /// Certificates that left the vault, by reservation: no crash takes them back.
    released: BTreeMap<u64, Vec<u8>>,
    /// The size of the log after each of its groups.
    groups: Vec<u64>,
    /// The record after the last that was pruned.
    pruned: u64,
    /// The records below that, as headquarters holds them.
    held: Vec<Vec<u8>>,
    /// Reservations whose certificates went with them.
    gone: BTreeSet<u64>,
}

impl Vault {
    fn new(disk: Disk) -> Self {
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

    fn ledger(&mut self) -> &mut Ledger {
        self.ledger.as_mut().unwrap()
    }

    /// An input or a fact comes: the start and the clock are put on record first.
    fn ready(&mut self) {
        self.live.ready(self.now);
    }

    /// What the engine says to an input, which is two records.
    fn submit(&mut self, input: Input<'_>) -> Outcome {
        let now = self.now;
        let outcome = self.ledger().submit(Some(&serials()), now, input).unwrap();
        self.live.entry(now);
        self.live.entry(now);
        outcome
    }

    fn import(&mut self, content: Content) -> String {
        self.ready();
        let next = self.live.dispatches + 1;
        let dispatch = dispatch(next, Verdict::Authentic(content));
        let outcome = self.submit(Input::Dispatch(&dispatch));
        self.live.dispatches = next;
        match outcome {
            Outcome::Accepted => "accepted".to_owned(),
            Outcome::Refused(refusal) => refusal.code().to_owned(),
            other => panic!("{other:?}"),
        }
    }

    /// A fact, which the engine takes; whether it did.
    fn record(&mut self, fact: Fact) -> bool {
        let now = self.now;
        let recorded = self.ledger().record(now, fact).is_ok();
        if recorded {
            self.live.entry(now);
        }
        recorded
    }

    fn request(&mut self, asked: Asked) {
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

    fn sign(&mut self, which: Index) {
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

    fn recover(&mut self) {
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

    fn commit(&mut self, fate: Fate) {
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
    fn settle(&mut self) {
        if self.live.size > self.durable.size {
            self.groups.push(self.live.size);
        }
        self.durable = self.live.clone();
    }

    fn full_disk(&mut self) {
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
    fn power_cut(&mut self, share: u16) {
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

    fn crash(&mut self, left: IndexLeft) {
        let ledger = self.ledger.take();
        self.disk.crash(left, || drop(ledger));
        self.start();
    }

    fn stop(&mut self) {
        self.ledger.take().unwrap().close().unwrap();
        self.settle();
        self.start();
    }

    /// The next process begins with what is durable.
    fn start(&mut self) {
        self.hand.clear();
        self.durable.started = false;
        self.live = self.durable.clone();
        let mut ledger = self.disk.open();
        ledger.set_anchor(rules::ANCHOR);
        self.ledger = Some(ledger);
        self.release();
        self.expect_log();
    }

    /// What is signed for and durable leaves the vault, and what left it is the same for ever.
    fn release(&mut self) {
        for issue in &self.durable.issues {
            let ledger = self.ledger.as_ref().unwrap();
            let certificate = ledger.certificate(LogSequence(issue.reservation)).unwrap();
            if self.gone.contains(&issue.reservation) {
                assert_eq!(certificate, None, "{issue:?}");
                continue;
            }
            assert_eq!(certificate.is_some(), issue.signed, "{issue:?}");
            let Some(certificate) = certificate else {
                assert!(!self.released.contains_key(&issue.reservation));
                continue;
            };
            let before = self.released.entry(issue.reservation);
            assert_eq!(*before.or_insert_with(|| certificate.clone()), certificate);
        }
        let signed = self.durable.issues.iter().filter(|issue| issue.signed);
        assert_eq!(signed.count(), self.released.len());
    }

    /// The log holds what the model holds, each unit and each serial number once.
    fn expect_log(&mut self) {
        let ledger = self.ledger.as_ref().unwrap();
        let (mut slots, mut serials) = (BTreeSet::new(), BTreeSet::new());
        let mut issues = self.durable.issues.iter();
        let mut signed = BTreeSet::new();
        for entry in ledger.entries(LogSequence(0)).unwrap() {
            let (sequence, entry) = entry.unwrap();
            match entry.body {
                Body::Reserved(reserved) => {
                    let issue = issues.next().unwrap();
                    assert_eq!(issue.reservation, sequence.number());
                    if self.gone.contains(&issue.reservation) {
                        assert_eq!(serial_of(&issue.tbs), serial_of(&reserved.tbs));
                    } else {
                        assert_eq!(issue.tbs, reserved.tbs);
                    }
                    assert!(slots.insert((reserved.account, reserved.slot, reserved.issue)));
                    assert!(serials.insert(serial_of(&reserved.tbs).unwrap()));
                }
                Body::Signed(of) => assert!(signed.insert(of.reservation.number())),
                _ => {}
            }
        }
        assert!(issues.next().is_none());
        let expected = self.durable.issues.iter().filter(|issue| issue.signed);
        let expected: BTreeSet<_> = expected.map(|issue| issue.reservation).collect();
        assert_eq!(signed, expected);
    }

    fn order(&mut self, action: DeviceAction, asked: Asked) {
        self.ready();
        let Asked {
            station,
            product,
            device,
            ..
        } = asked;
        let expected = self.live.order(self.now, action, asked);
        let mut order = device_order(action, PRODUCTS[product], &format!("D{device}"));
        order.station = stations::id(station);
        let told = match self.submit(Input::Device(&order)) {
            Outcome::DeviceChanged(_) => "device-changed".to_owned(),
            Outcome::Refused(refusal) => refusal.code().to_owned(),
            other => panic!("{other:?}"),
        };
        assert_eq!(told, expected);
    }

    fn seal(&mut self) {
        self.ready();
        let (sequence, log_size) = (self.live.bundles.len() as u64 + 1, self.durable.size);
        let fingerprint = Fingerprint::of(format!("bundle {sequence} {log_size}").as_bytes());
        let fact = Fact::BundleSealed {
            sequence,
            fingerprint,
            log_size,
        };
        assert!(self.record(fact));
        self.live.bundles.push(Bundle {
            fingerprint,
            log_size,
        });
    }

    fn acknowledge_at(&mut self, at: usize) {
        let sequence = at as u64 + 1;
        let bundle = self.live.bundles.get(at).copied();
        let claimed = bundle.unwrap_or(Bundle {
            fingerprint: Fingerprint::of(b"of nobody"),
            log_size: self.durable.size,
        });
        let acknowledged = acknowledgement(sequence, claimed.fingerprint, claimed.log_size);
        let told = self.import(acknowledgement_content(&acknowledged));
        let Some(bundle) = bundle else {
            return assert_eq!(told, "ACK-UNKNOWN-BUNDLE");
        };
        assert_eq!(told, "accepted");
        self.live.acknowledged_size = self.live.acknowledged_size.max(bundle.log_size);
    }

    fn amend(&mut self, product: usize, units: u64) {
        let mut amended = self.live.authorised;
        amended[product] = units;
        let version = self.live.version + 1;
        let told = self.import(entitlement_content(&terms(version, amended)));
        let expected = if self.live.revoked {
            "ENTITLEMENT-REVOKED"
        } else if units < self.live.next_slot[product] {
            "ENTITLEMENT-BELOW-SPENT"
        } else {
            "accepted"
        };
        assert_eq!(told, expected);
        if expected == "accepted" {
            self.live.version = version;
            self.live.authorised = amended;
        }
    }

    fn again(&mut self) {
        let known = terms(self.live.version, self.live.authorised);
        let expected = if self.live.revoked {
            "ENTITLEMENT-REVOKED"
        } else {
            "accepted"
        };
        assert_eq!(self.import(entitlement_content(&known)), expected);
    }

    fn revoke(&mut self, target: Target) {
        let number = self.live.revocations + 1;
        let content = revocation_content(&revocation(number, target));
        assert_eq!(self.import(content), "accepted");
        self.live.revocations = number;
    }

    fn crl(&mut self) {
        self.ready();
        let (now, number) = (self.now, self.live.crls + 1);
        let state = self.ledger.as_ref().unwrap().state();
        assert_eq!(
            state.crl_is_behind(1),
            self.live.withdrawn.len() > self.live.on_crl
        );
        let this_update = state.time_at(now.into());
        let crl = CrlIssued {
            generation: 1,
            number,
            sha256: Fingerprint::of(b"a CRL"),
            this_update,
            next_update: state.crl_next_update(this_update),
        };
        assert!(self.record(Fact::Crl(crl)));
        self.live.crls = number;
        self.live.on_crl = self.live.withdrawn.len();
    }

    fn confirm(&mut self) {
        self.ready();
        let expected = self.live.confirmation(self.now);
        let told = match self.submit(Input::ClockConfirm) {
            Outcome::Accepted => "accepted".to_owned(),
            Outcome::Refused(refusal) => refusal.code().to_owned(),
            other => panic!("{other:?}"),
        };
        assert_eq!(told, expected);
        if told == "accepted" {
            self.live.confirmed(self.now);
        }
    }

    fn burn(&mut self, product: usize, slots: u64) {
        self.ready();
        let first = self.live.next_slot[product];
        let end = first + slots;
        let slots_of = BurnedSlots {
            account: tag(product as u64 + 1),
            first,
            end,
        };
        let fits = slots <= LEASE && end <= self.live.authorised[product];
        let burned = Burned {
            anchor: rules::ANCHOR,
            slots: vec![slots_of],
        };
        assert_eq!(self.record(Fact::Burned(burned)), fits);
        if fits {
            self.live.next_slot[product] = end;
            self.live.burned[product] += slots;
        }
    }

    fn step(&mut self, step: Step) {
        match step {
            Step::Request(asked) => self.request(asked),
            Step::Sign { which } => self.sign(which),
            Step::Commit(fate) => self.commit(fate),
            Step::Crash(left) => self.crash(left),
            Step::PowerCut { share } => self.power_cut(share),
            Step::Stop => self.stop(),
            Step::Recover => self.recover(),
            Step::Seal => self.seal(),
            Step::Acknowledge { which } => {
                self.acknowledge_at(which.index(self.live.bundles.len() + 1));
            }
            Step::Prune { after_all } => {
                if after_all {
                    self.retire();
                }
                self.prune();
            }
            Step::Amend { product, units } => self.amend(product, units),
            Step::Again => self.again(),
            Step::Revoke => {
                self.revoke(Target::Entitlement("both".parse().unwrap()));
                self.live.revoked = true;
            }
            Step::Disable => {
                self.revoke(Target::Vault);
                self.live.disabled = true;
            }
            Step::Order { action, asked } => self.order(action, asked),
            Step::LetIn {
                station,
                key,
                terms,
            } => self.let_in(station, key, &terms),
            Step::ShutOut { station } => self.shut_out(station),
            Step::Crl => self.crl(),
            Step::Wait { seconds } => self.now += seconds,
            Step::SetBack { seconds } => self.now = NEW_YEAR.max(self.now - seconds),
            Step::SetAhead { days } => self.now += days * DAY,
            Step::SetRight => self.now = self.live.mark,
            Step::Confirm => self.confirm(),
            Step::Burn { product, slots } => self.burn(product, slots),
        }
    }

    /// Everything that can be counted is as the model counts it.
    fn expect_counts(&self) {
        let (ledger, live) = (self.ledger.as_ref().unwrap(), &self.live);
        let state = ledger.state();
        assert_eq!(
            (state.size(), ledger.size()),
            (live.size, self.durable.size)
        );
        assert_eq!(state.mark(), live.mark);
        assert_eq!(state.clock_behind(), live.behind);
        assert_eq!(state.clock_stopped().is_some(), live.stopped);
        for product in 0..PRODUCTS.len() {
            let account = state.account(tag(product as u64 + 1)).unwrap();
            let told = [
                account.good,
                account.scrapped,
                account.voided,
                account.unresolved,
                account.burned,
            ];
            assert_eq!(told, live.counts(product));
            assert_eq!(account.next_slot, live.next_slot[product]);
            assert_eq!(account.authorised, live.authorised[product]);
            let sum: u64 = told[..4].iter().sum();
            assert_eq!(account.authorised, sum + account.unspent());
        }
        assert_eq!(state.units_unreported(), live.unreported().count() as u64);
        assert_eq!(state.withdrawn().count(), live.withdrawn.len());
        assert_eq!(state.disabled_at().is_some(), live.disabled);
        self.expect_stations();
        let unfinished = ledger.unfinished();
        let unfinished: Vec<_> = unfinished
            .iter()
            .map(|open| (open.reservation.number(), &open.tbs))
            .collect();
        let open = live.issues.iter().filter(|issue| {
            let durable = issue.reservation < self.durable.size;
            !issue.signed && !issue.replaced && durable && live.withheld(issue).is_none()
        });
        let open: Vec<_> = open.map(|issue| (issue.reservation, &issue.tbs)).collect();
        assert_eq!(unfinished, open);
    }

    /// Replaying the whole log at headquarters finds nothing, and ends where the vault is.
    fn expect_replay(&mut self) {
        self.commit(Fate::Done);
        self.expect_log();
        let whole = self.whole_records();
        let ledger = self.ledger();
        let (mut replay, mut devices) = (Replay::new(), Devices::default());
        for raw in whole {
            let replayed = replay.feed(&devices, Some(&serials()), &raw, None).unwrap();
            assert_eq!(replayed.divergences, []);
            devices.keep(replayed.effect.as_ref());
        }
        assert_eq!(replay.state(), ledger.state());
    }
}

fn run(disk: Disk, steps: Vec<Step>) {
    let mut vault = Vault::new(disk);
    for step in steps {
        vault.step(step);
        vault.expect_counts();
    }
    vault.crash(IndexLeft::Kept);
    vault.recover();
    vault.expect_counts();
    vault.expect_replay();
}

#[test]
fn a_log_that_was_pruned_goes_on_as_the_models_does() {
    let ask = |device| {
        let (station, product, key) = (stations::CONSOLE, 0, device);
        Step::Request(Asked {
            station,
            product,
            device,
            key,
        })
    };
    let mut vault = Vault::new(Disk::files());
    let prune = Step::Prune { after_all: true };
    for step in [
        ask(0),
        Step::Commit(Fate::Done),
        Step::Recover,
        // One that is open when it is pruned.
        ask(1),
        prune.clone(),
        ask(0),
        Step::Crash(IndexLeft::Lost),
        Step::Recover,
        prune,
        ask(2),
        Step::PowerCut { share: 30_000 },
        ask(1),
    ] {
        vault.step(step);
        vault.expect_counts();
    }
    assert_eq!(
        (vault.gone.len(), vault.held.len() as u64),
        (2, vault.pruned)
    );
    vault.crash(IndexLeft::Stale);
    vault.recover();
    vault.expect_replay();
}

/// As many cases as said; with `PROPTEST_CASES`, a share of those.
fn cases(normally: u32, one_in: u32) -> ProptestConfig {
    let asked = std::env::var("PROPTEST_CASES").ok();
    let asked = asked.and_then(|cases| cases.parse::<u32>().ok());
    ProptestConfig {
        cases: asked.map_or(normally, |cases| cases.div_ceil(one_in)),
        ..ProptestConfig::default()
    }
}

proptest! {
    #![proptest_config(cases(256, 1))]

    #[test]
    fn a_vault_in_memory_is_the_models_whatever_fails(steps in prop::collection::vec(step(), 1..160)) {
        run(Disk::memory(), steps);
    }
}

proptest! {
    #![proptest_config(cases(16, 16))]

    #[test]
    fn a_vault_in_files_is_the_models_whatever_fails(steps in prop::collection::vec(step(), 1..60)) {
        run(Disk::files(), steps);
    }
}
