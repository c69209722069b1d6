//! What the log says of the anchor in the vault's token: the highest counter that it states, and what officers' word for a
//! lost anchor costs.
//!
//! The anchor leases slots, and what it says of them is not in the log. So when officers vouch for the head of a vault that
//! has lost its anchor, nobody knows what was leased: all that could have been is skipped, and HQ expects exactly that.

use super::{Account, State};
use crate::entry::{Burned, BurnedSlots, LogSequence};

/// What the log says of the anchor.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct AnchorStated {
    /// The highest counter; 0: none.
    pub(crate) counter: u64,
    /// The record that states it.
    pub(crate) at: LogSequence,
    /// The process that wrote last had no valid anchor, and earlier ones had.
    pub(crate) missing: bool,
    /// Officers vouched for the head while there was none: these slots are to be burned before anything is issued.
    pub(crate) due: Option<Vec<BurnedSlots>>,
}

impl State {
    /// The highest counter of the token's anchor that the log states; 0: none.
    pub fn anchor(&self) -> u64 {
        self.anchor.counter
    }

    /// The record that states the highest counter of the anchor.
    pub fn anchor_stated_at(&self) -> Option<LogSequence> {
        (self.anchor.counter > 0).then_some(self.anchor.at)
    }

    /// The slots that are to be burned before anything is issued, because officers vouched for the head of a log whose
    /// anchor was lost: as many as could have been leased. None where officers did not, or where it is done.
    pub fn leases_unknown(&self) -> Option<&[BurnedSlots]> {
        self.anchor.due.as_deref()
    }

    /// The most slots of an account that one anchor may lease, 0 where no entitlement says so.
    pub fn anchor_lease_max(&self, account: &Account) -> u64 {
        let granted = self.entitlements.get(&account.entitlement);
        granted.map_or(0, |granted| granted.terms.anchor_lease_max)
    }

    /// Where the longest lease of an account ends that could be given now: the slot after its last.
    pub fn lease_end(&self, account: &Account) -> u64 {
        let end = account
            .next_slot
            .saturating_add(self.anchor_lease_max(account));
        end.min(account.authorised).max(account.next_slot)
    }

    /// A process begins to write, with the anchor of this counter.
    pub(crate) fn note_anchor(&mut self, at: LogSequence, counter: Option<u64>) {
        let Some(counter) = counter else {
            self.anchor.missing = self.anchor.counter > 0;
            return;
        };
        self.state_anchor(at, counter);
        if self.anchor.due.as_ref().is_some_and(Vec::is_empty) {
            self.anchor.due = None;
        }
    }

    /// Officers vouch for the head of the log. Of a vault that has its anchor, that changes nothing.
    pub(crate) fn note_reanchor(&mut self) {
        if !self.anchor.missing {
            return;
        }
        let live = self.accounts.values().filter(|account| {
            let granted = self.entitlements.get(&account.entitlement);
            granted.is_some_and(|granted| granted.revoked.is_none())
        });
        let leases = live.map(|account| BurnedSlots {
            account: account.tag,
            first: account.next_slot,
            end: self.lease_end(account),
        });
        self.anchor.due = Some(leases.filter(|slots| slots.first < slots.end).collect());
    }

    pub(crate) fn note_burned(&mut self, at: LogSequence, burned: &Burned) {
        self.state_anchor(at, burned.anchor);
        if let Some(due) = &mut self.anchor.due {
            due.retain(|slots| !burned.slots.contains(slots));
            if due.is_empty() {
                self.anchor.due = None;
            }
        }
    }

    fn state_anchor(&mut self, at: LogSequence, counter: u64) {
        self.anchor.missing = false;
        if counter > self.anchor.counter {
            self.anchor.counter = counter;
            self.anchor.at = at;
        }
    }

    /// Whether slots may be skipped, or why not: the next ones of each account, no more than were leased, and none beyond
    /// what is authorised; after officers vouched for the head, exactly those that could have been leased then.
    pub(crate) fn burned_fits(&self, burned: &Burned) -> Result<(), String> {
        let stated = self.anchor.counter;
        if burned.anchor < stated {
            return Err(format!(
                "the anchor's counter {} is below {stated}, which the log states",
                burned.anchor
            ));
        }
        for slots in &burned.slots {
            let tag = slots.account;
            let Some(account) = self.account(tag) else {
                return Err(format!("there is no account {tag}"));
            };
            if let Some(fits) = self.doubt_fits(slots) {
                fits?;
                continue;
            }
            let (first, end, exactly) = match &self.anchor.due {
                Some(due) => {
                    let due = due.iter().find(|due| due.account == tag);
                    let due = due.ok_or_else(|| {
                        format!("no slots of account {tag} were leased that nobody knows of")
                    })?;
                    (due.first, due.end, true)
                }
                None => (account.next_slot, self.lease_end(account), false),
            };
            let fits = slots.first == first
                && if exactly {
                    slots.end == end
                } else {
                    slots.end <= end
                };
            if !fits {
                return Err(format!(
                    "slots {} to {} of account {tag} were not the ones that were leased, which are within {first} to {end}",
                    slots.first, slots.end
                ));
            }
        }
        Ok(())
    }

    /// Whether the vault may answer a request, or why not: what it releases is covered by an anchor, and what may have been
    /// released under one that was lost was skipped.
    pub(crate) fn may_answer(&self) -> Result<(), String> {
        if self.anchor.missing {
            return Err("the token held no valid anchor when this process began".to_owned());
        }
        if let Some(slots) = self.in_doubt().first() {
            return Err(format!(
                "slots {} to {} of account {}, which a history that was lost may have spent, were not skipped",
                slots.first, slots.end, slots.account
            ));
        }
        match self.anchor.due.as_deref() {
            None | Some([]) => Ok(()),
            Some(due) => Err(format!(
                "slots of {} accounts that may have been leased were not skipped",
                due.len()
            )),
        }
    }
}
