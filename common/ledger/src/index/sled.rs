//! The index in a sled database.
//!
//! sled is quick and not to be trusted with the truth: after a power cut it may have lost commits
//! that it acknowledged, or panic when it is opened. So its panics are caught, its file is synced
//! once more behind its back, and a database that was open when the machine went down is not
//! believed at all.
//!
//! ```text
//! FOLDER/lock     held (flock) by the one process that has the index open; says how it was left
//! FOLDER/sled/    the database
//! ```

use std::cell::Cell;
use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Read as _};
use std::os::unix::fs::{DirBuilderExt, FileExt, OpenOptionsExt};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread;
use std::time::Duration;

use rustix::fs::{AtFlags, CWD, StatxFlags, statx};

use super::{Batch, Entries, IndexStore};
use crate::StorageError;
use crate::log::lock::Locked;
use crate::log::regular::{is_regular, open_regular};
use crate::log::{Head, Position};
use crate::storage_error::io_error;

/// The memory that sled may use for its cache, in bytes.
const CACHE_BYTES: u64 = 64 << 20;

/// Where the head is stored; sorts before every key of ours.
const HEAD_KEY: &[u8] = &[0];

/// The layout of the keys and values, stored with the head.
const FORMAT: u8 = 1;

/// Why an index that was open is not believed, unless the process that had it open is all that ended.
const MACHINE_WENT_DOWN: &str =
    "the machine went down while the index was open, or it is a copy of one that was open";

/// Why an index is not believed that is not as it was closed.
const NOT_AS_CLOSED: &str = "it is not as it was when it was closed";

/// How often opening is tried while threads of a database that this process closed still hold it.
const LOCK_TRIES: u32 = 40;

/// How long to wait between two of them.
const LOCK_WAIT: Duration = Duration::from_millis(50);

/// How long sled is waited for before it is asked again; each time twice as long.
const FLUSH_WAIT: Duration = Duration::from_millis(100);

/// How long at most.
const FLUSH_WAIT_MAX: Duration = Duration::from_secs(10);

thread_local! {
    static CATCHING: Cell<bool> = const { Cell::new(false) };
}

/// Whether this thread is inside sled, where a panic is caught and becomes
/// [`StorageError::IndexBroken`]. A panic hook can keep silent then: nobody has to read about it.
#[must_use]
pub fn panics_are_caught() -> bool {
    CATCHING.get()
}

/// An index in a folder of its own.
pub struct SledIndex {
    folder: PathBuf,
    /// `None` once closed.
    db: Option<sled::Db>,
    head: Option<Head>,
    /// Set by the first failure: from then on the index is not believed.
    broken: AtomicBool,
    /// What that was, as far as it is known.
    why: OnceLock<String>,
    lock: Locked,
}

impl std::fmt::Debug for SledIndex {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SledIndex")
            .field("folder", &self.folder)
            .field("head", &self.head)
            .finish_non_exhaustive()
    }
}

impl SledIndex {
    /// Opens the index in `folder`. The caller compares its head with the log.
    ///
    /// # Errors
    /// [`StorageError::IndexMissing`] when there is none; [`StorageError::IndexLocked`] when
    /// another process has it open; [`StorageError::IndexBroken`] when it cannot be read or was
    /// open when the machine went down; [`StorageError::Io`]. Nothing is changed then, and
    /// [`Self::rebuild`] makes an empty one.
    pub fn open(folder: &Path) -> Result<Self, StorageError> {
        let missing = || StorageError::IndexMissing {
            path: folder.to_owned(),
        };
        let lock = open_regular(
            OpenOptions::new().read(true).write(true),
            &lock_path(folder),
        );
        let lock = match lock {
            Ok(lock) => lock,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Err(missing()),
            Err(error) => return Err(io_error("open", &lock_path(folder))(error)),
        };
        let lock = take_lock(lock, folder)?;
        if !is_plain(folder) {
            return Err(missing());
        }
        let broken = |reason: &str| StorageError::IndexBroken {
            path: Some(folder.to_owned()),
            reason: reason.to_owned(),
        };
        let closed = match left(&lock, folder) {
            Left::Closed { records } => Some(records),
            Left::Killed => None,
            Left::Unknown(reason) => return Err(broken(reason)),
        };
        mark_open(&lock, folder).map_err(io_error("write", &lock_path(folder)))?;
        let index = Self::start(folder, lock)?;
        if closed.is_some_and(|records| index.head.map_or(0, |head| head.size) != records) {
            return Err(index.break_with(NOT_AS_CLOSED.to_owned()));
        }
        Ok(index)
    }

