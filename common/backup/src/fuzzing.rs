//! What the fuzz targets call of the code that is private here: the files in a backup, apart from the file that they are in.

/// A stream of files that comes in these pieces: how many they are, and how many bytes; `None` if it is none, or is not over.
pub fn files<'a>(pieces: impl Iterator<Item = &'a [u8]>) -> Option<(u64, u64)> {
    crate::opening::files_of(pieces)
}
