//! What a message was encrypted under: the key that its reader agreed on, and the content key that this unwraps. The tests
//! know them from the readers' own key files.

use aes_kw::{KeyInit as _, KwAes256};
use ciborium::Value;
use hkdf::Hkdf;
use mintmark_protocol::key::thumbprint;
use p256::elliptic_curve::sec1::FromSec1Point as _;
use p256::{PublicKey, Sec1Point};
use sha2::Sha256;

use super::*;

/// Every COSE_Recipient in these bytes, however deep it lies: key id, ephemeral key and wrapped content key.
fn recipients(bytes: &[u8], found: &mut Vec<(Vec<u8>, PublicKey, Vec<u8>)>) {
    if let Ok(value) = ciborium::from_reader::<Value, _>(bytes) {
        within(&value, found);
    }
}

fn within(value: &Value, found: &mut Vec<(Vec<u8>, PublicKey, Vec<u8>)>) {
    match value {
        Value::Tag(_, value) => within(value, found),
        Value::Bytes(bytes) => recipients(bytes, found),
        Value::Map(entries) => entries.iter().for_each(|(_, value)| within(value, found)),
        Value::Array(parts) => {
            if let [Value::Bytes(_), Value::Map(header), Value::Bytes(wrapped)] = &parts[..]
                && wrapped.len() == 40
            {
                let of = |map: &[(Value, Value)], label: i64| {
                    let entry = map.iter().find(|(name, _)| *name == label.into());
                    entry.unwrap().1.clone()
                };
                let key = of(header, -1).into_map().unwrap();
                let [x, y] = [-2, -3].map(|label| of(&key, label).into_bytes().unwrap());
                let point = Sec1Point::from_bytes([&[4], &x[..], &y[..]].concat()).unwrap();
                let ephemeral = PublicKey::from_sec1_point(&point).unwrap();
                found.push((
                    of(header, 4).into_bytes().unwrap(),
                    ephemeral,
                    wrapped.clone(),
                ));
            }
            parts.iter().for_each(|value| within(value, found));
        }
        _ => {}
    }
}

/// What whoever has this key gets to know of how these bytes are encrypted.
pub(super) fn opened(bytes: &[u8], key: &SecretKey, name: &str) -> Secrets {
    let mut found = Vec::new();
    recipients(bytes, &mut found);
    let own = thumbprint(&key.public_key());
    found.retain(|(id, _, _)| id == own.as_bytes());
    let mut secrets = Secrets::new();
    for (at, (_, ephemeral, wrapped)) in found.iter().enumerate() {
        let shared = key.diffie_hellman(ephemeral).raw_secret_bytes().to_vec();
        // RFC 9053 section 5.2; and A256KW, RFC 3394.
        let header: Value = Value::Map(vec![(1.into(), (-31).into())]);
        let mut protected = Vec::new();
        ciborium::into_writer(&header, &mut protected).unwrap();
        let nobody = || Value::Array(vec![Value::Null; 3]);
        let public = Value::Array(vec![256.into(), Value::Bytes(protected)]);
        let context = Value::Array(vec![(-5).into(), nobody(), nobody(), public]);
        let mut info = Vec::new();
        ciborium::into_writer(&context, &mut info).unwrap();
        let (mut wrapping, mut content) = ([0; 32], [0; 32]);
        Hkdf::<Sha256>::new(None, &shared)
            .expand(&info, &mut wrapping)
            .unwrap();
        KwAes256::new((&wrapping).into())
            .unwrap_key(wrapped, &mut content)
            .unwrap();
        for (what, secret) in [
            ("content key", content.to_vec()),
            ("wrapping key", wrapping.to_vec()),
            ("agreed secret", shared),
        ] {
            secrets.insert(format!("the {what} {at} of {name}"), secret);
        }
    }
    secrets
}

/// The same of every file of the stick whose name begins so.
fn on_stick(world: &World, begins: &str, key: &SecretKey) -> Secrets {
    let mut secrets = Secrets::new();
    for (name, bytes) in files::contents(&world.on_stick("")) {
        if name.starts_with(begins) {
            secrets.extend(opened(&bytes, key, &name));
        }
    }
    secrets
}

fn key(world: &World, name: &str) -> SecretKey {
    SecretKey::from_slice(&keys(world)[name]).unwrap()
}

#[test]
fn a_service_forgets_what_messages_were_encrypted_under_once_it_has_imported_them() {
    let world = World::with_vault();
    let service = Service::start(&world, "");
    // An entitlement with a key of its own, and then another version of it.
    world.mint("berlin", &policy());
    world.hq("media export $D/media").ok();
    let agree = key(&world, "the key vault-agree of berlin");
    let secrets = on_stick(&world, "to-berlin_v1/", &agree);
    let content_keys = secrets.keys().filter(|name| name.contains("content key"));
    assert!(content_keys.count() >= 2, "{:?}", secrets.keys());
    world.site("media import $D/media").ok();
    assert_eq!(world.status("berlin")["accounts"][0]["authorised"], 1000);
    let path = stores::pin_file(world.folder(), "berlin");
    expect_gone(service.pid(), &secrets, path.to_str().unwrap().as_bytes());
    assert_eq!(service.stop(), 0);
    // They open nothing that is kept, either.
    for (name, bytes) in files::contents(world.folder()) {
        expect_absent(&secrets, &name, &bytes);
    }
}

#[test]
fn headquarters_forgets_what_a_log_was_encrypted_under_once_it_has_imported_it() {
    let world = World::with_policy(&policy());
    world.requests("some", 1..=3);
    world.issue("some").ok();
    world.site("media export $D/media").ok();
    let audit = key(&world, "the key audit of hq");
    let secrets = on_stick(&world, "to-hq/", &audit);
    assert!(secrets.len() >= 3, "{:?}", secrets.keys());
    let held = Held::start(&world.hq("media import $D/media"));
    let path = stores::pin_file(world.folder(), "hq");
    expect_gone(
        held.process.id(),
        &secrets,
        path.to_str().unwrap().as_bytes(),
    );
    held.end();
}
