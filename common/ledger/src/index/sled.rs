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
//!
//! sled keeps some of its nodes in memory whatever it is told, unless it is [had to forget them](super::forgotten), and has
//! something to remember of every node that it ever wrote, of which one holds 16 keys at most. So what it is given is
//! [packed and in the order of time](super::runs): few keys, and hardly one that is touched again.

use std::collections::BTreeMap;
use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::thread;
use std::time::Duration;

use super::bucket::Bucket;
use super::caught::{ANSWER_WAIT, Failure, answered, flush, guarded};
use super::forgotten::{Forgotten, READ_MAX, WRITTEN};
use super::layout::{BUCKET, HEAD_KEY, bucket_key, decode_head, encode_head, parse_bucket_key};
use super::left::{CLOSED, FAILED, Left, NOT_AS_CLOSED, database_bytes, left, mark, mark_open};
use super::runs::Runs;
use super::{Batch, Entries, IndexStore};
use crate::StorageError;
use crate::log::Head;
use crate::log::lock::Locked;
use crate::log::regular::{is_regular, open_regular};
use crate::storage_error::io_error;

/// The memory that sled may use for its cache, in bytes: for each of its 256 parts, less than one node of buckets takes. [What sled
/// forgets](super::forgotten) depends on that.
const CACHE_BYTES: u64 = 256 << 10;

/// After how many buckets that were gone through they are forgotten.
const SCANNED_MAX: u64 = 4096;

/// In what pieces sled writes its file, in bytes; it holds some of them.
const SEGMENT_BYTES: usize = 64 << 10;

/// How often opening is tried while threads of a database that this process closed still hold it.
const LOCK_TRIES: u32 = 40;

/// How long to wait between two of them.
const LOCK_WAIT: Duration = Duration::from_millis(50);

