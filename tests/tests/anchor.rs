//! A home that was put back, copied, or parted from its token: the token knows, nothing is released twice, and officers can
//! always make the vault issue again.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;
use std::process::Stdio;
use std::thread;

use mintmark_pki::Certificate;
use mintmark_tests::strike::{Changes, Fate};
use mintmark_tests::world::POLICY;
use mintmark_tests::{Run, Stores, World, files, judge, stores, strace};
use serde_json::Value;

/// More than one group of requests at once: with the second, slots are leased beyond those that are spent.
const TWO_GROUPS: u32 = 600;
/// What a lease may be in these tests.
const LEASE_MAX: u64 = 256;

/// A vault that may issue, with key files or a token.
fn vault(kind: Stores, policy: &str) -> World {
    World::with_policy_in(kind, policy)
}

/// Puts the home back as it was copied to `$D/NAME`, and the home that was there aside.
fn put_back(world: &World, name: &str, aside: &str) {
    fs::rename(world.path("berlin"), world.path(aside)).unwrap();
    files::copy(&world.path(name), &world.path("berlin"));
}

/// Where the anchor is: the folder of key files, or the one of the tokens.
fn token(world: &World, kind: Stores) -> std::path::PathBuf {
    match kind {
        Stores::Files => world.path("keys/berlin"),
        Stores::Tokens | Stores::Kryoptic => world.path("tokens"),
    }
}

fn number(value: &Value, field: &str) -> u64 {
    let number = value[field].as_u64();
    number.unwrap_or_else(|| panic!("{field} in {value}"))
}

/// The vault's account, with what the outlook says of it.
fn account(world: &World) -> Value {
    let status = world.status("berlin");
    let mut account = status["accounts"][0].clone();
    for field in ["burned", "burned_because"] {
        account[field] = status["outlook"][0][field].clone();
    }
    account
}

/// The log says it all, and HQ finds nothing wrong with it.
fn expect_balanced(world: &World) -> Value {
    world.site("audit verify").ok();
    world.carry_home("berlin").exits_done();
    let report = world.reconcile();
    assert_eq!(report["balanced"], true, "{report}");
    let findings = report["findings"].as_array().unwrap();
    let burned = number(&account(world), "burned");
    // Burned units are spent and have no certificate: somebody has to grant them again.
    if burned == 0 {
        assert_eq!(findings.len(), 0, "{report}");
    } else {
        assert_eq!(findings.len(), 1, "{report}");
        assert_eq!(findings[0]["code"], "UNRESOLVED", "{report}");
        assert_eq!(findings[0]["evidence"]["unresolved"], burned, "{report}");
    }
    let row = &report["accounts"][0];
    let spent = ["good", "scrapped", "voided", "unresolved", "unspent"];
    let sum: u64 = spent.iter().map(|field| number(row, field)).sum();
    assert_eq!(sum, number(row, "authorised"), "{report}");
    report
}

/// The serial numbers of every certificate in these folders, each of which may be there once.
fn serials(world: &World, folders: &[&str]) -> BTreeSet<String> {
    let mut found: BTreeMap<String, String> = BTreeMap::new();
    for folder in folders {
        for path in files::below(&world.path(folder)) {
            let name = path.file_name().unwrap().to_str().unwrap().to_owned();
            if !name.ends_with(".pem") || name.ends_with(".chain.pem") {
                continue;
            }
            let certificate = Certificate::from_pem_or_der(&fs::read(&path).unwrap()).unwrap();
            let serial: String = certificate
                .serial()
                .iter()
                .map(|byte| format!("{byte:02x}"))
                .collect();
            if let Some(other) = found.insert(serial.clone(), name.clone()) {
                assert_eq!(other, name, "{serial} is on two devices");
            }
        }
    }
    found.into_keys().collect()
}

/// Officers vouch for the log that HQ holds, and the vault gets their word.
#[track_caller]
fn reanchor(world: &World) -> Run {
    world.carry_home("berlin").exits_done();
    let draft = "$D/officers/reanchor.draft";
    let _ = fs::remove_file(world.path("officers/reanchor.draft"));
    let drafted = world
        .hq(&format!(
            "site reanchor berlin/v1 --reason token --output {draft}"
        ))
        .ok();
    world.approve(draft);
    world.hq(&format!("site grant {}", drafted.text("id"))).ok();
    world.carry_out("berlin").exits_done()
}

