//! A headquarters, a vault and its devices, with real keys and certificates.

mod chronicle;
mod orders;

use std::sync::OnceLock;

use mintmark_pki::{
    CertificationRequest, Issuer, assemble, certification_request, device_ca_tbs, root_tbs,
    vault_identity_tbs,
};
use mintmark_protocol::entitlement::AccountTag;
use mintmark_protocol::identifier::{Fingerprint, Lineage, Sku, VaultName};
use p256::ecdsa::signature::Signer as _;
use p256::ecdsa::{Signature, SigningKey};

use crate::entry::Genesis;
use crate::serial::SerialCipher;

pub(super) use self::chronicle::*;
pub(super) use self::orders::*;

/// 2027-01-01T00:00:00Z: the tests' entitlements open then.
pub(super) const NEW_YEAR: u64 = 1_798_761_600;

pub(super) const HOUR: u64 = 3600;

pub(super) const DAY: u64 = 86_400;

pub(super) const EPOCH: u64 = 1;

pub(super) fn key(number: u64) -> SigningKey {
    let mut bytes = [0x42; 32];
    bytes[..8].copy_from_slice(&number.to_be_bytes());
    SigningKey::from_slice(&bytes).unwrap()
}

fn public(key: &SigningKey) -> p256::PublicKey {
    key.verifying_key().into()
}

pub(super) fn sign(key: &SigningKey, bytes: &[u8]) -> [u8; 64] {
    let signature: Signature = key.sign(bytes);
    signature.to_bytes().into()
}

/// A request by the device key of this number. An empty name gives a subject with another one, which tests that care
/// about that do not use.
pub(super) fn csr(name: &str, number: u64) -> CertificationRequest {
    let key = key(1_000_000 + number);
    let sign = |bytes: &[u8]| Ok::<Signature, mintmark_pki::Error>(key.sign(bytes));
    let der = certification_request(name, &public(&key), sign).unwrap();
    CertificationRequest::from_der(&der).unwrap()
}

pub(super) fn tag(number: u64) -> AccountTag {
    AccountTag::new(number).unwrap()
}

pub(super) fn sku(name: &str) -> Sku {
    name.parse().unwrap()
}

pub(super) fn vault() -> VaultName {
    VaultName {
        site: "berlin".parse().unwrap(),
        vault: "v1".parse().unwrap(),
    }
}

pub(super) fn lineage() -> Lineage {
    Lineage::new([0x11; 16])
}

pub(super) fn genesis() -> Genesis {
    Genesis {
        vault: vault(),
        lineage: lineage(),
        trust_version: 1,
        trust_fingerprint: Fingerprint::of(b"trust"),
        enrolment_fingerprint: Fingerprint::of(b"enrolment request"),
        software: "site 0.1.0".to_owned(),
    }
}

pub(super) fn serials() -> SerialCipher {
    SerialCipher::derive(&[5; 32], &vault())
}

/// The keys and certificates that every test shares; made once.
pub(super) struct Authorities {
    pub(super) device_ca_key: SigningKey,
    pub(super) device_ca: Issuer,
    pub(super) next_device_ca_key: SigningKey,
    pub(super) next_device_ca: Issuer,
    identity: Vec<u8>,
    identity_tbs: Vec<u8>,
    device_ca_tbs: Vec<u8>,
    next_device_ca_tbs: Vec<u8>,
}

pub(super) fn authorities() -> &'static Authorities {
    static AUTHORITIES: OnceLock<Authorities> = OnceLock::new();
    AUTHORITIES.get_or_init(|| {
        let certificate = |key: &SigningKey, tbs: &[u8]| {
            assemble(tbs, &Signature::from_slice(&sign(key, tbs)).unwrap()).unwrap()
        };
        let (root_key, device_ca_key, identity_key) = (key(1), key(2), key(3));
        let next_device_ca_key = key(5);
        let root = root_tbs("Acme", &public(&root_key), &[1; 16], NEW_YEAR - DAY).unwrap();
        let root = Issuer::from_certificate_der(&certificate(&root_key, &root)).unwrap();
        let ca_public = public(&device_ca_key);
        let device_ca_tbs = device_ca_tbs(
            &root,
            "Acme",
            "berlin",
            "v1",
            &ca_public,
            &[2; 16],
            NEW_YEAR - DAY,
        )
        .unwrap();
        let identity_public = public(&identity_key);
        let identity_tbs = vault_identity_tbs(
            &root,
            "Acme",
            "berlin",
            "v1",
            &identity_public,
            &[3; 16],
            NEW_YEAR - DAY,
        )
        .unwrap();
        let device_ca = certificate(&root_key, &device_ca_tbs);
        let next_device_ca_tbs = device_ca_tbs_of(&root, &next_device_ca_key, &[4; 16]);
        let next_device_ca = certificate(&root_key, &next_device_ca_tbs);
        Authorities {
            device_ca: Issuer::from_certificate_der(&device_ca).unwrap(),
            identity: certificate(&root_key, &identity_tbs),
            next_device_ca: Issuer::from_certificate_der(&next_device_ca).unwrap(),
            device_ca_key,
            next_device_ca_key,
            identity_tbs,
            device_ca_tbs,
            next_device_ca_tbs,
        }
    })
}
