//! A vault that is killed at any moment gives nothing away, loses nothing, and spends nothing twice.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::process::Stdio;
use std::time::{Duration, Instant};

use mintmark_tests::shape::column;
use mintmark_tests::strace::{DURABLE, killed_at};
use mintmark_tests::world::POLICY;
use mintmark_tests::{Stores, Tool, World, files, judge, request};
use serde_json::Value;

/// The certificates that were delivered, by file name.
type Delivered = BTreeMap<String, Vec<u8>>;

fn delivered(world: &World) -> Delivered {
    let mut files = files::contents(&world.path("out"));
    files.retain(|name, _| name.ends_with(".pem") && !name.ends_with(".chain.pem"));
    files
}

fn serials(world: &World, names: &Delivered) -> BTreeSet<String> {
    let serial = |name: &String| {
        let said = judge::openssl(
            world.folder(),
            &format!("x509 -in out/{name} -noout -serial"),
        );
        said.trim().trim_start_matches("serial=").to_lowercase()
    };
    names.keys().map(serial).collect()
}

fn number(value: &Value, field: &str) -> u64 {
    value[field]
        .as_u64()
        .unwrap_or_else(|| panic!("{field} in {value}"))
}

/// What must hold at every moment at which nobody holds the vault.
fn expect_sound(world: &World, before: &Delivered) -> Delivered {
    let now = delivered(world);
    for (name, bytes) in before {
        assert!(
            now.get(name) == Some(bytes),
            "{name} was changed or taken back"
        );
    }
    let status = world.status("berlin");
    let account = &status["accounts"][0];
    let spent = number(account, "good") + number(account, "unresolved");
    assert_eq!(
        spent + number(account, "unspent"),
        number(account, "authorised"),
        "{status}"
    );
    assert!(
        now.len() as u64 <= number(account, "good"),
        "more was delivered than is recorded: {status}"
    );

    let log = world.log("berlin");
    let issued: Vec<&Value> = log
        .iter()
        .filter(|row| row["kind"] == "request" && row["outcome"] == "issued")
        .collect();
    assert_eq!(
        issued.len() as u64,
        spent - number(&status["outlook"][0], "burned"),
        "each unit that was spent, and is not burned, is one line of the log"
    );
    let serials: BTreeSet<&str> = column(issued.iter().copied(), "serial")
        .into_iter()
        .collect();
    assert_eq!(
        serials.len(),
        issued.len(),
        "a serial number is in the log twice"
    );
    let devices: BTreeSet<&str> = column(issued, "device_id").into_iter().collect();
    for name in now.keys() {
        let device = name.trim_end_matches(".pem");
        assert!(
            devices.contains(device),
            "{name} was delivered without a record"
        );
    }
    now
}

/// Everything is asked for once more: all of it comes, and it adds up here and at HQ.
fn expect_whole(world: &World, units: usize, before: &Delivered) {
    world.site("recover").ok();
    let status = world.status("berlin");
    let account = &status["accounts"][0];
    let burned = number(&status["outlook"][0], "burned");
    assert_eq!(number(account, "unresolved"), burned, "{account}");
    let rows = world.issue("mass").ok().lines();
    assert_eq!(rows.len(), units);
    let slots: BTreeSet<u64> = rows.iter().map(|row| number(row, "slot")).collect();
    assert_eq!(slots.len(), units, "every slot is spent once");
    let end = slots.last().map_or(0, |last| last + 1);
    assert_eq!(
        end,
        units as u64 + burned,
        "no slot is skipped that is not burned"
    );
    let serials_reported: BTreeSet<String> = column(&rows, "serial")
        .into_iter()
        .map(str::to_owned)
        .collect();
    assert_eq!(serials_reported.len(), units);
    let now = expect_sound(world, before);
    assert_eq!(now.len(), units);
    assert!(
        serials(world, before).is_subset(&serials_reported),
        "a delivered certificate is not the one on record"
    );
    assert_eq!(
        number(&world.status("berlin")["accounts"][0], "good"),
        units as u64
    );
    world.site("audit verify").ok();
    world.carry_home("berlin").exits_done();
    let report = world.reconcile();
    let findings = report["findings"].as_array().unwrap();
    let codes: Vec<_> = findings.iter().map(|finding| &finding["code"]).collect();
    // What is burned has no certificate, and somebody has to grant it again.
    let expected: &[&str] = if burned > 0 { &["UNRESOLVED"] } else { &[] };
    assert_eq!(report["balanced"], true, "{report}");
    assert_eq!(codes, expected, "{report}");
    assert_eq!(number(&report["accounts"][0], "good"), units as u64);
}

