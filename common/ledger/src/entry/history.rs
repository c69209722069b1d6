//! What the log says of itself: how it begins, who writes it by which clock and trust, what left it, and what was lost.

use mintmark_protocol::entitlement::AccountTag;
use mintmark_protocol::identifier::{Fingerprint, Lineage, VaultName};

/// How a vault's log begins.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Genesis {
    /// Whose log this is.
    pub vault: VaultName,
    /// The random name of this history.
    pub lineage: Lineage,
    /// Version of the trust manifest that was pinned at `site init`.
    pub trust_version: u64,
    /// Its fingerprint.
    pub trust_fingerprint: Fingerprint,
    /// Fingerprint of the enrolment request that the vault signed.
    pub enrolment_fingerprint: Fingerprint,
    /// The program that wrote it, such as `site 0.1.0`.
    pub software: String,
}

/// A process begins to write.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Start {
    /// The history that it continues.
    pub lineage: Lineage,
    /// How often the log was opened to write, this time included.
    pub boot: u64,
    /// The rules by which it decides: [`crate::decide::RULES_VERSION`] of that program.
    pub rules_version: u32,
    /// The program, such as `site 0.1.0`.
    pub software: String,
    /// What the machine's own clock said.
    pub steady: Option<Steady>,
    /// The counter of the anchor that the token held; none where there is no anchor.
    pub anchor: Option<u64>,
}

/// What a machine's own clock says, which nobody can set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Steady {
    /// Which boot of the machine it counts from: random.
    pub boot: [u8; 16],
    /// Seconds since then, those included in which the machine slept.
    pub seconds: u64,
}

/// What the vault found of its clock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ClockFound {
    /// Whether it is believed again; otherwise it is not believed from here on.
    pub believed: bool,
    /// What it should say, or the latest that it may say, Unix seconds.
    pub expected: u64,
    /// What the machine's own clock says.
    pub steady: Option<Steady>,
}

/// A trust manifest that was pinned.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Trust {
    /// Its version.
    pub version: u64,
    /// Its fingerprint.
    pub fingerprint: Fingerprint,
    /// The dispatch epoch that it states: if it is above that of the vault's chain, a new chain begins.
    pub dispatch_epoch: u64,
}

/// A bundle that can now leave the vault.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BundleSealed {
    /// Its place in the chain of bundles, counted from 1.
    pub sequence: u64,
    /// Its fingerprint.
    pub fingerprint: Fingerprint,
    /// How many records of the log it and the bundles before it cover.
    pub log_size: u64,
    /// How many requests were answered and not logged since the bundle before, because the cap was reached.
    pub requests_unlogged: u64,
}

/// Slots that are skipped after a stop that was not clean.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Burned {
    /// The counter of the anchor that leased them.
    pub anchor: u64,
    /// Which, by account; at least one.
    pub slots: Vec<BurnedSlots>,
}

/// Slots of one account, one after the other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BurnedSlots {
    /// The account.
    pub account: AccountTag,
    /// The first of them.
    pub first: u64,
    /// The one after the last.
    pub end: u64,
}

/// A restore that was declared: from here on the log is of another lineage.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Restored {
    /// The lineage before.
    pub parent: Lineage,
    /// How many records of it there are, this one not counted.
    pub size: u64,
    /// Their root.
    pub root: Fingerprint,
    /// The lineage from here on.
    pub lineage: Lineage,
    /// How many records HQ holds: what the first bundle of the lineage begins after. At most `size`.
    pub held: u64,
    /// The slot of each account below which everything may have been spent, as the token's anchor said when the restore was
    /// declared; in order of tags.
    pub leases: Vec<(AccountTag, u64)>,
}
