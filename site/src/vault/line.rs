//! The line: a long row of requests goes through the vault in batches, many of them at once.
//!
//! One thread, the vault's own, decides, in the order of the requests, and is the only one that touches the ledger.
//! Everything that takes time and needs no order is done by the other processors meanwhile: reading requests and checking
//! their proofs, signing in the token and checking the signatures, writing certificates. Whatever is ready when the vault
//! comes round shares one group of the log and so one sync: signatures of one batch with reservations of another.
//! A lone request finds nobody to wait for and is committed at once.
//!
//! The line is bounded: where one step is slow, those before it wait. What effects follow which is said in
//! [`issue`](super::issue).

mod group;

use std::collections::VecDeque;
use std::sync::mpsc::{Receiver, Sender, TryRecvError, channel};
use std::thread::{self, Scope, ScopedJoinHandle};
use std::time::Instant;

use mintmark_protocol::identifier::{Sku, StationId};
use rayon::ScopeFifo;

use self::group::{BATCHES_RESERVED_MAX, Traffic};
use super::Vault;
use super::anchor::{CoveredBy, Renewal};
use super::issue::{Answer, Reserving, Signature, Signing};
use crate::failure::{Error, Result};
use crate::submission::Submission;

/// How many requests make a batch: one job of one processor.
pub(crate) const BATCH_MAX: usize = 64;

/// How many batches are on the line, between reading a request and reporting its certificate: what is being signed, what waits
/// for a sync of the log, and what waits for one of files. Many more would have thousands of requests checked before any is
/// signed, and a folder would take longer.
const BATCHES_MAX: usize = 96;

/// Requests on their way in; [`None`] where there is none to read.
pub(crate) type Requests<R> = Vec<std::result::Result<Submission, R>>;

/// Who asks, and for what.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Asker<'a> {
    /// Through which station.
    pub(crate) station: &'a StationId,
    /// The product.
    pub(crate) product: &'a Sku,
}

/// Where requests come from.
pub(crate) trait Inlet: Sync {
    /// Why a request cannot be read.
    type Unreadable: Send;

    /// How many batches there are.
    fn batches(&self) -> usize;

    /// Who asks with a batch; none where there is no such batch.
    fn asker(&self, batch: usize) -> Option<Asker<'_>>;

    /// Reads a batch, of at most [`BATCH_MAX`]. Called once for each, by any thread.
    fn read(&self, batch: usize) -> Requests<Self::Unreadable>;
}

/// Where answers go.
pub(crate) trait Outlet<I: Inlet> {
    /// What comes back once they are delivered.
    type Delivered: Send;

    /// Takes the answers to a batch, in the order of batches. What is delivered is sent back through `delivered`, at
    /// once or later, by any thread, exactly once for each batch and in the same order.
    ///
    /// # Errors
    /// What keeps everything after it from being answered.
    fn release(
        &mut self,
        vault: &Vault<'_>,
        answered: Answered<I>,
        delivered: Promise<I, Self::Delivered>,
    ) -> Result<()>;

    /// Reports a batch that is delivered.
    ///
    /// # Errors
    /// What keeps everything after it from being answered.
    fn report(&mut self, delivered: Self::Delivered) -> Result<()>;
}

/// A batch and its answers.
pub(crate) struct Answered<I: Inlet> {
    /// Which batch.
    pub(crate) batch: usize,
    /// The requests.
    pub(crate) requests: Requests<I::Unreadable>,
    /// An answer for each request that could be read.
    pub(crate) answers: Vec<Answer>,
}

/// What another thread has done.
enum Event<I: Inlet, D> {
    Read(usize, Requests<I::Unreadable>),
    Signed(usize, Vec<Signature>),
    Delivered(D),
    /// The token holds the next anchor, or could not take it.
    Anchored,
    /// A thread ended before it did what it was to do.
    Broken,
}

/// That something will be sent. Dropped before, it says that too, so that nobody waits for it.
pub(crate) struct Promise<I: Inlet, D> {
    events: Option<Sender<Event<I, D>>>,
}

