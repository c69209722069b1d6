//! A sealed backup of a home folder: what the last item of its file says of the rest.
//!
//! The file is a CBOR sequence (RFC 8742): a mark, one byte string for each chunk, and one that holds this message. What the
//! chunks hold, and how the content key is sealed to a recovery key on paper, is told in docs/formats.md. The message is made
//! last, so that a backup is written in one go, and a file that was not finished has none.
//!
//! ```cddl
//! backup-mark = "mintmark backup"
//! backup = {
//!   1: 1,                              ; format version
//!   2: unix-time,                      ; made at
//!   3: tstr .size (1..64),             ; the program that made it
//!   4: COSE_Key,                       ; the key that signed it
//!   5: bstr .size 32,                  ; the recovery key: X25519, public
//!   6: bstr .size 96,                  ; the content key, sealed to it; see docs/formats.md
//!   7: digest,                         ; SHA-256 of the content key
//!   8: uint,                           ; bytes of the file before this message
//!   9: digest,                         ; SHA-256 of them
//!   10: uint,                          ; files in it
//!   11: uint,                          ; bytes in those
//!   12: backup-log / null,             ; the log, of a vault
//! }
//! backup-log = {
//!   1: lineage,
//!   2: uint,                           ; records
//!   3: digest,                         ; root
//! }
//! backup-entry = {
//!   1: tstr .size (1..512),            ; path in the home
//!   2: uint,                           ; bytes, which follow
//! }
//! ```

use p256::PublicKey;

use crate::Error;
use crate::cbor::{Fields, Map};
use crate::envelope::{Context, Kind, Party, Sign, SignedOne, Verified, sign_one};
use crate::identifier::{Fingerprint, Lineage};
use crate::key::{cose_key, from_cose_key};

/// The text with which a file begins.
pub const MARK: &str = "mintmark backup";
/// The largest message, in bytes.
pub const BACKUP_BYTES_MAX: usize = 4096;
/// Bytes of an X25519 key (RFC 7748 section 5).
pub const RECOVERY_KEY_BYTES: usize = 32;
/// Bytes of a content key that is sealed: an ephemeral key, a nonce, a tag, and the key.
pub const SEALED_KEY_BYTES: usize = 96;
/// The largest head of a file in a backup, in bytes.
pub const ENTRY_BYTES_MAX: usize = 1024;
/// The longest path in a home, in bytes.
pub const PATH_BYTES_MAX: usize = 512;
/// The longest name of a program, in bytes.
const SOFTWARE_BYTES_MAX: usize = 64;
const WHAT: &str = "backup";

/// The log of a vault, as far as a backup has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BackupLog {
    /// Its lineage.
    pub lineage: Lineage,
    /// How many records.
    pub size: u64,
    /// The root of its Merkle tree.
    pub root: Fingerprint,
}

/// What a backup says of itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Backup {
    /// Unix seconds.
    pub made_at: u64,
    /// The program that made it.
    pub software: String,
    /// The key that signed it: the report key of HQ, `vault-sign` of a vault.
    pub signer: PublicKey,
    /// The recovery key, as a point of X25519.
    pub recovery_key: [u8; RECOVERY_KEY_BYTES],
    /// The content key, sealed to it.
    pub sealed_key: [u8; SEALED_KEY_BYTES],
    /// SHA-256 of the content key: there is one key that opens it, whatever was chosen.
    pub commitment: Fingerprint,
    /// Bytes of the file before the message.
    pub sealed_bytes: u64,
    /// SHA-256 of them.
    pub sealed_digest: Fingerprint,
    /// How many files.
    pub files: u64,
    /// How many bytes in them.
    pub bytes: u64,
    /// The log, of a vault.
    pub log: Option<BackupLog>,
}

impl Backup {
    fn object_id(made_at: u64) -> String {
        format!("backup-{made_at}")
    }

    /// Signs it with the key that it names. `home` is who the home belongs to: HQ, or a vault.
    ///
    /// # Errors
    /// [`Error::Oversize`], [`Error::KeyOperation`].
    pub fn seal(&self, home: &Party, sign: Sign<'_>) -> Result<Vec<u8>, Error> {
        let context = Context {
            kind: Kind::Backup,
            sender: home.clone(),
            recipient: home.clone(),
            id: Self::object_id(self.made_at),
            commitment: None,
        };
        sign_one(&context, self.to_cbor(), &self.signer, sign)
    }

    /// Opens a message that the key which it names has signed, and says whose home it is of. Whether that key is the right one
    /// is the reader's to know: anybody can make a key.
    ///
    /// # Errors
    /// What refuses the signature or the parties, and what the strict reader refuses.
    pub fn open(bytes: &[u8]) -> Result<(Party, Verified<Self>), Error> {
        let message = SignedOne::read(WHAT, bytes, BACKUP_BYTES_MAX)?;
        let home = message.context.sender.clone();
        message.context.expect(WHAT, Kind::Backup, &home, &home)?;
        if !matches!(home, Party::Hq | Party::Vault(_)) {
            return Err(Error::WrongParty {
                what: WHAT,
                role: "sender",
                expected: "hq or a vault".to_owned(),
                found: home.to_string(),
            });
        }
        let backup = Self::from_cbor(message.payload())?;
        message.verify(&backup.signer)?;
        if message.context.id != Self::object_id(backup.made_at) {
            return Err(Error::PartsDiffer {
                what: WHAT,
                why: "header and content differ in time",
            });
        }
        let (fingerprint, payload) = (message.fingerprint(), message.payload().to_vec());
        let verified = Verified::new(backup, fingerprint, payload, Vec::new());
        Ok((home, verified))
    }

