//! What a command says when it is done.

use crate::{Console, Exit, Failure};

/// Says a result on standard output: as one JSON object with `--json`, else in lines.
///
/// # Errors
/// `OUTPUT-FAILED`, when the object cannot be written; of lines, [`run`](crate::run()) says so when the command ends.
pub fn say(
    console: &Console,
    json: &serde_json::Value,
    lines: impl IntoIterator<Item = String>,
) -> Result<Exit, Failure> {
    if console.is_json() {
        console
            .json(json)
            .map_err(|error| Failure::output(&error))?;
    } else {
        for line in lines {
            console.line(line);
        }
    }
    Ok(Exit::Done)
}
