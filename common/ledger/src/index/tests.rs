use std::fs;
use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::mpsc;

use super::*;
use crate::log::{FileLog, LogStore};

mod packed;

/// Tells the test that is run again in a process of its own which folder to open.
const CHILD_FOLDER: &str = "MINTMARK_TEST_INDEX";

fn head(size: u64) -> Head {
    Head {
        size,
        link: [7; 32],
        end: Position::from_u64(size * 100),
    }
}

fn put(key: &str, value: &str) -> Batch {
    let mut batch = Batch::new();
    batch.put(key.into(), value.into());
    batch
}

fn code<T: std::fmt::Debug>(result: Result<T, StorageError>) -> &'static str {
    result.unwrap_err().code()
}

fn sample(folder: &Path) -> PathBuf {
    let folder = folder.join("index");
    let mut index = SledIndex::rebuild(&folder).unwrap();
    // Forty at a time: what writes each key by itself may meet sled's standstill (docs/decisions/0002).
    for first in (0..2000_u64).step_by(40) {
        let mut batch = Batch::new();
        for n in first..first + 40 {
            batch.put(format!("key {n:08}").into(), vec![b'x'; 200]);
        }
        index.write(batch, head(first + 40)).unwrap();
    }
    index.close().unwrap();
    folder
}

/// All files below `folder`, with their contents.
fn contents(folder: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut found = BTreeMap::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(contents(&path));
        } else {
            found.insert(path.clone(), fs::read(&path).unwrap());
        }
    }
    found
}

#[test]
fn what_is_written_is_there_after_opening_again() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path().join("index");
    let mut index = SledIndex::rebuild(&folder).unwrap();
    assert_eq!(index.head(), None);
    index.write(put("a1", "one"), head(1)).unwrap();
    let mut batch = put("a2", "two");
    batch.put("b".into(), "three".into());
    batch.remove("a1".into());
    index.write(batch, head(2)).unwrap();
    index.write(put("a0", "four"), head(3)).unwrap();
    index.close().unwrap();

    let index = SledIndex::open(&folder).unwrap();
    assert_eq!(index.head(), Some(head(3)));
    assert_eq!(index.get(b"a1").unwrap(), None);
    assert_eq!(index.get(b"b").unwrap(), Some(b"three".to_vec()));
    let all = |prefix: &[u8]| {
        index
            .scan_prefix(prefix)
            .unwrap()
            .map(|entry| String::from_utf8(entry.unwrap().1).unwrap())
            .collect::<Vec<_>>()
    };
    assert_eq!(all(b"a"), ["four", "two"]);
    // The head is no entry.
    assert_eq!(all(b""), ["four", "two", "three"]);
}

#[test]
fn an_index_in_memory_is_the_index_in_sled() {
    let folder = tempfile::tempdir().unwrap();
    let mut sled = SledIndex::rebuild(&folder.path().join("index")).unwrap();
    let mut memory = MemoryIndex::new();
    let mut seen = Vec::new();
    for store in [&mut sled as &mut dyn IndexStore, &mut memory] {
        let mut batch = Batch::new();
        for n in 0..20_u8 {
            batch.put(vec![b'a' + n % 3, n], vec![n]);
        }
        store.write(batch, head(1)).unwrap();
        let mut batch = Batch::new();
        batch.remove(vec![b'b', 4]);
        batch.put(vec![b'b', 7], vec![]);
        store.write(batch, head(2)).unwrap();
        assert_eq!(store.head(), Some(head(2)));
        assert_eq!(store.get(&[b'b', 4]).unwrap(), None);
        let entries = store.scan_prefix(b"b").unwrap();
        seen.push(entries.collect::<Result<Vec<_>, _>>().unwrap());
    }
    assert_eq!(seen[0].len(), 6);
    assert_eq!(seen[0], seen[1]);
}

