//! The engine: the vault's own thread. It takes what waits at the desk, round by round, and puts up a board after each.
//!
//! A round goes through the vault's line as one row, so that its reservations and its signatures share syncs; a lone request
//! is a round of one. Whatever is reserved and could not be signed for stays reserved: whoever asks again gets that very
//! certificate, once the token is back and the engine has completed what is open.
//!
//! What the engine meets, and what it does:
//! - The token is away, or the disk is full: no round is begun, what waits goes on waiting, and the vault is tried again and
//!   again, with pauses that grow.
//! - A command ended before it gave the vault back: the vault is opened anew.
//! - Nobody knows what the log holds, since a sync failed, say; or the index's database has come to a standstill. Only another
//!   process gets out of either: the engine ends, and with it the service, for systemd to start it again.
//! - What is stored contradicts what is known (exit code 4): nothing is tried again; the service stays, says so, and issues
//!   nothing.

use std::path::Path;
use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use mintmark_console::{Console, Exit, Failure};

use super::board::{Board, Tally, Wall};
use super::control::Control;
use super::desk::{Desk, Loan, Next, Unanswered, Waiting};
use super::gauge::Gauge;
use super::news::{Exported, Refused, ready};
use super::round::Round;
use crate::commands::now;
use crate::commands::status::Report;
use crate::failure::{Error, Result};
use crate::home::Home;
use crate::vault::Vault;

/// How many wants make a round at most.
const ROUND_MAX: usize = 512;

/// The index of this process has come to a standstill.
const INDEX_SILENT: &str = "INDEX-SILENT";

/// A write failed, and what the log holds is unknown: what this process still reads of it may never reach the disk.
const OUTCOME_UNKNOWN: &str = "OUTCOME-UNKNOWN";

/// The token has no room for the next anchor.
const TOKEN_FULL: &str = "TOKEN-FULL";

/// Whether only another process can go on.
fn ends_service(code: &str) -> bool {
    [INDEX_SILENT, OUTCOME_UNKNOWN].contains(&code)
}

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
            if let Some(failure) = &self.broken {
                self.desk.turn_away(&self.unavailable());
                if ends_service(&failure.code) {
                    break;
                }
            }
        }
        self.desk.close(&self.failure());
        self.desk.turn_away(&self.unavailable());
        self.post(true);
        match (self.vault.take(), self.broken.take()) {
            (vault, Some(broken)) => {
                // Why it ends is said already.
                let _ = vault.map(Vault::close);
                Err(broken.into())
            }
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
        let was_full = self
            .hindrance
            .as_ref()
            .is_some_and(|hindrance| hindrance.failure.code == TOKEN_FULL);
        let tried = match &mut self.vault {
            Some(vault) => vault.probe().and_then(|()| vault.settle()).and_then(|()| {
                // Only a write tells whether there is room again.
                if was_full { vault.rest() } else { Ok(()) }
            }),
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
        let mut failure = error.failure().clone();
        if let Some(vault) = self.vault.take_if(|vault| !vault.is_usable()) {
            // Its lease burns: nobody knows what was released.
            drop(vault);
            if !ends_service(&failure.code) && failure.exit != Exit::Integrity {
                failure = log_unknown().failure().clone().cause(failure.message);
            }
        }
        // A PIN that was refused once is never tried again: the token would lock itself.
        let given_up = failure.code.starts_with("PIN-") || ends_service(&failure.code);
        if failure.exit == Exit::Integrity || given_up {
            tracing::error!(code = %failure.code, message = %failure.message, "the vault has stopped");
            // One of which the index alone stands still is closed in order: its lease goes back.
            self.vault.take_if(|_| failure.code != INDEX_SILENT);
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
                    false => Err(log_unknown()),
                };
                let answers = vault.expect_index_answers();
                if let Err(error) = answers.and(newest).and(usable) {
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
                // What was staged when it failed was never answered. Where that cannot be forgotten, it says why the vault is
                // of no use any more.
                let _ = vault.forget_staged();
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
        // Without a vault its time goes on.
        if let Some(time) = self.wall.time() {
            board.time = time;
        }
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

fn log_unknown() -> Error {
    Error::unknown(
        OUTCOME_UNKNOWN,
        "something failed, and what the log holds is unknown",
    )
    .hint("check the disk and start the service again: it completes what is open")
}

/// Whoever is told so may come again.
pub(super) fn unavailable(failure: Failure) -> Unanswered {
    Unanswered::Unavailable {
        failure,
        retry_after_seconds: PAUSE_MAX.as_secs(),
    }
}
