//! The interface of every store, and the way to one.

use std::fmt;
use std::fs::File;
use std::sync::Arc;
use std::time::Instant;

use p256::PublicKey;
use p256::ecdsa::Signature;
use zeroize::Zeroizing;

use crate::error::Error;
use crate::pin::Prompt;
use crate::secret::{SecretAlgorithm, SecretKey};
use crate::transport::{OaepHash, TransportKey};
use crate::uri::KeyUri;
use crate::{file, token};

/// While it is there, no other program of this kind changes the store's data.
#[derive(Debug, Default)]
#[must_use = "it ends where it is dropped"]
pub struct DataLock {
    /// Its lock ends with it.
    _locked: Option<File>,
}

impl DataLock {
    /// By the lock that somebody has on a file or a folder, if there is such a thing.
    pub(crate) fn new(locked: Option<File>) -> Self {
        Self { _locked: locked }
    }
}

/// What a key pair may do. It serves one purpose; the curve is P-256 always.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Purpose {
    /// ES256 signatures (RFC 9053 section 2.1).
    Sign,
    /// Elliptic-curve Diffie-Hellman, the private half of ECDH-ES (RFC 9053 section 6.3).
    Agree,
    /// ES256 signatures by which somebody proves who they are. The key may have been made by others, with their tools:
    /// what else it could be used for is not asked, since whoever uses it does so on their own token, and a URI with
    /// `object` or `id` names it as it is called there. That it is secret is asked all the same.
    Authenticate,
}

impl Purpose {
    /// The word for it: `sign`, `agree` or `authenticate`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Sign => "sign",
            Self::Agree => "agree",
            Self::Authenticate => "authenticate",
        }
    }

    /// Whether such a key signs.
    pub(crate) fn signs(self) -> bool {
        matches!(self, Self::Sign | Self::Authenticate)
    }

    /// Refuses a purpose that is not to sign.
    pub(crate) fn demand_signs(self) -> Result<(), Error> {
        if self.signs() {
            return Ok(());
        }
        Err(Error::Internal {
            action: "opening a key to sign with",
            reason: format!("its purpose is to {self}"),
        })
    }

    /// The purpose of a key that is made here: one that is to authenticate is made to sign and nothing else.
    pub(crate) fn made(self) -> Self {
        match self {
            Self::Authenticate => Self::Sign,
            made => made,
        }
    }
}

impl fmt::Display for Purpose {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.as_str())
    }
}

/// What a store says of itself. It is the store's own word: nothing here is proven.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoreFacts {
    /// `pkcs11` or `file`.
    pub kind: String,
    /// The token's label, or the name of the folder.
    pub label: String,
    /// The token's manufacturer; empty for a folder.
    pub manufacturer: String,
    /// The token's model; empty for a folder.
    pub model: String,
    /// The token's serial number; empty for a folder.
    pub serial: String,
    /// The token's firmware version, `major.minor`; empty for a folder.
    pub firmware: String,
    /// The library that was loaded: manufacturer, description, version. For a folder, this crate.
    pub library: String,
    /// The mechanisms, sorted: CKM names that the token lists (not tried; see [`KeyStore::self_test`]).
    pub mechanisms: Vec<String>,
}

impl StoreFacts {
    /// What errors call the store.
    pub(crate) fn name(&self) -> String {
        if self.kind == "file" {
            format!("the key folder {}", self.label)
        } else {
            let serial = self.serial.escape_debug();
            format!("the token {:?} (serial {serial})", self.label)
        }
    }
}

/// What kind of key a store holds under a label.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum KeyKind {
    /// The private key of a pair on P-256, or what stands in the place of one and is refused.
    Pair,
    /// An RSA key that unwraps other keys.
    Transport,
    /// A symmetric key; without an algorithm, one of a kind that this crate does not use.
    Secret(Option<SecretAlgorithm>),
}

/// One private or symmetric key of a store, as `doctor` shows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyDescription {
    /// The label, with unprintable characters escaped.
    pub label: String,
    /// What kind of key it is.
    pub kind: KeyKind,
    /// What a key pair is for, when it is one that this crate would use or nearly so.
    pub purpose: Option<Purpose>,
    /// Why the key would be refused: the attribute and what it is.
    pub problem: Option<String>,
}

/// One operation of a self test and how it went.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Probe {
    /// What was tried: `login`, `random`, `sessions`, `sign`, `agree`, `unwrap`, `hmac`, `cmac`, `data`, `labels`; of a
    /// folder, the tokens' own ones left out.
    pub name: String,
    /// What was found, or why it failed. Not every vault needs the last three: that a store does not offer one of them
    /// is a finding and begins with `not offered`; that it gives a wrong result is a failure.
    pub outcome: Result<String, String>,
    /// It failed for want of a mechanism: the token works, and what passes calls on to it may lack that one.
    pub mechanism_missing: bool,
    /// The stable code of the error with which it failed, and what to do.
    pub advice: Option<(&'static str, Option<String>)>,
}

