//! Enrolment: a new vault's request, and the grant that officers approve.
//!
//! ```cddl
//! enrolment-request = {
//!   1: 1,                              ; format version
//!   2: identifier,                     ; site
//!   3: identifier,                     ; vault
//!   4: lineage,
//!   5: uint,                           ; version of the trust manifest that it has pinned
//!   6: digest,                         ; fingerprint of that
//!   7: COSE_Key,                       ; vault-sign
//!   8: COSE_Key,                       ; vault-agree
//!   9: der,                            ; PKCS#10 of the vault's identity, signed by vault-sign
//!   10: der,                           ; PKCS#10 of its device CA, signed by device-ca
//!   11: { * tstr => tstr },            ; facts about the key store: the vault's own word
//!   12: unix-time,                     ; made at
//!   ? 13: transport-key,               ; vault-transport, where the token unwraps with it
//!   ? 14: 2..65535,                    ; a rotation: the generation of the device CA that is asked for; absent: the first
//! }
//! enrolment-grant = {
//!   0: salt,
//!   1: 1,                              ; format version
//!   2: identifier,                     ; site
//!   3: identifier,                     ; vault
//!   4: digest,                         ; fingerprint of the enrolment request
//!   5: lineage,                        ; the one that the request stated
//!   6: der,                            ; TBSCertificate of the vault's identity
//!   7: der,                            ; TBSCertificate of its device CA
//!   8: COSE_Key,                       ; serial-master, public: HQ's half of the agreement on the serial key
//!   9: uint,                           ; dispatch epoch
//!   10: unix-time,                     ; drafted at
//!   11: unix-time,                     ; to be approved and imported before
//!   12: bstr,                          ; the enrolment request as received: a message of its own, at most 65536 bytes
//!   ? 13: 2..65535,                    ; a rotation: the generation of the device CA that it brings
//!   ? 14: succession,                  ; not together with key 13
//! }
//! ```

use std::collections::BTreeMap;

use ciborium::Value;
use p256::PublicKey;

use crate::Error;
use crate::cbor::{Fields, Map};
use crate::envelope::{Context, Kind, Party, Sign, SignedOne, Verified, sign_one};
use crate::identifier::{Fingerprint, Lineage, VaultName};
use crate::key;
use crate::order::Order;
use crate::succession::Succession;
use crate::transport::TransportKey;
use crate::trust::Role;

/// The largest grant plaintext, in bytes.
pub const GRANT_BYTES_MAX: usize = 96 * 1024;
/// The largest enrolment request, in bytes.
pub const REQUEST_BYTES_MAX: usize = 64 * 1024;
const GRANT: &str = "enrolment grant";
const REQUEST: &str = "enrolment request";

/// What a new vault says of itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EnrolmentRequest {
    /// Who asks.
    pub vault: VaultName,
    /// The lineage that its log begins with.
    pub lineage: Lineage,
    /// The version of the trust manifest that it has pinned.
    pub trust_version: u64,
    /// The fingerprint of that manifest.
    pub trust_fingerprint: Fingerprint,
    /// `vault-sign`.
    pub signing_key: PublicKey,
    /// `vault-agree`.
    pub agreement_key: PublicKey,
    /// PKCS#10 (DER) of the vault's identity, signed by `vault-sign`.
    pub identity_csr: Vec<u8>,
    /// PKCS#10 (DER) of the device CA, signed by `device-ca`.
    pub device_ca_csr: Vec<u8>,
    /// What the vault says of its key store: shown as its own word.
    pub facts: BTreeMap<String, String>,
    /// When it was made, Unix seconds.
    pub made_at: u64,
    /// `vault-transport`, where its token can unwrap with it.
    pub transport_key: Option<TransportKey>,
    /// The generation of the device CA that it asks for: 1 at first, more in a rotation.
    pub device_ca_generation: u16,
}

