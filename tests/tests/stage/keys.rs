//! The keys of the fixed world. Each is made from its name, so that anybody can make it again; they are worth nothing.

use std::collections::BTreeMap;
use std::path::PathBuf;

use mintmark_protocol::KeyFailure;
use mintmark_protocol::encryption::Opener;
use p256::ecdsa::signature::Signer as _;
use p256::ecdsa::{Signature, SigningKey};
use p256::elliptic_curve::sec1::ToSec1Point as _;
use p256::pkcs8::{DecodePrivateKey as _, EncodePrivateKey as _, LineEnding};
use p256::{PublicKey, SecretKey};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};
use zeroize::Zeroizing;

use super::forge;

/// What each key is for.
pub const KEYS: [(&str, &str); 34] = [
    ("root", "signs: the root certificate's key"),
    ("dispatch", "signs: orders, acknowledges and states time"),
    ("report", "signs: status, dossiers and reports"),
    ("audit", "agrees: reads what is for headquarters"),
    ("escrow", "agrees: the spare of `audit`"),
    ("serial-master", "agrees: serial numbers"),
    ("keyset-master", "agrees: the keys of key sets"),
    ("alice-sign", "signs: officer, in trust manifest 1 alone"),
    ("alice-agree", "agrees: officer, in trust manifest 1 alone"),
    ("bob-sign", "signs: officer"),
    ("bob-sign-2", "signs: the second key of officer bob"),
    ("bob-agree", "agrees: officer"),
    ("carol-sign", "signs: officer"),
    ("carol-agree", "agrees: officer"),
    (
        "dave-sign",
        "signs: officer, who may revoke and nothing else",
    ),
    (
        "dave-agree",
        "agrees: officer, who may revoke and nothing else",
    ),
    ("erin-sign", "signs: officer, from trust manifest 2 on"),
    ("erin-agree", "agrees: officer, from trust manifest 2 on"),
    ("vault-sign", "signs: the vault berlin/v1"),
    ("vault-agree", "agrees: the vault berlin/v1"),
    ("device-ca", "signs: device certificates of berlin/v1"),
    (
        "device-ca-2",
        "signs: device certificates of berlin/v1, after a rotation",
    ),
    ("successor-sign", "signs: the vault berlin/v2"),
    ("successor-agree", "agrees: the vault berlin/v2"),
    ("successor-ca", "signs: device certificates of berlin/v2"),
    ("munich-vault-sign", "signs: the vault munich/v1"),
    ("munich-vault-agree", "agrees: the vault munich/v1"),
    ("device-1", "signs and agrees: a device"),
    ("device-2", "signs and agrees: a device"),
    ("device-3", "signs and agrees: a device"),
    ("device-4", "signs and agrees: a device"),
    ("auditor", "agrees: an auditor, whom no manifest lists"),
    ("stranger-sign", "signs: nobody lists it"),
    ("stranger-agree", "agrees: nobody lists it"),
];

/// A private key in memory.
#[derive(Clone)]
pub struct Key {
    secret: SecretKey,
    pub public: PublicKey,
}

impl Key {
    /// The key that forgeries use as an ephemeral one.
    pub fn new(number: u8) -> Self {
        Self::of(SecretKey::from_slice(&[number; 32]).unwrap())
    }

    fn of(secret: SecretKey) -> Self {
        let public = secret.public_key();
        Self { secret, public }
    }

    /// Reads one of the files.
    pub fn from_pem(pem: &str) -> Self {
        Self::of(SecretKey::from_pkcs8_pem(pem).unwrap())
    }

    /// ES256 as RFC 6979 has it: the same bytes every time.
    pub fn sign(&self, message: &[u8]) -> Result<Signature, KeyFailure> {
        Ok(SigningKey::from(&self.secret).sign(message))
    }

    pub fn agree(&self, peer: &PublicKey) -> Result<Zeroizing<[u8; 32]>, KeyFailure> {
        let shared = self.secret.diffie_hellman(peer);
        let bytes: [u8; 32] = shared.raw_secret_bytes().as_slice().try_into()?;
        Ok(Zeroizing::new(bytes))
    }

    pub fn open<T>(&self, read: impl FnOnce(Opener<'_>) -> T) -> T {
        let agree = |peer: &PublicKey| self.agree(peer);
        read(Opener {
            public_key: &self.public,
            agree: &agree,
            former: None,
        })
    }

    pub fn signing(&self) -> SigningKey {
        SigningKey::from(&self.secret)
    }

    /// Unencrypted PKCS#8.
    pub fn pem(&self) -> String {
        self.secret
            .to_pkcs8_pem(LineEnding::LF)
            .unwrap()
            .to_string()
    }
}

/// The key of this name: its scalar is the SHA-256 of a text that names it.
pub fn key(name: &str) -> Key {
    assert!(KEYS.iter().any(|(known, _)| *known == name), "{name}");
    let scalar = Sha256::digest(format!("mintmark test key: {name}"));
    Key::of(SecretKey::from_slice(&scalar).unwrap())
}

/// The key that a key id names, of those of the fixed world.
pub fn name_of(key_id: &[u8]) -> Option<&'static str> {
    let mut names = KEYS.iter().map(|(name, _)| *name);
    names.find(|name| forge::key_id(&key(name).public) == key_id)
}

/// The keys as files, and a list of them.
pub fn files() -> BTreeMap<PathBuf, Vec<u8>> {
    let mut files = BTreeMap::new();
    let mut list = Vec::new();
    for (name, purpose) in KEYS {
        let key = key(name);
        let pem = format!("{name}.pem");
        files.insert(PathBuf::from(&pem), key.pem().into_bytes());
        let point = key.public.to_sec1_point(false);
        let (x, y) = (&point.as_bytes()[1..33], &point.as_bytes()[33..]);
        let scalar = key.secret.to_bytes();
        list.push(json!({
            "name": name,
            "purpose": purpose,
            "pem": pem,
            "key_id": hex::encode(forge::key_id(&key.public)),
            "cose_key": hex::encode(forge::write(&forge::cose_key(&key.public))),
            "jwk": {"kty": "EC", "crv": "P-256", "x": base64url(x), "y": base64url(y), "d": base64url(&scalar)},
        }));
    }
    for (name, purpose, pem) in super::secret::files() {
        let file = format!("{name}.pem");
        list.push(json!({"name": name, "purpose": purpose, "pem": file, "key_id": hex::encode(super::secret::key_id_of(name))}));
        files.insert(PathBuf::from(file), pem.into_bytes());
    }
    files.insert("keys.json".into(), pretty(&Value::Array(list)));
    files
}

/// JSON for people.
pub fn pretty(value: &Value) -> Vec<u8> {
    let mut text = serde_json::to_string_pretty(value).unwrap();
    text.push('\n');
    text.into_bytes()
}

/// RFC 4648 section 5, without padding, as JSON Web Keys have it.
fn base64url(bytes: &[u8]) -> String {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    let mut text = String::new();
    for chunk in bytes.chunks(3) {
        let group = chunk
            .iter()
            .chain([&0; 2])
            .take(3)
            .fold(0_usize, |group, byte| group << 8 | usize::from(*byte));
        for place in 0..=chunk.len() {
            text.push(char::from(ALPHABET[group >> (18 - 6 * place) & 63]));
        }
    }
    text
}
