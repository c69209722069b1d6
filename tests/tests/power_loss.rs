//! The power goes at any moment, and with it whatever was not synced: nothing that was acknowledged is lost, and no unit is
//! spent twice.
//!
//! Here a few rounds are played. As many as wanted, from any seed:
//! `MINTMARK_ROUNDS=100 MINTMARK_SEED=1 cargo nextest run -p mintmark-tests --test power_loss --run-ignored all --no-capture`
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use mintmark_tests::power::{Dice, Recording};
use mintmark_tests::shape::column;
use mintmark_tests::world::POLICY;
use mintmark_tests::{Stores, Tool, World, files};
use serde_json::Value;

/// New devices in each round.
const DEVICES: u32 = 3;

fn number(value: &Value, field: &str) -> u64 {
    value[field]
        .as_u64()
        .unwrap_or_else(|| panic!("{field} in {value}"))
}

/// What the world outside knows: device, serial number and certificate of what was told or could be seen.
#[derive(Debug, Default)]
struct Known {
    serials: BTreeMap<String, String>,
    certificates: BTreeMap<String, Vec<u8>>,
}

/// Everything that is known outside is on record, each unit once, and the units add up.
fn expect_kept(world: &World, known: &Known, at: &str) {
    let status = world.site("status").run();
    assert_eq!(status.exit, 0, "{at}: {status}");
    let account = &status.json()["accounts"][0];
    let spent = number(account, "good") + number(account, "unresolved");
    assert_eq!(
        spent + number(account, "unspent"),
        number(account, "authorised"),
        "{at}"
    );
    let log = world.log("berlin");
    let issued: Vec<&Value> = log
        .iter()
        .filter(|row| row["kind"] == "request" && row["outcome"] == "issued")
        .collect();
    assert_eq!(issued.len() as u64, spent, "{at}");
    let of: BTreeMap<&str, &str> = column(issued.iter().copied(), "device_id")
        .into_iter()
        .zip(column(issued.iter().copied(), "serial"))
        .collect();
    assert_eq!(of.len(), issued.len(), "{at}: a device has two units");
    let serials: BTreeSet<&&str> = of.values().collect();
    assert_eq!(
        serials.len(),
        issued.len(),
        "{at}: a serial number is there twice"
    );
    for (device, serial) in &known.serials {
        assert_eq!(
            of.get(device.as_str()),
            Some(&serial.as_str()),
            "{at}: {device} was lost"
        );
    }
    for device in known.certificates.keys() {
        assert!(
            of.contains_key(device.as_str()),
            "{at}: the certificate of {device} is not on record"
        );
    }
}

/// Where the vault's token is: it loses its power together with the home.
fn token(world: &World) -> impl Iterator<Item = PathBuf> {
    let places = ["keys/berlin", "tokens"].map(|name| world.path(name));
    places.into_iter().filter(|place| place.exists())
}

