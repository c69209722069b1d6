//! A run: headquarters, three vaults, and the sticks between them, for some weeks. Everything follows from the seed.

mod ending;
mod misfortune;
mod stations;
mod sticks;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::{Arc, Mutex, OnceLock};

use mintmark_ledger::entry::DeviceAction;
use mintmark_pki::CertificationRequest;
use mintmark_protocol::identifier::StationId;

use super::fraud::{Done, FRAUDS, Fraud, Held};
use super::headquarters::{BEGINNING, Files, Headquarters, MAIN};
use super::random::Random;
use super::software::csr;
use super::vault::{Answer, Backup, Until, Vault};
use super::{SEEDS, SITES};
use crate::clock::virtual_time;

const MINUTE: u64 = 60;
const HOUR: u64 = 60 * MINUTE;
const DAY: u64 = 24 * HOUR;

/// What happens in a run before it is brought to its end.
const STEPS: u64 = 60;
/// Devices that one vault can be asked for in a run.
const DEVICES: usize = 150;
const PRODUCT: &str = "TH-200";
const OTHER_PRODUCT: &str = "GW-1";
/// The entitlement that takes the place of the first where that was revoked.
const SPARE: &str = "spare-1";

/// What happened, line by line.
#[derive(Clone, Default)]
pub(super) struct Trace(Arc<Mutex<Vec<String>>>);

impl Trace {
    fn note(&self, line: String) {
        self.0.lock().unwrap().push(line);
    }

    /// Every line.
    pub(super) fn lines(&self) -> Vec<String> {
        self.0.lock().unwrap().clone()
    }
}

/// How a run ended.
#[derive(Debug)]
pub(super) struct Ended {
    /// The fraud in it, and the findings that name its vault.
    pub(super) fraud: Option<(Fraud, BTreeSet<String>)>,
    /// How many certificates honest vaults issued.
    pub(super) issued: u64,
    /// How often what happened.
    pub(super) happened: BTreeMap<&'static str, u64>,
}

/// Where a stick goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum To {
    Headquarters,
    Vault(usize),
}

impl fmt::Display for To {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Headquarters => f.write_str("headquarters"),
            Self::Vault(at) => f.write_str(SITES[*at]),
        }
    }
}

/// A stick on its way.
struct Stick {
    number: u64,
    due: u64,
    to: To,
    files: Files,
    /// Something on it is not what was written.
    damaged: bool,
}

/// What headquarters has ordered of a vault.
#[derive(Clone, Copy)]
struct Granted {
    /// Units of the first product of the main entitlement.
    main: u64,
    /// The same of the spare one, which there is once the main one is revoked.
    spare: Option<u64>,
}

/// What somebody is up to.
struct Plan {
    fraud: Fraud,
    vault: usize,
    /// In which step, at the earliest.
    step: u64,
    done: Option<Done>,
    /// The copy of the home that is in use beside the other.
    twin: Option<Backup>,
}

/// Everything there is in a run.
pub(super) struct World {
    trace: Trace,
    random: Random,
    now: u64,
    hq: Headquarters,
    vaults: Vec<Vault>,
    sticks: Vec<Stick>,
    /// Sticks that were written before, which lie in drawers.
    drawer: Vec<(To, Files)>,
    sent: u64,
    happened: BTreeMap<&'static str, u64>,
    granted: Vec<Granted>,
    /// The newest bundle of each vault that headquarters holds.
    held: Vec<Option<Held>>,
    /// Copies of homes.
    backups: Vec<Vec<Backup>>,
    /// What each vault was asked for, by product and number.
    made: Vec<Vec<(&'static str, usize)>>,
    /// The next device of each vault.
    next: Vec<usize>,
    /// Vaults whose lost history has turned up.
    turned_up: BTreeSet<usize>,
    plan: Option<Plan>,
    issued: u64,
    /// Whether an auditor looks at it in the end.
    audited: bool,
}

/// A request of a device of a vault, with its first key or with its second. Made once: what a device signs is its own affair.
fn request(vault: usize, device: usize, key: usize) -> &'static CertificationRequest {
    static MADE: OnceLock<Vec<OnceLock<CertificationRequest>>> = OnceLock::new();
    let count = SITES.len() * DEVICES * 2;
    let made = MADE.get_or_init(|| (0..count).map(|_| OnceLock::new()).collect());
    let at = (vault * DEVICES + device) * 2 + key;
    made[at].get_or_init(|| csr(&device_id(vault, device), at as u64))
}

fn device_id(vault: usize, device: usize) -> String {
    format!("{}-{device:04}", SITES[vault])
}

