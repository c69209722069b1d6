//! Making and opening a ledger: the log is the record, and whatever else is there is checked against it or made again.

use std::collections::BTreeMap;
use std::fs::{DirBuilder, File};
use std::io::ErrorKind;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};

use super::index::{Overlay, Underway, broken, decode};
use super::prune::expect_pruned;
use super::{Ledger, text_fits};
use crate::apply::apply_leaf;
use crate::entry::{Body, Entry, Genesis, LogSequence};
use crate::error::Error;
use crate::index::{self, Batch, GatheredIndex, IndexStore, SledIndex};
use crate::log::{FileLog, Head, LogStore, Position, Unopened};
use crate::snapshot::Snapshot;
use crate::state::State;
use crate::storage_error::StorageError;
use crate::watch::{NOBODY, Watch, Watched, Work};

/// Records that are indexed in one batch while the index is brought up to the log.
const CATCH_UP_RECORDS: u64 = 2048;

/// In how many places the index is tried when it is opened.
const TRIED_PLACES: u8 = 32;

/// How many records are looked up at each.
const TRIED_RECORDS: u64 = 8;

/// What opening a ledger found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Opened {
    /// Bytes of a group that a crash left incomplete, cut off the end of the log. Nothing that depended on them was ever
    /// released.
    pub torn_bytes: u64,
    /// The file beside the log that keeps those bytes.
    pub torn_kept: Option<PathBuf>,
    /// Why the index had to be made again from the log; none if it was in order.
    pub index_rebuilt: Option<String>,
}

/// What somebody outside the folder of a ledger knows of its log, a key store for instance: it had these records.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Floor {
    /// How many.
    pub size: u64,
    /// The link behind the last of them ([`Head::link`]).
    pub link: [u8; 32],
}

/// Where things are in a ledger's folder.
pub(super) struct Folder {
    pub(super) log: PathBuf,
    pub(super) index: PathBuf,
    pub(super) snapshot: PathBuf,
}

impl Folder {
    pub(super) fn new(folder: &Path) -> Self {
        Self {
            log: folder.join("log"),
            index: folder.join("index"),
            snapshot: folder.join("state.snapshot"),
        }
    }
}

impl Ledger {
    /// Makes the ledger of a new vault in `folder`, which is made too unless it is there. `now` is what the clock says,
    /// Unix seconds.
    ///
    /// # Errors
    /// [`StorageError::LogExists`] if there is a ledger already; [`Error::Input`] if the genesis names a software version
    /// that no entry can hold; others of [`StorageError`].
    pub fn create(folder: &Path, genesis: Genesis, now: u64) -> Result<Self, Error> {
        text_fits(&genesis.software)?;
        make_folder(folder)?;
        let folder = Folder::new(folder);
        let mut log = match FileLog::create(&folder.log) {
            Err(exists @ StorageError::LogExists { .. }) => {
                // Without a single record it is what a crash left of this very call.
                let (log, _) = FileLog::open(&folder.log, None)?;
                if log.head() != Head::default() {
                    return Err(exists.into());
                }
                log
            }
            other => other?,
        };
        begin(&mut log, &genesis, now)?;
        let index = SledIndex::rebuild(&folder.index)?;
        let snapshot = Some(folder.snapshot);
        let software = genesis.software;
        let (log, index) = (Box::new(log), GatheredIndex::new(index));
        let mut ledger =
            Self::with_stores(log, Box::new(index), snapshot, &software, None, NOBODY)?;
        ledger.catch_up_index()?;
        Ok(ledger)
    }

    /// Opens the ledger in `folder` to write. `software` names the program, as the log will say.
    ///
    /// # Errors
    /// [`StorageError::LogTruncated`] or [`StorageError::LogCorrupt`] if the log ends before what its mark, the index or
    /// the snapshot know: somebody took records away, or they were damaged. Nothing is cut off then. Others of
    /// [`StorageError`]; [`Error::RecordUnreadable`] and [`Error::GenesisMissing`] for a log that is not a vault's;
    /// [`Error::Input`] for a name that no entry can hold.
    pub fn open(folder: &Path, software: &str) -> Result<(Self, Opened), Error> {
        Self::open_knowing(folder, software, None)
    }

