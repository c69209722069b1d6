//! The whole engine against a naive model of a vault, over random histories that stop between any two effects: what was
//! durable is there again, what was not is as if it had never been, and nothing is spent or certified twice.

mod disk;
mod expectation;
mod life;
mod orders;
mod pruning;
mod rules;
mod stations;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Mutex, OnceLock};

use mintmark_pki::CertificationRequest;
use mintmark_protocol::entitlement::Entitlement;
use mintmark_protocol::revocation::Target;
use proptest::prelude::*;
use proptest::sample::Index;

use self::disk::{Disk, IndexLeft};
use self::rules::{Asked, LEASE, Model, PRODUCTS, REWORKS, UNITS_PER_DAY, UNITS_PER_HOUR};
use super::fixture::*;
use crate::decide::Reservation;
use crate::entry::DeviceAction;
use crate::ledger::Ledger;

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
