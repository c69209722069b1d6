//! Keys by URI: PKCS#11 tokens and encrypted key files behind one interface.
//!
//! A [`KeyUri`] names a store; [`open`] gives a [`KeyStore`]; from it come [`Signer`]s and [`Agreement`]s, one per
//! label. Every key pair of theirs is on P-256 and serves one [`Purpose`]. The crate never learns what it signs.
//!
//! A store also holds symmetric keys that come from elsewhere ([`SecretKey`]): they are derived from, and no more. A
//! [`TransportKey`] brings them into a token without a stop in this machine's memory.
//!
//! Beside its keys a store holds small data objects ([`KeyStore::data`]); [`Alternating`] keeps one value in them that
//! changes and never goes back by itself. [`health`] looks at a store without its PIN.
//!
//! Invariants:
//! - No private scalar leaves a token, and none leaves this crate from a file. The same goes for symmetric keys.
//! - A key is used only after its attributes were asserted, and after it proved that it fits its public key.
//! - A signature is returned only after it verified under that public key, with code other than the signer's.
//! - A PIN is tried once. A PIN that was refused is never sent again by the same store.
//! - A token that went away and came back is used again only with the keys that it had.
//! - This is the only crate that loads a PKCS#11 module.

// What the tests share calls the crate by its name.
#[cfg(test)]
extern crate self as mintmark_keys;

mod alternating;
mod data;
mod error;
mod examination;
mod file;
#[cfg(feature = "fuzzing")]
pub mod fuzzing;
mod health;
#[cfg(test)]
mod judged;
mod label;
mod locked;
mod pin;
mod pin_source;
mod random;
mod return_value;
mod secret;
#[cfg(test)]
#[path = "../tests/softhsm/mod.rs"]
mod softhsm;
mod store;
mod token;
mod transport;
mod uri;
mod verify;

pub use alternating::Alternating;
pub use error::{Class, Error};
pub use examination::{Examination, Finding, Trouble, examine};
pub use health::{FolderHealth, StoreHealth, TokenHealth, health};
pub use locked::LockedSecret;
pub use pin::{Pin, Prompt};
pub use pin_source::PinSource;
pub use return_value::{RETURN_VALUES, ReturnValue};
pub use secret::{SecretAlgorithm, SecretKey, counter_kdf};
pub use store::{
    Agreement, DataLock, KeyDescription, KeyKind, KeyStore, Liveness, Probe, Purpose, Signer,
    StoreFacts, create, open,
};
pub use transport::{OaepHash, TransportKey, oaep_wrap};
pub use uri::{FileUri, KeyUri, Pkcs11Uri, UnparsedKeyUri};
pub use verify::verify;
