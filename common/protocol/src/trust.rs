//! The trust manifest: who may sign what. Version 1 is pinned by a fingerprint that a person compares; every later one
//! needs the threshold of the one before and its own.
//!
//! ```cddl
//! trust-manifest = {
//!   1: 1,                              ; format version
//!   2: uint,                           ; version, from 1
//!   3: tstr .size (1..64),             ; name of headquarters, without control characters
//!   4: unix-time,                      ; issued
//!   5: unix-time,                      ; expires; later than issued
//!   6: digest / null,                  ; fingerprint of the version before; null in version 1 alone
//!   7: der,                            ; root certificate
//!   8: [1*64 officer],                 ; no id twice
//!   9: thresholds,
//!   10: COSE_Key,                      ; dispatch key
//!   11: COSE_Key,                      ; report key: signs status, dossiers and reports
//!   12: [2*8 hq-encryption-key],       ; at least one in escrow
//!   13: uint,                          ; dispatch epoch that this dispatch key opens
//! }
//! officer = {
//!   1: identifier,
//!   2: [1*4 COSE_Key],                 ; signing keys
//!   3: COSE_Key,                       ; agreement key
//!   4: [0*4 role],                     ; in the order of `role`, each once
//! }
//! role = "mint" / "enrol" / "revoke" / "trust"
//! thresholds = { 1: uint, 2: uint, 3: uint, 4: uint }
//! hq-encryption-key = {
//!   1: identifier,                     ; name
//!   2: COSE_Key,
//!   3: bool,                           ; whether its private half is in escrow
//! }
//! ```

use std::collections::BTreeSet;
use std::fmt;
use std::str::FromStr;

use ciborium::Value;
use p256::PublicKey;

use crate::Error;
use crate::approval::Proposal;
use crate::cbor::{Fields, Map};
use crate::envelope::{Context, Kind, Party, Verified};
use crate::identifier::{Fingerprint, KeyId, OfficerId};
use crate::key::{cose_key, from_cose_key, thumbprint};

mod pinning;

/// The largest trust manifest, in bytes.
pub const TRUST_BYTES_MAX: usize = 256 * 1024;
/// The longest name of a headquarters, in bytes (X.520 `ub-organization-name`).
pub const HQ_NAME_BYTES_MAX: usize = 64;
/// The highest version of a trust manifest.
pub const VERSION_MAX: u64 = 1 << 32;
/// The last second of the year 9999, the last that RFC 3339 and X.509 can write, in Unix seconds.
pub const UNIX_TIME_MAX: u64 = 253_402_300_799;
const WHAT: &str = "trust manifest";

/// What an officer may approve.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Role {
    /// Entitlements and amendments.
    Mint,
    /// Vaults: enrolment, rotation, succession, re-anchoring, clock correction.
    Enrol,
    /// Revocations.
    Revoke,
    /// Trust manifests.
    Trust,
}

impl Role {
    /// Every role.
    pub const ALL: [Self; 4] = [Self::Mint, Self::Enrol, Self::Revoke, Self::Trust];

    /// Its name.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Mint => "mint",
            Self::Enrol => "enrol",
            Self::Revoke => "revoke",
            Self::Trust => "trust",
        }
    }

    /// The role whose officers approve a message of this type.
    pub fn for_kind(kind: Kind) -> Option<Self> {
        match kind {
            Kind::TrustManifest => Some(Self::Trust),
            Kind::EnrolmentGrant => Some(Self::Enrol),
            Kind::Entitlement => Some(Self::Mint),
            Kind::Revocation => Some(Self::Revoke),
            Kind::ClockCorrection | Kind::Reanchor => Some(Self::Enrol),
            _ => None,
        }
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for Role {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        Self::ALL
            .into_iter()
            .find(|role| role.as_str() == text)
            .ok_or_else(|| {
                format!(
                    "`{}` is no role; roles are mint, enrol, revoke and trust",
                    text.escape_default()
                )
            })
    }
}

/// One officer, as the manifest lists them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Officer {
    /// Their name.
    pub id: OfficerId,
    /// The keys that they may sign with; any number of signatures of theirs counts as one.
    pub signing_keys: Vec<PublicKey>,
    /// The key that drafts are encrypted to.
    pub agreement_key: PublicKey,
    /// What they may approve.
    pub roles: BTreeSet<Role>,
}

/// One of HQ's own decryption keys.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HqEncryptionKey {
    /// Its name, `[a-z0-9-]{1,32}`.
    pub name: OfficerId,
    /// The key.
    pub key: PublicKey,
    /// Whether its private half is kept apart, for the day the other is lost.
    pub escrowed: bool,
}

