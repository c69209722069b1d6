//! Names and digests: the newtypes that every other message is made of.

use std::fmt;
use std::str::FromStr;

use sha2::{Digest as _, Sha256};

use crate::Error;

/// The longest site, vault, entitlement or officer identifier, in bytes.
pub const IDENTIFIER_BYTES_MAX: usize = 32;
/// The longest SKU, in bytes.
pub const SKU_BYTES_MAX: usize = 32;
/// The longest label of a symmetric key, in bytes.
pub const KEY_LABEL_BYTES_MAX: usize = 28;
/// The longest device identifier, in bytes (X.520 `ub-serial-number`).
pub const DEVICE_ID_BYTES_MAX: usize = 64;

macro_rules! identifier {
    ($(#[$doc:meta])* $name:ident, $what:literal, $max:expr, $alphabet:literal, $allowed:expr) => {
        $(#[$doc])*
        #[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(String);

        impl $name {
            /// The identifier as text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl FromStr for $name {
            type Err = Error;

            fn from_str(text: &str) -> Result<Self, Error> {
                let allowed: fn(u8) -> bool = $allowed;
                if text.is_empty() || text.len() > $max || !text.bytes().all(allowed) {
                    return Err(Error::Identifier {
                        what: $what,
                        alphabet: $alphabet,
                        found: shown(text),
                    });
                }
                Ok(Self(text.to_owned()))
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl AsRef<str> for $name {
            fn as_ref(&self) -> &str {
                &self.0
            }
        }
    };
}

/// Hostile text in an error message: cut short, with nothing a terminal would act on.
fn shown(text: &str) -> String {
    let mut out: String = text
        .chars()
        .take(40)
        .flat_map(char::escape_default)
        .collect();
    if text.chars().nth(40).is_some() {
        out.push('…');
    }
    out
}

fn lower_dash(byte: u8) -> bool {
    byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-'
}

identifier!(
    /// A place where devices are made: `[a-z0-9-]{1,32}`.
    SiteId, "site id", IDENTIFIER_BYTES_MAX, "[a-z0-9-]{1,32}", lower_dash
);
identifier!(
    /// One running ledger with its HSM, at a site: `[a-z0-9-]{1,32}`.
    VaultId, "vault id", IDENTIFIER_BYTES_MAX, "[a-z0-9-]{1,32}", lower_dash
);
identifier!(
    /// The name of an entitlement: `[a-z0-9-]{1,32}`. It stays through amendments.
    EntitlementId, "entitlement id", IDENTIFIER_BYTES_MAX, "[a-z0-9-]{1,32}", lower_dash
);
identifier!(
    /// The name of an officer: `[a-z0-9-]{1,32}`. Thresholds count these, not signatures.
    OfficerId, "officer id", IDENTIFIER_BYTES_MAX, "[a-z0-9-]{1,32}", lower_dash
);
identifier!(
    /// The name of anything that travels as a draft: `[a-z0-9-]{1,64}`.
    ObjectId, "object id", 64, "[a-z0-9-]{1,64}", lower_dash
);
identifier!(
    /// A product: `[A-Za-z0-9._-]{1,32}`.
    Sku, "SKU", SKU_BYTES_MAX, "[A-Za-z0-9._-]{1,32}",
    |byte| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-')
);
identifier!(
    /// A device: 1 to 64 characters of X.520 `PrintableString`, what the subject attribute `serialNumber` can hold.
    DeviceId, "device id", DEVICE_ID_BYTES_MAX, "[A-Za-z0-9 '()+,./:=?-]{1,64}",
    |byte| byte.is_ascii_alphanumeric() || b" '()+,-./:=?".contains(&byte)
);
identifier!(
    /// A station on the factory floor: `[a-z0-9-]{1,32}`. `console` is `site issue` itself.
    StationId, "station id", IDENTIFIER_BYTES_MAX, "[a-z0-9-]{1,32}", lower_dash
);

identifier!(
    /// A symmetric key that an entitlement brings: `[a-z0-9-]{1,28}`. In a token it is called `key-<label>`, within the 32
    /// bytes that every token keeps.
    KeyLabel, "key label", KEY_LABEL_BYTES_MAX, "[a-z0-9-]{1,28}", lower_dash
);

impl From<EntitlementId> for ObjectId {
    fn from(id: EntitlementId) -> Self {
        Self(id.0)
    }
}

impl StationId {
    /// The station that `site issue` speaks for: the operator at the vault's own console.
    pub fn console() -> Self {
        Self("console".to_owned())
    }
}

/// One vault of one site; every message names both.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct VaultName {
    /// The place.
    pub site: SiteId,
    /// The ledger at that place.
    pub vault: VaultId,
}

impl fmt::Display for VaultName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.site, self.vault)
    }
}

