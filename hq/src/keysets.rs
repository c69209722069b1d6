//! The symmetric keys that entitlements bring: made here of `keyset-master`, one per vault and label, and encrypted to
//! the vault alone. Nobody here sees one, and none is kept.

use std::collections::BTreeMap;

use ciborium::Value;
use hkdf::Hkdf;
use mintmark_console::Failure;
use mintmark_keys::{OaepHash, SecretAlgorithm, counter_kdf, oaep_wrap};
use mintmark_ledger::policy::{KeyPolicy, Policy};
use mintmark_protocol::cbor;
use mintmark_protocol::enrolment::EnrolmentRequest;
use mintmark_protocol::identifier::{KeyLabel, VaultName};
use mintmark_protocol::key_delivery::KeyFacts;
use mintmark_protocol::key_terms::KeyAlgorithm;
use mintmark_protocol::transport::{Oaep, TransportKey};
use sha2::Sha256;
use zeroize::Zeroizing;

use crate::failure;
use crate::keyring::{KEYSET_MASTER, Keyring};
use crate::record::Record;
use crate::registry::vaults::Vault;

/// What tells that a token holds the right key: derived from it with this label and no context.
const CHECK_LABEL: &str = "mintmark key check";

/// Check value and delivery of each key, by label.
pub(crate) type Materials = BTreeMap<KeyLabel, ([u8; 32], Vec<u8>)>;

/// Makes and wraps the keys that a policy asks for.
pub(crate) fn deliver(
    policy: &Policy,
    vault: &Vault,
    record: &Record,
    ring: &Keyring<'_>,
) -> Result<Materials, Failure> {
    if policy.keys().is_empty() {
        return Ok(Materials::new());
    }
    let transport = transport_key(vault, record)?;
    if transport.is_none()
        && let Some(key) = policy.keys().iter().find(|key| !key.memory_import)
    {
        return Err(failure::refused(
            "KEY-NEEDS-MEMORY",
            format!(
                "the token of {} unwraps no keys, so that the key `{}` would pass through the vault's memory",
                vault.name, key.label
            ),
            format!(
                "give the vault a token that unwraps with RSA-OAEP, or write `memory_import = true` for `{}` in the \
                 policy",
                key.label
            ),
        ));
    }
    let master = ring.agreement(KEYSET_MASTER)?;
    let shared = master.agree(master.public_key()).map_err(failure::keys)?;
    policy
        .keys()
        .iter()
        .map(|key| {
            let material = material(key, vault, transport.as_ref(), &shared)?;
            Ok((key.label.clone(), material))
        })
        .collect()
}

/// What the vault's request says that its token unwraps keys with. The record holds the request as it came.
fn transport_key(vault: &Vault, record: &Record) -> Result<Option<TransportKey>, Failure> {
    let fingerprint = &vault.request_fingerprint;
    let bytes = record.read(&record.enrolment(&vault.name, &fingerprint.to_string()))?;
    let request = EnrolmentRequest::open(&bytes, fingerprint).map_err(failure::home_corrupt)?;
    Ok(request.into_content().transport_key)
}

fn material(
    key: &KeyPolicy,
    vault: &Vault,
    transport: Option<&TransportKey>,
    shared: &[u8; 32],
) -> Result<([u8; 32], Vec<u8>), Failure> {
    let secret = derive(shared, &vault.name, &key.label, key.algorithm)?;
    let kdf = match key.algorithm {
        KeyAlgorithm::Aes256 => SecretAlgorithm::Aes256,
        KeyAlgorithm::HmacSha256 => SecretAlgorithm::HmacSha256,
    };
    let check = counter_kdf(kdf, &secret, CHECK_LABEL, &[]).map_err(failure::keys)?;
    let facts = KeyFacts {
        vault: vault.name.clone(),
        label: key.label.clone(),
        algorithm: key.algorithm,
    };
    let delivery = match transport {
        Some(transport) => facts.seal_transported(&secret, transport, &|transport, secret| {
            let hash = match transport.oaep {
                Oaep::Sha1 => OaepHash::Sha1,
                Oaep::Sha256 => OaepHash::Sha256,
            };
            Ok(oaep_wrap(
                &transport.modulus,
                &transport.exponent,
                hash,
                secret,
            )?)
        }),
        None => facts.seal_agreed(&secret, &vault.agreement_key),
    };
    Ok((*check, delivery.map_err(failure::protocol)?))
}

/// HKDF-SHA-256 (RFC 5869) without salt; the info is `["mintmark key", 1, site, vault, label, algorithm]` in
/// deterministic CBOR.
fn derive(
    shared: &[u8; 32],
    vault: &VaultName,
    label: &KeyLabel,
    algorithm: KeyAlgorithm,
) -> Result<Zeroizing<[u8; 32]>, Failure> {
    let info = cbor::encode(&Value::Array(vec![
        Value::from("mintmark key"),
        Value::from(1),
        Value::from(vault.site.as_str()),
        Value::from(vault.vault.as_str()),
        Value::from(label.as_str()),
        Value::from(algorithm.as_str()),
    ]));
    let mut key = Zeroizing::new([0; 32]);
    Hkdf::<Sha256>::new(None, shared)
        .expand(&info, &mut *key)
        .map_err(failure::home_corrupt)?;
    Ok(key)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(label: &str, algorithm: KeyAlgorithm) -> Zeroizing<[u8; 32]> {
        let vault = VaultName {
            site: "berlin".parse().unwrap(),
            vault: "v1".parse().unwrap(),
        };
        derive(&[7; 32], &vault, &label.parse().unwrap(), algorithm).unwrap()
    }

    #[test]
    fn a_key_is_the_documented_derivation_and_another_for_each_label_and_algorithm() {
        // openssl kdf -keylen 32 -kdfopt digest:SHA256 -kdfopt hexkey:0707..07 -kdfopt hexinfo:866c... HKDF
        let info = "866c6d696e746d61726b206b657901666265726c696e627631677365727669636\
                    56c484d41432d5348412d323536";
        let expected = std::process::Command::new("openssl")
            .args(["kdf", "-keylen", "32", "-kdfopt", "digest:SHA256"])
            .args(["-kdfopt", &format!("hexkey:{}", "07".repeat(32))])
            .args(["-kdfopt", &format!("hexinfo:{info}"), "HKDF"])
            .output()
            .unwrap();
        let expected = String::from_utf8(expected.stdout).unwrap();
        let made = key("service", KeyAlgorithm::HmacSha256);
        let expected = expected.trim().replace(':', "").to_lowercase();
        assert_eq!(hex::encode(*made), expected);
        assert_ne!(made, key("service", KeyAlgorithm::Aes256));
        assert_ne!(made, key("other", KeyAlgorithm::HmacSha256));
    }
}
