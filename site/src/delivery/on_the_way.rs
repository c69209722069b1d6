//! Names under which files are being written: who needs to know what stands there waits.

use std::collections::HashSet;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

use super::Digest;

/// Digests of names that files get.
#[derive(Default)]
pub(super) struct OnTheWay {
    names: Mutex<HashSet<Digest>>,
    landed: Condvar,
    awaited: AtomicBool,
}

impl OnTheWay {
    fn names(&self) -> MutexGuard<'_, HashSet<Digest>> {
        self.names.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn extend(&self, names: &[Digest]) {
        self.names().extend(names);
    }

    pub(super) fn remove(&self, names: &[Digest]) {
        let mut known = self.names();
        for name in names {
            known.remove(name);
        }
        drop(known);
        self.landed.notify_all();
    }

    /// Waits until what is being written under a name stands there, or never will.
    pub(super) fn wait_for(&self, name: Digest) {
        let mut names = self.names();
        while names.contains(&name) {
            self.awaited.store(true, Ordering::Relaxed);
            names = self
                .landed
                .wait(names)
                .unwrap_or_else(PoisonError::into_inner);
        }
        self.awaited.store(false, Ordering::Relaxed);
    }

    /// Whether somebody waits for one of them.
    pub(super) fn is_awaited(&self) -> bool {
        self.awaited.load(Ordering::Relaxed)
    }
}
