//! What each command does: it reads its arguments, has the vault act, and says what came of it.

pub(crate) mod audit;
pub(crate) mod completion;
pub(crate) mod crl;
pub(crate) mod device;
pub(crate) mod doctor;
pub(crate) mod entitlement;
pub(crate) mod init;
pub(crate) mod issue;
pub(crate) mod key;
pub(crate) mod manual;
pub(crate) mod media;
pub(crate) mod recover;
pub(crate) mod rotate;
pub(crate) mod status;

use mintmark_console::{Console, Exit, Failure};
use serde::Serialize;

use crate::failure::Result;

/// Seconds since 1970 by this machine's clock; a clock before 1970 counts as 1970.
pub(crate) fn now() -> u64 {
    std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .map_or(0, |since| since.as_secs())
}

/// The program, as the log names it.
pub(crate) const SOFTWARE: &str = concat!("site ", env!("CARGO_PKG_VERSION"));

/// Writes the one JSON object of a command.
pub(crate) fn json(console: &Console, value: &impl Serialize) -> Result<Exit> {
    console
        .json(value)
        .map_err(|error| Failure::output(&error))?;
    Ok(Exit::Done)
}
