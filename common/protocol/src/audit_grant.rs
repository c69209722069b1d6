//! An auditor's grant: what headquarters holds of some vaults, in one file, with what opens it for one auditor.
//!
//! The file is a CBOR sequence (RFC 8742): a mark, the trust manifests, this message, and then the parts that it lists, each as
//! it was received or sent. The parts stay encrypted as they are; the message brings what the auditor needs to open them.
//!
//! ```cddl
//! audit-grant-mark = "mintmark audit grant"
//! audit-grant-trust = {
//!   1: 1,                              ; format version
//!   2: [1*4096 bstr],                  ; trust manifests, whole messages, from version 1
//! }
//! audit-grant = {
//!   0: salt,
//!   1: 1,                              ; format version
//!   2: unix-time,                      ; made at
//!   3: COSE_Key,                       ; the auditor's
//!   4: uint / null,                    ; the first day that the auditor is asked to look at, in days since 1970
//!   5: uint / null,                    ; the last day; no bundle that begins after it is here
//!   6: [1*4096 COSE_Key],              ; encryption keys of HQ
//!   7: bstr,                           ; secrets of 65 bytes each, sorted; see docs/formats.md
//!   8: [*4096 audit-grant-serials],    ; no vault twice
//!   9: [1*262144 audit-grant-part],    ; in the order in which HQ sent them and took them in
//! }
//! audit-grant-serials = {
//!   1: identifier,                     ; site
//!   2: identifier,                     ; vault
//!   3: bstr .size 32,                  ; its serial key
//! }
//! audit-grant-part = {
//!   1: part-type,
//!   2: unix-time,                      ; when HQ sent it or took it in
//!   3: uint,                           ; bytes
//!   4: digest,                         ; SHA-256 of them
//!   5: uint,                           ; of a segment, its number; of a trust manifest, its version; else 0
//! }
//! part-type = "trust-manifest" / "draft" / "dispatch" / "order" / "bundle" / "segment" / "refused-bundle" / "restore" /
//!   "refused-restore" / "report"
//! ```

use std::fmt;
use std::str::FromStr;

use ciborium::Value;
use p256::PublicKey;
use p256::elliptic_curve::sec1::ToSec1Point as _;
use zeroize::Zeroizing;

use crate::Error;
use crate::cbor::{Fields, Map};
use crate::encryption::{self, Encrypted, Opener};
use crate::envelope::{Context, Kind, Party, Sign, SignedOne, Verified, sign_one};
use crate::identifier::{Fingerprint, VaultName};
use crate::key::{cose_key, from_cose_key};

/// The text with which a file begins.
pub const MARK: &str = "mintmark audit grant";
/// The largest message, without the parts that it lists, in bytes.
pub const AUDIT_GRANT_BYTES_MAX: usize = 64 << 20;
/// The most parts of one grant.
pub const PARTS_MAX: usize = 262_144;
/// The most trust manifests, vaults or keys in one.
pub const LISTED_MAX: usize = 4096;
/// The largest trust part of a file, in bytes.
pub const AUDIT_GRANT_TRUST_BYTES_MAX: usize = 64 << 20;
/// Bytes of a point as in SEC 1, compressed.
const POINT_BYTES: usize = 33;
/// Bytes of what is agreed on with it.
const SECRET_BYTES: usize = 32;
const WHAT: &str = "audit grant";

/// What a part is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum PartKind {
    /// A trust manifest; it stands before the message, and not among the parts again.
    TrustManifest,
    /// A draft that a dispatch brings the approved form of.
    Draft,
    /// What HQ sent.
    Dispatch,
    /// What officers ordered of a vault that is told nothing any more, and that others go by.
    Order,
    /// A bundle that HQ holds.
    Bundle,
    /// A segment of the bundle before it.
    Segment,
    /// A bundle that HQ refused, or holds back, and keeps as evidence.
    RefusedBundle,
    /// A restore that a vault declared.
    Restore,
    /// A declaration that HQ refused and keeps as evidence.
    RefusedRestore,
    /// What HQ's own books say, as JSON.
    Report,
}

impl PartKind {
    const ALL: [Self; 10] = [
        Self::TrustManifest,
        Self::Draft,
        Self::Dispatch,
        Self::Order,
        Self::Bundle,
        Self::Segment,
        Self::RefusedBundle,
        Self::Restore,
        Self::RefusedRestore,
        Self::Report,
    ];

