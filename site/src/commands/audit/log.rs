//! `site audit log`: the log, one line for each thing that happened. A request and its answer are one line.

use std::path::Path;

use mintmark_console::{Console, Exit, Failure};
use mintmark_ledger::entry::LogSequence;
use mintmark_ledger::row::{Row, Rows};

use crate::failure::Result;
use crate::vault::reading::Reading;

/// Shows the log.
pub(super) fn execute(from: u64, home: Option<&Path>, console: &Console) -> Result<Exit> {
    let reading = Reading::open(home, console)?;
    let show = |row: Row| -> Result<()> {
        if row.sequence.number() < from {
            return Ok(());
        }
        if console.is_json() {
            let written = console.json_line(&row);
            written.map_err(|error| Failure::output(&error))?;
        } else {
            console.line(row.to_string());
        }
        Ok(())
    };
    // From the beginning whatever is asked for, as a signature is of something that stands before it.
    let mut rows = Rows::new();
    for entry in reading.view().entries(LogSequence(0))? {
        let (sequence, entry) = entry?;
        for row in rows.push(sequence, &entry, &|_| None) {
            show(row)?;
        }
    }
    rows.finish().map_or(Ok(()), show)?;
    Ok(Exit::Done)
}
