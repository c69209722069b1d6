//! PKCS#11 tokens (PKCS #11 version 2.40 and 3.x) through cryptoki.
//!
//! Keys are made in the token, sensitive and never extractable, for one purpose each. Symmetric keys are brought into
//! it, to stay there. What CKA attributes they have is written down in `attributes.rs`, `secret.rs` and `transport.rs`,
//! and asserted whenever a key is looked up.

mod attributes;
mod data;
mod disk;
mod fault;
mod gate;
#[cfg(test)]
pub(crate) mod imported;
mod kept;
mod key;
mod locate;
mod module;
mod pool;
mod probe;
mod secret;
mod store;
mod transport;

use std::sync::Arc;

use cryptoki::slot::Limit;

use crate::error::Error;
use crate::health::TokenHealth;
use crate::pin::{self, KeptPin, Prompt};
use crate::pin_source::PinSource;
use crate::store::KeyStore;
use crate::uri::Pkcs11Uri;

/// Opens the token that `uri` names: finds it, logs in once.
pub(crate) fn open(uri: &Pkcs11Uri, prompt: Prompt<'_>) -> Result<Arc<dyn KeyStore>, Error> {
    let module = module::load(uri.module_path())?;
    let found = locate::token(&module, &locate::Wanted::of(uri))?;
    let store = format!("the token {}", locate::describe(&found.info, found.slot));
    if found.info.user_pin_locked() {
        return Err(Error::PinLocked { store });
    }
    // A token with a keypad of its own takes no PIN from us (CKF_PROTECTED_AUTHENTICATION_PATH).
    let pin = if let Some(path) = uri.pin_source().and_then(PinSource::file) {
        KeptPin::file(&path)?
    } else if found.info.protected_authentication_path() {
        KeptPin::Keypad
    } else {
        let last_try = if found.info.user_pin_final_try() {
            ", one try left"
        } else {
            ""
        };
        let question = format!("PIN of {store}{last_try}");
        KeptPin::typed(&pin::obtain(None, prompt, &store, &question)?, &store)?
    };
    let facts = locate::facts(&module, &found)?;
    let pool = pool::Pool::connect(module, found, store, pin)?;
    let chosen = store::Chosen {
        object: uri.object().map(Into::into),
        id: uri.id().map(Into::into),
    };
    Ok(Arc::new(store::TokenStore::new(pool, facts, chosen)))
}

/// What the token that `uri` names says without a login.
pub(crate) fn health(uri: &Pkcs11Uri) -> Result<TokenHealth, Error> {
    let module = module::load(uri.module_path())?;
    let found = locate::token(&module, &locate::Wanted::of(uri))?;
    let info = &found.info;
    let free = |limit, count: Option<u64>| match limit {
        Limit::Max(most) => count.map(|count| most.saturating_sub(count)),
        Limit::Unavailable | Limit::Infinite => None,
    };
    // The store needs sessions that may write, and a token may count those apart.
    let sessions_free = [
        free(info.max_session_count(), info.session_count()),
        free(info.max_rw_session_count(), info.rw_session_count()),
    ]
    .into_iter()
    .flatten()
    .min();
    Ok(TokenHealth {
        facts: locate::facts(&module, &found)?,
        slot: found.slot.id(),
        initialised: info.token_initialized(),
        write_protected: info.write_protected(),
        error_state: info.error_state(),
        pin_initialised: info.user_pin_initialized(),
        pin_count_low: info.user_pin_count_low(),
        pin_final_try: info.user_pin_final_try(),
        pin_locked: info.user_pin_locked(),
        pin_to_be_changed: info.user_pin_to_be_changed(),
        sessions_free,
        private_memory_free: info
            .free_private_memory()
            .and_then(|bytes| u64::try_from(bytes).ok()),
    })
}
