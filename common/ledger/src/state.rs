//! What a vault's log adds up to: a pure function of its records, the same at the vault and at HQ.

pub mod account;
mod anchor;
pub mod clock;
pub(crate) mod codec;
mod device_ca;
mod facts;
mod keys;
mod orders;
mod restored;
mod retention;
pub mod stations;
pub(crate) mod terms;
mod unreported;
pub(crate) mod withdrawn;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use mintmark_protocol::entitlement::{AccountTag, DeviceIdSource, Entitlement};
use mintmark_protocol::identifier::{
    DeviceId, EntitlementId, Fingerprint, KeyLabel, Lineage, Sku, StationId, VaultName,
};
use p256::PublicKey;

pub use self::account::{Account, WindowCount};
pub(crate) use self::anchor::AnchorStated;
pub(crate) use self::clock::Clock;
pub use self::clock::{ClockStopped, Reading};
pub use self::codec::SnapshotError;
pub use self::device_ca::DeviceCa;
pub use self::keys::KeyState;
pub(crate) use self::keys::{Keys, Received};
pub use self::orders::Revoked;
pub(crate) use self::orders::{Orders, Place};
pub(crate) use self::restored::Restores;
pub(crate) use self::stations::Stations;
pub use self::stations::{STATIONS_MAX, Station, StationRevoked};
use self::terms::Compiled;
use self::unreported::Unreported;
pub(crate) use self::withdrawn::TakenBack;
pub use self::withdrawn::{Issue, Withdrawal, Withdrawn};
use crate::entry::{
    CrlIssued, DeviceOrder, Dispatch, Genesis, LogSequence, PrunedRecords, Rotation, StationOrder,
    Steady, Trust,
};
use crate::merkle::Frontier;

/// Refusals and repeated answers that are logged between two bundles, besides one for each unit issued.
pub const ANSWERS_LOGGED_MAX: u64 = 20_000;

const SECONDS_PER_DAY: u64 = 86_400;

/// The state of a ledger after some number of records. [`crate::apply`] is what changes it.
#[derive(Clone, PartialEq, Eq)]
pub struct State {
    pub(crate) size: u64,
    pub(crate) frontier: Frontier,
    pub(crate) mark: u64,
    pub(crate) genesis: Option<Genesis>,
    pub(crate) lineage: Option<Lineage>,
    pub(crate) boot: u64,
    pub(crate) rules_version: u32,
    pub(crate) trust: Option<Trust>,
    pub(crate) enrolment: Option<Arc<Enrolment>>,
    pub(crate) dispatches: DispatchChain,
    pub(crate) bundles: BundleChain,
    pub(crate) entitlements: BTreeMap<EntitlementId, Granted>,
    pub(crate) accounts: BTreeMap<AccountTag, Account>,
    pub(crate) reservations: BTreeMap<LogSequence, OpenReservation>,
    /// The same by unit, so that a re-issue finds what it takes the place of.
    pub(crate) open_units: BTreeSet<(AccountTag, u64, LogSequence)>,
    pub(crate) revocations: Orders,
    pub(crate) clock_corrections: Orders,
    pub(crate) reanchors: Orders,
    pub(crate) disabled: Option<Revoked>,
    /// The vault asked for its next device CA, and has no grant yet.
    pub(crate) rotation: Option<Rotation>,
    pub(crate) keys: Keys,
    pub(crate) taken_back: TakenBack,
    /// The newest CRL of each device CA, by generation, and the record that says so.
    pub(crate) crls: BTreeMap<u16, (LogSequence, CrlIssued)>,
    pub(crate) clock: Clock,
    pub(crate) anchor: AnchorStated,
    pub(crate) restores: Restores,
    pub(crate) stations: Stations,
    /// The files of the log that were pruned, by their first record.
    pub(crate) pruned: BTreeMap<u64, PrunedRecords>,
    pub(crate) units: u64,
    pub(crate) unreported: Unreported,
    /// Refusals and repeated answers logged since the last bundle was sealed.
    pub(crate) answers_logged: u64,
    /// Units reserved since the last bundle was sealed.
    pub(crate) units_since_bundle: u64,
    /// The newest record that says more than that messages were carried.
    pub(crate) noteworthy: Option<u64>,
    /// The newest record by which something was reserved.
    pub(crate) newest_reservation: Option<LogSequence>,
    /// The input whose decision comes next.
    pub(crate) pending: Option<Pending>,
    pub(crate) compiled: Compiled,
}

