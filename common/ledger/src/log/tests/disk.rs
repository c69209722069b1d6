//! What an append leaves behind when one operation of the operating system fails.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::{Arc, Mutex};

use super::{all, append, code, forget, group, groups};
use crate::log::disk::{Disk, OperatingSystem};
use crate::log::{FileLog, Head, LogStore, Opened, Position};

/// How an operation fails.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Failing {
    /// With this error, having done nothing; a write, having written half.
    Once(io::ErrorKind),
    /// This operation and all that follow: the process is gone, half way through a write.
    Stopped,
    /// This operation and all that follow, having done this one.
    StoppedAfter,
}

#[derive(Debug, Default)]
struct Plan {
    operations: Vec<&'static str>,
    fail: Option<(usize, Failing)>,
}

/// The operating system, but for one operation.
#[derive(Debug, Clone, Default)]
pub(super) struct FailingDisk(Arc<Mutex<Plan>>);

impl FailingDisk {
    fn run<T>(
        &self,
        name: &'static str,
        whole: impl FnOnce() -> io::Result<T>,
        half: impl FnOnce(),
    ) -> io::Result<T> {
        let mut plan = self.0.lock().unwrap();
        let number = plan.operations.len();
        plan.operations.push(name);
        match plan.fail {
            Some((at, Failing::Once(kind))) if at == number => {
                half();
                Err(kind.into())
            }
            Some((at, Failing::Stopped)) if at == number => {
                half();
                Err(io::ErrorKind::Other.into())
            }
            Some((at, Failing::StoppedAfter)) if at == number => {
                whole()?;
                Err(io::ErrorKind::Other.into())
            }
            Some((at, Failing::Stopped | Failing::StoppedAfter)) if at < number => {
                Err(io::ErrorKind::Other.into())
            }
            _ => whole(),
        }
    }

    fn fail_next(&self, name: &'static str, kind: io::ErrorKind) {
        let mut plan = self.0.lock().unwrap();
        let at = plan.operations.len() + usize::from(name == "sync");
        plan.fail = Some((at, Failing::Once(kind)));
    }

    pub(super) fn failing(at: usize, failing: Failing) -> Self {
        let fail = Some((at, failing));
        let operations = Vec::new();
        Self(Arc::new(Mutex::new(Plan { operations, fail })))
    }

    pub(super) fn operations(&self) -> Vec<&'static str> {
        self.0.lock().unwrap().operations.clone()
    }
}

impl Disk for FailingDisk {
    fn create(&self, path: &Path) -> io::Result<File> {
        self.run("create", || OperatingSystem.create(path), || ())
    }

    fn write_at(&self, file: &File, bytes: &[u8], offset: u64) -> io::Result<()> {
        self.run(
            "write",
            || OperatingSystem.write_at(file, bytes, offset),
            || {
                file.write_all_at(&bytes[..bytes.len() / 2], offset)
                    .unwrap()
            },
        )
    }

    fn sync_file(&self, file: &File) -> io::Result<()> {
        self.run("sync", || OperatingSystem.sync_file(file), || ())
    }

    fn sync_folder(&self, folder: &File) -> io::Result<()> {
        self.run("sync folder", || OperatingSystem.sync_folder(folder), || ())
    }

    fn truncate(&self, file: &File, bytes: u64) -> io::Result<()> {
        self.run("truncate", || OperatingSystem.truncate(file, bytes), || ())
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.run("rename", || OperatingSystem.rename(from, to), || ())
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        self.run("remove", || OperatingSystem.remove(path), || ())
    }
}

const SEGMENT_BYTES_MAX: u64 = 400;

/// Appends groups until one fails; returns how many were acknowledged.
fn write_groups(folder: &Path, disk: FailingDisk, count: u64) -> (u64, Option<&'static str>) {
    let (log, _) = match FileLog::open_on(folder, None, Box::new(disk)) {
        Ok(opened) => opened,
        Err(error) => return (0, Some(error.code())),
    };
    let mut log = log.with_segment_bytes_max(SEGMENT_BYTES_MAX);
    for n in 0..count {
        let head = log.head();
        if let Err(error) = log.append(&head, &group(n)) {
            return (n, Some(error.code()));
        }
    }
    (count, None)
}

#[test]
fn a_group_is_durable_before_the_append_returns_and_a_new_file_before_its_first_group() {
    let temporary = tempfile::tempdir().unwrap();
    let disk = FailingDisk::default();
    let log = FileLog::create_on(&temporary.path().join("log"), Box::new(disk.clone())).unwrap();
    let mut log = log.with_segment_bytes_max(SEGMENT_BYTES_MAX);
    let begin = ["create", "sync", "sync folder", "sync folder"];
    assert_eq!(disk.operations(), begin);
    append(&mut log, &group(0));
    append(&mut log, &group(1));
    assert_eq!(disk.operations()[4..], ["write", "sync", "write", "sync"]);
    append(&mut log, &group(2));
    assert_eq!(
        disk.operations()[8..],
        ["create", "sync folder", "write", "sync"]
    );
}

