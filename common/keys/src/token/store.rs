//! A token as a store of keys.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use cryptoki::context::Function;
use cryptoki::mechanism::Mechanism;
use cryptoki::object::{Attribute, AttributeType, KeyType, ObjectHandle};
use cryptoki::session::Session;
use p256::PublicKey;

use super::attributes;
use super::data;
use super::disk;
use super::fault::{self, Fault};
use super::key::{self, Found, Name, TokenKey};
use super::pool::Pool;
use super::probe;
use super::secret::{self, TokenSecret};
use super::transport;
use crate::error::Error;
use crate::label::Label;
use crate::random;
use crate::secret::{SecretAlgorithm, SecretKey};
use crate::store::{
    Agreement, DataLock, KeyDescription, KeyKind, KeyStore, Liveness, Probe, Purpose, Signer,
    StoreFacts,
};
use crate::transport::{OaepHash, TransportKey};

/// What SoftHSM does not do where its files have no room.
const NO_ROOM_FOR_DATA: &str = "make a data object: the disk that its files are on has no room";
const NO_ROOM_FOR_KEY: &str = "make a key: the disk that its files are on has no room";

/// The one key that the URI names (RFC 7512 section 2.3), if it names one. The others are as if they were not there.
#[derive(Debug, Default)]
pub(super) struct Chosen {
    /// CKA_LABEL.
    pub(super) object: Option<String>,
    /// CKA_ID. It chooses a key that others made, so only one to authenticate with.
    pub(super) id: Option<Vec<u8>>,
}

impl Chosen {
    /// The label of a key or of data, if the URI leaves it in.
    fn admit<'a>(&self, label: &'a str) -> Result<Label<'a>, Error> {
        let checked = Label::try_from(label)?;
        if self.id.is_some() || self.object.as_ref().is_some_and(|object| object != label) {
            return Err(self.excluded(label));
        }
        Ok(checked)
    }

    /// What the key pair `label` is found by. A key to authenticate with is called what the URI calls it.
    fn name(&self, label: &str, purpose: Purpose) -> Result<Name, Error> {
        let named = self.object.is_some() || self.id.is_some();
        if purpose != Purpose::Authenticate || !named {
            return self.admit(label).map(|label| Name::label(label.as_str()));
        }
        if self.object.as_ref().is_some_and(|object| object != label) {
            return Err(self.excluded(label));
        }
        Ok(Name {
            label: label.into(),
            by_label: self.object.is_some(),
            id: self.id.clone(),
        })
    }

    fn excluded(&self, label: &str) -> Error {
        // The label in the URI is foreign text, and so is the other one perhaps.
        let shown = |text: &str| text.escape_debug().take(64).collect::<String>();
        let object = self
            .object
            .as_ref()
            .map(|object| format!("object={}", shown(object)));
        let id = self.id.as_ref().map(|id| format!("id={}", hex::encode(id)));
        Error::KeyExcluded {
            named: [object, id]
                .into_iter()
                .flatten()
                .collect::<Vec<_>>()
                .join(";"),
            label: shown(label),
        }
    }
}

/// How a key is looked up: whether it is proven in any case.
type LookUp = fn(&Session, &str, &Name, Purpose) -> Result<Option<Found>, Fault>;

/// An open token.
pub(super) struct TokenStore {
    pool: Arc<Pool>,
    facts: StoreFacts,
    chosen: Chosen,
    keys: Mutex<HashMap<(String, Purpose), Arc<TokenKey>>>,
    secrets: Mutex<HashMap<(String, SecretAlgorithm), Arc<TokenSecret>>>,
}

impl TokenStore {
    pub(super) fn new(pool: Arc<Pool>, facts: StoreFacts, chosen: Chosen) -> Self {
        Self {
            pool,
            facts,
            chosen,
            keys: Mutex::default(),
            secrets: Mutex::default(),
        }
    }

    /// Looks the key up anew, and remembers it.
    fn load(
        &self,
        label: &str,
        purpose: Purpose,
        look_up: LookUp,
    ) -> Result<Option<Arc<TokenKey>>, Error> {
        let name = self.chosen.name(label, purpose)?;
        let found = self.pool.call(|session, generation| {
            let found = look_up(session, self.pool.store(), &name, purpose)?;
            Ok(found.map(|found| (found, generation)))
        })?;
        let mut keys = self.keys.lock().unwrap_or_else(PoisonError::into_inner);
        let known_as = (label.to_owned(), purpose);
        let Some((found, generation)) = found else {
            keys.remove(&known_as);
            return Ok(None);
        };
        let pool = self.pool.clone();
        let key = Arc::new(TokenKey::new(pool, name, purpose, &found, generation)?);
        keys.insert(known_as, key.clone());
        Ok(Some(key))
    }

