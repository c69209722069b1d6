//! Public keys and signatures of the kinds that are accepted, and only in their canonical encodings.

use std::fmt;
use std::str::FromStr;

use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_ASN1, ECDSA_P256_SHA256_FIXED, ECDSA_P256_SHA384_ASN1,
    ECDSA_P256_SHA512_ASN1, ECDSA_P384_SHA256_ASN1, ECDSA_P384_SHA384_ASN1, ECDSA_P384_SHA512_ASN1,
    ED25519, ParsedPublicKey, RSA_PKCS1_2048_8192_SHA256, RSA_PKCS1_2048_8192_SHA384,
    RSA_PKCS1_2048_8192_SHA512, UnparsedPublicKey, VerificationAlgorithm,
};

use crate::element::{
    self, BIT_STRING, Element, Fault, INTEGER, NULL, OBJECT_IDENTIFIER, SEQUENCE,
};
use crate::error::{Error, Object};
use crate::oid;

/// The algorithm and size of a device's key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum KeyAlgorithm {
    /// ECDSA on NIST P-256 (secp256r1).
    P256,
    /// ECDSA on NIST P-384 (secp384r1).
    P384,
    /// Ed25519 (RFC 8410).
    Ed25519,
    /// RSA with a modulus of exactly 2048 bits.
    Rsa2048,
    /// RSA with a modulus of exactly 3072 bits.
    Rsa3072,
    /// RSA with a modulus of exactly 4096 bits.
    Rsa4096,
    /// RSA with a modulus of 2048 to 8192 bits, as a policy allows it; no key is said to be this.
    Rsa,
    /// RSA with a modulus of this many other bits, 2048 to 8192, as a key is; no policy names it.
    RsaOfBits(u16),
}

/// The bits of an RSA modulus that is accepted.
const RSA_BITS: std::ops::RangeInclusive<usize> = 2048..=8192;

impl KeyAlgorithm {
    /// All that a policy may name, in the order in which they are listed to people.
    pub const ALL: [Self; 7] = [
        Self::P256,
        Self::P384,
        Self::Ed25519,
        Self::Rsa2048,
        Self::Rsa3072,
        Self::Rsa4096,
        Self::Rsa,
    ];

    /// The name that policies use, such as `P-256` or `RSA-2048`; of a key of an odd size the one that allows it, `RSA`.
    pub fn name(self) -> &'static str {
        match self {
            Self::P256 => "P-256",
            Self::P384 => "P-384",
            Self::Ed25519 => "Ed25519",
            Self::Rsa2048 => "RSA-2048",
            Self::Rsa3072 => "RSA-3072",
            Self::Rsa4096 => "RSA-4096",
            Self::Rsa | Self::RsaOfBits(_) => "RSA",
        }
    }

    /// Whether a policy that names this allows a key that is `found`: `RSA` allows RSA keys of every accepted size, the
    /// others allow what they name.
    pub fn allows(self, found: Self) -> bool {
        self == found || (self == Self::Rsa && found.is_rsa())
    }

    /// Whether it is RSA, of whatever size.
    pub fn is_rsa(self) -> bool {
        matches!(
            self,
            Self::Rsa2048 | Self::Rsa3072 | Self::Rsa4096 | Self::Rsa | Self::RsaOfBits(_)
        )
    }
}

impl fmt::Display for KeyAlgorithm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::RsaOfBits(bits) => f.pad(&format!("RSA-{bits}")),
            named => f.pad(named.name()),
        }
    }
}

impl FromStr for KeyAlgorithm {
    type Err = Error;

    fn from_str(name: &str) -> Result<Self, Error> {
        Self::ALL
            .into_iter()
            .find(|algorithm| algorithm.name() == name)
            .ok_or_else(|| Error::KeyAlgorithmUnknown {
                found: name.chars().take(64).collect(),
            })
    }
}

/// A signature algorithm that is accepted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum SignatureAlgorithm {
    EcdsaSha256,
    EcdsaSha384,
    EcdsaSha512,
    Ed25519,
    RsaSha256,
    RsaSha384,
    RsaSha512,
}

