//! The file: a CBOR sequence of a mark, the trust manifests, the grant, and its parts. It is written and read part by part.

use std::fs::{self, File, OpenOptions};
use std::io::{BufWriter, Read as _, Seek as _, SeekFrom, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use mintmark_console::{Exit, Failure};
use mintmark_protocol::audit_grant::{
    AUDIT_GRANT_BYTES_MAX, AUDIT_GRANT_TRUST_BYTES_MAX, AuditGrant, MARK, Part, PartKind,
    trust_from_cbor,
};
use mintmark_protocol::identifier::Fingerprint;

use super::WHAT;
use crate::failure;
use crate::import::records;

/// Major types (RFC 8949 section 3.1).
const BYTES: u8 = 2;
const TEXT: u8 = 3;
/// The longest head of an item.
const HEAD_BYTES_MAX: usize = 9;
/// The largest part, in bytes: no message is larger.
pub(super) const PART_BYTES_MAX: u64 = 64 << 20;

/// The head of a string: major type, and length in the fewest bytes.
fn head(major: u8, length: u64) -> Vec<u8> {
    let be = length.to_be_bytes();
    let (info, from) = match length {
        0..=23 => return vec![major << 5 | be[7]],
        24..=0xff => (24, 7),
        0x100..=0xffff => (25, 6),
        0x1_0000..=0xffff_ffff => (26, 4),
        _ => (27, 0),
    };
    let mut head = vec![major << 5 | info];
    head.extend_from_slice(be.get(from..).unwrap_or_default());
    head
}

fn mark() -> Vec<u8> {
    [head(TEXT, MARK.len() as u64), MARK.as_bytes().to_vec()].concat()
}

/// Whether a file begins as a grant does.
pub(crate) fn is_grant(path: &Path) -> bool {
    let mark = mark();
    let mut beginning = vec![0; mark.len()];
    let read = File::open(path).and_then(|mut file| file.read_exact(&mut beginning));
    read.is_ok() && beginning == mark
}

/// A file that is being written. It gets its name when it is whole.
pub(super) struct Writer {
    file: BufWriter<File>,
    part: PathBuf,
    output: PathBuf,
}

impl Writer {
    pub(super) fn create(output: &Path) -> Result<Self, Failure> {
        let mut part = output.as_os_str().to_owned();
        part.push(format!(".{}.part", std::process::id()));
        let part = PathBuf::from(part);
        let mut options = OpenOptions::new();
        let file = options.write(true).create_new(true).mode(0o600).open(&part);
        let file = file.map_err(|error| io(&part, error))?;
        let mut writer = Self {
            file: BufWriter::new(file),
            part,
            output: output.to_owned(),
        };
        writer.write(&mark())?;
        Ok(writer)
    }

    fn write(&mut self, bytes: &[u8]) -> Result<(), Failure> {
        let written = self.file.write_all(bytes);
        written.map_err(|error| io(&self.part, error))
    }

    /// Appends an item.
    pub(super) fn item(&mut self, bytes: &[u8]) -> Result<(), Failure> {
        self.write(&head(BYTES, bytes.len() as u64))?;
        self.write(bytes)
    }

    /// Puts the file into its place.
    pub(super) fn finish(mut self) -> Result<(), Failure> {
        let flushed = self.file.flush();
        let synced = flushed.and_then(|()| self.file.get_ref().sync_all());
        synced
            .and_then(|()| fs::rename(&self.part, &self.output))
            .map_err(|error| io(&self.output, error))?;
        let folder = match self.output.parent() {
            Some(parent) if parent != Path::new("") => parent,
            _ => Path::new("."),
        };
        File::open(folder)
            .and_then(|folder| folder.sync_all())
            .map_err(|error| io(folder, error))
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        // Once it is in its place, nothing is there any more.
        let _ = fs::remove_file(&self.part);
    }
}

/// A file that is being read. Nothing in it is believed for its place alone.
pub(super) struct Reader {
    file: File,
    path: PathBuf,
    /// Where the next item begins.
    at: u64,
    length: u64,
}

impl Reader {
    pub(super) fn open(path: &Path) -> Result<Self, Failure> {
        let file = File::open(path).map_err(|error| io(path, error))?;
        let length = file.metadata().map_err(|error| io(path, error))?.len();
        let mut reader = Self {
            file,
            path: path.to_owned(),
            at: 0,
            length,
        };
        let mark = mark();
        if reader.read(0, mark.len())? != mark {
            return Err(reader.damaged("it does not begin as one does"));
        }
        reader.at = mark.len() as u64;
        Ok(reader)
    }

    /// The file is not what HQ wrote.
    pub(super) fn damaged(&self, why: &str) -> Failure {
        failure::refused(
            "GRANT-DAMAGED",
            format!("{} is no whole {WHAT}: {why}", self.path.display()),
            "copy it again from what headquarters handed out, or ask for another; nothing was made of it",
        )
    }

    fn read(&mut self, at: u64, length: usize) -> Result<Vec<u8>, Failure> {
        let end = at.checked_add(length as u64);
        if end.is_none_or(|end| end > self.length) {
            return Err(self.damaged("it is cut short"));
        }
        let mut bytes = vec![0; length];
        let read = self.file.seek(SeekFrom::Start(at));
        read.and_then(|_| self.file.read_exact(&mut bytes))
            .map_err(|error| io(&self.path, error))?;
        Ok(bytes)
    }

    /// The head of the item that begins there: where its content begins, and how long it is.
    fn head(&mut self, at: u64) -> Result<(u64, u64), Failure> {
        let left = usize::try_from(self.length.saturating_sub(at)).unwrap_or(HEAD_BYTES_MAX);
        let bytes = self.read(at, left.min(HEAD_BYTES_MAX))?;
        let cut = || self.damaged("it is cut short");
        let first = *bytes.first().ok_or_else(cut)?;
        let count = match first & 0x1f {
            0..=23 => 0,
            24 => 1,
            25 => 2,
            26 => 4,
            27 => 8,
            _ => return Err(self.damaged("a length in it is none")),
        };
        let octets = bytes.get(1..=count).ok_or_else(cut)?;
        let length = match count {
            0 => u64::from(first & 0x1f),
            _ => octets.iter().fold(0, |n, b| n << 8 | u64::from(*b)),
        };
        if bytes.get(..=count) != Some(head(BYTES, length).as_slice()) {
            return Err(self.damaged("something in it is no byte string"));
        }
        Ok((at.saturating_add(count as u64 + 1), length))
    }

    fn next(&mut self, bytes_max: u64) -> Result<Vec<u8>, Failure> {
        let (at, length) = self.head(self.at)?;
        if length > bytes_max {
            return Err(self.damaged("an item is larger than it may be"));
        }
        let bytes = self.read(at, usize::try_from(length).unwrap_or(usize::MAX))?;
        self.at = at.saturating_add(length);
        Ok(bytes)
    }

    /// The trust manifests, unverified.
    pub(super) fn trust(&mut self) -> Result<Vec<Vec<u8>>, Failure> {
        let bytes = self.next(AUDIT_GRANT_TRUST_BYTES_MAX as u64)?;
        trust_from_cbor(&bytes).map_err(records::untrusted)
    }

    /// The grant, unverified.
    pub(super) fn grant(&mut self) -> Result<Vec<u8>, Failure> {
        self.next(AUDIT_GRANT_BYTES_MAX as u64)
    }

    /// Where each part of a grant begins. All are there, and nothing after them.
    pub(super) fn places(&self, grant: &AuditGrant) -> Result<Vec<u64>, Failure> {
        let mut at = self.at;
        let mut places = Vec::with_capacity(grant.parts.len());
        for part in &grant.parts {
            if part.bytes > PART_BYTES_MAX {
                return Err(self.damaged("a part is larger than it may be"));
            }
            places.push(at);
            if part.kind != PartKind::TrustManifest {
                let head = head(BYTES, part.bytes).len() as u64;
                at = at.saturating_add(head).saturating_add(part.bytes);
            }
        }
        match at.cmp(&self.length) {
            std::cmp::Ordering::Equal => Ok(places),
            std::cmp::Ordering::Greater => Err(self.damaged("it is cut short")),
            std::cmp::Ordering::Less => Err(self.damaged("something stands behind its last part")),
        }
    }

    /// One part, which begins there; it is the one that HQ signed for.
    pub(super) fn part(&mut self, part: &Part, at: u64) -> Result<Vec<u8>, Failure> {
        let (begins, length) = self.head(at)?;
        if length != part.bytes {
            return Err(self.damaged("a part has another length than the grant says"));
        }
        let bytes = self.read(begins, usize::try_from(length).unwrap_or(usize::MAX))?;
        if Fingerprint::of(&bytes) != part.digest {
            let what = format!(
                "a part of it ({}) is not the one that headquarters signed for",
                part.kind
            );
            return Err(self.damaged(&what));
        }
        Ok(bytes)
    }
}

/// Reads a file in which the grant stands unsigned and unencrypted, with all parts that it names: how many there are.
/// Nobody but the fuzz targets has such a file.
///
/// # Errors
/// The code of what is wrong with it.
#[cfg(feature = "fuzzing")]
pub fn fuzzed(path: &Path) -> Result<usize, String> {
    let code = |failure: Failure| failure.code.to_string();
    let mut reader = Reader::open(path).map_err(code)?;
    reader.trust().map_err(code)?;
    let grant = reader.grant().map_err(code)?;
    let grant = AuditGrant::from_cbor(&grant).map_err(|error| error.code().to_owned())?;
    let places = reader.places(&grant).map_err(code)?;
    for (part, at) in grant.parts.iter().zip(places) {
        if part.kind != PartKind::TrustManifest {
            reader.part(part, at).map_err(code)?;
        }
    }
    Ok(grant.parts.len())
}

fn io(path: &Path, error: std::io::Error) -> Failure {
    let message = format!("{} could not be written or read", path.display());
    Failure::new(Exit::Environment, "FILE-IO", message)
        .cause(error)
        .hint("check the path, its permissions and the disk")
}
