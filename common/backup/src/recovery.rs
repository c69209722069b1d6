//! The recovery key: X25519 (RFC 7748), made in memory, whose private half is never in a file unless somebody asks for that.

use std::fmt;
use std::path::Path;

use mintmark_console::files;
use mintmark_protocol::backup::RECOVERY_KEY_BYTES;
use mintmark_protocol::encryption::random;
use mintmark_protocol::identifier::Fingerprint;
use x25519_dalek::{PublicKey, StaticSecret};
use zeroize::Zeroizing;

use crate::Error;

/// What the file with the public half begins with.
const PREFIX: &str = "mintmark-recovery-key-1-";
/// Hexadecimal digits of the check behind it.
const CHECK_DIGITS: usize = 8;
/// Hexadecimal digits of an id that people compare.
const SHORT_DIGITS: usize = 16;
/// The largest such file, in bytes.
const FILE_BYTES_MAX: u64 = 4096;

/// The private half.
pub struct RecoveryKey(Zeroizing<[u8; RECOVERY_KEY_BYTES]>);

impl RecoveryKey {
    /// Makes one.
    ///
    /// # Errors
    /// When the system gives no randomness.
    pub fn generate() -> Result<Self, Error> {
        Ok(Self(Zeroizing::new(random()?)))
    }

    /// The key of these bytes; every 32 bytes are one (RFC 7748 section 5).
    pub fn new(bytes: Zeroizing<[u8; RECOVERY_KEY_BYTES]>) -> Self {
        Self(bytes)
    }

    /// Its bytes.
    pub(crate) fn as_bytes(&self) -> &[u8; RECOVERY_KEY_BYTES] {
        &self.0
    }

    /// The public half.
    pub fn public(&self) -> RecoveryPublicKey {
        let secret = StaticSecret::from(*self.0);
        RecoveryPublicKey(PublicKey::from(&secret).to_bytes())
    }
}

impl fmt::Debug for RecoveryKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "RecoveryKey({})", self.public())
    }
}

/// The public half, which is a point that somebody can have the private half of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RecoveryPublicKey([u8; RECOVERY_KEY_BYTES]);

impl RecoveryPublicKey {
    /// The key of these bytes.
    ///
    /// # Errors
    /// [`Error::RecoveryKey`] for a point of low order: what is sealed to one anybody opens (RFC 7748 section 6.1).
    pub fn new(bytes: [u8; RECOVERY_KEY_BYTES], what: impl fmt::Display) -> Result<Self, Error> {
        expect_contributory(&bytes, what)?;
        Ok(Self(bytes))
    }

    /// Reads the file that `backup key` wrote.
    ///
    /// # Errors
    /// [`Error::RecoveryKey`], or what the file system refuses.
    pub fn read(path: &Path) -> Result<Self, Error> {
        let shown = path.display().to_string();
        let wrong = |why| Error::RecoveryKey {
            what: shown.clone(),
            why,
        };
        let bytes = files::read_limited(path, FILE_BYTES_MAX)?;
        let text = std::str::from_utf8(&bytes).map_err(|_| wrong("it is no text"))?;
        let rest = text.trim_ascii_end().strip_prefix(PREFIX);
        let rest = rest.ok_or_else(|| wrong("it does not begin as one does"))?;
        let (key, check) = rest
            .split_once('-')
            .ok_or_else(|| wrong("its check is missing"))?;
        let mut point = [0; RECOVERY_KEY_BYTES];
        hex::decode_to_slice(key, &mut point)
            .map_err(|_| wrong("64 hexadecimal digits were expected"))?;
        let key = Self::new(point, &shown)?;
        // Digits of another case are another text, and none that was written here.
        if key.to_text().trim_ascii_end() != text.trim_ascii_end() || check.len() != CHECK_DIGITS {
            return Err(wrong("its check does not fit"));
        }
        Ok(key)
    }

    /// The text of that file.
    pub fn to_text(&self) -> String {
        let check: String = self.id().to_string().chars().take(CHECK_DIGITS).collect();
        format!("{PREFIX}{}-{check}\n", hex::encode(self.0))
    }

    /// Its bytes.
    pub fn as_bytes(&self) -> &[u8; RECOVERY_KEY_BYTES] {
        &self.0
    }

    /// What it is known by: SHA-256 of its bytes.
    pub fn id(&self) -> Fingerprint {
        Fingerprint::of(&self.0)
    }
}

impl fmt::Display for RecoveryPublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let id = self.id().to_string();
        f.write_str(id.get(..SHORT_DIGITS).unwrap_or(&id))
    }
}

/// Refuses a point with which every key agrees on nothing.
pub(crate) fn expect_contributory(
    point: &[u8; RECOVERY_KEY_BYTES],
    what: impl fmt::Display,
) -> Result<(), Error> {
    // Scalars are multiples of the cofactor (RFC 7748 section 5), so any one finds out.
    let any = StaticSecret::from([1; RECOVERY_KEY_BYTES]);
    let agreed = any.diffie_hellman(&PublicKey::from(*point));
    if agreed.was_contributory() {
        return Ok(());
    }
    Err(Error::RecoveryKey {
        what: what.to_string(),
        why: "it is a point of low order, to which nothing can be sealed",
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_public_half_is_read_back_and_no_changed_character_of_it_is() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("recovery.pub");
        let key = RecoveryKey::generate().unwrap().public();
        let text = key.to_text();
        std::fs::write(&path, &text).unwrap();
        assert_eq!(RecoveryPublicKey::read(&path).unwrap(), key);
        for at in 0..text.trim_end().len() {
            let mut changed = text.clone().into_bytes();
            changed[at] ^= 1;
            std::fs::write(&path, &changed).unwrap();
            let error = RecoveryPublicKey::read(&path).unwrap_err();
            assert_eq!(error.code(), "RECOVERY-KEY-INVALID", "character {at}");
        }
    }

    #[test]
    fn a_public_half_ends_with_a_line_as_editors_write_it_and_with_nothing_else() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("recovery.pub");
        let key = RecoveryKey::generate().unwrap().public();
        let text = key.to_text();
        for (end, is_read) in [
            ("", true),
            ("\r\n", true),
            (" \n\n", true),
            ("\u{b}", false),
            ("\u{a0}", false),
            ("\u{3000}\n", false),
        ] {
            std::fs::write(&path, format!("{}{end}", text.trim_end())).unwrap();
            assert_eq!(RecoveryPublicKey::read(&path).is_ok(), is_read, "{end:?}");
        }
    }

    #[test]
    fn a_point_of_low_order_is_no_recovery_key() {
        // Those of order 1, 2, 4 and 8, and 2^255 - 19 and its neighbours that stand for the first two.
        let low = [
            "0000000000000000000000000000000000000000000000000000000000000000",
            "0100000000000000000000000000000000000000000000000000000000000000",
            "e0eb7a7c3b41b8ae1656e3faf19fc46ada098deb9c32b1fd866205165f49b800",
            "5f9c95bca3508c24b1d0b1559c83ef5b04445cc4581c8e86d8224eddd09f1157",
            "ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
            "edffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
            "eeffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
        ];
        for point in low {
            let point = hex::decode(point).unwrap().try_into().unwrap();
            assert!(RecoveryPublicKey::new(point, "x").is_err());
        }
        let nine = RecoveryPublicKey::new([9; 32], "x");
        assert!(nine.is_ok());
    }

    #[test]
    fn a_private_half_is_never_shown() {
        let key = RecoveryKey::new(Zeroizing::new([0x5a; 32]));
        assert!(!format!("{key:?}").contains("5a5a"));
    }
}
