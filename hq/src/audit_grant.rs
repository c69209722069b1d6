//! What an auditor gets to see with their own eyes: a file with everything that headquarters holds of some vaults, as it was
//! received and sent, and what opens it for one auditor; and the home that comes of it, by the very code that headquarters
//! takes it in with.

mod comparison;
mod container;
mod cut;
mod granting;
mod keys;
mod partial;
mod parts;
mod receiving;
mod recorder;
mod timeline;

#[cfg(feature = "fuzzing")]
pub use self::container::fuzzed;
pub(crate) use self::container::is_grant;
pub(crate) use self::granting::{Scope, grant, planned};
pub(crate) use self::keys::{AUDITOR, AuditorKeys};
pub(crate) use self::receiving::{Received, receive};

/// What such a file is called in errors.
const WHAT: &str = "audit grant";
