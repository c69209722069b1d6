//! The desk: what stations want of the vault, and what the operator at its console wants, until the vault comes round.
//!
//! It is bounded: each station may have so many wants waiting, and all of them together so many; whoever comes then is sent
//! away at once and told when to come again. Stations are served in turn, one want of each after the other, so that a
//! station that floods waits behind itself and nobody else does.

use std::collections::{BTreeMap, VecDeque};
use std::sync::mpsc::{self, RecvTimeoutError, Sender};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

use mintmark_console::Failure;
use mintmark_ledger::entry::DeviceOrder;
use mintmark_ledger::ledger::DeviceHistory;
use mintmark_ledger::refusal::Refusal;
use mintmark_protocol::identifier::{DeviceId, Sku, StationId};
use tokio::sync::oneshot;

use crate::failure::Error;
use crate::submission::Submission;
use crate::vault::{Answer, SealedSecret, Vault};

/// How many wants of one station may wait.
pub(crate) const WAITING_PER_STATION_MAX: usize = 256;

/// How many wants may wait in all.
pub(crate) const WAITING_MAX: usize = 4096;

/// How many borrowers may wait.
const BORROWERS_MAX: usize = 64;

/// How long somebody at the console waits for the vault.
const LENDING_PATIENCE: Duration = Duration::from_secs(60);

/// After how many seconds whoever was sent away may come again.
const BUSY_SECONDS: u64 = 1;

/// What a station wants of the vault.
#[derive(Debug)]
pub(crate) enum Want {
    /// A certificate.
    Certificate {
        /// For what product.
        product: Sku,
        /// The request, its proof of possession checked.
        submission: Submission,
        /// The device may have a certificate already, for another key: that is given up first, as far as the policy allows
        /// reworks.
        again: bool,
    },
    /// A device is scrapped, voided, or allowed another certificate.
    Device(DeviceOrder),
    /// What the log holds of a device.
    History {
        /// Of one product, or of all.
        product: Option<Sku>,
        /// The device.
        device_id: DeviceId,
    },
}

