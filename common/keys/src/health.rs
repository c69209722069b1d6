//! What can be told of a store without its PIN.

use crate::error::Error;
use crate::store::StoreFacts;
use crate::uri::KeyUri;
use crate::{file, token};

/// A store that is there, as it is seen without its PIN. Nothing here says that a key is there or works: that takes a
/// login ([`open`](crate::open)) and a self test ([`KeyStore::self_test`](crate::KeyStore::self_test)).
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum StoreHealth {
    /// A PKCS#11 token.
    Token(TokenHealth),
    /// A folder of encrypted key files.
    Folder(FolderHealth),
}

/// A token's word on itself (CK_TOKEN_INFO, PKCS #11 version 2.40 section 3.2).
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct TokenHealth {
    /// Label, manufacturer, model, serial number, firmware, module and mechanisms.
    pub facts: StoreFacts,
    /// The number of the slot that the token is in now (CK_SLOT_ID).
    pub slot: u64,
    /// The token was initialised (CKF_TOKEN_INITIALIZED).
    pub initialised: bool,
    /// The token takes no change (CKF_WRITE_PROTECTED).
    pub write_protected: bool,
    /// The token failed its own test and is out of use until it is reset (CKF_ERROR_STATE).
    pub error_state: bool,
    /// There is a user PIN (CKF_USER_PIN_INITIALIZED).
    pub pin_initialised: bool,
    /// A wrong PIN was typed since the last right one (CKF_USER_PIN_COUNT_LOW). Some tokens never say so.
    pub pin_count_low: bool,
    /// The next wrong PIN locks the token (CKF_USER_PIN_FINAL_TRY).
    pub pin_final_try: bool,
    /// The token takes no PIN any more (CKF_USER_PIN_LOCKED).
    pub pin_locked: bool,
    /// The PIN has expired or was never changed from the maker's (CKF_USER_PIN_TO_BE_CHANGED).
    pub pin_to_be_changed: bool,
    /// How many more sessions this program could open, where the token states a most and a present count.
    pub sessions_free: Option<u64>,
    /// Bytes free for private objects, where the token tells.
    pub private_memory_free: Option<u64>,
}

/// A folder that this user can list and nobody else can enter.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct FolderHealth {
    /// The folder's name and this crate.
    pub facts: StoreFacts,
    /// The labels of the key files that can be read and look like encrypted keys, sorted. Whether the PIN opens them is
    /// not known.
    pub keys: Vec<String>,
    /// The names of the data files, sorted ([`KeyStore::data`](crate::KeyStore::data)).
    pub data: Vec<String>,
    /// What is wrong with single files, each a sentence that names its file.
    pub damages: Vec<String>,
}

impl StoreHealth {
    /// What the store says of itself.
    pub fn facts(&self) -> &StoreFacts {
        match self {
            Self::Token(token) => &token.facts,
            Self::Folder(folder) => &folder.facts,
        }
    }

    /// Everything that somebody should look at, each a sentence; empty if nothing was found. The first are those that
    /// keep the store from being used.
    pub fn problems(&self) -> Vec<String> {
        match self {
            Self::Token(token) => token.problems(),
            Self::Folder(folder) => folder.damages.clone(),
        }
    }
}

impl TokenHealth {
    fn problems(&self) -> Vec<String> {
        [
            (!self.initialised, "the token is not initialised"),
            (
                self.error_state,
                "the token failed its own test and has to be reset",
            ),
            (
                self.pin_locked,
                "the PIN is locked: the token's security officer must set a new one",
            ),
            (!self.pin_initialised, "the token has no user PIN yet"),
            (self.pin_to_be_changed, "the PIN has to be changed"),
            (self.write_protected, "the token is write-protected"),
            (
                self.sessions_free == Some(0),
                "no session is free: other programs hold them all",
            ),
            (
                self.private_memory_free == Some(0),
                "the token has no room for private objects",
            ),
            (
                self.pin_final_try && !self.pin_locked,
                "one try is left: the next wrong PIN locks the token",
            ),
            (
                self.pin_count_low && !self.pin_final_try && !self.pin_locked,
                "a wrong PIN was tried since the last right one",
            ),
        ]
        .into_iter()
        .filter(|(is, _)| *is)
        .map(|(_, problem)| problem.into())
        .collect()
    }
}

/// Looks at the store that `uri` names, without a login: no PIN is read, asked for or sent. A module that hangs, as one
/// of a network token may, lets this wait.
///
/// # Errors
/// `MODULE-*`, `TOKEN-MISSING`, `TOKEN-AMBIGUOUS`, `KEY-FOLDER-*`, `KEY-FILE-IO`: the store is not there, or cannot be
/// used at all.
pub fn health(uri: &KeyUri) -> Result<StoreHealth, Error> {
    match uri {
        KeyUri::Pkcs11(uri) => token::health(uri).map(StoreHealth::Token),
        KeyUri::File(uri) => file::health(uri).map(StoreHealth::Folder),
    }
}
