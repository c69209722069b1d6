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
//! }
//! ```

use std::collections::BTreeMap;

use ciborium::Value;
use p256::PublicKey;

use crate::Error;
use crate::approval::{self, Proposal};
use crate::cbor::{Fields, Map};
use crate::encryption::Opener;
use crate::envelope::{Context, Kind, Party, Sign, SignedOne, Verified, sign_one};
use crate::identifier::{Fingerprint, Lineage, VaultName};
use crate::key;
use crate::trust::{Role, TrustManifest};

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
}

impl EnrolmentRequest {
    fn to_cbor(&self) -> Vec<u8> {
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
            .encode()
    }

    fn from_cbor(bytes: &[u8]) -> Result<Self, Error> {
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
}

impl EnrolmentGrant {
    /// Drafts it for approval, encrypted to the vault, to HQ and to the officers who may approve it.
    ///
    /// # Errors
    /// [`Error::Random`].
    pub fn propose(
        &self,
        manifest: &TrustManifest,
        vault_agree: &PublicKey,
    ) -> Result<Proposal, Error> {
        let context = Context {
            kind: Kind::EnrolmentGrant,
            sender: Party::Hq,
            recipient: Party::Vault(self.vault.clone()),
            id: self.object_id(),
            commitment: None,
        };
        let recipients = manifest.recipients(vault_agree, Role::Enrol);
        Proposal::encrypted(context, &self.to_cbor(), &recipients)
    }

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

    /// Reads a proposal's content, whose signatures nobody has looked at.
    ///
    /// # Errors
    /// What refuses a proposal or its decryption.
    pub fn proposed(proposal: &Proposal, opener: Opener<'_>) -> Result<Self, Error> {
        let grant = Self::from_cbor(&proposal.plaintext(Some(opener))?)?;
        let recipient = Party::Vault(grant.vault.clone());
        proposal
            .context()
            .expect(GRANT, Kind::EnrolmentGrant, &Party::Hq, &recipient)?;
        grant.matches(proposal.context())?;
        grant.asked()?;
        Ok(grant)
    }

    /// The enrolment request that it answers: the very one that it names, signed by the vault that it lets in.
    ///
    /// # Errors
    /// What [`EnrolmentRequest::open`] refuses, and [`Error::PartsDiffer`].
    pub fn asked(&self) -> Result<EnrolmentRequest, Error> {
        let request = EnrolmentRequest::open(&self.request, &self.request_fingerprint)?;
        if request.content().vault != self.vault || request.content().lineage != self.lineage {
            return Err(Error::PartsDiffer {
                what: GRANT,
                why: "its enrolment request is for another vault or lineage",
            });
        }
        Ok(request.into_content())
    }

    fn matches(&self, context: &Context) -> Result<(), Error> {
        if self.object_id() == context.id {
            Ok(())
        } else {
            Err(Error::PartsDiffer {
                what: GRANT,
                why: "header and content differ in id",
            })
        }
    }

    /// Opens a grant that a threshold of officers signed for `vault`.
    ///
    /// # Errors
    /// What refuses a proposal, its approvals or its decryption.
    pub fn open(
        bytes: &[u8],
        manifest: &Verified<TrustManifest>,
        vault: &VaultName,
        opener: Opener<'_>,
    ) -> Result<Verified<Self>, Error> {
        let recipient = Party::Vault(vault.clone());
        let (kind, role) = (Kind::EnrolmentGrant, Role::Enrol);
        let context = Proposal::read(bytes, approval::PROPOSAL_BYTES_MAX)?
            .context()
            .clone();
        let parse = |plaintext: &[u8]| {
            let grant = Self::from_cbor(plaintext)?;
            grant.matches(&context)?;
            if grant.vault != *vault {
                return Err(Error::PartsDiffer {
                    what: GRANT,
                    why: "header and content differ in vault",
                });
            }
            grant.asked()?;
            Ok(grant)
        };
        approval::open(
            bytes,
            kind,
            role,
            manifest.content(),
            &recipient,
            opener,
            parse,
        )
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
        };
        fields.finish()?;
        Ok(grant)
    }
}
