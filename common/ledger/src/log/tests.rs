//! What opening a log makes of every kind of damage.

use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions};
use std::io::{self, BufRead as _, BufReader};
use std::os::unix::fs::{FileExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use proptest::prelude::*;

use super::disk::{Disk, OperatingSystem};
use super::frame::HEADER_BYTES;
use super::*;

/// Tells the test that is run again in a process of its own which folder to write to.
const CHILD_FOLDER: &str = "MINTMARK_TEST_LOG";

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
}

fn create(folder: &Path) -> FileLog {
    FileLog::create_on(folder, Box::new(Unsynced)).unwrap()
}

fn open(folder: &Path, known: Option<Head>) -> Result<(FileLog, Opened), StorageError> {
    FileLog::open_on(folder, known, Box::new(Unsynced))
}

pub(super) fn code<T>(result: Result<T, StorageError>) -> &'static str {
    result.err().map_or("no error", |error| error.code())
}

/// A record that says which one it is.
pub(super) fn record(group: u64, index: u64) -> Vec<u8> {
    let mut bytes = format!("record {index} of group {group} ").into_bytes();
    bytes.resize(bytes.len() + ((group * 7 + index * 13) % 60) as usize, b'.');
    bytes
}

pub(super) fn group(group: u64) -> Vec<Vec<u8>> {
    (0..1 + group % 3)
        .map(|index| record(group, index))
        .collect()
}

pub(super) fn append(log: &mut dyn LogStore, records: &[Vec<u8>]) -> Vec<Position> {
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
    (folder, heads)
}

pub(super) fn all(log: &dyn LogStore) -> Vec<Vec<u8>> {
    log.scan(Position::START)
        .unwrap()
        .map(|record| record.unwrap().bytes)
        .collect()
}

pub(super) fn groups(count: u64) -> Vec<Vec<u8>> {
    (0..count).flat_map(group).collect()
}

fn contents(folder: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .map(|path| (path.clone(), fs::read(&path).unwrap()))
        .collect()
}

