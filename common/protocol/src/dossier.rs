//! The dossier of one device: everything that shows a third party where its certificate comes from.
//!
//! Signed by the report key of HQ. What it says of the log does not rest on HQ's word: the records are those of the vault,
//! the receipts lead from them to a root, and the vault itself signed a checkpoint with that root.
//!
//! ```cddl
//! dossier = {
//!   1: 1,                              ; format version
//!   2: identifier,                     ; site
//!   3: identifier,                     ; vault
//!   4: unix-time,                      ; made
//!   5: der,                            ; the device's certificate
//!   6: der,                            ; the device CA's, which issued it
//!   7: der,                            ; the root's, which issued that
//!   8: der,                            ; the certificate of the vault's identity
//!   9: lineage,                        ; of the checkpoint
//!   10: checkpoint,                    ; of the log in which the records are
//!   11: bstr / null,                   ; the audit bundle with that checkpoint, as it was received; null where it is too large
//!   12: [3*3 dossier-record],          ; the request, the reservation, the signature
//!   13: dossier-entitlement,
//!   14: dossier-state,
//! }
//! dossier-record = {
//!   1: bstr,                           ; as the vault wrote it
//!   2: bstr .cbor receipt,
//! }
//! dossier-entitlement = {
//!   1: identifier,
//!   2: uint,                           ; its newest version
//!   3: sku,                            ; the product
//!   4: unix-time,                      ; valid from
//!   5: unix-time,                      ; until
//!   6: [*64 identifier],               ; officers who approved that version
//! }
//! dossier-state = {
//!   1: device-state,
//!   ? 2: unix-time,                    ; since when it is not good
//!   ? 3: uint,                         ; the record that says so
//!   ? 4: tstr .size (1..800),          ; why
//! }
//! device-state = "good" / "superseded" / "scrapped" / "voided" / "revoked" / "duplicate" / "doubtful"
//! ```

use std::fmt;
use std::str::FromStr;

use ciborium::Value;
use p256::PublicKey;

use crate::Error;
use crate::bundle::Checkpoint;
use crate::cbor::{Fields, Map};
use crate::envelope::{Context, Kind, Party, Sign, SignedOne, Verified, sign_one};
use crate::identifier::{EntitlementId, Fingerprint, Lineage, OfficerId, Sku, VaultName};

/// The largest dossier, in bytes.
pub const DOSSIER_BYTES_MAX: usize = 1 << 20;
/// The largest bundle that a dossier holds, in bytes.
pub const DOSSIER_BUNDLE_BYTES_MAX: usize = 256 << 10;
/// The most officers of one entitlement.
const APPROVERS_MAX: usize = 64;
/// The longest reason, in bytes.
const REASON_BYTES_MAX: usize = 800;
const WHAT: &str = "dossier";

/// What became of a certificate.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum DeviceState {
    /// It is accounted for, and nothing speaks against it.
    Good,
    /// Its device was certified again.
    Superseded,
    /// Its device was scrapped.
    Scrapped,
    /// Its unit was voided.
    Voided,
    /// It, or the device CA that issued it, was revoked.
    Revoked,
    /// It shares its slot, its key or its identifier with another one.
    Duplicate,
    /// Nobody granted it, or a finding names it.
    Doubtful,
}

impl DeviceState {
    /// Each of them.
    pub const ALL: [Self; 7] = [
        Self::Good,
        Self::Superseded,
        Self::Scrapped,
        Self::Voided,
        Self::Revoked,
        Self::Duplicate,
        Self::Doubtful,
    ];

    /// Its name in messages and `--json`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Good => "good",
            Self::Superseded => "superseded",
            Self::Scrapped => "scrapped",
            Self::Voided => "voided",
            Self::Revoked => "revoked",
            Self::Duplicate => "duplicate",
            Self::Doubtful => "doubtful",
        }
    }
}

impl fmt::Display for DeviceState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for DeviceState {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let mut all = Self::ALL.into_iter();
        all.find(|state| state.as_str() == text)
            .ok_or_else(|| format!("`{}` is no state of a device", text.escape_default()))
    }
}

