//! The engine of a vault: it decides, writes groups of records durably, and keeps the index in step.
//!
//! The order of things, for each unit: [`Ledger::submit`] decides and stages; [`Ledger::commit`] makes what is staged
//! durable; only then may the reservation be signed; [`Ledger::signed`] stages the signature; the next commit makes it
//! durable, and only then may the certificate be released. Many units share each commit.
//!
//! In the folder of a ledger, `log/` is the record. `index/` and `state.snapshot` follow from it, and can be deleted.

mod facts;
mod index;
mod input;
mod open;
mod prune;
mod read;
mod tail;
mod verify;
mod view;

use std::collections::BTreeMap;
use std::path::PathBuf;

use mintmark_protocol::entitlement::AccountTag;
use mintmark_protocol::identifier::{Fingerprint, KeyLabel, Lineage};

use self::index::Overlay;
use self::input::{body_of, text_fits, too_large};
pub use self::open::{Floor, Opened};
pub use self::prune::Prunable;
pub use self::read::{DeviceHistory, Entries};
pub use self::tail::Tail;
pub use self::view::View;
use crate::apply::{Effect, apply};
use crate::decide::{Decision, Input, Moment, RULES_VERSION, Reservation, decide_at};
use crate::entry::{
    Body, BundleSealed, Burned, ClockFound, CrlIssued, DeviceChanged, Dispatch, ENTRY_BYTES_MAX,
    Entry, KeyReceipt, LogSequence, Rotation, Signed, Start, Trust, Verdict,
};
use crate::error::Error;
use crate::index::{Batch, IndexStore};
use crate::log::{GROUP_BYTES_MAX, GROUP_RECORDS_MAX, Head, LogStore};
use crate::refusal::Refusal;
use crate::serial::SerialCipher;
use crate::snapshot::Snapshot;
use crate::state::{Reading, State};
use crate::storage_error::{StorageError, StorageErrorClass};

/// A snapshot of the state is written after this many records, and when the ledger is closed.
pub const RECORDS_PER_SNAPSHOT: u64 = 10_000;

/// Groups are kept below these, with room for a decision that must share its input's group.
const STAGED_RECORDS_MAX: usize = GROUP_RECORDS_MAX / 2;
const STAGED_BYTES_MAX: usize = GROUP_BYTES_MAX / 2;

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

/// Something that happened and needs no decision.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Fact {
    /// A trust manifest was pinned.
    Trust(Trust),
    /// A bundle was sealed; the ledger adds how many requests it did not log.
    BundleSealed {
        /// Its place in the chain of bundles, counted from 1.
        sequence: u64,
        /// Its fingerprint.
        fingerprint: Fingerprint,
        /// How many records it and the bundles before it cover.
        log_size: u64,
    },
    /// The vault made the key of its next device CA and signed a request for it.
    Rotation(Rotation),
    /// A key of an entitlement came into the token, or could not.
    Key(KeyReceipt),
    /// A device CA of the vault signed a CRL.
    Crl(CrlIssued),
    /// The vault made a CA for its stations.
    StationCa {
        /// Its certificate, DER.
        certificate: Vec<u8>,
    },
    /// Slots are skipped that may have been spent.
    Burned(Burned),
    /// The log goes on in another lineage from here.
    Restored {
        /// The lineage in which it goes on.
        lineage: Lineage,
        /// How many records HQ holds.
        held: u64,
        /// The slot of each account below which everything may have been spent; in order of tags.
        leases: Vec<(AccountTag, u64)>,
    },
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

/// A staged record.
struct Staged {
    raw: Vec<u8>,
    entry: Entry,
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

