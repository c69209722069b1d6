//! What was cut off the end of a log as torn, kept: nobody can be certain that it was never acknowledged.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use super::Position;
use super::disk::Disk;

/// How many cuts are kept; older ones go.
const KEPT_MAX: usize = 8;

/// The name of the `number`th cut at a position.
fn name(at: Position, number: u32) -> String {
    format!("torn-{:016x}-{number}.bin", at.0)
}

/// Whether a name is that of a cut.
fn is_cut(name: &str) -> bool {
    let number = name
        .strip_prefix("torn-")
        .and_then(|rest| rest.strip_suffix(".bin"));
    number.is_some_and(|number| {
        let digits = |b: u8| b.is_ascii_digit() || (b'a'..=b'f').contains(&b) || b == b'-';
        number.bytes().all(digits)
    })
}

/// Keeps what is about to be cut off at a position in a file of its own beside the log, durably, and gives its path.
/// The very same bytes are kept once, so that a recovery which was interrupted can be done again.
///
/// # Errors
/// What the operating system said; then nothing must be cut.
pub(super) fn keep(
    disk: &dyn Disk,
    folder: &Path,
    handle: &fs::File,
    at: Position,
    bytes: &[u8],
) -> io::Result<PathBuf> {
    let mut number = 0;
    let (path, file) = loop {
        let path = folder.join(name(at, number));
        match disk.create(&path) {
            Ok(file) => break (path, file),
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                let found = fs::symlink_metadata(&path)?;
                if found.is_file() && fs::read(&path)? == bytes {
                    // It may not be durable yet.
                    disk.sync_file(&fs::File::open(&path)?)?;
                    disk.sync_folder(handle)?;
                    return Ok(path);
                }
                number = number.checked_add(1).ok_or(error)?;
            }
            Err(error) => return Err(error),
        }
    };
    let kept = disk
        .write_at(&file, bytes, 0)
        .and_then(|()| disk.sync_file(&file))
        .and_then(|()| disk.sync_folder(handle));
    if let Err(error) = kept {
        // Half a copy helps nobody, and takes room on a full disk.
        let _ = fs::remove_file(&path);
        return Err(error);
    }
    discard_old(folder, &path);
    Ok(path)
}

/// Removes the oldest cuts, if there are too many; that this fails is no failure.
fn discard_old(folder: &Path, newest: &Path) {
    let Ok(entries) = fs::read_dir(folder) else {
        return;
    };
    let mut cuts: Vec<_> = entries
        .flatten()
        .filter(|entry| entry.file_name().to_str().is_some_and(is_cut))
        .filter_map(|entry| {
            let found = entry.metadata().ok()?;
            let path = entry.path();
            (found.is_file() && path != newest).then(|| (found.modified().ok(), path))
        })
        .collect();
    cuts.sort_unstable();
    let surplus = (cuts.len() + 1).saturating_sub(KEPT_MAX);
    for (_, path) in cuts.into_iter().take(surplus) {
        let _ = fs::remove_file(path);
    }
}
