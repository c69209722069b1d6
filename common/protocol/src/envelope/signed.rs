//! What one key signs: COSE_Sign1 (RFC 9052 section 4.2), with ES256.

use coset::{CoseSign1, TaggedCborSerializable as _};
use p256::PublicKey;

use super::header::header_map;
use super::{
    Context, ES256, Sign, TAG_SIGN1, X5CHAIN, as_received, check, decode_header, expect_empty,
    expect_tag, not_cose, protected,
};
use crate::Error;
use crate::identifier::{Fingerprint, KeyId};
use crate::key::thumbprint;

/// A COSE_Sign1 that was read strictly and not verified.
pub(crate) struct SignedOne {
    pub(crate) context: Context,
    pub(crate) certificate: Option<Vec<u8>>,
    key: KeyId,
    cose: CoseSign1,
    what: &'static str,
}

impl SignedOne {
    /// Reads a tagged COSE_Sign1.
    pub(crate) fn read(what: &'static str, bytes: &[u8], bytes_max: usize) -> Result<Self, Error> {
        check(what, bytes, bytes_max)?;
        expect_tag(what, bytes, TAG_SIGN1)?;
        let cose = CoseSign1::from_tagged_slice(bytes).map_err(|error| not_cose(what, &error))?;
        expect_empty(what, &cose.unprotected)?;
        let header = decode_header(
            what,
            as_received(what, &cose.protected)?,
            Some(ES256),
            true,
            false,
        )?;
        let key = header.key.ok_or(Error::Header {
            what,
            why: "no key id".to_owned(),
        })?;
        if cose.payload.is_none() {
            return Err(Error::Shape {
                what,
                why: "the payload is detached".to_owned(),
            });
        }
        Ok(Self {
            context: header.context,
            certificate: header.certificate,
            key,
            cose,
            what,
        })
    }

    pub(crate) fn payload(&self) -> &[u8] {
        self.cose.payload.as_deref().unwrap_or_default()
    }

    pub(crate) fn fingerprint(&self) -> Fingerprint {
        Fingerprint::of(self.payload())
    }

    /// Verifies it against the one key that may have signed it.
    pub(crate) fn verify(&self, key: &PublicKey) -> Result<(), Error> {
        if thumbprint(key) != self.key {
            return Err(Error::SignerUnknown {
                what: self.what,
                key: self.key.to_string(),
            });
        }
        verify_es256(
            self.what,
            key,
            &self.cose.tbs_data(&[]),
            &self.cose.signature,
        )
    }
}

/// Verifies an ES256 signature over `message` (RFC 9053 section 2.1).
pub(crate) fn verify_es256(
    what: &'static str,
    key: &PublicKey,
    message: &[u8],
    signature: &[u8],
) -> Result<(), Error> {
    use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED, UnparsedPublicKey};
    let point = key.to_sec1_bytes();
    UnparsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, &point)
        .verify(message, signature)
        .map_err(|_| Error::SignatureInvalid { what })
}

/// Makes a tagged COSE_Sign1.
pub(crate) fn sign_one(
    context: &Context,
    payload: Vec<u8>,
    key: &PublicKey,
    sign: Sign<'_>,
) -> Result<Vec<u8>, Error> {
    sign_with_certificate(context, payload, key, None, sign)
}

/// Makes a tagged COSE_Sign1 that carries its signer's certificate (DER).
pub(crate) fn sign_with_certificate(
    context: &Context,
    payload: Vec<u8>,
    key: &PublicKey,
    certificate: Option<&[u8]>,
    sign: Sign<'_>,
) -> Result<Vec<u8>, Error> {
    let header = header_map(context, Some(ES256), Some(&thumbprint(key)), false)
        .with_some(X5CHAIN, certificate.map(<[u8]>::to_vec))
        .encode();
    let mut cose = CoseSign1 {
        protected: protected(header),
        payload: Some(payload),
        ..CoseSign1::default()
    };
    let signature = sign(&cose.tbs_data(&[])).map_err(Error::KeyOperation)?;
    cose.signature = signature.to_bytes().to_vec();
    tagged("message", cose.to_tagged_vec())
}

/// What a coset writer returned; it fails only where a value has no encoding, which ours all have.
pub(crate) fn tagged(
    what: &'static str,
    written: Result<Vec<u8>, coset::CoseError>,
) -> Result<Vec<u8>, Error> {
    written.map_err(|error| not_cose(what, &error))
}