impl Probe {
    pub(crate) fn of(name: &str, outcome: Result<String, Error>) -> Self {
        Self {
            name: name.into(),
            mechanism_missing: matches!(outcome, Err(Error::MechanismMissing { .. })),
            advice: outcome
                .as_ref()
                .err()
                .map(|error| (error.code(), error.hint())),
            outcome: outcome.map_err(|error| error.to_string()),
        }
    }
}

/// How the way to a store stands, as far as it is known without using it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Liveness {
    /// Nothing is known to be wrong. False from the call that found the token gone until one that found it again.
    pub connected: bool,
    /// How many connections were made since the store was opened, the first one included.
    pub connections: u64,
    /// How many calls are inside the token's module now, those of other stores of this module included.
    pub calls: usize,
    /// When the oldest of them went in. Making an RSA key apart, no call to a token that works takes more than a few
    /// seconds.
    pub busy_since: Option<Instant>,
}

/// A store of private and symmetric keys that are named by label. A label names one key, of whatever kind.
///
/// A store may be kept open for months, with the keys that came from it, and used by many threads. A token may go away
/// meanwhile and come back: whichever call meets that finds the token again, logs in and looks its key up anew, and
/// fails with `TOKEN-GONE` if it cannot. That error is transient ([`Error::is_transient`]): the same call may be made
/// again, and the connection is made by whichever call comes next. What is looked up anew is asserted anew, and a key
/// that is not the same as before is refused with `KEY-CHANGED` for as long as it is in its place. A call that was
/// repeated may have signed twice, the same bytes. A PIN that the token refused once is never sent again: then every
/// call fails with `PIN-INCORRECT` until the store is opened again.
///
/// A call into a module that does not return cannot be ended from here, nor can the thread in it be used again.
/// [`KeyStore::liveness`] shows it; calls that come after it are refused with `TOKEN-HUNG`, which is transient too, once
/// it is a minute old. Who must answer sooner looks at [`Liveness::busy_since`] before each call.
pub trait KeyStore: Send + Sync {
    /// What the store says of itself.
    fn facts(&self) -> StoreFacts;

    /// The public key of the private key `label`, or `None` if there is none. Asserts every attribute of a found key,
    /// and that it fits its public key.
    ///
    /// # Errors
    /// `KEY-ATTRIBUTES` if the key must not be used, `KEY-AMBIGUOUS` if there are several; store failures.
    fn find(&self, label: &str, purpose: Purpose) -> Result<Option<PublicKey>, Error>;

    /// Makes a key in the store, asserts its attributes and gives its public key.
    ///
    /// # Errors
    /// `KEY-EXISTS` if the label is taken: nothing is overwritten; store failures.
    fn generate(&self, label: &str, purpose: Purpose) -> Result<PublicKey, Error>;

    /// The key `label`, to sign with: [`KeyStore::signer_for`] of [`Purpose::Sign`].
    ///
    /// # Errors
    /// `KEY-MISSING`; otherwise as [`KeyStore::find`].
    fn signer(&self, label: &str) -> Result<Arc<dyn Signer>, Error> {
        self.signer_for(label, Purpose::Sign)
    }

    /// The key `label`, to sign with for this purpose.
    ///
    /// # Errors
    /// `KEY-MISSING`; `KEYS-INTERNAL` for [`Purpose::Agree`], which is not to sign; otherwise as [`KeyStore::find`].
    fn signer_for(&self, label: &str, purpose: Purpose) -> Result<Arc<dyn Signer>, Error>;

    /// The key `label`, to agree with. Where the way to the token offers no agreement, this is known no sooner than
    /// somebody agrees; then also the key has not yet shown that it fits its public key, and it is not used before.
    ///
    /// # Errors
    /// `KEY-MISSING`; otherwise as [`KeyStore::find`].
    fn agreement(&self, label: &str) -> Result<Arc<dyn Agreement>, Error>;

    /// The public half of the transport key `label`, or `None` if there is none, as always in a folder. Asserts the
    /// key's attributes and unwraps something with it.
    ///
    /// # Errors
    /// `KEY-ATTRIBUTES` if the key must not be used or does not unwrap, `KEY-AMBIGUOUS`; store failures.
    fn transport(&self, label: &str) -> Result<Option<TransportKey>, Error>;

