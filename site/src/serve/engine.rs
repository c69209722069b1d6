//! The engine: the vault's own thread. It takes what waits at the desk, round by round, and puts up a board after each.
//!
//! A round goes through the vault's line as one row, so that its reservations and its signatures share syncs; a lone request
//! is a round of one. Whatever is reserved and could not be signed for stays reserved: whoever asks again gets that very
//! certificate, once the token is back and the engine has completed what is open.
//!
//! What the engine meets, and what it does:
//! - The token is away, or the disk is full: no round is begun, what waits goes on waiting, and the vault is tried again and
//!   again, with pauses that grow.
//! - Nobody knows what the log holds: the vault is dropped and opened anew, which finds out.
//! - What is stored contradicts what is known (exit code 4): nothing is tried again; the service stays, says so, and issues
//!   nothing.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant, UNIX_EPOCH};

use mintmark_console::{Console, Exit, Failure};
use mintmark_ledger::entry::{DeviceAction, DeviceOrder};
use mintmark_ledger::refusal::Refusal;
use mintmark_protocol::identifier::{DeviceId, Fingerprint, Sku, StationId};

use super::board::{Board, Product, Tally, Wall};
use super::control::Control;
use super::desk::{Answering, Desk, Given, Loan, Next, Unanswered, Waiting, Want};
use super::gauge::Gauge;
use crate::clock::Disbelief;
use crate::commands::device::device_status;
use crate::commands::now;
use crate::commands::status::{RefusedContent, Report};
use crate::failure::{Error, Result};
use crate::home::{Home, OUTBOX};
use crate::submission::Submission;
use crate::vault::{
    Answer, Answered, Asker, BATCH_MAX, Inlet, Outlet, Promise, Requests, Vault, not_enrolled,
};

/// How many wants make a round at most.
const ROUND_MAX: usize = 512;

/// How long nothing happens before a new board is put up.
const TICK: Duration = Duration::from_secs(1);

/// After so long without work the lease goes back to the token: a power cut at night burns nothing then.
const IDLE: Duration = Duration::from_secs(60);

/// The pauses between tries while something is in the way.
const PAUSE_FIRST: Duration = Duration::from_millis(250);
const PAUSE_MAX: Duration = Duration::from_secs(5);

/// The vault at work in a thread of its own.
pub(crate) struct Engine {
    thread: JoinHandle<Result<()>>,
    /// Commands of the operator come to the same desk.
    control: Control,
}

impl Engine {
    /// Opens the vault of a home, completes what is open, and serves what comes to the desk until it is
    /// [drained](Desk::drain). A token that cannot be reached while something is completed does not keep it from starting.
    ///
    /// # Errors
    /// As [`Vault::open`].
    pub(crate) fn start(
        home: Home,
        desk: Arc<Desk>,
        wall: Arc<Wall>,
        console: Arc<Console>,
    ) -> Result<Self> {
        let path: Box<Path> = home.path().into();
        let (asked, at) = (Arc::clone(&desk), path.clone());
        let gauge = Gauge::watch(&home.config().keys)?;
        let mut vault = Vault::open_to_serve(home, Arc::clone(&console))?;
        vault.count_in(wall.meters());
        let mut work = Work {
            path,
            desk,
            wall,
            console,
            gauge,
            vault: None,
            hindrance: None,
            broken: None,
            posted: Instant::now(),
            worked: Instant::now(),
            rested: false,
            tally: Arc::default(),
            refused: Refused::default(),
            exported: Exported::default(),
        };
        work.take_up(vault);
        work.post(true);
        let thread = thread::Builder::new()
            .name("vault".to_owned())
            .spawn(move || work.run())
            .map_err(|error| {
                Error::environment("THREAD-UNAVAILABLE", "the vault's thread cannot be started")
                    .cause(error)
            })?;
        let control = Control::listen(&at, &asked)?;
        Ok(Self { thread, control })
    }

    /// Whether it has ended, for whatever reason.
    pub(crate) fn is_over(&self) -> bool {
        self.thread.is_finished()
    }

