//! The engine of a vault: it decides, writes groups of records durably, and keeps the index in step.
//!
//! The order of things, for each unit: [`Ledger::submit`] decides and stages; [`Ledger::commit`] makes what is staged
//! durable; only then may the reservation be signed; [`Ledger::signed`] stages the signature; the next commit makes it
//! durable, and only then may the certificate be released. Many units share each commit.
//!
//! In the folder of a ledger, `log/` is the record. `index/` and `state.snapshot` follow from it, and can be deleted.

mod commit;
mod facts;
mod index;
mod input;
mod open;
mod prune;
mod read;
mod stage;
mod tail;
mod verify;
mod view;

use std::collections::BTreeMap;
use std::path::PathBuf;

use mintmark_protocol::entitlement::AccountTag;
use mintmark_protocol::identifier::KeyLabel;

pub use self::commit::RECORDS_PER_SNAPSHOT;
pub use self::facts::Fact;
use self::index::{Overlay, Underway};
use self::input::{body_of, text_fits, too_large};
pub use self::open::{Floor, Opened};
pub use self::prune::Prunable;
pub use self::read::{DeviceHistory, Entries};
use self::stage::Staged;
pub use self::tail::Tail;
pub use self::view::View;
use crate::decide::{Decision, Input, Moment, Reservation, decide_at};
use crate::entry::{
    Body, DeviceChanged, Dispatch, ENTRY_BYTES_MAX, Entry, LogSequence, Signed, Verdict,
};
use crate::error::Error;
use crate::index::IndexStore;
use crate::log::{Head, LogStore};
use crate::refusal::Refusal;
use crate::serial::SerialCipher;
use crate::state::{Reading, State};

/// What became of an input. Nothing of it is durable before the next [`Ledger::commit`].
#[derive(Debug)]
#[must_use]
pub enum Outcome {
    /// A unit is spent; once committed, the reservation may be signed.
    Reserved(Reservation),
    /// The request was answered before, by this reservation.
    Existing {
        /// The `Reserved` record; [`Ledger::certificate`] has its certificate, unless it is still open.
        reservation: LogSequence,
    },
    /// The request or the dispatch is refused.
    Refused(Refusal),
    /// The dispatch's content is in force; the clock is believed.
    Accepted,
    /// It is so with the device.
    DeviceChanged(DeviceChanged),
}

/// A reservation without a certificate, after a crash for instance: signing its pinned certificate completes it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unfinished {
    /// Which reservation.
    pub reservation: LogSequence,
    /// What is to be signed: TBSCertificate, DER.
    pub tbs: Vec<u8>,
    /// The keys from which the device gets a secret each.
    pub keys: Vec<KeyLabel>,
}

/// One vault's ledger, open for writing. One process at a time holds it.
pub struct Ledger {
    log: Box<dyn LogStore>,
    index: Box<dyn IndexStore>,
    snapshot: Option<PathBuf>,
    software: String,
    /// With everything that is staged.
    state: State,
    /// The state at some durable head, from which an append that failed is undone.
    checkpoint: (State, Head),
    staged: Vec<Staged>,
    staged_bytes: usize,
    overlay: Overlay,
    started: bool,
    /// The counter of the token's anchor, which the start of this process states.
    anchor: Option<u64>,
    /// Reservations that this process made and has not signed for yet: nobody has to resolve them but itself.
    in_hand: BTreeMap<LogSequence, AccountTag>,
    underway: Underway,
    requests_unlogged: u64,
    /// An append failed, and what it stored is unknown.
    poisoned: bool,
    /// The index missed a group and is caught up before anything is decided by it.
    index_behind: bool,
}

impl Ledger {
    /// The state, with everything that is staged.
    pub fn state(&self) -> &State {
        &self.state
    }

    /// States the counter of the anchor that the token holds; the start of this process puts it on record.
    pub fn set_anchor(&mut self, counter: u64) {
        self.anchor = Some(counter);
    }

    /// The head of what is durable, as an anchor outside this folder keeps it.
    pub fn floor(&self) -> Floor {
        let head = self.log.head();
        Floor {
            size: head.size,
            link: head.link,
        }
    }

    /// How many records are durable.
    pub fn size(&self) -> u64 {
        self.log.head().size
    }

    /// Whether something is staged that is not durable yet.
    pub fn has_staged(&self) -> bool {
        !self.staged.is_empty()
    }

    /// How many records are staged.
    pub fn staged(&self) -> usize {
        self.staged.len()
    }

    /// Requests that were answered and not logged since the last bundle, because the cap was reached.
    pub fn requests_unlogged(&self) -> u64 {
        self.requests_unlogged
    }