/// Every command that writes the log.
const WRITING: [&str; 7] = [
    "issue --product TH-200 --csr $D/csr/more --output $D/out",
    "issue --product TH-200 --csr $D/csr/more --output $D/out --dry-run",
    "media import $D/media",
    "media export $D/media",
    "rotate",
    "recover",
    "recover --rebuild",
];

/// Each of these commands ends so, and nothing in the home, on the stick or among the certificates is another.
fn expect_stopped(world: &World, lines: &[&str], code: &str) {
    let places = ["berlin", "media", "out"];
    let state = || places.map(|place| files::contents(&world.path(place)));
    let before = state();
    for line in lines {
        world.site(line).fails(4, code);
        for (place, (now, before)) in places.iter().zip(state().iter().zip(&before)) {
            let names: BTreeSet<_> = now.keys().chain(before.keys()).collect();
            let changed: Vec<_> = names
                .into_iter()
                // Who holds the lock writes the number of its process there.
                .filter(|name| *name != "lock" && now.get(*name) != before.get(*name))
                .collect();
            assert!(changed.is_empty(), "{line} changed {changed:?} in {place}");
        }
    }
    for line in ["status", "audit verify", "audit log", "recover --dry-run"] {
        world.site(line).ok();
    }
}

fn a_home_that_was_put_back(kind: Stores) {
    let world = vault(kind, POLICY);
    world.requests("first", 1..=2);
    world.issue("first").ok();
    files::copy(&world.path("berlin"), &world.path("older"));
    world.requests("second", 3..=4);
    world.issue("second").ok();
    world.requests("more", 5..=6);
    put_back(&world, "older", "newest");
    expect_stopped(&world, &WRITING, "HOME-OLDER-THAN-ANCHOR");
    // The newest copy goes on as if nothing had been.
    fs::remove_dir_all(world.path("berlin")).unwrap();
    fs::rename(world.path("newest"), world.path("berlin")).unwrap();
    world.issue("more").ok();
    let report = expect_balanced(&world);
    assert_eq!(number(&report["accounts"][0], "good"), 6);
    assert_eq!(serials(&world, &["out"]).len(), 6);
}

#[test]
fn a_home_that_was_put_back_is_older_than_its_key_files_and_stops() {
    a_home_that_was_put_back(Stores::Files);
}

#[test]
fn a_home_that_was_put_back_is_older_than_its_token_and_stops() {
    a_home_that_was_put_back(Stores::Tokens);
}

fn a_copy_of_a_home(kind: Stores) {
    let world = vault(kind, POLICY);
    world.requests("first", 1..=2);
    world.issue("first").ok();
    files::copy(&world.path("berlin"), &world.path("clone"));
    for (name, number) in [("a", 3), ("b", 4), ("c", 5), ("d", 6)] {
        world.requests(name, [number]);
    }
    let clone = |line: &str| world.site(&format!("--home $D/clone {line}"));
    let issue = |name: &str| format!("issue --product TH-200 --csr $D/csr/{name} --output $D/out");
    // Whoever goes on first is the vault.
    clone(&issue("a")).ok();
    world.issue("b").fails(4, "HOME-OLDER-THAN-ANCHOR");
    clone(&issue("c")).ok();
    world.site("recover").fails(4, "HOME-OLDER-THAN-ANCHOR");
    clone("media export $D/media").ok();
    world.hq("media import $D/media").ok();
    world.issue("d").fails(4, "HOME-OLDER-THAN-ANCHOR");
    assert_eq!(serials(&world, &["out"]).len(), 4);
    fs::rename(world.path("berlin"), world.path("older")).unwrap();
    fs::rename(world.path("clone"), world.path("berlin")).unwrap();
    let report = expect_balanced(&world);
    assert_eq!(number(&report["accounts"][0], "good"), 4);
}

#[test]
fn of_two_copies_of_a_home_with_key_files_one_goes_on_and_the_other_stops() {
    a_copy_of_a_home(Stores::Files);
}

#[test]
fn of_two_copies_of_a_home_with_a_token_one_goes_on_and_the_other_stops() {
    a_copy_of_a_home(Stores::Tokens);
}

