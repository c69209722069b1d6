//! The file of a backup: a mark, chunks, and a message at the end. It gets its name when it is whole and was read back.

use std::fs::File;
use std::io::{Read, Seek as _, SeekFrom, Write as _};
use std::path::{Path, PathBuf};

use ciborium::Value;
use mintmark_console::files::Growing;
use mintmark_protocol::backup::{BACKUP_BYTES_MAX, MARK};
use mintmark_protocol::cbor::{self, HEAD_BYTES_MAX, bytes_head, read_bytes_head};
use mintmark_protocol::identifier::Fingerprint;
use rustix::fs::{Advice, fadvise};
use sha2::{Digest as _, Sha256};

use crate::Error;

/// Bytes of a chunk before compression and encryption, at most.
pub(crate) const CHUNK_BYTES: usize = 1 << 20;
/// Bytes of a chunk as it is stored, at most: what does not compress grows a little, and has a tag.
pub(crate) const STORED_BYTES_MAX: u64 = CHUNK_BYTES as u64 + 16 * 1024;
const READ_BYTES: usize = 256 * 1024;
/// Why what was whole at the first look is not any more.
pub(crate) const CHANGED: &str = "it changed while it was read";

fn mark() -> Vec<u8> {
    cbor::encode(&Value::Text(MARK.to_owned()))
}

/// Refuses to write where something is.
pub(crate) fn expect_absent(output: &Path) -> Result<(), Error> {
    match output.symlink_metadata() {
        Err(_) => Ok(()),
        Ok(_) => Err(Error::Exists {
            path: output.to_owned(),
        }),
    }
}

/// Makes the name of what is there, and whole, last.
///
/// # Errors
/// [`Error::NameMayNotLast`]: it is there nevertheless.
pub(crate) fn sync_name(path: &Path) -> Result<(), Error> {
    let folder = match path.parent() {
        Some(parent) if parent != Path::new("") => parent,
        _ => Path::new("."),
    };
    let synced = File::open(folder).and_then(|folder| folder.sync_all());
    synced.map_err(|source| Error::NameMayNotLast {
        path: path.to_owned(),
        source,
    })
}

/// A file that is being written. Dropped before it is finished, it is gone.
pub(crate) struct Writer {
    growing: Growing,
    output: PathBuf,
    digest: Sha256,
    written: u64,
}

impl Writer {
    pub(crate) fn create(output: &Path) -> Result<Self, Error> {
        expect_absent(output)?;
        let mut writer = Self {
            growing: Growing::begin(output)?,
            output: output.to_owned(),
            digest: Sha256::new(),
            written: 0,
        };
        writer.write(&mark())?;
        Ok(writer)
    }

    fn file(&self) -> Result<&File, Error> {
        let missing = Error::Internal("the file has its name already");
        self.growing.file().ok_or(missing)
    }

    fn write(&mut self, bytes: &[u8]) -> Result<(), Error> {
        self.file()?
            .write_all(bytes)
            .map_err(Error::io(&self.output))?;
        self.digest.update(bytes);
        self.written += bytes.len() as u64;
        Ok(())
    }

    /// Appends an item.
    pub(crate) fn item(&mut self, bytes: &[u8]) -> Result<(), Error> {
        self.write(&bytes_head(bytes.len() as u64))?;
        self.write(bytes)
    }

    /// How much was written, and its digest.
    pub(crate) fn sealed(&self) -> (u64, Fingerprint) {
        (self.written, fingerprint(self.digest.clone()))
    }

    /// Makes it last, reads it back from where it is stored, and gives it its name. `each` is told how much was read back.
    pub(crate) fn finish(
        self,
        mut each: impl FnMut(u64) -> Result<(), Error>,
    ) -> Result<u64, Error> {
        let expected = self.sealed();
        let path = self.output.clone();
        let mut file = self.file()?;
        file.sync_all().map_err(Error::io(&path))?;
        // Only pages that are written can be dropped; a file system without that reads what it has.
        let _ = fadvise(file, 0, None, Advice::DontNeed);
        file.seek(SeekFrom::Start(0)).map_err(Error::io(&path))?;
        let read = digest_of(&mut file, u64::MAX, &path, &mut each)?;
        if read != expected {
            return Err(Error::ReadBack { path });
        }
        self.growing
            .place()
            .map_err(|error| match error.is_exists() {
                true => Error::Exists { path: path.clone() },
                false => error.into(),
            })?;
        sync_name(&path)?;
        Ok(expected.0)
    }
}

fn fingerprint(digest: Sha256) -> Fingerprint {
    let digest: [u8; 32] = digest.finalize().into();
    Fingerprint::new(digest)
}