    /// The key as it is remembered, or else looked up.
    fn key(&self, label: &str, purpose: Purpose) -> Result<Arc<TokenKey>, Error> {
        let name = self.chosen.name(label, purpose)?;
        if let Some(key) = self
            .keys
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .get(&(label.to_owned(), purpose))
        {
            return Ok(key.clone());
        }
        self.load(label, purpose, key::look_up_lazily)?
            .ok_or_else(|| Error::KeyMissing {
                store: self.pool.store().into(),
                label: name.shown(),
            })
    }

    fn secrets(&self) -> MutexGuard<'_, HashMap<(String, SecretAlgorithm), Arc<TokenSecret>>> {
        self.secrets.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Where it is known that there is no room for another object. Then none is tried: SoftHSM leaves the empty files of an object
    /// that it could not make, and does not always say that it could not.
    fn expect_room(&self, action: &'static str) -> Result<(), Error> {
        match disk::is_softhsm(&self.facts.manufacturer) && disk::is_full() {
            false => Ok(()),
            true => Err(Error::TokenFull {
                store: self.pool.store().into(),
                action,
            }),
        }
    }

    /// Makes an object. Where that fails and there is no room for one, that is why.
    fn make<T>(
        &self,
        no_room: &'static str,
        make: impl Fn(&Session) -> Result<T, Fault>,
    ) -> Result<T, Error> {
        let made = self.pool.call(|session, _| make(session));
        made.map_err(|error| match error {
            Error::DataNotKept { .. } | Error::TokenFailed { .. } => {
                self.expect_room(no_room).err().unwrap_or(error)
            }
            error => error,
        })
    }