    /// Waits until it has ended, which it does once the desk is drained.
    ///
    /// # Errors
    /// What kept it from closing the vault, or from going on.
    pub(crate) fn join(self) -> Result<()> {
        drop(self.control);
        self.thread.join().unwrap_or_else(|_| {
            Err(Error::unknown("INTERNAL", "the vault's thread panicked")
                .hint("start the service again: it completes what is open"))
        })
    }
}

/// Something is in the way, and may go away.
struct Hindrance {
    failure: Failure,
    pause: Duration,
    /// When it is tried again.
    again: Instant,
}

struct Work {
    path: Box<Path>,
    desk: Arc<Desk>,
    wall: Arc<Wall>,
    console: Arc<Console>,
    gauge: Gauge,
    /// None while it has to be opened anew, is lent, or is given up.
    vault: Option<Vault<'static>>,
    hindrance: Option<Hindrance>,
    /// Why nothing is tried any more.
    broken: Option<Failure>,
    posted: Instant,
    worked: Instant,
    /// The anchor leases nothing since the last work.
    rested: bool,
    tally: Arc<Tally>,
    refused: Refused,
    exported: Exported,
}

impl Work {
    fn run(mut self) -> Result<()> {
        loop {
            self.wall.beat();
            self.try_again();
            let ready = self.hindrance.is_none() && self.broken.is_none();
            let wants_max = if ready { ROUND_MAX } else { 0 };
            let next = self.desk.next(wants_max, self.patience());
            self.wall.beat();
            match next {
                Next::Nothing => self.rest(),
                Next::Lend(borrower) => {
                    match self.vault.take() {
                        None => drop(borrower.send(Err(self.failure()))),
                        Some(vault) => {
                            let (loan, returned) = Loan::of(vault);
                            // Whoever does not wait for it any more gives it back at once.
                            drop(borrower.send(Ok(loan)));
                            self.vault = returned.recv().ok();
                        }
                    }
                    self.look_after();
                    self.post(true);
                }
                Next::Round(round) => {
                    self.answer(round);
                    self.worked = Instant::now();
                    self.rested = false;
                    self.post(false);
                }
                Next::Over => break,
            }
            if self.posted.elapsed() >= TICK {
                self.post(true);
            }
            if self.broken.is_some() {
                self.desk.turn_away(&self.unavailable());
            }
        }
        self.desk.turn_away(&self.unavailable());
        self.post(true);
        match (self.vault.take(), self.broken.take()) {
            (_, Some(broken)) => Err(broken.into()),
            (Some(vault), None) => vault.close(),
            (None, None) => Err(self.failure().into()),
        }
    }

    /// How long there may be nothing to do.
    fn patience(&self) -> Duration {
        match &self.hindrance {
            None => TICK,
            Some(hindrance) => {
                let left = hindrance.again.saturating_duration_since(Instant::now());
                left.clamp(Duration::from_millis(10), TICK)
            }
        }
    }

    /// A vault that was just opened.
    fn take_up(&mut self, mut vault: Vault<'static>) {
        vault.count_in(self.wall.meters());
        let settled = vault.settle();
        self.vault = Some(vault);
        match settled {
            Ok(()) => self.hindrance = None,
            Err(error) => self.hinder(error),
        }
        self.rested = false;
    }

    /// Takes up again what could not be done, once its time has come.
    fn try_again(&mut self) {
        let due = self
            .hindrance
            .as_ref()
            .is_some_and(|hindrance| hindrance.again <= Instant::now());
        if !due || self.broken.is_some() {
            return;
        }
        let tried = match &mut self.vault {
            Some(vault) => vault.probe().and_then(|()| vault.settle()),
            None => self.open().map(|vault| {
                self.hindrance = None;
                self.take_up(vault);
            }),
        };
        match tried {
            Ok(()) if self.vault.is_some() && !self.is_hindered_anew() => {
                tracing::info!("the vault is at work again");
                self.hindrance = None;
                self.post(true);
            }
            Ok(()) => {}
            Err(error) => self.hinder(error),
        }
    }

    /// Whether opening met the next thing that is in the way.
    fn is_hindered_anew(&self) -> bool {
        self.hindrance
            .as_ref()
            .is_some_and(|hindrance| hindrance.again > Instant::now())
    }