#[test]
fn the_records_of_a_device_and_of_a_key_are_found_through_the_batch_and_after_it() {
    let mut store = MemoryIndex::new();
    let at = Position::from_u64;
    let key = [1; 32];
    // Another key that begins with the same 8 bytes.
    let mut collision = key;
    collision[8] = 2;

    let mut batch = Batch::new();
    batch.add_device(&store, "sku", "1", at(64)).unwrap();
    batch.add_public_key(&store, &key, at(64)).unwrap();
    assert_eq!(batch.device(&store, "sku", "1").unwrap(), [at(64)]);
    assert_eq!(store.device("sku", "1").unwrap(), []);
    store.write(batch, head(1)).unwrap();
    assert_eq!(store.device("sku", "1").unwrap(), [at(64)]);

    let mut batch = Batch::new();
    batch.add_device(&store, "sku", "1", at(128)).unwrap();
    // Indexing a record again changes nothing.
    batch.add_device(&store, "sku", "1", at(128)).unwrap();
    batch.add_device(&store, "sku", "11", at(192)).unwrap();
    batch.add_public_key(&store, &collision, at(192)).unwrap();
    assert_eq!(batch.public_key(&store, &key).unwrap(), [at(64), at(192)]);
    store.write(batch, head(2)).unwrap();
    assert_eq!(store.device("sku", "1").unwrap(), [at(64), at(128)]);
    assert_eq!(store.device("sku", "11").unwrap(), [at(192)]);
    assert_eq!(store.device("sku1", "1").unwrap(), []);
    assert_eq!(store.public_key(&key).unwrap(), [at(64), at(192)]);
}

#[test]
fn a_record_is_reached_from_the_nearest_position_before_it() {
    let mut store = MemoryIndex::new();
    assert_eq!(
        store.position_at_or_before(700).unwrap(),
        (0, Position::START)
    );
    let mut batch = Batch::new();
    for sequence in 0..700 {
        batch.add_sequence(sequence, Position::from_u64(sequence * 100));
    }
    assert_eq!(batch.len(), 3);
    store.write(batch, head(700)).unwrap();
    for (sequence, expected) in [
        (0, 0),
        (255, 0),
        (256, 256),
        (511, 256),
        (512, 512),
        (699, 512),
        (9999, 512),
    ] {
        assert_eq!(
            store.position_at_or_before(sequence).unwrap(),
            (expected, Position::from_u64(expected * 100))
        );
    }
}

#[test]
fn a_list_of_an_impossible_length_is_not_believed() {
    let mut store = MemoryIndex::new();
    let mut batch = Batch::new();
    batch.put(device_key("sku", "1"), vec![0; 9]);
    store.write(batch, head(1)).unwrap();
    assert_eq!(code(store.device("sku", "1")), "INDEX-BROKEN");
}

#[test]
fn a_folder_that_is_lost_is_missing_and_can_be_rebuilt() {
    let temporary = tempfile::tempdir().unwrap();
    let folder = sample(temporary.path());
    for lost in [
        folder.clone(),
        folder.join("sled"),
        folder.join("sled/db"),
        folder.join("lock"),
    ] {
        if lost.is_dir() {
            fs::remove_dir_all(&lost).unwrap();
        } else {
            fs::remove_file(&lost).unwrap();
        }
        assert_eq!(code(SledIndex::open(&folder)), "INDEX-MISSING");
        if lost == folder {
            assert!(!folder.exists());
        }
        let mut index = SledIndex::rebuild(&folder).unwrap();
        assert_eq!(index.head(), None);
        assert_eq!(index.get(b"key 00000001").unwrap(), None);
        index.write(put("key", "value"), head(1)).unwrap();
        index.close().unwrap();
        assert_eq!(SledIndex::open(&folder).unwrap().head(), Some(head(1)));
    }
}

