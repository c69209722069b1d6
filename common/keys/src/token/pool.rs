//! The sessions of one token, and the login they share.
//!
//! A session serves one thread at a time; opening one costs far more than a signature, so they are kept. Login belongs
//! to the application and ends with its last session, so one session, the keeper, does nothing but stay open.

use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::available_parallelism;

use cryptoki::context::Pkcs11;
use cryptoki::error::{Error as CryptokiError, RvError};
use cryptoki::session::{Session, SessionState, UserType};
use cryptoki::slot::{Limit, Slot, TokenInfo};
use cryptoki::types::AuthPin;

use super::fault::Fault;
use super::locate::{self, Found, Wanted};
use crate::error::Error;
use crate::pin::Pin;

/// Sessions per processor: one works in the token while another's result is being checked.
const SESSIONS_PER_PROCESSOR: usize = 2;

/// The sessions of one token.
pub(super) struct Pool {
    module: Pkcs11,
    wanted: Wanted,
    store: String,
    pin: Option<Pin>,
    state: Mutex<State>,
    returned: Condvar,
}

struct State {
    /// Counts connections. What was learnt in an earlier one (handles) is void in a later one.
    generation: u64,
    /// The slot of the present connection; `None` while there is none.
    slot: Option<Slot>,
    keeper: Option<Session>,
    idle: Vec<Session>,
    /// Sessions that are open, idle or lent, without the keeper.
    open: usize,
    /// Most sessions to open, without the keeper.
    limit: usize,
    /// The token refused the PIN. It is never sent again: a token counts tries.
    refusal: Option<Refusal>,
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
}

impl Drop for Loan<'_> {
    fn drop(&mut self) {
        let mut state = self.pool.state();
        if let Some(session) = self.session.take() {
            if self.sound && self.generation == state.generation {
                state.idle.push(session);
            } else {
                drop(session);
                state.open = state.open.saturating_sub(1);
            }
        }
        drop(state);
        self.pool.returned.notify_one();
    }
}

impl Pool {
    /// Opens a first session and logs in. `store` is what errors call the token.
    pub(super) fn connect(
        module: Pkcs11,
        found: Found,
        store: String,
        pin: Option<Pin>,
    ) -> Result<Self, Error> {
        let pool = Self {
            module,
            wanted: found.wanted,
            store,
            pin,
            state: Mutex::new(State {
                generation: 0,
                slot: None,
                keeper: None,
                idle: Vec::new(),
                open: 0,
                limit: 1,
                refusal: None,
            }),
            returned: Condvar::new(),
        };
        pool.call(|_, _| Ok(()))?;
        Ok(pool)
    }

    /// What errors call the token.
    pub(super) fn store(&self) -> &str {
        &self.store
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
                Err((fault, generation)) => {
                    let lost = fault.is_lost();
                    (fault, lost, generation)
                }
            };
            if last_chance || !lost {
                return Err(fault.into_error(&self.store));
            }
            last_chance = true;
            self.disconnect(generation);
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

    /// Takes an idle session, opens one, or waits for one. An error comes with the generation it happened in.
    fn borrow(&self) -> Result<Loan<'_>, (Fault, u64)> {
        let mut state = self.state();
        loop {
            let slot = match state.slot {
                Some(slot) => slot,
                None => self
                    .establish(&mut state)
                    .map_err(|fault| (fault, state.generation))?,
            };
            let session = match state.idle.pop() {
                Some(session) => session,
                None if state.open < state.limit => match self.open_session(slot) {
                    Ok(session) => {
                        state.open += 1;
                        session
                    }
                    // Other programs hold sessions too, so the token may have fewer left than it promised.
                    Err(fault) if fault.rv() == Some(RvError::SessionCount) => {
                        if state.open > 0 {
                            state.limit = state.open;
                            continue;
                        }
                        // There is not even a second one: the keeper has to work.
                        let Some(keeper) = state.keeper.take() else {
                            return Err((fault, state.generation));
                        };
                        state.open += 1;
                        state.limit = 1;
                        keeper
                    }
                    Err(fault) => return Err((fault, state.generation)),
                },
                None => {
                    state = self
                        .returned
                        .wait(state)
                        .unwrap_or_else(PoisonError::into_inner);
                    continue;
                }
            };
            return Ok(Loan {
                pool: self,
                session: Some(session),
                generation: state.generation,
                sound: false,
            });
        }
    }

    /// Finds the token, opens its first session and logs in.
    fn establish(&self, state: &mut State) -> Result<Slot, Fault> {
        if let Some(refusal) = state.refusal {
            return Err(refusal.error(&self.store).into());
        }
        let Found { slot, info, .. } = locate::token(&self.module, &self.wanted)?;
        let session = self.open_session(slot)?;
        self.log_in(&session, slot, &mut state.refusal)?;
        let sessions_max = sessions_max(&info);
        state.limit = sessions_max
            .saturating_sub(1)
            .clamp(1, processors() * SESSIONS_PER_PROCESSOR);
        if sessions_max > 1 {
            state.keeper = Some(session);
        } else {
            state.idle.push(session);
            state.open += 1;
        }
        state.slot = Some(slot);
        Ok(slot)
    }

    /// Logs the application in, with one try. Where it is logged in already, by another store of the same token in this
    /// process, the token does not look at the PIN.
    fn log_in(
        &self,
        session: &Session,
        slot: Slot,
        refusal: &mut Option<Refusal>,
    ) -> Result<(), Fault> {
        let pin = self
            .pin
            .as_ref()
            .map(|pin| AuthPin::new(pin.as_str().into()));
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
                let info = self.module.get_token_info(slot).ok();
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
        *refusal = Some(refused);
        Err(refused.error(&self.store).into())
    }

    /// A read-write session; a read-only one on a token that is write-protected.
    fn open_session(&self, slot: Slot) -> Result<Session, Fault> {
        match self.module.open_rw_session(slot) {
            Err(CryptokiError::Pkcs11(RvError::TokenWriteProtected, _)) => {
                self.module.open_ro_session(slot)
            }
            other => other,
        }
        .map_err(Fault::while_("open a session"))
    }

    /// Gives up the connection of `generation`, unless another thread did so already. Sessions on loan are closed when
    /// they come back.
    fn disconnect(&self, generation: u64) {
        let mut state = self.state();
        if state.generation == generation {
            state.generation += 1;
            state.slot = None;
            state.keeper = None;
            let idle = std::mem::take(&mut state.idle);
            state.open = state.open.saturating_sub(idle.len());
            drop(idle);
        }
        drop(state);
        self.returned.notify_all();
    }
}

/// Whether the application is logged in as the user.
pub(super) fn logged_in(session: &Session) -> Result<bool, CryptokiError> {
    let state = session.get_session_info()?.session_state();
    Ok(matches!(state, SessionState::RwUser | SessionState::RoUser))
}

fn processors() -> usize {
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
