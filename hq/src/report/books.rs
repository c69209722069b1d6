//! Double entry: what was in each bucket of an account when the period began, what moved, and what is in it now. Each move
//! takes out of one bucket what it brings into another, so the books say by themselves whether anything is missing.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

use crate::registry::accounts::Account;
use crate::registry::postings::{Bucket, Move};

/// What is in the buckets of an account.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Balance {
    /// What headquarters granted.
    pub(crate) authorised: u64,
    pub(crate) reserved: u64,
    pub(crate) burned: u64,
    pub(crate) good: u64,
    pub(crate) scrapped: u64,
    pub(crate) voided: u64,
    /// What nobody will report any more, as another vault took the place of the account's.
    pub(crate) written_off: u64,
}

impl Balance {
    /// Spent and without a certificate, or written off.
    pub(crate) fn unresolved(&self) -> u64 {
        [self.burned, self.written_off]
            .into_iter()
            .fold(self.reserved, u64::saturating_add)
    }

    /// Good, scrapped, voided or unresolved.
    pub(crate) fn spent(&self) -> u64 {
        [self.scrapped, self.voided, self.unresolved()]
            .into_iter()
            .fold(self.good, u64::saturating_add)
    }

    /// What is left; none of an account that is overspent.
    pub(crate) fn unspent(&self) -> u64 {
        self.authorised.saturating_sub(self.spent())
    }

    /// By how much more was spent than was granted, in words.
    fn overspent(&self) -> Option<String> {
        let (spent, granted) = (self.spent(), self.authorised);
        (spent > granted)
            .then(|| format!("unspent: {spent} units were spent of {granted} that were granted"))
    }

    fn bucket(&mut self, bucket: Bucket) -> Option<&mut u64> {
        Some(match bucket {
            // What is unspent follows from the others and from what was granted.
            Bucket::Unspent => return None,
            Bucket::Reserved => &mut self.reserved,
            Bucket::Burned => &mut self.burned,
            Bucket::Good => &mut self.good,
            Bucket::Scrapped => &mut self.scrapped,
            Bucket::Voided => &mut self.voided,
        })
    }

    /// Adds another one.
    pub(crate) fn add(&mut self, other: &Self) {
        let Self {
            authorised,
            reserved,
            burned,
            good,
            scrapped,
            voided,
            written_off,
        } = other;
        for (sum, more) in [
            (&mut self.authorised, authorised),
            (&mut self.reserved, reserved),
            (&mut self.burned, burned),
            (&mut self.good, good),
            (&mut self.scrapped, scrapped),
            (&mut self.voided, voided),
            (&mut self.written_off, written_off),
        ] {
            *sum = sum.saturating_add(*more);
        }
    }

    /// The counts that every form of a report shows, by name. They are of the account as it is shown: what is reserved,
    /// burned or written off is unresolved.
    pub(crate) fn counts(&self) -> [(&'static str, u64); 6] {
        [
            ("authorised", self.authorised),
            ("good", self.good),
            ("scrapped", self.scrapped),
            ("voided", self.voided),
            ("unresolved", self.unresolved()),
            ("unspent", self.unspent()),
        ]
    }

    pub(crate) fn to_json(self) -> Map<String, Value> {
        let counts = self.counts().into_iter();
        counts
            .map(|(name, count)| (name.to_owned(), count.into()))
            .collect()
    }
}

/// What moved in an account.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Moves(BTreeMap<Move, u64>);

impl Moves {
    pub(super) fn add(&mut self, moved: Move, units: u64) {
        let sum = self.0.entry(moved).or_default();
        *sum = sum.saturating_add(units);
    }

    /// Units that came into a bucket.
    pub(crate) fn credited_to(&self, bucket: Bucket) -> u64 {
        let into = self.0.iter().filter(|(moved, _)| moved.credit == bucket);
        into.map(|(_, units)| *units).fold(0, u64::saturating_add)
    }

