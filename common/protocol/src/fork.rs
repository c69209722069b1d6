//! The proof of a fork: two statements of its log that one vault signed and that cannot both be true, with what a third
//! party needs to see that it was that vault. A statement is an audit bundle, or the declaration of a restore.
//!
//! It is no message: nobody signs it, and nobody has to, since each of its parts is signed. Whoever has the fingerprint of
//! one trust manifest in it can judge it, with nothing else at hand.
//!
//! ```cddl
//! fork-proof = {
//!   1: 1,                              ; format version
//!   2: [1*4096 bstr],                  ; trust manifests, whole messages, each the one that follows the one before
//!   3: der,                            ; the vault's identity certificate, by a root of one of them
//!   4: bstr,                           ; an audit bundle, the whole message without its segments; or a restore declaration
//!   5: bstr,                           ; another one
//!   6: [0*65 digest],                  ; none; or a root of the smaller size, and its consistency proof to the larger log
//!   7: digest,                         ; SHA-256 of this map without key 7
//!   ? 8: bstr,                         ; the first bundle of the lineage that one of them, a declaration, opened
//! }
//! ```

use ciborium::Value;
use p256::PublicKey;

use crate::Error;
use crate::bundle::{BUNDLE_BYTES_MAX, Bundle};
use crate::cbor::{Fields, Map};
use crate::envelope::{Kind, Party, Verified, claim};
use crate::identifier::{Fingerprint, Lineage, VaultName};
use crate::restore::RestoreDeclaration;
use crate::trust::TrustManifest;

/// The largest proof, in bytes.
pub const FORK_PROOF_BYTES_MAX: usize = 128 << 20;
/// The most trust manifests in one.
pub const MANIFESTS_MAX: usize = 4096;
/// The longest consistency proof, in digests, and the root before it: a tree of 2^63 leaves needs no more.
pub const CONSISTENCY_MAX: usize = 65;
const WHAT: &str = "proof of a fork";

/// What a vault signed of its log.
#[derive(Clone, Debug)]
pub enum Statement {
    /// A report.
    Bundle(Verified<Bundle>),
    /// What its log was when its home had been put back from a copy.
    Declaration(Verified<RestoreDeclaration>),
}

impl Statement {
    /// Verifies one, by the key of the vault.
    ///
    /// # Errors
    /// Whatever refuses it.
    pub fn open(bytes: &[u8], vault: &VaultName, key: &PublicKey) -> Result<Self, Error> {
        match claim(bytes, BUNDLE_BYTES_MAX)?.context.kind {
            Kind::RestoreDeclaration => {
                RestoreDeclaration::open(bytes, vault, key).map(Self::Declaration)
            }
            _ => Bundle::open(bytes, vault, key).map(Self::Bundle),
        }
    }

    /// The history that it is about: of a declaration, the one that was put back.
    pub fn lineage(&self) -> Lineage {
        match self {
            Self::Bundle(bundle) => bundle.content().lineage,
            Self::Declaration(declaration) => declaration.content().parent,
        }
    }

    /// How many records there were.
    pub fn size(&self) -> u64 {
        match self {
            Self::Bundle(bundle) => bundle.content().checkpoint.size,
            Self::Declaration(declaration) => declaration.content().size,
        }
    }

    /// Their Merkle root.
    pub fn root(&self) -> Fingerprint {
        match self {
            Self::Bundle(bundle) => bundle.content().checkpoint.root,
            Self::Declaration(declaration) => declaration.content().root,
        }
    }

    /// SHA-256 of its payload.
    pub fn fingerprint(&self) -> Fingerprint {
        match self {
            Self::Bundle(bundle) => bundle.fingerprint(),
            Self::Declaration(declaration) => declaration.fingerprint(),
        }
    }

    /// The bundle that it is, if it is one.
    pub fn bundle(&self) -> Option<&Verified<Bundle>> {
        match self {
            Self::Bundle(bundle) => Some(bundle),
            Self::Declaration(_) => None,
        }
    }

    /// The declaration that it is, if it is one.
    pub fn declaration(&self) -> Option<&Verified<RestoreDeclaration>> {
        match self {
            Self::Bundle(_) => None,
            Self::Declaration(declaration) => Some(declaration),
        }
    }
}

/// Two statements that contradict each other, and whose they are. Nothing of it is verified yet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ForkProof {
    /// Trust manifests as they were published, in order and without a gap.
    pub trust: Vec<Vec<u8>>,
    /// The certificate of the vault's identity, DER.
    pub identity_certificate: Vec<u8>,
    /// The statements, as they were received.
    pub statements: [Vec<u8>; 2],
    /// Where one of them is a declaration: the first bundle of the lineage in which the log went on, as it was received,
    /// if that is what makes it a contradiction.
    pub opening: Option<Vec<u8>>,
    /// The root of the larger log when it was as small as the smaller one, and the consistency proof of that; empty where
    /// it is not needed.
    pub consistency: Vec<Fingerprint>,
}

