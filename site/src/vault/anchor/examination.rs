//! What a key store holds in the place of the anchor, held against the log before anything is changed.

use mintmark_console::Console;
use mintmark_keys::{Alternating, KeyStore, Purpose};
use mintmark_ledger::StorageError;
use mintmark_ledger::ledger::{Ledger, Opened, View};
use mintmark_ledger::state::State;

use super::{ANCHOR_MOVED, Anchor, LABEL, counter_of, leased};
use crate::commands::SOFTWARE;
use crate::failure::{Error, Result};
use crate::home::Home;
use crate::vault::Facts;
use crate::vault::keyring::{Identity, VAULT_SIGN, expect_same};
use crate::vault::reading::Shown;

/// The code of a home that is older than its token, or another one.
pub(crate) const HOME_OLDER: &str = "HOME-OLDER-THAN-ANCHOR";

/// What a key store holds in the place of the anchor.
#[derive(Debug)]
pub(crate) enum Found {
    /// Nothing that is whole.
    None,
    /// The anchor.
    Anchor(Box<Anchor>),
    /// Two that contradict each other, of one counter.
    Contested(u64),
}

/// Looks for the anchor in a key store.
///
/// # Errors
/// What the store fails with.
pub(crate) fn find(store: &dyn KeyStore) -> Result<Found> {
    match Alternating::new(store, LABEL).read(counter_of) {
        Ok(found) => {
            let anchor = found.and_then(|(_, value)| Anchor::from_cbor(&value));
            Ok(anchor.map_or(Found::None, |anchor| Found::Anchor(Box::new(anchor))))
        }
        Err(mintmark_keys::Error::DataChanged { counter, .. }) => {
            Ok(Found::Contested(counter.unwrap_or(0)))
        }
        Err(error) => Err(error.into()),
    }
}

/// Refuses a key store that serves another vault.
///
/// # Errors
/// ANCHOR-EXISTS.
pub(crate) fn refuse_existing(store: &dyn KeyStore) -> Result<()> {
    let whose = match find(store)? {
        Found::None => return Ok(()),
        Found::Anchor(anchor) => {
            let Anchor { vault, lineage, .. } = &*anchor;
            format!("vault {vault}, lineage {lineage}")
        }
        Found::Contested(_) => "some vault, in two versions".to_owned(),
    };
    let message = format!("the key store holds the anchor of another log already: {whose}");
    Err(Error::environment("ANCHOR-EXISTS", message).hint(format!(
        "give this vault a token or a folder of its own; if that vault will never be used again, remove the data objects \
         {LABEL} with the token's own tool, or the files of that name from the folder"
    )))
}

/// Opens the log, which has to hold what its anchor knows: nothing in the home is changed otherwise.
pub(in crate::vault) fn open_ledger(
    home: &Home,
    found: &Found,
    console: &Console,
) -> Result<(Ledger, Opened)> {
    let anchor = match found {
        Found::Anchor(anchor) if anchor.vault == home.config().vault => Some(anchor),
        _ => None,
    };
    let floor = anchor.map(|anchor| anchor.floor());
    let shown = Shown::new(console);
    let watch = |work, done, of| shown.tell(work, done, of);
    let opened = Ledger::open_watched(home.path(), SOFTWARE, floor, &watch);
    match (opened, anchor) {
        (Ok(opened), _) => Ok(opened),
        (Err(mintmark_ledger::Error::Storage(error)), Some(anchor)) => Err(not_held(error, anchor)),
        (Err(error), _) => Err(error.into()),
    }
}

/// Holds what a key store has in the place of the anchor against the log. Nothing is changed yet.
///
/// # Errors
/// ANCHOR-OF-ANOTHER; VAULT-KEY-CHANGED; what the store fails with.
pub(in crate::vault) fn examine(
    home: &Home,
    state: &State,
    store: &dyn KeyStore,
    found: &Found,
) -> Result<Option<Trouble>> {
    let stated = state.anchor();
    let trouble = match found {
        Found::Anchor(anchor) => {
            let (vault, lineage) = (&anchor.vault, anchor.lineage);
            if *vault != home.config().vault || Some(lineage) != state.lineage() {
                expect_own(store, &Facts::read(home, state)?.identity)?;
                return Err(of_another(anchor));
            }
            if anchor.counter >= stated {
                return Ok(None);
            }
            Trouble::RolledBack {
                held: anchor.counter,
                stated,
            }
        }
        // A log that never had one has none to miss: an interruption came between the making of the two.
        Found::None if stated == 0 => return Ok(None),
        Found::None => Trouble::Missing { stated },
        Found::Contested(counter) => Trouble::Contested { counter: *counter },
    };
    expect_own(store, &Facts::read(home, state)?.identity)?;
    Ok(Some(trouble))
}

/// What a key store holds for a log that is only looked at.
#[derive(Debug)]
pub(crate) enum Inspected {
    /// Nothing, and the log never stated anything.
    NotYet,
    /// Nothing that is valid, and officers vouched for the log.
    VouchedFor,
    /// An anchor of this log.
    Held {
        /// The anchor.
        anchor: Box<Anchor>,
        /// How many units it leases that the log has not spent.
        leased: u64,
    },
}

