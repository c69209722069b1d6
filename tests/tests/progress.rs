//! Whoever waits at a terminal sees how far a long command is, how fast, and how long it will take; a pipe sees none of it.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use mintmark_tests::clock::DAY;
use mintmark_tests::progress::{Step, at_terminal, in_pipe, until_stopped};
use mintmark_tests::service::let_in;
use mintmark_tests::world::POLICY;
use mintmark_tests::{Run, Service, Stores, Tool, World, files};
use serde_json::Value;

/// So many devices that their log is several times what is done between two looks at it.
const DEVICES: u32 = 1500;

/// What is tried below: each command that shows its progress.
const LOOKS: [&str; 10] = [
    "site audit list",
    "site audit log",
    "site audit show",
    "site audit verify",
    "site device show",
    "site doctor",
    "site entitlement list",
    "site entitlement show",
    "site station list",
    "site status",
];
const WORKS: [&str; 4] = ["site issue", "site recover", "site request", "site serve"];
const STICKS: [&str; 3] = ["site log prune", "site media export", "site media import"];
const LOG_AT_HQ: [&str; 6] = [
    "hq audit verify",
    "hq device dossier",
    "hq device sweep",
    "hq media import",
    "hq policy check",
    "hq status export",
];
const RECORD: [&str; 4] = [
    "hq audit grant",
    "hq audit verify",
    "hq media export",
    "hq recover",
];
const BACKUPS: [&str; 4] = ["backup", "backup inspect", "backup verify", "restore"];

/// A vault with a long log, which may be pruned after a day.
fn busy() -> World {
    World::like(
        "busy",
        Stores::Files,
        || {
            let policy = POLICY.replace("units = 1000", "units = 10000");
            World::with_policy(
                &policy.replace("valid_for_days", "retention_days = 1\nvalid_for_days"),
            )
        },
        |world| {
            world.requests("first", 1..=DEVICES);
            world.issue("first").ok();
        },
    )
}

/// The same, and headquarters has its log, and the vault knows that.
fn reported() -> World {
    World::like("reported", Stores::Files, busy, |world| {
        world.carry_home("berlin").exits_done();
        world.carry_out("berlin").exits_done();
    })
}

/// Which commands were tried.
struct Tried(BTreeSet<String>);

impl Tried {
    fn none() -> Self {
        Self(BTreeSet::new())
    }

    /// `command` shows nothing of its progress in `pipe`, and at `terminal` that it is at something, with the right figures.
    #[track_caller]
    fn counts(&mut self, command: &str, pipe: Tool, terminal: Tool, what: &str) -> Vec<Step> {
        let (run, pace) = in_pipe(&pipe.text());
        silent(&run.exits(0), what);
        let (run, steps) = at_terminal(&terminal.text().pace(pace), what);
        expect_even(&steps, &run.exits(0));
        self.0.insert(command.to_owned());
        steps
    }

    /// As [`Tried::counts`], with rate and time left.
    #[track_caller]
    fn times(&mut self, command: &str, pipe: Tool, terminal: Tool, what: &str) -> Vec<Step> {
        let steps = self.counts(command, pipe, terminal, what);
        expect_full(&steps, command);
        steps
    }

    /// These were tried, and no other.
    #[track_caller]
    fn expect<C: ToString>(&self, commands: &[C]) {
        assert_eq!(self.0, commands.iter().map(C::to_string).collect());
    }
}

/// A pipe sees words and figures that a program can read, and no line that is drawn over.
#[track_caller]
fn silent(run: &Run, what: &str) {
    for text in [&run.stdout, &run.stderr] {
        assert!(!text.contains(&format!("{what}: ")), "{run}");
        assert!(!text.contains(['\r', '\u{1b}']), "{run}");
    }
}

/// Figures that fit one another, and never run back.
#[track_caller]
fn expect_even(steps: &[Step], run: &Run) {
    let first = steps
        .first()
        .unwrap_or_else(|| panic!("nothing is shown\n{run}"));
    for (at, step) in steps.iter().enumerate() {
        assert_eq!(step.of, first.of, "{run}");
        // More may be done by the time that the percentage is written, which is rounded.
        let next = steps.get(at + 1).map_or(step.of, |next| next.done);
        let twice = 2 * step.percent * step.of;
        assert!(twice + step.of >= 200 * step.done, "{step:?}");
        assert!(twice <= 200 * next + step.of, "{step:?} {next}");
    }
    assert!(steps.is_sorted_by_key(|step| step.done), "{steps:?}");
    assert!(steps.iter().all(|step| step.done <= step.of), "{steps:?}");
}