    /// Carries a balance over these moves. A bucket that gives more than it has is what does not fit.
    fn carry(&self, opening: &Balance, faults: &mut Vec<String>) -> Balance {
        let mut closing = *opening;
        for (moved, units) in &self.0 {
            if let Some(into) = closing.bucket(moved.credit) {
                *into = into.saturating_add(*units);
            }
        }
        for (moved, units) in &self.0 {
            if let Some(out) = closing.bucket(moved.debit) {
                match out.checked_sub(*units) {
                    Some(left) => *out = left,
                    None => {
                        faults.push(format!(
                            "{}: {units} units went to {} where there were {out}",
                            moved.debit, moved.credit
                        ));
                        *out = 0;
                    }
                }
            }
        }
        closing
    }

    pub(crate) fn to_json(&self) -> Value {
        let moves = self.0.iter().map(|(moved, units)| {
            json!({ "debit": moved.debit.as_str(), "credit": moved.credit.as_str(), "units": units })
        });
        moves.collect()
    }
}

/// What the books of one account say.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Books {
    /// Before the period.
    pub(crate) opening: Balance,
    /// In the period.
    pub(crate) moves: Moves,
    /// At its end.
    pub(crate) closing: Balance,
    /// Why the account does not balance, by all that was ever reported; nothing if it does.
    pub(crate) faults: Vec<String>,
    /// What only seems not to fit, as the period is not all of time: grants count by the day on which headquarters sent
    /// them, and units by that of the vault's clock.
    pub(crate) remarks: Vec<String>,
}

/// What moved before, in and after a period.
#[derive(Clone, Debug, Default)]
pub(super) struct Moved {
    pub(super) before: Moves,
    pub(super) during: Moves,
    pub(super) after: Moves,
}

impl Moved {
    /// All of it together.
    fn whole(&self) -> Moves {
        let mut whole = Moves::default();
        for moves in [&self.before, &self.during, &self.after] {
            for (moved, units) in &moves.0 {
                whole.add(*moved, *units);
            }
        }
        whole
    }
}

impl Books {
    /// The books of an account: `authorised` is what it had before the period and at its end, and `sent` what all that
    /// was sent grants.
    pub(super) fn new(
        account: &Account,
        (before, at_end, sent): (u64, u64, u64),
        moved: Moved,
        written_off: u64,
    ) -> Self {
        let (mut faults, mut remarks) = (Vec::new(), Vec::new());
        let newest = moved.whole().carry(&Balance::default(), &mut faults);
        let nothing = Balance {
            authorised: before,
            ..Balance::default()
        };
        let opening = moved.before.carry(&nothing, &mut remarks);
        let from = Balance {
            authorised: at_end,
            ..opening
        };
        let mut closing = moved.during.carry(&from, &mut remarks);
        closing.written_off = written_off;
        let replayed = [
            (Bucket::Burned, newest.burned, account.burned),
            (
                Bucket::Reserved,
                newest.reserved,
                account
                    .unresolved
                    .saturating_sub(account.written_off)
                    .saturating_sub(account.burned),
            ),
            (Bucket::Good, newest.good, account.good),
            (Bucket::Scrapped, newest.scrapped, account.scrapped),
            (Bucket::Voided, newest.voided, account.voided),
        ];
        for (bucket, journal, replay) in replayed {
            if journal != replay {
                faults.push(format!(
                    "{bucket}: the journal comes to {journal}, and the newest replay to {replay}"
                ));
            }
        }
        if sent != account.authorised {
            faults.push(format!(
                "authorised: what was sent grants {sent}, and the account has {}",
                account.authorised
            ));
        }
        let newest = Balance {
            authorised: sent,
            written_off: account.written_off,
            ..newest
        };
        faults.extend(newest.overspent());
        let is_whole = closing == newest && opening == Balance::default();
        if !is_whole {
            remarks.extend(
                opening
                    .overspent()
                    .map(|over| format!("before the period, {over}")),
            );
            remarks.extend(
                closing
                    .overspent()
                    .map(|over| format!("at its end, {over}")),
            );
        }
        Self {
            opening,
            moves: moved.during,
            closing,
            faults,
            remarks,
        }
    }

