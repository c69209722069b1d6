//! A store of which a URI with `object` names one key.

use std::sync::Arc;

use p256::PublicKey;

use crate::error::Error;
use crate::store::{Agreement, KeyDescription, KeyStore, Probe, Purpose, Signer, StoreFacts};

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

    fn labels(&self) -> Result<Vec<KeyDescription>, Error> {
        let mut keys = self.store.labels()?;
        keys.retain(|key| key.label == self.object);
        Ok(keys)
    }

    fn self_test(&self) -> Result<Vec<Probe>, Error> {
        self.store.self_test()
    }
}
