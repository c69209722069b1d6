//! The status: which certificates HQ accounts for, and what became of them, as of a date.
//!
//! Signed by the report key. With it, whoever holds it tells a genuine device from one that was revoked, that shares its
//! identity with another, or that no log holds, without asking anybody. The lists are exact to 128 bits: no list of good
//! certificates takes one for good that is not. Only the list of serial numbers keeps fewer, and what it answers falsely is
//! that an unknown certificate is a duplicate.
//!
//! ```cddl
//! status = {
//!   1: 1,                              ; format version
//!   2: unix-time,                      ; made
//!   3: uint,                           ; version of the trust manifest in force
//!   4: [*4096 status-of-vault],        ; no vault twice
//! }
//! status-of-vault = {
//!   1: identifier,                     ; site
//!   2: identifier,                     ; vault
//!   3: [*65535 status-of-device-ca],
//!   4: checkpoint / null,              ; of what HQ holds of its log; null where it holds nothing
//!   5: [7*7 digest-set],               ; by device-state, in its order: SHA-256 of each TBSCertificate, first 128 bits
//!   6: digest-set,                     ; SHA-256 of the serial number (17 bytes) of each, cut short
//! }
//! status-of-device-ca = {
//!   1: der,
//!   2: bool,                           ; whether it is revoked, and with it all that it certified
//! }
//! ```

use ciborium::Value;
use p256::PublicKey;

use crate::Error;
use crate::bundle::Checkpoint;
use crate::cbor::{Fields, Map};
use crate::digest_set::{BITS_MAX, DigestSet};
use crate::dossier::DeviceState;
use crate::envelope::{Context, Kind, Party, Sign, SignedOne, Verified, sign_one};
use crate::identifier::{Fingerprint, VaultName};

/// The largest status, in bytes: some eighteen million devices.
pub const STATUS_BYTES_MAX: usize = 256 << 20;
/// How seldom the list of serial numbers answers falsely: once in two to the power of this.
pub const SERIAL_DOUBT_BITS: u32 = 16;
/// The most vaults.
const VAULTS_MAX: usize = 4096;
/// The most device CAs of one vault.
const DEVICE_CAS_MAX: usize = 65535;
const STATES: usize = DeviceState::ALL.len();
const WHAT: &str = "status";

/// A device CA, and whether what it certified still counts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeviceCaStatus {
    /// Its certificate, DER.
    pub certificate: Vec<u8>,
    /// Whether it is revoked.
    pub revoked: bool,
}

/// What HQ knows of one vault's devices.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VaultStatus {
    /// Which.
    pub vault: VaultName,
    /// Its device CAs, from the first.
    pub device_cas: Vec<DeviceCaStatus>,
    /// The head of what HQ holds of its log.
    pub checkpoint: Option<Checkpoint>,
    /// The digests of to-be-signed certificates by what became of those, in the order of [`DeviceState::ALL`].
    pub states: [DigestSet; STATES],
    /// The digests of all their serial numbers, cut short.
    pub serials: DigestSet,
}

impl VaultStatus {
    /// What became of a certificate, by the SHA-256 of its to-be-signed part; none if no log holds it.
    pub fn state(&self, tbs_digest: &Fingerprint) -> Option<DeviceState> {
        let mut states = self.states.iter().zip(DeviceState::ALL);
        let found = states.find(|(set, _)| set.contains(tbs_digest));
        found.map(|(_, state)| state)
    }
}

/// What HQ knows of all devices.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Status {
    /// When it was made, Unix seconds.
    pub made_at: u64,
    /// The version of the trust manifest that was in force.
    pub trust_version: u64,
    /// By vault.
    pub vaults: Vec<VaultStatus>,
}

impl Status {
    fn object_id(made_at: u64) -> String {
        format!("status-{made_at}")
    }

    /// Signs it with the report key.
    ///
    /// # Errors
    /// [`Error::Oversize`], [`Error::KeyOperation`].
    pub fn seal(&self, key: &PublicKey, sign: Sign<'_>) -> Result<Vec<u8>, Error> {
        let context = Context {
            kind: Kind::Status,
            sender: Party::Hq,
            recipient: Party::All,
            id: Self::object_id(self.made_at),
            commitment: None,
        };
        let bytes = sign_one(&context, self.to_cbor(), key, sign)?;
        if bytes.len() > STATUS_BYTES_MAX {
            return Err(Error::Oversize {
                what: WHAT,
                bytes_max: STATUS_BYTES_MAX,
            });
        }
        Ok(bytes)
    }