#[test]
fn garbage_is_broken_or_empty_and_never_believed() {
    let temporary = tempfile::tempdir().unwrap();
    for (name, damage) in [
        ("conf", (|_| vec![b'?'; 100]) as fn(Vec<u8>) -> Vec<u8>),
        ("db", |bytes| vec![0xa5; bytes.len()]),
        ("db", |bytes| vec![0; bytes.len()]),
        ("db", |_| Vec::new()),
        ("db", |bytes| bytes[..bytes.len() / 2].to_vec()),
        ("db", |mut bytes| {
            for at in (0..bytes.len()).step_by(97) {
                bytes[at] ^= 0xff;
            }
            bytes
        }),
    ] {
        let folder = sample(temporary.path());
        let path = folder.join("sled").join(name);
        let bytes = fs::read(&path).unwrap();
        fs::write(&path, damage(bytes)).unwrap();
        match SledIndex::open(&folder) {
            Err(error) => assert_eq!(error.code(), "INDEX-BROKEN", "{error}"),
            // What sled believes to be whole must not pass for the whole index.
            Ok(index) => assert_ne!(index.head(), Some(head(2000)), "{name}"),
        }
        let mut index = SledIndex::rebuild(&folder).unwrap();
        assert_eq!(index.head(), None);
        index.write(put("key", "value"), head(1)).unwrap();
        index.close().unwrap();
    }
}

#[test]
fn an_index_of_another_version_is_broken() {
    let temporary = tempfile::tempdir().unwrap();
    let folder = sample(temporary.path());
    {
        let db = super::sled::open_database(&folder).unwrap();
        db.insert([0], vec![1; 49]).unwrap();
        db.flush().unwrap();
    }
    assert_eq!(code(SledIndex::open(&folder)), "INDEX-BROKEN");
}

#[test]
fn an_index_that_was_open_when_the_machine_went_down_is_not_believed() {
    let temporary = tempfile::tempdir().unwrap();
    let folder = sample(temporary.path());
    let lock = folder.join("lock");
    let bytes = fs::metadata(folder.join("sled/db")).unwrap().len();
    assert_eq!(
        fs::read_to_string(&lock).unwrap(),
        format!("closed {bytes} 2000")
    );
    // As it would be marked now, but for the boot.
    let index = SledIndex::open(&folder).unwrap();
    let open = fs::read_to_string(&lock).unwrap();
    drop(index);
    let (_, rest) = open.strip_prefix("open ").unwrap().split_once(' ').unwrap();
    let other_boot = format!("open 00000000-0000-0000-0000-000000000000 {rest}");
    for unknown in [&other_boot, "", "broken", "closed", "closed 1 2000"] {
        fs::write(&lock, unknown).unwrap();
        let before = contents(&folder);
        assert_eq!(code(SledIndex::open(&folder)), "INDEX-BROKEN", "{unknown}");
        assert_eq!(contents(&folder), before);
    }
    fs::write(&lock, open).unwrap();
    SledIndex::open(&folder).unwrap();
}

#[test]
fn a_copy_of_an_open_index_is_not_believed_and_one_of_a_closed_index_is() {
    let temporary = tempfile::tempdir().unwrap();
    let folder = sample(temporary.path());
    let copy = |name: &str| {
        let to = temporary.path().join(name);
        for (path, bytes) in contents(&folder) {
            let path = to.join(path.strip_prefix(&folder).unwrap());
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, bytes).unwrap();
        }
        to
    };
    let closed = copy("closed");
    let mut index = SledIndex::open(&folder).unwrap();
    index.write(put("late", "late"), head(2001)).unwrap();
    index.flush().unwrap();
    let open = copy("open");
    drop(index);
    assert_eq!(SledIndex::open(&closed).unwrap().head(), Some(head(2000)));
    assert_eq!(code(SledIndex::open(&open)), "INDEX-BROKEN");
    // A copy of which the lock is older than the database.
    let later = copy("later");
    fs::copy(folder.join("lock"), later.join("lock")).unwrap();
    let text = fs::read_to_string(later.join("lock")).unwrap();
    fs::write(later.join("lock"), text.replace(" 2001", " 2000")).unwrap();
    assert_eq!(code(SledIndex::open(&later)), "INDEX-BROKEN");
}