    /// As [`Ledger::open`], with what somebody else knows of the log: this alone tells a power cut from records that were
    /// taken away together with all that is kept beside them.
    ///
    /// # Errors
    /// [`StorageError::LogRolledBack`] and [`StorageError::LogForked`] if the log does not have those records: nothing in
    /// the folder was changed then. Others as [`Ledger::open`].
    pub fn open_knowing(
        folder: &Path,
        software: &str,
        floor: Option<Floor>,
    ) -> Result<(Self, Opened), Error> {
        Self::open_watched(folder, software, floor, NOBODY)
    }

    /// As [`Ledger::open_knowing`], for somebody who sees how far it is.
    ///
    /// # Errors
    /// As there.
    pub fn open_watched(
        folder: &Path,
        software: &str,
        floor: Option<Floor>,
        watch: Watch<'_>,
    ) -> Result<(Self, Opened), Error> {
        text_fits(software)?;
        let genesis_missing = || Error::GenesisMissing {
            path: folder.to_owned(),
        };
        let paths = Folder::new(folder);
        let mut snapshot = Snapshot::read(&paths.snapshot)?;
        let known = snapshot.as_ref().map(|snapshot| snapshot.head);
        let log = match Unopened::survey(&paths.log, known) {
            Err(corrupt @ StorageError::LogCorrupt { .. }) => {
                // Perhaps it is the snapshot that belongs to another log; the log is the record. But a log that has
                // fewer whole records than the snapshot knows of has lost some: then nothing may be cut off as torn.
                expect_whole(&paths.log, known, corrupt)?;
                snapshot = None;
                Unopened::survey(&paths.log, None)?
            }
            other => other?,
        };
        if let Some(floor) = floor {
            log.expect_link(floor.size, &floor.link)?;
        }
        if let Some(snapshot) = &snapshot
            && snapshot.state.genesis().is_none()
        {
            return Err(genesis_missing());
        }
        // Before anything is cut off: an index that knows more records than the log has is evidence, and is not made
        // again. It was never written before its records were durable.
        let index = Found::open(&paths.index)?;
        if let Found::Index(index) = &index
            && let Some(known) = index.head()
        {
            log.expect(&known)?;
        }
        let (log, found) = log.open()?;
        let (index, mut index_rebuilt) = index.of(&paths.index, &log)?;
        let mut ledger = Self::with_stores(
            Box::new(log),
            Box::new(GatheredIndex::new(index)),
            Some(paths.snapshot),
            software,
            snapshot,
            watch,
        )?;
        if ledger.state.genesis().is_none() {
            return Err(genesis_missing());
        }
        if let Some(reason) = ledger.check_index(&paths.index, watch)? {
            index_rebuilt.get_or_insert(reason);
        }
        Ok((
            ledger,
            Opened {
                torn_bytes: found.torn_bytes,
                torn_kept: found.torn_kept,
                index_rebuilt,
            },
        ))
    }

    /// Brings the index up to the log and tries it here and there. One that fails or contradicts the log is made again,
    /// and the reason is given.
    fn check_index(&mut self, path: &Path, watch: Watch<'_>) -> Result<Option<String>, Error> {
        let checked = self
            .catch_up_index_watched(watch)
            .and_then(|()| self.try_index());
        let reason = match checked {
            Ok(()) => return Ok(None),
            Err(Error::Storage(StorageError::IndexBroken { reason, .. })) => reason,
            Err(other) => return Err(other),
        };
        self.index.distrust();
        // The one before lets go of its files first.
        self.index = Box::new(NoIndex);
        self.index = Box::new(GatheredIndex::new(SledIndex::rebuild(path)?));
        self.catch_up_index_watched(watch)?;
        Ok(Some(reason))
    }

    /// Looks whether the index knows what it should of some records here and there, others each time, and of the newest.
    /// What it does not know cannot be told from what never was, when it is asked.
    fn try_index(&self) -> Result<(), Error> {
        let head = self.log.head();
        let seeds: [u64; 4] = std::array::from_fn(|n| {
            let bytes = head.link.as_chunks().0.get(n).copied();
            bytes.map_or(0, u64::from_be_bytes)
        });
        let newest = head.size.saturating_sub(TRIED_RECORDS);
        for n in 0..TRIED_PLACES {
            let seed = seeds[usize::from(n % 4)].rotate_left(u32::from(n));
            let somewhere = seed % head.size.max(1);
            let from = if n == 0 { newest } else { somewhere };
            let (_, position) = self.index.position_at_or_before(from)?;
            let start = if n == 0 {
                position_of(&*self.index, &*self.log, LogSequence(from))?
            } else {
                position
            };
            for record in self.log.scan(start)?.take(TRIED_RECORDS as usize) {
                let record = record?;
                let entry = decode(&record)?;
                let sequence = LogSequence(record.sequence);
                super::index::expect(&*self.index, &self.state, sequence, record.position, &entry)?;
            }
        }
        Ok(())
    }

