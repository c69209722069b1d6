//! The board: what everybody may read without asking the vault. The engine puts a new one up after each round, and whoever
//! reads takes what stands there as a whole.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::{Duration, Instant};

use mintmark_console::{Exit, Failure};
use mintmark_ledger::state::Station;
use mintmark_protocol::entitlement::DeviceIdSource;
use mintmark_protocol::identifier::{Fingerprint, Sku};
use serde_json::Value;

use crate::vault::Meters;

/// For so long the vault may be busy with one thing before it is called silent.
const SILENT_MAX: Duration = Duration::from_secs(10);

/// What the vault said last.
#[derive(Clone, Debug)]
pub(crate) struct Board {
    /// When it was put up, by the machine's clock, Unix seconds.
    pub(crate) posted: u64,
    /// The time by which the vault judges, Unix seconds.
    pub(crate) time: u64,
    /// Whether anything can be issued, and if not, why.
    pub(crate) ready: Result<(), Failure>,
    /// Every station that is not shut out, by the SHA-256 of its certificate. The counts of the day are not kept up here:
    /// the vault decides.
    pub(crate) stations: Arc<BTreeMap<Fingerprint, Station>>,
    /// The certificate of the station CA, DER; none before the first station is let in.
    pub(crate) station_ca: Option<Arc<[u8]>>,
    /// What may be asked for, by the entitlements that are not over.
    pub(crate) products: Arc<Vec<Product>>,
    /// The device CA that certifies now, and the root, DER; empty before the vault is enrolled.
    pub(crate) chain: Arc<Vec<Vec<u8>>>,
    /// What `site status --json` says; null before the vault was opened.
    pub(crate) status: Arc<Value>,
    /// How many units may be made before headquarters has to hear of it.
    pub(crate) credit_units: u64,
    /// Until when, Unix seconds.
    pub(crate) credit_until: Option<u64>,
    /// When a bundle was sealed last, Unix seconds.
    pub(crate) exported: Option<u64>,
    /// What was answered since the service was started.
    pub(crate) tally: Arc<Tally>,
}

/// A product that may be asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Product {
    /// Its name, which is its EST label.
    pub(crate) sku: Sku,
    /// Where its requests name the device.
    pub(crate) device_id_source: DeviceIdSource,
    /// The key algorithms that are allowed, such as P-256.
    pub(crate) key_algorithms: Vec<String>,
}

/// What was answered since the service was started.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Tally {
    /// Requests by product and outcome: issued, existing, refused, open.
    pub(crate) requests: BTreeMap<(Sku, &'static str), u64>,
    /// Refusals by the code of the rule.
    pub(crate) refusals: BTreeMap<String, u64>,
}

impl Board {
    /// Before anything is known.
    fn empty() -> Self {
        Self {
            posted: 0,
            time: 0,
            ready: Err(Failure::new(
                Exit::Environment,
                "SERVICE-STARTING",
                "the vault is being opened",
            )
            .hint("ask again in a few seconds")),
            stations: Arc::default(),
            station_ca: None,
            products: Arc::default(),
            chain: Arc::default(),
            status: Arc::default(),
            credit_units: 0,
            credit_until: None,
            exported: None,
            tally: Arc::default(),
        }
    }
}

/// The place where the newest board hangs.
pub(crate) struct Wall {
    newest: RwLock<Arc<Board>>,
    meters: Arc<Meters>,
    begun: Instant,
    /// When the engine was seen at work last, in milliseconds since the beginning.
    beat: AtomicU64,
    /// When the newest board was put up, in milliseconds since the beginning.
    posted: AtomicU64,
}

impl Wall {
    /// With a board that says that nothing is known yet.
    pub(crate) fn new() -> Self {
        Self {
            newest: RwLock::new(Arc::new(Board::empty())),
            meters: Arc::default(),
            begun: Instant::now(),
            beat: AtomicU64::new(0),
            posted: AtomicU64::new(0),
        }
    }

    /// The newest board. Where the vault has not been seen at work for a while, it says that, whatever was said last.
    pub(crate) fn board(&self) -> Arc<Board> {
        let newest = self.newest.read();
        let newest = Arc::clone(&newest.unwrap_or_else(PoisonError::into_inner));
        let silent = self.silent();
        if silent < SILENT_MAX || newest.ready.is_err() {
            return newest;
        }
        let seconds = silent.as_secs();
        let message = format!("the vault has been busy with one thing for {seconds} seconds");
        let failure = Failure::new(Exit::Environment, "VAULT-SILENT", message).hint(
            "look at the token: its module may hang; a long command at the vault's console is another reason, and ends",
        );
        Arc::new(Board {
            ready: Err(failure),
            ..Board::clone(&newest)
        })
    }

    /// The engine is at work.
    pub(super) fn beat(&self) {
        self.beat.store(self.elapsed(), Ordering::Relaxed);
    }

    /// Milliseconds since the beginning.
    fn elapsed(&self) -> u64 {
        u64::try_from(self.begun.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    /// The time by which the vault judges, Unix seconds: what it was when the newest board was put up, and what has passed
    /// since, by what nobody can set. None before the vault said anything.
    pub(crate) fn time(&self) -> Option<u64> {
        let newest = self.newest.read().unwrap_or_else(PoisonError::into_inner);
        let posted = self.posted.load(Ordering::Relaxed);
        let passed = self.elapsed().saturating_sub(posted) / 1000;
        (newest.time > 0).then(|| newest.time.saturating_add(passed))
    }

    /// For how long the engine was not seen at work.
    fn silent(&self) -> Duration {
        let beat = Duration::from_millis(self.beat.load(Ordering::Relaxed));
        self.begun.elapsed().saturating_sub(beat)
    }

    /// Puts another one up.
    pub(crate) fn post(&self, board: Board) {
        let mut newest = self.newest.write().unwrap_or_else(PoisonError::into_inner);
        *newest = Arc::new(board);
        self.posted.store(self.elapsed(), Ordering::Relaxed);
    }

    /// What is measured all the time: how long the token takes, and how much shares a sync.
    pub(crate) fn meters(&self) -> &Arc<Meters> {
        &self.meters
    }
}