    /// The payload, encoded.
    pub fn to_cbor(&self) -> Vec<u8> {
        let log = self.log.as_ref().map(|log| {
            Map::new()
                .with(1, log.lineage.as_bytes().to_vec())
                .with(2, log.size)
                .with(3, log.root.as_bytes().to_vec())
        });
        Map::new()
            .with(1, crate::FORMAT_VERSION)
            .with(2, self.made_at)
            .with(3, self.software.as_str())
            .with(4, cose_key(&self.signer))
            .with(5, self.recovery_key.to_vec())
            .with(6, self.sealed_key.to_vec())
            .with(7, self.commitment.as_bytes().to_vec())
            .with(8, self.sealed_bytes)
            .with(9, self.sealed_digest.as_bytes().to_vec())
            .with(10, self.files)
            .with(11, self.bytes)
            .with_nullable(12, log)
            .encode()
    }

    /// Reads a payload.
    ///
    /// # Errors
    /// [`Error::Encoding`], [`Error::Shape`] and [`Error::FormatVersion`].
    pub fn from_cbor(bytes: &[u8]) -> Result<Self, Error> {
        let mut fields = Fields::decode(WHAT, bytes, BACKUP_BYTES_MAX)?;
        fields.format_version(1)?;
        let log = match fields.nullable(12)? {
            None => None,
            Some(value) => Some(log(value)?),
        };
        let backup = Self {
            made_at: fields.uint(2)?,
            software: fields.text(3)?,
            signer: from_cose_key(WHAT, fields.required(4)?)?,
            recovery_key: fields.octets(5)?,
            sealed_key: fields.octets(6)?,
            commitment: fields.octets(7)?,
            sealed_bytes: fields.uint(8)?,
            sealed_digest: fields.octets(9)?,
            files: fields.uint(10)?,
            bytes: fields.uint(11)?,
            log,
        };
        if backup.software.is_empty() || backup.software.len() > SOFTWARE_BYTES_MAX {
            return Err(fields.wrong(3, "a text of 1 to 64 bytes was expected"));
        }
        fields.finish()?;
        Ok(backup)
    }
}

fn log(value: ciborium::Value) -> Result<BackupLog, Error> {
    let mut fields = Fields::new("log of a backup", value)?;
    let log = BackupLog {
        lineage: fields.octets(1)?,
        size: fields.uint(2)?,
        root: fields.octets(3)?,
    };
    fields.finish()?;
    Ok(log)
}

/// The head of a file in a backup, and of the whole of them, which has no path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Its path in the home: names with `/` between them, none of them special.
    pub path: String,
    /// How many bytes follow.
    pub bytes: u64,
}

impl Entry {
    /// The head, encoded.
    pub fn to_cbor(&self) -> Vec<u8> {
        Map::new()
            .with(1, self.path.as_str())
            .with(2, self.bytes)
            .encode()
    }

    /// Reads a head. The path is one that stays within a folder.
    ///
    /// # Errors
    /// [`Error::Encoding`] and [`Error::Shape`].
    pub fn from_cbor(bytes: &[u8]) -> Result<Self, Error> {
        let mut fields = Fields::decode("file of a backup", bytes, ENTRY_BYTES_MAX)?;
        let entry = Self {
            path: fields.text(1)?,
            bytes: fields.uint(2)?,
        };
        if !is_inner_path(&entry.path) {
            return Err(fields.wrong(1, "a path within the home was expected"));
        }
        fields.finish()?;
        Ok(entry)
    }
}

/// Whether a path names something below a folder, whatever stands there: no empty names, no `.` and `..`, nothing that is not
/// printed as it is.
pub fn is_inner_path(path: &str) -> bool {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
    path.len() <= PATH_BYTES_MAX
        && path
            .split('/')
            .all(|name| !name.is_empty() && !name.starts_with('.') && name.bytes().all(plain))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_that_leads_out_of_the_home_is_none() {
        for good in [
            "config.toml",
            "log/0000000000000000.log",
            "record/sent/berlin_v1/dispatch-1-000001.cose",
        ] {
            assert!(is_inner_path(good), "{good}");
        }
        for bad in [
            "",
            "/etc/passwd",
            "..",
            "a/../b",
            "a//b",
            "a/",
            ".hidden",
            "a/.b",
            "a\\b",
            "a\nb",
            "ä",
        ] {
            assert!(!is_inner_path(bad), "{bad}");
        }
        assert!(!is_inner_path(&"x".repeat(PATH_BYTES_MAX + 1)));
    }
}