/// What the enrolment grant brought, and the rotations after it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Enrolment {
    /// Fingerprint of the newest grant.
    pub fingerprint: Fingerprint,
    /// The certificate of the vault's identity, DER, of the newest grant.
    pub identity_certificate: Vec<u8>,
    /// The vault's device CAs, at least one; the newest is last and in force.
    pub device_cas: Vec<DeviceCa>,
    /// HQ's `serial-master`: with `vault-agree` it gives the serial key.
    pub serial_master: PublicKey,
    /// The dispatch epoch that began with the enrolment.
    pub dispatch_epoch: u64,
}

/// The dispatch that the vault takes next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NextDispatch {
    /// Its epoch; none: whichever it states, since the chain begins with it.
    pub epoch: Option<u64>,
    /// Its place within the epoch, counted from 1.
    pub sequence: u64,
    /// The fingerprint of the dispatch before it in the epoch; none of the first.
    pub previous: Option<Fingerprint>,
}

/// The chain of dispatches from HQ, as far as it was followed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DispatchChain {
    /// The epoch; none before the first dispatch.
    pub epoch: Option<u64>,
    /// The newest dispatch of that epoch, counted from 1; 0: none.
    pub sequence: u64,
    /// That dispatch's fingerprint.
    pub fingerprint: Option<Fingerprint>,
    /// Every dispatch that was followed: (epoch, sequence) to fingerprint.
    pub seen: BTreeMap<(u64, u64), Fingerprint>,
}

/// A sealed bundle.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SealedBundle {
    /// Its fingerprint.
    pub fingerprint: Fingerprint,
    /// How many records it and the bundles before it cover.
    pub log_size: u64,
}

/// The chain of bundles to HQ.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct BundleChain {
    /// The newest bundle, counted from 1; 0: none.
    pub sequence: u64,
    /// The newest bundle's fingerprint.
    pub fingerprint: Option<Fingerprint>,
    /// How many records the bundles cover.
    pub log_size: u64,
    /// The newest acknowledged bundle and all after it, by sequence.
    pub sealed: BTreeMap<u64, SealedBundle>,
    /// The newest bundle that HQ acknowledged, counted from 1; 0: none.
    pub acknowledged: u64,
    /// How many records HQ acknowledged.
    pub acknowledged_log_size: u64,
}

/// An entitlement in force.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Granted {
    /// Its version.
    pub version: u64,
    /// Fingerprint of the signed object.
    pub fingerprint: Fingerprint,
    /// Its terms.
    pub terms: Arc<Entitlement>,
    /// The record by which it was accepted.
    pub accepted_at: LogSequence,
    /// Officers ended it, for good; none while it is in force.
    pub revoked: Option<Revoked>,
    /// Every version that was accepted.
    pub(crate) versions: Orders,
}

impl Granted {
    /// Whether this very version was accepted before, be it the newest or one that another took the place of.
    pub(crate) fn has_had(&self, version: u64, fingerprint: Fingerprint) -> bool {
        self.versions.place(version, fingerprint) == Place::Again
    }
}

/// A unit that is spent and has no certificate yet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OpenReservation {
    /// Its account.
    pub account: AccountTag,
    /// Its slot.
    pub slot: u64,
    /// Its issue number.
    pub issue: u16,
    /// The device.
    pub device_id: DeviceId,
    /// SHA-256 of the device key's SubjectPublicKeyInfo.
    pub spki_sha256: Fingerprint,
    /// The only thing that may be signed for it: TBSCertificate, DER.
    pub tbs: Vec<u8>,
    /// The keys from which the device gets a secret each.
    pub keys: Vec<KeyLabel>,
    /// Whether the unit has no certificate until this is signed; false of a re-issue of one that has.
    pub unresolved: bool,
}

/// An input whose decision is the next record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Pending {
    Request { product: Sku, station: StationId },
    Dispatch(Box<Dispatch>),
    Device(Box<DeviceOrder>),
    ClockConfirm { steady: Option<Steady> },
    Station(Box<StationOrder>),
}

/// What a vault may still do before HQ must acknowledge its log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CreditLeft {
    /// Units that may be issued.
    pub units: u64,
    /// Until when, Unix seconds; none while nothing is unacknowledged, or nothing can be spent.
    pub until: Option<u64>,
}

impl CreditLeft {
    /// Whether nothing is issued at `now` before headquarters acknowledges.
    pub fn is_used_up(&self, now: u64) -> bool {
        self.units == 0 || self.until.is_some_and(|until| until < now)
    }
}

