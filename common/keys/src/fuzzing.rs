//! What the fuzz targets call of this crate that nobody else may: the text of a key file, apart from its folder, and a PIN
//! file.

use std::path::Path;

use crate::Error;

pub use crate::file::fuzzed as key_file;

/// The PIN in a file, whoever may read that.
///
/// # Errors
/// `PIN-SOURCE-UNREADABLE`.
pub fn pin_file(path: &Path) -> Result<String, Error> {
    crate::pin::read(path).map(|pin| pin.to_string())
}
