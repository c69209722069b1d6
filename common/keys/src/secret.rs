//! Symmetric keys: what they are, and what is derived with them.

use std::fmt;

use aws_lc_rs::{cmac, hmac};
use zeroize::Zeroizing;

use crate::error::Error;

/// A symmetric key's algorithm. Every key has 256 bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum SecretAlgorithm {
    /// HMAC with SHA-256 (RFC 2104, FIPS 198-1).
    HmacSha256,
    /// AES-256 (FIPS 197); what is derived here uses it for CMAC (NIST SP 800-38B).
    Aes256,
}

impl SecretAlgorithm {
    /// The word for it: `HMAC-SHA-256` or `AES-256`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::HmacSha256 => "HMAC-SHA-256",
            Self::Aes256 => "AES-256",
        }
    }

    /// Bytes of one output of the pseudo-random function.
    pub(crate) fn mac_bytes(self) -> usize {
        match self {
            Self::HmacSha256 => 32,
            Self::Aes256 => 16,
        }
    }
}

impl fmt::Display for SecretAlgorithm {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.as_str())
    }
}

/// A symmetric key that others are derived from. The key itself never leaves its store.
pub trait SecretKey: Send + Sync {
    /// The key's algorithm.
    fn algorithm(&self) -> SecretAlgorithm;

    /// Derives 32 bytes, as [`counter_kdf`] does. `label` says what they are for, `context` for whom.
    ///
    /// # Errors
    /// `KEY-CHANGED` if another key took the place of this one; `KEYS-INTERNAL` if `label` holds a zero byte; store
    /// failures.
    fn derive(&self, label: &str, context: &[u8]) -> Result<Zeroizing<[u8; 32]>, Error>;
}

impl fmt::Debug for dyn SecretKey {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "SecretKey({})", self.algorithm())
    }
}

/// Derives 32 bytes from a key in memory: the key derivation function in counter mode of NIST SP 800-108r1 section 4.1.
/// The pseudo-random function is HMAC-SHA-256 or AES-256-CMAC, the counter has 32 bits and stands before the fixed
/// input `label || 0x00 || context || L`, where L is the length of the output in bits (256), in 32 bits. Integers are
/// big-endian.
///
/// # Errors
/// `KEYS-INTERNAL` if `label` holds a zero byte, which would let two inputs look alike.
pub fn counter_kdf(
    algorithm: SecretAlgorithm,
    key: &[u8; 32],
    label: &str,
    context: &[u8],
) -> Result<Zeroizing<[u8; 32]>, Error> {
    let prf = Prf::new(algorithm, key)?;
    counter_mode(algorithm, label, context, |input| prf.of(input))
}

/// A pseudo-random function whose key is in memory.
pub(crate) enum Prf {
    // Its tables take a kilobyte.
    Hmac(Box<hmac::Key>),
    Cmac(cmac::Key),
}

impl Prf {
    pub(crate) fn new(algorithm: SecretAlgorithm, key: &[u8; 32]) -> Result<Self, Error> {
        Ok(match algorithm {
            SecretAlgorithm::HmacSha256 => {
                Self::Hmac(Box::new(hmac::Key::new(hmac::HMAC_SHA256, key)))
            }
            SecretAlgorithm::Aes256 => {
                Self::Cmac(cmac::Key::new(cmac::AES_256, key).map_err(|_| Self::failed())?)
            }
        })
    }

    /// What it gives for `input`: a MAC of full length.
    pub(crate) fn of(&self, input: &[u8]) -> Result<Zeroizing<Vec<u8>>, Error> {
        Ok(Zeroizing::new(match self {
            Self::Hmac(key) => hmac::sign(key, input).as_ref().to_vec(),
            Self::Cmac(key) => {
                let mac = cmac::sign(key, input).map_err(|_| Self::failed())?;
                mac.as_ref().to_vec()
            }
        }))
    }

    fn failed() -> Error {
        Error::Internal {
            action: "computing a CMAC",
            reason: "the library refused it".into(),
        }
    }
}

/// The counter mode over a pseudo-random function that gives [`SecretAlgorithm::mac_bytes`] bytes.
pub(crate) fn counter_mode<E: From<Error>>(
    algorithm: SecretAlgorithm,
    label: &str,
    context: &[u8],
    mut prf: impl FnMut(&[u8]) -> Result<Zeroizing<Vec<u8>>, E>,
) -> Result<Zeroizing<[u8; 32]>, E> {
    let internal = |reason: &str| Error::Internal {
        action: "deriving a secret",
        reason: reason.into(),
    };
    if label.contains('\0') {
        return Err(internal("the label holds a zero byte").into());
    }
    let mut output = Zeroizing::new([0_u8; 32]);
    for (counter, block) in (1_u32..).zip(output.chunks_mut(algorithm.mac_bytes())) {
        let input = [
            &counter.to_be_bytes(),
            label.as_bytes(),
            &[0],
            context,
            &256_u32.to_be_bytes(),
        ]
        .concat();
        let mac = prf(&input)?;
        if mac.len() != block.len() {
            return Err(internal("the pseudo-random function gives another length").into());
        }
        block.copy_from_slice(&mac);
    }
    Ok(output)
}
