//! A segment: some consecutive records of a vault's log, compressed, encrypted to HQ, in a file of its own beside the
//! bundle that commits to it.
//!
//! ```cddl
//! audit-segment = {
//!   0: salt,
//!   1: 1,                              ; format version
//!   2: uint,                           ; sequence of the first record
//!   3: uint,                           ; how many records
//!   4: bstr,                           ; one zstd frame (RFC 8878), without dictionary, of the records
//! }
//! ```

use p256::PublicKey;

use crate::Error;
use crate::cbor::{Fields, Map};
use crate::encryption::{self, Encrypted, Opener};
use crate::envelope::{Context, Kind, Party};
use crate::identifier::{Fingerprint, VaultName};

/// The most bytes of records in one segment, before compression.
pub const SEGMENT_RECORD_BYTES_MAX: usize = 8 << 20;
/// The largest segment file, in bytes.
pub const SEGMENT_FILE_BYTES_MAX: usize = SEGMENT_RECORD_BYTES_MAX + (1 << 20);
const WHAT: &str = "audit segment";
/// zstd's own default: a good ratio at a speed beside which a signature is slow.
const COMPRESSION_LEVEL: i32 = 3;

/// What a bundle says of one of its segments.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SegmentFacts {
    /// The sequence of its first record.
    pub first: u64,
    /// How many records it holds.
    pub count: u64,
    /// SHA-256 of the file.
    pub file_digest: Fingerprint,
    /// How many bytes the file has.
    pub file_bytes: u64,
    /// SHA-256 of the plaintext.
    pub commitment: Fingerprint,
}

/// Gathers records until a segment is full.
#[derive(Default)]
pub struct SegmentBuilder {
    first: u64,
    count: u64,
    records: Vec<u8>,
}

impl SegmentBuilder {
    /// A segment whose first record has this sequence.
    pub fn new(first: u64) -> Self {
        Self {
            first,
            ..Self::default()
        }
    }

    /// Whether it has room for a record of this many bytes; an empty one always does.
    pub fn has_room(&self, record_bytes: usize) -> bool {
        self.count == 0 || self.records.len() + 4 + record_bytes <= SEGMENT_RECORD_BYTES_MAX
    }

    /// Adds the next record.
    pub fn push(&mut self, record: &[u8]) {
        // Records are far below 4 GiB: the log's own ceiling is a mebibyte.
        self.records
            .extend_from_slice(&(record.len() as u32).to_be_bytes());
        self.records.extend_from_slice(record);
        self.count += 1;
    }

    /// Whether it holds nothing.
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// Compresses and encrypts it. `id` is the bundle's, with the segment's number.
    ///
    /// # Errors
    /// [`Error::Random`], and [`Error::Shape`] if compression fails.
    pub fn seal(
        self,
        vault: &VaultName,
        id: &str,
        recipients: &[PublicKey],
    ) -> Result<(Vec<u8>, SegmentFacts), Error> {
        let compressed =
            zstd::bulk::compress(&self.records, COMPRESSION_LEVEL).map_err(|error| {
                Error::Shape {
                    what: WHAT,
                    why: error.to_string(),
                }
            })?;
        let salt: [u8; 32] = encryption::random()?;
        let plaintext = Map::new()
            .with(0, salt.to_vec())
            .with(1, crate::FORMAT_VERSION)
            .with(2, self.first)
            .with(3, self.count)
            .with(4, compressed)
            .encode();
        let file = encryption::seal(&context(vault, id), &plaintext, recipients)?;
        let facts = SegmentFacts {
            first: self.first,
            count: self.count,
            file_digest: Fingerprint::of(&file),
            file_bytes: file.len() as u64,
            commitment: Fingerprint::of(&plaintext),
        };
        Ok((file, facts))
    }
}

fn context(vault: &VaultName, id: &str) -> Context {
    Context {
        kind: Kind::AuditSegment,
        sender: Party::Vault(vault.clone()),
        recipient: Party::Hq,
        id: id.to_owned(),
        commitment: None,
    }
}

/// The records of one segment, as the vault's signature on the bundle commits to them.
pub struct Segment {
    first: u64,
    records: Vec<u8>,
}

impl Segment {
    /// Opens a segment file that a verified bundle describes.
    ///
    /// # Errors
    /// [`Error::Commitment`] if file or plaintext are not the ones described; what refuses the decryption.
    pub fn open(
        file: &[u8],
        facts: &SegmentFacts,
        vault: &VaultName,
        id: &str,
        opener: Opener<'_>,
    ) -> Result<Self, Error> {
        if Fingerprint::of(file) != facts.file_digest {
            return Err(Error::Commitment { what: WHAT });
        }
        let encrypted = Encrypted::read(WHAT, file, SEGMENT_FILE_BYTES_MAX)?;
        if encrypted.context != context(vault, id) {
            return Err(Error::PartsDiffer {
                what: WHAT,
                why: "it belongs to another bundle",
            });
        }
        let plaintext = encrypted.open(opener)?;
        if Fingerprint::of(&plaintext) != facts.commitment {
            return Err(Error::Commitment { what: WHAT });
        }
        Self::from_plaintext(&plaintext, (facts.first, facts.count))
    }

    /// Reads a plaintext; the first of its records, and how many there are, are known.
    pub(crate) fn from_plaintext(plaintext: &[u8], known: (u64, u64)) -> Result<Self, Error> {
        let mut fields = Fields::decode(WHAT, plaintext, SEGMENT_FILE_BYTES_MAX)?;
        fields.format_version(1)?;
        let _salt: [u8; 32] = fields.octets(0)?;
        let (first, count, compressed) = (fields.uint(2)?, fields.uint(3)?, fields.bytes(4)?);
        fields.finish()?;
        if (first, count) != known {
            return Err(Error::PartsDiffer {
                what: WHAT,
                why: "its records are not those named",
            });
        }
        let shape = |why: &str| Error::Shape {
            what: WHAT,
            why: why.to_owned(),
        };
        if zstd::zstd_safe::find_frame_compressed_size(&compressed) != Ok(compressed.len()) {
            return Err(shape("its records are not one zstd frame"));
        }
        // The bound is what stops a decompression bomb; a lone oversized record is within it by the log's ceiling.
        let records = zstd::bulk::decompress(&compressed, SEGMENT_RECORD_BYTES_MAX)
            .map_err(|_| shape("its records do not decompress within the bound"))?;
        let segment = Self { first, records };
        let mut counted = 0;
        let mut rest = segment.records.as_slice();
        while !rest.is_empty() {
            rest = split(rest).ok_or_else(|| shape("a record is cut short"))?.1;
            counted += 1;
        }
        if counted != count {
            return Err(shape("it holds another number of records than it says"));
        }
        Ok(segment)
    }

    /// The records in order, each with its sequence.
    pub fn records(&self) -> impl Iterator<Item = (u64, &[u8])> {
        let mut rest = self.records.as_slice();
        (self.first..).map_while(move |sequence| {
            let (record, after) = split(rest)?;
            rest = after;
            Some((sequence, record))
        })
    }
}

/// Splits off the first length-prefixed record.
fn split(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let (length, rest) = bytes.split_first_chunk::<4>()?;
    let length = usize::try_from(u32::from_be_bytes(*length)).ok()?;
    rest.split_at_checked(length)
}