    /// Whether every unit is where the books say.
    pub(crate) fn balance(&self) -> bool {
        self.faults.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn account(authorised: u64, good: u64) -> Account {
        Account {
            vault: mintmark_protocol::identifier::VaultName {
                site: "berlin".parse().unwrap(),
                vault: "v1".parse().unwrap(),
            },
            tag: 1,
            entitlement: "e".parse().unwrap(),
            sku: "TH-200".parse().unwrap(),
            authorised,
            good,
            scrapped: 0,
            voided: 0,
            unresolved: 0,
            burned: 0,
            revoked_at: None,
            written_off: 0,
            used_after_all: 0,
        }
    }

    fn made(units: u64) -> Moves {
        let mut moves = Moves::default();
        let between = |debit, credit| Move { debit, credit };
        moves.add(between(Bucket::Unspent, Bucket::Reserved), units);
        moves.add(between(Bucket::Reserved, Bucket::Good), units);
        moves
    }

    fn books(account: &Account, during: Moves) -> Books {
        let moved = Moved {
            during,
            ..Moved::default()
        };
        let authorised = account.authorised;
        Books::new(account, (authorised, authorised, authorised), moved, 0)
    }

    #[test]
    fn an_account_that_spent_more_than_was_granted_does_not_balance() {
        assert_eq!(books(&account(5, 5), made(5)).faults, [""; 0]);
        assert_eq!(books(&account(5, 0), made(0)).faults, [""; 0]);
        let over = books(&account(5, 6), made(6));
        assert_eq!(
            over.faults,
            ["unspent: 6 units were spent of 5 that were granted"]
        );
        assert_eq!(over.closing.unspent(), 0);
    }

    #[test]
    fn a_journal_that_lost_a_unit_says_in_which_bucket() {
        assert_eq!(
            books(&account(5, 5), made(4)).faults,
            ["good: the journal comes to 4, and the newest replay to 5"]
        );
        let mut moves = made(2);
        let scrapped = Move {
            debit: Bucket::Good,
            credit: Bucket::Scrapped,
        };
        moves.add(scrapped, 3);
        let faults = books(&account(5, 0), moves).faults;
        assert_eq!(
            faults,
            [
                "good: 3 units went to scrapped where there were 2",
                "scrapped: the journal comes to 3, and the newest replay to 0"
            ]
        );
    }

    #[test]
    fn an_account_balances_by_all_that_was_reported_whatever_the_period_leaves_out() {
        // Granted on a day of headquarters that the vault's clock has not reached when it spends.
        let moved = Moved {
            before: made(2),
            during: made(3),
            after: Moves::default(),
        };
        let books = Books::new(&account(20, 5), (0, 4, 20), moved.clone(), 0);
        assert!(books.balance(), "{:?}", books.faults);
        assert_eq!(
            books.remarks,
            [
                "before the period, unspent: 2 units were spent of 0 that were granted",
                "at its end, unspent: 5 units were spent of 4 that were granted"
            ]
        );
        // Scrapped by a clock that was set back to before it was made.
        let scrapped = Move {
            debit: Bucket::Good,
            credit: Bucket::Scrapped,
        };
        let mut early = Moves::default();
        early.add(scrapped, 1);
        let of = Account {
            scrapped: 1,
            ..account(20, 4)
        };
        let back = Moved {
            before: early,
            during: made(5),
            after: Moves::default(),
        };
        let books = Books::new(&of, (20, 20, 20), back, 0);
        assert_eq!(books.faults, [""; 0]);
        assert_eq!(
            books.remarks,
            ["good: 1 units went to scrapped where there were 0"]
        );
        // What was spent beyond all grants is a fault in every period.
        let books = Books::new(&account(4, 5), (4, 4, 4), moved, 0);
        assert!(!books.balance());
    }

    #[test]
    fn what_was_before_a_period_is_its_opening_balance() {
        let moved = Moved {
            before: made(2),
            during: made(3),
            after: made(4),
        };
        let books = Books::new(&account(20, 9), (5, 10, 20), moved, 0);
        assert_eq!(books.faults, [""; 0]);
        let counts = |balance: Balance| (balance.authorised, balance.good, balance.unspent());
        assert_eq!(counts(books.opening), (5, 2, 3));
        assert_eq!(counts(books.closing), (10, 5, 5));
        assert_eq!(books.moves, made(3));
    }
}
