//! The test vectors of `fixtures/vectors`: every message opens with the private keys beside it, and says what the
//! description beside it says.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod stage;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::PathBuf;

use aes_gcm::KeyInit as _;
use mintmark_ledger::replay::Replay;
use mintmark_ledger::serial::{SerialCipher, serial_of};
use mintmark_pki::{Certificate, Issuer};
use mintmark_protocol::acknowledgement::Acknowledgement;
use mintmark_protocol::approval::Proposal;
use mintmark_protocol::audit_grant::AuditGrant;
use mintmark_protocol::backup::Backup;
use mintmark_protocol::bundle::Bundle;
use mintmark_protocol::clock_correction::ClockCorrection;
use mintmark_protocol::device_secret::{
    DERIVATION_LABEL, DeviceOpener, DeviceSecret, derivation_context,
};
use mintmark_protocol::dispatch::Dispatch;
use mintmark_protocol::dossier::Dossier;
use mintmark_protocol::encryption::Opener;
use mintmark_protocol::enrolment::{EnrolmentGrant, EnrolmentRequest};
use mintmark_protocol::entitlement::{AccountTag, Entitlement};
use mintmark_protocol::envelope::{Verified, claim};
use mintmark_protocol::identifier::{Fingerprint, OfficerId, VaultName};
use mintmark_protocol::key::AgreementKey;
use mintmark_protocol::key_delivery::{Delivery, KeyFacts};
use mintmark_protocol::key_terms::KeyAlgorithm;
use mintmark_protocol::log_tail::LogTail;
use mintmark_protocol::officer::OfficerRequest;
use mintmark_protocol::order::Order as _;
use mintmark_protocol::reanchor::Reanchor;
use mintmark_protocol::report::Report;
use mintmark_protocol::restore::RestoreDeclaration;
use mintmark_protocol::revocation::Revocation;
use mintmark_protocol::segment::Segment;
use mintmark_protocol::status::Status;
use mintmark_protocol::transcript::Transcript;
use mintmark_protocol::trust::TrustManifest;
use mintmark_tests::files;
use p256::PublicKey;
use p256::pkcs8::{DecodePublicKey as _, EncodePublicKey as _};
use serde_json::{Value, json};
use stage::story::{Log, Story, Told, vault};
use stage::{Key, describe, evidence, forge, granted, homes, keys, restored, vectors};
use zeroize::Zeroizing;

/// A vector as it stands in its folder.
struct Vector {
    name: String,
    bytes: Vec<u8>,
    said: Value,
}

impl Vector {
    fn read(name: &str) -> Self {
        let file = |end: &str| vectors().join(format!("{name}.{end}"));
        Self {
            name: name.to_owned(),
            bytes: fs::read(file("cose")).unwrap(),
            said: serde_json::from_slice(&fs::read(file("json")).unwrap()).unwrap(),
        }
    }

    fn all() -> Vec<Self> {
        let index: Value =
            serde_json::from_slice(&fs::read(vectors().join("index.json")).unwrap()).unwrap();
        let listed = index["vectors"].as_array().unwrap();
        let found = listed
            .iter()
            .map(|listed| Self::read(listed["name"].as_str().unwrap()));
        found.collect()
    }

    fn kind(&self) -> &str {
        self.said["type"].as_str().unwrap()
    }

    fn fingerprint(&self) -> Fingerprint {
        self.said["fingerprint"].as_str().unwrap().parse().unwrap()
    }

    /// The keys that it opens with, from their files.
    fn openers(&self) -> Vec<Key> {
        let names = self.said["opens_with"].as_array().unwrap();
        names
            .iter()
            .map(|name| key_file(name.as_str().unwrap()))
            .collect()
    }

    fn content(&self) -> Vec<u8> {
        fs::read(vectors().join(format!("{}.cbor", self.name))).unwrap()
    }
}

fn key_file(name: &str) -> Key {
    Key::from_pem(&fs::read_to_string(vectors().join(format!("keys/{name}.pem"))).unwrap())
}

