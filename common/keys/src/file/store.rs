//! A folder as a store of keys.

use std::collections::HashMap;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use p256::PublicKey;

use super::data;
use super::folder;
use super::key::FileKey;
use super::pem::{self, Role, Unreadable};
use super::secret::FileSecret;
use crate::error::Error;
use crate::label::Label;
use crate::locked::LockedSecret;
use crate::pin::{KeptPin, Pin};
use crate::random;
use crate::secret::{SecretAlgorithm, SecretKey};
use crate::store::{
    Agreement, KeyDescription, KeyKind, KeyStore, Probe, Purpose, Signer, StoreFacts,
};
use crate::transport::{OaepHash, TransportKey};

/// An open folder.
pub(super) struct FileStore {
    folder: PathBuf,
    name: String,
    pin: KeptPin,
    /// What the file of the PIN was when the folder was opened.
    pin_file: Option<Stamp>,
    /// The keys decrypted so far. Each costs hundreds of thousands of hashes, once.
    keys: Mutex<HashMap<String, Loaded>>,
}

/// What tells a file from another one of the same name, and from itself before it was written again.
#[derive(PartialEq, Eq)]
struct Stamp([i64; 3], u64);

impl Stamp {
    /// Of the file that this PIN is read from, if it is.
    fn of(pin: &KeptPin) -> Option<Self> {
        let KeptPin::File(path) = pin else {
            return None;
        };
        let now = std::fs::metadata(path).ok()?;
        Some(Self(
            [now.ctime(), now.ctime_nsec(), now.mtime_nsec()],
            now.ino(),
        ))
    }
}

/// A key in memory.
#[derive(Clone)]
enum Loaded {
    Pair(Arc<FileKey>),
    Secret(Arc<FileSecret>),
}

impl Loaded {
    fn role(&self) -> Role {
        match self {
            Self::Pair(key) => Role::Pair(key.purpose),
            Self::Secret(_) => Role::Secret,
        }
    }
}

