//! The transcript of a ceremony: what was done, by which commands, and who was there.
//!
//! ```cddl
//! transcript = {
//!   1: 1,                              ; format version
//!   2: unix-time,                      ; when it was sealed
//!   3: tstr .size (1..256),            ; what the ceremony was for
//!   4: [1*32 tstr .size (1..128)],     ; who was there, as they were named
//!   5: [1*4096 transcript-entry],      ; in their order
//! }
//! transcript-entry = {
//!   1: unix-time,
//!   2: tstr .size (1..8192),           ; the command line, or "note"
//!   3: uint .le 255,                   ; how it ended: its exit code
//!   4: tstr .size (0..65536),          ; what it said, or the note
//! }
//! ```

use ciborium::Value;
use p256::PublicKey;

use crate::Error;
use crate::cbor::{Fields, Map};
use crate::envelope::{Context, Kind, Party, Sign, SignedOne, Verified, sign_one};

/// The largest sealed transcript, in bytes.
pub const TRANSCRIPT_BYTES_MAX: usize = 8 << 20;
/// The most people.
pub const PRESENT_MAX: usize = 32;
/// The most entries.
pub const ENTRIES_MAX: usize = 4096;
/// The longest purpose, in bytes.
pub const PURPOSE_BYTES_MAX: usize = 256;
/// The longest name, in bytes.
pub const NAME_BYTES_MAX: usize = 128;
/// The longest command line, in bytes.
pub const COMMAND_BYTES_MAX: usize = 8192;
/// The longest text of an entry, in bytes.
pub const TEXT_BYTES_MAX: usize = 65_536;
const WHAT: &str = "transcript";

/// One thing that was done or said.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Unix seconds.
    pub time: u64,
    /// The command line, or `note`.
    pub command: String,
    /// Its exit code.
    pub exit: u8,
    /// What it said, or the note.
    pub text: String,
}

/// What a ceremony left.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Transcript {
    /// Unix seconds.
    pub sealed_at: u64,
    /// What the ceremony was for.
    pub purpose: String,
    /// Who was there.
    pub present: Vec<String>,
    /// What was done.
    pub entries: Vec<Entry>,
}

impl Transcript {
    fn object_id(sealed_at: u64) -> String {
        format!("transcript-{sealed_at}")
    }

    /// Signs it with the report key of HQ.
    ///
    /// # Errors
    /// [`Error::Oversize`], [`Error::KeyOperation`].
    pub fn seal(&self, key: &PublicKey, sign: Sign<'_>) -> Result<Vec<u8>, Error> {
        let payload = self.to_cbor();
        if payload.len() + 4096 > TRANSCRIPT_BYTES_MAX || self.entries.len() > ENTRIES_MAX {
            return Err(Error::Oversize {
                what: WHAT,
                bytes_max: TRANSCRIPT_BYTES_MAX,
            });
        }
        let context = Context {
            kind: Kind::Transcript,
            sender: Party::Hq,
            recipient: Party::All,
            id: Self::object_id(self.sealed_at),
            commitment: None,
        };
        sign_one(&context, payload, key, sign)
    }

    /// Opens a transcript that the report key of HQ signed.
    ///
    /// # Errors
    /// What refuses the signature or the parties, and what the strict reader refuses.
    pub fn open(bytes: &[u8], report_key: &PublicKey) -> Result<Verified<Self>, Error> {
        let message = SignedOne::read(WHAT, bytes, TRANSCRIPT_BYTES_MAX)?;
        let context = &message.context;
        context.expect(WHAT, Kind::Transcript, &Party::Hq, &Party::All)?;
        message.verify(report_key)?;
        let transcript = Self::from_cbor(message.payload())?;
        if context.id != Self::object_id(transcript.sealed_at) {
            return Err(Error::PartsDiffer {
                what: WHAT,
                why: "header and content differ in time",
            });
        }
        let fingerprint = message.fingerprint();
        Ok(Verified::new(
            transcript,
            fingerprint,
            Vec::new(),
            Vec::new(),
        ))
    }

    /// The payload, encoded.
    pub fn to_cbor(&self) -> Vec<u8> {
        Map::new()
            .with(1, crate::FORMAT_VERSION)
            .with(2, self.sealed_at)
            .with(3, self.purpose.as_str())
            .with_array(4, self.present.iter().map(String::as_str))
            .with_array(
                5,
                self.entries.iter().map(|entry| {
                    Map::new()
                        .with(1, entry.time)
                        .with(2, entry.command.as_str())
                        .with(3, u64::from(entry.exit))
                        .with(4, entry.text.as_str())
                }),
            )
            .encode()
    }

    /// Reads a payload.
    ///
    /// # Errors
    /// [`Error::Encoding`], [`Error::Shape`] and [`Error::FormatVersion`].
    pub fn from_cbor(bytes: &[u8]) -> Result<Self, Error> {
        let mut fields = Fields::decode(WHAT, bytes, TRANSCRIPT_BYTES_MAX)?;
        fields.format_version(1)?;
        let present = fields.array(4, PRESENT_MAX)?.into_iter();
        let present: Option<Vec<_>> = present.map(|name| Value::into_text(name).ok()).collect();
        let entries = fields.array(5, ENTRIES_MAX)?.into_iter();
        let entries: Result<Vec<_>, Error> = entries.map(entry).collect();
        let transcript = Self {
            sealed_at: fields.uint(2)?,
            purpose: fields.text(3)?,
            present: present.ok_or_else(|| fields.wrong(4, "names were expected"))?,
            entries: entries?,
        };
        if !fits(&transcript.purpose, 1, PURPOSE_BYTES_MAX) {
            return Err(fields.wrong(3, "a text of 1 to 256 bytes was expected"));
        }
        let named = |name: &String| fits(name, 1, NAME_BYTES_MAX);
        if transcript.present.is_empty() || !transcript.present.iter().all(named) {
            return Err(fields.wrong(4, "names of 1 to 128 bytes were expected"));
        }
        if transcript.entries.is_empty() {
            return Err(fields.wrong(5, "an entry was expected"));
        }
        fields.finish()?;
        Ok(transcript)
    }
}

fn fits(text: &str, bytes_min: usize, bytes_max: usize) -> bool {
    (bytes_min..=bytes_max).contains(&text.len())
}

fn entry(value: Value) -> Result<Entry, Error> {
    let mut fields = Fields::new("entry of a transcript", value)?;
    let exit = fields.uint(3)?;
    let entry = Entry {
        time: fields.uint(1)?,
        command: fields.text(2)?,
        exit: u8::try_from(exit).map_err(|_| fields.wrong(3, "an exit code was expected"))?,
        text: fields.text(4)?,
    };
    if !fits(&entry.command, 1, COMMAND_BYTES_MAX) || !fits(&entry.text, 0, TEXT_BYTES_MAX) {
        return Err(fields.wrong(2, "a shorter text was expected"));
    }
    fields.finish()?;
    Ok(entry)
}