    /// A ledger over stores of another kind, which hold what they hold; `genesis` begins the log if it is empty.
    ///
    /// # Errors
    /// As [`Ledger::open`].
    pub fn over(
        mut log: Box<dyn LogStore>,
        index: Box<dyn IndexStore>,
        genesis: Genesis,
        now: u64,
    ) -> Result<Self, Error> {
        text_fits(&genesis.software)?;
        let software = genesis.software.clone();
        if log.head().size == 0 {
            begin(&mut *log, &genesis, now)?;
        }
        let mut ledger = Self::with_stores(log, index, None, &software, None, NOBODY)?;
        ledger.catch_up_index()?;
        Ok(ledger)
    }

    /// The index is still to be brought up to the log.
    fn with_stores(
        log: Box<dyn LogStore>,
        index: Box<dyn IndexStore>,
        snapshot_path: Option<PathBuf>,
        software: &str,
        snapshot: Option<Snapshot>,
        watch: Watch<'_>,
    ) -> Result<Self, Error> {
        let (mut state, head) = match snapshot {
            Some(snapshot) => (snapshot.state, snapshot.head),
            None => (State::new(), Head::default()),
        };
        apply_from(&*log, &mut state, &head, watch)?;
        expect_pruned(&*log, &state)?;
        Ok(Self {
            checkpoint: (state.clone(), log.head()),
            log,
            index,
            snapshot: snapshot_path,
            software: software.to_owned(),
            state,
            staged: Vec::new(),
            staged_bytes: 0,
            overlay: Overlay::default(),
            anchor: None,
            started: false,
            in_hand: BTreeMap::new(),
            underway: Underway::default(),
            requests_unlogged: 0,
            poisoned: false,
            index_behind: false,
        })
    }

    /// Indexes the durable records that the index lacks.
    pub(super) fn catch_up_index(&mut self) -> Result<(), Error> {
        self.catch_up_index_watched(NOBODY)
    }

    fn catch_up_index_watched(&mut self, watch: Watch<'_>) -> Result<(), Error> {
        let head = self.log.head();
        let from = self.index.head().unwrap_or_default();
        if from == head {
            return Ok(());
        }
        let mut batch = Batch::new();
        let behind = head.size.saturating_sub(from.size);
        let mut watched = Watched::begin(watch, Work::Indexing, behind);
        for record in self.log.scan(from.end)? {
            let record = record?;
            let entry = decode(&record)?;
            super::index::add(
                &mut batch,
                &*self.index,
                &mut self.underway,
                &self.state,
                LogSequence(record.sequence),
                record.position,
                &entry,
            )?;
            if (record.sequence + 1).is_multiple_of(CATCH_UP_RECORDS) {
                self.index
                    .write(std::mem::take(&mut batch), record.head())?;
            }
            watched.advance();
        }
        self.index.write(batch, head)?;
        Ok(())
    }
}

/// Makes the folder of a ledger, for its owner alone.
fn make_folder(folder: &Path) -> Result<(), StorageError> {
    let error = |action| {
        move |source| StorageError::Io {
            action,
            path: folder.to_owned(),
            source,
        }
    };
    match DirBuilder::new().mode(0o700).create(folder) {
        Ok(()) => match folder
            .parent()
            .filter(|parent| !parent.as_os_str().is_empty())
        {
            Some(parent) => File::open(parent)
                .and_then(|p| p.sync_all())
                .map_err(error("sync")),
            None => Ok(()),
        },
        Err(exists) if exists.kind() == ErrorKind::AlreadyExists => Ok(()),
        Err(other) => Err(error("create")(other)),
    }
}

fn begin(log: &mut dyn LogStore, genesis: &Genesis, now: u64) -> Result<(), Error> {
    let body = Body::Genesis(genesis.clone());
    let entry = Entry {
        time: now,
        clock_behind_seconds: 0,
        body,
    };
    let head = log.head();
    log.append(&head, &[entry.to_cbor()])?;
    Ok(())
}

