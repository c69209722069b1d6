//! What a vault keeps its ledger on, in memory or in files, and what a crash leaves of it.

use std::fs::{self, OpenOptions};
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard};

use crate::index::{Batch, Entries, IndexStore, MemoryIndex};
use crate::ledger::{Ledger, View};
use crate::log::{Fault, FaultyLog, Head, LogStore, MemoryLog, Position, Record, Records};
use crate::storage_error::StorageError;
use crate::tests::fixture::{NEW_YEAR, genesis};

/// What a crash leaves of the index.
#[derive(Clone, Copy, Debug)]
pub(super) enum IndexLeft {
    /// All that it held.
    Kept,
    /// Nothing.
    Lost,
    /// What it held when the process began.
    Stale,
}

/// A log that outlives the process that writes it.
#[derive(Clone)]
pub(super) struct Log(Arc<Mutex<FaultyLog<MemoryLog>>>);

impl Log {
    fn held(&self) -> MutexGuard<'_, FaultyLog<MemoryLog>> {
        self.0.lock().unwrap()
    }
}

impl LogStore for Log {
    fn head(&self) -> Head {
        self.held().head()
    }

    fn append(
        &mut self,
        expected: &Head,
        records: &[Vec<u8>],
    ) -> Result<Vec<Position>, StorageError> {
        self.held().append(expected, records)
    }

    fn read(&self, at: Position) -> Result<Record, StorageError> {
        self.held().read(at)
    }

    fn scan(&self, from: Position) -> Result<Records<'_>, StorageError> {
        let records: Vec<_> = self.held().scan(from)?.collect();
        Ok(Box::new(records.into_iter()))
    }
}

#[derive(Default)]
struct IndexHeld {
    index: MemoryIndex,
    fails: bool,
}

/// An index that outlives the process that writes it.
#[derive(Clone, Default)]
pub(super) struct Index(Arc<Mutex<IndexHeld>>);

impl Index {
    fn held(&self) -> MutexGuard<'_, IndexHeld> {
        self.0.lock().unwrap()
    }
}

impl IndexStore for Index {
    fn head(&self) -> Option<Head> {
        self.held().index.head()
    }

    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, StorageError> {
        self.held().index.get(key)
    }

    fn scan_prefix(&self, prefix: &[u8]) -> Result<Entries<'_>, StorageError> {
        let entries: Vec<_> = self.held().index.scan_prefix(prefix)?.collect();
        Ok(Box::new(entries.into_iter()))
    }

    fn write(&mut self, batch: Batch, head: Head) -> Result<(), StorageError> {
        let mut held = self.held();
        if std::mem::take(&mut held.fails) {
            return Err(StorageError::DiskFull {
                path: "index".into(),
                bytes: 1,
            });
        }
        held.index.write(batch, head)
    }

    fn flush(&mut self) -> Result<(), StorageError> {
        Ok(())
    }
}

/// Where a ledger is kept.
pub(super) enum Disk {
    Memory {
        log: Log,
        index: Index,
        /// The index as it was when the process began.
        before: MemoryIndex,
    },
    Files {
        folder: tempfile::TempDir,
        /// How many copies were made: each power cut leaves one, and the process goes on in it.
        copies: u32,
        /// Bytes of an incomplete group that the next start must find.
        torn: u64,
    },
}

impl Disk {
    pub(super) fn memory() -> Self {
        Self::Memory {
            log: Log(Arc::new(Mutex::new(FaultyLog::new(MemoryLog::new())))),
            index: Index::default(),
            before: MemoryIndex::new(),
        }
    }

    pub(super) fn files() -> Self {
        // A power cut is written out here, and no disk has to be waited for: with one, nearly all the time goes into syncs.
        let memory = Path::new("/dev/shm");
        let folder = tempfile::tempdir_in(memory).or_else(|_| tempfile::tempdir());
        Self::Files {
            folder: folder.unwrap(),
            copies: 0,
            torn: 0,
        }
    }

    pub(super) fn is_memory(&self) -> bool {
        matches!(self, Self::Memory { .. })
    }

    fn path(folder: &tempfile::TempDir, copies: u32) -> PathBuf {
        folder.path().join(format!("ledger-{copies}"))
    }

    pub(super) fn create(&self) -> Ledger {
        match self {
            Self::Memory { .. } => self.over(),
            Self::Files { folder, copies, .. } => {
                Ledger::create(&Self::path(folder, *copies), genesis(), NEW_YEAR).unwrap()
            }
        }
    }

