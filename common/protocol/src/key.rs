//! Public keys as COSE_Key (RFC 9053 section 7.1.1) and their thumbprints (RFC 9679). All keys of ours are on P-256; a
//! device's may be on P-384.
//!
//! ```cddl
//! COSE_Key = { 1: 2, -1: 1, -2: bstr .size 32, -3: bstr .size 32 }
//! COSE_Key_P384 = { 1: 2, -1: 2, -2: bstr .size 48, -3: bstr .size 48 }
//! key-id = bstr .size 32
//! ```

use ciborium::Value;
use elliptic_curve::sec1::ToSec1Point as _;
use p256::PublicKey;
use p256::pkcs8::{DecodePublicKey as _, EncodePublicKey as _};
use zeroize::Zeroizing;

use crate::Error;
use crate::cbor::{Fields, Map};
use crate::encryption::random;
use crate::identifier::{Fingerprint, KeyId};

/// `kty: EC2`.
const KTY_EC2: u64 = 2;
/// `crv: P-256`.
const CRV_P256: u64 = 1;
/// `crv: P-384`.
const CRV_P384: u64 = 2;

/// The COSE_Key of a public key: `{1: 2, -1: 1, -2: x, -3: y}`, nothing optional.
pub fn cose_key(key: &PublicKey) -> Value {
    let point = key.to_sec1_point(false);
    let bytes = point.as_bytes();
    // An uncompressed P-256 point is 0x04, x (32), y (32).
    let (x, y) = (&bytes[1..33], &bytes[33..65]);
    Map::new()
        .with(1, KTY_EC2)
        .with(-1, CRV_P256)
        .with(-2, x.to_vec())
        .with(-3, y.to_vec())
        .value()
}

/// Reads a COSE_Key as [`cose_key`] writes it; the point is checked to be on the curve.
///
/// # Errors
/// [`Error::Shape`] or [`Error::Key`].
pub fn from_cose_key(what: &'static str, value: Value) -> Result<PublicKey, Error> {
    let mut fields = Fields::new(what, value)?;
    let (kty, crv) = (fields.uint(1)?, fields.uint(-1)?);
    let x: [u8; 32] = fields.octets(-2)?;
    let y: [u8; 32] = fields.octets(-3)?;
    fields.finish()?;
    if kty != KTY_EC2 || crv != CRV_P256 {
        return Err(Error::Key { what });
    }
    let mut point = [4; 65];
    point[1..33].copy_from_slice(&x);
    point[33..].copy_from_slice(&y);
    PublicKey::from_sec1_bytes(&point).map_err(|_| Error::Key { what })
}

/// The key id of a public key: SHA-256 over its deterministic COSE_Key (RFC 9679 section 3).
pub fn thumbprint(key: &PublicKey) -> KeyId {
    KeyId::new(*Fingerprint::of(&crate::cbor::encode(&cose_key(key))).as_bytes())
}

/// A public key that something is encrypted to: one of ours, or a device's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AgreementKey {
    /// On P-256.
    P256(PublicKey),
    /// On P-384.
    P384(p384::PublicKey),
}

impl AgreementKey {
    /// The key of a SubjectPublicKeyInfo (DER), if it is on one of the two curves.
    pub fn from_spki(der: &[u8]) -> Option<Self> {
        if let Ok(key) = PublicKey::from_public_key_der(der) {
            return Some(Self::P256(key));
        }
        p384::PublicKey::from_public_key_der(der)
            .ok()
            .map(Self::P384)
    }

    /// SHA-256 of its SubjectPublicKeyInfo (DER).
    ///
    /// # Errors
    /// [`Error::Key`] if it has no encoding, which a key on either curve has.
    pub fn spki_sha256(&self) -> Result<Fingerprint, Error> {
        let der = match self {
            Self::P256(key) => key.to_public_key_der(),
            Self::P384(key) => key.to_public_key_der(),
        };
        let der = der.map_err(|_| Error::Key { what: "public key" })?;
        Ok(Fingerprint::of(der.as_bytes()))
    }

    /// Its COSE_Key, nothing optional.
    pub fn cose_key(&self) -> Value {
        match self {
            Self::P256(key) => cose_key(key),
            Self::P384(key) => {
                let point = key.to_sec1_point(false);
                // An uncompressed P-384 point is 0x04, x (48), y (48).
                let (x, y) = (&point.as_bytes()[1..49], &point.as_bytes()[49..97]);
                Map::new()
                    .with(1, KTY_EC2)
                    .with(-1, CRV_P384)
                    .with(-2, x.to_vec())
                    .with(-3, y.to_vec())
                    .value()
            }
        }
    }

