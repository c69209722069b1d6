//! The vault's own keys, and that they are still the ones that it was enrolled with.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::sync::Arc;

use mintmark_console::Console;
use mintmark_keys::{Agreement, KeyStore, KeyUri, Signer};
use mintmark_pki::CertificationRequest;
use mintmark_protocol::KeyFailure;
use mintmark_protocol::encryption::Opener;
use mintmark_protocol::enrolment::{EnrolmentRequest, FIRST_GENERATION, REQUEST_BYTES_MAX};
use mintmark_protocol::identifier::Fingerprint;
use mintmark_protocol::transport::TransportKey;
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
/// The key that signs device certificates, of the first device CA.
pub(crate) const DEVICE_CA: &str = "device-ca";
/// The key that symmetric keys are unwrapped with, where the token can.
pub(crate) const VAULT_TRANSPORT: &str = "vault-transport";

/// The label of the key of a device CA: `device-ca`, then `device-ca-2` and so on.
pub(crate) fn device_ca_label(generation: u16) -> String {
    match generation {
        FIRST_GENERATION => DEVICE_CA.to_owned(),
        later => format!("{DEVICE_CA}-{later}"),
    }
}

/// The public keys that this vault named in its enrolment request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Identity {
    /// `vault-sign`.
    pub(crate) sign: PublicKey,
    /// `vault-agree`.
    pub(crate) agree: PublicKey,
    /// `device-ca`.
    pub(crate) device_ca: PublicKey,
    /// `vault-transport`, if it named one.
    pub(crate) transport: Option<TransportKey>,
}

impl Identity {
    /// Reads it from the enrolment request in the home, which must be the one that the log names.
    pub(crate) fn load(home: &Home, fingerprint: &Fingerprint) -> Result<Self> {
        let bytes = home.file(ENROLMENT, REQUEST_BYTES_MAX)?;
        let other = || home.corrupt(ENROLMENT, "not the enrolment request that the log names");
        let request = EnrolmentRequest::open(&bytes, fingerprint)
            .map_err(|error| other().cause(error))?
            .into_content();
        let device_ca = device_ca_key(&request).map_err(|why| other().cause(why))?;
        Ok(Self {
            sign: request.signing_key,
            agree: request.agreement_key,
            device_ca,
            transport: request.transport_key,
        })
    }
}

/// The device CA key that an enrolment request asks to have certified, or why there is none.
pub(crate) fn device_ca_key(request: &EnrolmentRequest) -> std::result::Result<PublicKey, String> {
    let csr = CertificationRequest::from_der(&request.device_ca_csr)
        .map_err(|error| error.to_string())?;
    PublicKey::from_public_key_der(csr.spki_der())
        .map_err(|_| "its device CA key is not on P-256".to_owned())
}

/// Opens a key store; where the URI names no file with the PIN, it is asked for on the terminal.
pub(crate) fn open_store(uri: &KeyUri, console: &Console) -> Result<Arc<dyn KeyStore>> {
    Ok(mintmark_keys::open(uri, &|question| {
        console.secret(question)
    })?)
}

/// As [`open_store`], but a key folder is made where there is none.
pub(crate) fn create_store(uri: &KeyUri, console: &Console) -> Result<Arc<dyn KeyStore>> {
    Ok(mintmark_keys::create(uri, &|question| {
        console.secret(question)
    })?)
}

/// The vault's key store and its keys, open.
#[derive(Debug)]
pub(crate) struct Keyring {
    store: Arc<dyn KeyStore>,
    sign: Arc<dyn Signer>,
    agree: Arc<dyn Agreement>,
    /// The keys of the device CAs that were needed so far, by generation.
    device_cas: RefCell<BTreeMap<u16, Arc<dyn Signer>>>,
}

impl Keyring {
    /// Finds the keys in an open store: of the device CAs, that of the generation `device_ca`, which has this public key.
    ///
    /// # Errors
    /// VAULT-KEY-CHANGED if a key is another one than this vault was enrolled with; what the store fails with.
    pub(crate) fn of(
        store: Arc<dyn KeyStore>,
        identity: &Identity,
        device_ca: (u16, PublicKey),
    ) -> Result<Self> {
        let (sign, agree) = (store.signer(VAULT_SIGN)?, store.agreement(VAULT_AGREE)?);
        expect_same(VAULT_SIGN, sign.public_key(), &identity.sign)?;
        expect_same(VAULT_AGREE, agree.public_key(), &identity.agree)?;
        let keyring = Self {
            store,
            sign,
            agree,
            device_cas: RefCell::default(),
        };
        let (generation, key) = device_ca;
        keyring.device_ca(generation, &key)?;
        Ok(keyring)
    }

    /// The key of a device CA, which has this public key.
    ///
    /// # Errors
    /// VAULT-KEY-CHANGED if it is another one; what the store fails with.
    pub(crate) fn device_ca(&self, generation: u16, key: &PublicKey) -> Result<Arc<dyn Signer>> {
        if let Some(known) = self.device_cas.borrow().get(&generation) {
            return Ok(Arc::clone(known));
        }
        let label = device_ca_label(generation);
        let signer = self.store.signer(&label)?;
        expect_same(&label, signer.public_key(), key)?;
        let mut known = self.device_cas.borrow_mut();
        known.insert(generation, Arc::clone(&signer));
        Ok(signer)
    }

    /// `vault-agree`.
    pub(crate) fn agreement(&self) -> &dyn Agreement {
        &*self.agree
    }

    /// The store.
    pub(crate) fn store(&self) -> &Arc<dyn KeyStore> {
        &self.store
    }

    /// `vault-sign`.
    pub(crate) fn signer(&self) -> &Arc<dyn Signer> {
        &self.sign
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

pub(crate) fn expect_same(label: &str, found: &PublicKey, expected: &PublicKey) -> Result<()> {
    if found == expected {
        return Ok(());
    }
    let message = format!("the key {label} is not the one that this vault was made with");
    Err(Error::integrity("VAULT-KEY-CHANGED", message)
        .hint("put the vault's own token back, or correct `keys` in the home's config.toml"))
}
