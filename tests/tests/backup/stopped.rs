//! A backup or a restore that somebody stops: nothing of it is left, and the same command does it then.

use std::fs;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use mintmark_tests::{Service, Terminal, Tool, World, judge};

use super::{hq_backup, issue, names, options, site_backup};

const PATIENCE: Duration = Duration::from_secs(120);
/// So much is never sealed before somebody stops it; on the disk such a file has not a single octet.
const ENDLESS_BYTES: u64 = 1 << 40;
/// This takes a moment to be put back.
const LARGE_BYTES: u64 = 64 << 20;

/// A large file of a home, until it is dropped.
struct Large(PathBuf);

impl Large {
    fn new(path: PathBuf, bytes: u64) -> Self {
        fs::File::create(&path).unwrap().set_len(bytes).unwrap();
        Self(path)
    }
}

impl Drop for Large {
    fn drop(&mut self) {
        fs::remove_file(&self.0).unwrap();
    }
}

fn until(what: &str, mut is_so: impl FnMut() -> bool) {
    let begun = Instant::now();
    while !is_so() {
        assert!(begun.elapsed() < PATIENCE, "{what}");
        thread::sleep(Duration::from_millis(10));
    }
}

fn start(tool: &Tool) -> Child {
    let mut command = tool.command();
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    command.spawn().unwrap()
}

fn signal(signal: &str, pid: u32) {
    judge::succeed(Command::new("kill").args(["-s", signal, &pid.to_string()]));
}

/// How long a process has worked so far, in hundredths of a second.
fn worked(pid: u32) -> u64 {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    let fields = stat.rsplit_once(") ").unwrap().1.split(' ');
    let of_time = fields.skip(11).take(2);
    of_time.map(|ticks| ticks.parse::<u64>().unwrap()).sum()
}

#[test]
fn a_backup_that_is_stopped_with_ctrl_c_leaves_nothing() {
    let world = World::ready();
    world.make_recovery_key();
    for (tool, large) in [
        (hq_backup(&world, "one"), "hq/record/large"),
        (site_backup(&world, "one"), "berlin/outbox/large"),
    ] {
        let large = Large::new(world.path(large), ENDLESS_BYTES);
        let text = match large.0.starts_with(world.path("hq")) {
            true => hq_backup(&world, "one").text(),
            false => site_backup(&world, "one").text(),
        };
        let mut terminal = Terminal::start(&text);
        terminal.until("sealing: ");
        // How far it is, how fast, and how long it will take.
        terminal.until("/s, ");
        terminal.until(" left");
        terminal.type_keys("\u{3}");
        let run = terminal.end(&text);
        assert_eq!(run.exit, 3, "{run}");
        assert!(run.stdout.contains("error[INTERRUPTED]"), "{run}");
        assert!(names(&world.path("backups")).is_empty());
        drop(large);
        tool.ok();
        fs::remove_file(world.path("backups/one")).unwrap();
    }
}

#[test]
fn the_service_stops_sealing_once_whoever_asked_for_a_backup_has_gone() {
    let world = World::ready();
    world.make_recovery_key();
    let service = Service::start(&world, "");
    let large = Large::new(world.path("berlin/outbox/large"), ENDLESS_BYTES);
    let child = start(&site_backup(&world, "one"));
    let before = worked(service.pid());
    until("nothing is sealed", || worked(service.pid()) > before + 50);
    signal("INT", child.id());
    child.wait_with_output().unwrap();
    // It says when a command is over.
    until("the service seals on", || {
        service.log().contains("\"exit\":3")
    });
    assert!(names(&world.path("backups")).is_empty());
    drop(large);
    // And goes on as before.
    site_backup(&world, "one").ok();
    assert_eq!(names(&world.path("backups")), ["one"]);
    assert_eq!(service.stop(), 0);
}

#[test]
fn a_restore_that_is_stopped_leaves_nothing_and_what_a_kill_leaves_is_cleared() {
    let world = World::ready();
    world.make_recovery_key();
    issue(&world, "two", 1..=2);
    fs::create_dir(world.path("fresh")).unwrap();
    let parts =
        ["record/large", "outbox/large"].map(|large| world.path("fresh/home.part").join(large));
    for of in ["hq", "site"] {
        let (said, line);
        match of {
            "hq" => {
                let _large = Large::new(world.path("hq/record/large"), LARGE_BYTES);
                said = hq_backup(&world, of).ok();
            }
            _ => {
                let _large = Large::new(world.path("berlin/outbox/large"), LARGE_BYTES);
                said = site_backup(&world, of).ok();
            }
        }
        line = format!("--home $D/fresh/home {}", options(&said, of));
        let tool = match of {
            "hq" => world.hq(&line),
            _ => world.site(&line),
        };
        for how in ["KILL", "INT"] {
            let left = world.path("fresh/home.part/left");
            if how == "INT" {
                fs::write(&left, b"of the one before").unwrap();
            }
            let child = start(&tool);
            until("what was left is not cleared", || !left.exists());
            let filled = || {
                parts
                    .iter()
                    .any(|part| fs::metadata(part).is_ok_and(|part| part.len() > 0))
            };
            until("nothing is put back", filled);
            signal(how, child.id());
            let run = tool.ended(&child.wait_with_output().unwrap());
            match how {
                "KILL" => {
                    assert_eq!(run.exit, -1, "{run}");
                    assert_eq!(names(&world.path("fresh")), ["home.part"]);
                }
                // It cleared what the one before had left, and then what it made itself.
                _ => {
                    let codes = run.codes();
                    assert_eq!(
                        (run.exit, codes.as_slice()),
                        (3, &["INTERRUPTED".to_owned()][..]),
                        "{run}"
                    );
                    assert!(names(&world.path("fresh")).is_empty(), "{run}");
                }
            }
        }
        tool.ok();
        assert_eq!(names(&world.path("fresh")), ["home"]);
        fs::remove_dir_all(world.path("fresh/home")).unwrap();
    }
}