/// What a station is given.
#[derive(Debug)]
pub(crate) enum Given {
    /// To [`Want::Certificate`].
    Certificate {
        /// What came of it.
        answer: Answer,
        /// The device CA and the root, DER; empty where there is no certificate.
        chain: Vec<Vec<u8>>,
        /// The secrets that go with the certificate.
        secrets: Vec<SealedSecret>,
    },
    /// To [`Want::Device`]: the device's newest issue, or why nothing was changed.
    Device(Result<Option<DeviceHistory>, Refusal>),
    /// To [`Want::History`], oldest first within each product, with what became of each.
    History(Vec<(DeviceHistory, &'static str)>),
}

/// Why somebody was not answered. Nothing was spent on it that asking again does not find.
#[derive(Clone, Debug)]
pub(crate) enum Unanswered {
    /// Too many wait already.
    Busy {
        /// When to come again.
        retry_after_seconds: u64,
    },
    /// The vault cannot do it now.
    Unavailable {
        /// Why.
        failure: Failure,
        /// When to come again.
        retry_after_seconds: u64,
    },
    /// The service is being stopped.
    Draining,
}

/// What waits, and who waits for it.
pub(crate) struct Waiting {
    /// Who wants it.
    pub(crate) station: StationId,
    /// What.
    pub(crate) want: Want,
    /// Where the answer goes.
    pub(crate) answer: Answering,
}

/// Where an answer goes. Dropped without one, it says that the vault is not there.
pub(crate) struct Answering(oneshot::Sender<Result<Given, Unanswered>>);

impl Answering {
    /// Answers. Whoever has gone meanwhile asks again.
    pub(crate) fn answer(self, given: Result<Given, Unanswered>) {
        let _ = self.0.send(given);
    }

    /// Whether whoever asked has gone meanwhile.
    pub(crate) fn is_gone(&self) -> bool {
        self.0.is_closed()
    }
}

/// The vault, lent to another thread. Dropped, it goes back; in a panic it does not, and is opened anew.
pub(crate) struct Loan {
    vault: Option<Vault<'static>>,
    back: Sender<Vault<'static>>,
}

impl Loan {
    /// Lends a vault. It comes back through what is given, or not at all.
    pub(crate) fn of(vault: Vault<'static>) -> (Self, mpsc::Receiver<Vault<'static>>) {
        let (back, returned) = mpsc::channel();
        let vault = Some(vault);
        (Self { vault, back }, returned)
    }

    /// The vault.
    ///
    /// # Errors
    /// Never: it is there until the loan is dropped.
    pub(crate) fn vault(&mut self) -> Result<&mut Vault<'static>, Error> {
        self.vault
            .as_mut()
            .ok_or_else(|| Error::unknown("INTERNAL", "a vault that was lent is not there"))
    }
}

impl Drop for Loan {
    fn drop(&mut self) {
        if let Some(vault) = self.vault.take()
            && !thread::panicking()
        {
            let _ = self.back.send(vault);
        }
    }
}

/// To whom the vault is lent, or why it is not.
pub(crate) type Borrower = Sender<Result<Loan, Failure>>;

/// What the vault does next.
pub(crate) enum Next {
    /// It is lent.
    Lend(Borrower),
    /// Wants, in the order in which they are answered.
    Round(Vec<Waiting>),
    /// Nothing came within the time.
    Nothing,
    /// Nothing will come any more.
    Over,
}

/// Shared by everybody who asks and the one who answers.
#[derive(Default)]
pub(crate) struct Desk {
    queues: Mutex<Queues>,
    arrived: Condvar,
}

#[derive(Default)]
struct Queues {
    wants: BTreeMap<StationId, VecDeque<Waiting>>,
    /// The stations of which something waits, each once, in the order of their turns.
    turns: VecDeque<StationId>,
    waiting: usize,
    borrowers: VecDeque<Borrower>,
    draining: bool,
}

impl Desk {
    /// Puts a want where the vault finds it. The answer comes through what is given.
    ///
    /// # Errors
    /// [`Unanswered::Busy`] if too many wait; [`Unanswered::Draining`].
    pub(crate) fn ask(
        &self,
        station: &StationId,
        want: Want,
    ) -> Result<oneshot::Receiver<Result<Given, Unanswered>>, Unanswered> {
        let mut queues = self.queues();
        if queues.draining {
            return Err(Unanswered::Draining);
        }
        let of_station = queues.wants.get(station).map_or(0, VecDeque::len);
        if of_station >= WAITING_PER_STATION_MAX || queues.waiting >= WAITING_MAX {
            return Err(Unanswered::Busy {
                retry_after_seconds: BUSY_SECONDS,
            });
        }
        let (sender, receiver) = oneshot::channel();
        let waiting = Waiting {
            station: station.clone(),
            want,
            answer: Answering(sender),
        };
        if of_station == 0 {
            queues.turns.push_back(station.clone());
        }
        let queue = queues.wants.entry(station.clone()).or_default();
        queue.push_back(waiting);
        queues.waiting += 1;
        drop(queues);
        self.arrived.notify_one();
        Ok(receiver)
    }

    /// Borrows the vault, before the next round.
    ///
    /// # Errors
    /// SERVICE-BUSY if it is not there in time; SERVICE-STOPPING; why it is not open.
    pub(crate) fn borrow(&self) -> Result<Loan, Error> {
        let (borrower, lent) = mpsc::channel();
        self.push(borrower).map_err(|why| match why {
            Unanswered::Draining => stopping(),
            Unanswered::Busy { .. } | Unanswered::Unavailable { .. } => busy(),
        })?;
        match lent.recv_timeout(LENDING_PATIENCE) {
            Ok(lent) => Ok(lent?),
            Err(RecvTimeoutError::Timeout) => Err(busy()),
            Err(RecvTimeoutError::Disconnected) => Err(stopping()),
        }
    }

