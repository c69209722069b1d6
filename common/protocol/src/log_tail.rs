//! The log tail: HQ sends back to a vault, whose restore was declared, the records of its log that HQ holds and the vault
//! does not have any more. It stands outside the chain of dispatches, since the vault's place in that is among what it lost.
//!
//! Signed by the dispatch key, like everything that HQ says without officers; it brings nothing that the vault did not write.
//!
//! ```cddl
//! log-tail = {
//!   0: salt,
//!   1: 1,                              ; format version
//!   2: identifier,                     ; site
//!   3: identifier,                     ; vault
//!   4: digest,                         ; fingerprint of the declaration that it answers
//!   5: uint,                           ; this part, from 1
//!   6: uint,                           ; of how many
//!   7: uint,                           ; records of the log that HQ holds in all
//!   8: digest,                         ; their Merkle root
//!   9: uint,                           ; the position of the first record of this part
//!   10: [* bstr],                      ; the records, as the vault wrote them
//! }
//! ```

use ciborium::Value;
use p256::PublicKey;

use crate::Error;
use crate::cbor::{Fields, Map};
use crate::dispatched::{self, Dispatched};
use crate::encryption::Opener;
use crate::envelope::{Kind, Sign, Verified};
use crate::identifier::{Fingerprint, VaultName};
use crate::trust::TrustManifest;

/// The largest part, in bytes of its plaintext.
pub const LOG_TAIL_BYTES_MAX: usize = 8 << 20;
/// The most records of one part.
pub const LOG_TAIL_RECORDS_MAX: usize = 1 << 16;
/// The largest message, in bytes: a part, and what encrypts and signs it.
pub const LOG_TAIL_MESSAGE_BYTES_MAX: usize = LOG_TAIL_BYTES_MAX + (64 << 10);
const WHAT: &str = "log tail";

/// One part of the tail of a vault's log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogTail {
    /// Random, so that the public commitment to the plaintext reveals nothing.
    pub salt: [u8; 32],
    /// For whom.
    pub vault: VaultName,
    /// Fingerprint of the declaration that it answers.
    pub declaration: Fingerprint,
    /// Which part, from 1.
    pub part: u64,
    /// How many parts there are.
    pub parts: u64,
    /// How many records of the log HQ holds in all.
    pub log_size: u64,
    /// The Merkle root of those.
    pub log_root: Fingerprint,
    /// The position of the first record of this part.
    pub first: u64,
    /// The records, as the vault wrote them; none in the only part if the vault has all that HQ holds.
    pub records: Vec<Vec<u8>>,
}

impl LogTail {
    /// Encrypts it to the vault and to HQ and signs it with the dispatch key.
    ///
    /// # Errors
    /// [`Error::KeyOperation`] and [`Error::Random`].
    pub fn seal(
        &self,
        manifest: &TrustManifest,
        vault_agree: &PublicKey,
        sign: Sign<'_>,
    ) -> Result<Vec<u8>, Error> {
        dispatched::seal(self, manifest, vault_agree, sign)
    }

    /// The id under which it travels.
    pub fn object_id(&self) -> String {
        format!("tail-{:06}", self.part)
    }

    /// Opens a part that the dispatch key signed for `vault`.
    ///
    /// # Errors
    /// What refuses the signature, the parties or the decryption.
    pub fn open(
        bytes: &[u8],
        manifest: &Verified<TrustManifest>,
        vault: &VaultName,
        opener: Opener<'_>,
    ) -> Result<Verified<Self>, Error> {
        dispatched::open(bytes, manifest, vault, opener)
    }

    /// The plaintext, encoded.
    pub fn to_cbor(&self) -> Vec<u8> {
        let records = self
            .records
            .iter()
            .map(|record| Value::Bytes(record.clone()));
        Map::new()
            .with(0, self.salt.to_vec())
            .with(1, crate::FORMAT_VERSION)
            .with(2, self.vault.site.as_str())
            .with(3, self.vault.vault.as_str())
            .with(4, self.declaration.as_bytes().to_vec())
            .with(5, self.part)
            .with(6, self.parts)
            .with(7, self.log_size)
            .with(8, self.log_root.as_bytes().to_vec())
            .with(9, self.first)
            .with_array(10, records)
            .encode()
    }

    /// Reads a plaintext.
    ///
    /// # Errors
    /// [`Error::Encoding`], [`Error::Shape`] and [`Error::FormatVersion`].
    pub fn from_cbor(bytes: &[u8]) -> Result<Self, Error> {
        let mut fields = Fields::decode(WHAT, bytes, LOG_TAIL_BYTES_MAX)?;
        fields.format_version(1)?;
        let records = fields.array(10, LOG_TAIL_RECORDS_MAX)?.into_iter();
        let records: Result<Vec<Vec<u8>>, Value> = records.map(Value::into_bytes).collect();
        let tail = Self {
            salt: fields.octets(0)?,
            vault: VaultName {
                site: fields.parse(2)?,
                vault: fields.parse(3)?,
            },
            declaration: fields.octets(4)?,
            part: fields.uint(5)?,
            parts: fields.uint(6)?,
            log_size: fields.uint(7)?,
            log_root: fields.octets(8)?,
            first: fields.uint(9)?,
            records: records.map_err(|_| fields.wrong(10, "records were expected"))?,
        };
        if !(1..=tail.parts).contains(&tail.part) {
            return Err(fields.wrong(5, "a part from 1 to the number of parts was expected"));
        }
        fields.finish()?;
        Ok(tail)
    }
}

impl Dispatched for LogTail {
    const KIND: Kind = Kind::LogTail;
    const WHAT: &'static str = WHAT;
    const BYTES_MAX: usize = LOG_TAIL_MESSAGE_BYTES_MAX;

    fn vault(&self) -> &VaultName {
        &self.vault
    }

    fn id(&self) -> String {
        self.object_id()
    }

    fn plaintext(&self) -> Vec<u8> {
        self.to_cbor()
    }

    fn read(plaintext: &[u8]) -> Result<Self, Error> {
        Self::from_cbor(plaintext)
    }
}
