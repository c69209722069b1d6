//! What officers approve: a draft, their signatures, and the finished object are one COSE_Sign, whose body never changes
//! from the first to the last. So they share one fingerprint, and an approval binds exactly the bytes that were read.
//!
//! ```cddl
//! draft = #6.98([bstr .cbor approvable-header, {}, bstr .cbor approvable-payload, [draft-signature]])
//! approval = #6.98([bstr .cbor approvable-header, {}, bstr .cbor approvable-payload, [officer-signature]])
//! officer-signature = [bstr .cbor officer-signature-header, {}, signature]
//! officer-signature-header = { 1: -7, 4: key-id }
//! draft-signature = [bstr .cbor draft-signature-header, {}, signature]
//! draft-signature-header = { 1: -7, 4: key-id, 16: "application/mintmark-draft" }
//! ```
//!
//! The draft's own signature is by the dispatch key of headquarters: it says that headquarters drafted these very bytes,
//! so that an officer notices what changed on the way to them. It approves nothing, and a finished object does not bear it.
//! Its type (RFC 9596) tells it from an officer's.

use std::collections::BTreeSet;

use coset::{CoseSign, CoseSignature, TaggedCborSerializable as _};
use p256::PublicKey;
use zeroize::Zeroizing;

use crate::Error;
use crate::cbor::{Fields, Map};
use crate::encryption::{self, Encrypted, Opener};
use crate::envelope::{
    Context, ES256, Party, Sign, TAG_SIGN, TYPE_LABEL, Verified, as_received, check, decode_header,
    encode_header, expect_empty, expect_tag, not_cose, protected, tagged, verify_es256,
};
use crate::identifier::{Fingerprint, KeyId, OfficerId, VaultName};
use crate::key::thumbprint;
use crate::trust::{Role, TrustManifest};

/// The largest object that officers sign, in bytes.
pub const PROPOSAL_BYTES_MAX: usize = 4 << 20;
/// The most signatures of one object.
pub const SIGNATURES_MAX: usize = 64;
const WHAT: &str = "object for approval";
const DRAFT: &str = "draft";
/// The `typ` (RFC 9596 section 2) of the signature by which headquarters drafts.
const DRAFT_TYPE: &str = "application/mintmark-draft";

/// An object on its way through approval, read strictly and believed by nobody yet.
#[derive(Clone)]
pub struct Proposal {
    context: Context,
    /// The body, and the signatures of officers.
    cose: CoseSign,
    /// Headquarters' own, of a draft.
    drafted: Option<CoseSignature>,
}

impl Proposal {
    /// Drafts an object whose content travels bare.
    ///
    /// # Errors
    /// [`Error::Shape`] if it cannot be encoded.
    pub(crate) fn bare(context: Context, content: Vec<u8>) -> Self {
        Self::from_payload(context, content)
    }

    /// Drafts an object whose content is encrypted to `recipients` and committed to in the header.
    pub(crate) fn encrypted(
        mut context: Context,
        plaintext: &[u8],
        recipients: &[PublicKey],
    ) -> Result<Self, Error> {
        context.commitment = Some(Fingerprint::of(plaintext));
        let payload = encryption::seal(&context, plaintext, recipients)?;
        Ok(Self::from_payload(context, payload))
    }

    fn from_payload(context: Context, payload: Vec<u8>) -> Self {
        let header = encode_header(&context, None, None, false);
        let cose = CoseSign {
            protected: protected(header),
            payload: Some(payload),
            ..CoseSign::default()
        };
        Self {
            context,
            cose,
            drafted: None,
        }
    }

    /// Reads a draft, an approval or a finished object.
    ///
    /// # Errors
    /// What the strict reader and the header reader refuse.
    pub fn read(bytes: &[u8], bytes_max: usize) -> Result<Self, Error> {
        check(WHAT, bytes, bytes_max)?;
        expect_tag(WHAT, bytes, TAG_SIGN)?;
        let cose = CoseSign::from_tagged_slice(bytes).map_err(|error| not_cose(WHAT, &error))?;
        expect_empty(WHAT, &cose.unprotected)?;
        let header = decode_header(
            WHAT,
            as_received(WHAT, &cose.protected)?,
            None,
            false,
            false,
        )?;
        if cose.payload.is_none() {
            return Err(Error::Shape {
                what: WHAT,
                why: "the payload is detached".to_owned(),
            });
        }
        if cose.signatures.len() > SIGNATURES_MAX {
            return Err(Error::Shape {
                what: WHAT,
                why: "too many signatures".to_owned(),
            });
        }
        let mut proposal = Self {
            context: header.context,
            cose,
            drafted: None,
        };
        for signature in std::mem::take(&mut proposal.cose.signatures) {
            match signer(&signature)? {
                Signer::Officer(_) => proposal.cose.signatures.push(signature),
                Signer::Headquarters(_) if proposal.drafted.is_none() => {
                    proposal.drafted = Some(signature);
                }
                Signer::Headquarters(_) => {
                    let why = "headquarters signed it twice".to_owned();
                    return Err(Error::Shape { what: WHAT, why });
                }
            }
        }
        if proposal.drafted.is_some() && !proposal.cose.signatures.is_empty() {
            let why = "a draft bears no approvals, and what is approved is no draft".to_owned();
            return Err(Error::Shape { what: WHAT, why });
        }
        Ok(proposal)
    }

