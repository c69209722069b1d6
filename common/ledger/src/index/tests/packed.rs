//! What stands in the database, and how much of it is held.

use super::*;

#[test]
fn what_is_held_of_many_keys_is_little_and_what_is_new_costs_the_database_nothing() {
    let temporary = tempfile::tempdir().unwrap();
    let folder = temporary.path().join("index");
    let mut index = SledIndex::rebuild(&folder).unwrap();
    let key = |n: u64| format!("dTH-200\0TH200-{n:08}").into_bytes();
    let at = |n: u64| (n * 1500).to_be_bytes().to_vec();
    let count = 20_000;
    for from in (0..count).step_by(1000) {
        let mut batch = Batch::new();
        for n in from..from + 1000 {
            batch.put(key(n), at(n));
        }
        index.write(batch, head(from + 1000)).unwrap();
    }
    // A key by itself is ten times the memory of one among ten.
    let nodes = index.database_keys();
    assert!(nodes <= 1 + 10 * 64, "{nodes}");
    assert_eq!(index.memory_bytes(), 2 << 20);

    // Of an index that is opened again nothing was read yet but all of it once.
    index.close().unwrap();
    let index = SledIndex::open(&folder).unwrap();
    assert_eq!(index.memory_bytes(), 2 << 20);
    let before = index.buckets_read();
    for n in count..2 * count {
        assert_eq!(index.get(&key(n)).unwrap(), None);
    }
    let read = index.buckets_read() - before;
    assert!(read < count / 100, "{read}");
    for n in (0..count).step_by(7) {
        assert_eq!(index.get(&key(n)).unwrap(), Some(at(n)));
    }
}

#[test]
fn what_is_written_at_once_is_one_run_and_few_entries_are_added_to_the_last() {
    let temporary = tempfile::tempdir().unwrap();
    let mut index = SledIndex::rebuild(&temporary.path().join("index")).unwrap();
    let mut written = 0;
    let mut write = |index: &mut SledIndex, count: u64| {
        let mut batch = Batch::new();
        for n in written..written + count {
            batch.put(format!("k{n:08}").into_bytes(), n.to_be_bytes().to_vec());
        }
        written += count;
        index.write(batch, head(written)).unwrap();
        // A run of so many has all 64 buckets, and one key is the head's.
        (index.database_keys() - 1) / 64
    };
    assert_eq!(write(&mut index, 1023), 1);
    assert_eq!(write(&mut index, 3000), 1);
    assert_eq!(write(&mut index, 1024), 2);
    assert_eq!(write(&mut index, 6000), 3);
    assert_eq!(write(&mut index, 1000), 4);
    assert_eq!(write(&mut index, 1000), 4);
    for n in 0..written {
        let key = format!("k{n:08}").into_bytes();
        assert_eq!(index.get(&key).unwrap(), Some(n.to_be_bytes().to_vec()));
    }
}

#[test]
fn the_newest_value_counts_wherever_an_older_one_is() {
    let temporary = tempfile::tempdir().unwrap();
    let folder = temporary.path().join("index");
    let mut index = SledIndex::rebuild(&folder).unwrap();
    let mut memory = MemoryIndex::new();
    // Several runs, each of which has most keys again.
    for round in 0..8_u64 {
        let mut batch = Batch::new();
        for n in 0..3000_u64 {
            let key = format!("k{:05}", n + round * 200).into_bytes();
            match (n + round) % 11 {
                0 => batch.remove(key),
                _ => batch.put(key, format!("{round} {n}").into_bytes()),
            }
        }
        index.write(batch.clone(), head(round + 1)).unwrap();
        memory.write(batch, head(round + 1)).unwrap();
    }
    index.close().unwrap();
    let index = SledIndex::open(&folder).unwrap();
    for n in 0..5000 {
        let key = format!("k{n:05}").into_bytes();
        assert_eq!(index.get(&key).unwrap(), memory.get(&key).unwrap());
    }
    let all = |store: &dyn IndexStore| {
        let entries = store.scan_prefix(b"k").unwrap();
        entries.collect::<Result<Vec<_>, _>>().unwrap()
    };
    assert_eq!(all(&index), all(&memory));
}

