//! The acknowledgement: HQ tells a vault which of its log it holds and has verified, and what time HQ thinks it is.
//!
//! Signed by the dispatch key alone, so it can order, acknowledge and state time, and nothing else.
//!
//! ```cddl
//! acknowledgement = {
//!   0: salt,
//!   1: 1,                              ; format version
//!   2: identifier,                     ; site
//!   3: identifier,                     ; vault
//!   4: unix-time,                      ; HQ's time
//!   5: lineage,
//!   6: uint,                           ; newest bundle held: sequence
//!   7: digest,                         ; its fingerprint
//!   8: uint,                           ; size of the log that it covers, in records
//!   9: digest,                         ; Merkle root of that log
//!   10: uint,                          ; findings on record for this vault
//! }
//! ```

use p256::PublicKey;

use crate::Error;
use crate::cbor::{Fields, Map};
use crate::dispatched::{self, Dispatched};
use crate::encryption::Opener;
use crate::envelope::{Kind, Sign, Verified};
use crate::identifier::{Fingerprint, Lineage, VaultName};
use crate::trust::TrustManifest;

/// The largest acknowledgement plaintext, in bytes.
pub const ACKNOWLEDGEMENT_BYTES_MAX: usize = 4096;
const WHAT: &str = "acknowledgement";

/// What HQ holds of one vault's log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Acknowledgement {
    /// Random, so that the public commitment to the plaintext reveals nothing.
    pub salt: [u8; 32],
    /// For whom.
    pub vault: VaultName,
    /// HQ's time when it was made, Unix seconds.
    pub hq_time: u64,
    /// The history that is acknowledged.
    pub lineage: Lineage,
    /// The newest bundle that HQ holds.
    pub bundle_sequence: u64,
    /// That bundle's fingerprint.
    pub bundle_fingerprint: Fingerprint,
    /// How many records of the log HQ holds.
    pub log_size: u64,
    /// The Merkle root of those.
    pub log_root: Fingerprint,
    /// How many findings HQ has on record for this vault. Receipt and approval are apart: any number is a receipt.
    pub findings: u64,
}

impl Acknowledgement {
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
        format!("ack-{:06}", self.bundle_sequence)
    }

    /// Opens an acknowledgement that the dispatch key signed for `vault`.
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
        Map::new()
            .with(0, self.salt.to_vec())
            .with(1, crate::FORMAT_VERSION)
            .with(2, self.vault.site.as_str())
            .with(3, self.vault.vault.as_str())
            .with(4, self.hq_time)
            .with(5, self.lineage.as_bytes().to_vec())
            .with(6, self.bundle_sequence)
            .with(7, self.bundle_fingerprint.as_bytes().to_vec())
            .with(8, self.log_size)
            .with(9, self.log_root.as_bytes().to_vec())
            .with(10, self.findings)
            .encode()
    }

    /// Reads a plaintext.
    ///
    /// # Errors
    /// [`Error::Encoding`], [`Error::Shape`] and [`Error::FormatVersion`].
    pub fn from_cbor(bytes: &[u8]) -> Result<Self, Error> {
        let mut fields = Fields::decode(WHAT, bytes, ACKNOWLEDGEMENT_BYTES_MAX)?;
        fields.format_version(1)?;
        let acknowledgement = Self {
            salt: fields.octets(0)?,
            vault: VaultName {
                site: fields.parse(2)?,
                vault: fields.parse(3)?,
            },
            hq_time: fields.uint(4)?,
            lineage: fields.octets(5)?,
            bundle_sequence: fields.uint(6)?,
            bundle_fingerprint: fields.octets(7)?,
            log_size: fields.uint(8)?,
            log_root: fields.octets(9)?,
            findings: fields.uint(10)?,
        };
        fields.finish()?;
        Ok(acknowledgement)
    }
}

impl Dispatched for Acknowledgement {
    const KIND: Kind = Kind::Acknowledgement;
    const WHAT: &'static str = WHAT;
    const BYTES_MAX: usize = 4 * ACKNOWLEDGEMENT_BYTES_MAX;

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