/// A text without the fingerprints in it, which are of the keys of the home and not of the seed.
fn without_digests(text: &str) -> String {
    let is_digit = |c: char| c.is_ascii_hexdigit();
    let words = text.split_inclusive(|c| !is_digit(c)).map(|word| {
        let digits = word.trim_end_matches(|c| !is_digit(c));
        match digits.len() {
            0..32 => word.to_owned(),
            count => format!("..{}", &word[count..]),
        }
    });
    words.collect()
}

/// Runs a seed to its end, and panics where that is not what it should be.
pub(super) fn run(seed: u64, trace: &Trace) -> Ended {
    let mut world = World::new(seed, trace.clone());
    for step in 0..STEPS {
        world.step(step);
    }
    world.end()
}

impl World {
    fn new(seed: u64, trace: Trace) -> Self {
        let hq = Headquarters::new();
        let mut random = Random::new(seed);
        let kinds = FRAUDS.len() as u64 + 2;
        // Two runs of nine are without any fraud.
        let fraud = FRAUDS.get((seed % kinds) as usize).copied();
        let plan = fraud.map(|fraud| Plan {
            fraud,
            vault: random.below(SITES.len() as u64) as usize,
            step: random.between(10, STEPS),
            done: None,
            twin: None,
        });
        let mut world = Self {
            // One run of four of those of every test run, each fraud as often as any other.
            audited: seed % 32 < kinds || seed >= SEEDS.end,
            trace,
            random,
            now: BEGINNING,
            vaults: SITES
                .into_iter()
                .map(|site| Vault::new(site, &hq))
                .collect(),
            hq,
            sticks: Vec::new(),
            drawer: Vec::new(),
            sent: 0,
            happened: BTreeMap::new(),
            granted: vec![
                Granted {
                    main: 12,
                    spare: None
                };
                SITES.len()
            ],
            held: vec![None; SITES.len()],
            backups: SITES.iter().map(|_| Vec::new()).collect(),
            made: vec![Vec::new(); SITES.len()],
            next: vec![0; SITES.len()],
            turned_up: BTreeSet::new(),
            plan,
            issued: 0,
        };
        world.pass(MINUTE);
        world.send_from_headquarters();
        world
    }

    fn note(&self, line: impl fmt::Display) {
        let since = self.now - BEGINNING;
        let (day, hour, minute) = (since / DAY, since / HOUR % 24, since / MINUTE % 60);
        self.trace
            .note(format!("{day:2} {hour:02}:{minute:02} {line}"));
    }

    fn count(&mut self, what: &'static str) {
        *self.happened.entry(what).or_default() += 1;
    }

    fn pass(&mut self, seconds: u64) {
        self.now += seconds;
        virtual_time::set(self.now);
    }

    fn some_vault(&mut self) -> usize {
        self.random.below(SITES.len() as u64) as usize
    }

    fn is_honest(&self, vault: usize) -> bool {
        self.plan.as_ref().is_none_or(|plan| plan.vault != vault)
    }

    fn step(&mut self, step: u64) {
        let passed = self.random.between(10 * MINUTE, 14 * HOUR);
        self.pass(passed);
        self.deliver_due();
        if self.plan.as_ref().is_some_and(|plan| plan.step <= step) {
            self.defraud();
        }
        if step == STEPS / 2 {
            self.call_on_silent_vaults();
        }
        let vault = self.some_vault();
        match self.random.below(100) {
            0..45 => self.work(vault),
            45..62 => self.report(vault),
            62..73 => self.send_from_headquarters(),
            73..78 => self.order(vault),
            78..83 => self.find_stick(),
            83..86 => {
                self.note(format_args!("{} is restarted", SITES[vault]));
                self.vaults[vault].restart(self.now, true);
            }
            86..90 => self.misset_clock(vault),
            90..95 => self.back_up(vault),
            95..98 => self.lose_home(vault),
            _ => {}
        }
    }

    /// A vault of which nothing was heard is visited, before its grant expires.
    fn call_on_silent_vaults(&mut self) {
        for (vault, site) in SITES.iter().enumerate() {
            if !self.vaults[vault].state().is_enrolled() {
                self.note(format_args!("somebody visits {site}"));
                let files = self.hq.export();
                self.arrive(To::Vault(vault), &files, false);
            }
        }
    }