    /// Why an index in `folder` would have to be made again, as far as that can be told without opening it; none if it
    /// seems in order. Takes no lock and changes nothing.
    ///
    /// # Errors
    /// [`StorageError::Io`].
    pub fn complaint(folder: &Path) -> Result<Option<&'static str>, StorageError> {
        let missing = Ok(Some("there is none"));
        let lock = open_regular(OpenOptions::new().read(true), &lock_path(folder));
        let lock = match lock {
            Ok(lock) => lock,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return missing,
            Err(error) => return Err(io_error("open", &lock_path(folder))(error)),
        };
        if !is_plain(folder) {
            return missing;
        }
        Ok(match left(&lock, folder) {
            Left::Closed { .. } | Left::Killed => None,
            Left::Unknown(reason) => Some(reason),
        })
    }

    /// Makes an empty index in `folder`, in place of what is there.
    ///
    /// # Errors
    /// [`StorageError::IndexLocked`] when another process has it open;
    /// [`StorageError::IndexBroken`] when the new one cannot be opened; [`StorageError::Io`].
    pub fn rebuild(folder: &Path) -> Result<Self, StorageError> {
        match DirBuilder::new().mode(0o700).create(folder) {
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            Err(error) => return Err(io_error("create", folder)(error)),
        }
        let mut options = OpenOptions::new();
        let options = options.read(true).write(true).create(true).truncate(false);
        let lock = open_regular(options.mode(0o600), &lock_path(folder))
            .map_err(io_error("create", &lock_path(folder)))?;
        let lock = take_lock(lock, folder)?;
        // Not one that was half removed: until the new one is open, there is none.
        mark(&lock, "").map_err(io_error("write", &lock_path(folder)))?;
        let database = database_folder(folder);
        let removed = match fs::symlink_metadata(&database) {
            Ok(found) if found.is_dir() => fs::remove_dir_all(&database),
            Ok(_) => fs::remove_file(&database),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            Err(error) => Err(error),
        };
        removed.map_err(io_error("remove", &database))?;
        DirBuilder::new()
            .mode(0o700)
            .create(&database)
            .map_err(io_error("create", &database))?;
        let index = Self::start(folder, lock)?;
        mark_open(&index.lock, folder).map_err(io_error("write", &lock_path(folder)))?;
        Ok(index)
    }

    /// Opens the database; the lock is ours.
    fn start(folder: &Path, lock: Locked) -> Result<Self, StorageError> {
        let config = sled::Config::new()
            .path(database_folder(folder))
            .cache_capacity(CACHE_BYTES)
            .use_compression(false)
            // What a killed process did not write is made again from the log.
            .flush_every_ms(None)
            .print_profile_on_drop(false);
        let mut tries = 0;
        let db = loop {
            tries += 1;
            match guarded(|| config.open()) {
                Err(Failure::Locked) if tries < LOCK_TRIES => thread::sleep(LOCK_WAIT),
                result => break result.map_err(|failure| failure.into_error(folder))?,
            }
        };
        let mut index = Self {
            folder: folder.to_owned(),
            db: Some(db),
            head: None,
            broken: AtomicBool::new(false),
            why: OnceLock::new(),
            lock,
        };
        index.head = match index.sled(|db| db.get(HEAD_KEY))? {
            None => None,
            Some(value) => match decode_head(&value) {
                Some(head) => Some(head),
                None => {
                    return Err(index.break_with("it was written by another version".to_owned()));
                }
            },
        };
        Ok(index)
    }

    /// Makes everything durable and closes the index. Dropping it does the same, and cannot say
    /// when it fails.
    ///
    /// # Errors
    /// As [`IndexStore::flush`].
    pub fn close(mut self) -> Result<(), StorageError> {
        self.shut()
    }

    fn shut(&mut self) -> Result<(), StorageError> {
        if self.db.is_none() {
            return Ok(());
        }
        // One that failed or was contradicted must not be believed again.
        let sound = if self.broken.load(Ordering::Relaxed) {
            Err(self.failed_before())
        } else {
            Ok(())
        };
        let flushed = sound.and_then(|()| self.flush());
        let db = self.db.take();
        // sled writes once more when it is dropped, hence the sync behind it.
        let dropped = guarded(|| {
            drop(db);
            Ok(())
        });
        let result = flushed
            .and_then(|()| dropped.map_err(|failure| failure.into_error(&self.folder)))
            .and_then(|()| sync_database(&self.folder));
        let records = self.head.map_or(0, |head| head.size);
        let left = match (&result, database_bytes(&self.folder)) {
            (Ok(()), Some(bytes)) => format!("{CLOSED}{bytes} {records}"),
            _ => "broken".to_owned(),
        };
        mark(&self.lock, &left).map_err(io_error("write", &lock_path(&self.folder)))?;
        result
    }

    /// Does something with the database, and never again after it failed.
    fn sled<T>(
        &self,
        operation: impl FnOnce(&sled::Db) -> sled::Result<T>,
    ) -> Result<T, StorageError> {
        let db = match &self.db {
            Some(db) if !self.broken.load(Ordering::Relaxed) => db,
            _ => return Err(self.failed_before()),
        };
        guarded(|| operation(db)).map_err(|failure| {
            self.broken.store(true, Ordering::Relaxed);
            let error = failure.into_error(&self.folder);
            if let StorageError::IndexBroken { reason, .. } = &error {
                let _ = self.why.set(reason.clone());
            }
            error
        })
    }

    /// The failure after which it is not used any more.
    fn failed_before(&self) -> StorageError {
        let why = self.why.get().cloned();
        self.break_with(why.unwrap_or_else(|| "it failed before".to_owned()))
    }

    fn break_with(&self, reason: String) -> StorageError {
        self.broken.store(true, Ordering::Relaxed);
        StorageError::IndexBroken {
            path: Some(self.folder.clone()),
            reason,
        }
    }
}

