//! Random bytes of the operating system.

use p256::SecretKey;
use zeroize::Zeroizing;

use crate::error::Error;

/// Fills `bytes`.
pub(crate) fn fill(bytes: &mut [u8]) -> Result<(), Error> {
    getrandom::fill(bytes).map_err(|error| Error::RandomFailed {
        reason: error.to_string(),
    })
}

/// A new private key in memory.
pub(crate) fn secret_key() -> Result<SecretKey, Error> {
    let mut bytes = Zeroizing::new([0_u8; 32]);
    loop {
        fill(bytes.as_mut_slice())?;
        // One in 2^32 is not below the order of the group (FIPS 186-5 section A.2.2: draw again).
        if let Ok(secret) = SecretKey::from_slice(bytes.as_slice()) {
            return Ok(secret);
        }
    }
}