fn restore(contents: &BTreeMap<PathBuf, Vec<u8>>) {
    for (path, bytes) in contents {
        fs::write(path, bytes).unwrap();
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

    let (mut log, opened) = open(folder, known).unwrap();
    assert_eq!(log.head(), head);
    assert_eq!(opened.torn_bytes, stored - head.end.0);
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
fn a_last_group_torn_at_any_byte_is_cut_off_and_the_rest_is_intact() {
    let temporary = tempfile::tempdir().unwrap();
    // In the middle of a file, and as the first group of a new one.
    for segment_bytes_max in [SEGMENT_BYTES_MAX, 1] {
        let (folder, heads) = sample(temporary.path(), 6, segment_bytes_max);
        let before = contents(&folder);
        let (path, whole) = before.last_key_value().unwrap();
        let begin = whole.len() as u64 - (heads[6].end.0 - heads[5].end.0);
        for length in begin..whole.len() as u64 {
            for known in [None, Some(heads[5]), Some(heads[2])] {
                restore(&before);
                fs::write(path, &whole[..length as usize]).unwrap();
                assert_cut(&folder, known, 5, &heads);
            }
            // The file has its length already, its contents not yet.
            let mut zeros = whole.clone();
            zeros[length as usize..].fill(0);
            if zeros != *whole {
                restore(&before);
                fs::write(path, zeros).unwrap();
                assert_cut(&folder, None, 5, &heads);
            }
            // What came first did not arrive, what came last did.
            let mut zeros = whole.clone();
            zeros[begin as usize..=length as usize].fill(0);
            restore(&before);
            fs::write(path, zeros).unwrap();
            assert_cut(&folder, Some(heads[5]), 5, &heads);
        }
    }
}

#[test]
fn zeros_behind_the_last_group_are_cut_off() {
    let temporary = tempfile::tempdir().unwrap();
    for zeros in [1, HEADER_BYTES as u64, 70_000, 40 << 20] {
        let (folder, heads) = sample(temporary.path(), 6, SEGMENT_BYTES_MAX);
        let file = OpenOptions::new()
            .write(true)
            .open(folder.join("0000000000000000.log"))
            .unwrap();
        file.set_len(heads[6].end.0 + zeros).unwrap();
        let (log, opened) = open(&folder, None).unwrap();
        assert_eq!(opened.torn_bytes, zeros);
        assert_eq!(log.head(), heads[6]);
        assert_eq!(file.metadata().unwrap().len(), heads[6].end.0);
    }
}

#[test]
fn a_flipped_bit_anywhere_before_the_last_group_is_corruption_and_nothing_is_changed() {
    let temporary = tempfile::tempdir().unwrap();
    for segment_bytes_max in [SEGMENT_BYTES_MAX, 300] {
        let (folder, heads) = sample(temporary.path(), 5, segment_bytes_max);
        let before = contents(&folder);
        let mut base = 0;
        for (path, bytes) in &before {
            for at in 0..bytes.len() {
                let offset = base + at as u64;
                if offset >= heads[4].end.0 {
                    break;
                }
                let mut damaged = bytes.clone();
                damaged[at] ^= 1 << (at % 8);
                fs::write(path, &damaged).unwrap();
                let error = assert_refused(&folder, None, "LOG-CORRUPT");
                let StorageError::LogCorrupt {
                    sequence, position, ..
                } = error
                else {
                    unreachable!()
                };
                // It names the record that was damaged.
                let head = heads
                    .iter()
                    .rev()
                    .find(|head| head.end.0 <= offset)
                    .unwrap();
                assert!(sequence.unwrap() >= head.size && position >= head.end);
                assert!(position.0 <= offset);
            }
            fs::write(path, bytes).unwrap();
            base += bytes.len() as u64;
        }
        open(&folder, None).unwrap();
    }
}

#[test]
fn damage_behind_what_is_known_is_found_and_damage_before_it_when_it_is_read() {
    let temporary = tempfile::tempdir().unwrap();
    let (folder, heads) = sample(temporary.path(), 8, SEGMENT_BYTES_MAX);
    let path = folder.join("0000000000000000.log");
    let whole = fs::read(&path).unwrap();
    let mut damaged = whole.clone();
    damaged[heads[5].end.0 as usize + 70] ^= 1;
    fs::write(&path, &damaged).unwrap();
    assert_refused(&folder, Some(heads[4]), "LOG-CORRUPT");

    // The last record of what is known is always read.
    let (log, _) = open(&folder, Some(heads[6])).unwrap();
    assert_eq!(code(log.read(heads[5].end)), "LOG-CORRUPT");
    let results: Vec<_> = log.scan(Position::START).unwrap().collect();
    assert_eq!(results.len() as u64, heads[5].size + 1);
    assert_eq!(code(results.into_iter().last().unwrap()), "LOG-CORRUPT");
    drop(log);
    let mut damaged = whole;
    damaged[heads[6].end.0 as usize - 1] ^= 1;
    fs::write(&path, &damaged).unwrap();
    assert_refused(&folder, Some(heads[6]), "LOG-CORRUPT");
}

#[test]
fn a_log_that_ends_before_what_is_known_is_truncated() {
    let temporary = tempfile::tempdir().unwrap();
    let (folder, heads) = sample(temporary.path(), 6, SEGMENT_BYTES_MAX);
    let path = folder.join("0000000000000000.log");
    let whole = fs::read(&path).unwrap();
    for length in 0..heads[4].end.0 {
        fs::write(&path, &whole[..length as usize]).unwrap();
        assert_refused(&folder, Some(heads[4]), "LOG-TRUNCATED");
    }
    fs::write(&path, &whole[..heads[4].end.0 as usize]).unwrap();
    let (log, _) = open(&folder, Some(heads[4])).unwrap();
    assert_eq!(log.head(), heads[4]);
}

#[test]
fn a_known_head_may_lie_within_a_group_which_must_then_be_whole() {
    let temporary = tempfile::tempdir().unwrap();
    let (folder, heads) = sample(temporary.path(), 6, SEGMENT_BYTES_MAX);
    let path = folder.join("0000000000000000.log");
    let (log, _) = FileLog::open_read_only(&folder, None).unwrap();
    let within = log
        .scan(heads[5].end)
        .unwrap()
        .next()
        .unwrap()
        .unwrap()
        .head();
    assert!(within.end > heads[5].end && within.end < heads[6].end);
    let (log, opened) = open(&folder, Some(within)).unwrap();
    assert_eq!(log.head(), heads[6]);
    assert_eq!(opened.records_checked, heads[6].size - within.size);
    drop(log);
    let whole = fs::read(&path).unwrap();
    fs::write(&path, &whole[..within.end.0 as usize]).unwrap();
    assert_refused(&folder, Some(within), "LOG-TRUNCATED");
    fs::write(&path, &whole[..within.end.0 as usize + 1]).unwrap();
    assert_refused(&folder, Some(within), "LOG-CORRUPT");
}

#[test]
fn a_head_of_another_log_is_not_found_in_this_one() {
    let temporary = tempfile::tempdir().unwrap();
    let (folder, heads) = sample(temporary.path(), 6, 300);
    for head in [heads[6], heads[3]] {
        for other in [
            Head {
                size: head.size - 1,
                ..head
            },
            Head { size: 0, ..head },
            Head {
                link: [1; 32],
                ..head
            },
            Head {
                end: Position(head.end.0 - 1),
                ..head
            },
            Head {
                end: Position(0),
                ..head
            },
            Head {
                link: [0; 32],
                size: 0,
                ..head
            },
        ] {
            assert_refused(&folder, Some(other), "LOG-CORRUPT");
        }
        for end in [heads[6].end.0 + 1, u64::MAX] {
            let other = Head {
                end: Position(end),
                ..head
            };
            assert_refused(&folder, Some(other), "LOG-TRUNCATED");
        }
    }
}

#[test]
fn a_record_that_looks_like_frames_misleads_nobody() {
    let temporary = tempfile::tempdir().unwrap();
    let (folder, heads) = sample(temporary.path(), 6, SEGMENT_BYTES_MAX);
    let frames = fs::read(folder.join("0000000000000000.log")).unwrap();
    let (mut log, _) = open(&folder, None).unwrap();
    // A record that ends with whole frames, as copied from the log itself.
    append(&mut log, &[frames]);
    let head = log.head();
    drop(log);
    let (log, _) = open(&folder, Some(head)).unwrap();
    assert_eq!(log.head(), head);
    drop(log);
    // Torn in front of its end, and with its own header gone.
    let path = folder.join("0000000000000000.log");
    let whole = fs::read(&path).unwrap();
    let begin = heads[6].end.0 as usize;
    fs::write(&path, &whole[..whole.len() - 1]).unwrap();
    assert_cut(&folder, None, 6, &heads);
    let mut torn = whole;
    torn[begin..begin + HEADER_BYTES].fill(0);
    fs::write(&path, torn).unwrap();
    assert_cut(&folder, None, 6, &heads);
}

#[test]
fn a_file_that_is_missing_or_short_is_named() {
    let temporary = tempfile::tempdir().unwrap();
    let (folder, heads) = sample(temporary.path(), 12, 600);
    let before = contents(&folder);
    let files: Vec<_> = before.keys().collect();
    assert!(files.len() >= 4);
    for path in &files[..files.len() - 1] {
        fs::remove_file(path).unwrap();
        let error = assert_refused(&folder, Some(heads[11]), "LOG-MISSING");
        let StorageError::LogMissing { path: named, .. } = error else {
            unreachable!()
        };
        assert_eq!(named, **path);
        for length in [0, 1, 100, before[*path].len() - 1] {
            fs::write(path, &before[*path][..length]).unwrap();
            assert_refused(&folder, None, "LOG-MISSING");
        }
        let mut longer = before[*path].clone();
        longer.push(0);
        fs::write(path, longer).unwrap();
        assert_refused(&folder, None, "LOG-CORRUPT");
        restore(&before);
    }
    // Without the last one the log is a shorter one, and whole.
    fs::remove_file(files[files.len() - 1]).unwrap();
    assert_refused(&folder, Some(heads[12]), "LOG-TRUNCATED");
    open(&folder, None).unwrap();
}

#[test]
fn files_in_another_place_are_not_believed() {
    let temporary = tempfile::tempdir().unwrap();
    let folder = temporary.path().join("log");
    let mut log = create(&folder).with_segment_bytes_max(1);
    for n in 0..4 {
        append(&mut log, &[vec![n; 100]]);
    }
    drop(log);
    let before = contents(&folder);
    let files: Vec<_> = before.iter().collect();
    let (a, b) = (files[1], files[2]);
    assert_eq!(a.1.len(), b.1.len());
    fs::write(a.0, b.1).unwrap();
    fs::write(b.0, a.1).unwrap();
    assert_refused(&folder, None, "LOG-CORRUPT");
    restore(&before);
    fs::write(folder.join("ffffffffffffff00.log"), [0; 1000]).unwrap();
    assert_refused(&folder, None, "LOG-MISSING");
    fs::remove_file(folder.join("ffffffffffffff00.log")).unwrap();
    // What has not the name of one of our files is none.
    for name in [
        "0.log",
        "000000000000000A.log",
        "+000000000000001.log",
        "notes.txt",
    ] {
        fs::write(folder.join(name), "?").unwrap();
    }
    open(&folder, None).unwrap();
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

/// Not a test of its own: what the next test runs in another process.
#[test]
fn a_log_is_written_for_another_test() {
    let Some(folder) = std::env::var_os(CHILD_FOLDER) else {
        return;
    };
    let (log, _) = FileLog::open(Path::new(&folder), None).unwrap();
    let mut log = log.with_segment_bytes_max(5000);
    // Every group is one more record of the chain: which one it is follows from the size.
    loop {
        let size = log.head().size;
        let records: Vec<_> = (size..size + 1 + size % 5).map(|n| record(n, 0)).collect();
        append(&mut log, &records);
        println!("\nacknowledged {}", log.head().size);
    }
}

#[test]
fn everything_acknowledged_by_a_process_that_was_killed_is_there() {
    let temporary = tempfile::tempdir().unwrap();
    let folder = temporary.path().join("log");
    drop(FileLog::create(&folder).unwrap());
    let mut before = 0;
    for round in 0..5 {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "--nocapture"])
            .arg("log::tests::a_log_is_written_for_another_test")
            .env(CHILD_FOLDER, &folder)
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap())
            .lines()
            .map_while(Result::ok)
            .filter_map(|line| line.strip_prefix("acknowledged ")?.parse::<u64>().ok());
        let early = lines.nth(10 + round * 7);
        let locked = FileLog::open(&folder, None);
        child.kill().unwrap();
        child.wait().unwrap();
        let acknowledged = lines.last().or(early).unwrap();
        assert_eq!(code(locked), "LOG-LOCKED");
        assert!(acknowledged > before);

        let (log, _) = FileLog::open(&folder, None).unwrap();
        let size = log.head().size;
        // At most the one group that was not acknowledged yet is there as well.
        assert!((acknowledged..=acknowledged + 5).contains(&size));
        let expected: Vec<_> = (0..size).map(|n| record(n, 0)).collect();
        assert_eq!(all(&log), expected);
        before = size;
    }
}

