//! What a person and a script see of a tool that is built on the console.
// Clippy takes only the test functions of such a file for tests, not what they share.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::fs::{self, File};
use std::io::{BufRead, BufReader, Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use tempfile::tempdir;

/// The example that Cargo builds along with the tests.
fn demo_path() -> PathBuf {
    let test = std::env::current_exe().unwrap();
    let path = test
        .parent()
        .unwrap()
        .parent()
        .unwrap()
        .join("examples/demo");
    assert!(
        path.exists(),
        "{} is missing: build the example first",
        path.display()
    );
    path
}

fn demo(arguments: &[&str]) -> Output {
    clean(Command::new(demo_path()).args(arguments))
        .output()
        .unwrap()
}

/// The environment that a test can rely on.
fn clean(command: &mut Command) -> &mut Command {
    command
        .env_remove("NO_COLOR")
        .env_remove("RUST_BACKTRACE")
        .env_remove("CLICOLOR_FORCE")
}

fn text(bytes: &[u8]) -> &str {
    std::str::from_utf8(bytes).unwrap()
}

fn error(output: &Output) -> serde_json::Value {
    let lines: Vec<&str> = text(&output.stderr).lines().collect();
    assert_eq!(lines.len(), 1, "{lines:?}");
    let mut value: serde_json::Value = serde_json::from_str(lines[0]).unwrap();
    let error = value["error"].take();
    let members: Vec<&String> = error.as_object().unwrap().keys().collect();
    assert_eq!(members, ["cause", "code", "exit_code", "hint", "message"]);
    error
}

/// The tool at a terminal of its own, with what is typed there and what is shown.
fn at_terminal(arguments: &str, typed: &str) -> (String, Option<i32>) {
    let line = format!("stty cols 60; {} {arguments}", demo_path().display());
    let mut child = clean(&mut Command::new("script"))
        .args([
            "--quiet",
            "--return",
            "--flush",
            "--command",
            &line,
            "/dev/null",
        ])
        .env("TERM", "xterm")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut shown = Vec::new();
    let mut output = child.stdout.take().unwrap();
    if !typed.is_empty() {
        // What is typed before the question would be echoed, so the question is waited for.
        let mut byte = [0];
        while !shown.ends_with(b": ") && output.read(&mut byte).unwrap() == 1 {
            shown.push(byte[0]);
        }
        child
            .stdin
            .as_mut()
            .unwrap()
            .write_all(typed.as_bytes())
            .unwrap();
    }
    output.read_to_end(&mut shown).unwrap();
    let status = child.wait().unwrap();
    (
        String::from_utf8(shown).unwrap().replace("\r\n", "\n"),
        status.code(),
    )
}

fn without_terminal(arguments: &[&str]) -> Output {
    clean(
        Command::new("setsid")
            .arg("--wait")
            .arg(demo_path())
            .args(arguments),
    )
    .stdin(Stdio::null())
    .output()
    .unwrap()
}

#[test]
fn a_failure_goes_to_standard_error_and_into_the_exit_code() {
    let output = demo(&["fail"]);
    assert_eq!(output.status.code(), Some(1));
    assert_eq!(text(&output.stdout), "");
    assert_eq!(
        text(&output.stderr),
        "demo: error[QUOTA-EXHAUSTED]: no unit of TH-200 is left\n\
         demo: cause: 5000 of 5000 spent\n\
         demo: hint: ask HQ for an amendment\n"
    );
}

#[test]
fn a_failure_under_json_is_the_documented_object() {
    let output = demo(&["fail", "--json"]);
    let error = error(&output);
    assert_eq!(error["code"], "QUOTA-EXHAUSTED");
    assert_eq!(error["cause"], "5000 of 5000 spent");
    assert_eq!(error["exit_code"], 1);
}

#[test]
fn remarks_go_to_standard_error_and_the_verdict_into_the_exit_code() {
    let output = demo(&["remark"]);
    assert_eq!(text(&output.stdout), "done\n");
    assert_eq!(
        text(&output.stderr),
        "demo: warning: the credit ends tomorrow\ndemo: note: export an audit bundle\n"
    );
    assert_eq!(output.status.code(), Some(1));
}

#[test]
fn help_and_version_are_data_and_succeed() {
    for option in ["--help", "--version", "help"] {
        let output = demo(&[option]);
        assert_eq!(output.status.code(), Some(0), "{option}");
        assert!(
            !output.stdout.is_empty() && output.stderr.is_empty(),
            "{option}"
        );
    }
    assert!(
        text(&demo(&["fail", "--help"]).stdout).contains("--json"),
        "global options are shown"
    );
}

#[test]
fn a_wrong_command_line_is_explained_and_exits_with_2() {
    let output = demo(&["confirm", "--confrim", "x"]);
    assert_eq!(output.status.code(), Some(2));
    assert_eq!(
        text(&output.stderr),
        "demo: error[USAGE]: unexpected argument '--confrim' found\n\
         demo: hint: a similar argument exists: '--confirm'; Usage: demo confirm --confirm <ID>\n"
    );
    let output = demo(&[]);
    assert_eq!(output.status.code(), Some(2));
    let stderr = text(&output.stderr);
    assert!(stderr.contains("Usage: demo") && stderr.contains("Commands:"));
    assert!(
        stderr.ends_with(
            "demo: error[USAGE]: the command is not complete\ndemo: hint: run `demo --help`\n"
        ),
        "{stderr}"
    );
}

#[test]
fn a_wrong_command_line_under_json_is_an_error_with_the_code_usage() {
    for arguments in [
        &["--json", "confirm", "--confrim", "x"][..],
        &["--json"],
        &["nothing", "--json"],
    ] {
        let output = demo(arguments);
        assert_eq!(output.status.code(), Some(2));
        let error = error(&output);
        assert_eq!(error["code"], "USAGE");
        assert_eq!(error["exit_code"], 2);
        assert!(error["hint"].is_string(), "{error}");
    }
}

#[test]
fn a_panic_is_reported_as_an_unknown_outcome() {
    let output = demo(&["panic"]);
    assert_eq!(output.status.code(), Some(5));
    let stderr = text(&output.stderr);
    assert!(stderr.starts_with("demo: error[INTERNAL]: "), "{stderr}");
    assert!(
        stderr.contains("the page is broken") && stderr.contains("demo.rs:"),
        "{stderr}"
    );
    assert!(stderr.contains("run `demo recover`"), "{stderr}");
    assert_eq!(stderr.lines().count(), 3, "{stderr}");
    let output = demo(&["panic", "--json"]);
    assert_eq!(error(&output)["code"], "INTERNAL");
    assert_eq!(output.status.code(), Some(5));
}

#[test]
fn a_panic_never_shows_a_value() {
    for arguments in [
        &["panic-formatted", "918273"][..],
        &["panic-formatted", "918273", "--json"],
    ] {
        let output = demo(arguments);
        assert_eq!(output.status.code(), Some(5));
        assert!(!text(&output.stderr).contains("918273"));
    }
}

#[test]
fn a_panic_in_another_thread_is_not_hidden_by_a_good_end() {
    let output = demo(&["panic-thread"]);
    assert_eq!(text(&output.stdout), "went on: true\n");
    assert!(text(&output.stderr).contains("a thread broke"));
    assert_eq!(output.status.code(), Some(5));
}

#[test]
fn an_expected_panic_is_silent_and_harmless() {
    let output = demo(&["panic-expected"]);
    assert_eq!(text(&output.stdout), "Err(\"a damaged index\")\n");
    assert_eq!((text(&output.stderr), output.status.code()), ("", Some(0)));
}

#[test]
fn a_reader_that_leaves_ends_the_output_and_not_the_command() {
    let mut child = clean(Command::new(demo_path()).args(["lines", "200000"]))
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut first = String::new();
    BufReader::new(child.stdout.take().unwrap())
        .read_line(&mut first)
        .unwrap();
    assert_eq!(first, "0\n");
    let output = child.wait_with_output().unwrap();
    assert_eq!((text(&output.stderr), output.status.code()), ("", Some(0)));
}

#[test]
fn a_result_that_cannot_be_written_is_an_unknown_outcome() {
    for command in [&["lines", "3"][..], &["table"], &["value"]] {
        let full = File::options().write(true).open("/dev/full").unwrap();
        let output = clean(Command::new(demo_path()).args(command))
            .stdout(full)
            .output()
            .unwrap();
        assert!(text(&output.stderr).starts_with("demo: error[OUTPUT-FAILED]: "));
        assert_eq!(output.status.code(), Some(5));
    }
}

#[test]
fn a_result_that_cannot_be_written_is_no_unknown_outcome_where_nothing_was_changed() {
    for command in ["look", "look-at-value"] {
        let full = File::options().write(true).open("/dev/full").unwrap();
        let output = clean(Command::new(demo_path()).arg(command))
            .stdout(full)
            .output()
            .unwrap();
        let stderr = text(&output.stderr);
        assert!(
            stderr.starts_with("demo: error[OUTPUT-FAILED]: ")
                && stderr.contains("nothing was changed"),
            "{stderr}"
        );
        assert_eq!(output.status.code(), Some(3));
    }
}

#[test]
fn a_pipe_gets_the_table_whole_and_without_colour() {
    let output = demo(&["table"]);
    let shown = text(&output.stdout);
    assert!(shown.starts_with("PRODUCT  STATE  UNITS  REMARK\nTH-200   open   50000  a remark"));
    assert!(!shown.contains('\u{1b}') && !shown.contains('…'));
    assert!(shown.lines().nth(1).unwrap().len() > 150);
    let output = demo(&["table", "--color", "always"]);
    assert!(text(&output.stdout).contains("\u{1b}[32mopen\u{1b}[0m"));
}

#[test]
fn a_terminal_too_narrow_for_the_table_gets_it_whole_in_blocks_and_coloured() {
    let (shown, code) = at_terminal("table", "");
    assert_eq!(code, Some(0));
    let plain = shown.replace("\u{1b}[1m", "").replace("\u{1b}[0m", "");
    assert!(plain.starts_with("PRODUCT  TH-200\nSTATE    \u{1b}[32mopen"));
    // Under each other, broken at spaces.
    let remark = "a remark much longer than any terminal is wide ".repeat(3);
    let (_, said) = plain.split_once("\nREMARK   ").unwrap();
    let words =
        |text: &str| -> Vec<String> { text.split_whitespace().map(str::to_owned).collect() };
    assert_eq!(words(said), words(&remark), "{shown}");
    assert!(
        said.lines().count() > 1 && plain.lines().all(|line| line.len() <= 89),
        "{shown}"
    );
    assert!(!shown.contains('…'));
}

#[test]
fn no_color_is_obeyed_on_a_terminal() {
    let (shown, _) = at_terminal("table --color never", "");
    assert!(!shown.contains('\u{1b}'), "{shown}");
    let line = format!("NO_COLOR=1 {} table", demo_path().display());
    let output = Command::new("script")
        .args(["--quiet", "--return", "--command", &line, "/dev/null"])
        .output()
        .unwrap();
    assert!(text(&output.stdout).contains("TH-200"));
    assert!(!text(&output.stdout).contains('\u{1b}'));
}

#[test]
fn json_is_indented_for_a_terminal_only() {
    let (shown, _) = at_terminal("value --json", "");
    assert!(shown.starts_with("{\n  \"schema\""), "{shown}");
    assert_eq!(text(&demo(&["value", "--json"]).stdout).lines().count(), 1);
}

#[test]
fn progress_is_for_terminals_and_people() {
    let (shown, _) = at_terminal("progress", "");
    assert!(
        shown.contains("counting: ") && shown.contains(" of 10 ("),
        "{shown}"
    );
    assert!(shown.trim_end().ends_with("counted"), "{shown}");
    let (shown, _) = at_terminal("progress --json", "");
    assert_eq!(shown, "counted\n");
    assert_eq!(text(&demo(&["progress"]).stderr), "");
}

#[test]
fn a_secret_is_asked_for_without_echo() {
    let (shown, code) = at_terminal("secret", "918273\n");
    assert!(shown.contains("PIN for vault: "), "{shown}");
    assert!(shown.contains("6 characters"), "{shown}");
    assert!(!shown.contains("918273"), "{shown}");
    assert_eq!(code, Some(0));
}

#[test]
fn giving_up_at_a_secret_changes_nothing_and_leaves_the_echo_on() {
    for typed in ["\u{3}", "12\u{3}", "\n", "\u{4}"] {
        let (shown, code) = at_terminal("secret; code=$?; stty -a; exit $code", typed);
        assert!(shown.contains("cause: cancelled at the prompt"), "{shown}");
        let modes: Vec<&str> = shown.split_whitespace().collect();
        assert!(
            modes.contains(&"echo") && modes.contains(&"isig"),
            "{shown}"
        );
        assert_eq!(code, Some(3));
    }
}

#[test]
fn without_a_terminal_a_secret_is_not_asked_for_and_the_way_out_is_told() {
    let output = without_terminal(&["secret"]);
    assert_eq!(output.status.code(), Some(3));
    assert!(text(&output.stderr).contains("add pin-source=file:PATH to the key URI"));
}

#[test]
fn an_irreversible_step_wants_the_identifier_typed() {
    let (shown, code) = at_terminal("confirm", "berlin\n");
    assert!(
        shown.contains("This will revoke site berlin.\nType berlin to go on: "),
        "{shown}"
    );
    assert!(shown.contains("confirmed"), "{shown}");
    assert_eq!(code, Some(0));
    for typed in ["yes\n", "\n", "\u{4}"] {
        let (shown, code) = at_terminal("confirm", typed);
        assert!(shown.contains("error[CONFIRMATION-MISMATCH]:"), "{shown}");
        assert_eq!(code, Some(3));
    }
}

#[test]
fn without_a_terminal_confirmation_comes_from_the_option_alone() {
    let output = without_terminal(&["confirm"]);
    assert_eq!(output.status.code(), Some(2));
    assert!(text(&output.stderr).contains("error[CONFIRMATION-REQUIRED]:"));
    assert!(text(&output.stderr).contains("--confirm berlin"));
    let output = without_terminal(&["confirm", "--confirm", "berlin"]);
    assert_eq!(
        (text(&output.stdout), output.status.code()),
        ("confirmed\n", Some(0))
    );
    let output = without_terminal(&["confirm", "--confirm", "hamburg"]);
    assert_eq!(output.status.code(), Some(3));
}

#[test]
fn a_tool_makes_private_files_and_no_core() {
    assert_eq!(
        text(&demo(&["limits"]).stdout),
        "Max core file size 0 0 bytes\nUmask: 0077\nno core\n"
    );
    let folder = tempdir().unwrap();
    let path = folder.path().join("certificate.pem");
    assert_eq!(
        demo(&["write", "public", path.to_str().unwrap(), "x"])
            .status
            .code(),
        Some(0)
    );
    use std::os::unix::fs::PermissionsExt;
    assert_eq!(
        fs::metadata(&path).unwrap().permissions().mode() & 0o777,
        0o644
    );
}

/// Runs the tool with system calls that fail, as strace injects them.
fn with_faults(faults: &[&str], arguments: &[&str]) -> Output {
    let mut command = Command::new("strace");
    command.args(["-f", "-qq", "-o", "/dev/null", "-e", "trace=all"]);
    for fault in faults {
        command.args(["-e", &format!("inject={fault}")]);
    }
    clean(command.arg(demo_path()).args(arguments))
        .output()
        .expect("strace is installed")
}

fn listing(folder: &Path) -> Vec<String> {
    let names = fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().file_name());
    names.map(|name| name.into_string().unwrap()).collect()
}

