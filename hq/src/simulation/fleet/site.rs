//! One site of the fleet: its vault, what it was asked for, and its books, which are kept beside it by what people saw happen.

use std::collections::BTreeMap;

use mintmark_ledger::entry::DeviceAction;
use mintmark_pki::CertificationRequest;
use mintmark_protocol::media::MediaName;

use super::super::headquarters::{Files, MAIN};
use super::super::random::Random;
use super::super::software::csr;
use super::super::vault::{Answer, Until, Vault};
use super::frauds::Kind;
use super::{Expected, GW, HR, MINUTE, RT, TH};

/// Units by what became of them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Balance {
    pub(super) good: u64,
    pub(super) scrapped: u64,
    pub(super) voided: u64,
    pub(super) unresolved: u64,
}

/// The balances of a vault's products.
pub(super) type Books = BTreeMap<&'static str, Balance>;

/// A device that was made, and by which of its keys.
#[derive(Clone, Debug)]
pub(super) struct Made {
    pub(super) product: &'static str,
    pub(super) id: String,
    pub(super) key: u64,
}

/// Something that somebody is up to.
pub(super) struct Plan {
    pub(super) kind: &'static Kind,
    /// On which day, at the earliest.
    pub(super) day: u64,
    /// What has to be found for it, once it is done.
    pub(super) done: Option<Vec<Expected>>,
}

/// A site.
pub(super) struct Site {
    pub(super) vault: Vault,
    at: u64,
    pub(super) books: Books,
    /// The books as they were when each bundle was sealed.
    sealed: BTreeMap<u64, Books>,
    /// Those of the newest bundle that headquarters holds.
    pub(super) reported: Books,
    /// Units of the first product that officers granted.
    pub(super) granted: u64,
    pub(super) made: Vec<Made>,
    /// Of these, those that headquarters has heard of.
    pub(super) made_and_reported: Vec<Made>,
    made_when_sealed: BTreeMap<u64, Vec<Made>>,
    /// Devices that were scrapped.
    pub(super) scrapped: Vec<Made>,
    asked: u64,
    pub(super) plan: Option<Plan>,
    /// Nothing more is made here.
    pub(super) over: bool,
    /// Nothing more is reported from here.
    pub(super) silent: bool,
    /// A bundle that gets lost on its way, whenever it is sent.
    pub(super) lost: Option<u64>,
    /// Officers grant no more here.
    pub(super) no_more: bool,
    /// How often what happened.
    pub(super) happened: BTreeMap<&'static str, u64>,
}

impl Site {
    pub(super) fn new(vault: Vault, at: u64, granted: u64, plan: Option<Plan>) -> Self {
        Self {
            vault,
            at,
            books: Books::new(),
            sealed: BTreeMap::new(),
            reported: Books::new(),
            granted,
            made: Vec::new(),
            made_and_reported: Vec::new(),
            made_when_sealed: BTreeMap::new(),
            scrapped: Vec::new(),
            asked: 0,
            plan,
            over: false,
            silent: false,
            lost: None,
            no_more: false,
            happened: BTreeMap::new(),
        }
    }

    pub(super) fn count(&mut self, what: &'static str) {
        *self.happened.entry(what).or_default() += 1;
    }

    pub(super) fn balance(&mut self, product: &'static str) -> &mut Balance {
        self.books.entry(product).or_default()
    }

    /// A device that nobody has asked for, with a key that no other has.
    pub(super) fn fresh(&mut self, product: &'static str) -> (Made, CertificationRequest) {
        self.asked += 1;
        let made = Made {
            product,
            id: format!("{}-{:04}", self.vault.site, self.asked),
            key: self.at * 10_000 + self.asked,
        };
        let request = csr(&made.id, made.key);
        (made, request)
    }

    /// Somebody asks for a new device. What was made, if it was.
    pub(super) fn make(&mut self, now: u64, product: &'static str, until: Until) -> Option<Made> {
        let (made, request) = self.fresh(product);
        let answer = self.vault.request(now, product, &request, until);
        match &answer {
            Answer::Issued => {}
            // What was reserved is signed for once the vault is up again.
            Answer::Crashed if until != Until::Decided => self.count("power cuts"),
            Answer::Crashed => {
                self.count("power cuts");
                return None;
            }
            Answer::Refused(_) => {
                self.count("refusals");
                return None;
            }
            other => panic!("{}: {other:?}", self.vault.site),
        }
        self.count("certificates");
        self.balance(product).good += 1;
        self.made.push(made.clone());
        Some(made)
    }