#[track_caller]
fn expect_full(steps: &[Step], command: &str) {
    let full = steps.iter().find(|step| step.is_full());
    let full = full.unwrap_or_else(|| panic!("{command}: no rate, or no time left: {steps:?}"));
    assert!(full.done > 0 && full.done < full.of, "{full:?}");
    assert!(full.per_second.unwrap() > 0, "{full:?}");
    let left = full.left.as_ref().unwrap();
    let (count, unit) = left.split_once(' ').unwrap();
    count.parse::<u64>().unwrap();
    let units = ["second", "minute", "hour"];
    assert!(units.contains(&unit.trim_end_matches('s')), "{left}");
}

/// What follows from the log of a home is gone, so that whoever opens it reads all of it.
fn forget_derived(world: &World, home: &str) {
    let _ = fs::remove_file(world.path(home).join("state.snapshot"));
    let _ = fs::remove_dir_all(world.path(home).join("index"));
}

fn log_size(world: &World) -> u64 {
    world.status("berlin")["log_size"].as_u64().unwrap()
}

/// Backups of the home of a tool, read, compared and put back.
fn backups(tried: &mut Tried, world: &World, name: &str) {
    let tool = |line: &str| match name {
        "hq" => world.hq(line),
        _ => world.site(line),
    };
    let of = |verb: &str| format!("{name} {verb}");
    let make = |file: &str| {
        let line = format!("backup --recovery-key $D/recovery.pub --output $D/backups/{name}");
        tool(&format!("{line}-{file}"))
    };
    let (pipe, terminal) = (make("first"), make("second"));
    tried.counts(&of("backup"), pipe, terminal, "sealing");
    let file = format!("$D/backups/{name}-first");
    let inspect = || tool(&format!("backup inspect {file}"));
    tried.counts(&of("backup inspect"), inspect(), inspect(), "reading");
    let signer = inspect().ok().text("signer");
    let options = format!("--signer {signer} --words $D/words");
    let verify = || tool(&format!("backup verify {file} {options}"));
    tried.counts(&of("backup verify"), verify(), verify(), "comparing");
    let restore = |home: &str| tool(&format!("--home $D/{name}-{home} restore {file} {options}"));
    let (pipe, terminal) = (restore("again"), restore("anew"));
    tried.counts(&of("restore"), pipe, terminal, "restoring");
}

/// Where a bundle of the vault lies on the stick.
fn bundle(world: &World) -> String {
    let files = files::below(&world.on_stick("to-hq"));
    let bundles = files
        .iter()
        .filter(|path| path.extension().is_some_and(|of| of == "cose"));
    bundles.max().unwrap().display().to_string()
}

#[test]
fn whoever_only_looks_sees_how_far_the_log_is_read() {
    let world = busy();
    let mut tried = Tried::none();
    world.site("media export $D/media").ok();
    let size = log_size(&world);
    forget_derived(&world, "berlin");
    let reading = "replaying the log";
    for look in [
        "audit list",
        "audit log",
        "audit show 1",
        "device show TH200-00000001",
        "entitlement list",
        "entitlement show th200",
        "station list",
        "status",
    ] {
        let command: Vec<&str> = look.split(' ').take(2).collect();
        let command = format!("site {}", command.join(" "));
        let look = || world.site(look);
        let steps = tried.times(&command, look(), look(), reading);
        assert_eq!(steps[0].of, size, "{command}");
    }
    let verify = || world.site("audit verify");
    let what = "verifying the log";
    let steps = tried.times("site audit verify", verify(), verify(), what);
    assert_eq!(steps[0].of, size);
    // A program reads what is shown at a terminal, too.
    let (run, steps) = at_terminal(&verify(), what);
    assert_eq!(steps, [], "{run}");
    serde_json::from_str::<Value>(run.stdout.trim()).unwrap();
    // Whatever a doctor thinks of the disk on which tests run.
    let doctor = world.site("doctor").text();
    let (run, pace) = in_pipe(&doctor);
    silent(&run, reading);
    let (run, steps) = at_terminal(&doctor.pace(pace), reading);
    expect_even(&steps, &run);
    tried.0.insert("site doctor".to_owned());
    tried.expect(&LOOKS);
}

