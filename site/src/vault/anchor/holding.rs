//! The anchor that this process holds, what it leases, and the next one on its way into the token.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use mintmark_console::Exit;
use mintmark_keys::{Alternating, KeyStore};
use mintmark_ledger::entry::{BURNED_MAX, Burned, BurnedSlots};
use mintmark_ledger::ledger::{Fact, Ledger};
use mintmark_ledger::state::Account;
use mintmark_protocol::entitlement::AccountTag;

use super::{Anchor, FIRST_COUNTER, Found, LABEL, Trouble, counter_of, leased, of_writing};
use crate::commands::now;
use crate::failure::{Error, Result};
use crate::vault::Vault;

/// The code of units that were burned.
const LEASE_BURNED: &str = "LEASE-BURNED";

/// How many anchors are remembered whose writing failed.
const TRIED_MAX: usize = 16;

/// A lease that is spent within this is followed by one of twice the size.
const LEASE_GROWS_WITHIN: Duration = Duration::from_secs(1);

/// A lease that is spent so quickly is renewed when no more than this part of it is left, if it has so many units.
const LEASE_LOW_PART: u64 = 4;
const LEASE_RENEWED_AHEAD_MIN: u64 = 64;

/// A lease that this process took.
#[derive(Clone, Copy, Debug)]
struct Lease {
    units: u64,
    taken: Instant,
}

/// The anchor as this process knows it, and what it leases.
pub(in crate::vault) struct Holding {
    store: Arc<dyn KeyStore>,
    /// As it was read or written last.
    current: Option<Anchor>,
    trouble: Option<Trouble>,
    /// Below which slot of each account things may be released.
    bounds: BTreeMap<AccountTag, u64>,
    leases: BTreeMap<AccountTag, Lease>,
    /// Something was logged that no lease covers: only an anchor of at least that size does.
    exposed: bool,
    /// How many anchors of this process the token holds or held.
    written: u64,
    /// The bounds of the next one, while it is being written.
    promised: Option<BTreeMap<AccountTag, u64>>,
    /// Those whose writing failed amid it since: the token may hold one of them.
    tried: Vec<Anchor>,
}

/// Which anchor of this process covers something, counted in the order in which they are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(in crate::vault) struct CoveredBy(u64);

/// The next anchor, on its way into the token.
pub(in crate::vault) struct Renewal {
    store: Arc<dyn KeyStore>,
    /// The value that it takes the place of.
    old: Option<Vec<u8>>,
    /// What may stand there in its place, of this process itself.
    tried: Vec<Vec<u8>>,
    /// The token was asked to take it.
    begun: AtomicBool,
    next: Anchor,
    /// Below which slot of each account things may be released once it is written.
    bounds: BTreeMap<AccountTag, u64>,
    /// The units of each lease that begins with it.
    leases: BTreeMap<AccountTag, u64>,
}

impl Renewal {
    /// Puts it into the token. Any thread may do that.
    ///
    /// # Errors
    /// ANCHOR-MOVED if somebody else wrote one meanwhile: another home uses the token, and nothing may be released. What the
    /// token fails with.
    pub(in crate::vault) fn write(&self) -> Result<()> {
        let place = Alternating::new(&*self.store, LABEL);
        let of_writing = |error| of_writing(error, self.next.counter);
        let mut old = self.old.as_deref();
        if !self.tried.is_empty() {
            let found = place.read(counter_of).map_err(of_writing)?;
            let found = found.as_ref().map(|(_, value)| value);
            let own = self.tried.iter().find(|tried| found == Some(tried));
            old = own.map(Vec::as_slice).or(old);
        }
        self.begun.store(true, Ordering::Relaxed);
        let written = place.write(old, &self.next.to_cbor(), counter_of);
        written.map_err(of_writing)
    }
}

impl Holding {
    pub(in crate::vault) fn new(store: Arc<dyn KeyStore>) -> Self {
        Self {
            store,
            current: None,
            trouble: None,
            bounds: BTreeMap::new(),
            leases: BTreeMap::new(),
            exposed: false,
            written: 0,
            promised: None,
            tried: Vec::new(),
        }
    }

    /// The key store.
    pub(in crate::vault) fn store(&self) -> &Arc<dyn KeyStore> {
        &self.store
    }

    /// The counter of the anchor that the token holds, as this process knows it.
    pub(in crate::vault) fn counter(&self) -> u64 {
        self.current.as_ref().map_or(0, |anchor| anchor.counter)
    }