    /// Makes a transport key in the token: RSA of 3072 bits, sensitive, never extractable, to unwrap and nothing else.
    /// What the token can is tried, not asked: a key is wrapped here, unwrapped there, and used in both places. `None`,
    /// with nothing left behind, if the token cannot do that; always for a folder, where keys pass through memory in
    /// any case.
    ///
    /// # Errors
    /// `KEY-EXISTS` if the label is taken; store failures.
    fn generate_transport(&self, label: &str) -> Result<Option<TransportKey>, Error>;

    /// Unwraps a key inside the token, where it stays: sensitive, not extractable, for MACs alone. `wrapped` is the
    /// RSA-OAEP ciphertext of 32 bytes ([`oaep_wrap`](crate::oaep_wrap)). The key is tried, but the token cannot know
    /// whether it is the right one, nor always whether it has 32 bytes: derive a check value and compare it, and
    /// [`KeyStore::destroy_secret`] if it differs.
    ///
    /// CKA_LOCAL, CKA_ALWAYS_SENSITIVE and CKA_NEVER_EXTRACTABLE are false for every key that was not made in its token
    /// (PKCS #11, at C_CreateObject and C_UnwrapKey), so they are not demanded: that the key was nowhere else is not the
    /// token's to say.
    ///
    /// Where the connection breaks after the token made the key, the answer can be `KEY-EXISTS`, as after a crash: a key
    /// that is there is known by its check value.
    ///
    /// # Errors
    /// `KEY-EXISTS` if the label is taken, `KEY-MISSING` if there is no such transport key (always in a folder),
    /// `WRAPPED-KEY-INVALID` if the token does not unwrap it, `KEY-ATTRIBUTES` if it makes a key of it that must not be
    /// used; store failures. Nothing is left behind then.
    fn unwrap_secret(
        &self,
        label: &str,
        algorithm: SecretAlgorithm,
        transport_label: &str,
        oaep: OaepHash,
        wrapped: &[u8],
    ) -> Result<(), Error>;

    /// Puts a key into the store that this machine's memory holds, with the attributes that
    /// [`KeyStore::unwrap_secret`] gives, and compares what is derived from it in both places. The caller keeps it locked in memory ([`LockedSecret`](crate::LockedSecret))
    /// and wipes it; the token's own library sees it too.
    ///
    /// # Errors
    /// `KEY-EXISTS` if the label is taken, `KEY-ATTRIBUTES` if the token makes a key of it that must not be used; store
    /// failures, among them that the token takes no keys this way. Nothing is left behind then.
    fn import_secret(
        &self,
        label: &str,
        algorithm: SecretAlgorithm,
        key: &[u8; 32],
    ) -> Result<(), Error>;

    /// Whether there is a symmetric key `label`. Asserts every attribute of a found key.
    ///
    /// # Errors
    /// `KEY-ATTRIBUTES` if it must not be used or is of another algorithm, `KEY-AMBIGUOUS`; store failures.
    fn find_secret(&self, label: &str, algorithm: SecretAlgorithm) -> Result<bool, Error>;

    /// The symmetric key `label`, to derive with.
    ///
    /// # Errors
    /// `KEY-MISSING`; otherwise as [`KeyStore::find_secret`].
    fn secret(&self, label: &str, algorithm: SecretAlgorithm) -> Result<Arc<dyn SecretKey>, Error>;

    /// Destroys the symmetric key `label`, also one that must not be used. No key of another kind or algorithm is
    /// touched.
    ///
    /// # Errors
    /// `KEY-MISSING`; `KEY-ATTRIBUTES` if it is of another algorithm; `KEY-AMBIGUOUS`; store failures.
    fn destroy_secret(&self, label: &str, algorithm: SecretAlgorithm) -> Result<(), Error>;

    /// Every private and symmetric key of the store, sorted by label, those that would be refused included.
    ///
    /// # Errors
    /// Store failures.
    fn labels(&self) -> Result<Vec<KeyDescription>, Error>;

    /// Every private data object of the label, in no particular order: at most 16 of at most 64 KiB each. A key may have
    /// the same label. The store does not vouch for a value: one that was cut while it was written, or that somebody put
    /// there who has the PIN, is given as it is. So a value has to carry a check of its own. See
    /// [`Alternating`](crate::Alternating) for one value that changes.
    ///
    /// # Errors
    /// `DATA-LIMIT` if there are more or larger ones; store failures.
    fn data(&self, label: &str) -> Result<Vec<Vec<u8>>, Error>;

    /// Makes one more data object of the label and reads it back. If one with exactly this value is there, none is made.
    /// The value is in the store for good when this returns, as far as the store's own word goes.
    ///
    /// # Errors
    /// `DATA-LIMIT`, `TOKEN-FULL`, `TOKEN-WRITE-PROTECTED`, `DATA-NOT-KEPT` if the store does not give back what it took;
    /// store failures. After any of them but the first the object may be there or not.
    fn add_data(&self, label: &str, value: &[u8]) -> Result<(), Error>;