/// A record of a vault's log, and the receipt that it is in there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LoggedRecord {
    /// As the vault wrote it.
    pub record: Vec<u8>,
    /// [`crate::receipt::Receipt`], encoded.
    pub receipt: Vec<u8>,
}

/// What allowed a unit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EntitlementFacts {
    /// Its id.
    pub id: EntitlementId,
    /// Its newest version.
    pub version: u64,
    /// The product.
    pub sku: Sku,
    /// Unix seconds.
    pub valid_from: u64,
    /// Unix seconds.
    pub valid_until: u64,
    /// Who approved that version.
    pub approvers: Vec<OfficerId>,
}

/// What became of a device's certificate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StateFacts {
    /// What.
    pub state: DeviceState,
    /// Since when it is not good, Unix seconds.
    pub since: Option<u64>,
    /// The record that says so.
    pub record: Option<u64>,
    /// Why: up to 200 characters.
    pub reason: Option<String>,
}

/// Everything about one device.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Dossier {
    /// Which vault made it.
    pub vault: VaultName,
    /// When the dossier was made, Unix seconds.
    pub made_at: u64,
    /// The device's certificate, DER.
    pub certificate: Vec<u8>,
    /// The certificate of its device CA, DER.
    pub device_ca: Vec<u8>,
    /// The certificate of the root that issued that, DER.
    pub root: Vec<u8>,
    /// The certificate of the vault's identity, DER.
    pub identity: Vec<u8>,
    /// The history that the checkpoint is of.
    pub lineage: Lineage,
    /// The head of the log in which the records are.
    pub checkpoint: Checkpoint,
    /// The bundle with that checkpoint, as it was received.
    pub bundle: Option<Vec<u8>>,
    /// The request, the reservation, the signature.
    pub records: [LoggedRecord; 3],
    /// What allowed it.
    pub entitlement: EntitlementFacts,
    /// What became of it.
    pub state: StateFacts,
}

impl Dossier {
    /// The id under which it is signed, of the device's certificate.
    pub fn object_id(certificate: &[u8]) -> String {
        let digest = Fingerprint::of(certificate).to_string();
        format!("dossier-{}", digest.get(..32).unwrap_or_default())
    }

    /// Signs it with the report key.
    ///
    /// # Errors
    /// [`Error::KeyOperation`].
    pub fn seal(&self, key: &PublicKey, sign: Sign<'_>) -> Result<Vec<u8>, Error> {
        let context = Context {
            kind: Kind::Dossier,
            sender: Party::Hq,
            recipient: Party::All,
            id: Self::object_id(&self.certificate),
            commitment: None,
        };
        sign_one(&context, self.to_cbor(), key, sign)
    }

    /// Opens a dossier that the report key of HQ signed. Its certificates, records and receipts are the caller's to judge.
    ///
    /// # Errors
    /// What refuses the signature or the parties, and what the strict reader refuses.
    pub fn open(bytes: &[u8], report_key: &PublicKey) -> Result<Verified<Self>, Error> {
        let message = SignedOne::read(WHAT, bytes, DOSSIER_BYTES_MAX)?;
        let context = &message.context;
        context.expect(WHAT, Kind::Dossier, &Party::Hq, &Party::All)?;
        message.verify(report_key)?;
        let dossier = Self::from_cbor(message.payload())?;
        if context.id != Self::object_id(&dossier.certificate) {
            return Err(Error::PartsDiffer {
                what: WHAT,
                why: "header and content differ in certificate",
            });
        }
        let plaintext = message.payload().to_vec();
        Ok(Verified::new(
            dossier,
            message.fingerprint(),
            plaintext,
            Vec::new(),
        ))
    }

