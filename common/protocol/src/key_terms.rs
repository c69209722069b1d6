//! The symmetric keys that an entitlement brings, and what each may be used for. Officers see the terms; the key itself is
//! encrypted to the vault alone.
//!
//! ```cddl
//! key-terms = {
//!   1: tstr .regexp "[a-z0-9-]{1,28}", ; label; in the token: "key-<label>"
//!   2: "AES-256" / "HMAC-SHA-256",     ; algorithm
//!   3: key-use,
//!   ? 4: uint,                         ; uses at most, under this entitlement; with "derive-device-secret" alone
//!   ? 5: unix-time,                    ; until, exclusive; absent: as long as the entitlement
//!   ? 6: [1*32 sku],                   ; products; absent: every one of the entitlement
//!   7: bool,                           ; whether it may pass through the vault's memory where its token cannot unwrap it
//!   8: bstr .size 32,                  ; check value: derive(key, "mintmark key check", empty)
//!   9: bstr .cbor key-delivery,
//! }
//! key-use = "derive-device-secret"     ; a secret per device, each counted
//!   / "hold"                           ; the key is for other software on the token, and its uses are not counted here
//! ```

use std::collections::BTreeSet;
use std::fmt;
use std::str::FromStr;

use ciborium::Value;

use crate::Error;
use crate::cbor::{Fields, Map};
use crate::entitlement::PRODUCTS_MAX;
use crate::identifier::{KeyLabel, Sku};

/// The most keys of one entitlement.
pub const KEYS_MAX: usize = 16;
const WHAT: &str = "key of an entitlement";

/// What kind of key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum KeyAlgorithm {
    /// AES with 256 bits (FIPS 197).
    Aes256,
    /// HMAC with SHA-256 and 256 bits (RFC 2104).
    HmacSha256,
}

impl KeyAlgorithm {
    const ALL: [Self; 2] = [Self::Aes256, Self::HmacSha256];

    /// Its name in policies and messages.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Aes256 => "AES-256",
            Self::HmacSha256 => "HMAC-SHA-256",
        }
    }
}

impl fmt::Display for KeyAlgorithm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for KeyAlgorithm {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let found = Self::ALL.into_iter().find(|known| known.as_str() == text);
        found.ok_or_else(|| format!("`{}` is not AES-256 or HMAC-SHA-256", text.escape_default()))
    }
}

/// What a key is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum KeyUse {
    /// A secret per device, each of them logged and counted.
    DeriveDeviceSecret,
    /// Other software on the token uses it; its uses are neither seen nor counted here.
    Hold,
}

impl KeyUse {
    const ALL: [Self; 2] = [Self::DeriveDeviceSecret, Self::Hold];

    /// Its name in policies and messages.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::DeriveDeviceSecret => "derive-device-secret",
            Self::Hold => "hold",
        }
    }
}

impl fmt::Display for KeyUse {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for KeyUse {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let found = Self::ALL.into_iter().find(|known| known.as_str() == text);
        found.ok_or_else(|| {
            format!(
                "`{}` is not derive-device-secret or hold",
                text.escape_default()
            )
        })
    }
}

/// One key of an entitlement.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyTerms {
    /// Its name, unique in the entitlement. Entitlements of one vault that name one label share the key.
    pub label: KeyLabel,
    /// What kind of key it is.
    pub algorithm: KeyAlgorithm,
    /// What it is for.
    pub usage: KeyUse,
    /// How often it may be used under this entitlement; none: as often as units allow.
    pub uses_max: Option<u64>,
    /// From when on it is not used any more, Unix seconds.
    pub until: Option<u64>,
    /// For which products; none: every one of the entitlement.
    pub products: Option<Vec<Sku>>,
    /// Whether it may pass through the vault's memory where its token cannot unwrap it.
    pub memory_import: bool,
    /// What tells that the token holds the right key: derive(key, "mintmark key check", empty).
    pub check_value: [u8; 32],
    /// The key, encrypted to the vault: [`crate::key_delivery`].
    pub delivery: Vec<u8>,
}

impl KeyTerms {
    /// Whether a secret derived from it goes with each device of this product.
    pub fn derives_for(&self, sku: &Sku) -> bool {
        self.usage == KeyUse::DeriveDeviceSecret
            && self
                .products
                .as_ref()
                .is_none_or(|products| products.contains(sku))
    }

    fn to_map(&self) -> Map {
        let products = self.products.as_ref().map(|products| {
            Value::Array(
                products
                    .iter()
                    .map(|sku| Value::from(sku.as_str()))
                    .collect(),
            )
        });
        Map::new()
            .with(1, self.label.as_str())
            .with(2, self.algorithm.as_str())
            .with(3, self.usage.as_str())
            .with_some(4, self.uses_max)
            .with_some(5, self.until)
            .with_some(6, products)
            .with(7, self.memory_import)
            .with(8, self.check_value.to_vec())
            .with(9, self.delivery.clone())
    }

