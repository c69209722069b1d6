//! What a log does when nothing goes wrong, and what the other tests need.

mod borders;
mod damage;
mod disk;
mod kill;
mod prune;

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use super::disk::{Disk, OperatingSystem};
use super::*;

/// The operating system without waiting for the disk, where thousands of logs are opened and none
/// has to outlive the machine.
struct Unsynced;

impl Disk for Unsynced {
    fn create(&self, path: &Path) -> io::Result<File> {
        OperatingSystem.create(path)
    }

    fn write_at(&self, file: &File, bytes: &[u8], offset: u64) -> io::Result<()> {
        OperatingSystem.write_at(file, bytes, offset)
    }

    fn sync_file(&self, _: &File) -> io::Result<()> {
        Ok(())
    }

    fn sync_folder(&self, _: &File) -> io::Result<()> {
        Ok(())
    }

    fn truncate(&self, file: &File, bytes: u64) -> io::Result<()> {
        OperatingSystem.truncate(file, bytes)
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        OperatingSystem.rename(from, to)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        OperatingSystem.remove(path)
    }
}

fn create(folder: &Path) -> FileLog {
    FileLog::create_on(folder, Box::new(Unsynced)).unwrap()
}

fn open(folder: &Path, known: Option<Head>) -> Result<(FileLog, Opened), StorageError> {
    FileLog::open_on(folder, known, Box::new(Unsynced))
}

fn code<T>(result: Result<T, StorageError>) -> &'static str {
    result.err().map_or("no error", |error| error.code())
}

/// A record that says which one it is.
fn record(group: u64, index: u64) -> Vec<u8> {
    let mut bytes = format!("record {index} of group {group} ").into_bytes();
    bytes.resize(bytes.len() + ((group * 7 + index * 13) % 60) as usize, b'.');
    bytes
}

fn group(group: u64) -> Vec<Vec<u8>> {
    (0..1 + group % 3)
        .map(|index| record(group, index))
        .collect()
}

fn append(log: &mut dyn LogStore, records: &[Vec<u8>]) -> Vec<Position> {
    let head = log.head();
    log.append(&head, records).unwrap()
}

/// A new log of some groups, closed; with its head after each group, the empty one first.
fn sample(folder: &Path, groups: u64, segment_bytes_max: u64) -> (PathBuf, Vec<Head>) {
    let folder = folder.join("log");
    let _ = fs::remove_dir_all(&folder);
    let mut log = create(&folder).with_segment_bytes_max(segment_bytes_max);
    let mut heads = vec![log.head()];
    for n in 0..groups {
        append(&mut log, &group(n));
        heads.push(log.head());
    }
    drop(log);
    forget(&folder);
    (folder, heads)
}

/// Takes the mark of a log away, as a power cut may: how long the log was is for its records to say.
fn forget(folder: &Path) {
    let _ = fs::remove_file(folder.join("head"));
}

fn all(log: &dyn LogStore) -> Vec<Vec<u8>> {
    log.scan(Position::START)
        .unwrap()
        .map(|record| record.unwrap().bytes)
        .collect()
}

fn groups(count: u64) -> Vec<Vec<u8>> {
    (0..count).flat_map(group).collect()
}

/// The files that hold the records.
fn contents(folder: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "log"))
        .map(|path| (path.clone(), fs::read(&path).unwrap()))
        .collect()
}

/// Puts the files back, without a mark.
fn restore(contents: &BTreeMap<PathBuf, Vec<u8>>) {
    for (path, bytes) in contents {
        fs::write(path, bytes).unwrap();
        forget(path.parent().unwrap());
    }
}

/// Opens a damaged log in both ways and expects this refusal, and no change.
fn assert_refused(folder: &Path, known: Option<Head>, expected: &str) -> StorageError {
    let before = contents(folder);
    let error = open(folder, known).unwrap_err();
    assert_eq!(error.code(), expected, "{error}");
    let read_only = FileLog::open_read_only(folder, known).unwrap_err();
    assert_eq!(read_only.code(), expected);
    assert!(contents(folder) == before, "a refused log was changed");
    error
}

