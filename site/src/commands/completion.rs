//! `site completion SHELL`.

use mintmark_console::{Exit, Failure, Shell};

use crate::command_line::CommandLine;
use crate::failure::Result;

/// Writes a completion script to standard output.
pub(crate) fn execute(shell: Shell) -> Result<Exit> {
    match mintmark_console::completion::<CommandLine>(shell, &mut std::io::stdout().lock()) {
        Err(error) if error.kind() != std::io::ErrorKind::BrokenPipe => {
            Err(Failure::output(&error).into())
        }
        _ => Ok(Exit::Done),
    }
}