    /// What it says of itself.
    pub fn context(&self) -> &Context {
        &self.context
    }

    /// SHA-256 of its payload: the same for draft, approvals and finished object.
    pub fn fingerprint(&self) -> Fingerprint {
        Fingerprint::of(self.payload())
    }

    /// The payload as received.
    pub(crate) fn payload(&self) -> &[u8] {
        self.cose.payload.as_deref().unwrap_or_default()
    }

    /// How many signatures of officers it bears, verified or not.
    pub fn signature_count(&self) -> usize {
        self.cose.signatures.len()
    }

    /// Its bytes.
    ///
    /// # Errors
    /// [`Error::Shape`] if it cannot be encoded.
    pub fn to_bytes(&self) -> Result<Vec<u8>, Error> {
        let mut cose = self.cose.clone();
        cose.signatures.extend(self.drafted.clone());
        tagged(WHAT, cose.to_tagged_vec())
    }

    /// The draft of it, as it goes to officers: the same body, with the signature of headquarters' dispatch key alone.
    ///
    /// # Errors
    /// [`Error::KeyOperation`].
    pub fn draft(&self, dispatch_key: &PublicKey, sign: Sign<'_>) -> Result<Self, Error> {
        let header = Map::new()
            .with(1, ES256)
            .with(4, thumbprint(dispatch_key).as_bytes().to_vec())
            .with(TYPE_LABEL, DRAFT_TYPE);
        let signature = self.signature(header, sign)?;
        let mut draft = self.clone();
        draft.cose.signatures = Vec::new();
        draft.drafted = Some(signature);
        Ok(draft)
    }