fn manifest_first() -> Verified<TrustManifest> {
    let vector = Vector::read("trust-manifest-1");
    TrustManifest::pin(&vector.bytes, &vector.fingerprint(), None).unwrap()
}

/// The manifest that was in force when a message arrived.
fn manifest_for(vector: &Vector) -> Verified<TrustManifest> {
    let first = manifest_first();
    match vector.said["trust"].as_u64().unwrap() {
        1 => first,
        _ => first
            .successor(&Vector::read("trust-manifest-2").bytes)
            .unwrap(),
    }
}

/// What a message says once it has been opened: its fingerprint, its content as bytes, who approved it.
struct Opened {
    fingerprint: Fingerprint,
    content: Vec<u8>,
    officers: Vec<String>,
}

impl Opened {
    fn of<T>(verified: &Verified<T>) -> Self {
        Self {
            fingerprint: verified.fingerprint(),
            content: verified.plaintext().to_vec(),
            officers: verified
                .officers()
                .iter()
                .map(OfficerId::to_string)
                .collect(),
        }
    }
}

/// The vault that a message is for, if it is for one.
fn addressee(vector: &Vector) -> VaultName {
    let to = vector.said["to"].as_str().unwrap();
    let Some((site, vault)) = to.strip_prefix("vault:").and_then(|to| to.split_once('/')) else {
        return stage::story::vault();
    };
    VaultName {
        site: site.parse().unwrap(),
        vault: vault.parse().unwrap(),
    }
}