impl State {
    /// The state of an empty log.
    pub fn new() -> Self {
        Self {
            size: 0,
            frontier: Frontier::new(),
            mark: 0,
            genesis: None,
            lineage: None,
            boot: 0,
            rules_version: 0,
            trust: None,
            enrolment: None,
            dispatches: DispatchChain::default(),
            bundles: BundleChain::default(),
            entitlements: BTreeMap::new(),
            accounts: BTreeMap::new(),
            reservations: BTreeMap::new(),
            open_units: BTreeSet::new(),
            revocations: Orders::default(),
            clock_corrections: Orders::default(),
            reanchors: Orders::default(),
            disabled: None,
            rotation: None,
            keys: Keys::default(),
            taken_back: TakenBack::default(),
            crls: BTreeMap::new(),
            clock: Clock::default(),
            anchor: AnchorStated::default(),
            restores: Restores::default(),
            stations: Stations::default(),
            pruned: BTreeMap::new(),
            units: 0,
            unreported: Unreported::default(),
            answers_logged: 0,
            units_since_bundle: 0,
            noteworthy: None,
            newest_reservation: None,
            pending: None,
            compiled: Compiled::default(),
        }
    }

    /// How many records were applied.
    pub fn size(&self) -> u64 {
        self.size
    }

    /// The Merkle root of those records (RFC 9162 section 2.1).
    pub fn root(&self) -> Fingerprint {
        Fingerprint::new(self.frontier.root())
    }

    /// The right edge of the log's Merkle tree.
    pub fn tree(&self) -> &Frontier {
        &self.frontier
    }

    /// The newest time in the log, Unix seconds: no later entry lies before it.
    pub fn mark(&self) -> u64 {
        self.mark
    }

    /// How the log began; none of an empty one.
    pub fn genesis(&self) -> Option<&Genesis> {
        self.genesis.as_ref()
    }

    /// Whose log this is; none of an empty one.
    pub fn vault(&self) -> Option<&VaultName> {
        self.genesis.as_ref().map(|genesis| &genesis.vault)
    }

    /// The history that the log belongs to; none of an empty one.
    pub fn lineage(&self) -> Option<Lineage> {
        self.lineage
    }

    /// How often the log was opened to write.
    pub fn boot(&self) -> u64 {
        self.boot
    }

    /// The rules of the newest start.
    pub fn rules_version(&self) -> u32 {
        self.rules_version
    }

    /// The trust manifest that is pinned; none of an empty log.
    pub fn trust(&self) -> Option<&Trust> {
        self.trust.as_ref()
    }

    /// What the enrolment grant brought; none before it.
    pub fn enrolment(&self) -> Option<&Enrolment> {
        self.enrolment.as_deref()
    }

    /// Whether HQ has let the vault in.
    pub fn is_enrolled(&self) -> bool {
        self.enrolment.is_some()
    }

    /// The chain of dispatches from HQ.
    pub fn dispatches(&self) -> &DispatchChain {
        &self.dispatches
    }

    /// The dispatch that comes next. A manifest that states a higher epoch than the chain's begins a new chain.
    pub fn next_dispatch(&self) -> NextDispatch {
        let chain = &self.dispatches;
        let pinned = self.trust.as_ref().map_or(0, |trust| trust.dispatch_epoch);
        match chain.epoch {
            Some(epoch) if pinned > epoch => NextDispatch {
                epoch: Some(pinned),
                sequence: 1,
                previous: None,
            },
            epoch => NextDispatch {
                epoch,
                sequence: chain.sequence.saturating_add(1),
                previous: chain.fingerprint,
            },
        }
    }

    /// The number of the newest revocation that took effect; 0: none.
    pub fn revocations(&self) -> u64 {
        self.revocations.last()
    }

    /// The number of the newest clock correction that took effect; 0: none.
    pub fn clock_corrections(&self) -> u64 {
        self.clock_corrections.last()
    }

    /// The number of the newest re-anchor that took effect; 0: none.
    pub fn reanchors(&self) -> u64 {
        self.reanchors.last()
    }

    /// When and why an entitlement was revoked; none while it is in force, or if it never was.
    pub fn revoked_at(&self, entitlement: &EntitlementId) -> Option<&Revoked> {
        self.entitlements.get(entitlement)?.revoked.as_ref()
    }

    /// The device CA that the vault asked for and has not been granted yet.
    pub fn rotation_pending(&self) -> Option<Rotation> {
        self.rotation
    }

    /// The chain of bundles to HQ.
    pub fn bundles(&self) -> &BundleChain {
        &self.bundles
    }

    /// The entitlements that were accepted, by id.
    pub fn entitlements(&self) -> &BTreeMap<EntitlementId, Granted> {
        &self.entitlements
    }

    /// Every account, by tag.
    pub fn accounts(&self) -> impl Iterator<Item = &Account> {
        self.accounts.values()
    }

    /// One account.
    pub fn account(&self, tag: AccountTag) -> Option<&Account> {
        self.accounts.get(&tag)
    }

