//! Where the files of a log end: how much a file, a group and what is kept of pruned records may have, and what is made of one
//! that says otherwise.

use std::sync::{Arc, Mutex};

use sha2::{Digest as _, Sha256};

use super::*;
use crate::log::group::stored_bytes;
use crate::log::{frame::HEADER_BYTES, mark};

#[test]
fn a_group_has_so_many_records_and_bytes_and_a_record_so_many() {
    let code = |records: &[Vec<u8>]| code(stored_bytes(records));
    let record = |bytes: usize| vec![0; bytes];
    assert_eq!(code(&[record(RECORD_BYTES_MAX)]), "no error");
    assert_eq!(code(&[record(RECORD_BYTES_MAX + 1)]), "RECORD-TOO-LARGE");
    assert_eq!(code(&vec![record(0); GROUP_RECORDS_MAX]), "no error");
    let many = vec![record(0); GROUP_RECORDS_MAX + 1];
    assert_eq!(code(&many), "GROUP-OUT-OF-BOUNDS");
    let mut full = vec![record((1 << 20) - HEADER_BYTES); GROUP_BYTES_MAX >> 20];
    assert_eq!(stored_bytes(&full).unwrap(), GROUP_BYTES_MAX as u64);
    full[0].push(0);
    assert_eq!(code(&full), "GROUP-OUT-OF-BOUNDS");
}

#[test]
fn a_file_is_filled_to_its_last_byte_and_no_further() {
    let temporary = tempfile::tempdir().unwrap();
    let group = [vec![7; 100]];
    let bytes = stored_bytes(&group).unwrap();
    for (bytes_max, files) in [(2 * bytes, 2), (2 * bytes - 1, 4), (2 * bytes + 1, 2)] {
        let folder = temporary.path().join(bytes_max.to_string());
        let mut log = create(&folder).with_segment_bytes_max(bytes_max);
        for _ in 0..4 {
            append(&mut log, &group);
        }
        assert_eq!(contents(&folder).len(), files, "{bytes_max}");
    }
}

#[test]
fn a_log_is_made_in_a_folder_that_is_there_and_in_none_that_cannot_be_made() {
    let temporary = tempfile::tempdir().unwrap();
    let nowhere = temporary.path().join("no").join("where");
    match FileLog::create(&nowhere) {
        Err(StorageError::Io { action, path, .. }) => {
            assert_eq!((action, path), ("create", nowhere));
        }
        other => panic!("{other:?}"),
    }
    drop(FileLog::create(temporary.path()).unwrap());
}