fn play(world: &World, rounds: u64, seed: u64) {
    let mut below: Vec<PathBuf> = ["berlin", "out"].map(|name| world.path(name)).to_vec();
    below.extend(token(world));
    let mut known = Known::default();
    let (mut rebuilt, mut torn, mut moments) = (0, 0, 0);
    for round in 0..rounds {
        let seed = seed + round;
        let mut dice = Dice::new(seed);
        let first = u32::try_from(round).unwrap() * DEVICES;
        let requests = format!("round-{round}");
        world.requests(&requests, first..first + DEVICES);
        let (run, recording) = Recording::of(&world.issue(&requests), &below);
        assert_eq!(run.exit, 0, "seed {seed}: {run}");
        let told = recording.moments_after_words();
        assert!(!told.is_empty(), "{run}");
        let amid = recording.moments_amid_writes(".log");
        assert!(!amid.is_empty(), "{run}");
        let moment = match dice.below(4) {
            0 => told[dice.below(told.len())],
            1 => amid[dice.below(amid.len())],
            _ => dice.below(recording.moments()),
        };
        moments += recording.moments();
        let acknowledged = recording.lose_power(moment, &mut dice);
        let at = format!(
            "seed {seed}, power lost after step {moment} of {}",
            recording.moments()
        );
        println!("{at}");
        for line in acknowledged.said.lines() {
            let Ok(row) = serde_json::from_str::<Value>(line) else {
                continue;
            };
            let text = |field: &str| row[field].as_str().unwrap_or_default().to_owned();
            known.serials.insert(text("device_id"), text("serial"));
        }
        for (path, bytes) in &acknowledged.seen {
            let name = path.file_name().unwrap().to_str().unwrap();
            if path.starts_with(world.path("out"))
                && let Some(device) = name.strip_suffix(".pem")
                && !name.ends_with(".chain.pem")
            {
                let before = known.certificates.insert(device.to_owned(), bytes.clone());
                assert!(before.is_none_or(|before| before == *bytes), "{at}: {name}");
            }
        }
        // Reading comes first: it finds what opening to write will find.
        expect_kept(world, &known, &at);
        let recovered = world
            .site(if dice.below(2) == 0 {
                "recover"
            } else {
                "media import $D/media"
            })
            .run();
        assert_eq!(recovered.exit, 0, "{at}: {recovered}");
        rebuilt += u32::from(recovered.stderr.contains("index was made again"));
        torn += u32::from(recovered.stderr.contains("were cut off the log"));
        let again = world.issue(&requests).run();
        assert_eq!(again.exit, 0, "{at}: {again}");
        assert_eq!(again.lines().len(), DEVICES as usize, "{at}: {again}");
        for row in again.lines() {
            let device = row["device_id"].as_str().unwrap();
            let serial = row["serial"].as_str().unwrap().to_owned();
            let before = known.serials.insert(device.to_owned(), serial.clone());
            assert!(before.is_none_or(|before| before == serial), "{at}: {row}");
            let path = world.path("out").join(format!("{device}.pem"));
            let bytes = std::fs::read(path).unwrap();
            let before = known.certificates.insert(device.to_owned(), bytes.clone());
            assert!(
                before.is_none_or(|before| before == bytes),
                "{at}: {device}.pem"
            );
        }
        expect_kept(world, &known, &at);
    }
    println!(
        "{rounds} rounds, {moments} moments, the index made again in {rebuilt}, a torn group cut off in {torn}"
    );
    world.site("audit verify").ok();
    world.carry_home("berlin").exits_done();
    let report = world.reconcile();
    assert_eq!(
        (
            &report["balanced"],
            report["findings"].as_array().unwrap().len()
        ),
        (&true.into(), 0),
        "{report}"
    );
    assert_eq!(
        number(&report["accounts"][0], "good"),
        rounds * u64::from(DEVICES)
    );
}

/// Plays one command again and again from the same beginning, with the power going at moments spread over it; what is left
/// is for `check` to look at, with whether the command had said what it did.
fn interrupt(below: &[PathBuf], tool: &Tool, rounds: u64, check: impl Fn(bool, &str)) {
    let (run, recording) = Recording::of(tool, below);
    assert_eq!(run.exit, 0, "{run}");
    let seed = asked("MINTMARK_SEED", 1);
    for round in 0..rounds {
        let mut dice = Dice::new(seed + round);
        // Every moment in turn, from a different one on for each seed, the last one among them.
        let moments = recording.moments();
        let step = usize::try_from(round).unwrap() * moments / usize::try_from(rounds).unwrap();
        let moment = moments - 1 - step;
        let acknowledged = recording.lose_power(moment, &mut dice);
        let at = format!(
            "seed {}, power lost after step {moment} of {moments}",
            seed + round
        );
        println!("{at}");
        check(!acknowledged.said.is_empty(), &at);
    }
}

fn interrupt_import(rounds: u64) {
    let world = World::ready();
    world.requests("mass", 0..DEVICES);
    world.issue("mass").ok();
    world.carry_home("berlin").exits_done();
    world.mint("berlin", &POLICY.replace("\"th200\"", "\"th201\""));
    world.hq("media export $D/media").ok();
    let import = world.site("media import $D/media");
    let accounts = |at: &str| {
        let status = world.site("status").run();
        assert_eq!(status.exit, 0, "{at}: {status}");
        status.json()["accounts"].as_array().unwrap().len()
    };
    let mut below = vec![world.path("berlin")];
    below.extend(token(&world));
    interrupt(&below, &import, rounds, |said, at| {
        assert!(
            !said || accounts(at) == 2,
            "{at}: what was imported is gone"
        );
        let again = import.run();
        assert_eq!(again.exit, 0, "{at}: {again}");
        assert_eq!(accounts(at), 2, "{at}");
        let issued = world.issue("mass").run();
        assert_eq!(issued.exit, 0, "{at}: {issued}");
        assert!(
            issued
                .lines()
                .iter()
                .all(|row| row["outcome"] == "existing"),
            "{at}: {issued}"
        );
    });
    world.carry_home("berlin").exits_done();
    let report = world.reconcile();
    assert_eq!(
        (
            &report["balanced"],
            report["findings"].as_array().unwrap().len()
        ),
        (&true.into(), 0),
        "{report}"
    );
}

