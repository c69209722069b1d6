//! Other people's COSE implementations, python-cwt and pycose, read what we write: `tests/interop/read_mintmark.py` was
//! written from `formats.cddl` alone, and does nothing cryptographic but through one of them.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

#[path = "interop/fixtures.rs"]
mod fixtures;
#[path = "interop/made.rs"]
mod made;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use mintmark_keys::{KeyStore, KeyUri, Purpose};
use mintmark_protocol::KeyFailure;
use mintmark_protocol::acknowledgement::Acknowledgement;
use mintmark_protocol::approval::Proposal;
use mintmark_protocol::bundle::{Bundle, Checkpoint, DispatchSeen};
use mintmark_protocol::device_ids::DeviceIds;
use mintmark_protocol::dispatch::{BundleSeen, Dispatch};
use mintmark_protocol::enrolment::EnrolmentRequest;
use mintmark_protocol::entitlement::{
    AccountTag, CertificateTerms, Credit, DeviceIdSource, Entitlement, Interval, ProductTerms,
};
use mintmark_protocol::envelope::Kind;
use mintmark_protocol::identifier::{Fingerprint, Lineage, StationId, VaultName};
use mintmark_protocol::order::Order as _;
use mintmark_protocol::segment::SegmentBuilder;
use mintmark_protocol::trust::{HqEncryptionKey, Officer, Role, TrustManifest};
use p256::ecdsa::signature::Signer as _;
use p256::ecdsa::{Signature, SigningKey};
use p256::{PublicKey, SecretKey};
use serde_json::{Value, json};
use tempfile::TempDir;

const LIBRARIES: [&str; 2] = ["cwt", "pycose"];

/// The folder of the whole workspace.
fn workspace() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .unwrap()
        .to_owned()
}

/// Runs the reader with one of the libraries.
fn read(library: &str, arguments: &[&str]) -> Output {
    let python = workspace().join("target/interop/bin/python");
    assert!(
        python.exists(),
        "{} is missing: run ./test, which installs what tests/interop/requirements.txt lists",
        python.display()
    );
    Command::new(python)
        .arg("-B")
        .arg(workspace().join("tests/interop/read_mintmark.py"))
        .args(["--library", library])
        .args(arguments)
        .output()
        .unwrap()
}

/// What both libraries find in a message, which is the same.
#[track_caller]
fn found(arguments: &[&str]) -> Value {
    let [one, other] = LIBRARIES.map(|library| {
        let output = read(library, arguments);
        let error = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.success(), "{library} {arguments:?}: {error}");
        let mut found: Value = serde_json::from_slice(&output.stdout).unwrap();
        let named = found.as_object_mut().unwrap().remove("library");
        assert_eq!(named, Some(library.into()));
        found
    });
    assert_eq!(one, other);
    one
}

/// Both libraries refuse a message, each saying why.
#[track_caller]
fn refused(arguments: &[&str], why: &str) {
    for library in LIBRARIES {
        let output = read(library, arguments);
        let error = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(
            output.status.code(),
            Some(1),
            "{library} {arguments:?}: {error}"
        );
        assert!(error.contains(why), "{library} {arguments:?}: {error}");
        assert!(output.stdout.is_empty());
    }
}

/// A private key in memory.
struct Key(SecretKey);

impl Key {
    fn new(number: u8) -> Self {
        Self(SecretKey::from_slice(&[number; 32]).unwrap())
    }

    fn public(&self) -> PublicKey {
        self.0.public_key()
    }

    fn sign(&self, message: &[u8]) -> Result<Signature, KeyFailure> {
        Ok(SigningKey::from(&self.0).sign(message))
    }
}

/// Headquarters with two officers and a key folder, one vault, and a stick.
struct Stage {
    folder: TempDir,
    audit: PublicKey,
}

