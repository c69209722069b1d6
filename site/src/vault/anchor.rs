//! The anchor: what the vault's token knows of its log. A home folder can be copied and put back; the token is elsewhere,
//! and what it holds only ever moves on. So a home that is older than its token is found out before anything is added to it.
//!
//! ```cddl
//! anchor = {
//!   1: 1,                              ; format version
//!   2: 1..18446744073709551615,        ; counter: each anchor has a higher one than the one before
//!   3: identifier,                     ; site
//!   4: identifier,                     ; vault
//!   5: lineage,
//!   6: uint,                           ; records of the log that were durable
//!   7: digest,                         ; their Merkle root
//!   8: bstr .size 32,                  ; the link behind the last of them
//!   9: [* (uint, uint)],               ; account tag, and the slot below which everything may be spent; in order of tags
//!   10: digest,                        ; SHA-256 of this map without its last field: what is torn is told from what is whole
//! }
//! ```
//!
//! The value never leaves the token. It is kept under [`LABEL`] by [`Alternating`]: the new one is made and read back before
//! the old one goes.
//!
//! The order of things. An anchor names a head that is durable, and slots beyond what is spent there: the lease. Nothing is
//! released whose slot is beyond it; before that, the next anchor is written. Other work goes on meanwhile: what is reserved
//! is told [which anchor covers it](Vault::cover), and is released once the token holds that one. A lease that is spent
//! quickly is renewed before it is spent up, so that nothing has to wait. A clean stop writes an anchor without a lease. So at
//! the next start, slots below the bound that the log has not spent were leased to a process that did not stop cleanly, or to
//! another copy of the home: nobody here knows which of them were released, and all of them are burned.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use mintmark_console::Exit;
use mintmark_keys::{Alternating, KeyStore, Purpose};
use mintmark_ledger::StorageError;
use mintmark_ledger::entry::{BURNED_MAX, Burned, BurnedSlots};
use mintmark_ledger::ledger::{Fact, Floor, Ledger, Opened, View};
use mintmark_ledger::state::{Account, State};
use mintmark_protocol::cbor::{Fields, Map};
use mintmark_protocol::entitlement::AccountTag;
use mintmark_protocol::identifier::{Fingerprint, Lineage, VaultName};

use super::keyring::{Identity, VAULT_SIGN, expect_same};
use super::{Facts, Vault};
use crate::commands::{SOFTWARE, now};
use crate::failure::{Error, Result};
use crate::home::Home;

/// The label of the anchor in the token.
pub(crate) const LABEL: &str = "mintmark-anchor";

/// The code of a home that is older than its token, or another one.
pub(crate) const HOME_OLDER: &str = "HOME-OLDER-THAN-ANCHOR";
/// The code of an anchor that somebody else wrote meanwhile.
const ANCHOR_MOVED: &str = "ANCHOR-MOVED";
/// The code of units that were burned.
const LEASE_BURNED: &str = "LEASE-BURNED";

/// The counter of the first anchor.
pub(super) const FIRST_COUNTER: u64 = 1;

/// The largest anchor, in bytes.
const BYTES_MAX: usize = 60 * 1024;
/// The most accounts of one anchor.
const BOUNDS_MAX: usize = 3000;
const DIGEST: i64 = 10;
const WHAT: &str = "anchor";

/// How many anchors are remembered whose writing failed.
const TRIED_MAX: usize = 16;

/// A lease that is spent within this is followed by one of twice the size.
const LEASE_GROWS_WITHIN: Duration = Duration::from_secs(1);

/// A lease that is spent so quickly is renewed when no more than this part of it is left, if it has so many units.
const LEASE_LOW_PART: u64 = 4;
const LEASE_RENEWED_AHEAD_MIN: u64 = 64;

/// What the token knows of the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Anchor {
    /// Higher than that of the anchor before.
    pub(crate) counter: u64,
    /// Whose.
    pub(crate) vault: VaultName,
    /// The history.
    pub(crate) lineage: Lineage,
    /// How many records of it were durable.
    pub(crate) size: u64,
    /// Their Merkle root.
    pub(crate) root: Fingerprint,
    /// The link behind the last of them.
    pub(crate) link: [u8; 32],
    /// The slot of each account below which everything may be spent. An account that is not here had no lease, and its
    /// entitlement was over.
    pub(crate) bounds: BTreeMap<AccountTag, u64>,
}

