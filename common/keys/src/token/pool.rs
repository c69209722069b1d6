//! The sessions of one token, the login they share, and how both are made again when they are lost.
//!
//! A session serves one thread at a time; opening one costs far more than a signature, so they are kept. Login belongs
//! to the application and ends with its last session, so one session, the keeper, does nothing but stay open.
//!
//! A connection is lost when the token is pulled out, when somebody logs it out, or when whatever stands between it and
//! its module breaks. Whichever call meets that connects anew, once: it finds the same token again, by label and serial
//! number, and logs in. Where this fails and nothing else in the process uses the module, the module is started anew,
//! also once. Then the call fails, and the next one tries again. A PIN that was refused is never sent again.
//!
//! Nothing calls the module while it holds the lock of the state: a call may hang, and others must be able to see it.

mod connection;

use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::available_parallelism;
use std::time::Duration;

use cryptoki::error::{Error as CryptokiError, RvError};
use cryptoki::session::{Session, SessionState};
use cryptoki::slot::Slot;

use self::connection::{Connection, Refusal};
use super::fault::Fault;
use super::gate::Pass;
use super::locate::{Found, Wanted};
use super::module::Module;
use crate::error::Error;
use crate::pin::KeptPin;
use crate::store::Liveness;

/// Sessions per processor: one works in the token while another's result is being checked.
pub(super) const SESSIONS_PER_PROCESSOR: usize = 2;

/// How often somebody who waits for a session looks whether the others hang.
const GLANCE: Duration = Duration::from_secs(1);

/// The sessions of one token.
pub(super) struct Pool {
    module: Arc<Module>,
    wanted: Wanted,
    store: String,
    pin: KeptPin,
    state: Mutex<State>,
    changed: Condvar,
}

struct State {
    /// Threads that wait for a change.
    waiting: usize,
    /// Counts connections. What was learnt in an earlier one (handles) is void in a later one.
    generation: u64,
    /// In which start of the module the present connection was made.
    epoch: u64,
    connection: Connection,
    keeper: Option<Session>,
    idle: Vec<Session>,
    /// Sessions that are open, idle or lent, without the keeper.
    open: usize,
    /// Most sessions to open, without the keeper.
    limit: usize,
    /// The token refused the PIN. It is never sent again: a token counts tries.
    refusal: Option<Refusal>,
    /// How many connections were made.
    made: u64,
    /// How many were tried for, and why the last try failed.
    tried: u64,
    failure: Option<String>,
}

/// A session lent to one thread. It is closed instead of kept unless the work on it ended well: a failed call can leave
/// an operation active in it.
struct Loan<'pool> {
    pool: &'pool Pool,
    session: Option<Session>,
    generation: u64,
    sound: bool,
    /// Given back last, after the session was closed.
    _pass: Pass<'pool>,
}

impl Drop for Loan<'_> {
    fn drop(&mut self) {
        let mut state = self.pool.state();
        if self.sound && self.generation == state.generation {
            state.idle.extend(self.session.take());
        } else {
            drop(state);
            // It counts until it is closed: the token counts it, too.
            drop(self.session.take());
            state = self.pool.state();
            state.open = state.open.saturating_sub(1);
        }
        self.pool.wake_one(state);
    }
}

/// Why there is no session.
enum NoSession {
    /// The connection of this generation did not give one.
    Fault(Fault, u64),
    /// There is no connection.
    Unconnected(Error),
}

impl Pool {
    /// Opens a first session and logs in. `store` is what errors call the token.
    pub(super) fn connect(
        module: Arc<Module>,
        found: Found,
        store: String,
        pin: KeptPin,
    ) -> Result<Arc<Self>, Error> {
        let pool = Arc::new(Self {
            module,
            wanted: found.wanted,
            store,
            pin,
            state: Mutex::new(State {
                waiting: 0,
                generation: 0,
                epoch: 0,
                connection: Connection::Down,
                keeper: None,
                idle: Vec::new(),
                open: 0,
                limit: 1,
                refusal: None,
                made: 0,
                tried: 0,
                failure: None,
            }),
            changed: Condvar::new(),
        });
        pool.call(|_, _| Ok(()))?;
        pool.module.register(&pool);
        Ok(pool)
    }

    /// What errors call the token.
    pub(super) fn store(&self) -> &str {
        &self.store
    }

