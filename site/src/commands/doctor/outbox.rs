//! What was sealed for headquarters and is to be carried there yet: nothing is reported past a bundle that is damaged.

use mintmark_console::Check;
use mintmark_ledger::entry::{Body, BundleSealed, LogSequence};

use super::{bad, good};
use crate::failure::Result;
use crate::vault::Outbox;
use crate::vault::reading::Reading;

const OUTBOX: &str = "outbox";

/// Whether every bundle that headquarters has not acknowledged is what was sealed.
pub(super) fn outbox(reading: &Reading) -> Check {
    match read(reading) {
        Ok(0) => good(OUTBOX, "headquarters has acknowledged every bundle"),
        Ok(1) => good(
            OUTBOX,
            "1 bundle is to be acknowledged, and is what was sealed",
        ),
        Ok(count) => good(
            OUTBOX,
            format!("{count} bundles are to be acknowledged, and are what was sealed"),
        ),
        Err(error) => bad(OUTBOX, &error),
    }
}

fn read(reading: &Reading) -> Result<usize> {
    let (home, state) = (reading.home(), reading.state());
    let Some(lineage) = state.lineage() else {
        return Ok(0);
    };
    let mut owed = Vec::new();
    for entry in reading.view().entries(LogSequence(0))? {
        match entry?.1.body {
            // What was sealed before is of another history.
            Body::Restored(_) => owed.clear(),
            Body::BundleSealed(sealed) if sealed.sequence > state.bundles().acknowledged => {
                owed.push(sealed);
            }
            _ => {}
        }
    }
    let (outbox, key) = (Outbox::open(home, lineage)?, &reading.facts().identity.sign);
    for BundleSealed {
        sequence,
        fingerprint,
        ..
    } in &owed
    {
        let (_, bundle) = outbox.bundle(home, *sequence, fingerprint, key)?;
        for (number, facts) in (1..).zip(&bundle.content().segments) {
            outbox.segment(home, *sequence, number, facts)?;
        }
    }
    Ok(owed.len())
}
