//! A run: headquarters, three vaults, and the sticks between them, for some weeks. Everything follows from the seed.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::{Arc, Mutex, OnceLock};

use mintmark_ledger::entry::DeviceAction;
use mintmark_pki::CertificationRequest;
use mintmark_protocol::media::MediaName;
use serde_json::Value;

use super::SITES;
use super::fraud::{Done, FRAUDS, Fraud, Held};
use super::headquarters::{BEGINNING, Files, Headquarters, Item, MAIN};
use super::random::Random;
use super::software::csr;
use super::vault::{Answer, Backup, Until, Vault};
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
        // Two runs of eight are without any fraud.
        let fraud = FRAUDS.get((seed % kinds) as usize).copied();
        let plan = fraud.map(|fraud| Plan {
            fraud,
            vault: random.below(SITES.len() as u64) as usize,
            step: random.between(10, STEPS),
            done: None,
            twin: None,
        });
        let mut world = Self {
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
            let answer = self.ask(vault, product, (device, 0), until);
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
        (device, key): (usize, usize),
        until: Until,
    ) -> Answer {
        let request = request(vault, device, key);
        let answer = self.vaults[vault].request(self.now, product, request, until);
        let site = SITES[vault];
        self.note(format_args!(
            "{site} is asked for {product} {device} (key {key}): {answer:?}"
        ));
        match answer {
            Answer::Issued if self.is_honest(vault) => self.issued += 1,
            Answer::Crashed => self.count("power cuts"),
            Answer::Refused(ref code) if code.starts_with("CREDIT-") => {
                self.count("requests beyond the credit");
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

    /// A vault writes a stick for headquarters.
    fn report(&mut self, vault: usize) {
        let files = self.vaults[vault].export(self.now);
        self.launch(To::Headquarters, files, SITES[vault]);
    }

    /// Headquarters writes a stick for each vault.
    fn send_from_headquarters(&mut self) {
        let files = self.hq.export();
        for (vault, site) in SITES.iter().enumerate() {
            if self.random.chance(75) {
                let ours = format!("to-{site}_v1/");
                let ours = |path: &String| path.starts_with(&ours) || path.starts_with("trust-");
                let files = files.iter().filter(|(path, _)| ours(path));
                let files = files.map(|(path, bytes)| (path.clone(), bytes.clone()));
                self.launch(To::Vault(vault), files.collect(), "headquarters");
            }
        }
    }

    /// A stick goes out: it may be lost, go twice, be late, hold old files beside the new ones, or be damaged.
    fn launch(&mut self, to: To, mut files: Files, from: &str) {
        if files.is_empty() {
            return;
        }
        self.sent += 1;
        self.count("sticks sent");
        let number = self.sent;
        self.drawer.push((to, files.clone()));
        if self.random.chance(15) {
            self.count("sticks lost");
            self.note(format_args!("stick {number} from {from} to {to} is lost"));
            return;
        }
        if self.random.chance(15)
            && let Some(old) = self.old_stick(Some(to))
        {
            // What is on it already is replaced by what is written now.
            let fresh = std::mem::replace(&mut files, self.drawer[old].1.clone());
            files.extend(fresh);
        }
        let damaged = self.random.chance(8);
        if damaged {
            self.count("sticks damaged");
            self.damage(&mut files);
        }
        let times = if self.random.chance(12) { 2 } else { 1 };
        if times == 2 {
            self.count("sticks doubled");
        }
        for _ in 0..times {
            let takes = match self.random.below(10) {
                0..5 => self.random.between(MINUTE, 6 * HOUR),
                5..9 => self.random.between(6 * HOUR, 3 * DAY),
                _ => self.random.between(3 * DAY, 9 * DAY),
            };
            let due = self.now + takes;
            self.note(format_args!(
                "stick {number} from {from} to {to} with {} files, damaged: {damaged}, takes {} hours",
                files.len(),
                takes / HOUR
            ));
            self.sticks.push(Stick {
                number,
                due,
                to,
                files: files.clone(),
                damaged,
            });
        }
    }

    /// A file is cut short, or gone, or a bit of it is turned.
    fn damage(&mut self, files: &mut Files) {
        let paths: Vec<String> = files.keys().cloned().collect();
        let Some(path) = self.random.pick(&paths) else {
            return;
        };
        let how = self.random.below(3);
        // What is encrypted has no length that the seed tells: a place in it is told as a part of it, and only at its ends is it
        // sure what stands there.
        let part = self.random.below(1000) as usize;
        let Some(bytes) = files.get_mut(path) else {
            return;
        };
        let last = bytes.len() - 1;
        match how {
            0 => bytes.truncate(bytes.len() * part / 1000),
            1 => bytes[if part < 500 { 0 } else { last }] ^= 1,
            _ => drop(files.remove(path)),
        }
    }

    /// A stick that was written before.
    fn old_stick(&mut self, to: Option<To>) -> Option<usize> {
        let of = |(_, (other, _)): &(usize, &(To, Files))| to.is_none_or(|to| to == *other);
        let old = self.drawer.iter().enumerate().filter(of);
        let old: Vec<usize> = old.map(|(at, _)| at).collect();
        self.random.pick(&old).copied()
    }

    /// Somebody finds an old stick and plugs it in.
    fn find_stick(&mut self) {
        if let Some(old) = self.old_stick(None) {
            let (to, files) = self.drawer[old].clone();
            self.count("old sticks found");
            self.note(format_args!("stick {} to {to} is found again", old + 1));
            self.arrive(to, &files, false);
        }
    }

    fn deliver_due(&mut self) {
        let now = self.now;
        let (mut due, later): (Vec<Stick>, Vec<Stick>) = std::mem::take(&mut self.sticks)
            .into_iter()
            .partition(|stick| stick.due <= now);
        self.sticks = later;
        due.sort_by_key(|stick| (stick.due, stick.number));
        for stick in due {
            self.note(format_args!(
                "stick {} arrives at {}",
                stick.number, stick.to
            ));
            self.arrive(stick.to, &stick.files, stick.damaged);
        }
    }

    fn arrive(&mut self, to: To, files: &Files, damaged: bool) {
        match to {
            To::Vault(vault) => {
                for said in self.vaults[vault].import(self.now, files) {
                    let site = SITES[vault];
                    self.note(format_args!("  {site}: {said}"));
                    assert!(
                        damaged || !self.is_honest(vault) || !said.contains("refused"),
                        "{site}: {said}"
                    );
                }
            }
            To::Headquarters => {
                let (exit, items) = self.hq.import(files);
                for item in &items {
                    self.judge(item, files, damaged);
                }
                assert!(exit != 5 && exit != 2, "headquarters: exit {exit}");
            }
        }
    }

    /// What headquarters made of a file.
    fn judge(&mut self, item: &Item, files: &Files, damaged: bool) {
        let Item {
            file,
            outcome,
            code,
        } = item;
        let name = MediaName::parse(file).unwrap();
        let (vault, what) = match &name {
            MediaName::Bundle {
                vault,
                sequence,
                lineage,
            } => {
                let short = lineage.to_string();
                (vault, format!("bundle {sequence} of {}", &short[..4]))
            }
            MediaName::Restore { vault } => (vault, "restore".to_owned()),
            MediaName::Enrolment { vault } => (vault, "enrolment".to_owned()),
            other => panic!("headquarters took in {other}"),
        };
        let at = SITES.iter().position(|site| *site == vault.site.as_str());
        let at = at.unwrap();
        let code = code.as_deref().unwrap_or_default();
        self.note(format_args!(
            "  headquarters: {what} of {} {outcome} {code}",
            SITES[at]
        ));
        let bundle = match &name {
            MediaName::Bundle { .. } => self.vaults[at].sealed(&files[file]),
            _ => None,
        };
        if let Some(bundle) = &bundle
            && outcome == "imported"
        {
            let content = bundle.content();
            self.held[at] = Some(Held {
                sequence: content.sequence,
                fingerprint: bundle.fingerprint(),
                log_size: content.checkpoint.size,
            });
        }
        if !self.is_honest(at) {
            return;
        }
        if code == "BUNDLE-FORK"
            && bundle.is_some_and(|bundle| self.vaults[at].lost.contains(&bundle.fingerprint()))
        {
            self.count("lost histories turned up");
            self.turned_up.insert(at);
            return;
        }
        let fits = match outcome.as_str() {
            "imported" => code.is_empty() || code == "FINDINGS",
            "already" => true,
            "held" => damaged || code == "BUNDLE-GAP",
            _ => damaged || matches!(code, "LINEAGE-OVER" | "RESTORE-OVER"),
        };
        assert!(
            fits,
            "headquarters: {what} of {} {outcome} {code}",
            SITES[at]
        );
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

    /// A clock is set wrong, or right again; or a person says that it is right as it is.
    fn misset_clock(&mut self, vault: usize) {
        let site = SITES[vault];
        match self.random.below(3) {
            0 => {
                let hours = self.random.between(1, 20) as i64;
                let ahead = hours * HOUR as i64;
                let ahead = if self.random.chance(50) {
                    ahead
                } else {
                    -ahead
                };
                self.vaults[vault].clock.ahead = ahead;
                self.note(format_args!("the clock of {site} is {ahead} seconds ahead"));
            }
            1 => {
                self.vaults[vault].clock.ahead = 0;
                self.note(format_args!("the clock of {site} is set right"));
            }
            _ => {
                let answer = self.vaults[vault].confirm_clock(self.now);
                self.note(format_args!("{site} confirms its clock: {answer:?}"));
            }
        }
    }

    fn back_up(&mut self, vault: usize) {
        if self.vaults[vault].is_waiting() || !self.vaults[vault].state().is_enrolled() {
            return;
        }
        let backup = self.vaults[vault].backup();
        self.note(format_args!(
            "the home of {} is copied: {} records",
            SITES[vault], backup.size
        ));
        self.backups[vault].push(backup);
    }

    /// The disk of an honest vault breaks, and a copy of its home is put back.
    fn lose_home(&mut self, vault: usize) {
        if !self.is_honest(vault) || self.vaults[vault].restores >= 2 {
            return;
        }
        let backups = &self.backups[vault];
        if backups.is_empty() {
            return;
        }
        let at = self.random.below(backups.len() as u64) as usize;
        let backup = &backups[at];
        if backup.size == self.vaults[vault].state().size() {
            return;
        }
        self.note(format_args!(
            "{} declares a restore from {} records to {}",
            SITES[vault],
            self.vaults[vault].state().size(),
            backup.size
        ));
        self.count("restores declared");
        self.vaults[vault].restore(self.now, &self.backups[vault][at], &mut self.random);
    }

    /// Somebody does what they are up to, if there is what it takes.
    fn defraud(&mut self) {
        let Some(mut plan) = self.plan.take() else {
            return;
        };
        if plan.done.is_none() {
            let at = plan.vault;
            let mut next = self.next[at];
            let mut fresh = || {
                next += 1;
                request(at, next - 1, 0).clone()
            };
            let vault = &mut self.vaults[at];
            let held = self.held[at];
            let backup = match self.backups[at].len() as u64 {
                0 => None,
                count => self.backups[at].get(self.random.below(count) as usize),
            };
            let twin = (plan.fraud == Fraud::RestoreBackup && self.random.chance(50))
                .then(|| vault.backup());
            let (now, random) = (self.now, &mut self.random);
            plan.done = plan
                .fraud
                .commit(vault, now, random, (held, backup), &mut fresh);
            self.next[at] = next;
            if let Some(done) = &plan.done {
                vault.honest = false;
                plan.twin = twin;
                let beside = if plan.twin.is_some() {
                    ", beside the other"
                } else {
                    ""
                };
                let site = SITES[at];
                self.note(format_args!(
                    "FRAUD {:?}: {site} {}{beside}",
                    plan.fraud, done.what
                ));
            }
        }
        self.plan = Some(plan);
    }

    /// Where two copies of a home are in use, the other one goes on.
    fn change_copies(&mut self, vault: usize) {
        let Some(twin) = self.plan.as_mut().and_then(|plan| plan.twin.take()) else {
            return;
        };
        let other = self.vaults[vault].backup();
        self.vaults[vault].put_back(&twin);
        self.note(format_args!("the other copy of {} goes on", SITES[vault]));
        if let Some(plan) = &mut self.plan {
            plan.twin = Some(other);
        }
    }

    /// Everything is carried both ways, on one stick, and nothing happens to it.
    fn good_round(&mut self) {
        self.pass(HOUR);
        self.good_reports();
        self.pass(HOUR);
        let files = self.hq.export();
        for vault in 0..SITES.len() {
            self.arrive(To::Vault(vault), &files, false);
        }
    }

    fn good_reports(&mut self) {
        let mut files = Files::new();
        for vault in &mut self.vaults {
            files.extend(vault.export(self.now));
        }
        if !files.is_empty() {
            self.note("every vault reports");
            self.arrive(To::Headquarters, &files, false);
        }
    }

    /// Brings the run to its end: what is still on its way arrives or does not, everything is put right that people can put
    /// right, and then everybody has to be able to work again, and everything has to fit.
    fn end(mut self) -> Ended {
        self.note("the end begins");
        self.commit_late();
        if self.random.chance(50) {
            self.pass(9 * DAY);
            self.deliver_due();
        }
        for vault in 0..SITES.len() {
            self.vaults[vault].clock.ahead = 0;
            self.grant_if_short(vault);
        }
        // Who waits for the answer to a restore has it after one round, and has reported after another.
        let waiting: Vec<bool> = self.vaults.iter().map(Vault::is_waiting).collect();
        self.good_round();
        if waiting.contains(&true) {
            self.good_round();
        }
        for vault in 0..SITES.len() {
            self.expect_issues(vault);
        }
        // What was still on its way comes after all, and changes nothing.
        self.pass(9 * DAY);
        self.deliver_due();
        for _ in 0..2 {
            self.pass(2 * DAY);
            for vault in 0..SITES.len() {
                if !self.is_honest(vault) {
                    self.work(vault);
                }
            }
            self.good_round();
        }
        self.good_reports();
        self.close()
    }

    /// Officers grant more to a vault that has hardly any units left, with those that a restore may burn.
    fn grant_if_short(&mut self, vault: usize) {
        let id = match self.granted[vault].spare {
            Some(_) => SPARE,
            None => MAIN,
        };
        let left = self.vaults[vault].units_left(id, PRODUCT);
        if left.is_some_and(|left| left < 4) {
            self.grant_more(vault);
        }
    }

    /// A vault that nothing was wrong with issues again.
    fn expect_issues(&mut self, vault: usize) {
        self.pass(MINUTE);
        let device = self.new_device(vault);
        let mut answer = self.ask(vault, PRODUCT, (device, 0), Until::Done);
        if matches!(&answer, Answer::Refused(code) if code.starts_with("CLOCK-")) {
            let said = self.vaults[vault].confirm_clock(self.now);
            self.note(format_args!(
                "{} confirms its clock: {said:?}",
                SITES[vault]
            ));
            answer = self.ask(vault, PRODUCT, (device, 0), Until::Done);
        }
        assert!(
            !self.is_honest(vault) || answer == Answer::Issued,
            "{} cannot issue: {answer:?}",
            SITES[vault]
        );
    }

    /// Who has not done yet what they are up to does it now.
    fn commit_late(&mut self) {
        for _ in 0..20 {
            self.defraud();
            let Some(Plan {
                vault, done: None, ..
            }) = self.plan
            else {
                return;
            };
            self.vaults[vault].clock.ahead = 0;
            let _ = self.vaults[vault].confirm_clock(self.now);
            self.back_up(vault);
            self.grant_if_short(vault);
            self.good_round();
            self.pass(HOUR);
            self.work(vault);
            self.good_round();
            self.work(vault);
        }
        panic!("there was nothing to commit the fraud on");
    }

    /// Headquarters reconciles.
    fn close(self) -> Ended {
        let said = self.hq.reconcile();
        let findings = said.json["findings"].as_array().unwrap();
        for finding in findings {
            let text = |name: &str| finding[name].as_str().unwrap_or_default().to_owned();
            let (code, severity, site) = (text("code"), text("severity"), text("site"));
            self.note(format_args!(
                "finding {code} ({severity}) of {site}: {}",
                without_digests(&text("text"))
            ));
        }
        let mut named = None;
        for (vault, site) in SITES.into_iter().enumerate() {
            let of = |finding: &&Value| finding["site"] == site;
            let codes = findings.iter().filter(of).map(|finding| &finding["code"]);
            let codes: BTreeSet<String> = codes
                .map(|code| code.as_str().unwrap().to_owned())
                .collect();
            match &self.plan {
                Some(plan) if plan.vault == vault => {
                    let done = plan.done.as_ref().unwrap();
                    assert!(
                        done.named.iter().any(|name| codes.contains(*name)),
                        "{:?} at {site}: none of {:?} was found, but {codes:?}",
                        plan.fraud,
                        done.named
                    );
                    assert_eq!(said.exit, 1);
                    named = Some((plan.fraud, codes));
                }
                _ => self.expect_balance(vault, &codes, &said.json),
            }
        }
        if self.plan.is_none() {
            assert_eq!(said.json["balanced"], true);
            assert_eq!(
                said.exit != 0,
                findings.iter().any(|it| it["severity"] != "note")
            );
        }
        Ended {
            fraud: named,
            issued: self.issued,
            happened: self.happened,
        }
    }

    /// Of an honest vault, nothing is found but what its own log says of it too; and the accounts are the same on both sides.
    fn expect_balance(&self, at: usize, codes: &BTreeSet<String>, report: &Value) {
        let (vault, site) = (&self.vaults[at], SITES[at]);
        let state = vault.state();
        let mut expected = BTreeSet::new();
        if state.accounts().any(|account| account.unresolved > 0) {
            expected.insert("UNRESOLVED".to_owned());
        }
        if vault.restores > 0 {
            expected.insert("RESTORE-DECLARED".to_owned());
        }
        if self.turned_up.contains(&at) {
            expected.insert("FORK".to_owned());
        }
        assert_eq!(*codes, expected, "findings of {site}");
        let mut rows: BTreeMap<(&str, &str), Vec<u64>> = BTreeMap::new();
        for row in report["accounts"].as_array().unwrap() {
            if row["site"] == site {
                let counts = [
                    "authorised",
                    "good",
                    "scrapped",
                    "voided",
                    "unresolved",
                    "unspent",
                ];
                let counts = counts.map(|name| row[name].as_u64().unwrap()).to_vec();
                let (entitlement, product) = (&row["entitlement"], &row["product"]);
                let key = (entitlement.as_str().unwrap(), product.as_str().unwrap());
                rows.insert(key, counts);
            }
        }
        let counted = state.accounts().map(|account| {
            let counts = [
                account.authorised,
                account.good,
                account.scrapped,
                account.voided,
                account.unresolved,
                account.unspent(),
            ];
            let key = (account.entitlement.as_str(), account.sku.as_str());
            assert_eq!(
                account.spent() + account.unspent(),
                account.authorised,
                "{site}"
            );
            (key, counts.to_vec())
        });
        let counted: BTreeMap<_, _> = counted.collect();
        assert_eq!(rows, counted, "accounts of {site}");
    }
}
