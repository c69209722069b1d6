//! What the fuzz targets call of this crate that nobody else may: the text of a key file, apart from its folder.

pub use crate::file::fuzzed as key_file;