#[test]
fn a_disk_that_fails_at_any_step_leaves_the_old_file_and_no_part() {
    for (fault, code) in [
        ("write:error=ENOSPC:when=1", "DISK-FULL"),
        ("fsync:error=EIO:when=1", "FILE-IO"),
        ("fsync:error=ENOSPC:when=1", "DISK-FULL"),
        ("fchmod:error=EROFS:when=1", "FILE-READ-ONLY"),
        ("rename,renameat,renameat2:error=EIO", "FILE-IO"),
    ] {
        let folder = tempdir().unwrap();
        let path = folder.path().join("file");
        fs::write(&path, b"old").unwrap();
        let output = with_faults(
            &[fault],
            &["write", "replace", path.to_str().unwrap(), "new"],
        );
        let stderr = text(&output.stderr);
        assert!(
            stderr.starts_with(&format!("demo: error[{code}]: ")),
            "{fault}: {stderr}"
        );
        assert_eq!(output.status.code(), Some(3));
        assert_eq!(fs::read(&path).unwrap(), b"old", "{fault}");
        assert_eq!(listing(folder.path()), ["file"], "{fault}");
    }
}

#[test]
fn a_folder_that_cannot_be_synced_is_not_called_written() {
    let folder = tempdir().unwrap();
    let path = folder.path().join("file");
    let path = path.to_str().unwrap();
    let output = with_faults(&["fsync:error=EIO:when=2"], &["write", "new", path, "new"]);
    assert!(text(&output.stderr).starts_with("demo: error[FILE-IO]: "));
    assert_eq!((text(&output.stdout), output.status.code()), ("", Some(3)));
}