    /// Refuses what none of these dispatch keys drafted, to the octet.
    ///
    /// # Errors
    /// [`Error::DraftUnsigned`], [`Error::SignerUnknown`], [`Error::SignatureInvalid`].
    pub fn expect_drafted_by<'a>(
        &self,
        dispatch_keys: impl IntoIterator<Item = &'a PublicKey>,
    ) -> Result<(), Error> {
        let what = DRAFT;
        let signature = self.drafted.as_ref().ok_or(Error::DraftUnsigned)?;
        let (Signer::Headquarters(named) | Signer::Officer(named)) = signer(signature)?;
        let mut keys = dispatch_keys.into_iter();
        let key = keys.find(|key| thumbprint(key) == named);
        let key = key.ok_or_else(|| Error::SignerUnknown {
            what,
            key: named.to_string(),
        })?;
        let signed = self.cose.tbs_data(&[], signature);
        verify_es256(what, key, &signed, &signature.signature)
    }

    /// The same object with nobody's signature yet, as approvals are collected on it.
    #[must_use]
    pub fn without_signatures(mut self) -> Self {
        self.cose.signatures = Vec::new();
        self.drafted = None;
        self
    }

    /// Its content as one of its recipients reads it: decrypted, and exactly what the header commits to.
    ///
    /// # Errors
    /// [`Error::NotRecipient`], [`Error::Decryption`], [`Error::Commitment`], [`Error::PartsDiffer`].
    pub fn plaintext(&self, opener: Option<Opener<'_>>) -> Result<Zeroizing<Vec<u8>>, Error> {
        let Some(commitment) = self.context.commitment else {
            return Ok(Zeroizing::new(self.payload().to_vec()));
        };
        let encrypted = Encrypted::read(
            self.context.kind.as_str(),
            self.payload(),
            PROPOSAL_BYTES_MAX,
        )?;
        self.context
            .expect_inner(self.context.kind.as_str(), &encrypted.context)?;
        let opener = opener.ok_or(Error::NotRecipient {
            what: self.context.kind.as_str(),
        })?;
        let plaintext = encrypted.open(opener)?;
        if Fingerprint::of(&plaintext) != commitment {
            return Err(Error::Commitment {
                what: self.context.kind.as_str(),
            });
        }
        Ok(plaintext)
    }

    /// Whether its content is encrypted to this key.
    pub fn is_for(&self, key: &PublicKey) -> bool {
        Encrypted::read(WHAT, self.payload(), PROPOSAL_BYTES_MAX)
            .is_ok_and(|encrypted| encrypted.is_for(key))
    }

    /// An officer's approval of it: the same body with that one signature.
    ///
    /// # Errors
    /// [`Error::KeyOperation`].
    pub fn approve(&self, key: &PublicKey, sign: Sign<'_>) -> Result<Self, Error> {
        let header = Map::new()
            .with(1, ES256)
            .with(4, thumbprint(key).as_bytes().to_vec());
        let signature = self.signature(header, sign)?;
        let mut approval = self.clone().without_signatures();
        approval.cose.signatures = vec![signature];
        Ok(approval)
    }

    fn signature(&self, header: Map, sign: Sign<'_>) -> Result<CoseSignature, Error> {
        let mut signature = CoseSignature {
            protected: protected(header.encode()),
            ..CoseSignature::default()
        };
        let to_sign = self.cose.tbs_data(&[], &signature);
        let signed = sign(&to_sign).map_err(Error::KeyOperation)?;
        signature.signature = signed.to_bytes().to_vec();
        Ok(signature)
    }

    /// Adds the signatures of an approval of this very object, in order of key ids, each once.
    ///
    /// # Errors
    /// [`Error::PartsDiffer`] if it approves another body.
    pub fn collect(&mut self, approval: &Self) -> Result<(), Error> {
        let body = |proposal: &Self| {
            (
                proposal.cose.protected.original_data.clone(),
                proposal.cose.payload.clone(),
            )
        };
        if body(self) != body(approval) {
            return Err(Error::PartsDiffer {
                what: WHAT,
                why: "the approval is of another draft",
            });
        }
        for signature in &approval.cose.signatures {
            let key = officer_key(signature)?;
            let known = self
                .cose
                .signatures
                .iter()
                .any(|s| officer_key(s).is_ok_and(|k| k == key));
            if !known {
                self.cose.signatures.push(signature.clone());
            }
        }
        self.cose
            .signatures
            .sort_by_key(|signature| officer_key(signature).ok());
        self.drafted = None;
        Ok(())
    }

    /// The officers whose valid signatures it bears, each holding `role`; any signature that is not such one refuses
    /// the whole.
    ///
    /// # Errors
    /// [`Error::SignerUnknown`], [`Error::SignerDuplicate`], [`Error::SignerRole`], [`Error::SignatureInvalid`].
    pub fn approvers(
        &self,
        manifest: &TrustManifest,
        role: Role,
    ) -> Result<BTreeSet<OfficerId>, Error> {
        let what = self.context.kind.as_str();
        let mut officers = BTreeSet::new();
        for signature in &self.cose.signatures {
            let key_id = officer_key(signature)?;
            let (officer, key) =
                manifest
                    .officer_of_key(&key_id)
                    .ok_or_else(|| Error::SignerUnknown {
                        what,
                        key: key_id.to_string(),
                    })?;
            verify_es256(
                what,
                key,
                &self.cose.tbs_data(&[], signature),
                &signature.signature,
            )?;
            if !officer.roles.contains(&role) {
                let (officer, role) = (officer.id.to_string(), role.as_str());
                return Err(Error::SignerRole {
                    what,
                    officer,
                    role,
                });
            }
            if !officers.insert(officer.id.clone()) {
                return Err(Error::SignerDuplicate {
                    what,
                    officer: officer.id.to_string(),
                });
            }
        }
        Ok(officers)
    }

    /// The officers who hold `role` in one manifest and validly signed it; signatures by others are left to
    /// [`Proposal::every_signer_in`].
    pub fn known_approvers(
        &self,
        manifest: &TrustManifest,
        role: Role,
    ) -> Result<BTreeSet<OfficerId>, Error> {
        let mut known = self.clone();
        known.cose.signatures.retain(|signature| {
            officer_key(signature).is_ok_and(|key| {
                manifest
                    .officer_of_key(&key)
                    .is_some_and(|(officer, _)| officer.roles.contains(&role))
            })
        });
        known.approvers(manifest, role)
    }

    /// Leaves out the signatures by keys of nobody who holds `role` in one of the manifests, such as those of officers
    /// who have left since. Returns how many these were.
    pub fn retain_holders(&mut self, manifests: &[TrustManifest], role: Role) -> usize {
        let before = self.cose.signatures.len();
        self.cose.signatures.retain(|signature| {
            officer_key(signature).is_ok_and(|key| {
                let mut listed = manifests.iter().filter_map(|m| m.officer_of_key(&key));
                listed.any(|(officer, _)| officer.roles.contains(&role))
            })
        });
        before - self.cose.signatures.len()
    }

    /// Refuses a signature by a key of nobody who holds `role` in one of the manifests.
    pub(crate) fn every_signer_in(
        &self,
        manifests: &[&TrustManifest],
        role: Role,
    ) -> Result<(), Error> {
        let what = self.context.kind.as_str();
        for signature in &self.cose.signatures {
            let key = officer_key(signature)?;
            let listed = || manifests.iter().filter_map(|m| m.officer_of_key(&key));
            if listed().any(|(officer, _)| officer.roles.contains(&role)) {
                continue;
            }
            return Err(match listed().next() {
                Some((officer, _)) => Error::SignerRole {
                    what,
                    officer: officer.id.to_string(),
                    role: role.as_str(),
                },
                None => Error::SignerUnknown {
                    what,
                    key: key.to_string(),
                },
            });
        }
        Ok(())
    }

    /// As [`Proposal::approvers`], and there are enough of them.
    ///
    /// # Errors
    /// As [`Proposal::approvers`], and [`Error::Threshold`].
    pub fn approved(
        &self,
        manifest: &TrustManifest,
        role: Role,
    ) -> Result<BTreeSet<OfficerId>, Error> {
        let officers = self.approvers(manifest, role)?;
        let (threshold, approved) = (manifest.threshold(role), officers.len() as u64);
        if approved < threshold {
            let what = self.context.kind.as_str();
            return Err(Error::Threshold {
                what,
                role: role.as_str(),
                threshold,
                approved,
            });
        }
        Ok(officers)
    }
}

