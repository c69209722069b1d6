//! What opening a log makes of every kind of damage.

use std::fs::{self, OpenOptions};
use std::os::unix::fs::FileExt;

use proptest::prelude::*;

use super::*;
use crate::log::frame::{Frame, HEADER_BYTES};
use crate::storage_error::StorageErrorClass;

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
            let bits = |pair: (&u8, &u8)| (pair.0 ^ pair.1).count_ones();
            let changed: u32 = zeros.iter().zip(whole).map(bits).sum();
            if changed == 1 {
                restore(&before);
                fs::write(path, zeros).unwrap();
                assert_refused(&folder, None, "LOG-CORRUPT");
            } else if changed > 0 {
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
fn a_last_group_that_was_marked_is_never_cut_off_whatever_became_of_it() {
    let temporary = tempfile::tempdir().unwrap();
    for segment_bytes_max in [SEGMENT_BYTES_MAX, 1] {
        let (folder, heads) = sample(temporary.path(), 6, segment_bytes_max);
        // Opening it marks it.
        drop(open(&folder, None).unwrap());
        let before = contents(&folder);
        let (path, whole) = before.last_key_value().unwrap();
        let begin = whole.len() - (heads[6].end.0 - heads[5].end.0) as usize;
        for at in begin..whole.len() {
            let mut damaged = whole.clone();
            damaged[at] ^= 0xff;
            fs::write(path, damaged).unwrap();
            assert_refused(&folder, None, "LOG-CORRUPT");
            fs::write(path, &whole[..at]).unwrap();
            assert_refused(&folder, Some(heads[2]), "LOG-TRUNCATED");
        }
        // The mark of another log is none of this one's.
        fs::write(path, whole).unwrap();
        let other = Head {
            link: [1; 32],
            ..heads[3]
        };
        let mark = super::super::mark::Mark::open(&folder).unwrap();
        mark.set(&other).unwrap();
        assert_refused(&folder, None, "LOG-CORRUPT");
        forget(&folder);
        assert_eq!(open(&folder, None).unwrap().0.head(), heads[6]);
    }
}

#[test]
fn one_flipped_bit_of_the_last_group_is_told_from_a_torn_write_without_a_mark() {
    let temporary = tempfile::tempdir().unwrap();
    let (folder, heads) = sample(temporary.path(), 6, SEGMENT_BYTES_MAX);
    let before = contents(&folder);
    let (path, whole) = before.last_key_value().unwrap();
    for bit in heads[5].end.0 as usize * 8..whole.len() * 8 {
        let mut damaged = whole.clone();
        damaged[bit / 8] ^= 1 << (bit % 8);
        fs::write(path, damaged).unwrap();
        assert_refused(&folder, None, "LOG-CORRUPT");
    }
}

#[test]
fn what_was_cut_off_is_kept_once_and_the_newest_few_stay() {
    let temporary = tempfile::tempdir().unwrap();
    let (folder, heads) = sample(temporary.path(), 2, SEGMENT_BYTES_MAX);
    let path = folder.join("0000000000000000.log");
    let whole = fs::read(&path).unwrap();
    let kept = || {
        let names = fs::read_dir(&folder).unwrap();
        let names = names.map(|entry| entry.unwrap().file_name().into_string().unwrap());
        names.filter(|name| name.starts_with("torn-")).count()
    };
    for round in 0..20_u8 {
        for _ in 0..2 {
            fs::write(&path, [&whole[..], &[0xa0 + round; 90]].concat()).unwrap();
            let (_, opened) = open(&folder, Some(heads[1])).unwrap();
            let bytes = fs::read(opened.torn_kept.unwrap()).unwrap();
            assert_eq!(bytes, [0xa0 + round; 90]);
        }
        assert_eq!(kept(), usize::from(round + 1).min(8));
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
    forget(&folder);
    // Torn in front of its end, and with its own header gone.
    let path = folder.join("0000000000000000.log");
    let whole = fs::read(&path).unwrap();
    let begin = heads[6].end.0 as usize;
    fs::write(&path, &whole[..whole.len() - 1]).unwrap();
    assert_cut(&folder, None, 6, &heads);
    let mut torn = whole;
    torn[begin..begin + HEADER_BYTES].fill(0);
    fs::write(&path, torn).unwrap();
    forget(&folder);
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
fn a_record_that_does_not_follow_the_one_before_it_is_corruption_however_good_its_checksum() {
    let first = Frame {
        sequence: 0,
        group_first: 0,
        group_count: 1,
        previous: [0; 32],
    };
    let right = Frame {
        sequence: 1,
        group_first: 1,
        group_count: 2,
        previous: link(&[0; 32], b"first"),
    };
    let last = Frame {
        sequence: 2,
        previous: link(&right.previous, b"second"),
        ..right
    };
    let third = |frame: Frame| [(first, "first"), (right, "second"), (frame, "third")];
    let second = |frame: Frame| [(first, "first"), (frame, "second"), (last, "third")];
    for (wrong, frames) in [
        ("nothing", third(last)),
        ("the first record", third(last).map(|(f, _)| (f, "altered"))),
        (
            "a gap",
            second(Frame {
                sequence: 2,
                group_first: 2,
                ..right
            }),
        ),
        (
            "a gap in a group",
            third(Frame {
                sequence: 3,
                group_count: 3,
                ..last
            }),
        ),
        (
            "another link",
            second(Frame {
                previous: [1; 32],
                ..right
            }),
        ),
        (
            "a group that began earlier",
            second(Frame {
                group_first: 0,
                ..right
            }),
        ),
        (
            "a group that grows",
            third(Frame {
                group_count: 3,
                ..last
            }),
        ),
        (
            "a group in a group",
            third(Frame {
                group_first: 2,
                group_count: 1,
                ..last
            }),
        ),
    ] {
        let temporary = tempfile::tempdir().unwrap();
        let folder = temporary.path().join("log");
        drop(create(&folder));
        let mut bytes = Vec::new();
        for (frame, record) in frames {
            frame.encode(Position(bytes.len() as u64), record.as_bytes(), &mut bytes);
        }
        fs::write(folder.join("0000000000000000.log"), bytes).unwrap();
        if wrong == "nothing" {
            assert_eq!(all(&open(&folder, None).unwrap().0).len(), 3);
        } else {
            assert_refused(&folder, None, "LOG-CORRUPT");
        }
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
        forget(&folder);
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
                prop_assert_eq!(error.class(), StorageErrorClass::Integrity);
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