impl Drop for SledIndex {
    fn drop(&mut self) {
        // What cannot be made durable here is rebuilt: the lock file says so.
        let _ = self.shut();
    }
}

impl IndexStore for SledIndex {
    fn head(&self) -> Option<Head> {
        self.head
    }

    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, StorageError> {
        Ok(self.sled(|db| db.get(key))?.map(|value| value.to_vec()))
    }

    fn scan_prefix(&self, prefix: &[u8]) -> Result<Entries<'_>, StorageError> {
        let mut entries = Some(self.sled(|db| Ok(db.scan_prefix(prefix)))?);
        Ok(Box::new(std::iter::from_fn(move || {
            loop {
                let iterator = entries.as_mut()?;
                match self.sled(|_| iterator.next().transpose()) {
                    Ok(Some((key, _))) if key == HEAD_KEY => {}
                    Ok(Some((key, value))) => return Some(Ok((key.to_vec(), value.to_vec()))),
                    Ok(None) => return None,
                    Err(error) => {
                        entries = None;
                        return Some(Err(error));
                    }
                }
            }
        })))
    }

    fn distrust(&self) {
        self.broken.store(true, Ordering::Relaxed);
    }

    fn write(&mut self, batch: Batch, head: Head) -> Result<(), StorageError> {
        let mut changes = sled::Batch::default();
        for (key, change) in batch.changes {
            match change {
                Some(value) => changes.insert(key, value),
                None => changes.remove(key),
            }
        }
        changes.insert(HEAD_KEY, encode_head(&head));
        self.sled(|db| db.apply_batch(changes))?;
        self.head = Some(head);
        Ok(())
    }

    fn flush(&mut self) -> Result<(), StorageError> {
        self.sled(flush)?;
        // sled's own flush does not wait for the disk.
        sync_database(&self.folder).inspect_err(|_| self.broken.store(true, Ordering::Relaxed))
    }
}

