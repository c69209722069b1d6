//! What can go wrong with keys, and what to do about it.

use std::io;
use std::path::PathBuf;

use cryptoki::error::RvError;

use crate::return_value::{ReturnValue, explain};

/// Who has to act on an error.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Class {
    /// The caller named something that cannot be: a bad URI, a bad label.
    Usage,
    /// A module, a token, a PIN, a file or a key is not there or does not answer. Nothing was changed.
    Environment,
    /// A key is not what it must be, or a token answered with something false. Stop and look.
    Integrity,
    /// A defect of this program or of its platform.
    Internal,
}

/// Every error of this crate. No variant ever holds a PIN or key bytes.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The text is no key URI (RFC 7512 section 2.3, or `file:DIR`).
    #[error("not a key URI: {reason}")]
    UriInvalid {
        /// What is wrong with it. Never quotes a value, which could be a secret.
        reason: String,
    },
    /// The URI carries `pin-value`. Arguments are visible to every process of the machine.
    #[error("the key URI holds pin-value: a PIN never stands in arguments")]
    PinInUri,
    /// A `pkcs11:` URI without `module-path`.
    #[error("the key URI names no module")]
    ModulePathMissing,
    /// A key label outside `[A-Za-z0-9][A-Za-z0-9._-]{0,63}`.
    #[error("\"{label}\" is not a key label")]
    LabelInvalid {
        /// The label, escaped and cut.
        label: String,
    },

    /// There is no file at the module's path, or it cannot be reached.
    #[error("the PKCS#11 module {} cannot be reached: {cause}", path.display())]
    ModuleMissing {
        /// The path of the URI.
        path: PathBuf,
        /// Why.
        cause: io::Error,
    },
    /// The file cannot be loaded as a PKCS#11 module.
    #[error("{} is not a PKCS#11 module: {reason}", path.display())]
    ModuleInvalid {
        /// The path of the URI.
        path: PathBuf,
        /// What the loader said.
        reason: String,
    },
    /// The module was loaded and then failed.
    #[error("the PKCS#11 module {} failed to {action}: {reason}", path.display())]
    ModuleFailed {
        /// The path of the URI.
        path: PathBuf,
        /// What was asked of it.
        action: &'static str,
        /// The return value, and its likely cause.
        reason: String,
        /// What is known of the return value.
        returned: Option<&'static ReturnValue>,
    },
    /// No token in the module matches the URI.
    #[error("there is no token with {wanted}; {}", present_tokens(present))]
    TokenMissing {
        /// The attributes that were asked for.
        wanted: String,
        /// The tokens that are there, with label, serial and slot.
        present: Vec<String>,
    },
    /// Several tokens match the URI.
    #[error("{} tokens have {wanted}: {}", matching.len(), matching.join(", "))]
    TokenAmbiguous {
        /// The attributes that were asked for.
        wanted: String,
        /// The matching tokens, with label, serial and slot.
        matching: Vec<String>,
    },
    /// The token refused or failed an operation.
    #[error("{store} failed to {action}: {reason}")]
    TokenFailed {
        /// Which token.
        store: String,
        /// What was asked of it.
        action: &'static str,
        /// The return value, such as `CKR_DEVICE_ERROR`, and its likely cause.
        reason: String,
        /// What is known of the return value.
        returned: Option<&'static ReturnValue>,
    },
    /// The token has no session left for this program.
    #[error("{store} has no session left: other programs hold them all")]
    TokenSessions {
        /// Which token.
        store: String,
    },

    /// The token, or what passes calls on to it, does not know the mechanism.
    #[error("{store} does not know what it takes to {action}: {reason}")]
    MechanismMissing {
        /// Which token.
        store: String,
        /// What was asked of it, with the mechanism.
        action: &'static str,
        /// The return value.
        reason: String,
    },
    /// The token was there and is not, or does not answer. It comes back by itself: whichever call comes next looks for
    /// it.
    #[error("{store} is gone: {reason}")]
    TokenGone {
        /// Which token.
        store: String,
        /// What was tried last and how it failed.
        reason: String,
    },
    /// A call into the module does not return, so that no other one was made.
    #[error("the PKCS#11 module {} has not answered for {seconds} s", path.display())]
    TokenHung {
        /// The path of the module.
        path: PathBuf,
        /// For how long.
        seconds: u64,
    },

    /// The file that `pin-source` names cannot be read as a PIN.
    #[error("the PIN source {} cannot be read: {reason}", path.display())]
    PinSourceUnreadable {
        /// The file.
        path: PathBuf,
        /// Why.
        reason: String,
    },
    /// Every user of the machine can read or write the file that `pin-source` names.
    #[error("every user of this machine can reach the PIN file {} (mode {mode:04o})", path.display())]
    PinSourceExposed {
        /// The file.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
    /// The PIN is empty.
    #[error("the PIN of {store} is empty")]
    PinEmpty {
        /// Which store.
        store: String,
    },
    /// The PIN could not be asked for, or the person cancelled.
    #[error("no PIN was given for {store}: {cause}")]
    PinNotGiven {
        /// Which store.
        store: String,
        /// What the prompt said.
        cause: io::Error,
    },
    /// A new PIN was typed differently the second time.
    #[error("the two PINs for {store} differ")]
    PinMismatch {
        /// Which store.
        store: String,
    },
    /// The PIN is wrong. It was tried once.
    #[error("the PIN is not that of {store}")]
    PinIncorrect {
        /// Which store.
        store: String,
        /// The token says that the next wrong PIN locks it (CKF_USER_PIN_FINAL_TRY).
        final_try: bool,
        /// The token says that it is now locked (CKF_USER_PIN_LOCKED).
        locked: bool,
    },
    /// The token takes no PIN any more.
    #[error("the PIN of {store} is locked")]
    PinLocked {
        /// Which store.
        store: String,
    },
    /// The PIN has to be changed before the token takes it (CKR_PIN_EXPIRED).
    #[error("the PIN of {store} has to be changed before it is taken")]
    PinExpired {
        /// Which store.
        store: String,
    },
    /// The token has no user PIN yet.
    #[error("{store} has no user PIN yet")]
    PinNotInitialised {
        /// Which store.
        store: String,
    },

    /// The folder of a file store does not exist.
    #[error("the key folder {} does not exist", path.display())]
    FolderMissing {
        /// The folder.
        path: PathBuf,
    },
    /// The folder of a file store is open to others than its owner.
    #[error("the key folder {} is open to other users (mode {mode:04o})", path.display())]
    FolderExposed {
        /// The folder.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
    /// A file or folder of a file store cannot be read or written.
    #[error("cannot {action} {}: {cause}", path.display())]
    Io {
        /// What was tried.
        action: &'static str,
        /// The file or folder.
        path: PathBuf,
        /// Why it failed.
        cause: io::Error,
    },

    /// No private key has the label.
    #[error("{store} has no key \"{label}\"")]
    KeyMissing {
        /// Which store.
        store: String,
        /// The label.
        label: String,
    },
    /// The URI names one key, and another one is asked for.
    #[error("the key URI restricts the store to {named}, so that it has no key \"{label}\"")]
    KeyExcluded {
        /// What the URI names: `object=LABEL` or `id=HEX`.
        named: String,
        /// The label that was asked for.
        label: String,
    },
    /// A key of the label is there already. Keys are never overwritten.
    #[error("{store} has a key \"{label}\" already")]
    KeyExists {
        /// Which store.
        store: String,
        /// The label.
        label: String,
    },
    /// A key was found that must not be used.
    #[error("the key \"{label}\" of {store} must not be used: {attribute} is {found}")]
    KeyAttributes {
        /// Which store.
        store: String,
        /// The label.
        label: String,
        /// The attribute, such as `CKA_EXTRACTABLE`.
        attribute: &'static str,
        /// What it is and what it should have been.
        found: String,
    },
    /// Several keys share the label.
    #[error("{store} has {count} keys \"{label}\"")]
    KeyAmbiguous {
        /// Which store.
        store: String,
        /// The label.
        label: String,
        /// How many.
        count: usize,
    },
    /// While the store was open, another key took the place of this one.
    #[error("the key \"{label}\" of {store} was replaced by another one")]
    KeyChanged {
        /// Which store.
        store: String,
        /// The label.
        label: String,
    },
    /// A file is not the encrypted private key it should be.
    #[error("{} is not a key file: {reason}", path.display())]
    KeyFileInvalid {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// The store gave a signature that does not verify, twice. It was not returned.
    #[error("{store} returned an invalid signature for the key \"{label}\"")]
    SignatureInvalid {
        /// Which store.
        store: String,
        /// The label.
        label: String,
    },

    /// A key that came wrapped was not unwrapped by the token. Nothing was left in it.
    #[error("{store} does not unwrap what should become the key \"{label}\": {reason}")]
    WrappedKeyInvalid {
        /// Which store.
        store: String,
        /// The label that the key would have had.
        label: String,
        /// What the token said.
        reason: String,
    },
    /// What should be an RSA public key is none.
    #[error("the transport key is no RSA public key of 2048 to 8192 bits")]
    TransportKeyInvalid,

    /// The token takes no change: it is write-protected (CKF_WRITE_PROTECTED).
    #[error("{store} is write-protected: it did not {action}")]
    TokenWriteProtected {
        /// Which token.
        store: String,
        /// What was asked of it.
        action: &'static str,
    },
    /// The token has no room for one more object.
    #[error("{store} is full: it did not {action}")]
    TokenFull {
        /// Which token.
        store: String,
        /// What was asked of it.
        action: &'static str,
    },
    /// There are more data objects of one label, or larger ones, than this crate reads or writes.
    #[error("the data \"{label}\" of {store} exceed their bounds: {reason}")]
    DataLimit {
        /// Which store.
        store: String,
        /// The label.
        label: String,
        /// Which bound, and what exceeds it.
        reason: String,
    },
    /// The store took a data object and gives something else, or nothing, in its place.
    #[error("{store} did not keep the data \"{label}\" that it took")]
    DataNotKept {
        /// Which store.
        store: String,
        /// The label.
        label: String,
    },
    /// The data are not those that were read or written last: somebody else wrote them, or put older ones back.
    #[error("the data \"{label}\" of {store} were changed by somebody else: {reason}")]
    DataChanged {
        /// Which store.
        store: String,
        /// The label.
        label: String,
        /// The highest valid counter that the store holds now; `None` if it holds none.
        counter: Option<u64>,
        /// What was expected and what is there.
        reason: String,
    },

    /// The operating system gave no random bytes.
    #[error("the operating system gives no random bytes: {reason}")]
    RandomFailed {
        /// What it said.
        reason: String,
    },
    /// A library refused what it must accept.
    #[error("{action} failed: {reason}")]
    Internal {
        /// What was tried.
        action: &'static str,
        /// What the library said.
        reason: String,
    },
}

fn present_tokens(present: &[String]) -> String {
    if present.is_empty() {
        "the module shows no token at all".into()
    } else {
        format!("present: {}", present.join(", "))
    }
}

impl Error {
    /// The stable code of the error, upper case with dashes.
    pub fn code(&self) -> &'static str {
        match self {
            Self::UriInvalid { .. } => "URI-INVALID",
            Self::PinInUri => "PIN-IN-URI",
            Self::ModulePathMissing => "MODULE-PATH-MISSING",
            Self::LabelInvalid { .. } => "LABEL-INVALID",
            Self::ModuleMissing { .. } => "MODULE-MISSING",
            Self::ModuleInvalid { .. } => "MODULE-INVALID",
            Self::ModuleFailed { .. } => "MODULE-FAILED",
            Self::TokenMissing { .. } => "TOKEN-MISSING",
            Self::TokenAmbiguous { .. } => "TOKEN-AMBIGUOUS",
            Self::TokenFailed { .. } => "TOKEN-FAILED",
            Self::TokenSessions { .. } => "TOKEN-SESSIONS",
            Self::MechanismMissing { .. } => "MECHANISM-MISSING",
            Self::TokenGone { .. } => "TOKEN-GONE",
            Self::TokenHung { .. } => "TOKEN-HUNG",
            Self::PinSourceUnreadable { .. } => "PIN-SOURCE-UNREADABLE",
            Self::PinSourceExposed { .. } => "PIN-SOURCE-EXPOSED",
            Self::PinEmpty { .. } => "PIN-EMPTY",
            Self::PinNotGiven { .. } => "PIN-NOT-GIVEN",
            Self::PinMismatch { .. } => "PIN-MISMATCH",
            Self::PinIncorrect { .. } => "PIN-INCORRECT",
            Self::PinLocked { .. } => "PIN-LOCKED",
            Self::PinExpired { .. } => "PIN-EXPIRED",
            Self::PinNotInitialised { .. } => "PIN-NOT-INITIALISED",
            Self::FolderMissing { .. } => "KEY-FOLDER-MISSING",
            Self::FolderExposed { .. } => "KEY-FOLDER-EXPOSED",
            Self::Io { .. } => "KEY-FILE-IO",
            Self::KeyMissing { .. } | Self::KeyExcluded { .. } => "KEY-MISSING",
            Self::KeyExists { .. } => "KEY-EXISTS",
            Self::KeyAttributes { .. } => "KEY-ATTRIBUTES",
            Self::KeyAmbiguous { .. } => "KEY-AMBIGUOUS",
            Self::KeyChanged { .. } => "KEY-CHANGED",
            Self::KeyFileInvalid { .. } => "KEY-FILE-INVALID",
            Self::SignatureInvalid { .. } => "SIGNATURE-INVALID",
            Self::WrappedKeyInvalid { .. } => "WRAPPED-KEY-INVALID",
            Self::TransportKeyInvalid => "TRANSPORT-KEY-INVALID",
            Self::TokenWriteProtected { .. } => "TOKEN-WRITE-PROTECTED",
            Self::TokenFull { .. } => "TOKEN-FULL",
            Self::DataLimit { .. } => "DATA-LIMIT",
            Self::DataNotKept { .. } => "DATA-NOT-KEPT",
            Self::DataChanged { .. } => "DATA-CHANGED",
            Self::RandomFailed { .. } => "RANDOM-FAILED",
            Self::Internal { .. } => "KEYS-INTERNAL",
        }
    }

    /// Whether the same call may succeed later with nothing changed here: the token went away, or its module hangs. Any
    /// other error stays until somebody acts on it. A token that is missing when its store is opened is not meant: its
    /// URI can be wrong as well.
    pub fn is_transient(&self) -> bool {
        matches!(self, Self::TokenGone { .. } | Self::TokenHung { .. })
    }

    /// Who has to act.
    pub fn class(&self) -> Class {
        match self {
            Self::UriInvalid { .. }
            | Self::PinInUri
            | Self::ModulePathMissing
            | Self::LabelInvalid { .. } => Class::Usage,
            Self::ModuleMissing { .. }
            | Self::ModuleInvalid { .. }
            | Self::ModuleFailed { .. }
            | Self::TokenMissing { .. }
            | Self::TokenAmbiguous { .. }
            | Self::TokenFailed { .. }
            | Self::TokenSessions { .. }
            | Self::MechanismMissing { .. }
            | Self::TokenGone { .. }
            | Self::TokenHung { .. }
            | Self::PinSourceUnreadable { .. }
            | Self::PinSourceExposed { .. }
            | Self::PinEmpty { .. }
            | Self::PinNotGiven { .. }
            | Self::PinMismatch { .. }
            | Self::PinIncorrect { .. }
            | Self::PinLocked { .. }
            | Self::PinExpired { .. }
            | Self::PinNotInitialised { .. }
            | Self::FolderMissing { .. }
            | Self::FolderExposed { .. }
            | Self::Io { .. }
            | Self::KeyMissing { .. }
            | Self::KeyExcluded { .. }
            | Self::KeyExists { .. }
            | Self::WrappedKeyInvalid { .. }
            | Self::TokenWriteProtected { .. }
            | Self::TokenFull { .. }
            | Self::DataLimit { .. } => Class::Environment,
            Self::KeyAttributes { .. }
            | Self::KeyAmbiguous { .. }
            | Self::KeyChanged { .. }
            | Self::KeyFileInvalid { .. }
            | Self::SignatureInvalid { .. }
            | Self::TransportKeyInvalid
            | Self::DataNotKept { .. }
            | Self::DataChanged { .. } => Class::Integrity,
            Self::RandomFailed { .. } | Self::Internal { .. } => Class::Internal,
        }
    }

    /// What to do next.
    pub fn hint(&self) -> Option<String> {
        Some(match self {
            Self::UriInvalid { .. } => "write pkcs11:token=LABEL?module-path=/path/to/module.so&pin-source=file:/path/to/pin \
                 or file:DIR?pin-source=file:/path/to/pin"
                .into(),
            Self::PinInUri => "put the PIN into a file that only you can read and name it with pin-source=file:/path, \
                 or leave it out to be asked; change this PIN, since it was visible"
                .into(),
            Self::ModulePathMissing => "add ?module-path= with the path of the token's PKCS#11 library, \
                 such as module-path=/usr/lib/softhsm/libsofthsm2.so"
                .into(),
            Self::LabelInvalid { .. } => {
                "use letters, digits, dots, underscores and dashes, 64 at most, beginning with a letter or digit".into()
            }
            Self::ModuleMissing { .. } => "install the token's PKCS#11 library, or correct module-path in the key URI".into(),
            Self::ModuleInvalid { .. } => {
                "module-path must name the token's PKCS#11 library, built for this machine's architecture".into()
            }
            Self::ModuleFailed {
                returned: Some(value),
                ..
            }
            | Self::TokenFailed {
                returned: Some(value),
                ..
            } => value.remedy.into(),
            Self::TokenSessions { .. } => explain(RvError::SessionCount).remedy.into(),
            Self::PinExpired { .. } => explain(RvError::PinExpired).remedy.into(),
            Self::ModuleFailed { .. } => "check the module's own configuration and service (SoftHSM: SOFTHSM2_CONF and the rights \
                 to its token folder)"
                .into(),
            Self::TokenMissing { .. } => "insert or initialise the token, or correct token=, serial= or slot-id= in the key URI".into(),
            Self::TokenAmbiguous { .. } => "add serial= (or slot-id=) to the key URI to say which one".into(),
            Self::TokenGone { .. } => "plug the token in, or start what reaches it, and try again; a program that runs finds it by itself".into(),
            Self::TokenHung { .. } => {
                "check the token, its cable or its service; if the call does not return after that, start the program again".into()
            }
            Self::TokenFailed { .. } => "check that the token is connected and its service runs; doctor tries every operation".into(),
            Self::MechanismMissing { .. } => "do this where the token is, through the token's own module: some modules that pass calls on, \
                 as p11-kit's of version 0.24, leave this mechanism out"
                .into(),
            Self::PinSourceUnreadable { .. } => {
                "pin-source must name a file with the PIN on its only line, readable by this user".into()
            }
            Self::PinSourceExposed { path, .. } => {
                format!("run `chmod 600 {}`, and change the PIN: others may have read it", path.display())
            }
            Self::PinEmpty { .. } | Self::PinNotGiven { .. } => {
                "type the PIN when asked, or name a file that holds it with pin-source=file:/path".into()
            }
            Self::PinMismatch { .. } => "type the same PIN twice".into(),
            Self::PinIncorrect { locked: true, .. } => "the token is now locked; its security officer must set a new PIN".into(),
            Self::PinIncorrect { final_try: true, .. } => {
                "one try is left: the next wrong PIN locks the token; make sure of the PIN before you try again".into()
            }
            Self::PinIncorrect { .. } => "it was tried once and will not be tried again; correct it before you try again".into(),
            Self::PinLocked { .. } => "the token's security officer must set a new PIN".into(),
            Self::PinNotInitialised { .. } => "set a user PIN with the token's own tool, such as pkcs11-tool --init-pin".into(),
            Self::FolderMissing { .. } => "check the path in the key URI; the folder is made when the keys are".into(),
            Self::FolderExposed { path, .. } => {
                format!("take the rights away with chmod 700 {}, and ask who may have read the keys", path.display())
            }
            Self::Io { .. } => "check that the path exists, belongs to this user and that the disk has room".into(),
            Self::KeyMissing { .. } => "check that the key URI names the store in which the key was made; labels are fixed".into(),
            Self::KeyExcluded { .. } => "take object and id out of the key URI: it is to name a store, and the labels of its keys are fixed".into(),
            Self::KeyExists { .. } => "keys are never overwritten; use the one that is there, or another store; what an interrupted command left of one, remove with the token's own tool".into(),
            Self::KeyAttributes { .. } => {
                "such a key is never remade or repaired here: find out who made it, then use a store with a proper key".into()
            }
            Self::KeyAmbiguous { .. } => "find out who made the second one, and remove it with the token's own tool".into(),
            Self::KeyChanged { .. } => "find out who replaced the key; what it signed from now on is not what was enrolled".into(),
            Self::KeyFileInvalid { .. } => "restore the file from a backup".into(),
            Self::SignatureInvalid { .. } => "the token is faulty: stop using it and run doctor".into(),
            Self::WrappedKeyInvalid { .. } => {
                "the key was wrapped to another transport key, or damaged: compare the transport key that headquarters has \
                 with the token's"
                    .into()
            }
            Self::TransportKeyInvalid => "the request or the record that it came from is damaged or false: ask for a new request".into(),
            Self::TokenWriteProtected { .. } => "take the write protection off, or use another token".into(),
            Self::TokenFull { .. } => "make room: on the disk, where the token keeps files there as SoftHSM does; else remove what it does not need with its own tool, or use a larger one".into(),
            Self::DataLimit { .. } => {
                "find out which program made them, and remove what is not needed with the store's own tool".into()
            }
            Self::DataNotKept { .. } => "the store is faulty: stop using it and run doctor".into(),
            Self::DataChanged { .. } => {
                "make sure that this store is the right one, was not put back to an older state, and serves no second \
                 vault at once"
                    .into()
            }
            Self::RandomFailed { .. } | Self::Internal { .. } => return None,
        })
    }
}