    /// The payload, encoded.
    pub fn to_cbor(&self) -> Vec<u8> {
        let records = self.records.iter().map(|logged| {
            Map::new()
                .with(1, logged.record.clone())
                .with(2, logged.receipt.clone())
        });
        let entitlement = Map::new()
            .with(1, self.entitlement.id.as_str())
            .with(2, self.entitlement.version)
            .with(3, self.entitlement.sku.as_str())
            .with(4, self.entitlement.valid_from)
            .with(5, self.entitlement.valid_until)
            .with_array(6, self.entitlement.approvers.iter().map(OfficerId::as_str));
        let state = Map::new()
            .with(1, self.state.state.as_str())
            .with_some(2, self.state.since)
            .with_some(3, self.state.record)
            .with_some(4, self.state.reason.as_deref());
        Map::new()
            .with(1, crate::FORMAT_VERSION)
            .with(2, self.vault.site.as_str())
            .with(3, self.vault.vault.as_str())
            .with(4, self.made_at)
            .with(5, self.certificate.clone())
            .with(6, self.device_ca.clone())
            .with(7, self.root.clone())
            .with(8, self.identity.clone())
            .with(9, self.lineage.as_bytes().to_vec())
            .with(10, self.checkpoint.to_map())
            .with_nullable(11, self.bundle.clone())
            .with_array(12, records)
            .with(13, entitlement)
            .with(14, state)
            .encode()
    }

    /// Reads a payload.
    ///
    /// # Errors
    /// [`Error::Encoding`], [`Error::Shape`] and [`Error::FormatVersion`].
    pub fn from_cbor(bytes: &[u8]) -> Result<Self, Error> {
        let mut fields = Fields::decode(WHAT, bytes, DOSSIER_BYTES_MAX)?;
        fields.format_version(1)?;
        let records: Result<Vec<_>, Error> = fields.array(12, 3)?.into_iter().map(record).collect();
        let records = <[LoggedRecord; 3]>::try_from(records?);
        let bundle = fields.nullable(11)?.map(Value::into_bytes).transpose();
        let dossier = Self {
            vault: VaultName {
                site: fields.parse(2)?,
                vault: fields.parse(3)?,
            },
            made_at: fields.uint(4)?,
            certificate: fields.bytes(5)?,
            device_ca: fields.bytes(6)?,
            root: fields.bytes(7)?,
            identity: fields.bytes(8)?,
            lineage: fields.octets(9)?,
            checkpoint: Checkpoint::from_fields(fields.map(10, "checkpoint of a dossier")?)?,
            bundle: bundle.map_err(|_| fields.wrong(11, "a byte string was expected"))?,
            records: records.map_err(|_| fields.wrong(12, "three records were expected"))?,
            entitlement: entitlement(fields.map(13, "entitlement of a dossier")?)?,
            state: state(fields.map(14, "state of a dossier")?)?,
        };
        let bundle = dossier.bundle.as_ref();
        if bundle.is_some_and(|bundle| bundle.len() > DOSSIER_BUNDLE_BYTES_MAX) {
            return Err(fields.wrong(11, "larger than a bundle may be here"));
        }
        fields.finish()?;
        Ok(dossier)
    }
}

fn record(value: Value) -> Result<LoggedRecord, Error> {
    let mut fields = Fields::new("record of a dossier", value)?;
    let record = LoggedRecord {
        record: fields.bytes(1)?,
        receipt: fields.bytes(2)?,
    };
    fields.finish()?;
    Ok(record)
}

fn entitlement(mut fields: Fields) -> Result<EntitlementFacts, Error> {
    let facts = EntitlementFacts {
        id: fields.parse(1)?,
        version: fields.uint(2)?,
        sku: fields.parse(3)?,
        valid_from: fields.uint(4)?,
        valid_until: fields.uint(5)?,
        approvers: fields.texts(6, APPROVERS_MAX)?,
    };
    fields.finish()?;
    Ok(facts)
}

fn state(mut fields: Fields) -> Result<StateFacts, Error> {
    let reason = fields.optional(4).map(Value::into_text).transpose();
    let facts = StateFacts {
        state: fields.parse(1)?,
        since: fields.optional_uint(2)?,
        record: fields.optional_uint(3)?,
        reason: reason.map_err(|_| fields.wrong(4, "a text was expected"))?,
    };
    let reason = facts.reason.as_ref();
    if reason.is_some_and(|reason| reason.is_empty() || reason.len() > REASON_BYTES_MAX) {
        return Err(fields.wrong(4, "1 to 200 characters were expected"));
    }
    fields.finish()?;
    Ok(facts)
}
