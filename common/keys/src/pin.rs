//! Where a PIN comes from: a file that the URI names, or a prompt. Never arguments, never the environment.

use std::fs::{self, File};
use std::io::{self, Read};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use zeroize::{Zeroize, Zeroizing};

use crate::error::Error;
use crate::locked::LockedPin;

/// A PIN or passphrase, wiped when dropped.
pub type Pin = Zeroizing<String>;

/// Asks a person for a PIN. The text says which store it is for, such as `PIN of the token "vault" (serial 5f2c)`,
/// without punctuation at its end. An error means that nobody could be asked, or that the person cancelled.
pub type Prompt<'a> = &'a dyn Fn(&str) -> io::Result<Pin>;

/// Longest PIN file. Tokens take 255 bytes at most; passphrases of key files can be longer.
pub(crate) const PIN_BYTES_MAX: usize = 1024;

/// How a store gets its PIN, at its first use and at every later one.
pub(crate) enum KeptPin {
    /// It has a keypad of its own (CKF_PROTECTED_AUTHENTICATION_PATH).
    Keypad,
    /// From this file, which is read each time: so the PIN is in memory for no longer than a login takes.
    File(PathBuf),
    /// Somebody typed it, and will not be there to type it again.
    Typed(LockedPin),
}

impl KeptPin {
    /// The PIN of `store`: from `source`, which is read again at each use if it is a file that stays, else as it was read or
    /// typed at `question`.
    pub(crate) fn of(
        source: Option<&Path>,
        prompt: Prompt<'_>,
        store: &str,
        question: &str,
    ) -> Result<Self, Error> {
        let pin = obtain(source, prompt, store, question)?;
        match source {
            // A pipe gives its PIN once.
            Some(path) if path.is_file() => Self::file(path),
            _ => Self::typed(&pin, store),
        }
    }

    /// In the file `path`, which not every user of this machine may reach. That is asked here, when a store is opened, and
    /// not at its later uses: what is exposed meanwhile is no better for a line that stops.
    pub(crate) fn file(path: &Path) -> Result<Self, Error> {
        expect_unexposed(path)?;
        Ok(Self::File(path.into()))
    }

    /// Keeps what was typed for `store`.
    pub(crate) fn typed(pin: &Pin, store: &str) -> Result<Self, Error> {
        let too_long = || {
            let reason = format!("it is longer than {PIN_BYTES_MAX} bytes");
            io::Error::new(io::ErrorKind::InvalidInput, reason)
        };
        LockedPin::copied(pin)
            .map(Self::Typed)
            .ok_or_else(|| Error::PinNotGiven {
                store: store.into(),
                cause: too_long(),
            })
    }

    /// The PIN for one login; `None` if the token asks for it itself.
    pub(crate) fn obtain(&self) -> Result<Option<Pin>, Error> {
        match self {
            Self::Keypad => Ok(None),
            Self::File(path) => read(path).map(Some),
            Self::Typed(pin) => Ok(Some(pin.copy())),
        }
    }
}

/// The PIN for `store`: from `source` if there is one, else asked with `question`.
pub(crate) fn obtain(
    source: Option<&Path>,
    prompt: Prompt<'_>,
    store: &str,
    question: &str,
) -> Result<Pin, Error> {
    let pin = match source {
        Some(path) => {
            expect_unexposed(path)?;
            read(path)?
        }
        None => ask(prompt, store, question)?,
    };
    if pin.is_empty() {
        Err(Error::PinEmpty {
            store: store.into(),
        })
    } else {
        Ok(pin)
    }
}

/// A PIN that is new, kept as [`KeptPin::of`] keeps one: a person types it twice.
pub(crate) fn kept_new(
    source: Option<&Path>,
    prompt: Prompt<'_>,
    store: &str,
) -> Result<KeptPin, Error> {
    if source.is_some() {
        return KeptPin::of(source, prompt, store, "");
    }
    let pin = obtain(None, prompt, store, &format!("New PIN for {store}"))?;
    if ask(prompt, store, &format!("The same PIN again for {store}"))? != pin {
        return Err(Error::PinMismatch {
            store: store.into(),
        });
    }
    KeptPin::typed(&pin, store)
}

fn ask(prompt: Prompt<'_>, store: &str, question: &str) -> Result<Pin, Error> {
    prompt(question).map_err(|cause| Error::PinNotGiven {
        store: store.into(),
        cause,
    })
}