/// Opens a log whose last group is torn; expects `kept` groups, and that the log goes on.
fn assert_cut(folder: &Path, known: Option<Head>, kept: u64, heads: &[Head]) {
    let head = heads[kept as usize];
    let before = contents(folder);
    let stored: u64 = before.values().map(|bytes| bytes.len() as u64).sum();

    let (log, opened) = FileLog::open_read_only(folder, known).unwrap();
    assert_eq!(log.head(), head);
    assert_eq!(opened.torn_bytes, stored - head.end.0);
    assert_eq!(all(&log), groups(kept));
    assert!(contents(folder) == before, "reading changed the log");

    let torn: Vec<u8> = before.values().flatten().copied().collect();
    let (mut log, opened) = open(folder, known).unwrap();
    assert_eq!(log.head(), head);
    assert_eq!(opened.torn_bytes, stored - head.end.0);
    match opened.torn_kept {
        Some(path) => assert!(fs::read(path).unwrap() == torn[head.end.0 as usize..]),
        None => assert_eq!(opened.torn_bytes, 0),
    }
    append(&mut log, &group(kept));
    assert_eq!(
        log.head(),
        heads.get(kept as usize + 1).copied().unwrap_or(log.head())
    );
    drop(log);
    let (log, opened) = open(folder, None).unwrap();
    assert_eq!(opened.torn_bytes, 0);
    assert_eq!(all(&log), groups(kept + 1));
}

#[test]
fn records_are_read_back_as_they_were_appended() {
    let temporary = tempfile::tempdir().unwrap();
    let folder = temporary.path().join("log");
    let mut log = create(&folder);
    assert_eq!(log.head(), Head::default());
    let mut positions = Vec::new();
    for n in 0..10 {
        positions.extend(append(&mut log, &group(n)));
    }
    let head = log.head();
    drop(log);

    let (log, opened) = open(&folder, None).unwrap();
    assert_eq!(log.head(), head);
    assert_eq!(
        opened,
        Opened {
            torn_bytes: 0,
            torn_kept: None,
            records_checked: head.size
        }
    );
    let mut previous = [0; 32];
    for (sequence, (at, bytes)) in positions.iter().zip(groups(10)).enumerate() {
        let read = log.read(*at).unwrap();
        assert_eq!(read.sequence, sequence as u64);
        assert_eq!(read.position, *at);
        assert_eq!(read.bytes, bytes);
        assert_eq!(read.link, link(&previous, &bytes));
        previous = read.link;
        assert_eq!(log.scan(*at).unwrap().next().unwrap().unwrap(), read);
    }
    assert_eq!(head.link, previous);
    assert_eq!(all(&log), groups(10));
    assert_eq!(log.scan(head.end).unwrap().count(), 0);
}

#[test]
fn the_files_of_a_log_are_for_their_owner_alone() {
    let temporary = tempfile::tempdir().unwrap();
    let (folder, _) = sample(temporary.path(), 20, 500);
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(&folder), 0o700);
    for path in contents(&folder).keys() {
        assert_eq!(mode(path), 0o600);
    }
}

#[test]
fn a_log_goes_on_in_a_new_file_when_one_is_full() {
    let temporary = tempfile::tempdir().unwrap();
    let (folder, heads) = sample(temporary.path(), 40, 1000);
    let files = contents(&folder);
    assert!(files.len() > 8);
    let mut end = 0;
    for (path, bytes) in &files {
        assert_eq!(
            path.file_name().unwrap().to_str().unwrap(),
            format!("{end:016x}.log")
        );
        assert!(bytes.len() <= 1000);
        end += bytes.len() as u64;
    }
    // Wherever reading begins, it reaches the end.
    for (n, known) in heads.iter().enumerate() {
        let (log, opened) = open(&folder, Some(*known)).unwrap();
        assert_eq!(log.head(), heads[40]);
        assert_eq!(opened.records_checked, heads[40].size - known.size);
        let rest: Vec<_> = log
            .scan(known.end)
            .unwrap()
            .map(|r| r.unwrap().bytes)
            .collect();
        assert_eq!(rest, (n as u64..40).flat_map(group).collect::<Vec<_>>());
    }
}

