//! What other processes say of a running one: its command line, its environment, its memory.

use std::fs;
use std::io::Write as _;
use std::process::{Command, Stdio};

/// Reads all of a process's memory that it can read itself, and counts how often each secret is in it. The secrets come in
/// on standard input, each a line of hexadecimal digits.
const SCAN: &str = r#"
import re, sys
needles = [bytes.fromhex(line.strip()) for line in sys.stdin]
counts = [0] * len(needles)
pid = sys.argv[1]
with open(f"/proc/{pid}/mem", "rb", 0) as memory, open(f"/proc/{pid}/maps") as maps:
    for line in maps:
        begin, end, rights = re.match(r"([0-9a-f]+)-([0-9a-f]+) (\S+)", line).groups()
        begin, end = int(begin, 16), int(end, 16)
        if rights[0] != "r" or "[v" in line:
            continue
        try:
            memory.seek(begin)
            found = memory.read(end - begin)
        except (OSError, ValueError, OverflowError):
            continue
        for index, needle in enumerate(needles):
            counts[index] += found.count(needle)
print(*counts)
"#;

/// How often each of these is in the memory of a process; `None` where this user may not look into it, as one that is not
/// root may not.
pub fn counts(pid: u32, secrets: &[Vec<u8>]) -> Option<Vec<usize>> {
    fs::File::open(format!("/proc/{pid}/mem")).ok()?;
    let mut python = Command::new("python3")
        .args(["-c", SCAN, &pid.to_string()])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("python3 runs");
    let lines: Vec<String> = secrets.iter().map(hex::encode).collect();
    let mut input = python.stdin.take().unwrap();
    input.write_all(lines.join("\n").as_bytes()).unwrap();
    drop(input);
    let output = python.wait_with_output().unwrap();
    assert!(output.status.success(), "the memory of {pid} was not read");
    let text = String::from_utf8(output.stdout).unwrap();
    let counts = text.split_whitespace().map(|count| count.parse().unwrap());
    Some(counts.collect())
}

/// The command line and the environment of a process, as far as this user may read them.
pub fn arguments_and_environment(pid: u32) -> Vec<u8> {
    let read = |name: &str| fs::read(format!("/proc/{pid}/{name}")).unwrap_or_default();
    [read("cmdline"), read("environ")].concat()
}
