//! Secrets in memory that is kept out of the swap space.

use std::fmt;
use std::ops::Deref;

use region::LockGuard;
use zeroize::Zeroize;

/// 32 bytes in memory pages of their own. Locks count by page, not by owner: were two secrets in one page, the first to
/// go would unlock the other. The pages of Linux have 4 KiB, or 16 KiB on some ARM machines.
#[repr(align(16384))]
struct Pages([u8; 32]);

/// A secret of 32 bytes, kept out of the swap space where the system allows it (mlock(2); `ulimit -l` says how much),
/// and wiped when dropped. It is never shown.
///
/// The lock keeps it off the disk while the machine runs. It does not keep it from whoever may read this process's
/// memory, nor out of a hibernation image.
pub struct LockedSecret {
    // First, since fields are dropped in this order: the pages are unlocked before they are given back.
    lock: Option<LockGuard>,
    pages: Box<Pages>,
}

impl LockedSecret {
    /// A copy of `secret`. The original is the caller's to wipe.
    pub fn copied(secret: &[u8; 32]) -> Self {
        let mut locked = Self::blank();
        locked.pages.0.copy_from_slice(secret);
        locked
    }

    /// The secret that `fill` writes, straight into the locked memory.
    ///
    /// # Errors
    /// Those of `fill`.
    pub fn filled<E>(fill: impl FnOnce(&mut [u8; 32]) -> Result<(), E>) -> Result<Self, E> {
        let mut locked = Self::blank();
        fill(&mut locked.pages.0)?;
        Ok(locked)
    }

    /// Whether the memory is locked indeed.
    pub fn is_locked(&self) -> bool {
        self.lock.is_some()
    }

    fn blank() -> Self {
        let pages = Box::new(Pages([0; 32]));
        let lock = region::lock(pages.0.as_ptr(), pages.0.len()).ok();
        Self { lock, pages }
    }
}

impl Deref for LockedSecret {
    type Target = [u8; 32];

    fn deref(&self) -> &[u8; 32] {
        &self.pages.0
    }
}

impl Drop for LockedSecret {
    fn drop(&mut self) {
        self.pages.0.zeroize();
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

    type Error = std::convert::Infallible;
}
