//! One key of a folder, decrypted.

use aws_lc_rs::digest::{SHA256, digest};
use p256::ecdsa::signature::Signer as _;
use p256::ecdsa::{Signature, SigningKey};
use p256::{PublicKey, SecretKey};
use zeroize::Zeroizing;

use crate::error::Error;
use crate::store::{Agreement, Purpose, Signer};
use crate::verify::Verifier;

/// A private key in memory. Both its halves wipe themselves when dropped.
pub(super) struct FileKey {
    store: String,
    label: String,
    pub(super) purpose: Purpose,
    secret: SecretKey,
    signing: SigningKey,
    public: PublicKey,
    verifier: Verifier,
}

impl FileKey {
    pub(super) fn new(
        store: &str,
        label: &str,
        purpose: Purpose,
        secret: SecretKey,
    ) -> Result<Self, Error> {
        let public = secret.public_key();
        Ok(Self {
            store: store.into(),
            label: label.into(),
            purpose,
            signing: SigningKey::from(&secret),
            verifier: Verifier::new(&public)?,
            public,
            secret,
        })
    }
}

impl Signer for FileKey {
    fn public_key(&self) -> &PublicKey {
        &self.public
    }

    fn sign(&self, message: &[u8]) -> Result<Signature, Error> {
        let failed = || Error::SignatureInvalid {
            store: self.store.clone(),
            label: self.label.clone(),
        };
        // Deterministic (RFC 6979): no random number that could be bad.
        let signature: Signature = self.signing.try_sign(message).map_err(|_| failed())?;
        let signature = signature.normalize_s();
        // A bit that flipped during the computation would give the key away to whoever saw the result.
        if self.verifier.accepts(&digest(&SHA256, message), &signature) {
            Ok(signature)
        } else {
            Err(failed())
        }
    }
}

impl Agreement for FileKey {
    fn public_key(&self) -> &PublicKey {
        &self.public
    }

    fn agree(&self, peer: &PublicKey) -> Result<Zeroizing<[u8; 32]>, Error> {
        let shared = self.secret.diffie_hellman(peer);
        let mut secret = Zeroizing::new([0_u8; 32]);
        secret.copy_from_slice(shared.raw_secret_bytes());
        Ok(secret)
    }
}