#[test]
fn an_index_that_was_contradicted_is_made_again_the_next_time() {
    let temporary = tempfile::tempdir().unwrap();
    let folder = sample(temporary.path());
    let index = SledIndex::open(&folder).unwrap();
    index.distrust();
    assert_eq!(code(index.get(b"key 00000001")), "INDEX-BROKEN");
    drop(index);
    assert_eq!(code(SledIndex::open(&folder)), "INDEX-BROKEN");
}

#[test]
fn what_is_held_beside_an_index_passes_on_that_it_was_contradicted() {
    let temporary = tempfile::tempdir().unwrap();
    let folder = sample(temporary.path());
    let index = GatheredIndex::new(SledIndex::open(&folder).unwrap());
    index.distrust();
    drop(index);
    assert_eq!(code(SledIndex::open(&folder)), "INDEX-BROKEN");
}

#[test]
fn whoever_only_looks_is_told_why_an_index_would_be_made_again() {
    let temporary = tempfile::tempdir().unwrap();
    let none = temporary.path().join("none");
    let complaint = |folder: &Path| SledIndex::complaint(folder);
    assert_eq!(complaint(&none).unwrap(), Some("there is none"));
    let folder = sample(temporary.path());
    assert_eq!(complaint(&folder).unwrap(), None);
    let lock = fs::read(folder.join("lock")).unwrap();
    fs::write(folder.join("lock"), "closed 7 2000").unwrap();
    let changed = "it is not as it was when it was closed";
    assert_eq!(complaint(&folder).unwrap(), Some(changed));
    fs::write(folder.join("lock"), lock).unwrap();
    assert_eq!(complaint(&folder).unwrap(), None);
    fs::remove_dir_all(folder.join("sled")).unwrap();
    assert_eq!(complaint(&folder).unwrap(), Some("there is none"));
    fs::remove_file(folder.join("lock")).unwrap();
    fs::create_dir(folder.join("lock")).unwrap();
    assert_eq!(code(complaint(&folder)), "STORAGE-IO");
    assert_eq!(code(SledIndex::open(&folder)), "STORAGE-IO");
}

#[test]
fn an_index_is_made_in_a_folder_that_can_be_made_or_is_there() {
    let temporary = tempfile::tempdir().unwrap();
    drop(SledIndex::rebuild(temporary.path()).unwrap());
    let nowhere = temporary.path().join("no").join("where");
    match SledIndex::rebuild(&nowhere) {
        Err(StorageError::Io { action, path, .. }) => {
            assert_eq!((action, path), ("create", nowhere));
        }
        other => panic!("{:?}", other.err()),
    }
}

#[test]
fn a_batch_without_changes_is_empty() {
    assert!(Batch::new().is_empty());
    assert!(!put("a", "b").is_empty());
    let mut removed = Batch::new();
    removed.remove("a".into());
    assert!(!removed.is_empty(), "that a key goes is a change");
}

#[test]
fn a_database_that_does_not_answer_is_given_up_and_made_again() {
    let folder = tempfile::tempdir().unwrap();
    let folder = sample(folder.path());
    let mut index = SledIndex::open(&folder).unwrap();
    let (release, released) = mpsc::channel();
    assert!(index.silence().is_none());
    let errors = [
        index.write_until(released),
        // It is not waited for again.
        index.write(put("key", "value"), head(2001)),
        index.get(b"key 00000007").map(drop),
    ];
    for error in errors {
        assert_eq!(code(error), "INDEX-SILENT");
    }
    let index = GatheredIndex::new(index);
    assert_eq!(index.silence().unwrap().code(), "INDEX-SILENT");
    drop(index);
    let error = SledIndex::open(&folder).unwrap_err();
    assert_eq!(error.code(), "INDEX-BROKEN");
    assert!(error.to_string().contains("it had failed"), "{error}");
    drop(release);
    SledIndex::rebuild(&folder).unwrap().close().unwrap();
}

