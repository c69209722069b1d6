//! Making a backup: files into a stream, the stream into chunks, each compressed and encrypted, and the message at the end.

use std::fs::File;
use std::io::Read as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use aes_gcm::aead::{Aead as _, Payload};
use aes_gcm::{Aes256Gcm, Key, KeyInit as _};
use mintmark_protocol::backup::{Backup, BackupLog, Entry, SEALED_KEY_BYTES, is_inner_path};
use mintmark_protocol::cbor::bytes_head;
use mintmark_protocol::encryption::random;
use mintmark_protocol::envelope::{Party, Sign};
use mintmark_protocol::identifier::Fingerprint;
use p256::PublicKey;
use rustix::fs::OFlags;
use zeroize::Zeroizing;

use crate::file::{CHUNK_BYTES, Writer};
use crate::{Error, RecoveryPublicKey, Watch, Watched};

/// Quick, and most of what it can do.
const COMPRESSION: i32 = 3;
const READ_BYTES: usize = 128 * 1024;

/// Whose home it is, and who signs for it.
pub struct Subject {
    /// HQ, or a vault.
    pub home: Party,
    /// Unix seconds.
    pub made_at: u64,
    /// The program.
    pub software: String,
    /// The key that signs.
    pub signer: PublicKey,
    /// The log, of a vault.
    pub log: Option<BackupLog>,
}

/// Where the bytes of a file come from.
enum Source {
    Bytes(Vec<u8>),
    Path(PathBuf),
    Open(File, u64),
}

/// A file of the home.
pub struct Item {
    path: String,
    source: Source,
}

impl Item {
    /// What is in memory.
    pub fn bytes(path: impl Into<String>, bytes: Vec<u8>) -> Self {
        Self {
            path: path.into(),
            source: Source::Bytes(bytes),
        }
    }

    /// A file that never changes. It is opened when its turn comes.
    pub fn file(path: impl Into<String>, file: PathBuf) -> Self {
        Self {
            path: path.into(),
            source: Source::Path(file),
        }
    }

    /// The first bytes of a file that grows, or goes: it is open.
    pub fn beginning(path: impl Into<String>, file: File, bytes: u64) -> Self {
        Self {
            path: path.into(),
            source: Source::Open(file, bytes),
        }
    }

    /// Its path in the home.
    pub fn path(&self) -> &str {
        &self.path
    }

    /// How long it is; nothing of one that is not there.
    pub fn length(&self) -> u64 {
        match &self.source {
            Source::Bytes(bytes) => bytes.len() as u64,
            Source::Path(path) => path.symlink_metadata().map_or(0, |found| found.len()),
            Source::Open(_, bytes) => *bytes,
        }
    }
}

/// What became of a backup.
pub struct Sealed {
    /// What it says of itself.
    pub backup: Backup,
    /// SHA-256 of that.
    pub fingerprint: Fingerprint,
    /// How large the file is, in bytes.
    pub bytes: u64,
}

/// Writes a backup of these files to `output`, where nothing is. It has that name once it is whole, was made durable, and was
/// read back.
///
/// # Errors
/// What keeps a file from being read or written; what the signature fails with; [`Error::Interrupted`].
pub fn seal(
    output: &Path,
    recovery_key: &RecoveryPublicKey,
    subject: Subject,
    items: Vec<Item>,
    sign: Sign<'_>,
    watch: &Watch<'_>,
) -> Result<Sealed, Error> {
    let content_key: Zeroizing<[u8; 32]> = Zeroizing::new(random()?);
    let sealed_key = ecies::encrypt(recovery_key.as_bytes(), &*content_key)
        .ok()
        .and_then(|sealed| <[u8; SEALED_KEY_BYTES]>::try_from(sealed.as_slice()).ok())
        .ok_or(Error::Internal("the content key could not be sealed"))?;
    let mut stream = Stream::new(Writer::create(output)?, &content_key);
    let (mut files, mut bytes) = (0, 0);
    let watched = watch.begin("sealing", items.iter().map(Item::length).sum());
    for item in items {
        files += 1;
        bytes += stream.item(item, &watched)?;
    }
    let mut writer = stream.finish()?;
    let (sealed_bytes, sealed_digest) = writer.sealed();
    let backup = Backup {
        made_at: subject.made_at,
        software: subject.software,
        signer: subject.signer,
        recovery_key: *recovery_key.as_bytes(),
        sealed_key,
        commitment: Fingerprint::of(&*content_key),
        sealed_bytes,
        sealed_digest,
        files,
        bytes,
        log: subject.log,
    };
    writer.item(&backup.seal(&subject.home, sign)?)?;
    drop(watched);
    let watched = watch.begin("reading back", writer.sealed().0);
    Ok(Sealed {
        fingerprint: Fingerprint::of(&backup.to_cbor()),
        bytes: writer.finish(|read| watched.advance(read))?,
        backup,
    })
}