    fn open(&self) -> Result<Vault<'static>> {
        let home = Home::open(Some(&self.path))?;
        Vault::open_to_serve(home, Arc::clone(&self.console))
    }

    /// Something failed: whether it is tried again follows from what it is.
    fn hinder(&mut self, error: Error) {
        let failure = error.failure().clone();
        if let Some(vault) = self.vault.take_if(|vault| !vault.is_usable()) {
            // Its lease burns: nobody knows what was released.
            drop(vault);
        }
        // A PIN that was refused once is never tried again: the token would lock itself.
        if failure.exit == Exit::Integrity || failure.code.starts_with("PIN-") {
            tracing::error!(code = %failure.code, message = %failure.message, "the vault has stopped");
            self.vault = None;
            self.hindrance = None;
            self.broken = Some(failure);
        } else {
            let before = self.hindrance.as_ref();
            let pause = before.map_or(PAUSE_FIRST, |before| {
                before.pause.saturating_mul(2).min(PAUSE_MAX)
            });
            if before.is_none_or(|before| before.failure.code != failure.code) {
                tracing::warn!(code = %failure.code, message = %failure.message, "nothing is issued");
            }
            self.hindrance = Some(Hindrance {
                failure,
                pause,
                again: Instant::now() + pause,
            });
        }
        self.post(true);
    }

    /// After somebody else worked with the vault.
    fn look_after(&mut self) {
        self.worked = Instant::now();
        self.rested = false;
        match &mut self.vault {
            // A panic in whoever had it.
            None if self.broken.is_none() && self.hindrance.is_none() => {
                self.hinder(
                    Error::unknown(
                        "VAULT-LOST",
                        "a command ended before it gave the vault back",
                    )
                    .hint(
                        "it is opened anew; look at what the service says of itself, and report it",
                    ),
                );
            }
            None => {}
            Some(vault) => {
                let newest = Home::open(Some(&self.path)).and_then(|home| home.expect_newest());
                let usable = match vault.is_usable() {
                    true => Ok(()),
                    false => Err(Error::unknown(
                        "OUTCOME-UNKNOWN",
                        "a command failed, and the log has to be read again",
                    )),
                };
                if let Err(error) = newest.and(usable) {
                    self.hinder(error);
                }
            }
        }
    }

    /// After a while without work, what is leased goes back.
    fn rest(&mut self) {
        if self.rested || self.worked.elapsed() < IDLE {
            return;
        }
        if let Some(vault) = &mut self.vault
            && self.hindrance.is_none()
        {
            self.rested = true;
            if let Err(error) = vault.rest() {
                self.hinder(error);
            }
        }
    }

    /// Why nothing is issued now.
    fn failure(&self) -> Failure {
        let hindrance = self.hindrance.as_ref().map(|hindrance| &hindrance.failure);
        self.broken
            .as_ref()
            .or(hindrance)
            .cloned()
            .unwrap_or_else(|| {
                Failure::new(
                    Exit::Environment,
                    "SERVICE-STOPPING",
                    "the service is being stopped",
                )
            })
    }

    fn unavailable(&self) -> Unanswered {
        unavailable(self.failure())
    }

    /// Answers a round.
    fn answer(&mut self, round: Vec<Waiting>) {
        let Some(vault) = &mut self.vault else {
            let why = self.unavailable();
            for waiting in round {
                waiting.answer.answer(Err(why.clone()));
            }
            return;
        };
        let tally = Arc::make_mut(&mut self.tally);
        let failed = Round::of(round).run(vault, tally);
        match failed {
            Ok(None) => {}
            Ok(Some(error)) => self.hinder(error),
            Err(error) => {
                // What was staged when it failed was never answered.
                let forgotten = vault.forget_staged();
                if forgotten.is_err() {
                    self.vault = None;
                }
                self.hinder(error);
            }
        }
    }

    /// Puts a board up; with everything that takes a moment to gather, if so wanted.
    fn post(&mut self, thoroughly: bool) {
        let mut board = Board::clone(&self.wall.board());
        let clocks = now();
        board.posted = clocks.clock;
        board.tally = Arc::clone(&self.tally);
        board.ready = match (&self.broken, &self.hindrance, &self.vault) {
            (Some(failure), ..) => Err(failure.clone()),
            (None, Some(hindrance), _) => Err(hindrance.failure.clone()),
            (None, None, None) => Err(self.failure()),
            (None, None, Some(vault)) => ready(vault),
        };
        if let Some(vault) = &self.vault {
            let state = vault.state();
            board.time = vault.time();
            let credit = state.credit(board.time);
            (board.credit_units, board.credit_until) = (credit.units, credit.until);
            if thoroughly {
                self.refused.look(&self.path, vault);
                board.fill(vault);
                board.exported = self.exported.when(&self.path, state.bundles().sequence);
                let refused = self.refused.rows.clone();
                let report = Report::of(&vault.subject(), clocks, refused, self.gauge.store());
                board.status = Arc::new(serde_json::to_value(report).unwrap_or_default());
            }
        }
        if thoroughly {
            self.posted = Instant::now();
        }
        self.wall.post(board);
    }
}

