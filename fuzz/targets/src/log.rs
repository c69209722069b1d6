//! The files of a log, as somebody put them there.

use std::fs;
use std::path::Path;

use mintmark_ledger::StorageError;
use mintmark_ledger::log::{FileLog, Head, LogStore, Position, fuzzing, link};

use crate::files;

/// How many files a log has here, at most.
const FILES_MAX: usize = 4;

/// A log of several files: the first byte says what is made to fit of them (1 the checksums, 2 the links, too, 4 the mark
/// beside it), then each comes with its length before it (2 bytes). If 8 is set, the first of them is the mark.
pub(crate) fn folder(input: &[u8]) {
    let Some((flags, mut rest)) = input.split_first() else {
        return;
    };
    let folder = files::folder();
    let (mut base, mut first) = (0_u64, flags & 8 != 0);
    for _ in 0..FILES_MAX {
        let Some((length, after)) = rest.split_first_chunk::<2>() else {
            break;
        };
        let length = usize::from(u16::from_be_bytes(*length)).min(after.len());
        let (bytes, after) = after.split_at(length);
        rest = after;
        let mut bytes = bytes.to_vec();
        if std::mem::take(&mut first) {
            if flags & 4 != 0 {
                fuzzing::mend_mark(&mut bytes);
            }
            fs::write(folder.path().join("head"), &bytes).unwrap();
            continue;
        }
        if flags & 1 != 0 {
            fuzzing::mend_segment(&mut bytes, base, flags & 2 != 0);
        }
        fs::write(folder.path().join(format!("{base:016x}.log")), &bytes).unwrap();
        base += bytes.len() as u64;
    }
    open(folder.path());
}

/// A log whose first records were pruned: one file of what is kept of them, its length before it (2 bytes), and one of
/// whole records. The first byte as of [`folder`].
pub(crate) fn pruned(input: &[u8]) {
    let Some((flags, rest)) = input.split_first() else {
        return;
    };
    let Some((length, rest)) = rest.split_first_chunk::<2>() else {
        return;
    };
    let length = usize::from(u16::from_be_bytes(*length)).min(rest.len());
    let (kept, whole) = rest.split_at(length);
    let (mut kept, mut whole) = (kept.to_vec(), whole.to_vec());
    let end = kept.get(16..24).and_then(|end| end.try_into().ok());
    let end = end.map_or(0, u64::from_be_bytes);
    if flags & 1 != 0 {
        fuzzing::mend_pruned(&mut kept);
        fuzzing::mend_segment(&mut whole, end, flags & 2 != 0);
    }
    let folder = files::folder();
    fs::write(folder.path().join(format!("{:016x}.pruned", 0)), &kept).unwrap();
    fs::write(folder.path().join(format!("{end:016x}.log")), &whole).unwrap();
    open(folder.path());
}

/// Opening for reading changes nothing; opening for writing cuts off what is not whole, once; what is there then is a
/// chain.
fn open(folder: &Path) {
    let before = listed(folder);
    let read_only = FileLog::open_read_only(folder, None).map(|(log, _)| log.head());
    assert_eq!(listed(folder), before, "reading changes nothing");
    let opened = FileLog::open(folder, None);
    let opened = match opened {
        Ok((log, _)) => {
            let read_only = read_only.expect("what can be written can be read");
            assert_eq!(log.head(), read_only, "the same end, read or written");
            let head = check(&log);
            drop(log);
            let again = FileLog::open(folder, None).map(|(log, found)| (log.head(), found));
            let (again, found) = again.expect("what was opened once is opened again");
            assert_eq!(again, head, "what was cut off once is all");
            assert_eq!(found.torn_bytes, 0);
            Ok(())
        }
        Err(error) => Err(error),
    };
    if let Err(error) = opened {
        let _ = error.to_string();
        assert_eq!(
            listed(folder),
            before,
            "what is refused is left as it is: {error}"
        );
    }
}

/// Reads everything; gives the head, once it is known to be right.
fn check(log: &FileLog) -> Head {
    let mut before = [0; 32];
    let mut size = 0;
    let mut end = Position::START;
    let whole: Result<Vec<_>, StorageError> = log.scan(Position::START).and_then(Iterator::collect);
    // A file that was damaged behind what opening looks at is found out when it is read.
    let whole = match whole {
        Ok(whole) => whole,
        Err(error) => {
            let _ = error.to_string();
            return log.head();
        }
    };
    for record in whole {
        assert_eq!(record.sequence, size);
        assert_eq!(record.position, end);
        if let Some(bytes) = record.whole() {
            assert_eq!(record.link, link(&before, bytes), "it is a chain");
        }
        let one = log.read(record.position).expect("what is scanned is read");
        assert_eq!((&one.bytes, one.link), (&record.bytes, record.link));
        (before, size, end) = (record.link, size + 1, record.end);
    }
    assert_eq!((log.head().size, log.head().link), (size, before));
    log.head()
}

/// The files of a folder and what is in them, but for the lock.
fn listed(folder: &Path) -> Vec<(String, Vec<u8>)> {
    let entries = fs::read_dir(folder).unwrap().map(Result::unwrap);
    let mut files: Vec<_> = entries
        .map(|entry| {
            let name = entry.file_name().into_string().unwrap();
            (name, fs::read(entry.path()).unwrap())
        })
        .filter(|(name, _)| name != "lock")
        .collect();
    files.sort();
    files
}
