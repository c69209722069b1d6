//! What each command does: it reads its arguments, has the vault act, and says what came of it.

pub(crate) mod audit;
pub(crate) mod backup;
pub(crate) mod clock;
pub(crate) mod completion;
pub(crate) mod crl;
pub(crate) mod device;
pub(crate) mod doctor;
pub(crate) mod entitlement;
pub(crate) mod init;
pub(crate) mod issue;
pub(crate) mod key;
pub(crate) mod log;
pub(crate) mod manual;
pub(crate) mod media;
pub(crate) mod mistaken;
pub(crate) mod recover;
pub(crate) mod request;
pub(crate) mod restore;
pub(crate) mod rotate;
pub(crate) mod station;
pub(crate) mod status;
mod tally;

use mintmark_console::{Console, Exit, Failure};
use serde::Serialize;

pub(crate) use crate::clock::now;
use crate::failure::Result;

/// The program, as the log names it.
pub(crate) const SOFTWARE: &str = concat!("site ", env!("CARGO_PKG_VERSION"));

/// Writes the one JSON object of a command.
pub(crate) fn json(console: &Console, value: &impl Serialize) -> Result<Exit> {
    console
        .json(value)
        .map_err(|error| Failure::output(&error))?;
    Ok(Exit::Done)
}