/// Kills `site issue` again and again, at moments spread over the time that a whole run takes.
fn kill_repeatedly(stores: Stores, rounds: u32, units_per_round: u32) {
    // Each kill may burn a whole lease.
    let policy = POLICY.replace("units = 1000\n", "units = 10000\n");
    let world = &World::with_policy_in(stores, &policy);
    let issue = world.issue("mass");
    world.requests("mass", 0..units_per_round);
    let started = Instant::now();
    issue.ok();
    let whole = started.elapsed();
    let mut before = expect_sound(world, &Delivered::new());
    let mut killed = 0;
    for round in 1..=rounds {
        world.requests(
            "mass",
            round * units_per_round..(round + 1) * units_per_round,
        );
        // Spread over the run by the golden ratio: no two rounds are alike, and every run of the tests is.
        let share = f64::from(round) * 0.618_033_988_75 % 1.0;
        killed += u32::from(kill_after(&issue, whole.mul_f64(0.1 + share)));
        before = expect_sound(world, &before);
    }
    assert!(
        killed * 2 >= rounds,
        "only {killed} of {rounds} rounds were interrupted"
    );
    expect_whole(world, ((rounds + 1) * units_per_round) as usize, &before);
}

/// Whether the signal met the process before it ended by itself.
fn kill_after(tool: &Tool, delay: Duration) -> bool {
    let mut process = tool
        .command()
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    std::thread::sleep(delay);
    process.kill().unwrap();
    !process.wait().unwrap().success()
}

#[test]
fn a_vault_with_key_files_that_is_killed_at_any_moment_goes_on_where_it_was() {
    kill_repeatedly(Stores::Files, 12, 60);
}

#[test]
fn a_vault_with_a_token_that_is_killed_at_any_moment_goes_on_where_it_was() {
    kill_repeatedly(Stores::Tokens, 12, 60);
}

#[test]
fn a_vault_that_is_killed_at_each_of_its_syncs_and_renames_in_turn_goes_on_where_it_was() {
    let world = World::ready();
    let mut before = Delivered::new();
    let mut device = 0;
    let mut points = 0;
    for call in DURABLE {
        for nth in 1.. {
            device += 1;
            world.requests("mass", [device]);
            let newest = world.issue(&format!("mass/TH200-{device:08}.csr"));
            let interrupted = killed_at(&newest, call, nth);
            before = expect_sound(&world, &before);
            if !interrupted {
                break;
            }
            points += 1;
            // Now and then the interrupted work is found by somebody else than the next `site issue`.
            if nth % 3 == 0 {
                world.site("recover").ok();
                let status = world.status("berlin");
                let unresolved = number(&status["accounts"][0], "unresolved");
                assert_eq!(unresolved, number(&status["outlook"][0], "burned"));
            }
        }
    }
    assert!(points >= 6, "only {points} moments were tried");
    expect_whole(&world, device as usize, &before);
}

#[test]
fn a_bundle_whose_sealing_was_interrupted_is_sealed_again_and_fits() {
    let world = World::ready();
    world.requests("mass", 0..5);
    world.issue("mass").ok();
    for call in DURABLE {
        for nth in 1.. {
            if !killed_at(&world.site("media export $D/media"), call, nth) {
                break;
            }
            assert!(nth < 100);
            // Half a file on the stick is none.
            world.hq("media import $D/media").run();
        }
    }
    expect_whole(&world, 5, &delivered(&world));
}

#[test]
fn an_import_that_was_interrupted_is_imported_again_and_counts_once() {
    let world = World::with_vault();
    world.mint("berlin", POLICY);
    world.hq("media export $D/media").ok();
    for call in DURABLE {
        for nth in 1.. {
            if !killed_at(&world.site("media import $D/media"), call, nth) {
                break;
            }
            assert!(nth < 100);
        }
    }
    world.site("media import $D/media").ok();
    let accounts = &world.status("berlin")["accounts"];
    assert_eq!(
        (
            accounts.as_array().unwrap().len(),
            number(&accounts[0], "authorised")
        ),
        (1, 1000)
    );
    world.requests("mass", 0..2);
    expect_whole(&world, 2, &Delivered::new());
}

#[test]
fn an_import_at_headquarters_that_was_interrupted_is_imported_again_and_counts_once() {
    let world = World::ready();
    world.requests("mass", 0..5);
    world.issue("mass").ok();
    world.site("media export $D/media").ok();
    for call in DURABLE {
        let mut nth = 1;
        while killed_at(&world.hq("media import $D/media"), call, nth) {
            nth += 1;
            assert!(nth < 100);
        }
    }
    world.hq("media import $D/media").ok();
    expect_whole(&world, 5, &delivered(&world));
}

#[test]
fn one_command_at_a_time_may_change_a_home_and_anybody_may_read_it() {
    let world = World::ready();
    request::write(&world.path("csr/one"), "TH200-00000001");
    let lock = File::options()
        .write(true)
        .open(world.path("berlin/lock"))
        .unwrap();
    lock.lock().unwrap();
    world.issue("one").fails(3, "HOME-BUSY");
    world.site("media import $D/media").fails(3, "HOME-BUSY");
    world.site("media export $D/media").fails(3, "HOME-BUSY");
    world.site("recover").fails(3, "HOME-BUSY");
    for line in [
        "status",
        "audit log",
        "audit list",
        "audit verify",
        "entitlement list",
        "media inspect $D/media",
    ] {
        world.site(line).ok();
    }
    drop(lock);
    world.issue("one").ok();
    assert!(fs::exists(world.path("out/TH200-00000001.pem")).unwrap());
}
