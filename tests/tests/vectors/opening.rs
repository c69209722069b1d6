//! What every vector is said to be, it is, and it opens with each of its keys.

use std::collections::BTreeSet;
use std::fs;

use mintmark_pki::{Certificate, Issuer};
use mintmark_protocol::approval::Proposal;
use mintmark_protocol::device_secret::{
    DERIVATION_LABEL, DeviceOpener, DeviceSecret, derivation_context,
};
use mintmark_protocol::enrolment::EnrolmentRequest;
use mintmark_protocol::entitlement::Entitlement;
use mintmark_protocol::envelope::claim;
use mintmark_protocol::identifier::Fingerprint;
use mintmark_protocol::key::AgreementKey;
use mintmark_protocol::key_delivery::{Delivery, KeyFacts};
use mintmark_protocol::key_terms::KeyAlgorithm;
use mintmark_protocol::order::Order as _;
use p256::PublicKey;
use p256::pkcs8::{DecodePublicKey as _, EncodePublicKey as _};
use serde_json::{Value, json};
use zeroize::Zeroizing;

use super::stage::story::vault;
use super::stage::{describe, forge, keys, vectors};
use super::*;

#[test]
fn every_message_opens_with_each_of_its_keys_and_says_what_is_written_beside_it() {
    let mut kinds = BTreeSet::new();
    for vector in Vector::all() {
        let name = &vector.name;
        kinds.insert(vector.kind().to_owned());
        let elsewhere = ["audit-segment", "key-delivery", "device-secret"];
        if elsewhere.contains(&vector.kind()) || is_on_the_way(&vector) {
            continue;
        }
        let openers = match vector.said["opens_with"].is_array() {
            true => vector.openers().into_iter().map(Some).collect(),
            false => vec![None],
        };
        for key in openers {
            let opened = open(&vector, key.as_ref());
            assert_eq!(opened.fingerprint, vector.fingerprint(), "{name}");
            assert_eq!(opened.content, vector.content(), "{name}");
            assert_eq!(json!(opened.officers), vector.said["approved_by"], "{name}");
        }
        let claimed = claim(&vector.bytes, vector.bytes.len()).unwrap();
        let context = claimed.context;
        assert_eq!(context.kind.as_str(), vector.kind());
        assert_eq!(
            context.sender.to_string(),
            vector.said["from"].as_str().unwrap()
        );
        assert_eq!(
            context.recipient.to_string(),
            vector.said["to"].as_str().unwrap()
        );
        assert_eq!(context.id, vector.said["id"].as_str().unwrap());
    }
    let every: BTreeSet<String> = every_kind().into_iter().collect();
    assert_eq!(kinds, every, "each message type has a vector");
}

/// The message types of the specification.
fn every_kind() -> Vec<String> {
    let workspace = vectors().parent().unwrap().parent().unwrap().to_owned();
    let specification = fs::read_to_string(workspace.join("common/protocol/formats.cddl")).unwrap();
    let start = specification.find("\nmessage-type = ").unwrap();
    let rule = &specification[start..];
    let rule = &rule[..rule[1..].find("\n\n").unwrap() + 1];
    rule.split('"')
        .skip(1)
        .step_by(2)
        .map(str::to_owned)
        .collect()
}

#[test]
fn the_description_of_every_vector_is_what_its_bytes_say() {
    for vector in Vector::all() {
        let (mut said, content) = describe::describe(&vector.bytes);
        assert_eq!(content, vector.content(), "{}", vector.name);
        for added in ["about", "trust", "approved_by", "files"] {
            said[added] = vector.said[added].clone();
        }
        assert_eq!(said, vector.said, "{}", vector.name);
        let notation = fs::read_to_string(vectors().join(format!("{}.diag", vector.name))).unwrap();
        assert_eq!(
            notation.trim_end(),
            describe::diagnostic(&forge::read(&content), 0)
        );
    }
}

#[test]
fn the_keys_are_made_from_their_names_and_each_form_of_one_is_the_same_key() {
    for (name, bytes) in keys::files() {
        let path = vectors().join("keys").join(&name);
        let held = fs::read(&path).unwrap();
        assert!(held == bytes, "{} is another", path.display());
    }
    // Whoever reads the files needs nothing of this: the scalar in each is on the curve and has the point beside it.
    let list: Value =
        serde_json::from_slice(&fs::read(vectors().join("keys/keys.json")).unwrap()).unwrap();
    let list = list.as_array().unwrap().iter();
    for listed in list.filter(|listed| listed["jwk"].is_object()) {
        let key = key_file(listed["name"].as_str().unwrap());
        let id = mintmark_protocol::key::thumbprint(&key.public);
        assert_eq!(listed["key_id"], id.to_string());
    }
}