fn copies_at_the_same_time(kind: Stores, rounds: u32) {
    let world = vault(kind, &POLICY.replace("units = 1000", "units = 20000"));
    let mut device = 0;
    let mut both = 0;
    for round in 0..rounds {
        files::copy(&world.path("berlin"), &world.path("clone"));
        for name in ["here", "there"] {
            let name = format!("{name}-{round}");
            world.requests(&name, device..device + TWO_GROUPS);
            device += TWO_GROUPS;
            fs::create_dir_all(world.path(&format!("out-{name}"))).unwrap();
        }
        let runs = [("berlin", "here"), ("clone", "there")].map(|(home, name)| {
            let line = format!(
                "--home $D/{home} issue --product TH-200 --csr $D/csr/{name}-{round} --output $D/out-{name}-{round}"
            );
            let tool = world.site(&line);
            let mut command = tool.command();
            command.stdout(Stdio::piped()).stderr(Stdio::piped());
            (tool, command.spawn().unwrap())
        });
        let runs = runs.map(|(tool, child)| tool.ended(&child.wait_with_output().unwrap()));
        for run in &runs {
            // SoftHSM does not always find a token while another process writes to it.
            let busy =
                kind == Stores::Tokens && run.codes().iter().any(|code| code.starts_with("TOKEN-"));
            assert!(busy || [0, 4].contains(&run.exit), "{run}");
            if run.exit == 4 {
                let code = run.codes().pop().unwrap();
                assert!(
                    ["ANCHOR-MOVED", "HOME-OLDER-THAN-ANCHOR"].contains(&&*code),
                    "{run}"
                );
            }
        }
        both += u32::from(runs.iter().all(|run| run.exit == 0));
        let all: Vec<String> = fs::read_dir(world.folder())
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .filter(|name| name.starts_with("out"))
            .collect();
        let folders: Vec<&str> = all.iter().map(String::as_str).collect();
        serials(&world, &folders);
        // One of the two is the vault from here on, or officers have to say which.
        let retry = |home: &str| world.site(&format!("--home $D/{home} recover")).run();
        let (here, there) = (retry("berlin"), retry("clone"));
        // Where one did not get at its token, nobody went on without the other.
        let wrote = runs.iter().filter(|run| run.exit != 3).count();
        assert!(
            wrote < 2 || here.exit == 4 || there.exit == 4,
            "{here}\n{there}"
        );
        if here.exit == 4 && there.exit == 0 {
            fs::remove_dir_all(world.path("berlin")).unwrap();
            fs::rename(world.path("clone"), world.path("berlin")).unwrap();
        } else {
            fs::remove_dir_all(world.path("clone")).unwrap();
        }
        if here.exit == 4 && there.exit == 4 {
            break;
        }
        expect_balanced(&world);
    }
    assert_eq!(both, 0, "two copies issued, and neither was told");
}

#[test]
fn two_copies_that_issue_at_the_same_time_with_key_files_give_no_slot_away_twice() {
    copies_at_the_same_time(Stores::Files, 2);
}

#[test]
fn two_copies_that_issue_at_the_same_time_with_a_token_give_no_slot_away_twice() {
    copies_at_the_same_time(Stores::Tokens, 2);
}

/// What the two do is the same to the bit, mostly: before they have signatures, so are their logs.
#[test]
fn two_copies_that_do_the_same_at_the_same_time_make_nothing_twice() {
    let world = vault(Stores::Tokens, POLICY);
    let places = ["berlin", "tokens"];
    for place in places {
        files::copy(&world.path(place), &world.path(&format!("{place}-before")));
    }
    world.requests("both", 0..15);
    for round in 0..12 {
        for (place, before) in [
            ("berlin", "berlin"),
            ("clone", "berlin"),
            ("tokens", "tokens"),
        ] {
            let _ = fs::remove_dir_all(world.path(place));
            files::copy(&world.path(&format!("{before}-before")), &world.path(place));
        }
        let runs = ["berlin", "clone"].map(|home| {
            let tool = world.site(&format!(
                "--home $D/{home} issue --product TH-200 --csr $D/csr/both --output $D/out-{home}-{round}"
            ));
            let mut command = tool.command();
            command.stdout(Stdio::piped()).stderr(Stdio::piped());
            (tool, command.spawn().unwrap())
        });
        let runs = runs.map(|(tool, child)| tool.ended(&child.wait_with_output().unwrap()));
        let made = ["berlin", "clone"].map(|home| {
            let folder = world.path(&format!("out-{home}-{round}"));
            folder.exists() && !files::contents(&folder).is_empty()
        });
        assert_ne!(made, [true, true], "{}\n{}", runs[0], runs[1]);
    }
}

