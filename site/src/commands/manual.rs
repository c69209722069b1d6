//! `site manual DIR`.

use std::path::Path;

use mintmark_console::{Console, Exit};

use crate::command_line::CommandLine;
use crate::failure::Result;

/// Writes the manual pages into a folder.
pub(crate) fn execute(dir: &Path, console: &Console) -> Result<Exit> {
    mintmark_console::manual::<CommandLine>(dir)?;
    console.note(format!("the manual pages are in {}", dir.display()));
    Ok(Exit::Done)
}