#[test]
fn whoever_issues_or_asks_for_certificates_sees_how_far_that_is() {
    let world = busy();
    let mut tried = Tried::none();
    let size = log_size(&world);
    world.clone_vault("twin");
    let recover = |home: &str| {
        forget_derived(&world, home);
        world.site(&format!("--home $D/{home} recover"))
    };
    let (pipe, terminal) = (recover("twin"), recover("berlin"));
    let steps = tried.times("site recover", pipe, terminal, "making the index");
    assert_eq!(steps[0].of, size);

    world.requests("more", DEVICES + 1..=DEVICES + 300);
    let issue = |home: &str| {
        world.site(&format!(
            "--home $D/{home} issue --product TH-200 --csr $D/csr/more --output $D/out-{home}"
        ))
    };
    let steps = tried.times("site issue", issue("twin"), issue("berlin"), "issuing");
    assert_eq!(steps[0].of, 300);

    let_in(&world, "line-1", "");
    let size = log_size(&world);
    forget_derived(&world, "berlin");
    let serve = world.site("serve --listen 127.0.0.1:0").text();
    let reading = "replaying the log";
    let (run, steps) = until_stopped(&serve, reading, "listening");
    let run = run.exits(0);
    // The log is read before anything is touched, and once more then.
    for reading in steps.chunk_by(|before, after| before.done <= after.done) {
        expect_even(reading, &run);
    }
    assert_eq!(steps[0].of, size);
    tried.0.insert("site serve".to_owned());

    let request = "station request --name line-2 --keys @line-2 --output $D/line-2.csr";
    let fingerprint = world.site(request).ok().text("fingerprint");
    world
        .site(&format!(
            "station approve --request $D/line-2.csr --fingerprint {fingerprint} --output $D/line-2.papers"
        ))
        .ok();
    let service = Service::start(&world, "");
    let url = service.url("");
    let ask = |output: &str| {
        world.site(&format!(
            "request --vault {url} --keys @line-2 --station $D/line-2.papers --product TH-200 --csr $D/csr/more --output $D/{output}"
        ))
    };
    let steps = tried.times("site request", ask("one"), ask("other"), "issuing");
    assert_eq!(steps[0].of, 300);
    assert_eq!(service.stop(), 0);
    tried.expect(&WORKS);
}

#[test]
fn whoever_carries_sticks_or_prunes_the_log_sees_how_far_that_is() {
    let world = reported();
    let mut tried = Tried::none();
    world.clone_vault("twin");
    let prune = |home: &str| {
        let line = format!("--home $D/{home} log prune --confirm berlin/v1");
        world.site(&line).clock(2 * DAY)
    };
    let what = "pruning the log";
    tried.times("site log prune", prune("twin"), prune("berlin"), what);

    let world = busy();
    world.clone_vault("twin");
    let export = |home: &str| {
        fs::create_dir_all(world.path(&format!("media-{home}"))).unwrap();
        world.site(&format!("--home $D/{home} media export $D/media-{home}"))
    };
    let (what, size) = ("sealing the log", log_size(&world));
    let steps = tried.times("site media export", export("twin"), export("berlin"), what);
    assert_eq!(steps[0].of, size);
    let again = || world.site("media export $D/media");
    let what = "carrying bundles";
    tried.counts("site media export", again(), again(), what);
    let import = || world.site("media import $D/media");
    tried.counts("site media import", import(), import(), "importing");
    tried.expect(&STICKS);
}

