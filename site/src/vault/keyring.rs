//! The vault's own keys, and that they are still the ones that it was enrolled with.

use std::sync::Arc;

use mintmark_console::Console;
use mintmark_keys::{Agreement, KeyStore, KeyUri, Signer, pin_source_warning};
use mintmark_pki::CertificationRequest;
use mintmark_protocol::KeyFailure;
use mintmark_protocol::encryption::Opener;
use mintmark_protocol::enrolment::{EnrolmentRequest, REQUEST_BYTES_MAX};
use mintmark_protocol::identifier::Fingerprint;
use p256::PublicKey;
use p256::ecdsa::Signature;
use p256::pkcs8::DecodePublicKey as _;
use zeroize::Zeroizing;

use crate::failure::{Error, Result};
use crate::home::{ENROLMENT, Home};

/// The key that signs messages and bundles.
pub(crate) const VAULT_SIGN: &str = "vault-sign";
/// The key that messages are encrypted to.
pub(crate) const VAULT_AGREE: &str = "vault-agree";
/// The key that signs device certificates.
pub(crate) const DEVICE_CA: &str = "device-ca";

/// The public keys that this vault named in its enrolment request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Identity {
    /// `vault-sign`.
    pub(crate) sign: PublicKey,
    /// `vault-agree`.
    pub(crate) agree: PublicKey,
    /// `device-ca`.
    pub(crate) device_ca: PublicKey,
}

impl Identity {
    /// Reads it from the enrolment request in the home, which must be the one that the log names.
    pub(crate) fn load(home: &Home, fingerprint: &Fingerprint) -> Result<Self> {
        let bytes = home.file(ENROLMENT, REQUEST_BYTES_MAX)?;
        let other = || home.corrupt(ENROLMENT, "not the enrolment request that the log names");
        let request = EnrolmentRequest::open(&bytes, fingerprint)
            .map_err(|error| other().cause(error))?
            .into_content();
        let csr = CertificationRequest::from_der(&request.device_ca_csr)
            .map_err(|error| other().cause(error))?;
        let device_ca = PublicKey::from_public_key_der(csr.spki_der())
            .map_err(|_| other().cause("its device CA key is not on P-256"))?;
        Ok(Self {
            sign: request.signing_key,
            agree: request.agreement_key,
            device_ca,
        })
    }
}

/// Opens a key store; where the URI names no file with the PIN, it is asked for on the terminal.
pub(crate) fn open_store(uri: &KeyUri, console: &Console) -> Result<Arc<dyn KeyStore>> {
    Ok(mintmark_keys::open(uri, &|question| {
        console.secret(question)
    })?)
}

/// As [`open_store`], but a key folder is made where there is none.
pub(crate) fn create_store(uri: &KeyUri, console: &Console) -> Result<Arc<dyn KeyStore>> {
    if let Some(warning) = pin_source_warning(uri) {
        console.warn(warning);
    }
    Ok(mintmark_keys::create(uri, &|question| {
        console.secret(question)
    })?)
}

/// The three keys, open.
#[derive(Debug)]
pub(crate) struct Keyring {
    sign: Arc<dyn Signer>,
    agree: Arc<dyn Agreement>,
    device_ca: Arc<dyn Signer>,
}

impl Keyring {
    /// Opens the store and finds the keys in it.
    ///
    /// # Errors
    /// VAULT-KEY-CHANGED if a key is another one than this vault was enrolled with; what the store fails with.
    pub(crate) fn open(uri: &KeyUri, identity: &Identity, console: &Console) -> Result<Self> {
        let store = open_store(uri, console)?;
        let keyring = Self {
            sign: store.signer(VAULT_SIGN)?,
            agree: store.agreement(VAULT_AGREE)?,
            device_ca: store.signer(DEVICE_CA)?,
        };
        for (label, found, expected) in [
            (VAULT_SIGN, keyring.sign.public_key(), &identity.sign),
            (VAULT_AGREE, keyring.agree.public_key(), &identity.agree),
            (
                DEVICE_CA,
                keyring.device_ca.public_key(),
                &identity.device_ca,
            ),
        ] {
            if found != expected {
                let message =
                    format!("the key {label} is not the one that this vault was made with");
                return Err(Error::integrity("VAULT-KEY-CHANGED", message).hint(
                    "put the vault's own token back, or correct `keys` in the home's config.toml",
                ));
            }
        }
        Ok(keyring)
    }

    /// The key that signs device certificates.
    pub(crate) fn device_ca(&self) -> &dyn Signer {
        &*self.device_ca
    }

    /// Signs a message of the vault's.
    pub(crate) fn sign(&self, message: &[u8]) -> std::result::Result<Signature, KeyFailure> {
        Ok(self.sign.sign(message)?)
    }

    /// Agrees on a secret with `peer`.
    pub(crate) fn agree(
        &self,
        peer: &PublicKey,
    ) -> std::result::Result<Zeroizing<[u8; 32]>, KeyFailure> {
        Ok(self.agree.agree(peer)?)
    }

    /// Hands what decrypts messages to `body`.
    pub(crate) fn with_opener<T>(&self, body: impl FnOnce(Opener<'_>) -> T) -> T {
        let agree = |peer: &PublicKey| self.agree(peer);
        body(Opener {
            public_key: self.agree.public_key(),
            agree: &agree,
            former: None,
        })
    }
}
