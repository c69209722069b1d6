//! The anchor: what the vault's token knows of its log. A home folder can be copied and put back; the token is elsewhere,
//! and what it holds only ever moves on. So a home that is older than its token is found out before anything is added to it.
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

mod codec;
mod examination;
mod holding;

use mintmark_keys::{Alternating, KeyStore};
use mintmark_ledger::entry::BurnedSlots;
use mintmark_ledger::ledger::{Floor, Ledger};
use mintmark_ledger::state::{Account, State};
use mintmark_protocol::encryption::random;

pub(crate) use codec::Anchor;
pub(super) use codec::counter_of;
pub(crate) use examination::{Found, Inspected, find, inspect, lease_in_words, refuse_existing};
pub(super) use examination::{Trouble, examine, expect_own, of_another, open_ledger};
pub(crate) use holding::burned_in_words;
pub(super) use holding::{CoveredBy, Holding, Renewal};

use crate::failure::{Error, Result};

/// The label of the anchor in the token.
pub(crate) const LABEL: &str = "mintmark-anchor";

/// The code of an anchor that somebody else wrote meanwhile.
const ANCHOR_MOVED: &str = "ANCHOR-MOVED";

/// The counter of the first anchor.
pub(super) const FIRST_COUNTER: u64 = 1;

impl Anchor {
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
            drawn: Some(random()?),
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

/// Writes the first anchor of a log that was just made.
///
/// # Errors
/// What the store fails with.
pub(crate) fn write_first(store: &dyn KeyStore, anchor: &Anchor) -> Result<()> {
    let written = Alternating::new(store, LABEL).write(None, &anchor.to_cbor(), counter_of);
    written.map_err(|error| of_writing(error, anchor.counter))
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