/// Reads a PIN file: one line of UTF-8, its newline optional.
pub(crate) fn read(path: &Path) -> Result<Pin, Error> {
    let unreadable = |reason: String| Error::PinSourceUnreadable {
        path: path.into(),
        reason,
    };
    // The room is reserved at once: a vector that grows leaves copies of the PIN behind.
    let mut bytes = Zeroizing::new(Vec::with_capacity(PIN_BYTES_MAX + 2));
    let file = File::open(path).map_err(|error| unreadable(error.to_string()))?;
    file.take(PIN_BYTES_MAX as u64 + 1)
        .read_to_end(&mut bytes)
        .map_err(|error| unreadable(error.to_string()))?;
    if bytes.len() > PIN_BYTES_MAX {
        return Err(unreadable(format!(
            "it is longer than {PIN_BYTES_MAX} bytes"
        )));
    }
    if bytes.last() == Some(&b'\n') {
        bytes.pop();
        if bytes.last() == Some(&b'\r') {
            bytes.pop();
        }
    }
    if bytes.is_empty() {
        return Err(unreadable("it is empty".into()));
    }
    if bytes.iter().any(|byte| matches!(byte, b'\n' | b'\r' | 0)) {
        return Err(unreadable("it has more than one line".into()));
    }
    match String::from_utf8(std::mem::take(&mut *bytes)) {
        Ok(text) => Ok(Zeroizing::new(text)),
        Err(error) => {
            error.into_bytes().zeroize();
            Err(unreadable("it is not UTF-8".into()))
        }
    }
}