#[test]
fn whichever_operation_the_process_stops_at_nothing_acknowledged_is_lost() {
    let temporary = tempfile::tempdir().unwrap();
    let count = 6;
    let mut kinds = std::collections::BTreeSet::new();
    for failing in [Failing::Stopped, Failing::StoppedAfter] {
        for at in 0.. {
            let folder = temporary.path().join(format!("{failing:?} {at}"));
            drop(FileLog::create(&folder).unwrap());
            let disk = FailingDisk::default();
            disk.0.lock().unwrap().fail = Some((at, failing));
            let (acknowledged, error) = write_groups(&folder, disk.clone(), count);
            if error.is_none() {
                assert!(at > 12);
                break;
            }
            kinds.extend(disk.operations().get(at).copied());
            // The next process finds all that was acknowledged, and at most the one group beyond.
            let (log, _) = FileLog::open(&folder, None).unwrap();
            let found = all(&log);
            assert!(
                found == groups(acknowledged) || found == groups(acknowledged + 1),
                "{failing:?} {at}"
            );
            // And goes on from there.
            let mut log = log.with_segment_bytes_max(SEGMENT_BYTES_MAX);
            append(&mut log, &group(9));
            drop(log);
            let (log, opened) = FileLog::open(&folder, None).unwrap();
            assert_eq!(opened.torn_bytes, 0);
            assert_eq!(all(&log)[..found.len()], found);
        }
    }
    assert!(kinds.contains("write") && kinds.contains("sync") && kinds.contains("create"));
}

#[test]
fn a_recovery_that_stops_at_any_operation_can_be_done_again() {
    let temporary = tempfile::tempdir().unwrap();
    for failing in [Failing::Stopped, Failing::StoppedAfter] {
        for at in 0.. {
            let folder = temporary.path().join(format!("{failing:?} {at}"));
            let mut log = FileLog::create(&folder).unwrap();
            append(&mut log, &group(0));
            append(&mut log, &group(1));
            let head = log.head();
            append(&mut log, &group(2));
            drop(log);
            let path = folder.join("0000000000000000.log");
            let file = File::options().write(true).open(path).unwrap();
            file.set_len(head.end.0 + 30).unwrap();
            forget(&folder);

            let disk = FailingDisk::default();
            disk.0.lock().unwrap().fail = Some((at, failing));
            let result = FileLog::open_on(&folder, None, Box::new(disk.clone()));
            if result.is_ok() {
                assert_eq!(
                    disk.operations(),
                    [
                        "create",
                        "write",
                        "sync",
                        "sync folder",
                        "truncate",
                        "write",
                        "sync",
                        "sync folder"
                    ]
                );
                break;
            }
            // Before what is torn was kept, nothing is changed.
            let expected = if at < 4 {
                "STORAGE-IO"
            } else {
                "OUTCOME-UNKNOWN"
            };
            assert_eq!(code(result), expected);
            let (log, _) = FileLog::open(&folder, None).unwrap();
            assert_eq!(log.head(), head);
            assert_eq!(all(&log), groups(2));
        }
    }
}

/// A log of one group on a disk that fails, in a folder that the caller keeps.
fn one_group(folder: &Path) -> (FileLog, FailingDisk, Head) {
    let disk = FailingDisk::default();
    let mut log = FileLog::create_on(&folder.join("log"), Box::new(disk.clone())).unwrap();
    append(&mut log, &group(0));
    let head = log.head();
    (log, disk, head)
}

#[test]
fn a_full_disk_leaves_nothing_of_the_group_and_the_log_goes_on() {
    for kind in [io::ErrorKind::StorageFull, io::ErrorKind::QuotaExceeded] {
        let temporary = tempfile::tempdir().unwrap();
        let (mut log, disk, head) = one_group(temporary.path());
        disk.fail_next("write", kind);
        assert_eq!(code(log.append(&head, &group(1))), "DISK-FULL");
        assert!(disk.operations().ends_with(&["write", "truncate", "sync"]));
        assert_eq!(log.head(), head);
        let stored = std::fs::metadata(temporary.path().join("log/0000000000000000.log"));
        assert_eq!(stored.unwrap().len(), head.end.0);
        append(&mut log, &group(1));
        assert_eq!(all(&log), groups(2));
    }
}