    fn read(value: Value) -> Result<Self, Error> {
        let mut fields = Fields::new(WHAT, value)?;
        let memory_import = fields.required(7)?.as_bool();
        let products = match fields.optional(6) {
            None => None,
            Some(value) => {
                let mut wrapped = Fields::new(WHAT, Map::new().with(6, value).value())?;
                let products: Vec<Sku> = wrapped.texts(6, PRODUCTS_MAX)?;
                if products.is_empty() {
                    return Err(fields.wrong(6, "it is for no product"));
                }
                Some(products)
            }
        };
        let terms = Self {
            label: fields.parse(1)?,
            algorithm: fields.parse(2)?,
            usage: fields.parse(3)?,
            uses_max: fields.optional_uint(4)?,
            until: fields.optional_uint(5)?,
            products,
            memory_import: memory_import
                .ok_or_else(|| fields.wrong(7, "true or false was expected"))?,
            check_value: fields
                .bytes(8)?
                .try_into()
                .map_err(|_| fields.wrong(8, "32 bytes were expected"))?,
            delivery: fields.bytes(9)?,
        };
        if terms.usage == KeyUse::Hold && terms.uses_max.is_some() {
            return Err(fields.wrong(4, "the uses of a key that is only held are not counted"));
        }
        fields.finish()?;
        Ok(terms)
    }
}

/// The field of an entitlement; none where it brings no key.
pub(crate) fn to_value(keys: &[KeyTerms]) -> Option<Value> {
    let maps = keys.iter().map(|key| key.to_map().value());
    (!keys.is_empty()).then(|| Value::Array(maps.collect()))
}

pub(crate) fn from_value(value: Option<Value>) -> Result<Vec<KeyTerms>, Error> {
    let Some(value) = value else {
        return Ok(Vec::new());
    };
    let mut fields = Fields::new(WHAT, Map::new().with(14, value).value())?;
    let keys: Vec<KeyTerms> = fields
        .array(14, KEYS_MAX)?
        .into_iter()
        .map(KeyTerms::read)
        .collect::<Result<_, _>>()?;
    if keys.is_empty() {
        return Err(fields.wrong(14, "an empty list of keys is left out"));
    }
    let mut labels = BTreeSet::new();
    if !keys.iter().all(|key| labels.insert(&key.label)) {
        return Err(fields.wrong(14, "two of its keys share a label"));
    }
    Ok(keys)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::entitlement::{Entitlement, tests::example};

    pub(crate) fn key(label: &str) -> KeyTerms {
        KeyTerms {
            label: label.parse().unwrap(),
            algorithm: KeyAlgorithm::HmacSha256,
            usage: KeyUse::DeriveDeviceSecret,
            uses_max: Some(50),
            until: Some(35),
            products: Some(vec!["TH-200".parse().unwrap()]),
            memory_import: false,
            check_value: [3; 32],
            delivery: vec![1, 2, 3],
        }
    }

    fn with_keys(keys: Vec<KeyTerms>) -> Result<Entitlement, Error> {
        let entitlement = Entitlement { keys, ..example() };
        Entitlement::from_cbor(&entitlement.to_cbor())
    }

    #[test]
    fn keys_survive_the_encoding_of_their_entitlement() {
        let held = KeyTerms {
            algorithm: KeyAlgorithm::Aes256,
            usage: KeyUse::Hold,
            uses_max: None,
            until: None,
            products: None,
            memory_import: true,
            ..key("firmware")
        };
        let keys = vec![key("service"), held];
        assert_eq!(with_keys(keys.clone()).unwrap().keys, keys);
        let (th200, th300) = ("TH-200".parse().unwrap(), "TH-300".parse().unwrap());
        assert!(keys[0].derives_for(&th200) && !keys[0].derives_for(&th300));
        assert!(!keys[1].derives_for(&th200));
    }

    #[test]
    fn keys_that_contradict_themselves_are_refused() {
        let refused = |keys| with_keys(keys).unwrap_err().to_string();
        assert!(refused(vec![key("a"), key("a")]).contains("share a label"));
        let counted = KeyTerms {
            usage: KeyUse::Hold,
            ..key("a")
        };
        assert!(refused(vec![counted]).contains("not counted"));
        let elsewhere = KeyTerms {
            products: Some(vec!["TH-900".parse().unwrap()]),
            ..key("a")
        };
        assert!(refused(vec![elsewhere]).contains("does not name"));
        let none = KeyTerms {
            products: Some(Vec::new()),
            ..key("a")
        };
        assert!(refused(vec![none]).contains("no product"));
    }
}
