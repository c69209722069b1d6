//! The state machine against a naive model of what it should do, over random histories.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;

use mintmark_protocol::identifier::Fingerprint;
use mintmark_protocol::revocation::Target;

use super::fixture::*;
use super::withdrawals::order;
use crate::entry::{Body, CrlIssued, DeviceAction, KeyOutcome, LogSequence, Rotation, Verdict};
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
    /// What is reserved and may be completed is signed.
    Complete,
    /// Time passes.
    Wait { seconds: u64 },
    /// The clock was ahead, and is corrected.
    SetBack { seconds: u64 },
    /// An amendment of one product's units.
    Amend { product: usize, units: u64 },
    /// A bundle goes out and is acknowledged.
    Report,
    /// The process starts again.
    Restart,
    /// The key comes into the token.
    Receive,
    /// The second device CA is asked for and granted.
    Rotate,
    /// A device CA is revoked, by generation; the second only if there is one.
    RevokeDeviceCa { generation: u16 },
    /// The vault is disabled.
    Disable,
    /// The entitlement is revoked.
    Revoke,
    /// A device is scrapped, voided, or allowed another certificate.
    Order {
        action: DeviceAction,
        product: usize,
        device: u8,
    },
    /// A device CA signs a CRL, by generation.
    Crl { generation: u16 },
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        40 => (0..2_usize, 0..12_u8, 0..12_u8, any::<bool>())
            .prop_map(|(product, device, key, sign)| Step::Request { product, device, key, sign }),
        // A device that keeps its own key, as most do.
        60 => (0..2_usize, 0..8_u8, any::<bool>()).prop_map(|(product, device, sign)| {
            Step::Request { product, device, key: device + 100, sign }
        }),
        3 => Just(Step::Complete),
        15 => (0..4000_u64).prop_map(|seconds| Step::Wait { seconds }),
        5 => (0..9000_u64).prop_map(|seconds| Step::SetBack { seconds }),
        10 => (0..2_usize, 0..8_u64).prop_map(|(product, units)| Step::Amend { product, units }),
        10 => Just(Step::Report),
        5 => Just(Step::Restart),
        5 => Just(Step::Receive),
        12 => Just(Step::Rotate),
        // The second seldom: nothing is certified after that.
        8 => (0..8_u16).prop_map(|n| Step::RevokeDeviceCa { generation: 1 + n / 7 }),
        2 => Just(Step::Disable),
        1 => Just(Step::Revoke),
        24 => (0..DeviceAction::ALL.len(), 0..2_usize, 0..8_u8).prop_map(|(action, product, device)| {
            Step::Order { action: DeviceAction::ALL[action], product, device }
        }),
        // A device that is allowed another certificate comes with another key.
        16 => (0..2_usize, 0..8_u8, 0..4_u8, any::<bool>()).prop_map(|(product, device, key, sign)| {
            Step::Request { product, device, key: device * 4 + key + 150, sign }
        }),
        4 => (1..3_u16).prop_map(|generation| Step::Crl { generation }),
    ]
}

const PRODUCTS: [&str; 2] = ["TH-200", "TH-300"];
const UNITS_PER_HOUR: u64 = 3;
const CREDIT: u64 = 6;
const KEY_USES: u64 = 4;
/// Of the first product; the second has none.
const REWORKS: u64 = 2;

/// A spent unit.
struct Unit {
    product: usize,
    time: u64,
    reported: bool,
    signed: bool,
    ended: Option<DeviceAction>,
}

/// The newest certificate of a device, or what is reserved for one.
struct Issue {
    key: u8,
    unit: usize,
    number: u16,
    /// The generation of the device CA.
    device_ca: u16,
    signed: bool,
    /// Reworks that were allowed, and whether the last of them is open.
    reworks: u64,
    rework_open: bool,
}

