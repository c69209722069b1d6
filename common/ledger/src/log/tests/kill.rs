//! What is left by a process that was killed.

use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};

use super::{all, append, code, record};
use crate::log::{FileLog, LogStore};

/// Tells the test that is run again in a process of its own which folder to write to.
const CHILD_FOLDER: &str = "MINTMARK_TEST_LOG";

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
            .arg("log::tests::kill::a_log_is_written_for_another_test")
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