/// What may happen to the files of a log while nobody looks.
#[derive(Debug, Clone)]
enum Damage {
    Truncate { by: u64 },
    Flip { at: u64, bit: u8 },
    Zero { at: u64, bytes: u64 },
}

fn damage() -> impl Strategy<Value = Damage> {
    prop_oneof![
        (0..600_u64).prop_map(|by| Damage::Truncate { by }),
        (any::<u64>(), 0..8_u8).prop_map(|(at, bit)| Damage::Flip { at, bit }),
        (any::<u64>(), 1..300_u64).prop_map(|(at, bytes)| Damage::Zero { at, bytes }),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn a_damaged_log_is_refused_unchanged_or_holds_whole_groups_from_its_beginning(
        sizes in prop::collection::vec(prop::collection::vec(0..200_usize, 1..4), 1..8),
        segment_bytes_max in prop_oneof![Just(1_u64), Just(500), Just(100_000)],
        damages in prop::collection::vec(damage(), 1..3),
        known in prop::option::of(any::<prop::sample::Index>()),
    ) {
        let temporary = tempfile::tempdir().unwrap();
        let folder = temporary.path().join("log");
        let mut log = create(&folder).with_segment_bytes_max(segment_bytes_max);
        let mut heads = vec![log.head()];
        let mut records = Vec::new();
        for (n, group) in sizes.iter().enumerate() {
            let group: Vec<_> = group.iter().map(|size| vec![n as u8; *size]).collect();
            append(&mut log, &group);
            records.extend(group);
            heads.push(log.head());
        }
        drop(log);
        let files = contents(&folder);
        let (last, bytes) = files.last_key_value().unwrap();
        let file = OpenOptions::new().write(true).open(last).unwrap();
        for damage in damages {
            let length = file.metadata().unwrap().len();
            match damage {
                Damage::Truncate { by } => file.set_len(length.saturating_sub(by)).unwrap(),
                _ if length == 0 => {}
                Damage::Flip { at, bit } => {
                    let at = at % length;
                    let byte = bytes[at as usize] ^ (1 << bit);
                    file.write_all_at(&[byte], at).unwrap();
                }
                Damage::Zero { at, bytes } => {
                    let at = at % length;
                    let bytes = bytes.min(length - at);
                    file.write_all_at(&vec![0; bytes as usize], at).unwrap();
                }
            }
        }
        let known = known.map(|index| *index.get(&heads));
        let before = contents(&folder);
        match open(&folder, known) {
            Err(error) => {
                prop_assert_eq!(error.class(), crate::storage_error::StorageErrorClass::Integrity);
                prop_assert!(contents(&folder) == before);
            }
            Ok((mut log, _)) => {
                let head = log.head();
                prop_assert!(heads.contains(&head));
                if let Some(known) = known {
                    prop_assert!(head.size >= known.size);
                } else {
                    prop_assert_eq!(&all(&log)[..], &records[..head.size as usize]);
                }
                append(&mut log, &[b"more".to_vec()]);
                drop(log);
                let (log, opened) = open(&folder, Some(head)).unwrap();
                prop_assert_eq!(log.head().size, head.size + 1);
                prop_assert_eq!(opened.torn_bytes, 0);
            }
        }
    }
}