    fn generate_in(
        &self,
        session: &Session,
        name: &Name,
        purpose: Purpose,
    ) -> Result<Found, Fault> {
        let store = self.pool.store();
        let label = Label::try_from(name.label.as_str())?.as_str();
        key::demand_free(session, store, label)?;
        key::demand_id_free(session, store, name)?;
        self.expect_room(NO_ROOM_FOR_KEY)?;
        let id = match &name.id {
            Some(id) => id.clone(),
            None => {
                let mut id = vec![0; 20];
                random::fill(&mut id)?;
                id
            }
        };
        let purpose = purpose.made();
        let (public, private) = session
            .generate_key_pair(
                &Mechanism::EccKeyPairGen,
                &attributes::public_template(label, &id, purpose, true),
                &attributes::private_template(label, &id, purpose, true),
            )
            .map_err(Fault::while_("make a key"))?;
        match key::look_up(session, store, name, purpose) {
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
        let key = self.load(label, purpose, key::look_up)?;
        Ok(key.map(|key| *Signer::public_key(&*key)))
    }

    fn generate(&self, label: &str, purpose: Purpose) -> Result<PublicKey, Error> {
        let name = self.chosen.name(label, purpose)?;
        let found = self.make(NO_ROOM_FOR_KEY, |session| {
            self.generate_in(session, &name, purpose)
        })?;
        Ok(found.public)
    }

    fn signer_for(&self, label: &str, purpose: Purpose) -> Result<Arc<dyn Signer>, Error> {
        purpose.demand_signs()?;
        Ok(self.key(label, purpose)?)
    }

    fn agreement(&self, label: &str) -> Result<Arc<dyn Agreement>, Error> {
        Ok(self.key(label, Purpose::Agree)?)
    }

    fn transport(&self, label: &str) -> Result<Option<TransportKey>, Error> {
        let label = self.chosen.admit(label)?;
        self.pool
            .call(|session, _| transport::look_up(session, self.pool.store(), label.as_str()))
    }

    fn generate_transport(&self, label: &str) -> Result<Option<TransportKey>, Error> {
        let label = self.chosen.admit(label)?;
        self.make(NO_ROOM_FOR_KEY, |session| {
            self.expect_room(NO_ROOM_FOR_KEY)?;
            transport::generate(session, self.pool.store(), label.as_str())
        })
    }

    fn unwrap_secret(
        &self,
        label: &str,
        algorithm: SecretAlgorithm,
        transport_label: &str,
        oaep: OaepHash,
        wrapped: &[u8],
    ) -> Result<(), Error> {
        let label = self.chosen.admit(label)?.as_str();
        let transport_label = self.chosen.admit(transport_label)?.as_str();
        let store = self.pool.store();
        self.make(NO_ROOM_FOR_KEY, |session| {
            key::demand_free(session, store, label)?;
            self.expect_room(NO_ROOM_FOR_KEY)?;
            let key = transport::handle(session, store, transport_label)?.ok_or_else(|| {
                Error::KeyMissing {
                    store: store.into(),
                    label: transport_label.into(),
                }
            })?;
            let template = secret::template(label, algorithm, true);
            match transport::unwrap(session, key, oaep, wrapped, &template)? {
                Ok(made) => secret::demand_proper(session, store, label, algorithm, made, None),
                Err(reason) => Err(Error::WrappedKeyInvalid {
                    store: store.into(),
                    label: label.into(),
                    reason,
                }
                .into()),
            }
        })
    }

    fn import_secret(
        &self,
        label: &str,
        algorithm: SecretAlgorithm,
        key: &[u8; 32],
    ) -> Result<(), Error> {
        let label = self.chosen.admit(label)?.as_str();
        let store = self.pool.store();
        self.make(NO_ROOM_FOR_KEY, |session| {
            key::demand_free(session, store, label)?;
            self.expect_room(NO_ROOM_FOR_KEY)?;
            let made = secret::create(session, label, algorithm, key, true)?;
            secret::demand_proper(session, store, label, algorithm, made, Some(key))
        })
    }

    fn find_secret(&self, label: &str, algorithm: SecretAlgorithm) -> Result<bool, Error> {
        let label = self.chosen.admit(label)?.as_str();
        let store = self.pool.store();
        self.pool
            .call(|session, _| Ok(secret::look_up(session, store, label, algorithm)?.is_some()))
    }

    fn secret(&self, label: &str, algorithm: SecretAlgorithm) -> Result<Arc<dyn SecretKey>, Error> {
        let label = self.chosen.admit(label)?.as_str();
        let name = (label.to_owned(), algorithm);
        if let Some(known) = self.secrets().get(&name) {
            return Ok(known.clone());
        }
        let found = TokenSecret::open(&self.pool, label, algorithm)?;
        let found = Arc::new(found.ok_or_else(|| Error::KeyMissing {
            store: self.pool.store().into(),
            label: label.into(),
        })?);
        self.secrets().insert(name, found.clone());
        Ok(found)
    }

    fn destroy_secret(&self, label: &str, algorithm: SecretAlgorithm) -> Result<(), Error> {
        let label = self.chosen.admit(label)?.as_str();
        let store = self.pool.store();
        self.secrets().remove(&(label.to_owned(), algorithm));
        self.pool
            .call(|session, _| secret::destroy(session, store, label, algorithm))
    }

    fn labels(&self) -> Result<Vec<KeyDescription>, Error> {
        let mut descriptions = self.pool.call(|session, _| {
            let mut descriptions =
                key::private_keys(session, self.chosen.id.clone().map(Attribute::Id))?
                    .into_iter()
                    .map(|handle| describe(session, handle))
                    .collect::<Result<Vec<_>, _>>()?;
            if self.chosen.id.is_none() {
                for handle in secret::all(session)? {
                    descriptions.push(describe_secret(session, handle)?);
                }
            }
            Ok(descriptions)
        })?;
        if let Some(object) = &self.chosen.object {
            let object = object.escape_debug().to_string();
            descriptions.retain(|key| key.label == object);
        }
        descriptions.sort_by(|left, right| left.label.cmp(&right.label));
        mark_twins(&mut descriptions);
        Ok(descriptions)
    }

    fn data(&self, label: &str) -> Result<Vec<Vec<u8>>, Error> {
        let label = self.chosen.admit(label)?.as_str();
        self.pool
            .call(|session, _| data::read(session, self.pool.store(), label))
    }

    fn add_data(&self, label: &str, value: &[u8]) -> Result<(), Error> {
        let label = self.chosen.admit(label)?.as_str();
        self.make(NO_ROOM_FOR_DATA, |session| {
            let expect_room = || self.expect_room(NO_ROOM_FOR_DATA);
            data::add(session, self.pool.store(), (label, value), expect_room)
        })?;
        if disk::is_softhsm(&self.facts.manufacturer) {
            disk::sync().map_err(|cause| Error::TokenFailed {
                store: self.pool.store().into(),
                action: "bring a data object to the disk",
                reason: cause.to_string(),
                returned: None,
            })?;
        }
        Ok(())
    }

    fn remove_data(&self, label: &str, value: &[u8]) -> Result<(), Error> {
        let label = self.chosen.admit(label)?.as_str();
        self.pool
            .call(|session, _| data::remove(session, self.pool.store(), label, value))
    }

    fn lock_data(&self) -> Result<DataLock, Error> {
        if !disk::is_softhsm(&self.facts.manufacturer) {
            return Ok(DataLock::default());
        }
        let locked = disk::lock().map_err(|cause| Error::TokenFailed {
            store: self.pool.store().into(),
            action: "wait for another program that changes its data objects",
            reason: cause.to_string(),
            returned: None,
        })?;
        Ok(DataLock::new(locked))
    }

    fn self_test(&self) -> Result<Vec<Probe>, Error> {
        Ok(probe::run(&self.pool))
    }

    fn check(&self) -> Result<(), Error> {
        self.pool.call(|session, _| {
            key::demand_login(session, Function::GetSessionInfo, "stay logged in")
        })
    }

    fn liveness(&self) -> Liveness {
        self.pool.liveness()
    }
}

/// The label of an object, with unprintable characters escaped.
fn label_of(session: &Session, handle: ObjectHandle) -> Result<String, Fault> {
    let read = session
        .get_attributes(handle, &[AttributeType::Label])
        .map_err(Fault::while_("read a key's label"))?;
    Ok(read
        .iter()
        .find_map(|attribute| match attribute {
            Attribute::Label(label) => {
                Some(String::from_utf8_lossy(label).escape_debug().to_string())
            }
            _ => None,
        })
        .unwrap_or_default())
}

/// The attributes of an object, or why they cannot be read: it may be of a kind that cryptoki has no name for.
fn attributes_of(
    session: &Session,
    handle: ObjectHandle,
    wanted: &[AttributeType],
) -> Result<Result<Vec<Attribute>, String>, Fault> {
    session.get_attributes(handle, wanted).map_or_else(
        |error| {
            let problem = format!("its attributes cannot be read: {}", fault::reason(&error));
            let fault = Fault::while_("read a key's attributes")(error);
            if fault.is_lost() {
                Err(fault)
            } else {
                Ok(Err(problem))
            }
        },
        |read| Ok(Ok(read)),
    )
}

/// A private key as `doctor` shows it: nothing of it is used.
fn describe(session: &Session, handle: ObjectHandle) -> Result<KeyDescription, Fault> {
    let label = label_of(session, handle)?;
    let read = match attributes_of(session, handle, attributes::PRIVATE_KEY)? {
        Ok(read) => read,
        Err(problem) => {
            return Ok(KeyDescription {
                label,
                kind: KeyKind::Pair,
                purpose: None,
                problem: Some(problem),
            });
        }
    };
    if attributes::key_type_of(&read) == Some(KeyType::RSA) {
        return Ok(KeyDescription {
            label,
            kind: KeyKind::Transport,
            purpose: None,
            problem: transport::problem(&read).map(|problem| problem.to_string()),
        });
    }
    let purpose = attributes::purpose_of(&read);
    let problem = match purpose {
        Some(purpose) => attributes::problem(&read, purpose),
        // Judged as a key to sign with, which names what is wrong with its usages or, before that, with its kind.
        None => attributes::problem(&read, Purpose::Sign),
    };
    Ok(KeyDescription {
        label,
        kind: KeyKind::Pair,
        purpose,
        problem: problem.map(|problem| problem.to_string()),
    })
}

/// A symmetric key as `doctor` shows it.
fn describe_secret(session: &Session, handle: ObjectHandle) -> Result<KeyDescription, Fault> {
    let label = label_of(session, handle)?;
    let (algorithm, problem) = match attributes_of(session, handle, secret::SECRET_KEY)? {
        Ok(read) => match secret::algorithm_of(&read) {
            Some(algorithm) => (
                Some(algorithm),
                secret::problem(&read, algorithm).map(|problem| problem.to_string()),
            ),
            None => (None, Some("its CKA_KEY_TYPE is of no use here".into())),
        },
        Err(problem) => (None, Some(problem)),
    };
    Ok(KeyDescription {
        label,
        kind: KeyKind::Secret(algorithm),
        purpose: None,
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