    /// Where requests for a product carry their device id, as its policy says at `time`, Unix seconds; none without an
    /// entitlement to the product. Where accounts differ, that one says it which would be spent by date: the first whose
    /// window is open, else the first that has not ended, else the last that ended. Revoked ones are asked only where there
    /// is no other.
    pub fn device_id_source(&self, product: &Sku, time: u64) -> Option<DeviceIdSource> {
        let tags = self.compiled.accounts_of(product).iter();
        let accounts: Vec<_> = tags
            .filter(|tag| self.account(**tag).is_some())
            .filter_map(|tag| {
                let terms = self.compiled.terms(*tag)?;
                let revoked = self.revoked_at(&terms.entitlement.id).is_some();
                let source = terms.product()?.device_id_source;
                Some((terms.entitlement.window, source, revoked))
            })
            .collect();
        let live = || accounts.iter().filter(|(.., revoked)| !revoked);
        let open = live().find(|(window, ..)| window.contains(time));
        let ahead = || live().find(|(window, ..)| window.until > time);
        let (_, source, _) = open
            .or_else(ahead)
            .or_else(|| live().next_back())
            .or(accounts.last())?;
        Some(*source)
    }

    /// Units that are spent and have no certificate yet.
    pub fn reservations(&self) -> &BTreeMap<LogSequence, OpenReservation> {
        &self.reservations
    }

    /// Units issued in all.
    pub fn units(&self) -> u64 {
        self.units
    }

    /// Units that HQ has not acknowledged.
    pub fn units_unreported(&self) -> u64 {
        self.unreported.count()
    }

    /// When the oldest unit that HQ has not acknowledged was issued, Unix seconds.
    pub fn oldest_unreported(&self) -> Option<u64> {
        self.unreported.oldest()
    }

    /// What is left of the credit under each entitlement that can still spend: not revoked, not over at `now`, and with
    /// something unspent. Each has its own limits, and what they limit is all that is unreported.
    pub fn credits(&self, now: u64) -> impl Iterator<Item = (&EntitlementId, CreditLeft)> {
        let unspent = |id: &EntitlementId| {
            let mut accounts = self.accounts.values();
            accounts.any(|account| account.entitlement == *id && account.unspent() > 0)
        };
        let spendable = self.entitlements.iter().filter(move |(id, granted)| {
            granted.terms.window.until > now && granted.revoked.is_none() && unspent(id)
        });
        spendable.map(|(id, granted)| {
            let credit = granted.terms.credit;
            let (units, days) = (credit.unreported_units_max, credit.unreported_days_max);
            let until = |oldest: u64| oldest.saturating_add(days.saturating_mul(SECONDS_PER_DAY));
            let left = CreditLeft {
                units: units.saturating_sub(self.unreported.count()),
                until: self.unreported.oldest().map(until),
            };
            (id, left)
        })
    }

    /// What is left of the credit in all: by the most generous of [`State::credits`]; no unit where nothing can be spent.
    pub fn credit(&self, now: u64) -> CreditLeft {
        let credits = || self.credits(now).map(|(_, credit)| credit);
        CreditLeft {
            units: credits().map(|credit| credit.units).max().unwrap_or(0),
            until: credits().filter_map(|credit| credit.until).max(),
        }
    }

    /// Whether there is something to report at `time`, Unix seconds: [`State::has_news`], or a CRL is
    /// due ([`State::crl_is_due`]).
    pub fn needs_bundle(&self, time: u64) -> bool {
        self.has_news() || self.crls_due(time).next().is_some()
    }

    /// Whether something other than the carrying of messages was logged since the last bundle was sealed.
    pub fn has_news(&self) -> bool {
        self.noteworthy
            .is_some_and(|sequence| sequence >= self.bundles.log_size)
    }

    /// Whether one more refusal or repeated answer may be logged before the next bundle.
    pub fn may_log_answer(&self) -> bool {
        self.answers_logged < ANSWERS_LOGGED_MAX.saturating_add(self.units_since_bundle)
    }

    /// Whether the last record is an input whose decision is missing. No commit group ends so.
    pub fn awaits_decision(&self) -> bool {
        self.pending.is_some()
    }

    /// Parses again what follows from the terms.
    pub(crate) fn recompile(&mut self) {
        self.compiled = Compiled::new(self.enrolment.as_deref(), &self.entitlements);
    }
}

impl Default for State {
    fn default() -> Self {
        Self::new()
    }
}

impl std::fmt::Debug for State {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("State")
            .field("vault", &self.vault())
            .field("size", &self.size)
            .field("mark", &self.mark)
            .field("units", &self.units)
            .field("accounts", &self.accounts)
            .field("reservations", &self.reservations.len())
            .finish_non_exhaustive()
    }
}