impl<I: Inlet, D> Promise<I, D> {
    fn new(events: &Sender<Event<I, D>>) -> Self {
        Self {
            events: Some(events.clone()),
        }
    }

    fn send(mut self, event: Event<I, D>) {
        if let Some(events) = self.events.take() {
            // Where nobody listens any more, an error stands already.
            let _ = events.send(event);
        }
    }

    /// Keeps the promise.
    pub(crate) fn deliver(self, delivered: D) {
        self.send(Event::Delivered(delivered));
    }
}

impl<I: Inlet, D> Drop for Promise<I, D> {
    fn drop(&mut self) {
        if let Some(events) = self.events.take() {
            let _ = events.send(Event::Broken);
        }
    }
}

/// How far a batch is.
enum Stage<I: Inlet> {
    Reading,
    Read(Requests<I::Unreadable>),
    /// Reserved, and not durable yet.
    Reserved(Requests<I::Unreadable>, Reserving),
    /// Durable, and signed for by other threads.
    Signing(Covered<I>),
    Signed(Covered<I>, Vec<Signature>),
    /// Recorded, and not durable yet.
    Recorded(Covered<I>),
    /// Durable: may be released when those before it are, and the token holds its anchor.
    Done(Covered<I>),
    /// Being moved from one to the next.
    Moving,
}

/// A batch whose reservations are durable.
struct Covered<I: Inlet> {
    requests: Requests<I::Unreadable>,
    signing: Signing,
    /// The anchor that has to be in the token before it is released.
    by: CoveredBy,
}

/// The next anchor, being written.
type Renewing<'t> = ScopedJoinHandle<'t, (Renewal, Result<()>)>;

/// The line at work.
struct Line<'l, 't, I: Inlet, D> {
    /// The number of the first batch on the line.
    first: usize,
    stages: VecDeque<Stage<I>>,
    /// Released and not reported.
    out: usize,
    /// The next batch to decide on.
    undecided: usize,
    /// The next batch to read.
    unread: usize,
    sender: &'l Sender<Event<I, D>>,
    receiver: &'l Receiver<Event<I, D>>,
    renewing: Option<Renewing<'t>>,
    /// When something was last made durable.
    committed: Instant,
    /// The first failure of the token, or that somebody asked to stop. Nothing new is reserved after it.
    failed: Option<Error>,
}

impl Vault<'_> {
    /// Answers a row of requests.
    ///
    /// # Errors
    /// What keeps them from being answered; what was released before is delivered and reported. If the token fails on
    /// some, those stay open, nothing more is decided, and the error is what is returned beside the answers.
    pub(crate) fn issue<I: Inlet, O: Outlet<I>>(
        &mut self,
        inlet: &I,
        outlet: &mut O,
    ) -> Result<Option<Error>>
    where
        O::Delivered: Send,
    {
        // The keys first: without them nothing must be reserved.
        if self.state().is_enrolled() {
            self.keyring()?;
        }
        let (sender, receiver) = channel();
        thread::scope(|threads| {
            rayon::in_place_scope_fifo(|scope| {
                let mut line = Line {
                    first: 0,
                    stages: VecDeque::new(),
                    out: 0,
                    undecided: 0,
                    unread: 0,
                    sender: &sender,
                    receiver: &receiver,
                    renewing: None,
                    committed: Instant::now(),
                    failed: None,
                };
                let ended = line.run(self, inlet, outlet, (threads, scope));
                let renewed = line.renewed(self);
                let reported = line.drain(outlet);
                ended.and(renewed).and(reported)?;
                Ok(line.failed.take())
            })
        })
    }
}

