//! A command that is struck at one of its system calls after the other, each time from the same beginning.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;

use serde_json::Value;

use crate::command::{Run, Tool};
use crate::files;
use crate::shape::column;
use crate::strike::{Change, Changes, Fate, HANGS};
use crate::world::World;

/// What a vault's command may change.
pub const VAULT: [&str; 6] = ["berlin", "keys/berlin", "tokens", "out", "media", "other"];

/// A number of an object.
pub fn number(value: &Value, field: &str) -> u64 {
    value[field]
        .as_u64()
        .unwrap_or_else(|| panic!("{field} in {value}"))
}

/// Killed before the call.
pub fn killed(_: &Change) -> Vec<Fate> {
    vec![Fate::Killed]
}

/// What of a call can fail, and how.
pub fn failing(change: &Change) -> Vec<Fate> {
    match change.name.as_str() {
        "fsync" | "fdatasync" | "syncfs" | "sync_file_range" => {
            vec![Fate::Fails("EIO"), Fate::FailsOn("EIO")]
        }
        "write" | "pwrite64" | "writev" | "pwritev" | "ftruncate" => {
            vec![
                Fate::Full,
                Fate::Fails("ENOSPC"),
                Fate::Fails("EIO"),
                Fate::FailsOn("EIO"),
            ]
        }
        _ => vec![Fate::Full, Fate::Fails("EIO")],
    }
}

/// The certificates that were delivered, by file name.
pub fn delivered(world: &World) -> BTreeMap<String, Vec<u8>> {
    let mut found = files::contents(&world.path("out"));
    found.retain(|name, _| name.ends_with(".pem") && !name.ends_with(".chain.pem"));
    found
}

/// The units add up, each certificate that is out is on record, and no serial number is there twice.
pub fn expect_balanced(world: &World, at: &str) -> Value {
    let account = world.status("berlin")["accounts"][0].clone();
    let spent = ["good", "scrapped", "voided", "unresolved"];
    let spent: u64 = spent.iter().map(|field| number(&account, field)).sum();
    assert_eq!(
        spent + number(&account, "unspent"),
        number(&account, "authorised"),
        "{at}: {account}"
    );
    let log = world.log("berlin");
    let issued: Vec<&Value> = log
        .iter()
        .filter(|row| row["kind"] == "request" && row["outcome"] == "issued")
        .collect();
    assert_eq!(issued.len() as u64, spent, "{at}");
    let serials: BTreeSet<&str> = column(issued.iter().copied(), "serial")
        .into_iter()
        .collect();
    assert_eq!(
        serials.len(),
        issued.len(),
        "{at}: a serial number is there twice"
    );
    let devices: BTreeSet<&str> = column(issued, "device_id").into_iter().collect();
    for name in delivered(world).keys() {
        assert!(
            devices.contains(name.trim_end_matches(".pem")),
            "{at}: {name} is not on record"
        );
    }
    account
}

/// Which of the calls are tried.
#[derive(Clone, Copy, Debug)]
pub enum Sample {
    /// All of them.
    All,
    /// One of every so many kinds of calls, and of that kind one.
    Kinds {
        /// One in so many.
        one_in: usize,
        /// From this one on.
        from: usize,
    },
}

/// What a sweep came to.
#[derive(Debug, Default)]
pub struct Tally {
    /// How many calls the command makes, of those that count.
    pub listed: usize,
    /// How many of them were struck.
    pub struck: usize,
    /// How often the command was run.
    pub runs: usize,
    /// How it ended.
    pub exits: BTreeMap<i32, usize>,
}

/// One command in a world, and how to come back to the moment before it.
pub struct Scene<'a> {
    /// Where.
    pub world: &'a World,
    /// What the command may change, relative to the world's folder.
    pub places: &'a [&'a str],
    /// The command.
    pub command: &'a dyn Fn(&World) -> Tool,
}

