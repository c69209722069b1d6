//! What was there and did not come back, by everything that says so: the registry that is there, the mark of how far one was, and
//! what an earlier recovery could not have back. Whatever is in doubt, headquarters counts as restored.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use mintmark_console::{Exit, Failure, files};
use rusqlite::Connection;

use super::applying::finishing::{FOLLOWED, FORGOTTEN, UNSEALED};
use super::unsent::UNMADE;
use super::{Lost, Then};
use crate::failure;
use crate::home::Home;
use crate::own_restore;
use crate::registry::Registry;
use crate::registry::reached::Reached;
use crate::registry::reached::contents::{self, Group, Thing};
use crate::{restored, trust};

/// What earlier recoveries did not have back, in the record: `<what>` and `<which>` of each line, with a tab between them.
const FILE: &str = "forgotten";
const BYTES_MAX: u64 = 64 << 20;
/// Stands in the place of `which` where the record says by itself that something is missing.
const BY_RECORD: &str = "record";
/// Begins `what` where a count says it.
const MARK: &str = "reached/";

/// What is compared, and what came of it.
pub(super) struct Comparing<'a> {
    home: &'a Home,
    /// What earlier recoveries did not have back.
    before: BTreeSet<(String, String)>,
    /// Whether officers have declared that.
    is_declared: bool,
    pub(super) lost: Vec<Lost>,
    /// What is not there now.
    forgotten: BTreeSet<(String, String)>,
}

impl<'a> Comparing<'a> {
    /// Compares a registry that was made again with everything that says what was there.
    pub(super) fn new(
        home: &'a Home,
        registry: &Registry,
        lost: Vec<Lost>,
    ) -> Result<Self, Failure> {
        let sql = &registry.sql;
        let manifests = trust::published(&home.record(), sql)?;
        let noted = restored::epoch(home.folder())?;
        let mut comparing = Self {
            home,
            before: read(&file(home))?,
            is_declared: noted > 0 && own_restore::declared(&manifests) > Some(noted),
            lost,
            forgotten: BTreeSet::new(),
        };
        let here = contents::of(sql);
        comparing.weigh(sql)?;
        comparing.registries(&here, sql)?;
        comparing.marks(sql)?;
        comparing.forgotten_before(&here, sql)?;
        comparing.declared();
        if manifests.is_empty() && comparing.lost.iter().any(|lost| is_of_trust(&lost.what)) {
            return Err(comparing.refused());
        }
        Ok(comparing)
    }

    /// What one witness alone says is held against the mark of how far the registry was. Where there is none, it is believed.
    fn weigh(&mut self, sql: &Connection) -> Result<(), Failure> {
        let folder = self.home.folder();
        let sent = [
            "dispatches",
            "sent orders",
            "orders that no vault was told of",
        ];
        let lacking = Reached::lacking(folder, sql)?;
        let all_sent =
            Reached::is_marked(folder) && !lacking.iter().any(|(name, ..)| sent.contains(name));
        let manifests = Reached::count_marked(folder, "trust manifests");
        let lacks_drafts = lacking.iter().any(|(name, ..)| *name == "drafts");
        for lost in &mut self.lost {
            // An earlier recovery missed it, when the mark may have been another.
            let is_missed = self.before.iter().any(|(what, _)| *what == lost.what);
            if lost.code == FOLLOWED {
                let version = lost.what.strip_prefix("trust/trust-");
                let version = version.and_then(|rest| rest.strip_suffix(".cose"));
                let version = version.and_then(|version| version.parse::<u64>().ok());
                let is_unknown = manifests.zip(version).is_some_and(|(known, of)| known < of);
                // Officers are not asked to declare what a vault makes up.
                if !is_missed && is_unknown {
                    lost.then = Then::Nothing;
                    lost.why = format!(
                        "{}; it is that vault's word alone, since record/reached says that headquarters never had it",
                        lost.why
                    );
                }
            }
            if lost.code == UNMADE && lacks_drafts {
                // It may have been made, and not noted.
                lost.then = Then::Again;
            }
            if lost.code == UNSEALED && (is_missed || !all_sent) {
                // It may have been sealed, and that be lost.
                lost.code = FORGOTTEN.to_owned();
                lost.then = Then::Declare;
                lost.why = format!("{}, or what it sealed did not come back", lost.why);
            }
        }
        Ok(())
    }

    fn registries(&mut self, here: &BTreeSet<Thing>, sql: &Connection) -> Result<(), Failure> {
        let folder = self.home.folder();
        let is_whole = Reached::is_marked(folder) && Reached::lacking(folder, sql)?.is_empty();
        for thing in contents::there(folder).difference(here) {
            // The registry that is there may be older than what came after.
            let removed = Thing {
                which: "removed".to_owned(),
                ..thing.clone()
            };
            let was_removed = thing.group == Group::Listed && here.contains(&removed);
            let was_reopened = thing.which == "sealed" && is_whole;
            if was_removed || was_reopened {
                continue;
            }
            let then = match thing.group {
                Group::Told => Then::Declare,
                Group::Drafted => Then::Again,
                Group::Listed => Then::Officers,
                Group::Found => Then::Evidence,
            };
            if then == Then::Declare {
                let which = (thing.what.clone(), thing.which.clone());
                self.forgotten.insert(which);
            }
            let why = format!(
                "the registry that is there has it ({}), and it did not come back",
                thing.which
            );
            self.push(&thing.what, "NOT-RECOVERED", why, then);
        }
        Ok(())
    }

    fn marks(&mut self, sql: &Connection) -> Result<(), Failure> {
        for (name, is, was) in Reached::lacking(self.home.folder(), sql)? {
            // Which are missing is known, and what follows from each.
            if self.named(name) < was.saturating_sub(is) {
                self.mark(name, is, was);
            }
        }
        Ok(())
    }

