//! One key of a policy: from its table to a [`KeyPolicy`].

use std::collections::BTreeMap;

use mintmark_protocol::identifier::{KeyLabel, Sku};
use toml::Spanned;

use super::document;
use super::parse::{COUNT, moment, number, read, value};
use super::source::Source;
use super::{KEYS_MAX, KeyPolicy, KeyUse, PolicyError, ProductPolicy};

pub(super) fn keys(
    source: Source<'_>,
    keys: &[Spanned<document::Key>],
    products: &[ProductPolicy],
) -> Result<Vec<KeyPolicy>, PolicyError> {
    if let Some(key) = keys.get(KEYS_MAX) {
        return Err(value(
            source,
            key,
            "[[key]]",
            format!("more than {KEYS_MAX} are given"),
        ));
    }
    let mut lines: BTreeMap<KeyLabel, usize> = BTreeMap::new();
    let mut all = Vec::with_capacity(keys.len());
    for found in keys {
        let key = key(source, found.get_ref(), products)?;
        let line = source.line(&found.get_ref().label);
        if let Some(line_before) = lines.insert(key.label.clone(), line) {
            return Err(PolicyError::KeyRepeated {
                line,
                line_before,
                label: key.label,
            });
        }
        all.push(key);
    }
    Ok(all)
}

fn key(
    source: Source<'_>,
    key: &document::Key,
    products: &[ProductPolicy],
) -> Result<KeyPolicy, PolicyError> {
    let usage = read(source, &key.usage, "use")?;
    let uses_max = match &key.uses_max {
        Some(uses_max) if usage == KeyUse::Hold => {
            let reason = "the uses of a key that is only held are not counted";
            return Err(value(source, uses_max, "uses_max", reason));
        }
        Some(uses_max) => Some(number(source, uses_max, "uses_max", COUNT)?),
        None => None,
    };
    let until = key.valid_until.as_ref();
    let named = key.products.as_ref();
    Ok(KeyPolicy {
        label: read(source, &key.label, "label")?,
        algorithm: read(source, &key.algorithm, "algorithm")?,
        usage,
        uses_max,
        until: until
            .map(|until| moment(source, until, "valid_until"))
            .transpose()?,
        products: named
            .map(|named| skus(source, named, products))
            .transpose()?,
        memory_import: key.memory_import,
    })
}

/// The products of a key: each is one of the policy's, once.
fn skus(
    source: Source<'_>,
    named: &Spanned<Vec<Spanned<String>>>,
    products: &[ProductPolicy],
) -> Result<Vec<Sku>, PolicyError> {
    let mut skus: Vec<Sku> = Vec::with_capacity(named.get_ref().len());
    for found in named.get_ref() {
        let sku: Sku = read(source, found, "products")?;
        let reason = if skus.contains(&sku) {
            format!("{sku} is given twice")
        } else if products.iter().all(|product| product.sku != sku) {
            format!("the policy has no product {sku}")
        } else {
            skus.push(sku);
            continue;
        };
        return Err(value(source, found, "products", reason));
    }
    if skus.is_empty() {
        let reason = "no product is given; leave it out for every product";
        return Err(value(source, named, "products", reason));
    }
    Ok(skus)
}