impl Scene<'_> {
    /// Keeps everything as it is.
    pub fn save(&self) {
        for place in self.places {
            copy_over(
                &self.world.path(place),
                &self.world.path("saved").join(place),
            );
        }
    }

    /// Puts everything back as it was kept.
    pub fn restore(&self) {
        for place in self.places {
            copy_over(
                &self.world.path("saved").join(place),
                &self.world.path(place),
            );
        }
    }

    /// Has each call of the sample struck by these fates, from the same beginning, and what is left checked.
    #[track_caller]
    pub fn sweep(
        &self,
        sample: Sample,
        fates: impl Fn(&Change) -> Vec<Fate>,
        check: impl Fn(&World, &Run, &str),
    ) -> Tally {
        self.sweep_ending(0, sample, fates, check)
    }

    /// The same, of a command that ends with this when nothing happens to it.
    #[track_caller]
    pub fn sweep_ending(
        &self,
        exit: i32,
        sample: Sample,
        fates: impl Fn(&Change) -> Vec<Fate>,
        check: impl Fn(&World, &Run, &str),
    ) -> Tally {
        self.save();
        let changes = Changes {
            below: self.world.folder(),
        };
        // The first run makes what later ones find, the second is like all others.
        let (run, _) = changes.of(&(self.command)(self.world));
        assert_eq!(run.exit, exit, "{run}");
        self.restore();
        let (_, mut listed) = changes.of(&(self.command)(self.world));
        listed.retain(|change| !is_named_anew(change));
        let mut tally = Tally {
            listed: listed.len(),
            ..Tally::default()
        };
        let (mut missed, mut failures) = (Vec::new(), Vec::new());
        for change in chosen(&listed, sample) {
            let mut met = false;
            for fate in fates(change) {
                self.restore();
                let (run, struck) = changes.with(&(self.command)(self.world), change, fate);
                tally.runs += 1;
                *tally.exits.entry(run.exit).or_default() += 1;
                met |= struck;
                let at = format!("{fate:?} at {change:?}, struck: {struck}");
                let checked = catch_unwind(AssertUnwindSafe(|| {
                    assert_ne!(run.exit, HANGS, "it does not end");
                    check(self.world, &run, &at);
                }));
                if checked.is_err() {
                    println!("FAILED {at}\n{run}");
                    failures.push(at);
                }
            }
            tally.struck += usize::from(met);
            if !met {
                missed.push(change.identity());
            }
        }
        self.restore();
        println!(
            "{} calls listed, {} of them struck in {} runs, exits {:?}; not met again: {missed:?}",
            tally.listed, tally.struck, tally.runs, tally.exits
        );
        assert!(failures.is_empty(), "{failures:#?}");
        // What the index writes is up to its own threads, and not always the same.
        assert!(missed.len() * 10 <= tally.listed.max(20), "{missed:#?}");
        tally
    }
}

/// The calls of a sample, in order.
fn chosen(listed: &[Change], sample: Sample) -> Vec<&Change> {
    let Sample::Kinds { one_in, from } = sample else {
        return listed.iter().collect();
    };
    let mut kinds = BTreeSet::new();
    // Of each kind the last one, by which most has happened.
    let mut last: Vec<&Change> = listed.iter().rev().collect();
    last.retain(|change| kinds.insert(kind(change)));
    last.into_iter().rev().skip(from).step_by(one_in).collect()
}

/// Calls that differ in numbers alone are of one kind.
fn kind(change: &Change) -> (String, String) {
    let (name, pattern, _) = change.identity();
    let letters = pattern.chars().filter(|c| !c.is_ascii_digit());
    (name, letters.collect())
}

/// Whether a call is on a file that SoftHSM gives another name each time: that one is not met again.
fn is_named_anew(change: &Change) -> bool {
    let known = ["token.object", "token.lock", "generation", "kept", "coming"];
    let is_file = change.target.ends_with(".object") || change.target.ends_with(".lock");
    let is_known = known.iter().any(|name| change.target.contains(name));
    change.target.contains("/tokens/") && is_file && !is_known
}

fn copy_over(from: &Path, to: &Path) {
    if to.is_dir() {
        fs::remove_dir_all(to).unwrap();
    }
    if from.is_dir() {
        files::copy(from, to);
    }
}
