//! Reading a backup: first who signed it and that it is whole, then what it holds. Nothing of it is written anywhere before.

use std::path::Path;

use aes_gcm::Aes256Gcm;
use aes_gcm::aead::{Aead as _, Payload};
use mintmark_protocol::backup::{Backup, ENTRY_BYTES_MAX, Entry, RECOVERY_KEY_BYTES};
use mintmark_protocol::cbor::{HEAD_BYTES_MAX, read_bytes_head};
use mintmark_protocol::envelope::{Party, Verified};
use mintmark_protocol::identifier::{Fingerprint, KeyId};
use mintmark_protocol::key::thumbprint;
use zeroize::Zeroizing;

use crate::file::{CHANGED, CHUNK_BYTES, Reader};
use crate::recovery::{RecoveryPublicKey, expect_contributory};
use crate::sealing::{additional, cipher, nonce};
use crate::{Error, RecoveryKey, Watched};

/// What somebody compared, so that a backup is believed: by whom it was signed, or which one it is.
#[derive(Clone, Copy, Debug)]
pub enum Signed {
    /// The key id of the home's key.
    By(KeyId),
    /// The fingerprint of this very backup.
    As(Fingerprint),
}

/// A backup whose message is whole and signed by the key that it names.
pub struct Opened {
    reader: Reader,
    home: Party,
    message: Verified<Backup>,
}

/// The key that a backup's chunks are encrypted with.
pub struct ContentKey(Zeroizing<[u8; 32]>);

/// What is done with the files of a backup.
pub(crate) trait Sink {
    /// A file begins.
    fn file(&mut self, entry: &Entry) -> Result<(), Error>;
    /// More of it.
    fn data(&mut self, bytes: &[u8]) -> Result<(), Error>;
}

/// Files that are looked at and let go.
pub(crate) struct Nowhere;

impl Sink for Nowhere {
    fn file(&mut self, _: &Entry) -> Result<(), Error> {
        Ok(())
    }

    fn data(&mut self, _: &[u8]) -> Result<(), Error> {
        Ok(())
    }
}

impl Opened {
    /// Opens a file. Anybody can have made and signed it.
    ///
    /// # Errors
    /// [`Error::Damaged`], and what refuses the message.
    pub fn open(path: &Path) -> Result<Self, Error> {
        let (reader, message) = Reader::open(path)?;
        let (home, message) = Backup::open(&message)?;
        Ok(Self {
            reader,
            home,
            message,
        })
    }

    /// Whose home it says to be of.
    pub fn home(&self) -> &Party {
        &self.home
    }

    /// What it says of itself.
    pub fn backup(&self) -> &Backup {
        self.message.content()
    }

    /// SHA-256 of that.
    pub fn fingerprint(&self) -> Fingerprint {
        self.message.fingerprint()
    }

    /// The key id of the key that signed it.
    pub fn signer(&self) -> KeyId {
        thumbprint(&self.backup().signer)
    }

    /// Refuses a backup that is not the one, or not by the one, that somebody compared.
    ///
    /// # Errors
    /// [`Error::Signer`], [`Error::Fingerprint`].
    pub fn expect_signed(&self, signed: Signed) -> Result<(), Error> {
        match signed {
            Signed::By(expected) if expected != self.signer() => Err(Error::Signer {
                expected: expected.to_string(),
                found: self.signer().to_string(),
            }),
            Signed::As(expected) if expected != self.fingerprint() => Err(Error::Fingerprint {
                expected: expected.to_string(),
                found: self.fingerprint().to_string(),
            }),
            _ => Ok(()),
        }
    }

    /// Reads all of it once: it is what was signed.
    ///
    /// # Errors
    /// [`Error::Damaged`]; [`Error::Interrupted`].
    pub fn expect_whole(&mut self, watched: &Watched<'_>) -> Result<(), Error> {
        let read = self.reader.sealed(|count| watched.advance(count))?;
        self.expect_sealed(read, "it is not what was signed")
    }

    fn expect_sealed(&self, read: (u64, Fingerprint), why: &'static str) -> Result<(), Error> {
        let backup = self.message.content();
        if read != (backup.sealed_bytes, backup.sealed_digest) {
            return Err(self.reader.damaged(why));
        }
        Ok(())
    }

    /// How much has to be read for that, in bytes.
    pub fn sealed_bytes(&self) -> u64 {
        self.reader.sealed_bytes()
    }