/// Brings a state, which is that of `from`, up to the end of the log.
pub(super) fn apply_from(
    log: &dyn LogStore,
    state: &mut State,
    from: &Head,
    watch: Watch<'_>,
) -> Result<(), Error> {
    let behind = log.head().size.saturating_sub(from.size);
    let mut watched = Watched::begin(watch, Work::Replaying, behind);
    for record in log.scan(from.end)? {
        let record = record?;
        let entry = decode(&record)?;
        apply_leaf(state, record.leaf(), &entry);
        watched.advance();
    }
    Ok(())
}

/// Refuses a log that was found corrupt with what a snapshot knows, unless it holds at least as many records without it.
pub(super) fn expect_whole(
    log: &Path,
    known: Option<Head>,
    corrupt: StorageError,
) -> Result<(), StorageError> {
    let Some(known) = known else {
        return Err(corrupt);
    };
    let (log, _) = FileLog::open_read_only(log, None)?;
    if log.head().size < known.size {
        return Err(corrupt);
    }
    Ok(())
}

/// What stands in the place of the index.
enum Found {
    Index(SledIndex),
    /// None that can be believed, for this reason.
    None(String),
}

impl Found {
    fn open(path: &Path) -> Result<Self, Error> {
        match SledIndex::open(path) {
            Ok(index) => Ok(Self::Index(index)),
            Err(StorageError::IndexMissing { .. }) => Ok(Self::None("there was none".to_owned())),
            Err(StorageError::IndexBroken { reason, .. }) => Ok(Self::None(reason)),
            Err(other) => Err(other.into()),
        }
    }

    /// The index, if it is of this log, or an empty one and why.
    fn of(self, path: &Path, log: &FileLog) -> Result<(SledIndex, Option<String>), Error> {
        let reason = match self {
            Self::None(reason) => reason,
            Self::Index(index) => {
                let checked = match index.head() {
                    Some(known) => belongs(&index, log, &known),
                    None => Err(broken("it was empty")),
                };
                match checked {
                    Ok(()) => return Ok((index, None)),
                    Err(StorageError::IndexBroken { reason, .. }) => reason,
                    Err(error) => error.to_string(),
                }
            }
        };
        Ok((SledIndex::rebuild(path)?, Some(reason)))
    }
}

/// In the place of an index that is being made again.
struct NoIndex;

impl IndexStore for NoIndex {
    fn head(&self) -> Option<Head> {
        None
    }

    fn get(&self, _: &[u8]) -> Result<Option<Vec<u8>>, StorageError> {
        Err(broken("it is being made again"))
    }

    fn scan_prefix(&self, _: &[u8]) -> Result<index::Entries<'_>, StorageError> {
        Err(broken("it is being made again"))
    }

    fn write(&mut self, _: Batch, _: Head) -> Result<(), StorageError> {
        Err(broken("it is being made again"))
    }

    fn flush(&mut self) -> Result<(), StorageError> {
        Err(broken("it is being made again"))
    }
}

/// Whether the index was written up to a head that the log went through.
fn belongs(index: &SledIndex, log: &FileLog, known: &Head) -> Result<(), StorageError> {
    if *known == log.head() {
        return Ok(());
    }
    // None is written before there are records.
    let last = known.size.checked_sub(1);
    let last = last.ok_or_else(|| broken("it was made from another log"))?;
    let (mut at, mut position) = index.position_at_or_before(last)?;
    while at < last {
        let record = log.read(position)?;
        if record.sequence != at {
            return Err(broken("it was made from another log"));
        }
        (at, position) = (at + 1, record.end);
    }
    if log.read(position)?.head() == *known {
        Ok(())
    } else {
        Err(broken("it was made from another log"))
    }
}

/// The position of a record, found from the nearest one whose position the index holds.
pub(super) fn position_of(
    index: &dyn IndexStore,
    log: &dyn LogStore,
    sequence: LogSequence,
) -> Result<Position, StorageError> {
    let head = log.head();
    if sequence.number() >= head.size {
        return Ok(head.end);
    }
    let (mut at, mut position) = index.position_at_or_before(sequence.number())?;
    while at < sequence.number() {
        let record = log.read(position)?;
        if record.sequence != at {
            return Err(broken("a position is another record's"));
        }
        (at, position) = (at + 1, record.end);
    }
    Ok(position)
}