    /// What is known without a call.
    pub(super) fn liveness(&self) -> Liveness {
        let (calls, busy_since) = self.module.calls();
        let state = self.state();
        Liveness {
            connected: matches!(state.connection, Connection::Up(_)),
            connections: state.made,
            calls,
            busy_since,
        }
    }

    /// Runs `work` on a session. If sessions, login or handles turn out to be lost, connects anew and runs it once more.
    /// `work` is given the generation of the connection, in which handles hold.
    pub(super) fn call<T>(
        &self,
        work: impl Fn(&Session, u64) -> Result<T, Fault>,
    ) -> Result<T, Error> {
        let mut last_chance = false;
        loop {
            let (fault, lost, generation) = match self.borrow() {
                Ok(mut loan) => {
                    let Some(session) = &loan.session else {
                        continue;
                    };
                    match work(session, loan.generation) {
                        Ok(value) => {
                            loan.sound = true;
                            return Ok(value);
                        }
                        Err(fault) => {
                            loan.sound = matches!(fault, Fault::Final(_));
                            let lost = fault.is_lost()
                                || (!loan.sound && !self.stands(session, loan.generation));
                            (fault, lost, loan.generation)
                        }
                    }
                }
                Err(NoSession::Fault(fault, generation)) => {
                    let lost = fault.is_lost();
                    (fault, lost, generation)
                }
                Err(NoSession::Unconnected(error)) => return Err(error),
            };
            if !lost {
                return Err(fault.into_error(&self.store));
            }
            self.disconnect(generation);
            if last_chance {
                return Err(self.gone(fault.describe()));
            }
            last_chance = true;
        }
    }