fn unavailable(failure: Failure) -> Unanswered {
    Unanswered::Unavailable {
        failure,
        retry_after_seconds: PAUSE_MAX.as_secs(),
    }
}

/// Whether anything can be issued by a vault that is open and whose token answers.
fn ready(vault: &Vault<'_>) -> std::result::Result<(), Failure> {
    let state = vault.state();
    if !state.is_enrolled() {
        return Err(not_enrolled().into());
    }
    if let Some(disbelief) = Disbelief::of(state, now()) {
        let failure = Failure::new(Exit::Negative, disbelief.code, disbelief.message);
        return Err(failure.hint(disbelief.advice));
    }
    if state.disabled_at().is_some() {
        let message = "headquarters has disabled this vault";
        return Err(Failure::new(Exit::Negative, "VAULT-DISABLED", message)
            .hint("run `site rotate`, carry its request to headquarters, and import the grant"));
    }
    Ok(())
}

/// What came from headquarters and was refused, looked for again when something came.
#[derive(Default)]
struct Refused {
    /// What it was looked for by.
    seen: Option<(u64, u64)>,
    rows: Vec<RefusedContent>,
}

impl Refused {
    fn look(&mut self, home: &Path, vault: &Vault<'_>) {
        let state = vault.state();
        let seen = (
            state.bundles().acknowledged_log_size,
            state.dispatches().sequence,
        );
        if self.seen == Some(seen) {
            return;
        }
        if let Ok(view) = mintmark_ledger::ledger::View::open(home) {
            self.rows = crate::commands::status::refused(&view);
            self.seen = Some(seen);
        }
    }
}

/// When a bundle was sealed last, looked for again when there is another.
#[derive(Default)]
struct Exported {
    sequence: u64,
    when: Option<u64>,
}

impl Exported {
    fn when(&mut self, home: &Path, sequence: u64) -> Option<u64> {
        if sequence != self.sequence {
            let files = std::fs::read_dir(home.join(OUTBOX)).into_iter().flatten();
            let made = files.filter_map(|file| file.ok()?.metadata().ok()?.modified().ok());
            let newest = made.max()?.duration_since(UNIX_EPOCH).ok()?;
            (self.sequence, self.when) = (sequence, Some(newest.as_secs()));
        }
        self.when
    }
}

impl Board {
    /// What changes seldom.
    fn fill(&mut self, vault: &Vault<'_>) {
        let state = vault.state();
        let stations = state.stations();
        let live = stations.filter(|station| station.revoked.is_none());
        self.stations = Arc::new(
            live.map(|station| (station.certificate_sha256, station.clone()))
                .collect(),
        );
        self.station_ca = state.station_ca().map(Arc::from);
        let mut products: BTreeMap<Sku, Product> = BTreeMap::new();
        let granted = state.entitlements().values();
        let running = granted
            .filter(|granted| granted.revoked.is_none() && granted.terms.window.until > self.time);
        for terms in running.flat_map(|granted| &granted.terms.products) {
            let product = products
                .entry(terms.sku.clone())
                .or_insert_with(|| Product {
                    sku: terms.sku.clone(),
                    device_id_source: terms.device_id_source,
                    key_algorithms: Vec::new(),
                });
            for algorithm in &terms.key_algorithms {
                if !product.key_algorithms.contains(algorithm) {
                    product.key_algorithms.push(algorithm.clone());
                }
            }
        }
        self.products = Arc::new(products.into_values().collect());
        if let Some(device_ca) = state.device_cas().last() {
            self.chain = Arc::new(vault.chain(device_ca.generation).unwrap_or_default());
        }
    }
}

