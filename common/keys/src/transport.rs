//! Keys that carry other keys: RSA-OAEP (RFC 8017 section 7.1).

use aws_lc_rs::rsa::{
    OAEP_SHA1_MGF1SHA1, OAEP_SHA256_MGF1SHA256, OaepPublicEncryptingKey, PublicEncryptingKey,
};
use aws_lc_rs::signature::RsaPublicKeyComponents;

use crate::error::Error;

/// The hash function of OAEP, the same in its mask generation function.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum OaepHash {
    /// SHA-1 with MGF1-SHA-1: RFC 8017's default, COSE algorithm -40 (RFC 8230 section 3). OAEP does not rest on the
    /// collision resistance that SHA-1 has lost.
    Sha1,
    /// SHA-256 with MGF1-SHA-256: COSE algorithm -41 (RFC 8230 section 3).
    Sha256,
}

impl OaepHash {
    /// The word for it: `SHA-1` or `SHA-256`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Sha1 => "SHA-1",
            Self::Sha256 => "SHA-256",
        }
    }
}

/// The public half of a transport key: keys wrapped to it are unwrapped inside the token and seen nowhere else.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TransportKey {
    /// The modulus, big-endian, without leading zeros: 3072 bits.
    pub n: Vec<u8>,
    /// The public exponent, big-endian, without leading zeros.
    pub e: Vec<u8>,
    /// The hash function that the token was seen to unwrap with.
    pub oaep: OaepHash,
}

/// Wraps a key of 32 bytes to an RSA key with OAEP and an empty label (RFC 8017 section 7.1.1). Every call gives other
/// bytes, as long as the modulus. `n` and `e` are big-endian; that they belong to the right token is for the caller to
/// establish.
///
/// # Errors
/// `TRANSPORT-KEY-INVALID` if `n` and `e` are no RSA public key of 2048 to 8192 bits.
pub fn oaep_wrap(n: &[u8], e: &[u8], oaep: OaepHash, key: &[u8; 32]) -> Result<Vec<u8>, Error> {
    let invalid = |_| Error::TransportKeyInvalid;
    let public: PublicEncryptingKey = RsaPublicKeyComponents { n, e }
        .try_into()
        .map_err(invalid)?;
    let public = OaepPublicEncryptingKey::new(public).map_err(invalid)?;
    let algorithm = match oaep {
        OaepHash::Sha1 => &OAEP_SHA1_MGF1SHA1,
        OaepHash::Sha256 => &OAEP_SHA256_MGF1SHA256,
    };
    let mut wrapped = vec![0; public.ciphertext_size()];
    let length = public
        .encrypt(algorithm, key, &mut wrapped, None)
        .map_err(invalid)?
        .len();
    wrapped.truncate(length);
    Ok(wrapped)
}
