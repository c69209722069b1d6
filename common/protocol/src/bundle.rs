//! The audit bundle: what a vault reports, and the checkpoint that it can never take back.
//!
//! ```cddl
//! audit-bundle = {
//!   1: 1,                              ; format version
//!   2: identifier,                     ; site
//!   3: identifier,                     ; vault
//!   4: lineage,
//!   5: uint,                           ; sequence, from 1
//!   6: digest / null,                  ; fingerprint of the bundle before in this lineage; null in the first alone
//!   7: dispatch-seen / null,           ; the newest dispatch that the vault had seen
//!   8: checkpoint,
//!   9: uint,                           ; sequence of the first record that it brings; records count from 0
//!   10: [0*9999 segment-facts],
//!   11: uint,                          ; version of the trust manifest in force at the vault
//!   12: unix-time,                     ; sealed at
//!   ? 13: der,                         ; the device CA's current CRL
//! }
//! dispatch-seen = {
//!   1: uint,                           ; epoch
//!   2: uint,                           ; sequence
//!   3: digest,                         ; fingerprint
//! }
//! checkpoint = {
//!   1: uint,                           ; size of the log, in records
//!   2: digest,                         ; Merkle root
//!   3: unix-time,                      ; of the last record
//! }
//! segment-facts = {
//!   1: uint,                           ; sequence of its first record
//!   2: uint,                           ; how many records, from 1
//!   3: digest,                         ; SHA-256 of the file
//!   4: uint,                           ; bytes of the file
//!   5: digest,                         ; SHA-256 of the plaintext
//! }
//! ```

use ciborium::Value;
use p256::PublicKey;

use crate::Error;
use crate::cbor::{Fields, Map};
use crate::envelope::{Context, Kind, Party, Sign, SignedOne, Verified, sign_one};
use crate::identifier::{Fingerprint, Lineage, VaultName};
use crate::segment::SegmentFacts;

/// The largest bundle, without its segments, in bytes: a CRL, and what stands beside it.
pub const BUNDLE_BYTES_MAX: usize = CRL_BYTES_MAX + (4 << 20);
/// The largest CRL in a bundle, in bytes of DER: some seven hundred thousand certificates.
pub const CRL_BYTES_MAX: usize = 32 << 20;
/// The most segments of one bundle.
pub const SEGMENTS_MAX: usize = 9999;
const WHAT: &str = "audit bundle";

/// The newest dispatch that a vault has seen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DispatchSeen {
    /// Its epoch.
    pub epoch: u64,
    /// Its number in that.
    pub sequence: u64,
    /// Its fingerprint.
    pub fingerprint: Fingerprint,
}

/// The head of a log, signed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Checkpoint {
    /// How many records.
    pub size: u64,
    /// The Merkle root over them (RFC 9162 section 2.1.1).
    pub root: Fingerprint,
    /// The time of the last of them, Unix seconds.
    pub time: u64,
}

impl Checkpoint {
    pub(crate) fn to_map(self) -> Map {
        Map::new()
            .with(1, self.size)
            .with(2, self.root.as_bytes().to_vec())
            .with(3, self.time)
    }

    pub(crate) fn from_fields(mut fields: Fields) -> Result<Self, Error> {
        let checkpoint = Self {
            size: fields.uint(1)?,
            root: fields.octets(2)?,
            time: fields.uint(3)?,
        };
        fields.finish()?;
        Ok(checkpoint)
    }
}

/// What a vault reports.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Bundle {
    /// Who reports.
    pub vault: VaultName,
    /// The history that it is of.
    pub lineage: Lineage,
    /// From 1, one more each time.
    pub sequence: u64,
    /// The fingerprint of the one before in this lineage.
    pub previous: Option<Fingerprint>,
    /// What the vault had seen of HQ.
    pub dispatch_seen: Option<DispatchSeen>,
    /// The head of the log with this bundle's records.
    pub checkpoint: Checkpoint,
    /// The sequence of the first record that it brings: the size of the checkpoint before.
    pub first: u64,
    /// Its segments, in order.
    pub segments: Vec<SegmentFacts>,
    /// The version of the trust manifest in force at the vault.
    pub trust_version: u64,
    /// When it was sealed, Unix seconds.
    pub sealed_at: u64,
    /// The device CA's current CRL, DER.
    pub crl: Option<Vec<u8>>,
}

impl Bundle {
    pub(crate) fn to_cbor(&self) -> Vec<u8> {
        let seen = self.dispatch_seen.map(|seen| {
            Map::new()
                .with(1, seen.epoch)
                .with(2, seen.sequence)
                .with(3, seen.fingerprint.as_bytes().to_vec())
        });
        let segments = self.segments.iter().map(|segment| {
            Map::new()
                .with(1, segment.first)
                .with(2, segment.count)
                .with(3, segment.file_digest.as_bytes().to_vec())
                .with(4, segment.file_bytes)
                .with(5, segment.commitment.as_bytes().to_vec())
        });
        Map::new()
            .with(1, crate::FORMAT_VERSION)
            .with(2, self.vault.site.as_str())
            .with(3, self.vault.vault.as_str())
            .with(4, self.lineage.as_bytes().to_vec())
            .with(5, self.sequence)
            .with_nullable(6, self.previous.map(|digest| digest.as_bytes().to_vec()))
            .with_nullable(7, seen)
            .with(8, self.checkpoint.to_map())
            .with(9, self.first)
            .with_array(10, segments)
            .with(11, self.trust_version)
            .with(12, self.sealed_at)
            .with_some(13, self.crl.clone())
            .encode()
    }