impl SignatureAlgorithm {
    /// Reads an AlgorithmIdentifier.
    pub(crate) fn read(identifier: &Element<'_>, object: Object) -> Result<Self, Error> {
        let mut fields = identifier.inside();
        let algorithm = fields
            .take(OBJECT_IDENTIFIER, "the signature algorithm is missing")
            .map_err(|fault| fault.of(object))?;
        let parameters = fields.tag();
        let id = algorithm.content();
        let found = match id {
            oid::ECDSA_WITH_SHA256 => Self::EcdsaSha256,
            oid::ECDSA_WITH_SHA384 => Self::EcdsaSha384,
            oid::ECDSA_WITH_SHA512 => Self::EcdsaSha512,
            oid::ED25519 => Self::Ed25519,
            oid::SHA256_WITH_RSA => Self::RsaSha256,
            oid::SHA384_WITH_RSA => Self::RsaSha384,
            oid::SHA512_WITH_RSA => Self::RsaSha512,
            _ => {
                return Err(Error::SignatureAlgorithm {
                    object,
                    found: oid::name(id),
                });
            }
        };
        // RFC 5758 section 3.2 and RFC 8410 section 3: absent. RFC 4055 section 5: NULL, and absent must be accepted.
        let in_order = match found {
            Self::RsaSha256 | Self::RsaSha384 | Self::RsaSha512 => {
                let null = fields
                    .take_optional(NULL)
                    .map_err(|fault| fault.of(object))?;
                parameters.is_none() || null.is_some()
            }
            _ => parameters.is_none(),
        };
        if !in_order || !fields.is_empty() {
            return Err(Error::SignatureAlgorithm {
                object,
                found: format!("{} with parameters that it does not take", oid::name(id)),
            });
        }
        Ok(found)
    }

    pub(crate) fn name(self) -> String {
        oid::name(match self {
            Self::EcdsaSha256 => oid::ECDSA_WITH_SHA256,
            Self::EcdsaSha384 => oid::ECDSA_WITH_SHA384,
            Self::EcdsaSha512 => oid::ECDSA_WITH_SHA512,
            Self::Ed25519 => oid::ED25519,
            Self::RsaSha256 => oid::SHA256_WITH_RSA,
            Self::RsaSha384 => oid::SHA384_WITH_RSA,
            Self::RsaSha512 => oid::SHA512_WITH_RSA,
        })
    }
}

/// A SubjectPublicKeyInfo (RFC 5280 section 4.1.2.7) of an accepted kind. An elliptic-curve point has its form
/// checked here; that it lies on its curve, the library checks that uses it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct PublicKeyInfo<'a> {
    pub(crate) algorithm: KeyAlgorithm,
    /// The octets of the BIT STRING: point, Ed25519 key, or RSAPublicKey.
    pub(crate) key: &'a [u8],
}

impl<'a> PublicKeyInfo<'a> {
    /// Reads the key of an `object` that [`element::scan`] has let through.
    pub(crate) fn read(info: &Element<'a>, object: Object) -> Result<Self, Error> {
        let malformed = |fault: Fault| fault.of(object);
        let unsupported = |found: String| Error::KeyUnsupported { object, found };
        let mut fields = info.inside();
        let identifier = fields
            .take(SEQUENCE, "the key's algorithm is missing")
            .map_err(malformed)?;
        let bits = fields
            .take(BIT_STRING, "the key is missing")
            .map_err(malformed)?;
        fields.end("something follows the key").map_err(malformed)?;
        let (key, key_position) = bits.whole_octets().map_err(malformed)?;

        let mut fields = identifier.inside();
        let algorithm = fields
            .take(OBJECT_IDENTIFIER, "the key's algorithm is missing")
            .map_err(malformed)?;
        let parameters = if fields.is_empty() {
            None
        } else {
            Some(fields.any("").map_err(malformed)?)
        };
        fields
            .end("something follows the key's algorithm")
            .map_err(malformed)?;
        let algorithm = match (algorithm.content(), parameters) {
            (oid::EC_PUBLIC_KEY, Some(parameters)) => {
                let (algorithm, point_bytes) = match (parameters.tag, parameters.content()) {
                    (OBJECT_IDENTIFIER, oid::PRIME256V1) => (KeyAlgorithm::P256, 65),
                    (OBJECT_IDENTIFIER, oid::SECP384R1) => (KeyAlgorithm::P384, 97),
                    (OBJECT_IDENTIFIER, curve) => return Err(unsupported(oid::name(curve))),
                    (SEQUENCE, _) => {
                        return Err(unsupported(
                            "an EC key with explicit parameters instead of a named curve"
                                .to_owned(),
                        ));
                    }
                    _ => return Err(unsupported("an EC key without its curve".to_owned())),
                };
                match key.first() {
                    Some(0x04) if key.len() == point_bytes => algorithm,
                    Some(0x02 | 0x03) => {
                        return Err(unsupported(format!(
                            "a compressed point on {algorithm}; only an uncompressed one is taken"
                        )));
                    }
                    _ => {
                        return Err(unsupported(format!(
                            "{} bytes that are no uncompressed point on {algorithm}",
                            key.len()
                        )));
                    }
                }
            }
            (oid::EC_PUBLIC_KEY, None) => {
                return Err(unsupported("an EC key without its curve".to_owned()));
            }
            (oid::ED25519, None) => {
                check_ed25519(key).map_err(unsupported)?;
                KeyAlgorithm::Ed25519
            }
            (oid::RSA_ENCRYPTION, Some(parameters)) if parameters.tag == NULL => {
                rsa(key, key_position, object)?
            }
            (id @ (oid::ED25519 | oid::RSA_ENCRYPTION), _) => {
                return Err(unsupported(format!(
                    "an {} key whose algorithm parameters are not as they must be",
                    oid::name(id)
                )));
            }
            (id, _) => return Err(unsupported(oid::name(id))),
        };
        Ok(Self { algorithm, key })
    }

