//! The RSA key that a vault's token unwraps symmetric keys with, where it can: COSE keys of type RSA (RFC 8230 section 4)
//! for RSAES-OAEP (RFC 8230 section 3).
//!
//! ```cddl
//! transport-key = { 1: 3, 3: oaep, -1: bstr .size (384..512), -2: bstr .size (1..8) }
//! oaep = -40 / -41                     ; RSAES-OAEP with SHA-1, with SHA-256
//! ```

use ciborium::Value;

use crate::Error;
use crate::cbor::{self, Fields, Map};
use crate::identifier::{Fingerprint, KeyId};

/// `kty: RSA`.
const KTY_RSA: u64 = 3;

/// The hash of RSAES-OAEP and of its mask generation, whichever the token has. The security of OAEP does not rest on the
/// hash's collision resistance.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Oaep {
    /// SHA-1.
    Sha1,
    /// SHA-256.
    Sha256,
}

impl Oaep {
    /// Its COSE algorithm (RFC 8230 section 3).
    pub fn algorithm(self) -> i64 {
        match self {
            Self::Sha1 => -40,
            Self::Sha256 => -41,
        }
    }

    pub(crate) fn from_value(value: &Value) -> Option<Self> {
        let algorithm = value.as_integer()?;
        [Self::Sha1, Self::Sha256]
            .into_iter()
            .find(|oaep| algorithm == oaep.algorithm().into())
    }
}

/// The public half of `vault-transport`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TransportKey {
    /// Which OAEP its token performs.
    pub oaep: Oaep,
    /// The modulus, big-endian, without leading zeros: 384 to 512 bytes.
    pub modulus: Vec<u8>,
    /// The public exponent, big-endian, without leading zeros: 1 to 8 bytes.
    pub exponent: Vec<u8>,
}

impl TransportKey {
    /// Its key id (RFC 9679): SHA-256 of the COSE_Key `{1: 3, -1: n, -2: e}`.
    pub fn thumbprint(&self) -> KeyId {
        let key = Map::new()
            .with(1, KTY_RSA)
            .with(-1, self.modulus.clone())
            .with(-2, self.exponent.clone());
        KeyId::new(*Fingerprint::of(&cbor::encode(&key.value())).as_bytes())
    }

    pub(crate) fn to_map(&self) -> Map {
        Map::new()
            .with(1, KTY_RSA)
            .with(3, self.oaep.algorithm())
            .with(-1, self.modulus.clone())
            .with(-2, self.exponent.clone())
    }

    pub(crate) fn from_value(what: &'static str, value: Value) -> Result<Self, Error> {
        let mut fields = Fields::new(what, value)?;
        let (kty, oaep) = (fields.uint(1)?, fields.required(3)?);
        let key = Self {
            oaep: Oaep::from_value(&oaep).ok_or(Error::Key { what })?,
            modulus: fields.bytes(-1)?,
            exponent: fields.bytes(-2)?,
        };
        fields.finish()?;
        let plain = |bytes: &[u8]| bytes.first().is_some_and(|first| *first != 0);
        if kty != KTY_RSA
            || !(384..=512).contains(&key.modulus.len())
            || !(1..=8).contains(&key.exponent.len())
            || !plain(&key.modulus)
            || !plain(&key.exponent)
        {
            return Err(Error::Key { what });
        }
        Ok(key)
    }
}
