//! A store of which a URI with `object` names one key.

use std::sync::Arc;

use p256::PublicKey;

use crate::error::Error;
use crate::secret::{SecretAlgorithm, SecretKey};
use crate::store::{Agreement, KeyDescription, KeyStore, Probe, Purpose, Signer, StoreFacts};
use crate::transport::{OaepHash, TransportKey};

/// One key of a store (RFC 7512 section 2.3, `object`); the others are as if they were not there.
pub(crate) struct Restricted {
    store: Arc<dyn KeyStore>,
    object: String,
}

impl Restricted {
    pub(crate) fn new(store: Arc<dyn KeyStore>, object: &str) -> Self {
        let object = object.to_owned();
        Self { store, object }
    }

    fn admit(&self, label: &str) -> Result<(), Error> {
        if label == self.object {
            return Ok(());
        }
        // The label in the URI is foreign text.
        let object = self.object.escape_debug().take(64).collect();
        let label = label.to_owned();
        Err(Error::KeyExcluded { object, label })
    }
}

impl KeyStore for Restricted {
    fn facts(&self) -> StoreFacts {
        self.store.facts()
    }

    fn find(&self, label: &str, purpose: Purpose) -> Result<Option<PublicKey>, Error> {
        self.admit(label)?;
        self.store.find(label, purpose)
    }

    fn generate(&self, label: &str, purpose: Purpose) -> Result<PublicKey, Error> {
        self.admit(label)?;
        self.store.generate(label, purpose)
    }

    fn signer(&self, label: &str) -> Result<Arc<dyn Signer>, Error> {
        self.admit(label)?;
        self.store.signer(label)
    }

    fn agreement(&self, label: &str) -> Result<Arc<dyn Agreement>, Error> {
        self.admit(label)?;
        self.store.agreement(label)
    }

    fn transport(&self, label: &str) -> Result<Option<TransportKey>, Error> {
        self.admit(label)?;
        self.store.transport(label)
    }

    fn generate_transport(&self, label: &str) -> Result<Option<TransportKey>, Error> {
        self.admit(label)?;
        self.store.generate_transport(label)
    }

    fn unwrap_secret(
        &self,
        label: &str,
        algorithm: SecretAlgorithm,
        transport_label: &str,
        oaep: OaepHash,
        wrapped: &[u8],
    ) -> Result<(), Error> {
        self.admit(label)?;
        self.admit(transport_label)?;
        self.store
            .unwrap_secret(label, algorithm, transport_label, oaep, wrapped)
    }

    fn import_secret(
        &self,
        label: &str,
        algorithm: SecretAlgorithm,
        key: &[u8; 32],
    ) -> Result<(), Error> {
        self.admit(label)?;
        self.store.import_secret(label, algorithm, key)
    }

    fn find_secret(&self, label: &str, algorithm: SecretAlgorithm) -> Result<bool, Error> {
        self.admit(label)?;
        self.store.find_secret(label, algorithm)
    }

    fn secret(&self, label: &str, algorithm: SecretAlgorithm) -> Result<Arc<dyn SecretKey>, Error> {
        self.admit(label)?;
        self.store.secret(label, algorithm)
    }

    fn destroy_secret(&self, label: &str, algorithm: SecretAlgorithm) -> Result<(), Error> {
        self.admit(label)?;
        self.store.destroy_secret(label, algorithm)
    }

    fn labels(&self) -> Result<Vec<KeyDescription>, Error> {
        let mut keys = self.store.labels()?;
        keys.retain(|key| key.label == self.object);
        Ok(keys)
    }

    fn data(&self, label: &str) -> Result<Vec<Vec<u8>>, Error> {
        self.admit(label)?;
        self.store.data(label)
    }

    fn add_data(&self, label: &str, value: &[u8]) -> Result<(), Error> {
        self.admit(label)?;
        self.store.add_data(label, value)
    }

    fn remove_data(&self, label: &str, value: &[u8]) -> Result<(), Error> {
        self.admit(label)?;
        self.store.remove_data(label, value)
    }

    fn self_test(&self) -> Result<Vec<Probe>, Error> {
        self.store.self_test()
    }
}