/// Looks at the anchor as every command that writes does before it writes anything.
///
/// # Errors
/// As `Vault::open`, where the home and the token do not fit each other.
pub(crate) fn inspect(home: &Home, view: &View, store: &dyn KeyStore) -> Result<Inspected> {
    let found = find(store)?;
    let state = view.state();
    let trouble = examine(home, state, store, &found)?;
    Trouble::expect_none(trouble, state)?;
    match found {
        _ if trouble.is_some() => Ok(Inspected::VouchedFor),
        Found::Anchor(anchor) => {
            match view.expect_floor(anchor.floor()) {
                Err(mintmark_ledger::Error::Storage(error)) => {
                    return Err(not_held(error, &anchor));
                }
                held => held?,
            }
            let slots = leased(state, &anchor).into_iter();
            let leased = slots.map(|slots| slots.end.saturating_sub(slots.first));
            Ok(Inspected::Held {
                leased: leased.sum(),
                anchor,
            })
        }
        Found::None | Found::Contested(_) => Ok(Inspected::NotYet),
    }
}

/// Before anything is said of an anchor: that this is the vault's own token at all.
pub(in crate::vault) fn expect_own(store: &dyn KeyStore, identity: &Identity) -> Result<()> {
    match store.find(VAULT_SIGN, Purpose::Sign)? {
        Some(key) => expect_same(VAULT_SIGN, &key, &identity.sign),
        None => Ok(()),
    }
}

/// Why a vault has no anchor. Officers' re-anchor ends it; until then messages are carried, and nothing else is done.
#[derive(Clone, Copy, Debug)]
pub(in crate::vault) enum Trouble {
    Missing { stated: u64 },
    RolledBack { held: u64, stated: u64 },
    Contested { counter: u64 },
}

impl Trouble {
    /// The highest counter that the token holds.
    pub(super) fn held(self) -> u64 {
        match self {
            Self::Missing { .. } => 0,
            Self::RolledBack { held, .. } => held,
            Self::Contested { counter } => counter,
        }
    }

    /// Whether it stops the vault: not where officers vouched for the log, and it only has to be done yet.
    pub(super) fn stops(self, state: &State) -> bool {
        state.leases_unknown().is_none()
    }

    /// As an error, where it stops the vault.
    ///
    /// # Errors
    /// ANCHOR-MISSING, ANCHOR-ROLLED-BACK, ANCHOR-MOVED.
    pub(in crate::vault) fn expect_none(trouble: Option<Self>, state: &State) -> Result<()> {
        match trouble.filter(|trouble| trouble.stops(state)) {
            Some(trouble) => Err(trouble.error()),
            None => Ok(()),
        }
    }

    pub(super) fn error(self) -> Error {
        let (code, message) = match self {
            Self::Missing { stated } => (
                "ANCHOR-MISSING",
                format!(
                    "the token holds no valid anchor of this vault, and held one before: the log states version {stated}"
                ),
            ),
            Self::RolledBack { held, stated } => (
                "ANCHOR-ROLLED-BACK",
                format!(
                    "the token's anchor is version {held}, and the log states version {stated}: the token was put back from \
                     an older copy"
                ),
            ),
            Self::Contested { counter } => (
                ANCHOR_MOVED,
                format!(
                    "the token holds two anchors of version {counter}: two homes were used with it at the same time"
                ),
            ),
        };
        Error::integrity(code, message).hint(
            "put the vault's own token back, and never run two copies of a home; if its anchor is lost, run `site media \
             export DIR`, have officers vouch for the log (`hq site reanchor`), and import what comes back: nothing is \
             issued until then",
        )
    }
}

/// What is leased and not spent, for people.
pub(crate) fn lease_in_words(units: u64) -> String {
    let leased = match units {
        1 => "1 unit is leased and not spent".to_owned(),
        _ => format!("{units} units are leased and not spent"),
    };
    format!("{leased}: a command is at work, or the last one did not stop cleanly")
}

/// A log that could not be opened, or does not hold what its anchor knows.
fn not_held(error: StorageError, anchor: &Anchor) -> Error {
    match error {
        StorageError::LogRolledBack { .. } | StorageError::LogForked { .. } => {
            older(&error, anchor)
        }
        other => other.into(),
    }
}

fn older(error: &StorageError, anchor: &Anchor) -> Error {
    let Anchor { counter, size, .. } = anchor;
    let message = match error {
        StorageError::LogForked { .. } => format!(
            "the token knows another log than this home's: its anchor, version {counter}, names {size} records that are not \
             these"
        ),
        _ => format!(
            "this home is older than what its token knows: its anchor, version {counter}, names {size} records, and the log \
             has fewer"
        ),
    };
    Error::integrity(HOME_OLDER, message).cause(error).hint(
        "put the newest copy of the home back; if there is none, run `site recover --declare-restore`; never run two copies \
         of a home",
    )
}

pub(in crate::vault) fn of_another(anchor: &Anchor) -> Error {
    let Anchor { vault, lineage, .. } = anchor;
    let message = format!(
        "the anchor in the token is that of vault {vault}, lineage {lineage}: this home is another"
    );
    Error::integrity("ANCHOR-OF-ANOTHER", message).hint(
        "put the token back that belongs to this home, or correct --home or SITE_HOME, or `keys` in the home's config.toml; if \
         this is a copy from before a restore that was declared, `site recover --declare-restore`",
    )
}
