//! How far the log is, and what the token is said to hold of it.

use mintmark_console::Console;
use mintmark_ledger::state::State;
use serde::Serialize;

/// The log's end.
#[derive(Serialize)]
pub(super) struct Log {
    lineage: Option<String>,
    /// The lineage before, if a restore was declared.
    parent: Option<String>,
    log_size: u64,
    log_root: String,
    /// Records below this one gave way to what is kept of them; 0: none did.
    log_pruned: u64,
    /// The token's anchor as the log states it; the token itself is not asked.
    anchor: Option<Anchor>,
}

/// What the log says of it.
#[derive(Serialize)]
struct Anchor {
    counter: u64,
    /// How many records there were when that was stated.
    log_size: u64,
}

impl Log {
    pub(super) fn of(state: &State) -> Self {
        Self {
            lineage: state.lineage().map(|lineage| lineage.to_string()),
            parent: state.parent().map(|lineage| lineage.to_string()),
            log_size: state.size(),
            log_root: state.root().to_string(),
            log_pruned: state.pruned().map(|file| file.end).max().unwrap_or(0),
            anchor: state.anchor_stated_at().map(|at| Anchor {
                counter: state.anchor(),
                log_size: at.number(),
            }),
        }
    }

    pub(super) fn show(&self, console: &Console) {
        console.line(format!("log         {} records", self.log_size));
        console.line(format!("root        {}", self.log_root));
        if self.log_pruned > 0 {
            console.line(format!("pruned      records below {}", self.log_pruned));
        }
        if let Some(Anchor { counter, log_size }) = &self.anchor {
            console.line(format!(
                "anchor      version {counter}, stated at record {log_size}"
            ));
        }
    }
}