    /// Decides on an input and stages both. `now` is what the clock says, Unix seconds; `serials` may be absent until
    /// the vault is enrolled.
    ///
    /// A refusal or a repeated answer beyond the cap on those ([`crate::state::ANSWERS_LOGGED_MAX`]) is given and not
    /// logged, only counted.
    ///
    /// # Errors
    /// [`Error::Decide`] and [`Error::Storage`] if the index or the log cannot be read; [`Error::Input`] for texts that
    /// no entry can hold; [`Error::Poisoned`]. Nothing is staged then. Also as [`Ledger::commit`], when so much is staged
    /// that it has to be committed first.
    pub fn submit(
        &mut self,
        serials: Option<&SerialCipher>,
        now: impl Into<Reading>,
        input: Input<'_>,
    ) -> Result<Outcome, Error> {
        let now = now.into();
        self.ready(now)?;
        let substitute;
        let mut input = input;
        if let Input::Station(order) = input {
            self.station_fits(order)?;
        }
        let mut entry = self.entry(now, body_of(input, now.steady)?);
        let mut raw = entry.to_cbor();
        if raw.len() > ENTRY_BYTES_MAX {
            let Input::Dispatch(dispatch) = input else {
                return Err(too_large(raw.len()));
            };
            // The dispatch is authentic and has its place in the chain; what it brings cannot be recorded, so it
            // cannot be accepted.
            substitute = Dispatch {
                content: Verdict::Rejected {
                    code: "CONTENT-OVERSIZE".to_owned(),
                },
                ..dispatch.clone()
            };
            input = Input::Dispatch(&substitute);
            entry = self.entry(now, Body::Dispatch(substitute.clone()));
            raw = entry.to_cbor();
        }
        let moment = Moment {
            time: entry.time,
            clock: entry.clock(),
        };
        let decision = decide_at(&self.state, &self.lookup(), serials, moment, input)?;
        let repeated = matches!(decision, Decision::Refuse(_) | Decision::Existing { .. });
        if repeated && !self.state.may_log_answer() {
            self.requests_unlogged = self.requests_unlogged.saturating_add(1);
        } else {
            let body = decision.to_body();
            let decided = Entry { body, ..entry };
            self.stage(entry, raw);
            let raw = decided.to_cbor();
            self.stage(decided, raw);
        }
        Ok(match decision {
            Decision::Reserve(reservation) => {
                // Of a re-issue, the unit is signed for already, or is not in hand.
                if reservation.reserved().issue == 0 {
                    let account = reservation.reserved().account;
                    self.in_hand.insert(reservation.sequence(), account);
                }
                Outcome::Reserved(reservation)
            }
            Decision::Existing { reservation } => Outcome::Existing { reservation },
            Decision::Refuse(refusal) | Decision::RefuseDispatch(refusal) => {
                Outcome::Refused(self.without_in_hand(refusal))
            }
            Decision::AcceptDispatch | Decision::ConfirmClock | Decision::ChangeStation => {
                Outcome::Accepted
            }
            Decision::ChangeDevice(changed) => Outcome::DeviceChanged(changed),
        })
    }

    /// Stages the signature of a committed reservation, which this consumes. That the signature is valid is for the
    /// caller to verify first.
    ///
    /// # Errors
    /// [`Error::ReservationNotDurable`] if it was not committed; [`Error::ReservationUnknown`] if it is not open;
    /// [`Error::ReservationWithheld`] if officers ended what it belongs to; [`Error::Poisoned`]; as [`Ledger::commit`], when much is staged.
    pub fn signed(
        &mut self,
        now: impl Into<Reading>,
        reservation: Reservation,
        signature: [u8; 64],
    ) -> Result<LogSequence, Error> {
        let open = self.state.reservations().get(&reservation.sequence());
        if open.is_none_or(|open| open.tbs != reservation.tbs()) {
            let reservation = reservation.sequence();
            return Err(Error::ReservationUnknown { reservation });
        }
        self.signed_unfinished(now, reservation.sequence(), signature)
    }

    /// Stages the signature of a reservation that [`Ledger::unfinished`] named: of the very certificate that it pins.
    ///
    /// # Errors
    /// As [`Ledger::signed`].
    pub fn signed_unfinished(
        &mut self,
        now: impl Into<Reading>,
        reservation: LogSequence,
        signature: [u8; 64],
    ) -> Result<LogSequence, Error> {
        let now = now.into();
        self.ready(now)?;
        if !self.state.reservations().contains_key(&reservation) {
            return Err(Error::ReservationUnknown { reservation });
        }
        if reservation.number() >= self.size() {
            return Err(Error::ReservationNotDurable { reservation });
        }
        if let Some(refusal) = self.state.withheld(reservation) {
            return Err(Error::ReservationWithheld {
                reservation,
                refusal: Box::new(refusal),
            });
        }
        self.in_hand.remove(&reservation);
        Ok(self.stage_body(
            now,
            Body::Signed(Signed {
                reservation,
                signature,
            }),
        ))
    }

    /// Whether it can be used: no more, once an append failed of which nobody knows what it stored. Opening it again finds
    /// out.
    pub fn is_usable(&self) -> bool {
        !self.poisoned
    }

    /// The reservations that have no certificate, oldest first: signing each one's pinned certificate completes it.
    /// Those that are not durable yet are not among them, nor those that officers have ended ([`State::withheld`]).
    pub fn unfinished(&self) -> Vec<Unfinished> {
        let durable = LogSequence(self.size());
        let open = self.state.reservations().range(..durable);
        open.filter(|(reservation, open)| self.state.withheld_open(**reservation, open).is_none())
            .map(|(reservation, open)| Unfinished {
                reservation: *reservation,
                tbs: open.tbs.clone(),
                keys: open.keys.clone(),
            })
            .collect()
    }

    #[cfg(test)]
    pub(crate) fn state_mut(&mut self) -> &mut State {
        &mut self.state
    }

    /// A refusal whose count of unresolved reservations leaves out those that are about to be signed for.
    fn without_in_hand(&self, mut refusal: Refusal) -> Refusal {
        if let Refusal::QuotaExhausted {
            entitlement,
            sku,
            unresolved,
            ..
        } = &mut refusal
        {
            let of_account = |tag: &&AccountTag| {
                self.state.account(**tag).is_some_and(|account| {
                    account.entitlement == *entitlement && account.sku == *sku
                })
            };
            let in_hand = self.in_hand.values().filter(of_account).count() as u64;
            *unresolved = unresolved.saturating_sub(in_hand);
        }
        refusal
    }

    fn usable(&self) -> Result<(), Error> {
        if self.poisoned {
            Err(Error::Poisoned)
        } else {
            Ok(())
        }
    }
}
