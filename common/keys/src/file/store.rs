//! A folder as a store of keys.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use p256::PublicKey;

use super::folder;
use super::key::FileKey;
use super::pem::{self, Unreadable};
use crate::error::Error;
use crate::label::Label;
use crate::pin::Pin;
use crate::random;
use crate::store::{Agreement, KeyDescription, KeyStore, Probe, Purpose, Signer, StoreFacts};

/// An open folder.
pub(super) struct FileStore {
    folder: PathBuf,
    name: String,
    pin: Pin,
    /// The keys decrypted so far. Each costs hundreds of thousands of hashes, once.
    keys: Mutex<HashMap<String, Arc<FileKey>>>,
}

impl FileStore {
    /// Opens a folder that was checked. The PIN is held against the first key that is one; a folder without keys takes
    /// any.
    pub(super) fn open(folder: &Path, pin: Pin) -> Result<Self, Error> {
        let store = Self {
            folder: folder.into(),
            name: super::name(folder),
            pin,
            keys: Mutex::default(),
        };
        for stem in folder::stems(folder)? {
            let Ok(label) = Label::try_from(stem.as_str()) else {
                continue;
            };
            match store.load(label) {
                Ok(_) => break,
                // A damaged file, or a foreign one, must not keep the other keys out of reach.
                Err(
                    Error::KeyFileInvalid { .. } | Error::KeyAttributes { .. } | Error::Io { .. },
                ) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(store)
    }

    fn path(&self, label: Label<'_>) -> PathBuf {
        self.folder
            .join(format!("{}.{}", label.as_str(), folder::EXTENSION))
    }

    /// The key `label`, decrypted at its first use; `None` if there is none.
    fn load(&self, label: Label<'_>) -> Result<Option<Arc<FileKey>>, Error> {
        // Held while decrypting, so that two threads do not both do the work.
        let mut keys = self.keys.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(key) = keys.get(label.as_str()) {
            return Ok(Some(key.clone()));
        }
        let path = self.path(label);
        let Some(text) = folder::read(&path)? else {
            return Ok(None);
        };
        let unreadable = |why| match why {
            Unreadable::Invalid(reason) => Error::KeyFileInvalid {
                path: path.clone(),
                reason,
            },
            Unreadable::Pin => Error::PinIncorrect {
                store: path.display().to_string(),
                final_try: false,
                locked: false,
            },
        };
        let attribute = |attribute, found: String| Error::KeyAttributes {
            store: self.name.clone(),
            label: label.as_str().into(),
            attribute,
            found,
        };
        let heading = pem::heading(&text).map_err(unreadable)?;
        if let Some(other) = heading.label
            && other != label.as_str()
        {
            return Err(attribute(
                "Label",
                format!("{other:?}: the file was renamed"),
            ));
        }
        let purpose = heading.purpose.ok_or_else(|| {
            attribute(
                "Purpose",
                "missing; a line \"Purpose: sign\" or \"Purpose: agree\" stands before the key"
                    .into(),
            )
        })?;
        let secret = pem::decrypt(&text, &self.pin).map_err(unreadable)?;
        let key = Arc::new(FileKey::new(&self.name, label.as_str(), purpose, secret)?);
        keys.insert(label.as_str().into(), key.clone());
        Ok(Some(key))
    }

    fn load_for(&self, label: Label<'_>, purpose: Purpose) -> Result<Option<Arc<FileKey>>, Error> {
        let Some(key) = self.load(label)? else {
            return Ok(None);
        };
        if key.purpose == purpose {
            return Ok(Some(key));
        }
        Err(Error::KeyAttributes {
            store: self.name.clone(),
            label: label.as_str().into(),
            attribute: "Purpose",
            found: format!("{}, and must be {purpose}", key.purpose),
        })
    }

    fn key(&self, label: &str, purpose: Purpose) -> Result<Arc<FileKey>, Error> {
        self.load_for(Label::try_from(label)?, purpose)?
            .ok_or_else(|| Error::KeyMissing {
                store: self.name.clone(),
                label: label.into(),
            })
    }

    fn describe(&self, stem: &str) -> KeyDescription {
        let loaded = Label::try_from(stem).and_then(|label| self.load(label));
        let (purpose, problem) = match loaded {
            Ok(Some(key)) => (Some(key.purpose), None),
            Ok(None) => (None, Some("the file went away".into())),
            Err(error) => (None, Some(error.to_string())),
        };
        KeyDescription {
            label: stem.escape_debug().to_string(),
            purpose,
            problem,
        }
    }
}

impl KeyStore for FileStore {
    fn facts(&self) -> StoreFacts {
        let label = self
            .folder
            .file_name()
            .map_or_else(String::new, |name| name.to_string_lossy().into_owned());
        StoreFacts {
            kind: "file".into(),
            label,
            manufacturer: String::new(),
            model: String::new(),
            serial: String::new(),
            firmware: String::new(),
            library: concat!(env!("CARGO_PKG_NAME"), " ", env!("CARGO_PKG_VERSION")).into(),
            mechanisms: vec![
                "CKM_EC_KEY_PAIR_GEN".into(),
                "CKM_ECDH1_DERIVE".into(),
                "CKM_ECDSA_SHA256".into(),
            ],
        }
    }

    fn find(&self, label: &str, purpose: Purpose) -> Result<Option<PublicKey>, Error> {
        let key = self.load_for(Label::try_from(label)?, purpose)?;
        Ok(key.map(|key| *Signer::public_key(&*key)))
    }

    fn generate(&self, label: &str, purpose: Purpose) -> Result<PublicKey, Error> {
        let checked = Label::try_from(label)?;
        let exists = || Error::KeyExists {
            store: self.name.clone(),
            label: label.into(),
        };
        if std::fs::symlink_metadata(self.path(checked)).is_ok() {
            return Err(exists());
        }
        let secret = random::secret_key()?;
        let text = pem::write(label, purpose, &secret, &self.pin)?;
        if !folder::write_new(
            &self.folder,
            &format!("{label}.{}", folder::EXTENSION),
            &text,
        )? {
            return Err(exists());
        }
        let key = Arc::new(FileKey::new(&self.name, label, purpose, secret)?);
        let public = *Signer::public_key(&*key);
        self.keys
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .insert(label.into(), key);
        Ok(public)
    }

    fn signer(&self, label: &str) -> Result<Arc<dyn Signer>, Error> {
        Ok(self.key(label, Purpose::Sign)?)
    }

    fn agreement(&self, label: &str) -> Result<Arc<dyn Agreement>, Error> {
        Ok(self.key(label, Purpose::Agree)?)
    }

    fn labels(&self) -> Result<Vec<KeyDescription>, Error> {
        Ok(folder::stems(&self.folder)?
            .iter()
            .map(|stem| self.describe(stem))
            .collect())
    }

    fn self_test(&self) -> Result<Vec<Probe>, Error> {
        let ephemeral =
            |purpose| FileKey::new(&self.name, "self-test", purpose, random::secret_key()?);
        Ok([
            ("login", self.probe_login()),
            (
                "random",
                random::secret_key().map(|_| "the operating system gives random bytes".into()),
            ),
            (
                "sign",
                ephemeral(Purpose::Sign)
                    .and_then(|key| key.sign(b""))
                    .map(|_| "signed, and the signature verifies".into()),
            ),
            (
                "agree",
                ephemeral(Purpose::Agree).and_then(|key| self.probe_agree(&key)),
            ),
        ]
        .into_iter()
        .map(|(name, outcome)| Probe {
            name: name.into(),
            outcome: outcome.map_err(|error: Error| error.to_string()),
        })
        .collect())
    }
}

impl FileStore {
    /// The folder is still closed to others, and the PIN opens what is in it.
    fn probe_login(&self) -> Result<String, Error> {
        folder::check(&self.folder)?;
        let mut count = 0;
        for stem in folder::stems(&self.folder)? {
            self.load(Label::try_from(stem.as_str())?)?;
            count += 1;
        }
        Ok(format!("the PIN opens {count} of {count} keys"))
    }

    fn probe_agree(&self, key: &FileKey) -> Result<String, Error> {
        let peer = FileKey::new(
            &self.name,
            "self-test-peer",
            Purpose::Agree,
            random::secret_key()?,
        )?;
        if key.agree(Agreement::public_key(&peer))? == peer.agree(Agreement::public_key(key))? {
            Ok("agreed, and both sides have the same secret".into())
        } else {
            Err(Error::Internal {
                action: "agreeing on a secret",
                reason: "the two sides differ".into(),
            })
        }
    }
}