impl Anchor {
    fn map(&self) -> Map {
        let bounds = self.bounds.iter();
        Map::new()
            .with(1, mintmark_protocol::FORMAT_VERSION)
            .with(2, self.counter)
            .with(3, self.vault.site.as_str())
            .with(4, self.vault.vault.as_str())
            .with(5, self.lineage.as_bytes().to_vec())
            .with(6, self.size)
            .with(7, self.root.as_bytes().to_vec())
            .with(8, self.link.to_vec())
            .with_array(9, bounds.flat_map(|(tag, bound)| [tag.number(), *bound]))
    }

    /// As the token holds it.
    pub(crate) fn to_cbor(&self) -> Vec<u8> {
        let digest = Fingerprint::of(&self.map().encode());
        self.map().with(DIGEST, digest.as_bytes().to_vec()).encode()
    }

    /// Reads what the token holds; none of what is torn, or is no anchor.
    pub(crate) fn from_cbor(bytes: &[u8]) -> Option<Self> {
        let anchor = Self::read(bytes).ok()?;
        // Whatever departs from it in a single bit, the digest included, is another value.
        (anchor.to_cbor() == bytes).then_some(anchor)
    }

    fn read(bytes: &[u8]) -> std::result::Result<Self, mintmark_protocol::Error> {
        let mut fields = Fields::decode(WHAT, bytes, BYTES_MAX)?;
        fields.format_version(1)?;
        let counter = fields.uint(2)?;
        if counter == 0 {
            return Err(fields.wrong(2, "counted from 1"));
        }
        let numbers = fields.array(9, 2 * BOUNDS_MAX)?;
        let numbers = numbers
            .iter()
            .map(|value| u64::try_from(value.as_integer()?).ok());
        let numbers: Option<Vec<u64>> = numbers.collect();
        let (pairs, rest) = numbers.as_deref().unwrap_or(&[0]).as_chunks();
        let bounds = pairs
            .iter()
            .map(|[tag, bound]| Some((AccountTag::new(*tag)?, *bound)));
        let bounds: Option<BTreeMap<_, _>> = bounds.collect();
        let bounds = bounds.filter(|_| rest.is_empty());
        let anchor = Self {
            counter,
            vault: VaultName {
                site: fields.parse(3)?,
                vault: fields.parse(4)?,
            },
            lineage: fields.octets(5)?,
            size: fields.uint(6)?,
            root: fields.octets(7)?,
            link: fields.octets(8)?,
            bounds: bounds.ok_or_else(|| fields.wrong(9, "accounts and slots were expected"))?,
        };
        let _: [u8; 32] = fields.octets(DIGEST)?;
        fields.finish()?;
        Ok(anchor)
    }

    /// What the log has to hold.
    pub(crate) fn floor(&self) -> Floor {
        Floor {
            size: self.size,
            link: self.link,
        }
    }

    /// The anchor of a log of which nothing is staged. `bound` says below which slot of an account everything may be spent.
    pub(crate) fn of(
        ledger: &Ledger,
        counter: u64,
        bound: impl Fn(&Account) -> u64,
    ) -> Result<Self> {
        let (state, floor) = (ledger.state(), ledger.floor());
        let (Some(vault), Some(lineage)) = (state.vault(), state.lineage()) else {
            return Err(Error::unknown(
                "INTERNAL",
                "a log without a beginning has no anchor",
            ));
        };
        let bounds = state.accounts().filter_map(|account| {
            let bound = bound(account).max(account.next_slot);
            let counts = bound > account.next_slot || is_live(state, account);
            counts.then_some((account.tag, bound))
        });
        Ok(Self {
            counter,
            vault: vault.clone(),
            lineage,
            size: floor.size,
            root: state.root(),
            link: floor.link,
            bounds: bounds.collect(),
        })
    }
}

/// Whether a unit of the account may still be spent, by the log's own time.
fn is_live(state: &State, account: &Account) -> bool {
    let granted = state.entitlements().get(&account.entitlement);
    granted.is_some_and(|granted| {
        granted.revoked.is_none() && granted.terms.window.until > state.mark()
    })
}

/// The counter of a value that is whole.
pub(super) fn counter_of(value: &[u8]) -> Option<u64> {
    Anchor::from_cbor(value).map(|anchor| anchor.counter)
}