/// Has sled write what it holds, and finds out if it cannot. Of a write that fails in one of its own threads, sled does not
/// tell whoever waits for it, who would wait for ever; but it does so when somebody else asks for the same.
fn flush(db: &sled::Db) -> sled::Result<usize> {
    let (over, waiting) = mpsc::channel::<()>();
    thread::scope(|scope| {
        scope.spawn(move || {
            let mut wait = FLUSH_WAIT;
            while waiting.recv_timeout(wait) == Err(RecvTimeoutError::Timeout) {
                // It may only be slow: whoever asks waits, too.
                scope.spawn(|| guarded(|| db.flush()).is_ok());
                wait = (wait * 2).min(FLUSH_WAIT_MAX);
            }
        });
        let flushed = db.flush();
        drop(over);
        flushed
    })
}

/// What sled can do to us.
enum Failure {
    Locked,
    Full,
    Broken(String),
}

impl Failure {
    fn into_error(self, folder: &Path) -> StorageError {
        let path = folder.to_owned();
        match self {
            Self::Locked => StorageError::IndexLocked { path },
            Self::Full => StorageError::DiskFull { path, bytes: 0 },
            Self::Broken(reason) => StorageError::IndexBroken {
                path: Some(path),
                reason,
            },
        }
    }
}

/// Runs what calls sled, and makes a failure of its panics and of its errors.
fn guarded<T>(operation: impl FnOnce() -> sled::Result<T>) -> Result<T, Failure> {
    let before = CATCHING.replace(true);
    // Nothing of what a panic leaves half done is used again: the index counts as broken.
    let result = catch_unwind(AssertUnwindSafe(operation));
    CATCHING.set(before);
    match result {
        Ok(Ok(value)) => Ok(value),
        Ok(Err(sled::Error::Io(error))) if error.kind() == io::ErrorKind::StorageFull => {
            Err(Failure::Full)
        }
        // sled gives no other sign of this one than its words.
        Ok(Err(sled::Error::Io(error))) if error.to_string().contains("could not acquire lock") => {
            Err(Failure::Locked)
        }
        Ok(Err(error)) => Err(Failure::Broken(error.to_string())),
        Err(panic) => {
            let text = panic
                .downcast_ref::<String>()
                .map(String::as_str)
                .or_else(|| panic.downcast_ref::<&str>().copied())
                .unwrap_or("no reason given");
            // The first line says it; sled prints whole structures behind it.
            let line = text.lines().next().unwrap_or_default();
            let line: String = line.chars().take(200).collect();
            Err(Failure::Broken(format!("the database gave up: {line}")))
        }
    }
}

fn lock_path(folder: &Path) -> PathBuf {
    folder.join("lock")
}

fn database_folder(folder: &Path) -> PathBuf {
    folder.join("sled")
}

fn database_file(folder: &Path) -> PathBuf {
    database_folder(folder).join("db")
}

/// Whether there is a database, of files and folders alone: sled would open whatever stands there.
fn is_plain(folder: &Path) -> bool {
    let database = database_folder(folder);
    let is_folder = fs::symlink_metadata(&database).is_ok_and(|found| found.is_dir());
    let plain = |entry: io::Result<fs::DirEntry>| {
        let found = entry.and_then(|entry| entry.file_type());
        found.is_ok_and(|found| found.is_file() || found.is_dir())
    };
    is_folder
        && is_regular(&database_file(folder)).unwrap_or(false)
        && fs::read_dir(&database).is_ok_and(|mut entries| entries.all(plain))
}

/// Makes the file that sled writes to durable.
fn sync_database(folder: &Path) -> Result<(), StorageError> {
    let path = database_file(folder);
    File::open(&path)
        .and_then(|file| file.sync_data())
        .map_err(io_error("sync", &path))
}

fn take_lock(file: File, folder: &Path) -> Result<Locked, StorageError> {
    Locked::take(file)
        .map_err(io_error("lock", &lock_path(folder)))?
        .ok_or_else(|| StorageError::IndexLocked {
            path: folder.to_owned(),
        })
}

