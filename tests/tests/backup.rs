//! Backups of homes: sealed to a recovery key on paper, put back where no home is, with the rules of a restore still holding. Drills of
//! headquarters and of a vault, to the end: the vault issues again, and headquarters imports again.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

#[path = "backup/faults.rs"]
mod faults;
#[path = "backup/refusals.rs"]
mod refusals;
#[path = "backup/revocations.rs"]
mod revocations;
#[path = "backup/stopped.rs"]
mod stopped;

use std::fs;
use std::path::Path;

use mintmark_tests::service::let_in;
use mintmark_tests::world::POLICY;
use mintmark_tests::{Run, Service, Terminal, Tool, World, files};
use serde_json::Value;

fn hq_backup(world: &World, name: &str) -> Tool {
    world.hq(&format!(
        "backup --recovery-key $D/recovery.pub --output $D/backups/{name}"
    ))
}

fn site_backup(world: &World, name: &str) -> Tool {
    world.site(&format!(
        "backup --recovery-key $D/recovery.pub --output $D/backups/{name}"
    ))
}

/// What `restore` is told of a backup that said this.
fn options(said: &Run, name: &str) -> String {
    let signer = said.text("signer");
    format!("restore $D/backups/{name} --signer {signer} --words $D/words")
}

/// A fire.
fn lose(world: &World, home: &str) {
    fs::remove_dir_all(world.path(home)).unwrap();
}

/// What is in a folder, sorted.
fn names(folder: &Path) -> Vec<String> {
    let entries = fs::read_dir(folder).unwrap();
    let names = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let mut names: Vec<_> = names.collect();
    names.sort();
    names
}

fn wipe_stick(world: &World) {
    fs::remove_dir_all(world.path("media")).unwrap();
    fs::create_dir(world.path("media")).unwrap();
}

#[track_caller]
fn issue(world: &World, name: &str, numbers: std::ops::RangeInclusive<u32>) {
    world.requests(name, numbers);
    world.issue(name).ok();
}

fn codes(report: &Value) -> Vec<&str> {
    let findings = report["findings"].as_array().unwrap().iter();
    let mut codes: Vec<_> = findings.map(|of| of["code"].as_str().unwrap()).collect();
    codes.sort_unstable();
    codes.dedup();
    codes
}

#[test]
fn headquarters_is_put_back_and_nothing_goes_out_before_officers_have_declared_it() {
    let world = World::ready();
    world.make_recovery_key();
    issue(&world, "two", 1..=2);
    world.carry_home("berlin").exits_done();
    world.carry_out("berlin").exits_done();
    let before = files::contents(&world.path("hq/record"));
    let said = hq_backup(&world, "hq").ok();
    assert_eq!(said.text("of"), "hq");
    // What is forgotten: a report of three units, its receipt, and an amendment.
    issue(&world, "three", 3..=5);
    world.carry_home("berlin").exits_done();
    world.grant(
        "berlin",
        &POLICY
            .replace("id = \"th200\"", "id = \"later\"")
            .replace("TH-200", "GW-1"),
    );
    lose(&world, "hq");
    wipe_stick(&world);

    let restored = world.hq(&options(&said, "hq")).ok();
    assert_eq!(restored.text("fingerprint"), said.text("fingerprint"));
    assert_eq!(files::contents(&world.path("hq/record")), before);
    world
        .hq("media export $D/media")
        .fails(2, "RESTORE-UNDECLARED");
    // A vault's report shows what was forgotten.
    issue(&world, "one", 6..=6);
    let run = world.carry_home("berlin").exits(4);
    assert_eq!(run.json()["items"][0]["code"], "DISPATCH-UNKNOWN", "{run}");

    let draft = "$D/officers/epoch.draft";
    world.hq(&format!("trust epoch --output {draft}")).ok();
    world.approve(draft);
    world.hq("trust publish --media $D/media").ok();
    world.carry_out("berlin").exits_done();
    world.carry_home("berlin");
    let report = world.reconcile();
    assert_eq!(report["balanced"], true, "{report:#}");
    let good = |report: &Value| report["accounts"][0]["good"].as_u64().unwrap();
    assert_eq!(good(&report), 6, "{report:#}");
    assert_eq!(
        codes(&report),
        ["DISPATCH-FORGOTTEN", "ENTITLEMENT-FORGOTTEN"],
        "{report:#}"
    );
    // Everything goes on: units, reports, receipts, and the next backup.
    world.carry_out("berlin").exits_done();
    issue(&world, "after", 7..=9);
    world.carry_home("berlin").exits_done();
    assert_eq!(good(&world.reconcile()), 9);
    let next = hq_backup(&world, "hq-2").ok();
    assert_eq!(next.text("signer"), said.text("signer"));
}

