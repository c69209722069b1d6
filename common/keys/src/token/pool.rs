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

use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::available_parallelism;
use std::time::Duration;

use cryptoki::error::{Error as CryptokiError, RvError};
use cryptoki::session::{Session, SessionState, UserType};
use cryptoki::slot::{Limit, Slot, TokenInfo};
use cryptoki::types::AuthPin;

use super::fault::Fault;
use super::gate::Pass;
use super::locate::{self, Found, Wanted};
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

#[derive(Clone, Copy)]
enum Connection {
    Down,
    /// A thread is making it.
    Coming,
    Up(Slot),
}

#[derive(Clone, Copy)]
enum Refusal {
    Incorrect { final_try: bool, locked: bool },
    Locked,
}

impl Refusal {
    fn error(self, store: &str) -> Error {
        let store = store.into();
        match self {
            Self::Incorrect { final_try, locked } => Error::PinIncorrect {
                store,
                final_try,
                locked,
            },
            Self::Locked => Error::PinLocked { store },
        }
    }
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

/// Says that no connection is coming any more, if the thread that was making it comes to grief.
struct Coming<'pool>(&'pool Pool);

impl Drop for Coming<'_> {
    fn drop(&mut self) {
        let mut state = self.0.state();
        if matches!(state.connection, Connection::Coming) {
            state.connection = Connection::Down;
        }
        drop(state);
        self.0.changed.notify_all();
    }
}

/// Why there is no session.
enum NoSession {
    /// The connection of this generation did not give one.
    Fault(Fault, u64),
    /// There is no connection.
    Unconnected(Error),
}

/// A connection that was made.
struct Made {
    slot: Slot,
    epoch: u64,
    session: Session,
    sessions_max: usize,
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

    /// Makes the connection that is coming. If it cannot be made, says why, to everybody who waits for it.
    fn establish(&self) -> Result<(), Error> {
        let coming = Coming(self);
        let made = self.make();
        let mut state = self.state();
        state.tried += 1;
        let known = state.made > 0;
        let outcome = match made {
            Ok(made) => {
                state.limit = made
                    .sessions_max
                    .saturating_sub(1)
                    .clamp(1, processors() * SESSIONS_PER_PROCESSOR);
                if made.sessions_max > 1 {
                    state.keeper = Some(made.session);
                } else {
                    state.idle.push(made.session);
                    state.open += 1;
                }
                state.epoch = made.epoch;
                state.connection = Connection::Up(made.slot);
                state.made += 1;
                state.failure = None;
                Ok(())
            }
            Err(Fault::Final(
                error @ (Error::TokenMissing { .. } | Error::ModuleFailed { .. }),
            )) if known => Err(self.gone(error.to_string())),
            Err(Fault::Final(error)) => Err(error),
            Err(fault) if known => Err(self.gone(fault.describe())),
            Err(fault) => Err(fault.into_error(&self.store)),
        };
        state.failure = match &outcome {
            Err(Error::TokenGone { reason, .. }) => Some(reason.clone()),
            _ => None,
        };
        drop(state);
        drop(coming);
        outcome
    }

    /// Finds the token, opens its first session and logs in. If the token is not found and nobody else is well, starts
    /// the module anew before it gives up.
    fn make(&self) -> Result<Made, Fault> {
        let mut pass = self.module.enter()?;
        let epoch = pass.epoch();
        let fault = match self.make_in(&mut pass) {
            Ok(made) => return Ok(made),
            Err(fault) => fault,
        };
        let lost = match &fault {
            Fault::Final(Error::TokenMissing { .. } | Error::ModuleFailed { .. }) => true,
            Fault::Final(_) => false,
            fault => fault.is_lost() || fault.rv() == Some(RvError::GeneralError),
        };
        if !lost {
            return Err(fault);
        }
        let mut pass = self.module.restart(pass)?;
        if pass.epoch() == epoch {
            return Err(fault);
        }
        self.make_in(&mut pass)
    }