/// Who may sign what.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TrustManifest {
    /// From 1, one more each time.
    pub version: u64,
    /// The name of headquarters, 1 to 64 bytes.
    pub hq_name: String,
    /// When it was drafted, Unix seconds.
    pub issued_at: u64,
    /// From when on it verifies nothing but its successor, Unix seconds.
    pub expires_at: u64,
    /// Fingerprint of the version before; none in version 1.
    pub previous: Option<Fingerprint>,
    /// The root certificate, DER.
    pub root_certificate: Vec<u8>,
    /// Ids are unique, and no key stands twice.
    pub officers: Vec<Officer>,
    /// How many officers each role needs, in the order of [`Role::ALL`].
    pub thresholds: [u64; 4],
    /// Orders, acknowledges and states time; nothing else.
    pub dispatch_key: PublicKey,
    /// Signs status, dossiers and reports.
    pub report_key: PublicKey,
    /// HQ's decryption keys: two at least, one in escrow.
    pub encryption_keys: Vec<HqEncryptionKey>,
    /// The dispatch epoch that this dispatch key opens.
    pub dispatch_epoch: u64,
}

impl TrustManifest {
    /// The payload, encoded.
    pub fn to_cbor(&self) -> Vec<u8> {
        let officers = self.officers.iter().map(|officer| {
            Map::new()
                .with(1, officer.id.as_str())
                .with_array(2, officer.signing_keys.iter().map(cose_key))
                .with(3, cose_key(&officer.agreement_key))
                .with_array(4, officer.roles.iter().map(|role| role.as_str()))
        });
        let keys = self.encryption_keys.iter().map(|key| {
            Map::new()
                .with(1, key.name.as_str())
                .with(2, cose_key(&key.key))
                .with(3, key.escrowed)
        });
        let thresholds = (1..)
            .zip(self.thresholds)
            .fold(Map::new(), |map, (role, count)| map.with(role, count));
        Map::new()
            .with(1, crate::FORMAT_VERSION)
            .with(2, self.version)
            .with(3, self.hq_name.as_str())
            .with(4, self.issued_at)
            .with(5, self.expires_at)
            .with_nullable(6, self.previous.map(|digest| digest.as_bytes().to_vec()))
            .with(7, self.root_certificate.clone())
            .with_array(8, officers)
            .with(9, thresholds)
            .with(10, cose_key(&self.dispatch_key))
            .with(11, cose_key(&self.report_key))
            .with_array(12, keys)
            .with(13, self.dispatch_epoch)
            .encode()
    }

    /// Reads a payload; the manifest must be one that could work.
    ///
    /// # Errors
    /// [`Error::Encoding`], [`Error::Shape`], [`Error::Key`] and [`Error::FormatVersion`].
    pub fn from_cbor(bytes: &[u8]) -> Result<Self, Error> {
        let mut fields = Fields::decode(WHAT, bytes, TRUST_BYTES_MAX)?;
        fields.format_version(1)?;
        let mut thresholds = fields.map(9, WHAT)?;
        let officers = fields
            .array(8, 64)?
            .into_iter()
            .map(officer)
            .collect::<Result<_, _>>()?;
        let encryption_keys = fields
            .array(12, 8)?
            .into_iter()
            .map(encryption_key)
            .collect::<Result<_, _>>()?;
        let manifest = Self {
            version: fields.uint(2)?,
            hq_name: fields.text(3)?,
            issued_at: fields.uint(4)?,
            expires_at: fields.uint(5)?,
            previous: fields.nullable_fingerprint(6)?,
            root_certificate: fields.bytes(7)?,
            officers,
            thresholds: [
                thresholds.uint(1)?,
                thresholds.uint(2)?,
                thresholds.uint(3)?,
                thresholds.uint(4)?,
            ],
            dispatch_key: from_cose_key(WHAT, fields.required(10)?)?,
            report_key: from_cose_key(WHAT, fields.required(11)?)?,
            encryption_keys,
            dispatch_epoch: fields.uint(13)?,
        };
        thresholds.finish()?;
        fields.finish()?;
        manifest.check()?;
        Ok(manifest)
    }