    /// Opens up to `wanted` sessions beside those that are open, and closes them. How many the token gave.
    pub(super) fn try_sessions(&self, wanted: usize) -> Result<usize, Error> {
        self.call(|_, _| Ok(()))?;
        let Connection::Up(slot) = self.state().connection else {
            return Err(self.gone("its connection is lost".into()));
        };
        let pass = self.module.enter()?;
        let mut open = Vec::new();
        let refused = loop {
            if open.len() == wanted {
                break None;
            }
            match self.open_session(slot) {
                Ok(session) => open.push(session),
                Err(fault) => break Some(fault),
            }
        };
        let count = open.len();
        drop(open);
        drop(pass);
        match refused {
            Some(fault) if fault.rv() != Some(RvError::SessionCount) => {
                Err(fault.into_error(&self.store))
            }
            _ => Ok(count),
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether the connection of `generation` still is the present one and logged in. A token that loses its login in
    /// the middle of a call may answer with anything, CKR_GENERAL_ERROR for one.
    fn stands(&self, session: &Session, generation: u64) -> bool {
        // In this order: a login that was made anew meanwhile began with a new generation.
        logged_in(session).unwrap_or(false) && self.state().generation == generation
    }

    fn gone(&self, reason: String) -> Error {
        Error::TokenGone {
            store: self.store.clone(),
            reason,
        }
    }

    /// Takes an idle session, opens one, or waits for one, and makes the connection where there is none.
    fn borrow(&self) -> Result<Loan<'_>, NoSession> {
        let mut state = self.state();
        let tried = state.tried;
        loop {
            match state.connection {
                Connection::Down => {
                    if let Some(refusal) = state.refusal {
                        return Err(NoSession::Unconnected(refusal.error(&self.store)));
                    }
                    // Somebody tried while this thread waited: a slow failure is not had once by each thread.
                    if let Some(reason) = state.failure.clone()
                        && state.tried != tried
                    {
                        return Err(NoSession::Unconnected(self.gone(reason)));
                    }
                    state.connection = Connection::Coming;
                    drop(state);
                    self.establish().map_err(NoSession::Unconnected)?;
                    state = self.state();
                }
                Connection::Up(slot) => {
                    let session = state.idle.pop();
                    let opens = session.is_none() && state.open < state.limit;
                    if session.is_none() && !opens {
                        state = self.wait(state)?;
                        continue;
                    }
                    if opens {
                        state.open += 1;
                    }
                    let (generation, epoch) = (state.generation, state.epoch);
                    drop(state);
                    match self.lend(session, slot, generation, epoch)? {
                        Some(loan) => return Ok(loan),
                        None => state = self.state(),
                    }
                }
                Connection::Coming => state = self.wait(state)?,
            }
        }
    }

    /// Waits for a session or a connection, as long as nothing hangs.
    fn wait<'state>(
        &self,
        mut state: MutexGuard<'state, State>,
    ) -> Result<MutexGuard<'state, State>, NoSession> {
        self.module
            .demand_no_hung_call()
            .map_err(NoSession::Unconnected)?;
        state.waiting += 1;
        let waited = self.changed.wait_timeout(state, GLANCE);
        let mut state = waited.unwrap_or_else(PoisonError::into_inner).0;
        state.waiting -= 1;
        Ok(state)
    }

    /// Lets go of the state. If anybody waits, one of them looks at it; to wake nobody would cost a system call, too.
    fn wake_one(&self, state: MutexGuard<'_, State>) {
        let waiting = state.waiting > 0;
        drop(state);
        if waiting {
            self.changed.notify_one();
        }
    }

    /// Goes into the module with a session that is counted as open; without one, opens it. `None`: look again.
    fn lend(
        &self,
        session: Option<Session>,
        slot: Slot,
        generation: u64,
        epoch: u64,
    ) -> Result<Option<Loan<'_>>, NoSession> {
        let pass = match self.module.enter() {
            Ok(pass) => pass,
            Err(error) => {
                // Another call hangs. The session is as good as before.
                let mut state = self.state();
                match session {
                    Some(session) if state.generation == generation => state.idle.push(session),
                    session => {
                        std::mem::forget(session);
                        state.open = state.open.saturating_sub(1);
                    }
                }
                return Err(NoSession::Unconnected(error));
            }
        };
        if pass.epoch() != epoch {
            // The module was started anew by another store. The number of this session may be that of another one now,
            // so it is not closed.
            std::mem::forget(session);
            let mut state = self.state();
            state.open = state.open.saturating_sub(1);
            drop(state);
            drop(pass);
            self.disconnect(generation);
            return Ok(None);
        }
        let session = match session.map_or_else(|| self.open_session(slot), Ok) {
            Ok(session) => session,
            Err(fault) => {
                let mut state = self.state();
                state.open = state.open.saturating_sub(1);
                // Other programs hold sessions too, so the token may have fewer left than it promised.
                if fault.rv() == Some(RvError::SessionCount) && state.generation == generation {
                    if state.open > 0 {
                        state.limit = state.open;
                        return Ok(None);
                    }
                    // There is not even a second one: the keeper has to work.
                    if let Some(keeper) = state.keeper.take() {
                        state.idle.push(keeper);
                        state.open = 1;
                        state.limit = 1;
                        return Ok(None);
                    }
                }
                self.wake_one(state);
                return Err(NoSession::Fault(fault, generation));
            }
        };
        Ok(Some(Loan {
            pool: self,
            session: Some(session),
            generation,
            sound: false,
            _pass: pass,
        }))
    }

    /// Whether this pool is connected, and the token agrees. For whoever is alone in the module.
    pub(super) fn answers(&self) -> bool {
        let mut state = self.state();
        let generation = state.generation;
        let (session, kept) = match state.idle.pop() {
            Some(session) => (session, false),
            None => match state.keeper.take() {
                Some(session) => (session, true),
                None => return false,
            },
        };
        drop(state);
        let answers = logged_in(&session).unwrap_or(false);
        let mut state = self.state();
        if state.generation != generation {
            // Its connection was given up meanwhile, and it was counted out only if it was the keeper.
            std::mem::forget(session);
            state.open = state.open.saturating_sub(usize::from(!kept));
            return false;
        }
        match kept {
            true => state.keeper = Some(session),
            false => state.idle.push(session),
        }
        answers
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        let mut state = self.state();
        let (idle, keeper) = (std::mem::take(&mut state.idle), state.keeper.take());
        let epoch = state.epoch;
        drop(state);
        self.close(idle.into_iter().chain(keeper), epoch);
    }
}

/// Whether the application is logged in as the user.
pub(super) fn logged_in(session: &Session) -> Result<bool, CryptokiError> {
    let state = session.get_session_info()?.session_state();
    Ok(matches!(state, SessionState::RwUser | SessionState::RoUser))
}

pub(super) fn processors() -> usize {
    available_parallelism().map_or(1, usize::from)
}