    /// The line runs for a while.
    fn work(&mut self, vault: usize) {
        if !self.is_honest(vault) {
            self.change_copies(vault);
        }
        for _ in 0..self.random.between(1, 3) {
            self.pass(5 * MINUTE);
            if self.random.chance(15) {
                self.change_device(vault);
                continue;
            }
            if self.random.chance(12) {
                self.change_station(vault);
                continue;
            }
            let product = match self.random.chance(70) {
                true => PRODUCT,
                false => OTHER_PRODUCT,
            };
            let again = self.random.chance(10);
            let until = match self.random.below(100) {
                0..4 => Until::Decided,
                4..8 => Until::Reserved,
                8..10 => Until::Signed,
                _ => Until::Done,
            };
            let known = self.random.pick(&self.made[vault]).copied();
            let (product, device) = match known.filter(|_| again) {
                Some(known) => known,
                None => (product, self.new_device(vault)),
            };
            let station = self.some_station();
            let answer = self.ask_at(&station, (vault, product), (device, 0), until);
            if matches!(answer, Answer::Issued | Answer::Crashed) {
                self.made[vault].push((product, device));
            }
        }
    }

    fn new_device(&mut self, vault: usize) -> usize {
        let device = self.next[vault];
        self.next[vault] += 1;
        device
    }

    fn ask(
        &mut self,
        vault: usize,
        product: &'static str,
        device: (usize, usize),
        until: Until,
    ) -> Answer {
        self.ask_at(&StationId::console(), (vault, product), device, until)
    }

    fn ask_at(
        &mut self,
        station: &StationId,
        (vault, product): (usize, &'static str),
        (device, key): (usize, usize),
        until: Until,
    ) -> Answer {
        let request = request(vault, device, key);
        let answer = self.vaults[vault].request_at(station, self.now, product, request, until);
        let site = SITES[vault];
        self.note(format_args!(
            "{site} is asked at {station} for {product} {device} (key {key}): {answer:?}"
        ));
        match answer {
            Answer::Issued if self.is_honest(vault) => self.issued += 1,
            Answer::Crashed => self.count("power cuts"),
            Answer::Refused(ref code) if code.starts_with("CREDIT-") => {
                self.count("requests beyond the credit");
            }
            Answer::Refused(ref code) if code.starts_with("STATION-") => {
                self.count("requests that a station may not make");
            }
            Answer::Refused(ref code) if code.starts_with("CLOCK-") => {
                self.count("requests at a wrong clock");
            }
            _ => {}
        }
        answer
    }

    /// Somebody drops a device.
    fn change_device(&mut self, vault: usize) {
        let Some((product, device)) = self.random.pick(&self.made[vault]).copied() else {
            return;
        };
        let action = match self.random.below(3) {
            0 => DeviceAction::Scrap,
            1 => DeviceAction::Void,
            _ => DeviceAction::Rework,
        };
        let id = device_id(vault, device);
        let answer = self.vaults[vault].order(self.now, action, product, &id);
        let site = SITES[vault];
        self.note(format_args!(
            "{site} {action:?} {product} {device}: {answer:?}"
        ));
        if answer == Answer::Issued {
            self.count("devices scrapped, voided or reworked");
        }
        if action == DeviceAction::Rework && answer == Answer::Issued {
            let key = usize::from(self.random.chance(70));
            self.ask(vault, product, (device, key), Until::Done);
        }
    }

    /// Officers order something.
    fn order(&mut self, vault: usize) {
        let site = SITES[vault];
        let Granted { main, spare } = self.granted[vault];
        match (self.random.below(10), spare) {
            (0..4, _) => self.grant_more(vault),
            (4..6, None) => {
                let units = self.random.between(7, 12);
                self.note(format_args!(
                    "officers let {site} leave {units} units unreported"
                ));
                self.hq.credit(site, MAIN, units);
                self.count("credits extended");
            }
            (6, None) if main > 12 => {
                self.note(format_args!(
                    "officers revoke {MAIN} of {site} and grant {SPARE}"
                ));
                self.hq.revoke(site, MAIN);
                self.hq.grant(site, SPARE, 12);
                self.count("entitlements revoked");
                self.granted[vault].spare = Some(12);
            }
            (7, _) => {
                self.note("officers publish the next trust manifest");
                self.hq.publish_trust();
                self.count("manifests published");
            }
            _ => {}
        }
    }

    fn grant_more(&mut self, vault: usize) {
        let site = SITES[vault];
        let more = self.random.between(4, 8);
        let granted = &mut self.granted[vault];
        let (id, units) = match &mut granted.spare {
            Some(units) => (SPARE, units),
            None => (MAIN, &mut granted.main),
        };
        *units += more;
        let units = *units;
        self.note(format_args!(
            "officers amend {id} of {site} to {units} units"
        ));
        self.hq.amend(site, id, units);
        self.count("entitlements amended");
    }
}