/// The nonce of a chunk: its number from 0. Each backup has a key of its own.
pub(crate) fn nonce(number: u64) -> [u8; 12] {
    let mut nonce = [0; 12];
    let (_, low) = nonce.split_at_mut(4);
    low.copy_from_slice(&number.to_be_bytes());
    nonce
}

/// What is authenticated with a chunk: whether it is the last one.
pub(crate) fn additional(last: bool) -> [u8; 1] {
    [u8::from(last)]
}

pub(crate) fn cipher(content_key: &[u8; 32]) -> Aes256Gcm {
    Aes256Gcm::new(&Key::<Aes256Gcm>::from(*content_key))
}

/// The plaintext on its way into chunks.
struct Stream {
    writer: Writer,
    cipher: Aes256Gcm,
    chunk: Zeroizing<Vec<u8>>,
    chunks: u64,
}

impl Stream {
    fn new(writer: Writer, content_key: &[u8; 32]) -> Self {
        Self {
            writer,
            cipher: cipher(content_key),
            chunk: Zeroizing::new(Vec::with_capacity(CHUNK_BYTES)),
            chunks: 0,
        }
    }

    /// A file: its head as an item, then its bytes. Gives how many there were.
    fn item(&mut self, item: Item, watched: &Watched<'_>) -> Result<u64, Error> {
        let path = item.path;
        if !is_inner_path(&path) {
            return Err(Error::Name { path });
        }
        match item.source {
            Source::Bytes(bytes) => {
                let length = bytes.len() as u64;
                self.head(&path, length)?;
                self.write(&bytes)?;
                watched.advance(length)?;
                Ok(length)
            }
            Source::Open(file, length) => self.file(&path, file, length, watched),
            Source::Path(place) => {
                let flags = OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY;
                let file = std::fs::OpenOptions::new()
                    .read(true)
                    .custom_flags(flags.bits().cast_signed())
                    .open(&place);
                let file = match file {
                    // What arrived at the other end is taken out of a home by whoever works on it meanwhile.
                    Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                        return Err(Error::HomeChanged { path });
                    }
                    file => file.map_err(Error::io(&place))?,
                };
                let metadata = file.metadata().map_err(Error::io(&place))?;
                if !metadata.is_file() {
                    return Err(Error::Name { path });
                }
                let length = self.file(&path, &file, metadata.len(), watched)?;
                let after = file.metadata().map_err(Error::io(&place))?;
                if after.len() != length || after.modified().ok() != metadata.modified().ok() {
                    return Err(Error::HomeChanged { path });
                }
                Ok(length)
            }
        }
    }

    fn head(&mut self, path: &str, bytes: u64) -> Result<(), Error> {
        let head = Entry {
            path: path.to_owned(),
            bytes,
        }
        .to_cbor();
        self.write(&bytes_head(head.len() as u64))?;
        self.write(&head)
    }

    fn file(
        &mut self,
        path: &str,
        file: impl std::io::Read,
        length: u64,
        watched: &Watched<'_>,
    ) -> Result<u64, Error> {
        self.head(path, length)?;
        let mut from = file.take(length);
        let mut buffer = Zeroizing::new(vec![0; READ_BYTES]);
        let mut left = length;
        while left > 0 {
            let read = match from.read(&mut buffer) {
                Ok(read) => read,
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(Error::io(Path::new(path))(error)),
            };
            if read == 0 {
                let path = path.to_owned();
                return Err(Error::HomeChanged { path });
            }
            self.write(buffer.get(..read).unwrap_or_default())?;
            left = left.saturating_sub(read as u64);
            watched.advance(read as u64)?;
        }
        Ok(length)
    }

    fn write(&mut self, mut bytes: &[u8]) -> Result<(), Error> {
        while !bytes.is_empty() {
            // A full chunk waits until it is known whether another one follows.
            if self.chunk.len() == CHUNK_BYTES {
                self.seal_chunk(false)?;
            }
            let room = CHUNK_BYTES - self.chunk.len();
            let (now, rest) = bytes.split_at(room.min(bytes.len()));
            self.chunk.extend_from_slice(now);
            bytes = rest;
        }
        Ok(())
    }

    fn seal_chunk(&mut self, last: bool) -> Result<(), Error> {
        let compressed = zstd::bulk::compress(&self.chunk, COMPRESSION)
            .map_err(|_| Error::Internal("a chunk could not be compressed"))?;
        let compressed = Zeroizing::new(compressed);
        let payload = Payload {
            msg: &compressed,
            aad: &additional(last),
        };
        let stored = self
            .cipher
            .encrypt(&nonce(self.chunks).into(), payload)
            .map_err(|_| Error::Internal("a chunk could not be encrypted"))?;
        self.writer.item(&stored)?;
        self.chunks += 1;
        self.chunk.clear();
        Ok(())
    }

    fn finish(mut self) -> Result<Writer, Error> {
        self.seal_chunk(true)?;
        Ok(self.writer)
    }
}