    fn mark(&mut self, name: &str, is: u64, was: u64) {
        let what = format!("{MARK}{name}");
        let then = match name {
            "officers" | "changes of officers" => Then::Officers,
            "refusals" => Then::Evidence,
            _ => {
                self.forgotten.insert((what.clone(), was.to_string()));
                Then::Declare
            }
        };
        let why = format!("record/reached says that there were {was}, and {is} came back");
        self.push(&what, "NOT-RECOVERED", why, then);
    }

    /// How many of what is counted under this name are named as lost.
    fn named(&self, name: &str) -> u64 {
        let is_restore = |what: &str| what.contains("/restore-");
        let is_named = |what: &&str| match name {
            "trust manifests" => what.starts_with("trust/"),
            "dispatches" => what.starts_with("sent/"),
            "bundles" => what.starts_with("received/") && !is_restore(what),
            "restores" => what.starts_with("received/") && is_restore(what),
            "drafts" => what.starts_with("drafts/"),
            "approvals" => what.starts_with("approvals/"),
            "changes of officers" => what.starts_with("officers"),
            "orders that no vault was told of" => what.starts_with("untold/"),
            "refusals" => what.starts_with("evidence/"),
            _ => false,
        };
        let lost = self.lost.iter().map(|lost| lost.what.as_str());
        lost.filter(is_named).collect::<BTreeSet<_>>().len() as u64
    }

    /// What did not come back before is missed again, as long as it does not.
    fn forgotten_before(
        &mut self,
        here: &BTreeSet<Thing>,
        sql: &Connection,
    ) -> Result<(), Failure> {
        let counts = Reached::counts(sql)?;
        for (what, which) in self.before.clone() {
            // Of that, the record says so again.
            if which == BY_RECORD {
                continue;
            }
            if let Some(name) = what.strip_prefix(MARK) {
                let was = which.parse().unwrap_or(u64::MAX);
                let is = counts.iter().find(|(of, _)| *of == name);
                let is = is.map_or(0, |(_, is)| *is);
                if is < was {
                    self.mark(name, is, was);
                }
                continue;
            }
            let mut here = here.iter();
            if here.any(|thing| (&thing.what, &thing.which) == (&what, &which)) {
                continue;
            }
            let why =
                format!("an earlier recovery did not have it back ({which}), nor did this one");
            self.push(&what, "NOT-RECOVERED", why, Then::Declare);
            self.forgotten.insert((what, which));
        }
        Ok(())
    }

    /// Of one thing, what asks for the most counts.
    fn push(&mut self, what: &str, code: &str, why: String, then: Then) {
        let mut lost = self.lost.iter();
        let known =
            lost.any(|lost| lost.what == what && (lost.then == then || lost.then == Then::Declare));
        if !known {
            self.lost.push(Lost {
                what: what.to_owned(),
                code: code.to_owned(),
                why,
                then,
            });
        }
    }

    /// What was missing before, and was declared since, asks for nothing more.
    fn declared(&mut self) {
        for lost in self
            .lost
            .iter_mut()
            .filter(|lost| lost.then == Then::Declare)
        {
            let is_noted = self.forgotten.iter().any(|(what, _)| *what == lost.what);
            if !is_noted {
                self.forgotten
                    .insert((lost.what.clone(), BY_RECORD.to_owned()));
            }
            if self.is_declared && self.before.iter().any(|(what, _)| *what == lost.what) {
                lost.then = Then::Nothing;
                lost.why = format!("{}; officers have declared that", lost.why);
            }
        }
    }

    /// Whether headquarters counts as restored from here on.
    pub(super) fn is_forgetful(&self) -> bool {
        self.lost.iter().any(|lost| lost.then == Then::Declare)
    }

    fn refused(&self) -> Failure {
        let named: Vec<_> = self
            .lost
            .iter()
            .filter(|lost| is_of_trust(&lost.what))
            .map(|lost| format!("{} ({})", lost.what, lost.code))
            .collect();
        let message = format!(
            "there was a trust manifest, and none came back: {}",
            named.join(", ")
        );
        Failure::new(Exit::Integrity, "TRUST-UNRECOVERED", message).hint(
            "nothing was put into place: put the folder `record` back from the newest backup of the home (`hq restore`), then run \
             this again",
        )
    }

    /// Notes what is not there now, before a registry without it is put into place. Returns whether there is anything.
    pub(super) fn note(&self) -> Result<bool, Failure> {
        let path = file(self.home);
        if self.forgotten.is_empty() {
            return match std::fs::remove_file(&path) {
                Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                    let what = format!("{} cannot be removed", path.display());
                    Err(failure::home_corrupt(what).cause(error))
                }
                _ => Ok(false),
            };
        }
        let lines: Vec<_> = self
            .forgotten
            .iter()
            .map(|(what, which)| format!("{what}\t{which}\n"))
            .collect();
        files::write_replace(&path, lines.concat().as_bytes())?;
        Ok(true)
    }
}

fn is_of_trust(what: &str) -> bool {
    what.starts_with("trust/") || what == "reached/trust manifests"
}

fn file(home: &Home) -> PathBuf {
    home.record().folder().join(FILE)
}

fn read(path: &Path) -> Result<BTreeSet<(String, String)>, Failure> {
    let bytes = match files::read_limited(path, BYTES_MAX) {
        Err(error) if error.is_missing() => return Ok(BTreeSet::new()),
        read => read?,
    };
    let text = String::from_utf8_lossy(&bytes).into_owned();
    let lines = text.lines().map(|line| {
        let (what, which) = line.split_once('\t').unwrap_or((line, BY_RECORD));
        (what.to_owned(), which.to_owned())
    });
    Ok(lines.collect())
}