    /// Its name.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::TrustManifest => "trust-manifest",
            Self::Draft => "draft",
            Self::Dispatch => "dispatch",
            Self::Order => "order",
            Self::Bundle => "bundle",
            Self::Segment => "segment",
            Self::RefusedBundle => "refused-bundle",
            Self::Restore => "restore",
            Self::RefusedRestore => "refused-restore",
            Self::Report => "report",
        }
    }
}

impl fmt::Display for PartKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl FromStr for PartKind {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let mut all = Self::ALL.into_iter();
        all.find(|kind| kind.as_str() == text)
            .ok_or_else(|| format!("`{}` is no part of a grant", text.escape_default()))
    }
}

/// One part of the file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Part {
    /// What it is.
    pub kind: PartKind,
    /// When HQ sent it or took it in, Unix seconds: HQ's word.
    pub time: u64,
    /// Its length.
    pub bytes: u64,
    /// SHA-256 of it.
    pub digest: Fingerprint,
    /// The number of a segment, from 1, the version of a trust manifest, else 0.
    pub number: u64,
}

/// What one of HQ's keys agreed on with the ephemeral key of one recipient of one message (RFC 9053 section 6.3.1): it
/// opens that message and no other.
#[derive(Clone)]
pub struct Secret {
    /// The ephemeral key.
    pub ephemeral: PublicKey,
    /// The x-coordinate.
    pub shared: Zeroizing<[u8; 32]>,
}

impl Secret {
    /// By what it is found: the ephemeral key as a point as in SEC 1, compressed.
    pub fn point_of(ephemeral: &PublicKey) -> [u8; POINT_BYTES] {
        let encoded = ephemeral.to_sec1_point(true);
        let mut point = [0; POINT_BYTES];
        // A compressed point that is not the identity has that many bytes, and no key is the identity.
        if encoded.as_bytes().len() == POINT_BYTES {
            point.copy_from_slice(encoded.as_bytes());
        }
        point
    }
}

/// A vault's serial key.
#[derive(Clone)]
pub struct SerialKey {
    /// Whose.
    pub vault: VaultName,
    /// AES-256.
    pub key: Zeroizing<[u8; 32]>,
}

/// What HQ gives to an auditor.
#[derive(Clone)]
pub struct AuditGrant {
    /// Fresh for every message.
    pub salt: [u8; 32],
    /// Unix seconds.
    pub made_at: u64,
    /// To whom.
    pub auditor: PublicKey,
    /// The first day that they are asked to look at, in days since 1970.
    pub from_day: Option<u64>,
    /// The last day.
    pub to_day: Option<u64>,
    /// HQ's encryption keys.
    pub hq_keys: Vec<PublicKey>,
    /// What opens the parts.
    pub secrets: Vec<Secret>,
    /// What tells account and slot of a serial number.
    pub serial_keys: Vec<SerialKey>,
    /// The parts, in order.
    pub parts: Vec<Part>,
}

impl AuditGrant {
    fn object_id(made_at: u64) -> String {
        format!("grant-{made_at}")
    }

    /// Encrypts it to the auditor and signs it with the report key.
    ///
    /// # Errors
    /// [`Error::Oversize`], [`Error::Random`], [`Error::KeyOperation`].
    pub fn seal(&self, report_key: &PublicKey, sign: Sign<'_>) -> Result<Vec<u8>, Error> {
        let plaintext = Zeroizing::new(self.to_cbor());
        let is_listed = self.parts.len() <= PARTS_MAX
            && self.hq_keys.len() <= LISTED_MAX
            && self.serial_keys.len() <= LISTED_MAX;
        if plaintext.len() + 4096 > AUDIT_GRANT_BYTES_MAX || !is_listed {
            return Err(Error::Oversize {
                what: WHAT,
                bytes_max: AUDIT_GRANT_BYTES_MAX,
            });
        }
        let context = Context {
            kind: Kind::AuditGrant,
            sender: Party::Hq,
            recipient: Party::Auditor,
            id: Self::object_id(self.made_at),
            commitment: Some(Fingerprint::of(&plaintext)),
        };
        let payload = encryption::seal(&context, &plaintext, &[self.auditor])?;
        sign_one(&context, payload, report_key, sign)
    }