    fn make_in(&self, pass: &mut Pass<'_>) -> Result<Made, Fault> {
        let Found { slot, info, .. } = locate::token_in(&self.module, pass, &self.wanted)?;
        let session = self.open_session(slot)?;
        self.log_in(&session, slot)?;
        Ok(Made {
            slot,
            epoch: pass.epoch(),
            session,
            sessions_max: sessions_max(&info),
        })
    }

    /// Logs the application in, with one try. Where it is logged in already, by another store of the same token in this
    /// process, the token does not look at the PIN.
    fn log_in(&self, session: &Session, slot: Slot) -> Result<(), Fault> {
        let pin = self.pin.obtain()?;
        let pin = pin.map(|pin| AuthPin::new(pin.as_str().into()));
        let error = match session.login(UserType::User, pin.as_ref()) {
            Ok(()) => return Ok(()),
            Err(error) => error,
        };
        let CryptokiError::Pkcs11(rv, _) = &error else {
            return Err(Fault::while_("log in")(error));
        };
        let refused = match rv {
            RvError::UserAlreadyLoggedIn => return Ok(()),
            RvError::PinIncorrect | RvError::PinInvalid | RvError::PinLenRange => {
                let info = self.module.functions().get_token_info(slot).ok();
                Refusal::Incorrect {
                    final_try: info.as_ref().is_some_and(TokenInfo::user_pin_final_try),
                    locked: info.as_ref().is_some_and(TokenInfo::user_pin_locked),
                }
            }
            RvError::PinLocked => Refusal::Locked,
            RvError::UserPinNotInitialized => {
                return Err(Error::PinNotInitialised {
                    store: self.store.clone(),
                }
                .into());
            }
            _ => return Err(Fault::while_("log in")(error)),
        };
        self.state().refusal = Some(refused);
        Err(refused.error(&self.store).into())
    }

    /// A read-write session; a read-only one on a token that is write-protected.
    fn open_session(&self, slot: Slot) -> Result<Session, Fault> {
        let functions = self.module.functions();
        match functions.open_rw_session(slot) {
            Err(CryptokiError::Pkcs11(RvError::TokenWriteProtected, _)) => {
                functions.open_ro_session(slot)
            }
            other => other,
        }
        .map_err(Fault::while_("open a session"))
    }

    /// Gives up the connection of `generation`, unless another thread did so already. Sessions on loan are closed when
    /// they come back.
    fn disconnect(&self, generation: u64) {
        let mut state = self.state();
        if state.generation != generation {
            return;
        }
        state.generation += 1;
        state.connection = Connection::Down;
        let idle = std::mem::take(&mut state.idle);
        state.open = state.open.saturating_sub(idle.len());
        let keeper = state.keeper.take();
        let epoch = state.epoch;
        drop(state);
        self.close(idle.into_iter().chain(keeper), epoch);
        self.changed.notify_all();
    }

    /// Closes sessions, unless the module was started anew since: their numbers may be those of others now. Where a call
    /// hangs, it would hang too; where somebody starts the module anew, they end without it.
    fn close(&self, sessions: impl Iterator<Item = Session>, epoch: u64) {
        let pass = self.module.enter_in_turn();
        let same = pass.as_ref().is_some_and(|pass| pass.epoch() == epoch);
        for session in sessions {
            if same {
                drop(session);
            } else {
                std::mem::forget(session);
            }
        }
        drop(pass);
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

/// How many sessions the token allows one application, as far as it says.
fn sessions_max(info: &TokenInfo) -> usize {
    let bound = |limit| match limit {
        Limit::Max(count) => usize::try_from(count).unwrap_or(usize::MAX),
        Limit::Unavailable | Limit::Infinite => usize::MAX,
    };
    bound(info.max_session_count()).min(bound(info.max_rw_session_count()))
}
