//! Enrolment: a new vault's request, and the grant that officers approve.
//!
//! ```cddl
//! enrolment-grant = {
//!   0: bstr .size 32,          ; salt
//!   1: 1,                      ; format version
//!   2: identifier, 3: identifier, ; site, vault
//!   4: bstr .size 32,          ; fingerprint of the enrolment request
//!   5: bstr .size 16,          ; lineage that the request stated
//!   6: bstr, 7: bstr,          ; TBSCertificate (DER) of the vault's identity and of its device CA
//!   8: COSE_Key,               ; serial-master, public: the other half of the serial key's agreement
//!   9: uint,                   ; dispatch epoch
//!   10: time, 11: time,        ; drafted at; to be approved and imported before
//! }
//! ```

use p256::PublicKey;

use crate::Error;
use crate::cbor::{Fields, Map};
use crate::identifier::{Fingerprint, Lineage, VaultName};
use crate::key;

/// The largest grant plaintext, in bytes.
pub const GRANT_BYTES_MAX: usize = 16 * 1024;
const GRANT: &str = "enrolment grant";

/// What officers approve when they let a vault in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EnrolmentGrant {
    /// Random, so that the public commitment to the plaintext reveals nothing.
    pub salt: [u8; 32],
    /// Who is let in.
    pub vault: VaultName,
    /// The request that this answers.
    pub request_fingerprint: Fingerprint,
    /// The lineage that the request stated.
    pub lineage: Lineage,
    /// TBSCertificate (DER) of the vault's identity: the root signs exactly this.
    pub identity_tbs: Vec<u8>,
    /// TBSCertificate (DER) of the vault's device CA: the root signs exactly this.
    pub device_ca_tbs: Vec<u8>,
    /// HQ's `serial-master`; with `vault-agree` it gives both ends the serial key.
    pub serial_master: PublicKey,
    /// The dispatch epoch that begins with this.
    pub dispatch_epoch: u64,
    /// When it was drafted, Unix seconds.
    pub drafted_at: u64,
    /// Until when it may be approved and imported, Unix seconds.
    pub approve_until: u64,
}

impl EnrolmentGrant {
    /// The plaintext, encoded.
    pub fn to_cbor(&self) -> Vec<u8> {
        Map::new()
            .with(0, self.salt.to_vec())
            .with(1, crate::FORMAT_VERSION)
            .with(2, self.vault.site.as_str())
            .with(3, self.vault.vault.as_str())
            .with(4, self.request_fingerprint.as_bytes().to_vec())
            .with(5, self.lineage.as_bytes().to_vec())
            .with(6, self.identity_tbs.clone())
            .with(7, self.device_ca_tbs.clone())
            .with(8, key::cose_key(&self.serial_master))
            .with(9, self.dispatch_epoch)
            .with(10, self.drafted_at)
            .with(11, self.approve_until)
            .encode()
    }

    /// Reads a plaintext.
    ///
    /// # Errors
    /// [`Error::Encoding`], [`Error::Shape`], [`Error::Key`] and [`Error::FormatVersion`].
    pub fn from_cbor(bytes: &[u8]) -> Result<Self, Error> {
        let mut fields = Fields::decode(GRANT, bytes, GRANT_BYTES_MAX)?;
        fields.format_version(1)?;
        let grant = Self {
            salt: fields.octets(0)?,
            vault: VaultName { site: fields.parse(2)?, vault: fields.parse(3)? },
            request_fingerprint: fields.octets(4)?,
            lineage: fields.octets(5)?,
            identity_tbs: fields.bytes(6)?,
            device_ca_tbs: fields.bytes(7)?,
            serial_master: key::from_cose_key(GRANT, fields.required(8)?)?,
            dispatch_epoch: fields.uint(9)?,
            drafted_at: fields.uint(10)?,
            approve_until: fields.uint(11)?,
        };
        fields.finish()?;
        Ok(grant)
    }
}