impl<'t, I: Inlet, D: Send> Line<'_, 't, I, D> {
    /// Until everything is answered, or nothing more will be.
    fn run<'scope, O: Outlet<I, Delivered = D>>(
        &mut self,
        vault: &mut Vault<'_>,
        inlet: &'scope I,
        outlet: &mut O,
        (threads, scope): (&'t Scope<'t, '_>, &ScopeFifo<'scope>),
    ) -> Result<()>
    where
        I: 'scope + 't,
        D: 'scope + 't,
    {
        // A commit makes room for more that can be done at once; otherwise only others can bring something to do.
        let mut committed = false;
        loop {
            self.read_on(inlet, scope);
            if self.stages.is_empty() && (self.failed.is_some() || self.unread == inlet.batches()) {
                return Ok(());
            }
            self.take_events(vault, outlet, !committed)?;
            self.record(vault)?;
            self.decide(vault, inlet)?;
            committed = self.is_group_worth_it(vault);
            if committed {
                self.commit(vault, threads, scope)?;
            }
            self.release(vault, outlet)?;
            if self.failed.is_none() {
                self.failed = vault.asked_to_stop();
            }
            if self.failed.is_some() && self.nothing_decided_is_left() {
                return Ok(());
            }
        }
    }

    /// Has as many batches read as there is room for.
    fn read_on<'scope>(&mut self, inlet: &'scope I, scope: &ScopeFifo<'scope>)
    where
        I: 'scope,
        D: 'scope,
    {
        while self.failed.is_none()
            && self.unread < inlet.batches()
            && self.stages.len() + self.out < BATCHES_MAX
        {
            let (batch, promise) = (self.unread, Promise::new(self.sender));
            scope.spawn_fifo(move |_| promise.send(Event::Read(batch, inlet.read(batch))));
            self.stages.push_back(Stage::Reading);
            self.unread += 1;
        }
    }

    /// Takes what other threads have done; waits for the first of it if told to.
    fn take_events(
        &mut self,
        vault: &mut Vault<'_>,
        outlet: &mut impl Outlet<I, Delivered = D>,
        mut wait: bool,
    ) -> Result<()> {
        loop {
            let event = match self.receiver.try_recv() {
                Err(TryRecvError::Empty) if wait => self.next_event(),
                other => other.ok(),
            };
            let Some(event) = event else {
                return Ok(());
            };
            wait = false;
            self.take(event, vault, outlet)?;
        }
    }

    /// Waits for what another thread has done, until a group is due.
    fn next_event(&self) -> Option<Event<I, D>> {
        match self.traffic(0).group_due() {
            Some(due) => self.receiver.recv_timeout(due).ok(),
            None => self.receiver.recv().ok(),
        }
    }

    fn take(
        &mut self,
        event: Event<I, D>,
        vault: &mut Vault<'_>,
        outlet: &mut impl Outlet<I, Delivered = D>,
    ) -> Result<()> {
        match event {
            Event::Read(batch, requests) => {
                if let Some(stage) = self.stage(batch) {
                    *stage = Stage::Read(requests);
                }
            }
            Event::Signed(batch, signatures) => {
                if let Some(stage) = self.stage(batch)
                    && let Stage::Signing(covered) = stage.take()
                {
                    *stage = Stage::Signed(covered, signatures);
                }
            }
            Event::Delivered(delivered) => {
                self.out = self.out.saturating_sub(1);
                outlet.report(delivered)?;
            }
            Event::Anchored => self.renewed(vault)?,
            Event::Broken => {
                // Of what is still out, nobody knows any more what will come back.
                self.out = 0;
                return Err(broken());
            }
        }
        Ok(())
    }

    fn stage(&mut self, batch: usize) -> Option<&mut Stage<I>> {
        self.stages.get_mut(batch.checked_sub(self.first)?)
    }

    /// Stages the signatures that have come.
    fn record(&mut self, vault: &mut Vault<'_>) -> Result<()> {
        for stage in &mut self.stages {
            if matches!(stage, Stage::Signed(..))
                && let Stage::Signed(mut covered, signatures) = stage.take()
            {
                let failed = vault
                    .record(&mut covered.signing, signatures)
                    .map_err(Error::leaving_open)?;
                if let Some(error) = failed {
                    self.failed.get_or_insert(error);
                }
                *stage = Stage::Recorded(covered);
            }
        }
        Ok(())
    }

    /// Decides on the batches that are read, in their order.
    fn decide(&mut self, vault: &mut Vault<'_>, inlet: &I) -> Result<()> {
        let unrecorded = |stage: &&Stage<I>| {
            matches!(
                stage,
                Stage::Reserved(..) | Stage::Signing(..) | Stage::Signed(..)
            )
        };
        let mut reserved = self.stages.iter().filter(unrecorded).count();
        while self.failed.is_none() && reserved < BATCHES_RESERVED_MAX {
            let batch = self.undecided;
            let Some(stage) = self.stage(batch) else {
                break;
            };
            if !matches!(stage, Stage::Read(_)) {
                break;
            }
            if let Stage::Read(requests) = stage.take() {
                let readable = requests.iter().filter_map(|request| request.as_ref().ok());
                let asker = inlet.asker(batch).ok_or_else(broken)?;
                let reserving = match vault.reserve(asker, readable) {
                    Ok(reserving) => reserving,
                    Err(error) => return Err(self.grave(error)),
                };
                if let Some(stage) = self.stage(batch) {
                    *stage = Stage::Reserved(requests, reserving);
                }
            }
            self.undecided += 1;
            reserved += 1;
        }
        Ok(())
    }

    /// Whether to sync now: somebody is served by it, or an anchor has to be begun.
    fn is_group_worth_it(&self, vault: &Vault<'_>) -> bool {
        let lacks_anchor = |stage: &Stage<I>| {
            let by = stage.covered().map(|covered| covered.by);
            by.is_some_and(|by| vault.lacks_anchor(by))
        };
        let begins_anchor = self.renewing.is_none() && self.stages.iter().any(lacks_anchor);
        begins_anchor || self.traffic(vault.staged()).is_group_worth_it()
    }

    /// What is on the line beside so many staged records.
    fn traffic(&self, staged: usize) -> Traffic {
        let mut traffic = Traffic {
            staged,
            passed: self.committed.elapsed(),
            ..Traffic::default()
        };
        for stage in &self.stages {
            match stage {
                Stage::Reading => traffic.reading += 1,
                Stage::Reserved(..) => traffic.reserved += 1,
                Stage::Signing(..) => traffic.signing += 1,
                Stage::Recorded(..) => traffic.recorded += 1,
                Stage::Read(_) | Stage::Signed(..) | Stage::Done(_) | Stage::Moving => {}
            }
        }
        traffic
    }

    /// Makes durable what is staged, and has signed what is reserved, and the anchor written that covers it.
    fn commit<'scope>(
        &mut self,
        vault: &mut Vault<'_>,
        threads: &'t Scope<'t, '_>,
        scope: &ScopeFifo<'scope>,
    ) -> Result<()>
    where
        I: 'scope + 't,
        D: 'scope + 't,
    {
        vault.commit().map_err(|error| self.grave(error))?;
        self.committed = Instant::now();
        for stage in &self.stages {
            if let Stage::Reserved(_, reserving) = stage {
                vault.expose(reserving);
            }
        }
        // Of what is signed now, too: then it hardly waits for the token any more when its signatures are on record.
        let (by, renewal) = vault.cover().map_err(Error::leaving_open)?;
        if let Some(renewal) = renewal {
            // A thread of its own: a token takes its time, and the processors have other work.
            let promise = Promise::new(self.sender);
            self.renewing = Some(threads.spawn(move || {
                let written = renewal.write();
                promise.send(Event::Anchored);
                (renewal, written)
            }));
        }
        for (batch, stage) in (self.first..).zip(&mut self.stages) {
            *stage = match stage.take() {
                Stage::Reserved(requests, reserving) => {
                    let (signing, jobs, failed) = vault.signing(reserving);
                    if let Some(error) = failed {
                        self.failed.get_or_insert(error);
                    }
                    let covered = Covered {
                        requests,
                        signing,
                        by,
                    };
                    if jobs.is_empty() {
                        Stage::Done(covered)
                    } else {
                        let promise = Promise::new(self.sender);
                        scope.spawn_fifo(move |_| {
                            let signed = jobs.into_iter().map(super::issue::SigningJob::sign);
                            promise.send(Event::Signed(batch, signed.collect()));
                        });
                        Stage::Signing(covered)
                    }
                }
                Stage::Recorded(covered) => Stage::Done(covered),
                other => other,
            };
        }
        Ok(())
    }

    /// Takes up the anchor that was being written, if any; waits for it where it is not there yet.
    fn renewed(&mut self, vault: &mut Vault<'_>) -> Result<()> {
        let Some(renewing) = self.renewing.take() else {
            return Ok(());
        };
        let (renewal, written) = renewing.join().map_err(|_| broken())?;
        match written {
            Ok(()) => {
                vault.anchored(renewal);
                Ok(())
            }
            Err(error) => {
                vault.not_anchored(renewal);
                Err(error.leaving_open())
            }
        }
    }

    /// Releases what is done, in the order of batches.
    fn release(
        &mut self,
        vault: &Vault<'_>,
        outlet: &mut impl Outlet<I, Delivered = D>,
    ) -> Result<()> {
        while let Some(Stage::Done(covered)) = self.stages.front()
            && vault.holds_anchor(covered.by)
            && let Some(Stage::Done(covered)) = self.stages.pop_front()
        {
            let Covered {
                requests, signing, ..
            } = covered;
            let batch = self.first;
            self.first += 1;
            let readable = requests.iter().filter_map(|request| request.as_ref().ok());
            let answers = vault.answers(signing, readable)?;
            self.out += 1;
            let answered = Answered {
                batch,
                requests,
                answers,
            };
            outlet.release(vault, answered, Promise::new(self.sender))?;
        }
        Ok(())
    }

    /// After a failure of the token: whether all that was reserved is released.
    fn nothing_decided_is_left(&self) -> bool {
        let undecided = |stage: &Stage<I>| matches!(stage, Stage::Reading | Stage::Read(_));
        self.stages.iter().all(undecided)
    }

    /// Waits for the reports of what was released.
    fn drain(&mut self, outlet: &mut impl Outlet<I, Delivered = D>) -> Result<()> {
        let mut first = Ok(());
        while self.out > 0 {
            match self.receiver.recv() {
                Ok(Event::Delivered(delivered)) => {
                    self.out -= 1;
                    first = first.and(outlet.report(delivered));
                }
                Ok(Event::Broken) | Err(_) => return first.and(Err(broken())),
                // Of a batch that will not be released.
                Ok(Event::Read(..) | Event::Signed(..) | Event::Anchored) => {}
            }
        }
        first
    }

    /// An error of the ledger: where units are reserved durably and not signed for, the outcome is not known.
    fn grave(&self, error: Error) -> Error {
        let open = |stage: &Stage<I>| {
            matches!(
                stage,
                Stage::Signing(..) | Stage::Signed(..) | Stage::Recorded(..)
            )
        };
        match self.stages.iter().any(open) {
            true => error.leaving_open(),
            false => error,
        }
    }
}

impl<I: Inlet> Stage<I> {
    fn take(&mut self) -> Self {
        std::mem::replace(self, Self::Moving)
    }

    /// Once its reservations are durable.
    fn covered(&self) -> Option<&Covered<I>> {
        match self {
            Self::Signing(covered)
            | Self::Signed(covered, _)
            | Self::Recorded(covered)
            | Self::Done(covered) => Some(covered),
            Self::Reading | Self::Read(_) | Self::Reserved(..) | Self::Moving => None,
        }
    }
}

fn broken() -> Error {
    Error::unknown(
        "INTERNAL",
        "a part of the vault ended before its work was done",
    )
}
