//! Whether the file of a registry is as long as its header says, or what is missing of it still stands beside it.

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::fs::File;
use std::io::{Read as _, Seek as _, SeekFrom};
use std::path::Path;

use mintmark_console::{Exit, Failure};

use crate::failure;

/// The header of a registry's file, in bytes, as SQLite's file format has it (section 1.3).
const HEADER_BYTES: usize = 100;
/// The header of the log that SQLite writes ahead, and that of each page in it, in bytes (section 4.1).
const LOG_HEADER_BYTES: usize = 32;
const FRAME_HEADER_BYTES: usize = 24;

/// Refuses a file that is shorter than its header says: whatever stood behind is gone, and only who looks there would notice.
/// Who was killed while the log was carried over leaves a file whose header is ahead of it; then its pages are in the log.
pub(super) fn expect_whole(path: &Path) -> Result<(), Failure> {
    let io = |error: std::io::Error| {
        let message = format!("{} could not be read", path.display());
        Failure::new(Exit::Environment, "FILE-IO", message)
            .cause(error)
            .hint("check the path, its permissions and the disk")
    };
    let mut file = File::open(path).map_err(io)?;
    if file.metadata().map_err(io)?.len() == 0 {
        return Ok(());
    }
    let mut header = [0; HEADER_BYTES];
    let is_read = file.read_exact(&mut header).is_ok();
    let page_bytes = match number(&header, 16) >> 16 {
        1 => 65_536,
        bytes => bytes,
    };
    // The count of pages is valid where the change counter is that of the version that wrote it.
    let pages = if number(&header, 24) == number(&header, 92) {
        number(&header, 28)
    } else {
        0
    };
    let is_long_enough = || -> Result<bool, Failure> {
        let bytes = file.metadata().map_err(io)?.len();
        Ok(bytes >= page_bytes.saturating_mul(pages))
    };
    if is_read && is_long_enough()? {
        return Ok(());
    }
    if is_read && page_bytes > 0 {
        let there = file.metadata().map_err(io)?.len() / page_bytes;
        let logged = logged(path, page_bytes).unwrap_or_default();
        // Another command may have carried the log over meanwhile.
        if (there + 1..=pages).all(|page| logged.contains(&page)) || is_long_enough()? {
            return Ok(());
        }
    }
    let message = format!("{} is cut short", path.display());
    Err(Failure::new(Exit::Integrity, "REGISTRY-CORRUPT", message).hint(failure::RECOVER))
}

/// The pages that stand in the log beside a registry.
fn logged(path: &Path, page_bytes: u64) -> std::io::Result<BTreeSet<u64>> {
    let mut name = OsString::from(path);
    name.push("-wal");
    let mut log = File::open(name)?;
    let mut header = [0; LOG_HEADER_BYTES];
    log.read_exact(&mut header)?;
    let salts = header.get(16..24);
    let mut pages = BTreeSet::new();
    let mut frame = [0; FRAME_HEADER_BYTES];
    // Behind what is of this log stands what is left of the one before.
    while log.read_exact(&mut frame).is_ok() && frame.get(8..16) == salts {
        pages.insert(number(&frame, 0));
        log.seek(SeekFrom::Current(page_bytes.cast_signed()))?;
    }
    Ok(pages)
}

/// Four octets, the most significant first.
fn number(bytes: &[u8], at: usize) -> u64 {
    let octets = bytes.iter().skip(at).take(4);
    octets.fold(0, |number, octet| number << 8 | u64::from(*octet))
}

#[cfg(test)]
mod tests {
    use super::super::Registry;
    use rusqlite::Connection;
    use std::fs;

    const PAGE_BYTES: usize = 4096;

    /// Opens a registry of these bytes, and of this log, if there is one. Returns how many facts it holds.
    fn opened(file: &[u8], log: Option<&[u8]>) -> Result<i64, String> {
        let home = tempfile::tempdir().unwrap();
        let place = home.path().join(Registry::FILE);
        fs::write(&place, file).unwrap();
        if let Some(log) = log {
            fs::write(home.path().join("registry.sqlite-wal"), log).unwrap();
        }
        let registry = Registry::open(home.path()).map_err(|failure| failure.code.to_string())?;
        let check: String = registry
            .sql
            .pragma_query_value(None, "integrity_check", |row| row.get(0))
            .unwrap();
        assert_eq!(check, "ok");
        let count = "SELECT COUNT(*) FROM meta";
        Ok(registry.sql.query_row(count, [], |row| row.get(0)).unwrap())
    }

    #[test]
    fn a_registry_whose_log_was_being_carried_over_is_whole_and_one_that_lost_pages_is_not() {
        let home = tempfile::tempdir().unwrap();
        let place = home.path().join(Registry::FILE);
        Registry::create(home.path()).unwrap();
        let sql = Connection::open(&place).unwrap();
        sql.pragma_update(None, "wal_autocheckpoint", 0).unwrap();
        let before = fs::read(&place).unwrap();
        for number in 0..40 {
            let value = "x".repeat(2 * PAGE_BYTES);
            let insert = "INSERT INTO meta (name, value) VALUES (?1, ?2)";
            sql.execute(insert, [format!("fact {number}"), value])
                .unwrap();
        }
        let log = fs::read(home.path().join("registry.sqlite-wal")).unwrap();
        let checkpoint = "PRAGMA wal_checkpoint(PASSIVE)";
        sql.query_row(checkpoint, [], |_| Ok(())).unwrap();
        let after = fs::read(&place).unwrap();
        assert!(after.len() > before.len() + 40 * PAGE_BYTES);
        // Killed after any page of it: the first says how many there will be.
        for pages in [
            1,
            2,
            before.len() / PAGE_BYTES,
            before.len() / PAGE_BYTES + 7,
        ] {
            let mut torn = before.clone();
            let carried = pages * PAGE_BYTES;
            torn.resize(torn.len().max(carried), 0);
            torn[..carried].copy_from_slice(&after[..carried]);
            assert_eq!(opened(&torn, Some(&log)), Ok(40), "{pages}");
            let refused = Err("REGISTRY-CORRUPT".to_owned());
            assert_eq!(opened(&torn, None), refused, "{pages}");
            // What stood in neither is gone.
            assert_eq!(opened(&torn[..2 * PAGE_BYTES], Some(&log)), refused);
            assert_eq!(opened(&torn, Some(&log[..log.len() / 2])), refused);
        }
    }
}
