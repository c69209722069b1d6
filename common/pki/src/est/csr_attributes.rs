//! What an EST server asks requests to be like.

use super::check_size;
use crate::element::{self, Element, Elements, Fault, INTEGER, OBJECT_IDENTIFIER, SEQUENCE, SET};
use crate::encoding::Encoder;
use crate::error::{Error, Object};
use crate::{KeyAlgorithm, oid};

/// Largest list of CSR attributes that is read, as DER.
pub const CSR_ATTRIBUTES_DER_BYTES_MAX: usize = 16 * 1024;

/// What a server asks requests to be like (RFC 7030 section 4.5.2 as RFC 9908 section 3.2 clarifies it).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CsrAttributes {
    /// The subject has a serialNumber attribute, which is the device's identifier.
    pub subject_serial_number: bool,
    /// The request has a challengePassword, which links it to its TLS connection (RFC 7030 section 3.5).
    pub challenge_password: bool,
    /// The kinds of keys, the preferred one first; `None` if nothing is asked of the key. Where none is in the list,
    /// something is asked that this program does not know.
    pub keys: Option<Vec<KeyAlgorithm>>,
}

impl CsrAttributes {
    /// The DER of `application/csrattrs`.
    ///
    /// RFC 9908 section 3.2 has exactly one attribute for the key. So it names the type of the first of `keys`, and
    /// with it those curves or sizes among `keys` that are of this type: whoever follows it makes a key that is
    /// accepted. Other types that are accepted, too, cannot be said beside it.
    pub fn to_der(&self) -> Vec<u8> {
        let mut encoder = Encoder::with_capacity(128);
        encoder.nested(SEQUENCE, |list| {
            if self.challenge_password {
                list.primitive(OBJECT_IDENTIFIER, oid::CHALLENGE_PASSWORD);
            }
            if self.subject_serial_number {
                list.primitive(OBJECT_IDENTIFIER, oid::SERIAL_NUMBER);
            }
            let keys = self.keys.as_deref().unwrap_or_default();
            if let Some(first) = keys.first() {
                let (key_type, mut values) = (key_type(*first), Vec::new());
                let same_type = keys.iter().filter(|key| self::key_type(**key) == key_type);
                for key in same_type {
                    match key_parameter(*key) {
                        Some(value) => values.push(value),
                        // Any size is accepted, so none is stated.
                        None => {
                            values.clear();
                            break;
                        }
                    }
                }
                // A set is in the order of its encodings (X.690 section 11.6).
                values.sort_unstable();
                values.dedup();
                list.nested(SEQUENCE, |attribute| {
                    attribute.primitive(OBJECT_IDENTIFIER, key_type);
                    attribute.nested(SET, |set| values.iter().for_each(|value| set.raw(value)));
                });
            }
        });
        encoder.finish()
    }

    /// Reads `application/csrattrs`. Attributes that are not known here are passed over, a template (RFC 9908 section
    /// 3.4) among them, and so are hash functions: a request is signed with the one that fits its key.
    ///
    /// # Errors
    /// `EST-ANSWER-EMPTY`, `EST-ANSWER-TOO-LARGE`, `EST-ANSWER-TOO-DEEP`, `EST-ANSWER-MALFORMED`.
    pub fn from_der(der: &[u8]) -> Result<Self, Error> {
        let object = Object::CsrAttributes;
        check_size(der, object, CSR_ATTRIBUTES_DER_BYTES_MAX)?;
        element::scan(der, 0)
            .and_then(|()| Self::read(der))
            .map_err(|fault| fault.of(object))
    }

