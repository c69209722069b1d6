//! A token as a store of keys.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use cryptoki::mechanism::Mechanism;
use cryptoki::object::{Attribute, AttributeType, ObjectClass, ObjectHandle};
use cryptoki::session::Session;
use p256::PublicKey;

use super::attributes;
use super::fault::{self, Fault};
use super::key::{self, Found, TokenKey};
use super::pool::Pool;
use super::probe;
use crate::error::Error;
use crate::label::Label;
use crate::random;
use crate::store::{Agreement, KeyDescription, KeyStore, Probe, Purpose, Signer, StoreFacts};

/// An open token.
pub(super) struct TokenStore {
    pool: Arc<Pool>,
    facts: StoreFacts,
    keys: Mutex<HashMap<(String, Purpose), Arc<TokenKey>>>,
}

impl TokenStore {
    pub(super) fn new(pool: Pool, facts: StoreFacts) -> Self {
        Self {
            pool: Arc::new(pool),
            facts,
            keys: Mutex::default(),
        }
    }

    /// Looks the key up anew, and remembers it.
    fn load(&self, label: Label<'_>, purpose: Purpose) -> Result<Option<Arc<TokenKey>>, Error> {
        let found = self.pool.call(|session, generation| {
            let found = key::look_up(session, self.pool.store(), label.as_str(), purpose)?;
            Ok(found.map(|found| (found, generation)))
        })?;
        let mut keys = self.keys.lock().unwrap_or_else(PoisonError::into_inner);
        let name = (label.as_str().to_owned(), purpose);
        let Some((found, generation)) = found else {
            keys.remove(&name);
            return Ok(None);
        };
        let key = Arc::new(TokenKey::new(
            self.pool.clone(),
            label.as_str(),
            purpose,
            &found,
            generation,
        )?);
        keys.insert(name, key.clone());
        Ok(Some(key))
    }

    /// The key as it is remembered, or else looked up.
    fn key(&self, label: &str, purpose: Purpose) -> Result<Arc<TokenKey>, Error> {
        let label = Label::try_from(label)?;
        let name = (label.as_str().to_owned(), purpose);
        if let Some(key) = self
            .keys
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .get(&name)
        {
            return Ok(key.clone());
        }
        self.load(label, purpose)?.ok_or_else(|| Error::KeyMissing {
            store: self.pool.store().into(),
            label: label.as_str().into(),
        })
    }

    fn generate_in(
        &self,
        session: &Session,
        label: &str,
        purpose: Purpose,
    ) -> Result<Found, Fault> {
        let store = self.pool.store();
        let public_taken = session
            .find_objects(&[
                Attribute::Class(ObjectClass::PUBLIC_KEY),
                Attribute::Label(label.into()),
            ])
            .map_err(Fault::while_("find a public key"))?;
        if !key::private_keys(session, Some(label))?.is_empty() || !public_taken.is_empty() {
            return Err(Error::KeyExists {
                store: store.into(),
                label: label.into(),
            }
            .into());
        }
        let mut id = [0_u8; 20];
        random::fill(&mut id)?;
        let (public, private) = session
            .generate_key_pair(
                &Mechanism::EccKeyPairGen,
                &attributes::public_template(label, &id, purpose, true),
                &attributes::private_template(label, &id, purpose, true),
            )
            .map_err(Fault::while_("make a key"))?;
        match key::look_up(session, store, label, purpose) {
            Ok(Some(found)) => Ok(found),
            // The key was never used, and a token that makes such keys must not be left with one of them.
            refused => {
                for handle in [public, private] {
                    session
                        .destroy_object(handle)
                        .map_err(Fault::while_("destroy a key that it made wrongly"))?;
                }
                match refused {
                    Err(fault) => Err(fault),
                    _ => Err(Error::KeyMissing {
                        store: store.into(),
                        label: label.into(),
                    }
                    .into()),
                }
            }
        }
    }
}

impl KeyStore for TokenStore {
    fn facts(&self) -> StoreFacts {
        self.facts.clone()
    }

    fn find(&self, label: &str, purpose: Purpose) -> Result<Option<PublicKey>, Error> {
        let key = self.load(Label::try_from(label)?, purpose)?;
        Ok(key.map(|key| *Signer::public_key(&*key)))
    }

    fn generate(&self, label: &str, purpose: Purpose) -> Result<PublicKey, Error> {
        let label = Label::try_from(label)?;
        let found = self
            .pool
            .call(|session, _| self.generate_in(session, label.as_str(), purpose))?;
        Ok(found.public)
    }

    fn signer(&self, label: &str) -> Result<Arc<dyn Signer>, Error> {
        Ok(self.key(label, Purpose::Sign)?)
    }

    fn agreement(&self, label: &str) -> Result<Arc<dyn Agreement>, Error> {
        Ok(self.key(label, Purpose::Agree)?)
    }

    fn labels(&self) -> Result<Vec<KeyDescription>, Error> {
        let mut descriptions = self.pool.call(|session, _| {
            key::private_keys(session, None)?
                .into_iter()
                .map(|handle| describe(session, handle))
                .collect::<Result<Vec<_>, _>>()
        })?;
        descriptions.sort_by(|left, right| left.label.cmp(&right.label));
        mark_twins(&mut descriptions);
        Ok(descriptions)
    }

    fn self_test(&self) -> Result<Vec<Probe>, Error> {
        Ok(probe::run(&self.pool))
    }
}

/// A key as `doctor` shows it: nothing of it is used.
fn describe(session: &Session, handle: ObjectHandle) -> Result<KeyDescription, Fault> {
    let label = session
        .get_attributes(handle, &[AttributeType::Label])
        .map_err(Fault::while_("read a key's label"))?;
    let label = label
        .iter()
        .find_map(|attribute| {
            if let Attribute::Label(label) = attribute {
                Some(label)
            } else {
                None
            }
        })
        .map(|label| String::from_utf8_lossy(label).escape_debug().to_string())
        .unwrap_or_default();
    let read = match session.get_attributes(handle, attributes::PRIVATE_KEY) {
        Ok(read) => read,
        Err(error) => {
            let problem = format!("its attributes cannot be read: {}", fault::reason(&error));
            let fault = Fault::while_("read a key's attributes")(error);
            if fault.is_lost() {
                return Err(fault);
            }
            // A kind of key that cryptoki has no name for.
            return Ok(KeyDescription {
                label,
                purpose: None,
                problem: Some(problem),
            });
        }
    };
    let purpose = attributes::purpose_of(&read);
    let problem = match purpose {
        Some(purpose) => attributes::problem(&read, purpose),
        // Judged as a key to sign with, which names what is wrong with its usages or, before that, with its kind.
        None => attributes::problem(&read, Purpose::Sign),
    };
    let problem = problem.map(|problem| format!("{} is {}", problem.attribute, problem.found));
    Ok(KeyDescription {
        label,
        purpose,
        problem,
    })
}

/// Two keys of one label are a problem of both.
fn mark_twins(descriptions: &mut [KeyDescription]) {
    for group in descriptions.chunk_by_mut(|left, right| left.label == right.label) {
        let count = group.len();
        if count > 1 {
            for key in group {
                key.problem
                    .get_or_insert_with(|| format!("CKA_LABEL is that of {count} keys"));
            }
        }
    }
}
