//! Secrets in memory that is kept out of the swap space.

use std::fmt;
use std::ops::Deref;

use region::LockGuard;
use zeroize::Zeroize;

use crate::pin::{PIN_BYTES_MAX, Pin};

/// Bytes in memory pages of their own. Locks count by page, not by owner: were two secrets in one page, the first to go
/// would unlock the other. The pages of Linux have 4 KiB, or 16 KiB on some ARM machines.
#[repr(align(16384))]
struct Pages<const BYTES: usize>([u8; BYTES]);

/// Locked pages. Wiped when dropped.
struct Locked<const BYTES: usize> {
    // First, since fields are dropped in this order: the pages are unlocked before they are given back.
    lock: Option<LockGuard>,
    pages: Box<Pages<BYTES>>,
}

impl<const BYTES: usize> Locked<BYTES> {
    fn blank() -> Self {
        let pages = Box::new(Pages([0; BYTES]));
        let lock = region::lock(pages.0.as_ptr(), pages.0.len()).ok();
        Self { lock, pages }
    }
}

impl<const BYTES: usize> Drop for Locked<BYTES> {
    fn drop(&mut self) {
        self.pages.0.zeroize();
    }
}

/// A PIN that somebody typed, kept for as long as its store is open: a token that went away wants it again.
pub(crate) struct LockedPin {
    bytes: Locked<PIN_BYTES_MAX>,
    length: usize,
}

impl LockedPin {
    /// A copy of `pin`; `None` if it is longer than any PIN.
    pub(crate) fn copied(pin: &Pin) -> Option<Self> {
        let mut bytes = Locked::blank();
        let length = pin.len();
        bytes
            .pages
            .0
            .get_mut(..length)?
            .copy_from_slice(pin.as_bytes());
        Some(Self { bytes, length })
    }

    /// A copy for one login.
    pub(crate) fn copy(&self) -> Pin {
        let bytes = self.bytes.pages.0.get(..self.length).unwrap_or_default();
        Pin::new(std::str::from_utf8(bytes).unwrap_or_default().to_owned())
    }
}

/// A secret of 32 bytes, kept out of the swap space where the system allows it (mlock(2); `ulimit -l` says how much),
/// and wiped when dropped. It is never shown.
///
/// The lock keeps it off the disk while the machine runs. It does not keep it from whoever may read this process's
/// memory, nor out of a hibernation image.
pub struct LockedSecret(Locked<32>);

impl LockedSecret {
    /// A copy of `secret`. The original is the caller's to wipe.
    pub fn copied(secret: &[u8; 32]) -> Self {
        let mut locked = Locked::blank();
        locked.pages.0.copy_from_slice(secret);
        Self(locked)
    }

    /// The secret that `fill` writes, straight into the locked memory.
    ///
    /// # Errors
    /// Those of `fill`.
    pub fn filled<E>(fill: impl FnOnce(&mut [u8; 32]) -> Result<(), E>) -> Result<Self, E> {
        let mut locked = Locked::blank();
        fill(&mut locked.pages.0)?;
        Ok(Self(locked))
    }

    /// Whether the memory is locked indeed.
    pub fn is_locked(&self) -> bool {
        self.0.lock.is_some()
    }
}

impl Deref for LockedSecret {
    type Target = [u8; 32];

    fn deref(&self) -> &[u8; 32] {
        &self.0.pages.0
    }
}

impl fmt::Debug for LockedSecret {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("LockedSecret(..)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_locked_secret_is_in_locked_memory_and_never_shown() {
        let secrets = [[1; 32], [2; 32]].map(|secret| LockedSecret::copied(&secret));
        let locked_kib = || {
            let status = std::fs::read_to_string("/proc/self/status").unwrap();
            let line = status.lines().find_map(|line| line.strip_prefix("VmLck:"));
            let kib = line.unwrap().trim().strip_suffix(" kB").unwrap().to_owned();
            kib.trim().parse::<u64>().unwrap()
        };
        assert!(secrets.iter().all(LockedSecret::is_locked));
        assert!(locked_kib() >= 8, "{} KiB are locked", locked_kib());
        assert_eq!(*secrets[0], [1; 32]);
        assert_eq!(
            format!("{secrets:?}"),
            "[LockedSecret(..), LockedSecret(..)]"
        );
        // Each has its own pages: the second stays locked when the first goes.
        let [first, second] = secrets;
        drop(first);
        assert!(locked_kib() >= 4, "nothing is locked any more");
        assert_eq!(*second, [2; 32]);
    }

    #[test]
    fn a_fill_that_fails_gives_no_secret() {
        assert_eq!(
            LockedSecret::filled(|_| Err("no")).map(|_| ()).unwrap_err(),
            "no"
        );
        let filled = LockedSecret::filled(|bytes| {
            bytes.fill(9);
            Ok::<_, Error>(())
        });
        assert_eq!(*filled.unwrap(), [9; 32]);
    }

    #[test]
    fn a_typed_pin_is_kept_whole_or_not_at_all() {
        for text in ["4711", "\u{20ac}", &"1".repeat(1024)] {
            let pin = Pin::new(text.into());
            assert_eq!(LockedPin::copied(&pin).unwrap().copy(), pin);
        }
        assert!(LockedPin::copied(&Pin::new("1".repeat(1025))).is_none());
    }

    type Error = std::convert::Infallible;
}