    /// Opens the content key with the private half of the recovery key.
    ///
    /// # Errors
    /// [`Error::RecoveryKeyOther`]; [`Error::Damaged`] if what it opens to is not what was signed for.
    pub fn unlock(&self, key: &RecoveryKey) -> Result<ContentKey, Error> {
        let backup = self.message.content();
        let sealed = RecoveryPublicKey::new(backup.recovery_key, "what the backup is sealed to")?;
        if key.public() != sealed {
            return Err(Error::RecoveryKeyOther {
                given: key.public().to_string(),
                sealed: sealed.to_string(),
            });
        }
        let damaged = || self.reader.damaged("its content key does not open");
        let opened = open_sealed(key, &backup.sealed_key)?.ok_or_else(damaged)?;
        // One key opens it, whatever the one who made it chose: AES-GCM alone does not commit to a key.
        if Fingerprint::of(&opened) != backup.commitment {
            return Err(damaged());
        }
        let content_key = <[u8; 32]>::try_from(opened.as_slice()).map_err(|_| damaged())?;
        Ok(ContentKey(Zeroizing::new(content_key)))
    }

    /// Hands every file on, in the order in which they were sealed. Only once this returns is it known that they are what
    /// was signed.
    pub(crate) fn read(
        &mut self,
        key: &ContentKey,
        sink: &mut dyn Sink,
        watched: &Watched<'_>,
    ) -> Result<(), Error> {
        let cipher = cipher(&key.0);
        let last = self.reader.chunks.checked_sub(1);
        let last = last.ok_or_else(|| self.reader.damaged("nothing is in it"))?;
        let mut files = Files::default();
        let read = self.reader.each_chunk(|number, stored, reader| {
            let count = stored.len() as u64;
            let plain = decrypt(&cipher, number, number == last, &stored)
                .ok_or_else(|| reader.damaged("a chunk does not open"))?;
            let damaged = || reader.damaged("its files are not what a home has");
            files.take(&plain, sink, &damaged)?;
            watched.advance(count)
        })?;
        // What was handed on is what was signed, and not only what was looked at before.
        self.expect_sealed(read, CHANGED)?;
        let backup = self.message.content();
        if !files.is_over() || (files.count, files.bytes) != (backup.files, backup.bytes) {
            return Err(self
                .reader
                .damaged("its files are not those that were signed for"));
        }
        Ok(())
    }

    /// Decrypts and reads all of it, and keeps nothing.
    ///
    /// # Errors
    /// [`Error::Damaged`].
    pub fn expect_readable(
        &mut self,
        key: &ContentKey,
        watched: &Watched<'_>,
    ) -> Result<(), Error> {
        self.read(key, &mut Nowhere, watched)
    }
}

/// Opens what is sealed to a recovery key; `None` if it does not open.
fn open_sealed(key: &RecoveryKey, sealed: &[u8]) -> Result<Option<Zeroizing<Vec<u8>>>, Error> {
    let Some(ephemeral) = sealed.first_chunk::<RECOVERY_KEY_BYTES>() else {
        return Ok(None);
    };
    expect_contributory(ephemeral, "the ephemeral key in the backup")?;
    let opened = ecies::decrypt(key.as_bytes(), sealed);
    Ok(opened.ok().map(Zeroizing::new))
}

/// Reads a stream of files that comes in these pieces: how many they are, and how many bytes; `None` if it is none, or is not
/// over.
#[cfg(feature = "fuzzing")]
pub(crate) fn files_of<'a>(pieces: impl Iterator<Item = &'a [u8]>) -> Option<(u64, u64)> {
    let mut files = Files::default();
    for piece in pieces {
        let damaged = || Error::Internal("it is damaged");
        files.take(piece, &mut Nowhere, &damaged).ok()?;
    }
    files.is_over().then_some((files.count, files.bytes))
}

fn decrypt(
    cipher: &Aes256Gcm,
    number: u64,
    last: bool,
    stored: &[u8],
) -> Option<Zeroizing<Vec<u8>>> {
    let payload = Payload {
        msg: stored,
        aad: &additional(last),
    };
    let compressed = cipher.decrypt(&nonce(number).into(), payload).ok()?;
    let compressed = Zeroizing::new(compressed);
    let plain = zstd::bulk::decompress(&compressed, CHUNK_BYTES).ok()?;
    Some(Zeroizing::new(plain))
}

/// The stream of files, as far as it came.
#[derive(Default)]
struct Files {
    /// The beginning of a head that is not there whole.
    head: Vec<u8>,
    /// Bytes of the present file that are still to come.
    left: u64,
    count: u64,
    bytes: u64,
}