impl Stage {
    fn new() -> Self {
        let folder = TempDir::new().unwrap();
        let pin = folder.path().join("pin");
        fs::write(&pin, "correct horse\n").unwrap();
        fs::set_permissions(&pin, std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
        let keys = folder.path().join("keys");
        let uri = format!("file:{}?pin-source=file:{}", keys.display(), pin.display());
        let uri: KeyUri = uri.parse().unwrap();
        let store = mintmark_keys::create(&uri, &|_| panic!("the PIN is in a file")).unwrap();
        let audit = KeyStore::generate(&*store, "audit", Purpose::Agree).unwrap();
        Self { folder, audit }
    }

    fn path(&self, name: &str) -> String {
        self.folder.path().join(name).to_str().unwrap().to_owned()
    }

    fn write(&self, name: &str, bytes: &[u8]) -> String {
        fs::write(self.path(name), bytes).unwrap();
        self.path(name)
    }

    fn manifest(&self) -> TrustManifest {
        let officer = |number, name: &str| Officer {
            id: name.parse().unwrap(),
            signing_keys: vec![Key::new(number).public()],
            agreement_key: Key::new(number + 20).public(),
            roles: Role::ALL.into(),
        };
        TrustManifest {
            version: 1,
            hq_name: "Acme Zürich".to_owned(),
            issued_at: 1_800_000_000,
            expires_at: 1_900_000_000,
            previous: None,
            root_certificate: vec![0x30, 0x00],
            officers: vec![officer(1, "alice"), officer(2, "bob"), officer(3, "carol")],
            thresholds: [2, 2, 1, 2],
            dispatch_key: dispatch_key().public(),
            report_key: Key::new(101).public(),
            encryption_keys: vec![
                HqEncryptionKey {
                    name: "audit".parse().unwrap(),
                    key: self.audit,
                    escrowed: false,
                },
                HqEncryptionKey {
                    name: "escrow".parse().unwrap(),
                    key: Key::new(103).public(),
                    escrowed: true,
                },
            ],
            dispatch_epoch: 1,
        }
    }

    fn trust(&self) -> String {
        let proposal = self.manifest().propose().unwrap();
        self.write("trust-000001.cose", &approved(&proposal, &[1, 2]))
    }

    fn entitlement_bytes(&self, officers: &[u8]) -> Vec<u8> {
        let agree = Key::new(111).public();
        approved(
            &entitlement().propose(&self.manifest(), &agree).unwrap(),
            officers,
        )
    }

    /// What follows a message's file on the command line to decrypt it.
    fn decrypting(&self) -> [String; 4] {
        let (key, pin) = (self.path("keys/audit.pem"), self.path("pin"));
        ["--key".to_owned(), key, "--pin-file".to_owned(), pin]
    }
}

fn dispatch_key() -> Key {
    Key::new(100)
}

fn vault_sign() -> Key {
    Key::new(110)
}

fn approved(proposal: &Proposal, officers: &[u8]) -> Vec<u8> {
    let mut whole = proposal.clone();
    for key in officers.iter().map(|number| Key::new(*number)) {
        let approval = proposal.approve(&key.public(), &|m| key.sign(m)).unwrap();
        whole.collect(&approval).unwrap();
    }
    whole.to_bytes().unwrap()
}

fn vault() -> VaultName {
    VaultName {
        site: "berlin".parse().unwrap(),
        vault: "v1".parse().unwrap(),
    }
}

fn lineage() -> Lineage {
    Lineage::new([0xab; 16])
}

fn entitlement() -> Entitlement {
    Entitlement {
        salt: [9; 32],
        id: "th200-2027q1".parse().unwrap(),
        version: 1,
        vault: vault(),
        drafted_at: 1_800_000_300,
        approve_until: 1_800_100_000,
        window: Interval {
            from: 1_800_001_000,
            until: 1_808_000_000,
        },
        credit: Credit {
            unreported_units_max: 20_000,
            unreported_days_max: 14,
        },
        anchor_lease_max: 256,
        clock_gap_days_max: None,
        retention_days: None,
        products: vec![ProductTerms {
            account: AccountTag::new(7).unwrap(),
            sku: "TH-200".parse().unwrap(),
            units: 50_000,
            units_per_day: Some(2000),
            units_per_hour: None,
            device_id_pattern: Some("TH200-[0-9]{8}".to_owned()),
            key_algorithms: vec!["P-256".to_owned()],
            reissues_per_device: 1,
            stations: Some(vec![StationId::console()]),
            working_hours: Some(vec![Interval {
                from: 1_800_001_000,
                until: 1_800_002_000,
            }]),
            certificate: CertificateTerms {
                subject: "O=Acme, serialNumber={device_id}".to_owned(),
                validity_days: None,
                extended_key_usage: vec!["clientAuth".to_owned()],
            },
            device_id_source: DeviceIdSource::SerialNumber,
            device_ids: Some(
                DeviceIds::new(vec![
                    "TH200-00000100..TH200-00000199".parse().unwrap(),
                    "TH200-00000001".parse().unwrap(),
                ])
                .unwrap(),
            ),
        }],
        policy_digest: Fingerprint::of(b"policy"),
        keys: Vec::new(),
        amends: None,
    }
}

fn dispatch(kind: Kind, id: &str, content: Vec<u8>) -> Dispatch {
    Dispatch {
        vault: vault(),
        epoch: 1,
        sequence: 2,
        previous: Some(Fingerprint::of(b"before")),
        bundle_seen: Some(BundleSeen {
            lineage: lineage(),
            sequence: 3,
            fingerprint: Fingerprint::of(b"bundle"),
        }),
        kind,
        id: id.to_owned(),
        version: 1,
        content,
        certificates: vec![vec![0x30, 0x00]],
        made_at: 1_800_060_000,
    }
}

/// One bit of the last byte but `from_end`, the other way round.
fn flipped(mut bytes: Vec<u8>, from_end: usize) -> Vec<u8> {
    let at = bytes.len() - 1 - from_end;
    bytes[at] ^= 1;
    bytes
}

fn strs(arguments: &[String]) -> Vec<&str> {
    arguments.iter().map(String::as_str).collect()
}

#[test]
fn every_signature_of_a_trust_manifest_verifies() {
    let stage = Stage::new();
    let read = found(&["trust", &stage.trust()]);
    let fingerprint = stage.manifest().propose().unwrap().fingerprint();
    assert_eq!(read["fingerprint"], fingerprint.to_string());
    assert_eq!(read["version"], 1);
    assert_eq!(read["name"], "Acme Zürich");
    assert_eq!(read["expires"], 1_900_000_000);
    assert_eq!(read["approved_by"], json!(["alice", "bob"]));
    let thresholds = json!({"mint": 2, "enrol": 2, "revoke": 1, "trust": 2});
    assert_eq!(read["thresholds"], thresholds);
    let key = mintmark_protocol::key::thumbprint(&Key::new(3).public());
    assert_eq!(read["officers"][2]["keys"], json!([key.to_string()]));
}

#[test]
fn a_second_trust_manifest_verifies_with_the_one_before() {
    let stage = Stage::new();
    let first = stage.trust();
    let mut second = stage.manifest();
    second.version = 2;
    second.previous = Some(stage.manifest().propose().unwrap().fingerprint());
    second.officers.remove(0);
    let proposal = second.propose().unwrap();
    let file = stage.write("trust-000002.cose", &approved(&proposal, &[1, 2, 3]));
    let read = found(&["trust", &file, "--before", &first]);
    assert_eq!(read["version"], 2);
    assert_eq!(read["approved_by"], json!(["alice", "bob", "carol"]));
    // Alice counts for the one before alone.
    let file = stage.write("trust-000002.cose", &approved(&proposal, &[1, 2]));
    refused(&["trust", &file, "--before", &first], "1 of 2 officers");
}

#[test]
fn an_entitlement_verifies_and_decrypts_with_the_key_file_that_we_wrote() {
    let stage = Stage::new();
    let trust = stage.trust();
    let bytes = stage.entitlement_bytes(&[1, 2, 3]);
    let file = stage.write("entitlement.cose", &bytes);
    let mut arguments = vec!["entitlement", &file, "--trust", &trust];
    let decrypting = stage.decrypting();
    arguments.extend(strs(&decrypting));
    let read = found(&arguments);
    assert_eq!(read["approved_by"], json!(["alice", "bob", "carol"]));
    assert_eq!(read["recipients"].as_array().unwrap().len(), 6);
    assert_eq!(read["id"], "th200-2027q1");
    assert_eq!(
        (&read["site"], &read["vault"]),
        (&json!("berlin"), &json!("v1"))
    );
    assert_eq!(read["credit"], json!({"units": 20_000, "days": 14}));
    let product = json!({
        "account": 7,
        "sku": "TH-200",
        "units": 50_000,
        "units_per_day": 2000,
        "units_per_hour": null,
        "device_id_pattern": "TH200-[0-9]{8}",
        "key_algorithms": ["P-256"],
        "reissues_per_device": 1,
        "stations": ["console"],
        "working_hours": [[1_800_001_000, 1_800_002_000]],
        "subject": "O=Acme, serialNumber={device_id}",
        "validity_days": null,
        "extended_key_usage": ["clientAuth"],
        "device_id_source": "serialNumber",
        "device_ids": [["TH200-00000001"], ["TH200-00000100", "TH200-00000199"]],
    });
    assert_eq!(read["products"], json!([product]));

    // The same out of the dispatch that carries it.
    let sealed = dispatch(Kind::Entitlement, &entitlement().object_id(), bytes);
    let (sealed, _) = sealed
        .seal(&stage.manifest(), &|m| dispatch_key().sign(m))
        .unwrap();
    let file = stage.write("dispatch-1-000002.cose", &sealed);
    arguments[1] = &file;
    assert_eq!(found(&arguments), read);
}

#[test]
fn a_dispatch_verifies_with_what_it_carries() {
    let stage = Stage::new();
    let trust = stage.trust();
    let content = stage.entitlement_bytes(&[1, 3]);
    let sealed = dispatch(Kind::Entitlement, &entitlement().object_id(), content);
    let (bytes, fingerprint) = sealed
        .seal(&stage.manifest(), &|m| dispatch_key().sign(m))
        .unwrap();
    let file = stage.write("dispatch-1-000002.cose", &bytes);
    let read = found(&["dispatch", &file, "--trust", &trust]);
    assert_eq!(read["fingerprint"], fingerprint.to_string());
    assert_eq!((&read["epoch"], &read["sequence"]), (&json!(1), &json!(2)));
    assert_eq!(read["bundle_seen"]["sequence"], 3);
    assert_eq!(read["content"]["type"], "entitlement");
    assert_eq!(read["content"]["approved_by"], json!(["alice", "carol"]));

    let acknowledgement = Acknowledgement {
        salt: [8; 32],
        vault: vault(),
        hq_time: 1_800_050_000,
        lineage: lineage(),
        bundle_sequence: 3,
        bundle_fingerprint: Fingerprint::of(b"bundle"),
        log_size: 1234,
        log_root: Fingerprint::of(b"root"),
        findings: 0,
    };
    let agree = Key::new(111).public();
    let content = acknowledgement
        .seal(&stage.manifest(), &agree, &|m| dispatch_key().sign(m))
        .unwrap();
    let sealed = dispatch(Kind::Acknowledgement, &acknowledgement.object_id(), content);
    let (bytes, _) = sealed
        .seal(&stage.manifest(), &|m| dispatch_key().sign(m))
        .unwrap();
    let file = stage.write("dispatch-1-000002.cose", &bytes);
    let read = found(&["dispatch", &file, "--trust", &trust]);
    assert_eq!(read["content"]["type"], "acknowledgement");
    assert_eq!(read["content"]["id"], "ack-000003");
}

#[test]
fn a_bundle_verifies_and_its_segments_give_the_records() {
    let stage = Stage::new();
    let records: Vec<Vec<u8>> = (0..75)
        .map(|number: u8| [vec![number; usize::from(number) * 3], b"end".to_vec()].concat())
        .collect();
    let stem = format!("berlin_v1_{}-000001", lineage());
    let recipients = stage.manifest().hq_recipients();
    let mut segments = Vec::new();
    for (number, part) in (1..).zip(records.chunks(30)) {
        let first = segments
            .last()
            .map_or(0, |s: &mintmark_protocol::segment::SegmentFacts| {
                s.first + s.count
            });
        let mut builder = SegmentBuilder::new(first);
        part.iter().for_each(|record| builder.push(record));
        let id = Bundle::segment_id(&lineage(), 1, number);
        let (file, facts) = builder.seal(&vault(), &id, &recipients).unwrap();
        stage.write(&format!("{stem}.seg{number:04}"), &file);
        segments.push(facts);
    }
    let leaves = records
        .iter()
        .map(|record| mintmark_ledger::merkle::leaf_hash(record));
    let root = mintmark_ledger::merkle::root_of(leaves);
    let bundle = Bundle {
        vault: vault(),
        lineage: lineage(),
        sequence: 1,
        previous: None,
        dispatch_seen: Some(DispatchSeen {
            epoch: 1,
            sequence: 2,
            fingerprint: Fingerprint::of(b"dispatch"),
        }),
        checkpoint: Checkpoint {
            size: 75,
            root: Fingerprint::new(root),
            time: 1_800_070_000,
        },
        first: 0,
        segments,
        trust_version: 1,
        sealed_at: 1_800_070_001,
        crl: None,
    };
    let key = vault_sign().public();
    let (bytes, fingerprint) = bundle.seal(&key, &|m| vault_sign().sign(m)).unwrap();
    let file = stage.write(&format!("{stem}.cose"), &bytes);
    let point = hex::encode(key.to_sec1_bytes());
    let decrypting = stage.decrypting();
    let arguments = [
        vec!["bundle", &file, "--vault-key", &point],
        strs(&decrypting),
    ]
    .concat();
    let read = found(&arguments);
    assert_eq!(read["fingerprint"], fingerprint.to_string());
    assert_eq!(read["lineage"], lineage().to_string());
    assert_eq!(read["segments"], 3);
    assert_eq!(read["log_root_verified"], true);
    let expected: Vec<_> = (0..)
        .zip(&records)
        .map(|(sequence, record): (u64, _)| json!({"sequence": sequence, "bytes": hex::encode(record)}))
        .collect();
    assert_eq!(read["records"], Value::from(expected));

    // The same with the enrolment request that made the key known.
    let request = EnrolmentRequest {
        vault: vault(),
        lineage: lineage(),
        trust_version: 1,
        trust_fingerprint: Fingerprint::of(b"trust"),
        signing_key: key,
        agreement_key: Key::new(111).public(),
        identity_csr: vec![0x30, 0x00],
        device_ca_csr: vec![0x30, 0x00],
        facts: [("kind".to_owned(), "pkcs11".to_owned())].into(),
        made_at: 1_800_000_100,
        transport_key: None,
        device_ca_generation: 1,
    };
    let (request, _) = request.seal(&|m| vault_sign().sign(m)).unwrap();
    let request = stage.write("enrol-berlin_v1.cose", &request);
    let arguments = [
        vec!["bundle", &file, "--enrolment", &request],
        strs(&decrypting),
    ]
    .concat();
    assert_eq!(found(&arguments), read);

    // And what is not the vault's is refused.
    let other = hex::encode(Key::new(112).public().to_sec1_bytes());
    let arguments = [
        vec!["bundle", &file, "--vault-key", &other],
        strs(&decrypting),
    ]
    .concat();
    refused(&arguments, "not by the key");
    let two = stage.path(&format!("{stem}.seg0002"));
    fs::copy(stage.path(&format!("{stem}.seg0001")), two).unwrap();
    let arguments = [
        vec!["bundle", &file, "--vault-key", &point],
        strs(&decrypting),
    ]
    .concat();
    refused(&arguments, "not the file in the bundle");
}

#[test]
fn what_was_changed_or_lacks_a_signature_is_refused_by_others_as_by_us() {
    let stage = Stage::new();
    let trust = stage.trust();
    let decrypting = stage.decrypting();
    let entitlement = |bytes: &[u8], why: &str| {
        let file = stage.write("entitlement.cose", bytes);
        let arguments = [
            vec!["entitlement", &file, "--trust", &trust],
            strs(&decrypting),
        ]
        .concat();
        refused(&arguments, why);
    };
    entitlement(&stage.entitlement_bytes(&[1]), "1 of 2 officers");
    entitlement(&stage.entitlement_bytes(&[]), "0 of 2 officers");
    entitlement(
        &stage.entitlement_bytes(&[1, 2, 9]),
        "belongs to no officer",
    );
    // A signature, each of them.
    let bytes = stage.entitlement_bytes(&[1, 2]);
    entitlement(&flipped(bytes.clone(), 0), "Refused");
    let one_signature = bytes.len() - stage.entitlement_bytes(&[1]).len();
    entitlement(&flipped(bytes.clone(), one_signature), "Refused");
    entitlement(&[&bytes[..], &[0]].concat(), "bytes follow the end");

    let damaged = flipped(fs::read(&trust).unwrap(), 0);
    let damaged = stage.write("damaged.cose", &damaged);
    refused(&["trust", &damaged], "Refused");
}
