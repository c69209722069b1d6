//! What officers read before they sign, and what they are kept from signing.

use std::fs;
use std::path::Path;

use mintmark_pki::{Issuer, assemble, device_ca_tbs, next_root_tbs, root_tbs, vault_identity_tbs};
use mintmark_protocol::enrolment::{EnrolmentGrant, EnrolmentRequest, Purpose};
use mintmark_protocol::identifier::Fingerprint;
use mintmark_protocol::key::thumbprint;
use mintmark_protocol::order::Order as _;
use mintmark_protocol::trust::TrustManifest;
use p256::PublicKey;
use p256::ecdsa::Signature;
use p256::ecdsa::signature::Signer as _;
use serde_json::{Value, json};

use super::recovery::comes_back;
use super::support::{Hq, Vault, key, manifest};

fn public(number: u64) -> PublicKey {
    key(number).verifying_key().into()
}

/// A grant as whoever sits at HQ may draft it, for any keys.
fn grant(hq: &Hq, identity: Option<PublicKey>, device_ca: Option<PublicKey>) -> EnrolmentGrant {
    let stick = hq.path("stick/mintmark");
    let (bytes, fingerprint) = Vault::request("paris", &stick);
    let request = EnrolmentRequest::open(&bytes, &fingerprint).unwrap();
    let request = request.into_content();
    let asked = Vault::device_ca_key("paris");
    let root = Issuer::from_certificate_der(&manifest(&stick).content().root_certificate).unwrap();
    let identity = identity.unwrap_or(request.signing_key);
    let device_ca = device_ca.unwrap_or(asked);
    EnrolmentGrant {
        salt: [1; 32],
        vault: request.vault.clone(),
        request_fingerprint: fingerprint,
        lineage: request.lineage,
        identity_tbs: vault_identity_tbs(
            &root,
            "Acme",
            "paris",
            "v1",
            &identity,
            &[2; 20],
            1_700_000_000,
        )
        .unwrap(),
        device_ca_tbs: device_ca_tbs(
            &root,
            "Acme",
            "paris",
            "v1",
            &device_ca,
            &[3; 20],
            1_700_000_000,
        )
        .unwrap(),
        serial_master: public(7),
        dispatch_epoch: 1,
        drafted_at: 1_700_000_000,
        approve_until: 4_000_000_000,
        request: bytes,
        purpose: Purpose::Enrolment,
    }
}

/// Has the officer sign a grant: exit, code and words.
fn signs(hq: &Hq, grant: &EnrolmentGrant) -> (i32, String, String) {
    let trust = manifest(&hq.path("stick/mintmark"));
    let proposal = grant.propose(trust.content(), &public(8)).unwrap();
    let draft = hq.path(&format!("{}.cose", proposal.fingerprint()));
    fs::write(&draft, hq.draft(&proposal)).unwrap();
    let output = draft.with_extension("approval");
    let sign = [
        "approval",
        "sign",
        draft.to_str().unwrap(),
        "--officer",
        "alice",
    ];
    let keys = hq.officer_keys();
    let rest = ["--keys", &keys, "--output", output.to_str().unwrap()];
    let run = hq.run(&[&sign[..], &rest].concat());
    assert_eq!(run.exit == 0, output.exists());
    let words = serde_json::from_str::<Value>(&run.stdout).map_or(String::new(), |json| {
        let words = json["words"].as_array().unwrap().iter();
        words
            .map(|line| line.as_str().unwrap().to_owned() + "\n")
            .collect()
    });
    (run.exit, run.error_code(), words)
}

#[test]
fn a_grant_for_keys_that_the_vault_did_not_ask_with_is_not_signed() {
    let hq = Hq::new();
    let honest = grant(&hq, None, None);
    let (exit, code, words) = signs(&hq, &honest);
    assert_eq!((exit, code.as_str()), (0, ""));
    let request = honest.asked().unwrap();
    for shown in [
        thumbprint(&request.signing_key).to_string(),
        thumbprint(&Vault::device_ca_key("paris")).to_string(),
        thumbprint(&honest.serial_master).to_string(),
        honest.request_fingerprint.to_string(),
    ] {
        assert!(words.contains(&shown), "{shown} is missing in:\n{words}");
    }
    for hostile in [
        grant(&hq, Some(public(11)), None),
        grant(&hq, None, Some(public(11))),
        grant(&hq, None, Some(request.signing_key)),
    ] {
        let (exit, code, _) = signs(&hq, &hostile);
        assert_eq!((exit, code.as_str()), (1, "GRANT-MISMATCH"));
    }
    let mut other = honest.clone();
    other.request_fingerprint = Fingerprint::of(b"another request");
    let (exit, code, _) = signs(&hq, &other);
    assert_eq!((exit, code.as_str()), (1, "FINGERPRINT-MISMATCH"));
    comes_back(&hq);
}