#[test]
fn an_index_in_use_is_locked_and_stays_as_it_is() {
    let temporary = tempfile::tempdir().unwrap();
    let folder = sample(temporary.path());
    let index = SledIndex::open(&folder).unwrap();
    assert_eq!(code(SledIndex::open(&folder)), "INDEX-LOCKED");
    assert_eq!(code(SledIndex::rebuild(&folder)), "INDEX-LOCKED");
    assert_eq!(index.get(b"key 00000001").unwrap().unwrap().len(), 200);
    drop(index);
    SledIndex::open(&folder).unwrap();
}

/// Not a test of its own: what the next test runs in another process.
#[test]
fn an_index_is_held_open_for_another_test() {
    let Some(folder) = std::env::var_os(CHILD_FOLDER) else {
        return;
    };
    let mut index = SledIndex::open(Path::new(&folder)).unwrap();
    for n in 2000.. {
        index
            .write(put(&format!("key {n:08}"), "late"), head(n + 1))
            .unwrap();
        if n % 500 == 0 {
            println!("\nwritten {n}");
        }
    }
}

#[test]
fn another_process_holds_the_lock_until_it_is_killed_and_what_it_wrote_is_kept() {
    let temporary = tempfile::tempdir().unwrap();
    let folder = sample(temporary.path());
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "--nocapture"])
        .arg("index::tests::an_index_is_held_open_for_another_test")
        .env(CHILD_FOLDER, &folder)
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let output = BufReader::new(child.stdout.take().unwrap());
    let told = output
        .lines()
        .map_while(Result::ok)
        .filter(|line| line.starts_with("written "))
        .nth(3);
    let locked = SledIndex::open(&folder).map(|_| ());
    child.kill().unwrap();
    child.wait().unwrap();
    assert_eq!(told.as_deref(), Some("written 3500"));
    assert_eq!(code(locked), "INDEX-LOCKED");

    let index = SledIndex::open(&folder).unwrap();
    // As far as its head says, everything is there; how far that is, sled decides.
    let size = index.head().unwrap().size;
    assert!(size >= 2000);
    for n in 0..size {
        assert!(
            index
                .get(format!("key {n:08}").as_bytes())
                .unwrap()
                .is_some()
        );
    }
    assert_eq!(
        index.get(format!("key {size:08}").as_bytes()).unwrap(),
        None
    );
}

#[test]
fn an_index_is_made_again_from_the_log() {
    let temporary = tempfile::tempdir().unwrap();
    let mut log = FileLog::create(&temporary.path().join("log")).unwrap();
    for group in 0..10_u64 {
        let records: Vec<_> = (0..100)
            .map(|n| (group * 100 + n).to_be_bytes().to_vec())
            .collect();
        let head = log.head();
        log.append(&head, &records).unwrap();
    }
    let folder = temporary.path().join("index");
    let mut index = SledIndex::rebuild(&folder).unwrap();
    let mut batch = Batch::new();
    let mut last = None;
    for record in log.scan(Position::START).unwrap() {
        let record = record.unwrap();
        let device = format!("{}", record.sequence % 300);
        batch
            .add_device(&index, "sku", &device, record.position)
            .unwrap();
        batch.add_sequence(record.sequence, record.position);
        last = Some(record.head());
    }
    index.write(batch, last.unwrap()).unwrap();
    index.flush().unwrap();
    assert_eq!(index.head(), Some(log.head()));

    let found: Vec<_> = index
        .device("sku", "42")
        .unwrap()
        .into_iter()
        .map(|at| log.read(at).unwrap().sequence)
        .collect();
    assert_eq!(found, [42, 342, 642, 942]);
    let (sequence, position) = index.position_at_or_before(800).unwrap();
    assert_eq!(sequence, 768);
    assert_eq!(log.read(position).unwrap().sequence, 768);
}