/// Reads at most `bytes_max` bytes of the file at `path`: how many there were, and their digest. `each` is told how many were read.
fn digest_of(
    from: &mut impl Read,
    bytes_max: u64,
    path: &Path,
    each: &mut dyn FnMut(u64) -> Result<(), Error>,
) -> Result<(u64, Fingerprint), Error> {
    let mut digest = Sha256::new();
    let mut buffer = vec![0; READ_BYTES];
    let mut from = from.take(bytes_max);
    let mut count = 0;
    loop {
        let read = match from.read(&mut buffer) {
            Ok(0) => break,
            Ok(read) => read,
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(Error::io(path)(error)),
        };
        digest.update(buffer.get(..read).unwrap_or_default());
        count += read as u64;
        each(read as u64)?;
    }
    Ok((count, fingerprint(digest)))
}

/// A file that is being read. Nothing in it is believed for its place alone.
pub(crate) struct Reader {
    file: File,
    path: PathBuf,
    length: u64,
    /// Where the message begins, and with it the end of the chunks.
    message_at: u64,
    /// How many chunks there are.
    pub(crate) chunks: u64,
}

impl Reader {
    /// Opens a file and finds its items. Gives the last one, which is the message.
    pub(crate) fn open(path: &Path) -> Result<(Self, Vec<u8>), Error> {
        let file = File::open(path).map_err(Error::io(path))?;
        let metadata = file.metadata().map_err(Error::io(path))?;
        let mut reader = Self {
            file,
            path: path.to_owned(),
            length: metadata.len(),
            message_at: 0,
            chunks: 0,
        };
        let mark = mark();
        if !metadata.is_file() || reader.read(0, mark.len() as u64)? != mark {
            return Err(reader.damaged("it does not begin as one does"));
        }
        let mut at = mark.len() as u64;
        loop {
            let (begins, length) = reader.head(at)?;
            let end = begins.saturating_add(length);
            if end == reader.length {
                reader.message_at = at;
                if length > BACKUP_BYTES_MAX as u64 {
                    return Err(reader.damaged("it does not end as one does"));
                }
                let message = reader.read(begins, length)?;
                return Ok((reader, message));
            }
            if length > STORED_BYTES_MAX {
                return Err(reader.damaged("a chunk is larger than it may be"));
            }
            reader.chunks += 1;
            at = end;
        }
    }

    /// It is not what was written.
    pub(crate) fn damaged(&self, why: &'static str) -> Error {
        Error::Damaged {
            path: self.path.clone(),
            why,
        }
    }

    fn read(&mut self, at: u64, length: u64) -> Result<Vec<u8>, Error> {
        let end = at.checked_add(length);
        if end.is_none_or(|end| end > self.length) {
            return Err(self.damaged("it is cut short"));
        }
        let mut bytes = vec![0; usize::try_from(length).unwrap_or_default()];
        let sought = self.file.seek(SeekFrom::Start(at));
        sought
            .and_then(|_| self.file.read_exact(&mut bytes))
            .map_err(Error::io(&self.path))?;
        Ok(bytes)
    }

    /// The head of the item that begins there: where its content begins, and how long it is.
    fn head(&mut self, at: u64) -> Result<(u64, u64), Error> {
        let left = self.length.saturating_sub(at);
        let bytes = self.read(at, left.min(HEAD_BYTES_MAX as u64))?;
        let (length, head) = read_bytes_head(&bytes)
            .ok_or_else(|| self.damaged("it is cut short, or something in it is no chunk"))?;
        Ok((at.saturating_add(head as u64), length))
    }

    /// How much stands before the message, and its digest. `each` is told how much was read.
    pub(crate) fn sealed(
        &mut self,
        mut each: impl FnMut(u64) -> Result<(), Error>,
    ) -> Result<(u64, Fingerprint), Error> {
        self.file
            .seek(SeekFrom::Start(0))
            .map_err(Error::io(&self.path))?;
        digest_of(&mut self.file, self.message_at, &self.path, &mut each)
    }

    /// How much stands before the message.
    pub(crate) fn sealed_bytes(&self) -> u64 {
        self.message_at
    }

    /// Hands every chunk on, with its number from 0. Gives how much stands before the message and its digest, as it was read
    /// for this: the file may be another by now than it was at an earlier look.
    pub(crate) fn each_chunk(
        &mut self,
        mut each: impl FnMut(u64, Vec<u8>, &Self) -> Result<(), Error>,
    ) -> Result<(u64, Fingerprint), Error> {
        let mut digest = Sha256::new();
        let mark = self.read(0, mark().len() as u64)?;
        digest.update(&mark);
        let mut at = mark.len() as u64;
        for number in 0..self.chunks {
            let (begins, length) = self.head(at)?;
            if length > STORED_BYTES_MAX {
                return Err(self.damaged(CHANGED));
            }
            let chunk = self.read(begins, length)?;
            // A length has one head alone, so that this one is what was read.
            digest.update(bytes_head(length));
            digest.update(&chunk);
            each(number, chunk, self)?;
            at = begins.saturating_add(length);
        }
        Ok((at, fingerprint(digest)))
    }
}