    /// Opens a grant that the report key of HQ signed.
    ///
    /// # Errors
    /// What refuses the signature or the parties, [`Error::NotRecipient`], and what the strict reader refuses.
    pub fn open(
        bytes: &[u8],
        report_key: &PublicKey,
        opener: Opener<'_>,
    ) -> Result<Verified<Self>, Error> {
        let message = SignedOne::read(WHAT, bytes, AUDIT_GRANT_BYTES_MAX)?;
        let context = &message.context;
        context.expect(WHAT, Kind::AuditGrant, &Party::Hq, &Party::Auditor)?;
        message.verify(report_key)?;
        let encrypted = Encrypted::read(WHAT, message.payload(), AUDIT_GRANT_BYTES_MAX)?;
        context.expect_inner(WHAT, &encrypted.context)?;
        let plaintext = encrypted.open(opener)?;
        if context.commitment != Some(Fingerprint::of(&plaintext)) {
            return Err(Error::Commitment { what: WHAT });
        }
        let grant = Self::from_cbor(&plaintext)?;
        if context.id != Self::object_id(grant.made_at) || grant.auditor != *opener.public_key {
            return Err(Error::PartsDiffer {
                what: WHAT,
                why: "header and content differ",
            });
        }
        // The plaintext holds keys, and is not kept once more.
        let fingerprint = message.fingerprint();
        Ok(Verified::new(grant, fingerprint, Vec::new(), Vec::new()))
    }

    /// The plaintext, encoded.
    pub fn to_cbor(&self) -> Vec<u8> {
        let mut entries: Vec<_> = self.secrets.iter().map(entry).collect();
        entries.sort();
        entries.dedup();
        let secrets: Vec<u8> = entries.concat();
        Map::new()
            .with(0, self.salt.to_vec())
            .with(1, crate::FORMAT_VERSION)
            .with(2, self.made_at)
            .with(3, cose_key(&self.auditor))
            .with_nullable(4, self.from_day)
            .with_nullable(5, self.to_day)
            .with_array(6, self.hq_keys.iter().map(cose_key))
            .with(7, secrets)
            .with_array(
                8,
                self.serial_keys.iter().map(|of| {
                    Map::new()
                        .with(1, of.vault.site.as_str())
                        .with(2, of.vault.vault.as_str())
                        .with(3, of.key.to_vec())
                }),
            )
            .with_array(
                9,
                self.parts.iter().map(|part| {
                    Map::new()
                        .with(1, part.kind.as_str())
                        .with(2, part.time)
                        .with(3, part.bytes)
                        .with(4, part.digest.as_bytes().to_vec())
                        .with(5, part.number)
                }),
            )
            .encode()
    }

    /// Reads a plaintext.
    ///
    /// # Errors
    /// [`Error::Encoding`], [`Error::Shape`] and [`Error::FormatVersion`].
    pub fn from_cbor(bytes: &[u8]) -> Result<Self, Error> {
        let mut fields = Fields::decode(WHAT, bytes, AUDIT_GRANT_BYTES_MAX)?;
        fields.format_version(1)?;
        let hq_keys = fields.array(6, LISTED_MAX)?.into_iter();
        let hq_keys: Result<Vec<_>, Error> = hq_keys.map(|key| from_cose_key(WHAT, key)).collect();
        let secrets = Zeroizing::new(fields.bytes(7)?);
        let serial_keys = fields.array(8, LISTED_MAX)?.into_iter();
        let serial_keys: Result<Vec<_>, Error> = serial_keys.map(serial_key).collect();
        let parts = fields.array(9, PARTS_MAX)?.into_iter();
        let parts: Result<Vec<_>, Error> = parts.map(part).collect();
        let grant = Self {
            salt: fields.octets(0)?,
            made_at: fields.uint(2)?,
            auditor: from_cose_key(WHAT, fields.required(3)?)?,
            from_day: nullable_uint(&mut fields, 4)?,
            to_day: nullable_uint(&mut fields, 5)?,
            hq_keys: hq_keys?,
            secrets: entries(&fields, &secrets)?,
            serial_keys: serial_keys?,
            parts: parts?,
        };
        if grant.hq_keys.is_empty() {
            return Err(fields.wrong(6, "a key was expected"));
        }
        let mut vaults: Vec<_> = grant.serial_keys.iter().map(|of| &of.vault).collect();
        vaults.sort();
        if vaults.windows(2).any(|pair| pair[0] == pair[1]) {
            return Err(fields.wrong(8, "a vault is named twice"));
        }
        fields.finish()?;
        Ok(grant)
    }
}