/// Wants that are answered together.
struct Round {
    batches: Vec<Batch>,
    orders: Vec<(DeviceOrder, Answering)>,
    histories: Vec<(Option<Sku>, DeviceId, Answering)>,
}

/// Requests of one station for one product.
struct Batch {
    station: StationId,
    product: Sku,
    /// Those of re-enrolments by their places, until the reworks are decided.
    again: Vec<usize>,
    submissions: Mutex<Vec<Submission>>,
    /// Who waits for them, each in its place.
    answers: Vec<Answering>,
}

impl Round {
    /// Sorts what waits into batches, as many as keep all processors busy.
    fn of(round: Vec<Waiting>) -> Self {
        let certificates = round
            .iter()
            .filter(|waiting| matches!(waiting.want, Want::Certificate { .. }));
        let share = certificates
            .count()
            .div_ceil(2 * rayon::current_num_threads());
        let size = share.clamp(1, BATCH_MAX);
        let (mut batches, mut orders, mut histories) =
            (Vec::<Batch>::new(), Vec::new(), Vec::new());
        let mut open: BTreeMap<(StationId, Sku), usize> = BTreeMap::new();
        for Waiting {
            station,
            want,
            answer,
        } in round
        {
            match want {
                Want::Certificate {
                    product,
                    submission,
                    again,
                } => {
                    let key = (station, product);
                    let at = open.get(&key).copied();
                    let at =
                        at.filter(|at| batches.get(*at).is_some_and(|b| b.answers.len() < size));
                    let at = at.unwrap_or_else(|| {
                        batches.push(Batch {
                            station: key.0.clone(),
                            product: key.1.clone(),
                            again: Vec::new(),
                            submissions: Mutex::default(),
                            answers: Vec::new(),
                        });
                        let at = batches.len() - 1;
                        open.insert(key, at);
                        at
                    });
                    if let Some(batch) = batches.get_mut(at) {
                        if again {
                            batch.again.push(batch.answers.len());
                        }
                        batch.answers.push(answer);
                        let submissions = batch.submissions.get_mut();
                        submissions
                            .unwrap_or_else(PoisonError::into_inner)
                            .push(submission);
                    }
                }
                Want::Device(order) => orders.push((order, answer)),
                Want::History { product, device_id } => {
                    histories.push((product, device_id, answer))
                }
            }
        }
        Self {
            batches,
            orders,
            histories,
        }
    }

    /// Answers all of it. Gives what the token failed with, if it did.
    fn run(mut self, vault: &mut Vault<'_>, tally: &mut Tally) -> Result<Option<Error>> {
        let mut counter = Counter {
            answers: Vec::new(),
            askers: Vec::new(),
            open: Vec::new(),
            tally,
        };
        let orders = std::mem::take(&mut self.orders);
        let histories = std::mem::take(&mut self.histories);
        let answered = answer_orders(orders, vault, counter.tally)
            .and_then(|()| self.allow_reworks(vault, counter.tally))
            .and_then(|()| {
                for batch in &mut self.batches {
                    counter
                        .askers
                        .push((batch.station.clone(), batch.product.clone()));
                    counter.answers.push(std::mem::take(&mut batch.answers));
                }
                if self.batches.is_empty() {
                    return Ok(None);
                }
                vault.issue(&self, &mut counter)
            });
        let why = match &answered {
            Ok(None) => None,
            Ok(Some(error)) | Err(error) => Some(error.failure().clone()),
        };
        let why = unavailable(why.unwrap_or_else(|| {
            Failure::new(
                Exit::Unknown,
                "CERTIFICATE-PENDING",
                "a unit is reserved for this device and could not be signed for yet",
            )
            .hint("ask again: it gets that very certificate, and no other unit is spent")
        }));
        let waiting = self.batches.into_iter().flat_map(|batch| batch.answers);
        let unanswered = counter
            .answers
            .into_iter()
            .flatten()
            .chain(counter.open)
            .chain(waiting);
        for answer in unanswered {
            answer.answer(Err(why.clone()));
        }
        for (product, device_id, answer) in histories {
            let history = vault.device_history(product.as_ref(), &device_id);
            answer.answer(match history {
                Ok(history) => {
                    let told = history.into_iter().map(|issue| {
                        let became = device_status(vault.state(), &issue);
                        (issue, became)
                    });
                    Ok(Given::History(told.collect()))
                }
                Err(error) => Err(unavailable(error.into())),
            });
        }
        answered
    }