/// SoftHSM does not show a program what another made while it made something itself, and here it has the time to.
#[test]
fn of_two_copies_that_issue_at_the_same_time_with_a_slow_token_one_goes_on_and_the_other_gives_nothing_away()
 {
    let world = vault(Stores::Tokens, POLICY);
    files::copy(&world.path("berlin"), &world.path("clone"));
    world.requests("here", 0..20);
    world.requests("there", 20..40);
    let issue = |home: &str, name: &str| {
        world.site(&format!(
            "--home $D/{home} issue --product TH-200 --csr $D/csr/{name} --output $D/out-{name}"
        ))
    };
    let (here, there) = (issue("berlin", "here"), issue("clone", "there"));
    let (here, there) = thread::scope(|scope| {
        let there = scope.spawn(|| strace::dawdling(&there));
        (strace::dawdling(&here), there.join().unwrap())
    });
    // SoftHSM does not always find a token while another process writes to it.
    let busy = |run: &Run| run.codes().iter().any(|code| code.starts_with("TOKEN-"));
    let went_on = [&here, &there].map(|run| run.exit == 0);
    assert!(
        went_on[0] != went_on[1] || busy(&here) || busy(&there),
        "{here}\n{there}"
    );
    for (run, name) in [(&here, "out-here"), (&there, "out-there")] {
        let made = serials(&world, &[name]).len();
        assert_eq!(made, if run.exit == 0 { 20 } else { 0 }, "{run}");
    }
}

#[test]
fn another_vaults_token_is_noticed() {
    let world = vault(Stores::Files, POLICY);
    world.site_init("paris");
    world.requests("more", 1..=2);
    let keys = world.path("keys/berlin");
    fs::rename(&keys, world.path("keys/away")).unwrap();
    files::copy(&world.path("keys/paris"), &keys);
    fs::copy(
        world.path("pins/berlin.pin"),
        world.path("pins/berlin.kept"),
    )
    .unwrap();
    fs::copy(world.path("pins/paris.pin"), world.path("pins/berlin.pin")).unwrap();
    expect_stopped(&world, &WRITING, "VAULT-KEY-CHANGED");
    // Its own keys, and another's anchor.
    fs::remove_dir_all(&keys).unwrap();
    files::copy(&world.path("keys/away"), &keys);
    fs::copy(
        world.path("pins/berlin.kept"),
        world.path("pins/berlin.pin"),
    )
    .unwrap();
    let data = |folder: &Path| -> Vec<_> {
        let mut found = files::below(folder);
        found.retain(|path| {
            path.extension()
                .is_some_and(|extension| extension == "data")
        });
        found
    };
    for path in data(&keys) {
        fs::remove_file(path).unwrap();
    }
    for path in data(&world.path("keys/paris")) {
        fs::copy(&path, keys.join(path.file_name().unwrap())).unwrap();
    }
    expect_stopped(&world, &WRITING, "ANCHOR-OF-ANOTHER");
    fs::remove_dir_all(&keys).unwrap();
    fs::rename(world.path("keys/away"), &keys).unwrap();
    world.issue("more").ok();
    // No second vault is set up on a token that serves one.
    let fingerprint = world.trust_fingerprint();
    world
        .site(&format!(
            "--home $D/second init --site-id rome --keys @berlin --trust $D/media/mintmark/trust-000001.cose \
             --fingerprint {fingerprint}"
        ))
        .fails(3, "ANCHOR-EXISTS");
    expect_balanced(&world);
}

/// The commands that wait for officers; messages are carried meanwhile.
const ISSUING: [&str; 5] = [WRITING[0], WRITING[1], WRITING[4], WRITING[5], WRITING[6]];

fn a_token_that_was_put_back(kind: Stores) {
    let world = vault(kind, POLICY);
    world.requests("first", 1..=2);
    world.issue("first").ok();
    let token = token(&world, kind);
    files::copy(&token, &world.path("older"));
    world.requests("second", 3..=4);
    world.issue("second").ok();
    // A start states what the token holds.
    world.site("recover").ok();
    world.carry_home("berlin").exits_done();
    world.requests("more", 5..=6);
    fs::rename(&token, world.path("newest")).unwrap();
    files::copy(&world.path("older"), &token);
    expect_stopped(&world, &ISSUING, "ANCHOR-ROLLED-BACK");
    world.site("media export $D/media").ok();
    world.site("media import $D/media").ok();
    expect_stopped(&world, &ISSUING, "ANCHOR-ROLLED-BACK");
    reanchor(&world);
    expect_freed(&world);
}