#[test]
fn a_group_is_never_divided_between_files() {
    let temporary = tempfile::tempdir().unwrap();
    let (folder, _) = sample(temporary.path(), 6, 1);
    assert_eq!(contents(&folder).len(), 6);
    assert_eq!(all(&open(&folder, None).unwrap().0), groups(6));
}

#[test]
fn a_group_outside_the_limits_is_refused_and_nothing_is_stored() {
    let temporary = tempfile::tempdir().unwrap();
    let mut log = FileLog::create(&temporary.path().join("log")).unwrap();
    let head = log.head();
    for (records, expected) in [
        (vec![], "GROUP-OUT-OF-BOUNDS"),
        (vec![vec![0; RECORD_BYTES_MAX + 1]], "RECORD-TOO-LARGE"),
        (vec![vec![]; GROUP_RECORDS_MAX + 1], "GROUP-OUT-OF-BOUNDS"),
        (
            vec![vec![0; RECORD_BYTES_MAX]; GROUP_BYTES_MAX / RECORD_BYTES_MAX],
            "GROUP-OUT-OF-BOUNDS",
        ),
    ] {
        assert_eq!(code(log.append(&head, &records)), expected);
    }
    assert_eq!(log.head(), head);
    let largest = vec![vec![1; RECORD_BYTES_MAX]; GROUP_BYTES_MAX / RECORD_BYTES_MAX - 1];
    append(&mut log, &largest);
    assert_eq!(all(&log), largest);
}

#[test]
fn an_append_to_a_head_that_moved_is_refused() {
    let temporary = tempfile::tempdir().unwrap();
    let mut log = FileLog::create(&temporary.path().join("log")).unwrap();
    let head = log.head();
    append(&mut log, &group(0));
    assert_eq!(code(log.append(&head, &group(1))), "HEAD-MOVED");
    assert_eq!(all(&log), groups(1));
}

#[test]
fn only_create_makes_a_log_and_only_where_there_is_none() {
    let temporary = tempfile::tempdir().unwrap();
    let folder = temporary.path().join("log");
    assert_eq!(code(open(&folder, None)), "LOG-MISSING");
    assert_eq!(code(FileLog::open_read_only(&folder, None)), "LOG-MISSING");
    assert!(!folder.exists());
    fs::create_dir(&folder).unwrap();
    assert_refused(&folder, None, "LOG-MISSING");
    drop(create(&folder));
    assert_eq!(code(FileLog::create(&folder)), "LOG-EXISTS");
    assert_eq!(open(&folder, None).unwrap().0.head(), Head::default());
}

#[test]
fn a_log_has_one_writer_and_any_number_of_readers() {
    let temporary = tempfile::tempdir().unwrap();
    let folder = temporary.path().join("log");
    let mut log = create(&folder);
    append(&mut log, &group(0));
    assert_eq!(code(open(&folder, None)), "LOG-LOCKED");
    let (mut reader, _) = FileLog::open_read_only(&folder, None).unwrap();
    append(&mut log, &group(1));
    assert_eq!(all(&reader), groups(1));
    let head = reader.head();
    assert_eq!(code(reader.append(&head, &group(1))), "LOG-READ-ONLY");
    let (reader, _) = FileLog::open_read_only(&folder, Some(head)).unwrap();
    assert_eq!(all(&reader), groups(2));
    drop(log);
    open(&folder, None).unwrap();
}

