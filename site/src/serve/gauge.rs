//! The gauge on the key store: how it is, as it is seen without its PIN, looked at from time to time by a thread of its own.
//! A module that hangs holds that thread and no other.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use mintmark_keys::KeyUri;

use crate::commands::status::{PATIENCE, Store};
use crate::failure::{Error, Result};

/// How long lies between two looks.
const INTERVAL: Duration = Duration::from_secs(5);

/// What was seen last.
pub(crate) struct Gauge {
    uri: KeyUri,
    seen: Arc<Mutex<Seen>>,
}

struct Seen {
    store: Option<Store>,
    /// Since when it is being looked at.
    looking: Option<Instant>,
    /// Nobody reads it any more.
    over: bool,
}

impl Gauge {
    /// Begins to look.
    ///
    /// # Errors
    /// THREAD-UNAVAILABLE.
    pub(crate) fn watch(uri: &KeyUri) -> Result<Self> {
        let seen = Arc::new(Mutex::new(Seen {
            store: None,
            looking: Some(Instant::now()),
            over: false,
        }));
        let (shared, looked_at) = (Arc::clone(&seen), uri.clone());
        thread::Builder::new()
            .name("gauge".to_owned())
            .spawn(move || look(&looked_at, &shared))
            .map_err(|error| {
                let message = "a thread that looks after the token cannot be started";
                Error::environment("THREAD-UNAVAILABLE", message).cause(error)
            })?;
        Ok(Self {
            uri: uri.clone(),
            seen,
        })
    }

    /// How the key store is; waits for the first look as long as `site status` would.
    pub(crate) fn store(&self) -> Store {
        let begin = Instant::now();
        loop {
            let seen = lock(&self.seen);
            let silent = seen.looking.is_some_and(|since| since.elapsed() > PATIENCE);
            match &seen.store {
                Some(store) if !silent => return store.clone(),
                _ if silent || begin.elapsed() > PATIENCE => return Store::silent(&self.uri),
                _ => {}
            }
            drop(seen);
            thread::sleep(Duration::from_millis(5));
        }
    }
}

impl Drop for Gauge {
    fn drop(&mut self) {
        lock(&self.seen).over = true;
    }
}

fn look(uri: &KeyUri, seen: &Mutex<Seen>) {
    loop {
        let store = Store::found(uri, mintmark_keys::health(uri));
        {
            let mut seen = lock(seen);
            (seen.store, seen.looking) = (Some(store), None);
        }
        thread::sleep(INTERVAL);
        let mut seen = lock(seen);
        if seen.over {
            return;
        }
        seen.looking = Some(Instant::now());
    }
}

fn lock(seen: &Mutex<Seen>) -> MutexGuard<'_, Seen> {
    seen.lock().unwrap_or_else(PoisonError::into_inner)
}