#[test]
fn a_manifest_that_was_forgotten_is_taken_back_and_declares_no_restore() {
    let world = World::ready();
    world.make_recovery_key();
    let said = hq_backup(&world, "hq").ok();
    // An epoch that officers opened for another reason, or for a restore before this one.
    let draft = "$D/officers/epoch.draft";
    world.hq(&format!("trust epoch --output {draft}")).ok();
    world.approve(draft);
    world.hq("trust publish --media $D/media").ok();
    for officer in mintmark_tests::world::OFFICERS {
        let home = format!("--home $D/officers/{officer}");
        world.hq(&format!("{home} media import $D/media")).ok();
    }
    world.carry_out("berlin").exits_done();
    lose(&world, "hq");
    world.hq(&options(&said, "hq")).ok();
    world.hq("media import $D/media").run();
    assert_eq!(world.hq("trust show").ok().json()["version"], 2);
    world
        .hq("media export $D/media")
        .fails(2, "RESTORE-UNDECLARED");
    let draft = "$D/officers/epoch-2.draft";
    world.hq(&format!("trust epoch --output {draft}")).ok();
    world.approve(draft);
    world.hq("trust publish --media $D/media").ok();
    world.carry_out("berlin").exits_done();
    issue(&world, "one", 1..=1);
    world.carry_home("berlin");
    let report = world.reconcile();
    assert_eq!(report["balanced"], true, "{report:#}");
    assert_eq!(report["accounts"][0]["good"], 1, "{report:#}");
    world.carry_out("berlin").exits_done();
    issue(&world, "two", 2..=2);
    world.carry_home("berlin").exits_done();
}

#[test]
fn a_vault_that_is_put_back_from_its_newest_backup_goes_on_at_once() {
    let world = World::ready();
    world.make_recovery_key();
    issue(&world, "two", 1..=2);
    let status = world.status("berlin");
    let said = site_backup(&world, "berlin").ok();
    assert_eq!(said.text("of"), "vault:berlin/v1");
    assert_eq!(said.json()["log_root"], status["log_root"]);
    assert_eq!(said.json()["log_size"], status["log_size"]);
    // A backup is no event in the vault's life.
    assert_eq!(world.status("berlin")["log_root"], status["log_root"]);
    lose(&world, "berlin");
    world.site(&options(&said, "berlin")).ok();
    assert_eq!(world.status("berlin")["log_root"], status["log_root"]);
    world.site("audit verify").ok();
    issue(&world, "more", 3..=4);
    world.carry_home("berlin").exits_done();
    let report = world.reconcile();
    assert_eq!(report["balanced"], true, "{report:#}");
    assert_eq!(report["accounts"][0]["good"], 4);
    assert!(codes(&report).is_empty(), "{report:#}");
}

#[test]
fn a_vault_that_is_put_back_from_an_older_backup_is_stopped_by_its_anchor_and_declares_it() {
    let world = World::ready();
    world.make_recovery_key();
    issue(&world, "two", 1..=2);
    world.carry_home("berlin").exits_done();
    world.carry_out("berlin").exits_done();
    let said = site_backup(&world, "berlin").ok();
    issue(&world, "reported", 3..=5);
    world.carry_home("berlin").exits_done();
    issue(&world, "lost", 6..=7);
    lose(&world, "berlin");
    wipe_stick(&world);

    world.site(&options(&said, "berlin")).ok();
    world.requests("refused", 900..=900);
    world.issue("refused").fails(4, "HOME-OLDER-THAN-ANCHOR");
    world
        .site("recover --declare-restore --confirm berlin/v1")
        .ok();
    world.issue("refused").fails(4, "RESTORE-PENDING");
    world.carry_home("berlin");
    world.carry_out("berlin").exits_done();
    issue(&world, "after", 8..=9);
    world.carry_home("berlin").exits_done();
    let report = world.reconcile();
    assert_eq!(report["balanced"], true, "{report:#}");
    let account = &report["accounts"][0];
    assert_eq!(account["good"], 7, "{report:#}");
    assert_eq!(account["unresolved"], 2, "{report:#}");
    assert_eq!(codes(&report), ["RESTORE-DECLARED", "UNRESOLVED"]);
    // In another lineage, another backup.
    let next = site_backup(&world, "berlin-2").ok().json();
    assert_ne!(next["lineage"], said.json()["lineage"]);
}

