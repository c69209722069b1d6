//! Who there is: a vault, its certificates and its request, headquarters, its officers and manifests.

use mintmark_pki::{
    Issuer, assemble, certification_request, device_ca_tbs, root_tbs, vault_identity_tbs,
};
use mintmark_protocol::approval::Proposal;
use mintmark_protocol::enrolment::EnrolmentRequest;
use mintmark_protocol::envelope::Verified;
use mintmark_protocol::identifier::{Fingerprint, Lineage, VaultName};
use mintmark_protocol::officer::OfficerRequest;
use mintmark_protocol::trust::{HqEncryptionKey, Officer, Role, TrustManifest};

use super::super::keys::key;
use super::*;

pub fn vault() -> VaultName {
    vault_named("berlin")
}

pub fn vault_named(site: &str) -> VaultName {
    VaultName {
        site: site.parse().unwrap(),
        vault: "v1".parse().unwrap(),
    }
}

pub fn lineage() -> Lineage {
    Lineage::new(*b"mintmark-lineage")
}

/// A salt: random in a message, and made from a name here.
pub fn salt(name: &str) -> [u8; 32] {
    *Fingerprint::of(format!("mintmark test salt: {name}").as_bytes()).as_bytes()
}

pub(super) fn serial_number(name: &str) -> [u8; 16] {
    salt(name)[..16].try_into().unwrap()
}

pub(super) fn certificate(tbs: &[u8]) -> Vec<u8> {
    assemble(tbs, &key("root").sign(tbs).unwrap()).unwrap()
}

/// The certificate of the root.
pub fn root() -> Issuer {
    let tbs = root_tbs(
        NAME,
        &key("root").public,
        &serial_number("root"),
        NEW_YEAR - 40 * DAY,
    )
    .unwrap();
    Issuer::from_certificate_der(&certificate(&tbs)).unwrap()
}

pub(super) fn identity_tbs() -> Vec<u8> {
    let (key, serial) = (key("vault-sign").public, serial_number("identity"));
    vault_identity_tbs(
        &root(),
        NAME,
        "berlin",
        "v1",
        &key,
        &serial,
        NEW_YEAR - 20 * DAY,
    )
    .unwrap()
}

pub(super) fn device_ca_to_sign() -> Vec<u8> {
    let (key, serial) = (key("device-ca").public, serial_number("device CA"));
    device_ca_tbs(
        &root(),
        NAME,
        "berlin",
        "v1",
        &key,
        &serial,
        NEW_YEAR - 20 * DAY,
    )
    .unwrap()
}

/// The certificate of the vault's identity.
pub fn identity() -> Vec<u8> {
    certificate(&identity_tbs())
}

/// The certificate of the vault's device CA.
pub fn device_ca() -> Issuer {
    Issuer::from_certificate_der(&certificate(&device_ca_to_sign())).unwrap()
}

pub(super) fn officer(name: &str, roles: &[Role]) -> Officer {
    let mut signing_keys = vec![key(&format!("{name}-sign")).public];
    if name == "bob" {
        signing_keys.push(key("bob-sign-2").public);
    }
    Officer {
        id: name.parse().unwrap(),
        signing_keys,
        agreement_key: key(&format!("{name}-agree")).public,
        roles: roles.iter().copied().collect(),
    }
}

/// Version 1: alice, bob and carol hold every role, dave revokes; two of them approve anything.
pub fn manifest() -> TrustManifest {
    let encryption_key = |name: &str, escrowed| HqEncryptionKey {
        name: name.parse().unwrap(),
        key: key(name).public,
        escrowed,
    };
    TrustManifest {
        version: 1,
        hq_name: NAME.to_owned(),
        issued_at: NEW_YEAR - 30 * DAY,
        expires_at: NEW_YEAR + 700 * DAY,
        previous: None,
        root_certificate: root().certificate_der().to_vec(),
        officers: vec![
            officer("alice", &Role::ALL),
            officer("bob", &Role::ALL),
            officer("carol", &Role::ALL),
            officer("dave", &[Role::Revoke]),
        ],
        thresholds: [2, 2, 2, 2],
        dispatch_key: key("dispatch").public,
        report_key: key("report").public,
        encryption_keys: vec![
            encryption_key("audit", false),
            encryption_key("escrow", true),
        ],
        dispatch_epoch: EPOCH,
    }
}

/// Version 2: alice is gone, erin is new.
pub fn manifest_second() -> TrustManifest {
    let first = manifest();
    let mut officers = first.officers.clone();
    officers[0] = officer("erin", &Role::ALL);
    TrustManifest {
        version: 2,
        issued_at: NEW_YEAR + 5 * DAY,
        previous: Some(first.propose().unwrap().fingerprint()),
        officers,
        ..first
    }
}

/// The proposal with the approvals of these keys.
pub fn approved(proposal: &Proposal, signers: &[&str]) -> Vec<u8> {
    let mut whole = proposal.clone();
    for key in signers.iter().map(|name| key(name)) {
        let approval = proposal.approve(&key.public, &|m| key.sign(m)).unwrap();
        whole.collect(&approval).unwrap();
    }
    whole.to_bytes().unwrap()
}

pub fn trust_bytes() -> Vec<u8> {
    approved(&manifest().propose().unwrap(), &["alice-sign", "bob-sign"])
}

pub fn trust_second_bytes() -> Vec<u8> {
    let proposal = manifest_second().propose().unwrap();
    approved(&proposal, &["bob-sign", "carol-sign", "erin-sign"])
}

/// Version 1, pinned.
pub fn pinned() -> Verified<TrustManifest> {
    let fingerprint = manifest().propose().unwrap().fingerprint();
    TrustManifest::pin(&trust_bytes(), &fingerprint, None).unwrap()
}

/// Version 2, which follows it.
pub fn pinned_second() -> Verified<TrustManifest> {
    pinned().successor(&trust_second_bytes()).unwrap()
}

pub fn officer_request() -> OfficerRequest {
    OfficerRequest {
        id: "alice".parse().unwrap(),
        signing_key: key("alice-sign").public,
        agreement_key: key("alice-agree").public,
        made_at: NEW_YEAR - 31 * DAY,
        key_store: "a folder of test keys".to_owned(),
    }
}

pub(super) fn csr(name: &str, subject: &str) -> Vec<u8> {
    let key = key(name);
    let sign = |message: &[u8]| Ok::<_, mintmark_pki::Error>(key.sign(message).unwrap());
    certification_request(subject, &key.public, sign).unwrap()
}

pub fn enrolment_request() -> EnrolmentRequest {
    let facts = [("kind", "file"), ("module", "a folder of test keys")];
    EnrolmentRequest {
        vault: vault(),
        lineage: lineage(),
        trust_version: 1,
        trust_fingerprint: pinned().fingerprint(),
        signing_key: key("vault-sign").public,
        agreement_key: key("vault-agree").public,
        identity_csr: csr("vault-sign", "berlin v1 Vault"),
        device_ca_csr: csr("device-ca", "berlin v1 Device CA"),
        facts: facts
            .map(|(name, fact)| (name.to_owned(), fact.to_owned()))
            .into(),
        made_at: NEW_YEAR - 21 * DAY,
        transport_key: None,
        device_ca_generation: 1,
    }
}

pub fn enrolment_request_bytes() -> (Vec<u8>, Fingerprint) {
    enrolment_request()
        .seal(&|m| key("vault-sign").sign(m))
        .unwrap()
}
