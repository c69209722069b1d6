//! The connection of a pool to its token: made by one thread for all, and given up by whichever finds it lost.

use cryptoki::error::{Error as CryptokiError, RvError};
use cryptoki::session::{Session, UserType};
use cryptoki::slot::{Limit, Slot, TokenInfo};
use cryptoki::types::AuthPin;

use super::{Pool, SESSIONS_PER_PROCESSOR, processors};
use crate::error::Error;
use crate::token::fault::Fault;
use crate::token::gate::Pass;
use crate::token::locate::{self, Found};
use crate::token::{disk, kept};

#[derive(Clone, Copy)]
pub(super) enum Connection {
    Down,
    /// A thread is making it.
    Coming,
    Up(Slot),
}

#[derive(Clone, Copy)]
pub(super) enum Refusal {
    Incorrect { final_try: bool, locked: bool },
    Locked,
}

impl Refusal {
    pub(super) fn error(self, store: &str) -> Error {
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

/// A connection that was made.
struct Made {
    slot: Slot,
    epoch: u64,
    session: Session,
    sessions_max: usize,
}

impl Pool {
    /// Makes the connection that is coming. If it cannot be made, says why, to everybody who waits for it.
    pub(super) fn establish(&self) -> Result<(), Error> {
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
        if disk::is_softhsm(info.manufacturer_id()) {
            kept::keep(info.serial_number());
        }
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
    pub(super) fn open_session(&self, slot: Slot) -> Result<Session, Fault> {
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
    pub(super) fn disconnect(&self, generation: u64) {
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
    pub(super) fn close(&self, sessions: impl Iterator<Item = Session>, epoch: u64) {
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
}

/// How many sessions the token allows one application, as far as it says.
fn sessions_max(info: &TokenInfo) -> usize {
    let bound = |limit| match limit {
        Limit::Max(count) => usize::try_from(count).unwrap_or(usize::MAX),
        Limit::Unavailable | Limit::Infinite => usize::MAX,
    };
    bound(info.max_session_count()).min(bound(info.max_rw_session_count()))
}