#[test]
fn the_record_that_cannot_be_read_is_named() {
    let temporary = tempfile::tempdir().unwrap();
    let (folder, _) = sample(temporary.path(), 4, 1 << 20);
    let (log, _) = open(&folder, None).unwrap();
    let third = log.scan(Position::START).unwrap().nth(2).unwrap().unwrap();
    assert_eq!(
        third.position.to_string(),
        third.position.to_u64().to_string()
    );
    let (path, mut bytes) = contents(&folder).pop_first().unwrap();
    bytes[usize::try_from(third.position.to_u64()).unwrap() + HEADER_BYTES] ^= 1;
    fs::write(&path, bytes).unwrap();
    let found: Vec<_> = log.scan(Position::START).unwrap().collect();
    assert_eq!(found.len(), 3);
    match &found[2] {
        Err(StorageError::LogCorrupt {
            sequence, position, ..
        }) => assert_eq!((*sequence, *position), (Some(2), third.position)),
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_group_that_is_damaged_before_others_is_never_taken_for_one_that_was_torn() {
    let temporary = tempfile::tempdir().unwrap();
    const GROUPS: usize = 6;
    let (folder, heads) = sample(temporary.path(), GROUPS as u64, 1 << 20);
    let (path, whole) = contents(&folder).pop_first().unwrap();
    // No mark tells how long it was, and more than a bit is wrong: in a header, in a record.
    for (group, begin) in heads[..GROUPS].iter().enumerate() {
        for at in [2, HEADER_BYTES + 3] {
            let at = usize::try_from(begin.end.to_u64()).unwrap() + at;
            let mut bytes = whole.clone();
            bytes[at..at + 8].fill(0xaa);
            fs::write(&path, &bytes).unwrap();
            forget(&folder);
            if group + 1 < GROUPS {
                assert_eq!(code(open(&folder, None)), "LOG-CORRUPT", "{group}");
                let read = FileLog::open_read_only(&folder, None);
                assert_eq!(code(read), "LOG-CORRUPT", "{group}");
                assert_eq!(fs::read(&path).unwrap(), bytes, "nothing is cut off");
            } else {
                let (log, opened) = open(&folder, None).unwrap();
                assert_eq!(log.head(), *begin, "nothing stands behind it");
                assert_eq!(opened.torn_bytes, (whole.len() as u64) - begin.end.to_u64());
            }
        }
    }
}

#[test]
fn what_has_no_place_among_the_files_of_a_log_is_said() {
    let temporary = tempfile::tempdir().unwrap();
    let (folder, _) = sample(temporary.path(), 8, 400);
    let why = || match open(&folder, None) {
        Err(StorageError::LogCorrupt { reason, .. }) => reason,
        other => panic!("{:?}", other.err()),
    };
    let stray = folder.join(format!("{:016x}.log", 7));
    fs::write(&stray, b"stray").unwrap();
    assert_eq!(why(), "two files hold the same part of the log");
    fs::remove_file(stray).unwrap();
    let (last, bytes) = contents(&folder).pop_last().unwrap();
    fs::remove_file(&last).unwrap();
    fs::create_dir(&last).unwrap();
    assert_eq!(
        why(),
        "a link, a folder, a pipe or a device stands in the place of a file"
    );
    fs::remove_dir(&last).unwrap();
    fs::write(&last, bytes).unwrap();
    drop(open(&folder, None).unwrap());
}

#[test]
fn a_mark_is_as_long_as_it_is_and_no_longer() {
    let temporary = tempfile::tempdir().unwrap();
    let (folder, heads) = sample(temporary.path(), 3, 1 << 20);
    let bytes = mark::encode(&heads[2]);
    fs::write(folder.join(mark::MARK), &bytes).unwrap();
    assert_eq!(mark::read(&folder), Some(heads[2]));
    fs::write(folder.join(mark::MARK), [bytes.as_slice(), b"x"].concat()).unwrap();
    assert_eq!(mark::read(&folder), None);
}

/// The operating system, and where it was told to write.
#[derive(Clone, Default)]
struct Watched(Arc<Mutex<Vec<(u64, usize)>>>);

impl Disk for Watched {
    fn create(&self, path: &Path) -> io::Result<File> {
        Unsynced.create(path)
    }

    fn write_at(&self, file: &File, bytes: &[u8], offset: u64) -> io::Result<()> {
        self.0.lock().unwrap().push((offset, bytes.len()));
        Unsynced.write_at(file, bytes, offset)
    }

    fn sync_file(&self, file: &File) -> io::Result<()> {
        Unsynced.sync_file(file)
    }

    fn sync_folder(&self, folder: &File) -> io::Result<()> {
        Unsynced.sync_folder(folder)
    }

    fn truncate(&self, file: &File, bytes: u64) -> io::Result<()> {
        Unsynced.truncate(file, bytes)
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        Unsynced.rename(from, to)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        Unsynced.remove(path)
    }
}

#[test]
fn the_last_group_is_written_once_more_where_it_stands_in_its_file() {
    let temporary = tempfile::tempdir().unwrap();
    let (folder, heads) = sample(temporary.path(), 8, 400);
    let files = contents(&folder);
    let (last, bytes) = files.last_key_value().unwrap();
    let base = last.file_stem().unwrap().to_str().unwrap();
    let base = u64::from_str_radix(base, 16).unwrap();
    let begin = heads[7].end.to_u64();
    assert!(0 < base && base < begin, "{base} {begin}");
    let disk = Watched::default();
    drop(FileLog::open_on(&folder, None, Box::new(disk.clone())).unwrap());
    let group = heads[8].end.to_u64() - begin;
    assert_eq!(
        *disk.0.lock().unwrap(),
        [(begin - base, usize::try_from(group).unwrap())]
    );
    assert_eq!(fs::read(last).unwrap(), *bytes);
}

/// Cuts every record to its first letter.
fn shorten(record: &Record) -> Result<Option<Vec<u8>>, StorageError> {
    Ok(Some(record.bytes[..1].to_vec()))
}

fn prune(log: &mut FileLog, below: u64) {
    log.prepare_prune(below, &mut shorten).unwrap();
    log.finish_prune().unwrap();
}

#[test]
fn a_prune_begins_a_new_file_only_where_something_of_the_last_one_goes() {
    let temporary = tempfile::tempdir().unwrap();
    let (folder, heads) = sample(temporary.path(), 12, 400);
    let names = || -> Vec<PathBuf> { contents(&folder).into_keys().collect() };
    let files = names();
    let at = |path: &Path| {
        let base = path.file_stem().unwrap().to_str().unwrap();
        u64::from_str_radix(base, 16).unwrap()
    };
    let below = |base: u64| {
        let head = heads.iter().find(|head| head.end.to_u64() == base);
        head.unwrap().size
    };
    let (mut log, _) = open(&folder, None).unwrap();
    let count = files.len();
    for left in [2, 1] {
        prune(&mut log, below(at(&files[count - left])));
        assert_eq!(names(), files[count - left..]);
    }
    prune(&mut log, below(at(&files[count - 1])) + 3);
    assert!(!names().contains(&files[count - 1]));
}

#[test]
fn what_stays_of_a_large_file_of_which_the_beginning_goes_is_copied_whole() {
    let temporary = tempfile::tempdir().unwrap();
    let folder = temporary.path().join("log");
    let mut log = create(&folder);
    for n in 0..9_u8 {
        append(&mut log, &[vec![n; 300_000 + usize::from(n)]]);
    }
    let whole = all(&log);
    prune(&mut log, 2);
    drop(log);
    let (log, _) = open(&folder, None).unwrap();
    assert_eq!(log.pruned().unwrap()[0].end, 2);
    assert_eq!(all(&log)[2..], whole[2..]);
}

#[test]
fn parts_that_a_prune_left_are_taken_away_and_other_files_are_not() {
    let temporary = tempfile::tempdir().unwrap();
    let (folder, _) = sample(temporary.path(), 4, 400);
    let (mut log, _) = open(&folder, None).unwrap();
    // The last of them lies beside a file that is there whole.
    let parts = [
        "0000000000000007.log.part",
        "0000000000000007.pruned.part",
        "0000000000000000.pruned",
    ];
    for name in parts.iter().chain(&["notes.part"]) {
        fs::write(folder.join(name), b"x").unwrap();
    }
    log.prepare_prune(0, &mut shorten).unwrap();
    for name in parts {
        assert!(!folder.join(name).exists(), "{name}");
    }
    assert!(folder.join("notes.part").exists());
}

#[test]
fn a_head_within_pruned_records_is_known_by_its_link() {
    let temporary = tempfile::tempdir().unwrap();
    let (folder, heads) = sample(temporary.path(), 3, 1 << 20);
    let (mut log, _) = open(&folder, None).unwrap();
    prune(&mut log, heads[3].size);
    drop(log);
    drop(open(&folder, Some(heads[3])).unwrap());
    for wrong in [
        Head {
            link: [7; 32],
            ..heads[3]
        },
        Head {
            size: heads[3].size - 1,
            ..heads[3]
        },
    ] {
        assert_eq!(code(open(&folder, Some(wrong))), "LOG-CORRUPT", "{wrong:?}");
    }
}

const FACTS_BYTES: usize = 48;
const BLOCK_FACTS_BYTES: usize = 96;

#[test]
fn a_pruned_file_whose_numbers_cannot_be_is_refused_though_its_digest_fits() {
    let temporary = tempfile::tempdir().unwrap();
    let (folder, heads) = sample(temporary.path(), 3, 1 << 20);
    let (mut log, _) = open(&folder, None).unwrap();
    prune(&mut log, heads[3].size);
    drop(log);
    let path = folder.join(format!("{:016x}.pruned", 0));
    let bytes = fs::read(&path).unwrap();
    let length = FACTS_BYTES + BLOCK_FACTS_BYTES;
    let opened = |at: usize, number: &[u8]| {
        let mut changed = bytes.clone();
        changed[at..at + number.len()].copy_from_slice(number);
        let digest = Sha256::digest(&changed[..length]);
        changed[length..length + 32].copy_from_slice(&digest);
        fs::write(&path, changed).unwrap();
        code(open(&folder, None))
    };
    // Where it begins and ends, its first record, how many, in how many blocks.
    for (field, number) in [(0, 1_u64), (1, 0), (3, 0), (4, 0), (4, u64::MAX)] {
        let found = opened(8 + 8 * field, &number.to_be_bytes());
        assert_eq!(found, "LOG-CORRUPT", "{field} {number}");
    }
    // How much the block has when it is decompressed: room for one more record than is begun within 64 KiB.
    let plain = FACTS_BYTES + 60;
    let most = (64 << 10) + RECORD_BYTES_MAX as u32 + 256;
    assert_eq!(opened(plain, &most.to_be_bytes()), "no error");
    assert_eq!(opened(plain, &(most + 1).to_be_bytes()), "LOG-CORRUPT");
    assert_eq!(opened(plain, &7_u32.to_be_bytes()), "LOG-CORRUPT");
}