#[test]
fn a_backup_beside_the_service_is_the_home_of_one_moment_and_nobody_waits_for_it() {
    let world = World::ready();
    world.make_recovery_key();
    let_in(&world, "line-1", "");
    let service = Service::start(&world, "");
    for number in 1..=3 {
        assert_eq!(service.enrol(&format!("TH200-{number:08}")), 200);
    }
    // Stations go on while it is sealed.
    let said = std::thread::scope(|scope| {
        let line = scope.spawn(|| {
            (10..30)
                .map(|number| service.enrol(&format!("TH200-{number:08}")))
                .collect::<Vec<_>>()
        });
        let said = site_backup(&world, "berlin").ok();
        assert_eq!(line.join().unwrap(), vec![200; 20]);
        said
    });
    let held = said.json();
    assert_eq!(service.enrol("TH200-00000050"), 200);
    assert_eq!(service.stop(), 0);
    let options = options(&said, "berlin");
    world.site(&format!("--home $D/again {options}")).ok();
    // What is there is a log that was, to the record, and the one that went on from it begins with it.
    let verified = world.site("--home $D/again audit verify").ok().json();
    assert_eq!(verified["log_root"], held["log_root"]);
    let rows = |home: &str| {
        world
            .site(&format!("--home $D/{home} audit log"))
            .ok()
            .lines()
    };
    let (then, now) = (rows("again"), rows("berlin"));
    assert!(then.len() < now.len());
    assert_eq!(then, now[..then.len()]);
    // Its token knows better.
    world
        .site("--home $D/again recover")
        .fails(4, "HOME-OLDER-THAN-ANCHOR");
}

#[test]
fn a_home_is_held_no_longer_than_until_its_moment_is_taken() {
    let world = World::ready();
    world.make_recovery_key();
    issue(&world, "before", 1..=2);
    let then = world.status("berlin")["log_root"].clone();
    // A backup that asks for the PIN with which it signs: its moment is over, and nothing is sealed yet.
    let config = world.path("berlin/config.toml");
    let told = fs::read_to_string(&config).unwrap();
    let from = told.find("pin-source=file:").unwrap();
    let to = from + told[from..].find('"').unwrap();
    let pin = told[from..to].strip_prefix("pin-source=file:").unwrap();
    let asking = [&told[..from - 1], &told[to..]].concat();
    fs::write(&config, asking).unwrap();
    let tool = site_backup(&world, "berlin").text();
    let mut terminal = Terminal::start(&tool);
    terminal.until("PIN");
    terminal.until(": ");
    // In its place, as files of a home are replaced.
    fs::write(world.path("config"), &told).unwrap();
    fs::rename(world.path("config"), &config).unwrap();
    issue(&world, "meanwhile", 3..=4);
    terminal.type_line(fs::read_to_string(pin).unwrap().trim());
    let said = terminal.end(&tool);
    assert_eq!(said.exit, 0, "{said}");
    let looked = world.hq("backup inspect $D/backups/berlin").ok().json();
    assert_eq!(looked["log_root"], then);
    assert_ne!(world.status("berlin")["log_root"], looked["log_root"]);
    // Nothing of what came meanwhile is in it, not even how long the log is known to have been.
    let signer = looked["signer"].as_str().unwrap();
    world
        .site(&format!(
            "--home $D/again restore $D/backups/berlin --signer {signer} --words $D/words"
        ))
        .ok();
    let verified = world.site("--home $D/again audit verify").ok().json();
    assert_eq!(verified["log_root"], then);
}

#[test]
fn everything_that_a_home_has_is_in_its_backup_but_what_is_made_again_and_no_key() {
    let world = World::ready();
    world.make_recovery_key();
    issue(&world, "two", 1..=2);
    world.site("crl issue --output $D/crl.pem").ok();
    world.carry_home("berlin").exits_done();
    world.carry_out("berlin").exits_done();
    // Keys and PINs that somebody keeps in the home.
    for home in ["hq", "berlin"] {
        files::copy(&world.path("keys/berlin"), &world.path(home).join("keys"));
        fs::write(world.path(home).join("pin"), "123456").unwrap();
    }
    let compared = |home: &str, said: &Run, derived: &[&str]| {
        let codes = said.warning_codes();
        assert_eq!(codes, ["BACKUP-SKIPPED"; 2], "{said}");
        let mut whole = files::contents(&world.path(home));
        whole.retain(|name, _| {
            let top = name.split('/').next().unwrap();
            !derived.contains(&top) && top != "keys" && top != "pin"
        });
        let mut again = files::contents(&world.path("again"));
        again.retain(|name, _| !derived.contains(&name.split('/').next().unwrap()));
        let names: Vec<_> = whole.keys().collect();
        assert_eq!(names, again.keys().collect::<Vec<_>>());
        for (name, bytes) in &whole {
            assert!(*bytes == again[name], "{name}");
        }
        fs::remove_dir_all(world.path("again")).unwrap();
    };
    let said = site_backup(&world, "berlin").ok();
    let put_back = options(&said, "berlin");
    world.site(&format!("--home $D/again {put_back}")).ok();
    compared("berlin", &said, &["index", "state.snapshot", "lock"]);
    let said = hq_backup(&world, "hq").ok();
    let put_back = options(&said, "hq");
    world.hq(&format!("--home $D/again {put_back}")).ok();
    let beside = [
        "lock",
        "registry.sqlite-wal",
        "registry.sqlite-shm",
        "restored.toml",
    ];
    compared("hq", &said, &beside);
}

