//! The state machine against a naive model of what it should do, over random histories.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;

use super::fixture::*;
use crate::entry::LogSequence;
use crate::entry::{Body, Signed};
use crate::state::State;

/// What happens next.
#[derive(Clone, Debug)]
enum Step {
    /// A request for one of two products, from one of a few devices with one of a few keys.
    Request {
        product: usize,
        device: u8,
        key: u8,
        sign: bool,
    },
    /// Time passes.
    Wait { seconds: u64 },
    /// An amendment of one product's units.
    Amend { product: usize, units: u64 },
    /// A bundle goes out and is acknowledged.
    Report,
    /// The process starts again.
    Restart,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        8 => (0..2_usize, 0..12_u8, 0..12_u8, any::<bool>())
            .prop_map(|(product, device, key, sign)| Step::Request { product, device, key, sign }),
        // A device that keeps its own key, as most do.
        8 => (0..2_usize, 0..12_u8, any::<bool>()).prop_map(|(product, device, sign)| {
            Step::Request { product, device, key: device + 100, sign }
        }),
        2 => (0..4000_u64).prop_map(|seconds| Step::Wait { seconds }),
        1 => (0..2_usize, 0..8_u64).prop_map(|(product, units)| Step::Amend { product, units }),
        1 => Just(Step::Report),
        1 => Just(Step::Restart),
    ]
}

const PRODUCTS: [&str; 2] = ["TH-200", "TH-300"];
const UNITS_PER_HOUR: u64 = 3;
const CREDIT: u64 = 6;

/// A spent unit.
struct Unit {
    product: usize,
    time: u64,
    reported: bool,
    signed: bool,
}

/// The model: plain lists, and every rule written out once more.
#[derive(Default)]
struct Model {
    units: [u64; 2],
    version: u64,
    spent: Vec<Unit>,
    /// (product, device) to key.
    devices: BTreeMap<(usize, u8), u8>,
    keys: BTreeSet<u8>,
}

impl Model {
    fn answer(&self, now: u64, product: usize, device: u8, key: u8) -> &'static str {
        match self.devices.get(&(product, device)) {
            Some(known) if *known == key => return "existing",
            Some(_) => return "DEVICE-KEY-CHANGED",
            None => {}
        }
        if self.keys.contains(&key) {
            return "KEY-REUSED";
        }
        let count =
            |of: &dyn Fn(&Unit) -> bool| self.spent.iter().filter(|unit| of(unit)).count() as u64;
        if count(&|unit| unit.product == product) >= self.units[product] {
            return "QUOTA-EXHAUSTED";
        }
        let this_hour = |unit: &Unit| unit.product == product && unit.time / HOUR == now / HOUR;
        if count(&this_hour) >= UNITS_PER_HOUR {
            return "RATE-HOUR";
        }
        if count(&|unit| !unit.reported) >= CREDIT {
            return "CREDIT-UNITS-EXHAUSTED";
        }
        "reserved"
    }
}