/// The model: plain lists, and every rule written out once more.
#[derive(Default)]
struct Model {
    units: [u64; 2],
    version: u64,
    spent: Vec<Unit>,
    /// By (product, device).
    devices: BTreeMap<(usize, u8), Issue>,
    keys: BTreeSet<u8>,
    /// What stands on CRLs: generation of the device CA, unit, issue number.
    withdrawn: BTreeSet<(u16, usize, u16)>,
    /// How many CRLs each device CA signed, and how much stood on the newest.
    crls: BTreeMap<u16, (u64, usize)>,
    /// The hour into which time was set back after a later one was used, by product.
    full_hour: [Option<u64>; 2],
    received: bool,
    uses: u64,
    device_cas: u16,
    revoked_device_cas: BTreeSet<u16>,
    disabled: bool,
    revoked: bool,
}

impl Model {
    fn new() -> Self {
        Self {
            units: [5, 5],
            version: 1,
            device_cas: 1,
            ..Self::default()
        }
    }

    /// Why nothing new is certified.
    fn stopped(&self) -> Option<&'static str> {
        if self.disabled {
            Some("VAULT-DISABLED")
        } else if self.revoked_device_cas.contains(&self.device_cas) {
            Some("DEVICE-CA-REVOKED")
        } else {
            None
        }
    }

    fn answer(&self, now: u64, product: usize, device: u8, key: u8) -> &'static str {
        let revoked = self.revoked.then_some("ENTITLEMENT-REVOKED");
        match self.devices.get(&(product, device)) {
            Some(known) if self.ended(known).is_some() => return self.ended(known).unwrap(),
            Some(known) if known.rework_open => {
                if known.key != key && self.keys.contains(&key) {
                    return "KEY-REUSED";
                }
                if let Some(code) = self.stopped().or(revoked) {
                    return code;
                }
                return self.key_in_the_way(product).unwrap_or("reissued");
            }
            Some(known) if known.key != key => return "DEVICE-KEY-CHANGED",
            Some(known) if self.revoked_device_cas.contains(&known.device_ca) => {
                return self.stopped().or(revoked).unwrap_or("reissued");
            }
            Some(known) if !known.signed => {
                let disabled = self.disabled.then_some("VAULT-DISABLED");
                return revoked.or(disabled).unwrap_or("existing");
            }
            Some(_) => return "existing",
            None => {}
        }
        if self.keys.contains(&key) {
            return "KEY-REUSED";
        }
        if let Some(code) = self.stopped().or(revoked) {
            return code;
        }
        if let Some(code) = self.key_in_the_way(product) {
            return code;
        }
        let count =
            |of: &dyn Fn(&Unit) -> bool| self.spent.iter().filter(|unit| of(unit)).count() as u64;
        if count(&|unit| unit.product == product) >= self.units[product] {
            return "QUOTA-EXHAUSTED";
        }
        let this_hour = |unit: &Unit| unit.product == product && unit.time / HOUR == now / HOUR;
        if count(&this_hour) >= UNITS_PER_HOUR || self.full_hour[product] == Some(now / HOUR) {
            return "RATE-HOUR";
        }
        if count(&|unit| !unit.reported) >= CREDIT {
            return "CREDIT-UNITS-EXHAUSTED";
        }
        "issued"
    }

    fn key_in_the_way(&self, product: usize) -> Option<&'static str> {
        // Only the first product has a key.
        if product == 0 && !self.received {
            Some("KEY-NOT-RECEIVED")
        } else if product == 0 && self.uses >= KEY_USES {
            Some("KEY-USES-EXHAUSTED")
        } else {
            None
        }
    }

    fn ended(&self, issue: &Issue) -> Option<&'static str> {
        match self.spent[issue.unit].ended? {
            DeviceAction::Scrap => Some("DEVICE-SCRAPPED"),
            _ => Some("DEVICE-VOIDED"),
        }
    }

    /// What is decided on a device order; what it does is done.
    fn order(&mut self, action: DeviceAction, at: (usize, u8)) -> &'static str {
        let Some(known) = self.devices.get(&at) else {
            return "DEVICE-UNKNOWN";
        };
        if let Some(code) = self.ended(known) {
            return code;
        }
        let unit = known.unit;
        if action != DeviceAction::Void && !self.spent[unit].signed {
            return "DEVICE-UNRESOLVED";
        }
        if action == DeviceAction::Rework {
            let revoked = self.revoked.then_some("ENTITLEMENT-REVOKED");
            let allowed = if at.0 == 0 { REWORKS } else { 0 };
            let open = known.rework_open.then_some("REWORK-OPEN");
            if let Some(code) = self.stopped().or(open).or(revoked) {
                return code;
            }
            if known.reworks >= allowed {
                return "REWORK-EXHAUSTED";
            }
            let known = self.devices.get_mut(&at).unwrap();
            known.rework_open = true;
            known.reworks += 1;
            return "device-changed";
        }
        self.withdrawn.insert((known.device_ca, unit, known.number));
        self.devices.get_mut(&at).unwrap().rework_open = false;
        self.spent[unit].ended = Some(action);
        "device-changed"
    }

    /// Time goes on at `now`, which may be earlier.
    fn set_back(&mut self, now: u64) {
        for (product, full) in self.full_hour.iter_mut().enumerate() {
            let later = |unit: &Unit| unit.product == product && unit.time / HOUR > now / HOUR;
            let newest = self.spent.iter().any(later) || full.is_some_and(|hour| hour > now / HOUR);
            if newest {
                *full = Some(now / HOUR);
            }
        }
        for unit in &mut self.spent {
            unit.time = unit.time.min(now);
        }
    }

    /// A reservation was made, for `device` of `product`.
    fn reserve(&mut self, now: u64, at: (usize, u8), key: u8, signed: bool) {
        let before = self.devices.get(&at);
        let reworked = before.is_some_and(|before| before.rework_open);
        let reworks = before.map_or(0, |before| before.reworks);
        if let Some(before) = before.filter(|_| reworked) {
            let superseded = (before.device_ca, before.unit, before.number);
            self.withdrawn.insert(superseded);
        }
        let (unit, number) = before.map_or((self.spent.len(), 0), |b| (b.unit, b.number + 1));
        if number == 0 {
            self.spent.push(Unit {
                product: at.0,
                time: now,
                reported: false,
                signed: false,
                ended: None,
            });
        }
        self.keys.insert(key);
        if number == 0 || reworked {
            self.uses += u64::from(at.0 == 0);
        }
        let device_ca = self.device_cas;
        let issue = Issue {
            key,
            unit,
            number,
            device_ca,
            signed,
            reworks,
            rework_open: false,
        };
        self.spent[unit].signed |= signed;
        self.devices.insert(at, issue);
    }

    /// Everything that may be completed is.
    fn complete(&mut self) {
        for issue in self.devices.values_mut() {
            let dead = self.revoked_device_cas.contains(&issue.device_ca);
            let ended = self.spent[issue.unit].ended.is_some();
            if !self.revoked && !self.disabled && !dead && !ended {
                issue.signed = true;
                self.spent[issue.unit].signed = true;
            }
        }
    }
}