#[test]
fn a_draft_its_approval_and_the_finished_object_are_one_body() {
    let [draft, approval, whole] =
        ["entitlement-draft", "entitlement-approval", "entitlement"].map(Vector::read);
    let read = |vector: &Vector| Proposal::read(&vector.bytes, vector.bytes.len()).unwrap();
    for vector in [&draft, &approval] {
        assert_eq!(read(vector).fingerprint(), whole.fingerprint());
        for key in vector.openers() {
            let entitlement = key
                .open(|opener| Entitlement::proposed(&read(vector), opener))
                .unwrap();
            assert_eq!(entitlement.to_cbor(), whole.content());
        }
    }
    assert_eq!(read(&draft).signature_count(), 0);
    assert_eq!(read(&approval).signature_count(), 1);
    let refusal = |vector: &Vector, key: &PublicKey| {
        let refused = read(vector).expect_drafted_by([key]);
        refused.err().map(|error| error.code())
    };
    let manifest = manifest_for(&draft).into_content();
    let dispatch_key = &manifest.dispatch_key;
    assert_eq!(refusal(&draft, dispatch_key), None);
    let others = [&manifest.report_key, &manifest.officers[0].signing_keys[0]];
    for other in others {
        assert_eq!(refusal(&draft, other), Some("SIGNER-UNKNOWN"));
    }
    for vector in [&approval, &whole] {
        assert_eq!(refusal(vector, dispatch_key), Some("DRAFT-UNSIGNED"));
    }
    let header = |vector: &Vector| {
        let mut parts = forge::Parts::of(&vector.bytes);
        let signature = parts.inner()[0].as_array().unwrap()[0].clone();
        describe::to_json(&forge::read(signature.as_bytes().unwrap()))
    };
    assert_eq!(header(&draft)["16"], "application/mintmark-draft");
    assert_eq!(header(&approval)["16"], Value::Null);
    let mut collected = read(&draft);
    collected.collect(&read(&approval)).unwrap();
    assert_eq!(collected.to_bytes().unwrap(), approval.bytes);
}

/// A key of a key set, as headquarters makes it.
pub(super) fn keyset_key(label: &str) -> [u8; 32] {
    let algorithm = match label {
        "service" => KeyAlgorithm::HmacSha256,
        _ => KeyAlgorithm::Aes256,
    };
    stage::story::keyset_key(label, algorithm)
}

#[test]
fn a_delivered_key_is_the_key_that_headquarters_made_whichever_way_it_goes() {
    let facts = |label: &str, algorithm| KeyFacts {
        vault: vault(),
        label: label.parse().unwrap(),
        algorithm,
    };
    let agreed = Vector::read("key-delivery");
    let Delivery::Agreed(delivery) =
        Delivery::read(&agreed.bytes, &facts("service", KeyAlgorithm::HmacSha256)).unwrap()
    else {
        panic!("it was agreed on");
    };
    let key = key_file("vault-agree")
        .open(|opener| delivery.open(opener))
        .unwrap();
    assert_eq!(*key, keyset_key("service"));
    // The entitlement that brings it says the same, and the check value is of that key.
    let entitlement =
        Entitlement::from_cbor(&Vector::read("second-entitlement").content()).unwrap();
    let terms = &entitlement.keys[0];
    assert_eq!(
        (terms.label.as_str(), &terms.delivery),
        ("service", &agreed.bytes)
    );
    let check = stage::secret::derive(&key, terms.algorithm, "mintmark key check", &[]);
    assert_eq!(terms.check_value, check);
    let transported = Vector::read("key-delivery-transported");
    let Delivery::Transported {
        key: key_id,
        wrapped,
        ..
    } = Delivery::read(&transported.bytes, &facts("line", KeyAlgorithm::Aes256)).unwrap()
    else {
        panic!("it was transported");
    };
    assert_eq!(key_id, stage::secret::transport_key().thumbprint());
    assert_eq!(stage::secret::oaep_decrypt(&wrapped), keyset_key("line"));
    let request = Vector::read("rotation-request");
    let request = EnrolmentRequest::open(&request.bytes, &request.fingerprint()).unwrap();
    assert_eq!(
        request.content().transport_key,
        Some(stage::secret::transport_key())
    );
}

#[test]
fn a_device_opens_its_secret_and_that_is_the_documented_derivation() {
    let root = Issuer::from_certificate_der(&manifest_first().content().root_certificate).unwrap();
    let small = key_file("device-1");
    let large = stage::secret::large_device();
    let agree = |peer: &AgreementKey| match peer {
        AgreementKey::P256(peer) => Ok(Zeroizing::new(small.agree(peer)?.to_vec())),
        AgreementKey::P384(peer) => Ok(Zeroizing::new(
            large.diffie_hellman(peer).raw_secret_bytes().to_vec(),
        )),
    };
    let keys = [
        (
            "device-secret",
            "GW1-00000001",
            AgreementKey::P256(small.public),
        ),
        (
            "device-secret-p384",
            "GW1-00000002",
            AgreementKey::P384(large.public_key()),
        ),
    ];
    for (name, device_id, public_key) in &keys {
        let vector = Vector::read(name);
        let identity = DeviceSecret::certificate(&vector.bytes).unwrap();
        let identity = Certificate::from_der(&identity).unwrap();
        identity.verify_issued_by(&root).unwrap();
        let vault_sign = PublicKey::from_public_key_der(identity.spki_der()).unwrap();
        let opener = DeviceOpener {
            public_key,
            agree: &agree,
        };
        let opened = DeviceSecret::open(&vector.bytes, &vault_sign, opener).unwrap();
        assert_eq!(opened.device_id.as_str(), *device_id);
        let spki = match public_key {
            AgreementKey::P256(key) => key.to_public_key_der(),
            AgreementKey::P384(key) => key.to_public_key_der(),
        };
        assert_eq!(
            opened.spki_sha256,
            Fingerprint::of(spki.unwrap().as_bytes())
        );
        let context = derivation_context(&opened.label, &opened.device_id);
        let algorithm = KeyAlgorithm::HmacSha256;
        let derived = stage::secret::derive(
            &keyset_key("service"),
            algorithm,
            DERIVATION_LABEL,
            &context,
        );
        assert_eq!(*opened.secret, derived);
        let said = format!("h'{}'", hex::encode(derived));
        assert_eq!(vector.said["content"]["9"], said);
    }
}