    /// Something was logged whose release no lease covers, a re-issue for instance.
    pub(in crate::vault) fn expose(&mut self) {
        self.exposed = true;
    }

    /// Which anchor covers all that is durable, and the next one, if it has to be written now. The log must have nothing
    /// staged.
    fn cover(&mut self, ledger: &Ledger) -> Result<(CoveredBy, Option<Renewal>)> {
        let state = ledger.state();
        let within = |bounds: &BTreeMap<AccountTag, u64>| {
            let bound = |account: &Account| bounds.get(&account.tag).copied().unwrap_or(0);
            state
                .accounts()
                .all(|account| account.next_slot <= bound(account))
        };
        let covered = self.current.is_some() && !self.exposed && within(&self.bounds);
        if let Some(promised) = &self.promised {
            let next = match !self.exposed && within(promised) {
                true => self.written + 1,
                false => self.written + 2,
            };
            return Ok((CoveredBy(if covered { self.written } else { next }), None));
        }
        if covered && !state.accounts().any(|account| self.runs_low(account)) {
            return Ok((CoveredBy(self.written), None));
        }
        let renewal = self.renew(ledger)?;
        let by = self.written + u64::from(!covered);
        Ok((CoveredBy(by), Some(renewal)))
    }

    /// Whether the token holds the anchor that covers something.
    fn holds(&self, by: CoveredBy) -> bool {
        by.0 <= self.written
    }

    /// Whether the anchor that covers something is not even being written.
    fn lacks(&self, by: CoveredBy) -> bool {
        by.0 > self.written + u64::from(self.promised.is_some())
    }

    /// The next anchor: of a lease that is spent, or nearly so, as much again as what is spent needs, or more if it went
    /// quickly; of any other, what it has.
    fn renew(&mut self, ledger: &Ledger) -> Result<Renewal> {
        let state = ledger.state();
        let end = |account: &Account| {
            let bound = self.bound(account);
            let end = match account.next_slot > bound || self.runs_low(account) {
                true => account.next_slot.saturating_add(self.ahead(account)),
                false => bound,
            };
            end.min(state.lease_end(account))
        };
        let next = Anchor::of(ledger, self.next_counter(), end)?;
        let mut leases = BTreeMap::new();
        let bounds = state.accounts().map(|account| {
            let before = self.bound(account);
            let bound = next.bounds.get(&account.tag).copied();
            let bound = bound.unwrap_or(account.next_slot);
            let spent = account.next_slot.saturating_sub(before);
            if self.current.is_some() && (spent > 0 || self.runs_low(account)) {
                let units = bound.saturating_sub(account.next_slot).max(spent);
                let units = units.min(state.anchor_lease_max(account));
                leases.insert(account.tag, units);
            }
            (account.tag, bound)
        });
        let bounds: BTreeMap<_, _> = bounds.collect();
        self.exposed = false;
        self.promised = Some(bounds.clone());
        Ok(Renewal {
            store: Arc::clone(&self.store),
            old: self.current.as_ref().map(Anchor::to_cbor),
            tried: self.tried.iter().map(Anchor::to_cbor).collect(),
            begun: AtomicBool::new(false),
            next,
            bounds,
            leases,
        })
    }

    fn bound(&self, account: &Account) -> u64 {
        self.bounds.get(&account.tag).copied().unwrap_or(0)
    }

    fn next_counter(&self) -> u64 {
        let known = self.current.iter().chain(&self.tried);
        let newest = known.map(|anchor| anchor.counter).max();
        newest.map_or(FIRST_COUNTER, |counter| counter.saturating_add(1))
    }

    /// The lease of an account, if it is spent quickly.
    fn quick_lease(&self, account: &Account) -> Option<&Lease> {
        let lease = self.leases.get(&account.tag)?;
        (lease.taken.elapsed() < LEASE_GROWS_WITHIN).then_some(lease)
    }

    /// Whether a lease will soon be spent up, as it looks.
    fn runs_low(&self, account: &Account) -> bool {
        let left = self.bound(account).saturating_sub(account.next_slot);
        self.quick_lease(account).is_some_and(|lease| {
            lease.units >= LEASE_RENEWED_AHEAD_MIN && left < lease.units / LEASE_LOW_PART
        })
    }