impl EnrolmentRequest {
    pub(crate) fn to_cbor(&self) -> Vec<u8> {
        // Text keys of one length class sort bytewise only within it, so the order is that of their encodings.
        let mut facts: Vec<_> = self.facts.iter().collect();
        facts.sort_by_key(|(name, _)| crate::cbor::encode(&Value::from(name.as_str())));
        let facts = facts
            .into_iter()
            .map(|(name, fact)| (Value::from(name.as_str()), Value::from(fact.as_str())))
            .collect();
        Map::new()
            .with(1, crate::FORMAT_VERSION)
            .with(2, self.vault.site.as_str())
            .with(3, self.vault.vault.as_str())
            .with(4, self.lineage.as_bytes().to_vec())
            .with(5, self.trust_version)
            .with(6, self.trust_fingerprint.as_bytes().to_vec())
            .with(7, key::cose_key(&self.signing_key))
            .with(8, key::cose_key(&self.agreement_key))
            .with(9, self.identity_csr.clone())
            .with(10, self.device_ca_csr.clone())
            .with(11, Value::Map(facts))
            .with(12, self.made_at)
            .with_some(13, self.transport_key.as_ref().map(|key| key.to_map()))
            .with_some(14, generation_field(self.device_ca_generation))
            .encode()
    }

    pub(crate) fn from_cbor(bytes: &[u8]) -> Result<Self, Error> {
        let mut fields = Fields::decode(REQUEST, bytes, REQUEST_BYTES_MAX)?;
        fields.format_version(1)?;
        let facts = fields.required(11)?.into_map().ok().and_then(|facts| {
            let text = |(name, fact): (Value, Value)| {
                Some((name.into_text().ok()?, fact.into_text().ok()?))
            };
            facts
                .into_iter()
                .map(text)
                .collect::<Option<BTreeMap<_, _>>>()
        });
        let request = Self {
            vault: VaultName {
                site: fields.parse(2)?,
                vault: fields.parse(3)?,
            },
            lineage: fields.octets(4)?,
            trust_version: fields.uint(5)?,
            trust_fingerprint: fields.octets(6)?,
            signing_key: key::from_cose_key(REQUEST, fields.required(7)?)?,
            agreement_key: key::from_cose_key(REQUEST, fields.required(8)?)?,
            identity_csr: fields.bytes(9)?,
            device_ca_csr: fields.bytes(10)?,
            facts: facts.ok_or_else(|| fields.wrong(11, "texts by text were expected"))?,
            made_at: fields.uint(12)?,
            transport_key: match fields.optional(13) {
                Some(key) => Some(TransportKey::from_value(REQUEST, key)?),
                None => None,
            },
            device_ca_generation: rotation(&mut fields, 14)?.unwrap_or(FIRST_GENERATION),
        };
        fields.finish()?;
        Ok(request)
    }

    /// Signs it with `vault-sign`. Returns the message and its fingerprint, which the operator reads out.
    ///
    /// # Errors
    /// [`Error::KeyOperation`].
    pub fn seal(&self, sign: Sign<'_>) -> Result<(Vec<u8>, Fingerprint), Error> {
        let context = Context {
            kind: Kind::EnrolmentRequest,
            sender: Party::Vault(self.vault.clone()),
            recipient: Party::Hq,
            id: "enrolment".to_owned(),
            commitment: None,
        };
        let payload = self.to_cbor();
        let fingerprint = Fingerprint::of(&payload);
        Ok((
            sign_one(&context, payload, &self.signing_key, sign)?,
            fingerprint,
        ))
    }

    /// Opens a request whose fingerprint a person has compared. It is signed by the very key that it introduces, so it
    /// proves possession of `vault-sign` and nothing about who holds it: the fingerprint does that.
    ///
    /// # Errors
    /// [`Error::FingerprintMismatch`], [`Error::SignatureInvalid`], and what the strict reader refuses.
    pub fn open(bytes: &[u8], fingerprint: &Fingerprint) -> Result<Verified<Self>, Error> {
        let message = SignedOne::read(REQUEST, bytes, REQUEST_BYTES_MAX)?;
        let found = message.fingerprint();
        if found != *fingerprint {
            let (expected, found) = (fingerprint.to_string(), found.to_string());
            return Err(Error::FingerprintMismatch {
                what: REQUEST,
                expected,
                found,
            });
        }
        let request = Self::from_cbor(message.payload())?;
        let sender = Party::Vault(request.vault.clone());
        message
            .context
            .expect(REQUEST, Kind::EnrolmentRequest, &sender, &Party::Hq)?;
        message.verify(&request.signing_key)?;
        let plaintext = message.payload().to_vec();
        Ok(Verified::new(request, found, plaintext, Vec::new()))
    }
}

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
    /// The enrolment request as HQ received it, so that whoever approves reads what the vault itself signed.
    pub request: Vec<u8>,
    /// What the vault is let in for.
    pub purpose: Purpose,
}

/// The generation of a vault's first device CA.
pub const FIRST_GENERATION: u16 = 1;

