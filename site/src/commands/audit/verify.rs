//! `site audit verify`: nothing that was worked out before is believed.

use std::collections::BTreeMap;
use std::path::Path;

use mintmark_console::{Console, Exit};
use mintmark_ledger::apply::apply_leaf;
use mintmark_ledger::entry::{Body, BundleSealed, Entry, LogSequence};
use mintmark_ledger::state::State;
use mintmark_protocol::bundle::Checkpoint;
use serde::Serialize;

use super::super::json;
use crate::failure::{Error, Result};
use crate::home::LOG;
use crate::vault::Outbox;
use crate::vault::reading::Reading;

#[derive(Serialize)]
struct Report {
    schema: &'static str,
    verified: bool,
    log_size: u64,
    log_root: String,
    bundles: usize,
}

/// Reads the whole log: each record's frame and link, the Merkle root at each bundle's checkpoint, and the state that it
/// adds up to.
pub(super) fn execute(home: Option<&Path>, console: &Console) -> Result<Exit> {
    let reading = Reading::open(home, console)?;
    let view = reading.view();
    let progress = console.progress("verifying the log", Some(view.size()));
    let mut checkpoints = Checkpoints::load(&reading)?;
    let mut state = State::new();
    // The reader checks frames, checksums, numbers and links.
    for record in view.reader(LogSequence(0))? {
        let record = record?;
        let entry = Entry::from_cbor(&record.bytes).map_err(|error| {
            let message = format!("record {} of the log is not a log entry", record.sequence);
            tampered(message).cause(error)
        })?;
        apply_leaf(&mut state, record.leaf(), &entry);
        checkpoints.compare(&state, &entry)?;
        progress.advance(1);
    }
    progress.finish();
    if state != *view.state() {
        return Err(tampered(
            "the state that was kept is not what the log adds up to".to_owned(),
        ));
    }
    let bundles = checkpoints.finish()?;
    let report = Report {
        schema: "mintmark/audit/1",
        verified: true,
        log_size: state.size(),
        log_root: state.root().to_string(),
        bundles,
    };
    if console.is_json() {
        return json(console, &report);
    }
    let Report {
        log_size, log_root, ..
    } = &report;
    console.line(format!(
        "verified: {log_size} records, {bundles} bundles, root {log_root}"
    ));
    Ok(Exit::Done)
}

/// What the sealed bundles say about the log.
struct Checkpoints {
    by_sequence: BTreeMap<u64, Checkpoint>,
    /// Size of the log to the bundles that end there.
    by_size: BTreeMap<u64, Vec<u64>>,
    compared: usize,
    last: Option<BundleSealed>,
}

impl Checkpoints {
    fn load(reading: &Reading) -> Result<Self> {
        let (home, state) = (reading.home(), reading.state());
        let lineage = state
            .lineage()
            .ok_or_else(|| home.corrupt(LOG, "without a lineage"))?;
        let outbox = Outbox::open(home, lineage)?;
        let (mut by_sequence, mut by_size) = (BTreeMap::new(), BTreeMap::<_, Vec<_>>::new());
        for (_, logged) in super::sealed(reading.view())? {
            let key = &reading.facts().identity.sign;
            let (_, bundle) = outbox.bundle(home, logged.sequence, &logged.fingerprint, key)?;
            let checkpoint = bundle.content().checkpoint;
            by_sequence.insert(logged.sequence, checkpoint);
            by_size
                .entry(checkpoint.size)
                .or_default()
                .push(logged.sequence);
            for (number, facts) in (1..).zip(&bundle.content().segments) {
                outbox.segment(home, logged.sequence, number, facts)?;
            }
        }
        Ok(Self {
            by_sequence,
            by_size,
            compared: 0,
            last: None,
        })
    }

    /// Holds the log up to here against the bundles that end here, and what it says of a bundle against that.
    fn compare(&mut self, state: &State, entry: &Entry) -> Result<()> {
        for sequence in self.by_size.remove(&state.size()).unwrap_or_default() {
            let expected = self
                .by_sequence
                .get(&sequence)
                .map(|checkpoint| checkpoint.root);
            if expected != Some(state.root()) {
                return Err(tampered(format!(
                    "the first {} records of the log are not those of bundle {sequence}",
                    state.size()
                )));
            }
            self.compared += 1;
        }
        let Body::BundleSealed(sealed) = &entry.body else {
            return Ok(());
        };
        let previous = self.last.as_ref().map_or(0, |last| last.sequence);
        let size = self
            .by_sequence
            .get(&sealed.sequence)
            .map(|checkpoint| checkpoint.size);
        if sealed.sequence != previous + 1 || size != Some(sealed.log_size) {
            let sequence = sealed.sequence;
            return Err(tampered(format!(
                "the log's record of bundle {sequence} contradicts it"
            )));
        }
        self.last = Some(sealed.clone());
        Ok(())
    }

    /// Every bundle must have been reached.
    fn finish(self) -> Result<usize> {
        match self.by_size.into_values().flatten().next() {
            Some(sequence) => Err(tampered(format!(
                "the log is shorter than what bundle {sequence} reports"
            ))),
            None => Ok(self.compared),
        }
    }
}

fn tampered(message: String) -> Error {
    Error::integrity("LOG-TAMPERED", message)
        .hint("stop the line, keep a copy of the home as it is, and tell headquarters")
}
