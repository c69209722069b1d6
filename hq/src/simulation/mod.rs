//! A deterministic simulation: headquarters, three vaults, and sticks that are lost, doubled, late, out of order and damaged.
//!
//! Headquarters is the real one, run by its own commands on a home in memory; the vaults are the real engine. A run follows from
//! its seed alone. Two runs in nine are honest, and have to end balanced, with nothing found and every vault able to issue; in each
//! of the others, one vault does one thing that it must not do, and has to be named for it, while nothing is found of the rest.
//!
//! The keys of each home, and what encryption adds of its own chance, are not of the seed: no length and no byte of anything
//! encrypted decides what happens.

#![allow(clippy::unwrap_used, clippy::panic)]

mod fleet;
mod fraud;
mod headquarters;
mod random;
mod scenes;
#[path = "../../tests/import/support/software.rs"]
mod software;
mod vault;
mod world;

use std::collections::BTreeMap;
use std::ops::Range;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use self::fraud::Fraud;
use self::headquarters::Template;
use self::world::{Ended, Trace, run};

/// Where the vaults are.
const SITES: [&str; 3] = ["berlin", "lyon", "turin"];

/// The runs of every test run: a multiple of nine, so that each fraud has as many.
const SEEDS: Range<u64> = 0..189;

/// What came of many runs.
#[derive(Default)]
struct Tally {
    runs: u64,
    honest: u64,
    issued: u64,
    happened: BTreeMap<&'static str, u64>,
    /// By fraud: how many runs, and how often each finding named it.
    frauds: BTreeMap<Fraud, (u64, BTreeMap<String, u64>)>,
    failed: Vec<u64>,
}

impl Tally {
    fn add(&mut self, ended: Ended) {
        self.runs += 1;
        self.issued += ended.issued;
        for (what, count) in ended.happened {
            *self.happened.entry(what).or_default() += count;
        }
        let Some((fraud, codes)) = ended.fraud else {
            self.honest += 1;
            return;
        };
        let (runs, named) = self.frauds.entry(fraud).or_default();
        *runs += 1;
        for code in codes {
            *named.entry(code).or_default() += 1;
        }
    }
}

/// Runs these seeds on all processors, each from its beginning to its end on one. Prints what came of them, and of each that
/// failed, everything that happened and how to see it again.
fn run_all(seeds: Range<u64>) {
    let begun = Instant::now();
    let _template = Template::shared();
    let (next, tally) = (AtomicU64::new(seeds.start), Mutex::new(Tally::default()));
    let processors = std::thread::available_parallelism().map_or(1, usize::from);
    std::thread::scope(|scope| {
        for _ in 0..processors {
            scope.spawn(|| {
                loop {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= seeds.end {
                        return;
                    }
                    let trace = Trace::default();
                    match catch_unwind(AssertUnwindSafe(|| run(seed, &trace))) {
                        Ok(ended) => tally.lock().unwrap().add(ended),
                        Err(_) => {
                            println!("--- seed {seed}\n{}", trace.lines().join("\n"));
                            println!("--- to see it again: {}", again(seed));
                            tally.lock().unwrap().failed.push(seed);
                        }
                    }
                }
            });
        }
    });
    let tally = tally.into_inner().unwrap();
    let seconds = begun.elapsed().as_secs_f64();
    println!(
        "{} runs in {seconds:.0} s ({:.0} a minute), {} of them without fraud: {} certificates",
        tally.runs,
        tally.runs as f64 * 60.0 / seconds,
        tally.honest,
        tally.issued
    );
    let happened = tally.happened.iter();
    let happened: Vec<String> = happened
        .map(|(what, count)| format!("{count} {what}"))
        .collect();
    println!("{}", happened.join(", "));
    for (fraud, (runs, named)) in &tally.frauds {
        let named: Vec<String> = named
            .iter()
            .map(|(code, count)| format!("{code} {count}"))
            .collect();
        println!("{fraud:?}: {runs} runs, named {}", named.join(", "));
    }
    let commands: Vec<String> = tally.failed.iter().map(|seed| again(*seed)).collect();
    assert!(commands.is_empty(), "failed:\n{}", commands.join("\n"));
}

/// The seeds in `MINTMARK_SEEDS`, or these.
fn seeds_asked_for(otherwise: Range<u64>) -> Range<u64> {
    let Ok(asked) = std::env::var("MINTMARK_SEEDS") else {
        return otherwise;
    };
    let seeds = asked
        .split_once("..")
        .and_then(|(first, end)| Some(first.parse().ok()?..end.parse().ok()?));
    seeds.unwrap_or_else(|| panic!("MINTMARK_SEEDS={asked} is no range such as 0..5000"))
}

fn again(seed: u64) -> String {
    format!(
        "MINTMARK_SEEDS={seed}..{} cargo test -p mintmark-hq --lib simulation::the_seeds_that_are_asked_for -- --ignored \
         --nocapture",
        seed + 1
    )
}

#[test]
fn honest_vaults_balance_and_issue_again_and_every_fraud_is_named() {
    run_all(SEEDS);
}

#[test]
#[ignore = "as long as is asked for: MINTMARK_SEEDS=0..5000"]
fn the_seeds_that_are_asked_for() {
    run_all(seeds_asked_for(0..5000));
}

#[test]
fn a_seed_is_one_run() {
    for seed in [6, 12] {
        let (first, second) = (Trace::default(), Trace::default());
        run(seed, &first);
        run(seed, &second);
        assert_eq!(first.lines(), second.lines());
    }
}
