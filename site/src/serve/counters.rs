//! What the service counts of its own: connections, handshakes, answers. The numbers only grow, but for what is open now.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// How often the same trouble is told of.
const TROUBLE_TIME: Duration = Duration::from_secs(5);

/// Why a connection came to nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum TurnedAway {
    /// There are as many connections as there can be.
    Full,
    /// So many are of this address already.
    Address,
    /// So many are of this station already.
    Station,
    /// It speaks no TLS.
    NotTls,
    /// The handshake failed: an old version, a foreign certificate, garbage.
    Handshake,
    /// The handshake took too long.
    HandshakeLate,
    /// It sent its request too slowly, or took its answer too slowly.
    Slow,
}

impl TurnedAway {
    /// Every reason.
    const ALL: [Self; 7] = [
        Self::Full,
        Self::Address,
        Self::Station,
        Self::NotTls,
        Self::Handshake,
        Self::HandshakeLate,
        Self::Slow,
    ];

    /// Its name in metrics and logs.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Full => "full",
            Self::Address => "address",
            Self::Station => "station",
            Self::NotTls => "not-tls",
            Self::Handshake => "handshake",
            Self::HandshakeLate => "handshake-late",
            Self::Slow => "slow",
        }
    }
}

/// The numbers.
#[derive(Debug, Default)]
pub(crate) struct Counters {
    /// Connections that are open.
    pub(crate) open: AtomicU64,
    /// Connections whose handshake succeeded.
    pub(crate) connected: AtomicU64,
    turned_away: Mutex<BTreeMap<TurnedAway, u64>>,
    answers: Mutex<BTreeMap<(&'static str, u16), u64>>,
    /// When trouble was told of last, and how much there was since.
    trouble: Mutex<(Option<Instant>, u64)>,
}

impl Counters {
    /// One more that came to nothing.
    pub(crate) fn turned_away(&self, why: TurnedAway) {
        let mut counts = self
            .turned_away
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        *counts.entry(why).or_default() += 1;
    }

    /// One more answer. Routes are few, and are ours; so are the statuses.
    pub(crate) fn answered(&self, route: &'static str, status: u16) {
        let mut counts = self.answers.lock().unwrap_or_else(PoisonError::into_inner);
        *counts.entry((route, status)).or_default() += 1;
    }

    /// How many came to nothing, by reason, those that never were with zero.
    pub(crate) fn turned_away_so_far(&self) -> Vec<(&'static str, u64)> {
        let counts = self
            .turned_away
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let count = |why: TurnedAway| {
            let count = counts.get(&why).copied().unwrap_or_default();
            (why.as_str(), count)
        };
        TurnedAway::ALL.map(count).to_vec()
    }

    /// How many answers there were, by route and status.
    pub(crate) fn answers_so_far(&self) -> Vec<((&'static str, u16), u64)> {
        let counts = self.answers.lock().unwrap_or_else(PoisonError::into_inner);
        counts.iter().map(|(key, count)| (*key, *count)).collect()
    }

    /// There was trouble. Gives how much was passed over in silence, if it is time to tell of it: somebody who makes
    /// trouble is not to fill the disk.
    pub(crate) fn may_tell_of_trouble(&self) -> Option<u64> {
        let mut trouble = self.trouble.lock().unwrap_or_else(PoisonError::into_inner);
        let (told, silent) = &mut *trouble;
        if told.is_some_and(|told| told.elapsed() < TROUBLE_TIME) {
            *silent += 1;
            return None;
        }
        *told = Some(Instant::now());
        Some(std::mem::take(silent))
    }

    /// How many connections are open.
    pub(crate) fn open_now(&self) -> u64 {
        self.open.load(Ordering::Relaxed)
    }
}