    fn over(&self) -> Ledger {
        let Self::Memory { log, index, .. } = self else {
            panic!("a ledger in files is not over other stores");
        };
        let (log, index) = (Box::new(log.clone()), Box::new(index.clone()));
        Ledger::over(log, index, genesis(), NEW_YEAR).unwrap()
    }

    /// The next process opens what is there.
    pub(super) fn open(&mut self) -> Ledger {
        match self {
            Self::Memory { index, before, .. } => {
                *before = index.held().index.clone();
                self.over()
            }
            Self::Files {
                folder,
                copies,
                torn,
            } => {
                let path = Self::path(folder, *copies);
                let before = folder.path().join("index-before");
                let _ = fs::remove_dir_all(&before);
                copy_folder(&path.join("index"), &before);
                let seen = View::open(&path).unwrap();
                assert_eq!(seen.torn_bytes(), *torn);
                let (ledger, opened) = Ledger::open(&path, "site 0.1.0").unwrap();
                assert_eq!(opened.torn_bytes, std::mem::take(torn));
                assert_eq!(seen.state(), ledger.state());
                ledger
            }
        }
    }

    /// Makes the next append fail.
    pub(super) fn fail_append(&self, fault: Fault) {
        if let Self::Memory { log, .. } = self {
            log.held().fail_append(0, fault);
        }
    }

    /// Makes the next write of the index fail.
    pub(super) fn fail_index(&self) {
        if let Self::Memory { index, .. } = self {
            index.held().fails = true;
        }
    }

    /// The process ends by `end`, without having been told to.
    pub(super) fn crash(&mut self, left: IndexLeft, end: impl FnOnce()) {
        end();
        match self {
            Self::Memory { log, index, before } => {
                let mut held = log.held();
                let empty = FaultyLog::new(MemoryLog::new());
                let inner = std::mem::replace(&mut *held, empty).into_inner();
                *held = FaultyLog::new(inner);
                let mut index = index.held();
                match left {
                    IndexLeft::Kept => {}
                    IndexLeft::Lost => index.index = MemoryIndex::new(),
                    IndexLeft::Stale => index.index = before.clone(),
                }
            }
            Self::Files { folder, copies, .. } => {
                let index = Self::path(folder, *copies).join("index");
                let before = folder.path().join("index-before");
                if !matches!(left, IndexLeft::Kept) {
                    fs::remove_dir_all(&index).unwrap();
                }
                if matches!(left, IndexLeft::Stale) {
                    copy_folder(&before, &index);
                }
            }
        }
    }

    /// The power goes while `commit` writes a group, of which `share` 65,535ths reach the disk, and nothing else does.
    /// Whether the group is whole.
    pub(super) fn cut_power(&mut self, share: u16, commit: impl FnOnce()) -> bool {
        let Self::Files {
            folder,
            copies,
            torn,
        } = self
        else {
            panic!("only files are written in part");
        };
        let path = Self::path(folder, *copies);
        *copies += 1;
        let left = Self::path(folder, *copies);
        copy_folder(&path, &left);
        let segment = segment(&left);
        let before = fs::metadata(&segment).unwrap().len();
        commit();
        let written = path.join("log").join(segment.file_name().unwrap());
        let bytes = fs::read(written).unwrap();
        let group = bytes.len() as u64 - before;
        let stored = group * u64::from(share) / u64::from(u16::MAX);
        fs::write(&segment, &bytes[..(before + stored) as usize]).unwrap();
        let file = OpenOptions::new().write(true).open(&segment).unwrap();
        file.sync_all().unwrap();
        fs::remove_dir_all(path).unwrap();
        let whole = stored == group;
        *torn = if whole { 0 } else { stored };
        whole
    }
}

/// The newest file of the log.
fn segment(path: &Path) -> PathBuf {
    let files = fs::read_dir(path.join("log")).unwrap();
    let files = files.map(|file| file.unwrap().path());
    let logs = files.filter(|file| file.extension().is_some_and(|extension| extension == "log"));
    logs.max().unwrap()
}

/// Copies a folder, where there is one. A file of the index that goes meanwhile is not missed.
fn copy_folder(from: &Path, to: &Path) {
    let Ok(files) = fs::read_dir(from) else {
        return;
    };
    fs::create_dir_all(to).unwrap();
    for file in files {
        let file = file.unwrap();
        let target = to.join(file.file_name());
        if file.path().is_dir() {
            copy_folder(&file.path(), &target);
            continue;
        }
        match fs::copy(file.path(), target) {
            Err(gone) if gone.kind() == ErrorKind::NotFound => {}
            other => drop(other.unwrap()),
        }
    }
}
