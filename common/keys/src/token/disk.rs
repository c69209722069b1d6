//! Getting to the disk what SoftHSM wrote: it syncs none of its files, so that a loss of power soon after can take an
//! object that it made, and one that it removed before is gone as well.

use std::env;
use std::fs::{self, File};
use std::io;
use std::path::PathBuf;

use crate::store::StoreFacts;

/// What names SoftHSM's token folder in its configuration.
const TOKEN_FOLDER: &str = "directories.tokendir";

/// Whether the token keeps its objects in files of this machine and does not sync them.
pub(super) fn is_unsynced(facts: &StoreFacts) -> bool {
    facts.manufacturer.starts_with("SoftHSM")
}

/// Makes what the token wrote durable. Its files are of its own format and names, so the whole file system they are on is
/// synced; where SoftHSM's configuration does not tell which one that is, every one of the machine.
pub(super) fn sync() -> io::Result<()> {
    match token_folder().map(File::open) {
        Some(Ok(folder)) => Ok(rustix::fs::syncfs(&folder)?),
        _ => {
            rustix::fs::sync();
            Ok(())
        }
    }
}

/// The folder as SoftHSM finds it: from the file in SOFTHSM2_CONF, or else the user's, or else the machine's.
fn token_folder() -> Option<PathBuf> {
    let named = env::var_os("SOFTHSM2_CONF").map(PathBuf::from);
    let users = env::home_dir().map(|home| home.join(".config/softhsm2/softhsm2.conf"));
    let machines = ["/etc/softhsm2.conf", "/etc/softhsm/softhsm2.conf"];
    let candidates = match named {
        Some(named) => vec![named],
        None => users
            .into_iter()
            .chain(machines.map(PathBuf::from))
            .collect(),
    };
    let text = candidates
        .iter()
        .find_map(|path| fs::read_to_string(path).ok())?;
    folder_of(&text)
}

/// The folder that a configuration names.
fn folder_of(text: &str) -> Option<PathBuf> {
    let mut values = text.lines().filter_map(|line| {
        let (name, value) = line.split('#').next()?.split_once('=')?;
        (name.trim() == TOKEN_FOLDER).then(|| value.trim())
    });
    values
        .next_back()
        .filter(|value| !value.is_empty())
        .map(PathBuf::from)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_token_folder_is_read_as_softhsm_writes_it() {
        let text = "# SoftHSM v2 configuration file\n\ndirectories.tokendir = /var/lib/softhsm/tokens/ # here\n\
                    objectstore.backend = file\nlog.level = INFO\n";
        assert_eq!(folder_of(text), Some("/var/lib/softhsm/tokens/".into()));
        for text in [
            "",
            "# directories.tokendir = /a",
            "directories.tokendir",
            "directories.tokendir =",
            "other = /a",
        ] {
            assert_eq!(folder_of(text), None, "{text:?}");
        }
    }
}