#[test]
fn a_folder_that_knows_no_sync_is_synced_with_its_whole_file_system() {
    let folder = tempdir().unwrap();
    let path = folder.path().join("file");
    let path = path.to_str().unwrap();
    let output = with_faults(
        &["fsync:error=EINVAL:when=2"],
        &["write", "new", path, "new"],
    );
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    let faults = ["fsync:error=EINVAL:when=2", "syncfs:error=EIO"];
    let output = with_faults(&faults, &["write", "replace", path, "new"]);
    assert_eq!(output.status.code(), Some(3), "{output:?}");
}

#[test]
fn a_new_file_needs_neither_the_flag_of_rename_nor_links() {
    // The first is an old kernel or file system, the second also one without links, as FAT.
    let old: &[&str] = &["renameat2:error=EINVAL"];
    let fat: &[&str] = &["renameat2:error=EINVAL", "linkat:error=EPERM"];
    for faults in [old, fat] {
        let folder = tempdir().unwrap();
        let path = folder.path().join("file");
        let arguments = ["write", "new", path.to_str().unwrap(), "new"];
        let output = with_faults(faults, &arguments);
        assert_eq!(output.status.code(), Some(0), "{output:?}");
        assert_eq!(fs::read(&path).unwrap(), b"new");
        assert_eq!(listing(folder.path()), ["file"]);
        fs::write(&path, b"old").unwrap();
        let output = with_faults(faults, &arguments);
        assert!(
            text(&output.stderr).starts_with("demo: error[FILE-EXISTS]: "),
            "{output:?}"
        );
        assert_eq!(fs::read(&path).unwrap(), b"old");
        assert_eq!(listing(folder.path()), ["file"]);
    }
}

