//! P-256 public keys as COSE_Key (RFC 9053 section 7.1.1) and their thumbprints (RFC 9679).
//!
//! ```cddl
//! COSE_Key = { 1: 2, -1: 1, -2: bstr .size 32, -3: bstr .size 32 }
//! key-id = bstr .size 32
//! ```

use ciborium::Value;
use elliptic_curve::sec1::ToSec1Point as _;
use p256::PublicKey;

use crate::Error;
use crate::cbor::{Fields, Map};
use crate::identifier::{Fingerprint, KeyId};

/// `kty: EC2`.
const KTY_EC2: u64 = 2;
/// `crv: P-256`.
const CRV_P256: u64 = 1;

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
}