#[test]
fn a_reader_does_not_see_the_half_of_a_group_that_is_being_written() {
    let temporary = tempfile::tempdir().unwrap();
    let (folder, heads) = sample(temporary.path(), 6, SEGMENT_BYTES_MAX);
    let path = folder.join("0000000000000000.log");
    let whole = fs::read(&path).unwrap();
    for length in heads[5].end.0..heads[6].end.0 {
        fs::write(&path, &whole[..length as usize]).unwrap();
        let (log, opened) = FileLog::open_read_only(&folder, None).unwrap();
        assert_eq!(opened.torn_bytes, length - heads[5].end.0);
        assert_eq!(all(&log), groups(5));
        assert_eq!(code(log.read(log.head().end)), "LOG-NO-RECORD");
    }
}

#[test]
fn a_position_where_no_record_begins_is_refused() {
    let temporary = tempfile::tempdir().unwrap();
    let (folder, heads) = sample(temporary.path(), 3, SEGMENT_BYTES_MAX);
    let (log, _) = open(&folder, None).unwrap();
    let end = heads[3].end.0;
    let begins: Vec<_> = log
        .scan(Position::START)
        .unwrap()
        .map(|record| record.unwrap().position.0)
        .collect();
    for at in (0..end).filter(|at| !begins.contains(at)) {
        assert_eq!(code(log.read(Position(at))), "LOG-CORRUPT");
        let first = log.scan(Position(at)).unwrap().next().unwrap();
        assert_eq!(code(first), "LOG-CORRUPT");
    }
    for at in [end, end + 1, u64::MAX] {
        assert_eq!(code(log.read(Position(at))), "LOG-NO-RECORD");
    }
    assert_eq!(code(log.scan(Position(end + 1))), "LOG-NO-RECORD");
}

#[test]
fn a_scan_from_before_a_record_begins_with_its_file_and_misses_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let (folder, heads) = sample(folder.path(), 20, 1000);
    let files = contents(&folder).len();
    assert!(files > 3, "{files}");
    let (log, _) = FileLog::open_read_only(&folder, None).unwrap();
    let mut begun = std::collections::BTreeSet::new();
    for sequence in 0..heads.last().unwrap().size {
        let position = log.position_before(sequence).unwrap();
        begun.insert(position);
        let first = log.scan(position).unwrap().next().unwrap().unwrap();
        assert!(first.sequence <= sequence);
        let scanned = log.scan(position).unwrap().map(|record| record.unwrap());
        let found: Vec<_> = scanned
            .filter(|record| record.sequence >= sequence)
            .map(|record| record.bytes)
            .collect();
        assert_eq!(found, all(&log)[usize::try_from(sequence).unwrap()..]);
    }
    assert_eq!(begun.len(), files);
}

#[test]
fn a_log_that_was_surveyed_is_held_to_each_record_that_somebody_knows() {
    let temporary = tempfile::tempdir().unwrap();
    let (folder, heads) = sample(temporary.path(), 9, 400);
    assert!(contents(&folder).len() > 2, "several files");
    let (log, _) = FileLog::open_read_only(&folder, None).unwrap();
    let records = log.scan(Position::START).unwrap();
    let links: Vec<[u8; 32]> = records.map(|record| record.unwrap().link).collect();
    let found = Unopened::survey(&folder, None).unwrap();
    let last = heads[9];
    assert_eq!((found.head(), links.len() as u64), (last, last.size));
    for (size, link) in (1..).zip(&links) {
        found.expect_link(size, link).unwrap();
        let forked = found.expect_link(size, &[7; 32]);
        assert_eq!(code(forked), "LOG-FORKED", "{size}");
    }
    // Nothing has no link.
    found.expect_link(0, &[0; 32]).unwrap();
    assert_eq!(code(found.expect_link(0, &[7; 32])), "LOG-FORKED");
    let longer = found.expect_link(last.size + 1, &last.link);
    assert_eq!(code(longer), "LOG-ROLLED-BACK");
    for head in &heads {
        found.expect(head).unwrap();
    }
    let longer = Head {
        size: last.size + 1,
        end: Position(last.end.0 + 1),
        ..last
    };
    assert_eq!(code(found.expect(&longer)), "LOG-TRUNCATED");
}