/// The trust manifests of a file, encoded.
pub fn trust_to_cbor(manifests: &[Vec<u8>]) -> Vec<u8> {
    Map::new()
        .with(1, crate::FORMAT_VERSION)
        .with_array(2, manifests.iter().cloned())
        .encode()
}

/// Reads the trust manifests of a file. What they say is to be verified.
///
/// # Errors
/// [`Error::Encoding`], [`Error::Shape`] and [`Error::FormatVersion`].
pub fn trust_from_cbor(bytes: &[u8]) -> Result<Vec<Vec<u8>>, Error> {
    let what = "trust manifests of an audit grant";
    let mut fields = Fields::decode(what, bytes, AUDIT_GRANT_TRUST_BYTES_MAX)?;
    fields.format_version(1)?;
    let values = fields.array(2, LISTED_MAX)?.into_iter();
    let manifests: Option<Vec<_>> = values.map(|value| Value::into_bytes(value).ok()).collect();
    let manifests = manifests.filter(|manifests| !manifests.is_empty());
    let manifests = manifests.ok_or_else(|| fields.wrong(2, "byte strings were expected"))?;
    fields.finish()?;
    Ok(manifests)
}

fn nullable_uint(fields: &mut Fields, key: i64) -> Result<Option<u64>, Error> {
    let Some(value) = fields.nullable(key)? else {
        return Ok(None);
    };
    let number = value.as_integer().and_then(|number| number.try_into().ok());
    number
        .map(Some)
        .ok_or_else(|| fields.wrong(key, "an unsigned number was expected"))
}

fn entry(secret: &Secret) -> Vec<u8> {
    let mut entry = Secret::point_of(&secret.ephemeral).to_vec();
    entry.extend_from_slice(&*secret.shared);
    entry
}

fn entries(fields: &Fields, bytes: &[u8]) -> Result<Vec<Secret>, Error> {
    let wrong = |why| fields.wrong(7, why);
    if !bytes.len().is_multiple_of(POINT_BYTES + SECRET_BYTES) {
        return Err(wrong("secrets of 65 bytes each were expected"));
    }
    let mut found = Vec::new();
    let mut before: Option<&[u8]> = None;
    for entry in bytes.chunks_exact(POINT_BYTES + SECRET_BYTES) {
        let (point, shared) = entry.split_at(POINT_BYTES);
        if before.is_some_and(|before| before >= point) {
            return Err(wrong("the secrets are not in order, or one is there twice"));
        }
        before = Some(point);
        let ephemeral = PublicKey::from_sec1_bytes(point).map_err(|_| Error::Key { what: WHAT })?;
        let shared = shared
            .try_into()
            .map_err(|_| wrong("a secret is cut short"))?;
        found.push(Secret {
            ephemeral,
            shared: Zeroizing::new(shared),
        });
    }
    Ok(found)
}

fn serial_key(value: Value) -> Result<SerialKey, Error> {
    let mut fields = Fields::new("serial key of an audit grant", value)?;
    let key: Vec<u8> = fields.bytes(3)?;
    let key = <[u8; 32]>::try_from(key.as_slice())
        .map_err(|_| fields.wrong(3, "32 bytes were expected"))?;
    let of = SerialKey {
        vault: VaultName {
            site: fields.parse(1)?,
            vault: fields.parse(2)?,
        },
        key: Zeroizing::new(key),
    };
    fields.finish()?;
    Ok(of)
}

fn part(value: Value) -> Result<Part, Error> {
    let mut fields = Fields::new("part of an audit grant", value)?;
    let part = Part {
        kind: fields.parse(1)?,
        time: fields.uint(2)?,
        bytes: fields.uint(3)?,
        digest: fields.octets(4)?,
        number: fields.uint(5)?,
    };
    fields.finish()?;
    Ok(part)
}