/// What a grant is for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Purpose {
    /// A new vault.
    Enrolment,
    /// The next device CA of a vault that was let in before.
    Rotation {
        /// Its generation, from 2.
        generation: u16,
    },
    /// A new vault in place of one that was lost.
    Succession(Succession),
}

impl Purpose {
    /// The generation of the device CA that the grant brings.
    pub fn device_ca_generation(&self) -> u16 {
        match self {
            Self::Rotation { generation } => *generation,
            Self::Enrolment | Self::Succession(_) => FIRST_GENERATION,
        }
    }

    /// The vault that is replaced, and what is written off with it.
    pub fn succession(&self) -> Option<&Succession> {
        match self {
            Self::Succession(succession) => Some(succession),
            Self::Enrolment | Self::Rotation { .. } => None,
        }
    }
}

/// How a generation is written: the first one is not.
fn generation_field(generation: u16) -> Option<u64> {
    (generation > FIRST_GENERATION).then(|| generation.into())
}

/// Reads the generation of a rotation.
fn rotation(fields: &mut Fields, key: i64) -> Result<Option<u16>, Error> {
    let Some(number) = fields.optional_uint(key)? else {
        return Ok(None);
    };
    match u16::try_from(number) {
        Ok(generation) if generation > FIRST_GENERATION => Ok(Some(generation)),
        _ => Err(fields.wrong(key, "the generation of a rotation is 2 to 65535")),
    }
}

impl Order for EnrolmentGrant {
    const KIND: Kind = Kind::EnrolmentGrant;
    const WHAT: &'static str = GRANT;
    const ROLE: Role = Role::Enrol;

    fn vault(&self) -> &VaultName {
        &self.vault
    }

    fn object_id(&self) -> String {
        Self::object_id(self)
    }

    fn approve_until(&self) -> u64 {
        self.approve_until
    }

    fn to_cbor(&self) -> Vec<u8> {
        Self::to_cbor(self)
    }

    fn from_cbor(bytes: &[u8]) -> Result<Self, Error> {
        Self::from_cbor(bytes)
    }

    fn check(&self) -> Result<(), Error> {
        self.asked().map(|_| ())
    }
}

impl EnrolmentGrant {
    /// The id under which it travels: it names the request that it answers.
    pub fn object_id(&self) -> String {
        let request: String = self
            .request_fingerprint
            .to_string()
            .chars()
            .take(16)
            .collect();
        format!("enrol-{request}")
    }

    /// The enrolment request that it answers: the very one that it names, signed by the vault that it lets in.
    ///
    /// # Errors
    /// What [`EnrolmentRequest::open`] refuses, and [`Error::PartsDiffer`].
    pub fn asked(&self) -> Result<EnrolmentRequest, Error> {
        let request = EnrolmentRequest::open(&self.request, &self.request_fingerprint)?;
        let differ = |why| Err(Error::PartsDiffer { what: GRANT, why });
        if request.content().vault != self.vault || request.content().lineage != self.lineage {
            return differ("its enrolment request is for another vault or lineage");
        }
        if request.content().device_ca_generation != self.purpose.device_ca_generation() {
            return differ("its enrolment request asks for another device CA");
        }
        Ok(request.into_content())
    }

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
            .with(12, self.request.clone())
            .with_some(13, generation_field(self.purpose.device_ca_generation()))
            .with_some(14, self.purpose.succession().map(Succession::to_map))
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
            vault: VaultName {
                site: fields.parse(2)?,
                vault: fields.parse(3)?,
            },
            request_fingerprint: fields.octets(4)?,
            lineage: fields.octets(5)?,
            identity_tbs: fields.bytes(6)?,
            device_ca_tbs: fields.bytes(7)?,
            serial_master: key::from_cose_key(GRANT, fields.required(8)?)?,
            dispatch_epoch: fields.uint(9)?,
            drafted_at: fields.uint(10)?,
            approve_until: fields.uint(11)?,
            request: fields.bytes(12)?,
            purpose: match (rotation(&mut fields, 13)?, fields.optional(14)) {
                (None, None) => Purpose::Enrolment,
                (Some(generation), None) => Purpose::Rotation { generation },
                (None, Some(succession)) => {
                    Purpose::Succession(Succession::from_value(succession)?)
                }
                (Some(_), Some(_)) => {
                    return Err(fields.wrong(14, "a rotation is no succession"));
                }
            },
        };
        fields.finish()?;
        Ok(grant)
    }
}
