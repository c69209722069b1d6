//! SoftHSM writes what it knows of a token, its PINs above all, into one file of the token's folder, and does so anew at
//! every login: it cuts the file short and then fills it (SoftHSM 2.6.1, `ObjectFile::store`). Whoever is killed or fails
//! between the two leaves it empty, and SoftHSM does not find the token any more, nor any of its keys.
//!
//! So a copy is kept beside it before each login, under a name that SoftHSM does not look at, and an empty file is filled again
//! before the module is started. The copy holds what the file holds: the token's own key, encrypted under its PINs. One of
//! before a change of the PIN stays until the next login here.

use std::fs::{self, File, OpenOptions, Permissions};
use std::io::{self, Write as _};
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::thread;
use std::time::Duration;

use rustix::fs::FlockOperation;

use super::disk::token_folder;

/// What SoftHSM knows of a token.
const TOKEN: &str = "token.object";
/// What SoftHSM locks while it writes that.
const LOCK: &str = "token.lock";
/// The copy, and the copy before it has its name.
const COPY: &str = "token.object.kept";
const COPY_COMING: &str = "token.object.coming";

/// More than SoftHSM knows of a token.
const BYTES_MAX: u64 = 64 * 1024;

/// How often, and after how long a pause, the lock of whoever writes is tried.
const TRIES: usize = 100;
const PAUSE: Duration = Duration::from_millis(10);

/// Keeps a copy of what SoftHSM knows of the token with this serial number. Where that cannot be done, nothing is worse than
/// it was.
pub(super) fn keep(serial: &str) {
    let Some(tokens) = token_folder().and_then(|folder| fs::read_dir(folder).ok()) else {
        return;
    };
    for token in tokens.flatten() {
        // The folder's name is a UUID, and its end is the serial number.
        let name = token.file_name().to_string_lossy().replace('-', "");
        if !serial.is_empty() && name.ends_with(serial) {
            let _ = keep_in(&token.path());
        }
    }
}

fn keep_in(token: &Path) -> io::Result<()> {
    let (is, again) = (read(&token.join(TOKEN))?, read(&token.join(TOKEN))?);
    let copy = token.join(COPY);
    // Somebody else may be writing it.
    if is_blank(&is) || is != again || read(&copy).is_ok_and(|copy| copy == is) {
        return Ok(());
    }
    let coming = token.join(COPY_COMING);
    let _ = fs::remove_file(&coming);
    let mut file = OpenOptions::new()
        .write(true)
        .create_new(true)
        .open(&coming)?;
    file.set_permissions(Permissions::from_mode(0o600))?;
    file.write_all(&is)?;
    file.sync_all()?;
    fs::rename(&coming, &copy)?;
    File::open(token)?.sync_all()
}

/// Fills what SoftHSM knows of a token again, wherever that is empty and there is a copy. The module must not be at work in this
/// process. Where that cannot be done, the token is not found, as before.
pub(super) fn mend() {
    let tokens = token_folder().and_then(|folder| fs::read_dir(folder).ok());
    for token in tokens.into_iter().flatten().flatten() {
        let _ = mend_in(&token.path());
    }
}

fn mend_in(token: &Path) -> io::Result<()> {
    let object = token.join(TOKEN);
    if !is_blank(&read(&object)?) {
        return Ok(());
    }
    let copy = read(&token.join(COPY))?;
    let lock = OpenOptions::new()
        .read(true)
        .write(true)
        .open(token.join(LOCK))?;
    let mut tries = 0;
    while let Err(error) = rustix::fs::fcntl_lock(&lock, FlockOperation::NonBlockingLockExclusive) {
        tries += 1;
        if tries > TRIES {
            return Err(error.into());
        }
        thread::sleep(PAUSE);
    }
    // Whoever was writing it is done now, or dead.
    if is_blank(&copy) || !is_blank(&read(&object)?) {
        return Ok(());
    }
    let mut file = OpenOptions::new().write(true).open(&object)?;
    file.write_all(&copy)?;
    file.sync_all()
}

fn read(path: &Path) -> io::Result<Vec<u8>> {
    let size = fs::metadata(path)?.len();
    match size <= BYTES_MAX {
        true => fs::read(path),
        false => Err(io::ErrorKind::FileTooLarge.into()),
    }
}

/// Whether nothing was written there, or nothing of that came to the disk.
fn is_blank(bytes: &[u8]) -> bool {
    bytes.iter().all(|byte| *byte == 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn token(is: &[u8]) -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join(TOKEN), is).unwrap();
        fs::write(folder.path().join(LOCK), []).unwrap();
        folder
    }

    #[test]
    fn what_is_blank_is_filled_with_what_was_kept_and_nothing_else_is() {
        let token = token(b"first");
        let is = || fs::read(token.path().join(TOKEN)).unwrap();
        assert!(mend_in(token.path()).is_ok());
        keep_in(token.path()).unwrap();
        let copy = token.path().join(COPY);
        let mode = fs::metadata(&copy).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        for blank in [b"".as_slice(), &[0; 5]] {
            fs::write(token.path().join(TOKEN), blank).unwrap();
            // What is blank is not kept.
            keep_in(token.path()).unwrap();
            mend_in(token.path()).unwrap();
            assert_eq!(is(), b"first");
        }
        fs::write(token.path().join(TOKEN), b"second").unwrap();
        mend_in(token.path()).unwrap();
        assert_eq!(is(), b"second");
        keep_in(token.path()).unwrap();
        assert_eq!(fs::read(copy).unwrap(), b"second");
    }

    #[test]
    fn without_a_copy_what_is_blank_stays_so() {
        let token = token(b"");
        assert!(mend_in(token.path()).is_err());
        assert_eq!(fs::read(token.path().join(TOKEN)).unwrap(), b"");
    }
}