    /// Checks that it could work: thresholds that its officers can meet, no officer and no key twice.
    ///
    /// # Errors
    /// [`Error::Shape`].
    pub fn check(&self) -> Result<(), Error> {
        let wrong = |why: String| Err(Error::Shape { what: WHAT, why });
        // It is issued before it expires, as is asked below.
        if self.version > VERSION_MAX || self.expires_at > UNIX_TIME_MAX {
            return wrong(format!(
                "its version is above {VERSION_MAX}, or a time of it after the year 9999"
            ));
        }
        if self.version == 0 || (self.version == 1) != self.previous.is_none() {
            return wrong("version 1, and only that, has none before it".to_owned());
        }
        if self.hq_name.is_empty()
            || self.hq_name.len() > HQ_NAME_BYTES_MAX
            || self.hq_name.chars().any(char::is_control)
        {
            return wrong("the name of headquarters is 1 to 64 bytes of plain text".to_owned());
        }
        if self.issued_at >= self.expires_at {
            return wrong("it expires before it is issued".to_owned());
        }
        let mut ids = BTreeSet::new();
        let mut keys = BTreeSet::new();
        for officer in &self.officers {
            if !ids.insert(&officer.id) {
                return wrong(format!("officer `{}` is listed twice", officer.id));
            }
            if officer.signing_keys.is_empty() {
                return wrong(format!("officer `{}` has no signing key", officer.id));
            }
            for key in officer.signing_keys.iter().chain([&officer.agreement_key]) {
                if !keys.insert(thumbprint(key)) {
                    return wrong(format!("a key of officer `{}` is listed twice", officer.id));
                }
            }
        }
        let own = [&self.dispatch_key, &self.report_key];
        let own = own
            .into_iter()
            .chain(self.encryption_keys.iter().map(|key| &key.key));
        for key in own {
            if !keys.insert(thumbprint(key)) {
                return wrong("one key serves two purposes".to_owned());
            }
        }
        for role in Role::ALL {
            let holders = self.holders(role).count() as u64;
            let threshold = self.threshold(role);
            if threshold == 0 || threshold > holders {
                return wrong(format!(
                    "role `{role}` needs {threshold} officers and {holders} hold it"
                ));
            }
        }
        if self.encryption_keys.len() < 2 || !self.encryption_keys.iter().any(|key| key.escrowed) {
            return wrong("HQ needs two encryption keys, one of them in escrow".to_owned());
        }
        Ok(())
    }

    /// How many officers a role needs.
    pub fn threshold(&self, role: Role) -> u64 {
        self.thresholds[role as usize]
    }

    /// The officers who hold a role.
    pub fn holders(&self, role: Role) -> impl Iterator<Item = &Officer> {
        self.officers
            .iter()
            .filter(move |officer| officer.roles.contains(&role))
    }

    /// The officer with this name.
    pub fn officer(&self, id: &OfficerId) -> Option<&Officer> {
        self.officers.iter().find(|officer| officer.id == *id)
    }

    /// The officer who signs with the key of this id, and that key.
    pub fn officer_of_key(&self, id: &KeyId) -> Option<(&Officer, &PublicKey)> {
        self.officers.iter().find_map(|officer| {
            let key = officer
                .signing_keys
                .iter()
                .find(|key| thumbprint(key) == *id)?;
            Some((officer, key))
        })
    }

    /// The public keys that whatever HQ should be able to read is encrypted to.
    pub fn hq_recipients(&self) -> Vec<PublicKey> {
        self.encryption_keys.iter().map(|key| key.key).collect()
    }

    /// Everybody who must be able to read an object for one vault before it is approved: the vault, HQ, and the
    /// officers who hold the role.
    pub fn recipients(&self, vault_agree: &PublicKey, role: Role) -> Vec<PublicKey> {
        let mut recipients = vec![*vault_agree];
        recipients.extend(self.hq_recipients());
        recipients.extend(self.holders(role).map(|officer| officer.agreement_key));
        recipients
    }

    /// Whether it lists this key, whoever's and for whatever.
    pub fn lists(&self, key: &PublicKey) -> bool {
        let officers = self.officers.iter();
        let officers = officers
            .flat_map(|officer| officer.signing_keys.iter().chain([&officer.agreement_key]));
        let own = self.encryption_keys.iter().map(|key| &key.key);
        let mut keys = officers
            .chain(own)
            .chain([&self.dispatch_key, &self.report_key]);
        keys.any(|listed| listed == key)
    }

    /// Whether it still verifies things other than its successor.
    ///
    /// # Errors
    /// [`Error::Expired`].
    pub fn in_force(&self, now_unix: u64) -> Result<(), Error> {
        if now_unix < self.expires_at {
            Ok(())
        } else {
            Err(Error::Expired {
                what: WHAT,
                expired_unix: self.expires_at,
            })
        }
    }

    /// The id under which it travels.
    pub fn id(&self) -> String {
        format!("trust-{:06}", self.version)
    }