/// What a key store holds in the place of the anchor.
#[derive(Debug)]
pub(crate) enum Found {
    /// Nothing that is whole.
    None,
    /// The anchor.
    Anchor(Box<Anchor>),
    /// Two that contradict each other, of one counter.
    Contested(u64),
}

/// Looks for the anchor in a key store.
///
/// # Errors
/// What the store fails with.
pub(crate) fn find(store: &dyn KeyStore) -> Result<Found> {
    match Alternating::new(store, LABEL).read(counter_of) {
        Ok(found) => {
            let anchor = found.and_then(|(_, value)| Anchor::from_cbor(&value));
            Ok(anchor.map_or(Found::None, |anchor| Found::Anchor(Box::new(anchor))))
        }
        Err(mintmark_keys::Error::DataChanged { counter, .. }) => {
            Ok(Found::Contested(counter.unwrap_or(0)))
        }
        Err(error) => Err(error.into()),
    }
}

/// Refuses a key store that serves another vault.
///
/// # Errors
/// ANCHOR-EXISTS.
pub(crate) fn refuse_existing(store: &dyn KeyStore) -> Result<()> {
    let whose = match find(store)? {
        Found::None => return Ok(()),
        Found::Anchor(anchor) => {
            let Anchor { vault, lineage, .. } = &*anchor;
            format!("vault {vault}, lineage {lineage}")
        }
        Found::Contested(_) => "some vault, in two versions".to_owned(),
    };
    let message = format!("the key store holds the anchor of another log already: {whose}");
    Err(Error::environment("ANCHOR-EXISTS", message).hint(format!(
        "give this vault a token or a folder of its own; if that vault will never be used again, remove the data objects \
         {LABEL} with the token's own tool, or the files of that name from the folder"
    )))
}

/// Writes the first anchor of a log that was just made.
///
/// # Errors
/// What the store fails with.
pub(crate) fn write_first(store: &dyn KeyStore, anchor: &Anchor) -> Result<()> {
    let written = Alternating::new(store, LABEL).write(None, &anchor.to_cbor(), counter_of);
    written.map_err(|error| of_writing(error, anchor.counter))
}

/// Opens the log, which has to hold what its anchor knows: nothing in the home is changed otherwise.
pub(super) fn open_ledger(home: &Home, found: &Found) -> Result<(Ledger, Opened)> {
    let anchor = match found {
        Found::Anchor(anchor) if anchor.vault == home.config().vault => Some(anchor),
        _ => None,
    };
    let floor = anchor.map(|anchor| anchor.floor());
    match (Ledger::open_knowing(home.path(), SOFTWARE, floor), anchor) {
        (Ok(opened), _) => Ok(opened),
        (Err(mintmark_ledger::Error::Storage(error)), Some(anchor)) => Err(not_held(error, anchor)),
        (Err(error), _) => Err(error.into()),
    }
}

/// Holds what a key store has in the place of the anchor against the log. Nothing is changed yet.
///
/// # Errors
/// ANCHOR-OF-ANOTHER; VAULT-KEY-CHANGED; what the store fails with.
pub(super) fn examine(
    home: &Home,
    state: &State,
    store: &dyn KeyStore,
    found: &Found,
) -> Result<Option<Trouble>> {
    let stated = state.anchor();
    let trouble = match found {
        Found::Anchor(anchor) => {
            let (vault, lineage) = (&anchor.vault, anchor.lineage);
            if *vault != home.config().vault || Some(lineage) != state.lineage() {
                expect_own(store, &Facts::read(home, state)?.identity)?;
                return Err(of_another(anchor));
            }
            if anchor.counter >= stated {
                return Ok(None);
            }
            Trouble::RolledBack {
                held: anchor.counter,
                stated,
            }
        }
        // A log that never had one has none to miss: an interruption came between the making of the two.
        Found::None if stated == 0 => return Ok(None),
        Found::None => Trouble::Missing { stated },
        Found::Contested(counter) => Trouble::Contested { counter: *counter },
    };
    expect_own(store, &Facts::read(home, state)?.identity)?;
    Ok(Some(trouble))
}

/// What a key store holds for a log that is only looked at.
#[derive(Debug)]
pub(crate) enum Inspected {
    /// Nothing, and the log never stated anything.
    NotYet,
    /// Nothing that is valid, and officers vouched for the log.
    VouchedFor,
    /// An anchor of this log.
    Held {
        /// The anchor.
        anchor: Box<Anchor>,
        /// How many units it leases that the log has not spent.
        leased: u64,
    },
}