/// Writes into the lock file how the index is left, durably.
fn mark(lock: &File, left: &str) -> io::Result<()> {
    lock.set_len(0)?;
    lock.write_all_at(left.as_bytes(), 0)?;
    lock.sync_data()
}

/// How the lock file begins when the index was closed and everything in it is durable: the length of the database's file
/// and the number of records that it was written up to follow.
const CLOSED: &str = "closed ";

/// How an index was left, by what its lock file says of who had it open last.
enum Left {
    /// Everything in it is durable, as far as this many records.
    Closed { records: u64 },
    /// The process was killed. The operating system keeps every write of it.
    Killed,
    /// Nobody knows what of it was kept, for this reason.
    Unknown(&'static str),
}

fn left(mut lock: &File, folder: &Path) -> Left {
    let mut text = String::new();
    if lock.by_ref().take(256).read_to_string(&mut text).is_err() {
        return Left::Unknown(NOT_AS_CLOSED);
    }
    if let Some(closed) = text.strip_prefix(CLOSED) {
        let parsed = closed
            .split_once(' ')
            .and_then(|(bytes, records)| Some((bytes.parse().ok()?, records.parse().ok()?)));
        return match parsed {
            Some((bytes, records)) if database_bytes(folder) == Some(bytes) => {
                Left::Closed { records }
            }
            _ => Left::Unknown(NOT_AS_CLOSED),
        };
    }
    if incarnation(folder).is_some_and(|incarnation| incarnation == text) {
        Left::Killed
    } else {
        Left::Unknown(MACHINE_WENT_DOWN)
    }
}

/// The length of the database's file.
fn database_bytes(folder: &Path) -> Option<u64> {
    Some(fs::symlink_metadata(database_file(folder)).ok()?.len())
}

/// Writes into the lock file that the index is open.
fn mark_open(lock: &File, folder: &Path) -> io::Result<()> {
    mark(lock, &incarnation(folder).unwrap_or_default())
}

/// What tells this database's file, in this mount of its file system, in this running of the machine, from every other:
/// only there does the operating system still hold what a killed process wrote. A copy of the home, an image put back under
/// a machine that went on, or a disk that was taken away and came back, is something else, and so may be what is in it.
fn incarnation(folder: &Path) -> Option<String> {
    let boot = fs::read_to_string("/proc/sys/kernel/random/boot_id").ok()?;
    // Of the number of the mount there is one that is never used again, since Linux 6.8 (STATX_MNT_ID_UNIQUE).
    let unique = StatxFlags::from_bits_retain(0x4000);
    let wanted = StatxFlags::INO | StatxFlags::BTIME | StatxFlags::MNT_ID | unique;
    let flags = AtFlags::SYMLINK_NOFOLLOW;
    let found = statx(CWD, database_file(folder), flags, wanted).ok()?;
    Some(format!(
        "open {} {}:{} {} {}.{} {}",
        boot.trim(),
        found.stx_dev_major,
        found.stx_dev_minor,
        found.stx_ino,
        found.stx_btime.tv_sec,
        found.stx_btime.tv_nsec,
        found.stx_mnt_id,
    ))
}

fn encode_head(head: &Head) -> Vec<u8> {
    let mut bytes = vec![FORMAT];
    bytes.extend_from_slice(&head.size.to_be_bytes());
    bytes.extend_from_slice(&head.link);
    bytes.extend_from_slice(&head.end.to_u64().to_be_bytes());
    bytes
}

fn decode_head(bytes: &[u8]) -> Option<Head> {
    let (format, bytes) = bytes.split_first()?;
    let (size, bytes) = bytes.split_first_chunk()?;
    let (link, bytes) = bytes.split_first_chunk()?;
    let end: &[u8; 8] = bytes.try_into().ok()?;
    (*format == FORMAT).then_some(Head {
        size: u64::from_be_bytes(*size),
        link: *link,
        end: Position::from_u64(u64::from_be_bytes(*end)),
    })
}