impl FileStore {
    /// Opens a folder that was checked. The PIN is held against the first key that is one; a folder without keys takes
    /// any.
    pub(super) fn open(folder: &Path, pin: KeptPin) -> Result<Self, Error> {
        let store = Self {
            folder: folder.into(),
            name: super::name(folder),
            pin_file: Stamp::of(&pin),
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

    /// The PIN, for as long as one use of it takes.
    fn pin(&self) -> Result<Pin, Error> {
        Ok(self.pin.obtain()?.unwrap_or_default())
    }

    /// The PIN for a new file. One folder has one PIN: where the file of the PIN is another than when the folder was opened,
    /// it has to open what is there.
    fn pin_of_new(&self) -> Result<Pin, Error> {
        if let KeptPin::File(path) = &self.pin
            && Stamp::of(&self.pin) != self.pin_file
        {
            Self::open(&self.folder, KeptPin::File(path.clone()))?;
        }
        self.pin()
    }

    fn path(&self, label: Label<'_>) -> PathBuf {
        self.folder
            .join(format!("{}.{}", label.as_str(), folder::EXTENSION))
    }

    /// The key `label`, decrypted at its first use; `None` if there is none.
    fn load(&self, label: Label<'_>) -> Result<Option<Loaded>, Error> {
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
        let role = heading.role.ok_or_else(|| {
            attribute(
                "Purpose",
                "missing; a line \"Purpose: sign\" or \"Purpose: agree\" stands before the key"
                    .into(),
            )
        })?;
        let key = match role {
            Role::Pair(purpose) => {
                let secret = pem::decrypt(&text, &self.pin()?).map_err(unreadable)?;
                let key = FileKey::new(&self.name, label.as_str(), purpose, secret)?;
                Loaded::Pair(Arc::new(key))
            }
            Role::Secret => {
                let (algorithm, key) =
                    pem::decrypt_secret(&text, &self.pin()?).map_err(unreadable)?;
                Loaded::Secret(Arc::new(FileSecret::new(algorithm, key)))
            }
        };
        keys.insert(label.as_str().into(), key.clone());
        Ok(Some(key))
    }

    fn load_for(&self, label: Label<'_>, purpose: Purpose) -> Result<Option<Arc<FileKey>>, Error> {
        let purpose = purpose.made();
        match self.load(label)? {
            None => Ok(None),
            Some(Loaded::Pair(key)) if key.purpose == purpose => Ok(Some(key)),
            Some(other) => Err(self.other_role(label, other.role(), Role::Pair(purpose))),
        }
    }

    fn other_role(&self, label: Label<'_>, found: Role, wanted: Role) -> Error {
        Error::KeyAttributes {
            store: self.name.clone(),
            label: label.as_str().into(),
            attribute: "Purpose",
            found: format!("{}, and must be {}", found.as_str(), wanted.as_str()),
        }
    }

    fn load_secret(
        &self,
        label: Label<'_>,
        algorithm: SecretAlgorithm,
    ) -> Result<Option<Arc<FileSecret>>, Error> {
        match self.load(label)? {
            None => Ok(None),
            Some(Loaded::Secret(key)) if key.algorithm() == algorithm => Ok(Some(key)),
            Some(Loaded::Secret(key)) => Err(Error::KeyAttributes {
                store: self.name.clone(),
                label: label.as_str().into(),
                attribute: "algorithm",
                found: format!("{}, and must be {algorithm}", key.algorithm()),
            }),
            Some(other) => Err(self.other_role(label, other.role(), Role::Secret)),
        }
    }

    fn missing(&self, label: &str) -> Error {
        Error::KeyMissing {
            store: self.name.clone(),
            label: label.into(),
        }
    }

    fn exists(&self, label: &str) -> Error {
        Error::KeyExists {
            store: self.name.clone(),
            label: label.into(),
        }
    }

    /// Refuses a label that is taken, before the work of encrypting; [`FileStore::write`] decides.
    fn demand_free(&self, label: Label<'_>) -> Result<(), Error> {
        match std::fs::symlink_metadata(self.path(label)) {
            Ok(_) => Err(self.exists(label.as_str())),
            Err(_) => Ok(()),
        }
    }

    /// Writes a new file, and remembers its key.
    fn write(&self, label: Label<'_>, text: &str, key: Loaded) -> Result<(), Error> {
        let label = label.as_str();
        let name = format!("{label}.{}", folder::EXTENSION);
        if !folder::write_new(&self.folder, &name, text.as_bytes())? {
            return Err(self.exists(label));
        }
        self.keys
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .insert(label.into(), key);
        Ok(())
    }

    fn key(&self, label: &str, purpose: Purpose) -> Result<Arc<FileKey>, Error> {
        self.load_for(Label::try_from(label)?, purpose)?
            .ok_or_else(|| self.missing(label))
    }

    fn describe(&self, stem: &str) -> KeyDescription {
        let loaded = Label::try_from(stem).and_then(|label| self.load(label));
        let (kind, purpose, problem) = match loaded {
            Ok(Some(Loaded::Pair(key))) => (KeyKind::Pair, Some(key.purpose), None),
            Ok(Some(Loaded::Secret(key))) => (KeyKind::Secret(Some(key.algorithm())), None, None),
            Ok(None) => (KeyKind::Pair, None, Some("the file went away".into())),
            Err(error) => (KeyKind::Pair, None, Some(error.to_string())),
        };
        KeyDescription {
            label: stem.escape_debug().to_string(),
            kind,
            purpose,
            problem,
        }
    }
}

impl KeyStore for FileStore {
    fn facts(&self) -> StoreFacts {
        super::facts(&self.folder)
    }

    fn find(&self, label: &str, purpose: Purpose) -> Result<Option<PublicKey>, Error> {
        let key = self.load_for(Label::try_from(label)?, purpose)?;
        Ok(key.map(|key| *Signer::public_key(&*key)))
    }

    fn generate(&self, label: &str, purpose: Purpose) -> Result<PublicKey, Error> {
        let checked = Label::try_from(label)?;
        self.demand_free(checked)?;
        let purpose = purpose.made();
        let secret = random::secret_key()?;
        let text = pem::write(label, purpose, &secret, &self.pin_of_new()?)?;
        let key = Arc::new(FileKey::new(&self.name, label, purpose, secret)?);
        let public = *Signer::public_key(&*key);
        self.write(checked, &text, Loaded::Pair(key))?;
        Ok(public)
    }

    fn signer_for(&self, label: &str, purpose: Purpose) -> Result<Arc<dyn Signer>, Error> {
        purpose.demand_signs()?;
        Ok(self.key(label, purpose)?)
    }

    fn agreement(&self, label: &str) -> Result<Arc<dyn Agreement>, Error> {
        Ok(self.key(label, Purpose::Agree)?)
    }

    /// A folder makes none: what it unwrapped would be in this machine's memory all the same.
    fn transport(&self, label: &str) -> Result<Option<TransportKey>, Error> {
        Label::try_from(label).map(|_| None)
    }

    fn generate_transport(&self, label: &str) -> Result<Option<TransportKey>, Error> {
        Label::try_from(label).map(|_| None)
    }

    fn unwrap_secret(
        &self,
        label: &str,
        _: SecretAlgorithm,
        transport_label: &str,
        _: OaepHash,
        _: &[u8],
    ) -> Result<(), Error> {
        self.demand_free(Label::try_from(label)?)?;
        Label::try_from(transport_label)?;
        Err(self.missing(transport_label))
    }

    fn import_secret(
        &self,
        label: &str,
        algorithm: SecretAlgorithm,
        key: &[u8; 32],
    ) -> Result<(), Error> {
        let checked = Label::try_from(label)?;
        self.demand_free(checked)?;
        let text = pem::write_secret(label, algorithm, key, &self.pin_of_new()?)?;
        let key = FileSecret::new(algorithm, LockedSecret::copied(key));
        self.write(checked, &text, Loaded::Secret(Arc::new(key)))
    }

    fn find_secret(&self, label: &str, algorithm: SecretAlgorithm) -> Result<bool, Error> {
        let key = self.load_secret(Label::try_from(label)?, algorithm)?;
        Ok(key.is_some())
    }

    fn secret(&self, label: &str, algorithm: SecretAlgorithm) -> Result<Arc<dyn SecretKey>, Error> {
        match self.load_secret(Label::try_from(label)?, algorithm)? {
            Some(key) => Ok(key),
            None => Err(self.missing(label)),
        }
    }

    fn destroy_secret(&self, label: &str, algorithm: SecretAlgorithm) -> Result<(), Error> {
        let checked = Label::try_from(label)?;
        if self.load_secret(checked, algorithm)?.is_none() {
            return Err(self.missing(label));
        }
        folder::remove(&self.folder, &self.path(checked))?;
        self.keys
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .remove(label);
        Ok(())
    }

    fn labels(&self) -> Result<Vec<KeyDescription>, Error> {
        Ok(folder::stems(&self.folder)?
            .iter()
            .map(|stem| self.describe(stem))
            .collect())
    }

    fn data(&self, label: &str) -> Result<Vec<Vec<u8>>, Error> {
        data::read(&self.folder, &self.name, Label::try_from(label)?)
    }

    fn add_data(&self, label: &str, value: &[u8]) -> Result<(), Error> {
        data::add(&self.folder, &self.name, Label::try_from(label)?, value)
    }

    fn remove_data(&self, label: &str, value: &[u8]) -> Result<(), Error> {
        data::remove(&self.folder, Label::try_from(label)?, value)
    }

    fn check(&self) -> Result<(), Error> {
        folder::check(&self.folder)
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
            (
                "unwrap",
                Ok("not offered: keys come into a folder through this machine's memory".into()),
            ),
            ("hmac", probe_mac(SecretAlgorithm::HmacSha256)),
            ("cmac", probe_mac(SecretAlgorithm::Aes256)),
        ]
        .into_iter()
        .map(|(name, outcome)| Probe::of(name, outcome))
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

/// What `openssl kdf -keylen 32 .. KBKDF` gives for the key 0b0b..0b, the salt "mintmark self test" and the info
/// "context" with `mac:HMAC digest:SHA256`.
const KNOWN_HMAC: [u8; 32] = [
    0x41, 0x77, 0x3e, 0x43, 0x61, 0xab, 0x14, 0xbd, 0xb1, 0xac, 0xcd, 0xd5, 0xb7, 0x37, 0x64, 0xf9,
    0x2d, 0x1f, 0x94, 0x9a, 0xa2, 0x81, 0xd1, 0x29, 0xa5, 0x14, 0xa1, 0x39, 0x41, 0xf6, 0x3e, 0x16,
];

/// The same with `mac:CMAC cipher:AES-256-CBC`.
const KNOWN_CMAC: [u8; 32] = [
    0xa3, 0x59, 0x19, 0x57, 0x9a, 0xa1, 0x7e, 0xd8, 0x4d, 0x98, 0x04, 0xad, 0x4a, 0xf1, 0xe2, 0xfb,
    0x98, 0x25, 0x4f, 0xec, 0x8d, 0xd0, 0x97, 0x5f, 0x60, 0xf6, 0x27, 0xf7, 0xf9, 0x0c, 0x36, 0xa5,
];

/// Derives what is known.
fn probe_mac(algorithm: SecretAlgorithm) -> Result<String, Error> {
    let key = FileSecret::new(algorithm, LockedSecret::copied(&[0x0b; 32]));
    let known: [u8; 32] = match algorithm {
        SecretAlgorithm::HmacSha256 => KNOWN_HMAC,
        SecretAlgorithm::Aes256 => KNOWN_CMAC,
    };
    if *key.derive("mintmark self test", b"context")? == known {
        Ok("derived what another implementation derives".into())
    } else {
        Err(Error::Internal {
            action: "deriving a secret",
            reason: "the result is not the known one".into(),
        })
    }
}