/// Looks at the anchor as every command that writes does before it writes anything.
///
/// # Errors
/// As `Vault::open`, where the home and the token do not fit each other.
pub(crate) fn inspect(home: &Home, view: &View, store: &dyn KeyStore) -> Result<Inspected> {
    let found = find(store)?;
    let state = view.state();
    let trouble = examine(home, state, store, &found)?;
    Trouble::expect_none(trouble, state)?;
    match found {
        _ if trouble.is_some() => Ok(Inspected::VouchedFor),
        Found::Anchor(anchor) => {
            match view.expect_floor(anchor.floor()) {
                Err(mintmark_ledger::Error::Storage(error)) => {
                    return Err(not_held(error, &anchor));
                }
                held => held?,
            }
            let slots = leased(state, &anchor).into_iter();
            let leased = slots.map(|slots| slots.end.saturating_sub(slots.first));
            Ok(Inspected::Held {
                leased: leased.sum(),
                anchor,
            })
        }
        Found::None | Found::Contested(_) => Ok(Inspected::NotYet),
    }
}

/// Before anything is said of an anchor: that this is the vault's own token at all.
pub(super) fn expect_own(store: &dyn KeyStore, identity: &Identity) -> Result<()> {
    match store.find(VAULT_SIGN, Purpose::Sign)? {
        Some(key) => expect_same(VAULT_SIGN, &key, &identity.sign),
        None => Ok(()),
    }
}

/// A lease that this process took.
#[derive(Clone, Copy, Debug)]
struct Lease {
    units: u64,
    taken: Instant,
}

/// Why a vault has no anchor. Officers' re-anchor ends it; until then messages are carried, and nothing else is done.
#[derive(Clone, Copy, Debug)]
pub(super) enum Trouble {
    Missing { stated: u64 },
    RolledBack { held: u64, stated: u64 },
    Contested { counter: u64 },
}

impl Trouble {
    /// The highest counter that the token holds.
    fn held(self) -> u64 {
        match self {
            Self::Missing { .. } => 0,
            Self::RolledBack { held, .. } => held,
            Self::Contested { counter } => counter,
        }
    }

    /// Whether it stops the vault: not where officers vouched for the log, and it only has to be done yet.
    fn stops(self, state: &State) -> bool {
        state.leases_unknown().is_none()
    }

    /// As an error, where it stops the vault.
    ///
    /// # Errors
    /// ANCHOR-MISSING, ANCHOR-ROLLED-BACK, ANCHOR-MOVED.
    pub(super) fn expect_none(trouble: Option<Self>, state: &State) -> Result<()> {
        match trouble.filter(|trouble| trouble.stops(state)) {
            Some(trouble) => Err(trouble.error()),
            None => Ok(()),
        }
    }

    fn error(self) -> Error {
        let (code, message) = match self {
            Self::Missing { stated } => (
                "ANCHOR-MISSING",
                format!(
                    "the token holds no valid anchor of this vault, and held one before: the log states version {stated}"
                ),
            ),
            Self::RolledBack { held, stated } => (
                "ANCHOR-ROLLED-BACK",
                format!(
                    "the token's anchor is version {held}, and the log states version {stated}: the token was put back from \
                     an older copy"
                ),
            ),
            Self::Contested { counter } => (
                ANCHOR_MOVED,
                format!(
                    "the token holds two anchors of version {counter}: two homes were used with it at the same time"
                ),
            ),
        };
        Error::integrity(code, message).hint(
            "put the vault's own token back, and never run two copies of a home; if its anchor is lost, run `site media \
             export DIR`, have officers vouch for the log (`hq site reanchor`), and import what comes back: nothing is \
             issued until then",
        )
    }
}