/// An index in a folder of its own.
pub struct SledIndex {
    folder: PathBuf,
    /// `None` once closed.
    db: Option<sled::Db>,
    head: Option<Head>,
    runs: Box<Runs>,
    forgotten: Arc<Forgotten>,
    /// Set by the first failure: from then on the index is not believed.
    broken: AtomicBool,
    /// What that was, as far as it is known.
    why: OnceLock<Failure>,
    /// How long the database may take for what it writes.
    answer_wait: Duration,
    #[cfg(test)]
    buckets_read: std::sync::atomic::AtomicU64,
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
        let db = open_database(folder)?;
        let mut index = Self {
            folder: folder.to_owned(),
            db: Some(db),
            head: None,
            runs: Box::default(),
            forgotten: Arc::default(),
            broken: AtomicBool::new(false),
            why: OnceLock::new(),
            answer_wait: ANSWER_WAIT,
            #[cfg(test)]
            buckets_read: std::sync::atomic::AtomicU64::new(0),
            lock,
        };
        let mut entries = 0;
        if let Some(value) = index.sled(|db| db.get(HEAD_KEY))? {
            let Some((head, known)) = decode_head(&value) else {
                return Err(index.break_with("it was written by another version".to_owned()));
            };
            index.head = Some(head);
            entries = known;
        }
        // Not before it is known to be of this version.
        index.forgotten = Arc::new(index.written(Forgotten::open)?);
        index.survey()?;
        if index.runs.entries() != entries {
            return Err(index.break_with("not all of its entries are there".to_owned()));
        }
        Ok(index)
    }

    /// Notes what is in which run.
    fn survey(&mut self) -> Result<(), StorageError> {
        let mut runs = Box::<Runs>::default();
        self.each_bucket(|run, bucket, entries| {
            for key in entries.keys() {
                let place = runs.place(key);
                if place.bucket != bucket || !runs.may_have(run) {
                    return false;
                }
                runs.add(run, &place);
            }
            true
        })?;
        self.runs = runs;
        Ok(())
    }

    /// Goes through all runs, the oldest first, and their buckets, for as long as these seem to be in order.
    fn each_bucket(
        &self,
        mut visit: impl FnMut(u32, u16, BTreeMap<Vec<u8>, Option<Vec<u8>>>) -> bool,
    ) -> Result<(), StorageError> {
        let mut buckets = self.sled(|db| Ok(db.scan_prefix([BUCKET])))?;
        let mut seen = 0;
        while let Some((key, value)) = self.sled(|_| buckets.next().transpose())? {
            let bucket = parse_bucket_key(&key).zip(Bucket::from_bytes(&value));
            let sound = bucket.is_some_and(|((run, at), bucket)| visit(run, at, bucket.0));
            if !sound {
                return Err(self.unreadable());
            }
            seen += 1;
            if seen % SCANNED_MAX == 0 {
                self.sled(|_| self.forgotten.touch(READ_MAX))?;
            }
        }
        Ok(())
    }

    /// A bucket; an empty one if there is none.
    fn bucket(&self, run: u32, bucket: u16) -> Result<Bucket, StorageError> {
        #[cfg(test)]
        self.buckets_read.fetch_add(1, Ordering::Relaxed);
        match self.sled(|db| db.get(bucket_key(run, bucket)))? {
            Some(bytes) => Bucket::from_bytes(&bytes).ok_or_else(|| self.unreadable()),
            None => Ok(Bucket::default()),
        }
    }

    /// Has the database write until nobody holds the other end.
    #[cfg(test)]
    pub(super) fn write_until(
        &mut self,
        released: std::sync::mpsc::Receiver<()>,
    ) -> Result<(), StorageError> {
        self.answer_wait = Duration::from_millis(20);
        self.written(move |_| {
            let _ = released.recv();
            Ok(())
        })
    }

    /// How many keys the database has.
    #[cfg(test)]
    pub(super) fn database_keys(&self) -> usize {
        self.db.as_ref().unwrap().len()
    }

    /// What is kept in memory beside the database's cache, in bytes.
    #[cfg(test)]
    pub(super) fn memory_bytes(&self) -> usize {
        self.runs.memory_bytes()
    }

    /// How many buckets were read one by one.
    #[cfg(test)]
    pub(super) fn buckets_read(&self) -> u64 {
        self.buckets_read.load(Ordering::Relaxed)
    }

    fn unreadable(&self) -> StorageError {
        self.break_with("entries of it are unreadable".to_owned())
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
        let trees = std::mem::take(&mut self.forgotten);
        // sled writes once more when it is dropped, hence the sync behind it.
        let dropped = guarded(|| {
            drop(trees);
            drop(db);
            Ok(())
        });
        let result = flushed
            .and_then(|()| dropped.map_err(|failure| failure.into_error(&self.folder)))
            .and_then(|()| sync_database(&self.folder));
        let records = self.head.map_or(0, |head| head.size);
        let left = match (&result, database_bytes(&self.folder)) {
            (Ok(()), Some(bytes)) => format!("{CLOSED}{bytes} {records}"),
            _ => FAILED.to_owned(),
        };
        mark(&self.lock, &left).map_err(io_error("write", &lock_path(&self.folder)))?;
        result
    }

    /// Does something with the database, and never again after it failed.
    fn sled<T>(
        &self,
        operation: impl FnOnce(&sled::Db) -> sled::Result<T>,
    ) -> Result<T, StorageError> {
        self.trusted(|db| guarded(|| operation(db)))
    }

    /// Has the database write, which it may not get done.
    fn written<T: Send + 'static>(
        &self,
        operation: impl FnOnce(&sled::Db) -> sled::Result<T> + Send + 'static,
    ) -> Result<T, StorageError> {
        self.trusted(|db| {
            let db = db.clone();
            answered(self.answer_wait, move || operation(&db))
        })
    }

    fn trusted<T>(
        &self,
        operation: impl FnOnce(&sled::Db) -> Result<T, Failure>,
    ) -> Result<T, StorageError> {
        let db = match &self.db {
            Some(db) if !self.broken.load(Ordering::Relaxed) => db,
            _ => return Err(self.failed_before()),
        };
        operation(db).map_err(|failure| {
            self.broken.store(true, Ordering::Relaxed);
            if let Failure::Broken(_) | Failure::Silent { .. } = &failure {
                let _ = self.why.set(failure.clone());
            }
            failure.into_error(&self.folder)
        })
    }

    /// The failure after which it is not used any more.
    fn failed_before(&self) -> StorageError {
        match self.why.get() {
            Some(failure) => failure.clone().into_error(&self.folder),
            None => self.break_with("it failed before".to_owned()),
        }
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
        // One that was contradicted is not asked, even where it has nothing to say.
        self.sled(|_| Ok(()))?;
        let place = self.runs.place(key);
        for run in self.runs.having(place) {
            let found = self.bucket(run, place.bucket)?.0.remove(key);
            self.sled(|_| self.forgotten.touch(1))?;
            if let Some(value) = found {
                return Ok(value);
            }
        }
        Ok(None)
    }

    fn scan_prefix(&self, prefix: &[u8]) -> Result<Entries<'_>, StorageError> {
        let mut found = BTreeMap::new();
        self.each_bucket(|_, _, entries| {
            let entries = entries.into_iter();
            found.extend(entries.filter(|(key, _)| key.starts_with(prefix)));
            true
        })?;
        let found = found.into_iter();
        Ok(Box::new(
            found.filter_map(|(key, value)| Some(Ok((key, value?)))),
        ))
    }

    fn distrust(&self) {
        self.broken.store(true, Ordering::Relaxed);
    }

    fn silence(&self) -> Option<StorageError> {
        let silent = |failure: &&Failure| matches!(failure, Failure::Silent { .. });
        let failure = self.why.get().filter(silent)?;
        Some(failure.clone().into_error(&self.folder))
    }

    fn write(&mut self, batch: Batch, head: Head) -> Result<(), StorageError> {
        let mut by_bucket: BTreeMap<u16, Vec<_>> = BTreeMap::new();
        for (key, change) in batch.changes {
            let place = self.runs.place(&key);
            let entries = by_bucket.entry(place.bucket).or_default();
            entries.push((place, key, change));
        }
        let mut changes = sled::Batch::default();
        let run = self.runs.open();
        let is_new = self.runs.is_new(run);
        // One bucket is unpacked at a time.
        for (at, entries) in by_bucket {
            let mut bucket = match is_new {
                true => Bucket::default(),
                false => self.bucket(run, at)?,
            };
            for (place, key, change) in entries {
                if bucket.0.insert(key, change).is_none() {
                    self.runs.add(run, &place);
                }
            }
            changes.insert(&bucket_key(run, at), bucket.to_bytes());
        }
        changes.insert(HEAD_KEY, encode_head(&head, self.runs.entries()));
        let forgotten = Arc::clone(&self.forgotten);
        self.written(move |db| {
            db.apply_batch(changes)?;
            // What is read of what was just written may have to be written first.
            forgotten.touch(WRITTEN)
        })?;
        self.head = Some(head);
        Ok(())
    }

    fn flush(&mut self) -> Result<(), StorageError> {
        self.written(flush)?;
        // sled's own flush does not wait for the disk.
        sync_database(&self.folder).inspect_err(|_| self.broken.store(true, Ordering::Relaxed))
    }
}