#[test]
fn the_words_of_a_manifest_name_every_key_and_what_it_changes() {
    let hq = Hq::new();
    let at = |name: &str| hq.path(name).to_str().unwrap().to_owned();
    let request = hq.add_officer("bob");
    let draft = hq.run(&["trust", "draft", "--output", &at("trust-2.cose")]);
    assert_eq!(draft.exit, 0, "{}", draft.stderr);
    let shown = hq.run(&["approval", "show", &at("trust-2.cose")]).json();
    for json in [draft.json(), shown] {
        let words = json["words"].to_string();
        let trust = manifest(Path::new(&at("stick/mintmark")));
        let trust: &TrustManifest = trust.content();
        for shown in [
            Fingerprint::of(&trust.root_certificate).to_string(),
            thumbprint(&trust.dispatch_key).to_string(),
            thumbprint(&trust.report_key).to_string(),
            thumbprint(&trust.officers[0].signing_keys[0]).to_string(),
            thumbprint(&trust.officers[0].agreement_key).to_string(),
            request.clone(),
            "Against trust manifest 1:".to_owned(),
            "officer bob is new".to_owned(),
        ] {
            assert!(words.contains(&shown), "{shown} is missing in:\n{words}");
        }
    }
    comes_back(&hq);
}

#[test]
fn the_approval_of_an_officer_who_left_since_does_not_block_the_draft() {
    let hq = Hq::new();
    hq.add_officer("bob");
    hq.add_officer("carol");
    hq.publish_trust(2, &["alice"], &["mint=2", "trust=1"]);
    let policy = fs::read_to_string(hq.path("policy.toml")).unwrap();
    let policy = policy.replace("id = \"demo-1\"", "id = \"demo-2\"");
    fs::write(hq.path("policy-2.toml"), policy).unwrap();
    let at = |name: &str| hq.path(name).to_str().unwrap().to_owned();
    let draft = [
        "entitlement",
        "draft",
        "--site",
        "berlin",
        "--policy",
        &at("policy-2.toml"),
    ];
    let drafted = hq.run(&[&draft[..], &["--output", &at("demo-2.cose")]].concat());
    assert_eq!(drafted.exit, 0, "{}", drafted.stderr);
    let id = drafted.json()["id"].as_str().unwrap().to_owned();
    let approve = |officer: &str| {
        let approval = hq.sign(officer, &hq.path("demo-2.cose"));
        let run = hq.run(&["approval", "import", approval.to_str().unwrap()]);
        assert_eq!(run.exit, 0, "{}", run.stderr);
    };
    let listed = || {
        let list = hq.run(&["approval", "list"]).json();
        let drafts = list["drafts"].as_array().unwrap().clone();
        let draft = drafts.into_iter().find(|draft| draft["id"] == *id).unwrap();
        ["state", "approvers", "no_longer_counting", "missing"].map(|field| draft[field].clone())
    };
    approve("alice");
    approve("bob");
    assert_eq!(
        Value::from(listed().to_vec()),
        json!(["approved", ["alice", "bob"], [], 0])
    );

    let gone = hq.run(&["officer", "remove", "bob", "--confirm", "bob"]);
    assert_eq!(gone.exit, 0, "{}", gone.stderr);
    hq.publish_trust(3, &["alice"], &["mint=2", "trust=1"]);
    assert_eq!(
        Value::from(listed().to_vec()),
        json!(["stale", ["alice"], ["bob"], 1])
    );
    let export = ["entitlement", "export", &id];
    let run = hq.run(&export);
    assert_eq!(
        (run.exit, run.error_code().as_str()),
        (1, "THRESHOLD-NOT-MET")
    );

    approve("carol");
    let run = hq.run(&export);
    assert_eq!(run.exit, 0, "{}", run.stderr);
    assert_eq!(run.json()["approvers"], json!(["alice", "carol"]));
    assert!(
        run.stderr.contains("bob no longer counts"),
        "{}",
        run.stderr
    );
    comes_back(&hq);
}

