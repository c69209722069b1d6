//! `hq recover`: the registry is made again from the record.

use std::path::Path;

use clap::Args;
use mintmark_console::{Console, Exit, Failure};
use mintmark_protocol::envelope::claim;
use mintmark_protocol::identifier::Fingerprint;
use mintmark_protocol::trust::TRUST_BYTES_MAX;
use serde_json::json;

use super::say;
use crate::home::Home;
use crate::record::Record;
use crate::recovery::{self, Recovered, Then};

/// Make the registry again from the record, where it is lost, older than the record, or broken.
#[derive(Debug, Args)]
pub(super) struct Recover {
    /// Make it, say what would come back and what would not, and put nothing into place.
    #[arg(long)]
    pub(super) dry_run: bool,
}

/// How many things that were not had back are told one by one.
const NAMED_MAX: usize = 100;

impl Recover {
    pub(super) fn run(self, home: Option<&Path>, console: &Console) -> Result<Exit, Failure> {
        let home = Home::recover(home, published)?;
        let recovered = recovery::run(&home, self.dry_run, console)?;
        say(console, &self.json(&recovered), self.lines(&recovered))?;
        let is_whole = recovered.lost.iter().all(|lost| lost.then == Then::Nothing);
        if is_whole {
            return Ok(Exit::Done);
        }
        Err(crate::failure::refused(
            "RECOVERY-INCOMPLETE",
            format!(
                "{} things of the registry could not be had back from the record",
                recovered
                    .lost
                    .iter()
                    .filter(|lost| lost.then != Then::Nothing)
                    .count()
            ),
            next(&recovered).join("; "),
        ))
    }

    fn json(&self, recovered: &Recovered) -> serde_json::Value {
        let rows = recovered.rows.iter();
        let rows: serde_json::Map<_, _> = rows
            .map(|(table, count)| ((*table).to_owned(), json!(count)))
            .collect();
        let lost = recovered.lost.iter().map(|lost| {
            json!({ "what": lost.what, "code": lost.code, "why": lost.why, "then": lost.then.as_str() })
        });
        json!({
            "schema": "mintmark/recovery/1",
            "dry_run": self.dry_run,
            "rows": rows,
            "untimed": recovered.untimed,
            "not_recovered": lost.collect::<Vec<_>>(),
            "counts_as_restored": recovered.is_forgetful,
            "replaced": recovered.kept.as_ref().map(|kept| kept.display().to_string()),
        })
    }

    fn lines(&self, recovered: &Recovered) -> Vec<String> {
        let mut lines: Vec<String> = recovered
            .rows
            .iter()
            .map(|(table, count)| format!("{:<16} {count}", table.replace('_', " ")))
            .collect();
        if recovered.untimed > 0 {
            lines.push(format!(
                "{} objects are at the times of their files: nothing else says when they were kept",
                recovered.untimed
            ));
        }
        for lost in recovered.lost.iter().take(NAMED_MAX) {
            lines.push(format!(
                "not had back: {}: {}: {}",
                lost.what, lost.code, lost.why
            ));
        }
        if let Some(more) = recovered
            .lost
            .len()
            .checked_sub(NAMED_MAX)
            .filter(|more| *more > 0)
        {
            lines.push(format!("and {more} more; --json names them all"));
        }
        match (&recovered.kept, self.dry_run) {
            (_, true) => lines.push("nothing was put into place (--dry-run)".to_owned()),
            (Some(kept), false) => lines.push(format!(
                "the registry that was there is kept in {}",
                kept.display()
            )),
            (None, false) => {}
        }
        lines
    }
}

/// What to do about what is missing.
fn next(recovered: &Recovered) -> Vec<&'static str> {
    let is = |then: Then| recovered.lost.iter().any(|lost| lost.then == then);
    let mut next = Vec::new();
    if is(Then::Declare) {
        next.push(
            "put back what is missing in the record from a backup and run this again, or have officers declare that \
             headquarters was restored (`hq trust epoch`): docs/recovery.md",
        );
    }
    if is(Then::Again) {
        next.push("draft again, and have approved again, what was not sent yet");
    }
    if is(Then::Grant) {
        next.push("run `hq site grant` again for each order that is named with it: whoever ran it before was stopped");
    }
    if is(Then::Officers) {
        next.push("compare `hq officer list` with who should be listed");
    }
    if is(Then::Evidence) {
        next.push("put the evidence back from a backup, or have whoever else holds it import it again: `hq reconcile` does not say it any more");
    }
    next
}

/// The manifests of the record, which say where the keys are. Whether they are to be believed is seen when they are taken in.
fn published(record: &Record) -> Result<Vec<Fingerprint>, Failure> {
    let mut found = Vec::new();
    for version in 1.. {
        let path = record.trust(version);
        if path.symlink_metadata().is_err() {
            break;
        }
        if let Ok(claim) = claim(&record.read(&path)?, TRUST_BYTES_MAX) {
            found.push(claim.fingerprint);
        }
    }
    Ok(found)
}
