//! Verification of ES256 signatures with aws-lc-rs: fast, and code other than any signer's.

use aws_lc_rs::digest::Digest;
use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED, ParsedPublicKey, UnparsedPublicKey};
use p256::PublicKey;
use p256::ecdsa::Signature;
use p256::elliptic_curve::sec1::ToSec1Point;

use crate::error::Error;

/// Whether `signature` is an ES256 signature (RFC 9053 section 2.1: ECDSA on P-256 over SHA-256) of `message` by
/// `public`. Both the low and the high form of `s` are accepted, as in X.509 and COSE.
pub fn verify(public: &PublicKey, message: &[u8], signature: &Signature) -> bool {
    let point = public.to_sec1_point(false);
    UnparsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, point.as_bytes())
        .verify(message, &signature.to_bytes())
        .is_ok()
}

/// A public key parsed once for many verifications.
pub(crate) struct Verifier(ParsedPublicKey);

impl Verifier {
    pub(crate) fn new(public: &PublicKey) -> Result<Self, Error> {
        ParsedPublicKey::new(
            &ECDSA_P256_SHA256_FIXED,
            public.to_sec1_point(false).as_bytes(),
        )
        .map(Self)
        .map_err(|error| Error::Internal {
            action: "preparing a public key",
            reason: error.to_string(),
        })
    }

    /// Whether `signature` is one of the SHA-256 `digest`.
    pub(crate) fn accepts(&self, digest: &Digest, signature: &Signature) -> bool {
        self.0
            .verify_digest_sig(digest, &signature.to_bytes())
            .is_ok()
    }
}
