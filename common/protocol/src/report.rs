//! A sealed report: what headquarters showed of its books at one moment, in whatever form, signed by the report key.
//!
//! ```cddl
//! report = {
//!   1: 1,                              ; format version
//!   2: unix-time,                      ; when it was made
//!   3: "table" / "json" / "csv" / "xlsx" / "html",        ; the form of key 4
//!   4: bstr .size (1..67108864),       ; the report, as `hq reconcile` writes it
//! }
//! ```

use std::fmt;
use std::str::FromStr;

use p256::PublicKey;

use crate::Error;
use crate::cbor::{Fields, Map};
use crate::envelope::{Context, Kind, Party, Sign, SignedOne, Verified, sign_one};

/// The largest report inside, in bytes.
pub const REPORT_CONTENT_BYTES_MAX: usize = 64 << 20;
/// The largest sealed report, in bytes.
pub const REPORT_BYTES_MAX: usize = REPORT_CONTENT_BYTES_MAX + (64 << 10);
const WHAT: &str = "sealed report";

/// How a report is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ReportFormat {
    /// Text for people.
    Table,
    /// JSON by its published schema.
    Json,
    /// RFC 4180.
    Csv,
    /// A workbook.
    Xlsx,
    /// One page.
    Html,
}

impl ReportFormat {
    const ALL: [Self; 5] = [Self::Table, Self::Json, Self::Csv, Self::Xlsx, Self::Html];

    /// Its name in messages and on the command line.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Table => "table",
            Self::Json => "json",
            Self::Csv => "csv",
            Self::Xlsx => "xlsx",
            Self::Html => "html",
        }
    }
}

impl fmt::Display for ReportFormat {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl FromStr for ReportFormat {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let mut all = Self::ALL.into_iter();
        all.find(|format| format.as_str() == text)
            .ok_or_else(|| format!("`{}` is no form of a report", text.escape_default()))
    }
}

/// A report, and when it was made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Report {
    /// Unix seconds.
    pub made_at: u64,
    /// How it is written.
    pub format: ReportFormat,
    /// The report itself.
    pub content: Vec<u8>,
}

impl Report {
    fn object_id(made_at: u64) -> String {
        format!("report-{made_at}")
    }

    /// Signs it with the report key.
    ///
    /// # Errors
    /// [`Error::Oversize`], [`Error::KeyOperation`].
    pub fn seal(&self, key: &PublicKey, sign: Sign<'_>) -> Result<Vec<u8>, Error> {
        if self.content.len() > REPORT_CONTENT_BYTES_MAX {
            return Err(Error::Oversize {
                what: WHAT,
                bytes_max: REPORT_CONTENT_BYTES_MAX,
            });
        }
        let context = Context {
            kind: Kind::Report,
            sender: Party::Hq,
            recipient: Party::All,
            id: Self::object_id(self.made_at),
            commitment: None,
        };
        sign_one(&context, self.to_cbor(), key, sign)
    }

    /// Opens a report that the report key of HQ signed.
    ///
    /// # Errors
    /// What refuses the signature or the parties, and what the strict reader refuses.
    pub fn open(bytes: &[u8], report_key: &PublicKey) -> Result<Verified<Self>, Error> {
        let message = SignedOne::read(WHAT, bytes, REPORT_BYTES_MAX)?;
        let context = &message.context;
        context.expect(WHAT, Kind::Report, &Party::Hq, &Party::All)?;
        message.verify(report_key)?;
        let report = Self::from_cbor(message.payload())?;
        if context.id != Self::object_id(report.made_at) {
            return Err(Error::PartsDiffer {
                what: WHAT,
                why: "header and content differ in time",
            });
        }
        // The plaintext is not kept once more: it may be large.
        let fingerprint = message.fingerprint();
        Ok(Verified::new(report, fingerprint, Vec::new(), Vec::new()))
    }

    /// The payload, encoded.
    pub fn to_cbor(&self) -> Vec<u8> {
        Map::new()
            .with(1, crate::FORMAT_VERSION)
            .with(2, self.made_at)
            .with(3, self.format.as_str())
            .with(4, self.content.clone())
            .encode()
    }

    /// Reads a payload.
    ///
    /// # Errors
    /// [`Error::Encoding`], [`Error::Shape`] and [`Error::FormatVersion`].
    pub fn from_cbor(bytes: &[u8]) -> Result<Self, Error> {
        let mut fields = Fields::decode(WHAT, bytes, REPORT_BYTES_MAX)?;
        fields.format_version(1)?;
        let report = Self {
            made_at: fields.uint(2)?,
            format: fields.parse(3)?,
            content: fields.bytes(4)?,
        };
        if report.content.is_empty() || report.content.len() > REPORT_CONTENT_BYTES_MAX {
            return Err(fields.wrong(4, "a report of 1 byte to 64 MiB was expected"));
        }
        fields.finish()?;
        Ok(report)
    }
}