/// Opens a message that is no segment, with one of the keys that it is encrypted to.
fn open(vector: &Vector, key: Option<&Key>) -> Opened {
    let (bytes, trust) = (&vector.bytes[..], manifest_for(vector));
    let with = |read: &dyn Fn(Opener<'_>) -> Opened| key.unwrap().open(read);
    let sign_key = || key_file("vault-sign").public;
    let to = addressee(vector);
    match vector.kind() {
        "trust-manifest" if vector.name.ends_with('2') => {
            Opened::of(&manifest_first().successor(bytes).unwrap())
        }
        "trust-manifest" => {
            Opened::of(&TrustManifest::pin(bytes, &vector.fingerprint(), None).unwrap())
        }
        "officer-request" => {
            Opened::of(&OfficerRequest::open(bytes, &vector.fingerprint()).unwrap())
        }
        "enrolment-request" => {
            Opened::of(&EnrolmentRequest::open(bytes, &vector.fingerprint()).unwrap())
        }
        "enrolment-grant" => {
            with(&|opener| Opened::of(&EnrolmentGrant::open(bytes, &trust, &to, opener).unwrap()))
        }
        "entitlement" => {
            with(&|opener| Opened::of(&Entitlement::open(bytes, &trust, &to, opener).unwrap()))
        }
        "revocation" => {
            with(&|opener| Opened::of(&Revocation::open(bytes, &trust, &to, opener).unwrap()))
        }
        "clock-correction" => {
            with(&|opener| Opened::of(&ClockCorrection::open(bytes, &trust, &to, opener).unwrap()))
        }
        "re-anchor" => {
            with(&|opener| Opened::of(&Reanchor::open(bytes, &trust, &to, opener).unwrap()))
        }
        "acknowledgement" => {
            with(&|opener| Opened::of(&Acknowledgement::open(bytes, &trust, &to, opener).unwrap()))
        }
        "log-tail" => {
            with(&|opener| Opened::of(&LogTail::open(bytes, &trust, &to, opener).unwrap()))
        }
        "dispatch" => Opened::of(&Dispatch::open(bytes, &trust, &vault()).unwrap()),
        "restore-declaration" => {
            Opened::of(&RestoreDeclaration::open(bytes, &vault(), &sign_key()).unwrap())
        }
        "dossier" => Opened::of(&Dossier::open(bytes, &trust.content().report_key).unwrap()),
        // The plaintext of a status is not kept.
        "status" => {
            let status = Status::open(bytes, &trust.content().report_key).unwrap();
            Opened {
                content: status.content().to_cbor(),
                ..Opened::of(&status)
            }
        }
        // Nor that of a report.
        "report" => {
            let report = Report::open(bytes, &trust.content().report_key).unwrap();
            Opened {
                content: report.content().to_cbor(),
                ..Opened::of(&report)
            }
        }
        // Nor that of a grant, which holds keys.
        "audit-grant" => with(&|opener| {
            let grant = AuditGrant::open(bytes, &trust.content().report_key, opener).unwrap();
            Opened {
                content: grant.content().to_cbor(),
                ..Opened::of(&grant)
            }
        }),
        "backup" => {
            let (_, backup) = Backup::open(bytes).unwrap();
            assert_eq!(backup.content().signer, sign_key());
            Opened::of(&backup)
        }
        "transcript" => {
            let transcript = Transcript::open(bytes, &trust.content().report_key).unwrap();
            Opened {
                content: transcript.content().to_cbor(),
                ..Opened::of(&transcript)
            }
        }
        "audit-bundle" => Opened::of(&Bundle::open(bytes, &vault(), &sign_key()).unwrap()),
        other => panic!("nobody opens a {other} here"),
    }
}

fn is_on_the_way(vector: &Vector) -> bool {
    ["-draft", "-approval"]
        .iter()
        .any(|end| vector.name.ends_with(end))
}

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
fn keyset_key(label: &str) -> [u8; 32] {
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

/// The records that the bundles bring, and the bundles.
fn records() -> (Vec<Vec<u8>>, Vec<Verified<Bundle>>) {
    let (mut records, mut bundles) = (Vec::new(), Vec::new());
    for sequence in 1..=2 {
        let vector = Vector::read(&format!("audit-bundle-{sequence}"));
        let bundle = Bundle::open(&vector.bytes, &vault(), &key_file("vault-sign").public).unwrap();
        for (number, facts) in (1..).zip(&bundle.content().segments) {
            let file = Vector::read(&format!("audit-segment-{sequence}-{number}"));
            let id = Bundle::segment_id(&bundle.content().lineage, sequence, number);
            for key in file.openers() {
                let opened = key
                    .open(|opener| Segment::open(&file.bytes, facts, &vault(), &id, opener))
                    .unwrap();
                let brought: Vec<_> = opened
                    .records()
                    .map(|(at, record)| (at, record.to_vec()))
                    .collect();
                if facts.first == records.len() as u64 {
                    records.extend(brought.into_iter().map(|(_, record)| record));
                } else {
                    // The other key says the same.
                    let first = facts.first as usize;
                    let said: Vec<_> = brought.into_iter().map(|(_, record)| record).collect();
                    assert_eq!(said, records[first..]);
                }
            }
        }
        bundles.push(bundle);
    }
    (records, bundles)
}

#[test]
fn the_segments_bring_a_log_that_has_the_roots_in_the_bundles_and_replays_without_a_finding() {
    let (records, bundles) = records();
    let serials = stage::story::serials();
    let mut replay = Replay::new();
    for (at, raw) in records.iter().enumerate() {
        for bundle in &bundles {
            let checkpoint = bundle.content().checkpoint;
            if checkpoint.size == at as u64 {
                assert_eq!(replay.state().root(), checkpoint.root);
                assert_eq!(replay.state().mark(), checkpoint.time);
            }
        }
        let replayed = replay
            .feed(&stage::story::Nobody, Some(&serials), raw, None)
            .unwrap();
        assert!(
            replayed.divergences.is_empty(),
            "{:?}",
            replayed.divergences
        );
    }
    let last = bundles.last().unwrap().content();
    assert_eq!(
        (last.checkpoint.size, last.checkpoint.root),
        (records.len() as u64, replay.state().root())
    );
    assert_eq!(Log::of(&records).state, *replay.state());
    let listed: Value =
        serde_json::from_slice(&fs::read(vectors().join("log.json")).unwrap()).unwrap();
    assert_eq!(listed, log_listed(&records));
}

/// The records, for whoever has a reader to write: each with its leaf and with the root of the log that it ends.
fn log_listed(records: &[Vec<u8>]) -> Value {
    let leaf = |record: &[u8]| forge::sha256(&[&[0], record].concat());
    let leaves: Vec<Vec<u8>> = records.iter().map(|record| leaf(record)).collect();
    let each = records.iter().enumerate().map(|(at, record)| {
        json!({
            "sequence": at,
            "bytes": hex::encode(record),
            "leaf": hex::encode(&leaves[at]),
            "root": hex::encode(root_of(&leaves[..=at])),
            "content": describe::to_json(&forge::read(record)),
        })
    });
    each.collect()
}

/// MTH of RFC 9162 section 2.1.1, over leaf hashes.
fn root_of(leaves: &[Vec<u8>]) -> Vec<u8> {
    match leaves.len() {
        0 => forge::sha256(&[]),
        1 => leaves[0].clone(),
        count => {
            let left = count.next_power_of_two() / 2;
            let halves = [root_of(&leaves[..left]), root_of(&leaves[left..])].concat();
            forge::sha256(&[&[1], &halves[..]].concat())
        }
    }
}

/// One recipient's way to the plaintext of the entitlement, step by step.
fn worked_example() -> Value {
    let vector = Vector::read("entitlement");
    let key = key_file("vault-agree");
    let encrypted = forge::Parts::of(&forge::Parts::of(&vector.bytes).payload());
    let id = forge::key_id(&key.public);
    let recipients = encrypted.last.as_array().unwrap();
    let ours = recipients.iter().find(|recipient| {
        let unprotected = forge::write(&recipient.as_array().unwrap()[1]);
        forge::entry(&unprotected, 4).into_bytes().unwrap() == id
    });
    let ours = ours.unwrap().as_array().unwrap();
    let ephemeral = forge::entry(&forge::write(&ours[1]), -1);
    let peer = mintmark_protocol::key::from_cose_key("test", ephemeral.clone()).unwrap();
    let nobody = || ciborium::Value::Array(vec![ciborium::Value::Null; 3]);
    let public = ciborium::Value::Array(vec![256.into(), forge::bytes(forge::recipient_header())]);
    let context = ciborium::Value::Array(vec![(-5).into(), nobody(), nobody(), public]);
    let context = forge::write(&context);
    let shared = key.agree(&peer).unwrap();
    let mut wrapping = [0; 32];
    hkdf::Hkdf::<sha2::Sha256>::new(None, &*shared)
        .expand(&context, &mut wrapping)
        .unwrap();
    let mut content_key = [0; 32];
    aes_kw::KwAes256::new((&wrapping).into())
        .unwrap_key(ours[2].as_bytes().unwrap(), &mut content_key)
        .unwrap();
    let signer = &forge::Parts::of(&vector.bytes).last.as_array().unwrap()[0].clone();
    let outer = forge::Parts::of(&vector.bytes);
    let header = signer.as_array().unwrap()[0].as_bytes().unwrap().clone();
    let signed = forge::write(&ciborium::Value::Array(vec![
        "Signature".into(),
        forge::bytes(outer.protected.clone()),
        forge::bytes(header.clone()),
        forge::bytes([]),
        outer.content.clone(),
    ]));
    let iv = forge::entry(&forge::write(&encrypted.unprotected), 5)
        .into_bytes()
        .unwrap();
    json!({
        "message": "entitlement.cose",
        "fingerprint": hex::encode(forge::sha256(&outer.payload())),
        "first_signature": {
            "header": hex::encode(&header),
            "signed_bytes": signed.len(),
            "signed_sha256": hex::encode(forge::sha256(&signed)),
            "signature": hex::encode(signer.as_array().unwrap()[2].as_bytes().unwrap()),
        },
        "recipient": "vault-agree",
        "key_id": hex::encode(&id),
        "ephemeral_key": hex::encode(forge::write(&ephemeral)),
        "shared_secret": hex::encode(*shared),
        "kdf_context": hex::encode(&context),
        "wrapping_key": hex::encode(wrapping),
        "wrapped_key": hex::encode(ours[2].as_bytes().unwrap()),
        "content_key": hex::encode(content_key),
        "iv": hex::encode(iv),
        "additional_data": hex::encode(forge::additional_data(&encrypted.protected)),
        "ciphertext_bytes": encrypted.payload().len(),
        "plaintext_bytes": vector.content().len(),
        "plaintext_sha256": hex::encode(forge::sha256(&vector.content())),
    })
}

#[test]
fn the_worked_example_is_worked_out_again_to_the_same_numbers() {
    let held: Value =
        serde_json::from_slice(&fs::read(vectors().join("worked-example.json")).unwrap()).unwrap();
    assert_eq!(held, worked_example());
    assert_eq!(
        held["plaintext_sha256"],
        Vector::read("entitlement").said["plaintext_sha256"]
    );
}

/// Where docs/formats.md shows the worked example.
const SHOWN: &str = "```text worked-example\n";

/// The worked example, as the document shows it.
fn shown(example: &Value) -> String {
    let mut lines = String::new();
    let mut line = |name: &str, value: &Value| {
        let text = value
            .as_str()
            .map_or_else(|| value.to_string(), str::to_owned);
        lines.push_str(&format!("{name:<24} {text}\n"));
    };
    for name in [
        "fingerprint",
        "recipient",
        "key_id",
        "ephemeral_key",
        "shared_secret",
        "kdf_context",
        "wrapping_key",
    ] {
        line(name, &example[name]);
    }
    for name in [
        "wrapped_key",
        "content_key",
        "iv",
        "additional_data",
        "ciphertext_bytes",
        "plaintext_bytes",
    ] {
        line(name, &example[name]);
    }
    line("plaintext_sha256", &example["plaintext_sha256"]);
    for name in ["header", "signed_bytes", "signed_sha256", "signature"] {
        line(
            &format!("first_signature {name}"),
            &example["first_signature"][name],
        );
    }
    lines
}

fn document() -> PathBuf {
    vectors().join("../../docs/formats.md")
}

/// The document around an example: what stands before it, the example, what stands after it.
fn around(marker: &str) -> (String, String, String) {
    let text = fs::read_to_string(document()).unwrap();
    let (before, rest) = text.split_once(marker).unwrap();
    let end = rest.find("```").unwrap();
    (
        before.to_owned(),
        rest[..end].to_owned(),
        rest[end..].to_owned(),
    )
}

/// Where the document shows what is derived: a key's check value and a device's secret, a serial number, a root.
const DERIVED: &str = "```text worked-derivations\n";

fn derived() -> String {
    let algorithm = KeyAlgorithm::HmacSha256;
    let service = keyset_key("service");
    let check = stage::secret::derive(&service, algorithm, "mintmark key check", &[]);
    let (label, device) = ("service".parse().unwrap(), "GW1-00000001".parse().unwrap());
    let context = derivation_context(&label, &device);
    let secret = stage::secret::derive(&service, algorithm, DERIVATION_LABEL, &context);
    assert_eq!(
        Vector::read("device-secret").said["content"]["9"],
        format!("h'{}'", hex::encode(secret))
    );

    let shared = key_file("vault-agree")
        .agree(&key_file("serial-master").public)
        .unwrap();
    let info = b"mintmark serial key v1berlin\0v1";
    let mut serial_key = [0; 32];
    hkdf::Hkdf::<sha2::Sha256>::new(None, &*shared)
        .expand(info, &mut serial_key)
        .unwrap();
    let block = [&[0, 0, 0, 0, 0, 1][..], &[0; 10]].concat();
    let cipher = SerialCipher::new(&serial_key);
    let serial = cipher.serial(AccountTag::new(1).unwrap(), 0, 0);
    // It is the one in the first certificate that the log reserves.
    let (records, bundles) = records();
    let reserved = records
        .iter()
        .find(|record| forge::entry(record, 0) == 18.into())
        .unwrap();
    let tbs = forge::entry(reserved, 9).into_bytes().unwrap();
    assert_eq!(serial_of(&tbs), Some(serial));

    let checkpoint = bundles[0].content().checkpoint;
    let leaf = |record: &[u8]| hex::encode(forge::sha256(&[&[0], record].concat()));
    let shown = [
        ("key service", hex::encode(service)),
        ("its check value", hex::encode(check)),
        ("context, GW1-00000001", hex::encode(context)),
        ("secret, GW1-00000001", hex::encode(secret)),
        ("ECDH for serials", hex::encode(*shared)),
        ("info", hex::encode(info)),
        ("serial key", hex::encode(serial_key)),
        ("account 1, slot 0, issue 0", hex::encode(block)),
        ("serial number", hex::encode(serial)),
        ("leaf of record 0", leaf(&records[0])),
        ("leaf of record 1", leaf(&records[1])),
        ("records in bundle 1", checkpoint.size.to_string()),
        ("root in bundle 1", checkpoint.root.to_string()),
    ];
    let lines = shown.map(|(name, value)| format!("{name:<28} {value}\n"));
    lines.concat()
}

#[test]
fn the_document_shows_the_numbers_of_the_worked_examples() {
    assert_eq!(around(SHOWN).1, shown(&worked_example()));
    assert_eq!(around(DERIVED).1, derived());
}

/// Which trust manifest judged a message, and who approved it.
fn judged(name: &str, said: &Value) -> (u64, Vec<&'static str>) {
    let early = [
        "officer-request",
        "trust-manifest-1",
        "enrolment-request",
        "enrolment-grant",
        "dispatch-1",
        "dispatch-2",
        "dispatch-3",
        "audit-bundle-1",
        "audit-segment-1-1",
        "audit-segment-1-2",
        "acknowledgement",
    ];
    let early = early.contains(&name) || name.starts_with("entitlement");
    let trust = if early { 1 } else { 2 };
    let officer = |key: &Value| {
        let known = ["alice", "bob", "carol", "dave", "erin"];
        known
            .into_iter()
            .find(|officer| key.as_str().unwrap().starts_with(officer))
    };
    let approves = said["structure"] == "COSE_Sign";
    let signers = said["signed_by"].as_array().filter(|_| approves);
    let mut officers: Vec<_> = signers.into_iter().flatten().filter_map(officer).collect();
    officers.sort_unstable();
    (trust, officers)
}

#[test]
fn a_declared_restore_and_its_answer_lead_from_what_the_vault_has_to_what_headquarters_holds() {
    let (records, bundles) = records();
    let size = bundles[0].content().checkpoint.size;
    let declared = Vector::read("restore-declaration");
    let declaration = RestoreDeclaration::from_cbor(&declared.content()).unwrap();
    assert_eq!(declaration, restored::declaration(&records, size));
    assert_eq!(
        (declaration.size, declaration.root),
        (size, bundles[0].content().checkpoint.root)
    );
    let tail = LogTail::from_cbor(&Vector::read("log-tail").content()).unwrap();
    assert_eq!(tail, restored::tail(&records, size));
    assert_eq!(tail.declaration, declared.fingerprint());
    let whole = [&records[..size as usize], &tail.records[..]].concat();
    let leaves: Vec<Vec<u8>> = whole
        .iter()
        .map(|record| forge::sha256(&[&[0], &record[..]].concat()))
        .collect();
    assert_eq!(tail.log_size, whole.len() as u64);
    assert_eq!(root_of(&leaves), tail.log_root.as_bytes());
    assert_eq!(tail.log_root, bundles[1].content().checkpoint.root);
}

/// What stands in the folder of a message, and its line in the index.
fn files_of(told: &Told) -> (BTreeMap<PathBuf, Vec<u8>>, Value) {
    let (mut said, content) = describe::describe(&told.bytes);
    let (trust, officers) = judged(&told.name, &said);
    let name = &told.name;
    let on_the_way = name.ends_with("-draft") || name.ends_with("-approval");
    said["about"] = told.about.into();
    said["trust"] = trust.into();
    said["approved_by"] = if on_the_way {
        json!([])
    } else {
        json!(officers)
    };
    said["files"] = json!({
        "message": format!("{name}.cose"),
        "content": format!("{name}.cbor"),
        "notation": format!("{name}.diag"),
    });
    let direction = match said["from"].as_str().unwrap() {
        "hq" => "from headquarters",
        _ => "to headquarters",
    };
    let listed = json!({
        "name": name, "type": said["type"], "direction": direction, "about": told.about,
    });
    let mut notation = describe::diagnostic(&forge::read(&content), 0);
    notation.push('\n');
    let files = [
        ("cose", told.bytes.clone()),
        ("diag", notation.into_bytes()),
        ("cbor", content),
        ("json", keys::pretty(&said)),
    ];
    let files = files.map(|(end, bytes)| (PathBuf::from(format!("{name}.{end}")), bytes));
    (files.into(), listed)
}

#[test]
fn the_dossier_and_the_status_are_of_the_log_of_the_vectors() {
    let (records, _) = records();
    let bundle = Vector::read("audit-bundle-1").bytes;
    let dossier = Dossier::from_cbor(&Vector::read("dossier").content()).unwrap();
    let made = evidence::dossier(&records, &bundle);
    // Signatures differ from one time to the next, of receipts too.
    let said = |dossier: &Dossier| {
        let records = dossier.records.each_ref();
        (
            dossier.certificate.clone(),
            dossier.state.clone(),
            records.map(|of| of.record.clone()),
        )
    };
    assert_eq!(said(&dossier), said(&made));
    let status = Status::from_cbor(&Vector::read("status").content()).unwrap();
    assert_eq!(status, evidence::status(&records, &bundle));
    assert!(status.vaults[0].states[0].count() > 0);
}

/// What the grant among the vectors is of.
fn granted_record() -> granted::Record {
    granted::Record::of(&|name| Vector::read(name).bytes)
}

#[test]
fn the_grant_opens_the_first_report_for_the_auditor_without_a_key_of_headquarters() {
    let vector = Vector::read("audit-grant");
    let report_key = manifest_for(&vector).content().report_key;
    let open = |opener: Opener<'_>| AuditGrant::open(&vector.bytes, &report_key, opener).unwrap();
    let grant = key_file("auditor").open(open).into_content();
    let record = granted_record();
    let made = granted::grant(&record);
    assert_eq!(grant.to_cbor(), made.to_cbor());
    let opened = granted::opened_by(&grant, &record);
    let brought = opened.iter().flat_map(Segment::records);
    let brought: Vec<_> = brought.map(|(_, bytes)| bytes.to_vec()).collect();
    let (records, _) = records();
    assert!(!brought.is_empty());
    assert_eq!(brought, records[..brought.len()]);
    let serials = SerialCipher::new(&grant.serial_keys[0].key);
    let first = AccountTag::new(1).unwrap();
    let held = stage::story::serials().serial(first, 0, 0);
    assert_eq!(serials.serial(first, 0, 0), held);
}

#[test]
fn the_backup_opens_with_its_words_and_holds_what_is_written_beside_it() {
    let described = fs::read(vectors().join("backup-file.json")).unwrap();
    assert!(described == homes::described());
    let said: Value = serde_json::from_slice(&described).unwrap();
    let file = vectors().join(homes::FILE);
    let bytes = fs::read(&file).unwrap();
    assert_eq!(homes::message_of(&bytes), Vector::read("backup").bytes);
    let words = said["words"].as_array().unwrap().iter();
    let words: Vec<_> = words.map(|line| line.as_str().unwrap()).collect();
    let key = mintmark_backup::parse(&words.join("\n")).unwrap();
    let mut opened = mintmark_backup::Opened::open(&file).unwrap();
    let console = mintmark_console::Console::new("test", &Default::default());
    let progress = console.progress("reading", None);
    opened.expect_whole(&progress).unwrap();
    let content_key = opened.unlock(&key).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let home = folder.path().join("home");
    let mut placing = mintmark_backup::Placing::begin(&home).unwrap();
    placing.fill(&mut opened, &content_key, &progress).unwrap();
    placing.settle().unwrap();
    for held in said["files"].as_array().unwrap() {
        let bytes = fs::read(home.join(held["path"].as_str().unwrap())).unwrap();
        assert_eq!(held["sha256"], Fingerprint::of(&bytes).to_string());
    }
}

#[test]
#[ignore = "writes those that are not there, from those that are"]
fn write_the_vectors_that_are_missing() {
    let mut index: Value =
        serde_json::from_slice(&fs::read(vectors().join("index.json")).unwrap()).unwrap();
    let (records, bundles) = records();
    let restored = restored::told(&records, bundles[0].content().checkpoint.size);
    let evidence = evidence::told(&records, &Vector::read("audit-bundle-1").bytes);
    for (name, bytes) in keys::files() {
        fs::write(vectors().join("keys").join(name), bytes).unwrap();
    }
    let granted = granted::told(&granted_record());
    let mut kept = Vec::new();
    if !vectors().join(homes::FILE).exists() {
        let file = homes::file();
        fs::write(vectors().join(homes::FILE), &file).unwrap();
        fs::write(vectors().join("backup-file.json"), homes::described()).unwrap();
        kept.extend(homes::told(&file));
    }
    for told in restored
        .into_iter()
        .chain(evidence)
        .chain([granted])
        .chain(kept)
    {
        if vectors().join(format!("{}.cose", told.name)).exists() {
            continue;
        }
        let (files, listed) = files_of(&told);
        for (name, bytes) in files {
            fs::write(vectors().join(name), bytes).unwrap();
        }
        index["vectors"].as_array_mut().unwrap().push(listed);
    }
    fs::write(vectors().join("index.json"), keys::pretty(&index)).unwrap();
}

#[test]
#[ignore = "writes the fixtures anew: encryption is random, so every file becomes another"]
fn write_the_vectors() {
    let folder = vectors();
    let write = |name: PathBuf, bytes: &[u8]| {
        let path = folder.join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, bytes).unwrap();
    };
    let mut written: BTreeMap<PathBuf, Vec<u8>> = BTreeMap::new();
    for (name, bytes) in keys::files() {
        written.insert(PathBuf::from("keys").join(name), bytes);
    }
    let story = Story::tell_all();
    let mut index = Vec::new();
    let backup = homes::file();
    written.insert(homes::FILE.into(), backup.clone());
    written.insert("backup-file.json".into(), homes::described());
    for told in story.told.iter().chain(&homes::told(&backup)) {
        let (files, listed) = files_of(told);
        written.extend(files);
        index.push(listed);
    }
    let index = json!({
        "warning": "The private keys here are published. They are for tests and protect nothing.",
        "format_version": 1,
        "vectors": index,
    });
    written.insert("index.json".into(), keys::pretty(&index));
    for old in files::below(&folder) {
        let name = old.strip_prefix(&folder).unwrap().to_owned();
        let ours = ["cose", "cbor", "diag", "pem"]
            .iter()
            .any(|end| old.extension().is_some_and(|found| found == *end));
        let described = old.with_extension("cose").exists();
        if (ours || described) && !written.contains_key(&name) {
            fs::remove_file(old).unwrap();
        }
    }
    for (name, bytes) in &written {
        write(name.clone(), bytes);
    }
    let (records, _) = records();
    write("log.json".into(), &keys::pretty(&log_listed(&records)));
    write(
        "worked-example.json".into(),
        &keys::pretty(&worked_example()),
    );
    for (marker, example) in [(SHOWN, shown(&worked_example())), (DERIVED, derived())] {
        let (before, _, after) = around(marker);
        let text = [&before, marker, &example, &after].concat();
        fs::write(document(), text).unwrap();
    }
}