    fn push(&self, borrower: Borrower) -> Result<(), Unanswered> {
        let mut queues = self.queues();
        if queues.draining {
            return Err(Unanswered::Draining);
        }
        if queues.borrowers.len() >= BORROWERS_MAX {
            return Err(Unanswered::Busy {
                retry_after_seconds: BUSY_SECONDS,
            });
        }
        queues.borrowers.push_back(borrower);
        drop(queues);
        self.arrived.notify_one();
        Ok(())
    }

    /// From here on nothing new is taken; what waits is still answered.
    pub(crate) fn drain(&self) {
        self.queues().draining = true;
        self.arrived.notify_all();
    }

    /// Nobody answers any more: whoever waits to borrow the vault is told why, and nothing new is taken.
    pub(crate) fn close(&self, why: &Failure) {
        let mut queues = self.queues();
        queues.draining = true;
        let borrowers = std::mem::take(&mut queues.borrowers);
        drop(queues);
        for borrower in borrowers {
            let _ = borrower.send(Err(why.clone()));
        }
    }

    /// How many wants wait.
    pub(crate) fn waiting(&self) -> usize {
        self.queues().waiting
    }

    /// What to do next: lend the vault, else up to `wants_max` wants, one of each station in turn. Waits for so long if there is
    /// nothing.
    pub(crate) fn next(&self, wants_max: usize, patience: Duration) -> Next {
        let mut queues = self.queues();
        if queues.is_empty() && !queues.draining {
            let idle = |queues: &mut Queues| queues.is_empty() && !queues.draining;
            let waited = self.arrived.wait_timeout_while(queues, patience, idle);
            (queues, _) = waited.unwrap_or_else(PoisonError::into_inner);
        }
        if let Some(borrower) = queues.borrowers.pop_front() {
            return Next::Lend(borrower);
        }
        if wants_max == 0 {
            // Whoever waits goes on waiting.
            if queues.draining {
                return Next::Over;
            }
            let _ = self.arrived.wait_timeout(queues, patience);
            return Next::Nothing;
        }
        let round = queues.round(wants_max);
        match (round.is_empty(), queues.draining) {
            (false, _) => Next::Round(round),
            (true, true) => Next::Over,
            (true, false) => Next::Nothing,
        }
    }

    /// Answers everything that waits with this.
    pub(crate) fn turn_away(&self, why: &Unanswered) {
        let round = self.queues().round(usize::MAX);
        for waiting in round {
            waiting.answer.answer(Err(why.clone()));
        }
    }

    fn queues(&self) -> MutexGuard<'_, Queues> {
        // Nothing that could panic is done while it is held.
        self.queues.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn busy() -> Error {
    Error::environment(
        "SERVICE-BUSY",
        "the service did not come round to this in time",
    )
    .hint("nothing was changed; `site status` says how it is; run it again")
}

fn stopping() -> Error {
    Error::environment("SERVICE-STOPPING", "the service is being stopped")
        .hint("nothing was changed; wait until it has ended, then run it again")
}

impl Queues {
    fn is_empty(&self) -> bool {
        self.waiting == 0 && self.borrowers.is_empty()
    }

    /// Takes up to so many wants, one of each station in turn. Those whose askers have gone are dropped.
    fn round(&mut self, wants_max: usize) -> Vec<Waiting> {
        let mut round = Vec::new();
        while round.len() < wants_max
            && let Some(station) = self.turns.pop_front()
        {
            let Some(queue) = self.wants.get_mut(&station) else {
                continue;
            };
            let next = queue.pop_front();
            let more = !queue.is_empty();
            if more {
                self.turns.push_back(station);
            } else {
                self.wants.remove(&station);
            }
            if let Some(waiting) = next {
                self.waiting = self.waiting.saturating_sub(1);
                if !waiting.answer.is_gone() {
                    round.push(waiting);
                }
            }
        }
        round
    }
}

#[cfg(test)]
mod tests;