    /// A few minutes of an honest line.
    pub(super) fn work(&mut self, now: u64, random: &mut Random) {
        match random.below(20) {
            0..11 => {
                let product = *random.pick(&[TH, TH, GW, RT, HR]).unwrap_or(&TH);
                let until = match random.below(40) {
                    0 => Until::Decided,
                    1 => Until::Reserved,
                    2 => Until::Signed,
                    _ => Until::Done,
                };
                self.make(now, product, until);
            }
            11..13 => self.ask_again(now, random),
            13..16 => self.order(now, random),
            16 => {
                self.count("restarts");
                self.vault.restart(now, random.chance(50));
            }
            _ => {}
        }
    }

    /// A device asks for what it has, or with a key that it has not.
    fn ask_again(&mut self, now: u64, random: &mut Random) {
        let Some(made) = random.pick(&self.made).cloned() else {
            return;
        };
        let other = random.chance(30);
        let key = made.key + if other { 5000 } else { 0 };
        let request = csr(&made.id, key);
        let answer = self.vault.request(now, made.product, &request, Until::Done);
        let fits = match &answer {
            Answer::Existing => !other,
            Answer::Refused(_) => true,
            _ => false,
        };
        assert!(fits, "{}: {made:?} again: {answer:?}", self.vault.site);
    }

    /// Somebody drops a device, or mends one.
    fn order(&mut self, now: u64, random: &mut Random) {
        let at = random.below(self.made.len().max(1) as u64) as usize;
        let Some(made) = self.made.get(at).cloned() else {
            return;
        };
        let action = DeviceAction::ALL[random.below(3) as usize];
        let answer = self.vault.order(now, action, made.product, &made.id);
        if answer != Answer::Issued {
            return;
        }
        self.count(action.as_str());
        match action {
            DeviceAction::Scrap => {
                let balance = self.balance(made.product);
                balance.good -= 1;
                balance.scrapped += 1;
                self.scrapped.push(self.made.remove(at));
            }
            DeviceAction::Void => {
                let balance = self.balance(made.product);
                balance.good -= 1;
                balance.voided += 1;
                self.made.remove(at);
            }
            DeviceAction::Rework => {
                // Another certificate, and no other unit. It may be refused, and is asked for again later then.
                let request = csr(&made.id, made.key + 2000);
                let answer = self
                    .vault
                    .request(now + MINUTE, made.product, &request, Until::Done);
                if answer == Answer::Issued {
                    self.made[at].key = made.key + 2000;
                }
            }
        }
    }

    /// Spends what is left of a product, whatever it takes; whether nothing is left.
    pub(super) fn use_up(&mut self, now: u64, product: &'static str) -> bool {
        for _ in 0..100 {
            if self.vault.units_left(MAIN, product) == Some(0) {
                return true;
            }
            if self.make(now, product, Until::Done).is_none() {
                return false;
            }
        }
        false
    }

    /// What goes home, with a bundle of what is new.
    pub(super) fn export(&mut self, now: u64) -> Files {
        let mut files = self.vault.export(now);
        let sealed = self.vault.state().bundles().sequence;
        self.sealed
            .entry(sealed)
            .or_insert_with(|| self.books.clone());
        let made = self.made.clone();
        self.made_when_sealed.entry(sealed).or_insert(made);
        if let Some(lost) = self.lost {
            let of_lost = |path: &str| match MediaName::parse(path) {
                Some(MediaName::Bundle { sequence, .. } | MediaName::Segment { sequence, .. }) => {
                    sequence == lost
                }
                _ => false,
            };
            files.retain(|path, _| !of_lost(path));
        }
        files
    }

    /// Headquarters holds a bundle.
    pub(super) fn arrived(&mut self, sequence: u64) {
        self.reported = self.sealed[&sequence].clone();
        self.made_and_reported = self.made_when_sealed[&sequence].clone();
    }
}
