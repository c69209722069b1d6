//! `hq audit log`: a vault's log as it was reported, in the rows that `site audit log` has.

use std::path::Path;

use mintmark_console::{Console, Exit, Failure};
use mintmark_ledger::entry::{Entry, LogSequence};
use mintmark_ledger::row::{Row, Rows};

use super::vault_named;
use crate::home::Home;
use crate::import::kept;
use crate::import::records::Records;
use crate::keyring::Keyring;
use crate::registry::{bundles, devices};
use crate::serials::Serials;

/// Records that are read at a time.
const CHUNK_RECORDS: usize = 1024;

pub(super) fn run(
    home: Option<&Path>,
    named: &str,
    from: u64,
    console: &Console,
) -> Result<Exit, Failure> {
    let home = Home::read_hq(home)?;
    let registry = home.registry()?;
    let record = home.record();
    let vault = vault_named(&registry.sql, named)?;
    let held = bundles::of_vault(&registry.sql, &vault.name)?;
    if held.is_empty() {
        console.note(format!("{} has reported nothing yet", vault.name));
        return Ok(Exit::Done);
    }
    let ring = Keyring::new(&home.config, console)?;
    let serials = Serials::new(&ring);
    let audit = ring.audit()?;
    let opener = audit.opener();
    // A serial that cannot be told is left out; the log itself does not name it there.
    let known = |reservation| {
        let unit = devices::by_reservation(&registry.sql, &vault.name, reservation).ok()??;
        let cipher = serials.of(&vault).ok()?;
        Some(cipher.serial(unit.record.account, unit.record.slot, unit.record.issue))
    };
    let show = |row: Row| -> Result<(), Failure> {
        if row.sequence.number() < from {
            return Ok(());
        }
        if console.is_json() {
            console
                .json_line(&row)
                .map_err(|error| Failure::output(&error))?;
        } else {
            console.line(row.to_string());
        }
        Ok(())
    };
    // From the beginning whatever is asked for, as a signature is of something that stands before it.
    let mut rows = Rows::new();
    for held in held {
        let bundle = kept::bundle(&record, &vault, &held)?;
        let read = |number| kept::segment(&record, bundle.content(), number);
        let mut records = Records::new(bundle.content(), &read, opener);
        loop {
            let chunk = records.chunk(CHUNK_RECORDS)?;
            if chunk.is_empty() {
                break;
            }
            for (sequence, raw) in chunk {
                match Entry::from_cbor(&raw) {
                    Ok(entry) => {
                        for row in rows.push(LogSequence(sequence), &entry, &known) {
                            show(row)?;
                        }
                    }
                    Err(error) => {
                        console.warn(format!("record {sequence} cannot be read: {error}"));
                    }
                }
            }
        }
    }
    rows.finish().map_or(Ok(()), show)?;
    Ok(Exit::Done)
}