    /// How many slots are leased beyond those that are spent. At first none: the lease is the group that is waiting for it.
    fn ahead(&self, account: &Account) -> u64 {
        self.quick_lease(account)
            .map_or(0, |lease| lease.units.saturating_mul(2))
    }

    /// The token holds this anchor now.
    fn wrote(&mut self, renewal: Renewal) {
        let Renewal {
            next,
            bounds,
            leases,
            ..
        } = renewal;
        let taken = Instant::now();
        let leases = leases.into_iter();
        self.leases
            .extend(leases.map(|(tag, units)| (tag, Lease { units, taken })));
        self.bounds.extend(bounds);
        self.current = Some(next);
        self.promised = None;
        self.tried.clear();
        self.written += 1;
    }

    /// The token may hold this anchor, or not: nothing is released by it, and the next one takes its place wherever it
    /// stands.
    fn failed(&mut self, renewal: Renewal) {
        self.promised = None;
        self.exposed = true;
        if renewal.begun.into_inner() {
            if self.tried.len() >= TRIED_MAX {
                self.tried.remove(0);
            }
            self.tried.push(renewal.next);
        }
    }
}

impl Vault<'_> {
    /// Takes up what was found and [examined](examine), before anything is added to the log. What was leased and is not
    /// accounted for is burned: nothing of that is durable yet.
    pub(in crate::vault) fn take_up_anchor(
        &mut self,
        found: Found,
        trouble: Option<Trouble>,
    ) -> Result<()> {
        self.anchor.trouble = trouble;
        match found {
            Found::Anchor(anchor) if trouble.is_none() => self.hold(*anchor),
            _ => Ok(()),
        }
    }

    /// Takes a valid anchor up.
    fn hold(&mut self, anchor: Anchor) -> Result<()> {
        let state = self.ledger.state();
        let slots = match state.leases_unknown() {
            Some(due) => due.to_vec(),
            None => leased(state, &anchor),
        };
        let counter = anchor.counter;
        self.anchor.exposed = self.ledger.size() > anchor.size;
        self.anchor.bounds = anchor.bounds.clone();
        for account in state.accounts() {
            // What is in the log and not in the anchor, the next anchor covers, whatever its slots.
            let bound = self.anchor.bounds.entry(account.tag).or_default();
            *bound = account.next_slot.max(*bound);
        }
        self.anchor.current = Some(anchor);
        self.ledger.set_anchor(counter);
        self.burn(counter, &slots)
    }

    /// Puts on record that slots may have been spent. It is durable with the next group.
    fn burn(&mut self, anchor: u64, slots: &[BurnedSlots]) -> Result<()> {
        let mut units = 0_u64;
        for slots in slots.chunks(BURNED_MAX) {
            let counts = slots
                .iter()
                .map(|slots| slots.end.saturating_sub(slots.first));
            units = counts.fold(units, u64::saturating_add);
            let slots = slots.to_vec();
            self.ledger
                .record(now(), Fact::Burned(Burned { anchor, slots }))?;
        }
        if units > 0 {
            self.console.warn_coded(
                LEASE_BURNED,
                format!(
                    "{}; only headquarters grants them again",
                    burned_in_words(units)
                ),
            );
        }
        Ok(())
    }

    /// Why this vault may do nothing but carry messages, if that is so.
    pub(in crate::vault) fn anchor_trouble(&self) -> Option<Error> {
        let trouble = self.anchor.trouble?;
        trouble.stops(self.state()).then(|| trouble.error())
    }

    /// Before anything else is done that changes something: what opening found is put right, and durable.
    ///
    /// # Errors
    /// What the token or the log fails with.
    pub(crate) fn begin(&mut self) -> Result<()> {
        if self.state().leases_unknown().is_some() {
            self.reanchor()?;
        }
        self.ledger.commit()?;
        self.burn_doubt()?;
        if self.anchor.current.is_none() && self.anchor.trouble.is_none() {
            self.write_anchor()?;
        }
        Ok(())
    }

    /// After officers vouched for the head of a log whose anchor is lost: the token gets a new one, above every one that the
    /// log states, and all that could have been leased is burned.
    ///
    /// # Errors
    /// What the token or the log fails with.
    pub(crate) fn reanchor(&mut self) -> Result<()> {
        let Some(trouble) = self.anchor.trouble else {
            return Ok(());
        };
        let Some(due) = self.state().leases_unknown().map(<[_]>::to_vec) else {
            return Ok(());
        };
        self.ledger.commit()?;
        let counter = self.state().anchor().max(trouble.held());
        let leased: BTreeMap<_, _> = due.iter().map(|slots| (slots.account, slots.end)).collect();
        // If nothing comes after this, the next start burns what this one leases.
        let anchor = Anchor::of(&self.ledger, counter.saturating_add(1), |account| {
            leased.get(&account.tag).copied().unwrap_or(0)
        })?;
        Alternating::new(&*self.anchor.store, LABEL)
            .replace(&anchor.to_cbor(), counter_of)
            .map_err(|error| of_writing(error, anchor.counter))?;
        self.anchor.trouble = None;
        self.hold(anchor)?;
        self.console
            .note("officers vouched for this vault's log: its token has a new anchor");
        Ok(self.ledger.commit()?)
    }

    /// Which anchor covers all that is durable: nothing of it is released before the token [holds](Vault::holds_anchor) that one.
    /// Gives the next anchor too, if it has to be written now, which can be done while other work goes on; then it is
    /// [taken up](Vault::anchored). There is one at a time: where none is given and one is lacking, this is asked again.
    ///
    /// # Errors
    /// What the log fails with.
    pub(in crate::vault) fn cover(&mut self) -> Result<(CoveredBy, Option<Renewal>)> {
        // An anchor names what is durable.
        self.ledger.commit()?;
        self.anchor.cover(&self.ledger)
    }

    /// Whether the token holds the anchor that covers something: then it may be released.
    pub(in crate::vault) fn holds_anchor(&self, by: CoveredBy) -> bool {
        self.anchor.holds(by)
    }

    /// Whether the anchor that covers something is not even being written: [`Vault::cover`] begins it.
    pub(in crate::vault) fn lacks_anchor(&self, by: CoveredBy) -> bool {
        self.anchor.lacks(by)
    }

    /// Takes up an anchor that was written.
    pub(in crate::vault) fn anchored(&mut self, renewal: Renewal) {
        self.anchor.wrote(renewal);
    }

    /// An anchor could not be written: the next one is.
    pub(in crate::vault) fn not_anchored(&mut self, renewal: Renewal) {
        self.anchor.failed(renewal);
    }

    /// The end of the work: the anchor is brought up to the log, and what is left of leases is given back.
    ///
    /// # Errors
    /// As [`Renewal::write`]; what the log fails with.
    pub(in crate::vault) fn stop_cleanly(&mut self) -> Result<()> {
        if self.state().leases_unknown().is_some() {
            self.reanchor()?;
        }
        self.ledger.commit()?;
        if self.anchor.trouble.is_some() {
            return Ok(());
        }
        self.write_anchor().map_err(|error| match error.exit() {
            Exit::Environment => {
                let message = &error.failure().message;
                let message = format!(
                    "what was done is on record, and the anchor in the token could not be brought up to it: {message}"
                );
                error.saying(message).leaving_open()
            }
            _ => error,
        })
    }

    /// Writes an anchor of the whole log that leases nothing, unless the token holds it.
    fn write_anchor(&mut self) -> Result<()> {
        let next = Anchor::of(&self.ledger, self.anchor.next_counter(), |_| 0)?;
        let stands = self.anchor.current.as_ref().is_some_and(|current| {
            self.anchor.tried.is_empty()
                && (current.floor(), &current.bounds) == (next.floor(), &next.bounds)
        });
        if stands {
            return Ok(());
        }
        let accounts = self.ledger.state().accounts();
        let renewal = Renewal {
            store: Arc::clone(&self.anchor.store),
            old: self.anchor.current.as_ref().map(Anchor::to_cbor),
            tried: self.anchor.tried.iter().map(Anchor::to_cbor).collect(),
            begun: AtomicBool::new(false),
            next,
            bounds: accounts
                .map(|account| (account.tag, account.next_slot))
                .collect(),
            leases: BTreeMap::new(),
        };
        if let Err(error) = renewal.write() {
            self.anchor.failed(renewal);
            return Err(error);
        }
        self.anchor.wrote(renewal);
        self.anchor.exposed = false;
        Ok(())
    }
}

/// What became of leased units, for people.
pub(crate) fn burned_in_words(units: u64) -> String {
    match units {
        1 => "1 unit was leased when the vault did not stop cleanly; it counts as unresolved"
            .to_owned(),
        _ => format!(
            "{units} units were leased when the vault did not stop cleanly; they count as unresolved"
        ),
    }
}
