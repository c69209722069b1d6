//! Takes messages apart and puts them together wrongly. It shares no code with the crate, so that what it makes is what
//! RFC 9052 says and not what the crate does.

use aes_gcm::Aes256Gcm;
use aes_gcm::aead::{Aead as _, KeyInit as _, Payload};
use aes_kw::KwAes256;
use ciborium::Value;
use elliptic_curve::sec1::ToSec1Point as _;
use hkdf::Hkdf;
use p256::PublicKey;
use sha2::{Digest as _, Sha256};

use super::Key;

pub const SIGN1: u64 = 18;
pub const ENCRYPT: u64 = 96;
pub const SIGN: u64 = 98;
pub const CONTEXT: i64 = -65537;

/// CBOR as ciborium writes it: in the order given.
pub fn write(value: &Value) -> Vec<u8> {
    let mut bytes = Vec::new();
    ciborium::into_writer(value, &mut bytes).unwrap();
    bytes
}

pub fn read(bytes: &[u8]) -> Value {
    ciborium::from_reader(bytes).unwrap()
}

pub fn map(entries: impl IntoIterator<Item = (i64, Value)>) -> Value {
    Value::Map(
        entries
            .into_iter()
            .map(|(key, value)| (key.into(), value))
            .collect(),
    )
}

pub fn bytes(bytes: impl Into<Vec<u8>>) -> Value {
    Value::Bytes(bytes.into())
}

/// Replaces, or adds in deterministic order, one entry of an encoded map.
pub fn with(encoded: &[u8], key: i64, value: impl Into<Value>) -> Vec<u8> {
    let mut entries = read(encoded).into_map().unwrap();
    entries.retain(|(found, _)| *found != Value::from(key));
    entries.push((key.into(), value.into()));
    entries.sort_by_key(|(key, _)| write(key));
    write(&Value::Map(entries))
}

pub fn without(encoded: &[u8], key: i64) -> Vec<u8> {
    let mut entries = read(encoded).into_map().unwrap();
    entries.retain(|(found, _)| *found != Value::from(key));
    write(&Value::Map(entries))
}

pub fn entry(encoded: &[u8], key: i64) -> Value {
    let entries = read(encoded).into_map().unwrap();
    let found = entries
        .into_iter()
        .find(|(found, _)| *found == Value::from(key));
    found.unwrap().1
}

/// A protected header with one entry of its context changed.
pub fn with_context(header: &[u8], key: i64, value: impl Into<Value>) -> Vec<u8> {
    let context = write(&entry(header, CONTEXT));
    with(header, CONTEXT, read(&with(&context, key, value)))
}

/// A COSE message in four parts.
#[derive(Clone)]
pub struct Parts {
    pub tag: u64,
    pub protected: Vec<u8>,
    pub unprotected: Value,
    pub content: Value,
    pub last: Value,
}

impl Parts {
    pub fn of(message: &[u8]) -> Self {
        let Value::Tag(tag, parts) = read(message) else {
            panic!("no tag");
        };
        let [protected, unprotected, content, last] =
            parts.into_array().unwrap().try_into().unwrap();
        Self {
            tag,
            protected: protected.into_bytes().unwrap(),
            unprotected,
            content,
            last,
        }
    }

    pub fn write(&self) -> Vec<u8> {
        let parts = vec![
            bytes(self.protected.clone()),
            self.unprotected.clone(),
            self.content.clone(),
            self.last.clone(),
        ];
        write(&Value::Tag(self.tag, Box::new(Value::Array(parts))))
    }

    pub fn payload(&self) -> Vec<u8> {
        self.content.as_bytes().unwrap().clone()
    }

    pub fn inner(&mut self) -> &mut Vec<Value> {
        self.last.as_array_mut().unwrap()
    }

    #[must_use]
    pub fn with_protected(mut self, protected: Vec<u8>) -> Self {
        self.protected = protected;
        self
    }

    #[must_use]
    pub fn with_payload(mut self, payload: Vec<u8>) -> Self {
        self.content = bytes(payload);
        self
    }

    /// Signs what it holds now: as a COSE_Sign1 by the first key, or as a COSE_Sign by all.
    pub fn signed(mut self, keys: &[Key]) -> Vec<u8> {
        if self.tag == SIGN1 {
            let to_sign = Value::Array(vec![
                "Signature1".into(),
                bytes(self.protected.clone()),
                bytes([]),
                self.content.clone(),
            ]);
            self.last = bytes(keys[0].sign(&write(&to_sign)).unwrap().to_bytes().to_vec());
        } else {
            let signature = |key: &Key| self.signature(key, &signature_header(key));
            self.last = Value::Array(keys.iter().map(signature).collect());
        }
        self.write()
    }

    /// One element of a COSE_Sign's signatures, with this protected header.
    pub fn signature(&self, key: &Key, header: &[u8]) -> Value {
        let to_sign = Value::Array(vec![
            "Signature".into(),
            bytes(self.protected.clone()),
            bytes(header),
            bytes([]),
            self.content.clone(),
        ]);
        let signature = key.sign(&write(&to_sign)).unwrap().to_bytes().to_vec();
        Value::Array(vec![bytes(header), map([]), bytes(signature)])
    }
}

