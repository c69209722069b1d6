//! SoftHSM writes what it knows of a token, its PINs above all, into one file of the token's folder, and does so anew at
//! every login: it cuts the file short and then fills it (SoftHSM 2.6.1, `ObjectFile::store`). Whoever is killed or fails
//! between the two leaves it empty, and SoftHSM does not find the token any more, nor any of its keys.
//!
//! So a copy is kept beside it before the first login of a process, under a name that SoftHSM does not look at, and an empty
//! file is filled again before the module is started. The copy holds what the file holds: the token's own key, encrypted
//! under its PINs. One of before a change of the PIN stays until the next such login.
//!
//! Others may put folders beside that of the token: only a folder and files of this user's own are touched, and no links
//! are followed. Whatever cannot be done is left undone: nothing is worse then than it was.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use rustix::fs::{AtFlags, FlockOperation, Mode, OFlags};

use super::disk::token_folder;

/// What SoftHSM knows of a token, which it locks while it writes it.
const TOKEN: &str = "token.object";
/// The copy, and the copy before it has its name.
const COPY: &str = "token.object.kept";
const COPY_COMING: &str = "token.object.coming";

/// More than SoftHSM knows of a token.
const BYTES_MAX: u64 = 64 * 1024;

/// How often, and after how long a pause, a lock is tried that somebody else has.
const TRIES: usize = 100;
const PAUSE: Duration = Duration::from_millis(10);

/// Tokens of which this process has kept a copy. Not again: whoever closes a file gives up every lock that the process has
/// on it, and from the first login on the module may have one.
static KEPT: Mutex<BTreeSet<String>> = Mutex::new(BTreeSet::new());

/// Whether this is the file of SoftHSM's own module.
pub(super) fn is_of_softhsm(module: &Path) -> bool {
    let name = module.file_name().unwrap_or_default().to_string_lossy();
    name.contains("softhsm")
}

/// Keeps a copy of what SoftHSM knows of the token with this serial number, before this process logs in to it.
pub(super) fn keep(serial: &str) {
    let mut kept = KEPT.lock().unwrap_or_else(PoisonError::into_inner);
    if !kept.insert(serial.to_owned()) {
        return;
    }
    each_token(|name, token| {
        if serial_of(name).is_some_and(|is| is == serial) {
            let _ = keep_in(token);
        }
    });
}

/// Fills what SoftHSM knows of a token again, wherever that is empty and there is a copy. The module must not be at work in
/// this process.
pub(super) fn mend() {
    each_token(|name, token| {
        if serial_of(name).is_some() {
            let _ = mend_in(token);
        }
    });
}

/// The folders of tokens that are this user's own.
fn each_token(mut act: impl FnMut(&str, &File)) {
    let tokens = token_folder().and_then(|folder| fs::read_dir(folder).ok());
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    for token in tokens.into_iter().flatten().flatten() {
        let opened = rustix::fs::open(token.path(), flags, Mode::empty()).map(File::from);
        if let Ok(folder) = opened
            && is_own(&folder)
        {
            act(&token.file_name().to_string_lossy(), &folder);
        }
    }
}

/// The serial number of the token in a folder of this name: SoftHSM names both by one UUID.
fn serial_of(folder: &str) -> Option<String> {
    let parts: Vec<&str> = folder.split('-').collect();
    let is_uuid = parts.iter().map(|part| part.len()).eq([8, 4, 4, 4, 12])
        && folder.chars().all(|c| c == '-' || c.is_ascii_hexdigit());
    is_uuid.then(|| parts[3..].concat())
}

fn keep_in(token: &File) -> io::Result<()> {
    // Whoever else keeps a copy is waited for.
    lock_with(|| Ok(token.try_lock()?))?;
    let mut file = open_own(token, TOKEN, OFlags::RDONLY)?;
    lock(&file, FlockOperation::NonBlockingLockShared)?;
    let is = read(&mut file)?;
    drop(file);
    let copy = open_own(token, COPY, OFlags::RDONLY).and_then(|mut copy| read(&mut copy));
    if is_blank(&is) || copy.is_ok_and(|copy| copy == is) {
        return Ok(());
    }
    let remove = || rustix::fs::unlinkat(token, COPY_COMING, AtFlags::empty());
    // What a process left that was killed.
    let _ = remove();
    put(token, &is).inspect_err(|_| {
        let _ = remove();
    })
}

/// Makes the copy, or puts it in the place of the former one.
fn put(token: &File, is: &[u8]) -> io::Result<()> {
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let made = rustix::fs::openat(token, COPY_COMING, flags, Mode::RUSR | Mode::WUSR)?;
    let mut made = File::from(made);
    made.write_all(is)?;
    made.sync_all()?;
    rustix::fs::renameat(token, COPY_COMING, token, COPY)?;
    token.sync_all()
}