#[test]
fn a_full_disk_at_a_new_file_leaves_the_log_as_it_was() {
    let temporary = tempfile::tempdir().unwrap();
    let (log, disk, head) = one_group(temporary.path());
    let mut log = log.with_segment_bytes_max(1);
    for _ in 0..2 {
        let mut plan = disk.0.lock().unwrap();
        plan.fail = Some((
            plan.operations.len(),
            Failing::Once(io::ErrorKind::StorageFull),
        ));
        drop(plan);
        assert_eq!(code(log.append(&head, &group(1))), "DISK-FULL");
        assert_eq!(all(&log), groups(1));
    }
    // The new file is there, and there is no room in it.
    let mut plan = disk.0.lock().unwrap();
    plan.fail = Some((
        plan.operations.len() + 2,
        Failing::Once(io::ErrorKind::StorageFull),
    ));
    drop(plan);
    assert_eq!(code(log.append(&head, &group(1))), "DISK-FULL");
    assert_eq!(all(&log), groups(1));
    let (reader, opened) = FileLog::open_read_only(&temporary.path().join("log"), None).unwrap();
    assert_eq!(reader.head(), head);
    assert_eq!(
        opened,
        Opened {
            torn_bytes: 0,
            torn_kept: None,
            records_checked: head.size
        }
    );
    append(&mut log, &group(1));
    assert_eq!(all(&log), groups(2));
}

#[test]
fn after_a_failed_write_or_sync_every_call_says_that_the_outcome_is_unknown() {
    for (name, kind) in [
        ("write", io::ErrorKind::Other),
        ("sync", io::ErrorKind::Other),
        // No room after all: the write was acknowledged, so it cannot be taken back.
        ("sync", io::ErrorKind::StorageFull),
    ] {
        let temporary = tempfile::tempdir().unwrap();
        let (mut log, disk, head) = one_group(temporary.path());
        disk.fail_next(name, kind);
        assert_eq!(code(log.append(&head, &group(1))), "OUTCOME-UNKNOWN");
        let operations = disk.operations();
        assert_eq!(code(log.append(&head, &group(1))), "OUTCOME-UNKNOWN");
        assert_eq!(code(log.read(Position::START)), "OUTCOME-UNKNOWN");
        assert_eq!(code(log.scan(Position::START)), "OUTCOME-UNKNOWN");
        assert_eq!(disk.operations(), operations, "the disk was touched again");
        drop(log);
        let (log, _) = FileLog::open(&temporary.path().join("log"), None).unwrap();
        assert_eq!(all(&log), groups(if name == "sync" { 2 } else { 1 }));
    }
}

#[test]
fn a_full_disk_on_which_the_write_cannot_be_taken_back_leaves_the_outcome_unknown() {
    for later in [1, 2] {
        let temporary = tempfile::tempdir().unwrap();
        let (mut log, disk, head) = one_group(temporary.path());
        // The write fails for want of room, and then the truncation, or the sync behind it.
        let inner = TwoFailures {
            disk: disk.clone(),
            second: later,
        };
        drop(log);
        let folder = temporary.path().join("log");
        (log, _) = FileLog::open_on(&folder, None, Box::new(inner)).unwrap();
        disk.fail_next("write", io::ErrorKind::StorageFull);
        assert_eq!(code(log.append(&head, &group(1))), "OUTCOME-UNKNOWN");
        assert_eq!(code(log.append(&head, &group(1))), "OUTCOME-UNKNOWN");
        drop(log);
        let (log, _) = FileLog::open(&folder, None).unwrap();
        assert_eq!(log.head(), head);
    }
}

/// A disk that, `second` operations after the planned failure, fails once more.
struct TwoFailures {
    disk: FailingDisk,
    second: usize,
}

impl TwoFailures {
    fn strikes(&self) -> bool {
        let plan = self.disk.0.lock().unwrap();
        plan.fail
            .is_some_and(|(at, _)| plan.operations.len() == at + self.second)
    }
}

impl Disk for TwoFailures {
    fn create(&self, path: &Path) -> io::Result<File> {
        self.disk.create(path)
    }

    fn write_at(&self, file: &File, bytes: &[u8], offset: u64) -> io::Result<()> {
        self.disk.write_at(file, bytes, offset)
    }

    fn sync_file(&self, file: &File) -> io::Result<()> {
        if self.strikes() {
            return Err(io::ErrorKind::Other.into());
        }
        self.disk.sync_file(file)
    }

    fn sync_folder(&self, folder: &File) -> io::Result<()> {
        self.disk.sync_folder(folder)
    }

    fn truncate(&self, file: &File, bytes: u64) -> io::Result<()> {
        if self.strikes() {
            return Err(io::ErrorKind::Other.into());
        }
        self.disk.truncate(file, bytes)
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.disk.rename(from, to)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        self.disk.remove(path)
    }
}
