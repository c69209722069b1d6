//! A log of which the beginning was pruned.

use std::collections::BTreeSet;
use std::fs;
use std::io::ErrorKind;
use std::path::Path;

use super::disk::{Failing, FailingDisk};
use super::{append, code, contents, create, group, groups, open, sample};
use crate::log::{FileLog, Head, LogStore, Position, Record, Unopened};
use crate::merkle::{Frontier, leaf_hash};
use crate::storage_error::StorageError;

const SEGMENT_BYTES_MAX: u64 = 400;
const GROUPS: u64 = 12;

/// Every second record is cut to its first letter.
fn shorten(record: &Record) -> Result<Option<Vec<u8>>, StorageError> {
    let whole = record.sequence.is_multiple_of(2);
    Ok((!whole).then(|| record.bytes[..1].to_vec()))
}

fn prune(log: &mut FileLog, below: u64) -> Result<usize, StorageError> {
    let files = log.prepare_prune(below, &mut shorten)?;
    log.finish_prune()?;
    Ok(files.len())
}

fn scan(log: &dyn LogStore, from: Position) -> Vec<Record> {
    let records = log.scan(from).unwrap();
    records.collect::<Result<_, _>>().unwrap()
}

/// The same records as those of a log that was never pruned, but for what is not there any more.
#[track_caller]
fn expect_same(log: &dyn LogStore, whole: &[Record]) -> usize {
    let found = scan(log, Position::START);
    assert_eq!(found.len(), whole.len());
    let mut tree = Frontier::new();
    for (is, was) in found.iter().zip(whole) {
        let place = |r: &Record| (r.sequence, r.position, r.end, r.link, r.leaf());
        assert_eq!(place(is), place(was));
        tree.append(is.leaf());
        if let Some(bytes) = is.whole() {
            assert_eq!(bytes, was.bytes);
        } else {
            assert_eq!(is.bytes, was.bytes[..1]);
        }
        assert_eq!(&log.read(is.position).unwrap(), is);
    }
    let leaves = whole.iter().map(|record| leaf_hash(&record.bytes));
    assert_eq!(tree.root(), crate::merkle::root_of(leaves));
    for record in whole.iter().step_by(5) {
        let rest = scan(log, record.position);
        assert_eq!(rest, found[usize::try_from(record.sequence).unwrap()..]);
    }
    found
        .iter()
        .filter(|record| record.pruned.is_some())
        .count()
}

#[test]
fn a_pruned_log_is_the_log_that_it_was() {
    let temporary = tempfile::tempdir().unwrap();
    let (folder, heads) = sample(temporary.path(), GROUPS, SEGMENT_BYTES_MAX);
    let (log, _) = open(&folder, None).unwrap();
    let mut log = log.with_segment_bytes_max(SEGMENT_BYTES_MAX);
    let mut whole = scan(&log, Position::START);
    let size = log.head().size;
    let mut before = 0;
    for below in 0..=size {
        prune(&mut log, below).unwrap();
        let pruned = expect_same(&log, &whole);
        assert!(pruned >= before, "{below}");
        before = pruned;
        // No group is divided.
        let files = log.pruned().unwrap();
        let end = files.last().map_or(0, |file| file.end);
        assert!(end <= below && heads.iter().any(|head| head.size == end));
        assert_eq!(files.first().map_or(0, |file| file.first), 0);
        assert!(files.windows(2).all(|two| two[0].end == two[1].first));
    }
    assert!(before as u64 == size / 2, "{before} of {size}");
    assert_eq!(
        contents(&folder).len(),
        1,
        "the files of whole records are gone"
    );

    // It goes on, and is opened from anywhere.
    append(&mut log, &group(3));
    whole.extend(scan(&log, heads[GROUPS as usize].end));
    drop(log);
    for known in heads.iter().copied().map(Some).chain([None]) {
        let (log, _) = open(&folder, known).unwrap();
        expect_same(&log, &whole);
        drop(log);
        let (log, _) = FileLog::open_read_only(&folder, known).unwrap();
        expect_same(&log, &whole);
    }
    let found = Unopened::survey(&folder, None).unwrap();
    for head in &heads[1..] {
        found.expect_link(head.size, &head.link).unwrap();
        let forked = found.expect_link(head.size, &[7; 32]);
        assert_eq!(code(forked), "LOG-FORKED");
    }
    drop(found);
    let another = Head {
        link: [7; 32],
        ..heads[4]
    };
    assert_eq!(code(open(&folder, Some(another))), "LOG-CORRUPT");
}

#[test]
fn a_byte_that_is_changed_in_a_pruned_file_is_noticed() {
    let temporary = tempfile::tempdir().unwrap();
    let (folder, heads) = sample(temporary.path(), 3, 1 << 20);
    let (mut log, _) = open(&folder, None).unwrap();
    prune(&mut log, heads[3].size).unwrap();
    drop(log);
    let path = fs::read_dir(&folder).unwrap().find_map(|entry| {
        let path = entry.unwrap().path();
        path.extension()
            .is_some_and(|e| e == "pruned")
            .then_some(path)
    });
    let path = path.unwrap();
    let bytes = fs::read(&path).unwrap();
    for at in 0..bytes.len() {
        let mut changed = bytes.clone();
        changed[at] ^= 1 << (at % 8);
        fs::write(&path, changed).unwrap();
        assert_eq!(code(open(&folder, None)), "LOG-CORRUPT", "byte {at}");
    }
    for length in 0..bytes.len() {
        fs::write(&path, &bytes[..length]).unwrap();
        assert_eq!(code(open(&folder, None)), "LOG-CORRUPT", "{length} bytes");
    }
    fs::remove_file(&path).unwrap();
    assert_eq!(code(open(&folder, None)), "LOG-MISSING");
    fs::write(&path, bytes).unwrap();
    open(&folder, None).unwrap();
}