/// Whose signature it says it is, and by which key.
enum Signer {
    Officer(KeyId),
    Headquarters(KeyId),
}

/// The protected header of a signature holds a key id, ES256 and, of a draft's own, the type; its unprotected header nothing.
fn signer(signature: &CoseSignature) -> Result<Signer, Error> {
    expect_empty(WHAT, &signature.unprotected)?;
    let header = |error| match error {
        Error::Shape { why, .. } => Error::Header { what: WHAT, why },
        other => other,
    };
    let bytes = as_received(WHAT, &signature.protected)?;
    let mut fields = Fields::decode(WHAT, bytes, 256).map_err(header)?;
    if fields.required(1).map_err(header)?.as_integer() != Some(ES256.into()) {
        return Err(Error::Algorithm { what: WHAT });
    }
    let key = fields.octets(4).map_err(header)?;
    let signer = match fields.optional(TYPE_LABEL) {
        None => Signer::Officer(key),
        Some(found) if found.as_text() == Some(DRAFT_TYPE) => Signer::Headquarters(key),
        Some(_) => {
            let why = "the type of a signature is not that of a draft's".to_owned();
            return Err(Error::Header { what: WHAT, why });
        }
    };
    fields.finish().map_err(header)?;
    Ok(signer)
}

/// The key of an officer's signature.
fn officer_key(signature: &CoseSignature) -> Result<KeyId, Error> {
    match signer(signature)? {
        Signer::Officer(key) => Ok(key),
        Signer::Headquarters(key) => Err(Error::SignerUnknown {
            what: WHAT,
            key: key.to_string(),
        }),
    }
}

/// Opens an object that a threshold of officers signed for one vault.
pub(crate) fn open<T: crate::order::Order>(
    proposal: &Proposal,
    manifest: &TrustManifest,
    vault: &VaultName,
    opener: Opener<'_>,
    parse: impl FnOnce(&[u8]) -> Result<T, Error>,
) -> Result<Verified<T>, Error> {
    let recipient = Party::Vault(vault.clone());
    proposal
        .context
        .expect(T::WHAT, T::KIND, &Party::Hq, &recipient)?;
    let officers = proposal.approved(manifest, T::ROLE)?;
    let plaintext = proposal.plaintext(Some(opener))?;
    let content = parse(&plaintext)?;
    let officers = officers.into_iter().collect();
    Ok(Verified::new(
        content,
        proposal.fingerprint(),
        plaintext.to_vec(),
        officers,
    ))
}