    /// Opens a status that the report key of HQ signed.
    ///
    /// # Errors
    /// What refuses the signature or the parties, and what the strict reader refuses.
    pub fn open(bytes: &[u8], report_key: &PublicKey) -> Result<Verified<Self>, Error> {
        let message = SignedOne::read(WHAT, bytes, STATUS_BYTES_MAX)?;
        let context = &message.context;
        context.expect(WHAT, Kind::Status, &Party::Hq, &Party::All)?;
        message.verify(report_key)?;
        let status = Self::from_cbor(message.payload())?;
        if context.id != Self::object_id(status.made_at) {
            return Err(Error::PartsDiffer {
                what: WHAT,
                why: "header and content differ in time",
            });
        }
        // The plaintext is not kept once more: it may be hundreds of megabytes.
        Ok(Verified::new(
            status,
            message.fingerprint(),
            Vec::new(),
            Vec::new(),
        ))
    }

    /// The payload, encoded.
    pub fn to_cbor(&self) -> Vec<u8> {
        Map::new()
            .with(1, crate::FORMAT_VERSION)
            .with(2, self.made_at)
            .with(3, self.trust_version)
            .with_array(4, self.vaults.iter().map(vault_map))
            .encode()
    }

    /// Reads a payload.
    ///
    /// # Errors
    /// [`Error::Encoding`], [`Error::Shape`] and [`Error::FormatVersion`].
    pub fn from_cbor(bytes: &[u8]) -> Result<Self, Error> {
        let mut fields = Fields::decode(WHAT, bytes, STATUS_BYTES_MAX)?;
        fields.format_version(1)?;
        let vaults: Result<Vec<_>, Error> = fields
            .array(4, VAULTS_MAX)?
            .into_iter()
            .map(vault)
            .collect();
        let status = Self {
            made_at: fields.uint(2)?,
            trust_version: fields.uint(3)?,
            vaults: vaults?,
        };
        let mut names: Vec<_> = status.vaults.iter().map(|of| &of.vault).collect();
        names.sort_unstable();
        names.dedup();
        if names.len() != status.vaults.len() {
            return Err(fields.wrong(4, "a vault stands twice"));
        }
        fields.finish()?;
        Ok(status)
    }
}

fn vault_map(of: &VaultStatus) -> Map {
    let device_cas = of.device_cas.iter().map(|device_ca| {
        Map::new()
            .with(1, device_ca.certificate.clone())
            .with(2, device_ca.revoked)
    });
    Map::new()
        .with(1, of.vault.site.as_str())
        .with(2, of.vault.vault.as_str())
        .with_array(3, device_cas)
        .with_nullable(4, of.checkpoint.map(Checkpoint::to_map))
        .with_array(5, of.states.iter().map(DigestSet::to_value))
        .with(6, of.serials.to_value())
}

fn vault(value: Value) -> Result<VaultStatus, Error> {
    let what = "status of a vault";
    let mut fields = Fields::new(what, value)?;
    let checkpoint = fields.nullable(4)?;
    let checkpoint = checkpoint.map(|value| Checkpoint::from_fields(Fields::new(what, value)?));
    let device_cas: Result<_, Error> = fields
        .array(3, DEVICE_CAS_MAX)?
        .into_iter()
        .map(device_ca)
        .collect();
    let sets = fields.array(5, STATES)?.into_iter();
    let sets: Result<Vec<_>, Error> = sets.map(DigestSet::from_value).collect();
    let states = <[DigestSet; STATES]>::try_from(sets?);
    let status = VaultStatus {
        vault: VaultName {
            site: fields.parse(1)?,
            vault: fields.parse(2)?,
        },
        device_cas: device_cas?,
        checkpoint: checkpoint.transpose()?,
        states: states.map_err(|_| fields.wrong(5, "one set for each state was expected"))?,
        serials: DigestSet::from_value(fields.required(6)?)?,
    };
    // A shorter one could be met by a certificate that somebody looked for.
    if status.states.iter().any(|set| set.bits() != BITS_MAX) {
        return Err(fields.wrong(5, "digests of 128 bits were expected"));
    }
    fields.finish()?;
    Ok(status)
}

fn device_ca(value: Value) -> Result<DeviceCaStatus, Error> {
    let mut fields = Fields::new("device CA of a status", value)?;
    let revoked = fields.required(2)?;
    let status = DeviceCaStatus {
        certificate: fields.bytes(1)?,
        revoked: revoked
            .as_bool()
            .ok_or_else(|| fields.wrong(2, "true or false was expected"))?,
    };
    fields.finish()?;
    Ok(status)
}