    fn read(der: &[u8]) -> Result<Self, Fault> {
        let mut found = Self::default();
        let mut each = Elements::new(der, 0)
            .take(SEQUENCE, "the attributes are a sequence")?
            .inside();
        while !each.is_empty() {
            // AttrOrOID: a type alone, or a type and its values.
            let item = each.any("an attribute is missing")?;
            let (id, values) = match item.tag {
                OBJECT_IDENTIFIER => (item.content(), None),
                SEQUENCE => {
                    let mut fields = item.inside();
                    let id = fields.take(OBJECT_IDENTIFIER, "the attribute's type is missing")?;
                    let values = fields.take(SET, "the attribute's values are missing")?;
                    fields.end("something follows the attribute's values")?;
                    (id.content(), Some(values))
                }
                _ => return Err(item.fault("this is neither an attribute nor its type")),
            };
            match id {
                oid::SERIAL_NUMBER => found.subject_serial_number = true,
                oid::CHALLENGE_PASSWORD => found.challenge_password = true,
                oid::EC_PUBLIC_KEY | oid::RSA_ENCRYPTION | oid::ED25519 => {
                    let keys = found.keys.get_or_insert_default();
                    for key in keys_of(id, values)? {
                        if !keys.contains(&key) {
                            keys.push(key);
                        }
                    }
                }
                _ => {}
            }
        }
        Ok(found)
    }
}

fn key_type(key: KeyAlgorithm) -> &'static [u8] {
    match key {
        KeyAlgorithm::P256 | KeyAlgorithm::P384 => oid::EC_PUBLIC_KEY,
        KeyAlgorithm::Ed25519 => oid::ED25519,
        KeyAlgorithm::Rsa2048
        | KeyAlgorithm::Rsa3072
        | KeyAlgorithm::Rsa4096
        | KeyAlgorithm::Rsa
        | KeyAlgorithm::RsaOfBits(_) => oid::RSA_ENCRYPTION,
    }
}

/// The curve or the size in bits, as DER; `None` where the type says everything.
fn key_parameter(key: KeyAlgorithm) -> Option<Vec<u8>> {
    let mut encoder = Encoder::with_capacity(16);
    let mut bits = |bits: u16| encoder.unsigned(&bits.to_be_bytes());
    match key {
        KeyAlgorithm::Rsa2048 => bits(2048),
        KeyAlgorithm::Rsa3072 => bits(3072),
        KeyAlgorithm::Rsa4096 => bits(4096),
        KeyAlgorithm::RsaOfBits(size) => bits(size),
        KeyAlgorithm::P256 => encoder.primitive(OBJECT_IDENTIFIER, oid::PRIME256V1),
        KeyAlgorithm::P384 => encoder.primitive(OBJECT_IDENTIFIER, oid::SECP384R1),
        KeyAlgorithm::Ed25519 | KeyAlgorithm::Rsa => return None,
    }
    Some(encoder.finish())
}

/// The kinds of keys that an attribute asks for, as far as they are known here.
fn keys_of(id: &[u8], values: Option<Element<'_>>) -> Result<Vec<KeyAlgorithm>, Fault> {
    let Some(values) = values.filter(|values| !values.content().is_empty()) else {
        return Ok(match id {
            oid::EC_PUBLIC_KEY => vec![KeyAlgorithm::P256, KeyAlgorithm::P384],
            oid::ED25519 => vec![KeyAlgorithm::Ed25519],
            _ => vec![KeyAlgorithm::Rsa],
        });
    };
    let mut keys = Vec::new();
    let mut each = values.inside();
    while !each.is_empty() {
        let value = each.any("a value is missing")?;
        let known = match (id, value.tag, value.content()) {
            (oid::EC_PUBLIC_KEY, OBJECT_IDENTIFIER, oid::PRIME256V1) => Some(KeyAlgorithm::P256),
            (oid::EC_PUBLIC_KEY, OBJECT_IDENTIFIER, oid::SECP384R1) => Some(KeyAlgorithm::P384),
            (oid::RSA_ENCRYPTION, INTEGER, [high @ 0..0x80, low]) => {
                match u16::from_be_bytes([*high, *low]) {
                    2048 => Some(KeyAlgorithm::Rsa2048),
                    3072 => Some(KeyAlgorithm::Rsa3072),
                    4096 => Some(KeyAlgorithm::Rsa4096),
                    bits @ 2048..=8192 => Some(KeyAlgorithm::RsaOfBits(bits)),
                    _ => None,
                }
            }
            _ => None,
        };
        keys.extend(known);
    }
    Ok(keys)
}