    /// Drafts it for approval.
    ///
    /// # Errors
    /// [`Error::Shape`] if it could not work.
    pub fn propose(&self) -> Result<Proposal, Error> {
        self.check()?;
        let context = Context {
            kind: Kind::TrustManifest,
            sender: Party::Hq,
            recipient: Party::All,
            id: self.id(),
            commitment: None,
        };
        Ok(Proposal::bare(context, self.to_cbor()))
    }

    /// Reads a proposal's content, whose signatures nobody has looked at.
    ///
    /// # Errors
    /// As [`TrustManifest::from_cbor`], and [`Error::WrongType`].
    pub fn proposed(proposal: &Proposal) -> Result<Self, Error> {
        proposal
            .context()
            .expect(WHAT, Kind::TrustManifest, &Party::Hq, &Party::All)?;
        let manifest = Self::from_cbor(proposal.payload())?;
        if manifest.id() != proposal.context().id {
            return Err(Error::PartsDiffer {
                what: WHAT,
                why: "header and content differ in id",
            });
        }
        Ok(manifest)
    }
}

impl Verified<TrustManifest> {
    /// Opens the manifest that follows this one: version + 1, signed by the threshold of this one and by its own.
    ///
    /// # Errors
    /// [`Error::TrustSuccession`], and whatever refuses a proposal.
    pub fn successor(&self, bytes: &[u8]) -> Result<Self, Error> {
        let proposal = Proposal::read(bytes, TRUST_BYTES_MAX)?;
        let next = TrustManifest::proposed(&proposal)?;
        let version = next.version;
        let before = self.content();
        if version != before.version.saturating_add(1) {
            return Err(Error::TrustSuccession {
                version,
                why: "it is not the next version",
            });
        }
        if next.previous != Some(self.fingerprint()) {
            return Err(Error::TrustSuccession {
                version,
                why: "it follows another history",
            });
        }
        // What another key signs is another chain: the epoch tells them apart, and none comes twice.
        let same_key = next.dispatch_key == before.dispatch_key;
        if next.dispatch_epoch < before.dispatch_epoch
            || (next.dispatch_epoch == before.dispatch_epoch && !same_key)
        {
            return Err(Error::TrustSuccession {
                version,
                why: "another dispatch key opens an epoch of its own, and no epoch comes back",
            });
        }
        // An officer may be new or gone in it, so each threshold is met by those whom each manifest knows.
        let by_before = proposal.known_approvers(before, Role::Trust)?;
        let by_next = proposal.known_approvers(&next, Role::Trust)?;
        for (approvers, manifest) in [(&by_before, before), (&by_next, &next)] {
            let (threshold, approved) = (manifest.threshold(Role::Trust), approvers.len() as u64);
            if approved < threshold {
                let role = Role::Trust.as_str();
                return Err(Error::Threshold {
                    what: WHAT,
                    role,
                    threshold,
                    approved,
                });
            }
        }
        proposal.every_signer_in(&[before, &next], Role::Trust)?;
        let officers = by_before.union(&by_next).cloned().collect();
        Ok(Self::new(
            next,
            proposal.fingerprint(),
            proposal.payload().to_vec(),
            officers,
        ))
    }
}

fn officer(value: Value) -> Result<Officer, Error> {
    let mut fields = Fields::new("officer of a trust manifest", value)?;
    let signing_keys: Result<_, Error> = fields
        .array(2, 4)?
        .into_iter()
        .map(|key| from_cose_key(WHAT, key))
        .collect();
    let roles: Vec<Role> = fields.texts(4, 4)?;
    if !roles.is_sorted_by(|role, next| role < next) {
        return Err(fields.wrong(4, "roles stand in order, each once"));
    }
    let officer = Officer {
        id: fields.parse(1)?,
        signing_keys: signing_keys?,
        agreement_key: from_cose_key(WHAT, fields.required(3)?)?,
        roles: roles.into_iter().collect(),
    };
    fields.finish()?;
    Ok(officer)
}

fn encryption_key(value: Value) -> Result<HqEncryptionKey, Error> {
    let mut fields = Fields::new("encryption key of a trust manifest", value)?;
    let escrowed = fields.required(3)?;
    let key = HqEncryptionKey {
        name: fields.parse(1)?,
        key: from_cose_key(WHAT, fields.required(2)?)?,
        escrowed: escrowed
            .as_bool()
            .ok_or_else(|| fields.wrong(3, "true or false was expected"))?,
    };
    fields.finish()?;
    Ok(key)
}