    /// Stages something that needs no decision.
    ///
    /// # Errors
    /// [`Error::BundleSize`] if a bundle claims records that are not durable; [`Error::Input`] if it is not the next of
    /// its chain, a rotation is not to the next generation, or a key is none that an entitlement brought or may not be
    /// taken so; [`Error::Poisoned`]; as [`Ledger::commit`], when much is staged.
    pub fn record(&mut self, now: impl Into<Reading>, fact: Fact) -> Result<LogSequence, Error> {
        let now = now.into();
        self.ready(now)?;
        let body = match fact {
            Fact::Trust(trust) => Body::Trust(trust),
            Fact::Rotation(rotation) => {
                self.rotation_fits(&rotation)?;
                Body::Rotation(rotation)
            }
            Fact::Key(receipt) => {
                self.key_fits(&receipt)?;
                Body::Key(receipt)
            }
            Fact::Crl(crl) => {
                let time = self.entry(now, Body::Crl(crl)).time;
                self.crl_fits(&crl, time)?;
                Body::Crl(crl)
            }
            Fact::StationCa { certificate } => {
                self.station_ca_fits(&certificate)?;
                Body::StationCa { certificate }
            }
            Fact::Burned(burned) => {
                self.burned_fits(&burned)?;
                Body::Burned(burned)
            }
            Fact::Restored {
                lineage,
                held,
                leases,
            } => Body::Restored(self.restored(lineage, held, leases)?),
            Fact::BundleSealed {
                sequence,
                fingerprint,
                log_size,
            } => {
                let (size, chain) = (self.size(), self.state.bundles());
                if log_size > size || log_size < chain.log_size {
                    return Err(Error::BundleSize {
                        log_size,
                        size,
                        covered: chain.log_size,
                    });
                }
                let next = chain.sequence.saturating_add(1);
                if sequence != next {
                    let why = format!("bundle {sequence} is not the next one, which is {next}");
                    return Err(Error::Input { why });
                }
                let requests_unlogged = std::mem::take(&mut self.requests_unlogged);
                Body::BundleSealed(BundleSealed {
                    sequence,
                    fingerprint,
                    log_size,
                    requests_unlogged,
                })
            }
        };
        Ok(self.stage_body(now, body))
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

    /// Makes everything that is staged durable, as one group, and brings the index up to it.
    ///
    /// # Errors
    /// [`StorageError::DiskFull`] and others of class [`StorageErrorClass::Environment`]: nothing of the group is
    /// stored, and the state is as it was before the group; the reservations in it are void. Of class
    /// [`StorageErrorClass::OutcomeUnknown`]: the process must end, and opening the ledger again finds out.
    pub fn commit(&mut self) -> Result<(), Error> {
        self.usable()?;
        if self.staged.is_empty() {
            return Ok(());
        }
        let staged = std::mem::take(&mut self.staged);
        self.staged_bytes = 0;
        let (mut raws, mut entries) = (Vec::new(), Vec::new());
        for Staged { raw, entry } in staged {
            raws.push(raw);
            entries.push(entry);
        }
        let before = self.log.head();
        let positions = match self.log.append(&before, &raws) {
            Ok(positions) => positions,
            Err(error) => return Err(self.undo(error, &entries)),
        };
        self.overlay.clear();
        let mut batch = Batch::new();
        let mut indexed = Ok(());
        for ((entry, position), at) in entries.iter().zip(positions).zip(before.size..) {
            indexed = index::add(
                &mut batch,
                &*self.index,
                &self.state,
                LogSequence(at),
                position,
                entry,
            );
            if indexed.is_err() {
                break;
            }
        }
        let written = indexed.and_then(|()| Ok(self.index.write(batch, self.log.head())?));
        // The group is durable whatever became of its index, which is caught up from the log at once or before it is used.
        self.index_behind |= written.is_err();
        if self.index_behind {
            self.index_behind = self.catch_up_index().is_err();
        }
        if self.log.head().size.saturating_sub(self.checkpoint.1.size) >= RECORDS_PER_SNAPSHOT {
            self.keep_snapshot();
        }
        Ok(())
    }

    /// Forgets everything that is staged, as if nobody had asked: what was only tried must not become durable with what
    /// comes after it.
    ///
    /// # Errors
    /// [`Error::Poisoned`] if what is durable cannot be read again.
    pub fn forget_staged(&mut self) -> Result<(), Error> {
        self.usable()?;
        if self.staged.is_empty() {
            return Ok(());
        }
        let staged = std::mem::take(&mut self.staged);
        self.staged_bytes = 0;
        let lost: Vec<Entry> = staged.into_iter().map(|staged| staged.entry).collect();
        self.roll_back(&lost)
    }

    /// Whether it can be used: no more, once an append failed of which nobody knows what it stored. Opening it again finds
    /// out.
    pub fn is_usable(&self) -> bool {
        !self.poisoned
    }

    /// Closes the ledger: what is staged is committed, and what follows from the log is kept for the next time.
    ///
    /// # Errors
    /// As [`Ledger::commit`]. That the index or the snapshot could not be kept is no error: both follow from the log.
    pub fn close(mut self) -> Result<(), Error> {
        self.commit()?;
        self.keep_snapshot();
        let _ = self.index.flush();
        Ok(())
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

    /// Before anything is staged: the ledger is usable, there is room, and the start of this process is on record.
    fn ready(&mut self, now: Reading) -> Result<(), Error> {
        self.usable()?;
        if self.index_behind {
            self.catch_up_index()?;
            self.index_behind = false;
        }
        if self.staged.len() >= STAGED_RECORDS_MAX || self.staged_bytes >= STAGED_BYTES_MAX {
            self.commit()?;
        }
        if !self.started {
            let lineage = self.state.lineage().ok_or_else(|| Error::Input {
                why: "the log has no genesis record".to_owned(),
            })?;
            self.started = true;
            let start = Start {
                lineage,
                boot: self.state.boot().saturating_add(1),
                rules_version: RULES_VERSION,
                software: self.software.clone(),
                steady: now.steady,
                anchor: self.anchor,
            };
            self.stage_body(now, Body::Start(start));
        }
        self.watch_clock(now);
        Ok(())
    }

    /// Puts on record that the clock is not believed from here on, or is again.
    fn watch_clock(&mut self, now: Reading) {
        let Some((believed, expected)) = self.state.clock_due(now) else {
            return;
        };
        let found = ClockFound {
            believed,
            expected,
            steady: now.steady,
        };
        self.stage_body(now, Body::Clock(found));
    }

    fn entry(&self, now: Reading, body: Body) -> Entry {
        let time = self.state.time_at(now);
        let behind = i128::from(time) - i128::from(now.clock);
        Entry {
            time,
            clock_behind_seconds: i64::try_from(behind).unwrap_or(i64::MIN),
            body,
        }
    }

    fn stage_body(&mut self, now: Reading, body: Body) -> LogSequence {
        let entry = self.entry(now, body);
        let raw = entry.to_cbor();
        self.stage(entry, raw)
    }

    fn stage(&mut self, entry: Entry, raw: Vec<u8>) -> LogSequence {
        debug_assert_eq!(Entry::from_cbor(&raw).ok().as_ref(), Some(&entry));
        let sequence = LogSequence(self.state.size());
        if let Some(Effect::Reserved(record)) = apply(&mut self.state, &raw, &entry) {
            self.overlay.add(record);
        }
        self.staged_bytes = self.staged_bytes.saturating_add(raw.len());
        self.staged.push(Staged { raw, entry });
        sequence
    }

    /// An append failed: either the state goes back to what is durable, or nobody knows what that is.
    fn undo(&mut self, error: StorageError, lost: &[Entry]) -> Error {
        if error.class() == StorageErrorClass::OutcomeUnknown {
            self.overlay.clear();
            self.poisoned = true;
            return error.into();
        }
        match self.roll_back(lost) {
            Ok(()) => error.into(),
            Err(poisoned) => poisoned,
        }
    }

    /// Brings the state back to what is durable, without these entries, which are not.
    fn roll_back(&mut self, lost: &[Entry]) -> Result<(), Error> {
        self.overlay.clear();
        for entry in lost {
            if let Body::BundleSealed(sealed) = &entry.body {
                self.requests_unlogged = self
                    .requests_unlogged
                    .saturating_add(sealed.requests_unlogged);
            }
        }
        let (state, head) = &self.checkpoint;
        let mut state = state.clone();
        let head = *head;
        if open::apply_from(&*self.log, &mut state, &head).is_err() {
            self.poisoned = true;
            return Err(Error::Poisoned);
        }
        // The start that was staged may be gone with the rest.
        self.started = self.started && state.boot() == self.state.boot();
        self.state = state;
        let open = self.state.reservations();
        self.in_hand
            .retain(|reservation, _| open.contains_key(reservation));
        Ok(())
    }

    /// Keeps the state as a file and as the place to undo to. Nothing may be staged. A snapshot that cannot be written
    /// is missed by nobody: opening then reads more of the log.
    fn keep_snapshot(&mut self) {
        let head = self.log.head();
        if self.state.size() == head.size && self.checkpoint.1 != head {
            self.checkpoint = (self.state.clone(), head);
        }
        if let Some(path) = &self.snapshot
            && self.checkpoint.1 == head
        {
            let _ = Snapshot::write(path, &self.checkpoint.0, &head);
        }
    }
}