    pub(crate) fn from_cbor(bytes: &[u8]) -> Result<Self, Error> {
        let mut fields = Fields::decode(WHAT, bytes, BUNDLE_BYTES_MAX)?;
        fields.format_version(1)?;
        let dispatch_seen = match fields.nullable(7)? {
            None => None,
            Some(value) => {
                let mut seen = Fields::new("dispatch seen", value)?;
                let read = DispatchSeen {
                    epoch: seen.uint(1)?,
                    sequence: seen.uint(2)?,
                    fingerprint: seen.octets(3)?,
                };
                seen.finish()?;
                Some(read)
            }
        };
        let checkpoint = Checkpoint::from_fields(fields.map(8, "checkpoint")?)?;
        let segments: Result<_, Error> = fields
            .array(10, SEGMENTS_MAX)?
            .into_iter()
            .map(segment)
            .collect();
        let crl = fields.optional(13).map(Value::into_bytes).transpose();
        let bundle = Self {
            vault: VaultName {
                site: fields.parse(2)?,
                vault: fields.parse(3)?,
            },
            lineage: fields.octets(4)?,
            sequence: fields.uint(5)?,
            previous: fields.nullable_fingerprint(6)?,
            dispatch_seen,
            checkpoint,
            first: fields.uint(9)?,
            segments: segments?,
            trust_version: fields.uint(11)?,
            sealed_at: fields.uint(12)?,
            crl: crl.map_err(|_| fields.wrong(13, "a byte string was expected"))?,
        };
        fields.finish()?;
        bundle.check()?;
        Ok(bundle)
    }

    /// Its segments must bring exactly the records from `first` up to the checkpoint.
    fn check(&self) -> Result<(), Error> {
        let wrong = |why: &str| {
            Err(Error::Shape {
                what: WHAT,
                why: why.to_owned(),
            })
        };
        if self.sequence == 0 || (self.sequence == 1) != self.previous.is_none() {
            return wrong("the first bundle of a lineage, and only that, has none before it");
        }
        if self
            .crl
            .as_ref()
            .is_some_and(|crl| crl.len() > CRL_BYTES_MAX)
        {
            return wrong("its CRL is larger than one may be");
        }
        let mut next = self.first;
        for segment in &self.segments {
            if segment.first != next || segment.count == 0 {
                return wrong("its segments do not follow one another");
            }
            let Some(after) = next.checked_add(segment.count) else {
                return wrong("its segments do not follow one another");
            };
            next = after;
        }
        if next != self.checkpoint.size {
            return wrong("its segments do not reach its checkpoint");
        }
        Ok(())
    }

    /// The id under which a bundle travels.
    pub fn object_id(lineage: &Lineage, sequence: u64) -> String {
        format!("{lineage}-{sequence:06}")
    }

    /// The id under which one of its segments travels; `number` counts from 1.
    pub fn segment_id(lineage: &Lineage, sequence: u64, number: usize) -> String {
        format!("{}-seg{number:04}", Self::object_id(lineage, sequence))
    }

    /// Signs it with `vault-sign`. Returns the message and its fingerprint, which the next one names.
    ///
    /// # Errors
    /// [`Error::Shape`] if its segments do not fit it, [`Error::KeyOperation`].
    pub fn seal(&self, key: &PublicKey, sign: Sign<'_>) -> Result<(Vec<u8>, Fingerprint), Error> {
        self.check()?;
        let context = Context {
            kind: Kind::AuditBundle,
            sender: Party::Vault(self.vault.clone()),
            recipient: Party::Hq,
            id: Self::object_id(&self.lineage, self.sequence),
            commitment: None,
        };
        let payload = self.to_cbor();
        let fingerprint = Fingerprint::of(&payload);
        Ok((sign_one(&context, payload, key, sign)?, fingerprint))
    }

    /// Opens a bundle of `vault`, whose `vault-sign` key enrolment made known. Its order is judged by whoever keeps the
    /// chain.
    ///
    /// # Errors
    /// What refuses the signature or the parties.
    pub fn open(bytes: &[u8], vault: &VaultName, key: &PublicKey) -> Result<Verified<Self>, Error> {
        let message = SignedOne::read(WHAT, bytes, BUNDLE_BYTES_MAX)?;
        message.context.expect(
            WHAT,
            Kind::AuditBundle,
            &Party::Vault(vault.clone()),
            &Party::Hq,
        )?;
        message.verify(key)?;
        let bundle = Self::from_cbor(message.payload())?;
        let id = Self::object_id(&bundle.lineage, bundle.sequence);
        if bundle.vault != *vault || id != message.context.id {
            return Err(Error::PartsDiffer {
                what: WHAT,
                why: "header and content differ",
            });
        }
        let plaintext = message.payload().to_vec();
        Ok(Verified::new(
            bundle,
            message.fingerprint(),
            plaintext,
            Vec::new(),
        ))
    }
}

fn segment(value: Value) -> Result<SegmentFacts, Error> {
    let mut fields = Fields::new("segment of an audit bundle", value)?;
    let facts = SegmentFacts {
        first: fields.uint(1)?,
        count: fields.uint(2)?,
        file_digest: fields.octets(3)?,
        file_bytes: fields.uint(4)?,
        commitment: fields.octets(5)?,
    };
    fields.finish()?;
    Ok(facts)
}