impl ForkProof {
    fn map(&self) -> Map {
        let digests = self.consistency.iter();
        Map::new()
            .with(1, crate::FORMAT_VERSION)
            .with_array(2, self.trust.iter().cloned())
            .with(3, self.identity_certificate.clone())
            .with(4, self.statements[0].clone())
            .with(5, self.statements[1].clone())
            .with_array(6, digests.map(|digest| digest.as_bytes().to_vec()))
    }

    fn digest(&self) -> Fingerprint {
        let map = self.map().with_some(8, self.opening.clone());
        Fingerprint::of(&map.encode())
    }

    /// The file.
    pub fn to_cbor(&self) -> Vec<u8> {
        let map = self.map().with(7, self.digest().as_bytes().to_vec());
        map.with_some(8, self.opening.clone()).encode()
    }

    /// Reads a file. What it says is to be verified: see [`ForkProof::manifests`] and [`ForkProof::statements`].
    ///
    /// # Errors
    /// [`Error::Oversize`], [`Error::Encoding`], [`Error::FormatVersion`] and [`Error::Shape`];
    /// [`Error::PartsDiffer`] if it is damaged.
    pub fn from_cbor(bytes: &[u8]) -> Result<Self, Error> {
        let mut fields = Fields::decode(WHAT, bytes, FORK_PROOF_BYTES_MAX)?;
        fields.format_version(1)?;
        let trust = octets(&mut fields, 2, MANIFESTS_MAX)?;
        if trust.is_empty() {
            return Err(fields.wrong(2, "a trust manifest was expected"));
        }
        let digests = octets(&mut fields, 6, CONSISTENCY_MAX)?.into_iter();
        let digests: Option<Vec<[u8; 32]>> = digests.map(|one| one.try_into().ok()).collect();
        let digests =
            digests.ok_or_else(|| fields.wrong(6, "digests of 32 bytes were expected"))?;
        let digest: Fingerprint = fields.octets(7)?;
        let opening = match fields.optional(8).map(Value::into_bytes) {
            None => None,
            Some(Ok(bytes)) => Some(bytes),
            Some(Err(_)) => return Err(fields.wrong(8, "a bundle was expected")),
        };
        let proof = Self {
            trust,
            identity_certificate: fields.bytes(3)?,
            statements: [fields.bytes(4)?, fields.bytes(5)?],
            opening,
            consistency: digests.into_iter().map(Fingerprint::new).collect(),
        };
        fields.finish()?;
        if proof.digest() != digest {
            return Err(Error::PartsDiffer {
                what: WHAT,
                why: "its digest is of something else; the file is damaged",
            });
        }
        Ok(proof)
    }

    /// Verifies the trust manifests from one of them that a person knows by its fingerprint: those before it by the
    /// digests that lead back, those after it by their officers' signatures.
    ///
    /// # Errors
    /// [`Error::FingerprintMismatch`] if none has this fingerprint, and whatever refuses a manifest.
    pub fn manifests(&self, known: &Fingerprint) -> Result<Vec<Verified<TrustManifest>>, Error> {
        TrustManifest::known("trust manifest of a proof", &self.trust, known)
    }

    /// The vault that the first statement says it is of; [`ForkProof::statements`] verifies it.
    ///
    /// # Errors
    /// Whatever is wrong with its envelope; [`Error::WrongParty`] if no vault sent it.
    pub fn sender(&self) -> Result<VaultName, Error> {
        match claim(&self.statements[0], BUNDLE_BYTES_MAX)?.context.sender {
            Party::Vault(name) => Ok(name),
            other => Err(Error::WrongParty {
                what: WHAT,
                role: "sender",
                expected: "a vault".to_owned(),
                found: other.to_string(),
            }),
        }
    }

    /// Verifies both statements by the key that the vault's identity certificate names. That certificate is the caller's
    /// to judge.
    ///
    /// # Errors
    /// Whatever refuses a statement.
    pub fn statements(&self, vault: &VaultName, key: &PublicKey) -> Result<[Statement; 2], Error> {
        Ok([
            Statement::open(&self.statements[0], vault, key)?,
            Statement::open(&self.statements[1], vault, key)?,
        ])
    }

    /// Verifies the first bundle of the lineage that a declaration opened, if there is one, by the same key.
    ///
    /// # Errors
    /// Whatever refuses it.
    pub fn opening(
        &self,
        vault: &VaultName,
        key: &PublicKey,
    ) -> Result<Option<Verified<Bundle>>, Error> {
        let bytes = self.opening.as_deref();
        bytes
            .map(|bytes| Bundle::open(bytes, vault, key))
            .transpose()
    }
}

fn octets(fields: &mut Fields, key: i64, count_max: usize) -> Result<Vec<Vec<u8>>, Error> {
    let values = fields.array(key, count_max)?.into_iter();
    let found: Option<Vec<_>> = values.map(|value| Value::into_bytes(value).ok()).collect();
    found.ok_or_else(|| fields.wrong(key, "byte strings were expected"))
}