fn type_words(terminal: &mut Terminal, lines: &[String]) {
    for (number, line) in (1..).zip(lines) {
        terminal.until(&format!("line {number} of 6: "));
        terminal.type_line(line);
    }
}

/// Makes a recovery key at a terminal, and types back what `type_back` makes of the lines on the screen.
fn make_key_at_terminal(
    world: &World,
    type_back: impl Fn(&[String]) -> Vec<String>,
) -> (Run, Vec<String>) {
    let tool = world
        .hq("backup key --output $D/terminal.pub")
        .without("HQ_HOME")
        .text();
    let mut terminal = Terminal::start(&tool);
    let text = terminal.until("on the paper: ");
    let lines: Vec<String> = text
        .lines()
        .filter(|line| line.trim_start().starts_with(|c: char| c.is_ascii_digit()))
        .map(|line| line.trim().to_owned())
        .collect();
    assert_eq!(lines.len(), 6, "{text}");
    terminal.type_line("");
    type_words(&mut terminal, &type_back(&lines));
    (terminal.end(&tool), lines)
}

#[test]
fn at_a_terminal_the_words_are_shown_once_typed_back_and_stand_in_no_file() {
    let world = World::ready();
    let (run, lines) = make_key_at_terminal(&world, |lines| lines.to_vec());
    assert_eq!(run.exit, 0, "{run}");
    let words: Vec<&str> = lines
        .iter()
        .flat_map(|line| line.split_whitespace().skip(1))
        .collect();
    for line in &lines {
        assert!(!run.stdout.contains(line.as_str()), "{run}");
    }
    for (name, bytes) in files::contents(world.folder()) {
        let text = String::from_utf8_lossy(&bytes);
        let four = words[..4].join(" ");
        assert!(!text.contains(&four), "the words are in {name}");
    }
    // They open what is sealed to the public half, typed at a terminal again.
    fs::create_dir_all(world.path("backups")).unwrap();
    let said = world
        .hq("backup --recovery-key $D/terminal.pub --output $D/backups/hq")
        .ok();
    let signer = said.text("signer");
    let tool = world
        .hq(&format!("backup verify $D/backups/hq --signer {signer}"))
        .text();
    let mut terminal = Terminal::start(&tool);
    type_words(&mut terminal, &lines);
    let verified = terminal.end(&tool);
    assert_eq!(verified.exit, 0, "{verified}");
    assert!(
        verified.stdout.contains("every file in it is whole"),
        "{verified}"
    );
    // Without a terminal there is nobody to ask.
    world
        .hq(&format!("backup verify $D/backups/hq --signer {signer}"))
        .fails(2, "RECOVERY-WORDS-MISSING");
}

#[test]
fn words_that_were_copied_wrong_are_noticed_before_there_is_a_key() {
    let world = World::ready();
    let (run, _) = make_key_at_terminal(&world, |lines| {
        let mut lines = lines.to_vec();
        lines.swap(1, 2);
        lines
    });
    assert_eq!(run.exit, 2, "{run}");
    assert!(run.stdout.contains("RECOVERY-WORDS-INVALID"), "{run}");
    assert!(!world.path("terminal.pub").exists());
}

#[test]
fn ctrl_c_takes_the_words_from_the_screen_and_leaves_no_key() {
    let world = World::with_headquarters();
    let tool = world
        .hq("backup key --output $D/terminal.pub")
        .without("HQ_HOME")
        .text();
    let mut terminal = Terminal::start(&tool);
    terminal.until("on the paper: ");
    terminal.type_line("\u{3}");
    let run = terminal.end(&tool);
    assert_eq!(run.exit, 2, "{run}");
    assert!(run.stdout.contains("RECOVERY-WORDS-MISSING"), "{run}");
    assert!(
        run.stdout.starts_with("\u{1b}[2J\u{1b}[3J\u{1b}[H"),
        "{run}"
    );
    assert!(!world.path("terminal.pub").exists());
}