macro_rules! octets {
    ($(#[$doc:meta])* $name:ident, $bytes:expr) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name([u8; $bytes]);

        impl $name {
            /// Its length in bytes.
            pub const BYTES: usize = $bytes;

            /// From its bytes.
            pub const fn new(bytes: [u8; $bytes]) -> Self {
                Self(bytes)
            }

            /// Its bytes.
            pub const fn as_bytes(&self) -> &[u8; $bytes] {
                &self.0
            }
        }

        impl TryFrom<&[u8]> for $name {
            type Error = Error;

            fn try_from(bytes: &[u8]) -> Result<Self, Error> {
                bytes.try_into().map(Self).map_err(|_| Error::Length {
                    what: stringify!($name),
                    bytes_expected: $bytes,
                    bytes_found: bytes.len(),
                })
            }
        }

        impl FromStr for $name {
            type Err = Error;

            fn from_str(text: &str) -> Result<Self, Error> {
                let mut bytes = [0; $bytes];
                let plain: String = text
                    .chars()
                    .filter(|c| !c.is_ascii_whitespace() && *c != ':')
                    .collect();
                hex::decode_to_slice(plain.to_ascii_lowercase(), &mut bytes).map_err(|_| {
                    Error::Hex { what: stringify!($name), digits_expected: 2 * $bytes }
                })?;
                Ok(Self(bytes))
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&hex::encode(self.0))
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{}({self})", stringify!($name))
            }
        }
    };
}

octets!(
    /// SHA-256 of some bytes. Of a signed object's payload it is the object's *fingerprint*, shown to people as
    /// lower-case hex.
    Fingerprint, 32
);
octets!(
    /// The COSE key thumbprint of a public key (RFC 9679, SHA-256): the key id of every signature and recipient.
    KeyId, 32
);
octets!(
    /// The random name of one unbroken history of a vault's log. A declared restore begins a new one.
    Lineage, 16
);

impl Fingerprint {
    /// SHA-256 of `bytes`.
    pub fn of(bytes: &[u8]) -> Self {
        Self(Sha256::digest(bytes).into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_identifier_outside_its_alphabet_is_refused_with_the_alphabet() {
        for bad in ["", "Berlin", "a b", "a/b", "..", "ä", &"x".repeat(33)] {
            let error = bad.parse::<SiteId>().unwrap_err();
            assert!(error.to_string().contains("[a-z0-9-]{1,32}"), "{error}");
        }
        assert_eq!("berlin-1".parse::<SiteId>().unwrap().as_str(), "berlin-1");
    }

    #[test]
    fn a_kind_of_identifier_has_its_article() {
        let error = "X".parse::<EntitlementId>().unwrap_err().to_string();
        assert!(error.starts_with("`X` is not an entitlement id"), "{error}");
        let error = "".parse::<Sku>().unwrap_err().to_string();
        assert!(error.starts_with("`` is not a SKU"), "{error}");
    }

    #[test]
    fn hostile_text_in_an_error_message_cannot_reach_the_terminal() {
        let error = "\u{1b}[2J".parse::<SiteId>().unwrap_err().to_string();
        assert!(!error.contains('\u{1b}'), "{error}");
    }

    #[test]
    fn a_fingerprint_is_read_as_people_write_it() {
        let fingerprint = Fingerprint::of(b"x");
        let spaced = fingerprint.to_string().to_uppercase();
        assert_eq!(spaced.parse::<Fingerprint>().unwrap(), fingerprint);
        assert!("abc".parse::<Fingerprint>().is_err());
    }
}