    /// Before a device that has a certificate for another key gets one for this: the policy has to allow the rework. Those of
    /// which it does not are answered so.
    fn allow_reworks(&mut self, vault: &mut Vault<'_>, tally: &mut Tally) -> Result<()> {
        for batch in &mut self.batches {
            let submissions = batch.submissions.get_mut();
            let submissions = submissions.unwrap_or_else(PoisonError::into_inner);
            let mut refused: BTreeMap<usize, Refusal> = BTreeMap::new();
            for at in std::mem::take(&mut batch.again) {
                let Some(submission) = submissions.get(at) else {
                    continue;
                };
                if let Some(no) = rework(vault, &batch.station, &batch.product, submission)? {
                    refused.insert(at, no);
                }
            }
            if refused.is_empty() {
                continue;
            }
            let asked = std::mem::take(submissions).into_iter();
            let asked = asked.zip(std::mem::take(&mut batch.answers));
            for (at, (submission, answer)) in asked.enumerate() {
                match refused.remove(&at) {
                    None => {
                        submissions.push(submission);
                        batch.answers.push(answer);
                    }
                    Some(refusal) => {
                        tally.refused(&batch.product, &refusal);
                        answer.answer(Ok(Given::Certificate {
                            answer: Answer::Refused(refusal),
                            chain: Vec::new(),
                            secrets: Vec::new(),
                        }));
                    }
                }
            }
        }
        self.batches.retain(|batch| !batch.answers.is_empty());
        Ok(())
    }
}

/// Stages the rework of a device that has a certificate for another key, if there is one; why not, if that is refused.
fn rework(
    vault: &mut Vault<'_>,
    station: &StationId,
    product: &Sku,
    submission: &Submission,
) -> Result<Option<Refusal>> {
    let Submission::Verified(csr) = submission else {
        return Ok(None);
    };
    let Some(device_id) = vault.device_id(product, submission) else {
        return Ok(None);
    };
    let history = vault.device_history(Some(product), &device_id)?;
    let Some(newest) = history.last() else {
        return Ok(None);
    };
    if newest.spki_sha256 == Fingerprint::new(csr.spki_sha256()) {
        return Ok(None);
    }
    let order = DeviceOrder {
        action: DeviceAction::Rework,
        product: product.clone(),
        device_id: device_id.clone(),
        reason: "asked for again, with another key".to_owned(),
        station: station.clone(),
    };
    Ok(match vault.stage_order(&order)? {
        // One that was allowed before, and that nothing came of yet, is this one.
        None | Some(Refusal::ReworkOpen { .. }) => None,
        Some(refusal) => Some(refusal),
    })
}

/// Decides on device orders, which share a sync.
fn answer_orders(
    orders: Vec<(DeviceOrder, Answering)>,
    vault: &mut Vault<'_>,
    tally: &mut Tally,
) -> Result<()> {
    if orders.is_empty() {
        return Ok(());
    }
    let mut decided = Vec::new();
    let mut failed = None;
    for (order, answer) in orders {
        match failed.is_none().then(|| vault.stage_order(&order)) {
            Some(Ok(refusal)) => decided.push((order, answer, refusal)),
            Some(Err(error)) => {
                answer.answer(Err(unavailable(error.failure().clone())));
                failed = Some(error);
            }
            None => drop(answer),
        }
    }
    let durable = match failed {
        Some(error) => Err(error),
        None => vault.commit_orders(),
    };
    for (order, answer, refusal) in decided {
        let given = match (&durable, refusal) {
            (Err(error), _) => Err(unavailable(error.failure().clone())),
            (Ok(()), Some(refusal)) => {
                tally.rule(&refusal);
                Ok(Given::Device(Err(refusal)))
            }
            (Ok(()), None) => {
                let history = vault.device_history(Some(&order.product), &order.device_id);
                match history {
                    Ok(mut history) => Ok(Given::Device(Ok(history.pop()))),
                    Err(error) => Err(unavailable(error.into())),
                }
            }
        };
        answer.answer(given);
    }
    durable
}