    /// Verifies `signature` over `message`, both as received.
    pub(crate) fn verify(
        &self,
        algorithm: SignatureAlgorithm,
        message: &[u8],
        signature: &[u8],
        object: Object,
    ) -> Result<(), Error> {
        use KeyAlgorithm::{P256, P384};
        use SignatureAlgorithm as S;
        let verifier: &'static dyn VerificationAlgorithm = match (self.algorithm, algorithm) {
            (P256, S::EcdsaSha256) => &ECDSA_P256_SHA256_ASN1,
            (P256, S::EcdsaSha384) => &ECDSA_P256_SHA384_ASN1,
            (P256, S::EcdsaSha512) => &ECDSA_P256_SHA512_ASN1,
            (P384, S::EcdsaSha256) => &ECDSA_P384_SHA256_ASN1,
            (P384, S::EcdsaSha384) => &ECDSA_P384_SHA384_ASN1,
            (P384, S::EcdsaSha512) => &ECDSA_P384_SHA512_ASN1,
            (KeyAlgorithm::Ed25519, S::Ed25519) => &ED25519,
            (rsa, S::RsaSha256) if rsa.is_rsa() => &RSA_PKCS1_2048_8192_SHA256,
            (rsa, S::RsaSha384) if rsa.is_rsa() => &RSA_PKCS1_2048_8192_SHA384,
            (rsa, S::RsaSha512) if rsa.is_rsa() => &RSA_PKCS1_2048_8192_SHA512,
            (key, signature) => {
                return Err(Error::SignatureAlgorithm {
                    object,
                    found: format!("{}, by a key that is {key}", signature.name()),
                });
            }
        };
        if UnparsedPublicKey::new(verifier, self.key)
            .verify(message, signature)
            .is_ok()
        {
            return Ok(());
        }
        // Only now, off the fast path, is it asked whether the key itself was at fault.
        Err(match ParsedPublicKey::new(verifier, self.key) {
            Ok(_) => Error::SignatureInvalid {
                object,
                by: "its subject",
            },
            Err(_) => Error::KeyUnsupported {
                object,
                found: format!(
                    "{} bytes that are no valid {} key",
                    self.key.len(),
                    self.algorithm
                ),
            },
        })
    }
}

/// y-coordinates, sign bit cleared, of the points whose order divides 8. A signature by such a "key" can be made by
/// anyone, so it proves nothing.
const ED25519_SMALL_ORDER: [[u8; 32]; 5] = [
    [0; 32],
    [
        1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0,
        0, 0,
    ],
    [
        0x26, 0xe8, 0x95, 0x8f, 0xc2, 0xb2, 0x27, 0xb0, 0x45, 0xc3, 0xf4, 0x89, 0xf2, 0xef, 0x98,
        0xf0, 0xd5, 0xdf, 0xac, 0x05, 0xd3, 0xc6, 0x33, 0x39, 0xb1, 0x38, 0x02, 0x88, 0x6d, 0x53,
        0xfc, 0x05,
    ],
    [
        0xc7, 0x17, 0x6a, 0x70, 0x3d, 0x4d, 0xd8, 0x4f, 0xba, 0x3c, 0x0b, 0x76, 0x0d, 0x10, 0x67,
        0x0f, 0x2a, 0x20, 0x53, 0xfa, 0x2c, 0x39, 0xcc, 0xc6, 0x4e, 0xc7, 0xfd, 0x77, 0x92, 0xac,
        0x03, 0x7a,
    ],
    [
        0xec, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff,
        0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff,
        0xff, 0x7f,
    ],
];

