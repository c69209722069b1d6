//! `site request --dry-run`: whether the vault is there and takes this station, and which requests it would be sent. What it
//! would answer to them, the vault alone could say, and it is not asked.

use std::time::Duration;

use mintmark_console::{Console, Exit};

use super::super::tally::Tally;
use super::{Arguments, device_of, runtime, verified};
use crate::delivery::Output;
use crate::failure::Result;
use crate::station::{Line, Patience, Vault};
use crate::submission::Submissions;

/// How many rows are printed together.
const ROWS_MAX: usize = 256;

pub(super) fn execute(
    arguments: &Arguments,
    vault: &Vault,
    submissions: &Submissions,
    console: &Console,
) -> Result<Exit> {
    Output::expect_place(&arguments.output)?;
    let patience = Patience(Duration::from_secs(arguments.patience_seconds));
    let greeting = async { vault.greet(&mut Line::default(), patience).await };
    runtime()?.block_on(greeting)?;
    let mut tally = Tally::new(&arguments.product, submissions.names().len(), console);
    for names in submissions.names().chunks(ROWS_MAX) {
        for name in names {
            let file = submissions.path(name);
            let row = match submissions.read(name) {
                Err(error) => tally.unreadable(&file, &error),
                Ok(submission) => match verified(&submission) {
                    Ok(_) => tally.would_ask(&file, device_of(&submission)),
                    Err(failure) => {
                        let device = device_of(&submission);
                        tally.refused(&file, &submission, device, failure.into())
                    }
                },
            };
            tally.add(row);
        }
        tally.print()?;
    }
    tally.finish(true);
    Ok(tally.exit())
}