/// After officers vouched for a log with four units: a lease is burned, and two more devices are made.
fn expect_freed(world: &World) {
    let burned = number(&account(world), "burned");
    assert_eq!(burned, LEASE_MAX);
    let rows = world.issue("more").ok().lines();
    let slots: Vec<u64> = rows.iter().map(|row| number(row, "slot")).collect();
    assert_eq!(slots, [4 + burned, 5 + burned]);
    let report = expect_balanced(world);
    let row = &report["accounts"][0];
    assert_eq!(
        (number(row, "good"), number(row, "unresolved")),
        (6, burned)
    );
    let account = account(world);
    let because = account["burned_because"].as_str().unwrap();
    assert!(
        because.starts_with("256 units were leased when the vault did not stop cleanly"),
        "{account}"
    );
}

#[test]
fn key_files_that_were_put_back_are_noticed_and_officers_free_the_vault() {
    a_token_that_was_put_back(Stores::Files);
}

#[test]
fn a_token_that_was_put_back_is_noticed_and_officers_free_the_vault() {
    a_token_that_was_put_back(Stores::Tokens);
}

fn an_anchor_that_is_lost(kind: Stores) {
    let world = vault(kind, POLICY);
    world.requests("first", 1..=4);
    world.issue("first").ok();
    world.requests("more", 5..=6);
    delete_anchor(&world, kind);
    expect_stopped(&world, &ISSUING, "ANCHOR-MISSING");
    reanchor(&world);
    expect_freed(&world);
    // Once.
    let counter = number(&world.status("berlin")["anchor"], "counter");
    world.site("recover").ok();
    assert_eq!(number(&account(&world), "burned"), LEASE_MAX);
    assert!(number(&world.status("berlin")["anchor"], "counter") >= counter);
    delete_anchor(&world, kind);
    expect_stopped(&world, &ISSUING, "ANCHOR-MISSING");
}

fn delete_anchor(world: &World, kind: Stores) {
    if kind == Stores::Files {
        let mut data = files::below(&token(world, kind));
        data.retain(|path| {
            path.extension()
                .is_some_and(|extension| extension == "data")
        });
        assert_eq!(data.len(), 1);
        return fs::remove_file(&data[0]).unwrap();
    }
    let pin = fs::read_to_string(stores::pin_file(world.folder(), "berlin")).unwrap();
    judge::succeed(
        std::process::Command::new("pkcs11-tool")
            .env("SOFTHSM2_CONF", stores::configuration(world.folder()))
            .arg("--module")
            .arg(stores::module())
            .args(["--token-label", "berlin", "--login", "--pin", &pin])
            .args([
                "--delete-object",
                "--type",
                "data",
                "--label",
                "mintmark-anchor",
            ]),
    );
}

#[test]
fn an_anchor_that_was_removed_from_key_files_is_made_again_by_officers_alone() {
    an_anchor_that_is_lost(Stores::Files);
}

#[test]
fn an_anchor_that_was_removed_from_a_token_is_made_again_by_officers_alone() {
    an_anchor_that_is_lost(Stores::Tokens);
}

#[test]
fn a_damaged_anchor_is_none() {
    let world = vault(Stores::Files, POLICY);
    world.requests("more", 1..=2);
    world.site("recover").ok();
    let path = files::below(&token(&world, Stores::Files))
        .into_iter()
        .find(|path| {
            path.extension()
                .is_some_and(|extension| extension == "data")
        })
        .unwrap();
    let whole = fs::read(&path).unwrap();
    for bit in (0..whole.len() * 8).step_by(97) {
        files::flip(&path, bit);
        world.site("recover").fails(4, "ANCHOR-MISSING");
        fs::write(&path, &whole).unwrap();
    }
    fs::write(&path, &whole[..whole.len() - 1]).unwrap();
    world.site("recover").fails(4, "ANCHOR-MISSING");
    fs::write(&path, &whole).unwrap();
    world.issue("more").ok();
    assert_eq!(number(&account(&world), "burned"), 0);
    expect_balanced(&world);
}