fn terms(version: u64, units: [u64; 2]) -> mintmark_protocol::entitlement::Entitlement {
    let mut products = Vec::new();
    for (at, name) in PRODUCTS.into_iter().enumerate() {
        let mut product = product(at as u64 + 1, name, units[at]);
        product.units_per_hour = Some(UNITS_PER_HOUR);
        product.reissues_per_device = if at == 0 { REWORKS as u32 } else { 0 };
        products.push(product);
    }
    let mut entitlement = entitlement("both", products);
    entitlement.version = version;
    entitlement.credit.unreported_units_max = CREDIT;
    entitlement.credit.unreported_days_max = 1000;
    let mut key = device_key("service", Some(KEY_USES));
    key.products = Some(vec![sku(PRODUCTS[0])]);
    entitlement.keys = vec![key];
    entitlement
}

fn device_ca(generation: u16) -> Target {
    let authorities = authorities();
    let issuer = match generation {
        1 => &authorities.device_ca,
        _ => &authorities.next_device_ca,
    };
    Target::DeviceCa(Fingerprint::of(issuer.certificate_der()))
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 96, ..ProptestConfig::default() })]

    #[test]
    fn the_state_machine_decides_as_the_model_does_and_replays_without_a_finding(
        steps in prop::collection::vec(step(), 1..120),
    ) {
        let mut model = Model::new();
        let mut vault = Chronicle::entitled(&[terms(1, [5, 5])]);
        for step in steps {
            match step {
                Step::Wait { seconds } => vault.now += seconds,
                Step::SetBack { seconds } => {
                    vault.now = NEW_YEAR.max(vault.now - seconds);
                    let number = vault.state.clock_corrections() + 1;
                    let correction = clock_correction(number, vault.now);
                    let content = Verdict::Authentic(clock_content(&correction));
                    prop_assert_eq!(vault.import(content), Ok(()));
                    prop_assert_eq!(vault.state.mark(), vault.now);
                    model.set_back(vault.now);
                }
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
                    prop_assert_eq!(result.is_ok(), units >= spent && !model.revoked);
                    if result.is_ok() {
                        model.units = amended;
                        model.version = version;
                    }
                }
                Step::Receive => {
                    vault.write(key_receipt("both", "service", KeyOutcome::Unwrapped));
                    model.received = true;
                }
                Step::Rotate => {
                    if model.device_cas == 1 {
                        vault.rotate();
                        model.device_cas = 2;
                        model.disabled = false;
                    }
                }
                Step::RevokeDeviceCa { generation } => {
                    let known = generation <= model.device_cas;
                    prop_assert_eq!(vault.revoke(device_ca(generation)).is_ok(), known);
                    if known {
                        model.revoked_device_cas.insert(generation);
                    }
                }
                Step::Disable => {
                    prop_assert_eq!(vault.revoke(Target::Vault), Ok(()));
                    model.disabled = true;
                }
                Step::Revoke => {
                    let target = Target::Entitlement("both".parse().unwrap());
                    prop_assert_eq!(vault.revoke(target), Ok(()));
                    model.revoked = true;
                }
                Step::Order { action, product, device } => {
                    let expected = model.order(action, (product, device));
                    let result = order(&mut vault, action, PRODUCTS[product], &format!("D{device}"));
                    let told = result.err().unwrap_or("device-changed".to_owned());
                    prop_assert_eq!(told, expected);
                }
                Step::Crl { generation } => {
                    if generation <= model.device_cas {
                        let on_it = model.withdrawn.iter().filter(|(ca, ..)| *ca == generation).count();
                        prop_assert_eq!(vault.state.crl_entries(generation).count(), on_it);
                        let said = model.crls.entry(generation).or_default();
                        prop_assert_eq!(vault.state.crl_is_behind(generation), on_it > said.1);
                        *said = (said.0 + 1, on_it);
                        let crl = CrlIssued {
                            generation,
                            number: said.0,
                            sha256: Fingerprint::of(b"a CRL"),
                            this_update: vault.state.mark(),
                            next_update: vault.state.crl_next_update(vault.now),
                        };
                        vault.write(Body::Crl(crl));
                        prop_assert!(!vault.state.crl_is_behind(generation));
                    }
                }
                Step::Complete => {
                    let open: Vec<_> = vault.state.reservations().iter()
                        .filter(|(at, _)| vault.state.withheld(**at).is_none())
                        .map(|(at, open)| (*at, open.tbs.clone()))
                        .collect();
                    for (at, tbs) in open {
                        vault.sign(at, &tbs);
                    }
                    model.complete();
                }
                Step::Request { product, device, key, sign: signs } => {
                    let csr = csr(&format!("D{device}"), u64::from(key));
                    let expected = model.answer(vault.now, product, device, key);
                    let decision = vault.request(PRODUCTS[product], &csr);
                    let Body::Reserved(reserved) = decision else {
                        prop_assert_eq!(decision.code().unwrap_or(decision.kind()), expected);
                        continue
                    };
                    let first = reserved.issue == 0;
                    prop_assert_eq!(if first { "issued" } else { "reissued" }, expected);
                    let reworked = model.devices.get(&(product, device)).is_some_and(|d| d.rework_open);
                    let uses = usize::from((first || reworked) && product == 0);
                    prop_assert_eq!(reserved.keys.len(), uses);
                    if first {
                        let before = model.spent.iter().filter(|unit| unit.product == product).count();
                        prop_assert_eq!(reserved.slot, before as u64);
                    }
                    model.reserve(vault.now, (product, device), key, signs);
                    prop_assert_eq!(reserved.issue, model.devices[&(product, device)].number);
                    if signs {
                        let reservation = LogSequence(vault.state.size() - 1);
                        vault.sign(reservation, &reserved.tbs);
                    }
                }
            }
            for (at, _) in PRODUCTS.into_iter().enumerate() {
                let account = vault.state.account(tag(at as u64 + 1)).unwrap();
                let units = |ended, signed| {
                    let of = |unit: &&Unit| unit.product == at && unit.ended == ended;
                    model.spent.iter().filter(of).filter(|unit| unit.signed == signed).count() as u64
                };
                let both = |ended| units(Some(ended), true) + units(Some(ended), false);
                prop_assert_eq!(account.good, units(None, true));
                prop_assert_eq!(account.unresolved, units(None, false));
                prop_assert_eq!(account.scrapped, both(DeviceAction::Scrap));
                prop_assert_eq!(account.voided, both(DeviceAction::Void));
                let ended = account.scrapped + account.voided;
                let sum = account.good + ended + account.unresolved + account.unspent();
                prop_assert_eq!(account.authorised, sum);
            }
            let unreported = model.spent.iter().filter(|unit| !unit.reported).count() as u64;
            prop_assert_eq!(vault.state.units_unreported(), unreported);
            prop_assert_eq!(vault.state.units(), model.spent.len() as u64);
            prop_assert_eq!(vault.state.keys().next().unwrap().uses, model.uses);
            prop_assert_eq!(vault.state.disabled_at().is_some(), model.disabled);
            prop_assert_eq!(vault.state.withdrawn().count(), model.withdrawn.len());
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
    vault.write(key_receipt("both", "service", KeyOutcome::Unwrapped));
    vault.issue("TH-200", &csr("D0", 0));
    vault.report();
    vault.issue("TH-300", &csr("D1", 1));
    let _ = vault.request("TH-300", &csr("D1", 1));
    let _ = vault.request("TH-300", &csr("D1", 2));
    let _ = vault.request("TH-300", &csr("D3", 3));
    let _ = vault.entitle(&terms(9, [9, 9]));
    assert_eq!(
        order(&mut vault, DeviceAction::Rework, "TH-200", "D0"),
        Ok(())
    );
    vault.issue("TH-200", &csr("D0", 10));
    assert_eq!(
        order(&mut vault, DeviceAction::Scrap, "TH-300", "D1"),
        Ok(())
    );
    assert!(order(&mut vault, DeviceAction::Void, "TH-300", "D1").is_err());
    vault.write(Body::Crl(CrlIssued {
        generation: 1,
        number: 1,
        sha256: Fingerprint::of(b"a CRL"),
        this_update: vault.now,
        next_update: vault.now + DAY,
    }));
    vault.write(Body::Start(start(2)));
    vault.write(Body::Rotation(Rotation {
        generation: 2,
        ..rotation()
    }));
    vault.rotate();
    assert_eq!(vault.revoke(device_ca(1)), Ok(()));
    vault.issue("TH-200", &csr("D0", 10));
    let _ = vault.request("TH-300", &csr("D3", 3));
    let correction = clock_content(&clock_correction(1, vault.now));
    assert_eq!(vault.import(Verdict::Authentic(correction)), Ok(()));
    let head = vault.seal();
    let head = reanchor_content(&reanchor(1, head));
    assert_eq!(vault.import(Verdict::Authentic(head)), Ok(()));
    assert_eq!(vault.revoke(Target::Vault), Ok(()));
    let both = Target::Entitlement("both".parse().unwrap());
    assert_eq!(vault.revoke(both), Ok(()));
    let _ = vault.request("TH-300", &csr("D1", 1));
    vault.records
}