impl Files {
    fn take(
        &mut self,
        mut plain: &[u8],
        sink: &mut dyn Sink,
        damaged: &dyn Fn() -> Error,
    ) -> Result<(), Error> {
        while !plain.is_empty() {
            if self.left > 0 {
                let count = usize::try_from(self.left)
                    .unwrap_or(usize::MAX)
                    .min(plain.len());
                let (now, rest) = plain.split_at(count);
                sink.data(now)?;
                self.left -= now.len() as u64;
                plain = rest;
                continue;
            }
            // Heads are short and few, and come octet by octet.
            let (octet, rest) = plain.split_at(1);
            self.head.extend_from_slice(octet);
            plain = rest;
            let Some((length, at)) = read_bytes_head(&self.head) else {
                if self.head.len() >= HEAD_BYTES_MAX {
                    return Err(damaged());
                }
                continue;
            };
            if length > ENTRY_BYTES_MAX as u64 {
                return Err(damaged());
            }
            if (self.head.len() - at) as u64 == length {
                let entry = Entry::from_cbor(self.head.get(at..).unwrap_or_default())?;
                self.head.clear();
                self.left = entry.bytes;
                self.count += 1;
                self.bytes = self.bytes.saturating_add(entry.bytes);
                sink.file(&entry)?;
            }
        }
        Ok(())
    }

    fn is_over(&self) -> bool {
        self.left == 0 && self.head.is_empty()
    }
}

#[cfg(test)]
mod judged;

#[cfg(test)]
mod tests {
    use mintmark_console::{Console, GlobalOptions};
    use mintmark_protocol::cbor::bytes_head;
    use p256::SecretKey;
    use p256::ecdsa::signature::Signer as _;
    use p256::ecdsa::{Signature, SigningKey};

    use super::*;
    use crate::{Item, Placing, Subject, Watch, seal};

    /// Whoever had the content key once could put another record between the two looks, which opens as well.
    #[test]
    fn what_changed_after_it_was_compared_is_not_put_back_though_it_opens() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("one");
        let console = Console::new("test", &GlobalOptions::default());
        let watch = Watch::to_the_end(&console);
        let watched = watch.begin("x", 1);
        let key = SecretKey::from_slice(&[1; 32]).unwrap();
        let signing = SigningKey::from(&key);
        let sign = |message: &[u8]| -> Result<Signature, mintmark_protocol::KeyFailure> {
            Ok(signing.sign(message))
        };
        let recovery = RecoveryKey::generate().unwrap();
        let subject = Subject {
            home: Party::Hq,
            made_at: 1_800_000_000,
            software: "test 1".to_owned(),
            signer: key.public_key(),
            log: None,
        };
        let items = vec![
            Item::bytes("record/a", b"genuine".to_vec()),
            Item::bytes("config.toml", b"schema = 1\n".to_vec()),
        ];
        seal(&path, &recovery.public(), subject, items, &sign, &watch).unwrap();

        let mut opened = Opened::open(&path).unwrap();
        opened.expect_whole(&watched).unwrap();
        let content_key = opened.unlock(&recovery).unwrap();
        opened.expect_readable(&content_key, &watched).unwrap();

        // The same files with the same lengths, of which one holds something else.
        let mut stored = Vec::new();
        let read = opened.reader.each_chunk(|_, chunk, _| {
            stored = chunk;
            Ok(())
        });
        read.unwrap();
        let cipher = cipher(&content_key.0);
        let plain = decrypt(&cipher, 0, true, &stored).unwrap();
        let at = plain.windows(7).position(|bytes| bytes == b"genuine");
        let mut changed = plain.to_vec();
        changed[at.unwrap()..][..7].copy_from_slice(b"spuriou");
        let compressed = zstd::bulk::compress(&changed, 3).unwrap();
        let payload = Payload {
            msg: &compressed,
            aad: &additional(true),
        };
        let forged = cipher.encrypt(&nonce(0).into(), payload).unwrap();
        assert_eq!(forged.len(), stored.len());
        let mut whole = std::fs::read(&path).unwrap();
        let head = bytes_head(stored.len() as u64);
        let begins = usize::try_from(opened.sealed_bytes()).unwrap() - stored.len();
        assert_eq!(whole[begins - head.len()..begins], head);
        whole[begins..][..forged.len()].copy_from_slice(&forged);
        std::fs::write(&path, whole).unwrap();

        let error = opened.expect_readable(&content_key, &watched).unwrap_err();
        assert_eq!(error.code(), "BACKUP-DAMAGED");
        assert!(error.to_string().ends_with(CHANGED), "{error}");
        let mut placing = Placing::begin(&folder.path().join("home")).unwrap();
        let error = placing.fill(&mut opened, &content_key, &watched);
        assert_eq!(error.unwrap_err().code(), "BACKUP-DAMAGED");
        drop(placing);
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1);
    }
}
