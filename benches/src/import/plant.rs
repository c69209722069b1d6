//! What is imported: a vault with key files and the sticks that it wrote, one for each stage of its log.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use mintmark_ledger::log::{FileLog, LogStore as _};
use mintmark_tests::world::OFFICERS;
use mintmark_tests::{Stores, World, stores};
use serde::{Deserialize, Serialize};

use super::say;
use crate::scene::POLICY;

/// The sizes, in records, at which it is looked at what a record costs.
const LEVELS: [u64; 3] = [10_000, 1_000_000, 10_000_000];

/// How many records are looked at there.
const WINDOW: u64 = 100_000;

/// The most records of a bundle that only leads to the next size: a plant that makes a million certificates a month, and
/// one of a million records once there are millions.
const BUNDLE: u64 = 250_000;
const BUNDLE_LARGE: u64 = 1_000_000;

/// Records that a certificate takes: its request, its reservation, its signature.
const RECORDS_EACH: u64 = 3;

/// The vault's name as a site.
const VAULT: &str = "berlin";

/// What one bundle brings.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Stage {
    /// Its records.
    pub(super) first: u64,
    pub(super) end: u64,
    /// Certificates that were made for it.
    pub(super) certificates: u32,
    /// Whether cost by size is read from it.
    pub(super) window: bool,
}

/// The vault, and headquarters as they were when they had granted and imported nothing.
pub(super) struct Plant {
    pub(super) world: World,
}

impl Plant {
    /// The one that was kept in a folder, or a new one.
    pub(super) fn open(folder: Option<&Path>) -> Self {
        let world = match folder {
            Some(folder) => {
                fs::create_dir_all(folder).unwrap();
                World::kept(&folder.canonicalize().unwrap(), Stores::Files)
            }
            None => World::empty(Stores::Files),
        };
        if !world.path("stages.json").exists() {
            world.ceremony(&OFFICERS, "");
            world.enrol(VAULT);
            world.grant(VAULT, POLICY);
            fs::write(world.path("stages.json"), "[]").unwrap();
        }
        Self { world }
    }

    /// The home of the vault.
    pub(super) fn vault(&self) -> PathBuf {
        self.world.path(VAULT)
    }

    /// The stick with the bundle of a stage, and nothing else.
    pub(super) fn stick(&self, stage: &Stage) -> PathBuf {
        self.world.path(&format!("stick-{}", stage.first))
    }

    /// The stages up to the largest size that is wanted; those that are not there yet are made.
    pub(super) fn make(&self, records_max: u64) -> Vec<Stage> {
        let file = self.world.path("stages.json");
        let mut made: Vec<Stage> = serde_json::from_slice(&fs::read(&file).unwrap()).unwrap();
        let mut wanted = Vec::new();
        let mut at = 0;
        for level in LEVELS.into_iter().filter(|level| *level <= records_max) {
            while at < level {
                let bundle = if level > LEVELS[1] {
                    BUNDLE_LARGE
                } else {
                    BUNDLE
                };
                at = level.min(at + bundle);
                wanted.push((at, false));
            }
            at += WINDOW;
            wanted.push((at, true));
        }
        for (end, window) in wanted.iter().skip(made.len()) {
            let certificates = made.iter().map(|stage| stage.certificates).sum();
            made.push(self.stage((*end, *window), certificates));
            fs::write(&file, serde_json::to_vec(&made).unwrap()).unwrap();
        }
        made.truncate(wanted.len());
        made
    }

    /// Makes devices until the log has about so many records, and writes the stick.
    fn stage(&self, (end, window): (u64, bool), certificates_before: u32) -> Stage {
        let before = self.log_size();
        let first = self.last_sealed();
        let count = u32::try_from(end.saturating_sub(before) / RECORDS_EACH).unwrap();
        say(&format!("making {count} certificates, up to record {end}"));
        let mut command = Command::new(std::env::current_exe().unwrap());
        command.args(["fill", "--first", &certificates_before.to_string()]);
        command.args(["--count", &count.to_string(), "--home"]);
        let output = command.arg(self.vault()).output().unwrap();
        assert!(
            output.status.success(),
            "{}",
            String::from_utf8_lossy(&output.stderr)
        );
        stores::reduce_rounds(self.world.folder());
        let known = self.bundle_files();
        // What the bundle covers: the record that it was sealed comes after it.
        let covered = self.log_size();
        let export = format!("--home $D/{VAULT} media export $D/media");
        self.world.site(&export).ok();
        let stage = Stage {
            first,
            end: covered,
            certificates: count,
            window,
        };
        let folder = self.stick(&stage).join("mintmark/to-hq");
        fs::create_dir_all(&folder).unwrap();
        for name in self.bundle_files().difference(&known) {
            let from = self.world.on_stick("to-hq").join(name);
            fs::hard_link(from, folder.join(name)).unwrap();
        }
        fs::write(self.world.path("sealed"), covered.to_string()).unwrap();
        stage
    }

    fn log_size(&self) -> u64 {
        let (log, _) = FileLog::open_read_only(&self.vault().join("log"), None).unwrap();
        log.head().size
    }

    /// Up to which record the bundles go.
    fn last_sealed(&self) -> u64 {
        let sealed = fs::read_to_string(self.world.path("sealed")).unwrap_or_default();
        sealed.parse().unwrap_or_default()
    }

    fn bundle_files(&self) -> BTreeSet<String> {
        let folder = fs::read_dir(self.world.on_stick("to-hq")).into_iter();
        let files = folder.flatten().flatten();
        files
            .map(|file| file.file_name().into_string().unwrap())
            .collect()
    }
}