/// Refuses a PIN file that every user of this machine can read or write, and every folder above it lets them pass. Its group
/// may: services are given their secrets so.
fn expect_unexposed(path: &Path) -> Result<(), Error> {
    let unreadable = |error: io::Error| Error::PinSourceUnreadable {
        path: path.into(),
        reason: error.to_string(),
    };
    let metadata = fs::metadata(path).map_err(unreadable)?;
    let mode = metadata.permissions().mode() & 0o7777;
    if !metadata.is_file() || mode & 0o006 == 0 {
        return Ok(());
    }
    // Of a link, what counts is where it leads: others need not take the link. What has no name is in no folder.
    let real = path.canonicalize();
    let folders = real.iter().flat_map(|real| real.ancestors().skip(1));
    for folder in folders {
        let folder = fs::metadata(folder).map_err(unreadable)?;
        if folder.permissions().mode() & 0o001 == 0 {
            return Ok(());
        }
    }
    Err(Error::PinSourceExposed {
        path: path.into(),
        mode,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pin_of(content: &[u8]) -> Result<Pin, Error> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("pin");
        std::fs::write(&path, content).unwrap();
        std::fs::set_permissions(&path, PermissionsExt::from_mode(0o600)).unwrap();
        read(&path)
    }

    #[test]
    fn one_trailing_newline_is_no_part_of_the_pin() {
        assert_eq!(*pin_of(b"1234\n").unwrap(), "1234");
        assert_eq!(*pin_of(b"1234\r\n").unwrap(), "1234");
        assert_eq!(*pin_of(b"1234").unwrap(), "1234");
        assert_eq!(*pin_of(b" 12 34 ").unwrap(), " 12 34 ");
    }

    #[test]
    fn a_file_that_is_no_pin_is_an_error_of_its_own() {
        for content in [
            &b""[..],
            b"\n",
            b"1234\n5678\n",
            b"\xff\xfe",
            b"12\x0034",
            &[b'1'; 1025],
        ] {
            assert_eq!(pin_of(content).unwrap_err().code(), "PIN-SOURCE-UNREADABLE");
        }
        assert_eq!(
            read(Path::new("/nonexistent/pin")).unwrap_err().code(),
            "PIN-SOURCE-UNREADABLE"
        );
    }

    #[test]
    fn an_empty_answer_is_refused() {
        let empty: Prompt<'_> = &|_| Ok(Pin::default());
        assert_eq!(
            obtain(None, empty, "the store", "PIN").unwrap_err().code(),
            "PIN-EMPTY"
        );
    }

    #[test]
    fn a_cancelled_prompt_is_an_error_of_its_own() {
        let cancelled: Prompt<'_> = &|_| Err(io::ErrorKind::Interrupted.into());
        assert_eq!(
            obtain(None, cancelled, "the store", "PIN")
                .unwrap_err()
                .code(),
            "PIN-NOT-GIVEN"
        );
    }

    fn set_mode(path: &Path, mode: u32) {
        fs::set_permissions(path, PermissionsExt::from_mode(mode)).unwrap();
    }

    #[test]
    fn a_pin_file_that_every_user_can_reach_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        set_mode(folder.path(), 0o755);
        let path = folder.path().join("pin");
        fs::write(&path, "1234").unwrap();
        let never: Prompt<'_> = &|_| Err(io::ErrorKind::Unsupported.into());
        let open = || KeptPin::of(Some(&path), never, "the store", "PIN");
        for mode in [0o600, 0o640, 0o400, 0o660] {
            set_mode(&path, mode);
            open().unwrap();
        }
        for mode in [0o644, 0o602, 0o666, 0o604] {
            set_mode(&path, mode);
            for error in [open().err(), KeptPin::file(&path).err()] {
                let error = error.unwrap();
                assert_eq!(error.code(), "PIN-SOURCE-EXPOSED", "{mode:o}");
                assert!(error.hint().unwrap().contains("chmod 600"), "{error}");
            }
        }
    }

    #[test]
    fn a_pin_file_in_a_folder_that_others_do_not_pass_is_not_exposed() {
        let folder = tempfile::tempdir().unwrap();
        let secrets = folder.path().join("secrets");
        let below = secrets.join("below");
        fs::create_dir_all(&below).unwrap();
        let path = below.join("pin");
        fs::write(&path, "1234").unwrap();
        set_mode(&path, 0o644);
        for folder in [folder.path(), &below] {
            set_mode(folder, 0o755);
        }
        for mode in [0o700, 0o750, 0o754] {
            set_mode(&secrets, mode);
            KeptPin::file(&path).unwrap();
        }
        for mode in [0o755, 0o711] {
            set_mode(&secrets, mode);
            let error = KeptPin::file(&path).err().unwrap();
            assert_eq!(error.code(), "PIN-SOURCE-EXPOSED", "{mode:o}");
        }
        // A link in a folder of one's own leads past it.
        let own = tempfile::tempdir().unwrap();
        let link = own.path().join("pin");
        std::os::unix::fs::symlink(&path, &link).unwrap();
        let error = KeptPin::file(&link).err().unwrap();
        assert_eq!(error.code(), "PIN-SOURCE-EXPOSED");
    }

    #[test]
    fn a_store_that_is_open_does_not_stop_for_the_rights_of_its_pin_file() {
        let folder = tempfile::tempdir().unwrap();
        set_mode(folder.path(), 0o755);
        let path = folder.path().join("pin");
        fs::write(&path, "1234").unwrap();
        set_mode(&path, 0o600);
        let kept = KeptPin::file(&path).unwrap();
        set_mode(&path, 0o644);
        assert_eq!(*kept.obtain().unwrap().unwrap(), "1234");
        assert!(KeptPin::file(&path).is_err());
    }

    #[test]
    fn a_pin_that_comes_through_a_pipe_is_kept_and_one_of_a_file_is_not() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("pin");
        std::fs::write(&file, "1234").unwrap();
        std::fs::set_permissions(&file, PermissionsExt::from_mode(0o600)).unwrap();
        let never: Prompt<'_> = &|_| Err(io::ErrorKind::Unsupported.into());
        let kept = |path: &Path| KeptPin::of(Some(path), never, "the store", "PIN").unwrap();
        assert!(matches!(kept(&file), KeptPin::File(path) if path == file));
        let pipe = folder.path().join("pipe");
        rustix::fs::mkfifoat(
            rustix::fs::CWD,
            &pipe,
            rustix::fs::Mode::RUSR | rustix::fs::Mode::WUSR,
        )
        .unwrap();
        let writer = std::thread::spawn({
            let pipe = pipe.clone();
            move || std::fs::write(pipe, "5678\n").unwrap()
        });
        let typed = kept(&pipe);
        writer.join().unwrap();
        assert!(matches!(typed, KeptPin::Typed(_)));
        assert_eq!(*typed.obtain().unwrap().unwrap(), "5678");
    }
}
