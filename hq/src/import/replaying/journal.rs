//! What a log did with units, as it is replayed: each move from one bucket of an account to another, by the day of the log.

use std::collections::BTreeMap;

use mintmark_console::Failure;
use mintmark_ledger::entry::{Body, Entry};
use mintmark_ledger::state::{Account, State};
use mintmark_protocol::entitlement::AccountTag;
use mintmark_protocol::identifier::{Sku, VaultName};
use rusqlite::Connection;

use crate::clock::DAY_SECONDS;
use crate::registry::postings::{self, Bucket, Move};

/// How many units of an account are in each bucket but the unspent ones.
type Counts = [(Bucket, u64); 5];

/// What one bundle adds to the journal.
pub(super) struct Journal {
    /// The accounts as they stood before the record that is replayed.
    before: BTreeMap<AccountTag, Counts>,
    /// Units by account, day and move.
    moved: BTreeMap<(u64, u64, Move), u64>,
    /// Requests by day, product and rule.
    refused: BTreeMap<(u64, Sku, String), u64>,
    /// The product that the record before asked for.
    asked: Option<Sku>,
}

impl Journal {
    /// Goes on from a state.
    pub(super) fn new(state: &State) -> Self {
        Self {
            before: state
                .accounts()
                .map(|account| (account.tag, counts(account)))
                .collect(),
            moved: BTreeMap::new(),
            refused: BTreeMap::new(),
            asked: None,
        }
    }

    /// Notes what a record did; `signed` is the account of the unit whose certificate it brought. `state` is that after it.
    pub(super) fn note(&mut self, state: &State, entry: &Entry, signed: Option<AccountTag>) {
        let day = entry.time / DAY_SECONDS;
        let asked = self.asked.take();
        match &entry.body {
            Body::Request(request) => self.asked = Some(request.product.clone()),
            Body::Refused(refused) => {
                if let Some(product) = asked {
                    let rule = (day, product, refused.code.clone());
                    *self.refused.entry(rule).or_default() += 1;
                }
            }
            Body::Reserved(reserved) => self.post(state, reserved.account, day),
            Body::DeviceChanged(changed) => self.post(state, changed.account, day),
            Body::Burned(burned) => {
                for slots in &burned.slots {
                    self.post(state, slots.account, day);
                }
            }
            _ => {
                if let Some(tag) = signed {
                    self.post(state, tag, day);
                }
            }
        }
    }

    /// Posts what a record changed in an account. What came into one bucket went out of another: if out of no other that is
    /// spent, out of the unspent ones.
    fn post(&mut self, state: &State, tag: AccountTag, day: u64) {
        let Some(account) = state.account(tag) else {
            return;
        };
        let after = counts(account);
        let before = self.before.insert(tag, after);
        let before = before.unwrap_or_else(|| after.map(|(bucket, _)| (bucket, 0)));
        let pairs = || before.iter().zip(&after);
        let mut gone: Vec<(Bucket, u64)> = pairs()
            .map(|((bucket, was), (_, is))| (*bucket, was.saturating_sub(*is)))
            .collect();
        for ((credit, was), (_, is)) in pairs() {
            let mut came = is.saturating_sub(*was);
            for (debit, left) in &mut gone {
                let units = came.min(*left);
                self.add((tag, day), (*debit, *credit), units);
                (came, *left) = (came - units, *left - units);
            }
            self.add((tag, day), (Bucket::Unspent, *credit), came);
        }
        for (debit, left) in gone {
            self.add((tag, day), (debit, Bucket::Unspent), left);
        }
    }

    fn add(
        &mut self,
        (tag, day): (AccountTag, u64),
        (debit, credit): (Bucket, Bucket),
        units: u64,
    ) {
        if units > 0 {
            let place = (tag.number(), day, Move { debit, credit });
            *self.moved.entry(place).or_default() += units;
        }
    }

    /// Writes it, as what HQ learned on this UTC day.
    pub(super) fn write(
        &self,
        sql: &Connection,
        vault: &VaultName,
        reported_day: u64,
    ) -> Result<(), Failure> {
        postings::add(sql, vault, reported_day, &self.moved)?;
        postings::add_refusals(sql, vault, &self.refused)
    }
}

fn counts(account: &Account) -> Counts {
    [
        (
            Bucket::Reserved,
            account.unresolved.saturating_sub(account.burned),
        ),
        (Bucket::Burned, account.burned),
        (Bucket::Good, account.good),
        (Bucket::Scrapped, account.scrapped),
        (Bucket::Voided, account.voided),
    ]
}