#[test]
fn a_grant_whose_certificates_are_not_those_of_its_vault_is_not_signed() {
    let hq = Hq::new();
    let honest = grant(&hq, None, None);
    let trust = manifest(&hq.path("stick/mintmark"));
    let root = Issuer::from_certificate_der(&trust.content().root_certificate).unwrap();
    let (identity, device_ca) = (
        honest.asked().unwrap().signing_key,
        Vault::device_ca_key("paris"),
    );
    let (serial, now) = (&[9; 20], 1_700_000_000);
    let other_root = {
        let tbs = root_tbs("Acme", &public(12), serial, now).unwrap();
        let signature: Signature = key(12).sign(&tbs);
        Issuer::from_certificate_der(&assemble(&tbs, &signature).unwrap()).unwrap()
    };
    let identities = [
        device_ca_tbs(&root, "Acme", "paris", "v1", &identity, serial, now),
        vault_identity_tbs(&root, "Acme", "berlin", "v1", &identity, serial, now),
        vault_identity_tbs(&root, "Acme", "paris", "v2", &identity, serial, now),
        vault_identity_tbs(&root, "Other", "paris", "v1", &identity, serial, now),
        vault_identity_tbs(&other_root, "Acme", "paris", "v1", &identity, serial, now),
    ];
    let device_cas = [
        vault_identity_tbs(&root, "Acme", "paris", "v1", &device_ca, serial, now),
        device_ca_tbs(&root, "Acme", "berlin", "v1", &device_ca, serial, now),
        device_ca_tbs(&other_root, "Acme", "paris", "v1", &device_ca, serial, now),
        next_root_tbs("Acme", 2, &device_ca, serial, now),
    ];
    let identities = identities.map(|tbs| EnrolmentGrant {
        identity_tbs: tbs.unwrap(),
        ..honest.clone()
    });
    let device_cas = device_cas.map(|tbs| EnrolmentGrant {
        device_ca_tbs: tbs.unwrap(),
        ..honest.clone()
    });
    for (at, hostile) in identities.iter().chain(&device_cas).enumerate() {
        let (exit, code, words) = signs(&hq, hostile);
        let found = (exit, code.as_str());
        assert_eq!(found, (1, "GRANT-MISMATCH"), "{at}: {words}");
    }
    comes_back(&hq);
}

#[test]
fn the_words_of_a_first_entitlement_say_when_and_by_which_name_and_how_much() {
    let hq = Hq::new();
    let policy = r#"
schema = 1
id = "demo-2"
valid_from = 2027-01-01T00:00:00Z
valid_until = 2027-04-01T00:00:00Z
anchor_lease_max = 77
[credit]
max_unreported_units = 20
max_unreported_days = 14
[[product]]
sku = "TH-200"
units = 5
device_id_source = "commonName"
key_algorithms = ["P-256"]
working_hours = { zone = "Europe/Berlin", days = ["mon", "tue"], from = "06:00", to = "22:00" }
[product.certificate]
subject = "O=Acme, serialNumber={device_id}"
validity_days = 100
"#;
    fs::write(hq.path("policy-2.toml"), policy).unwrap();
    let policy = hq.path("policy-2.toml");
    let draft = ["entitlement", "draft", "--site", "berlin", "--policy"];
    let run = hq.run(&[&draft[..], &[policy.to_str().unwrap(), "--dry-run"]].concat());
    assert_eq!(run.exit, 0, "{}", run.stderr);
    let words = run.json()["words"].to_string();
    for shown in [
        "26 working periods of 416 h 0 min in all",
        "the first 2027-01-04T05:00:00Z to 2027-01-04T21:00:00Z",
        "the last 2027-03-30T04:00:00Z to 2027-03-30T20:00:00Z",
        "identifier taken from the request's commonName",
        "anchor lease is of 77 units at most",
    ] {
        assert!(words.contains(shown), "{shown} is missing in:\n{words}");
    }
    comes_back(&hq);
}
