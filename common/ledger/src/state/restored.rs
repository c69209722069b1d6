//! What the log says of declared restores: which lineages it went through, and which slots may have been spent in a
//! history that was lost.
//!
//! The token knows below which slot of each account something may have been released, and the log does not say what. All
//! of those slots are skipped before anything is issued again. An account that the lost history alone knew, or its terms,
//! comes back with HQ's dispatches: its slots are skipped as soon as it is there.

use std::collections::BTreeMap;

use mintmark_protocol::entitlement::AccountTag;
use mintmark_protocol::identifier::Lineage;

use super::State;
use crate::entry::{BurnedSlots, Restored};

/// What the log says of declared restores.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Restores {
    /// The lineages before, oldest first.
    pub(crate) parents: Vec<Lineage>,
    /// The slot of each account below which everything may have been spent in a history that was lost.
    pub(crate) leases: BTreeMap<AccountTag, u64>,
}

impl State {
    /// The lineage in which the log went on before the one it is of; none if there was no restore.
    pub fn parent(&self) -> Option<Lineage> {
        self.restores.parents.last().copied()
    }

    /// The lineages that the log went through before the one it is of, oldest first.
    pub fn parents(&self) -> &[Lineage] {
        &self.restores.parents
    }

    /// The slots that are to be skipped before anything is issued, because a history that was lost may have spent them.
    pub fn in_doubt(&self) -> Vec<BurnedSlots> {
        let leases = self.restores.leases.keys();
        leases.filter_map(|tag| self.in_doubt_of(*tag)).collect()
    }

    fn in_doubt_of(&self, tag: AccountTag) -> Option<BurnedSlots> {
        let account = self.account(tag)?;
        let lease = *self.restores.leases.get(&tag)?;
        let (first, end) = (account.next_slot, lease.min(account.authorised));
        let account = tag;
        (first < end).then_some(BurnedSlots {
            account,
            first,
            end,
        })
    }

    /// Whether slots may be skipped because of a restore: exactly those that are in doubt. None where none of the account
    /// are.
    pub(super) fn doubt_fits(&self, slots: &BurnedSlots) -> Option<Result<(), String>> {
        let due = self.in_doubt_of(slots.account)?;
        Some(if due == *slots {
            Ok(())
        } else {
            Err(format!(
                "slots {} to {} of account {} were not the ones in doubt, which are {} to {}",
                slots.first, slots.end, slots.account, due.first, due.end
            ))
        })
    }

    /// The log goes on in another lineage.
    pub(crate) fn note_restored(&mut self, restored: &Restored) {
        self.restores.parents.extend(self.lineage);
        self.lineage = Some(restored.lineage);
        for (account, end) in &restored.leases {
            let lease = self.restores.leases.entry(*account).or_default();
            *lease = (*lease).max(*end);
        }
    }
}