fn mend_in(token: &File) -> io::Result<()> {
    let mut file = open_own(token, TOKEN, OFlags::RDWR)?;
    // Before it is locked, so that a token that is whole is not even waited for.
    if file.metadata()?.len() > 0 && !is_blank(&read(&mut file)?) {
        return Ok(());
    }
    let copy = read(&mut open_own(token, COPY, OFlags::RDONLY)?)?;
    // Whoever was writing it is done then, or dead.
    lock(&file, FlockOperation::NonBlockingLockExclusive)?;
    if is_blank(&copy) || !is_blank(&read(&mut file)?) {
        return Ok(());
    }
    file.set_len(0)?;
    io::Seek::rewind(&mut file)?;
    file.write_all(&copy)?;
    file.sync_all()
}

/// A file of this user's own in a folder, that has no other name.
fn open_own(folder: &File, name: &str, flags: OFlags) -> io::Result<File> {
    let flags = flags | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let file = File::from(rustix::fs::openat(folder, name, flags, Mode::empty())?);
    let found = file.metadata()?;
    match found.is_file() && found.nlink() == 1 && is_own(&file) {
        true => Ok(file),
        false => Err(io::ErrorKind::PermissionDenied.into()),
    }
}

fn is_own(file: &File) -> bool {
    let user = rustix::process::geteuid().as_raw();
    file.metadata().is_ok_and(|found| found.uid() == user)
}

/// From its beginning.
fn read(file: &mut File) -> io::Result<Vec<u8>> {
    io::Seek::rewind(file)?;
    let mut bytes = Vec::new();
    file.take(BYTES_MAX + 1).read_to_end(&mut bytes)?;
    match bytes.len() as u64 <= BYTES_MAX {
        true => Ok(bytes),
        false => Err(io::ErrorKind::FileTooLarge.into()),
    }
}

fn lock(file: &File, how: FlockOperation) -> io::Result<()> {
    lock_with(|| Ok(rustix::fs::fcntl_lock(file, how)?))
}

fn lock_with(lock: impl Fn() -> io::Result<()>) -> io::Result<()> {
    let mut tries = 0;
    while let Err(error) = lock() {
        tries += 1;
        if tries > TRIES {
            return Err(error);
        }
        thread::sleep(PAUSE);
    }
    Ok(())
}

/// Whether nothing was written there, or nothing of that came to the disk.
fn is_blank(bytes: &[u8]) -> bool {
    bytes.iter().all(|byte| *byte == 0)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{PermissionsExt as _, symlink};

    use super::*;

    fn token(is: &[u8]) -> (tempfile::TempDir, File) {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join(TOKEN), is).unwrap();
        let opened = File::open(folder.path()).unwrap();
        (folder, opened)
    }

    #[test]
    fn what_is_blank_is_filled_with_what_was_kept_and_nothing_else_is() {
        let (folder, token) = token(b"first");
        let is = || fs::read(folder.path().join(TOKEN)).unwrap();
        mend_in(&token).unwrap();
        keep_in(&token).unwrap();
        let copy = folder.path().join(COPY);
        let mode = fs::metadata(&copy).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        for blank in [b"".as_slice(), &[0; 9]] {
            fs::write(folder.path().join(TOKEN), blank).unwrap();
            // What is blank is not kept.
            keep_in(&token).unwrap();
            mend_in(&token).unwrap();
            assert_eq!(is(), b"first");
        }
        fs::write(folder.path().join(TOKEN), b"second").unwrap();
        mend_in(&token).unwrap();
        assert_eq!(is(), b"second");
        keep_in(&token).unwrap();
        assert_eq!(fs::read(copy).unwrap(), b"second");
    }

    #[test]
    fn without_a_copy_what_is_blank_stays_so() {
        let (folder, token) = token(b"");
        mend_in(&token).unwrap_err();
        assert_eq!(fs::read(folder.path().join(TOKEN)).unwrap(), b"");
    }

    #[test]
    fn what_is_no_file_of_its_own_is_neither_kept_nor_filled() {
        let (elsewhere, _) = token(b"");
        let target = elsewhere.path().join(TOKEN);
        for link in [
            |target: &Path, name: &Path| symlink(target, name),
            |target: &Path, name: &Path| fs::hard_link(target, name),
        ] {
            let (folder, token) = token(b"");
            fs::write(folder.path().join(COPY), b"somebody's").unwrap();
            fs::remove_file(folder.path().join(TOKEN)).unwrap();
            link(&target, &folder.path().join(TOKEN)).unwrap();
            mend_in(&token).unwrap_err();
            assert_eq!(fs::read(&target).unwrap(), b"");
            fs::write(&target, b"a secret").unwrap();
            keep_in(&token).unwrap_err();
            let copy = fs::read(folder.path().join(COPY)).unwrap();
            assert_eq!(copy, b"somebody's");
            fs::write(&target, b"").unwrap();
        }
    }

    #[test]
    fn a_token_is_known_by_the_whole_name_of_its_folder() {
        let name = "6790d6ec-bc25-6bf8-d549-d18e8e9bc017";
        assert_eq!(serial_of(name), Some("d549d18e8e9bc017".to_owned()));
        for name in [
            "zzd549-d18e8e9bc017",
            "d549d18e8e9bc017",
            "6790d6ec-bc25-6bf8-d549-d18e8e9bc01g",
        ] {
            assert_eq!(serial_of(name), None, "{name}");
        }
    }
}