    /// Its key id: SHA-256 over its deterministic COSE_Key (RFC 9679 section 3).
    pub fn thumbprint(&self) -> KeyId {
        KeyId::new(*Fingerprint::of(&crate::cbor::encode(&self.cose_key())).as_bytes())
    }

    /// Reads a COSE_Key on either curve; the point is checked to be on it.
    pub(crate) fn from_cose_key(what: &'static str, value: Value) -> Result<Self, Error> {
        let on_p384 = value.as_map().is_some_and(|fields| {
            let curve = fields
                .iter()
                .find(|(label, _)| label.as_integer() == Some((-1).into()));
            curve.is_some_and(|(_, curve)| curve.as_integer() == Some(CRV_P384.into()))
        });
        if !on_p384 {
            return from_cose_key(what, value).map(Self::P256);
        }
        let mut fields = Fields::new(what, value)?;
        let (kty, _) = (fields.uint(1)?, fields.uint(-1)?);
        let (x, y) = (fields.bytes(-2)?, fields.bytes(-3)?);
        fields.finish()?;
        if kty != KTY_EC2 || x.len() != 48 {
            return Err(Error::Key { what });
        }
        // Where y is not as long, this is no point.
        let point = [&[4], x.as_slice(), y.as_slice()].concat();
        let key = p384::PublicKey::from_sec1_bytes(&point).map_err(|_| Error::Key { what })?;
        Ok(Self::P384(key))
    }

    /// Agrees with a fresh ephemeral key. Gives its public half and the x-coordinate that both ends know.
    pub(crate) fn agree_once(&self) -> Result<(Self, Zeroizing<Vec<u8>>), Error> {
        // All but about 2^-32 of the candidates for P-256 are scalars, and all but about 2^-190 for P-384.
        match self {
            Self::P256(key) => loop {
                let candidate = Zeroizing::new(random::<32>()?);
                if let Ok(secret) = p256::SecretKey::from_slice(&*candidate) {
                    let shared = secret.diffie_hellman(key);
                    let shared = Zeroizing::new(shared.raw_secret_bytes().to_vec());
                    return Ok((Self::P256(secret.public_key()), shared));
                }
            },
            Self::P384(key) => loop {
                let candidate = Zeroizing::new(random::<48>()?);
                if let Ok(secret) = p384::SecretKey::from_slice(&*candidate) {
                    let shared = secret.diffie_hellman(key);
                    let shared = Zeroizing::new(shared.raw_secret_bytes().to_vec());
                    return Ok((Self::P384(secret.public_key()), shared));
                }
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_survives_its_cose_form_and_a_point_off_the_curve_does_not() {
        let secret = p256::SecretKey::from_slice(&[7; 32]).unwrap();
        let key = secret.public_key();
        assert_eq!(from_cose_key("test", cose_key(&key)).unwrap(), key);
        let off = Map::new()
            .with(1, 2)
            .with(-1, 1)
            .with(-2, vec![1; 32])
            .with(-3, vec![1; 32]);
        assert!(matches!(
            from_cose_key("test", off.value()),
            Err(Error::Key { .. })
        ));
    }

    #[test]
    fn a_key_on_the_other_curve_is_read_in_its_one_form() {
        let secret = p384::SecretKey::from_slice(&[7; 48]).unwrap();
        let key = AgreementKey::P384(secret.public_key());
        let point = secret.public_key().to_sec1_point(false);
        let read = |kty: u64, split: usize| {
            let (x, y) = point.as_bytes()[1..].split_at(split);
            let value = Map::new().with(1, kty).with(-1, 2);
            let value = value.with(-2, x.to_vec()).with(-3, y.to_vec());
            AgreementKey::from_cose_key("test", value.value()).ok()
        };
        assert_eq!(read(2, 48), Some(key));
        for (kty, split) in [(1, 48), (3, 48), (2, 47), (2, 49)] {
            assert_eq!(read(kty, split), None, "{kty} {split}");
        }
        assert_eq!(
            AgreementKey::from_cose_key("test", key.cose_key()).unwrap(),
            key
        );
    }
}