fn terms(version: u64, units: [u64; 2]) -> mintmark_protocol::entitlement::Entitlement {
    let mut products = Vec::new();
    for (at, name) in PRODUCTS.into_iter().enumerate() {
        let mut product = product(at as u64 + 1, name, units[at]);
        product.units_per_hour = Some(UNITS_PER_HOUR);
        products.push(product);
    }
    let mut entitlement = entitlement("both", products);
    entitlement.version = version;
    entitlement.credit.unreported_units_max = CREDIT;
    entitlement.credit.unreported_days_max = 1000;
    entitlement
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]

    #[test]
    fn the_state_machine_decides_as_the_model_does_and_replays_without_a_finding(
        steps in prop::collection::vec(step(), 1..80),
    ) {
        let mut model = Model { units: [5, 5], version: 1, ..Model::default() };
        let mut vault = Chronicle::entitled(&[terms(1, [5, 5])]);
        for step in steps {
            match step {
                Step::Wait { seconds } => vault.now += seconds,
                Step::Restart => vault.write(Body::Start(start(vault.state.boot() + 1))),
                Step::Report => {
                    vault.report();
                    for unit in &mut model.spent {
                        unit.reported = true;
                    }
                }
                Step::Amend { product, units } => {
                    let mut amended = model.units;
                    amended[product] = units;
                    let version = model.version + 1;
                    let spent = model.spent.iter().filter(|unit| unit.product == product).count() as u64;
                    let result = vault.entitle(&terms(version, amended));
                    prop_assert_eq!(result.is_ok(), units >= spent);
                    if result.is_ok() {
                        model.units = amended;
                        model.version = version;
                    }
                }
                Step::Request { product, device, key, sign: signs } => {
                    let csr = csr(&format!("D{device}"), u64::from(key));
                    let expected = model.answer(vault.now, product, device, key);
                    let decision = vault.request(PRODUCTS[product], &csr);
                    prop_assert_eq!(decision.code().unwrap_or(decision.kind()), expected);
                    let Body::Reserved(reserved) = decision else { continue };
                    let before = model.spent.iter().filter(|unit| unit.product == product).count();
                    prop_assert_eq!(reserved.slot, before as u64);
                    let time = vault.now;
                    model.spent.push(Unit { product, time, reported: false, signed: signs });
                    model.devices.insert((product, device), key);
                    model.keys.insert(key);
                    if signs {
                        let reservation = LogSequence(vault.state.size() - 1);
                        let signature = sign(&authorities().device_ca_key, &reserved.tbs);
                        vault.write(Body::Signed(Signed { reservation, signature }));
                    }
                }
            }
            for (at, _) in PRODUCTS.into_iter().enumerate() {
                let account = vault.state.account(tag(at as u64 + 1)).unwrap();
                let units = |signed| {
                    model.spent.iter().filter(|u| u.product == at && u.signed == signed).count() as u64
                };
                prop_assert_eq!(account.good, units(true));
                prop_assert_eq!(account.unresolved, units(false));
                prop_assert_eq!(account.authorised, account.spent() + account.unspent());
            }
            let unreported = model.spent.iter().filter(|unit| !unit.reported).count() as u64;
            prop_assert_eq!(vault.state.units_unreported(), unreported);
        }
        let (replay, divergences) = replay(&vault.records);
        prop_assert_eq!(divergences, vec![]);
        prop_assert_eq!(replay.state(), &vault.state);
        prop_assert_eq!(&State::from_snapshot(&vault.state.to_snapshot()).unwrap(), &vault.state);
    }

    #[test]
    fn whatever_the_log_says_the_replay_goes_on(
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<prop::sample::Index>(), any::<u8>()), 1..6),
        order in prop::collection::vec(any::<prop::sample::Index>(), 0..6),
    ) {
        let mut records = whole_log();
        for index in order {
            // A record again, somewhere else.
            let again = records[index.index(records.len())].clone();
            let at = (index.index(records.len()) * 7) % records.len();
            records.insert(at, again);
        }
        for (record, byte, value) in changes {
            let at = record.index(records.len());
            let byte = byte.index(records[at].len());
            records[at][byte] = value;
        }
        let (replay, _) = replay(&records);
        prop_assert_eq!(replay.state().size(), records.len() as u64);
    }
}

/// A log with every kind of record.
fn whole_log() -> Vec<Vec<u8>> {
    let mut vault = Chronicle::entitled(&[terms(1, [5, 5])]);
    vault.issue("TH-200", &csr("D0", 0));
    vault.report();
    vault.issue("TH-300", &csr("D1", 1));
    let _ = vault.request("TH-300", &csr("D1", 1));
    let _ = vault.request("TH-300", &csr("D1", 2));
    let _ = vault.entitle(&terms(9, [9, 9]));
    vault.write(Body::Start(start(2)));
    vault.records
}