/// Opens the database; for a moment after it was closed, sled still holds its file.
pub(super) fn open_database(folder: &Path) -> Result<sled::Db, StorageError> {
    let config = config(folder);
    let mut tries = 0;
    loop {
        tries += 1;
        match guarded(|| config.open()) {
            Err(Failure::Locked) if tries < LOCK_TRIES => thread::sleep(LOCK_WAIT),
            result => return result.map_err(|failure| failure.into_error(folder)),
        }
    }
}

/// How the database is opened.
fn config(folder: &Path) -> sled::Config {
    sled::Config::new()
        .path(database_folder(folder))
        .cache_capacity(CACHE_BYTES)
        .segment_size(SEGMENT_BYTES)
        .use_compression(false)
        // What a killed process did not write is made again from the log.
        .flush_every_ms(None)
        .print_profile_on_drop(false)
}

fn lock_path(folder: &Path) -> PathBuf {
    folder.join("lock")
}

fn database_folder(folder: &Path) -> PathBuf {
    folder.join("sled")
}

pub(super) fn database_file(folder: &Path) -> PathBuf {
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

/// Makes the files that sled writes to durable: the one, and those of nodes that are too large for it, which sled does not
/// sync at all.
fn sync_database(folder: &Path) -> Result<(), StorageError> {
    let sync = |path: &Path| {
        let synced = File::open(path).and_then(|file| file.sync_all());
        synced.map_err(io_error("sync", path))
    };
    sync(&database_file(folder))?;
    let large = database_folder(folder).join("blobs");
    let entries = match fs::read_dir(&large) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(io_error("read", &large)(error)),
    };
    for entry in entries {
        let path = entry.map_err(io_error("read", &large))?.path();
        match File::open(&path).and_then(|file| file.sync_all()) {
            // sled removes those of nodes that it wrote anew.
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            synced => synced.map_err(io_error("sync", &path))?,
        }
    }
    sync(&large)
}

fn take_lock(file: File, folder: &Path) -> Result<Locked, StorageError> {
    Locked::take(file)
        .map_err(io_error("lock", &lock_path(folder)))?
        .ok_or_else(|| StorageError::IndexLocked {
            path: folder.to_owned(),
        })
}

/// Loses the first entry of this kind, and says so nowhere. The index is closed.
#[cfg(test)]
pub(crate) fn lose(folder: &Path, kind: u8) {
    let records = match left(&File::open(lock_path(folder)).unwrap(), folder) {
        Left::Closed { records } => records,
        _ => panic!("it is not closed"),
    };
    let database = open_database(folder).unwrap();
    let (at, mut bucket) = database
        .scan_prefix([BUCKET])
        .map(Result::unwrap)
        .map(|(at, bytes)| (at, Bucket::from_bytes(&bytes).unwrap()))
        .find(|(_, bucket)| bucket.0.keys().any(|key| key[0] == kind))
        .unwrap();
    let key = bucket.0.keys().find(|key| key[0] == kind).unwrap().clone();
    bucket.0.remove(&key);
    database.insert(at, bucket.to_bytes()).unwrap();
    let (head, entries) = decode_head(&database.get(HEAD_KEY).unwrap().unwrap()).unwrap();
    database
        .insert(HEAD_KEY, encode_head(&head, entries - 1))
        .unwrap();
    drop(database);
    let bytes = database_bytes(folder).unwrap();
    fs::write(lock_path(folder), format!("{CLOSED}{bytes} {records}")).unwrap();
}