impl Inlet for Round {
    type Unreadable = Infallible;

    fn batches(&self) -> usize {
        self.batches.len()
    }

    fn asker(&self, batch: usize) -> Option<Asker<'_>> {
        let Batch {
            station, product, ..
        } = self.batches.get(batch)?;
        Some(Asker { station, product })
    }

    fn read(&self, batch: usize) -> Requests<Infallible> {
        let Some(batch) = self.batches.get(batch) else {
            return Vec::new();
        };
        let submissions = batch.submissions.lock();
        let mut submissions = submissions.unwrap_or_else(PoisonError::into_inner);
        std::mem::take(&mut *submissions)
            .into_iter()
            .map(Ok)
            .collect()
    }
}

/// Hands out the answers of a round.
struct Counter<'t> {
    /// Who waits, by batch and place.
    answers: Vec<Vec<Answering>>,
    askers: Vec<(StationId, Sku)>,
    /// Whose unit is reserved and not signed for.
    open: Vec<Answering>,
    tally: &'t mut Tally,
}

impl Outlet<Round> for Counter<'_> {
    type Delivered = ();

    fn release(
        &mut self,
        vault: &Vault<'_>,
        answered: Answered<Round>,
        delivered: Promise<Round, ()>,
    ) -> Result<()> {
        let Answered {
            batch,
            requests,
            answers,
        } = answered;
        let askers = self.answers.get_mut(batch).map(std::mem::take);
        let product = self.askers.get(batch).map(|(_, product)| product);
        let (Some(askers), Some(product)) = (askers, product) else {
            delivered.deliver(());
            return Ok(());
        };
        let submissions: Vec<Submission> = requests
            .into_iter()
            .map(|request| match request {
                Ok(submission) => submission,
                Err(never) => match never {},
            })
            .collect();
        let units: Vec<_> = submissions
            .iter()
            .zip(&answers)
            .filter_map(|(submission, answer)| match answer {
                Answer::Issued(issued) | Answer::Existing(issued) => Some((submission, issued)),
                Answer::Refused(_) | Answer::Open => None,
            })
            .collect();
        let mut sealed = vault.seal_secrets(product, &units).into_iter();
        for (answer, asker) in answers.into_iter().zip(askers) {
            let device_ca = match &answer {
                Answer::Issued(issued) => {
                    self.tally.count(product, "issued");
                    Some(issued.device_ca)
                }
                Answer::Existing(issued) => {
                    self.tally.count(product, "existing");
                    Some(issued.device_ca)
                }
                Answer::Refused(refusal) => {
                    self.tally.refused(product, refusal);
                    None
                }
                Answer::Open => {
                    self.tally.count(product, "open");
                    self.open.push(asker);
                    continue;
                }
            };
            let (chain, secrets) = match device_ca {
                Some(generation) => (vault.chain(generation), sealed.next().unwrap_or_default()),
                None => (Ok(Vec::new()), Vec::new()),
            };
            asker.answer(match chain {
                Ok(chain) => Ok(Given::Certificate {
                    answer,
                    chain,
                    secrets,
                }),
                Err(error) => Err(unavailable(error.into())),
            });
        }
        delivered.deliver(());
        Ok(())
    }

    fn report(&mut self, (): ()) -> Result<()> {
        Ok(())
    }
}

impl Tally {
    fn count(&mut self, product: &Sku, outcome: &'static str) {
        let count = self.requests.entry((product.clone(), outcome)).or_default();
        *count = count.saturating_add(1);
    }

    fn refused(&mut self, product: &Sku, refusal: &Refusal) {
        self.count(product, "refused");
        self.rule(refusal);
    }

    fn rule(&mut self, refusal: &Refusal) {
        let count = self.refusals.entry(refusal.code().to_owned()).or_default();
        *count = count.saturating_add(1);
    }
}