    /// Removes every data object of the label that has exactly this value. That there is none is no error.
    ///
    /// # Errors
    /// `TOKEN-WRITE-PROTECTED`; store failures. The objects may be there or not then.
    fn remove_data(&self, label: &str, value: &[u8]) -> Result<(), Error>;

    /// Keeps other programs of this kind from changing the store's data until what is given is dropped: for a store that
    /// does not always show one program what another has just made. Where each sees at once what the others did, nothing
    /// is needed, and this does nothing.
    ///
    /// # Errors
    /// `TOKEN-FAILED` if another program has it for 30 seconds.
    fn lock_data(&self) -> Result<DataLock, Error> {
        Ok(DataLock::default())
    }

    /// Performs what the product needs of a store, instead of believing lists: login, random numbers, a signature that
    /// is verified, an agreement that is compared; and what it may need: unwrapping, HMAC, CMAC. Leaves nothing behind.
    ///
    /// # Errors
    /// Only if the test itself cannot be run; what failed in the store is an outcome.
    fn self_test(&self) -> Result<Vec<Probe>, Error>;

    /// Asks the token whether it is there and logged in, and connects anew if it is not. It costs next to nothing and
    /// uses no key: for whoever wants to know before there is something to sign.
    ///
    /// # Errors
    /// As any call: `TOKEN-GONE`, `TOKEN-HUNG`, `PIN-INCORRECT`; `KEY-FOLDER-*` for a folder.
    fn check(&self) -> Result<(), Error>;

    /// How the way to the store stands. Never waits, whatever hangs.
    fn liveness(&self) -> Liveness {
        // A folder is there, or the call fails that uses it.
        Liveness {
            connected: true,
            connections: 1,
            calls: 0,
            busy_since: None,
        }
    }
}

/// A private key that signs: ES256, that is SHA-256 over the message, then ECDSA on P-256 (RFC 9053 section 2.1).
pub trait Signer: Send + Sync {
    /// The public key.
    fn public_key(&self) -> &PublicKey;

    /// Signs `message`. The signature has the low form of `s` and was verified before it is returned.
    ///
    /// # Errors
    /// `SIGNATURE-INVALID` if the store signs wrongly; store failures.
    fn sign(&self, message: &[u8]) -> Result<Signature, Error>;
}

/// A private key that agrees on secrets.
pub trait Agreement: Send + Sync {
    /// The public key.
    fn public_key(&self) -> &PublicKey;

    /// The x-coordinate of the product of the private scalar and `peer` (NIST SP 800-56A section 5.7.1.2), 32 bytes,
    /// big-endian. It is no key yet: feed it to a key derivation function.
    ///
    /// # Errors
    /// Store failures.
    fn agree(&self, peer: &PublicKey) -> Result<Zeroizing<[u8; 32]>, Error>;
}

impl fmt::Debug for dyn KeyStore + '_ {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let facts = self.facts();
        write!(formatter, "KeyStore({} {:?})", facts.kind, facts.label)
    }
}

impl fmt::Debug for dyn Signer {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            formatter,
            "Signer({})",
            hex::encode(self.public_key().to_sec1_bytes())
        )
    }
}

impl fmt::Debug for dyn Agreement {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            formatter,
            "Agreement({})",
            hex::encode(self.public_key().to_sec1_bytes())
        )
    }
}

/// Opens the store that `uri` names. `prompt` is asked for the PIN only when the URI has no `pin-source`, and only
/// after the store was found; its text names the store. A PIN is tried once. A URI with `object` gives a store that has
/// no other key than that one. One with `id` gives a store that has a key to authenticate with and no other, whatever its
/// label, unless `object` says which.
///
/// # Errors
/// `MODULE-*`, `TOKEN-*`, `KEY-FOLDER-*` if the store is not there; `PIN-*` if it does not open.
pub fn open(uri: &KeyUri, prompt: Prompt<'_>) -> Result<Arc<dyn KeyStore>, Error> {
    match uri {
        KeyUri::Pkcs11(uri) => token::open(uri, prompt),
        KeyUri::File(uri) => file::open(uri, prompt),
    }
}

/// As [`open`], but makes the folder of a file store (mode 0700) if it is absent; where the folder holds no key yet and
/// the URI has no `pin-source`, a new PIN is asked for, twice. Tokens must exist and are opened.
///
/// # Errors
/// As [`open`]; `PIN-MISMATCH`; `KEY-FILE-IO` if the folder cannot be made.
pub fn create(uri: &KeyUri, prompt: Prompt<'_>) -> Result<Arc<dyn KeyStore>, Error> {
    match uri {
        KeyUri::Pkcs11(uri) => token::open(uri, prompt),
        KeyUri::File(uri) => file::create(uri, prompt),
    }
}