#[test]
fn a_re_anchor_that_was_interrupted_anywhere_burns_one_lease_and_no_more() {
    let world = vault(Stores::Files, POLICY);
    world.requests("first", 1..=4);
    world.issue("first").ok();
    world.requests("more", 5..=6);
    delete_anchor(&world, Stores::Files);
    world.carry_home("berlin").exits_done();
    let draft = "$D/officers/reanchor.draft";
    let drafting = format!("site reanchor berlin/v1 --reason token --output {draft}");
    let drafted = world.hq(&drafting).ok();
    world.approve(draft);
    world.hq(&format!("site grant {}", drafted.text("id"))).ok();
    world.hq("media export $D/media").ok();
    const PLACES: [&str; 3] = ["berlin", "keys/berlin", "out"];
    for name in PLACES {
        files::copy(&world.path(name), &world.path("kept").join(name));
    }
    let import = world.site("media import $D/media");
    let changes = Changes {
        below: world.folder(),
    };
    let restore = || {
        for name in PLACES {
            fs::remove_dir_all(world.path(name)).unwrap();
            files::copy(&world.path("kept").join(name), &world.path(name));
        }
    };
    let (run, calls) = changes.of(&import);
    run.exits_done();
    restore();
    let keys = world.path("keys");
    let mut kills = 0;
    for call in &calls {
        let path = Path::new(&call.target);
        if !path.starts_with(&keys) && !path.starts_with(world.path("berlin/log")) {
            continue;
        }
        let (_, struck) = changes.with(&import, call, Fate::Killed);
        if struck {
            kills += 1;
            world.site("media import $D/media").ok();
            let rows = world.issue("more").ok().lines();
            assert_eq!(number(&rows[0], "slot"), 4 + LEASE_MAX, "{call:?}");
            assert_eq!(number(&account(&world), "burned"), LEASE_MAX, "{call:?}");
            world.site("audit verify").ok();
        }
        restore();
    }
    assert!(kills >= 8, "only {kills} moments were tried");
    import.ok();
    expect_freed(&world);
}

/// Kills `site issue` at each change of the key store and of the log from the second anchor on, and looks at what is burned.
#[test]
fn a_kill_at_any_moment_burns_one_lease_at_most() {
    let world = vault(
        Stores::Files,
        &POLICY.replace("units = 1000", "units = 100000"),
    );
    let mut device = 0;
    let mut next = || {
        world.requests("mass", device..device + TWO_GROUPS);
        device += TWO_GROUPS;
        world.issue("mass")
    };
    let changes = Changes {
        below: world.folder(),
    };
    let (run, calls) = changes.of(&next());
    assert_eq!(run.exit, 0, "{run}");
    assert_eq!(number(&account(&world), "burned"), 0);
    let keys = world.path("keys");
    let of_keys: Vec<_> = calls
        .iter()
        .filter(|call| Path::new(&call.target).starts_with(&keys))
        .collect();
    assert!(of_keys.len() >= 6, "{of_keys:?}");
    let (mut kills, mut burning) = (0, 0);
    for call in of_keys.iter().step_by(2) {
        fs::remove_dir_all(world.path("csr/mass")).unwrap();
        let before = number(&account(&world), "burned");
        let tool = next();
        let (run, struck) = changes.with(&tool, call, Fate::Killed);
        kills += u32::from(struck);
        let recovered = world.site("recover").ok();
        let burned = number(&account(&world), "burned") - before;
        assert!(burned <= LEASE_MAX, "{burned} at {call:?}\n{run}");
        assert_eq!(
            recovered
                .warning_codes()
                .contains(&"LEASE-BURNED".to_owned()),
            burned > 0,
            "{recovered}"
        );
        burning += u32::from(burned > 0);
        // The same requests again: every device has one certificate.
        let rows = tool.ok().lines();
        assert_eq!(rows.len(), TWO_GROUPS as usize);
    }
    assert!(kills >= 3, "only {kills} moments were tried");
    assert!(burning >= 1, "no lease was ever burned");
    let all = serials(&world, &["out"]);
    let status = account(&world);
    assert_eq!(all.len() as u64, number(&status, "good"));
    assert_eq!(number(&status, "unresolved"), number(&status, "burned"));
    expect_balanced(&world);
}
