//! The fixed world of `fixtures/vectors`: its keys, its messages, and whoever reads them.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::PathBuf;
use std::sync::LazyLock;

use mintmark_pki::Issuer;
use mintmark_protocol::encryption::Opener;
use mintmark_protocol::envelope::Verified;
use mintmark_protocol::identifier::{Fingerprint, VaultName};
use mintmark_protocol::trust::TrustManifest;
use p256::ecdsa::signature::Signer as _;
use p256::ecdsa::{Signature, SigningKey};
use p256::pkcs8::DecodePrivateKey as _;
use p256::{PublicKey, SecretKey};
use serde_json::Value;
use zeroize::Zeroizing;

pub(crate) static WORLD: LazyLock<World> = LazyLock::new(World::read);

/// A key of the world.
pub(crate) struct Key {
    secret: SecretKey,
    pub(crate) public: PublicKey,
}

impl Key {
    fn read(name: &str) -> Self {
        let pem = fs::read_to_string(vectors().join(format!("keys/{name}.pem"))).unwrap();
        let secret = SecretKey::from_pkcs8_pem(&pem).unwrap();
        Self {
            public: secret.public_key(),
            secret,
        }
    }

    /// ES256.
    pub(crate) fn sign(&self, message: &[u8]) -> Signature {
        SigningKey::from(&self.secret).sign(message)
    }

    /// Lends the key to whoever decrypts with it.
    pub(crate) fn open<T>(&self, read: impl FnOnce(Opener<'_>) -> T) -> T {
        let agree = |peer: &PublicKey| {
            let shared = self.secret.diffie_hellman(peer);
            Ok(Zeroizing::new(
                shared.raw_secret_bytes().as_slice().try_into()?,
            ))
        };
        read(Opener {
            public_key: &self.public,
            agree: &agree,
            former: None,
        })
    }

    pub(crate) fn agree(&self, peer: &PublicKey) -> [u8; 32] {
        let shared = self.secret.diffie_hellman(peer);
        shared.raw_secret_bytes().as_slice().try_into().unwrap()
    }
}

pub(crate) struct World {
    keys: BTreeMap<&'static str, Key>,
    /// Whose key signed nothing, not even a forgery.
    pub(crate) nobody: PublicKey,
    pub(crate) vault: VaultName,
    /// The first trust manifest, and the second, which follows it.
    pub(crate) trust: [Verified<TrustManifest>; 2],
    /// What was signed: the fingerprints of all payloads.
    pub(crate) signed: BTreeSet<Fingerprint>,
    /// What was encrypted, and what was signed as it is: every content.
    pub(crate) contents: BTreeSet<Vec<u8>>,
    /// The root, and a device CA.
    pub(crate) issuers: [Issuer; 2],
    /// The to-be-signed parts of all certificates and CRLs.
    pub(crate) certified: BTreeSet<Vec<u8>>,
    /// The records of the vault's log.
    pub(crate) records: Vec<Vec<u8>>,
}

const KEYS: [&str; 8] = [
    "audit",
    "auditor",
    "device-1",
    "device-ca",
    "root",
    "serial-master",
    "vault-agree",
    "vault-sign",
];

impl World {
    fn read() -> Self {
        let pinned = bytes("trust-manifest-1.cose");
        let fingerprint = json("trust-manifest-1.json")["fingerprint"].clone();
        let fingerprint: Fingerprint = fingerprint.as_str().unwrap().parse().unwrap();
        let first = TrustManifest::pin(&pinned, &fingerprint, None).unwrap();
        let second = first.successor(&bytes("trust-manifest-2.cose")).unwrap();
        let certificates = crate::seeds::certificates();
        let device_ca = Key::read("device-ca").public;
        let device_ca = certificates.iter().find_map(|found| {
            let issuer = Issuer::from_certificate_der(found.der()).ok()?;
            (*issuer.public_key() == device_ca).then_some(issuer)
        });
        let root = Issuer::from_certificate_der(&first.content().root_certificate).unwrap();
        let issuers = [root, device_ca.expect("its certificate")];
        let mut certified: BTreeSet<Vec<u8>> = certificates
            .iter()
            .map(|found| found.tbs_der().to_vec())
            .collect();
        certified.extend(
            crate::seeds::crls(&issuers)
                .iter()
                .map(|crl| crl.tbs_der().to_vec()),
        );
        let records = json("log.json");
        let records = records.as_array().unwrap().iter();
        let names: Vec<String> = vector_names();
        Self {
            keys: KEYS
                .into_iter()
                .map(|name| (name, Key::read(name)))
                .collect(),
            nobody: SecretKey::from_slice(&[77; 32]).unwrap().public_key(),
            vault: VaultName {
                site: "berlin".parse().unwrap(),
                vault: "v1".parse().unwrap(),
            },
            trust: [first, second],
            signed: names
                .iter()
                .filter_map(|name| {
                    json(&format!("{name}.json"))["fingerprint"]
                        .as_str()?
                        .parse()
                        .ok()
                })
                .collect(),
            contents: names
                .iter()
                .map(|name| bytes(&format!("{name}.cbor")))
                .collect(),
            issuers,
            certified,
            records: records
                .map(|record| hex::decode(record["bytes"].as_str().unwrap()).unwrap())
                .collect(),
        }
    }

    pub(crate) fn key(&self, name: &str) -> &Key {
        &self.keys[name]
    }
}

fn vectors() -> PathBuf {
    crate::workspace().join("fixtures/vectors")
}

pub(crate) fn bytes(file: &str) -> Vec<u8> {
    fs::read(vectors().join(file)).unwrap()
}

pub(crate) fn json(file: &str) -> Value {
    serde_json::from_slice(&bytes(file)).unwrap()
}

/// The names of all messages, in the order in which they were sent.
pub(crate) fn vector_names() -> Vec<String> {
    let index = json("index.json");
    let listed = index["vectors"].as_array().unwrap().iter();
    listed
        .map(|listed| listed["name"].as_str().unwrap().to_owned())
        .collect()
}