#[test]
fn values_that_sled_keeps_in_files_of_their_own_are_there_or_missed() {
    let temporary = tempfile::tempdir().unwrap();
    let folder = sample(temporary.path());
    let mut index = SledIndex::open(&folder).unwrap();
    let large = "x".repeat(100_000);
    index.write(put("large", &large), head(2001)).unwrap();
    index.close().unwrap();
    let index = SledIndex::open(&folder).unwrap();
    assert_eq!(index.get(b"large").unwrap(), Some(large.into_bytes()));
    index.close().unwrap();
    let files = contents(&folder.join("sled/blobs"));
    assert!(!files.is_empty());
    for path in files.keys() {
        fs::remove_file(path).unwrap();
    }
    assert_eq!(code(SledIndex::open(&folder)), "INDEX-BROKEN");
}

#[test]
fn an_index_of_which_a_part_is_lost_is_broken() {
    let temporary = tempfile::tempdir().unwrap();
    type Damage = fn(&::sled::Db, ::sled::IVec);
    for damage in [
        (|db, at| drop(db.remove(at))) as Damage,
        |db, at| drop(db.insert(at, b"\x00")),
        |db, at| drop(db.insert(at, &[])),
        |db, at| {
            // Where it is not looked for.
            let moved = [&at[..6], &[at[6] ^ 1]].concat();
            let value = db.remove(&at).unwrap().unwrap();
            drop(db.insert(moved, value));
        },
        |db, at| {
            // In a run that cannot be there, far behind the last: all filters up to it would take 200 MiB, of the last run
            // that a number can name 16 TiB.
            let moved = [&at[..1], &51_200_u32.to_be_bytes(), &at[5..]].concat();
            let value = db.remove(&at).unwrap().unwrap();
            drop(db.insert(moved, value));
        },
        |db, at| {
            // In the one after the last, which has room yet.
            let moved = [&at[..1], &1_u32.to_be_bytes(), &at[5..]].concat();
            let value = db.remove(&at).unwrap().unwrap();
            drop(db.insert(moved, value));
        },
    ] {
        let folder = sample(temporary.path());
        let lock = fs::read_to_string(folder.join("lock")).unwrap();
        let db = super::sled::open_database(&folder).unwrap();
        let (at, _) = db.scan_prefix([1]).nth(40).unwrap().unwrap();
        damage(&db, at);
        db.flush().unwrap();
        drop(db);
        let bytes = fs::metadata(folder.join("sled/db")).unwrap().len();
        let (rest, records) = lock.rsplit_once(' ').unwrap();
        assert!(rest.starts_with("closed "));
        fs::write(folder.join("lock"), format!("closed {bytes} {records}")).unwrap();
        assert_eq!(code(SledIndex::open(&folder)), "INDEX-BROKEN");
    }
}

/// How often this thread had something read.
fn reads() -> u64 {
    let counts = fs::read_to_string("/proc/thread-self/io").unwrap();
    let line = counts.lines().find_map(|line| line.strip_prefix("syscr: "));
    line.unwrap().parse().unwrap()
}

#[test]
fn what_was_read_is_forgotten_when_enough_else_was() {
    let temporary = tempfile::tempdir().unwrap();
    let mut index = SledIndex::rebuild(&temporary.path().join("index")).unwrap();
    let key = |n: u64| format!("k{n:08}").into_bytes();
    for from in (0..20_000).step_by(1000) {
        let mut batch = Batch::new();
        for n in from..from + 1000 {
            batch.put(key(n), vec![b'x'; 20]);
        }
        index.write(batch, head(from + 1000)).unwrap();
    }
    let read = |n: u64| {
        let before = reads();
        index.get(&key(n)).unwrap().unwrap();
        // Asking how many they are reads, too.
        reads() - before
    };
    read(0);
    let known = read(0);
    for _ in 0..255 {
        index.get(&key(10_000)).unwrap().unwrap();
    }
    assert!(read(0) > known);
    assert_eq!(read(0), known);
}