/// Opens, prunes and appends; how far that came.
fn work(folder: &Path, disk: FailingDisk, below: u64) -> Result<(), StorageError> {
    let (mut log, _) = FileLog::open_on(folder, None, Box::new(disk))?;
    prune(&mut log, below)?;
    let head = log.head();
    log.append(&head, &group(1))?;
    Ok(())
}

#[test]
fn whichever_operation_a_prune_stops_or_fails_at_each_record_is_there_in_one_of_its_forms() {
    let temporary = tempfile::tempdir().unwrap();
    let below = create_sample(&temporary.path().join("whole")).0;
    let mut kinds = BTreeSet::new();
    let fates = [
        Failing::Stopped,
        Failing::StoppedAfter,
        Failing::Once(ErrorKind::StorageFull),
        Failing::Once(ErrorKind::Other),
    ];
    for failing in fates {
        for at in 0.. {
            let folder = temporary.path().join(format!("{failing:?} {at}"));
            let (_, mut whole) = create_sample(&folder);
            let disk = FailingDisk::failing(at, failing);
            let failed = work(&folder, disk.clone(), below);
            kinds.extend(disk.operations().get(at).copied());
            let ended = failed.is_ok();
            let (mut log, _) = open(&folder, None).unwrap();
            // What was appended at the end is there or not.
            let found = scan(&log, Position::START);
            assert!(found.len() >= whole.len(), "{failing:?} {at}");
            whole.extend_from_slice(&found[whole.len()..]);
            expect_same(&log, &whole);
            // And the next one goes on from there, leaving nothing beside the log.
            prune(&mut log, below + 3).unwrap();
            expect_same(&log, &whole);
            let ours = |name: &str| {
                name == "head"
                    || name.starts_with("torn-")
                    || name.ends_with(".log")
                    || name.ends_with(".pruned")
            };
            for entry in fs::read_dir(&folder).unwrap() {
                let name = entry.unwrap().file_name().into_string().unwrap();
                assert!(ours(&name), "{failing:?} {at}: {name}");
                if let Some(base) = name.strip_suffix(".pruned") {
                    assert!(!folder.join(format!("{base}.log")).exists());
                }
            }
            if ended {
                assert!(at > 10, "{at}");
                break;
            }
        }
    }
    for kind in ["create", "write", "sync", "rename", "remove", "sync folder"] {
        assert!(kinds.contains(kind), "{kind} was never struck");
    }
}

#[test]
fn after_whichever_operation_of_a_prune_failed_the_same_process_loses_nothing_with_the_next() {
    let temporary = tempfile::tempdir().unwrap();
    let mut kinds = BTreeSet::new();
    for at in 0.. {
        let folder = temporary.path().join(at.to_string());
        let (below, whole) = create_sample(&folder);
        let disk = FailingDisk::failing(at, Failing::Once(ErrorKind::Other));
        let (mut log, _) = match FileLog::open_on(&folder, None, Box::new(disk.clone())) {
            Ok(opened) => opened,
            Err(_) => continue,
        };
        let pruned = prune(&mut log, below);
        if pruned
            .as_ref()
            .is_err_and(|e| e.code() != "OUTCOME-UNKNOWN")
        {
            kinds.insert(disk.operations()[at]);
            expect_same(&log, &whole);
            log.prepare_prune(0, &mut shorten).unwrap();
            expect_same(&log, &whole);
            prune(&mut log, below + 3).unwrap();
            expect_same(&log, &whole);
        }
        drop(log);
        let (log, _) = open(&folder, None).unwrap();
        expect_same(&log, &whole);
        if pruned.is_ok() {
            break;
        }
    }
    for kind in ["create", "write", "sync", "rename", "remove", "sync folder"] {
        assert!(kinds.contains(kind), "{kind} was never struck");
    }
}

#[test]
fn a_log_whose_files_cannot_be_told_after_a_prune_does_nothing_until_it_is_opened_again() {
    let temporary = tempfile::tempdir().unwrap();
    let folder = temporary.path().join("log");
    let (below, whole) = create_sample(&folder);
    let (mut log, _) = open(&folder, None).unwrap();
    log.prepare_prune(below, &mut shorten).unwrap();
    // A file that has no place in the log.
    let stray = folder.join("00000000ffffffff.log");
    fs::write(&stray, b"").unwrap();
    assert_eq!(code(log.finish_prune()), "OUTCOME-UNKNOWN");
    fs::remove_file(&stray).unwrap();
    assert_eq!(code(log.read(Position::START)), "OUTCOME-UNKNOWN");
    assert_eq!(
        code(log.prepare_prune(below, &mut shorten)),
        "OUTCOME-UNKNOWN"
    );
    assert_eq!(code(log.finish_prune()), "OUTCOME-UNKNOWN");
    assert_eq!(code(log.pruned()), "OUTCOME-UNKNOWN");
    drop(log);
    let (mut log, _) = open(&folder, None).unwrap();
    expect_same(&log, &whole);
    prune(&mut log, below + 3).unwrap();
    expect_same(&log, &whole);
}

/// A log of several files; a record in the middle of one of them, and all its records.
fn create_sample(folder: &Path) -> (u64, Vec<Record>) {
    let mut log = create(folder).with_segment_bytes_max(SEGMENT_BYTES_MAX);
    for n in 0..GROUPS {
        append(&mut log, &group(n));
    }
    assert!(contents(folder).len() > 3);
    let whole = scan(&log, Position::START);
    assert_eq!(whole.len(), groups(GROUPS).len());
    (log.head().size - 4, whole)
}