fn check_ed25519(key: &[u8]) -> Result<(), String> {
    let Ok(mut y) = <[u8; 32]>::try_from(key) else {
        return Err(format!("an Ed25519 key of {} bytes", key.len()));
    };
    y[31] &= 0x7f;
    // RFC 8032 section 5.1.3: y below p = 2^255 - 19.
    if y[0] >= 0xed && y[31] == 0x7f && y[1..31].iter().all(|octet| *octet == 0xff) {
        return Err("an Ed25519 key that is not in its canonical form".to_owned());
    }
    if ED25519_SMALL_ORDER.contains(&y) {
        return Err("an Ed25519 key of small order, with which anyone can sign".to_owned());
    }
    Ok(())
}

/// Reads an RSAPublicKey (RFC 8017 appendix A.1.1).
fn rsa(key: &[u8], position: usize, object: Object) -> Result<KeyAlgorithm, Error> {
    let malformed = |fault: Fault| fault.of(object);
    let unsupported = |found: String| Error::KeyUnsupported { object, found };
    element::scan(key, position).map_err(malformed)?;
    let mut outside = element::Elements::new(key, position);
    let mut fields = outside
        .take(SEQUENCE, "the RSA key is not a sequence")
        .map_err(malformed)?
        .inside();
    let modulus = fields
        .take(INTEGER, "the RSA modulus is missing")
        .map_err(malformed)?;
    let exponent = fields
        .take(INTEGER, "the RSA exponent is missing")
        .map_err(malformed)?;
    fields
        .end("something follows the RSA exponent")
        .map_err(malformed)?;

    let modulus = match modulus.content() {
        [0x00, magnitude @ ..] => magnitude,
        [0x01..0x80, ..] => modulus.content(),
        _ => return Err(unsupported("an RSA key with a negative modulus".to_owned())),
    };
    let bits = modulus.len() * 8
        - modulus
            .first()
            .map_or(0, |first| first.leading_zeros() as usize);
    let algorithm = match bits {
        2048 => KeyAlgorithm::Rsa2048,
        3072 => KeyAlgorithm::Rsa3072,
        4096 => KeyAlgorithm::Rsa4096,
        bits if RSA_BITS.contains(&bits) => {
            KeyAlgorithm::RsaOfBits(u16::try_from(bits).unwrap_or(u16::MAX))
        }
        _ => return Err(unsupported(format!("RSA-{bits}"))),
    };
    if modulus.last().is_none_or(|last| last & 1 == 0) {
        return Err(unsupported("an RSA key with an even modulus".to_owned()));
    }
    // FIPS 186-5 appendix A.1.1: odd and above 2^16. Above 2^33 the verifier refuses it.
    let exponent = match exponent.content() {
        magnitude @ [0x00..0x80, ..] if magnitude.len() <= 5 => magnitude
            .iter()
            .fold(0_u64, |number, octet| number << 8 | u64::from(*octet)),
        _ => 0,
    };
    if exponent & 1 == 0 || !(65_537..1 << 33).contains(&exponent) {
        return Err(unsupported(
            "an RSA key whose public exponent is not an odd number from 65537 to 2^33".to_owned(),
        ));
    }
    Ok(algorithm)
}

/// Whether `signature` (r and s, raw) is `public_key`'s over `message`, hashed with SHA-256. A high s is accepted,
/// as tokens make it.
pub fn verify_p256(
    public_key: &p256::PublicKey,
    message: &[u8],
    signature: &p256::ecdsa::Signature,
) -> bool {
    UnparsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, public_key.to_sec1_bytes())
        .verify(message, &signature.to_bytes())
        .is_ok()
}

#[cfg(test)]
mod judged;