pub fn cose_key(key: &PublicKey) -> Value {
    let point = key.to_sec1_point(false);
    let point = point.as_bytes();
    map([
        (1, 2.into()),
        (-1, 1.into()),
        (-2, bytes(&point[1..33])),
        (-3, bytes(&point[33..])),
    ])
}

pub fn key_id(key: &PublicKey) -> Vec<u8> {
    Sha256::digest(write(&cose_key(key))).to_vec()
}

pub fn signature_header(key: &Key) -> Vec<u8> {
    write(&map([(1, (-7).into()), (4, bytes(key_id(&key.public)))]))
}

/// The content key and the ephemeral key of everything that is forged: fixed, as only lies are encrypted with them.
const CONTENT_KEY: [u8; 32] = [0x55; 32];
pub const IV: [u8; 12] = [0x66; 12];

fn ephemeral() -> Key {
    Key::new(77)
}

pub fn recipient_header() -> Vec<u8> {
    write(&map([(1, (-31).into())]))
}

fn wrapping_key(own: &Key, peer: &PublicKey) -> [u8; 32] {
    let nobody = || Value::Array(vec![Value::Null; 3]);
    let public = Value::Array(vec![256.into(), bytes(recipient_header())]);
    let context = Value::Array(vec![(-5).into(), nobody(), nobody(), public]);
    let mut key = [0; 32];
    Hkdf::<Sha256>::new(None, &*own.agree(peer).unwrap())
        .expand(&write(&context), &mut key)
        .unwrap();
    key
}

pub fn recipient(key: &PublicKey) -> Value {
    recipient_of(&CONTENT_KEY, key)
}

fn recipient_of(content_key: &[u8; 32], key: &PublicKey) -> Value {
    let mut wrapped = [0; 40];
    KwAes256::new((&wrapping_key(&ephemeral(), key)).into())
        .wrap_key(content_key, &mut wrapped)
        .unwrap();
    let unprotected = map([(4, bytes(key_id(key))), (-1, cose_key(&ephemeral().public))]);
    Value::Array(vec![bytes(recipient_header()), unprotected, bytes(wrapped)])
}

pub fn additional_data(protected: &[u8]) -> Vec<u8> {
    write(&Value::Array(vec![
        "Encrypt".into(),
        bytes(protected),
        bytes([]),
    ]))
}

/// A COSE_Encrypt under this protected header.
pub fn encrypt(protected: Vec<u8>, plaintext: &[u8], recipients: &[PublicKey]) -> Parts {
    encrypt_with(&CONTENT_KEY, protected, plaintext, recipients)
}

/// As [`encrypt`], with this content key.
pub fn encrypt_with(
    content_key: &[u8; 32],
    protected: Vec<u8>,
    plaintext: &[u8],
    recipients: &[PublicKey],
) -> Parts {
    let aad = additional_data(&protected);
    let ciphertext = Aes256Gcm::new(content_key.into())
        .encrypt(
            (&IV).into(),
            Payload {
                msg: plaintext,
                aad: &aad,
            },
        )
        .unwrap();
    let recipient = |key| recipient_of(content_key, key);
    Parts {
        tag: ENCRYPT,
        protected,
        unprotected: map([(5, bytes(IV))]),
        content: bytes(ciphertext),
        last: Value::Array(recipients.iter().map(recipient).collect()),
    }
}

/// What a COSE_Encrypt says to the holder of a key.
pub fn decrypt(message: &[u8], key: &Key) -> Vec<u8> {
    let parts = Parts::of(message);
    let ours = bytes(key_id(&key.public));
    let recipients = parts.last.as_array().unwrap().iter();
    let mut ours = recipients.filter(|r| entry(&write(&r.as_array().unwrap()[1]), 4) == ours);
    let recipient = ours.next().unwrap().as_array().unwrap();
    let unprotected = write(&recipient[1]);
    let ephemeral = write(&entry(&unprotected, -1));
    let point = [
        vec![4],
        entry(&ephemeral, -2).into_bytes().unwrap(),
        entry(&ephemeral, -3).into_bytes().unwrap(),
    ];
    let peer = PublicKey::from_sec1_bytes(&point.concat()).unwrap();
    let mut content_key = [0; 32];
    KwAes256::new((&wrapping_key(key, &peer)).into())
        .unwrap_key(recipient[2].as_bytes().unwrap(), &mut content_key)
        .unwrap();
    let iv: [u8; 12] = entry(&write(&parts.unprotected), 5)
        .into_bytes()
        .unwrap()
        .try_into()
        .unwrap();
    let aad = additional_data(&parts.protected);
    Aes256Gcm::new((&content_key).into())
        .decrypt(
            (&iv).into(),
            Payload {
                msg: &parts.payload(),
                aad: &aad,
            },
        )
        .unwrap()
}

pub fn sha256(bytes: &[u8]) -> Vec<u8> {
    Sha256::digest(bytes).to_vec()
}
