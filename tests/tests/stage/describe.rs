//! What a message says, told from its bytes alone: CBOR as JSON and as diagnostic notation, headers, signers, recipients.
//! It shares no code with the crate that makes and opens the messages.

use ciborium::Value as Cbor;
use serde_json::{Map, Value, json};

use super::forge::{self, CONTEXT, Parts};
use super::keys::{KEYS, key, name_of};
use super::secret;

/// CBOR as JSON: map keys as decimal numbers, byte strings as `h'..'`.
pub fn to_json(value: &Cbor) -> Value {
    match value {
        Cbor::Integer(number) => {
            let number = i128::from(*number);
            match (u64::try_from(number), i64::try_from(number)) {
                (Ok(number), _) => number.into(),
                (_, Ok(number)) => number.into(),
                _ => panic!("{number}"),
            }
        }
        Cbor::Bytes(bytes) => format!("h'{}'", hex::encode(bytes)).into(),
        Cbor::Text(text) => text.as_str().into(),
        Cbor::Bool(value) => (*value).into(),
        Cbor::Null => Value::Null,
        Cbor::Array(values) => values.iter().map(to_json).collect(),
        Cbor::Map(entries) => {
            let entry = |(key, value): &(Cbor, Cbor)| (label(key), to_json(value));
            Value::Object(entries.iter().map(entry).collect::<Map<_, _>>())
        }
        other => panic!("{other:?} stands in no message"),
    }
}

fn label(key: &Cbor) -> String {
    match key {
        Cbor::Integer(number) => i128::from(*number).to_string(),
        Cbor::Text(text) => text.clone(),
        other => panic!("{other:?} is no key"),
    }
}

/// CBOR in diagnostic notation (RFC 8949 section 8).
pub fn diagnostic(value: &Cbor, indent: usize) -> String {
    let margin = " ".repeat(indent);
    let listed = |inner: Vec<String>, open: char, close: char| {
        if inner.is_empty() {
            return format!("{open}{close}");
        }
        let lines: Vec<String> = inner
            .iter()
            .map(|line| format!("{margin}  {line}"))
            .collect();
        format!("{open}\n{}\n{margin}{close}", lines.join(",\n"))
    };
    match value {
        Cbor::Integer(number) => i128::from(*number).to_string(),
        Cbor::Bytes(bytes) => format!("h'{}'", hex::encode(bytes)),
        Cbor::Text(text) => Value::from(text.as_str()).to_string(),
        Cbor::Bool(value) => value.to_string(),
        Cbor::Null => "null".to_owned(),
        Cbor::Array(values) => {
            let inner = values.iter().map(|value| diagnostic(value, indent + 2));
            listed(inner.collect(), '[', ']')
        }
        Cbor::Map(entries) => {
            let entry = |(key, value): &(Cbor, Cbor)| {
                let key = match key {
                    Cbor::Text(text) => Value::from(text.as_str()).to_string(),
                    key => label(key),
                };
                format!("{key}: {}", diagnostic(value, indent + 2))
            };
            listed(entries.iter().map(entry).collect(), '{', '}')
        }
        Cbor::Tag(tag, value) => format!("{tag}({})", diagnostic(value, indent)),
        other => panic!("{other:?} stands in no message"),
    }
}

fn key_named(key_id: &[u8]) -> Value {
    let others = ["device-p384", "vault-transport"];
    let other = || {
        others
            .into_iter()
            .find(|name| secret::key_id_of(name) == key_id)
    };
    match name_of(key_id).or_else(other) {
        Some(name) => name.into(),
        None => hex::encode(key_id).into(),
    }
}

fn recipients(encrypted: &Parts) -> Vec<Value> {
    let each = encrypted.last.as_array().unwrap().iter();
    let key_id = |recipient: &Cbor| {
        let unprotected = forge::write(&recipient.as_array().unwrap()[1]);
        forge::entry(&unprotected, 4).into_bytes().unwrap()
    };
    each.map(|recipient| key_named(&key_id(recipient)))
        .collect()
}

/// The plaintext of a COSE_Encrypt, which every recipient whose key is known must read alike.
pub fn plaintext(encrypted: &[u8]) -> Vec<u8> {
    let names = recipients(&Parts::of(encrypted));
    let mut read = names.iter().filter_map(|name| {
        let name = name.as_str().unwrap();
        match name {
            "device-p384" | "vault-transport" => Some(secret::decrypt(encrypted, name)),
            name if KEYS.iter().any(|(known, _)| *known == name) => {
                Some(forge::decrypt(encrypted, &key(name)))
            }
            _ => None,
        }
    });
    let first = read.next().expect("a recipient's key is known");
    assert!(read.all(|other| other == first));
    first
}

/// Everything that stands in a message, and its content, decoded.
pub fn describe(message: &[u8]) -> (Value, Vec<u8>) {
    let outer = Parts::of(message);
    let context = forge::write(&forge::entry(&outer.protected, CONTEXT));
    let text = |key| forge::entry(&context, key).into_text().unwrap();
    let structure = match outer.tag {
        forge::SIGN1 => "COSE_Sign1",
        forge::SIGN => "COSE_Sign",
        _ => "COSE_Encrypt",
    };
    let mut found = json!({
        "structure": structure,
        "bytes": message.len(),
        "sha256": hex::encode(forge::sha256(message)),
        "protected_header": to_json(&forge::read(&outer.protected)),
        "type": text(2),
        "from": text(3),
        "to": text(4),
        "id": text(5),
    });
    let mut add = |name: &str, value: Value| found[name] = value;
    if outer.tag != forge::ENCRYPT {
        add(
            "fingerprint",
            hex::encode(forge::sha256(&outer.payload())).into(),
        );
    }
    match outer.tag {
        forge::SIGN1 => {
            let signer = forge::entry(&outer.protected, 4).into_bytes().unwrap();
            add("signed_by", vec![key_named(&signer)].into());
        }
        forge::SIGN => {
            let signer = |signature: &Cbor| {
                let header = signature.as_array().unwrap()[0].as_bytes().unwrap().clone();
                key_named(&forge::entry(&header, 4).into_bytes().unwrap())
            };
            let signers = outer.last.as_array().unwrap().iter().map(signer);
            add("signed_by", signers.collect());
        }
        _ => {}
    }
    let commitment = forge::read(&context)
        .into_map()
        .unwrap()
        .into_iter()
        .find(|(key, _)| *key == Cbor::from(6));
    let encrypted = match (outer.tag, commitment) {
        (forge::ENCRYPT, _) => Some(message.to_vec()),
        (_, Some(_)) => Some(outer.payload()),
        _ => None,
    };
    let content = match encrypted {
        None => outer.payload(),
        Some(encrypted) => {
            add("opens_with", recipients(&Parts::of(&encrypted)).into());
            let plaintext = plaintext(&encrypted);
            add(
                "plaintext_sha256",
                hex::encode(forge::sha256(&plaintext)).into(),
            );
            plaintext
        }
    };
    add("content", to_json(&forge::read(&content)));
    (found, content)
}