fn interrupt_init(rounds: u64) {
    let world = World::with_headquarters();
    std::fs::create_dir(world.path("vault")).unwrap();
    let fingerprint = world.trust_fingerprint();
    let line = "--home $D/vault/berlin init --site-id berlin --keys @berlin --trust";
    let init = world.site(&format!(
        "{line} $D/media/mintmark/trust-000001.cose --fingerprint {fingerprint}"
    ));
    let status = world.site("--home $D/vault/berlin status");
    let below = ["vault", "keys"].map(|name| world.path(name));
    interrupt(&below, &init, rounds, |said, at| {
        let there = world.path("vault/berlin").exists();
        assert!(there || !said, "{at}: the home is gone");
        if !there {
            let again = init.run();
            assert_eq!(again.exit, 0, "{at}: {again}");
        }
        let status = status.run();
        assert_eq!(status.exit, 0, "{at}: {status}");
        let exported = world
            .site("--home $D/vault/berlin media export $D/media")
            .run();
        assert_eq!(exported.exit, 0, "{at}: {exported}");
        // The next round makes another vault.
        std::fs::remove_file(world.on_stick("enrol-berlin_v1.cose")).unwrap();
    });
}

fn interrupt_export(rounds: u64) {
    let world = World::ready();
    world.requests("mass", 0..DEVICES);
    world.issue("mass").ok();
    let export = world.site("media export $D/media");
    let mut below = ["berlin", "media"].map(|name| world.path(name)).to_vec();
    below.extend(token(&world));
    interrupt(&below, &export, rounds, |said, at| {
        let bundle = |name: &String| name.contains("to-hq/") && !name.ends_with(".part");
        let mut before = files::contents(&world.path("media"));
        before.retain(|name, _| bundle(name));
        assert!(
            !said || before.len() == 2,
            "{at}: what was written to the stick is gone"
        );
        // What the stick holds is the very bundle that is written again, and no other.
        let again = export.run();
        assert_eq!(again.exit, 0, "{at}: {again}");
        let now = files::contents(&world.path("media"));
        assert!(
            before.iter().all(|(name, bytes)| now[name] == *bytes),
            "{at}"
        );
        let issued = world.issue("mass").run();
        assert_eq!(issued.exit, 0, "{at}: {issued}");
    });
    let imported = world.hq("media import $D/media").run();
    assert_eq!(imported.exit, 0, "{imported}");
    assert_eq!(world.reconcile()["balanced"], true);
}

fn asked(name: &str, otherwise: u64) -> u64 {
    std::env::var(name).map_or(otherwise, |text| text.parse().unwrap())
}

#[test]
fn a_power_cut_loses_nothing_that_was_acknowledged() {
    play(&World::ready(), 6, asked("MINTMARK_SEED", 1));
}

#[test]
fn a_power_cut_amid_an_import_loses_nothing_that_was_said() {
    interrupt_import(4);
}

#[test]
fn a_power_cut_amid_an_export_makes_no_second_bundle() {
    interrupt_export(4);
}

#[test]
fn a_power_cut_amid_init_leaves_no_home_or_a_whole_one() {
    interrupt_init(4);
}

#[test]
#[ignore = "as many rounds as are asked for, a second each"]
fn a_hundred_power_cuts_amid_an_import_lose_nothing_that_was_said() {
    interrupt_import(asked("MINTMARK_ROUNDS", 100));
}

#[test]
#[ignore = "as many rounds as are asked for, a second each"]
fn a_hundred_power_cuts_amid_an_export_make_no_second_bundle() {
    interrupt_export(asked("MINTMARK_ROUNDS", 100));
}

#[test]
#[ignore = "as many rounds as are asked for, a second each"]
fn a_hundred_power_cuts_amid_init_leave_no_home_or_a_whole_one() {
    interrupt_init(asked("MINTMARK_ROUNDS", 100));
}

#[test]
#[ignore = "as many rounds as are asked for, a second each"]
fn a_hundred_power_cuts_lose_nothing_that_was_acknowledged() {
    play(
        &World::ready(),
        asked("MINTMARK_ROUNDS", 100),
        asked("MINTMARK_SEED", 1000),
    );
}

#[test]
#[ignore = "as many rounds as are asked for, a second each"]
fn a_hundred_power_cuts_beside_a_token_lose_nothing_that_was_acknowledged() {
    let world = World::ready_in(Stores::Tokens);
    play(
        &world,
        asked("MINTMARK_ROUNDS", 100),
        asked("MINTMARK_SEED", 2000),
    );
}