#[test]
fn whoever_reads_a_log_at_headquarters_sees_how_far_that_is() {
    let world = busy();
    let mut tried = Tried::none();
    let size = log_size(&world);
    world.site("media export $D/media").ok();
    files::copy(&world.path("hq"), &world.path("other"));
    let import = |home: &str| world.hq(&format!("--home $D/{home} media import $D/media"));
    let what = "replaying berlin/v1";
    let steps = tried.times("hq media import", import("other"), import("hq"), what);
    assert_eq!(steps[0].of, size);
    let verify = || world.hq(&format!("audit verify {}", bundle(&world)));
    let what = "verifying the bundle";
    let steps = tried.times("hq audit verify", verify(), verify(), what);
    assert_eq!(steps[0].of, size);
    let dossier = |name: &str| {
        let device = "device dossier TH200-00000001";
        world.hq(&format!("{device} --output $D/{name}.dossier"))
    };
    let (pipe, terminal) = (dossier("one"), dossier("two"));
    tried.times("hq device dossier", pipe, terminal, "reading the log");
    let sweep = || world.hq("device sweep $D/out");
    let steps = tried.times("hq device sweep", sweep(), sweep(), "looking at files");
    assert_eq!(steps[0].of, 2 * u64::from(DEVICES));
    let status = |name: &str| world.hq(&format!("status export --output $D/{name}.status"));
    let (pipe, terminal) = (status("one"), status("two"));
    let what = "looking at devices of berlin/v1";
    let steps = tried.times("hq status export", pipe, terminal, what);
    assert_eq!(steps[0].of, u64::from(DEVICES));
    world.write("tried.toml", POLICY);
    for what in [
        "reading the log of berlin/v1",
        "trying the log of berlin/v1",
    ] {
        let check = || world.hq("policy check $D/tried.toml --against berlin");
        tried.times("hq policy check", check(), check(), what);
    }
    tried.expect(&LOG_AT_HQ);
}

#[test]
fn whoever_hands_on_or_makes_again_what_headquarters_has_sees_how_far_that_is() {
    let world = reported();
    let mut tried = Tried::none();
    let export = || world.hq("media export $D/media");
    tried.counts("hq media export", export(), export(), "writing");
    world
        .hq("audit key --keys @auditor --output $D/auditor.pem")
        .without("HQ_HOME")
        .ok();
    let auditor = "--auditor $D/auditor.pem";
    let tried_out = world.hq(&format!("audit grant {auditor} --output $D/x --dry-run"));
    let key = tried_out.ok().text("auditor_key_id");
    for what in ["opening the record", "writing the grant"] {
        let name = what.split(' ').next().unwrap();
        let grant = |way: &str| {
            let line = format!("audit grant {auditor} --confirm {}", &key[..8]);
            world.hq(&format!("{line} --output $D/{name}-{way}.grant"))
        };
        tried.counts("hq audit grant", grant("pipe"), grant("terminal"), what);
    }
    let fingerprint = world.trust_fingerprint();
    let read = |home: &str| {
        let line = "audit verify $D/opening-pipe.grant --keys @auditor";
        let line = format!("--home $D/{home} {line} --fingerprint {fingerprint}");
        world.hq(&line).without("HQ_HOME")
    };
    let (pipe, terminal) = (read("seen"), read("seen-too"));
    tried.counts("hq audit verify", pipe, terminal, "verifying the grant");
    let recover = || world.hq("recover --dry-run");
    let what = "making the registry again";
    tried.counts("hq recover", recover(), recover(), what);
    tried.expect(&RECORD);
}

#[test]
fn whoever_makes_or_reads_a_backup_sees_how_far_that_is() {
    let world = busy();
    world.make_recovery_key();
    for tool in ["hq", "site"] {
        let mut tried = Tried::none();
        backups(&mut tried, &world, tool);
        tried.expect(&BACKUPS.map(|command| format!("{tool} {command}")));
    }
}

#[test]
fn every_command_that_counts_is_tried_here() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    let text = fs::read_to_string(root.join("docs/commands.md")).unwrap();
    let rows = text.lines().filter_map(|line| line.strip_prefix("| `"));
    let counting = rows.filter_map(|row| {
        let (command, cells) = row.split_once("` | ")?;
        cells.ends_with("| yes |").then(|| command.to_owned())
    });
    let backups = ["hq", "site"].map(|tool| BACKUPS.map(|command| format!("{tool} {command}")));
    let others = [&LOOKS[..], &WORKS, &STICKS, &LOG_AT_HQ, &RECORD].concat();
    let here = others.into_iter().map(str::to_owned);
    let here: BTreeSet<String> = here.chain(backups.concat()).collect();
    assert_eq!(here, counting.collect());
}