/// The anchor as this process knows it, and what it leases.
pub(super) struct Holding {
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
pub(super) struct CoveredBy(u64);

/// The next anchor, on its way into the token.
pub(super) struct Renewal {
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
    pub(super) fn write(&self) -> Result<()> {
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
    pub(super) fn new(store: Arc<dyn KeyStore>) -> Self {
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
    pub(super) fn store(&self) -> &Arc<dyn KeyStore> {
        &self.store
    }

    /// The counter of the anchor that the token holds, as this process knows it.
    pub(super) fn counter(&self) -> u64 {
        self.current.as_ref().map_or(0, |anchor| anchor.counter)
    }

    /// Something was logged whose release no lease covers, a re-issue for instance.
    pub(super) fn expose(&mut self) {
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
    pub(super) fn take_up_anchor(&mut self, found: Found, trouble: Option<Trouble>) -> Result<()> {
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
    pub(super) fn anchor_trouble(&self) -> Option<Error> {
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
    pub(super) fn cover(&mut self) -> Result<(CoveredBy, Option<Renewal>)> {
        // An anchor names what is durable.
        self.ledger.commit()?;
        self.anchor.cover(&self.ledger)
    }

    /// Whether the token holds the anchor that covers something: then it may be released.
    pub(super) fn holds_anchor(&self, by: CoveredBy) -> bool {
        self.anchor.holds(by)
    }

    /// Whether the anchor that covers something is not even being written: [`Vault::cover`] begins it.
    pub(super) fn lacks_anchor(&self, by: CoveredBy) -> bool {
        self.anchor.lacks(by)
    }

    /// Takes up an anchor that was written.
    pub(super) fn anchored(&mut self, renewal: Renewal) {
        self.anchor.wrote(renewal);
    }

    /// An anchor could not be written: the next one is.
    pub(super) fn not_anchored(&mut self, renewal: Renewal) {
        self.anchor.failed(renewal);
    }

    /// The end of the work: the anchor is brought up to the log, and what is left of leases is given back.
    ///
    /// # Errors
    /// As [`Renewal::write`]; what the log fails with.
    pub(super) fn stop_cleanly(&mut self) -> Result<()> {
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

/// What an anchor leased and the log has not spent.
fn leased(state: &State, anchor: &Anchor) -> Vec<BurnedSlots> {
    let accounts = state.accounts();
    let leases = accounts.filter_map(|account| {
        let first = account.next_slot;
        let end = (*anchor.bounds.get(&account.tag)?).min(state.lease_end(account));
        let account = account.tag;
        (first < end).then_some(BurnedSlots {
            account,
            first,
            end,
        })
    });
    leases.collect()
}

/// What is leased and not spent, for people.
pub(crate) fn lease_in_words(units: u64) -> String {
    let leased = match units {
        1 => "1 unit is leased and not spent".to_owned(),
        _ => format!("{units} units are leased and not spent"),
    };
    format!("{leased}: a command is at work, or the last one did not stop cleanly")
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

pub(super) fn of_writing(error: mintmark_keys::Error, counter: u64) -> Error {
    match error {
        mintmark_keys::Error::DataChanged { .. } => {
            let message = format!(
                "somebody else wrote the anchor of this vault before this process wrote version {counter}: another home is \
                 used with the same token"
            );
            Error::integrity(ANCHOR_MOVED, message).cause(error).hint(
                "stop every copy of this home, and go on in one alone: the one that runs without HOME-OLDER-THAN-ANCHOR; what \
                 this one made since then was not released",
            )
        }
        error => error.into(),
    }
}

/// A log that could not be opened, or does not hold what its anchor knows.
fn not_held(error: StorageError, anchor: &Anchor) -> Error {
    match error {
        StorageError::LogRolledBack { .. } | StorageError::LogForked { .. } => {
            older(&error, anchor)
        }
        other => other.into(),
    }
}

fn older(error: &StorageError, anchor: &Anchor) -> Error {
    let Anchor { counter, size, .. } = anchor;
    let message = match error {
        StorageError::LogForked { .. } => format!(
            "the token knows another log than this home's: its anchor, version {counter}, names {size} records that are not \
             these"
        ),
        _ => format!(
            "this home is older than what its token knows: its anchor, version {counter}, names {size} records, and the log \
             has fewer"
        ),
    };
    Error::integrity(HOME_OLDER, message).cause(error).hint(
        "put the newest copy of the home back; if there is none, run `site recover --declare-restore`; never run two copies \
         of a home",
    )
}

pub(super) fn of_another(anchor: &Anchor) -> Error {
    let Anchor { vault, lineage, .. } = anchor;
    let message = format!(
        "the anchor in the token is that of vault {vault}, lineage {lineage}: this home is another"
    );
    Error::integrity("ANCHOR-OF-ANOTHER", message).hint(
        "put the token back that belongs to this home, or correct --home or SITE_HOME, or `keys` in the home's config.toml; if \
         this is a copy from before a restore that was declared, `site recover --declare-restore`",
    )
}
