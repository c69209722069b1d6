//! Data objects of a folder: files `<label>.<n>.data` beside the key files.
//!
//! They are not encrypted: who may read the folder may know them, and who may write it could put old ones back in any
//! case. A value carries a check of its own.

use std::fs::File;
use std::path::{Path, PathBuf};

use super::folder::{self, failed};
use crate::data::{VALUE_BYTES_MAX, demand_count, demand_size};
use crate::error::Error;
use crate::label::Label;

/// What data files end with.
const EXTENSION: &str = ".data";

/// What a file ends with that is not whole yet.
const PART: &str = ".part";

/// The number of a data file of this label.
fn number(name: &str, label: &str) -> Option<u32> {
    let digits = name
        .strip_prefix(label)?
        .strip_prefix('.')?
        .strip_suffix(EXTENSION)?;
    // One way to write each number, so that no two files have one.
    let canonical = digits.bytes().all(|byte| byte.is_ascii_digit()) && !digits.starts_with('0');
    if canonical { digits.parse().ok() } else { None }
}

fn path(folder: &Path, label: &str, number: u32) -> PathBuf {
    folder.join(file_name(label, number))
}

fn file_name(label: &str, number: u32) -> String {
    format!("{label}.{number}{EXTENSION}")
}

/// The names in the folder that are text.
fn names(folder: &Path) -> Result<Vec<String>, Error> {
    let mut names = Vec::new();
    for entry in folder.read_dir().map_err(failed("list", folder))? {
        let entry = entry.map_err(failed("list", folder))?;
        names.extend(entry.file_name().into_string().ok());
    }
    Ok(names)
}

/// The names of every data file, of whatever label, sorted.
pub(super) fn all(folder: &Path) -> Result<Vec<String>, Error> {
    let mut all = names(folder)?;
    all.retain(|name| {
        name.strip_suffix(EXTENSION)
            .and_then(|stem| stem.rsplit_once('.'))
            .and_then(|(label, _)| Label::try_from(label).ok())
            .is_some_and(|label| number(name, label.as_str()).is_some())
    });
    all.sort_unstable();
    Ok(all)
}

/// The numbers of the label's files, sorted.
fn numbers(folder: &Path, label: &str) -> Result<Vec<u32>, Error> {
    let mut numbers: Vec<u32> = names(folder)?
        .iter()
        .filter_map(|name| number(name, label))
        .collect();
    numbers.sort_unstable();
    Ok(numbers)
}

/// One writer at a time, as far as programs of this kind go: ends with the value, and with the process.
fn lock(folder: &Path) -> Result<File, Error> {
    let file = File::open(folder).map_err(failed("open", folder))?;
    file.lock().map_err(failed("lock", folder))?;
    Ok(file)
}

/// The file's bytes, of which more than the most are cut; `None` if it went away.
fn content(folder: &Path, label: &str, number: u32) -> Result<Option<Vec<u8>>, Error> {
    folder::read_bytes(&path(folder, label, number), VALUE_BYTES_MAX as u64)
}

/// The values of the label's files.
pub(super) fn read(folder: &Path, store: &str, label: Label<'_>) -> Result<Vec<Vec<u8>>, Error> {
    let _lock = lock(folder)?;
    let label = label.as_str();
    let numbers = numbers(folder, label)?;
    demand_count(store, label, numbers.len())?;
    let mut values = Vec::with_capacity(numbers.len());
    for number in numbers {
        if let Some(value) = content(folder, label, number)? {
            demand_size(store, label, value.len())?;
            values.push(value);
        }
    }
    Ok(values)
}

/// Makes a file, unless there is one of this value.
pub(super) fn add(folder: &Path, store: &str, label: Label<'_>, value: &[u8]) -> Result<(), Error> {
    let label = label.as_str();
    demand_size(store, label, value.len())?;
    let _lock = lock(folder)?;
    let numbers = numbers(folder, label)?;
    for &number in &numbers {
        if content(folder, label, number)?.is_some_and(|is| is == value) {
            // Whoever made it may have been cut before it was durable.
            return settle(folder, &path(folder, label, number));
        }
    }
    demand_count(store, label, numbers.len() + 1)?;
    remove_parts(folder, label)?;
    let free = (1..).find(|number| numbers.binary_search(number).is_err());
    let number = free.unwrap_or(u32::MAX);
    let not_kept = || Error::DataNotKept {
        store: store.into(),
        label: label.into(),
    };
    if !folder::write_new(folder, &file_name(label, number), value)?
        || content(folder, label, number)?.is_none_or(|is| is != value)
    {
        return Err(not_kept());
    }
    Ok(())
}

/// Removes the files of this value.
pub(super) fn remove(folder: &Path, label: Label<'_>, value: &[u8]) -> Result<(), Error> {
    let label = label.as_str();
    let _lock = lock(folder)?;
    for number in numbers(folder, label)? {
        if content(folder, label, number)?.is_some_and(|is| is == value) {
            folder::remove(folder, &path(folder, label, number))?;
        }
    }
    Ok(())
}

fn settle(folder: &Path, path: &Path) -> Result<(), Error> {
    File::open(path)
        .and_then(|file| file.sync_all())
        .map_err(failed("sync", path))?;
    folder::sync(folder)
}

/// Removes what writers of this label left that were cut. Under the lock, none is at work.
fn remove_parts(folder: &Path, label: &str) -> Result<(), Error> {
    for name in names(folder)? {
        let whole = name
            .strip_prefix('.')
            .and_then(|name| name.strip_suffix(PART))
            .and_then(|name| name.rsplit_once('.'))
            .map(|(name, _)| name);
        if whole.is_some_and(|name| number(name, label).is_some()) {
            let part = folder.join(&name);
            std::fs::remove_file(&part).map_err(failed("remove", &part))?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_data_file_belongs_to_one_label_and_has_one_number() {
        assert_eq!(number("anchor.1.data", "anchor"), Some(1));
        assert_eq!(number("anchor.20.data", "anchor"), Some(20));
        assert_eq!(number("a.1.1.data", "a.1"), Some(1));
        for name in [
            "a.1.1.data",
            "a..data",
            "a.01.data",
            "a.0.data",
            "a.+1.data",
            "a.4294967296.data",
            "a.1.pem",
            "a1.data",
            "ab.1.data",
            ".a.1.data",
        ] {
            assert_eq!(number(name, "a"), None, "{name}");
        }
    }
}
