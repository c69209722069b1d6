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
use mintmark_tests::{Stores, World};
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

fn play(world: &World, rounds: u64, seed: u64) {
    let below: Vec<PathBuf> = ["berlin", "out"].map(|name| world.path(name)).to_vec();
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

fn asked(name: &str, otherwise: u64) -> u64 {
    std::env::var(name).map_or(otherwise, |text| text.parse().unwrap())
}

#[test]
fn a_power_cut_loses_nothing_that_was_acknowledged() {
    play(&World::ready(), 10, asked("MINTMARK_SEED", 1));
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
    let world = World::empty(Stores::Tokens);
    world.ceremony(&["alice", "bob"], "");
    world.enrol("berlin");
    world.grant("berlin", POLICY);
    play(
        &world,
        asked("MINTMARK_ROUNDS", 100),
        asked("MINTMARK_SEED", 2000),
    );
}
