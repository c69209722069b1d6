//! What the fuzz targets call of this crate that nobody else may: what homes, media and auditors' files hold.

use std::path::Path;

use mintmark_console::{Console, GlobalOptions};

use crate::commands::media::stick::Stick;
use crate::config::Config;

pub use crate::audit_grant::fuzzed as audit_grant;

/// Reads the configuration of a home and writes it again; none if it is none.
pub fn config(bytes: &[u8]) -> Option<Vec<u8>> {
    Config::parse(bytes).ok()?.to_bytes().ok()
}

/// Paths, and what stands there as far as it can be read.
pub type Files = Vec<(String, Option<Vec<u8>>)>;

/// The paths of the files with names of ours on a stick, and what of each can be read of at most `bytes_max` bytes.
///
/// # Errors
/// The code of what is wrong with the stick.
pub fn stick(dir: &Path, bytes_max: usize) -> Result<Files, String> {
    let (out, err) = (Box::new(std::io::sink()), Box::new(std::io::sink()));
    let console = Console::into_streams("hq", &GlobalOptions::default(), out, err);
    let stick = Stick::open(dir).map_err(|failure| failure.code.to_string())?;
    let files = stick
        .files(&console)
        .map_err(|failure| failure.code.to_string())?;
    let read = files.into_iter().map(|found| {
        let bytes = stick.read(&found.path, bytes_max).ok();
        (found.path, bytes)
    });
    Ok(read.collect())
}