#[test]
fn a_claimed_name_is_given_back_when_the_rename_fails() {
    let folder = tempdir().unwrap();
    let path = folder.path().join("file");
    let faults = [
        "renameat2:error=EINVAL",
        "linkat:error=EPERM",
        "rename,renameat:error=EIO",
    ];
    let output = with_faults(&faults, &["write", "new", path.to_str().unwrap(), "new"]);
    assert_eq!(output.status.code(), Some(3), "{output:?}");
    assert!(listing(folder.path()).is_empty());
}

#[test]
fn a_medium_without_modes_is_written_all_the_same() {
    let folder = tempdir().unwrap();
    let path = folder.path().join("file");
    let arguments = ["write", "removable", path.to_str().unwrap(), "new"];
    assert_eq!(
        with_faults(&["fchmod:error=EPERM"], &arguments)
            .status
            .code(),
        Some(0)
    );
    let output = with_faults(&["openat:error=EROFS:when=1"], &["fail"]);
    assert_ne!(output.status.code(), Some(0), "faults are really injected");
}

#[test]
fn a_write_protected_medium_and_a_read_only_disk_are_told_apart() {
    for (kind, code) in [("removable", "MEDIA-READ-ONLY"), ("new", "FILE-READ-ONLY")] {
        let folder = tempdir().unwrap();
        let path = folder.path().join("file");
        let arguments = ["write", kind, path.to_str().unwrap(), "new"];
        let output = with_faults(&["rename,renameat,renameat2:error=EROFS"], &arguments);
        let stderr = text(&output.stderr);
        assert!(
            stderr.starts_with(&format!("demo: error[{code}]: ")),
            "{stderr}"
        );
        assert!(listing(folder.path()).is_empty());
    }
}

#[test]
fn the_page_cache_is_dropped_before_a_medium_is_read_back() {
    let folder = tempdir().unwrap();
    let path = folder.path().join("file");
    let trace = folder.path().join("trace");
    let output = Command::new("strace")
        .args(["-f", "-qq", "-o", trace.to_str().unwrap()])
        .args([
            "-e",
            "trace=fsync,fadvise64,pread64,rename,renameat,renameat2",
        ])
        .arg(demo_path())
        .args(["write", "removable", path.to_str().unwrap(), "new"])
        .output()
        .unwrap();
    assert!(output.status.success());
    let trace = fs::read_to_string(trace).unwrap();
    let calls = ["fsync(", "fadvise64(", "\"new\"", "rename", "fsync("];
    let mut rest = trace.as_str();
    for call in calls {
        let at = rest
            .find(call)
            .unwrap_or_else(|| panic!("{call} is missing or early:\n{trace}"));
        rest = &rest[at + call.len()..];
    }
}
